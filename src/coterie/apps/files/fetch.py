"""The asking side's shell: runs a `FetchCore` over a stream, and its `Receiver` in worker threads.

Bytes go from the stream to one writing thread in batches, at most `BATCHES_AHEAD_MAX` of them, so a slow disk slows the
stream and never fills memory.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Hashable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from coterie.apps.files.core import (
    Arrived,
    Asked,
    Begin,
    Complete,
    Drop,
    FetchCore,
    Prepare,
    cost,
)
from coterie.apps.files.messages import (
    CHUNK,
    MANIFEST,
    PROTOCOL,
    ChunkUnavailable,
    GetManifest,
    NoManifest,
    Open,
    Opened,
    Refused,
)
from coterie.apps.files.receive import Answer, Receiver
from coterie.content.manifest import TOTAL_MAX
from coterie.driver import Driver
from coterie.errors import CloseCode, NotFound, PeerError, TransportError
from coterie.machine import Emit, PeerDown, PeerUp
from coterie.net import Connection, Stream
from coterie.wire import Ticket
from coterie.wire.frames import Bulk, Message
from coterie.wire.ticket import TicketKind

OPENED_S = 10.0  # for the other side to say yes or no
BATCHES_AHEAD_MAX = 2
BATCH_BYTES = 512 << 10  # measured: handed to the writer at once
READ_BYTES = 256 << 10  # measured: larger reads of the transport gain nothing
RTT_EVERY_READS = 16


async def open_share(connection: Connection, ticket: Ticket) -> tuple[Stream, Opened]:
    """A session about the ticket's share.

    Raises:
        NotFound: the other side has no such share, or not for this secret; it does not say which.
    """
    stream = await connection.open_stream(PROTOCOL)
    try:
        await stream.send(Open(ticket.content_id, ticket.secret))
        reply = await stream.receive(OPENED_S)
    except TimeoutError:
        await _give_up(stream)
        raise TransportError(f"{ticket.peer.short} is connected but does not answer") from None
    except BaseException:
        await _give_up(stream)
        raise
    if isinstance(reply, Opened):
        fault = opened_fault(reply, ticket)
        if fault is None:
            return stream, reply
        await _give_up(stream)
        raise PeerError(f"{ticket.peer.short} describes its share wrongly: {fault}")
    await _give_up(stream)
    if isinstance(reply, Refused):
        raise NotFound(
            "the other computer does not share this (any more), or the ticket is not right; ask for a new ticket"
        )
    raise PeerError("the other computer did not answer as coterie does")


def opened_fault(opened: Opened, ticket: Ticket) -> str | None:
    """What in `opened` cannot be, or None. Its name is a suggestion and judged where it is used."""
    if opened.kind != ticket.kind:
        return "it is of another kind than the ticket says"
    if not (0 <= opened.files <= TOTAL_MAX and 0 <= opened.size <= TOTAL_MAX):
        return "a number of files or bytes below zero or beyond 63 bits"
    if opened.kind == TicketKind.BLOB and opened.files != 1:
        return f"one file that is {opened.files} files"
    return None if abs(opened.mtime_ns) <= TOTAL_MAX else "a modification time beyond 64 bits"


async def _give_up(stream: Stream) -> None:
    with contextlib.suppress(PeerError, TransportError):
        await stream.reset(CloseCode.CANCELLED)


class Fetch:
    """One download into `receiver`: `session` may be called again after the link broke, and goes on."""

    def __init__(self, ticket: Ticket, receiver: Receiver) -> None:
        self._receiver = receiver
        self._peer = ticket.peer
        self._core = FetchCore(ticket.peer)
        self._driver = Driver(self._core, send=self._send, on_output=self._on_output)
        self._requests: list[Message] = []
        self._has_requests = asyncio.Event()
        self._asked: deque[list[Any]] = deque()  # [place, request, answers still to come]
        self._threads = ThreadPoolExecutor(1, "coterie-receive")  # the receiver belongs to one thread
        self._batches: asyncio.Queue[list[Answer] | None] = asyncio.Queue(BATCHES_AHEAD_MAX)
        self._storing = False
        self._nodes: asyncio.Queue[Prepare] = asyncio.Queue()  # bounded by the core's MANIFESTS_AHEAD_MAX
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._preparer = asyncio.ensure_future(self._prepare_nodes())
        self._driver.feed(Begin(ticket.content_id, receiver.root_place()))

    async def session(self, connection: Connection, stream: Stream) -> None:
        """Fetch until complete.

        Raises:
            PeerError, TransportError: the link broke: call again with a new one.
            StorageError, and any other: this download cannot go on as it is.
        """
        self._ended = asyncio.get_running_loop().create_future()
        self._batches = asyncio.Queue(BATCHES_AHEAD_MAX)
        self._requests.clear()
        reader = asyncio.ensure_future(self._read(connection, stream))
        writer = asyncio.ensure_future(self._write_requests(stream))
        storer = asyncio.ensure_future(self._store())
        self._driver.feed(PeerUp(self._peer))
        try:
            tasks = {reader, writer, storer, self._preparer, self._ended}
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if self._ended not in done or self._ended.exception() is not None:
                for task in done:
                    task.result()
        finally:
            reader.cancel()
            writer.cancel()
            await asyncio.gather(reader, writer, return_exceptions=True)
            await self._finish_storing(storer)
            self._asked.clear()
            self._driver.feed(PeerDown(self._peer))

    async def close(self) -> None:
        """Stop the threads once what they are doing is done."""
        self._preparer.cancel()
        await asyncio.gather(self._preparer, return_exceptions=True)
        self._driver.close()
        await asyncio.to_thread(self._threads.shutdown, True, cancel_futures=True)

    async def _finish_storing(self, storer: asyncio.Future[None]) -> None:
        """Let the writer finish what it has in hand: that counts, and needs no second journey."""
        while not storer.done():
            with contextlib.suppress(asyncio.QueueFull):
                self._batches.put_nowait(None)
                break
            self._batches.get_nowait()
        await asyncio.gather(storer, return_exceptions=True)

    async def _read(self, connection: Connection, stream: Stream) -> None:
        """Gather answers and hand them to the writer in batches: waking a thread costs more than a chunk."""
        rounds = size = 0
        batch: list[Answer] = []
        while frames := await stream.receive_batch(READ_BYTES):
            if rounds % RTT_EVERY_READS == 0:
                self._core.rtt_s = connection.path.rtt_s or 0.0
            rounds += 1
            answers = [self._match(frame) for frame in frames]
            arrived = sum(cost(a.place.chunks[a.index][1]) for a in answers if a.index >= 0)
            self._driver.feed(Arrived(arrived))
            batch += answers
            size += arrived
            if size >= BATCH_BYTES or not self._asked or any(a.index < 0 for a in answers):
                await self._batches.put(batch)
                batch, size = [], 0
        raise TransportError("the other computer ended the session before everything was there")

    async def _store(self) -> None:
        loop = asyncio.get_running_loop()
        while (answers := await self._batches.get()) is not None:
            self._storing = True
            for event in await loop.run_in_executor(self._threads, self._receiver.store, answers):
                self._driver.feed(event)
            self._storing = False

    async def _prepare_nodes(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            work = await self._nodes.get()
            ready = self._receiver.prepare
            self._driver.feed(
                await loop.run_in_executor(self._threads, ready, work.manifest, work.place, work.node)
            )

    def _match(self, frame: Message | Bulk) -> Answer:
        """Pair a frame with the request it answers: answers come in the order of requests."""
        if not self._asked:
            raise PeerError("an answer to nothing")
        place, request, left = waiting = self._asked[0]
        is_manifest = isinstance(request, GetManifest)
        fits = (
            frame.kind == (MANIFEST if is_manifest else CHUNK)
            if isinstance(frame, Bulk)
            else isinstance(frame, NoManifest if is_manifest else ChunkUnavailable)
        )
        if not fits:
            raise PeerError("an answer that does not fit the request")
        if left == 1:
            self._asked.popleft()
        else:
            waiting[2] = left - 1
        index = -1 if is_manifest else request.first + request.count - left
        return Answer(place, request.manifest, index, frame)

    def _send(self, peer: Hashable, message: Message) -> None:
        """Requests go out in the order they were made; those made at once go together."""
        self._requests.append(message)
        self._has_requests.set()

    async def _write_requests(self, stream: Stream) -> None:
        while await self._has_requests.wait():
            self._has_requests.clear()
            requests, self._requests = self._requests, []
            await stream.write(b"".join(map(PROTOCOL.encode, requests)))

    def _on_output(self, output: Any) -> None:
        match output:
            case Asked(place, request):
                count = 1 if isinstance(request, GetManifest) else request.count
                self._asked.append([place, request, count])
            case Prepare():
                self._nodes.put_nowait(output)
            case Drop(reason, code):
                if code != CloseCode.TIMEOUT or not self._storing:  # a slow disk is not a silent peer
                    self._end(PeerError(reason, code))
            case Emit(Complete()):
                self._end(None)

    def _end(self, error: PeerError | None) -> None:
        if self._ended.done():
            return
        if error is None:
            self._ended.set_result(None)
        else:
            self._ended.set_exception(error)
            self._ended.exception()  # seen: `session` raises it, unless something else ended it before
