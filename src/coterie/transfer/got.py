"""What was got, and how each file was when it was written: so that getting it again brings it up to date.

One database in the app's folder. Blocking; safe from several threads.
"""

import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from coterie import json_text
from coterie.decoding import decoder
from coterie.errors import StorageError
from coterie.texts import tr
from coterie.wire import Ticket

GOT_MAX = 1_000  # things that were got and can be refreshed; the one longest untouched gives way; guess
BATCH = 1_000  # rows of one transaction step
_SCHEMA = """
CREATE TABLE IF NOT EXISTS got (id TEXT PRIMARY KEY, target BLOB NOT NULL UNIQUE, updated REAL NOT NULL, record BLOB);
CREATE TABLE IF NOT EXISTS files (
    got TEXT NOT NULL, path BLOB NOT NULL, identity BLOB NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
    PRIMARY KEY (got, path)
) WITHOUT ROWID;
"""


class Got(msgspec.Struct):
    """Something that was got: to `target`, from whom and by what right. `updated`: seconds since 1970.

    `place`: the path at `peer` by which it was asked for, empty for a ticket. `root`: the content that was got last.
    `only`: the patterns of the files that were wanted.
    """

    id: str
    target: str
    peer: bytes
    ticket: str
    place: str
    name: str
    root: bytes
    updated: float
    only: list[str] = []

    def is_of(self, ticket: Ticket, place: str) -> bool:
        """Whether that is the same thing of the same giver: the same place, the same share or the same content."""
        known = Ticket.parse(self.ticket)
        same = known.secret == ticket.secret or self.root == ticket.content_id
        return self.peer == bytes(ticket.peer) and (same or (bool(place) and place == self.place))


class Written(msgspec.Struct, frozen=True):
    """A file as it was written: its path below the target ("" for a single file), content, size and time."""

    path: str
    identity: bytes
    size: int
    mtime_ns: int

    def is_at(self, status: os.stat_result) -> bool:
        """Whether the file is unchanged, as far as size and time tell."""
        return (status.st_size, status.st_mtime_ns) == (self.size, self.mtime_ns)


class GotBook:
    """Everything that was got."""

    def __init__(self, path: Path) -> None:
        """Raises `StorageError` when the database cannot be opened."""
        self._path = path
        self._lock = threading.Lock()
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            self._db = sqlite3.connect(path, check_same_thread=False)
            self._db.executescript(f"PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; {_SCHEMA}")
        except (OSError, sqlite3.Error) as error:
            raise self._fault(error) from error

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            self._db.close()

    def all(self) -> list[Got]:
        """Everything, the one longest untouched first."""
        with self._used() as db:
            rows = db.execute("SELECT record FROM got ORDER BY updated, id").fetchall()
        return [_read(record) for (record,) in rows]

    def at(self, target: Path | str) -> Got | None:
        """What was got to this path."""
        with self._used() as db:
            row = db.execute("SELECT record FROM got WHERE target = ?", (os.fsencode(target),)).fetchone()
        return _read(row[0]) if row else None

    def save(self, got: Got) -> None:
        """Keep `got` in place of what was got to the same path by another one."""
        with self._used() as db:
            target = os.fsencode(got.target)
            for (other,) in db.execute("SELECT id FROM got WHERE target = ? AND id != ?", (target, got.id)):
                _forget(db, other)
            row = (got.id, target, got.updated, _pack(got))
            db.execute("INSERT OR REPLACE INTO got VALUES (?, ?, ?, ?)", row)
            over = db.execute(
                "SELECT id FROM got ORDER BY updated DESC LIMIT -1 OFFSET ?", (GOT_MAX,)
            ).fetchall()
            for (old,) in over:
                _forget(db, old)

    def forget(self, got_id: str) -> None:
        """It is refreshed no more."""
        with self._used() as db:
            _forget(db, got_id)

    def written(self, got_id: str, path: str) -> Written | None:
        """How this file was when it was written."""
        query = "SELECT path, identity, size, mtime_ns FROM files WHERE got = ? AND path = ?"
        with self._used() as db:
            row = db.execute(query, (got_id, _packed(path))).fetchone()
        return _written(row) if row else None

    def size(self, got_id: str) -> tuple[int, int]:
        """How many files were written, and their bytes."""
        with self._used() as db:
            query = "SELECT count(*), coalesce(sum(size), 0) FROM files WHERE got = ?"
            row = db.execute(query, (got_id,)).fetchone()
        return int(row[0]), int(row[1])

    def note(self, got_id: str, files: Iterable[Written]) -> None:
        """These were written."""
        rest = iter(files)
        while some := list(islice(rest, BATCH)):
            rows = [(got_id, _packed(one.path), one.identity, one.size, one.mtime_ns) for one in some]
            with self._used() as db:
                db.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?)", rows)

    def drop(self, got_id: str, paths: Iterable[str]) -> None:
        """These are not known any more."""
        with self._used() as db:
            rows = ((got_id, _packed(path)) for path in paths)
            db.executemany("DELETE FROM files WHERE got = ? AND path = ?", rows)

    def others(self, got_id: str, paths: Iterable[str]) -> list[Written]:
        """What was written and is not among `paths`; in order."""
        query = (
            "SELECT path, identity, size, mtime_ns FROM files WHERE got = ? "
            "AND path NOT IN (SELECT path FROM temp.present) ORDER BY path"
        )
        with self._used() as db:
            db.execute("CREATE TEMP TABLE present (path BLOB PRIMARY KEY) WITHOUT ROWID")
            try:
                db.executemany(
                    "INSERT OR IGNORE INTO present VALUES (?)", ((_packed(path),) for path in paths)
                )
                return [_written(row) for row in db.execute(query, (got_id,)).fetchall()]
            finally:
                db.execute("DROP TABLE temp.present")

    @contextmanager
    def _used(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                with self._db:
                    yield self._db
            except sqlite3.Error as error:
                raise self._fault(error) from error

    def _fault(self, error: Exception) -> StorageError:
        return StorageError(
            tr(
                "the list of what was got, {path}, cannot be used ({error}); move it away to go on",
                path=self._path,
                error=error,
            )
        )


def _forget(db: sqlite3.Connection, got_id: str) -> None:
    db.execute("DELETE FROM files WHERE got = ?", (got_id,))
    db.execute("DELETE FROM got WHERE id = ?", (got_id,))


def _packed(path: str) -> bytes:
    return path.encode("utf-8", "surrogateescape")


def _written(row: tuple[Any, ...]) -> Written:
    return Written(row[0].decode("utf-8", "surrogateescape"), *row[1:])


@decoder(StorageError, "a record of what was got")
def _read(record: bytes) -> Got:
    if record.startswith(b"{"):  # no map of msgpack begins so
        return json_text.decode(record, Got)
    return msgspec.msgpack.decode(record, type=Got)


def _pack(got: Got) -> bytes:
    """As `_read` reads it. A path that is no UTF-8 has a form in JSON only."""
    try:
        return msgspec.msgpack.encode(got)
    except UnicodeEncodeError:
        return json_text.encode(got)
