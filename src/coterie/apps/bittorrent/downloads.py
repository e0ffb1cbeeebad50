"""All downloads of torrents, from magnet links and torrent files: a kind of transfers, and a fetcher for `files`."""

import asyncio
import contextlib
import os
import time
from collections.abc import Sequence
from pathlib import Path

from coterie.apps.bittorrent.download import TorrentDownload, root_of
from coterie.apps.bittorrent.engine import Engine
from coterie.apps.bittorrent.peers import askers_of, sources_of
from coterie.apps.bittorrent.records import TorrentRecord
from coterie.apps.bittorrent.seeds import Seeds
from coterie.apps.context import Context
from coterie.apps.files.api import FilesApi, MagnetSource, TorrentFileSource
from coterie.content.bittorrent.layout import METAINFO_BYTES_MAX, Layout
from coterie.content.bittorrent.plain import plain_metainfo
from coterie.content.bittorrent.read import Source, named_in, read_torrent
from coterie.content.bittorrent.session import TorrentEvent
from coterie.content.swarm.piece_map import piece_map
from coterie.content.writer import Partial, partials, staging_path
from coterie.errors import NotFound, StorageError, UsageError
from coterie.private_file import write_private
from coterie.texts import tr
from coterie.transfer.describe import plain_detail
from coterie.transfer.records import Kept
from coterie.transfer.results import TransferDetail, TransferLine
from coterie.transfer.states import TransferState, bytes_done, state_of
from coterie.transfer.target import whole_target
from coterie.transfer.transfer import OnExisting

RUNNING_MAX = 50  # guess: downloads at once; beyond it they only take from each other
DONE_MAX = 100  # finished downloads that stay in the list, the newest
REACH = {
    "local": "At the reach level 'local' only computers of the local network are found",
    "circle": "At the reach level 'circle' BitTorrent finds computers of the local network only; "
    "`coterie config set reach internet`, then `coterie down` and `coterie up`, lets it use trackers and the DHT",
    "internet": "Trackers, the DHT and the local network were asked",
}

PREFIX = "get "  # of what the session knows them by


