"""How fast a lane over a long path may send, so that it and what else uses the path lose little. Pure.

TCP hears of a loss a round trip later, and gets over it slowly where that is long. A round trip that grows tells
earlier.
"""

from coterie.net.lanes.choice import FAR_US, PathSeen

PEAK_S = 10.0  # as BBR remembers a rate
CEILING_MIN = 125_000  # bytes a second


def _gain(most: float, seen: PathSeen) -> float:
    """`most` without a queue, `DRAIN_GAIN` with a large one: in between the queue stays as it is."""
    queue_us = seen.rtt_us - seen.least_rtt_us
    return most - (most - DRAIN_GAIN) * min(queue_us / LARGE_QUEUE_US, 1.0)


class Peak:
    """The highest rate of the last `PEAK_S` and a little more. Bytes a second."""

    def __init__(self) -> None:
        self._peaks = [0, 0]  # of this time, and of the one before
        self._since = 0.0

    def note(self, rate: int, now: float, *, keep: bool = False) -> int:
        """One more; returns the highest. `keep`: forget none."""
        if keep:
            self._since = now
        if now >= self._since + PEAK_S:
            self._peaks, self._since = [0, self._peaks[0]], now
        self._peaks[0] = max(self._peaks[0], rate)
        return max(self._peaks)


START_GAIN = (
    1.5  # windows in a round trip: TCP doubles its own all the same, and Linux sends it at twice that
)
START_BYTES = 150_000  # a smaller window overflows no queue; guess
SMALL_QUEUE_US = 10_000  # beyond the least round trip: the path is full; guess
LARGE_QUEUE_US = 20_000  # guess: less than half of what routers hold
DRAIN_GAIN = 0.92  # of the highest rate, with a large queue; below the noise in rates, which was 3 %
SEGMENT_BYTES = 1448
MORE_MAX = 0.1  # of the highest rate: so much more is tried in a round trip, at most; guess
OWN_ROUND_TRIPS = 1.0  # a large queue that stays so long after less is sent is filled by others; simulated
GIVE_WAY = 0.8  # times, in a round trip with a large queue; simulated: who starts beside us doubles in it
GIVE_LITTLE = (
    0.95  # the same with a small one; simulated: two lanes come to equal parts in some twenty seconds
)
SQUEEZED = 0.9  # of the highest rate arrives, although there is a queue: others send too; guess, three times the noise
SHARE_MIN = 0.4  # of the highest rate; guess: beside two others it is their losses that decide
START_DRAINS_ROUND_TRIPS = 4  # the queue of our own start is gone by then; simulated
ASIDE_ROUND_TRIPS = 10  # with a large queue although we gave way: it is not ours to drain; simulated
BESIDE_S = 10.0  # then losses decide for so long; guess
BESIDE_GAIN = (
    1.25  # of the rate that arrives, meanwhile: the window of a lane that never lost would fill any queue
)


class LossCeiling:
    """For one lane over a long path that goes by losses.

    A start sends no more than `START_GAIN` windows in a round trip until a queue grows. Then it sends what
    arrived at most, a little more without a queue, a little less with one: the path is full, the queue nearly empty.

    A queue that stays all the same is filled by others. Who has just begun loses most of what it would get if the queue
    overflows, for over a long path TCP widens its window by little: measured, 0.03 to 0.12 of the line. So the lane
    gives way until the queue is gone, and comes back by less the more it sends: the smaller of two gains. What does
    not drain then is held by somebody larger, or is no queue: from then on losses decide, for a time.
    """

    def __init__(self) -> None:
        self._peak = Peak()
        self._full_at: float | None = None
        self._share = 1.0  # of what we would send alone
        self._at = 0.0
        self._large_since: float | None = None
        self._beside_until = float("-inf")

    @property
    def is_full(self) -> bool:
        """Whether the start is over."""
        return self._full_at is not None

    def limit(self, seen: PathSeen, rate: int, now: float) -> int:
        """Bytes a second, 0: none. `rate`: at which data arrived there last."""
        highest = self._peak.note(rate, now, keep=self._share < 1)
        queue_us = seen.rtt_us - seen.least_rtt_us
        round_trip_s = max(seen.least_rtt_us, 1) / 1e6
        passed, self._at = (now - self._at) / round_trip_s, now
        if self._full_at is None and queue_us > SMALL_QUEUE_US:
            self._full_at = now
        if self._full_at is None:
            is_large = seen.window_bytes >= START_BYTES
            return int(START_GAIN * seen.window_bytes * 1e6 / max(seen.rtt_us, 1)) if is_large else 0
        if now < self._beside_until:
            return max(int(BESIDE_GAIN * rate), CEILING_MIN)
        segments = highest * round_trip_s / SEGMENT_BYTES
        more = min(max(segments, 1.0) ** -0.5, MORE_MAX)
        is_start = now < self._full_at + START_DRAINS_ROUND_TRIPS * round_trip_s
        if queue_us > LARGE_QUEUE_US and not is_start:
            self._leave(round_trip_s, passed, now)
        else:
            self._large_since = None
            if queue_us <= SMALL_QUEUE_US:
                self._share = min(self._share * (1 + more) ** passed, 1.0)
            elif rate < SQUEEZED * highest:
                self._share = max(self._share * GIVE_LITTLE**passed, SHARE_MIN)
        return max(int(_gain(1 + more, seen) * self._share * highest), CEILING_MIN)

    def _leave(self, round_trip_s: float, passed: float, now: float) -> None:
        """The queue is large; `passed`: round trips since it was looked at."""
        if self._large_since is None:
            self._large_since = now
        large = (now - self._large_since) / round_trip_s
        if large > ASIDE_ROUND_TRIPS:
            self._beside_until, self._large_since, self._share = now + BESIDE_S, None, 1.0
        elif large > OWN_ROUND_TRIPS:
            self._share = max(self._share * GIVE_WAY**passed, SHARE_MIN)


FILLED_GAIN = 1.1  # of the highest rate, once the path is full; guess: the queue of the start drains in time
FILLED_ROUND_TRIPS = 8  # as the start takes to see that the path is full, three, and to let its queue drain
STEADY_GAIN = 1.35  # later; above the 1.25 by which BBR itself tries for more (Cardwell et al., 2016)
FAR_GAIN = (
    1.1  # over a far path, at any time, without a queue, and less with one; guess: what is lost comes late
)


class Ceiling:
    """For one lane that goes by the rate: how fast it may send, so that its start does not overrun the path for long.

    At first BBR sends 2.9 times what arrived, and goes on so until it has seen three round trips in which the sender
    had always more to send: with a short queue most of it is lost meanwhile, and a busy program has not always more.
    """

    def __init__(self) -> None:
        self._peak = Peak()
        self._filled_at: float | None = None

    def limit(self, seen: PathSeen, rate: int, now: float) -> int:
        """Bytes a second, 0: none. `rate`: at which data arrived there last."""
        highest = self._peak.note(rate, now)
        if self._filled_at is None:
            if not seen.has_queue:
                return 0
            self._filled_at = now
        if seen.least_rtt_us >= FAR_US:
            return max(int(_gain(FAR_GAIN, seen) * highest), CEILING_MIN)
        is_draining = now < self._filled_at + FILLED_ROUND_TRIPS * seen.least_rtt_us / 1e6
        return max(int((FILLED_GAIN if is_draining else STEADY_GAIN) * highest), CEILING_MIN)
