"""One app's mail on disk: its letters, its counts, what it has taken, beside the tables of the app itself.

One SQLite file, so that one transaction holds the app's records and the receipt. Every commit is on disk before it
returns (WAL, synchronous FULL). Tables of mail begin with `mail_`; an app's handler cannot write to them.
"""

import contextlib
import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from coterie.errors import StorageError
from coterie.identity import PeerId
from coterie.private_file import move_database
from coterie.services.mail.events import (
    Bind,
    Deliver,
    Forget,
    ForgetStream,
    Handled,
    Keep,
    KeepFinished,
    Outgoing,
    StreamKey,
)
from coterie.services.mail.inbox import Finished, StreamId
from coterie.services.mail.sealing import Opened
from coterie.texts import tr

T = TypeVar("T")
Take = Callable[[Opened, sqlite3.Connection], None]

VERSION = 2
OWN_PREFIX = "mail_"
_WRITES = {sqlite3.SQLITE_INSERT, sqlite3.SQLITE_UPDATE, sqlite3.SQLITE_DELETE}
_TRANSACTIONS = {sqlite3.SQLITE_TRANSACTION, sqlite3.SQLITE_SAVEPOINT, sqlite3.SQLITE_ATTACH}

log = logging.getLogger(__name__)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS mail_letters (
    place INTEGER PRIMARY KEY AUTOINCREMENT, id BLOB NOT NULL, addressee BLOB NOT NULL, stream TEXT NOT NULL,
    is_ordered INTEGER NOT NULL, number INTEGER NOT NULL, expires INTEGER NOT NULL, digest BLOB NOT NULL,
    is_for_first INTEGER NOT NULL, is_bound INTEGER NOT NULL, body BLOB NOT NULL, epoch BLOB NOT NULL DEFAULT x'',
    UNIQUE (id, addressee));
CREATE TABLE IF NOT EXISTS mail_streams (
    sender BLOB NOT NULL, stream TEXT NOT NULL, is_ordered INTEGER NOT NULL, epoch BLOB NOT NULL,
    floor INTEGER NOT NULL, until REAL NOT NULL,
    PRIMARY KEY (sender, stream, is_ordered, epoch)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS mail_taken (
    sender BLOB NOT NULL, stream TEXT NOT NULL, is_ordered INTEGER NOT NULL, epoch BLOB NOT NULL,
    number INTEGER NOT NULL, id BLOB NOT NULL,
    PRIMARY KEY (sender, stream, is_ordered, epoch, number)) WITHOUT ROWID;
"""
_FROM_1 = """
ALTER TABLE mail_letters ADD COLUMN epoch BLOB NOT NULL DEFAULT x'';
UPDATE mail_letters AS of SET epoch = coalesce((SELECT epoch FROM mail_counts AS c WHERE c.addressee = of.addressee
    AND c.stream = of.stream AND c.is_ordered = of.is_ordered), x'');
DROP TABLE mail_counts;
ALTER TABLE mail_streams RENAME COLUMN used_at TO until;
UPDATE mail_streams SET until = until + 5184000;
"""


class MailStore:
    """The file. Methods block and may be called in any thread; each is one transaction."""

    def __init__(self, path: Path | None) -> None:
        """`path` None: in memory, for tests and simulations. A damaged file is moved aside, and `problem` says so.

        Raises:
            StorageError: it cannot be opened.
        """
        self._lock = threading.RLock()
        self._path = path
        self.problem = ""
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
                tr("the mail {path} cannot be used: {error}", path=path, error=error)
            ) from error

    def load(self) -> tuple[list[Outgoing], dict[StreamId, Finished]]:
        """What `MailCore.load` takes."""
        with self._transaction() as db:
            letters = [
                Outgoing(
                    row[0],
                    PeerId(row[1]),
                    row[2],
                    bool(row[3]),
                    row[4],
                    row[5],
                    row[6],
                    row[7],
                    bool(row[8]),
                    bool(row[9]),
                    row[10],
                )
                for row in db.execute(
                    "SELECT id, addressee, stream, is_ordered, number, expires, length(body), digest, is_for_first, "
                    "is_bound, epoch FROM mail_letters ORDER BY place"
                )
            ]
            finished: dict[StreamId, Finished] = {
                (_key(peer, stream, is_ordered), epoch): Finished(floor, until)
                for peer, stream, is_ordered, epoch, floor, until in db.execute(
                    "SELECT sender, stream, is_ordered, epoch, floor, until FROM mail_streams"
                )
            }
            for peer, stream, is_ordered, epoch, number, id_ in db.execute("SELECT * FROM mail_taken"):
                known = finished.get((_key(peer, stream, is_ordered), epoch))
                if known is not None and number >= known.floor:
                    known.ids[number] = id_
        return letters, finished

    def commit(self, outputs: Iterable[Any], take: Take | None) -> list[Handled]:
        """Write what a turn of the core asks for, in order, and give the app its letters: one transaction.

        A letter at which `take` raises is undone by itself. Raises `StorageError`, and nothing of all is written.
        """
        handled = []
        with self._transaction() as db:
            for output in outputs:
                if isinstance(output, Deliver):
                    handled.append(self._deliver(db, output, take))
                else:
                    _write(db, output)
        return handled

    def body(self, id_: bytes, addressee: PeerId) -> bytes | None:
        """The body of a letter that waits."""
        with self._transaction() as db:
            row = db.execute(
                "SELECT body FROM mail_letters WHERE id = ? AND addressee = ?", (id_, bytes(addressee))
            ).fetchone()
        return row[0] if row else None

    def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """`work(connection)` in a transaction of its own, with the app's tables. Raises what it raises."""
        with self._transaction() as db, _guarded(db):
            return work(db)

    def close(self) -> None:
        """Idempotent."""
        with self._lock:
            self._db.close()

    def _deliver(self, db: sqlite3.Connection, output: Deliver, take: Take | None) -> Handled:
        done: list[bool] = []
        for opened in output.letters:
            letter = opened.letter
            db.execute("SAVEPOINT letter")
            try:
                if take is None:
                    raise StorageError(tr("the app takes no letters now"))
                with _guarded(db):
                    take(opened, db)
                db.execute(
                    "INSERT INTO mail_taken VALUES (?, ?, ?, ?, ?, ?)",
                    (*_columns(output.key), letter.epoch, letter.number, opened.id),
                )
                db.execute(
                    "UPDATE mail_streams SET until = max(until, ?) WHERE sender = ? AND stream = ? "
                    "AND is_ordered = ? AND epoch = ?",
                    (opened.expires, *_columns(output.key), letter.epoch),
                )
                db.execute("RELEASE letter")
                done.append(True)
            except Exception as error:
                if not db.in_transaction:  # the disk is full, or worse: all of the turn is undone
                    raise
                log.warning("an app did not take a letter, which comes again: %r", error, exc_info=True)
                db.execute("ROLLBACK TO letter")
                db.execute("RELEASE letter")
                done.append(False)
                if output.key.is_ordered:
                    break
        return Handled(output.key, output.letters[0].letter.epoch, tuple(done))

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                try:
                    yield self._db
                    self._db.execute("COMMIT")
                except BaseException:
                    with contextlib.suppress(sqlite3.Error):
                        self._db.execute("ROLLBACK")
                    raise
            except sqlite3.Error as error:
                raise StorageError(
                    tr("the mail {path} cannot be used: {error}", path=self._path, error=error)
                ) from error


def _write(db: sqlite3.Connection, output: Any) -> None:
    match output:
        case Keep(letter, body):
            db.execute(
                "INSERT INTO mail_letters (id, addressee, stream, is_ordered, number, expires, digest, is_for_first, "
                "is_bound, body, epoch) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    *(letter.id, *_columns(letter.key), letter.number, letter.expires, letter.digest),
                    *(letter.is_for_first, letter.is_bound, body, letter.epoch),
                ),
            )
        case Bind(letter):
            db.execute(
                "UPDATE mail_letters SET is_bound = ?, number = ?, epoch = ? WHERE id = ? AND addressee = ?",
                (letter.is_bound, letter.number, letter.epoch, letter.id, bytes(letter.addressee)),
            )
        case Forget(id_, peer):
            db.execute("DELETE FROM mail_letters WHERE id = ? AND addressee = ?", (id_, bytes(peer)))
        case KeepFinished(key, epoch, floor, late, until):
            where = (*_columns(key), epoch)
            db.execute(
                "INSERT OR REPLACE INTO mail_streams VALUES (?, ?, ?, ?, ?, ?)", (*where, floor, until)
            )
            db.executemany(
                "INSERT OR IGNORE INTO mail_taken VALUES (?, ?, ?, ?, ?, x'')", [(*where, n) for n in late]
            )
            db.execute(
                "DELETE FROM mail_taken WHERE sender = ? AND stream = ? AND is_ordered = ? AND epoch = ? "
                "AND number < ?",
                (*where, floor),
            )
        case ForgetStream(key, epoch):
            for table in ("mail_streams", "mail_taken"):
                db.execute(
                    f"DELETE FROM {table} WHERE sender = ? AND stream = ? AND is_ordered = ? AND epoch = ?",  # noqa: S608
                    (*_columns(key), epoch),
                )


