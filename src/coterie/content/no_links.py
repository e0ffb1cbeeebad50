"""Opens files and folders through no symbolic link, wherever in the path one may stand.

Who can write into a folder that is shared could put a link in the place of what was there a moment ago, or of a folder
above it, and so have a file outside of the share read. Paths that are opened here are real ones (`os.path.realpath`):
a link anywhere in them came later. Linux says so in one call (openat2), macOS too; other systems with descriptors of
folders are walked from the root by these; where there are none (Windows) the path is looked at before and after.
"""

import ctypes
import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

READ: int = (
    os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
)
READ |= getattr(os, "O_NONBLOCK", 0)  # never waits for a pipe's other end
FOLDER: int = READ | getattr(os, "O_DIRECTORY", 0)
_PASS: int = getattr(os, "O_PATH", os.O_RDONLY) | FOLDER  # of folders above, which need not be readable
LOOK: int = (
    getattr(os, "O_PATH", READ) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)
)  # of what is never opened for it; openat2 refuses O_NONBLOCK beside O_PATH
HOLD: int = (
    getattr(os, "O_PATH", os.O_RDONLY)
    | getattr(os, "O_DIRECTORY", 0)
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_CLOEXEC", 0)
)
_ANYWHERE: int = getattr(os, "O_NOFOLLOW_ANY", 0)  # macOS
_HAS_DIR_FD = os.open in os.supports_dir_fd and hasattr(os, "O_DIRECTORY")
HAS_FD_PATHS = hasattr(os, "O_PATH") and os.path.isdir("/proc/self/fd")
_SYS_OPENAT2 = 437  # on every architecture of Linux that Python runs on
_RESOLVE_NO_XDEV, _RESOLVE_NO_SYMLINKS, _RESOLVE_BENEATH = 0x01, 0x04, 0x08  # linux/openat2.h
_AT_FDCWD = -100
_NOT_HERE = frozenset(
    {errno.ENOSYS, errno.EPERM, errno.EINVAL, errno.E2BIG}
)  # an old kernel, or a filter of calls


class _How(ctypes.Structure):
    """struct open_how of linux/openat2.h."""

    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def open_file(path: str | bytes | os.PathLike[str], flags: int = READ) -> int:
    """A descriptor of what is at the absolute `path`, to be read unless `flags` say otherwise.

    Raises:
        OSError: ELOOP: there is a symbolic link in it. ENXIO: a device, pipe or socket, which is not opened to be
            read: that alone can rewind a tape, or let another program believe that somebody listens.
    """
    raw = os.fsencode(path)
    if flags == READ and _is_special(os.lstat(raw).st_mode):
        raise OSError(errno.ENXIO, os.strerror(errno.ENXIO), raw)
    fd = _openat2(raw, flags)
    if fd is not None:
        return fd
    if _ANYWHERE:
        return os.open(raw, flags | _ANYWHERE)
    return _walk(raw, flags) if _HAS_DIR_FD else _look(raw, flags)


def open_below(folder: int, path: str, flags: int = READ) -> int:
    """A descriptor of what is at `path` below an open folder: through no link, and on Linux onto no other disk.

    For systems with descriptors of folders. Raises as `open_file`; EXDEV: another disk is mounted on the way.
    """
    raw = os.fsencode(path) or b"."
    fd = _openat2(raw, flags, folder, _RESOLVE_NO_XDEV | _RESOLVE_NO_SYMLINKS | _RESOLVE_BENEATH)
    return _walk(raw, flags, folder) if fd is None else fd


def open_folder(path: bytes) -> int | None:
    """A descriptor of the folder at the absolute `path`, for `open_in`; None where the system has no use for one.

    Errors as `open_file`.
    """
    return open_file(path, HOLD) if _HAS_DIR_FD else None


