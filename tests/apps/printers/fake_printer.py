"""A real IPP printer of ours for tests: it prints into memory, and can be killed, restarted, and made slow."""

import asyncio
import contextlib
import hashlib
import socket
import uuid
from collections.abc import AsyncIterator, Coroutine

from coterie.apps.printers import ipp
from coterie.apps.printers.http import Request, Response, serve_http
from coterie.apps.printers.ipp import Attribute, Group, Ipp, attribute
from coterie.apps.printers.operations import JobState, Op, Status
from coterie.services.local.listeners import bound

FORMATS = ("application/pdf", "image/jpeg", "image/pwg-raster", "image/urf", "application/octet-stream")


class FakeJob:
    """One job there."""

    def __init__(self, number: int, title: str, user: str, template: tuple[Attribute, ...]) -> None:
        self.number, self.title, self.user, self.template = number, title, user, template
        self.uuid = uuid.uuid4().urn
        self.state = JobState.HELD
        self.document = b""
        self.sides = 0

    def attributes(self) -> tuple[Attribute, ...]:
        return (
            attribute("job-id", ipp.INTEGER, self.number),
            attribute("job-uri", ipp.URI, f"ipp://localhost/{self.number}"),
            attribute("job-uuid", ipp.URI, self.uuid),
            attribute("job-name", ipp.NAME, self.title),
            attribute("job-state", ipp.ENUM, self.state),
            attribute("job-state-reasons", ipp.KEYWORD, "none"),
            attribute("job-impressions-completed", ipp.INTEGER, self.sides),
        )


