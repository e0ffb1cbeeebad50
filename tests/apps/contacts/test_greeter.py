"""Who is at an address: told in one line, to anybody, within bounds; and nothing believed that is not that line."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from coterie.apps.contacts import greeter as greeter_module
from coterie.apps.contacts.greeter import CALLERS_MAX, Greeter, split_address, who_is_at
from coterie.errors import CoterieError, NotFound, PeerError, TransportError, UsageError
from tests.apps.contacts.play import ANNA
from tests.support import run


def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.asynccontextmanager
async def greeting() -> AsyncIterator[str]:
    greeter = Greeter(ANNA)
    address = f"127.0.0.1:{free_port()}"
    await greeter.open([address, "192.0.2.7:1"])
    assert greeter.addresses == [address]  # the other one is not ours
    try:
        yield address
    finally:
        await greeter.close()


def test_the_id_and_the_port_are_told() -> None:
    async def main() -> None:
        async with greeting() as address:
            assert await who_is_at(address) == (ANNA, address)
        with pytest.raises(NotFound, match="nobody invites at"):
            await who_is_at(address)

    run(main())


def test_a_taken_port_is_done_without() -> None:
    async def main() -> None:
        async with greeting() as address:
            other = Greeter(ANNA)
            await other.open([address])
            assert other.addresses == []
            await other.close()

    run(main())


def test_callers_are_bounded_and_closing_does_not_wait_for_them() -> None:
    async def main() -> None:
        async with greeting() as address:
            host, port = split_address(address)
            calls = [await asyncio.open_connection(host, port) for _ in range(CALLERS_MAX * 5)]
            for _, writer in calls:
                writer.write(b"x" * 100)
            said = await asyncio.gather(*(reader.read(200) for reader, _ in calls), return_exceptions=True)
            assert (
                sum(isinstance(line, bytes) and line.startswith(b"coterie/1 ") for line in said)
                >= CALLERS_MAX
            )
            assert await who_is_at(address) == (ANNA, address)
            for _, writer in calls:
                writer.close()

    run(main())


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\n",
        b"SSH-2.0-OpenSSH\r\n",
        b"coterie/1\n",
        b"coterie/1 abc 5\n",
        b"coterie/1 " + str(ANNA).encode() + b" x\n",
        b"coterie/1 " + str(ANNA).encode() + b" 99999\n",
        b"coterie/2 " + str(ANNA).encode() + b" 5\n",
        b"\xff" * 1000,
    ],
)
def test_something_else_is_called_so(line: bytes) -> None:
    async def called(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(line)
        writer.close()

    async def main() -> None:
        server = await asyncio.start_server(called, "127.0.0.1", 0)
        async with server:
            with pytest.raises(PeerError, match="is not coterie"):
                await who_is_at(f"127.0.0.1:{server.sockets[0].getsockname()[1]}")

    run(main())


def test_silence_is_not_waited_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(greeter_module, "ASK_S", 0.1)

    async def main() -> None:
        over = asyncio.Event()

        async def called(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await over.wait()
            writer.close()

        server = await asyncio.start_server(called, "127.0.0.1", 0)
        async with server:
            with pytest.raises(TransportError, match="no answer"):
                await who_is_at(f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
            over.set()
        with pytest.raises(CoterieError):
            await who_is_at("192.0.2.1:1")  # no route in the namespace

    run(main())


@pytest.mark.parametrize(
    "text", ["", "1.2.3.4", "1.2.3.4:", "1.2.3.4:0", "1.2.3.4:65536", "host:5", ":5", "1.2.3.4:²"]
)
def test_what_is_no_address_is_said(text: str) -> None:
    with pytest.raises(UsageError, match=r"like 192\.168\.1\.5:40123"):
        split_address(text)


def test_addresses_of_both_families() -> None:
    assert split_address("192.0.2.1:5") == ("192.0.2.1", 5)
    assert split_address("[2001:db8::1]:5") == ("2001:db8::1", 5)
