"""One session on the giving side: reads requests, and writes answers in their order once they are to be served."""

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Collection, Iterator
from concurrent.futures import Executor
from contextlib import suppress
from functools import partial
from itertools import accumulate
from typing import Any

import msgspec

from coterie.content import ChunkUnavailable as Missing
from coterie.content.limit import Flow, least
from coterie.content.manifest import ID_BYTES
from coterie.content.reader import CHANGED, GONE, READ_BYTES_MAX, Room
from coterie.content.swarm import pieces as p
from coterie.content.swarm import upload as u
from coterie.content.swarm.state import MANIFEST_COST_BYTES
from coterie.errors import CloseCode, PeerError
from coterie.net import Stream
from coterie.net.lanes.bridge import call_soon
from coterie.net.lanes.write_path import Write
from coterie.transfer.giver import DownloadGiver, Giver
from coterie.transfer.messages import (
    CHUNKS,
    CHUNKS_PER_REQUEST_MAX,
    JOINED_SINCE,
    MANIFEST,
    PROTOCOL,
    REQUESTS_TOGETHER_MAX,
    Cancel,
    ChunkUnavailable,
    GetChunks,
    GetManifest,
    GetMany,
    Has,
    HasAll,
    NoManifest,
    Pace,
    Skip,
    Skipped,
    Unavailable,
)
from coterie.transfer.motion import Motion
from coterie.transfer.untold import Untold
from coterie.wire.frames import HEADER

SILENCE_S = 300.0  # an asker with nothing to ask for so long is gone or paused
REQUESTS_WAITING_MAX = 64  # beyond it we stop reading, and the asker's writes wait
PIECES_AHEAD_MAX = 2  # pieces of an answer that wait for the transport
PIECE_BYTES = 512 << 10  # read from disk and written to a stream at once
FRAME_BYTES = 64 << 10  # of chunks that were read one by one; measured: each frame costs the asker 50 us
APART_BYTES = 512 << 10  # in a frame: its header has a record of TLS for itself, and the chunks fill theirs
POUR_BYTES = 32 << 20  # written to a lane in one go; as `lanes/choice.TRIAL_BYTES`: then it is judged
PACE_MIN = 1000  # bytes a second: an asker that wants less has that; guess
BUFFERS_KEPT_MAX = 4  # of `Buffers`; guess: as many as are used at once on a busy day
NEWS_S = (
    0.3  # for so long news wait for chunks to go with; simulated: with 0.5 a swarm takes as long as with 0
)
CUT_CHUNKS_MAX = 65_536  # whose pieces are remembered of one session: about 3 MB
CUT_COST_CHUNKS = 32  # of one more node in it; guess

One = GetManifest | GetChunks
Request = One | GetMany
Charge = Callable[[int], Awaitable[None]]


NOWHERE: frozenset[int] = frozenset()


def _ones(request: Request) -> list[One]:
    """What a request asks for, one by one."""
    if not isinstance(request, GetMany):
        return [request]
    return [GetChunks(*one) if one[2] else GetManifest(one[0]) for one in request.requests]


class Buffers:
    """Room for the pieces that are being made, used again and again. For any thread."""

    def __init__(self) -> None:
        self._idle: list[bytearray] = []

    def take(self) -> bytearray:
        """One for whoever gives it back."""
        try:
            return self._idle.pop()
        except IndexError:
            return bytearray(HEADER.size + READ_BYTES_MAX)

    def give_back(self, buffer: bytearray) -> None:
        """It may be used for something else."""
        if len(self._idle) < BUFFERS_KEPT_MAX:
            self._idle.append(buffer)


