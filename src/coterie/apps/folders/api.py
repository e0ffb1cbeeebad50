"""What other apps may use of `folders`: its live folders as trees, with all that is in them, here or not."""

from pathlib import Path
from typing import Literal, Protocol

import msgspec

from coterie.transfer.open_file import OpenFile

__all__ = ["FoldersApi", "Live", "LiveEntry", "LiveState", "OpenFile"]

LiveState = Literal["on", "paused", "ended"]


class Live(msgspec.Struct, frozen=True):
    """A live folder of this computer.

    Fields:
        id: in hex. `path`: where it lies, absolute and real.
        can_write: whether what is changed here counts now. `state`: "on", "paused" or "ended".
        gone: why nothing of it is to be read or written now: its disk is away, or another folder is in its place.
    """

    id: str
    name: str
    path: Path
    can_write: bool
    state: LiveState
    gone: str = ""


class LiveEntry(msgspec.Struct, frozen=True):
    """Something in a live folder, under the name that it has, or would have, on this disk.

    Fields:
        size: in bytes; of a folder 0. `mtime_ns`: unix time; of a folder that is not here 0.
        is_here: its content lies on this disk. `content_id`: of what is not; b"" otherwise.
    """

    name: str
    kind: Literal["folder", "file"]
    size: int = 0
    mtime_ns: int = 0
    is_here: bool = True
    content_id: bytes = b""


class FoldersApi(Protocol):
    """What apps get that require `folders`. `folder`: its id in hex; `path`: in it, "a/b", "" is its top.

    All but `live` raise NotFound: no such folder, or nothing there; UsageError: the folder is paused.
    """

    def live(self) -> tuple[Live, ...]:
        """The live folders of this computer, by name. Cheap."""
        ...

    async def listing(self, folder: str, path: str) -> tuple[LiveEntry, ...]:
        """What is in a folder, by name: as it lies on the disk, and what is not here. Links, pipes are left out."""
        ...

    async def look(self, folder: str, path: str) -> LiveEntry:
        """What is at a path."""
        ...

    async def open(self, folder: str, path: str) -> OpenFile:
        """A file, to be read: what is not here comes as it is read, from whoever has it, and is not put on the disk.

        Raises besides:
            TransportError: nobody who has it answers now. StorageError: the disk.
        """
        ...

    def writing(self, folder: str, path: str) -> None:
        """`path` is about to be written by somebody who saw what is there, also where that is not on this disk."""
        ...

    def touched(self, folder: str, path: str) -> None:
        """Something was written, made, renamed or removed on the disk at `path`: look at it now."""
        ...

    async def remove(self, folder: str, path: str) -> None:
        """Remove what is not here, or is in part, for everybody; what is here is kept for a while.

        Raises besides:
            AccessDenied: this computer may only read. StorageError: the disk.
        """
        ...

    async def move(self, folder: str, path: str, to: str) -> None:
        """Call it `to`, where nothing is, whether it is here, in part, or not. Errors as `remove`."""
        ...
