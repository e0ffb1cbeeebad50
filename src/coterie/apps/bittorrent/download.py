"""One download by BitTorrent, from a magnet link or a torrent file to its final name, through every interruption."""

import asyncio
import contextlib
import logging
import os
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import TypeVar

from coterie.apps.bittorrent.engine import BEAT_S, Engine
from coterie.apps.bittorrent.playable import LOOK_EVERY_S, ArrivingFile, Pieces, files_of
from coterie.apps.bittorrent.records import TorrentRecord
from coterie.apps.command import Progress
from coterie.content import Kind
from coterie.content.bittorrent.layout import Layout, lay_out
from coterie.content.bittorrent.read import Source, read_torrent
from coterie.content.bittorrent.session import (
    BitTorrentSession,
    Complete,
    Described,
    Failed,
    Flushed,
    Kept,
    Moved,
    PieceRead,
    Removed,
    Task,
    TorrentEvent,
)
from coterie.content.file_steps import remove, set_executable
from coterie.content.limit import Portion, Shares
from coterie.content.merge import Merge, Old
from coterie.content.names import name_fault
from coterie.content.versions import Versions
from coterie.content.writer import (
    STAGED,
    STAGING_ID_BYTES,
    Staging,
    TargetExists,
    check_space,
    discard_partial,
    staging_path,
)
from coterie.errors import CoterieError, StorageError, TransportError
from coterie.private_file import write_private
from coterie.quantity import seconds_left
from coterie.texts import tr
from coterie.transfer.rate_history import RateHistory
from coterie.transfer.results import Problem, Received, TransferChange
from coterie.transfer.running import end_run
from coterie.transfer.states import WEIGHTS, TransferState, bytes_done
from coterie.transfer.target import place_at

log = logging.getLogger(__name__)

SILENT_S = 300.0  # guess: to find one peer that describes the torrent; the DHT answers within a minute
FLUSH_S = 600.0  # guess: for a slow disk to take what is in memory
LEAVE_S = 10.0  # measured: 0.1 s
ALONE_S = 5.0  # guess: without any peer, before that is said
KEEP_EVERY_BEATS = 20

E = TypeVar("E", bound=TorrentEvent)


def local_name(source: Source) -> str:
    """What to call a torrent where nobody named it: as it says, where that is harmless."""
    name = "" if name_fault(source.name) else source.name.lstrip(".")
    return name or f"torrent-{root_of(source)[:12]}"


def root_of(source: Source) -> str:
    """The hash that names a torrent: of version 2 where it has one."""
    return (source.v2 or source.v1).hex()


