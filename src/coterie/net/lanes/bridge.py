"""Between the loop, where a stream lives, and a thread that reads or writes it with blocking calls.

Both directions are bounded: a thread that does not read holds the stream back, a stream that does not take holds the
thread.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable

from coterie.errors import CoterieError, TransportError
from coterie.net.stream import READ_BYTES, Stream
from coterie.texts import tr

INBOX_BYTES_MAX = 2 << 20  # guess: what a thread has to work on while the loop fetches more
OUTBOX_BYTES_MAX = 2 << 20  # guess: two pieces of usual size
JOIN_BYTES = 1 << 20  # small pieces written together

Failed = Callable[[BaseException], None]


class Inbox:
    """What came over the stream and was not read yet. `pump` runs on the loop, the rest in one thread."""

    def __init__(self, stream: Stream, first: bytes, failed: Failed) -> None:
        self._stream = stream
        self._failed = failed
        self._loop = asyncio.get_running_loop()
        self._room = asyncio.Event()
        self._changed = threading.Condition()
        self._waiting: deque[memoryview] = deque([memoryview(first)] if first else ())
        self._bytes = len(first)
        self._has_ended = self._is_cut = self._is_woken = False
        self._error: BaseException | None = None
        self.heard_bytes = 0  # that came, in all

    async def pump(self) -> None:
        """Fetch until the end."""
        try:
            while data := await self._stream.read_bytes(READ_BYTES):
                with self._changed:
                    self._waiting.append(memoryview(data))
                    self._bytes += len(data)
                    self.heard_bytes += len(data)
                    is_full = self._bytes >= INBOX_BYTES_MAX
                    if is_full:
                        self._room.clear()
                    self._changed.notify_all()
                if is_full:
                    await self._room.wait()
        except CoterieError as error:
            self._failed(error)
            return
        with self._changed:
            self._has_ended = True
            self._changed.notify_all()

    def read_into(self, view: memoryview, least: int, timeout_s: float | None) -> int:
        """Up to len(view) bytes; 0 at the end of the stream.

        Raises:
            TimeoutError: nothing came.
            CoterieError: the stream broke, or `fail` was called.
        """
        with self._changed:
            come = lambda: (  # noqa: E731
                self._waiting or self._has_ended or self._error is not None or self._is_woken
            )
            self._changed.wait_for(come, timeout_s)
            is_idle = not (self._waiting or self._has_ended or self._error is not None)
            self._is_woken = False
            if is_idle:
                raise TimeoutError
            if self._error is not None and (self._is_cut or not self._waiting):
                raise self._error
            taken = 0
            while self._waiting and taken < len(view):
                part = self._waiting[0]
                size = min(len(part), len(view) - taken)
                view[taken : taken + size] = part[:size]
                taken += size
                if size == len(part):
                    self._waiting.popleft()
                else:
                    self._waiting[0] = part[size:]
            before, self._bytes = self._bytes, self._bytes - taken
            wakes = before >= INBOX_BYTES_MAX > self._bytes
        if wakes:
            call_soon(self._loop, self._room.set)
        return taken

    def unread(self, data: bytes) -> None:
        """Bytes that were read too far."""
        if not data:  # nothing there is the end to who reads
            return
        with self._changed:
            self._waiting.appendleft(memoryview(data))
            self._bytes += len(data)

    def wake(self) -> None:
        """From any thread: a read that waits now, or else the next that would, raises TimeoutError."""
        with self._changed:
            self._is_woken = True
            self._changed.notify_all()

    def fail(self, error: BaseException, *, is_cut: bool) -> None:
        """From any thread: `error` comes after what is here already, or at once if it `is_cut`."""
        with self._changed:
            self._error = self._error or error
            self._is_cut = self._is_cut or is_cut
            self._changed.notify_all()


class Outbox:
    """What is to be written to the stream. `pump` runs on the loop, `write` and `flush` in one thread."""

    def __init__(self, stream: Stream, failed: Failed) -> None:
        self._stream = stream
        self._failed = failed
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._changed = threading.Condition()
        self._waiting: deque[bytes] = deque()
        self._bytes = 0  # waiting or being written
        self._is_awake = False
        self._has_ended = False
        self._error: BaseException | None = None

    async def pump(self) -> None:
        """Write until `end`, which finishes the stream."""
        try:
            while True:
                piece, is_last = self._take()
                if piece:
                    await self._stream.write(piece)
                    with self._changed:
                        self._bytes -= len(piece)
                        self._changed.notify_all()
                elif is_last:
                    await self._stream.finish()
                    return
                else:
                    await self._wake.wait()
                    self._wake.clear()
        except CoterieError as error:
            self._failed(error)

    def write(self, data: bytes) -> None:
        """Returns once `data` has a place among the bytes that may wait.

        Raises:
            CoterieError: the stream broke, or `fail` was called.
        """
        with self._changed:
            room = lambda: self._bytes < OUTBOX_BYTES_MAX or self._error is not None  # noqa: E731
            self._changed.wait_for(room)
            if self._error is not None:
                raise self._error
            if self._has_ended:
                raise TransportError(tr("a write after the end"))
            self._waiting.append(data)
            self._bytes += len(data)
            is_first, self._is_awake = not self._is_awake, True
        if is_first:
            call_soon(self._loop, self._wake.set)

    def post(self, data: bytes) -> None:
        """As `write`, without ever waiting: for small messages, whose number the caller bounds."""
        with self._changed:
            if self._error is not None or self._has_ended:
                return
            self._waiting.append(data)
            self._bytes += len(data)
            is_first, self._is_awake = not self._is_awake, True
        if is_first:
            call_soon(self._loop, self._wake.set)

    def end(self) -> None:
        """Nothing more will be written."""
        with self._changed:
            self._has_ended = True
        call_soon(self._loop, self._wake.set)

    def fail(self, error: BaseException) -> None:
        """From any thread: every further call raises `error`."""
        with self._changed:
            self._error = self._error or error
            self._changed.notify_all()

    def _take(self) -> tuple[bytes, bool]:
        """The next piece, and whether there will be no other when it is empty."""
        with self._changed:
            parts: list[bytes] = []
            size = 0
            while self._waiting and (not parts or size + len(self._waiting[0]) <= JOIN_BYTES):
                parts.append(self._waiting.popleft())
                size += len(parts[-1])
            self._is_awake = bool(parts)
            return (parts[0] if len(parts) == 1 else b"".join(parts)), self._has_ended


def call_soon(loop: asyncio.AbstractEventLoop, call: Callable[[], object]) -> None:
    """As `call_soon_threadsafe`, and nothing when the loop has ended: then nobody is left to be told."""
    try:
        loop.call_soon_threadsafe(call)
    except RuntimeError:
        return
