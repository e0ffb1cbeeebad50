"""PeerId: an Ed25519 public key as bytes, text, a short form for screens and words to read aloud."""

import base64
import binascii
from functools import cache
from typing import Any

from coterie.errors import UsageError

KEY_BYTES = 32
TEXT_CHARS = 52  # 256 bits at 5 bits a character, rounded up
SHORT_CHARS = 10  # 50 bits: enough to tell people's machines apart on a screen, not to authenticate
WORDS = 24  # BIP-39: 256 bits and an 8-bit checksum, 11 bits a word


@cache
def _word_list() -> Any:
    from mnemonic import Mnemonic  # 2,048 words: loaded only when somebody reads aloud

    return Mnemonic("english")


class PeerId(bytes):
    """A node's name: its 32-byte Ed25519 public key. Orders, hashes and compares as the key does."""

    __slots__ = ()

    def __new__(cls, key: bytes) -> "PeerId":
        if len(key) != KEY_BYTES:
            raise UsageError(f"a peer id is {KEY_BYTES} bytes, not {len(key)}")
        return super().__new__(cls, key)

    @classmethod
    def parse(cls, text: str) -> "PeerId":
        """Read any lossless form: the 52-character text or the 24 words; case and spacing do not matter."""
        parts = text.strip().lower().replace("-", " ").split()
        if len(parts) > 1:
            return cls._from_words(parts)
        compact = "".join(parts)
        if len(compact) != TEXT_CHARS:
            raise UsageError(f"a peer id has {TEXT_CHARS} characters, this has {len(compact)}")
        try:
            key = base64.b32decode(compact.upper() + "====")
        except binascii.Error:
            raise UsageError("a peer id has only the letters a-z and the digits 2-7") from None
        peer = cls(key)
        if str(peer) != compact:
            raise UsageError("the last character of this peer id is mistyped")
        return peer

    @classmethod
    def _from_words(cls, words: list[str]) -> "PeerId":
        if len(words) != WORDS:
            raise UsageError(f"a spoken peer id has {WORDS} words, this has {len(words)}")
        known = _word_list()
        for word in words:
            if word not in known.wordlist:
                raise UsageError(f"'{word}' is not one of the words of a spoken peer id")
        try:
            return cls(bytes(known.to_entropy(words)))
        except ValueError:
            raise UsageError(
                "a word of this peer id is wrong or out of order: the checksum does not fit"
            ) from None

    @property
    def short(self) -> str:
        """The first characters of the text form: for screens only, never for trust."""
        return str(self)[:SHORT_CHARS]

    @property
    def words(self) -> str:
        """24 words to read aloud or compare by ear, with a checksum; `parse` takes them back."""
        return str(_word_list().to_mnemonic(bytes(self)))

    def matches(self, short: str) -> bool:
        """Whether `short` (at least 4 characters) is a beginning of this id's text form."""
        wanted = short.strip().lower()
        return len(wanted) >= 4 and str(self).startswith(wanted)

    def __str__(self) -> str:
        return base64.b32encode(self).decode("ascii").lower().rstrip("=")

    def __repr__(self) -> str:
        return f"PeerId({self.short})"
