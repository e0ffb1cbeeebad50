"""Reads chunks out of the files that hold them; nothing leaves before its hash was checked.

The hash alone decides: a file that was merely touched, moved back or restored still serves, one whose bytes
differ does not, whatever its size and times say. A symbolic link put in the place of a file, or of a folder above it,
is a change.
"""

import errno
import os
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec
from blake3 import blake3

from coterie.content.manifest import Chunk
from coterie.content.no_links import open_file
from coterie.wire.frames import FRAME_BYTES_MAX

READ_BYTES_MAX = FRAME_BYTES_MAX - 1  # at once; measured: with half of it, taking them is a fifth slower
READS_MIN = 8  # in which what is wanted is read; guess: on a slow path each soon is on its way
OPEN_FILES_MAX = 4  # guess: a request reads a file in order, or a few that share chunks

CHANGED = "changed after it was shared"
GONE = "gone"
UNREADABLE = "unreadable"
UNKNOWN = "not known here"

Location = tuple[int, int, int, int, bytes]
"""(number of the file, offset of the chunk, size of the chunk, size of the file, path)"""

Room = Callable[[int], memoryview]
"""`room(size)`: where so many bytes may be read to; they are good until it is called again."""


class ChunkUnavailable(msgspec.Struct, frozen=True):
    """A chunk that cannot be had; `path` is the file that should hold it, None when there is none."""

    path: Path | None
    reason: str


class ChunkReader:
    """Reads chunks for one request, keeping the last few large files open."""

    def __init__(
        self,
        other_places: Callable[[bytes, int], list[Location]],
        mark_changed: Callable[[int], None],
        room: Room | None = None,
    ) -> None:
        """`room`: where to read to; what is returned are views of it then."""
        self._room = room
        self._other_places = other_places
        self._mark_changed = mark_changed
        self._open: OrderedDict[int, int] = OrderedDict()

    def close(self) -> None:
        """Close every file."""
        while self._open:
            os.close(self._open.popitem()[1])

    def read(self, digest: bytes, size: int, place: Location | None) -> bytes | memoryview | ChunkUnavailable:
        """The verified bytes of one chunk from `place`, else from any other place."""
        if place is None or place[2] != size:
            return ChunkUnavailable(None, UNKNOWN)
        try:
            data = self._read_at(place)
            if blake3(data).digest() == digest:
                return data
            reason = CHANGED
        except OSError as error:
            reason = _reason(error)
        self._forget(place[0])
        self._mark_changed(place[0])
        for other in self._other_places(digest, place[0]):
            try:
                data = self._read_at(other)
            except OSError:
                self._mark_changed(other[0])
                continue
            if blake3(data).digest() == digest:
                return data
            self._forget(other[0])
            self._mark_changed(other[0])
        return ChunkUnavailable(Path(os.fsdecode(place[4])), reason)

    def read_all(
        self, chunks: Sequence[Chunk], places: Mapping[bytes, Location], most: int
    ) -> Iterator[bytes | memoryview | ChunkUnavailable]:
        """Each as `read` has it; what lies side by side is read at once, up to `most` bytes."""
        at = 0
        while at < len(chunks):
            end, size = _run_of(chunks, at, places, most)
            if end > at + 1:
                for data in self._read_run(chunks[at:end], places[chunks[at][0]], size):
                    yield data
                    at += 1
            if at < end:
                digest, chunk_bytes = chunks[at]
                yield self.read(digest, chunk_bytes, places.get(digest))
                at += 1

    def _read_run(self, chunks: Sequence[Chunk], first: Location, size: int) -> Iterator[memoryview]:
        """The verified bytes of chunks that lie one behind the other, as far as they are right."""
        number, offset, _, file_bytes, path = first
        try:
            data = memoryview(self._read_at((number, offset, size, file_bytes, path)))
        except OSError:
            return
        at = 0
        for digest, chunk_bytes in chunks:
            part = data[at : at + chunk_bytes]
            if blake3(part).digest() != digest:
                return
            yield part
            at += chunk_bytes

    def _read_at(self, place: Location) -> bytes | memoryview:
        number, offset, size, file_bytes, path = place
        if size == file_bytes:
            fd = open_file(path)
            try:
                return read_to(self._room, fd, offset, size)
            finally:
                os.close(fd)
        known = self._open.get(number)
        if known is None:
            known = self._open[number] = open_file(path)
            if len(self._open) > OPEN_FILES_MAX:
                os.close(self._open.popitem(last=False)[1])
        return read_to(self._room, known, offset, size)

    def _forget(self, number: int) -> None:
        fd = self._open.pop(number, None)
        if fd is not None:
            os.close(fd)


def _run_of(chunks: Sequence[Chunk], at: int, places: Mapping[bytes, Location], most: int) -> tuple[int, int]:
    """Which of the chunks from `at` on lie one behind the other in one file: (behind the last, bytes of them)."""
    digest, size = chunks[at]
    place = places.get(digest)
    if place is None or place[2] != size:
        return at + 1, size
    file, here = place[0], place[1] + size
    for end in range(at + 1, len(chunks)):
        digest, chunk_bytes = chunks[end]
        if size + chunk_bytes > most:
            return end, size
        place = places.get(digest)
        if place is None or place[:3] != (file, here, chunk_bytes):
            return end, size
        size += chunk_bytes
        here += chunk_bytes
    return len(chunks), size


def read_to(room: Room | None, fd: int, offset: int, size: int) -> bytes | memoryview:
    """`size` bytes of a file into the room, or anew without one; fewer at its end, and then the hash says so."""
    os.lseek(fd, offset, os.SEEK_SET)
    if room is None:
        return os.read(fd, size)
    place = room(size)
    if not hasattr(os, "readv"):  # Windows
        data = os.read(fd, size)
        place[: len(data)] = data
        return place[: len(data)]
    return place[: os.readv(fd, [place])]


def _reason(error: OSError) -> str:
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return GONE
    return CHANGED if error.errno in (errno.ELOOP, errno.EISDIR, errno.ESPIPE, errno.ENXIO) else UNREADABLE
