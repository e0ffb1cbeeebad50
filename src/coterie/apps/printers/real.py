"""The real printer: asks it by IPP, wherever it is; `cups_printers` lists those of this computer's print system."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from coterie.apps.printers import ipp
from coterie.apps.printers.http import Server, post
from coterie.apps.printers.ipp import Attribute, Group, Ipp, attribute
from coterie.apps.printers.operations import FIRST_FAILURE, JobState, Op, Status
from coterie.decoding import decoder
from coterie.errors import NotFound, PeerError, TransportError, UsageError
from coterie.texts import tr

IPP_PORT = 631
SCHEMES = ("ipp", "ipps")
READ_BYTES = 65_536
_JOB_WANTED = (
    "job-id",
    "job-name",
    "job-originating-user-name",
    "job-uuid",
    "job-state",
    "job-state-reasons",
    "job-state-message",
    "job-impressions-completed",
    "number-of-documents",
)


class Busy(TransportError):
    """The printer takes no job now."""


class RealJob(msgspec.Struct, frozen=True):
    """A job as the printer has it. `sides`: impressions that it completed."""

    number: int
    uuid: str
    name: str
    state: JobState
    reasons: list[str]
    message: str
    sides: int


@decoder(UsageError, "the address of a printer")
def read_uri(uri: str) -> Server:
    """Where `uri` leads: ipp://HOST[:PORT]/PATH. Raises `UsageError`."""
    parts = urlsplit(uri)
    if parts.scheme not in SCHEMES or not parts.hostname or any(c.isspace() or c < "!" for c in uri):
        raise UsageError(tr("'{uri}' is no address of a printer: write ipp://HOST/ipp/print", uri=uri[:100]))
    return Server(parts.hostname, parts.port or IPP_PORT, parts.path or "/", parts.scheme == "ipps")


