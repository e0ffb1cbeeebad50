"""A lane over several TCP connections side by side, for paths whose round trip is very long.

TLS runs over a pair of local sockets, as while it shakes hands (`tls.Shaking`); a thread at either side moves its bytes
between the pair and the connections, cell by cell. Whichever connection has room takes the next cell, so that a packet
that is lost holds up a part of what is on its way. All share one pace. A connection that breaks ends the lane; one that
never comes is done without.
"""

import logging
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from coterie.errors import PeerError
from coterie.net.lanes.cells import HEADER, Order, cell_bytes, decode_header
from coterie.net.lanes.choice import VERY_FAR_US, PathSeen
from coterie.net.lanes.lane import REPEATS, NarrowPaths, let_fragment
from coterie.net.lanes.steering import Steering
from coterie.net.lanes.tcp_seen import (
    RATE_BASED,
    choose_way,
    delivered_bytes,
    own_way,
    path_seen,
    repeats,
    set_pace,
)

WAYS = 4  # connections; guess: a start's seven doublings become five, and a lost packet holds up a quarter
WAYS_FROM_US = (
    VERY_FAR_US  # round trip; from `choice.FAR_US` on lossy lines gain a tenth, and others lose more
)
READ_BYTES = 256 << 10
CELLS_IN_ROW = 16  # read of one connection before another has its turn; guess
UNSENT_BYTES = (
    16 << 10
)  # of a connection, written and not on their way: what is more, another may carry sooner; guess
LOOK_S = 0.01  # how often TCP is asked how it fares; guess: an eighth of a queue of 80 ms
RATE_S = 0.1  # so long is measured what arrives; guess: ten looks
ADOPT_S = 0.02  # how soon a connection is used that came later than others
ADOPTING_S = 10.0  # after the first one came: longer than a listener waits
WAIT_S = 1.0
ROOM_BYTES = (
    2 << 20
)  # of each connection at the reader, from the beginning; guess: all four hold 100 Mbit/s for 0.6 s

_log = logging.getLogger(__name__)


class Connections:
    """Those that came. `add` from any thread, the rest from the one that uses them."""

    def __init__(self, first: socket.socket) -> None:
        self.in_use: dict[int, socket.socket] = {}  # by file number
        self._came: deque[socket.socket] = deque([first])
        self._began = time.monotonic()
        self._lock = threading.Lock()
        self._is_over = False

    def add(self, sock: socket.socket) -> None:
        """One more; closed when it is of no use now."""
        with self._lock:
            if not self._is_over:
                self._came.append(sock)
                return
        sock.close()

    def new(self) -> list[socket.socket]:
        """Those that came since; they are in use now."""
        came = [self._came.popleft() for _ in range(len(self._came))]
        for sock in came:
            sock.setblocking(False)
            self.in_use[sock.fileno()] = sock
        return came

    @property
    def wait_ms(self) -> float:
        """How long to wait for bytes, so that who comes is seen."""
        is_young = time.monotonic() < self._began + ADOPTING_S
        return 1000 * (ADOPT_S if is_young else WAIT_S)

    def close(self) -> None:
        """All of them, and whoever comes."""
        with self._lock:
            self._is_over = True
        for sock in (*self.in_use.values(), *self._came):
            sock.close()


def spread(
    there: socket.socket, first: socket.socket, remote: str, rate_based: set[object], narrow: NarrowPaths
) -> Connections:
    """Write what comes from `there` over the connections, in a thread, until either ends.

    `rate_based`, `narrow`: as for `Lane`.
    """
    connections = Connections(first)
    spreading = Spreading(there, connections, remote, rate_based, narrow)

    def run() -> None:
        try:
            spreading.run()
        finally:
            rate_based.discard(spreading)

    _start(there, connections, run)
    return connections


def join(there: socket.socket, first: socket.socket) -> Connections:
    """Put what comes over the connections in order, into `there`, in a thread, until either ends."""
    connections = Connections(first)
    _start(there, connections, Joining(there, connections).run)
    return connections


