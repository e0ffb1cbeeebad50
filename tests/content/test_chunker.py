"""Chunks: cutting in segments on many cores gives what cutting in one go gives."""

import random

import pytest
from blake3 import blake3
from pyfastcdc import FastCDC

from coterie.content import chunker
from coterie.content.manifest import CHUNK_BYTES_MAX, unpack_chunks


def reader(data: bytes) -> chunker.ReadAt:
    view = memoryview(data)
    return lambda offset, size: view[offset : offset + size]


def cut(data: bytes, start: int = 0, stop: int | None = None) -> list[chunker.Cut]:
    return chunker.cut_range(reader(data), start, len(data) if stop is None else stop, lambda: False)


def reference(data: bytes) -> list[chunker.Cut]:
    cutter = FastCDC(128 << 10, min_size=32 << 10, max_size=CHUNK_BYTES_MAX)
    return [chunker.Cut(blake3(c.data).digest(), c.length, c.offset) for c in cutter.cut_buf(data)]


RANDOM = random.Random(1).randbytes(20 << 20)
DATA = {
    "nothing": b"",
    "one byte": b"x",
    "the smallest chunk": RANDOM[: 32 << 10],
    "random": RANDOM,
    "one read-ahead": RANDOM[: chunker.READ_AHEAD_BYTES],
    "one read-ahead and a byte": RANDOM[: chunker.READ_AHEAD_BYTES + 1],
    "zeros": bytes(9 << 20),
    "repeating": RANDOM[:70_000] * 150,
    "zeros, then random": bytes(5 << 20) + RANDOM[: 5 << 20],
}


@pytest.mark.parametrize("what", DATA)
def test_windows_do_not_change_the_boundaries(what: str) -> None:
    assert cut(DATA[what]) == reference(DATA[what])


@pytest.mark.parametrize("what", DATA)
@pytest.mark.parametrize("segment_bytes", [1 << 20, 3_333_333, 8 << 20])
def test_segments_do_not_change_the_boundaries(what: str, segment_bytes: int) -> None:
    data = DATA[what]
    starts = range(0, len(data), segment_bytes)
    segments = [cut(data, start, min(start + segment_bytes, len(data))) for start in starts]
    assert chunker.join(segments, lambda start, stop: cut(data, start, stop)) == reference(data)


def test_segments_fall_in_step_soon() -> None:
    half = len(RANDOM) // 2
    bridges = []

    def recut(start: int, stop: int) -> list[chunker.Cut]:
        bridges.append(start)
        return cut(RANDOM, start, stop)

    chunker.join([cut(RANDOM, 0, half), cut(RANDOM, half)], recut)
    assert len(bridges) < 10


def test_a_small_string_is_one_chunk_and_an_empty_one_none() -> None:
    assert chunker.pack_small(b"") == b""
    assert unpack_chunks(chunker.pack_small(b"x")) == [one[:2] for one in reference(b"x")]
    assert len(unpack_chunks(chunker.pack_small(RANDOM[: 4 << 10]))) == 1


@pytest.mark.parametrize(
    ("size", "average"),
    [
        (0, 4 << 10),
        ((128 << 10) - 1, 4 << 10),
        (128 << 10, 8 << 10),
        ((2 << 20) - 1, 64 << 10),
        (2 << 20, 128 << 10),
        (1 << 40, 128 << 10),
    ],
)
def test_small_files_are_cut_finer(size: int, average: int) -> None:
    assert chunker.average_for(size) == average


def test_in_one_piece_and_in_windows_a_small_file_is_cut_alike() -> None:
    data = RANDOM[: 300 << 10]
    cuts = chunker.cut_range(reader(data), 0, len(data), lambda: False, chunker.average_for(len(data)))
    assert unpack_chunks(chunker.pack_small(data)) == [one[:2] for one in cuts]
    assert 8 <= len(cuts) <= 32


def test_a_change_in_a_small_file_changes_few_bytes() -> None:
    data = RANDOM[: 60 << 10]
    before = dict(unpack_chunks(chunker.pack_small(data)))
    after = dict(unpack_chunks(chunker.pack_small(data[:30_000] + b"inserted" + data[30_000:])))
    new = sum(size for hash_, size in after.items() if hash_ not in before)
    assert 0 < new < 24 << 10


def test_cutting_stops_when_told() -> None:
    calls = []

    def stopped() -> bool:
        calls.append(1)
        return len(calls) > 2

    cuts = chunker.cut_range(reader(RANDOM), 0, len(RANDOM), stopped)
    assert 0 < sum(one.size for one in cuts) <= 2 * chunker.READ_AHEAD_BYTES


def test_an_insertion_changes_few_chunks() -> None:
    before = {one.hash for one in cut(RANDOM)}
    after = {one.hash for one in cut(RANDOM[:5_000_000] + b"inserted" + RANDOM[5_000_000:])}
    assert len(after - before) <= 3


@pytest.mark.parametrize("seed", range(8))
def test_holes_are_cut_as_the_zeros_that_they_are_and_not_read(seed: int) -> None:
    """Data and holes in turns, of sizes around those that matter; some zeros are on the disk."""
    print(f"seed {seed}")
    rng = random.Random(seed)
    data, holes = b"", []
    for _ in range(8):
        size = rng.choice(
            [1, 4096, CHUNK_BYTES_MAX - 1, CHUNK_BYTES_MAX, CHUNK_BYTES_MAX + 1, rng.randrange(6 << 20)]
        )
        if rng.random() < 0.5:
            holes.append((len(data), len(data) + size))
            data += bytes(size)
        else:
            data += bytes(size) if rng.random() < 0.2 else rng.randbytes(size)
    read: list[int] = []

    def read_at(offset: int, size: int) -> memoryview:
        read.append(size)
        return memoryview(data)[offset : offset + size]

    def hole_end(offset: int) -> int:
        return next((end for start, end in holes if start <= offset < end), offset)

    def cut_with_holes(start: int, stop: int) -> list[chunker.Cut]:
        return chunker.cut_range(read_at, start, stop, lambda: False, hole_end=hole_end)

    assert cut_with_holes(0, len(data)) == reference(data)
    segments = [
        cut_with_holes(start, min(start + 3_333_333, len(data))) for start in range(0, len(data), 3_333_333)
    ]
    assert chunker.join(segments, cut_with_holes) == reference(data)


def test_of_a_hole_next_to_nothing_is_read() -> None:
    size, read = 10 << 30, []

    def read_at(offset: int, asked: int) -> memoryview:
        read.append(min(asked, size - offset))
        return memoryview(bytes(read[-1]))

    cuts = chunker.cut_range(read_at, 0, size - 1, lambda: False, hole_end=lambda offset: size - 1)
    assert sum(cut.size for cut in cuts) == size
    assert len({cut.hash for cut in cuts}) == 1
    assert sum(read) <= 2 * CHUNK_BYTES_MAX
