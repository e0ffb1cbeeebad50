"""The content store: which chunk lies where on this computer, and manifests of what is shared or received.

Shared files stay where they are: the store has no copy. Bytes leave it only after their hash was checked, so
a file that changed is noticed before a wrong byte is served.

Safe to use from several threads: one writer at a time, readers beside it on connections of their own (a
reader never waits for a long import). All methods block; asyncio code calls them in a thread.
"""

import os
import sqlite3
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import msgspec

from coterie.content import manifest as manifests
from coterie.content import schema, seen
from coterie.content.manifest import Chunk, Kind
from coterie.content.pins import UNPINNED, Pins
from coterie.content.reader import READ_BYTES_MAX, READS_MIN, ChunkReader, ChunkUnavailable, Location, Room
from coterie.content.usage import Collected, Usage
from coterie.errors import NotFound
from coterie.texts import tr

LEAF_CACHE_CHUNKS_MAX = 65_536  # about 10 MB of decoded chunk lists
READERS_IDLE_MAX = 8  # connections kept for the next reader
INSERT_ROWS = 100  # of one INSERT: 800 values, below the same bound
QUERY_ITEMS_MAX = 400  # of one IN (...): below SQLite's old bound of 999 variables
OTHER_PLACES_LOOKED_AT = 64  # of which unchanged files come first
OTHER_PLACES_MAX = 8  # tried for one chunk when the first place fails
GARBAGE_ROWS_MAX = 20_000  # deleted in one transaction, so that a writer waits little
_UNPINNED = UNPINNED.format(root="roots.id")


@dataclass(slots=True)
class KnownFile:
    """A file as it was when it was read; `chunks` are all of them, packed (`manifest.pack_chunks`)."""

    path: str
    size: int
    mtime_ns: int
    inode: int
    device: int
    chunks: bytes


class Root(msgspec.Struct, frozen=True):
    """Something shared or received."""

    id: bytes
    kind: Kind
    name: str
    files: int
    bytes: int
    created: float
    paths: tuple[Path, ...]


