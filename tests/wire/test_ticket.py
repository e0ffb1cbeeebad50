"""Tickets: everything to fetch in one string, and a plain word on each way it can be wrong."""

import contextlib
import ipaddress

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from coterie.errors import UsageError
from coterie.identity import PeerId, SecretKey
from coterie.wire import Ticket
from coterie.wire.ticket import (
    ADDRESSES_MAX,
    RELAY_NETWORK,
    TEXT_CHARS_MAX,
    TicketKind,
    _encode,
    count_addresses,
    fit_addresses,
    pack_addresses,
    unpack_addresses,
)

PEER = PeerId(bytes(range(32)))
TICKET = Ticket(TicketKind.TREE, PEER, b"c" * 32, b"s" * 16, ("192.0.2.7:4433", "[2001:db8::1]:4433"))
TEXT = str(TICKET)
GOLDEN = (
    "coterieaeahgaqaaebagbafaydqqcikbmga2dqpcaireeyuculbogazdinryhi6d5rwgy3dmnrwgy3dmnrwgy3dmnrwgy3dmnrwg"
    "y3dmnrwgy3dmnrwg43tonzxg43tonzxg43tonzxg4ycataaaaqhcfiqmiabbw4aaaaaaaaaaaaaaaaaaairkfmiflnd"
)
addresses = st.lists(
    st.tuples(st.ip_addresses().filter(lambda ip: ip not in RELAY_NETWORK), st.integers(0, 65535)).map(
        lambda pair: f"[{pair[0]}]:{pair[1]}" if pair[0].version == 6 else f"{pair[0]}:{pair[1]}"
    ),
    max_size=ADDRESSES_MAX,
).map(tuple)
tickets = st.builds(
    Ticket,
    st.sampled_from(TicketKind),
    st.binary(min_size=32, max_size=32).map(lambda seed: SecretKey(seed).peer_id),
    st.binary(min_size=32, max_size=32),
    st.binary(min_size=16, max_size=16),
    addresses,
)


def resealed(payload: bytes) -> str:
    return "coterie" + _encode(payload + blake3(payload).digest(4))


@given(tickets)
def test_a_ticket_comes_back_as_it_was(ticket: Ticket) -> None:
    text = str(ticket)
    assert Ticket.parse(text) == ticket
    assert Ticket.parse(f"  {text[:40]}\n{text[40:90].upper()}-{text[90:]} ") == ticket
    assert len(text) <= TEXT_CHARS_MAX
    assert text.isalnum()


def test_golden_text() -> None:
    assert TEXT == GOLDEN


@pytest.mark.parametrize("cut", range(8, len(TEXT)))
def test_every_truncation_is_called_one(cut: int) -> None:
    with pytest.raises(UsageError, match="truncated"):
        Ticket.parse(TEXT[:cut])


