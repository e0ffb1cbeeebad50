"""Circles on disk: one file for each, appended to, readable by its owner only, whole after a crash at any point.

    record = length (u32, big-endian) | operation | check (8 bytes of BLAKE3 over both)

A torn or damaged end is cut off: what was lost comes back from other members. Signatures were checked before an
operation was written, and are not checked again: whoever can write here can read the node's secret key beside it.

Beside a long log lies its summary: what the rules read of the operations, so that a start need not read them. It names
the bytes of the log from which it was made, by their hash; one that is damaged, or of another log, is made anew.

    summary = MAGIC | bytes of the log (u64) | their BLAKE3 (32) | operations (u64) | where each ends (u64 each)
              | `CircleLog.summary` | BLAKE3 of all before (32)
"""

import contextlib
import logging
import os
import struct
import sys
from array import array
from collections.abc import Iterable, Iterator
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

from blake3 import blake3

from coterie.access.circle import Circle
from coterie.access.circle_log import CircleLog
from coterie.access.circle_ops import OP_BYTES_MAX, OpId, OpRefused, SignedOp, read_op
from coterie.decoding import FAULTS, decoder, reason
from coterie.errors import CoterieError, StorageError
from coterie.private_file import write_private
from coterie.texts import tr

LENGTH = struct.Struct(">I")
CHECK_BYTES = 8
SUMMARY_EVERY_OPS = 1_024  # taken one by one at a start, in 30 ms; of a long log up to a 32nd
MAGIC = b"coterie circle summary 1\n"

_HEAD = struct.Struct(">Q32sQ")
_DIGEST_BYTES = 32
_READ_BYTES = 1 << 20

log = logging.getLogger(__name__)


class OpFile:
    """The operations of one circle: in its file, or held until they are written there."""

    def __init__(self, path: Path, ends: "array[int] | None" = None) -> None:
        self._path = path
        self._ends = array("Q") if ends is None else ends
        self._held: list[SignedOp] = []

    def __len__(self) -> int:
        return len(self._ends) + len(self._held)

    def __iter__(self) -> Iterator[SignedOp]:
        return (self[place] for place in range(len(self)))

    def __getitem__(self, place: int) -> SignedOp:
        """Raises `StorageError` when the file is not what it was."""
        if place < 0:
            place += len(self)
        if place >= len(self._ends):
            return self._held[place - len(self._ends)]
        begin, end = self._ends[place - 1] if place else 0, self._ends[place]
        try:
            descriptor = os.open(self._path, os.O_RDONLY)
            try:
                content = os.pread(descriptor, end - begin, begin)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise StorageError(
                tr("the circle {path} cannot be read: {strerror}", path=self._path, strerror=error.strerror)
            ) from error
        for raw, _ in _records(content):
            return read_op(raw, is_verified=True)
        raise StorageError(
            tr("the circle {path} was damaged: start coterie again to mend it", path=self._path)
        )

    @property
    def size(self) -> int:
        """Bytes of the file that are whole."""
        return self._ends[-1] if self._ends else 0

    @property
    def ends(self) -> "array[int]":
        """Where each operation in the file ends."""
        return self._ends

    def append(self, signed: SignedOp) -> None:
        """Hold an operation."""
        self._held.append(signed)

    def read(self, end: int) -> None:
        """What is held was read from the file up to `end`; where nothing is, the last one stands there twice."""
        if self._held:
            self._held.clear()
            self._ends.append(end)
        else:
            self._ends[-1] = end

    def write(self) -> bytes:
        """Write those held behind what is there; they are on the disk when this returns. Gives what was written."""
        records = [_record(signed.raw) for signed in self._held]
        content, begin = b"".join(records), self.size
        if not records:
            return b""
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o600)
            try:
                os.ftruncate(descriptor, begin)  # what a failed write left
                os.lseek(descriptor, begin, os.SEEK_SET)
                with os.fdopen(os.dup(descriptor), "wb") as file:
                    file.write(content)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise StorageError(
                tr(
                    "the circle {path} cannot be written: {strerror}",
                    path=self._path,
                    strerror=error.strerror,
                )
            ) from error
        self._ends.extend(accumulate(map(len, records[1:]), initial=begin + len(records[0])))
        self._held.clear()
        return content


class _Kept(NamedTuple):
    ops: OpFile
    hasher: blake3  # of all that is in the file
    summarised: int  # operations in the summary


