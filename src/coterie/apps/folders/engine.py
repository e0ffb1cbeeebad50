"""One live folder at work: looks at its disk, records, exchanges with others, fetches, and brings to the disk.

One task works on the disk (`turns`), one fetches what is missing (`fetching`); what others send is merged as it comes
(`telling`). What is to be done stands in `agenda`.
"""

import asyncio
import logging
import shutil
import threading
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TypeVar

from coterie.access.resource import Verb
from coterie.apps.context import Context
from coterie.apps.folders import messages as wire
from coterie.apps.folders.agenda import Agenda
from coterie.apps.folders.asking import Asking
from coterie.apps.folders.book import FolderBook
from coterie.apps.folders.bringing import Bringing
from coterie.apps.folders.confirming import Confirming
from coterie.apps.folders.disk import Disk
from coterie.apps.folders.fetching import Fetching
from coterie.apps.folders.freeing import Freeing
from coterie.apps.folders.hints import hints_of
from coterie.apps.folders.keepers import Keepers
from coterie.apps.folders.leaving_out import LeavingOut
from coterie.apps.folders.links import Links
from coterie.apps.folders.lying import Lying
from coterie.apps.folders.members import Members
from coterie.apps.folders.overwriting import Overwriting
from coterie.apps.folders.parts import Parts
from coterie.apps.folders.planner import Rules
from coterie.apps.folders.register import Value
from coterie.apps.folders.results import FolderLine
from coterie.apps.folders.root import MARKER, make_marker
from coterie.apps.folders.selecting import Selecting
from coterie.apps.folders.settings import Settings
from coterie.apps.folders.standing import Standing, counted
from coterie.apps.folders.store import FolderRow, FoldersStore
from coterie.apps.folders.telling import Telling
from coterie.apps.folders.timers import Timers
from coterie.apps.folders.turns import Turns
from coterie.content.versions import Versions
from coterie.errors import CoterieError, UsageError
from coterie.identity import PeerId
from coterie.tasks import Tasks
from coterie.texts import tr
from coterie.wire.frames import Message

HAS_S = 30.0  # for an answer who has files; guess
ASKED_MAX = 64  # files that are asked about together: as many of the longest paths fit a message
WITHOUT_S = 30.0  # after who does not follow the folder now is asked again; he says so himself as well
READ_BYTES_PER_S = 20 << 20  # so fast at least does somebody read what he shows to have; a slow disk

log = logging.getLogger(__name__)

T = TypeVar("T")


