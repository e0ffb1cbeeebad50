"""Folders and those who keep them without reading: the copies here for others, and the keys of ours."""

import asyncio
from collections.abc import Iterable, Iterator, Mapping

from coterie.access.resource import Verb
from coterie.apps.context import Context
from coterie.apps.folders import kept_messages as wire
from coterie.apps.folders.engine import Engine
from coterie.apps.folders.folder_keys import open_keys
from coterie.apps.folders.keeping import Keeping
from coterie.apps.folders.links import Links
from coterie.apps.folders.members import Members
from coterie.apps.folders.membership import FolderRecord
from coterie.apps.folders.messages import Keys, Records
from coterie.apps.folders.results import FolderSaid
from coterie.apps.folders.store import FolderRow, FoldersStore
from coterie.errors import NotFound, PeerError, UsageError
from coterie.identity import PeerId
from coterie.net import Stream
from coterie.quantity import say_bytes
from coterie.texts import tr


class AsksQuota(UsageError):
    """A folder is to be kept without being read: how much of it at most is to be said."""

    code = "asks_quota"


class KeptFolders:
    """Belongs to the event loop."""

    def __init__(
        self,
        context: Context,
        store: FoldersStore,
        links: Links,
        members: Members,
        engines: Mapping[bytes, Engine],
    ) -> None:
        """`engines`: of the folders that can be read here, as they come and go."""
        self._context = context
        self._store = store
        self._links = links
        self._members = members
        self._engines = engines
        self._kept: dict[bytes, Keeping] = {}

    # ---- copies here for others

    def __iter__(self) -> Iterator[Keeping]:
        return iter(self._kept.values())

    def get(self, folder: bytes) -> Keeping | None:
        """The one with this id, if it is not paused."""
        return self._kept.get(folder)

    def is_one(self, row: FolderRow) -> bool:
        """Whether the folder of `row` is kept, and cannot be read here."""
        return self._store.quota(row.number) > 0

    async def add(self, row: FolderRow, record: FolderRecord, quota: int) -> None:
        """Make room for a folder that is to be kept. Raises AsksQuota, and as `Keeping.mark`."""
        if not quota:
            raise AsksQuota(
                tr(
                    "you are to keep {name} for {who}, and cannot read it: say how much at most, as --quota 100GB",
                    name=record.name,
                    who=self._context.people.name_of(PeerId(record.owner)),
                )
            )
        self._store.add(row)
        try:
            self._store.keep(row.number, quota)
            await asyncio.to_thread(self._made(row).mark)
        except BaseException:
            self._store.remove(row.number)
            raise

    def begin(self, row: FolderRow) -> None:
        """Take part from now on."""
        keeping = self._kept[row.id] = self._made(row)
        keeping.start()
        for peer in self._links.up:
            if self._members.may(peer, Verb.LIST, row.id):
                keeping.peer_up(peer)

    async def end(self, folder: bytes) -> None:
        """Take part no longer; it stays on the disk."""
        keeping = self._kept.pop(folder, None)
        if keeping is not None:
            await keeping.close()

    async def drop(self, row: FolderRow) -> None:
        """Take part no longer, and remove the copy."""
        await self.end(row.id)
        await asyncio.to_thread(self._made(row).unmark)

    async def close(self) -> None:
        """Stop all."""
        for folder in list(self._kept):
            await self.end(folder)

    def set_quota(self, folder: bytes, quota: int) -> FolderSaid:
        """Keep at most so much."""
        name = self._members.record(folder).name
        keeping = self._kept.get(folder)
        if keeping is None:
            raise UsageError(tr("{name} is not kept for others here, or is paused", name=name))
        if quota <= 0:
            raise UsageError(tr("say how much to keep: 500MB, 100GB; `coterie folder leave` ends it"))
        keeping.set_quota(quota)
        return FolderSaid(name, tr("{name}: at most {quota}", name=name, quota=say_bytes(quota)))

    async def serve(self, stream: Stream) -> None:
        """One computer that asks for contents, or brings some."""
        while (message := await stream.receive()) is not None:
            if not isinstance(message, wire.ASKED):
                raise PeerError("no question to a keeper")
            wire.check(message)
            keeping = self._kept.get(message.folder)
            if keeping is None:
                raise NotFound(tr("nothing is kept of that folder here"))
            await stream.send(await keeping.answer(stream.peer, message))

    def _made(self, row: FolderRow) -> Keeping:
        return Keeping(self._context, self._store, row, links=self._links, members=self._members)

    # ---- keys of folders that others keep

    def heard_keys(self, raw: bytes) -> None:
        """Keys of a folder that is here or offered, of its owner, by whomever, if they are newer. Raises PeerError."""
        folder = open_keys(raw).folder
        record = self._members.known(folder)
        if record is not None and self._members.keys.take(record, raw):
            self.use_keys(folder)

    def use_keys(self, folder: bytes) -> None:
        """Go on with the keys that a folder has now, and pass them on."""
        if engine := self._engines.get(folder):
            engine.keepers.use(self._members.keys.of(folder))
        for peer in self._links.up:
            self.tell_keys(peer, [folder])

    def tell_keys(self, peer: PeerId, folders: Iterable[bytes]) -> None:
        """Keys to who may read, the record for keepers to who keeps: whatever belongs to `peer`."""
        for folder in folders:
            keys = self._members.keys.of(folder)
            if keys is None:
                continue
            if self._members.may(peer, Verb.READ, folder):
                self._links.send(peer, Keys([self._members.keys.raw(folder)]))
            elif self._members.keeps(peer, folder):
                self._links.send(peer, Records([keys.kept]))
                if engine := self._engines.get(folder):
                    engine.keepers.peer_up(peer)
