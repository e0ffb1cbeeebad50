"""The messages of `broadcast`: golden bytes, bounds, and whatever a neighbour may send."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coterie.errors import LimitExceeded, PeerError
from coterie.identity import PeerId, SecretKey
from coterie.identity.keys import verify
from coterie.wire import broadcast as wire
from coterie.wire.frames import HEADER

TOPIC = bytes(range(32))
KEY = b"k" * 32
ID = b"i" * 16
ENTRY = wire.Entry(KEY, b"r")
T, K, D, S = TOPIC.hex(), KEY.hex(), ID.hex(), "73" * 64

GOLDEN = [
    (wire.Join(TOPIC, b"r"), f"000000270192c420{T}c40172"),
    (wire.ForwardJoin(TOPIC, ENTRY, 6), f"0000004b0293c420{T}92c420{K}c4017206"),
    (wire.Neighbour(TOPIC, wire.Need.URGENT, b"r"), f"000000280393c420{T}01c40172"),
    (wire.Answer(TOPIC, False), f"000000270493c420{T}c2c400"),
    (wire.Disconnect(TOPIC, True), f"000000250592c420{T}c3"),
    (wire.Shuffle(TOPIC, ENTRY, 7, [ENTRY], 6), f"000000730695c420{T}92c420{K}c40172079192c420{K}c4017206"),
    (wire.ShuffleReply(TOPIC, 7, [ENTRY]), f"0000004c0793c420{T}079192c420{K}c40172"),
    (wire.Gossip(TOPIC, KEY, 1, b"hi", b"s" * 64, 2), f"0000008e1096c420{T}c420{K}01c4026869c440{S}02"),
    (wire.Ihave(TOPIC, [ID], 3), f"000000381193c420{T}91c410{D}03"),
    (wire.Graft(TOPIC, [ID]), f"000000371292c420{T}91c410{D}"),
    (wire.Prune(TOPIC), f"000000241391c420{T}"),
    (wire.Summary(TOPIC, 1, 2, 1, ID), f"0000003a1496c420{T}010201c410{D}c2"),
    (wire.Holds(TOPIC, 1, 2, [ID], True), f"0000003b1596c420{T}010291c410{D}c3c2"),
    (wire.Want(TOPIC, [ID]), f"000000371692c420{T}91c410{D}"),
]


def body(message: wire.Message) -> tuple[int, bytes]:
    frame = wire.PROTOCOL.encode(message)
    return HEADER.unpack_from(frame)[1], frame[HEADER.size :]


@pytest.mark.parametrize(("message", "golden"), GOLDEN, ids=lambda m: type(m).__name__)
def test_golden_bytes(message: wire.Message, golden: str) -> None:
    assert wire.PROTOCOL.encode(message).hex() == golden
    assert wire.PROTOCOL.decode(*body(message)) == message


def test_peers_are_written_as_bytes() -> None:
    peer = PeerId(KEY)
    for as_peer, as_bytes in [(wire.Entry(peer), wire.Entry(KEY))]:
        assert wire.PROTOCOL.encode(wire.ForwardJoin(TOPIC, as_peer, 1)) == wire.PROTOCOL.encode(
            wire.ForwardJoin(TOPIC, as_bytes, 1)
        )
    assert wire.PROTOCOL.encode(wire.Gossip(TOPIC, peer, 1, b"", bytes(64)))


def test_every_kind_has_golden_bytes() -> None:
    assert {type(message) for message, _ in GOLDEN} == set(wire.PROTOCOL.kinds.values())


def test_what_an_author_signs() -> None:
    signed = wire.signed_part(TOPIC, KEY, 1, b"hi")
    assert signed == b"coterie broadcast\x00" + TOPIC + KEY + bytes(7) + b"\x01hi"
    assert wire.id_of(signed).hex() == "1255d98b5dd7fa84d96eb0dbbde498e2"
    author = SecretKey(bytes(32))
    assert verify(author.peer_id, signed, author.sign(signed))


@pytest.mark.parametrize(
    "message",
    [
        wire.Prune(TOPIC[:-1]),
        wire.Prune(TOPIC + b"x"),
        wire.Join(TOPIC, bytes(901)),
        wire.ForwardJoin(TOPIC, ENTRY, wire.TTL_MAX + 1),
        wire.ForwardJoin(TOPIC, ENTRY, -1),
        wire.ForwardJoin(TOPIC, wire.Entry(KEY[:-1]), 6),
        wire.Shuffle(TOPIC, ENTRY, 7, [ENTRY] * (wire.SHUFFLED_MAX + 1), 6),
        wire.Shuffle(TOPIC, ENTRY, 2**32, [], 6),
        wire.ShuffleReply(TOPIC, 7, [ENTRY] * (wire.SHUFFLED_MAX + 1)),
        wire.Gossip(TOPIC, KEY, 1, bytes(wire.PAYLOAD_BYTES_MAX + 1), bytes(64)),
        wire.Gossip(TOPIC, KEY, 1, b"", bytes(63)),
        wire.Gossip(TOPIC, KEY, 2**63, b"", bytes(64)),
        wire.Gossip(TOPIC, KEY, 1, b"", bytes(64), wire.HOPS_MAX + 1),
        wire.Ihave(TOPIC, [ID] * (wire.IDS_MAX + 1)),
        wire.Ihave(TOPIC, [ID + b"x"]),
        wire.Graft(TOPIC, [ID] * (wire.IDS_MAX + 1)),
        wire.Holds(TOPIC, 1, 2, [ID] * (wire.IDS_MAX + 1), True),
        wire.Want(TOPIC, [ID] * (wire.IDS_MAX + 1)),
        wire.Summary(TOPIC, 1, 2, 1, b"short"),
        wire.Neighbour(TOPIC, 256),
    ],
    ids=lambda m: type(m).__name__,
)
def test_one_past_each_bound_is_the_senders_fault(message: wire.Message) -> None:
    with pytest.raises(PeerError):
        wire.PROTOCOL.decode(*body(message))


def test_everything_at_its_bounds_fits_a_frame() -> None:
    entries = [wire.Entry(KEY, bytes(900))] * wire.SHUFFLED_MAX
    ids = [ID] * wire.IDS_MAX
    for message in (
        wire.Shuffle(TOPIC, entries[0], 2**32 - 1, entries, wire.TTL_MAX),
        wire.Gossip(TOPIC, KEY, 2**63 - 1, bytes(wire.PAYLOAD_BYTES_MAX), bytes(64), wire.HOPS_MAX),
        wire.Holds(TOPIC, 2**63 - 1, 2**63 - 1, ids, True, True),
    ):
        assert wire.PROTOCOL.decode(*body(message)) == message
    with pytest.raises(LimitExceeded):
        wire.PROTOCOL.encode(wire.Gossip(TOPIC, KEY, 1, bytes(wire.FRAME_BYTES_MAX), bytes(64)))


def test_unknown_kinds_are_ignored_and_longer_messages_understood() -> None:
    assert wire.PROTOCOL.decode(99, b"\xc1") is None
    longer = msgspec.msgpack.encode([TOPIC, "of tomorrow"])
    assert wire.PROTOCOL.decode(19, longer) == wire.Prune(TOPIC)


@given(st.sampled_from(sorted(wire.PROTOCOL.kinds)), st.binary(max_size=300))
def test_any_bytes_decode_or_are_refused(kind: int, data: bytes) -> None:
    try:
        message = wire.PROTOCOL.decode(kind, data)
    except PeerError:
        return
    assert isinstance(message, wire.Message)


@given(st.sampled_from(GOLDEN), st.data())
def test_sound_messages_with_a_few_bytes_changed(
    golden: tuple[wire.Message, str], data: st.DataObject
) -> None:
    kind, raw = body(golden[0])
    changed = bytearray(raw)
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        message = wire.PROTOCOL.decode(kind, bytes(changed))
    except PeerError:
        return
    assert wire.PROTOCOL.decode(*body(message)) == message  # what we take, we can pass on
