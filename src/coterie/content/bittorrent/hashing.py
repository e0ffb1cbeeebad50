"""Reads files for a torrent: the hashes of all their pieces, on all cores. Blocks: call it in a thread."""

import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from hashlib import sha1, sha256
from io import FileIO
from pathlib import Path

from coterie.content.bittorrent.torrent_file import (
    BLOCK_BYTES,
    PieceHashes,
    TorrentEntry,
    block_width,
    merkle_root,
)
from coterie.content.no_links import open_file
from coterie.errors import CoterieError, StorageError
from coterie.texts import tr

WORKERS_MAX = 8  # guess: hashing at 0.7 GB/s each, the disk is the limit before that
AHEAD_BYTES_MAX = 64 << 20  # of pieces in memory, beside two for each worker


class HashingCancelled(CoterieError):
    """It was cancelled."""

    code = "cancelled"


Place = tuple[int, int, int, bool]
"""(file, offset, bytes, whether zeros up to the size of a piece count)"""


def hash_files(
    top: Path,
    entries: Sequence[TorrentEntry],
    piece: int,
    *,
    is_folder: bool,
    progress: Callable[[int], None] | None = None,
    cancel: threading.Event | None = None,
) -> list[list[PieceHashes]]:
    """The pieces of each entry, which lies below `top` (for a single file: is `top`), a path without symbolic links.

    `progress` gets bytes done.

    Raises:
        StorageError: a file cannot be read, or is not as long as its entry says.
        HashingCancelled: `cancel` was set.
    """
    workers = min(WORKERS_MAX, os.cpu_count() or 1)
    ahead_max = 2 * workers + AHEAD_BYTES_MAX // piece
    found: list[list[PieceHashes]] = [[] for _ in entries]
    waiting: deque[tuple[int, int, Future[PieceHashes]]] = deque()
    done = 0

    def take() -> None:
        nonlocal done
        at, size, future = waiting.popleft()
        found[at].append(future.result())
        done += size
        if progress is not None:
            progress(done)

    pool = ThreadPoolExecutor(workers, "coterie-hash")
    try:
        with closing(_pieces(top, entries, piece, is_folder=is_folder)) as pieces:
            for place, data in pieces:
                if cancel is not None and cancel.is_set():
                    raise HashingCancelled(tr("stopped before the torrent was made"))
                at, _, size, padded = place
                width = block_width(entries[at].size, piece)
                work = pool.submit(_hash, data, piece - size if padded else 0, width)
                waiting.append((at, size, work))
                if len(waiting) > ahead_max:
                    take()
        while waiting:
            take()
    finally:
        pool.shutdown(cancel_futures=True)
    return found


def _pieces(
    top: Path, entries: Sequence[TorrentEntry], piece: int, *, is_folder: bool
) -> Generator[tuple[Place, bytes], None, None]:
    """Every piece with its bytes, in order. Padding counts in all files but the last that has bytes."""
    last = max((at for at, entry in enumerate(entries) if entry.size), default=0)
    for at, entry in enumerate(entries):
        path = top.joinpath(*entry.path) if is_folder else top
        try:
            with FileIO(open_file(path), "rb") as file:
                with suppress(AttributeError, OSError):
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
                if os.fstat(file.fileno()).st_size != entry.size:
                    raise StorageError(tr("{path} changed after it was shared: share it again", path=path))
                for offset in range(0, entry.size, piece):
                    size = min(piece, entry.size - offset)
                    data = _read(file, size)
                    if len(data) != size:
                        raise StorageError(tr("{path} changed while it was read: share it again", path=path))
                    yield (at, offset, size, at < last), data
        except OSError as error:
            raise StorageError(
                tr("cannot read {path}: {strerror}", path=path, strerror=error.strerror)
            ) from error


def _read(file: FileIO, size: int) -> bytes:
    data = bytearray(size)
    view, there = memoryview(data), 0
    while there < size and (count := file.readinto(view[there:])):
        there += count
    return bytes(view[:there])


def _hash(data: bytes, padding: int, width: int) -> PieceHashes:
    """Both hashes of one piece."""
    whole = sha1(data, usedforsecurity=False)
    if padding:
        whole.update(bytes(padding))
    view = memoryview(data)
    blocks = [sha256(view[at : at + BLOCK_BYTES]).digest() for at in range(0, len(data), BLOCK_BYTES)]
    return PieceHashes(whole.digest(), merkle_root(blocks, width))
