"""Circles on disk: whole after a crash at any byte, for the owner only."""

import stat
from pathlib import Path
from random import Random

import pytest
from blake3 import blake3

from coterie.access.circle import Circle
from coterie.access.circle_ops import Kind, SignedOp, read_op
from coterie.apps.circles.disk import MAGIC, SUMMARY_EVERY_OPS, CircleDisk
from coterie.errors import StorageError
from tests.access.circles import add, author, found, picture, unsigned, who


def test_what_was_appended_is_there_again(tmp_path: Path) -> None:
    disk, circle = CircleDisk(tmp_path), found()
    disk.keep(circle)
    add(circle, "anna", "bob")
    disk.keep(circle)
    (again,) = CircleDisk(tmp_path).load().values()
    assert picture(again.state) == picture(circle.state)


def test_only_the_owner_can_read_it(tmp_path: Path) -> None:
    disk, circle = CircleDisk(tmp_path / "circles"), found()
    disk.keep(circle)
    (path,) = (tmp_path / "circles").iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_crash_at_any_byte_leaves_the_operations_before_it(tmp_path: Path) -> None:
    disk, circle = CircleDisk(tmp_path), found()
    disk.keep(circle)
    (path,) = tmp_path.iterdir()
    whole = path.stat().st_size
    added = add(circle, "anna", "bob")
    disk.keep(circle)
    content = path.read_bytes()
    for cut in range(whole, len(content)):
        path.write_bytes(content[:cut])
        (again,) = CircleDisk(tmp_path).load().values()
        assert len(again.log) == 1
        assert (
            path.stat().st_size == whole
        )  # the torn end is gone: the next one is appended to something whole
    disk = CircleDisk(tmp_path)
    (again,) = disk.load().values()
    again.add(added)
    disk.keep(again)
    (again,) = CircleDisk(tmp_path).load().values()
    assert len(again.log) == 2


def test_a_damaged_byte_loses_what_follows_and_no_more(tmp_path: Path) -> None:
    disk, circle = CircleDisk(tmp_path), found()
    disk.keep(circle)
    (path,) = tmp_path.iterdir()
    whole = path.stat().st_size
    for i in range(3):
        circle.write(author("anna"), Kind.TITLE, 1, title=f"t{i}")
        disk.keep(circle)
    content = bytearray(path.read_bytes())
    content[whole + 20] ^= 1
    path.write_bytes(content)
    (again,) = CircleDisk(tmp_path).load().values()
    assert len(again.log) == 1


def test_a_circle_without_its_beginning_is_no_circle(tmp_path: Path) -> None:
    disk, circle = CircleDisk(tmp_path), found()
    disk.keep(circle)
    (path,) = tmp_path.iterdir()
    whole = path.stat().st_size
    add(circle, "anna", "bob")
    disk.keep(circle)
    path.write_bytes(path.read_bytes()[whole:])
    with pytest.raises(StorageError, match="damaged"):
        CircleDisk(tmp_path).load()
    disk.forget(circle.id)
    assert CircleDisk(tmp_path).load() == {}


# ---- summaries


