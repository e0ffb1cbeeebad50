"""The parts that work on jobs: made when the first printer is shared or known here, with a database and mail."""

import asyncio
from collections.abc import Callable

import msgspec

from coterie.apps.context import Context
from coterie.apps.printers.endpoint import Endpoint
from coterie.apps.printers.known import KnownPrinters
from coterie.apps.printers.letters import Hear, Letters
from coterie.apps.printers.operations import JobState
from coterie.apps.printers.quotas import Quotas
from coterie.apps.printers.records import SentJob, Settings, SharedPrinter, TakenJob
from coterie.apps.printers.results import JobLine, Printed
from coterie.apps.printers.sending import Sending
from coterie.apps.printers.sharing import Sharing
from coterie.apps.printers.taking import Taking, shown_jobs
from coterie.identity import PeerId
from coterie.moments import iso

SHOWN_MAX = 20  # of our jobs that are over
_WORDS = {
    JobState.PENDING: "waiting",
    JobState.HELD: "on hold",
    JobState.PROCESSING: "printing",
    JobState.STOPPED: "stopped",
    JobState.CANCELED: "cancelled",
    JobState.ABORTED: "failed",
    JobState.COMPLETED: "printed",
}


class Works:
    """Jobs here and elsewhere, letters about them, quotas. Made inside the node's event loop."""

    def __init__(self, context: Context, settings: Settings, sharing: Sharing, hear: Hear) -> None:
        self._context = context
        self._settings = settings
        self._letters: Letters | None = None
        self._hear = hear
        self._starting = asyncio.Lock()
        self._is_started = False
        self._endpoint: Endpoint | None = None
        self.quotas = Quotas(context)
        self.taking = Taking(context, settings, sharing, self.quotas, self.letters)
        self.sending = Sending(context, settings, self.letters)

    async def start(self) -> None:
        """Go on with the jobs of before; once."""
        async with self._starting:
            if self._is_started:
                return
            self.letters()
            self.taking.start()
            await self.sending.start()
            self._is_started = True

    def letters(self) -> Letters:
        """Those of this app."""
        if self._letters is None:
            self._letters = Letters(self._context, self._hear)
        return self._letters

    def endpoint(self, known: KnownPrinters) -> Endpoint:
        """The printers as programs see them."""
        if self._endpoint is None:
            spool = self._context.data.folder / "incoming"
            spool.mkdir(mode=0o700, parents=True, exist_ok=True)
            for left in spool.iterdir():
                left.unlink()
            self._endpoint = Endpoint(self.sending, known, spool, self._settings.document_bytes_max)
        return self._endpoint

    def lines(self, find: Callable[[str], SharedPrinter | None], known: KnownPrinters) -> list[JobLine]:
        """Jobs for printers here, then ours elsewhere."""
        me = str(self._context.me.peer_id)
        here = [
            self._line_of_taken(job, find(job.printer))
            for job in shown_jobs(self.taking.jobs)
            if job.sender != me
        ]
        sent = list(self.sending.jobs)
        over = [job for job in sent if JobState(job.state).is_over][-SHOWN_MAX:]
        ours = [
            self.line_of_sent(job, known) for job in sent if not JobState(job.state).is_over or job in over
        ]
        return [*here, *(JobLine(**msgspec.structs.asdict(line)) for line in ours)]

    def _line_of_taken(self, job: TakenJob, shared: SharedPrinter | None) -> JobLine:
        who = self._context.people.name_of(PeerId.parse(job.sender))
        return JobLine(
            id=job.id[:6],
            printer=shared.name if shared is not None else job.printer,
            who=f"{who} ({job.user})" if job.user else who,
            title=job.title,
            state=_WORDS[JobState(job.state)],
            pages=job.sides,
            pages_done=job.sides_done,
            created=iso(job.created),
            note=job.note,
            is_asking=job.step == "asking",
        )

    def line_of_sent(self, job: SentJob, known: KnownPrinters) -> Printed:
        """One of ours."""
        printer = next((p for p in known.printers() if (p.peer, p.printer) == (job.peer, job.printer)), None)
        return Printed(
            id=str(job.number),
            printer=known.said_name(printer) if printer is not None else job.name,
            who=job.user,
            title=job.title,
            state=_WORDS[JobState(job.state)],
            pages=job.sides,
            pages_done=job.sides_done,
            created=iso(job.created),
            note=job.note,
        )
