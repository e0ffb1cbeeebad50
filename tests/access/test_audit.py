"""The audit log: counted, bounded, of its owner only."""

import os
import sqlite3
import stat
from pathlib import Path

import pytest

from coterie.access.audit import MERGE_WITHIN_S, OTHERS, PENDING_MAX, ROWS_MAX, Audit
from coterie.access.policy import Decision, Reason
from coterie.access.resource import Verb
from coterie.errors import StorageError
from coterie.identity import SecretKey

ANNA, EVE = (SecretKey(bytes([number]) * 32).peer_id for number in (2, 4))


def decision(what: str = "files/photos", *, allowed: bool = True, code: str = "rule") -> Decision:
    return Decision(allowed, ANNA if allowed else EVE, Verb.READ, what, (Reason(code, f"because of {code}"),))


def test_equal_uses_are_one_line() -> None:
    log = Audit(None)
    for second in range(5):
        log.note(decision(), 100.0 + second)
    log.note(decision(allowed=False, code="no_rule"), 106.0)
    lines = log.lines()
    assert [(u.peer, u.count, u.first, u.last, u.allowed, u.code) for u in lines] == [
        (bytes(EVE), 1, 106.0, 106.0, 0, "no_rule"),
        (bytes(ANNA), 5, 100.0, 104.0, 1, "rule"),
    ]
    assert lines[1].reason == "because of rule"


def test_equal_uses_within_a_minute_are_one_line_even_after_it_was_written() -> None:
    log = Audit(None)
    for at in (100.0, 100.0 + MERGE_WITHIN_S - 1, 1_000.0):
        log.note(decision(), at)
        log.flush()
    assert [u.count for u in log.lines()] == [1, 2]


def test_what_is_asked_for_can_be_chosen() -> None:
    log = Audit(None)
    log.note(decision(), 1.0)
    log.note(decision(allowed=False), 2.0)
    assert [u.peer for u in log.lines(refused=True)] == [bytes(EVE)]
    assert [u.peer for u in log.lines(peer=bytes(ANNA))] == [bytes(ANNA)]
    assert len(log.lines(limit=1)) == 1


def test_the_file_is_the_owners_alone_and_survives(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        log = Audit(tmp_path / "audit.db")
        log.note(decision(), 1.0)
        log.note_used(b"link", 77, expires=500)
        log.note_time(123.0)
        log.close()
    finally:
        os.umask(old)
    for path in tmp_path.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    again = Audit(tmp_path / "audit.db")
    assert [u.resource for u in again.lines()] == ["files/photos"]
    assert list(again.used()) == [(b"link", 77)]
    assert again.latest_time() == 123.0
    again.close()


def test_what_waits_in_memory_is_bounded() -> None:
    log = Audit(None)
    for number in range(PENDING_MAX + 50):
        log.note(decision(f"files/{number}", allowed=False), 1.0)
    lines = log.lines(limit=10 * PENDING_MAX)
    assert len(lines) == PENDING_MAX + 1
    (others,) = [u for u in lines if u.resource == OTHERS]
    assert others.count == 50


def test_what_is_on_disk_is_bounded_and_the_oldest_goes(tmp_path: Path) -> None:
    log = Audit(tmp_path / "audit.db")
    for number in range(ROWS_MAX + 10):
        log.note(decision(f"files/{number:06}"), float(number))
        if number % PENDING_MAX == PENDING_MAX - 1:
            log.flush()
    lines = log.lines(limit=2 * ROWS_MAX)
    assert len(lines) == ROWS_MAX
    assert lines[-1].resource == "files/000010"
    log.close()
    assert (tmp_path / "audit.db").stat().st_size < 8_000_000


def test_used_quota_is_forgotten_with_its_grant() -> None:
    log = Audit(None)
    log.note_used(b"old", 5, expires=100)
    log.note_used(b"new", 6, expires=300)
    log.note_time(200.0)
    log.flush()
    assert list(log.used()) == [(b"new", 6)]


def test_the_latest_time_never_goes_back() -> None:
    log = Audit(None)
    log.note_time(200.0)
    log.flush()
    log.note_time(100.0)
    log.flush()
    assert log.latest_time() == 200.0


def test_a_log_that_cannot_be_used_says_so(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="audit log"):
        Audit(tmp_path / "missing" / "audit.db")
    (tmp_path / "folder").mkdir()
    with pytest.raises(StorageError, match="audit log"):
        Audit(tmp_path / "folder")


def test_nothing_in_the_log_is_secret(tmp_path: Path) -> None:
    log = Audit(tmp_path / "audit.db")
    log.note(decision(), 1.0)
    log.close()
    columns = [row[1] for row in sqlite3.connect(tmp_path / "audit.db").execute("PRAGMA table_info(uses)")]
    assert columns[4:] == ["peer", "verb", "resource", "allowed", "code", "reason"]


@pytest.mark.parametrize("damage", ["no database", "a page", "cut"])
def test_a_damaged_log_is_set_aside_and_a_new_one_begun(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "audit.db"
    log = Audit(path)
    for number in range(400):
        log.note_used(number.to_bytes(32, "big"), number, 2**40)
        log.note_time(5.0)
    log.close()
    whole = path.read_bytes()
    assert len(whole) > 5 * 4096
    broken = {
        "no database": b"something else " * 300,
        "a page": whole[:4096] + b"\xa5" * 4096 * 3 + whole[4 * 4096 :],
        "cut": whole[: len(whole) // 2],
    }[damage]
    path.write_bytes(broken)
    path.with_name("audit.db-wal").write_bytes(b"of the damaged one")

    again = Audit(path)
    assert "audit.db.damaged" in again.problem
    assert "quotas" in again.problem
    assert (again.latest_time(), list(again.used())) == (0.0, [])
    again.note_used(b"x" * 32, 7, 2**40)
    again.close()
    assert (tmp_path / "audit.db.damaged").read_bytes() == broken
    sound = Audit(path)
    assert (sound.problem, list(sound.used())) == ("", [(b"x" * 32, 7)])
    sound.close()
