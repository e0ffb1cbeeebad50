"""One lane over a path that brings its bytes in crumbs, late, or not at all."""

import contextlib
import itertools
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from coterie.errors import TransportError
from coterie.net.lanes.ceilings import SMALL_QUEUE_US
from coterie.net.lanes.choice import FAR_US, LOOK_SEGMENTS_FAR, LOSSY_IN_ROW, PathSeen
from coterie.net.lanes.lane import (
    AWAITED_BYTES_MAX,
    HELD_BYTES,
    LITTLE_UNTIL_BYTES,
    NARROW_PATHS_MAX,
    UNSENT_BYTES,
    WIDE_BYTES_MAX,
    Lane,
    NarrowPaths,
)
from coterie.net.lanes.tls import LaneIdentity

RECORD = 1 << 14


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    """Two ends of a connection over loopback."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        one = socket.create_connection(server.getsockname())
        return one, server.accept()[0]


def raw_and_reader() -> tuple[socket.socket, Lane]:
    """A lane, and what its writer would write to below TLS."""
    a, b = LaneIdentity(), LaneIdentity()
    one, other = tcp_pair()
    raw = one.dup()
    thread = threading.Thread(target=lambda: os.close(a.wrap(one, b.certificate, is_server=False).detach()))
    thread.start()
    reader = Lane(b.wrap(other, a.certificate, is_server=True), b"r", "reader")
    thread.join()
    return raw, reader


class Crumbs:
    """Passes bytes on, `size` at a time, one every `pause_s`."""

    def __init__(self, size: int, pause_s: float) -> None:
        self.size, self.pause_s = size, pause_s
        self.end, self._near = tcp_pair()
        self._far, self.other_end = tcp_pair()
        ways = ((self._near, self._far), (self._far, self._near))
        self._threads = [threading.Thread(target=self._pass, args=way) for way in ways]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Both ends are closed; so are the pieces between, once nothing passes any more."""
        for thread in self._threads:
            thread.join()
        self._near.close()
        self._far.close()

    def _pass(self, one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(self.size):
                other.sendall(data)
                if self.pause_s:
                    time.sleep(self.pause_s)
        with contextlib.suppress(OSError):
            other.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def lane(
    size: int = 1500, pause_s: float = 0.0, rate_based: set[object] | None = None
) -> Iterator[tuple[Lane, Lane, Crumbs]]:
    """(writer, reader, what is between them)"""
    path = Crumbs(1 << 16, 0.0)
    a, b = LaneIdentity(), LaneIdentity()
    made: list[Lane] = []

    def writer() -> None:
        made.append(Lane(a.wrap(path.end, b.certificate, is_server=False), b"w", "writer", rate_based))

    thread = threading.Thread(target=writer)
    thread.start()
    reader = Lane(b.wrap(path.other_end, a.certificate, is_server=True), b"r", "reader")
    thread.join()
    path.size, path.pause_s = size, pause_s
    try:
        yield made[0], reader, path
    finally:
        made[0].close()
        reader.close()
        path.close()


def read(reader: Lane, size: int, least: int, timeout_s: float | None = None) -> bytes:
    """`size` bytes, by reads of at least `least` each."""
    buffer, at = bytearray(size), 0
    view = memoryview(buffer)
    while at < size:
        at += reader.read_into(view[at:], min(least, size - at), timeout_s)
    return bytes(buffer)


@pytest.mark.parametrize("crumb", [1, 7, 1448, RECORD])
@pytest.mark.parametrize("least", [1, 5, 1000, 3 * RECORD, 2 * AWAITED_BYTES_MAX])
def test_what_comes_in_crumbs_is_what_was_sent(crumb: int, least: int) -> None:
    size = 3000 if crumb < 100 else 20 * RECORD
    sent = Random(crumb + least).randbytes(size)
    with lane(crumb) as (writer, reader, _):
        thread = threading.Thread(target=writer.write, args=(sent,))
        thread.start()
        assert read(reader, size, least) == sent
        thread.join()


def test_a_record_that_takes_longer_than_the_timeout_is_no_silence() -> None:
    sent = Random(5).randbytes(RECORD)
    with lane(1000, 0.02) as (writer, reader, _):
        writer.write(sent)
        assert read(reader, RECORD, RECORD, 0.2) == sent


def test_after_silence_the_lane_goes_on_where_it_was() -> None:
    sent = Random(6).randbytes(2 * RECORD)
    with lane() as (writer, reader, _):
        with pytest.raises(TimeoutError):
            read(reader, 1, 1, 0.05)
        writer.write(sent[:RECORD])
        assert read(reader, RECORD - 1, RECORD - 1, 1.0) == sent[: RECORD - 1]
        assert read(reader, 1, 1, 1.0) == sent[RECORD - 1 : RECORD]
        with pytest.raises(TimeoutError):
            read(reader, 1, 1, 0.05)
        writer.write(sent[RECORD:])
        assert read(reader, RECORD, RECORD, 1.0) == sent[RECORD:]


@pytest.mark.parametrize("here", [0, 3, 2000])
def test_a_reader_that_sleeps_wakes_when_the_lane_is_closed(here: int) -> None:
    """Whether nothing, a part of a record's header, or a part of a record has come."""
    raw, reader = raw_and_reader()
    raw.sendall(b"\x17\x03\x03\x40\x00" + bytes(2000) if here > 5 else b"\x17\x03\x03"[:here])
    timer = threading.Timer(0.2, reader.close)
    timer.start()
    begun = time.monotonic()
    with pytest.raises(TransportError):
        read(reader, RECORD, RECORD)
    assert time.monotonic() - begun < 5.0
    timer.join()
    raw.close()


def test_a_lane_whose_writer_ends_inside_a_record_is_broken() -> None:
    raw, reader = raw_and_reader()
    raw.sendall(b"\x17\x03\x03\x40\x00" + bytes(100))
    raw.shutdown(socket.SHUT_WR)
    with pytest.raises(TransportError):
        read(reader, RECORD, RECORD)
    raw.close()
    reader.close()


def test_on_a_short_path_the_system_holds_little_of_what_nobody_reads() -> None:
    """What it holds is lost with the process: the writer has to wait instead."""
    went = 0

    def write(writer: Lane) -> None:
        nonlocal went
        with contextlib.suppress(TransportError):
            while True:
                writer.write(bytes(RECORD))
                went += RECORD

    a, b = LaneIdentity(), LaneIdentity()
    one, other = tcp_pair()
    made: list[Lane] = []
    making = threading.Thread(
        target=lambda: made.append(Lane(a.wrap(one, b.certificate, is_server=False), b"w", "writer"))
    )
    making.start()
    reader = Lane(b.wrap(other, a.certificate, is_server=True), b"r", "reader")
    making.join()
    writer = made[0]
    reader.hold_little()
    writer.queue_little()
    assert reader.is_shallow
    thread = threading.Thread(target=write, args=(writer,))
    thread.start()
    before = -1
    while went != before:
        before = went
        time.sleep(0.2)
    assert 0 < went <= 2 * HELD_BYTES + UNSENT_BYTES + (256 << 10)
    for _ in range(0, LITTLE_UNTIL_BYTES + 1, 8 << 20):  # and it goes on, and then the system may hold more
        read(reader, 8 << 20, 1 << 20)
    reader.close()
    thread.join()
    writer.close()


@pytest.mark.skipif(not hasattr(socket, "TCP_CONGESTION"), reason="this system does not say how TCP fares")
def test_a_lane_whose_packets_vanish_goes_by_the_rate_and_is_forgotten_when_it_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`reno` stands for the rate-based one here: every kernel has it, and it is nobody's default."""
    monkeypatch.setattr("coterie.net.lanes.lane.RATE_BASED", b"reno")
    monkeypatch.setattr("coterie.net.lanes.lane.LOOK_S", 0.0)
    rate_based: set[object] = set()
    with lane(rate_based=rate_based) as (writer, reader, _):
        lossy = (PathSeen(1000 * n, 20 * n, 20_000, 20_000) for n in itertools.count(1))
        monkeypatch.setattr(writer, "_info", lambda: next(lossy))
        for n in range(2 * LOSSY_IN_ROW):
            assert (writer in rate_based) == (n >= LOSSY_IN_ROW)
            writer.write(b"so")
            read(reader, 2, 2)
        assert rate_based == {writer}
        chosen = writer._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16)
        assert chosen.rstrip(b"\0") == b"reno"
        writer.close()
        assert not rate_based


