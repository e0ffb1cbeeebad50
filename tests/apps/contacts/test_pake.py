"""The key exchange: golden values, and what both sides must agree on to get the same proofs."""

import pytest

from coterie.apps.contacts.messages import ELEMENT_BYTES, Right
from coterie.apps.contacts.pake import Exchange, Proofs, password_of, proof_matches
from coterie.errors import PeerError
from coterie.identity import PeerId
from tests.apps.contacts.play import ANNA, BEN, EVE, entropy

PASSWORD = password_of(Right.CODE, b"planet-velvet")


def both(
    *,
    joiners_password: bytes = PASSWORD,
    inviter: PeerId = ANNA,
    joiner: PeerId = BEN,
    number: int = 7,
    right: Right = Right.CODE,
) -> tuple[Proofs, Proofs]:
    """Both sides' proofs; the arguments are the joiner's view, the inviter's is fixed."""
    a = Exchange.of_inviter(PASSWORD, ANNA, BEN, entropy(b"anna"))
    b = Exchange.of_joiner(joiners_password, inviter, joiner, entropy(b"ben"))
    return a.finish(b.element, 7, Right.CODE), b.finish(a.element, number, right)


def test_golden_values() -> None:
    a = Exchange.of_inviter(PASSWORD, ANNA, BEN, entropy(b"anna"))
    b = Exchange.of_joiner(PASSWORD, ANNA, BEN, entropy(b"ben"))
    assert PASSWORD == b"coterie invite/1 \x01planet-velvet"
    assert a.element.hex() == "419afa68955943ff5a1dab532a9507435b7f1aa47b8da9b4c0053d91520c004e75"
    assert b.element.hex() == "425bb6c660b2b335589d16b9122c08317c48a3485d371cd50d76816ddf84970cbd"
    proofs = a.finish(b.element, 7, Right.CODE)
    assert proofs.joiner.hex() == "59a13814db4712d37db9f2623882152fe6ac4cdeb35e14e47c6ce48bd3cb5dee"
    assert proofs.inviter.hex() == "c2683d90393b6a9e6ead68297465bfb0b4bbbcd51ce41cebaf4f34ef781f0ab8"


def test_both_sides_agree_and_the_two_proofs_differ() -> None:
    a, b = both()
    assert (a.joiner, a.inviter) == (b.joiner, b.inviter)
    assert a.joiner != a.inviter
    assert proof_matches(a.joiner, b.joiner)
    assert not proof_matches(a.joiner, b.inviter)
    assert not proof_matches(b"", b.inviter)


@pytest.mark.parametrize(
    "other",
    [
        {"joiners_password": password_of(Right.CODE, b"planet-velvets")},
        {"joiners_password": password_of(Right.SECRET, b"planet-velvet")},
        {"inviter": EVE},
        {"joiner": EVE},
        {"inviter": BEN, "joiner": ANNA},
        {"number": 8},
        {"right": Right.SECRET},
    ],
)
def test_whatever_differs_makes_both_proofs_differ(other: dict[str, object]) -> None:
    a, b = both(**other)  # type: ignore[arg-type]
    assert a.joiner != b.joiner
    assert a.inviter != b.inviter


def test_an_exchange_is_good_for_one_answer() -> None:
    a = Exchange.of_inviter(PASSWORD, ANNA, BEN, entropy(b"anna"))
    b = Exchange.of_joiner(PASSWORD, ANNA, BEN, entropy(b"ben"))
    assert len(a.element) == len(b.element) == ELEMENT_BYTES
    a.finish(b.element, 7, 1)
    with pytest.raises(PeerError):
        a.finish(b.element, 7, 1)