class _Piece:
    """Frames one behind the other in a buffer, and what takes them when there is no room for another.

    Chunks one behind the other make one frame.
    """

    def __init__(self, buffer: bytearray, write: Write) -> None:
        self._buffer = memoryview(buffer)
        self._write = write
        self._begin = 0  # of the frame that is open, behind those that are whole
        self._open_bytes = 0  # of chunks in it
        self.chunk_bytes = 0  # in what waits

    def room(self, size: int) -> memoryview:
        """Where the next chunks may be read to, behind those that were added, as long as these are few."""
        at = self._begin + HEADER.size + self._open_bytes
        if self._begin + self._open_bytes >= FRAME_BYTES or at + size > len(self._buffer):
            self.flush()
            at = HEADER.size
        return self._buffer[at : at + size]

    def add_chunk(self, size: int) -> None:
        """A chunk is in the room that was given last, behind those of it that were added."""
        self._open_bytes += size
        self.chunk_bytes += size

    def add(self, frame: bytes) -> None:
        """Another frame, of at most READ_BYTES_MAX, comes behind what waits."""
        self.close()
        if self._begin + len(frame) > len(self._buffer):
            self.flush()
        self._buffer[self._begin : self._begin + len(frame)] = frame
        self._begin += len(frame)
        if self._begin >= FRAME_BYTES:
            self.flush()

    def flush(self, news: bytes = b"") -> None:
        """Write what waits, and `news` (whole frames) behind: in one record with its end, who reads wakes once."""
        size = self._open_bytes
        if not self._begin and size and size + len(news) >= APART_BYTES:
            self._buffer[: HEADER.size] = PROTOCOL.bulk_header(CHUNKS, size)
            parts = [self._buffer[: HEADER.size], self._buffer[HEADER.size : HEADER.size + size]]
        else:
            self.close()
            parts = [self._buffer[: self._begin]] if self._begin else []
            if (end := self._begin + len(news)) <= len(self._buffer):
                self._buffer[self._begin : end] = news
                parts, news = [self._buffer[:end]] if end else [], b""
        if parts or news:
            self._write(*parts, *([news] if news else ()))
        self._begin = self._open_bytes = self.chunk_bytes = 0

    def close(self) -> None:
        """Make a whole frame of the chunks that were added: what follows answers another request."""
        size = self._open_bytes
        if size:
            end = self._begin + HEADER.size
            self._buffer[self._begin : end] = PROTOCOL.bulk_header(CHUNKS, size)
            self._begin, self._open_bytes = end + size, 0


class _Part(msgspec.Struct, frozen=True):
    """Whole frames, how many bytes of chunks are in them, whether they end an answer, and one that was served.

    Or a `request` that is to be answered by whoever writes.
    """

    frames: bytes
    chunk_bytes: int
    is_last: bool
    is_served: bool = True
    request: Request | None = None
    elsewhere: frozenset[int] = NOWHERE


