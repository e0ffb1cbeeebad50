"""What was agreed of one local name, as bytes in the database."""

import msgspec

from coterie.apps.folders.steps import Agreed
from coterie.decoding import decoder
from coterie.errors import StorageError

_DECODER = msgspec.msgpack.Decoder(Agreed)


def pack_agreed(agreed: Agreed) -> bytes:
    """About 150 bytes."""
    return msgspec.msgpack.encode(agreed)


@decoder(StorageError, "a row of a live folder")
def unpack_agreed(raw: bytes) -> Agreed:
    """What `pack_agreed` made."""
    return _DECODER.decode(raw)
