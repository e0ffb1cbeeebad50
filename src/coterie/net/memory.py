"""An in-process network with the semantics of `quic`: for tests, simulations and application authors.

No threads, sockets or real waiting: all time is the event loop's, so that a loop with virtual time runs it.
The same calls in the same order give the same run.
"""

import asyncio
import ipaddress
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from coterie.errors import CloseCode, PeerError, TransportError, UsageError
from coterie.identity import PeerId
from coterie.net.interfaces import PathInfo, RawConnection, RawStream
from coterie.texts import tr

WINDOW_BYTES = 1_250_000  # per stream and direction, as the QUIC wheel grants (measured)
STREAMS_MAX = 100  # open at once per direction, as the QUIC wheel grants (measured)
DATAGRAM_BYTES_MAX = 1_200  # the smallest QUIC packet (RFC 9000, 14.1)
DATAGRAMS_MAX = 256  # guess: unread ones; the oldest is dropped, as QUIC does
ACCEPT_QUEUE_MAX = 64  # guess: connections nobody accepted yet; more are refused
LOST_AFTER_S = 30.0  # QUIC's usual idle time-out (quinn's default)
REDIAL_S = (
    1.0  # the first packet of a connection is sent again after so long, then twice as long (RFC 9002, 6.2)
)


class LinkPolicy(Protocol):
    """What a simulation decides about the link from one peer to another."""

    def latency_s(self, sender: PeerId, receiver: PeerId) -> float:
        """One-way delay of what `sender` sends now."""
        ...

    def drops_datagram(self, sender: PeerId, receiver: PeerId, size_bytes: int) -> bool:
        """Whether this datagram is lost."""
        ...

    def sent_s(self, sender: PeerId, receiver: PeerId, size_bytes: int) -> float:
        """How long what is sent now waits for the sender's lines and takes to leave through them; 0 bytes: a signal."""
        ...

    def received_s(self, receiver: PeerId, size_bytes: int) -> float:
        """The same for the lines of the receiver, of what comes to them now."""
        ...

    def lets_in(self, dialler: PeerId, peer: PeerId) -> bool:
        """Whether a packet with which `dialler` begins a connection now gets past the router of `peer`."""
        ...


class PerfectLinks:
    """No delay, no loss, no limit."""

    def latency_s(self, sender: PeerId, receiver: PeerId) -> float:
        return 0.0

    def drops_datagram(self, sender: PeerId, receiver: PeerId, size_bytes: int) -> bool:
        return False

    def sent_s(self, sender: PeerId, receiver: PeerId, size_bytes: int) -> float:
        return 0.0

    def received_s(self, receiver: PeerId, size_bytes: int) -> float:
        return 0.0

    def lets_in(self, dialler: PeerId, peer: PeerId) -> bool:
        return True


class MemoryNetwork:
    """All the transports that can reach one another, and the links between them."""

    def __init__(self, policy: LinkPolicy | None = None) -> None:
        self.policy: LinkPolicy = policy or PerfectLinks()
        self._bound: dict[str, MemoryTransport] = {}
        self._blocked: set[frozenset[PeerId]] = set()

    def bind(self, peer: PeerId) -> "MemoryTransport":
        """A new transport that answers as `peer`, under an address that is the same after a restart.

        Addresses are of the discard-only block 100::/64 (RFC 6666), so that tickets can carry them and no real
        network ever does.
        """
        ip = ipaddress.IPv6Address(bytes([1]) + bytes(7) + peer[:8])
        port = next(port for port in range(1, 65536) if f"[{ip}]:{port}" not in self._bound)
        transport = MemoryTransport(self, peer, f"[{ip}]:{port}")
        self._bound[transport.addresses[0]] = transport
        return transport

    def block(self, one: PeerId, other: PeerId) -> None:
        """Nothing passes between the two; a connection that stays blocked for `LOST_AFTER_S` is lost."""
        self._blocked.add(frozenset((one, other)))
        for connection in self._between(one, other):
            connection._blocked()

    def unblock(self, one: PeerId, other: PeerId) -> None:
        """Let what was held back, and all that follows, pass again."""
        self._blocked.discard(frozenset((one, other)))
        for connection in self._between(one, other):
            connection._unblocked()

    def is_blocked(self, one: PeerId, other: PeerId) -> bool:
        return frozenset((one, other)) in self._blocked

    def _between(self, one: PeerId, other: PeerId) -> "list[MemoryConnection]":
        ends = ((one, other), (other, one))
        return [c for t in self._bound.values() for c in t._connections if (t.peer_id, c.peer) in ends]

    def _at(self, address: str) -> "MemoryTransport | None":
        return self._bound.get(address)

    def _unbind(self, address: str) -> None:
        self._bound.pop(address, None)


