"""How fast lanes over long paths may send: by words of TCP that are made up, and on a simulated line."""

import pytest

from coterie.net.lanes.ceilings import (
    ASIDE_ROUND_TRIPS,
    BESIDE_GAIN,
    BESIDE_S,
    CEILING_MIN,
    DRAIN_GAIN,
    FAR_GAIN,
    FILLED_GAIN,
    FILLED_ROUND_TRIPS,
    GIVE_LITTLE,
    GIVE_WAY,
    LARGE_QUEUE_US,
    MORE_MAX,
    OWN_ROUND_TRIPS,
    PEAK_S,
    SHARE_MIN,
    SMALL_QUEUE_US,
    SQUEEZED,
    START_BYTES,
    START_DRAINS_ROUND_TRIPS,
    START_GAIN,
    STEADY_GAIN,
    Ceiling,
    LossCeiling,
)
from coterie.net.lanes.choice import FAR_US, PathSeen
from tests.net.lanes.line import Line

MB = 1_000_000


def path_seen(rtt_ms: float, window: int = MB) -> PathSeen:
    """A path of 100 ms when its queue is empty."""
    return PathSeen(1, 0, int(1000 * rtt_ms), 100_000, window)


def rates(*path: tuple[float, int, float], start: float = 0.0) -> list[int]:
    """The limits of a path of 100 ms: (seconds, bytes a second that arrive, round trip in ms)."""
    ceiling = Ceiling()
    return [ceiling.limit(path_seen(rtt), rate, start + at) for at, rate, rtt in path]


def test_a_lane_that_goes_by_the_rate_is_not_limited_before_its_path_is_full() -> None:
    assert rates((0.0, MB, 100), (0.5, 10 * MB, 101), (0.6, 9 * MB, 102)) == [0, 0, 0]


def test_once_the_path_is_full_little_more_is_sent_than_arrives_and_later_enough_to_find_more() -> None:
    draining = FILLED_ROUND_TRIPS * 0.1
    found = rates((0.0, 10 * MB, 150), (draining - 0.01, 8 * MB, 101), (draining + 0.01, 8 * MB, 101))
    assert found == [int(FILLED_GAIN * 10 * MB)] * 2 + [int(STEADY_GAIN * 10 * MB)]


def test_over_a_far_path_little_more_is_sent_than_arrives_at_any_time_and_less_with_a_queue() -> None:
    """Measured, 150 ms and 0.5 % lost: three of four packets that had to be sent again were lost to our own queue."""
    ceiling, least_ms = Ceiling(), FAR_US / 1000
    found = [
        ceiling.limit(PathSeen(1, 0, int(1000 * (least_ms + queue_ms)), FAR_US), 10 * MB, at)
        for at, queue_ms in ((0.0, 1), (0.1, 30), (0.2, 0), (4.0, 0), (4.1, 10))
    ]
    half = (FAR_GAIN + DRAIN_GAIN) / 2
    assert found == [0, *(int(gain * 10 * MB) for gain in (DRAIN_GAIN, FAR_GAIN, FAR_GAIN, half))]


def test_a_rate_of_long_ago_is_forgotten() -> None:
    found = rates((0.0, 10 * MB, 150), (PEAK_S + 1, MB, 101), (2 * PEAK_S + 2, MB, 101), start=100.0)
    assert found[1:] == [int(STEADY_GAIN * 10 * MB), int(STEADY_GAIN * MB)]
    assert rates((0.0, 1, 150)) == [CEILING_MIN]


# ---- a lane over a long path that goes by losses

SMALL, LARGE = 100 + SMALL_QUEUE_US / 1000, 101 + LARGE_QUEUE_US / 1000  # round trips in ms


def limits(
    *path: tuple[float, int, float], start: float = 0.0, window: int = MB, started: bool = False
) -> list[float]:
    """The limits, in parts of 10 MB/s: (seconds, megabytes a second that arrive, round trip in ms).

    `started`: the path was full before.
    """
    ceiling = LossCeiling()
    if started:
        ceiling.limit(path_seen(SMALL + 1), path[0][1] * MB, start - START_DRAINS_ROUND_TRIPS * 0.1)
    return [
        round(ceiling.limit(path_seen(rtt, window), rate * MB, start + at) / (10 * MB), 3)
        for at, rate, rtt in path
    ]


