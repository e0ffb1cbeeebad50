"""Writes received content: into a staging area beside the target, and under its final name only when all is
there.

    <parent>/.coterie-partial-<name>-<id>/data     a file or folder in the making; the staging area is 0700

Every path inside is walked from a folder's descriptor, never through a symbolic link (where the system has
that; the staging area is ours alone everywhere). Symbolic links of a tree are made last, so nothing is ever
written through one. Callers verify bytes before they hand them over; on resume nothing on the disk is trusted
(`matching_chunks`).

Flushing: before the final rename the data is brought to the disk, so that not even a power failure shows a
file with holes under its final name. A single file with fdatasync, begun in the background while it is
written; a tree with one syncfs instead of an fsync for each file. Modes follow the umask; modification times
of folders are set last.
"""

import errno
import os
import shutil
import stat
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
from blake3 import blake3

from coterie.content import direct
from coterie.content import file_steps as place
from coterie.content.manifest import Chunk, Kind
from coterie.content.names import PARTIAL_PREFIX, limit_bytes, numbered
from coterie.content.no_links import open_file
from coterie.errors import CoterieError, StorageError, UsageError

STAGED = "data"
OLD_STEPS = (
    "leaving",
    "replaced",
)  # until v0.1: the content, or what the user had, while they changed places
STAGING_NAME_BYTES_MAX = 150  # of the target's name within that of its staging area
STAGING_ID_BYTES = 16  # 128 bits of chance: nobody who sends a tree can guess where something will be staged
FOLDERS_OPEN_MAX = 32
FLUSH_BYTES = 64 << 20  # written to one file before the disk is told to begin; guess
SPACE_RESERVE_BYTES = 16 << 20  # left free by the check before a transfer; guess

_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NOFOLLOW
_HAS_DIR_FD = os.open in os.supports_dir_fd and os.mkdir in os.supports_dir_fd and hasattr(os, "O_DIRECTORY")

Parts = tuple[str, ...]
"""Local names from the top of the tree downwards; () is the top itself."""


class TargetExists(UsageError):
    """There is something under the final name already."""

    code = "exists"


class Folding(msgspec.Struct, frozen=True):
    """Which different names the destination takes for one."""

    case: bool
    form: bool


class _Folder:
    """A folder to work in: a descriptor where the system can, a path elsewhere."""

    __slots__ = ("fd", "path")

    def __init__(self, path: str, fd: int | None) -> None:
        self.path = path
        self.fd = fd

    def at(self, name: str) -> str:
        """What to call `name` in this folder, together with `dir_fd=self.fd`."""
        return name if self.fd is not None else os.path.join(self.path, name)

    def close(self) -> None:
        if self.fd is not None:
            os.close(self.fd)


class LargeFile:
    """A file in staging that is written piece by piece. Close it, or `finish` it. Not for several threads at
    once.
    """

    def __init__(self, staging: "Staging", fd: int, size: int, again: Callable[[int], int]) -> None:
        """`again(flags)` opens the same file once more, to write."""
        self._staging = staging
        self._fd = fd
        self._again = again
        self._size = size
        self._unflushed = 0
        self._flushing: threading.Thread | None = None

    def write_at(self, offset: int, data: bytes | memoryview) -> None:
        """Write verified bytes at `offset`.

        Raises:
            StorageError: the disk is full, or fails; what was written before stays.
        """
        view = memoryview(data)
        if offset + len(view) > self._size:
            raise UsageError(f"bytes {offset} to {offset + len(view)} of a file of {self._size}")
        with self._staging.translated():
            os.lseek(self._fd, offset, os.SEEK_SET)
            while view:
                view = view[os.write(self._fd, view) :]
        self._unflushed += len(data)
        if self._unflushed >= FLUSH_BYTES:
            self._unflushed = 0
            self._begin_flush()

    def run(self, offset: int) -> direct.DirectRun | None:
        """For a long run of bytes from `offset` on; None where the system has no better way than `write_at`."""
        if not direct.FLAG:
            return None
        fd = os.dup(self._fd)
        try:
            return direct.DirectRun(fd, self._again(direct.FLAG), offset)
        except OSError:
            os.close(fd)
            return None

    def clone(self, source: Path, source_offset: int, offset: int, size: int) -> bool:
        """Share with another file what lies in both at once, without copying; False where that cannot be.

        Whole blocks only, so the ends may be missing; and it may be other bytes than expected: verify them
        (`matching_chunks`).
        """
        block = place.CLONE_ALIGN_BYTES
        if (offset - source_offset) % block:
            return False
        start, end = -(-offset // block) * block, (offset + size) // block * block
        if end <= start:
            return False
        try:
            fd = open_file(source)
        except OSError:
            return False
        with _closing(fd):
            return place.clone_range(fd, start - offset + source_offset, self._fd, start, end - start)

    def matching_chunks(self, chunks: Sequence[Chunk], offset: int = 0) -> list[bool]:
        """Which of these chunks, side by side from `offset` on, are right on the disk already: each is hashed again."""
        matching = []
        with self._staging.translated():
            present = os.fstat(self._fd).st_size
            for digest, size in chunks:
                right = False
                if offset + size <= present:
                    os.lseek(self._fd, offset, os.SEEK_SET)
                    right = blake3(os.read(self._fd, size)).digest() == digest
                matching.append(right)
                offset += size
        return matching

    def finish(self, mtime_ns: int) -> None:
        """All chunks are there: cut off anything behind them, set the time, bring it to the disk if it is all
        there is.
        """
        with self._staging.translated():
            os.ftruncate(self._fd, self._size)
            if self._staging.kind is Kind.BLOB:
                self._join_flush()
                os.fsync(self._fd)
            place.set_time(self._fd, mtime_ns)
        self.close()

    def close(self) -> None:
        """Close the file, as far as it is."""
        self._join_flush()
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)

    def _begin_flush(self) -> None:
        if self._flushing is not None and self._flushing.is_alive():
            return
        self._flushing = threading.Thread(target=place.flush_quietly, args=(self._fd,), name="coterie-flush")
        self._flushing.start()

    def _join_flush(self) -> None:
        if self._flushing is not None:
            self._flushing.join()
            self._flushing = None


