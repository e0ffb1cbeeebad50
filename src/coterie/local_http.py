"""HTTP on 127.0.0.1 for this computer's own programs: uvicorn, bounded, on the node's event loop.

Other users of this computer can connect too. Who has not shown the secret is a stranger: of more than `STRANGERS_MAX`
the oldest is closed, so nobody who only connects keeps the owner's programs out, or takes all descriptors.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Iterator, MutableMapping
from functools import partial
from typing import Any

from uvicorn import Config as UvicornConfig
from uvicorn import Server as UvicornServer
from uvicorn.protocols.http.h11_impl import H11Protocol

from coterie.errors import TransportError
from coterie.texts import tr

HOST = "127.0.0.1"
HOSTS = (HOST, "localhost", "[::1]")  # what a client may call this computer
CONNECTIONS_MAX = 64  # of those who showed the secret
STRANGERS_MAX = 128  # guess: connections that have not; four rounds of `BACKLOG`, so that the newest is heard
BACKLOG = 32  # accepted in one turn of the event loop
HEADER_BYTES_MAX = 16 * 1024
HEADER_TIMEOUT_S = 10.0
KEEP_ALIVE_S = 5
MESSAGE_BYTES_MAX = 64 * 1024  # that a page sends at once
GRACE_S = 1  # calls under way have this long to say good-bye


def listen(port: int, advice: str) -> socket.socket:
    """A listening socket on this computer only; port 0: any free one.

    Raises:
        TransportError: the port is taken; its text ends with `advice`.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, port))
        listener.listen()
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise TransportError(
            tr(
                "port {port} on {host} cannot be used: {strerror}; {advice}",
                port=port,
                host=HOST,
                strerror=error.strerror,
                advice=advice,
            )
        ) from error
    return listener


def at_once(connection: Any) -> None:
    """Send what is written, however little it is. uvicorn writes head and body of an answer apart; without this the
    body waits for the other side to acknowledge the head, 40 ms. asyncio sees to it only where a socket says that its
    protocol is TCP, and one that listened does not.
    """
    if connection is not None and connection.family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError):  # it is gone already
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


class LocalServer(UvicornServer):
    """uvicorn without its signal handlers, and without its ten wake-ups a second; `serve([socket])` until `stop`."""

    def __init__(
        self,
        app: Any,
        may_connect: Callable[[Any], bool] = lambda _: True,
        may_upgrade: Callable[[Any], bool] | None = None,
    ) -> None:
        """Serve the ASGI application `app`, which calls `welcome` for a request that shows the secret.

        `may_connect` judges the socket of each connection before a byte of it is read; `may_upgrade` the ASGI scope of
        a request that asks for a WebSocket (None: there are none).
        """
        strangers: dict[BoundedProtocol, None] = {}
        super().__init__(
            UvicornConfig(
                app,
                http=partial(BoundedProtocol, strangers, may_connect, may_upgrade),  # type: ignore[arg-type]
                backlog=BACKLOG,
                ws=_web_socket if may_upgrade else "none",  # type: ignore[arg-type]
                ws_max_size=MESSAGE_BYTES_MAX,
                ws_per_message_deflate=False,  # it never leaves the computer, or is a few kilobytes
                lifespan="off",
                access_log=False,
                log_config=None,
                server_header=False,
                date_header=False,
                proxy_headers=False,
                limit_concurrency=CONNECTIONS_MAX + STRANGERS_MAX,
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=GRACE_S,
                h11_max_incomplete_event_size=HEADER_BYTES_MAX,
            )
        )
        self._stop = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to the program that runs the node."""
        yield

    async def main_loop(self) -> None:
        """Wait for `stop`."""
        await self._stop.wait()

    def stop(self) -> None:
        """End `serve`."""
        self._stop.set()


def _web_socket(**given: Any) -> asyncio.Protocol:
    """uvicorn's protocol for WebSockets, imported where the first one comes."""
    from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

    return WebSocketsSansIOProtocol(**given)


_REFUSED = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_WELCOME = "coterie.welcome"


def welcome(scope: MutableMapping[str, Any]) -> None:
    """The request of this ASGI scope showed the secret: its connection is no stranger's."""
    scope.get(_WELCOME, lambda: None)()


class BoundedProtocol(H11Protocol):
    """uvicorn's HTTP/1.1 protocol for one connection, which is one of the `strangers` until it is welcome.

    It does not wait for ever for the first request; later requests are bounded by uvicorn's keep-alive timeout.
    """

    def __init__(
        self,
        strangers: "dict[BoundedProtocol, None]",
        may_connect: Callable[[Any], bool],
        may_upgrade: Callable[[Any], bool] | None,
        **given: Any,
    ) -> None:
        super().__init__(**given)
        self._strangers = strangers
        self._may_connect = may_connect
        self._may_upgrade = may_upgrade
        inner: Any = self.app

        async def app(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
            scope[_WELCOME] = partial(strangers.pop, self, None)
            await inner(scope, receive, send)

        self.app = app

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock for the request's headers; one more stranger."""
        super().connection_made(transport)
        self._header_timer = self.loop.call_later(HEADER_TIMEOUT_S, self._give_up)
        at_once(transport.get_extra_info("socket"))
        if not self._may_connect(transport.get_extra_info("socket")):
            transport.abort()
            return
        self._strangers[self] = None
        if len(self._strangers) > STRANGERS_MAX:
            oldest = next(iter(self._strangers))
            del self._strangers[oldest]
            oldest.transport.abort()  # at once, also when it does not read what it was answered

    def handle_websocket_upgrade(self, event: Any) -> None:
        """Hand the connection over to the protocol of WebSockets, or refuse; it is no stranger's any more."""
        if self._may_upgrade is None or not self._may_upgrade(self.scope):
            self.transport.write(_REFUSED)
            self.transport.close()
            return
        self._header_timer.cancel()
        self._strangers.pop(self, None)
        super().handle_websocket_upgrade(event)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._header_timer.cancel()
        self._strangers.pop(self, None)
        super().connection_lost(exc)

    def _give_up(self) -> None:
        if self.cycle is None and not self.transport.is_closing():
            self.transport.close()
