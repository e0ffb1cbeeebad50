"""Single steps on the file system: atomic moves, locks, times, bringing data to the disk.

Each uses the best call the system has, and says what it does without it.
"""

import contextlib
import ctypes
import errno
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

from coterie.content.names import NUMBER_MAX, numbered
from coterie.errors import StorageError
from coterie.texts import tr

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_AT_FDCWD = -100  # fcntl.h of Linux
_FICLONERANGE = 0x4020940D  # linux/fs.h
CLONE_ALIGN_BYTES = 4096  # the block of btrfs, XFS, bcachefs as they are made by default
_RENAME_NOREPLACE, _RENAME_EXCHANGE = 1, 2  # linux/fs.h
_UNSUPPORTED = frozenset({errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP})


def set_time(where: int | str, mtime_ns: int, dir_fd: int | None = None) -> None:
    """Set the modification time of an open file or a path, unless this file system cannot hold it.

    `dir_fd`: of the folder in which `where` is a name, which is followed nowhere if it is a link.
    """
    try:
        os.utime(where, ns=(mtime_ns, mtime_ns), dir_fd=dir_fd, follow_symlinks=dir_fd is None)
    except OverflowError:
        pass
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ERANGE, errno.EOVERFLOW, errno.EPERM):
            raise


def set_executable(fd: int, executable: bool) -> None:
    """Make an open file executable for whoever may read it, or for nobody, where the file system can."""
    mode = os.fstat(fd).st_mode & 0o777
    wanted = mode | (mode & 0o444) >> 2 if executable else mode & ~0o111
    if wanted != mode and hasattr(os, "fchmod"):
        with contextlib.suppress(PermissionError):
            os.fchmod(fd, wanted)


def is_hole(fd: int, offset: int, size: int) -> bool:
    """Whether nothing lies on the disk there: it reads as zeros, or will when the file reaches so far.

    False where this system or file system does not tell. Source: lseek(2).
    """
    if not hasattr(os, "SEEK_DATA"):  # Windows
        return False
    try:
        return os.lseek(fd, offset, os.SEEK_DATA) >= offset + size
    except OSError as error:
        return error.errno == errno.ENXIO  # nothing from there on


def hole_end(fd: int, offset: int, size: int) -> int:
    """Where the hole ends that lies at `offset` of a file of `size` bytes; `offset` where data lies.

    Where this system or file system does not tell, all is data. Source: lseek(2).
    """
    if not hasattr(os, "SEEK_DATA"):  # Windows
        return offset
    try:
        return max(offset, os.lseek(fd, offset, os.SEEK_DATA))
    except OSError as error:
        return max(offset, size) if error.errno == errno.ENXIO else offset


def clone_range(source: int, source_offset: int, target: int, offset: int, size: int) -> bool:
    """Let two open files share `size` bytes on the disk (a reflink), where the file system can; False: it cannot.

    All three numbers are multiples of `CLONE_ALIGN_BYTES`. Source: ioctl_ficlonerange(2).
    """
    if fcntl is None or not hasattr(os, "copy_file_range"):  # the latter: Linux
        return False
    try:
        fcntl.ioctl(target, _FICLONERANGE, struct.pack("=qQQQ", source, source_offset, size, offset))
    except OSError:  # another device, another file system, a file that shrank: it is copied instead
        return False
    return True


def move_new(source: Path, target: Path) -> bool:
    """Rename `source` to `target` unless there is something: then False, and nothing happened.

    Atomic on Linux (renameat2). Elsewhere a file is linked, which is as safe; a folder is looked for and then
    renamed, which fails on anything but an empty folder made in that instant.
    """
    done = _rename_new(source, target)
    if done is not None:
        return done
    if os.path.lexists(target):
        return False
    if source.is_dir():
        os.rename(source, target)
        return True
    try:
        os.link(source, target, follow_symlinks=False)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _UNSUPPORTED | {errno.EPERM, errno.EMLINK}:
            raise
        os.rename(source, target)
        return True
    os.unlink(source)
    return True


def exchange(one: Path, other: Path) -> bool:
    """Let two entries of one file system change places in one step; False: this system or file system cannot."""
    call = _libc("renameat2")
    if call is None:
        return False
    if call(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in _UNSUPPORTED:
        return False
    raise OSError(number, os.strerror(number), str(one), None, str(other))


def move_beside(source: Path, target: Path) -> Path:
    """Rename `source` to `target`, or the first free "target (2)", "target (3)" and so on; returns which."""
    if move_new(source, target):
        return target
    for number in range(2, NUMBER_MAX):
        beside = target.with_name(numbered(target.name, number))
        if move_new(source, beside):
            return beside
    raise StorageError(
        tr(
            "{target} exists already, and so do {number_max} numbered copies: remove some",
            target=target,
            number_max=NUMBER_MAX,
        )
    )


def flush_tree(fd: int | None, path: Path) -> None:
    """Bring all of the file system that holds a folder to the disk: syncfs, else sync, else nothing."""
    call = _libc("syncfs")
    if call is not None and fd is not None:
        if call(fd) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(path))
    elif hasattr(os, "sync"):
        os.sync()


def flush_folder(path: Path) -> None:
    """Bring a rename in this folder to the disk, where the system has a way."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
    finally:
        os.close(fd)


def flush_quietly(fd: int) -> None:
    """Bring a file's data to the disk early, from a thread; a failure shows when it is flushed for good."""
    with contextlib.suppress(OSError):
        getattr(os, "fdatasync", os.fsync)(fd)


class Lock:
    """An exclusive lock on a folder, freed by the system when the process ends. Nothing on Windows."""

    def __init__(self) -> None:
        self._fd = -1

    def take(self, path: Path) -> None:
        """Raise `StorageError` when another transfer has it."""
        if fcntl is None:
            return
        self._fd = os.open(path, os.O_RDONLY)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self.release()
            if error.errno in (errno.EWOULDBLOCK, errno.EAGAIN):
                raise StorageError(
                    tr("another transfer is writing to {path}: wait for it, or cancel it", path=path)
                ) from None
            if error.errno not in _UNSUPPORTED | {errno.ENOLCK}:
                raise

    def release(self) -> None:
        """Let go."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)


def remove(path: Path) -> None:
    """Remove a file, link or folder with all that is in it; it may be gone already."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _rename_new(source: Path, target: Path) -> bool | None:
    """Whether it was renamed: None if the system cannot, False if `target` exists."""
    call = _libc("renameat2")
    if call is None:
        return None
    if call(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), _RENAME_NOREPLACE) == 0:
        return True
    number = ctypes.get_errno()
    if number in _UNSUPPORTED:
        return None
    if number == errno.EEXIST:
        return False
    raise OSError(number, os.strerror(number), str(source), None, str(target))


def _libc(name: str) -> "Callable[..., int] | None":
    try:
        return getattr(_LIBC, name, None)
    except (OSError, TypeError):
        return None


try:
    _LIBC: ctypes.CDLL | None = ctypes.CDLL(None, use_errno=True)
except (OSError, TypeError):  # Windows
    _LIBC = None
