"""Nodes that break the rules: garbage, replays, floods, false providers, and attempts to fill a table.

*Garbage and replays*: some nodes send what their honest core would with wrong fields (what does not decode is
dropped, as the frame layer does), others repeat old messages to everybody. *Flood*: nodes ask one victim without end.
*False providers*: many identities announce a key that one honest node announced before them and another after them.
*Eclipse*: identities in one network, chosen near the victim out of many keys, ask it steadily to get into its table,
with and without the limit for each network. *Far keys*: items whose keys are far from the victim are stored at it.

No paper has these figures; S/Kademlia (Baumgart and Mies 2007, section 3) names the attacks.
"""

from math import log2
from random import Random
from typing import Any

from coterie.identity import PeerId
from coterie.machine import Received, Send, SetTimer
from coterie.overlay.kademlia import messages as wire
from coterie.overlay.kademlia.events import Bootstrap, Finished, KeepUp, Provide, SeekProviders
from coterie.overlay.kademlia.keys import content_key, node_id, plain_item
from coterie.overlay.kademlia.machine import Kademlia
from coterie.sim.adversary import Flooding, Replaying, Twisting
from coterie.sim.world import World
from tests.scenarios.frame import Report, Scenario
from tests.scenarios.kademlia_attackers import Colluding, Ring, garbled, random_find
from tests.scenarios.kademlia_net import COLUMNS, LIMITS, Drawn, Lookups, drawn, keep_up, new_world, peers

BAD = 0.1  # garbage and as many replaying
FLOODERS = 20
FLOOD_PER_S = 100.0
FLOOD_S = 30.0
ATTACK_S = 600.0
HOUR_S = 3600.0


def run(report: Report, seed: int, *, nodes: int, lookups: int, liars: int, tries: int) -> None:
    """Each attack in a world of its own."""
    _garbage(report, seed, nodes, lookups)
    _flood(report, seed, nodes)
    _false_providers(report, seed, nodes, liars)
    rows = [
        (title, *_eclipse(report, seed, nodes, tries, is_limited=is_limited))
        for title, is_limited in (("no limit for a network", False), ("with the limit", True))
    ]
    report.table(
        "Eclipse: the victim's table",
        ("", "contacts before", "after", "hostile after", "hostile of the k nearest", "lookups that succeed"),
        rows,
    )
    report.claim("hostile contacts with the limit", rows[1][3], at_most=LIMITS.per_network_table_max)
    report.claim("victim's lookups succeed with the limit", float(rows[1][5]), at_least=0.99)
    _far_keys(report, seed, nodes)


def _garbage(report: Report, seed: int, nodes: int, lookups: int) -> None:
    world = new_world(seed)
    names = peers(nodes, seed)
    drawn(world, names)
    bad = names[: int(nodes * BAD * 2)]
    for number, name in enumerate(bad):
        world.corrupt(name, _garbling if number % 2 else Replaying)
    keep_up(world, names)
    found = Lookups(world, seed)
    found.run(names[len(bad) :], lookups, over_s=60.0, paths=LIMITS.paths)
    unsolicited = sum(world.core(name).counters["unsolicited"] for name in names[len(bad) :])
    report.world(world)
    report.table("Garbage and replays", COLUMNS, [found.row("10 % garbage, 10 % replays")])
    report.claim("success, 10 % garbage and 10 % replays", found.success, at_least=0.99)
    report.claim("unsolicited answers that were ignored", unsolicited, at_least=1)


def _garbling(core: Any, random: Random) -> Twisting:
    return Twisting(core, lambda send, _: garbled(send, random))


def _flood(report: Report, seed: int, nodes: int) -> None:
    world = new_world(seed)
    names = peers(nodes, seed)
    drawn(world, names)
    victim, flooders = names[0], names[1 : 1 + FLOODERS]
    for name in flooders:
        world.corrupt(
            name,
            lambda core, random: Flooding(
                core, random, make=random_find, per_s=FLOOD_PER_S, targets=[victim]
            ),
        )
        world.feed(name, KeepUp())
    world.run(until=FLOOD_S)
    counters = world.core(victim).counters
    windows = FLOOD_S / LIMITS.window_s + 1
    report.world(world)
    report.claim("requests of a flood that a victim answers", counters["served"],
                 at_most=LIMITS.answers_per_peer_max * FLOODERS * windows)  # fmt: skip
    report.claim("requests of the flood dropped", counters["over_budget"], at_least=1)


