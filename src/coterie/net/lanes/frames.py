"""Frames out of one large buffer: read in place, hashed in place, written from there. Blocking, for one thread."""

from collections.abc import Callable, Iterator
from typing import Protocol

from coterie.errors import CloseCode, PeerError
from coterie.wire.frames import HEADER, LENGTH_BYTES

BUFFER_BYTES = 4 << 20  # guess: several chunks of the largest kind, and within a processor's cache
BATCH_BYTES = 1 << 20  # handed on at once if so much is there; guess: it stays within a processor's own cache


Place = Callable[[int, int], memoryview | None]
"""`place(kind, size)`: where the body of the next frame is to be put; None: in the buffer."""


class Source(Protocol):
    """Where bytes come from."""

    def read_into(self, view: memoryview, least: int, timeout_s: float | None) -> int:
        """What is there into `view`, at least one byte; 0 at the end. With less than `least` it is called again."""
        ...

    def unread(self, data: bytes) -> None:
        """Take back bytes that were read too far."""
        ...


class FrameBuffer:
    """Cuts what comes into frames. Bodies are views of the buffer, good until the next `fill`, or of another place."""

    def __init__(self, frame_bytes_max: int, size: int = BUFFER_BYTES) -> None:
        self._frame_bytes_max = frame_bytes_max
        self._buffer = bytearray(max(size, 2 * (LENGTH_BYTES + frame_bytes_max)))
        self._view = memoryview(self._buffer)
        self._start = self._end = 0
        self._body: memoryview | None = None  # of a frame that is put elsewhere
        self._body_kind = self._body_bytes = 0

    @property
    def pending_bytes(self) -> int:
        """Bytes that are here and were not taken: of a frame that is not whole yet, once all others were."""
        return self._end - self._start + (0 if self._body is None else HEADER.size + self._body_bytes)

    def fill(self, source: Source, timeout_s: float | None, place: Place | None = None) -> bool:
        """Read until there is a whole frame, and on while more is there at once; False at the end.

        With `place` no further than one frame, whose body is put there.

        Raises:
            PeerError: a frame that cannot be; TimeoutError and others as the source.
        """
        if self._body is None:
            self._make_room()
            if place is not None and not self._begin_body(source, timeout_s, place):
                return False
        if self._body is not None:
            return self._read_body(source, timeout_s, self._body)
        while not self._has_frame():
            missing = self._missing_bytes()
            end = self._end + missing
            if place is None:
                end = max(self._start + BATCH_BYTES, end)
            size = source.read_into(self._view[self._end : end], missing, timeout_s)
            if not size:
                return False
            self._end += size
        return True

    def frames(self) -> Iterator[tuple[int, memoryview]]:
        """Take the whole frames, as (kind, body), as far as the caller goes."""
        if self._body is not None and self._body_bytes == len(self._body):
            body, self._body = self._body, None
            yield self._body_kind, body
        while self._has_frame():
            at = self._start
            length, kind = HEADER.unpack_from(self._buffer, at)
            self._start = at + LENGTH_BYTES + length
            yield kind, self._view[at + HEADER.size : self._start]

    def take_rest(self) -> bytes:
        """What was read beyond the frames taken, for the source to have back."""
        rest = bytes(self._view[self._start : self._end])
        self._start = self._end = 0
        return rest

    def _begin_body(self, source: Source, timeout_s: float | None, place: Place) -> bool:
        """Read the header of a frame, if it is not here, and ask where its body goes; False at the end."""
        while self._end < HEADER.size:
            size = source.read_into(self._view[self._end : HEADER.size], HEADER.size - self._end, timeout_s)
            if not size:
                return False
            self._end += size
        if not self._has_frame():
            length, kind = HEADER.unpack_from(self._buffer, 0)
            self._body = place(kind, length - 1)
            if self._body is not None:
                here = self._view[HEADER.size : self._end]
                self._body[: len(here)] = here
                self._body_kind, self._body_bytes, self._end = kind, len(here), 0
        return True

    def _read_body(self, source: Source, timeout_s: float | None, body: memoryview) -> bool:
        """The rest of a frame into its place; False at the end."""
        while self._body_bytes < len(body):
            missing = len(body) - self._body_bytes
            size = source.read_into(body[self._body_bytes :], missing, timeout_s)
            if not size:
                return False
            self._body_bytes += size
        return True

    def _missing_bytes(self) -> int:
        """Of the frame that has begun, or of its header."""
        here = self._end - self._start
        if here < HEADER.size:
            return HEADER.size - here
        return (
            LENGTH_BYTES + int.from_bytes(self._view[self._start : self._start + LENGTH_BYTES], "big") - here
        )

    def _has_frame(self) -> bool:
        here = self._end - self._start
        if here < LENGTH_BYTES:
            return False
        length = int.from_bytes(self._view[self._start : self._start + LENGTH_BYTES], "big")
        if length < 1:
            raise PeerError("an empty frame")
        if length > self._frame_bytes_max:
            text = f"a frame of {length} bytes is over the limit of {self._frame_bytes_max}"
            raise PeerError(text, CloseCode.LIMIT)
        return here >= LENGTH_BYTES + length

    def _make_room(self) -> None:
        if self._start == self._end:
            self._start = self._end = 0
        elif self._start > 0:
            size = self._end - self._start
            self._view[:size] = bytes(self._view[self._start : self._end])
            self._start, self._end = 0, size
