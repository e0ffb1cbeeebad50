"""Hostile askers: they get nothing but what their ticket opens, in bounded memory, and others are served as before."""

import asyncio
import contextlib
import secrets
import tracemalloc
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from coterie.content import manifest as m
from coterie.errors import CloseCode, PeerError
from coterie.identity import SecretKey
from coterie.net import Connection, Endpoint, MemoryNetwork, Stream
from coterie.node import Node
from coterie.transfer import giving_session as asker
from coterie.transfer import serve
from coterie.transfer.messages import (
    PROTOCOL,
    REQUESTS_TOGETHER_MAX,
    GetChunks,
    GetManifest,
    GetMany,
    Moved,
    NoManifest,
    Open,
    Opened,
    Refused,
)
from coterie.wire import Ticket
from coterie.wire.frames import Bulk, Message
from tests.apps.files.nodes import memory_node, opening
from tests.support import run

MEMORY_BYTES_MAX = 48 << 20
ASKER = SecretKey(b"asker".ljust(32, b"!"))


@dataclass
class Scene:
    """A node with two shares, the ticket of one, and a connection of somebody who holds it."""

    anna: Node
    ticket: Ticket
    other: Ticket
    connection: Connection
    network: MemoryNetwork

    async def session(self) -> Stream:
        """A stream on which the share is open."""
        stream = await self.connection.open_stream(PROTOCOL)
        await stream.send(opening(self.ticket, ASKER.peer_id))
        assert isinstance(await stream.receive(5), Opened)
        return stream


@contextlib.asynccontextmanager
async def scene(folder: Path) -> AsyncIterator[Scene]:
    """Afterwards somebody honest still gets the share."""
    network = MemoryNetwork()
    for name in ("mine", "secret"):
        (folder / name).mkdir()
        (folder / name / "large").write_bytes(secrets.token_bytes(8_000_000))
        (folder / name / "small").write_text(name)
    async with memory_node(network, folder / "home-anna") as anna:
        shares = [await anna.files.share(folder / name) for name in ("mine", "secret")]
        ticket, other = (Ticket.parse(share.ticket) for share in shares)
        async with Endpoint(network.bind(ASKER.peer_id)) as endpoint:
            yield Scene(anna, ticket, other, await endpoint.connect(ticket.peer, ticket.addresses), network)
        async with memory_node(network, folder / "home-ben") as ben:
            received = await ben.files.get(ticket, folder / "copy")
            assert received.files == 2


async def code_of(stream: Stream) -> int:
    """The code with which the node ends `stream`, whatever it says before."""
    with pytest.raises(PeerError) as caught:
        while await stream.receive(10) is not None:
            pass
        pytest.fail("the stream was finished, not reset")
    return caught.value.close_code


@pytest.mark.parametrize(
    "first",
    [
        PROTOCOL.encode(GetManifest(bytes(32))),
        PROTOCOL.encode(Refused()),
        b"\0\0\0\2\1\x90",
        b"\xff" * 100,
        bytes(4),
    ],
    ids=["a request", "an answer", "malformed", "oversized", "empty"],
)
def test_a_session_without_open(tmp_path: Path, first: bytes) -> None:
    async def main() -> None:
        async with scene(tmp_path) as s:
            stream = await s.connection.open_stream(PROTOCOL)
            await stream.write(first)
            assert await code_of(stream) in (CloseCode.PROTOCOL_VIOLATION, CloseCode.LIMIT)

    run(main())


@pytest.mark.parametrize(
    "message",
    [
        Open(bytes(32), bytes(32)),
        Refused(),
        NoManifest(bytes(32)),
        GetManifest(b""),
        GetManifest(bytes(1_000_000)),
        GetChunks(bytes(31), 0, 1),
        GetMany([(bytes(32), 0, 0, False), (bytes(31), 0, 1, False)]),
    ],
    ids=[
        "open again",
        "refused",
        "an answer",
        "an empty id",
        "an id of a megabyte",
        "a short id",
        "one short id of many",
    ],
)
def test_what_may_not_follow_open(tmp_path: Path, message: Message) -> None:
    async def main() -> None:
        async with scene(tmp_path) as s:
            stream = await s.session()
            await stream.send(message)
            assert await code_of(stream) == CloseCode.PROTOCOL_VIOLATION

    run(main())


@pytest.mark.parametrize("count", [0, REQUESTS_TOGETHER_MAX + 1])
def test_too_little_or_too_much_is_asked_for_at_once(tmp_path: Path, count: int) -> None:
    async def main() -> None:
        async with scene(tmp_path) as s:
            stream = await s.session()
            await stream.send(GetMany([(s.ticket.content_id, 0, 0, False)] * REQUESTS_TOGETHER_MAX))
            for _ in range(REQUESTS_TOGETHER_MAX):
                assert isinstance(await stream.receive(5), Bulk)
            await stream.send(GetMany([(s.ticket.content_id, 0, 0, False)] * count))
            assert await code_of(stream) == CloseCode.LIMIT

    run(main())


