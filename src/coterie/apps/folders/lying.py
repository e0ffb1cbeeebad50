"""Where the contents of one live folder lie on this disk, as the content store is told. Blocking."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from coterie.apps.folders.content import Arrived, write_known
from coterie.apps.folders.store import FolderData, FoldersStore
from coterie.content import ChunkUnavailable, Store
from coterie.content.manifest import unpack_chunks
from coterie.content.store import KnownFile

NOTED_FILES = 2_000  # whose chunks are made known in one transaction


class Lying:
    """Of one folder."""

    def __init__(self, store: Store, folders: FoldersStore, data: FolderData, path: Path) -> None:
        """`store`: all content of this node. `path`: of the folder, absolute and real."""
        self._store = store
        self._folders = folders
        self._data = data
        self._path = path

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

    def known(self, contents: Sequence[bytes]) -> dict[bytes, bytes]:
        """The packed chunks of those contents that are here; the store finds them also where a file was renamed."""
        known = self._folders.chunks(contents)
        local = {content: one for one, content in self._data.agreed_with(list(known))}
        paths = {self._lies_at(one): (one, content) for content, one in local.items()}
        located = self._store.known_files(list(paths))
        for content in [content for content in known if content not in local]:
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
