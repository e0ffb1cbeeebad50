"""All places, as their owner sees them: others' to be read, and written where one may; one's own as they lie there."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from coterie.apps.context import Context
from coterie.apps.drive.messages import Copy, Delete, MakeFolder, Move, Room
from coterie.apps.drive.ordering import Ordering
from coterie.apps.drive.share_disk import Coming, ShareDisk
from coterie.apps.drive.tree import Incoming, ReadOnly, copy_over, refused
from coterie.apps.drive.unfinished import Unfinished
from coterie.apps.files.api import FilesApi, ShareRecord
from coterie.errors import CoterieError, NotFound, UsageError
from coterie.identity import PeerId
from coterie.texts import tr

KEPT_S = 2.0  # what an owner said of a share: whether one may write, how much room there is
ROOMS_MAX = 256


class WholeTree(ReadOnly):
    """See `Tree`."""

    def __init__(self, context: Context, files: FilesApi, orders: Ordering, unfinished: Unfinished) -> None:
        super().__init__(files.reading)
        self._context = context
        self._files = files
        self._unfinished = unfinished
        self._orders = orders
        self._rooms: dict[tuple[PeerId, str], tuple[float, Room]] = {}

    async def may_write(self, place: str) -> bool:
        return (await self._room(place)).may_write

    async def free_bytes(self, place: str) -> int | None:
        room = await self._room(place)
        return room.free_bytes if room.may_write else None

    async def incoming(self, place: str) -> Incoming:
        peer, path = self._where(place)
        if (own := self._own(peer, path)) is not None:
            share, parts = own
            coming = await asyncio.to_thread(self._disk(share).begin, parts)
            return OnDisk(coming, lambda: self._files.touched(share.id))
        return _Telling(self._orders.incoming(peer, path), lambda: self._changed(peer))

    async def make_folder(self, place: str) -> None:
        peer, path = self._where(place)
        if (own := self._own(peer, path)) is not None:
            share, parts = own
            await asyncio.to_thread(self._disk(share).make_folder, parts)
            self._files.touched(share.id)
            return
        await self._order(peer, MakeFolder(path))

    async def remove(self, place: str) -> None:
        peer, path = self._where(place)
        if (own := self._own(peer, path)) is not None:
            share, parts = own
            await asyncio.to_thread(self._disk(share).remove, parts)
            self._files.touched(share.id)
            return
        await self._order(peer, Delete(path))

    async def move(self, place: str, to: str) -> None:
        peer, path = self._where(place)
        other, other_path = self._where(to)
        if peer != other:
            raise UsageError(tr("from one computer to another it is copied, not moved"))
        own, own_to = self._own(peer, path), self._own(other, other_path)
        if own is None or own_to is None:
            await self._order(peer, Move(path, other_path))
            return
        (share, parts), (share_to, parts_to) = own, own_to
        await asyncio.to_thread(self._disk(share).move, parts, self._disk(share_to), parts_to)
        self._files.touched(share.id)
        self._files.touched(share_to.id)

    async def copy(self, place: str, to: str) -> None:
        peer, path = self._where(place)
        other, other_path = self._where(to)
        own = self._own(peer, path) is not None
        if peer == other and not own:
            await self._order(peer, Copy(path, other_path))
            return
        await copy_over(self, place, self, to)

    # ---- where a place is

    def _where(self, place: str) -> tuple[PeerId, str]:
        """Whose it is, and the path there. Raises `AccessDenied` for what is nobody's share."""
        name, _, path = place.strip("/").partition("/")
        if not path:
            raise refused(place)
        return self._reading.find(name), path

    def _own(self, peer: PeerId, path: str) -> tuple[ShareRecord, tuple[str, ...]] | None:
        """The share of this computer in which a path is, and the way there; None: it is another computer."""
        if peer != self._context.me.peer_id:
            return None
        label, *parts = path.split("/")
        share = self._reading.own.labelled().get(label)
        if share is None:
            raise NotFound(tr("there is no {path}", path=path))
        return share, tuple(parts)

    def _disk(self, share: ShareRecord) -> ShareDisk:
        return ShareDisk(Path(share.path), self._context.blobs.versions, unfinished=self._unfinished)

    async def _room(self, place: str) -> Room:
        try:
            peer, path = self._where(place)
            if (own := self._own(peer, path)) is not None:
                return Room(True, await asyncio.to_thread(self._disk(own[0]).free_bytes))
        except CoterieError:
            return Room(False, 0)
        share = path.partition("/")[0]
        now = asyncio.get_running_loop().time()
        for key in ((peer, share), (peer, path)):
            if (known := self._rooms.get(key)) is not None and now < known[0] + KEPT_S:
                return known[1]
        room, key = await self._orders.room(peer, share), (peer, share)
        if not room.may_write and path != share:  # perhaps in a part of it
            room, key = await self._orders.room(peer, path), (peer, path)
        while len(self._rooms) >= ROOMS_MAX:
            del self._rooms[next(iter(self._rooms))]
        if room.may_write:
            self._rooms[key] = now, room
        return room

    async def _order(self, peer: PeerId, order: MakeFolder | Delete | Move | Copy) -> None:
        try:
            await self._orders.order(peer, order)
        finally:
            self._changed(peer)

    def _changed(self, peer: PeerId) -> None:
        """What is known of this computer is old."""
        self._reading.changed(peer)


class OnDisk:
    """See `tree.Incoming`: written where it will lie."""

    def __init__(
        self, coming: Coming, done: Callable[[], None], ready: Callable[[], None] = lambda: None
    ) -> None:
        """`ready` is called before it is put in place, `done` after that."""
        self._coming = coming
        self._ready = ready
        self._done = done
        self.write = coming.write

    async def finish(self, mtime_ns: int) -> None:
        self._ready()
        try:
            await asyncio.to_thread(self._coming.finish, mtime_ns)
        finally:
            self._done()

    async def drop(self) -> None:
        await asyncio.to_thread(self._coming.drop)


class _Telling:
    """An incoming file, after which something is to be looked at again."""

    def __init__(self, incoming: Incoming, done: Callable[[], None]) -> None:
        self._incoming = incoming
        self._done = done
        self.write, self.drop = incoming.write, incoming.drop

    async def finish(self, mtime_ns: int) -> None:
        try:
            await self._incoming.finish(mtime_ns)
        finally:
            self._done()
