"""The side that prints: keeps documents and their letters until the printer has them, and knows how each job stands."""

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

from coterie.access.policy import of_peer
from coterie.access.resource import Verb
from coterie.apps.context import Context
from coterie.apps.printers import ipp
from coterie.apps.printers.documents import ANY, BEGIN_BYTES, UNDERSTOOD, count_sides, format_of
from coterie.apps.printers.ipp import Attribute, Group
from coterie.apps.printers.letters import Letters
from coterie.apps.printers.messages import ATTRIBUTES_BYTES_MAX, TITLE_CHARS_MAX, Change, Job, State, What
from coterie.apps.printers.operations import JobState
from coterie.apps.printers.records import KnownPrinter, SentJob, Settings
from coterie.errors import CoterieError, LimitExceeded, NotFound, UsageError
from coterie.identity import PeerId
from coterie.services.data.records import Records
from coterie.texts import tr

PRINT_KIND = "printjob"  # of resources: a document on its way
OPEN_MAX = 500  # of our jobs that are not over; guess: documents of a week
KEPT_MAX = 500  # that are over
LOOK_S = 60.0
WORD_S = 86_400.0  # after the end of a job without word from the printer's side: its letter may be late
INCOMING_S = 600.0  # for the document of a job: `multiple-operation-time-out` of our endpoint

log = logging.getLogger(__name__)


class WrongFormat(UsageError):
    """The document is of a format that the printer does not take."""


class Damaged(UsageError):
    """The document is not what it is said to be, or damaged."""


