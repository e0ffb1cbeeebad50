"""Downloads from several sources at once, and receivers that give to each other what they have."""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

from coterie.apps.files.messages import (
    CHUNK,
    PROTOCOL,
    GetChunks,
    GetManifest,
    Skip,
    Skipped,
)
from coterie.net import MemoryNetwork, Stream
from coterie.node import Node
from tests.apps.files.hostile import Answerer, Content, file_entry, giver, page
from tests.apps.files.nodes import memory_node
from tests.support import run

PIECES = [secrets.token_bytes(100_000) for _ in range(60)]
MANY = Content.of(page(*(file_entry(f"{n:02}", piece) for n, piece in enumerate(PIECES))), pieces=PIECES)


@contextlib.asynccontextmanager
async def nodes(network: MemoryNetwork, folder: Path, count: int) -> AsyncIterator[list[Node]]:
    async with contextlib.AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(memory_node(network, folder / f"home-{n}")) for n in range(count)
        ]


def each_once(content: Content) -> tuple[Answerer, list[tuple[bytes, int]]]:
    """A giver that gives each chunk once only, to whoever asks first: others have it from there or never."""
    given: list[tuple[bytes, int]] = []

    async def answer(stream: Stream, request: GetManifest | GetChunks) -> None:
        if isinstance(request, GetManifest):
            await content.answer(stream, request)
            return
        for index, data in enumerate(content.chunks(request), request.first):
            if (request.manifest, index) in given:
                await stream.send(Skipped(Skip.ELSEWHERE))
                return
            given.append((request.manifest, index))
            await asyncio.sleep(0.002)  # no faster than receivers can pass it on
            await stream.write(PROTOCOL.bulk_header(CHUNK, len(data)) + data)

    return answer, given


def test_receivers_have_from_each_other_what_the_seeder_gives_once(tmp_path: Path) -> None:
    """Four receivers, and a seeder that sends exactly one copy: all of them have it all."""

    async def main() -> None:
        network = MemoryNetwork()
        answer, given = each_once(MANY)
        async with (
            nodes(network, tmp_path, 4) as receivers,
            giver(network, MANY, answer, tells_peers=True) as ticket,
        ):
            got = await asyncio.gather(
                *(node.files.get(ticket, tmp_path / f"copy{n}") for n, node in enumerate(receivers))
            )
        assert len(given) == len(PIECES)
        assert [received.failed for received in got] == [[]] * 4
        for n in range(4):
            assert [p.read_bytes() for p in sorted((tmp_path / f"copy{n}").iterdir())] == PIECES
        assert sum(node.files.server.sent_bytes for node in receivers) >= 3 * sum(map(len, PIECES))

    run(main())
