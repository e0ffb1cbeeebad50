"""The keys of a live folder that somebody keeps without reading it: made by its owner, signed, for its readers. Pure.

    signed = "coterie folder keys" | 0 | body          body: msgpack of `FolderKeys`

A reader who leaves makes a new key: what is sealed from then on is closed to who has the old ones only. What was sealed
before stays open to them, wherever they find it.
"""

import msgspec
from blake3 import blake3

from coterie.apps.folders import signed_body
from coterie.apps.folders.kept import EPOCH_MAX
from coterie.apps.folders.membership import (
    FOLDER_ID_BYTES,
    KEYS_CONTEXT,
    RECORD_BYTES_MAX,
    FolderRecord,
    Role,
    open_record,
)
from coterie.content.sealed import KEY_BYTES
from coterie.decoding import decoder
from coterie.errors import PeerError

KEYS_MAX = 4  # the newest: those before were sealed anew long ago; guess
KEYS_BYTES_MAX = RECORD_BYTES_MAX + 1_024
_KEPT = "coterie folders 1: the folder as its keepers know it"
_REPLICA = "coterie folders 1: a replica as keepers know it"


class FolderKeys(msgspec.Struct, frozen=True, array_like=True):
    """What readers of a folder with keepers have.

    Fields:
        folder: the id of the folder. `seq`: of its record, for which this holds; the highest counts.
        keys: (epoch, key), newest first.
        kept: the packed record that keepers get: another id, another name, the same members.
    """

    folder: bytes
    seq: int
    keys: tuple[tuple[int, bytes], ...]
    kept: bytes

    @property
    def epoch(self) -> int:
        """Of the newest key."""
        return self.keys[0][0]

    def __repr__(self) -> str:
        return f"FolderKeys(seq={self.seq}, epoch={self.epoch})"


def kept_id(folder: bytes) -> bytes:
    """The id under which keepers know a folder: nobody derives the folder's own from it."""
    return blake3(folder, derive_key_context=_KEPT).digest(FOLDER_ID_BYTES)


def kept_replica(replica: bytes, epoch: int) -> bytes:
    """The replica as keepers know it: another for each key, so that everything is sealed anew."""
    return blake3(replica + epoch.to_bytes(8), derive_key_context=_REPLICA).digest(len(replica))


def kept_record(record: FolderRecord) -> FolderRecord:
    """What keepers are told of a folder: who is in it, and a name that says nothing."""
    kept = kept_id(record.id)
    return msgspec.structs.replace(record, id=kept, name=f"kept-{kept.hex()[:6]}")


def has_keepers(record: FolderRecord) -> bool:
    """Whether somebody keeps the folder without reading it."""
    return not record.is_over and any(role == Role.KEEP for _, role in record.members)


def needs_new_key(before: FolderRecord, after: FolderRecord) -> bool:
    """Whether somebody may less than before: who left must not open what is sealed from now on.

    So it is also where a writer may only read: what was sealed by it counts no longer, and is sealed anew by others.
    """
    now = dict(after.members)
    return any(
        role != Role.KEEP and now.get(subject) != role and now.get(subject) != Role.WRITE
        for subject, role in before.members
    )


def to_sign(keys: FolderKeys) -> bytes:
    """The bytes that the owner signs."""
    return signed_body.to_sign(KEYS_CONTEXT, keys)


@decoder(PeerError, "the keys of a folder")
def open_keys(raw: bytes) -> FolderKeys:
    """Read and verify what `signed_body.packed` made of keys.

    Raises:
        PeerError: they are none, are forged, or over a bound.
    """
    noun = "the keys of a folder"
    keys = msgspec.msgpack.decode(signed_body.body_of(raw, noun, KEYS_BYTES_MAX), type=FolderKeys)
    epochs = [epoch for epoch, _ in keys.keys]
    if not 0 < len(epochs) <= KEYS_MAX or epochs != sorted(set(epochs), reverse=True):
        raise PeerError(f"{noun} in no order")
    if not 1 <= epochs[-1] <= epochs[0] <= EPOCH_MAX or any(len(key) != KEY_BYTES for _, key in keys.keys):
        raise PeerError("a key of a folder that cannot be one")
    record = open_record(keys.kept)
    if record.id != kept_id(keys.folder) or record.seq != keys.seq:
        raise PeerError(f"{noun} with the record of another")
    signed_body.check_signed(raw, keys, KEYS_CONTEXT, record.owner, noun)
    return keys


def owner_of(keys: FolderKeys) -> bytes:
    """Who signed them."""
    return open_record(keys.kept).owner
