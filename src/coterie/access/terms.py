"""The terms of a permission: from when to when, at which times of day, how fast and how much."""

import math

import msgspec

from coterie.quantity import say_bytes

DAY_MINUTES = 24 * 60
EXPIRES_MAX = 2**40  # unix seconds: beyond the year 30,000; keeps arithmetic in 64 bits
AMOUNT_MAX = 2**53  # bytes: exact in every language's numbers


class Terms(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Under which conditions something is permitted; the default is without any.

    Fields:
        starts, expires: unix seconds; 0: from ever, for ever.
        from_minute, to_minute: of the day, in the deciding node's local time; may pass midnight. Equal: all day.
        rate_bytes_s: 0: any.
        quota_bytes: in all; 0: any.
    """

    starts: int = 0
    expires: int = 0
    from_minute: int = 0
    to_minute: int = 0
    rate_bytes_s: int = 0
    quota_bytes: int = 0

    def fault(self) -> str | None:
        """What cannot be in these numbers, or None."""
        if not (0 <= self.starts <= EXPIRES_MAX and 0 <= self.expires <= EXPIRES_MAX):
            return "a time before 1970 or beyond all reason"
        if not (0 <= self.from_minute < DAY_MINUTES and 0 <= self.to_minute < DAY_MINUTES):
            return "a time of day that is none"
        if not (0 <= self.rate_bytes_s <= AMOUNT_MAX and 0 <= self.quota_bytes <= AMOUNT_MAX):
            return "an amount below zero or beyond all reason"
        if self.expires and self.expires <= self.starts:
            return "an end before its beginning"
        return None

    def within(self, wider: "Terms") -> bool:
        """Whether these terms allow nothing that `wider` does not."""
        ends = not wider.expires or 0 < self.expires <= wider.expires
        rate = not wider.rate_bytes_s or 0 < self.rate_bytes_s <= wider.rate_bytes_s
        quota = not wider.quota_bytes or 0 < self.quota_bytes <= wider.quota_bytes
        return self.starts >= wider.starts and ends and rate and quota and self._hours_within(wider)

    def holds(self, now: float, utc_offset_s: int) -> bool:
        """Whether the time is right at `now` (unix seconds)."""
        return self.why_not(now, utc_offset_s) is None

    def why_not(self, now: float, utc_offset_s: int) -> str | None:
        """Why the time is not right at `now`; None when it is. `utc_offset_s`: of the local time of day."""
        if now < self.starts:
            return "it has not begun"
        if self.expires and now >= self.expires:
            return "it has expired"
        if self._minutes_into(now, utc_offset_s) >= self._day_length():
            return f"it holds from {_clock(self.from_minute)} to {_clock(self.to_minute)} only"
        return None

    def until(self, now: float, utc_offset_s: int) -> float:
        """Unix seconds of the next moment at which `holds` may answer otherwise; `inf` when never."""
        moments = [float(t) for t in (self.starts, self.expires) if t > now]
        if self.from_minute != self.to_minute:
            into, length = self._minutes_into(now, utc_offset_s), self._day_length()
            left = (length if into < length else DAY_MINUTES) - into
            moments.append(now - now % 60 + 60 * left)
        return min(moments, default=math.inf)

    def _hours_within(self, wider: "Terms") -> bool:
        into = (self.from_minute - wider.from_minute) % DAY_MINUTES
        whole = wider._day_length() == DAY_MINUTES
        return whole or into + self._day_length() <= wider._day_length()

    def _day_length(self) -> int:
        return (self.to_minute - self.from_minute) % DAY_MINUTES or DAY_MINUTES

    def _minutes_into(self, now: float, utc_offset_s: int) -> int:
        """Minutes since the daily beginning."""
        return int((now + utc_offset_s) // 60 - self.from_minute) % DAY_MINUTES

    def say(self) -> list[str]:
        """The conditions in words, but for the dates."""
        said = []
        if self.from_minute != self.to_minute:
            said.append(f"{_clock(self.from_minute)} to {_clock(self.to_minute)}")
        if self.rate_bytes_s:
            said.append(f"{say_bytes(self.rate_bytes_s)}/s")
        if self.quota_bytes:
            said.append(f"{say_bytes(self.quota_bytes)} in all")
        return said


ANY_TIME = Terms()


def _clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"
