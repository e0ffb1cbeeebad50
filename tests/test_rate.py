"""The limiter of rates: its burst, its average, debts, and a table of them that does not grow."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coterie.errors import UsageError
from coterie.rate import Rate, RateTable


def test_the_burst_goes_at_once_then_the_rate_and_a_clock_that_goes_back_gives_nothing() -> None:
    rate = Rate(per_s=2, burst=3)
    assert [rate.take(100) for _ in range(4)] == [True, True, True, False]
    assert [rate.take(100.5), rate.take(100.5)] == [True, False]
    assert not rate.take(50)
    assert [rate.take(1_000) for _ in range(4)] == [True, True, True, False]


def test_what_does_not_fit_whole_is_not_taken_in_part() -> None:
    rate = Rate(per_s=1, burst=3)
    assert not rate.take(0.0, 4)
    assert rate.take(0.0, 3)


def test_a_debt_is_told_in_seconds_and_paid_before_anything_is_taken() -> None:
    rate = Rate(per_s=10, burst=5)
    assert rate.spend(0.0, 5) == 0.0
    assert rate.spend(0.0, 20) == 2.0
    assert rate.ready_at(0.5) == 2.0
    assert not rate.take(1.9, 0.5)
    assert rate.take(2.1, 1)


def test_a_rate_of_nothing_never_pays_its_debt() -> None:
    assert Rate(per_s=0, burst=1).spend(0.0, 2) == float("inf")


def test_figures_change_and_what_was_saved_up_is_cut_to_the_new_burst() -> None:
    rate = Rate(per_s=1, burst=100)
    rate.change(per_s=1, burst=2)
    assert [rate.take(0.0) for _ in range(3)] == [True, True, False]


@settings(deadline=None)  # a busy machine takes its time
@given(st.lists(st.tuples(st.floats(0, 10), st.floats(0.1, 50)), max_size=100))
def test_never_more_than_the_burst_and_the_rate_over_all_the_time(steps: list[tuple[float, float]]) -> None:
    rate, now, taken = Rate(per_s=5, burst=20), 0.0, 0.0
    for wait, amount in steps:
        now += wait
        taken += amount if rate.take(now, amount) else 0.0
    assert taken <= 20 + 5 * now + 1e-6


def test_the_table_holds_so_many_keys_and_forgets_the_one_not_seen_longest() -> None:
    table: RateTable[str, Rate] = RateTable(2, lambda key: Rate(0, len(key)))
    assert table.of("a").take(0.0)
    assert not table.of("a").take(0.0)
    table.of("b")
    assert not table.of("a").take(0.0)
    table.of("c")
    assert len(table) == 2
    assert not table.of("a").take(0.0)
    assert table.of("b").take(0.0)


def test_a_table_without_room_is_refused() -> None:
    with pytest.raises(UsageError):
        RateTable(0, lambda key: key)
