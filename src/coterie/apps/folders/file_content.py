"""The content of a file anywhere on this computer, as live folders name it. Blocking."""

import os
import threading
from pathlib import Path

from coterie.content.builder import build_blob
from coterie.content.hashing import read_files
from coterie.content.manifest import unpack_chunks
from coterie.content.scan import FoundFile
from coterie.content.store import KnownFile


def read_kept(path: Path, cancel: threading.Event | None = None) -> KnownFile | None:
    """A file, with its chunks; None: it cannot be read, or is none."""
    try:
        status = os.lstat(path)
    except OSError:
        return None
    file = FoundFile(str(path.parent), path.name, 0, 0, 0, 0, False)
    file.update(status)
    for _ in read_files([file], 1, cancel or threading.Event()):
        pass
    if file.chunks is None:
        return None
    return KnownFile(file.path, file.size, file.mtime_ns, file.inode, file.device, file.chunks)


def content_of(chunks: bytes) -> bytes:
    """The id of a content by its packed chunks."""
    return build_blob(unpack_chunks(chunks), lambda *_: None).id
