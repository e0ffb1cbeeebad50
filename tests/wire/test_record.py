"""Peer records: golden bytes, every way to be refused, and nothing but a refusal for garbage."""

import dataclasses
import ipaddress

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coterie.errors import CloseCode, UsageError
from coterie.identity import SecretKey
from coterie.wire import PeerRecord
from coterie.wire.record import (
    ADDRESS_CHARS_MAX,
    ADDRESSES_MAX,
    CLOCK_SKEW_S,
    CONTEXT,
    LIFETIME_MAX_S,
    LISTENS_MAX_S,
    NAME_CHARS_MAX,
    RECORD_BYTES_MAX,
    SEQUENCE_MAX,
    RecordRefused,
    RefusedFor,
    is_address,
    join_address,
    split_address,
)

KEY = SecretKey(bytes(range(32)))
NOW = 1_700_000_000
RECORD = PeerRecord(
    peer=KEY.peer_id,
    sequence=7,
    issued=NOW,
    expires=NOW + 3600,
    addresses=("192.0.2.7:4433", "[2001:db8::1]:4433", "http://192.0.2.9:8443"),
    name="attic",
    serves="http://192.0.2.7:8080",
)
RAW = RECORD.sign(KEY)
GOLDEN = (
    "0103a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8517dfca745713643c1083e18e40277751d"
    "5420ac155d7dbe9ab468319c6e1634a72dba82293e915c546a1a085647205fe5fcea14f44ffc3df4d5b3ded39171009607ce"
    "6553f100ce6553ff1093ae3139322e302e322e373a34343333b25b323030313a6462383a3a315d3a34343333b5687474703a"
    "2f2f3139322e302e322e393a38343433a56174746963b5687474703a2f2f3139322e302e322e373a38303830"
)

ips = st.ip_addresses().filter(lambda ip: not ip.is_unspecified and not ip.is_multicast)
addresses = st.builds(join_address, ips, st.integers(1, 65535)).filter(is_address)
records = st.builds(
    PeerRecord,
    peer=st.just(KEY.peer_id),
    sequence=st.integers(1, SEQUENCE_MAX),
    issued=st.integers(NOW - 1000, NOW),
    expires=st.integers(NOW + 1, NOW + 1000),
    addresses=st.lists(addresses, max_size=8, unique=True).map(tuple),
    name=st.text(st.characters(categories=["L", "N"]), max_size=NAME_CHARS_MAX),
)


def changed(**fields: object) -> PeerRecord:
    return dataclasses.replace(RECORD, **fields)  # type: ignore[arg-type]


def signed_body(body: bytes, version: int = 1) -> bytes:
    """Any body with a signature that fits: what a malicious peer can make of its own."""
    head = bytes([version]) + bytes(KEY.peer_id)
    return head + KEY.sign(CONTEXT + head + body) + body


def refused(raw: bytes, now: float = NOW) -> RefusedFor:
    with pytest.raises(RecordRefused) as raised:
        PeerRecord.open(raw, now)
    assert raised.value.why in str(raised.value)
    return raised.value.why


@given(records)
def test_a_record_comes_back_as_it_was(record: PeerRecord) -> None:
    raw = record.sign_fitting(KEY)
    assert len(raw) <= RECORD_BYTES_MAX
    back = PeerRecord.open(raw, NOW)
    assert back == dataclasses.replace(record, addresses=record.addresses[: len(back.addresses)])
    assert record.sign_fitting(KEY) == raw


def test_golden_bytes() -> None:
    assert RAW.hex() == GOLDEN
    assert RAW[33:97] == KEY.sign(b"coterie peer record\x00" + RAW[:33] + RAW[97:])


def test_direct_addresses_and_relays_are_told_apart() -> None:
    assert RECORD.direct == ("192.0.2.7:4433", "[2001:db8::1]:4433")
    assert RECORD.relays == ("http://192.0.2.9:8443",)


