"""Lookups when one node in five is hostile, on one path and on several disjoint ones.

Hostile nodes stand in tables as often as they are in the network. *Colluding* ones know the whole network and answer
every question with the 20 of them nearest to the target: the strongest answer that needs no invented identities.
*Mixed*: a quarter each collude, answer with themselves, say nothing, or collude and withhold what they keep. Lookups
are by honest nodes for honest nodes; one has succeeded when the nearest peer that answered is the one looked for.
Items and announcements are placed and sought under attack too: colluding holders answer with a false item and
name each other as providers.

Papers: Baumgart and Mies 2007 show that disjoint paths restore most lookups; as quoted by Benet 2014 (IPFS, section
2.1) S/Kademlia still succeeds in 85 % with half of the nodes adversarial. Invented identities beyond the share of
hostile nodes (Sybils) are a question of what an identity costs, and not answered here.
"""

from random import Random
from typing import Any

from coterie.identity import PeerId
from coterie.overlay.kademlia.events import Finished, Provide, Put, SeekProviders, SeekValue
from coterie.overlay.kademlia.keys import content_key, plain_item
from coterie.sim.adversary import Silent
from coterie.sim.world import World
from tests.scenarios.frame import Report, Scenario
from tests.scenarios.kademlia_attackers import Colluding, Ring, Selfish, Withholding
from tests.scenarios.kademlia_net import COLUMNS, Drawn, Lookups, new_world, node, peers

HOSTILE = 0.2
OVER_S = 30.0
PATHS = (1, 2, 4, 8)
DEFAULT_PATHS = 4


def run(report: Report, seed: int, *, nodes: int, lookups: int, items: int, at_least: float) -> None:
    """The same network with colluding and with mixed adversaries, and the half-hostile one beside it."""
    rows = []
    world, honest = _world(seed, nodes, HOSTILE, is_mixed=False)
    for paths in PATHS:
        found = Lookups(world, seed)
        found.run(honest, lookups, over_s=OVER_S, paths=paths)
        rows.append(found.row(f"20 % colluding, paths {paths}"))
        goal = at_least if paths >= DEFAULT_PATHS else None
        report.claim(f"success, 20 % colluding, paths {paths}", found.success, at_least=goal)
    _records(report, world, honest, items, at_least)
    report.world(world)

    world, honest = _world(seed, nodes, HOSTILE, is_mixed=True)
    for paths in (1, DEFAULT_PATHS):
        found = Lookups(world, seed)
        found.run(honest, lookups, over_s=OVER_S, paths=paths)
        rows.append(found.row(f"20 % mixed, paths {paths}"))
        goal = at_least if paths >= DEFAULT_PATHS else None
        report.claim(f"success, 20 % mixed, paths {paths}", found.success, at_least=goal)
    report.world(world)

    world, honest = _world(seed, nodes // 2, 0.5, is_mixed=False)
    for paths in (1, 8):
        found = Lookups(world, seed)
        found.run(honest, lookups // 2, over_s=OVER_S, paths=paths)
        rows.append(found.row(f"50 % colluding of {nodes // 2:,}, paths {paths}"))
        paper = "0.85" if paths == 8 else ""
        report.claim(f"success, 50 % colluding, paths {paths}", found.success, paper=paper)
    report.world(world)
    report.table("Lookups", COLUMNS, rows)


def _world(seed: int, nodes: int, share: float, *, is_mixed: bool) -> tuple[World, list[PeerId]]:
    """A network with drawn tables of which `share` is hostile, and the honest nodes."""
    world = new_world(seed)
    names = peers(nodes, seed)
    hostile = names[: int(nodes * share)]
    honest = names[len(hostile) :]
    tables = Drawn(names, seed)
    for name in honest:
        world.add(name, node(name))
        tables.fill(world.core(name), world.now)
    ring = Ring(hostile)
    for number, name in enumerate(hostile):
        kind = number % 4 if is_mixed else 0
        made: Any = (Colluding(ring), Selfish(name), Silent(), Withholding(ring))[kind]
        world.add(name, lambda _, made=made: made)
    return world, honest


def _records(report: Report, world: World, honest: list[PeerId], count: int, at_least: float) -> None:
    """Place items and announcements from honest nodes, and seek them from others."""
    random = Random(f"{world.seed}/records")
    stored = [plain_item(b"item %d" % number) for number in range(count)]
    keys = [content_key(b"content %d" % number) for number in range(count)]
    providers = [random.choice(honest) for _ in keys]
    for number, item in enumerate(stored):
        world.feed(random.choice(honest), Put(lookup=("put", number), item=item))
        world.feed(providers[number], Provide(lookup=("provide", number), key=keys[number]))
    world.run(until=world.now + 30)
    world.emitted.clear()
    for number, item in enumerate(stored):
        world.feed(random.choice(honest), SeekValue(lookup=("value", number), key=item.key))
        world.feed(random.choice(honest), SeekProviders(lookup=("providers", number), key=keys[number]))
    world.run(until=world.now + 30)
    right_items = right_first = 0
    for _, _, event in world.emitted:
        if isinstance(event, Finished) and event.lookup[0] == "value":
            right_items += event.item == stored[event.lookup[1]]
        elif isinstance(event, Finished):
            right_first += event.providers[:1] != () and event.providers[0][0] == providers[event.lookup[1]]
    world.emitted.clear()
    report.claim("items found, false ones refused", right_items / count, at_least=at_least)
    report.claim("true provider has the most votes", right_first / count, at_least=0.95)


SCENARIO = Scenario(
    "kademlia-hostile",
    "Kademlia with one hostile node in five",
    __doc__,
    run,
    small={"nodes": 300, "lookups": 200, "items": 20, "at_least": 0.97},
    full={"nodes": 10_000, "lookups": 1_000, "items": 300, "at_least": 0.99},
    full_cpu_s=150,
)
