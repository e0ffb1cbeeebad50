"""Names that survive text, screens and being read aloud; a key that stays where it is."""

import logging
import os
import pickle
import stat

import iroh
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coterie.errors import StorageError, UsageError
from coterie.identity import PeerId, SecretKey, load_or_create_key
from coterie.identity.keys import verify

keys = st.binary(min_size=32, max_size=32).map(lambda seed: SecretKey(seed).peer_id)
NO_KEY = PeerId(b"\x02" * 32)  # no point of the curve, as half of all 32-byte strings
GOLDEN = PeerId(bytes(range(32)))


@given(keys)
def test_every_lossless_form_comes_back(peer: PeerId) -> None:
    assert PeerId.parse(str(peer)) == peer
    assert PeerId.parse(str(peer).upper() + " \n") == peer
    assert PeerId.parse(peer.words) == peer
    assert PeerId.parse(peer.words.upper().replace(" ", "-")) == peer


@given(keys)
def test_the_short_form_finds_its_peer(peer: PeerId) -> None:
    assert len(peer.short) == 10
    assert peer.matches(peer.short)
    assert not peer.matches(peer.short[:3])
    assert not peer.matches("0" + peer.short)


def test_golden_forms() -> None:
    assert str(GOLDEN) == "aaaqeayeaudaocajbifqydiob4ibceqtcqkrmfyydenbwha5dypq"
    assert GOLDEN.short == "aaaqeayeau"
    assert GOLDEN.words.split()[:4] == ["abandon", "amount", "liar", "amount"]
    assert len(GOLDEN.words.split()) == 24
    assert repr(GOLDEN) == "PeerId(aaaqeayeau)"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "52 characters"),
        ("abc", "52 characters"),
        ("1" * 52, "letters a-z"),
        (str(GOLDEN)[:-1] + "r", "last character"),
        ("abandon " * 23, "24 words"),
        ("abandon " * 24, "checksum"),
        ("coterie " * 24, "not one of the words"),
    ],
)
def test_a_mistyped_id_is_told(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        PeerId.parse(text)


@given(st.binary(min_size=32, max_size=32))
def test_what_counts_as_an_id_is_what_the_transport_can_dial(raw: bytes) -> None:
    try:
        iroh.EndpointId.from_bytes(raw)
    except iroh.IrohError:
        with pytest.raises(UsageError, match="no key belongs to it"):
            PeerId.read(raw)
    else:
        assert PeerId.read(raw) == raw


@pytest.mark.parametrize("text", [str(NO_KEY), NO_KEY.words])
def test_an_id_that_is_no_key_is_refused_as_text(text: str) -> None:
    with pytest.raises(UsageError, match="no key belongs to it"):
        PeerId.parse(text)


def test_signatures_of_the_standard() -> None:
    """The first test vector of RFC 8032, section 7.1."""
    key = SecretKey(bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"))
    assert key.peer_id.hex() == "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    signature = key.sign(b"")
    assert signature.hex().startswith("e5564300c360ac729086e2cc806e828a")
    assert verify(key.peer_id, b"", signature)
    assert not verify(key.peer_id, b"x", signature)
    assert not verify(GOLDEN, b"", signature)
    assert not verify(key.peer_id, b"", signature[:-1])


def test_the_key_is_made_once_and_is_the_owners_only(tmp_path) -> None:
    path = tmp_path / "home" / "key"
    first = load_or_create_key(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_or_create_key(path).seed == first.seed
    assert [p.name for p in path.parent.iterdir()] == ["key"]


def test_the_secret_never_shows(tmp_path, caplog) -> None:
    caplog.set_level(logging.DEBUG)
    key = load_or_create_key(tmp_path / "key")
    assert key.seed.hex() not in repr(key) + str(key) + caplog.text
    with pytest.raises(UsageError):
        pickle.dumps(key)


def test_a_key_file_that_is_wrong_is_never_overwritten(tmp_path) -> None:
    path = tmp_path / "key"
    path.write_bytes(b"short")
    path.chmod(0o600)
    with pytest.raises(StorageError, match="damaged"):
        load_or_create_key(path)
    assert path.read_bytes() == b"short"
    path.write_bytes(bytes(32))
    path.chmod(0o644)
    with pytest.raises(StorageError, match="chmod 600"):
        load_or_create_key(path)


def test_no_place_for_a_key(tmp_path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="file"):
        load_or_create_key(tmp_path / "file" / "key")


def test_two_first_starts_agree(tmp_path) -> None:
    """The loser of the race reads the winner's key."""
    path = tmp_path / "key"
    real_link = os.link
    winner = load_or_create_key(tmp_path / "winner")

    def somebody_was_faster(source, target) -> None:
        real_link(tmp_path / "winner", path)
        real_link(source, target)

    os.link = somebody_was_faster
    try:
        assert load_or_create_key(path).seed == winner.seed
    finally:
        os.link = real_link
