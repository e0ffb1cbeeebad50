"""Files that belong to their owner only, replaced whole: a crash at any point leaves the old one or the new one."""

import contextlib
import os
from pathlib import Path

from coterie.errors import StorageError
from coterie.texts import tr


def write_private(path: Path, content: bytes, *, noun: str = "") -> None:
    """Replace `path` in one step with `content`, readable by its owner only. `noun` goes before the path in messages.

    Raises:
        StorageError: it cannot be written.
    """
    temporary = path.with_name(f"{path.name}.{os.urandom(8).hex()}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        what = f"{noun} {path}" if noun else str(path)
        raise StorageError(
            tr("{what} cannot be written: {strerror}", what=what, strerror=error.strerror)
        ) from error


def move_database(path: Path, to: Path) -> None:
    """Move an SQLite file and what lies beside it; raises OSError.

    What lies beside it goes first: it belongs to that file and would damage the next one of its name;
    and after a crash in between the file is still found damaged.
    """
    for ending in ("-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            os.replace(f"{path}{ending}", f"{to}{ending}")
    os.replace(path, to)
