"""Long runs of zeros are holes where they arrive; size and bytes are right, whatever lay there before."""

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from blake3 import blake3

from coterie.content import Kind, LargeFile, Staging
from coterie.content.large_file import HOLE_BYTES
from coterie.errors import UsageError
from coterie.transfer.long_run import RUN_AFTER_BYTES, Streak
from tests.apps.files.nodes import pair
from tests.support import run

SIZE = 24 << 20
DATA = random.Random(5).randbytes(3 << 20)
SPARSE = bytes(5 << 20) + DATA + bytes(8 << 20) + DATA[:1_000_001]
SPARSE += bytes(SIZE - len(SPARSE))
FULL_BYTES = len(DATA) + 1_000_001

pytestmark = pytest.mark.skipif(not hasattr(os, "SEEK_DATA"), reason="this system does not tell holes")


def taken(path: Path) -> int:
    return path.stat().st_blocks * 512


@pytest.fixture
def staging(tmp_path: Path) -> Iterator[Staging]:
    probe = tmp_path / "probe"
    probe.touch()
    os.truncate(probe, 1 << 20)
    if taken(probe):
        pytest.skip("this file system has no holes")
    opened = Staging.open(tmp_path, "large", b"\xab" * 32, Kind.BLOB, SIZE)
    yield opened
    opened.close()


def large_of(staging: Staging) -> LargeFile:
    return staging.large_file((), "data", SIZE, executable=False)


def pieces(seed: int) -> Iterator[tuple[int, bytes]]:
    rng, first = random.Random(seed), 0
    while first < SIZE:
        end = min(SIZE, first + rng.randrange(1, 2_000_000))
        yield first, SPARSE[first:end]
        first = end


@pytest.mark.parametrize("after", [0, 1 << 20, RUN_AFTER_BYTES])
@pytest.mark.parametrize("is_shuffled", [False, True])
def test_zeros_that_come_stay_holes(staging: Staging, after: int, is_shuffled: bool) -> None:
    large, path = large_of(staging), staging.path / "data"
    streak, come = Streak(run_after_bytes=after), list(pieces(3))
    if is_shuffled:
        random.Random(4).shuffle(come)
    told = 0
    for offset, data in come:
        room = streak.room(len(data))
        if room is not None:
            room[:] = data
        streak.write("it", large, offset, data if room is None else room)
        told += streak.landed()
    streak.end()
    assert told + streak.landed() == len(come)
    large.finish(0)
    assert path.read_bytes() == SPARSE
    is_run = after < RUN_AFTER_BYTES  # it writes whatever has any data in it
    assert taken(path) <= (SIZE // 2 if is_run else FULL_BYTES + 8 * HOLE_BYTES)


def test_what_an_earlier_run_left_is_found_and_rubbish_overwritten(staging: Staging) -> None:
    large, path = large_of(staging), staging.path / "data"
    large.write_at(0, SPARSE[: 4 << 20])  # zeros alone, and then it is cut off
    large.close()
    assert taken(path) <= 8 * HOLE_BYTES
    large = large_of(staging)
    chunk = (blake3(SPARSE[: 1 << 20]).digest(), 1 << 20)
    assert large.matching_chunks([chunk] * 5) == [True] * 4 + [False]
    with path.open("r+b") as file:
        file.seek(2 << 20)
        file.write(b"rubbish" * 100_000)
    assert large.matching_chunks([chunk] * 4) == [True, True, False, True]
    assert not large.leave_hole(2 << 20, bytes(1 << 20))
    for offset, data in pieces(6):
        large.write_at(offset, data)
    large.finish(0)
    assert path.read_bytes() == SPARSE


def test_room_that_was_kept_is_not_filled(staging: Staging) -> None:
    path = staging.path / "data"
    large = large_of(staging)
    fd = os.open(path, os.O_RDWR)
    try:
        os.posix_fallocate(fd, 0, SIZE)
    except OSError:
        pytest.skip("this file system keeps no room")
    finally:
        os.close(fd)
    assert large.leave_hole(0, bytes(1 << 20))
    for offset, data in pieces(7):
        large.write_at(offset, data)
    large.finish(0)
    assert path.read_bytes() == SPARSE


def test_a_sparse_file_is_sparse_on_the_other_side(tmp_path: Path, staging: Staging) -> None:
    async def main() -> None:
        source = tmp_path / "disk.img"
        with source.open("wb") as file:
            os.truncate(file.fileno(), 48 << 20)
            file.seek(20 << 20)
            file.write(DATA)
        async with pair(tmp_path) as (anna, ben):
            ticket = (await anna.files.share(source)).ticket
            got = await ben.files.get(ticket, tmp_path / "copy.img")
            assert got.fetched < len(DATA) + (4 << 20)  # the zeros are known, and do not travel
            empty = tmp_path / "empty.img"
            empty.touch()
            os.truncate(empty, 64 << 20)
            nothing = await ben.files.get((await anna.files.share(empty)).ticket, tmp_path / "nothing.img")
            assert nothing.fetched < 4 << 20
            assert (tmp_path / "nothing.img").read_bytes() == bytes(64 << 20)
            assert taken(tmp_path / "nothing.img") <= 2 << 20
        assert (tmp_path / "copy.img").read_bytes() == source.read_bytes()
        assert taken(tmp_path / "copy.img") <= len(DATA) + (2 << 20)

    run(main(), 60)


def test_zeros_are_cleared_over_whatever_lies_there(staging: Staging) -> None:
    large, path = large_of(staging), staging.path / "data"
    large.clear(1 << 20, 2 << 20)
    assert taken(path) <= 2 * HOLE_BYTES
    large.write_at(1 << 20, b"rubbish" * 10_000)
    large.clear(1 << 20, (2 << 20) + 7)
    with pytest.raises(UsageError):
        large.clear(SIZE - 10, 11)
    large.close()
    assert path.read_bytes() == bytes(path.stat().st_size)