def test_a_window_is_spread_over_most_of_its_round_trip_once_it_is_large() -> None:
    assert limits((0.0, 1, 100), window=START_BYTES - 1) == [0]
    found = limits((0.0, 1, 100), (0.1, 1, 105))
    assert found == [START_GAIN, round(START_GAIN / 1.05, 3)]


def test_a_round_trip_that_grows_ends_the_start_and_little_more_is_sent_than_arrives() -> None:
    before, at_small, after = limits((0.0, 10, 100), (0.1, 10, SMALL + 1), (0.2, 10, 100))
    assert before == START_GAIN
    assert 0.95 < at_small < 1
    assert 1.03 < after < 1 + MORE_MAX


def test_who_sends_little_tries_the_larger_part_more() -> None:
    assert limits((0.0, 1, SMALL + 1), (0.1, 1, 100))[1] == pytest.approx(0.1 * (1 + MORE_MAX))


def test_a_large_queue_is_drained() -> None:
    assert limits((0.0, 10, LARGE), (0.1, 10, LARGE + 50)) == [DRAIN_GAIN] * 2


def test_a_large_queue_that_does_not_drain_is_of_others_who_are_given_way_down_to_a_bound() -> None:
    own = OWN_ROUND_TRIPS * 0.1
    path = [(at * 0.05, 10, LARGE) for at in range(18)]
    assert limits((0.0, 10, LARGE), (own, 10, LARGE), (own + 0.1, 10, LARGE), started=True) == [
        DRAIN_GAIN,
        DRAIN_GAIN,
        pytest.approx(DRAIN_GAIN * GIVE_WAY, abs=0.001),
    ]
    assert limits(*path, started=True)[-1] == pytest.approx(DRAIN_GAIN * SHARE_MIN)


def test_the_queue_of_its_own_start_makes_no_lane_give_way() -> None:
    """Measured over 150 ms: a start that gave way to itself sent 0.75 of the line, and took 1.2 s to come back."""
    own = [(at * 0.05, 10, LARGE) for at in range(2 * START_DRAINS_ROUND_TRIPS + 1)]
    assert limits(*own) == [DRAIN_GAIN] * len(own)
    assert limits(*own, *((at + 0.5, 10, LARGE) for at, _, _ in own))[-1] < DRAIN_GAIN


def test_who_gave_way_comes_back_once_the_queue_is_gone_and_knows_what_it_had() -> None:
    gone = 2 * PEAK_S
    path = [(0.05 * n, 10, LARGE) for n in range(10)] + [
        (0.5 + 0.05 * n, 5, 100) for n in range(int(20 * gone))
    ]
    found = limits(*path, started=True)
    assert min(found) < 0.6
    assert found[11] < found[40] < found[80]
    assert found[-1] > 1


def test_a_small_queue_with_less_arriving_than_before_is_of_others_too() -> None:
    less = int(10 * SQUEEZED) - 1
    squeezed = limits((0.0, 10, SMALL + 1), (0.1, less, SMALL + 1), (1.1, less, SMALL + 1))
    alone = limits((0.0, 10, SMALL + 1), (0.1, 10, SMALL + 1), (1.1, 10, SMALL + 1))
    assert alone[0] == alone[2]
    assert squeezed[2] == pytest.approx(alone[2] * GIVE_LITTLE**11, abs=0.001)


def test_where_giving_way_does_not_drain_the_queue_losses_decide_for_a_while() -> None:
    aside = ASIDE_ROUND_TRIPS * 0.1
    path = [(at * 0.01, 4, LARGE) for at in range(1, round(100 * aside) + 2)]
    ends = aside + 0.01 + BESIDE_S
    later = [(aside + 0.02, 4, LARGE), (ends - 0.01, 4, LARGE), (ends + 0.01, 4, LARGE)]
    found = limits((0.0, 10, LARGE), *path, *later, started=True)
    assert found[len(path) - 1] == pytest.approx(DRAIN_GAIN * SHARE_MIN, abs=0.001)
    assert found[-3:-1] == [0.4 * BESIDE_GAIN] * 2
    assert found[-1] == DRAIN_GAIN


