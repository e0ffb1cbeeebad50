"""All downloads from nodes that give content: begun, joined, gone on with, given on to others, forgotten."""

import asyncio
import contextlib
import os
import time
from collections.abc import Sequence
from pathlib import Path

from coterie.access.names import TICKET
from coterie.access.policy import is_for_many
from coterie.access.resource import Verb
from coterie.content.writer import Partial
from coterie.errors import AccessDenied, CloseCode, UsageError
from coterie.texts import tr
from coterie.transfer.describe import transfer_detail, transfer_line
from coterie.transfer.giver import DOWNLOAD, DOWNLOAD_TICKET, Giver, resource_of_download
from coterie.transfer.got import Got, GotBook
from coterie.transfer.limits import Limits
from coterie.transfer.meeting import Table as MeetingTable
from coterie.transfer.messages import Opened
from coterie.transfer.proof import Shown
from coterie.transfer.records import Kept, TransferRecord
from coterie.transfer.results import AskerLine, TransferDetail, TransferLine
from coterie.transfer.serve import Server
from coterie.transfer.sources import Session
from coterie.transfer.states import TransferState
from coterie.transfer.surroundings import Surroundings
from coterie.transfer.table import Table
from coterie.transfer.target import place_at, possible_places, whole_target
from coterie.transfer.transfer import Locate, OnExisting, Transfer, is_same, suggested_name
from coterie.transfer.unfinished import forget_unfinished, partials_of, pin_unfinished
from coterie.wire import Ticket

DONE_MAX = 100  # finished transfers that stay in the list, the newest
SETTLE_S = (
    2.0  # that the end waits for the index of what came; guess: what is not in it is read when it is shared
)


