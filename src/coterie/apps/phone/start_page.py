"""What anybody on the local network may see at the ports for phones: how to begin, and the authority's certificate.

The key of one use stands behind "#" in the address, which browsers send to nobody: `start.js` puts it into the link
that leads on.
"""

import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping
from importlib import resources
from typing import TYPE_CHECKING, Any, Protocol

from coterie.apps.phone.core import Guesses
from coterie.services.local.web_pages import is_own_host
from coterie.texts import speaking, tr

if TYPE_CHECKING:
    from starlette.responses import Response

START, CERTIFICATE, SCRIPT, STYLE = "/start", "/coterie.crt", "/start.js", "/start.css"
OPEN = "/open/"  # where the page takes keys
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; frame-ancestors 'none'; base-uri 'none'; "
    "form-action 'none'"
)
HEADERS = {
    "Content-Security-Policy": CSP,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]

log = logging.getLogger(__name__)


class Host(Protocol):
    """What the start page says of this computer."""

    @property
    def name(self) -> str: ...

    def certificate(self) -> bytes:
        """Of the authority, as phones install it."""
        ...

    def number(self, scheme: str) -> int:
        """The port of "http", "https" or "files"; 0 while it is closed."""
        ...


class Front:
    """ASGI wrapper: answers what is for everybody, bounds guesses, and hands the rest to the page."""

    def __init__(self, host: Host, scheme: str, guesses: Guesses) -> None:
        """`scheme`: "https", "http", or "files" for the port of files of others, which has no start page."""
        self.page: Asgi | None = None
        self.upgrade: Callable[[Any], bool] = lambda scope: False
        self._host = host
        self._scheme = scheme
        self._guesses = guesses

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Only for requests whose Host is an IP address: no name that a web page chose leads here (DNS rebinding)."""
        headers = {key.decode("latin-1"): value.decode("latin-1") for key, value in scope.get("headers", ())}
        if scope["type"] == "http":
            with speaking(headers.get("accept-language")):
                answer = self._answer(scope, headers.get("host", "").lower())
            if answer is not None:
                await answer(scope, receive, send)
                return
        if self.page is not None and scope["type"] in ("http", "websocket"):
            await self.page(scope, receive, send)

    def may_upgrade(self, scope: Any) -> bool:
        """Whether a request for a WebSocket is one of a phone of ours."""
        return self.upgrade(scope)

    def _answer(self, scope: Scope, host: str) -> "Response | None":
        from starlette.responses import HTMLResponse, Response  # only while a port is open

        if not is_own_host(host, self._host.number(self._scheme), is_lan=True):
            return _text(tr("this address is not served here"), 403)
        path = scope["path"]
        if path.startswith(OPEN) and not self._guesses.may(
            str((scope["client"] or ("",))[0]), time.monotonic()
        ):
            return _text(tr("too many wrong addresses were tried: wait a minute"), 429)
        if scope["method"] in ("GET", "HEAD") and self._scheme != "files":
            match path:
                case "/start":
                    return HTMLResponse(self._page(host.rpartition(":")[0]), headers=HEADERS)
                case "/coterie.crt":
                    named = {"Content-Disposition": 'attachment; filename="coterie.crt"'}
                    return Response(
                        self._host.certificate(),
                        media_type="application/x-x509-ca-cert",
                        headers=HEADERS | named,
                    )
                case "/start.js" | "/start.css":
                    media = "text/javascript" if path == SCRIPT else "text/css"
                    return Response(_file(path[1:]), media_type=media, headers=HEADERS)
        if self.page is None:
            return _text(tr("the page of this computer is not there yet: try again"), 503)
        return None

    def _page(self, address: str) -> str:
        from html import escape

        name = escape(self._host.name)
        to = escape(f"https://{address}:{self._host.number('https')}{OPEN}")
        steps = (
            tr("Load the certificate."),
            tr(
                "Install it. iPhone: Settings, Profile Downloaded, Install; then General, About, Certificate Trust "
                "Settings, and switch it on. Android: Settings, Security, Install a certificate, CA certificate."
            ),
            tr("Compare the SHA-256 that the phone shows with that on the computer."),
            tr("Open the page."),
        )
        parts = [escape(step) for step in steps]
        parts[0] = f'<a class="button" href="{CERTIFICATE}">{parts[0]}</a>'
        parts[3] = f'<a class="button" id="open" data-to="{to}">{parts[3]}</a>'
        without = tr(
            "Without the certificate the phone warns of the page. You may open it all the same; installing it as an "
            "app and sharing to it do not work then. Firefox for Android knows installed certificates only after a "
            "switch in its own settings."
        )
        used = tr("This address has no key. On the computer run: coterie phone add")
        listed = "".join(f"<li>{part}</li>" for part in parts)
        bounds = tr(
            "The certificate is good for private addresses of a home network only: nobody can pass for another "
            "site with it."
        )
        return (
            '<!doctype html><html><head><meta charset="utf-8"><title>coterie</title>'
            '<meta name="viewport" content="width=device-width,initial-scale=1">'
            f'<link rel="stylesheet" href="{STYLE}"></head><body><main><h1>coterie</h1>'
            f"<p>{escape(tr('This phone can use {name}.', name='NAME')).replace('NAME', f'<b>{name}</b>')}</p>"
            f'<p id="used" hidden>{escape(used)}</p><ol id="steps">{listed}</ol>'
            f"<p>{escape(bounds)}</p><p>{escape(without)}</p></main>"
            f'<script src="{SCRIPT}"></script></body></html>'
        )


def _text(text: str, status: int) -> "Response":
    from starlette.responses import PlainTextResponse

    return PlainTextResponse(text + "\n", status, headers=HEADERS)


def _file(name: str) -> bytes:
    return resources.files(__package__).joinpath("start", name).read_bytes()
