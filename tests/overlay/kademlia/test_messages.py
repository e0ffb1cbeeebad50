"""Wire messages: golden bytes, and nothing but a value or a PeerError for garbage."""

import contextlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coterie.errors import LimitExceeded, PeerError
from coterie.overlay.kademlia import messages as wire
from coterie.overlay.kademlia.keys import ITEM_BYTES_MAX
from coterie.wire.frames import HEADER
from coterie.wire.record import RECORD_BYTES_MAX

A, B = bytes(range(32)), bytes(range(32, 64))
CONTACT = wire.Contact(A, b"record", 90)
A_HEX, B_HEX = "c420" + A.hex(), "c420" + B.hex()
OLD_CONTACT_HEX = "92" + A_HEX + "c4067265636f7264"  # of version 0.1
CONTACT_HEX = "93" + OLD_CONTACT_HEX[2:] + "5a"

GOLDEN = [
    (wire.Ping(1, True), 1, "9201c3"),
    (wire.Pong(2**32 - 1, False), 2, "92ceffffffffc2"),
    (wire.FindNode(3, True, A), 3, "9303c3" + A_HEX),
    (wire.Nodes(4, [CONTACT]), 4, "920491" + CONTACT_HEX),
    (wire.FindProviders(5, False, B), 5, "9305c2" + B_HEX),
    (wire.Providers(6, [CONTACT], []), 6, "930691" + CONTACT_HEX + "90"),
    (wire.FindValue(7, True, A), 7, "9307c3" + A_HEX),
    (wire.Value(8, b"\x00hi", [CONTACT]), 8, "9308c403006869" + "91" + CONTACT_HEX),
    (wire.AddProvider(9, True, A, 3600), 9, "9409c3" + A_HEX + "cd0e10"),
    (wire.Store(10, True, b"\x00hi", 60), 10, "940ac3c4030068693c"),
    (wire.Stored(11, True), 11, "920bc3"),
]


@pytest.mark.parametrize(("message", "kind", "body"), GOLDEN, ids=lambda value: type(value).__name__)
def test_golden_bytes(message: wire.Message, kind: int, body: str) -> None:
    raw = bytes.fromhex(body)
    assert wire.KADEMLIA.encode(message) == HEADER.pack(len(raw) + 1, kind) + raw
    assert wire.KADEMLIA.decode(kind, raw) == message


def test_every_kind_has_golden_bytes() -> None:
    assert {kind for _, kind, _ in GOLDEN} == set(wire.KADEMLIA.kinds)


def test_unknown_kinds_and_later_fields_are_let_pass() -> None:
    assert wire.KADEMLIA.decode(200, b"whatever") is None
    assert wire.KADEMLIA.decode(11, bytes.fromhex("930bc301")) == wire.Stored(11, True)


class OldContact(wire.Message, frozen=True):
    """As version 0.1 reads it."""

    peer: wire.Key
    record: wire.Record = b""


def test_contacts_with_an_age_and_without_are_read_by_old_nodes_and_new_ones() -> None:
    (old,) = wire.KADEMLIA.decode(4, bytes.fromhex("920491" + OLD_CONTACT_HEX)).contacts
    assert old == wire.Contact(A, b"record", None)
    read = msgspec.msgpack.decode(bytes.fromhex(CONTACT_HEX), type=OldContact)
    assert read == OldContact(A, b"record")


def test_the_largest_answer_fits_a_frame() -> None:
    full = [wire.Contact(A, bytes(RECORD_BYTES_MAX))] * 20
    assert len(wire.KADEMLIA.encode(wire.Providers(1, full, full))) < wire.FRAME_BYTES_MAX
    with pytest.raises(LimitExceeded):
        wire.KADEMLIA.encode(wire.Providers(1, full * 2, full))


@pytest.mark.parametrize(
    "message",
    [
        wire.FindNode(1, True, A[:31]),
        wire.FindNode(1, True, A + b"x"),
        wire.FindNode(2**32, True, A),
        wire.FindNode(-1, True, A),
        wire.Nodes(1, [CONTACT] * 21),
        wire.Providers(1, [CONTACT] * 21, []),
        wire.Nodes(1, [wire.Contact(A[:5])]),
        wire.Nodes(1, [wire.Contact(A, bytes(RECORD_BYTES_MAX + 1))]),
        wire.Value(1, bytes(ITEM_BYTES_MAX + 1), []),
        wire.Store(1, True, bytes(ITEM_BYTES_MAX + 1), 60),
        wire.Store(1, True, b"x", wire.LIFETIME_MAX_S + 1),
        wire.AddProvider(1, True, A, -1),
        wire.Ping("1", True),  # type: ignore[arg-type]
    ],
    ids=str,
)
def test_one_past_a_bound_is_the_peers_fault(message: wire.Message) -> None:
    frame = wire.KADEMLIA.encode(message)
    with pytest.raises(PeerError):
        wire.KADEMLIA.decode(frame[4], frame[5:])


@given(st.sampled_from(sorted(wire.KADEMLIA.kinds)), st.binary(max_size=200))
def test_garbage_decodes_to_a_message_or_is_refused(kind: int, body: bytes) -> None:
    try:
        message = wire.KADEMLIA.decode(kind, body)
    except PeerError:
        return
    assert isinstance(message, wire.KADEMLIA.kinds[kind])


@given(st.sampled_from(GOLDEN), st.data())
def test_damaged_messages_too(golden: tuple[wire.Message, int, str], data: st.DataObject) -> None:
    _, kind, body = golden
    raw = bytearray.fromhex(body)
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(PeerError):
        assert isinstance(wire.KADEMLIA.decode(kind, bytes(raw)), wire.KADEMLIA.kinds[kind])
