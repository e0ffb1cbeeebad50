"""The folder of uploads: for each a record and the bytes that came. What is on disk is what a client is told.

`ID.part` has the bytes; its size is the offset. `ID.json` says what it is. `ID.check` is there while a part with a
checksum comes: it has the offset before it, to which the file goes back unless the checksum is right. Bytes are on the
disk (fdatasync) before a client is told that they are; after a crash of the program nothing is lost, after one of the
computer at most what no client was told of.
"""

import contextlib
import errno
import hashlib
import logging
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from coterie.content.file_steps import flush_quietly
from coterie.decoding import decoder
from coterie.errors import DiskFull, LimitExceeded, NotFound, StorageError, UsageError
from coterie.private_file import write_private
from coterie.quantity import say_bytes
from coterie.texts import tr
from coterie.web.uploads.rules import (
    AGE_S_MAX,
    UPLOADS_FEW_MAX,
    UPLOADS_MAX,
    UPLOADS_OF_ONE_MAX,
    Checksum,
    Named,
)

SPACE_RESERVE_BYTES = 256 << 20  # stay free for the rest of the computer; guess
FLUSH_BYTES = 32 << 20  # written before they are brought to the disk meanwhile; the last flush is short then
ID_BYTES = 16  # of an upload: nobody guesses it
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

log = logging.getLogger(__name__)


class Upload(msgspec.Struct, frozen=True):
    """What is known of one upload: `owner` is who sends it, `size` in bytes, `created` in seconds since 1970,
    `is_few`: its owner has few rights.
    """

    id: str
    owner: str
    batch: str
    path: tuple[str, ...]
    size: int
    created: float
    media: str = ""
    is_few: bool = False


class Writing:
    """One run of bytes into one upload. Its methods block: they belong into a thread, one at a time."""

    def __init__(self, path: Path, mark: Path, checksum: Checksum | None) -> None:
        """Raises OSError."""
        self._mark = mark
        self._checksum = checksum
        self._hash = hashlib.new(checksum.algorithm, usedforsecurity=False) if checksum else None
        self._unflushed = 0
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | getattr(os, "O_BINARY", 0))
        self.offset = os.fstat(self._fd).st_size
        self._first = self.offset
        try:
            if checksum is not None:
                write_private(mark, str(self.offset).encode())
        except StorageError:
            os.close(self._fd)
            raise

    def write(self, data: bytes) -> None:
        """Append `data`. Raises OSError."""
        view = memoryview(data)
        while view:
            done = os.write(self._fd, view)
            if self._hash is not None:
                self._hash.update(view[:done])
            view = view[done:]
            self.offset += done
            self._unflushed += done
        if self._unflushed >= FLUSH_BYTES:
            flush_quietly(self._fd)
            self._unflushed = 0

    def close(self, *, is_whole: bool) -> bool:
        """Bring it to the disk. False: the checksum is wrong, or what it is of did not come whole: nothing was added.

        Raises OSError.
        """
        try:
            right = (
                self._hash is None or self._checksum is None or self._hash.digest() == self._checksum.value
            )
            if self._hash is not None and not (is_whole and right):
                os.ftruncate(self._fd, self._first)
                self.offset = self._first
            os.fsync(self._fd)
        finally:
            os.close(self._fd)
        self._mark.unlink(missing_ok=True)
        return right


