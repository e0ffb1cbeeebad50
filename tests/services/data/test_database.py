"""The SQLite file of an app: migrations whole or not at all, damage set aside, the quota."""

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from coterie.errors import LimitExceeded, StorageError
from coterie.services.data import database as database_module
from coterie.services.data.database import DAMAGED_MAX, Database
from coterie.services.data.quota import Quota

FIRST = "CREATE TABLE pages (text TEXT); INSERT INTO pages VALUES ('a;b'); -- a comment; with a semicolon\n"
SECOND = "ALTER TABLE pages ADD COLUMN author TEXT"


def opened(folder: Path, told: list[str] | None = None, bytes_max: int = 10**9) -> closing[Database]:
    tell = (lambda text, key: told.append(text)) if told is not None else (lambda text, key: None)
    return closing(Database(folder / "data.db", Quota("a", bytes_max), tell))


def test_each_step_is_done_once(tmp_path: Path) -> None:
    with opened(tmp_path) as database:
        database.migrate([FIRST])
        database.migrate([FIRST])
    with opened(tmp_path) as database:
        database.migrate([FIRST, SECOND])
        assert database.execute("SELECT text, author FROM pages") == [("a;b", None)]
    assert (tmp_path / "data.db").stat().st_mode & 0o777 == 0o600


def test_a_wrong_step_is_taken_back_and_those_before_it_stay(tmp_path: Path) -> None:
    with opened(tmp_path) as database:
        with pytest.raises(sqlite3.OperationalError, match="no such table: nowhere"):
            database.migrate([FIRST, f"{SECOND}; INSERT INTO nowhere VALUES (1)"])
        assert database.execute("SELECT * FROM pages") == [("a;b",)]
        database.migrate([FIRST, SECOND])


def test_a_newer_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    with opened(tmp_path) as database:
        database.migrate([FIRST, SECOND])
    with opened(tmp_path) as database:
        with pytest.raises(StorageError, match=r"is from a newer version .2 steps; this one knows 1"):
            database.migrate([FIRST])
        assert database.execute("SELECT count(*) FROM pages") == [(1,)]


_KILLED = """
import os, sys
from pathlib import Path
from coterie.services.data.database import Database
from coterie.services.data.quota import Quota
def step(db):
    db.execute("INSERT INTO pages VALUES ('half')")
    os._exit(9)
Database(Path(sys.argv[1]) / "data.db", Quota("a")).migrate([sys.argv[2], step])
"""


def test_killed_within_a_step_the_step_never_was(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", _KILLED, str(tmp_path), FIRST], check=False)
    assert done.returncode == 9
    with opened(tmp_path) as database:
        assert database.execute("PRAGMA user_version") == [(1,)]
        assert database.execute("SELECT * FROM pages") == [("a;b",)]
        database.migrate([FIRST, SECOND])


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[20:4000] = b"\xff" * 3980
    path.write_bytes(content)


def test_a_damaged_one_is_set_aside_and_told_and_a_new_one_begun(tmp_path: Path) -> None:
    told: list[str] = []
    for number in range(1, DAMAGED_MAX + 1):
        with opened(tmp_path, told) as database:
            database.migrate([FIRST])
        damage(tmp_path / "data.db")
        with opened(tmp_path, told) as database:
            assert database.execute("PRAGMA user_version") == [(0,)]
        assert len(told) == number
        assert "data.db was damaged (" in told[-1]
        assert f"data.db.damaged-{number}; a new one is begun" in told[-1]
        assert (tmp_path / f"data.db.damaged-{number}").stat().st_size > 4000
    with opened(tmp_path) as database:
        database.migrate([FIRST])
    damage(tmp_path / "data.db")
    with pytest.raises(StorageError, match=f"and so were {DAMAGED_MAX} before it"):
        opened(tmp_path)
    assert (tmp_path / "data.db").exists()


def test_damage_that_shows_later_is_found_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "CHECK_BYTES_MAX", 0)  # as for a large one
    with opened(tmp_path) as database:
        database.migrate(["CREATE TABLE pages (text TEXT)"])
        with database.transaction() as db:
            db.executemany("INSERT INTO pages VALUES (?)", [("x" * 3000,) for _ in range(100)])
    content = bytearray((tmp_path / "data.db").read_bytes())
    content[8192 : 20 * 4096] = b"\xff" * (20 * 4096 - 8192)
    (tmp_path / "data.db").write_bytes(content)
    told: list[str] = []
    with opened(tmp_path, told) as database:
        assert told == []
        with pytest.raises(StorageError, match=r"is damaged .*: restart coterie"):
            database.execute("SELECT sum(length(text)) FROM pages")
    with opened(tmp_path, told):
        assert "was damaged" in told[0]
    with opened(tmp_path, told):
        assert len(told) == 1


def test_a_full_quota_takes_back_the_transaction(tmp_path: Path) -> None:
    with opened(tmp_path, bytes_max=200_000) as database:
        database.migrate(["CREATE TABLE pages (text TEXT)"])
        database.execute("INSERT INTO pages VALUES (?)", ("x" * 50_000,))
        with (
            pytest.raises(LimitExceeded, match=r"has filled its quota of 200.0 kB"),
            database.transaction() as db,
        ):
            for _ in range(5):
                db.execute("INSERT INTO pages VALUES (?)", ("x" * 50_000,))
        assert database.execute("SELECT count(*) FROM pages") == [(1,)]
        database.execute("INSERT INTO pages VALUES ('little')")


def test_a_disk_that_refuses_is_told(tmp_path: Path) -> None:
    (tmp_path / "data.db").mkdir()
    with pytest.raises(StorageError, match="cannot be used"):
        opened(tmp_path)


def test_sync_brings_to_the_disk_what_was_kept_since_the_last_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite itself does so only now and then: a power cut may take the last moments."""
    synced: list[str] = []
    fsync = os.fsync

    def seen(fd: int) -> None:
        synced.append(Path(f"/proc/self/fd/{fd}").readlink().name)
        fsync(fd)

    with opened(tmp_path) as database:
        database.migrate([FIRST])
        database.sync()
        monkeypatch.setattr(os, "fsync", seen)
        database.sync()
        assert synced == []
        database.execute("INSERT INTO pages VALUES ('x')")
        database.sync()
        assert synced == ["data.db-wal"]
        with database.transaction() as db:
            db.execute("INSERT INTO pages VALUES ('y')")
        database.sync()
        database.sync()
        assert synced == ["data.db-wal"] * 2
        database.execute("INSERT INTO pages VALUES ('z')")
        (tmp_path / "data.db-wal").unlink()
        with pytest.raises(StorageError, match="cannot be written"):
            database.sync()
