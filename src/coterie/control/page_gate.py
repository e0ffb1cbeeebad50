"""What every request of a browser must pass before the page sees it: Host, Origin, cookie, a bounded body.

A browser is opened at /open/KEY, once, and has a cookie from then on. The cookie is of no use to programs and opens
nothing under /api/. Other pages cannot use it: it is SameSite=Strict, whatever changes something must come from a page
of ours (`Origin` or `Sec-Fetch-Site`), and no other name than ours may stand in `Host` (DNS rebinding).
"""

import html
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any, Protocol

from starlette.responses import HTMLResponse, Response

from coterie.control.browsers import Browser
from coterie.control.request_body import Asgi, Receive, Send, read_body, replay
from coterie.errors import CoterieError
from coterie.local_http import welcome
from coterie.texts import speaking, tr

OPEN_PATH = "/open/"
STATIC_PATH = "/static/"  # files of the program itself, which say nothing of its owner
STREAMED_PATH = "/up/"  # bodies that are not read here: who serves them bounds them
COOKIE_LASTS_S = (
    400 * 86_400
)  # browsers keep none for longer; the list of browsers forgets who is not seen for 30 days
COOKIE_CHARS_MAX = 4_096  # of the header; browsers keep so much for one cookie (RFC 6265, 6.1)
BROWSER = "coterie.browser"  # in the ASGI scope: the `Browser` that asks
FILES = "coterie.files"  # in the ASGI scope: the request is for the origin of files of others, of whomever
FILES_HOST = "files.localhost"  # RFC 6761: this computer; another site than the page for browsers
ORIGIN = "coterie.origin"  # in the ASGI scope: the origin of files of others that goes with this page


def policy(files: str) -> str:
    """The Content-Security-Policy of the page; `files`: the origin that shows files of others, "" for none."""
    return (
        f"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob: {files}; "
        f"media-src 'self' blob: {files}; font-src 'self'; connect-src 'self'; manifest-src 'self'; "
        f"worker-src 'self'; frame-src 'self' {files}; frame-ancestors 'none'; form-action 'self'; base-uri 'none'"
    )


HEADERS: Mapping[str, str] = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "geolocation=(), microphone=(), usb=(), payment=()",
}
"""Of every answer to a browser; an answer that has one of its own keeps that."""


class Known(Protocol):
    """Those who may use the page: `Browsers`, or others that are let in elsewhere."""

    def find(self, secret: str) -> Browser | None:
        """Whose cookie this is."""
        ...

    def redeem(self, key: str, agent: str, known: Browser | None = None) -> tuple[Browser, str] | None:
        """Who shows this key for the first time, and what its cookie is to be; "": `known` keeps the one it has."""
        ...


