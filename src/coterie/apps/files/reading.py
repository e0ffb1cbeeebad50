"""Reading what others share, by place and range, without getting it: listings, and files that are fetched as read."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Executor
from itertools import count
from typing import Any, TypeVar

from coterie.apps.context import Context
from coterie.apps.files.own_places import OwnPlaces
from coterie.apps.files.places_messages import FILE, FOLDER, Entry
from coterie.apps.files.places_protocol import list_place, locate_place
from coterie.content import manifest as m
from coterie.content.names import is_reserved
from coterie.errors import NoAnswer, NotFound, TransportError
from coterie.identity import PeerId
from coterie.texts import tr
from coterie.transfer.open_file import OpenFile, Page, RemoteFile, Seen, content_of
from coterie.transfer.read_cache import ReadCache
from coterie.transfer.supply import Nodes, Supply
from coterie.wire import Ticket

AWAY_S = 3.0  # a computer that was not reached is not dialled again for each name that a program asks for
KEPT_S = 2.0  # a listing, and by what right something is read; what is taken back is refused within 5 s
LISTINGS_MAX = 64  # kept at once
SUPPLIES_MAX = 256  # contents that are read at once, or were of late

T = TypeVar("T")


class Reading:
    """The facility of one node. Belongs to its event loop."""

    def __init__(self, context: Context, own: OwnPlaces, executor: Executor, cache: ReadCache) -> None:
        """`own`: what this computer shares itself; it is looked at in threads of the `executor`."""
        self._context = context
        self.own = own
        self._executor = executor
        self._cache = cache
        self._nodes = Nodes()
        self._readers = count(1)
        self._supplies: dict[tuple[bytes, bytes, bytes], Supply] = {}
        self._rights: dict[tuple[PeerId, str], tuple[float, Ticket]] = {}
        self._away: dict[PeerId, tuple[float, TransportError]] = {}
        self._listings: dict[tuple[PeerId, str], tuple[float, tuple[Seen, ...]]] = {}

    async def listing(self, place: str) -> tuple[Seen, ...]:
        """What is at a place, by name: "" computers, "anna" what she shares, "anna/photos/2024" a folder.

        What may be seen changes here within KEPT_S.

        Raises:
            NotFound: no such place, none for us, or a file.
            AccessDenied: the amount of our grant for it is used up.
            TransportError, PeerError: not reached, or not understood.
        """
        name, path = _split(place)
        if not name:
            names = {self._context.me.name, *self._context.people.names()}
            return tuple(Seen(one, "folder") for one in sorted(names) if one)
        peer = self.find(name)
        if peer == self._context.me.peer_id:
            return await self._in_thread(self.own.listing, path)
        now = asyncio.get_running_loop().time()
        known = self._listings.get((peer, path))
        if known is not None and now < known[0] + KEPT_S:
            return known[1]
        found = await self._list(peer, path)
        while len(self._listings) >= LISTINGS_MAX:
            del self._listings[next(iter(self._listings))]
        self._listings.pop((peer, path), None)
        self._listings[peer, path] = now, found
        return found

    async def look(self, place: str) -> Seen:
        """What is at a place, itself. Errors as `listing`, for which a file is right."""
        name, path = _split(place)
        if not name:
            return Seen("", "folder")
        peer = self.find(name)
        if not path:
            return Seen(name, "folder")
        if peer == self._context.me.peer_id:
            return await self._in_thread(self.own.look, path)
        try:
            supply, parts = await self._supply_for(peer, path)
        except NotFound:  # it may be listed and not read; or lies above what may be
            above, _, last = path.rpartition("/")
            found = next((one for one in await self.listing(f"{name}/{above}") if one.name == last), None)
            if found is None:
                raise
            return found
        entry, _ = await self._entry(supply, path, parts)
        return _seen(entry)

    async def open(self, place: str) -> OpenFile:
        """A file, to be read. Raises as `listing`; NotFound: there is no file."""
        name, path = _split(place)
        peer = self.find(name)
        if peer == self._context.me.peer_id:
            return await self._in_thread(self.own.open, path)
        supply, parts = await self._supply_for(peer, path)
        entry, page = await self._entry(supply, path, parts)
        if not isinstance(entry, m.FileEntry):
            raise NotFound(tr("{path} is a folder", path=path))
        return RemoteFile(supply, entry, page, next(self._readers), lambda: self._again(peer, path))

    async def _again(self, peer: PeerId, path: str) -> tuple[Supply, m.FileEntry, Page]:
        """The same file, when what it was read by is good no longer: the share has other content, or no longer."""
        self.changed(peer)
        supply, parts = await self._supply_for(peer, path)
        entry, page = await self._entry(supply, path, parts)
        if not isinstance(entry, m.FileEntry):
            raise _nothing(path)
        return supply, entry, page

    @property
    def own_name(self) -> str:
        """What places of this computer begin with; "": somebody else is called so here."""
        name = self._context.me.name
        return "" if self._context.people.is_called(name) else name

    def changed(self, peer: PeerId) -> None:
        """Something is other than it was at this peer: ask anew."""
        for known in (self._rights, self._listings):
            for key in [key for key in known if key[0] == peer]:
                known.pop(key)

    # ---- others

    def find(self, name: str) -> PeerId:
        """The computer whose places begin with this name. Raises as `People.find`."""
        if name == self._context.me.name and not self._context.people.is_called(name):
            return self._context.me.peer_id
        return self._context.people.find(name)

    async def _list(self, peer: PeerId, path: str) -> tuple[Seen, ...]:
        if not path:
            return _nested(await self._asked(peer, list_place(self._context, peer, "")), "")
        try:
            supply, parts = await self._supply_for(peer, path)
        except NotFound:
            return await self._list_only(peer, path)
        entry, _ = await self._entry(supply, path, parts)
        if not isinstance(entry, m.DirectoryEntry):
            raise NotFound(tr("{path} is a file", path=path))
        seen: list[Seen] = []
        waiting = [entry.tree]
        while waiting:
            node, _ = await supply.node(waiting.pop())
            if isinstance(node, m.TreeIndex):
                waiting += [page.node for page in reversed(node.pages)]
            elif isinstance(node, m.TreeLeaf):
                seen += [
                    _seen(one)
                    for one in node.entries
                    if not isinstance(one, m.LinkEntry) and not is_reserved(one.name)
                ]
        return tuple(seen)

    async def _list_only(self, peer: PeerId, path: str) -> tuple[Seen, ...]:
        """A folder that we may list and not read; or above what we may."""
        try:
            return _nested(await list_place(self._context, peer, path), "")
        except NotFound:
            found = _nested(await list_place(self._context, peer, ""), path + "/")
            if not found:
                raise
            return found

    async def _supply_for(self, peer: PeerId, path: str) -> tuple[Supply, list[str]]:
        """Who gives what is at `path`, and the way to it from there: by the right to the largest part above it."""
        parts = path.split("/")
        now = asyncio.get_running_loop().time()
        for length in range(1, len(parts) + 1):
            top = "/".join(parts[:length])
            known = self._rights.get((peer, top))
            if known is not None and now < known[0] + KEPT_S:
                return self._supply(known[1]), parts[length:]
        for length in range(1, len(parts) + 1):
            top = "/".join(parts[:length])
            try:
                ticket = await self._asked(peer, locate_place(self._context, peer, top))
            except NotFound:
                if length == len(parts):
                    raise
                continue
            while len(self._rights) >= SUPPLIES_MAX:
                del self._rights[next(iter(self._rights))]
            self._rights.pop((peer, top), None)
            self._rights[peer, top] = asyncio.get_running_loop().time(), ticket
            return self._supply(ticket), parts[length:]
        raise NotFound(tr("there is no {path}", path=path))

    def _supply(self, ticket: Ticket) -> Supply:
        key = (bytes(ticket.peer), ticket.content_id, ticket.secret)
        found = self._supplies.pop(key, None)
        if found is None or found.refused is not None:
            found = Supply(self._context, ticket, self._cache, self._nodes)
        self._supplies[key] = found
        for old in list(self._supplies)[: max(0, len(self._supplies) - SUPPLIES_MAX)]:
            if not self._supplies[old].readers:
                del self._supplies[old]
        return found

    async def _entry(
        self, supply: Supply, path: str, parts: Sequence[str]
    ) -> tuple[m.FileEntry | m.DirectoryEntry, Page]:
        """What stands at `parts` below the root of what `supply` gives, and where its chunks are listed."""
        root = supply.ticket.content_id
        name = path.rpartition("/")[2]
        node, chunks = await supply.node(root)
        if isinstance(node, m.BlobLeaf | m.BlobIndex):
            if parts:
                raise _nothing(path)
            return m.FileEntry(name, False, 0, m.totals(node)[1], b"", root), (root, chunks, 0)
        files, size = m.totals(node)
        entry: m.Entry = m.DirectoryEntry(name, 0, root, files, size)
        page = (root, chunks, 0)
        for part in parts:
            if not isinstance(entry, m.DirectoryEntry):
                raise _nothing(path)
            entry, page = await self._child(supply, entry.tree, part, path)
        if isinstance(entry, m.LinkEntry):
            raise _nothing(path)
        return entry, page

    async def _child(self, supply: Supply, tree: bytes, name: str, path: str) -> tuple[m.Entry, Page]:
        """The entry `name` of a folder."""
        node, chunks = await supply.node(tree)
        while isinstance(node, m.TreeIndex):
            before = [page for page in node.pages if page.first <= name]
            if not before:
                raise _nothing(path)
            tree = before[-1].node
            node, chunks = await supply.node(tree)
        first = 0
        for entry in node.entries if isinstance(node, m.TreeLeaf) else ():
            if entry.name == name:
                return entry, (tree, chunks, first)
            if isinstance(entry, m.FileEntry):
                first += len(entry.chunks) // m.CHUNK.size
        raise _nothing(path)

    async def _asked(self, peer: PeerId, question: Coroutine[Any, Any, T]) -> T:
        """What a computer answers; one that was not reached just now is not asked."""
        now = asyncio.get_running_loop().time()
        known = self._away.pop(peer, None)
        if known is not None and now < known[0] + AWAY_S:
            question.close()
            self._away[peer] = known
            raise TransportError(str(known[1]))
        try:
            return await question
        except TransportError as error:
            if isinstance(error, NoAnswer):
                name = self._context.people.name_of(peer)
                error = TransportError(
                    tr(
                        "{name} does not answer{why}; it may be off or cut off: try again later",
                        name=name,
                        why="",
                    )
                )
            while len(self._away) >= SUPPLIES_MAX:
                del self._away[next(iter(self._away))]
            self._away[peer] = asyncio.get_running_loop().time(), error
            raise error from None

    async def _in_thread(self, work: Callable[[str], T], path: str) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, work, path)


def _split(place: str) -> tuple[str, str]:
    """The name of the computer, and the path there."""
    name, _, path = place.strip("/").partition("/")
    return name, path


def _nothing(path: str) -> NotFound:
    return NotFound(tr("there is no {path}", path=path))


def _seen(entry: m.FileEntry | m.DirectoryEntry) -> Seen:
    if isinstance(entry, m.FileEntry):
        return Seen(entry.name, "file", entry.size, entry.mtime_ns, 1, content_of(entry))
    return Seen(entry.name, "folder", entry.size, entry.mtime_ns, entry.files)


def _nested(entries: Sequence[Entry], above: str) -> tuple[Seen, ...]:
    """Entries that begin with `above`, without that, as those of a folder: of names with "/" in them the first part."""
    found: dict[str, Seen] = {}
    for entry in entries:
        if not entry.name.startswith(above) or entry.kind not in (FILE, FOLDER):
            continue
        name, slash, _ = entry.name.removeprefix(above).partition("/")
        if name and (slash or entry.kind == FOLDER):
            found.setdefault(name, Seen(name, "folder", entry.size, entry.mtime_ns, entry.files))
        elif name:
            found[name] = Seen(name, "file", entry.size, entry.mtime_ns, 1)
    return tuple(found.values())
