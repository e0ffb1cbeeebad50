"""The giving side: answers one asker's requests about one share, in order, at the asker's pace."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor

from coterie.access import secret_matches
from coterie.apps.files.messages import (
    CHUNK,
    CHUNKS_PER_REQUEST_MAX,
    MANIFEST,
    PROTOCOL,
    ChunkUnavailable,
    GetChunks,
    GetManifest,
    NoManifest,
    Open,
    Opened,
    Refused,
    Unavailable,
)
from coterie.apps.files.records import ShareRecord
from coterie.content import ChunkUnavailable as Missing
from coterie.content import Store
from coterie.content.manifest import ID_BYTES
from coterie.content.reader import CHANGED, GONE
from coterie.errors import CloseCode, PeerError
from coterie.net import Stream
from coterie.wire.frames import Message

OPEN_S = 10.0  # to say which share
SILENCE_S = 300.0  # an asker with nothing to ask for so long is gone or paused
REQUESTS_WAITING_MAX = 64  # beyond it we stop reading, and the asker's writes wait
PIECES_AHEAD_MAX = 2  # pieces of an answer that wait for the transport
PIECE_BYTES = 512 << 10  # read from disk at once: a request of usual size is one piece

FindShares = Callable[[bytes], Sequence[ShareRecord]]


Piece = tuple[bytes, int, bool]
"""Whole frames, how many bytes of chunks are in them, and whether they are the last of their answer."""


class Server:
    """Serves shares out of `store`; `find` gives those of a content id."""

    def __init__(self, store: Store, find: FindShares, executor: Executor) -> None:
        self._store = store
        self._find = find
        self._executor = executor
        self.sent_bytes = 0  # chunk bytes handed to the transport since the start

    async def handle(self, stream: Stream) -> None:
        """One session: `Open`, then requests until the asker finishes."""
        opening = await stream.receive(OPEN_S)
        if not isinstance(opening, Open):
            raise PeerError("a session begins with Open")
        shares: Sequence[ShareRecord | None] = self._find(opening.root) or [None]
        share = next((s for s in shares if secret_matches(opening.secret, s.secret if s else None)), None)
        if share is None:
            await stream.send(Refused())
            await stream.finish()
            return
        await stream.send(_opened(share))
        requests: asyncio.Queue[Message | None] = asyncio.Queue(REQUESTS_WAITING_MAX)
        pieces: asyncio.Queue[Piece | None] = asyncio.Queue(PIECES_AHEAD_MAX)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_read_requests(stream, requests))
                group.create_task(self._prepare_answers(share, requests, pieces))
                while (piece := await pieces.get()) is not None:
                    frames, chunk_bytes, _ = piece
                    await stream.write(frames)
                    self.sent_bytes += chunk_bytes
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
        await stream.finish()

    async def _prepare_answers(
        self,
        share: ShareRecord,
        requests: asyncio.Queue[Message | None],
        pieces: asyncio.Queue[Piece | None],
    ) -> None:
        """Read from disk a little ahead of what is being written to the stream."""
        loop = asyncio.get_running_loop()
        while (request := await requests.get()) is not None:
            answer = self._answer(share, request)
            is_last = False
            while not is_last:
                piece = await loop.run_in_executor(self._executor, next, answer)
                await pieces.put(piece)
                is_last = piece[2]
        await pieces.put(None)

    def _answer(self, share: ShareRecord, request: Message) -> Iterator[Piece]:
        """The frames of one answer in pieces of about PIECE_BYTES. Runs in a worker thread."""
        match request:
            case GetManifest(manifest):
                data = self._store.manifest(manifest) if self._store.in_root(share.root, manifest) else None
                if data is None:
                    yield PROTOCOL.encode(NoManifest(manifest)), 0, True
                else:
                    yield PROTOCOL.bulk_header(MANIFEST, len(data)) + data, 0, True
            case GetChunks(manifest, first, count):
                yield from self._chunks(share, manifest, first, count)

    def _chunks(self, share: ShareRecord, manifest: bytes, first: int, count: int) -> Iterator[Piece]:
        if not self._store.in_root(share.root, manifest):
            raise PeerError("chunks of a manifest that is not of this share", CloseCode.REFUSED)
        known = self._store.chunks_of(manifest)
        if first < 0 or not 0 < count <= CHUNKS_PER_REQUEST_MAX or first + count > len(known):
            raise PeerError(
                f"chunks {first} to {first + count} of a manifest with {len(known)}", CloseCode.LIMIT
            )
        parts: list[bytes] = []
        size = 0
        for left, chunk in enumerate(self._store.read_chunks(known[first : first + count]), 1 - count):
            if isinstance(chunk, Missing):
                parts.append(PROTOCOL.encode(ChunkUnavailable(_reason(chunk))))
            else:
                parts += (PROTOCOL.bulk_header(CHUNK, len(chunk)), chunk)
                size += len(chunk)
            if size >= PIECE_BYTES or left == 0:
                yield b"".join(parts), size, left == 0
                parts, size = [], 0


def _opened(share: ShareRecord) -> Opened:
    return Opened(share.kind, share.name, share.files, share.size, share.mtime_ns, share.executable)


async def _read_requests(stream: Stream, requests: asyncio.Queue[Message | None]) -> None:
    while (message := await stream.receive(SILENCE_S)) is not None:
        if not isinstance(message, GetManifest | GetChunks):
            raise PeerError("only requests may follow Open")
        if len(message.manifest) != ID_BYTES:  # what waits stays small
            raise PeerError(f"a request with an id of {len(message.manifest)} bytes")
        await requests.put(message)
    await requests.put(None)


def _reason(missing: Missing) -> Unavailable:
    return {CHANGED: Unavailable.CHANGED, GONE: Unavailable.GONE}.get(missing.reason, Unavailable.UNREADABLE)
