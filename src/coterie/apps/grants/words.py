"""What people write for durations, amounts and times of day."""

import re
from collections.abc import Sequence

from coterie.errors import UsageError

_DURATION = re.compile(r"(\d+)\s*([smhdw])\Z")
_AMOUNT = re.compile(r"(\d+(?:\.\d+)?)\s*([kMGT]?)B?\Z", re.IGNORECASE)
_HOURS = re.compile(r"(\d{1,2}):(\d{2})-(\d{1,2}):(\d{2})\Z")
_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 7 * 86_400}
_FACTORS = {"": 1, "k": 1_000, "m": 1_000_000, "g": 1_000_000_000, "t": 1_000_000_000_000}


def read_duration(text: str) -> int:
    """Seconds in "90s", "15m", "8h", "7d" or "2w". Raises `UsageError`."""
    match = _DURATION.match(text.strip().lower())
    if match is None or not int(match[1]):
        raise UsageError(f"'{text}' is no duration: write 90s, 15m, 8h, 7d or 2w")
    return int(match[1]) * _SECONDS[match[2]]


def read_amount(text: str) -> int:
    """Bytes in "500", "20kB" or "1.5GB" (decimal, as disks are sold). Raises `UsageError`."""
    match = _AMOUNT.match(text.strip())
    if match is None or int(amount := float(match[1]) * _FACTORS[match[2].lower()]) < 1:
        raise UsageError(f"'{text}' is no amount of bytes: write 500, 20kB, 10MB or 1.5GB")
    return int(amount)


def read_hours(text: str) -> tuple[int, int]:
    """Minutes of the day in "08:00-20:00". Raises `UsageError`."""
    match = _HOURS.match(text.strip())
    if match is not None:
        begin, end = (60 * int(match[at]) + int(match[at + 1]) for at in (1, 3))
        if max(int(match[2]), int(match[4])) < 60 and begin < 1440 and end <= 1440 and begin != end % 1440:
            return begin, end % 1440
    raise UsageError(f"'{text}' is no time of day: write 08:00-20:00")


def read_limits(texts: Sequence[str]) -> tuple[tuple[int, int] | None, int, int]:
    """Times of day, bytes a second and bytes in all from texts like "08:00-20:00", "2MB/s" and "10GB".

    None or 0 for what is not said. Raises `UsageError`.
    """
    hours, rate, quota = None, 0, 0
    for text in texts:
        if ":" in text:
            hours = read_hours(text)
        elif text.endswith("/s"):
            rate = read_amount(text.removesuffix("/s"))
        else:
            quota = read_amount(text)
    return hours, rate, quota
