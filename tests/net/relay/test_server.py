"""The relay on real sockets: HTTP, WebSocket clients good and hostile, memory, the end."""

import asyncio
import os
import resource
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from coterie.errors import TransportError, UsageError
from coterie.identity import SecretKey
from coterie.net.relay.probe import probe_relay
from coterie.net.relay.server import RelayServer
from coterie.net.relay.server_core import RelayLimits
from coterie.wire import relay as wire
from tests.net.conftest import Lab
from tests.support import run, watch_steps

HOST = "127.0.0.1"


@asynccontextmanager
async def serving(**limits: Any) -> AsyncIterator[RelayServer]:
    async with RelayServer(may_use=lambda peer: True, limits=RelayLimits(**limits), host=HOST) as relay:
        yield relay


async def websocket(relay: RelayServer, *versions: int, **options: Any) -> ClientConnection:
    names = [Subprotocol(f"iroh-relay-v{version}") for version in versions or (1, 2)]
    return await connect(
        f"ws://{HOST}:{relay.port}/relay", subprotocols=names, compression=None, close_timeout=0.2, **options
    )


async def hear(socket: ClientConnection) -> Any:
    async with asyncio.timeout(5):
        return wire.decode_at_client(await socket.recv(decode=False))


async def client(relay: RelayServer, number: int, **options: Any) -> tuple[ClientConnection, SecretKey]:
    socket, key = await websocket(relay, **options), Lab.key(number)
    await socket.send(wire.encode(wire.answer(await hear(socket), key)))
    assert await hear(socket) == wire.Confirmed()
    return socket, key


async def ends(socket: ClientConnection, timeout_s: float = 5) -> None:
    """Whatever still comes, the relay closes."""
    with pytest.raises(ConnectionClosed):
        async with asyncio.timeout(timeout_s):
            while True:
                await socket.recv()


async def still_serves(relay: RelayServer) -> None:
    one, other = await client(relay, 1001), await client(relay, 1002)
    await one[0].send(wire.encode(wire.Outbound(other[1].peer_id, 0, b"alive?")))
    heard = await hear(other[0])
    assert (heard.peer, bytes(heard.contents)) == (one[1].peer_id, b"alive?")
    for socket, _ in (one, other):
        await socket.close()


