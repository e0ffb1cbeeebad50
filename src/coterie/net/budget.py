"""Budget: what strangers may use of this node's time. All their streams, of whatever protocol, are paid from it.

A stranger's handler runs under a `Meter`: each of its steps is timed by the processor's clock of this thread, and
each frame that it takes is counted. A stranger that has used up its part waits before its next frame or stream, and
so do all when strangers together have used up theirs. Nothing is refused, and nobody who is known waits.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine, Generator
from typing import Any

from coterie.identity import PeerId
from coterie.net.limits import NetLimits
from coterie.rate import Rate, RateTable


def _processor_clock() -> float:
    clock = getattr(asyncio.get_running_loop(), "thread_time", time.thread_time)
    return float(clock())


class _Rates:
    __slots__ = ("frames", "processor")

    def __init__(self, limits: NetLimits) -> None:
        self.frames = Rate(limits.stranger_frames_per_s, limits.stranger_frames_burst)
        self.processor = Rate(limits.stranger_processor_share, limits.stranger_processor_burst_s)


class Budget:
    """Of one endpoint: a part for each stranger, and one for all of them together.

    Args:
        is_known: peers for whom nothing is counted.
        processor_s: seconds that this thread has had of a processor; by default what the event loop says, for in
            virtual time no work takes any.
    """

    def __init__(
        self,
        limits: NetLimits,
        is_known: Callable[[PeerId], bool],
        *,
        processor_s: Callable[[], float] | None = None,
    ) -> None:
        self.limits = limits
        self._is_known = is_known
        self._processor_s = processor_s or _processor_clock
        self._rates: RateTable[PeerId, _Rates] = RateTable(limits.peers_tracked_max, lambda _: _Rates(limits))
        self._all = Rate(limits.strangers_processor_share, limits.strangers_processor_burst_s)

    def meter(self, peer: PeerId) -> "Meter | None":
        """For one stream of `peer`; None when it is known."""
        return None if self._is_known(peer) else Meter(self, peer, self._processor_s)

    def pay(self, peer: PeerId, now: float, *, processor_s: float = 0.0, frames: float = 0.0) -> float:
        """Count what `peer` has used; how long (s) it has to wait for more."""
        rates = self._rates.of(peer)
        return max(
            rates.frames.spend(now, frames),
            rates.processor.spend(now, processor_s),
            self._all.spend(now, processor_s),
        )


class Meter:
    """Runs a handler and counts; `turn` lets it go on when it may."""

    def __init__(self, budget: Budget, peer: PeerId, processor_s: Callable[[], float]) -> None:
        self._budget = budget
        self._peer = peer
        self._processor_s = processor_s
        self._mark = processor_s()
        self._is_lifted = False
        self._loop = asyncio.get_running_loop()

    @property
    def read_bytes_max(self) -> int:
        """How much may be read at once: so much is decoded in one step."""
        limits = self._budget.limits
        return limits.stranger_read_bytes if not self._is_lifted else 1 << 20

    def lift(self) -> None:
        """From now on nothing is counted: the peer has shown that it has a right to what it asks for."""
        self._is_lifted = True

    async def turn(self, frames: float = 1.0) -> None:
        """Count `frames`, and wait until the peer may have more."""
        if self._is_lifted:
            return
        wait_s = self._charge(frames)
        while wait_s > 0:
            await asyncio.sleep(wait_s)
            wait_s = self._charge(0.0)

    async def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Await `work`, each of its steps timed."""
        await _Stepped(self, work)

    def begin(self) -> None:
        """A step begins."""
        if not self._is_lifted:  # asking for the time is a call of the system
            self._mark = self._processor_s()

    def _charge(self, frames: float) -> float:
        if self._is_lifted:
            return 0.0
        used, self._mark = self._mark, self._processor_s()
        return self._budget.pay(
            self._peer, self._loop.time(), processor_s=max(0.0, self._mark - used), frames=frames
        )

    def end(self) -> None:
        """A step ends."""
        self._charge(0.0)


class _Stepped:
    """Awaits a coroutine and tells its meter when each step begins and ends."""

    def __init__(self, meter: Meter, work: Coroutine[Any, Any, None]) -> None:
        self._meter = meter
        self._work = work

    def __await__(self) -> Generator[Any, Any, None]:
        send, value = self._work.send, None
        while True:
            self._meter.begin()
            try:
                waited = send(value)
            except StopIteration:
                return
            finally:
                self._meter.end()
            send, value = self._work.send, None
            try:
                yield waited
            except GeneratorExit:
                self._work.close()
                raise
            except BaseException as error:  # noqa: BLE001  (handed on to the work: a cancellation above all)
                send, value = self._work.throw, error
