"""When bytes stand still: soon on a quick line, later on one that moves in chunks."""

import pytest

from coterie.transfer.motion import GAPS, STILL_S, Motion, Pace


def test_a_quick_line_is_still_after_two_seconds() -> None:
    motion = Motion(100.0)
    for step in range(20):
        motion.at(step * 1_000, 100.0 + step / 5)
    assert not motion.is_still(103.8 + STILL_S)
    assert motion.is_still(103.81 + STILL_S)
    motion.at(20_000, 110.0)
    assert not motion.is_still(111.0)


def test_a_slow_line_has_the_time_that_it_usually_takes() -> None:
    motion = Motion(0.0)
    for step in range(5):
        motion.at(step * 1_000, step * 4.0)
    assert not motion.is_still(16.0 + GAPS * 4.0)
    assert motion.is_still(16.1 + GAPS * 4.0)
    for step in range(30):  # it became quick: the long gaps are forgotten
        motion.at(10_000 + step, 20.0 + step / 5)
    assert motion.is_still(25.8 + STILL_S + 0.1)


def test_the_rate_of_what_comes_in_chunks_is_steady() -> None:
    """256 kB every 1.7 s are 150 kB/s at each look, five times a second."""
    pace, chunk = Pace(0, 0.0), 256_000
    rates = [pace.at(int(tick / 5 / 1.7) * chunk, tick / 5) for tick in range(200)]
    assert all(125_000 < rate < 175_000 for rate in rates[30:])


def test_the_rate_follows_a_quick_line_and_begins_anew_after_a_rest() -> None:
    pace = Pace(0, 0.0)
    assert [pace.at(1_000_000 * tick, tick / 5) for tick in range(1, 4)] == pytest.approx([5_000_000.0] * 3)
    for tick in range(1, 40):
        slow = pace.at(3_000_000 + 10_000 * tick, 0.6 + tick / 5)
    assert 50_000 < slow < 200_000
    pace.rest(60.0)
    assert pace.at(3_390_000, 60.2) == 0.0
    assert pace.at(3_490_000, 61.0) == pytest.approx(100_000.0)
    assert pace.at(0, 61.2) < 100_000.0  # other content
    assert Pace(7_000_000, 0.0).at(7_000_000, 0.2) == 0.0  # what came in an earlier run
