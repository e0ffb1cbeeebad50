"""The routing table: order, liveness, replacements, proximity, networks, and its bounds."""

from random import Random

import pytest

from coterie.identity import PeerId
from coterie.overlay.kademlia.keys import ID_BITS, node_id
from coterie.overlay.kademlia.limits import KademliaLimits
from coterie.overlay.kademlia.table import Table
from tests.overlay.kademlia_world import peers

OWN = PeerId(bytes(32))
LIMITS = KademliaLimits()
MANY = peers(2_000)
FAR = [
    peer for peer in MANY if (node_id(peer) ^ node_id(OWN)).bit_length() == ID_BITS
]  # one bucket: half of them


def table(limits: KademliaLimits = LIMITS, **options: object) -> Table:
    return Table(OWN, limits, **options)  # type: ignore[arg-type]


def filled(*known: PeerId, limits: KademliaLimits = LIMITS) -> Table:
    made = table(limits)
    for peer in known:
        made.answered(peer, 0.0, 0.1)
    return made


def test_the_nearest_are_found_whatever_the_target() -> None:
    made = filled(*MANY)
    inside = [contact.peer for contact in made.contacts]
    for target in (node_id(peer) for peer in peers(50, 7)):
        for count in (1, 20, 400):
            found = [contact.peer for contact in made.closest(target, count)]
            assert found == sorted(inside, key=lambda peer: node_id(peer) ^ target)[:count]
    without = made.closest(node_id(MANY[0]), 5, without=inside[0])
    assert len(without) == 5
    assert inside[0] not in [contact.peer for contact in without]


def test_a_bucket_holds_k_and_the_old_stay() -> None:
    made = filled(*FAR)
    assert [contact.peer for contact in made.contacts] == FAR[: LIMITS.k]
    ((_, bucket),) = made.buckets
    assert list(bucket.waiting.values()) == FAR[-LIMITS.replacements_max :]


def test_the_whole_table_is_bounded() -> None:
    limits = KademliaLimits(k=2, prefix_bits_max=3)
    made = filled(*MANY, limits=limits)
    assert len(made) == 2 * 4  # three buckets of single bits, and one of all that is nearer
    assert len(made.buckets) == 4


def test_we_are_not_in_our_own_table() -> None:
    made = filled(OWN)
    assert len(made) == 0
    assert OWN not in made


def test_who_asks_is_to_be_pinged_while_there_is_room() -> None:
    made = filled(*FAR[: LIMITS.k - 1])
    assert made.asked(FAR[30], 1.0)
    assert FAR[30] not in made
    made.answered(FAR[30], 1.0, 0.1)
    assert FAR[30] in made
    assert not made.asked(FAR[31], 2.0)


def test_a_sign_of_life_from_a_contact_counts() -> None:
    made = filled(FAR[0])
    made.failed(FAR[0])
    assert not made.closest(0, 1)
    assert not made.asked(FAR[0], 5.0)
    (contact,) = made.closest(0, 1)
    assert (contact.seen_at, contact.failures) == (5.0, 0)


def test_a_failing_contact_goes_at_once_when_another_waits() -> None:
    made = filled(*FAR[: LIMITS.k + 2])
    for _ in range(LIMITS.failures_replaced_max - 1):
        assert made.failed(FAR[0]) is None
    assert made.failed(FAR[0]) == FAR[LIMITS.k + 1]  # the most recently seen of those that wait
    assert FAR[0] not in made


def test_a_failing_contact_stays_for_a_while_when_nobody_waits() -> None:
    made = filled(FAR[0])
    for _ in range(LIMITS.failures_max - 1):
        made.failed(FAR[0])
    assert FAR[0] in made
    assert not made.closest(0, 5)  # but nobody is told of it
    made.failed(FAR[0])
    assert FAR[0] not in made


def test_a_newcomer_takes_the_place_of_a_dead_contact() -> None:
    made = filled(*FAR[: LIMITS.k])
    for _ in range(LIMITS.failures_replaced_max):
        made.failed(FAR[3])
    assert made.asked(FAR[50], 1.0)
    made.answered(FAR[50], 1.0, 0.1)
    assert FAR[50] in made
    assert FAR[3] not in made


def test_a_full_bucket_names_its_doubtful_contact() -> None:
    made = filled(*FAR[: LIMITS.k])
    assert made.answered(FAR[30], 1.0, 0.1) is None  # the oldest was seen a second ago
    doubtful = made.answered(FAR[31], 10_000.0, 0.1)
    assert doubtful is not None
    assert doubtful.peer == FAR[0]


def test_a_much_nearer_peer_takes_the_slowest_place_but_seldom() -> None:
    near = [peer for peer in MANY if peer not in FAR][:25]
    made = filled(*FAR[: LIMITS.k], *near)
    made.answered(FAR[5], 1.0, 2.0)  # smoothed: slower than all others
    made.answered(FAR[40], LIMITS.near_every_s + 1, 0.01)
    assert FAR[40] in made
    assert FAR[5] not in made
    made.answered(FAR[41], LIMITS.near_every_s + 2, 0.001)
    assert FAR[41] not in made


def test_short_lines_do_not_collect_a_bucket() -> None:
    near = [peer for peer in MANY if peer not in FAR][:25]
    made = filled(*FAR[: LIMITS.k], *near)
    for number, peer in enumerate(FAR[100:200]):
        made.answered(peer, (number + 1) * (LIMITS.near_every_s + 1), 0.1 / 3**number)
    assert sum(contact.is_near for contact in made.contacts) == LIMITS.near_max


def test_one_network_gets_few_places() -> None:
    made = table(network_of=lambda peer: "lab")
    for peer in MANY:
        made.answered(peer, 0.0, 0.1)
    assert len(made) == LIMITS.per_network_table_max
    assert max(len(bucket.contacts) for _, bucket in made.buckets) == LIMITS.per_network_bucket_max
    gone = next(made.contacts).peer
    made.remove(gone)
    made.answered(MANY[0], 0.0, 0.1)
    made.answered(gone, 0.0, 0.1)
    assert len(made) <= LIMITS.per_network_table_max


def test_the_reach_is_the_distance_of_the_kth_neighbour() -> None:
    made = filled(*MANY)
    distances = sorted(contact.id ^ made.own_id for contact in made.contacts)
    assert made.reach() == distances[LIMITS.k - 1]
    assert filled(MANY[0]).reach() == 2**ID_BITS - 1


@pytest.mark.parametrize("number", [ID_BITS, ID_BITS - 5, ID_BITS - LIMITS.prefix_bits_max])
def test_random_places_fall_into_their_bucket(number: int) -> None:
    made, random = table(), Random(1)
    assert {made.number(made.random_place(number, random)) for _ in range(50)} == {number}
