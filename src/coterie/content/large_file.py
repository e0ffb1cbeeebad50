"""A large file that arrives in pieces, in any order."""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from blake3 import blake3

from coterie.content import direct
from coterie.content import file_steps as place
from coterie.content.manifest import Chunk
from coterie.content.no_links import open_file
from coterie.errors import UsageError
from coterie.texts import tr

HOLE_BYTES = 64 << 10  # zeros are left out in such blocks of the file; guess: no file system has larger ones
_ZEROS = bytes(HOLE_BYTES)
FLUSH_BYTES = 64 << 20  # written to one file before the disk is told to begin; guess

Translated = Callable[[], AbstractContextManager[None]]


class LargeFile:
    """A file in staging that is written piece by piece. Close it, or `finish` it. Not for several threads at
    once.
    """

    def __init__(
        self, fd: int, size: int, again: Callable[[int], int], translated: Translated, *, is_alone: bool
    ) -> None:
        """`again(flags)` opens the same file once more, to write; within `translated()` errors are raised as its own.

        `is_alone`: it is all that arrives, so it is brought to the disk by itself.
        """
        self._translated = translated
        self._is_alone = is_alone
        self._fd = fd
        self._again = again
        self._size = size
        self._unflushed = 0
        self._flushing: threading.Thread | None = None

    def write_at(self, offset: int, data: bytes | memoryview) -> None:
        """Write verified bytes at `offset`; blocks of zeros where nothing lies yet stay holes.

        Raises:
            StorageError: the disk is full, or fails; what was written before stays.
        """
        view = memoryview(data)
        if offset + len(view) > self._size:
            raise UsageError(
                tr(
                    "bytes {offset} to {offset2} of a file of {size}",
                    offset=offset,
                    offset2=offset + len(view),
                    size=self._size,
                )
            )
        for start, end, is_zero in _stretches(view, offset):
            if not (is_zero and self._leave_hole(offset + start, end - start)):
                self._write(offset + start, view[start:end])
        if self._unflushed >= FLUSH_BYTES:
            self._unflushed = 0
            self._begin_flush()

    def leave_hole(self, offset: int, data: bytes | memoryview) -> bool:
        """Whether these verified bytes need not be written: they are zeros, and nothing lies at `offset` yet."""
        stretches = list(_stretches(memoryview(data), offset))
        return stretches == [(0, len(data), True)] and self._leave_hole(offset, len(data))

    def clear(self, offset: int, size: int) -> None:
        """Zeros at `offset`: a hole, where nothing lies yet. Errors as `write_at`."""
        if offset + size <= self._size and self._leave_hole(offset, size):
            return
        for at in range(offset, offset + size, HOLE_BYTES):
            self.write_at(at, _ZEROS[: min(HOLE_BYTES, offset + size - at)])

    def _leave_hole(self, offset: int, size: int) -> bool:
        with self._translated():
            if not place.is_hole(self._fd, offset, size):
                return False
            if os.fstat(self._fd).st_size < offset + size:
                # one byte, so that what goes on later finds it; cutting to a size could cut what another run writes
                os.lseek(self._fd, offset + size - 1, os.SEEK_SET)
                os.write(self._fd, b"\0")
        return True

    def _write(self, offset: int, view: memoryview) -> None:
        self._unflushed += len(view)
        with self._translated():
            os.lseek(self._fd, offset, os.SEEK_SET)
            while view:
                view = view[os.write(self._fd, view) :]

    def run(self, offset: int) -> direct.DirectRun | None:
        """For a long run of bytes from `offset` on; None where the system has no better way than `write_at`."""
        if not direct.FLAG:
            return None
        fd = os.dup(self._fd)
        try:
            return direct.DirectRun(fd, self._again(direct.FLAG), offset)
        except OSError:
            os.close(fd)
            return None

    def clone(self, source: Path, source_offset: int, offset: int, size: int) -> bool:
        """Share with another file what lies in both at once, without copying; False where that cannot be.

        Whole blocks only, so the ends may be missing; and it may be other bytes than expected: verify them
        (`matching_chunks`).
        """
        block = place.CLONE_ALIGN_BYTES
        if (offset - source_offset) % block:
            return False
        start, end = -(-offset // block) * block, (offset + size) // block * block
        if end <= start:
            return False
        try:
            fd = open_file(source)
        except OSError:
            return False
        with closing_fd(fd):
            return place.clone_range(fd, start - offset + source_offset, self._fd, start, end - start)

    def matching_chunks(self, chunks: Sequence[Chunk], offset: int = 0) -> list[bool]:
        """Which of these chunks, side by side from `offset` on, are right on the disk already: each is hashed again."""
        matching = []
        with self._translated():
            present = os.fstat(self._fd).st_size
            for digest, size in chunks:
                right = False
                if offset + size <= present:
                    os.lseek(self._fd, offset, os.SEEK_SET)
                    right = blake3(os.read(self._fd, size)).digest() == digest
                matching.append(right)
                offset += size
        return matching

    def finish(self, mtime_ns: int) -> None:
        """All chunks are there: cut off anything behind them, set the time, bring it to the disk if it is all
        there is.
        """
        with self._translated():
            os.ftruncate(self._fd, self._size)
            if self._is_alone:
                self._join_flush()
                os.fsync(self._fd)
            place.set_time(self._fd, mtime_ns)
        self.close()

    def close(self) -> None:
        """Close the file, as far as it is."""
        self._join_flush()
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)

    def _begin_flush(self) -> None:
        if self._flushing is not None and self._flushing.is_alive():
            return
        self._flushing = threading.Thread(target=place.flush_quietly, args=(self._fd,), name="coterie-flush")
        self._flushing.start()

    def _join_flush(self) -> None:
        if self._flushing is not None:
            self._flushing.join()
            self._flushing = None


def _stretches(view: memoryview, offset: int) -> list[tuple[int, int, bool]]:
    """What lies at `offset` of a file, cut where whole blocks of zeros begin and end: (start, end, is zeros)."""
    found: list[tuple[int, int, bool]] = []
    at = 0
    while at < len(view):
        end = min(at + HOLE_BYTES - (offset + at) % HOLE_BYTES, len(view))
        is_zero = _ZEROS.startswith(view[at:end])
        if found and found[-1][2] is is_zero:
            found[-1] = (found[-1][0], end, is_zero)
        else:
            found.append((at, end, is_zero))
        at = end
    return found


@contextmanager
def closing_fd(fd: int) -> Iterator[None]:
    """Close the descriptor at the end."""
    try:
        yield
    finally:
        os.close(fd)
