"""A shared tree is read out of the folder where it lies; what is not there as it was is had elsewhere, or not."""

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from blake3 import blake3

from coterie.content import Store, tree_reader
from coterie.content import manifest as m
from coterie.content.importer import import_path
from coterie.content.reader import CHANGED, GONE, ChunkUnavailable
from coterie.content.tree_reader import TreeReader

SIZES = {"a/small": 100, "a/b/cut": 60_000, "a/b/other": 5_000, "c/alone": 70_000, "top": 1}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "home" / "store.db") as opened:
        yield opened


def shared(store: Store, folder: Path) -> TreeReader:
    rng = random.Random(1)
    for name, size in SIZES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(rng.randbytes(size))
    return reader_of(store, folder)


def reader_of(store: Store, folder: Path) -> TreeReader:
    root = import_path(store, folder).root
    return TreeReader(store, root, os.fsencode(os.path.realpath(folder)))


def pages(store: Store, folder: Path, reader: TreeReader) -> dict[bytes, m.TreeLeaf]:
    """Every page, asked for from the top down."""
    root = next(root.id for root in store.roots() if folder in root.paths)
    found, waiting = {}, [root]
    while waiting:
        node_id = waiting.pop()
        data = reader.node(node_id)
        assert data == store.manifest(node_id)
        assert data is not None
        node = m.decode(data, node_id)
        if isinstance(node, m.TreeLeaf):
            found[node_id] = node
        waiting += [child.id for child in m.children(node) if child.kind is m.Kind.TREE]
    return found


def read(reader: TreeReader, manifest: bytes, *, has_room: bool = False) -> list[bytes | str]:
    """What it gives of a page, chunk by chunk; why not where it does not."""
    buffer = memoryview(bytearray(1 << 20))
    chunks = reader.chunks(manifest)
    assert chunks is not None
    data = reader.read(manifest, 0, len(chunks), (lambda size: buffer[:size]) if has_room else None)
    return [one.reason if isinstance(one, ChunkUnavailable) else bytes(one) for one in data]


@pytest.mark.parametrize("has_room", [False, True])
def test_every_chunk_of_every_page_comes_in_order(store: Store, tmp_path: Path, has_room: bool) -> None:
    reader = shared(store, tmp_path / "tree")
    seen = pages(store, tmp_path / "tree", reader)
    assert len(seen) == 4
    for manifest, page in seen.items():
        digests = [blake3(data).digest() for data in read(reader, manifest, has_room=has_room)]  # type: ignore[arg-type]
        assert digests == [digest for digest, _ in m.leaf_chunks(page)]


def test_a_part_of_a_page_comes_from_the_middle_of_a_file(store: Store, tmp_path: Path) -> None:
    reader = shared(store, tmp_path / "tree")
    for manifest, page in pages(store, tmp_path / "tree", reader).items():
        chunks = m.leaf_chunks(page)
        for first in range(len(chunks)):
            found = list(reader.read(manifest, first, 3))
            assert [blake3(data).digest() for data in found] == [d for d, _ in chunks[first : first + 3]]  # type: ignore[arg-type]


def test_what_was_not_asked_for_from_the_top_down_is_not_known(store: Store, tmp_path: Path) -> None:
    reader = shared(store, tmp_path / "tree")
    below = set(pages(store, tmp_path / "tree", reader_of(store, tmp_path / "tree")))
    root = next(root.id for root in store.roots())
    assert all(reader.node(one) is None and reader.chunks(one) is None for one in below - {root})
    (tmp_path / "else").mkdir()
    other = import_path(store, tmp_path / "else").root
    assert reader.node(other) is None


def page_of(store: Store, folder: Path, reader: TreeReader, name: str) -> bytes:
    found = pages(store, folder, reader)
    return next(k for k, page in found.items() if any(e.name == name for e in page.entries))


def test_a_changed_file_is_not_given_and_what_is_beside_it_is(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "tree"
    reader = shared(store, folder)
    manifest = page_of(store, folder, reader, "cut")
    whole = read(reader, manifest)
    (folder / "a/b/other").write_bytes(b"x" * 5_000)
    found = read(reader, manifest)
    assert found[:-1] == whole[:-1] or CHANGED in found
    assert b"x" * 100 not in b"".join(one for one in found if isinstance(one, bytes))
    assert found.count(CHANGED) == len(m.unpack_chunks(entry(store, manifest, "other").chunks))
    assert store.changed_files(store.roots()[0].id) == [folder / "a/b/other"]
    (folder / "a/b/cut").unlink()
    assert set(read(reader, manifest)) == {GONE, CHANGED}


def entry(store: Store, manifest: bytes, name: str) -> m.FileEntry:
    node = m.decode(store.manifest(manifest) or b"")
    assert isinstance(node, m.TreeLeaf)
    return next(e for e in node.entries if isinstance(e, m.FileEntry) and e.name == name)


def test_what_was_moved_to_another_share_is_found_there(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "tree"
    reader = shared(store, folder)
    manifest = page_of(store, folder, reader, "cut")
    whole = read(reader, manifest)
    (folder / "a/b").rename(tmp_path / "moved")
    import_path(store, tmp_path / "moved")
    assert read(reader, manifest) == whole


def test_a_link_in_the_place_of_a_folder_or_file_is_not_followed(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "tree"
    reader = shared(store, folder)
    manifest, top = page_of(store, folder, reader, "cut"), page_of(store, folder, reader, "top")
    (folder / "a/b").rename(tmp_path / "moved")
    (folder / "a/b").symlink_to(tmp_path / "moved")
    (folder / "top").rename(tmp_path / "top")
    (folder / "top").symlink_to(tmp_path / "top")
    assert set(read(reader, manifest)) == {CHANGED}
    assert set(read(reader, top)) == {CHANGED}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_in_the_place_of_a_file_is_not_opened(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "tree"
    reader = shared(store, folder)
    top = page_of(store, folder, reader, "top")
    (folder / "top").unlink()
    os.mkfifo(folder / "top")
    writer = None
    assert set(read(reader, top)) == {CHANGED}
    with pytest.raises(OSError, match="No such device"):  # nobody has it open to read
        writer = os.open(folder / "top", os.O_WRONLY | os.O_NONBLOCK)
    assert writer is None


def test_beyond_its_bounds_it_knows_less_and_gives_the_same(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "tree"
    reader = shared(store, folder)
    whole = {manifest: read(reader, manifest) for manifest in pages(store, folder, reader)}
    monkeypatch.setattr(tree_reader, "PAGE_CHUNKS_MAX", 1)
    monkeypatch.setattr(tree_reader, "AHEAD_BYTES_MAX", 300)
    reader = reader_of(store, folder)
    assert {manifest: read(reader, manifest) for manifest in pages(store, folder, reader)} == whole
    monkeypatch.setattr(tree_reader, "NODES_MAX", 2)
    reader = reader_of(store, folder)
    root = store.roots()[0].id
    known, waiting = set(), [root]
    while waiting:
        data = reader.node(waiting.pop())
        if data is not None:
            known.add(m.node_id(data))
            waiting += [child.id for child in m.children(m.decode(data))]
    assert len(known) == 2
