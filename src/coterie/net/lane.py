"""A lane: one TLS connection that carries frames one way. Blocking; each end belongs to one thread.

One way, because a TLS connection cannot be read and written by two threads at once, and because what answers the bulk
(requests, resets, the end) is small and has its place on the stream.
"""

import select
import socket
import ssl
import sys
import threading

from coterie.errors import TransportError

try:
    from fcntl import ioctl
    from termios import FIONREAD
except ImportError:  # Windows: one record at a time
    ioctl = None  # type: ignore[assignment]

SILENCE_S = (
    30.0  # as `NetLimits.frame_s`: a lane that takes or brings nothing for so long, with bytes to go, is dead
)

# RFC 8446, 5.5: 2^24.5 full records (388 GB) under one AES-GCM key, which the library behind `ssl` does not renew.
LANE_BYTES_MAX = 256 << 30

RECORD_BYTES_MAX = 5 + (1 << 14) + 256  # RFC 8446, 5.2: header, and the most that one record may hold


class Lane:
    """One end of a lane with the name `id`. `close` may be called from any thread and wakes the others."""

    def __init__(self, secured: ssl.SSLSocket, id_: bytes, remote: str) -> None:
        self.id = id_
        self.remote = remote
        self.sent_bytes = 0
        self._socket = secured
        self._lock = threading.Lock()
        self._in_use = False
        self._closing = False
        self._unread = b""
        self._timeout_s: float | None = None
        secured.settimeout(SILENCE_S)
        secured.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @property
    def is_closed(self) -> bool:
        return self._closing

    @property
    def has_ended(self) -> bool:
        """Whether the reader has closed it: nothing else ever comes to the end that writes."""
        try:
            return self._closing or self.is_readable
        except TransportError:
            return True

    @property
    def is_worn(self) -> bool:
        """Whether its keys have encrypted so much that another lane should follow."""
        return self.sent_bytes >= LANE_BYTES_MAX

    def write(self, data: bytes | memoryview) -> None:
        """Write all of `data`; it may be used again afterwards.

        Raises:
            TransportError: the lane broke. How much of what was written arrived is not known.
        """
        with self._using():
            try:
                self._socket.sendall(data)
            except (OSError, ValueError) as error:
                raise TransportError(f"the lane to {self.remote} broke: {_reason(error)}") from None
        self.sent_bytes += len(data)

    def unread(self, data: bytes) -> None:
        """Bytes that were read too far, for the next reader."""
        self._unread = data + self._unread

    def read_into(self, view: memoryview, least: int, timeout_s: float | None = None) -> int:
        """`least` bytes or more into `view`: whatever is here already, as long as there is room.

        Raises:
            TransportError: the lane broke or was closed.
            TimeoutError: nothing at all came within `timeout_s` (`SILENCE_S` when None); the lane stays usable.
        """
        size = min(len(view), len(self._unread))
        if size:
            view[:size], self._unread = self._unread[:size], self._unread[size:]
            return size
        with self._using():
            try:
                if timeout_s != self._timeout_s:
                    self._timeout_s = timeout_s
                    self._socket.settimeout(SILENCE_S if timeout_s is None else timeout_s)
                return self._read_records(view, least)
            except TimeoutError:
                raise
            except (OSError, ValueError) as error:
                raise TransportError(f"the lane to {self.remote} broke: {_reason(error)}") from None

    def _read_records(self, view: memoryview, least: int) -> int:
        """As `read_into`. Every call of the TLS library brings one record: this loop is where the time goes."""
        read = self._socket.read
        at, room = 0, len(view)
        records = 1
        while records and at < room:
            try:
                size = read(room - at, view[at:])
            except (OSError, ValueError):
                if at:
                    return at  # the next call meets it again
                raise
            if not size:
                raise TransportError(f"the lane to {self.remote} was cut")
            at += size  # type: ignore[operator]
            records -= 1
            if not records:
                records = self._records_here() or int(at < least)
        return at

    def _records_here(self) -> int:
        """How many whole records the system holds for us: these can be read without waiting."""
        if ioctl is None:
            return 0
        return int.from_bytes(ioctl(self._socket, FIONREAD, bytes(4)), sys.byteorder) // RECORD_BYTES_MAX

    @property
    def is_readable(self) -> bool:
        """Whether `read_into` would find something at once."""
        if self._unread:
            return True
        with self._using():
            try:
                if self._socket.pending():
                    return True
                if hasattr(select, "poll"):
                    poller = select.poll()
                    poller.register(self._socket, select.POLLIN)
                    return bool(poller.poll(0))
                return bool(select.select([self._socket], [], [], 0)[0])
            except (OSError, ValueError):
                return True  # reading says what is wrong

    def close(self) -> None:
        """Cut it: both ends' pending calls fail."""
        with self._lock:
            self._closing = True
            if self._in_use:  # the thread inside closes it on its way out: freeing what it uses would crash
                _shut(self._socket)
                return
        self._socket.close()

    def _using(self) -> "_Use":
        return _Use(self)


class _Use:
    """While a thread is inside the socket."""

    __slots__ = ("_lane",)

    def __init__(self, lane: Lane) -> None:
        self._lane = lane

    def __enter__(self) -> None:
        lane = self._lane
        with lane._lock:
            if lane._closing:
                raise TransportError(f"the lane to {lane.remote} was closed")
            lane._in_use = True

    def __exit__(self, *_: object) -> None:
        lane = self._lane
        with lane._lock:
            lane._in_use = False
            closing = lane._closing
        if closing:
            lane._socket.close()


def _shut(sock: ssl.SSLSocket) -> None:
    """Wake whoever is inside `sock`, without touching the state of TLS that it uses."""
    try:
        socket.socket.shutdown(sock, socket.SHUT_RDWR)
    except OSError:
        return  # it is gone already


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