def test_another_share_of_the_same_node_is_out_of_reach(tmp_path: Path) -> None:
    async def main() -> None:
        async with scene(tmp_path) as s:
            assert s.anna.store.manifest(s.other.content_id) is not None
            root = m.decode(s.anna.store.manifest(s.other.content_id) or b"")
            below = [child.id for child in m.children(root)]
            assert below, "the other share has a node below its root"
            for manifest in (s.other.content_id, *below, bytes(32)):
                stream = await s.session()
                await stream.send(GetManifest(manifest))
                assert await stream.receive(5) == NoManifest(manifest)
                await stream.send(GetChunks(manifest, 0, 1))
                assert await code_of(stream) == CloseCode.REFUSED
            wrong = await s.connection.open_stream(PROTOCOL)
            await wrong.send(opening(s.ticket, ASKER.peer_id, s.other.content_id))
            assert await wrong.receive(5) == Moved(2, s.ticket.content_id)  # its own share, which it knows

    run(main())


@pytest.mark.parametrize(
    ("first", "count"),
    [(-1, 1), (0, 0), (0, -1), (0, 4097), (1, 1), (2**63, 1), (0, 2**63), (-(2**63), 2**63), (2**62, 2**62)],
)
def test_chunks_that_are_not_there(tmp_path: Path, first: int, count: int) -> None:
    async def main() -> None:
        async with scene(tmp_path) as s:
            stream = await s.session()
            await stream.send(GetManifest(s.ticket.content_id))
            data = await stream.receive(5)
            assert isinstance(data, Bulk)
            chunks = len(m.leaf_chunks(m.decode(bytes(data.data))))
            await stream.send(
                GetChunks(s.ticket.content_id, first + (chunks if first > 0 else 0) - (first == 1), count)
            )
            assert await code_of(stream) == CloseCode.LIMIT

    run(main())


def test_a_million_requests_and_no_reading(tmp_path: Path) -> None:
    async def main() -> None:
        async with scene(tmp_path) as s:
            stream = await s.session()
            sent = 0

            async def ask() -> None:
                nonlocal sent
                requests = PROTOCOL.encode(GetManifest(s.ticket.content_id)) * 1000
                for _ in range(1000):
                    await stream.write(requests)
                    sent += 1000

            tracemalloc.start()
            try:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(ask(), 2)
                assert tracemalloc.get_traced_memory()[1] < MEMORY_BYTES_MAX
            finally:
                tracemalloc.stop()
            assert sent < 1_000_000, "the node reads on although nobody takes its answers"
            await stream.reset()

    run(main())


@pytest.mark.parametrize("words", [b"", b"\0\0\0\x35\1\x92"], ids=["nothing", "half a frame"])
def test_silence_instead_of_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: bytes) -> None:
    monkeypatch.setattr(serve, "OPEN_S", 0.2)

    async def main() -> None:
        async with scene(tmp_path) as s:
            stream = await s.connection.open_stream(PROTOCOL)
            if words:
                await stream.write(words)
            assert await code_of(stream) == CloseCode.TIMEOUT

    run(main())


@pytest.mark.parametrize("words", [b"", b"\0\0\0\x24\4"], ids=["nothing", "half a request"])
def test_silence_instead_of_requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: bytes) -> None:
    monkeypatch.setattr(asker, "SILENCE_S", 0.2)

    async def main() -> None:
        async with scene(tmp_path) as s:
            stream = await s.session()
            if words:
                await stream.write(words)
            assert await code_of(stream) == CloseCode.TIMEOUT

    run(main())


def test_a_flood_of_streams_that_say_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with scene(tmp_path) as s:
            opened: list[Stream] = []
            codes: list[int] = []
            for _ in range(500):
                try:
                    opened.append(await s.connection.open_stream(PROTOCOL))
                except PeerError as error:
                    codes.append(error.close_code)
            assert len(opened) == s.anna.endpoint.limits.streams_per_peer_max  # type: ignore[union-attr]
            assert set(codes) == {CloseCode.LIMIT}

    run(main())


def test_what_others_asked_for_opens_nothing(tmp_path: Path) -> None:
    """The node has just read the other share's chunks for somebody who may: that changes nothing."""

    async def main() -> None:
        async with scene(tmp_path) as s:
            async with memory_node(s.network, tmp_path / "home-carl") as carl:
                await carl.files.get(s.other, tmp_path / "other")
            root = m.decode(s.anna.store.manifest(s.other.content_id) or b"")
            for manifest in (s.other.content_id, *(child.id for child in m.children(root))):
                stream = await s.session()
                await stream.send(GetChunks(manifest, 0, 1))
                assert await code_of(stream) == CloseCode.REFUSED

    run(main())


def test_unshared_while_a_session_is_open(tmp_path: Path) -> None:
    async def main() -> None:
        async with scene(tmp_path) as s:
            stream = await s.connection.open_stream(PROTOCOL)
            await stream.send(opening(s.other, ASKER.peer_id))
            assert isinstance(await stream.receive(5), Opened)
            await s.anna.files.unshare(str(tmp_path / "secret"))
            with pytest.raises(PeerError) as ended:
                await stream.receive(5)
            assert ended.value.close_code == CloseCode.REVOKED
            await stream.reset()

    run(main())
