"""A relay for peers that cannot reach each other directly: the shell around `relay/server_core`.

TCP through asyncio, WebSockets (RFC 6455) and HTTP through the `websockets` library's protocol without I/O, so that
a datagram goes from one client's socket to the other's within one call, with no task or queue between. What a
client's connection has not yet taken waits in that connection's write buffer, which the core bounds.
"""

import asyncio
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from typing import Any, cast

from websockets.frames import CloseCode as WebSocketCode
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from coterie.errors import PeerError, UsageError
from coterie.identity import PeerId
from coterie.machine import PeerDown, Received, Send
from coterie.net.admission import network_of
from coterie.net.quic.addresses import join
from coterie.net.relay import server_core as core
from coterie.net.relay.server_core import RelayCore, RelayLimits, RelayMetrics
from coterie.texts import tr
from coterie.wire import relay as wire

RELAY_PATH = "/relay"
PING_PATH = "/ping"
ANY_IP = "0.0.0.0"  # noqa: S104  (to be reached by others is the purpose)
CLOSE_S = 1.0  # guess: for the last frames to go out; the user waits for this at Ctrl-C
RECONNECT_MS = 1_000  # guess: what clients are told when the relay stops: time for a restart
TRY_MS = 30_000  # guess
SLICE_BYTES = 8 << 10  # 1,365 of the smallest frames, some 10 ms; guess
STEP_S = 0.01  # guess: so long the slices of one link are handled before others have their turn
SMALL_BYTES = (
    1_024  # pieces below this are sent as one: each costs the transport some 200 bytes while it waits
)

_log = logging.getLogger(__name__)
_quiet = logging.getLogger("coterie.net.relay.server.websockets")
_quiet.setLevel(logging.WARNING)  # it would say "connection open" for each client


class RelayServer:
    """A relay. `await start()`, then clients may use it until `await close()`; or use as `async with`.

    Args:
        may_use: whether a peer may use this relay; strangers get what it says of them, so: nothing.
        port: of TCP; 0 takes any that is free.
    """

    def __init__(
        self,
        *,
        may_use: Callable[[PeerId], bool],
        limits: RelayLimits | None = None,
        host: str = ANY_IP,
        port: int = 0,
    ) -> None:
        self._limits = limits or RelayLimits()
        self._may_use = may_use
        self._host = host
        self._wanted_port = port
        self._server: asyncio.Server | None = None
        self._server6: asyncio.Server | None = None
        self._core: RelayCore | None = None
        self._links: dict[_Link, None] = {}
        self._unsent: dict[_Link, None] = {}
        self._sweep: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def port(self) -> int:
        """The TCP port we listen on; 0 when not started."""
        if self._server is None or not self._server.sockets:
            return 0
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def has_ipv6(self) -> bool:
        """Whether the same port of IPv6 is listened on too."""
        return self._server6 is not None or ":" in self._host

    @property
    def clients(self) -> list[PeerId]:
        """Who is connected now."""
        return [] if self._core is None else self._core.clients

    def metrics(self) -> RelayMetrics:
        """What was forwarded, dropped and denied since the start."""
        return RelayMetrics() if self._core is None else self._core.metrics()

    async def start(self) -> None:
        """Listen.

        Raises:
            UsageError: the port is taken, or the address is not this machine's.
        """
        if self._server is not None:
            raise UsageError(tr("this relay was started already"))
        loop = self._loop = asyncio.get_running_loop()
        self._core = RelayCore(
            may_use=self._may_use,
            backlog=lambda link: cast(_Link, link).backlog,
            random_bytes=os.urandom,
            limits=self._limits,
            now=loop.time(),
        )
        try:
            self._server = await loop.create_server(
                lambda: _Link(self, self._limits), self._host, self._wanted_port, reuse_address=True
            )
        except OSError as error:
            where = f"{self._host}:{self._wanted_port}"
            raise UsageError(
                tr("the relay cannot listen on TCP {where}: {strerror}", where=where, strerror=error.strerror)
            ) from None
        if self._host == ANY_IP:
            with suppress(OSError):  # no IPv6 here, or its port is taken: IPv4 alone
                self._server6 = await loop.create_server(
                    lambda: _Link(self, self._limits), "::", self.port, reuse_address=True
                )

    async def close(self) -> None:
        """Tell the clients, then end every link. Idempotent."""
        server, self._server = self._server, None
        server6, self._server6 = self._server6, None
        if server is None:
            return
        server.close()
        if server6 is not None:
            server6.close()
        for link in list(self._links):
            link.say_goodbye()
        ended = [link.ended for link in self._links]
        if ended:
            await asyncio.wait(ended, timeout=CLOSE_S)
        for link in list(self._links):
            link.abort()
        if self._links:
            await asyncio.wait([link.ended for link in self._links])
        if self._sweep is not None:
            self._sweep.cancel()
        await server.wait_closed()
        if server6 is not None:
            await server6.wait_closed()

    async def __aenter__(self) -> "RelayServer":
        if self._server is None:
            await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # What links call

    def joined(self, link: "_Link") -> None:
        """A TCP connection came."""
        self._links[link] = None
        self.feed(core.Opened(link, network_of(join(link.remote, 0))))
        self.flush()
        if self._sweep is None:
            self._arm()

    def left(self, link: "_Link") -> None:
        """It is gone."""
        self._links.pop(link, None)
        self._unsent.pop(link, None)
        self.feed(PeerDown(link))
        self.flush()

    def feed(self, event: Any) -> None:
        """Let the core handle `event` and do what it asks; `flush` sends it."""
        if self._core is None or self._loop is None:
            return
        for output in self._core.handle(event, self._loop.time()):
            match output:
                case Send(peer, message):
                    link = cast(_Link, peer)
                    link.send(wire.encode(message))
                    self._unsent[link] = None
                case core.Drop(peer, reason):
                    link = cast(_Link, peer)
                    _log.debug("relay: link of %s ended: %s", link.remote, reason)
                    link.drop()
                case core.Raw(peer, data):
                    link = cast(_Link, peer)
                    link.send_raw(data)
                    self._unsent[link] = None
                case core.Pause(peer, for_s):
                    cast(_Link, peer).pause(for_s)

    def flush(self) -> None:
        """Hand to the sockets what was sent since the last time: many datagrams in one write."""
        unsent, self._unsent = self._unsent, {}
        for link in unsent:
            link.flush()

    def _arm(self) -> None:
        self._sweep = asyncio.get_running_loop().call_later(core.SWEEP_S, self._swept)

    def _swept(self) -> None:
        self._sweep = None
        self.feed(core.SWEEP)
        self.flush()
        if self._links:
            self._arm()


