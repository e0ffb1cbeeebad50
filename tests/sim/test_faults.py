"""What hosts, churn and adversaries do to a world: bandwidth, NAT, clocks, disks, sessions, lies."""

from random import Random
from statistics import median
from typing import Any

import pytest

from coterie.errors import UsageError
from coterie.machine import Emit, PeerDown, Received, Send, SetTimer, TimerFired
from coterie.sim.adversary import Flooding, Garbage, Replaying, Silent, Twisting, scramble
from coterie.sim.churn import Churn, exponential, pareto, under_way, weibull
from coterie.sim.flood import Flood, Publish
from coterie.sim.host import Host
from coterie.sim.links import Coordinates, Link, Matrix, uniform, varied
from coterie.sim.world import World
from coterie.wire.frames import Message
from tests.sim.test_world import Log, pair, send


def sized(seed: int = 0, **options: Any) -> World:
    return World(seed, size_of=len, **options)


def arrivals(world: World, name: str = "b") -> list[float]:
    return [at for at, event in world.core(name).seen if isinstance(event, Received)]


# ---- delays


def test_coordinates_have_the_median_of_the_king_data_and_keep_a_links_delay() -> None:
    latency, again, other = Coordinates(1), Coordinates(1), Coordinates(2)
    random = Random(0)
    pairs = [(a, b) for a in range(150) for b in range(a)]
    rtts = [2 * latency(a, b, random) for a, b in pairs]
    assert median(rtts) == pytest.approx(0.159, rel=0.1)
    assert min(rtts) < 0.04
    assert max(rtts) > 0.25
    assert rtts == [2 * again(a, b, random) for a, b in pairs]
    assert latency(3, 7, random) == latency(7, 3, random)
    assert rtts != [2 * other(a, b, random) for a, b in pairs]


def test_a_matrix_gives_measured_delays() -> None:
    latency = Matrix([[0.0, 0.2], [0.3, 0.0]], seed=1, within_s=0.001)
    random = Random(0)
    assert {latency(a, b, random) for a in range(20) for b in range(20)} == {0.001, 0.2, 0.3}
    for wrong in ([], [[0.1, 0.1]], [[-0.1]]):
        with pytest.raises(UsageError):
            Matrix(wrong, seed=1)


def test_varied_delays_grow_by_the_share_at_most_and_keep_the_order() -> None:
    world = pair(link=Link(latency=varied(Matrix([[1.0]], seed=1), 0.5)))
    send(world, *range(100))
    world.run()
    assert world.core("b").messages == list(range(100))
    assert 1.0 <= arrivals(world)[0] < arrivals(world)[-1] <= 1.5


# ---- bandwidth


def test_an_uplink_sends_one_byte_after_the_other() -> None:
    world = sized(link=Link(latency=1.0))
    world.add("a", Log, host=Host(up_bytes_per_s=100))
    world.add("b", Log)
    send(world, b"x" * 100, b"y" * 50)
    world.run()
    assert arrivals(world) == [2.0, 2.5]
    assert world.bytes_sent == 150


def test_a_downlink_is_shared_by_all_who_send() -> None:
    world = sized(link=Link(latency=1.0))
    world.add("b", Log, host=Host(down_bytes_per_s=100))
    for name in ("a", "c"):
        world.add(name, Log)
        send(world, b"x" * 100, sender=name)
    world.run()
    assert arrivals(world) == [2.0, 3.0]


def test_a_link_has_a_bandwidth_of_its_own() -> None:
    world = pair(size_of=len, link=Link(latency=0.5, bytes_per_s=10))
    world.add("c", Log)
    send(world, b"x" * 10, b"x" * 10)
    send(world, b"x" * 10, receiver="c")
    world.run()
    assert arrivals(world) == [1.5, 2.5]
    assert arrivals(world, "c") == [1.5]


@pytest.mark.parametrize("where", ["up", "down", "link"])
def test_a_full_queue_loses(where: str) -> None:
    rate = {"bytes_per_s": 10, "queue_bytes_max": 100}
    world = sized(link=Link(latency=0.5, **rate) if where == "link" else Link(latency=0.5))  # type: ignore[arg-type]
    narrow = Host(queue_bytes_max=100, **{f"{where}_bytes_per_s": 10}) if where != "link" else Host()
    world.add("a", Log, host=narrow if where == "up" else Host())
    world.add("b", Log, host=narrow if where == "down" else Host())
    send(world, *[b"x" * 20] * 10)
    world.run()
    assert len(arrivals(world)) == 5  # those 100 bytes that the queue holds
    assert world.lost == 5


