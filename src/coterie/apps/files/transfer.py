"""One transfer from its first connection to its final name, through every interruption between."""

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Literal

from coterie.apps.app import Context
from coterie.apps.command import Progress
from coterie.apps.files.fetch import Fetch, open_share
from coterie.apps.files.messages import Opened
from coterie.apps.files.receive import Receiver
from coterie.apps.files.records import TransferRecord
from coterie.apps.files.results import Problem, Received
from coterie.content.names import local_names, name_fault
from coterie.content.writer import TargetExists
from coterie.errors import CloseCode, CoterieError, PeerError, StorageError, TransportError, UsageError
from coterie.net import Connection, Stream
from coterie.wire import Ticket

log = logging.getLogger(__name__)

OnExisting = Literal["fail", "overwrite", "keep-both"]
Session = tuple[Connection, Stream]

RETRY_S = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)  # guess: at once for a restart, then gently
TICK_S = 0.2  # progress
SAVE_EVERY_TICKS = 25
RATE_MEMORY = 0.8  # weight of the past in the shown rate, per tick
FATAL_CODES = frozenset(
    {
        CloseCode.PROTOCOL_VIOLATION,
        CloseCode.LIMIT,
        CloseCode.REFUSED,
        CloseCode.VERSION,
        CloseCode.REVOKED,
    }
)


class TransferState(StrEnum):
    """Where a transfer stands."""

    RUNNING = "running"
    WAITING = "waiting"  # for the other computer to come back
    PAUSED = "paused"
    FAILED = "failed"
    DONE = "done"


def suggested_name(opened: Opened, ticket: Ticket) -> str:
    """What to call a share where nobody named it: as the other side does, where that is harmless.

    Not with a dot in front: what is hidden in a home folder configures programs (".profile", ".ssh").
    """
    name = "" if name_fault(opened.name) else opened.name.lstrip(".")
    return local_names([name or f"coterie-{ticket.content_id.hex()[:12]}"], windows=os.name == "nt")[0]


