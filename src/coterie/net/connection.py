"""Connection: the one link to a peer. Opens streams, carries datagrams, closes itself when idle."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from coterie.errors import (
    CloseCode,
    CoterieError,
    LimitExceeded,
    NoAnswer,
    PeerError,
    TransportError,
    UsageError,
)
from coterie.identity import PeerId
from coterie.net import greeting
from coterie.net.ahead import Ahead, Begun
from coterie.net.interfaces import PathInfo, RawConnection, RawStream
from coterie.net.lanes.lanes import PeerLanes
from coterie.net.limits import NetLimits
from coterie.net.stream import Stream, close_code_for
from coterie.texts import tr
from coterie.wire.frames import Protocol
from coterie.wire.lanes import PROTOCOL as LANES_PROTOCOL

Successor = Callable[["Connection"], Awaitable["Connection"]]
MayReceive = Callable[[PeerId, str], bool]

AHEAD_S = 1.0  # guess: what was begun ahead is taken up at once, or by nobody

# A close with one of these says nothing against a new attempt: nothing of ours was handled.
_TRY_AGAIN = (CloseCode.DUPLICATE, CloseCode.IDLE)


class Connection:
    """An established link to `peer`. Made by `Endpoint`; there is at most one per peer."""

    def __init__(
        self,
        raw: RawConnection,
        *,
        boot: bytes,
        is_dialled: bool,
        limits: NetLimits,
        successor: Successor,
        may_receive: MayReceive,
    ) -> None:
        """`successor` gets the connection that replaces this one; `may_receive` judges datagrams."""
        self.boot = boot
        self.is_dialled = is_dialled
        self._raw = raw
        self._limits = limits
        self._successor = successor
        self._may_receive = may_receive
        self._loop = asyncio.get_running_loop()
        self.established_at = self._loop.time()
        self._streams_open = 0
        self._used_at = self.established_at
        self._idle_timer: asyncio.TimerHandle | None = None
        self._queues: dict[str, _DatagramQueue] = {}
        self._datagram_reader: asyncio.Task[None] | None = None
        self.lanes: object | None = None  # a `PeerLanes`, set by the endpoint
        self._begun: dict[tuple[str, bytes], RawStream] = {}
        self.streams_max = limits.streams_per_peer_max  # that the peer may have open
        self._rearm()

    @property
    def peer(self) -> PeerId:
        """Who is at the other end: proven by its key."""
        return self._raw.peer

    @property
    def path(self) -> PathInfo:
        """How the peer is reached now."""
        return self._raw.path

    @property
    def is_closed(self) -> bool:
        return self._raw.is_closed

    @property
    def streams_open(self) -> int:
        """Streams that keep this connection from being idle."""
        return self._streams_open

    async def open_stream(self, protocol: Protocol, first: bytes = b"") -> Stream:
        """A new stream of `protocol`, its version agreed.

        `first`: whole frames that go out with the header, which spares a round trip: they are the same in all versions.

        Raises:
            PeerError: refused (REFUSED: no such protocol, or not for us), no common version (VERSION), or a
            limit.
            TransportError: the connection failed.
        """
        return await self._open_or_again(Ahead(protocol, first))

    async def open_ahead(self, ahead: Ahead) -> Stream:
        """As `open_stream`, for what may have gone out with the greeting; if it did not, the peer is invited now."""
        if ahead.reads_bulk and isinstance(self.lanes, PeerLanes):
            invitation = await self.lanes.invitation()
            if invitation is not None:
                await self._begin(Ahead(LANES_PROTOCOL, invitation.first))
                self.lanes.await_invited(invitation)
        return await self._open_or_again(ahead)

    async def _open_or_again(self, ahead: Ahead) -> Stream:
        protocol = ahead.protocol
        try:
            return await self._open(ahead)
        except (PeerError, TransportError) as error:
            if not self.is_closed:
                raise
            code, _ = await self.closed()
            if code not in _TRY_AGAIN:
                raise _named(error, protocol, self.peer) from None
        survivor = await self._successor(self)
        return await survivor._open(ahead)

    async def _begin(self, ahead: Ahead) -> None:
        raw = await self._raw.open_stream()
        await raw.write(ahead.opening())
        self.keep_begun([(ahead, raw)])

    async def _open(self, ahead: Ahead) -> Stream:
        protocol = ahead.protocol
        self.hold()
        try:
            raw = self._begun.pop(_key(ahead), None)
            opening = b""
            if raw is None:
                raw = await self._raw.open_stream()
                opening = ahead.opening(
                    follows=isinstance(self.lanes, PeerLanes) and not self.lanes.may_be_answered_over
                )
            try:
                version, rest = await greeting.ask(
                    raw, protocol, self._limits, opening, rtt_s=self.path.rtt_s
                )
            except BaseException as error:
                await raw.reset(close_code_for(error))
                raise
        except BaseException as error:  # noqa: BLE001  (renamed and raised again)
            self.release()
            raise _named(error, protocol, self.peer) from None
        return Stream(
            raw,
            peer=self.peer,
            protocol=protocol,
            version=version,
            limits=self._limits,
            received=rest,
            on_end=self.release,
            link=self,
        )

    def keep_begun(self, begun: Sequence[Begun]) -> None:
        """These streams went out ahead of the connection: `open_stream` takes them up, within `AHEAD_S`."""
        for ahead, raw in begun:
            self._drop_begun(ahead, self._begun.get(_key(ahead)))
            self._begun[_key(ahead)] = raw
            self._loop.call_later(AHEAD_S, self._drop_begun, ahead, raw)

    def _drop_begun(self, ahead: Ahead, raw: RawStream | None) -> None:
        """Nobody took this one up."""
        if raw is not None and self._begun.get(_key(ahead)) is raw:
            del self._begun[_key(ahead)]
            self._loop.create_task(raw.reset(CloseCode.CANCELLED))

    async def send_datagram(self, protocol: Protocol, data: bytes) -> None:
        """Send `data` once, unreliably. Raises `UsageError` when it does not fit one packet."""
        name = protocol.name.encode()
        self._used_at = self._loop.time()
        await self._raw.send_datagram(bytes([len(name)]) + name + data)

    def datagram_room(self, protocol: Protocol) -> int:
        """Bytes that `send_datagram` takes now; 0 where the other side takes no datagrams."""
        return max(0, self._raw.datagram_bytes_max - 1 - len(protocol.name.encode()))

    def datagrams(self, protocol: Protocol) -> AsyncIterator[bytes]:
        """The datagrams of `protocol` from now on; the oldest of `datagram_queue_max` waiting is dropped.

        The iteration ends with the connection. Ask once per protocol.
        """
        if protocol.name in self._queues:
            raise UsageError(tr("the datagrams of {protocol} are being read already", protocol=protocol.name))
        if len(self._queues) >= self._limits.datagram_protocols_max:
            raise LimitExceeded(
                tr(
                    "datagrams of more than {datagram_protocols_max} protocols",
                    datagram_protocols_max=self._limits.datagram_protocols_max,
                )
            )
        queue = self._queues[protocol.name] = _DatagramQueue(self._limits.datagram_queue_max)
        if self._datagram_reader is None:
            self._datagram_reader = self._loop.create_task(self._read_datagrams())
        return queue

    def widen(self, streams_max: int) -> None:
        """Let the peer have `streams_max` streams open at once: for apps of many, once it has shown its right to them.

        Until then it has `NetLimits.streams_per_peer_max`. Whoever calls this bounds what each stream costs.
        """
        if streams_max > self.streams_max:
            self.streams_max = streams_max
            self._raw.allow_streams(streams_max + self._limits.streams_per_peer_max)

    def close(self, code: int = CloseCode.NORMAL, reason: str = "") -> None:
        """Close at once: every stream of it ends, on both sides."""
        self._raw.close(code, reason)

    async def closed(self) -> tuple[int | None, str]:
        """Wait for the end: (close code, or None when the network failed; reason)."""
        return await self._raw.closed()

    def hold(self) -> None:
        """One more stream is open."""
        self._streams_open += 1
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None

    def release(self) -> None:
        """One stream has ended."""
        self._streams_open -= 1
        self._used_at = self._loop.time()
        if not self._streams_open:
            self._rearm()

    async def wind_up(self) -> None:
        """After the end: stop the timer and the reader of datagrams."""
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        if self._datagram_reader is not None:
            self._datagram_reader.cancel()
            await asyncio.wait([self._datagram_reader])
        for queue in self._queues.values():
            queue.end()

    def _rearm(self) -> None:
        if not self.is_closed:
            self._idle_timer = self._loop.call_at(self._used_at + self._limits.idle_s, self._idle_over)

    def _idle_over(self) -> None:
        self._idle_timer = None
        if self._streams_open or self.is_closed:
            return
        if self._loop.time() < self._used_at + self._limits.idle_s:
            self._rearm()
        else:
            self.close(CloseCode.IDLE, f"no stream for {self._limits.idle_s:g} s")

    async def _read_datagrams(self) -> None:
        try:
            while True:
                self._sort(await self._raw.receive_datagram())
        except CoterieError:
            for queue in self._queues.values():
                queue.end()

    def _sort(self, data: bytes) -> None:
        """Put one datagram where it is waited for; what nobody waits for, or may not be, is dropped."""
        if not data:
            return
        name = data[1 : 1 + data[0]].decode(errors="replace")
        queue = self._queues.get(name)
        if queue is not None and self._may_receive(self.peer, name):
            self._used_at = self._loop.time()
            queue.put(data[1 + data[0] :])

    def __repr__(self) -> str:
        return f"Connection({self.peer.short}, {'closed' if self.is_closed else 'open'})"


class _DatagramQueue:
    """What waits to be read, at most `size_max`; then the oldest goes."""

    def __init__(self, size_max: int) -> None:
        self._waiting: deque[bytes] = deque(maxlen=size_max)
        self._arrived = asyncio.Event()
        self._has_ended = False

    def put(self, data: bytes) -> None:
        self._waiting.append(data)
        self._arrived.set()

    def end(self) -> None:
        self._has_ended = True
        self._arrived.set()

    def __aiter__(self) -> "_DatagramQueue":
        return self

    async def __anext__(self) -> bytes:
        while not self._waiting:
            if self._has_ended:
                raise StopAsyncIteration
            self._arrived.clear()
            await self._arrived.wait()
        return self._waiting.popleft()


def _key(ahead: Ahead) -> tuple[str, bytes]:
    return ahead.protocol.name, ahead.first


def _named(error: BaseException, protocol: Protocol, peer: PeerId) -> BaseException:
    """What went wrong with opening a stream, in words for the user."""
    match error:
        case PeerError(close_code=CloseCode.REFUSED):
            return PeerError(f"{peer.short} does not offer {protocol.name} to this node", error.close_code)
        case PeerError(close_code=CloseCode.VERSION):
            text = f"{peer.short} speaks no version of {protocol.name} that we know; update the older"
            return PeerError(text, error.close_code)
        case TimeoutError():
            return NoAnswer(tr("{short} does not answer", short=peer.short))
        case _:
            return error
