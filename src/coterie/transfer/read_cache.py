"""What was read of others' files: on disk, by content id, bounded; what was read longest ago goes first.

A file of the cache holds up to SEGMENT_CHUNKS neighbouring chunks of one content. Nothing is believed of what lies
there: each chunk is hashed whenever it is read, so there is no index that could be wrong. Blocking; for any thread.
"""

import contextlib
import os
import threading
from bisect import bisect_right
from collections import OrderedDict
from itertools import accumulate
from pathlib import Path

from blake3 import blake3

from coterie.content.manifest import Chunk
from coterie.errors import StorageError
from coterie.texts import tr

SEGMENT_CHUNKS = 32  # 4 MiB on average, 16 at most
CACHE_BYTES = 2_000_000_000  # guess: a film, or the photos of a year


class Leaf:
    """Neighbouring chunks of one content as one node of its manifest lists them.

    Fields:
        content: id of the content.
        node: id of the node that lists the chunks, from its index `first` on.
        listed: all chunks of that node, of which the first i have `ends[i]` bytes.
        starts: where in the content each chunk of the leaf begins, and where the last ends.
    """

    __slots__ = ("chunks", "content", "ends", "first", "listed", "name", "node", "starts")

    def __init__(
        self, content: bytes, node: bytes, listed: list[Chunk], first: int, count: int, offset: int
    ) -> None:
        self.content, self.node, self.first, self.listed = content, node, first, listed
        self.ends = [0, *accumulate([size for _, size in listed])]
        self.chunks = listed[first : first + count]
        self.name = f"{content.hex()}/{offset:x}"
        self.starts = [offset]
        for _, size in self.chunks:
            self.starts.append(self.starts[-1] + size)

    def chunk_at(self, offset: int) -> int:
        """Which chunk of it has this byte of the content."""
        return bisect_right(self.starts, offset) - 1


class ReadCache:
    """The one of a node."""

    def __init__(self, folder: Path, bytes_max: int = CACHE_BYTES) -> None:
        """Nothing is touched before something is read."""
        self._folder = folder
        self._bytes_max = bytes_max
        self._lock = threading.Lock()
        self._segments: OrderedDict[str, tuple[int, int]] = (
            OrderedDict()
        )  # which chunks (bits), how many bytes
        self._found: OrderedDict[str, int] = OrderedDict()  # left by an earlier run, and not looked into yet
        self._used = 0
        self._is_listed = False

    def has(self, leaf: Leaf, index: int) -> bool | None:
        """Whether this chunk is here; None: it has to be looked for (`learn`)."""
        name = _segment(leaf, index)
        with self._lock:
            if (known := self._segments.get(name)) is not None:
                return bool(known[0] >> index % SEGMENT_CHUNKS & 1)
            return None if not self._is_listed or name in self._found else False

    def learn(self, leaf: Leaf, index: int) -> None:
        """Look which chunks around this one an earlier run has left."""
        self._list()
        name = _segment(leaf, index)
        with self._lock:
            if (left := self._found.pop(name, None)) is None:
                return
            self._used -= left
        first = index - index % SEGMENT_CHUNKS
        mask = size = 0
        with contextlib.suppress(OSError):
            raw = (self._folder / name).read_bytes()
            for at, (digest, chunk_bytes) in enumerate(leaf.chunks[first : first + SEGMENT_CHUNKS]):
                begin = leaf.starts[first + at] - leaf.starts[first]
                if blake3(raw[begin : begin + chunk_bytes]).digest() == digest:
                    mask |= 1 << at
                    size += chunk_bytes
        with self._lock:
            self._segments[name] = mask, size
            self._used += size

    def put(self, leaf: Leaf, index: int, data: bytes | memoryview) -> None:
        """Keep one chunk, which was verified. Raises `StorageError`: the disk."""
        name, first = _segment(leaf, index), index - index % SEGMENT_CHUNKS
        path = self._folder / name
        self._list()
        try:
            fd = self._open(path)
            try:
                os.lseek(fd, leaf.starts[index] - leaf.starts[first], os.SEEK_SET)
                _write_all(fd, data)
            finally:
                os.close(fd)
        except OSError as error:
            raise StorageError(
                tr("what is read cannot be kept in {path}: {strerror}", path=path, strerror=error.strerror)
            ) from error
        with self._lock:
            self._used -= self._found.pop(name, 0)
            mask, size = self._segments.get(name, (0, 0))
            bit = 1 << index - first
            if not mask & bit:
                size += len(data)
                self._used += len(data)
            self._segments[name] = mask | bit, size
            self._segments.move_to_end(name)
        self._make_room(name)

    def get(self, leaf: Leaf, first: int, last: int) -> bytes | None:
        """The chunks `first` to `last` (exclusive), each checked; None where one of them is not here (any more)."""
        parts: list[bytes] = []
        at = first
        while at < last:
            begin = at - at % SEGMENT_CHUNKS
            end = min(last, begin + SEGMENT_CHUNKS)
            data = self._read(leaf, at, end)
            if data is None:
                return None
            parts.append(data)
            at = end
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _read(self, leaf: Leaf, first: int, last: int) -> bytes | None:
        """As `get`, of one segment."""
        name, begin = _segment(leaf, first), leaf.starts[first - first % SEGMENT_CHUNKS]
        with self._lock:
            if name in self._segments:
                self._segments.move_to_end(name)
        try:
            with open(self._folder / name, "rb", buffering=0) as file:
                file.seek(leaf.starts[first] - begin)
                data = file.read(leaf.starts[last] - leaf.starts[first])
        except OSError:
            self._forget(name)
            return None
        view = memoryview(data)
        for index in range(first, last):
            at = leaf.starts[index] - leaf.starts[first]
            digest, size = leaf.chunks[index]
            if blake3(view[at : at + size]).digest() != digest:
                self._forget(name)
                return None
        return data

    def _forget(self, name: str) -> None:
        """Something of it is not as it should be: all of it is to come again."""
        with self._lock:
            _, size = self._segments.pop(name, (0, 0))
            self._used -= size + self._found.pop(name, 0)
        (self._folder / name).unlink(missing_ok=True)

    def _make_room(self, kept: str) -> None:
        """Remove what was read longest ago, but for the segment `kept`."""
        while True:
            with self._lock:
                if self._used <= self._bytes_max:
                    return
                oldest = next(iter(self._found or self._segments))
                if oldest == kept and not self._found:
                    return
            self._forget(oldest)
            with contextlib.suppress(OSError):
                (self._folder / oldest).parent.rmdir()  # where it was the last of its content

    @staticmethod
    def _open(path: Path) -> int:
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
        while True:
            try:
                return os.open(path, flags, 0o600)
            except FileNotFoundError:
                path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)

    def _list(self) -> None:
        """Note what an earlier run has left, the oldest first."""
        with self._lock:
            if self._is_listed:
                return
            left: list[tuple[int, str, int]] = []
            with contextlib.suppress(OSError):
                for path in self._folder.glob("*/*"):
                    status = path.stat()
                    left.append((status.st_mtime_ns, f"{path.parent.name}/{path.name}", status.st_size))
            for _, name, size in sorted(left):
                self._found[name] = size
                self._used += size
            self._is_listed = True


def _segment(leaf: Leaf, index: int) -> str:
    return f"{leaf.name}-{index // SEGMENT_CHUNKS}"


def _write_all(fd: int, data: bytes | memoryview) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
