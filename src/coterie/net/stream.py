"""Stream: typed frames and raw bytes of one protocol in one negotiated version."""

import asyncio
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Protocol

from coterie.errors import AccessDenied, CloseCode, LimitExceeded, PeerError
from coterie.identity import PeerId
from coterie.net.budget import Meter
from coterie.net.interfaces import PathInfo, RawStream
from coterie.net.lanes.lanes import PeerLanes
from coterie.net.lanes.write_path import Outlet, Pace, Write, write_paced
from coterie.net.limits import NetLimits
from coterie.wire.frames import HEADER, Bulk, FrameDecoder, Message
from coterie.wire.frames import Protocol as WireProtocol
from coterie.wire.lanes import SIGNAL_KIND, Op, decode_signal

READ_BYTES = 256 * 1024  # measured: larger reads of the QUIC wheel gain nothing

Frame = Message | Bulk


def close_code_for(error: BaseException) -> int:
    """The code that tells the other side why a stream ends with `error`."""
    match error:
        case PeerError():
            return error.close_code
        case LimitExceeded():
            return CloseCode.LIMIT
        case AccessDenied():
            return CloseCode.REFUSED
        case asyncio.CancelledError():
            return CloseCode.CANCELLED
        case TimeoutError():
            return CloseCode.TIMEOUT
        case _:
            return CloseCode.INTERNAL


class Link(Protocol):
    """What a stream knows of the connection that carries it."""

    @property
    def path(self) -> PathInfo: ...

    @property
    def lanes(self) -> object | None:
        """A `PeerLanes`, where bulk may leave the connection."""
        ...