class RealPrinter:
    """One printer by its address. Every method asks it, and raises `TransportError` where it is not reached."""

    def __init__(self, uri: str) -> None:
        """Raises `UsageError`."""
        self.uri = uri
        self._server = read_uri(uri)
        self._requests = 0

    async def describe(self) -> tuple[Attribute, ...]:
        """All that it says of itself. Raises `PeerError` where it refuses."""
        answer = await self._ask(
            Op.GET_PRINTER_ATTRIBUTES,
            attribute("requested-attributes", ipp.KEYWORD, "all", "media-col-database"),
        )
        return _succeeded(answer, self.uri).group(ipp.PRINTER).attributes

    async def create(self, title: str, user: str, template: Sequence[Attribute]) -> RealJob:
        """A job without a document. Raises `Busy`, `PeerError`."""
        answer = await self._ask(
            Op.CREATE_JOB, attribute("job-name", ipp.NAME, title), user=user, template=template
        )
        return read_job(_succeeded(answer, self.uri).group(ipp.JOB))

    async def send(
        self, number: int, user: str, kind: str, document: Path, before_last: Callable[[], None]
    ) -> RealJob:
        """Send its whole document; `before_last` is called before the last bytes go. Raises as `create`, `Unsaid`."""
        answer = await self._ask(
            Op.SEND_DOCUMENT,
            attribute("document-format", ipp.MIME, kind),
            attribute("last-document", ipp.BOOLEAN, True),
            job=number,
            user=user,
            document=_parts(document, before_last),
        )
        return read_job(_succeeded(answer, self.uri).group(ipp.JOB))

    async def print(
        self,
        title: str,
        user: str,
        template: Sequence[Attribute],
        kind: str,
        document: Path,
        before_last: Callable[[], None],
    ) -> RealJob:
        """Both in one, for printers that cannot do it in two steps."""
        answer = await self._ask(
            Op.PRINT_JOB,
            attribute("job-name", ipp.NAME, title),
            attribute("document-format", ipp.MIME, kind),
            user=user,
            template=template,
            document=_parts(document, before_last),
        )
        return read_job(_succeeded(answer, self.uri).group(ipp.JOB))

    async def job(self, number: int, user: str) -> RealJob:
        """How it stands. Raises `NotFound` where the printer has none of this number."""
        answer = await self._ask(
            Op.GET_JOB_ATTRIBUTES,
            attribute("requested-attributes", ipp.KEYWORD, *_JOB_WANTED),
            job=number,
            user=user,
        )
        return read_job(_succeeded(answer, self.uri).group(ipp.JOB))

    async def cancel(self, number: int, user: str) -> None:
        """End it. A job that is over already is no error."""
        answer = await self._ask(Op.CANCEL_JOB, job=number, user=user)
        if answer.code not in (Status.NOT_POSSIBLE, Status.NOT_FOUND):
            _succeeded(answer, self.uri)

    async def identify(self) -> None:
        """Let it blink or beep."""
        _succeeded(await self._ask(Op.IDENTIFY_PRINTER), self.uri)

    async def list(self) -> list[tuple[str, str, tuple[Attribute, ...]]]:
        """Name, address and attributes of the printers of a print system (CUPS). Raises as `describe`."""
        wanted = (
            "printer-name",
            "printer-info",
            "printer-make-and-model",
            "printer-state",
            "printer-uri-supported",
        )
        answer = await self._ask(
            Op.CUPS_GET_PRINTERS, attribute("requested-attributes", ipp.KEYWORD, *wanted), is_of_printer=False
        )
        if answer.code == Status.NOT_FOUND:
            return []
        host = f"ipp://{self._server.authority}/printers/"
        return [
            (name, host + name, group.attributes)
            for group in _succeeded(answer, self.uri).groups
            if group.tag == ipp.PRINTER
            and (found := group.get("printer-name"))
            and (name := str(found.first))
        ]

    async def _ask(
        self,
        operation: Op,
        *attributes: Attribute,
        job: int = 0,
        user: str = "",
        template: Sequence[Attribute] = (),
        document: AsyncGenerator[bytes, None] | None = None,
        is_of_printer: bool = True,
    ) -> Ipp:
        self._requests = self._requests % 0x7FFFFFFF + 1
        first = [
            attribute("attributes-charset", ipp.CHARSET, "utf-8"),
            attribute("attributes-natural-language", ipp.LANGUAGE, "en"),
        ]
        first += [attribute("printer-uri", ipp.URI, self.uri)] if is_of_printer else []
        first += [attribute("job-id", ipp.INTEGER, job)] if job else []  # its place: RFC 8011, 4.1.5
        first += [attribute("requesting-user-name", ipp.NAME, user)] if user else []
        groups = [Group(ipp.OPERATION, (*first, *attributes))]
        groups += [Group(ipp.JOB, tuple(template))] if template else []
        request = ipp.encode(Ipp(operation, self._requests, tuple(groups), (2, 0)))
        raw = await post(self._server, request, document, ipp.HEAD_BYTES_MAX)
        found = ipp.Head().feed(raw)
        if found is None:
            raise PeerError(f"the printer at {self._server.authority} does not answer as printers do")
        if found[0].code == Status.VERSION_NOT_SUPPORTED and document is None:
            raw = await post(self._server, bytes((1, 1)) + request[2:], None, ipp.HEAD_BYTES_MAX)
            found = ipp.Head().feed(raw)
            if found is None:
                raise PeerError(f"the printer at {self._server.authority} does not answer as printers do")
        return found[0]


async def _parts(path: Path, before_last: Callable[[], None]) -> AsyncGenerator[bytes, None]:
    with path.open("rb") as file:
        part = await asyncio.to_thread(file.read, READ_BYTES)
        while following := await asyncio.to_thread(file.read, READ_BYTES):
            yield part
            part = following
        before_last()
        yield part


def _succeeded(answer: Ipp, uri: str) -> Ipp:
    if answer.code < FIRST_FAILURE:
        return answer
    said = answer.first("status-message") or _called(answer.code)
    text = tr("the printer at {uri} refuses: {said}", uri=uri, said=str(said)[:200])
    if answer.code == Status.NOT_FOUND:
        raise NotFound(text)
    if answer.code in (Status.BUSY, Status.TEMPORARY_ERROR):
        raise Busy(text)
    raise PeerError(text)


def _called(code: int) -> str:
    return Status(code).name.lower().replace("_", "-") if code in list(Status) else f"{code:#06x}"


@decoder(PeerError, "a job of a printer")
def read_job(group: Group) -> RealJob:
    def first(name: str, otherwise: object) -> object:
        found = group.get(name)
        return found.first if found is not None and found.first is not None else otherwise

    reasons = group.get("job-state-reasons")
    sides = first("job-impressions-completed", 0)
    return RealJob(
        int(str(first("job-id", 0))),
        str(first("job-uuid", "")),
        str(first("job-name", "")),
        JobState(int(str(first("job-state", JobState.PENDING)))),
        [str(value.data) for value in reasons.values] if reasons is not None else [],
        str(first("job-state-message", "")),
        int(str(sides)),
    )
