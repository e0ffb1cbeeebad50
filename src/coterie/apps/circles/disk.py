"""Circles on disk: one file for each, appended to, readable by its owner only, whole after a crash at any point.

    record = length (u32, big-endian) | operation | check (8 bytes of BLAKE3 over both)

A torn or damaged end is cut off: what was lost comes back from other members. Signatures were checked before an
operation was written, and are not checked again: whoever can write here can read the node's secret key beside it.
"""

import os
import struct
from collections.abc import Iterable
from pathlib import Path

from blake3 import blake3

from coterie.access.circle import Circle
from coterie.access.circle_ops import OP_BYTES_MAX, OpId, OpRefused, SignedOp, read_op
from coterie.decoding import decoder
from coterie.errors import CoterieError, StorageError

LENGTH = struct.Struct(">I")
CHECK_BYTES = 8


class CircleDisk:
    """All circles of a node in a folder."""

    def __init__(self, folder: Path) -> None:
        """Raises `StorageError` when the folder cannot be made."""
        self._folder = folder
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"the folder {folder} cannot be made: {error.strerror}") from error

    def load(self) -> dict[OpId, Circle]:
        """Every circle. Raises `StorageError` for a file that is no circle's."""
        circles: dict[OpId, Circle] = {}
        for path in sorted(self._folder.glob("*.circle")):
            circle = self._load(path)
            if circle is not None:
                circles[circle.id] = circle
        return circles

    def append(self, circle: OpId, ops: Iterable[SignedOp]) -> None:
        """Keep `ops` behind what is there; they are on the disk when this returns. Raises `StorageError`."""
        content = b"".join(_record(signed.raw) for signed in ops)
        path = self._path(circle)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            with os.fdopen(descriptor, "ab") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise StorageError(f"the circle {path} cannot be written: {error.strerror}") from error

    def forget(self, circle: OpId) -> None:
        """Remove a circle from the disk."""
        self._path(circle).unlink(missing_ok=True)

    def _path(self, circle: OpId) -> Path:
        return self._folder / f"{circle.hex()}.circle"

    def _load(self, path: Path) -> Circle | None:
        try:
            content = path.read_bytes()
        except OSError as error:
            raise StorageError(f"the circle {path} cannot be read: {error.strerror}") from error
        circle: Circle | None = None
        sound = 0
        for raw, end in _records(content):
            try:
                signed = read_op(raw, is_verified=True)
                if circle is None:
                    circle = Circle(signed)
                else:
                    circle.add(signed)
            except OpRefused as error:
                raise StorageError(
                    f"{path} is damaged ({error}); move it away and join the circle again"
                ) from error
            except CoterieError:
                break  # its past was in a part that was cut off
            sound = end
        if sound < len(content):
            os.truncate(path, sound)
        return circle


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
