"""Hostile peers: bounded memory, the stream or connection closed, the node lives."""

import asyncio
import os
import random
import tracemalloc
from contextlib import suppress

import pytest

from coterie.errors import CloseCode, CoterieError, PeerError
from coterie.net import Endpoint, Stream
from coterie.net.interfaces import RawConnection, RawStream
from coterie.wire.frames import HEADER
from coterie.wire.handshake import HANDSHAKE, Hello, StreamHeader, Welcome
from tests.net.conftest import NOTES, Lab, Note
from tests.net.test_endpoint import ask, echo, settle

BOOT = bytes(16)
HEADER_OF_NOTES = HANDSHAKE.encode(StreamHeader("notes", [1]))


async def intrude(lab: Lab, victim: Endpoint, number: int = 66) -> RawConnection:
    """A raw connection to `victim` that has greeted properly."""
    transport = await lab.transport(number)
    raw = await transport.connect(victim.peer_id, victim.addresses)
    stream = await raw.open_stream()
    await stream.write(HANDSHAKE.encode(Hello(BOOT)))
    await stream.finish()
    assert isinstance(await first_message(stream), Welcome)
    return raw


async def first_message(stream: RawStream) -> object:
    data = await stream.read(4096)
    return HANDSHAKE.decode(data[4], data[5:])


async def code_of(stream: RawStream) -> int:
    """The code with which the victim ends `stream`."""
    with pytest.raises(PeerError) as caught:
        while await stream.read(4096):
            pass
        pytest.fail("the stream was finished, not reset")
    return caught.value.close_code


async def still_serves(lab: Lab, victim: Endpoint, number: int = 5) -> None:
    friend = await lab.endpoint(number)
    assert await ask(await friend.connect(victim.peer_id, victim.addresses), "alive?") == "alive?"
    await friend.close()


GREETINGS = {
    "oversized": (1 << 30).to_bytes(4, "big"),
    "one over the limit": (4097).to_bytes(4, "big"),
    "empty frame": bytes(4),
    "garbage": b"GET / HTTP/1.1\r\n\r\n",
    "wrong message": HANDSHAKE.encode(Welcome(BOOT)),
    "short boot": HANDSHAKE.encode(Hello(b"short")),
    "not msgpack": HEADER.pack(3, 1) + b"\xc1\xc1",
}


@pytest.mark.parametrize("name", GREETINGS)
def test_a_bad_greeting_closes_the_connection(lab: Lab, name: str) -> None:
    async def scene() -> None:
        async with lab.endpoints(1) as (victim,):
            victim.register(NOTES, echo)
            transport = await lab.transport(66)
            raw = await transport.connect(victim.peer_id, victim.addresses)
            stream = await raw.open_stream()
            await stream.write(GREETINGS[name])
            code, _ = await asyncio.wait_for(raw.closed(), 4)
            assert code in {CloseCode.PROTOCOL_VIOLATION, CloseCode.LIMIT}
            assert not victim.connections
            await still_serves(lab, victim)
            await transport.close()

    lab.run(scene())


@pytest.mark.parametrize("said", [None, b"", b"\x00\x00", HANDSHAKE.encode(Hello(BOOT))[:9]])
def test_silence_instead_of_a_greeting_is_bounded_in_time(lab: Lab, said: bytes | None) -> None:
    async def scene() -> None:
        async with lab.endpoints(1, handshake_s=0.3) as (victim,):
            victim.register(NOTES, echo)
            transport = await lab.transport(66)
            raw = await transport.connect(victim.peer_id, victim.addresses)
            stream = None if said is None else await raw.open_stream()
            if stream is not None and said is not None:
                await stream.write(said)
            code, _ = await asyncio.wait_for(raw.closed(), 4)
            assert code == CloseCode.TIMEOUT
            await still_serves(lab, victim)
            await transport.close()

    lab.run(scene())


