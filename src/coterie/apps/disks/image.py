"""A disk, drive or image of this computer: its bytes, blocking, for any thread."""

import contextlib
import ctypes
import errno
import os
import stat
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

try:
    import fcntl
except ImportError:  # Windows has none
    fcntl = None  # type: ignore[assignment]

from coterie.apps.disks.nbd import Errno
from coterie.errors import NotFound, StorageError, UsageError
from coterie.texts import tr

ZEROES = bytes(1 << 20)
BLKDISCARD, BLKZEROOUT = 0x1277, 0x127F  # linux/fs.h
CDROMEJECT = 0x5309  # linux/cdrom.h
KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE = 1, 2, 16  # linux/falloc.h
BOOT = Path("/proc/sys/kernel/random/boot_id")
MOUNTS = Path("/proc/self/mountinfo")
LOOPS = Path("/sys/block")
_STARTED = os.urandom(16)  # where the system does not say when it was started

_ERRNOS = {
    errno.EPERM: Errno.EPERM,
    errno.EACCES: Errno.EPERM,
    errno.EROFS: Errno.EPERM,
    errno.ENOSPC: Errno.ENOSPC,
    errno.EDQUOT: Errno.ENOSPC,
    errno.EFBIG: Errno.ENOSPC,
    errno.EINVAL: Errno.EINVAL,
    errno.ENOMEM: Errno.ENOMEM,
}


class Stamp(NamedTuple):
    """What changes when the content of a file does."""

    size: int
    mtime_ns: int
    inode: int


def errno_of(error: OSError) -> Errno:
    """What a fault of the disk is called by NBD."""
    return _ERRNOS.get(error.errno or 0, Errno.EIO)


def boot_of() -> bytes:
    """Changes when what was written and not flushed may be lost: with each start of the system."""
    try:
        return BOOT.read_bytes().strip()
    except OSError:
        return _STARTED


