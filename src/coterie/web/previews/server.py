"""Serves files under an origin of their own to who has the address: a secret of each file and browser, for a time.

No cookie opens anything here, and nothing else is here: so what a file could do in this origin is nothing. An address
is of use to the browser that got it: it ends with that browser's right, it is answered to the computer that asked for
it only, and one that was used already is refused where somebody types or pastes it.
"""

import asyncio
import contextlib
import secrets
import time
from collections.abc import Callable, MutableMapping
from typing import Any
from urllib.parse import quote

import msgspec
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from coterie.byte_range import wanted_span
from coterie.errors import AccessDenied, CoterieError, NotFound, StorageError
from coterie.local_http import welcome
from coterie.texts import tr
from coterie.web.previews.kinds import HEAD_BYTES, OTHER, TEXT_BYTES_MAX, Kind, kind_of, policy
from coterie.web.previews.sources import Opener, Source, opened

HOST = "files.localhost"  # RFC 6761: loopback; a site of its own for browsers
SHOWN_MAX = (
    4_096  # files at once, of all browsers; the oldest leaves. Guess: the pictures of some large folders
)
LASTS_S = 6 * 3_600.0  # since it was last asked for; a long film that pauses
TOKEN_BYTES = 16
READ_BYTES = 256 << 10  # guess: small enough that a seek is not held up, large enough to be cheap
STREAMS_MAX = 32  # answers at once, each with READ_BYTES in memory; a browser has six
SECURE: dict[str, str] = {
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "cross-origin",  # the page is another origin; the address is the secret
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "private, no-store",
    "X-Robots-Tag": "noindex",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Accept-Ranges": "bytes",
}


class Shown(msgspec.Struct, frozen=True):
    """One file that a browser may load: `owner` is the browser, `address` the computer that it runs on."""

    owner: str
    address: str
    name: str
    source: Opener


