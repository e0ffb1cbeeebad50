"""Reads the files of a live folder to know their contents: on all cores, small ones in batches.

A file that changes while it is read has no content yet: it is looked at again.
"""

import os
import stat
import threading
from collections.abc import Iterable, Iterator

import msgspec

from coterie.apps.folders.in_use import AGAIN_S
from coterie.apps.folders.register import Kind
from coterie.apps.folders.root import Root
from coterie.apps.folders.steps import Print
from coterie.content.builder import build_blob
from coterie.content.hashing import read_files
from coterie.content.manifest import TOTAL_MAX, unpack_chunks
from coterie.content.scan import FoundFile, unreadable

WORKERS_MAX = 16  # guess: beyond it the disk is the limit


class Hashed(msgspec.Struct, frozen=True):
    """A file and its content: the id of its manifest, its packed `chunks`, and how it looked when it was read."""

    local: str
    print: Print
    content: bytes
    chunks: bytes

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self.print.size


class NotHashed(msgspec.Struct, frozen=True):
    """A file without a content: look again after `again_s`; None: it cannot be read, `reason` says why."""

    local: str
    again_s: float | None = AGAIN_S
    reason: str = ""


def hash_files(
    root: Root,
    local: Iterable[str],
    cancel: threading.Event,
    *,
    has_inodes: bool = True,
    has_bits: bool = True,
) -> Iterator[Hashed | NotHashed]:
    """The contents of these files, as they come; fewer once `cancel` is set."""
    names: dict[tuple[str, str], str] = {}
    missing: list[NotHashed] = []

    def found() -> Iterator[FoundFile]:
        for one in local:
            try:
                status = root.status(one)
            except OSError:
                status = None
            if status is None or not stat.S_ISREG(status.st_mode):
                missing.append(NotHashed(one))
                continue
            folder, _, name = one.rpartition("/")
            path = os.path.join(root.path, *folder.split("/")) if folder else root.path
            file = FoundFile(path, name, 0, 0, 0, 0, False)
            file.update(status)
            names[(path, name)] = one
            yield file

    for read in read_files(found(), _cores(), cancel):
        for file in read.files:
            one = names.pop((file.folder, file.name))
            if file.ctime_ns == TOTAL_MAX:  # something of it was changed while it was read
                yield NotHashed(one)
                continue
            packed = file.chunks or b""
            content = build_blob(unpack_chunks(packed), lambda *_: None).id
            inode = file.inode if has_inodes else 0
            bit = file.executable and has_bits
            seen = Print(Kind.FILE, inode, file.size, file.mtime_ns, file.ctime_ns, bit, "")
            yield Hashed(one, seen, content, packed)
        for skipped in read.skipped:
            one = names.pop(os.path.split(skipped.path))
            yield _skipped(root, one, skipped.reason)
        yield from missing
        missing.clear()
    yield from missing


def content_at(root: Root, local: str, expects: Print) -> bytes | None:
    """The content of a file as it is now; None: it cannot be said, or it is not the file that was expected."""
    for one in hash_files(root, [local], threading.Event()):
        if isinstance(one, Hashed) and (one.print.size, one.print.mtime_ns) == (
            expects.size,
            expects.mtime_ns,
        ):
            return one.content
    return None


def _skipped(root: Root, local: str, reason: str) -> NotHashed:
    """A file that could not be read: it goes on changing or has gone, which the next look shows, or is unreadable."""
    try:
        os.close(os.open(root.at(local), os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)))
    except FileNotFoundError:
        return NotHashed(local)
    except OSError as error:
        return NotHashed(local, None, unreadable(error))
    return NotHashed(local, reason=reason)


def _cores() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, WORKERS_MAX)
