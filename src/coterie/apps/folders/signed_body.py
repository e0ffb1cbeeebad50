"""A value as it is kept and sent with the signature of its owner: 64 bytes, then the msgpack of the value. Pure.

What is signed begins with a context, which says what kind of value it is: no other signature passes for it.
"""

import msgspec

from coterie.errors import PeerError
from coterie.identity import PeerId
from coterie.identity.keys import SIGNATURE_BYTES, verify


def to_sign(context: bytes, value: msgspec.Struct) -> bytes:
    """The bytes that the owner signs."""
    return context + msgspec.msgpack.encode(value)


def packed(value: msgspec.Struct, signature: bytes) -> bytes:
    """A value as it is kept and sent."""
    return signature + msgspec.msgpack.encode(value)


def body_of(raw: bytes, noun: str, bytes_max: int) -> bytes:
    """The value in what `packed` made, to be decoded. Raises PeerError: it is too long."""
    if len(raw) > bytes_max:
        raise PeerError(f"{noun}: too long")
    return bytes(raw[SIGNATURE_BYTES:])


def check_signed(raw: bytes, value: msgspec.Struct, context: bytes, owner: bytes, noun: str) -> None:
    """Raise PeerError unless `owner`, a key, signed what `packed` made of `value`, in the one form that it has."""
    if msgspec.msgpack.encode(value) != raw[SIGNATURE_BYTES:]:
        raise PeerError(f"{noun}: in another form than the one")
    if not verify(PeerId(owner), context + bytes(raw[SIGNATURE_BYTES:]), bytes(raw[:SIGNATURE_BYTES])):
        raise PeerError(f"{noun}: forged")
