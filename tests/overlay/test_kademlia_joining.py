"""What joining and staying in a table costs, and what a newcomer knows afterwards."""

from random import Random
from typing import Any

from coterie.identity import PeerId
from coterie.machine import Received, Send, TimerFired
from coterie.overlay.kademlia import messages as wire
from coterie.overlay.kademlia.events import Bootstrap, KeepUp
from coterie.overlay.kademlia.keys import ID_BITS, node_id
from coterie.overlay.kademlia.limits import KademliaLimits
from coterie.overlay.kademlia.machine import Kademlia
from coterie.overlay.kademlia.table import Table
from coterie.sim.world import World
from tests.overlay.kademlia_world import joined, node, peers

LIMITS = KademliaLimits()
OWN = PeerId(bytes(32))
MANY = peers(2_000)
FAR = [peer for peer in MANY if (node_id(peer) ^ node_id(OWN)).bit_length() == ID_BITS]
HOUR_S = LIMITS.refresh_s


def newcomer(world: World, names: list[PeerId], *, seed: int = 5) -> tuple[Kademlia, dict[str, int]]:
    """Somebody new after it has joined through one of `names`, and how often it sent what in that minute."""
    (name,) = peers(1, seed)
    sent: dict[str, int] = {}
    world.add(name, node(name))
    core = world.core(name)
    handle = core.handle

    class Counting:
        def handle(self, event: Any, now: float) -> list[Any]:
            outputs: list[Any] = handle(event, now)
            for output in outputs:
                if isinstance(output, Send):
                    kind = type(output.message).__name__
                    sent[kind] = sent.get(kind, 0) + 1
            return outputs

    world.corrupt(name, lambda core, random: Counting())
    world.feed(name, Bootstrap((names[0],)))
    world.run(until=world.now + 60)
    return core, sent


def test_a_newcomer_knows_its_neighbours_and_some_in_every_other_bucket() -> None:
    world, names = joined(150)
    core, sent = newcomer(world, names)
    own = core.table.own_id
    by_distance = sorted(names, key=lambda peer: node_id(peer) ^ own)
    assert all(peer in core.table for peer in by_distance[: LIMITS.k // 2])
    for number, _ in core.table.buckets:
        there = sum(core.table.number(node_id(peer)) == number for peer in names)
        assert LIMITS.k - core.table.room(number) >= min(LIMITS.filled, there), number
    assert sent["FindNode"] <= 80  # one lookup, and part of one for each of some four buckets


def test_where_everybody_was_asked_already_a_join_is_one_lookup() -> None:
    world, names = joined(12)
    core, sent = newcomer(world, names)
    assert len(core.table) == 12
    assert core.counters["lookups"] == 1
    assert sent["FindNode"] <= 13


def test_a_bucket_that_is_filled_meanwhile_is_not_looked_up() -> None:
    lookups = []
    for filled in (1, LIMITS.k):
        world, names = joined(60, limits=KademliaLimits(filled=filled))
        lookups.append(sum(world.core(name).counters["lookups"] for name in names))
    assert lookups[0] < lookups[1]


# ---- who asks us


def table(*known: PeerId) -> Table:
    made = Table(OWN, LIMITS)
    for peer in known:
        made.answered(peer, 0.0, 0.1)
    return made


def test_who_asks_waits_when_its_bucket_has_enough() -> None:
    near = sorted(MANY, key=lambda peer: node_id(peer) ^ node_id(OWN))[: LIMITS.k]
    made = table(*near, *FAR[: LIMITS.filled - 1])
    assert made.asked(FAR[30], 1.0)
    made.answered(FAR[30], 1.0, 0.1)
    assert not made.asked(FAR[31], 1.0)
    waiting = dict(made.buckets)[ID_BITS].waiting
    assert list(waiting.values()) == [FAR[31]]


def test_a_neighbour_is_always_wanted() -> None:
    by_distance = sorted(MANY, key=lambda peer: node_id(peer) ^ node_id(OWN))
    made = table(*by_distance[1 : LIMITS.k + 1])
    assert made.is_filled(made.number(node_id(by_distance[5])))
    assert made.asked(by_distance[0], 1.0)


# ---- the hourly look


def checked(made: Kademlia, now: float) -> list[Send]:
    """What upkeep sends at `now` to verify contacts and to find more."""
    made.handle(KeepUp(), 0.0)
    sent = made.handle(TimerFired("upkeep"), now)
    return [o for o in sent if isinstance(o, Send)]


def core_with(count: int) -> Kademlia:
    made = Kademlia(OWN, Random(1))
    for peer in FAR[:count]:
        made.table.answered(peer, 0.0, 0.1)
    return made


def test_an_hour_later_who_waits_is_asked_in() -> None:
    near = sorted(MANY, key=lambda peer: node_id(peer) ^ node_id(OWN))[: LIMITS.k]
    made = core_with(6)
    for peer in near:
        made.table.answered(peer, 0.0, 0.1)
    waiting = FAR[50:53]
    for peer in waiting:
        made.handle(Received(peer, wire.Ping(1, True)), 10.0)
    pinged = {send.peer for send in checked(made, HOUR_S + 1) if isinstance(send.message, wire.Ping)}
    assert pinged >= {*waiting, *FAR[:6]}


def test_an_hour_later_a_bucket_with_room_asks_one_contact_for_more() -> None:
    made = core_with(6)
    asked = [send for send in checked(made, HOUR_S + 1) if isinstance(send.message, wire.FindNode)]
    own = made.table.own_id.to_bytes(32, "big")
    places = [int.from_bytes(s.message.target, "big") for s in asked if s.message.target != own]
    assert [made.table.number(place) for place in places] == [ID_BITS]


def test_a_full_bucket_asks_nobody_for_more() -> None:
    made = core_with(LIMITS.k)
    own = made.table.own_id.to_bytes(32, "big")
    asked = [send for send in checked(made, HOUR_S + 1) if isinstance(send.message, wire.FindNode)]
    assert {send.message.target for send in asked} <= {own}
