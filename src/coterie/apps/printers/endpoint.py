"""Printers for programs: an IPP printer at a port here for each one that we may use, ours and those of others.

Requests are understood here, documents and jobs are `Sending`'s. What is refused has the status that IPP has for it.
"""

import asyncio
import functools
import html
import os
import socket
import struct
import tempfile
import time
import uuid
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Protocol

from coterie.apps.printers import ipp
from coterie.apps.printers.answers import (
    COMPRESSIONS,
    Facts,
    job_attributes,
    printer_attributes,
    unsupported,
    wanted,
    wanted_of_job,
)
from coterie.apps.printers.documents import ANY
from coterie.apps.printers.http import Request, Response, serve_http
from coterie.apps.printers.ipp import Attribute, Group, Ipp, attribute
from coterie.apps.printers.operations import JobState, Op, PrinterState, Status
from coterie.apps.printers.printing import attributes_of
from coterie.apps.printers.records import KnownPrinter, SentJob
from coterie.apps.printers.sending import Damaged, Sending, WrongFormat
from coterie.errors import CoterieError, LimitExceeded, NotFound, PeerError, StorageError, UsageError
from coterie.services.local.web_pages import is_own_host
from coterie.texts import tr

PATH, ICON = "/ipp/print/", "/icon.png"
JOBS_SHOWN_MAX = 1_000
_WITH_DOCUMENT = (Op.PRINT_JOB, Op.SEND_DOCUMENT)
_JOB_DEFAULTS = ("job-id", "job-uri")  # of Get-Jobs (RFC 8011, 4.2.6.1)


class Queues(Protocol):
    """The printers of an endpoint."""

    def printers(self) -> Iterable[KnownPrinter]:
        """All that this computer may use."""
        ...

    def said_name(self, printer: KnownPrinter) -> str:
        """COMPUTER/NAME, for people."""
        ...

    def state_of(self, printer: KnownPrinter) -> tuple[PrinterState, tuple[str, ...]]:
        """What it does, and its reasons."""
        ...

    async def attributes(self, printer: KnownPrinter) -> bytes:
        """What it says of itself. Raises `CoterieError` where it was never reached."""
        ...

    async def identify(self, printer: KnownPrinter) -> None: ...


class _Fault(Exception):
    """What a request is answered instead of success."""

    def __init__(self, status: Status, said: str = "", attributes: Iterable[Attribute] = ()) -> None:
        super().__init__(said)
        self.status = status
        self.attributes = tuple(attributes)


