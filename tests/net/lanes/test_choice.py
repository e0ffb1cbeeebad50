"""When bulk goes over a lane: the rule, in made-up time."""

from coterie.net.lanes.choice import (
    AFTER_BYTES,
    AFTER_S,
    EXPECTED_TIMES,
    FAR_US,
    LOOK_SEGMENTS,
    LOOK_SEGMENTS_FAR,
    LOSSY_IN_ROW,
    LOST_FAR,
    MEASURE_BYTES,
    QUEUE_US_MAX,
    RETRY_FIRST_S,
    RETRY_MAX_S,
    STEADY_US,
    TRIAL_BYTES,
    WORSE,
    LaneChoice,
    LossWatch,
    PathSeen,
)

MB = 1_000_000


def measured(rate: float) -> LaneChoice:
    """A choice that has seen the stream give `rate` bytes a second, and enough of them."""
    choice = LaneChoice()
    for _ in range(16):
        choice.sent_by_stream(MEASURE_BYTES, MEASURE_BYTES / rate)
    return choice


def test_a_small_transfer_makes_no_lane() -> None:
    choice = LaneChoice()
    choice.sent_by_stream(AFTER_BYTES - 1, AFTER_S / 2)
    assert not choice.wants_lane(0.0)
    choice.sent_by_stream(1, 0.0)
    assert choice.wants_lane(0.0)


def test_a_slow_path_gets_a_lane_before_it_has_carried_so_much() -> None:
    choice = LaneChoice()
    choice.sent_by_stream(100_000, AFTER_S * 0.99)
    assert not choice.wants_lane(0.0)
    choice.sent_by_stream(1000, AFTER_S * 0.02)
    assert choice.wants_lane(0.0)


def test_a_faster_lane_is_kept() -> None:
    choice = measured(200 * MB)
    for _ in range(10):
        assert choice.sent_by_lane(TRIAL_BYTES, TRIAL_BYTES / (500 * MB), 1.0)
    assert choice.wants_lane(1.0)


def test_a_slower_lane_is_left_and_tried_again_later() -> None:
    choice = measured(200 * MB)
    assert not choice.sent_by_lane(TRIAL_BYTES, TRIAL_BYTES / (100 * MB), 5.0)
    assert not choice.wants_lane(5.0)
    assert not choice.wants_lane(5.0 + RETRY_FIRST_S - 0.1)
    assert choice.wants_lane(5.0 + RETRY_FIRST_S)


def test_noise_is_no_reason_to_leave() -> None:
    choice = measured(200 * MB)
    assert choice.sent_by_lane(TRIAL_BYTES, TRIAL_BYTES / (200 * MB * WORSE * 1.01), 0.0)
    assert not choice.sent_by_lane(TRIAL_BYTES, TRIAL_BYTES / (200 * MB * WORSE * 0.99), 0.0)


def test_a_lane_is_judged_only_after_its_trial() -> None:
    choice = measured(200 * MB)
    assert choice.sent_by_lane(TRIAL_BYTES - 1, 100.0, 0.0)
    assert not choice.sent_by_lane(1, 0.0, 0.0)


def test_a_lane_is_kept_when_the_stream_was_not_measured() -> None:
    assert LaneChoice(0).sent_by_lane(TRIAL_BYTES, 100.0, 0.0)


def test_a_broken_lane_is_not_tried_at_once() -> None:
    choice = measured(200 * MB)
    choice.failed(10.0)
    assert not choice.wants_lane(10.0 + RETRY_FIRST_S - 0.1)
    assert choice.wants_lane(10.0 + RETRY_FIRST_S)


def test_what_a_broken_lane_carried_does_not_count_for_the_next() -> None:
    choice = measured(200 * MB)
    choice.sent_by_lane(TRIAL_BYTES - 1, 1000.0, 0.0)
    choice.failed(0.0)
    assert choice.sent_by_lane(TRIAL_BYTES, TRIAL_BYTES / (500 * MB), RETRY_FIRST_S)


def test_the_streams_rate_follows_what_it_gives() -> None:
    choice = measured(200 * MB)
    for _ in range(16):
        choice.sent_by_stream(MEASURE_BYTES, MEASURE_BYTES / (20 * MB))
    assert 19 * MB < choice.stream_rate < 21 * MB


def test_each_failure_in_a_row_is_waited_out_twice_as_long_up_to_a_bound() -> None:
    choice, now = measured(200 * MB), 0.0
    for wait_s in (RETRY_FIRST_S, 2 * RETRY_FIRST_S, 4 * RETRY_FIRST_S):
        choice.failed(now)
        assert not choice.wants_lane(now + wait_s - 0.1)
        now += wait_s
        assert choice.wants_lane(now)
    for _ in range(10):
        choice.failed(now)
    assert not choice.wants_lane(now + RETRY_MAX_S - 0.1)
    assert choice.wants_lane(now + RETRY_MAX_S)


def test_who_expects_to_write_much_has_a_lane_from_the_beginning() -> None:
    choice = LaneChoice()
    choice.expect(EXPECTED_TIMES * AFTER_BYTES)
    assert not choice.wants_lane(0.0)
    choice.expect(EXPECTED_TIMES * AFTER_BYTES + 1)
    choice.expect(0)  # another stream
    assert choice.wants_lane(0.0)
    choice.failed(0.0)
    assert not choice.wants_lane(RETRY_FIRST_S - 0.1)


