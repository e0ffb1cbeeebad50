"""The sealed form of chunks, names and records: for computers that keep them and cannot read them.

sealed = version (1 byte) | tag (32) | ChaCha20-Poly1305 of: length (u32) | plain | zeros
tag    = keyed BLAKE3 of the plain bytes, with a key of its purpose
key    = keyed BLAKE3 of the tag; the nonce is zero, for a key encrypts one plain text only

This is deterministic authenticated encryption by a synthetic initialisation vector (Rogaway and Shrimpton,
"Deterministic Authenticated-Encryption", EUROCRYPT 2006, section 4), with BLAKE3 as the pseudo-random function: the
same bytes under the same key are sealed alike by each of its owners. So what is known already is not kept twice, and
only changed chunks travel. A keeper sees which sealed texts are equal, and sizes in the steps of Padmé; nothing else.

docs/protocol/sealed.md has the format and a worked example.
"""

import struct
from enum import StrEnum
from hmac import compare_digest
from typing import TYPE_CHECKING

from blake3 import blake3

from coterie.content.manifest import CHUNK_BYTES_MAX
from coterie.decoding import decoder
from coterie.errors import PeerError, UsageError
from coterie.texts import tr
from coterie.wire.padding import padded_bytes

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

KEY_BYTES = 32
TAG_BYTES = 32
VERSION = 1
PADDED_BYTES_MIN = 64  # guess: short names, and small records, look alike
SEALED_BYTES_MAX = CHUNK_BYTES_MAX  # a sealed chunk travels as a chunk

_POLY1305_BYTES = 16
_LENGTH = struct.Struct(">I")
_HEAD_BYTES = 1 + TAG_BYTES
_OVERHEAD_BYTES = _HEAD_BYTES + _POLY1305_BYTES
_ZERO_NONCE = bytes(12)  # RFC 8439, 2.3

PLAIN_BYTES_MAX = 516_096 - _LENGTH.size  # the largest size of Padmé that fits a chunk, sealed


class Purpose(StrEnum):
    """What is sealed. What was sealed for one purpose cannot be passed off as something of another."""

    CHUNK = "coterie sealed chunk 1"
    NAME = "coterie sealed name 1"
    RECORD = "coterie sealed record 1"
    CONTENT = "coterie sealed content 1"


class Seal:
    """Seals and opens with one key: of a folder, or of an owner. Its text form never contains the key."""

    __slots__ = ("_keys",)

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise UsageError(
                tr("a key for sealing has {wanted} bytes, not {got}", wanted=KEY_BYTES, got=len(key))
            )
        self._keys = {
            purpose: (
                blake3(key, derive_key_context=f"{purpose}: tag").digest(),
                blake3(key, derive_key_context=f"{purpose}: key").digest(),
            )
            for purpose in Purpose
        }

    def tag(self, purpose: Purpose, plain: bytes) -> bytes:
        """32 bytes that stand for `plain`, and tell nothing of it to who has no key: to look it up by."""
        return blake3(plain, key=self._keys[purpose][0]).digest()

    def seal(self, purpose: Purpose, plain: bytes) -> bytes:
        """`plain` as a keeper has it: for the same bytes always the same.

        Raises:
            UsageError: more than `PLAIN_BYTES_MAX` bytes.
        """
        if len(plain) > PLAIN_BYTES_MAX:
            raise UsageError(
                tr(
                    "{got} bytes are too many to seal at once: at most {most}",
                    got=len(plain),
                    most=PLAIN_BYTES_MAX,
                )
            )
        tag = self.tag(purpose, plain)
        size = padded_bytes(_LENGTH.size + len(plain), PADDED_BYTES_MIN)
        padded = (_LENGTH.pack(len(plain)) + plain).ljust(size, b"\0")
        return bytes((VERSION,)) + tag + self._cipher(purpose, tag).encrypt(_ZERO_NONCE, padded, None)

    def open(self, purpose: Purpose, sealed: bytes) -> bytes:
        """The plain bytes in `sealed`.

        Raises:
            PeerError: damaged, forged, sealed with another key or for another purpose.
        """
        from cryptography.exceptions import InvalidTag

        if not _HEAD_BYTES < len(sealed) <= SEALED_BYTES_MAX:
            raise PeerError(f"a sealed text of {len(sealed)} bytes")
        if sealed[0] != VERSION:
            raise PeerError(f"a sealed text of version {sealed[0]}; this program knows {VERSION}")
        tag = sealed[1:_HEAD_BYTES]
        try:
            padded = self._cipher(purpose, tag).decrypt(_ZERO_NONCE, sealed[_HEAD_BYTES:], None)
        except InvalidTag:
            raise PeerError("a sealed text that this key does not open") from None
        plain = read_padded(padded)
        if not compare_digest(self.tag(purpose, plain), tag):
            raise PeerError("a sealed text with the tag of another")
        return plain

    def _cipher(self, purpose: Purpose, tag: bytes) -> "ChaCha20Poly1305":
        from cryptography.hazmat.primitives.ciphers.aead import (
            ChaCha20Poly1305,
        )  # 20 ms: only where it is used

        return ChaCha20Poly1305(blake3(tag, key=self._keys[purpose][1]).digest())

    def __repr__(self) -> str:
        return "Seal()"

    def __reduce__(self) -> str | tuple[object, ...]:
        raise UsageError(tr("a secret key is not to be pickled"))


def sealed_bytes(size: int) -> int:
    """How many bytes `size` plain bytes take when sealed; at most `PLAIN_BYTES_MAX` of them."""
    return _OVERHEAD_BYTES + padded_bytes(_LENGTH.size + size, PADDED_BYTES_MIN)


def pieces(size: int) -> list[int]:
    """The sizes in which `size` bytes are sealed: one, and two equal ones only for the largest of chunks."""
    if size <= PLAIN_BYTES_MAX:
        return [size]
    count = -(-size // PLAIN_BYTES_MAX)
    return [size // count + (1 if at < size % count else 0) for at in range(count)]


@decoder(PeerError, "a sealed text")
def read_padded(padded: bytes) -> bytes:
    """The plain bytes that were filled up. Raises `PeerError` when they were in another way than ours."""
    (length,) = _LENGTH.unpack_from(padded)
    plain, rest = padded[_LENGTH.size : _LENGTH.size + length], padded[_LENGTH.size + length :]
    if len(plain) != length or len(padded) != padded_bytes(_LENGTH.size + length, PADDED_BYTES_MIN):
        raise PeerError("a sealed text that is truncated or padded in another way")
    if rest.count(0) != len(rest):
        raise PeerError("a sealed text that is padded in another way")
    return plain