class Endpoint:
    """Answers programs. All methods belong to the node's event loop."""

    def __init__(self, sending: Sending, queues: Queues, spool: Path, bytes_max: int) -> None:
        """`spool`: where documents lie while they come; `bytes_max`: of one."""
        self._sending = sending
        self._queues = queues
        self._spool = spool
        self._bytes_max = bytes_max
        self._started = time.time()
        self._operations: dict[int, Answering] = {
            Op.GET_PRINTER_ATTRIBUTES: self._get_printer,
            Op.PRINT_JOB: self._print,
            Op.VALIDATE_JOB: self._validate,
            Op.CREATE_JOB: self._create,
            Op.SEND_DOCUMENT: self._send_document,
            Op.CLOSE_JOB: self._close_job,
            Op.CANCEL_JOB: partial(self._change, "cancel"),
            Op.HOLD_JOB: partial(self._change, "hold"),
            Op.RELEASE_JOB: partial(self._change, "release"),
            Op.CANCEL_MY_JOBS: self._cancel_mine,
            Op.GET_JOB_ATTRIBUTES: self._get_job,
            Op.GET_JOBS: self._get_jobs,
            Op.IDENTIFY_PRINTER: self._identify,
        }

    async def serve(self, number: Callable[[], int], only: str, program: socket.socket) -> None:
        """One connection of a program to the port `number()`; `only`: the label of its one printer, "" for all."""
        await serve_http(program, partial(self._answer, number, only))

    async def _answer(self, number: Callable[[], int], only: str, request: Request) -> Response:
        host = request.headers.get("host", "")
        if request.method == "GET":
            is_ours = is_own_host(host, number(), is_lan=bool(only)) or (only and ".local" in host)
            return self._page(request.path, only) if is_ours else Response("403 Forbidden", b"", "text/plain")
        if request.method != "POST" or request.headers.get("content-type", "").lower() != "application/ipp":
            return Response("400 Bad Request", b"this is a printer: it speaks IPP\n", "text/plain")
        if "origin" in request.headers or "sec-fetch-site" in request.headers:
            return Response("403 Forbidden", b"no page of the web may print here\n", "text/plain")
        asked = await _asked(request)
        if asked is None:
            return Response("400 Bad Request", b"this is no IPP message\n", "text/plain")
        asked.only, asked.host = only, host or f"localhost:{number()}"
        return Response("200 OK", await self._reply(asked))

    async def _reply(self, asked: "_Asked") -> bytes:
        message, status, said = asked.message, Status.OK, ""
        groups: tuple[Group, ...] = ()
        try:
            _check(message)
            answering = self._operations.get(message.code)
            if answering is None:
                raise _Fault(Status.OPERATION_NOT_SUPPORTED, tr("this printer does not do that"))
            asked.printer = self._printer_of(asked)
            if message.code not in _WITH_DOCUMENT:
                async for _ in asked.document:
                    raise _Fault(Status.BAD_REQUEST, tr("a document where none belongs"))
            status, groups = await answering(asked)
        except _Fault as fault:
            status, said = fault.status, str(fault)
            groups = (Group(ipp.UNSUPPORTED, fault.attributes),) if fault.attributes else ()
        except CoterieError as error:
            status, said = _status_of(error), str(error)
        except OSError as error:
            status, said = Status.TEMPORARY_ERROR, str(error.strerror)
        first = [
            attribute("attributes-charset", ipp.CHARSET, "utf-8"),
            attribute("attributes-natural-language", ipp.LANGUAGE, "en"),
        ]
        first += [attribute("status-message", ipp.TEXT, said[:255])] if said else []
        version = message.version if message.version[0] in (1, 2) else (2, 0)
        return ipp.encode(
            Ipp(status, message.request_id, (Group(ipp.OPERATION, tuple(first)), *groups), version)
        )

    # ---- operations

    async def _get_printer(self, asked: "_Asked") -> "Answered":
        attributes = await self._attributes(asked)
        requested = [str(name) for name in asked.message.all("requested-attributes")]
        return Status.OK, (Group(ipp.PRINTER, wanted(attributes.values(), requested)),)

    async def _validate(self, asked: "_Asked") -> "Answered":
        ignored, _, _ = await self._judged(asked)
        return _with_ignored(ignored)

    async def _print(self, asked: "_Asked") -> "Answered":
        ignored, template, is_held = await self._judged(asked)
        job = self._begin(asked, template, is_held=is_held)
        await self._take(asked, job)
        status, groups = _with_ignored(ignored)
        return status, (*groups, self._short(asked, job))

    async def _create(self, asked: "_Asked") -> "Answered":
        ignored, template, is_held = await self._judged(asked)
        job = self._begin(asked, template, is_held=is_held)
        status, groups = _with_ignored(ignored)
        return status, (*groups, self._short(asked, job))

    async def _send_document(self, asked: "_Asked") -> "Answered":
        job = self._own_job(asked)
        last = asked.message.first("last-document")
        if not isinstance(last, bool):
            raise _Fault(Status.BAD_REQUEST, tr("last-document is missing"))
        if not job.is_incoming or job.state >= JobState.CANCELED:
            raise _Fault(Status.NOT_POSSIBLE, tr("the job {number} takes no document", number=job.number))
        self._format(asked, await self._attributes(asked))
        await self._take(asked, job)
        return Status.OK, (self._short(asked, job),)

    async def _close_job(self, asked: "_Asked") -> "Answered":
        job = self._own_job(asked)
        if job.is_incoming:
            await self._sending.change(job, "cancel")  # a job without a document
        return Status.OK, ()

    async def _change(self, what: str, asked: "_Asked") -> "Answered":
        job = self._own_job(asked)
        try:
            await self._sending.change(job, what)  # type: ignore[arg-type]  # one of the three of the table
        except UsageError as error:
            raise _Fault(Status.NOT_POSSIBLE, str(error)) from None
        return Status.OK, ()

    async def _cancel_mine(self, asked: "_Asked") -> "Answered":
        numbers = asked.message.all("job-ids")
        mine = [job for job in self._jobs(asked) if job.user == asked.user and job.state < JobState.CANCELED]
        missing = [number for number in numbers if number not in {job.number for job in mine}]
        if missing:
            raise _Fault(Status.NOT_POSSIBLE, "", [attribute("job-ids", ipp.INTEGER, *missing)])
        for job in mine:
            if not numbers or job.number in numbers:
                await self._sending.change(job, "cancel")
        return Status.OK, ()

    async def _get_job(self, asked: "_Asked") -> "Answered":
        job = self._job(asked)
        requested = [str(name) for name in asked.message.all("requested-attributes")]
        return Status.OK, (Group(ipp.JOB, wanted_of_job(self._described(asked, job), requested)),)

    async def _get_jobs(self, asked: "_Asked") -> "Answered":
        which = asked.message.first("which-jobs", otherwise="not-completed")
        limit = asked.message.first("limit", otherwise=JOBS_SHOWN_MAX)
        if which not in ("completed", "not-completed"):
            found = asked.message.group(ipp.OPERATION).get("which-jobs")
            raise _Fault(Status.ATTRIBUTES_NOT_SUPPORTED, "", [found] if found else [])
        if not isinstance(limit, int) or limit < 1:
            raise _Fault(Status.BAD_REQUEST, tr("a limit of 1 at least"))
        jobs = [job for job in self._jobs(asked) if JobState(job.state).is_over == (which == "completed")]
        numbers = asked.message.all("job-ids")
        if numbers:  # whatever their state (PWG 5100.11, 7.3)
            jobs = [job for job in self._jobs(asked) if job.number in numbers]
        if asked.message.first("my-jobs", otherwise=False) is True:
            jobs = [job for job in jobs if job.user == asked.user]
        if which == "completed":
            jobs.reverse()  # the newest first (RFC 8011, 4.2.6.2)
        requested = [str(name) for name in asked.message.all("requested-attributes")] or _JOB_DEFAULTS
        return Status.OK, tuple(
            Group(ipp.JOB, wanted_of_job(self._described(asked, job), requested))
            for job in jobs[: min(limit, JOBS_SHOWN_MAX)]
        )

    async def _identify(self, asked: "_Asked") -> "Answered":
        await self._queues.identify(asked.printer)
        return Status.OK, ()

    # ---- parts of them

    async def _attributes(self, asked: "_Asked") -> dict[str, Attribute]:
        printer = asked.printer
        raw = await self._queues.attributes(printer)
        state, reasons = self._queues.state_of(printer)
        facts = Facts(
            uri=self._uri(asked),
            uuid=uuid.uuid5(uuid.NAMESPACE_URL, f"{printer.peer}/{printer.printer}").urn,
            page=f"http://{asked.host}/{printer.label}",
            icon=f"http://{asked.host}{ICON}",
            name=printer.label,
            info=self._queues.said_name(printer),
            up_s=self._up_s(),
            date=_date_time(time.time()),
            queued=sum(not JobState(job.state).is_over for job in self._jobs(asked)),
            state=state,
            reasons=reasons,
        )
        return printer_attributes(attributes_of(raw), facts)

    async def _judged(self, asked: "_Asked") -> tuple[list[Attribute], tuple[Attribute, ...], bool]:
        """What of a wanted job the printer does not take; the rest; whether it is to be held."""
        printer = await self._attributes(asked)
        self._format(asked, printer)
        template = asked.message.group(ipp.JOB).attributes
        ignored = unsupported(template, printer)
        if ignored and asked.message.first("ipp-attribute-fidelity", otherwise=False) is True:
            raise _Fault(Status.ATTRIBUTES_NOT_SUPPORTED, "", ignored)
        names = {one.name for one in ignored}
        until = asked.message.first("job-hold-until", ipp.JOB, "no-hold")
        kept = tuple(one for one in template if one.name not in names and one.name != "job-hold-until")
        return ignored, kept, until == "indefinite"

    def _format(self, asked: "_Asked", printer: dict[str, Attribute]) -> None:
        """The format and compression that are named must be known."""
        kind = asked.message.group(ipp.OPERATION).get("document-format")
        known = {value.data for value in printer["document-format-supported"].values}
        if kind is not None and kind.first not in known:
            raise _Fault(
                Status.FORMAT_NOT_SUPPORTED,
                tr("the printer does not take {format}", format=kind.first),
                [kind],
            )
        compression = asked.message.group(ipp.OPERATION).get("compression")
        if compression is not None and compression.first not in COMPRESSIONS:
            raise _Fault(Status.COMPRESSION_NOT_SUPPORTED, "", [compression])

    def _begin(self, asked: "_Asked", template: tuple[Attribute, ...], *, is_held: bool) -> SentJob:
        title = asked.message.first("job-name") or asked.message.first("document-name") or "Untitled"
        return self._sending.begin(
            asked.printer, _text(title), asked.user, template, via=asked.only, is_held=is_held
        )

    async def _take(self, asked: "_Asked", job: SentJob) -> None:
        """Read the document to its end, then give it away."""
        kind = str(asked.message.first("document-format", otherwise=ANY))
        compression = str(asked.message.first("compression", otherwise="none"))
        printer = await self._attributes(asked)
        supported = [str(value.data) for value in printer["document-format-supported"].values]
        if ANY not in {
            value.data
            for value in attributes_of(asked.printer.attributes)
            .get("document-format-supported", attribute("", ipp.MIME, ANY))
            .values
        }:
            supported.remove(ANY)
        handle, name = tempfile.mkstemp(dir=self._spool, prefix="in-")
        place = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                size = 0
                async for part in _unpacked(asked.document, compression):
                    size += len(part)
                    if size > self._bytes_max:
                        raise _Fault(
                            Status.TOO_LARGE,
                            tr("a document over {bytes_max} bytes is not taken", bytes_max=self._bytes_max),
                        )
                    await asyncio.to_thread(file.write, part)
            await self._sending.finish(job, place, kind, supported)
        except BaseException as error:
            self._sending.forget(job, error)
            raise
        finally:
            place.unlink(missing_ok=True)

    def _printer_of(self, asked: "_Asked") -> KnownPrinter:
        """The printer that a request names by `printer-uri`, or by `job-uri`."""
        uri = asked.message.first("printer-uri") or asked.message.first("job-uri")
        if not isinstance(uri, str):
            raise _Fault(Status.BAD_REQUEST, tr("the printer is not named"))
        path = uri.partition("://")[2].partition("/")[2]
        words = f"/{path}".removeprefix(PATH).split("/")
        if asked.message.first("printer-uri") is None:
            asked.number = int(words[-1]) if len(words) > 1 and words[-1].isdigit() else -1
        label = asked.only or words[0]
        found = next((p for p in self._queues.printers() if p.label == label), None)
        if found is None or (asked.only and not f"/{path}".startswith("/ipp/print")):
            raise _Fault(Status.NOT_FOUND, tr("there is no printer of that name here"))
        return found

    def _jobs(self, asked: "_Asked") -> list[SentJob]:
        """Jobs of that printer that came by the same port; also those of `coterie print`."""
        p = asked.printer
        return [
            j for j in self._sending.jobs if (j.peer, j.printer, j.via) == (p.peer, p.printer, asked.only)
        ]

    def _job(self, asked: "_Asked") -> SentJob:
        number = asked.number or asked.message.first("job-id")
        if not isinstance(number, int):
            raise _Fault(Status.BAD_REQUEST, tr("the job is not named"))
        found = next((job for job in self._jobs(asked) if job.number == number), None)
        if found is None:
            raise _Fault(Status.NOT_FOUND, tr("there is no job {number}", number=number))
        self._sending.expect(found)
        return found

    def _own_job(self, asked: "_Asked") -> SentJob:
        job = self._job(asked)
        if job.user != asked.user:
            raise _Fault(Status.NOT_AUTHORIZED, tr("the job {number} is somebody else's", number=job.number))
        return job

    def _described(self, asked: "_Asked", job: SentJob) -> tuple[Attribute, ...]:
        return job_attributes(job, self._uri(asked), self._up_s(), self._started)

    def _short(self, asked: "_Asked", job: SentJob) -> Group:
        names = ("job-id", "job-uri", "job-uuid", "job-state", "job-state-reasons", "job-state-message")
        return Group(ipp.JOB, wanted_of_job(self._described(asked, job), names))

    def _uri(self, asked: "_Asked") -> str:
        return f"ipp://{asked.host}{PATH}{asked.printer.label}"

    def _up_s(self) -> int:
        return max(1, int(time.time() - self._started) + 1)

    def _page(self, path: str, only: str) -> Response:
        """A page about the printer, for who follows `printer-more-info`."""
        if path == ICON:
            return Response("200 OK", icon(), "image/png")
        label = path.strip("/").rpartition("/")[2]
        found = next((p for p in self._queues.printers() if p.label == (only or label)), None)
        if found is None:
            return Response("404 Not Found", b"no such printer\n", "text/plain")
        state, reasons = self._queues.state_of(found)
        said = html.escape(self._queues.said_name(found))
        text = html.escape(f"{found.model}: {state.name.lower()} {', '.join(reasons)}")
        page = f"<!doctype html><meta charset=utf-8><title>{said}</title><h1>{said}</h1><p>{text}</p>"
        return Response("200 OK", page.encode(), "text/html; charset=utf-8")


