"""Plumtree alone: what each message does, and what one past each bound does."""

from random import Random
from typing import Any

import pytest

from coterie.errors import UsageError
from coterie.identity import PeerId
from coterie.machine import CancelTimer, Received, Send, SetTimer, TimerFired
from coterie.overlay.history import total_of
from coterie.overlay.hyparview import NeighbourDown, NeighbourUp
from coterie.overlay.plumtree import Delivered, Misbehaved, Plumtree, PlumtreeLimits, Publish
from coterie.wire.broadcast import (
    HOPS_MAX,
    PAYLOAD_BYTES_MAX,
    Disconnect,
    Gossip,
    Graft,
    Holds,
    Ihave,
    Prune,
    Summary,
    Want,
    id_of,
    signed_part,
)
from tests.overlay.village import is_signed, signature

TOPIC = bytes(32)
NOW = 1000.0
LIMITS = PlumtreeLimits()


def peer(number: int) -> PeerId:
    return PeerId(number.to_bytes(32, "big"))


def tree(*neighbours: int, **options: Any) -> Plumtree:
    me = peer(1)
    core = Plumtree(me, TOPIC, rng=Random(1), sign=lambda m: signature(me, m), verify=is_signed, **options)
    for number in neighbours:
        core.handle(NeighbourUp(TOPIC, peer(number)), NOW)
    return core


def gossip(payload: bytes, *, at: int = 999_000, author: int = 9, hops: int = 0) -> Gossip:
    signed = signed_part(TOPIC, peer(author), at, payload)
    return Gossip(TOPIC, bytes(peer(author)), at, payload, signature(peer(author), signed), hops)


def id_from(message: Gossip) -> bytes:
    return id_of(signed_part(TOPIC, message.author, message.at, message.payload))


def told(core: Plumtree, source: int, message: Any, now: float = NOW) -> list[Any]:
    return core.handle(Received(peer(source), message), now)


def sent(outputs: list[Any], kind: type) -> list[Any]:
    return [o for o in outputs if type(o) is Send and type(o.message) is kind]


def delivers(outputs: list[Any]) -> bool:
    return any(type(o) is Delivered for o in outputs)


def test_what_is_published_goes_to_eager_neighbours_whole_and_to_lazy_ones_as_an_id() -> None:
    core = tree(2, 3)
    told(core, 3, Prune(TOPIC))
    assert (core.eager, core.lazy) == ([peer(2)], [peer(3)])
    outputs = core.handle(Publish(b"news"), NOW)
    assert [s.peer for s in sent(outputs, Gossip)] == [peer(2)]
    message = outputs[0].message
    assert is_signed(peer(1), signed_part(TOPIC, peer(1), message.at, b"news"), message.signature)
    assert SetTimer((TOPIC, "dispatch"), NOW + LIMITS.dispatch_s) in outputs
    announced = core.handle(TimerFired((TOPIC, "dispatch")), NOW + 0.1)
    assert announced == [Send(peer(3), Ihave(TOPIC, [id_from(message)], 0))]


def test_too_long_a_message_is_the_callers_error() -> None:
    core = tree(2)
    core.handle(Publish(bytes(PAYLOAD_BYTES_MAX)), NOW)
    with pytest.raises(UsageError, match=str(PAYLOAD_BYTES_MAX)):
        core.handle(Publish(bytes(PAYLOAD_BYTES_MAX + 1)), NOW)


def test_a_new_message_is_delivered_once_and_passed_on_and_a_second_copy_prunes() -> None:
    core, message = tree(2, 3), gossip(b"news", hops=HOPS_MAX)
    outputs = told(core, 2, message)
    assert Delivered(TOPIC, peer(9), message.at, b"news", HOPS_MAX) in outputs
    assert [s.peer for s in sent(outputs, Gossip)] == [peer(3)]
    assert told(core, 3, message) == [Send(peer(3), Prune(TOPIC))]
    assert core.lazy == [peer(3)]
    assert (core.delivered, core.duplicates) == (1, 1)


def test_prunes_of_a_link_that_is_lazy_already_have_a_rate() -> None:
    core, message = tree(2), gossip(b"news")
    answers = [told(core, 2, message) for _ in range(LIMITS.prunes_per_link_burst + 3)]
    assert sum(len(sent(a, Prune)) for a in answers) == LIMITS.prunes_per_link_burst + 1


