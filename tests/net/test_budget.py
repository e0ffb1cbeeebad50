"""What strangers may use of a node's time, on whatever protocol, while those who are known are served."""

import asyncio
import time

import pytest

from coterie.errors import CloseCode
from coterie.net import Endpoint, Guard, NetLimits, Stream
from coterie.net.budget import Budget, Meter
from tests.net.conftest import NOTES, Lab, Note
from tests.support import run, run_virtual, watch_steps

ANN, BOB = Lab.key(1).peer_id, Lab.key(2).peer_id
LIMITS = NetLimits(
    stranger_processor_share=0.1,
    stranger_processor_burst_s=0.2,
    strangers_processor_share=0.2,
    strangers_processor_burst_s=0.3,
    stranger_frames_per_s=10,
    stranger_frames_burst=5,
)


def test_a_stranger_has_so_many_frames_and_so_much_of_the_processor_and_all_together_have_a_bound() -> None:
    budget = Budget(LIMITS, lambda peer: False)
    assert budget.pay(ANN, 0.0, frames=5) == 0.0
    assert budget.pay(ANN, 0.0, frames=1) == pytest.approx(0.1)
    assert budget.pay(ANN, 10.0, processor_s=0.2) == 0.0
    assert budget.pay(BOB, 10.0, processor_s=0.2) == pytest.approx(0.5), (
        "0.1 s too much for all, at 0.2 a second"
    )
    assert budget.pay(ANN, 13.0, processor_s=0.25) == pytest.approx(0.5), (
        "0.05 s too much for one, at 0.1 a second"
    )


def test_for_those_who_are_known_nothing_is_counted() -> None:
    assert Budget(LIMITS, lambda peer: peer == ANN).meter(ANN) is None


def test_of_a_meter_that_is_lifted_the_clock_is_not_asked() -> None:
    async def scene() -> None:
        asked = [0]

        def clock() -> float:
            asked[0] += 1
            return 0.0

        meter = Budget(LIMITS, lambda peer: False, processor_s=clock).meter(ANN)
        assert meter is not None
        meter.lift()
        before = asked[0]

        async def work() -> None:
            for _ in range(10):
                await asyncio.sleep(0)
                await meter.turn()

        await meter.run(work())
        assert asked[0] == before

    run_virtual(scene())


def test_each_step_of_a_handler_is_timed_and_what_waits_is_not() -> None:
    async def scene() -> None:
        clock, paid = [0.0], []
        budget = Budget(LIMITS, lambda peer: False, processor_s=lambda: clock[0])
        budget.pay = lambda peer, now, processor_s=0.0, frames=0.0: paid.append((processor_s, frames)) or 0.0  # type: ignore
        meter = budget.meter(ANN)
        assert meter is not None

        async def work() -> None:
            clock[0] += 1.0
            await meter.turn(3)
            clock[0] += 0.25
            await asyncio.sleep(5)
            clock[0] += 2.0

        task = asyncio.ensure_future(meter.run(work()))
        await asyncio.sleep(1)
        clock[0] += 100.0
        await task
        assert [p for p in paid if any(p)] == [(1.0, 3), (0.25, 0.0), (2.0, 0.0)]

    run_virtual(scene())


def test_a_cancellation_and_an_error_go_through_a_meter() -> None:
    async def scene() -> None:
        meter, seen = Meter(Budget(LIMITS, lambda peer: False), ANN, time.thread_time), []

        async def waits() -> None:
            try:
                await asyncio.sleep(100)
            except asyncio.CancelledError:
                seen.append("cancelled")
                raise

        task = asyncio.ensure_future(meter.run(waits()))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()

        async def fails() -> None:
            await asyncio.sleep(1)
            raise ValueError("so")

        task = asyncio.ensure_future(meter.run(fails()))
        await asyncio.wait([task])
        assert (seen, repr(task.exception())) == (["cancelled"], "ValueError('so')")

    run_virtual(scene())


def test_a_stranger_that_makes_work_does_not_stop_the_loop_and_a_welcome_one_is_not_held_back() -> None:
    """Each note costs 5 ms of the processor; the stranger sends 200 at once, the known one asks meanwhile."""

    async def scene() -> None:
        lab, known = Lab("memory"), {Lab.key(2).peer_id}
        served: dict[str, int] = {"stranger": 0, "welcome": 0}

        async def work(stream: Stream) -> None:
            while isinstance(note := await stream.receive(), Note):
                if note.text == "let me in":
                    stream.welcome()
                until = time.thread_time() + 0.005
                while note.text != "ask" and time.thread_time() < until:
                    pass
                served[note.text] = served.get(note.text, 0) + 1
                if note.text == "ask":
                    await stream.send(note)

        guard = Guard(lambda peer, name: True, is_known=known.__contains__)
        async with (
            Endpoint(await lab.transport(1), guard=guard, lanes=None) as host,
            Endpoint(await lab.transport(2)) as friend,
            Endpoint(await lab.transport(3)) as stranger,
        ):
            host.register(NOTES, work)
            mine = await (await friend.connect(host.peer_id, host.addresses)).open_stream(NOTES)
            theirs = await (await stranger.connect(host.peer_id, host.addresses)).open_stream(NOTES)
            with watch_steps() as steps:
                await theirs.write(NOTES.encode(Note("stranger")) * 200)
                began, before, slowest = time.monotonic(), time.thread_time(), 0.0
                while time.monotonic() - began < 1.0:
                    asked = time.thread_time()
                    await mine.send(Note("ask"))
                    await mine.receive()
                    slowest = max(slowest, time.thread_time() - asked)
                    await asyncio.sleep(0.01)
                spent_s = 0.005 * served["stranger"]
                allowed_s = 0.25 + 0.1 * (time.monotonic() - began)
            assert 0.1 < spent_s < allowed_s + 0.02, (spent_s, allowed_s, time.thread_time() - before)
            assert steps.longest_s < 0.1, steps.what
            assert slowest < 0.1
            await theirs.reset(CloseCode.CANCELLED)
            again = await (await stranger.connect(host.peer_id)).open_stream(NOTES)
            await again.write(NOTES.encode(Note("let me in")) + NOTES.encode(Note("welcome")) * 150)
            await again.finish()
            began = time.monotonic()
            while served["welcome"] < 150:
                await asyncio.sleep(0.01)
                assert time.monotonic() - began < 10
            await mine.reset()

    run(scene())
    assert NetLimits().stranger_processor_share == 0.1, "what the figures above rest on"


def test_frames_that_came_together_leave_others_their_turn() -> None:
    """A known peer sends a thousand frames in one write: the handler is not one step through all of them."""

    async def scene() -> None:
        lab, turns, had = Lab("memory"), [0], [0]

        async def count(stream: Stream) -> None:
            while await stream.receive() is not None:
                had[0] += 1

        async with Endpoint(await lab.transport(1)) as host, Endpoint(await lab.transport(2)) as friend:
            host.register(NOTES, count, strangers=True)
            stream = await (await friend.connect(host.peer_id, host.addresses)).open_stream(NOTES)
            await stream.write(NOTES.encode(Note("x")) * 1_000)
            while had[0] < 1_000:
                await asyncio.sleep(0)
                turns[0] += bool(had[0])
            assert turns[0] >= 1_000 // NetLimits().frames_in_row_max
            await stream.finish()

    run_virtual(scene())
