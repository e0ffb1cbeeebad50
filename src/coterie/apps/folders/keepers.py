"""Who keeps a live folder of this computer without reading it: they get what changes, sealed, and give it back.

Registers go to them by an exchange of their own, in which the folder and this replica have other ids. Contents that
their registers need are brought by whoever may write and has them; keepers say what they lack.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from coterie.apps.context import Context
from coterie.apps.folders import kept_messages as wire
from coterie.apps.folders import pacing
from coterie.apps.folders.batches import batch
from coterie.apps.folders.book import FolderBook
from coterie.apps.folders.content import Arrived
from coterie.apps.folders.folder_keys import FolderKeys, kept_replica
from coterie.apps.folders.links import Links
from coterie.apps.folders.lying import Lying
from coterie.apps.folders.members import Members
from coterie.apps.folders.register import Kind, unpack
from coterie.apps.folders.sealed_contents import Opening, messages_of, pieces_max, sealed_portions
from coterie.apps.folders.sealing import Sealing
from coterie.apps.folders.store import FolderRow
from coterie.apps.folders.telling import Telling
from coterie.errors import CoterieError, PeerError, StorageError
from coterie.identity import PeerId
from coterie.tasks import Tasks
from coterie.texts import tr
from coterie.wire.frames import Message

ANSWER_S = 30.0  # for a keeper to answer: it reads or writes its disk; guess
AGAIN_S = 30.0  # after a keeper was full, or failed; guess

M = TypeVar("M", bound=Message)
log = logging.getLogger(__name__)


class _Sealed:
    """See `telling.Book`: the registers of the folder as keepers have them."""

    def __init__(self, book: FolderBook, sealing: Sealing, folder: "Keepers") -> None:
        self.data = _Seen(book, folder)
        self._book = book
        self._sealing = sealing
        self._folder = folder

    @property
    def seq(self) -> int:
        return self._book.seq

    def batch(self, replica: bytes, first: int) -> tuple[int, list[tuple[str, bytes]]]:
        if not self._folder.can_write:
            return self._book.seq, []  # a reader's word counts nowhere
        return batch(self._book.data, replica, first, self._form)

    def merge(self, replica: bytes, entries: Sequence[tuple[str, bytes]]) -> list[str]:
        opened: list[tuple[str, bytes]] = []
        for name, raw in entries:
            try:
                opened += self._sealing.opened(name, raw, self._folder.may_write)
            except PeerError as error:  # the others may be true
                self._folder.lies(error)
        return self._book.merge(replica, opened)

    def _form(self, path: str, register: bytes) -> tuple[str, bytes] | None:
        try:
            return self._sealing.entry(path, register)
        except PeerError as error:
            log.warning("not for keepers: %s: %s", path, error)
            return None


class _Seen:
    """See `telling.Seen`: a keeper has a change once it has its contents, too."""

    def __init__(self, book: FolderBook, folder: "Keepers") -> None:
        self._data = book.data
        self._folder = folder
        self.replicas = book.data.replicas
        self.save_known = book.data.save_known
        self.sync = book.data.sync

    def save_seen(self, replica: bytes, peer: bytes, seen: int) -> None:
        self._folder.saw(PeerId(peer), replica, seen)


class Keepers:
    """Of one folder. Belongs to the event loop."""

    def __init__(
        self,
        context: Context,
        row: FolderRow,
        book: FolderBook,
        lying: Lying,
        *,
        links: Links,
        members: Members,
        tasks: Tasks,
        merged: Callable[[list[str], bool], None],
    ) -> None:
        """`merged`: as of `Telling`."""
        self._context = context
        self._row = row
        self._book = book
        self._lying = lying
        self._links = links
        self._members = members
        self._tasks = tasks
        self._merged = merged
        self._telling: Telling | None = None
        self._sealing: Sealing | None = None
        self._writers: frozenset[bytes] = frozenset()
        self._saw: dict[PeerId, tuple[bytes, int]] = {}
        self._up: dict[PeerId, None] = {}
        self._wake = asyncio.Event()
        self._has_keys = asyncio.Event()
        self.can_write = False
        self.notes: list[str] = []
        """What does not work with a keeper."""

    @property
    def folder(self) -> bytes:
        """The id under which they know the folder; b"": it has no keys."""
        return self._sealing.kept if self._sealing is not None else b""

    @property
    def peers(self) -> list[PeerId]:
        """Keepers that are connected."""
        return self._telling.peers if self._telling is not None else []

    def use(self, keys: FolderKeys | None) -> None:
        """The keys are these now: with a new one everything is sealed anew."""
        if keys is None:
            return
        me = self._context.me
        is_same = self._sealing is not None and self._sealing.epoch == keys.epoch
        sealing = Sealing(keys, bytes(me.peer_id), me.sign)
        if is_same:
            return
        self._sealing = sealing
        self._telling = Telling(
            sealing.kept,
            kept_replica(self._row.replica, keys.epoch),
            _Sealed(self._book, sealing, self),
            self._links,
            self._tasks,
            may=lambda peer: self._members.keeps(peer, self._row.id),
            merged=self._merged,
        )
        for peer in self._up:
            self._telling.up(peer)
        self._has_keys.set()

    def start(self) -> None:
        """Bring contents to keepers in the background."""
        self._tasks.keep(self._run, "contents to keepers")

    def news(self) -> None:
        """Something has changed here."""
        if self._telling is not None:
            self._telling.news()

    def peer_up(self, peer: PeerId) -> None:
        """A keeper can be told something; may be said again."""
        if peer not in self._up:
            self._up[peer] = None
            if self._telling is not None:
                self._telling.up(peer)

    def peer_down(self, peer: PeerId) -> None:
        """It cannot any more."""
        self._up.pop(peer, None)
        if self._telling is not None:
            self._telling.down(peer)

    def look_who(self) -> None:
        """Who may follow has changed."""
        self._look_who()
        if self._telling is not None:
            self._telling.look_who()

    async def hear(self, peer: PeerId, message: Message) -> None:
        """What a keeper said; returns when it may say more."""
        if self._telling is not None:
            self._look_who()
            self.peer_up(peer)
            await self._telling.hear(peer, message)
            self.wake()

    async def heard(self) -> None:
        """Wait until what a keeper has is known here."""
        while self._telling is None:
            self._has_keys.clear()
            await self._has_keys.wait()
        await self._telling.heard()

    def wake(self) -> None:
        """A keeper may lack what is here."""
        self._wake.set()

    def _look_who(self) -> None:
        self._writers = self._members.writers(self._row.id)
        self.can_write = bytes(self._context.me.peer_id) in self._writers

    def may_write(self, by: bytes) -> bool:
        """Whether what `by` has signed counts. Any thread."""
        return by in self._writers

    def lies(self, error: PeerError) -> None:
        """A keeper gave what nobody sealed. Any thread."""
        log.warning("a keeper of a live folder: %s", error)
        self.notes = [tr("a keeper gives what nobody of this folder has sealed: {error}", error=error)]

    def saw(self, peer: PeerId, replica: bytes, seen: int) -> None:
        """A keeper has the registers up to a number; kept once it has their contents."""
        self._saw[peer] = replica, seen
        self.wake()

    # ---- contents to keepers

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            is_done = True
            for peer in self.peers:
                try:
                    is_done = await self._bring(peer) and is_done
                except (CoterieError, TimeoutError) as error:
                    log.info("contents to the keeper %s: %s", peer.short, error)
                    is_done = False
            try:
                async with asyncio.timeout(None if is_done else AGAIN_S):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _bring(self, peer: PeerId) -> bool:
        """Give `peer` all that it lacks and is here; False: it has no room."""
        sealing = self._sealing
        if sealing is None or not self.can_write:
            return True
        given: set[bytes] = set()
        while True:
            saw = self._saw.get(peer)
            lacking = (await self._ask(peer, wire.Lack(sealing.kept, []), wire.Lacking)).ids
            new = [tag for tag in lacking if tag not in given]
            by_tag = await asyncio.to_thread(self._named, sealing, new) if new else {}
            if not by_tag:
                break
            given.update(by_tag)
            if not await self._give(peer, sealing, by_tag):
                who = self._context.people.name_of(peer)
                self.notes = [tr("the copy at {who} has no room for more", who=who)]
                return False
        if saw is not None:
            self._book.data.save_seen(saw[0], bytes(peer), saw[1])
            if len(lacking) < wire.IDS_MAX:
                await asyncio.to_thread(self._confirm, sealing, saw[1], frozenset(lacking))
        self.notes = []
        return True

    def _confirm(self, sealing: Sealing, seq: int, lacking: Collection[bytes]) -> None:
        """In a thread: what a keeper knows up to `seq`, and does not lack, is not only here any more."""
        rows = self._book.chosen.alone_up_to(seq)
        self._book.chosen.shared([one for one in rows if sealing.tag(one[1]) not in lacking])

    def _named(self, sealing: Sealing, tags: Collection[bytes]) -> dict[bytes, bytes]:
        """In a thread: the contents of this folder that keepers call so."""
        wanted = set(tags)
        contents = dict.fromkeys(self._book.data.living_contents())
        for _, raw in self._book.data.in_conflict():
            contents.update(
                (value.content, None) for _, value in unpack(raw).siblings if value.kind is Kind.FILE
            )
        by_tag = {sealing.tag(content): content for content in contents}
        return {tag: content for tag, content in by_tag.items() if tag in wanted}

    async def _give(self, peer: PeerId, sealing: Sealing, by_tag: Mapping[bytes, bytes]) -> bool:
        """Give contents; False: there is no room for them. Those that are not here now are left out."""
        known = await asyncio.to_thread(self._lying.known, list(by_tag.values()))
        here = {tag: known[content] for tag, content in by_tag.items() if content in known}
        rates = self._context.blobs.rates
        portions = sealed_portions(self._context.blobs.store, sealing, here)
        while portion := await asyncio.to_thread(next, portions, None):
            texts, whole = portion
            if texts:
                lacking = (await self._ask(peer, wire.Lack(sealing.kept, list(texts)), wire.Lacking)).ids
                wanted = [texts[one] for one in lacking if one in texts]
                await pacing.wait(rates.up)
                pacing.went(rates.up, sum(map(len, wanted)))
                if wanted and (await self._ask(peer, wire.Keep(sealing.kept, wanted), wire.Lacking)).ids:
                    return False
            for lists in messages_of(whole):
                await self._ask(peer, wire.KeepLists(sealing.kept, lists), wire.Lacking)
        return True

    # ---- contents from keepers

    async def fetch(self, peer: PeerId, wanted: Mapping[bytes, int], place: Path) -> dict[bytes, Arrived]:
        """Files in `place` of those `wanted` contents that the keeper `peer` has.

        Raises:
            StorageError: the disk refuses.
        """
        arrived: dict[bytes, Arrived] = {}
        try:
            await self._fetch_from(peer, wanted, place, arrived)
        except StorageError:
            raise
        except (CoterieError, TimeoutError) as error:
            log.info("contents from the keeper %s: %s", peer.short, error)
        return arrived

    async def _fetch_from(
        self, peer: PeerId, wanted: Mapping[bytes, int], place: Path, arrived: dict[bytes, Arrived]
    ) -> None:
        sealing = self._sealing
        if sealing is None:
            return
        down = self._context.blobs.rates.down
        by_tag = {tag: content for content in wanted for tag in sealing.tags(content)}
        tags = list(by_tag)
        for at in range(0, len(tags), wire.IDS_MAX):
            asked = wire.AskLists(sealing.kept, tags[at : at + wire.IDS_MAX])
            lists = (await self._ask(peer, asked, wire.Lists)).lists
            listed: dict[bytes, bytes] = {}
            for tag, _, total, part in lists:
                content = by_tag.get(tag)
                if content is None or content in arrived or content in listed:
                    continue
                if total > pieces_max(wanted[content]):
                    self.lies(PeerError("a content of more chunks than it can have"))
                    continue
                ids = part
                while len(ids) < total * wire.ID_BYTES:
                    more = wire.AskLists(sealing.kept, [tag], len(ids) // wire.ID_BYTES)
                    ids += _part_of((await self._ask(peer, more, wire.Lists)).lists, tag)
                listed[content] = ids
            opening = Opening(sealing, listed, wanted, place)
            try:
                while ids_ := opening.next():
                    await pacing.wait(down)
                    texts = (await self._ask(peer, wire.AskChunks(sealing.kept, ids_), wire.Chunks)).chunks
                    pacing.went(down, sum(map(len, texts)))
                    await asyncio.to_thread(opening.take, texts)
            finally:
                arrived.update(await asyncio.to_thread(opening.close))
            if opening.fault:
                self.lies(PeerError(opening.fault))

    async def _ask(self, peer: PeerId, asked: Message, kind: type[M]) -> M:
        answer = await self._context.net.ask(peer, wire.KEEPING, asked, timeout_s=ANSWER_S)
        if not isinstance(answer, kind):
            raise PeerError("a keeper answers otherwise than asked")
        wire.check(answer)
        return answer


def _part_of(lists: Sequence[tuple[bytes, int, int, bytes]], tag: bytes) -> bytes:
    """What a keeper listed of the one content that was asked for."""
    part = next((part for one, _, _, part in lists if one == tag), b"")
    if not part:
        raise PeerError("a keeper lists a content in part")
    return part
