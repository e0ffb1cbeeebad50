"""Manifests: one encoding for each node, and nothing else is believed."""

from pathlib import Path

import msgspec
import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from coterie.content import builder
from coterie.content import manifest as m
from coterie.errors import PeerError

HASH = bytes(range(32))
OTHER = bytes(range(1, 33))


def chunks(count: int, size: int = 1000) -> list[m.Chunk]:
    return [(index.to_bytes(32, "big"), size) for index in range(count)]


def file(name: str = "a", size: int = 5, **fields: object) -> m.FileEntry:
    values = {
        "executable": False,
        "mtime_ns": 0,
        "chunks": m.pack_chunks([(HASH, size)] if 0 < size < 2**32 else []),
    }
    return m.FileEntry(name=name, size=size, **{**values, **fields})


def tree(*entries: m.Entry) -> bytes:
    return m.encode(m.TreeLeaf(entries))


def raw(value: object) -> bytes:
    return msgspec.msgpack.encode(value)


def test_golden_bytes_of_every_kind_of_node() -> None:
    assert m.encode(m.BlobLeaf(m.pack_chunks([(HASH, 5)]))).hex() == f"9201c424{HASH.hex()}00000005"
    index = m.BlobIndex(1, m.CHILD.pack(HASH, 7) + m.CHILD.pack(OTHER, 8))
    assert m.encode(index).hex() == f"930201c450{HASH.hex()}{7:016x}{OTHER.hex()}{8:016x}"
    leaf = m.TreeLeaf(
        (
            m.DirectoryEntry("d", -1, HASH, 2, 300),
            m.FileEntry("f", True, 1, 5, m.pack_chunks([(HASH, 5)])),
            m.LinkEntry("l", "f"),
        )
    )
    assert m.encode(leaf).hex() == (
        f"9203939602a164ffc420{HASH.hex()}02cd012c9701a166c30105c424{HASH.hex()}00000005c4009303a16ca166"
    )
    pages = m.TreeIndex(1, (m.Page("a", HASH, 1, 2), m.Page("b", OTHER, 3, 4)))
    assert m.encode(pages).hex() == f"9304019294a161c420{HASH.hex()}010294a162c420{OTHER.hex()}0304"
    assert m.node_id(m.encode(m.BlobLeaf(b""))).hex() == (
        "c46860ce48bd7337af0f45ebae81738bc0548ed902edc4e114347523f84c62aa"
    )


def test_the_worked_example_of_the_protocol_page() -> None:
    nodes: dict[bytes, bytes] = {}
    digest = blake3(b"hello\n").digest()
    empty = builder.build_tree([], nodes.__setitem__)
    hello = m.FileEntry("hello.txt", False, 1_700_000_000_000_000_000, 6, m.pack_chunks([(digest, 6)]))
    folder = m.DirectoryEntry("empty", 0, empty.id, 0, 0)
    built = builder.build_tree([hello, folder, m.LinkEntry("link", "hello.txt")], nodes.__setitem__)
    page = (Path(__file__).parents[2] / "docs" / "protocol" / "manifests.md").read_text()
    blocks = ["".join(block.split()) for block in page.split("```")[1::2]]
    assert blocks == [empty.id.hex(), digest.hex(), nodes[built.id].hex(), built.id.hex()]
    assert built.id.hex() == "24238935c5ebd8b4557c94a28e8080ca3e9a373dd04f53d8946116e58c2d825e"


@pytest.mark.parametrize("count", [0, 1, 8, 9, 8192, 8193, 20_000])
def test_a_blob_of_any_length_comes_back(count: int) -> None:
    nodes: dict[bytes, bytes] = {}
    wanted = chunks(count)
    built = builder.build_blob(wanted, nodes.__setitem__)
    assert (built.files, built.size) == (1, count * 1000)
    assert walk(nodes, built.id) == wanted


def walk(nodes: dict[bytes, bytes], root: bytes) -> list[m.Chunk]:
    found: list[m.Chunk] = []
    waiting: list[m.Child | bytes] = [root]
    while waiting:
        child = waiting.pop()
        name = child if isinstance(child, bytes) else child.id
        node = m.decode(nodes[name], name)
        if isinstance(child, m.Child):
            m.check_child(child, node)
        found += m.leaf_chunks(node)
        before = child.before if isinstance(child, m.Child) else None
        waiting += reversed(m.children(node, before))
    return found


def test_a_blob_index_never_has_a_single_child() -> None:
    nodes: dict[bytes, bytes] = {}
    built = builder.build_blob(chunks(m.BLOB_CHILDREN_MAX + 1), nodes.__setitem__)
    top = m.decode(nodes[built.id])
    assert isinstance(top, m.BlobIndex)
    assert len(m.children(top)) == 2


@pytest.mark.parametrize("count", [0, 1, 4096, 4097, 10_000])
def test_a_folder_of_any_length_comes_back(count: int) -> None:
    nodes: dict[bytes, bytes] = {}
    entries = [file(f"{index:06}", 1) for index in range(count)]
    built = builder.build_tree(reversed(entries), nodes.__setitem__)
    assert (built.files, built.size) == (count, count)
    assert all(len(data) <= m.MANIFEST_BYTES_MAX for data in nodes.values())
    assert walk(nodes, built.id) == [(HASH, 1)] * count


