"""The playing service of a node: URLs of this computer for what is arriving."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from coterie.apps.context import Context
from coterie.apps.files.api import FilesApi, OnExisting, Source
from coterie.apps.play.choice import choose, keep_first
from coterie.apps.play.here import Here
from coterie.apps.play.results import PlayedLine, Playing
from coterie.transfer.running import Running

if TYPE_CHECKING:
    from coterie.apps.play.media import MediaServer

READING_THREADS = 4  # disk reads; each holds a chunk, or a piece of a torrent


class PlayService:
    """Made by the node. All methods belong to its event loop."""

    def __init__(self, context: Context, files: FilesApi) -> None:
        self._context = context
        self._files = files
        self._executor = ThreadPoolExecutor(READING_THREADS, "coterie-play")
        self._media: MediaServer | None = None

    async def start(self) -> None:
        """Nothing runs before something is played."""

    async def close(self) -> None:
        """End what is being read."""
        if self._media is not None:
            await self._media.close()
        await asyncio.to_thread(self._executor.shutdown, True, cancel_futures=True)

    async def play(
        self,
        source: Source | str,
        target: Path | str = ".",
        *,
        file: str = "",
        on_existing: OnExisting = "fail",
        here: Path | None = Path(),
    ) -> Playing:
        """Fetch what `source` names, or take the transfer of this id; give URLs that can be read meanwhile.

        What came by BitTorrent to the same target before is played as it lies there, unless `on_existing` is said.
        Which files: those that `file` names (a pattern), else all media, else the only one. The URLs are good
        until this node stops. Errors as `files.get`.

        Raises:
            NotFound: nothing in it can be played; it goes on arriving.
        """
        transfer = await self._transfer(source, target, on_existing, here)
        files = await choose(transfer, file, self._executor)
        if self._media is None:
            from coterie.apps.play.media import MediaServer  # a web server: not for those who never play

            self._media = MediaServer()
            self._media.start()
        self._context.jobs.start(keep_first(transfer, files), f"what is played of {transfer.id}")
        lines = [PlayedLine(f.path, f.size, self._media.add(f)) for f in files]
        return Playing(transfer.id, transfer.target, lines)

    async def _transfer(
        self, source: Source | str, target: Path | str, on_existing: OnExisting, here: Path | None
    ) -> Running:
        if isinstance(source, str):
            if (running := self._files.under_way(source)) is not None:
                return running
            if (line := await self._files.finished(source, target)) is not None:
                return Here(line)
            source = await self._files.look(source, here)
        if on_existing == "fail" and (line := await self._files.finished(source, target)) is not None:
            return Here(line)
        return await self._files.begin_any(source, target, on_existing=on_existing)
