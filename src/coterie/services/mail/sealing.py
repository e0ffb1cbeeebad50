"""Letters sealed to one computer and signed by another, and signed receipts.

content   = sender (32) | signature (64) | the letter as msgpack
sealed    = sealed box (libsodium: X25519, XSalsa20-Poly1305) of: length (u32) | content | zeros
signature = of LETTER_CONTEXT | addressee | id | expires (u64) | the letter

Zeros fill up to a size by Padmé (`wire.padding`).
"""

import struct
from dataclasses import dataclass
from functools import lru_cache

import msgspec
from blake3 import blake3

from coterie.decoding import FAULTS, decoder
from coterie.errors import PeerError
from coterie.identity import PeerId, SecretKey
from coterie.identity.keys import SIGNATURE_BYTES, verify
from coterie.identity.peer_id import KEY_BYTES, is_key
from coterie.services.mail.messages import Envelope, Letter, Outcome, Receipt
from coterie.services.mail.signed import LETTER_CONTEXT, RECEIPT_CONTEXT
from coterie.wire.padding import padded_bytes

PADDED_BYTES_MIN = 256  # guess: most letters are short, and look alike
KEYS_MAX = 1_024  # converted keys remembered; a conversion takes 50 us

_LENGTH = struct.Struct(">I")
_EXPIRES = struct.Struct(">Q")
_HEAD_BYTES = KEY_BYTES + SIGNATURE_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A letter that is for us and of `sender`, by its signature. `expires`: unix seconds."""

    sender: PeerId
    id: bytes
    expires: int
    letter: Letter


def digest(body: bytes) -> bytes:
    """What a receipt says of the body: 32 bytes."""
    return blake3(body).digest()


class Seals:
    """Seals, opens and signs with the key of this node."""

    def __init__(self, key: SecretKey) -> None:
        from nacl.public import SealedBox
        from nacl.signing import SigningKey

        self._key = key
        self._opening = SealedBox(SigningKey(key.seed).to_curve25519_private_key())

    @property
    def peer_id(self) -> PeerId:
        """Who seals here."""
        return self._key.peer_id

    def seal(self, letter: Letter, addressee: PeerId, id_: bytes, expires: int) -> Envelope:
        """The letter as it travels; for the same letter another each time."""
        from nacl.public import SealedBox

        packed = msgspec.msgpack.encode(letter)
        signature = self._key.sign(_signed(addressee, id_, expires, packed))
        content = bytes(self.peer_id) + signature + packed
        whole = _LENGTH.pack(len(content)) + content
        whole = whole.ljust(padded_bytes(len(whole), PADDED_BYTES_MIN), b"\0")
        sealed = SealedBox(_sealing_key(bytes(addressee))).encrypt(whole)
        return Envelope(bytes(addressee), id_, expires, bytes(sealed))

    def open(self, envelope: Envelope) -> Opened:
        """The letter in an envelope for this node. Raises `PeerError` when it is for another, forged or damaged."""
        if envelope.addressee != self.peer_id:
            raise PeerError("a letter for another computer")
        from nacl.exceptions import CryptoError

        try:
            whole = self._opening.decrypt(envelope.sealed)
        except (CryptoError, *FAULTS) as error:
            raise PeerError(f"a letter that cannot be opened: {type(error).__name__}") from None
        return read_letter(whole, envelope.addressee, envelope.id, envelope.expires)

    def receipt(self, opened: Opened, outcome: Outcome) -> Receipt:
        """Our word on what became of `opened`."""
        body = digest(opened.letter.body)
        unsigned = Receipt(
            bytes(self.peer_id),
            bytes(opened.sender),
            opened.id,
            outcome,
            opened.letter.attempt,
            body,
            bytes(SIGNATURE_BYTES),
        )
        return msgspec.structs.replace(unsigned, signature=self._key.sign(_receipt_text(unsigned)))

    def is_sound(self, receipt: Receipt) -> bool:
        """Whether a receipt is for this node's letter and of the addressee that it names."""
        if receipt.sender != self.peer_id:
            return False
        return verify(PeerId(receipt.addressee), _receipt_text(receipt), receipt.signature)


@decoder(PeerError, "a letter")
def read_letter(whole: bytes, addressee: bytes, id_: bytes, expires: int) -> Opened:
    """The letter in what was sealed. Raises `PeerError`."""
    (length,) = _LENGTH.unpack_from(whole)
    content = whole[_LENGTH.size : _LENGTH.size + length]
    if len(content) != length or length <= _HEAD_BYTES:
        raise PeerError("a letter that is truncated")
    rest = whole[_LENGTH.size + length :]
    if len(whole) != padded_bytes(_LENGTH.size + length, PADDED_BYTES_MIN) or rest.strip(b"\0"):
        raise PeerError("a letter that is padded in another way")
    if not is_key(content[:KEY_BYTES]):
        raise PeerError("a letter of no computer: no key belongs to its sender")
    sender = PeerId(content[:KEY_BYTES])
    packed = content[_HEAD_BYTES:]
    if not verify(sender, _signed(addressee, id_, expires, packed), content[KEY_BYTES:_HEAD_BYTES]):
        raise PeerError("a letter with a forged signature")
    return Opened(sender=sender, id=id_, expires=expires, letter=_DECODER.decode(packed))


def _signed(addressee: bytes, id_: bytes, expires: int, packed: bytes) -> bytes:
    return LETTER_CONTEXT + bytes(addressee) + id_ + _EXPIRES.pack(expires) + packed


def _receipt_text(receipt: Receipt) -> bytes:
    about = receipt.addressee + receipt.sender + receipt.id
    return RECEIPT_CONTEXT + about + struct.pack(">BI", receipt.outcome, receipt.attempt) + receipt.digest


@lru_cache(maxsize=KEYS_MAX)
def _sealing_key(peer: bytes):  # type: ignore[no-untyped-def]
    from nacl.signing import VerifyKey

    return VerifyKey(peer).to_curve25519_public_key()


_DECODER = msgspec.msgpack.Decoder(Letter)
