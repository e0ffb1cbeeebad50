"""Whole endpoints and cores over the simulated network, in virtual time."""

import asyncio
import os
import subprocess
import sys
from random import Random
from typing import Any

import pytest

from coterie.driver import NetDriver
from coterie.errors import CoterieError, PeerError, TransportError, UsageError
from coterie.identity import PeerId
from coterie.machine import Emit, PeerDown, PeerUp, Received, Send
from coterie.net import Endpoint, Stream
from coterie.net.memory import LOST_AFTER_S
from coterie.sim.clock import run
from coterie.sim.links import Link, uniform
from coterie.sim.network import SimNetwork
from coterie.wire import Protocol
from coterie.wire.frames import Message


class Text(Message, frozen=True):
    """One line."""

    text: str


NEWS = Protocol(name="news", versions=(1,), kinds={1: Text})


class Gossip:
    """Tells every peer that is up what it hears for the first time; `str` events are its own news."""

    def __init__(self) -> None:
        self.peers: dict[Any, None] = {}
        self.heard: list[str] = []
        self.seen: list[Any] = []

    def handle(self, event: Any, now: float) -> list[Any]:
        self.seen.append(event)
        match event:
            case PeerUp(peer):
                self.peers[peer] = None
            case PeerDown(peer):
                self.peers.pop(peer, None)
            case (PeerId() as peer, str(text)):
                return [Send(peer, Text(text))]
            case Received(_, Text(text)) | str(text) if text not in self.heard:
                self.heard.append(text)
                return [Emit((now, text)), *(Send(peer, Text(text)) for peer in self.peers)]
        return []


async def echo(stream: Stream) -> None:
    while (message := await stream.receive()) is not None:
        assert isinstance(message, Text)
        await stream.send(message)


async def ask(endpoint: Endpoint, peer: PeerId, text: str, addresses: list[str]) -> str:
    connection = await endpoint.connect(peer, addresses)
    async with await connection.open_stream(NEWS) as stream:
        await stream.send(Text(text))
        answer = await stream.receive()
        assert isinstance(answer, Text)
        return answer.text


def test_endpoints_talk_and_latency_is_felt() -> None:
    async def main(random: Random) -> float:
        loop = asyncio.get_running_loop()
        network = SimNetwork(random, Link(latency=0.5))
        async with network.endpoint("alice") as alice, network.endpoint("bob") as bob:
            bob.register(NEWS, echo, strangers=True)
            await ask(alice, bob.peer_id, "first", bob.addresses)
            connection = await alice.connect(bob.peer_id)
            async with await connection.open_stream(NEWS) as stream:
                started = loop.time()
                await stream.send(Text("second"))
                assert await stream.receive() == Text("second")
                return loop.time() - started

    assert run(main) == pytest.approx(1.0)


def test_loss_costs_streams_time_and_datagrams_their_life() -> None:
    async def main(random: Random) -> tuple[float, int]:
        loop = asyncio.get_running_loop()
        network = SimNetwork(random, Link(latency=0.1))
        async with network.endpoint("alice") as alice, network.endpoint("bob") as bob:
            arrived: list[bytes] = []

            async def collect(stream: Stream) -> None:
                await echo(stream)

            bob.register(NEWS, collect, strangers=True)
            await ask(alice, bob.peer_id, "hello", bob.addresses)
            (there,) = bob.connections

            async def read() -> None:
                async for data in there.datagrams(NEWS):
                    arrived.append(data)

            reading = asyncio.create_task(read())
            await asyncio.sleep(0)
            network.degrade("alice", "bob", Link(latency=0.1, loss=0.5))
            connection = await alice.connect(bob.peer_id)
            for number in range(200):
                await connection.send_datagram(NEWS, bytes([number]))
            started = loop.time()
            async with await connection.open_stream(NEWS) as stream:
                for number in range(10):
                    await stream.send(Text(str(number)))
                    assert await stream.receive() == Text(str(number))
            taken = loop.time() - started
            network.degrade("alice", "bob", None)
            reading.cancel()
            return taken, len(arrived)

    taken, arrived = run(main, 3)
    assert taken > 2.5
    assert 50 < arrived < 150


def test_a_partition_ends_connections_and_healing_lets_them_come_back() -> None:
    async def main(random: Random) -> None:
        network = SimNetwork(random)
        async with network.endpoint("alice") as alice, network.endpoint("bob") as bob:
            bob.register(NEWS, echo, strangers=True)
            assert await ask(alice, bob.peer_id, "before", bob.addresses) == "before"
            network.partition(["alice"], ["bob"])
            with pytest.raises(CoterieError):
                await ask(alice, bob.peer_id, "during", bob.addresses)
            await asyncio.sleep(2 * LOST_AFTER_S)
            assert alice.connections == bob.connections == []
            with pytest.raises(TransportError):
                await alice.connect(bob.peer_id, bob.addresses)
            network.heal()
            assert await ask(alice, bob.peer_id, "after", bob.addresses) == "after"

    run(main)


def test_a_partition_needs_two_sides() -> None:
    with pytest.raises(UsageError, match="two sides"):
        SimNetwork(Random(0)).partition(["alice"])


def test_names_have_keys_of_their_own_that_follow_the_seed() -> None:
    network, same, other = SimNetwork(Random(1)), SimNetwork(Random(1)), SimNetwork(Random(2))
    assert network.peer("a") == same.peer("a") == network.key("a").peer_id
    assert len({network.peer("a"), network.peer("b"), other.peer("a")}) == 3


# ---- cores over endpoints


