"""QUIC between authenticated peers, through the `iroh` wheel; the one module that knows it, and its errors.

What the wheel (1.2.0) does that its signatures do not say, all measured:

- Cancelling one of its futures drops the Rust future; what it had just finished is lost (39 of 301 bytes in a
  test that cancelled reads). So reads, writes and accepts run in tasks of ours that outlive their caller: the
  next call takes the pending result.
- A stream half is behind a lock that a pending read or write holds: `stop` and `reset` would wait for
  ever. So the pending task is cancelled first.
- It calls back from threads of its own while it holds a connection's lock. Should Python collect garbage
  there, and with it a stream of the wheel, whose end takes the same lock, all stands still. So the connection
  holds every stream's halves, and they go on the loop's thread only.
- It frees its port when the last of its objects has gone, not on `close`.
- Why a stream or connection ended comes as text; the patterns below take the code from it. A peer's own words
  stand last in it, behind the code or before a fixed end, and so cannot imitate one.
"""

import asyncio
import errno
import ipaddress
import re
import socket
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

import iroh

from coterie.errors import CloseCode, CoterieError, PeerError, TransportError, UsageError
from coterie.identity import PeerId, SecretKey
from coterie.net.interfaces import PathInfo, RawConnection, RawStream
from coterie.net.quic_repair import repair
from coterie.wire.handshake import ALPN

ANY_IP = "0.0.0.0"  # noqa: S104  (to be reached by others is the purpose)
WRITE_BYTES = 256 * 1024  # measured: larger pieces are slower
ACCEPT_QUEUE_MAX = 64  # guess: connections done with their handshake that nobody accepted yet
HANDSHAKES_MAX = 256  # guess: QUIC handshakes under way at once; more are refused
HANDSHAKE_S = 10.0  # guess: a QUIC handshake takes two round trips
CLOSE_S = 1.0  # guess: for close messages to be sent; the user waits for this at Ctrl-C

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
        self._endpoint: Any = endpoint
        self._peer_id = secret_key.peer_id
        self._tasks = _Tasks()
        self._accepted: asyncio.Queue[QuicConnection | None] = asyncio.Queue(ACCEPT_QUEUE_MAX)
        self._handshakes = 0
        self._is_closed = False
        self._live: dict[QuicConnection, None] = {}
        self._sent_bytes = self._received_bytes = 0
        self._tasks.start(self._accept_all())

    @classmethod
    async def bind(cls, secret_key: SecretKey, port: int = 0, bind_ip: str = ANY_IP) -> "QuicTransport":
        """Listen on UDP `port` (0: any free one) of `bind_ip`, and on the same of IPv6 where there is one.

        Raises:
            UsageError: the port is taken, or the address is not this machine's; the text says what to do.
            TransportError: the system does not let us.
        """
        repair()
        _check_port(bind_ip, port)
        ips = [bind_ip]
        if ":" not in bind_ip and _has_ipv6():
            # Left to itself the wheel listens on every IPv6 address, whatever IPv4 address was asked for.
            ips.append("::" if bind_ip == ANY_IP else "::1")
        builder: Any = iroh.EndpointBuilder()  # type: ignore[no-untyped-call]
        builder.apply_minimal()
        builder.relay_mode(iroh.RelayMode.disabled())
        builder.alpns([ALPN])
        builder.secret_key(secret_key.seed)
        try:
            for ip in ips:
                builder.bind_addr(_join(ip, port))
            endpoint = await builder.bind()
        except iroh.IrohError as error:
            text = _last_line(error.message())
            raise TransportError(f"cannot listen on {_join(bind_ip, port)}: {text}") from None
        return cls(endpoint, secret_key)

    @property
    def peer_id(self) -> PeerId:
        return self._peer_id

    @property
    def addresses(self) -> list[str]:
        """Every "ip:port" of this machine under which we listen, loopback last."""
        if self._endpoint is None:
            return []
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
        endpoint = self._endpoint
        if endpoint is None:
            raise TransportError("this node's network is closed")
        identity = iroh.EndpointId.from_bytes(bytes(peer))
        try:
            if not addresses and await endpoint.remote_addr(identity) is None:
                raise TransportError(f"no address of {peer.short} is known")
            raw = await endpoint.connect(iroh.EndpointAddr(identity, None, list(addresses)), ALPN)
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
        self._endpoint = None  # the wheel frees the port when nobody holds its objects
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
        await connection.watch()
        if self._live.pop(connection, connection) is None:
            last = connection.stats()
            self._sent_bytes += last.sent_bytes
            self._received_bytes += last.received_bytes


