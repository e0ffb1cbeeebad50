"""Frames of the relay protocol: golden bytes, round trips, bounds, and whatever a stranger may send."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coterie.errors import LimitExceeded, PeerError, UsageError
from coterie.identity import PeerId, SecretKey
from coterie.wire import relay as wire

KEY = SecretKey(bytes(range(32)))
PEER = KEY.peer_id
ID = bytes.fromhex("03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8")
ECHO = b"12345678"

GOLDEN_TO_CLIENT = {
    wire.Challenge(bytes(16)): bytes(17),
    wire.Confirmed(): b"\x02",
    wire.Denied("no"): b"\x03\x02no",
    wire.Denied("x" * 200): b"\x03\xc8\x01" + b"x" * 200,
    wire.Inbound(PEER, 2, b"packet"): b"\x06" + ID + b"\x02packet",
    wire.Inbound(PEER, 0, b"packet", 3): b"\x07" + ID + b"\x00\x00\x03packet",
    wire.PeerGone(PEER): b"\x08" + ID,
    wire.Ping(ECHO): b"\x0912345678",
    wire.Pong(ECHO): b"\x0a12345678",
    wire.Restarting(1000, 30000): b"\x0c\x00\x00\x03\xe8\x00\x00\x75\x30",
    wire.Status(1): b"\x0d\x01",
}
GOLDEN_TO_RELAY = {
    wire.Authentication(PEER, bytes(64)): b"\x01" + ID + b"\x40" + bytes(64),
    wire.Outbound(PEER, 0, b"packet"): b"\x04" + ID + b"\x00packet",
    wire.Outbound(PEER, 3, b"packet", 1200): b"\x05" + ID + b"\x03\x04\xb0packet",
    wire.Ping(ECHO): b"\x0912345678",
    wire.Pong(ECHO): b"\x0a12345678",
}


@pytest.mark.parametrize("frame", GOLDEN_TO_CLIENT, ids=lambda f: type(f).__name__)
def test_golden_bytes_to_a_client(frame: wire.ToClient) -> None:
    assert wire.encode(frame) == GOLDEN_TO_CLIENT[frame]
    assert wire.decode_at_client(GOLDEN_TO_CLIENT[frame]) == frame


@pytest.mark.parametrize("frame", GOLDEN_TO_RELAY, ids=lambda f: type(f).__name__)
def test_golden_bytes_to_a_relay(frame: wire.ToRelay) -> None:
    assert wire.encode(frame) == GOLDEN_TO_RELAY[frame]
    assert wire.decode_at_relay(GOLDEN_TO_RELAY[frame]) == frame


def test_the_signature_is_for_this_challenge_key_and_purpose() -> None:
    challenge = wire.Challenge(b"0123456789abcdef")
    said = wire.answer(challenge, KEY)
    golden = "3839b6a8bf5b529788f10c73bacedfbe6783f7a4e9c108b3284a754002f188c8"
    golden += "9c1d9e91a28b4f394183e082330f9355f7243584f5180a6039ba7857de89e80e"
    assert said.signature.hex() == golden, "what the wheel's clients sign"
    assert wire.is_answer(said, challenge)
    assert not wire.is_answer(said, wire.Challenge(b"0123456789abcdeF"))
    assert not wire.is_answer(wire.Authentication(SecretKey(bytes(32)).peer_id, said.signature), challenge)
    bare = wire.Authentication(PEER, KEY.sign(challenge.challenge))
    assert not wire.is_answer(bare, challenge)
    assert not wire.is_answer(wire.Authentication(PeerId(bytes(32)), bytes(64)), challenge)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x04",
        b"\x04" + ID + b"\x00",
        b"\x05" + ID + b"\x00\x04\xb0",
        b"\x05" + ID + b"\x00\x00\x00packet",
        b"\x09short",
        b"\x0a123456789",
        b"\x01" + ID + b"\x3f" + bytes(64),
        b"\x01" + ID + b"\x40" + bytes(63),
        bytes(17),
        b"\x06" + ID + b"\x00spoofed source",
        b"\x08" + ID,
        b"\x0d\x00",
        b"\x04" + ID + b"\x00" + bytes(wire.CONTENTS_BYTES_MAX + 1),
        bytes(wire.FRAME_BYTES_MAX + 1),
    ],
)
def test_a_relay_refuses_what_is_malformed_or_not_a_clients_to_send(data: bytes) -> None:
    with pytest.raises(PeerError):
        wire.decode_at_relay(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x03",
        b"\x03\x05no",
        b"\x03\xff\xff\xff\xff",
        b"\x03\x02\xff\xff",
        b"\x0d",
        b"\x02x",
        b"\x04" + ID + b"\x00x",
    ],
)
def test_a_client_refuses_what_is_malformed(data: bytes) -> None:
    with pytest.raises(PeerError):
        wire.decode_at_client(data)


def test_unknown_types_are_ignored() -> None:
    for kind in (11, 14, 63, 64, 255):
        assert wire.decode_at_relay(bytes([kind]) + b"rest") is None
        assert wire.decode_at_client(bytes([kind]) + b"rest") is None


def test_contents_have_a_bound_when_sent_as_well() -> None:
    most = wire.Outbound(PEER, 0, bytes(wire.CONTENTS_BYTES_MAX), 1200)
    assert len(wire.encode(most)) == wire.DATAGRAM_FRAME_BYTES_MAX
    with pytest.raises(LimitExceeded):
        wire.encode(wire.Outbound(PEER, 0, bytes(wire.CONTENTS_BYTES_MAX + 1)))
    with pytest.raises(UsageError):
        wire.encode(wire.Ping(b"short"))


def test_a_long_reason_is_cut_between_characters() -> None:
    frame = wire.decode_at_client(wire.encode(wire.Denied("é" * 2000)))
    assert frame == wire.Denied("é" * (wire.REASON_BYTES_MAX // 2))


@given(st.binary(max_size=200))
def test_any_bytes_decode_or_are_refused(data: bytes) -> None:
    for decode in (wire.decode_at_relay, wire.decode_at_client):
        try:
            frame = decode(data)
        except PeerError:
            continue
        if frame is not None and not isinstance(frame, wire.Status | wire.Denied):
            assert wire.encode(frame) == data
