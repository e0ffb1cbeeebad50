"""Long runs of a file written past the system's cache of it.

Measured: copying 2 GB into that cache costs a processor as much as decrypting and hashing them, and writing them past
it a tenth. Only whole blocks can go that way, so bytes wait here for their block: what is in the file is `written`.
"""

import errno
import mmap
import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor

BLOCK_BYTES = 1 << 20  # measured: from 512 KB to 8 MB equally fast
BUFFERS = 8  # measured: with fewer, who fills them waits
ALIGN_BYTES = 4096  # of memory, offset and size; no disk has larger sectors
FLAG: int = getattr(os, "O_DIRECT", 0)  # 0: this system has none

_NOT_HERE = {errno.EINVAL, errno.EOPNOTSUPP}  # of one write: this file system wants it otherwise


class DirectRun:
    """Writes to one file, each behind the last. For one thread; it has one of its own that writes."""

    def __init__(self, fd: int, direct_fd: int, offset: int) -> None:
        """From `offset` on. Both descriptors are of the same file and belong to the run; the second has `FLAG`."""
        self.end = self.written = offset
        self._fd = fd
        self._direct_fd = direct_fd
        self._at = offset  # where the buffer that fills belongs
        self._views = [memoryview(mmap.mmap(-1, BLOCK_BYTES)) for _ in range(BUFFERS)]
        self._turn = self._filled = 0
        self._writing: deque[tuple[Future[None], int]] = deque()
        self._thread = ThreadPoolExecutor(1, "coterie-direct")

    def add(self, data: bytes | memoryview) -> None:
        """These come next; they may be used again afterwards. OSError: a write failed, this one or one before."""
        rest = memoryview(data)
        self.end += len(rest)
        head = -self._at % ALIGN_BYTES
        if head:
            self._write_cached(rest[:head], self._at)
            self._at += min(head, len(rest))
            rest = rest[head:]
        while rest:
            part = rest[: BLOCK_BYTES - self._filled]
            self._views[self._turn][self._filled : self._filled + len(part)] = part
            self._filled += len(part)
            rest = rest[len(part) :]
            if self._filled == BLOCK_BYTES:
                self._send()
        while self._writing and self._writing[0][0].done():
            self._collect_oldest()

    def flush(self) -> None:
        """Everything is `written` afterwards. OSError: it is not."""
        while self._writing:
            self._collect_oldest()
        self._write_cached(self._views[self._turn][: self._filled], self._at)
        self._at += self._filled
        self._filled = 0
        self.written = self.end

    def close(self) -> None:
        """Let go of everything; what is not `written` may be lost."""
        self._thread.shutdown()
        self._writing.clear()
        for fd in (self._fd, self._direct_fd):
            os.close(fd)

    def _send(self) -> None:
        """The buffer is full: have it written, and go on with one that is free."""
        work = self._thread.submit(self._write_direct, self._views[self._turn], self._at)
        self._at += BLOCK_BYTES
        self._writing.append((work, self._at))
        self._turn = (self._turn + 1) % BUFFERS
        self._filled = 0
        while len(self._writing) >= BUFFERS:
            self._collect_oldest()

    def _collect_oldest(self) -> None:
        work, end = self._writing.popleft()
        work.result()
        self.written = end

    def _write_direct(self, view: memoryview, offset: int) -> None:
        try:
            done = os.pwrite(self._direct_fd, view, offset)
        except OSError as error:
            if error.errno not in _NOT_HERE:
                raise
            done = 0
        if done < len(view):  # a full disk says so now, and says why
            self._write_cached(view[done:], offset + done)

    def _write_cached(self, view: memoryview, offset: int) -> None:
        while view:
            done = os.pwrite(self._fd, view, offset)
            view, offset = view[done:], offset + done
