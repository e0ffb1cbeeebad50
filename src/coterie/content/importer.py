"""Takes a file or folder into the store: reads it on all cores, makes its manifest, leaves it where it is."""

import os
import stat
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import msgspec

from coterie.content import manifest as manifests
from coterie.content.hashing import read_files
from coterie.content.importer_trees import Trees
from coterie.content.manifest import Kind
from coterie.content.names import name_fault
from coterie.content.scan import FoundFile, Skipped, date_of, found_file, scan
from coterie.content.seen import Forgotten, Look
from coterie.content.store import KnownFile, Store
from coterie.errors import CoterieError, NotFound, StorageError, UsageError
from coterie.texts import tr

WORKERS_MAX = 16  # guess: beyond it the disk is the limit; each has a buffer of 4 MiB
PROGRESS_INTERVAL_S = 0.1
LOOKUP_FILES = 400  # looked up at once, to see what need not be read
COMMIT_FILES_MAX = (
    10_000  # of one transaction; measured: with 2,000 an import of small files takes a quarter longer
)
COMMIT_CHUNKS_MAX = 20_000
SKIPPED_MAX = 10_000  # reported one by one; more are counted only


class ImportCancelled(CoterieError):
    """The import was cancelled. What was read so far need not be read again next time."""

    code = "cancelled"


class ImportProgress(msgspec.Struct, frozen=True):
    """How far an import is. Totals are final once `scanned`."""

    scanned: bool
    files: int
    bytes: int
    files_total: int
    bytes_total: int
    path: str


class Imported(msgspec.Struct, frozen=True):
    """A finished import. `mtime_ns` and `executable` are those of a single file, or of the folder itself."""

    root: bytes
    kind: Kind
    name: str
    files: int
    bytes: int
    skipped: list[Skipped]
    skipped_more: int
    bytes_read: int
    mtime_ns: int
    executable: bool


Report = Callable[[ImportProgress], None]


def import_path(
    store: Store,
    path: str | os.PathLike[str],
    *,
    progress: Report | None = None,
    cancel: threading.Event | None = None,
    workers: int | None = None,
    exclude: Sequence[Path] = (),
    reread: bool = False,
    clock: Callable[[], int] = time.time_ns,
) -> Imported:
    """Take the file or folder at `path` into `store` and return its content id. Blocks: call it in a thread.

    Files that are known and have not changed (inode, size, modification and change time, see `seen`) are not read
    again, but for `reread`. `clock`: ns since 1970, as the system dates files. What cannot be shared is left out and
    listed in `skipped`; it never stops the rest. The folder of the store's database, and every path in `exclude`,
    are left out.

    Raises:
        NotFound: there is nothing at `path`.
        UsageError: it is neither a file nor a folder, or is coterie's own.
        StorageError: it cannot be read, or the store cannot be written.
        ImportCancelled: `cancel` was set; the store is as usable as before.
    """
    own = frozenset(os.path.realpath(folder) for folder in (store.path.parent, *exclude))
    real = os.path.realpath(path)
    if any(real == folder or real.startswith(folder + os.sep) for folder in own):
        raise UsageError(tr("{path} is coterie's own data: it cannot be shared", path=path))
    status = _status(real, path)
    if not (stat.S_ISDIR(status.st_mode) or stat.S_ISREG(status.st_mode)):
        raise UsageError(tr("{path} is neither a file nor a folder", path=path))

    def work(look: Look | None) -> Imported:
        trees = Trees(store.manifest, real, look, clock())
        started = _Import(store, progress, cancel or threading.Event(), workers or _cores(), reread=reread)
        if stat.S_ISDIR(status.st_mode):
            return started.folder(real, status, own, trees)
        return started.file(real, status, trees)

    with store.holding(Path(real)):
        try:
            return work(None if reread else store.seen.at(os.fsencode(real)))
        except Forgotten:  # the share was ended meanwhile, or its database is not as it was
            return work(None)


def _status(real: str, path: str | os.PathLike[str]) -> os.stat_result:
    fault = name_fault(os.path.basename(real) or "root")
    if fault:
        raise UsageError(
            tr("{fspath!r} cannot be shared: its name {fault}", fspath=os.fspath(path), fault=fault)
        )
    try:
        return os.stat(real)
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound(tr("there is no {path}", path=path)) from None
    except OSError as error:
        raise StorageError(
            tr("cannot read {path}: {strerror}", path=path, strerror=error.strerror)
        ) from error


def _cores() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, WORKERS_MAX)


