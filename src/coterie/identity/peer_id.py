"""PeerId: an Ed25519 public key as bytes, text, a short form for screens and words to read aloud."""

import base64
import binascii
from functools import cache, lru_cache
from typing import Any

from coterie.decoding import decoder
from coterie.errors import UsageError
from coterie.texts import tr

KEY_BYTES = 32
TEXT_CHARS = 52  # 256 bits at 5 bits a character, rounded up
TEXTS_KEPT_MAX = 4_096  # ids whose text is at hand: lists of people ask for them again and again
SHORT_CHARS = 10  # 50 bits: enough to tell people's machines apart on a screen, not to authenticate
KEYS_REMEMBERED_MAX = 8_192  # ids found to be keys, or not: 1 MB; a check takes 28 us (measured)
WORDS = 24  # BIP-39: 256 bits and an 8-bit checksum, 11 bits a word


_NEUTRAL = b"\x01" + bytes(KEY_BYTES - 1)  # the curve's neutral element: to add it is to decode the other


@cache
def _word_list() -> Any:
    from mnemonic import Mnemonic  # 2,048 words: loaded only when somebody reads aloud

    return Mnemonic("english")


@lru_cache(maxsize=KEYS_REMEMBERED_MAX)
def is_key(raw: bytes) -> bool:
    """Whether these 32 bytes are a public key: half of all are no point of the curve, and no transport dials them."""
    from nacl.bindings import crypto_core_ed25519_add  # 40 ms: only where an id comes from outside
    from nacl.exceptions import RuntimeError as NaClError

    try:
        crypto_core_ed25519_add(raw, _NEUTRAL)
    except NaClError:
        return False
    return True


class PeerId(bytes):
    """A node's name: its 32-byte Ed25519 public key. Orders, hashes and compares as the key does.

    The constructor looks at the length only: for keys that have proven themselves. An id that others, a file or people
    name comes through `read` or `parse`.
    """

    __slots__ = ()

    def __new__(cls, key: bytes) -> "PeerId":
        if len(key) != KEY_BYTES:
            raise UsageError(
                tr("an id of a computer is {key_bytes} bytes, not {key}", key_bytes=KEY_BYTES, key=len(key))
            )
        return super().__new__(cls, key)

    @classmethod
    def read(cls, raw: bytes) -> "PeerId":
        """The id in `raw`, which came from outside. Raises `UsageError` when it is no public key."""
        peer = cls(raw)
        if not is_key(bytes(peer)):
            raise UsageError(
                tr("{short}... is the id of no computer: no key belongs to it", short=peer.short)
            )
        return peer

    @classmethod
    @decoder(UsageError, "this id")
    def parse(cls, text: str) -> "PeerId":
        """Read any lossless form: the 52-character text or the 24 words; case and spacing do not matter."""
        parts = text.strip().lower().replace("-", " ").split()
        if len(parts) > 1:
            return cls._from_words(parts)
        compact = "".join(parts)
        if len(compact) != TEXT_CHARS:
            raise UsageError(
                tr(
                    "an id of a computer has {text_chars} characters, this has {compact}",
                    text_chars=TEXT_CHARS,
                    compact=len(compact),
                )
            )
        try:
            key = base64.b32decode(compact.upper() + "====")
        except binascii.Error:
            raise UsageError(tr("an id of a computer has only the letters a-z and the digits 2-7")) from None
        if str(cls(key)) != compact:
            raise UsageError(tr("the last character of this id of a computer is mistyped"))
        return cls.read(key)

    @classmethod
    def _from_words(cls, words: list[str]) -> "PeerId":
        if len(words) != WORDS:
            raise UsageError(
                tr(
                    "a spoken id of a computer has {words} words, this has {words2}",
                    words=WORDS,
                    words2=len(words),
                )
            )
        known = _word_list()
        for word in words:
            if word not in known.wordlist:
                raise UsageError(
                    tr("'{word}' is not one of the words of a spoken id of a computer", word=word)
                )
        try:
            key = bytes(known.to_entropy(words))
        except ValueError:
            raise UsageError(
                tr("a word of this id of a computer is wrong or out of order: the checksum does not fit")
            ) from None
        return cls.read(key)

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
        return _text_of(bytes(self))

    def __repr__(self) -> str:
        return f"PeerId({self.short})"


@lru_cache(maxsize=TEXTS_KEPT_MAX)
def _text_of(raw: bytes) -> str:
    return base64.b32encode(raw).decode("ascii").lower().rstrip("=")
