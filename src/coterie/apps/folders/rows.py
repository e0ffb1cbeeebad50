"""How the entries of a folder looked last: a name and a stamp each, in few bytes.

A hundred thousand of them take 6 MB. A folder that looks the same is known by one comparison.
"""

import os
from collections.abc import Callable, Iterable

from coterie.apps.folders.register import Kind
from coterie.apps.folders.steps import Print
from coterie.content.seen import COPIED, FILE, LINK, NO_STAMP, PROGRAM, STAMP, clamped, numbers

FOLDER, OTHER = 4, 5  # further kinds of stamps
_KINDS = {FILE: Kind.FILE, PROGRAM: Kind.FILE, LINK: Kind.LINK, FOLDER: Kind.FOLDER, OTHER: Kind.OTHER}
FORGOTTEN = NO_STAMP  # what has it never looks the same


class Rows:
    """Of one folder."""

    __slots__ = ("_names", "_stamps")

    def __init__(self, names: Iterable[bytes] = (), stamps: Iterable[bytes] = ()) -> None:
        """As many of the ones as of the others, in the order of a listing."""
        self._names = b"\0".join([b"", *names, b""])
        self._stamps = b"".join(stamps)
        if not self._stamps:
            self._names = b"\0"

    def __len__(self) -> int:
        return len(self._stamps) // STAMP.size

    def looks_as(self, other: "Rows") -> bool:
        """Whether both are the same, in the same order: another order says nothing."""
        return self._stamps == other._stamps and self._names == other._names

    def has_same(self, other: "Rows") -> bool:
        """Whether both are the same, in whatever order."""
        return self.looks_as(other) or (len(self) == len(other) and dict(self.items()) == dict(other.items()))

    def items(self) -> list[tuple[bytes, bytes]]:
        """Name and stamp of each entry."""
        size = STAMP.size
        names = self._names[1:-1].split(b"\0") if self._stamps else []
        return [(name, self._stamps[at * size : at * size + size]) for at, name in enumerate(names)]

    def mapped(self, change: Callable[[bytes], bytes]) -> "Rows":
        """The same with other stamps."""
        found = self.items()
        return Rows([name for name, _ in found], [change(stamp) for _, stamp in found])

    def get(self, name: bytes) -> bytes | None:
        """The stamp of an entry."""
        at = self._find(name)
        return None if at is None else self._stamps[at * STAMP.size : (at + 1) * STAMP.size]

    def with_entry(self, name: bytes, stamp: bytes | None) -> "Rows":
        """The same, but for an entry that looks so now; None: it is gone."""
        at, changed = self._find(name), Rows()
        if at is None:
            changed._names = self._names + (name + b"\0" if stamp is not None else b"")
            changed._stamps = self._stamps + (stamp or b"")
            return changed
        begin, end = at * STAMP.size, (at + 1) * STAMP.size
        changed._stamps = self._stamps[:begin] + (stamp or b"") + self._stamps[end:]
        changed._names = self._names
        if stamp is None:
            place = self._names.find(b"\0" + name + b"\0")
            changed._names = self._names[:place] + self._names[place + 1 + len(name) :]
        return changed

    def _find(self, name: bytes) -> int | None:
        place = self._names.find(b"\0" + name + b"\0")
        return None if place < 0 else self._names.count(b"\0", 0, place)


def print_of(stamp: bytes, target: str = "") -> Print:
    """The fingerprint that a stamp stands for; that of a link with its `target`."""
    kind, inode, size, mtime_ns, ctime_ns = numbers(stamp)
    return Print(_KINDS[kind], inode, size, mtime_ns, ctime_ns, kind == PROGRAM, target)


def stamp_of(found: Print) -> bytes:
    """The stamp of a fingerprint."""
    match found.kind:
        case Kind.FILE:
            kind = PROGRAM if found.executable else FILE
        case Kind.LINK:
            kind = LINK
        case Kind.FOLDER:
            kind = FOLDER
        case _:
            kind = OTHER
    return STAMP.pack(kind, found.inode, found.size, clamped(found.mtime_ns), clamped(found.ctime_ns))


def without_inode(stamp: bytes) -> bytes:
    """The stamp on a disk whose inodes do not last."""
    return stamp[:1] + bytes(8) + stamp[9:]


def is_file(stamp: bytes | None) -> bool:
    """Whether it is a regular file's."""
    return stamp is not None and stamp[0] in (FILE, PROGRAM)


def is_folder(stamp: bytes | None) -> bool:
    """Whether it is a folder's."""
    return stamp is not None and stamp[0] == FOLDER


def copied(stamp: bytes) -> bytes:
    """What a rename leaves as it was: inode, size and date."""
    return stamp[COPIED]


def join(folder: str, name: bytes) -> str:
    """The local name of an entry."""
    return f"{folder}/{os.fsdecode(name)}" if folder else os.fsdecode(name)
