"""How fast bytes may go: limits that may change, shared by several, and by time of day."""

from collections.abc import Callable, Sequence

import msgspec

from coterie.decoding import decoder
from coterie.errors import UsageError
from coterie.quantity import read_rate
from coterie.rate import Rate
from coterie.texts import tr

BURST_S = 0.25  # what may be saved up while nothing goes; guess: a piece or two at usual limits
SLICE_S = 0.05  # of a limit goes at once; guess
SLICE_BYTES_MIN = 1200  # guess: about a packet
SLICE_BYTES_MAX = 256 << 10  # guess
LOOK_S = 1.0  # how late a limit that changes may be seen; guess
DAY_MINUTES = 1440
TURN_S = 0.01  # guess: soon enough to look again whose turn it is
WAITS_S = 0.1  # who was told to wait comes back so soon after that, or wants nothing now; guess


def least(*limits: float) -> float:
    """The smallest of limits, each in bytes a second, 0: none."""
    return min(filter(None, limits), default=0.0)


class ByteLimit:
    """Lets `bytes_per_s` through on average; 0: no limit. What goes at once may overdraw it by one request."""

    window_share = 1.0  # see `Portion`

    def __init__(self, bytes_per_s: float = 0.0) -> None:
        self._rate = Rate(0.0, 0.0)
        self.bytes_per_s = bytes_per_s

    @property
    def bytes_per_s(self) -> float:
        """The limit now; may be set."""
        return self._bytes_per_s

    @bytes_per_s.setter
    def bytes_per_s(self, value: float) -> None:
        self._bytes_per_s = value
        self._rate.change(value, BURST_S * value)

    def ready_at(self, now: float) -> float:
        """When the next bytes may go (s)."""
        return self._rate.ready_at(now) if self._bytes_per_s else now

    def take(self, size: int, now: float) -> None:
        """`size` bytes go now."""
        if self._bytes_per_s:
            self._rate.spend(now, size)


class Flow:
    """Bytes of what was let through whole, such as an answer: they go one slice after the other, at the rate of limits.

    `bytes_per_s` says the limit at any time; 0: none.
    """

    def __init__(self, bytes_per_s: Callable[[], float]) -> None:
        self._bytes_per_s = bytes_per_s
        self._limit = ByteLimit()

    @property
    def is_limited(self) -> bool:
        """Whether there is a limit now."""
        return bool(self._bytes_per_s())

    def take(self, size: int, now: float) -> tuple[int, float]:
        """How many of `size` bytes go now, or 0 and after how long (s) to ask again: limits may change meanwhile."""
        rate = self._bytes_per_s()
        if rate != self._limit.bytes_per_s:
            self._limit.bytes_per_s = rate
        if (wait_s := self._limit.ready_at(now) - now) > 0:
            return 0, min(wait_s, LOOK_S)
        if rate:
            size = min(size, max(SLICE_BYTES_MIN, min(SLICE_BYTES_MAX, int(SLICE_S * rate))))
        self._limit.take(size, now)
        return size, 0.0


class Shares:
    """One limit for several, who have it by their weight; what one does not use is the others'.

    Start-time fair queueing (Goyal, Vin and Cheng 1996): whose turn began earliest, in bytes by weight, goes first.
    """

    def __init__(self, bucket: ByteLimit) -> None:
        """`bucket` is the limit; its `bytes_per_s` may change."""
        self.bucket = bucket
        self.clock = 0.0  # when the turn began of who went last, in bytes by weight
        self.portions: list[Portion] = []

    def portion(self, weight: float) -> "Portion":
        """One more that takes part, until it is closed."""
        portion = Portion(self, weight)
        self.portions.append(portion)
        return portion


class Rates:
    """What goes to others, and what comes from them, on one computer: limits that all apps share."""

    def __init__(self) -> None:
        self.up = ByteLimit()
        self.down = ByteLimit()
        self.down_shares = Shares(self.down)


class Portion:
    """The part of a shared limit that is one's own; as `ByteLimit` to who takes."""

    def __init__(self, shares: Shares, weight: float) -> None:
        self.weight = weight
        self._shares = shares
        self._end = 0.0  # of its last turn, in bytes by weight
        self._waits_until = float("-inf")  # so long others let it go first

    @property
    def window_share(self) -> float:
        """How much of what could be under way should be, so that who is heavier has more of a link; 0 < share <= 1."""
        return self.weight / max(p.weight for p in self._shares.portions)

    @property
    def bytes_per_s(self) -> float:
        """For who cannot wait for each turn: how much of the limit is its own while all want some; 0: no limit."""
        return self._shares.bucket.bytes_per_s * self.weight / sum(p.weight for p in self._shares.portions)

    def ready_at(self, now: float) -> float:
        """When the next bytes may go (s)."""
        ready = self._shares.bucket.ready_at(now)
        if ready <= now:
            if not any(p._goes_before(self, now) for p in self._shares.portions):
                return now
            ready = now + TURN_S
        self._waits_until = ready + WAITS_S
        return ready

    def take(self, size: int, now: float) -> None:
        """`size` bytes go now."""
        self._shares.bucket.take(size, now)
        self._shares.clock = self._begin
        self._end = self._begin + size / self.weight
        self._waits_until = float("-inf")

    def close(self) -> None:
        """Take part no more."""
        self._shares.portions.remove(self)

    @property
    def _begin(self) -> float:
        return max(self._shares.clock, self._end)

    def _goes_before(self, other: "Portion", now: float) -> bool:
        return self is not other and now <= self._waits_until and self._begin < other._begin


class Hours(msgspec.Struct, frozen=True):
    """A limit for part of each day: minutes since midnight, `begin` inclusive, `end` exclusive; may pass midnight."""

    begin: int
    end: int
    bytes_per_s: float

    def holds(self, minute: int) -> bool:
        """Whether it is valid at this minute of the day."""
        if self.begin <= self.end:
            return self.begin <= minute < self.end
        return minute >= self.begin or minute < self.end


def limit_at(usual: float, hours: Sequence[Hours], minute: int) -> float:
    """The limit (bytes/s, 0: none) at a minute of the day: that of the first hours that hold, else the usual one."""
    return next((h.bytes_per_s for h in hours if h.holds(minute)), usual)


@decoder(UsageError, "the hours of a limit")
def parse_hours(text: str) -> tuple[Hours, ...]:
    """Read "08:00-18:00=500kB/s,22:00-06:00=0": bytes a second between times of day.

    Raises:
        UsageError: says which part is none.
    """
    found = []
    for part in filter(None, (word.strip() for word in text.split(","))):
        times, equals, rate = part.partition("=")
        begin, dash, end = times.partition("-")
        try:
            if not (equals and dash):
                raise ValueError
            found.append(Hours(_minute(begin), _minute(end), read_rate(rate)))
        except ValueError:
            raise UsageError(
                tr("'{part}' is not like 08:00-18:00=500kB/s (a rate, or 0 for no limit)", part=part)
            ) from None
    return tuple(found)


def _minute(text: str) -> int:
    hour, colon, minute = text.strip().partition(":")
    value = int(hour) * 60 + int(minute)
    if not colon or not (0 <= int(hour) <= 24 and 0 <= int(minute) < 60 and value <= DAY_MINUTES):
        raise ValueError
    return value % DAY_MINUTES
