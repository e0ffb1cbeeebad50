"""Carries datagrams between a peer and a program of this machine: as packets where they fit, else over the stream."""

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from coterie.net import Stream
from coterie.services.carry.messages import DATAGRAM_BYTES_MAX, Datagrams, pack_datagram
from coterie.services.carry.packets import PacketFlow
from coterie.services.carry.splice import Charge

READ_BYTES = 256 << 10
IN_ROW_MAX = 64  # datagrams before others have their turn: of no bytes, 100,000 come at once
IDLE_S = 120.0  # without a datagram either way; RFC 4787 (REQ-5): two minutes at least


class Program(Protocol):
    """The end on this machine."""

    async def receive(self) -> bytes:
        """The next datagram."""
        ...

    def send(self, data: bytes) -> None:
        """Send one, or lose it, as UDP does."""
        ...


class UdpProgram:
    """A program at the other end of a connected UDP socket."""

    def __init__(self, made: socket.socket) -> None:
        self._socket = made

    async def receive(self) -> bytes:
        """The next datagram. That nothing listens there now is no end: as with UDP itself."""
        loop = asyncio.get_running_loop()
        while True:
            with suppress(OSError):
                return await loop.sock_recv(self._socket, DATAGRAM_BYTES_MAX)

    def send(self, data: bytes) -> None:
        """Lost where it is too long for there, the buffer is full or nothing listens."""
        with suppress(OSError):
            self._socket.send(data)


class _Turns:
    """Lets others go on after each IN_ROW_MAX."""

    def __init__(self) -> None:
        self._in_row = 0

    async def take(self) -> None:
        """Count one."""
        self._in_row = (self._in_row + 1) % IN_ROW_MAX
        if not self._in_row:
            await asyncio.sleep(0)


async def _free(_: int) -> None:
    """Nothing is counted."""


async def carry_datagrams(
    stream: Stream,
    program: Program,
    first: bytes = b"",
    *,
    packets: PacketFlow | None = None,
    charge: Charge | None = None,
    charge_outward: Charge | None = None,
    heard: Callable[[], None] = lambda: None,
) -> None:
    """Until the peer finishes, or nothing came from either side for IDLE_S.

    `first`: bytes of the stream that were read already. `charge` counts bytes, `charge_outward` those that go to the
    peer, where they are counted apart; `heard` is told that the peer is there.

    Raises:
        PeerError, TransportError, AccessDenied: the stream broke, or the right to it was used up.
    """
    loop = asyncio.get_running_loop()
    last_s, turns = loop.time(), _Turns()
    charge = charge or _free
    charge_outward = charge_outward or charge

    async def outward() -> None:
        nonlocal last_s
        while (left_s := last_s + IDLE_S - loop.time()) > 0:
            try:
                async with asyncio.timeout(left_s):
                    data = await program.receive()
            except TimeoutError:
                continue  # something may have come from the other side meanwhile
            last_s = loop.time()
            await turns.take()
            await charge_outward(len(data))
            if packets is None or not await packets.send(data):
                await stream.write(pack_datagram(data))
        await stream.finish()

    async def give(data: bytes) -> None:
        nonlocal last_s
        last_s = loop.time()
        heard()
        await turns.take()
        await charge(len(data))
        program.send(data)

    async def from_stream() -> None:
        cutter, data = Datagrams(), first or await stream.read_bytes(READ_BYTES)
        while data:
            for datagram in cutter.feed(data):
                await give(datagram)
            data = await stream.read_bytes(READ_BYTES)

    async def from_packets(flow: PacketFlow) -> None:
        while True:
            await give(await flow.came.receive())

    ways = [asyncio.ensure_future(outward()), asyncio.ensure_future(from_stream())]
    if packets is not None:
        ways.append(asyncio.ensure_future(from_packets(packets)))
    try:
        ended, _ = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ended:
            way.result()
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
