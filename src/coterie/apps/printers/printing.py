"""One job on the real printer: printed once, or said that it may not have been.

A job is made there without its document first (Create-Job). What we know is on disk before each step: while the last
bytes of the document have not left, it cannot be printed, and all may begin again; afterwards only the printer can say.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from coterie.apps.context import Context
from coterie.apps.printers import ipp
from coterie.apps.printers.http import Unsaid
from coterie.apps.printers.ipp import Attribute
from coterie.apps.printers.operations import JobState, Op
from coterie.apps.printers.real import RealJob, RealPrinter
from coterie.apps.printers.records import SharedPrinter, TakenJob
from coterie.errors import CoterieError, NotFound, PeerError, TransportError
from coterie.texts import tr

POLL_S = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)  # between looks at a job that is printed; the last again and again
AGAIN_S = (1.0, 2.0, 5.0, 10.0, 30.0)  # after the printer was not reached
LOST = "the printer was switched off in the middle: look what it printed, and print again what is missing"
_OURS = frozenset(("job-hold-until", "job-password", "job-password-encryption", "job-name", "notify-events"))

log = logging.getLogger(__name__)


class Finish(Protocol):
    """What to do with a job that is over."""

    def __call__(
        self, job: TakenJob, state: JobState, note: str = "", *, reason: str = "", sides: int = 0
    ) -> None: ...


class Printing:
    """Prints jobs. `keep` writes one to disk, `finish` when it is over; `away`: see `Sharing`."""

    def __init__(
        self,
        context: Context,
        spool: Path,
        keep: Callable[[TakenJob], None],
        finish: Finish,
        away: dict[str, str],
    ) -> None:
        self._context = context
        self._spool = spool
        self._keep = keep
        self._finish = finish
        self._hurry: dict[str, asyncio.Event] = {}
        self._away = away

    def hurry(self, printer: str) -> None:
        """Something is new for the job that is being printed: do not wait."""
        self._hurry.setdefault(printer, asyncio.Event()).set()

    async def print(self, job: TakenJob, shared: SharedPrinter, user: str) -> None:
        """Until it is over."""
        real, failures = RealPrinter(shared.uri), 0
        while not _is_over(job):
            try:
                await self._go_on(job, shared, real, user)
                failures = 0
                self._away.pop(shared.id, None)
            except TransportError as error:
                if job.step in ("ready", "created") and self._is_given_up(job):
                    return
                self._away[shared.id] = str(error)
                self._note(job, str(error))
                await self._pause(shared.id, AGAIN_S[min(failures, len(AGAIN_S) - 1)])
                failures += 1
            except CoterieError as error:
                if not _is_over(job):
                    self._finish(job, JobState.ABORTED, str(error))
            except OSError as error:
                self._finish(
                    job, JobState.ABORTED, tr("its document cannot be read: {error}", error=str(error))
                )

    async def _go_on(self, job: TakenJob, shared: SharedPrinter, real: RealPrinter, user: str) -> None:
        if job.step == "created":  # by a try that did not end, or before a restart
            if await self._there(job, real, user) is not None:
                await real.cancel(job.printer_job, user)
            job.step, job.printer_job, job.printer_uuid = "ready", 0, ""
            self._keep(job)
        if job.step == "ready":
            if self._is_given_up(job):
                return
            await self._send(job, shared, real, user)
        if job.step == "sent":
            await self._follow(job, shared, real, user)

    def _is_given_up(self, job: TakenJob) -> bool:
        if job.is_canceling:
            self._finish(
                job, JobState.CANCELED, job.note, reason=(job.reasons or ["job-canceled-by-user"])[0]
            )
        elif job.expires < time.time():
            self._finish(job, JobState.ABORTED, tr("it was not printed in time"), reason="job-expired")
        return _is_over(job)

    async def _send(self, job: TakenJob, shared: SharedPrinter, real: RealPrinter, user: str) -> None:
        own = attributes_of(shared.attributes)
        template = [
            a for a in template_of(job.attributes) if f"{a.name}-supported" in own and a.name not in _OURS
        ]
        operations = own.get("operations-supported")
        known = {value.data for value in operations.values} if operations is not None else set()
        document = self._spool / job.id

        def is_leaving() -> None:
            job.step = "sent"
            self._keep(job)

        if Op.CREATE_JOB in known and Op.SEND_DOCUMENT in known:
            made = await real.create(job.title, user, template)
            job.step, job.printer_job, job.printer_uuid = "created", made.number, made.uuid
            self._keep(job)
            sending = real.send(made.number, user, job.format, document, is_leaving)
        else:
            sending = real.print(job.title, user, template, job.format, document, is_leaving)
        try:
            said = await sending
        except Unsaid:
            if job.printer_job:
                return  # the printer will say whether it has the document
            self._finish(job, JobState.ABORTED, tr(LOST))
            return
        except PeerError:
            if job.printer_job:
                await self._drop(job, real, user)
            raise
        job.printer_job = said.number or job.printer_job
        job.printer_uuid = said.uuid or job.printer_uuid
        job.state, job.reasons, job.note = JobState.PROCESSING, ["job-printing"], ""
        self._keep(job)

    async def _drop(self, job: TakenJob, real: RealPrinter, user: str) -> None:
        try:
            await real.cancel(job.printer_job, user)
        except CoterieError as error:
            log.info("the job %s stays at the printer: %s", job.id, error)

    async def _follow(self, job: TakenJob, shared: SharedPrinter, real: RealPrinter, user: str) -> None:
        looks, is_told = 0, False
        while True:
            if job.is_canceling and not is_told:
                await real.cancel(job.printer_job, user)
                is_told = True
            now = await self._there(job, real, user)
            self._away.pop(shared.id, None)
            if now is None:
                self._finish(job, JobState.ABORTED, tr(LOST))
                return
            if now.state.is_over:
                self._over(job, now)
                return
            self._progress(job, now.state, *now.reasons, note=now.message, sides=now.sides)
            await self._pause(shared.id, POLL_S[min(looks, len(POLL_S) - 1)])
            looks += 1

    def _over(self, job: TakenJob, now: RealJob) -> None:
        is_done = now.state is JobState.COMPLETED
        sides = max(0, now.sides) or (job.sides if is_done else 0)
        if is_done:
            self._finish(job, JobState.COMPLETED, sides=sides)
        elif job.is_canceling:
            self._finish(job, JobState.CANCELED, job.note, reason=(job.reasons or [""])[0], sides=sides)
        else:
            note = now.message or tr("the printer ended it: {reasons}", reasons=", ".join(now.reasons))
            self._finish(job, now.state, note, sides=sides)

    async def _there(self, job: TakenJob, real: RealPrinter, user: str) -> RealJob | None:
        """The printer's own job; None: it has none, or another one of that number."""
        if not job.printer_job:
            return None
        try:
            now = await real.job(job.printer_job, user)
        except NotFound:
            return None
        if job.printer_uuid and now.uuid:
            return now if now.uuid == job.printer_uuid else None
        return now if not now.name or now.name == job.title else None

    def _progress(
        self, job: TakenJob, state: JobState, *reasons: str, note: str = "", sides: int = 0
    ) -> None:
        if job.is_canceling:
            note, reasons = job.note, (*job.reasons,)
        state = JobState.PROCESSING if state is JobState.PENDING else state
        before = job.state, job.reasons, job.note, job.sides_done, job.printer_job
        job.state, job.reasons, job.note, job.sides_done = state, [*reasons][:16], note[:200], sides
        if before != (job.state, job.reasons, job.note, job.sides_done, job.printer_job):
            self._keep(job)

    def _note(self, job: TakenJob, note: str) -> None:
        if job.note != note[:200] and not job.is_canceling:
            job.note = note[:200]
            self._keep(job)

    async def _pause(self, printer: str, seconds: float) -> None:
        event = self._hurry.setdefault(printer, asyncio.Event())
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            pass
        event.clear()


def _is_over(job: TakenJob) -> bool:
    return job.step == "over"


def attributes_of(raw: bytes) -> dict[str, Attribute]:
    """What a printer said of itself, by name."""
    groups = ipp.decode_groups(raw) if raw else ()
    return {a.name: a for group in groups if group.tag == ipp.PRINTER for a in group.attributes}


def supported_formats(raw: bytes) -> tuple[str, ...]:
    """The formats of documents that the printer takes; () where it did not say."""
    found = attributes_of(raw).get("document-format-supported")
    return tuple(str(value.data) for value in found.values) if found is not None else ()


def template_of(raw: bytes) -> tuple[Attribute, ...]:
    """How a job is to be printed: the attributes of one IPP job group."""
    groups = ipp.decode_groups(raw) if raw else ()
    return next((group.attributes for group in groups if group.tag == ipp.JOB), ())
