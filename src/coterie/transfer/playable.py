"""A file of a download, or of what one became, read anywhere from the first second: what is read comes first."""

import asyncio
from bisect import bisect_right
from concurrent.futures import Executor
from typing import Protocol

from coterie.content.swarm import events as e
from coterie.content.walk import FileIn, Stretch, files_in, nodes_at, stretches
from coterie.errors import NotFound, TransportError
from coterie.texts import tr
from coterie.transfer.partial_content import Staged
from coterie.transfer.results import Received
from coterie.transfer.running import ALL

NODES_AT_ONCE_MAX = (
    32  # asked for first while it is found out what there is; guess: a few round trips of them
)
LOOK_EVERY_S = 0.2  # for a node or a chunk that is still to come; news of chunks end the wait at once


class Download(Protocol):
    """The side of a download that is needed here: `transfer.Transfer`."""

    @property
    def name(self) -> str:
        """What it is called."""
        ...

    @property
    def content_id(self) -> bytes: ...

    @property
    def staged(self) -> Staged: ...

    @property
    def result(self) -> "asyncio.Future[Received]": ...

    def prefer(self, wish: e.Prefer) -> None: ...

    async def changed(self, most_s: float) -> None: ...


class DownloadedFile:
    """See `running.Readable`. Reads through `executor`; asks the download for what it needs next."""

    def __init__(self, transfer: Download, file: FileIn, executor: Executor) -> None:
        self.name = file.parts[-1] if file.parts else transfer.name
        self.size = file.size
        self.tag = f"{file.node.hex()[:32]}{file.first:x}"
        self.path = "/".join(file.parts) or self.name
        self._transfer = transfer
        self._staged: Staged = transfer.staged
        self._file = file
        self._executor = executor
        self._parts: dict[int, tuple[Stretch, list[int]]] = {}  # by offset: with the offsets of its chunks
        self._preferred: dict[int, set[bytes]] = {}
        self.last_read = 0.0  # on the event loop's clock

    async def read(self, offset: int, size: int) -> bytes:
        """See `running.Readable`: as soon as the chunk with `offset` is here."""
        loop = asyncio.get_running_loop()
        while True:
            is_over = self._transfer.result.done()  # asked first: what came before the end is there
            part = await self._part_at(offset)
            if part is not None:
                stretch, starts = part
                index = bisect_right(starts, offset) - 1
                data = await loop.run_in_executor(self._executor, self._read, stretch, index)
                if data is not None:
                    start = offset - starts[index]
                    return data[start : start + size]
            if is_over:
                raise self._gone()
            await self._transfer.changed(LOOK_EVERY_S)

    def reading(self, reader: int, offset: int, ahead_bytes: int) -> None:
        """See `running.Readable`: what is ahead is preferred, and what was before no longer."""
        if self._transfer.result.done():
            return
        if reader != ALL:
            self.last_read = asyncio.get_running_loop().time()
        wanted: set[bytes] = set()
        end = min(self.size, offset + ahead_bytes)
        for missing in nodes_at(self._staged.node, self._file, offset, end) if not self._file.chunks else ():
            self._transfer.prefer(e.Prefer(missing, 0, 1, reader))
            wanted.add(missing)
        for stretch, starts in list(self._parts.values()):
            first = bisect_right(starts, offset) - 1
            last = bisect_right(starts, end - 1)
            if last > max(first, 0) and starts[0] < end and offset < starts[-1] + stretch.chunks[-1][1]:
                at = stretch.first + max(first, 0)
                self._transfer.prefer(e.Prefer(stretch.node, at, stretch.first + last, reader))
                wanted.add(stretch.node)
        self._stop_preferring(reader, self._preferred.get(reader, set()) - wanted)
        self._preferred[reader] = wanted

    async def prefer_all(self) -> bool:
        """Prefer all of it, after what readers want; False while it is not known where all of it is."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._executor, self._learn)
        self.reading(ALL, 0, self.size)
        return bool(self._file.chunks) or not nodes_at(self._staged.node, self._file, 0, self.size)

    def left(self, reader: int) -> None:
        """See `running.Readable`."""
        self._stop_preferring(reader, self._preferred.pop(reader, set()))

    def _stop_preferring(self, reader: int, nodes: set[bytes]) -> None:
        for node in sorted(nodes):
            self._transfer.prefer(e.Prefer(node, 0, 0, reader))

    async def _part_at(self, offset: int) -> tuple[Stretch, list[int]] | None:
        """The chunks around `offset`, when their node is here."""
        found = self._known_part(offset)
        if found is None:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._executor, self._learn)
            found = self._known_part(offset)
        return found

    def _known_part(self, offset: int) -> tuple[Stretch, list[int]] | None:
        for stretch, starts in self._parts.values():
            if starts and starts[0] <= offset < starts[-1] + stretch.chunks[-1][1]:
                return stretch, starts
        return None

    def _learn(self) -> None:
        for stretch in stretches(self._staged.node, self._file):
            if stretch.offset not in self._parts:
                starts, at = [], stretch.offset
                for _, size in stretch.chunks:
                    starts.append(at)
                    at += size
                self._parts[stretch.offset] = stretch, starts

    def _read(self, stretch: Stretch, index: int) -> bytes | None:
        chunk = next(self._staged.read(stretch.node, stretch.first + index, 1), None)
        return None if chunk is None else bytes(chunk)

    def _gone(self) -> Exception:
        result = self._transfer.result
        error = None if result.cancelled() else result.exception()
        if isinstance(error, Exception):
            return error
        return NotFound(tr("{path} is no longer where it was received", path=self.path))


async def files_of(transfer: Download, executor: Executor) -> list[DownloadedFile]:
    """All files of a download, as soon as it is known what it consists of.

    Raises:
        TransportError: the download ended before that was known, or with its own error.
    """
    loop = asyncio.get_running_loop()
    while True:
        is_over = transfer.result.done()
        files, missing = await loop.run_in_executor(executor, _look, transfer.staged, transfer.content_id)
        if not missing:
            return [DownloadedFile(transfer, file, executor) for file in files]
        if is_over and (error := transfer.result.exception()) is not None:
            raise error
        if is_over:
            raise TransportError(
                tr("part of the description of {transfer} is missing", transfer=transfer.name)
            )
        for node in reversed(missing):
            transfer.prefer(e.Prefer(node, 0, 1))
        await transfer.changed(LOOK_EVERY_S)
        for node in missing:
            transfer.prefer(e.Prefer(node, 0, 0))


def _look(staged: Staged, root: bytes) -> tuple[list[FileIn], list[bytes]]:
    """The files known so far, and the first nodes of the tree that are not here (none when all are)."""
    missing: list[bytes] = []

    def load(node: bytes) -> bytes | None:
        data = staged.node(node)
        if data is None:
            missing.append(node)
        return data

    files = list(files_in(load, root))
    return files, missing[:NODES_AT_ONCE_MAX]
