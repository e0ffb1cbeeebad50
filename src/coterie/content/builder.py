"""Builds manifests: splits lists of any length into nodes, bottom up, always in the same way."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import msgspec

from coterie.content import manifest
from coterie.content.manifest import Chunk, Entry, Page
from coterie.errors import LimitExceeded
from coterie.texts import tr

T = TypeVar("T")
Item = TypeVar("Item", Entry, Page)

NODE_HEADER_BYTES = 16  # array headers, tag and level take at most 12

Put = Callable[[bytes, bytes], None]
"""`put(node id, node bytes)` takes each node as it is made."""


class Built(msgspec.Struct, frozen=True):
    """The root of a finished blob or folder, with its totals."""

    id: bytes
    files: int
    size: int


def build_blob(chunks: Sequence[Chunk], put: Put) -> Built:
    """The manifest of a byte string with these chunks.

    Raises:
        LimitExceeded: more chunks than three levels hold.
    """
    width = manifest.BLOB_CHILDREN_MAX
    if len(chunks) > width ** (manifest.BLOB_LEVEL_MAX + 1):
        raise LimitExceeded(tr("a file of {chunks} chunks does not fit a manifest", chunks=len(chunks)))
    nodes: list[tuple[bytes, int]] = []
    for at in range(0, max(len(chunks), 1), width):
        part = list(chunks[at : at + width])
        node = _put(manifest.BlobLeaf(manifest.pack_chunks(part)), put)
        nodes.append((node, sum(size for _, size in part)))
    level = 0
    while len(nodes) > 1:
        level += 1
        above = []
        for group in _groups(nodes, width):
            packed = b"".join(manifest.CHILD.pack(*child) for child in group)
            above.append((_put(manifest.BlobIndex(level, packed), put), sum(size for _, size in group)))
        nodes = above
    return Built(nodes[0][0], 1, nodes[0][1])


def build_tree(entries: Iterable[Entry], put: Put) -> Built:
    """The manifest of a folder with these entries, in any order.

    Raises:
        LimitExceeded: more entries than three levels hold.
    """
    ordered = sorted(entries, key=lambda entry: entry.name)
    pages: list[Page] = []
    for part in _by_bytes(ordered):
        leaf = manifest.TreeLeaf(tuple(part))
        pages.append(Page(part[0].name if part else "", _put(leaf, put), *manifest.totals(leaf)))
    level = 0
    while len(pages) > 1:
        level += 1
        if level > manifest.TREE_LEVEL_MAX:
            raise LimitExceeded(
                tr("a folder of {ordered} entries does not fit a manifest", ordered=len(ordered))
            )
        above = []
        for group in _no_lone_last(list(_by_bytes(pages))):
            index = manifest.TreeIndex(level, tuple(group))
            above.append(Page(group[0].first, _put(index, put), *manifest.totals(index)))
        pages = above
    return Built(pages[0].node, pages[0].files, pages[0].size)


def _put(node: manifest.Node, put: Put) -> bytes:
    data = manifest.encode(node)
    name = manifest.node_id(data)
    put(name, data)
    return name


def _groups(nodes: list[tuple[bytes, int]], width: int) -> list[list[tuple[bytes, int]]]:
    return _no_lone_last([nodes[at : at + width] for at in range(0, len(nodes), width)])


def _no_lone_last(groups: list[list[T]]) -> list[list[T]]:
    """Gives a last group of one the last member of the group before: an index has at least two children."""
    if len(groups) > 1 and len(groups[-1]) == 1:
        groups[-1].insert(0, groups[-2].pop())
    return groups


def _by_bytes(items: Sequence[Item]) -> Iterator[list[Item]]:
    """Groups that fit a node by their number and their bytes; one empty group for no items."""
    room = manifest.MANIFEST_BYTES_MAX - NODE_HEADER_BYTES
    group: list[Item] = []
    used = 0
    for item in items:
        size = len(manifest.encode_entry(item))
        if group and (used + size > room or len(group) >= manifest.TREE_ENTRIES_MAX):
            yield group
            group, used = [], 0
        group.append(item)
        used += size
    if group or not items:
        yield group
