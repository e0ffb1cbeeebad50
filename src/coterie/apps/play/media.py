"""Files as local HTTP URLs with ranges, also while they are still arriving: what media players seek in.

Only programs of this computer reach it (127.0.0.1), and only with the secret in the URL. A read of bytes that are not
there yet waits for them; where a player reads, and how fast, is told to the download (`Readable.reading`).
"""

import asyncio
import contextlib
import hmac
import mimetypes
import secrets
import time
from collections.abc import AsyncIterator
from itertools import count
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from coterie.byte_range import wanted_span
from coterie.errors import CoterieError, NotFound
from coterie.local_http import HOST, LocalServer, listen, welcome
from coterie.plain_text import one_line
from coterie.texts import tr
from coterie.transfer.running import Readable

TOKEN_BYTES = 16
READ_BYTES = 256 << 10  # guess: small enough that a seek is not held up, large enough to be cheap
AHEAD_S = 20.0  # of playing that a reader wants to have in front of it; guess: mpv and VLC keep 10 to 60
AHEAD_BYTES_MIN = 4 << 20  # before its rate is known: ten seconds at 3 Mbit/s
AHEAD_BYTES_MAX = 256 << 20
RATE_AFTER_S = 2.0  # a player fills its own buffer first, and only then reads at the rate of the medium


class Readahead:
    """How many bytes a reader wants in front of it: `AHEAD_S` at the rate at which it has been reading."""

    def __init__(self, now: float) -> None:
        self._began = now
        self._bytes = 0

    def read(self, size: int, now: float) -> int:
        """`size` more bytes went to the reader at `now` (s); what it wants ahead, in bytes."""
        self._bytes += size
        seconds = now - self._began
        if seconds < RATE_AFTER_S:
            return AHEAD_BYTES_MIN
        return min(max(AHEAD_BYTES_MIN, int(self._bytes / seconds * AHEAD_S)), AHEAD_BYTES_MAX)


class MediaServer:
    """Serves `Readable`s. `start` it before `add`; `close` ends what is being read."""

    def __init__(self) -> None:
        self._token = secrets.token_urlsafe(TOKEN_BYTES)
        self._items: dict[str, Readable] = {}
        self._numbers = count(1)
        self._readers = count(1)
        route = Route("/{token}/{item}/{name:path}", self._answer, methods=["GET", "HEAD"])
        self._server = LocalServer(Starlette(routes=[route]))
        self._task: asyncio.Task[None] | None = None
        self._port = 0

    def start(self, port: int = 0) -> None:
        """Listen on `port` of this computer; 0: any free one."""
        listener = listen(port, "choose another, or 0 for any free one")
        self._port = listener.getsockname()[1]
        self._task = asyncio.get_running_loop().create_task(self._server.serve([listener]), name="media")

    async def close(self) -> None:
        """Answer nothing more."""
        self._items.clear()
        if self._task is not None:
            self._server.stop()
            await self._task

    @property
    def port(self) -> int:
        """Where it listens; 0 before `start`."""
        return self._port

    def add(self, item: Readable) -> str:
        """Serve `item`; returns its URL."""
        number = str(next(self._numbers))
        self._items[number] = item
        return f"http://{HOST}:{self._port}/{self._token}/{number}/{quote(item.name)}"

    def remove(self, url: str) -> None:
        """Serve it no longer; what is being read of it ends."""
        self._items.pop(url.rsplit("/", 2)[1], None)

    def _find(self, request: Request) -> tuple[str, Readable]:
        """The item of a URL, after the same work whatever is wrong with it. Its parts were decoded by the server."""
        right = hmac.compare_digest(request.path_params["token"].encode(), self._token.encode())
        number = request.path_params["item"]
        item = self._items.get(number)
        if not right or item is None or request.path_params["name"] != item.name:
            raise NotFound(tr("nothing is played under this URL"))
        welcome(request.scope)
        return number, item

    async def _answer(self, request: Request) -> Response:
        try:
            number, item = self._find(request)
        except NotFound as error:
            return PlainTextResponse(f"{one_line(str(error))}\n", 404)
        tag = f'"{item.tag}"'
        headers = {
            "accept-ranges": "bytes",
            "etag": tag,
            "cache-control": "no-store",
            "x-content-type-options": "nosniff",
            "content-disposition": f"inline; filename*=UTF-8''{quote(item.name, safe='')}",
        }
        try:
            span = wanted_span(request.headers, item.size, tag)
        except ValueError as error:
            return PlainTextResponse(
                f"{one_line(str(error))}\n", 416, headers={**headers, "content-range": f"bytes */{item.size}"}
            )
        status, first, last = 200, 0, item.size - 1
        if span is not None:
            status, first, last = 206, span.first, span.last
            headers["content-range"] = f"bytes {first}-{last}/{item.size}"
        headers["content-length"] = str(last - first + 1)
        media = mimetypes.guess_type(item.name)[0] or "application/octet-stream"
        if request.method == "HEAD" or item.size == 0:
            return Response(b"", status, headers=headers, media_type=media)
        body = self._bytes(number, item, first, last)
        return StreamingResponse(body, status, headers=headers, media_type=media)

    async def _bytes(self, number: str, item: Readable, first: int, last: int) -> AsyncIterator[bytes]:
        """The bytes as they come. An error ends the connection: the player sees that it was not all."""
        reader = next(self._readers)
        readahead = Readahead(time.monotonic())
        at, ahead = first, AHEAD_BYTES_MIN
        try:
            while at <= last:
                if self._items.get(number) is not item:
                    raise NotFound(tr("{item} is played no longer", item=item.name))
                item.reading(reader, at, ahead)
                data = await item.read(at, min(READ_BYTES, last + 1 - at))
                yield data
                at += len(data)
                ahead = readahead.read(len(data), time.monotonic())
        finally:
            with contextlib.suppress(CoterieError):
                item.left(reader)
