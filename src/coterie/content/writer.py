"""Writes received content: into a staging area beside the target, and under its final name only when all is
there.

    <parent>/.coterie-partial-<name>-<id>/data     a file or folder in the making; the staging area is 0700
                                         /left     what an earlier run left of a folder; what is wanted moves to data

So whatever is in `data` was put there by this run, each file, folder and link exclusively: a name that is taken there
is one that the disk takes for another, and what it would have replaced stays.

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
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
from blake3 import blake3

from coterie.content import file_steps as place
from coterie.content.disk_rules import rules_of
from coterie.content.large_file import LargeFile, closing_fd
from coterie.content.manifest import Chunk, Kind
from coterie.content.names import PARTIAL_PREFIX, WINDOWS, NameRules, limit_bytes, local_names, numbered
from coterie.content.refusals import REFUSALS, EntryRefused
from coterie.errors import CoterieError, DiskFull, StorageError, UsageError
from coterie.quantity import say_bytes
from coterie.texts import tr

STAGED = "data"
LEFT = "left"  # what an earlier run staged, until this one wants a file of it
OLD_STEPS = (
    "leaving",
    "replaced",
)  # until v0.1: the content, or what the user had, while they changed places
STAGING_NAME_BYTES_MAX = 150  # of the target's name within that of its staging area
STAGING_ID_BYTES = 16  # 128 bits of chance: nobody who sends a tree can guess where something will be staged
FOLDERS_OPEN_MAX = 32
SPACE_RESERVE_BYTES = 16 << 20  # left free by the check before a transfer; guess

_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NOFOLLOW
_HAS_DIR_FD = os.open in os.supports_dir_fd and os.mkdir in os.supports_dir_fd and hasattr(os, "O_DIRECTORY")

Parts = tuple[str, ...]
"""Local names from the top of the tree downwards; () is the top itself."""


class TargetExists(UsageError):
    """There is something under the final name already."""

    code = "exists"


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


class Staging:
    """Where one transfer writes until it is complete. Make it with `Staging.open`; one user at a time.

    Names are local ones (`names.local_names` by its `rules`): distinct at this destination. After `finish`, `refused`
    are links that this disk cannot hold, and why. Call it from one thread at a time.
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
        self._has_left = False
        self.rules = NameRules()
        self.refused: list[tuple[Parts, str]] = []

    @classmethod
    def open(
        cls, parent: Path, name: str, staging_id: bytes, kind: Kind, size: int, *, in_place: bool = False
    ) -> "Staging":
        """The staging area with this id for `parent`/`name`: a new one, or what an earlier run left.

        Args:
            staging_id: random, of one transfer, and known to nobody else: a tree that was received may have folders of
                such names, and what is in one would be delivered.
            size: bytes of all files together, for the message when the disk is full.
            in_place: what an earlier run left of a folder stays in `data`; the caller sees to it.

        Raises:
            UsageError: the disk of `parent` cannot hold `name`.
            StorageError: `parent` cannot be written, or another transfer uses this staging area.
        """
        path = staging_path(parent, name, staging_id)
        try:
            parent.mkdir(parents=True, exist_ok=True)
            try:
                os.mkdir(path, 0o700)
            except FileExistsError:
                if not stat.S_ISDIR(os.lstat(path).st_mode):
                    raise StorageError(tr("{path} is in the way: move it aside", path=path)) from None
            staging = cls(parent, name, kind, size, path)
        except OSError as error:
            raise _storage_error(error, parent, size) from error
        try:
            staging._lock.take(path)
            for old in OLD_STEPS:  # whichever of the two it is: it may be the user's
                if os.path.lexists(path / old):
                    place.move_beside(path / old, parent / numbered(name, 2))
            with staging.translated():
                staging.rules = rules_of(path)
            if local_names([name], staging.rules) != [name]:
                raise UsageError(
                    tr(
                        "the disk of {parent} cannot hold the name '{name}': choose another one",
                        parent=parent,
                        name=name,
                    )
                )
            if kind is Kind.TREE:
                with staging.translated():
                    staging._has_left = not in_place and _set_aside(path)
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

    # -- writing --

    def make_folder(self, folder: Parts, mtime_ns: int) -> None:
        """Make a folder of the tree; its modification time is set at the end.

        Raises:
            EntryRefused: this disk cannot hold it, or takes its name for that of another.
        """
        with self.translated():
            if folder:
                above = self._target(folder[:-1])
                os.mkdir(above.at(folder[-1]), dir_fd=above.fd)
            else:
                self._target(())
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
        """Write a whole file of verified bytes in one go.

        Raises:
            EntryRefused: this disk cannot hold it, or takes its name for that of another; the other stays.
            StorageError: the disk is full, or fails.
        """
        try:
            where = self._target(folder)
            at = where.at(name)
            if self.kind is Kind.BLOB:
                with suppress(FileNotFoundError):  # what an earlier run left
                    os.unlink(at, dir_fd=where.fd)
            elif self._has_left:
                with suppress(OSError):
                    os.unlink(self._left(folder, name))
            fd = os.open(at, _CREATE, 0o777 if executable else 0o666, dir_fd=where.fd)
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
        """Whether an earlier attempt left this whole file, every byte verified; then it is there, with its time."""
        try:
            where = self._target(folder)
            at = where.at(name)
            if not self._take_left(where, folder, name):
                return False
            fd = os.open(at, os.O_RDWR | _NOFOLLOW, dir_fd=where.fd)
        except OSError:
            return False
        with self.translated(), closing_fd(fd):
            status = os.fstat(fd)
            if (
                not stat.S_ISREG(status.st_mode)
                or status.st_size != sum(size for _, size in chunks)
                or any(blake3(os.read(fd, size)).digest() != digest for digest, size in chunks)
            ):
                os.unlink(at, dir_fd=where.fd)
                return False
            place.set_executable(fd, executable)
            place.set_time(fd, mtime_ns)
        return True

    def large_file(
        self, folder: Parts, name: str, size: int, *, executable: bool, again: bool = False
    ) -> LargeFile:
        """Open a file to be written in pieces, with what an earlier attempt left in it.

        `again`: it was opened by this before.

        Raises:
            EntryRefused: this disk cannot hold it, or takes its name for that of another; the other stays.
            StorageError: it cannot be made.
        """
        with self.translated():
            where = self._target(folder)
            at = where.at(name)
            mode = 0o777 if executable else 0o666
            exclusive = 0 if again or self._take_left(where, folder, name) else os.O_EXCL
            fd = os.open(at, os.O_RDWR | os.O_CREAT | exclusive | _NOFOLLOW, mode, dir_fd=where.fd)
            try:
                _check_size(fd, size)
                place.set_executable(fd, executable)
            except BaseException:
                os.close(fd)
                if exclusive:
                    os.unlink(at, dir_fd=where.fd)
                raise

            def reopen(flags: int) -> int:
                where = self._target(folder)
                return os.open(where.at(name), os.O_WRONLY | _NOFOLLOW | flags, dir_fd=where.fd)

            return LargeFile(fd, size, reopen, self.translated, is_alone=self.kind is Kind.BLOB)

    def _take_left(self, where: _Folder, folder: Parts, name: str) -> bool:
        """Bring a file of an earlier run to where this one wants it; whether there is one."""
        at = where.at(name)
        if self.kind is Kind.BLOB:
            return _is_there(at, where.fd)
        if not self._has_left or _is_there(at, where.fd):
            return False
        left = self._left(folder, name)
        try:
            if not stat.S_ISREG(os.lstat(left).st_mode):
                return False
            os.rename(left, at, dst_dir_fd=where.fd)
        except OSError:  # it is fetched again
            return False
        return True

    def _left(self, folder: Parts, name: str) -> str:
        return os.path.join(self.path, LEFT, *folder, name)

    def remove_file(self, folder: Parts, name: str) -> None:
        """Remove what was written of a file that will not be delivered."""
        with self.translated(), suppress(FileNotFoundError):
            where = self._target(folder)
            os.unlink(where.at(name), dir_fd=where.fd)

    def add_link(self, folder: Parts, name: str, target: str) -> None:
        """Remember a symbolic link, made at the end. The caller has checked it (`names.symlink_allowed`)."""
        self._links.append((folder, name, target))

    # -- the end --

    def finish(
        self,
        *,
        keep_both: bool = False,
        into: Callable[[Path, Path], Path] | None = None,
        meanwhile: Callable[[], None] | None = None,
    ) -> Path:
        """Everything was written and verified: make links, set times, flush, then give it its final name in
        one step.

        Args:
            keep_both: take "name (2)" and so on when the name is taken.
            into: brings it to its final name when that is taken, and returns where it is (`Merge.into`).
            meanwhile: is called while a folder is brought to the disk, when nothing in it changes any more.

        Returns:
            where it is now.

        Raises:
            TargetExists: neither was given and there is something. The staging area stays: call again.
            StorageError: the disk is full, or fails.
        """
        if self._closed:
            raise UsageError(tr("this staging area is closed"))
        with self.translated():
            if self.kind is Kind.TREE:
                self._make_links()
                self._set_times()
                self._flush(meanwhile or (lambda: None))
            self._close_folders()
            staged, target = self.path / STAGED, self.parent / self.name
            if keep_both:
                target = place.move_beside(staged, target)
            elif not place.move_new(staged, target):
                if into is None:
                    raise TargetExists(
                        tr("{target} exists already: choose to overwrite it or to keep both", target=target)
                    )
                target = into(staged, target)
            place.flush_folder(self.parent)
        self.discard()
        return target

    def _flush(self, meanwhile: Callable[[], None]) -> None:
        with ThreadPoolExecutor(1, "coterie-flush") as thread:
            flushing = thread.submit(place.flush_tree, self._base.fd, self.path)
            meanwhile()
            flushing.result()

    def discard(self) -> None:
        """Remove the staging area and everything in it."""
        self.close()
        discard_partial(self.path)

    def _make_links(self) -> None:
        while self._links:
            folder, name, target = self._links.pop()
            try:
                with self.translated():
                    where = self._folder(folder)
                    os.symlink(target, where.at(name), dir_fd=where.fd)
            except EntryRefused as refused:
                self.refused.append(((*folder, name), refused.reason))

    def _set_times(self) -> None:
        for folder, mtime_ns in sorted(self._times, key=lambda item: (-len(item[0]), item[0])):
            above = self._folder(folder[:-1]) if folder else self._base
            place.set_time(above.at(folder[-1] if folder else STAGED), mtime_ns, above.fd)

    # -- folders --

    def _target(self, folder: Parts) -> _Folder:
        """Where a file goes. The one file of a blob is `STAGED` itself, in the staging area."""
        if self._closed:
            raise UsageError(tr("this staging area is closed"))
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
        try:
            folder = _open_folder(above.at(name), above.fd, path)
        except FileNotFoundError:
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
    staging = f"{staging_id[:STAGING_ID_BYTES].hex()}"
    until_v01 = parent / f"{PARTIAL_PREFIX}{limit_bytes(name, STAGING_NAME_BYTES_MAX)}-{staging}"
    (possible,) = local_names([name], WINDOWS)  # the disk need not hold the target's own name
    if possible == name or os.path.lexists(until_v01):
        return until_v01
    return parent / f"{PARTIAL_PREFIX}{limit_bytes(possible, STAGING_NAME_BYTES_MAX)}-{staging}"


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
        raise UsageError(tr("{path} is not an unfinished transfer", path=path))
    try:
        place.remove(path)
    except OSError as error:
        raise StorageError(
            tr("cannot remove {path}: {strerror}; remove it yourself", path=path, strerror=error.strerror)
        ) from error


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
    room = os.statvfs(existing) if hasattr(os, "statvfs") else None
    if room is not None and room.f_blocks == 0:
        raise StorageError(
            tr(
                "{parent} is no place for files: the system shows itself there; choose another folder",
                parent=parent,
            )
        )
    if free < needed_bytes + SPACE_RESERVE_BYTES:
        raise DiskFull(_disk_full(parent, needed_bytes, free, SPACE_RESERVE_BYTES))
    if room is not None and room.f_files and room.f_favail < files:
        raise DiskFull(
            tr(
                "{parent} has room for {f_favail:,} more files, and this is {files:,} of them",
                parent=parent,
                f_favail=room.f_favail,
                files=files,
            )
        )


