"""One file that is read anywhere, of this computer or of another one: what comes is fetched as it is read."""

import asyncio
import os
import stat
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from pathlib import Path
from types import TracebackType
from typing import Literal, Protocol, Self

import msgspec

from coterie.content import manifest as m
from coterie.content import no_links
from coterie.errors import AccessDenied, NotFound, PeerError, StorageError, UsageError
from coterie.texts import tr
from coterie.transfer.ahead import Ahead
from coterie.transfer.read_cache import Leaf
from coterie.transfer.supply import Supply

READ_BYTES_MAX = 4 << 20  # in one call
LEAVES_MAX = 4  # of one open file, in memory: a gigabyte of content each


class Seen(msgspec.Struct, frozen=True):
    """One name in a folder. `files` are those in and under a folder, `size` in bytes (of a folder: of all of them)."""

    name: str
    kind: Literal["folder", "file"]
    size: int = 0
    mtime_ns: int = 0
    files: int = 0
    content_id: bytes = b""


class OpenFile(Protocol):
    """A file that is read anywhere. Close it, or use it as `async with`."""

    @property
    def name(self) -> str: ...

    @property
    def size(self) -> int: ...

    @property
    def mtime_ns(self) -> int: ...

    @property
    def content_id(self) -> bytes:
        """Of its manifest; b"" for a file of this computer."""
        ...

    @property
    def tag(self) -> str:
        """Changes when the content does: letters and digits."""
        ...

    async def read(self, offset: int, size: int) -> bytes:
        """The bytes from `offset` on: `size` of them, at most READ_BYTES_MAX; fewer at the end of the file only.

        Raises:
            TransportError: the peer is away, or silent for `supply.SILENT_S`.
            NotFound, AccessDenied: it is not given to us any more, or changed there.
            PeerError, StorageError: the peer gives what it is not; the disk.
        """
        ...

    async def close(self) -> None:
        """What nobody else wants is asked for no more."""
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Closing:
    """`async with` for what has `close`."""

    async def close(self) -> None: ...

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


class OwnFile(Closing):
    """See `OpenFile`: a file of this computer, as it lies there now."""

    content_id = b""

    def __init__(self, path: Path, executor: Executor) -> None:
        """Blocking. Raises `NotFound`, `StorageError`."""
        self.name = path.name
        self._executor = executor
        self._fd = _opened(path)
        status = os.fstat(self._fd)
        self.size, self.mtime_ns = status.st_size, status.st_mtime_ns
        self.tag = f"{status.st_mtime_ns:x}g{status.st_size:x}g{status.st_ino:x}"
        self._turn = asyncio.Lock()

    async def read(self, offset: int, size: int) -> bytes:
        size = _bounded(offset, size)
        async with self._turn:
            return await asyncio.get_running_loop().run_in_executor(self._executor, self._read, offset, size)

    def _read(self, offset: int, size: int) -> bytes:
        if self._fd < 0:
            raise UsageError(tr("{name} was closed", name=self.name))
        try:
            os.lseek(self._fd, offset, os.SEEK_SET)
            return os.read(self._fd, size)
        except OSError as error:
            raise StorageError(
                tr("cannot read {place}: {strerror}", place=self.name, strerror=error.strerror)
            ) from error

    async def close(self) -> None:
        async with self._turn:
            fd, self._fd = self._fd, -1
            if fd >= 0:
                os.close(fd)


Page = tuple[bytes, list[m.Chunk], int]
"""The node in which a file stands, the chunks listed there, the index of the file's first."""
Again = Callable[[], Awaitable[tuple[Supply, m.FileEntry, Page]]]


