"""A giver that says what a test wants, and the bytes to lie with."""

import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from blake3 import blake3

from coterie.content import manifest as m
from coterie.content.names import PARTIAL_PREFIX
from coterie.identity import SecretKey
from coterie.net import Endpoint, MemoryNetwork, Stream
from coterie.net.interfaces import Transport
from coterie.net.quic.transport import QuicTransport
from coterie.transfer.messages import (
    CHUNKS,
    MANIFEST,
    PROTOCOL,
    Cancel,
    GetChunks,
    GetManifest,
    GetMany,
    NoManifest,
    Open,
    Opened,
    Peers,
)
from coterie.wire import Ticket
from coterie.wire.frames import Message
from coterie.wire.ticket import TicketKind

SECRET = bytes(16)
Answerer = Callable[[Stream, GetManifest | GetChunks], Awaitable[None]]


def file_entry(name: str, *pieces: bytes, size: int | None = None) -> m.FileEntry:
    """A file of these chunks; `size` to lie about it."""
    chunks = m.pack_chunks([(blake3(piece).digest(), len(piece)) for piece in pieces])
    return m.FileEntry(name, False, 0, sum(map(len, pieces)) if size is None else size, chunks)


def folder_entry(
    name: str, node: m.Node, *, files: int | None = None, size: int | None = None
) -> m.DirectoryEntry:
    """A folder; with the totals that are true unless given."""
    true = m.totals(node)
    return m.DirectoryEntry(
        name, 0, id_of(node), true[0] if files is None else files, true[1] if size is None else size
    )


def page(*entries: m.Entry) -> m.TreeLeaf:
    """One page of a folder."""
    return m.TreeLeaf(entries)


def id_of(node: m.Node) -> bytes:
    """The id of a node."""
    return m.node_id(m.encode(node))


@dataclass
class Content:
    """What a giver claims to have: nodes and chunks by id or hash, and what it says on opening."""

    root: bytes
    kind: TicketKind
    nodes: dict[bytes, bytes]
    pieces: dict[bytes, bytes]
    opened: Opened
    requests: list[GetManifest | GetChunks] = field(default_factory=list)

    @classmethod
    def of(
        cls,
        root: m.Node,
        *below: m.Node,
        pieces: Iterable[bytes] = (),
        opened: Mapping[str, object] | None = None,
    ) -> "Content":
        """`root` and what is below it; `opened` overrides what is said on opening."""
        files, size = m.totals(root)
        kind = TicketKind(m.kind_of(root))
        said = {"kind": int(kind), "name": "gift", "files": files, "size": size, **(opened or {})}
        return cls(
            id_of(root),
            kind,
            {id_of(node): m.encode(node) for node in (root, *below)},
            {blake3(piece).digest(): piece for piece in pieces},
            Opened(**said),  # type: ignore[arg-type]
        )

    async def answer(self, stream: Stream, request: GetManifest | GetChunks) -> None:
        """What an honest giver answers."""
        if isinstance(request, GetManifest):
            data = self.nodes.get(request.manifest)
            if data is None:
                await stream.send(NoManifest(request.manifest))
            else:
                await stream.write(PROTOCOL.bulk_header(MANIFEST, len(data)) + data)
            return
        for piece in self.chunks(request):
            await stream.write(PROTOCOL.bulk_header(CHUNKS, len(piece)) + piece)

    def chunks(self, request: GetChunks) -> list[bytes]:
        """The bytes of the chunks asked for."""
        known = m.leaf_chunks(m.decode(self.nodes[request.manifest]))
        return [self.pieces[digest] for digest, _ in known[request.first : request.first + request.count]]


def ones(request: Message) -> list[GetManifest | GetChunks]:
    """What is asked for, one by one."""
    if isinstance(request, GetMany):
        return [GetChunks(*one) if one[2] else GetManifest(one[0]) for one in request.requests]
    assert isinstance(request, GetManifest | GetChunks)
    return [request]


@contextlib.asynccontextmanager
async def giver(
    network: MemoryNetwork | None,
    content: Content,
    answer: Answerer | None = None,
    opening: Callable[[Stream], Awaitable[None]] | None = None,
    *,
    name: bytes = b"giver",
    tells_peers: bool = False,
    tells: Sequence[tuple[bytes, list[str]]] = (),
) -> AsyncIterator[str]:
    """A peer that gives `content`, with `answer` and `opening` in place of the honest ones; its ticket.

    Without a `network`: over QUIC on loopback. `tells_peers`: it tells each asker of those that came before; `tells`:
    of these.
    """
    key = SecretKey(name.ljust(32, b"!"))
    askers: list[tuple[bytes, list[str]]] = []

    async def handle(stream: Stream) -> None:
        opened = await stream.receive(5)
        assert isinstance(opened, Open)
        if opening is not None:
            await opening(stream)
        else:
            await stream.send(content.opened)
        if tells:
            await stream.send(Peers(list(tells)))
        if tells_peers:
            await stream.send(Peers(list(askers)))
            askers.append((bytes(stream.peer), list(opened.addresses)))
        while (request := await stream.receive()) is not None:
            if isinstance(request, Cancel):
                continue
            for one in ones(request):
                content.requests.append(one)
                await (answer or content.answer)(stream, one)

    transport: Transport
    if network is not None:
        transport = network.bind(key.peer_id)
    else:
        transport = await QuicTransport.bind(key, bind_ip="127.0.0.1")
    async with Endpoint(transport) as endpoint:
        endpoint.register(PROTOCOL, handle, strangers=True)
        yield str(Ticket(content.kind, key.peer_id, content.root, SECRET, tuple(transport.addresses)))


def outside(folder: Path) -> set[str]:
    """Everything in a test's folder but homes and what lies in staging areas."""
    found = set()
    for base, folders, files in os.walk(folder):
        if Path(base) == folder:
            folders[:] = [name for name in folders if not name.startswith("home-")]
        folders[:] = [name for name in folders if not name.startswith(PARTIAL_PREFIX)]
        found |= {str(Path(base, name).relative_to(folder)) for name in folders + files}
    return found
