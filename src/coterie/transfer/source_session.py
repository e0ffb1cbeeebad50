"""One session with one source: writes requests, pairs answers with them, has them checked and written in a thread."""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from coterie.content.manifest import ID_BYTES
from coterie.content.swarm import events as e
from coterie.errors import AccessDenied, CloseCode, PeerError, TransportError
from coterie.identity import PeerId
from coterie.identity.peer_id import is_key
from coterie.net import BulkStream, Connection, PathInfo, Stream
from coterie.texts import tr
from coterie.transfer.arriving import Answer
from coterie.transfer.messages import (
    ADDRESSES_MAX,
    CHUNKS,
    MANIFEST,
    MANY_SINCE,
    PEERS_MAX,
    PIECES_BYTES_MAX,
    PROTOCOL,
    REQUESTS_TOGETHER_MAX,
    Cancel,
    ChunkUnavailable,
    GetChunks,
    GetManifest,
    GetMany,
    Given,
    Has,
    HasAll,
    NoManifest,
    Pace,
    Peers,
    Skipped,
    UsedUp,
)
from coterie.transfer.used_up import denial
from coterie.wire.frames import Bulk, Message
from coterie.wire.record import is_address

RTT_FIRST_S, RTT_MAX_S = 2.0, 16.0  # guess: asked again after so long, then twice as long each time
REQUESTS_FEW = (
    3  # with more under way nothing is asked before one is answered, and the loop is woken for less
)
TOGETHER_BYTES = 1 << 20  # of chunks in one message; guess: more would keep others waiting for their turn
SETTLE_S = 0.05  # guess: when nothing comes for so long, what waits for the disk is written as it is
LISTEN_S = 2.0  # how often it is looked whether anything comes at all
HEARD_BYTES_MIN = 512  # in `LISTEN_S`: less is no slow line but somebody who drips; a modem brings 4,000
GAVE_S = 1.0  # how often it is told who gave how much: slots go by it, and are chosen every 10 s
TOLD_PART = 4  # told when a quarter of what is under way was answered; guess: then nothing runs dry
TELL_S = 0.05  # guess: but at least so often; others wait for what we have

News = Has | HasAll | Given | Peers | UsedUp


class _Untold:
    """What a link's thread did, and the loop does not know yet."""

    __slots__ = ("arrived", "is_called", "news", "stored")

    def __init__(self) -> None:
        self.is_called = False  # the loop
        self.arrived = 0
        self.news: list[News] = []
        self.stored: list[Any] = []

    def add(self, arrived: int, news: list[News], stored: list[Any]) -> None:
        """One batch more."""
        self.arrived += arrived
        self.news += news
        last = self.stored[-1] if self.stored else None
        if isinstance(last, e.Stored) and len(stored) == 1 and isinstance(stored[0], e.Stored):
            self.stored[-1] = e.Stored(last.peer, last.count + stored[0].count)
        else:
            self.stored += stored