class MemoryTransport:
    """One node's end of a `MemoryNetwork`."""

    def __init__(self, network: MemoryNetwork, peer_id: PeerId, address: str) -> None:
        self._network = network
        self._peer_id = peer_id
        self._address = address
        self._incoming: asyncio.Queue[MemoryConnection | None] = asyncio.Queue()
        self._connections: dict[MemoryConnection, None] = {}
        self._is_closed = False

    @property
    def peer_id(self) -> PeerId:
        return self._peer_id

    @property
    def addresses(self) -> list[str]:
        return [self._address]

    async def connect(self, peer: PeerId, addresses: Sequence[str]) -> RawConnection:
        """As `Transport.connect`; across a blocked link, or past a router that lets nothing in, it goes on trying."""
        if self._is_closed:
            raise TransportError(tr("this node's network is closed"))
        if peer == self._peer_id:
            raise UsageError(tr("a node cannot connect to itself"))
        listening = [t for a in addresses if (t := self._network._at(a)) is not None]
        answering = [t for t in listening if t.peer_id == peer]
        if not answering:
            said = "another peer answers there" if listening else "nobody answers"
            raise TransportError(
                tr(
                    "{short} is not at {addresses}: {said}",
                    short=peer.short,
                    addresses=", ".join(addresses) or "any known address",
                    said=said,
                )
            )
        there = answering[0]
        wait_s = REDIAL_S
        while not self._network.policy.lets_in(self._peer_id, peer):
            await asyncio.sleep(wait_s)
            wait_s *= 2
        ours = MemoryConnection(self, there.peer_id, there._address)
        theirs = MemoryConnection(there, self._peer_id, self._address)
        ours._other, theirs._other = theirs, ours
        connected: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._connections[ours] = None
        ours._wire.send(lambda: there._arrive(theirs, connected))
        try:
            await connected
        except BaseException:
            self._connections.pop(ours, None)
            raise
        return ours

    async def accept(self) -> RawConnection:
        connection = None if self._is_closed else await self._incoming.get()
        if connection is None:
            self._incoming.put_nowait(None)
            raise TransportError(tr("this node's network is closed"))
        return connection

    async def close(self) -> None:
        if not self._is_closed:
            for connection in list(self._connections):
                connection.close(CloseCode.SHUTDOWN, "")
            self._end()

    def vanish(self) -> None:
        """End as in a power cut: the other sides hear nothing, and lose their connections after `LOST_AFTER_S`."""
        for connection in list(self._connections):
            connection._vanish()
        self._end()

    def _end(self) -> None:
        self._is_closed = True
        self._network._unbind(self._address)
        self._incoming.put_nowait(None)

    def _arrive(self, connection: "MemoryConnection", connected: "asyncio.Future[None]") -> None:
        if self._is_closed or self._incoming.qsize() >= ACCEPT_QUEUE_MAX:
            answer = TransportError(tr("{short} does not answer", short=self._peer_id.short))
        else:
            self._connections[connection] = None
            self._incoming.put_nowait(connection)
            answer = None

        def tell() -> None:
            if connected.done():
                connection.close(CloseCode.CANCELLED, "")
            elif answer is not None:
                connected.set_exception(answer)
            else:
                connected.set_result(None)

        connection._wire.send(tell)


