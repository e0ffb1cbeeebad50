"""One node by itself, event by event: who is answered and believed, deadlines, upkeep, state and memory."""

import tracemalloc
from random import Random
from typing import Any

import pytest

from coterie.errors import UsageError
from coterie.identity import PeerId
from coterie.machine import CancelTimer, Emit, PeerDown, Received, Send, SetTimer, TimerFired
from coterie.overlay.kademlia import messages as wire
from coterie.overlay.kademlia.events import (
    Bootstrap,
    Cancel,
    Finished,
    Found,
    KeepUp,
    Learned,
    Outcome,
    Progress,
    Provide,
    Put,
    SeekNode,
    SeekProviders,
    SeekValue,
    SetServing,
    Withdraw,
)
from coterie.overlay.kademlia.keys import plain_item, value_key
from coterie.overlay.kademlia.limits import KademliaLimits
from coterie.overlay.kademlia.machine import Kademlia
from tests.overlay.kademlia_world import key_of, peers

OWN = PeerId(bytes(32))
MANY = peers(3_000)
KEY = bytes(range(32))
LIMITS = KademliaLimits()


def node(*known: PeerId, **options: Any) -> Kademlia:
    """A node with some contacts."""
    made = Kademlia(OWN, Random(1), **options)
    for peer in known:
        made.table.answered(peer, 0.0, 0.1)
    return made


def sends(outputs: list[Any], kind: type = wire.Message) -> list[Send]:
    return [o for o in outputs if isinstance(o, Send) and isinstance(o.message, kind)]


def events(outputs: list[Any]) -> list[Any]:
    return [o.event for o in outputs if isinstance(o, Emit)]


def ask(made: Kademlia, message: Any, peer: PeerId = MANY[0], now: float = 0.0) -> Any:
    """The answer to a request of `peer`; None when there is none."""
    answers = [s.message for s in sends(made.handle(Received(peer, message), now)) if s.peer == peer]
    answers = [a for a in answers if not isinstance(a, wire.Ping)]
    assert len(answers) <= 1
    return answers[0] if answers else None


# ---- answering


def test_questions_are_answered_with_the_nearest_but_the_asker() -> None:
    made = node(*MANY[:30])
    answer = ask(made, wire.FindNode(7, True, key_of(MANY[3])), MANY[3])
    assert answer.request == 7
    assert MANY[3] not in [contact.peer for contact in answer.contacts]
    assert len(answer.contacts) == 20
    assert ask(made, wire.Ping(8, True)) == wire.Pong(8, True)
    assert ask(made, wire.FindValue(9, True, KEY)).item == b""
    assert ask(made, wire.FindProviders(9, True, KEY)).providers == []


def test_records_go_along_with_contacts() -> None:
    made = node(MANY[1], record_of=lambda peer: b"record of " + peer[:1])
    answer = ask(made, wire.FindNode(7, True, KEY))
    assert answer.contacts == [wire.Contact(MANY[1], b"record of " + MANY[1][:1], 0)]


def test_a_server_that_asks_is_pinged_before_it_becomes_a_contact() -> None:
    made = node()
    outputs = made.handle(Received(MANY[0], wire.Ping(1, True)), 0.0)
    (ping,) = sends(outputs, wire.Ping)
    assert MANY[0] not in made.table
    made.handle(Received(MANY[0], wire.Pong(ping.message.request, True)), 0.2)
    contact = made.table.get(MANY[0])
    assert contact is not None
    assert contact.rtt_s == pytest.approx(0.2)


def test_clients_are_answered_and_never_contacts() -> None:
    made = node(MANY[0])
    outputs = made.handle(Received(MANY[1], wire.FindNode(1, False, KEY)), 0.0)
    assert [type(s.message) for s in sends(outputs)] == [wire.Nodes]
    assert MANY[1] not in made.table
    made.handle(Received(MANY[0], wire.Ping(1, False)), 0.0)  # a contact that stopped serving
    assert MANY[0] not in made.table


