"""The audit log of a node: every use and every refusal, counted, in a small database of its owner only.

Equal ones are counted in memory and written together every few seconds: one line says who did what to what, how often,
between which moments. Nothing secret is written: no ticket, no content, only ids and names of resources.
"""

import contextlib
import logging
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from coterie.access.policy import Decision
from coterie.access.resource import say_verbs
from coterie.errors import StorageError
from coterie.private_file import move_database
from coterie.texts import tr

ROWS_MAX = 20_000  # guess: weeks of a household, about 3 MB
PENDING_MAX = 1_024  # different lines between two writes; what is beyond is counted in one line of its own
TEXT_CHARS_MAX = 300
MERGE_WITHIN_S = 60.0  # equal lines within a minute are one
OTHERS = "(others)"

log = logging.getLogger(__name__)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS uses (
    number INTEGER PRIMARY KEY, first REAL NOT NULL, last REAL NOT NULL, count INTEGER NOT NULL, peer BLOB NOT NULL,
    verb TEXT NOT NULL, resource TEXT NOT NULL, allowed INTEGER NOT NULL, code TEXT NOT NULL, reason TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS used (link BLOB PRIMARY KEY, bytes INTEGER NOT NULL, expires INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS marks (name TEXT PRIMARY KEY, value REAL NOT NULL);
"""


@dataclass(slots=True)
class Use:
    """One line: `peer` (id as bytes) did or was refused `verb` on `resource`, `count` times from `first` to `last`."""

    first: float
    last: float
    count: int
    peer: bytes
    verb: str
    resource: str
    allowed: bool | int
    code: str
    reason: str


class Noted(msgspec.Struct, frozen=True):
    """What waits to be written: lines, bytes used of links with when these end, and the latest time seen."""

    uses: list[Use]
    used: dict[bytes, tuple[int, int]]
    time: float


class Audit:
    """The log. `note` and `take` are for the event loop and fast; `write` may run in any thread."""

    def __init__(self, path: Path | None) -> None:
        """`path` None: in memory, for tests and simulations.

        Raises:
            StorageError: it cannot be opened.
        """
        self._lock = threading.Lock()
        self._pending: dict[tuple[bytes, int, str, str], Use] = {}
        self._used: dict[bytes, tuple[int, int]] = {}
        self._mark = 0.0
        self.problem = ""
        """For people: that the log was damaged, and where it is now."""
        try:
            try:
                self._db = _opened(path)
            except sqlite3.DatabaseError as error:
                if path is None or isinstance(error, sqlite3.OperationalError):  # full, locked, read-only
                    raise
                self.problem = _set_aside(path, error)
                log.warning("%s", self.problem)
                self._db = _opened(path)
        except (sqlite3.Error, OSError) as error:
            raise StorageError(
                tr("the audit log {path} cannot be used: {error}", path=path, error=error)
            ) from error

    def note(self, decision: Decision, now: float) -> None:
        """Count one use or refusal."""
        place = (bytes(decision.peer), int(decision.verb), decision.resource, decision.because)
        use = self._pending.get(place)
        if use is None:
            if len(self._pending) >= PENDING_MAX:
                place = (b"", 0, OTHERS, "yes" if decision.allowed else "no")
            use = self._pending.get(place)
        if use is not None:
            use.last = now
            use.count += 1
            return
        is_other = place[2] == OTHERS
        self._pending[place] = Use(
            now,
            now,
            1,
            place[0],
            "" if is_other else say_verbs(decision.verb),
            place[2],
            decision.allowed,
            decision.because,
            "" if is_other else "; ".join(r.text for r in decision.reasons)[:TEXT_CHARS_MAX],
        )

    def note_used(self, link: bytes, size: int, expires: int) -> None:
        """Remember that of the quota of `link`, which ends at `expires`, `size` bytes are used in all."""
        self._used[link] = (size, expires)

    def note_time(self, now: float) -> None:
        """Remember the latest time seen."""
        self._mark = max(self._mark, now)

    @property
    def is_dirty(self) -> bool:
        """Whether there is something to write."""
        return bool(self._pending or self._used)

    def flush(self) -> None:
        """Write what was noted. Raises `StorageError`."""
        self.write(self.take())

    def take(self) -> Noted:
        """What is to be written, off the event loop's hands."""
        noted = Noted(list(self._pending.values()), self._used, self._mark)
        self._pending, self._used = {}, {}
        return noted

    def write(self, noted: Noted) -> None:
        """Write what was taken; in any thread. Raises `StorageError`."""
        with self._transaction() as db:
            for use in noted.uses:
                self._write(db, use)
            db.executemany(
                "INSERT INTO used VALUES (?, ?, ?) ON CONFLICT (link) DO UPDATE SET bytes = excluded.bytes",
                [(link, size, expires) for link, (size, expires) in noted.used.items()],
            )
            db.execute("DELETE FROM used WHERE expires < ?", (noted.time,))
            db.execute(
                "INSERT INTO marks VALUES ('time', ?) "
                "ON CONFLICT (name) DO UPDATE SET value = max(value, excluded.value)",
                (noted.time,),
            )
            db.execute("DELETE FROM uses WHERE number <= (SELECT max(number) FROM uses) - ?", (ROWS_MAX,))

    def lines(self, *, limit: int = 100, peer: bytes = b"", refused: bool = False) -> Sequence[Use]:
        """The newest lines, newest first. Raises `StorageError`."""
        self.flush()
        with self._transaction() as db:
            rows = db.execute(
                "SELECT first, last, count, peer, verb, resource, allowed, code, reason FROM uses "
                "WHERE (? = x'' OR peer = ?) AND (? = 0 OR allowed = 0) ORDER BY last DESC, number DESC LIMIT ?",
                (peer, peer, refused, limit),
            ).fetchall()
        return [Use(*row) for row in rows]

    def used(self) -> Iterable[tuple[bytes, int]]:
        """What is used of each link's quota, in bytes."""
        with self._transaction() as db:
            return db.execute("SELECT link, bytes FROM used").fetchall()

    def latest_time(self) -> float:
        """The latest time that was ever seen."""
        with self._transaction() as db:
            row = db.execute("SELECT value FROM marks WHERE name = 'time'").fetchone()
        return max(self._mark, row[0] if row else 0.0)

    def close(self) -> None:
        """Write the rest."""
        try:
            self.flush()
        finally:
            self._db.close()

    def _write(self, db: sqlite3.Connection, use: Use) -> None:
        merged = db.execute(
            "UPDATE uses SET last = ?, count = count + ? WHERE number = (SELECT number FROM uses "
            "WHERE peer = ? AND verb = ? AND resource = ? AND code = ? AND allowed = ? AND last > ? "
            "AND number > (SELECT max(number) FROM uses) - 64)",
            (
                *(use.last, use.count, use.peer, use.verb, use.resource, use.code, use.allowed),
                use.first - MERGE_WITHIN_S,
            ),
        )
        if not merged.rowcount:
            db.execute(
                "INSERT INTO uses (first, last, count, peer, verb, resource, allowed, code, reason) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    *(use.first, use.last, use.count, use.peer, use.verb, use.resource),
                    *(use.allowed, use.code, use.reason),
                ),
            )

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                yield self._db
                self._db.execute("COMMIT")
            except sqlite3.Error as error:
                with contextlib.suppress(sqlite3.Error):
                    self._db.execute("ROLLBACK")
                raise StorageError(tr("the audit log cannot be used: {error}", error=error)) from error


def _opened(path: Path | None) -> sqlite3.Connection:
    """The database, sound. Raises `sqlite3.DatabaseError` when it is damaged."""
    if path is not None:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    db = sqlite3.connect(path or ":memory:", check_same_thread=False, isolation_level=None)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")  # the last seconds may be lost with the power
        (said,) = db.execute("PRAGMA quick_check(1)").fetchone()  # at most 3 MB: some milliseconds
        if said != "ok":
            raise sqlite3.DatabaseError(said)
        db.executescript(_SCHEMA)
    except BaseException:
        db.close()
        raise
    return db


def _set_aside(path: Path, error: sqlite3.DatabaseError) -> str:
    """Move a damaged log out of the way; what to tell people."""
    aside = path.with_name(f"{path.name}.damaged")
    move_database(path, aside)
    return (
        f"the audit log was damaged ({error}) and is now {aside}; a new one is begun. What was used of the quotas of "
        "grants is counted anew"
    )
