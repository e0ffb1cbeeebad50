"""The tree that a drive shows: computers, what they share, what is in it; and a way into it for threads."""

import asyncio
from collections.abc import Coroutine
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as LateError
from typing import Any, Protocol, TypeVar

from coterie.apps.files.api import OpenFile, Reading, Seen
from coterie.errors import AccessDenied, NotFound, TransportError
from coterie.texts import tr

ANSWER_S = 30.0  # for anything that a program waits for; what asks peers has shorter times of its own
COPY_BYTES = 1 << 20  # at once, of what is copied from one computer to another

T = TypeVar("T")


class Incoming(Protocol):
    """A file that comes: there whole, or not at all."""

    def write(self, data: bytes) -> None:
        """More of it. Blocks: for a thread. Raises `StorageError`, `LimitExceeded`."""
        ...

    async def finish(self, mtime_ns: int) -> None:
        """It is whole: put it in place, instead of what is there. `mtime_ns` 0: now. Errors as those of a tree."""
        ...

    async def drop(self) -> None:
        """Forget it; nothing where it is in place."""
        ...


class Tree(Protocol):
    """What is shown. Belongs to the event loop of the node. A place is "anna/photos/2024/a.jpg".

    All raise what `files.api.Reading` raises; what changes something raises `AccessDenied` where one may only read.
    """

    async def listing(self, place: str) -> tuple[Seen, ...]:
        """What is in a folder."""
        ...

    async def look(self, place: str) -> Seen:
        """What is at a place."""
        ...

    async def open(self, place: str) -> OpenFile:
        """A file, to be read."""
        ...

    async def may_write(self, place: str) -> bool:
        """Whether what is at or below a place may be changed."""
        ...

    async def free_bytes(self, place: str) -> int | None:
        """How much more there is room for; None: nobody says."""
        ...

    async def incoming(self, place: str) -> Incoming:
        """For a file that is to be at `place`, instead of one that may be there. Close it by `finish` or `drop`."""
        ...

    async def make_folder(self, place: str) -> None:
        """Make a folder in one that is there."""
        ...

    async def remove(self, place: str) -> None:
        """Remove a file, or a folder with all that is in it; its owner keeps it for a while."""
        ...

    async def move(self, place: str, to: str) -> None:
        """Call it `to`, where nothing is. Raises `UsageError`: those are disks of two computers."""
        ...

    async def copy(self, place: str, to: str) -> None:
        """Make a file `to` of one, instead of one that is there."""
        ...


class ReadOnly:
    """See `Tree`: places to be read; all, or those at and below `top`."""

    def __init__(self, reading: Reading, top: str = "") -> None:
        self._reading = reading
        self._top = top

    async def listing(self, place: str) -> tuple[Seen, ...]:
        return await self._reading.listing(self._full(place))

    async def look(self, place: str) -> Seen:
        return await self._reading.look(self._full(place))

    async def open(self, place: str) -> OpenFile:
        return await self._reading.open(self._full(place))

    async def may_write(self, place: str) -> bool:
        return False

    async def free_bytes(self, place: str) -> int | None:
        return None

    async def incoming(self, place: str) -> Incoming:
        raise refused(place)

    async def make_folder(self, place: str) -> None:
        raise refused(place)

    async def remove(self, place: str) -> None:
        raise refused(place)

    async def move(self, place: str, to: str) -> None:
        raise refused(place)

    async def copy(self, place: str, to: str) -> None:
        raise refused(to)

    def _full(self, place: str) -> str:
        parts = place.strip("/").split("/")
        if any(part in (".", "..") for part in parts):
            raise NotFound(tr("there is no {path}", path=place))
        return f"{self._top}/{place}".strip("/")


async def copy_over(source: Tree, place: str, target: Tree, to: str) -> None:
    """Make a file `to` in one tree of what another one has at `place`. Errors as those of the trees."""
    async with await source.open(place) as file:
        incoming = await target.incoming(to)
        try:
            at = 0
            while data := await file.read(at, COPY_BYTES):
                await asyncio.to_thread(incoming.write, data)
                at += len(data)
            await incoming.finish(file.mtime_ns)
        finally:
            await incoming.drop()


class Bridge:
    """Lets threads call what belongs to the event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def begin(self, work: Coroutine[Any, Any, T]) -> "Future[T]":
        """Have `work` done; `result` waits for it. Raises `TransportError`: the node has ended."""
        try:
            return asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError:
            work.close()
            raise TransportError(tr("the node is stopping")) from None

    def result(self, begun: "Future[T]", most_s: float = ANSWER_S) -> T:
        """What it returns or raises. Raises `TransportError`: it takes too long."""
        try:
            return begun.result(most_s)
        except LateError:
            begun.cancel()
            raise TransportError(tr("it takes too long; try again later")) from None
        except (asyncio.CancelledError, CancelledError):
            raise TransportError(tr("the node is stopping")) from None

    def wait(self, work: Coroutine[Any, Any, T], most_s: float = ANSWER_S) -> T:
        """What `work` returns or raises. Raises `TransportError`: it takes too long."""
        return self.result(self.begin(work), most_s)


def refused(place: str) -> AccessDenied:
    """Nothing may be changed there."""
    return AccessDenied(tr("{place} is only to be read", place=place or "/"))