class Link:
    """A session with `peer`. `feed` takes the core's events, `hint` the peers it names, `gave` how much came of it.

    `store` checks and writes answers and returns what the core is to know (see `Receiver.store`), in a thread; `room`
    says where chunks may be read to (see `Receiver.room`).
    """

    def __init__(
        self,
        connection: Connection,
        stream: Stream,
        *,
        feed: Callable[[Any], None],
        store: Callable[[PeerId, list[Answer]], list[Any]],
        room: Callable[[PeerId, int], memoryview | None],
        hint: Callable[[PeerId, list[str]], None],
        gave: Callable[[PeerId, int], None],
        early: GetManifest | None = None,
    ) -> None:
        """`early`: a request that went out when the session was opened."""
        self._early = early
        self.limit: Callable[[], float] = lambda: 0.0  # bytes a second that may come now; 0: any number
        self._pace = 0  # the limit that the giver was told
        self.peer = stream.peer
        self.connection = connection
        self.stream = stream
        self.received_bytes = 0
        self._feed = feed
        self._store = store
        self._room = room
        self._hint = hint
        self._gave = gave
        self._told_bytes = 0  # of `received_bytes`
        self._gave_at = 0.0
        self._unsettled = (
            0  # chunks that came and are not known to be in their files: they wait for their block
        )
        self._lock = threading.Lock()
        self._untold = _Untold()
        self._loop = asyncio.get_running_loop()
        self._bulk: BulkStream | None = None
        self._outgoing: list[bytes] = []
        self._together: list[
            tuple[GetManifest | GetChunks, int]
        ] = []  # requests of this turn, bytes of chunks
        self._is_posting = False
        self._rtt_s, self._rtt_until, self._rtt_for_s = 0.0, 0.0, RTT_FIRST_S
        self._asked: deque[list[Any]] = deque()  # [place, request, answers still to come]
        self._answered = 0  # requests
        self._dropped: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def ask(self, place: Any, request: GetManifest | GetChunks) -> None:
        """Send a request: in the order of the calls; those made at once go together."""
        if self._early is not None and request == self._early:
            self._asked.append([place, request, 1])
            self._early = None
            return
        self._await_early()
        count = 0 if isinstance(request, GetManifest) else request.count
        self._asked.append([place, request, count or 1])
        first = request.first if isinstance(request, GetChunks) else 0
        size = place.ends[first + count] - place.ends[first] if count else 0
        self._together.append((request, size))
        self._post_soon()

    def _await_early(self) -> None:
        """Nobody here wants the answer of the early request: it is the first to come, and thrown away."""
        if self._early is not None:
            self._asked.append([None, self._early, 1])
            self._early = None

    def send(self, message: Message) -> None:
        """Send what needs no answer, behind what was asked before."""
        self._pack()
        self._outgoing.append(PROTOCOL.encode(message))
        self._post_soon()

    def _pack(self) -> None:
        """Make messages of the requests of this turn: each a large one, or several together."""
        together, self._together = self._together, []
        group: list[GetManifest | GetChunks] = []
        group_bytes = 0
        for request, size in together:
            if group and (group_bytes + size > TOGETHER_BYTES or len(group) >= REQUESTS_TOGETHER_MAX):
                self._outgoing += _messages(group, self.stream.version)
                group, group_bytes = [], 0
            group.append(request)
            group_bytes += size
        self._outgoing += _messages(group, self.stream.version)

    def _post_soon(self) -> None:
        if not self._is_posting:
            self._is_posting = True
            self._loop.call_soon(self._post)

    def cancel(self, manifest: bytes, first: int) -> None:
        """Take back the request that begins with this chunk; its answer may come all the same."""
        self.send(Cancel(manifest, first))

    def drop(self, error: PeerError | AccessDenied) -> None:
        """End the session with this error."""
        if not self._dropped.done():
            self._dropped.set_exception(error)

    @property
    def path(self) -> PathInfo:
        """How what is asked for comes now: over a lane, or as the connection goes."""
        return (self._bulk.path if self._bulk else None) or self.connection.path

    async def run(self) -> None:
        """The session until it breaks, or is cancelled. Raises why."""
        self._await_early()
        self._bulk = bulk = BulkStream(self.stream, takes_bulk=True)
        self._post()
        running = asyncio.ensure_future(bulk.drive(self._read))
        listening = asyncio.ensure_future(self._listen(bulk))
        try:
            awaited: list[asyncio.Future[None]] = [self._dropped, running]
            await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
            (self._dropped if self._dropped.done() else running).result()
        finally:
            self._dropped.cancel()
            listening.cancel()
            running.cancel()
            await asyncio.gather(running, listening, return_exceptions=True)
            self._credit()

    async def _listen(self, bulk: BulkStream) -> None:
        """Tell the core of bytes that make nothing whole for long: on a slow line a chunk takes a minute."""
        before = bulk.heard_bytes
        while True:
            await asyncio.sleep(LISTEN_S)
            now = bulk.heard_bytes
            if self._asked and now - before >= HEARD_BYTES_MIN:
                self._feed(e.Heard(self.peer))
            before = now

    def _post(self) -> None:
        """Send what is to be sent; what is asked for in one turn of the loop goes together."""
        self._is_posting = False
        self._pack()
        if self._bulk is not None and self._outgoing:
            outgoing, self._outgoing = self._outgoing, []
            if (pace := int(self.limit())) != self._pace:
                self._pace = pace
                outgoing.insert(0, PROTOCOL.encode(Pace(pace)))
            self._bulk.post(b"".join(outgoing))

    def _read(self, bulk: BulkStream) -> None:
        """In a thread: check and write what comes, straight from the buffer that it came into."""
        told_at, told = 0.0, 0  # when, and how many requests were answered by then
        try:
            while (frames := self._receive(bulk)) is None or frames:
                batch: list[Answer] = []
                arrived, news = self._take(frames or [], batch)
                stored = self._keep(batch) if batch or frames is None else []
                with self._lock:
                    self._untold.add(arrived, news, stored)
                now = time.monotonic()
                is_little = TOLD_PART * (self._answered - told) < len(self._asked)
                is_busy = len(self._asked) >= REQUESTS_FEW and is_little and now < told_at + TELL_S
                if news or not is_busy:
                    told_at, told = now, self._answered
                    self._wake_loop()
        finally:
            if self._unsettled:
                stored = self._keep([])
                with self._lock:
                    self._untold.add(0, [], stored)
                self._wake_loop()
        raise TransportError(tr("the other computer ended the session before everything was there"))

    def _receive(self, bulk: BulkStream) -> list[Message | Bulk] | None:
        """What comes next, [] at the end; None: nothing does for a while, and chunks wait for the disk."""
        try:
            return bulk.receive_batch(SETTLE_S, self._place) if self._unsettled else bulk.receive_batch()
        except TimeoutError:
            if not self._unsettled:
                raise
            return None

    def _place(self, kind: int, size: int) -> memoryview | None:
        """Where the body of a frame goes."""
        return self._room(self.peer, size) if kind == CHUNKS else None

    def _keep(self, batch: list[Answer]) -> list[Any]:
        """Have answers checked and written; without any: all that came before."""
        self._unsettled += sum(answer.chunks for answer in batch)
        stored = self._store(self.peer, batch)
        self._unsettled -= sum(event.count for event in stored if isinstance(event, e.Stored))
        return stored

    def _wake_loop(self) -> None:
        """From the thread: have told what is untold; what is added before the loop comes to it goes with it."""
        with self._lock:
            is_called, self._untold.is_called = self._untold.is_called, True
        if not is_called:
            self._loop.call_soon_threadsafe(self._tell)

    def _tell(self) -> None:
        """On the loop: tell the core what the thread did."""
        with self._lock:
            untold, self._untold = self._untold, _Untold()
        events: list[Any] = []
        if untold.arrived:
            is_shallow = self._bulk is not None and self._bulk.is_shallow
            events.append(e.Arrived(self.peer, untold.arrived, self._round_trip(), is_shallow))
        events += untold.stored
        if (now := self._loop.time()) >= self._gave_at + GAVE_S:
            self._gave_at = now
            self._credit()
        try:
            for one in untold.news:
                events += self._events_of(one)
        except (PeerError, AccessDenied) as error:
            self.drop(error)
        if events:
            self._feed(events[0] if len(events) == 1 else e.Together(tuple(events)))

    def _credit(self) -> None:
        """Tell how much came since that was told last."""
        came, self._told_bytes = self.received_bytes - self._told_bytes, self.received_bytes
        if came:
            self._gave(self.peer, came)

    def _round_trip(self) -> float:
        """Seconds, at most `RTT_MAX_S` old; 0: not known. Asking the wheel takes half a millisecond."""
        now = self._loop.time()
        if now >= self._rtt_until:
            self._rtt_s, self._rtt_until = self.connection.path.rtt_s or 0.0, now + self._rtt_for_s
            self._rtt_for_s = min(2 * self._rtt_for_s, RTT_MAX_S)
        return self._rtt_s

    def _take(self, frames: list[Message | Bulk], batch: list[Answer]) -> tuple[int, list[News]]:
        """Sort frames: answers into `batch`. Returns what had been reckoned for them, and the news."""
        arrived, news = 0, []
        for frame in frames:
            if isinstance(frame, News):
                news.append(frame)
                continue
            answer, weight = self._match(frame)
            arrived += weight
            if isinstance(frame, Bulk):
                self.received_bytes += len(frame.data)
            if answer.place is not None:
                batch.append(answer)
        return arrived, news

    def _match(self, frame: Message | Bulk) -> tuple[Answer, int]:
        """Pair a frame with the request it answers: answers come in the order of requests."""
        if not self._asked:
            raise PeerError("an answer to nothing")
        place, request, left = waiting = self._asked[0]
        is_manifest = isinstance(request, GetManifest)
        fits = (
            frame.kind == (MANIFEST if is_manifest else CHUNKS)
            if isinstance(frame, Bulk)
            else isinstance(frame, NoManifest if is_manifest else ChunkUnavailable | Skipped)
        )
        if not fits:
            raise PeerError("an answer that does not fit the request")
        if is_manifest:
            self._done()
            return Answer(self.peer, place, request.manifest, -1, frame), 0
        index = request.first + request.count - left
        if isinstance(frame, Bulk):
            # 1 where it does not come out even, as the check will say
            take = chunks = place.chunks_in(len(frame.data), index, index + left) or 1
        else:
            take, chunks = left if isinstance(frame, Skipped) else 1, 0
        if left == take:
            self._done()
        else:
            waiting[2] = left - take
        weight = place.weight(index, index + take)
        return Answer(self.peer, place, request.manifest, index, frame, chunks), weight

    def _done(self) -> None:
        """The oldest request was answered."""
        self._asked.popleft()
        self._answered += 1

    def _events_of(self, news: News) -> list[Any]:
        """What the core is to know of it. Raises `PeerError` (it cannot be), `AccessDenied` (a used-up amount)."""
        match news:
            case Has(manifest, pieces) | Given(manifest, pieces):
                if len(manifest) != ID_BYTES or len(pieces) > PIECES_BYTES_MAX:
                    raise PeerError("news about pieces that cannot be", CloseCode.LIMIT)
                kind = e.Holds if isinstance(news, Has) else e.Given
                return [kind(self.peer, manifest, int.from_bytes(pieces, "little"))]
            case UsedUp():
                raise denial(self.peer, news)
            case HasAll():
                return [e.HoldsAll(self.peer)]
            case Peers(peers):
                if len(peers) > PEERS_MAX or any(len(a) > ADDRESSES_MAX for _, a in peers):
                    raise PeerError("too many computers at once", CloseCode.LIMIT)
                for peer, addresses in peers:
                    if len(peer) != ID_BYTES or not all(map(is_address, addresses)):
                        raise PeerError("a computer with an address that cannot be dialled")
                    if is_key(peer):  # an honest peer may pass on what it was told
                        self._hint(PeerId(peer), addresses)
        return []


def _messages(group: list[GetManifest | GetChunks], version: int) -> list[bytes]:
    """Requests as they are sent."""
    if len(group) < 2 or version < MANY_SINCE:
        return [PROTOCOL.encode(request) for request in group]
    packed = [
        (one.manifest, 0, 0, False)
        if isinstance(one, GetManifest)
        else (one.manifest, one.first, one.count, one.insist)
        for one in group
    ]
    return [PROTOCOL.encode(GetMany(packed))]
