"""Real QUIC endpoints through real relays: connect, move to a direct path, survive a relay's end."""

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import pytest

from coterie.errors import CoterieError, TransportError, UsageError
from coterie.net.interfaces import RawConnection
from coterie.net.quic.transport import QuicTransport
from coterie.net.relay.home import HomeRelays, serve_relay
from coterie.net.relay.home_core import HomeRelayLimits
from coterie.net.relay.server import RelayServer
from tests.net.conftest import Lab

HOST = "127.0.0.1"


def url_of(relay: RelayServer) -> str:
    return f"http://{HOST}:{relay.port}"


@asynccontextmanager
async def relays(count: int) -> AsyncIterator[list[RelayServer]]:
    made = [RelayServer(may_use=lambda peer: True, host=HOST) for _ in range(count)]
    for relay in made:
        await relay.start()
    try:
        yield made
    finally:
        for relay in made:
            await relay.close()


@asynccontextmanager
async def bound(number: int, *urls: str) -> AsyncIterator[QuicTransport]:
    transport = await QuicTransport.bind(Lab.key(number), bind_ip=HOST, relays=urls)
    try:
        yield transport
    finally:
        await transport.close()


@contextmanager
def no_direct_path(*transports: QuicTransport) -> Iterator[None]:
    """Nothing reaches these endpoints over UDP, as behind a firewall that lets only TCP out."""
    ports = sorted({address.rpartition(":")[2] for t in transports for address in t.addresses})
    name = f"coterie_{os.getpid()}_{ports[0]}"
    rules = f"table inet {name} {{\nchain in {{\ntype filter hook input priority 0;\n"
    rules += f"udp dport {{ {', '.join(ports)} }} drop;\n}}\n}}\n"
    if shutil.which("nft") is None:
        pytest.skip("nft is not installed")
    made = subprocess.run(["nft", "-f", "-"], input=rules, text=True, capture_output=True, check=False)
    if made.returncode:
        pytest.skip(f"nft may not be used here: {made.stderr.strip()[:100]}")
    try:
        yield
    finally:
        subprocess.run(["nft", "delete", "table", "inet", name], check=True)


