"""Manifests: the canonical description of a byte string (a blob) or of a folder (a tree).

A manifest is a tree of nodes. A node is one msgpack array of at most `MANIFEST_BYTES_MAX` bytes; its id is
the BLAKE3 hash of those bytes; the id of the root node is the content id. There is exactly one encoding of a
node, and `decode` refuses every other. docs/protocol/manifests.md has the format and a worked example.

`decode` answers for one node. What a parent says about a child is checked by `check_child`.
"""

import struct
from enum import IntEnum

import msgspec
from blake3 import blake3

from coterie.content.names import name_fault, target_fault
from coterie.decoding import decoder
from coterie.errors import CloseCode, PeerError, StorageError

ID_BYTES = 32
CHUNK_BYTES_MAX = 512 << 10  # four times the average chunk; half of the largest frame
MANIFEST_BYTES_MAX = 1_000_000  # below the largest frame (1 MiB) with room for its header
BLOB_CHILDREN_MAX = 8192  # 8,192 x 40 bytes = 328 KB a node; 1.3 GB of content under one leaf
BLOB_LEVEL_MAX = 2  # three levels: 8192^3 chunks of 160 KiB are 9 * 10^16 bytes
TREE_ENTRIES_MAX = 4096  # guess: a page of small files is about 350 KB
TREE_LEVEL_MAX = 2
INLINE_CHUNKS_MAX = (
    32  # twice what a small file is cut into: files up to about 5 MB need no node of their own
)
DEPTH_MAX = 128  # directories within each other; guess: ten times what people have
TOTAL_MAX = (1 << 63) - 1  # sizes and totals fit SQLite's and every language's signed 64 bits

CHUNK = struct.Struct(">32sI")
CHILD = struct.Struct(">32sQ")

Chunk = tuple[bytes, int]
"""(BLAKE3 hash, size in bytes)"""


class Kind(IntEnum):
    """What a root node describes. The numbers are those of `wire.ticket.TicketKind`."""

    BLOB = 1
    TREE = 2