def test_pages_keep_to_the_byte_bound_with_the_longest_entries() -> None:
    nodes: dict[bytes, bytes] = {}
    packed = m.pack_chunks(chunks(8))
    entries = [m.FileEntry(f"{n:0255}", False, 2**62, 8000, packed) for n in range(3 * 4096)]
    built = builder.build_tree(entries, nodes.__setitem__)
    assert max(map(len, nodes.values())) <= m.MANIFEST_BYTES_MAX
    assert len(walk(nodes, built.id)) == 8 * len(entries)


def test_the_order_of_entries_does_not_change_the_id() -> None:
    entries = [file("b"), file("a"), m.LinkEntry("ä", "a"), m.DirectoryEntry("z", 0, HASH, 0, 0)]
    ids = {builder.build_tree(order, lambda *_: None).id for order in (entries, entries[::-1])}
    assert len(ids) == 1


def test_too_many_children_for_three_levels_is_said() -> None:
    class Endless(list):
        def __len__(self) -> int:
            return m.BLOB_CHILDREN_MAX**3 + 1

    with pytest.raises(Exception, match="does not fit"):
        builder.build_blob(Endless(), lambda *_: None)


HOSTILE = {
    "an unknown kind": raw([9, b""]),
    "nothing": b"",
    "garbage": b"\xc1\x00\xff",
    "a number": raw(7),
    "a field too many": raw([1, b"", 0]),
    "a field too few": raw([3]),
    "bytes behind it": m.encode(m.BlobLeaf(b"")) + b"\0",
    "a longer form of a number": b"\x92\xcc\x01\xc4\x00",
    "a longer form of bytes": b"\x92\x01\xc5\x00\x00",
    "half a chunk": raw([1, b"x" * 35]),
    "a chunk of no bytes": raw([1, m.pack_chunks([(HASH, 0)])]),
    "a chunk over the largest": raw([1, m.pack_chunks([(HASH, m.CHUNK_BYTES_MAX + 1)])]),
    "too many chunks": raw([1, m.pack_chunks(chunks(m.BLOB_CHILDREN_MAX + 1, 1))]),
    "an index with one child": raw([2, 1, m.CHILD.pack(HASH, 1)]),
    "an index with none": raw([2, 1, b""]),
    "an index of level 0": raw([2, 0, m.CHILD.pack(HASH, 1) * 2]),
    "an index that is too deep": raw([2, 3, m.CHILD.pack(HASH, 1) * 2]),
    "an index child of no bytes": raw([2, 1, m.CHILD.pack(HASH, 0) * 2]),
    "an index over 63 bits": raw([2, 1, m.CHILD.pack(HASH, 2**63 - 1) * 2]),
    "names out of order": tree(file("b"), file("a")),
    "a name twice": tree(file("a"), m.LinkEntry("a", "b")),
    "an empty name": tree(file("")),
    "dot": tree(file(".")),
    "dot dot": tree(file("..")),
    "a slash": tree(file("a/b")),
    "an absolute name": tree(file("/etc")),
    "a NUL": tree(file("a\0")),
    "a name of 256 bytes": tree(file("x" * 256)),
    "a name of 128 two-byte characters": tree(file("é" * 128)),
    "a name that is no UTF-8": raw([3, [[3, "n", "t"]]]).replace(b"\xa1n", b"\xa1\xff"),
    "a name with a surrogate": raw([3, [[3, "nnn", "t"]]]).replace(b"nnn", b"\xed\xa0\x80"),
    "a size that is not the chunks'": tree(file(size=5, chunks=m.pack_chunks([(HASH, 6)]))),
    "bytes without chunks": tree(file(size=5, chunks=b"")),
    "chunks without bytes": tree(file(size=0, chunks=m.pack_chunks([(HASH, 6)]))),
    "more chunks in an entry than fit": tree(
        file(size=m.INLINE_CHUNKS_MAX + 1, chunks=m.pack_chunks(chunks(m.INLINE_CHUNKS_MAX + 1, 1)))
    ),
    "chunks and a blob": tree(file(size=5, blob=HASH)),
    "a blob id of 31 bytes": tree(file(size=5000, chunks=b"", blob=HASH[:31])),
    "a blob for a few bytes": tree(file(size=8, chunks=b"", blob=HASH)),
    "a size below zero": tree(file(size=-1, chunks=b"", blob=HASH)),
    "a size over 63 bits": tree(file(size=2**63, chunks=b"", blob=HASH)),
    "a time over 64 bits": tree(file(mtime_ns=2**63)),
    "sizes over 63 bits together": tree(
        m.DirectoryEntry("a", 0, HASH, 1, 2**62), m.DirectoryEntry("b", 0, HASH, 1, 2**62)
    ),
    "files below zero": tree(m.DirectoryEntry("a", 0, HASH, -1, 0)),
    "a tree id of no bytes": tree(m.DirectoryEntry("a", 0, b"", 0, 0)),
    "a link to nothing": tree(m.LinkEntry("a", "")),
    "a link with a NUL": tree(m.LinkEntry("a", "b\0")),
    "a link of 4096 bytes": tree(m.LinkEntry("a", "x" * 4096)),
    "too many entries": tree(*(m.LinkEntry(f"{n:05}", "x") for n in range(m.TREE_ENTRIES_MAX + 1))),
    "one page": raw([4, 1, [["a", HASH, 1, 1]]]),
    "pages out of order": raw([4, 1, [["b", HASH, 1, 1], ["a", HASH, 1, 1]]]),
    "pages over 63 bits": raw([4, 1, [["a", HASH, 1, 2**62], ["b", HASH, 1, 2**62]]]),
    "a node over the bound": raw([1, b"x" * m.MANIFEST_BYTES_MAX]),
    "a boolean as a number": raw([3, [[1, "a", 0, 0, 0, b"", b""]]]),
    "nesting": b"\x91" * 5000,
}