def form_of(path: Path) -> str:
    """ "image", "disk", or "disc" in a drive. Raises `NotFound`, `UsageError`."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise NotFound(tr("{place} is not there: {strerror}", place=path, strerror=error.strerror)) from None
    if stat.S_ISREG(mode):
        return "image"
    if stat.S_ISBLK(mode):
        return "disc" if path.name.startswith("sr") else "disk"
    raise UsageError(tr("{place} is no disk, drive or image", place=path))


def look_at(path: Path) -> tuple[str, int]:
    """The form of a disk and its bytes. Raises as `Image`."""
    image = Image(path)
    try:
        return image.form, image.size
    finally:
        image.close()


class Image:
    """An open one. Every method may raise `OSError`."""

    def __init__(self, path: Path, *, is_writable: bool = False) -> None:
        """Raises `NotFound`, `UsageError`, `StorageError`: it cannot be opened, or is in use here."""
        self.form = form_of(path)
        self._is_device = self.form != "image"
        flags = (os.O_RDWR if is_writable else os.O_RDONLY) | getattr(os, "O_CLOEXEC", 0)
        if is_writable:
            check_unused(path)
            flags |= os.O_EXCL if self._is_device else 0  # Linux: refused while it is mounted
        try:
            self._fd = os.open(path, flags)
        except OSError as error:
            raise StorageError(
                tr("{place} cannot be opened: {strerror}", place=path, strerror=error.strerror)
            ) from None
        self.size = os.lseek(self._fd, 0, os.SEEK_END) if self._is_device else os.fstat(self._fd).st_size
        self._can_ask = hasattr(os, "RWF_NOWAIT")

    def close(self) -> None:
        """Give it back."""
        os.close(self._fd)

    def stamp(self) -> Stamp:
        """What changes when its content does; of a device only its size is known."""
        if self._is_device:
            return Stamp(self.size, 0, 0)
        found = os.fstat(self._fd)
        return Stamp(found.st_size, found.st_mtime_ns, found.st_ino)

    def read_at_once(self, offset: int, to: memoryview) -> bool:
        """As `read`, where the system has it in memory, or does not tell; else False."""
        if not self._can_ask:
            self.read(offset, to)
            return True
        try:
            return os.preadv(self._fd, [to], offset, os.RWF_NOWAIT) == len(to)
        except OSError as error:
            self._can_ask = error.errno in (errno.EAGAIN, errno.EINTR)
            return False

    def read(self, offset: int, to: memoryview) -> None:
        """Fill `to` with the bytes from `offset` on."""
        while to:
            got = os.preadv(self._fd, [to], offset)
            if not got:
                raise OSError(errno.EIO, "it has become shorter")
            offset, to = offset + got, to[got:]

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """Change these bytes."""
        view = memoryview(data)
        while view:
            done = os.pwrite(self._fd, view, offset)
            offset, view = offset + done, view[done:]

    def flush(self) -> None:
        """Return when everything written is on the disk."""
        getattr(os, "fdatasync", os.fsync)(self._fd)

    def trim(self, offset: int, size: int) -> None:
        """These bytes are of no use any more; where the system cannot be told, nothing happens."""
        with contextlib.suppress(OSError):
            self._hole(offset, size)

    def zero(self, offset: int, size: int, *, no_hole: bool = False) -> None:
        """Make these bytes zero, without giving their room back where `no_hole` says so."""
        try:
            self._zero_range(offset, size) if no_hole else self._hole(offset, size, is_exact=True)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.ENOTTY):
                raise
            while size:
                part = min(size, len(ZEROES))
                self.write(offset, memoryview(ZEROES)[:part])
                offset, size = offset + part, size - part

    def extents(self, offset: int, size: int) -> Iterator[tuple[int, bool]]:
        """(bytes, whether they are a hole), from `offset` on; a device is all data."""
        end = offset + size
        if self._is_device or not hasattr(os, "SEEK_DATA"):
            yield size, False
            return
        while offset < end:
            try:
                data = min(end, os.lseek(self._fd, offset, os.SEEK_DATA))
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise
                data = end  # nothing but a hole is left
            if data > offset:
                yield data - offset, True
            if data < end:
                hole = min(end, os.lseek(self._fd, data, os.SEEK_HOLE))
                yield hole - data, False
                data = hole
            offset = data

    def _hole(self, offset: int, size: int, *, is_exact: bool = False) -> None:
        if not self._is_device:
            _fallocate(self._fd, PUNCH_HOLE | KEEP_SIZE, offset, size)
        elif sys.platform == "linux" and fcntl is not None:
            request = BLKZEROOUT if is_exact else BLKDISCARD
            fcntl.ioctl(self._fd, request, struct.pack("QQ", offset, size))
        else:
            raise OSError(errno.EOPNOTSUPP, "no holes here")

    def _zero_range(self, offset: int, size: int) -> None:
        if self._is_device:
            self._hole(offset, size, is_exact=True)
        else:
            _fallocate(self._fd, ZERO_RANGE | KEEP_SIZE, offset, size)


def _fallocate(fd: int, mode: int, offset: int, size: int) -> None:
    if sys.platform != "linux":
        raise OSError(errno.EOPNOTSUPP, "no holes here")
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.fallocate(fd, mode, ctypes.c_int64(offset), ctypes.c_int64(size)):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def check_unused(path: Path) -> None:
    """Raise `StorageError` where this computer itself has it mounted: two who write destroy a file system."""
    status = path.stat()
    if stat.S_ISBLK(status.st_mode):
        number = f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
        with contextlib.suppress(OSError):
            for line in MOUNTS.read_text(errors="replace").splitlines():
                words = line.split()
                if len(words) > 4 and words[2] == number:
                    raise StorageError(
                        tr(
                            "{place} is mounted here at {folder}; unmount it first",
                            place=path,
                            folder=words[4],
                        )
                    )
        return
    for backing in LOOPS.glob("loop*/loop/backing_file"):
        with contextlib.suppress(OSError):
            if os.path.samefile(backing.read_text().rstrip("\n"), path):
                device = f"/dev/{backing.parts[-3]}"
                raise StorageError(
                    tr("{place} is in use here as {device}; end that first", place=path, device=device)
                )


def eject(path: Path) -> None:
    """Open the drive. Raises `UsageError`: it is none; `StorageError`: it stays closed."""
    if fcntl is None or form_of(path) != "disc":
        raise UsageError(tr("{place} is no disc in a drive: only such a drive can be opened", place=path))
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            fcntl.ioctl(fd, CDROMEJECT)
        finally:
            os.close(fd)
    except OSError as error:
        raise StorageError(
            tr("{place} cannot be ejected: {strerror}", place=path, strerror=error.strerror)
        ) from None
