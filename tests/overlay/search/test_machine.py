"""Searching: who is asked, who answers whom, when it ends, and what strangers cannot make a node do."""

import tracemalloc
from collections.abc import Sequence
from random import Random
from typing import Any

import msgspec
import pytest

from coterie.errors import UsageError
from coterie.identity import PeerId, SecretKey
from coterie.machine import CancelTimer, Emit, PeerDown, PeerUp, Received, Send, SetTimer, TimerFired
from coterie.overlay.search.asker import Ask, Cancel, Ended, Found
from coterie.overlay.search.limits import ExpandingRing, Flood, SearchLimits, Walks, flood_cost, walk_cost
from coterie.overlay.search.machine import Neighbours, Search
from coterie.overlay.search.messages import SEARCH, Answer, Check, Flooded, Question, Verdict, Walking
from coterie.sim.churn import Churn, exponential
from coterie.sim.host import Host
from coterie.sim.links import Link
from coterie.sim.world import World

KEYS = [SecretKey(bytes([n]) * 32) for n in range(12)]
PEERS = [key.peer_id for key in KEYS]
ME, ASKER, A, B, C, D = PEERS[:6]
NOW = 1_700_000_000.0


def key_of(peer: PeerId) -> SecretKey:
    return KEYS[PEERS.index(peer)]


def core(
    number: int = 0, items: Sequence[bytes] = (), *, neighbours: Sequence[PeerId] = (), **options: Any
) -> Search:
    """A node that has `items` for whoever asks."""
    made = Search(
        PEERS[number],
        sign=KEYS[number].sign,
        random=Random(number),
        answer=lambda topic, body: list(items),
        **options,
    )
    for peer in neighbours:
        made.handle(PeerUp(peer), NOW)
    return made


def question(
    number: int = 0, *, asker: PeerId = ASKER, signer: PeerId | None = None, **change: Any
) -> Question:
    """A signed question of `asker`."""
    fields: dict[str, Any] = {
        "is_direct": True,
        "wanted": 1,
        "expires": int(NOW) + 30,
        "topic": "t",
        "body": b"b",
    }
    unsigned = Question(id=number.to_bytes(16, "big"), asker=bytes(asker), **(fields | change))
    return msgspec.structs.replace(unsigned, signature=key_of(signer or asker).sign(unsigned.signed_bytes))


def sends(outputs: list[Any]) -> list[tuple[Any, Any]]:
    return [(o.peer, o.message) for o in outputs if isinstance(o, Send)]


def emitted(outputs: list[Any]) -> list[Any]:
    return [o.event for o in outputs if isinstance(o, Emit)]


# ---- floods


def test_a_flood_goes_on_to_all_but_its_source_and_the_answer_straight_to_the_asker() -> None:
    node = core(items=[b"mine"], neighbours=[A, B, C])
    q = question()
    outputs = node.handle(Received(A, Flooded(q, 0, 3)), NOW)
    assert sends(outputs) == [
        (ASKER, Answer(q.id, bytes(ME), (b"mine",))),
        (B, Flooded(q, 0, 2)),
        (C, Flooded(q, 0, 2)),
    ]


def test_a_flood_ends_with_its_hops_and_repetitions_are_dropped() -> None:
    node = core(items=[b"mine"], neighbours=[A, B])
    assert len(sends(node.handle(Received(A, Flooded(question(), 0, 0)), NOW))) == 1
    assert node.handle(Received(B, Flooded(question(), 0, 5)), NOW) == []
    assert node.counts.repeated == 1


def test_a_larger_ring_goes_on_but_is_answered_only_once() -> None:
    node = core(items=[b"mine"], neighbours=[A, B])
    node.handle(Received(A, Flooded(question(), 0, 0)), NOW)
    assert sends(node.handle(Received(A, Flooded(question(), 1, 2)), NOW)) == [(B, Flooded(question(), 1, 1))]
    assert node.handle(Received(B, Flooded(question(), 1, 2)), NOW) == []


def test_items_are_cut_to_what_a_message_holds() -> None:
    node = core(items=[bytes(5_000)] * 100, neighbours=[A])
    ((_, answer),) = sends(node.handle(Received(A, Flooded(question(), 0, 0)), NOW))
    assert len(answer.items) == 16
    assert {len(item) for item in answer.items} == {1024}


