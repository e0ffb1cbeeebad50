"""How likely peers answer: a curve, and what is learned from those that were asked."""

import pytest

from coterie.overlay.kademlia.odds import LEFT_S, ODDS_MIN, PACE_MAX, UNKNOWN_S, Odds, odds


def test_the_longer_ago_the_less_likely_and_never_below_the_bound() -> None:
    values = [odds(age_s, 1.0) for age_s in (0, 60, 600, 1_200, 10**9)]
    assert values[0] == 1.0
    assert values == sorted(values, reverse=True)
    assert values[-1] == ODDS_MIN
    assert odds(None, 1.0) == odds(UNKNOWN_S, 1.0)


def test_where_nobody_leaves_age_says_nothing_after_a_while() -> None:
    learned = Odds()
    for _ in range(500):
        learned.note(1_800, answered=True)
    assert learned.pace < 0.05
    assert odds(3_600, learned.pace) > 0.9


@pytest.mark.parametrize("pace", [0.5, 1.0, 2.0])
def test_the_pace_is_learned_from_outcomes(pace: float) -> None:
    learned = Odds()
    for number in range(2_000):
        age_s = 300
        learned.note(age_s, answered=number % 100 < 100 * odds(age_s, pace))
    assert learned.pace == pytest.approx(pace, rel=0.2)


def test_the_pace_is_bounded() -> None:
    learned = Odds()
    for _ in range(1_000):
        learned.note(0, answered=False)
    assert learned.pace == PACE_MAX
    assert odds(int(LEFT_S), learned.pace) == ODDS_MIN
