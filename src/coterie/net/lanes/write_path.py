"""Where an ordinary stream's writes go once the other side can follow to a lane; see `lanes/choice` for when.

Whoever writes to the stream sees nothing of it. A lane blocks, so it has a thread of its own.
"""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from coterie.errors import CoterieError, TransportError
from coterie.net.interfaces import RawStream
from coterie.net.lanes.lane import Lane
from coterie.net.lanes.lanes import PeerLanes
from coterie.texts import tr
from coterie.wire.lanes import Op, Signal, encode_signal

IDLE_S = (
    0.1  # guess: a pause of an asker with nothing to ask; a disk that takes so long is no path's fault either
)

MUCH_BYTES = 32 << 10  # in one write; guess: what is less is an answer that somebody waits for

Write = Callable[..., None]
"""Takes whole frames, in as many parts as you like, and blocks until they are on their way. Parts may be used again."""

Pace = Callable[[int], Awaitable[int]]
"""Waits until bytes may go; of so many, how many: at least one."""


async def write_paced(write: Callable[[bytes], Awaitable[None]], data: bytes, pace: Pace | None) -> None:
    """Write `data` slice by slice as `pace` lets them go; without one, at once."""
    if pace is None:
        await write(data)
        return
    at = 0
    while at < len(data):
        size = await pace(len(data) - at)
        await write(data[at : at + size])
        at += size


class Outlet:
    """The writing side of one stream. Calls take turns; all on the loop."""

    def __init__(self, raw: RawStream, lanes: PeerLanes, turn: asyncio.Lock | None = None) -> None:
        """`turn`: of who writes to `raw`, where others do too."""
        self._raw = raw
        self._lanes = lanes
        self._loop = asyncio.get_running_loop()
        self._turn = turn or asyncio.Lock()
        self._lane: Lane | None = None
        self._thread: ThreadPoolExecutor | None = None
        self._under_way: asyncio.Future[None] | None = None
        self._busy_since = 0.0

    @property
    def lane(self) -> Lane | None:
        """The lane in use."""
        return self._lane

    def expect(self, size: int) -> None:
        """About so many bytes will be written."""
        self._lanes.expect(size)

    async def write(self, data: bytes, pace: Pace | None = None) -> None:
        """As `RawStream.write`, no faster than `pace` lets it go.

        Raises TransportError when a lane broke: the stream is of no use then.
        """
        waited_from = self._loop.time()
        async with self._turn:
            lane = await self._begin(waited_from)
            if lane is None and len(data) >= MUCH_BYTES:
                await self._lanes.settled()
                lane = await self._choose()
            if lane is None:
                await write_paced(self._raw.write, data, pace)
                self._lanes.choice.sent_by_stream(len(data), self._seconds())
            else:
                await write_paced(lambda part: self._do(lambda: lane.write(part)), data, pace)
                await self._judge(lane, len(data))

    async def pour(self, produce: Callable[[Write], None]) -> bool:
        """Call `produce(write)` in the lane's thread, once; False, and nothing was done, while there is no lane.

        Raises what `produce` raises, and TransportError when the lane broke: the stream is of no use then.
        """
        waited_from = self._loop.time()
        async with self._turn:
            lane = await self._begin(waited_from)
            if lane is None:
                return False
            before = lane.sent_bytes
            await self._do(lambda: produce(lane.write))
            await self._judge(lane, lane.sent_bytes - before)
            return True

    async def go_back(self) -> None:
        """What follows goes over the stream itself."""
        async with self._turn:
            await self._settle()
            await self._back()
        self._end_thread()

    def drop(self) -> None:
        """The stream is over, however it ended."""
        lane, self._lane = self._lane, None
        if lane is not None:
            self._lanes.drop(lane, has_failed=False)
        self._end_thread()

    def _is_busy(self, now: float) -> bool:
        """Whether the last write ended so shortly ago that the time since counts as work for this one."""
        return now - self._busy_since < IDLE_S

    async def _begin(self, waited_from: float) -> Lane | None:
        """It is our turn: where to write."""
        if not self._is_busy(waited_from):
            self._busy_since = waited_from
        await self._settle()
        return self._lane or await self._choose()

    def _seconds(self) -> float:
        """Of work since it was asked last."""
        now = self._loop.time()
        seconds, self._busy_since = now - self._busy_since, now
        return seconds

    async def _judge(self, lane: Lane, size: int) -> None:
        """So much went over the lane: is it worth its while?"""
        seconds = self._seconds()
        if not self._lanes.choice.sent_by_lane(size, seconds, self._busy_since) or lane.is_worn:
            await self._back()

    async def _choose(self) -> Lane | None:
        lane = self._lanes.take_to_write()
        if lane is None:
            return None
        self._lane = lane
        self._thread = self._thread or ThreadPoolExecutor(1, "coterie-lane")
        await self._raw.write(encode_signal(Signal(Op.SWITCH, lane.id)))
        return lane

    async def _do(self, work: Callable[[], None]) -> None:
        """Run `work`, which writes to the lane, in its thread."""
        if self._thread is None:
            raise TransportError(tr("this stream is over"))
        self._under_way = asyncio.ensure_future(self._loop.run_in_executor(self._thread, work))
        await self._settle()

    async def _settle(self) -> None:
        """Wait for the work under way: one that was cancelled is done to its end all the same."""
        if self._under_way is None:
            return
        try:
            await asyncio.shield(self._under_way)
        except TransportError:
            if self._lane is not None:
                self._lanes.drop(self._lane, has_failed=True)
                self._lane = None
            raise
        self._under_way = None

    async def _back(self) -> None:
        lane = self._lane
        if lane is None:
            return
        await self._do(lambda: lane.write(encode_signal(Signal(Op.BACK))))
        self._lane = None
        self._lanes.give_back(lane)

    def _end_thread(self) -> None:
        if self._under_way is not None:
            self._under_way.add_done_callback(_seen)
        if self._thread is not None:
            self._thread.shutdown(wait=False)
            self._thread = None


def _seen(future: "asyncio.Future[None]") -> None:
    with suppress(CoterieError, asyncio.CancelledError):
        future.result()