def open_in(folder: int | None, path: bytes, name: bytes) -> int:
    """A descriptor of the file `name` in the folder at `path`, which `open_folder` opened. Errors as `open_file`."""
    if folder is None:
        return open_file(os.path.join(path, name))
    if _is_special(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
        raise OSError(errno.ENXIO, os.strerror(errno.ENXIO), name)
    return os.open(name, READ, dir_fd=folder)


def status(path: str | bytes | os.PathLike[str]) -> os.stat_result:
    """What `os.stat` says of what is at the absolute `path`. Errors as `open_file`."""
    fd = open_file(path, LOOK)
    try:
        found = os.fstat(fd)
    finally:
        os.close(fd)
    if stat.S_ISLNK(found.st_mode):
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), os.fsencode(path))
    return found


def _is_special(mode: int) -> bool:
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode))


@contextmanager
def entries(path: str) -> Iterator[tuple[Iterator[os.DirEntry[str]], int | None]]:
    """The entries of the folder at the absolute `path`, and its descriptor where there are such. Errors as `open_file`.

    Where there are, `DirEntry.path` is the name alone, and `DirEntry.stat` asks the folder that was opened.
    """
    if os.scandir not in os.supports_fd:
        _refuse_links(os.fsencode(path))
        with os.scandir(path) as found:
            yield found, None
        return
    try:
        fd = open_file(path, FOLDER)
    except NotADirectoryError:
        _refuse_links(os.fsencode(path))
        raise
    try:
        with os.scandir(fd) as found:
            yield found, fd
    finally:
        os.close(fd)


@contextmanager
def held(path: str | bytes | os.PathLike[str]) -> Iterator[Path]:
    """A path that goes on leading to the folder now at the absolute `path`, whatever takes its place.

    That is one of Linux's `/proc/self/fd`; errors of the system within the block name the folder's own path. Where
    there is none it is `path`, after a look. Errors as `open_file`.
    """
    shown = Path(os.fsdecode(path))
    if not HAS_FD_PATHS:
        _refuse_links(os.fsencode(path))
        yield shown
        return
    try:
        fd = open_file(path, HOLD)
    except NotADirectoryError:
        _refuse_links(os.fsencode(path))
        raise
    lasting = Path(f"/proc/self/fd/{fd}")
    try:
        yield lasting
    except OSError as error:
        error.filename = _shown(error.filename, lasting, shown)
        error.filename2 = _shown(error.filename2, lasting, shown)
        raise
    finally:
        os.close(fd)


def _shown(name: object, lasting: Path, shown: Path) -> object:
    if isinstance(name, str) and Path(name).is_relative_to(lasting):
        return str(shown / Path(name).relative_to(lasting))
    return name


def _walk(raw: bytes, flags: int, folder: int | None = None) -> int:
    *above, name = [part for part in raw.split(b"/") if part] or [b"."]
    fd = os.open(b"/", _PASS) if folder is None else os.dup(folder)
    try:
        for part in above:
            try:
                below = os.open(part, _PASS, dir_fd=fd)
            except NotADirectoryError:
                _refuse_links(raw)
                raise
            os.close(fd)
            fd = below
        return os.open(name, flags, dir_fd=fd)
    finally:
        os.close(fd)


def _look(raw: bytes, flags: int) -> int:
    """Weaker: somebody may be quick enough to put a link there and take it away."""
    _refuse_links(raw)
    fd = os.open(raw, flags)
    try:
        _refuse_links(raw)
        opened, there = os.fstat(fd), os.lstat(raw)
        if (opened.st_ino, opened.st_dev) != (there.st_ino, there.st_dev):
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), raw)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _refuse_links(raw: bytes) -> None:
    if os.path.realpath(raw) != os.path.normpath(raw):
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), raw)


def _openat2(raw: bytes, flags: int, at: int = _AT_FDCWD, resolve: int = _RESOLVE_NO_SYMLINKS) -> int | None:
    """openat2(2); None where there is none."""
    if _LIBC is None:
        return None
    how = _How(flags, 0, resolve)
    fd: int = _LIBC.syscall(_SYS_OPENAT2, at, raw, ctypes.byref(how), ctypes.sizeof(how))
    if fd >= 0:
        return fd
    number = ctypes.get_errno()
    if number in _NOT_HERE:
        return None
    raise OSError(number, os.strerror(number), raw)


_LIBC = ctypes.CDLL(None, use_errno=True) if hasattr(os, "O_PATH") else None
