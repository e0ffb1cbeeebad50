"""Brings what arrived into a folder that is there already: nothing that only lies there is touched.

A file of the same name is replaced, and kept as a version, or moved beside under a clear name. What is not a
file, a link or a folder (a device, a socket) is never opened or replaced, nor does a file take the place of a
folder: what arrived is numbered then. No symbolic link of the folder is followed, nor one that somebody puts there
meanwhile.

Each step leaves the old and the new one somewhere under a name of theirs, so what was interrupted goes on by
the same call.
"""

import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from enum import Enum
from pathlib import Path
from typing import BinaryIO

from coterie.content import file_steps as place
from coterie.content import no_links
from coterie.content.names import NAME_BYTES_MAX, NUMBER_MAX, PARTIAL_PREFIX, limit_bytes
from coterie.content.versions import Versions, disk_bytes
from coterie.errors import StorageError
from coterie.quantity import count
from coterie.texts import tr

COMPARE_BYTES = 1 << 20
CARRIED_BYTES_MAX = 200  # of a name within that of its copy
MOVED_LISTED_MAX = 10_000  # of one arrival, one by one

Parts = tuple[str, ...]


class Old(Enum):
    """What becomes of a file that something else arrived for."""

    KEEP = "keep"  # as a version
    BESIDE = "beside"  # under another name in the same folder
    STAY = "stay"  # where it is: what arrived is not needed


Judge = Callable[[Parts], Old]
"""By its path below the target. Not asked about what has the same bytes."""


class Merge:
    """One arrival, and what it did. Blocking.

    How many files are `new` or were `replaced`; what has another name, as (path, why): `beside`, files of the user that
    were moved; `numbered`, what arrived and could not have its own name.
    """

    def __init__(self, versions: Versions, judge: Judge, *, why: str, source: str, mark: str) -> None:
        """`why` and `source` are noted with each version; `mark` says in a name why a file was moved beside."""
        self._versions = versions
        self._judge = judge
        self._why = why
        self._source = source
        self._mark = mark
        self._target = self._real = Path()
        self.new = 0
        self.replaced = 0
        self.beside: list[tuple[str, str]] = []
        self.numbered: list[tuple[str, str]] = []

    def into(self, staged: Path, target: Path) -> Path:
        """Bring `staged` to `target`, where something is; returns where it is now.

        Raises:
            VersionsFull: what would be replaced finds no room in the store; nothing was touched.
            OSError, StorageError: the disk.
        """
        self._check_room(staged, target)
        self._target = target
        self._real = Path(os.path.realpath(target.parent), target.name)
        return self._bring(staged, target, ())

    def _check_room(self, staged: Path, target: Path) -> None:
        needed: dict[int, tuple[Path, int, int]] = {}  # of each file system: a folder on it, bytes, versions
        for new, old, parts in _collisions(staged, target):
            if self._is_kept(new, old, parts):
                where = os.stat(old.parent).st_dev
                folder, size, versions = needed.get(where, (old.parent, 0, 0))
                needed[where] = (folder, size + disk_bytes(old), versions + 1)
        for folder, size, versions in needed.values():
            self._versions.check_room(folder, size, versions)

    def _is_kept(self, new: Path, old: Path, parts: Parts) -> bool:
        return _is_plain(old) and not _same(new, old) and self._judge(parts) is Old.KEEP

    def _bring(self, staged: Path, target: Path, parts: Parts) -> Path:
        """Bring one entry, and what is in it; where it is then."""
        both_folders = _is_folder(staged) and os.path.lexists(target) and _is_folder(target)
        if both_folders or not _is_elsewhere(staged, target):
            return self._bring_near(staged, target, parts)
        carried = _carried(staged, target)
        try:
            return self._bring_near(carried, target, parts)
        finally:
            place.remove(carried)

    def _bring_near(self, staged: Path, target: Path, parts: Parts) -> Path:
        """As `_bring`, where a rename leads from the one to the other."""
        if place.move_new(staged, target):
            self.new += 1 if not target.is_dir() or target.is_symlink() else _files_in(target)
            return target
        is_folder = _is_folder(staged)
        if is_folder and _is_folder(target):
            mtime_ns = staged.stat().st_mtime_ns  # before anything is moved out of it
            with os.scandir(staged) as entries:
                names = sorted(entry.name for entry in entries)
            with self._held(parts) as folder:
                for name in names:
                    self._bring(staged / name, folder / name, (*parts, name))
                place.set_time(os.fspath(folder), mtime_ns)
            return target
        if not _is_plain(target):
            numbered = place.move_beside(staged, target)
            what = "a folder" if _is_folder(target) else "something that is no file"
            _note(self.numbered, "/".join((*parts[:-1], numbered.name)), f"{what} has its name here")
            return numbered
        if not is_folder and _same(staged, target):
            if not staged.is_symlink():
                place.set_time(os.fspath(target), staged.stat().st_mtime_ns)
            return target
        self._exchange(staged, target, parts)
        return target

    @contextmanager
    def _held(self, parts: Parts) -> Iterator[Path]:
        """A way to a folder of the target that somebody who may write there cannot bend by a link meanwhile."""
        with ExitStack() as stack:
            try:
                folder = stack.enter_context(no_links.held(self._real.joinpath(*parts)))
            except OSError as error:
                where = self._target.joinpath(*parts)
                raise StorageError(
                    tr(
                        "{where} became something else while files arrived in it ({strerror}): look at it, then "
                        "try again",
                        where=where,
                        strerror=error.strerror,
                    )
                ) from error
            yield folder

    def _exchange(self, staged: Path, target: Path, parts: Parts) -> None:
        """Something arrived for a file or a link that is not the same."""
        old = self._judge(parts)
        if old is Old.STAY:
            return
        if old is Old.BESIDE:
            moved = _move_marked(target, self._mark)
            _note(self.beside, "/".join((*parts[:-1], moved.name)), f"{target.name} was changed here too")
            if not place.move_new(staged, target):
                raise StorageError(
                    tr(
                        "{joinpath} came back while it was being replaced: try again",
                        joinpath=self._target.joinpath(*parts),
                    )
                )
            return
        original = self._target.joinpath(*parts)
        self._versions.keep(target, self._why, source=self._source, replacement=staged, original=original)
        self.replaced += 1


