"""Makes what was received known to the store, so that it can be given on, and need not be fetched twice."""

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from coterie.content import manifest as m
from coterie.content import no_links
from coterie.content.scan import date_of
from coterie.content.store import KnownFile, Store
from coterie.content.walk import FileIn, Load, Names, files_in, stretches

COMMIT_FILES_MAX = 10_000  # of one transaction, as an import's
COMMIT_CHUNKS_MAX = 20_000


FileHere = tuple[FileIn, os.stat_result | None]


def files_here(load: Load, root: bytes, path: Path, names: Names) -> Iterator[FileHere]:
    """Every file of `root`, which lies at `path`, with its status; None where there is none, or links lead to it.

    Blocks; no file is read.
    """
    real = Path(os.path.realpath(path.parent), path.name)
    folder: tuple[str, ...] | None = None
    fd: int | None = None
    try:
        for file in files_in(load, root, names):
            if not file.parts or fd is None or file.parts[:-1] != folder:
                if fd is not None:
                    os.close(fd)
                    fd = None
                folder = file.parts[:-1]
                try:
                    fd = no_links.open_folder(os.fsencode(real.joinpath(*folder))) if file.parts else None
                except OSError:
                    yield file, None
                    continue
            yield file, _status(real, file, fd)
    finally:
        if fd is not None:
            os.close(fd)


def _status(real: Path, file: FileIn, folder: int | None) -> os.stat_result | None:
    try:
        if folder is None:
            status = no_links.status(real.joinpath(*file.parts))
        else:
            status = os.stat(file.parts[-1], dir_fd=folder, follow_symlinks=False)
    except OSError:
        return None
    return status if stat.S_ISREG(status.st_mode) else None


def record_received(
    store: Store, root: bytes, path: Path, names: Names, is_stopped: Callable[[], bool] = lambda: False
) -> int:
    """Note where the chunks of `root` lie, which was received to `path` just now; returns how many files that are.

    Blocks; nothing is read but the files' sizes and times: each chunk is verified when it is used. What was
    received to `path` before is forgotten, unless it is pinned. Once it `is_stopped` no more are noted.
    """
    path = Path(os.path.realpath(path.parent), path.name)
    store.settle(root, path)
    waiting: list[KnownFile] = []
    count = chunks = 0
    for file, status in files_here(store.manifest, root, path, names):
        if is_stopped():
            break
        known = _known(store, file, path, status)
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


def _known(store: Store, file: FileIn, top: Path, status: os.stat_result | None) -> KnownFile | None:
    """The file as it is now; None when it is not there as it was sent (it could not be had, or was changed at once)."""
    if status is None or status.st_size != file.size:
        return None
    packed = file.chunks or b"".join(m.pack_chunks(part.chunks) for part in stretches(store.manifest, file))
    if sum(size for _, size in m.CHUNK.iter_unpack(packed)) != file.size:
        return None
    return KnownFile(
        os.path.join(top, *file.parts),
        status.st_size,
        date_of(status),
        status.st_ino & m.TOTAL_MAX,
        status.st_dev & m.TOTAL_MAX,
        packed,
    )
