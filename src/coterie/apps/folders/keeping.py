"""A folder that this computer keeps for others and cannot read: takes what writers seal, gives it to all readers."""

import asyncio
import contextlib
import logging
import shutil
from pathlib import Path

import msgspec

from coterie.access.resource import Verb
from coterie.apps.context import Context
from coterie.apps.folders import kept_messages as wire
from coterie.apps.folders import pacing
from coterie.apps.folders.kept_store import CHUNKS, KeptStore
from coterie.apps.folders.links import Links
from coterie.apps.folders.members import Members
from coterie.apps.folders.membership import resource_of
from coterie.apps.folders.results import FolderLine
from coterie.apps.folders.root import MARKER, make_marker
from coterie.apps.folders.store import DAY_S, FolderRow, FoldersStore
from coterie.apps.folders.telling import Telling
from coterie.errors import StorageError, UsageError
from coterie.identity import PeerId
from coterie.quantity import say_bytes
from coterie.tasks import Tasks
from coterie.texts import tr
from coterie.wire.frames import Message

KEEP_S = 10.0  # who brings chunks waits so long at most for the limit of this computer: it asks again after 30; guess

log = logging.getLogger(__name__)


class Keeping:
    """One kept folder. Belongs to the event loop."""

    def __init__(
        self, context: Context, store: FoldersStore, row: FolderRow, *, links: Links, members: Members
    ) -> None:
        self._context = context
        self._row = row
        self._members = members
        self._path = Path(row.path)
        self._tasks = Tasks()
        self._why = ""
        self._is_full = False
        self._writers: frozenset[bytes] = frozenset()
        self.kept = KeptStore(store, row, lambda by: by in self._writers)
        self._telling = Telling(
            row.id,
            row.replica,
            self.kept,
            links,
            self._tasks,
            may=lambda peer: members.may(peer, Verb.LIST, row.id),
            merged=lambda names, has_more: None,
        )

    # ---- begin and end

    def mark(self) -> None:
        """In a thread: make its place. Raises UsageError: something is there, or it cannot be made."""
        try:
            self._path.mkdir(parents=True, exist_ok=True)
            if any(self._path.iterdir()):
                raise UsageError(
                    tr("{path} is not empty: choose a folder for this copy alone", path=self._path)
                )
        except OSError as error:
            raise UsageError(
                tr("{path} cannot be made: {strerror}", path=self._path, strerror=error.strerror)
            ) from error
        make_marker(self._path, self._row.id, self._row.replica)
        self.kept.mark()

    def unmark(self) -> None:
        """In a thread: remove the copy: nobody can read it here."""
        shutil.rmtree(self._path / CHUNKS, ignore_errors=True)
        shutil.rmtree(self._path / MARKER, ignore_errors=True)

    def start(self) -> None:
        """Look once a day what is needed no more."""
        self._tasks.keep(self._keep_sweeping, "what a kept folder needs no more")

    async def close(self) -> None:
        """Stop; everything is on disk already."""
        await self._tasks.close()

    def line(self, line: FolderLine) -> FolderLine:
        """How it stands: sizes, and no names."""
        lacking = len(self.kept.lacking())
        members = [self._context.people.name_of(peer) for peer in self._telling.peers]
        state, note = "keeps", ""
        if self._why:
            state, note = "gone", self._why
        elif self._is_full:
            state, note = "full", self._full_note()
        elif lacking:
            state = "receiving"
        elif not members:
            state = "alone"
        return msgspec.structs.replace(
            line, state=state, size=self.kept.used, missing=lacking, members=members, note=note
        )

    def set_quota(self, quota: int) -> None:
        """Keep at most so many bytes; who found no room comes back at once where there is some."""
        self.kept.set_quota(quota)
        if self.kept.room:
            self._is_full = False
            self._context.tell.withdraw(f"full {self._row.id.hex()}")
            for peer in self._telling.peers:
                self._telling.up(peer)

    # ---- others

    def peer_up(self, peer: PeerId) -> None:
        """`peer` can be told something."""
        self._telling.up(peer)

    def peer_down(self, peer: PeerId) -> None:
        """It cannot any more."""
        self._telling.down(peer)

    def peer_without(self, peer: PeerId) -> None:
        """It does not follow the folder now; it says hello when it does."""
        self._telling.down(peer)

    def look_who(self) -> None:
        """Who may follow has changed."""
        self._telling.look_who()

    async def hear(self, peer: PeerId, message: Message) -> None:
        """What `peer` said of registers; returns when it may say more."""
        self._writers = self._members.writers(self._row.id)
        await self._telling.hear(peer, message)

    async def answer(self, peer: PeerId, asked: wire.Asked) -> Message:
        """What `peer` asks of contents. Raises AccessDenied; StorageError: the place is away."""
        verb = Verb.WRITE if isinstance(asked, wire.Keep | wire.KeepLists) else Verb.READ
        self._context.access.decide(peer, verb, resource_of(self._row.id)).require()
        try:
            answer = await self._paced(asked)
        except StorageError as error:
            self._why = str(error)
            log.info("a kept folder: %s", error)
            raise
        self._why = ""
        if isinstance(asked, wire.Keep) and isinstance(answer, wire.Lacking):
            self._filled(bool(answer.ids))
        return answer

    async def _paced(self, asked: wire.Asked) -> Message:
        """The answer, at the rate that the owner of this computer allows."""
        rates = self._context.blobs.rates
        if isinstance(asked, wire.Keep):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(KEEP_S):
                    await pacing.wait(rates.down)
            pacing.went(rates.down, sum(map(len, asked.chunks)))
        bytes_max = pacing.bytes_in_one(rates.up, wire.TEXTS_BYTES_MAX)
        answer = await asyncio.to_thread(self._answer, asked, bytes_max)
        if isinstance(answer, wire.Chunks):
            await pacing.wait(rates.up)
            pacing.went(rates.up, sum(map(len, answer.chunks)))
        return answer

    def _answer(self, asked: wire.Asked, bytes_max: int) -> Message:
        kept = self.kept
        match asked:
            case wire.Lack(_, chunks):
                return wire.Lacking(kept.lacking_chunks(chunks) if chunks else kept.lacking(), kept.room)
            case wire.Keep(_, chunks):
                return wire.Lacking(kept.keep(chunks), kept.room)
            case wire.KeepLists(_, lists):
                return wire.Lacking(kept.keep_lists(lists), kept.room)
            case wire.AskLists(_, contents, first):
                return wire.Lists(kept.lists(contents, first))
            case wire.AskChunks(_, ids):
                return wire.Chunks(kept.chunks(ids, bytes_max))

    def _filled(self, is_full: bool) -> None:
        if is_full and not self._is_full:
            self._context.tell.say(self._full_note(), key=f"full {self._row.id.hex()}")
        self._is_full = is_full

    def _full_note(self) -> str:
        name = self._members.record(self._row.id).name
        return tr(
            "the copy {name} has reached its {quota}: coterie folder quota {name} SIZE gives it more",
            name=name,
            quota=say_bytes(self.kept.quota),
        )

    async def _keep_sweeping(self) -> None:
        while True:
            await asyncio.to_thread(self.kept.sweep)
            await asyncio.sleep(DAY_S)