@pytest.mark.parametrize("at", [1_000_000 - 900_000, 1_000_000 + 600_001])
def test_stale_and_future_messages_are_ignored(at: int) -> None:
    core = tree(2)
    assert told(core, 2, gossip(b"news", at=at)) == []
    assert core.ignored == 1


def test_a_forged_author_is_told_and_nothing_remembered() -> None:
    core, message = tree(2, 3), gossip(b"news")
    forged = Gossip(TOPIC, message.author, message.at, message.payload, bytes(64))
    outputs = told(core, 2, forged)
    assert [type(o) for o in outputs] == [Misbehaved]
    assert outputs[0].peer == peer(2)
    assert any(type(o) is Delivered for o in told(core, 3, message))


def test_who_may_not_publish_is_ignored() -> None:
    core = tree(2, may_publish=lambda p: p != peer(9))
    assert told(core, 2, gossip(b"news")) == []


def test_news_of_one_neighbour_have_a_rate() -> None:
    core = tree(2, limits=PlumtreeLimits(news_per_link_burst=3))
    for number in range(4):
        told(core, 2, gossip(b"%d" % number))
    assert (core.delivered, core.ignored) == (3, 1)
    told(core, 2, gossip(b"3"), NOW + 1)
    assert core.delivered == 4


def test_an_announced_message_that_does_not_come_is_asked_of_one_after_the_other() -> None:
    core, message = tree(2, 3), gossip(b"news")
    id_ = id_from(message)
    timer = (TOPIC, "missing", id_)
    assert told(core, 2, Ihave(TOPIC, [id_])) == [SetTimer(timer, NOW + LIMITS.graft_s)]
    assert told(core, 3, Ihave(TOPIC, [id_])) == []
    asked = []
    for _ in range(LIMITS.graft_tries_max):
        outputs = core.handle(TimerFired(timer), NOW + 1)
        asked += [s.peer for s in sent(outputs, Graft)]
    assert asked == [peer(2), peer(3)] * (LIMITS.graft_tries_max // 2)
    assert core.handle(TimerFired(timer), NOW + 1) == []
    assert core.missing == 0
    told(core, 2, Ihave(TOPIC, [id_]))
    assert CancelTimer(timer) in told(core, 3, message)


def test_one_neighbour_may_announce_so_much_and_no_more() -> None:
    core = tree(2, 3, limits=PlumtreeLimits(missing_per_link_max=2, missing_max=3))
    told(core, 2, Ihave(TOPIC, [bytes([n]) * 16 for n in range(3)]))
    assert (core.missing, core.ignored) == (2, 1)
    told(core, 3, Ihave(TOPIC, [bytes([n]) * 16 for n in range(10, 13)]))
    assert (core.missing, core.ignored) == (3, 3)


def test_a_graft_makes_eager_and_is_served_within_a_rate() -> None:
    core = tree(2, 3, limits=PlumtreeLimits(served_per_link_burst=2))
    messages = [gossip(b"%d" % n) for n in range(3)]
    for message in messages:
        told(core, 2, message)
    told(core, 3, Prune(TOPIC))
    outputs = told(core, 3, Graft(TOPIC, [bytes(16), *(id_from(m) for m in messages)]))
    assert core.eager == [peer(2), peer(3)]
    assert [s.message.payload for s in sent(outputs, Gossip)] == [b"0", b"1"]
    assert told(core, 3, Want(TOPIC, [id_from(messages[0])])) == []
    assert len(told(core, 3, Want(TOPIC, [id_from(messages[0])]), NOW + 1)) == 1


def test_a_much_shorter_lazy_path_takes_the_place_of_a_long_eager_one() -> None:
    core, message = tree(2, 3), gossip(b"news", hops=LIMITS.hops_better + 1)
    told(core, 3, Prune(TOPIC))
    told(core, 3, Ihave(TOPIC, [id_from(message)], 1))
    outputs = told(core, 2, message)
    assert Send(peer(3), Graft(TOPIC, [])) in outputs
    assert Send(peer(2), Prune(TOPIC)) in outputs
    assert (core.eager, core.lazy) == ([peer(3)], [peer(2)])


def test_who_holds_the_same_is_silent_and_who_holds_something_else_says_what() -> None:
    core, message = tree(2), gossip(b"news")
    told(core, 2, message)
    id_ = id_from(message)
    same = Summary(TOPIC, 998_000, 999_500, 1, total_of([id_]))
    assert told(core, 2, same) == []
    other = Summary(TOPIC, 998_000, 999_500, 0, bytes(16))
    assert told(core, 2, other) == [Send(peer(2), Holds(TOPIC, 998_000, 999_500, [id_], True))]


def test_comparisons_have_a_rate() -> None:
    core = tree(2, limits=PlumtreeLimits(questions_per_link_burst=1))
    told(core, 2, gossip(b"news"))
    question = Summary(TOPIC, 998_000, 999_500, 0, bytes(16))
    assert told(core, 2, question)
    assert told(core, 2, question) == []
    assert told(core, 2, Holds(TOPIC, 998_000, 999_500, [bytes(16)], True)) == []


def test_what_a_comparison_shows_missing_is_wanted_delivered_and_not_pushed() -> None:
    core, message, extra = tree(2, 3), gossip(b"news"), gossip(b"ours")
    told(core, 3, extra)
    holds = Holds(TOPIC, 998_000, 999_500, [id_from(message)], True)
    outputs = told(core, 2, holds)
    assert outputs[0] == Send(peer(2), Want(TOPIC, [id_from(message)]))
    assert sent(outputs, Holds)[0].message.ids == [id_from(extra)]
    assert sent(outputs, Holds)[0].message.is_answer
    got = told(core, 2, message)
    assert any(type(o) is Delivered for o in got)
    assert sent(got, Gossip) == []
    assert core.recovered == 1


def test_once_in_a_while_a_neighbour_is_compared_with() -> None:
    core = tree(2)
    outputs = core.handle(TimerFired((TOPIC, "reconcile")), NOW)
    assert outputs[0].peer == peer(2)
    assert outputs[0].message.until == 995_000
    assert outputs[1].key == (TOPIC, "reconcile")
    core.handle(NeighbourDown(TOPIC, peer(2)), NOW)
    assert core.handle(TimerFired((TOPIC, "reconcile")), NOW) == []


def test_who_is_no_neighbour_is_told_so_within_a_rate() -> None:
    core = tree(2, limits=PlumtreeLimits(farewells_burst=1))
    assert told(core, 5, gossip(b"news")) == [Send(peer(5), Disconnect(TOPIC))]
    assert told(core, 5, gossip(b"news")) == []
    assert (core.delivered, core.ignored) == (0, 2)


def test_announcements_for_one_neighbour_have_a_bound() -> None:
    core = tree(2, 3, limits=PlumtreeLimits(lazy_queue_max=2))
    told(core, 3, Prune(TOPIC))
    for number in range(3):
        core.handle(Publish(b"%d" % number), NOW)
    outputs = core.handle(TimerFired((TOPIC, "dispatch")), NOW)
    assert len(sent(outputs, Ihave)[0].message.ids) == 2


def test_a_spare_link_begins_lazy_unless_it_is_the_only_one() -> None:
    core = tree()
    core.handle(NeighbourUp(TOPIC, peer(2), True), NOW)
    core.handle(NeighbourUp(TOPIC, peer(3), True), NOW)
    assert (core.eager, core.lazy) == ([peer(2)], [peer(3)])


def test_closing_cancels_all_timers() -> None:
    core = tree(2)
    told(core, 2, Ihave(TOPIC, [bytes(16)]))
    cancelled = [timer.key[1] for timer in core.close()]
    assert sorted(cancelled) == ["dispatch", "missing", "reconcile"]
    assert (core.missing, core.eager) == (0, [])


def test_a_member_who_floods_with_future_dates_keeps_nobody_from_being_heard() -> None:
    """Twenty new messages a second from one member for a quarter of an hour: more than the history holds."""
    limits = PlumtreeLimits()
    core, now = tree(1, 2), 1_000_000.0
    sent_out = 0
    while sent_out < limits.seen_max + 1_000:
        ahead = int(1000 * (now + limits.skew_max_s)) - 1
        message = gossip(b"%d" % sent_out, at=ahead - sent_out % 500, author=66)
        sent_out += delivers(told(core, 1, message, now))
        now += 1 / limits.news_per_link_s
    assert len(core.history) == limits.seen_max
    late = gossip(b"hello", at=int(1000 * now) - 300, author=7)
    assert delivers(told(core, 2, late, now)), "an honest message is refused"
    lost = gossip(b"what was lost", at=int(1000 * now) - 60_000, author=7)
    told(core, 2, Holds(TOPIC, 0, int(1000 * now), [id_from(lost)], True), now)
    assert delivers(told(core, 2, lost, now)), "what comparing brings is refused"
    assert core.history.held_since(int(1000 * now)) < late.at, "honest messages are no longer compared"
