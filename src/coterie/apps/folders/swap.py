"""Lets what arrived and what the user has change places, so that a crash at any moment loses neither.

    <folder>/.coterie-folder/swap/journal             a line for each of those below: where it belongs
                                  new-<id>-<mark>     what arrived; after it changed places, what the user had
                                  old-<id>            what the user had, taken away

Where the system can exchange two entries in one step (Linux), there is no moment without a file at its place, and what
somebody put there in the last instant is seen in what comes back: then it goes back. Elsewhere the user's file is taken
away first. What stays here after a crash is the user's, goes back to its place where that is empty, and else becomes a
version; what arrived is known by its mark (inode, size, date) and fetched again.
"""

import contextlib
import errno
import os
import secrets
import stat
from pathlib import Path

import msgspec

from coterie.apps.folders.register import Kind
from coterie.apps.folders.root import MARKER, SWAP, Root
from coterie.apps.folders.steps import Print
from coterie.content import file_steps as place
from coterie.content.seen import clamped
from coterie.content.versions import Versions
from coterie.decoding import decoder
from coterie.errors import StorageError

MADE = "made"  # what a name in the swap folder begins with that is ours alone
WHY = "folder"  # of each version that is kept for a live folder
EXCHANGES_MAX = 8  # in a row, while somebody goes on replacing the file
JOURNAL_BYTES_MAX = 64 << 20  # read after a crash; guess: 100,000 lines of long paths
_TAKEN = frozenset({errno.EEXIST, errno.ENOTEMPTY, errno.EISDIR, errno.ENOTDIR})


class Changed(Exception):
    """What is at a place is not what was expected there; it is as it was. Its argument: where, if elsewhere."""


class _Line(msgspec.Struct, frozen=True):
    id: str
    path: bytes


