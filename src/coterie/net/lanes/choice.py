"""Which way a stream's bulk bytes go: over the stream itself or over a lane. A pure core; the shell measures.

The rule: the first `AFTER_BYTES`, or what goes in the first `AFTER_S`, go over the stream, for a lane is not worth its
making below that; unless whoever writes expects to write much more. Then a lane is used as soon as there is one. Once
it has carried `TRIAL_BYTES` its rate is compared with what the stream gave: below `WORSE` times that, the bytes go back
to the stream. A lane that was slower, failed or broke is tried again after `RETRY_FIRST_S`, then after twice as long
each time, until one proves good. A rate counts only while there is something to send.

The second rule: what a lane does about loss (`LossWatch`). TCP takes each lost packet for a full queue and halves its
rate, which is wrong where packets vanish by themselves (radio, bad cables): 1 Mbit/s at 2 % and 100 ms, however wide
the path. Where that is seen, the lane is told to go by the rate that arrives instead.
"""

from dataclasses import dataclass

AFTER_BYTES = 4 << 20  # guess: 20 ms at the stream's 200 MB/s; making a lane takes 5 to 50 ms
AFTER_S = 0.25  # guess: ten times what making a lane costs; a slow path has not carried AFTER_BYTES by then
EXPECTED_TIMES = (
    4  # `AFTER_BYTES`; guess: what is expected may not come, and what is made for it costs the same
)
TRIAL_BYTES = (
    32 << 20
)  # guess: 60 ms at 500 MB/s; a TCP connection across a continent is at full speed by then
WORSE = 0.8  # guess: above the noise between two seconds of the same path
RETRY_FIRST_S = (
    4.0  # guess: a busy machine that was too slow for a handshake once; then twice as long each time
)
RETRY_MAX_S = (
    64.0  # guess: a firewall stays; the cost of an attempt is two seconds of another thread's waiting
)
MEMORY = 0.5  # weight of the past in the stream's rate, per MEASURE_BYTES
MEASURE_BYTES = 2 << 20


class LaneChoice:
    """For one peer and one direction; it outlives streams. Times are seconds of any steady clock."""

    def __init__(self, after_bytes: int = AFTER_BYTES) -> None:
        self._after_bytes = after_bytes
        self._stream_bytes = 0
        self._stream_s = 0.0
        self._stream_rate = 0.0  # bytes/s; 0: not known
        self._sent_bytes = 0
        self._sent_s = 0.0
        self._expected_bytes = 0
        self._lane_bytes = 0
        self._lane_s = 0.0
        self._not_before = float("-inf")
        self._retry_s = RETRY_FIRST_S

    @property
    def stream_rate(self) -> float:
        """Bytes a second that the stream gave last; 0 when it carried too little to tell."""
        return self._stream_rate

    def expect(self, size: int) -> None:
        """About so many bytes will be sent."""
        self._expected_bytes = max(self._expected_bytes, size)

    def sent_by_stream(self, size: int, seconds: float) -> None:
        """`size` bytes were written to the stream, and that took `seconds`."""
        self._sent_bytes += size
        self._sent_s += seconds
        self._stream_bytes += size
        self._stream_s += seconds
        if self._stream_bytes >= MEASURE_BYTES and self._stream_s > 0:
            rate = self._stream_bytes / self._stream_s
            old = self._stream_rate
            self._stream_rate = MEMORY * old + (1 - MEMORY) * rate if old else rate
            self._stream_bytes, self._stream_s = 0, 0.0

    def sent_by_lane(self, size: int, seconds: float, now: float) -> bool:
        """The same over a lane; False when the bytes should go back to the stream."""
        self._lane_bytes += size
        self._lane_s += seconds
        if self._lane_bytes < TRIAL_BYTES:
            return True
        rate = self._lane_bytes / self._lane_s if self._lane_s > 0 else float("inf")
        self._lane_bytes, self._lane_s = 0, 0.0
        if rate >= WORSE * self._stream_rate:
            self._retry_s = RETRY_FIRST_S
            return True
        self.failed(now)
        return False

    def failed(self, now: float) -> None:
        """There is no lane, or it broke."""
        self._lane_bytes, self._lane_s = 0, 0.0
        self._not_before = now + self._retry_s
        self._retry_s = min(2 * self._retry_s, RETRY_MAX_S)

    def wants_lane(self, now: float) -> bool:
        """Whether to use a lane now, and to make one if there is none."""
        is_worth_it = (
            self._sent_bytes >= self._after_bytes
            or self._sent_s >= AFTER_S
            or self._expected_bytes > EXPECTED_TIMES * self._after_bytes
        )
        return is_worth_it and now >= self._not_before


