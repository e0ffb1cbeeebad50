"""Contents as sealed chunks: made of what lies on this computer, and files made of what a keeper gives. Blocking."""

import os
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path

from blake3 import blake3

from coterie.apps.folders.content import Arrived
from coterie.apps.folders.kept_messages import ID_BYTES, IDS_MAX, LISTED_MAX, TEXTS_BYTES_MAX
from coterie.apps.folders.messages import SMALL_BYTES
from coterie.apps.folders.sealing import Sealing
from coterie.content import ChunkUnavailable, Store
from coterie.content import manifest as m
from coterie.content.builder import build_blob
from coterie.content.chunker import AVERAGE_TO_MIN, CHUNK_BYTES_AVERAGE_MIN, pack_small
from coterie.content.hashing import read_files
from coterie.content.scan import FoundFile
from coterie.errors import PeerError, StorageError
from coterie.texts import tr

TOGETHER_MAX = (
    256  # chunks that are asked for together: some fit a message, the rest is asked for again; guess
)

List = tuple[bytes, int, int, bytes]
Portion = tuple[dict[bytes, bytes], list[tuple[bytes, bytes]]]


def sealed_portions(store: Store, sealing: Sealing, contents: Mapping[bytes, bytes]) -> Iterator[Portion]:
    """Contents (packed chunks by tag) as messages take them: (sealed chunks by id, contents that are whole with them).

    A content is its tag and the ids of its chunks. One that cannot be read now is left out.
    """
    texts: dict[bytes, bytes] = {}
    whole: list[tuple[bytes, bytes]] = []
    size = 0
    for tag, packed in contents.items():
        ids: list[bytes] = []
        for data in store.read_chunks(m.unpack_chunks(packed)):
            if isinstance(data, ChunkUnavailable):
                break
            for text in sealing.chunk(data):
                if size + len(text) > TEXTS_BYTES_MAX or len(texts) >= IDS_MAX:
                    yield texts, whole
                    texts, whole, size = {}, [], 0
                one = blake3(text).digest()
                ids.append(one)
                size += len(text) if one not in texts else 0
                texts[one] = text
        else:
            whole.append((tag, b"".join(ids)))
    yield texts, whole


def messages_of(whole: list[tuple[bytes, bytes]]) -> Iterator[list[List]]:
    """Lists of contents, as many as a message takes."""
    waiting: list[List] = []
    count = 0
    for tag, ids in whole:
        total = len(ids) // ID_BYTES
        at = 0
        while True:
            part = ids[at * ID_BYTES : (at + LISTED_MAX - count) * ID_BYTES]
            waiting.append((tag, at, total, part))
            at += len(part) // ID_BYTES
            count += len(part) // ID_BYTES
            if count >= LISTED_MAX or len(waiting) >= IDS_MAX:
                yield waiting
                waiting, count = [], 0
            if at >= total:
                break
    if waiting:
        yield waiting


def pieces_max(size: int) -> int:
    """In how many sealed chunks a file of so many bytes may be."""
    return size * AVERAGE_TO_MIN // CHUNK_BYTES_AVERAGE_MIN + 2


class Opening:
    """Files that are made of sealed chunks, one after the other. `fault`: what a keeper gave wrong."""

    def __init__(
        self, sealing: Sealing, contents: Mapping[bytes, bytes], sizes: Mapping[bytes, int], place: Path
    ) -> None:
        """`contents`: ids of their chunks, together, by content. `sizes`: of contents, in bytes.

        `place`: for the files; what is not taken stays.
        """
        self.fault = ""
        self._sealing = sealing
        self._place = place
        self._arrived: dict[bytes, Arrived] = {}
        self._left = {content: len(ids) // ID_BYTES for content, ids in contents.items()}
        self._room = {content: sizes[content] for content in contents}
        self._paths: dict[bytes, Path] = {}
        self._waiting = deque(
            (content, ids[at : at + ID_BYTES])
            for content, ids in contents.items()
            for at in range(0, len(ids), ID_BYTES)
        )
        self._empty = [content for content, ids in contents.items() if not ids]

    def next(self) -> list[bytes]:
        """The chunks to ask for; none: it is done."""
        return [one for (_, one), _ in zip(self._waiting, range(TOGETHER_MAX), strict=False)]

    def take(self, texts: list[bytes]) -> None:
        """What was given for the first of `next`, in that order.

        Raises:
            PeerError: nothing was given. StorageError: the disk refuses.
        """
        if not texts:
            raise PeerError("a keeper gives no chunks")
        for text in texts:
            if not self._waiting:
                break
            content, one = self._waiting.popleft()
            if content not in self._left:
                continue
            try:
                if blake3(text).digest() != one:
                    raise PeerError("a chunk that is missing or damaged")
                data = self._sealing.open_chunk(text)
                if len(data) > self._room[content]:
                    raise PeerError("a content that is longer than it is")
            except PeerError as error:
                self._refuse(content, str(error))
                continue
            self._append(content, data)
            self._room[content] -= len(data)
            self._left[content] -= 1
            if not self._left[content]:
                self._finish(content)

    def close(self) -> dict[bytes, Arrived]:
        """What came whole, by content; the rest is removed."""
        for content in self._empty:
            self._append(content, b"")
            self._finish(content)
        for content, path in self._paths.items():
            if content not in self._arrived:
                path.unlink(missing_ok=True)
        return self._arrived

    def _append(self, content: bytes, data: bytes) -> None:
        path = self._paths.setdefault(content, self._place / f"{content.hex()}-{os.urandom(4).hex()}")
        try:
            with path.open("ab") as file:
                file.write(data)
        except OSError as error:
            raise StorageError(
                tr("{path} cannot be written: {strerror}", path=path, strerror=error.strerror)
            ) from error

    def _finish(self, content: bytes) -> None:
        path = self._paths[content]
        packed = _packed(path)
        if build_blob(m.unpack_chunks(packed), lambda *_: None).id == content:
            self._arrived[content] = Arrived(path, path.stat().st_size, packed)
        else:
            self._refuse(content, "a content under the name of another")

    def _refuse(self, content: bytes, why: str) -> None:
        self.fault = why
        self._left.pop(content, None)


def _packed(path: Path) -> bytes:
    """The packed chunks of a file, as of any that is read here."""
    status = path.stat()
    if status.st_size <= SMALL_BYTES:
        return pack_small(path.read_bytes())
    file = FoundFile(str(path.parent), path.name, 0, 0, 0, 0, False)
    file.update(status)
    for read in read_files([file], 1, threading.Event()):
        for one in read.files:
            return one.chunks or b""
    raise StorageError(tr("{path} cannot be read", path=path))
