"""The TCP listener of lanes: open while somebody was told of it, deaf to everybody else.

Whoever connects must send the 32-byte token that was given to one peer over the authenticated connection, and gets not
a byte before that: a scanner sees a connection that closes. A token serves once; TLS with pinned certificates follows.
"""

import asyncio
import hmac
import ipaddress
import os
import socket
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from coterie.errors import LimitExceeded, TransportError
from coterie.tasks import Tasks
from coterie.texts import tr
from coterie.wire.lanes import PORT_MIN, TOKEN_BYTES

TOKEN_S = 2.0  # guess: a round trip of a bad link and the first packet behind it
INVITED_S = 6.0  # guess: how long a listener waits for the one who was told of it
INVITED_MAX = 16  # guess: lanes being made at once, of all peers
STRANGERS_MAX = 16  # guess: connections that have not shown a token yet; of more, the oldest is closed
BACKLOG = 16


@dataclass(eq=False)
class _Invitation:
    token: bytes
    came: "asyncio.Future[socket.socket]"


@dataclass(eq=False)
class _Port:
    listener: socket.socket
    task: "asyncio.Task[None] | None" = None
    invitations: list[_Invitation] = field(default_factory=list)


class LaneListener:
    """The listening sockets of one node, one for each local address in use."""

    def __init__(self, tasks: Tasks | None = None) -> None:
        self._ports: dict[str, _Port] = {}
        self._tasks = tasks or Tasks("lanes")
        self._strangers = self._tasks.part("lanes")
        self._identifying: dict[asyncio.Task[None], None] = {}

    @property
    def listening_at(self) -> list[tuple[str, int]]:
        """(address, port) of every socket that is open now."""
        return [(ip, port.listener.getsockname()[1]) for ip, port in self._ports.items()]

    def invite(self, ip: str) -> tuple[bytes, int, "asyncio.Future[socket.socket]"]:
        """Listen at `ip`; the token and port to tell the peer, and the connection that will show the token.

        The listener closes when the last future is done or cancelled; the caller bounds the wait.

        Raises:
            LimitExceeded: `INVITED_MAX` are awaited.
            TransportError: the system does not let us listen there.
        """
        if sum(len(port.invitations) for port in self._ports.values()) >= INVITED_MAX:
            raise LimitExceeded(
                tr("{invited_max} lanes are being made (INVITED_MAX)", invited_max=INVITED_MAX)
            )
        port = self._ports.get(ip)
        if port is None:
            port = self._ports[ip] = _Port(_listen(ip))
            port.task = self._tasks.keep(lambda: self._accept(port), "listening for lanes")
        invitation = _Invitation(os.urandom(TOKEN_BYTES), asyncio.get_running_loop().create_future())
        port.invitations.append(invitation)
        invitation.came.add_done_callback(lambda _: self._withdraw(ip, port, invitation))
        return invitation.token, port.listener.getsockname()[1], invitation.came

    async def close(self) -> None:
        """Stop listening; futures that were handed out are cancelled."""
        for port in list(self._ports.values()):
            for invitation in list(port.invitations):
                invitation.came.cancel()
        await self._strangers.close()
        await asyncio.sleep(0)  # the callbacks of what was cancelled close the listeners

    def _withdraw(self, ip: str, port: _Port, invitation: _Invitation) -> None:
        port.invitations.remove(invitation)
        if not port.invitations and self._ports.get(ip) is port:
            del self._ports[ip]
            if port.task is not None:
                port.task.cancel()
            port.listener.close()

    async def _accept(self, port: _Port) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, _ = await loop.sock_accept(port.listener)
            except OSError:
                await asyncio.sleep(0.1)  # out of descriptors; the invitation's own time ends this
                continue
            if len(self._identifying) >= STRANGERS_MAX:
                next(iter(self._identifying)).cancel()  # an older one goes: the one awaited may be the newest
            sock.setblocking(False)
            task = self._strangers.start(self._identify(port, sock), "hearing who comes for a lane")
            self._identifying[task] = None
            task.add_done_callback(self._identifying.pop)
            task.add_done_callback(partial(_close_cancelled, sock))
            await asyncio.sleep(0)  # it begins, and others have their turn, however many come

    async def _identify(self, port: _Port, sock: socket.socket) -> None:
        """Hand the connection to who waits for its token, or close it without a word."""
        loop = asyncio.get_running_loop()
        shown = b""
        try:
            with suppress(OSError, TimeoutError):
                async with asyncio.timeout(TOKEN_S):
                    while len(shown) < TOKEN_BYTES:
                        part = await loop.sock_recv(sock, TOKEN_BYTES - len(shown))
                        if not part:
                            break
                        shown += part
        except asyncio.CancelledError:
            sock.close()
            raise
        # All are compared, each in constant time: how long it takes tells nothing of any token.
        fitting = [i for i in port.invitations if hmac.compare_digest(i.token, shown)]
        if fitting and not fitting[0].came.done():
            fitting[0].came.set_result(sock)
        else:
            sock.close()


def _close_cancelled(sock: socket.socket, task: "asyncio.Task[None]") -> None:
    if task.cancelled():
        sock.close()


def local_ip_towards(remote_ip: str, bind_ip: str) -> str | None:
    """The one address of this machine from which `remote_ip` is reached; None when `bind_ip` is another.

    Nothing is sent: the system is asked for its route.
    """
    family = socket.AF_INET6 if ":" in remote_ip else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(place(remote_ip, 9))
            local = str(probe.getsockname()[0]).partition("%")[0]
    except OSError:
        return None
    bound, found = ipaddress.ip_address(bind_ip), ipaddress.ip_address(local)
    # This machine's own peers may be on either family's loopback: the transport listens there as well.
    scoped = local + "".join(
        remote_ip.partition("%")[1:]
    )  # the same cable, where the address alone says too little
    return scoped if bound.is_unspecified or found.is_loopback or bound == found else None


def place(ip: str, port: int) -> Any:
    """What sockets take for `ip`, which may carry an interface ("fe80::1%2"): that is lost in a bare (ip, port)."""
    return socket.getaddrinfo(ip, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)[0][4]


def _listen(ip: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.bind(place(ip, 0))
        if listener.getsockname()[1] < PORT_MIN:  # the system's range of free ports was set so low
            raise OSError("the system gives only ports that are other services'")
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise TransportError(tr("cannot listen for lanes on {ip}: {error}", ip=ip, error=error)) from None
    return listener
