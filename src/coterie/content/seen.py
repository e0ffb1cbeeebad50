"""How the folders of a share looked when they were last taken in: what looks the same is known without reading it.

One row for a folder, with a stamp for each of its files and links: inode, size, date and change time. Nobody can set a
change time, so it tells a copy that kept size and date. The number of the disk is left out: on some file systems
(btrfs, network drives) it is another after each start. Where inodes do not last, or a change time is none (exFAT,
FAT, NTFS), files are told by what the table `files` has, as before there were stamps.

A file that was written at about the moment when we looked (git calls that racily clean) could be written again with
the same stamp: it is kept without one, and read again the next time.

The rows live as long as the root at its place: what they name is in the store then. Version 0.1 does not know these
tables and works on: it deletes rows with their place, for the database itself does that.
"""

import os
import sqlite3
import struct
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager

import msgspec

from coterie.content.manifest import TOTAL_MAX
from coterie.decoding import decoder
from coterie.errors import StorageError

TABLES = """
CREATE TABLE IF NOT EXISTS looks (
    id INTEGER PRIMARY KEY,
    place BLOB NOT NULL UNIQUE,
    root BLOB NOT NULL,
    revision INTEGER NOT NULL,
    FOREIGN KEY (root, place) REFERENCES places(root, path) ON DELETE CASCADE
);
CREATE TABLE IF NOT EXISTS looked (
    look INTEGER NOT NULL REFERENCES looks(id) ON DELETE CASCADE,
    folder BLOB NOT NULL,
    stamps BLOB NOT NULL,
    tree BLOB NOT NULL,
    below BLOB NOT NULL,
    nodes BLOB NOT NULL,
    files INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    own_files INTEGER NOT NULL,
    own_bytes INTEGER NOT NULL,
    PRIMARY KEY (look, folder)
);
"""
ID_BYTES = 32
QUERY_IDS = 400  # below SQLite's old bound of 999 variables
COARSE_NS = 3_000_000_000  # FAT keeps dates to 2 s; the system's clock may lag by its tick
FINE_NS = 100_000_000  # ten of the longest ticks by which Linux dates files; NTFS and exFAT are finer
STAMP = struct.Struct("<BQQqq")  # kind, inode, size, date, change time
NO_STAMP = bytes(STAMP.size)  # no kind is 0: what has it never looks the same
COPIED = slice(1, 25)  # of a STAMP: inode, size and date, which programs can set as they were
FILE, PROGRAM, LINK = 1, 2, 3  # kinds
_SEP = os.fsencode(os.sep)


class Forgotten(Exception):
    """What the rows named is no longer in the store: build everything anew."""


class SeenFolder(msgspec.Struct, frozen=True):
    """A folder as it was. `stamps`: name, NUL and STAMP of each file and link, in the order of names.

    `tree` with `files` and `size` in and under it; `below`: a digest of the entries of its folders; `nodes`: the ids
    of all manifests that were made for it and its files; its own files, with their bytes, without those below.
    """

    stamps: bytes
    tree: bytes
    below: bytes
    nodes: bytes
    files: int
    size: int
    own_files: int
    own_bytes: int

    def by_name(self) -> dict[bytes, bytes]:
        """The STAMP of each name; none where the database has lost some."""
        try:
            return dict(split(self.stamps))
        except StorageError:
            return {}


class Look(msgspec.Struct, frozen=True):
    """What was seen of a place, by folder below it (b"" is the place itself), and which root it was then."""

    root: bytes
    revision: int
    folders: Mapping[bytes, SeenFolder]


class Sight(msgspec.Struct, frozen=True):
    """What an import saw: rows that are new, folders that are gone, nodes made earlier, and what it began with."""

    rows: Mapping[bytes, SeenFolder]
    gone: Collection[bytes]
    nodes: bytes
    before: Look | None


class SeenFolders:
    """The rows of all places in one store."""

    def __init__(self, read: Callable[[], AbstractContextManager[sqlite3.Connection]]) -> None:
        self._read = read

    def at(self, place: bytes) -> Look | None:
        """What was seen of the file or folder at `place`."""
        with self._read() as db:
            db.execute("BEGIN")
            try:
                look = db.execute("SELECT id, root, revision FROM looks WHERE place = ?", (place,)).fetchone()
                if look is None:
                    return None
                rows = db.execute(
                    "SELECT folder, stamps, tree, below, nodes, files, bytes, own_files, own_bytes "
                    "FROM looked WHERE look = ?",
                    look[:1],
                )
                return Look(look[1], look[2], {folder: SeenFolder(*rest) for folder, *rest in rows})
            finally:
                db.execute("COMMIT")