def test_a_lane_that_proved_good_makes_failures_forgotten() -> None:
    choice = measured(200 * MB)
    for _ in range(10):
        choice.failed(0.0)
    assert choice.sent_by_lane(TRIAL_BYTES, TRIAL_BYTES / (500 * MB), RETRY_MAX_S)
    choice.failed(100.0)
    assert choice.wants_lane(100.0 + RETRY_FIRST_S)


def seen(sent: int, repeated: int, rtt_ms: float, least_ms: float) -> PathSeen:
    return PathSeen(sent, repeated, int(1000 * rtt_ms), int(1000 * least_ms))


def judged(*path: PathSeen, beside_rate_based: bool = False) -> list[bool]:
    watch = LossWatch()
    return [watch.is_lossy(one, beside_rate_based=beside_rate_based) for one in path]


def lost_alone(judgements: int) -> list[PathSeen]:
    """Packets vanish while no queue grows."""
    return [seen(n * LOOK_SEGMENTS, 2 * n, 101, 100) for n in range(1, judgements + 1)]


def test_packets_that_vanish_while_no_queue_grows_are_loss() -> None:
    assert judged(*lost_alone(LOSSY_IN_ROW)) == [False] * (LOSSY_IN_ROW - 1) + [True]


def test_packets_that_are_lost_behind_a_queue_are_not() -> None:
    assert not any(judged(*(seen(n * LOOK_SEGMENTS, 20 * n, 60, 20) for n in range(1, 9))))


def test_a_queue_that_came_and_went_is_remembered_until_the_next_judgement() -> None:
    path = []
    for n in range(0, 8 * LOOK_SEGMENTS, LOOK_SEGMENTS):
        path += [seen(n + 50, n // 5, 60, 20), seen(n + LOOK_SEGMENTS, n // 5 + 20, 21, 20)]
    assert not any(judged(*path))
    after = [
        seen(path[-1].segments + one.segments, path[-1].repeated + one.repeated, 101, 100)
        for one in lost_alone(LOSSY_IN_ROW)
    ]
    assert judged(*path, *after)[-1]


def test_loss_now_and_then_is_chance() -> None:
    path = []
    for n in range(0, 16, 2):
        lost = 10 * n
        path += [
            seen((n + 1) * LOOK_SEGMENTS, lost + 20, 21, 20),
            seen((n + 2) * LOOK_SEGMENTS, lost + 20, 21, 20),
        ]
    assert not any(judged(*path))


def test_beside_lanes_that_go_by_the_rate_a_lane_that_loses_follows_at_once() -> None:
    assert judged(seen(LOOK_SEGMENTS, 20, 60, 20), beside_rate_based=True) == [True]
    assert not any(judged(*(seen(n * LOOK_SEGMENTS, 0, 60, 20) for n in range(1, 9)), beside_rate_based=True))


def test_a_path_without_loss_is_left_alone() -> None:
    assert not any(judged(*(seen(n * LOOK_SEGMENTS, 0, 100, 100) for n in range(1, 9))))
    assert not any(judged(*(seen(100 * n * LOOK_SEGMENTS, 10 * n, 100, 100) for n in range(1, 9))))


def test_too_little_tells_nothing_and_is_judged_with_what_follows() -> None:
    *path, last = lost_alone(LOSSY_IN_ROW)
    too_early = seen(last.segments - 1, 50, 100, 100)
    assert judged(*path, too_early, last) == [False] * LOSSY_IN_ROW + [True]


def test_old_loss_is_forgotten() -> None:
    """That of the start: TCP has to fill the queue once to find how wide the path is."""
    path = [seen(LOOK_SEGMENTS, 50, 60, 20)] + [seen(n * LOOK_SEGMENTS, 50, 21, 20) for n in range(2, 9)]
    assert not any(judged(*path))


def far(sent: int, repeated: int, rtt_ms: float) -> PathSeen:
    return seen(sent, repeated, rtt_ms, FAR_US / 1000)


FAR_MS = FAR_US / 1000
QUEUED_MS = FAR_MS + QUEUE_US_MAX / 1000 + 1
UNSTEADY_MS = FAR_MS + STEADY_US / 1000 + 1


def test_on_a_far_path_that_never_had_a_queue_one_loss_is_enough() -> None:
    steady = [far(n, 0, FAR_MS + 1) for n in range(0, 200, LOOK_SEGMENTS_FAR)]
    assert judged(*steady, far(200, 1, FAR_MS + 1))[-1]


def test_on_a_far_path_whose_round_trip_changed_two_looks_have_to_see_loss() -> None:
    path = [far(100, 0, UNSTEADY_MS), far(200, 1, FAR_MS), far(300, 1, FAR_MS), far(400, 2, FAR_MS)]
    assert judged(*path) == [False, False, False, True]


def test_on_a_far_path_a_queue_makes_what_was_lost_before_forgotten() -> None:
    path = [far(100, 0, UNSTEADY_MS), far(200, 1, FAR_MS), far(300, 20, QUEUED_MS), far(400, 21, FAR_MS)]
    assert not any(judged(*path))
    assert judged(*path, far(500, 22, FAR_MS))[-1]


def test_on_a_far_path_loss_now_and_then_is_chance() -> None:
    assert not any(judged(*(far(n * 1000, n, FAR_MS) for n in range(1, 50))))
    assert LOST_FAR > 1 / 1000


def test_a_queue_of_fifty_milliseconds_is_seen_however_long_the_path() -> None:
    assert far(1, 0, QUEUED_MS).has_queue
    assert seen(1, 0, 640, 600).has_queue
    assert not seen(1, 0, 620, 600).has_queue
    assert not seen(1, 0, 24, 20).has_queue
