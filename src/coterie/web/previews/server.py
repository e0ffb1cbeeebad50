"""Serves files under an origin of their own to who has the address: a secret of each file and browser, for a time.

No cookie opens anything here, and nothing else is here: so what a file could do in this origin is nothing.
"""

import os
import secrets
import stat
import time
from collections.abc import Callable, MutableMapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response

from coterie.content.no_links import open_file
from coterie.errors import NotFound, StorageError
from coterie.local_http import welcome
from coterie.texts import tr
from coterie.web.previews.kinds import HEAD_BYTES, OTHER, Kind, kind_of, policy

HOST = "files.localhost"  # RFC 6761: loopback; a site of its own for browsers
SHOWN_MAX = (
    4_096  # files at once, of all browsers; the oldest leaves. Guess: the thumbnails of some large folders
)
LASTS_S = 6 * 3_600.0  # since it was last asked for; a long film that pauses
TOKEN_BYTES = 16
SECURE: dict[str, str] = {
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "cross-origin",  # the page is another origin; the address is the secret
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "private, no-store",
    "X-Robots-Tag": "noindex",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}


class Shown(msgspec.Struct, frozen=True):
    """One file that a browser may load: `owner` is the browser."""

    owner: str
    path: Path
    kind: Kind


class Previews:
    """The files that are shown now, as an ASGI application. Methods belong to the event loop."""

    def __init__(
        self,
        seen: Callable[[str, Any], None] = lambda owner, client: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`seen` hears which browser a connection (its other end) belongs to. `clock`: seconds."""
        self._seen = seen
        self._clock = clock
        self._shown: dict[str, Shown] = {}
        self._asked: dict[str, float] = {}

    def show(self, owner: str, path: Path) -> tuple[str, Kind]:
        """The path of the address where this browser loads the file, and what it is.

        Raises:
            NotFound: there is no such file, or a link or something else stands in its place.
            StorageError: it cannot be read.
        """
        kind = read_kind(path)
        token = secrets.token_urlsafe(TOKEN_BYTES)
        while len(self._shown) >= SHOWN_MAX:
            self._forget(next(iter(self._shown)))
        self._shown[token] = Shown(owner, path, kind)
        self._asked[token] = self._clock()
        return f"/{token}/{quote(path.name, safe='')}", kind

    def end(self, owner: str) -> None:
        """A browser may load nothing any more."""
        for token in [token for token, shown in self._shown.items() if shown.owner == owner]:
            self._forget(token)

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        """Answer a request that came to this origin."""
        if scope["type"] == "http":
            await self._answer(Request(scope))(scope, receive, send)

    def _answer(self, request: Request) -> Response:
        token = request.url.path.strip("/").partition("/")[0]
        shown = self._shown.get(token)
        if request.method not in ("GET", "HEAD") or shown is None or self._is_old(token):
            return PlainTextResponse(tr("nothing is shown here") + "\n", 404, headers=SECURE)
        welcome(request.scope)
        self._seen(shown.owner, request.scope.get("client"))
        self._asked[token] = self._clock()
        try:
            kind, status = read_kind(shown.path), shown.path.lstat()
        except (NotFound, StorageError, OSError):
            return PlainTextResponse(tr("the file is not there any more") + "\n", 404, headers=SECURE)
        way = "inline" if kind.sort != "other" and "download" not in request.query_params else "attachment"
        named = f"{way}; filename*=UTF-8''{quote(shown.path.name, safe='')}"
        headers = SECURE | {"Content-Security-Policy": policy(kind), "Content-Disposition": named}
        return FileResponse(shown.path, headers=headers, media_type=kind.media, stat_result=status)

    def _is_old(self, token: str) -> bool:
        if self._clock() - self._asked[token] <= LASTS_S:
            return False
        self._forget(token)
        return True

    def _forget(self, token: str) -> None:
        del self._shown[token], self._asked[token]


def read_kind(path: Path) -> Kind:
    """What a file is, by its beginning. Raises `NotFound`, `StorageError`."""
    try:
        fd = open_file(os.path.realpath(path.parent) + os.sep + path.name)
    except OSError as error:
        raise NotFound(
            tr("{path} cannot be shown: {strerror}", path=path, strerror=error.strerror)
        ) from error
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise NotFound(tr("{path} is no file", path=path))
        head = os.read(fd, HEAD_BYTES)
    except OSError as error:
        raise StorageError(
            tr("{path} cannot be read: {strerror}", path=path, strerror=error.strerror)
        ) from error
    finally:
        os.close(fd)
    return kind_of(head) if head else OTHER
