"""Contents of live folders that are not on this disk, read by range from whoever has them; none is put on the disk."""

import asyncio
from collections.abc import Sequence

import msgspec

from coterie.apps.context import Context
from coterie.apps.folders import messages as wire
from coterie.apps.folders.content import CONTENTS, secret_of
from coterie.content import manifest as m
from coterie.content.builder import build_blob
from coterie.content.chunker import pack_small
from coterie.errors import CoterieError, NotFound, PeerError, TransportError
from coterie.identity import PeerId
from coterie.texts import tr
from coterie.transfer.open_file import Closing, OpenFile, Page, RemoteFile, content_of
from coterie.transfer.read_cache import ReadCache
from coterie.transfer.supply import Nodes, Supply
from coterie.wire import Ticket
from coterie.wire.ticket import TicketKind

ANSWER_S = 10.0  # for somebody to say that he gives it; guess, below what programs wait for
ASKED_MAX = 8  # computers that are asked for one content
SUPPLIES_MAX = 256  # contents that are read at once, or were of late


class Wanted(msgspec.Struct, frozen=True):
    """A content as the folder has it: under which name, of how many bytes, of when."""

    name: str
    content: bytes
    size: int
    mtime_ns: int


class Away:
    """Of all live folders of a node. Belongs to the event loop."""

    def __init__(self, context: Context, cache: ReadCache) -> None:
        self._context = context
        self._cache = cache
        self._nodes = Nodes()
        self._readers = 0
        self._supplies: dict[tuple[bytes, bytes], Supply] = {}

    async def open(self, folder: bytes, wanted: Wanted, members: Sequence[PeerId]) -> OpenFile:
        """A content, from those of the `members` who have it.

        Raises:
            NotFound: nobody who is there has it. TransportError: nobody is there.
            PeerError: it is not what it should be.
        """
        if not wanted.size:
            return SmallFile(wanted, b"")
        file = AwayFile(self, folder, wanted, members)
        return await file.begin()

    async def find(
        self, folder: bytes, wanted: Wanted, members: Sequence[PeerId]
    ) -> tuple[PeerId, bytes | Supply]:
        """Who has a content, and its bytes, if they are few, or what gives them. Errors as `open`."""
        known = self._supplies.get((folder, wanted.content))
        if known is not None and known.refused is None and known.ticket.peer in members:
            return known.ticket.peer, known
        answers = [asyncio.ensure_future(self._ask(peer, folder, wanted)) for peer in members[:ASKED_MAX]]
        errors: list[Exception] = []
        try:
            for answer in asyncio.as_completed(answers):
                try:
                    return await answer
                except (CoterieError, TimeoutError) as error:
                    errors.append(error)
        finally:
            for one in answers:
                one.cancel()
            await asyncio.gather(*answers, return_exceptions=True)
        if any(isinstance(error, NotFound) for error in errors):
            raise NotFound(
                tr("nobody who is there now has {name}: try again when others are", name=wanted.name)
            )
        raise TransportError(
            tr("nobody who has {name} answers now: try again when they are there", name=wanted.name)
        )

    def new_reader(self) -> int:
        """A number that no other reader has."""
        self._readers += 1
        return self._readers

    def forget(self, folder: bytes, content: bytes) -> None:
        """Ask anew who has it."""
        self._supplies.pop((folder, content), None)

    async def _ask(self, peer: PeerId, folder: bytes, wanted: Wanted) -> tuple[PeerId, bytes | Supply]:
        asked = wire.Want(folder, [wanted.content])
        answer = await self._context.net.ask(peer, wire.PROTOCOL, asked, timeout_s=ANSWER_S)
        if not isinstance(answer, wire.Wanted):
            raise PeerError("contents that are wanted are answered otherwise")
        wire.check(answer)
        for content, data in answer.small:
            if content == wanted.content:
                if build_blob(m.unpack_chunks(pack_small(data)), lambda *_: None).id != content:
                    raise PeerError("the other computer gave a content under the name of another")
                return peer, data
        if answer.files != 1:
            raise NotFound(tr("{name} is not there", name=wanted.name))
        ticket = Ticket(TicketKind.TREE, peer, answer.root, secret_of(folder))
        supply = Supply(self._context, ticket, self._cache, self._nodes, CONTENTS)
        for old in list(self._supplies)[: max(0, len(self._supplies) + 1 - SUPPLIES_MAX)]:
            if not self._supplies[old].readers:
                del self._supplies[old]
        self._supplies[folder, wanted.content] = supply
        return peer, supply


class AwayFile(Closing):
    """See `OpenFile`: from one member after the other, as far as they have it. Begin it before it is read."""

    def __init__(self, away: Away, folder: bytes, wanted: Wanted, members: Sequence[PeerId]) -> None:
        self._away = away
        self._folder = folder
        self._wanted = wanted
        self._members = list(members)
        self.name, self.size, self.mtime_ns = wanted.name, wanted.size, wanted.mtime_ns
        self.content_id = wanted.content
        self.tag = wanted.content.hex()
        self._file: OpenFile

    async def begin(self) -> OpenFile:
        """Find somebody who has it. Errors as `Away.open`."""
        self._peer, found = await self._away.find(self._folder, self._wanted, self._members)
        if isinstance(found, bytes):
            self._file = SmallFile(self._wanted, found)
        else:
            entry, page = await self._entry(found)
            self._file = RemoteFile(found, entry, page, self._away.new_reader(), self._again)
        return self

    async def read(self, offset: int, size: int) -> bytes:
        while True:
            try:
                return await self._file.read(offset, size)
            except (TransportError, NotFound, PeerError):
                self._members = [one for one in self._members if one != self._peer]
                if not self._members:
                    raise
                await self._file.close()
                self._away.forget(self._folder, self._wanted.content)
                await self.begin()

    async def close(self) -> None:
        await self._file.close()

    async def _again(self) -> tuple[Supply, m.FileEntry, Page]:
        """The same content, where it was given up: a giver forgets what nobody has asked for of late."""
        self._away.forget(self._folder, self._wanted.content)
        self._peer, found = await self._away.find(self._folder, self._wanted, [self._peer])
        if isinstance(found, bytes):
            raise PeerError("a content that has become a small one")
        return found, *await self._entry(found)

    async def _entry(self, supply: Supply) -> tuple[m.FileEntry, Page]:
        """The only file of the tree that a giver made, which has to be the content that was asked for."""
        root = supply.ticket.content_id
        node, chunks = await supply.node(root)
        entry = node.entries[0] if isinstance(node, m.TreeLeaf) and node.entries else None
        if not isinstance(entry, m.FileEntry) or (content_of(entry), entry.size) != (
            self._wanted.content,
            self.size,
        ):
            raise PeerError("the other computer gave a content under the name of another")
        named = m.FileEntry(self.name, entry.executable, self.mtime_ns, entry.size, entry.chunks, entry.blob)
        return named, (root, chunks, 0)


class SmallFile(Closing):
    """See `OpenFile`: a content that was given at once."""

    def __init__(self, wanted: Wanted, data: bytes) -> None:
        self.name, self.size, self.mtime_ns = wanted.name, len(data), wanted.mtime_ns
        self.content_id = wanted.content
        self.tag = wanted.content.hex()
        self._data = data

    async def read(self, offset: int, size: int) -> bytes:
        return self._data[offset : offset + size]