def test_our_own_question_that_comes_round_is_not_passed_on() -> None:
    node = core(items=[b"mine"], neighbours=[A, B])
    asked = sends(node.handle(Ask("k", "t", b"b", strategy=Flood(3)), NOW))
    assert [peer for peer, _ in asked] == [A, B]
    assert node.handle(Received(B, asked[0][1]), NOW) == []


# ---- walks


def test_a_walker_goes_to_one_neighbour_and_prefers_those_it_has_not_been_to() -> None:
    node = core(neighbours=[A, B, C, D])
    went = []
    for walker in range(3):
        ((to, message),) = sends(node.handle(Received(A, Walking(question(), walker, 10)), NOW))
        assert message == Walking(question(), walker, 9)
        went.append(to)
    assert sorted(went) == sorted([B, C, D])
    ((to, _),) = sends(node.handle(Received(A, Walking(question(), 3, 10)), NOW))
    assert to in (B, C, D)


def test_in_a_dead_end_a_walker_turns_back_and_alone_it_dies() -> None:
    node = core(neighbours=[A])
    assert sends(node.handle(Received(A, Walking(question(), 0, 10)), NOW)) == [
        (A, Walking(question(), 0, 9))
    ]
    assert sends(core().handle(Received(A, Walking(question(), 0, 10)), NOW)) == []


def test_every_fourth_hop_the_walker_waits_for_its_askers_word() -> None:
    node = core(neighbours=[A, B])
    q = question()
    outputs = node.handle(Received(A, Walking(q, 5, 8)), NOW)
    assert sends(outputs) == [(ASKER, Check(q.id, 5, False))]
    assert SetTimer(("parked", q.id, 5), NOW + 5) in outputs
    assert node.handle(Received(C, Verdict(q.id, 5, True)), NOW) == []  # not the asker's word
    assert node.counts.unasked == 1
    outputs = node.handle(Received(ASKER, Verdict(q.id, 5, True)), NOW)
    assert sends(outputs) == [(B, Walking(q, 5, 7))]
    assert CancelTimer(("parked", q.id, 5)) in outputs
    assert node.handle(Received(ASKER, Verdict(q.id, 5, True)), NOW) == []  # once


def test_a_walker_stops_at_its_askers_word_or_without_any() -> None:
    for end in (Received(ASKER, Verdict(question().id, 5, False)), TimerFired(("parked", question().id, 5))):
        node = core(neighbours=[A, B])
        node.handle(Received(A, Walking(question(), 5, 8)), NOW)
        assert sends(node.handle(end, NOW)) == []
        assert node.sizes["parked"] == 0


def test_a_walker_that_finds_dies_when_one_answer_is_wanted_and_goes_on_otherwise() -> None:
    node = core(items=[b"mine"], neighbours=[A, B])
    ((to, answer),) = sends(node.handle(Received(A, Walking(question(), 0, 9)), NOW))
    assert (to, answer.items) == (ASKER, (b"mine",))
    several = question(2, wanted=5)
    assert [to for to, _ in sends(node.handle(Received(A, Walking(several, 0, 9)), NOW))] == [ASKER, B]


def test_a_walker_at_its_end_says_so() -> None:
    node = core(neighbours=[A, B])
    assert sends(node.handle(Received(A, Walking(question(), 2, 0)), NOW)) == [
        (ASKER, Check(question().id, 2, True))
    ]


def test_a_walker_that_comes_home_asks_nobody() -> None:
    node = core(neighbours=[A, B])
    asked = sends(node.handle(Ask("k", "t", b"b", strategy=Walks(2, 9)), NOW))
    (_, walking) = asked[0]
    home = Walking(walking.question, walking.walker, 4)
    assert sends(node.handle(Received(B, home), NOW)) == [(A, Walking(walking.question, 0, 3))]
    node.handle(Cancel("k"), NOW)
    assert node.handle(Received(B, home), NOW) == []


# ---- an asker


def asking(
    strategy: Any, *, neighbours: Sequence[PeerId] = (A, B, C), **options: Any
) -> tuple[Search, list[Any]]:
    node = core(neighbours=neighbours)
    return node, node.handle(Ask("k", "t", b"b", strategy=strategy, **options), NOW)


def test_a_question_is_signed_and_says_until_when() -> None:
    _, outputs = asking(Flood(7), deadline_s=10)
    message = sends(outputs)[0][1]
    q = message.question
    assert (q.asker, q.topic, q.body, q.expires, message.hops_left) == (
        bytes(ME),
        "t",
        b"b",
        int(NOW) + 11,
        6,
    )
    assert sends(core(1, neighbours=[A, B]).handle(Received(A, message), NOW)) != []


