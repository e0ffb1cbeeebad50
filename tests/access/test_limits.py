"""What people write for amounts and times of day."""

import pytest

from coterie.access.limits import read_amount, read_hours, read_limits
from coterie.errors import UsageError


@pytest.mark.parametrize(
    ("text", "size"), [("500", 500), ("20kB", 20_000), ("10mb", 10_000_000), ("1.5G", 1_500_000_000)]
)
def test_amounts(text: str, size: int) -> None:
    assert read_amount(text) == size


@pytest.mark.parametrize("text", ["", "0", "0.1", "-5", "MB", "5 apples"])
def test_what_is_no_amount(text: str) -> None:
    with pytest.raises(UsageError, match="no amount"):
        read_amount(text)


def test_hours() -> None:
    assert read_hours("08:00-20:30") == (480, 1_230)
    assert read_hours("22:00-6:00") == (1_320, 360)
    assert read_hours("20:00-24:00") == (1_200, 0)


@pytest.mark.parametrize(
    "text", ["8-20", "08:00", "08:60-20:00", "25:00-26:00", "08:00-08:00", "00:00-24:00"]
)
def test_what_are_no_hours(text: str) -> None:
    with pytest.raises(UsageError, match="no time of day"):
        read_hours(text)


def test_limits() -> None:
    assert read_limits([]) == (None, 0, 0)
    assert read_limits(["08:00-20:00", "2MB/s", "10GB"]) == ((480, 1_200), 2_000_000, 10_000_000_000)