LOOK_SEGMENTS = 100  # guess: of 2 % lost, one or more in seven of eight looks
LOST = 0.005  # guess: TCP that fills a queue itself loses less, except when it starts
LOSSY_IN_ROW = 3  # judgements; measured, eight lanes on one uplink: two err where TCP is often looked at
LOSSY_FAR = 2  # the same on far paths, since a queue was seen last
QUEUE_RTT = 1.3  # guess: with a round trip so many times the least one seen, a queue has grown on the way
QUEUE_US = 5_000  # and beyond that: on short paths the machines themselves make such differences
QUEUE_US_MAX = (
    25_000  # however long the path: routers keep queues of 50 ms before they lose; guess: half of that
)
FAR_US = 120_000  # round trip; guess: from here on each one that is spent on a loss costs more than an error
VERY_FAR_US = 400_000  # a satellite: TCP as the system has it takes minutes to get over one loss; guess
LOOK_SEGMENTS_FAR = 20
LOST_FAR = 0.0025  # measured, 0.5 % lost: over a few hundred segments it is often half of that
STEADY_US = (
    10_000  # guess: a path whose round trip never grew by so much has had no queue, and one loss is enough
)


@dataclass(frozen=True, slots=True)
class PathSeen:
    """What TCP says of a connection so far: segments of data sent, of them repeated, its round trips, its window."""

    segments: int
    repeated: int
    rtt_us: int
    least_rtt_us: int
    window_bytes: int = 0

    @property
    def has_queue(self) -> bool:
        """Whether a queue has grown on the way."""
        beyond = min((QUEUE_RTT - 1) * self.least_rtt_us + QUEUE_US, QUEUE_US_MAX)
        return self.rtt_us > self.least_rtt_us + beyond


class LossWatch:
    """For one lane: whether packets vanish although no queue grows."""

    def __init__(self) -> None:
        self._segments = 0
        self._repeated = 0
        self._saw_queue = False
        self._is_steady = True
        self._lossy = (
            0  # judgements: so many said that it is lossy; in a row, or on a far path since a queue was seen
        )
        self._segments_since = self._repeated_since = 0  # that queue

    def is_lossy(self, seen: PathSeen, *, beside_rate_based: bool = False) -> bool:
        """Judge what was sent since the last judgement; False while that is too little to tell.

        Call it often: where others fill the same queue, it comes and goes. `beside_rate_based`: other lanes of ours go
        by the rate. These fill queues too, and take the share of one that loses packets and does not: it follows.
        """
        self._saw_queue |= seen.has_queue
        self._is_steady &= seen.rtt_us <= seen.least_rtt_us + STEADY_US
        is_far = seen.least_rtt_us >= FAR_US and not beside_rate_based
        segments, repeated = seen.segments - self._segments, seen.repeated - self._repeated
        if segments < (LOOK_SEGMENTS_FAR if is_far else LOOK_SEGMENTS):
            return False
        had_queue, self._saw_queue = self._saw_queue, False
        self._segments, self._repeated = seen.segments, seen.repeated
        if had_queue and not beside_rate_based:
            self._lossy = self._segments_since = self._repeated_since = 0
            return False
        if is_far:
            self._segments_since += segments
            self._repeated_since += repeated
            self._lossy += repeated > 0
            is_much = self._repeated_since >= LOST_FAR * self._segments_since
            return is_much and self._lossy >= (1 if self._is_steady else LOSSY_FAR)
        self._lossy = self._lossy + 1 if repeated >= LOST * segments else 0
        return self._lossy >= (1 if beside_rate_based else LOSSY_IN_ROW)
