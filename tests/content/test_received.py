"""What was received is known afterwards: where its chunks lie, and for how long."""

import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from coterie.content import Store
from coterie.content import manifest as m
from coterie.content.importer import Imported, import_path
from coterie.content.received import record_received
from coterie.content.reuse import known_chunks


@pytest.fixture
def theirs(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "theirs" / "store.db") as opened:
        yield opened


@pytest.fixture
def ours(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "ours" / "store.db") as opened:
        yield opened


def tree(folder: Path) -> Path:
    rng = random.Random(1)
    for name, size in (("a/small", 100), ("a/empty", 0), ("a/b/large", 3_000_000), ("top", 200_000)):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(rng.randbytes(size))
    return folder


def arrived(theirs: Store, ours: Store, source: Path, target: Path) -> Imported:
    """As after a download: the files at `target`, the manifests in `ours`."""
    done = import_path(theirs, source)
    ours.add_root(done.root, done.kind, done.name, files=done.files, size=done.bytes)
    waiting = [done.root]
    while waiting:
        node_id = waiting.pop()
        data = theirs.manifest(node_id)
        assert data is not None
        ours.put_manifests(done.root, [(node_id, data)])
        waiting += [e.tree or e.blob for e in _below(m.decode(data))]
    shutil.copytree(source, target) if source.is_dir() else shutil.copy2(source, target)
    return done


class _Entry:
    def __init__(self, tree: bytes, blob: bytes) -> None:
        self.tree, self.blob = tree, blob


def _below(node: m.Node) -> list[_Entry]:
    if isinstance(node, m.TreeLeaf):
        return [
            _Entry(getattr(e, "tree", b""), getattr(e, "blob", b""))
            for e in node.entries
            if getattr(e, "tree", b"") or getattr(e, "blob", b"")
        ]
    if isinstance(node, m.TreeIndex | m.BlobIndex):
        return [_Entry(child.id, b"") for child in m.children(node)]
    return []


def held(store: Store, path: Path) -> list[m.Chunk]:
    known = store.known_files([str(path)])
    return m.unpack_chunks(known[str(path)].chunks) if known else []


def test_every_chunk_of_a_received_tree_is_found_again(theirs: Store, ours: Store, tmp_path: Path) -> None:
    source, target = tree(tmp_path / "source"), tmp_path / "target"
    done = arrived(theirs, ours, source, target)
    assert record_received(ours, done.root, target, lambda _: None) == 4
    for path in (p for p in source.rglob("*") if p.is_file()):
        chunks = held(theirs, path)
        assert held(ours, target / path.relative_to(source)) == chunks
        assert (
            b"".join(data for _, data in known_chunks(ours, chunks, range(len(chunks)))) == path.read_bytes()
        )
    assert ours.collect_garbage().files == 0


def test_a_single_file(theirs: Store, ours: Store, tmp_path: Path) -> None:
    source = tmp_path / "file"
    source.write_bytes(random.Random(2).randbytes(2_000_000))
    done = arrived(theirs, ours, source, tmp_path / "got")
    assert record_received(ours, done.root, tmp_path / "got", lambda _: None) == 1
    assert held(ours, tmp_path / "got") == held(theirs, source)


def test_what_is_not_there_as_it_was_sent_is_left_out(theirs: Store, ours: Store, tmp_path: Path) -> None:
    done = arrived(theirs, ours, tree(tmp_path / "source"), tmp_path / "target")
    (tmp_path / "target" / "top").unlink()
    (tmp_path / "target" / "a" / "small").write_bytes(b"other")
    (tmp_path / "target" / "a" / "empty").unlink()
    (tmp_path / "target" / "a" / "empty").symlink_to("small")
    assert record_received(ours, done.root, tmp_path / "target", lambda _: None) == 1


def test_names_that_are_others_here(theirs: Store, ours: Store, tmp_path: Path) -> None:
    done = arrived(theirs, ours, tree(tmp_path / "source"), tmp_path / "target")
    os.rename(tmp_path / "target" / "top", tmp_path / "target" / "top (2)")
    renamed = {done.root: ("a", "top (2)")}
    assert record_received(ours, done.root, tmp_path / "target", renamed.get) == 4
    assert held(ours, tmp_path / "target" / "top (2)")


def test_a_new_version_in_the_same_place_takes_the_old_ones_place(
    theirs: Store, ours: Store, tmp_path: Path
) -> None:
    source, target = tmp_path / "file", tmp_path / "got"
    roots = []
    for version in range(3):
        source.write_bytes(random.Random(version).randbytes(300_000))
        target.unlink(missing_ok=True)
        done = arrived(theirs, ours, source, target)
        record_received(ours, done.root, target, lambda _: None)
        roots.append(done.root)
        ours.pins.set("an app", "the first", roots[:1])
    assert [root.id for root in ours.roots()] == [roots[0], roots[2]]  # the first is pinned
    assert ours.collect_garbage().manifests > 0


def test_what_is_gone_is_forgotten_unless_it_is_kept(theirs: Store, ours: Store, tmp_path: Path) -> None:
    roots = []
    for name in ("one", "two", "three"):
        source = tmp_path / name
        source.write_bytes(name.encode())
        roots.append(arrived(theirs, ours, source, tmp_path / f"got-{name}").root)
        record_received(ours, roots[-1], tmp_path / f"got-{name}", lambda _: None)
    on_its_way = import_path(theirs, tree(tmp_path / "source"))
    ours.add_root(on_its_way.root, on_its_way.kind, "no place yet", files=1, size=1)
    (tmp_path / "got-one").unlink()
    (tmp_path / "got-two").unlink()
    ours.pins.set("an app", "kept", [roots[1]])
    assert ours.forget_gone() == 1
    assert {root.id for root in ours.roots()} == {roots[1], roots[2], on_its_way.root}
