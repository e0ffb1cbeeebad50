"""BulkStream: a stream that worker threads drive with blocking calls and large buffers, over the stream or over lanes.

It is made of a `Stream` at both ends, whenever a conversation becomes bulk; the frames are the same. The side that
writes much may move what it writes to a lane and back (`lanes/choice`); the side that reads follows its signals.
Whoever uses it sees `path` change and nothing else. When a lane breaks, what was in it is lost: both ends raise
`TransportError`, and the next conversation begins on the stream.
"""

import asyncio
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from coterie.errors import CloseCode, CoterieError, PeerError, TransportError
from coterie.identity import PeerId
from coterie.net.interfaces import PathInfo
from coterie.net.lanes.bridge import Inbox, Outbox, call_soon
from coterie.net.lanes.frames import FrameBuffer, Place
from coterie.net.lanes.lane import Lane
from coterie.net.lanes.lanes import PeerLanes
from coterie.net.stream import Frame, Stream, close_code_for
from coterie.texts import tr
from coterie.wire.frames import Message
from coterie.wire.lanes import SIGNAL_KIND, Op, Signal, decode_signal, encode_signal

LEFTOVER_S = 1.0  # guess: a round trip; longer than making another lane
LEFTOVERS_MAX = 16  # batches; what is more costs more than making another lane
GRACE_S = (
    0.5  # guess: a lane that breaks because the other side gave up is explained by the stream within this
)

T = TypeVar("T")