async def ask(relay: RelayServer, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(HOST, relay.port)
    writer.write(request)
    async with asyncio.timeout(5):
        answer = await reader.read()
    writer.transport.abort()
    return answer


def test_plain_http_and_probes() -> None:
    async def scene() -> None:
        async with serving() as relay:
            assert (await ask(relay, b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n")).startswith(b"HTTP/1.1 200")
            none = await ask(relay, b"GET /generate_204 HTTP/1.1\r\nHost: x\r\n\r\n")
            assert none.startswith(b"HTTP/1.1 204")
            assert b"Content-Length" not in none
            assert await ask(relay, b"nonsense\r\n\r\n") == b"", "closed without a word"
            assert 0 < await probe_relay(f"http://{HOST}:{relay.port}") < 2
        with pytest.raises(TransportError, match="cannot be reached"):
            await probe_relay(f"http://{HOST}:1")

    run(scene())


def test_the_newest_common_version_is_chosen_and_none_is_refused() -> None:
    async def scene() -> None:
        async with serving() as relay:
            for offered, chosen in (((1,), 1), ((2,), 2), ((1, 2), 2), ((3, 1), 1)):
                socket = await websocket(relay, *offered)
                assert socket.subprotocol == f"iroh-relay-v{chosen}"
                await socket.close()
            with pytest.raises(InvalidStatus):
                await websocket(relay, 3)

    run(scene())


def test_a_taken_port_is_named() -> None:
    async def scene() -> None:
        async with serving() as relay:
            with pytest.raises(UsageError, match=f"TCP {HOST}:{relay.port}"):
                await RelayServer(may_use=lambda peer: True, host=HOST, port=relay.port).start()

    run(scene())


def test_a_message_in_fragments_is_one_frame() -> None:
    async def scene() -> None:
        async with serving() as relay:
            (one, _), (other, key) = await client(relay, 1), await client(relay, 2)
            frame = wire.encode(wire.Outbound(key.peer_id, 0, b"in several pieces"))
            await one.send([frame[:10], frame[10:40], frame[40:]])
            assert bytes((await hear(other)).contents) == b"in several pieces"
            await one.close()
            assert isinstance(await hear(other), wire.PeerGone)
            await other.close()

    run(scene())


BAD_MESSAGES = {
    "empty": b"",
    "garbage": b"\x04garbage",
    "spoofed source": b"\x06" + bytes(33) + b"data",
    "datagram too large": b"\x04" + bytes(33) + bytes(wire.CONTENTS_BYTES_MAX + 1),
    "oversized": bytes(wire.FRAME_BYTES_MAX + 1),
    "text": "text",
    "authenticated again": wire.encode(wire.Authentication(Lab.key(5).peer_id, bytes(64))),
}


@pytest.mark.parametrize("name", BAD_MESSAGES)
def test_a_client_that_breaks_the_protocol_is_closed(name: str) -> None:
    async def scene() -> None:
        async with serving() as relay:
            socket, _ = await client(relay, 1)
            await socket.send(BAD_MESSAGES[name])
            await ends(socket)
            assert relay.clients == []
            await still_serves(relay)

    run(scene())


@pytest.mark.parametrize("said", ["wrong signature", "another challenge", "nothing right"])
def test_without_authentication_nobody_gets_in(said: str) -> None:
    async def scene() -> None:
        async with serving() as relay:
            socket, key = await websocket(relay), Lab.key(1)
            challenge = await hear(socket)
            right = wire.answer(challenge, key)
            if said == "wrong signature":
                answer: wire.ToRelay = wire.Authentication(Lab.key(2).peer_id, right.signature)
            elif said == "another challenge":
                answer = wire.answer(wire.Challenge(bytes(16)), key)
            else:
                answer = wire.Outbound(key.peer_id, 0, b"hello")
            await socket.send(wire.encode(answer))
            await ends(socket)
            assert relay.clients == []
            await still_serves(relay)

    run(scene())


def test_links_that_say_nothing_are_ended_and_do_not_keep_others_out() -> None:
    async def scene() -> None:
        async with serving(handshakes_max=4, handshake_s=0.5) as relay:
            silent = [await asyncio.open_connection(HOST, relay.port) for _ in range(40)]
            await asyncio.sleep(0.1)
            assert relay.metrics().handshakes <= 4
            await still_serves(relay)
            async with asyncio.timeout(5):
                for reader, writer in silent:
                    assert await reader.read() == b""
                    writer.transport.abort()
            assert relay.metrics().handshakes == 0

    run(scene())


def test_one_who_never_reads_costs_a_bounded_queue() -> None:
    async def scene() -> None:
        async with serving(queue_bytes_max=200_000, stall_s=0.5) as relay:
            (sender, _) = await client(relay, 1)
            deaf, key = await client(relay, 2, max_queue=1)
            deaf.transport.pause_reading()
            frame = wire.encode(wire.Outbound(key.peer_id, 0, bytes(60_000), 1200))
            largest = 0
            async with asyncio.timeout(20):
                while key.peer_id in relay.clients:
                    await sender.send(frame)
                    largest = max(largest, *(link.backlog for link in relay._links))
                    await asyncio.sleep(0)
            assert relay.metrics().dropped_queue_full > 0
            assert largest <= 200_000 + 1_000
            assert relay.metrics().ended_for_silence == 1
            await still_serves(relay)
            deaf.transport.abort()
            await sender.close()

    run(scene())


PING = b"\x89\xfd\0\0\0\0" + bytes(125)  # the WebSocket's own, masked by nothing
TINY_PING = b"\x89\x80\0\0\0\0"


def test_one_who_sends_pings_and_never_reads_costs_a_bounded_queue() -> None:
    async def scene() -> None:
        async with serving(queue_bytes_max=200_000, stall_s=0.5, control_frames_per_s_max=1e5) as relay:
            deaf, key = await client(relay, 1, max_queue=1)
            deaf.transport.pause_reading()
            before, largest, sent = resident_mb(), 0, 0
            async with asyncio.timeout(20):
                while key.peer_id in relay.clients and sent < 200_000_000:
                    if deaf.transport.get_write_buffer_size() < 1_000_000:
                        deaf.transport.write(PING * (50_000 // len(PING)))
                        sent += 50_000
                    await asyncio.sleep(0)
                    largest = max([largest, *(link.backlog for link in relay._links)])
            assert key.peer_id not in relay.clients, "it never takes anything: it goes"
            assert largest <= 200_000
            assert resident_mb() - before < 20
            await still_serves(relay)
            deaf.transport.abort()

    run(scene())


@pytest.mark.slow
def test_many_who_ping_and_never_read_leave_the_relay_to_the_others() -> None:
    """Twenty of them for twenty seconds, each coming again when it was closed, beside two who talk."""

    async def scene() -> None:
        async with serving() as relay:
            one, other = (await client(relay, 1))[0], (await client(relay, 2))[0]
            frame = wire.encode(wire.Outbound(Lab.key(2).peer_id, 0, bytes(1_200)))
            before, largest_mb, heard, sent = resident_mb(), 0.0, 0, 0

            async def deaf(number: int) -> None:
                while True:
                    socket, _ = await client(relay, number, max_queue=1)
                    socket.transport.pause_reading()
                    while not socket.transport.is_closing():
                        if socket.transport.get_write_buffer_size() < 200_000:
                            socket.transport.write(PING * 1_000)
                        await asyncio.sleep(0.02)

            with watch_steps() as steps:
                floods = [asyncio.ensure_future(deaf(number)) for number in range(10, 30)]
                began = asyncio.get_running_loop().time()
                while asyncio.get_running_loop().time() - began < 20:
                    await one.send(frame)
                    sent += 1
                    with suppress(TimeoutError):
                        heard += isinstance(await hear(other), wire.Inbound)
                    largest_mb = max(largest_mb, resident_mb() - before)
            for task in floods:
                task.cancel()
            await asyncio.gather(*floods, return_exceptions=True)
            print(
                f"{heard} of {sent} datagrams; {largest_mb:.0f} MB more, both ends of all in one process; "
                f"longest step {1000 * steps.longest_s:.0f} ms"
            )
            assert heard >= 0.99 * sent
            assert sent >= 1_000
            assert largest_mb < 60  # of 20 queues of 1 MiB, and what twenty senders hold themselves
            assert steps.longest_s < 0.1, steps.what
            for link in list(relay._links):
                link.abort()
            await asyncio.sleep(0.5)  # the clients' own tasks end

    run(scene(), 60)


def test_many_tiny_pings_at_once_are_not_one_long_step() -> None:
    async def scene() -> None:
        async with serving(control_frames_per_s_max=1e6) as relay:
            pinging, _ = await client(relay, 1, max_queue=1)
            pinging.transport.pause_reading()
            with watch_steps() as steps:
                pinging.transport.write(TINY_PING * 60_000)
                await still_serves(relay)
                async with asyncio.timeout(10):
                    while relay.metrics().forwarded_datagrams and pinging.transport.get_write_buffer_size():
                        await asyncio.sleep(0.01)
            print(f"longest step {1000 * steps.longest_s:.0f} ms: {steps.what}")
            assert steps.longest_s < 0.1, steps.what
            pinging.transport.abort()

    run(scene())


def test_pings_before_the_authentication_are_bounded() -> None:
    async def scene() -> None:
        async with serving() as relay:
            socket = await websocket(relay)
            socket.transport.write(PING * 10_000)
            await ends(socket)
            await still_serves(relay)
            reader, writer = await asyncio.open_connection(HOST, relay.port)
            writer.write(b"GET /relay HTTP/1.1\r\n" + b"X: y\r\n" * 20_000)
            with suppress(ConnectionError):  # it closes without reading the rest
                assert b"HTTP/1.1 101" not in await reader.read()
            writer.transport.abort()

    run(scene())


def test_a_flood_is_dropped_and_slowed_and_others_are_served() -> None:
    async def scene() -> None:
        async with serving(bytes_per_s_max=1_000_000, burst_s=0.1) as relay:
            flooder, _ = await client(relay, 1)
            _, key = target = await client(relay, 2)
            frame = wire.encode(wire.Outbound(key.peer_id, 0, bytes(60_000), 1200))

            async def flood() -> None:
                while True:
                    await flooder.send(frame)

            flooding = asyncio.create_task(flood())
            await asyncio.sleep(1.0)
            await still_serves(relay)
            flooding.cancel()
            metrics = relay.metrics()
            assert metrics.forwarded_bytes < 3_500_000
            assert metrics.dropped_over_rate > 0
            assert metrics.pauses > 0
            flooder.transport.abort()
            await target[0].close()

    run(scene())


def test_the_end_is_announced() -> None:
    async def scene() -> None:
        async with serving() as relay:
            socket, _ = await client(relay, 1)
            await relay.close()
            assert isinstance(await hear(socket), wire.Restarting)
            await ends(socket)
            await relay.close()

    run(scene())


def test_two_hundred_idle_clients_take_less_than_fifty_megabytes() -> None:
    async def scene() -> None:
        async with serving() as relay:
            before = resident_mb()
            sockets = [(await client(relay, number))[0] for number in range(1, 201)]
            used = resident_mb() - before
            print(f"200 idle clients, both their ends: {used:.1f} MB")
            assert len(relay.clients) == 200
            assert used < 50
            for socket in sockets:
                socket.transport.abort()

    run(scene())


def resident_mb() -> float:
    pages = Path("/proc/self/statm")
    if pages.exists():
        return int(pages.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
