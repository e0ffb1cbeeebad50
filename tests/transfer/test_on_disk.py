"""What of a large file is fetched still: neither what is on the disk and right, nor long zeros."""

import random
from pathlib import Path

from blake3 import blake3

from coterie.content import Kind, Staging
from coterie.content.chunker import cut_range, zero_chunk
from coterie.content.manifest import Chunk
from coterie.transfer.on_disk import still_wanted

SIZE = 24 << 20
DATA = bytes(9 << 20) + random.Random(1).randbytes(3 << 20) + bytes(SIZE - (12 << 20))


def chunks_of(data: bytes) -> list[Chunk]:
    view = memoryview(data)
    cuts = cut_range(lambda offset, size: view[offset : offset + size], 0, len(data), lambda: False)
    return [(cut.hash, cut.size) for cut in cuts]


def test_zeros_are_never_fetched_and_what_is_right_not_again(tmp_path: Path) -> None:
    chunks, zeros = chunks_of(DATA), zero_chunk(SIZE)
    assert blake3(bytes(zeros[1])).digest() == zeros[0]
    staging = Staging.open(tmp_path, "large", b"\xab" * 32, Kind.BLOB, SIZE)
    large = staging.large_file((), "data", SIZE, executable=False)
    wanted = still_wanted(large, chunks, 0, SIZE, is_fresh=True)
    assert wanted == [chunk != zeros for chunk in chunks]
    fetched = sum(size for (_, size), is_wanted in zip(chunks, wanted, strict=True) if is_wanted)
    assert 3 << 20 <= fetched < 6 << 20
    offset = 0
    for (_, size), is_wanted in list(zip(chunks, wanted, strict=True))[: len(chunks) // 2]:
        if is_wanted:
            large.write_at(offset, DATA[offset : offset + size])
        offset += size
    large.write_at(0, b"rubbish")  # in the middle of zeros
    again = still_wanted(large, chunks, 0, SIZE, is_fresh=False)
    assert again == [False] * (len(chunks) // 2) + wanted[len(chunks) // 2 :]
    offset = 0
    for (_, size), is_wanted in zip(chunks, again, strict=True):
        if is_wanted:
            large.write_at(offset, DATA[offset : offset + size])
        offset += size
    large.finish(0)
    assert (staging.path / "data").read_bytes() == DATA
    staging.close()