def _collisions(staged: Path, target: Path) -> Iterator[tuple[Path, Path, Parts]]:
    """Every entry of `staged` that is there in `target` too, but for folders that are both: what is in them."""
    waiting: list[tuple[Path, Path, Parts]] = [(staged, target, ())]
    while waiting:
        new, old, parts = waiting.pop()
        if not os.path.lexists(old):
            continue
        if not (_is_folder(new) and _is_folder(old)):
            yield new, old, parts
            continue
        with os.scandir(new) as entries:
            waiting += [(new / e.name, old / e.name, (*parts, e.name)) for e in entries]


def _is_elsewhere(staged: Path, target: Path) -> bool:
    """Whether no rename leads from the one to the other: a disk may be mounted below the target."""
    return os.lstat(staged).st_dev != os.stat(target.parent).st_dev


def _carried(staged: Path, target: Path) -> Path:
    """A copy beside the target, on its file system; what an earlier attempt left there is replaced."""
    carried = target.with_name(f"{PARTIAL_PREFIX}{limit_bytes(target.name, CARRIED_BYTES_MAX)}-carried")
    place.remove(carried)
    if _is_folder(staged):
        shutil.copytree(staged, carried, symlinks=True)
    else:
        shutil.copy2(staged, carried, follow_symlinks=False)
    return carried


def _is_folder(path: Path) -> bool:
    return stat.S_ISDIR(os.lstat(path).st_mode)


def _is_plain(path: Path) -> bool:
    """Whether it is a file or a link."""
    mode = os.lstat(path).st_mode
    return stat.S_ISREG(mode) or stat.S_ISLNK(mode)


def _same(one: Path, other: Path) -> bool:
    """Whether two entries are files with the same bytes, or links with the same text."""
    first, second = os.lstat(one), os.lstat(other)
    if stat.S_ISLNK(first.st_mode) and stat.S_ISLNK(second.st_mode):
        return os.readlink(one) == os.readlink(other)
    if not (stat.S_ISREG(first.st_mode) and stat.S_ISREG(second.st_mode)) or first.st_size != second.st_size:
        return False
    with _opened(one) as a, _opened(other) as b:
        while True:
            left, right = a.read(COMPARE_BYTES), b.read(COMPARE_BYTES)
            if left != right:
                return False
            if not left:
                return True


def _opened(path: Path) -> BinaryIO:
    return os.fdopen(os.open(path, no_links.READ), "rb")


def _move_marked(path: Path, mark: str) -> Path:
    """Rename "a.txt" to "a (mark).txt", or the first free "a (mark 2).txt"; returns which."""
    stem, dot, suffix = path.name.rpartition(".")
    if not stem or len(suffix) > 16 or " " in suffix:
        stem, dot, suffix = path.name, "", ""
    for number in range(1, NUMBER_MAX):
        tail = f" ({mark}{f' {number}' if number > 1 else ''}){dot}{suffix}"
        moved = path.with_name(limit_bytes(stem, NAME_BYTES_MAX - len(os.fsencode(tail))) + tail)
        if place.move_new(path, moved):
            return moved
    raise StorageError(
        tr("{path} has {copys} beside it: remove some", path=path, copys=count(NUMBER_MAX, "copy"))
    )


def _files_in(folder: Path) -> int:
    return sum(len(files) for _, _, files in os.walk(folder))


def _note(listed: list[tuple[str, str]], path: str, why: str) -> None:
    if len(listed) < MOVED_LISTED_MAX:
        listed.append((path, why))
