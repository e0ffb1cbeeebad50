"""The one store of versions: what an arrival replaced or took away, recoverable for a while.

A version is kept by a rename, so it stays on its file system and costs nothing: one folder for each file system,
readable by its owner only.

    <home>/versions/                  versions of the file system that the home is on, and `folders`: the other ones
    <top>/.coterie-versions-<mark>/   of another file system: as far up on it as this user may write
        journal                       one line of JSON for each version that is kept, or is no more
        <id>-<name>                   the version itself: a file, a link or a folder

Crash safe: the line is written before the rename. A line without its version counts for nothing. A version
without its line (the power failed) is found by its name and listed with an unknown origin.
"""

import contextlib
import errno
import os
import secrets
import shutil
import stat
import threading
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import msgspec

from coterie.content import file_steps as place
from coterie.content.names import VERSIONS_PREFIX, limit_bytes
from coterie.content.retention import SHARE_OF_DISK, VERSIONS_MAX, Held, expired, make_room
from coterie.decoding import decoder
from coterie.errors import NotFound, StorageError
from coterie.private_file import write_private
from coterie.quantity import count, say_bytes
from coterie.texts import tr

ID_CHARS = 10
NAME_BYTES_MAX = 200  # of the original name within that of a version
FOLDERS_MAX = 64  # file systems with versions; guess
COMPACT_LINES_MIN = 1_000  # of a journal, before it is written anew without what is over; guess
_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"
_ELSEWHERE = frozenset({errno.EXDEV, errno.EACCES, errno.EPERM, errno.EROFS})


class Version(msgspec.Struct, frozen=True, tag="kept"):
    """Something that is kept: where it lay, since when (seconds since 1970), why, and for whose sake.

    `path` is as the system has it; empty: not known. `bytes` on the disk; `source`: what came instead, and from whom.
    `size`: bytes of its contents; None where an earlier version of the program kept it.
    """

    id: str
    path: bytes
    at: float
    bytes: int
    kind: str
    why: str
    source: str = ""
    size: int | None = None

    @property
    def content_bytes(self) -> int:
        """How many bytes are in it."""
        return self.bytes if self.size is None else self.size

    @property
    def original(self) -> Path:
        """Where it lay."""
        return Path(os.fsdecode(self.path))


class _Over(msgspec.Struct, frozen=True, tag="over"):
    ids: list[str]


class VersionsFull(StorageError):
    """There is no room for one version more."""


