"""Where the contents of one live folder lie on this disk, as the content store is told. Blocking."""

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from coterie.apps.folders.content import Arrived, write_known
from coterie.apps.folders.file_content import content_of, read_kept
from coterie.apps.folders.store import FolderData, FoldersStore
from coterie.content import ChunkUnavailable, Store
from coterie.content.manifest import unpack_chunks
from coterie.content.store import KnownFile
from coterie.content.versions import Versions

KEPT_READ_MAX = 64  # versions that are read for one question: others of that size were there before. Guess
NOTED_FILES = 2_000  # whose chunks are made known in one transaction


class Lying:
    """Of one folder."""

    def __init__(
        self, store: Store, folders: FoldersStore, data: FolderData, path: Path, versions: Versions
    ) -> None:
        """`store`: all content of this node. `path`: of the folder, absolute and real. `versions`: of the node."""
        self._store = store
        self._folders = folders
        self._data = data
        self._path = path
        self._versions = versions

    def note(self, files: Sequence[tuple[str, bytes]]) -> None:
        """These local names have files of these packed chunks now."""
        known: list[KnownFile] = []
        for local, chunks in files:
            path = self._lies_at(local)
            try:
                status = os.lstat(path)
            except OSError:
                continue
            known.append(
                KnownFile(path, status.st_size, status.st_mtime_ns, status.st_ino, status.st_dev, chunks)
            )
        for at in range(0, len(known), NOTED_FILES):
            self._store.add_locations(known[at : at + NOTED_FILES])

    def shrink(self) -> None:
        """Give back the memory of rows that were read."""
        self._store.shrink()
        self._folders.db.shrink()

    def known(self, contents: Sequence[bytes]) -> dict[bytes, bytes]:
        """The packed chunks of those contents that are here; the store finds them also where a file was renamed."""
        known = self._folders.chunks(contents)
        local = {content: one for one, content in self._data.agreed_with(list(known))}
        paths = {self._lies_at(one): (one, content) for content, one in local.items()}
        located = self._store.known_files(list(paths))
        left = [
            content for content in known if content not in local and not self._can_be_read(known[content])
        ]
        self._note_kept({content: known[content] for content in left})
        for content in left:
            if not self._can_be_read(known[content]):  # it has left this disk
                del known[content]
        self.note(
            [
                (one, known[content])
                for path, (one, content) in paths.items()
                if path not in located or located[path].chunks != known[content]  # renamed onto another
            ]
        )
        return known

    def _note_kept(self, wanted: Mapping[bytes, bytes]) -> None:
        """Tell the store which versions have those contents (packed chunks by id), which lie in the folder no more.

        Somebody may have heard of a content, and ask for it, when a merge has put it away here.
        """
        sizes = defaultdict(set)
        for content, chunks in wanted.items():
            sizes[sum(size for _, size in unpack_chunks(chunks))].add(content)
        if not sizes:
            return
        top, left = os.fsencode(self._path) + os.fsencode(os.sep), KEPT_READ_MAX
        for version in reversed(self._versions.kept()):
            if (
                version.kind != "file"
                or version.content_bytes not in sizes
                or not version.path.startswith(top)
            ):
                continue
            file = read_kept(self._versions.path_of(version.id))
            left -= 1
            if file is not None and (content := content_of(file.chunks)) in wanted:
                self._store.add_locations([file])
                sizes[version.content_bytes].discard(content)
                if not sizes[version.content_bytes]:
                    del sizes[version.content_bytes]
            if not left or not sizes:
                return

    def made(self, wanted: Mapping[bytes, int], place: Path) -> dict[bytes, Arrived]:
        """Files in `place` of those `wanted` contents (with their sizes) that lie here already.

        Raises:
            StorageError: the disk refuses.
        """
        known = self.known(list(wanted))
        arrived: dict[bytes, Arrived] = {}
        for content, size in wanted.items():
            chunks = known.get(content)
            if chunks is None and size:
                continue
            path = place / content.hex()
            path.unlink(missing_ok=True)
            if write_known(self._store, chunks or b"", path):
                arrived[content] = Arrived(path, size, chunks or b"")
        return arrived

    def _can_be_read(self, chunks: bytes) -> bool:
        first = unpack_chunks(chunks)[:1]
        return not any(isinstance(data, ChunkUnavailable) for data in self._store.read_chunks(first))

    def _lies_at(self, local: str) -> str:
        return os.path.join(self._path, *local.split("/"))