def test_bandwidth_needs_to_know_what_messages_weigh() -> None:
    with pytest.raises(UsageError, match="size_of"):
        World().add("a", Log, host=Host(up_bytes_per_s=1))
    with pytest.raises(UsageError, match="above 0"):
        Host(down_bytes_per_s=0)
    with pytest.raises(UsageError, match="above 0"):
        Link(bytes_per_s=0)
    world = pair(link=Link(bytes_per_s=5))
    send(world, b"x")
    with pytest.raises(UsageError, match="size_of"):
        world.run()


def test_the_order_is_kept_on_more_links_than_are_remembered() -> None:
    world = World(link=Link(latency=uniform(0.1, 3.0)))
    for name in range(330):
        world.add(name, Log)
    for number in range(2):
        for name in range(330):
            world.feed(name, [Send(other, number) for other in range(330)])
        world.run(0.2 * (number + 1))
    world.run()
    for name in (0, 329):
        by_peer: dict[Any, list[int]] = {}
        for _, event in world.core(name).seen:
            by_peer.setdefault(event.peer, []).append(event.message)
        assert len(by_peer) == 330
        assert all(got == [0, 1] for got in by_peer.values())


# ---- NAT


def behind_nat(**options: Any) -> World:
    world = World(link=Link(latency=0.1), **options)
    world.add("a", Log)
    world.add("b", Log, host=Host(is_reachable=False, nat_mapping_s=60))
    return world


def test_a_stranger_does_not_reach_a_node_behind_a_nat() -> None:
    world = behind_nat()
    send(world, "hello")
    world.run()
    assert (world.core("b").messages, world.lost) == ([], 1)


def test_whom_it_has_written_to_may_answer_for_a_while() -> None:
    world = behind_nat()
    send(world, "out", sender="b", receiver="a")
    world.run(1)
    send(world, "answer")
    world.run(60)
    send(world, "in time: the answer kept the mapping alive")
    world.run(200)
    send(world, "too late")
    world.run()
    assert world.core("b").messages == ["answer", "in time: the answer kept the mapping alive"]


def test_a_nat_forgets_old_correspondents_and_keeps_the_present_ones() -> None:
    world = World()
    world.add("b", Log, host=Host(is_reachable=False, nat_mapping_s=60))
    for number in range(2_000):
        world.add(number, Log)
        send(world, "out", sender="b", receiver=number)  # type: ignore[arg-type]
        world.run(number * 0.1)
    for number in (0, 1_000, 1_450, 1_999):
        send(world, number, sender=number)  # type: ignore[arg-type]
    world.run()
    assert world.core("b").messages == [1_450, 1_999]  # written to within a minute


def test_a_connection_goes_through_the_nat_both_ways() -> None:
    world = behind_nat()
    world.connect("a", "b")
    world.run(1_000)
    send(world, "hello")
    world.run()
    assert world.core("b").messages == ["hello"]
    world.disconnect("a", "b")
    send(world, "gone")
    world.run()
    assert world.core("b").messages == ["hello"]


def test_two_behind_nats_meet_when_both_have_written() -> None:
    world = World()
    for name in ("a", "b"):
        world.add(name, Log, host=Host(is_reachable=False))
    send(world, "lost")
    world.run()
    send(world, "passes", sender="b", receiver="a")
    send(world, "passes too")
    world.run()
    assert world.core("a").messages == ["passes"]
    assert world.core("b").messages == ["passes too"]


def test_a_dial_that_fails_is_told_once() -> None:
    world = behind_nat(dial_fails_after_s=3.0)
    send(world, 1, 2, 3)
    send(world, "nobody", receiver="x")
    world.run()
    downs = [(at, event.peer) for at, event in world.core("a").seen if isinstance(event, PeerDown)]
    assert downs == [(3.0, "b"), (3.0, "x")]
    send(world, "again")
    world.run()
    assert [at for at, e in world.core("a").seen if isinstance(e, PeerDown) and e.peer == "b"] == [3.0, 6.0]


# ---- clocks


class Alarm(Log):
    """Sets a timer of its own clock at each message."""

    def handle(self, event: Any, now: float) -> list[Any]:
        super().handle(event, now)
        return [SetTimer("t", now + 10)] if isinstance(event, Received) else []


