"""Makes the manifests of what was found, anew where something changed; the others are in the store already."""

import os
from collections.abc import Callable, Sequence

from blake3 import blake3

from coterie.content import manifest as m
from coterie.content.builder import build_blob, build_tree
from coterie.content.listing import entries_of
from coterie.content.manifest import DirectoryEntry, FileEntry
from coterie.content.scan import FoundFile, FoundFolder, key_of
from coterie.content.seen import Forgotten, Look, SeenFolder, Sight, stamped
from coterie.errors import NotFound


class Trees:
    """The manifests of one import of `top`. `nodes`: those made now, as (id, bytes).

    `load` reads a manifest from the store, `look` says how everything was the last time, `looked_ns` when this import
    began.
    """

    def __init__(
        self, load: Callable[[bytes], bytes | None], top: str, look: Look | None, looked_ns: int
    ) -> None:
        self.nodes: list[tuple[bytes, bytes]] = []
        self.before = look.folders if look is not None else {}
        self._load = load
        self._top = top
        self._look = look
        self._looked_ns = looked_ns
        self._earlier: list[bytes] = []  # ids of nodes in the store, end to end
        self._rows: dict[bytes, SeenFolder] = {}
        self._gone: set[bytes] = set()

    def sight(self, root: bytes) -> Sight:
        """What the store is to keep of this look, now that it gave `root`."""
        is_same = self._look is not None and self._look.root == root
        return Sight(self._rows, self._gone, b"" if is_same else b"".join(self._earlier), self._look)

    def compare(self, found: FoundFile) -> None:
        """Whether the single file `found` looks as it did is noted in it."""
        if (seen := self.before.get(b"")) is not None:
            found.compare(seen.by_name().get(os.fsencode(found.name)))

    def file(self, found: FoundFile) -> bytes:
        """The root of the single file `found`, which was read unless it is the same."""
        if found.is_same:
            seen = self.before[b""]
            self._earlier.append(seen.nodes)
            return seen.tree
        root = build_blob(m.unpack_chunks(found.chunks or b""), self._put).id
        stamps = stamped(found.name, found.stamp(self._looked_ns))
        nodes = b"".join(node for node, _ in self.nodes)
        self._rows[b""] = SeenFolder(stamps, root, _digest(()), nodes, 1, found.size, 1, found.size)
        self._gone = self.before.keys() - {b""}
        return root

    def folder(self, folders: Sequence[FoundFolder], check: Callable[[], None]) -> DirectoryEntry:
        """The tree of the first of `folders`, with all others below it. Their files were read where they had to be.

        Raises:
            Forgotten: the store does not have what it had.
        """
        trees: dict[str, DirectoryEntry] = {}
        for folder in reversed(folders):
            check()
            trees[folder.path] = self._tree(folder, [trees.pop(inner.path) for inner in folder.folders])
        self._gone = self.before.keys() - {key_of(folder, self._top) for folder in folders}
        return trees[folders[0].path]

    def _tree(self, folder: FoundFolder, folders: list[DirectoryEntry]) -> DirectoryEntry:
        below = _digest(folders)
        seen = folder.seen
        if folder.is_same and seen is not None and seen.below == below:
            self._earlier.append(seen.nodes)
            return DirectoryEntry(folder.name, folder.mtime_ns, seen.tree, seen.files, seen.size)
        first = len(self.nodes), len(self._earlier)
        if folder.is_same and seen is not None:
            stamps, own = seen.stamps, [self._again(entry) for entry in self._entries(seen).values()]
        else:
            stamps, own = self._own(folder)
        built = build_tree([*own, *folders], self._put)
        tree = DirectoryEntry(folder.name, folder.mtime_ns, built.id, built.files, built.size)
        nodes = [*(node for node, _ in self.nodes[first[0] :]), *self._earlier[first[1] :]]
        files = [entry.size for entry in own if isinstance(entry, FileEntry)]
        self._rows[key_of(folder, self._top)] = SeenFolder(
            stamps=stamps,
            tree=built.id,
            below=below,
            nodes=b"".join(nodes),
            files=built.files,
            size=built.size,
            own_files=len(files),
            own_bytes=sum(files),
        )
        return tree

    def _own(self, folder: FoundFolder) -> tuple[bytes, list[m.Entry]]:
        """The stamps of a folder that changed, and the entries of its files and links."""
        seen = folder.seen if any(file.is_same for file in folder.files) else None
        before = self._entries(seen) if seen is not None else {}
        entries: list[m.Entry] = [*folder.links]
        stamps = [*folder.link_stamps]
        for file in folder.files:
            stamps.append(stamped(file.name, file.stamp(self._looked_ns)))
            if file.is_same:
                entries.append(self._again(before.get(file.name)))
            elif file.chunks is not None:
                entries.append(self._file_entry(file, file.chunks))
                file.chunks = None
        return b"".join(sorted(stamps)), entries

    def _entries(self, seen: SeenFolder) -> dict[str, m.Entry]:
        """Files and links of a folder as it was."""
        try:
            entries = {entry.name: entry for entry in entries_of(seen.tree, self._load)}
        except NotFound:
            raise Forgotten from None
        return {name: entry for name, entry in entries.items() if not isinstance(entry, DirectoryEntry)}

    def _again(self, entry: m.Entry | None) -> m.Entry:
        """An entry as it was: the manifests of its file go on being needed."""
        if entry is None:
            raise Forgotten
        waiting = [entry.blob] if isinstance(entry, FileEntry) and entry.blob else []
        while waiting:
            node_id = waiting.pop()
            data = self._load(node_id)
            if data is None:
                raise Forgotten
            self._earlier.append(node_id)
            waiting += [child.id for child in m.children(m.decode(data))]
        return entry

    def _file_entry(self, file: FoundFile, packed: bytes) -> FileEntry:
        blob = b""
        if len(packed) > m.INLINE_CHUNKS_MAX * m.CHUNK.size:
            packed, blob = b"", build_blob(m.unpack_chunks(packed), self._put).id
        return FileEntry(file.name, file.executable, file.mtime_ns, file.size, packed, blob)

    def _put(self, node_id: bytes, data: bytes) -> None:
        self.nodes.append((node_id, data))


def _digest(folders: Sequence[DirectoryEntry]) -> bytes:
    return blake3(b"".join(map(m.encode_entry, folders))).digest()