class Versions:
    """All versions of one home. Blocking; safe from several threads, of one process."""

    def __init__(self, folder: Path, *, clock: Callable[[], float] = time.time) -> None:
        """`folder`: within the home; made when first needed."""
        self._folder = folder
        self._clock = clock
        self._lock = threading.RLock()
        self._shelves: dict[Path, _Shelf] = {}
        self._by_device: dict[int, _Shelf] = {}

    # -- keeping --

    def check_room(self, parent: Path, needed_bytes: int, versions: int) -> None:
        """Make room for so many versions of what lies in `parent`: old ones give way, young ones never.

        Raises:
            VersionsFull: it cannot be; says what to do.
        """
        if versions:
            with self._lock:
                self._room_on(self._shelf_for(parent, exclude=()), needed_bytes, versions)

    def keep(
        self,
        path: Path,
        why: str,
        *,
        source: str = "",
        replacement: Path | None = None,
        original: Path | None = None,
    ) -> Version:
        """Move what is at `path` away; `replacement`, on the same file system, takes its place in the same step.

        `original`: its own path, where `path` is another way to it (`no_links.held`).

        In one step where the system can link files: whoever reads `path` meanwhile sees the old or the new one.

        Raises:
            VersionsFull: there is no room for it.
            StorageError: it cannot be moved, or is gone. Nothing is lost then.
        """
        original = original or path
        with self._lock:
            tried: list[_Shelf] = []
            while True:
                shelf = self._shelf_for(_existing(original.parent), exclude=tried)
                try:
                    status = os.lstat(path)
                    taken, size = _sizes(path, status)
                    self._room_on(shelf, taken, 1)
                    name = limit_bytes(original.name, NAME_BYTES_MAX)
                    version = Version(
                        _new_id(),
                        os.fsencode(original),
                        self._clock(),
                        taken,
                        _kind(status),
                        why,
                        source,
                        size,
                    )
                    shelf.take(version, f"{version.id}-{name}", path, replacement)
                except OSError as error:
                    if error.errno not in _ELSEWHERE or len(tried) >= FOLDERS_MAX:
                        raise StorageError(
                            tr(
                                "cannot put {original} aside: {strerror}",
                                original=original,
                                strerror=error.strerror,
                            )
                        ) from error
                    tried.append(shelf)  # the same device, and yet not to be reached by a rename
                    continue
                self._by_device[os.stat(path.parent).st_dev] = shelf
                return version

    # -- what is kept --

    def kept(self) -> list[Version]:
        """Everything that is kept, oldest first."""
        with self._lock:
            found = [version for shelf in self._all() for version in shelf.versions.values()]
        return sorted(found, key=lambda version: (version.at, version.id))

    def restore(self, version_id: str, to: Path | None = None) -> Path:
        """Give a version back: where it lay or at `to`, under a numbered name where something else is; returns where.

        Raises:
            NotFound: no such version.
            StorageError: it cannot be moved there.
        """
        with self._lock:
            shelf, version = self._find(version_id)
            target = to or version.original
            if not version.path and to is None:
                raise StorageError(
                    tr("nobody knows where {version_id} lay: say where to put it", version_id=version_id)
                )
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                restored = place.move_beside(shelf.path_of(version_id), target)
            except OSError as error:
                hint = f"; copy it yourself from {shelf.path_of(version_id)}"
                raise StorageError(
                    tr(
                        "cannot put it at {target}: {strerror}{hint}",
                        target=target,
                        strerror=error.strerror,
                        hint=hint,
                    )
                ) from error
            shelf.note_over([version_id])
            return restored

    def path_of(self, version_id: str) -> Path:
        """Where a version lies. Raises `NotFound`."""
        with self._lock:
            return self._find(version_id)[0].path_of(version_id)

    def empty(self, ids: Collection[str] | None = None) -> tuple[int, int]:
        """Delete these versions for good, or all; how many, and how many bytes.

        Raises:
            NotFound: one of them does not exist; nothing was deleted then.
            StorageError: one cannot be deleted.
        """
        with self._lock:
            for version_id in ids or ():
                self._find(version_id)
            dropped = [shelf.drop(shelf.versions if ids is None else ids) for shelf in self._all()]
        return sum(number for number, _ in dropped), sum(size for _, size in dropped)

    def expire(self) -> int:
        """Delete what has been kept for its whole time; how many."""
        with self._lock:
            return sum(shelf.drop(expired(shelf.held(), self._clock()))[0] for shelf in self._all())

    # -- inside --

    def _find(self, version_id: str) -> "tuple[_Shelf, Version]":
        for shelf in self._all():
            if version_id in shelf.versions:
                return shelf, shelf.versions[version_id]
        raise NotFound(
            tr(
                "there is no '{version_id}' in the trash; `coterie trash` lists what is",
                version_id=version_id,
            )
        )

    def _room_on(self, shelf: "_Shelf", needed_bytes: int, versions: int) -> None:
        room = int(shutil.disk_usage(shelf.folder).total * SHARE_OF_DISK)
        if shelf.bytes + needed_bytes <= room and len(shelf.versions) + versions <= VERSIONS_MAX:
            return
        held, now = shelf.held(), self._clock()
        plan = make_room(held, now, room_bytes=room, more_bytes=needed_bytes, more=versions)
        shelf.drop(plan.drop)
        if plan.short_bytes or plan.short_versions:
            raise VersionsFull(
                tr(
                    "the trash on the disk of {folder} has no room for what is to be replaced ({files}, "
                    "{needed_bytes}): it holds {bytes} of {room} and {held:,} of {versions_max:,} versions, "
                    "and drops none that is younger than 7 days; `coterie trash` lists them, `coterie trash "
                    "empty` makes room",
                    folder=shelf.folder,
                    files=count(versions, "file"),
                    needed_bytes=say_bytes(needed_bytes),
                    bytes=say_bytes(shelf.bytes),
                    room=say_bytes(room),
                    held=len(held),
                    versions_max=VERSIONS_MAX,
                )
            )

    def _all(self) -> "list[_Shelf]":
        """The shelves of all file systems that are there now."""
        for folder in [self._folder, *self._known_folders()]:
            if folder not in self._shelves and _is_ours(folder):
                self._shelves[folder] = _Shelf(folder)
        return [shelf for folder, shelf in self._shelves.items() if _is_ours(folder)]

    def _shelf_for(self, parent: Path, *, exclude: "Collection[_Shelf]") -> "_Shelf":
        """Where versions of what lies in `parent` go: on its file system."""
        device = os.stat(parent).st_dev
        known = self._by_device.get(device)
        if known is not None and known not in exclude and _is_ours(known.folder):
            return known
        for folder in self._candidates(parent, device):
            if any(shelf.folder == folder for shelf in exclude):
                continue
            with contextlib.suppress(OSError):
                _make_private(folder)
                self._remember(folder)
                return self._shelves.setdefault(folder, _Shelf(folder))
        raise StorageError(
            tr(
                "no folder on the disk of {parent} takes what is to be replaced: nothing was touched",
                parent=parent,
            )
        )

    def _candidates(self, parent: Path, device: int) -> Iterator[Path]:
        """Folders for the versions of a file system, best first."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if os.stat(self._folder).st_dev == device:
            yield self._folder
        above = [parent, *parent.parents]
        same = [folder for folder in above if os.stat(folder).st_dev == device]
        for folder in reversed(same):
            yield folder / f"{VERSIONS_PREFIX}{self._mark()}"

    def _mark(self) -> str:
        """Tells our folders from those of other homes."""
        path = self._folder / "mark"
        with contextlib.suppress(FileNotFoundError):
            return "".join(c for c in path.read_text(errors="replace")[:32] if c in _ALPHABET) or "x"
        mark = _new_id()
        write_private(path, mark.encode())
        return mark

    def _known_folders(self) -> list[Path]:
        with contextlib.suppress(OSError, StorageError):
            return _read_folders((self._folder / "folders").read_bytes())
        return []

    def _remember(self, folder: Path) -> None:
        known = self._known_folders()
        if folder == self._folder or folder in known:
            return
        if len(known) >= FOLDERS_MAX:
            raise StorageError(
                tr("{folders_max} disks have a trash already: empty some", folders_max=FOLDERS_MAX)
            )
        names = [os.fsencode(one) for one in (*known, folder)]
        write_private(self._folder / "folders", msgspec.json.encode(names))


class _Shelf:
    """The versions on one file system."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.versions: dict[str, Version] = {}
        self.bytes = 0
        self._names: dict[str, str] = {}
        self._lines = 0
        self._load()

    def held(self) -> list[Held]:
        """What is kept, for `retention`."""
        return [Held(one.id, one.at, one.bytes) for one in self.versions.values()]

    def path_of(self, version_id: str) -> Path:
        """Where a version lies."""
        return self.folder / self._names[version_id]

    def take(self, version: Version, name: str, path: Path, replacement: Path | None) -> None:
        """Note a version, then move it here."""
        self._append(version)
        kept = self.folder / name
        if replacement is None or not _swap(path, kept, replacement):
            os.rename(path, kept)
            if replacement is not None:
                try:
                    os.rename(replacement, path)
                except OSError:
                    os.rename(kept, path)
                    raise
        self._add(version, name)

    def drop(self, ids: Collection[str]) -> tuple[int, int]:
        """Delete those of `ids` that are here; how many, and how many bytes were in them."""
        chosen = [self.versions[one] for one in list(ids) if one in self.versions]
        for version in chosen:
            try:
                place.remove(self.path_of(version.id))
            except OSError as error:
                raise StorageError(
                    tr(
                        "cannot delete {path_of}: {strerror}; remove it yourself",
                        path_of=self.path_of(version.id),
                        strerror=error.strerror,
                    )
                ) from error
        self.note_over([version.id for version in chosen])
        return len(chosen), sum(version.content_bytes for version in chosen)

    def note_over(self, ids: Collection[str]) -> None:
        """These are here no longer."""
        if not ids:
            return
        for version_id in ids:
            self.bytes -= self.versions.pop(version_id).bytes
            del self._names[version_id]
        self._append(_Over(list(ids)))
        if self._lines > COMPACT_LINES_MIN and self._lines > 2 * len(self.versions):
            self._compact()

    def _append(self, line: Version | _Over) -> None:
        flags = (
            os.O_WRONLY
            | os.O_APPEND
            | os.O_CREAT
            | getattr(os, "O_CLOEXEC", 0)
            | getattr(os, "O_NOFOLLOW", 0)
        )
        fd = os.open(self.folder / "journal", flags, 0o600)
        try:
            os.write(fd, b"\n" + msgspec.json.encode(line))  # ends a line that was cut off
        finally:
            os.close(fd)
        self._lines += 1

    def _compact(self) -> None:
        lines = [msgspec.json.encode(version) for version in self.versions.values()]
        write_private(self.folder / "journal", b"\n".join(lines))
        self._lines = len(lines)

    def _load(self) -> None:
        noted: dict[str, Version] = {}
        with contextlib.suppress(FileNotFoundError):
            for raw in (self.folder / "journal").read_bytes().splitlines():
                self._lines += 1
                with contextlib.suppress(StorageError):  # a line that was cut off
                    line = _read_line(raw)
                    if isinstance(line, Version):
                        noted[line.id] = line
        with os.scandir(self.folder) as entries:
            for entry in entries:
                version_id, dash, name = entry.name.partition("-")
                if not dash or len(version_id) != ID_CHARS:
                    continue
                if version_id not in noted:
                    status = entry.stat(follow_symlinks=False)
                    noted[version_id] = Version(
                        version_id, b"", status.st_ctime, _taken(status), _kind(status), f"found: {name}"
                    )
                self._add(noted[version_id], entry.name)

    def _add(self, version: Version, name: str) -> None:
        self.versions[version.id], self._names[version.id] = version, name
        self.bytes += version.bytes


