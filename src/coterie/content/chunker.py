"""Cuts byte strings into content-defined chunks: FastCDC boundaries, a BLAKE3 hash each.

The boundaries after any one boundary depend on nothing before it. So a long file can be cut in segments, each
from an arbitrary start, on all cores at once: soon after its start a segment falls in step with the true
boundaries, and `join` keeps its cuts from there on. The result is the same as cutting the file in one go.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

from blake3 import blake3
from pyfastcdc import FastCDC

from coterie.content.manifest import CHUNK, CHUNK_BYTES_MAX, Chunk

# FastCDC (Xia et al., USENIX ATC 2016, 4.2-4.4): normalised chunking around an average. The average is ours:
# the measured mean is about 160 KiB, 36 bytes of manifest each, so that a manifest is 0.02 % of its content. Small
# files are cut finer, for a new version of one should cost its changes too: measured on two releases of Django, 28 %
# of the size is fetched instead of 45 %, and a manifest is 1 % of the content. In powers of two, so that a file keeps
# its boundaries while its size changes little.
CHUNK_BYTES_AVERAGE = 128 << 10
CHUNKS_OF_SMALL = 16  # measured: 32 and more gain 1 %
CHUNK_BYTES_AVERAGE_MIN = 4 << 10  # also the largest file that is one chunk in any case
AVERAGE_TO_MIN = 4  # FastCDC's own proportions
AVERAGE_TO_MAX = CHUNK_BYTES_MAX // CHUNK_BYTES_AVERAGE
ZEROS_BYTES_MIN = CHUNK_BYTES_AVERAGE_MIN * AVERAGE_TO_MAX  # no smaller file has a `zero_chunk`
READ_AHEAD_BYTES = 2 << 20  # measured: 1.5 to 4 MiB are alike; it stays in the processor's cache


class Cut(NamedTuple):
    """One chunk and where it lies."""

    hash: bytes
    size: int
    offset: int


ReadAt = Callable[[int, int], memoryview]
"""`read_at(offset, size)`: the bytes there, fewer only at the end of the file."""


HoleEnd = Callable[[int], int]
"""`hole_end(offset)`: where the hole ends that lies at `offset`, all zeros; `offset` where there is none."""


def average_for(size: int) -> int:
    """The average chunk, in bytes, of a file of `size` bytes."""
    wanted = 1 << max(0, (size // CHUNKS_OF_SMALL).bit_length() - 1)
    return min(max(wanted, CHUNK_BYTES_AVERAGE_MIN), CHUNK_BYTES_AVERAGE)


def pack_small(data: bytes) -> bytes:
    """The packed chunk list of a whole small file; empty when there is nothing."""
    if len(data) <= CHUNK_BYTES_AVERAGE_MIN:
        return CHUNK.pack(blake3(data).digest(), len(data)) if data else b""
    view, packed, at = memoryview(data), b"", 0
    for chunk in _cutter(average_for(len(data))).cut_buf(view):
        packed += CHUNK.pack(blake3(view[at : at + chunk.length]).digest(), chunk.length)
        at += chunk.length
    return packed


def _cutter(average: int) -> FastCDC:
    return FastCDC(average, min_size=average // AVERAGE_TO_MIN, max_size=average * AVERAGE_TO_MAX)


def cut_range(
    read_at: ReadAt,
    start: int,
    stop: int,
    stopped: Callable[[], bool],
    average: int = CHUNK_BYTES_AVERAGE,
    hole_end: HoleEnd = lambda offset: offset,
) -> list[Cut]:
    """Cut from `start`; the last chunk is the one that reaches or passes `stop`, or the end of the file.

    Holes are not read: the chunks in them are known. Returns what is done so far as soon as `stopped()` says so.
    """
    cutter = _cutter(average)
    cuts: list[Cut] = []
    at = start
    while at < stop and not stopped():
        if empty := _cut_hole(at, stop, hole_end(at), average):
            cuts += empty
            at = empty[-1].offset + empty[-1].size
            continue
        asked = min(READ_AHEAD_BYTES, stop - at + CHUNK_BYTES_MAX)
        window = read_at(at, asked)
        # A chunk that begins closer to the window's end than the largest chunk may be cut short by it, unless
        # the file ends there as well.
        sure = len(window) if len(window) < asked else asked - CHUNK_BYTES_MAX
        sizes: list[int] = []
        end = 0
        found = cutter.cut_buf(window)
        while end <= sure and at + end < stop:
            chunk = next(found, None)
            if chunk is None:
                break
            sizes.append(chunk.length)
            end += chunk.length
        if not sizes:
            break
        # Cutting all and then hashing all is a quarter faster than taking turns.
        begin = 0
        for size in sizes:
            cuts.append(Cut(blake3(window[begin : begin + size]).digest(), size, at + begin))
            begin += size
        at += end
    return cuts


def zero_chunk(size: int) -> Chunk:
    """The chunk that stands, in a file of `size` bytes, wherever there are more zeros than a chunk has bytes."""
    length, digest = _of_zeros(average_for(size))
    return digest, length


def _cut_hole(at: int, stop: int, end: int, average: int) -> list[Cut]:
    """The chunks from `at` that lie in a hole up to `end`: all but those that what follows may cut shorter."""
    size, digest = _of_zeros(average)
    sure = (
        end - at - average * AVERAGE_TO_MAX
    ) // size + 1  # beyond the largest chunk nothing decides where it is cut
    wanted = -(-(stop - at) // size)
    return [Cut(digest, size, at + number * size) for number in range(min(sure, wanted))]


@lru_cache
def _of_zeros(average: int) -> tuple[int, bytes]:
    """Size and hash of every chunk amid zeros: the largest there is."""
    zeros = memoryview(bytes(average * AVERAGE_TO_MAX))
    size = next(iter(_cutter(average).cut_buf(zeros))).length
    return size, blake3(zeros[:size]).digest()


def join(segments: Sequence[list[Cut]], recut: Callable[[int, int], list[Cut]]) -> list[Cut]:
    """The cuts of a whole file from those of its consecutive segments.

    `recut(start, stop)` is `cut_range` on the file: it bridges the gap between the end of one segment's last
    chunk and the place from where the next segment's boundaries are true ones.
    """
    joined: list[Cut] = []
    at = 0
    for segment in segments:
        place = {cut.offset: index for index, cut in enumerate(segment)}
        end = segment[-1].offset + segment[-1].size if segment else at
        while at < end and at not in place:
            bridge = recut(at, at + 1)
            if not bridge:
                return joined
            joined += bridge
            at = bridge[-1].offset + bridge[-1].size
        if at in place:
            joined += segment[place[at] :]
            at = end
    return joined
