"""Finding one's way in the manifests of a shared folder: lists and single entries, without reading more than needed."""

from collections.abc import Callable, Iterator, Sequence

import msgspec

from coterie.content import manifest as m
from coterie.errors import LimitExceeded, NotFound
from coterie.texts import tr

Read = Callable[[bytes], bytes | None]
"""The bytes of a manifest node, by id."""

NODES_MAX = 100_000  # of one folder that is granted alone: 3 MB of ids, a second of reading


class Found(msgspec.Struct, frozen=True):
    """What is at a path: a blob or a tree by its content id, with what is known of it.

    `leaf`: the bytes of the blob's manifest where nobody stores it: those of small files stand in their folder's.
    """

    kind: m.Kind
    id: bytes
    name: str
    files: int
    size: int
    mtime_ns: int = 0
    executable: bool = False
    leaf: bytes = b""


def entry_at(read: Read, tree: bytes, parts: Sequence[str]) -> Found:
    """What is at `parts` (at least one) within the folder `tree`.

    Raises:
        NotFound: nothing, or a symbolic link.
    """
    for part in parts[:-1]:
        entry = _entry(read, tree, part)
        if not isinstance(entry, m.DirectoryEntry):
            raise NotFound(tr("there is no folder {part}", part=part))
        tree = entry.tree
    entry = _entry(read, tree, parts[-1])
    match entry:
        case m.DirectoryEntry():
            return Found(m.Kind.TREE, entry.tree, entry.name, entry.files, entry.size, entry.mtime_ns)
        case m.FileEntry():
            leaf = b"" if entry.blob else m.encode(m.BlobLeaf(entry.chunks))
            identity = entry.blob or m.node_id(leaf)
            return Found(
                m.Kind.BLOB, identity, entry.name, 1, entry.size, entry.mtime_ns, entry.executable, leaf
            )
    raise NotFound(tr("there is no {parts}", parts=parts[-1]))


def entries_after(read: Read, tree: bytes, after: str, count: int) -> list[m.Entry]:
    """Up to `count` entries of the folder `tree` whose names come after `after`, in order."""
    found: list[m.Entry] = []
    for leaf in _leaves(read, tree, after):
        found += [entry for entry in leaf.entries if entry.name > after or not after]
        if len(found) >= count:
            break
    return found[:count]


def everything_under(read: Read, top: bytes) -> frozenset[bytes]:
    """The ids of all nodes at and below `top`. Raises `LimitExceeded` over NODES_MAX."""
    known, waiting = {top}, [top]
    while waiting:
        for child in m.children(_node(read, waiting.pop())):
            if child.id not in known:
                known.add(child.id)
                waiting.append(child.id)
        if len(known) > NODES_MAX:
            raise LimitExceeded(
                tr("over {nodes_max} folders and large files: share it by itself", nodes_max=NODES_MAX)
            )
    return frozenset(known)


def _entry(read: Read, tree: bytes, name: str) -> m.Entry | None:
    """The entry `name` of a folder: through its pages only where it can be."""
    node = _node(read, tree)
    while isinstance(node, m.TreeIndex):
        before = [page for page in node.pages if page.first <= name]
        if not before:
            return None
        node = _node(read, before[-1].node)
    entries = node.entries if isinstance(node, m.TreeLeaf) else ()
    return next((entry for entry in entries if entry.name == name), None)


def _leaves(read: Read, tree: bytes, after: str) -> Iterator[m.TreeLeaf]:
    """The pages of a folder from the one on in which `after` would stand."""
    node = _node(read, tree)
    if isinstance(node, m.TreeLeaf):
        yield node
    elif isinstance(node, m.TreeIndex):
        nexts = [*(page.first for page in node.pages[1:]), None]
        for page, following in zip(node.pages, nexts, strict=True):
            if following is None or following > after:
                yield from _leaves(read, page.node, after)


def _node(read: Read, identity: bytes) -> m.Node:
    data = read(identity)
    if data is None:
        raise NotFound(tr("its description is no longer here"))
    return m.decode(data)
