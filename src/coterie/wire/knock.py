"""A knock: "I am dialling you now, and here I am", sealed to one computer, to be left in a public table.

    bell      = Ed25519 key whose seed both sides can make; there hangs an item of BEP 44, without salt
    item      = one to three sealed knocks, the newest first
    sealed    = X25519 key made for this knock alone 32 | box (X25519, XSalsa20-Poly1305, nonce 0) of: letter
    letter    = sender 32 | signature 64 | version u8 | kind u8 | at u64 (unix s) | reference 32 | proof 16
                | count u8 | addresses as in a ticket | zeros
    signature = Ed25519 of: "coterie knock" 0 | addressee 32 | what follows the signature
    proof     = BLAKE3(sender | addressee, key = BLAKE3-derive-key("coterie knock right", secret)), 16 bytes

The door's bell is made of the addressee's id and the quarter of the hour: who knows the id can ring there. A bell of
a pair is made of a secret that only the two can compute: nobody else can write there or take what hangs there away.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache

from blake3 import blake3

from coterie.decoding import FAULTS, decoder
from coterie.errors import PeerError
from coterie.identity import PeerId, SecretKey
from coterie.identity.keys import SIGNATURE_BYTES, verify
from coterie.identity.peer_id import KEY_BYTES, is_key
from coterie.wire.ticket import pack_addresses, unpack_addresses

VERSION = 1
CONTEXT = b"coterie knock\x00"  # no other signature of ours begins so
SLOT_S = 900  # guess: who fills a door's bell for ever has to come back so often
ADDRESSES_MAX = 3  # one of IPv4 and two of IPv6, as a router that keeps ports or maps them has
REFERENCE_BYTES = 32  # the content id of a ticket
PROOF_BYTES = 16
LETTER_BYTES = 216  # every knock has this size: with the most addresses it has 212
SEALED_BYTES = KEY_BYTES + 16 + LETTER_BYTES
KNOCKS_MAX = 3  # BEP 44 holds 996 bytes (measured)
BELLS_REMEMBERED_MAX = 256  # public keys of bells; making one takes 30 us

_DOOR = "coterie knock door"
_PAIR = "coterie knock pair"
_RIGHT = "coterie knock right"
_SLOT = struct.Struct(">Q")
_FIXED = struct.Struct(f">BBQ{REFERENCE_BYTES}s{PROOF_BYTES}sB")
_HEAD_BYTES = KEY_BYTES + SIGNATURE_BYTES
_NONCE = bytes(24)  # each box has a key of its own


class KnockKind(IntEnum):
    """What a knock says: "let us both dial", or "I heard yours, and dial"."""

    CALL = 1
    ANSWER = 2


@dataclass(frozen=True, slots=True)
class Right:
    """Why somebody unknown may knock: the `secret` of a ticket (or an invitation), and what it is for."""

    reference: bytes
    secret: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Knock:
    """`sender` dials the addressee from `addresses` ("ip:port"), at unix time `at` (s).

    `reference` and `proof` show a right; zeros where the sender needs none.
    """

    sender: PeerId
    kind: KnockKind
    at: int
    addresses: tuple[str, ...] = ()
    reference: bytes = bytes(REFERENCE_BYTES)
    proof: bytes = bytes(PROOF_BYTES)

    def proves(self, secret: bytes, addressee: PeerId) -> bool:
        """Whether the sender has `secret`."""
        return self.proof == proof_of(secret, self.sender, addressee)


@dataclass(frozen=True, slots=True)
class Bell:
    """The seed of the key under which knocks hang."""

    seed: bytes

    @property
    def key(self) -> bytes:
        """The public key, by which the item is found."""
        return _public(self.seed)


def slot_of(now: float) -> int:
    """The quarter of an hour that unix time `now` (s) is in."""
    return max(0, int(now // SLOT_S))


def door_bell(addressee: PeerId, slot: int) -> Bell:
    """Where anybody who knows `addressee` can ring."""
    return Bell(blake3(bytes(addressee) + _SLOT.pack(slot), derive_key_context=_DOOR).digest())


def proof_of(secret: bytes, sender: PeerId, addressee: PeerId) -> bytes:
    """What shows that `sender` has `secret`, to `addressee` and nobody else."""
    key = blake3(secret, derive_key_context=_RIGHT).digest()
    return blake3(bytes(sender) + bytes(addressee), key=key).digest(PROOF_BYTES)


@decoder(PeerError, "a bell")
def read_item(item: bytes) -> list[bytes]:
    """The sealed knocks in what hangs at a bell. Raises `PeerError` when it is no such item."""
    count, rest = divmod(len(item), SEALED_BYTES)
    if rest or count > KNOCKS_MAX:
        raise PeerError("what hangs at a bell is no knock")
    return [item[at : at + SEALED_BYTES] for at in range(0, len(item), SEALED_BYTES)]


def write_item(sealed: Sequence[bytes]) -> bytes:
    """The first `KNOCKS_MAX` of `sealed` as one item."""
    return b"".join(sealed[:KNOCKS_MAX])


class KnockKeys:
    """Seals, opens and finds bells with the key of this node."""

    def __init__(self, key: SecretKey) -> None:
        from nacl.signing import SigningKey

        self._key = key
        self._opening = SigningKey(key.seed).to_curve25519_private_key()
        self._shared: dict[PeerId, bytes] = {}

    @property
    def peer_id(self) -> PeerId:
        """Whose key it is."""
        return self._key.peer_id

    def seal(self, knock: Knock, addressee: PeerId, entropy: bytes) -> bytes:
        """`knock` as it hangs at a bell. `entropy`: 32 random bytes, never used again.

        Raises `PeerError` when the addressee's id cannot be sealed to, `UsageError` when an address is none.
        """
        from nacl.public import Box, PrivateKey

        addresses = knock.addresses[:ADDRESSES_MAX]
        body = _FIXED.pack(VERSION, knock.kind, knock.at, knock.reference, knock.proof, len(addresses))
        body = (body + pack_addresses(addresses)).ljust(LETTER_BYTES - _HEAD_BYTES, b"\0")
        letter = bytes(knock.sender) + self._key.sign(CONTEXT + bytes(addressee) + body) + body
        ephemeral = PrivateKey(entropy)
        box = Box(ephemeral, _curve_key(addressee)).encrypt(letter, _NONCE).ciphertext
        return bytes(ephemeral.public_key) + bytes(box)

    def open(self, sealed: bytes) -> Knock:
        """The knock that is for us and of its sender, by its signature. Raises `PeerError` when it is neither."""
        from nacl.exceptions import CryptoError
        from nacl.public import Box, PublicKey

        try:
            box = Box(self._opening, PublicKey(sealed[:KEY_BYTES]))
            letter = bytes(box.decrypt(sealed[KEY_BYTES:], _NONCE))
        except (CryptoError, *FAULTS) as error:
            raise PeerError(f"a knock that cannot be opened: {type(error).__name__}") from None
        return read_letter(letter, self.peer_id)

    def pair_bell(self, sender: PeerId, addressee: PeerId, slot: int) -> Bell:
        """Where `sender` rings for `addressee` and nobody else can; one of the two is us.

        Raises `PeerError` when the other's id is no key that one can compute with.
        """
        other = addressee if sender == self.peer_id else sender
        text = self._shared_with(other) + bytes(sender) + bytes(addressee) + _SLOT.pack(slot)
        return Bell(blake3(text, derive_key_context=_PAIR).digest())

    def _shared_with(self, other: PeerId) -> bytes:
        from nacl.public import Box

        if other not in self._shared:
            if len(self._shared) >= BELLS_REMEMBERED_MAX:
                del self._shared[next(iter(self._shared))]
            self._shared[other] = Box(self._opening, _curve_key(other)).shared_key()
        return self._shared[other]


@decoder(PeerError, "a knock")
def read_letter(letter: bytes, addressee: PeerId) -> Knock:
    """What was sealed, checked. Raises `PeerError`."""
    if len(letter) != LETTER_BYTES:
        raise PeerError("a knock of another size")
    sender, signature, body = letter[:KEY_BYTES], letter[KEY_BYTES:_HEAD_BYTES], letter[_HEAD_BYTES:]
    if not is_key(sender):
        raise PeerError("a knock of no computer: no key belongs to its sender")
    if not verify(PeerId(sender), CONTEXT + bytes(addressee) + body, signature):
        raise PeerError("a knock with a forged signature")
    version, kind, at, reference, proof, count = _FIXED.unpack_from(body)
    if version != VERSION:
        raise PeerError(f"a knock of version {version}")
    if count > ADDRESSES_MAX:
        raise PeerError(f"a knock with over {ADDRESSES_MAX} addresses")
    packed = body[_FIXED.size :]
    size = _size_of(packed, count)
    if packed[size:].strip(b"\0"):
        raise PeerError("a knock with something behind its end")
    return Knock(
        sender=PeerId(sender),
        kind=KnockKind(kind),
        at=at,
        addresses=unpack_addresses(packed[:size], count),
        reference=reference,
        proof=proof,
    )


def _size_of(packed: bytes, count: int) -> int:
    """How many bytes `count` packed addresses take: a family, an IP, a port."""
    at = 0
    for _ in range(count):
        at += {4: 7, 6: 19}[packed[at]]
    return at


@lru_cache(maxsize=BELLS_REMEMBERED_MAX)
def _public(seed: bytes) -> bytes:
    from nacl.signing import SigningKey

    return bytes(SigningKey(seed).verify_key)


@lru_cache(maxsize=BELLS_REMEMBERED_MAX)
def _curve_key(peer: PeerId):  # type: ignore[no-untyped-def]
    from nacl.exceptions import CryptoError
    from nacl.signing import VerifyKey

    try:
        return VerifyKey(bytes(peer)).to_curve25519_public_key()
    except (CryptoError, *FAULTS) as error:
        raise PeerError(f"nothing can be sealed to {peer.short}: {type(error).__name__}") from None