class QuicConnection:
    """One QUIC connection of the wheel."""

    def __init__(self, raw: Any, tasks: "_Tasks") -> None:
        self._raw: Any = raw
        self._tasks = tasks
        self._peer = PeerId(raw.remote_id().to_bytes())
        self._closed_here: tuple[int, str] | None = None
        self._accept: _Outliving[Any] = _Outliving(tasks)
        self._datagram: _Outliving[bytes] = _Outliving(tasks)
        self._ended: asyncio.Future[tuple[int | None, str]] = asyncio.get_running_loop().create_future()
        self._loop = asyncio.get_running_loop()
        self._halves: dict[_Halves, None] = {}
        self._last_path = PathInfo("direct", "")
        self._last_stats = TransportStats(0, 0)

    @property
    def peer(self) -> PeerId:
        return self._peer

    @property
    def path(self) -> PathInfo:
        paths = [] if self._raw is None else self._raw.paths()
        selected = next((p for p in paths if p.is_selected), paths[0] if paths else None)
        if selected is not None:
            kind = "relay" if selected.is_relay else "direct"
            self._last_path = PathInfo(kind, selected.remote_addr, selected.rtt_ms / 1000)
        return self._last_path

    @property
    def is_closed(self) -> bool:
        return self._closed_here is not None or self._raw is None or self._raw.close_reason() is not None

    @property
    def datagram_bytes_max(self) -> int:
        return 0 if self._raw is None else self._raw.max_datagram_size() or 0

    def stats(self) -> TransportStats:
        """What went over UDP for this connection."""
        if self._raw is not None:
            stats = self._raw.stats()
            self._last_stats = TransportStats(stats.udp_tx_bytes, stats.udp_rx_bytes)
        return self._last_stats

    async def open_stream(self) -> RawStream:
        try:
            return QuicStream(await self._live().open_bi(), self)
        except iroh.IrohError as error:
            raise self.translate(error) from None

    async def accept_stream(self) -> RawStream:
        try:
            return QuicStream(await self._accept(lambda: self._live().accept_bi()), self)
        except iroh.IrohError as error:
            raise self.translate(error) from None

    async def send_datagram(self, data: bytes) -> None:
        if len(data) > self.datagram_bytes_max and not self.is_closed:
            raise UsageError(f"a datagram of {len(data)} bytes is over {self.datagram_bytes_max}")
        try:
            self._live().send_datagram(data)
        except iroh.IrohError as error:
            raise self.translate(error) from None

    async def receive_datagram(self) -> bytes:
        try:
            return await self._datagram(lambda: self._live().read_datagram())
        except iroh.IrohError as error:
            raise self.translate(error) from None

    def close(self, code: int, reason: str) -> None:
        if not self.is_closed:
            self._closed_here = (int(code), reason)
            self._raw.close(int(code), reason.encode())

    async def closed(self) -> tuple[int | None, str]:
        return await asyncio.shield(self._ended)

    async def watch(self) -> None:
        """Wait for the end and note it; then let go of the wheel's objects, which would keep the port."""
        text = await self._live().closed()
        match = _CLOSED_BY_PEER.match(text)
        end: tuple[int | None, str] = (None, text)
        if self._closed_here is not None:
            end = self._closed_here
        elif match is not None:
            end = int(match["code"] or match["bare"]), match["reason"] or ""
        self.stats()
        for halves in list(self._halves):
            self._drop(halves)
        self._raw = None
        self._accept = _Outliving(self._tasks)
        self._ended.set_result(end)

    def end_error(self) -> CoterieError:
        """Why nothing works any more, once the connection has ended."""
        code, reason = self._ended.result() if self._ended.done() else (None, "closing")
        if self._closed_here is not None:
            return TransportError(f"the connection to {self._peer.short} was closed here")
        if code is not None:
            return PeerError(f"{self._peer.short} closed the connection: {_code_name(code)}", code)
        return TransportError(f"the connection to {self._peer.short} failed: {reason}")

    def keep(self, halves: "_Halves") -> None:
        """Hold a stream's halves for as long as it is in use."""
        self._halves[halves] = None

    def let_go(self, halves: "_Halves") -> None:
        """From any thread: let a stream's halves go, on the thread of the loop."""
        with suppress(RuntimeError):  # the loop is closed, and with it everything of the wheel
            self._loop.call_soon_threadsafe(self._abandoned, halves)

    def _abandoned(self, halves: "_Halves") -> None:
        """Nobody holds the stream. Left to itself the wheel would finish it: an end that was not meant."""
        if halves.sender is None or halves.is_over:
            self._drop(halves)
        else:
            self._tasks.start(self._give_up(halves))

    async def _give_up(self, halves: "_Halves") -> None:
        with suppress(iroh.IrohError):  # the connection is gone
            await halves.sender.reset(CloseCode.CANCELLED)
        self._drop(halves)

    def _drop(self, halves: "_Halves") -> None:
        self._halves.pop(halves, None)
        halves.sender = halves.receiver = None

    def _live(self) -> Any:
        if self._raw is None:
            raise self.end_error()
        return self._raw

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


