"""The keys of folders that somebody keeps without reading them: files that the owner of this home alone may read."""

import contextlib
import logging
import os
from pathlib import Path

from coterie.apps.context import Context
from coterie.apps.folders import membership
from coterie.apps.folders.folder_keys import (
    KEYS_BYTES_MAX,
    KEYS_MAX,
    FolderKeys,
    has_keepers,
    kept_id,
    kept_record,
    needs_new_key,
    open_keys,
    owner_of,
    to_sign,
)
from coterie.apps.folders.membership import FolderRecord
from coterie.apps.folders.signed_body import packed
from coterie.content.sealed import KEY_BYTES
from coterie.errors import PeerError
from coterie.private_file import write_private
from coterie.texts import tr

log = logging.getLogger(__name__)


class KeyRing:
    """Keys by folder. Belongs to the event loop."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._place = context.data.folder / "keys"
        self._keys: dict[bytes, tuple[FolderKeys, bytes]] = {}
        self._by_kept: dict[bytes, bytes] = {}

    def read(self, folder: bytes, record: FolderRecord) -> None:
        """What is on disk for a folder; damaged keys are told again by others, or made anew by the owner."""
        try:
            with self._file(folder).open("rb") as file:
                raw = file.read(KEYS_BYTES_MAX + 1)
        except OSError:
            return
        try:
            self._note(folder, record, raw)
        except PeerError as error:
            log.warning("keys of a live folder: %s", error)

    def of(self, folder: bytes) -> FolderKeys | None:
        """The keys of a folder, if it has some."""
        found = self._keys.get(folder)
        return found[0] if found is not None else None

    def raw(self, folder: bytes) -> bytes:
        """As `of`, signed; b"": it has none."""
        found = self._keys.get(folder)
        return found[1] if found is not None else b""

    def folder_of(self, kept: bytes) -> bytes | None:
        """The folder that keepers know as `kept`."""
        return self._by_kept.get(kept)

    def follow(self, before: FolderRecord, record: FolderRecord) -> None:
        """By the owner: keys that go with a record; a new one where somebody may less than `before`."""
        known = self.of(record.id)
        if known is None and not has_keepers(record):
            return
        keys = known.keys if known is not None else ()
        if not keys or needs_new_key(before, record):
            epoch = max(record.at_ms // 1000, keys[0][0] + 1 if keys else 1)  # also past one that was lost
            keys = ((epoch, os.urandom(KEY_BYTES)), *keys)[:KEYS_MAX]
        sign, kept = self._context.me.sign, kept_record(record)
        made = FolderKeys(record.id, record.seq, keys, packed(kept, sign(membership.to_sign(kept))))
        self.take(record, packed(made, sign(to_sign(made))))

    def take(self, record: FolderRecord, raw: bytes) -> bool:
        """Keep these keys of a folder with this `record`; False: they are not newer than what is here.

        Raises:
            PeerError: they are none, or not of the folder's owner. StorageError: the disk refuses.
        """
        if not self._note(record.id, record, raw):
            return False
        self._place.mkdir(mode=0o700, exist_ok=True)
        write_private(self._file(record.id), raw, noun=tr("the keys of a live folder"))
        return True

    def forget(self, folder: bytes) -> None:
        """The folder is here no longer."""
        found = self._keys.pop(folder, None)
        if found is not None:
            self._by_kept.pop(kept_id(folder), None)
        with contextlib.suppress(OSError):
            self._file(folder).unlink(missing_ok=True)

    def _note(self, folder: bytes, record: FolderRecord, raw: bytes) -> bool:
        keys = open_keys(raw)
        if keys.folder != folder or owner_of(keys) != record.owner:
            raise PeerError("keys of a folder by somebody who does not own it")
        known = self.of(folder)
        if known is not None and keys.seq <= known.seq:
            return False
        self._keys[folder] = keys, raw
        self._by_kept[kept_id(folder)] = folder
        return True

    def _file(self, folder: bytes) -> Path:
        return self._place / folder.hex()
