"""http://NAME.COMPUTER.localhost:PORT: one port here for web services of all peers, and pages of their other places.

A connection carries requests one after another. Each is judged by its own `Host` and `Origin`; its body is counted, so
that the next head is found. Answers pass as they are. After "101 Switching Protocols" all bytes pass both ways.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Collection

from coterie.apps.expose.connecting import Connecting
from coterie.apps.expose.http_head import (
    CHUNK_LINE_BYTES_MAX,
    HEAD_BYTES_MAX,
    Head,
    read_chunk_length,
    read_head,
    refusal,
    service_of,
    with_host,
)
from coterie.apps.expose.leads import FindPage
from coterie.apps.expose.messages import Opened, Use
from coterie.errors import AccessDenied, CoterieError, NotFound, PeerError, UsageError
from coterie.identity import PeerId
from coterie.net import Stream
from coterie.services.carry.splice import READ_BYTES, break_off, outward
from coterie.services.local.web_pages import is_own_page
from coterie.texts import tr

HEAD_S = 120.0  # between requests, and for a head; as common servers keep connections
_SWITCHED = b" 101 "

FindPeer = Callable[[str], PeerId]
"""The peer that a label of a host name means. Raises `NotFound`."""


class Web:
    """Answers the connections of the web port."""

    def __init__(
        self,
        connecting: Connecting,
        find: FindPeer,
        in_names: Callable[[str], str],
        page: FindPage,
        zones: Callable[[], Collection[str]],
    ) -> None:
        """`in_names`: text with the names of computers for their ids, for pages that say what went wrong.

        `page`: where a name without a service leads. `zones`: last labels of the hosts that are served.
        """
        self._connecting = connecting
        self._find = find
        self._in_names = in_names
        self._page = page
        self._zones = zones

    async def serve(self, program: socket.socket) -> None:
        """One connection of a browser or the like."""
        client = _Client(program)
        try:
            async with asyncio.timeout(HEAD_S):
                head = await client.head()
            while head is not None:
                head = await self._serve_host(client, head)
        except (CoterieError, TimeoutError) as error:
            if client.is_answered:
                break_off(program)
            else:
                await client.refuse(error, self._in_names(str(error)))

    async def _serve_host(self, client: "_Client", head: Head) -> Head | None:
        """Requests to one service; the head of the first that is for another."""
        name, label = service_of(head.host, self._zones())
        _check(head)
        peer = self._find(label)
        try:
            return await self._serve_service(client, head, peer, name)
        except NotFound:
            page = await self._page(peer, name)
            if not page or client.is_answered or head.method not in ("GET", "HEAD"):
                raise
            await client.lead(page)
            return None

    async def _serve_service(self, client: "_Client", head: Head, peer: PeerId, name: str) -> Head | None:
        async with self._connecting.open(peer, Use(name)) as call:
            answers = asyncio.ensure_future(client.answers(call.stream, call.rest, call.heard))
            asked = asyncio.ensure_future(self._ask(client, call.stream, call.answer, head))
            try:
                await asyncio.wait([answers, asked], return_when=asyncio.FIRST_COMPLETED)
                if not asked.done():  # the program closed the connection
                    answers.result()
                    return None
                following = asked.result()
                if following is None:
                    await answers
                return following
            finally:
                for task in (answers, asked):
                    task.cancel()
                await asyncio.gather(answers, asked, return_exceptions=True)

    async def _ask(self, client: "_Client", stream: Stream, opened: Opened, head: Head) -> Head | None:
        """Pass requests on while they are for the same host. None: the browser has finished."""
        host = head.host
        while True:
            client.is_upgrading = head.is_upgrade
            await stream.write(with_host(head, opened.host_header))
            await client.body(head, stream)
            if head.is_upgrade and await client.switched():
                await client.rest(stream)
                return None
            async with asyncio.timeout(HEAD_S):
                following = await client.head()
            if following is None:
                await stream.finish()
                return None
            if following.host != host:
                return following
            _check(following)
            head = following


def _check(head: Head) -> None:
    if not is_own_page(head.method, head.host, head.headers):
        raise AccessDenied(tr("a page of another site may not use services here"))


class _Client:
    """The connection of a browser: bytes that came and are not used yet, and what was answered."""

    def __init__(self, program: socket.socket) -> None:
        self._program = program
        self._loop = asyncio.get_running_loop()
        self._buffer = b""
        self._switch: asyncio.Future[bool] | None = None
        self.is_answered = False

    @property
    def is_upgrading(self) -> bool:
        """Whether the answer under way may switch to another protocol."""
        return self._switch is not None

    @is_upgrading.setter
    def is_upgrading(self, is_so: bool) -> None:
        self._switch = self._loop.create_future() if is_so else None

    async def switched(self) -> bool:
        """Whether the program agreed to another protocol."""
        return self._switch is not None and await self._switch

    async def head(self) -> Head | None:
        """The next head; None at the end. Raises `UsageError`."""
        while (end := self._buffer.find(b"\r\n\r\n")) < 0 and len(self._buffer) <= HEAD_BYTES_MAX:
            if not await self._more():
                if self._buffer.strip():
                    raise UsageError(tr("the connection ended inside a request"))
                return None
        if not 0 <= end <= HEAD_BYTES_MAX:
            raise UsageError(
                tr("the head of this request is over {head_bytes_max} bytes", head_bytes_max=HEAD_BYTES_MAX)
            )
        raw, self._buffer = self._buffer[: end + 4], self._buffer[end + 4 :]
        return read_head(raw)

    async def body(self, head: Head, stream: Stream) -> None:
        """Pass the body of a request on."""
        if head.framing == "length":
            await self._pass(head.length, stream)
        elif head.framing == "chunked":
            while size := read_chunk_length(line := await self._line()):
                await stream.write(line + b"\r\n")
                await self._pass(size + 2, stream)
            await stream.write(line + b"\r\n")
            while line := await self._line():  # trailers
                await stream.write(line + b"\r\n")
            await stream.write(b"\r\n")

    async def rest(self, stream: Stream) -> None:
        """Pass on whatever comes until the end."""
        if self._buffer:
            await stream.write(self._buffer)
        await outward(stream, self._program)

    async def answers(self, stream: Stream, first: bytes, heard: Callable[[], None]) -> None:
        """Pass on what the program says, until it has finished."""
        data = first or await stream.read_bytes(READ_BYTES)
        while data:
            heard()
            if self._switch is not None and not self._switch.done():
                self._switch.set_result(_SWITCHED in data[:16])
            self.is_answered = True
            try:
                await self._loop.sock_sendall(self._program, data)
            except OSError as error:
                raise PeerError(f"the browser went away: {error.strerror}") from None
            data = await stream.read_bytes(READ_BYTES)

    async def refuse(self, error: Exception, said: str) -> None:
        """Say why there is no page."""
        status = {
            UsageError: "400 Bad Request",
            AccessDenied: "403 Forbidden",
            NotFound: "404 Not Found",
            TimeoutError: "408 Request Timeout",
        }.get(type(error), "502 Bad Gateway")
        with contextlib.suppress(OSError):  # it has gone
            await self._loop.sock_sendall(self._program, refusal(status, said))

    async def lead(self, page: str) -> None:
        """Send the browser to another page."""
        with contextlib.suppress(OSError):  # it has gone
            await self._loop.sock_sendall(self._program, refusal("302 Found", page, location=page))

    async def _line(self) -> bytes:
        while b"\r\n" not in self._buffer:
            if len(self._buffer) > CHUNK_LINE_BYTES_MAX or not await self._more():
                raise UsageError(tr("a chunk of this request is malformed"))
        line, _, self._buffer = self._buffer.partition(b"\r\n")
        return line

    async def _pass(self, size: int, stream: Stream) -> None:
        while size:
            if not self._buffer and not await self._more():
                raise UsageError(tr("the connection ended inside a request"))
            part, self._buffer = self._buffer[:size], self._buffer[size:]
            await stream.write(part)
            size -= len(part)

    async def _more(self) -> bool:
        try:
            data = await self._loop.sock_recv(self._program, READ_BYTES)
        except OSError:
            return False
        self._buffer += data
        return bool(data)