class Swap:
    """Of one folder that is entered. `source`: what is noted with each version: from whom the change came."""

    def __init__(self, root: Root, versions: Versions, path: Path, *, can_exchange: bool = True) -> None:
        self._root = root
        self._versions = versions
        self._path = path
        self._journal = -1
        self.can_exchange = can_exchange
        self.source = ""

    def replace(self, staged: Path, local: str, expects: Print) -> None:
        """Put `staged` where the file or link `expects` is, which becomes a version, unless it is empty.

        Raises:
            Changed: something else is there; all is as it was.
            VersionsFull: there is no room for the version; all is as it was.
            OSError, StorageError: the disk; nothing is lost, and `recover` brings what is left here to its place.
        """
        target = Path(self._root.at(local))
        self._versions.check_room(self._path, expects.size, 1)
        mine = os.lstat(staged)
        new = self._note("new", local, f"-{_mark(mine)}")
        os.rename(staged, new)
        if self.can_exchange:
            try:
                self.can_exchange = self._exchange(new, local, mine, expects)
            except BaseException:
                if os.path.lexists(new) and _mark(os.lstat(new)) == _mark(mine):
                    os.rename(new, staged)
                raise
        if not self.can_exchange:
            os.rename(new, staged)
            old = self._take(local, expects)
            try:
                if not place.move_new(staged, target):
                    raise Changed
            except BaseException:
                self._give_back(old, local)
                raise
            new = old
        status = os.lstat(new)
        if (
            stat.S_ISREG(status.st_mode) and not status.st_size
        ):  # programs make an empty file before they write
            os.unlink(new)
        else:
            self._keep(new, local)

    def remove(self, local: str, expects: Print) -> None:
        """Make a version of the file or link at `local`. Errors as `replace`."""
        self._versions.check_room(self._path, expects.size, 1)
        self._keep(self._take(local, expects), local)

    def free(self, local: str, expects: Print) -> None:
        """Remove the file at `local` for good. Errors as `replace`."""
        old = self._take(local, expects)
        os.unlink(old)

    def rename_case(self, local: str, to: str, expects: Print) -> None:
        """Rename what is at `local` to a name that this disk takes for the same. Errors as `replace`."""
        old = self._take(local, expects)
        try:
            if not place.move_new(old, Path(self._root.at(to))):
                raise Changed
        except BaseException:
            self._give_back(old, local)
            raise

    def recover(self) -> list[str]:
        """Bring what a crash left here to its place; the local names that have changed by it.

        Raises:
            StorageError: the disk, or no room for versions: what is left stays here.
        """
        folder = Path(self._root.folder(f"{MARKER}/{SWAP}"))
        where = self._read_journal(folder)
        touched = []
        for name in sorted(os.listdir(folder)):
            what, _, rest = name.partition("-")
            key, _, mark = rest.partition("-")
            left = folder / name
            if what in (MADE, "probe") or (what == "new" and mark == _mark(os.lstat(left))):
                os.unlink(left)
                continue
            if what not in ("new", "old"):
                continue
            local = where.get(key)
            touched += [local] if local is not None else []
            if local is None or what == "new" or not self._gave_back(left, local):
                self._keep(left, local or f"{MARKER}/{SWAP}/{name}")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(folder / "journal")
        return touched

    def close(self) -> None:
        """All that was begun is done or taken back: forget where it belonged."""
        if self._journal >= 0:
            folder = Path(self._root.folder(f"{MARKER}/{SWAP}"))
            if all(name == "journal" for name in os.listdir(folder)):
                os.ftruncate(self._journal, 0)
            os.close(self._journal)
            self._journal = -1

    # -- steps --

    def _exchange(self, new: Path, local: str, mine: os.stat_result, expects: Print) -> bool:
        """Change places; False: the disk cannot, and nothing happened."""
        target = Path(self._root.at(local))
        try:
            if not is_same(os.lstat(target), expects):
                raise Changed
            if not place.exchange(new, target):
                return False
        except FileNotFoundError:
            raise Changed from None
        got = os.lstat(new)
        if is_same(got, expects):
            return True
        placed = mine.st_ino
        for _ in range(EXCHANGES_MAX):  # somebody was quicker: the latest of theirs belongs at its place
            coming = os.lstat(new).st_ino
            try:
                place.exchange(new, target)
            except FileNotFoundError:  # removed meanwhile
                place.move_new(new, target)
                raise Changed from None
            if os.lstat(new).st_ino == placed:
                break
            placed = coming
        if _mark(os.lstat(new)) != _mark(mine):
            self._keep(new, local)
        raise Changed

    def _take(self, local: str, expects: Print) -> Path:
        """Take away what is at `local`; where it is now."""
        target = Path(self._root.at(local))
        old = self._note("old", local)
        try:
            if not is_same(os.lstat(target), expects):
                raise Changed
            os.rename(target, old)
        except FileNotFoundError:
            raise Changed from None
        if not is_same(os.lstat(old), expects):
            self._give_back(old, local)
            raise Changed
        self._root.let_go(local)
        return old

    def _give_back(self, old: Path, local: str) -> None:
        """Something came in between: what was taken away goes back, or becomes a version where its place is taken."""
        if not self._gave_back(old, local):
            self._keep(old, local)

    def _gave_back(self, old: Path, local: str) -> bool:
        try:
            return place.move_new(old, Path(self._root.at(local)))
        except OSError as error:
            if error.errno in _TAKEN or isinstance(error, FileNotFoundError):
                return False
            raise

    def _keep(self, path: Path, local: str) -> None:
        self._versions.keep(path, WHY, source=self.source, original=self._path.joinpath(*local.split("/")))

    def _note(self, what: str, local: str, mark: str = "") -> Path:
        """Where something may wait; where it belongs is noted first."""
        folder = Path(self._root.folder(f"{MARKER}/{SWAP}"))
        if self._journal < 0:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0)
            self._journal = os.open(folder / "journal", flags | getattr(os, "O_NOFOLLOW", 0), 0o600)
        key = secrets.token_hex(8)
        os.write(self._journal, b"\n" + msgspec.json.encode(_Line(key, os.fsencode(local))))
        return folder / f"{what}-{key}{mark}"

    def _read_journal(self, folder: Path) -> dict[str, str]:
        where: dict[str, str] = {}
        with contextlib.suppress(FileNotFoundError), (folder / "journal").open("rb") as file:
            for raw in file.read(JOURNAL_BYTES_MAX).splitlines():
                with contextlib.suppress(StorageError):  # a line that was cut off
                    line = _read_line(raw)
                    where[line.id] = os.fsdecode(line.path)
        return where


def is_same(status: os.stat_result, expects: Print) -> bool:
    """Whether a status is still that of a fingerprint, but for the change time, which a rename sets."""
    if expects.inode and status.st_ino & ((1 << 63) - 1) != expects.inode:
        return False
    if expects.kind is Kind.FOLDER:
        return stat.S_ISDIR(status.st_mode)
    is_kind = stat.S_ISLNK if expects.kind is Kind.LINK else stat.S_ISREG
    return (
        is_kind(status.st_mode)
        and status.st_size == expects.size
        and clamped(status.st_mtime_ns) == expects.mtime_ns
    )


def _mark(status: os.stat_result) -> str:
    return f"{status.st_ino}.{status.st_size}.{status.st_mtime_ns}"


@decoder(StorageError, "a line of a live folder's journal")
def _read_line(raw: bytes) -> _Line:
    return msgspec.json.decode(raw, type=_Line)
