"""The files service of a node: what is shared, what is being fetched."""

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from coterie.apps.command import Progress
from coterie.apps.context import Context
from coterie.apps.files.gifts import Gifts
from coterie.apps.files.own_places import OwnPlaces
from coterie.apps.files.places import KIND, Places
from coterie.apps.files.places_messages import PLACES
from coterie.apps.files.places_protocol import Visits, list_place, locate_place
from coterie.apps.files.reading import Reading
from coterie.apps.files.records import ShareRecord, SpotRecord
from coterie.apps.files.refresh import Refreshed, refresh
from coterie.apps.files.registry import Registry
from coterie.apps.files.results import place_line
from coterie.apps.files.shares import Shares
from coterie.apps.files.source import (
    MagnetSource,
    Place,
    Source,
    TorrentFileSource,
    look,
    read_place,
    spelled_path,
)
from coterie.apps.files.trash import Trash
from coterie.apps.overlay.api import OverlayService
from coterie.errors import AccessDenied, NotFound, PeerError, TransportError, UsageError
from coterie.identity import PeerId
from coterie.quantity import read_size
from coterie.services.directory.results import PlaceLine
from coterie.texts import tr
from coterie.transfer.downloads import Downloads
from coterie.transfer.giver import Giver
from coterie.transfer.got import Got, GotBook
from coterie.transfer.limits import Limits
from coterie.transfer.messages import PROTOCOL
from coterie.transfer.proof import Shown
from coterie.transfer.read_cache import ReadCache
from coterie.transfer.records import TransferRecord
from coterie.transfer.results import Received, TransferChange, TransferLine
from coterie.transfer.running import Running
from coterie.transfer.serve import Server
from coterie.transfer.states import TransferState
from coterie.transfer.table import Table
from coterie.transfer.target import whole_target
from coterie.transfer.transfer import OnExisting, Transfer, on_existing
from coterie.transfer.wanted import Wanted, WantedRecord, patiently
from coterie.wire import Ticket

log = logging.getLogger(__name__)

SERVING_THREADS = 4  # disk reads of sessions; each holds at most a few pieces of 256 KiB
Report = Callable[[Progress], None]


class Settings(msgspec.Struct):
    """`reading_cache`: how much is kept of what was read of others' files without getting it.

    `thumbnails`: pictures and PDF up to this size are fetched for a small picture in the page; 0: none.
    """

    reading_cache: str = "2GB"
    thumbnails: str = "20MB"


