"""What is told together of what changed in a live folder. Blocking."""

from collections.abc import Callable

from coterie.apps.folders.messages import ENTRIES_BYTES_MAX, ENTRIES_MAX
from coterie.apps.folders.store import FolderData


def batch(
    data: FolderData,
    replica: bytes,
    first: int,
    form: Callable[[str, bytes], tuple[str, bytes] | None] = lambda path, body: (path, body),
    *,
    last: int = 0,
) -> tuple[int, list[tuple[str, bytes]]]:
    """What changed in `data` behind `first`, as `FolderBook.batch`; each (path, packed register) in its `form`.

    One without a form stays out. What others are to know outlives a power cut here: no number is given twice.
    `last`: no more than up to this number; 0: all.
    """
    done, entries = _read(data, replica, first, last or data.seq, form)
    if done > first:
        data.sync()
    return done, entries


def _read(
    data: FolderData,
    replica: bytes,
    first: int,
    top: int,
    form: Callable[[str, bytes], tuple[str, bytes] | None],
) -> tuple[int, list[tuple[str, bytes]]]:
    rows = data.since(first, ENTRIES_MAX, last=top, but_of=replica)
    entries: list[tuple[str, bytes]] = []
    done, size = first, 0
    for seq, path, body, _ in rows:
        if (entry := form(path, body)) is None:
            done = seq
            continue
        size += len(entry[0].encode()) + len(entry[1]) + 16
        if size > ENTRIES_BYTES_MAX:
            return done, entries
        entries.append(entry)
        done = seq
    return (done if len(rows) == ENTRIES_MAX else max(done, top)), entries
