"""1,000 random histories: nothing lost, nothing doubled, everything in order, whatever the network and liars do."""

import logging
from collections.abc import Iterator
from random import Random

import pytest

from tests.services.mail.histories import ANNA, BEN, BEN2, History, begin, meet_for_seconds

BUSY_S = 60.0
WITHIN_S = 3_000.0


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Apps fail by the thousand here, and each is logged."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def play(seed: int, *, real_seals: bool = False) -> History:
    """A history to its end."""
    history = begin(seed, real_seals=real_seals)
    random = Random(f"{seed}/posts")
    world = history.world
    kinds = [
        *[(ANNA, (BEN,), "a")] * 6,
        *[(ANNA, (BEN,), "b")] * 4,
        *[(ANNA, (BEN,), "unordered")] * 4,
        *[(ANNA, (BEN, BEN2), "first")] * 4,
        *[(BEN, (ANNA,), "back")] * 4,
    ]
    random.shuffle(kinds)
    for sender, addressees, stream in kinds:
        world.schedule(
            BUSY_S * random.random(),
            lambda s=sender, a=addressees, t=stream: world.is_up(s) and history.post(s, a, t),  # type: ignore[misc]
        )
    meet_for_seconds(history, BUSY_S)
    world.run(BUSY_S + 30)
    world.run_until(history.is_over, timeout_s=WITHIN_S, step_s=20)
    world.run(world.now + 60)  # what liars bring afterwards
    return history


def check(history: History) -> None:
    """Raises `AssertionError` where a letter is lost, doubled or out of order, or its sender told something else."""
    kept, taken = history.kept(), {history.ids[e.id] for e in history.ended() if e.is_taken}
    assert not [e for e in history.ended() if not e.is_taken]
    everything: list[bytes] = []
    for (sender, stream), posted in history.posted.items():
        by_reader = [history.got(r, stream) for r in ((ANNA,) if sender == BEN else (BEN, BEN2))]
        got = [body for bodies in by_reader for body in bodies]
        everything += got
        assert len(got) == len({*got}), "doubled"
        assert {*posted} >= {*got} >= {*posted} & kept, "lost"
        if not stream.startswith("unordered") and stream != "first":
            assert all(bodies == sorted(bodies, key=posted.index) for bodies in by_reader), "out of order"
    assert taken <= {*everything}, "told to be taken, and is not"


def check_all(seeds: range) -> None:
    for seed in seeds:
        try:
            check(play(seed))
        except AssertionError as error:
            error.add_note(f"seed {seed}")
            raise


def test_a_hundred_histories() -> None:
    check_all(range(100))


@pytest.mark.slow
def test_the_rest_of_a_thousand_histories() -> None:
    check_all(range(100, 1_000))


@pytest.mark.parametrize("seed", range(3))
def test_histories_with_real_seals(seed: int) -> None:
    check(play(seed, real_seals=True))


def test_one_seed_gives_one_history() -> None:
    assert play(7).world.digest == play(7).world.digest


@pytest.mark.parametrize("first", range(0, 60, 20))
def test_letters_that_expire_are_told_and_hold_no_others_up(first: int) -> None:
    """Some last for seconds: each is with its reader, or told to have ended; the others come, in order."""
    for seed in range(first, first + 20):
        history, random = begin(seed), Random(f"{seed}/posts")
        world, short = history.world, list[bytes]()

        def post(lasts_s: float, history: History = history, short: list[bytes] = short) -> None:
            if history.world.is_up(ANNA):
                body = history.post(ANNA, (BEN,), "a", lasts_s=lasts_s)
                short.extend([body] if lasts_s < 100 else [])

        for _ in range(20):
            lasts_s = random.choice([3, 10, 30, 100_000, 100_000])
            world.schedule(BUSY_S * random.random(), lambda s=lasts_s, p=post: p(s))  # type: ignore[misc]
        meet_for_seconds(history, BUSY_S)
        world.run(BUSY_S + 30)
        world.run_until(history.is_over, timeout_s=WITHIN_S, step_s=20)
        got, posted, kept = history.got(BEN, "a"), history.posted[ANNA, "a"], history.kept()
        told = {history.ids[e.id]: e for e in history.ended()}
        assert len(got) == len({*got}), f"doubled, seed {seed}"
        assert got == sorted(got, key=posted.index), f"out of order, seed {seed}"
        assert {*got} >= kept - {*short}, f"lost, seed {seed}"
        late = {body for body, e in told.items() if "too late" in e.reason}
        assert not late & {*got}, f"told to be late, and is there, seed {seed}"
        assert {body for body, e in told.items() if e.is_taken} <= {*got}
