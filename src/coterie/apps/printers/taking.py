"""The side that has the printers: jobs of others come in, are checked, fetched, printed in order, and counted."""

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from pathlib import Path

from coterie.access.resource import Verb
from coterie.apps.context import Context
from coterie.apps.printers import ipp
from coterie.apps.printers.documents import ANY, BEGIN_BYTES, UNDERSTOOD, count_sides, format_of
from coterie.apps.printers.letters import Letters
from coterie.apps.printers.messages import NOTE_CHARS_MAX, Change, Job, State
from coterie.apps.printers.operations import JobState
from coterie.apps.printers.printing import Printing, supported_formats, template_of
from coterie.apps.printers.quotas import Quotas
from coterie.apps.printers.records import Settings, SharedPrinter, TakenJob
from coterie.apps.printers.sharing import KIND, Sharing
from coterie.errors import AccessDenied, CoterieError, LimitExceeded, NotFound, TransportError, UsageError
from coterie.identity import PeerId
from coterie.services.data.records import Records
from coterie.texts import tr

FETCH_AGAIN_S = 30.0  # after a document could not be had from a computer that is there
LOOK_S = 60.0  # at jobs that have waited too long
KEPT_S = 31 * 86_400.0  # a job that is over is known so long: letters last 30 days
KEPT_MAX = 5_000
TELL_S = 30 * 86_400.0

log = logging.getLogger(__name__)


