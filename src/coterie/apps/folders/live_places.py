"""All live folders of a computer as trees, for other apps: see `api.FoldersApi`."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from coterie.apps.context import Context
from coterie.apps.folders.api import Live, LiveEntry
from coterie.apps.folders.away import Away, Wanted
from coterie.apps.folders.engine import Engine
from coterie.apps.folders.live_tree import LiveTree
from coterie.errors import AccessDenied, NotFound, TransportError, UsageError
from coterie.texts import tr
from coterie.transfer.open_file import OpenFile
from coterie.transfer.read_cache import ReadCache

THREADS = 2  # that look at disks for others

T = TypeVar("T")


class LivePlaces:
    """See `api.FoldersApi`. Belongs to the event loop."""

    def __init__(
        self,
        context: Context,
        engines: Mapping[bytes, Engine],
        folders: Callable[[], Iterable[Live]],
        cache: ReadCache,
    ) -> None:
        """`engines`: of the folders that are not paused, by id."""
        self._engines = engines
        self._folders = folders
        self._away = Away(context, cache)
        self._executor = ThreadPoolExecutor(THREADS, "coterie-live")

    def close(self) -> None:
        """Look at nothing any more."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def live(self) -> tuple[Live, ...]:
        """See `api.FoldersApi`, as all below."""
        return tuple(sorted(self._folders(), key=lambda one: one.name.casefold()))

    async def listing(self, folder: str, path: str) -> tuple[LiveEntry, ...]:
        tree = LiveTree(self._engine(folder))
        return await self._in_thread(lambda: tree.listing(path.strip("/")))

    async def look(self, folder: str, path: str) -> LiveEntry:
        tree = LiveTree(self._engine(folder))
        return await self._in_thread(lambda: tree.look(path.strip("/")))

    async def open(self, folder: str, path: str) -> OpenFile:
        engine = self._engine(folder)
        tree = LiveTree(engine)
        found = await self._in_thread(lambda: tree.open(path.strip("/"), self._executor))
        if isinstance(found, Wanted):
            return await self._away.open(engine.id, found, engine.peers)
        return found

    def writing(self, folder: str, path: str) -> None:
        engine = self._engine(folder)
        engine.overwriting.begin(LiveTree(engine).path_of(path.strip("/")))

    def touched(self, folder: str, path: str) -> None:
        self._engine(folder).look_at(path.strip("/"))

    async def remove(self, folder: str, path: str) -> None:
        engine = self._writable(folder)
        tree, path = LiveTree(engine), path.strip("/")
        writes = await self._in_thread(lambda: tree.removal(path))
        if writes:
            await engine.rewrite(writes)
        engine.look_at(path)

    async def move(self, folder: str, path: str, to: str) -> None:
        engine = self._writable(folder)
        tree, path, to = LiveTree(engine), path.strip("/"), to.strip("/")
        away = await self._in_thread(lambda: tree.away(path))
        if away and (lost := await engine.nobody_has(away)):
            raise TransportError(
                tr("nobody who is there now has {name}: rename it when others are", name=lost[0][0])
            )
        writes = await self._in_thread(lambda: tree.moving(path, to))
        if writes:
            await engine.rewrite(writes)
        engine.look_at(path)
        engine.look_at(to)

    def _engine(self, folder: str) -> Engine:
        engine = next((one for one in self._engines.values() if one.id.hex() == folder), None)
        if engine is not None:
            return engine
        known = next((one for one in self._folders() if one.id == folder), None)
        if known is None:
            raise NotFound(tr("no live folder '{text}' here: `coterie folders` lists them", text=folder))
        raise UsageError(tr("{name} is paused: coterie folder resume {name}", name=known.name))

    def _writable(self, folder: str) -> Engine:
        engine = self._engine(folder)
        if not engine.can_write:
            raise AccessDenied(tr("{name} is only to be read on this computer", name=engine.name))
        return engine

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)
