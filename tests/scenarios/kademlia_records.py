"""Items stored once, in a network whose nodes stay for an hour (median) and come back with nothing.

Who has stored an item never does so again and leaves as everybody does; only holders keep it alive, each of them
storing it again hourly unless another has just done so (Maymounkov and Mazieres 2002, section 2.5). An item is alive
when a lookup from some node that is up finds it. What counts as stored is what its publisher was told is stored: one
that leaves within the seconds that storing takes is told nothing, and tries again when it is back. Announcements of
providers that stay up are looked for as well. The paper gives no figure for survival; by its section 2.1, k is chosen
so that k nodes are unlikely to fail within an hour: with sessions of 60 min all of 20 leave within the hour once in a
million.
"""

from random import Random
from statistics import mean

from coterie.identity import PeerId, SecretKey
from coterie.overlay.kademlia.events import Finished, Provide, Put, SeekProviders, SeekValue, Withdraw
from coterie.overlay.kademlia.keys import Item, content_key, plain_item, signed_item
from coterie.sim.world import World
from tests.scenarios.frame import Report, Scenario
from tests.scenarios.kademlia_lookup import churning
from tests.scenarios.kademlia_net import new_world

HOUR_S = 3600.0
EXPIRES = 10**7  # of signed items: later than the end


def run(report: Report, seed: int, *, nodes: int, hours: int, items: int, providers: int) -> None:
    """Store, let time pass, count copies every few hours, look everything up at the end."""
    world = new_world(seed)
    names = churning(world, nodes, staying=providers)
    random = Random(f"{seed}/items")
    signer = SecretKey(random.randbytes(32))
    stored = [
        signed_item(signer, b"%d" % number, sequence=1, expires=EXPIRES, salt=b"%d" % number)
        if number % 5 == 0
        else plain_item(b"item %d of %d" % (number, seed))
        for number in range(items)
    ]
    world.run(until=60)
    for number, item in enumerate(stored):
        asker = _somebody(world, names, random)
        world.feed(asker, Put(lookup=number, item=item))
        world.schedule(world.now + 50, lambda who=asker, key=item.key: _forget(world, who, key))
    keys = [content_key(b"content %d" % number) for number in range(providers)]
    for name, key in zip(names, keys, strict=False):
        world.feed(name, Provide(lookup="provide", key=key))
    world.run(until=120)
    told = {
        event.lookup
        for _, _, event in world.emitted
        if isinstance(event, Finished) and event.lookup in range(items) and event.stored
    }
    kept = [item for number, item in enumerate(stored) if number in told]
    rows = []
    for hour in range(0, hours + 1, max(1, hours // 8)):
        world.run(until=120 + hour * HOUR_S)
        world.emitted.clear()
        copies = _copies(world, names, kept)
        rows.append((hour, sum(map(world.is_up, names)), min(copies), mean(copies)))
    found, named = _sought(world, names, kept, keys, random)
    report.claim("items whose storing ended well", len(kept))
    report.claim(f"of them alive after {hours} h", found / len(kept), at_least=0.999)
    report.claim("providers that stay found by their key", named / providers, at_least=0.99)
    report.claim("events per node and hour", world.events / nodes / hours)
    report.table("Copies of an item", ("hour", "nodes up", "fewest copies", "mean copies"), rows)
    report.world(world)


def _forget(world: World, who: PeerId, key: bytes) -> None:
    if world.is_up(who):
        world.feed(who, Withdraw(key))


def _somebody(world: World, names: list[PeerId], random: Random) -> PeerId:
    while not world.is_up(name := random.choice(names)):
        pass
    return name


def _copies(world: World, names: list[PeerId], stored: list[Item]) -> list[int]:
    counted = dict.fromkeys((item.key for item in stored), 0)
    for name in names:
        if world.is_up(name):
            for key in world.core(name).kept:
                if key in counted:
                    counted[key] += 1
    return list(counted.values())


def _sought(
    world: World, names: list[PeerId], stored: list[Item], keys: list[bytes], random: Random
) -> tuple[int, int]:
    """How many items and how many providers are found."""
    waiting: dict[tuple[str, int], tuple[PeerId, object]] = {}
    for number, item in enumerate(stored):
        waiting["item", number] = (
            _somebody(world, names, random),
            SeekValue(lookup=("item", number), key=item.key),
        )
    for number, key in enumerate(keys):
        seek = SeekProviders(lookup=("key", number), key=key)
        waiting["key", number] = (_somebody(world, names, random), seek)
    found = named = 0
    for _ in range(3):  # an asker may leave before it has its answer: then another asks
        for asker, command in waiting.values():
            world.feed(asker, command)
        world.run(until=world.now + 40)
        for _, who, event in world.emitted:
            if isinstance(event, Finished) and event.lookup in waiting and waiting[event.lookup][0] == who:
                kind, number = event.lookup
                found += kind == "item" and event.item == stored[number]
                named += (
                    kind == "key" and event.providers[:1] != () and event.providers[0][0] == names[number]
                )
                del waiting[event.lookup]
        world.emitted.clear()
        waiting = {k: (_somebody(world, names, random), command) for k, (_, command) in waiting.items()}
    return found, named


SCENARIO = Scenario(
    "kademlia-records",
    "Kademlia keeps items alive while nodes come and go",
    __doc__,
    run,
    small={"nodes": 100, "hours": 2, "items": 30, "providers": 5},
    full={"nodes": 1_000, "hours": 24, "items": 500, "providers": 20},
    full_cpu_s=600,
)