def record(db: sqlite3.Connection, root: bytes, place: bytes, sight: Sight) -> None:
    """Keep what an import saw of `place`, within the transaction that makes it `root`, whose place is known by now.

    Raises:
        Forgotten: some of `sight.nodes` are not in the store.
    """
    wanted = list(
        dict.fromkeys(sight.nodes[at : at + ID_BYTES] for at in range(0, len(sight.nodes), ID_BYTES))
    )
    for at in range(0, len(wanted), QUERY_IDS):
        part = wanted[at : at + QUERY_IDS]
        within = f"FROM manifests WHERE id IN ({','.join('?' * len(part))})"
        if db.execute(f"SELECT count(*) {within}", part).fetchone()[0] < len(part):
            raise Forgotten
        db.execute(f"INSERT OR IGNORE INTO reach SELECT ?, id {within}", (root, *part))
    now = db.execute("SELECT id, revision FROM looks WHERE place = ?", (place,)).fetchone()
    if now is None:
        values = (place, root)
        look = db.execute("INSERT INTO looks (place, root, revision) VALUES (?, ?, 0)", values).lastrowid
    else:
        look = now[0]
        db.execute("UPDATE looks SET root = ?, revision = revision + 1 WHERE id = ?", (root, look))
        if (
            sight.before is None or now[1] != sight.before.revision
        ):  # somebody else looked meanwhile, or all is new
            db.execute("DELETE FROM looked WHERE look = ?", (look,))
    gone = ((look, folder) for folder in sight.gone)
    db.executemany("DELETE FROM looked WHERE look = ? AND folder = ?", gone)
    rows = ((look, folder, *msgspec.structs.astuple(row)) for folder, row in sight.rows.items())
    db.executemany(f"INSERT OR REPLACE INTO looked VALUES ({','.join('?' * 10)})", rows)  # noqa: S608


def forget_file(db: sqlite3.Connection, path: bytes) -> None:
    """The file at `path` is not what it looks like: its folder is to be looked at anew, in every place that has it."""
    folder = path.rpartition(_SEP)[0]
    above = path
    while above:
        inner = folder[len(above) :].lstrip(_SEP)
        db.execute(
            "DELETE FROM looked WHERE folder = ? AND look = (SELECT id FROM looks WHERE place = ?)",
            (inner, above),
        )
        above = above.rpartition(_SEP)[0] or (_SEP if above != _SEP else b"")


def stamped(name: str, stamp: bytes) -> bytes:
    """One entry of `SeenFolder.stamps`."""
    return os.fsencode(name) + b"\0" + stamp


def stamp_of(kind: int, status: os.stat_result) -> bytes:
    """The STAMP of a file or link."""
    inode, date, change = status.st_ino & TOTAL_MAX, status.st_mtime_ns, status.st_ctime_ns
    try:
        return STAMP.pack(kind, inode, status.st_size, date, change)
    except struct.error:  # a date after 2262; it is the change time that tells
        return STAMP.pack(kind, inode, status.st_size, clamped(date), clamped(change))


def clamped(time_ns: int) -> int:
    """A time, ns since 1970; of what 64 bits cannot hold (after 2262) the nearest that they can."""
    return max(-TOTAL_MAX, min(time_ns, TOTAL_MAX))


@decoder(StorageError, "what was seen of a folder")
def split(stamps: bytes) -> list[tuple[bytes, bytes]]:
    """Name and STAMP of each entry of `SeenFolder.stamps`."""
    found = []
    at = 0
    while at < len(stamps):
        end = stamps.index(b"\0", at)
        next_at = end + 1 + STAMP.size
        if next_at > len(stamps):
            raise ValueError("it is cut off")
        found.append((stamps[at:end], stamps[end + 1 : next_at]))
        at = next_at
    return found


@decoder(StorageError, "the stamp of a file")
def numbers(stamp: bytes) -> tuple[int, int, int, int, int]:
    """Kind, inode, size, date and change time."""
    kind, inode, size, mtime_ns, ctime_ns = STAMP.unpack(stamp)
    return kind, inode, size, mtime_ns, ctime_ns


def is_settled(mtime_ns: int, ctime_ns: int, looked_ns: int) -> bool:
    """Whether whatever is written to a file after `looked_ns` gives it another change time than `ctime_ns`.

    A whole second tells a file system with coarse dates. A date ahead of us was set by somebody.
    """
    latest = mtime_ns if ctime_ns < mtime_ns <= looked_ns else ctime_ns
    return latest + (FINE_NS if latest % 1_000_000_000 else COARSE_NS) < looked_ns