class RemoteFile(Closing):
    """See `OpenFile`: a file that a peer shares."""

    def __init__(
        self,
        supply: Supply,
        entry: m.FileEntry,
        page: Page,
        reader: int,
        again: Again,
    ) -> None:
        """`page`: the node in which the file stands, the chunks listed there, the index of the file's first.

        `again` finds the same file once more.
        """
        self.name, self.size, self.mtime_ns = entry.name, entry.size, entry.mtime_ns
        self.content_id = content_of(entry)
        self.tag = self.content_id.hex()
        self._blob = entry.blob
        self._again = again
        self._reader = reader
        self._ahead = Ahead()
        self._is_open = True
        self._read_by(supply, entry, page)

    def _read_by(self, supply: Supply, entry: m.FileEntry, page: Page) -> None:
        self._supply = supply
        self._leaves: list[Leaf] = []
        if not entry.blob:
            node, listed, first = page
            here = len(entry.chunks) // m.CHUNK.size
            self._leaves = [Leaf(self.content_id, node, listed, first, here, 0)]
        supply.readers += 1
        supply.use()

    async def read(self, offset: int, size: int) -> bytes:
        if not self._is_open:
            raise UsageError(tr("{name} was closed", name=self.name))
        end = min(offset + _bounded(offset, size), self.size)
        if offset >= end:
            return b""
        self._supply.use()
        ahead, is_jump = self._ahead.read(offset, end - offset)
        if is_jump:
            self._supply.drop(self._reader)
        try:
            return await self._read(offset, end, ahead)
        except (NotFound, AccessDenied, PeerError):
            if self._supply.refused is None:
                raise
        (
            supply,
            entry,
            page,
        ) = await self._again()  # a share that has other content now may have this file still
        if content_of(entry) != self.content_id:
            raise NotFound(tr("{name} has changed there", name=self.name))
        self._supply.readers -= 1
        self._read_by(supply, entry, page)
        return await self._read(offset, end, ahead)

    async def _read(self, offset: int, end: int, ahead: int) -> bytes:
        parts: list[bytes] = []
        at = offset
        while at < end:
            leaf = await self._leaf_at(at)
            stop = min(end, leaf.starts[-1])
            first, last = leaf.chunk_at(at), leaf.chunk_at(stop - 1) + 1
            until = leaf.chunk_at(min(stop + ahead, leaf.starts[-1]) - 1) + 1
            data = await self._supply.chunks(leaf, first, last, self._reader, ahead=until)
            begin = leaf.starts[first]
            parts.append(data[at - begin : stop - begin])
            at = stop
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def _leaf_at(self, offset: int) -> Leaf:
        """The chunks around `offset`."""
        for known in self._leaves:
            if known.starts[0] <= offset < known.starts[-1]:
                return known
        identity, begin, child = self._blob, 0, None
        while True:
            node, chunks = await self._supply.node(identity, child)
            if not isinstance(node, m.BlobIndex):
                break
            for child in m.children(node):
                if offset < begin + child.size:
                    identity = child.id
                    break
                begin += child.size
            else:
                raise PeerError("a manifest that describes less than it says")
        leaf = Leaf(self.content_id, identity, chunks, 0, len(chunks), begin)
        if not leaf.starts[0] <= offset < leaf.starts[-1]:
            raise PeerError("a manifest that describes less than it says")
        self._leaves = [*self._leaves, leaf][-LEAVES_MAX:]
        return leaf

    async def close(self) -> None:
        if self._is_open:
            self._is_open = False
            self._supply.readers -= 1
            self._supply.drop(self._reader)


def content_of(entry: m.FileEntry) -> bytes:
    """The content id of a file in a folder."""
    return entry.blob or m.node_id(m.encode(m.BlobLeaf(entry.chunks)))


def _bounded(offset: int, size: int) -> int:
    if offset < 0 or not 0 <= size <= READ_BYTES_MAX:
        raise UsageError(tr("{most} bytes at most are read at once, from 0 on", most=READ_BYTES_MAX))
    return size


def _opened(path: Path) -> int:
    """A descriptor of a file. Raises `NotFound`, `StorageError`."""
    try:
        fd = no_links.open_file(path)
    except FileNotFoundError:
        raise NotFound(tr("there is no {path}", path=path.name)) from None
    except OSError as error:
        raise StorageError(
            tr("cannot read {place}: {strerror}", place=path, strerror=error.strerror)
        ) from None
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise NotFound(tr("{path} is no file", path=path.name))
    return fd
