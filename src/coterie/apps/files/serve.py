"""The giving side: answers one asker's requests about one share, in order, at the asker's pace."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Executor

from coterie.access.enforcer import Enforcer
from coterie.access.policy import Decision
from coterie.access.resource import Verb
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
    Refused,
    Unavailable,
)
from coterie.apps.files.offer import Offer
from coterie.content import ChunkUnavailable as Missing
from coterie.content.manifest import ID_BYTES
from coterie.content.reader import CHANGED, GONE
from coterie.errors import AccessDenied, CloseCode, PeerError
from coterie.identity import PeerId
from coterie.net import Stream
from coterie.wire.frames import Message

OPEN_S = 10.0  # to say which share
SILENCE_S = 300.0  # an asker with nothing to ask for so long is gone or paused
REQUESTS_WAITING_MAX = 64  # beyond it we stop reading, and the asker's writes wait
PIECES_AHEAD_MAX = 2  # pieces of an answer that wait for the transport
PIECE_BYTES = 512 << 10  # read from disk at once: a request of usual size is one piece

FindOffer = Callable[[PeerId, bytes, bytes], Awaitable[Offer | None]]
"""What a peer may open with a content id and a secret."""


Piece = tuple[bytes, int, bool]
"""Whole frames, how many bytes of chunks are in them, and whether they are the last of their answer."""


class Server:
    """Serves what `find` gives and `access` allows, for as long as it does."""

    def __init__(self, access: Enforcer, find: FindOffer, executor: Executor) -> None:
        self._access = access
        self._find = find
        self._executor = executor
        self.sent_bytes = 0  # chunk bytes handed to the transport since the start

    async def handle(self, stream: Stream) -> None:
        """One session: `Open`, then requests until the asker finishes."""
        opening = await stream.receive(OPEN_S)
        if not isinstance(opening, Open):
            raise PeerError("a session begins with Open")
        offer = await self._find(stream.peer, opening.root, opening.secret)
        try:
            if offer is None:
                self._access.decide(stream.peer, Verb.READ, "files").require()
                raise AccessDenied("no such offer")
            async with self._access.hold(stream.peer, Verb.READ, offer.resource, offer.also) as decision:
                await stream.send(offer.opened())
                await self._serve(stream, offer, decision)
        except AccessDenied:
            await stream.send(Refused())
        await stream.finish()

    async def _serve(self, stream: Stream, offer: Offer, decision: Decision) -> None:
        requests: asyncio.Queue[Message | None] = asyncio.Queue(REQUESTS_WAITING_MAX)
        pieces: asyncio.Queue[Piece | None] = asyncio.Queue(PIECES_AHEAD_MAX)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_read_requests(stream, requests))
                group.create_task(self._prepare_answers(offer, requests, pieces))
                while (piece := await pieces.get()) is not None:
                    frames, chunk_bytes, _ = piece
                    await self._access.charge(decision, chunk_bytes)
                    await stream.write(frames)
                    self.sent_bytes += chunk_bytes
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None

    async def _prepare_answers(
        self,
        offer: Offer,
        requests: asyncio.Queue[Message | None],
        pieces: asyncio.Queue[Piece | None],
    ) -> None:
        """Read from disk a little ahead of what is being written to the stream."""
        loop = asyncio.get_running_loop()
        while (request := await requests.get()) is not None:
            answer = self._answer(offer, request)
            is_last = False
            while not is_last:
                piece = await loop.run_in_executor(self._executor, next, answer)
                await pieces.put(piece)
                is_last = piece[2]
        await pieces.put(None)

    def _answer(self, offer: Offer, request: Message) -> Iterator[Piece]:
        """The frames of one answer in pieces of about PIECE_BYTES. Runs in a worker thread."""
        match request:
            case GetManifest(manifest):
                data = offer.node(manifest)
                if data is None:
                    yield PROTOCOL.encode(NoManifest(manifest)), 0, True
                else:
                    yield PROTOCOL.bulk_header(MANIFEST, len(data)) + data, 0, True
            case GetChunks(manifest, first, count):
                yield from self._chunks(offer, manifest, first, count)

    def _chunks(self, offer: Offer, manifest: bytes, first: int, count: int) -> Iterator[Piece]:
        known = offer.chunks(manifest)
        if known is None:
            raise PeerError("chunks of a manifest that is not of this share", CloseCode.REFUSED)
        if first < 0 or not 0 < count <= CHUNKS_PER_REQUEST_MAX or first + count > len(known):
            raise PeerError(
                f"chunks {first} to {first + count} of a manifest with {len(known)}", CloseCode.LIMIT
            )
        parts: list[bytes] = []
        size = 0
        for left, chunk in enumerate(offer.read(known[first : first + count]), 1 - count):
            if isinstance(chunk, Missing):
                parts.append(PROTOCOL.encode(ChunkUnavailable(_reason(chunk))))
            else:
                parts += (PROTOCOL.bulk_header(CHUNK, len(chunk)), chunk)
                size += len(chunk)
            if size >= PIECE_BYTES or left == 0:
                yield b"".join(parts), size, left == 0
                parts, size = [], 0


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
