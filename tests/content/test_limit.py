"""Rates: what goes on average, what may be saved up, what holds when."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coterie.content.limit import (
    BURST_S,
    LOOK_S,
    SLICE_BYTES_MAX,
    SLICE_BYTES_MIN,
    SLICE_S,
    WAITS_S,
    ByteLimit,
    Flow,
    Hours,
    Portion,
    Shares,
    least,
    limit_at,
    parse_hours,
)
from coterie.errors import UsageError


@given(st.lists(st.integers(1, 600_000), min_size=1, max_size=200), st.floats(1e4, 1e8))
def test_the_average_is_kept(sizes: list[int], rate: float) -> None:
    bucket, now = ByteLimit(rate), 0.0
    for size in sizes:
        now = max(now, bucket.ready_at(now))
        bucket.take(size, now)
    assert sum(sizes[:-1]) <= rate * (now + BURST_S) * 1.001


def test_no_limit_is_no_wait() -> None:
    bucket = ByteLimit()
    bucket.take(10**12, 1.0)
    assert bucket.ready_at(1.0) == 1.0


def test_a_limit_that_is_set_later_holds_from_then() -> None:
    bucket = ByteLimit()
    bucket.take(10**9, 1.0)
    bucket.bytes_per_s = 1000
    bucket.take(1500, 2.0)
    assert bucket.ready_at(2.0) == pytest.approx(3.25)


def test_the_least_of_limits_is_one_that_is_set() -> None:
    assert least() == least(0.0, 0.0) == 0.0
    assert least(0.0, 3.0, 2.0) == 2.0


@given(st.integers(1, 3_000_000), st.floats(1e3, 1e8))
def test_what_was_let_through_whole_flows_at_the_rate(size: int, rate: float) -> None:
    flow, now, left = Flow(lambda: rate), 50.0, size
    largest = max(SLICE_BYTES_MIN, min(SLICE_BYTES_MAX, int(SLICE_S * rate)))
    while left:
        gone, wait_s = flow.take(left, now)
        assert gone <= largest
        assert (gone == 0) == (wait_s > 0)
        left -= gone
        now += wait_s
        assert size - left <= rate * (now - 50.0 + BURST_S) + largest + 1
    assert now - 50.0 <= size / rate + 0.001


def test_a_flow_without_a_limit_lets_all_go_and_looks_again_soon_when_it_has_one() -> None:
    rates = [0.0]
    flow = Flow(lambda: rates[0])
    assert not flow.is_limited
    assert flow.take(10**9, 1.0) == (10**9, 0.0)
    rates[0] = 100.0
    assert flow.is_limited
    assert flow.take(10**6, 2.0) == (SLICE_BYTES_MIN, 0.0)
    assert flow.take(10**6, 2.0) == (0, LOOK_S)
    rates[0] = 0.0
    assert flow.take(10**6, 2.0 + LOOK_S) == (10**6, 0.0)


def compete(portions: list[Portion], until: float, sizes: list[int]) -> list[int]:
    """Each takes whenever it may, as a download does: what each had by `until`."""
    had, due = [0] * len(portions), [0.0] * len(portions)
    while (now := min(due)) < until:
        n = due.index(now)
        ready = portions[n].ready_at(now)
        if ready <= now:
            portions[n].take(sizes[n], now)
            had[n] += sizes[n]
            ready = now + 1e-6
        due[n] = ready
    return had


@settings(deadline=None, max_examples=20)  # a busy machine takes its time
@given(st.permutations([4.0, 2.0, 1.0]), st.lists(st.integers(10_000, 50_000), min_size=3, max_size=3))
def test_a_limit_is_shared_by_weight(weights: list[float], sizes: list[int]) -> None:
    shares = Shares(ByteLimit(1_000_000))
    had = compete([shares.portion(w) for w in weights], 20.0, sizes)
    assert 0.98 * 20e6 < sum(had) < 1.05 * 20e6
    for size, weight in zip(had, weights, strict=True):
        assert size == pytest.approx(sum(had) * weight / 7, rel=0.1)


def test_what_one_does_not_use_is_the_others() -> None:
    """The heavy one is slowed down elsewhere to a tenth of the limit."""
    shares = Shares(ByteLimit(1_000_000))
    heavy, light = shares.portion(4.0), shares.portion(1.0)
    had_light, now, heavy_due = 0, 0.0, 0.0
    while now < 20:
        if now >= heavy_due and heavy.ready_at(now) <= now:
            heavy.take(10_000, now)
            heavy_due = now + 0.1
        if light.ready_at(now) <= now:
            light.take(10_000, now)
            had_light += 10_000
        now += 0.001
    assert had_light > 0.85 * 20e6


def test_who_was_idle_saves_nothing_up() -> None:
    shares = Shares(ByteLimit(1_000_000))
    one, other = shares.portion(1.0), shares.portion(1.0)
    compete([one], 10.0, [10_000])
    late = [10.0 + due for due in (0.0, 0.0)]
    had = [0, 0]
    while (now := min(late)) < 12.0:
        n = late.index(now)
        portion = (one, other)[n]
        if (ready := portion.ready_at(now)) <= now:
            portion.take(10_000, now)
            had[n] += 10_000
        late[n] = max(ready, now + 1e-6)
    assert had[0] == pytest.approx(had[1], rel=0.1)


def test_who_waits_and_does_not_come_back_holds_nobody_up() -> None:
    shares = Shares(ByteLimit(1_000_000))
    gone, other = shares.portion(1.0), shares.portion(1.0)
    other.take(500_000, 1.0)
    assert gone.ready_at(1.0) > 1.0
    now = other.ready_at(1.0) + 0.001
    assert other.ready_at(now) > now, "the other one's turn comes first"
    assert other.ready_at(now + WAITS_S) <= now + WAITS_S


def test_the_light_stand_back_while_there_are_heavier_ones() -> None:
    shares = Shares(ByteLimit())
    light = shares.portion(1.0)
    assert light.window_share == 1.0
    heavy = shares.portion(4.0)
    assert (light.window_share, heavy.window_share) == (0.25, 1.0)
    heavy.close()
    assert light.window_share == 1.0
    light.take(10**9, 1.0)
    assert light.ready_at(1.0) == 1.0, "no limit is no wait"


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


def test_who_cannot_wait_for_turns_has_its_part_by_weight_of_all_that_take_part() -> None:
    shares = Shares(ByteLimit(700_000))
    high, low = shares.portion(4.0), shares.portion(1.0)
    normal = shares.portion(2.0)
    assert (high.bytes_per_s, normal.bytes_per_s, low.bytes_per_s) == (400_000, 200_000, 100_000)
    high.close()
    low.weight = 2.0
    assert normal.bytes_per_s == low.bytes_per_s == 350_000
    shares.bucket.bytes_per_s = 0
    assert normal.bytes_per_s == 0  # no limit
