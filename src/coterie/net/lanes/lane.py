"""A lane: one TLS connection that carries frames one way. Blocking; each end belongs to one thread.

One way, because a TLS connection cannot be read and written by two threads at once, and because what answers the bulk
(requests, resets, the end) is small and has its place on the stream.
"""

import select
import socket
import ssl
import sys
import threading
import time
from contextlib import suppress
from itertools import repeat
from pathlib import Path
from typing import Any

from coterie.errors import TransportError
from coterie.net.lanes.choice import PathSeen
from coterie.net.lanes.steering import LONG_US, Steering
from coterie.net.lanes.tcp_seen import (
    PACED_BYTES_PER_S,
    RATE_BASED,
    choose_way,
    delivery_rate,
    own_way,
    path_seen,
    repeats,
    set_pace,
)
from coterie.texts import tr

try:
    from fcntl import ioctl
    from termios import FIONREAD, TIOCOUTQ
except ImportError:  # Windows: one record at a time
    ioctl = None  # type: ignore[assignment]

SILENCE_S = (
    30.0  # as `NetLimits.frame_s`: a lane that takes or brings nothing for so long, with bytes to go, is dead
)

# RFC 8446, 5.5: 2^24.5 full records (388 GB) under one AES-GCM key, which the library behind `ssl` does not renew.
LANE_BYTES_MAX = 256 << 30

RECORD_HEADER_BYTES = 5  # RFC 8446, 5.1: kind, version, and in the last two bytes how many follow
RECORD_DATA_BYTES_MAX = 1 << 14  # RFC 8446, 5.1; writers fill it, but for the last of a write
RECORD_BYTES_MAX = RECORD_HEADER_BYTES + RECORD_DATA_BYTES_MAX + 256  # RFC 8446, 5.2
AWAITED_BYTES_MAX = 128 << 10  # slept for at once: half of what systems let wait at least; guess

SHORT_US = 1_000  # round trip; guess: of a local network
HELD_BYTES = 208 << 10  # received and not read; what systems allow at least; enough for 400 MB/s on loopback
SLICE_BYTES = (
    8 * RECORD_DATA_BYTES_MAX
)  # between two looks at a far path; each takes the interpreter for a moment
UNSENT_BYTES = 128 << 10  # written and not on their way; guess: the writer is woken in time at any rate
UNSENT_FAR_BYTES = (
    512 << 10
)  # the same on a far path; guess: 15 ms where TCP tries three times 100 Mbit/s at first
LITTLE_UNTIL_BYTES = 192 << 20  # few of twenty kills in 2 GB come later, and a busy machine needs more room
SEND_ROOM_MAX = Path("/proc/sys/net/core/wmem_max")
_SO_BUF_LOCK = 72  # Linux 5.15, asm-generic/socket.h: 0 lets the system choose the sizes of buffers again

WIDE_BYTES_PER_S = 25_000_000  # guess: 100 Mbit/s, and the same again for a queue
WIDE_BYTES_MAX = 4 << 20  # guess; systems give up to 6 by themselves, in time
LISTEN_S = 1.0  # how often a reader that waits for much looks whether any of it has come
LOOK_S = 0.005  # how often TCP is asked how it fares, at most; guess: at every write on a slow path


SWALLOWED_S = 0.5  # guess; whoever is taken for one by mistake loses nothing
PROGRESS_S = 0.25  # how often a writer that waits looks whether any of it was taken
REPEATS = 2  # of one packet in a row, none acknowledged; a reader that takes nothing is not repeated to
SWALLOWED_ROUND_TRIPS = 4
SEGMENT_BYTES = 1220  # fits the least that IPv6 demands of a path, 1280, with both headers (RFC 8200, 5)
NARROW_PATHS_MAX = 256
_IP_MTU_DISCOVER, _IP_PMTUDISC_DONT = 10, 0  # Linux, include/uapi/linux/in.h


class NarrowPaths:
    """Where large packets vanish and no router says so, as lanes found out: the latest `NARROW_PATHS_MAX` addresses."""

    def __init__(self) -> None:
        self._found: dict[str, None] = {}

    def __contains__(self, remote: str) -> bool:
        return remote in self._found

    def add(self, remote: str) -> None:
        """One more; the oldest makes room. From any thread."""
        self._found[remote] = None
        if len(self._found) > NARROW_PATHS_MAX:
            self._found.pop(next(iter(self._found)), None)


def let_fragment(sock: socket.socket) -> bool:
    """Let routers cut packets that are too large for what follows (IPv4 on Linux); False where they may not."""
    if sys.platform != "linux" or sock.getsockopt(socket.SOL_SOCKET, socket.SO_DOMAIN) != socket.AF_INET:
        return False
    sock.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _IP_PMTUDISC_DONT)
    return True


