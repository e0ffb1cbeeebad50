"""QUIC between authenticated peers, through the `iroh` wheel; the one module that knows it, and its errors.

What the wheel (1.2.0) does that its signatures do not say, all measured:

- Cancelling one of its futures drops the Rust future; what it had just finished is lost (39 of 301 bytes in a
  test that cancelled reads). So reads, writes and accepts run in tasks of ours that outlive their caller: the
  next call takes the pending result.
- A stream half is behind a lock that a pending read or write holds: `stop` and `reset` would wait for
  ever. So the pending task is cancelled first.
- Why a stream or connection ended comes as text; the patterns below take the code from it. A peer's own words
  stand last in it, behind the code or before a fixed end, and so cannot imitate one.
"""

import asyncio
import ipaddress
import re
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import iroh

from coterie.errors import CloseCode, CoterieError, PeerError, TransportError, UsageError
from coterie.identity import PeerId, SecretKey
from coterie.net.interfaces import PathInfo, RawConnection, RawStream
from coterie.net.quic_repair import repair
from coterie.wire.handshake import ALPN

WRITE_BYTES = 256 * 1024  # measured: larger pieces are slower
ACCEPT_QUEUE_MAX = 64  # guess: connections done with their handshake that nobody accepted yet
HANDSHAKES_MAX = 256  # guess: QUIC handshakes under way at once; more are refused
HANDSHAKE_S = 10.0  # guess: a QUIC handshake takes two round trips
CLOSE_S = 2.0  # guess: for close messages to be sent; the user waits for this at Ctrl-C

