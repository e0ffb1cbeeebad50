"""Carries datagrams between a stream of a peer and a UDP socket. They arrive in order or not at all."""

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress

from coterie.apps.expose.messages import DATAGRAM_BYTES_MAX, Datagrams, pack_datagram
from coterie.apps.expose.splice import Charge, wait_both
from coterie.net import Stream

READ_BYTES = 256 << 10
IDLE_S = 120.0  # without a datagram either way; RFC 4787 (REQ-5): two minutes at least


async def carry_datagrams(
    stream: Stream,
    program: socket.socket,
    first: bytes = b"",
    *,
    charge: Charge | None = None,
    heard: Callable[[], None] = lambda: None,
) -> None:
    """Between `stream` and a UDP socket that is connected to the program, until the peer finishes or all is silent.

    Raises:
        PeerError, TransportError: the stream broke.
    """
    loop = asyncio.get_running_loop()
    last = [loop.time()]

    async def outward() -> None:
        while True:
            left_s = last[0] + IDLE_S - loop.time()
            if left_s <= 0:
                await stream.finish()
                return
            with suppress(
                TimeoutError, ConnectionRefusedError
            ):  # nothing listens there now: as with UDP itself
                async with asyncio.timeout(left_s):
                    data = await loop.sock_recv(program, DATAGRAM_BYTES_MAX)
                last[0] = loop.time()
                if charge is not None:
                    await charge(len(data))
                await stream.write(pack_datagram(data))

    async def inward() -> None:
        cutter, data = Datagrams(), first or await stream.read_bytes(READ_BYTES)
        while data:
            heard()
            last[0] = loop.time()
            if charge is not None:
                await charge(len(data))
            for datagram in cutter.feed(data):
                with suppress(OSError):  # too long for there, or nothing listens: as with UDP itself
                    await loop.sock_sendall(program, datagram)
            data = await stream.read_bytes(READ_BYTES)
        last[0] = 0.0

    await wait_both(outward(), inward(), is_over_with_second=True)