def test_who_does_not_serve_says_so_and_asks_as_a_client() -> None:
    made = node(MANY[1], serves=False)
    assert ask(made, wire.FindNode(1, True, KEY)) == wire.Pong(1, False)
    (asked,) = sends(made.handle(SeekNode(lookup=1, key=KEY), 0.0))
    assert asked.message.serves is False
    made.handle(SetServing(True), 0.0)
    assert isinstance(ask(made, wire.FindNode(1, True, KEY)), wire.Nodes)


def test_an_answer_that_says_i_do_not_serve_ends_a_contact() -> None:
    made = node(MANY[1])
    (asked,) = sends(made.handle(SeekNode(lookup=1, key=KEY), 0.0))
    outputs = made.handle(Received(MANY[1], wire.Pong(asked.message.request, False)), 0.1)
    assert MANY[1] not in made.table
    (end,) = events(outputs)
    assert end.outcome is Outcome.ALONE


def test_each_peer_may_ask_so_much_in_a_window() -> None:
    made = node()
    answers = [ask(made, wire.FindNode(n, False, KEY)) for n in range(LIMITS.answers_per_peer_max + 5)]
    assert [a is not None for a in answers].count(True) == LIMITS.answers_per_peer_max
    assert ask(made, wire.FindNode(1, False, KEY), MANY[1]) is not None
    assert ask(made, wire.FindNode(1, False, KEY), now=LIMITS.window_s + 1) is not None
    assert made.counters["over_budget"] == 5


def test_so_many_askers_are_counted_and_others_wait() -> None:
    made = node(limits=KademliaLimits(askers_max=3))
    answers = [ask(made, wire.FindNode(1, False, KEY), peer) for peer in MANY[:5]]
    assert [a is not None for a in answers] == [True] * 3 + [False] * 2


def test_bad_items_are_refused() -> None:
    made = node(*MANY[:30])
    assert ask(made, wire.Store(1, True, b"\x01garbage", 600)) == wire.Stored(1, False)
    assert ask(made, wire.Store(1, True, plain_item(b"x").raw, 1)) == wire.Stored(1, False)  # for a second
    assert made.counters["refused_items"] == 1


def test_keys_far_from_us_are_kept_for_a_short_time_or_not_at_all() -> None:
    made = node(*MANY)
    spam = [plain_item(b"%d" % number) for number in range(250)]
    accepted = [ask(made, wire.Store(1, True, item.raw, 86_400)).accepted for item in spam]
    assert 0 < accepted.count(True) < 100
    near = min(spam, key=lambda item: int.from_bytes(item.key, "big") ^ made.table.own_id)
    assert accepted[spam.index(near)]


# ---- asking


def test_answers_that_nobody_asked_for_are_ignored() -> None:
    made = node(MANY[0])
    (asked,) = sends(made.handle(SeekNode(lookup=1, key=KEY), 0.0))
    number = asked.message.request
    lie = [wire.Contact(MANY[9])]
    assert made.handle(Received(MANY[5], wire.Nodes(number, lie)), 0.1) == []
    assert made.handle(Received(MANY[0], wire.Nodes(number + 1, lie)), 0.1) == []
    assert made.counters["unsolicited"] == 2
    made.handle(Received(MANY[0], wire.Nodes(number, [])), 0.1)
    assert made.handle(Received(MANY[0], wire.Nodes(number, lie)), 0.2) == []  # replayed
    assert made.counters["unsolicited"] == 3


def test_strange_messages_are_ignored() -> None:
    made = node()
    assert made.handle(Received(MANY[0], "hello"), 0.0) == []
    assert made.counters["strange"] == 1


def test_the_wrong_kind_of_answer_ends_a_contact() -> None:
    made = node(MANY[0])
    (asked,) = sends(made.handle(SeekNode(lookup=1, key=KEY), 0.0))
    made.handle(Received(MANY[0], wire.Stored(asked.message.request, True)), 0.1)
    assert MANY[0] not in made.table


