"""Where things stand in the key space: 256-bit numbers, and what an item is.

A node's place is a hash of its PeerId, not the PeerId itself: a public key's bits can be steered cheaply (adding a
known point to a key makes the next key without a new scalar multiplication, so prefixes are searched at the speed
of additions), its top bit is a sign, and one hash gives nodes, values, publishers and content the same space with
a context each, so that none of them can be passed off as another. It costs an attacker one hash more for each
try and no puzzle: departure from S/Kademlia 4.1 (see docs/protocol/kademlia.md).

    item    = kind u8 | body
    value   = 00 | bytes (1..1000)                       its key is the hash of the bytes
    signed  = 01 | publisher 32 | signature 64 | body    its key is the hash of publisher and salt
    body    = msgpack array: sequence, expires, salt, value
    signed over "coterie kademlia signed item" | 0 | 01 | publisher | body          (Ed25519)
"""

from functools import lru_cache

import msgspec
from blake3 import blake3

from coterie.decoding import decoder
from coterie.errors import CloseCode, PeerError, UsageError
from coterie.identity import PeerId
from coterie.identity.keys import SIGNATURE_BYTES, Signer, verify
from coterie.identity.peer_id import KEY_BYTES
from coterie.texts import tr

ID_BITS = 256
ID_BYTES = 32
VALUE_BYTES_MAX = 1_000  # BEP 44 has the same: a peer record (900 bytes) fits
SALT_BYTES_MAX = 64  # BEP 44
SEQUENCE_MAX = 2**63 - 1
PLAIN, SIGNED = 0, 1

_HEAD_BYTES = 1 + KEY_BYTES + SIGNATURE_BYTES
ITEM_BYTES_MAX = _HEAD_BYTES + VALUE_BYTES_MAX + SALT_BYTES_MAX + 32
CONTEXT = b"coterie kademlia signed item\x00"
_IDS_CACHED = 65_536  # places of peers remembered by this process: about 10 MB

_NODE = "coterie kademlia node id v1"
_CONTENT = "coterie kademlia content key v1"
_VALUE = "coterie kademlia value key v1"
_PUBLISHER = "coterie kademlia publisher key v1"


def _hash(context: str, data: bytes) -> bytes:
    return blake3(data, derive_key_context=context).digest()


@lru_cache(maxsize=_IDS_CACHED)
def node_id(peer: bytes) -> int:
    """The place of a peer (its 32 bytes) in the key space."""
    return int.from_bytes(_hash(_NODE, peer), "big")


def content_key(content_id: bytes) -> bytes:
    """The 32-byte key under which providers of a content id are found.

    A hash, so that those who are asked for it do not learn the id with which they could fetch the content.
    """
    return _hash(_CONTENT, content_id)


def value_key(value: bytes) -> bytes:
    """The key of an immutable value."""
    return _hash(_VALUE, value)


def publisher_key(publisher: PeerId, salt: bytes = b"") -> bytes:
    """The key of what `publisher` publishes under `salt`, whichever is newest."""
    return _hash(_PUBLISHER, publisher + salt)


class _Body(msgspec.Struct, frozen=True, array_like=True):
    sequence: int
    expires: int
    salt: bytes
    value: bytes


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(_Body)


class Item(msgspec.Struct, frozen=True):
    """What stands under a key: checked by `open_item`.

    Fields:
        key: 32 bytes, follows from the item itself.
        value: what was published.
        raw: the item as it travels.
        publisher, sequence, expires (unix s), salt: of a signed item only; expires is None for a plain one.
    """

    key: bytes
    value: bytes
    raw: bytes
    publisher: PeerId | None = None
    sequence: int = 0
    expires: int | None = None
    salt: bytes = b""


def plain_item(value: bytes) -> Item:
    """An immutable item. Raises UsageError when it is empty or over `VALUE_BYTES_MAX`."""
    if not 0 < len(value) <= VALUE_BYTES_MAX:
        raise UsageError(
            tr(
                "a value has 1 to {value_bytes_max} bytes, not {value}",
                value_bytes_max=VALUE_BYTES_MAX,
                value=len(value),
            )
        )
    return Item(value_key(value), value, bytes([PLAIN]) + value)


def signed_item(key: Signer, value: bytes, *, sequence: int, expires: int, salt: bytes = b"") -> Item:
    """An item of the owner of `key`; the one with the largest sequence under a salt counts.

    Raises:
        UsageError: it breaks a bound.
    """
    if not 0 < len(value) <= VALUE_BYTES_MAX:
        raise UsageError(
            tr(
                "a value has 1 to {value_bytes_max} bytes, not {value}",
                value_bytes_max=VALUE_BYTES_MAX,
                value=len(value),
            )
        )
    if len(salt) > SALT_BYTES_MAX or not 0 <= sequence <= SEQUENCE_MAX or not 0 < expires <= SEQUENCE_MAX:
        raise UsageError(
            tr(
                "a salt has up to {salt_bytes_max} bytes, numbers are not negative",
                salt_bytes_max=SALT_BYTES_MAX,
            )
        )
    body = _ENCODER.encode(_Body(sequence, expires, salt, value))
    publisher = key.peer_id
    signature = key.sign(CONTEXT + bytes([SIGNED]) + publisher + body)
    raw = bytes([SIGNED]) + publisher + signature + body
    return Item(publisher_key(publisher, salt), value, raw, publisher, sequence, expires, salt)


@decoder(PeerError, "an item")
def open_item(raw: bytes, now: float) -> Item:
    """Read and verify an item; `now` is unix seconds.

    Raises:
        PeerError: it is malformed, oversized, forged or expired. Nothing of it is to be used.
    """
    if len(raw) > ITEM_BYTES_MAX:
        raise PeerError(f"an item of {len(raw)} bytes is over {ITEM_BYTES_MAX}", CloseCode.LIMIT)
    kind = raw[0] if raw else None
    if kind == PLAIN:
        return _open_plain(raw)
    if kind != SIGNED or len(raw) <= _HEAD_BYTES:
        raise PeerError("an item of no known kind, or a truncated one")
    publisher, signature, body = PeerId(raw[1:33]), raw[33:_HEAD_BYTES], raw[_HEAD_BYTES:]
    if not verify(publisher, CONTEXT + raw[:33] + body, signature):
        raise PeerError("an item whose signature does not fit")
    read = _DECODER.decode(body)
    sound = 0 < len(read.value) <= VALUE_BYTES_MAX and len(read.salt) <= SALT_BYTES_MAX
    if not sound or not 0 <= read.sequence <= SEQUENCE_MAX:
        raise PeerError("an item out of its bounds")
    if read.expires <= now:
        raise PeerError("an expired item")
    key = publisher_key(publisher, read.salt)
    return Item(key, read.value, raw, publisher, read.sequence, read.expires, read.salt)


def _open_plain(raw: bytes) -> Item:
    try:
        return plain_item(raw[1:])
    except UsageError as error:
        raise PeerError(str(error)) from None
