"""One transfer from its first connection to its final name, through every interruption between."""

import asyncio
import contextlib
import logging
import os
import secrets
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from random import SystemRandom
from typing import Any, Literal

import msgspec

from coterie.access.names import TICKET
from coterie.content.limit import ByteLimit, Portion, Shares
from coterie.content.names import name_fault
from coterie.content.reuse import has_mark
from coterie.content.swarm.events import Hold, Prefer
from coterie.content.swarm.piece_map import piece_map, unknown_pieces
from coterie.content.writer import STAGING_ID_BYTES, TargetExists, staging_path
from coterie.errors import CoterieError, NotFound, PeerError, StorageError, TransportError, UsageError
from coterie.identity import PeerId
from coterie.progress import Progress
from coterie.quantity import seconds_left
from coterie.texts import tr
from coterie.transfer.arrival import Arrival
from coterie.transfer.arriving import Finished
from coterie.transfer.discretion import Discretion
from coterie.transfer.fetch import Fetch, ShareMoved, open_share, opening
from coterie.transfer.giver import DownloadGiver, Tell, resource_of_download
from coterie.transfer.got import Got, GotBook
from coterie.transfer.meeting import Meeting, Table
from coterie.transfer.messages import Opened
from coterie.transfer.motion import Motion, Pace
from coterie.transfer.partial_content import Staged
from coterie.transfer.playable import DownloadedFile, files_of
from coterie.transfer.rate_history import RateHistory
from coterie.transfer.receive import Receiver
from coterie.transfer.records import TransferRecord
from coterie.transfer.results import Problem, Received, SourceLine, TransferChange
from coterie.transfer.running import end_run
from coterie.transfer.sources import Session, Sources
from coterie.transfer.states import WEIGHTS, TransferState, bytes_done
from coterie.transfer.surroundings import Surroundings
from coterie.transfer.unfinished import OWNER
from coterie.wire import Ticket
from coterie.wire.knock import Right
from coterie.wire.ticket import ADDRESSES_MAX

log = logging.getLogger(__name__)

OnExisting = Literal["fail", "overwrite", "keep-both", "update"]
"""What is done where something is: "update" is for what was got before, and nobody asks for it by name."""

TICK_S = 0.2  # progress
SAVE_EVERY_TICKS = 25
FAILED_KEPT_MAX = 1_000  # of a finished transfer, in its record; guess
WAITED_FOR_MAX = 3  # computers that one line names
MOVES_MAX = 4  # in a row, of a share that changes while it is opened; guess

Locate = Callable[[PeerId, str], Awaitable[Ticket]]
"""A ticket for what stands at a place of a peer now."""


def on_existing(*, overwrite: bool, keep_both: bool) -> OnExisting:
    """The two options of the command line as one answer."""
    if overwrite and keep_both:
        raise UsageError(tr("choose one of --overwrite and --keep-both"))
    return "overwrite" if overwrite else "keep-both" if keep_both else "fail"


def is_same(record: "TransferRecord", ticket: Ticket) -> bool:
    """Whether a transfer is of what `ticket` names: the same share, or the same content."""
    known = Ticket.parse(record.ticket)
    same = known.content_id == ticket.content_id or (known.peer, known.secret) == (ticket.peer, ticket.secret)
    return same and known.kind == ticket.kind


def suggested_name(opened: Opened, ticket: Ticket) -> str:
    """What to call a share where nobody named it: as the other side does, where that is harmless.

    Not with a dot in front: what is hidden in a home folder configures programs (".profile", ".ssh").
    """
    name = "" if name_fault(opened.name) else opened.name.lstrip(".")
    return name or f"coterie-{ticket.content_id.hex()[:12]}"