class _Link(asyncio.Protocol):
    """One TCP connection: HTTP, then WebSocket messages."""

    def __init__(self, server: RelayServer, limits: RelayLimits) -> None:
        self._server = server
        self._limits = limits
        loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[None] = loop.create_future()
        self.remote = "?"
        self._transport: asyncio.Transport | None = None
        self._unsent: list[bytes] = []
        self._unsent_bytes = 0
        self._parts = b""
        self._unread = b""  # came, but the link is paused
        self._head_bytes = 0  # of the HTTP request
        self._is_dropped = False
        self._resume: asyncio.TimerHandle | None = None
        self._end: asyncio.TimerHandle | None = None
        self._socket = ServerProtocol(
            subprotocols=[Subprotocol(name) for name in wire.SUBPROTOCOLS],
            max_size=limits.frame_bytes_max,
            logger=_quiet,
        )

    @property
    def backlog(self) -> int:
        """Bytes that wait to be sent."""
        if self._transport is None:
            return 0
        return self._unsent_bytes + self._transport.get_write_buffer_size()

    # asyncio calls these

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        name = transport.get_extra_info("peername")
        self.remote = str(name[0]) if name else "?"
        self._server.joined(self)

    def data_received(self, data: bytes) -> None:
        self._unread += data
        self._read()

    def eof_received(self) -> bool:
        return False  # the transport closes itself

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        for timer in (self._resume, self._end):
            if timer is not None:
                timer.cancel()
        self._is_dropped = True
        self._server.left(self)
        if not self.ended.done():
            self.ended.set_result(None)

    # The server calls these

    def send(self, frame: bytes) -> None:
        """Put one relay frame behind what already waits."""
        if not self._is_dropped:
            with suppress(Exception):
                self._socket.send_binary(frame)
            self._collect()

    def send_raw(self, data: bytes) -> None:
        """Put bytes behind what already waits."""
        if not self._is_dropped:
            self._unsent.append(data)
            self._unsent_bytes += len(data)

    def flush(self) -> None:
        """Write what was collected."""
        if self._unsent and self._transport is not None:
            pieces, size = self._unsent, self._unsent_bytes
            self._unsent, self._unsent_bytes = [], 0
            if size < SMALL_BYTES * len(pieces):
                pieces = [b"".join(pieces)]
            self._transport.writelines(pieces)

    def pause(self, for_s: float) -> None:
        """Read nothing for a while; TCP tells the client."""
        if self._transport is None or self._is_dropped:
            return
        loop = asyncio.get_running_loop()
        if self._resume is not None:
            for_s = max(for_s, self._resume.when() - loop.time())
            self._resume.cancel()
        self._transport.pause_reading()
        self._resume = loop.call_later(for_s, self._resumed)

    def drop(self, code: WebSocketCode = WebSocketCode.NORMAL_CLOSURE) -> None:
        """Send what waits, then end; at once when the client does not take it."""
        if self._is_dropped:
            return
        self._is_dropped = True
        if self._transport is None:
            return
        self._collect()
        self.flush()
        self._transport.close()
        self._end = asyncio.get_running_loop().call_later(CLOSE_S, self.abort)

    def abort(self) -> None:
        """End now."""
        if self._transport is not None:
            self._transport.abort()

    def say_goodbye(self) -> None:
        """The relay stops."""
        self.send(wire.encode(wire.Restarting(RECONNECT_MS, TRY_MS)))
        self.drop()

    # Inside

    def _resumed(self) -> None:
        self._resume = None
        self._read()
        if self._transport is not None and self._resume is None and not self._is_dropped:
            self._transport.resume_reading()

    def _read(self) -> None:
        """What came, a slice at a time, until the link is paused: a megabyte of tiny frames is not one long step."""
        at, data = 0, self._unread
        now = asyncio.get_running_loop().time
        until = now() + STEP_S
        while at < len(data) and not self._is_dropped and self._resume is None:
            self._read_slice(data[at : at + SLICE_BYTES])
            at += SLICE_BYTES
            if at < len(data) and now() > until:
                self.pause(0.0)
        self._unread = b"" if self._is_dropped else data[at:]
        self.flush()
        self._server.flush()

    def _read_slice(self, data: bytes) -> None:
        if self._socket.state is State.CONNECTING:
            self._head_bytes += len(data)
            if self._head_bytes > self._limits.handshake_bytes_max:
                self._malformed("its request is too long")
                return
        self._socket.receive_data(data)
        # Nothing else was in there: sends are collected at once. So these are pongs, or the answer to a close.
        reply = b"".join(self._socket.data_to_send())
        frames = size = 0
        for event in self._socket.events_received():
            if self._is_dropped:
                return
            if isinstance(event, Request):
                self._answer(event)
            elif isinstance(event, Frame) and not self._take(event):
                frames += 1
                size += len(event.data)
        self._collect()
        if frames or reply:
            self._server.feed(core.Control(self, frames, size, reply))
        if self._socket.close_expected():
            self.drop()

    def _collect(self) -> None:
        for piece in self._socket.data_to_send():
            if piece:
                self._unsent.append(piece)
                self._unsent_bytes += len(piece)

    def _answer(self, request: Request) -> None:
        """The one HTTP request of this connection."""
        path = request.path.partition("?")[0]
        if path == RELAY_PATH:
            response = self._socket.accept(request)
            self._socket.send_response(response)
            if response.status_code == HTTPStatus.SWITCHING_PROTOCOLS:
                self._collect()
                is_newest = self._socket.subprotocol == wire.SUBPROTOCOLS[0]
                self._server.feed(core.Upgraded(self, 2 if is_newest else 1))
            return
        status = HTTPStatus.NO_CONTENT if path == "/generate_204" else HTTPStatus.OK
        response = self._socket.reject(status, "")
        if status is HTTPStatus.NO_CONTENT:
            del response.headers["Content-Length"]
        self._socket.send_response(response)

    def _take(self, frame: Frame) -> bool:
        """One WebSocket frame; a message may come in several. Whether it was, or ended, a message for the core."""
        if frame.opcode is Opcode.TEXT:
            self._malformed("text instead of binary messages")
            return True
        if frame.opcode not in (Opcode.BINARY, Opcode.CONT):
            return False
        data = frame.data
        if not frame.fin or self._parts:
            self._parts += data
            if not frame.fin:
                return False
            data, self._parts = self._parts, b""
        try:
            message = wire.decode_at_relay(cast(bytes, data))
        except PeerError as error:
            self._malformed(str(error))
            return True
        if message is None:
            return False
        self._server.feed(Received(self, message))
        return True

    def _malformed(self, reason: str) -> None:
        self._server.feed(core.Malformed(self, reason))
