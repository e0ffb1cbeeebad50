"""Virtual time: hours pass at once, nothing real is touched, a stuck program says where."""

import asyncio
import os
import subprocess
import sys
import time
from random import Random
from typing import Any

import pytest

from coterie.errors import UsageError
from coterie.sim import clock
from coterie.sim.clock import Deadlock, VirtualTimeLoop, run


def test_hours_of_waiting_pass_at_once() -> None:
    async def main(_: Random) -> float:
        await asyncio.sleep(36_000)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3_600):
                await asyncio.Event().wait()
        return asyncio.get_running_loop().time()

    started = time.monotonic()
    assert run(main) == pytest.approx(39_600)
    assert time.monotonic() - started < 5


def test_things_happen_in_the_order_of_their_times() -> None:
    async def main(_: Random) -> list[tuple[float, str]]:
        loop = asyncio.get_running_loop()
        seen: list[tuple[float, str]] = []

        async def worker(name: str, pause_s: float) -> None:
            for _ in range(3):
                await asyncio.sleep(pause_s)
                seen.append((round(loop.time(), 6), name))

        async with asyncio.TaskGroup() as group:
            group.create_task(worker("slow", 1.0))
            group.create_task(worker("fast", 0.3))
        return seen

    assert run(main) == [
        (0.3, "fast"),
        (0.6, "fast"),
        (0.9, "fast"),
        (1.0, "slow"),
        (2.0, "slow"),
        (3.0, "slow"),
    ]


@pytest.mark.parametrize("start_s", [1e6, 1e9, 1e12])
def test_timers_fire_at_large_times_too(start_s: float) -> None:
    async def main(_: Random) -> float:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(start_s)
        fired = loop.create_future()
        loop.call_at(loop.time() + 0.25, fired.set_result, None)
        await fired
        return loop.time()

    assert run(main) == pytest.approx(start_s + 0.25, abs=1e-3)


def test_a_deadlock_names_the_tasks_and_the_seed() -> None:
    async def main(_: Random) -> None:
        waiting = asyncio.create_task(asyncio.Event().wait(), name="waits for a door to open")
        await waiting

    with pytest.raises(Deadlock, match="waits for a door to open") as caught:
        run(main, 41)
    assert "Event.wait" in str(caught.value)
    assert "seed 41" in "".join(caught.value.__notes__)


def test_a_long_list_of_stuck_tasks_is_cut() -> None:
    async def main(_: Random) -> None:
        doors = asyncio.Event()
        await asyncio.gather(*(doors.wait() for _ in range(clock.PENDING_NAMED_MAX + 10)))

    with pytest.raises(Deadlock, match="and 11 more"):
        run(main)


def test_a_program_that_spins_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "STEPS_AT_ONE_INSTANT_MAX", 1_000)

    async def main(_: Random) -> None:
        while True:
            await asyncio.sleep(0)

    with pytest.raises(Deadlock, match="time stands still"):
        run(main)


def test_an_error_of_the_program_carries_the_seed() -> None:
    async def main(random: Random) -> None:
        raise ValueError(random.randrange(10))

    with pytest.raises(ValueError) as caught:
        run(main, 1234)
    assert "seed 1234" in "".join(caught.value.__notes__)


def test_what_is_left_over_is_cancelled_and_may_clean_up() -> None:
    cleaned: list[str] = []

    async def forever() -> None:
        try:
            await asyncio.sleep(1e9)
        finally:
            cleaned.append("up")

    async def main(_: Random) -> None:
        main.task = asyncio.create_task(forever())  # type: ignore[attr-defined]
        await asyncio.sleep(1)

    run(main)
    assert cleaned == ["up"]


async def _connect() -> Any:
    return await asyncio.open_connection("127.0.0.1", 9)


async def _serve() -> Any:
    return await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)


async def _thread() -> Any:
    return await asyncio.to_thread(time.time)


async def _child() -> Any:
    return await asyncio.create_subprocess_exec("true")


async def _resolve() -> Any:
    return await asyncio.get_running_loop().getaddrinfo("localhost", 80)


@pytest.mark.parametrize("real", [_connect, _serve, _thread, _child, _resolve])
def test_the_real_world_is_refused(real: Any) -> None:
    async def main(_: Random) -> None:
        with pytest.raises(UsageError, match="virtual time has no"):
            await real()

    run(main)


def test_threads_can_be_run_in_place() -> None:
    async def main(_: Random) -> list[Any]:
        here = await asyncio.to_thread(sum, [1, 2, 3])
        with pytest.raises(ZeroDivisionError):
            await asyncio.to_thread(lambda: 1 / 0)
        loop = asyncio.get_running_loop()
        return [here, await loop.run_in_executor(None, len, "four")]

    assert run(main, threads_inline=True) == [6, 4]


def test_the_loop_is_an_asyncio_loop() -> None:
    loop = VirtualTimeLoop()
    try:
        assert loop.time() == 0.0
        assert loop.run_until_complete(asyncio.sleep(5, "done")) == "done"
        assert loop.time() == pytest.approx(5)
    finally:
        loop.close()


ORDER = """
import asyncio
from coterie.sim.clock import run

async def main(random):
    waiting = {asyncio.create_task(asyncio.sleep(random.choice([1, 2])), name=str(i)) for i in range(50)}
    order = []
    while waiting:
        done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        order += [task.get_name() for task in done]
    print(" ".join(order))

junk = [object() for _ in range({junk})]
run(main, 7)
"""


def test_one_seed_is_one_order_in_every_process() -> None:
    def order(hash_seed: str, junk: int) -> str:
        command = [sys.executable, "-c", ORDER.replace("{junk}", str(junk))]
        settings = os.environ | {"PYTHONHASHSEED": hash_seed}
        return subprocess.run(command, env=settings, capture_output=True, text=True, check=True).stdout

    assert order("1", 10) == order("2", 12_345) != ""
