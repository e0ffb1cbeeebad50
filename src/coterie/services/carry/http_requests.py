"""HTTP requests of a program of this machine, passed on one after another to where each is for.

Bodies are counted, so that the next head is found. Answers pass as they are. After "101 Switching Protocols" all bytes
pass both ways.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable

from coterie.errors import AccessDenied, NotFound, PeerError, UsageError
from coterie.services.carry.http_head import (
    CHUNK_LINE_BYTES_MAX,
    HEAD_BYTES_MAX,
    Head,
    read_chunk_length,
    read_head,
    refusal,
)
from coterie.services.carry.splice import READ_BYTES, Way, outward
from coterie.texts import tr

HEAD_S = 120.0  # between requests, and for a head; as common servers keep connections
_SWITCHED = b" 101 "


class Requests:
    """The connection of a browser: bytes that came and are not used yet, and what was answered."""

    def __init__(self, program: socket.socket, first: bytes = b"", *, is_proxy: bool = False) -> None:
        """`first`: bytes that were read already. `is_proxy`: requests may name other hosts."""
        self._is_proxy = is_proxy
        self._program = program
        self._loop = asyncio.get_running_loop()
        self._buffer = first
        self._switch: asyncio.Future[bool] | None = None
        self.is_answered = False

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
        return read_head(raw, is_proxy=self._is_proxy)

    async def pass_on(
        self,
        way: Way,
        head: Head,
        judge: Callable[[Head], bytes | None],
        *,
        first: bytes = b"",
        heard: Callable[[], None] = lambda: None,
    ) -> Head | None:
        """Pass requests on, `head` first, and answers back; the head of the first request that is for another host.

        `judge` gives what the program there is to be told for a head, None for one that is not for it, and raises for
        one that must not go on. `first`: bytes of the answer that were read already.
        """
        answers = asyncio.ensure_future(self._answers(way, first, heard))
        asked = asyncio.ensure_future(self._ask(way, head, judge))
        try:
            await asyncio.wait([answers, asked], return_when=asyncio.FIRST_COMPLETED)
            if not asked.done():  # the program there closed the connection
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

    async def _ask(self, way: Way, head: Head, judge: Callable[[Head], bytes | None]) -> Head | None:
        """None: the browser has finished."""
        while (told := judge(head)) is not None:
            self._switch = self._loop.create_future() if head.is_upgrade else None
            await way.write(told)
            await self._body(head, way)
            if self._switch is not None and await self._switch:
                if self._buffer:
                    await way.write(self._buffer)
                await outward(way, self._program)
                return None
            async with asyncio.timeout(HEAD_S):
                following = await self.head()
            if following is None:
                await way.finish()
                return None
            head = following
        return head

    async def _body(self, head: Head, way: Way) -> None:
        """Pass the body of a request on."""
        if head.framing == "length":
            await self._pass(head.length, way)
        elif head.framing == "chunked":
            while size := read_chunk_length(line := await self._line()):
                await way.write(line + b"\r\n")
                await self._pass(size + 2, way)
            await way.write(line + b"\r\n")
            while line := await self._line():  # trailers
                await way.write(line + b"\r\n")
            await way.write(b"\r\n")

    async def _answers(self, way: Way, first: bytes, heard: Callable[[], None]) -> None:
        """Pass on what the program says, until it has finished."""
        data = first or await way.read_bytes(READ_BYTES)
        while data:
            heard()
            if self._switch is not None and not self._switch.done():
                self._switch.set_result(_SWITCHED in data[:16])
            self.is_answered = True
            try:
                await self._loop.sock_sendall(self._program, data)
            except OSError as error:
                raise PeerError(f"the browser went away: {error.strerror}") from None
            data = await way.read_bytes(READ_BYTES)

    async def refuse(self, error: Exception, said: str) -> None:
        """Say why there is no page."""
        status = {
            UsageError: "400 Bad Request",
            AccessDenied: "403 Forbidden",
            NotFound: "404 Not Found",
            TimeoutError: "408 Request Timeout",
        }.get(type(error), "502 Bad Gateway")
        await self.send(refusal(status, said))

    async def send(self, answer: bytes) -> None:
        """To the browser; nothing where it has gone."""
        with contextlib.suppress(OSError):
            await self._loop.sock_sendall(self._program, answer)

    def take_rest(self) -> bytes:
        """What came behind the last request."""
        rest, self._buffer = self._buffer, b""
        return rest

    async def lead(self, page: str) -> None:
        """Send the browser to another page."""
        await self.send(refusal("302 Found", page, location=page))

    async def _line(self) -> bytes:
        while b"\r\n" not in self._buffer:
            if len(self._buffer) > CHUNK_LINE_BYTES_MAX or not await self._more():
                raise UsageError(tr("a chunk of this request is malformed"))
        line, _, self._buffer = self._buffer.partition(b"\r\n")
        return line

    async def _pass(self, size: int, way: Way) -> None:
        while size:
            if not self._buffer and not await self._more():
                raise UsageError(tr("the connection ended inside a request"))
            part, self._buffer = self._buffer[:size], self._buffer[size:]
            await way.write(part)
            size -= len(part)

    async def _more(self) -> bool:
        try:
            data = await self._loop.sock_recv(self._program, READ_BYTES)
        except OSError:
            return False
        self._buffer += data
        return bool(data)
