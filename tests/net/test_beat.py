"""Two that wait for different times dial each other at once all the same."""

from hypothesis import given
from hypothesis import strategies as st

from coterie.net.beat import BEAT_S, DOUBLINGS_MAX, OPEN_S, until_beat_s

LONGEST_S = BEAT_S << DOUBLINGS_MAX
waits = st.floats(BEAT_S / 2, 100_000)
clocks = st.floats(1_700_000_000, 1_800_000_000)


@given(clocks, waits, waits, st.floats(-OPEN_S / 2, OPEN_S / 2))
def test_both_dial_within_the_time_that_a_firewall_stays_open(
    now: float, one: float, other: float, skew: float
) -> None:
    ours, theirs = [], []
    for times, wait_s, ahead in ((ours, one, 0.0), (theirs, other, skew)):
        at = now
        while at < now + 2 * LONGEST_S + BEAT_S:
            at += until_beat_s(at + ahead, wait_s)
            times.append(at)
    assert min(abs(a - b) for a in ours for b in theirs) < OPEN_S


@given(clocks, st.floats(0, 1_000_000))
def test_nobody_waits_longer_than_the_longest_period_and_short_waits_stay(now: float, wait_s: float) -> None:
    until_s = until_beat_s(now, wait_s)
    assert 0 < until_s <= LONGEST_S or until_s == wait_s == 0
    if wait_s < BEAT_S / 2:
        assert until_s == wait_s
