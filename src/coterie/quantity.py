"""Numbers as people read and write them."""

import re

from coterie.texts import number_form, tr_count

_DURATION = re.compile(r"(\d+)\s*([smhdw])\Z", re.ASCII)
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kMGT]?)B?\Z", re.IGNORECASE | re.ASCII)
_DIGITS_MAX = 15  # more is a slip of the hand, and Python refuses to convert very long ones
DURATION_S_MAX = 100 * 366 * 86_400  # a hundred years: beyond that somebody mistyped
SIZE_BYTES_MAX = 2**53 - 1  # what every JSON parser reads exactly
LEFT_S_MAX = 7 * 86_400  # guess: a longer time to go is no estimate; what comes has stopped, or nearly so
_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 7 * 86_400}
_FACTORS = {"": 1, "k": 1_000, "m": 1_000_000, "g": 1_000_000_000, "t": 1_000_000_000_000}
_BYTE_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def count(number: int, noun: str) -> str:
    """ "1 file", "3,000 files"."""
    return tr_count(*counted(noun), number)


def counted(noun: str) -> tuple[str, str]:
    """The templates of one and of many."""
    return f"{{number:,}} {noun}", f"{{number:,}} {noun}s"


def say_bytes(size: float) -> str:
    """A size in bytes in decimal units, as disks are sold, in the reader's form: "5 B", "1.5 GB"."""
    unit = 0
    while abs(size) >= (999.5 if unit == 0 else 999.95) and unit < len(_BYTE_UNITS) - 1:
        size, unit = size / 1000, unit + 1
    number = number_form(f"{size:.1f}" if unit else f"{size:.0f}")
    return f"{number} {_BYTE_UNITS[unit]}"


def duration(seconds: float) -> str:
    """Seconds as "42 s", "3 min 05 s" or "2 h 10 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def seconds_left(bytes_left: int, bytes_per_s: float) -> float | None:
    """Seconds to go at that rate; None where nobody could plan by the figure."""
    left_s = bytes_left / bytes_per_s if bytes_per_s > 0 else LEFT_S_MAX + 1
    return round(left_s, 1) if left_s <= LEFT_S_MAX else None


def read_duration(text: str) -> int:
    """Seconds in "90s", "15m", "8h", "7d" or "2w". Raises `ValueError` for anything else, and for none."""
    match = _DURATION.match(text.strip().lower()) if len(text) <= _DIGITS_MAX else None
    if match is None or not 0 < int(match[1]) * _SECONDS[match[2]] <= DURATION_S_MAX:
        raise ValueError(f"'{text[:40]}' is no duration: write 90s, 15m, 8h, 7d or 2w")
    return int(match[1]) * _SECONDS[match[2]]


def write_duration(seconds: float) -> str:
    """Whole seconds in the form that `read_duration` reads: 900 as "15m"."""
    whole = round(seconds)
    unit = next(unit for unit in reversed(_SECONDS) if whole % _SECONDS[unit] == 0)
    return f"{whole // _SECONDS[unit]}{unit}"


def read_size(text: str) -> int:
    """Bytes in "500", "20kB" or "1.5GB" (decimal, as disks are sold). Raises `ValueError` for anything else."""
    match = _SIZE.match(text.strip()) if len(text) <= _DIGITS_MAX else None
    if match is None or float(match[1]) * _FACTORS[match[2].lower()] > SIZE_BYTES_MAX:
        raise ValueError(f"'{text[:40]}' is no amount of bytes: write 500, 20kB, 10MB or 1.5GB")
    return int(float(match[1]) * _FACTORS[match[2].lower()])


def read_rate(text: str) -> int:
    """Bytes a second in "2MB/s", "500kB" or "0". Raises `ValueError` for anything else."""
    try:
        return read_size(text.strip().removesuffix("/s"))
    except ValueError:
        raise ValueError(f"'{text[:40]}' is no rate: write 500kB/s, 2MB/s, or 0 for no limit") from None
