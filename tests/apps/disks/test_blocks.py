"""What is read ahead, kept and forgotten of a disk, with answers that come when the test says so."""

import os
from collections.abc import Callable
from typing import Any

import pytest

from coterie.apps.disks import blocks as b
from coterie.apps.disks import messages as w
from coterie.apps.disks.asking import Answer, Fault
from coterie.apps.disks.blocks import Blocks, Habit
from coterie.apps.disks.nbd import Errno
from coterie.apps.disks.tree import BLOCK_BYTES
from coterie.errors import PeerError
from coterie.wire.frames import FrameDecoder

CONTENT = os.urandom(64) * (BLOCK_BYTES // 64) * 1_024


class Owner:
    """Stands for `Asking`: keeps questions until `answer`."""

    def __init__(self) -> None:
        self.asked: list[tuple[w.Read, Callable[[Answer], None]]] = []

    def ask(self, make: Callable[[int], Any], take: Callable[[Answer], None]) -> None:
        (frame,) = [w.PROTOCOL.decode(kind, body) for kind, body in FrameDecoder().feed(b"".join(make(1)))]
        assert isinstance(frame, w.Read)
        self.asked.append((frame, take))

    def answer(self, content: bytes = CONTENT) -> list[tuple[int, int]]:
        """Answer all that was asked: (offset, size) of each."""
        asked, self.asked = self.asked, []
        for read, take in asked:
            take(content[read.offset : read.offset + read.size])
        return [(read.offset, read.size) for read, _ in asked]


def plain(data: bytes | memoryview | Fault) -> bytes:
    """What was read."""
    assert not isinstance(data, Fault)
    return bytes(data)


class Time:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def made(**more: Any) -> tuple[Owner, Blocks, list[Any]]:
    owner = Owner()
    return owner, Blocks(owner, len(CONTENT), **more), []  # type: ignore[arg-type]


def test_what_is_read_here_and_there_is_read_exactly() -> None:
    owner, blocks, got = made()
    habit = Habit()
    for offset in (90 << 20, 5 << 20, 40 << 20):
        blocks.read(habit, offset, 4_096, lambda data: got.append(plain(data)))
    assert owner.answer() == [(90 << 20, 4_096), (5 << 20, 4_096), (40 << 20, 4_096)]
    assert got == [CONTENT[at : at + 4_096] for at in (90 << 20, 5 << 20, 40 << 20)]


def test_what_is_read_in_order_comes_before_it_is_asked_for() -> None:
    owner, blocks, got = made()
    habit = Habit()
    for at in range(0, 3 << 20, 128 << 10):
        blocks.read(habit, at, 128 << 10, lambda data: got.append(plain(data)))
        owner.answer()
    assert b"".join(got) == CONTENT[: 3 << 20]
    ahead = b.AHEAD_BYTES_MAX // BLOCK_BYTES
    before = len(got)
    blocks.read(habit, 3 << 20, 128 << 10, lambda data: got.append(plain(data)))
    assert len(got) == before + 1, "it was here already"
    assert len(owner.asked) <= ahead


def test_no_more_comes_at_once_than_there_is_room_for() -> None:
    owner, blocks, _ = made()
    for number in range(60):
        habit = Habit()
        for step in range(4):
            blocks.read(habit, (number << 22) + step * BLOCK_BYTES, BLOCK_BYTES, lambda data: None)
    assert len(owner.asked) <= b.COMING_MAX + 4 * 60
    owner.answer()
    assert blocks._used <= b.MEMORY_BYTES


def test_a_change_is_read_whatever_was_on_its_way() -> None:
    owner, blocks, got = made()
    changed = b"x" * len(CONTENT)
    blocks.read(Habit(), 0, BLOCK_BYTES, lambda data: got.append(plain(data)))
    blocks.changed(10, 5)
    blocks.read(Habit(), 0, BLOCK_BYTES, lambda data: got.append(plain(data)))
    (first, take_first), (second, take_second) = owner.asked
    take_second(changed[second.offset : second.offset + second.size])
    take_first(CONTENT[first.offset : first.offset + first.size])  # the older answer comes last
    owner.asked.clear()
    assert got == [changed[:BLOCK_BYTES], CONTENT[:BLOCK_BYTES]]
    blocks.read(Habit(), 0, BLOCK_BYTES, lambda data: got.append(plain(data)))
    assert got[2] == changed[:BLOCK_BYTES]
    assert not owner.asked
    blocks.changed(0, 1)
    blocks.read(Habit(), 0, BLOCK_BYTES, lambda data: got.append(plain(data)))
    assert len(owner.asked) == 1


def test_what_has_no_tree_is_believed_for_a_while() -> None:
    time = Time()
    owner, blocks, got = made(clock=time)
    blocks.read(Habit(), 0, BLOCK_BYTES, lambda data: got.append(plain(data)))
    owner.answer()
    time.now = b.FRESH_S - 0.1
    blocks.read(Habit(), 0, BLOCK_BYTES, lambda data: got.append(plain(data)))
    assert not owner.asked
    time.now = b.FRESH_S + 0.1
    blocks.read(Habit(), 0, BLOCK_BYTES, lambda data: got.append(plain(data)))
    assert len(owner.asked) == 1


def test_a_large_read_is_put_together_and_one_fault_is_the_fault_of_all() -> None:
    owner, blocks, got = made()
    blocks.read_directly(100, 3 * w.PIECE_BYTES_MAX, got.append)
    owner.asked.reverse()
    owner.answer()
    assert bytes(got[0]) == CONTENT[100 : 100 + 3 * w.PIECE_BYTES_MAX]
    blocks.read(Habit(), 7 * BLOCK_BYTES, 2 * BLOCK_BYTES, got.append)
    (_, one), (second, other) = owner.asked
    one(Fault(Errno.EIO, "a scratch"))
    other(CONTENT[second.offset : second.offset + second.size])
    assert got[1] == Fault(Errno.EIO, "a scratch")


def test_a_write_over_the_bound_is_the_fault_of_its_sender() -> None:
    most = w.pack_write(1, 0, 0, bytes(w.PIECE_BYTES_MAX))[5:]
    assert len(w.read_write(most).data) == w.PIECE_BYTES_MAX
    with pytest.raises(PeerError):
        w.read_write(most + b"x")
