"""The giving side: answers one asker's requests about one share or download, in order, at the asker's pace."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from coterie.access import secret_matches
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
from coterie.errors import CloseCode, PeerError
from coterie.identity import PeerId
from coterie.net import BulkStream, Stream
from coterie.wire.frames import Message
from coterie.wire.record import is_address

OPEN_S = 10.0  # to say which share
SILENCE_S = 300.0  # an asker with nothing to ask for so long is gone or paused
REQUESTS_WAITING_MAX = 64  # beyond it we stop reading, and the asker's writes wait
REQUESTS_AT_ONCE_MAX = 65_536  # what one batch of frames can hold: 1 MiB of the smallest requests, and some
CANCELS_MAX = 64  # remembered of one asker
PIECE_BYTES = 512 << 10  # read from disk at once: a request of usual size is one piece
NEWS_MAX = (
    10_000  # nodes of which one asker has not heard yet what is here; guess: then it is too slow for us
)

FindGivers = Callable[[bytes], Sequence[Giver]]


Piece = tuple[bytes, int, bool]
"""Whole frames, how many bytes of chunks are in them, and whether they are the last of their answer."""


class _Session:
    """One asker with its requests. `tell` is called on the loop, all else in the session's thread."""

    def __init__(self, stream: Stream, giver: Giver) -> None:
        self.giver = giver
        self.bulk = BulkStream(stream)
        self._requests: deque[GetManifest | GetChunks] = deque()
        self._cancelled: dict[tuple[bytes, int], None] = {}
        self._has_ended = False
        self._lock = threading.Lock()
        self._news: dict[bytes, int] = {}
        self._has_all = False

    def tell(self, message: Has | HasAll) -> None:
        """Say this to the asker soon; what waits is put together."""
        with self._lock:
            if isinstance(message, HasAll):
                self._has_all = True
            elif len(self._news) < NEWS_MAX or message.manifest in self._news:
                pieces = int.from_bytes(message.pieces, "little")
                self._news[message.manifest] = self._news.get(message.manifest, 0) | pieces
        self.bulk.wake()

    def next_request(self) -> GetManifest | GetChunks | None:
        """What to answer next, None at the end; what there is to tell meanwhile is told."""
        quiet_since = time.monotonic()
        while not self._requests and not self._has_ended:
            self._send_news()
            left_s = quiet_since + SILENCE_S - time.monotonic()
            if left_s <= 0:
                raise TimeoutError
            self._hear(left_s)
        return self._requests.popleft() if self._requests else None

    def is_cancelled(self, request: GetManifest | GetChunks) -> bool:
        """Whether the asker took this request back; told once."""
        if not self._has_ended and len(self._requests) < REQUESTS_WAITING_MAX:
            self._hear(0.0)
        if not self._cancelled or not isinstance(request, GetChunks):
            return False
        key = (request.manifest, request.first)
        if key not in self._cancelled:
            return False
        del self._cancelled[key]
        return True

    def _hear(self, timeout_s: float) -> None:
        """Take what the asker says, if it comes in time and nobody wakes us."""
        try:
            frames = self.bulk.receive_batch(timeout_s)
        except TimeoutError:
            return
        self._has_ended = not frames
        for message in frames:
            if not isinstance(message, GetManifest | GetChunks | Cancel):
                raise PeerError("only requests may follow Open")
            if len(message.manifest) != ID_BYTES:  # what waits stays small
                raise PeerError(f"a request with an id of {len(message.manifest)} bytes")
            if not isinstance(message, Cancel):
                self._requests.append(message)
            elif len(self._cancelled) < CANCELS_MAX:
                self._cancelled[message.manifest, message.first] = None
        if len(self._requests) > REQUESTS_WAITING_MAX + REQUESTS_AT_ONCE_MAX:
            raise PeerError(f"{len(self._requests)} requests at once", CloseCode.LIMIT)

    def _send_news(self) -> None:
        with self._lock:
            news, self._news = self._news, {}
            has_all, self._has_all = self._has_all, False
        if has_all:
            self.bulk.send(HasAll())
        elif news:
            frames = [
                PROTOCOL.encode(Has(manifest, pieces.to_bytes((pieces.bit_length() + 7) // 8, "little")))
                for manifest, pieces in news.items()
            ]
            self.bulk.write(b"".join(frames))


class Server:
    """Serves what `find` gives for a content id."""

    def __init__(self, find: FindGivers) -> None:
        self._find = find
        self._askers: dict[bytes, dict[PeerId, list[str]]] = {}  # who gives what it asks us for, by content
        self._sessions: dict[bytes, int] = {}
        self.sent_bytes = 0  # chunk bytes handed to the transport since the start

    async def handle(self, stream: Stream) -> None:
        """One session: `Open`, then requests until the asker finishes."""
        opening = await stream.receive(OPEN_S)
        if not isinstance(opening, Open):
            raise PeerError("a session begins with Open")
        givers: Sequence[Giver | None] = self._find(opening.root) or [None]
        giver = next((g for g in givers if secret_matches(opening.secret, g.secret if g else None)), None)
        if giver is None:
            await stream.send(Refused())
            await stream.finish()
            return
        root = opening.root
        others = self._askers.setdefault(root, {})
        await stream.send(giver.opened(self._sessions.get(root, 0)))
        told = [
            (bytes(peer), where) for peer, where in list(others.items())[-PEERS_MAX:] if peer != stream.peer
        ]
        if told:
            await stream.send(Peers(told))
        self._sessions[root] = self._sessions.get(root, 0) + 1
        addresses = [a for a in opening.addresses[:ADDRESSES_MAX] if is_address(a)]
        if opening.serves:
            others[stream.peer] = addresses
            giver.met(stream.peer, addresses)
        try:
            await self._serve(_Session(stream, giver))
        finally:
            self._forget(root, stream.peer)

    def _forget(self, root: bytes, peer: PeerId) -> None:
        self._askers[root].pop(peer, None)
        self._sessions[root] -= 1
        if not self._sessions[root]:
            del self._askers[root], self._sessions[root]

    async def _serve(self, session: _Session) -> None:
        stop_watching = session.giver.watch(session.tell)
        try:
            await session.bulk.drive(lambda _: self._give(session))
        finally:
            stop_watching()

    def _give(self, session: _Session) -> None:
        """In the session's thread: answer until the asker has no more to ask."""
        while (request := session.next_request()) is not None:
            for frames, chunk_bytes, is_last in self._answer(session.giver, request):
                if session.is_cancelled(request):
                    session.bulk.send(Skipped(Skip.CANCELLED))
                    break
                session.bulk.write(frames)
                self.sent_bytes += chunk_bytes
                if is_last:
                    break

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