class BlobLeaf(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Level 0 of a blob: the chunks in order, packed as hash (32 bytes) and size (u32, big-endian)."""

    chunks: bytes


class BlobIndex(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """Level 1 or 2 of a blob: two or more nodes of the level below, packed as id (32) and size (u64)."""

    level: int
    children: bytes


class FileEntry(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """A file: its packed `chunks`, or with over `INLINE_CHUNKS_MAX` of them their manifest, `blob`."""

    name: str
    executable: bool
    mtime_ns: int
    size: int
    chunks: bytes
    blob: bytes = b""


class DirectoryEntry(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """A folder: its tree, and how many files with how many bytes are in and under it."""

    name: str
    mtime_ns: int
    tree: bytes
    files: int
    size: int


class LinkEntry(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """A symbolic link with its text."""

    name: str
    target: str


Entry = FileEntry | DirectoryEntry | LinkEntry


class TreeLeaf(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """Level 0 of a folder: entries strictly in the order of their names' UTF-8 bytes."""

    entries: tuple[Entry, ...]


class Page(msgspec.Struct, frozen=True, array_like=True):
    """One node of the level below: the name of its first entry, its id, and the totals under it."""

    first: str
    node: bytes
    files: int
    size: int


class TreeIndex(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """Level 1 or 2 of a folder: two or more pages in order."""

    level: int
    pages: tuple[Page, ...]


Node = BlobLeaf | BlobIndex | TreeLeaf | TreeIndex

_ENCODER = msgspec.msgpack.Encoder()
_DECODER: msgspec.msgpack.Decoder[Node] = msgspec.msgpack.Decoder(Node)


class Child(msgspec.Struct, frozen=True):
    """What a node says about a node below it.

    `level` None: the root of a file's or a folder's own manifest. `first` and `before`: a page begins with
    the one name and all its names are less than the other.
    """

    id: bytes
    kind: Kind
    level: int | None
    files: int
    size: int
    first: str | None = None
    before: str | None = None


def node_id(data: bytes) -> bytes:
    """The id of the node with these bytes."""
    return blake3(data).digest()


def encode(node: Node) -> bytes:
    """The bytes of `node`. They are not checked: `builder` makes only what `decode` accepts."""
    return _ENCODER.encode(node)


def encode_entry(entry: Entry | Page) -> bytes:
    """The bytes that `entry` takes within a node."""
    return _ENCODER.encode(entry)


@decoder(PeerError, "a manifest")
def decode(data: bytes, expected_id: bytes | None = None) -> Node:
    """The node with these bytes, checked in full: nothing in it breaks a rule that one node can break.

    Raises:
        PeerError: not the node of `expected_id`, over a bound, malformed, or not in the one canonical form.
    """
    if len(data) > MANIFEST_BYTES_MAX:
        raise PeerError(f"a manifest of {len(data)} bytes is over {MANIFEST_BYTES_MAX}", CloseCode.LIMIT)
    if expected_id is not None and node_id(data) != expected_id:
        raise PeerError("a manifest does not have the hash that it was asked for by")
    node = _DECODER.decode(data)
    _check(node)
    if _ENCODER.encode(node) != data:
        raise PeerError("a manifest that is not in canonical form")
    return node


@decoder(StorageError, "a manifest that this computer keeps")
def decode_own(data: bytes) -> Node:
    """The node with these bytes, which this computer made, or checked before it kept them."""
    return _DECODER.decode(data)


def leaf_chunks(node: Node) -> list[Chunk]:
    """The chunks that stand in this node itself, in order; in a folder's page entry by entry.

    The transfer protocol asks for chunks by (node id, first index here, count).
    """
    match node:
        case BlobLeaf():
            return unpack_chunks(node.chunks)
        case TreeLeaf():
            return unpack_chunks(b"".join([e.chunks for e in node.entries if type(e) is FileEntry]))
        case _:
            return []


@decoder(PeerError, "a list of chunks")
def unpack_chunks(packed: bytes) -> list[Chunk]:
    """The (hash, size) pairs of a packed list."""
    return list(CHUNK.iter_unpack(packed))


def pack_chunks(chunks: list[Chunk]) -> bytes:
    """The packed list of these pairs."""
    pack = CHUNK.pack
    return b"".join([pack(digest, size) for digest, size in chunks])


def kind_of(node: Node) -> Kind:
    """Whether `node` belongs to a blob or a tree."""
    return Kind.BLOB if isinstance(node, BlobLeaf | BlobIndex) else Kind.TREE


def level_of(node: Node) -> int:
    """Levels below this node within its blob or folder; a leaf has none."""
    return node.level if isinstance(node, BlobIndex | TreeIndex) else 0


def totals(node: Node) -> tuple[int, int]:
    """(files, bytes) in and under `node`, as it says; a blob is one file."""
    match node:
        case BlobLeaf():
            return 1, sum(size for _, size in CHUNK.iter_unpack(node.chunks))
        case BlobIndex():
            return 1, sum(size for _, size in CHILD.iter_unpack(node.children))
        case TreeLeaf():
            files = size = 0
            for entry in node.entries:
                if type(entry) is FileEntry:
                    files += 1
                    size += entry.size
                elif type(entry) is DirectoryEntry:
                    files += entry.files
                    size += entry.size
            return files, size
        case TreeIndex():
            return sum(page.files for page in node.pages), sum(page.size for page in node.pages)


def children(node: Node, before: str | None = None) -> list[Child]:
    """Every node that `node` names, in order. `before`: that of the `Child` that `node` is."""
    match node:
        case BlobLeaf():
            return []
        case BlobIndex():
            below = node.level - 1
            return [Child(i, Kind.BLOB, below, 1, size) for i, size in CHILD.iter_unpack(node.children)]
        case TreeLeaf():
            found = (entry_child(entry) for entry in node.entries)
            return [child for child in found if child is not None]
        case TreeIndex():
            below = node.level - 1
            nexts = [*(page.first for page in node.pages[1:]), before]
            return [
                Child(p.node, Kind.TREE, below, p.files, p.size, p.first, following)
                for p, following in zip(node.pages, nexts, strict=True)
            ]


def entry_child(entry: Entry) -> Child | None:
    """The node that an entry names, if it names one."""
    if type(entry) is DirectoryEntry:
        return Child(entry.tree, Kind.TREE, None, entry.files, entry.size)
    if type(entry) is FileEntry and entry.blob:
        return Child(entry.blob, Kind.BLOB, None, 1, entry.size)
    return None


def check_child(child: Child, node: Node) -> None:
    """Raise `PeerError` unless `node`, which has the id of `child`, is what its parent says of it."""
    if kind_of(node) is not child.kind:
        raise PeerError(f"a lying manifest: a {child.kind.name.lower()} turns out to be something else")
    if child.level is not None and level_of(node) != child.level:
        raise PeerError("a lying manifest: a node of another level than its parent says")
    files, size = totals(node)
    if size != child.size or files != child.files:
        raise PeerError(
            f"a lying manifest: it announces {child.files} files of {child.size} bytes, "
            f"and describes {files} of {size}"
        )
    if child.first is not None and _first_name(node) != child.first:
        raise PeerError("a lying manifest: a page begins with another name than its parent says")
    if child.before is not None and _last_name(node) >= child.before:
        raise PeerError("a manifest whose names are not in order, or not unique")
    own_blob = child.kind is Kind.BLOB and child.level is None and isinstance(node, BlobLeaf)
    if own_blob and len(leaf_chunks(node)) <= INLINE_CHUNKS_MAX:
        raise PeerError(f"a manifest of its own for a file of at most {INLINE_CHUNKS_MAX} chunks")


def _first_name(node: Node) -> str | None:
    if isinstance(node, TreeLeaf):
        return node.entries[0].name if node.entries else None
    return node.pages[0].first if isinstance(node, TreeIndex) else None


def _last_name(node: Node) -> str:
    """The last name that this node itself shows."""
    if isinstance(node, TreeLeaf):
        return node.entries[-1].name if node.entries else ""
    return node.pages[-1].first if isinstance(node, TreeIndex) else ""


def _check(node: Node) -> None:
    match node:
        case BlobLeaf():
            _packed_size(node.chunks, CHUNK, BLOB_CHILDREN_MAX, CHUNK_BYTES_MAX)
        case BlobIndex():
            _check_level(node.level, BLOB_LEVEL_MAX, len(node.children) // CHILD.size)
            _packed_size(node.children, CHILD, BLOB_CHILDREN_MAX, TOTAL_MAX)
        case TreeLeaf():
            if len(node.entries) > TREE_ENTRIES_MAX:
                raise PeerError(f"a manifest page with over {TREE_ENTRIES_MAX} entries", CloseCode.LIMIT)
            _check_names([entry.name for entry in node.entries])
            for entry in node.entries:
                _check_entry(entry)
            _check_total(totals(node))
        case TreeIndex():
            if len(node.pages) > TREE_ENTRIES_MAX:
                raise PeerError(f"a manifest page with over {TREE_ENTRIES_MAX} pages", CloseCode.LIMIT)
            _check_level(node.level, TREE_LEVEL_MAX, len(node.pages))
            _check_names([page.first for page in node.pages])
            for page in node.pages:
                _check_id(page.node)
                _check_total((page.files, page.size))
            _check_total(totals(node))


def _check_entry(entry: Entry) -> None:
    match entry:
        case FileEntry():
            _check_file(entry)
        case DirectoryEntry():
            _check_time(entry.mtime_ns)
            _check_id(entry.tree)
            _check_total((entry.files, entry.size))
        case LinkEntry():
            fault = target_fault(entry.target)
            if fault:
                raise PeerError(f"a manifest with a symbolic link whose target {fault}")


def _check_file(entry: FileEntry) -> None:
    _check_time(entry.mtime_ns)
    _check_total((1, entry.size))
    if entry.blob:
        _check_id(entry.blob)
        if entry.chunks:
            raise PeerError("a manifest that gives the chunks of a file twice")
        if entry.size <= INLINE_CHUNKS_MAX:
            raise PeerError("a manifest of its own for a file of a few bytes")
    elif _packed_size(entry.chunks, CHUNK, INLINE_CHUNKS_MAX, CHUNK_BYTES_MAX) != entry.size:
        raise PeerError("a lying manifest: a file's chunks do not add up to its size")


def _check_names(names: list[str]) -> None:
    last = ""
    for name in names:
        fault = name_fault(name)
        if fault:
            raise PeerError(f"a manifest with a name that {fault}")
        if name <= last:  # code points sort as their UTF-8 bytes do
            raise PeerError("a manifest whose names are not in order, or not unique")
        last = name


def _check_level(level: int, level_max: int, count: int) -> None:
    if not 1 <= level <= level_max or count < 2:
        raise PeerError("a manifest index that is too deep, or has fewer than two children")


def _check_time(mtime_ns: int) -> None:
    if not -TOTAL_MAX - 1 <= mtime_ns <= TOTAL_MAX:
        raise PeerError("a manifest with a modification time beyond 64 bits")


def _check_id(value: bytes) -> None:
    if len(value) != ID_BYTES:
        raise PeerError(f"a manifest with an id of {len(value)} bytes")


def _check_total(counts: tuple[int, int]) -> None:
    if min(counts) < 0 or max(counts) > TOTAL_MAX:
        raise PeerError("a manifest with a size beyond 63 bits, or below zero")


def _packed_size(packed: bytes, form: struct.Struct, count_max: int, size_max: int) -> int:
    """The sum of the sizes in a packed list, each within 1..size_max."""
    if len(packed) % form.size:
        raise PeerError("a manifest with a broken list of chunks")
    if len(packed) > count_max * form.size:
        raise PeerError(f"a manifest with a list of over {count_max} chunks", CloseCode.LIMIT)
    total = 0
    for _, size in form.iter_unpack(packed):
        if not 1 <= size <= size_max:
            raise PeerError("a manifest with a chunk of an impossible size")
        total += size
    if total > TOTAL_MAX:
        raise PeerError("a manifest with a size beyond 63 bits")
    return total
