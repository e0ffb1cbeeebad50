"""All places, as their owner sees them: others' to be read, and written where one may; one's own as they lie there."""

import asyncio
import os
import secrets
from pathlib import Path

from coterie.apps.context import Context
from coterie.apps.drive.messages import Copy, Delete, MakeFolder, Move, Room
from coterie.apps.drive.ordering import Ordering
from coterie.apps.drive.share_disk import ShareDisk, copied, write_all
from coterie.apps.drive.tree import ReadOnly, refused
from coterie.apps.files.api import FilesApi, ShareRecord
from coterie.errors import CoterieError, NotFound, UsageError
from coterie.identity import PeerId
from coterie.texts import tr

KEPT_S = 2.0  # what an owner said of a share: whether one may write, how much room there is
ROOMS_MAX = 256
COPY_BYTES = 1 << 20  # at once, of what is copied from one computer to another


class WholeTree(ReadOnly):
    """See `Tree`."""

    def __init__(self, context: Context, files: FilesApi, folder: Path) -> None:
        """`folder`: for what is on its way."""
        super().__init__(files.reading)
        self._context = context
        self._files = files
        self._folder = folder
        self._orders = Ordering(context)
        self._rooms: dict[tuple[PeerId, str], tuple[float, Room]] = {}

    async def may_write(self, place: str) -> bool:
        return (await self._room(place)).may_write

    async def free_bytes(self, place: str) -> int | None:
        room = await self._room(place)
        return room.free_bytes if room.may_write else None

    async def put(self, place: str, source: Path, mtime_ns: int) -> None:
        peer, path = self._where(place)
        if (own := self._own(peer, path)) is not None:
            share, parts = own
            await asyncio.to_thread(self._disk(share).put, parts, copied(source), mtime_ns)
            self._files.touched(share.id)
            return
        try:
            await self._orders.put(peer, path, source, mtime_ns)
        finally:
            self._changed(peer)

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
        await asyncio.to_thread(self._folder.mkdir, 0o700, True, True)
        coming = self._folder / f"copy-{secrets.token_hex(8)}"
        try:
            async with await self.open(place) as source:
                fd = await asyncio.to_thread(os.open, coming, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                try:
                    at = 0
                    while data := await source.read(at, COPY_BYTES):
                        await asyncio.to_thread(write_all, fd, data)
                        at += len(data)
                finally:
                    os.close(fd)
            await self.put(to, coming, source.mtime_ns)
        finally:
            await asyncio.to_thread(coming.unlink, True)

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
        return ShareDisk(Path(share.path), self._context.blobs.versions)

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
