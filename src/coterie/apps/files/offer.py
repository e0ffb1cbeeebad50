"""Offer: one share, or a folder or file within one, as one asker may have it."""

from collections.abc import Iterator

from coterie.apps.files.messages import Opened
from coterie.apps.files.records import ShareRecord
from coterie.apps.files.tree import Found, everything_under
from coterie.content import ChunkUnavailable, Store
from coterie.content import manifest as m


class Offer:
    """What a session serves. `resource` and `also` are what the policy is asked about it.

    The methods but `opened` block, and may be called from any thread.
    """

    def __init__(
        self,
        store: Store,
        share: ShareRecord,
        resource: str,
        *,
        also: tuple[str, ...] = (),
        found: Found | None = None,
        is_narrow: bool = False,
    ) -> None:
        """`found`: the part of the share that is offered (None: all). `is_narrow`: the asker may have nothing else."""
        self.resource = resource
        self.also = also
        self._store = store
        self._share = share
        self._found = found
        self._is_narrow = is_narrow
        self._allowed: frozenset[bytes] | None = None

    def opened(self) -> Opened:
        """What to tell the asker first."""
        s, f = self._share, self._found
        if f is None:
            return Opened(s.kind, s.name, s.files, s.size, s.mtime_ns, s.executable)
        is_file = f.kind is m.Kind.BLOB
        return Opened(
            int(f.kind), f.name, f.files, f.size, f.mtime_ns if is_file else 0, is_file and f.executable
        )

    def node(self, manifest: bytes) -> bytes | None:
        """The bytes of a manifest node of it; None for one that is not, or that the asker may not have."""
        if self._found is not None and self._found.leaf and manifest == self._found.id:
            return self._found.leaf
        return self._store.manifest(manifest) if self._has(manifest) else None

    def chunks(self, manifest: bytes) -> list[m.Chunk] | None:
        """The chunks that stand in a node of it; None as `node`."""
        if self._found is not None and self._found.leaf and manifest == self._found.id:
            return m.leaf_chunks(m.decode(self._found.leaf))
        return self._store.chunks_of(manifest) if self._has(manifest) else None

    def read(self, chunks: list[m.Chunk]) -> Iterator[bytes | ChunkUnavailable]:
        """The bytes of these chunks, each checked."""
        return self._store.read_chunks(chunks)

    def _has(self, manifest: bytes) -> bool:
        if not self._store.in_root(self._share.root, manifest):
            return False
        if not self._is_narrow or self._found is None:
            return True
        if self._found.kind is m.Kind.BLOB and self._found.leaf:
            return False  # all there is of it is its own leaf
        if self._allowed is None:  # two threads may both find out the same
            self._allowed = everything_under(self._store.manifest, self._found.id)
        return manifest in self._allowed
