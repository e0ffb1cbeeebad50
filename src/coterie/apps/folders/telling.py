"""The exchange of one folder at work: what others are told, and what they say is merged. Belongs to the event loop."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from coterie.apps.folders import exchange as x
from coterie.apps.folders.book import OutdatedHome
from coterie.apps.folders.folder_move import FolderMove
from coterie.apps.folders.links import Links
from coterie.errors import CoterieError
from coterie.identity import PeerId
from coterie.machine import PeerDown, PeerUp, Received, Send
from coterie.tasks import Tasks
from coterie.wire.frames import Message


class Seen(Protocol):
    """Who has what, as it is kept: see `store.FolderData`."""

    def replicas(self) -> list[tuple[bytes, bytes, int, int]]: ...

    def save_known(self, replica: bytes, peer: bytes, known: int) -> None: ...

    def save_seen(self, replica: bytes, peer: bytes, seen: int) -> None: ...

    def sync(self) -> None: ...


class Book(Protocol):
    """What is told, and where it is kept what others said: see `book.FolderBook`."""

    @property
    def seq(self) -> int: ...

    @property
    def data(self) -> Seen: ...

    def batch(self, replica: bytes, first: int) -> tuple[int, list[tuple[str, bytes]]]: ...

    def merge(self, replica: bytes, entries: Sequence[tuple[str, bytes]]) -> list[str]: ...


class Moves(Protocol):
    """A book in which folders move as a whole: see `book.FolderBook`."""

    def next_move(self, replica: bytes, first: int) -> tuple[int, FolderMove] | None: ...

    def merge_move(self, replica: bytes, move: FolderMove) -> bool | None: ...


class Telling:
    """Of one folder."""

    def __init__(
        self,
        folder: bytes,
        replica: bytes,
        book: Book,
        links: Links,
        tasks: Tasks,
        *,
        may: Callable[[PeerId], bool],
        merged: Callable[[list[str], bool], None],
        moves: Moves | None = None,
    ) -> None:
        """`folder`, `replica`: as those know them who are told. `may(peer)`: whether it is told anything.

        `merged(paths, has_more)`: these are not as before; more comes right behind. `moves`: the book, where folders
        are told to move as a whole.
        """
        self._moves = moves
        self._book = book
        self._links = links
        self._tasks = tasks
        self._may = may
        self._merged = merged
        replicas = book.data.replicas()
        known = {replica: (PeerId(peer), last) for replica, peer, last, _ in replicas}
        self._seen = {replica: seen for replica, _, _, seen in replicas}
        self._exchange = x.Exchange(folder, replica, book.seq, known, takes_moves=moves is not None)
        self._merging: dict[PeerId, asyncio.Task[None]] = {}
        self._heard = asyncio.Event()

    @property
    def peers(self) -> list[PeerId]:
        """Who is connected and has the folder."""
        return self._exchange.peers

    def news(self) -> None:
        """Something has changed here."""
        self._feed(x.News(self._book.seq))

    def up(self, peer: PeerId) -> None:
        """`peer` can be told something."""
        self._feed(PeerUp(peer))

    def down(self, peer: PeerId) -> None:
        """It cannot any more."""
        self._feed(PeerDown(peer))

    def look_who(self) -> None:
        """Who may follow has changed: what is under way to those that may not ends."""
        for peer in self._exchange.peers:
            if not self._may(peer):
                self._feed(PeerDown(peer))

    async def hear(self, peer: PeerId, message: Message) -> None:
        """What `peer` said; returns when it may say more."""
        self._feed(Received(peer, message))
        self._heard.set()
        while self._exchange.is_behind(peer) and peer in self._merging:
            await asyncio.shield(self._merging[peer])  # it ends, and is noted, also where this stream breaks

    async def heard(self) -> None:
        """Wait until what somebody else has is known here."""
        while not self._exchange.has_heard():
            await self._heard.wait()
            self._heard.clear()

    def _feed(self, event: Any) -> None:
        self._perform(self._exchange.handle(event, 0.0))

    def _perform(self, outputs: Sequence[Any]) -> None:
        for output in outputs:
            match output:
                case Send(peer=PeerId() as peer, message=message):
                    self._links.send(peer, message)
                case x.Read():
                    self._tasks.start(self._read(output), "reading changes")
                case x.Merge():
                    merging = self._tasks.start(self._merge(output), "merging changes", is_awaited=True)
                    self._merging[output.peer] = merging
                case x.Has(peer, replica, seq):
                    if self._seen.get(replica, -1) < seq:
                        self._seen[replica] = seq
                        self._book.data.save_seen(replica, bytes(peer), seq)
                case x.Outdated():
                    raise OutdatedHome("another computer knows more writes of this one than it does itself")

    async def _read(self, wanted: x.Read) -> None:
        try:
            if wanted.is_move_taken and self._moves is not None:
                found = await asyncio.to_thread(self._moves.next_move, wanted.replica, wanted.first)
                if found is not None:
                    last, move = found
                    self._feed(x.Batch(wanted.peer, wanted.first, last, (), move))
                    return
            last, entries = await asyncio.to_thread(self._book.batch, wanted.replica, wanted.first)
        except CoterieError:
            self._links.begin_anew(wanted.peer)  # later: nothing else would read it again
            raise
        self._feed(x.Batch(wanted.peer, wanted.first, last, entries))

    async def _merge(self, wanted: x.Merge) -> None:
        paths: list[str] = []
        try:
            if wanted.move is not None and not await self._is_moved(wanted.replica, wanted.move):
                self._feed(x.Unmoved(wanted.peer, wanted.last))
                return
            if wanted.move is None:
                paths = await asyncio.to_thread(self._book.merge, wanted.replica, wanted.entries)
            self._merged(paths, wanted.has_more)
            self._book.data.save_known(wanted.replica, bytes(wanted.peer), wanted.last)
            await asyncio.to_thread(self._book.data.sync)
        except CoterieError:
            self._feed(x.Unmerged(wanted.peer))
            raise
        self._feed(x.Merged(wanted.peer, wanted.replica, wanted.last))
        self.news()
        self._heard.set()

    async def _is_moved(self, replica: bytes, move: FolderMove) -> bool:
        """Make a move here; False: it cannot be made of what stands."""
        if self._moves is None:
            return False
        return await asyncio.to_thread(self._moves.merge_move, replica, move) is not None