class Stream:
    """One conversation with `peer`. Leaving its `async with` finishes it; an exception inside resets it.

    Reads belong to one task at a time; `send` and `write` may be called by several, each call stays whole.
    """

    def __init__(
        self,
        raw: RawStream,
        *,
        peer: PeerId,
        protocol: WireProtocol,
        version: int,
        limits: NetLimits | None = None,
        received: bytes = b"",
        on_end: Callable[[], None] | None = None,
        link: Link | None = None,
    ) -> None:
        """`received` are bytes read already; `on_end` is called once, when both directions have ended.

        `link` is the connection that carries it.
        """
        self.link = link
        self.is_ours = True  # we opened it: the router, which ends what peers opened, sets it to False
        self.meter: Meter | None = None  # of a stranger's stream; set by the router
        self.peer = peer
        self.protocol = protocol
        self.version = version
        self._raw = raw
        self._limits = limits or NetLimits()
        self._decoder = FrameDecoder(protocol.frame_bytes_max)
        self._ready: deque[Frame] = deque()
        self._received = received
        self._set_aside = b""  # a signal to go elsewhere, and what came behind it: for who takes over
        self._unknown_in_row = 0
        self._in_row = 0
        self._read_ended = False
        self._write_ended = False
        self._on_end = on_end
        self._outlet: Outlet | None = None
        self._turn = asyncio.Lock()  # to write
        self._has_answered = False
        self._expected_bytes = 0

    async def send(self, message: Message) -> None:
        """Send one typed message; waits while the other side does not read."""
        await self.write(self.protocol.encode(message))

    async def write(self, data: bytes, pace: Pace | None = None) -> None:
        """Send bytes as they are: whole frames that the caller built with `encode` and `bulk_header`.

        `pace`: no faster than it lets them go; what others write meanwhile waits.

        Large amounts go over a lane where there is one and the other side reads the stream as a `BulkStream`. What is
        written first to a stream that the peer opened goes over the stream itself: the peer may have said with the
        opening that it can follow, and follows when it has heard the answer.
        """
        is_answer, self._has_answered = not (self._has_answered or self.is_ours), True
        if self._outlet is None or is_answer:
            async with self._turn:
                await write_paced(self._raw.write, data, pace)
        else:
            await self._outlet.write(data, pace)

    def expect(self, size: int) -> None:
        """Say that about so many bytes will be written, so that a lane for them is made now and not after the first."""
        self._expected_bytes = size
        if self.link is not None and isinstance(self.link.lanes, PeerLanes):
            self.link.lanes.expect(size)

    @property
    def is_on_lane(self) -> bool:
        """Whether what is written goes over a lane now."""
        return self._outlet is not None and self._outlet.lane is not None

    async def pour(self, produce: Callable[[Write], None]) -> bool:
        """Where writes go over a lane now: call `produce(write)` in the lane's thread, and True; else False at once.

        For who makes much: reading, checking and writing in one thread spares the changes between two. Frames have to
        be whole; what `produce` raises is raised here, and the stream is to be reset then.
        """
        return self._outlet is not None and await self._outlet.pour(produce)

    def drop_lane(self) -> None:
        """Let go of a lane in use: for whoever resets the raw stream below this one."""
        if self._outlet is not None:
            self._outlet.drop()

    async def receive(self, timeout_s: float | None = None) -> Frame | None:
        """The next frame, or None at the end of the stream. Kinds that we do not know are skipped.

        Raises:
            PeerError: malformed input, a stream cut inside a frame, or a reset by the other side.
            TimeoutError: nothing whole came within `timeout_s`; the stream stays usable.
        """
        if self.meter is not None:
            await self.meter.turn()
        if not self._ready:
            async with asyncio.timeout(timeout_s):
                await self._fill(READ_BYTES)
            self._in_row = 0
        elif self._in_row >= self._limits.frames_in_row_max:
            self._in_row = 0
            await asyncio.sleep(0)  # else a peer that sends many at once would stop everything else
        self._in_row += 1
        return self._ready.popleft() if self._ready else None

    async def receive_batch(self, size_max: int = READ_BYTES) -> list[Frame]:
        """All frames that one read of up to `size_max` bytes completes (at least one), or [] at the end.

        For bulk transfers: a few microseconds a frame. Errors as `receive`.
        """
        if not self._ready:
            await self._fill(size_max)
        batch = list(self._ready)
        self._ready.clear()
        return batch

    def hand_over(self) -> tuple[list[Frame], bytes, bool]:
        """From now on another reads this stream by `read_bytes`: frames and bytes that are here already.

        And whether the other side said that it can follow to a lane.
        """
        frames, rest = list(self._ready), self._set_aside + self._decoder.take_pending()
        self._ready.clear()
        follows, self._outlet = self._outlet is not None, None
        return frames, rest, follows

    async def read_bytes(self, size_max: int = READ_BYTES) -> bytes:
        """Bytes as they come, b"" at the end. Not to be mixed with `receive`. Errors as `receive`."""
        if self._read_ended:
            return b""
        data, self._received = self._received, b""
        data = data or await self._raw.read(size_max)
        if not data:
            self._read_ended = True
            self._note_end()
        return data

    def unread(self, data: bytes) -> None:
        """Bytes of `read_bytes` that whoever reads next is to have: `receive` may follow."""
        self._received = data + self._received

    def welcome(self) -> None:
        """The peer has shown its right to what it asks for here: it is no longer held back as a stranger."""
        if self.meter is not None:
            self.meter.lift()

    @property
    def limits(self) -> NetLimits:
        """The bounds that hold here."""
        return self._limits

    async def finish(self) -> None:
        """Say that nothing more will be written; reading goes on."""
        if self._write_ended:
            return
        if self._outlet is not None:
            await self._outlet.go_back()
        await self._raw.finish()
        self._write_ended = True
        self._note_end()

    async def reset(self, code: int = CloseCode.CANCELLED) -> None:
        """Give up both directions; the other side's next call raises PeerError(`code`)."""
        self._read_ended = self._write_ended = True
        self.drop_lane()
        self._note_end()
        await self._raw.reset(code)

    async def end(self) -> None:
        """Finish, and read no more: what the other side still writes is refused with NORMAL."""
        await self.finish()
        if not self._read_ended:
            self._read_ended = True
            await self._raw.stop(CloseCode.NORMAL)
        self._note_end()

    async def __aenter__(self) -> "Stream":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            await self.reset(close_code_for(error))
        else:
            await self.end()

    async def _fill(self, size_max: int) -> None:
        """Read until at least one frame is ready or the stream has ended."""
        while not self._ready and not self._read_ended:
            if self.meter is not None:
                await self.meter.turn(0.0)
                size_max = min(size_max, self.meter.read_bytes_max)
            data = await self._read(size_max)
            if not data:
                self._read_ended = True
                self._note_end()
                if self._decoder.pending_bytes:
                    raise PeerError(
                        f"the {self.protocol.name} stream of {self.peer.short} ended inside a frame"
                    )
                return
            self._decode(data)

    async def _read(self, size_max: int) -> bytes:
        if self._received:
            data, self._received = self._received, b""
            return data
        if not self._decoder.pending_bytes:
            return await self._raw.read(size_max)
        limit = asyncio.timeout(self._limits.frame_s)
        try:
            async with limit:
                return await self._raw.read(size_max)
        except TimeoutError:
            if not limit.expired():
                raise
            text = f"{self.peer.short} went silent inside a {self.protocol.name} frame"
            raise PeerError(text, CloseCode.TIMEOUT) from None

    def _decode(self, data: bytes) -> None:
        decode, ready = self.protocol.decode, self._ready
        for kind, body in self._decoder.feed(data):
            if self._set_aside or (kind == SIGNAL_KIND and not self._heed(body)):
                self._set_aside += HEADER.pack(len(body) + 1, kind) + bytes(body)
                continue
            if kind == SIGNAL_KIND:
                continue
            frame = decode(kind, body)
            if frame is not None:
                self._unknown_in_row = 0
                ready.append(frame)
                continue
            self._unknown_in_row += 1
            if self._unknown_in_row > self._limits.unknown_frames_max:
                text = f"unknown {self.protocol.name} frames from {self.peer.short}"
                raise PeerError(f"{self._unknown_in_row} {text} in a row", CloseCode.LIMIT)

    def _heed(self, body: memoryview) -> bool:
        """A signal of lanes: the other side may be able to follow. False: it is for who takes this stream over."""
        if (op := decode_signal(body).op) != Op.WELCOME:
            return op not in set(Op)
        if self._outlet is not None or self.link is None:
            return True
        if isinstance(self.link.lanes, PeerLanes):
            self._outlet = Outlet(self._raw, self.link.lanes, self._turn)
            self._outlet.expect(self._expected_bytes)
        return True

    def _note_end(self) -> None:
        if self._read_ended and self._write_ended and self._on_end is not None:
            on_end, self._on_end = self._on_end, None
            on_end()