def test_rings_grow_until_enough_is_found() -> None:
    node, outputs = asking(ExpandingRing(1, 2, 6))
    seen = [sends(outputs)[0][1]]
    timer = next(o for o in outputs if isinstance(o, SetTimer) and o.key[0] == "step")
    while not emitted(outputs):
        outputs = node.handle(TimerFired(timer.key), timer.at)
        timer = next((o for o in outputs if isinstance(o, SetTimer)), timer)
        seen += [message for _, message in sends(outputs)[:1]]
    assert [(m.ring, m.hops_left + 1) for m in seen] == [(0, 1), (1, 3), (2, 5), (3, 6)]
    assert len({m.question.id for m in seen}) == 1
    assert emitted(outputs) == [Ended("k", "exhausted", 0)]


def test_walkers_are_spread_over_the_neighbours() -> None:
    _, outputs = asking(Walks(7, 100))
    assert [to for to, _ in sends(outputs)] == [A, B, C, A, B, C, A]
    assert {(m.walker, m.hops_left) for _, m in sends(outputs)} == {(n, 99) for n in range(7)}


def query_id(outputs: list[Any]) -> bytes:
    return bytes(sends(outputs)[0][1].question.id)


def test_answers_are_counted_by_peer_until_enough() -> None:
    node, outputs = asking(Flood(), wanted=2)
    number = query_id(outputs)
    first = Answer(number, bytes(B), (b"one",))
    assert emitted(node.handle(Received(B, first), NOW)) == [Found("k", B, (b"one",), True)]
    assert node.handle(Received(B, first), NOW) == []  # again
    assert node.handle(Received(C, first), NOW) == []  # in another's name
    second = Answer(number, bytes(C), (b"two",))
    outputs = node.handle(Received(C, second), NOW)
    assert emitted(outputs) == [Found("k", C, (b"two",), True), Ended("k", "enough", 2)]
    assert CancelTimer(("deadline", number)) in outputs
    assert node.handle(Received(D, Answer(number, bytes(D), (b"late",))), NOW) == []
    assert node.counts.unasked == 1


def test_what_the_app_does_not_accept_does_not_count() -> None:
    node, outputs = asking(Flood(), accept=lambda responder, items: items == (b"true",))
    number = query_id(outputs)
    assert node.handle(Received(B, Answer(number, bytes(B), (b"a lie",))), NOW) == []
    assert node.handle(Received(B, Answer(number, bytes(B), (b"true",))), NOW) == []  # it has had its turn
    outputs = node.handle(Received(C, Answer(number, bytes(C), (b"true",))), NOW)
    assert emitted(outputs) == [Found("k", C, (b"true",), True), Ended("k", "enough", 1)]


def test_nobody_answers_what_was_not_asked() -> None:
    node = core(neighbours=[A])
    assert node.handle(Received(A, Answer(bytes(16), bytes(A), (b"spam",))), NOW) == []
    assert node.counts.unasked == 1


def test_a_cancelled_search_takes_no_answers_and_stops_its_walkers() -> None:
    node, outputs = asking(Walks(2, 100))
    number = query_id(outputs)
    assert sends(node.handle(Received(D, Check(number, 1, False)), NOW)) == [(D, Verdict(number, 1, True))]
    assert emitted(node.handle(Cancel("k"), NOW)) == [Ended("k", "cancelled", 0)]
    assert sends(node.handle(Received(D, Check(number, 1, False)), NOW)) == [(D, Verdict(number, 1, False))]
    assert node.handle(Received(D, Answer(number, bytes(D), (b"x",))), NOW) == []
    assert node.handle(Cancel("k"), NOW) == []


def test_a_search_ends_at_its_deadline() -> None:
    node, outputs = asking(Walks(2, 100), deadline_s=7)
    assert SetTimer(("deadline", query_id(outputs)), NOW + 7) in outputs
    assert emitted(node.handle(TimerFired(("deadline", query_id(outputs))), NOW + 7)) == [
        Ended("k", "deadline", 0)
    ]