@pytest.mark.parametrize("what", HOSTILE)
def test_what_breaks_a_rule_is_refused(what: str) -> None:
    with pytest.raises(PeerError):
        m.decode(HOSTILE[what])


def test_a_node_must_have_the_hash_that_it_was_asked_for_by() -> None:
    data = m.encode(m.BlobLeaf(b""))
    assert m.decode(data, m.node_id(data)) == m.BlobLeaf(b"")
    with pytest.raises(PeerError, match="hash"):
        m.decode(data, HASH)


def test_the_bounds_themselves_are_allowed() -> None:
    for data in (
        raw([1, m.pack_chunks(chunks(m.BLOB_CHILDREN_MAX, m.CHUNK_BYTES_MAX))]),
        tree(file("x" * 255), file("é" * 127)),
        tree(file(mtime_ns=-(2**63)), m.DirectoryEntry("b", 2**63 - 1, HASH, 0, 2**63 - 6)),
    ):
        assert m.encode(m.decode(data)) == data


LEAF = m.TreeLeaf((file("a", 5), file("b", 6)))
BIG_BYTES = 10 * (m.INLINE_CHUNKS_MAX + 1)
BIG = m.BlobLeaf(m.pack_chunks(chunks(m.INLINE_CHUNKS_MAX + 1, 10)))
LIES = {
    "more files": (m.Child(HASH, m.Kind.TREE, None, 3, 11), LEAF),
    "other bytes": (m.Child(HASH, m.Kind.TREE, None, 2, 12), LEAF),
    "a blob that is a tree": (m.Child(HASH, m.Kind.BLOB, None, 2, 11), LEAF),
    "another level": (m.Child(HASH, m.Kind.TREE, 1, 2, 11), LEAF),
    "another first name": (m.Child(HASH, m.Kind.TREE, 0, 2, 11, "aa"), LEAF),
    "names of the next page": (m.Child(HASH, m.Kind.TREE, 0, 2, 11, "a", "b"), LEAF),
    "a file of another size": (m.Child(HASH, m.Kind.BLOB, None, 1, BIG_BYTES + 1), BIG),
    "a small file's own blob": (
        m.Child(HASH, m.Kind.BLOB, None, 1, BIG_BYTES - 10),
        m.BlobLeaf(m.pack_chunks(chunks(m.INLINE_CHUNKS_MAX, 10))),
    ),
}


@pytest.mark.parametrize("what", LIES)
def test_a_parent_that_lies_about_its_child_is_found_out(what: str) -> None:
    child, node = LIES[what]
    with pytest.raises(PeerError):
        m.check_child(child, node)


def test_a_parent_that_tells_the_truth_is_believed() -> None:
    m.check_child(m.Child(HASH, m.Kind.TREE, 0, 2, 11, "a", "c"), LEAF)
    m.check_child(m.Child(HASH, m.Kind.BLOB, None, 1, BIG_BYTES), BIG)


def test_leaf_chunks_of_a_page_are_those_of_its_entries_in_order() -> None:
    many = file("b", 9000, chunks=b"", blob=HASH)
    leaf = m.TreeLeaf((file("a", 5), many, m.LinkEntry("c", "a"), file("d", 6)))
    assert m.leaf_chunks(leaf) == [(HASH, 5), (HASH, 6)]
    assert [child.id for child in m.children(leaf)] == [HASH]


@given(st.binary(max_size=300))
def test_no_bytes_do_anything_but_decode_or_raise(data: bytes) -> None:
    try:
        node = m.decode(data)
    except PeerError:
        return
    assert m.encode(node) == data


@settings(max_examples=300)
@given(st.data())
def test_a_valid_node_with_bytes_changed_decodes_to_itself_or_raises(data: st.DataObject) -> None:
    whole = bytearray(
        data.draw(st.sampled_from([m.encode(LEAF), m.encode(BIG), raw([4, 1, [["a", HASH, 1, 1]] * 2])]))
    )
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        node = m.decode(bytes(whole))
    except PeerError:
        return
    assert m.encode(node) == whole