class Sending:
    """Our own jobs. All methods belong to the node's event loop."""

    def __init__(self, context: Context, settings: Settings, send: Callable[[], Letters]) -> None:
        """`send()` gives the letters."""
        self._context = context
        self._settings = settings
        self._letters = send
        self.jobs: Records[SentJob] = context.data.records("sent", SentJob, "job", many=True)
        self._number = max((job.number for job in self.jobs), default=0)
        self._changed = asyncio.Event()
        self._is_looking = False

    async def start(self) -> None:
        """Go on with what was not over."""
        for job in self.jobs:
            if job.state >= JobState.CANCELED:
                continue
            if job.is_incoming:  # its program does not know of it any more
                self._over(job, JobState.ABORTED, tr("this node was restarted before the document was whole"))
            else:
                self._give(job)
                if not job.is_posted and not job.is_held:
                    self._context.jobs.start(self._post(job), "a letter with a job")
                self._look()
        names = await self._context.blobs.names("job/")
        open_ids = {job.id for job in self.jobs if job.state < JobState.CANCELED}
        for name in names:
            if name.removeprefix("job/") not in open_ids:
                await self._context.blobs.unpin(name)

    def begin(
        self,
        printer: KnownPrinter,
        title: str,
        user: str,
        template: Sequence[Attribute] = (),
        *,
        via: str = "",
        is_held: bool = False,
    ) -> SentJob:
        """A job, whose document comes next.

        Raises:
            LimitExceeded: OPEN_MAX wait.
            UsageError: more attributes than a letter has room for.
        """
        if sum(job.state < JobState.CANCELED for job in self.jobs) >= OPEN_MAX:
            raise LimitExceeded(tr("{open_max} jobs of this computer wait already", open_max=OPEN_MAX))
        attributes = ipp.encode_group(Group(ipp.JOB, tuple(template))) + bytes([ipp.END])
        if len(attributes) > ATTRIBUTES_BYTES_MAX:
            raise UsageError(
                tr("the attributes of this job are over {bytes_max} bytes", bytes_max=ATTRIBUTES_BYTES_MAX)
            )
        self._number += 1
        now = time.time()
        job = SentJob(
            id=secrets.token_hex(16),
            created=now,
            number=self._number,
            peer=printer.peer,
            printer=printer.printer,
            name=printer.name,
            title=title[:TITLE_CHARS_MAX] or "Untitled",
            user=user[:TITLE_CHARS_MAX],
            format=ANY,
            attributes=attributes,
            expires=now + self._settings.lasts_days * 86_400,
            via=via,
            is_held=is_held,
            state=JobState.HELD if is_held else JobState.PENDING,
            reasons=["job-incoming"],
        )
        self.jobs.save(job)
        self._look()
        return job

    async def finish(self, job: SentJob, document: Path, kind: str, supported: Sequence[str]) -> None:
        """Its document is whole: look what it is, keep it, and write to who has the printer.

        Raises:
            WrongFormat, Damaged: it is not printed; the job is over.
            LimitExceeded: it is too large, or there is no room; the job is over.
        """
        try:
            await self._check(job, document, kind, supported)
            job.content = await self._context.blobs.put(document, f"job/{job.id}")
        except CoterieError as error:
            self._over(job, JobState.ABORTED, str(error))
            raise
        if job.state >= JobState.CANCELED:
            await self._context.blobs.unpin(f"job/{job.id}")
            return
        job.is_incoming = False
        job.state, job.reasons = (
            (JobState.HELD, ["job-hold-until-specified"]) if job.is_held else (JobState.PENDING, ["none"])
        )
        self._save(job)
        self._give(job)
        if not job.is_held:
            await self._post(job)

    async def _check(self, job: SentJob, document: Path, kind: str, supported: Sequence[str]) -> None:
        job.size = (await asyncio.to_thread(document.stat)).st_size
        if not job.size:
            raise Damaged(tr("the document is empty"))
        if job.size > self._settings.document_bytes_max:
            raise LimitExceeded(
                tr("a document of {size} bytes is too large to print from here", size=job.size)
            )
        found = format_of(await asyncio.to_thread(_begin, document))
        if kind in UNDERSTOOD and found != kind:
            raise Damaged(tr("the document is no {kind}", kind=kind))
        job.format = found if kind == ANY else kind
        if supported and job.format not in supported:
            raise WrongFormat(
                tr(
                    "the printer does not take {format}; it takes {supported}",
                    format=job.format,
                    supported=", ".join(supported),
                )
            )
        try:
            job.sides = await asyncio.to_thread(count_sides, document) if job.format in UNDERSTOOD else 0
        except UsageError as error:
            raise Damaged(str(error)) from None

    async def change(self, job: SentJob, what: What) -> None:
        """Cancel, hold or release it; when this returns it is done here, and written to who has the printer.

        Raises:
            UsageError: it is over, or that cannot be done to it now.
        """
        if job.state >= JobState.CANCELED:
            raise UsageError(tr("the job {number} is over already", number=job.number))
        if what == "release" and not job.is_held:
            raise UsageError(tr("the job {number} is not held", number=job.number))
        if what == "hold" and (job.state > JobState.HELD or job.is_incoming):
            raise UsageError(tr("the job {number} is being printed already", number=job.number))
        job.is_held = what == "hold"
        if what == "cancel":
            peer = PeerId.parse(job.peer)
            if job.is_posted and (peer == self._context.me.peer_id or self._context.people.is_here(peer)):
                # the printer's side says when it has ended
                job.reasons = ["processing-to-stop-point"]
                self._save(job)
            else:
                self._over(job, JobState.CANCELED, "", reason="job-canceled-by-user")
        else:
            job.state, job.reasons = (
                (JobState.HELD, ["job-hold-until-specified"]) if job.is_held else (JobState.PENDING, ["none"])
            )
            self._save(job)
        if job.is_posted:
            await self._send(job, Change(job.id, what))
        elif what == "release" and not job.is_incoming:
            await self._post(job)

    def hear(self, sender: PeerId, said: State) -> None:
        """The side of the printer says how a job stands."""
        job = next((j for j in self.jobs if j.id == said.id and j.peer == str(sender)), None)
        if job is None:
            return
        state = JobState(said.state)
        if job.state >= JobState.CANCELED:
            if job.state == JobState.COMPLETED or state is not JobState.COMPLETED:
                return
            log.info("the job %s was printed although it was given up here", job.number)
        if state.is_over:
            reason = said.reasons[0] if said.reasons else ""
            self._over(job, state, said.note, reason=reason, sides=said.sides)
            return
        job.state, job.reasons, job.note, job.sides_done = (
            state,
            said.reasons or ["none"],
            said.note,
            said.sides,
        )
        if state is JobState.PROCESSING and not job.processing:
            job.processing = time.time()
        self._save(job)

    def choose(self, text: str) -> SentJob:
        """The job of this number or id. Raises `NotFound`."""
        found = [j for j in self.jobs if text in (str(j.number), j.id)]
        if not found:
            raise NotFound(tr("there is no job '{text}'; `coterie printer jobs` lists them", text=text))
        return found[-1]

    async def changes(self, job: SentJob) -> AsyncIterator[SentJob]:
        """The job now, and whenever it has changed, until it is over."""
        while True:
            event = self._changed
            yield job
            if job.state >= JobState.CANCELED:
                return
            await event.wait()

    def expect(self, job: SentJob) -> None:
        """Its document must come soon."""
        if job.is_incoming and job.created + INCOMING_S < time.time():
            self._over(job, JobState.ABORTED, tr("its document did not come"), reason="aborted-by-system")

    def forget(self, job: SentJob, error: BaseException) -> None:
        """Its document could not be read to the end."""
        if job.state < JobState.CANCELED:
            self._over(job, JobState.ABORTED, str(error) or tr("its document did not come"))

    async def _post(self, job: SentJob) -> None:
        printed = Job(
            id=job.id,
            printer=job.printer,
            title=job.title,
            user=job.user,
            format=job.format,
            size=job.size,
            content=job.content,
            attributes=job.attributes,
            sides=job.sides,
            expires=job.expires,
        )
        job.is_posted = True
        try:
            await self._send(job, printed)
        except CoterieError as error:
            self._over(job, JobState.ABORTED, str(error))
            raise
        self.jobs.save(job)

    async def _send(self, job: SentJob, message: Job | Change) -> None:
        left_s = min(max(60.0, job.expires - time.time()), 30 * 86_400.0)
        await self._letters().send(PeerId.parse(job.peer), message, lasts_s=left_s)

    def _give(self, job: SentJob) -> None:
        if job.peer == str(self._context.me.peer_id):
            return
        resource = f"{PRINT_KIND}/{job.id}"
        self._context.access.policy.permit(of_peer(PeerId.parse(job.peer)), Verb.READ, resource)
        self._context.blobs.give(f"job/{job.id}", resource)

    def _over(self, job: SentJob, state: JobState, note: str, *, reason: str = "", sides: int = 0) -> None:
        was_incoming, job.is_incoming = job.is_incoming, False
        job.state, job.note, job.sides_done, job.completed = state, note[:500], sides, time.time()
        job.reasons = [reason or "aborted-by-system"]
        self._save(job)
        if not was_incoming:
            self._context.blobs.give_no_more(f"job/{job.id}")
            self._context.access.policy.withdraw(f"{PRINT_KIND}/{job.id}")
            self._context.jobs.start(self._unpin(job), "letting go of a printed document")
        over = [j for j in self.jobs if j.state >= JobState.CANCELED]
        for old in over[:-KEPT_MAX]:
            self.jobs.remove(old.id)

    async def _unpin(self, job: SentJob) -> None:
        with contextlib.suppress(CoterieError):
            await self._context.blobs.unpin(f"job/{job.id}")

    def _save(self, job: SentJob) -> None:
        self.jobs.save(job)
        self._changed.set()
        self._changed = asyncio.Event()

    def _look(self) -> None:
        if not self._is_looking:
            self._is_looking = True
            self._context.jobs.start(self._look_after(), "printers: own jobs")

    async def _look_after(self) -> None:
        """Give up what nobody spoke of for too long."""
        while waiting := [job for job in self.jobs if job.state < JobState.CANCELED]:
            for job in waiting:
                self.expect(job)
                if (
                    job.expires + (WORD_S if job.is_posted else 0) < time.time()
                    and job.state < JobState.CANCELED
                ):
                    self._over(job, JobState.ABORTED, tr("it was not printed in time"), reason="job-expired")
            await asyncio.sleep(LOOK_S)
        self._is_looking = False


def _begin(place: Path) -> bytes:
    with place.open("rb") as file:
        return file.read(BEGIN_BYTES)
