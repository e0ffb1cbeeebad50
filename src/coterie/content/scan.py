"""Walks a folder to be shared: what is in it, and what of it cannot be."""

import errno
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import msgspec

from coterie.content import no_links
from coterie.content.manifest import DEPTH_MAX, TOTAL_MAX, LinkEntry
from coterie.content.names import is_reserved, name_fault, symlink_allowed
from coterie.content.seen import (
    COPIED,
    FILE,
    LINK,
    NO_STAMP,
    PROGRAM,
    STAMP,
    SeenFolder,
    clamped,
    is_settled,
    numbers,
    split,
    stamp_of,
    stamped,
)

WINDOWS = os.name == "nt"


class Skipped(msgspec.Struct, frozen=True):
    """Something that was left out, and why. `is_lost`: it should have been shared and could not be read."""

    path: str
    reason: str
    is_lost: bool = True


@dataclass(slots=True, eq=False)
class FoundFile:
    """A regular file as `stat` saw it; the packed `chunks` follow once it was read.

    `is_same`: it is as when it was taken in last. `must_read`: no table but the file itself says what is in it now.
    """

    folder: str
    name: str
    size: int
    mtime_ns: int
    inode: int
    device: int
    executable: bool
    chunks: bytes | None = None
    ctime_ns: int = 0
    is_same: bool = False
    must_read: bool = False

    @property
    def path(self) -> str:
        """Where it lies."""
        return join(self.folder, self.name)

    def same(self, status: os.stat_result) -> bool:
        """Whether `status` is still that of the file that was found."""
        return (
            date_of(status) == self.mtime_ns
            and status.st_size == self.size
            and status.st_ino & TOTAL_MAX == self.inode
            and stat.S_ISREG(status.st_mode)
        )

    def update(self, status: os.stat_result) -> None:
        """Take the file as it is now."""
        self.size = status.st_size
        self.mtime_ns = date_of(status)
        self.ctime_ns = clamped(status.st_ctime_ns)
        self.inode = status.st_ino & TOTAL_MAX
        self.device = status.st_dev & TOTAL_MAX
        self.executable = bool(status.st_mode & stat.S_IXUSR)

    def compare(self, seen: bytes | None) -> None:
        """Find out whether it is the same as when it had the stamp `seen`, if it had one."""
        if seen is not None:
            now = self._stamp()
            self.is_same = seen == now
            self.must_read = seen == NO_STAMP or (not self.is_same and seen[COPIED] == now[COPIED])

    def stamp(self, looked_ns: int) -> bytes:
        """The STAMP by which it is known the next time; none where it could be written without getting another."""
        is_known = self.chunks is not None or self.is_same
        return self._stamp() if is_known and is_settled(self.mtime_ns, self.ctime_ns, looked_ns) else NO_STAMP

    def _stamp(self) -> bytes:
        kind = PROGRAM if self.executable else FILE
        return STAMP.pack(kind, self.inode, self.size, self.mtime_ns, self.ctime_ns)


@dataclass(slots=True, eq=False)
class FoundFolder:
    """A folder, `depth` levels below the one that is shared.

    `seen`: how it was when it was taken in last. `is_same`: its files and links are as then, and not listed here.
    """

    path: str
    name: str
    depth: int
    mtime_ns: int
    seen: SeenFolder | None = None
    is_same: bool = False
    link_stamps: list[bytes] = field(default_factory=list)
    files: list[FoundFile] = field(default_factory=list)
    folders: list["FoundFolder"] = field(default_factory=list)
    links: list[LinkEntry] = field(default_factory=list)


def date_of(status: os.stat_result) -> int:
    """When a file was changed, ns since 1970; of a date that a manifest cannot hold (after 2262) the nearest it can."""
    return clamped(status.st_mtime_ns)


def join(folder: str, name: str) -> str:
    """Where `name` in a folder lies."""
    return folder + os.sep + name if folder != os.sep else os.sep + name


def unreadable(error: OSError) -> str:
    """Why something is left out that could not be opened."""
    if error.errno == errno.ELOOP:
        return "a symbolic link has taken its place, or that of a folder above it, while it was read"
    return f"unreadable: {error.strerror}"


def found_file(path: str, status: os.stat_result) -> FoundFile:
    """The file at `path` with this status."""
    folder, name = os.path.split(path)
    found = FoundFile(folder, name, 0, 0, 0, 0, False)
    found.update(status)
    return found


def key_of(folder: FoundFolder, top: str) -> bytes:
    """What a folder is called in what was seen of `top`."""
    return os.fsencode(folder.path[len(top) :].lstrip(os.sep))