def test_silent_walkers_are_replaced_once_each_and_then_it_is_over() -> None:
    node, outputs = asking(Walks(2, 100))
    number = query_id(outputs)
    node.handle(Received(D, Check(number, 1, False)), NOW + 10)
    outputs = node.handle(TimerFired(("step", number)), NOW + 15)
    assert [m.walker for _, m in sends(outputs)] == [2]  # for number 0
    assert sends(node.handle(Received(D, Check(number, 0, False)), NOW + 15)) == [
        (D, Verdict(number, 0, False))
    ]
    outputs = node.handle(TimerFired(("step", number)), NOW + 30)
    assert [m.walker for _, m in sends(outputs)] == [3]
    outputs = node.handle(TimerFired(("step", number)), NOW + 60)
    assert emitted(outputs) == [Ended("k", "exhausted", 0)]


def test_walkers_that_report_their_end_are_not_replaced() -> None:
    node, outputs = asking(Walks(2, 100))
    number = query_id(outputs)
    for walker in range(2):
        assert node.handle(Received(D, Check(number, walker, True)), NOW) == []
    assert emitted(node.handle(TimerFired(("step", number)), NOW + 15)) == [Ended("k", "exhausted", 0)]


def test_a_walker_that_was_falsely_reported_dead_goes_on() -> None:
    node, outputs = asking(Walks(2, 100))
    number = query_id(outputs)
    for walker in range(64):
        node.handle(Received(D, Check(number, walker, True)), NOW)
    assert sends(node.handle(Received(C, Check(number, 1, False)), NOW + 1)) == [
        (C, Verdict(number, 1, True))
    ]
    assert sends(node.handle(Received(C, Check(number, 2, False)), NOW + 1)) == [
        (C, Verdict(number, 2, False))
    ]
    assert emitted(node.handle(TimerFired(("step", number)), NOW + 15)) == []


def test_without_neighbours_or_with_too_many_searches_it_does_not_begin() -> None:
    assert emitted(core().handle(Ask("k", "t", b"b"), NOW)) == [Ended("k", "alone", 0)]
    node = core(neighbours=[A], limits=SearchLimits(searches_max=2))
    for key in ("a", "b"):
        assert emitted(node.handle(Ask(key, "t", b"b"), NOW)) == []
    assert emitted(node.handle(Ask("a", "t", b"b"), NOW)) == [Ended("a", "busy", 0)]
    assert emitted(node.handle(Ask("c", "t", b"b"), NOW)) == [Ended("c", "busy", 0)]


