"""The giving side: answers one asker's requests about one share or download, in order, at the asker's pace."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import Executor

from coterie.access.enforcer import Enforcer
from coterie.access.policy import Decision
from coterie.access.resource import Verb
from coterie.apps.files.giver import Giver
from coterie.apps.files.messages import (
    ADDRESSES_MAX,
    CHUNK,
    CHUNKS_PER_REQUEST_MAX,
    MANIFEST,
    PEERS_MAX,
    PROTOCOL,
    Cancel,
    ChunkUnavailable,
    GetChunks,
    GetManifest,
    Has,
    HasAll,
    NoManifest,
    Open,
    Peers,
    Refused,
    Skip,
    Skipped,
    Unavailable,
)
from coterie.content import ChunkUnavailable as Missing
from coterie.content.manifest import ID_BYTES
from coterie.content.reader import CHANGED, GONE
from coterie.errors import AccessDenied, CloseCode, PeerError
from coterie.identity import PeerId
from coterie.net import Stream
from coterie.wire.frames import Message
from coterie.wire.record import is_address

OPEN_S = 10.0  # to say which share
SILENCE_S = 300.0  # an asker with nothing to ask for so long is gone or paused
REQUESTS_WAITING_MAX = 64  # beyond it we stop reading, and the asker's writes wait
CANCELS_MAX = 64  # remembered of one asker
PIECES_AHEAD_MAX = 2  # pieces of an answer that wait for the transport
PIECE_BYTES = 512 << 10  # read from disk at once: a request of usual size is one piece
NEWS_MAX = (
    10_000  # nodes of which one asker has not heard yet what is here; guess: then it is too slow for us
)

FindGiver = Callable[[PeerId, bytes, bytes], Giver | None]
"""What a peer opens with a content id and a secret."""

Piece = tuple[bytes, int, bool]
"""Whole frames, how many bytes of chunks are in them, and whether they are the last of their answer."""


class _Session:
    """One asker with its requests."""

    def __init__(self, stream: Stream, giver: Giver) -> None:
        self.stream = stream
        self.giver = giver
        self.requests: asyncio.Queue[Message | None] = asyncio.Queue(REQUESTS_WAITING_MAX)
        self.pieces: asyncio.Queue[Piece | None] = asyncio.Queue(PIECES_AHEAD_MAX)
        self.cancelled: dict[tuple[bytes, int], None] = {}
        self._news: dict[bytes, int] = {}
        self._has_all = False
        self._has_news = asyncio.Event()

    def tell(self, message: Has | HasAll) -> None:
        """Say this to the asker soon; what waits is put together."""
        if isinstance(message, HasAll):
            self._has_all = True
        elif len(self._news) < NEWS_MAX or message.manifest in self._news:
            pieces = int.from_bytes(message.pieces, "little")
            self._news[message.manifest] = self._news.get(message.manifest, 0) | pieces
        self._has_news.set()

    async def send_news(self) -> None:
        """Tell what there is to tell, until cancelled."""
        while await self._has_news.wait():
            self._has_news.clear()
            news, self._news = self._news, {}
            if self._has_all:
                await self.stream.send(HasAll())
                return
            frames = [
                PROTOCOL.encode(Has(manifest, pieces.to_bytes((pieces.bit_length() + 7) // 8, "little")))
                for manifest, pieces in news.items()
            ]
            await self.stream.write(b"".join(frames))

    async def read_requests(self) -> None:
        """Everything the asker says after `Open`."""
        while (message := await self.stream.receive(SILENCE_S)) is not None:
            if not isinstance(message, GetManifest | GetChunks | Cancel):
                raise PeerError("only requests may follow Open")
            if len(message.manifest) != ID_BYTES:  # what waits stays small
                raise PeerError(f"a request with an id of {len(message.manifest)} bytes")
            if isinstance(message, Cancel):
                if len(self.cancelled) < CANCELS_MAX:
                    self.cancelled[message.manifest, message.first] = None
            else:
                await self.requests.put(message)
        await self.requests.put(None)

    def is_cancelled(self, request: Message) -> bool:
        """Whether the asker took this request back; told once."""
        if not self.cancelled or not isinstance(request, GetChunks):
            return False
        key = (request.manifest, request.first)
        if key not in self.cancelled:
            return False
        del self.cancelled[key]
        return True


class Server:
    """Serves what `find` gives and `access` allows, for as long as it does."""

    def __init__(self, access: Enforcer, find: FindGiver, executor: Executor) -> None:
        self._access = access
        self._find = find
        self._executor = executor
        self._askers: dict[bytes, dict[PeerId, list[str]]] = {}  # who gives what it asks us for, by content
        self._sessions: dict[bytes, int] = {}
        self.sent_bytes = 0  # chunk bytes handed to the transport since the start

    async def handle(self, stream: Stream) -> None:
        """One session: `Open`, then requests until the asker finishes."""
        opening = await stream.receive(OPEN_S)
        if not isinstance(opening, Open):
            raise PeerError("a session begins with Open")
        giver = self._find(stream.peer, opening.root, opening.secret)
        try:
            if giver is None:
                self._access.decide(stream.peer, Verb.READ, "files").require()
                raise AccessDenied("nothing is given under this content id and secret")
            async with self._access.hold(stream.peer, Verb.READ, giver.resource, giver.also) as decision:
                await self._give(stream, opening, giver, decision)
        except AccessDenied:
            await stream.send(Refused())
            await stream.finish()

    async def _give(self, stream: Stream, opening: Open, giver: Giver, decision: Decision) -> None:
        root = opening.root
        others = self._askers.setdefault(root, {})
        await stream.send(giver.opened(self._sessions.get(root, 0)))
        told = [
            (bytes(peer), where) for peer, where in list(others.items())[-PEERS_MAX:] if peer != stream.peer
        ]
        if told and giver.is_for_many:
            await stream.send(Peers(told))
        self._sessions[root] = self._sessions.get(root, 0) + 1
        addresses = [a for a in opening.addresses[:ADDRESSES_MAX] if is_address(a)]
        if opening.serves and giver.is_for_many:
            others[stream.peer] = addresses
            giver.met(stream.peer, addresses)
        try:
            await self._serve(_Session(stream, giver), decision)
        finally:
            self._forget(root, stream.peer)

    def _forget(self, root: bytes, peer: PeerId) -> None:
        self._askers[root].pop(peer, None)
        self._sessions[root] -= 1
        if not self._sessions[root]:
            del self._askers[root], self._sessions[root]

    async def _serve(self, session: _Session, decision: Decision) -> None:
        stop_watching = session.giver.watch(session.tell)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(session.read_requests())
                group.create_task(self._prepare_answers(session))
                news = group.create_task(session.send_news())
                while (piece := await session.pieces.get()) is not None:
                    frames, chunk_bytes, _ = piece
                    await self._access.charge(decision, chunk_bytes)
                    await session.stream.write(frames)
                    self.sent_bytes += chunk_bytes
                news.cancel()
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
        finally:
            stop_watching()
        await session.stream.finish()

    async def _prepare_answers(self, session: _Session) -> None:
        """Read from disk a little ahead of what is being written to the stream."""
        loop = asyncio.get_running_loop()
        while (request := await session.requests.get()) is not None:
            answer = self._answer(session.giver, request)
            is_last = False
            while not is_last:
                if session.is_cancelled(request):
                    await session.pieces.put((PROTOCOL.encode(Skipped(Skip.CANCELLED)), 0, True))
                    break
                piece = await loop.run_in_executor(self._executor, next, answer)
                await session.pieces.put(piece)
                is_last = piece[2]
        await session.pieces.put(None)

    def _answer(self, giver: Giver, request: Message) -> Iterator[Piece]:
        """The frames of one answer in pieces of about PIECE_BYTES. Runs in a worker thread."""
        match request:
            case GetManifest(manifest):
                data = giver.node(manifest)
                if data is None:
                    yield PROTOCOL.encode(NoManifest(manifest)), 0, True
                else:
                    yield PROTOCOL.bulk_header(MANIFEST, len(data)) + data, 0, True
            case GetChunks(manifest, first, count):
                yield from self._chunks(giver, manifest, first, count)

    def _chunks(self, giver: Giver, manifest: bytes, first: int, count: int) -> Iterator[Piece]:
        known = giver.count(manifest)
        if known is None:
            raise PeerError("chunks of a manifest that is not of this share", CloseCode.REFUSED)
        if first < 0 or not 0 < count <= CHUNKS_PER_REQUEST_MAX or (known and first + count > known):
            raise PeerError(f"chunks {first} to {first + count} of a manifest with {known}", CloseCode.LIMIT)
        parts: list[bytes] = []
        size = 0
        for left, chunk in enumerate(giver.read(manifest, first, count), 1 - count):
            if chunk is None:
                break
            if isinstance(chunk, Missing):
                parts.append(PROTOCOL.encode(ChunkUnavailable(_reason(chunk))))
            else:
                parts += (PROTOCOL.bulk_header(CHUNK, len(chunk)), chunk)
                size += len(chunk)
            if size >= PIECE_BYTES or left == 0:
                yield b"".join(parts), size, left == 0
                parts, size = [], 0
                if left == 0:
                    return
        yield b"".join((*parts, PROTOCOL.encode(Skipped(Skip.NOT_HERE)))), size, True


def _reason(missing: Missing) -> Unavailable:
    return {CHANGED: Unavailable.CHANGED, GONE: Unavailable.GONE}.get(missing.reason, Unavailable.UNREADABLE)
