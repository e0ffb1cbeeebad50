"""The port of the drive: WSGI in threads, for programs of this user, and for no web page of another site."""

import asyncio
import errno
import hmac
import logging
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from coterie.apps.drive.headers import read_password
from coterie.apps.drive.login import Logins
from coterie.errors import UsageError
from coterie.services.local.callers import caller_of, is_trusted
from coterie.services.local.listeners import BACKLOG, address_of, bound
from coterie.services.local.web_pages import is_own_host, is_own_page
from coterie.texts import tr

REALM = "coterie"  # Digest first: Windows shows no password of Basic where it is not encrypted
BODY_BYTES_MAX = 1 << 20  # of a request that is no file; guess: XML with some properties
HOST = "drive.localhost"  # RFC 6761: loopback; an origin of its own for browsers

HARMLESS = (
    ("Content-Security-Policy", "default-src 'none'; img-src 'self'; media-src 'self'; sandbox"),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
)  # a file of somebody else that a browser shows must not run: this origin may change what is here

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
Wsgi = Callable[[Environ, StartResponse], Iterable[bytes]]

log = logging.getLogger(__name__)


class DavListener:
    """See `services.local.listeners.Listener`."""

    kind = "http"

    def __init__(self, make: Callable[[], Wsgi], *, secret: str = "", is_lan: bool = False) -> None:
        """`make` gives the application. `secret`: what programs show; "" where the system tells whose they are.

        `is_lan`: for other computers of the local network, whom the application asks for a password itself.
        """
        self.secret = secret
        self.users = "you, with its secret" if secret else "you"
        if is_lan:
            self.users = tr("who has the password of a share, on the local network")
        self.refused = 0
        self._make = make
        self._is_lan = is_lan
        self._server: Any = None
        self._thread: threading.Thread | None = None

    @property
    def connections(self) -> int:
        return self._server.open if self._server is not None else 0

    @property
    def number(self) -> int:
        return int(self._server.bind_addr[1]) if self._server is not None else 0

    @property
    def address(self) -> str:
        return f"{self._server.bind_addr[0]}:{self.number}" if self._server is not None else ""

    def start(self, number: int) -> None:
        """Raises `UsageError` when the port is not to be had."""
        from coterie.apps.drive.connections import Server  # only while the port is open

        app = self._make()
        listening = bound(number, is_lan=self._is_lan)
        gate = Gate(app, listening.getsockname()[1], self.secret, is_lan=self._is_lan)
        log.debug("the drive is at %s", address_of(listening))
        self._server = Server(_Trusting(self, listening), gate)
        self._server.prepare()
        self._thread = threading.Thread(target=self._server.serve, name="drive", daemon=True)
        self._thread.start()

    async def stop(self) -> None:
        """Listen no more, end every connection."""
        server, self._server = self._server, None
        if server is not None:
            await asyncio.to_thread(server.stop)

    def may_connect(self, accepted: socket.socket) -> bool:
        """Whether the program at the other end is of this user."""
        if self._is_lan or self.secret or is_trusted(user := caller_of(accepted)) or user == _mounting_user():
            return True
        self.refused += 1
        return False


def _mounting_user() -> int | None:
    """Whom davfs2 runs as when root mounts: it gives up the rights of root, and nobody else runs as that user."""
    try:
        import pwd

        return pwd.getpwnam("davfs2").pw_uid
    except (ImportError, KeyError):
        return None


class _Trusting(socket.socket):
    """A listening socket that lets in programs of this user only."""

    def __init__(self, owner: DavListener, listening: socket.socket) -> None:
        super().__init__(listening.family, listening.type, listening.proto, listening.detach())
        self._owner = owner
        self.backlog = BACKLOG

    def accept(self) -> tuple[socket.socket, Any]:
        accepted, address = super().accept()
        if not self._owner.may_connect(accepted):
            accepted.close()
            raise BlockingIOError(errno.EAGAIN, "a program of another user")
        return accepted, address


