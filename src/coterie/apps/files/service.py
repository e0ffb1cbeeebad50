"""The files service of a node: what is shared, what is being fetched."""

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from coterie.access.names import TICKET
from coterie.access.policy import is_for_many
from coterie.access.resource import Verb
from coterie.apps.app import Context
from coterie.apps.command import Progress
from coterie.apps.files import playable as played
from coterie.apps.files.gifts import Gifts
from coterie.apps.files.places import KIND, Places
from coterie.apps.files.places_messages import PLACES
from coterie.apps.files.places_protocol import Visits, list_place, locate_place
from coterie.apps.files.records import ShareRecord, SpotRecord
from coterie.apps.files.refresh import Refreshed, refresh
from coterie.apps.files.results import PlayedLine, Playing, place_line
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
from coterie.apps.files.torrent_transfer import TorrentTransfer
from coterie.apps.files.torrents import ticket_in
from coterie.apps.files.trash import Trash
from coterie.content.writer import Partial
from coterie.errors import AccessDenied, CloseCode, NotFound, PeerError, TransportError, UsageError
from coterie.identity import PeerId
from coterie.services.data.records import Records
from coterie.services.directory.results import PlaceLine
from coterie.transfer.describe import transfer_change, transfer_detail, transfer_line
from coterie.transfer.giver import DOWNLOAD, DOWNLOAD_TICKET, Giver, resource_of_download
from coterie.transfer.got import Got, GotBook
from coterie.transfer.limits import Limits
from coterie.transfer.messages import PROTOCOL, Opened
from coterie.transfer.proof import Shown
from coterie.transfer.records import TransferRecord
from coterie.transfer.results import AskerLine, Received, TransferChange, TransferDetail, TransferLine
from coterie.transfer.serve import Server
from coterie.transfer.sources import Session
from coterie.transfer.target import place_at, possible_places, whole_target
from coterie.transfer.transfer import (
    WEIGHTS,
    OnExisting,
    Transfer,
    TransferState,
    is_same,
    on_existing,
    suggested_name,
)
from coterie.transfer.unfinished import forget_unfinished, partials_of
from coterie.transfer.wanted import Wanted, WantedRecord, patiently
from coterie.wire import Ticket

if TYPE_CHECKING:
    from coterie.apps.files.media import MediaServer

log = logging.getLogger(__name__)

DONE_MAX = 100  # finished transfers that stay in the list, the newest
SERVING_THREADS = 4  # disk reads of sessions; each holds at most a few pieces of 256 KiB
Report = Callable[[Progress], None]


