"""The sealed form: golden bytes, who opens what, what a keeper learns, and what happens to damaged texts."""

import pickle
from random import Random

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from coterie.content import sealed
from coterie.content.manifest import CHUNK_BYTES_MAX
from coterie.content.sealed import PLAIN_BYTES_MAX, Purpose, Seal, pieces, read_padded, sealed_bytes
from coterie.errors import PeerError, UsageError

KEY = bytes(range(32))
SEAL, OTHER = Seal(KEY), Seal(bytes(32))
GOLDEN_TAG = "62aca3cb673436aa13d2a32bc4549b60b4b8b5d76032480770dfde1284d7bafd"
GOLDEN_HASH = "78b6ea2fcccd2977630dc68676b382a9c4efee37e306189344655b15653f26da"


def test_the_form_stays_as_it_is_documented() -> None:
    """What friends keep for years has to open then: docs/protocol/sealed.md has the same bytes."""
    text = SEAL.seal(Purpose.CHUNK, b"red and gold")
    assert text[0] == 1
    assert text[1:33].hex() == GOLDEN_TAG
    assert blake3(text).hexdigest() == GOLDEN_HASH


def test_the_cipher_is_that_of_rfc_8439_under_the_key_of_the_tag() -> None:
    """Made by hand with another library, which has never seen `Seal`."""
    from nacl.bindings import crypto_aead_chacha20poly1305_ietf_decrypt as decrypt

    text = SEAL.seal(Purpose.RECORD, b"red and gold")
    derived = blake3(KEY, derive_key_context="coterie sealed record 1: key").digest()
    once = blake3(text[1:33], key=derived).digest()
    assert decrypt(text[33:], None, bytes(12), once) == b"\0\0\0\x0cred and gold" + bytes(48)


@given(st.binary(max_size=3_000), st.sampled_from(list(Purpose)))
def test_what_was_sealed_is_opened(plain: bytes, purpose: Purpose) -> None:
    text = SEAL.seal(purpose, plain)
    assert SEAL.open(purpose, text) == plain
    assert text == Seal(KEY).seal(purpose, plain)
    assert len(text) == sealed_bytes(len(plain))


@pytest.mark.parametrize("size", [0, 1, PLAIN_BYTES_MAX])
def test_the_bounds_are_sealed(size: int) -> None:
    plain = Random(size).randbytes(size)
    text = SEAL.seal(Purpose.CHUNK, plain)
    assert SEAL.open(Purpose.CHUNK, text) == plain
    assert len(text) <= CHUNK_BYTES_MAX


def test_one_byte_more_is_refused() -> None:
    with pytest.raises(UsageError, match="too many to seal"):
        SEAL.seal(Purpose.CHUNK, bytes(PLAIN_BYTES_MAX + 1))


def test_chunks_of_every_size_fit_in_their_pieces() -> None:
    assert pieces(PLAIN_BYTES_MAX) == [PLAIN_BYTES_MAX]
    for size in (PLAIN_BYTES_MAX + 1, CHUNK_BYTES_MAX - 1, CHUNK_BYTES_MAX, 3 * CHUNK_BYTES_MAX + 1):
        parts = pieces(size)
        assert sum(parts) == size
        assert max(parts) <= PLAIN_BYTES_MAX
        assert max(parts) - min(parts) <= 1
        assert max(map(sealed_bytes, parts)) <= CHUNK_BYTES_MAX


def test_no_other_key_and_no_other_purpose_opens() -> None:
    text = SEAL.seal(Purpose.NAME, b"letters/bank.pdf")
    with pytest.raises(PeerError, match="this key does not open"):
        OTHER.open(Purpose.NAME, text)
    with pytest.raises(PeerError, match="this key does not open"):
        SEAL.open(Purpose.CHUNK, text)


def test_each_changed_bit_is_noticed() -> None:
    text = SEAL.seal(Purpose.RECORD, b"x" * 40)
    for at in range(len(text) * 8):
        changed = bytearray(text)
        changed[at // 8] ^= 1 << at % 8
        with pytest.raises(PeerError):
            SEAL.open(Purpose.RECORD, bytes(changed))


def test_each_other_length_is_noticed() -> None:
    text = SEAL.seal(Purpose.RECORD, b"x" * 40)
    for length in range(len(text)):
        with pytest.raises(PeerError):
            SEAL.open(Purpose.RECORD, text[:length])
    for longer in (text + b"\0", text + bytes(CHUNK_BYTES_MAX)):
        with pytest.raises(PeerError):
            SEAL.open(Purpose.RECORD, longer)


def test_an_owner_of_the_key_cannot_make_two_texts_of_one_content() -> None:
    """Otherwise two computers would keep, and send, the same chunk under two ids for ever."""
    cipher = SEAL._cipher(Purpose.CHUNK, b"t" * 32)
    forged = b"\x01" + b"t" * 32 + cipher.encrypt(bytes(12), b"\0\0\0\x01a" + bytes(59), None)
    with pytest.raises(PeerError, match="tag of another"):
        SEAL.open(Purpose.CHUNK, forged)


@pytest.mark.parametrize(
    "padded",
    [
        b"",
        b"\0\0\0",
        b"\0\0\0\x01a",
        b"\0\0\0\x01a" + bytes(58),
        b"\0\0\0\x01a" + bytes(58) + b"x",
        b"\xff" * 64,
    ],
)
def test_other_paddings_are_refused(padded: bytes) -> None:
    with pytest.raises(PeerError):
        read_padded(padded)


def test_a_keeper_learns_sizes_in_steps_only() -> None:
    """Up to 60 bytes all names look alike; of larger sizes Padmé tells few bits."""
    assert len({len(SEAL.seal(Purpose.NAME, bytes(size))) for size in range(61)}) == 1
    assert len({sealed_bytes(size) for size in range(PLAIN_BYTES_MAX)}) <= 240  # of 516,092


def test_equal_beginnings_do_not_show() -> None:
    """The nonce is the same for all: two texts that begin alike must not be sealed alike."""
    one, two = (SEAL.seal(Purpose.CHUNK, b"a" * 1_000 + end) for end in (b"1", b"2"))
    same = sum(a == b for a, b in zip(one[1:], two[1:], strict=True))
    assert same < 30  # of 1,100: 1 in 256 by chance


def test_the_key_does_not_get_out() -> None:
    assert KEY.hex() not in repr(SEAL)
    with pytest.raises(UsageError):
        pickle.dumps(SEAL)
    with pytest.raises(UsageError, match="32 bytes"):
        Seal(b"short")


def test_the_largest_plain_text_is_the_largest_that_fits() -> None:
    assert sealed_bytes(sealed.PLAIN_BYTES_MAX) <= CHUNK_BYTES_MAX < sealed_bytes(sealed.PLAIN_BYTES_MAX + 1)