class UploadFolder:
    """All uploads of a node that have not gone on to where they belong. Methods block for metadata only."""

    def __init__(self, folder: Path, *, now: Callable[[], float] = time.time) -> None:
        """`folder`: made when missing, of its owner only. `now`: seconds since 1970. Raises `StorageError`."""
        self.folder = folder
        self._now = now
        self._uploads: dict[str, Upload] = {}
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for path in sorted(folder.glob("*.json")):
                self._load(path)
            self._sweep_rest()
        except OSError as error:
            raise StorageError(
                tr(
                    "the uploads in {folder} cannot be read: {strerror}",
                    folder=folder,
                    strerror=error.strerror,
                )
            ) from error

    def all(self) -> list[Upload]:
        """Those that have not expired."""
        self.expire()
        return list(self._uploads.values())

    def of_batch(self, owner: str, batch: str) -> list[Upload]:
        """Those of one batch, in the order in which they began."""
        return [one for one in self.all() if one.owner == owner and one.batch == batch]

    def find(self, owner: str, upload: str) -> Upload:
        """The upload of this id, if it is of this owner. Raises `NotFound`, the same for that of another."""
        found = self._uploads.get(upload)
        if found is None or found.owner != owner or self._is_old(found):
            raise NotFound(tr("no such upload: it has ended, expired, or never began"))
        return found

    def part(self, upload: Upload) -> Path:
        """Where its bytes are."""
        return self.folder / f"{upload.id}.part"

    def offset(self, upload: Upload) -> int:
        """How many bytes of it are here; 0 where it has gone on."""
        try:
            return self.part(upload).stat().st_size
        except FileNotFoundError:
            return 0

    def is_whole(self, upload: Upload) -> bool:
        """Whether all of it is here, and no part is still to be checked."""
        return self.offset(upload) == upload.size and not self._mark(upload).exists()

    def expires(self, upload: Upload) -> float:
        """When it is removed unless bytes come, in seconds since 1970."""
        try:
            last = self.part(upload).stat().st_mtime
        except FileNotFoundError:
            last = upload.created
        return last + AGE_S_MAX

    def create(self, owner: str, what: Named, size: int, *, is_few: bool = False) -> Upload:
        """Begin an upload. What those with few rights (`is_few`) have begun keeps no room from the others.

        Raises:
            LimitExceeded: too many are unfinished, of this owner or of all.
            DiskFull: the disk does not have the room for it and for what else is to come.
            StorageError: the folder cannot be written.
        """
        every = self.all()
        mine = sum(one.owner == owner for one in every)
        few = sum(one.is_few for one in every)
        bounds = (
            (len(every), UPLOADS_MAX),
            (mine, UPLOADS_OF_ONE_MAX),
            (few if is_few else 0, UPLOADS_FEW_MAX),
        )
        for count, most in bounds:
            if count >= most:
                raise LimitExceeded(tr("{most} uploads wait already: finish or cancel some first", most=most))
        self._check_room(size, every if is_few else [one for one in every if not one.is_few])
        upload = Upload(
            secrets.token_urlsafe(ID_BYTES),
            owner,
            what.batch,
            what.path,
            size,
            self._now(),
            what.media,
            is_few,
        )
        try:
            os.close(os.open(self.part(upload), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        except OSError as error:
            raise failed(error, self.folder) from error
        write_private(self._record(upload.id), msgspec.json.encode(upload))
        self._uploads[upload.id] = upload
        return upload

    def write(self, upload: Upload, checksum: Checksum | None = None) -> Writing:
        """Begin to append to it. Raises `StorageError`."""
        try:
            return Writing(self.part(upload), self._mark(upload), checksum)
        except OSError as error:
            raise failed(error, self.folder) from error

    def remove(self, upload: Upload) -> None:
        """Forget it and what came of it."""
        self._uploads.pop(upload.id, None)
        for path in (self._record(upload.id), self.part(upload), self._mark(upload)):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)

    def remove_of(self, owner: str) -> int:
        """Forget all of an owner who may send nothing more; how many those were."""
        mine = [one for one in self._uploads.values() if one.owner == owner]
        for one in mine:
            self.remove(one)
        return len(mine)

    def expire(self) -> None:
        """Forget those that are too old."""
        for one in [one for one in self._uploads.values() if self._is_old(one)]:
            log.info("the upload of %s has expired", one.path[-1])
            self.remove(one)

    def _is_old(self, upload: Upload) -> bool:
        return self.expires(upload) <= self._now()

    def _check_room(self, size: int, every: Iterable[Upload]) -> None:
        to_come = size + sum(max(0, one.size - self.offset(one)) for one in every)
        try:
            free = shutil.disk_usage(self.folder).free
        except OSError as error:
            raise failed(error, self.folder) from error
        if free < to_come + SPACE_RESERVE_BYTES:
            raise DiskFull(
                tr(
                    "this computer's disk has {free} free; this upload and those under way take {to_come}, and "
                    "{reserve} are to stay free: free some space and try again",
                    free=say_bytes(free),
                    to_come=say_bytes(to_come),
                    reserve=say_bytes(SPACE_RESERVE_BYTES),
                )
            )

    def _load(self, path: Path) -> None:
        try:
            upload = read_upload(path.read_bytes())
        except UsageError as error:
            log.warning("%s is left out: %s", path, error)
            path.unlink(missing_ok=True)
            return
        if upload.id != path.stem:
            return
        mark = self._mark(upload)
        if mark.exists():  # the program ended while a part with a checksum came
            text = mark.read_text(encoding="ascii")
            with contextlib.suppress(FileNotFoundError):
                os.truncate(self.part(upload), min(int(text or 0), self.offset(upload)))
            mark.unlink()
        self._uploads[upload.id] = upload

    def _sweep_rest(self) -> None:
        """What a crash left between two steps."""
        for path in self.folder.iterdir():
            upload, _, ending = path.name.partition(".")
            if path.is_file() and (upload not in self._uploads or ending not in ("json", "part")):
                path.unlink(missing_ok=True)

    def _record(self, upload: str) -> Path:
        return self.folder / f"{upload}.json"

    def _mark(self, upload: Upload) -> Path:
        return self.folder / f"{upload.id}.check"


def failed(error: OSError, folder: Path) -> StorageError:
    """What went wrong with the disk, for people: `DiskFull` where it is full."""
    if error.errno in FULL:
        return DiskFull(
            tr(
                "this computer's disk is full: what came is kept; free some space, and the upload goes on from there"
            )
        )
    return StorageError(
        tr("cannot write in {folder}: {strerror}", folder=folder, strerror=error.strerror or str(error))
    )


@decoder(UsageError, "the record of an upload")
def read_upload(raw: bytes) -> Upload:
    """Raises `UsageError`."""
    return msgspec.json.decode(raw, type=Upload)
