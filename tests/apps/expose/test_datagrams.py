"""UDP services of one node used by another, over the memory network and real sockets of this machine."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from coterie.errors import PeerError, UsageError
from coterie.identity import PeerId
from coterie.net.memory import MemoryNetwork, PerfectLinks
from coterie.node import Node
from coterie.services.carry import datagrams
from coterie.services.carry.messages import (
    DATAGRAM_BYTES_MAX,
    FLOW_MAX,
    pack_packet,
    read_packet,
)
from tests.apps.files.nodes import befriend, friends, memory_node
from tests.support import run

PACKET, LARGE = 800, 20_000  # bytes of a datagram that fits a packet, and of one that does not


class _Echo(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.sources: set[tuple[str, int]] = set()

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.sources.add(addr)
        self.transport.sendto(data, addr)


class _Asking(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.came: asyncio.Queue[bytes] = asyncio.Queue()

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.came.put_nowait(data)


class _Flood:
    """A stream that brings datagrams of no bytes, as many as are read at once."""

    def __init__(self) -> None:
        self.reads = 0

    async def read_bytes(self, size: int) -> bytes:
        self.reads += 1
        return bytes(size if self.reads == 1 else 0)


class _Silent:
    """A program that counts what it gets."""

    def __init__(self) -> None:
        self.got = 0

    async def receive(self) -> bytes:
        await asyncio.Event().wait()
        return b""

    def send(self, data: bytes) -> None:
        self.got += 1


def test_a_flood_of_datagrams_of_no_bytes_does_not_hold_up_the_node() -> None:
    async def scene() -> None:
        program, most, before = _Silent(), 0, 0
        flood = asyncio.ensure_future(datagrams.carry_datagrams(_Flood(), program))  # type: ignore[arg-type]
        while not flood.done():
            await asyncio.sleep(0)
            most, before = max(most, program.got - before), program.got
        assert program.got == datagrams.READ_BYTES // 2
        assert most <= datagrams.IN_ROW_MAX

    run(scene())


@contextlib.asynccontextmanager
async def echo() -> AsyncIterator[tuple[int, _Echo]]:
    """A program that says what it hears, at which port."""
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(_Echo, ("127.0.0.1", 0))
    yield transport.get_extra_info("sockname")[1], protocol
    transport.close()


class Program:
    """A program with one socket, which sends to a port here."""

    def __init__(self, transport: asyncio.DatagramTransport, came: "asyncio.Queue[bytes]") -> None:
        self._transport = transport
        self.came = came

    async def ask(self, data: bytes, wait_s: float = 5.0) -> bytes:
        """The answer."""
        self._transport.sendto(data)
        async with asyncio.timeout(wait_s):
            return await self.came.get()


@contextlib.asynccontextmanager
async def program(address: str) -> AsyncIterator[Program]:
    """One that sends to `address`."""
    host, _, port = address.rpartition(":")
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(_Asking, remote_addr=(host, int(port)))
    yield Program(transport, protocol.came)
    transport.close()


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not is_so():
            await asyncio.sleep(0.01)


def test_each_program_has_a_flow_and_datagrams_of_every_size_pass(tmp_path: Path) -> None:
    async def play() -> None:
        async with friends(tmp_path) as (anna, ben), echo() as (port, there):
            assert anna.expose.expose(f"udp:{port}", "dns", ["contacts"]).target == f"udp:127.0.0.1:{port}"
            line = await ben.expose.connect(f"{anna.peer_id}/dns")
            assert (line.kind, line.web) == ("udp", "")
            async with program(line.address) as one, program(line.address) as two:
                for size in (1, PACKET, LARGE, DATAGRAM_BYTES_MAX):
                    for asking in (one, two):
                        data = os.urandom(size)
                        assert await asking.ask(data) == data
                assert len(there.sources) == 2
                assert anna.expose.exposed()[0].connections == 2
                assert ben.expose.connected()[0].connections == 2
            await ben.expose.disconnect(f"{anna.peer_id}/dns")
            await until(lambda: not anna.expose.exposed()[0].connections)

    run(play())


class _NoDatagrams(PerfectLinks):
    def drops_datagram(self, sender: PeerId, receiver: PeerId, size_bytes: int) -> bool:
        return True


def test_what_fits_goes_as_packets_and_what_does_not_goes_over_the_stream(tmp_path: Path) -> None:
    async def play() -> None:
        network = MemoryNetwork(policy=_NoDatagrams())
        async with (
            memory_node(network, tmp_path / "anna") as anna,
            memory_node(network, tmp_path / "ben") as ben,
            echo() as (port, _),
        ):
            await befriend(anna, ben)
            anna.expose.expose(f"udp:{port}", "dns", ["contacts"])
            line = await ben.expose.connect(f"{anna.peer_id}/dns")
            async with program(line.address) as asking:
                assert len(await asking.ask(bytes(LARGE))) == LARGE
                with pytest.raises(TimeoutError):
                    await asking.ask(bytes(PACKET), 0.2)

    run(play())


def test_a_flow_without_datagrams_ends_on_both_sides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datagrams, "IDLE_S", 0.3)

    async def play() -> None:
        async with friends(tmp_path) as (anna, ben), echo() as (port, there):
            anna.expose.expose(f"udp:{port}", "dns", ["contacts"])
            line = await ben.expose.connect(f"{anna.peer_id}/dns")
            async with program(line.address) as asking:
                assert await asking.ask(b"one") == b"one"
                await until(lambda: not any(connections(anna, ben)))
                assert await asking.ask(b"two") == b"two"
                assert len(there.sources) == 2  # another flow

    run(play())


def connections(anna: Node, ben: Node) -> list[int]:
    """What both sides list."""
    return [anna.expose.exposed()[0].connections, ben.expose.connected()[0].connections]


def test_a_right_taken_back_ends_the_flow(tmp_path: Path) -> None:
    async def play() -> None:
        async with friends(tmp_path) as (anna, ben), echo() as (port, _):
            anna.expose.expose(f"udp:{port}", "dns", ["contacts"])
            line = await ben.expose.connect(f"{anna.peer_id}/dns")
            async with program(line.address) as asking:
                assert await asking.ask(b"one") == b"one"
                anna.expose.unexpose("dns")
                await until(lambda: not ben.expose.connected()[0].connections)
                with pytest.raises(TimeoutError):
                    await asking.ask(b"two", 0.2)
                await until(lambda: "no such service" in ben.expose.connected()[0].state)

    run(play())


def test_the_ports_are_open_again_after_a_restart(tmp_path: Path) -> None:
    async def play() -> None:
        network = MemoryNetwork()
        async with memory_node(network, tmp_path / "anna") as anna, echo() as (port, _):
            async with memory_node(network, tmp_path / "ben") as ben:
                await befriend(anna, ben)
                anna.expose.expose(f"udp:{port}", "dns", ["contacts"])
                address = (await ben.expose.connect(f"{anna.peer_id}/dns")).address
            async with memory_node(network, tmp_path / "ben") as ben, program(address) as asking:
                assert await asking.ask(b"one") == b"one"

    run(play())


@pytest.mark.parametrize("target", ["udp:", "udp:0", "udp:unix:/run/socket"])
def test_what_is_no_target(tmp_path: Path, target: str) -> None:
    async def play() -> None:
        async with friends(tmp_path) as (anna, _):
            with pytest.raises(UsageError):
                anna.expose.expose(target, "dns", ["contacts"])
            with pytest.raises(UsageError):
                anna.expose.expose("udp:53", "dns", ["contacts"], host_header="localhost")

    run(play())


def test_packets_say_whose_flow_they_are_of() -> None:
    assert pack_packet(5, b"x", is_asker=True) == b"\0\0\0\x0bx"
    assert read_packet(b"\0\0\0\x0bx") == (5, True, b"x")
    assert read_packet(pack_packet(FLOW_MAX, b"", is_asker=False)) == (FLOW_MAX, False, b"")
    with pytest.raises(PeerError):
        read_packet(b"\0\0\0")
