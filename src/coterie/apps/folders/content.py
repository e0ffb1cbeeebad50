"""Contents of live folders between computers, named by their ids: many at once, as one tree that the giver makes.

The asker says which contents it wants (`Want`). The giver makes of those that lie here a tree, each named by its id in
hex, and says its root; then the engine of `transfer` gives it, under a protocol of its own, to whoever may `read` the
folder. The asker verifies that each file of the tree is the content after which it is called: who gives need not be
believed. Two givers that have the same make the same tree, so it comes from both.
"""

import asyncio
import os
import shutil
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

from blake3 import blake3

from coterie.access.enforcer import Enforcer
from coterie.apps.folders.membership import KIND, resource_of
from coterie.apps.folders.messages import SMALL_BYTES, SMALL_BYTES_MAX
from coterie.content import ChunkUnavailable, Kind, Store
from coterie.content import manifest as m
from coterie.content.builder import build_blob, build_tree
from coterie.content.chunker import pack_small
from coterie.content.limit import ByteLimit
from coterie.content.reader import Room
from coterie.content.walk import files_in, stretches
from coterie.errors import CloseCode, PeerError, StorageError
from coterie.identity import PeerId
from coterie.net import Stream
from coterie.progress import Progress
from coterie.services.blobs.fetching import BlobFetch
from coterie.texts import tr
from coterie.transfer.giver import Giver, Tell
from coterie.transfer.messages import MANY_SINCE, PROTOCOL, Moved, Opened
from coterie.transfer.proof import Shown
from coterie.transfer.serve import Server
from coterie.transfer.surroundings import Surroundings
from coterie.wire.ticket import SECRET_BYTES, TicketKind

CONTENTS = replace(PROTOCOL, name="folder-contents", versions=(MANY_SINCE,))
GIVEN_MAX = 64  # trees that are given at once, of all folders; guess: the one asked for longest ago gives way
WANTED_MAX = 4_096  # contents in one tree: a page of a manifest
WANTED_BYTES = 256 << 20  # of a tree, if it has more than one content: so long nothing of it is shown
ENTRY_BYTES = 48  # of a small content in an answer, beside its bytes
DECODED_MAX = 8  # nodes of one tree whose chunks are held: 4,096 each at most; guess: of as many sessions
THREADS = 2  # disk reads of all who fetch, as of blobs
_OF_FOLDER = "coterie folders 1: the folder whose contents are asked for"
_NAME = "contents of a folder"  # what the content store calls a tree while it comes


def secret_of(folder: bytes) -> bytes:
    """What who asks proves to have: it says which folder is meant. The right to it is asked of the policy."""
    return blake3(folder, derive_key_context=_OF_FOLDER).digest(SECRET_BYTES)


@dataclass(frozen=True, slots=True)
class Arrived:
    """A content that came: where its file lies now, and its packed chunks."""

    path: Path
    size: int
    chunks: bytes


@dataclass(frozen=True, slots=True)
class Gathered:
    """A tree of contents, ready to be given. `missing`: those of the wanted ones that are not here."""

    root: bytes
    files: int
    size: int
    missing: tuple[bytes, ...]


@dataclass(slots=True)
class _Tree:
    """Made of what was wanted: nodes in memory, chunks where the content store knows them."""

    folder: bytes
    nodes: dict[bytes, bytes] = field(default_factory=dict)

    def put(self, node: bytes, data: bytes) -> None:
        self.nodes[node] = data