class Session:
    """One asker with its requests, for content of `size` bytes.

    `feed` takes events of the upload core, `number` is its name there.
    """

    def __init__(
        self,
        stream: Stream,
        giver: Giver,
        number: int,
        *,
        size: int = 0,
        feed: Callable[[Any], None],
        executor: Executor,
        buffers: Buffers,
        limit: Callable[[], float] = lambda: 0.0,
    ) -> None:
        """`limit`: bytes a second that may go now; 0: any number."""
        self.number = number
        self._pace = 0  # bytes a second that the asker wants; 0: any number
        self._flow = Flow(lambda: least(limit(), self._pace))
        self._size = size
        self.sent_bytes = 0
        self._motion = Motion(time.monotonic())
        self._buffers = buffers
        self._stream = stream
        self._giver = giver
        self._feed = feed
        self._executor = executor
        self._cuts: OrderedDict[bytes, tuple[list[int], list[int]]] = (
            OrderedDict()
        )  # where pieces begin, chunks end
        self._cut_chunks = 0  # in these
        self._room = asyncio.Semaphore(REQUESTS_WAITING_MAX)
        self._asked: dict[tuple[bytes, int], None] = {}  # requests for chunks that wait, for `Cancel`
        self._cancelled: dict[tuple[bytes, int], None] = {}
        self._ready: asyncio.Queue[tuple[Request, frozenset[int] | None] | None] = (
            asyncio.Queue()
        )  # bounded by `_room`
        self._parts: deque[_Part | None] = deque()  # None: no more; the lane's thread takes some too
        self._has_part = asyncio.Event()
        self._pieces = asyncio.Semaphore(PIECES_AHEAD_MAX)
        self._loop = asyncio.get_running_loop()
        self._waiting = 0
        self._has_ended = False
        self._untold = Untold()
        self._has_news = asyncio.Event()  # that are to go alone
        self._telling: asyncio.TimerHandle | None = None
        self._gave_at = -NEWS_S  # when chunks went out last
        self._last_poured: Request | None = None  # answered, and not reported yet

    async def run(self, charge: Charge | None) -> None:
        """Until the asker finishes; `charge` returns when so many bytes of chunks may go out (None: any number)."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._read_requests())
            may_pour = charge is None and self._stream.version >= JOINED_SINCE
            group.create_task(self._prepare_answers(may_pour=may_pour))
            news = group.create_task(self._send_news())
            try:
                while (part := await self._next_part()) is not None:
                    if part.request is not None:
                        await self._pour(part)
                        continue
                    self._parts.popleft()
                    self._pieces.release()
                    if charge is not None:
                        await charge(part.chunk_bytes)
                    await self._stream.write(part.frames, self._let_go if self._flow.is_limited else None)
                    self._count(part.chunk_bytes)
                    if part.is_last:
                        self._answered(is_served=part.is_served)
            finally:
                self._parts.clear()  # the lane's thread stops soon
                if self._telling is not None:
                    self._telling.cancel()
            news.cancel()

    async def _let_go(self, size: int) -> int:
        """Wait until bytes of answers may go: how many of so many."""
        while True:
            now_go, wait_s = self._flow.take(size, self._loop.time())
            if now_go:
                return now_go
            await asyncio.sleep(wait_s)

    def _answered(self, request: Request | None = None, *, is_served: bool = True) -> None:
        """An answer went out whole; `request`: the one that was poured."""
        if request is not None:
            self._forget(request)
        self._room.release()
        if is_served:
            self._feed(u.Served(self.number))
        self._gave_at = self._loop.time()

    # ---- what the upload core decides

    def serve(self, request: Request, elsewhere: frozenset[int] | None = NOWHERE) -> None:
        """Answer the oldest request: with what it asks for, or a word that others have it.

        `elsewhere`: the numbers of those parts that others have; None: all, and it was not counted as served.
        """
        self._ready.put_nowait((request, elsewhere))
        self._waiting -= 1
        self._end_if_done()

    def _end_if_done(self) -> None:
        if self._has_ended and not self._waiting:
            self._ready.put_nowait(None)

    # ---- news

    def tell(self, message: Has | HasAll) -> None:
        """Say soon what is here; what waits is put together."""
        self._untold.add(message)
        self._tell_soon()

    def _count(self, size: int) -> None:
        """So many bytes of chunks went to the transport."""
        self.sent_bytes += size
        self._motion.at(self.sent_bytes, time.monotonic())

    def is_still(self) -> bool:
        """Whether none goes there: the asker asks for nothing now, or the line is cut."""
        return self._motion.is_still(time.monotonic())

    def tell_given(self, manifest: bytes, pieces: int) -> None:
        """Say soon what others were given."""
        self._untold.add_given(manifest, pieces)
        self._tell_soon()

    def _tell_soon(self) -> None:
        """News go with the chunks that go out next, if these are soon: alone they cost both sides as much as chunks."""
        is_giving = self._asked or self._loop.time() < self._gave_at + NEWS_S
        if not (is_giving and self._stream.is_on_lane):
            self._has_news.set()
        elif self._telling is None:
            self._telling = self._loop.call_later(NEWS_S, self._tell_alone)

    def _tell_alone(self) -> None:
        """Nothing that could take them went out."""
        if self._telling is not None:
            self._telling.cancel()
            self._telling = None
        if self._untold:
            self._has_news.set()

    async def _send_news(self) -> None:
        while await self._has_news.wait():
            self._has_news.clear()
            if frames := self._untold.take():
                await self._stream.write(frames)

    # ---- requests

    async def _read_requests(self) -> None:
        """Everything the asker says after `Open`."""
        while (message := await self._stream.receive(SILENCE_S)) is not None:
            if isinstance(message, Pace):
                self._pace = max(message.bytes_per_s, PACE_MIN) if message.bytes_per_s else 0
                continue
            if not isinstance(message, GetManifest | GetChunks | GetMany | Cancel):
                raise PeerError("only requests may follow Open")
            ids = [message.manifest] if not isinstance(message, GetMany) else [r[0] for r in message.requests]
            if any(len(one) != ID_BYTES for one in ids):  # what waits stays small
                raise PeerError(f"a request with an id that has not {ID_BYTES} bytes")
            if not 0 < len(ids) <= REQUESTS_TOGETHER_MAX:
                raise PeerError(f"{len(ids)} requests at once", CloseCode.LIMIT)
            if isinstance(message, Cancel):
                if (key := (message.manifest, message.first)) in self._asked:
                    self._cancelled[key] = None
                continue
            await self._room.acquire()
            self._waiting += 1
            self._feed(await self._weigh(message))
        self._has_ended = True
        self._end_if_done()

    async def _weigh(self, request: Request) -> u.Asked:
        """A request as the upload core wants it."""
        ones = _ones(request)
        chunks = [one for one in ones if isinstance(one, GetChunks)]
        if chunks and self._size:
            self._stream.expect(self._size)
            self._size = 0
        if any(one.manifest not in self._cuts for one in chunks):
            needed = dict.fromkeys(one.manifest for one in chunks)
            await self._loop.run_in_executor(self._executor, self._cut, needed)
        return u.Asked(self.number, request, tuple(map(self._part, ones)))

    def _part(self, one: One) -> u.Part:
        if isinstance(one, GetManifest):
            return u.Part(one.manifest, 0, MANIFEST_COST_BYTES)
        cut = self._cuts.get(one.manifest)
        if cut is None:
            return u.Part(one.manifest, 0, 0)
        starts, ends = cut
        first, last = one.first, one.first + one.count
        if first < 0 or not 0 < one.count <= CHUNKS_PER_REQUEST_MAX or last >= len(ends):
            text = f"chunks {first} to {last} of a manifest with {len(ends) - 1}"
            raise PeerError(text, CloseCode.LIMIT)
        self._asked[one.manifest, first] = None
        return u.Part(one.manifest, p.spanned(starts, first, last), ends[last] - ends[first], one.insist)

    def _cut(self, manifests: Collection[bytes]) -> None:
        """Note where the pieces of nodes begin, and where their chunks end; nothing of a node that is not here yet."""
        for manifest in manifests:
            if manifest in self._cuts:
                self._cuts.move_to_end(manifest)
                continue
            sizes = self._giver.sizes(manifest)
            if sizes is None:
                raise PeerError("chunks of a manifest that is not of this share", CloseCode.REFUSED)
            if not sizes and isinstance(self._giver, DownloadGiver):
                continue
            self._cuts[manifest] = p.cut(sizes), [0, *accumulate(sizes)]
            self._cut_chunks += CUT_COST_CHUNKS + len(sizes)
        while self._cut_chunks > CUT_CHUNKS_MAX and len(self._cuts) > len(manifests):
            self._cut_chunks -= CUT_COST_CHUNKS - 1 + len(self._cuts.popitem(last=False)[1][1])

    def _is_cancelled(self, one: One) -> bool:
        """Whether the asker took this request back."""
        return (
            bool(self._cancelled)
            and isinstance(one, GetChunks)
            and (one.manifest, one.first) in self._cancelled
        )

    # ---- answers

    async def _prepare_answers(self, *, may_pour: bool) -> None:
        """Read from disk a little ahead of what is being written to the stream; on a lane its thread does both."""
        loop = self._loop
        while (ready := await self._ready.get()) is not None:
            request, elsewhere = ready
            if elsewhere is None:
                frames = [PROTOCOL.encode(Skipped(Skip.ELSEWHERE)) for _ in _ones(request)]
                await self._put(_Part(b"".join(frames), 0, True, False))
            elif may_pour and self._can_pour(request):
                await self._put(_Part(b"", 0, True, request=request, elsewhere=elsewhere))
                continue
            else:
                answer = self._answer(request, elsewhere)
                is_last = False
                while not is_last:
                    part = await loop.run_in_executor(self._executor, next, answer)
                    await self._put(part)
                    is_last = part.is_last
            self._forget(request)
        self._parts.append(None)
        self._has_part.set()

    def _can_pour(self, request: Request) -> bool:
        is_bulk = not isinstance(request, GetManifest) and self._stream.is_on_lane
        return is_bulk and not self._flow.is_limited

    async def _put(self, part: _Part) -> None:
        """It comes next, once there is room for it."""
        if part.request is None:
            await self._pieces.acquire()
        self._parts.append(part)
        self._has_part.set()

    async def _next_part(self) -> _Part | None:
        """The oldest, which stays where it is; None at the end."""
        while not self._parts:
            self._has_part.clear()
            await self._has_part.wait()
        return self._parts[0]

    def _forget(self, request: Request) -> None:
        """It was answered."""
        for one in _ones(request):
            if isinstance(one, GetChunks):
                self._asked.pop((one.manifest, one.first), None)
                self._cancelled.pop((one.manifest, one.first), None)

    async def _pour(self, part: _Part) -> None:
        """Answer the oldest request where the lane is written to; or, if there is none any more, over the stream."""
        if part.request is not None and not await self._stream.pour(self._write_answers):
            self._parts.popleft()
            answer = self._answer(part.request, part.elsewhere)
            for piece in await self._loop.run_in_executor(self._executor, list, answer):
                await self._stream.write(piece.frames)
                self._count(piece.chunk_bytes)
            self._answered(part.request)
        elif self._last_poured is not None:
            self._answered(self._last_poured)
            self._last_poured = None

    def _write_answers(self, write: Write) -> None:
        """Answer the oldest requests, and what joins them meanwhile. In the thread of the lane.

        One by one over the loop, the lane would rest a millisecond between two: measured, a tenth of the time.
        """
        enough = self.sent_bytes + POUR_BYTES
        part = self._oldest_to_pour()
        while part is not None:
            self._write_answer(part, write)
            with suppress(IndexError):  # the session has ended
                self._parts.popleft()
            answered, part = part.request, self._oldest_to_pour() if self.sent_bytes < enough else None
            if part is None:
                self._last_poured = answered  # the end of this wakes the loop anyhow
            else:
                call_soon(self._loop, partial(self._answered, answered))

    def _oldest_to_pour(self) -> _Part | None:
        try:
            part = self._parts[0]
        except IndexError:
            return None
        return part if part is not None and part.request is not None else None

    def _write_answer(self, part: _Part, write: Write) -> None:
        """Read, check and write chunks piece by piece. In the thread of the lane."""

        def send(*data: bytes | memoryview) -> None:
            write(*data)
            self._count(piece.chunk_bytes)

        buffer = self._buffers.take()
        piece = _Piece(buffer, send)
        for number, one in enumerate(_ones(part.request) if part.request is not None else ()):
            piece.close()
            for frame in self._frames(one, is_elsewhere=number in part.elsewhere, room=piece.room):
                if isinstance(frame, bytes):
                    piece.add(frame)
                else:
                    piece.add_chunk(len(frame))
        piece.flush(self._untold.take())
        self._buffers.give_back(buffer)

    def _frames(
        self, one: One, *, is_elsewhere: bool, room: Room | None = None
    ) -> Iterator[bytes | memoryview]:
        """The answer to one request: whole frames, and chunks as views, in the `room` where there is one."""
        if is_elsewhere:
            yield PROTOCOL.encode(Skipped(Skip.ELSEWHERE))
            return
        if isinstance(one, GetManifest):
            data = self._giver.node(one.manifest)
            yield (
                PROTOCOL.encode(NoManifest(one.manifest))
                if data is None
                else PROTOCOL.bulk_header(MANIFEST, len(data)) + data
            )
            return
        left = one.count
        is_cancelled = self._is_cancelled(one)
        for chunk in () if is_cancelled else self._giver.read(one.manifest, one.first, one.count, room):
            if chunk is None or self._is_cancelled(one):
                break
            left -= 1
            if isinstance(chunk, Missing):
                yield PROTOCOL.encode(ChunkUnavailable(_reason(chunk)))
            else:
                yield memoryview(chunk)
        if left:
            yield PROTOCOL.encode(Skipped(Skip.CANCELLED if self._is_cancelled(one) else Skip.NOT_HERE))

    def _answer(self, request: Request, elsewhere: frozenset[int]) -> Iterator[_Part]:
        """The frames of one answer in pieces of about PIECE_BYTES. Runs in a worker thread."""
        parts: list[bytes | memoryview] = []
        size = chunk_bytes = 0
        for number, one in enumerate(_ones(request)):
            for frame in self._frames(one, is_elsewhere=number in elsewhere):
                if size >= PIECE_BYTES:
                    yield _Part(b"".join(parts), chunk_bytes, False)
                    parts, size, chunk_bytes = [], 0, 0
                if not isinstance(frame, bytes):
                    parts.append(PROTOCOL.bulk_header(CHUNKS, len(frame)))
                    chunk_bytes += len(frame)
                parts.append(frame)
                size += len(frame)
        yield _Part(b"".join(parts), chunk_bytes, True)


def _reason(missing: Missing) -> Unavailable:
    return {CHANGED: Unavailable.CHANGED, GONE: Unavailable.GONE}.get(missing.reason, Unavailable.UNREADABLE)