def test_time_decides() -> None:
    assert PeerRecord.open(RAW, NOW - CLOCK_SKEW_S) == RECORD
    assert refused(RAW, NOW - CLOCK_SKEW_S - 1) is RefusedFor.FUTURE
    assert PeerRecord.open(RAW, NOW + 3599) == RECORD
    assert refused(RAW, NOW + 3600) is RefusedFor.EXPIRED
    assert PeerRecord.read(RAW) == RECORD


@pytest.mark.parametrize("at", range(1, len(RAW)))
def test_one_wrong_byte_anywhere_is_a_forgery(at: int) -> None:
    damaged = RAW[:at] + bytes([RAW[at] ^ 1]) + RAW[at + 1 :]
    assert refused(damaged) is RefusedFor.FORGED


def test_another_peers_signature_does_not_count() -> None:
    other = SecretKey(b"o" * 32)
    head = b"\x01" + bytes(KEY.peer_id)
    assert refused(head + other.sign(CONTEXT + head + RAW[97:]) + RAW[97:]) is RefusedFor.FORGED
    with pytest.raises(UsageError, match="own peer only"):
        RECORD.sign(other)


def test_a_signature_made_for_another_purpose_does_not_count() -> None:
    head = b"\x01" + bytes(KEY.peer_id)
    assert refused(head + KEY.sign(head + RAW[97:]) + RAW[97:]) is RefusedFor.FORGED


@pytest.mark.parametrize("length", [0, 1, 33, 96, 97])
def test_a_beginning_is_malformed(length: int) -> None:
    assert refused(RAW[:length]) is RefusedFor.MALFORMED


def test_size_is_judged_before_anything_else() -> None:
    with pytest.raises(RecordRefused) as raised:
        PeerRecord.open(RAW + bytes(RECORD_BYTES_MAX), NOW)
    assert raised.value.why is RefusedFor.OVERSIZED
    assert raised.value.close_code == CloseCode.LIMIT


def test_versions() -> None:
    assert refused(signed_body(RAW[97:], version=2)) is RefusedFor.VERSION
    assert refused(signed_body(RAW[97:], version=0)) is RefusedFor.MALFORMED


def test_fields_that_a_newer_version_appends_are_let_be() -> None:
    started = changed(incarnation=b"12345678", listens_s=72)
    body = msgspec.msgpack.encode([*msgspec.msgpack.decode(started.sign(KEY)[97:]), "later", 7])
    assert PeerRecord.open(signed_body(body), NOW) == started


def test_the_number_of_a_start_is_appended_to_what_version_0_1_reads() -> None:
    started = changed(incarnation=b"12345678").sign(KEY)
    first, *old = RAW[97:]
    assert bytes(started[97:]) == bytes([first + 1, *old]) + b"\xc4\x0812345678"
    assert PeerRecord.open(started, NOW).incarnation == b"12345678"


def test_that_it_listens_for_knocks_is_appended_behind_the_number_of_the_start() -> None:
    listening = changed(incarnation=b"12345678", listens_s=72).sign(KEY)
    assert listening[98:-1] == changed(incarnation=b"12345678").sign(KEY)[98:]
    assert PeerRecord.open(listening, NOW).listens_s == 72
    assert PeerRecord.open(changed(listens_s=72).sign(KEY), NOW) == changed(listens_s=72)


BROKEN = [
    ("less often", {"listens_s": LISTENS_MAX_S + 1}),
    ("less often", {"listens_s": -1}),
    ("sequence", {"sequence": 0}),
    ("sequence", {"sequence": -1}),
    ("start", {"incarnation": b"1234567"}),
    ("start", {"incarnation": b"123456789"}),
    ("valid for", {"expires": NOW}),
    ("valid for", {"expires": NOW + LIFETIME_MAX_S + 1}),
    ("valid for", {"issued": -1}),
    ("addresses", {"addresses": tuple(f"192.0.2.1:{n + 1}" for n in range(ADDRESSES_MAX + 1))}),
    ("addresses", {"addresses": ("192.0.2.1:1", "192.0.2.1:1")}),
    ("dialled", {"addresses": ("192.0.2.1:0",)}),
    ("dialled", {"addresses": ("0.0.0.0:1",)}),
    ("dialled", {"addresses": ("224.0.0.251:5353",)}),
    ("dialled", {"addresses": ("[fe80::1%eth0]:1",)}),
    ("dialled", {"addresses": ("http://" + "h" * ADDRESS_CHARS_MAX,)}),
    ("relay", {"serves": "192.0.2.1:1"}),
    ("name", {"name": "x" * (NAME_CHARS_MAX + 1)}),
    ("name", {"name": "a\x1b[2J"}),
]


