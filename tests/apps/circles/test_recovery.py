"""Twelve words: the keys they give, what is sealed with them, what is proven by them."""

import pytest

from coterie.access.circle_ops import Role
from coterie.apps.circles.admission import Purpose, To, read_purpose
from coterie.apps.circles.recovery import (
    ENTROPY_BYTES,
    WORDS,
    Card,
    Keepsake,
    Membership,
    is_proof,
    keys_of,
    phrase_of,
    proof_text,
    seal,
    unseal,
)
from coterie.apps.circles.results import Phrase
from coterie.errors import PeerError, UsageError
from tests.access.circles import key, who

# A test vector of BIP-39 (Trezor's list): entropy of zeros.
ZERO_PHRASE = "abandon " * 11 + "about"

KEEPSAKE = Keepsake(
    bytes(who("anna")),
    bytes(32),
    [b"op"],
    [Membership(bytes(32), "home", [bytes(who("bob"))])],
    [Card(bytes(who("bob")), "bob", ["1.2.3.4:5"])],
)


def test_the_words_are_those_of_bip_39() -> None:
    assert phrase_of(bytes(ENTROPY_BYTES)) == ZERO_PHRASE
    assert len(phrase_of(b"\xf0" * ENTROPY_BYTES).split()) == WORDS


def test_the_same_words_give_the_same_keys_for_ever() -> None:
    keys = keys_of(ZERO_PHRASE)
    again = keys_of("  ABANDON " + "abandon\n" * 10 + " About ")
    assert (again.paper.peer_id, again.sealing) == (keys.paper.peer_id, keys.sealing)
    assert keys.paper.peer_id.hex() == "ca160f1f625e8ac4f8a24c1182d6c76b4a0abbd0c51a439da594718c8cf38e76"
    assert keys.sealing != keys.paper.seed


def test_a_phrase_is_read_as_it_was_printed_and_pasted() -> None:
    numbered = "\n".join(f"{n:2}.\u00a0{word}," for n, word in enumerate(ZERO_PHRASE.upper().split(), 1))
    for pasted in (numbered, "\u201c" + ZERO_PHRASE.replace(" ", "\u2013") + "\u200b\u201d"):
        assert keys_of(pasted).paper.peer_id == keys_of(ZERO_PHRASE).paper.peer_id


@pytest.mark.parametrize(
    ("phrase", "says"),
    [
        ("abandon", "12 words, this has 1"),
        ("abandon " * 12, "checksum"),
        ("abandon " * 10 + "abandonn about", "word 11"),
    ],
)
def test_mistakes_are_named_without_showing_the_words(phrase: str, says: str) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        keys_of(phrase)
    assert "about" not in str(caught.value)


def test_what_is_sealed_opens_with_the_words_only() -> None:
    keys = keys_of(ZERO_PHRASE)
    sealed = seal(KEEPSAKE, keys.sealing, bytes(24))
    assert unseal(sealed, keys.sealing) == KEEPSAKE
    assert b"home" not in sealed
    with pytest.raises(PeerError):
        unseal(sealed, bytes(32))
    with pytest.raises(PeerError):
        unseal(sealed[:-1] + bytes([sealed[-1] ^ 1]), keys.sealing)
    with pytest.raises(PeerError):
        unseal(b"", keys.sealing)


def test_a_proof_is_good_for_one_asker_one_holder_and_one_circle() -> None:
    paper = key("paper")
    proof = paper.sign(proof_text(who("bob"), who("fresh"), bytes(32)))
    assert is_proof(paper.peer_id, proof, who("bob"), who("fresh"), bytes(32))
    assert not is_proof(paper.peer_id, proof, who("bob"), who("eve"), bytes(32))
    assert not is_proof(paper.peer_id, proof, who("eve"), who("fresh"), bytes(32))
    assert not is_proof(paper.peer_id, proof, who("bob"), who("fresh"))
    assert not is_proof(who("eve"), proof, who("bob"), who("fresh"), bytes(32))


def test_the_secret_parts_do_not_show() -> None:
    keys = keys_of(ZERO_PHRASE)
    assert keys.sealing.hex() not in repr(keys)
    assert "abandon" not in repr(Phrase(ZERO_PHRASE.split()))


def test_a_purpose_fits_an_invitation_and_is_checked() -> None:
    purpose = Purpose(To.CIRCLE, bytes(32), Role.GUEST, "ü" * 64, bytes(who("anna")))
    assert len(purpose.pack()) < 512
    assert read_purpose(purpose.pack()) == purpose
    assert read_purpose(b"") is None
    for broken in (
        Purpose(3, bytes(32), 1, "home", bytes(32)),
        Purpose(1, bytes(31), 1, "home", bytes(32)),
        Purpose(1, bytes(32), 4, "home", bytes(32)),
        Purpose(1, bytes(32), 1, "", bytes(32)),
        Purpose(1, bytes(32), 1, "home", b""),
    ):
        with pytest.raises(PeerError):
            read_purpose(broken.pack())
    with pytest.raises(PeerError, match="update"):
        read_purpose(b"noise")
