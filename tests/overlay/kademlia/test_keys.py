"""Keys and items: golden bytes, every way to be refused, nothing but a refusal for garbage."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coterie.errors import PeerError, UsageError
from coterie.identity import PeerId, SecretKey
from coterie.overlay.kademlia.keys import (
    ITEM_BYTES_MAX,
    SALT_BYTES_MAX,
    SEQUENCE_MAX,
    VALUE_BYTES_MAX,
    content_key,
    node_id,
    open_item,
    plain_item,
    publisher_key,
    signed_item,
    value_key,
)

KEY = SecretKey(bytes(range(32)))
NOW = 1_700_000_000
SIGNED = signed_item(KEY, b"news", sequence=7, expires=NOW + 60, salt=b"s")
CONTEXT = b"coterie kademlia signed item\x00"


def test_golden_bytes() -> None:
    assert plain_item(b"hello").raw == b"\x00hello"
    assert (
        plain_item(b"hello").key.hex() == "3d851954f84241b4444bf1be0cafbd8a90b11d6872c95164e73db9cf4919fb9f"
    )
    assert SIGNED.raw.hex() == (
        "0103a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b835e2d0a45aea005b3ed22aed795023"
        "777d20ea6dba30785434304755ffd58dcdaa77a00c3b703902ae456b437f6d2c15aef3ceb1cf31b18748f3469df7093d"
        "099407ce6553f13cc40173c4046e657773"
    )
    assert (
        f"{node_id(KEY.peer_id):064x}" == "07c930530d071ba94a96fb43c67e280798479421aa26e814f0000eb9791c038b"
    )


def test_places_do_not_mix() -> None:
    data = bytes(KEY.peer_id)
    places = {
        node_id(data).to_bytes(32, "big"),
        content_key(data),
        value_key(data),
        publisher_key(KEY.peer_id),
    }
    assert len(places) == 4
    assert data not in places


def test_items_come_back_as_they_were() -> None:
    assert open_item(SIGNED.raw, NOW) == SIGNED
    assert SIGNED.key == publisher_key(KEY.peer_id, b"s")
    largest = plain_item(bytes(VALUE_BYTES_MAX))
    assert open_item(largest.raw, NOW) == largest
    most = signed_item(
        KEY, bytes(VALUE_BYTES_MAX), sequence=SEQUENCE_MAX, expires=SEQUENCE_MAX, salt=bytes(SALT_BYTES_MAX)
    )
    assert len(most.raw) <= ITEM_BYTES_MAX
    assert open_item(most.raw, NOW) == most


def test_bounds_are_the_callers_to_keep() -> None:
    for value in (b"", bytes(VALUE_BYTES_MAX + 1)):
        with pytest.raises(UsageError):
            plain_item(value)
        with pytest.raises(UsageError):
            signed_item(KEY, value, sequence=1, expires=1)
    with pytest.raises(UsageError):
        signed_item(KEY, b"v", sequence=1, expires=1, salt=bytes(SALT_BYTES_MAX + 1))
    with pytest.raises(UsageError):
        signed_item(KEY, b"v", sequence=-1, expires=1)
    with pytest.raises(UsageError):
        signed_item(KEY, b"v", sequence=1, expires=0)


def resigned(body: bytes) -> bytes:
    """Any body with a signature that fits: what a malicious publisher can make of its own."""
    head = b"\x01" + bytes(KEY.peer_id)
    return head + KEY.sign(CONTEXT + head + body) + body


def body(*fields: object) -> bytes:
    return msgspec.msgpack.encode(list(fields))


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x00",
        b"\x00" + bytes(VALUE_BYTES_MAX + 1),
        b"\x02hello",
        SIGNED.raw[:97],
        SIGNED.raw[:-1],
        SIGNED.raw + b"\x00",
        SIGNED.raw[:40] + bytes([SIGNED.raw[40] ^ 1]) + SIGNED.raw[41:],
        bytes(ITEM_BYTES_MAX + 1),
        resigned(b"\xc1"),
        resigned(body(1, NOW + 1, b"", b"")),
        resigned(body(-1, NOW + 1, b"", b"v")),
        resigned(body(2**63, NOW + 1, b"", b"v")),
        resigned(body(1, NOW + 1, bytes(SALT_BYTES_MAX + 1), b"v")),
        resigned(body(1, NOW, b"", b"v")),
    ],
)
def test_what_is_wrong_is_refused(raw: bytes) -> None:
    with pytest.raises(PeerError):
        open_item(raw, NOW)


def test_nobody_signs_for_another() -> None:
    other = SecretKey(bytes(32)).peer_id
    with pytest.raises(PeerError):
        open_item(b"\x01" + bytes(other) + SIGNED.raw[33:], NOW)


@given(st.binary(max_size=300), st.booleans())
def test_garbage_is_an_item_or_refused(raw: bytes, is_signed: bool) -> None:
    try:
        item = open_item(resigned(raw) if is_signed else raw, NOW)
    except PeerError:
        return
    assert open_item(item.raw, NOW) == item
    assert item.publisher in (None, PeerId(bytes(KEY.peer_id)))
