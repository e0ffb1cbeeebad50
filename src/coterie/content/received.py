"""Makes what was received known to the store, so that it can be given on, and need not be fetched twice."""

import os
import stat
from pathlib import Path

from coterie.content import manifest as m
from coterie.content import no_links
from coterie.content.scan import date_of
from coterie.content.store import KnownFile, Store
from coterie.content.walk import FileIn, Names, files_in, stretches

COMMIT_FILES_MAX = 10_000  # of one transaction, as an import's
COMMIT_CHUNKS_MAX = 20_000


def record_received(store: Store, root: bytes, path: Path, names: Names) -> int:
    """Note where the chunks of `root` lie, which was received to `path` just now; returns how many files that are.

    Blocks; nothing is read but the files' sizes and times: each chunk is verified when it is used. What was
    received to `path` before is forgotten, unless it is pinned.
    """
    path = Path(os.path.realpath(path.parent), path.name)
    store.settle(root, path)
    waiting: list[KnownFile] = []
    count = chunks = 0
    for file in files_in(store.manifest, root, names):
        known = _known(store, file, path.joinpath(*file.parts))
        if known is None:
            continue
        waiting.append(known)
        count += 1
        chunks += len(known.chunks) // m.CHUNK.size
        if len(waiting) >= COMMIT_FILES_MAX or chunks >= COMMIT_CHUNKS_MAX:
            store.add_locations(waiting)
            waiting, chunks = [], 0
    if waiting:
        store.add_locations(waiting)
    return count


def _known(store: Store, file: FileIn, path: Path) -> KnownFile | None:
    """The file as it is now; None when it is not there as it was sent (it could not be had, or was changed at once)."""
    try:
        status = no_links.status(path)
    except OSError:
        return None
    if not stat.S_ISREG(status.st_mode) or status.st_size != file.size:
        return None
    packed = file.chunks or b"".join(m.pack_chunks(part.chunks) for part in stretches(store.manifest, file))
    if sum(size for _, size in m.CHUNK.iter_unpack(packed)) != file.size:
        return None
    return KnownFile(
        os.fspath(path),
        status.st_size,
        date_of(status),
        status.st_ino & m.TOTAL_MAX,
        status.st_dev & m.TOTAL_MAX,
        packed,
    )
