"""Whether everything of a content is still on this computer: each chunk in a file as large as when it was read."""

import os
import threading

from coterie.content import manifest as m
from coterie.content.store import Store

CHUNKS_AT_ONCE = 400  # as many as one query of the store asks for


def is_whole(store: Store, root: bytes, stop: threading.Event, *, beside: bytes = b"") -> bool:
    """Look for every chunk below `root`, by the sizes of files only; False also when `stop` was set. Blocking.

    What is also in `beside`, a root that was taken in just now, is here.
    """
    seen, waiting = {root} | (store.nodes_of(beside) if beside else set()), [root]
    sizes: dict[bytes, int] = {}  # of files, by path
    while waiting:
        data = None if stop.is_set() else store.manifest(waiting.pop())
        if data is None:
            return False
        node = m.decode(data)
        digests = [digest for digest, _ in m.leaf_chunks(node)]
        for at in range(0, len(digests), CHUNKS_AT_ONCE):
            part = set(digests[at : at + CHUNKS_AT_ONCE])
            places = store.places(list(part))
            if len(places) < len(part) or any(
                _size(path, sizes) != size for *_, size, path in places.values()
            ):
                return False
        below = [child.id for child in m.children(node) if child.id not in seen]
        seen.update(below)
        waiting += below
    return True


def _size(path: bytes, sizes: dict[bytes, int]) -> int:
    """Of the file at `path`; -1: there is none."""
    if path not in sizes:
        try:
            sizes[path] = os.lstat(path).st_size
        except OSError:
            sizes[path] = -1
    return sizes[path]
