"""As much HTTP/1.1 (RFC 9112) as IPP needs (RFC 8010, section 4): a server for one connection, and one request.

Bodies go as they come, by length or in chunks; `Expect: 100-continue` is answered before the body is read.
"""

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from email.utils import formatdate

import msgspec

from coterie.decoding import decoder
from coterie.errors import CloseCode, LimitExceeded, PeerError, TransportError
from coterie.texts import tr

HEAD_BYTES_MAX = 16_384
DRAIN_BYTES_MAX = (
    64 << 20
)  # of a body that is refused; guess: programs that send more bear a broken connection
LINE_BYTES_MAX = 1_024  # of the size of a chunk, with its extensions
READ_BYTES = 65_536
IDLE_S = 120.0  # between requests, and for the bytes of one; CUPS asks each 30 s at most
DIAL_S = 10.0
ANSWER_S = 60.0  # a printer that wakes up takes 20 s
STALL_S = 600.0  # in a document: printers without a disk take no more until somebody brings paper
_END = b"\r\n\r\n"


class HttpHead(msgspec.Struct, frozen=True):
    """The first lines of a request or an answer. `first`: the three parts of the first line; names in small letters."""

    first: tuple[str, str, str]
    headers: dict[str, str]

    @property
    def length(self) -> int | None:
        """Bytes of the body; None: it comes in chunks, or to the end."""
        if self.is_chunked:
            return None
        length = self.headers.get("content-length")
        return int(length) if length is not None else None

    @property
    def is_chunked(self) -> bool:
        """Whether the body comes in chunks."""
        return self.headers.get("transfer-encoding", "").lower() == "chunked"


@decoder(PeerError, "the head of an HTTP message")
def read_http_head(raw: bytes) -> HttpHead:
    """Raises `PeerError`."""
    lines = raw.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    one, two, three = [*lines[0].split(" ", 2), "", ""][:3]
    headers: dict[str, str] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise PeerError("a line of an HTTP head without a name")
        if name.lower() in headers and name.lower() in ("content-length", "transfer-encoding", "host"):
            raise PeerError(f"{name} twice")  # RFC 9112, 6.3: who reads it otherwise sees another body
        headers[name.lower()] = value.strip()
    head = HttpHead((one, two, three), headers)
    if "content-length" in headers and not (
        headers["content-length"].isascii() and headers["content-length"].isdigit()
    ):
        raise PeerError("a length that is no number")
    if "transfer-encoding" in headers and (not head.is_chunked or "content-length" in headers):
        raise PeerError("a body of an unknown form")
    if not one or not two:
        raise PeerError("no HTTP")
    return head


@decoder(PeerError, "the size of a chunk")
def read_chunk_size(line: bytes) -> int:
    """Raises `PeerError`."""
    digits = line.strip().partition(b";")[0].strip()
    if not digits or len(digits) > 8 or digits.strip(b"0123456789abcdefABCDEF"):
        raise PeerError("a chunk without a size")
    return int(digits, 16)


@dataclass(frozen=True, slots=True)
class Request:
    """One request. `body` is read to its end, or the connection ends with the answer."""

    method: str
    path: str
    headers: dict[str, str]
    body: AsyncIterator[bytes]


@dataclass(frozen=True, slots=True)
class Response:
    """What is answered: `status` is "200 OK"."""

    status: str
    body: bytes
    kind: str = "application/ipp"


Answering = Callable[[Request], Awaitable[Response]]