async def gossip(random: Random, nodes: int = 12) -> list[tuple[float, int, str]]:
    """A ring of gossiping nodes, cut and healed; (time, node, text) of everything heard."""
    network = SimNetwork(random, Link(latency=uniform(0.01, 0.1), loss=0.05))
    heard: list[tuple[float, int, str]] = []
    endpoints = [network.endpoint(n) for n in range(nodes)]
    drivers = []
    for number, endpoint in enumerate(endpoints):
        endpoint.start()
        on_output = {Emit: lambda o, n=number: heard.append((o.event[0], n, o.event[1]))}
        drivers.append(NetDriver(Gossip(), endpoint, NEWS, on_output=on_output, strangers=True))
    for number, endpoint in enumerate(endpoints):
        following = endpoints[(number + 1) % nodes]
        await endpoint.connect(following.peer_id, following.addresses)
    for number in range(5):
        drivers[random.randrange(nodes)].feed(f"news {number}")
        await asyncio.sleep(random.random())
    await asyncio.sleep(10)
    for driver in drivers:
        await driver.close()
    for endpoint in endpoints:
        await endpoint.close()
    return heard


def test_a_core_runs_over_endpoints_and_reaches_everybody() -> None:
    heard = run(gossip, 5)
    assert sorted((n, text) for _, n, text in heard) == [
        (n, f"news {k}") for n in range(12) for k in range(5)
    ]


def test_one_seed_is_one_run_in_every_process() -> None:
    def trace(hash_seed: str) -> str:
        settings = os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.path.dirname(__file__)}
        script = "import test_network as t; print(t.run(t.gossip, 9))"
        command = [sys.executable, "-c", script]
        return subprocess.run(command, env=settings, capture_output=True, text=True, check=True).stdout

    assert trace("1") == trace("2") != str(run(gossip, 10)) + "\n"


def pair(random: Random, **options: Any) -> tuple[SimNetwork, Endpoint, Endpoint, Gossip, NetDriver]:
    """Alice with a core, and bob without; both started."""
    network = SimNetwork(random)
    alice, bob = network.endpoint("alice"), network.endpoint("bob")
    alice.start()
    bob.start()
    core = Gossip()
    driver = NetDriver(core, alice, NEWS, on_output={}, addresses=lambda _: bob.addresses, **options)
    return network, alice, bob, core, driver


def test_the_first_message_dials_and_later_ones_share_its_stream() -> None:
    async def main(random: Random) -> None:
        _, alice, bob, core, driver = pair(random)
        streams: list[list[str]] = []

        async def collect(stream: Stream) -> None:
            streams.append([])
            while (message := await stream.receive()) is not None:
                assert isinstance(message, Text)
                streams[-1].append(message.text)

        bob.register(NEWS, collect, strangers=True)
        for text in ("a", "b", "c"):
            driver.feed((bob.peer_id, text))
        await driver.flush()
        await asyncio.sleep(1)
        assert streams == [["a", "b", "c"]]
        assert core.seen[-1] == PeerUp(bob.peer_id)
        await driver.close()
        await alice.close()
        await bob.close()

    run(main)


def test_a_peer_that_cannot_be_reached_is_down() -> None:
    async def main(random: Random) -> None:
        _, alice, bob, core, driver = pair(random)
        await bob.close()
        driver.feed((bob.peer_id, "anybody?"))
        await driver.flush()
        down = core.seen[-1]
        assert isinstance(down, PeerDown)
        assert down.peer == bob.peer_id
        assert down.reason
        await driver.close()
        await alice.close()

    run(main)


def test_a_peer_that_refuses_the_protocol_is_down() -> None:
    async def main(random: Random) -> None:
        _, alice, bob, core, driver = pair(random)
        driver.feed((bob.peer_id, "hello"))
        await driver.flush()
        assert any(isinstance(event, PeerDown) and "news" in event.reason for event in core.seen)
        await driver.close()
        await alice.close()
        await bob.close()

    run(main)


def test_a_peer_that_goes_and_comes_back_is_dialled_again() -> None:
    async def main(random: Random) -> None:
        network, alice, bob, core, driver = pair(random)
        bob.register(NEWS, echo, strangers=True)
        driver.feed((bob.peer_id, "first"))
        await driver.flush()
        await bob.close()
        await asyncio.sleep(1)
        assert PeerDown(bob.peer_id, "disconnected") in core.seen
        again = network.endpoint("bob")
        got: list[Any] = []

        async def collect(stream: Stream) -> None:
            got.append(await stream.receive())

        again.register(NEWS, collect, strangers=True)
        again.start()
        await alice.connect(again.peer_id, again.addresses)
        driver.feed((again.peer_id, "second"))
        await driver.flush()
        await asyncio.sleep(1)
        assert got == [Text("second")]
        await driver.close()
        await alice.close()
        await again.close()

    run(main)


def test_a_stranger_is_not_heard_unless_declared() -> None:
    async def main(random: Random) -> None:
        _, alice, bob, core, driver = pair(random)
        with pytest.raises(PeerError):
            await ask(bob, alice.peer_id, "psst", alice.addresses)
        assert not any(isinstance(event, Received) for event in core.seen)
        await driver.close()
        await alice.close()
        await bob.close()

    run(main)


def test_protocols_with_bulk_kinds_are_refused() -> None:
    async def main(random: Random) -> None:
        bulky = Protocol(name="bulky", versions=(1,), kinds={1: Text}, bulk_kinds=frozenset({2}))
        endpoint = SimNetwork(random).endpoint("alice")
        with pytest.raises(UsageError, match="bulk"):
            NetDriver(Gossip(), endpoint, bulky, on_output={})

    run(main)
