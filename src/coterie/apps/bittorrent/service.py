"""The BitTorrent service of a node: torrents that are fetched, shares that are seeded."""

from pathlib import Path

from coterie.apps.bittorrent.downloads import Downloads
from coterie.apps.bittorrent.engine import Engine
from coterie.apps.bittorrent.old_place import take_over
from coterie.apps.bittorrent.records import SeedRecord, TorrentRecord
from coterie.apps.bittorrent.results import MagnetLink
from coterie.apps.bittorrent.seeds import Seeds, no_torrent
from coterie.apps.context import Context
from coterie.apps.files.api import FilesApi, MagnetSource, TorrentFileSource


class BitTorrentService:
    """Registers with `files` what it fetches and gives. All methods belong to the event loop."""

    def __init__(self, context: Context, files: FilesApi) -> None:
        take_over(context.data.folder, context.data.folder.parent / "files")
        self._files = files
        self._context = context
        self._engine = Engine(context, self._files.limits, lambda: self._files.is_giving)
        seeds = context.data.records("seeds", SeedRecord, "transfer")
        downloads = context.data.records("downloads", TorrentRecord, "transfer")
        self._seeds = Seeds(self._engine, seeds, self._files, context.blobs.store, context.jobs.start)
        self._downloads = Downloads(context, self._engine, downloads, self._files, self._seeds)
        self._files.table.register(self._downloads)
        self._files.table.register(self._seeds)
        self._files.registry.fetch_by(MagnetSource, self._downloads)
        self._files.registry.fetch_by(TorrentFileSource, self._downloads)
        self._files.registry.seed_by(self._seeds)

    async def start(self) -> None:
        """Go on with what was under way when the node last stopped."""
        if self._context.net.reach is not None:
            self._downloads.start()
            self._seeds.start()

    async def close(self) -> None:
        """Stop; what is under way goes on at the next start."""
        for kind in (self._downloads, self._seeds):
            self._files.table.withdraw(kind)
            self._files.registry.withdraw(kind)
        self._seeds.close()
        await self._downloads.close()
        await self._engine.close()

    async def magnet(self, share: str, here: Path = Path("/")) -> MagnetLink:
        """The magnet link of the share with this id, name or path, and where its torrent file is.

        Raises:
            NotFound: there is no such share, or it has no torrent.
        """
        record = self._files.find_share(share, here)
        link = await self._seeds.link(record, await self._files.ticket_of(record))
        if not link.magnet:
            raise no_torrent(record)
        return MagnetLink(record.id, record.name, link.magnet, link.torrent)
