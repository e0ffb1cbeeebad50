"""How fast bytes may go: a token bucket, and limits by time of day."""

from collections.abc import Sequence

import msgspec

from coterie.errors import UsageError

BURST_S = 0.25  # what may be saved up while nothing goes; guess: a piece or two at usual limits
DAY_MINUTES = 1440


class Bucket:
    """Lets `bytes_per_s` through on average; 0: no limit. What goes at once may overdraw it by one request."""

    def __init__(self, bytes_per_s: float = 0.0) -> None:
        self.bytes_per_s = bytes_per_s
        self._tokens = 0.0
        self._at = 0.0

    def ready_at(self, now: float) -> float:
        """When the next bytes may go (s)."""
        if not self.bytes_per_s:
            return now
        self._refill(now)
        return now if self._tokens >= 0 else now - self._tokens / self.bytes_per_s

    def take(self, size: int, now: float) -> None:
        """`size` bytes go now."""
        if self.bytes_per_s:
            self._refill(now)
            self._tokens -= size

    def _refill(self, now: float) -> None:
        gained = (now - self._at) * self.bytes_per_s
        self._tokens = min(self._tokens + gained, BURST_S * self.bytes_per_s)
        self._at = now


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


def parse_hours(text: str) -> tuple[Hours, ...]:
    """Read "08:00-18:00=500000,22:00-06:00=0": bytes a second between times of day.

    Raises:
        UsageError: says which part is none.
    """
    found = []
    for part in filter(None, (word.strip() for word in text.split(","))):
        times, equals, rate = part.partition("=")
        begin, dash, end = times.partition("-")
        try:
            if not (equals and dash) or float(rate) < 0:
                raise ValueError
            found.append(Hours(_minute(begin), _minute(end), float(rate)))
        except ValueError:
            raise UsageError(
                f"'{part}' is not like 08:00-18:00=500000 (bytes a second, 0 for no limit)"
            ) from None
    return tuple(found)


def _minute(text: str) -> int:
    hour, colon, minute = text.strip().partition(":")
    value = int(hour) * 60 + int(minute)
    if not colon or not (0 <= int(hour) <= 24 and 0 <= int(minute) < 60 and value <= DAY_MINUTES):
        raise ValueError
    return value % DAY_MINUTES
