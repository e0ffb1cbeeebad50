"""The simulated world: faults do what they say, and one seed is one trace in every process."""

import os
import subprocess
import sys
from collections.abc import Callable, Hashable
from random import Random
from typing import Any

import pytest

from coterie.errors import LimitExceeded, UsageError
from coterie.machine import CancelTimer, Emit, PeerDown, PeerUp, Received, Send, SetTimer, TimerFired
from coterie.sim.flood import Flood, Publish, measure
from coterie.sim.links import Link, Planar, uniform
from coterie.sim.world import World


class Log:
    """A core that remembers what it gets, with the time, and answers commands by carrying them out."""

    def __init__(self, random: Random | None = None) -> None:
        self.random = random
        self.seen: list[tuple[float, Any]] = []

    def handle(self, event: Any, now: float) -> list[Any]:
        if isinstance(event, list):
            return event
        self.seen.append((round(now, 6), event))
        return []

    @property
    def messages(self) -> list[Any]:
        return [event.message for _, event in self.seen if isinstance(event, Received)]


def pair(seed: int = 0, **options: Any) -> World:
    """A world of two nodes, a and b."""
    world = World(seed, **options)
    world.add("a", Log)
    world.add("b", Log)
    return world


def send(world: World, *messages: Any, sender: str = "a", receiver: str = "b") -> None:
    world.feed(sender, [Send(receiver, message) for message in messages])


# ---- links


def test_a_message_takes_the_links_latency() -> None:
    world = pair(link=Link(latency=0.25))
    send(world, "hello")
    assert world.run() == 2
    assert world.core("b").seen == [(0.25, Received("a", "hello"))]
    assert (world.sent, world.lost, world.now) == (1, 0, 0.25)


def test_latency_may_depend_on_the_link() -> None:
    world = pair(
        link=Link(latency=lambda sender, receiver, _: 3.0 if (sender, receiver) == ("a", "b") else 1.0)
    )
    send(world, "there")
    send(world, "back", sender="b", receiver="a")
    world.run()
    assert world.core("b").seen[0][0] == 3.0
    assert world.core("a").seen[0][0] == 1.0


def test_a_link_keeps_the_order_whatever_its_delays() -> None:
    world = pair(link=Link(latency=uniform(0.01, 5)))
    send(world, *range(200))
    world.run()
    assert world.core("b").messages == list(range(200))


def test_a_link_that_gets_faster_keeps_the_order_too() -> None:
    world = pair(link=Link(latency=2.0))
    send(world, "first")
    world.run(0.1)
    world.link = Link(latency=0.1)
    send(world, "second")
    world.run(0.2)
    world.degrade("a", "b", Link(latency=0.01))
    send(world, "third")
    world.run()
    assert world.core("b").messages == ["first", "second", "third"]
    assert world.now == 2.0


def test_loss_loses_about_as_much_as_it_says() -> None:
    world = pair(link=Link(loss=0.3))
    send(world, *range(10_000))
    world.run()
    arrived = world.core("b").messages
    assert len(arrived) + world.lost == 10_000
    assert 0.27 < world.lost / 10_000 < 0.33
    assert arrived == sorted(arrived)


def test_duplication_delivers_twice_and_not_more() -> None:
    world = pair(link=Link(duplication=0.5))
    send(world, *range(1_000))
    world.run()
    arrived = world.core("b").messages
    assert set(arrived) == set(range(1_000))
    assert 1_400 < len(arrived) < 1_600
    assert max(arrived.count(n) for n in range(0, 1_000, 50)) <= 2


def test_reordering_lets_later_ones_overtake_and_loses_nothing() -> None:
    world = pair(link=Link(reordering=0.2))
    send(world, *range(500))
    world.run()
    arrived = world.core("b").messages
    assert arrived != sorted(arrived)
    assert sorted(arrived) == list(range(500))


def test_one_pair_can_be_worse_than_the_rest_for_a_while() -> None:
    world = pair()
    world.add("c", Log)
    world.degrade("a", "b", Link(loss=1.0))
    send(world, "lost")
    send(world, "kept", receiver="c")
    world.run()
    world.degrade("b", "a", None)
    send(world, "kept")
    world.run()
    assert world.core("b").messages == world.core("c").messages == ["kept"]


@pytest.mark.parametrize("name", ["loss", "duplication", "reordering"])
@pytest.mark.parametrize("value", [-0.1, 1.1])
def test_probabilities_are_probabilities(name: str, value: float) -> None:
    with pytest.raises(UsageError, match=name):
        Link(**{name: value})


def test_no_message_arrives_before_it_is_sent() -> None:
    with pytest.raises(UsageError, match="delays"):
        Link(latency=-0.1)


def test_a_planar_map_is_stable_and_bounded() -> None:
    first, second = Planar(3), Planar(3)
    random = Random(0)
    delays = [first(a, b, random) for a in range(20) for b in range(20)]
    assert delays == [second(a, b, random) for a in range(20) for b in range(20)]
    assert all(0.0005 <= delay <= 0.15 for delay in delays)
    assert first(1, 2, random) == first(2, 1, random)