_RESET = re.compile(r"\A(?:Reset|Stopped)\((\d+)\)\Z")
_APPLICATION_CLOSED = re.compile(r"ApplicationClose \{ error_code: (\d+), reason: ")
_CLOSED_BY_PEER = re.compile(
    r"\Aclosed by peer: (?:(?P<reason>.*) \(code (?P<code>\d+)\)|(?P<bare>\d+))\Z", re.DOTALL
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class TransportStats:
    """UDP payload of all connections of a transport, ended ones included."""

    sent_bytes: int
    received_bytes: int


class QuicTransport:
    """A bound QUIC endpoint. Make one with `await QuicTransport.bind(...)`."""

    def __init__(self, endpoint: Any, secret_key: SecretKey) -> None:
        self._endpoint = endpoint
        self._peer_id = secret_key.peer_id
        self._tasks = _Tasks()
        self._accepted: asyncio.Queue[QuicConnection | None] = asyncio.Queue(ACCEPT_QUEUE_MAX)
        self._handshakes = 0
        self._is_closed = False
        self._live: dict[QuicConnection, None] = {}
        self._sent_bytes = self._received_bytes = 0
        self._tasks.start(self._accept_all())

    @classmethod
    async def bind(cls, secret_key: SecretKey, port: int = 0, bind_ip: str = "0.0.0.0") -> "QuicTransport":  # noqa: S104
        """Listen on UDP `port` (0: any free one) of `bind_ip`.

        Raises:
            UsageError: the port is taken, or the address is not this machine's; the text says what to do.
        """
        repair()
        options = iroh.EndpointOptions(
            preset=iroh.preset_minimal(),
            bind_addr=_join(bind_ip, port),
            secret_key=secret_key.seed,
            alpns=[ALPN],
            relay_mode=iroh.RelayMode.disabled(),
        )
        try:
            endpoint = await iroh.Endpoint.bind(options)
        except iroh.IrohError as error:
            raise _bind_error(error.message(), bind_ip, port) from None
        return cls(endpoint, secret_key)

    @property
    def peer_id(self) -> PeerId:
        return self._peer_id

    @property
    def addresses(self) -> list[str]:
        """Every "ip:port" of this machine under which we listen, loopback last."""
        found = self._endpoint.addr().direct_addresses() + self._endpoint.bound_sockets()
        usable = {a: _ip(a) for a in found if not _ip(a).is_unspecified}
        return sorted(
            usable, key=lambda a: (usable[a].is_loopback, usable[a].is_link_local, usable[a].version)
        )

    def stats(self) -> TransportStats:
        """What went over UDP since the start."""
        sent, received = self._sent_bytes, self._received_bytes
        for connection in self._live:
            now = connection.stats()
            sent, received = sent + now.sent_bytes, received + now.received_bytes
        return TransportStats(sent, received)

    async def connect(self, peer: PeerId, addresses: Sequence[str]) -> RawConnection:
        """As `Transport.connect`. Answers of anybody but `peer` do not count: its key is checked."""
        if peer == self._peer_id:
            raise UsageError("a node cannot connect to itself")
        identity = iroh.EndpointId.from_bytes(bytes(peer))
        try:
            if not addresses and await self._endpoint.remote_addr(identity) is None:
                raise TransportError(f"no address of {peer.short} is known")
            raw = await self._endpoint.connect(iroh.EndpointAddr(identity, None, list(addresses)), ALPN)
        except iroh.IrohError as error:
            raise TransportError(_connect_text(error.message(), peer)) from None
        return self._adopt(raw)

    async def accept(self) -> RawConnection:
        connection = None if self._is_closed else await self._accepted.get()
        if connection is None:
            self._accepted.put_nowait(None)
            raise TransportError("this node's network is closed")
        return connection

    async def close(self) -> None:
        """Close every connection with SHUTDOWN and leave nothing running."""
        if self._is_closed:
            return
        self._is_closed = True
        for connection in list(self._live):
            connection.close(CloseCode.SHUTDOWN, "")
        with suppress(TimeoutError, iroh.IrohError):  # then the sockets go with the process
            async with asyncio.timeout(CLOSE_S):
                await self._endpoint.close()
        await self._tasks.end()
        while not self._accepted.empty():
            self._accepted.get_nowait()
        self._accepted.put_nowait(None)

    async def _accept_all(self) -> None:
        while (incoming := await self._endpoint.accept_next()) is not None:
            if self._handshakes >= HANDSHAKES_MAX or self._accepted.full():
                await incoming.refuse()
                continue
            self._handshakes += 1
            self._tasks.start(self._handshake(incoming))

    async def _handshake(self, incoming: Any) -> None:
        try:
            async with asyncio.timeout(HANDSHAKE_S):
                raw = await (await incoming.accept()).connect()
        except (iroh.IrohError, TimeoutError):
            return  # a stranger who did not get through: nothing of ours has begun
        finally:
            self._handshakes -= 1
        connection = self._adopt(raw)
        if self._is_closed or self._accepted.full():
            connection.close(CloseCode.LIMIT, "too many connections at once")
        else:
            self._accepted.put_nowait(connection)

    def _adopt(self, raw: Any) -> "QuicConnection":
        connection = QuicConnection(raw, self._tasks)
        self._live[connection] = None
        self._tasks.start(self._watch(connection))
        return connection

    async def _watch(self, connection: "QuicConnection") -> None:
        await connection.closed()
        if self._live.pop(connection, connection) is None:
            last = connection.stats()
            self._sent_bytes += last.sent_bytes
            self._received_bytes += last.received_bytes


class QuicConnection:
    """One QUIC connection of the wheel."""

    def __init__(self, raw: Any, tasks: "_Tasks") -> None:
        self._raw = raw
        self._tasks = tasks
        self._peer = PeerId(raw.remote_id().to_bytes())
        self._closed_here: tuple[int, str] | None = None
        self._accept: _Outliving[Any] = _Outliving(tasks, raw.accept_bi)
        self._datagram: _Outliving[bytes] = _Outliving(tasks, raw.read_datagram)
        self._end: _Outliving[str] = _Outliving(tasks, raw.closed)

    @property
    def peer(self) -> PeerId:
        return self._peer

    @property
    def path(self) -> PathInfo:
        paths = self._raw.paths()
        selected = next((p for p in paths if p.is_selected), paths[0] if paths else None)
        if selected is None:
            return PathInfo("direct", "")
        return PathInfo(
            "relay" if selected.is_relay else "direct", selected.remote_addr, selected.rtt_ms / 1000
        )

    @property
    def is_closed(self) -> bool:
        return self._closed_here is not None or self._raw.close_reason() is not None

    @property
    def datagram_bytes_max(self) -> int:
        return self._raw.max_datagram_size() or 0

    def stats(self) -> TransportStats:
        """What went over UDP for this connection."""
        stats = self._raw.stats()
        return TransportStats(stats.udp_tx_bytes, stats.udp_rx_bytes)

    async def open_stream(self) -> RawStream:
        try:
            return QuicStream(await self._raw.open_bi(), self)
        except iroh.IrohError as error:
            raise self.translate(error) from None

    async def accept_stream(self) -> RawStream:
        try:
            return QuicStream(await self._accept(), self)
        except iroh.IrohError as error:
            raise self.translate(error) from None

    async def send_datagram(self, data: bytes) -> None:
        if len(data) > self.datagram_bytes_max and not self.is_closed:
            raise UsageError(f"a datagram of {len(data)} bytes is over {self.datagram_bytes_max}")
        try:
            self._raw.send_datagram(data)
        except iroh.IrohError as error:
            raise self.translate(error) from None

    async def receive_datagram(self) -> bytes:
        try:
            return await self._datagram()
        except iroh.IrohError as error:
            raise self.translate(error) from None

    def close(self, code: int, reason: str) -> None:
        if not self.is_closed:
            self._closed_here = (int(code), reason)
            self._raw.close(int(code), reason.encode())

    async def closed(self) -> tuple[int | None, str]:
        text = await self._end()
        if self._closed_here is not None:
            return self._closed_here
        match = _CLOSED_BY_PEER.match(text)
        if match is None:
            return None, text
        return int(match["code"] or match["bare"]), match["reason"] or ""

    def limit_incoming_streams(self, count: int) -> None:
        """Let the peer have at most `count` streams open at once, from its next stream credit on."""
        self._raw.set_max_concurrent_bi_streams(count)

    def translate(self, error: Any) -> CoterieError:
        """An error of the wheel as one of ours."""
        text = error.message()
        if match := _RESET.match(text):
            code = int(match[1])
            return PeerError(f"{self._peer.short} ended the stream: {_code_name(code)}", code)
        if self._closed_here is not None:
            return TransportError(f"the connection to {self._peer.short} was closed here")
        if match := _APPLICATION_CLOSED.search(text):
            code = int(match[1])
            return PeerError(f"{self._peer.short} closed the connection: {_code_name(code)}", code)
        if error.kind() == iroh.IrohErrorKind.CLOSED or text == "ClosedStream":
            return TransportError(f"this stream to {self._peer.short} was ended here")
        return TransportError(f"the connection to {self._peer.short} failed: {_last_line(text)}")


class QuicStream:
    """One bidirectional stream of the wheel."""

    def __init__(self, raw: Any, connection: QuicConnection) -> None:
        self._connection = connection
        self._sender = raw.send()
        self._receiver = raw.recv()
        tasks = connection._tasks
        self._reading: _Outliving[bytes] = _Outliving(tasks, self._read_some)
        self._read_size = 0
        self._unread = b""
        self._tasks = tasks
        self._turn = asyncio.Lock()
        self._writing: asyncio.Task[None] | None = None
        self._has_stopped = False
        self._write_over = False

    async def read(self, size_max: int) -> bytes:
        if size_max < 1:
            raise UsageError("a read of less than one byte")
        if self._has_stopped:
            raise TransportError("reading was stopped here")
        if not self._unread:
            self._read_size = size_max
            try:
                self._unread = await self._reading()
            except iroh.IrohError as error:
                raise self._connection.translate(error) from None
            except asyncio.CancelledError:
                if self._has_stopped and not _is_cancelling():
                    raise TransportError("reading was stopped here") from None
                raise
        if len(self._unread) <= size_max:
            data, self._unread = self._unread, b""
        else:
            data, self._unread = self._unread[:size_max], self._unread[size_max:]
        return data

    async def write(self, data: bytes) -> None:
        await self._turn.acquire()
        if self._write_over:
            self._turn.release()
            raise UsageError("a write after the stream was finished")
        self._writing = self._tasks.start(self._write_all(data))
        self._writing.add_done_callback(self._written)
        try:
            await asyncio.shield(self._writing)
        except asyncio.CancelledError:
            if self._write_over and not _is_cancelling():
                raise TransportError("this stream was reset here") from None
            raise

    async def finish(self) -> None:
        async with self._turn:
            if self._write_over:
                return
            self._write_over = True
            try:
                await self._sender.finish()
            except iroh.IrohError as error:
                raise self._connection.translate(error) from None

    async def stop(self, code: int) -> None:
        if self._has_stopped:
            return
        self._has_stopped = True
        await self._reading.cancel()
        with suppress(iroh.IrohError):  # it has ended already: nothing is left to be refused
            await self._receiver.stop(int(code))

    async def reset(self, code: int) -> None:
        self._write_over = True
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.wait([self._writing])
        with suppress(iroh.IrohError):  # finished and delivered, or the connection is gone
            await self._sender.reset(int(code))
        await self.stop(code)

    async def _read_some(self) -> bytes:
        return bytes(await self._receiver.read(self._read_size))

    async def _write_all(self, data: bytes) -> None:
        try:
            if len(data) <= WRITE_BYTES:
                await self._sender.write_all(data)
                return
            view = memoryview(data)
            for at in range(0, len(view), WRITE_BYTES):
                await self._sender.write_all(view[at : at + WRITE_BYTES])
        except iroh.IrohError as error:
            raise self._connection.translate(error) from None

    def _written(self, task: "asyncio.Task[None]") -> None:
        self._writing = None
        self._turn.release()


class _Tasks:
    """The tasks of one transport: none is lost, none outlives it, no error of theirs is reported twice."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()

    def start(self, work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        task = asyncio.get_running_loop().create_task(work)
        self._running.add(task)
        task.add_done_callback(self._done)
        return task

    async def end(self) -> None:
        """Give what is running one more turn to end by itself, then cancel it and wait."""
        if self._running:
            await asyncio.wait(self._running, timeout=0.05)
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(self._running)

    def _done(self, task: "asyncio.Task[Any]") -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # whoever awaits the task gets it


class _Outliving(Generic[T]):
    """A call that goes on when its caller is cancelled; the next caller gets its result."""

    def __init__(self, tasks: _Tasks, call: Callable[[], Awaitable[T]]) -> None:
        self._tasks = tasks
        self._call = call
        self._task: asyncio.Task[T] | None = None

    async def __call__(self) -> T:
        task = self._task
        if task is None:
            task = self._task = self._tasks.start(self._run())
        try:
            result = await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                self._task = None
            raise
        except BaseException:
            self._task = None
            raise
        self._task = None
        return result

    async def cancel(self) -> None:
        """Drop the call that is under way, with what it may have got."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> T:
        return await self._call()


def _is_cancelling() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _code_name(code: int) -> str:
    return CloseCode(code).name.lower() if code in set(CloseCode) else f"code {code}"


def _ip(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    return ipaddress.ip_address(address.rpartition(":")[0].strip("[]").partition("%")[0])


def _join(ip: str, port: int) -> str:
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"


def _last_line(text: str) -> str:
    """The cause without the wheel's source positions."""
    return text.strip().splitlines()[-1].strip()


def _bind_error(text: str, ip: str, port: int) -> UsageError:
    if "Address already in use" in text or "in use" in text.lower():
        return UsageError(f"UDP port {port} is taken by another program: stop it, or choose another port")
    return UsageError(f"cannot listen on {_join(ip, port)}: {_last_line(text)}")


def _connect_text(text: str, peer: PeerId) -> str:
    if "UnknownIssuer" in text or "certificate" in text:
        return f"somebody else than {peer.short} answers there"
    return f"cannot connect to {peer.short}: {_last_line(text)}"
