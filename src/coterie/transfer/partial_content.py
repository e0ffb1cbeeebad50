"""Gives to others what this download has so far: reads verified chunks out of the staging area, or the result.

The manifests are in the store; here stands where the chunks of each lie. Blocking; safe from several threads.
"""

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
from blake3 import blake3

from coterie.content import Store
from coterie.content import manifest as m
from coterie.content.no_links import open_file
from coterie.content.reader import Room, read_to
from coterie.content.received import FileHere, files_here
from coterie.content.walk import FileIn, files_in

NODES_MAX = 100_000  # of one download that others can have chunks of: about 30 MB; guess
STORED_MAX = 100_000  # nodes that are known to be in the store: about 10 MB; guess
FRESH_MAX = 256  # nodes written to the store together; guess: a page of a few files has 1 KB
FLUSH_S = 0.2  # guess: what a killed receiver fetches again of nodes is what came in so long
PLACES_CACHED_MAX = 16  # decoded nodes: a full one takes about 2 MB

Parts = tuple[str, ...]


class Where(msgspec.Struct, frozen=True):
    """Where the chunks of a node lie.

    Of a blob leaf: in the file `parts` from `offset` on. Of a page: in the files of the folder `parts`, called `names`
    where they are not called as in the page.
    """

    parts: Parts
    offset: int = 0
    names: tuple[str, ...] | None = None