def _start(there: socket.socket, connections: Connections, run: Callable[[], None]) -> None:
    def work() -> None:
        try:
            run()
        except (OSError, PeerError) as error:  # who uses the lane meets its end
            _log.debug("a lane over several connections ended: %s", error)
        finally:
            there.close()
            connections.close()

    threading.Thread(target=work, name="lane over several connections", daemon=True).start()


class Spreading:
    """The end that writes."""

    def __init__(
        self,
        there: socket.socket,
        connections: Connections,
        remote: str,
        rate_based: set[object],
        narrow: NarrowPaths,
    ) -> None:
        self._there = there
        self._rate_based = rate_based
        self._connections = connections
        self._remote, self._narrow = remote, narrow
        self._data = memoryview(b"")  # of the lane, not in a cell yet
        self._at = 0  # where that begins
        self._has_ended = False  # nothing more comes
        self._rest: dict[int, memoryview] = {}  # of the cell that a connection is at
        self._cell_bytes: dict[int, int] = {}
        self._steering: Steering | None = None  # from the first round trip on
        self._by_rate = True
        self._own_way = b""  # of congestion control, as the system chose it
        self._pace = 0
        self._look_at = 0.0
        self._rates: deque[tuple[float, int]] = deque()
        self._poll = select.poll()

    def run(self) -> None:
        """Until all was written after the lane's end, or a connection broke."""
        self._there.setblocking(False)
        inner = self._there.fileno()
        while not self._has_ended or self._data or any(self._rest.values()):
            for sock in self._connections.new():
                self._begin(sock)
            self._await_what_is_due(inner)
            for number, seen in self._poll.poll(self._connections.wait_ms):
                if number == inner:
                    self._data = memoryview(self._there.recv(READ_BYTES))
                    self._has_ended = not self._data
                elif seen & select.POLLOUT:
                    self._send(number)
                else:
                    return  # the reader never writes: this is its end
            self._look()

    def _await_what_is_due(self, inner: int) -> None:
        if self._data or self._has_ended:
            with suppress(KeyError):
                self._poll.unregister(inner)
        else:
            self._poll.register(inner, select.POLLIN)
        for number, rest in self._rest.items():
            is_due = bool(self._data or rest)
            self._poll.register(number, select.POLLIN | (select.POLLOUT if is_due else 0))

    def _begin(self, sock: socket.socket) -> None:
        self._rest[sock.fileno()], self._cell_bytes[sock.fileno()] = memoryview(b""), cell_bytes(0)
        with suppress(OSError):
            self._own_way = self._own_way or own_way(sock)
            if self._by_rate:
                choose_way(sock, RATE_BASED)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
        if self._remote in self._narrow:
            let_fragment(sock)

    def _send(self, number: int) -> None:
        rest = self._rest[number]
        if not rest:
            size = min(self._cell_bytes[number], len(self._data))
            if not size:
                return
            rest = memoryview(HEADER.pack(self._at, size) + self._data[:size])
            self._data, self._at = self._data[size:], self._at + size
        with suppress(BlockingIOError):
            rest = rest[self._connections.in_use[number].send(rest) :]
        self._rest[number] = rest

    def _look(self) -> None:
        """Ask TCP how it fares, and set the pace."""
        if (now := time.monotonic()) < self._look_at:
            return
        self._look_at = now + LOOK_S
        socks = self._connections.in_use
        with suppress(OSError):
            seen = {number: path_seen(sock) for number, sock in socks.items()}
            for number, one in seen.items():
                self._cell_bytes[number] = cell_bytes(one.window_bytes)
            self._steer(_together(list(seen.values())), now)
            if self._remote not in self._narrow and any(repeats(sock) >= REPEATS for sock in socks.values()):
                self._narrow.add(self._remote)
                for sock in socks.values():
                    let_fragment(sock)

    def _steer(self, seen: PathSeen, now: float) -> None:
        if self._steering is None:
            self._steering = Steering(seen.least_rtt_us)
        socks = self._connections.in_use.values()
        pace = self._steering.pace(seen, self._rate(now), now, beside_rate_based=bool(self._rate_based))
        if self._by_rate != self._steering.by_rate:
            self._by_rate = self._steering.by_rate
            for sock in socks:
                choose_way(sock, RATE_BASED if self._by_rate else self._own_way)
        if self._steering.is_lossy:
            self._rate_based.add(self)
        if pace is not None and abs(pace // len(socks) - self._pace) > self._pace // 20:
            self._pace = pace // len(socks)
            for sock in socks:
                set_pace(sock, self._pace)

    def _rate(self, now: float) -> int:
        """Bytes a second that arrive; 0: not known yet."""
        self._rates.append((now, sum(map(delivered_bytes, self._connections.in_use.values()))))
        while len(self._rates) > 2 and self._rates[1][0] <= now - RATE_S:
            self._rates.popleft()
        (since, before), (_, total) = self._rates[0], self._rates[-1]
        return int((total - before) / (now - since)) if now >= since + RATE_S else 0


def _together(seen: list[PathSeen]) -> PathSeen:
    """One path, as several connections see it. What one sees alone is no queue."""
    least_us = min(one.least_rtt_us for one in seen)
    queue_us = min(one.rtt_us - one.least_rtt_us for one in seen)
    segments, repeated = sum(one.segments for one in seen), sum(one.repeated for one in seen)
    return PathSeen(segments, repeated, least_us + queue_us, least_us, sum(one.window_bytes for one in seen))


class Joining:
    """The end that reads."""

    def __init__(self, there: socket.socket, connections: Connections) -> None:
        self._there = there
        self._connections = connections
        self._order = Order()
        self._parts: dict[int, bytearray] = {}  # of a header or a body
        self._cells: dict[int, tuple[int, int]] = {}  # whose body comes: where it stands, how many bytes
        self._poll = select.poll()

    def run(self) -> None:
        """Until every connection has ended, or the lane."""
        inner = self._there.fileno()
        self._poll.register(inner, 0)
        new = self._connections.new()
        while new or self._connections.in_use:
            for sock in new:
                self._parts[sock.fileno()] = bytearray()
                with suppress(OSError):  # asked to wake us for so much, the system makes room for it
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, ROOM_BYTES)
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
            for number in self._connections.in_use:
                self._poll.register(number, select.POLLIN if self._has_room(number) else 0)
            for number, _ in self._poll.poll(self._connections.wait_ms):
                if number == inner:
                    return
                self._read(number)
            new = self._connections.new()

    def _has_room(self, number: int) -> bool:
        cell = self._cells.get(number)
        return cell is None or self._order.has_room(*cell)

    def _read(self, number: int) -> None:
        """What is here of one connection. Raises OSError: it was cut, PeerError: no cell is like that."""
        sock, part = self._connections.in_use[number], self._parts[number]
        for _ in range(CELLS_IN_ROW):
            if not self._has_room(number):
                return
            cell = self._cells.get(number)
            need = (HEADER.size if cell is None else cell[1]) - len(part)
            try:
                data = sock.recv(need)
            except BlockingIOError:
                return
            if not data:
                if part or cell:
                    raise ConnectionResetError("cut inside a cell")
                self._poll.unregister(number)
                self._connections.in_use.pop(number).close()
                return
            part += data
            if len(data) == need:
                self._take(number, bytes(part))
                part.clear()

    def _take(self, number: int, part: bytes) -> None:
        """A whole header, or a whole body."""
        cell = self._cells.pop(number, None)
        if cell is None:
            self._cells[number] = decode_header(part)
        else:
            for ready in self._order.take(cell[0], part):
                self._there.sendall(ready)