class FilesService:
    """Made by the node. All methods belong to its event loop; the heavy parts run in threads."""

    def __init__(self, context: Context) -> None:
        self._context = context
        shares: Records[ShareRecord] = context.data.records("shares", ShareRecord, "share")
        self._transfers: Records[TransferRecord] = context.data.records(
            "transfers", TransferRecord, "transfer"
        )
        self._active: dict[str, Transfer] = {}
        self._settling: set[asyncio.Future[None]] = set()
        self._media: MediaServer | None = None
        self._executor = ThreadPoolExecutor(SERVING_THREADS, "coterie-serve")
        self.places = Places(
            context.store,
            context.access,
            shares=lambda: shares,
            spots=context.data.records("spots", SpotRecord, "spot"),
            clock=time.time,
        )
        self.trash = Trash(context.versions)
        self._book = GotBook(context.home / "got.db")
        self.limits = Limits(context.home / "limits.json")
        self.server = Server(context.access, self._find_giver, self._executor, self.limits.up)
        self._finished: dict[str, Transfer] = {}  # that go on giving what they fetched
        self._wanted = Wanted(
            context, context.data.records("wanted", WantedRecord, "transfer"), self._begin_wanted
        )
        self.gifts = Gifts(context, shares, self.begin, self._transfers, self._active)
        self._shares = Shares(context, shares, self.places, end=self.server.end, given=self.gifts.roots)
        self._torrents = self._shares.torrents
        self.share, self.unshare, self.shares = self._shares.share, self._shares.unshare, self._shares.lines
        self.update, self.changes = self._shares.update, self._shares.changes
        self.ticket, self.magnet = self._shares.ticket, self._shares.magnet

    async def start(self) -> None:
        """Serve, and go on with what was under way when the node last stopped."""
        self._context.access.name_resources(KIND, self._shares.resolve_name, self._shares.say_name)
        self._context.offer(KIND, self.places.offered, self.list_inside)
        await self._shares.start()
        self._context.access.policy.permit(DOWNLOAD_TICKET, Verb.READ, DOWNLOAD)
        # Everybody may ask, for tickets work for anybody: the right is judged by share.
        self._context.register(PROTOCOL, self.server.handle, strangers=True)
        self._context.register(PLACES, Visits(self.places, self._executor).handle, strangers=True)
        self._context.keep(self.trash.expire, "expiry of the trash")
        self._context.keep(self.limits.follow_the_clock, "rate limits by time of day")
        for record in self._transfers:
            if record.up:
                self.server.limit(Ticket.parse(record.ticket).content_id, record.up)
        if self._context.addresses():
            for record in self._transfers:
                if record.state in (TransferState.RUNNING, TransferState.WAITING):
                    self._run(record)
            self._wanted.start()
        await self._torrents.start()

    async def close(self) -> None:
        """Stop; running transfers go on at the next start."""
        if self._media is not None:
            await self._media.close()
        running = [t.stop(keep_state=True) for t in list(self._active.values())]
        await asyncio.gather(self._torrents.close(), *running)
        await asyncio.gather(*self._settling)
        self.server.close()
        self._book.close()
        await asyncio.to_thread(self._executor.shutdown, True, cancel_futures=True)

    def status(self) -> dict[str, int]:
        """Counts for `coterie status`."""
        return {
            "shares": self._shares.count,
            "transfers running": len(self._active) + self._torrents.running,
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
                f"'{at.name}' is nothing to get: say what of it, as `coterie ls {at.name}` shows it"
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

        def begin() -> Awaitable[Transfer | TorrentTransfer]:
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
        """Start fetching in the background and return as soon as the other side has said yes.

        What is being fetched to that place already is joined. `only`: patterns of the files wanted of a folder.
        `place`: the path at the giver that the ticket was got for. `transfer_id`: that of a new transfer.
        """
        await asyncio.gather(
            *self._settling, return_exceptions=True
        )  # what was got just now may be got again
        parsed = ticket if isinstance(ticket, Ticket) else Ticket.parse(ticket)
        if parsed.peer == self._context.peer_id:
            raise UsageError("this ticket is from this very computer: what it names is here already")
        parsed, session = await Transfer.open(self._context, parsed)
        _, stream, opened = session
        try:
            path, got = self._path_for(whole_target(target), opened, parsed, place)
            if got is not None and on_existing == "fail":
                on_existing, only = "update", only or got.only
            running = next((t for t in self._active.values() if t.record.target == str(path)), None)
            if running is not None:
                if not running.is_of(parsed):
                    raise UsageError(f"transfer {running.record.id} is fetching something else to {path}")
                await stream.reset(CloseCode.CANCELLED)
                return running
            record = self._record_for(parsed, path, transfer_id)
            record.on_existing, record.only = on_existing, list(only)
            record.place, record.mirror = place, mirror
            record.name, record.files, record.size = path.name, opened.files, opened.size
            record.mtime_ns, record.executable = opened.mtime_ns, opened.executable
            record.of = opened.of if opened.of == TICKET or is_for_many(opened.of) else ""
            transfer = self._make(record)
            transfer.check_target()
            self._transfers.save(record)
        except BaseException:
            await stream.reset(CloseCode.CANCELLED)
            raise
        self._launch(transfer, session)
        return transfer

    def _path_for(self, target: str, opened: Opened, ticket: Ticket, place: str) -> tuple[Path, Got | None]:
        """The final path, and what of the same was got there before."""
        name = suggested_name(opened, ticket)
        for path in possible_places(target, name):
            got = self._book.at(path)
            if got is not None and got.is_of(ticket, place) and os.path.lexists(path):
                return path, got
        return place_at(target, name), None

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
            new_id, path = self._transfers.new_id(), whole_target(target)
            return self._wanted.add(
                WantedRecord(new_id, time.time(), str(wanted), path, options, note=str(error))
            )
        return (
            begun.change("started")
            if isinstance(begun, TorrentTransfer)
            else transfer_change(begun.record, "started")
        )

    async def _begin_wanted(self, wanted: WantedRecord) -> None:
        source = await self.look(wanted.source.strip("/"), None)
        await self.begin_any(source, wanted.target, transfer_id=wanted.id, **wanted.options)

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
    ) -> Transfer | TorrentTransfer:
        """As `begin`, also for places, magnet links and torrent files; a link with a ticket prefers the ticket."""
        source = await self.look(source)
        if isinstance(source, Ticket | Place):
            if share:
                raise UsageError("--share is for magnet links and torrent files")
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
        ticket = ticket_in(source.link) if isinstance(source, MagnetSource) and not only and not share else ""
        if ticket:
            try:
                return await self.begin(ticket, target, on_existing=on_existing)
            except (AccessDenied, TransportError, PeerError, NotFound) as error:
                log.info("the share that the link names was not reached (%s): by BitTorrent", error)
        return await self._torrents.begin(source, target, on_existing=on_existing, only=only, share=share)

    async def play(
        self,
        source: Source | str,
        target: Path | str = ".",
        *,
        file: str = "",
        on_existing: OnExisting = "fail",
        here: Path | None = Path(),
    ) -> Playing:
        """Fetch what `source` names, or take the running transfer of this id; give URLs that can be read meanwhile.

        Which files: those that `file` names (a pattern), else all media, else the only one. The URLs are good
        until this node stops.
        """
        transfer = self._active.get(source) if isinstance(source, str) else None
        if transfer is None:
            begun = await self.begin_any(await self.look(source, here), target, on_existing=on_existing)
            if isinstance(begun, TorrentTransfer):
                raise UsageError(
                    f"a torrent cannot be played while it arrives; transfer {begun.record.id} gets it"
                )
            transfer = begun
        files = await played.choose(transfer, file, self._executor)
        if self._media is None:
            from coterie.apps.files.media import MediaServer  # a web server: not for those who never play

            self._media = MediaServer()
            self._media.start()
        self._context.start(played.keep_first(transfer, files), f"what is played of {transfer.record.id}")
        lines = [PlayedLine(f.path, f.size, self._media.add(f)) for f in files]
        return Playing(transfer.record.id, transfer.record.target, lines)

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
    async def _result(transfer: Transfer | TorrentTransfer) -> Received:
        """What was received in the end; cancelling pauses."""
        try:
            return await asyncio.shield(transfer.result)
        except asyncio.CancelledError:
            await transfer.stop(note="interrupted")
            raise

    on_existing, spelled_path = staticmethod(on_existing), staticmethod(spelled_path)

    async def transfers(self) -> list[TransferLine]:
        """Every transfer that is not forgotten, oldest first."""
        lines = [
            (record.created, transfer_line(record, self._active.get(record.id))) for record in self._transfers
        ]
        lines += self._torrents.lines() + self._wanted.lines()
        ordered = [line for _, line in sorted(lines, key=lambda both: both[0])]
        names = self._context.people.by_short_id()
        return [replace(line, peer=names.get(line.peer, line.peer)) for line in ordered]

    async def transfer_detail(self, transfer: str) -> TransferDetail:
        """All about one transfer: from whom, to whom, how fast, how long."""
        record = self._transfers.get(transfer)
        root = Ticket.parse(record.ticket).content_id
        askers = [AskerLine(peer.short, size) for peer, size in self.server.askers(root)]
        detail, names = transfer_detail(record, self._active.get(transfer), askers), self._context.people
        return replace(
            detail,
            sources=[replace(source, peer=names.in_names(source.peer)) for source in detail.sources],
            askers=[replace(asker, peer=names.in_names(asker.peer)) for asker in detail.askers],
            dropped=[names.in_names(dropped) for dropped in detail.dropped],
        )

    async def limit_transfer(self, transfer: str, *, down: int | None, up: int | None) -> TransferDetail:
        """Set the limits of one transfer, bytes a second; 0: no limit."""
        record = self._transfers.get(transfer)
        record.down = record.down if down is None else max(0, down)
        record.up = record.up if up is None else max(0, up)
        self._transfers.save(record)
        if active := self._active.get(transfer):
            active.down.bytes_per_s = record.down
        self.server.limit(Ticket.parse(record.ticket).content_id, record.up)
        return await self.transfer_detail(transfer)

    async def set_priority(self, transfer: str, priority: str) -> TransferDetail:
        """Let a transfer come before others, or after them: "high", "normal" or "low"."""
        if priority not in WEIGHTS:
            raise UsageError(f"a priority is {', '.join(WEIGHTS)}, not '{priority}'")
        record = self._transfers.get(transfer)
        record.priority = priority
        self._transfers.save(record)
        if active := self._active.get(transfer):
            active.set_priority(priority)
        return await self.transfer_detail(transfer)

    async def pause(self, transfer: str) -> TransferChange:
        """Stop a transfer and keep what arrived."""
        if self._torrents.has(transfer):
            return await self._torrents.pause(transfer)
        if self._wanted.has(transfer):
            return self._wanted.pause(transfer)
        record = self._transfers.get(transfer)
        if transfer in self._active:
            await self._active[transfer].stop(note="paused")
        elif record.state in (TransferState.RUNNING, TransferState.WAITING):
            record.state = TransferState.PAUSED
            self._transfers.save(record)
        elif record.state == TransferState.DONE:
            raise UsageError(f"transfer {transfer} is done: {record.target}")
        return transfer_change(record, "paused")

    async def resume(self, transfer: str) -> TransferChange:
        """Go on with a paused or failed transfer."""
        if self._torrents.has(transfer):
            return await self._torrents.resume(transfer)
        if self._wanted.has(transfer):
            return self._wanted.resume(transfer)
        record = self._transfers.get(transfer)
        if record.state == TransferState.DONE:
            raise UsageError(f"transfer {transfer} is done: {record.target}")
        if transfer not in self._active:
            self._run(record)
        return transfer_change(record, "resumed")

    async def cancel(self, transfer: str) -> TransferChange:
        """End a transfer for good: what arrived of an unfinished one is removed, and it leaves the list."""
        if self._torrents.has(transfer):
            return await self._torrents.cancel(transfer)
        if self._wanted.has(transfer):
            return self._wanted.cancel(transfer)
        record = self._transfers.get(transfer)
        if transfer in self._active:
            await self._active[transfer].stop(note="cancelled")
        if record.state != TransferState.DONE:
            await asyncio.to_thread(self._make(record).discard)
            await forget_unfinished(self._context.store, record, self._transfers)
        self._transfers.remove(transfer)
        self._give_no_more(record)
        return transfer_change(record, "forgotten" if record.state == TransferState.DONE else "cancelled")

    def _give_no_more(self, record: TransferRecord) -> None:
        """A transfer that left the list: nothing of it is given, nor its limit kept."""
        if finished := self._finished.pop(record.id, None):
            finished.stop_giving()
        if is_for_many(record.of):
            self._context.access.policy.withdraw(resource_of_download(record.id))
            self._context.access.review()
        if record.up:
            self.server.limit(Ticket.parse(record.ticket).content_id, 0)

    def partials(self) -> list[Partial]:
        """What unfinished transfers have on disk so far."""
        unfinished = [r for r in self._transfers if r.state != TransferState.DONE]
        return self._torrents.partials() + partials_of(unfinished)

    def _find_giver(self, peer: PeerId, root: bytes, proof: bytes) -> Giver | None:
        """Shares first: they have all of it."""
        shown = Shown(peer, self._context.peer_id, root, proof)
        shared, given = self.places.offer(shown), self.gifts.ask(shown)
        offer = shared or given
        all_of_them = [*self._finished.values(), *self._active.values()]
        running = [(t, t.giver()) for t in all_of_them if t.content_id == root and t.record.of]
        found = next(((t, giver) for t, giver in running if shown.proves(giver.secret)), None)
        if offer is not None or found is None:
            return offer
        with contextlib.suppress(AccessDenied):
            found[0].meet(peer)
            return found[1]
        return None

    def _record_for(self, ticket: Ticket, place: Path, new_id: str) -> TransferRecord:
        """The record of an interrupted transfer of the same share or content to the same place, else a new one."""
        for record in self._transfers:
            if record.target == str(place) and record.state != TransferState.DONE and is_same(record, ticket):
                known = Ticket.parse(record.ticket).content_id
                if known != ticket.content_id:
                    record.staging = record.staging or known
                record.ticket = str(ticket)
                return record
        return TransferRecord(new_id or self._transfers.new_id(), str(ticket), str(place), time.time())

    def _make(self, record: TransferRecord) -> Transfer:
        if is_for_many(record.of):
            self._context.access.policy.permit(record.of, Verb.READ, resource_of_download(record.id))
        return Transfer(
            self._context,
            record,
            self._transfers.save,
            shared=self._shares.roots,
            down=self.limits.down_shares,
            gave=self.server.gave,
            table=self._context.api("overlay"),
            book=self._book,
            locate=partial(locate_place, self._context),
        )

    def _run(self, record: TransferRecord) -> None:
        self._launch(self._make(record), None)

    def _launch(self, transfer: Transfer, opened: Session | None) -> None:
        transfer.record.state, transfer.record.note = TransferState.RUNNING, ""
        done = [r for r in self._transfers if r.state == TransferState.DONE]
        for record in done[: max(0, len(done) - DONE_MAX)]:
            self._transfers.remove(record.id)
            self._give_no_more(record)
        self._active[transfer.record.id] = transfer
        transfer.result.add_done_callback(lambda _: self._ended(transfer))
        self._context.start(transfer.run(opened), f"transfer {transfer.record.id}")

    def _ended(self, transfer: Transfer) -> None:
        """What was fetched whole is given on until it is forgotten."""
        ended = transfer.record
        self._active.pop(ended.id, None)
        for older in self._transfers:
            done = older.state == ended.state == TransferState.DONE
            if (
                done and older.target == ended.target and older.id != ended.id
            ):  # what came then is there no more
                self._transfers.remove(older.id)
                self._give_no_more(older)
        if transfer.is_given_on:
            self._finished[transfer.record.id] = transfer
        if transfer.settling is not None:
            self._settling.add(transfer.settling)
            transfer.settling.add_done_callback(self._settling.discard)