class FakePrinter:
    """`printed`: (digest of the document, title) in order; it forgets jobs, not paper, when it is killed.

    `seconds` each job takes; `sides`: what it says that a job had, None: nothing; `steps`: whether it knows Create-Job.
    """

    def __init__(self, *, seconds: float = 0.0, sides: int | None = None, steps: bool = True) -> None:
        self.seconds, self.sides, self.steps = seconds, sides, steps
        self.printed: list[tuple[str, str]] = []
        self.users: list[str] = []
        self.templates: list[dict[str, object]] = []
        self.jobs: dict[int, FakeJob] = {}
        self.formats: tuple[str, ...] = FORMATS
        self.identified = 0
        self.dies_at = -1  # bytes of a document after which it is killed
        self.port = 0
        self._server: socket.socket | None = None
        self._work: set[asyncio.Task[None]] = set()

    @property
    def uri(self) -> str:
        return f"ipp://127.0.0.1:{self.port}/ipp/print"

    async def start(self) -> None:
        self._server = bound(self.port, is_lan=False)
        self._server.listen(64)
        self.port = self._server.getsockname()[1]
        self._keep(self._accept(self._server))

    async def kill(self) -> None:
        """As by its switch: connections break, jobs are forgotten, also the one that is printed."""
        tasks, self._work = list(self._work), set()
        for task in tasks:
            task.cancel()
        if self._server is not None:
            self._server.close()
            self._server = None
        self.jobs.clear()

    def _keep(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.ensure_future(work)
        self._work.add(task)
        task.add_done_callback(self._work.discard)

    async def _accept(self, server: socket.socket) -> None:
        while True:
            accepted, _ = await asyncio.get_running_loop().sock_accept(server)
            accepted.setblocking(False)
            self._keep(serve_http(accepted, self._answer))

    async def _answer(self, request: Request) -> Response:
        head, found, document = ipp.Head(), None, b""
        async for part in request.body:
            if found is None:
                if (whole := head.feed(part)) is not None:
                    found, document = whole
            else:
                document += part
            if 0 <= self.dies_at <= len(document) and found is not None and document:
                self.dies_at = -1
                await self.kill()
                await asyncio.sleep(3600)
        assert found is not None
        status, groups = self._do(found, document)
        first = (
            attribute("attributes-charset", ipp.CHARSET, "utf-8"),
            attribute("attributes-natural-language", ipp.LANGUAGE, "en"),
        )
        answer = Ipp(status, found.request_id, (Group(ipp.OPERATION, first), *groups), found.version)
        return Response("200 OK", ipp.encode(answer))

    def _do(self, asked: Ipp, document: bytes) -> tuple[int, tuple[Group, ...]]:
        job = self.jobs.get(asked.first("job-id", otherwise=0))
        match asked.code:
            case Op.GET_PRINTER_ATTRIBUTES:
                return Status.OK, (Group(ipp.PRINTER, self.attributes()),)
            case Op.CREATE_JOB | Op.PRINT_JOB:
                job = FakeJob(
                    len(self.jobs) + 1,
                    asked.first("job-name", otherwise=""),
                    asked.first("requesting-user-name", otherwise=""),
                    asked.group(ipp.JOB).attributes,
                )
                self.jobs[job.number] = job
                if asked.code == Op.PRINT_JOB:
                    self._print(job, document)
                return Status.OK, (Group(ipp.JOB, job.attributes()),)
            case Op.IDENTIFY_PRINTER:
                self.identified += 1
                return Status.OK, ()
        if job is None:
            return Status.NOT_FOUND, ()
        match asked.code:
            case Op.SEND_DOCUMENT:
                self._print(job, document)
            case Op.CANCEL_JOB if job.state.is_over:
                return Status.NOT_POSSIBLE, ()
            case Op.CANCEL_JOB:
                job.state = JobState.CANCELED
                return Status.OK, ()
        return Status.OK, (Group(ipp.JOB, job.attributes()),)

    def _print(self, job: FakeJob, document: bytes) -> None:
        job.document, job.state = document, JobState.PROCESSING
        self._keep(self._put_on_paper(job))

    async def _put_on_paper(self, job: FakeJob) -> None:
        if self.seconds:
            await asyncio.sleep(self.seconds)
        if job.state is not JobState.CANCELED:
            self.printed.append((hashlib.sha256(job.document).hexdigest(), job.title))
            self.users.append(job.user)
            self.templates.append({a.name: a.first for a in job.template})
            job.sides = self.sides or 0
            job.state = JobState.COMPLETED

    def attributes(self) -> tuple[Attribute, ...]:
        operations = [op for op in Op if self.steps or op not in (Op.CREATE_JOB, Op.SEND_DOCUMENT)]
        return (
            attribute("printer-name", ipp.NAME, "fake"),
            attribute("printer-make-and-model", ipp.TEXT, "Fake Laser 1"),
            attribute("printer-state", ipp.ENUM, 3),
            attribute("operations-supported", ipp.ENUM, *operations),
            attribute("document-format-supported", ipp.MIME, *self.formats),
            attribute("copies-supported", ipp.RANGE, (1, 99)),
            attribute("sides-supported", ipp.KEYWORD, "one-sided", "two-sided-long-edge"),
            attribute("media-supported", ipp.KEYWORD, "iso_a4_210x297mm"),
            attribute("urf-supported", ipp.KEYWORD, "V1.4", "W8", "RS300"),
        )


@contextlib.asynccontextmanager
async def fake_printer(**options: object) -> AsyncIterator[FakePrinter]:
    """One that prints while the block runs."""
    printer = FakePrinter(**options)  # type: ignore[arg-type]
    await printer.start()
    try:
        yield printer
    finally:
        await printer.kill()


def a_pdf(pages: int = 1, mark: str = "") -> bytes:
    """A small valid PDF."""
    kids = " ".join(f"{3 + n} 0 R" for n in range(pages))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {pages} >>".encode(),
    ]
    objects += [b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] >>"] * pages
    raw, places = b"%PDF-1.4\n" + (f"% {mark}\n".encode() if mark else b""), []
    for number, body in enumerate(objects, 1):
        places.append(len(raw))
        raw += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = len(raw)
    raw += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    raw += b"".join(b"%010d 00000 n \n" % at for at in places)
    return raw + b"trailer << /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, table)