class Engine:
    """One folder. Belongs to the event loop."""

    def __init__(
        self,
        context: Context,
        store: FoldersStore,
        row: FolderRow,
        settings: Settings,
        *,
        links: Links,
        members: Members,
    ) -> None:
        self._context = context
        self._store = store
        self._row = row
        self._links = links
        self._members = members
        self.leaving_out = LeavingOut(store, row)
        self.asking = Asking(settings)
        self._path = Path(row.path)
        self._tasks = Tasks()
        self._timers = Timers()
        self._agenda = Agenda()
        self._full = ""
        self._proving = asyncio.Lock()
        self.overwriting = Overwriting()

    @property
    def id(self) -> bytes:
        """Of the folder."""
        return self._row.id

    @property
    def name(self) -> str:
        """What the folder is called."""
        return self._members.record(self._row.id).name

    def name_of(self, by: bytes) -> str:
        """What people here call a computer; "" where none is named."""
        if not by:
            return ""
        me = self._context.me
        return me.name if by == bytes(me.peer_id) else self._context.people.name_of(PeerId(by))

    @property
    def replica(self) -> bytes:
        """This copy of the folder."""
        return self._row.replica

    @property
    def path(self) -> Path:
        """Where the folder lies: absolute, without links."""
        return self._path

    @property
    def gone(self) -> str:
        """Why the folder is away; "" while it is there."""
        return self._turns.gone

    @property
    def can_write(self) -> bool:
        """Whether what is changed here counts."""
        return self._members.role_here(self._row.id) in ("owner", "write")

    @property
    def disk(self) -> Disk:
        """The disk of the folder."""
        return self._disk

    @property
    def cancel(self) -> threading.Event:
        """Set once the folder ends: files are read no further."""
        return self._turns.cancel

    # ---- begin and end

    def load(self) -> None:
        """Read what is known."""
        self.leaving_out.read()
        self.book = FolderBook(self._store, self._row)
        self._telling = Telling(
            self._row.id,
            self._row.replica,
            self.book,
            self._links,
            self._tasks,
            may=lambda peer: self._members.may(peer, Verb.LIST, self._row.id),
            merged=self._merged,
            moves=self.book,
        )
        self.asking.restore(self.book.data)
        self._lying = Lying(
            self._context.blobs.store, self._store, self.book.data, self._path, self._context.blobs.versions
        )
        self.keepers = Keepers(
            self._context,
            self._row,
            self.book,
            self._lying,
            links=self._links,
            members=self._members,
            tasks=self._tasks,
            merged=self._merged,
        )
        self.keepers.use(self._members.keys.of(self._row.id))
        self._disk = Disk(self._path, self._row.id, self._row.replica, self._context.blobs.versions)
        self.selecting = Selecting(self.book.chosen, self.book.data)
        self.book.is_partial = self.selecting.is_partial
        known = (self._row.id, self.book, self._disk, self._lying)
        parts = Parts(*known, self.asking, self.leaving_out, self._agenda, self.selecting)
        self._bringing = Bringing(parts, self.name_of)
        self._fetching = self._bringing.fetching = Fetching(
            self._context,
            self._row.id,
            self._disk.arrived,
            givers=lambda: self.peers,
            take=self._bringing.take,
            failed=self._disk_failed,
            keepers=self.keepers,
        )
        self._turns = Turns(
            self._context,
            parts,
            self._bringing,
            name=lambda: self.name,
            rules=self._rules,
            news=self._news,
            recover=self._recover,
        )
        self._freeing = Freeing(
            self.book.chosen,
            self.book,
            self._disk,
            rules=self._rules,
            peers=lambda: [peer for peer in self.peers if self._members.may(peer, Verb.WRITE, self._row.id)],
            ask=self._ask,
            between=self._turns.between,
        )
        self._confirming = Confirming(self.book.chosen, self.book, peers=lambda: self.peers, ask=self._ask)

    def start(self) -> None:
        """Work in the background."""
        self._tasks.keep(self._work, f"live folder {self.name}")
        self._tasks.keep(self._fetching.run, f"contents of {self.name}")
        self.keepers.start()
        self._tasks.keep(self._freeing.run, f"room on the disk of {self.name}")
        self._tasks.keep(self._confirming.run, f"who has {self.name}")

    async def close(self) -> None:
        """Stop; everything is on disk already."""
        self.cancel.set()
        self._agenda.close()
        self._timers.close()
        await self._tasks.close()
        await self._bringing.close()

    async def _work(self) -> None:
        await self._turns.run(self._tasks)

    # ---- for the service

    def mark(self) -> None:
        """In a thread: make its folder the copy of this live folder that this computer has. Errors as `make_marker`."""
        try:
            self._path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(
                tr("{path} cannot be made: {strerror}", path=self._path, strerror=error.strerror)
            ) from error
        make_marker(self._path, self._row.id, self._row.replica)

    def unmark(self) -> None:
        """In a thread: make it an ordinary folder again."""
        shutil.rmtree(self._path / MARKER, ignore_errors=True)

    def line(self, line: FolderLine) -> FolderLine:
        """How it stands."""
        troubles = [trouble.text() for trouble in self._tasks.troubles()]
        standing = Standing(
            gone=self._turns.gone,
            full=self._full,
            asks=self.asking.text(self.name),
            has_looked=self._turns.has_looked,
            is_done=self._agenda.is_done,
            missing=self._fetching.missing,
            members=[
                self._context.people.name_of(peer) for peer in (*self._telling.peers, *self.keepers.peers)
            ],
            notes=[
                *filter(None, [self.book.crowding.why]),
                *self._agenda.failed.values(),
                *self._agenda.waits.values(),
                *troubles,
                *self.keepers.notes,
            ],
        )
        return counted(standing.on(line), self.book.data)

    def known(self, contents: Sequence[bytes]) -> dict[bytes, bytes]:
        """The packed chunks of those contents that are here. In a thread."""
        return self._lying.known(contents)

    def answer(self, answer: str) -> None:
        """What is to become of what waits (`asking`)."""
        self.asking.answer = answer
        self._agenda.begin()

    async def write(self, path: str, value: Value) -> None:
        """Give a path this value, for everybody, instead of all that it has."""
        await asyncio.to_thread(self.book.settle, {path: value})
        self._news()
        self.touch([path])

    async def rewrite(self, writes: Sequence[tuple[str, Value, Value | None]]) -> None:
        """Write new values for what somebody saw (`FolderBook.rewrite`), and tell everybody."""
        await asyncio.to_thread(self.book.rewrite, writes)
        self._news()
        self.touch([path for path, _, _ in writes])

    def stamp(self) -> tuple[bytes, int]:
        """Who writes here, and when: ms since 1970."""
        return bytes(self._context.me.peer_id), int(time.time() * 1000)

    @property
    def versions(self) -> Versions:
        """Where what is replaced or removed is kept."""
        return self._context.blobs.versions

    @property
    def peers(self) -> list[PeerId]:
        """Who is connected and has the folder."""
        return self._telling.peers

    def look_at(self, local: str) -> None:
        """Look at this on the disk now."""
        self._agenda.look(hints_of([local]))

    async def heard(self) -> None:
        """Wait until what somebody else has is known here."""
        hearing = [asyncio.ensure_future(one.heard()) for one in (self._telling, self.keepers)]
        try:
            await asyncio.wait(hearing, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in hearing:
                one.cancel()

    def touch(self, paths: Collection[str]) -> None:
        """Plan these paths again."""
        self._agenda.touch(paths)

    def look_anew(self) -> None:
        """What is left out has changed: look at everything."""
        self._turns.look_anew()

    # ---- others

    def peer_up(self, peer: PeerId) -> None:
        """`peer` can be told something."""
        self._telling.up(peer)
        self._fetching.look_again(peer)
        self._freeing.look_again()
        self._confirming.look_again()

    def peer_down(self, peer: PeerId) -> None:
        """It cannot any more."""
        self._telling.down(peer)
        self.keepers.peer_down(peer)

    def peer_without(self, peer: PeerId) -> None:
        """It is connected, and does not follow the folder now: it is asked again later."""
        self.peer_down(peer)
        self._timers.start(WITHOUT_S, lambda: self._ask_again(peer))

    def _ask_again(self, peer: PeerId) -> None:
        if peer not in self._links.up or peer in self.peers or peer in self.keepers.peers:
            return
        if self._members.may(peer, Verb.LIST, self._row.id):
            self._telling.up(peer)
        elif self._members.keeps(peer, self._row.id):
            self.keepers.peer_up(peer)

    def look_who(self) -> None:
        """Who may follow has changed: what is under way to those that may not ends."""
        self._telling.look_who()
        self.keepers.look_who()
        self._fetching.look_again()

    async def hear(self, peer: PeerId, message: Message) -> None:
        """What `peer` said; returns when it may say more."""
        hears = self.keepers if wire.folder_of(message) == self.keepers.folder else self._telling
        await hears.hear(peer, message)
        if isinstance(message, wire.Changes | wire.Moved | wire.Hello):
            self._fetching.look_again(peer)
        if isinstance(message, wire.Seen):
            self._confirming.look_again()

    def _news(self) -> None:
        """Something has changed here."""
        self._telling.news()
        self.keepers.news()
        self._confirming.look_again()

    def _merged(self, paths: Sequence[str], has_more: bool) -> None:
        """Others said something about these."""
        moves = self.book.taken_moves()
        for move in moves:
            self._agenda.add_move(*move)
        if paths or moves:
            self._agenda.add_paths(self.asking.there.taken())
            self._news()
        self._agenda.merged(paths, has_more)

    def _rules(self) -> Rules:
        facts = self._disk.facts
        return Rules(
            names=facts.names,
            bits=facts.bits,
            links=facts.links,
            ignored=self.leaving_out.ignored,
            ignores_places=self.leaving_out.has_patterns,
            can_write=self.can_write,
            selected=self.selecting.selected,
            overwrites=self.overwriting.overwrites,
            name_of=self.name_of,
        )

    # ---- what is to be here

    async def select(self, change: Callable[[], T]) -> T:
        """Change what is to be here; what that means is done in the background. Raises what `change` raises."""
        result = await asyncio.to_thread(change)
        self.book.is_partial = self.selecting.is_partial
        self.touch(await asyncio.to_thread(self.book.data.undone))
        self._freeing.look_again()
        return result

    async def has(self, files: Sequence[tuple[str, bytes]], nonce: bytes) -> list[bytes]:
        """What somebody asks by `messages.Have`."""
        if not nonce:
            return await asyncio.to_thread(self._freeing.proofs, files, nonce)
        async with self._proving:  # it may read much
            proofs = await asyncio.to_thread(self._freeing.proofs, files, nonce)
        self._confirming.look_again()
        return proofs

    async def nobody_has(self, files: Sequence[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
        """Those of these (path, content) that are on the disk of nobody who is connected now."""
        missing = list(dict.fromkeys(files))
        for peer in self.peers:
            left = []
            for at in range(0, len(missing), ASKED_MAX):
                part = missing[at : at + ASKED_MAX]
                proofs = await self._ask(peer, part, b"")
                left += [one for one, proof in zip(part, proofs, strict=True) if not proof]
            missing = left
        return missing

    def gave(self) -> None:
        """Somebody gets contents from here, and has them soon."""
        self._freeing.look_again()
        self._confirming.look_again()

    async def _ask(self, peer: PeerId, files: Sequence[tuple[str, bytes]], nonce: bytes) -> Sequence[bytes]:
        """A proof for each file from one who may have it; nothing for all where no answer comes."""
        size = sum(self.book.data.sizes([path for path, _ in files])) if nonce else 0
        asked = wire.Have(self._row.id, list(files), nonce)
        try:
            answer = await self._context.net.ask(
                peer, wire.PROTOCOL, asked, timeout_s=HAS_S + size / READ_BYTES_PER_S
            )
            wire.check(answer)
            if isinstance(answer, wire.Has) and len(answer.proofs) == len(files):
                return answer.proofs
        except (CoterieError, TimeoutError) as error:
            log.info("who has files of a live folder, %s: %s", peer.short, error)
        return [b""] * len(files)

    def _recover(self) -> None:
        self._freeing.recover()

    def _disk_failed(self, why: str) -> None:
        self._full = why
