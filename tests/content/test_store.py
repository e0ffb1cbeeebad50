"""The store: finds chunks, never hands out a wrong byte, and survives what happens to it."""

import _sqlite3
import ctypes
import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from blake3 import blake3

from coterie.content import ChunkUnavailable, KnownFile, Store, schema
from coterie.content import manifest as m
from coterie.content import store as store_module
from coterie.errors import NotFound, StorageError

ROOT = b"r" * 32


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(tmp_path / "home" / "content.db")
    yield opened
    opened.close()


def put(path: Path, *pieces: bytes) -> KnownFile:
    """A file of these chunks, as an import would know it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(pieces))
    status = path.stat()
    packed = m.pack_chunks([(blake3(piece).digest(), len(piece)) for piece in pieces])
    return KnownFile(str(path), status.st_size, status.st_mtime_ns, status.st_ino, status.st_dev, packed)


def chunk(piece: bytes) -> m.Chunk:
    return blake3(piece).digest(), len(piece)


def test_chunks_are_read_from_where_they_lie(store: Store, tmp_path: Path) -> None:
    store.add_locations([put(tmp_path / "a", b"one", b"two"), put(tmp_path / "b", b"three")])
    wanted = [b"two", b"three", b"one", b"two"]
    assert list(store.read_chunks([chunk(piece) for piece in wanted])) == wanted


def test_chunks_are_read_to_where_there_is_room(store: Store, tmp_path: Path) -> None:
    store.add_locations([put(tmp_path / "a", b"one", b"three"), put(tmp_path / "b", b"alone")])
    store.add_locations([put(tmp_path / "c", b"first", b"other")])
    (tmp_path / "c").write_bytes(b"changedfirst")
    buffer = bytearray(100)
    at = 0

    def room(size: int) -> memoryview:
        return memoryview(buffer)[at : at + size]

    for piece in (b"three", b"alone", b"one"):
        (found,) = store.read_chunks([chunk(piece)], room)
        assert found == piece
        assert buffer[at : at + len(piece)] == piece
        at += len(piece)
    assert isinstance(next(store.read_chunks([chunk(b"first")], room)), ChunkUnavailable)


class Rooms:
    """Room behind what was kept, as in a frame that fills."""

    def __init__(self) -> None:
        self.buffer = bytearray(100_000)
        self.kept = 0
        self.sizes: list[int] = []

    def __call__(self, size: int) -> memoryview:
        self.sizes.append(size)
        return memoryview(self.buffer)[self.kept : self.kept + size]

    def keep(self, store: Store, pieces: list[bytes]) -> list[bytes | None]:
        """What is found of these, each checked to be behind the one before; None: it is not to be had."""
        found: list[bytes | None] = []
        for piece in store.read_chunks([chunk(piece) for piece in pieces], self):
            if isinstance(piece, ChunkUnavailable):
                found.append(None)
                continue
            assert self.buffer[self.kept : self.kept + len(piece)] == piece
            self.kept += len(piece)
            found.append(bytes(piece))
        return found


def test_what_lies_side_by_side_is_read_at_once(store: Store, tmp_path: Path) -> None:
    pieces = [bytes([n]) * 1000 for n in range(64)]
    other = [bytes([n]) * 1000 for n in range(100, 104)]
    store.add_locations([put(tmp_path / "a", *pieces), put(tmp_path / "b", *other)])
    rooms = Rooms()
    assert rooms.keep(store, pieces) == pieces
    assert rooms.sizes == [8000] * 8  # an eighth of what is wanted
    rooms = Rooms()
    wanted = [*pieces[:40], *other, *pieces[60:], pieces[0], pieces[2]]
    assert rooms.keep(store, wanted) == wanted
    assert rooms.sizes == [*[6000] * 6, 4000, 4000, 4000, 1000, 1000]
    rooms = Rooms()
    assert rooms.keep(store, pieces[:3]) == pieces[:3]
    assert rooms.sizes == [1000] * 3


@pytest.mark.parametrize("spoilt", [0, 3, 9, 12, 63])
def test_what_is_wrong_within_what_is_read_at_once_is_had_elsewhere(
    store: Store, tmp_path: Path, spoilt: int
) -> None:
    pieces = [bytes([n]) * 1000 for n in range(64)]
    store.add_locations([put(tmp_path / "a", *pieces)])
    with (tmp_path / "a").open("r+b") as file:
        file.seek(1000 * spoilt)
        file.write(b"\xff")
    found = Rooms().keep(store, pieces)
    assert [n for n, piece in enumerate(found) if piece is None] == [spoilt]
    assert [piece for piece in found if piece is not None] == pieces[:spoilt] + pieces[spoilt + 1 :]
    store.add_locations([put(tmp_path / "b", pieces[spoilt])])
    assert Rooms().keep(store, pieces) == pieces


@pytest.mark.parametrize("left", [0, 500, 3000, 9999])
def test_a_file_that_was_cut_gives_what_is_left(store: Store, tmp_path: Path, left: int) -> None:
    pieces = [bytes([n]) * 1000 for n in range(64)]
    store.add_locations([put(tmp_path / "a", *pieces)])
    os.truncate(tmp_path / "a", left)
    whole = left // 1000
    assert Rooms().keep(store, pieces) == pieces[:whole] + [None] * (64 - whole)


def test_more_chunks_than_one_query_takes(store: Store, tmp_path: Path) -> None:
    pieces = [f"piece {number}".encode() for number in range(store_module.QUERY_ITEMS_MAX * 2 + 1)]
    store.add_locations([put(tmp_path / "a", *pieces)])
    assert list(store.read_chunks([chunk(piece) for piece in pieces])) == pieces


def test_an_unknown_chunk_and_one_of_another_size_are_not_here(store: Store, tmp_path: Path) -> None:
    store.add_locations([put(tmp_path / "a", b"one", b"two")])
    digest, size = chunk(b"one")
    found = list(store.read_chunks([chunk(b"never"), (digest, size + 1), (digest, size)]))
    assert found == [
        ChunkUnavailable(None, "not known here"),
        ChunkUnavailable(None, "not known here"),
        b"one",
    ]
    assert changed(store, tmp_path) == []


def changed(store: Store, path: Path) -> list[str]:
    store.add_root(ROOT, m.Kind.TREE, "x", files=0, size=0, path=path)
    return [found.name for found in store.changed_files(ROOT)]


def test_a_changed_byte_is_noticed_even_with_its_time_restored(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "a"
    store.add_locations([put(path, b"one", b"two", b"six")])
    before = path.stat()
    path.write_bytes(b"onetWosix")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    found = list(store.read_chunks([chunk(b"one"), chunk(b"two"), chunk(b"six")]))
    assert found == [b"one", ChunkUnavailable(path, "changed after it was shared"), b"six"]
    assert changed(store, tmp_path) == ["a"]
    assert store.known_files([str(path)]) == {}


def test_each_way_of_being_unavailable_has_its_reason(store: Store, tmp_path: Path) -> None:
    files = {name: tmp_path / name for name in ("gone", "short", "link", "folder", "pipe", "under")}
    for name, path in files.items():
        store.add_locations([put(path / "f" if name == "under" else path, name.encode())])
    for name in ("gone", "link", "folder", "pipe"):
        files[name].unlink()
    files["short"].write_bytes(b"sho")
    files["link"].symlink_to("/etc/hostname")
    files["folder"].mkdir()
    os.mkfifo(files["pipe"])
    (files["under"] / "f").unlink()
    files["under"].rmdir()
    files["under"].write_bytes(b"")
    found = {name: next(store.read_chunks([chunk(name.encode())])) for name in files}
    reasons = {name: one.reason for name, one in found.items() if isinstance(one, ChunkUnavailable)}
    late = "changed after it was shared"
    assert reasons == {
        "gone": "gone", "short": late, "link": late, "folder": late, "pipe": late, "under": "gone",
    }  # fmt: skip


def test_another_place_serves_when_the_first_has_changed(store: Store, tmp_path: Path) -> None:
    store.add_locations([put(tmp_path / name, b"same", name.encode()) for name in "abc"])
    (tmp_path / "a").write_bytes(b"else")
    (tmp_path / "b").unlink()
    for _ in range(2):
        assert list(store.read_chunks([chunk(b"same")])) == [b"same"]
    assert changed(store, tmp_path) == ["a", "b"]


def test_a_file_that_is_as_it_was_serves_again(store: Store, tmp_path: Path) -> None:
    store.add_locations([put(tmp_path / "a", b"one")])
    (tmp_path / "a").write_bytes(b"two")
    assert isinstance(next(store.read_chunks([chunk(b"one")])), ChunkUnavailable)
    (tmp_path / "a").write_bytes(b"one")
    assert list(store.read_chunks([chunk(b"one")])) == [b"one"]


def test_reading_again_replaces_what_was_known(store: Store, tmp_path: Path) -> None:
    store.add_locations([put(tmp_path / "a", b"one", b"two")])
    store.add_locations([put(tmp_path / "a", b"three"), put(tmp_path / "b", b"two")])
    assert store.usage().chunks == 2
    assert list(store.read_chunks([chunk(b"two"), chunk(b"three")])) == [b"two", b"three"]
    assert store.known_files([str(tmp_path / "a")])[str(tmp_path / "a")].chunks == m.pack_chunks(
        [chunk(b"three")]
    )


def test_usage_counts_shared_chunks_once(store: Store, tmp_path: Path) -> None:
    store.add_locations([put(tmp_path / "a", b"same", b"same"), put(tmp_path / "b", b"same", b"other")])
    usage = store.usage()
    assert (usage.files, usage.chunks, usage.referenced_bytes, usage.unique_bytes) == (2, 2, 17, 9)
    assert usage.database_bytes > 0


def node(*pieces: bytes) -> tuple[bytes, bytes]:
    data = m.encode(m.BlobLeaf(m.pack_chunks([chunk(piece) for piece in pieces])))
    return m.node_id(data), data


def test_manifests_belong_to_their_roots(store: Store) -> None:
    one, two = node(b"one"), node(b"two")
    store.add_root(ROOT, m.Kind.BLOB, "x", files=1, size=3, nodes=[one])
    store.put_manifests(ROOT, [two, one])
    assert store.manifest(two[0]) == two[1]
    assert store.in_root(ROOT, one[0])
    assert not store.in_root(b"s" * 32, one[0])
    assert not store.in_root(ROOT, b"s" * 32)
    assert store.chunks_of(one[0]) == [chunk(b"one")]
    assert store.manifest(b"s" * 32) is None
    with pytest.raises(NotFound):
        store.chunks_of(b"s" * 32)
    with pytest.raises(NotFound):
        store.put_manifests(b"s" * 32, [one])


def test_the_cache_of_chunk_lists_is_bounded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "LEAF_CACHE_CHUNKS_MAX", 3)
    nodes = [node(b"a%d" % n, b"b%d" % n) for n in range(5)]
    store.add_root(ROOT, m.Kind.BLOB, "x", files=1, size=3, nodes=nodes)
    lists = [store.chunks_of(name) for name, _ in nodes]
    assert store.chunks_of(nodes[-1][0]) is lists[-1]
    assert store.chunks_of(nodes[0][0]) is not lists[0]


def test_roots_are_listed_with_all_their_places(store: Store, tmp_path: Path) -> None:
    store.add_root(ROOT, m.Kind.TREE, "x", files=1, size=3, path=tmp_path / "a")
    store.add_root(ROOT, m.Kind.TREE, "y", files=2, size=4, path=tmp_path / "b")
    (root,) = store.roots()
    assert (root.name, root.files, root.bytes, root.paths) == ("y", 2, 4, (tmp_path / "a", tmp_path / "b"))
    assert store.root(ROOT) == root
    assert store.root(b"s" * 32) is None


def test_garbage_is_what_no_root_reaches(store: Store, tmp_path: Path) -> None:
    other = b"s" * 32
    kept, lost, shared = node(b"kept"), node(b"lost"), node(b"shared")
    files = [
        put(tmp_path / "a" / "f", b"kept"),
        put(tmp_path / "a.txt", b"lost"),
        put(tmp_path / "b" / "f", b"lost"),
    ]
    store.add_locations(files)
    store.add_root(ROOT, m.Kind.TREE, "a", files=1, size=1, path=tmp_path / "a", nodes=[kept, shared])
    store.add_root(other, m.Kind.TREE, "b", files=1, size=1, path=tmp_path / "b", nodes=[lost, shared])
    store.chunks_of(lost[0])
    assert store.forget_root(other)
    assert not store.forget_root(other)
    collected = store.collect_garbage()
    assert (collected.manifests, collected.files, collected.locations) == (1, 2, 2)
    assert [store.manifest(name) is None for name, _ in (shared, kept, lost)] == [False, False, True]
    assert list(store.read_chunks([chunk(b"kept")])) == [b"kept"]
    with pytest.raises(NotFound):
        store.chunks_of(lost[0])
    assert store.collect_garbage().files == 0


def test_what_one_app_keeps_no_other_has_forgotten(store: Store, tmp_path: Path) -> None:
    kept = node(b"kept")
    store.add_locations([put(tmp_path / "a", b"kept")])
    store.pins.set("one", "early", [ROOT])  # before it comes
    store.add_root(ROOT, m.Kind.BLOB, "a", files=1, size=1, path=tmp_path / "a", nodes=[kept])
    store.pins.set("one", "late", [ROOT])
    store.pins.set("two", "late", [ROOT, b"o" * 32])
    for owner, name in (("one", "early"), ("one", "late")):
        store.pins.set(owner, name, ())
        assert not store.forget_root(ROOT)
        assert store.collect_garbage().manifests == 0
    assert store.pins.of("one") == {}
    assert store.pins.of("two") == {"late": [b"o" * 32, ROOT]}
    (tmp_path / "a").unlink()
    assert store.forget_gone() == 0
    store.pins.set("two", "late", ())
    assert store.forget_gone() == 1
    assert store.collect_garbage().manifests == 1


def test_pins_are_what_their_owner_says_at_its_start(store: Store, tmp_path: Path) -> None:
    one, two, three = (bytes([n]) * 32 for n in range(3))
    store.pins.set("app", "share/1", [one])
    store.pins.set("app", "share/2", [two])
    store.pins.set("app", "gift/1", [one])
    store.pins.set("other", "share/1", [one])
    store.pins.replace("app", {"share/2": [two, three], "share/3": [three]}, "share/")
    assert store.pins.of("app", "share/") == {"share/2": [two, three], "share/3": [three]}
    assert store.pins.of("app", "gift/") == {"gift/1": [one]}
    assert store.pins.of("other") == {"share/1": [one]}
    store.close()
    with Store.open(store.path) as again:
        assert again.pins.of("other") == {"share/1": [one]}


def test_a_store_of_before_has_no_pins_and_version_0_1_reads_a_new_one(tmp_path: Path) -> None:
    with Store.open(tmp_path / "store.db") as store:
        store.pins.set("app", "name", [ROOT])
    db = sqlite3.connect(tmp_path / "store.db")
    assert db.execute("PRAGMA user_version").fetchone() == (1,)
    db.executescript("DROP TABLE pins")
    db.close()
    with Store.open(tmp_path / "store.db") as store:
        assert store.pins.of("app") == {}


def test_what_is_held_is_no_garbage(store: Store, tmp_path: Path) -> None:
    store.add_locations([put(tmp_path / "a" / "f", b"one")])
    with store.holding(tmp_path / "a"):
        assert store.collect_garbage().files == 0
    assert store.collect_garbage().files == 1


def test_collecting_in_several_steps(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "GARBAGE_ROWS_MAX", 3)
    store.add_locations([put(tmp_path / f"{n}", b"%d" % n) for n in range(10)])
    store.add_root(
        ROOT,
        m.Kind.BLOB,
        "5",
        files=1,
        size=1,
        path=tmp_path / "5",
        nodes=[node(b"%d" % n) for n in range(10)],
    )
    store.forget_root(ROOT)
    store.add_root(ROOT, m.Kind.BLOB, "5", files=1, size=1, path=tmp_path / "5")
    collected = store.collect_garbage()
    assert (collected.files, collected.locations, collected.manifests) == (9, 9, 10)


def test_the_root_folder_covers_everything(store: Store, tmp_path: Path) -> None:
    store.add_locations([put(tmp_path / "a", b"one")])
    store.add_root(ROOT, m.Kind.TREE, "root", files=1, size=1, path=Path("/"))
    assert store.collect_garbage().files == 0
    assert [store.knows_under(path) for path in (Path("/"), tmp_path / "a", tmp_path / "b")] == [
        True,
        True,
        False,
    ]


def test_threads_read_while_others_write(store: Store, tmp_path: Path) -> None:
    store.add_locations([put(tmp_path / "a", b"one")])
    failures: list[object] = []

    def read() -> None:
        for _ in range(200):
            found = list(store.read_chunks([chunk(b"one")]))
            if found != [b"one"]:
                failures.append(found)

    readers = [threading.Thread(target=read) for _ in range(4)]
    for reader in readers:
        reader.start()
    for number in range(30):
        store.add_locations([put(tmp_path / f"b{number}", b"%d" % number)])
    for reader in readers:
        reader.join()
    assert failures == []
    assert store.usage().files == 31


def test_a_failed_write_leaves_nothing_behind(store: Store, tmp_path: Path) -> None:
    def nodes() -> Iterator[tuple[bytes, bytes]]:
        yield node(b"one")
        raise RuntimeError("the source failed")

    with pytest.raises(RuntimeError):
        store.add_root(ROOT, m.Kind.BLOB, "x", files=1, size=1, nodes=nodes())
    assert store.roots() == []
    assert store.usage().manifests == 0


# -- opening --


def test_everything_is_there_after_opening_again(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "db")
    store.add_locations([put(tmp_path / "a", b"one")])
    store.add_root(ROOT, m.Kind.BLOB, "x", files=1, size=3, path=tmp_path / "a", nodes=[node(b"one")])
    store.close()
    again = Store.open(tmp_path / "db")
    assert [root.id for root in again.roots()] == [ROOT]
    assert list(again.read_chunks([chunk(b"one")])) == [b"one"]
    again.close()
    with pytest.raises(StorageError):
        again.roots()
    with pytest.raises(StorageError):
        again.forget_root(ROOT)
    assert (tmp_path / "db").stat().st_mode & 0o077 == 0


def test_a_database_that_is_garbage_is_named_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "db"
    path.write_bytes(b"this is not a database" * 1000)
    with pytest.raises(StorageError, match=r"damaged.*Move it aside"):
        Store.open(path)
    assert path.read_bytes().startswith(b"this is not")


def test_a_database_with_pages_overwritten_is_named(tmp_path: Path) -> None:
    path = tmp_path / "db"
    store = Store.open(path)
    store.add_locations([put(tmp_path / f"{n}", b"%d" % n) for n in range(300)])
    store.close()
    whole = bytearray(path.read_bytes())
    whole[4096 * 1 :] = b"\xa5" * (len(whole) - 4096)
    path.write_bytes(whole)
    with pytest.raises(StorageError, match="damaged"):
        Store.open(path)


def test_a_newer_database_is_named(tmp_path: Path) -> None:
    Store.open(tmp_path / "db").close()
    db = sqlite3.connect(tmp_path / "db")
    db.execute(f"PRAGMA user_version = {schema.SCHEMA_VERSION + 1}")
    db.commit()
    db.close()
    with pytest.raises(StorageError, match="newer coterie"):
        Store.open(tmp_path / "db")


def test_a_database_of_another_program_is_named(tmp_path: Path) -> None:
    db = sqlite3.connect(tmp_path / "db")
    db.execute("CREATE TABLE theirs (x)")
    db.commit()
    db.close()
    with pytest.raises(StorageError, match="another program"):
        Store.open(tmp_path / "db")


def test_an_older_database_is_migrated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Store.open(tmp_path / "db").close()
    monkeypatch.setattr(schema, "SCHEMA_VERSION", schema.SCHEMA_VERSION + 1)
    ran = []
    monkeypatch.setitem(
        schema.MIGRATIONS, schema.SCHEMA_VERSION - 1, lambda db: ran.append(db.in_transaction)
    )
    Store.open(tmp_path / "db").close()
    Store.open(tmp_path / "db").close()
    assert ran == [True]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="permissions"):
        Store.open(tmp_path / "file" / "db")
    (tmp_path / "folder").mkdir()
    with pytest.raises(StorageError, match="folder"):
        Store.open(tmp_path / "folder")


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Store.open(tmp_path / "db").close()
    connect = schema.connect

    def connect_with_little_room(path: Path) -> sqlite3.Connection:
        db = connect(path)
        pages = db.execute("PRAGMA page_count").fetchone()[0]
        db.execute(f"PRAGMA max_page_count = {pages + 2}")  # SQLite then says what it says on a full disk
        return db

    monkeypatch.setattr(schema, "connect", connect_with_little_room)
    store = Store.open(tmp_path / "db")
    with pytest.raises(StorageError, match="disk full"):
        store.add_locations([put(tmp_path / f"{n}", b"%d" % n) for n in range(500)])
    assert store.usage().files == 0
    store.close()


def test_the_memory_of_what_was_read_is_given_back_and_it_can_be_read_again(
    store: Store, tmp_path: Path
) -> None:
    """Each thread reads with a connection of its own, which has pages of its own."""
    sqlite = ctypes.CDLL(_sqlite3.__file__)
    sqlite.sqlite3_memory_used.restype = ctypes.c_int64
    pieces = [number.to_bytes(100) for number in range(20_000)]
    store.add_locations([put(tmp_path / "x", *pieces)])
    wanted = [chunk(piece) for piece in pieces]
    assert list(store.read_chunks(wanted)) == pieces
    full = sqlite.sqlite3_memory_used()
    store.shrink()
    assert sqlite.sqlite3_memory_used() < full / 4
    assert list(store.read_chunks(wanted)) == pieces
