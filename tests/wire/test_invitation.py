"""Invitations as text: the same care as tickets, and never taken for one."""

import contextlib

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from coterie.errors import UsageError
from coterie.identity import PeerId, SecretKey
from coterie.wire import Invitation, Ticket
from coterie.wire.ticket import ADDRESSES_MAX, TEXT_CHARS_MAX, TicketKind, write_text
from tests.wire.test_ticket import addresses

PEER = PeerId(bytes(range(32)))
INVITATION = Invitation(7, PEER, b"s" * 16, ("192.0.2.7:4433", "[2001:db8::1]:4433"))
TEXT = str(INVITATION)
GOLDEN = (
    "coterieaeafkeaaa4aacaqdaqcqmbyibefawdanbyhraeiscmkbkfqxdamrugy4dupb643tonzxg43tonzxg43tonzxg4yca"
    "taaaaqhcfiqmiabbw4aaaaaaaaaaaaaaaaaaairkeyikl6h"
)
peers = st.binary(min_size=32, max_size=32).map(lambda seed: SecretKey(seed).peer_id)
secrets = st.binary(min_size=16, max_size=16)
invitations = st.builds(Invitation, st.integers(0, 65535), peers, secrets, addresses)


@given(invitations)
def test_an_invitation_comes_back_as_it_was(invitation: Invitation) -> None:
    text = str(invitation)
    assert Invitation.parse(text) == invitation
    assert Invitation.parse(f" {text[:40].upper()}\n{text[40:60]}-{text[60:]} ") == invitation
    assert len(text) <= TEXT_CHARS_MAX
    assert text.isalnum()


def test_golden_text() -> None:
    assert TEXT == GOLDEN


@pytest.mark.parametrize("cut", range(8, len(TEXT)))
def test_every_truncation_is_called_one(cut: int) -> None:
    with pytest.raises(UsageError, match="truncated"):
        Invitation.parse(TEXT[:cut])


@given(st.integers(len("coterie"), len(TEXT) - 1), st.sampled_from("abcdefghijklmnopqrstuvwxyz234567"))
def test_every_wrong_letter_is_noticed(at: int, letter: str) -> None:
    changed = TEXT[:at] + letter + TEXT[at + 1 :]
    if changed != TEXT:
        with pytest.raises(UsageError):
            Invitation.parse(changed)


def test_the_other_kind_is_named_with_the_right_command() -> None:
    ticket = Ticket(TicketKind.BLOB, PEER, bytes(32), bytes(16))
    with pytest.raises(UsageError, match="coterie get"):
        Invitation.parse(str(ticket))
    with pytest.raises(UsageError, match="coterie join"):
        Ticket.parse(TEXT)
    for read in (Ticket.parse, Invitation.parse):
        with pytest.raises(UsageError, match="kind 99"):
            read(write_text(bytes([99]) + bytes(100)))


@given(st.binary(max_size=120), st.booleans())
def test_any_sealed_body_parses_or_is_refused(body: bytes, as_invitation: bool) -> None:
    text = write_text(b"\x10" + body if as_invitation else body)
    with contextlib.suppress(UsageError):
        assert str(Invitation.parse(text)) == text


def test_bounds() -> None:
    for number, secret, places in (
        (-1, bytes(16), ()),
        (65536, bytes(16), ()),
        (7, bytes(15), ()),
        (7, bytes(16), ("192.0.2.1:1",) * (ADDRESSES_MAX + 1)),
    ):
        with pytest.raises(UsageError):
            Invitation(number, PEER, secret, places)
    assert blake3(INVITATION.secret).hexdigest() not in repr(INVITATION)
    assert INVITATION.secret.hex() not in repr(INVITATION)


def test_an_invitation_of_an_id_that_is_no_key_is_refused() -> None:
    invitation = Invitation(1, PeerId(b"\x02" * 32), b"s" * 16)
    with pytest.raises(UsageError, match="no key belongs to it"):
        Invitation.parse(str(invitation))
