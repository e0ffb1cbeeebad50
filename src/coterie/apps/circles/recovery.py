"""A person on paper: twelve words, the keys that they give, and what is sealed for whoever comes with them.

words -> seed (BIP-39: PBKDF2-HMAC-SHA512, 2,048 rounds, no passphrase)
paper key  = Ed25519 with the seed BLAKE3(derive key PAPER_CONTEXT, seed): signs; never stored
sealing key = BLAKE3(derive key SEALING_CONTEXT, seed): on every device of the person; seals, and can sign nothing
"""

from dataclasses import dataclass, field
from typing import Any

import msgspec
from blake3 import blake3

from coterie.decoding import FAULTS, decoder
from coterie.errors import PeerError, UsageError
from coterie.identity import PeerId, SecretKey
from coterie.identity.keys import verify
from coterie.texts import tr
from coterie.wire import pasted

ENTROPY_BYTES = 16  # 128 bits, 12 words: BIP-39's least, out of anybody's reach
WORDS = 12
NONCE_BYTES = 24  # of XSalsa20
PAPER_CONTEXT = "coterie 2026 recovery phrase: paper key"
SEALING_CONTEXT = "coterie 2026 recovery phrase: sealing key"
RECALL_CONTEXT = b"coterie recall of a deposit 1\x00"
CARDS_MAX = 1_000  # contacts of a person; guess
CIRCLES_MAX = 256
HOSTS_MAX = 64


class Card(msgspec.Struct, frozen=True, array_like=True):
    """A contact as one device of a person tells the others."""

    peer: bytes
    name: str
    addresses: list[str]
    record: bytes = b""


@decoder(PeerError, "a contact from another computer of yours")
def read_card(raw: bytes) -> Card:
    """A card as it travels. Raises `PeerError`."""
    return msgspec.msgpack.decode(raw, type=Card)


class Membership(msgspec.Struct, frozen=True, array_like=True):
    """A circle of the person, and computers of members that may have its log."""

    circle: bytes
    title: str
    hosts: list[bytes]


class Keepsake(msgspec.Struct, frozen=True, array_like=True):
    """All that brings a person back: who it is, the log of its own devices, its circles, its contacts."""

    person: bytes
    own_circle: bytes
    own_ops: list[bytes]
    memberships: list[Membership]
    cards: list[Card]


@dataclass(frozen=True, slots=True)
class PhraseKeys:
    """What the words give."""

    paper: SecretKey = field(repr=False)
    sealing: bytes = field(repr=False)


def phrase_of(entropy: bytes) -> str:
    """The twelve words of 16 random bytes."""
    return str(_words().to_mnemonic(entropy))


def keys_of(phrase: str) -> PhraseKeys:
    """The keys of a phrase. Raises `UsageError`, which never shows a word that may be right."""
    words = [
        word for word in pasted.words(phrase.lower()) if not word.isdigit()
    ]  # it is printed with numbers
    if len(words) != WORDS:
        raise UsageError(
            tr("a recovery phrase has {words} words, this has {words2}", words=WORDS, words2=len(words))
        )
    known = _words()
    for place, word in enumerate(words, 1):
        if word not in known.wordlist:
            raise UsageError(
                tr("word {place} of the recovery phrase is not in the list: is it misspelt?", place=place)
            )
    clean = " ".join(words)
    if not known.check(clean):
        raise UsageError(
            tr("a word of the recovery phrase is wrong or out of order: the checksum does not fit")
        )
    seed = known.to_seed(clean)
    paper = blake3(seed, derive_key_context=PAPER_CONTEXT).digest()
    return PhraseKeys(SecretKey(paper), blake3(seed, derive_key_context=SEALING_CONTEXT).digest())


def seal(keepsake: Keepsake, key: bytes, nonce: bytes) -> bytes:
    """`keepsake` for those who have `key` only (XSalsa20-Poly1305); `nonce` is 24 fresh random bytes."""
    from nacl.secret import SecretBox

    return bytes(SecretBox(key).encrypt(msgspec.msgpack.encode(keepsake), nonce))


@decoder(PeerError, "a deposit")
def unseal(sealed: bytes, key: bytes) -> Keepsake:
    """Raises `PeerError` when it was sealed for somebody else, or damaged."""
    from nacl.exceptions import CryptoError
    from nacl.secret import SecretBox

    try:
        return _DECODER.decode(SecretBox(key).decrypt(sealed))
    except (CryptoError, *FAULTS) as error:
        raise PeerError(f"a deposit that cannot be opened: {type(error).__name__}") from None


def proof_text(holder: bytes, asker: bytes, circle: bytes = b"") -> bytes:
    """What a paper key signs for `asker` to be believed by `holder`: of use on that connection only."""
    return RECALL_CONTEXT + holder + asker + circle


def is_proof(paper: bytes, proof: bytes, holder: bytes, asker: bytes, circle: bytes = b"") -> bool:
    """Whether `asker` has the words of `paper`."""
    return verify(PeerId(paper), proof_text(holder, asker, circle), proof)


def _words() -> Any:
    from mnemonic import Mnemonic  # 2,048 words: loaded only where a phrase is made or read

    return Mnemonic("english")


_DECODER = msgspec.msgpack.Decoder(Keepsake)
