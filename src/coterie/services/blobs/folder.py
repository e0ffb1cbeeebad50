"""Content that apps gave to be kept: one file for each, in a folder of the node, and who keeps it in the content store.

The pin in the store is what counts. It is made last, so what is pinned is there; it is taken back first. Whatever lies
in the folder and is not pinned, by whatever owner, is left over from a crash between two steps, and `sweep` removes it.
All methods block; any thread may call them.
"""

import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

from coterie.content import Collected, Kind, KnownFile, Store, no_links
from coterie.content import manifest as m
from coterie.content.builder import build_blob
from coterie.content.hashing import read_files
from coterie.content.limit import Rates
from coterie.content.reader import ChunkUnavailable
from coterie.content.scan import found_file
from coterie.content.walk import FileIn, stretches
from coterie.errors import CoterieError, NotFound, PeerError, StorageError
from coterie.texts import tr

WORKERS = 2  # threads that cut and hash one content; guess: the node goes on beside it
READ_BYTES = 1 << 20  # of chunks that are checked at once
COMMIT_CHUNKS_MAX = 20_000  # of manifests in one transaction, as an import's
FETCHING = "blobs fetching"  # who keeps, in the store, what is being fetched
INCOMING, FETCHED = "incoming", "fetched"  # the folders of what is not whole


class Incoming:
    """Content that is being written: a file of its own until it is kept or dropped."""

    def __init__(self, path: Path, file: BinaryIO, size: int = 0) -> None:
        self.path = path
        self.size = size
        self._file = file

    def write(self, data: bytes) -> None:
        """Append. Raises `StorageError`."""
        try:
            self._file.write(data)
        except OSError as error:
            raise _refused(self.path, error) from None
        self.size += len(data)

    def finish(self) -> None:
        """Everything is on disk. Raises `StorageError`."""
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
        except OSError as error:
            raise _refused(self.path, error) from None

    def drop(self) -> None:
        """Remove what was written, unless it has been kept."""
        self._file.close()
        self.path.unlink(missing_ok=True)