def _storage_error(error: OSError, parent: Path, needed_bytes: int) -> CoterieError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        try:
            free = shutil.disk_usage(parent).free
        except OSError:
            free = 0
        return DiskFull(_disk_full(parent, needed_bytes, free))
    where = f" ({_text(error.filename)})" if error.filename else ""
    message = f"cannot write in {parent}: {error.strerror}{where}"
    reason = REFUSALS.get(error.errno or 0)
    return StorageError(message) if reason is None else EntryRefused(message, reason)


def _text(filename: str | bytes) -> str:
    return filename if isinstance(filename, str) else os.fsdecode(filename)


def _check_size(fd: int, size: int) -> None:
    """A disk whose files are never that large says so before anything is fetched (FAT; not all through FUSE)."""
    try:
        os.lseek(fd, size, os.SEEK_SET)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.EOVERFLOW):
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG)) from error
        raise


def _is_there(at: str, dir_fd: int | None) -> bool:
    try:
        os.stat(at, dir_fd=dir_fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _set_aside(path: Path) -> bool:
    """Move what an earlier run staged of a folder out of the way; whether anything is there."""
    staged, left = path / STAGED, path / LEFT
    if os.path.lexists(staged) and not os.path.lexists(left):
        os.rename(staged, left)
    elif os.path.lexists(staged):  # two earlier runs: the later one has moved some of it
        for folder, _, files in os.walk(staged):
            below = left / Path(folder).relative_to(staged)
            for name in files:
                with suppress(OSError):  # it is fetched again
                    below.mkdir(parents=True, exist_ok=True)
                    os.replace(os.path.join(folder, name), below / name)
        place.remove(staged)
    return os.path.lexists(left)


def _disk_full(parent: Path, needed_bytes: int, free_bytes: int, reserve_bytes: int = 0) -> str:
    reserve = tr(", and {size} are to stay free", size=say_bytes(reserve_bytes)) if reserve_bytes else ""
    return tr(
        "disk full: {parent} has {free} free, the whole transfer takes {needed}{reserve}; "
        "free some space and start it again: it goes on from what is there",
        parent=parent,
        free=say_bytes(free_bytes),
        needed=say_bytes(needed_bytes),
        reserve=reserve,
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
        os.stat(path)  # FileNotFoundError as where it is opened
        return _Folder(path, None)
    return _Folder(path, os.open(name, os.O_RDONLY | os.O_DIRECTORY | _NOFOLLOW, dir_fd=dir_fd))