# ---- up and down


def test_connecting_and_disconnecting_is_told_to_both() -> None:
    world = pair()
    world.connect("a", "b")
    world.connect("a", "b")
    world.run()
    world.disconnect("a", "b", "enough")
    world.run()
    assert world.core("a").seen == [(0.0, PeerUp("b")), (0.0, PeerDown("b", "enough"))]
    assert world.core("b").seen == [(0.0, PeerUp("a")), (0.0, PeerDown("a", "enough"))]


def test_a_crash_forgets_everything_and_is_noticed_later() -> None:
    world = pair(down_after_s=2.0)
    world.connect("a", "b")
    world.feed("b", [SetTimer("t", 5.0)])
    send(world, "in flight")
    world.run(0.01)
    world.crash("b")
    world.run(10)
    assert world.core("a").seen == [(0.0, PeerUp("b")), (2.01, PeerDown("b", "no answer"))]
    with pytest.raises(UsageError, match="is down"):
        world.core("b")
    world.restart("b")
    world.run(20)
    assert world.core("b").seen == [(10.0, PeerUp("a"))]
    assert world.core("a").seen[2:] == [(10.0, PeerUp("b"))]


def test_a_quick_restart_is_still_a_new_peer() -> None:
    world = pair(down_after_s=2.0)
    world.connect("a", "b")
    world.run(1)
    world.crash("b")
    world.run(1.5)
    world.restart("b")
    world.run(10)
    assert [event for _, event in world.core("a").seen] == [
        PeerUp("b"),
        PeerDown("b", "started anew"),
        PeerUp("b"),
    ]


def test_messages_to_a_crashed_node_are_lost() -> None:
    world = pair()
    world.crash("b")
    send(world, "nobody there")
    world.run()
    assert world.lost == 1


def test_crashing_twice_or_restarting_the_living_is_a_mistake() -> None:
    world = pair()
    with pytest.raises(UsageError, match="up already"):
        world.restart("a")
    world.crash("a")
    with pytest.raises(UsageError, match="down already"):
        world.crash("a")


def test_a_partition_cuts_and_heals() -> None:
    world = pair(down_after_s=1.0)
    world.add("c", Log)
    world.connect("a", "b")
    world.connect("b", "c")
    send(world, "under way when the cable breaks")
    world.run(0.01)
    world.partition(["a"], ["b", "c"])
    send(world, "sent while it is broken")
    send(world, "same side", sender="c")
    world.run(5)
    assert world.lost == 2
    assert world.core("b").messages == ["same side"]
    assert (1.01, PeerDown("a", "no answer")) in world.core("b").seen
    assert not [event for _, event in world.core("c").seen if isinstance(event, PeerDown)]
    world.heal()
    send(world, "again")
    world.run(6)
    assert world.core("b").messages == ["same side", "again"]
    assert world.core("a").seen == [
        (0.0, PeerUp("b")),
        (1.01, PeerDown("b", "no answer")),
        (5.0, PeerUp("b")),
    ]


def test_a_short_partition_goes_unnoticed() -> None:
    world = pair(down_after_s=1.0)
    world.connect("a", "b")
    world.run(1)
    world.partition(["a"], ["b"])
    world.run(1.5)
    world.heal()
    world.run(10)
    assert [event for _, event in world.core("a").seen] == [PeerUp("b")]


# ---- timers, requests, time


def test_timers_are_replaced_and_cancelled() -> None:
    world = pair()
    world.feed("a", [SetTimer("x", 1.0), SetTimer("y", 2.0), SetTimer("x", 3.0), SetTimer("z", 4.0)])
    world.feed("a", [CancelTimer("y"), CancelTimer("never set")])
    world.run()
    assert world.core("a").seen == [(3.0, TimerFired("x")), (4.0, TimerFired("z"))]


def test_a_timer_in_the_past_fires_now() -> None:
    world = pair()
    world.run(7)
    world.feed("a", [SetTimer("t", 1.0)])
    world.run(8)
    assert world.core("a").seen == [(7.0, TimerFired("t"))]


def test_scheduled_actions_happen_at_their_time() -> None:
    world = pair()
    seen: list[float] = []
    for at in (3.0, 1.0, 2.0, 0.001):
        world.schedule(at, lambda: seen.append(world.now))
    world.run(2.5)
    assert seen == [0.001, 1.0, 2.0]
    assert world.now == 2.5
    with pytest.raises(UsageError, match="too late"):
        world.schedule(1.0, lambda: None)


def test_events_added_between_runs_come_before_later_ones() -> None:
    world = pair()
    seen: list[str] = []
    world.schedule(1.004, lambda: seen.append("later"))
    world.run(1.001)
    world.schedule(1.002, lambda: seen.append("sooner"))
    world.run(0.5)
    assert seen == []
    world.run(2)
    assert seen == ["sooner", "later"]


def test_what_cores_emit_and_ask_for_is_handed_out() -> None:
    asked: list[tuple[Hashable, Any]] = []
    world = pair(requests={Publish: lambda node, output: asked.append((node, output))})
    world.feed("a", [Emit("done"), Publish("please")])
    world.run()
    assert world.emitted == [(0.0, "a", "done")]
    assert asked == [("a", Publish("please"))]


