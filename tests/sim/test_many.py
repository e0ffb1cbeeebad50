"""Whole endpoints by the hundred in virtual time, and cores by the ten thousand; the same run in every process."""

import asyncio
import os
import resource
import subprocess
import sys
from random import Random
from typing import Any

from coterie.driver import NetDriver
from coterie.identity import PeerId
from coterie.net import NetLimits
from coterie.overlay.search.asker import Ended, Found
from coterie.overlay.search.limits import Walks
from coterie.overlay.search.machine import Ask, Search
from coterie.overlay.search.messages import SEARCH
from coterie.sim.clock import run
from coterie.sim.flood import Flood, Publish
from coterie.sim.links import Coordinates, Link
from coterie.sim.network import SimNetwork
from coterie.sim.over_wire import OverWire
from coterie.sim.replay import replay_command, replayed_by
from coterie.sim.world import World

WHOLE_NODES = 100


class Town:
    """Endpoints, each with a searcher over real streams: connections, guard, frames, signatures."""

    def __init__(self, random: Random) -> None:
        self.network = SimNetwork(random, Link(latency=Coordinates(1)))
        limits = NetLimits(
            idle_s=1e6
        )  # neighbours stay connected; in a node the membership's streams see to it
        self.endpoints = [self.network.endpoint(n, limits=limits) for n in range(WHOLE_NODES)]
        self.found: list[Any] = []
        self.drivers: list[NetDriver] = []

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        for number, endpoint in enumerate(self.endpoints):
            await endpoint.__aenter__()
            key = self.network.key(number)
            have = [b"here"] if number % 10 == 7 else []
            core = Search(
                key.peer_id,
                sign=key.sign,
                random=Random(number),
                answer=lambda topic, body, have=have: have,  # type: ignore[misc]
            )
            self.drivers.append(
                NetDriver(
                    core,
                    endpoint,
                    SEARCH,
                    on_output=lambda out: self.found.append(out.event),
                    addresses=self._addresses,
                    strangers=True,
                    clock=lambda: 1_700_000_000 + loop.time(),
                )
            )
        for number, endpoint in enumerate(self.endpoints):
            for step in (1, 9, 31):
                other = self.endpoints[(number + step) % WHOLE_NODES]
                await endpoint.connect(other.peer_id, other.addresses)

    def _addresses(self, peer: PeerId) -> tuple[str, ...]:
        return next(e.addresses for e in self.endpoints if e.peer_id == peer)

    async def close(self) -> None:
        for driver in self.drivers:
            await driver.close()
        for endpoint in self.endpoints:
            await endpoint.__aexit__(None, None, None)


async def search_among_whole_nodes(random: Random) -> list[Any]:
    town = Town(random)
    await town.open()
    for number in range(0, 50, 5):
        town.drivers[number].feed(Ask(number, "t", b"b", strategy=Walks(4, 64)))
        await asyncio.sleep(40)
    await town.close()
    return town.found


def test_a_hundred_whole_nodes_search_in_virtual_time() -> None:
    found = run(search_among_whole_nodes, seed=1)
    assert [e.key for e in found if isinstance(e, Ended) and e.reason == "enough"] == list(range(0, 50, 5))
    holders = [SimNetwork(Random(1)).peer(n) for n in range(7, 100, 10)]
    assert {e.responder for e in found if isinstance(e, Found)} <= frozenset(holders)
    assert found == run(search_among_whole_nodes, seed=1)


def many(nodes: int = 10_000) -> World:
    """A flood among that many lazily made cores."""
    world = World(1, link=Link(latency=Coordinates(1)))
    for name in range(nodes):
        world.add(name, lambda _: Flood(), lazy=True)
    chooser = Random(1)
    for name in range(nodes):
        for other in ((name + 1) % nodes, chooser.randrange(nodes)):
            world.connect(name, other)
    world.feed(0, Publish("hello"))
    world.run()
    return world


def test_ten_thousand_cores_fit() -> None:
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    world = many()
    assert len({node for _, node, _ in world.emitted}) == 10_000
    grown_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib) / 1024
    assert grown_mb < 150  # 20 MB when this was written: 2 kB a node with its links


TRACES = """
from random import Random
from tests.scenarios.search_hostile import ATTACKS, Town
from tests.sim.test_many import many, search_among_whole_nodes
from coterie.overlay.search.machine import Ask
from coterie.sim.clock import run
print(many(200).digest)
for attack in ("replays", "lies to every question"):
    town = Town(3, 40, 2)
    town.open(ATTACKS[attack])
    town.world.feed(town.peers[town.honest[0]], Ask("k", "test", b"the item"))
    town.world.run(25)
    print(town.world.digest, town.world.events, town.world.emitted)
"""


def test_lazy_cores_adversaries_and_frames_are_one_trace_in_every_process() -> None:
    def trace(hash_seed: str) -> str:
        settings = os.environ | {"PYTHONHASHSEED": hash_seed}
        command = [sys.executable, "-c", TRACES]
        return subprocess.run(command, env=settings, capture_output=True, text=True, check=True).stdout

    first = trace("1")
    assert first == trace("2")
    assert first.count("\n") == 3


def test_a_failing_run_names_the_command_that_replays_it() -> None:
    def note(seed: int) -> str:
        world = World(seed)
        world.schedule(0, lambda: 1 / 0)
        try:
            world.run()
        except ZeroDivisionError as error:
            return "".join(error.__notes__)
        raise AssertionError

    here = "tests/sim/test_many.py::test_a_failing_run_names_the_command_that_replays_it"
    assert f"to replay: python -m pytest {here}" in note(5)
    with replayed_by("python play.py --seed {seed}"):
        assert "to replay: python play.py --seed 5" in note(5)
        assert replay_command(7) == "python play.py --seed 7"


def test_a_program_that_fails_is_replayed_by_its_own_command_line() -> None:
    script = "from coterie.sim.replay import replay_command; print(replay_command(1))"
    settings = {k: v for k, v in os.environ.items() if k != "PYTEST_CURRENT_TEST"}
    done = subprocess.run(
        [sys.executable, "-c", script], env=settings, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"python -c '{script}'\n"


def test_a_core_over_wire_gets_messages_and_nothing_malformed() -> None:
    from coterie.machine import Received, Send
    from coterie.overlay.search.messages import Verdict

    class Echo:
        def handle(self, event: Any, now: float) -> list[Any]:
            return [Send(event.peer, event.message)] if isinstance(event, Received) else []

    errors: list[Any] = []
    core = OverWire(Echo(), SEARCH, refused=errors.append)
    frame = SEARCH.encode(Verdict(bytes(16), 1, True))
    assert core.handle(Received("a", frame * 2), 0) == [Send("a", frame)] * 2
    assert core.handle(Received("a", b"\x00\x00\x00\x02\x05\xff"), 0) == []
    assert core.handle(Received("a", b"\xff\xff\xff\xff\x05"), 0) == []
    assert core.handle(Received("a", b"\x00\x00\x00\x01\x63"), 0) == []  # a kind of tomorrow
    assert core.refused == len(errors) == 2
