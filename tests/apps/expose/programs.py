"""Programs of this machine for the tests: small servers, and what calls them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.close()


@contextlib.asynccontextmanager
async def echo_server(answer: object = _echo) -> AsyncIterator[int]:
    """A server that says what it hears; its port."""
    writers: list[asyncio.StreamWriter] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        await answer(reader, writer)  # type: ignore[operator]

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in writers:
            writer.close()
        await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def call(address: str) -> AsyncIterator[Pair]:
    """A connection to "host:port"."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def echoed(address: str, data: bytes) -> bytes:
    """What comes back until the end for `data` and its end."""
    async with call(address) as (reader, writer):
        writer.write(data)
        writer.write_eof()
        return await reader.read()