def test_a_skewed_clock_shows_its_own_time_and_timers_last_as_long_as_it_thinks() -> None:
    world = pair(link=Link(latency=1.0))
    world.add("c", Alarm, host=Host(clock_offset_s=1000, clock_drift=0.25))
    send(world, "hello", receiver="c")
    world.run()
    (first, _), (second, event) = world.core("c").seen
    assert (first, second, event) == (1001.25, 1011.25, TimerFired("t"))
    assert world.now == 9.0  # ten of its seconds are eight of the world's


@pytest.mark.parametrize("drift", [1e-4, -3e-4, 0.1])
def test_a_skewed_core_never_sees_its_timer_early(drift: float) -> None:
    world = pair(link=Link(latency=uniform(0.1, 0.2)))
    world.add("c", Alarm, host=Host(clock_offset_s=1 / 3, clock_drift=drift))
    for _ in range(50):
        send(world, "hello", receiver="c")
        world.run()
    seen = world.core("c").seen
    assert all(
        fired - asked >= 9.999999 for (asked, _), (fired, _) in zip(seen[::2], seen[1::2], strict=True)
    )


def test_a_clock_does_not_go_back() -> None:
    with pytest.raises(UsageError, match="stands still"):
        Host(clock_drift=-1.0)


# ---- disks and lazy nodes


class Counter:
    def __init__(self, count: int = 0) -> None:
        self.count = count

    def handle(self, event: Any, now: float) -> list[Any]:
        self.count += 1
        return [Emit(self.count)]


def test_a_restart_with_and_without_what_was_saved() -> None:
    world = World()
    world.add("a", lambda _: Counter(), restore=lambda _, saved: Counter(saved))
    world.feed("a", "tick")
    world.run()
    world.save("a", 41)
    world.crash("a")
    world.restart("a")
    assert world.core("a").count == 41
    world.crash("a")
    world.restart("a", forget=True)
    assert world.core("a").count == 0
    assert world.saved("a") is None


def test_a_lazy_node_has_no_core_until_something_happens() -> None:
    made: list[int] = []

    def factory(random: Random) -> Counter:
        made.append(1)
        return Counter()

    world = World()
    for name in range(1_000):
        world.add(name, factory, lazy=True)
    assert made == []
    assert world.is_up(5)
    world.feed(3, "tick")
    world.run()
    assert len(made) == 1
    assert world.core(4).count == 0
    assert len(made) == 2
    world.crash(3)
    world.restart(3)
    assert len(made) == 2


def test_lazy_or_not_is_one_trace() -> None:
    def trace(lazy: bool) -> str:
        world = World(3, link=Link(latency=Coordinates(3)))
        for name in range(50):
            world.add(name, lambda _: Flood(), lazy=lazy, host=Host(clock_drift=name / 1000))
        for name in range(50):
            world.connect(name, (name * 7 + 1) % 50)
        world.feed(0, Publish("hello"))
        world.run()
        return world.digest

    assert trace(True) == trace(False)


# ---- churn


@pytest.mark.parametrize("durations", [exponential(600.0), weibull(600.0), pareto(600.0)])
def test_sessions_have_the_median_they_were_asked_for(durations: Any) -> None:
    random = Random(1)
    drawn = [durations(random) for _ in range(20_000)]
    assert median(drawn) == pytest.approx(600, rel=0.05)
    assert max(drawn) <= 30 * 86_400


def test_who_looks_at_random_meets_the_long_sessions() -> None:
    random = Random(1)
    rests = [under_way(weibull(600.0), random) for _ in range(2_000)]
    assert median(rests) > 1_200
    rests = [under_way(exponential(600.0), random) for _ in range(2_000)]
    assert median(rests) == pytest.approx(600, rel=0.15)  # without memory: as long as a new one


def churning(seed: int = 1, **options: Any) -> tuple[World, Churn]:
    world = World(seed)
    for name in range(200):
        world.add(name, lambda _: Counter(), restore=lambda _, saved: Counter(saved))
        world.save(name, 7)
    churn = Churn(world, range(100), online=exponential(600), offline=exponential(300), **options)
    return world, churn