@pytest.mark.skipif(not hasattr(socket, "TCP_CONGESTION"), reason="this system does not say how TCP fares")
@pytest.mark.parametrize("is_lossy", [False, True])
def test_a_lane_over_a_far_path_starts_by_the_rate_and_stays_with_it_where_packets_vanish(
    monkeypatch: pytest.MonkeyPatch, is_lossy: bool
) -> None:
    """CUBIC takes pauses between flights for a queue and ends its start; each packet that is lost halves it."""
    monkeypatch.setattr("coterie.net.lanes.lane.RATE_BASED", b"reno")
    monkeypatch.setattr("coterie.net.lanes.lane.LOOK_S", 0.0)

    def chosen() -> bytes:
        return writer._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0")

    rate_based: set[object] = set()
    with lane(rate_based=rate_based) as (writer, reader, _):
        systems = chosen()
        empty, queue = FAR_US, FAR_US + SMALL_QUEUE_US + 1
        seen = iter(
            PathSeen(LOOK_SEGMENTS_FAR * n, int(is_lossy and n > 2), rtt_us, empty, 1_000_000)
            for n, rtt_us in enumerate([empty, empty, empty, queue, empty], 1)
        )
        monkeypatch.setattr(writer, "_info", lambda: next(seen))
        writer.queue_little()
        found = [chosen()]
        for _ in range(4):
            writer.write(b"so")
            read(reader, 2, 2)
            found.append(chosen())
        assert rate_based == ({writer} if is_lossy else set())
    ends = [b"reno"] * 2 if is_lossy else [systems] * 2
    assert found == [b"reno"] * 3 + ends


