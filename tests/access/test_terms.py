"""Terms: when they hold, when they may change, and which are within which."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as some

from coterie.access.terms import DAY_MINUTES, Terms

HOUR = 3_600
minutes = some.integers(0, DAY_MINUTES - 1)


def test_without_conditions_it_always_holds() -> None:
    assert Terms().holds(0, 0)
    assert Terms().holds(1e12, -HOUR)
    assert Terms().until(5, 0) == math.inf


def test_from_its_beginning_to_its_end() -> None:
    terms = Terms(starts=100, expires=200)
    assert [terms.holds(t, 0) for t in (99.9, 100, 199.9, 200)] == [False, True, True, False]
    assert [terms.until(t, 0) for t in (50, 100, 200)] == [100, 200, math.inf]
    assert "expired" in str(terms.why_not(200, 0))
    assert "not begun" in str(terms.why_not(0, 0))


def test_at_its_times_of_day_in_local_time() -> None:
    terms = Terms(from_minute=8 * 60, to_minute=20 * 60)
    assert [terms.holds(h * HOUR, 0) for h in (7, 8, 19, 20)] == [False, True, True, False]
    assert [terms.holds(h * HOUR, 2 * HOUR) for h in (5, 6, 17, 18)] == [False, True, True, False]
    assert "08:00 to 20:00" in str(terms.why_not(0, 0))


def test_over_midnight() -> None:
    terms = Terms(from_minute=22 * 60, to_minute=6 * 60)
    assert [terms.holds(h * HOUR, 0) for h in (21, 22, 24, 29.9, 30)] == [False, True, True, True, False]


@given(minutes, minutes, some.floats(0, 4e9), some.integers(-12, 14))
def test_until_is_the_next_moment_of_another_answer(begin: int, end: int, now: float, zone: int) -> None:
    terms = Terms(from_minute=begin, to_minute=end)
    until = terms.until(now, zone * HOUR)
    holds = terms.holds(now, zone * HOUR)
    if until == math.inf:
        assert begin == end
        return
    assert now < until <= now + 86_400 + 60
    assert terms.holds(until + 0.01, zone * HOUR) != holds
    assert terms.holds((now + until) / 2, zone * HOUR) == holds


@given(minutes, minutes, minutes, minutes)
def test_hours_within_hours_allow_no_minute_more(a: int, b: int, c: int, d: int) -> None:
    narrow, wide = Terms(from_minute=a, to_minute=b), Terms(from_minute=c, to_minute=d)
    more = [m for m in range(0, DAY_MINUTES) if narrow.holds(60 * m, 0) and not wide.holds(60 * m, 0)]
    assert narrow.within(wide) == (not more)


@pytest.mark.parametrize(
    ("narrow", "wide", "is_within"),
    [
        (Terms(), Terms(), True),
        (Terms(expires=5), Terms(), True),
        (Terms(), Terms(expires=5), False),
        (Terms(starts=4), Terms(starts=5), False),
        (Terms(quota_bytes=5), Terms(quota_bytes=5), True),
        (Terms(quota_bytes=0), Terms(quota_bytes=5), False),
        (Terms(rate_bytes_s=6), Terms(rate_bytes_s=5), False),
        (Terms(rate_bytes_s=5), Terms(), True),
    ],
)
def test_within(narrow: Terms, wide: Terms, is_within: bool) -> None:
    assert narrow.within(wide) == is_within


def test_conditions_in_words() -> None:
    assert Terms(0, 9, 60, 120, 5, 7).say() == ["01:00 to 02:00", "5 B/s", "7 B in all"]
    assert Terms().say() == []
