"""Reads the chunks of a tree out of the folder where it lies, page by page, without asking the index for each file.

Where the pages of folders lie follows from where the top lies, as far as they were asked for from the top down. The
hash of each chunk decides, as in `reader`: what is not there as it was goes the way through the store, which knows
other places and notes the change. Blocking; safe from several threads.
"""

import os
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Sequence

from blake3 import blake3

from coterie.content import manifest as m
from coterie.content import no_links
from coterie.content.manifest import Chunk
from coterie.content.reader import READ_BYTES_MAX, READS_MIN, ChunkUnavailable, Room
from coterie.content.store import Store

NODES_MAX = 100_000  # whose place is remembered: about 30 MB; guess
PAGE_CHUNKS_MAX = 65_536  # of pages that are remembered: about 10 MB
PAGE_COST_CHUNKS = 32  # of one more page in it; guess
AHEAD_NODES_MAX = 256  # loaded together with the one above them; as many as are asked for at once
AHEAD_BYTES_MAX = 4 << 20  # of such, as far as can be foreseen
FILE_BYTES_LIKELY = 100  # of one file in a page, and of what else is in it; guess

READ_BYTES_LEAST = 64 << 10  # of a file at once, however little is wanted: most files are smaller


class _Page:
    """What a page of a folder says of its files, in order; `firsts` are the indexes of their first chunks."""

    __slots__ = ("chunks", "firsts", "folder", "names")

    def __init__(self, folder: bytes, node: m.TreeLeaf) -> None:
        self.folder = folder
        self.names: list[bytes] = []
        self.firsts: list[int] = []
        packed: list[bytes] = []
        count = 0
        for entry in node.entries:
            if type(entry) is m.FileEntry and entry.chunks:
                self.names.append(os.fsencode(entry.name))
                self.firsts.append(count)
                packed.append(entry.chunks)
                count += len(entry.chunks) // m.CHUNK.size
        self.chunks: list[Chunk] = m.unpack_chunks(b"".join(packed))