@given(st.integers(len("coterie"), len(TEXT) - 1), st.sampled_from("abcdefghijklmnopqrstuvwxyz234567"))
def test_every_wrong_letter_is_noticed(at: int, letter: str) -> None:
    changed = TEXT[:at] + letter + TEXT[at + 1 :]
    if changed != TEXT:
        with pytest.raises(UsageError):
            Ticket.parse(changed)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not a coterie ticket"),
        ("magnet:?xt=urn:btih:abc", "not a coterie ticket"),
        ("blobaaaa", "not a coterie ticket"),
        ("coterie" + "a" * 2000, "not a coterie ticket"),
        (TEXT[:50] + "1" + TEXT[51:], "mistyped: '1' at character 51"),
        (TEXT[:50] + "z" + TEXT[51:], "mistyped"),
        (TEXT + "a", "mistyped"),
        (TEXT + "aaaaaaaa", "mistyped"),
        (resealed(b"\x02\x00\x08\x00"), "version 2.*update coterie"),
        (resealed(b"\x01\x00\x08\x00"), "do not add up"),
    ],
)
def test_what_is_wrong_is_said(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        Ticket.parse(text)


def test_a_kind_of_tomorrow_is_said() -> None:
    body = bytes([9]) + bytes(32 + 32 + 16 + 1)
    with pytest.raises(UsageError, match="kind 9"):
        Ticket.parse(resealed(b"\x01" + (3 + len(body) + 4).to_bytes(2, "big") + body))


@given(st.binary(max_size=200))
def test_any_sealed_payload_parses_or_is_refused(body: bytes) -> None:
    payload = b"\x01" + (3 + len(body) + 4).to_bytes(2, "big") + body
    with contextlib.suppress(UsageError):
        assert str(Ticket.parse(resealed(payload))) == resealed(payload)


@given(st.text(max_size=300))
def test_any_text_is_refused_politely(text: str) -> None:
    with pytest.raises(UsageError):
        Ticket.parse("coterie" + text)


def test_the_secret_does_not_show() -> None:
    assert "ssss" not in repr(TICKET)
    assert (b"s" * 16).hex() not in repr(TICKET)


def test_what_cannot_be_in_a_ticket() -> None:
    with pytest.raises(UsageError, match="at most 8"):
        Ticket(TicketKind.BLOB, PEER, bytes(32), bytes(16), ("192.0.2.1:1",) * 9)
    with pytest.raises(UsageError, match="32-byte"):
        Ticket(TicketKind.BLOB, PEER, bytes(31), bytes(16))
    with pytest.raises(UsageError, match="IP address"):
        str(Ticket(TicketKind.BLOB, PEER, bytes(32), bytes(16), ("example.org:80",)))


def test_a_ticket_of_an_id_that_is_no_key_is_refused() -> None:
    ticket = Ticket(TicketKind.TREE, PeerId(b"\x02" * 32), b"c" * 32, b"s" * 16, ())
    with pytest.raises(UsageError, match="no key belongs to it"):
        Ticket.parse(str(ticket))


@pytest.mark.parametrize(
    "pasted",
    [
        f"coterie get {TEXT}",
        f"$ coterie get {TEXT} ~/photos",
        f'coterie get "{TEXT}"',
        f"`{TEXT}`",
        f"\u201e{TEXT}\u201c",
        f"<{TEXT}>.",
        f"Hi, here are the photos: {TEXT}. Yours, Anna (by coterie)",
        f"> {TEXT[:70]}\n> {TEXT[70:140]}\n> {TEXT[140:]}\n> Yours, Anna",
        f"\ufeff{TEXT[:9]}\u200b{TEXT[9:]}\u00a0",
        f"{TEXT[:30]}\u00ad{TEXT[30:]}",
        f"COTERIE GET {TEXT.upper()}",
        "\u2013".join((TEXT[:20], TEXT[20:60], TEXT[60:])),
        f"coterie get&nbsp;{TEXT}&nbsp;",
        f"coterie\n{TEXT[7:]}",
    ],
)
def test_what_is_pasted_around_a_ticket_does_not_matter(pasted: str) -> None:
    assert Ticket.parse(pasted) == TICKET


def test_a_mistake_within_pasted_text_is_still_named() -> None:
    with pytest.raises(UsageError, match="truncated: 100 of"):
        Ticket.parse(f"coterie get {TEXT[:100]}")
    with pytest.raises(UsageError, match="checksum does not fit"):
        Ticket.parse(f"coterie get {TEXT[:-1]}a")
    with pytest.raises(UsageError, match="not a coterie ticket"):
        Ticket.parse("please send me a ticket")


@given(st.text(max_size=200), st.text(max_size=200))
def test_any_words_around_it(before: str, after: str) -> None:
    assert Ticket.parse(f"{before} {TEXT}\n,{after}") == TICKET


RELAY, RELAY6 = "http://198.51.100.2:4433", "http://[2001:db8::2]:4433"
AS_ADDRESSES = ("[100:0:0:1::c633:6402]:4433", "[100:0:0:1:2001:db8::]:4433", "[100:0:0:1::2]:4433")


def test_relays_come_back_as_they_were() -> None:
    ticket = Ticket(TicketKind.BLOB, PEER, b"c" * 32, b"s" * 16, ("192.0.2.7:4433", RELAY, RELAY6))
    assert Ticket.parse(str(ticket)) == ticket


def test_relays_are_addresses_where_nobody_can_be_to_who_reads_no_relays() -> None:
    """Version 0.1 read a list of IP addresses and ports: these bytes."""
    plain = b"".join(
        b"\6" + ipaddress.ip_address(a.rpartition(":")[0].strip("[]")).packed + (4433).to_bytes(2, "big")
        for a in AS_ADDRESSES
    )
    assert pack_addresses((RELAY, RELAY6)) == plain
    assert count_addresses((RELAY, RELAY6)) == 3


@pytest.mark.parametrize("count", [2, 3])
def test_half_a_relay_is_called_damaged(count: int) -> None:
    raw = pack_addresses((RELAY, RELAY6))[: 19 * 2] + pack_addresses(("192.0.2.7:4433",) if count > 2 else ())
    with pytest.raises(UsageError, match="half of a relay"):
        unpack_addresses(raw, count)


def test_a_ticket_names_two_relays_at_most_and_keeps_room_for_them() -> None:
    direct = tuple(f"192.0.2.{n}:4433" for n in range(1, ADDRESSES_MAX + 2))
    relays = ("https://198.51.100.1:443", "http://relay.example:80", RELAY6, RELAY, "http://198.51.100.9:80")
    assert fit_addresses(direct, relays) == (*direct[: ADDRESSES_MAX - 3], RELAY6, RELAY)
    with pytest.raises(UsageError, match=f"at most {ADDRESSES_MAX} addresses"):
        Ticket(TicketKind.BLOB, PEER, b"c" * 32, b"s" * 16, (*direct[: ADDRESSES_MAX - 1], RELAY6))


@pytest.mark.parametrize("url", ["https://198.51.100.1:443", "http://relay.example:80", "http://[::1]:4433"])
def test_a_relay_that_nobody_would_dial_from_a_ticket_is_refused(url: str) -> None:
    with pytest.raises(UsageError):
        pack_addresses((url,))