class Taking:
    """Jobs for the printers of this computer. All methods belong to the node's event loop."""

    def __init__(
        self,
        context: Context,
        settings: Settings,
        sharing: Sharing,
        quotas: Quotas,
        send: Callable[[], Letters],
    ) -> None:
        """`send()` gives the letters."""
        self._context = context
        self._settings = settings
        self._find = sharing.find
        self._quotas = quotas
        self._letters = send
        self.jobs: Records[TakenJob] = context.data.records("taken", TakenJob, "job", many=True)
        self._database = context.data.database([])
        self._spool = context.data.folder / "spool"
        self._work: set[str] = set()  # names of what runs: one of each at a time
        self.printing = Printing(context, self._spool, self._keep, self._finish, sharing.away)

    def start(self) -> None:
        """Go on with what was not over."""
        self._spool.mkdir(mode=0o700, parents=True, exist_ok=True)
        over = [job for job in self.jobs if job.step == "over"]
        for number, job in enumerate(reversed(over)):
            if number >= KEPT_MAX or job.created < time.time() - KEPT_S:
                self.jobs.remove(job.id)
        known = {job.id for job in self.jobs if job.step != "over"}
        for path in self._spool.iterdir():
            if path.name not in known:
                path.unlink()
        for job in self.jobs:
            if job.told != (job.state, job.note):
                self._tell(job)
            self._wake(job)

    # ---- what those who print want

    def take(self, sender: PeerId, wanted: Job) -> None:
        """A job of `sender`; the same again changes nothing."""
        id_ = id_of(sender, wanted.id)
        if any(job.id == id_ for job in self.jobs):
            return
        job = TakenJob(
            id=id_,
            created=time.time(),
            job=wanted.id,
            sender=str(sender),
            person=self._quotas.person_of(sender),
            printer=wanted.printer,
            title=_clean(wanted.title),
            user=_clean(wanted.user),
            format=wanted.format,
            size=wanted.size,
            content=wanted.content,
            attributes=wanted.attributes,
            sides=max(0, wanted.sides) * copies_of(wanted.attributes),
            expires=min(wanted.expires, time.time() + KEPT_S),
        )
        fault = self._fault(sender, job)
        if fault:
            self._finish(job, JobState.ABORTED, fault, reason="job-refused")
            return
        shared = self._find(job.printer)
        if shared is not None and shared.is_asking and sender != self._context.me.peer_id:
            job.step, job.state = "asking", JobState.HELD
            job.reasons, job.note = (
                ["job-held-for-authorization"],
                tr("waits until the owner of the printer approves it"),
            )
            self._keep(job)
            self._ask(job, shared)
        else:
            job.step = "wanted"
            self._keep(job)
        self._wake(job)

    def change(self, sender: PeerId, wanted: Change) -> None:
        """Cancel, hold or release a job of `sender`."""
        job = next((j for j in self.jobs if j.id == id_of(sender, wanted.id)), None)
        if job is None or job.step == "over":
            return
        match wanted.what:
            case "cancel":
                self._cancel(job, tr("cancelled by who printed it"))
            case "hold" if job.step in ("wanted", "ready"):
                job.is_held, job.state, job.reasons = True, JobState.HELD, ["job-hold-until-specified"]
                self._keep(job)
            case "release" if job.is_held:
                job.is_held, job.state, job.reasons = False, JobState.PENDING, []
                self._keep(job)
                self._wake(job)

    # ---- what the owner wants

    def approve(self, text: str) -> TakenJob:
        """Let a job that waits for the owner's word be printed. Raises `NotFound`, `UsageError`."""
        job = self.choose(text)
        if job.step != "asking":
            raise UsageError(tr("the job {job} waits for no word of yours", job=job.id[:6]))
        job.step, job.state, job.reasons, job.note = "wanted", JobState.PENDING, [], ""
        self._keep(job)
        self._context.tell.withdraw(KEY + job.id)
        self._wake(job)
        return job

    def refuse(self, text: str) -> TakenJob:
        """Do not print it. Raises as `approve`."""
        job = self.choose(text)
        if job.step != "asking":
            raise UsageError(tr("the job {job} waits for no word of yours", job=job.id[:6]))
        self._finish(
            job,
            JobState.CANCELED,
            tr("the owner of the printer refused it"),
            reason="job-canceled-by-operator",
        )
        return job

    def cancel(self, text: str) -> TakenJob:
        """End a job of whomever. Raises `NotFound`; UsageError: it is over."""
        job = self.choose(text)
        if job.step == "over":
            raise UsageError(tr("the job {job} is over already", job=job.id[:6]))
        self._cancel(job, tr("cancelled by the owner of the printer"), reason="job-canceled-by-operator")
        return job

    def choose(self, text: str) -> TakenJob:
        """The job whose id begins so. Raises `NotFound`, `UsageError`."""
        found = [job for job in self.jobs if text and job.id.startswith(text)]
        found = [job for job in found if job.step != "over"] or found
        if len(found) != 1:
            if found:
                raise UsageError(tr("'{text}' is the beginning of several jobs: write more of it", text=text))
            raise NotFound(tr("there is no job '{text}'; `coterie printer jobs` lists them", text=text))
        return found[0]

    def open_jobs(self, printer: str, person: str = "") -> list[TakenJob]:
        """Those that are not over."""
        return [
            j for j in self.jobs if j.step != "over" and j.printer == printer and person in ("", j.person)
        ]

    def end_printer(self, shared: SharedPrinter) -> None:
        """It is no longer shared: what waits for it is refused."""
        for job in self.open_jobs(shared.id):
            self._cancel(job, tr("this printer is no longer shared"), reason="job-canceled-by-operator")

    # ---- on the way

    def _fault(self, sender: PeerId, job: TakenJob) -> str:
        """Why a job is not taken, or ""."""
        shared, is_own = self._find(job.printer), sender == self._context.me.peer_id
        if not is_own:
            decision = self._context.access.decide(sender, Verb.USE, f"{KIND}/{job.printer}")
            if shared is None or not decision.allowed:
                return tr("there is no such printer, or it is not for this computer")
        if shared is None:
            return tr("there is no such printer")
        if not 0 < job.size <= self._settings.document_bytes_max:
            return tr("a document of {size} bytes is not taken there", size=job.size)
        waiting = [j for j in self.jobs if j.step != "over"]
        if len(waiting) >= self._settings.jobs_max:
            return tr("{jobs_max} jobs wait there already", jobs_max=self._settings.jobs_max)
        if sum(j.sender == job.sender for j in waiting) >= self._settings.jobs_of_peer_max:
            return tr(
                "{jobs_of_peer_max} jobs of this computer wait there already",
                jobs_of_peer_max=self._settings.jobs_of_peer_max,
            )
        known = supported_formats(shared.attributes)
        if known and job.format != ANY and job.format not in known:
            return tr("the printer does not take {format}", format=job.format)
        return (
            ""
            if is_own
            else self._quotas.fault(shared, job.person, job.sides, self.open_jobs(shared.id, job.person))
        )

    def _wake(self, job: TakenJob) -> None:
        if job.step == "over":
            return
        self._busy("look", self._look)
        if job.step in ("new", "wanted"):
            self._busy(f"fetch {job.sender}", partial(self._fetch_all, job.sender))
        elif job.step != "asking":
            self._busy(f"print {job.printer}", partial(self._print_all, job.printer))

    def _busy(self, name: str, work: Callable[[], Coroutine[None, None, None]]) -> None:
        if name not in self._work:
            self._work.add(name)
            self._context.jobs.start(self._until_idle(name, work), f"printers: {name}")

    async def _until_idle(self, name: str, work: Callable[[], Coroutine[None, None, None]]) -> None:
        try:
            await work()
        finally:
            self._work.discard(name)

    async def _look(self) -> None:
        """Give up what waits for too long."""
        while waiting := [job for job in self.jobs if job.step != "over"]:
            for job in waiting:
                if job.expires < time.time() and job.step not in ("created", "sent"):
                    self._finish(
                        job, JobState.ABORTED, tr("it was not printed in time"), reason="job-expired"
                    )
            await asyncio.sleep(LOOK_S)

    def _next(self, is_it: Callable[[TakenJob], bool]) -> TakenJob | None:
        return next((job for job in self.jobs if not job.is_held and is_it(job)), None)

    async def _fetch_all(self, sender: str) -> None:
        """The documents of one computer, one after another."""
        while job := self._next(lambda j: j.sender == sender and j.step in ("new", "wanted")):
            try:
                await self._fetch(job)
            except (TransportError, LimitExceeded) as error:
                job.note = str(error)[:NOTE_CHARS_MAX]
                await asyncio.sleep(FETCH_AGAIN_S)
            except CoterieError as error:
                if job.step != "over":
                    self._finish(job, JobState.ABORTED, str(error), reason="document-access-error")

    async def _fetch(self, job: TakenJob) -> None:
        place, sender = self._spool / job.id, PeerId.parse(job.sender)
        if sender == self._context.me.peer_id:
            await self._copy_own(job, place)
        else:
            async with self._context.blobs.fetched(job.content, [sender]) as path:
                if (await asyncio.to_thread(path.stat)).st_size != job.size:
                    raise UsageError(tr("the document has another size than was said"))
                await asyncio.to_thread(path.replace, place)
        if job.step == "over":
            place.unlink(missing_ok=True)
            return
        fault = await self._look_into(job, place)
        if fault:
            self._finish(job, JobState.ABORTED, fault, reason="document-format-error")
            return
        job.step, job.note = "ready", ""
        self._keep(job)
        self._wake(job)

    async def _copy_own(self, job: TakenJob, place: Path) -> None:
        with place.open("wb") as file:
            async for part in self._context.blobs.read(f"job/{job.job}"):
                await asyncio.to_thread(file.write, part)

    async def _look_into(self, job: TakenJob, place: Path) -> str:
        """Why the document is not printed, or "". Its sides are counted here: who sent it may have lied."""
        shared = self._find(job.printer)
        if shared is None:
            return tr("this printer is no longer shared")
        found = format_of(await asyncio.to_thread(_begin, place))
        if job.format != found and (job.format in UNDERSTOOD or found != ANY):
            if job.format != ANY:
                return tr("the document is {found}, not {format}", found=found, format=job.format)
            job.format = found
        known = supported_formats(shared.attributes)
        if known and job.format not in known:
            return tr("the printer does not take {format}", format=job.format)
        job.sides = max(1, await asyncio.to_thread(count_sides, place)) * copies_of(job.attributes)
        if job.sender == str(self._context.me.peer_id):
            return ""
        others = [
            j for j in self.open_jobs(shared.id, job.person) if j.id != job.id and j.created <= job.created
        ]
        return self._quotas.fault(shared, job.person, job.sides, others)

    async def _print_all(self, printer: str) -> None:
        """The jobs of one printer, one after another."""
        while job := self._next(lambda j: j.printer == printer and j.step in ("ready", "created", "sent")):
            shared, sender = self._find(printer), PeerId.parse(job.sender)
            is_own = sender == self._context.me.peer_id
            if shared is None:
                self._finish(job, JobState.ABORTED, tr("this printer is no longer shared"))
                continue
            if job.step == "ready" and not is_own:
                try:
                    self._context.access.decide(sender, Verb.USE, f"{KIND}/{printer}").require()
                except AccessDenied:
                    self._finish(job, JobState.ABORTED, tr("this computer may no longer use the printer"))
                    continue
            await self.printing.print(
                job, shared, self._context.people.name_of(sender) if not is_own else job.user
            )

    def _cancel(self, job: TakenJob, note: str, *, reason: str = "job-canceled-by-user") -> None:
        if job.step == "over":
            return
        if job.step in ("created", "sent"):
            job.is_canceling, job.note, job.reasons = True, note, [reason]
            self._keep(job)
            self.printing.hurry(job.printer)
            return
        self._finish(job, JobState.CANCELED, note, reason=reason)

    def _ask(self, job: TakenJob, shared: SharedPrinter) -> None:
        self._context.tell.say(
            tr(
                "{who} wants to print {title} ({sides} pages) on {printer}: coterie printer approve {job}",
                who=self._context.people.name_of(PeerId.parse(job.sender)),
                title=job.title,
                sides=job.sides,
                printer=shared.name,
                job=job.id[:6],
            ),
            key=KEY + job.id,
        )

    def _keep(self, job: TakenJob) -> None:
        """To disk, and to who printed it where the state is another."""
        self.jobs.save(job)
        if job.told != (job.state, job.note):
            self._tell(job)

    def _finish(
        self, job: TakenJob, state: JobState, note: str = "", *, reason: str = "", sides: int = 0
    ) -> None:
        """Once and for all: the pages are counted in the same moment."""
        was_asking = job.step == "asking"
        job.step, job.state, job.note, job.sides_done = "over", state, note[:NOTE_CHARS_MAX], sides
        job.reasons = [reason or _ENDED[state]]
        with self._database.transaction():
            self.jobs.save(job)
            if sides:
                self._quotas.add(job.printer, job.person, sides)
        (self._spool / job.id).unlink(missing_ok=True)
        if was_asking:
            self._context.tell.withdraw(KEY + job.id)
        self._tell(job)

    def _tell(self, job: TakenJob) -> None:
        self._context.jobs.start(self._told(job), "telling of a job")

    async def _told(self, job: TakenJob) -> None:
        said = State(job.job, job.state, list(job.reasons), job.note, job.sides_done)
        try:
            await self._letters().send(PeerId.parse(job.sender), said, lasts_s=TELL_S)
        except CoterieError as error:
            log.warning("%s does not hear what became of its job: %s", job.sender[:10], error)
            return
        job.told = (said.state, said.note)
        self.jobs.save(job)


