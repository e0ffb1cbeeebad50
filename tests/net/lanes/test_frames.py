"""Frames out of a buffer: whole, in order, and where their reader wants them, however they come."""

import random

import pytest

from coterie.errors import CloseCode, PeerError
from coterie.net.lanes.frames import FrameBuffer
from coterie.wire.frames import HEADER

LARGEST = 100_000
BULK = 17


class Pieces:
    """A source that brings bytes in pieces of its own; an empty one stands for silence."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = pieces
        self.asked: list[int] = []

    def read_into(self, view: memoryview, least: int, timeout_s: float | None) -> int:
        self.asked.append(len(view))
        if not self._pieces:
            return 0
        piece = self._pieces[0]
        if not piece:
            self._pieces.pop(0)
            raise TimeoutError
        size = min(len(piece), len(view))
        view[:size] = piece[:size]
        self._pieces[0] = piece[size:]
        if size == len(piece):
            self._pieces.pop(0)
        return size

    def unread(self, data: bytes) -> None:
        self._pieces.insert(0, data)


def frame(kind: int, body: bytes) -> bytes:
    return HEADER.pack(len(body) + 1, kind) + body


def cut(data: bytes, rng: random.Random) -> list[bytes]:
    """In random pieces, with silence between some of them."""
    pieces, at = [], 0
    while at < len(data):
        size = rng.choice([1, 4, 5, 6, 100, 5000, 60_000])
        pieces.append(data[at : at + size])
        if rng.random() < 0.2:
            pieces.append(b"")
        at += size
    return pieces


@pytest.mark.parametrize("seed", range(30))
def test_every_body_comes_whole_and_the_bulk_to_its_place(seed: int) -> None:
    rng = random.Random(seed)
    bodies = [(rng.choice([1, BULK]), rng.randbytes(rng.choice([0, 1, 300, 50_000]))) for _ in range(40)]
    source = Pieces(cut(b"".join(frame(*body) for body in bodies), rng))
    buffer, found = FrameBuffer(LARGEST, 4096), []
    places: list[memoryview] = []
    always = seed % 3 == 0

    def place(kind: int, size: int) -> memoryview | None:
        if kind != BULK or (not always and rng.random() < 0.2):
            return None
        places.append(memoryview(bytearray(size)))
        return places[-1]

    placed = 0
    while True:
        try:
            if not buffer.fill(source, 1.0, place if always or rng.random() < 0.7 else None):
                break
        except TimeoutError:
            continue
        for kind, body in buffer.frames():
            found.append((kind, bytes(body)))
            placed += bool(places) and body is places[-1]
    assert found == bodies
    assert buffer.pending_bytes == 0
    assert placed == len(places)
    if always:
        assert placed == len([body for kind, body in bodies if kind == BULK and body])


def test_who_has_a_place_reads_no_further_than_its_frame() -> None:
    """So the next one can go to its own place, too."""
    source = Pieces([frame(BULK, b"a" * 1000) + frame(BULK, b"b" * 1000)])
    buffer = FrameBuffer(LARGEST)
    places = [memoryview(bytearray(1000)) for _ in range(2)]
    for n, letter in enumerate(b"ab"):
        assert buffer.fill(source, None, lambda _kind, _size, n=n: places[n])
        assert list(buffer.frames()) == [(BULK, places[n])]
        assert bytes(places[n]) == bytes([letter]) * 1000
    assert source.asked == [HEADER.size, 1000, HEADER.size, 1000]


def test_an_end_within_a_frame_is_seen_wherever_it_goes() -> None:
    whole = frame(BULK, b"a" * 1000)
    for size in (3, HEADER.size, HEADER.size + 999):
        buffer = FrameBuffer(LARGEST)
        assert not buffer.fill(Pieces([whole[:size]]), None, lambda _kind, _size: memoryview(bytearray(1000)))
        assert buffer.pending_bytes == size
        assert list(buffer.frames()) == []


@pytest.mark.parametrize(
    ("length", "code"), [(0, CloseCode.PROTOCOL_VIOLATION), (LARGEST + 1, CloseCode.LIMIT)]
)
def test_no_place_is_asked_for_what_cannot_be(length: int, code: CloseCode) -> None:
    def never(kind: int, size: int) -> memoryview | None:
        raise AssertionError

    with pytest.raises(PeerError) as caught:
        FrameBuffer(LARGEST).fill(Pieces([HEADER.pack(length, BULK)]), None, never)
    assert caught.value.close_code == code
