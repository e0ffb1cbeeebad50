"""HyParView alone: what each message does, and what one past each bound does."""

from random import Random
from typing import Any

import pytest

from coterie.identity import PeerId
from coterie.machine import CancelTimer, PeerDown, Received, Send, SetTimer, TimerFired
from coterie.overlay.hyparview import (
    Enter,
    HyParView,
    HyParViewLimits,
    Leave,
    NeighbourDown,
    NeighbourUp,
)
from coterie.wire.broadcast import (
    Answer,
    Disconnect,
    Entry,
    ForwardJoin,
    Gossip,
    Join,
    Need,
    Neighbour,
    Shuffle,
    ShuffleReply,
)

TOPIC = bytes(32)
LIMITS = HyParViewLimits()


def peer(number: int) -> PeerId:
    return PeerId(number.to_bytes(32, "big"))


def member(*contacts: int, **options: Any) -> HyParView:
    core = HyParView(peer(1), TOPIC, rng=Random(1), **options)
    core.handle(Enter(tuple(Entry(peer(n)) for n in contacts), b"mine"), 0.0)
    return core


def told(core: HyParView, source: int, message: Any, now: float = 0.0) -> list[Any]:
    return core.handle(Received(peer(source), message), now)


def with_neighbours(*numbers: int, **options: Any) -> HyParView:
    core = member(**options)
    for number in numbers:
        told(core, number, Neighbour(TOPIC, Need.SPARE))
    return core


def sent(outputs: list[Any], kind: type) -> list[Any]:
    return [o for o in outputs if type(o) is Send and type(o.message) is kind]


def test_who_enters_asks_a_contact_and_is_a_neighbour_when_it_says_yes() -> None:
    core = HyParView(peer(1), TOPIC, rng=Random(1))
    outputs = core.handle(Enter((Entry(peer(2), b"theirs"),), b"mine"), 0.0)
    assert Send(peer(2), Join(TOPIC, b"mine")) in outputs
    assert SetTimer((TOPIC, "ask", peer(2)), LIMITS.ask_s) in outputs
    assert core.active == []
    answered = told(core, 2, Answer(TOPIC, True, b"newer"))
    assert answered == [CancelTimer((TOPIC, "ask", peer(2))), NeighbourUp(TOPIC, peer(2))]
    assert core.record_of(peer(2)) == b"newer"


def test_a_busy_contact_is_asked_again_after_a_doubled_wait_and_its_late_yes_counts() -> None:
    core, waits = member(2), []
    for _ in range(LIMITS.join_doublings_max + 2):
        outputs = core.handle(TimerFired((TOPIC, "ask", peer(2))), 100.0)
        assert len(sent(outputs, Join)) == 1
        waits += [o.at - 100.0 for o in outputs if type(o) is SetTimer]
    assert waits == [6.0, 12.0, 24.0, 24.0, 24.0]
    late = member(2)
    late.ban(peer(2), 0.0)
    assert told(late, 2, Answer(TOPIC, True)) == []
    core.handle(TimerFired((TOPIC, "ask", peer(2))), 100.0)
    assert NeighbourUp(TOPIC, peer(2)) in told(core, 2, Answer(TOPIC, True), 101.0)


def test_a_yes_that_comes_when_nobody_is_asked_any_more_is_taken_while_there_is_place() -> None:
    core = with_neighbours(3)
    told(core, 3, ForwardJoin(TOPIC, Entry(peer(9)), 0))
    told(core, 3, ForwardJoin(TOPIC, Entry(peer(8)), 0))
    for number in (9, 8):
        core.handle(TimerFired((TOPIC, "ask", peer(number))), 3.0)
    assert NeighbourUp(TOPIC, peer(9)) in told(core, 9, Answer(TOPIC, True), 4.0)
    for number in (10, 11, 12):
        told(core, number, Neighbour(TOPIC, Need.SPARE), 4.0)
    assert told(core, 8, Answer(TOPIC, True), 4.0) == [Send(peer(8), Disconnect(TOPIC))]
    assert told(core, 77, Answer(TOPIC, True), 4.0) == [Send(peer(77), Disconnect(TOPIC))]
    assert told(core, 78, Answer(TOPIC, False), 4.0) == []


def test_a_newcomer_is_taken_in_and_sent_on_walks_to_all_others() -> None:
    core = with_neighbours(2, 3)
    outputs = told(core, 4, Join(TOPIC, b"r"))
    walk = ForwardJoin(TOPIC, Entry(peer(4), b"r"), LIMITS.active_walk)
    assert [s.peer for s in sent(outputs, ForwardJoin)] == [peer(2), peer(3)]
    assert {s.message for s in sent(outputs, Answer)} == {Answer(TOPIC, True, b"mine")}
    assert sent(outputs, ForwardJoin)[0].message == walk
    assert core.is_neighbour(peer(4))