_ENDED = {
    JobState.COMPLETED: "job-completed-successfully",
    JobState.ABORTED: "aborted-by-system",
    JobState.CANCELED: "job-canceled-by-user",
}
KEY = "job "  # how the keys of our notices begin; the id of the job is behind it


def id_of(sender: PeerId, job: str) -> str:
    """What a job is called here: others may call theirs the same."""
    return hashlib.blake2s(bytes(sender) + job.encode(), digest_size=10).hexdigest()


def copies_of(attributes: bytes) -> int:
    """Copies that a job asks for, 1 at least."""
    for one in template_of(attributes):
        if one.name == "copies" and one.values[0].tag == ipp.INTEGER:
            return max(1, min(int(one.first), 1_000_000))
    return 1


def _clean(text: str) -> str:
    """What may be shown and sent on: without what is no text."""
    shown = text.encode(errors="replace").decode()
    return "".join(c if c.isprintable() else "?" for c in shown)


def _begin(place: Path) -> bytes:
    with place.open("rb") as file:
        return file.read(BEGIN_BYTES)


def shown_jobs(jobs: Iterable[TakenJob]) -> list[TakenJob]:
    """Those that are not over, and the last that are."""
    ordered = list(jobs)
    over = [job for job in ordered if job.step == "over"][-20:]
    return [job for job in ordered if job.step != "over" or job in over]
