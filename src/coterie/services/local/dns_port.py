"""A server of the DNS on loopback, over UDP and TCP at one port, of IPv4 and IPv6.

Resolvers of the system ask it under users of their own, so every user of this computer may: its answers are no
secret.
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from coterie.errors import PeerError, UsageError
from coterie.services.local.listeners import BACKLOG, FULL_S, LOOPBACK
from coterie.tasks import Tasks
from coterie.texts import tr
from coterie.wire.dns import MESSAGE_BYTES_MAX, fitted, read_question

QUESTIONS_MAX = 1_000  # under way at once; later ones are lost, as UDP loses them
TALKS_MAX = 100  # connections over TCP at once; later ones are closed
QUESTION_S = 10.0  # for the next question of a connection: RFC 7766 (6.2.3) allows seconds
TRIES_MAX = 16  # for a number that is free for UDP and TCP
LOOPBACK_6 = "::1"
LENGTH_BYTES = 2  # before each message over TCP: RFC 1035, 4.2.2

log = logging.getLogger(__name__)

Ask = Callable[[bytes], Awaitable[bytes]]
"""The answer to a message of the DNS. Raises `PeerError`: it is no question."""


def both_loopbacks(sort: int, number: int) -> list[socket.socket]:
    """Sockets, not blocking, at one port of 127.0.0.1 and ::1; without IPv6 of the first alone. Raises `OSError`."""
    made = [socket.socket(socket.AF_INET, sort)]
    try:
        if sort == socket.SOCK_STREAM:
            made[0].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made[0].bind((LOOPBACK, number))
        number = made[0].getsockname()[1]
        with contextlib.suppress(OSError):  # no IPv6 here
            six = socket.socket(socket.AF_INET6, sort)
            made.append(six)
            if sort == socket.SOCK_STREAM:
                six.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            six.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            six.bind((LOOPBACK_6, number))
        for one in made:
            one.setblocking(False)
            if sort == socket.SOCK_STREAM and one.getsockname()[1]:
                one.listen(BACKLOG)
    except OSError:
        for one in made:
            one.close()
        raise
    return [one for one in made if one.getsockname()[1]]


class DnsPort:
    """A listener for `context.local.port`."""

    kind = "udp"
    users = "every program of this computer"
    secret = ""

    def __init__(self, ask: Ask, name: str, tasks: Tasks) -> None:
        self.connections = self.refused = 0
        self.number = 0
        self._ask = ask
        self._name = name
        self._tasks = tasks
        self._sockets: list[socket.socket] = []
        self._work: dict[asyncio.Task[None], None] = {}
        self._asked = 0

    @property
    def address(self) -> str:
        return f"{LOOPBACK}:{self.number}" if self.number else ""

    def start(self, number: int) -> None:
        """Raises `UsageError`: the port is not to be had."""
        for left in reversed(range(TRIES_MAX)):
            try:
                talks = both_loopbacks(socket.SOCK_STREAM, number)
                self._sockets += talks
                self.number = talks[0].getsockname()[1]
                questions = both_loopbacks(socket.SOCK_DGRAM, self.number)
                self._sockets += questions
                break
            except OSError as error:
                self._close()
                if number or not left:
                    raise UsageError(
                        tr(
                            "port {number} cannot be opened: {strerror}; choose another with --port",
                            number=number,
                            strerror=error.strerror,
                        )
                    ) from None
        for server in talks:
            self._keep(self._accept(server))
        for server in questions:
            self._keep(self._read(server))

    async def stop(self) -> None:
        """Listen no more, end every connection."""
        ending = list(self._work)
        for task in ending:
            task.cancel()
        if ending:
            await asyncio.wait(ending)
        self._close()

    def _close(self) -> None:
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

    async def _read(self, server: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                question, sender = await loop.sock_recvfrom(server, MESSAGE_BYTES_MAX)
            except OSError as error:  # what was answered before had no taker
                log.debug("port %s: %s", self._name, error)
                continue
            if self._asked >= QUESTIONS_MAX:
                self.refused += 1
                continue
            self._asked += 1
            self._keep(self._answer(server, question, sender))

    async def _answer(self, server: socket.socket, question: bytes, sender: Any) -> None:
        try:
            answered = fitted(read_question(question), await self._ask(question))
            with contextlib.suppress(OSError):  # who asked has gone
                server.sendto(answered, sender)
        except PeerError as error:
            self.refused += 1
            log.debug("a question to the DNS: %s", error)
        finally:
            self._asked -= 1

    async def _accept(self, server: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, _ = await loop.sock_accept(server)
            except OSError as error:  # no descriptor is left, or who came has gone
                log.info("port %s: %s", self._name, error)
                await asyncio.sleep(FULL_S)
                continue
            if self.connections >= TALKS_MAX:
                self.refused += 1
                accepted.close()
                continue
            accepted.setblocking(False)
            self.connections += 1
            self._keep(self._talk(accepted))

    async def _talk(self, accepted: socket.socket) -> None:
        """Questions over TCP, one after another (RFC 7766)."""
        loop = asyncio.get_running_loop()
        try:
            with contextlib.suppress(OSError, PeerError, TimeoutError):
                while True:
                    async with asyncio.timeout(QUESTION_S):
                        length = int.from_bytes(await _exactly(accepted, LENGTH_BYTES), "big")
                        question = await _exactly(accepted, length)
                    answered = await self._ask(question)
                    await loop.sock_sendall(accepted, len(answered).to_bytes(LENGTH_BYTES, "big") + answered)
        finally:
            self.connections -= 1
            accepted.close()


async def _exactly(accepted: socket.socket, size: int) -> bytes:
    """Raises `PeerError`: it ends before."""
    loop, data = asyncio.get_running_loop(), b""
    while len(data) < size:
        more = await loop.sock_recv(accepted, size - len(data))
        if not more:
            raise PeerError("a program ended its question before its end")
        data += more
    return data
