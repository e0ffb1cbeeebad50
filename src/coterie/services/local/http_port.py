"""An HTTP server for programs of this machine: an ASGI application behind a secret. See docs/services.md.

Programs show the secret as a bearer token or as the password of Basic. A browser is opened at a URL that has it, once:
then it has a cookie, which is not the secret itself (cookies of 127.0.0.1 go to every port there).
"""

import asyncio
import base64
import contextlib
import hmac
import inspect
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import parse_qsl, urlencode

from coterie.decoding import decoder
from coterie.errors import UsageError
from coterie.local_http import LocalServer, welcome
from coterie.services.local.callers import caller_of, can_ask, is_trusted
from coterie.services.local.listeners import BACKLOG, LOOPBACK, address_of, bound
from coterie.services.local.web_pages import is_own_host, is_own_page
from coterie.tasks import Tasks
from coterie.texts import tr

PARAMETER = "secret"  # of the URL that a browser is opened at
COOKIE_CHARS_MAX = 4_096  # of the header; browsers keep so much for one cookie (RFC 6265, 6.1)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]
Handler = Callable[[Any], Awaitable[Any]]
"""Gets a `starlette.requests.Request`, gives a `starlette.responses.Response`."""

log = logging.getLogger(__name__)


class HttpListener:
    """Serves an application at one TCP port, for who knows `secret`, and not for other users where the kernel tells."""

    kind = "http"

    def __init__(
        self, name: str, app: Asgi | Handler, tasks: Tasks, *, secret: str, is_lan: bool = False
    ) -> None:
        self.secret = secret
        self.users = f"{'everybody on the local network' if is_lan else 'you'}, with its secret"
        self._name = name
        self._app = _as_asgi(app)
        self._tasks = tasks
        self._is_lan = is_lan
        self._server: LocalServer | None = None
        self._listening: Any = None
        self._gate: Gate | None = None
        self._serving: asyncio.Task[None] | None = None
        self._refused = 0

    @property
    def connections(self) -> int:
        return len(self._server.server_state.connections) if self._server is not None else 0

    @property
    def refused(self) -> int:
        return self._refused + (self._gate.refused if self._gate is not None else 0)

    @property
    def number(self) -> int:
        return self._listening.getsockname()[1] if self._listening is not None else 0

    @property
    def address(self) -> str:
        return address_of(self._listening) if self._listening is not None else ""

    def start(self, number: int) -> None:
        """Raises `UsageError` when the port is not to be had."""
        self._listening = bound(number, is_lan=self._is_lan)
        self._listening.listen(BACKLOG)
        self._gate = Gate(self._app, self.secret, self.number, is_lan=self._is_lan)
        self._server = LocalServer(self._gate, self._may_connect)
        self._serving = self._tasks.start(self._server.serve([self._listening]), f"the port {self._name}")

    async def stop(self) -> None:
        """Serve no more; calls under way have a second to end."""
        if self._server is None or self._serving is None:
            return
        server, serving = self._server, self._serving
        self._refused, self._gate = self.refused, None
        self._server = self._serving = self._listening = None
        server.stop()
        await asyncio.wait([serving])

    def _may_connect(self, accepted: Any) -> bool:
        """Whether the program at the other end may at least show a secret."""
        if self._is_lan or not can_ask() or is_trusted(caller_of(accepted)):
            return True
        self._refused += 1
        return False


