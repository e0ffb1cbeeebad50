"""What people write for amounts and times of day."""

import re
from collections.abc import Sequence

from coterie import quantity
from coterie.decoding import decoder
from coterie.errors import UsageError
from coterie.texts import tr

_HOURS = re.compile(r"(\d{1,2}):(\d{2})-(\d{1,2}):(\d{2})\Z")


@decoder(UsageError, "this amount")
def read_amount(text: str) -> int:
    """Bytes, at least one, as `quantity.read_size`. Raises `UsageError`."""
    try:
        size = quantity.read_size(text)
    except ValueError as error:
        raise UsageError(str(error)) from None
    if size < 1:
        raise UsageError(tr("'{text}' is no amount of bytes: write 500, 20kB, 10MB or 1.5GB", text=text))
    return size


@decoder(UsageError, "these hours")
def read_hours(text: str) -> tuple[int, int]:
    """Minutes of the day in "08:00-20:00". Raises `UsageError`."""
    match = _HOURS.match(text.strip())
    if match is not None:
        begin, end = (60 * int(match[at]) + int(match[at + 1]) for at in (1, 3))
        if max(int(match[2]), int(match[4])) < 60 and begin < 1440 and end <= 1440 and begin != end % 1440:
            return begin, end % 1440
    raise UsageError(tr("'{text}' is no time of day: write 08:00-20:00", text=text))


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
