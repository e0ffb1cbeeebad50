"""The key on disk: made on first start, readable by its owner only, written once and whole."""

import os
import secrets
import stat
from pathlib import Path

from coterie.errors import StorageError
from coterie.identity.keys import SecretKey
from coterie.identity.peer_id import KEY_BYTES
from coterie.texts import tr


def load_or_create_key(path: Path) -> SecretKey:
    """The secret key kept in `path` (32 raw bytes, mode 0600); a new one when there is none.

    Raises:
        StorageError: the file is not a key, belongs to others as well, or cannot be written.
    """
    try:
        return SecretKey(_read_key(path))
    except FileNotFoundError:
        return SecretKey(_create_key(path))


def _read_key(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            seed = file.read(KEY_BYTES + 1)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise StorageError(
            tr("the key file {path} cannot be read: {strerror}", path=path, strerror=error.strerror)
        ) from error
    if os.name == "posix" and stat.S_IMODE(mode) & 0o077:
        raise StorageError(tr("the key file {path} is open to other users; run: chmod 600 {path}", path=path))
    if len(seed) != KEY_BYTES:
        raise StorageError(
            tr(
                "the key file {path} is damaged (not {key_bytes} bytes); restore it from a backup, or "
                "move it away to start with a new identity",
                path=path,
                key_bytes=KEY_BYTES,
            )
        )
    return seed


def _create_key(path: Path) -> bytes:
    """Write a new key beside `path`, then link it into place: two first starts agree on one key."""
    seed = secrets.token_bytes(KEY_BYTES)
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(seed)
                file.flush()
                os.fsync(file.fileno())
            os.link(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except FileExistsError:
        return _read_key(path)
    except OSError as error:
        raise StorageError(
            tr("the key file {path} cannot be written: {strerror}", path=path, strerror=error.strerror)
        ) from error
    return seed
