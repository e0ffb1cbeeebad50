"""Connections and streams of the QUIC wheel; `quic.py` says what is peculiar about it."""

import asyncio
import re
from contextlib import suppress
from typing import Any, cast

import msgspec

from coterie.errors import CloseCode, CoterieError, PeerError, TransportError, UsageError
from coterie.identity import PeerId
from coterie.net.interfaces import PathInfo, RawStream
from coterie.net.quic.cables import without_scope
from coterie.net.quic.calls import Outliving, is_cancelling
from coterie.net.quic.errors import WHEEL_ERRORS, is_closed_error, last_line, text_of
from coterie.tasks import Tasks
from coterie.texts import tr

WRITE_BYTES = 256 * 1024  # measured: larger pieces are slower

_RESET = re.compile(r"\A(?:Reset|Stopped)\((\d+)\)\Z")
_APPLICATION_CLOSED = re.compile(r"ApplicationClose \{ error_code: (\d+), reason: ")
_CLOSED_BY_PEER = re.compile(
    r"\Aclosed by peer: (?:(?P<reason>.*) \(code (?P<code>\d+)\)|(?P<bare>\d+))\Z", re.DOTALL
)


class TransportStats(msgspec.Struct, frozen=True):
    """UDP payload of all connections of a transport, ended ones included."""

    sent_bytes: int
    received_bytes: int