@pytest.mark.parametrize(
    "wrong",
    [
        {"topic": "x" * 33},
        {"body": bytes(513)},
        {"wanted": 0},
        {"wanted": 256},
        {"strategy": Flood(8)},
        {"strategy": ExpandingRing(3, 1, 2)},
        {"strategy": ExpandingRing(1, 0, 7)},
        {"strategy": Walks(65, 10)},
        {"strategy": Walks(1, 1025)},
    ],
)
def test_what_cannot_be_asked_is_refused_at_once(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        Ask(**({"key": "k", "topic": "t", "body": b"b"} | wrong))


# ---- an asker that cannot be dialled


def test_answers_come_back_along_the_way_when_the_asker_cannot_be_dialled() -> None:
    q = question(is_direct=False)
    middle = core(neighbours=[A, B], limits=SearchLimits(relayed_max=2))
    middle.handle(Received(A, Flooded(q, 0, 3)), NOW)
    far = core(2, items=[b"mine"], neighbours=[ME])
    ((to, answer),) = sends(far.handle(Received(ME, Flooded(q, 0, 2)), NOW))
    assert to == ME
    assert sends(middle.handle(Received(B, answer), NOW)) == [(A, answer)]
    assert sends(middle.handle(Received(B, answer), NOW)) == [(A, answer)]
    assert middle.handle(Received(B, answer), NOW) == []  # relayed_max
    assert middle.handle(Received(B, Answer(question(9).id, bytes(B), (b"x",))), NOW) == []


def test_its_walkers_do_not_wait_and_do_not_go_far() -> None:
    node = core(neighbours=[A, B], limits=SearchLimits(unchecked_hops=8))
    q = question(is_direct=False)
    assert sends(node.handle(Received(A, Walking(q, 0, 8)), NOW)) == [(B, Walking(q, 0, 7))]
    assert node.handle(Received(A, Walking(question(1, is_direct=False), 0, 9)), NOW) == []
    assert node.counts.invalid == 1
    asker = core(neighbours=[A], is_direct=False, limits=SearchLimits(unchecked_hops=8))
    ((_, message),) = sends(asker.handle(Ask("k", "t", b"b", strategy=Walks(1, 100)), NOW))
    assert (message.hops_left, message.question.is_direct) == (7, False)
    answer = Answer(message.question.id, bytes(D), (b"x",))
    assert emitted(asker.handle(Received(A, answer), NOW))[0] == Found("k", D, (b"x",), False)


# ---- what strangers may not


@pytest.mark.parametrize(
    "wrong",
    [
        question(signer=B),  # in another's name
        question(expires=int(NOW) - 61),
        question(expires=int(NOW) + 190),
        msgspec.structs.replace(question(), body=b"another"),
        question(asker=ME),  # ours, which we have forgotten
    ],
)
def test_forged_expired_and_changed_questions_go_nowhere(wrong: Question) -> None:
    for message in (Flooded(wrong, 0, 3), Walking(wrong, 0, 9)):
        node = core(items=[b"mine"], neighbours=[A, B])
        assert node.handle(Received(A, message), NOW) == []


def test_a_known_id_does_not_carry_another_question() -> None:
    node = core(neighbours=[A, B])
    node.handle(Received(A, Flooded(question(), 0, 3)), NOW)
    other = question(body=b"other")
    assert node.handle(Received(A, Flooded(other, 1, 3)), NOW) == []
    assert node.counts.invalid == 1


def test_each_peer_has_a_budget_of_messages_that_it_may_cause() -> None:
    assert (flood_cost(0), flood_cost(3), walk_cost(9)) == (1.0, 64.0, 10.0)
    node = core(neighbours=[A, B, C], limits=SearchLimits(budget_per_s=64.0, budget_burst=128.0))

    def passes(number: int, peer: PeerId, at: float) -> bool:
        return bool(node.handle(Received(peer, Flooded(question(number), 0, 3)), at))

    assert [passes(n, A, NOW) for n in range(4)] == [True, True, False, False]
    assert passes(4, B, NOW)  # another peer's budget is its own
    assert [passes(n, A, NOW + 1) for n in (5, 6)] == [True, False]
    assert node.counts.over_budget == 3


def test_unasked_answers_checks_and_verdicts_cost_too() -> None:
    node = core(neighbours=[A], limits=SearchLimits(budget_per_s=1.0, budget_burst=10.0))
    replies = [node.handle(Received(A, Check(bytes(16), 1, False)), NOW) for _ in range(30)]
    assert len([r for r in replies if r]) == 10


def test_every_table_is_bounded() -> None:
    limits = SearchLimits(seen_max=20, parked_max=10, peers_max=15, neighbours_max=4, budget_burst=1e9)
    node = core(neighbours=PEERS[2:], limits=limits)
    for number in range(100):
        node.handle(Received(number % 7, Walking(question(number), 0, 8)), NOW)
        node.handle(Received(number, Check(bytes(16), 0, True)), NOW)
    assert node.sizes == {"seen": 20, "parked": 10, "budgets": 15, "searches": 0, "neighbours": 4}
    assert node.neighbours == PEERS[2:6]


def test_one_peer_does_not_take_all_the_room_for_walkers() -> None:
    limits = SearchLimits(parked_max=10, parked_per_peer_max=3, budget_burst=1e9)
    node = core(neighbours=[A, B], limits=limits)

    def parks(number: int, peer: PeerId) -> bool:
        return bool(sends(node.handle(Received(peer, Walking(question(number), 0, 8)), NOW)))

    assert [parks(n, A) for n in range(5)] == [True, True, True, False, False]
    assert parks(0, A)  # the same walker again takes no more room
    assert parks(5, B)
    node.handle(TimerFired(("parked", question(1).id, 0)), NOW + 5)
    assert [parks(n, A) for n in (6, 7)] == [True, False]
    assert node.sizes["parked"] == 4


def test_an_asker_takes_no_more_answers_than_it_can_hold() -> None:
    node = core(neighbours=[A], limits=SearchLimits(answers_max=3))
    number = query_id(node.handle(Ask("k", "t", b"b", wanted=10, strategy=Flood()), NOW))
    found = [node.handle(Received(peer, Answer(number, bytes(peer), (b"x",))), NOW) for peer in PEERS[2:8]]
    assert len([f for f in found if f]) == 3


# ---- neighbours


def test_neighbours_are_connections_or_a_view() -> None:
    node = core(neighbours=[A, B])
    node.handle(PeerDown(A), NOW)
    assert node.neighbours == [B]
    node.handle(Neighbours((C, D)), NOW)
    assert node.neighbours == [C, D]
    node = core(neighbours=[A], follows_connections=False)
    assert node.neighbours == []
    assert node.handle("something else", NOW) == []
    assert node.handle(Received(A, "not a message of ours"), NOW) == []


# ---- together


def network(seed: int, nodes: int = 200, holders: Sequence[int] = (), **options: Any) -> World:
    """Real signatures, real clocks a little wrong."""
    keys = [SecretKey(n.to_bytes(32, "big")) for n in range(nodes)]
    chooser = Random(seed)
    world = World(seed, link=Link(latency=0.05, **options))

    def make(n: int, random: Random) -> Search:
        have = [b"found"] if n in holders else []
        return Search(keys[n].peer_id, sign=keys[n].sign, random=random, answer=lambda t, b: have)

    for n in range(nodes):
        host = Host(clock_offset_s=chooser.uniform(-20, 20))
        world.add(keys[n].peer_id, lambda random, n=n: make(n, random), host=host)  # type: ignore[misc]
    for n in range(nodes):
        for other in [(n + 1) % nodes, chooser.randrange(nodes)]:
            if other != n:
                world.connect(keys[n].peer_id, keys[other].peer_id)
    world.run(1)
    return world


@pytest.mark.parametrize("strategy", [Flood(), ExpandingRing(), Walks(8, 128)])
def test_a_search_finds_what_is_there_and_leaves_nothing_behind(strategy: Any) -> None:
    world = network(3, holders=[77, 120])
    asker, holder, other = world.names[0], world.names[77], world.names[120]
    world.feed(asker, Ask("k", "t", b"b", strategy=strategy))
    world.run(100)
    found, ended = [event for _, _, event in world.emitted]
    assert found.responder in (holder, other)
    assert (found.items, found.is_direct) == ((b"found",), True)
    assert ended == Ended("k", "enough", 1)
    assert all(world.core(name).sizes["parked"] == 0 for name in world.names)
    assert world.core(asker).sizes["searches"] == 0


@pytest.mark.parametrize("strategy", [Flood(), ExpandingRing(), Walks(8, 64)])
def test_a_search_for_what_is_not_there_ends(strategy: Any) -> None:
    world = network(4)
    world.feed(world.names[0], Ask("k", "t", b"b", strategy=strategy, deadline_s=100))
    world.run(200)
    ((_, _, ended),) = world.emitted
    assert ended == Ended("k", "exhausted", 0)


def test_walkers_find_under_loss_and_churn() -> None:
    world = network(5, holders=range(0, 200, 20), loss=0.05)
    Churn(world, world.names[20:], online=exponential(60), offline=exponential(20))
    for number in range(20):
        world.feed(world.names[1 + number % 10], Ask(number, "t", b"b", strategy=Walks(8, 128)))
        world.run(world.now + 40)
    ended = [event for _, _, event in world.emitted if isinstance(event, Ended)]
    assert len(ended) == 20
    assert sum(e.reason == "enough" for e in ended) >= 18


def test_one_seed_is_one_trace() -> None:
    def digest(seed: int) -> str:
        world = network(seed, 60, holders=[30])
        world.feed(world.names[0], Ask("k", "t", b"b"))
        world.run(60)
        return world.digest

    assert digest(6) == digest(6) != digest(7)


def test_at_the_limits_of_all_tables_the_memory_is_a_few_megabytes() -> None:
    limits = SearchLimits(budget_burst=1e9)
    made = Search(ME, sign=KEYS[0].sign, random=Random(0), limits=limits, verify=lambda *_: True)
    for peer in PEERS[2:]:
        made.handle(PeerUp(peer), NOW)
    made.handle(TimerFired("warm"), NOW)
    tracemalloc.start()
    try:
        for number in range(limits.seen_max + 100):
            asked = Question(
                id=number.to_bytes(16, "big"),
                asker=bytes(ASKER),
                is_direct=True,
                wanted=1,
                expires=int(NOW),
                topic="t" * 32,
                body=bytes(512),
            )
            frame = SEARCH.encode(Walking(asked, 0, 8))
            message = SEARCH.decode(2, frame[5:])  # as it comes from a stream: nothing shared with others
            made.handle(Received(number % limits.peers_max, message), NOW)
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert made.sizes["seen"] == limits.seen_max
    assert made.sizes["parked"] == limits.parked_max
    assert 2e6 < used < 8e6
    print(f"{used / 1e6:.1f} MB")
