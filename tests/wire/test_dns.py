"""Messages of the DNS: questions as dig sends them, answers, names that lead in circles, sizes one past."""

import ipaddress
import struct

import pytest

from coterie.errors import PeerError
from coterie.wire import dns

ASKED = dns.question(7, "wiki.anna.coterie", dns.A)


def test_a_question_is_read() -> None:
    asked = dns.read_question(ASKED)
    assert (asked.id, asked.name, asked.kind, asked.room, asked.has_edns) == (
        7,
        "wiki.anna.coterie",
        dns.A,
        dns.UDP_BYTES_MAX,
        True,
    )
    bare = ASKED[:10] + b"\0\0" + ASKED[12:-11]
    asked = dns.read_question(bare)
    assert (asked.room, asked.has_edns) == (dns.UDP_BYTES, False)
    assert dns.read_question(dns.question(1, "", dns.NS)).name == ""
    assert dns.read_question(ASKED.replace(b"wiki", b"WiKi")).name == "wiki.anna.coterie"


def test_an_answer_has_its_addresses() -> None:
    asked = dns.read_question(ASKED)
    records = [
        dns.Record(dns.A, ipaddress.ip_address("127.0.0.1").packed, 60),
        dns.Record(dns.AAAA, ipaddress.ip_address("::1").packed, 61),
        dns.Record(dns.TXT, b"\x03abc", 1),
    ]
    message = dns.answer(asked, records)
    assert dns.read_addresses(message) == [("127.0.0.1", 60), ("::1", 61)]
    assert dns.is_answer_to(ASKED, message)
    assert dns.is_answer_to(ASKED.replace(b"wiki", b"WiKi"), message)
    assert not dns.is_answer_to(dns.question(8, "wiki.anna.coterie", dns.A), message)
    assert not dns.is_answer_to(dns.question(7, "wikj.anna.coterie", dns.A), message)
    assert not dns.is_answer_to(ASKED, ASKED)
    refused = dns.answer(asked, [], dns.REFUSED)
    assert refused[3] & 15 == dns.REFUSED
    with pytest.raises(PeerError):
        dns.read_question(message)


def test_an_answer_too_large_for_who_asked_says_only_that() -> None:
    asked = dns.read_question(ASKED)
    text = b"\xfa" + bytes(250)
    records = [dns.Record(dns.TXT, text, 1)] * 4
    assert dns.fitted(asked, dns.answer(asked, records)) == dns.answer(asked, records)
    cut = dns.fitted(asked, dns.answer(asked, [*records, dns.Record(dns.TXT, text, 1)]))
    assert dns.is_truncated(cut)
    assert len(cut) < 100
    assert dns.is_answer_to(ASKED, cut)


@pytest.mark.parametrize(
    "name",
    [
        b"\xc0\x0c",  # to itself
        b"\xc0\xff",  # forwards
        b"\x01a" * 127 + b"\x01a\0",  # 257 bytes
        b"\x40" + b"a" * 64 + b"\0",  # a label of 64
        b"\x05ab",  # cut off
    ],
)
def test_names_that_cannot_be_are_refused(name: bytes) -> None:
    head = struct.pack(">HHHHHH", 1, 0x100, 1, 0, 0, 0)
    with pytest.raises(PeerError):
        dns.read_question(head + name + struct.pack(">HH", dns.A, dns.IN))


def test_the_longest_name_is_read() -> None:
    name = ".".join(["a"] * 127)
    assert dns.read_question(dns.question(1, name, dns.A)).name == name
    with pytest.raises(ValueError, match="255 bytes"):
        dns.question(1, name + ".a", dns.A)


@pytest.mark.parametrize("name", ["a b", "ä", "a..b", "x" * 64])
def test_a_name_that_no_host_has_is_not_asked(name: str) -> None:
    with pytest.raises(ValueError, match=r"no name|ascii"):
        dns.pack_name(name)


def test_more_records_than_any_name_has_are_refused() -> None:
    record = b"\0" + struct.pack(">HHIH4s", dns.A, dns.IN, 1, 4, b"\x7f\0\0\1")
    for count in (dns.RECORDS_MAX, dns.RECORDS_MAX + 1):
        message = struct.pack(">HHHHHH", 1, 0x8180, 0, count, 0, 0) + record * count
        if count <= dns.RECORDS_MAX:
            assert len(dns.read_addresses(message)) == count
        else:
            with pytest.raises(PeerError, match="too many"):
                dns.read_addresses(message)


def test_several_questions_and_answers_in_a_question_are_refused() -> None:
    for at in (5, 7, 9):
        other = bytearray(ASKED)
        other[at] = 2
        with pytest.raises(PeerError):
            dns.read_question(bytes(other))
    with pytest.raises(PeerError, match="another class"):
        dns.read_question(dns.question(1, "a", dns.A).replace(b"\0\x01\0\x01", b"\0\x01\0\x03"))


def test_a_name_says_bytes_that_no_host_has() -> None:
    assert dns.say_name([b"a.b", b"C\xff"]) == "a\\046b.c\\255"
