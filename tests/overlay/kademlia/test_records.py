"""What a node keeps for others: the newest item, the fair share of each peer, and bounds that hold."""

from random import Random

from coterie.identity import PeerId, SecretKey
from coterie.overlay.kademlia.keys import Item, plain_item, signed_item
from coterie.overlay.kademlia.limits import KademliaLimits
from coterie.overlay.kademlia.records import Items, Providers
from tests.overlay.kademlia_world import peers

KEY = SecretKey(bytes(range(32)))
MANY = peers(500)
DAY_S = 86_400.0
HOUR_S = 3_600.0


def providers(**limits: int) -> Providers:
    return Providers(KademliaLimits(**limits), Random(1))


def items(own: int = 0, **limits: int) -> Items:
    return Items(own, KademliaLimits(**limits), Random(1))


def news(sequence: int, text: bytes = b"news", expires: int = 10**6) -> Item:
    return signed_item(KEY, text, sequence=sequence, expires=expires)


def place(item: Item) -> int:
    return int.from_bytes(item.key, "big")


# ---- providers


def test_providers_are_kept_until_they_expire() -> None:
    kept = providers()
    assert kept.add(1, MANY[0], 10.0)
    assert kept.add(1, MANY[1], 20.0)
    assert kept.get(1, 5.0, 20) == MANY[:2]
    assert kept.get(1, 10.0, 20) == [MANY[1]]
    assert kept.add(1, MANY[0], 30.0)  # renewed
    kept.expire(20.0)
    assert (len(kept), kept.keys, kept.get(1, 0.0, 20)) == (1, 1, [MANY[0]])
    kept.expire(40.0)
    assert (len(kept), kept.keys) == (0, 0)


def test_a_flood_of_announcers_neither_displaces_the_old_nor_bars_the_new() -> None:
    kept = providers(providers_per_key_max=10)
    for peer in MANY:
        assert kept.add(1, peer, 10.0)
        assert len(kept) <= 10
    named = kept.get(1, 0.0, 10)
    assert named[:5] == MANY[:5]
    assert MANY[-1] in named


def test_an_answer_is_a_sample() -> None:
    kept = providers()
    for peer in MANY[:40]:
        kept.add(1, peer, 10.0)
    drawn = [tuple(kept.get(1, 0.0, 20)) for _ in range(20)]
    assert all(len(named) == 20 and list(named[:10]) == MANY[:10] for named in drawn)
    assert len({peer for named in drawn for peer in named}) > 30


def test_one_announcer_has_so_many_keys_and_no_more() -> None:
    kept = providers(providers_per_peer_max=5)
    assert [kept.add(key, MANY[0], 10.0) for key in range(7)] == [True] * 5 + [False] * 2
    assert kept.add(0, MANY[0], 20.0)
    assert kept.add(9, MANY[1], 10.0)


def test_when_all_is_full_whoever_holds_the_most_gives_one_up() -> None:
    kept = providers(providers_max=10, providers_per_peer_max=10)
    for key in range(10):
        kept.add(key, MANY[0], 10.0)
    for key in range(5):
        assert kept.add(100 + key, MANY[1], 10.0)
    assert not kept.add(200, MANY[1], 10.0)  # both hold five now
    assert kept.add(200, MANY[2], 10.0)
    assert len(kept) == 10


# ---- items


def test_an_item_is_kept_until_it_expires() -> None:
    kept, item = items(), plain_item(b"hello")
    assert kept.put(item, MANY[0], 0.0, 100.0)
    assert kept.get(place(item), 99.0) == item
    assert kept.get(place(item), 100.0) is None
    kept.expire(100.0)
    assert len(kept) == 0


def test_storing_again_prolongs_and_never_shortens() -> None:
    kept, item = items(), plain_item(b"hello")
    kept.put(item, MANY[0], 0.0, 100.0)
    assert kept.put(item, MANY[1], 50.0, 10.0)
    assert kept.get(place(item), 99.0) == item
    kept.put(item, MANY[1], 50.0, 100.0)
    assert kept.get(place(item), 149.0) == item


def test_the_newest_sequence_wins_and_an_old_one_does_not_come_back() -> None:
    kept = items()
    assert kept.put(news(2), MANY[0], 0.0, DAY_S)
    assert not kept.put(news(1), MANY[0], 0.0, DAY_S)
    assert not kept.put(news(2, b"other"), MANY[0], 0.0, DAY_S)
    assert kept.put(news(3, b"newer"), MANY[0], 0.0, 10.0)
    found = kept.get(place(news(1)), 0.0)
    assert found is not None
    assert (found.sequence, found.value) == (3, b"newer")
    assert kept.get(place(news(1)), 10.0) is None  # the newer one's own lifetime


def test_a_signed_item_ends_by_its_own_word() -> None:
    kept = items()
    kept.put(news(1, expires=50), MANY[0], 0.0, DAY_S)
    assert kept.get(place(news(1)), 49.0) is not None
    assert kept.get(place(news(1)), 50.0) is None


def test_one_sender_has_so_many_items_and_no_more() -> None:
    kept = items(items_per_peer_max=3)
    made = [plain_item(b"%d" % number) for number in range(5)]
    assert [kept.put(item, MANY[0], 0.0, DAY_S) for item in made] == [True] * 3 + [False] * 2
    assert kept.put(made[3], MANY[1], 0.0, DAY_S)
    kept.expire(DAY_S)
    assert kept.put(made[4], MANY[0], DAY_S, DAY_S)  # places that expired are free again


def test_a_full_store_keeps_the_nearest_to_us() -> None:
    kept = items(items_max=10)
    made = [plain_item(b"%d" % number) for number in range(60)]
    for item in made:
        kept.put(item, MANY[0], 0.0, DAY_S)
    assert sorted(kept.keys) == sorted(item.key for item in made)[:10]


def test_an_item_is_stored_again_unless_somebody_did() -> None:
    kept, item = items(), plain_item(b"hello")
    kept.put(item, MANY[0], 0.0, DAY_S)
    assert not kept.due(0.7 * HOUR_S, 10)
    (due,) = kept.due(HOUR_S, 10)
    assert due.item == item
    assert not kept.due(HOUR_S, 10)
    kept.put(item, MANY[1], 1.7 * HOUR_S, DAY_S)
    assert not kept.due(2.0 * HOUR_S, 10)
    kept.leave(item.key)
    assert not kept.due(20 * HOUR_S, 10)
    kept.put(item, MANY[1], 20 * HOUR_S, DAY_S)
    assert kept.due(21 * HOUR_S, 10)


def test_so_many_are_due_at_once_and_no_more() -> None:
    kept = items()
    for number in range(20):
        kept.put(plain_item(b"%d" % number), MANY[0], 0.0, DAY_S)
    assert [len(kept.due(HOUR_S, 8)) for _ in range(4)] == [8, 8, 4, 0]


def test_peers_are_told_apart_by_their_bytes() -> None:
    kept = providers(providers_per_peer_max=1)
    assert kept.add(1, PeerId(bytes(MANY[0])), 1.0)
    assert not kept.add(2, PeerId(bytes(MANY[0])), 1.0)
