"""The asking side's hands: checks what arrives and puts it on disk. Blocking; runs in one worker thread."""

import os
from pathlib import Path

from blake3 import blake3

from coterie.content import Kind, Store
from coterie.content import manifest as m
from coterie.content.chosen import Chosen
from coterie.content.chunker import zero_chunk
from coterie.content.large_file import LargeFile
from coterie.content.names import ANY_NAME, RESERVED, is_reserved, symlink_allowed
from coterie.content.received import record_received
from coterie.content.refusals import EntryRefused
from coterie.content.reuse import CLONE_BYTES_MIN, clone_known, has_mark, known_chunks, mark_reused
from coterie.content.swarm.events import Denied, NodeArrived, Prepared, Skipped, Stored, Wrong
from coterie.content.walk import FileIn
from coterie.content.writer import STAGED, Staging, check_space, discard_partial, staging_path
from coterie.errors import CloseCode, NotFound, PeerError
from coterie.identity import PeerId
from coterie.texts import tr
from coterie.transfer import messages
from coterie.transfer.arrival import Arrival
from coterie.transfer.arriving import REASONS, Answer, File, Finished, NodePlace, Parts, bytes_of, prepared
from coterie.transfer.discretion import Discretion
from coterie.transfer.got import Got
from coterie.transfer.left_out import LeftOut
from coterie.transfer.long_run import Streaks
from coterie.transfer.messages import ChunkUnavailable, NoManifest, Unavailable
from coterie.transfer.naming import Naming
from coterie.transfer.on_disk import still_wanted
from coterie.transfer.partial_content import Staged, Where
from coterie.transfer.records import TransferRecord
from coterie.transfer.tree_memory import TreeMemory
from coterie.wire import Ticket

KEPT_MAX = 100_000  # nodes that need not be stored again: about 10 MB; guess

Event = NodeArrived | Stored | Denied | Skipped | Wrong