def test_a_false_item_is_refused_and_its_sender_dropped() -> None:
    made = node(*MANY[:2])
    wanted, false = plain_item(b"right"), plain_item(b"wrong")
    asked = sends(made.handle(SeekValue(lookup=1, key=wanted.key), 0.0))
    liar, honest = asked
    outputs = made.handle(Received(liar.peer, wire.Value(liar.message.request, false.raw, [])), 0.1)
    assert events(outputs) == []
    assert liar.peer not in made.table
    outputs = made.handle(Received(honest.peer, wire.Value(honest.message.request, wanted.raw, [])), 0.1)
    found, end = events(outputs)
    assert found == Found(1, item=wanted)
    assert (end.outcome, end.item) == (Outcome.DONE, wanted)


def test_a_found_item_is_cached_at_the_nearest_that_had_none() -> None:
    made = node(*MANY[:2])
    item = plain_item(b"right")
    first, second = sends(made.handle(SeekValue(lookup=1, key=item.key), 0.0))
    made.handle(Received(first.peer, wire.Value(first.message.request, b"", [])), 0.1)
    outputs = made.handle(Received(second.peer, wire.Value(second.message.request, item.raw, [])), 0.1)
    (store,) = sends(outputs, wire.Store)
    assert store.peer == first.peer


def test_what_others_say_of_addresses_is_handed_on_before_dialling() -> None:
    made = node(MANY[0])
    (asked,) = sends(made.handle(SeekNode(lookup=1, key=KEY), 0.0))
    heard = [wire.Contact(bytes(MANY[1]), b"signed")]
    outputs = made.handle(Received(MANY[0], wire.Nodes(asked.message.request, heard)), 0.1)
    learned = outputs.index(Learned(MANY[1], b"signed"))
    (next_send,) = sends(outputs, wire.FindNode)
    assert learned < outputs.index(next_send)


def test_a_lookup_goes_on_without_the_slow_and_the_dead() -> None:
    made = node(*MANY[:2])
    outputs = made.handle(SeekNode(lookup=1, key=KEY), 0.0)
    assert len(sends(outputs)) == 2
    timer = next(o for o in outputs if isinstance(o, SetTimer) and o.key != 1)
    outputs = made.handle(PeerDown(MANY[0], "unreachable"), 0.01)
    assert not events(outputs)
    outputs = made.handle(TimerFired(timer.key), LIMITS.slow_max_s)
    (end,) = events(outputs)
    assert (end.outcome, end.closest) == (Outcome.ALONE, ())
    again = next(o for o in outputs if isinstance(o, SetTimer))
    made.handle(TimerFired(again.key), LIMITS.timeout_s + 0.1)
    assert made.snapshot().requests == 0
    assert made.counters["failed"] == 2


def test_a_request_that_begins_while_a_dead_one_waits_is_looked_at_in_its_own_time() -> None:
    made = node(*MANY[:2])
    made.handle(SeekNode(lookup=1, key=KEY), 0.0)
    made.handle(TimerFired("requests"), LIMITS.slow_max_s)  # all slow: nothing is due before the time-out
    made.table.answered(MANY[2], 2.0, 0.1)
    outputs = made.handle(SeekNode(lookup=2, key=KEY), 2.0)
    (timer,) = (o for o in outputs if isinstance(o, SetTimer) and o.key == "requests")
    assert timer.at <= 2.0 + LIMITS.slow_max_s < LIMITS.timeout_s


def test_contacts_are_named_with_their_age() -> None:
    made = node(*MANY[:2])
    made.handle(Received(MANY[0], wire.Ping(1, True)), 100.0)
    answer = ask(made, wire.FindNode(1, False, KEY), MANY[9], 130.0)
    assert {contact.peer: contact.age_s for contact in answer.contacts} == {MANY[0]: 30, MANY[1]: 130}
    back = ask(made, wire.FindNode(1, False, KEY), MANY[9], -1e12)  # a clock may go back, and far
    assert [contact.age_s for contact in back.contacts] == [0, 0]


