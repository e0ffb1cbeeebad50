"""Offer: one share, or a folder or file within one, as one asker may have it."""

from collections.abc import Callable, Iterator, Sequence

from coterie.apps.files.records import ShareRecord
from coterie.apps.files.tree import Found, everything_under
from coterie.content import ChunkUnavailable, Store
from coterie.content import manifest as m
from coterie.content.reader import Room
from coterie.content.tree_reader import TreeReader
from coterie.errors import CloseCode, PeerError
from coterie.identity import PeerId
from coterie.transfer.giver import Tell
from coterie.transfer.messages import Moved, Opened


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
        of: str = "",
        parts: Sequence[str] = (),
    ) -> None:
        """`found`: the part of the share that is offered (None: all). `is_narrow`: the asker may have nothing else.

        `parts`: where that part stands in the share. `of`: see `Opened`. `share` is one version of it, and stays that.
        """
        self.share_id, self.share_root = share.id, share.root
        self.moved: Moved | None = None
        self.is_gone = False
        self.resource = resource
        self.also = also
        self.is_for_many = bool(of)
        self._of = of
        self._store = store
        self._share = share
        self._found = found
        self._is_narrow = is_narrow
        self._allowed: frozenset[bytes] | None = None
        self._parts = tuple(parts)
        self._opened_tree: TreeReader | None = None
        self._has_looked = False

    def opened(self, askers: int) -> Opened:
        """What to tell the asker first, beside `askers` others."""
        s, f = self._share, self._found
        if f is None:
            return Opened(s.kind, s.name, s.files, s.size, s.mtime_ns, s.executable, True, askers, self._of)
        return Opened(int(f.kind), f.name, f.files, f.size, f.mtime_ns, f.executable, True, askers, self._of)

    def node(self, manifest: bytes) -> bytes | None:
        """The bytes of a manifest node of it; None for one that is not, or that the asker may not have."""
        if self._found is not None and self._found.leaf and manifest == self._found.id:
            return self._found.leaf
        tree = self._tree()
        if tree is not None and (data := tree.node(manifest)) is not None:
            return data
        return self._store.manifest(manifest) if self._has(manifest) else None

    def sizes(self, manifest: bytes) -> list[int] | None:
        """The sizes of the chunks that stand in a node of it; None as `node`."""
        chunks = self._chunks(manifest)
        return [size for _, size in chunks] if chunks is not None else None

    def read(
        self, manifest: bytes, first: int, count: int, room: Room | None = None
    ) -> Iterator[bytes | memoryview | ChunkUnavailable]:
        """The bytes of these chunks, each checked; in the `room`, where there is one.

        Raises:
            PeerError: the node is not of it, or no more.
        """
        tree = self._tree()
        if tree is not None and tree.chunks(manifest) is not None:
            return tree.read(manifest, first, count, room)
        chunks = self._chunks(manifest)
        if chunks is None:
            raise PeerError("chunks of a manifest that is not of this share", CloseCode.REFUSED)
        return self._store.read_chunks(chunks[first : first + count], room)

    def watch(self, tell: Tell) -> Callable[[], None]:
        """All of it is here: there is nothing to tell."""
        return lambda: None

    def met(self, peer: PeerId, addresses: Sequence[str]) -> None:
        """A share needs nobody."""

    def _chunks(self, manifest: bytes) -> list[m.Chunk] | None:
        if self._found is not None and self._found.leaf and manifest == self._found.id:
            return m.leaf_chunks(m.decode(self._found.leaf))
        tree = self._tree()
        if tree is not None and (chunks := tree.chunks(manifest)) is not None:
            return chunks
        return self._store.chunks_of(manifest) if self._has(manifest) else None

    def _tree(self) -> TreeReader | None:
        """The folder that is offered, where it lies as far as is known; None for a file."""
        if not self._has_looked:  # two threads may both look
            share, found = self._share, self._found
            kind, top = (share.kind, share.root) if found is None else (found.kind, found.id)
            if kind == m.Kind.TREE:
                self._opened_tree = TreeReader.within(self._store, share.root, share.path, top, self._parts)
            self._has_looked = True
        return self._opened_tree

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
