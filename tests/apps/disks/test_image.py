"""A file as a disk: its bytes, its holes, and what it is refused for."""

import errno
import os
from pathlib import Path

import pytest

from coterie.apps.disks.image import Image, check_unused, eject, errno_of, form_of
from coterie.apps.disks.nbd import Errno
from coterie.errors import NotFound, UsageError

MIB = 1 << 20


def test_bytes_and_holes(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    with path.open("wb") as file:
        file.truncate(8 * MIB)
    image = Image(path, is_writable=True)
    assert (image.form, image.size) == ("image", 8 * MIB)
    data = os.urandom(2 * MIB)
    image.write(3 * MIB, data)
    image.flush()
    room = bytearray(2 * MIB)
    assert image.read_at_once(3 * MIB, memoryview(room))
    assert bytes(room) == data
    assert list(image.extents(0, 8 * MIB)) == [(3 * MIB, True), (2 * MIB, False), (3 * MIB, True)]
    assert list(image.extents(4 * MIB, MIB)) == [(MIB, False)]
    image.zero(3 * MIB, MIB)
    assert list(image.extents(3 * MIB, 2 * MIB)) == [(MIB, True), (MIB, False)]
    image.zero(3 * MIB, MIB, no_hole=True)
    image.trim(4 * MIB, MIB)
    image.read(3 * MIB, memoryview(room))
    assert bytes(room) == bytes(2 * MIB)
    assert image.size == path.stat().st_size
    with pytest.raises(OSError, match="shorter"):
        image.read(7 * MIB, memoryview(room))
    image.close()


def test_a_change_is_seen_by_its_stamp(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(b"one")
    image = Image(path)
    before = image.stamp()
    os.utime(path, ns=(1, 1))
    assert image.stamp() != before
    with pytest.raises(OSError):
        image.write(0, b"x")
    image.close()


def test_what_is_no_disk(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        form_of(tmp_path / "missing")
    with pytest.raises(UsageError):
        form_of(tmp_path)
    with pytest.raises(UsageError):
        form_of(Path("/dev/null"))
    path = tmp_path / "disk"
    path.write_bytes(b"one")
    check_unused(path)
    with pytest.raises(UsageError, match="no disc"):
        eject(path)


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (errno.ENOSPC, Errno.ENOSPC),
        (errno.EDQUOT, Errno.ENOSPC),
        (errno.EROFS, Errno.EPERM),
        (errno.EINVAL, Errno.EINVAL),
        (errno.ENXIO, Errno.EIO),
    ],
)
def test_faults_of_a_disk_are_those_of_nbd(found: int, told: Errno) -> None:
    assert errno_of(OSError(found, "")) == told
