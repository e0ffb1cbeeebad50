"""The store's database: its tables, its versions, and opening it safely.

files      A file on this computer as it was when it was read; `changed` is set when it turned out different.
           `chunks` is the packed list of its chunks: what undoes its locations, and saves reading it again.
locations  Where a chunk lies: several places for one hash. No foreign key: measured, it costs a fifth of an
           import.
manifests  Nodes by id.
roots      What is shared or was received; `reach` says which manifests belong to it, `places` where it lies.
           A file belongs to every root that has a place at it or above it: so no table lists files of roots.
looks      How folders were when they were taken in last, with `looked`: see `seen`. Added after version 0.1, too.
pins       Who keeps which root, under which name: the one table of owners. A pinned root may still have to come.
           Added after version 0.1, which does not ask it and works on.
"""

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

from coterie.content import seen
from coterie.errors import StorageError
from coterie.texts import tr

SCHEMA_VERSION = 1
APPLICATION_ID = 0x636F7465  # "cote": tells our database from any other
BUSY_TIMEOUT_S = 30.0  # the longest that a write waits for another process; guess
CACHE_KIB = 16 * 1024  # pages that one connection keeps; measured: 64 MiB is no faster for 100,000 files
WAL_PAGES = (
    8_000  # 32 MiB of log before it is folded in; measured: an import writes a fifth less than with 1,000
)

_TABLES = """
CREATE TABLE files (
    id INTEGER PRIMARY KEY,
    path BLOB NOT NULL UNIQUE,
    size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    inode INTEGER NOT NULL,
    device INTEGER NOT NULL,
    changed INTEGER NOT NULL,
    chunks BLOB NOT NULL
);
CREATE TABLE locations (
    hash BLOB NOT NULL,
    file INTEGER NOT NULL,
    offset INTEGER NOT NULL,
    size INTEGER NOT NULL,
    PRIMARY KEY (hash, file, offset)
) WITHOUT ROWID;
CREATE TABLE manifests (id BLOB PRIMARY KEY, bytes BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE roots (
    id BLOB PRIMARY KEY,
    kind INTEGER NOT NULL,
    name TEXT NOT NULL,
    files INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    created REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE places (
    root BLOB NOT NULL REFERENCES roots(id) ON DELETE CASCADE,
    path BLOB NOT NULL,
    PRIMARY KEY (root, path)
) WITHOUT ROWID;
CREATE TABLE reach (
    root BLOB NOT NULL REFERENCES roots(id) ON DELETE CASCADE,
    manifest BLOB NOT NULL REFERENCES manifests(id),
    PRIMARY KEY (root, manifest)
) WITHOUT ROWID;
CREATE INDEX reach_by_manifest ON reach(manifest);
"""

_ADDED = f"""{seen.TABLES}
CREATE TABLE IF NOT EXISTS pins (
    owner TEXT NOT NULL,
    name TEXT NOT NULL,
    root BLOB NOT NULL,
    bytes INTEGER NOT NULL,
    PRIMARY KEY (owner, name, root)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS pins_by_root ON pins(root);
"""
"""Tables that older programs do not know and do not miss: so they raise no version, and these can go back."""

MIGRATIONS: dict[int, Callable[[sqlite3.Connection], None]] = {}
"""From a version to the next one; each runs inside the transaction that raises `user_version`."""


def connect(path: Path) -> sqlite3.Connection:
    """One more connection to a database that `prepare` has made ready; transactions are explicit."""
    db = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    db.execute("PRAGMA synchronous = NORMAL")
    db.execute("PRAGMA foreign_keys = ON")
    db.execute(f"PRAGMA wal_autocheckpoint = {WAL_PAGES}")
    db.execute(f"PRAGMA journal_size_limit = {WAL_PAGES * 4096}")
    db.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
    return db


def prepare(path: Path) -> sqlite3.Connection:
    """Open the database at `path`, making or migrating it as needed.

    Raises:
        StorageError: it cannot be made or read, is damaged, not ours, or newer. Nothing is deleted.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        db = connect(path)
        try:
            _make_ready(db, path)
        except BaseException:
            db.close()
            raise
        return db
    except (OSError, sqlite3.Error) as error:
        raise translate(error, path) from error


def translate(error: OSError | sqlite3.Error, path: Path) -> StorageError:
    """What an error of the database means for the user."""
    if isinstance(error, OSError):
        return StorageError(
            tr(
                "cannot open the content database {path}: {strerror}; check its folder's permissions",
                path=path,
                strerror=error.strerror,
            )
        )
    code = getattr(error, "sqlite_errorname", "") or ""
    if code.startswith("SQLITE_FULL"):
        return StorageError(
            tr("disk full: the content database {path} cannot grow; free some space and try again", path=path)
        )
    if code.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return StorageError(
            tr(
                "the content database {path} is damaged ({error}). Your files are not affected. Move it "
                "aside (and the -wal and -shm files next to it), then share your folders again",
                path=path,
                error=error,
            )
        )
    if code.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")):
        return StorageError(
            tr(
                "cannot write the content database {path}: {error}; check its folder's permissions",
                path=path,
                error=error,
            )
        )
    if code.startswith("SQLITE_BUSY"):
        return StorageError(
            tr("the content database {path} is in use by another program; stop it and try again", path=path)
        )
    return StorageError(tr("the content database {path} failed: {error}", path=path, error=error))


def _make_ready(db: sqlite3.Connection, path: Path) -> None:
    application, version = _pragma(db, "application_id"), _pragma(db, "user_version")
    fresh = (
        not application and not version and not db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    )
    if fresh:
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")
    elif application != APPLICATION_ID:
        raise StorageError(
            tr("{path} is a database of another program; move it aside or choose another home", path=path)
        )
    if version > SCHEMA_VERSION:
        raise StorageError(
            tr(
                "the content database {path} was written by a newer coterie (format {version}, this one "
                "reads {schema_version}); update coterie, or choose another home",
                path=path,
                version=version,
                schema_version=SCHEMA_VERSION,
            )
        )
    db.execute("PRAGMA journal_mode = WAL")
    if fresh:
        db.executescript(
            f"BEGIN IMMEDIATE; {_TABLES} PRAGMA application_id = {APPLICATION_ID};"
            f"PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
        )
    while not fresh and version < SCHEMA_VERSION:
        db.execute("BEGIN IMMEDIATE")
        MIGRATIONS[version](db)
        version += 1
        db.execute(f"PRAGMA user_version = {version}")
        db.execute("COMMIT")
    db.executescript(f"BEGIN IMMEDIATE; {_ADDED} COMMIT;")
    for table in ("files", "locations", "manifests", "roots", "places", "reach", "pins", "looks", "looked"):
        db.execute(f"SELECT * FROM {table} LIMIT 1").fetchone()  # noqa: S608  # fails here, not in mid-transfer


def _pragma(db: sqlite3.Connection, name: str) -> int:
    return int(db.execute(f"PRAGMA {name}").fetchone()[0])
