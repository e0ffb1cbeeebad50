"""What every request must pass: the right Host, no foreign Origin, the token, a bounded body, in time.

Programs show the token and reach /api/. Browsers show a cookie and reach the page, which is everything else: see
`coterie.control.page_gate`.
"""

import hmac
from collections.abc import MutableMapping
from typing import Any

from starlette.responses import JSONResponse, Response

from coterie.control.client import CHALLENGE_CHARS_MAX, CHALLENGE_HEADER, PROOF_PATH, proof
from coterie.control.page_gate import PageGate
from coterie.control.request_body import Asgi, Receive, Send, read_body, replay
from coterie.local_http import HOSTS, welcome

API = "/api/"


class Gate:
    """ASGI wrapper that lets only the owner's own programs through to `inner`.

    A web page the owner visits can send requests to 127.0.0.1, also under a name of its own (DNS
    rebinding); it knows no token, carries its Origin, and its name stands in Host. Other users of the
    machine have no token. Without it there is one answer: the proof that we know it, for who must not give it away.
    """

    def __init__(self, inner: Asgi, port: int, token: str, page: PageGate | None = None) -> None:
        """`page` gets all that is not for programs; None: there is no page."""
        self._inner = inner
        self._page = page
        self._secret = token
        self._token = token.encode()
        self._hosts = {f"{name}:{port}".encode() for name in HOSTS}
        self._origins = {b"http://" + host for host in self._hosts}

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer 401, 403, 408, 411 or 413, or pass the request on with its whole body read."""
        if scope["type"] not in ("http", "websocket"):
            return
        if self._page is not None and not scope["path"].startswith(API):
            await self._page(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        refusal = self._refusal(scope["headers"])
        if (
            refusal
            and refusal[0] == 401
            and scope["path"] == PROOF_PATH
            and (asked := _challenge(scope["headers"]))
        ):
            await Response(proof(self._secret, asked), media_type="text/plain")(scope, receive, send)
            return
        if refusal is None:
            welcome(scope)
            body = await read_body(scope["headers"], receive)
            if isinstance(body, bytes):
                await self._inner(scope, replay(body, receive), send)
                return
            refusal = body
        status, code, message = refusal
        close = (
            {"connection": "close", "www-authenticate": "Bearer"}
            if status == 401
            else {"connection": "close"}
        )
        response = JSONResponse({"error": {"code": code, "message": message}}, status, headers=close)
        await response(scope, receive, send)

    def _refusal(self, headers: list[tuple[bytes, bytes]]) -> tuple[int, str, str] | None:
        hosts = [value for name, value in headers if name == b"host"]
        if len(hosts) != 1 or hosts[0].lower() not in self._hosts:
            return 403, "access_denied", "the Host header must be the address in api.json"
        if any(value.lower() not in self._origins for name, value in headers if name == b"origin"):
            return 403, "access_denied", "requests from web pages of other origins are not served"
        given = [value for name, value in headers if name == b"authorization"]
        scheme, _, token = given[0].partition(b" ") if len(given) == 1 else (b"", b"", b"")
        if scheme.lower() != b"bearer" or not hmac.compare_digest(token.strip(), self._token):
            return 401, "access_denied", "send the token in api.json as `Authorization: Bearer TOKEN`"
        return None


def _challenge(headers: list[tuple[bytes, bytes]]) -> str:
    """What a client asks to be proved; empty where it asks nothing, or too much."""
    name = CHALLENGE_HEADER.lower().encode()
    given = next((value for key, value in headers if key == name), b"")
    return given.decode("latin-1") if len(given) <= CHALLENGE_CHARS_MAX else ""