def test_a_rate_of_long_ago_is_forgotten_by_who_holds_nothing_back() -> None:
    path = [(at, 10 if at < 1 else 5, SMALL) for at in range(int(2 * PEAK_S) + 2)]
    found = limits(*path, (30.0, 5, SMALL + 1), start=50.0)
    assert found[-1] < 0.55
    assert LossCeiling().limit(path_seen(LARGE), 0, 0.0) == CEILING_MIN


# ---- on a line of 100 Mbit/s whose queue holds 50 ms

RATE = 12_000_000.0


def ocean(rtt_s: float = 0.15, queue_s: float = 0.05) -> Line:
    return Line(RATE, rtt_s, queue_s)


@pytest.mark.parametrize(
    ("rtt_s", "queue_s"), [(0.07, 0.05), (0.15, 0.02), (0.15, 0.05), (0.15, 0.2), (0.3, 0.05)]
)
def test_a_lane_alone_fills_a_long_line_and_keeps_its_queue_short(rtt_s: float, queue_s: float) -> None:
    line = ocean(rtt_s, queue_s)
    lane = line.add(LossCeiling())
    line.run(60 * rtt_s)
    lost = lane.lost
    assert line.run(20.0)[0] > 0.98
    assert lane.lost == lost
    assert line.waiting < 0.015 * RATE


@pytest.mark.parametrize("rtt_s", [0.07, 0.15, 0.3])
@pytest.mark.parametrize("after_s", [4.0, 8.0])
def test_a_plain_tcp_that_begins_beside_a_lane_gets_its_part(after_s: float, rtt_s: float) -> None:
    """Without giving way it gets 0.03 to 0.1: it meets a queue, loses its start, and TCP grows slowly then."""
    line = ocean(rtt_s)
    line.add(LossCeiling())
    line.run(after_s)
    line.add()
    line.run(1.0)
    lane, plain = line.run(160 * rtt_s)
    assert plain >= 0.3
    assert lane >= 0.3


def test_a_lane_beside_two_plain_tcps_is_neither_starved_nor_greedy() -> None:
    line = ocean()
    line.add(LossCeiling())
    line.run(6.0)
    line.add()
    line.add()
    line.run(30.0)
    lane, one, other = line.run(20.0)
    assert min(one, other) >= 0.2
    assert lane >= 0.15


def test_two_lanes_come_to_similar_parts() -> None:
    line = ocean()
    line.add(LossCeiling())
    line.run(6.0)
    line.add(LossCeiling())
    line.run(30.0)
    assert min(line.run(20.0)) > 0.35


def test_a_lane_that_begins_beside_a_plain_tcp_gets_as_much_as_another_tcp_would() -> None:
    parts = []
    for ceiling in (LossCeiling(), None):
        line = ocean()
        line.add()
        line.run(6.0)
        line.add(ceiling)
        line.run(1.0)
        parts.append(line.run(40.0)[1])
    assert parts[0] >= 0.7 * parts[1]


def test_a_lane_takes_the_line_again_when_the_other_has_gone() -> None:
    line = ocean()
    line.add(LossCeiling())
    line.run(4.0)
    line.add()
    line.run(20.0)
    line.tcps.pop()
    line.run(6.0)
    assert line.run(4.0)[0] > 0.95


@pytest.mark.parametrize("less", [0.8, 0.5])
def test_a_line_that_gives_less_than_before_is_filled_all_the_same(less: float) -> None:
    """As a mobile one: the queue that grows is nobody else's."""
    line = ocean()
    line.add(LossCeiling())
    line.run(6.0)
    line.rate *= less
    line.run(3.0)
    assert line.run(10.0)[0] > 0.9


def test_a_line_that_becomes_longer_is_filled_again() -> None:
    """No queue: what passed the least round trip is another way."""
    line = ocean(0.07)
    line.add(LossCeiling())
    line.run(6.0)
    line.rtt_s = 0.15
    line.run(3.0)
    assert line.run(30.0)[0] > 0.8
