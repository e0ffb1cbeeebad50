"""What lies on a computer is neither read nor counted by those who know its hashes."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from blake3 import blake3

from coterie.content import manifest as m
from coterie.identity import SecretKey, load_or_create_key
from coterie.net import Endpoint, MemoryNetwork, Stream
from coterie.node import Node
from coterie.transfer.messages import (
    PROTOCOL,
    Cancel,
    ChunkUnavailable,
    GetChunks,
    GetManifest,
    Has,
    HasAll,
    Open,
    Opened,
    Refused,
    Skipped,
    Unavailable,
)
from coterie.wire import Ticket
from coterie.wire.frames import Bulk, Message
from tests.apps.files.hostile import SECRET, Content, file_entry, ones, page
from tests.apps.files.nodes import befriend, memory_node, opening
from tests.support import run

PRIVATE = random.Random(1).randbytes(100_000)  # one chunk or several: all of its bytes are private
BAIT = random.Random(2).randbytes(50_000)  # the attacker has these


@dataclass
class Attack:
    """A victim with a private file, and mallory, who knows its hashes and gives a folder that is made of them."""

    victim: Node
    mallory: Endpoint
    content: Content
    ticket: Ticket
    asked: dict[bytes, None]  # the digests of chunks that were asked for
    may_have_bait: asyncio.Event
    network: MemoryNetwork
    contents: dict[bytes, Content]  # that mallory gives, by root

    def publish(self, content: Content) -> None:
        """Mallory gives this from now on."""
        self.contents[content.root] = self.content = content
        self.ticket = Ticket(content.kind, self.ticket.peer, content.root, SECRET, self.ticket.addresses)

    async def spy(self) -> tuple[Opened | None, list[Has], list[bytes]]:
        """Ask the victim for all of it: what it says, what it tells it has, what bytes it gives."""
        connection = await self.mallory.connect(self.victim.peer_id, self.victim.addresses)
        stream = await connection.open_stream(PROTOCOL)
        at_victim = Ticket(self.ticket.kind, self.victim.peer_id, self.ticket.content_id, SECRET)
        await stream.send(opening(at_victim, self.mallory.peer_id))
        opened = await stream.receive(5)
        if isinstance(opened, Refused):
            return None, [], []
        assert isinstance(opened, Opened)
        told: list[Has] = []
        given: list[bytes] = []
        for digest, _ in self.chunks():
            await stream.send(GetChunks(self.content.root, self.index(digest), 1, True))
            answer = await self._answer(stream, told)
            if isinstance(answer, Bulk):
                given.append(bytes(answer.data))
        await stream.finish()
        return opened, told, given

    async def _answer(self, stream: Stream, told: list[Has]) -> Message | Bulk | None:
        while True:
            frame = await stream.receive(5)
            assert not isinstance(frame, HasAll), "it claims to have what it must not give"
            if isinstance(frame, Has):
                told.append(frame)
            elif isinstance(frame, Bulk | Skipped | ChunkUnavailable | None):
                return frame

    def chunks(self) -> list[m.Chunk]:
        """Of the folder, in order."""
        return m.leaf_chunks(m.decode(self.content.nodes[self.content.root]))

    def index(self, digest: bytes) -> int:
        """Of a chunk in the folder."""
        return [known for known, _ in self.chunks()].index(digest)


@contextlib.asynccontextmanager
async def attack(folder: Path, *, is_contact: bool) -> AsyncIterator[Attack]:
    """Mallory gives the bait once `may_have_bait` is set, and nothing of the private file: she does not have it."""
    network = MemoryNetwork()
    (folder / "private").write_bytes(PRIVATE)
    async with memory_node(network, folder / "home-victim") as victim:
        if is_contact:
            async with memory_node(network, folder / "home-mallory") as mallory:
                await befriend(victim, mallory)
            key = load_or_create_key(folder / "home-mallory" / "key")
        else:
            key = SecretKey(b"mallory".ljust(32, b"!"))
        shared = await victim.files.share(folder / "private")
        leaf = victim.store.chunks_of(Ticket.parse(shared.ticket).content_id)
        packed = m.pack_chunks(leaf)
        folder_node = page(file_entry("bait", BAIT), m.FileEntry("copy", False, 0, len(PRIVATE), packed))
        content = Content.of(folder_node, pieces=[BAIT])
        contents = {content.root: content}
        asked: dict[bytes, None] = {}
        may_have_bait = asyncio.Event()

        async def handle(stream: Stream) -> None:
            opening = await stream.receive(5)
            assert isinstance(opening, Open)
            content = contents[opening.root]
            await stream.send(content.opened)
            while (request := await stream.receive()) is not None:
                if isinstance(request, Cancel):
                    continue
                for one in ones(request):
                    if isinstance(one, GetManifest):
                        await content.answer(stream, one)
                        continue
                    leaf = m.leaf_chunks(m.decode(content.nodes[one.manifest]))
                    for digest, _ in leaf[one.first : one.first + one.count]:
                        asked[digest] = None
                        if digest in content.pieces:
                            await may_have_bait.wait()
                            piece = content.pieces[digest]
                            await stream.write(PROTOCOL.bulk_header(17, len(piece)) + piece)
                        else:
                            await stream.send(ChunkUnavailable(Unavailable.GONE))

        transport = network.bind(key.peer_id)
        async with Endpoint(transport) as endpoint:
            endpoint.register(PROTOCOL, handle, strangers=True)
            ticket = Ticket(content.kind, key.peer_id, content.root, SECRET, tuple(transport.addresses))
            yield Attack(victim, endpoint, content, ticket, asked, may_have_bait, network, contents)


def test_a_contact_who_knows_the_hashes_of_a_file_does_not_read_it_from_who_fetches_them(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with attack(tmp_path, is_contact=True) as a:
            transfer = await a.victim.files.begin(str(a.ticket), tmp_path / "gift")
            while not a.asked:
                await asyncio.sleep(0.001)
            opened, told, given = await a.spy()  # while it runs
            assert opened is not None
            assert not opened.whole
            assert given == []
            a.may_have_bait.set()
            received = await transfer.result
            assert received.reused == len(PRIVATE)  # from a contact, nothing is fetched twice
            assert (tmp_path / "gift" / "copy").read_bytes() == PRIVATE
            opened, told, given = await a.spy()  # and afterwards
            assert opened is not None
            assert not opened.whole
            assert given in ([], [BAIT])
            pieces = {blake3(data).digest() for data in given}
            assert pieces <= {blake3(BAIT).digest()}
            assert all(int.from_bytes(has.pieces, "little").bit_count() <= 1 for has in told)

    run(main())


def test_what_was_taken_from_own_files_stays_private_when_the_download_goes_on_later(tmp_path: Path) -> None:
    async def main() -> None:
        async with attack(tmp_path, is_contact=True) as a:
            transfer = await a.victim.files.begin(str(a.ticket), tmp_path / "gift")
            while not a.asked:
                await asyncio.sleep(0.001)
            await a.victim.files.pause(transfer.record.id)
            a.asked.clear()
            (tmp_path / "private").unlink()  # so that only the staging area has it
            again = await a.victim.files.begin(str(a.ticket), tmp_path / "gift")
            while not a.asked:
                await asyncio.sleep(0.001)
            opened, _, given = await a.spy()
            assert opened is not None
            assert given == []
            assert list(a.asked) == [blake3(BAIT).digest()]  # it went on where it was
            a.may_have_bait.set()
            await again.result

    run(main())


def test_what_was_taken_from_own_files_stays_private_when_it_is_brought_up_to_date(tmp_path: Path) -> None:
    async def main() -> None:
        async with attack(tmp_path, is_contact=True) as a:
            a.may_have_bait.set()
            await a.victim.files.get(str(a.ticket), tmp_path / "gift")
            (tmp_path / "private").unlink()
            node = m.decode(a.content.nodes[a.content.root])
            assert isinstance(node, m.TreeLeaf)
            a.publish(Content.of(page(*node.entries, file_entry("news", b"news")), pieces=[BAIT, b"news"]))
            await a.victim.files.get(str(a.ticket), tmp_path / "gift", on_existing="update")
            assert (tmp_path / "gift" / "news").read_bytes() == b"news"
            opened, _, given = await a.spy()
            assert opened is None or not opened.whole
            assert set(given) <= {BAIT, b"news"}

    run(main())


def test_a_stranger_is_asked_for_everything_and_so_counts_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with attack(tmp_path, is_contact=False) as a:
            a.may_have_bait.set()
            received = await a.victim.files.get(str(a.ticket), tmp_path / "gift")
            assert a.asked.keys() == {digest for digest, _ in a.chunks()}
            assert (received.reused, received.files) == (0, 1)

    run(main())


@pytest.mark.parametrize("is_known", [True, False])
def test_strangers_have_no_part_in_what_was_partly_here(tmp_path: Path, is_known: bool) -> None:
    """They could count what is never given on: the download has to do with contacts only, while others are served."""

    async def main() -> None:
        async with attack(tmp_path, is_contact=True) as a, _other(a, tmp_path, is_known) as other:
            transfer = await a.victim.files.begin(str(a.ticket), tmp_path / "gift")
            while not a.asked:
                await asyncio.sleep(0.001)
            a.mallory = other
            opened, _, _ = await a.spy()
            assert (opened is not None) == is_known
            await a.victim.files.cancel(transfer.record.id)

    run(main())


@contextlib.asynccontextmanager
async def _other(a: Attack, folder: Path, is_known: bool) -> AsyncIterator[Endpoint]:
    home = folder / "home-other"
    async with memory_node(a.network, home) as node:
        if is_known:
            await befriend(a.victim, node)
    async with Endpoint(a.network.bind(load_or_create_key(home / "key").peer_id)) as endpoint:
        yield endpoint
