"""The port to which the kernel redirects the TCP connections that programs of this computer begin.

Every user's programs come here, but only redirected: a connection that a program makes to the port itself is closed.
"""

import asyncio
import ipaddress
import logging
import socket
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from coterie.errors import UsageError
from coterie.services.local.dns_port import both_loopbacks
from coterie.services.local.listeners import CONNECTIONS_MAX, FULL_S, LOOPBACK
from coterie.tasks import Tasks
from coterie.texts import tr

_ORIGINAL = 80  # linux/netfilter_ipv4.h, ip6_tables.h: SO_ORIGINAL_DST, IP6T_SO_ORIGINAL_DST

log = logging.getLogger(__name__)

Carry = Callable[[str, int, socket.socket], Awaitable[None]]
"""Carries one connection to an address and port until it ends."""


def original_of(accepted: socket.socket) -> tuple[str, int] | None:
    """Where a redirected connection was going; None: it was not redirected."""
    is_six = accepted.family == socket.AF_INET6
    try:
        raw = accepted.getsockopt(
            socket.IPPROTO_IPV6 if is_six else socket.IPPROTO_IP, _ORIGINAL, 28 if is_six else 16
        )
    except OSError:
        return None
    where = str(ipaddress.ip_address(raw[8:24] if is_six else raw[4:8])), int.from_bytes(raw[2:4], "big")
    return None if where == accepted.getsockname()[:2] else where


class Door:
    """A listener for `context.local.port`."""

    kind = "tcp"
    users = "every program of this computer"
    secret = ""

    def __init__(self, carry: Carry, name: str, tasks: Tasks) -> None:
        self.connections = self.refused = 0
        self.number = 0
        self._carry = carry
        self._name = name
        self._tasks = tasks
        self._sockets: list[socket.socket] = []
        self._work: dict[asyncio.Task[None], None] = {}

    @property
    def address(self) -> str:
        return f"{LOOPBACK}:{self.number}" if self.number else ""

    def start(self, number: int) -> None:
        """Raises `UsageError`: the port is not to be had."""
        try:
            self._sockets = both_loopbacks(socket.SOCK_STREAM, number)
        except OSError as error:
            raise UsageError(
                tr("the port of the exit cannot be opened: {strerror}", strerror=error.strerror)
            ) from None
        self.number = self._sockets[0].getsockname()[1]
        for server in self._sockets:
            self._keep(self._accept(server))

    async def stop(self) -> None:
        """Listen no more, end every connection."""
        ending = list(self._work)
        for task in ending:
            task.cancel()
        if ending:
            await asyncio.wait(ending)
        for made in self._sockets:
            made.close()
        self._sockets.clear()
        self.number = 0

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._tasks.start(work, f"the port {self._name}")
        self._work[task] = None
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._work.pop(task, None)

    async def _accept(self, server: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, _ = await loop.sock_accept(server)
            except OSError as error:  # no descriptor is left, or who came has gone
                log.info("port %s: %s", self._name, error)
                await asyncio.sleep(FULL_S)
                continue
            where = original_of(accepted)
            if where is None or self.connections >= CONNECTIONS_MAX:
                self.refused += 1
                accepted.close()
                continue
            accepted.setblocking(False)
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.connections += 1
            self._keep(self._one(accepted, *where))

    async def _one(self, accepted: socket.socket, address: str, port: int) -> None:
        try:
            await self._carry(address, port, accepted)
        finally:
            self.connections -= 1
            accepted.close()