class TorrentDownload:
    """Runs one `TorrentRecord`. `result` ends with what was received, or with the error.

    `received` is called with (final path, source, layout) before the result is told.
    """

    def __init__(
        self,
        record: TorrentRecord,
        engine: Engine,
        save: Callable[[TorrentRecord], None],
        received: Callable[[Path, Source, Layout], Awaitable[None]],
        *,
        reach: str,
        versions: Versions,
        down: Shares,
    ) -> None:
        """`down` is the limit of all downloads together."""
        self._versions = versions
        self._all_down = down
        self._portion: Portion | None = None
        self._got = 0
        self._limits = (0.0, 0.0, 0.0)
        self.record = record
        self.rate = 0.0
        self.rates = RateHistory()
        self.sent = self.peers = 0
        self.result: asyncio.Future[Received] = asyncio.get_running_loop().create_future()
        self.result.add_done_callback(lambda r: None if r.cancelled() else r.exception())
        self._engine = engine
        self._folder = engine.folder
        self._session: BitTorrentSession | None = None
        self._save_record = save
        self._received = received
        self._reach = reach
        self._inbox: asyncio.Queue[TorrentEvent] = asyncio.Queue()
        self._listeners: list[Callable[[Progress], None]] = []
        self._phase = "looking"
        self._staging: Staging | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopped = False
        self._is_new = False  # nothing of it is on disk yet
        self._met = 0.0
        self.delivered: Path | None = None  # the final path
        self._pieces = Pieces(self.key)
        self._first: set[int] = set()  # files that come before the others
        self._known: tuple[Source, Layout] | None = None
        self._may_fetch = asyncio.Event()
        self._may_fetch.set()

    @property
    def key(self) -> str:
        """What the session knows it by."""
        return f"get {self.record.id}"

    @property
    def id(self) -> str:
        """That of its record."""
        return self.record.id

    @property
    def target(self) -> str:
        """The path that it is to have, or the folder to put it into while its name is not known."""
        return self.record.target or self.record.wanted_at

    @property
    def eta_s(self) -> float | None:
        """Seconds to go at the present rate."""
        left = max(self.record.size - self.record.done, 0)
        return seconds_left(left, self.rate)

    def listen(self, listener: Callable[[Progress], None]) -> None:
        """Call `listener` with the progress, twice a second."""
        self._listeners.append(listener)

    def change(self, did: str) -> TransferChange:
        """What a command did to it."""
        r = self.record
        return TransferChange(r.id, did, bytes_done(r), r.size, self.target)

    def adjust(self) -> None:
        """Its limits, its priority or the limit of all may be others now."""
        record, down = self.record, self.record.down
        weight = WEIGHTS[record.priority]
        if self._portion is not None:
            self._portion.weight = weight
            fair = self._portion.bytes_per_s
            down = min(down or fair, fair or down)
        if (down, record.up, weight) != self._limits:
            self._limits = (down, record.up, weight)
            self._engine.limit(self.key, down=down, up=record.up, weight=weight)

    def hold(self, *, is_on: bool) -> None:
        """Fetch the description only; what is fetched already goes on."""
        if is_on:
            self._may_fetch.clear()
        else:
            self._may_fetch.set()

    def prefer(self, file: int, *, is_first: bool) -> None:
        """Fetch a file, by its number, before the others, or as them."""
        if is_first == (file in self._first):
            return
        if is_first:
            self._first.add(file)
        else:
            self._first.discard(file)
        self._engine.hasten(self.key, is_on=bool(self._first) and not self.result.done())
        if self._session is not None:
            self._session.prefer(self.key, file, is_first=is_first)

    async def changed(self, most_s: float) -> None:
        """Until it ends, or `most_s` have passed."""
        await asyncio.wait({self.result}, timeout=most_s)

    async def readable(self, executor: Executor) -> list[ArrivingFile]:
        """All its files, as soon as its description is here.

        Raises:
            TransportError: it ended before; or its own error.
        """
        while self._known is None:
            if self.result.done():
                raise self.result.exception() or TransportError(
                    tr("{target} is here already", target=self.target)
                )
            await asyncio.wait({self.result}, timeout=LOOK_EVERY_S)
        return files_of(self, self._pieces, executor, *self._known, self.record.name)

    async def meet(self, peers: Sequence[str]) -> None:
        """Try these peers, "ip:port", too."""
        session = await self._engine.opened()
        for peer in peers:
            session.connect(self.key, peer)

    def tell(self, event: TorrentEvent) -> None:
        """An event of the session about this torrent."""
        if isinstance(event, Moved):
            self._moved(event)
        elif isinstance(event, PieceRead):
            self._pieces.take(event)
        else:
            self._inbox.put_nowait(event)

    def discard(self) -> None:
        """Remove from disk what arrived of an unfinished transfer."""
        record = self.record
        if record.root:
            target = Path(record.target)
            discard_partial(
                staging_path(target.parent, target.name, record.staging or bytes.fromhex(record.root))
            )
        self.forget()

    def forget(self) -> None:
        """Remove what is kept of the torrent in coterie's own folder."""
        for path in (self._metainfo, self._resume):
            path.unlink(missing_ok=True)

    async def stop(self, note: str = "paused", *, keep_state: bool = False) -> None:
        """End the run and keep what arrived; `keep_state`: it goes on by itself at the next start."""
        self._stopped = True
        pause = None if keep_state else lambda: self._set(TransferState.PAUSED, note)
        await end_run(self._task, self.record, self.result, note, pause=pause)

    async def run(self) -> None:
        """Fetch until everything that is wanted is here, then give the result its final name."""
        self._task = asyncio.current_task()
        if self._stopped:
            return
        self._set(TransferState.RUNNING, "")
        self._met = time.monotonic()
        outcome: Received | Exception
        ticker = asyncio.ensure_future(self._tick())
        portion = self._portion = self._all_down.portion(WEIGHTS[self.record.priority])
        try:
            outcome = await self._through(ticker)
            self._set(TransferState.DONE, "")
            await asyncio.to_thread(self.forget)
        except StorageError as error:
            outcome = error
            self._set(TransferState.PAUSED, str(error))
        except CoterieError as error:
            outcome = error
            self._set(TransferState.FAILED, str(error))
        except Exception as error:
            log.exception("transfer %s failed unexpectedly", self.record.id)
            outcome = error
            self._set(TransferState.FAILED, f"an error of coterie itself: {error!r}; its log has the details")
        finally:
            ticker.cancel()
            self._portion = None
            portion.close()
            self._engine.hasten(self.key, is_on=False)
            await self._leave()
            with contextlib.suppress(OSError):
                await asyncio.to_thread(remove, self._folder / f"{self.record.id}.looking")
            if self._staging is not None:
                self._staging.close()
        if isinstance(outcome, Exception):
            self.result.set_exception(outcome)
        else:
            self.result.set_result(outcome)

    # -- the steps --

    async def _through(self, ticker: asyncio.Future[None]) -> Received:
        """All steps, from the session to the final name."""
        began = time.monotonic()
        session = self._session = await self._engine.opened()
        source, peers = await self._describe(session)
        staging, layout = await asyncio.to_thread(self._prepare, source)
        self._known = source, layout
        await self._may_fetch.wait()
        await self._fetch(session, source, self._task_for(staging, layout, peers))
        ticker.cancel()
        await self._leave()
        self.rate = 0.0
        self._say("finishing")
        path = await asyncio.to_thread(self._finish, staging, layout)
        self.record.target, self.record.done = str(path), layout.size
        self.delivered = path
        await self._received(path, source, layout)
        return self._summary(path, layout, time.monotonic() - began)

    async def _describe(self, session: BitTorrentSession) -> tuple[Source, tuple[str, ...]]:
        """The torrent's description: kept from before, or from the swarm."""
        record = self.record
        with contextlib.suppress(FileNotFoundError):
            return await asyncio.to_thread(lambda: read_torrent(self._metainfo.read_bytes())), ()
        self._say("looking")
        nowhere = self._folder / f"{record.id}.looking"
        session.describe(self.key, record.source, str(nowhere))
        try:
            async with asyncio.timeout(SILENT_S):
                found = await self._expect(Described)
        except TimeoutError:
            raise TransportError(
                tr("nobody was found who has this torrent. {reach}", reach=self._reach)
            ) from None
        source = await asyncio.to_thread(read_torrent, found.metainfo)
        write_private(self._metainfo, found.metainfo)
        return source, found.peers

    def _prepare(self, source: Source) -> tuple[Staging, Layout]:
        """Know the final path, see that it is free, and ready the disk."""
        record = self.record
        if not record.target:
            record.target = str(place_at(record.wanted_at, local_name(source)))
            record.root = root_of(source)
        target = Path(record.target)
        if record.on_existing == "fail" and os.path.lexists(target):
            record.target = ""
            raise TargetExists(
                tr(
                    "{target} exists already; --overwrite replaces files of the same name and keeps the old "
                    "ones in the trash, --keep-both makes a second one",
                    target=target,
                )
            )
        if not (record.staging or record.done):  # v0.1 left nothing: what is there is not ours
            record.staging = secrets.token_bytes(STAGING_ID_BYTES)
            self._save_record(record)
        kind = Kind.TREE if source.is_folder else Kind.BLOB
        self._staging = staging = Staging.open(
            target.parent,
            target.name,
            record.staging or bytes.fromhex(record.root),
            kind,
            source.size,
            in_place=True,
        )
        layout = lay_out(
            source.files,
            is_folder=source.is_folder,
            only=record.only,
            rules=staging.rules,
        )
        staged = staging.path / STAGED
        self._is_new = not (os.listdir(staged) if source.is_folder else os.path.lexists(staged))
        if self._is_new:
            check_space(target.parent, layout.size, len(layout.wanted))
            _make_empty(source, layout, staged)
        record.name, record.files, record.size = target.name, len(layout.wanted), layout.size
        self._save_record(record)
        return staging, layout

    def _task_for(self, staging: Staging, layout: Layout, peers: tuple[str, ...]) -> Task:
        resume = b""
        with contextlib.suppress(FileNotFoundError):  # only a clean stop leaves one: else all is checked
            resume = self._resume.read_bytes()
            self._resume.unlink()
        return Task(
            folder=str(staging.path),
            places={i: os.path.join(STAGED, *parts) for i, parts in layout.places.items()},
            wanted=layout.wanted,
            peers=peers,
            link=self.record.source,
            first=sorted(self._first),
            resume=resume,
        )

    async def _fetch(self, session: BitTorrentSession, source: Source, task: Task) -> None:
        if not (self._is_new and session.go_on(self.key, source, task)):
            await self._leave()
            session.fetch(self.key, source, task)
        self._limits = (0.0, 0.0, 0.0)
        self.adjust()
        self._pieces.begin(session, source.piece_bytes)
        try:
            await self._expect(Complete)
            session.flush(self.key)
            async with asyncio.timeout(FLUSH_S):
                await self._expect(Flushed)
        except TimeoutError:
            raise StorageError(
                tr("the disk does not take what arrived within {flush_s:.0f} s", flush_s=FLUSH_S)
            ) from None
        except asyncio.CancelledError:
            await self._keep(session)
            raise

    def _finish(self, staging: Staging, layout: Layout) -> Path:
        record = self.record
        for index in layout.executable:
            with (
                staging.translated(),
                (staging.path.joinpath(STAGED, *layout.places[index])).open("rb") as file,
            ):
                set_executable(file.fileno(), True)
        why, source = "replaced by --overwrite", f"{record.name} by BitTorrent"
        merge = Merge(self._versions, lambda _: Old.KEEP, why=why, source=source, mark="changed here")
        into = merge.into if record.on_existing == "overwrite" else None
        return staging.finish(keep_both=record.on_existing == "keep-both", into=into)

    async def _keep(self, session: BitTorrentSession) -> None:
        """Remember how far it is, so that the next run need not read everything again."""
        with contextlib.suppress(TimeoutError, CoterieError):
            session.keep(self.key)
            async with asyncio.timeout(LEAVE_S):
                kept = await self._expect(Kept)
            if kept.resume:
                write_private(self._resume, kept.resume)

    async def _leave(self) -> None:
        """Have the session let go of the files."""
        self._pieces.end()
        if self._session is not None and self._session.has(self.key):
            self._session.remove(self.key)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LEAVE_S):
                    while not isinstance(await self._inbox.get(), Removed):
                        pass

    async def _expect(self, kind: type[E]) -> E:
        """The next event of this kind.

        Raises:
            StorageError: the torrent cannot go on: its files stand in the way.
        """
        while True:
            event = await self._inbox.get()
            if isinstance(event, kind):
                return event
            if isinstance(event, Failed):
                raise StorageError(tr("BitTorrent stopped: {what}", what=event.what))

    # -- telling --

    async def _tick(self) -> None:
        beats = 0
        while True:
            await asyncio.sleep(BEAT_S)
            beats += 1
            if beats % KEEP_EVERY_BEATS == 0:
                with contextlib.suppress(StorageError):  # a full disk is told by the transfer itself
                    self._save_record(self.record)
            self._note_whether_alone()
            self._say(self._phase)

    def _moved(self, event: Moved) -> None:
        self.rate, self.sent, self.peers = float(event.down), event.sent, event.peers
        self.rates.note(asyncio.get_running_loop().time(), self.rate)
        if self._portion is not None:
            self._portion.take(max(event.got - self._got, 0), asyncio.get_running_loop().time())
            self._got = event.got
            self.adjust()
        self._phase = (
            "checking"
            if event.phase.startswith("checking")
            else ("looking" if event.phase == "downloading metadata" else "receiving")
        )
        if self._phase == "receiving":
            self.record.done = event.done
        if event.peers:
            self._met = time.monotonic()

    def _note_whether_alone(self) -> None:
        alone = self._phase != "checking" and time.monotonic() - self._met > ALONE_S
        self.record.note = f"nobody found yet. {self._reach}" if alone else ""

    def _say(self, phase: str) -> None:
        record = self.record
        step = Progress(
            phase=phase,
            done=record.done,
            total=record.size or None,
            unit="bytes",
            rate=round(self.rate) if self.rate else None,
            eta_s=self.eta_s,
            note=record.note,
        )
        for listener in self._listeners:
            listener(step)

    def _summary(self, path: Path, layout: Layout, seconds: float) -> Received:
        self.record.missing = len(layout.left_out)
        return Received(
            id=self.record.id,
            path=str(path),
            files=len(layout.wanted),
            size=layout.size,
            fetched=layout.size,
            seconds=round(seconds, 3),
            failed=[Problem(name, reason) for name, reason in layout.left_out],
            changed_names=[Problem(name, reason) for name, reason in layout.renamed],
        )

    def _set(self, state: TransferState, note: str) -> None:
        self.record.state, self.record.note = state, note
        self._save_record(self.record)

    @property
    def _metainfo(self) -> Path:
        return self._folder / f"{self.record.id}.torrent"

    @property
    def _resume(self) -> Path:
        return self._folder / f"{self.record.id}.resume"


def _make_empty(source: Source, layout: Layout, staged: Path) -> None:
    """Make the wanted files that are empty: there is nothing to fetch for them."""
    for file in source.files:
        if file.index in layout.wanted and not file.size:
            path = staged.joinpath(*layout.places[file.index])
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