def test_run_until_waits_for_a_condition_and_no_longer() -> None:
    world = pair(link=Link(latency=3.0))
    send(world, "hello")
    assert world.run_until(lambda: bool(world.core("b").messages), timeout_s=10) == pytest.approx(
        3.0, abs=0.11
    )
    with pytest.raises(LimitExceeded, match="does not hold after 5 s"):
        world.run_until(lambda: False, timeout_s=5)


# ---- mistakes are said, with the seed


def failing(world: World) -> None:
    world.feed("a", [Emit("a"), Publish("nobody handles this")])


def endless(world: World) -> None:
    def action() -> None:
        world.schedule(world.now, action)

    action()


def flooding(world: World) -> None:
    def action() -> None:
        for _ in range(10):
            world.schedule(world.now + 1, action)

    action()


@pytest.mark.parametrize(
    ("mistake", "error", "text"),
    [
        (failing, UsageError, "asks for Publish"),
        (endless, LimitExceeded, "events_max"),
        (flooding, LimitExceeded, "queue_max"),
        (lambda world: world.feed("a", [Emit(n) for n in range(201)]), LimitExceeded, "emitted_max"),
        (lambda world: world.schedule(0, lambda: 1 / 0), ZeroDivisionError, "division"),
        (lambda world: world.schedule(0, lambda: world.feed("nobody", 1)), UsageError, "no node 'nobody'"),
    ],
)
def test_a_failing_run_prints_its_seed(
    mistake: Callable[[World], None], error: type[Exception], text: str
) -> None:
    world = pair(seed=987, queue_max=2_000, emitted_max=200)
    mistake(world)
    with pytest.raises(error, match=text) as caught:
        world.run(events_max=100_000)
    assert "seed 987" in "".join(caught.value.__notes__)


def test_names_are_unique() -> None:
    with pytest.raises(UsageError, match="already a node 'a'"):
        pair().add("a", Log)


# ---- one seed, one trace


def chaos(seed: int) -> World:
    """Floods under every fault there is."""
    link = Link(latency=uniform(0.01, 0.2), loss=0.02, duplication=0.05, reordering=0.05)
    world = World(seed, link=link, trace="content")
    names = [f"node {n}".encode() for n in range(40)]  # bytes: their hash differs between processes
    for name in names:
        world.add(name, lambda _: Flood())
    chooser = Random(seed)
    for name in names:
        for other in chooser.sample(names, 4):
            if other != name:
                world.connect(name, other)
    for number in range(20):
        world.schedule(number / 2, lambda n=number: world.feed(chooser.choice(names), Publish(f"text {n}")))  # type: ignore[misc]
    world.schedule(3, lambda: world.partition(names[:20]))
    world.schedule(4, lambda: world.crash(names[5]))
    world.schedule(6, world.heal)
    world.schedule(8, lambda: world.restart(names[5]))
    world.run(30)
    return world


def test_floods_reach_everybody_despite_loss() -> None:
    world = World(5, link=Link(loss=0.05))
    for name in range(50):
        world.add(name, lambda _: Flood())
    for name in range(50):
        for step in (1, 7, 19):
            world.connect(name, (name + step) % 50)
    world.feed(0, Publish("hello"))
    world.run()
    assert sorted(str(node) for _, node, _ in world.emitted) == sorted(str(n) for n in range(50))


def test_one_seed_is_one_trace_and_another_is_another() -> None:
    assert chaos(3).digest == chaos(3).digest
    assert chaos(3).digest != chaos(4).digest


def test_one_seed_is_one_trace_in_every_process() -> None:
    script = "import test_world; w = test_world.chaos(11); print(w.digest, w.events, w.lost, len(w.emitted))"

    def trace(hash_seed: str) -> str:
        settings = os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.path.dirname(__file__)}
        command = [sys.executable, "-c", script]
        return subprocess.run(command, env=settings, capture_output=True, text=True, check=True).stdout

    first = trace("1")
    assert first == trace("2")
    assert int(first.split()[1]) > 1_000


def test_the_content_trace_sees_what_the_order_does_not() -> None:
    def digest(text: str, **options: Any) -> str:
        world = pair(**options)
        send(world, text)
        world.run()
        return world.digest

    assert digest("one") == digest("two")
    assert digest("one", trace="content") != digest("two", trace="content")


def test_each_core_has_randomness_of_its_own_that_differs_after_a_restart() -> None:
    world = pair(seed=1)
    draws = [world.core("a").random.random(), world.core("b").random.random()]
    world.crash("a")
    world.restart("a")
    draws.append(world.core("a").random.random())
    assert len(set(draws)) == 3
    assert draws[0] == pair(seed=1).core("a").random.random()


def test_the_benchmark_counts_what_it_did() -> None:
    speed = measure(nodes=100, texts=10)
    assert speed.events > 3_000
    assert speed.digest == measure(nodes=100, texts=10).digest
    assert speed.events_per_s > 10_000  # a tenth of what an idle machine does
