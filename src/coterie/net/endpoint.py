"""Endpoint: one node on the network. Registers protocols, connects to peers, answers theirs."""

import asyncio
import logging
import os
from collections.abc import Callable, Sequence

from coterie.errors import CloseCode, TransportError, UsageError
from coterie.identity import PeerId
from coterie.net.ahead import Ahead
from coterie.net.connection import Connection
from coterie.net.dialable import Dialling, Source
from coterie.net.guard import Guard
from coterie.net.interfaces import RawConnection, Transport
from coterie.net.lanes.lanes import Lanes, PeerLanes
from coterie.net.limits import NetLimits
from coterie.net.pool import Pool
from coterie.net.router import Handler, Router
from coterie.tasks import Tasks
from coterie.texts import tr
from coterie.wire.frames import Protocol
from coterie.wire.handshake import BOOT_BYTES
from coterie.wire.lanes import PROTOCOL as LANES_PROTOCOL

CLOSE_S = 5.0  # guess: for handlers to end what they hold; then they are cancelled

Listener = Callable[[Connection], None]

_log = logging.getLogger(__name__)


class Endpoint:
    """A node over any `Transport`, which it owns from now on. Use as `async with`, or `start` and `close`."""

    def __init__(
        self,
        transport: Transport,
        *,
        guard: Guard | None = None,
        limits: NetLimits | None = None,
        boot: bytes | None = None,
        lanes: Lanes | None = None,
        tasks: Tasks | None = None,
        uses_relays: bool = True,
        opened: asyncio.Event | None = None,
    ) -> None:
        """`boot` is the nonce of this run (16 bytes, random by default); a simulation passes its own.

        `lanes` let bulk leave the transport where TCP reaches the peer; None: never. `opened`: set once every
        protocol is registered; streams of others wait for it.
        """
        self._limits = limits or NetLimits()
        self._transport = transport
        self._guard = guard or Guard(limits=self._limits)
        self.dialling = Dialling(lambda: transport.addresses, uses_relays=uses_relays)
        """What is dialled, and what is not: asked before every dial."""
        self.tasks = tasks or Tasks("network")
        """Owns all background work of this node's network; others take a `part`."""
        self._connected = self.tasks.part("network")
        self._router = Router(self._guard, self._limits, self.tasks.part("network"), opened)
        boot = os.urandom(BOOT_BYTES) if boot is None else boot
        self._pool = Pool(
            transport,
            boot=boot,
            guard=self._guard,
            limits=self._limits,
            adopt=self._adopt,
            prepare=self._prepare,
            has_lanes=lanes is not None,
            tasks=self.tasks.part("network"),
        )
        self._accepting: asyncio.Task[None] | None = None
        self._on_up: list[Listener] = []
        self._on_down: list[Listener] = []
        self._up: dict[Connection, None] = {}  # those that `_on_up` was told of
        self._is_closed = False
        self._lanes = lanes
        if lanes is not None:
            # A stranger may be asked for a file; `Lanes` itself takes none but from whom bulk is being read.
            self.register(LANES_PROTOCOL, lanes.handle, strangers=True)

    @property
    def peer_id(self) -> PeerId:
        return self._transport.peer_id

    @property
    def addresses(self) -> list[str]:
        """Where others may dial us."""
        return self._transport.addresses

    @property
    def limits(self) -> NetLimits:
        return self._limits

    @property
    def connections(self) -> list[Connection]:
        """The established connections, at most one per peer."""
        return self._pool.connections

    def register(self, protocol: Protocol, handler: Handler, *, strangers: bool = False) -> None:
        """Give every stream of `protocol` that the guard lets through to `handler(stream)`.

        When the handler returns the stream is finished; when it raises, only its stream is reset: with the
        code of a
        `PeerError`, LIMIT for `LimitExceeded`, REFUSED for `AccessDenied`, INTERNAL for anything else.
        """
        self._router.register(protocol, handler, strangers=strangers)

    def unregister(self, protocol: str) -> None:
        """Serve no stream of the protocol with this name any more; those that run are ended."""
        self._router.unregister(protocol)

    @property
    def protocols(self) -> list[str]:
        """The names of all that is registered."""
        return self._router.protocols

    def watch(self, *, up: Listener | None = None, down: Listener | None = None) -> None:
        """Call `up` soon with each connection that is there, and with each new one; `down` with each that ended."""
        if up is not None:
            self._on_up.append(up)
            for connection in self._up:
                asyncio.get_running_loop().call_soon(self._tell_late, up, connection)
        if down is not None:
            self._on_down.append(down)

    def start(self) -> None:
        """Begin to accept connections."""
        if self._accepting is not None or self._is_closed:
            raise UsageError(tr("this endpoint was started already"))
        self._accepting = self.tasks.keep(self._accept, "accepting connections")

    def review(self) -> None:
        """The guard may answer otherwise now: end the streams and connections that it no longer allows."""
        self._pool.review()
        self._router.review()

    def require_unblocked(self, peer: PeerId) -> None:
        """Raise `AccessDenied` when `peer` is to get nothing at all: nothing may dial it or look for it."""
        self._guard.require_unblocked(peer)

    def has_reached(self, peer: PeerId) -> bool:
        """Whether something answers a dial of `peer` that is under way."""
        return self._pool.has_reached(peer)

    async def connect(
        self,
        peer: PeerId,
        addresses: Sequence[str] = (),
        *,
        source: Source = Source.OTHERS,
        ahead: Ahead | None = None,
    ) -> Connection:
        """The one connection to `peer`; dials `addresses` (or where it was last reached) when there is none.

        `ahead`: the stream that the caller will open next, with the same first frames; it goes out with the greeting.

        Raises:
            AccessDenied: `peer` is blocked here.
            TransportError: not reached within `dial_s`; the text says what was tried.
            PeerError: the peer refuses the connection.
            LimitExceeded: `connections_max` are open.
            UsageError: `peer` is this node.
        """
        if peer == self.peer_id:
            raise UsageError(tr("a node cannot connect to itself"))
        return await self._pool.get(peer, self.dialling.usable(addresses, source), ahead)

    async def close(self) -> None:
        """Close every connection with SHUTDOWN, end every handler, free the port."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._accepting is not None:
            self._accepting.cancel()
            await asyncio.wait([self._accepting])
        if self._lanes is not None:
            await self._lanes.close()
        await self._pool.close()
        await self._router.close()
        await self._transport.close()
        await self._connected.close(CLOSE_S)
        await self.tasks.close()

    async def __aenter__(self) -> "Endpoint":
        self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _accept(self) -> None:
        while True:
            try:
                raw = await self._transport.accept()
            except TransportError:
                return
            self._pool.admit(raw)

    def _adopt(self, raw: RawConnection, boot: bytes, is_dialled: bool) -> Connection:
        connection = Connection(
            raw,
            boot=boot,
            is_dialled=is_dialled,
            limits=self._limits,
            successor=self._successor,
            may_receive=self._router.may_open,
        )
        if self._lanes is not None:
            connection.lanes = self._lanes.of(connection)
        self._connected.start(self._live(raw, connection), "serving a connection")
        return connection

    async def _prepare(
        self, raw: RawConnection, ahead: Ahead
    ) -> tuple[list[Ahead], Callable[[Connection], None]]:
        """What goes out ahead: where much is to come, an invitation to a lane before what asks for it."""
        invitation = await self._lanes.invitation(raw) if self._lanes and ahead.reads_bulk else None
        if invitation is None:
            return [ahead], lambda _: None

        def await_invited(connection: Connection) -> None:
            if isinstance(connection.lanes, PeerLanes):
                connection.lanes.await_invited(invitation)

        return [Ahead(LANES_PROTOCOL, invitation.first), ahead], await_invited

    async def _live(self, raw: RawConnection, connection: Connection) -> None:
        """A connection from its first stream to its end."""
        try:
            self._up[connection] = None
            _tell(self._on_up, connection)
            await self._router.serve(raw, connection)
            await connection.closed()
        finally:
            connection.close(CloseCode.INTERNAL, "")  # nothing, unless serving it failed
            self._pool.forget(connection)
            if isinstance(connection.lanes, PeerLanes):
                await connection.lanes.close()
            await connection.wind_up()
            self._up.pop(connection, None)
            _tell(self._on_down, connection)

    def _tell_late(self, up: Listener, connection: Connection) -> None:
        if connection in self._up:
            _tell((up,), connection)

    async def _successor(self, old: Connection) -> Connection:
        self._pool.forget(old)
        return await self._pool.get(old.peer, ())


def _tell(listeners: Sequence[Listener], connection: Connection) -> None:
    for listener in listeners:
        try:
            listener(connection)
        except Exception:  # noqa: BLE001  (a listener may fail in any way; the connection and the others go on)
            _log.exception("a listener for connections failed")