class PageGate:
    """ASGI wrapper that lets the owner's browsers through to `page`, each with what it may do."""

    def __init__(
        self,
        page: Asgi,
        browsers: Known,
        is_own_host: Callable[[str], bool],
        *,
        cookie: str,
        scheme: str = "http",
        files: Callable[[str], str] = lambda host: "",
    ) -> None:
        """`is_own_host` judges the Host header, in small letters. `cookie`: its name (all ports share cookies).

        `files` says of a Host which origin shows files of others; requests to that origin come here, too.
        """
        self._page = page
        self._browsers = browsers
        self._is_own_host = is_own_host
        self._cookie = cookie
        self._scheme = scheme
        self._files = files

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer 401, 403, 408 or 413, open the page to a browser, or pass its request on."""
        headers = _read_headers(scope["headers"])
        if scope["type"] == "http" and self._is_for_files(headers.get("host", "").lower()):
            scope[FILES] = True
            await self._page(scope, receive, send)
            return
        scope[ORIGIN] = self._files(headers.get("host", "").lower())
        send = _with_headers(send, policy(scope[ORIGIN]))
        with speaking(headers.get("accept-language")):
            browser = self.browser_of(scope)
            if _opens(scope) and self._is_ours(scope, headers):
                await self._open(scope, headers, browser)(scope, receive, send)
                return
            if isinstance(browser, Browser):
                scope[BROWSER] = browser
                if scope["type"] == "http":
                    await self._let_in(scope, receive, send)
                else:
                    await self._page(scope, receive, send)
                return
            if scope["type"] != "http":  # `may_upgrade` has refused it before
                await send({"type": "websocket.close", "code": 1008})
                return
            if not self._is_ours(scope, headers):
                await _page_of(tr("This request came from a page of another site."), 403)(
                    scope, receive, send
                )
            elif scope["path"].startswith(STATIC_PATH):
                await self._page(scope, receive, send)
            else:
                await _page_of(_how_to_open(), 401)(scope, receive, send)

    def _is_for_files(self, host: str) -> bool:
        return bool(host) and self._files(host) == f"{self._scheme}://{host}"

    def may_upgrade(self, scope: Mapping[str, Any]) -> bool:
        """Whether a request for a WebSocket comes from a page of ours, with its cookie."""
        return "origin" in _read_headers(scope["headers"]) and self.browser_of(scope) is not None

    def browser_of(self, scope: Mapping[str, Any]) -> Browser | None:
        """Who sends a request that the page may answer; None: nobody who may use it, or another page makes it."""
        headers = _read_headers(scope["headers"])
        if not self._is_ours(scope, headers):
            return None
        pairs = headers.get("cookie", "")[:COOKIE_CHARS_MAX].split(";")
        cookies = dict(pair.strip().partition("=")[::2] for pair in pairs)
        return self._browsers.find(cookies.get(self._cookie, ""))

    async def _let_in(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        welcome(scope)
        if scope["path"].startswith(STREAMED_PATH):
            await self._page(scope, receive, send)
            return
        body = await read_body(scope["headers"], receive)
        if isinstance(body, bytes):
            await self._page(scope, replay(body, receive), send)
            return
        status, _, message = body
        await _page_of(message, status)(scope, receive, send)

    def _is_ours(self, scope: Mapping[str, Any], headers: Mapping[str, str]) -> bool:
        """Whether the request is for a name of ours, and made by our page, by no page, or by following a link."""
        host = headers.get("host", "").lower()
        if not self._is_own_host(host):
            return False
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        if origin is not None:
            return origin.lower() == f"{self._scheme}://{host}" and site in (None, "same-origin", "none")
        if scope.get("method", "GET") not in ("GET", "HEAD"):
            return site == "same-origin"  # what changes something says where it comes from
        if site in (None, "none", "same-origin"):
            return True
        return headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"

    def _open(self, scope: Mapping[str, Any], headers: Mapping[str, str], known: Browser | None) -> Response:
        """Give a browser its cookie. It goes on by a page of ours: after a redirect the cookie would not be sent."""
        key = scope["path"].removeprefix(OPEN_PATH)
        try:
            opened = self._browsers.redeem(key, headers.get("user-agent", ""), known)
        except CoterieError as error:
            return _page_of(str(error), 429)
        if opened is None:
            return _page_of(tr("This address was used already, or is too old.") + " " + _how_to_open(), 401)
        _browser, secret = opened
        response = _page_of("", 200, forward="/")
        response.headers["Cache-Control"] = "no-store"
        if not secret:
            return response
        response.set_cookie(
            self._cookie,
            secret,
            max_age=COOKIE_LASTS_S,
            path="/",
            secure=self._scheme == "https",
            httponly=True,
            samesite="strict",
        )
        return response


def _opens(scope: Mapping[str, Any]) -> bool:
    """Whether a key is shown."""
    return bool(scope["type"] == "http" and scope["method"] == "GET" and scope["path"].startswith(OPEN_PATH))


def _how_to_open() -> str:
    return tr("This browser may not use the page yet. On the computer itself run: coterie open")


def _page_of(text: str, status: int, *, forward: str = "") -> Response:
    """A page without anything of the owner."""
    refresh = f'<meta http-equiv="refresh" content="0;url={forward}">' if forward else ""
    return HTMLResponse(
        '<!doctype html><html><head><meta charset="utf-8"><title>coterie</title>'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<link rel="stylesheet" href="{STATIC_PATH}app.css"><link rel="icon" href="{STATIC_PATH}icon.svg">'
        f"{refresh}</head>"
        f'<body class="plain"><main><h1>coterie</h1><p>{html.escape(text)}</p></main></body></html>',
        status,
    )


def _with_headers(send: Send, csp: str) -> Send:
    every = {"Content-Security-Policy": csp, **HEADERS}

    async def headed(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            given = {name.lower() for name, _ in message["headers"]}
            message["headers"] = [
                *message["headers"],
                *(
                    (name.lower().encode(), value.encode())
                    for name, value in every.items()
                    if name.lower().encode() not in given
                ),
            ]
        await send(message)

    return headed


def _read_headers(raw: list[tuple[bytes, bytes]]) -> dict[str, str]:
    """By name, in small letters. A header that decides, and that is there twice, is none that we accept."""
    found: dict[str, str] = {}
    for name, value in raw:
        key, said = name.decode("latin-1").lower(), value.decode("latin-1")
        if key in found and key in ("host", "origin", "sec-fetch-site"):
            said = "\0"
        elif key in found:
            said = f"{found[key]}; {said}"
        found[key] = said
    return found