class Gate:
    """ASGI wrapper that lets requests with the secret through, and none that a foreign web page makes."""

    def __init__(self, inner: Asgi, secret: str, number: int, *, is_lan: bool) -> None:
        self.refused = 0
        self._inner = inner
        self._secret = secret.encode()
        self._number = number
        self._is_lan = is_lan
        self._cookie = f"coterie-{number}"
        self._pass = hmac.new(self._secret, b"coterie cookie", "sha256").hexdigest()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 400, 401 or 403, give a browser its cookie, or pass the request on."""
        if scope["type"] != "http":
            return
        try:
            headers = _read_headers(scope["headers"])
        except UsageError as error:
            await self._refuse(send, 400, str(error))
            return
        host = headers.get("host", "").lower()
        if not is_own_host(host, self._number, is_lan=self._is_lan):
            await self._refuse(
                send, 403, f"this address is not served here: use http://{LOOPBACK}:{self._number}/"
            )
        elif not is_own_page(scope["method"], host, headers):
            await self._refuse(send, 403, "a page of another site may not use this")
        elif self._shows_secret(headers):
            welcome(scope)
            await self._inner(scope, receive, send)
        elif scope["method"] == "GET" and self._is_in_url(scope):
            welcome(scope)
            await self._give_cookie(scope, send)
        else:
            await self._refuse(
                send, 401, "this needs the secret of the port: as password, or behind `Authorization: Bearer`"
            )

    def _shows_secret(self, headers: dict[str, str]) -> bool:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return _same(given.strip(), self._secret)
        if scheme.lower() == "basic":
            with contextlib.suppress(UsageError):
                return _same(_password(given.strip()), self._secret)
            return False
        pairs = headers.get("cookie", "")[:COOKIE_CHARS_MAX].split(";")
        cookies = dict(pair.strip().partition("=")[::2] for pair in pairs)
        return _same(cookies.get(self._cookie, ""), self._pass.encode())

    def _is_in_url(self, scope: Scope) -> bool:
        return any(
            name == PARAMETER and _same(value, self._secret)
            for name, value in parse_qsl(scope["query_string"].decode("latin-1"))
        )

    async def _give_cookie(self, scope: Scope, send: Send) -> None:
        """Send the browser to the same page without the secret, which would stand in its history and in `Referer`."""
        kept = [p for p in parse_qsl(scope["query_string"].decode("latin-1")) if p[0] != PARAMETER]
        path = "/" + scope["raw_path"].decode("latin-1").lstrip(
            "/\\"
        )  # "//host" would be another site, and to browsers "/\host" is the same
        cookie = f"{self._cookie}={self._pass}; Path=/; HttpOnly; SameSite=Strict"
        headers = {"Location": path + ("?" + urlencode(kept) if kept else ""), "Set-Cookie": cookie}
        await _answer(
            send, 303, "", headers | {"Referrer-Policy": "no-referrer", "Cache-Control": "no-store"}
        )

    async def _refuse(self, send: Send, status: int, text: str) -> None:
        self.refused += 1
        asked = {"WWW-Authenticate": 'Basic realm="coterie", charset="UTF-8"'} if status == 401 else {}
        await _answer(send, status, text + "\n", asked | {"Connection": "close"})


def _same(given: str, wanted: bytes) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), wanted)


def _read_headers(raw: list[tuple[bytes, bytes]]) -> dict[str, str]:
    """By name, in small letters. Raises `UsageError`: one that decides is there twice."""
    found: dict[str, str] = {}
    for name, value in raw:
        key = name.decode("latin-1").lower()
        if key in found and key in ("host", "origin", "authorization"):
            raise UsageError(tr("this request has {key} twice", key=key))
        both = "; ".join((found[key], value.decode("latin-1"))) if key in found else value.decode("latin-1")
        found[key] = both
    return found


@decoder(UsageError, "the password of a request")
def _password(given: str) -> str:
    """Of "NAME:PASSWORD" in base 64. Raises `UsageError`."""
    return base64.b64decode(given, validate=True).decode("utf-8").partition(":")[2]


async def _answer(send: Send, status: int, text: str, headers: dict[str, str]) -> None:
    body = text.encode()
    told = headers | {"Content-Type": "text/plain; charset=utf-8", "Content-Length": str(len(body))}
    told |= {"X-Content-Type-Options": "nosniff"}
    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in told.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})


def _as_asgi(app: Asgi | Handler) -> Asgi:
    """A handler of one request as an application."""
    if len(inspect.signature(app).parameters) != 1:
        return app  # type: ignore[return-value]
    from starlette.requests import Request

    handler: Callable[[Request], Awaitable[Any]] = app  # type: ignore[assignment]

    async def answered(scope: Scope, receive: Receive, send: Send) -> None:
        response = await handler(Request(scope, receive, send))
        await response(scope, receive, send)

    return answered