@pytest.mark.parametrize(("said", "fields"), BROKEN)
def test_bounds_hold_for_those_who_sign_and_for_those_who_read(said: str, fields: dict[str, object]) -> None:
    record = changed(**fields)
    with pytest.raises(UsageError, match=said):
        record.sign(KEY)
    body = msgspec.msgpack.encode(
        [
            record.sequence,
            record.issued,
            record.expires,
            list(record.addresses),
            record.name,
            record.serves,
            record.incarnation,
            record.listens_s,
        ]
    )
    with pytest.raises(RecordRefused, match=said) as raised:
        PeerRecord.open(signed_body(body), NOW)
    assert raised.value.why is RefusedFor.MALFORMED


@pytest.mark.parametrize(
    "body",
    [b"", b"\x90", b"\xc1", b"\x93\x01\x02\x03", msgspec.msgpack.encode([1, 2, 3, "x"]), b"\x91" * 200],
)
def test_a_body_of_another_shape_is_malformed(body: bytes) -> None:
    assert refused(signed_body(body)) is RefusedFor.MALFORMED


@given(st.binary(max_size=RECORD_BYTES_MAX + 10))
def test_garbage_is_refused_and_nothing_else_happens(raw: bytes) -> None:
    with pytest.raises(RecordRefused):
        PeerRecord.open(raw, NOW)


@given(st.binary(max_size=200))
def test_signed_garbage_is_refused_or_sound(body: bytes) -> None:
    try:
        record = PeerRecord.open(signed_body(body), NOW)
    except RecordRefused:
        return
    assert record.peer == KEY.peer_id


def test_what_does_not_fit_leaves_from_the_end_and_relays_last() -> None:
    long = tuple(f"http://{'h' * 100}{n}:80" for n in range(6))
    many = tuple(f"192.0.2.{n}:1" for n in range(1, 10))
    record = changed(addresses=many + long, name="ä" * NAME_CHARS_MAX, serves="")
    with pytest.raises(UsageError, match="over 900"):
        record.sign(KEY)
    kept = PeerRecord.open(record.sign_fitting(KEY), NOW)
    assert kept.addresses == record.addresses[: len(kept.direct)] + long[: len(kept.relays)]
    assert kept.relays
    too_many = tuple(f"192.0.2.1:{n + 1}" for n in range(ADDRESSES_MAX + 5))
    assert (
        PeerRecord.open(changed(addresses=too_many).sign_fitting(KEY), NOW).addresses
        == (too_many[:ADDRESSES_MAX])
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "1.2.3.4",
        "1.2.3.4:",
        "1.2.3.4:x",
        "1.2.3.4:٣",
        "::1:5",
        "[1.2.3.4]:5",
        "1.2.3.4:70000",
        "a:1",
    ],
)
def test_what_is_no_address(text: str) -> None:
    assert not is_address(text)
    with pytest.raises(UsageError, match="not an IP address"):
        split_address(text)


@pytest.mark.parametrize(
    "text", ["[2001:DB8::1]:1", "01.2.3.4:1", "1.2.3.4:01", "http://", "ftp://a", "http://a b"]
)
def test_only_the_canonical_text_is_one(text: str) -> None:
    assert not is_address(text)


@given(ips, st.integers(1, 65535))
def test_addresses_split_and_join(ip: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int) -> None:
    if ip.version == 4 or not ip.scope_id:
        assert split_address(join_address(ip, port)) == (ip, port)
