"""The SQLite file of one app: migrations, transactions, a quota; a damaged one is set aside and told."""

import contextlib
import os
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from coterie.errors import StorageError
from coterie.private_file import move_database
from coterie.services.data.quota import Quota
from coterie.services.data.records import DAMAGED_MAX as ROWS_DAMAGED_MAX
from coterie.texts import tr

Step = str | Callable[[sqlite3.Connection], None]

CHECK_BYTES_MAX = 64 * 1024 * 1024  # up to here every start looks for damage; guess
DAMAGED_MAX = 3  # kept of one database: more is no accident, and nothing is deleted. Guess
DISK_BYTES_MIN = 16 * 1024 * 1024  # a disk with less is full, where SQLite says that something is
BUSY_S = 5.0  # guess: another program of the owner looks into it
_ENDINGS = ("", "-wal", "-shm")  # what belongs to one database


class Database:
    """Open until `close`. Any thread may use it; one transaction runs at a time."""

    def __init__(
        self,
        path: Path,
        quota: Quota,
        tell: Callable[[str, str], object] = lambda text, key: None,
    ) -> None:
        """Open `path`, made when missing.

        Raises:
            StorageError: the disk refuses, or DAMAGED_MAX damaged databases lie beside it.
        """
        self.path = path
        self._quota = quota
        self._lock = threading.RLock()
        self._undo: list[Callable[[], None]] | None = None
        self._counted = 0
        self._synced = 0
        try:
            try:
                self._db = _opened(path)
            except sqlite3.DatabaseError as error:
                if not _is_damage(error):
                    raise
                aside = _set_aside(path)
                tell(
                    f"the database {path} was damaged ({error}) and is now {aside}; a new one is begun",
                    f"damaged {path.name}",
                )
                self._db = _opened(path)
            self._page_bytes = int(self._db.execute("PRAGMA page_size").fetchone()[0])
            self._count()
        except (sqlite3.Error, OSError) as error:
            raise StorageError(
                tr("the database {path} cannot be used: {error}", path=path, error=error)
            ) from error

    def migrate(self, steps: Sequence[Step]) -> None:
        """Do those of `steps` that were never done here, each whole or not at all.

        Args:
            steps: SQL statements or functions of the connection, from an empty database on; only ever append to them.

        Raises:
            StorageError: a newer version of the app made it.
            sqlite3.Error: a step is wrong. It is taken back, those before it stay.
        """
        done = int(self.execute("PRAGMA user_version")[0][0])
        if done > len(steps):
            raise StorageError(
                tr(
                    "the database {path} is from a newer version ({done} steps; this one knows {steps}): "
                    "install that version",
                    path=self.path,
                    done=done,
                    steps=len(steps),
                )
            )
        for number, step in enumerate(steps[done:], done + 1):
            with self.transaction() as db:
                if callable(step):
                    step(db)
                else:
                    for statement in _statements(step):
                        db.execute(statement)
                db.execute(f"PRAGMA user_version = {number}")

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Everything done in the block is kept together, or nothing; records in rows too. One within another joins it.

        Raises:
            LimitExceeded: the quota is full.
            StorageError: the disk refuses, or the database is damaged; the next start sets a damaged one aside.
        """
        with self._lock:
            if self._undo is not None:
                yield self._db
                return
            self._undo = []
            try:
                with self._errors():
                    self._limit()
                    self._db.execute("BEGIN IMMEDIATE")
                    yield self._db
                    self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    with contextlib.suppress(sqlite3.Error):  # SQLite has taken it back itself
                        self._db.execute("ROLLBACK")
                for undo in reversed(self._undo):
                    undo()
                raise
            finally:
                self._undo = None
            self._count()

    def execute(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        """One statement, and its rows. Raises as `transaction`."""
        with self._lock, self._errors():
            is_single = self._undo is None and not sql.startswith("SELECT")  # what reads needs no room
            if is_single:
                self._limit()
            rows = self._db.execute(sql, values).fetchall()
            if is_single:
                self._count()
            return rows

    def shrink(self) -> None:
        """Give back the memory of what was read; it is read again when needed. Raises as `transaction`."""
        with self._lock, self._errors():
            self._db.execute("PRAGMA shrink_memory")

    def sync(self) -> None:
        """What was kept until now outlives a power cut too; without it the last moments may be lost. Takes some ms.

        Raises:
            StorageError: the disk refuses.
        """
        with self._lock:
            changes = self._db.total_changes
        if changes == self._synced:
            return
        log = self.path.with_name(f"{self.path.name}-wal")
        try:
            fd = os.open(log, os.O_RDWR)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
        except OSError as error:
            raise StorageError(
                tr("the database {path} cannot be written: {error}", path=self.path, error=error.strerror)
            ) from error
        self._synced = changes

    def undo_with(self, undo: Callable[[], None]) -> None:
        """Call `undo` if the transaction that is under way is taken back."""
        if self._undo is not None:
            self._undo.append(undo)

    def close(self) -> None:
        """Leave everything on disk."""
        with self._lock:
            self._db.close()

    def _limit(self) -> None:
        """SQLite itself refuses pages beyond the quota."""
        pages = (self._quota.left + self._counted) // self._page_bytes
        self._db.execute(f"PRAGMA max_page_count = {max(1, pages)}")  # never below what it has

    def _count(self) -> None:
        pages, free = (
            self._db.execute(f"PRAGMA {what}").fetchone()[0] for what in ("page_count", "freelist_count")
        )
        size = (pages - free) * self._page_bytes  # what was removed is room again
        self._quota.count(size - self._counted)
        self._counted = size

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
            if code == sqlite3.SQLITE_FULL and shutil.disk_usage(self.path.parent).free >= DISK_BYTES_MIN:
                self._quota.check(self._quota.left + 1)
            if _is_damage(error):
                with contextlib.suppress(OSError):
                    _marker(self.path).touch()
                raise StorageError(
                    tr(
                        "the database {path} is damaged ({error}): restart coterie",
                        path=self.path,
                        error=error,
                    )
                ) from error
            if code in (
                sqlite3.SQLITE_IOERR,
                sqlite3.SQLITE_FULL,
                sqlite3.SQLITE_READONLY,
                sqlite3.SQLITE_BUSY,
            ):
                raise StorageError(
                    tr("the database {path} cannot be written: {error}", path=self.path, error=error)
                ) from error
            raise


class RecordRows:
    """Records as rows of the app's database: for up to millions, and together with other changes in a transaction."""

    def __init__(self, database: Database, name: str) -> None:
        self._db = database
        self._name = name
        self._table = f'"records_{name}"'
        database.execute(
            f"CREATE TABLE IF NOT EXISTS {self._table} (id TEXT PRIMARY KEY, body BLOB NOT NULL)"
        )

    def load(self) -> Iterator[tuple[str, bytes | OSError]]:
        """See `Place`."""
        return iter(self._db.execute(f"SELECT id, body FROM {self._table}"))  # noqa: S608  (its own name)

    def write(self, record_id: str, raw: bytes) -> None:
        """See `Place`."""
        self._db.execute(f"INSERT OR REPLACE INTO {self._table} VALUES (?, ?)", (record_id, raw))  # noqa: S608

    def remove(self, record_id: str) -> None:
        """See `Place`."""
        self._db.execute(f"DELETE FROM {self._table} WHERE id = ?", (record_id,))  # noqa: S608

    def set_aside(self, record_id: str) -> str:
        """See `Place`."""
        aside = f'"damaged_{self._name}"'
        with self._db.transaction() as db:
            db.execute(f"CREATE TABLE IF NOT EXISTS {aside} (id TEXT PRIMARY KEY, body BLOB NOT NULL)")
            (there,) = db.execute(f"SELECT count(*) FROM {aside}").fetchone()  # noqa: S608
            if there >= ROWS_DAMAGED_MAX:
                raise StorageError(
                    tr(
                        "the table {aside} of {path} has {there} damaged records already: look at the disk, and "
                        "empty it",
                        aside=aside,
                        path=self._db.path,
                        there=there,
                    )
                )
            kept = f"SELECT * FROM {self._table} WHERE id = ?"  # noqa: S608
            db.execute(f"INSERT OR REPLACE INTO {aside} {kept}", (record_id,))
            db.execute(f"DELETE FROM {self._table} WHERE id = ?", (record_id,))  # noqa: S608
        return f"in the table {aside} of {self._db.path}"

    def undo_with(self, undo: Callable[[], None]) -> None:
        """See `Place`."""
        self._db.undo_with(undo)


