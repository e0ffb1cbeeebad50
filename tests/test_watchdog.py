"""Code that keeps the event loop to itself is interrupted, and nobody else is."""

import asyncio
import time
from typing import Any

from coterie.watchdog import Stuck, Watchdog
from tests.support import run

STUCK_S = 0.6


def watched(work: Any, owner: str | None = "looping") -> list[tuple[str, str]]:
    """Run `work` under a watchdog that takes this module for that app; the interruptions."""
    seen: list[tuple[str, str]] = []

    async def scene() -> None:
        watchdog = Watchdog(
            lambda module: owner if module == __name__ else None,
            lambda app, place: seen.append((app, place)),
            stuck_s=STUCK_S,
        )
        watchdog.start()
        try:
            await work()
            await asyncio.sleep(0)
        finally:
            watchdog.close()

    run(scene())
    return seen


def spin(seconds: float) -> None:
    """Take so much processor time, catching whatever can be caught by ordinary code."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        try:
            sum(range(1_000))
        except Exception:  # noqa: BLE001
            continue


async def endless() -> None:
    spin(60)


def test_an_endless_loop_in_a_task_ends_and_the_loop_goes_on() -> None:
    async def scene() -> None:
        task = asyncio.ensure_future(endless())
        await asyncio.wait({task})
        assert isinstance(task.exception(), Stuck)
        await asyncio.sleep(0.01)

    ((app, place),) = watched(scene)
    assert app == "looping"
    assert place.startswith(f"{__name__}.spin, line ")


def test_one_in_a_callback_too() -> None:
    async def scene() -> None:
        loop = asyncio.get_running_loop()
        reported: list[Any] = []
        loop.set_exception_handler(lambda _, context: reported.append(context["exception"]))
        loop.call_soon(spin, 60)
        await asyncio.sleep(0.01)
        assert [type(error) for error in reported] == [Stuck]

    assert len(watched(scene)) == 1


def test_much_work_in_small_steps_is_left_alone() -> None:
    async def scene() -> None:
        for _ in range(30):
            spin(STUCK_S / 10)
            await asyncio.sleep(0)

    assert watched(scene) == []


def test_waiting_takes_no_processor_and_is_left_alone() -> None:
    async def scene() -> None:
        time.sleep(2 * STUCK_S)

    assert watched(scene) == []


def test_code_of_nobody_is_left_alone() -> None:
    async def scene() -> None:
        spin(3 * STUCK_S)

    assert watched(scene, owner=None) == []


def test_each_time_anew() -> None:
    async def scene() -> None:
        for _ in range(2):
            await asyncio.gather(asyncio.ensure_future(endless()), return_exceptions=True)

    assert len(watched(scene)) == 2
