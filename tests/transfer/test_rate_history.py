"""The rates of the last seconds."""

from coterie.transfer.rate_history import RATES_MAX, RateHistory


def test_a_second_has_one_number_and_a_gap_is_nothing() -> None:
    history = RateHistory()
    for now, rate in ((10.0, 1.0), (10.9, 2.4), (11.0, 3.0), (14.2, 4.0)):
        history.note(now, rate)
    assert history.per_second() == [2, 3, 0, 0, 4]


def test_one_second_more_than_is_remembered_drops_the_oldest() -> None:
    history = RateHistory()
    for second in range(RATES_MAX + 1):
        history.note(float(second), float(second))
    assert history.per_second() == [float(second) for second in range(1, RATES_MAX + 1)]
    history.note(1e9, 7.0)
    assert history.per_second() == [0] * (RATES_MAX - 1) + [7]


def test_a_clock_that_goes_back_changes_the_last_second_only() -> None:
    history = RateHistory()
    history.note(5.0, 1.0)
    history.note(3.0, 2.0)
    assert history.per_second() == [2]