def _opened(path: Path) -> sqlite3.Connection:
    """The database, sound as far as was looked. Raises `sqlite3.DatabaseError` when it is damaged."""
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    is_suspect = _marker(path).exists()
    db = sqlite3.connect(path, timeout=BUSY_S, check_same_thread=False, isolation_level=None)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")  # a power cut may take the last moments, never the whole
        db.execute("PRAGMA foreign_keys = ON")
        if is_suspect or path.stat().st_size <= CHECK_BYTES_MAX:
            (said,) = db.execute("PRAGMA quick_check(1)").fetchone()
            if said != "ok":
                raise sqlite3.DatabaseError(said)
        else:
            db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    except BaseException:
        db.close()
        raise
    _marker(path).unlink(missing_ok=True)
    return db


def _marker(path: Path) -> Path:
    """There while the database is known to be damaged."""
    return path.with_name(f"{path.name}.suspect")


def _is_damage(error: sqlite3.Error) -> bool:
    code = getattr(error, "sqlite_errorcode", None)  # None: our own, from `quick_check`
    is_bad = code is None or code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
    return type(error) is sqlite3.DatabaseError and is_bad


def _set_aside(path: Path) -> Path:
    """Move a damaged database out of the way, with what belongs to it; where it is now."""
    names = [f"{path.name}.damaged-{number}" for number in range(1, DAMAGED_MAX + 1)]
    aside = next((a for name in names if not (a := path.with_name(name)).exists()), None)
    if aside is None:
        raise StorageError(
            tr(
                "the database {path} is damaged, and so were {damaged_max} before it, {names} and so on: "
                "look at the disk, and move them away",
                path=path,
                damaged_max=DAMAGED_MAX,
                names=names[0],
            )
        )
    move_database(path, aside)
    return aside


def _statements(script: str) -> Iterator[str]:
    """The single statements of `script`: Python's own way to run a script would end the transaction."""
    pending = ""
    for part in script.split(";"):
        pending += part + ";"
        if sqlite3.complete_statement(pending):
            if pending.strip(" \t\r\n;"):
                yield pending
            pending = ""