def test_a_newcomer_at_a_full_node_takes_the_place_of_another_until_the_rate_is_used_up() -> None:
    limits = HyParViewLimits(evictions_burst=1)
    core = with_neighbours(2, 3, 4, 5, 6, limits=limits)
    outputs = told(core, 7, Join(TOPIC))
    assert len(sent(outputs, Disconnect)) == 1
    assert len([o for o in outputs if type(o) is NeighbourDown]) == 1
    assert len(core.active) == limits.active_max
    assert len(core.passive) == 1
    refused = told(core, 8, Join(TOPIC))
    assert sent(refused, Answer)[0].message == Answer(TOPIC, False, b"mine")
    assert not core.is_neighbour(peer(8))


def test_a_walk_goes_on_leaves_an_entry_half_way_and_ends_with_a_question() -> None:
    core = with_neighbours(2, 3)
    newcomer = Entry(peer(9), b"r")
    assert told(core, 2, ForwardJoin(TOPIC, newcomer, 6)) == [Send(peer(3), ForwardJoin(TOPIC, newcomer, 5))]
    assert core.passive == []
    told(core, 2, ForwardJoin(TOPIC, newcomer, LIMITS.passive_walk))
    assert core.passive == [peer(9)]
    outputs = told(core, 2, ForwardJoin(TOPIC, newcomer, 0))
    assert outputs[0] == Send(peer(9), Neighbour(TOPIC, Need.SPARE, b"mine"))
    assert told(core, 2, ForwardJoin(TOPIC, Entry(peer(1)), 3)) == []


def test_strangers_walks_and_too_many_walks_are_ignored() -> None:
    core = with_neighbours(2, 3)
    assert told(core, 99, ForwardJoin(TOPIC, Entry(peer(9)), 6)) == []
    for _ in range(LIMITS.walks_per_link_burst):
        assert told(core, 2, ForwardJoin(TOPIC, Entry(peer(9)), 6))
    before = core.ignored
    assert told(core, 2, ForwardJoin(TOPIC, Entry(peer(9)), 6)) == []
    assert core.ignored == before + 1


@pytest.mark.parametrize(
    ("need", "is_taken"), [(Need.SPARE, False), (Need.URGENT, True), (Need.MIXING, True), (200, False)]
)
def test_a_full_node_makes_room_for_those_only_who_need_it(need: int, is_taken: bool) -> None:
    core = with_neighbours(2, 3, 4, 5, 6)
    told(core, 7, Neighbour(TOPIC, need))
    assert core.is_neighbour(peer(7)) is is_taken
    assert len(core.active) == LIMITS.active_max


def test_questions_over_the_rate_are_not_answered() -> None:
    core = member(limits=HyParViewLimits(asks_burst=3))
    for number in (2, 3, 4):
        assert told(core, number, Neighbour(TOPIC, Need.SPARE))
    assert told(core, 5, Neighbour(TOPIC, Need.SPARE)) == []
    assert told(core, 5, Join(TOPIC)) == []
    assert core.ignored == 2


def test_who_disconnects_is_kept_in_reserve_and_who_leaves_is_not() -> None:
    core = with_neighbours(2, 3)
    assert NeighbourDown(TOPIC, peer(2)) in told(core, 2, Disconnect(TOPIC))
    assert core.passive == [peer(2)]
    told(core, 3, Disconnect(TOPIC, True))
    assert core.passive == [peer(2)]
    assert told(core, 4, Disconnect(TOPIC)) == []


def test_a_lost_neighbour_is_replaced_from_the_reserve_and_joined_when_nobody_is_left() -> None:
    core = with_neighbours(2, 3)
    told(core, 2, ForwardJoin(TOPIC, Entry(peer(9)), LIMITS.passive_walk))
    outputs = core.handle(PeerDown(peer(2)), 0.0)
    assert outputs[:2] == [NeighbourDown(TOPIC, peer(2)), Send(peer(9), Neighbour(TOPIC, 0, b"mine"))]
    core.handle(TimerFired((TOPIC, "ask", peer(9))), 3.0)
    outputs = core.handle(PeerDown(peer(3)), 4.0)
    assert {s.peer for s in sent(outputs, Join)} <= {peer(2), peer(3)}
    assert len(sent(outputs, Join)) == 1