class Previews:
    """The files that are shown now, as an ASGI application. Methods belong to the event loop."""

    def __init__(
        self,
        seen: Callable[[str, Any], None] = lambda owner, client: None,
        clock: Callable[[], float] = time.monotonic,
        still_may: Callable[[str], bool] = lambda owner: True,
    ) -> None:
        """`seen` hears which browser a connection (its other end) belongs to. `clock`: seconds.

        `still_may` says whether a browser may see files now.
        """
        self._seen = seen
        self._clock = clock
        self._still_may = still_may
        self._shown: dict[str, Shown] = {}
        self._asked: dict[str, float] = {}
        self._unused: set[str] = set()
        self._streams = 0

    async def show(self, owner: str, client: Any, name: str, source: Opener) -> tuple[str, Kind, int]:
        """The path of the address where this browser loads the file, what it is, and its size.

        `client`: the other end of the connection over which the browser asks.

        Raises:
            NotFound: there is no such file, or a link or something else stands in its place.
            CoterieError: it cannot be read.
        """
        async with opened(source) as file:
            kind, size = await kind_in(file), file.size
        token = secrets.token_urlsafe(TOKEN_BYTES)
        while len(self._shown) >= SHOWN_MAX:
            self._forget(next(iter(self._shown)))
        self._shown[token] = Shown(owner, _host(client), name, source)
        self._asked[token] = self._clock()
        self._unused.add(token)
        return f"/{token}/{quote(name, safe='')}", kind, size

    def end(self, owner: str) -> None:
        """A browser may load nothing any more."""
        for token in [token for token, shown in self._shown.items() if shown.owner == owner]:
            self._forget(token)

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        """Answer a request that came to this origin."""
        if scope["type"] != "http":
            return
        request = Request(scope)
        shown = self._find(request)
        if shown is None:
            await _refuse(404, tr("nothing is shown here"))(scope, receive, send)
            return
        welcome(request.scope)
        self._seen(shown.owner, scope.get("client"))
        if self._streams >= STREAMS_MAX:
            await _refuse(503, tr("too much is shown at once"))(scope, receive, send)
            return
        self._streams += 1
        answer = asyncio.ensure_future(_answer(shown, request, receive, send))
        gone = asyncio.ensure_future(_gone(receive))
        try:
            await asyncio.wait({answer, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._streams -= 1
            for task in (answer, gone):
                task.cancel()
            ended = await asyncio.gather(answer, gone, return_exceptions=True)
        for error in ended:
            if isinstance(error, Exception):
                raise error

    def _find(self, request: Request) -> Shown | None:
        token = request.url.path.strip("/").partition("/")[0]
        shown = self._shown.get(token)
        if request.method not in ("GET", "HEAD") or shown is None or self._is_old(token):
            return None
        if _host(request.scope.get("client")) != shown.address or not self._still_may(shown.owner):
            return None
        if token not in self._unused and request.headers.get("sec-fetch-site") == "none":  # typed or pasted
            return None
        self._unused.discard(token)
        self._asked[token] = self._clock()
        return shown

    def _is_old(self, token: str) -> bool:
        if self._clock() - self._asked[token] <= LASTS_S:
            return False
        self._forget(token)
        return True

    def _forget(self, token: str) -> None:
        del self._shown[token], self._asked[token]
        self._unused.discard(token)


async def kind_in(file: Source) -> Kind:
    """What a file is, by its beginning. Raises `CoterieError`."""
    head = await file.read(0, HEAD_BYTES) if file.size else b""
    return kind_of(head) if head else OTHER


async def _answer(shown: Shown, request: Request, receive: Any, send: Any) -> None:
    try:
        async with opened(shown.source) as file:
            await _give(shown, file, request, receive, send)
    except (NotFound, AccessDenied, StorageError):
        await _refuse(404, tr("the file is not there any more"))(request.scope, receive, send)
    except CoterieError as error:
        await _refuse(503, str(error))(request.scope, receive, send)


async def _give(shown: Shown, file: Source, request: Request, receive: Any, send: Any) -> None:
    """The file, or the part that is asked for, as it comes. What breaks off is not whole: the browser sees that."""
    kind = await kind_in(file)
    is_download = kind.sort == "other" or "download" in request.query_params
    size = min(file.size, TEXT_BYTES_MAX) if kind.sort == "text" and not is_download else file.size
    way = "attachment" if is_download else "inline"
    tag = f'"{file.tag}"'
    headers = SECURE | {
        "Content-Security-Policy": policy(kind),
        "Content-Disposition": f"{way}; filename*=UTF-8''{quote(shown.name, safe='')}",
        "ETag": tag,
    }
    status, first, last = 200, 0, size - 1
    try:
        if (span := wanted_span(request.headers, size, tag)) is not None:
            status, first, last = 206, span.first, span.last
            headers["Content-Range"] = f"bytes {first}-{last}/{size}"
    except ValueError:
        headers["Content-Range"] = f"bytes */{size}"
        await Response(status_code=416, headers=headers)(request.scope, receive, send)
        return
    headers["Content-Length"] = str(last + 1 - first)
    begin = Response(status_code=status, headers=headers, media_type=kind.media)
    await send({"type": "http.response.start", "status": status, "headers": begin.raw_headers})
    at = first
    with contextlib.suppress(
        CoterieError, OSError
    ):  # begun answers cannot say why; nobody may listen any more
        while at <= last and request.method == "GET":
            data = await file.read(at, min(READ_BYTES, last + 1 - at))
            if not data:
                return
            await send({"type": "http.response.body", "body": data, "more_body": True})
            at += len(data)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _gone(receive: Any) -> None:
    """Until the browser asks for this no more: it seeks, or goes on."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _host(client: Any) -> str:
    return str(client[0]) if client else ""


def _refuse(status: int, text: str) -> Response:
    return PlainTextResponse(text + "\n", status, headers=SECURE)