def _columns(key: StreamKey) -> tuple[bytes, str, bool]:
    return bytes(key.peer), key.stream, key.is_ordered


def _key(peer: bytes, stream: str, is_ordered: int) -> StreamKey:
    return StreamKey(PeerId(peer), stream, bool(is_ordered))


@contextlib.contextmanager
def _guarded(db: sqlite3.Connection) -> Iterator[None]:
    """While the app's code has the connection: it ends no transaction, and leaves the tables of mail alone."""

    def may(action: int, first: str | None, *_: str | None) -> int:
        is_ours = action in _WRITES and (first or "").startswith(OWN_PREFIX)
        return sqlite3.SQLITE_DENY if is_ours or action in _TRANSACTIONS else sqlite3.SQLITE_OK

    db.set_authorizer(may)
    try:
        yield
    finally:
        db.set_authorizer(None)


def _opened(path: Path | None) -> sqlite3.Connection:
    """The database, sound. Raises `sqlite3.DatabaseError` when it is damaged."""
    if path is not None:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    db = sqlite3.connect(path or ":memory:", check_same_thread=False, isolation_level=None)
    try:
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version > VERSION:
            raise sqlite3.OperationalError(
                f"it was written by a newer coterie (version {version}, this reads {VERSION}): upgrade this one"
            )
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        if version == 1:
            db.executescript(_FROM_1)
        db.executescript(_SCHEMA)
        db.execute(f"PRAGMA user_version = {VERSION}")
        for table in ("mail_letters", "mail_streams", "mail_taken"):
            db.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608  (reads what start-up needs)
    except BaseException:
        db.close()
        raise
    return db


def _set_aside(path: Path, error: sqlite3.DatabaseError) -> str:
    """Move a damaged file out of the way; what to tell people."""
    aside = path.with_name(f"{path.name}.damaged")
    move_database(path, aside)
    return (
        f"the mail {path} was damaged ({error}) and is now {aside}; a new one is begun. Letters that waited there "
        "are not sent, and some that were taken before may come again"
    )
