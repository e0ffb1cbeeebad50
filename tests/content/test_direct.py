"""Long runs past the cache: the file holds what was said to be written, whatever the offsets, and failures are told."""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from coterie.content import direct
from coterie.content.direct import ALIGN_BYTES, BLOCK_BYTES, BUFFERS, ROOM_BYTES_MAX, DirectRun

pytestmark = pytest.mark.skipif(not direct.FLAG, reason="this system cannot write past its cache")


def run_at(path: Path, offset: int) -> DirectRun:
    path.touch()
    try:
        past_cache = os.open(path, os.O_WRONLY | direct.FLAG)
    except OSError:
        pytest.skip("this file system cannot write past the cache")
    return DirectRun(os.open(path, os.O_WRONLY), past_cache, offset)


@pytest.mark.parametrize("offset", [0, 1, ALIGN_BYTES - 1, ALIGN_BYTES, BLOCK_BYTES + 77])
@pytest.mark.parametrize("largest", [10_000, 300_000, 3 * BLOCK_BYTES])
def test_what_was_added_is_in_the_file_as_far_as_it_is_said(
    tmp_path: Path, offset: int, largest: int
) -> None:
    seed = offset * 31 + largest
    rng = random.Random(seed)
    path = tmp_path / "file"
    before = rng.randbytes(offset)
    path.write_bytes(before)
    sent = rng.randbytes((BUFFERS + 3) * BLOCK_BYTES + rng.randrange(ALIGN_BYTES))
    run, at, checked = run_at(path, offset), 0, 0
    while at < len(sent):
        part = bytearray(sent[at : at + rng.randrange(1, largest)])
        room = run.room(len(part)) if rng.random() < 0.5 else None
        if room is None:
            run.add(part)
        else:
            room[:] = part
            if rng.random() < 0.8:
                run.add_in_room(len(part))
            else:  # then it counts for nothing
                room[: len(part) // 2] = bytes(len(part) // 2)
                run.add(part)
        at += len(part)
        part[:] = bytes(len(part))  # it may be used again
        assert run.end == offset + at, seed
        if rng.random() < 0.02:
            run.flush()
            assert run.written == run.end, seed
        written = run.written - offset
        if written > checked:
            with path.open("rb") as file:
                file.seek(offset + checked)
                assert file.read(written - checked) == sent[checked:written], seed
            checked = written
    assert run.end - run.written <= BUFFERS * (BLOCK_BYTES + ROOM_BYTES_MAX), seed
    run.flush()
    run.close()
    assert path.read_bytes() == before + sent, seed


def test_there_is_room_for_one_frame_on_whole_sectors(tmp_path: Path) -> None:
    run = run_at(tmp_path / "file", ALIGN_BYTES - 1)
    assert run.room(1) is None  # the first byte goes to the file by itself
    run.add(b"?")
    assert run.room(ROOM_BYTES_MAX + 1) is None
    for _ in range(3 * BUFFERS * BLOCK_BYTES // ROOM_BYTES_MAX):
        room = run.room(ROOM_BYTES_MAX)
        assert room is not None
        assert len(room) == ROOM_BYTES_MAX
        run.add_in_room(ROOM_BYTES_MAX - 1)
    run.flush()
    run.close()


def test_two_runs_of_one_file_leave_each_other_alone(tmp_path: Path) -> None:
    path = tmp_path / "file"
    sent = random.Random(1).randbytes(6 * BLOCK_BYTES + 999)
    middle = 3 * BLOCK_BYTES + 1234  # inside a block of both
    one, two = run_at(path, 0), run_at(path, middle)
    for at in range(0, middle, 100_000):
        one.add(sent[at : min(at + 100_000, middle)])
        two.add(sent[middle + at : middle + at + 100_000])
    for run in (two, one):
        run.flush()
        run.close()
    assert path.read_bytes() == sent


def test_a_failed_write_is_told_by_a_later_call(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    run = DirectRun(os.open(path, os.O_WRONLY), os.open(path, os.O_RDONLY), 0)
    with pytest.raises(OSError, match="Bad file descriptor"):
        for _ in range(BUFFERS + 1):
            run.add(bytes(BLOCK_BYTES))
    run.close()


FULL = """
import os, resource, signal, sys
from coterie.content import direct
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
most = 5 * direct.BLOCK_BYTES // 2
resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
run = direct.DirectRun(os.open(sys.argv[1], os.O_WRONLY), os.open(sys.argv[1], os.O_WRONLY | direct.FLAG), 0)
try:
    for n in range(direct.BUFFERS + 4):
        run.add(bytes([n + 1]) * direct.BLOCK_BYTES)
    run.flush()
except OSError as error:
    run.close()
    print(error.strerror, run.written)
"""


def test_a_write_that_finds_room_for_half_a_block_keeps_that_half_and_says_why_there_is_no_more(
    tmp_path: Path,
) -> None:
    path = tmp_path / "file"
    run_at(path, 0).close()
    done = subprocess.run([sys.executable, "-c", FULL, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["File", "too", "large", str(2 * BLOCK_BYTES)]
    assert path.read_bytes() == b"\1" * BLOCK_BYTES + b"\2" * BLOCK_BYTES + b"\3" * (BLOCK_BYTES // 2)
