"""One lookup by itself: order, paths that stay apart, slow and dead peers, and its bounds."""

from random import Random
from typing import Any

import pytest

from coterie.identity import PeerId
from coterie.overlay.kademlia.keys import node_id
from coterie.overlay.kademlia.limits import KademliaLimits
from coterie.overlay.kademlia.lookup import Lookup
from coterie.overlay.kademlia.messages import Contact
from coterie.overlay.kademlia.odds import ODDS_MIN, Odds
from tests.overlay.kademlia_world import peers

OWN = PeerId(bytes(32))
MANY = peers(300)
TARGET = node_id(PeerId(b"t" * 32))
BY_DISTANCE = sorted(MANY, key=lambda peer: node_id(peer) ^ TARGET)
LIMITS = KademliaLimits()


def lookup(*start: PeerId, age_s: int | None = 0, **options: Any) -> Lookup:
    made = Lookup(TARGET, node_id(OWN), options.pop("limits", LIMITS), **options)
    made.start(dict.fromkeys(start, age_s))
    return made


def contacts(*known: PeerId, age_s: int | None = 0) -> list[Contact]:
    return [Contact(peer, b"", age_s) for peer in known]


def finish(made: Lookup, *, dead: frozenset[PeerId] = frozenset()) -> int:
    """Answer as a network does in which everybody knows 20 peers nearer to the target; the number of rounds."""
    rounds = 0
    while chosen := made.take():
        rounds += 1
        for peer in chosen:
            if peer in dead:
                made.failed(peer)
            else:
                at = BY_DISTANCE.index(peer)
                made.answered(peer, contacts(*BY_DISTANCE[at // 3 : at // 3 + 20]))
    assert made.is_over
    return rounds


@pytest.mark.parametrize("paths", [1, 2, 4, 8])
def test_it_ends_with_the_nearest(paths: int) -> None:
    made = lookup(*BY_DISTANCE[-20:], paths=paths)
    finish(made)
    assert made.closest(20) == BY_DISTANCE[:20]
    assert made.asked == made.answers < 120


def test_it_asks_alpha_at_once_and_the_nearest_first() -> None:
    made = lookup(*BY_DISTANCE[50:70])
    assert made.take() == BY_DISTANCE[50:53]
    assert made.take() == []
    made.answered(BY_DISTANCE[51], contacts(*BY_DISTANCE[10:30]))
    assert made.take() == [BY_DISTANCE[10]]


def test_the_dead_are_passed_over() -> None:
    dead = frozenset(BY_DISTANCE[0:40:2])
    made = lookup(*BY_DISTANCE[-20:])
    finish(made, dead=dead)
    assert made.closest(20) == [peer for peer in BY_DISTANCE if peer not in dead][:20]
    assert made.failures > 0


def test_slow_peers_do_not_hold_it_up_and_still_count() -> None:
    made = lookup(*BY_DISTANCE[:5])
    slow = made.take()
    for peer in slow:
        made.slow(peer)
    assert made.take() == BY_DISTANCE[3:5]
    made.answered(BY_DISTANCE[3], [])
    made.answered(BY_DISTANCE[4], [])
    assert made.is_over
    made.answered(slow[0], contacts(BY_DISTANCE[20]))
    assert made.closest(9)[0] == slow[0]
    assert made.take() == [BY_DISTANCE[20]]


def test_no_peer_is_asked_twice_and_nobody_else_answers() -> None:
    made = lookup(*BY_DISTANCE[:30], paths=4)
    asked: list[PeerId] = []
    while chosen := made.take():
        asked += chosen
        for peer in chosen:
            made.answered(peer, contacts(*BY_DISTANCE[:20]))
            made.answered(peer, contacts(*BY_DISTANCE[40:60]))  # again: it has had its turn
    assert len(asked) == len(dict.fromkeys(asked))
    made.answered(BY_DISTANCE[100], contacts(BY_DISTANCE[99]))
    assert BY_DISTANCE[100] not in made.closest(500)


def test_a_liar_spoils_its_own_path_only() -> None:
    invented = peers(4_000, seed=9)
    invented.sort(key=lambda peer: node_id(peer) ^ TARGET)
    lies = contacts(*invented[:20])
    liar = BY_DISTANCE[100]
    results = {}
    for paths in (1, 4):
        made = lookup(liar, *BY_DISTANCE[101:120], paths=paths)
        asked = 0
        while chosen := made.take():
            asked += len(chosen)
            for peer in chosen:
                if peer == liar or peer in invented[:20]:
                    made.answered(peer, lies)
                else:
                    at = BY_DISTANCE.index(peer)
                    made.answered(peer, contacts(*BY_DISTANCE[at // 3 : at // 3 + 20]))
        results[paths] = sum(peer in BY_DISTANCE for peer in made.closest(40))
    assert results[4] >= 20
    assert results[4] >= results[1]


def test_only_k_contacts_of_an_answer_are_looked_at() -> None:
    made = lookup(BY_DISTANCE[200])
    made.take()
    made.answered(BY_DISTANCE[200], contacts(*BY_DISTANCE[100:140], BY_DISTANCE[0]))
    assert BY_DISTANCE[0] not in made.take()


def test_what_it_keeps_and_asks_is_bounded() -> None:
    limits = KademliaLimits(asked_max=25, candidates_max=30)
    made = lookup(*MANY[:30], limits=limits)
    random = Random(1)
    while chosen := made.take():
        for peer in chosen:
            made.answered(peer, contacts(*random.sample(MANY, 20)))
    assert made.asked <= 25
    assert made.is_over


def test_we_are_not_asked_whoever_names_us() -> None:
    made = Lookup(node_id(OWN), node_id(OWN), LIMITS)
    made.start({OWN: 0, MANY[0]: 0})
    assert made.take() == [MANY[0]]
    made.answered(MANY[0], contacts(OWN, MANY[1]))
    assert made.take() == [MANY[1]]


def test_hops_count_from_one() -> None:
    made = lookup(BY_DISTANCE[9])
    made.take()
    made.answered(BY_DISTANCE[9], contacts(BY_DISTANCE[5]))
    made.take()
    made.answered(BY_DISTANCE[5], contacts(BY_DISTANCE[1]))
    assert [made.hops(BY_DISTANCE[n]) for n in (9, 5, 1, 7)] == [1, 2, 3, 0]


def test_peers_from_the_wire_become_peer_ids() -> None:
    made = lookup(BY_DISTANCE[9])
    made.take()
    made.answered(BY_DISTANCE[9], [Contact(bytes(BY_DISTANCE[1]), b"record")])
    (asked,) = made.take()
    assert type(asked) is PeerId
    assert made.records == {node_id(asked) ^ TARGET: b"record"}


# ---- who likely answers

HALF_GONE_S = 1_000  # of those last seen so long ago a half answers
LONG_AGO_S = 3_000


def test_more_are_asked_at_once_the_less_likely_they_answer() -> None:
    assert len(lookup(*BY_DISTANCE[:40]).take()) == 3
    assert len(lookup(*BY_DISTANCE[:40], age_s=HALF_GONE_S).take()) == 5
    assert len(lookup(*BY_DISTANCE[:19], age_s=10**9).take()) == round(LIMITS.alpha / ODDS_MIN) - 2


def test_who_has_most_likely_left_is_passed_over_until_nobody_else_is_left() -> None:
    made = lookup(BY_DISTANCE[60])
    made.take()
    gone, here = BY_DISTANCE[:25:2], BY_DISTANCE[1:20:2]
    made.answered(BY_DISTANCE[60], contacts(*gone[:10], age_s=LONG_AGO_S) + contacts(*here))
    asked: list[PeerId] = []
    while len(asked) < len(here):
        chosen = made.take()
        asked += chosen
        for peer in chosen:
            made.answered(peer, [])
    assert asked == here
    assert not made.is_over
    assert made.take()[0] == gone[0]


def test_the_freshest_word_of_an_age_counts() -> None:
    made = lookup(*BY_DISTANCE[60:63])
    first, second, _ = made.take()
    crowd = BY_DISTANCE[10:29]
    made.answered(first, contacts(BY_DISTANCE[0], age_s=LONG_AGO_S) + contacts(*crowd))
    assert BY_DISTANCE[0] not in made.take()
    made.answered(second, contacts(BY_DISTANCE[0], age_s=30))
    assert made.take()[0] == BY_DISTANCE[0]


def test_a_path_with_few_candidates_passes_nobody_over() -> None:
    assert lookup(*BY_DISTANCE[:2], age_s=LONG_AGO_S).take() == BY_DISTANCE[:2]


@pytest.mark.parametrize("age_s", [2**32 - 1, 0])
def test_lies_about_ages_stay_in_their_path_and_cost_no_success(age_s: int) -> None:
    """A liar says that all honest peers are long gone, or that those who are dead are here."""
    dead = frozenset(BY_DISTANCE[:60:3])
    made = lookup(*BY_DISTANCE[100:120], paths=4)
    liar = BY_DISTANCE[100]
    while chosen := made.take():
        for peer in chosen:
            at = BY_DISTANCE.index(peer)
            if peer == liar:
                made.answered(peer, contacts(*BY_DISTANCE[:20], age_s=age_s))
            elif peer in dead:
                made.failed(peer)
            else:
                near = BY_DISTANCE[at // 3 : at // 3 + 20]
                made.answered(peer, [Contact(p, b"", LONG_AGO_S if p in dead else 10) for p in near])
    assert made.is_over
    assert made.closest(20) == [peer for peer in BY_DISTANCE if peer not in dead][:20]
    assert made.asked < 120


def test_a_lookup_teaches_how_likely_the_next_is_answered() -> None:
    learned = Odds()
    for _ in range(20):
        made = lookup(*BY_DISTANCE[-20:], age_s=HALF_GONE_S, learned=learned)
        finish(made, dead=frozenset())
    assert learned.pace < 0.5
    assert len(lookup(*BY_DISTANCE[:40], age_s=HALF_GONE_S, learned=learned).take()) < 5


# ---- how many at once, and for whom the end waits


def test_those_within_reach_are_asked_at_once() -> None:
    reach = node_id(BY_DISTANCE[11]) ^ TARGET
    made = lookup(*BY_DISTANCE[:40], reach=reach)
    assert made.take() == BY_DISTANCE[:12]


def test_a_reach_that_is_too_far_asks_no_more_than_k() -> None:
    assert len(lookup(*BY_DISTANCE[:40], reach=1 << 256).take()) == LIMITS.k


def test_the_end_waits_for_a_late_one_that_would_be_the_nearest() -> None:
    made = lookup(*BY_DISTANCE[:3], age_s=HALF_GONE_S)
    nearest, second, third = made.take()
    made.late(nearest)
    made.late(third)
    made.answered(second, [])
    assert not made.is_over
    made.slow(nearest)
    assert made.is_over
    made.answered(nearest, [])
    assert made.closest(2) == [nearest, second]


def test_the_end_waits_for_a_late_one_among_the_k_nearest_that_was_seen_just_now() -> None:
    made = lookup(*BY_DISTANCE[:30], reach=1 << 256)
    asked = made.take()
    for peer in asked[:3] + asked[4:]:
        made.answered(peer, [])
    made.late(asked[3])
    (more,) = made.take()
    made.answered(more, [])
    assert more == BY_DISTANCE[20]
    assert not made.is_over  # the fourth is better than the 21st
    made.answered(asked[3], [])
    assert made.is_over
    assert made.closest(20) == BY_DISTANCE[:20]


def test_a_patient_lookup_does_without_what_costs_messages() -> None:
    made = lookup(*BY_DISTANCE[:30], age_s=LONG_AGO_S, reach=1 << 256, is_patient=True)
    assert made.take() == BY_DISTANCE[:3]
    made.late(BY_DISTANCE[0])
    assert made.take() == []
    made.slow(BY_DISTANCE[0])
    assert made.take() == [BY_DISTANCE[3]]