class CircleDisk:
    """All circles of a node in a folder."""

    def __init__(self, folder: Path) -> None:
        """Raises `StorageError` when the folder cannot be made."""
        self._folder = folder
        self._kept: dict[OpId, _Kept] = {}
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(
                tr("the folder {folder} cannot be made: {strerror}", folder=folder, strerror=error.strerror)
            ) from error

    def load(self) -> dict[OpId, Circle]:
        """Every circle. Raises `StorageError` for a file that is no circle's."""
        circles: dict[OpId, Circle] = {}
        for path in sorted(self._folder.glob("*.circle")):
            circle = self._load(path)
            if circle is not None:
                circles[circle.id] = circle
        return circles

    def keep(self, circle: Circle) -> None:
        """What `circle` has taken since is on the disk when this returns. Raises `StorageError`."""
        kept = self._kept.get(circle.id)
        if kept is None or circle.log.ops is not kept.ops:
            kept = _Kept(OpFile(self._path(circle.id)), blake3(), 0)
            for signed in circle.log.ops:
                kept.ops.append(signed)
        kept.hasher.update(kept.ops.write())
        self._kept[circle.id], circle.log.ops = kept, kept.ops
        self._summarise(circle)

    def forget(self, circle: OpId) -> None:
        """Remove a circle from the disk."""
        self._kept.pop(circle, None)
        self._path(circle).unlink(missing_ok=True)
        _summary_of(self._path(circle)).unlink(missing_ok=True)

    def _path(self, circle: OpId) -> Path:
        return self._folder / f"{circle.hex()}.circle"

    # ---- reading

    def _load(self, path: Path) -> Circle | None:
        try:
            circle, ops, hasher = self._from_summary(path)
            covered, summarised = ops.size, len(ops)
            with path.open("rb") as file:
                file.seek(covered)
                content = file.read()
        except OSError as error:
            raise StorageError(
                tr("the circle {path} cannot be read: {strerror}", path=path, strerror=error.strerror)
            ) from error
        circle, sound = _add_all(circle, ops, path, content)
        if sound < len(content):
            os.truncate(path, covered + sound)
        if circle is not None:
            hasher.update(memoryview(content)[:sound])
            self._kept[circle.id] = _Kept(ops, hasher, summarised)
            self._summarise(circle)
        return circle

    def _from_summary(self, path: Path) -> tuple[Circle | None, OpFile, blake3]:
        """The circle as far as its summary goes, its operations, and the hash of that much of the log."""
        try:
            content = memoryview(_summary_of(path).read_bytes())
            size, digest, ends, summary = _read_summary(content)
            hasher, ops = _hash_of(path, size), OpFile(path, ends)
            if hasher.digest() != digest:
                raise StorageError(tr("it is of another log"))
            restored = CircleLog.restored(summary, ops)
            if len(restored) != len(ops) or ops.size != size:
                raise StorageError(tr("it is of another length"))
            return Circle(restored), ops, hasher
        except FileNotFoundError:
            pass
        except (OSError, CoterieError, *FAULTS) as error:  # whatever is wrong with it, the log says the same
            log.warning("the summary of %s is made anew: %s", path, reason(error))
        return None, OpFile(path), blake3()

    # ---- summaries

    def _summarise(self, circle: Circle) -> None:
        """Write the summary anew where the log has grown much; without it the next start takes longer."""
        kept, count = self._kept[circle.id], len(circle.log)
        if count - kept.summarised < max(SUMMARY_EVERY_OPS, count // 32) or not circle.log.is_settled:
            return
        ends = array("Q", kept.ops.ends)
        if sys.byteorder == "little":
            ends.byteswap()
        head = MAGIC + _HEAD.pack(kept.ops.size, kept.hasher.digest(), count)
        parts = [head, ends.tobytes(), circle.log.summary()]
        hasher = blake3()
        for part in parts:
            hasher.update(part)
        with contextlib.suppress(StorageError):
            write_private(_summary_of(self._path(circle.id)), b"".join([*parts, hasher.digest()]))
            self._kept[circle.id] = kept._replace(summarised=count)


def _summary_of(path: Path) -> Path:
    return path.with_suffix(".summary")


def _hash_of(path: Path, size: int) -> blake3:
    """The hash of the first `size` bytes of a file, or of all where it is shorter."""
    hasher = blake3()
    with path.open("rb", buffering=0) as file:
        buffer = memoryview(bytearray(min(size, _READ_BYTES) or 1))
        while size > 0 and (count := file.readinto(buffer[:size])):
            hasher.update(buffer[:count])
            size -= count
    return hasher


@decoder(StorageError, "the summary of a circle")
def _read_summary(content: memoryview) -> tuple[int, bytes, "array[int]", memoryview]:
    """Bytes of the log, their hash, where each operation ends, and the rest. Raises `StorageError`."""
    body, check = content[:-_DIGEST_BYTES], content[-_DIGEST_BYTES:]
    if body[: len(MAGIC)] != MAGIC:
        raise StorageError(tr("it is of another version"))
    if blake3(body).digest() != check:
        raise StorageError(tr("it is damaged"))
    size, digest, count = _HEAD.unpack_from(body, len(MAGIC))
    begin = len(MAGIC) + _HEAD.size
    ends = array("Q")
    ends.frombytes(body[begin : begin + count * ends.itemsize])
    if sys.byteorder == "little":
        ends.byteswap()
    return size, digest, ends, body[begin + count * ends.itemsize :]


def _add_all(circle: Circle | None, ops: OpFile, path: Path, content: bytes) -> tuple[Circle | None, int]:
    """`circle` with all operations in `content`, the end of the file; how much of that is whole."""
    sound, begin = 0, ops.size
    for raw, end in _records(content):
        try:
            signed = read_op(raw, is_verified=True)
            if circle is None:
                circle = Circle(CircleLog(signed, ops))
            else:
                circle.add(signed)
        except OpRefused as error:
            raise StorageError(
                tr(
                    "{path} is damaged ({error}); move it away and join the circle again",
                    path=path,
                    error=error,
                )
            ) from error
        except CoterieError:
            break  # its past was in a part that was cut off
        sound = end
        ops.read(begin + sound)
    return circle, sound


def _record(raw: bytes) -> bytes:
    head = LENGTH.pack(len(raw)) + raw
    return head + blake3(head).digest(CHECK_BYTES)


@decoder(StorageError, "the log of a circle")
def _records(content: bytes) -> Iterable[tuple[bytes, int]]:
    """Every whole record with the place behind it, up to the first that is not whole."""
    at = 0
    while at + LENGTH.size <= len(content):
        (length,) = LENGTH.unpack_from(content, at)
        end = at + LENGTH.size + length + CHECK_BYTES
        if length > OP_BYTES_MAX or end > len(content):
            return
        head = content[at : end - CHECK_BYTES]
        if blake3(head).digest(CHECK_BYTES) != content[end - CHECK_BYTES : end]:
            return
        yield head[LENGTH.size :], end
        at = end
