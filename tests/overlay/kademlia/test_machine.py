"""The machine among others: join, find, store, serve or not, and outlive the end of a process."""

import pytest

from coterie.identity import SecretKey
from coterie.overlay.kademlia.events import Outcome, Provide, Put, SeekNode, SeekProviders, SeekValue
from coterie.overlay.kademlia.keys import content_key, node_id, plain_item, publisher_key, signed_item
from tests.overlay.kademlia_world import joined, key_of, run

KEY = SecretKey(bytes(range(32)))


@pytest.mark.parametrize("paths", [1, 4])
def test_every_node_finds_every_other(paths: int) -> None:
    world, names = joined(60)
    for number, wanted in enumerate(names):
        asker = names[(number * 7 + 3) % len(names)]
        if asker != wanted:
            end = run(world, asker, SeekNode(lookup=number, key=key_of(wanted), paths=paths), for_s=5)
            assert end.outcome is Outcome.DONE
            assert end.closest[0] == wanted
            others = sorted((n for n in names if n != asker), key=lambda n: node_id(n) ^ node_id(wanted))
            assert list(end.closest) == others[:20]


def test_an_item_is_found_by_all() -> None:
    world, names = joined(40)
    item = plain_item(b"hello")
    assert run(world, names[0], Put(lookup="put", item=item)).stored == 20
    for number, name in enumerate(names):
        end = run(world, name, SeekValue(lookup=number, key=item.key), for_s=5)
        assert (end.outcome, end.item) == (Outcome.DONE, item)


def test_the_newest_signed_item_is_found() -> None:
    world, names = joined(40)
    key = publisher_key(KEY.peer_id, b"news")
    for sequence in (1, 2):
        item = signed_item(KEY, b"%d" % sequence, sequence=sequence, expires=10**6, salt=b"news")
        assert item.key == key
        assert run(world, names[sequence], Put(lookup="put", item=item)).stored == 20
    end = run(world, names[9], SeekValue(lookup=1, key=key))
    assert end.item is not None
    assert end.item.value == b"2"


def test_providers_are_found_with_their_votes() -> None:
    world, names = joined(40)
    key = content_key(b"a song")
    for name in names[:3]:
        assert run(world, name, Provide(lookup="provide", key=key)).stored == 20
    end = run(world, names[30], SeekProviders(lookup="seek", key=key))
    assert {peer for peer, _ in end.providers} == set(names[:3])
    assert all(votes >= 19 for _, votes in end.providers)