class Receiver:
    """Everything of one download that touches the disk."""

    def __init__(
        self,
        ticket: Ticket,
        record: TransferRecord,
        *,
        store: Store,
        discretion: Discretion,
        arrival: Arrival,
    ) -> None:
        """The root has to describe exactly the files and bytes of the `record`, which were announced.

        Not asked for is what `store` knows and `discretion` lets be used, and what `arrival` has at the target.
        """
        self._staging_id = record.staging or ticket.content_id
        self._store = store
        self._discretion = discretion
        self._kind = Kind(ticket.kind)
        self._root = ticket.content_id
        self._target = Path(record.target)
        self._totals = (record.files, record.size)
        self._mtime_ns = record.mtime_ns
        self._executable = record.executable
        self._only = tuple(record.only)
        self._chosen = Chosen(record.only)
        self._arrival = arrival
        self.skipped_bytes = 0  # of files that are not wanted
        self.has_kept = False  # something at the target, of which it is not known here whether all of it came
        self._kept: set[bytes] = set()
        self._streaks = Streaks()
        self.staged = Staged(store, ticket.content_id)
        self._opened: Staging | None = None
        self._is_fresh = False
        self._is_unmarked = True  # nothing of this computer's files is in the staging area
        self._found_came = True  # all that an earlier run left came for this content
        self._naming = Naming(ANY_NAME)
        self._left_out = LeftOut()
        self._memory = TreeMemory()
        self.files = 0
        self.done_bytes = 0
        self.fetched_bytes = 0
        self.reused_bytes = 0

    def root_place(self) -> NodePlace:
        """Where the root node belongs."""
        return NodePlace((), None)

    def prepare(self, manifest: bytes, place: NodePlace, node: m.Node) -> Prepared:
        """Ready the disk for a node: make folders, find what is there already, say what is missing."""
        match node:
            case m.TreeIndex():
                below = [
                    (c.id, NodePlace(place.parts, c))
                    for c in m.children(node, place.child.before if place.child else None)
                ]
                return Prepared(manifest, place, (), (), tuple(below))
            case m.TreeLeaf():
                return self._prepare_page(manifest, place, node)
            case m.BlobIndex():
                return self._prepare_index(manifest, place, node)
            case m.BlobLeaf():
                return self._prepare_leaf(manifest, place, node)

    def store(self, peer: PeerId, answers: list[Answer]) -> list[Event]:
        """Check the answers of `peer` and write them. What is not what was asked for is the end of it: `Wrong`.

        The last chunks may be told as `Stored` by a later call only; one without answers tells all that came.

        Raises:
            StorageError: the disk.
        """
        nodes: list[tuple[bytes, bytes]] = []
        events = self._check(peer, answers, nodes) if answers else _stored(peer, self._settle(peer))
        if nodes:
            self._store.put_manifests(self._root, nodes)
        return events

    def _check(self, peer: PeerId, answers: list[Answer], nodes: list[tuple[bytes, bytes]]) -> list[Event]:
        """As `store`; the nodes that are to be kept go into `nodes`: what came together is one write."""
        events: list[Event] = []
        count = 0
        for answer in answers:
            try:
                if answer.chunks:
                    count += self._take_chunks(answer)
                    continue
                events += _stored(peer, count + self._settle(peer))
                count = 0
                events.append(self._take_other(answer, nodes))
            except PeerError as error:
                wrong = Wrong(peer, str(error), error.close_code)
                return [*events, *_stored(peer, count + self._settle(peer)), wrong]
        return events + _stored(peer, count)

    def room(self, peer: PeerId, size: int) -> memoryview | None:
        """Where the next chunks of `peer` may be put before `store` takes them, to save a copy; None: anywhere."""
        return self._streaks.room(peer, size)

    def _settle(self, peer: PeerId) -> int:
        """See to it that all that `peer` brought is in its file; how many chunks that were not told."""
        if self._opened is None or self._streaks.is_idle(peer):
            return 0
        with self._opened.translated():
            return self._streaks.settle(peer)

    def _take_other(self, answer: Answer, nodes: list[tuple[bytes, bytes]]) -> Event:
        match answer.frame:
            case messages.Skipped(reason):
                return Skipped(answer.peer, elsewhere=reason == messages.Skip.ELSEWHERE)
            case ChunkUnavailable(reason):
                return Denied(answer.peer, reason)
            case _:
                return self._take_node(answer, nodes)

    def lose(self, place: NodePlace, index: int, reason: int) -> None:
        """A chunk cannot be had: nothing of its file is delivered."""
        file = place.targets[index][0]
        place.done |= 1 << index
        known = reason in REASONS
        self._lose(file, REASONS[Unavailable(reason) if known else Unavailable.GONE])

    def finish(self, on_existing: str) -> Finished:
        """Links, times, then the final name; into what is there where the arrival may.

        Raises:
            NotFound: nothing of what was asked for can be had.
            TargetExists: something took the name meanwhile; what arrived is kept.
        """
        self._drop_mistaken()
        if self._only and not self.files:
            self.discard()
            raise NotFound(tr("no file in it is like {only}", only=" or ".join(self._only)))
        if self._left_out.files and not self.files:
            self.discard()
            raise self._left_out.error(self._target.name, is_tree=self._kind is Kind.TREE)
        arrival = self._arrival
        if self._kind is Kind.BLOB and (self.has_kept or not os.path.lexists(self._staging.path / STAGED)):
            path = self._target  # it is there as it is to be
            self._staging.discard()
        else:
            into = arrival.into if arrival.may_merge else None
            path = self._staging.finish(keep_both=on_existing == "keep-both", into=into)
            for parts, why in self._staging.refused:
                self._left_out.add(self._label(parts), why)
        arrival.settle(path, (file.parts for file in self.staged.files(self._mtime_ns)))
        self.staged.lies_at(path)
        renamed = sorted([*self._naming.renamed, *arrival.news.numbered])
        left_out = self._left_out
        return Finished(path, sorted(left_out.listed), left_out.count, renamed, arrival.news)

    def _drop_mistaken(self) -> None:
        """Remove files that came for a pattern which turned out to be the name of another."""
        failed = self._left_out.paths
        for path, size in self._chosen.mistaken().items():
            if path not in failed:
                *folder, name = path.split("/")
                self._staging.remove_file(tuple(folder), name)
                self.files, self.done_bytes = self.files - 1, self.done_bytes - size

    def record(self, path: Path, got: Got) -> None:
        """After `finish`: make what lies at `path` known to the store.

        Each file is noted as it was written, for the next time that the same is `got`.
        """
        record_received(self._store, self._root, path, self.staged.names)
        if self._left_out.is_all_listed:  # else nobody knows of each whether it came
            failed = self._left_out.paths
            files = (f for f in self.staged.files(self._mtime_ns) if not f.parts or self._wants(f.parts))
            self._arrival.remember(got, (f for f in files if "/".join(f.parts) not in failed))

    def discard(self) -> None:
        """Remove what arrived."""
        self.close()
        discard_partial(staging_path(self._target.parent, self._target.name, self._staging_id))

    def close(self) -> None:
        """Close files; what arrived stays for the next time."""
        self._streaks.close()
        if self._opened is not None:
            self._opened.close()

    @property
    def _staging(self) -> Staging:
        """The staging area, opened on first use."""
        if self._opened is None:
            parent, name = self._target.parent, self._target.name
            path = staging_path(parent, name, self._staging_id)
            is_marked = has_mark(path)
            self._found_came = not is_marked and self._staging_id != self._root  # v0.1 did not mark
            if is_marked and not self._discretion.has_reused:
                discard_partial(path)  # a stranger gives now, and could count what is not asked for
            self._is_fresh = not path.exists()
            self._is_unmarked = not is_marked
            if self._is_fresh:
                files, size = self._totals
                known_files, known_bytes = self._arrival.size() if self._arrival.may_merge else (0, 0)
                check_space(parent, max(size - known_bytes, 0), max(files - known_files, 0))
            self._opened = Staging.open(parent, name, self._staging_id, self._kind, self._totals[1])
            self._store.add_root(self._root, self._kind, name, files=self._totals[0], size=self._totals[1])
            self.staged.lies_at(self._opened.path / STAGED)
            self._naming = Naming(self._opened.rules)
        return self._opened

    # -- nodes -------------------------------------------------------------------------------------------------

    def _take_node(self, answer: Answer, nodes: list[tuple[bytes, bytes]]) -> NodeArrived:
        if isinstance(answer.frame, NoManifest):
            return NodeArrived(answer.peer, answer.manifest, answer.place, None)
        data = bytes(bytes_of(answer.frame))
        node = m.decode(data, answer.manifest)
        child = answer.place.child
        if child is not None:
            m.check_child(child, node)
        elif m.kind_of(node) is not self._kind:
            raise PeerError("a lying manifest: the ticket names another kind of thing")
        elif m.totals(node) != self._totals:
            said, found = self._totals, m.totals(node)
            raise PeerError(
                f"a lying manifest: {said[0]} files of {said[1]} bytes were announced, "
                f"and it describes {found[0]} of {found[1]}"
            )
        _ = self._staging
        if answer.manifest not in self._kept:  # a tree may name one node many times
            nodes.append((answer.manifest, data))
            if len(self._kept) < KEPT_MAX:
                self._kept.add(answer.manifest)
        return NodeArrived(answer.peer, answer.manifest, answer.place, node)

    def _prepare_page(self, manifest: bytes, place: NodePlace, node: m.TreeLeaf) -> Prepared:
        staging = self._staging
        if place.child is None and self._mtime_ns:  # 0: the giver (until v0.1) did not say
            staging.make_folder((), self._mtime_ns)
        absent: list[int] = []
        is_page = place.child is not None and place.child.first is not None
        local = self._naming.of(place.parts, node, is_page=is_page)
        children: list[tuple[bytes, NodePlace]] = []
        wanted: list[bool] = []
        kept: list[int] = []
        place.chunks = m.leaf_chunks(node)
        self._chosen.look("/".join((*place.parts, name)) for name in local)
        for entry, name in zip(node.entries, local, strict=True):
            parts = (*place.parts, name)
            match entry:
                case _ if is_reserved(entry.name) or (
                    isinstance(entry, m.FileEntry) and not self._wants(parts, entry.size)
                ):
                    hidden = self._skip(parts, entry)
                    absent += range(len(wanted), len(wanted) + len(hidden))
                    place.targets += hidden
                    wanted += [False] * len(hidden)
                case m.DirectoryEntry():
                    if len(parts) > m.DEPTH_MAX:
                        raise PeerError(f"more than {m.DEPTH_MAX} folders within each other", CloseCode.LIMIT)
                    self._memory.add(parts, "")
                    if self._only or self._make_folder(parts, entry):
                        children.append((entry.tree, NodePlace(parts, m.entry_child(entry))))
                case m.LinkEntry():
                    if self._wants(parts):
                        self._prepare_link(parts, entry.target)
                case m.FileEntry():
                    file = self._file_of(parts, entry)
                    if entry.blob:
                        children.append((entry.blob, NodePlace(parts, m.entry_child(entry), file)))
                    elif file.failed:
                        chunks = len(entry.chunks) // m.CHUNK.size
                        absent += self._withhold(manifest, list(range(len(wanted), len(wanted) + chunks)))
                        place.targets += [(file, 0)] * chunks
                        wanted += [False] * chunks
                    else:
                        missing = self._prepare_small(place, file, m.unpack_chunks(entry.chunks))
                        kept += [len(wanted) + at for at, is_wanted in enumerate(missing) if not is_wanted]
                        wanted += missing
        absent += self._withhold(manifest, [] if self._found_came else kept)
        absent += self._reuse(manifest, place, wanted)
        plain = local == [entry.name for entry in node.entries]
        self.staged.note(manifest, Where(place.parts, names=None if plain else tuple(local)))
        return prepared(manifest, place, wanted, children, tuple(absent))

    def _make_folder(self, parts: Parts, entry: m.DirectoryEntry) -> bool:
        """Whether this disk can hold it; else nothing in it is fetched."""
        try:
            self._staging.make_folder(parts, entry.mtime_ns)
        except EntryRefused as refused:
            self.skipped_bytes += entry.size
            self._left_out.add(self._label(parts), refused.reason, files=entry.files)
            return False
        return True

    def _skip(self, parts: Parts, entry: m.Entry) -> list[tuple[File, int]]:
        """Fetch nothing of what is not wanted, or has a name that is coterie's own; where its chunks go."""
        size = 0 if isinstance(entry, m.LinkEntry) else entry.size
        self.skipped_bytes += size
        if is_reserved(entry.name):
            files = entry.files if isinstance(entry, m.DirectoryEntry) else 1
            self._left_out.add(self._label(parts), RESERVED, files=files)
        if not isinstance(entry, m.FileEntry):
            return []
        nobody = File(parts, size, entry.mtime_ns, entry.executable, size, failed=True)
        return [(nobody, 0)] * len(m.unpack_chunks(entry.chunks))

    def _file_of(self, parts: Parts, entry: m.FileEntry) -> File:
        """A file of a folder; it may be here already."""
        file = File(parts, entry.size, entry.mtime_ns, entry.executable, entry.size)
        seen = FileIn(parts, entry.size, entry.blob, chunks=entry.chunks, mtime_ns=entry.mtime_ns)
        return self._unless_here(file, seen)

    def _unless_here(self, file: File, seen: FileIn) -> File:
        """`file`, marked so that nothing of it is fetched where it is at the target as it is to be."""
        if self._arrival.has(seen.parts, seen, executable=file.executable):
            file.failed = file.is_here = self.has_kept = True
            file.left = 0
            self.done_bytes += file.size
            self.files += 1
        return file

    def _wants(self, parts: Parts, size: int = 0) -> bool:
        """Whether this file is one of those chosen, as far as is known."""
        return not self._only or self._chosen.wants("/".join(parts), size)

    def _prepare_small(self, place: NodePlace, file: File, chunks: list[m.Chunk]) -> list[bool]:
        """Note where each chunk of a file goes; which of them are wanted."""
        offset = 0
        for _, size in chunks:
            place.targets.append((file, offset))
            offset += size
        if not chunks:
            self._write_whole(file, ())
        return self._missing(file, chunks, 0)

    def _prepare_link(self, parts: Parts, target: str) -> None:
        if symlink_allowed(target, len(parts) - 1):
            self._memory.add(parts, target)
            self._staging.add_link(parts[:-1], parts[-1], target)
        else:
            self._left_out.add("/".join(parts), "a symbolic link that leads out of the folder")

    def _prepare_leaf(self, manifest: bytes, place: NodePlace, node: m.BlobLeaf) -> Prepared:
        chunks = m.leaf_chunks(node)
        file = place.file or self._single_file(manifest, sum(size for _, size in chunks))
        place.chunks = chunks
        at = place.offset
        for _, size in chunks:
            place.targets.append((file, at))
            at += size
        if file.failed:
            return prepared(manifest, place, [False] * len(chunks), [], tuple(range(len(chunks))))
        if not chunks:
            self._write_whole(file, ())
        wanted = self._missing(file, chunks, place.offset)
        kept = [index for index, is_wanted in enumerate(wanted) if not is_wanted]
        absent = self._withhold(manifest, [] if self._found_came else kept)
        absent += self._reuse(manifest, place, wanted, file)
        self.staged.note(manifest, Where(() if self._kind is Kind.BLOB else file.parts, place.offset))
        return prepared(manifest, place, wanted, [], tuple(absent))

    def _prepare_index(self, manifest: bytes, place: NodePlace, node: m.BlobIndex) -> Prepared:
        file = place.file or self._single_file(manifest, m.totals(node)[1])
        below, at = [], place.offset
        for child in m.children(node):
            below.append((child.id, NodePlace(place.parts, child, file, at)))
            at += child.size
        return Prepared(manifest, place, (), (), tuple(below))

    def _single_file(self, manifest: bytes, size: int) -> File:
        file = File((STAGED,), size, self._mtime_ns, self._executable, size)
        return self._unless_here(file, FileIn((), size, manifest, mtime_ns=self._mtime_ns))

    def _missing(self, file: File, chunks: list[m.Chunk], offset: int) -> list[bool]:
        """For each chunk whether it has to be fetched: those on disk from before, and right, need not; nor zeros."""
        staging = self._staging
        if not chunks or (self._is_fresh and zero_chunk(file.size) not in chunks):
            return [True] * len(chunks)
        if chunks[0][1] == file.size and not self._is_fresh:
            folder, name = file.parts[:-1], file.parts[-1]
            right = staging.small_is_right(
                folder, name, chunks, executable=file.executable, mtime_ns=file.mtime_ns
            )
            if right:
                file.is_made, file.left = True, 0
                self.done_bytes += file.size
                self.files += 1
            return [not right]
        try:
            large = self._large(file)
            wanted = still_wanted(large, chunks, offset, file.size, is_fresh=self._is_fresh)
        except EntryRefused as refused:
            self._lose(file, refused.reason)
            return [False] * len(chunks)
        found = sum(size for (_, size), is_wanted in zip(chunks, wanted, strict=True) if not is_wanted)
        large.close()
        file.handle = None
        if found:
            self._count(file, found)
        return wanted

    def _withhold(self, manifest: bytes, chunks: list[int]) -> list[int]:
        """These chunks did not come for this content: nobody hears of them, or gets them, from here."""
        self.staged.withhold(manifest, chunks)
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
        if self._is_unmarked:
            with self._staging.translated():
                mark_reused(self._staging.path)
            self._is_unmarked = False
        self._withhold(manifest, known)
        if file is not None:
            self._share(file, place, wanted, known)
        for index, data in known_chunks(self._store, place.chunks, [i for i in known if wanted[i]]):
            self._write(*place.targets[index], data)
            self.reused_bytes += len(data)
            wanted[index] = False
        return known

    def _share(self, file: File, place: NodePlace, wanted: list[bool], known: list[int]) -> None:
        """Take long stretches of a large file from files of this computer, without copying where that can be."""
        if sum(place.chunks[index][1] for index in known) < CLONE_BYTES_MIN:
            return
        for index in clone_known(self._store, self._large(file), place.offset, place.chunks, known):
            wanted[index] = False
            self.reused_bytes += place.chunks[index][1]
            self._count(file, place.chunks[index][1])

    def _large(self, file: File) -> LargeFile:
        if file.handle is None:
            folder, name = file.parts[:-1], file.parts[-1]
            file.handle = self._staging.large_file(
                folder, name, file.size, executable=file.executable, again=file.is_made
            )
            file.is_made = True
        return file.handle

    def _write_whole(self, file: File, pieces: tuple[bytes | memoryview, ...]) -> None:
        folder, name = file.parts[:-1], file.parts[-1]
        try:
            self._staging.write_small(
                folder, name, pieces, executable=file.executable, mtime_ns=file.mtime_ns
            )
        except EntryRefused as refused:
            self._lose(file, refused.reason)
            return
        file.is_made, file.left = True, 0
        self.done_bytes += file.size
        self.files += 1

    # -- chunks ------------------------------------------------------------------------------------------------

    def _take_chunks(self, answer: Answer) -> int:
        """Check and write what came together, but for what others brought; how many more are in their files."""
        place, index, end = answer.place, answer.index, answer.index + answer.chunks
        data = bytes_of(answer.frame)
        at, is_right = 0, True
        for digest, size in place.chunks[index:end]:
            is_right = is_right and blake3(data[at : at + size]).digest() == digest
            at += size
        if at != len(data) or not is_right:
            name = self._label(place.targets[index][0].parts)
            raise PeerError(f"the other computer sent wrong bytes for {name}")
        self.fetched_bytes += at
        file, last = place.targets[index][0], place.targets[end - 1][0]
        mask = (1 << end) - (1 << index)
        is_row = last is file and not (file.failed or place.done & mask)
        if is_row and (answer.chunks > 1 or at != file.size):
            return self._take_row(answer.peer, place, index, answer.chunks, data)
        landed = at = 0
        for i in range(index, end):
            size = place.chunks[i][1]
            landed += self._take_chunk(answer.peer, place, i, data[at : at + size])
            at += size
        return landed

    def _take_chunk(self, peer: PeerId, place: NodePlace, index: int, data: bytes | memoryview) -> int:
        """One that was checked."""
        file = place.targets[index][0]
        is_wanted = not (file.failed or place.done >> index & 1)
        if is_wanted and len(data) != file.size:
            return self._take_row(peer, place, index, 1, data)
        place.done |= 1 << index
        if is_wanted:
            self._write_whole(file, (data,))
        return self._settle(peer) + 1

    def _take_row(
        self, peer: PeerId, place: NodePlace, index: int, chunks: int, data: bytes | memoryview
    ) -> int:
        """Chunks of one file that follow each other, checked and wanted."""
        file, offset = place.targets[index]
        place.done |= ((1 << chunks) - 1) << index
        streak = self._streaks.of(peer)
        try:
            with self._staging.translated():
                streak.write(file, self._large(file), offset, data, chunks)
        except EntryRefused as refused:
            self._lose(file, refused.reason)
            return self._settle(peer) + chunks
        self._count(file, len(data))
        return streak.landed()

    def _write(self, file: File, offset: int, data: bytes | memoryview) -> None:
        """Put the verified bytes of one chunk where they belong."""
        if len(data) == file.size:
            self._write_whole(file, (data,))
        else:
            self._large(file).write_at(offset, data)
            self._count(file, len(data))

    def _count(self, file: File, size: int) -> None:
        """Some bytes of a large file are there; with the last of them it is whole."""
        file.left -= size
        self.done_bytes += size
        if file.left == 0 and not file.failed:
            self.files += 1
            with self._staging.translated():
                self._streaks.settle_file(file)
            self._large(file).finish(file.mtime_ns)
            file.handle = None

    def _lose(self, file: File, reason: str) -> None:
        """A chunk cannot be had: nothing of its file is delivered."""
        if file.failed:
            return
        file.failed = True
        with self._staging.translated():
            self._streaks.settle_file(file)
        self.done_bytes -= file.size - file.left
        if file.handle is not None:
            file.handle.close()
            file.handle = None
        if file.is_made:
            self._staging.remove_file(file.parts[:-1], file.parts[-1])
        self._left_out.add(self._label(file.parts), reason, files=1)

    def _label(self, parts: Parts) -> str:
        """What people call an entry."""
        return "/".join(parts) if self._kind is Kind.TREE else self._target.name


def _stored(peer: PeerId, count: int) -> list[Event]:
    return [Stored(peer, count)] if count else []
