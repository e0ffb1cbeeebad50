"""The live folders of this computer as trees of the drive: read whole, also what is not here; written on the disk."""

import asyncio
from collections.abc import Callable, Collection

from coterie.access.names import distinct
from coterie.apps.drive.share_disk import ShareDisk
from coterie.apps.drive.tree import Incoming, Tree, copy_over, refused
from coterie.apps.drive.unfinished import Unfinished
from coterie.apps.drive.whole_tree import OnDisk
from coterie.apps.files.api import OpenFile, Seen
from coterie.apps.folders.api import FoldersApi, Live, LiveEntry
from coterie.content.versions import Versions
from coterie.errors import NotFound, StorageError, UsageError
from coterie.texts import tr


class LiveFolders:
    """See `Tree`; a place begins with the name of a folder."""

    def __init__(
        self,
        folders: FoldersApi,
        versions: Versions,
        unfinished: Unfinished,
        taken: Callable[[], Collection[str]],
    ) -> None:
        """`taken`: names that mean something else here."""
        self._folders = folders
        self._versions = versions
        self._unfinished = unfinished
        self._taken = taken

    def named(self) -> dict[str, Live]:
        """Each folder, by a name that nothing else has here."""
        taken = {name.casefold() for name in self._taken()}
        live = self._folders.live()
        names = [f"{one.name} (folder)" if one.name.casefold() in taken else one.name for one in live]
        labels = distinct([(one.id, name, False) for one, name in zip(live, names, strict=True)])
        return dict(zip(labels, live, strict=True))

    async def listing(self, place: str) -> tuple[Seen, ...]:
        live, path = self._find(place)
        return tuple(map(_seen, await self._folders.listing(live.id, path)))

    async def look(self, place: str) -> Seen:
        live, path = self._find(place)
        if not path:
            return Seen(place.strip("/"), "folder")
        return _seen(await self._folders.look(live.id, path))

    async def open(self, place: str) -> OpenFile:
        live, path = self._find(place)
        return await self._folders.open(live.id, path)

    async def may_write(self, place: str) -> bool:
        try:
            return self._find(place)[0].can_write
        except NotFound:
            return False

    async def free_bytes(self, place: str) -> int | None:
        live, _ = self._find(place)
        return await asyncio.to_thread(self._disk(live).free_bytes) if live.can_write else None

    async def incoming(self, place: str) -> Incoming:
        live, path = self._writable(place)
        there = await self._at(live, path)
        if there is not None and there.kind == "folder":
            raise UsageError(tr("{name} is there already and is no file", name=there.name))
        await self._make_above(live, path)
        coming = await asyncio.to_thread(self._disk(live).begin, path.split("/"))
        return OnDisk(
            coming,
            lambda: self._folders.touched(live.id, path),
            lambda: self._folders.writing(
                self._writable(place)[0].id, path
            ),  # it may be only to be read by now
        )

    async def make_folder(self, place: str) -> None:
        live, path = self._writable(place)
        if await self._at(live, path) is not None:
            raise UsageError(tr("there is something already"))
        await self._make_above(live, path)
        await asyncio.to_thread(self._disk(live).make_folder, path.split("/"))
        self._folders.touched(live.id, path)

    async def remove(self, place: str) -> None:
        live, path = self._writable(place)
        await self._folders.remove(live.id, path)

    async def move(self, place: str, to: str) -> None:
        (live, path), (other, other_path) = self._writable(place), self._writable(to)
        if live.id != other.id:
            raise UsageError(tr("from one live folder to another it is copied, not moved"))
        await self._folders.move(live.id, path, other_path)

    async def copy(self, place: str, to: str) -> None:
        await copy_over(self, place, self, to)

    def _find(self, place: str) -> tuple[Live, str]:
        """The folder of a place, and the path in it. Raises `NotFound`; `StorageError`: the folder is away."""
        name, _, path = place.strip("/").partition("/")
        live = self.named().get(name)
        if live is None or (path and any(part in ("", ".", "..") for part in path.split("/"))):
            raise NotFound(tr("there is no {path}", path=place))
        if live.gone:
            raise StorageError(live.gone)
        return live, path

    def _writable(self, place: str) -> tuple[Live, str]:
        """As `_find`, for what is in a folder that may be changed. Raises `AccessDenied` besides."""
        live, path = self._find(place)
        if not live.can_write:
            raise refused(place)
        if not path:
            raise UsageError(tr("a live folder itself is not made, moved or removed over a drive"))
        return live, path

    async def _at(self, live: Live, path: str) -> LiveEntry | None:
        try:
            return await self._folders.look(live.id, path)
        except NotFound:
            return None

    async def _make_above(self, live: Live, path: str) -> None:
        """Have the folders above a path on this disk: those that are to everybody, and were not here yet."""
        parts = path.split("/")[:-1]
        for length in range(1, len(parts) + 1):
            above = "/".join(parts[:length])
            if (await self._folders.look(live.id, above)).is_here:
                continue
            await asyncio.to_thread(self._disk(live).make_folder, parts[:length])
            self._folders.touched(live.id, above)

    def _disk(self, live: Live) -> ShareDisk:
        return ShareDisk(live.path, self._versions, unfinished=self._unfinished)


class Everything:
    """See `Tree`: computers and live folders beside each other."""

    def __init__(self, computers: Tree, live: LiveFolders) -> None:
        self._computers = computers
        self._live = live

    async def listing(self, place: str) -> tuple[Seen, ...]:
        if place.strip("/"):
            return await self._part(place).listing(place)
        folders = [Seen(name, "folder") for name in self._live.named()]
        return tuple(sorted([*await self._computers.listing(""), *folders], key=lambda one: one.name))

    async def look(self, place: str) -> Seen:
        return await self._part(place).look(place)

    async def open(self, place: str) -> OpenFile:
        return await self._part(place).open(place)

    async def may_write(self, place: str) -> bool:
        return await self._part(place).may_write(place)

    async def free_bytes(self, place: str) -> int | None:
        return await self._part(place).free_bytes(place)

    async def incoming(self, place: str) -> Incoming:
        return await self._part(place).incoming(place)

    async def make_folder(self, place: str) -> None:
        await self._part(place).make_folder(place)

    async def remove(self, place: str) -> None:
        await self._part(place).remove(place)

    async def move(self, place: str, to: str) -> None:
        source, target = self._part(place), self._part(to)
        if source is not target:
            raise UsageError(tr("between a live folder and a share it is copied, not moved"))
        await source.move(place, to)

    async def copy(self, place: str, to: str) -> None:
        source, target = self._part(place), self._part(to)
        if source is target:
            await source.copy(place, to)
        else:
            await copy_over(source, place, target, to)

    def _part(self, place: str) -> Tree:
        """The tree in which a place is."""
        return self._live if place.strip("/").partition("/")[0] in self._live.named() else self._computers


def _seen(entry: LiveEntry) -> Seen:
    return Seen(entry.name, entry.kind, entry.size, entry.mtime_ns, content_id=entry.content_id)