class TreeReader:
    """The tree `top`, which lies at the real path `path`."""

    def __init__(self, store: Store, top: bytes, path: bytes) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._where: dict[bytes, bytes] = {top: path}
        self._ahead: OrderedDict[bytes, bytes] = OrderedDict()
        self._ahead_bytes = 0
        self._pages: OrderedDict[bytes, _Page | None] = OrderedDict()
        self._pages_chunks = 0

    @classmethod
    def within(
        cls, store: Store, root: bytes, path: str, top: bytes, parts: Sequence[str]
    ) -> "TreeReader | None":
        """The folder `top`, which stands at `parts` in `root`; None where `root` is not known to lie at `path`."""
        real = os.fsencode(os.path.realpath(path))
        if real not in store.paths_of(root):
            return None
        return cls(store, top, os.path.join(real, *map(os.fsencode, parts)))

    def node(self, manifest: bytes) -> bytes | None:
        """The bytes of a node of the tree; None where it is not known to be one."""
        with self._lock:
            folder = self._where.get(manifest)
            data = self._ahead.pop(manifest, None)
            self._ahead_bytes -= len(data or b"")
        if folder is None:
            return None
        if data is None:
            data = self._store.manifest(manifest)
        if data is not None:
            self._learn(manifest, folder, data)
        return data

    def chunks(self, manifest: bytes) -> list[Chunk] | None:
        """The chunks that stand in a page; None where it is not known to be one. Do not change the list."""
        page = self._page(manifest)
        return page.chunks if page is not None else None

    def read(
        self, manifest: bytes, first: int, count: int, room: Room | None = None
    ) -> Iterator[bytes | memoryview | ChunkUnavailable]:
        """As `Store.read_chunks`, of a page of which `chunks` are known."""
        page = self._page(manifest)
        if page is None:
            return
        try:
            folder = no_links.open_folder(page.folder)
        except OSError:
            yield from self._store.read_chunks(page.chunks[first : first + count], room)
            return
        try:
            yield from self._read(page, folder, first, min(first + count, len(page.chunks)), room)
        finally:
            if folder is not None:
                os.close(folder)

    def _read(
        self, page: _Page, folder: int | None, first: int, end: int, room: Room | None
    ) -> Iterator[bytes | memoryview | ChunkUnavailable]:
        chunks = page.chunks
        wanted_bytes = sum(size for _, size in chunks[first:end])
        most = min(READ_BYTES_MAX, max(wanted_bytes // READS_MIN, READ_BYTES_LEAST))
        number = bisect_right(page.firsts, first) - 1
        while first < end:
            begin = page.firsts[number]
            last = page.firsts[number + 1] if number + 1 < len(page.firsts) else len(chunks)
            stop = min(last, end)
            offset = sum(size for _, size in chunks[begin:first])
            for data in self._read_file(page, folder, number, chunks[first:stop], offset, most, room):
                yield data
                first += 1
            if first < stop:
                yield from self._store.read_chunks(chunks[first:stop], room)
                first = stop
            number += 1

    def _read_file(
        self,
        page: _Page,
        folder: int | None,
        number: int,
        chunks: list[Chunk],
        offset: int,
        most: int,
        room: Room | None,
    ) -> Iterator[memoryview]:
        """Chunks that follow each other in a file, as far as they are right."""
        try:
            fd = no_links.open_in(folder, page.folder, page.names[number])
        except OSError:
            return
        try:
            at = 0
            while at < len(chunks):
                end, size = at + 1, chunks[at][1]
                while end < len(chunks) and size + chunks[end][1] <= most:
                    size += chunks[end][1]
                    end += 1
                data, begin = _read_at(fd, offset, size, room), 0
                for digest, chunk_bytes in chunks[at:end]:
                    part = data[begin : begin + chunk_bytes]
                    if blake3(part).digest() != digest:
                        return
                    yield part
                    begin += chunk_bytes
                at, offset = end, offset + size
        except OSError:
            return
        finally:
            os.close(fd)

    def _page(self, manifest: bytes) -> _Page | None:
        with self._lock:
            if manifest in self._pages:
                self._pages.move_to_end(manifest)
                return self._pages[manifest]
            folder = self._where.get(manifest)
        data = self._store.manifest(manifest) if folder is not None else None
        return self._learn(manifest, folder, data) if folder is not None and data is not None else None

    def _learn(self, manifest: bytes, folder: bytes, data: bytes) -> _Page | None:
        """Note where what a node names lies; it will be asked for soon."""
        node = m.decode_own(data)
        below: list[tuple[bytes, bytes, int]] = []
        page: _Page | None = None
        if isinstance(node, m.TreeIndex):
            below = [(one.node, folder, one.files) for one in node.pages]
        elif isinstance(node, m.TreeLeaf):
            page = _Page(folder, node)
            inside = folder.rstrip(b"/") + b"/"
            below = [
                (one.tree, inside + os.fsencode(one.name), one.files)
                for one in node.entries
                if type(one) is m.DirectoryEntry
            ]
        with self._lock:
            news = [one for one in below if one[0] not in self._where]
            for identity, path, _ in news[: max(NODES_MAX - len(self._where), 0)]:
                self._where[identity] = path
            if manifest not in self._pages:
                self._pages[manifest] = page
                self._pages_chunks += PAGE_COST_CHUNKS + (len(page.chunks) if page else 0)
            while self._pages_chunks > PAGE_CHUNKS_MAX and len(self._pages) > 1:
                _, old = self._pages.popitem(last=False)
                self._pages_chunks -= PAGE_COST_CHUNKS + (len(old.chunks) if old else 0)
        self._load_ahead([(identity, files) for identity, _, files in news])
        return page

    def _load_ahead(self, nodes: list[tuple[bytes, int]]) -> None:
        """Load nodes that are likely to have so many files."""
        wanted: list[bytes] = []
        room = AHEAD_BYTES_MAX
        for identity, files in nodes[:AHEAD_NODES_MAX]:
            room -= FILE_BYTES_LIKELY * (files + 1)
            if room < 0:
                break
            wanted.append(identity)
        if len(wanted) < 2:  # one by itself costs the same later
            return
        found = self._store.manifests(wanted)
        with self._lock:
            self._ahead.update(found)
            self._ahead_bytes += sum(map(len, found.values()))
            while self._ahead_bytes > AHEAD_BYTES_MAX:
                self._ahead_bytes -= len(self._ahead.popitem(last=False)[1])


def _read_at(fd: int, offset: int, size: int, room: Room | None) -> memoryview:
    """As `reader.read_to`, in one call of the system where it has one."""
    if room is None:
        os.lseek(fd, offset, os.SEEK_SET)
        return memoryview(os.read(fd, size))
    place = room(size)
    if hasattr(os, "preadv"):
        return place[: os.preadv(fd, [place], offset)]
    os.lseek(fd, offset, os.SEEK_SET)
    data = os.read(fd, size)
    place[: len(data)] = data
    return place[: len(data)]