HEADERS = {
    "oversized": ((1 << 31).to_bytes(4, "big"), CloseCode.LIMIT),
    "garbage": (bytes([0, 0, 0, 9, 3, 255, 254, 253, 1, 2, 3, 4, 5]), CloseCode.PROTOCOL_VIOLATION),
    "long name": (HANDSHAKE.encode(StreamHeader("x" * 65, [1])), CloseCode.PROTOCOL_VIOLATION),
    "many versions": (HANDSHAKE.encode(StreamHeader("notes", list(range(17)))), CloseCode.PROTOCOL_VIOLATION),
    "no version": (HANDSHAKE.encode(StreamHeader("notes", [])), CloseCode.PROTOCOL_VIOLATION),
    "half and silence": (HEADER_OF_NOTES[:6], CloseCode.TIMEOUT),
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_bad_header_resets_its_stream_only(lab: Lab, name: str) -> None:
    async def scene() -> None:
        async with lab.endpoints(1, header_s=0.3) as (victim,):
            victim.register(NOTES, echo)
            raw = await intrude(lab, victim)
            stream = await raw.open_stream()
            await stream.write(HEADERS[name][0])
            assert await asyncio.wait_for(code_of(stream), 4) == HEADERS[name][1]
            good = await raw.open_stream()
            await good.write(HEADER_OF_NOTES)
            await good.read(100)
            await good.write(NOTES.encode(Note("fine")))
            assert await good.read(100) == NOTES.encode(Note("fine"))
            await still_serves(lab, victim)
            raw.close(0, "")

    lab.run(scene())


BODIES = {
    "oversized frame": ((NOTES.frame_bytes_max + 1).to_bytes(4, "big"), CloseCode.LIMIT),
    "huge frame": (b"\xff\xff\xff\xff" + bytes(1000), CloseCode.LIMIT),
    "empty frame": (bytes(5), CloseCode.PROTOCOL_VIOLATION),
    "malformed": (HEADER.pack(2, 1) + b"\xc1", CloseCode.PROTOCOL_VIOLATION),
    "deep nesting": (HEADER.pack(100_001, 1) + b"\x91" * 100_000, CloseCode.PROTOCOL_VIOLATION),
    "unknown kinds for ever": (HEADER.pack(1, 99) * 65, CloseCode.LIMIT),
    "half a frame and silence": (HEADER.pack(1000, 1) + b"half", CloseCode.TIMEOUT),
}


@pytest.mark.parametrize("name", BODIES)
def test_bad_frames_reset_their_stream_only(lab: Lab, name: str) -> None:
    async def scene() -> None:
        async with lab.endpoints(1, frame_s=0.3) as (victim,):
            victim.register(NOTES, echo)
            raw = await intrude(lab, victim)
            stream = await raw.open_stream()
            await stream.write(HEADER_OF_NOTES)
            assert await stream.read(100)
            await stream.write(BODIES[name][0])
            assert await asyncio.wait_for(code_of(stream), 4) == BODIES[name][1]
            assert not raw.is_closed
            await still_serves(lab, victim)
            raw.close(0, "")

    lab.run(scene())


def test_one_stream_more_than_allowed_is_reset_with_limit(lab: Lab) -> None:
    async def scene() -> None:
        async with lab.endpoints(1, streams_per_peer_max=5) as (victim,):
            victim.register(NOTES, echo)
            raw = await intrude(lab, victim)
            streams = []
            for _ in range(6):
                stream = await raw.open_stream()
                await stream.write(HEADER_OF_NOTES)
                streams.append(stream)
            for stream in streams[:5]:
                assert await asyncio.wait_for(stream.read(100), 4)
            assert await asyncio.wait_for(code_of(streams[5]), 4) == CloseCode.LIMIT
            for stream in streams:
                await stream.reset(0)
            await asyncio.sleep(0.2)
            again = await raw.open_stream()
            await again.write(HEADER_OF_NOTES)
            assert await asyncio.wait_for(again.read(100), 4)
            raw.close(0, "")

    lab.run(scene())


def test_a_million_streams_end_in_a_closed_connection_and_bounded_memory(lab: Lab) -> None:
    async def scene() -> None:
        bounds = {"streams_burst": 50, "streams_per_s": 10.0, "streams_excess_max": 300}
        async with lab.endpoints(1, **bounds) as (victim,):
            victim.register(NOTES, echo)
            raw = await intrude(lab, victim)
            tracemalloc.start()
            before, _ = tracemalloc.get_traced_memory()
            opened = 0
            while opened < 1_000_000 and not raw.is_closed:
                with suppress(CoterieError):  # of this stream, or at last of the connection
                    stream = await asyncio.wait_for(raw.open_stream(), 10)
                    opened += 1
                    await stream.write(b"\x00")
                    await stream.reset(0)
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            assert 300 <= opened < 5_000
            assert peak - before < 8 << 20
            assert await asyncio.wait_for(raw.closed(), 5) == (CloseCode.LIMIT, "too many streams")
            await still_serves(lab, victim)

    lab.run(scene())


def test_a_flood_that_nobody_reads_stays_outside(lab: Lab) -> None:
    """A handler that does not read: the flood is held in the network, not in the node."""

    async def scene() -> None:
        reached = asyncio.Event()

        async def never_reads(stream: Stream) -> None:
            reached.set()
            await asyncio.Event().wait()

        async with lab.endpoints(1) as (victim,):
            victim.register(NOTES, never_reads)
            raw = await intrude(lab, victim)
            stream = await raw.open_stream()
            await stream.write(HEADER_OF_NOTES)
            await reached.wait()
            sent = 0
            try:
                while sent < 100 << 20:
                    await asyncio.wait_for(stream.write(bytes(1 << 16)), 0.3)
                    sent += 1 << 16
            except TimeoutError:
                pass
            assert sent < 4 << 20
            raw.close(0, "")

    lab.run(scene())


def test_connections_over_the_rate_are_closed_with_limit(lab: Lab) -> None:
    async def scene() -> None:
        async with lab.endpoints(1, connections_burst=5, connections_per_s=0.01) as (victim,):
            victim.register(NOTES, echo)
            transport = await lab.transport(66)
            codes = []
            for _ in range(8):
                raw = await transport.connect(victim.peer_id, victim.addresses)
                with suppress(PeerError):  # it may be closed before anything is said
                    await (await raw.open_stream()).write(b"\xff" * 4)
                codes.append((await asyncio.wait_for(raw.closed(), 4))[1])
            assert codes.count("too many connections in a short time") == 3
            await still_serves(lab, victim)
            await transport.close()

    lab.run(scene())


def test_handshakes_are_bounded_in_number(memory: Lab) -> None:
    async def scene() -> None:
        async with memory.endpoints(1, handshakes_max=4, handshake_s=5) as (victim,):
            victim.register(NOTES, echo)
            raws = []
            for number in range(100, 106):
                transport = await memory.transport(number)
                raws.append(await transport.connect(victim.peer_id, victim.addresses))
            await asyncio.sleep(1)
            assert [raw.is_closed for raw in raws] == [False] * 4 + [True] * 2
            assert (await raws[5].closed())[0] == CloseCode.LIMIT
            await asyncio.sleep(5)
            await still_serves(memory, victim)

    memory.run(scene())


def test_random_bytes_at_every_stage(lab: Lab) -> None:
    seed = int(os.environ.get("FUZZ_SEED", "0")) or random.randrange(1 << 32)
    print(f"FUZZ_SEED={seed}")
    chance = random.Random(seed)
    parts = [HEADER_OF_NOTES, NOTES.encode(Note("n")), HANDSHAKE.encode(Hello(BOOT)), HEADER.pack(9, 1)]

    def noise() -> bytes:
        return b"".join(
            chance.choice(parts) if chance.random() < 0.5 else chance.randbytes(chance.randrange(1, 60))
            for _ in range(chance.randrange(1, 6))
        )

    async def scene() -> None:
        async with lab.endpoints(1, header_s=0.2, frame_s=0.2, connections_burst=1_000) as (victim,):
            victim.register(NOTES, echo)
            for number in range(5):
                raw = await intrude(lab, victim, 70 + number)
                streams = []
                for _ in range(20):
                    stream = await raw.open_stream()
                    await stream.write(noise())
                    if chance.random() < 0.5:
                        await stream.finish()
                    streams.append(stream)
                await raw.send_datagram(chance.randbytes(40))
                await raw.send_datagram(b"")
                await asyncio.sleep(0.01)
                raw.close(chance.randrange(1 << 40), chance.randbytes(20).hex())
            await settle([victim], 0)
            await still_serves(lab, victim)

    lab.run(scene())
