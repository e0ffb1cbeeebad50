"""What a session can be about: a share, or a download that gives what it has so far."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

from coterie.apps.files.messages import Has, HasAll, Opened
from coterie.apps.files.records import ShareRecord
from coterie.apps.files.staged import Staged
from coterie.content import ChunkUnavailable, Store
from coterie.identity import PeerId

Tell = Callable[[Has | HasAll], None]
Chunk = bytes | ChunkUnavailable | None
"""A chunk's bytes; why it cannot be had; None: not here now, perhaps later."""


class Giver(Protocol):
    """Something that can be given, and its right."""

    @property
    def root(self) -> bytes: ...

    @property
    def secret(self) -> bytes: ...

    def opened(self, askers: int) -> Opened:
        """What to say to one who may have it, beside `askers` others."""
        ...

    def node(self, manifest: bytes) -> bytes | None:
        """The bytes of a node of it. Blocking, from any thread, as the next two."""
        ...

    def count(self, manifest: bytes) -> int | None:
        """How many chunks the node has; None when it is not of this content, 0 when it is not here yet."""
        ...

    def read(self, manifest: bytes, first: int, count: int) -> Iterator[Chunk]:
        """These chunks, each verified."""
        ...

    def watch(self, tell: Tell) -> Callable[[], None]:
        """Say through `tell` what is here, and what comes; ends with a call of what is returned."""
        ...

    def met(self, peer: PeerId, addresses: Sequence[str]) -> None:
        """Somebody who asks for it, and gives it too."""
        ...


class ShareGiver:
    """A share: all of it is here."""

    def __init__(self, store: Store, record: ShareRecord) -> None:
        self._store = store
        self._record = record
        self.root = record.root
        self.secret = record.secret

    def opened(self, askers: int) -> Opened:
        r = self._record
        return Opened(r.kind, r.name, r.files, r.size, r.mtime_ns, r.executable, True, askers)

    def node(self, manifest: bytes) -> bytes | None:
        return self._store.manifest(manifest) if self._store.in_root(self.root, manifest) else None

    def count(self, manifest: bytes) -> int | None:
        return len(self._store.chunks_of(manifest)) if self._store.in_root(self.root, manifest) else None

    def read(self, manifest: bytes, first: int, count: int) -> Iterator[Chunk]:
        return self._store.read_chunks(self._store.chunks_of(manifest)[first : first + count])

    def watch(self, tell: Tell) -> Callable[[], None]:
        return lambda: None

    def met(self, peer: PeerId, addresses: Sequence[str]) -> None:
        """A share needs nobody."""


class Holdings(Protocol):
    """The side of a download that its giver needs."""

    def holdings(self) -> Mapping[bytes, int]: ...

    def is_whole(self) -> bool: ...

    def watch(self, tell: Tell) -> Callable[[], None]: ...

    def met(self, peer: PeerId, addresses: Sequence[str]) -> None: ...


class DownloadGiver:
    """A download: gives what it has verified."""

    def __init__(
        self, root: bytes, secret: bytes, described: Opened, staged: Staged, holdings: Holdings
    ) -> None:
        """`described`: what the content was announced as."""
        self.root = root
        self.secret = secret
        self._described = described
        self._staged = staged
        self._holdings = holdings

    def opened(self, askers: int) -> Opened:
        d = self._described
        whole = self._holdings.is_whole()
        return Opened(d.kind, d.name, d.files, d.size, d.mtime_ns, d.executable, whole, askers)

    def node(self, manifest: bytes) -> bytes | None:
        return self._staged.node(manifest)

    def count(self, manifest: bytes) -> int | None:
        return self._staged.count(manifest)

    def read(self, manifest: bytes, first: int, count: int) -> Iterator[Chunk]:
        return self._staged.read(manifest, first, count)

    def watch(self, tell: Tell) -> Callable[[], None]:
        return self._holdings.watch(tell)

    def met(self, peer: PeerId, addresses: Sequence[str]) -> None:
        self._holdings.met(peer, addresses)