class _Wire:
    """One direction of a link: calls arrive in order, each after its delay; none while it is blocked."""

    def __init__(self, network: MemoryNetwork, sender: PeerId, receiver: PeerId) -> None:
        self._network = network
        self._sender = sender
        self._receiver = receiver
        self._flying: deque[tuple[float, int, Callable[[], None]]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def send(self, call: Callable[[], None], size_bytes: int = 0) -> None:
        now = asyncio.get_running_loop().time()
        policy, pair = self._network.policy, (self._sender, self._receiver)
        due = now + policy.sent_s(*pair, size_bytes) + policy.latency_s(*pair)
        due = max(due, self._flying[-1][0] if self._flying else now)
        self._flying.append((due, size_bytes, call))
        if self._timer is None:
            self.pump()

    def pump(self) -> None:
        """Deliver what is due, and come back for the rest."""
        self._timer = None
        loop = asyncio.get_running_loop()
        while self._flying and not self._network.is_blocked(self._sender, self._receiver):
            due, size_bytes, call = self._flying[0]
            if due > loop.time():
                self._timer = loop.call_at(due, self.pump)
                return
            if size_bytes:  # it is there, before the receiver's own line
                due = loop.time() + self._network.policy.received_s(self._receiver, size_bytes)
                self._flying[0] = (due, 0, call)
                continue
            self._flying.popleft()
            call()


class MemoryConnection:
    """One end of an in-process connection."""

    def __init__(self, transport: MemoryTransport, peer: PeerId, remote: str) -> None:
        self._transport = transport
        self._network = transport._network
        self._peer = peer
        self._remote = remote
        self._wire = _Wire(self._network, transport.peer_id, peer)
        self._other: MemoryConnection
        self._streams: dict[MemoryStream, None] = {}
        self._opened = 0
        self._opened_max = STREAMS_MAX
        self._incoming: deque[MemoryStream] = deque()
        self._datagrams: deque[bytes] = deque(maxlen=DATAGRAMS_MAX)
        self._changed = _Signal()
        self._end: tuple[int | None, str] | None = None
        self._error: TransportError | PeerError | None = None
        self._lost_timer: asyncio.TimerHandle | None = None

    @property
    def peer(self) -> PeerId:
        return self._peer

    @property
    def path(self) -> PathInfo:
        policy, us = self._network.policy, self._transport.peer_id
        rtt_s = policy.latency_s(us, self._peer) + policy.latency_s(self._peer, us)
        return PathInfo("memory", self._remote, rtt_s)

    @property
    def is_closed(self) -> bool:
        return self._end is not None

    @property
    def datagram_bytes_max(self) -> int:
        return DATAGRAM_BYTES_MAX

    async def open_stream(self) -> RawStream:
        """Waits while `STREAMS_MAX`, or what the other side allows, opened by this side are unfinished."""
        while self._opened >= self._opened_max:
            self._check()
            await self._changed.wait()
        self._check()
        ours = MemoryStream(self, is_ours=True)
        theirs = MemoryStream(self._other, is_ours=False)
        ours._other, theirs._other = theirs, ours
        self._opened += 1
        self._streams[ours] = None
        other = self._other
        self._wire.send(lambda: other._stream_arrives(theirs))
        return ours

    def allow_streams(self, count: int) -> None:
        other = self._other

        def allow() -> None:
            other._opened_max = count
            other._changed.fire()

        self._wire.send(allow)

    async def accept_stream(self) -> RawStream:
        while not self._incoming:
            self._check()
            await self._changed.wait()
        self._check()
        stream = self._incoming.popleft()
        stream._is_accepted = True
        stream._account()
        return stream

    async def send_datagram(self, data: bytes) -> None:
        self._check()
        if len(data) > DATAGRAM_BYTES_MAX:
            raise UsageError(
                tr(
                    "a datagram of {data} bytes is over {datagram_bytes_max}",
                    data=len(data),
                    datagram_bytes_max=DATAGRAM_BYTES_MAX,
                )
            )
        us = self._transport.peer_id
        if self._network.is_blocked(us, self._peer):
            return
        if self._network.policy.drops_datagram(us, self._peer, len(data)):
            return
        other = self._other
        self._wire.send(lambda: other._datagram_arrives(data), len(data))

    async def receive_datagram(self) -> bytes:
        while not self._datagrams:
            self._check()
            await self._changed.wait()
        self._check()
        return self._datagrams.popleft()

    def close(self, code: int, reason: str) -> None:
        if self._end is not None:
            return
        self._finish(
            (code, reason),
            TransportError(tr("the connection to {short} was closed here", short=self._peer.short)),
        )
        text = f"{self._transport.peer_id.short} closed the connection: {reason or f'code {code}'}"
        other = self._other
        self._wire.send(lambda: other._finish((code, reason), PeerError(text, code)))

    async def closed(self) -> tuple[int | None, str]:
        while self._end is None:
            await self._changed.wait()
        return self._end

    def _check(self) -> None:
        if self._error is not None:
            raise _fresh(self._error)

    def _finish(self, end: tuple[int | None, str], error: TransportError | PeerError) -> None:
        """The connection is over for this side."""
        if self._end is not None:
            return
        self._end, self._error = end, error
        self._transport._connections.pop(self, None)
        if self._lost_timer is not None:
            self._lost_timer.cancel()
        for stream in [*self._streams, *self._incoming]:
            stream._changed.fire()
        self._streams.clear()
        self._changed.fire()

    def _stream_arrives(self, stream: "MemoryStream") -> None:
        if self._end is None:
            self._streams[stream] = None
            self._incoming.append(stream)
            self._changed.fire()

    def _datagram_arrives(self, data: bytes) -> None:
        self._datagrams.append(data)
        self._changed.fire()

    def _stream_ended(self, stream: "MemoryStream") -> None:
        """Credit for a stream comes back once the side that accepted it is done with it, as in QUIC."""
        self._streams.pop(stream, None)
        if not stream.is_ours:
            self._wire.send(self._other._credit_arrives)

    def _credit_arrives(self) -> None:
        self._opened -= 1
        self._changed.fire()

    def _blocked(self) -> None:
        if self._end is None and self._lost_timer is None:
            self._lost_timer = asyncio.get_running_loop().call_later(LOST_AFTER_S, self._lose)

    def _unblocked(self) -> None:
        if self._lost_timer is not None and self._other._end is None:  # else there is nobody any more
            self._lost_timer.cancel()
            self._lost_timer = None
        self._wire.pump()

    def _vanish(self) -> None:
        """Our side is gone without a word; what has left it before arrives."""
        self._finish((None, "vanished"), TransportError(tr("this node is gone")))
        self._other._blocked()

    def _lose(self) -> None:
        self._finish(
            (None, "timed out"),
            TransportError(tr("the connection to {short} timed out", short=self._peer.short)),
        )


class MemoryStream:
    """One end of an in-process byte stream."""

    def __init__(self, connection: MemoryConnection, *, is_ours: bool) -> None:
        self.is_ours = is_ours
        self._connection = connection
        self._other: MemoryStream
        self._changed = _Signal()
        self._turn = asyncio.Lock()
        self._arrived: deque[bytes] = deque()
        self._unread_bytes = 0  # that we sent and the other side has not read
        self._read_end: bool = False  # the other side finished
        self._read_over: bool = False  # the reader has seen the end, or does not want to
        self._write_over: bool = False
        self._read_error: PeerError | TransportError | None = None
        self._write_error: PeerError | TransportError | None = None
        self._is_accepted = is_ours
        self._is_counted = True

    async def read(self, size_max: int) -> bytes:
        if size_max < 1:
            raise UsageError(tr("a read of less than one byte"))
        while True:
            self._connection._check()
            if self._read_error is not None:
                raise _fresh(self._read_error)
            if self._read_over:
                return b""
            if self._arrived:
                return self._take(size_max)
            if self._read_end:
                self._read_over = True
                self._account()
                return b""
            await self._changed.wait()

    async def write(self, data: bytes) -> None:
        async with self._turn:
            while self._unread_bytes >= WINDOW_BYTES:
                self._check_write()
                await self._changed.wait()
            self._check_write()
            if not data:
                return
            piece, other = bytes(data), self._other
            self._unread_bytes += len(piece)
            self._connection._wire.send(lambda: other._data_arrives(piece), len(piece))
            while self._unread_bytes > WINDOW_BYTES:
                await self._changed.wait()
                self._check_write()

    async def finish(self) -> None:
        async with self._turn:
            self._connection._check()
            if self._write_over:
                return  # finished before, or the other side does not want more
            self._write_over = True
            other = self._other
            self._connection._wire.send(other._finish_arrives)
            self._account()

    async def stop(self, code: int) -> None:
        if self._read_over or self._connection.is_closed:
            return
        self._read_over = True
        self._read_error = TransportError(tr("reading was stopped here"))
        self._arrived.clear()
        other, text = self._other, f"{self._connection._other.peer.short} stopped reading"
        self._connection._wire.send(lambda: other._stop_arrives(PeerError(text, code)))
        self._changed.fire()
        self._account()

    async def reset(self, code: int) -> None:
        await self.stop(code)
        if self._write_over or self._connection.is_closed:
            return
        self._write_over = True
        text = f"{self._connection._other.peer.short} reset the stream"
        self._write_error = TransportError(tr("this stream was reset here"))
        other = self._other
        self._connection._wire.send(lambda: other._reset_arrives(PeerError(text, code)))
        self._changed.fire()
        self._account()

    def _take(self, size_max: int) -> bytes:
        data = self._arrived.popleft()
        if len(data) > size_max:
            self._arrived.appendleft(data[size_max:])
            data = data[:size_max]
        size, other = len(data), self._other
        self._connection._wire.send(lambda: other._was_read(size))
        return data

    def _check_write(self) -> None:
        self._connection._check()
        if self._write_error is not None:
            raise _fresh(self._write_error)
        if self._write_over:
            raise UsageError(tr("a write after the stream was finished"))

    def _data_arrives(self, data: bytes) -> None:
        if not self._read_over and self._read_error is None:
            self._arrived.append(data)
            self._changed.fire()

    def _finish_arrives(self) -> None:
        self._read_end = True
        self._changed.fire()

    def _reset_arrives(self, error: PeerError) -> None:
        if not self._read_over:
            self._read_error = error
            self._read_over = True
            self._arrived.clear()
            self._changed.fire()
            self._account()

    def _stop_arrives(self, error: PeerError) -> None:
        if not self._write_over:
            self._write_error = error
            self._write_over = True
            self._changed.fire()
            self._account()

    def _was_read(self, size: int) -> None:
        self._unread_bytes -= size
        self._changed.fire()

    def _account(self) -> None:
        if self._read_over and self._write_over and self._is_accepted and self._is_counted:
            self._is_counted = False
            self._connection._stream_ended(self)


class _Signal:
    """Wakes everybody who waits, at the next turn of the loop."""

    def __init__(self) -> None:
        self._waiting: list[asyncio.Future[None]] = []

    async def wait(self) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        try:
            await future
        finally:
            if future in self._waiting:
                self._waiting.remove(future)

    def fire(self) -> None:
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)


def _fresh(error: TransportError | PeerError) -> TransportError | PeerError:
    """The same error for one more raise: a shared one would gather every raiser's traceback."""
    if isinstance(error, PeerError):
        return PeerError(str(error), error.close_code)
    return TransportError(str(error))
