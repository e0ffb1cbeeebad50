"""What of a large file need not be fetched: what lies on the disk already, and long zeros, which are known."""

from collections.abc import Sequence
from itertools import groupby

from coterie.content.chunker import zero_chunk
from coterie.content.large_file import LargeFile
from coterie.content.manifest import Chunk


def still_wanted(
    large: LargeFile, chunks: Sequence[Chunk], offset: int, file_size: int, *, is_fresh: bool
) -> list[bool]:
    """For each of these chunks, side by side from `offset` on, whether it has to be fetched.

    Long zeros are made holes where nothing lies. `is_fresh`: nothing is there from before. Blocking.

    Raises:
        StorageError: the disk.
    """
    there = [False] * len(chunks) if is_fresh else large.matching_chunks(chunks, offset)
    zeros, at, wanted = zero_chunk(file_size), offset, []
    for (chunk, is_there), run in groupby(zip(chunks, there, strict=True)):
        number = len(list(run))
        size = number * chunk[1]
        if chunk == zeros and not is_there:
            large.clear(at, size)
        wanted += [chunk != zeros and not is_there] * number
        at += size
    return wanted