class Downloads:
    """A kind of the table (`table.Kind`). Belongs to the event loop; the heavy parts run in threads."""

    begins_as = TransferState.RUNNING

    def __init__(
        self,
        context: Surroundings,
        records: Kept[TransferRecord],
        table: Table,
        *,
        server: Server,
        limits: Limits,
        book: GotBook,
        meeting: MeetingTable | None,
        locate: Locate,
    ) -> None:
        """`meeting`: where who fetch the same meet; else as `Transfer`."""
        self._context = context
        self._records = records
        self._table = table
        self._server = server
        self._limits = limits
        self._book = book
        self._meeting = meeting
        self._locate = locate
        self._active: dict[str, Transfer] = {}
        self._finished: dict[str, Transfer] = {}  # that go on giving what they fetched
        self._settling: dict[asyncio.Future[None], Transfer] = {}
        table.register(self)

    async def pin(self) -> None:
        """Before anything is forgotten: have the store keep what belongs to those that are not done."""
        unfinished = [record for record in self._records if record.state != TransferState.DONE]
        await asyncio.to_thread(pin_unfinished, self._context.blobs.store, unfinished)

    def start(self, *, is_online: bool) -> None:
        """Give what is here of them; where there is a network, go on with what was under way."""
        self._context.access.policy.permit(DOWNLOAD_TICKET, Verb.READ, DOWNLOAD)
        for record in self._records:
            if record.up:
                self._server.limit(Ticket.parse(record.ticket).content_id, record.up)
        for record in self._records if is_online else ():
            if record.state in (TransferState.RUNNING, TransferState.WAITING):
                self.go_on(record.id)

    async def close(self) -> None:
        """Stop; what is under way goes on at the next start."""
        await asyncio.gather(*[t.stop(keep_state=True) for t in list(self._active.values())])
        if self._settling:
            await asyncio.wait(self._settling, timeout=SETTLE_S)
        for transfer in self._settling.values():
            transfer.hurry()
        await asyncio.gather(*self._settling)

    async def begin(
        self,
        ticket: Ticket,
        target: Path | str,
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

        Raises:
            UsageError: the ticket is our own, or something else is fetched to that place.
            TransportError, PeerError, NotFound, AccessDenied: it is not given to us.
        """
        # what was got just now may be got again
        await asyncio.gather(*self._settling, return_exceptions=True)
        if ticket.peer == self._context.me.peer_id:
            raise UsageError(tr("this ticket is from this very computer: what it names is here already"))
        ticket, session = await Transfer.open(self._context, ticket)
        _, stream, opened = session
        try:
            path, got = self._path_for(whole_target(target), opened, ticket, place)
            if got is not None and on_existing == "fail":
                on_existing, only = "update", only or got.only
            running = next((t for t in self._active.values() if t.record.target == str(path)), None)
            if running is not None:
                if not running.is_of(ticket):
                    raise UsageError(
                        tr(
                            "transfer {id} is fetching something else to {path}",
                            id=running.record.id,
                            path=path,
                        )
                    )
                await stream.reset(CloseCode.CANCELLED)
                return running
            record = self._record_for(ticket, path, transfer_id)
            record.on_existing, record.only = on_existing, list(only)
            record.place, record.mirror = place, mirror
            record.name, record.files, record.size = path.name, opened.files, opened.size
            record.mtime_ns, record.executable = opened.mtime_ns, opened.executable
            record.of = opened.of if opened.of == TICKET or is_for_many(opened.of) else ""
            transfer = self._make(record)
            transfer.check_target()
            self._records.save(record)
        except BaseException:
            await stream.reset(CloseCode.CANCELLED)
            raise
        self._launch(transfer, session)
        return transfer

    def giver(self, shown: Shown, *, rather: Giver | None) -> Giver | None:
        """A download, under way or given on, of what the asker showed to know the secret of; None: there is none.

        `rather` goes before, after the same work: the asker cannot tell by the time what there is.
        """
        all_of_them = [*self._finished.values(), *self._active.values()]
        running = [(t, t.giver()) for t in all_of_them if t.content_id == shown.root and t.record.of]
        found = next(((t, giver) for t, giver in running if shown.proves(giver.secret)), None)
        if rather is not None or found is None:
            return rather
        with contextlib.suppress(AccessDenied):
            found[0].meet(shown.asker)
            return found[1]
        return None

    # -- as a kind of the table --

    @property
    def running(self) -> int:
        """See `table.Kind`, as all of the following."""
        return len(self._active)

    def under_way(self, transfer: str) -> Transfer | None:
        return self._active.get(transfer)

    def entries(self) -> Kept[TransferRecord]:
        return self._records

    def save(self, transfer: str) -> None:
        self._records.save(self._records.get(transfer))

    def line(self, transfer: str) -> TransferLine:
        return transfer_line(self._records.get(transfer), self._active.get(transfer))

    async def detail(self, transfer: str) -> TransferDetail:
        record = self._records.get(transfer)
        root = Ticket.parse(record.ticket).content_id
        askers = [AskerLine(peer.short, size) for peer, size in self._server.askers(root)]
        return transfer_detail(record, self._active.get(transfer), askers)

    async def halt(self, transfer: str, note: str) -> None:
        if (active := self._active.get(transfer)) is not None:
            await active.stop(note=note)

    def go_on(self, transfer: str) -> None:
        if transfer not in self._active:
            self._launch(self._make(self._records.get(transfer)), None)

    async def drop(self, transfer: str) -> str:
        record = self._records.get(transfer)
        is_done = record.state == TransferState.DONE
        if not is_done:
            await asyncio.to_thread(self._make(record).discard)
            await asyncio.to_thread(forget_unfinished, self._context.blobs.store, record)
        self._records.remove(transfer)
        self._give_no_more(record)
        return "forgotten" if is_done else "cancelled"

    def adjust(self, transfer: str) -> None:
        record = self._records.get(transfer)
        if active := self._active.get(transfer):
            active.down.bytes_per_s = record.down
            active.set_priority(record.priority)
        self._server.limit(Ticket.parse(record.ticket).content_id, record.up)

    def partials(self) -> list[Partial]:
        return partials_of(r for r in self._records if r.state != TransferState.DONE)

    # -- inside --

    def _path_for(self, target: str, opened: Opened, ticket: Ticket, place: str) -> tuple[Path, Got | None]:
        """The final path, and what of the same was got there before."""
        name = suggested_name(opened, ticket)
        for path in possible_places(target, name):
            got = self._book.at(path)
            if got is not None and got.is_of(ticket, place) and os.path.lexists(path):
                return path, got
        return place_at(target, name), None

    def _record_for(self, ticket: Ticket, place: Path, new_id: str) -> TransferRecord:
        """The record of an interrupted transfer of the same share or content to the same place, else a new one."""
        for record in self._records:
            if record.target == str(place) and record.state != TransferState.DONE and is_same(record, ticket):
                known = Ticket.parse(record.ticket).content_id
                if known != ticket.content_id:
                    record.staging = record.staging or known
                record.ticket = str(ticket)
                return record
        new_id = new_id or self._table.new_id(self._records.new_id)
        return TransferRecord(new_id, str(ticket), str(place), time.time())

    def _make(self, record: TransferRecord) -> Transfer:
        if is_for_many(record.of):
            self._context.access.policy.permit(record.of, Verb.READ, resource_of_download(record.id))
        return Transfer(
            self._context,
            record,
            self._records.save,
            down=self._limits.down_shares,
            gave=self._server.gave,
            table=self._meeting,
            book=self._book,
            locate=self._locate,
        )

    def _launch(self, transfer: Transfer, opened: Session | None) -> None:
        transfer.record.state, transfer.record.note = TransferState.RUNNING, ""
        done = [r for r in self._records if r.state == TransferState.DONE]
        for record in done[: max(0, len(done) - DONE_MAX)]:
            self._forget(record)
        self._active[transfer.record.id] = transfer
        transfer.result.add_done_callback(lambda _: self._ended(transfer))
        self._context.jobs.start(transfer.run(opened), f"transfer {transfer.record.id}")

    def _ended(self, transfer: Transfer) -> None:
        """What was fetched whole is given on until it is forgotten."""
        ended = transfer.record
        self._active.pop(ended.id, None)
        for older in self._records:
            done = older.state == ended.state == TransferState.DONE
            if done and older.target == ended.target and older.id != ended.id:
                self._forget(older)  # what came then is there no more
        if transfer.is_given_on:
            self._finished[ended.id] = transfer
        if transfer.settling is not None:
            self._settling[transfer.settling] = transfer
            transfer.settling.add_done_callback(lambda settled: self._settling.pop(settled, None))

    def _forget(self, record: TransferRecord) -> None:
        self._records.remove(record.id)
        self._give_no_more(record)

    def _give_no_more(self, record: TransferRecord) -> None:
        """A transfer that left the list: nothing of it is given, nor its limit kept."""
        if finished := self._finished.pop(record.id, None):
            finished.stop_giving()
        if is_for_many(record.of):
            self._context.access.policy.withdraw(resource_of_download(record.id))
            self._context.access.review()
        if record.up:
            self._server.limit(Ticket.parse(record.ticket).content_id, 0)
