"""What a download need not fetch: chunks that lie in a file this computer knows.

They are shared on the disk where the file system can do that (a reflink), else copied. Every byte is verified: what
the index says is where to look, never what is there. A staging area that has any of them bears a mark, which is on the
disk before they are: what is found there later may be private, and is given to nobody.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from coterie.content import file_steps as place
from coterie.content.large_file import LargeFile
from coterie.content.manifest import Chunk
from coterie.content.reader import ChunkUnavailable, Location
from coterie.content.store import Store

CLONE_BYTES_MIN = 1 << 20  # guess: below it, one more system call and a second look cost more than the copy
MARK = "reused"  # in a staging area
CHUNKS_AT_ONCE = 400  # looked up and read together; as many as one query of the store asks for


class Stretch(msgspec.Struct, frozen=True):
    """Chunks `first` to `last` (inclusive) of a list, side by side in one known file too, from `offset` on."""

    first: int
    last: int
    size: int
    path: Path
    offset: int


def mark_reused(staging: Path) -> None:
    """Note on the disk that a staging area is about to get chunks from files of this computer. Raises OSError."""
    with (staging / MARK).open("ab") as file:
        os.fsync(file.fileno())
    place.flush_folder(staging)


def has_mark(staging: Path) -> bool:
    """Whether a staging area, which need not exist, has chunks from files of this computer."""
    return os.path.lexists(staging / MARK)


def known_chunks(
    store: Store, chunks: Sequence[Chunk], wanted: Sequence[int]
) -> Iterator[tuple[int, bytes | memoryview]]:
    """Yield (index, verified bytes) for those of `wanted` indexes into `chunks` that lie on this computer."""
    for at in range(0, len(wanted), CHUNKS_AT_ONCE):
        part = wanted[at : at + CHUNKS_AT_ONCE]
        places = store.places([chunks[index][0] for index in part])
        known = [index for index in part if chunks[index][0] in places]
        for index, data in zip(known, store.read_chunks([chunks[index] for index in known]), strict=True):
            if not isinstance(data, ChunkUnavailable):
                yield index, data


def clone_known(
    store: Store, file: LargeFile, offset: int, chunks: Sequence[Chunk], wanted: Sequence[int]
) -> list[int]:
    """Share long stretches of known files with `file`; `chunks` lie in it side by side from `offset` on.

    Returns the indexes, of those `wanted`, that are now there, verified.
    """
    starts = [offset]
    for _, size in chunks:
        starts.append(starts[-1] + size)
    there: list[int] = []
    for stretch in stretches(store.places([chunks[index][0] for index in wanted]), chunks, wanted):
        if stretch.size < CLONE_BYTES_MIN:
            continue
        at = starts[stretch.first]
        if file.clone(stretch.path, stretch.offset, at, stretch.size):
            right = file.matching_chunks(chunks[stretch.first : stretch.last + 1], at)
            there += [index for index, good in enumerate(right, stretch.first) if good]
    return there


def stretches(places: dict[bytes, Location], chunks: Sequence[Chunk], wanted: Sequence[int]) -> list[Stretch]:
    """Neighbours among the `wanted` chunks that are neighbours in one known file as well, as long as can be."""
    found: list[Stretch] = []
    for index in wanted:
        digest, size = chunks[index]
        place = places.get(digest)
        if place is None or place[2] != size:
            continue
        path, offset = Path(os.fsdecode(place[4])), place[1]
        last = found[-1] if found else None
        if last and last.last + 1 == index and last.path == path and last.offset + last.size == offset:
            found[-1] = Stretch(last.first, index, last.size + size, path, last.offset)
        else:
            found.append(Stretch(index, index, size, path, offset))
    return found