class FolderContents:
    """What this computer gives of all its live folders. Belongs to the event loop, but for `gather`."""

    def __init__(self, own: PeerId, store: Store, access: Enforcer, up: ByteLimit) -> None:
        """`up`: the limit of all that goes to others."""
        self._own = own
        self._store = store
        self._given: OrderedDict[tuple[bytes, bytes], FolderGiver] = OrderedDict()
        self._executor = ThreadPoolExecutor(THREADS, "coterie-folders")
        self._server = Server(access, self._find, self._executor, up, kind=KIND)

    async def handle(self, stream: Stream) -> None:
        """One computer that asks."""
        await self._server.handle(stream)

    async def gather(self, folder: bytes, known: Mapping[bytes, bytes], wanted: Sequence[bytes]) -> Gathered:
        """Make ready to be given what of the `wanted` contents is `known` (their packed chunks by id)."""
        tree, gathered = await asyncio.to_thread(_gather, folder, known, wanted)
        self._given[folder, gathered.root] = FolderGiver(self._store, tree, gathered)
        self._given.move_to_end((folder, gathered.root))
        while len(self._given) > GIVEN_MAX:
            self._given.popitem(last=False)
        return gathered

    def close(self) -> None:
        """Give nothing any more."""
        self._server.close()
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _find(self, peer: PeerId, root: bytes, proof: bytes) -> Giver | None:
        shown = Shown(peer, self._own, root, proof)
        found = [giver for (_, one), giver in self._given.items() if one == root]
        return next((giver for giver in found if shown.proves(secret_of(giver.folder))), None)


def _gather(folder: bytes, known: Mapping[bytes, bytes], wanted: Sequence[bytes]) -> tuple[_Tree, Gathered]:
    tree = _Tree(folder)
    entries: list[m.FileEntry] = []
    missing: list[bytes] = []
    for content in dict.fromkeys(wanted):
        packed = known.get(content)
        if packed is None:
            missing.append(content)
            continue
        chunks = m.unpack_chunks(packed)
        size = sum(chunk_bytes for _, chunk_bytes in chunks)
        if len(chunks) <= m.INLINE_CHUNKS_MAX:
            entries.append(m.FileEntry(content.hex(), False, 0, size, packed))
        else:
            build_blob(chunks, tree.put)
            entries.append(m.FileEntry(content.hex(), False, 0, size, b"", content))
    built = build_tree(entries, tree.put)
    return tree, Gathered(built.id, built.files, built.size, tuple(missing))


class FolderGiver:
    """See `transfer.giver.Giver`: a tree of contents, as one who may read the folder has it."""

    also: tuple[str, ...] = ()
    is_for_many = False
    is_gone = False
    moved: Moved | None = None

    def __init__(self, store: Store, tree: _Tree, gathered: Gathered) -> None:
        self.folder = tree.folder
        self.resource = resource_of(tree.folder)
        self._store = store
        self._nodes = tree.nodes
        self._gathered = gathered
        self._chunks = lru_cache(DECODED_MAX)(self._decoded)  # of several threads

    def opened(self, askers: int) -> Opened:
        g = self._gathered
        return Opened(int(Kind.TREE), "", g.files, g.size, whole=True, askers=askers, of="")

    def node(self, manifest: bytes) -> bytes | None:
        return self._nodes.get(manifest)

    def sizes(self, manifest: bytes) -> list[int] | None:
        chunks = self._chunks(manifest)
        return [size for _, size in chunks] if chunks is not None else None

    def read(
        self, manifest: bytes, first: int, count: int, room: Room | None = None
    ) -> Iterator[bytes | memoryview | ChunkUnavailable]:
        chunks = self._chunks(manifest)
        if chunks is None:
            raise PeerError("chunks of a manifest that is not of these contents", CloseCode.REFUSED)
        return self._store.read_chunks(chunks[first : first + count], room)

    def watch(self, tell: Tell) -> Callable[[], None]:
        return lambda: None  # all of it is here

    def met(self, peer: PeerId, addresses: Sequence[str]) -> None:
        """It needs nobody."""

    def _decoded(self, manifest: bytes) -> list[m.Chunk] | None:
        data = self._nodes.get(manifest)
        return m.leaf_chunks(m.decode(data)) if data is not None else None