def long_circle(count: int) -> Circle:
    circle = found()
    add(circle, "anna", "bob")
    while len(circle.log) < count:
        op = unsigned(
            circle, "bob", Kind.RENAME, circle.log.heads(), subject=who("bob"), name=f"{len(circle.log)}"
        )
        circle.add(op)
    return circle


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one for each operation that is read from a disk."""
    reads: list[int] = []

    def counting(raw: bytes, *, is_verified: bool) -> SignedOp:
        reads.append(1)
        return read_op(raw, is_verified=is_verified)

    monkeypatch.setattr("coterie.apps.circles.disk.read_op", counting)
    return reads


def files(folder: Path) -> tuple[Path, Path]:
    (log,) = folder.glob("*.circle")
    return log, log.with_suffix(".summary")


def test_a_start_reads_no_operation_but_those_after_the_summary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    circle = long_circle(SUMMARY_EVERY_OPS + 3)
    CircleDisk(tmp_path).keep(circle)
    assert files(tmp_path)[1].exists()
    disk = CircleDisk(tmp_path)
    reads = counted(monkeypatch)
    (again,) = disk.load().values()
    assert picture(again.state) == picture(circle.state)
    assert reads == []
    for i in range(5):
        again.write(author("anna"), Kind.TITLE, 1, title=f"t{i}")
    disk.keep(again)
    (third,) = CircleDisk(tmp_path).load().values()
    assert len(reads) == 5
    assert picture(third.state) == picture(again.state)
    assert [one.raw for one in third.log.ops] == [one.raw for one in again.log.ops]
    assert len(third.log) == SUMMARY_EVERY_OPS + 8


def test_a_summary_is_made_when_a_log_of_an_earlier_version_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    circle = long_circle(SUMMARY_EVERY_OPS)
    CircleDisk(tmp_path).keep(circle)
    files(tmp_path)[1].unlink()
    (again,) = CircleDisk(tmp_path).load().values()
    reads = counted(monkeypatch)
    (third,) = CircleDisk(tmp_path).load().values()
    assert reads == []
    assert picture(third.state) == picture(again.state) == picture(circle.state)


def test_a_log_one_short_of_the_bound_has_no_summary(tmp_path: Path) -> None:
    disk, circle = CircleDisk(tmp_path), long_circle(SUMMARY_EVERY_OPS - 1)
    disk.keep(circle)
    assert not files(tmp_path)[1].exists()
    circle.write(author("anna"), Kind.TITLE, 1, title="one more")
    disk.keep(circle)
    assert stat.S_IMODE(files(tmp_path)[1].stat().st_mode) == 0o600
    disk.forget(circle.id)
    assert list(tmp_path.iterdir()) == []


def test_a_summary_that_does_not_fit_the_log_is_made_anew(tmp_path: Path) -> None:
    """Damaged at any byte, of an earlier or a later log, or of another one: the log decides."""
    circle = long_circle(SUMMARY_EVERY_OPS)
    disk = CircleDisk(tmp_path)
    disk.keep(circle)
    log, summary = files(tmp_path)
    early_log, early_summary = log.read_bytes(), summary.read_bytes()
    while len(circle.log) < 2 * SUMMARY_EVERY_OPS:
        circle.write(author("anna"), Kind.TITLE, 1, title=f"t{len(circle.log)}")
    disk.keep(circle)
    whole_log, whole_summary = log.read_bytes(), summary.read_bytes()
    assert whole_summary != early_summary
    damaged = []
    for place in Random(1).sample(range(len(whole_summary)), 20):
        content = bytearray(whole_summary)
        content[place] ^= 1 << place % 8
        damaged.append(bytes(content))
    lied = bytearray(whole_log)
    lied[len(early_log) // 2] ^= 1
    cases = [
        *((whole_log, one, 2 * SUMMARY_EVERY_OPS) for one in damaged),
        (whole_log, early_summary, 2 * SUMMARY_EVERY_OPS),
        (early_log, whole_summary, SUMMARY_EVERY_OPS),
        (whole_log, whole_summary[:1000], 2 * SUMMARY_EVERY_OPS),
        (whole_log, b"", 2 * SUMMARY_EVERY_OPS),
    ]
    for log_bytes, summary_bytes, count in cases[:4] + cases[-4:]:
        log.write_bytes(log_bytes)
        summary.write_bytes(summary_bytes)
        (again,) = CircleDisk(tmp_path).load().values()
        assert len(again.log) == count
        assert log.read_bytes() == log_bytes
    log.write_bytes(bytes(lied))  # a damaged byte in the log is noticed as before
    summary.write_bytes(whole_summary)
    (again,) = CircleDisk(tmp_path).load().values()
    assert len(again.log) < SUMMARY_EVERY_OPS


def test_what_a_failed_write_left_is_written_over(tmp_path: Path) -> None:
    disk, circle = CircleDisk(tmp_path), found()
    disk.keep(circle)
    (path,) = tmp_path.iterdir()
    with path.open("ab") as file:
        file.write(b"half an operation")
    add(circle, "anna", "bob")
    disk.keep(circle)
    (again,) = CircleDisk(tmp_path).load().values()
    assert picture(again.state) == picture(circle.state)


def test_an_operation_that_was_damaged_since_the_start_says_so(tmp_path: Path) -> None:
    disk, circle = CircleDisk(tmp_path), found()
    disk.keep(circle)
    (path,) = tmp_path.iterdir()
    content = bytearray(path.read_bytes())
    content[30] ^= 1
    path.write_bytes(content)
    with pytest.raises(StorageError, match="damaged"):
        circle.log.ops[0]
    path.unlink()
    with pytest.raises(StorageError, match="cannot be read"):
        circle.log.ops[0]


def test_a_summary_whose_check_is_right_and_whose_content_is_not_is_made_anew(tmp_path: Path) -> None:
    """As a version with a fault could have left it: the circles start all the same."""
    circle = long_circle(SUMMARY_EVERY_OPS)
    CircleDisk(tmp_path).keep(circle)
    _, summary = files(tmp_path)
    body = summary.read_bytes()[:-32]
    begin = len(MAGIC) + 48 + 8 * SUMMARY_EVERY_OPS  # behind where each operation ends
    for place in range(begin, begin + 160, 4):
        lied = bytearray(body)
        lied[place] ^= 1
        summary.write_bytes(bytes(lied) + blake3(bytes(lied)).digest())
        (again,) = CircleDisk(tmp_path).load().values()
        assert len(again.log) == SUMMARY_EVERY_OPS