async def serve_http(program: socket.socket, answer: Answering) -> None:
    """Answer the requests of one connection, one after another, until the program ends it or breaks the protocol."""
    reader, writer = await asyncio.open_connection(sock=program, limit=READ_BYTES)
    try:
        while await _serve_one(reader, writer, answer):
            pass
    except (PeerError, TimeoutError, ConnectionError):
        writer.transport.abort()
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def _serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: Answering) -> bool:
    """Whether another request may follow."""
    head = await _head(reader)
    if head is None:
        return False
    method, path, version = head.first
    if not version.startswith("HTTP/1."):
        raise PeerError("no HTTP")
    unread = _Unread(
        reader, head, writer if "100-continue" in head.headers.get("expect", "").lower() else None
    )
    body = unread.parts()
    response = await answer(Request(method, path, head.headers, body))
    await unread.drain(body)
    is_last = (
        not unread.is_over or "close" in head.headers.get("connection", "").lower() or version == "HTTP/1.0"
    )
    lines = [
        f"HTTP/1.1 {response.status}",
        f"Date: {formatdate(usegmt=True)}",
        f"Content-Type: {response.kind}",
        f"Content-Length: {len(response.body)}",
        "Cache-Control: no-store",
        *(["Connection: close"] if is_last else []),
    ]
    writer.write("\r\n".join(lines).encode() + _END + (b"" if method == "HEAD" else response.body))
    async with asyncio.timeout(IDLE_S):
        await writer.drain()
    return not is_last


class _Unread:
    """The body of a request."""

    def __init__(
        self, reader: asyncio.StreamReader, head: HttpHead, writer: asyncio.StreamWriter | None
    ) -> None:
        self._reader = reader
        self._head = head
        self._writer = writer  # that waits for "100 Continue"
        self.is_over = not head.is_chunked and not head.length

    async def parts(self) -> AsyncIterator[bytes]:
        """Its bytes as they come."""
        if self.is_over:
            return
        if self._writer is not None:
            self._writer.write(b"HTTP/1.1 100 Continue" + _END)
            self._writer = None
        async for part in _body(self._reader, self._head, IDLE_S):
            yield part
        self.is_over = True

    async def drain(self, body: AsyncIterator[bytes]) -> None:
        """Throw away what the answer did not need, so that the other side hears it and not a broken connection."""
        size = 0
        if self._writer is None:
            async for part in body:
                size += len(part)
                if size > DRAIN_BYTES_MAX:
                    return


async def _head(reader: asyncio.StreamReader, within_s: float = IDLE_S) -> HttpHead | None:
    """None: the other side has finished."""
    try:
        async with asyncio.timeout(within_s):
            raw = await reader.readuntil(_END)
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise PeerError("the connection ended inside of a head") from None
        return None
    except asyncio.LimitOverrunError:
        raise PeerError("a head without an end", CloseCode.LIMIT) from None
    if len(raw) > HEAD_BYTES_MAX:
        raise PeerError(f"a head over {HEAD_BYTES_MAX} bytes", CloseCode.LIMIT)
    return read_http_head(raw)


async def _body(reader: asyncio.StreamReader, head: HttpHead, within_s: float) -> AsyncIterator[bytes]:
    """Raises `PeerError` where it is cut off, `TimeoutError` after a silence."""
    try:
        if head.is_chunked:
            async for part in _chunks(reader, within_s):
                yield part
            return
        left = head.length
        while left is None or left > 0:
            async with asyncio.timeout(within_s):
                data = await reader.read(READ_BYTES if left is None else min(left, READ_BYTES))
            if not data:
                if left is None:
                    return
                raise PeerError("the connection ended inside of a body")
            yield data
            left = None if left is None else left - len(data)
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        raise PeerError("the connection ended inside of a body, or a line has no end") from None


async def _chunks(reader: asyncio.StreamReader, within_s: float) -> AsyncIterator[bytes]:
    while True:
        async with asyncio.timeout(within_s):
            line = await reader.readuntil(b"\r\n")
        if len(line) > LINE_BYTES_MAX:
            raise PeerError("a chunk without a size", CloseCode.LIMIT)
        left = read_chunk_size(line)
        if not left:
            break
        while left:
            async with asyncio.timeout(within_s):
                data = await reader.readexactly(min(left, READ_BYTES))
            yield data
            left -= len(data)
        async with asyncio.timeout(within_s):
            if await reader.readexactly(2) != b"\r\n":
                raise PeerError("a chunk longer than it says")
    trailers = 0
    while True:
        async with asyncio.timeout(within_s):
            line = await reader.readuntil(b"\r\n")
        trailers += len(line)
        if trailers > HEAD_BYTES_MAX:
            raise PeerError("trailers without an end", CloseCode.LIMIT)
        if line == b"\r\n":
            return