async def until(what: object, timeout_s: float = 10.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not what():  # type: ignore[operator]
            await asyncio.sleep(0.02)


async def send(connection: RawConnection, size: int, pause_s: float = 0.0) -> None:
    stream = await connection.open_stream()
    piece = bytes(65536)
    for _ in range(size // len(piece)):
        await stream.write(piece)
        await asyncio.sleep(pause_s)
    await stream.finish()


async def receive(connection: RawConnection, count: list[int]) -> None:
    stream = await connection.accept_stream()
    while data := await stream.read(1 << 18):
        count[0] += len(data)


async def link(
    one: QuicTransport, other: QuicTransport, *addresses: str
) -> tuple[RawConnection, RawConnection]:
    async with asyncio.timeout(10):
        a, b = await asyncio.gather(one.connect(other.peer_id, addresses), other.accept())
    return a, b


def test_two_peers_connect_by_a_relay_and_then_directly(quic: Lab) -> None:
    async def scene() -> None:
        async with relays(1) as (relay,), bound(1) as one, bound(2, url_of(relay)) as other:
            await until(lambda: other.home_relay == url_of(relay))
            await until(lambda: relay.clients == [other.peer_id])
            changes: list[str] = []
            one.watch(path=lambda connection, path: changes.append(path.kind))
            with no_direct_path(one, other):
                a, _ = await link(one, other, url_of(relay))
                assert a.path.kind == "relay"
                assert a.path.remote == url_of(relay)
            assert not changes
            await one.seek_direct(other.peer_id, other.addresses)
            await until(lambda: changes == ["direct"])
            assert a.path.kind == "direct"
            assert a.path.remote in other.addresses

    quic.run(scene())


def test_bytes_go_through_the_relay_while_there_is_no_direct_path(quic: Lab) -> None:
    async def scene() -> None:
        async with relays(1) as (relay,), bound(1) as one, bound(2, url_of(relay)) as other:
            await until(lambda: relay.clients == [other.peer_id])
            with no_direct_path(one, other):
                a, b = await link(one, other, url_of(relay))
                count = [0]
                await asyncio.gather(send(a, 4 << 20), receive(b, count))
                assert count[0] == 4 << 20
                assert a.path.kind == b.path.kind == "relay"
                assert relay.metrics().forwarded_bytes > 4 << 20
                assert set(relay.clients) == {one.peer_id, other.peer_id}

    quic.run(scene())


def test_of_several_relays_the_one_where_the_peer_is_gets_through(quic: Lab) -> None:
    async def scene() -> None:
        async with relays(2) as (absent, present), bound(1) as one, bound(2, url_of(present)) as other:
            await until(lambda: present.clients == [other.peer_id])
            dead = f"http://{HOST}:1"
            a, _ = await link(one, other, dead, url_of(absent), url_of(present))
            assert a.path.remote in {url_of(present), *other.addresses}

    quic.run(scene())


def test_a_transfer_goes_on_through_another_relay_when_the_one_in_use_dies(quic: Lab) -> None:
    async def scene() -> None:
        async with relays(2) as pair, bound(1) as one, bound(2) as other:
            homes = HomeRelays(other, limits=HomeRelayLimits(active_s=1.0))
            homes.set_candidates([url_of(relay) for relay in pair])
            await until(lambda: len(homes.homes) == 2 and other.home_relay == homes.homes[0])
            known = homes.homes
            dying, spare = sorted(pair, key=lambda relay: url_of(relay) != known[0])
            await until(lambda: other.peer_id in dying.clients)
            with no_direct_path(one, other):
                a, b = await link(one, other, *known)
                count = [0]
                sending = asyncio.create_task(
                    send(a, 1 << 30, 0.02)
                )  # at full rate: see docs/protocol/relay.md
                receiving = asyncio.create_task(receive(b, count))
                await until(lambda: count[0] > 1 << 20)
                began = asyncio.get_running_loop().time()
                await dying.close()
                with pytest.raises(TransportError, match="relay"):
                    await sending
                noticed_s = asyncio.get_running_loop().time() - began
                await until(lambda: other.peer_id in spare.clients)
                a, b = await link(one, other, *known)
                took_s = asyncio.get_running_loop().time() - began
                print(f"noticed after {noticed_s:.1f} s, connected again after {took_s:.1f} s")
                assert a.path.remote == url_of(spare)
                assert took_s < 10
                receiving.cancel()
                await asyncio.gather(receiving, return_exceptions=True)
                await asyncio.gather(send(a, 1 << 20), receive(b, [0]))
            await homes.close()

    quic.run(scene(), 60)


def test_a_stranger_gets_nothing_from_a_relay(quic: Lab) -> None:
    async def scene() -> None:
        friend = Lab.key(2).peer_id
        relay = await serve_relay(lambda peer: peer == friend, host=HOST)
        assert relay is not None
        async with relay, bound(1) as stranger, bound(2, url_of(relay)) as other:
            await until(lambda: relay.clients == [friend])
            with pytest.raises((TransportError, TimeoutError)):
                async with asyncio.timeout(2):
                    await stranger.connect(other.peer_id, [url_of(relay)])
            assert relay.clients == [friend]
            metrics = relay.metrics()
            assert metrics.denied >= 1
            assert metrics.forwarded_datagrams == 0

    quic.run(scene())


def test_no_relay_is_served_when_nobody_is_known(quic: Lab) -> None:
    async def scene() -> None:
        assert await serve_relay(None) is None

    quic.run(scene())


def test_relays_are_changed_at_run_time_and_texts_checked(quic: Lab) -> None:
    async def scene() -> None:
        async with relays(2) as (first, second), bound(1, url_of(first)) as one:
            await until(lambda: one.home_relay == url_of(first))
            await one.set_relays([url_of(second) + "/"])
            assert one.relays == [url_of(second)]
            await until(lambda: one.home_relay == url_of(second))
            await until(lambda: second.clients == [one.peer_id])
            await one.set_relays([])
            assert one.home_relay is None
            for text in ("127.0.0.1:80", "ftp://host:1", "http://host:1/path", "http://:5", "http://h:99999"):
                with pytest.raises(UsageError, match="is not a relay"):
                    await one.set_relays([text])

    quic.run(scene())


def test_external_addresses_come_and_go(quic: Lab) -> None:
    async def scene() -> None:
        async with bound(1) as one:
            await one.add_external_address("192.0.2.7:4711")
            await until(lambda: "192.0.2.7:4711" in one.addresses)
            assert await one.remove_external_address("192.0.2.7:4711")
            assert not await one.remove_external_address("192.0.2.7:4711")
            await until(lambda: "192.0.2.7:4711" not in one.addresses)
            with pytest.raises(CoterieError):
                await one.add_external_address("nonsense")

    quic.run(scene())


@pytest.mark.slow
def test_a_transfer_outlives_the_direct_path_and_takes_it_again(quic: Lab) -> None:
    async def scene() -> None:
        async with relays(1) as (relay,), bound(1) as one, bound(2, url_of(relay)) as other:
            await until(lambda: relay.clients == [other.peer_id])
            a, b = await link(one, other, url_of(relay))
            await until(lambda: a.path.kind == "direct")
            count, sent = [0], [0]
            is_over = asyncio.Event()
            loop = asyncio.get_running_loop()
            receiving = asyncio.create_task(receive(b, count))

            async def paced() -> None:
                stream = await a.open_stream()
                while not is_over.is_set():
                    await stream.write(bytes(1 << 18))
                    sent[0] += 1 << 18
                    await asyncio.sleep(0.05)
                await stream.finish()

            sending = asyncio.create_task(paced())
            await until(lambda: count[0] > 4 << 20)
            began = loop.time()
            with no_direct_path(one, other):
                await until(lambda: a.path.kind == "relay", 30)
                before = count[0]
                await until(lambda: count[0] > before + (2 << 20), 20)
                print(f"on the relay after {loop.time() - began:.1f} s")
            began = loop.time()
            await until(lambda: a.path.kind == "direct", 40)
            print(f"direct again after {loop.time() - began:.1f} s")
            is_over.set()
            await sending
            await receiving
            assert count == sent

    quic.run(scene(), 100)