class FilesService:
    """Made by the node. All methods belong to its event loop; the heavy parts run in threads."""

    def __init__(self, context: Context, overlay: OverlayService) -> None:
        self._context = context
        shares = context.data.records("shares", ShareRecord, "share")
        transfers = context.data.records("transfers", TransferRecord, "transfer")
        wanted = context.data.records("wanted", WantedRecord, "transfer")
        self._transfers, self._executor = transfers, ThreadPoolExecutor(SERVING_THREADS, "coterie-serve")
        self.places = Places(
            context.blobs.store,
            context.access,
            shares=lambda: shares,
            spots=context.data.records("spots", SpotRecord, "spot"),
            clock=time.time,
        )
        self.trash = Trash(context.blobs.versions)
        settings = context.data.settings(Settings)
        cache = ReadCache(context.data.folder / "reading", read_size(settings.reading_cache))
        self.thumbnail_bytes_max = read_size(settings.thumbnails)
        own = OwnPlaces(lambda: shares, self._executor)
        self.reading = Reading(context, own, self._executor, cache)
        self.registry = Registry()
        self.table = Table(context.people)
        self._book = GotBook(context.data.folder / "got.db")
        self.limits = Limits(context.data.folder / "limits.json", context.blobs.rates)
        self.server = Server(context.access, self._find_giver, self._executor, self.limits.up)
        self.gifts = Gifts(context, self.begin, transfers, self._downloading, is_moving=self.server.is_moving)
        self._shares = Shares(context, shares, self.places, self.registry, end=self.server.end)
        self._downloads = Downloads(
            context,
            transfers,
            self.table,
            server=self.server,
            limits=self.limits,
            book=self._book,
            meeting=overlay,
            locate=partial(locate_place, context),
        )
        self._wanted = Wanted(context, wanted, self.table, self._begin_wanted)
        self.share, self.unshare, self.shares = self._shares.share, self._shares.unshare, self._shares.lines
        self.update, self.changes = self._shares.update, self._shares.changes
        self.ticket, self.ticket_of = self._shares.ticket, self._shares.ticket_of
        self.shared, self.find_share = self._shares.all, self._shares.find
        self.share_received = self._shares.share_received
        self.touched, self.settle, self.spot = self._shares.touched, self._shares.settle, self.places.choose
        self.transfer_detail, self.limit_transfer = self.table.detail, self.table.limit
        self.set_priority, self.partials = self.table.set_priority, self.table.partials
        self.pause, self.resume, self.cancel = self.table.pause, self.table.resume, self.table.cancel

    async def start(self) -> None:
        """Serve, and go on with what was under way when the node last stopped."""
        self._context.access.name_resources(KIND, self._shares.resolve_name, self._shares.say_name)
        self._context.net.offer(KIND, self.places.offered, self.list_inside)
        await self._downloads.pin()
        await self.gifts.start()
        await self._shares.start()
        # Everybody may ask, for tickets work for anybody: the right is judged by share.
        self._context.net.register(PROTOCOL, self.server.handle, strangers=True)
        self._context.net.register(
            PLACES, Visits(self.places, self._executor, self._shares.settle).handle, strangers=True
        )
        self._context.jobs.keep(self.trash.expire, "expiry of the trash")
        self._context.jobs.keep(self.limits.follow_the_clock, "rate limits by time of day")
        is_online = bool(self._context.me.addresses())
        self._downloads.start(is_online=is_online)
        if is_online:
            self._wanted.start()

    async def close(self) -> None:
        """Stop; running transfers go on at the next start."""
        await self._downloads.close()
        self.server.close()
        self._book.close()
        await asyncio.to_thread(self._executor.shutdown, True, cancel_futures=True)

    def status(self) -> dict[str, int]:
        """Counts for `coterie status`."""
        return {
            "shares": self._shares.count,
            "transfers running": self.table.running,
            "bytes sent": self.server.sent_bytes,
        }

    async def list_inside(self, peer: PeerId, path: str) -> list[PlaceLine]:
        """What is in a place of `peer`; "": what it shares. Errors as `places_protocol.list_place`."""
        return [place_line(entry) for entry in await list_place(self._context, peer, path)]

    async def get_place(self, place: str, target: Path | str = ".", **options: Any) -> Received:
        """As `get`, for what stands at a place like "anna/photos/2024"."""
        return await self.get(read_place(place), target, **options)

    async def locate(self, place: str | Place) -> Ticket:
        """A ticket for a place like "anna/photos/2024", of use to this node only. Errors as `list_inside`."""
        at = read_place(place) if isinstance(place, str) else place
        if not at.path:
            raise UsageError(
                tr("'{at}' is nothing to get: say what of it, as `coterie ls {at}` shows it", at=at.name)
            )
        return await locate_place(self._context, self._context.people.find(at.name), at.path)

    async def look(self, source: Source | str, here: Path | None = Path()) -> Source:
        """What `source` names, written in the folder `here`. Errors as `source.look`."""
        return await look(source, here, self._context.people.is_called) if isinstance(source, str) else source

    async def get(
        self,
        source: Source | str,
        target: Path | str = ".",
        *,
        on_existing: OnExisting = "fail",
        progress: Report | None = None,
        only: Sequence[str] = (),
        share: bool = False,
        mirror: bool = False,
        wait: bool = False,
    ) -> Received:
        """Fetch what `source` names (see `look`); a target that is a folder gets it inside, under its own name.

        What was got to the same target before is brought up to date: what the user changed there is kept beside,
        and what is gone at the giver stays; `mirror` moves that to the trash. `wait`: for a giver that is not reached.

        Cancelling pauses: the same call later goes on from there. A magnet link or a torrent file is fetched by
        BitTorrent, unless the link has the ticket of a share that can be reached: `only` are patterns of
        the files to fetch, `share` shares and seeds them afterwards.

        Raises:
            UsageError: the ticket is wrong (it says how), or the target exists (code "exists").
            NotFound: the other side does not share this, or the ticket's secret is wrong.
            TransportError: nobody answers; says what was tried.
            StorageError: the disk is full or not writable; what arrived is kept for the next call.
        """

        wanted = await self.look(source)

        def begin() -> Awaitable[Running]:
            return self.begin_any(
                wanted, target, on_existing=on_existing, only=only, share=share, mirror=mirror
            )

        def say(note: str) -> None:
            if progress is not None:
                progress(Progress(phase="waiting", done=0, note=note))

        transfer = await (patiently(begin, say) if wait else begin())
        if progress is not None:
            transfer.listen(progress)
        return await self._result(transfer)

    async def begin(
        self,
        ticket: Ticket | str,
        target: Path | str = ".",
        *,
        on_existing: OnExisting = "fail",
        only: Sequence[str] = (),
        mirror: bool = False,
        place: str = "",
        transfer_id: str = "",
    ) -> Transfer:
        """As `Downloads.begin`, for a ticket that may be text."""
        return await self._downloads.begin(
            ticket if isinstance(ticket, Ticket) else Ticket.parse(ticket),
            target,
            on_existing=on_existing,
            only=only,
            mirror=mirror,
            place=place,
            transfer_id=transfer_id,
        )

    async def get_detached(
        self,
        source: Source | str,
        target: Path | str = ".",
        *,
        on_existing: OnExisting = "fail",
        only: Sequence[str] = (),
        share: bool = False,
        mirror: bool = False,
        wait: bool = True,
    ) -> TransferChange:
        """As `get`, but leave it to the node once the other side has said yes, or was not reached and is waited for."""
        wanted = await self.look(source)
        try:
            begun = await self.begin_any(
                wanted, target, on_existing=on_existing, only=only, share=share, mirror=mirror
            )
        except TransportError as error:
            if not wait or isinstance(wanted, MagnetSource | TorrentFileSource):
                raise
            options = {"on_existing": on_existing, "only": list(only), "mirror": mirror}
            new_id, path = self.table.new_id(self._transfers.new_id), whole_target(target)
            return self._wanted.add(
                WantedRecord(new_id, time.time(), str(wanted), path, options, note=str(error))
            )
        return begun.change("started")

    async def _begin_wanted(self, wanted: WantedRecord) -> None:
        source = await self.look(wanted.source.strip("/"), None)
        begun = await self.begin_any(source, wanted.target, transfer_id=wanted.id, **wanted.options)
        if (wanted.down, wanted.up, wanted.priority) != (0.0, 0.0, "normal"):
            await self.table.limit(begun.id, down=int(wanted.down), up=int(wanted.up))
            await self.table.set_priority(begun.id, wanted.priority)

    async def begin_any(
        self,
        source: Source | str,
        target: Path | str,
        *,
        on_existing: OnExisting = "fail",
        only: Sequence[str] = (),
        share: bool = False,
        mirror: bool = False,
        transfer_id: str = "",
    ) -> Running:
        """As `begin`, also for places, magnet links and torrent files; a link with a ticket prefers the ticket."""
        source = await self.look(source)
        if isinstance(source, Ticket | Place):
            if share:
                raise UsageError(tr("--share is for magnet links and torrent files"))
            place = source.path if isinstance(source, Place) else ""
            source = await self.locate(source) if isinstance(source, Place) else source
            return await self.begin(
                source,
                target,
                on_existing=on_existing,
                only=only,
                mirror=mirror,
                place=place,
                transfer_id=transfer_id,
            )
        ticket = source.ticket if isinstance(source, MagnetSource) and not (only or share) else ""
        if ticket:
            try:
                return await self.begin(ticket, target, on_existing=on_existing)
            except (AccessDenied, TransportError, PeerError, NotFound) as error:
                if not self.registry.fetches(source):
                    raise
                log.info("the share that the link names was not reached (%s): by BitTorrent", error)
        fetcher = self.registry.fetcher(source)
        return await fetcher.begin(source, target, on_existing=on_existing, only=only, share=share)

    def _downloading(self, transfer: str) -> Transfer | None:
        return self._downloads.under_way(transfer)

    @property
    def is_giving(self) -> bool:
        """Whether somebody has something from here now."""
        return self.server.is_busy

    def under_way(self, transfer: str) -> Running | None:
        """The transfer of any kind with this id, where it runs."""
        return self.table.under_way(transfer)

    async def finished(self, source: Source | str, target: Path | str) -> TransferLine | None:
        """See `FilesApi.finished`."""
        if isinstance(source, MagnetSource | TorrentFileSource):
            is_fetched = self.registry.fetches(source)
            return await self.registry.fetcher(source).finished(source, target) if is_fetched else None
        done = [line for line in self.table.lines() if line.id == source and line.state == TransferState.DONE]
        return done[0] if done and os.path.lexists(done[0].path) else None

    async def refresh(
        self, place: str = "", *, mirror: bool = False, progress: Report | None = None
    ) -> list[Refreshed]:
        """Bring up to date what was got, or what of it `place` names. Errors as `refresh.refresh`."""

        async def fetch(got: Got) -> Received:
            transfer = await self.begin(
                await self._present(got), got.target, only=got.only, mirror=mirror, place=got.place
            )
            if progress is not None:
                transfer.listen(progress)
            return await self._result(transfer)

        return await refresh(self._book, place, fetch)

    async def _present(self, got: Got) -> Ticket:
        """A ticket for the present version of something that was got."""
        ticket = Ticket.parse(got.ticket)
        return await locate_place(self._context, ticket.peer, got.place) if got.place else ticket

    @staticmethod
    async def _result(transfer: Running) -> Received:
        """What was received in the end; cancelling pauses."""
        try:
            return await asyncio.shield(transfer.result)
        except asyncio.CancelledError:
            await transfer.stop(note="interrupted")
            raise

    on_existing, spelled_path = staticmethod(on_existing), staticmethod(spelled_path)

    async def transfers(self) -> list[TransferLine]:
        """Every transfer that is not forgotten, oldest first."""
        return self.table.lines()

    def _find_giver(self, peer: PeerId, root: bytes, proof: bytes) -> Giver | None:
        """Shares first: they have all of it."""
        shown = Shown(peer, self._context.me.peer_id, root, proof)
        offer = self.places.offer(shown), self.gifts.ask(shown)
        return self._downloads.giver(shown, rather=offer[0] or offer[1])