class _Asked:
    """One request on its way."""

    def __init__(self, message: Ipp, document: AsyncIterator[bytes]) -> None:
        self.message = message
        self.document = document
        self.only = self.host = ""
        self.number = 0
        self.printer: KnownPrinter
        self.user = _text(message.first("requesting-user-name") or "anonymous")


Answered = tuple[Status, tuple[Group, ...]]
Answering = Callable[[_Asked], Awaitable[Answered]]


async def _asked(request: Request) -> _Asked | None:
    """The message at the beginning of a body. None: there is none."""
    head, found = ipp.Head(), None
    try:
        async for part in request.body:
            found = head.feed(part)
            if found is not None:
                break
    except PeerError:
        return None
    return _Asked(found[0], _behind(found[1], request.body)) if found is not None else None


async def _behind(first: bytes, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    if first:
        yield first
    async for part in body:
        yield part


async def _unpacked(document: AsyncIterator[bytes], compression: str) -> AsyncIterator[bytes]:
    """The document without its compression, in parts of 1 MiB at most."""
    if compression == "none":
        async for part in document:
            yield part
        return
    unpacking = zlib.decompressobj(zlib.MAX_WBITS | 32 if compression == "gzip" else zlib.MAX_WBITS)
    try:
        async for packed in document:
            left = packed
            while left:
                yield await asyncio.to_thread(unpacking.decompress, left, 1 << 20)
                left = unpacking.unconsumed_tail
        yield unpacking.flush()
    except zlib.error:
        raise _Fault(Status.COMPRESSION_ERROR, tr("the document is not compressed as it says")) from None
    if not unpacking.eof:
        raise _Fault(Status.COMPRESSION_ERROR, tr("the document is cut off"))


def _check(message: Ipp) -> None:
    """What every request must have (RFC 8011, 4.1)."""
    if message.version[0] not in (1, 2):
        raise _Fault(Status.VERSION_NOT_SUPPORTED, tr("this printer speaks IPP 1.1 and 2.0"))
    if not message.request_id:
        raise _Fault(Status.BAD_REQUEST, tr("the request has the number 0"))
    tags = [group.tag for group in message.groups]
    if not tags or tags[0] != ipp.OPERATION or tags != sorted(set(tags)):
        raise _Fault(Status.BAD_REQUEST, tr("the sections of attributes are not in order"))
    names = [one.name for one in message.groups[0].attributes]
    if names[:2] != ["attributes-charset", "attributes-natural-language"]:
        raise _Fault(Status.BAD_REQUEST, tr("charset and language do not come first"))
    if any(
        len(names) != len(set(names)) for names in ([a.name for a in g.attributes] for g in message.groups)
    ):
        raise _Fault(Status.BAD_REQUEST, tr("an attribute comes twice"))
    charset = message.groups[0].attributes[0]
    if str(charset.first).lower() not in ("utf-8", "us-ascii"):
        raise _Fault(Status.CHARSET_NOT_SUPPORTED, tr("this printer reads UTF-8"), [charset])


def _status_of(error: CoterieError) -> Status:
    match error:
        case WrongFormat():
            return Status.FORMAT_NOT_SUPPORTED
        case Damaged():
            return Status.FORMAT_ERROR
        case LimitExceeded():
            return Status.BUSY
        case NotFound():
            return Status.NOT_FOUND
        case StorageError():
            return Status.TEMPORARY_ERROR
        case UsageError():
            return Status.NOT_POSSIBLE
    return Status.TEMPORARY_ERROR


def _with_ignored(ignored: list[Attribute]) -> Answered:
    if not ignored:
        return Status.OK, ()
    return Status.OK_IGNORED, (Group(ipp.UNSUPPORTED, tuple(ignored)),)


def _text(data: object) -> str:
    """A name as it may be shown."""
    shown = str(data).encode(errors="replace").decode()
    return "".join(c if c.isprintable() else "?" for c in shown)[:255]


@functools.cache
def icon() -> bytes:
    """A picture of 48 pixels each way, as PNG (RFC 2083): paper on a grey printer."""
    paper, grey = b"\xff" * 48, b"\x60" * 8 + b"\xff" * 32 + b"\x60" * 8
    rows = b"".join(b"\0" + (paper if line < 20 else grey) for line in range(48))
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", 48, 48, 8, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    )
    made = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(made)


def _date_time(at: float) -> bytes:
    """RFC 2579's DateAndTime, in UTC."""
    t = time.gmtime(at)
    return struct.pack(
        ">H9B", t.tm_year, t.tm_mon, t.tm_mday, t.tm_hour, t.tm_min, t.tm_sec, 0, ord("+"), 0, 0
    )
