"""The proof of a ticket's secret: good between two peers for one content, and for nothing else."""

from hypothesis import given
from hypothesis import strategies as st

from coterie.identity import SecretKey
from coterie.transfer.proof import PROOF_BYTES, Shown, meeting_key, prove
from coterie.wire.ticket import SECRET_BYTES

ANNA, BEN, EVE = (SecretKey(name.ljust(32, b"!")).peer_id for name in (b"anna", b"ben", b"eve"))
SECRET = bytes(range(SECRET_BYTES))
ROOT = bytes(range(32))


def shown(asker: bytes, giver: bytes, root: bytes, proof: bytes) -> bool:
    return Shown(type(ANNA)(asker), type(ANNA)(giver), root, proof).proves(SECRET)


def test_who_has_the_secret_proves_it() -> None:
    proof = prove(SECRET, ANNA, BEN, ROOT)
    assert len(proof) == PROOF_BYTES
    assert shown(ANNA, BEN, ROOT, proof)
    assert SECRET not in proof


def test_what_a_liar_was_shown_opens_nothing() -> None:
    """Eve was named as a provider, was dialled, and now asks anna, as herself or about something else."""
    seen = prove(SECRET, BEN, EVE, ROOT)
    assert not shown(EVE, ANNA, ROOT, seen)
    assert not shown(BEN, ANNA, ROOT, seen)
    assert not shown(EVE, BEN, ROOT, seen), "nor is it good the other way round"
    assert not shown(BEN, EVE, bytes(32), seen)


@given(st.binary(max_size=64), st.one_of(st.none(), st.binary(min_size=16, max_size=16)))
def test_nothing_else_is_a_proof(offered: bytes, secret: bytes | None) -> None:
    is_one = secret is not None and offered == prove(secret, ANNA, BEN, ROOT)
    assert Shown(ANNA, BEN, ROOT, offered).proves(secret) == is_one


def test_nobody_has_the_secret_of_what_is_not_there() -> None:
    nobodys = prove(bytes(SECRET_BYTES), ANNA, BEN, ROOT)
    assert not Shown(ANNA, BEN, ROOT, nobodys).proves(None)


def test_the_bytes_are_fixed() -> None:
    """Both sides have to make the same."""
    assert (
        prove(SECRET, bytes(32), bytes([1]) * 32, ROOT).hex()
        == "465b9fd3726a4546fbb976bf078e65a7fb2c9764943fed7db91c5c2916f9266d"
    )
    assert (
        meeting_key(SECRET, ROOT).hex() == "19a85156cbcbb75d27cf841f3e9a0e379d10b61393a76f1a1465cbee2b09c1c5"
    )


def test_a_meeting_key_takes_the_ticket() -> None:
    assert meeting_key(SECRET, ROOT) != meeting_key(bytes(16), ROOT)
    assert meeting_key(SECRET, ROOT) != meeting_key(SECRET, bytes(32))
