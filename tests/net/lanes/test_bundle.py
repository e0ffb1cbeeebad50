"""A lane's bytes over several TCP connections of loopback."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from random import Random

import pytest

from coterie.net.lanes import bundle, cells
from coterie.net.lanes.bundle import Connections, join, spread
from coterie.net.lanes.ceilings import DRAIN_GAIN
from coterie.net.lanes.cells import CELL_BYTES_MAX, HEADER
from coterie.net.lanes.choice import QUEUE_US_MAX, VERY_FAR_US, PathSeen
from coterie.net.lanes.lane import REPEATS, NarrowPaths
from tests.net.lanes.test_lane import tcp_pair

WAIT_S = 10.0


class Ends:
    """What is open in a test."""

    def __init__(self) -> None:
        self.open: list[socket.socket] = []
        self.narrow = NarrowPaths()
        self.rate_based: set[object] = set()

    def pair(self) -> tuple[socket.socket, socket.socket]:
        ours, there = socket.socketpair()
        ours.settimeout(WAIT_S)
        self.open.append(ours)
        return ours, there

    def writer(self) -> tuple[socket.socket, Connections, socket.socket]:
        """(where the lane's bytes go in, its connections, the far end of the first)"""
        ours, there = self.pair()
        near, far = tcp_pair()
        far.settimeout(WAIT_S)
        self.open.append(far)
        return ours, spread(there, near, "far away", self.rate_based, self.narrow), far

    def reader(self) -> tuple[socket.socket, Connections, socket.socket]:
        """(where they come out, its connections, the far end of the first)"""
        ours, there = self.pair()
        near, far = tcp_pair()
        far.settimeout(WAIT_S)
        self.open.append(far)
        return ours, join(there, near), far

    def both(self, ways: int) -> tuple[socket.socket, socket.socket]:
        """(where bytes go in, where they come out)"""
        into, there = self.pair()
        out, here = self.pair()
        pairs = [tcp_pair() for _ in range(ways)]
        writing, reading = (
            spread(there, pairs[0][0], "far away", self.rate_based, self.narrow),
            join(here, pairs[0][1]),
        )
        for one, other in pairs[1:]:
            writing.add(one)
            reading.add(other)
        return into, out


@pytest.fixture
def ends() -> Iterator[Ends]:
    made = Ends()
    yield made
    for sock in made.open:
        sock.close()


def cell(at: int, data: bytes) -> bytes:
    return HEADER.pack(at, len(data)) + data


def all_of(sock: socket.socket, size: int) -> bytes:
    got = b""
    while len(got) < size and (part := sock.recv(1 << 20)):
        got += part
    return got


@pytest.mark.parametrize("ways", [1, 2, 4])
def test_what_goes_in_comes_out(ends: Ends, ways: int) -> None:
    into, out = ends.both(ways)
    data = Random(ways).randbytes(3_000_000)

    def write() -> None:
        into.sendall(data[:100])
        into.sendall(data[100:])
        into.close()

    writing = threading.Thread(target=write)
    writing.start()
    assert all_of(out, len(data)) == data
    assert out.recv(1) == b"", "the end comes through, too"
    writing.join()


def test_every_connection_carries_a_part(ends: Ends) -> None:
    into, connections, first = ends.writer()
    near, second = tcp_pair()
    ends.open.append(second)
    second.settimeout(WAIT_S)
    connections.add(near)

    def write() -> None:
        with contextlib.suppress(OSError):
            into.sendall(bytes(4_000_000))

    sending = threading.Thread(target=write)
    sending.start()  # nobody reads the first: it fills up
    assert all_of(second, 1_000_000)
    for sock in (first, second, into):
        sock.close()
    sending.join()


def test_a_connection_that_breaks_ends_the_lane_at_both_sides(ends: Ends) -> None:
    into, _, far = ends.writer()
    far.close()
    assert into.recv(1) == b""
    out, _, far = ends.reader()
    far.sendall(cell(0, b"abc")[:-1])
    far.close()
    assert out.recv(1) == b""


@pytest.mark.parametrize("wrong", [HEADER.pack(0, 0), HEADER.pack(0, CELL_BYTES_MAX + 1), cell(0, b"a") * 2])
def test_cells_that_cannot_be_end_the_lane(ends: Ends, wrong: bytes) -> None:
    out, connections, far = ends.reader()
    far.sendall(wrong)
    assert all_of(out, 2) in (b"", b"a")
    near, late = tcp_pair()
    connections.add(near)
    late.settimeout(WAIT_S)
    assert late.recv(1) == b"", "who comes now is closed"
    late.close()


def test_the_end_of_who_reads_reaches_who_writes(ends: Ends) -> None:
    into, out = ends.both(2)
    out.close()
    assert into.recv(1) == b""


def test_no_more_waits_than_may_for_a_cell_that_is_missing(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cells, "AHEAD_BYTES_MAX", 100_000)
    out, connections, far = ends.reader()
    near, other = tcp_pair()
    ends.open.append(other)
    connections.add(near)
    size, count = 50_000, 400
    many = b"".join(cell(1 + n * size, bytes(size)) for n in range(count))
    sending = threading.Thread(target=far.sendall, args=(many,))
    sending.start()
    sending.join(0.3)
    assert sending.is_alive(), "the rest waits at the other side"
    other.sendall(cell(0, b"x"))
    assert len(all_of(out, 1 + size * count)) == 1 + size * count
    sending.join()


def test_all_share_one_pace(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    """12 MB/s arrive in all, and a queue has grown."""
    set_to: list[tuple[socket.socket, int]] = []
    queue = PathSeen(1, 0, VERY_FAR_US + QUEUE_US_MAX + 1, VERY_FAR_US)
    monkeypatch.setattr(bundle, "LOOK_S", 0.0)
    monkeypatch.setattr(bundle, "path_seen", lambda sock: queue)
    monkeypatch.setattr(bundle, "set_pace", lambda sock, rate: set_to.append((sock, rate)))
    monkeypatch.setattr(bundle.Spreading, "_rate", lambda self, now: 12_000_000)
    into, connections, far = ends.writer()
    near, second = tcp_pair()
    ends.open.append(second)
    connections.add(near)
    half = int(DRAIN_GAIN * 12_000_000) // 2
    until = time.monotonic() + WAIT_S
    while len({sock for sock, rate in set_to if rate == half}) < 2 and time.monotonic() < until:
        into.sendall(b"x")
    assert len({sock for sock, rate in set_to if rate == half}) == 2
    far.close()


def test_a_path_that_swallows_large_packets_is_found_out(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "LOOK_S", 0.0)
    monkeypatch.setattr(bundle, "repeats", lambda sock: REPEATS - 1)
    into, _, far = ends.writer()
    into.sendall(b"x")
    assert all_of(far, HEADER.size + 1) == cell(0, b"x")
    assert "far away" not in ends.narrow
    monkeypatch.setattr(bundle, "repeats", lambda sock: REPEATS)
    for _ in range(3):
        into.sendall(b"y")
        all_of(far, HEADER.size + 1)
    assert "far away" in ends.narrow
