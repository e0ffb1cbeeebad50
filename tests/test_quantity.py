"""What people write for durations, sizes and rates, and how it is written for them."""

import pytest
from hypothesis import given
from hypothesis import strategies as some

from coterie.quantity import (
    LEFT_S_MAX,
    read_duration,
    read_rate,
    read_size,
    say_bytes,
    seconds_left,
    write_duration,
)


@given(some.integers(1, 10**8))
def test_a_duration_is_read_as_it_was_written(seconds: int) -> None:
    assert read_duration(write_duration(seconds)) == seconds


def test_durations_in_their_largest_unit() -> None:
    assert [write_duration(s) for s in (1, 90, 900, 3_600, 604_800)] == ["1s", "90s", "15m", "1h", "1w"]


def test_a_time_to_go_is_told_only_where_somebody_can_plan_by_it() -> None:
    """A line that went dead left "105721 h 40 min left" behind."""
    assert seconds_left(440_000_000, 36_200_000.0) == 12.2
    assert seconds_left(0, 1.0) == 0.0
    assert seconds_left(LEFT_S_MAX, 1.0) == LEFT_S_MAX
    assert seconds_left(LEFT_S_MAX + 1, 1.0) is None
    assert seconds_left(440_000_000, 0.0) is None


def test_rates() -> None:
    assert [read_rate(t) for t in ("0", "20000", "500kB/s", " 2MB/s", "1.5g")] == [
        0, 20_000, 500_000, 2_000_000, 1_500_000_000,
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["", "fast", "-1", "2MB/h", "1e9", "9" * 5_000, "2 MB / s"])
def test_what_is_no_rate(text: str) -> None:
    with pytest.raises(ValueError, match="is no rate: write 500kB/s"):
        read_rate(text)


@pytest.mark.parametrize("text", ["9" * 16, "1.", ".5", "KiB", "5 apples"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="no amount of bytes"):
        read_size(text)


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (999_949, "999.9 kB"),
        (999_951, "1.0 MB"),
        (1.5e18, "1500.0 PB"),
    ],
)
def test_amounts(count: float, said: str) -> None:
    assert say_bytes(count) == said