class Downloads:
    """All of them (`table.Kind`, `files.api.Fetcher`). Belongs to the event loop; the heavy parts run in threads."""

    begins_as = TransferState.RUNNING

    def __init__(
        self,
        context: Context,
        engine: Engine,
        records: Kept[TorrentRecord],
        files: FilesApi,
        seeds: Seeds,
    ) -> None:
        """`seeds` are what of them is seeded when all of it is here."""
        self._context = context
        self._engine = engine
        self._records = records
        self._files = files
        self._seeds = seeds
        self._active: dict[str, TorrentDownload] = {}
        engine.own(PREFIX, self._take)

    def start(self) -> None:
        """Go on with what was under way when the node last stopped."""
        for record in self._records:
            if record.state in (TransferState.RUNNING, TransferState.WAITING):
                self._launch(record)

    async def close(self) -> None:
        """Stop; what is under way goes on at the next start."""
        await asyncio.gather(*(t.stop(keep_state=True) for t in list(self._active.values())))

    async def begin(
        self,
        source: MagnetSource | TorrentFileSource,
        target: Path | str,
        *,
        on_existing: OnExisting = "fail",
        only: Sequence[str] = (),
        share: bool = False,
    ) -> TorrentDownload:
        """Start a download in the background, or join or resume the same one.

        Raises:
            UsageError: the link or file is wrong, or the node is offline.
            NotFound: there is no such file.
        """
        if self._context.net.reach is None:
            raise UsageError(tr("this node is offline"))
        metainfo, roots, peers = await _named_by(source)
        link = source.link if isinstance(source, MagnetSource) else ""
        self._seeds.refuse_own(roots)
        wanted_at = whole_target(target)
        record = self._known(roots, link, wanted_at)
        if record is not None and record.id in self._active:
            await self._active[record.id].meet(peers)
            return self._active[record.id]
        for other in self._active.values():
            if other.record.root in roots:
                where = other.record.target or other.record.wanted_at
                raise UsageError(
                    tr("transfer {id} is fetching this torrent to {where}", id=other.record.id, where=where)
                )
        if len(self._active) >= RUNNING_MAX:
            raise UsageError(
                tr(
                    "{running_max} torrents are being fetched already: wait for one, or pause it",
                    running_max=RUNNING_MAX,
                )
            )
        if record is None:
            record = TorrentRecord(
                self._files.table.new_id(self._records.new_id), link, wanted_at, time.time()
            )
        record.on_existing, record.only, record.share = on_existing, list(only), share
        if metainfo:
            record.root = roots[0]
            await asyncio.to_thread(write_private, self._engine.folder / f"{record.id}.torrent", metainfo)
        self._records.save(record)
        return self._launch(record)

    async def finished(
        self, source: MagnetSource | TorrentFileSource, target: Path | str
    ) -> TransferLine | None:
        """See `registry.Fetcher`; what is seeded from here counts wherever it lies. Errors as `begin`."""
        _, roots, _ = await _named_by(source)
        wanted_at = whole_target(target)
        link = source.link if isinstance(source, MagnetSource) else ""
        for record in reversed(list(self._records)):
            is_of_it = self._is_of(record, roots, link) and record.wanted_at == wanted_at
            if is_of_it and record.state == TransferState.DONE and os.path.lexists(record.target):
                return self.line(record.id)
        seed = self._seeds.of(roots)
        return self._seeds.line(seed.id) if seed is not None and os.path.lexists(seed.path) else None

    # -- as a kind of the table --

    @property
    def running(self) -> int:
        """See `table.Kind`, as all of the following."""
        return len(self._active)

    def entries(self) -> Kept[TorrentRecord]:
        return self._records

    def save(self, transfer: str) -> None:
        self._records.save(self._records.get(transfer))

    def under_way(self, transfer: str) -> TorrentDownload | None:
        return self._active.get(transfer)

    def line(self, transfer: str) -> TransferLine:
        record = self._records.get(transfer)
        active = self._active.get(transfer)
        return TransferLine(
            id=record.id,
            state=state_of(record),
            done=bytes_done(record),
            size=record.size,
            path=record.target or record.wanted_at,
            peer="BitTorrent",
            rate=round(active.rate) if active else 0,
            eta_s=active.eta_s if active else None,
            ways={"BitTorrent": active.peers} if active else {},
            note=record.note,
        )

    async def detail(self, transfer: str) -> TransferDetail:
        seen, health, here = await self._engine.seen(PREFIX + transfer)
        line, active = self.line(transfer), self._active.get(transfer)
        return plain_detail(
            self._records.get(transfer),
            line,
            health=health,
            sources=sources_of(seen),
            askers=askers_of(seen),
            pieces=piece_map([here]),
            rates=active.rates.per_second() if active else (),
        )

    async def halt(self, transfer: str, note: str) -> None:
        if (active := self._active.get(transfer)) is not None:
            await active.stop(note=note)
            self._done_with(active)

    def go_on(self, transfer: str) -> None:
        if transfer not in self._active:
            self._launch(self._records.get(transfer))

    async def drop(self, transfer: str) -> str:
        record = self._records.get(transfer)
        is_done = record.state == TransferState.DONE
        if not is_done:
            await asyncio.to_thread(self._make(record).discard)
        self._records.remove(transfer)
        return "forgotten" if is_done else "cancelled"

    def adjust(self, transfer: str) -> None:
        if (active := self._active.get(transfer)) is not None:
            active.adjust()

    def partials(self) -> list[Partial]:
        """What unfinished downloads have on disk so far."""
        found: list[Partial] = []
        for r in self._records:
            if r.state != TransferState.DONE and r.target and r.root:
                target = Path(r.target)
                path = staging_path(target.parent, target.name, r.staging or bytes.fromhex(r.root))
                with contextlib.suppress(OSError):  # a disk that is not there now
                    found += [one for one in partials(target.parent) if one.path == path]
        return found

    # -- inside --

    def _take(self, event: TorrentEvent) -> None:
        transfer = self._active.get(event.key.removeprefix(PREFIX))
        if transfer is not None:
            transfer.tell(event)

    async def _received(self, record: TorrentRecord, path: Path, source: Source, layout: Layout) -> None:
        """Share and seed what came, if that was asked for; a part of a torrent is shared, not seeded."""
        if not record.share:
            return
        share = await self._files.share_received(path)
        if len(layout.wanted) == len(layout.places) and not layout.left_out:
            renamed = {
                file.index: os.path.join(*layout.places[file.index])
                for file in source.files
                if file.index in layout.places and layout.places[file.index] != file.path
            }
            await self._seeds.keep(share, source, trackers=source.trackers, renamed=renamed)

    def _known(self, roots: Sequence[str], link: str, wanted_at: str) -> TorrentRecord | None:
        """The record of an unfinished download of the same torrent to the same place."""
        for record in self._records:
            same = self._is_of(record, roots, link)
            if same and record.wanted_at == wanted_at and record.state != TransferState.DONE:
                return record
        return None

    @staticmethod
    def _is_of(record: TorrentRecord, roots: Sequence[str], link: str) -> bool:
        """Whether a download is of the torrent with one of these hashes, or of this link."""
        return record.root in roots or bool(link and record.source == link)

    def _make(self, record: TorrentRecord) -> TorrentDownload:
        network = self._context.net.reach

        async def received(path: Path, source: Source, layout: Layout) -> None:
            await self._received(record, path, source, layout)

        return TorrentDownload(
            record,
            self._engine,
            self._records.save,
            received,
            versions=self._context.blobs.versions,
            down=self._files.limits.down_shares,
            reach=REACH[network.level if network is not None else "local"],
        )

    def _launch(self, record: TorrentRecord) -> TorrentDownload:
        transfer = self._make(record)
        record.state, record.note = TransferState.RUNNING, ""
        done = [r for r in self._records if r.state == TransferState.DONE]
        for old in done[: max(0, len(done) - DONE_MAX)]:
            self._records.remove(old.id)
        self._active[record.id] = transfer
        transfer.result.add_done_callback(lambda _: self._done_with(transfer))
        self._context.jobs.start(transfer.run(), f"torrent {record.id}")
        return transfer

    def _done_with(self, transfer: TorrentDownload) -> None:
        if self._active.get(transfer.record.id) is transfer:
            del self._active[transfer.record.id]


async def _named_by(source: MagnetSource | TorrentFileSource) -> tuple[bytes, list[str], list[str]]:
    """The torrent file's bytes (of a link none), the hashes that name the torrent, and computers that a link names."""
    if isinstance(source, MagnetSource):
        roots, peers = await asyncio.to_thread(named_in, source.link)
        return b"", list(roots), list(peers)
    metainfo = await asyncio.to_thread(_read_file, source.path)
    return metainfo, [root_of(await asyncio.to_thread(read_torrent, metainfo))], []


def _read_file(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return plain_metainfo(file.read(METAINFO_BYTES_MAX + 1), METAINFO_BYTES_MAX + 1)
    except FileNotFoundError:
        raise NotFound(tr("there is no file {path}", path=path)) from None
    except OSError as error:
        raise StorageError(
            tr("cannot read {path}: {strerror}", path=path, strerror=error.strerror)
        ) from error
