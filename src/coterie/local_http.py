"""HTTP on 127.0.0.1 for this computer's own programs: uvicorn, bounded, on the node's event loop."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Iterator
from typing import Any

from uvicorn import Config as UvicornConfig
from uvicorn import Server as UvicornServer
from uvicorn.protocols.http.h11_impl import H11Protocol

from coterie.errors import TransportError

HOST = "127.0.0.1"
CONNECTIONS_MAX = 64
HEADER_BYTES_MAX = 16 * 1024
HEADER_TIMEOUT_S = 10.0
KEEP_ALIVE_S = 5
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
        raise TransportError(f"port {port} on {HOST} cannot be used: {error.strerror}; {advice}") from error
    return listener


class LocalServer(UvicornServer):
    """uvicorn without its signal handlers, and without its ten wake-ups a second; `serve([socket])` until `stop`."""

    def __init__(self, app: Any) -> None:
        """Serve the ASGI application `app`."""
        super().__init__(
            UvicornConfig(
                app,
                http=BoundedProtocol,
                ws="none",
                lifespan="off",
                access_log=False,
                log_config=None,
                server_header=False,
                date_header=False,
                proxy_headers=False,
                limit_concurrency=CONNECTIONS_MAX,
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


class BoundedProtocol(H11Protocol):
    """uvicorn's HTTP/1.1 protocol that does not wait for ever for the first request of a connection.

    Later requests are bounded by uvicorn's keep-alive timeout.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock for the request's headers."""
        super().connection_made(transport)
        self._header_timer = self.loop.call_later(HEADER_TIMEOUT_S, self._give_up)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._header_timer.cancel()
        super().connection_lost(exc)

    def _give_up(self) -> None:
        if self.cycle is None and not self.transport.is_closing():
            self.transport.close()
