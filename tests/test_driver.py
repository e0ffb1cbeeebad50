"""The driver: order, timers, bounded queues, and what happens when a core is wrong. In virtual time."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Hashable
from random import Random
from typing import Any

import pytest

from coterie import driver as driver_module
from coterie.driver import Driver
from coterie.errors import LimitExceeded, TransportError, UsageError
from coterie.machine import CancelTimer, Emit, PeerDown, PeerUp, Received, Send, SetTimer, TimerFired
from coterie.sim.clock import run


class Script:
    """A core that answers each event by a function, and remembers what it was given."""

    def __init__(self, answer: Callable[[Any, float], list[Any]] = lambda event, now: []) -> None:
        self.answer = answer
        self.seen: list[Any] = []
        self.times: list[float] = []

    def handle(self, event: Any, now: float) -> list[Any]:
        self.seen.append(event)
        self.times.append(now)
        return self.answer(event, now)


class Wire:
    """A sender that takes a message when told to."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.taken: list[tuple[Hashable, Any]] = []
        self.cancelled = 0

    async def send(self, peer: Hashable, message: Any) -> None:
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        self.taken.append((peer, message))


def silent(peer: Hashable, message: Any) -> None:
    """A sender for cores that do not send."""


def asynchronous(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Run an async test in virtual time."""

    def runs() -> None:
        run(lambda _: test())

    runs.__name__ = test.__name__
    return runs


async def settle() -> None:
    await asyncio.sleep(0.001)


# ---- events and outputs


@asynchronous
async def test_outputs_are_carried_out_in_order() -> None:
    done: list[Any] = []
    core = Script(lambda event, now: [Emit(1), Send("p", "a"), Emit(2), Send("p", "b")])
    driver = Driver(core, send=lambda p, m: done.append((p, m)), on_output=lambda o: done.append(o.event))
    driver.feed(PeerUp("p"))
    assert done == [1, ("p", "a"), 2, ("p", "b")]
    assert core.seen == [PeerUp("p")]


@asynchronous
async def test_what_a_handler_feeds_waits_for_the_outputs_before_it() -> None:
    log: list[Any] = []

    def answer(event: Any, now: float) -> list[Any]:
        log.append(("in", event))
        return [Emit("first"), Emit("second")] if event == "start" else []

    def on_output(output: Emit) -> None:
        log.append(("out", output.event))
        driver.feed(f"after {output.event}")

    driver = Driver(Script(answer), send=silent, on_output=on_output)
    driver.feed("start")
    assert log == [
        ("in", "start"),
        ("out", "first"),
        ("out", "second"),
        ("in", "after first"),
        ("in", "after second"),
    ]


@asynchronous
async def test_outputs_go_to_the_handler_of_their_type() -> None:
    emitted: list[Any] = []
    asked: list[Any] = []
    core = Script(lambda event, now: [Emit("e"), PeerUp("asked for")])
    driver = Driver(core, send=silent, on_output={Emit: emitted.append, PeerUp: asked.append})
    driver.feed("go")
    assert (emitted, asked) == ([Emit("e")], [PeerUp("asked for")])


@asynchronous
async def test_an_output_that_nobody_handles_is_a_bug_and_named() -> None:
    driver = Driver(Script(lambda event, now: [Emit(1)]), send=silent, on_output={})
    driver.feed("go")
    with pytest.raises(UsageError, match="Script asks for Emit"):
        await driver.wait_closed()


@asynchronous
async def test_a_long_chain_lets_others_run_in_between() -> None:
    length = 5 * driver_module.EVENTS_PER_TURN_MAX
    turns = 0

    async def other() -> None:
        nonlocal turns
        while not driver.is_closed:
            turns += 1
            await asyncio.sleep(0)

    core = Script(lambda event, now: [Emit(event + 1)])

    def on_output(output: Emit) -> None:
        driver.close() if output.event > length else driver.feed(output.event)

    driver = Driver(core, send=silent, on_output=on_output)
    busy = asyncio.create_task(other())
    driver.feed(0)
    await driver.wait_closed()
    await busy
    assert core.seen == list(range(length + 1))
    assert turns >= 4


@asynchronous
async def test_more_waiting_events_than_the_bound_are_refused() -> None:
    refused: list[str] = []

    def on_output(output: Emit) -> None:
        for number in range(4):
            try:
                driver.feed(number)
            except LimitExceeded as error:
                refused.append(str(error))

    core = Script(lambda event, now: [Emit(0)] if event == "start" else [])
    driver = Driver(core, send=silent, on_output=on_output, events_max=3)
    driver.feed("start")
    assert core.seen == ["start", 0, 1, 2]
    assert len(refused) == 1
    assert "events_max" in refused[0]


@asynchronous
async def test_a_handler_that_floods_its_own_core_stops_the_driver() -> None:
    def on_output(output: Emit) -> None:
        driver.feed(1)
        driver.feed(2)

    driver = Driver(Script(lambda e, now: [Emit(0)]), send=silent, on_output=on_output, events_max=50)
    driver.feed("start")
    with pytest.raises(LimitExceeded, match="50 events wait"):
        await driver.wait_closed()


@asynchronous
async def test_now_never_goes_back() -> None:
    readings = iter([100.0, 101.0, 90.0, 95.0, 102.0])
    core = Script()
    driver = Driver(core, send=silent, on_output={}, clock=lambda: next(readings))
    for event in range(4):
        driver.feed(event)
    assert core.times == [101.0, 101.0, 101.0, 102.0]


# ---- timers


@asynchronous
async def test_timers_fire_at_their_time() -> None:
    core = Script(lambda event, now: [SetTimer("a", 5.0), SetTimer("b", 3.0)] if event == "start" else [])
    driver = Driver(core, send=silent, on_output={})
    driver.feed("start")
    await asyncio.sleep(10)
    assert core.seen == ["start", TimerFired("b"), TimerFired("a")]
    assert core.times == [0.0, 3.0, 5.0]


@asynchronous
async def test_a_timer_set_again_fires_once_at_the_new_time() -> None:
    core = Script(lambda event, now: [SetTimer("t", event)] if isinstance(event, float) else [])
    driver = Driver(core, send=silent, on_output={})
    driver.feed(5.0)
    driver.feed(2.0)
    driver.feed(7.0)
    await asyncio.sleep(20)
    assert core.seen == [5.0, 2.0, 7.0, TimerFired("t")]
    assert core.times[-1] == 7.0


@asynchronous
async def test_a_cancelled_timer_does_not_fire_and_cancelling_nothing_is_fine() -> None:
    answers: dict[str, list[Any]] = {
        "set": [SetTimer("t", 5.0)],
        "cancel": [CancelTimer("t"), CancelTimer("none")],
    }
    core = Script(lambda event, now: answers[event])
    driver = Driver(core, send=silent, on_output={})
    driver.feed("set")
    driver.feed("cancel")
    await asyncio.sleep(20)
    assert core.seen == ["set", "cancel"]
    assert not driver.is_closed


@asynchronous
async def test_a_timer_in_the_past_fires_next_and_not_at_once() -> None:
    core = Script(lambda event, now: [SetTimer("t", now - 10)] if event == "start" else [])
    driver = Driver(core, send=silent, on_output={})
    await asyncio.sleep(100)
    driver.feed("start")
    assert core.seen == ["start"]
    await settle()
    assert core.seen == ["start", TimerFired("t")]


@asynchronous
async def test_timers_follow_an_injected_clock() -> None:
    loop = asyncio.get_running_loop()
    core = Script(lambda event, now: [SetTimer("t", now + 4.0)] if event == "start" else [])
    driver = Driver(core, send=silent, on_output={}, clock=lambda: 1_000_000.0 + loop.time())
    driver.feed("start")
    await asyncio.sleep(3.9)
    assert core.seen == ["start"]
    await asyncio.sleep(0.2)
    assert core.seen == ["start", TimerFired("t")]
    assert core.times[1] >= 1_000_004.0


@asynchronous
async def test_one_timer_too_many_is_a_bug_of_the_core() -> None:
    core = Script(lambda event, now: [SetTimer(n, 9.0) for n in range(event)])
    driver = Driver(core, send=silent, on_output={}, timers_max=3)
    driver.feed(3)
    driver.feed(3)  # the same keys: replaced, not added
    assert not driver.is_closed
    driver.feed(4)
    with pytest.raises(LimitExceeded, match="timers_max"):
        await driver.wait_closed()


# ---- sending


def sends(*messages: Any) -> Callable[[Any, float], list[Any]]:
    return lambda event, now: [Send("p", m) for m in messages] if event == "go" else []


@asynchronous
async def test_a_peers_messages_keep_their_order_and_one_is_under_way_at_a_time() -> None:
    under_way = 0
    most = 0
    taken: list[Any] = []

    async def send(peer: Hashable, message: Any) -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(1 / (1 + message))  # later ones would overtake
        taken.append(message)
        under_way -= 1

    driver = Driver(Script(sends(0, 1, 2, 3)), send=send, on_output={})
    driver.feed("go")
    await driver.flush()
    assert taken == [0, 1, 2, 3]
    assert most == 1


@asynchronous
async def test_a_slow_peer_does_not_hold_up_another() -> None:
    taken: list[Hashable] = []

    async def send(peer: Hashable, message: Any) -> None:
        await asyncio.sleep(100 if peer == "slow" else 1)
        taken.append(peer)

    core = Script(lambda event, now: [Send("slow", 1), Send("fast", 1), Send("fast", 2)])
    driver = Driver(core, send=send, on_output={})
    driver.feed("go")
    await asyncio.sleep(3)
    assert taken == ["fast", "fast"]
    driver.close()


@asynchronous
async def test_a_queue_that_overflows_takes_the_peer_down_and_stops_the_sender() -> None:
    wire = Wire()
    core = Script(sends(*range(5)))
    driver = Driver(core, send=wire.send, on_output={}, send_queue_max=3)
    driver.feed("go")  # one under way and three waiting: the fifth is one too many
    await settle()
    assert len(core.seen) == 2
    down = core.seen[1]
    assert isinstance(down, PeerDown)
    assert (down.peer, "send_queue_max" in down.reason) == ("p", True)
    wire.open.set()
    await driver.flush()
    assert wire.taken == []
    assert not driver.is_closed


@asynchronous
async def test_a_full_queue_is_not_yet_an_overflow() -> None:
    wire = Wire()
    core = Script(sends(*range(4)))
    driver = Driver(core, send=wire.send, on_output={}, send_queue_max=3)
    driver.feed("go")
    wire.open.set()
    await driver.flush()
    assert wire.taken == [("p", n) for n in range(4)]
    assert core.seen == ["go"]


@asynchronous
async def test_a_peer_that_fell_behind_can_be_sent_to_again() -> None:
    wire = Wire()
    core = Script(sends(*range(5)))
    driver = Driver(core, send=wire.send, on_output={}, send_queue_max=3)
    driver.feed("go")
    core.answer = sends("again")
    driver.feed("go")
    wire.open.set()
    await driver.flush()
    assert wire.taken == [("p", "again")]


@asynchronous
async def test_a_failed_send_takes_the_peer_down_and_drops_what_waits() -> None:
    tried: list[Any] = []

    async def send(peer: Hashable, message: Any) -> None:
        tried.append(message)
        await asyncio.sleep(1)
        raise TransportError("no route to p")

    core = Script(sends(1, 2, 3))
    driver = Driver(core, send=send, on_output={})
    driver.feed("go")
    await asyncio.sleep(10)
    assert tried == [1]
    assert core.seen == ["go", PeerDown("p", "no route to p")]
    assert not driver.is_closed


@asynchronous
async def test_a_sender_that_fails_at_once_takes_the_peer_down_too() -> None:
    def send(peer: Hashable, message: Any) -> Awaitable[None] | None:
        raise TransportError("not connected")

    core = Script(sends(1))
    driver = Driver(core, send=send, on_output={})
    driver.feed("go")
    assert core.seen == ["go", PeerDown("p", "not connected")]


@asynchronous
async def test_a_bug_in_the_sender_reaches_the_owner() -> None:
    async def send(peer: Hashable, message: Any) -> None:
        raise ZeroDivisionError("bug")

    driver = Driver(Script(sends(1)), send=send, on_output={})
    driver.feed("go")
    with pytest.raises(ZeroDivisionError):
        await driver.wait_closed()


@asynchronous
async def test_a_sender_that_ignores_its_cancellation_does_no_harm() -> None:
    taken: list[Any] = []

    async def send(peer: Hashable, message: Any) -> None:
        try:
            await asyncio.sleep(5)
        except asyncio.CancelledError:
            await asyncio.sleep(5)
        taken.append(message)

    core = Script(sends(*range(3)))
    driver = Driver(core, send=send, on_output={}, send_queue_max=1)
    driver.feed("go")
    await settle()
    core.answer = sends("again")
    driver.feed("go")
    await asyncio.sleep(20)
    assert taken.count("again") == 1
    assert 1 not in taken
    assert not driver.is_closed


# ---- the end


@asynchronous
async def test_close_stops_timers_sends_and_events() -> None:
    wire = Wire()
    core = Script(lambda event, now: [SetTimer("t", 1.0), Send("p", 1), Send("p", 2)])
    driver = Driver(core, send=wire.send, on_output={})
    driver.feed("go")
    await settle()
    driver.close()
    driver.close()
    driver.feed("late")
    await driver.wait_closed()
    await asyncio.sleep(5)
    assert core.seen == ["go"]
    assert wire.cancelled == 1
    assert wire.taken == []


@asynchronous
async def test_close_from_within_a_handler_skips_the_rest() -> None:
    sent: list[Any] = []
    core = Script(lambda event, now: [Emit("stop"), Send("p", "too late")])
    driver = Driver(core, send=lambda p, m: sent.append(m), on_output=lambda _: driver.close())
    driver.feed("go")
    await driver.wait_closed()
    assert sent == []


@asynchronous
async def test_a_core_that_raises_stops_the_driver_and_not_the_caller() -> None:
    def answer(event: Any, now: float) -> list[Any]:
        if isinstance(event, Received):
            raise KeyError("a bug of the core")
        return [SetTimer("t", 5.0)]

    core = Script(answer)
    driver = Driver(core, send=silent, on_output={})
    driver.feed("go")
    driver.feed(Received("p", "poison"))
    assert driver.is_closed
    with pytest.raises(KeyError, match="a bug of the core"):
        await driver.wait_closed()
    await asyncio.sleep(10)
    assert core.seen == ["go", Received("p", "poison")]


def test_the_same_run_twice_is_the_same() -> None:
    async def main(random: Random) -> list[Any]:
        async def send(peer: Hashable, message: Any) -> None:
            await asyncio.sleep(random.random())

        def answer(event: Any, now: float) -> list[Any]:
            if len(core.seen) > 200:
                return []
            return [SetTimer(random.randrange(5), now + random.random()), Send(random.randrange(3), now)]

        core = Script(answer)
        driver = Driver(core, send=send, on_output={})
        driver.feed("go")
        await asyncio.sleep(500)
        await driver.flush()
        return list(zip(core.seen, core.times, strict=True))

    assert run(main, 5) == run(main, 5)
    assert run(main, 5) != run(main, 6)
