"""What the planner knows of one disk, and what it says is to be done: plain values.

A local name is a place on this disk, relative to the folder, "/" between parts. A path is the key of a register.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Protocol

import msgspec

from coterie.apps.folders.register import Dot, Kind, Register, Value


class Print(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """How something on the disk looks without being read.

    Fields:
        inode: 0 on disks whose inodes do not last, `size`, `mtime_ns`, `ctime_ns`: 0 but for files.
        executable: False on disks without that bit. `target`: of a link.
    """

    kind: Kind
    inode: int = 0
    size: int = 0
    mtime_ns: int = 0
    ctime_ns: int = 0
    executable: bool = False
    target: str = ""


class Here(msgspec.Struct, frozen=True, gc=False):
    """What is on the disk at a local name. `content`: id of a file's blob manifest; None: not hashed yet."""

    print: Print
    content: bytes | None = None


class Agreed(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What was last shown on, or taken from, the disk at a local name.

    Fields:
        path: whose register it is of. `dots`: what whoever sees it has seen, and replaces by changing it.
        value: with the content, the date and the bit that were given to the disk.
        print: how it looked then. `is_copy`: it is shown beside the value that has the name.
    """

    path: str
    dots: tuple[Dot, ...]
    value: Value
    print: Print
    is_copy: bool = False

    @property
    def here(self) -> Here:
        """What is on the disk, if nobody changed it."""
        return Here(self.print, self.value.content)


def is_changed(agreed: Agreed, here: Here | None) -> bool:
    """Whether somebody changed what was agreed on. A file that looks the same may be another nevertheless."""
    if here is None or here.print != agreed.print:
        return True
    return here.print.kind == Kind.FILE and here.content != agreed.value.content


class Hash(msgspec.Struct, frozen=True, gc=False):
    """Learn the content of a file. `path`: whose register waits for that."""

    local: str
    path: str = ""


class Record(msgspec.Struct, frozen=True, gc=False):
    """The owner changed something here: write it into the register (`planner.recorded`).

    Fields:
        replaced: the dots that were shown there. `value`: GONE when it was deleted; `by`, `at_ms` are the shell's.
        print: how it looks; None when it was deleted. `was`: content that was agreed on before, for the brake.
    """

    local: str
    path: str
    replaced: tuple[Dot, ...]
    value: Value
    print: Print | None
    is_copy: bool = False
    was: bytes = b""


class Agree(msgspec.Struct, frozen=True, gc=False):
    """Nothing is to be done on the disk: keep that this is agreed on; None: forget what was.

    `path`: whose register is to be shown then, where nothing is agreed on any more.
    """

    local: str
    agreed: Agreed | None
    path: str = ""


class Put(msgspec.Struct, frozen=True, gc=False):
    """Give a file with this content, date and bit its place.

    Fields:
        expects: what is replaced; None: nothing may be there. `expects_content`: its content, hashed once more before;
            it becomes a version.
    """

    local: str
    path: str
    value: Value
    expects: Print | None = None
    expects_content: bytes = b""
    dots: tuple[Dot, ...] = ()
    is_copy: bool = False


class MakeLink(msgspec.Struct, frozen=True, gc=False):
    """As `Put`, for a symbolic link."""

    local: str
    path: str
    value: Value
    expects: Print | None = None
    expects_content: bytes = b""
    dots: tuple[Dot, ...] = ()
    is_copy: bool = False


class Remove(msgspec.Struct, frozen=True, gc=False):
    """Make a version of a file or link, which is gone then."""

    local: str
    expects: Print
    expects_content: bytes = b""
    path: str = ""


class Free(msgspec.Struct, frozen=True, gc=False):
    """Take a file off this disk, of which no version is made: somebody else has it (`planner.freeing`)."""

    local: str
    expects: Print
    expects_content: bytes = b""
    path: str = ""


class Move(msgspec.Struct, frozen=True, gc=False):
    """Rename a file or link; nothing may be at `to`, but for itself under another spelling."""

    local: str
    to: str
    expects: Print
    path: str = ""
    value: Value = Value(Kind.GONE)
    dots: tuple[Dot, ...] = ()
    is_copy: bool = False


class MoveFolder(msgspec.Struct, frozen=True, gc=False):
    """Rename a folder with all that is in it. `path`: whose it is then, and what is below goes along."""

    local: str
    to: str
    expects: Print
    path: str = ""
    value: Value = Value(Kind.FOLDER)
    dots: tuple[Dot, ...] = ()


class MakeFolder(msgspec.Struct, frozen=True, gc=False):
    """Make a folder; one that is there is taken as it is."""

    local: str
    path: str = ""
    value: Value = Value(Kind.FOLDER)
    dots: tuple[Dot, ...] = ()


class RemoveFolder(msgspec.Struct, frozen=True, gc=False):
    """Remove a folder, if nothing is in it."""

    local: str
    path: str = ""


class SetMeta(msgspec.Struct, frozen=True, gc=False):
    """Set the date and the executable bit of a file."""

    local: str
    value: Value
    expects: Print
    path: str = ""
    dots: tuple[Dot, ...] = ()
    is_copy: bool = False


class Wait(msgspec.Struct, frozen=True, gc=False):
    """Something cannot be done now. `code`: see `planner`; nothing is tried again before one of both changes."""

    local: str
    path: str
    code: str


DiskStep = Put | MakeLink | Remove | Free | Move | MoveFolder | MakeFolder | RemoveFolder | SetMeta
Step = Hash | Record | Agree | DiskStep | Wait


class Tree(Protocol):
    """What the planner reads of one folder; it reads only what a change concerns, and each row at most a few times."""

    def register(self, path: str) -> Register | None:
        """Of a path."""
        ...

    def agreed(self, local: str) -> Agreed | None:
        """At a local name."""
        ...

    def here(self, local: str) -> Here | None:
        """What is on the disk, as far as it was seen: `Agreed.here` where nothing else was reported; None: nothing."""
        ...

    def shown(self, path: str) -> Sequence[str]:
        """The local names at which something of `path` is agreed on, in order."""
        ...

    def unshown_with(self, contents: Collection[bytes]) -> list[str]:
        """The paths that have one of these contents, and are not shown here: on purpose, or not yet."""
        ...

    def lives_below(self, path: str) -> bool:
        """Whether a register below `path` has a value that is not gone."""
        ...

    def agreed_below(self, local: str) -> Iterable[tuple[str, Agreed]]:
        """(local name, agreed) of all below a local name, in order."""
        ...

    def names_in(self, local: str) -> Iterator[str]:
        """The local names directly in a folder that are agreed on, or were seen there otherwise; "": at the top."""
        ...