def disk_bytes(path: Path) -> int:
    """What a file, link or folder with all that is in it takes on the disk."""
    return _sizes(path, os.lstat(path))[0]


def _sizes(path: Path, status: os.stat_result) -> tuple[int, int]:
    """What a file, link or folder takes on the disk, and how many bytes the files in it have."""
    taken, size = _taken(status), 0 if stat.S_ISDIR(status.st_mode) else status.st_size
    for folder, _, files in os.walk(path) if stat.S_ISDIR(status.st_mode) else ():
        for name in files:
            with contextlib.suppress(OSError):
                inner = os.lstat(os.path.join(folder, name))
                taken, size = taken + _taken(inner), size + inner.st_size
    return taken, size


def _existing(folder: Path) -> Path:
    """The folder, or the first one above it that is there."""
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    return folder


def _taken(status: os.stat_result) -> int:
    return getattr(status, "st_blocks", 0) * 512 or status.st_size


def _kind(status: os.stat_result) -> str:
    mode = status.st_mode
    return "folder" if stat.S_ISDIR(mode) else "link" if stat.S_ISLNK(mode) else "file"


def _swap(path: Path, kept: Path, replacement: Path) -> bool:
    """Keep a file by a second link, then replace it in one step; False: it cannot be linked."""
    if stat.S_ISDIR(os.lstat(replacement).st_mode):
        return False
    try:
        os.link(path, kept, follow_symlinks=False)
    except OSError as error:
        if error.errno in (errno.EXDEV, errno.ENOENT):
            raise
        return False
    try:
        os.replace(replacement, path)
    except OSError:
        os.unlink(kept)
        raise
    return True


def _make_private(folder: Path) -> None:
    """Make a folder of ours; one that is there has to be ours."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(folder, 0o700)
    if not _is_ours(folder):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))


def _is_ours(folder: Path) -> bool:
    """Whether it is there, and neither a link nor another user's.

    Asked before each use: who may write into the folder above can put something else in its place.
    """
    try:
        status = os.lstat(folder)
    except OSError:
        return False
    owner = os.geteuid() if hasattr(os, "geteuid") else status.st_uid
    return stat.S_ISDIR(status.st_mode) and status.st_uid == owner


def _new_id() -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(ID_CHARS))


@decoder(StorageError, "the list of trash folders")
def _read_folders(raw: bytes) -> list[Path]:
    return [Path(os.fsdecode(name)) for name in msgspec.json.decode(raw, type=list[bytes])]


@decoder(StorageError, "a line of a trash folder's journal")
def _read_line(raw: bytes) -> Version | _Over:
    return msgspec.json.decode(raw, type=Version | _Over)