def _false_providers(report: Report, seed: int, nodes: int, liars: int) -> None:
    world = new_world(seed)
    names = peers(nodes, seed)
    drawn(world, names)
    key = content_key(b"popular")
    early, late = names[-1], names[-2]
    world.feed(early, Provide(lookup="early", key=key))
    world.run(until=world.now + 20)
    for number in range(liars):
        world.feed(names[number % (nodes - 100)], Provide(lookup="lie", key=key))
    world.run(until=world.now + 60)
    world.feed(late, Provide(lookup="late", key=key))
    world.run(until=world.now + 20)
    most = max(world.core(name).snapshot().provider_records for name in names)
    world.emitted.clear()
    seekers = names[-100:-2]
    for name in seekers:
        world.feed(name, SeekProviders(lookup="seek", key=key))
    world.run(until=world.now + 30)
    ends = [event for _, _, event in world.emitted if isinstance(event, Finished) and event.lookup == "seek"]
    named = [[peer for peer, _ in end.providers] for end in ends]
    report.world(world)
    report.claim("records of the key at one holder", most, at_most=LIMITS.providers_per_key_max)
    report.claim("early provider found", sum(early in found for found in named) / len(seekers), at_least=0.99)
    report.claim("late provider found", sum(late in found for found in named) / len(seekers), at_least=0.9)


class _Intruder(Colluding):
    """Asks the victim for its own place again and again, and colludes when asked."""

    def __init__(self, ring: Ring, victim: PeerId) -> None:
        super().__init__(ring)
        self._victim = victim

    def handle(self, event: Any, now: float) -> list[Any]:
        """See `coterie.machine`."""
        if type(event) is Received:
            return super().handle(event, now)
        ask = wire.FindNode(0, True, node_id(self._victim).to_bytes(32, "big"))
        return [Send(self._victim, ask), SetTimer("again", now + 20.0)]


def _eclipse(
    report: Report, seed: int, nodes: int, tries: int, *, is_limited: bool
) -> tuple[int, int, int, int, float]:
    """Contacts before, after, hostile among them, hostile of the k nearest, the victim's success."""
    world = new_world(seed)
    names = peers(nodes, seed)
    victim = names[0]
    tried = peers(tries, seed, "intruders")
    tried.sort(key=lambda peer: node_id(peer) ^ node_id(victim))
    intruders = tried[: nodes // 5]  # the best of `tries` keys: what a search for near places gives
    hostile = dict.fromkeys(intruders)
    drawn(world, names[1:])
    world.add(
        victim,
        lambda random: Kademlia(
            victim, random, network_of=lambda peer: "one" if is_limited and peer in hostile else None
        ),
    )
    Drawn(names, seed).fill(world.core(victim), 0.0)
    before = len(world.core(victim).table)
    ring = Ring(intruders)
    for name in intruders:
        world.add(name, lambda _: _Intruder(ring, victim))
        world.feed(name, Bootstrap(()))
    keep_up(world, names)
    world.run(until=ATTACK_S)
    table = world.core(victim).table
    inside = [contact.peer in hostile for contact in table.contacts]
    near = [contact.peer in hostile for contact in table.closest(table.own_id, LIMITS.k)]
    found = Lookups(world, seed)
    found.run([victim, *names[1:]], 200, over_s=60.0, paths=LIMITS.paths, asker=victim)
    report.world(world)
    return before, len(table), sum(inside), sum(near), found.success


def _far_keys(report: Report, seed: int, nodes: int) -> None:
    """Items with random keys, stored at one node by its own neighbours: those far from it are refused."""
    world = World(seed)
    names = peers(nodes, seed)
    drawn(world, names)
    victim, sender = names[0], names[1]
    for number in range(LIMITS.answers_per_peer_max):
        item = plain_item(b"spam %d" % number)
        store = wire.Store(number, True, item.raw, 86_400)
        world.core(victim).handle(Received(sender, store), 0.0)
    kept = len(world.core(victim).kept)
    world.core(victim).handle(KeepUp(), HOUR_S)
    later = len(world.core(victim).kept)
    most = (LIMITS.far_ratio + log2(LIMITS.item_lifetime_s / HOUR_S)) * LIMITS.k / nodes
    report.claim("share of items with random keys that is kept at all", kept / LIMITS.answers_per_peer_max)
    report.claim("share kept for an hour", later / LIMITS.answers_per_peer_max, at_most=1.5 * most)


SCENARIO = Scenario(
    "kademlia-abuse",
    "Kademlia under abuse: bounded harm",
    __doc__,
    run,
    small={"nodes": 250, "lookups": 100, "liars": 120, "tries": 2_000},
    full={"nodes": 2_000, "lookups": 1_000, "liars": 1_500, "tries": 200_000},
    full_cpu_s=120,
)
