"""One session with one source: writes requests, pairs answers with them, hands them on in batches."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from coterie.apps.files.messages import (
    ADDRESSES_MAX,
    CHUNK,
    MANIFEST,
    PEERS_MAX,
    PIECES_BYTES_MAX,
    PROTOCOL,
    Cancel,
    ChunkUnavailable,
    GetChunks,
    GetManifest,
    Given,
    Has,
    HasAll,
    NoManifest,
    Peers,
    Skipped,
)
from coterie.apps.files.receive import Answer
from coterie.content import swarm_events as e
from coterie.content.manifest import ID_BYTES
from coterie.errors import CloseCode, PeerError, TransportError
from coterie.identity import PeerId
from coterie.net import Connection, Stream
from coterie.wire.frames import Bulk, Message
from coterie.wire.record import is_address

BATCH_BYTES = 512 << 10  # measured: handed to the writer at once
READ_BYTES = 256 << 10  # measured: larger reads of the transport gain nothing

News = Has | HasAll | Given | Peers


class Link:
    """A session with `peer`. `feed` takes the core's events, `store` batches of answers, `hint` peers it names."""

    def __init__(
        self,
        connection: Connection,
        stream: Stream,
        *,
        feed: Callable[[Any], None],
        store: Callable[[list[Answer]], Awaitable[None]],
        hint: Callable[[PeerId, list[str]], None],
    ) -> None:
        self.peer = stream.peer
        self.connection = connection
        self.stream = stream
        self.received_bytes = 0
        self._feed = feed
        self._store = store
        self._hint = hint
        self._outgoing: list[bytes] = []
        self._has_outgoing = asyncio.Event()
        self._asked: deque[list[Any]] = deque()  # [place, request, answers still to come]
        self._dropped: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def ask(self, place: Any, request: GetManifest | GetChunks) -> None:
        """Send a request: in the order of the calls; those made at once go together."""
        self._asked.append([place, request, 1 if isinstance(request, GetManifest) else request.count])
        self.send(request)

    def send(self, message: Message) -> None:
        """Send what needs no answer."""
        self._outgoing.append(PROTOCOL.encode(message))
        self._has_outgoing.set()

    def cancel(self, manifest: bytes, first: int) -> None:
        """Take back the request that begins with this chunk; its answer may come all the same."""
        self.send(Cancel(manifest, first))

    def drop(self, error: PeerError) -> None:
        """End the session with this error."""
        if not self._dropped.done():
            self._dropped.set_exception(error)

    async def run(self) -> None:
        """The session until it breaks, or is cancelled. Raises why."""
        tasks = {
            self._dropped,
            asyncio.ensure_future(self._read()),
            asyncio.ensure_future(self._write()),
        }
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            (self._dropped if self._dropped in done else done.pop()).result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _write(self) -> None:
        while await self._has_outgoing.wait():
            self._has_outgoing.clear()
            outgoing, self._outgoing = self._outgoing, []
            await self.stream.write(b"".join(outgoing))

    async def _read(self) -> None:
        """Gather answers and hand them on in batches: waking a thread costs more than a chunk."""
        size = 0
        batch: list[Answer] = []
        try:
            while frames := await self.stream.receive_batch(READ_BYTES):
                arrived, hurry = self._take(frames, batch)
                if arrived:
                    self._feed(e.Arrived(self.peer, arrived, self.connection.path.rtt_s or 0.0))
                size += arrived
                if batch and (size >= BATCH_BYTES or not self._asked or hurry):
                    full, batch, size = batch, [], 0
                    await self._store(full)
        except PeerError:
            batch = []  # who breaks the protocol is not believed in the same breath
            raise
        finally:
            if batch:
                await self._store(batch)
        raise TransportError("the other computer ended the session before everything was there")

    def _take(self, frames: list[Message | Bulk], batch: list[Answer]) -> tuple[int, bool]:
        """Sort frames: answers into `batch`. Returns what had been reckoned for them, and whether it hurries."""
        arrived, hurry = 0, False
        for frame in frames:
            if isinstance(frame, News):
                self._take_news(frame)
                continue
            answer, weight = self._match(frame)
            arrived += weight
            hurry = hurry or answer.index < 0
            if isinstance(frame, Bulk):
                self.received_bytes += len(frame.data)
            batch.append(answer)
        return arrived, hurry

    def _match(self, frame: Message | Bulk) -> tuple[Answer, int]:
        """Pair a frame with the request it answers: answers come in the order of requests."""
        if not self._asked:
            raise PeerError("an answer to nothing")
        place, request, left = waiting = self._asked[0]
        is_manifest = isinstance(request, GetManifest)
        fits = (
            frame.kind == (MANIFEST if is_manifest else CHUNK)
            if isinstance(frame, Bulk)
            else isinstance(frame, NoManifest if is_manifest else ChunkUnavailable | Skipped)
        )
        if not fits:
            raise PeerError("an answer that does not fit the request")
        if is_manifest:
            self._asked.popleft()
            return Answer(self.peer, place, request.manifest, -1, frame), 0
        index = request.first + request.count - left
        take = left if isinstance(frame, Skipped) else 1
        if left == take:
            self._asked.popleft()
        else:
            waiting[2] = left - take
        weight = sum(e.cost(size) for _, size in place.chunks[index : index + take])
        return Answer(self.peer, place, request.manifest, index, frame), weight

    def _take_news(self, news: News) -> None:
        match news:
            case Has(manifest, pieces) | Given(manifest, pieces):
                if len(manifest) != ID_BYTES or len(pieces) > PIECES_BYTES_MAX:
                    raise PeerError("news about pieces that cannot be", CloseCode.LIMIT)
                kind = e.Holds if isinstance(news, Has) else e.Given
                self._feed(kind(self.peer, manifest, int.from_bytes(pieces, "little")))
            case HasAll():
                self._feed(e.HoldsAll(self.peer))
            case Peers(peers):
                if len(peers) > PEERS_MAX or any(len(a) > ADDRESSES_MAX for _, a in peers):
                    raise PeerError("too many peers at once", CloseCode.LIMIT)
                for peer, addresses in peers:
                    if len(peer) != ID_BYTES or not all(map(is_address, addresses)):
                        raise PeerError("a peer with an address that cannot be dialled")
                    self._hint(PeerId(peer), addresses)