class Transfer:
    """Runs one `TransferRecord`. `result` ends with what was received, or with the error."""

    def __init__(
        self, context: Context, record: TransferRecord, save: Callable[[TransferRecord], None]
    ) -> None:
        self.record = record
        self.rate = 0.0
        self.result: asyncio.Future[Received] = asyncio.get_running_loop().create_future()
        self.result.add_done_callback(
            lambda r: None if r.cancelled() else r.exception()
        )  # it is told elsewhere too
        self._context = context
        self._save_record = save
        self._ticket = Ticket.parse(record.ticket)
        self._receiver = Receiver(
            self._ticket,
            Path(record.target),
            (record.files, record.size),
            mtime_ns=record.mtime_ns,
            executable=record.executable,
            store=context.store,
        )
        self._listeners: list[Callable[[Progress], None]] = []
        self._task: asyncio.Task[None] | None = None
        self._stopped = False

    @property
    def content_id(self) -> bytes:
        """What is fetched."""
        return self._ticket.content_id

    @staticmethod
    async def open(context: Context, ticket: Ticket) -> tuple[Connection, Stream, Opened]:
        """Connect to the ticket's peer and open its share."""
        connection = await context.connect(ticket.peer, ticket.addresses)
        stream, opened = await open_share(connection, ticket)
        return connection, stream, opened

    @staticmethod
    def place(target: Path, opened: Opened, ticket: Ticket) -> Path:
        """The final path: `target` itself, or inside it when it is a folder."""
        if target.is_dir():
            return target / suggested_name(opened, ticket)
        if not target.parent.is_dir():
            raise UsageError(f"there is no folder {target.parent} to put '{target.name}' into")
        return target

    def check_target(self) -> None:
        """Raise `TargetExists` when something is there and nothing was said about it."""
        if self.record.on_existing == "fail" and os.path.lexists(self.record.target):
            raise TargetExists(
                f"{self.record.target} exists already; --overwrite replaces it, --keep-both makes a second one"
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
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if not keep_state and self.record.state in (TransferState.RUNNING, TransferState.WAITING):
            self._set(TransferState.PAUSED, note)
        if not self.result.done():
            self.result.set_exception(UsageError(f"transfer {self.record.id} was stopped: {note}"))

    async def run(self, opened: Session | None) -> None:
        """Fetch, through any number of broken links, then give the result its final name."""
        self._task = asyncio.current_task()
        if self._stopped:
            return
        self._set(TransferState.RUNNING, "")
        began = time.monotonic()
        ticker = asyncio.ensure_future(self._tick())
        try:
            await self._fetch(opened)
            ticker.cancel()
            self.rate, self.record.done = 0.0, self._receiver.done_bytes
            self._tell("finishing")
            finished = await asyncio.to_thread(self._receiver.finish, self.record.on_existing)
        except StorageError as error:
            self._set(TransferState.PAUSED, str(error))
            self.result.set_exception(error)
        except CoterieError as error:
            self._set(TransferState.FAILED, str(error))
            self.result.set_exception(error)
        except Exception as error:
            log.exception("transfer %s failed unexpectedly", self.record.id)
            self._set(TransferState.FAILED, f"an error of coterie itself: {error!r}; its log has the details")
            self.result.set_exception(error)
        else:
            self.record.target = str(finished.path)
            self.record.done = self._receiver.done_bytes
            failed = [Problem(path, reason) for path, reason in finished.failed]
            self._set(TransferState.DONE, f"{len(failed)} not received" if failed else "")
            self.result.set_result(
                Received(
                    id=self.record.id,
                    path=str(finished.path),
                    files=self._receiver.files,
                    size=self._receiver.done_bytes,
                    fetched=self._receiver.fetched_bytes,
                    reused=self._receiver.reused_bytes,
                    seconds=round(time.monotonic() - began, 3),
                    failed=failed,
                    changed_names=[Problem(path, reason) for path, reason in finished.renamed],
                )
            )
        finally:
            ticker.cancel()
            self._receiver.close()

    async def _fetch(self, opened: Session | None) -> None:
        fetch = Fetch(self._ticket, self._receiver)
        tries = 0
        try:
            while True:
                connection: Connection | None = None
                before = self._receiver.fetched_bytes
                try:
                    if opened is None:
                        connection, stream, _ = await self.open(self._context, self._ticket)
                    else:
                        connection, stream = opened
                        opened = None
                    self._set(TransferState.RUNNING, "")
                    await fetch.session(connection, stream)
                    await stream.finish()
                    return
                except (TransportError, PeerError) as error:
                    if isinstance(error, PeerError) and error.close_code in FATAL_CODES:
                        if connection is not None:
                            await stream.reset(error.close_code)
                        raise
                    if connection is not None:
                        connection.close(CloseCode.TIMEOUT, "trying again")
                    tries = 0 if self._receiver.fetched_bytes > before else tries + 1
                    await self._wait(error, RETRY_S[min(tries, len(RETRY_S) - 1)])
        finally:
            await fetch.close()

    async def _wait(self, error: Exception, seconds: float) -> None:
        self.rate = 0.0
        self._set(TransferState.WAITING, f"{error}; next try in {seconds:.0f} s")
        await asyncio.sleep(seconds)

    async def _tick(self) -> None:
        ticks, last = 0, self._receiver.fetched_bytes
        while True:
            await asyncio.sleep(TICK_S)
            ticks += 1
            now = self._receiver.fetched_bytes
            seen = (now - last) / TICK_S
            self.rate = RATE_MEMORY * self.rate + (1 - RATE_MEMORY) * seen if self.rate else seen
            last = now
            self.record.done = self._receiver.done_bytes
            self.record.fetched = now
            if ticks % SAVE_EVERY_TICKS == 0:
                with contextlib.suppress(StorageError):  # a full disk is told by the transfer itself
                    self._save_record(self.record)
            self._tell("waiting" if self.record.state == TransferState.WAITING else "receiving")

    def _tell(self, phase: str) -> None:
        left = max(self.record.size - self.record.done, 0)
        step = Progress(
            phase=phase,
            done=self.record.done,
            total=self.record.size,
            unit="bytes",
            rate=round(self.rate) if self.rate else None,
            eta_s=round(left / self.rate, 1) if self.rate > 1 else None,
            note=self.record.note,
        )
        for listener in self._listeners:
            listener(step)

    def _set(self, state: TransferState, note: str) -> None:
        self.record.state, self.record.note = state, note
        self._save_record(self.record)