def test_a_shuffle_walks_and_where_it_ends_samples_are_exchanged() -> None:
    core = with_neighbours(2, 3)
    shuffle = Shuffle(TOPIC, Entry(peer(8)), 5, [Entry(peer(9))], 6)
    assert [s.message.ttl for s in told(core, 2, shuffle)] == [5]
    outputs = told(core, 2, Shuffle(TOPIC, Entry(peer(8)), 5, [Entry(peer(9))], 1))
    assert outputs == [Send(peer(8), ShuffleReply(TOPIC, 5, []))]
    assert core.passive == [peer(8), peer(9)]
    assert told(core, 66, shuffle) == [Send(peer(66), Disconnect(TOPIC))]


def test_only_the_reply_to_our_own_shuffle_teaches_and_only_once() -> None:
    core = with_neighbours(2)
    outputs = core.handle(TimerFired((TOPIC, "shuffle")), 30.0)
    number = sent(outputs, Shuffle)[0].message.number
    told(core, 5, ShuffleReply(TOPIC, number + 1, [Entry(peer(7))]), 30.0)
    assert core.passive == []
    told(core, 5, ShuffleReply(TOPIC, number, [Entry(peer(7)), Entry(peer(1)), Entry(peer(2))]), 30.0)
    told(core, 5, ShuffleReply(TOPIC, number, [Entry(peer(6))]), 30.0)
    assert peer(6) not in core.passive
    assert [e.peer for e in core.known()] == [peer(2), peer(7)]


def test_what_one_neighbour_teaches_has_a_rate_and_the_reserve_a_size() -> None:
    core = with_neighbours(2)
    for number in range(4):
        entries = [Entry(peer(100 + 8 * number + n)) for n in range(8)]
        told(core, 2, Shuffle(TOPIC, entries[0], number, entries, 0))
    assert len(core.passive) == LIMITS.learned_per_link_burst
    for number in range(40):
        entries = [Entry(peer(1000 + 8 * number + n)) for n in range(8)]
        told(core, 2, Shuffle(TOPIC, entries[0], number, entries, 0), 60.0 * number)
    assert len(core.passive) == LIMITS.passive_max


def test_the_banned_are_gone_unheard_and_forgiven_in_time() -> None:
    core = with_neighbours(2, 3)
    outputs = core.ban(peer(2), 0.0)
    assert outputs[:2] == [Send(peer(2), Disconnect(TOPIC)), NeighbourDown(TOPIC, peer(2))]
    assert told(core, 2, Join(TOPIC), LIMITS.ban_s - 1) == []
    assert told(core, 2, Join(TOPIC), LIMITS.ban_s + 1)
    for number in range(100, 100 + LIMITS.banned_max + 1):
        core.ban(peer(number), 1000.0)
    assert told(core, 100, Neighbour(TOPIC, 0), 1001.0)  # the oldest ban makes room
    assert told(core, 101, Neighbour(TOPIC, 0), 1001.0) == []


def test_those_who_may_not_join_are_neither_heard_nor_passed_on() -> None:
    core = with_neighbours(2, may_join=lambda p: p != peer(7))
    assert told(core, 7, Join(TOPIC)) == []
    told(core, 2, Shuffle(TOPIC, Entry(peer(2)), 1, [Entry(peer(7)), Entry(peer(8))], 0))
    assert core.passive == [peer(8)]


def test_false_records_are_ignored() -> None:
    core = with_neighbours(2, is_record=lambda p, record: record == b"sound")
    assert told(core, 3, Join(TOPIC, b"forged")) == []
    told(core, 2, Shuffle(TOPIC, Entry(peer(2)), 1, [Entry(peer(7), b"forged"), Entry(peer(8), b"sound")], 0))
    assert core.passive == [peer(8)]


def test_who_leaves_says_so_and_hears_nothing_more() -> None:
    core = with_neighbours(2)
    outputs = core.handle(Leave(), 0.0)
    assert outputs[:2] == [Send(peer(2), Disconnect(TOPIC, True)), NeighbourDown(TOPIC, peer(2))]
    assert told(core, 2, Join(TOPIC)) == []
    assert core.known() == []


def test_first_contacts_and_lost_neighbours_have_a_bound() -> None:
    core = member(*range(2, 2 + LIMITS.lost_max + 1))
    assert len(core.known()) == LIMITS.lost_max


def test_messages_of_other_kinds_are_ignored() -> None:
    core = with_neighbours(2)
    assert told(core, 2, Gossip(TOPIC, bytes(32), 1, b"", bytes(64))) == []
    assert core.handle(object(), 0.0) == []
