"""Rates: what goes on average, what may be saved up, what holds when."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coterie.content.limit import BURST_S, Bucket, Hours, limit_at, parse_hours
from coterie.errors import UsageError


@given(st.lists(st.integers(1, 600_000), min_size=1, max_size=200), st.floats(1e4, 1e8))
def test_the_average_is_kept(sizes: list[int], rate: float) -> None:
    bucket, now = Bucket(rate), 0.0
    for size in sizes:
        now = max(now, bucket.ready_at(now))
        bucket.take(size, now)
    assert sum(sizes[:-1]) <= rate * (now + BURST_S) * 1.001


def test_no_limit_is_no_wait() -> None:
    bucket = Bucket()
    bucket.take(10**12, 1.0)
    assert bucket.ready_at(1.0) == 1.0


def test_a_limit_that_is_set_later_holds_from_then() -> None:
    bucket = Bucket()
    bucket.take(10**9, 1.0)
    bucket.bytes_per_s = 1000
    bucket.take(1500, 2.0)
    assert bucket.ready_at(2.0) == pytest.approx(3.25)


@pytest.mark.parametrize(
    ("minute", "rate"), [(479, 7), (480, 5), (1079, 5), (1080, 7), (1320, 0), (0, 0), (359, 0), (360, 7)]
)
def test_hours_of_the_day(minute: int, rate: float) -> None:
    hours = parse_hours("08:00-18:00=5, 22:00-06:00=0")
    assert hours == (Hours(480, 1080, 5), Hours(1320, 360, 0))
    assert limit_at(7, hours, minute) == rate


@pytest.mark.parametrize(
    "text", ["8-18", "08:00-18:00", "25:00-26:00=1", "08:00-18:00=-1", "a:b-c:d=1", "08:61-09:00=1"]
)
def test_what_is_no_time_is_said(text: str) -> None:
    with pytest.raises(UsageError, match="is not like 08:00-18:00"):
        parse_hours(text)