class _Import:
    """One import under way."""

    def __init__(
        self,
        store: Store,
        progress: Report | None,
        cancel: threading.Event,
        workers: int,
        *,
        reread: bool,
    ) -> None:
        self._reread = reread
        self._store = store
        self._progress = progress
        self._cancel = cancel
        self._workers = workers
        self._skipped: list[Skipped] = []
        self._skipped_more = 0
        self._files = self._bytes = self._files_total = self._bytes_total = self._bytes_read = 0
        self._scanned = False
        self._reported_at = 0.0

    def file(self, path: str, status: os.stat_result, trees: Trees) -> Imported:
        """A single file: its root is a blob."""
        found = found_file(path, status)
        trees.compare(found)
        self._files_total, self._bytes_total = 1, found.size
        self._read(path, [found])
        if found.chunks is None and not found.is_same:
            raise StorageError(tr("cannot share {path}: {reason}", path=path, reason=self._skipped[0].reason))
        root = trees.file(found)
        executable = found.executable
        return self._finish(Kind.BLOB, path, root, (1, found.size), found.mtime_ns, executable, trees)

    def folder(self, path: str, status: os.stat_result, excluded: frozenset[str], trees: Trees) -> Imported:
        """A folder: its root is a tree."""
        folders = scan(path, date_of(status), excluded, self._skip, self._check, trees.before)
        files = [file for folder in folders for file in folder.files]
        same = [folder.seen for folder in folders if folder.is_same and folder.seen]
        self._files, self._bytes = sum(seen.own_files for seen in same), sum(seen.own_bytes for seen in same)
        self._files_total = self._files + len(files)
        self._bytes_total = self._bytes + sum(file.size for file in files)
        self._read(path, files)
        top = trees.folder(folders, self._check)
        counts = (top.files, top.size)
        return self._finish(Kind.TREE, path, top.tree, counts, date_of(status), False, trees)

    def _read(self, top: str, files: list[FoundFile]) -> None:
        """Fill in the chunks of those of `files` that are not the same, from the store where they are known."""
        self._scanned = True
        waiting: list[KnownFile] = []
        chunks = 0
        reading = read_files(self._unknown(top, files), self._workers, self._cancel)
        try:
            for done in reading:
                self._check()
                self._bytes_read += done.bytes
                self._bytes += done.bytes
                self._files += len(done.files)
                for skipped in done.skipped:
                    self._skip(skipped)
                for file in done.files:
                    own = file.chunks or b""
                    waiting.append(
                        KnownFile(file.path, file.size, file.mtime_ns, file.inode, file.device, own)
                    )
                    chunks += len(own) // manifests.CHUNK.size
                if len(waiting) >= COMMIT_FILES_MAX or chunks >= COMMIT_CHUNKS_MAX:
                    self._store.add_locations(waiting)
                    waiting, chunks = [], 0
                if done.files:
                    self._report(done.files[-1].path)
        finally:
            reading.close()
            if waiting:
                self._store.add_locations(waiting)
        self._check()
        self._report(files[-1].path if files else top, is_last=True)

    def _unknown(self, top: str, files: list[FoundFile]) -> Iterator[FoundFile]:
        """Those that must be read; the others are the same, or get the chunks that they had."""
        others: list[FoundFile] = []
        for file in files:
            if file.is_same:
                self._files += 1
                self._bytes += file.size
            else:
                others.append(file)
        if self._reread or not self._store.knows_under(Path(top)):
            yield from others
            return
        rest = iter(others)
        while group := list(islice(rest, LOOKUP_FILES)):
            known = self._store.known_files([file.path for file in group if not file.must_read])
            for file in group:
                before = known.get(file.path)
                if before is None or (before.size, before.mtime_ns, before.inode) != (
                    file.size,
                    file.mtime_ns,
                    file.inode,
                ):
                    yield file
                    continue
                file.chunks = before.chunks
                self._files += 1
                self._bytes += file.size
            self._report(group[-1].path)

    def _finish(
        self,
        kind: Kind,
        path: str,
        root: bytes,
        counts: tuple[int, int],
        mtime_ns: int,
        executable: bool,
        trees: Trees,
    ) -> Imported:
        name = os.path.basename(path) or "root"
        files, size = counts
        sight, place = trees.sight(root), Path(path)
        self._store.add_root(
            root, kind, name, files=files, size=size, path=place, nodes=trees.nodes, sight=sight
        )
        return Imported(
            root,
            kind,
            name,
            files,
            size,
            self._skipped,
            self._skipped_more,
            self._bytes_read,
            mtime_ns,
            executable,
        )

    def _skip(self, skipped: Skipped) -> None:
        if len(self._skipped) < SKIPPED_MAX:
            self._skipped.append(skipped)
        else:
            self._skipped_more += 1

    def _check(self) -> None:
        if self._cancel.is_set():
            raise ImportCancelled(tr("the import was cancelled; what was read so far will not be read again"))

    def _report(self, path: str, *, is_last: bool = False) -> None:
        now = time.monotonic()
        if self._progress is not None and (is_last or now - self._reported_at >= PROGRESS_INTERVAL_S):
            self._reported_at = now
            self._progress(
                ImportProgress(
                    self._scanned, self._files, self._bytes, self._files_total, self._bytes_total, path
                )
            )