class BulkStream:
    """One conversation in bulk. Reading belongs to one thread, writing to one (the same or another); `reset` to any."""

    def __init__(self, stream: Stream, *, takes_bulk: bool = False) -> None:
        """Take `stream` over, on its loop. `takes_bulk`: the other side's bulk may come over lanes."""
        self.peer: PeerId = stream.peer
        self.protocol = stream.protocol
        self.version = stream.version
        self._stream = stream
        self._loop = asyncio.get_running_loop()
        lanes = stream.link.lanes if stream.link is not None else None
        self._lanes = lanes if isinstance(lanes, PeerLanes) else None
        self._ready, rest, self._peer_follows = stream.hand_over()
        self._inbox = Inbox(stream, rest, self._stream_failed)
        self._outbox = Outbox(stream, self._stream_failed)
        self._buffer = FrameBuffer(self.protocol.frame_bytes_max)
        self._unknown_in_row = 0
        self._reading: Lane | None = None
        self._writing: Lane | None = None
        self._busy_since = time.monotonic()
        self._has_finished = self._lane_broke = False
        self._lock = threading.Lock()
        self._failed = threading.Event()
        self._error: BaseException | None = None
        self._takes_bulk = takes_bulk and self._lanes is not None
        self._pumping = self._loop.create_task(self._inbox.pump())
        self._flushing = self._loop.create_task(self._outbox.pump())
        if self._takes_bulk and self._lanes is not None:
            self._lanes.add_reader(1)
            self._outbox.write(encode_signal(Signal(Op.WELCOME)))

    @property
    def is_on_lane(self) -> bool:
        """Whether bulk goes over a lane now. From any thread."""
        return (self._reading or self._writing) is not None

    @property
    def heard_bytes(self) -> int:
        """How much came so far, whole frames or not; less when it begins to come another way. From any thread."""
        lane = self._reading
        return self._inbox.heard_bytes + (lane.heard_bytes if lane is not None else 0)

    @property
    def is_shallow(self) -> bool:
        """Whether what comes waits at the other side rather than on its way, where it would be lost with us."""
        lane = self._reading
        return lane is not None and lane.is_shallow

    @property
    def path(self) -> PathInfo | None:
        """How bulk goes now: kind "lane", or as the connection goes; None where that is not known. On the loop."""
        lane = self._reading or self._writing
        link = self._stream.link.path if self._stream.link is not None else None
        return PathInfo("lane", lane.remote, link.rtt_s if link else None) if lane is not None else link

    async def drive(self, work: Callable[["BulkStream"], T]) -> T:
        """Run `work(self)` in a thread of its own, then end the stream well; reset it when `work` raises.

        A cancelled call makes every call of `work` on this stream raise, and waits for it to end.
        """
        done: asyncio.Future[T] = self._loop.create_future()
        thread = threading.Thread(target=self._run, args=(work, done), name=f"bulk {self.protocol.name}")
        thread.start()
        try:
            result = await asyncio.shield(done)
            await self._flushing
            if self._error is not None:
                raise self._error
        except BaseException as error:
            self._fail(error if isinstance(error, CoterieError) else TransportError(tr("given up here")))
            if not done.done():
                await asyncio.wait([done])
            done.exception()
            thread.join()  # it has nothing left to do
            # A cancelled handler's stream is reset by the router, which knows why.
            is_left = isinstance(error, asyncio.CancelledError) and not self._stream.is_ours
            await self._end(close_code_for(error), is_left=is_left)
            raise
        thread.join()
        await self._end(None)
        return result

    # ---- reading, in a thread

    def receive(self, timeout_s: float | None = None) -> Frame | None:
        """The next frame, None at the end. A bulk frame's data is good until the next call.

        Raises:
            PeerError: malformed input, or a reset by the other side.
            TransportError: the connection or the lane broke.
            TimeoutError: nothing came within `timeout_s`; the stream stays usable.
        """
        while not self._ready:
            if not self._fill(timeout_s):
                return None
        return self._ready.pop(0)

    def receive_batch(self, timeout_s: float | None = None, place: Place | None = None) -> list[Frame]:
        """All frames that are here, at least one, [] at the end. Errors, and how long data is good, as `receive`.

        `place` says where a frame's body is to be put; it has to stay good until the next call.
        """
        while not self._ready:
            if not self._fill(timeout_s, place):
                return []
        batch, self._ready = self._ready, []
        return batch

    def _fill(self, timeout_s: float | None, place: Place | None = None) -> bool:
        """Read until something is there; False at the end of the stream."""
        limit_s = timeout_s
        if self._buffer.pending_bytes:
            frame_s = self._stream.limits.frame_s
            limit_s = frame_s if timeout_s is None else min(frame_s, timeout_s)
        source = self._reading or self._inbox
        try:
            is_there = self._buffer.fill(source, limit_s, place)
        except TransportError as error:
            raise self._explained(error) from None
        except TimeoutError:
            if self._buffer.pending_bytes and limit_s == self._stream.limits.frame_s:
                text = f"{self.peer.short} went silent inside a {self.protocol.name} frame"
                raise PeerError(text, CloseCode.TIMEOUT) from None
            if timeout_s is not None or self._reading is None:
                raise
            return True  # a lane is silent while nothing was asked for
        self._busy_since = time.monotonic()
        if not is_there:
            if self._buffer.pending_bytes:
                raise PeerError(f"the {self.protocol.name} stream of {self.peer.short} ended inside a frame")
            return False
        for kind, body in self._buffer.frames():
            if kind == SIGNAL_KIND:
                if self._follow(decode_signal(body), source):
                    break  # what comes next comes from elsewhere
            else:
                self._take(kind, body)
        return True

    def _take(self, kind: int, body: memoryview) -> None:
        frame = self.protocol.decode(kind, body)
        if frame is not None:
            self._unknown_in_row = 0
            self._ready.append(frame)
            return
        self._unknown_in_row += 1
        if self._unknown_in_row > self._stream.limits.unknown_frames_max:
            raise PeerError(f"unknown {self.protocol.name} frames from {self.peer.short}", CloseCode.LIMIT)

    def _follow(self, signal: Signal, source: Lane | Inbox) -> bool:
        """Do as the writer says; whether bytes come from elsewhere from now on."""
        lanes = self._lanes
        if signal.op == Op.WELCOME:
            self._peer_follows = True
            return False
        if signal.op == Op.SWITCH and self._reading is None:
            if lanes is None or not self._takes_bulk:
                raise PeerError("a switch to a lane that nobody offered to follow")
            lane = lanes.take_to_read(signal.lane)
        elif signal.op == Op.BACK and self._reading is not None:
            lane = None
        else:
            raise PeerError("a lane signal out of place")
        source.unread(self._buffer.take_rest())
        with self._lock:
            old, self._reading = self._reading, lane
            has_failed = self._failed.is_set()
        if has_failed and lane is not None:
            lane.close()
        if old is not None and lanes is not None:
            lanes.keep_to_read(old)
        return True

    # ---- writing, in a thread

    def send(self, message: Message) -> None:
        """Send one typed message. Errors as `write`."""
        self.write(self.protocol.encode(message))

    def write(self, data: bytes | memoryview) -> None:
        """Send whole frames that the caller built with `encode` and `bulk_header`; `data` may be used again then.

        Raises:
            PeerError: the other side reset the stream.
            TransportError: the connection or the lane broke.
        """
        self._choose()
        lane = self._writing
        if lane is None:
            self._outbox.write(data if isinstance(data, bytes) else bytes(data))
        else:
            try:
                lane.write(data)
            except TransportError as error:
                raise self._explained(error) from None
        now = time.monotonic()
        seconds, self._busy_since = now - self._busy_since, now
        if self._lanes is None:
            return
        if lane is None:
            self._lanes.choice.sent_by_stream(len(data), seconds)
        elif not self._lanes.choice.sent_by_lane(len(data), seconds, now) or lane.is_worn:
            self._go_back()

    def post(self, data: bytes) -> None:
        """Write a small message over the stream at once, from any thread: for who takes bulk and writes little.

        Never waits: the caller bounds how many are under way. What breaks the stream is told by the other calls.
        """
        self._outbox.post(data)

    def wake(self) -> None:
        """From any thread: a `receive` that waits on the stream now, or else the next, raises TimeoutError."""
        self._inbox.wake()

    def finish(self) -> None:
        """Nothing more will be written; reading goes on. What was written goes out behind this call."""
        if self._has_finished:
            return
        self._has_finished = True
        if self._writing is not None:
            self._go_back()
        self._outbox.end()

    def _choose(self) -> None:
        """Move to a lane when there is one and the rule wants it."""
        if self._writing is not None or self._lanes is None or not self._peer_follows:
            return
        lane = self._lanes.take_to_write()
        if lane is None:
            return
        with self._lock:
            self._writing = lane
            has_failed = self._failed.is_set()
        if has_failed:
            lane.close()
        self._outbox.write(encode_signal(Signal(Op.SWITCH, lane.id)))

    def _go_back(self) -> None:
        lane, lanes = self._writing, self._lanes
        if lane is None or lanes is None:
            return
        try:
            lane.write(encode_signal(Signal(Op.BACK)))
        except TransportError as error:
            raise self._explained(error) from None
        with self._lock:
            self._writing = None
        lanes.give_back(lane)

    # ---- the end

    def abort(self, error: CoterieError) -> None:
        """From any thread: every call under way and to come raises `error`."""
        self._fail(error)

    def _run(self, work: Callable[["BulkStream"], T], done: "asyncio.Future[T]") -> None:
        try:
            result = work(self)
            self.finish()
            self._free_lane()
        except BaseException as error:  # noqa: BLE001  (raised again where it is awaited)
            call_soon(self._loop, partial(done.set_exception, error))
        else:
            call_soon(self._loop, partial(done.set_result, result))

    def _free_lane(self) -> None:
        """Read what the other side still has to say on a lane, so that the lane can serve again."""
        try:
            for _ in range(LEFTOVERS_MAX):
                if self._reading is None or not self.receive_batch(LEFTOVER_S):
                    return
        except (CoterieError, TimeoutError):
            return  # then it cannot

    def _stream_failed(self, error: BaseException) -> None:
        self._fail(error, is_cut=False)

    def _fail(self, error: BaseException, *, is_cut: bool = True) -> None:
        with self._lock:
            self._error = self._error or error
            self._failed.set()
            lanes = [lane for lane in (self._reading, self._writing) if lane is not None]
        self._inbox.fail(error, is_cut=is_cut)
        self._outbox.fail(error)
        for lane in lanes:
            lane.close()

    def _explained(self, error: TransportError) -> BaseException:
        """Why a lane or the stream broke: the stream's own word, if it comes soon."""
        if (self._reading or self._writing) is not None and not self._failed.is_set():
            self._lane_broke = True
        if self._failed.wait(GRACE_S) and self._error is not None:
            return self._error
        return error

    async def _end(self, code: int | None, *, is_left: bool = False) -> None:
        """Let go of everything; `code` None: all went well. `is_left`: another resets the stream."""
        for task in (self._pumping, self._flushing):
            task.cancel()
        await asyncio.wait([self._pumping, self._flushing])
        lanes = self._lanes
        if lanes is not None:
            for lane in (self._reading, self._writing):
                if lane is not None:
                    lanes.drop(lane, has_failed=self._lane_broke)
            if self._takes_bulk:
                lanes.add_reader(-1)
        self._reading = self._writing = None
        if code is None:
            await self._stream.end()
        elif not is_left:
            await self._stream.reset(code)