class Gate:
    """WSGI wrapper: what foreign pages ask for, and whole trees at once, is refused."""

    def __init__(self, inner: Wsgi, number: int, secret: str, *, is_lan: bool = False) -> None:
        self._inner = inner
        self._number = number
        self._secret = secret
        self._is_lan = is_lan
        self._logins = Logins()

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        host = environ.get("HTTP_HOST", "").lower()
        headers = {
            name: environ[key]
            for name, key in (
                ("origin", "HTTP_ORIGIN"),
                ("sec-fetch-site", "HTTP_SEC_FETCH_SITE"),
                ("sec-fetch-mode", "HTTP_SEC_FETCH_MODE"),
                ("sec-fetch-dest", "HTTP_SEC_FETCH_DEST"),
            )
            if key in environ
        }
        method = environ["REQUEST_METHOD"]
        if not _is_text(environ.get("PATH_INFO", "")):
            return _refuse(start_response, "400 Bad Request", tr("names in an address are written in UTF-8"))
        if not is_own_host(host, self._number, is_lan=self._is_lan) and host != f"{HOST}:{self._number}":
            return _refuse(start_response, "403 Forbidden", tr("this address is not served here"))
        if not is_own_page(method, host, headers):
            return _refuse(start_response, "403 Forbidden", tr("a page of another site may not use this"))
        if self._secret and not self._shows_secret(environ.get("HTTP_AUTHORIZATION", "")):
            is_known, is_stale = self._logins.judge(environ, REALM, self._secret)
            if not is_known or is_stale:
                ask = [
                    self._logins.challenge(REALM, is_stale=is_stale),
                    f'Basic realm="{REALM}", charset="UTF-8"',
                ]
                text = tr("this needs the secret of the port as password")
                return _refuse(start_response, "401 Unauthorized", text, ask)
        said = environ.get("CONTENT_LENGTH") or "0"
        if method != "PUT" and not (said.isdigit() and int(said) <= BODY_BYTES_MAX):
            return _refuse(start_response, "413 Content Too Large", tr("this is too long for a request"))
        if method == "PROPFIND" and environ.get("HTTP_DEPTH", "infinity") not in ("0", "1"):
            return _finite_only(start_response)
        if not self._is_lan:
            environ["wsgidav.auth.user_name"] = "owner"

        has_begun = False

        def harmless(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
            nonlocal has_begun
            if has_begun:  # an error in the middle of a body: the program sees that the connection ends
                raise ConnectionAbortedError(errno.ECONNABORTED, status)
            has_begun = True
            return start_response(status, [*headers, *HARMLESS], *rest)

        return self._inner(environ, harmless)

    def _shows_secret(self, header: str) -> bool:
        scheme, _, given = header.partition(" ")
        if scheme.lower() != "basic":
            return False
        try:
            return hmac.compare_digest(read_password(given.strip()).encode(), self._secret.encode())
        except UsageError:
            return False


def _is_text(path: str) -> bool:
    """Whether a path, a character for each byte as WSGI has it, is UTF-8."""
    try:
        path.encode("latin-1").decode()
    except UnicodeError:
        return False
    return True


def nothing_here(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """WSGI: an application without anything in it."""
    return _refuse(start_response, "404 Not Found", tr("nothing is shared here"))


def _refuse(
    start_response: StartResponse, status: str, text: str, ask: Sequence[str] = ()
) -> Iterator[bytes]:
    body = f"{text}\n".encode()
    headers = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))]
    headers += [("WWW-Authenticate", one) for one in ask]
    start_response(status, [*headers, ("Connection", "close")])
    return iter([body])


def _finite_only(start_response: StartResponse) -> Iterator[bytes]:
    """RFC 4918, 9.1: a server may refuse to list a whole tree."""
    body = (
        b'<?xml version="1.0" encoding="utf-8"?>\n'
        b'<D:error xmlns:D="DAV:"><D:propfind-finite-depth/></D:error>'
    )
    headers = [("Content-Type", "application/xml; charset=utf-8"), ("Content-Length", str(len(body)))]
    start_response("403 Forbidden", headers)
    return iter([body])