@pytest.mark.skipif(not hasattr(socket, "TCP_CONGESTION"), reason="this system does not say how TCP fares")
@pytest.mark.parametrize("less", [0, 1])
def test_no_room_is_asked_for_where_the_system_would_give_less_than_by_itself(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, less: int
) -> None:
    """Asked for more than it allows, Linux stays with what it allows: 208 KiB hold a line of 150 ms at 12 Mbit/s."""
    (tmp_path / "most").write_text(f"{WIDE_BYTES_MAX - less}\n")
    monkeypatch.setattr("coterie.net.lanes.lane.SEND_ROOM_MAX", tmp_path / "most")
    asked: list[int] = []

    class Heard:
        def __init__(self, sock: Any) -> None:
            self._sock = sock

        def __getattr__(self, name: str) -> Any:
            return getattr(self._sock, name)

        def setsockopt(self, level: int, option: int, value: Any) -> None:
            if (level, option) == (socket.SOL_SOCKET, socket.SO_SNDBUF):
                asked.append(value)
            self._sock.setsockopt(level, option, value)

    with lane() as (writer, _, _):
        monkeypatch.setattr(writer, "_socket", Heard(writer._socket))
        monkeypatch.setattr(writer, "_info", lambda: PathSeen(1, 0, 150_000, 150_000))
        writer.queue_little()
    assert asked == ([] if less else [WIDE_BYTES_MAX])


@pytest.mark.skipif(not hasattr(socket, "TCP_CONGESTION"), reason="this system does not say how TCP fares")
def test_a_lane_that_waits_for_its_path_looks_at_it_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind a packet that was lost nothing is taken, and what arrives all the same tells of a queue."""
    monkeypatch.setattr("coterie.net.lanes.lane.RATE_BASED", b"reno")
    monkeypatch.setattr("coterie.net.lanes.lane.LOOK_S", 0.0)
    monkeypatch.setattr("coterie.net.lanes.lane.PROGRESS_S", 0.02)
    rate_based: set[object] = set()
    with lane(rate_based=rate_based) as (writer, _, path):
        path.size = 1
        lossy = (PathSeen(1000 * n, 20 * n, 20_000, 20_000) for n in itertools.count(1))
        monkeypatch.setattr(writer, "_info", lambda: next(lossy))
        writer.queue_little()

        def write() -> None:
            with contextlib.suppress(TransportError):
                writer.write(bytes(64 << 20))

        writing = threading.Thread(target=write)
        writing.start()
        for _ in range(500):
            if rate_based:
                break
            writing.join(0.02)
        assert rate_based == {writer}
        assert writing.is_alive()
        writer.close()
        writing.join()


@pytest.mark.parametrize("seed", range(8))
def test_records_of_any_length_are_read_many_at_once(seed: int) -> None:
    """Short ones among full ones leave no gaps, whatever the reader has room for."""
    rng = Random(seed)
    pieces = [
        rng.randbytes(rng.choice((1, 100, RECORD - 1, RECORD, 5 * RECORD, 5 * RECORD + 7)))
        for _ in range(200)
    ]
    sent = b"".join(pieces)
    with lane(1 << 16) as (writer, reader, _):
        thread = threading.Thread(target=lambda: [writer.write(piece) for piece in pieces])
        thread.start()
        got, buffer = bytearray(), memoryview(bytearray(40 * RECORD))
        while len(got) < len(sent):
            view = buffer[: rng.choice((10, RECORD, 3 * RECORD + 5, len(buffer)))]
            size = reader.read_into(view, 1)
            got += view[:size]
        thread.join()
    assert got == sent


def test_narrow_paths_are_remembered_up_to_a_bound() -> None:
    narrow = NarrowPaths()
    for number in range(NARROW_PATHS_MAX + 1):
        narrow.add(str(number))
    assert "0" not in narrow
    assert all(str(number) in narrow for number in range(1, NARROW_PATHS_MAX + 1))
