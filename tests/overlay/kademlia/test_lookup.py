"""One lookup by itself: order, paths that stay apart, slow and dead peers, and its bounds."""

from random import Random

import pytest

from coterie.identity import PeerId
from coterie.overlay.kademlia.keys import node_id
from coterie.overlay.kademlia.limits import KademliaLimits
from coterie.overlay.kademlia.lookup import Lookup
from coterie.overlay.kademlia.messages import Contact
from tests.overlay.kademlia_world import peers

OWN = PeerId(bytes(32))
MANY = peers(300)
TARGET = node_id(PeerId(b"t" * 32))
BY_DISTANCE = sorted(MANY, key=lambda peer: node_id(peer) ^ TARGET)
LIMITS = KademliaLimits()


def lookup(*start: PeerId, paths: int = 1, limits: KademliaLimits = LIMITS) -> Lookup:
    made = Lookup(TARGET, node_id(OWN), limits, paths=paths)
    made.start(start)
    return made


def contacts(*known: PeerId) -> list[Contact]:
    return [Contact(peer) for peer in known]


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
    made.start([OWN, MANY[0]])
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