class Store:
    """The content store of one node. Make it with `Store.open`, end it with `close`."""

    def __init__(self, path: Path, db: sqlite3.Connection) -> None:
        self.path = path
        self._db = db
        self._writing = threading.RLock()
        self._guard = threading.Lock()
        self._idle: list[sqlite3.Connection] = []
        self._held: list[bytes] = []
        self._leaves: OrderedDict[bytes, list[Chunk]] = OrderedDict()
        self._leaf_chunks = 0
        self._closed = False
        self.pins = Pins(self._read, self._write_to_disk)
        self.seen = seen.SeenFolders(self._read)

    @classmethod
    def open(cls, path: Path) -> "Store":
        """Open the store with its database at `path`, making it if there is none.

        Raises:
            StorageError: says what is wrong with it and what to do. Nothing is ever deleted to get going.
        """
        return cls(path, schema.prepare(path))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the database. Afterwards every method raises `StorageError`."""
        with self._writing, self._guard:
            self._closed = True
            for db in (*self._idle, self._db):
                db.close()
            self._idle.clear()

    def shrink(self) -> None:
        """Give back the memory of what was read: up to `CACHE_KIB` for each thread that did.

        Raises:
            StorageError: the database refuses.
        """
        with self._guard:
            idle, self._idle = self._idle, []
        for db in idle:
            db.close()
        with self._writing, self._translated():
            self._db.execute("PRAGMA shrink_memory")

    # -- manifests --

    def manifest(self, node_id: bytes) -> bytes | None:
        """The bytes of a manifest node, or None."""
        with self._read() as db:
            row = db.execute("SELECT bytes FROM manifests WHERE id = ?", (node_id,)).fetchone()
        return row[0] if row else None

    def manifests(self, node_ids: Sequence[bytes]) -> dict[bytes, bytes]:
        """The bytes of those of these nodes that are here."""
        with self._read() as db:
            return dict(_in_batches(db, "SELECT id, bytes FROM manifests WHERE id IN ({})", node_ids))

    def paths_of(self, root: bytes) -> list[bytes]:
        """Where a root lies; real paths."""
        with self._read() as db:
            return [path for (path,) in db.execute("SELECT path FROM places WHERE root = ?", (root,))]

    def chunks_of(self, node_id: bytes) -> list[Chunk]:
        """The chunks that stand in this node itself (`manifest.leaf_chunks`). Cached: do not change the list.

        Raises:
            NotFound: no such manifest here.
        """
        with self._guard:
            known = self._leaves.get(node_id)
            if known is not None:
                self._leaves.move_to_end(node_id)
                return known
        data = self.manifest(node_id)
        if data is None:
            raise NotFound(tr("no manifest {node_id} here", node_id=node_id.hex()[:16]))
        chunks = manifests.leaf_chunks(manifests.decode(data))
        with self._guard:
            if node_id not in self._leaves:
                self._leaves[node_id] = chunks
                self._leaf_chunks += len(chunks)
            while self._leaf_chunks > LEAF_CACHE_CHUNKS_MAX and len(self._leaves) > 1:
                self._leaf_chunks -= len(self._leaves.popitem(last=False)[1])
        return chunks

    def put_manifests(self, root: bytes, nodes: Iterable[tuple[bytes, bytes]]) -> None:
        """Keep (id, bytes) nodes as parts of `root`, all or none. The caller has checked them.

        Raises:
            NotFound: `root` was not added, or was forgotten meanwhile.
        """
        with self._write() as db:
            self._put_manifests(db, root, nodes)

    def in_root(self, root: bytes, node_id: bytes) -> bool:
        """Whether the manifest belongs to the root: who may read the one may read the other."""
        with self._read() as db:
            row = db.execute(
                "SELECT 1 FROM reach WHERE root = ? AND manifest = ?", (root, node_id)
            ).fetchone()
        return row is not None

    def nodes_of(self, root: bytes) -> set[bytes]:
        """The ids of all manifests of a root."""
        with self._read() as db:
            return {node for (node,) in db.execute("SELECT manifest FROM reach WHERE root = ?", (root,))}

    def _put_manifests(
        self, db: sqlite3.Connection, root: bytes, nodes: Iterable[tuple[bytes, bytes]]
    ) -> None:
        if db.execute("SELECT 1 FROM roots WHERE id = ?", (root,)).fetchone() is None:
            raise NotFound(tr("nothing known under the content id {root}", root=root.hex()[:16]))
        kept = list(nodes)
        _insert(db, "manifests", kept, or_ignore=True)
        _insert(db, "reach", [(root, node_id) for node_id, _ in kept], or_ignore=True)

    # -- roots --

    def add_root(
        self,
        root: bytes,
        kind: Kind,
        name: str,
        *,
        files: int,
        size: int,
        path: Path | None = None,
        nodes: Iterable[tuple[bytes, bytes]] = (),
        sight: seen.Sight | None = None,
    ) -> None:
        """Add a root with its place and manifests, all or none; adds to what is known of it already.

        From here until `forget_root`, its manifests and every known file at or under `path` are kept. `pins`
        says who wants that. `sight`: how the folders at `path` look with this root.

        Raises:
            Forgotten: manifests that `sight` names are gone. Nothing was added.
        """
        with self._write() as db:
            db.execute(
                "INSERT INTO roots VALUES (?, ?, ?, ?, ?, ?) "
                "ON CONFLICT (id) DO UPDATE SET "
                "name = excluded.name, files = excluded.files, bytes = excluded.bytes",
                (root, int(kind), name.encode("utf-8", "replace").decode(), files, size, time.time()),
            )
            if path is not None:
                db.execute("INSERT OR IGNORE INTO places VALUES (?, ?)", (root, os.fsencode(path)))
            self._put_manifests(db, root, nodes)
            if path is not None and sight is not None:
                seen.record(db, root, os.fsencode(path), sight)

    def roots(self) -> list[Root]:
        """Every root, oldest first."""
        with self._read() as db:
            places: dict[bytes, list[Path]] = {}
            for root, path in db.execute("SELECT root, path FROM places"):
                places.setdefault(root, []).append(Path(os.fsdecode(path)))
            rows = db.execute(
                "SELECT id, kind, name, files, bytes, created FROM roots ORDER BY created, id"
            ).fetchall()
        return [
            Root(root, Kind(kind), name, files, size, created, tuple(places.get(root, ())))
            for root, kind, name, files, size, created in rows
        ]

    def root(self, root: bytes) -> Root | None:
        """One root, or None."""
        return next((found for found in self.roots() if found.id == root), None)

    def forget_root(self, root: bytes) -> bool:
        """Keep a root no longer, unless it is pinned; False when it stays, or was not known.

        `collect_garbage` frees what only it needed.
        """
        with self._write() as db:
            return db.execute(f"DELETE FROM roots WHERE id = ? AND {_UNPINNED}", (root,)).rowcount > 0  # noqa: S608

    def settle(self, root: bytes, path: Path) -> None:
        """`root` lies at `path` now; others that lay there, and nowhere else, are forgotten, but for pinned ones."""
        place = os.fsencode(path)
        with self._write() as db:
            db.execute("INSERT OR IGNORE INTO places VALUES (?, ?)", (root, place))
            others = db.execute(
                f"SELECT root FROM places WHERE path = ? AND root != ? AND {UNPINNED.format(root='places.root')}",  # noqa: S608
                (place, root),
            ).fetchall()
            for (other,) in others:
                db.execute("DELETE FROM places WHERE root = ? AND path = ?", (other, place))
                db.execute(
                    "DELETE FROM roots WHERE id = ? AND NOT EXISTS (SELECT 1 FROM places WHERE root = ?)",
                    (other, other),
                )

    def forget_gone(self) -> int:
        """Forget roots whose every place is gone from the disk, but for pinned ones; returns how many."""
        gone = [
            root.id
            for root in self.roots()
            if root.paths and not any(os.path.lexists(path) for path in root.paths)
        ]
        return sum(self.forget_root(root) for root in gone)

    def leave(self, root: bytes, path: Path) -> None:
        """`root` lies at `path` no longer; it is forgotten where it lies nowhere else and is not pinned."""
        with self._write() as db:
            db.execute("DELETE FROM places WHERE root = ? AND path = ?", (root, os.fsencode(path)))
            db.execute(
                f"DELETE FROM roots WHERE id = ? AND {_UNPINNED} "  # noqa: S608
                "AND NOT EXISTS (SELECT 1 FROM places WHERE root = roots.id)",
                (root,),
            )

    # -- files and chunks --

    def add_locations(self, files: Sequence[KnownFile]) -> None:
        """Record where chunks lie; what was known of these paths before is replaced. All or none."""
        by_path = {os.fsencode(file.path): file for file in files}
        with self._write() as db:
            numbers: dict[bytes, int] = {}
            known = _in_batches(db, "SELECT id, path, chunks FROM files WHERE path IN ({})", list(by_path))
            for number, path, chunks in list(known):
                _remove_file(db, number, chunks)
                numbers[path] = number
            next_id = (db.execute("SELECT max(id) FROM files").fetchone()[0] or 0) + 1
            next_id = max(next_id, max(numbers.values(), default=0) + 1)
            file_rows: list[tuple[object, ...]] = []
            locations: list[tuple[object, ...]] = []
            for path, file in by_path.items():
                number = numbers.get(path) or next_id
                next_id += number == next_id
                row = (number, path, file.size, file.mtime_ns, file.inode, file.device, 0, file.chunks)
                file_rows.append(row)
                offset = 0
                for digest, size in manifests.CHUNK.iter_unpack(file.chunks):
                    locations.append((digest, number, offset, size))
                    offset += size
            _insert(db, "files", file_rows)
            locations.sort()  # neighbours in the index one after another
            _insert(db, "locations", locations)

    def known_files(self, paths: Sequence[str]) -> dict[str, KnownFile]:
        """What is known of these paths; files that turned out changed are left out."""
        query = (
            "SELECT path, size, mtime_ns, inode, device, chunks FROM files WHERE changed = 0 AND path IN ({})"
        )
        with self._read() as db:
            rows = _in_batches(db, query, [os.fsencode(path) for path in paths])
            files = [KnownFile(os.fsdecode(path), *rest) for path, *rest in rows]
        return {file.path: file for file in files}

    def knows_under(self, path: Path) -> bool:
        """Whether any file at or under `path` is known."""
        with self._read() as db:
            query = "SELECT 1 FROM files WHERE path = ? OR (path > ? AND path < ?) LIMIT 1"
            return db.execute(query, _under(os.fsencode(path))).fetchone() is not None

    def read_chunks(
        self, wanted: Sequence[Chunk], room: Room | None = None
    ) -> Iterator[bytes | memoryview | ChunkUnavailable]:
        """Yield, for each (hash, size) in order, its bytes with the hash checked, or why there are none.

        With `room` they are read to there.
        """
        reader = ChunkReader(self._other_places, self._mark_changed, room)
        most = min(READ_BYTES_MAX, sum(size for _, size in wanted) // READS_MIN) if room else 0
        try:
            for at in range(0, len(wanted), QUERY_ITEMS_MAX):
                batch = wanted[at : at + QUERY_ITEMS_MAX]
                places = self._places([digest for digest, _ in batch])
                yield from reader.read_all(batch, places, most)
        finally:
            reader.close()

    def places(self, digests: Sequence[bytes]) -> dict[bytes, Location]:
        """Where these chunks should lie on this computer, one place for each that is known; nothing is read."""
        found: dict[bytes, Location] = {}
        for at in range(0, len(digests), QUERY_ITEMS_MAX):
            found.update(self._places(list(digests[at : at + QUERY_ITEMS_MAX])))
        return found

    def changed_files(self, root: bytes) -> list[Path]:
        """Files of a root that turned out changed, gone or unreadable since they were read, in order."""
        changed: set[bytes] = set()
        with self._read() as db:
            for (place,) in db.execute("SELECT path FROM places WHERE root = ?", (root,)).fetchall():
                changed.update(
                    path
                    for (path,) in db.execute(
                        "SELECT path FROM files WHERE changed AND (path = ? OR (path > ? AND path < ?))",
                        _under(place),
                    )
                )
        return [Path(os.fsdecode(path)) for path in sorted(changed)]

    def _places(self, digests: list[bytes]) -> dict[bytes, Location]:
        """One place for each hash: the first in the file known longest, without a look at the others."""
        wanted = list(dict.fromkeys(digests))
        with self._read() as db:
            rows = db.execute(
                f"WITH wanted(hash) AS (VALUES {','.join(['(?)'] * len(wanted))}) "  # noqa: S608
                "SELECT w.hash, l.file, l.offset, l.size, f.size, f.path "
                "FROM wanted w CROSS JOIN locations l CROSS JOIN files f WHERE l.hash = w.hash "
                "AND l.file = (SELECT min(file) FROM locations WHERE hash = w.hash) "
                "AND l.offset = (SELECT min(offset) FROM locations WHERE hash = w.hash AND file = l.file) "
                "AND f.id = l.file",
                wanted,
            ).fetchall()
        return {row[0]: row[1:] for row in rows}

    def _other_places(self, digest: bytes, tried_file: int) -> list[Location]:
        with self._read() as db:
            return db.execute(
                "SELECT l.file, l.offset, l.size, f.size, f.path FROM files f JOIN "
                "(SELECT * FROM locations WHERE hash = ? AND file != ? LIMIT ?) l ON f.id = l.file "
                "ORDER BY f.changed, l.file LIMIT ?",
                (digest, tried_file, OTHER_PLACES_LOOKED_AT, OTHER_PLACES_MAX),
            ).fetchall()

    def _mark_changed(self, file: int) -> None:
        with self._write() as db:
            row = db.execute("SELECT path FROM files WHERE id = ? AND NOT changed", (file,)).fetchone()
            if row is not None:
                db.execute("UPDATE files SET changed = 1 WHERE id = ?", (file,))
                seen.forget_file(db, row[0])

    # -- keeping house --

    def usage(self) -> Usage:
        """What the store holds; reads the whole index, about a second per million chunks."""
        with self._read() as db:
            roots, files, nodes = db.execute(
                "SELECT (SELECT count(*) FROM roots), (SELECT count(*) FROM files), "
                "(SELECT count(*) FROM manifests)"
            ).fetchone()
            chunks, unique, referenced = db.execute(
                "SELECT count(*), coalesce(sum(size), 0), coalesce(sum(total), 0) FROM "
                "(SELECT min(size) AS size, sum(size) AS total FROM locations GROUP BY hash)"
            ).fetchone()
        size = sum(_size_of(f"{self.path}{suffix}") for suffix in ("", "-wal", "-shm"))
        return Usage(size, roots, files, chunks, referenced, unique, nodes)

    @contextmanager
    def holding(self, path: Path) -> Iterator[None]:
        """While this lasts, files at and under `path` are no garbage: an import under way has no root yet."""
        held = os.fsencode(path)
        with self._guard:
            self._held.append(held)
        try:
            yield
        finally:
            with self._guard:
                self._held.remove(held)

    def collect_garbage(self) -> Collected:
        """Remove what no root needs, in short transactions; it may run beside everything else."""
        removed = {"manifests": 0, "files": 0, "locations": 0}
        for file in self._garbage_files():
            with self._write() as db:
                self._remove_files(db, file, removed)
        while True:
            with self._write() as db:
                count = db.execute(
                    "DELETE FROM manifests WHERE id IN (SELECT id FROM manifests WHERE NOT EXISTS "
                    "(SELECT 1 FROM reach WHERE manifest = id) LIMIT ?)",
                    (GARBAGE_ROWS_MAX,),
                ).rowcount
            removed["manifests"] += count
            if count < GARBAGE_ROWS_MAX:
                break
        with self._guard:
            self._leaves.clear()
            self._leaf_chunks = 0
        with self._writing, self._translated():
            self._db.execute("PRAGMA incremental_vacuum").fetchall()
            self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        return Collected(**removed)

    def _garbage_files(self) -> Iterator[list[tuple[int, bytes]]]:
        """Batches of files outside every place, from one walk in the order of paths."""
        last = b""
        while True:
            with self._read() as db:
                places = self._kept_places(db)
                rows = db.execute(
                    "SELECT id, path FROM files WHERE path > ? ORDER BY path LIMIT ?",
                    (last, GARBAGE_ROWS_MAX),
                ).fetchall()
            if not rows:
                return
            last = rows[-1][1]
            garbage = [row for row in rows if not _covered(row[1], places)]
            if garbage:
                yield garbage

    def _remove_files(
        self, db: sqlite3.Connection, files: list[tuple[int, bytes]], removed: dict[str, int]
    ) -> None:
        places = self._kept_places(db)  # again, now that nobody else writes
        for number, path in files:
            row = db.execute("SELECT chunks FROM files WHERE id = ? AND path = ?", (number, path)).fetchone()
            if row is not None and not _covered(path, places):
                removed["locations"] += _remove_file(db, number, row[0])
                removed["files"] += 1

    def _kept_places(self, db: sqlite3.Connection) -> set[bytes]:
        with self._guard:
            held = set(self._held)
        return held | {path for (path,) in db.execute("SELECT path FROM places")}

    # -- connections --

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise schema.translate(error, self.path) from error

    @contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        with self._writing, self._translated():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    @contextmanager
    def _write_to_disk(self) -> Iterator[sqlite3.Connection]:
        """As `_write`, and a loss of power right after it takes nothing back."""
        with self._writing, self._translated():
            self._db.execute("PRAGMA synchronous = FULL")
            try:
                with self._write() as db:
                    yield db
            finally:
                self._db.execute("PRAGMA synchronous = NORMAL")

    @contextmanager
    def _read(self) -> Iterator[sqlite3.Connection]:
        with self._translated():
            with self._guard:
                if self._closed:
                    raise sqlite3.ProgrammingError("it is closed")
                db = self._idle.pop() if self._idle else None
            if db is None:
                db = schema.connect(self.path)
            try:
                yield db
            finally:
                with self._guard:
                    keep = not self._closed and len(self._idle) < READERS_IDLE_MAX
                    if keep:
                        self._idle.append(db)
                if not keep:
                    db.close()


def _in_batches(db: sqlite3.Connection, query: str, values: Sequence[object]) -> Iterator[tuple[Any, ...]]:
    for at in range(0, len(values), QUERY_ITEMS_MAX):
        part = values[at : at + QUERY_ITEMS_MAX]
        yield from db.execute(query.format(_marks(len(part))), part)


def _insert(
    db: sqlite3.Connection, table: str, rows: Sequence[tuple[object, ...]], *, or_ignore: bool = False
) -> None:
    """Insert many rows, a hundred by statement: after each one we wait for the interpreter lock again."""
    insert = f"INSERT {'OR IGNORE ' if or_ignore else ''}INTO {table}"
    if not rows:
        return
    one = f"({_marks(len(rows[0]))})"
    whole = len(rows) - len(rows) % INSERT_ROWS
    many = f"{insert} VALUES {','.join([one] * INSERT_ROWS)}"
    for at in range(0, whole, INSERT_ROWS):
        db.execute(many, [value for row in rows[at : at + INSERT_ROWS] for value in row])
    db.executemany(f"{insert} VALUES {one}", rows[whole:])


def _remove_file(db: sqlite3.Connection, number: int, chunks: bytes) -> int:
    """Remove a file with its locations; returns how many those were."""
    keys = []
    offset = 0
    for digest, size in manifests.CHUNK.iter_unpack(chunks):
        keys.append((digest, number, offset))
        offset += size
    count = db.executemany("DELETE FROM locations WHERE hash = ? AND file = ? AND offset = ?", keys).rowcount
    db.execute("DELETE FROM files WHERE id = ?", (number,))
    return max(count, 0)


def _marks(count: int) -> str:
    return ",".join("?" * count)


def _under(place: bytes) -> tuple[bytes, bytes, bytes]:
    """A path itself, and the bounds between which everything under it sorts."""
    folder = place.rstrip(b"/")
    return place, folder + b"/", folder + b"0"


def _covered(path: bytes, places: set[bytes]) -> bool:
    """Whether `path` or a folder above it is one of `places`."""
    if path in places:
        return True
    at = path.rfind(b"/")
    while at > 0:
        if path[:at] in places:
            return True
        at = path.rfind(b"/", 0, at)
    return b"/" in places


def _size_of(path: str) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0