def test_deadline_and_cancel_end_a_lookup_with_what_it_has() -> None:
    for event, outcome in ((TimerFired("a"), Outcome.DEADLINE), (Cancel("a"), Outcome.CANCELLED)):
        made = node(*MANY[:30])
        outputs = made.handle(SeekNode(lookup="a", key=KEY, deadline_s=3.0), 10.0)
        assert SetTimer("a", 13.0) in outputs
        (end,) = events(made.handle(event, 13.0))
        assert (end.lookup, end.outcome) == ("a", outcome)
        assert made.snapshot().lookups == ()
        assert made.handle(event, 14.0) == []


def test_a_finished_lookup_takes_its_timer_along() -> None:
    made = node()
    outputs = made.handle(SeekNode(lookup="a", key=KEY), 0.0)
    assert events(outputs)[0].outcome is Outcome.ALONE
    assert CancelTimer("a") in outputs


def test_progress_is_told_when_wished() -> None:
    made = node(MANY[0])
    (asked,) = sends(made.handle(SeekNode(lookup=1, key=KEY, progress=True), 0.0))
    told = events(made.handle(Received(MANY[0], wire.Nodes(asked.message.request, [])), 0.1))
    assert isinstance(told[0], Progress)
    assert (told[0].asked, told[0].answers) == (1, 1)
    assert isinstance(told[1], Finished)


def test_so_many_lookups_at_once_and_no_more() -> None:
    made = node(*MANY[:30], limits=KademliaLimits(lookups_max=2))
    ends = [events(made.handle(SeekNode(lookup=n, key=KEY), 0.0)) for n in range(3)]
    assert ends[:2] == [[], []]
    assert ends[2][0].outcome is Outcome.BUSY


def test_a_taken_name_or_a_key_that_is_none_is_refused() -> None:
    made = node(*MANY[:30])
    made.handle(SeekNode(lookup=1, key=KEY), 0.0)
    for command in (SeekNode(lookup=1, key=KEY), SeekNode(lookup=2, key=b"short")):
        assert events(made.handle(command, 0.0))[0].outcome is Outcome.REFUSED


def test_requests_under_way_are_bounded() -> None:
    made = node(*MANY, limits=KademliaLimits(requests_max=10))
    for number in range(20):
        made.handle(SeekNode(lookup=number, key=key_of(MANY[number])), 0.0)
    assert made.snapshot().requests <= 10


def test_so_much_is_ours_and_no_more() -> None:
    made = node(limits=KademliaLimits(own_max=1))
    made.handle(Provide(lookup=1, key=KEY), 0.0)
    assert events(made.handle(Provide(lookup=2, key=value_key(b"other")), 0.0))[0].outcome is Outcome.BUSY
    made.handle(Withdraw(KEY), 0.0)
    assert events(made.handle(Provide(lookup=3, key=value_key(b"other")), 0.0))[0].outcome is not Outcome.BUSY


def test_what_we_keep_ourselves_is_found_at_once() -> None:
    made, item = node(), plain_item(b"alone")
    assert events(made.handle(Put(lookup=1, item=item), 0.0))[0].stored == 1
    assert events(made.handle(SeekValue(lookup=2, key=item.key), 0.0))[-1].item == item
    made.handle(Provide(lookup=3, key=KEY), 0.0)
    assert events(made.handle(SeekProviders(lookup=4, key=KEY), 0.0))[-1].providers == ((OWN, 1),)


# ---- upkeep


def upkeep(made: Kademlia, until: float, step: float = 130.0) -> list[Send]:
    """Let only time pass; all that is sent."""
    sent, now = [], 0.0
    made.handle(KeepUp(), now)
    while now < until:
        now += step
        for key in ("requests", "upkeep"):
            sent += sends(made.handle(TimerFired(key), now))
    return sent


