"""Walks through what a manifest describes: its files, and the chunks of one of them.

`load` gives the bytes of a node that this computer made or checked, or None when it is not here (yet); what lies below
such a node is left out.
"""

from collections.abc import Callable, Iterator

import msgspec
from blake3 import blake3

from coterie.content import manifest as m

Load = Callable[[bytes], bytes | None]
Names = Callable[[bytes], tuple[str, ...] | None]
Parts = tuple[str, ...]


class FileIn(msgspec.Struct, frozen=True):
    """A file in a tree, `parts` below its top; `node` has its chunks, among `entry`'s page or alone.

    `first` is the index of its first chunk in a page. A blob root is a file with no parts.
    """

    parts: Parts
    size: int
    node: bytes
    first: int = 0
    chunks: bytes = b""
    mtime_ns: int = 0

    @property
    def identity(self) -> bytes:
        """Names the bytes of the file: the same for the same content, whatever the file is called."""
        return (
            self.node if not self.parts or (self.size and not self.chunks) else content_of(self.chunks, b"")
        )


def content_of(chunks: bytes, blob: bytes) -> bytes:
    """`FileIn.identity` of an entry with these packed chunks or this blob."""
    return blob or blake3(chunks).digest()


class Stretch(msgspec.Struct, frozen=True):
    """Chunks of a file, side by side from `offset` on: those of `node` from index `first` on."""

    node: bytes
    first: int
    offset: int
    chunks: list[m.Chunk]


def files_in(load: Load, root: bytes, names: Names = lambda _: None) -> Iterator[FileIn]:
    """Every file that `root` describes, as far as its nodes are here; in the order of the tree, without recursion.

    `names` says what the entries of a page are called here, where that is not what the page says.
    """
    waiting: list[tuple[bytes, Parts]] = [(root, ())]
    while waiting:
        node_id, parts = waiting.pop()
        data = load(node_id)
        if data is None:
            continue
        node = m.decode_own(data)
        match node:
            case m.BlobLeaf() | m.BlobIndex():
                yield FileIn(parts, m.totals(node)[1], node_id)
            case m.TreeIndex():
                waiting += [(child.id, parts) for child in reversed(m.children(node))]
            case m.TreeLeaf():
                below: list[tuple[bytes, Parts]] = []
                for found in _page(node, node_id, parts, names(node_id)):
                    if isinstance(found, FileIn):
                        yield found
                    else:
                        below.append(found)
                waiting += reversed(below)


def _page(
    node: m.TreeLeaf, node_id: bytes, parts: Parts, names: Parts | None
) -> Iterator[FileIn | tuple[bytes, Parts]]:
    first = 0
    for entry, name in zip(node.entries, names or [e.name for e in node.entries], strict=True):
        match entry:
            case m.DirectoryEntry():
                yield entry.tree, (*parts, name)
            case m.FileEntry() if entry.blob:
                yield FileIn((*parts, name), entry.size, entry.blob, mtime_ns=entry.mtime_ns)
            case m.FileEntry():
                yield FileIn((*parts, name), entry.size, node_id, first, entry.chunks, entry.mtime_ns)
                first += len(entry.chunks) // m.CHUNK.size


def stretches(load: Load, file: FileIn) -> Iterator[Stretch]:
    """The chunks of a file in order, one stretch for each node that is here."""
    if file.parts and (file.chunks or not file.size):
        yield Stretch(file.node, file.first, 0, m.unpack_chunks(file.chunks))
        return
    waiting = [(file.node, 0)]
    while waiting:
        node_id, offset = waiting.pop()
        data = load(node_id)
        if data is None:
            continue
        node = m.decode(data)
        if isinstance(node, m.BlobIndex):
            below = []
            for child in m.children(node):
                below.append((child.id, offset))
                offset += child.size
            waiting += reversed(below)
        elif isinstance(node, m.BlobLeaf):
            yield Stretch(node_id, 0, offset, m.leaf_chunks(node))


def nodes_at(load: Load, file: FileIn, first: int, last: int) -> list[bytes]:
    """The leaves that hold bytes `first` to `last` (exclusive) of a large file, and are not here; in order."""
    missing: list[bytes] = []
    waiting = [(file.node, 0, file.size)]
    while waiting:
        node_id, offset, size = waiting.pop()
        if offset >= last or offset + size <= first:
            continue
        data = load(node_id)
        if data is None:
            missing.append(node_id)
            continue
        node = m.decode(data)
        if isinstance(node, m.BlobIndex):
            below = []
            for child in m.children(node):
                below.append((child.id, offset, child.size))
                offset += child.size
            waiting += reversed(below)
    return missing
