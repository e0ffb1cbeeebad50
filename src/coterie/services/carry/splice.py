"""Carries bytes between a stream of a peer and a socket of this machine, each way until that side has finished.

Each way ends alone: a half-closed connection stays open the other way. Each way waits for its receiver. A fault of
one way ends both, and the program sees a reset, not an end that looks whole.
"""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Protocol

from coterie.errors import TransportError
from coterie.texts import tr

READ_BYTES = 256 << 10  # measured: as the best write of the QUIC wheel
_RESET_AT_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER: on, 0 s

Charge = Callable[[int], Awaitable[None]]
"""Counts bytes on a quota and waits while a rate is exceeded."""


class Way(Protocol):
    """What a connection goes over: a `Stream` that is read by bytes, or `Framed`."""

    async def write(self, data: bytes) -> None:
        """Raises `PeerError`, `TransportError`."""
        ...

    async def read_bytes(self, size_max: int = READ_BYTES) -> bytes:
        """What comes, b"" at the end. Raises `PeerError`, `TransportError`."""
        ...

    async def finish(self) -> None:
        """Nothing more will be written."""
        ...


async def splice(
    stream: Way,
    program: socket.socket,
    first: bytes = b"",
    *,
    charge: Charge | None = None,
    charge_outward: Charge | None = None,
    heard: Callable[[], None] = lambda: None,
) -> None:
    """Until both sides have finished. `first`: bytes of the stream that were read already. `heard`: bytes of it came.

    `charge_outward` counts what goes to the peer, where that is counted apart.

    Raises:
        PeerError, TransportError: a side broke; the program will see a reset, and the stream is the caller's to reset.
    """
    try:
        await wait_both(
            outward(stream, program, charge_outward or charge),
            inward(stream, program, first, charge=charge, heard=heard),
        )
    except BaseException:
        break_off(program)
        raise


async def wait_both(one: Coroutine[None, None, None], other: Coroutine[None, None, None]) -> None:
    """Run two ways until both have ended, or with one fault both. Raises the fault."""
    ways = [asyncio.ensure_future(one), asyncio.ensure_future(other)]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_EXCEPTION)
        for way in ways:
            if way.done():
                way.result()
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)


async def outward(stream: Way, program: socket.socket, charge: Charge | None = None) -> None:
    """From the program to the peer, until the program finishes."""
    loop = asyncio.get_running_loop()
    while True:
        try:
            data = await loop.sock_recv(program, READ_BYTES)
        except OSError as error:
            raise TransportError(
                tr("the program here broke off: {strerror}", strerror=error.strerror)
            ) from None
        if not data:
            await stream.finish()
            return
        if charge is not None:
            await charge(len(data))
        await stream.write(data)


async def inward(
    stream: Way,
    program: socket.socket,
    first: bytes = b"",
    *,
    charge: Charge | None = None,
    heard: Callable[[], None] = lambda: None,
) -> None:
    """From the peer to the program, until the peer finishes."""
    loop = asyncio.get_running_loop()
    data = first or await stream.read_bytes(READ_BYTES)
    while data:
        heard()
        if charge is not None:
            await charge(len(data))
        try:
            await loop.sock_sendall(program, data)
        except OSError as error:
            raise TransportError(
                tr("the program here takes no more: {strerror}", strerror=error.strerror)
            ) from None
        data = await stream.read_bytes(READ_BYTES)
    with suppress(OSError):  # it has closed already
        program.shutdown(socket.SHUT_WR)


def break_off(program: socket.socket) -> None:
    """When it is closed, the program at the other end sees a reset."""
    with suppress(OSError):  # not TCP, or closed already
        program.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