class _Halves:
    """The wheel's objects for one stream; None once they were let go."""

    __slots__ = ("is_over", "receiver", "sender")

    def __init__(self, sender: Any, receiver: Any) -> None:
        self.sender = sender
        self.receiver = receiver
        self.is_over = False  # finished or reset: `sender` may go without a word


class QuicStream:
    """One bidirectional stream of the wheel."""

    def __init__(self, raw: Any, connection: QuicConnection) -> None:
        self._connection = connection
        self._halves = _Halves(raw.send(), raw.recv())
        connection.keep(self._halves)
        tasks = connection._tasks
        self._reading: _Outliving[bytes] = _Outliving(tasks)
        self._read_size = 0
        self._unread = b""
        self._read_error: Any = None  # told once by the wheel, which then says "end of stream"
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
        if self._read_error is not None:
            raise self._connection.translate(self._read_error)
        if self._halves.receiver is None:
            raise self._connection.end_error()
        if not self._unread:
            self._read_size = size_max
            try:
                self._unread = await self._reading(self._read_some)
            except iroh.IrohError as error:
                self._read_error = error
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
        if self._halves.sender is None:
            self._turn.release()
            raise self._connection.end_error()
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
            self._write_over = self._halves.is_over = True
            if self._halves.sender is None:
                raise self._connection.end_error()
            try:
                await self._halves.sender.finish()
            except iroh.IrohError as error:
                raise self._connection.translate(error) from None

    async def stop(self, code: int) -> None:
        if self._has_stopped:
            return
        self._has_stopped = True
        await self._reading.cancel()
        if self._halves.receiver is None:
            return
        with suppress(iroh.IrohError):  # it has ended already: nothing is left to be refused
            await self._halves.receiver.stop(int(code))

    async def reset(self, code: int) -> None:
        self._write_over = self._halves.is_over = True
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.wait([self._writing])
        if self._halves.sender is not None:
            with suppress(iroh.IrohError):  # finished and delivered, or the connection is gone
                await self._halves.sender.reset(int(code))
        await self.stop(code)

    def __del__(self) -> None:
        self._connection.let_go(self._halves)

    async def _read_some(self) -> bytes:
        if self._halves.receiver is None:
            raise self._connection.end_error()
        return cast(bytes, await self._halves.receiver.read(self._read_size))

    async def _write_all(self, data: bytes) -> None:
        try:
            sender = self._halves.sender
            if len(data) <= WRITE_BYTES:
                await sender.write_all(data)
                return
            view = memoryview(data)
            for at in range(0, len(view), WRITE_BYTES):
                await sender.write_all(view[at : at + WRITE_BYTES])
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

    def __init__(self, tasks: _Tasks) -> None:
        self._tasks = tasks
        self._task: asyncio.Task[T] | None = None

    async def __call__(self, call: Callable[[], Awaitable[T]]) -> T:
        """The result of the call under way, or of `call`."""
        task = self._task
        if task is None:
            task = self._task = self._tasks.start(_await(call))
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


async def _await(call: Callable[[], Awaitable[T]]) -> T:
    return await call()


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


def _check_port(ip: str, port: int) -> None:
    """Raise `UsageError` unless a UDP socket can be had there: the wheel does not say why it cannot bind."""
    places = [(socket.AF_INET6 if ":" in ip else socket.AF_INET, ip)]
    if ":" not in ip and _has_ipv6():
        places.append((socket.AF_INET6, "::" if ip == ANY_IP else "::1"))
    for family, place in places:
        try:
            _try_bind(family, place, port)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                text = f"UDP port {port} is taken by another program: stop it, or choose another port"
                raise UsageError(text) from None
            raise UsageError(f"cannot listen on {_join(place, port)}: {error.strerror}") from None


def _has_ipv6() -> bool:
    try:
        _try_bind(socket.AF_INET6, "::1", 0)
    except OSError:
        return False
    return True


def _try_bind(family: socket.AddressFamily, ip: str, port: int) -> None:
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        if family == socket.AF_INET6:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        probe.bind((ip, port))


def _connect_text(text: str, peer: PeerId) -> str:
    if "UnknownIssuer" in text or "certificate" in text:
        return f"somebody else than {peer.short} answers there"
    return f"cannot connect to {peer.short}: {_last_line(text)}"
