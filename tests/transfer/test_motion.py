"""When bytes stand still: soon on a quick line, later on one that moves in chunks."""

from coterie.transfer.motion import GAPS, STILL_S, Motion


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
