"""Readies the disk for the manifest nodes of one download: folders, links, and what need not be fetched. Blocking."""

from coterie.content import Kind, Store
from coterie.content import manifest as m
from coterie.content.chosen import Chosen
from coterie.content.chunker import ZEROS_BYTES_MIN, zero_chunk
from coterie.content.names import RESERVED, is_reserved, symlink_allowed
from coterie.content.refusals import EntryRefused
from coterie.content.reuse import CLONE_BYTES_MIN, clone_known, known_chunks
from coterie.content.swarm.events import Prepared
from coterie.content.walk import FileIn
from coterie.content.writer import STAGED
from coterie.errors import CloseCode, PeerError
from coterie.transfer.arrival import Arrival
from coterie.transfer.arriving import File, NodePlace, Parts, prepared
from coterie.transfer.discretion import Discretion
from coterie.transfer.landing import Landing
from coterie.transfer.on_disk import still_wanted
from coterie.transfer.partial_content import Where
from coterie.transfer.records import TransferRecord
from coterie.transfer.tree_memory import TreeMemory


class Preparer:
    """Says of each node what is missing. Not asked for is what `store` knows and `discretion` lets be used, and what
    `arrival` has at the target.

    `skipped_bytes` are those of files that are not wanted. `has_kept`: something is at the target, of which it is not
    known here whether all of it came.
    """

    def __init__(
        self,
        landing: Landing,
        record: TransferRecord,
        *,
        store: Store,
        discretion: Discretion,
        arrival: Arrival,
        chosen: Chosen,
    ) -> None:
        self._landing = landing
        self._store = store
        self._discretion = discretion
        self._arrival = arrival
        self._chosen = chosen
        self._only = bool(record.only)
        self._mtime_ns = record.mtime_ns
        self._executable = record.executable
        self._staged = landing.staged
        self._memory = TreeMemory()
        self.skipped_bytes = 0
        self.has_kept = False
        self.reused_bytes = 0

    def prepare(self, manifest: bytes, place: NodePlace, node: m.Node) -> Prepared:
        """Ready the disk for a node: make folders, find what is there already, say what is missing.

        Raises:
            PeerError: the content itself breaks a bound: no source has it better.
            StorageError: the disk.
        """
        match node:
            case m.TreeIndex():
                below = [
                    (c.id, NodePlace(place.parts, c))
                    for c in m.children(node, place.child.before if place.child else None)
                ]
                return Prepared(manifest, place, (), (), tuple(below))
            case m.TreeLeaf():
                return self._page(manifest, place, node)
            case m.BlobIndex():
                return self._index(manifest, place, node)
            case m.BlobLeaf():
                return self._leaf(manifest, place, node)

    def wants(self, parts: Parts, size: int = 0) -> bool:
        """Whether this file is one of those chosen, as far as is known."""
        return not self._only or self._chosen.wants("/".join(parts), size)

    # -- pages of folders --

    def _page(self, manifest: bytes, place: NodePlace, node: m.TreeLeaf) -> Prepared:
        landing = self._landing
        staging = landing.staging
        if place.child is None and self._mtime_ns:  # 0: the giver (until v0.1) did not say
            staging.make_folder((), self._mtime_ns)
        absent: list[int] = []
        is_page = place.child is not None and place.child.first is not None
        local = landing.naming.of(place.parts, node, is_page=is_page)
        children: list[tuple[bytes, NodePlace]] = []
        wanted: list[bool] = []
        kept: list[int] = []
        place.lay_out(m.leaf_chunks(node))
        if self._only:
            self._chosen.look("/".join((*place.parts, name)) for name in local)
        for entry, name in zip(node.entries, local, strict=True):
            parts = (*place.parts, name)
            match entry:
                case _ if is_reserved(entry.name) or (
                    isinstance(entry, m.FileEntry) and not self.wants(parts, entry.size)
                ):
                    hidden = self._skip(place, parts, entry, len(wanted))
                    absent += range(len(wanted), len(wanted) + hidden)
                    wanted += [False] * hidden
                case m.DirectoryEntry():
                    if len(parts) > m.DEPTH_MAX:
                        raise PeerError(f"more than {m.DEPTH_MAX} folders within each other", CloseCode.LIMIT)
                    self._memory.add(parts, "")
                    if self._only or self._make_folder(parts, entry):
                        children.append((entry.tree, NodePlace(parts, m.entry_child(entry))))
                case m.LinkEntry():
                    if self.wants(parts):
                        self._prepare_link(parts, entry.target)
                case m.FileEntry():
                    file = self._file_of(parts, entry)
                    if entry.blob:
                        children.append((entry.blob, NodePlace(parts, m.entry_child(entry), file)))
                    elif file.failed:
                        chunks = len(entry.chunks) // m.CHUNK.size
                        absent += self._withhold(manifest, list(range(len(wanted), len(wanted) + chunks)))
                        place.add(file, len(wanted))
                        wanted += [False] * chunks
                    else:
                        first = len(wanted)
                        missing = self._small(place, file, first, len(entry.chunks) // m.CHUNK.size)
                        if not landing.found_came:
                            kept += [first + at for at, is_wanted in enumerate(missing) if not is_wanted]
                        wanted += missing
        absent += self._withhold(manifest, kept)
        absent += self._reuse(manifest, place, wanted)
        plain = local == [entry.name for entry in node.entries]
        self._staged.note(manifest, Where(place.parts, names=None if plain else tuple(local)))
        return prepared(manifest, place, wanted, children, tuple(absent))

    def _make_folder(self, parts: Parts, entry: m.DirectoryEntry) -> bool:
        """Whether this disk can hold it; else nothing in it is fetched."""
        try:
            self._landing.staging.make_folder(parts, entry.mtime_ns)
        except EntryRefused as refused:
            self.skipped_bytes += entry.size
            self._landing.left_out.add(self._landing.label(parts), refused.reason, files=entry.files)
            return False
        return True

    def _skip(self, place: NodePlace, parts: Parts, entry: m.Entry, first: int) -> int:
        """Fetch nothing of what is not wanted, or has a name that is coterie's own; how many chunks it has."""
        size = 0 if isinstance(entry, m.LinkEntry) else entry.size
        self.skipped_bytes += size
        if is_reserved(entry.name):
            files = entry.files if isinstance(entry, m.DirectoryEntry) else 1
            self._landing.left_out.add(self._landing.label(parts), RESERVED, files=files)
        if not isinstance(entry, m.FileEntry):
            return 0
        place.add(File(parts, size, entry.mtime_ns, entry.executable, size, failed=True), first)
        return len(entry.chunks) // m.CHUNK.size

    def _file_of(self, parts: Parts, entry: m.FileEntry) -> File:
        """A file of a folder; it may be here already."""
        file = File(parts, entry.size, entry.mtime_ns, entry.executable, entry.size)
        if not self._arrival.may_keep:
            return file
        seen = FileIn(parts, entry.size, entry.blob, chunks=entry.chunks, mtime_ns=entry.mtime_ns)
        return self._unless_here(file, seen)

    def _unless_here(self, file: File, seen: FileIn) -> File:
        """`file`, marked so that nothing of it is fetched where it is at the target as it is to be."""
        if self._arrival.has(seen.parts, seen, executable=file.executable):
            file.failed = file.is_here = self.has_kept = True
            file.left = 0
            self._landing.done_bytes += file.size
            self._landing.files += 1
        return file

    def _small(self, place: NodePlace, file: File, first: int, count: int) -> list[bool]:
        """The `count` chunks from `first` on are those of `file`; which of them are wanted."""
        if not count:
            self._landing.write_whole(file, ())
            return []
        place.add(file, first)
        return self._missing(file, place.chunks[first : first + count], 0)

    def _prepare_link(self, parts: Parts, target: str) -> None:
        if symlink_allowed(target, len(parts) - 1):
            self._memory.add(parts, target)
            self._landing.staging.add_link(parts[:-1], parts[-1], target)
        else:
            self._landing.left_out.add("/".join(parts), "a symbolic link that leads out of the folder")

    # -- files with nodes of their own --

    def _leaf(self, manifest: bytes, place: NodePlace, node: m.BlobLeaf) -> Prepared:
        chunks = m.leaf_chunks(node)
        file = place.file or self._single_file(manifest, sum(size for _, size in chunks))
        place.lay_out(chunks)
        place.add(file, 0)
        if file.failed:
            return prepared(manifest, place, [False] * len(chunks), [], tuple(range(len(chunks))))
        if not chunks:
            self._landing.write_whole(file, ())
        wanted = self._missing(file, chunks, place.offset)
        kept = [index for index, is_wanted in enumerate(wanted) if not is_wanted]
        absent = self._withhold(manifest, [] if self._landing.found_came else kept)
        absent += self._reuse(manifest, place, wanted, file)
        is_alone = self._landing.kind is Kind.BLOB
        self._staged.note(manifest, Where(() if is_alone else file.parts, place.offset))
        return prepared(manifest, place, wanted, [], tuple(absent))

    def _index(self, manifest: bytes, place: NodePlace, node: m.BlobIndex) -> Prepared:
        file = place.file or self._single_file(manifest, m.totals(node)[1])
        below, at = [], place.offset
        for child in m.children(node):
            below.append((child.id, NodePlace(place.parts, child, file, at)))
            at += child.size
        return Prepared(manifest, place, (), (), tuple(below))

    def _single_file(self, manifest: bytes, size: int) -> File:
        file = File((STAGED,), size, self._mtime_ns, self._executable, size)
        return self._unless_here(file, FileIn((), size, manifest, mtime_ns=self._mtime_ns))

    # -- what need not be fetched --

    def _missing(self, file: File, chunks: list[m.Chunk], offset: int) -> list[bool]:
        """For each chunk whether it has to be fetched: those on disk from before, and right, need not; nor zeros."""
        landing = self._landing
        staging, is_fresh = landing.staging, landing.is_fresh
        has_zeros = file.size >= ZEROS_BYTES_MIN and zero_chunk(file.size) in chunks
        if not chunks or (is_fresh and not has_zeros):
            return [True] * len(chunks)
        if chunks[0][1] == file.size and not is_fresh:
            folder, name = file.parts[:-1], file.parts[-1]
            right = staging.small_is_right(
                folder, name, chunks, executable=file.executable, mtime_ns=file.mtime_ns
            )
            if right:
                file.is_made, file.left = True, 0
                landing.done_bytes += file.size
                landing.files += 1
            return [not right]
        try:
            large = landing.large(file)
            wanted = still_wanted(large, chunks, offset, file.size, is_fresh=is_fresh)
        except EntryRefused as refused:
            landing.lose(file, refused.reason)
            return [False] * len(chunks)
        found = sum(size for (_, size), is_wanted in zip(chunks, wanted, strict=True) if not is_wanted)
        large.close()
        file.handle = None
        if found:
            landing.count(file, found)
        return wanted

    def _withhold(self, manifest: bytes, chunks: list[int]) -> list[int]:
        """These chunks did not come for this content: nobody hears of them, or gets them, from here."""
        self._staged.withhold(manifest, chunks)
        return chunks

    def _reuse(
        self, manifest: bytes, place: NodePlace, wanted: list[bool], file: File | None = None
    ) -> list[int]:
        """Take chunks that lie on this computer, if that may be: they are wanted no longer.

        Returns those that may be such. `file`: the one they all belong to, where it is one.
        """
        if not self._discretion.may_reuse():
            return []
        missing = [index for index, is_wanted in enumerate(wanted) if is_wanted]
        places = self._store.places([place.chunks[index][0] for index in missing])
        known = [index for index in missing if place.chunks[index][0] in places]
        if not known or not self._discretion.claim_reuse():
            return []
        self._landing.mark_reused()
        self._withhold(manifest, known)
        if file is not None:
            self._share(file, place, wanted, known)
        for index, data in known_chunks(self._store, place.chunks, [i for i in known if wanted[i]]):
            self._landing.write(*place.target(index), data)
            self.reused_bytes += len(data)
            wanted[index] = False
        return known

    def _share(self, file: File, place: NodePlace, wanted: list[bool], known: list[int]) -> None:
        """Take long stretches of a large file from files of this computer, without copying where that can be."""
        if sum(place.chunks[index][1] for index in known) < CLONE_BYTES_MIN:
            return
        large = self._landing.large(file)
        for index in clone_known(self._store, large, place.offset, place.chunks, known):
            wanted[index] = False
            self.reused_bytes += place.chunks[index][1]
            self._landing.count(file, place.chunks[index][1])
