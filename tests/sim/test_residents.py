"""Whole nodes that crash, come back and churn."""

import asyncio
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import pytest

from coterie.driver import NetDriver
from coterie.errors import UsageError
from coterie.identity import PeerId
from coterie.machine import Emit
from coterie.net import Endpoint, NetLimits
from coterie.net.memory import LOST_AFTER_S
from coterie.overlay.kademlia.events import Bootstrap, Finished, SeekNode
from coterie.overlay.kademlia.machine import Kademlia
from coterie.overlay.kademlia.messages import KADEMLIA
from coterie.sim import residents as module
from coterie.sim.churn import Churn, exponential
from coterie.sim.clock import run
from coterie.sim.host import Host
from coterie.sim.links import Coordinates, Link
from coterie.sim.network import SimNetwork
from coterie.sim.residents import Residents
from tests.overlay.kademlia_world import key_of

PATIENT = NetLimits(idle_s=1e6)


class Log:
    """Lives of nodes that do nothing but note when they began and ended."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, Hashable]] = []

    @asynccontextmanager
    async def live(self, name: Hashable, endpoint: Endpoint) -> AsyncIterator[Endpoint]:
        self.lines.append(("begins", name))
        yield endpoint
        self.lines.append(("ends", name))


def test_a_crash_is_not_heard_and_a_restart_has_the_same_name_and_address() -> None:
    async def main(random: Random) -> list[Any]:
        log = Log()
        async with Residents(SimNetwork(random), log.live) as residents:
            a, b = [await residents.add(name, limits=PATIENT) for name in "ab"]
            addresses = b.addresses
            await a.connect(b.peer_id, addresses)
            residents.crash("b")
            assert not residents.is_up("b")
            assert residents.node("b") is None
            await asyncio.sleep(LOST_AFTER_S - 1)
            assert len(a.connections) == 1  # nobody said goodbye
            await asyncio.sleep(2)
            assert a.connections == []
            residents.restart("b")
            await asyncio.sleep(1)
            again = residents.node("b")
            assert (again.peer_id, again.addresses) == (b.peer_id, addresses)
            await a.connect(again.peer_id, addresses)
        return log.lines

    ends = run(main)
    assert ends == [
        ("begins", "a"),
        ("begins", "b"),
        ("ends", "b"),
        ("begins", "b"),
        ("ends", "a"),
        ("ends", "b"),
    ]


def test_who_is_there_and_who_is_not() -> None:
    async def main(random: Random) -> None:
        forgotten: list[Hashable] = []
        async with Residents(SimNetwork(random), Log().live, forget=forgotten.append) as residents:
            await residents.add("a")
            with pytest.raises(UsageError, match="already a node 'a'"):
                await residents.add("a")
            with pytest.raises(UsageError, match="no node 'b'"):
                residents.crash("b")
            with pytest.raises(UsageError, match="up already"):
                residents.restart("a")
            residents.crash("a")
            with pytest.raises(UsageError, match="down already"):
                residents.crash("a")
            residents.restart("a", forget=True)
            assert forgotten == ["a"]

    run(main)


def test_so_many_live_here_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RESIDENTS_MAX", 2)

    async def main(random: Random) -> None:
        async with Residents(SimNetwork(random), Log().live) as residents:
            for name in range(2):
                await residents.add(name)
            with pytest.raises(UsageError, match="RESIDENTS_MAX"):
                await residents.add(2)

    run(main)


def test_what_a_life_raises_comes_out() -> None:
    @asynccontextmanager
    async def live(name: Hashable, endpoint: Endpoint) -> AsyncIterator[None]:
        raise ZeroDivisionError(str(name))
        yield

    async def main(random: Random) -> None:
        async with Residents(SimNetwork(random), live) as residents:
            await residents.add("a")

    with pytest.raises(ZeroDivisionError, match="a"):
        run(main)


# ---- everything at once


class Town:
    """A table on every node: over slow lines, a quarter behind routers, in churn."""

    def __init__(self, random: Random, nodes: int) -> None:
        self.network = SimNetwork(random, Link(latency=Coordinates(1), loss=0.01))
        self.residents = Residents(self.network, self.live, seed=random.randrange(2**32))
        self.names = range(nodes)
        self.known: dict[PeerId, list[str]] = {}
        self.ends: list[Finished] = []
        self.random = random

    def is_hidden(self, name: Hashable) -> bool:
        return isinstance(name, int) and name % 4 == 3

    @asynccontextmanager
    async def live(self, name: Hashable, endpoint: Endpoint) -> AsyncIterator[NetDriver]:
        self.known[endpoint.peer_id] = endpoint.addresses
        driver = NetDriver(
            Kademlia(endpoint.peer_id, Random(str(name)), serves=not self.is_hidden(name)),
            endpoint,
            KADEMLIA,
            on_output={Emit: self._emitted},
            addresses=lambda peer: self.known.get(peer, []),
            strangers=True,
            stream_idle_s=30.0,
            clock=self.network.clock(name, start_s=1_800_000_000.0),
        )
        seeds = self.random.sample(sorted(self.known), min(4, len(self.known)))
        driver.feed(Bootstrap(tuple(seeds)))
        yield driver
        await driver.close()

    def _emitted(self, output: Emit) -> None:
        if isinstance(output.event, Finished):
            self.ends.append(output.event)

    async def run(self) -> tuple[float, int]:
        """(share of lookups that found who they looked for; how many left)."""
        lines = {"up_bytes_per_s": 250_000.0, "down_bytes_per_s": 1_000_000.0}
        async with self.residents as residents:
            for name in self.names:
                host = Host(
                    is_reachable=not self.is_hidden(name),
                    clock_offset_s=self.random.uniform(-60, 60),
                    **lines,
                )
                await residents.add(name, host=host)
                await asyncio.sleep(1)
            session = exponential(1800)
            churn = Churn(residents, self.names[10:], online=session, offline=session, forget=True)
            await asyncio.sleep(3600)
            return await self._look_up(60), churn.left

    async def _look_up(self, count: int) -> float:
        found = 0
        for number in range(count):
            up = [n for n in self.names if self.residents.node(n) is not None]
            target = self.network.peer(self.random.choice([n for n in up if not self.is_hidden(n)]))
            asker = self.residents.node(self.random.choice(up))
            asker.feed(SeekNode(lookup=number, key=key_of(target)))
            await asyncio.sleep(20)
            found += any(end.lookup == number and target in end.closest for end in self.ends)
        return found / count


def test_whole_nodes_find_each_other_over_slow_lines_behind_routers_in_churn() -> None:
    share, left = run(lambda random: Town(random, 40).run(), seed=3)
    assert left > 20
    assert share >= 0.85  # some whom we look for, or who ask, leave within the 20 s


def test_one_seed_is_one_run_of_everything() -> None:
    first, second = [run(lambda random: Town(random, 15).run(), seed=4) for _ in range(2)]
    assert first == second
