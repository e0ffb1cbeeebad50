"""Revocations: signed, bounded, forgotten when they no longer matter."""

import pytest
from hypothesis import given
from hypothesis import strategies as some

from coterie.access.grant import LIFETIME_MAX_S
from coterie.access.revocation import (
    EXPIRES_SLACK_S,
    REVOCATION_BYTES,
    REVOCATIONS_MAX,
    REVOCATIONS_PER_SIGNER_MAX,
    Revocation,
    Revocations,
    open_revocation,
    revoke,
)
from coterie.errors import LimitExceeded, PeerError
from coterie.identity import PeerId, SecretKey

OWN, EVE = SecretKey(bytes([1]) * 32), SecretKey(bytes([4]) * 32)
NOW = 1_000_000
LINK = bytes(range(16))


def fake(signer: PeerId, number: int, expires: int = NOW + 10) -> Revocation:
    """One that was verified already: signing thousands takes long."""
    return Revocation(signer, number.to_bytes(16, "big"), expires, b"")


def test_a_revocation_says_after_its_journey_what_it_said_before() -> None:
    made = revoke(OWN, LINK, NOW + 5)
    assert open_revocation(made.raw) == made
    assert (made.signer, made.link_id, made.expires) == (OWN.peer_id, LINK, NOW + 5)
    assert len(made.raw) == REVOCATION_BYTES == 121


def test_the_same_bytes_as_ever() -> None:
    assert (
        revoke(OWN, LINK, NOW).raw[:57].hex()
        == "01" + bytes(OWN.peer_id).hex() + LINK.hex() + NOW.to_bytes(8, "big").hex()
    )
    assert revoke(OWN, LINK, NOW).raw[57:].hex()[:16] == "cd0fbe2a44a6a910"


def test_every_single_bit_counts() -> None:
    raw = revoke(OWN, LINK, NOW + 5).raw
    for at in range(8 * len(raw)):
        broken = bytearray(raw)
        broken[at // 8] ^= 1 << at % 8
        with pytest.raises(PeerError):
            open_revocation(bytes(broken))


@given(some.binary(max_size=200))
def test_noise_is_refused_in_words(raw: bytes) -> None:
    with pytest.raises(PeerError):
        open_revocation(raw)


def test_news_is_told_from_what_is_known() -> None:
    known = Revocations(OWN.peer_id)
    one = revoke(OWN, LINK, NOW + 5)
    assert known.add(one, NOW)
    assert not known.add(one, NOW)
    assert known.all() == [one]


@pytest.mark.parametrize("expires", [NOW, NOW - 1, NOW + LIFETIME_MAX_S + EXPIRES_SLACK_S + 1])
def test_what_is_over_or_lasts_for_ever_is_not_kept(expires: int) -> None:
    known = Revocations(OWN.peer_id)
    assert not known.add(fake(EVE.peer_id, 1, expires), NOW)
    assert len(known) == 0


def test_nobody_fills_the_list_and_what_is_over_makes_room() -> None:
    known = Revocations(OWN.peer_id)
    for number in range(REVOCATIONS_PER_SIGNER_MAX):
        assert known.add(fake(EVE.peer_id, number), NOW)
    with pytest.raises(LimitExceeded, match=str(REVOCATIONS_PER_SIGNER_MAX)):
        known.add(fake(EVE.peer_id, 9_999), NOW)
    assert known.add(fake(OWN.peer_id, 1), NOW)  # Eve's spam does not stand in our way
    assert known.add(fake(EVE.peer_id, 9_999, NOW + 100), NOW + 50)
    assert len(known) == 1


def test_the_whole_list_is_bounded() -> None:
    known = Revocations(OWN.peer_id)
    for number in range(REVOCATIONS_MAX):
        assert known.add(fake(OWN.peer_id, number), NOW)
    with pytest.raises(LimitExceeded, match=str(REVOCATIONS_MAX)):
        known.add(fake(OWN.peer_id, REVOCATIONS_MAX), NOW)


def test_loading_skips_what_is_damaged_and_says_what() -> None:
    known = Revocations(OWN.peer_id)
    good = revoke(OWN, LINK, NOW + 5)
    assert known.load([b"noise", good.raw], NOW) == [b"noise"]
    assert known.all() == [good]