def scan(
    path: str,
    mtime_ns: int,
    excluded: frozenset[str],
    skip: Callable[[Skipped], None],
    check: Callable[[], None],
    seen: Mapping[bytes, SeenFolder] = MappingProxyType({}),
) -> list[FoundFolder]:
    """Every folder at and under `path`, each before those in it. `check` is called often; it may raise.

    `seen`: how they were when they were taken in last, by `key_of`.
    """
    top = FoundFolder(path, os.path.basename(path), 0, mtime_ns)
    order: list[FoundFolder] = []
    waiting = [top]
    while waiting:
        folder = waiting.pop()
        order.append(folder)
        check()
        folder.seen = seen.get(key_of(folder, path)) if seen else None
        try:
            with no_links.entries(folder.path) as (entries, fd):
                _look(folder, _listed(folder, entries, excluded, skip), fd, skip)
        except OSError as error:
            skip(Skipped(folder.path, unreadable(error)))
        folder.folders.sort(key=lambda inner: inner.name)
        waiting += reversed(folder.folders)
    return order


def _listed(
    folder: FoundFolder,
    entries: Iterator[os.DirEntry[str]],
    excluded: frozenset[str],
    skip: Callable[[Skipped], None],
) -> bytes:
    """Take in the folders among the entries; all else is returned, as `SeenFolder.stamps` has it."""
    stamps: list[bytes] = []
    try:
        for entry in entries:
            try:
                status = entry.stat(follow_symlinks=False)
            except OSError as error:
                skip(Skipped(join(folder.path, entry.name), unreadable(error)))
                continue
            mode = status.st_mode
            if stat.S_ISREG(mode):
                kind = PROGRAM if mode & stat.S_IXUSR else FILE
                stamps.append(stamped(entry.name, stamp_of(kind, status)))
            elif stat.S_ISDIR(mode):
                _take_folder(folder, entry.name, date_of(status), excluded, skip)
            elif stat.S_ISLNK(mode):
                stamps.append(stamped(entry.name, stamp_of(LINK, status)))
            elif _may_take(folder, entry.name, skip):
                skip(Skipped(join(folder.path, entry.name), _special(mode), is_lost=False))
    except OSError as error:
        skip(Skipped(folder.path, unreadable(error)))
    stamps.sort()
    return b"".join(stamps)


def _take_folder(
    folder: FoundFolder, name: str, mtime_ns: int, excluded: frozenset[str], skip: Callable[[Skipped], None]
) -> None:
    path = join(folder.path, name)
    if not _may_take(folder, name, skip):
        return
    if path in excluded:
        skip(Skipped(path, "coterie's own data", is_lost=False))
    elif folder.depth + 1 > DEPTH_MAX:
        skip(Skipped(path, f"more than {DEPTH_MAX} folders deep"))
    else:
        folder.folders.append(FoundFolder(path, name, folder.depth + 1, mtime_ns))


def _may_take(folder: FoundFolder, name: str, skip: Callable[[Skipped], None]) -> bool:
    """Whether an entry of this name can be shared."""
    fault = name_fault(name)
    if fault:
        skip(Skipped(join(folder.path, name), f"its name {fault}"))
    elif WINDOWS and "\\" in name:
        skip(Skipped(join(folder.path, name), "its name contains a backslash"))
    elif is_reserved(name):
        reason = "an unfinished transfer of coterie, or its trash"
        skip(Skipped(join(folder.path, name), reason, is_lost=False))
    else:
        return True
    return False


def _look(folder: FoundFolder, stamps: bytes, fd: int | None, skip: Callable[[Skipped], None]) -> None:
    """Take in files and links with these stamps, unless they are those that were seen last."""
    if folder.seen is not None and folder.seen.stamps == stamps:
        folder.is_same = True
        return
    before = folder.seen.by_name() if folder.seen is not None else {}
    device = os.fstat(fd).st_dev & TOTAL_MAX if fd is not None else 0
    for raw, stamp in split(stamps):
        name = os.fsdecode(raw)
        if not _may_take(folder, name, skip):
            continue
        kind, inode, size, mtime_ns, ctime_ns = numbers(stamp)
        if kind in (FILE, PROGRAM):
            found = FoundFile(folder.path, name, size, mtime_ns, inode, device, kind == PROGRAM)
            found.ctime_ns = ctime_ns
            found.compare(before.get(raw))
            folder.files.append(found)
        elif kind == LINK:
            _take_link(folder, name, raw + b"\0" + stamp, fd, skip)


def _take_link(
    folder: FoundFolder, name: str, stamp: bytes, fd: int | None, skip: Callable[[Skipped], None]
) -> None:
    path = join(folder.path, name)
    try:
        target = os.readlink(path) if fd is None else os.readlink(name, dir_fd=fd)
    except OSError as error:
        skip(Skipped(path, unreadable(error)))
        return
    if symlink_allowed(target, folder.depth, windows=WINDOWS):
        folder.links.append(LinkEntry(name, target))
        folder.link_stamps.append(stamp)
    else:
        reason = f"a symbolic link that may lead out of the shared folder: {target!r}"
        skip(Skipped(path, reason, is_lost=False))


def _special(mode: int) -> str:
    if stat.S_ISSOCK(mode):
        return "a socket"
    if stat.S_ISFIFO(mode):
        return "a named pipe"
    return "a device"
