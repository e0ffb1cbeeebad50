"""Circles on disk: whole after a crash at any byte, for the owner only."""

import stat
from pathlib import Path

import pytest

from coterie.access.circle_ops import Kind
from coterie.apps.circles.disk import CircleDisk
from coterie.errors import StorageError
from tests.access.circles import add, author, found, picture


def test_what_was_appended_is_there_again(tmp_path: Path) -> None:
    disk, circle = CircleDisk(tmp_path), found()
    disk.append(circle.id, circle.log.ops)
    disk.append(circle.id, [add(circle, "anna", "bob")])
    (again,) = CircleDisk(tmp_path).load().values()
    assert picture(again.state) == picture(circle.state)


def test_only_the_owner_can_read_it(tmp_path: Path) -> None:
    disk, circle = CircleDisk(tmp_path / "circles"), found()
    disk.append(circle.id, circle.log.ops)
    (path,) = (tmp_path / "circles").iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_crash_at_any_byte_leaves_the_operations_before_it(tmp_path: Path) -> None:
    disk, circle = CircleDisk(tmp_path), found()
    disk.append(circle.id, circle.log.ops)
    (path,) = tmp_path.iterdir()
    whole = path.stat().st_size
    disk.append(circle.id, [add(circle, "anna", "bob")])
    content = path.read_bytes()
    for cut in range(whole, len(content)):
        path.write_bytes(content[:cut])
        (again,) = CircleDisk(tmp_path).load().values()
        assert len(again.log) == 1
        assert (
            path.stat().st_size == whole
        )  # the torn end is gone: the next one is appended to something whole
    disk.append(circle.id, circle.log.ops[1:])
    (again,) = CircleDisk(tmp_path).load().values()
    assert len(again.log) == 2


def test_a_damaged_byte_loses_what_follows_and_no_more(tmp_path: Path) -> None:
    disk, circle = CircleDisk(tmp_path), found()
    disk.append(circle.id, circle.log.ops)
    (path,) = tmp_path.iterdir()
    whole = path.stat().st_size
    for i in range(3):
        disk.append(circle.id, [circle.write(author("anna"), Kind.TITLE, 1, title=f"t{i}")])
    content = bytearray(path.read_bytes())
    content[whole + 20] ^= 1
    path.write_bytes(content)
    (again,) = CircleDisk(tmp_path).load().values()
    assert len(again.log) == 1


def test_a_circle_without_its_beginning_is_no_circle(tmp_path: Path) -> None:
    disk, circle = CircleDisk(tmp_path), found()
    disk.append(circle.id, [add(circle, "anna", "bob")])
    with pytest.raises(StorageError, match="damaged"):
        CircleDisk(tmp_path).load()
    disk.forget(circle.id)
    assert CircleDisk(tmp_path).load() == {}
