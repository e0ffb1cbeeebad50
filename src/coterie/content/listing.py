"""The files of a shared tree or blob, one after the other, from its manifests alone. Pure: the caller reads them."""

from collections.abc import Callable, Iterator

from coterie.content import manifest as m
from coterie.errors import NotFound
from coterie.texts import tr

Parts = tuple[str, ...]


def list_files(root: bytes, read: Callable[[bytes], bytes | None]) -> Iterator[tuple[Parts, m.FileEntry]]:
    """Path and entry of every file below the tree `root`; nothing for a blob. `read` gives a node by its id.

    Raises:
        NotFound: a manifest is missing.
    """
    waiting: list[tuple[Parts, bytes]] = [((), root)]
    while waiting:
        above, node_id = waiting.pop()
        data = read(node_id)
        if data is None:
            raise NotFound(tr("no manifest {node_id} here", node_id=node_id.hex()[:16]))
        node = m.decode(data)
        if isinstance(node, m.TreeIndex):
            waiting += [(above, child.id) for child in reversed(m.children(node))]
        elif isinstance(node, m.TreeLeaf):
            for entry in node.entries:
                if isinstance(entry, m.FileEntry):
                    yield (*above, entry.name), entry
                elif isinstance(entry, m.DirectoryEntry):
                    waiting.append(((*above, entry.name), entry.tree))


def entries_of(tree: bytes, read: Callable[[bytes], bytes | None]) -> Iterator[m.Entry]:
    """Every entry of one folder. `read` gives a node by its id.

    Raises:
        NotFound: a manifest is missing.
    """
    waiting = [tree]
    while waiting:
        data = read(waiting.pop())
        if data is None:
            raise NotFound(tr("its description is no longer here: share it again"))
        node = m.decode(data)
        if isinstance(node, m.TreeLeaf):
            yield from node.entries
        else:
            waiting += [child.id for child in m.children(node)]
