"""Whole endpoints on machines with slow lines, behind routers, with wrong clocks."""

import asyncio
from itertools import pairwise
from random import Random

import pytest

from coterie.errors import TransportError
from coterie.net import Connection, Endpoint, NetLimits, Stream
from coterie.sim.clock import run
from coterie.sim.host import Host
from coterie.sim.links import Link
from coterie.sim.network import SimNetwork
from coterie.wire import Protocol
from coterie.wire.frames import Message

BULK = 50_000


class Blob(Message, frozen=True):
    """Bytes that weigh something."""

    data: bytes


BLOBS = Protocol(name="blobs", versions=(1,), kinds={1: Blob})


class Sink:
    """Notes when each blob came."""

    def __init__(self) -> None:
        self.came_at: list[float] = []

    async def take(self, stream: Stream) -> None:
        while await stream.receive() is not None:
            self.came_at.append(asyncio.get_running_loop().time())


async def send(endpoint: Endpoint, to: Endpoint, *, count: int = 1, size_bytes: int = BULK) -> None:
    connection = await endpoint.connect(to.peer_id, to.addresses)
    async with await connection.open_stream(BLOBS) as stream:
        for _ in range(count):
            await stream.send(Blob(bytes(size_bytes)))


async def took_s(network: SimNetwork, *, count: int = 4) -> float:
    """How long `count` blobs take from a to b, over a connection that is there."""
    sink = Sink()
    async with network.endpoint("a") as a, network.endpoint("b") as b:
        b.register(BLOBS, sink.take, strangers=True)
        await send(a, b, size_bytes=1)
        began = asyncio.get_running_loop().time()
        await send(a, b, count=count)
        await asyncio.sleep(60)
        assert len(sink.came_at) == 1 + count
        return sink.came_at[-1] - began


@pytest.mark.parametrize(
    ("up", "down", "between", "expected_s"),
    [
        (100_000, None, None, 2.0),
        (None, 100_000, None, 2.0),
        (None, None, 50_000, 4.0),
        (100_000, 50_000, None, 4.5),
    ],
)
def test_the_slowest_line_says_how_long_bytes_take(
    up: float | None, down: float | None, between: float | None, expected_s: float
) -> None:
    async def main(random: Random) -> float:
        network = SimNetwork(random, Link(latency=0.01, bytes_per_s=between))
        network.settle("a", Host(up_bytes_per_s=up))
        network.settle("b", Host(down_bytes_per_s=down))
        return await took_s(network)

    assert run(main) == pytest.approx(expected_s, rel=0.1)


def test_an_uplink_is_shared_by_all_whom_a_node_sends_to() -> None:
    async def main(random: Random) -> list[float]:
        network, sinks = SimNetwork(random, Link(latency=0.01)), [Sink() for _ in range(4)]
        network.settle("a", Host(up_bytes_per_s=100_000))
        async with network.endpoint("a") as a:
            others = [network.endpoint(n) for n in range(len(sinks))]
            for endpoint, sink in zip(others, sinks, strict=True):
                endpoint.register(BLOBS, sink.take, strangers=True)
                endpoint.start()
            await asyncio.gather(*(send(a, endpoint) for endpoint in others))
            await asyncio.sleep(30)
            for endpoint in others:
                await endpoint.close()
        return sorted(sink.came_at[0] for sink in sinks)

    times = run(main)
    assert [b - a for a, b in pairwise(times)] == pytest.approx([0.5] * 3, rel=0.1)


def test_datagrams_beyond_a_queue_are_lost_and_streams_wait() -> None:
    async def main(random: Random) -> int:
        network, got = SimNetwork(random, Link(latency=0.01)), 0
        network.settle("a", Host(up_bytes_per_s=10_000, queue_bytes_max=5_000))
        sink = Sink()
        async with network.endpoint("a") as a, network.endpoint("b") as b:
            b.register(BLOBS, sink.take, strangers=True)
            await send(a, b, size_bytes=1)
            (there,) = b.connections
            await asyncio.sleep(5)

            async def read() -> None:
                nonlocal got
                async for _ in there.datagrams(BLOBS):
                    got += 1

            reading = asyncio.create_task(read())
            connection = await a.connect(b.peer_id)
            for _ in range(20):
                await connection.send_datagram(BLOBS, bytes(1_000))
            await asyncio.sleep(10)
            reading.cancel()
        return got

    assert 4 <= run(main) <= 6


# ---- routers


async def dial(a: Endpoint, b: Endpoint) -> Connection:
    return await a.connect(b.peer_id, b.addresses)


def test_who_is_behind_a_router_is_dialled_in_vain_until_it_has_written() -> None:
    async def main(random: Random) -> None:
        network = SimNetwork(random, Link(latency=0.05))
        network.settle("home", Host(is_reachable=False))
        limits = NetLimits(dial_s=6)
        async with (
            network.endpoint("home", limits=limits) as home,
            network.endpoint("b", limits=limits) as other,
        ):
            with pytest.raises(TransportError):
                await dial(other, home)
            connection = await dial(home, other)
            connection.close()
            await asyncio.sleep(60)
            await dial(other, home)

    run(main)


def test_a_router_forgets() -> None:
    async def main(random: Random) -> None:
        network = SimNetwork(random)
        network.settle("home", Host(is_reachable=False, nat_mapping_s=120))
        async with network.endpoint("home") as home, network.endpoint("b") as other:
            (await dial(home, other)).close()
            await asyncio.sleep(121)
            with pytest.raises(TransportError):
                await dial(other, home)

    run(main)


def test_two_behind_routers_meet_when_both_dial() -> None:
    async def main(random: Random) -> float:
        network = SimNetwork(random, Link(latency=0.05))
        for name in ("a", "b"):
            network.settle(name, Host(is_reachable=False))
        async with network.endpoint("a") as a, network.endpoint("b") as b:
            loop = asyncio.get_running_loop()
            with pytest.raises(TransportError):
                await dial(a, b)
            await asyncio.sleep(300)
            began = loop.time()
            await asyncio.gather(dial(a, b), dial(b, a))
            return loop.time() - began

    assert run(main) < 2


def test_a_connection_that_is_used_stays_open_past_the_mapping() -> None:
    async def main(random: Random) -> int:
        network, sink = SimNetwork(random, Link(latency=0.05)), Sink()
        network.settle("home", Host(is_reachable=False))
        limits = NetLimits(idle_s=1e6)
        async with (
            network.endpoint("home", limits=limits) as home,
            network.endpoint("b", limits=limits) as other,
        ):
            home.register(BLOBS, sink.take, strangers=True)
            await dial(home, other)
            await asyncio.sleep(600)
            await send(other, home)
            await asyncio.sleep(1)
        return len(sink.came_at)

    assert run(main) == 1


def test_a_machine_has_its_own_clock() -> None:
    async def main(random: Random) -> tuple[float, float]:
        network = SimNetwork(random)
        network.settle("fast", Host(clock_offset_s=10, clock_drift=0.01))
        clock, right = network.clock("fast", start_s=1000), network.clock("other", start_s=1000)
        await asyncio.sleep(100)
        return clock(), right()

    fast, right = run(main)
    assert (fast, right) == (pytest.approx(1111), pytest.approx(1100))
