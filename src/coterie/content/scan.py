"""Walks a folder to be shared: what is in it, and what of it cannot be."""

import errno
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import msgspec

from coterie.content import no_links
from coterie.content.manifest import DEPTH_MAX, TOTAL_MAX, LinkEntry
from coterie.content.names import is_reserved, name_fault, symlink_allowed

WINDOWS = os.name == "nt"


class Skipped(msgspec.Struct, frozen=True):
    """Something that was left out, and why. `is_lost`: it should have been shared and could not be read."""

    path: str
    reason: str
    is_lost: bool = True


@dataclass(slots=True, eq=False)
class FoundFile:
    """A regular file as `stat` saw it; the packed `chunks` follow once it was read."""

    folder: str
    name: str
    size: int
    mtime_ns: int
    inode: int
    device: int
    executable: bool
    chunks: bytes | None = None

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
        self.inode = status.st_ino & TOTAL_MAX
        self.device = status.st_dev & TOTAL_MAX
        self.executable = bool(status.st_mode & stat.S_IXUSR)


@dataclass(slots=True, eq=False)
class FoundFolder:
    """A folder, `depth` levels below the one that is shared."""

    path: str
    name: str
    depth: int
    mtime_ns: int
    files: list[FoundFile] = field(default_factory=list)
    folders: list["FoundFolder"] = field(default_factory=list)
    links: list[LinkEntry] = field(default_factory=list)


def date_of(status: os.stat_result) -> int:
    """When a file was changed, ns since 1970; of a date that a manifest cannot hold (after 2262) the nearest it can."""
    return max(-TOTAL_MAX, min(status.st_mtime_ns, TOTAL_MAX))


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


def scan(
    path: str,
    mtime_ns: int,
    excluded: frozenset[str],
    skip: Callable[[Skipped], None],
    check: Callable[[], None],
) -> list[FoundFolder]:
    """Every folder at and under `path`, each before those in it. `check` is called often; it may raise."""
    top = FoundFolder(path, os.path.basename(path), 0, mtime_ns)
    order: list[FoundFolder] = []
    waiting = [top]
    while waiting:
        folder = waiting.pop()
        order.append(folder)
        check()
        for entry, place, fd in _entries(folder, excluded, skip):
            try:
                _take(folder, entry, place, fd, skip)
            except OSError as error:
                skip(Skipped(place, unreadable(error)))
        folder.files.sort(key=lambda file: file.name)
        folder.folders.sort(key=lambda inner: inner.name)
        waiting += reversed(folder.folders)
    return order


def _entries(
    folder: FoundFolder, excluded: frozenset[str], skip: Callable[[Skipped], None]
) -> Iterator[tuple[os.DirEntry[str], str, int | None]]:
    """The entries of a folder whose names can be shared: with their paths, and the folder's descriptor."""
    try:
        with no_links.entries(folder.path) as (entries, fd):
            for entry in entries:
                path = join(folder.path, entry.name)
                fault = name_fault(entry.name)
                if fault:
                    skip(Skipped(path, f"its name {fault}"))
                elif WINDOWS and "\\" in entry.name:
                    skip(Skipped(path, "its name contains a backslash"))
                elif is_reserved(entry.name):
                    skip(Skipped(path, "an unfinished transfer of coterie, or its trash", is_lost=False))
                elif path in excluded:
                    skip(Skipped(path, "coterie's own data", is_lost=False))
                else:
                    yield entry, path, fd
    except OSError as error:
        skip(Skipped(folder.path, unreadable(error)))


def _take(
    folder: FoundFolder, entry: os.DirEntry[str], path: str, fd: int | None, skip: Callable[[Skipped], None]
) -> None:
    status = entry.stat(follow_symlinks=False)
    mode = status.st_mode
    if stat.S_ISREG(mode):
        found = FoundFile(folder.path, entry.name, 0, 0, 0, 0, False)
        found.update(status)
        folder.files.append(found)
    elif stat.S_ISDIR(mode):
        if folder.depth + 1 > DEPTH_MAX:
            skip(Skipped(path, f"more than {DEPTH_MAX} folders deep"))
            return
        folder.folders.append(FoundFolder(path, entry.name, folder.depth + 1, date_of(status)))
    elif stat.S_ISLNK(mode):
        target = os.readlink(path) if fd is None else os.readlink(entry.name, dir_fd=fd)
        if symlink_allowed(target, folder.depth, windows=WINDOWS):
            folder.links.append(LinkEntry(entry.name, target))
        else:
            reason = f"a symbolic link that may lead out of the shared folder: {target!r}"
            skip(Skipped(path, reason, is_lost=False))
    else:
        skip(Skipped(path, _special(mode), is_lost=False))


def _special(mode: int) -> str:
    if stat.S_ISSOCK(mode):
        return "a socket"
    if stat.S_ISFIFO(mode):
        return "a named pipe"
    return "a device"