class Transfer:
    """Runs one `TransferRecord`. `result` ends with what was received, or with the error."""

    def __init__(
        self,
        context: Surroundings,
        record: TransferRecord,
        save: Callable[[TransferRecord], None],
        *,
        down: Shares,
        gave: Callable[[bytes, PeerId, int], None],
        table: Table | None,
        book: GotBook,
        locate: Locate,
    ) -> None:
        """`down` is the limit of all downloads together; `book`: what was got.

        `gave(root, peer, size)` hears how much who gave; `table` is where those meet who fetch the same. `locate`
        finds the present content of the place that a download is of.
        """
        self.down = ByteLimit(record.down)
        self._all_down = down
        self._portion: Portion | None = None
        self._gave = gave
        self._table = table
        self._locate = locate
        self.record = record
        self.settling: asyncio.Future[None] | None = None  # after the result: work that may still be done
        self._hurries = threading.Event()
        self.rate = 0.0
        self.rates = RateHistory()
        self._motion = Motion(time.monotonic())
        self._waits_for = "", ""  # short ids, and their names
        self.result: asyncio.Future[Received] = asyncio.get_running_loop().create_future()
        self.result.add_done_callback(
            lambda r: None if r.cancelled() else r.exception()
        )  # it is told elsewhere too
        self._context = context
        self._save_record = save
        self._book = book
        self._aim()
        self._listeners: list[Callable[[Progress], None]] = []
        self._task: asyncio.Task[None] | None = None
        self._stopped = False
        self._fetch: Fetch | None = None
        self._sources: Sources | None = None
        self._opened: Session | None = None
        self._is_held = False
        self._has_all = False
        self.is_given_on = False  # also when it is over
        self._whole_watchers: list[Tell] = []

    def _aim(self) -> None:
        """Make ready for the content that the record's ticket names."""
        context, record, table = self._context, self.record, self._table
        self._ticket = Ticket.parse(record.ticket)
        network, table = (
            (context.net.overlay, table) if record.of else (None, None)
        )  # else nobody may have it
        self._meeting = Meeting(self._ticket, us=context.me.peer_id, network=network, table=table)
        if not (record.staging or record.done):  # v0.1 left nothing: what is there is not ours
            record.staging = secrets.token_bytes(STAGING_ID_BYTES)
        target = Path(record.target)
        staging_id = record.staging or self._ticket.content_id
        before = self._book.at(record.target) if record.on_existing in ("overwrite", "update") else None
        self._got_before = before if before and before.is_of(self._ticket, record.place) else None
        self._discretion = Discretion(
            is_giver_known=context.access.policy.is_known(self._ticket.peer),
            has_reused=has_mark(staging_path(target.parent, target.name, staging_id)),
        )
        arrival = Arrival(
            target,
            context.blobs.versions,
            self._book,
            self._got_before,
            source=f"{record.name} from {self._ticket.peer.short}",
            overwrite=record.on_existing == "overwrite",
            update=self._got_before is not None,
            mirror=record.mirror,
        )
        self._receiver = Receiver(
            self._ticket, record, store=context.blobs.store, discretion=self._discretion, arrival=arrival
        )

    @property
    def id(self) -> str:
        """That of its record."""
        return self.record.id

    @property
    def target(self) -> str:
        """The path that it is to have."""
        return self.record.target

    def change(self, did: str) -> TransferChange:
        """What a command did to it."""
        r = self.record
        return TransferChange(r.id, did, bytes_done(r), r.size, r.target)

    @property
    def name(self) -> str:
        """What it is called."""
        return self.record.name

    async def readable(self, executor: Executor) -> list[DownloadedFile]:
        """See `running.Running`."""
        return await files_of(self, executor)

    def set_priority(self, priority: str) -> None:
        """Another one, from now on."""
        if self._portion is not None:
            self._portion.weight = WEIGHTS[priority]

    def stop_giving(self) -> None:
        """Nobody is to come for it any more."""
        self._meeting.withdraw()

    @property
    def content_id(self) -> bytes:
        """What is fetched."""
        return self._ticket.content_id

    @property
    def staged(self) -> Staged:
        """What is here of it."""
        return self._receiver.staged

    def hold(self, *, is_on: bool) -> None:
        """Fetch the description only while it is found out what is to come first."""
        self._is_held = is_on
        if self._fetch is not None:
            self._fetch.prefer(Hold(is_on))

    def prefer(self, wish: Prefer) -> None:
        """What is to come first, while it runs."""
        if self._fetch is not None:
            self._fetch.prefer(wish)

    async def changed(self, most_s: float) -> None:
        """Until more of it is here or it ends, or `most_s` have passed."""
        if self._fetch is None:
            await asyncio.wait({self.result}, timeout=most_s)
            return
        news = asyncio.ensure_future(self._fetch.news.wait())
        awaited: set[asyncio.Future[Any]] = {news, self.result}
        try:
            await asyncio.wait(awaited, timeout=most_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            news.cancel()

    @staticmethod
    async def open(context: Surroundings, ticket: Ticket) -> tuple[Ticket, Session]:
        """Connect to the ticket's peer and open its share; with a ticket for the content that it has now."""
        for _ in range(MOVES_MAX):
            try:
                return ticket, await _open(context, ticket, ticket.peer, ticket.addresses, asks_root=True)
            except ShareMoved as moved:
                ticket = moved.ticket
        raise TransportError(tr("the share changes faster than it can be opened: try again later"))

    def is_of(self, ticket: Ticket) -> bool:
        """Whether it fetches what `ticket` names: the same share, or the same content."""
        return is_same(self.record, ticket)

    def meet(self, peer: PeerId) -> None:
        """`peer` is about to give or ask. Raises `AccessDenied` where it is a stranger and has to stay outside."""
        self._discretion.meet(is_known=self._context.access.policy.is_known(peer))

    def giver(self) -> DownloadGiver:
        """What this download gives to others while it runs, and afterwards."""
        r = self.record
        kind = int(self._ticket.kind)
        described = Opened(kind, r.name, r.files, r.size, r.mtime_ns, r.executable, of=r.of)
        only_of = "" if r.of == TICKET else resource_of_download(r.id)
        return DownloadGiver(self._ticket.secret, described, self._receiver.staged, self, only_of=only_of)

    def holdings(self) -> Mapping[bytes, int]:
        """What is here: pieces by node."""
        return self._fetch.holdings() if self._fetch else {}

    def is_whole(self) -> bool:
        """Whether all of it can be had from here."""
        return self._has_all

    def watch(self, tell: Tell) -> Callable[[], None]:
        """Tell what is here and what comes, until the returned function is called."""
        if self._fetch is None or self._has_all:
            return lambda: None
        return self._fetch.watch(tell)

    def sources(self) -> list[SourceLine]:
        """Every computer that is asked now."""
        lines = self._fetch.source_lines() if self._fetch else []
        return [msgspec.structs.replace(one, rate=0) for one in lines] if self.waits_for else lines

    def pieces(self) -> list[int]:
        """See `TransferDetail.pieces`."""
        parts = self._fetch.core.parts() if self._fetch else []
        return piece_map(parts, unknown=unknown_pieces(parts, self.record.done, self.record.size))

    def health(self) -> int:
        """How often the rarest missing part is there."""
        return self._fetch.core.rarest() if self._fetch else 0

    @property
    def eta_s(self) -> float | None:
        """Seconds to go at the present rate."""
        left = max(self.record.size - self._receiver.skipped_bytes - self.record.done, 0)
        return seconds_left(left, self.rate)

    def is_still(self) -> bool:
        """Whether nothing comes: nobody gives it now, or the line is cut."""
        return self.record.state == TransferState.WAITING or self._motion.is_still(time.monotonic())

    @property
    def waits_for(self) -> str:
        """What is said while nothing comes of what is asked for: whom it waits for; "" otherwise."""
        running = self.record.state == TransferState.RUNNING and self._sources is not None
        if not running or self._fetch is None or not self.is_still():
            return ""
        owing = ", ".join(self._fetch.owing()[:WAITED_FOR_MAX])
        if not owing:
            return ""
        if owing != self._waits_for[0]:  # names cost a look through all people
            self._waits_for = owing, self._context.people.in_names(owing)
        return tr("waiting for {names}", names=self._waits_for[1])

    def met(self, peer: PeerId, addresses: Sequence[str]) -> None:
        """Somebody has this content, or part of it."""
        if self._sources is not None and peer != self._context.me.peer_id:
            self._sources.met(peer, addresses)

    def check_target(self) -> None:
        """Raise `TargetExists` when something is there and nothing was said about it."""
        if self.record.on_existing == "fail" and os.path.lexists(self.record.target):
            raise TargetExists(
                tr(
                    "{target} exists already; --overwrite replaces files of the same name and keeps the old "
                    "ones in the trash, --keep-both makes a second one",
                    target=self.record.target,
                )
            )

    def listen(self, listener: Callable[[Progress], None]) -> None:
        """Call `listener` with the progress, five times a second."""
        self._listeners.append(listener)

    def discard(self) -> None:
        """Remove from disk what arrived of an unfinished transfer."""
        self._receiver.discard()

    async def stop(self, note: str = "paused", *, keep_state: bool = False) -> None:
        """End the run and keep what arrived; `keep_state`: it goes on by itself at the next start."""
        self._stopped = True
        pause = None if keep_state else lambda: self._set(TransferState.PAUSED, note)
        await end_run(self._task, self.record, self.result, note, pause=pause)

    async def run(self, opened: Session | None) -> None:
        """Fetch, through any number of broken links, then give the result its final name."""
        self._task = asyncio.current_task()
        if self._stopped:
            return
        self._set(TransferState.RUNNING, "")
        began = time.monotonic()
        ticker = asyncio.ensure_future(self._tick())
        try:
            self._opened = opened
            while not await self._run_swarm():
                self._tell("receiving")
            ticker.cancel()
            self.rate, self.record.done = 0.0, self._receiver.done_bytes
            self._tell("finishing")
            finished = await asyncio.to_thread(self._receiver.finish, self.record.on_existing)
            await asyncio.to_thread(self._receiver.remember, finished.path, self._got(finished.path))
        except StorageError as error:
            self._set(TransferState.PAUSED, str(error))
            self.result.set_exception(error)
        except OSError as error:
            why = f"this computer could not go on: {error}; `coterie transfers resume {self.record.id}`"
            self._set(TransferState.PAUSED, why)
            self.result.set_exception(StorageError(why))
        except CoterieError as error:
            self.record.done = max(self.record.done, self._receiver.done_bytes)  # since the last tick
            self._set(TransferState.FAILED, str(error))
            self.result.set_exception(error)
        except Exception as error:
            log.exception("transfer %s failed unexpectedly", self.record.id)
            self._set(TransferState.FAILED, f"an error of coterie itself: {error!r}; its log has the details")
            self.result.set_exception(error)
        else:
            self.record.target = str(finished.path)
            self.record.seconds = round(time.monotonic() - began, 3)
            self.record.finished = time.time()
            news = finished.news
            self.is_given_on = not (finished.failed or self.record.only or news.changed_here or news.numbered)
            self._has_all = self.is_given_on and not (self._discretion.has_reused or self._receiver.has_kept)
            if self._has_all and self._fetch is not None:
                self._fetch.announce_all()
                self._context.jobs.start(self._meeting.announce(), f"announcing transfer {self.record.id}")
            self.record.done = self._receiver.done_bytes
            failed = [Problem(path, reason) for path, reason in finished.failed]
            self.record.missing = finished.failed_count
            self.record.failed = [f"{p.path}: {p.reason}" for p in failed[:FAILED_KEPT_MAX]]
            self._set(TransferState.DONE, f"{finished.failed_count:,} not received" if failed else "")
            self.settling = asyncio.ensure_future(self._make_known(finished.path))
            self.result.set_result(self._received(finished, failed))
        finally:
            ticker.cancel()
            if not self._has_all:
                self._meeting.withdraw()
            self._receiver.close()

    def _got(self, path: Path) -> Got:
        """What is noted of this download, for the next time."""
        r, before = self.record, self._got_before
        return Got(
            id=before.id if before else r.id,
            target=str(path),
            peer=bytes(self._ticket.peer),
            ticket=r.ticket,
            place=r.place or (before.place if before else ""),
            name=r.name,
            root=self.content_id,
            updated=time.time(),
            only=r.only,
        )

    def hurry(self) -> None:
        """Let `settling` end with what it has done."""
        self._hurries.set()

    async def _make_known(self, path: Path) -> None:
        """What came need not be fetched twice. It is there whatever becomes of this."""
        try:
            await asyncio.to_thread(self._receiver.index, path, self._hurries.is_set)
            await asyncio.to_thread(self._context.blobs.store.pins.set, OWNER, self.record.id, ())
        except CoterieError as error:
            log.warning("%s was received, but could not be put into the index: %s", path, error)

    def _received(self, finished: Finished, failed: list[Problem]) -> Received:
        dropped = (text.partition(": ") for text in self.record.dropped)
        news = finished.news
        return Received(
            id=self.record.id,
            path=str(finished.path),
            files=self._receiver.files,
            size=self._receiver.done_bytes,
            fetched=self._receiver.fetched_bytes,
            reused=self._receiver.reused_bytes,
            seconds=self.record.seconds,
            failed=failed,
            missing=finished.failed_count,
            sources=self._fetch.sources_used() if self._fetch else 0,
            dropped=[Problem(self._context.people.in_names(peer), why) for peer, _, why in dropped],
            changed_names=[Problem(path, reason) for path, reason in finished.renamed],
            is_update=news.is_update,
            new=news.new,
            back=news.back,
            replaced=news.replaced,
            removed=news.removed,
            changed_here=news.changed_here,
            beside=[Problem(path, reason, is_lost=False) for path, reason in news.beside],
            gone=news.gone,
            gone_count=news.gone_count,
        )

    async def _follow(self, moved: ShareMoved) -> None:
        """Aim at the content that the share has now; what came of the other is kept as far as it is the same."""
        self._receiver.close()
        try:
            ticket, session = await self.open(self._context, moved.ticket)
        except (TransportError, PeerError):  # it is asked again, as any that is away
            self._aim()
            return
        opened, record = session[2], self.record
        if ticket.kind != self._ticket.kind:
            await asyncio.to_thread(self._receiver.discard)
        self._meeting.withdraw()
        record.staging = record.staging or self.content_id
        record.ticket = str(ticket)
        record.files, record.size = opened.files, opened.size
        record.mtime_ns, record.executable = opened.mtime_ns, opened.executable
        self._save_record(record)
        self._aim()
        self._opened = session

    async def _run_swarm(self) -> bool:
        """Fetch all of it; False: the share has other content now, and that is aimed at."""
        await asyncio.to_thread(self._context.blobs.store.pins.set, OWNER, self.record.id, [self.content_id])
        was_moved: ShareMoved | None = None
        portion = self._portion = self._all_down.portion(WEIGHTS[self.record.priority])
        fetch = self._fetch = Fetch(
            self._ticket,
            self._receiver,
            SystemRandom(),
            hint=self.met,
            gave=lambda peer, size: self._gave(self.content_id, peer, size),
            buckets=(portion, self.down),
        )
        if self._is_held:
            fetch.prefer(Hold(True))
        sources = self._sources = Sources(fetch, self._open_at, self._say)
        sources.met(self._ticket.peer, self._ticket.addresses, is_hint=False)
        finding = asyncio.ensure_future(
            self._meeting.keep_finding(fetch.wants_sources, fetch.has_enough_sources, self.met)
        )
        try:
            opened, self._opened = self._opened, None
            await sources.run(opened)
        except ShareMoved as moved:
            was_moved = moved
        finally:
            finding.cancel()
            await asyncio.gather(finding, return_exceptions=True)
            self._portion = None
            portion.close()
            self.record.dropped = [f"{peer.short}: {why}" for peer, why in sources.dropped.items()]
            self._sources = None
            await fetch.close()
        if was_moved is not None:
            await self._follow(was_moved)
        return was_moved is None

    async def _open_at(self, peer: PeerId, addresses: Sequence[str]) -> Session:
        self.meet(peer)
        try:
            return await _open(self._context, self._ticket, peer, addresses)
        except NotFound:  # tickets for places are for one content
            if peer != self._ticket.peer or not self.record.place:
                raise
            now = await self._locate(peer, self.record.place)
            if now.content_id == self.content_id:
                raise
        raise ShareMoved(now)

    def _say(self, note: str) -> None:
        """How it stands: sessions, or none and why."""
        if note:
            self.rate = 0.0
            self._set(TransferState.WAITING, self._context.people.in_names(note))
        elif self.record.state != TransferState.RUNNING or self.record.note:
            self._set(TransferState.RUNNING, "")

    async def _tick(self) -> None:
        ticks, pace = 0, Pace(self._receiver.fetched_bytes, time.monotonic())
        while True:
            await asyncio.sleep(TICK_S)
            ticks += 1
            now = time.monotonic()
            self.record.done, self.record.fetched = self._receiver.done_bytes, self._receiver.fetched_bytes
            self._motion.at(self.record.done, now)
            self.rate = pace.at(self.record.fetched, now)
            if self.is_still():
                pace.rest(now)
                self.rate = 0.0
            self.rates.note(asyncio.get_running_loop().time(), self.rate)
            if ticks % SAVE_EVERY_TICKS == 0:
                with contextlib.suppress(StorageError):  # a full disk is told by the transfer itself
                    self._save_record(self.record)
            waits_for = self.waits_for
            is_waiting = waits_for or self.record.state == TransferState.WAITING
            self._tell("waiting" if is_waiting else "receiving", waits_for)

    def _tell(self, phase: str, note: str = "") -> None:
        step = Progress(
            phase=phase,
            done=self.record.done,
            total=self.record.size - self._receiver.skipped_bytes,
            unit="bytes",
            rate=round(self.rate) if self.rate else None,
            eta_s=self.eta_s,
            note=note or self.record.note,
        )
        for listener in self._listeners:
            listener(step)

    def _set(self, state: TransferState, note: str) -> None:
        self.record.state, self.record.note = state, note
        self._save_record(self.record)


async def _open(
    context: Surroundings,
    ticket: Ticket,
    peer: PeerId,
    addresses: Sequence[str],
    *,
    asks_root: bool = False,
) -> Session:
    right = Right(ticket.content_id, ticket.secret) if peer == ticket.peer else None
    own = context.me.addresses()[:ADDRESSES_MAX]
    ahead = opening(ticket, context.me.peer_id, peer, own, asks_root=asks_root)
    connection = await context.net.connect(peer, addresses, right=right, ahead=ahead)
    stream, opened = await open_share(connection, ticket, ahead)
    return connection, stream, opened
