"""What one peer brings of a file: told as landed when it is in the file, never before, each chunk once."""

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from coterie.content import Kind, LargeFile, Staging
from coterie.content.direct import BLOCK_BYTES, BUFFERS, ROOM_BYTES_MAX, DirectRun
from coterie.transfer.long_run import RUN_AFTER_BYTES, Streak

SIZE = 24 << 20
SENT = random.Random(7).randbytes(SIZE)


@pytest.fixture
def staging(tmp_path: Path) -> Iterator[Staging]:
    opened = Staging.open(tmp_path, "large", b"\xab" * 32, Kind.BLOB, SIZE)
    yield opened
    opened.close()


def large_of(staging: Staging) -> LargeFile:
    return staging.large_file((), "data", SIZE, executable=False)


def chunks(first: int, last: int) -> Iterator[tuple[int, bytes]]:
    """Of 1 to 200 KB, side by side."""
    rng = random.Random(first)
    while first < last:
        end = min(last, first + rng.randrange(1, 200_000))
        yield first, SENT[first:end]
        first = end


@pytest.mark.parametrize("after", [0, 3 << 20, RUN_AFTER_BYTES])
def test_what_landed_is_in_the_file(staging: Staging, after: int) -> None:
    large, path = large_of(staging), staging.path / "data"
    streak = Streak(run_after_bytes=after)
    told, checked, ends = 0, 0, []
    for offset, data in chunks(0, SIZE):
        streak.write("it", large, offset, data)
        ends.append(offset + len(data))
        told += streak.landed()
        here = ends[told - 1] if told else 0
        if here > checked:
            with path.open("rb") as file:
                file.seek(checked)
                assert file.read(here - checked) == SENT[checked:here]
            checked = here
        assert ends[-1] - here <= BUFFERS * (BLOCK_BYTES + ROOM_BYTES_MAX)
    waits = len(ends) - told
    assert bool(waits) == (after < SIZE)
    streak.end()
    assert streak.landed() == waits
    assert streak.landed() == 0
    assert path.read_bytes() == SENT
    large.close()


@pytest.mark.parametrize("copied", [False, True])
def test_what_was_put_into_the_room_is_in_the_file(staging: Staging, *, copied: bool) -> None:
    """Frames of a few chunks each; some are put into the room, of these some are given chunk by chunk all the same."""
    large, path = large_of(staging), staging.path / "data"
    streak = Streak(run_after_bytes=1 << 20)
    rng = random.Random(3)
    sent, told, took_room = 0, 0, 0
    while sent < SIZE:
        sizes = [rng.randrange(1, 200_000) for _ in range(rng.randrange(1, 5))]
        data: bytes | memoryview = SENT[sent : sent + sum(sizes)]
        count = len(sizes) if sent + sum(sizes) <= SIZE else 1
        room = streak.room(len(data))
        if room is not None:
            room[:] = data
            took_room += 1
            data = bytes(data) if copied else room  # not what was put there, but the same
        if count == 1 or rng.random() < 0.7:
            streak.write("it", large, sent, data, count)
            sent += len(data)
        else:
            at = 0
            for size in sizes:
                streak.write("it", large, sent, data[at : at + size])
                at += size
                sent += size
        told += count
        told -= streak.landed()
    streak.end()
    assert streak.landed() == told
    assert took_room > 20
    assert streak.room(1) is None
    assert path.read_bytes() == SENT
    large.close()


def test_a_gap_begins_a_new_row_and_loses_nothing(staging: Staging) -> None:
    """Two peers take turns at two halves, one of them jumps."""
    large, path = large_of(staging), staging.path / "data"
    one, two = Streak(run_after_bytes=1 << 20), Streak(run_after_bytes=1 << 20)
    third, half = SIZE // 3, SIZE // 2
    first = [*chunks(0, third), *chunks(half - 5, SIZE)]
    second = list(chunks(third, half - 5))
    told = 0
    while first or second:
        for streak, mine in ((one, first), (two, second)):
            for offset, data in mine[:3]:
                streak.write("it", large, offset, data)
                told += streak.landed()
            del mine[:3]
    for streak in (one, two):
        streak.end()
        told += streak.landed()
    assert told == len([*chunks(0, third), *chunks(half - 5, SIZE), *chunks(third, half - 5)])
    assert path.read_bytes() == SENT
    large.close()


def test_another_file_ends_the_row_of_the_first(staging: Staging, tmp_path: Path) -> None:
    large = large_of(staging)
    with_other = Staging.open(tmp_path, "other", b"\xcd" * 32, Kind.BLOB, SIZE)
    other = large_of(with_other)
    streak = Streak(run_after_bytes=0)
    written = 0
    for offset, data in chunks(0, 3 << 20):
        streak.write("it", large, offset, data)
        written += 1
    streak.write("the other", other, 0, SENT[:1000])
    assert (staging.path / "data").read_bytes() == SENT[: 3 << 20]
    streak.end()
    assert streak.landed() == written + 1
    assert (with_other.path / "data").read_bytes() == SENT[:1000]
    for opened in (large, other, with_other):
        opened.close()


def test_what_a_failed_disk_did_not_take_is_never_told(staging: Staging) -> None:
    class Broken(DirectRun):
        def flush(self) -> None:
            raise OSError(5, "Input/output error")

    class OnBrokenDisk:
        def leave_hole(self, offset: int, data: bytes) -> bool:
            return False

        def run(self, offset: int) -> DirectRun:
            fds = [os.open(staging.path / "data", os.O_WRONLY | os.O_CREAT) for _ in range(2)]
            return Broken(*fds, offset)

    large: Any = OnBrokenDisk()
    streak = Streak(run_after_bytes=0)
    streak.write("it", large, 0, SENT[:1000])
    with pytest.raises(OSError, match="Input/output"):
        streak.end()
    assert streak.landed() == 0
    good = large_of(staging)
    streak.write("it", good, 1000, SENT[1000:2000])
    streak.end()
    assert streak.landed() == 1
    good.close()