# ---- the other side of it: asking a printer


@dataclass(frozen=True, slots=True)
class Server:
    """Where a printer listens."""

    host: str
    port: int
    path: str
    is_encrypted: bool = False

    @property
    def authority(self) -> str:
        """As it stands in `Host`."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Unsaid(TransportError):
    """The printer did not answer although it may have got all of the request."""


async def post(
    server: Server, head: bytes, document: AsyncGenerator[bytes, None] | None, answer_bytes_max: int
) -> bytes:
    """What the printer answers to an IPP request, whose document may follow.

    Raises:
        Unsaid: all was sent, and no answer came.
        TransportError: it was not reached, or broke off before all was sent.
        PeerError: it does not answer as printers do.
        LimitExceeded: its answer is over the bound.
    """
    try:
        async with asyncio.timeout(DIAL_S):
            reader, writer = await asyncio.open_connection(
                server.host, server.port, ssl=_unchecked() if server.is_encrypted else None, limit=READ_BYTES
            )
    except (OSError, TimeoutError) as error:
        raise TransportError(
            tr(
                "the printer at {authority} is not reached ({reason})",
                authority=server.authority,
                reason=os.strerror(error.errno) if error.errno else tr("no answer"),
            )
        ) from None
    try:
        await _send(server, writer, head, document)
        try:
            return await _answer(server, reader, answer_bytes_max)
        except (ConnectionError, TimeoutError, TransportError):
            raise Unsaid(
                tr("the printer at {authority} did not answer", authority=server.authority)
            ) from None
    finally:
        writer.transport.abort()


async def _send(
    server: Server, writer: asyncio.StreamWriter, head: bytes, document: AsyncGenerator[bytes, None] | None
) -> None:
    form = f"Content-Length: {len(head)}" if document is None else "Transfer-Encoding: chunked"
    lines = (
        f"POST {server.path} HTTP/1.1",
        f"Host: {server.authority}",
        "Content-Type: application/ipp",
        form,
    )
    writer.write("\r\n".join(lines).encode() + b"\r\nConnection: close" + _END)
    try:
        if document is None:
            writer.write(head)
            await writer.drain()
            return
        writer.write(f"{len(head):x}\r\n".encode() + head + b"\r\n")
        async with contextlib.aclosing(document):
            async for part in document:
                writer.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
                async with asyncio.timeout(STALL_S):
                    await writer.drain()
        writer.write(b"0\r\n\r\n")
        await writer.drain()
    except (ConnectionError, TimeoutError):
        raise TransportError(
            tr("the printer at {authority} broke off in the middle of a document", authority=server.authority)
        ) from None


async def _answer(server: Server, reader: asyncio.StreamReader, bytes_max: int) -> bytes:
    while True:
        head = await _head(reader, ANSWER_S)
        if head is None:
            raise TransportError(tr("the printer at {authority} said nothing", authority=server.authority))
        if head.first[1] != "100":
            break
    if head.first[1] != "200":
        raise PeerError(f"the printer at {server.authority} says {head.first[1]} {head.first[2]}")
    found = bytearray()
    async for part in _body(reader, head, ANSWER_S):
        found += part
        if len(found) > bytes_max:
            raise LimitExceeded(
                tr(
                    "the printer at {authority} answers with more than {bytes_max} bytes",
                    authority=server.authority,
                    bytes_max=bytes_max,
                )
            )
    return bytes(found)


def _unchecked() -> ssl.SSLContext:
    """Printers sign their certificates themselves: what is sent is hidden, who reads it is not proven."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
