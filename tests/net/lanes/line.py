"""A line with one queue that several TCP connections share, in virtual time: fluid, a millisecond a step.

Each connection is CUBIC (RFC 9438) with HyStart's look at the round trip (RFC 9406), as Linux has it. A connection with
a ceiling is a lane: every five milliseconds the ceiling is told what TCP would say, and sets the pace.
"""

from collections import deque

from coterie.net.lanes.ceilings import LossCeiling
from coterie.net.lanes.choice import PathSeen

STEP_S = 0.001
LOOK_STEPS = 5
SEGMENT = 1448
CUBIC_C, CUBIC_BETA = 0.4, 0.7  # RFC 9438, 4.1 and 4.6


class Tcp:
    """One connection that always has more to send."""

    def __init__(self, line: "Line", ceiling: LossCeiling | None = None) -> None:
        self.line = line
        self.ceiling = ceiling
        self.window = 10.0 * SEGMENT
        self.arrived = 0.0
        self.lost = self.sent = 0.0
        self.least_s = float("inf")
        self.rtt_s = 0.0
        self._threshold = float("inf")
        self._under_way = 0.0
        self._acks: deque[tuple[float, float, float, float]] = (
            deque()
        )  # (when, bytes, lost bytes, round trip)
        self._best = 0.0  # window before the last loss
        self._epoch: float | None = None
        self._deaf_until = 0.0  # one loss a round trip counts
        self._pace = 0.0
        self._rates: deque[tuple[float, float]] = deque()

    def send(self, now: float, steps: int) -> float:
        """What it puts on the line in this step."""
        self._hear(now)
        if self.ceiling is not None and steps % LOOK_STEPS == 0 and self.rtt_s:
            self._pace = self.ceiling.limit(self._seen(), int(self.rate(now)), now)
        room = max(self.window - self._under_way, 0.0)
        self.size = min(room, self._pace * STEP_S) if self._pace else min(room, self._burst())
        return self.size

    def _burst(self) -> float:
        """Without a pace, twice the window a round trip while it starts: as acknowledgements come."""
        return 2 * self.window * STEP_S / (self.rtt_s or self.line.rtt_s) + SEGMENT

    def carried(self, now: float, lost: float, queue_s: float) -> None:
        """What became of it."""
        self.sent += self.size
        self.lost += lost
        self._under_way += self.size
        rtt_s = self.line.rtt_s + queue_s
        if self.size:
            self._acks.append((now + rtt_s, self.size, lost, rtt_s))

    def rate(self, now: float) -> float:
        """Bytes a second acknowledged over the last round trip."""
        while self._rates and self._rates[0][0] < now - self.rtt_s:
            self._rates.popleft()
        return sum(size for _, size in self._rates) / self.rtt_s if self.rtt_s else 0.0

    def _seen(self) -> PathSeen:
        return PathSeen(
            int(self.sent / SEGMENT),
            int(self.lost / SEGMENT),
            int(1e6 * self.rtt_s),
            int(1e6 * self.least_s),
            int(self.window),
        )

    def _hear(self, now: float) -> None:
        while self._acks and self._acks[0][0] <= now:
            _, size, lost, rtt_s = self._acks.popleft()
            is_limited = self._under_way >= self.window - 3 * SEGMENT
            self._under_way -= size
            self.arrived += size - lost
            self._rates.append((now, size - lost))
            self.least_s = min(self.least_s, rtt_s)
            weight = min(size / SEGMENT / 8, 0.5)
            self.rtt_s = (1 - weight) * self.rtt_s + weight * rtt_s if self.rtt_s else rtt_s
            if lost > 0:
                self._lose(now)
            elif self.window < self._threshold:
                if rtt_s >= self.least_s + min(max(self.least_s / 8, 0.004), 0.016):
                    self._threshold = self.window
                elif self.window < 2 * (self._under_way + size):
                    self.window += size
            elif is_limited:
                self._grow(now, size)

    def _lose(self, now: float) -> None:
        if now < self._deaf_until:
            return
        self._deaf_until = now + self.rtt_s
        self._best = self.window
        self.window = self._threshold = max(CUBIC_BETA * self.window, 2 * SEGMENT)
        self._epoch = None

    def _grow(self, now: float, size: float) -> None:
        if self._epoch is None:
            self._epoch = now
            self._best = max(self._best, self.window)
            self._flat_s = ((self._best - self.window) / SEGMENT / CUBIC_C) ** (1 / 3)
        after = now + self.rtt_s - self._epoch - self._flat_s
        target = min(self._best + CUBIC_C * SEGMENT * after**3, 1.5 * self.window)
        self.window += max(target - self.window, 0.0) * size / self.window


class Line:
    """`rate` in bytes a second; the queue holds `queue_s` of it."""

    def __init__(self, rate: float, rtt_s: float, queue_s: float) -> None:
        self.rate, self.rtt_s, self.queue_s = rate, rtt_s, queue_s
        self.now = 0.0
        self.waiting = 0.0  # bytes
        self.tcps: list[Tcp] = []

    def add(self, ceiling: LossCeiling | None = None) -> Tcp:
        """One more connection, from now on."""
        self.tcps.append(Tcp(self, ceiling))
        return self.tcps[-1]

    def run(self, seconds: float) -> list[float]:
        """Let time pass; the part of the line that each had meanwhile."""
        before = [tcp.arrived for tcp in self.tcps]
        for _ in range(round(seconds / STEP_S)):
            self._step()
        return [(tcp.arrived - had) / seconds / self.rate for tcp, had in zip(self.tcps, before, strict=True)]

    def _step(self) -> None:
        steps = round(self.now / STEP_S)
        coming = sum(tcp.send(self.now, steps) for tcp in self.tcps)
        room = self.queue_s * self.rate + self.rate * STEP_S - self.waiting
        lost = max(coming - room, 0.0) / coming if coming else 0.0
        self.waiting = max(self.waiting + coming * (1 - lost) - self.rate * STEP_S, 0.0)
        for tcp in self.tcps:
            tcp.carried(self.now, tcp.size * lost, self.waiting / self.rate)
        self.now += STEP_S