def _may_hold(size: int) -> bool:
    """Whether a program may ask for so much room to send from. Asked for more, Linux gives the most that it allows, for
    ever: where that is 208 KiB, as it mostly is, far less than it gives by itself."""
    try:
        return int(SEND_ROOM_MAX.read_text()) >= size
    except (OSError, ValueError):
        return False


def _waiting_bytes(sock: socket.socket) -> int:
    """Written and not acknowledged; 0 where the system does not say."""
    if ioctl is None:
        return 0
    return int.from_bytes(ioctl(sock, TIOCOUTQ, bytes(4)), sys.byteorder)


class _Waiting:
    """How long a socket has waited for the other side to take anything."""

    __slots__ = ("_at", "_socket", "_unsent")

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._unsent = -1
        self._at = 0.0

    def silent_s(self) -> float:
        """Call it after each time-out."""
        now = time.monotonic()
        unsent = _waiting_bytes(self._socket)
        if unsent != self._unsent or not self._at:
            self._unsent, self._at = unsent, now if self._at else now - PROGRESS_S
        return now - self._at


class Lane:
    """One end of a lane with the name `id`. `close` may be called from any thread and wakes the others."""

    def __init__(
        self,
        secured: ssl.SSLSocket,
        id_: bytes,
        remote: str,
        rate_based: set[object] | None = None,
        narrow: NarrowPaths | None = None,
    ) -> None:
        """`rate_based`: those of the lanes of this computer that go by the rate and not by losses; `narrow`: paths that
        swallow large packets. Both are kept up to date."""
        self.id = id_
        self.remote = remote
        self.sent_bytes = 0
        self.heard_bytes = 0  # that came, in all, as the reader knows: within LISTEN_S of a read that waits
        self.is_shallow = False  # the system holds little of what comes, at first
        self._little_until = 0  # so many bytes more; 0: it holds what it likes
        self._socket = secured
        self._read: Any = getattr(secured, "_sslobj", secured).read  # without the step of Python before it
        self._lock = threading.Lock()
        self._in_use = False
        self._closing = False
        self._unread = b""
        self._timeout_s: float | None = None
        self._steering = Steering()
        self._own_way = b""  # of congestion control, as the system chose it: while the lane goes by the rate
        self._knows_rate = False  # this system does
        self._pace = 0  # bytes a second at most; 0: no limit
        self._look_at = 0.0
        self._slice_bytes = sys.maxsize  # written in one call, which returns when all of it is on its way
        self._rate_based = rate_based if rate_based is not None else set()
        self._narrow = narrow or NarrowPaths()
        self._is_inside = False  # a record: what comes next does not begin with a header
        secured.settimeout(SILENCE_S)
        self._is_tcp = secured.family != getattr(
            socket, "AF_UNIX", None
        )  # and not several of them (`bundle`)
        if self._is_tcp:
            secured.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def hold_little(self) -> None:
        """For the end that reads: let what was not read wait at the writer, if the path is so short that it can.

        What the system holds for a process is lost with it. Measured: 1 to 3 MB each time, 0.4 with this. Once much
        has come that is little beside it, and the system holds what it likes.
        """
        with self._using(), suppress(OSError):
            least_rtt_us = self._info().least_rtt_us
            if 0 < least_rtt_us <= SHORT_US:
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, HELD_BYTES)
                self.is_shallow = True
                self._little_until = LITTLE_UNTIL_BYTES
            elif least_rtt_us:
                self._open_wide(least_rtt_us)

    def _open_wide(self, least_rtt_us: int) -> None:
        """Let the writer speed up as fast as its losses allow: the system's own room starts at 64 KiB.

        Asked to wake us for so much, the system makes room for it, and goes on to choose by itself.
        """
        room = min(max(WIDE_BYTES_PER_S * least_rtt_us // 1_000_000, AWAITED_BYTES_MAX), WIDE_BYTES_MAX)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, room)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)

    def queue_little(self) -> None:
        """For the end that writes: what the path does not take yet waits in the process, not in the system."""
        self._socket.settimeout(PROGRESS_S)
        if self.remote in self._narrow:
            let_fragment(self._socket)
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):
            with self._using(), suppress(OSError):
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
                self._little_until = LITTLE_UNTIL_BYTES
        self._spread()

    def _spread(self) -> None:
        """Where a round trip is long, send evenly: bursts overflow a queue that would hold what they bring on average.

        Measured, 100 Mbit/s and 150 ms: a burst lost packets at half of the line's rate, and TCP stayed there for 15 s.
        """
        with self._using(), suppress(OSError):
            least_rtt_us = self._info().least_rtt_us
            if least_rtt_us > LONG_US:
                self._keep_below(PACED_BYTES_PER_S)
                self._slice_bytes = SLICE_BYTES
                self._steering = Steering(least_rtt_us)
                if _may_hold(WIDE_BYTES_MAX):
                    self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, WIDE_BYTES_MAX)
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_FAR_BYTES)
                self._little_until = 0  # the system would fill this room, too
                self._follow_steering()

    def _note_bytes(self, size: int) -> None:
        """So many more went through; the caller is inside the socket."""
        if self._little_until:
            self._little_until = max(0, self._little_until - size)
            if not self._little_until:
                with suppress(OSError):
                    if self.is_shallow:
                        self._socket.setsockopt(socket.SOL_SOCKET, _SO_BUF_LOCK, 0)
                    else:
                        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, 0)

    def _info(self) -> PathSeen:
        """What TCP says. OSError: nothing."""
        return path_seen(self._socket)

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

    def write(self, *parts: bytes | memoryview) -> None:
        """Write all of these, each from the beginning of a record on; they may be used again afterwards.

        Raises:
            TransportError: the lane broke. How much of what was written arrived is not known.
        """
        size = sum(map(len, parts))
        with self._using():
            try:
                self._cork(True)
                for part in parts:
                    self._send(memoryview(part).cast("B"))
                self._cork(False)
                self._note_bytes(size)
            except (OSError, ValueError) as error:
                raise TransportError(
                    tr("the lane to {remote} broke: {reason}", remote=self.remote, reason=_reason(error))
                ) from None
        self.sent_bytes += size

    def _send(self, data: memoryview) -> None:
        """All of it. TimeoutError: the other side has taken nothing for too long."""
        waiting = _Waiting(self._socket)
        at = 0
        while at < len(data):
            try:
                at += self._socket.send(data[at : at + self._slice_bytes])
                self._look_soon()
            except TimeoutError:
                self._look_soon()
                silent_s = waiting.silent_s()
                if silent_s >= SILENCE_S:
                    raise
                if self.remote not in self._narrow and self._is_swallowed(silent_s):
                    self._narrow.add(self.remote)  # the next lane there begins so
                    if not let_fragment(self._socket):
                        raise

    def _is_swallowed(self, silent_s: float) -> bool:
        """Whether what was sent is repeated and never acknowledged: so it is where large packets vanish."""
        try:
            rtt_us = self._info().rtt_us
            count = repeats(self._socket)
        except (OSError, IndexError):
            return False
        return count >= REPEATS and silent_s >= max(SWALLOWED_S, SWALLOWED_ROUND_TRIPS * rtt_us / 1e6)

    def _cork(self, is_on: bool) -> None:
        """While it is on, TCP sends full packets only: each record would be one of its own otherwise."""
        if self._is_tcp and hasattr(socket, "TCP_CORK"):
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, is_on)

    def _look_soon(self) -> None:
        """Look, unless that was done just now."""
        if (now := time.monotonic()) >= self._look_at:
            self._look_at = now + LOOK_S
            self._look(now)

    def _look(self, now: float) -> None:
        """Go by the rate from now on, if the path loses packets by itself and this system knows how.

        The caller is inside the socket.
        """
        with suppress(OSError):  # an older kernel says less, and not every one has it
            seen = self._info()
            beside = bool(self._rate_based)
            pace = self._steering.pace(seen, self._delivered(), now, beside_rate_based=beside)
            self._follow_steering()
            if pace is not None:
                self._keep_below(pace)

    def _follow_steering(self) -> None:
        """Go by the rate, where the system knows how, or as the system chose."""
        by_rate = self._steering.by_rate
        if by_rate != bool(self._own_way):
            own = self._own_way or own_way(self._socket)
            self._own_way = own if by_rate else b""
            self._knows_rate = choose_way(self._socket, RATE_BASED if by_rate else own)
        if self._steering.is_lossy and self._knows_rate:
            self._rate_based.add(self)

    def _delivered(self) -> int:
        """The rate at which data arrived there last."""
        return delivery_rate(self._socket)

    def _keep_below(self, bytes_per_s: int) -> None:
        """Send no faster; changes of a few per cent are not worth a call."""
        if abs(bytes_per_s - self._pace) > self._pace // 20:
            self._pace = bytes_per_s
            set_pace(self._socket, bytes_per_s)

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
                size = self._read_records(view, least)
                self.heard_bytes += size
                self._note_bytes(size)
                return size
            except TimeoutError:
                raise
            except (OSError, ValueError) as error:
                raise TransportError(
                    tr("the lane to {remote} broke: {reason}", remote=self.remote, reason=_reason(error))
                ) from None

    def _read_records(self, view: memoryview, least: int) -> int:
        """As `read_into`. Every call of the TLS library brings one record: this loop is where the time goes."""
        at, room = 0, len(view)
        records = self._records_here()
        while at < room:
            try:
                if not records:
                    if at >= least:
                        break
                    self._await(least - at)
                if records > 1 and room - at >= RECORD_DATA_BYTES_MAX:
                    at += self._read_many(view[at:], records)
                    records = self._records_here()
                    continue
                self._is_inside = True
                size = self._read(room - at, view[at:])
                self._is_inside = False
            except (OSError, ValueError):
                if at:
                    return at  # the next call meets it again
                raise
            if not size:
                raise TransportError(tr("the lane to {remote} was cut", remote=self.remote))
            at += size
            records = records - 1 if records > 1 else self._records_here()
        return at

    def _read_many(self, view: memoryview, records: int) -> int:
        """Records that are here, as many as `view` has room for if each is full. Returns how many bytes they had.

        Without a step of Python between two records: that takes a fifth of the time of decrypting one.
        """
        most = RECORD_DATA_BYTES_MAX
        room = min(records * most, len(view) // most * most)
        sizes: list[int] = []
        try:
            sizes.extend(map(self._read, repeat(most), [view[at : at + most] for at in range(0, room, most)]))
        except (OSError, ValueError):
            if not sizes:
                raise
        if sum(sizes) == room:
            return room
        end = 0
        for start, size in zip(range(0, room, most), sizes, strict=False):  # some were short: close the gaps
            if end != start:
                view[end : end + size] = bytes(view[start : start + size])
            end += size
        if not end:
            raise TransportError(tr("the lane to {remote} was cut", remote=self.remote))
        return end

    def _await(self, least: int) -> None:
        """Sleep until a whole record is here, and all of `least` bytes if they are not many.

        Otherwise a path that brings packet by packet wakes the thread for each of them, ten times a record.
        """
        if ioctl is None or self._is_inside or self._socket.pending():
            return
        silence_s = SILENCE_S if self._timeout_s is None else self._timeout_s
        if least >= RECORD_BYTES_MAX:  # the first record is among them, whatever its size
            self._sleep_for(min(least, AWAITED_BYTES_MAX), silence_s)
            return
        self._sleep_for(RECORD_HEADER_BYTES, silence_s)
        header = socket.socket.recv(self._socket, RECORD_HEADER_BYTES, socket.MSG_PEEK)
        record = RECORD_HEADER_BYTES + int.from_bytes(header[3:], "big")
        if len(header) == RECORD_HEADER_BYTES:
            self._sleep_for(min(max(record, least), AWAITED_BYTES_MAX), silence_s)

    def _sleep_for(self, size: int, silence_s: float) -> None:
        """Until so many bytes are here, or no more will come. TimeoutError: not one came for `silence_s`."""
        here = self._bytes_here()
        silent_s = 0.0
        while here < size:
            listen_s = min(silence_s - silent_s, LISTEN_S)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, size)
            try:
                if self._poll(listen_s):
                    return
            finally:
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
            before, here = here, self._bytes_here()
            self.heard_bytes += here - before
            silent_s = silent_s + listen_s if here == before else 0.0
            if silent_s >= silence_s:
                raise TimeoutError

    def _poll(self, timeout_s: float) -> bool:
        poller = select.poll()
        poller.register(self._socket, select.POLLIN)
        return bool(poller.poll(1000 * timeout_s))

    def _bytes_here(self) -> int:
        """How many bytes the system holds for us, still encrypted."""
        return int.from_bytes(ioctl(self._socket, FIONREAD, bytes(4)), sys.byteorder)

    def _records_here(self) -> int:
        """How many whole records the system holds for us: these can be read without waiting."""
        if ioctl is None:
            return 0
        return self._bytes_here() // RECORD_BYTES_MAX

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
                    return self._poll(0)
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
        self._end()

    def _end(self) -> None:
        """Nobody is inside."""
        self._rate_based.discard(self)
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
                raise TransportError(tr("the lane to {remote} was closed", remote=lane.remote))
            lane._in_use = True

    def __exit__(self, *_: object) -> None:
        lane = self._lane
        with lane._lock:
            lane._in_use = False
            closing = lane._closing
        if closing:
            lane._end()


def _shut(sock: ssl.SSLSocket) -> None:
    """Wake whoever is inside `sock`, without touching the state of TLS that it uses."""
    try:
        socket.socket.shutdown(sock, socket.SHUT_RDWR)
    except OSError:
        return  # it is gone already


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