class ContentFetch:
    """One tree of contents on its way here, into a folder of its own below `place`. Close it in the end."""

    def __init__(self, around: Surroundings, folder: bytes, place: Path) -> None:
        self._around = around
        self._folder = folder
        self._room = place / os.urandom(8).hex()
        self._root = b""

    async def run(
        self,
        root: bytes,
        peers: Sequence[PeerId],
        wanted: Collection[bytes],
        progress: Callable[[Progress], None] = lambda step: None,
    ) -> dict[bytes, Arrived]:
        """Fetch the tree `root` from all `peers`; what came, by content id. Some may be missing.

        Raises:
            NotFound, AccessDenied, PeerError, TransportError: nobody gives it, or what it should be.
            StorageError: the disk refuses.
        """
        self._root = root
        secret = secret_of(self._folder)
        fetch = BlobFetch(
            self._around, root, secret, peers, self._room, kind=TicketKind.TREE, protocol=CONTENTS
        )
        try:
            await fetch.open()
            path = await fetch.run(progress)
        finally:
            await fetch.close()
        return await asyncio.to_thread(self._sort, path, frozenset(wanted))

    async def close(self) -> None:
        """Remove what nobody took."""
        await asyncio.to_thread(self._clear)

    def _sort(self, path: Path, wanted: frozenset[bytes]) -> dict[bytes, Arrived]:
        store = self._around.blobs.store
        arrived: dict[bytes, Arrived] = {}
        by_name = {content.hex(): content for content in wanted}
        for file in files_in(store.manifest, self._root):
            content = by_name.get(file.parts[-1])
            packed = file.chunks or b"".join(
                m.pack_chunks(part.chunks) for part in stretches(store.manifest, file)
            )
            if content is None or build_blob(m.unpack_chunks(packed), _nowhere).id != content:
                raise PeerError("the other computer gave a content under the name of another")
            lies = path.joinpath(*file.parts)
            if lies.exists():  # else it could not be had
                arrived[content] = Arrived(lies, file.size, packed)
        return arrived

    def _clear(self) -> None:
        shutil.rmtree(self._room, ignore_errors=True)
        if self._root:
            self._around.blobs.store.forget_root(self._root)


def read_small(
    store: Store, known: Mapping[bytes, bytes], bytes_max: int = SMALL_BYTES_MAX
) -> list[tuple[bytes, bytes]]:
    """(id, bytes) of small contents among the `known`, as many as fit one answer, `bytes_max` together. Blocking."""
    found: list[tuple[bytes, bytes]] = []
    total = 0
    for content, packed in known.items():
        chunks = m.unpack_chunks(packed)
        size = sum(chunk_bytes for _, chunk_bytes in chunks)
        if size > SMALL_BYTES or total + size + ENTRY_BYTES > bytes_max:
            continue
        parts = list(store.read_chunks(chunks))
        if not any(isinstance(part, ChunkUnavailable) for part in parts):
            found.append((content, b"".join(parts)))  # type: ignore[arg-type]
            total += size + ENTRY_BYTES
    return found


def write_small(place: Path, small: Mapping[bytes, bytes]) -> dict[bytes, Arrived]:
    """Make a file of each content that was given at once. Blocking.

    Raises:
        PeerError: one is not what it is called.
        StorageError: the disk refuses.
    """
    arrived: dict[bytes, Arrived] = {}
    for content, data in small.items():
        packed = pack_small(data)
        if build_blob(m.unpack_chunks(packed), _nowhere).id != content:
            raise PeerError("the other computer gave a content under the name of another")
        path = place / f"{content.hex()}-{os.urandom(4).hex()}"
        try:
            path.write_bytes(data)
        except OSError as error:
            raise StorageError(
                tr("{path} cannot be written: {strerror}", path=path, strerror=error.strerror)
            ) from error
        arrived[content] = Arrived(path, len(data), packed)
    return arrived


def write_known(store: Store, chunks: bytes, path: Path) -> bool:
    """Make the file `path` of chunks that lie on this computer, each verified; False: they do not. Blocking.

    Raises:
        StorageError: the disk refuses.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            for data in store.read_chunks(m.unpack_chunks(chunks)):
                if isinstance(data, ChunkUnavailable):
                    break
                file.write(data)
            else:
                return True
        path.unlink()
    except OSError as error:
        raise StorageError(
            tr("{path} cannot be written: {strerror}", path=path, strerror=error.strerror)
        ) from error
    return False


def _nowhere(node: bytes, data: bytes) -> None:
    """For who needs the id alone."""
