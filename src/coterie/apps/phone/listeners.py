"""Waits for phones on a TCP port of every interface: HTTP, or HTTPS. It lets in connections, within bounds, no person.

The kernel's handshakes of TLS are ours to bound: so connections are accepted here and handed to the server one by one.
"""

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Callable, Collection
from functools import partial
from typing import TYPE_CHECKING, Any

from coterie.apps.phone.certificates import is_private
from coterie.rate import Rate
from coterie.services.local.listeners import BACKLOG, FULL_S, LOOPBACK, address_of, bound
from coterie.tasks import Tasks
from coterie.texts import tr

if TYPE_CHECKING:
    from coterie.local_http import LocalServer

HANDSHAKE_S = 10.0  # a phone that is far from its access point
HANDSHAKES_MAX = 64  # at once
CONNECTIONS_MAX = 160  # of one port, all phones and strangers together
CONNECTIONS_OF_ONE_MAX = 48  # of one address: a browser has six, and a family may share one

log = logging.getLogger(__name__)


class PhoneListener:
    """Serves `app`, which also has `may_upgrade(scope)`, at one port. `context` gives the TLS context; None: HTTP."""

    secret = ""

    def __init__(
        self, name: str, app: Any, tasks: Tasks, context: Callable[[], ssl.SSLContext] | None = None
    ) -> None:
        self.kind = "http" if context is None else "https"
        self.refused = 0
        self._name = name
        self._app = app
        self._tasks = tasks
        self._context = context
        self._listening: socket.socket | None = None
        self._server: LocalServer | None = None
        self._running: list[asyncio.Task[None]] = []
        self._handshakes = asyncio.Semaphore(HANDSHAKES_MAX)
        self._told = Rate(1 / 60, 1)

    @property
    def users(self) -> str:
        return tr("your phones on the local network")

    @property
    def connections(self) -> int:
        return len(self._server.server_state.connections) if self._server is not None else 0

    @property
    def address(self) -> str:
        return address_of(self._listening) if self._listening is not None else ""

    @property
    def number(self) -> int:
        return self._listening.getsockname()[1] if self._listening is not None else 0

    def start(self, number: int) -> None:
        """Raises `UsageError` when the port is not to be had, `StorageError` where no certificate can be made."""
        from coterie.local_http import LocalServer  # only while a port is open

        context = self._context() if self._context is not None else None
        self._listening = bound(number, is_lan=True)
        self._listening.listen(BACKLOG)
        self._server = LocalServer(self._app, may_upgrade=self._app.may_upgrade)
        self._running = [
            self._tasks.start(self._server.serve([]), f"the server at {self._name}"),
            self._tasks.keep(
                partial(self._accept, self._listening, self._server, context), f"the port {self._name}"
            ),
        ]

    async def stop(self) -> None:
        """Listen no more, end every connection."""
        if self._listening is None or self._server is None:
            return
        listening, self._listening = self._listening, None
        server, self._server = self._server, None
        serving, accepting = self._running
        accepting.cancel()
        for connection in list(server.server_state.connections):
            self._abort(connection)
        server.stop()
        await asyncio.wait([serving, accepting])
        listening.close()

    def end(self, lines: Collection[tuple[str, int]]) -> None:
        """End the connections whose other end is one of these addresses and ports, at once."""
        for connection in list(self._server.server_state.connections) if self._server is not None else ():
            if tuple((getattr(connection, "client", None) or ())[:2]) in lines:
                self._abort(connection)

    @staticmethod
    def _abort(connection: Any) -> None:
        transport = getattr(connection, "transport", None)
        if transport is not None:
            transport.abort()

    async def _accept(
        self, listening: socket.socket, server: "LocalServer", context: ssl.SSLContext | None
    ) -> None:
        loop = asyncio.get_running_loop()
        while not server.started:  # noqa: ASYNC110  (uvicorn has no event for it; two steps of the loop)
            await asyncio.sleep(0)
        pending: set[asyncio.Task[None]] = set()
        try:
            while True:
                await self._handshakes.acquire()
                try:
                    accepted, address = await loop.sock_accept(listening)
                except OSError as error:
                    self._handshakes.release()
                    log.info("port %s: %s", self._name, error)
                    await asyncio.sleep(FULL_S)
                    continue
                except asyncio.CancelledError:
                    self._handshakes.release()
                    raise
                if self._is_too_many(server, address[0]):
                    self.refused += 1
                    self._handshakes.release()
                    accepted.close()
                    continue
                task = asyncio.ensure_future(self._greet(loop, accepted, server, context))
                pending.add(task)
                task.add_done_callback(pending.discard)
                task.add_done_callback(lambda _: self._handshakes.release())
        finally:
            for task in list(pending):
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)

    def _is_too_many(self, server: "LocalServer", address: str) -> bool:
        there = [getattr(one, "client", None) or ("",) for one in server.server_state.connections]
        of_one = sum(client[0] == address for client in there)
        return len(there) >= CONNECTIONS_MAX or of_one >= CONNECTIONS_OF_ONE_MAX

    async def _greet(
        self,
        loop: asyncio.AbstractEventLoop,
        accepted: socket.socket,
        server: "LocalServer",
        context: ssl.SSLContext | None,
    ) -> None:
        """Hand one connection to the server."""
        config: Any = server.config
        accepted.setblocking(False)
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        make = partial(
            config.http_protocol_class,
            config=config,
            server_state=server.server_state,
            app_state=server.lifespan.state,
            _loop=loop,
        )
        try:
            await loop.connect_accepted_socket(
                make, accepted, ssl=context, ssl_handshake_timeout=HANDSHAKE_S if context else None
            )
        except (OSError, ssl.SSLError) as error:  # it does not know our authority, or speaks no TLS
            self.refused += 1
            if self._told.take(loop.time()):
                log.info("port %s: a connection ended before its first request: %s", self._name, error)
            with contextlib.suppress(OSError):
                accepted.close()


def own_addresses() -> list[str]:
    """Private IPv4 addresses of this computer, loopback last."""
    import ifaddr  # 30 ms

    found = [str(ip.ip) for adapter in ifaddr.get_adapters() for ip in adapter.ips if ip.is_IPv4]
    return [*(one for one in dict.fromkeys(found) if is_private(one) and one != LOOPBACK), LOOPBACK]