class BlobFolder:
    """The one of a node."""

    def __init__(self, path: Path, store: Store) -> None:
        """Nothing is touched before something is kept."""
        self.store = store
        self.rates = Rates()
        """Limits of what goes between this computer and others, for all apps."""
        self._path = path
        self._lock = threading.Lock()  # between what is there and what is pinned
        self._incoming: set[Path] = set()
        self._is_swept = False

    def open(self) -> Incoming:
        """For content that is to come. Raises `StorageError`."""
        self._sweep_once()
        path = self._path / INCOMING / os.urandom(16).hex()
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with self._lock:
                self._incoming.add(path)
                file = open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")  # noqa: SIM115
        except OSError as error:
            raise _refused(path, error) from None
        return Incoming(path, file)

    def room(self, root: bytes) -> Path:
        """A folder for the content `root` while it is fetched. Who fetches makes it; `leave_room` removes it."""
        self._sweep_once()
        path = self._path / FETCHED / os.urandom(16).hex()
        with self._lock:
            self._incoming.add(path)
            self.store.pins.set(FETCHING, path.name, [root])
        return path

    def leave_room(self, room: Path, root: bytes) -> None:
        """What is in it was kept, or did not come."""
        shutil.rmtree(room, ignore_errors=True)
        with self._lock:
            self._incoming.discard(room)
            self.store.pins.set(FETCHING, room.name, ())
            self.store.forget_root(root)

    def adopt(self, path: Path, root: bytes, owner: str, name: str) -> None:
        """As `keep`, for a file that was fetched, which has to be the content `root`.

        Raises:
            PeerError: its chunks were cut by other rules than coterie's.
        """
        try:
            file = path.open("r+b")
        except OSError as error:
            raise _refused(path, error) from None
        self.keep(Incoming(path, file, path.stat().st_size), owner, name, expected=root)

    def drop(self, incoming: Incoming) -> None:
        """Forget content that came, or did not; what is kept of it stays."""
        incoming.drop()
        self._incoming.discard(incoming.path)

    def keep(self, incoming: Incoming, owner: str, name: str, *, expected: bytes = b"") -> bytes:
        """Have `owner` keep what came under `name`, instead of what it kept so before; its content id.

        Raises:
            PeerError: it is not the content `expected`.
            StorageError: the disk refuses. Nothing has changed then.
        """
        incoming.finish()
        chunks = self._cut(incoming.path)
        nodes: list[tuple[bytes, bytes]] = []
        built = build_blob(m.unpack_chunks(chunks), lambda node, data: nodes.append((node, data)))
        if expected not in (b"", built.id):
            raise PeerError("the content was not cut as coterie cuts: it cannot be kept under its id")
        path = self._place(built.id)
        is_sound = self._is_sound(path, built.size, chunks)
        with self._lock:
            before = self.store.pins.at(owner, name)
            try:
                if not (is_sound and _is_whole(path, built.size)):
                    path.parent.mkdir(mode=0o700, exist_ok=True)
                    os.replace(incoming.path, path)
                    _sync_folder(path.parent)
                    _sync_folder(path.parent.parent)
                status = no_links.status(path)
            except OSError as error:
                raise _refused(path, error) from None
            found = found_file(str(path), status)
            self.store.add_root(built.id, Kind.BLOB, name, files=1, size=built.size, path=path, nodes=nodes)
            known = KnownFile(found.path, found.size, found.mtime_ns, found.inode, found.device, chunks)
            self.store.add_locations([known])
            self.store.pins.set(owner, name, [built.id], size=built.size)
            for root in before:
                self._let_go(root)
        return built.id

    def pin(self, root: bytes, owner: str, name: str) -> None:
        """Have `owner` keep content that is kept here already. Raises `NotFound`."""
        with self._lock:
            known = self.store.root(root)
            if known is None or not _is_whole(self._place(root), known.bytes):
                raise NotFound(tr("no app keeps content {root} here", root=root.hex()[:16]))
            before = self.store.pins.at(owner, name)
            self.store.pins.set(owner, name, [root], size=known.bytes)
            for other in before:
                self._let_go(other)

    def unpin(self, owner: str, name: str) -> bool:
        """`owner` keeps nothing under `name` any more; False when it did not."""
        with self._lock:
            before = self.store.pins.at(owner, name)
            self.store.pins.set(owner, name, ())
            for root in before:
                self._let_go(root)
        return bool(before)

    def read(self, root: bytes, offset: int, size: int | None) -> Iterator[bytes]:
        """Bytes of content from `offset` on, in parts; each was checked.

        Raises:
            NotFound: it is not here.
            StorageError: its file is damaged, or is gone.
        """
        known = self.store.root(root)
        if known is None:
            raise NotFound(tr("no content {root} here", root=root.hex()[:16]))
        end = known.bytes if size is None else min(known.bytes, offset + size)
        at = 0
        wanted: list[tuple[int, m.Chunk]] = []
        waiting = 0
        for stretch in stretches(self.store.manifest, FileIn((), known.bytes, root)):
            at = stretch.offset
            for chunk in stretch.chunks:
                if at < end and at + chunk[1] > offset:
                    wanted.append((at, chunk))
                    waiting += chunk[1]
                at += chunk[1]
                if waiting >= READ_BYTES:
                    yield self._checked(wanted, offset, end)
                    wanted, waiting = [], 0
        if wanted:
            yield self._checked(wanted, offset, end)

    def collect_garbage(self) -> Collected:
        """Remove content that nobody keeps, and from the index of the store what no share and no transfer needs."""
        blobs = self.sweep()
        return msgspec.structs.replace(self.store.collect_garbage(), blobs=blobs)

    def sweep(self) -> int:
        """Remove what nobody keeps: left over from a crash between two steps. How many files that were."""
        removed = 0
        for path in list(self._path.glob(f"{INCOMING}/*")):
            with self._lock:
                if path not in self._incoming:
                    path.unlink(missing_ok=True)
                    removed += 1
        for path in list(self._path.glob(f"{FETCHED}/*")):
            if path not in self._incoming:
                shutil.rmtree(path, ignore_errors=True)
                removed += 1
        for path in list(self._path.glob("[0-9a-f][0-9a-f]/*")):
            root = bytes.fromhex(path.name) if _is_id(path.name) else b""
            with self._lock:
                removed += bool(root) and self._let_go(root)
        return removed

    def _sweep_once(self) -> None:
        """What the last run left, before anything new comes."""
        if not self._is_swept:
            self._is_swept = True
            self.store.pins.replace(FETCHING, {})
            self.sweep()

    def _let_go(self, root: bytes) -> bool:
        """Remove content that nobody keeps. The caller holds the lock."""
        if self.store.pins.has(root):
            return False
        path = self._place(root)
        self.store.leave(root, path)
        path.unlink(missing_ok=True)
        return True

    def _place(self, root: bytes) -> Path:
        name = root.hex()
        return Path(os.path.realpath(self._path)) / name[:2] / name

    def _cut(self, path: Path) -> bytes:
        """The packed chunks of a file."""
        real = os.path.realpath(path)
        found = found_file(real, os.stat(real))
        for done in read_files([found], WORKERS, threading.Event()):
            for skipped in done.skipped:
                raise StorageError(
                    tr("{path} cannot be read again: {reason}", path=skipped.path, reason=skipped.reason)
                )
        return found.chunks or b""

    def _is_sound(self, path: Path, size: int, chunks: bytes) -> bool:
        """Whether content lies at its place already, and was not damaged there."""
        try:
            return _is_whole(path, size) and self._cut(path) == chunks
        except (OSError, StorageError):  # it cannot be read, or has just been removed
            return False

    def _checked(self, wanted: list[tuple[int, m.Chunk]], offset: int, end: int) -> bytes:
        parts = []
        read = self.store.read_chunks([chunk for _, chunk in wanted])
        for (at, (_, size)), data in zip(wanted, read, strict=True):
            if isinstance(data, ChunkUnavailable):
                raise StorageError(
                    tr(
                        "content kept in {path} cannot be read: {reason}",
                        path=data.path or self._path,
                        reason=data.reason,
                    )
                )
            parts.append(bytes(data[max(0, offset - at) : min(size, end - at)]))
        return b"".join(parts)


def _is_whole(path: Path, size: int) -> bool:
    """Whether it lies there already: nothing is written there but whole, under the name of its hash."""
    try:
        return path.stat(follow_symlinks=False).st_size == size
    except OSError:
        return False


def _is_id(name: str) -> bool:
    return len(name) == 2 * m.ID_BYTES and set(name) <= set("0123456789abcdef")


def _sync_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _refused(path: Path, error: OSError) -> CoterieError:
    return StorageError(
        tr(
            "{path} cannot be written: {strerror}; free some space, or look at its rights",
            path=path,
            strerror=error.strerror,
        )
    )