class QuicConnection:
    """One QUIC connection of the wheel."""

    def __init__(self, raw: Any, tasks: "Tasks", scope: int = 0) -> None:
        """`scope` is the number of the interface, of a connection over a cable: see `net/quic/cables.py`."""
        self._raw: Any = raw
        self._tasks = tasks
        self.scope = scope
        self._peer = PeerId(raw.remote_id().to_bytes())
        self._closed_here: tuple[int, str] | None = None
        self._given_up: str | None = None
        self.last_direct: str | None = None  # "ip:port" where the peer was last reached without a relay
        self._accept: Outliving[Any] = Outliving(tasks)
        self._datagram: Outliving[bytes] = Outliving(tasks)
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
        with suppress(*WHEEL_ERRORS):  # then it is as it was
            paths = [] if self._raw is None else self._raw.paths()
            selected = next((p for p in paths if p.is_selected), paths[0] if paths else None)
            if selected is not None:
                kind = "relay" if selected.is_relay else "direct"
                remote = without_scope(selected.remote_addr.rstrip("/"))
                if kind == "direct":
                    self.last_direct = remote
                self._last_path = PathInfo(
                    kind, remote, selected.rtt_ms / 1000, self.scope, selected.stats.current_mtu
                )
        return self._last_path

    @property
    def is_closed(self) -> bool:
        if self._closed_here is not None or self._raw is None:
            return True
        try:
            return self._raw.close_reason() is not None
        except WHEEL_ERRORS:  # it is of no use any more
            return True

    @property
    def datagram_bytes_max(self) -> int:
        try:
            return 0 if self._raw is None else self._raw.max_datagram_size() or 0
        except WHEEL_ERRORS:
            return 0

    def stats(self) -> TransportStats:
        """What went over UDP for this connection."""
        with suppress(*WHEEL_ERRORS):  # then it is as it was
            if self._raw is not None:
                stats = self._raw.stats()
                self._last_stats = TransportStats(stats.udp_tx_bytes, stats.udp_rx_bytes)
        return self._last_stats

    async def open_stream(self) -> RawStream:
        try:
            return QuicStream(await self._live().open_bi(), self)
        except WHEEL_ERRORS as error:
            raise self.translate(error) from None

    def allow_streams(self, count: int) -> None:
        with suppress(*WHEEL_ERRORS):  # it has ended
            if self._raw is not None:
                self._raw.set_max_concurrent_bi_streams(count)

    async def accept_stream(self) -> RawStream:
        try:
            return QuicStream(await self._accept(lambda: self._live().accept_bi()), self)
        except WHEEL_ERRORS as error:
            raise self.translate(error) from None

    async def send_datagram(self, data: bytes) -> None:
        if len(data) > self.datagram_bytes_max and not self.is_closed:
            raise UsageError(
                tr(
                    "a datagram of {data} bytes is over {datagram_bytes_max}",
                    data=len(data),
                    datagram_bytes_max=self.datagram_bytes_max,
                )
            )
        try:
            self._live().send_datagram(data)
        except WHEEL_ERRORS as error:
            raise self.translate(error) from None

    async def receive_datagram(self) -> bytes:
        try:
            return await self._datagram(lambda: self._live().read_datagram())
        except WHEEL_ERRORS as error:
            raise self.translate(error) from None

    def close(self, code: int, reason: str) -> None:
        if not self.is_closed:
            self._closed_here = (int(code), reason)
            with suppress(*WHEEL_ERRORS):  # it has ended meanwhile
                self._raw.close(int(code), reason.encode())

    @property
    def was_given_up(self) -> bool:
        """Whether `give_up` ended it."""
        return self._given_up is not None

    def give_up(self, reason: str) -> None:
        """End it as failed: the network does not carry it any more."""
        if not self.is_closed:
            self._given_up = reason
            with suppress(*WHEEL_ERRORS):  # it has ended meanwhile
                self._raw.close(int(CloseCode.TIMEOUT), b"")

    async def closed(self) -> tuple[int | None, str]:
        return await asyncio.shield(self._ended)

    async def watch(self) -> None:
        """Wait for the end and note it; then let go of the wheel's objects, which would keep the port."""
        try:
            text = await self._live().closed()
        except WHEEL_ERRORS as error:
            text = text_of(error)
        match = _CLOSED_BY_PEER.match(text)
        end: tuple[int | None, str] = (None, text)
        if self._given_up is not None:
            end = None, self._given_up
        elif self._closed_here is not None:
            end = self._closed_here
        elif match is not None:
            end = int(match["code"] or match["bare"]), match["reason"] or ""
        self.stats()
        for halves in list(self._halves):
            self._drop(halves)
        self._raw = None
        self._accept = Outliving(self._tasks)
        self._ended.set_result(end)

    def end_error(self) -> CoterieError:
        """Why nothing works any more, once the connection has ended."""
        code, reason = self._ended.result() if self._ended.done() else (None, "closing")
        if self._closed_here is not None:
            return TransportError(tr("the connection to {short} was closed here", short=self._peer.short))
        if code is not None:
            return PeerError(f"{self._peer.short} closed the connection: {_code_name(code)}", code)
        return TransportError(
            tr("the connection to {short} failed: {reason}", short=self._peer.short, reason=reason)
        )

    def keep(self, halves: "_Halves") -> None:
        """Hold a stream's halves for as long as it is in use."""
        self._halves[halves] = None

    def let_go(self, halves: "_Halves") -> None:
        """From any thread: let a stream's halves go, on the thread of the loop."""
        with suppress(RuntimeError):  # the loop is closed, and with it everything of the wheel
            self._loop.call_soon_threadsafe(self._abandoned, halves)

    def _abandoned(self, halves: "_Halves") -> None:
        """Nobody holds the stream. Left to itself the wheel would finish it: an end that was not meant."""
        if halves.sender is None or halves.is_over or self.is_closed:
            self._drop(halves)
        else:
            self._tasks.start(self._give_up(halves), "giving up a stream")

    async def _give_up(self, halves: "_Halves") -> None:
        with suppress(*WHEEL_ERRORS):  # the connection is gone
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
        text = text_of(error)
        if match := _RESET.match(text):
            code = int(match[1])
            if code == CloseCode.REFUSED:
                what = "this computer may not do that there; whoever owns that one can permit it (`coterie grant`)"
                return PeerError(f"{self._peer.short} refused: {what}", code)
            return PeerError(f"{self._peer.short} ended the stream: {_code_name(code)}", code)
        if self._given_up is not None:
            return TransportError(
                tr(
                    "the connection to {short} failed: {given_up}",
                    short=self._peer.short,
                    given_up=self._given_up,
                )
            )
        if self._closed_here is not None:
            return TransportError(tr("the connection to {short} was closed here", short=self._peer.short))
        if match := _APPLICATION_CLOSED.search(text):
            code = int(match[1])
            return PeerError(f"{self._peer.short} closed the connection: {_code_name(code)}", code)
        if is_closed_error(error) or text == "ClosedStream":
            return TransportError(tr("this stream to {short} was ended here", short=self._peer.short))
        return TransportError(
            tr(
                "the connection to {short} failed: {last_line}",
                short=self._peer.short,
                last_line=last_line(text),
            )
        )


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
        self._reading: Outliving[bytes] = Outliving(tasks)
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
            raise UsageError(tr("a read of less than one byte"))
        if self._has_stopped:
            raise TransportError(tr("reading was stopped here"))
        if self._read_error is not None:
            raise self._connection.translate(self._read_error)
        if self._halves.receiver is None:
            raise self._connection.end_error()
        if not self._unread:
            self._read_size = size_max
            try:
                self._unread = await self._reading(self._read_some)
            except WHEEL_ERRORS as error:
                self._read_error = error
                raise self._connection.translate(error) from None
            except asyncio.CancelledError:
                if self._has_stopped and not is_cancelling():
                    raise TransportError(tr("reading was stopped here")) from None
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
            raise UsageError(tr("a write after the stream was finished"))
        if self._halves.sender is None:
            self._turn.release()
            raise self._connection.end_error()
        self._writing = self._tasks.start(self._write_all(data), "writing", is_awaited=True)
        self._writing.add_done_callback(self._written)
        try:
            await asyncio.shield(self._writing)
        except asyncio.CancelledError:
            if self._write_over and not is_cancelling():
                raise TransportError(tr("this stream was reset here")) from None
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
            except WHEEL_ERRORS as error:
                raise self._connection.translate(error) from None

    async def stop(self, code: int) -> None:
        if self._has_stopped:
            return
        self._has_stopped = True
        await self._reading.cancel()
        if self._halves.receiver is None:
            return
        with suppress(*WHEEL_ERRORS):  # it has ended already: nothing is left to be refused
            await self._halves.receiver.stop(int(code))

    async def reset(self, code: int) -> None:
        self._write_over = self._halves.is_over = True
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.wait([self._writing])
        if self._halves.sender is not None:
            with suppress(*WHEEL_ERRORS):  # finished and delivered, or the connection is gone
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
            if sender is None:  # the connection ended before this task had its turn
                raise self._connection.end_error()
            if len(data) <= WRITE_BYTES:
                await sender.write_all(data)
                return
            view = memoryview(data)
            for at in range(0, len(view), WRITE_BYTES):
                await sender.write_all(view[at : at + WRITE_BYTES])
        except WHEEL_ERRORS as error:
            raise self._connection.translate(error) from None

    def _written(self, task: "asyncio.Task[None]") -> None:
        self._writing = None
        self._turn.release()


def _code_name(code: int) -> str:
    return CloseCode(code).name.lower() if code in set(CloseCode) else f"code {code}"