class Staging:
    """Where one transfer writes until it is complete. Make it with `Staging.open`; one user at a time.

    Names are local ones (`names.local_names`): distinct at this destination. Call it from one thread at a
    time.
    """

    def __init__(self, parent: Path, name: str, kind: Kind, size: int, path: Path) -> None:
        self.parent = parent
        self.name = name
        self.kind = kind
        self.path = path
        self._bytes = size
        self._base = _open_folder(str(path), None, str(path))
        self._lock = place.Lock()
        self._closed = False
        self._folders: OrderedDict[Parts, _Folder] = OrderedDict()
        self._times: list[tuple[Parts, int]] = []
        self._links: list[tuple[Parts, str, str]] = []

    @classmethod
    def open(cls, parent: Path, name: str, staging_id: bytes, kind: Kind, size: int) -> "Staging":
        """The staging area with this id for `parent`/`name`: a new one, or what an earlier run left.

        Args:
            staging_id: random, of one transfer, and known to nobody else: a tree that was received may have folders of
                such names, and what is in one would be delivered.
            size: bytes of all files together, for the message when the disk is full.

        Raises:
            StorageError: `parent` cannot be written, or another transfer uses this staging area.
        """
        path = staging_path(parent, name, staging_id)
        try:
            parent.mkdir(parents=True, exist_ok=True)
            try:
                os.mkdir(path, 0o700)
            except FileExistsError:
                if not stat.S_ISDIR(os.lstat(path).st_mode):
                    raise StorageError(f"{path} is in the way: move it aside") from None
            staging = cls(parent, name, kind, size, path)
        except OSError as error:
            raise _storage_error(error, parent, size) from error
        try:
            staging._lock.take(path)
            for old in OLD_STEPS:  # whichever of the two it is: it may be the user's
                if os.path.lexists(path / old):
                    place.move_beside(path / old, parent / numbered(name, 2))
            if kind is Kind.TREE:
                staging._folder(())
        except BaseException:
            staging.close()
            raise
        return staging

    def close(self) -> None:
        """Let go of the staging area; it stays for the next time unless it was finished or discarded."""
        while self._folders:
            self._folders.popitem()[1].close()
        self._lock.release()
        if not self._closed:
            self._closed = True
            self._base.close()

    def folding(self) -> Folding:
        """Find out which names the destination takes for one, by making a file and looking for it."""
        probe = "coterie-\N{LATIN SMALL LETTER E WITH ACUTE}-probe"
        with self.translated():
            path = self.path / probe
            path.touch()
            case = os.path.lexists(self.path / probe.upper())
            form = os.path.lexists(
                self.path
                / probe.replace("\N{LATIN SMALL LETTER E WITH ACUTE}", "e\N{COMBINING ACUTE ACCENT}")
            )
            path.unlink()
        return Folding(case, form)

    # -- writing --

    def make_folder(self, folder: Parts, mtime_ns: int) -> None:
        """Make a folder of the tree; its modification time is set at the end."""
        with self.translated():
            self._target(folder)
        self._times.append((folder, mtime_ns))

    def write_small(
        self,
        folder: Parts,
        name: str,
        pieces: Sequence[bytes | memoryview],
        *,
        executable: bool,
        mtime_ns: int,
    ) -> None:
        """Write a whole file of verified bytes in one go, in place of what an earlier attempt left there.

        Raises:
            StorageError: the disk is full, or fails.
        """
        try:
            where, fd = self._target(folder), -1
            mode = 0o777 if executable else 0o666
            at = where.at(name)
            try:
                fd = os.open(at, _CREATE, mode, dir_fd=where.fd)
            except FileExistsError:
                os.unlink(at, dir_fd=where.fd)
                fd = os.open(at, _CREATE, mode, dir_fd=where.fd)
            try:
                for piece in pieces:
                    written = os.write(fd, piece)
                    while written < len(piece):
                        written += os.write(fd, piece[written:])
                place.set_time(fd, mtime_ns)
                if self.kind is Kind.BLOB:
                    os.fsync(fd)
            finally:
                os.close(fd)
        except OSError as error:
            raise _storage_error(error, self.parent, self._bytes) from error

    def small_is_right(
        self, folder: Parts, name: str, chunks: Sequence[Chunk], *, executable: bool, mtime_ns: int
    ) -> bool:
        """Whether an earlier attempt left this whole file here, every byte verified; then its time is set
        again.
        """
        try:
            where = self._target(folder)
            fd = os.open(where.at(name), os.O_RDWR | _NOFOLLOW, dir_fd=where.fd)
        except OSError:
            return False
        with self.translated(), _closing(fd):
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode) or status.st_size != sum(size for _, size in chunks):
                return False
            if any(blake3(os.read(fd, size)).digest() != digest for digest, size in chunks):
                return False
            place.set_executable(fd, executable)
            place.set_time(fd, mtime_ns)
        return True

    def large_file(self, folder: Parts, name: str, size: int, *, executable: bool) -> LargeFile:
        """Open a file to be written in pieces, with what an earlier attempt left in it.

        Raises:
            StorageError: it cannot be made.
        """
        with self.translated():
            where = self._target(folder)
            at = where.at(name)
            mode = 0o777 if executable else 0o666
            fd = os.open(at, os.O_RDWR | os.O_CREAT | _NOFOLLOW, mode, dir_fd=where.fd)
            place.set_executable(fd, executable)

            def again(flags: int) -> int:
                where = self._target(folder)
                return os.open(where.at(name), os.O_WRONLY | _NOFOLLOW | flags, dir_fd=where.fd)

            return LargeFile(self, fd, size, again)

    def remove_file(self, folder: Parts, name: str) -> None:
        """Remove what was written of a file that will not be delivered."""
        with self.translated(), suppress(FileNotFoundError):
            where = self._target(folder)
            os.unlink(where.at(name), dir_fd=where.fd)

    def add_link(self, folder: Parts, name: str, target: str) -> None:
        """Remember a symbolic link, made at the end. The caller has checked it (`names.symlink_allowed`)."""
        self._links.append((folder, name, target))

    # -- the end --

    def finish(self, *, keep_both: bool = False, into: Callable[[Path, Path], Path] | None = None) -> Path:
        """Everything was written and verified: make links, set times, flush, then give it its final name in
        one step.

        Args:
            keep_both: take "name (2)" and so on when the name is taken.
            into: brings it to its final name when that is taken, and returns where it is (`Merge.into`).

        Returns:
            where it is now.

        Raises:
            TargetExists: neither was given and there is something. The staging area stays: call again.
            StorageError: the disk is full, or fails.
        """
        if self._closed:
            raise UsageError("this staging area is closed")
        with self.translated():
            if self.kind is Kind.TREE:
                self._make_links()
                self._set_times()
                place.flush_tree(self._base.fd, self.path)
            self._close_folders()
            staged, target = self.path / STAGED, self.parent / self.name
            if keep_both:
                target = place.move_beside(staged, target)
            elif not place.move_new(staged, target):
                if into is None:
                    raise TargetExists(f"{target} exists already: choose to overwrite it or to keep both")
                target = into(staged, target)
            place.flush_folder(self.parent)
        self.discard()
        return target

    def discard(self) -> None:
        """Remove the staging area and everything in it."""
        self.close()
        discard_partial(self.path)

    def _make_links(self) -> None:
        for folder, name, target in self._links:
            where = self._folder(folder)
            at = where.at(name)
            try:
                os.symlink(target, at, dir_fd=where.fd)
            except FileExistsError:
                os.unlink(at, dir_fd=where.fd)
                os.symlink(target, at, dir_fd=where.fd)

    def _set_times(self) -> None:
        for folder, mtime_ns in sorted(self._times, key=lambda item: -len(item[0])):
            where = self._folder(folder)
            place.set_time(where.path if where.fd is None else where.fd, mtime_ns)

    # -- folders --

    def _target(self, folder: Parts) -> _Folder:
        """Where a file goes. The one file of a blob is `STAGED` itself, in the staging area."""
        if self._closed:
            raise UsageError("this staging area is closed")
        return self._folder(folder) if self.kind is Kind.TREE else self._base

    def _folder(self, parts: Parts) -> _Folder:
        """The open folder at `parts`, made if it is not there."""
        known = self._folders.get(parts)
        if known is not None:
            self._folders.move_to_end(parts)
            return known
        above = self._folder(parts[:-1]) if parts else self._base
        name = parts[-1] if parts else STAGED
        path = os.path.join(above.path, name)
        with suppress(FileExistsError):
            os.mkdir(above.at(name), dir_fd=above.fd)
        folder = _open_folder(above.at(name), above.fd, path)
        self._folders[parts] = folder
        while len(self._folders) > FOLDERS_OPEN_MAX:
            self._folders.popitem(last=False)[1].close()
        return folder

    def _close_folders(self) -> None:
        while self._folders:
            self._folders.popitem()[1].close()

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Errors of the system as `StorageError`, with what is needed and what to do."""
        try:
            yield
        except OSError as error:
            raise _storage_error(error, self.parent, self._bytes) from error


class Partial(msgspec.Struct, frozen=True):
    """What an unfinished transfer left on the disk."""

    path: Path
    bytes: int


def staging_path(parent: Path, name: str, staging_id: bytes) -> Path:
    """Where the transfer that keeps `staging_id` stages what is on its way to `parent`/`name`."""
    return (
        parent
        / f"{PARTIAL_PREFIX}{limit_bytes(name, STAGING_NAME_BYTES_MAX)}-{staging_id[:STAGING_ID_BYTES].hex()}"
    )


def partials(parent: Path) -> list[Partial]:
    """Unfinished transfers in a folder, with the space each takes."""
    found = []
    with os.scandir(parent) as entries:
        for entry in entries:
            if entry.name.startswith(PARTIAL_PREFIX) and entry.is_dir(follow_symlinks=False):
                found.append(Partial(Path(entry.path), _disk_bytes(entry.path)))
    return sorted(found, key=lambda partial: partial.path)


def discard_partial(path: Path) -> None:
    """Remove a staging area that nobody uses; it may be gone already.

    Raises:
        UsageError: that is not one.
        StorageError: it cannot be removed.
    """
    if not path.name.startswith(PARTIAL_PREFIX):
        raise UsageError(f"{path} is not an unfinished transfer")
    try:
        place.remove(path)
    except OSError as error:
        raise StorageError(f"cannot remove {path}: {error.strerror}; remove it yourself") from error


def check_space(parent: Path, needed_bytes: int, files: int = 0) -> None:
    """Raise `StorageError` when the disk of `parent`, which need not exist yet, has less free.

    `files` are counted too where the disk has a fixed number of them (most file systems of Linux).
    """
    existing = parent
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    try:
        free = shutil.disk_usage(existing).free
    except OSError as error:
        raise _storage_error(error, parent, needed_bytes) from error
    if free < needed_bytes + SPACE_RESERVE_BYTES:
        raise StorageError(_disk_full(parent, needed_bytes, free, SPACE_RESERVE_BYTES))
    room = os.statvfs(existing) if hasattr(os, "statvfs") else None
    if room is not None and room.f_files and room.f_favail < files:
        raise StorageError(
            f"{parent} has room for {room.f_favail:,} more files, and this is {files:,} of them"
        )


def _storage_error(error: OSError, parent: Path, needed_bytes: int) -> CoterieError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        try:
            free = shutil.disk_usage(parent).free
        except OSError:
            free = 0
        return StorageError(_disk_full(parent, needed_bytes, free))
    where = f" ({error.filename})" if error.filename else ""
    return StorageError(f"cannot write in {parent}: {error.strerror}{where}")


def _disk_full(parent: Path, needed_bytes: int, free_bytes: int, reserve_bytes: int = 0) -> str:
    reserve = f", and {reserve_bytes:,} are to stay free" if reserve_bytes else ""
    return (
        f"disk full: {parent} has {free_bytes:,} bytes free, the whole transfer takes {needed_bytes:,}{reserve}; "
        "free some space and start it again: it goes on from what is there"
    )


def _disk_bytes(path: str) -> int:
    total = 0
    for folder, _, files in os.walk(path):
        for name in files:
            with suppress(OSError):
                status = os.lstat(os.path.join(folder, name))
                total += getattr(status, "st_blocks", 0) * 512 or status.st_size
    return total


def _open_folder(name: str, dir_fd: int | None, path: str) -> _Folder:
    if not _HAS_DIR_FD:
        return _Folder(path, None)
    return _Folder(path, os.open(name, os.O_RDONLY | os.O_DIRECTORY | _NOFOLLOW, dir_fd=dir_fd))


@contextmanager
def _closing(fd: int) -> Iterator[None]:
    try:
        yield
    finally:
        os.close(fd)