def test_contacts_without_a_sign_of_life_are_verified() -> None:
    made = node(*MANY[:5])
    asked = {send.peer for send in upkeep(made, LIMITS.refresh_s + 200)}
    assert asked >= set(MANY[:5])
    upkeep(made, 3 * LIMITS.refresh_s)
    assert made.snapshot().contacts == 0  # nobody ever answered


def test_what_is_ours_is_announced_again_until_it_is_withdrawn() -> None:
    made = node(*MANY[:3])
    made.handle(Provide(lookup=1, key=KEY), 0.0)
    made.handle(Cancel(1), 0.0)

    def is_announced(now: float) -> bool:
        for peer in MANY[:3]:
            made.table.answered(peer, now, 0.1)
        sent = sends(made.handle(TimerFired("upkeep"), now), wire.FindNode)
        return KEY in [send.message.target for send in sent]

    assert not is_announced(0.8 * LIMITS.own_provider_s)
    assert is_announced(LIMITS.own_provider_s)
    assert not is_announced(1.5 * LIMITS.own_provider_s)
    made.handle(Withdraw(KEY), 0.0)
    assert not is_announced(3 * LIMITS.own_provider_s)


def test_verifying_is_no_burst() -> None:
    made = node(*MANY)
    made.handle(KeepUp(), 0.0)
    burst = sends(made.handle(TimerFired("upkeep"), 10 * LIMITS.refresh_s))
    assert 0 < len(burst) <= 32 + 2 * LIMITS.alpha


# ---- state and memory


def test_the_table_survives_a_restart_unbelieved() -> None:
    made = node(*MANY, record_of=lambda peer: b"signed")
    state = made.export_state()
    again = node(state=state)
    assert again.snapshot().contacts == 0
    outputs = again.handle(Bootstrap(()), 0.0)
    asked = sends(outputs, wire.FindNode)
    assert asked
    assert all(send.peer in made.table for send in asked)
    assert Learned(asked[0].peer, b"signed") in outputs


@pytest.mark.parametrize("state", [b"garbage", b"\x90", b"\x92\x07\x90"])
def test_a_state_that_is_none_is_refused(state: bytes) -> None:
    with pytest.raises(UsageError):
        node(state=state)


def test_a_snapshot_shows_what_is_there() -> None:
    made = node(*MANY[:50])
    made.handle(SeekNode(lookup="mine", key=KEY), 3.0)
    seen = made.snapshot()
    assert seen.contacts == sum(len(bucket.contacts) for bucket in seen.buckets) > 30
    assert seen.buckets[0].bits == 0
    (lookup,) = seen.lookups
    assert (lookup.lookup, lookup.kind, lookup.key, lookup.since) == ("mine", "node", KEY, 3.0)
    assert lookup.asked == seen.requests > 0


MEMORY_BYTES_MAX = 16_000_000  # of a node at all its limits: see docs/protocol/kademlia.md


@pytest.mark.slow
def test_the_memory_of_a_node_at_its_limits_is_bounded() -> None:
    assert state_bytes() < MEMORY_BYTES_MAX


def state_bytes() -> int:
    """Bytes that a node keeps when its table, its records and what is its own are full to the limits."""
    crowd = peers(20_000, seed=3)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    made = node()  # without neighbours every key is ours to keep
    for number in range(LIMITS.providers_max + 100):
        key = (number // 50).to_bytes(32, "big")
        announce = wire.AddProvider(1, False, key, 86_400)
        made.handle(Received(crowd[number % 50 + 50 * (number // 1_000)], announce), number / 10)
    for number in range(LIMITS.items_max + 100):
        store = wire.Store(1, False, plain_item(b"%d" % number + bytes(990)).raw, 7 * 86_400)
        made.handle(Received(crowd[number % 50], store), 3_000.0 + number / 10)
    for peer in crowd:
        made.table.answered(peer, 4_000.0, 0.1)
    used = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    seen = made.snapshot()
    assert (seen.provider_records, seen.items) == (LIMITS.providers_max, LIMITS.items_max)
    return used