class Staged:
    """What is there of one download."""

    def __init__(self, store: Store, root: bytes) -> None:
        self._store = store
        self._root = root
        self._base: Path | None = None
        self._where: dict[bytes, Where] = {}
        self._withheld: dict[bytes, int] = {}  # chunks by node, as bits
        self._cache: OrderedDict[bytes, list[tuple[Path, int, m.Chunk]]] = OrderedDict()
        self._fresh: dict[bytes, bytes] = {}  # nodes that are not in the store yet
        self._flushed_at = 0.0
        self._stored: set[bytes] = set()  # as far as is remembered
        self._lock = threading.Lock()

    def keep(self, manifest: bytes, data: bytes) -> None:
        """A node that was checked is here; the store gets it now or a little later. Errors as `flush`."""
        if manifest in self._stored:  # a tree may name one node many times
            return
        self._fresh[manifest] = data
        if len(self._stored) < STORED_MAX:
            self._stored.add(manifest)
        if len(self._fresh) >= FRESH_MAX or time.monotonic() >= self._flushed_at + FLUSH_S:
            self.flush()

    def flush(self) -> None:
        """Every node that is here is in the store then.

        Raises:
            NotFound: the content was forgotten meanwhile.
            StorageError: the store.
        """
        if fresh := list(self._fresh.items()):
            self._store.put_manifests(self._root, fresh)
            with self._lock:
                self._fresh.clear()
        self._flushed_at = time.monotonic()

    def lies_at(self, base: Path) -> None:
        """From now on everything lies at or below `base`."""
        with self._lock:
            self._base = Path(os.path.realpath(base.parent), base.name)
            self._cache.clear()

    def note(self, manifest: bytes, where: Where) -> None:
        """The chunks of this node belong there; of a node with several places the first is enough."""
        if len(self._where) < NODES_MAX:
            self._where.setdefault(manifest, where)

    def withhold(self, manifest: bytes, chunks: Sequence[int]) -> None:
        """These chunks of a node, by index, did not come for this content: nobody gets them from here."""
        if (
            len(self._withheld) < NODES_MAX or manifest in self._withheld
        ):  # any more nodes were not noted either
            for index in chunks:
                self._withheld[manifest] = self._withheld.get(manifest, 0) | 1 << index

    def names(self, manifest: bytes) -> tuple[str, ...] | None:
        """What the entries of a page are called here; None: as in the page."""
        where = self._where.get(manifest)
        return where.names if where else None

    def files(self, mtime_ns: int) -> Iterator[FileIn]:
        """Every file of the content by the names that it has here; `mtime_ns` is that of a single file."""
        for file in files_in(self._load, self._root, self.names):
            yield file if file.parts else msgspec.structs.replace(file, mtime_ns=mtime_ns)

    def files_at(self, path: Path, mtime_ns: int) -> Iterator[FileHere]:
        """The same, each with its status below `path`, where all of it is now (see `received.files_here`)."""
        for file, status in files_here(self._load, self._root, path, self.names):
            yield (file if file.parts else msgspec.structs.replace(file, mtime_ns=mtime_ns)), status

    def node(self, manifest: bytes) -> bytes | None:
        """The bytes of a manifest node of this content, None when it is not here (yet)."""
        if manifest not in self._stored and not self._store.in_root(self._root, manifest):
            return None
        return self._load(manifest)

    def _load(self, manifest: bytes) -> bytes | None:
        return self._fresh.get(manifest) or self._store.manifest(manifest)

    def sizes(self, manifest: bytes) -> list[int]:
        """The sizes of the chunks that stand in this node; [] when it is not here (yet)."""
        return [size for _, _, (_, size) in self._places(manifest)]

    def give(
        self, manifest: bytes, first: int, count: int, room: Room | None = None
    ) -> Iterator[bytes | memoryview | None]:
        """As `read`, for others: what is withheld is not here."""
        for index, data in enumerate(self.read(manifest, first, count, room), first):
            # asked after it was read: what is withheld is so before it is there
            yield None if self._withheld.get(manifest, 0) >> index & 1 else data

    def read(
        self, manifest: bytes, first: int, count: int, room: Room | None = None
    ) -> Iterator[bytes | memoryview | None]:
        """The chunks from `first` on, each verified; None in place of one that is not here (yet). For this computer."""
        opened: tuple[Path, int] | None = None
        try:
            for path, offset, chunk in self._places(manifest)[first : first + count]:
                if opened is None or opened[0] != path:
                    if opened is not None:
                        os.close(opened[1])
                    opened = None
                    try:
                        opened = path, open_file(path)
                    except OSError:
                        yield None
                        continue
                yield _verified(opened[1], offset, chunk, room)
        finally:
            if opened is not None:
                os.close(opened[1])

    def _places(self, manifest: bytes) -> Sequence[tuple[Path, int, m.Chunk]]:
        with self._lock:
            known = self._cache.get(manifest)
            if known is not None:
                self._cache.move_to_end(manifest)
                return known
            where, base = self._where.get(manifest), self._base
        data = self.node(manifest) if where is not None else None
        if where is None or base is None or data is None:
            return ()
        places = _places_of(m.decode(data), where, base)
        with self._lock:
            if base == self._base:
                self._cache[manifest] = places
                while len(self._cache) > PLACES_CACHED_MAX:
                    self._cache.popitem(last=False)
        return places


def _places_of(node: m.Node, where: Where, base: Path) -> list[tuple[Path, int, m.Chunk]]:
    folder = base.joinpath(*where.parts)
    places: list[tuple[Path, int, m.Chunk]] = []
    if isinstance(node, m.BlobLeaf):
        at = where.offset
        for chunk in m.leaf_chunks(node):
            places.append((folder, at, chunk))
            at += chunk[1]
    elif isinstance(node, m.TreeLeaf):
        names = where.names or tuple(entry.name for entry in node.entries)
        for entry, name in zip(node.entries, names, strict=True):
            if isinstance(entry, m.FileEntry) and entry.chunks:
                at = 0
                for chunk in m.unpack_chunks(entry.chunks):
                    places.append((folder / name, at, chunk))
                    at += chunk[1]
    return places


def _verified(fd: int, offset: int, chunk: m.Chunk, room: Room | None) -> bytes | memoryview | None:
    digest, size = chunk
    try:
        data = read_to(room, fd, offset, size)
    except OSError:
        return None
    return data if blake3(data).digest() == digest else None
