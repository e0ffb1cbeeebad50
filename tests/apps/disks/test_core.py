"""Who uses a disk, who gives which block, and the tree that says whether a block is the right one."""

import os

import pytest
from blake3 import blake3

from coterie.apps.disks import tree
from coterie.apps.disks.core import Copies, Uses
from coterie.apps.disks.messages import READERS_MAX
from coterie.errors import LimitExceeded, PeerError


def test_a_writer_is_alone_and_readers_are_many() -> None:
    uses = Uses()
    for who in ("anna", "ben"):
        assert uses.in_the_way(who, "read") == []
        uses.begin(who, "read")
    assert uses.in_the_way("carl", "write") == ["anna", "ben"]
    assert uses.in_the_way("anna", "write") == ["ben"]
    uses.end("ben")
    assert uses.in_the_way("anna", "write") == []
    uses.begin("anna", "write")
    assert uses.in_the_way("ben", "read") == ["anna"]
    assert uses.in_the_way("ben", "write") == ["anna"]
    assert uses.in_the_way("anna", "write") == []
    uses.begin("anna", "read")
    assert uses.in_the_way("ben", "read") == []


def test_readers_have_a_bound() -> None:
    uses = Uses()
    for number in range(READERS_MAX):
        assert uses.in_the_way(number, "read") == []
        uses.begin(number, "read")
    assert uses.in_the_way(0, "read") == []
    with pytest.raises(LimitExceeded):
        uses.in_the_way(READERS_MAX, "read")


def test_the_owner_gives_each_block_once() -> None:
    copies = Copies(100)
    for who in range(12):
        copies.come(who)
    given = [copies.give(who, block) for block in range(100) for who in range(12)]
    assert given.count(None) == 100
    asked = [given.count(who) for who in range(12)]
    assert max(asked) < 2.5 * 1_100 / 12


def test_who_asks_again_gets_it_here_so_that_readers_never_wait_in_a_ring() -> None:
    copies = Copies(10)
    for who in "ab":
        copies.come(who)
    assert copies.give("a", 3) is None
    assert copies.give("b", 3) == "a"
    assert copies.give("a", 3) is None
    assert copies.give("b", 3) is None


def test_who_fails_is_not_named_again_to_the_same() -> None:
    copies = Copies(10)
    for who in "abc":
        copies.come(who)
    assert copies.give("a", 3) is None
    assert copies.give("b", 3) == "a"
    copies.failed("b", "a", 3)
    assert copies.give("b", 3, insist=True) is None
    assert copies.give("c", 3) == "b"
    assert copies.give("a", 4) is None
    assert copies.give("b", 4) is None  # not from a, which b does not reach
    copies.go("b")
    assert copies.give("c", 4) == "a"


def test_a_tree_knows_its_pages_and_blocks() -> None:
    data = os.urandom(3 * tree.BLOCK_BYTES + 5)
    size = len(data)
    digests = [blake3(data[at : at + tree.BLOCK_BYTES]).digest() for at in range(0, size, tree.BLOCK_BYTES)]
    pages = tree.pages(digests)
    listed = tree.listed(pages)
    root = tree.root_of(size, listed)
    assert tree.blocks_of(size) == 4
    assert tree.block_bytes(size, 3) == 5
    found = tree.read_list(listed, size, root)
    assert tree.read_page(pages[0], size, 0, found[0]) == digests
    for wrong in (listed[:-1] + b"x", listed + bytes(32), b""):
        with pytest.raises(PeerError):
            tree.read_list(wrong, size, root)
    with pytest.raises(PeerError):
        tree.read_list(listed, size + 1, root)
    with pytest.raises(PeerError):
        tree.read_page(pages[0][32:] + pages[0][:32], size, 0, found[0])