def test_nodes_come_and_go_and_two_thirds_are_there() -> None:
    world, churn = churning()
    world.run(6_000)
    up = [name for name in range(100) if world.is_up(name)]
    assert 52 <= len(up) <= 80
    assert all(world.is_up(name) for name in range(100, 200))
    assert churn.left > 400
    assert churn.left - churn.returned == 100 - len(up)
    churn.stop()
    left = churn.left
    world.run(12_000)
    assert churn.left == left


def test_with_as_many_away_the_number_stays_level_from_the_beginning() -> None:
    world = World(1)
    for name in range(400):
        world.add(name, lambda _: Counter())
    away = range(200, 400)
    for name in away:
        world.crash(name)
    Churn(world, range(200), online=exponential(600), offline=exponential(600), away=away)
    for until in range(100, 2_000, 100):
        world.run(until)
        assert 160 <= sum(map(world.is_up, range(400))) <= 240
    with pytest.raises(UsageError):
        Churn(world, [], online=exponential(1), offline=exponential(1), away=world.names)


def test_churn_is_the_same_for_the_same_seed() -> None:
    def trace(seed: int) -> list[bool]:
        world, _ = churning(seed)
        world.run(3_000)
        return [world.is_up(name) for name in range(100)]

    assert trace(1) == trace(1) != trace(2)


def test_farewells_and_returns_are_called_and_disks_kept_or_lost() -> None:
    said: list[Any] = []
    world, churn = churning(
        leaving=lambda name: said.append(("leaves", name)), back=lambda name: said.append(("back", name))
    )
    world.run(3_000)
    assert len([1 for what, _ in said if what == "leaves"]) == churn.left
    assert len([1 for what, _ in said if what == "back"]) == churn.returned
    returned = next(name for what, name in said if what == "back" and world.is_up(name))
    assert world.core(returned).count == 7
    world, _ = churning(forget=True)
    world.run(3_000)
    assert any(world.saved(name) is None for name in range(100))


def test_churn_begins_with_nodes_that_are_up() -> None:
    world = pair()
    world.crash("a")
    with pytest.raises(UsageError, match="'a' is down"):
        Churn(world, ["a"], online=exponential(1), offline=exponential(1))


# ---- adversaries


class Note(Message, frozen=True):
    number: int
    text: str
    data: bytes
    items: tuple[int, ...]


NOTE = Note(7, "hello", b"abc", (1, 2, 3))


class Echo:
    def handle(self, event: Any, now: float) -> list[Any]:
        return [Send(event.peer, event.message)] if isinstance(event, Received) else []


def against(wrap: Any, messages: int = 20) -> list[Any]:
    """What `a` gets back from a corrupted echo."""
    world = pair(link=Link(latency=0.01))
    world.add("e", lambda _: Echo())
    world.corrupt("e", wrap)
    for _ in range(messages):
        send(world, NOTE, receiver="e")
    world.run(5)
    return list(world.core("a").messages)


def test_a_silent_node_says_nothing() -> None:
    assert against(Silent) == []


def test_garbage_is_of_the_right_type_and_wrong() -> None:
    got = against(Garbage)
    assert len(got) == 20
    assert all(isinstance(note, Note) for note in got)
    assert len([note for note in got if note != NOTE]) >= 15


def test_garbage_of_dataclasses_and_plain_values() -> None:
    random = Random(1)
    assert scramble(Publish("x"), random) != Publish("x")
    assert scramble(True, random) is False
    assert scramble(None, random) is None
    assert isinstance(scramble(1.5, random), float)
    assert isinstance(scramble([1, 2], random), list)


def test_a_replaying_node_says_everything_again() -> None:
    got = against(lambda core, random: Replaying(core, random, copies=2, remembered_max=5))
    assert len(got) == 60
    assert set(got) == {NOTE}


def test_a_flooding_node_sends_at_its_rate() -> None:
    got = against(
        lambda core, random: Flooding(core, random, make=lambda r: r.random(), per_s=100, burst=5), messages=1
    )
    assert len([x for x in got if isinstance(x, float)]) == pytest.approx(500, abs=10)


def test_a_twisting_node_answers_as_its_rewriting_says() -> None:
    got = against(lambda core, _: Twisting(core, lambda out, event: [Send(out.peer, "me")] * 2), messages=3)
    assert got == ["me"] * 6


def test_a_corrupted_node_stays_so_after_a_restart() -> None:
    world = pair()
    world.corrupt("b", Silent)
    world.crash("b")
    world.restart("b")
    assert isinstance(world.core("b"), Silent)
