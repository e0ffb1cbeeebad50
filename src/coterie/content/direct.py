"""Long runs of a file written past the system's cache of it.

Measured: copying 2 GB into that cache costs a processor as much as decrypting and hashing them, and writing them past
it a tenth. Only whole blocks can go that way, so bytes wait here for their block: what is in the file is `written`.
"""

import errno
import mmap
import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor

BLOCK_BYTES = 2 << 20  # written at once, or a little more; measured: from 512 KB to 8 MB equally fast
ROOM_BYTES_MAX = 1 << 20  # in one go
BUFFERS = 4  # measured: with fewer, who fills them waits
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
        size = BLOCK_BYTES + ROOM_BYTES_MAX  # filled beyond a block it is written, so there is room always
        self._views = [memoryview(mmap.mmap(-1, size)) for _ in range(BUFFERS)]
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
            part = rest[:ROOM_BYTES_MAX]
            self._views[self._turn][self._filled : self._filled + len(part)] = part
            self._fill(len(part))
            rest = rest[len(part) :]

    def room(self, size: int) -> memoryview | None:
        """Where the next bytes can be put to save a copy, before `add_in_room`; None: nowhere now.

        They count once they are added only; whatever is added otherwise takes their place.
        """
        if self._at % ALIGN_BYTES or size > ROOM_BYTES_MAX:
            return None
        return self._views[self._turn][self._filled : self._filled + size]

    def add_in_room(self, size: int) -> None:
        """So many bytes come next, which were put into the room that was given last. Errors as `add`."""
        self.end += size
        self._fill(size)

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

    def _fill(self, size: int) -> None:
        """So many bytes more are in the buffer."""
        self._filled += size
        if self._filled >= BLOCK_BYTES:
            self._send()
        while self._writing and self._writing[0][0].done():
            self._collect_oldest()

    def _send(self) -> None:
        """The buffer is full: have whole sectors of it written, and go on in one that is free with the rest."""
        view, whole = self._views[self._turn], self._filled - self._filled % ALIGN_BYTES
        work = self._thread.submit(self._write_direct, view[:whole], self._at)
        self._at += whole
        self._writing.append((work, self._at))
        while len(self._writing) >= BUFFERS:
            self._collect_oldest()
        self._turn = (self._turn + 1) % BUFFERS
        self._views[self._turn][: self._filled - whole] = view[whole : self._filled]
        self._filled -= whole

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
