"""Background work: restarted with growing pauses, listed, ended with its owner."""

import asyncio
import itertools
import random

import pytest

from coterie.sim.clock import run
from coterie.tasks import (
    HEALTHY_S,
    KEPT_S,
    REASON_CHARS_MAX,
    RESTART_MAX_S,
    RESTART_MIN_S,
    TROUBLES_MAX,
    Tasks,
)


def now() -> float:
    return asyncio.get_running_loop().time()


def test_lasting_work_begins_anew_after_pauses_that_grow_up_to_a_bound() -> None:
    async def main(_: random.Random) -> list[float]:
        began: list[float] = []

        async def work() -> None:
            began.append(now())
            raise RuntimeError("broken")

        tasks = Tasks()
        tasks.keep(work, "mending")
        await asyncio.sleep(40 * RESTART_MAX_S)
        await tasks.close()
        return began

    began = run(main, 1)
    pauses = [after - before for before, after in itertools.pairwise(began)]
    assert pauses[:3] == pytest.approx([RESTART_MIN_S, 2 * RESTART_MIN_S, 4 * RESTART_MIN_S])
    assert max(pauses) == pytest.approx(RESTART_MAX_S)
    assert sorted(pauses) == pytest.approx(pauses)


def test_work_that_was_healthy_for_long_begins_anew_soon_and_is_no_trouble_any_more() -> None:
    async def main(_: random.Random) -> None:
        runs: list[float] = []

        async def work() -> None:
            runs.append(now())
            await asyncio.sleep(0.0 if len(runs) < 6 else 2 * HEALTHY_S)
            raise RuntimeError("broken")

        tasks = Tasks()
        tasks.keep(work, "mending")
        await asyncio.sleep(RESTART_MIN_S * 32)  # the sixth run began at 31 s
        assert [t.again_in_s for t in tasks.troubles()] == [0]
        await asyncio.sleep(HEALTHY_S)
        assert tasks.troubles() == []
        await asyncio.sleep(HEALTHY_S)
        assert [t.failures for t in tasks.troubles()] == [1]
        await tasks.close()

    run(main, 1)


def test_lasting_work_that_returns_is_done() -> None:
    async def main(_: random.Random) -> None:
        runs: list[float] = []

        async def work() -> None:
            runs.append(now())

        tasks = Tasks()
        tasks.keep(work, "once")
        await asyncio.sleep(1_000)
        assert len(runs) == 1
        assert len(tasks) == 0
        assert tasks.troubles() == []

    run(main, 1)


def test_what_a_lasting_work_awaits_may_be_cancelled_by_others_without_ending_it() -> None:
    async def main(_: random.Random) -> None:
        runs: list[float] = []

        async def work() -> None:
            runs.append(now())
            awaited = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_later(1.0, awaited.cancel)
            await awaited

        tasks = Tasks()
        tasks.keep(work, "waiting")
        await asyncio.sleep(10)
        assert len(runs) > 2
        await tasks.close()
        assert len(tasks) == 0

    run(main, 1)


def test_work_for_once_is_not_begun_again_and_its_failure_is_told_for_a_while() -> None:
    async def main(_: random.Random) -> None:
        async def work(text: str) -> None:
            raise ValueError(text)

        tasks = Tasks("node")
        part = tasks.part("relays")
        part.start(work("a\nb"), "dialling")
        part.start(work("c" * REASON_CHARS_MAX), "dialling")
        part.start(work("of no interest"), "asked for", is_awaited=True)
        await asyncio.sleep(1)
        (trouble,) = tasks.troubles()
        assert (trouble.name, trouble.failures, trouble.again_in_s) == ("relays: dialling", 2, None)
        assert len(trouble.reason) == REASON_CHARS_MAX
        assert trouble.text().startswith("'relays: dialling' failed 2 times")
        await asyncio.sleep(KEPT_S)
        assert tasks.troubles() == []

    run(main, 1)


def test_one_trouble_past_the_bound_takes_the_place_of_the_oldest() -> None:
    async def main(_: random.Random) -> None:
        async def work() -> None:
            raise ValueError("broken")

        tasks = Tasks()
        for number in range(TROUBLES_MAX + 1):
            tasks.start(work(), f"work {number}")
        await asyncio.sleep(1)
        names = [trouble.name for trouble in tasks.troubles()]
        assert len(names) == TROUBLES_MAX
        assert "work 0" not in names

    run(main, 1)


def test_the_end_of_an_owner_ends_all_its_work_and_lets_none_begin() -> None:
    async def main(_: random.Random) -> None:
        ended: list[str] = []

        async def work(name: str) -> None:
            try:
                await asyncio.sleep(1_000)
            finally:
                ended.append(name)

        async def quick() -> None:
            await asyncio.sleep(0.1)
            ended.append("by itself")

        tasks = Tasks()
        part = tasks.part("part")
        part.start(work("part's"), "part's")
        tasks.keep(lambda: work("lasting"), "lasting")
        tasks.start(quick(), "quick")
        await asyncio.sleep(0)
        await tasks.close(1.0)
        assert ended == ["by itself", "lasting"]
        late = tasks.start(work("late"), "late")
        await asyncio.wait([late])
        assert late.cancelled()
        assert ended == ["by itself", "lasting"]
        await part.close()
        assert ended[-1] == "part's"

    run(main, 1)


def test_an_owner_may_be_closed_by_its_own_work() -> None:
    async def main(_: random.Random) -> None:
        tasks = Tasks()
        closing = tasks.start(tasks.close(), "closing")
        await asyncio.wait([closing], timeout=1)
        assert closing.done()
        assert not closing.cancelled()

    run(main, 1)
