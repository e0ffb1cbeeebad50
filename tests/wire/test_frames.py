"""Frames: bytes in, typed values out, whatever the bytes."""

import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coterie.errors import CloseCode, LimitExceeded, PeerError, UsageError
from coterie.wire import Bulk, FrameDecoder, Protocol
from coterie.wire.frames import HEADER, Message
from coterie.wire.handshake import (
    HANDSHAKE,
    Hello,
    StreamHeader,
    StreamReply,
    Welcome,
    check_greeting,
    check_header,
    common_version,
)


class Ping(Message, frozen=True):
    number: int
    text: str = ""


class PingOfTomorrow(Message, frozen=True):
    number: int
    text: str = ""
    extra: bool = True


PROTOCOL = Protocol("test", (1,), {1: Ping}, frozenset({9}), frame_bytes_max=100)


def decode_all(data: bytes, decoder: FrameDecoder | None = None) -> list[object]:
    decoder = decoder or FrameDecoder(100)
    return [PROTOCOL.decode(kind, bytes(body)) for kind, body in decoder.feed(data)]


def test_golden_bytes() -> None:
    assert PROTOCOL.encode(Ping(7, "hi")).hex() == "00000006" + "01" + "9207a26869"
    assert PROTOCOL.bulk_header(9, 3).hex() == "00000004" + "09"
    assert HANDSHAKE.encode(StreamHeader("files", [1])).hex() == "0000000a" + "03" + "92a566696c65739101"
    assert HANDSHAKE.encode(StreamReply(1)).hex() == "00000003" + "04" + "9101"
    assert HANDSHAKE.encode(Hello(bytes(16), "c")).hex() == "00000016" + "01" + "92c410" + "00" * 16 + "a163"
    assert HANDSHAKE.encode(Welcome(bytes(16), "c")).hex()[8:10] == "02"


@given(st.lists(st.binary(max_size=60), max_size=12), st.integers(0, 2**32))
def test_frames_survive_any_cutting(bodies: list[bytes], seed: int) -> None:
    rng = random.Random(seed)
    data = b"".join(PROTOCOL.bulk_header(9, len(b)) + b for b in bodies)
    decoder, found = FrameDecoder(100), []
    while data:
        cut = rng.randint(1, len(data))
        found += [bytes(body) for _, body in decoder.feed(data[:cut])]
        data = data[cut:]
    assert found == bodies
    assert decoder.pending_bytes == 0


@given(st.binary(max_size=400))
def test_no_bytes_do_worse_than_a_peer_error(data: bytes) -> None:
    decoder = FrameDecoder(100)
    try:
        for kind, body in decoder.feed(data):
            PROTOCOL.decode(kind, body)
    except PeerError:
        return
    assert decoder.pending_bytes <= 104


@given(st.integers(0, 255), st.binary(max_size=100))
def test_the_handshake_decoder_survives_garbage(kind: int, body: bytes) -> None:
    try:
        message = HANDSHAKE.decode(kind, body)
        if isinstance(message, Hello | Welcome):
            check_greeting(message)
        if isinstance(message, StreamHeader):
            check_header(message)
    except PeerError:
        pass


def test_unknown_kinds_are_ignored_and_longer_messages_understood() -> None:
    tomorrow = Protocol("test", (2,), {1: PingOfTomorrow})
    assert decode_all(HEADER.pack(3, 200) + b"xx" + PROTOCOL.encode(Ping(1))) == [None, Ping(1)]
    assert decode_all(tomorrow.encode(PingOfTomorrow(5))) == [Ping(5)]


def test_a_frame_over_the_limit_is_refused_on_sight() -> None:
    assert len(decode_all(HEADER.pack(100, 9) + bytes(99))) == 1
    with pytest.raises(PeerError) as caught:
        decode_all((101).to_bytes(4, "big"))
    assert caught.value.close_code == CloseCode.LIMIT
    decoder = FrameDecoder(100)
    assert decode_all(b"\xff\xff\xff", decoder) == []
    with pytest.raises(PeerError):
        decode_all(b"\xff", decoder)
    with pytest.raises(PeerError, match="empty"):
        decode_all(bytes(4))


def test_we_do_not_send_what_others_must_refuse() -> None:
    PROTOCOL.encode(Ping(1, "x" * 90))
    with pytest.raises(LimitExceeded):
        PROTOCOL.encode(Ping(1, "x" * 100))
    with pytest.raises(LimitExceeded):
        PROTOCOL.bulk_header(9, 100)
    with pytest.raises(UsageError):
        PROTOCOL.bulk_header(1, 1)
    with pytest.raises(UsageError):
        Protocol("both", (1,), {1: Ping}, frozenset({1}))


@pytest.mark.parametrize("body", [b"", b"\xc1", b"\x90", b"\x92\xa1x\xa1y", b"\x91" * 2000, b"\x91\x01\x01"])
def test_a_malformed_body_is_the_peers_fault(body: bytes) -> None:
    with pytest.raises(PeerError, match="malformed test message"):
        PROTOCOL.decode(1, body)


def test_bulk_is_handed_on_as_it_is() -> None:
    assert decode_all(PROTOCOL.bulk_header(9, 2) + b"ab") == [Bulk(9, b"ab")]


@pytest.mark.parametrize(
    ("ours", "theirs", "chosen"),
    [((1,), (1,), 1), ((1, 2, 3), (2, 1), 2), ((2,), (1,), None), ((1,), (), None)],
)
def test_the_highest_common_version_wins(ours, theirs, chosen) -> None:
    assert common_version(ours, theirs) == chosen


def test_greetings_and_headers_have_bounds() -> None:
    check_greeting(Hello(bytes(16), "x" * 64))
    check_header(StreamHeader("x" * 64, [1] * 16))
    for bad in (Hello(bytes(15)), Welcome(bytes(17)), Hello(bytes(16), "x" * 65)):
        with pytest.raises(PeerError):
            check_greeting(bad)
    for bad in (
        StreamHeader("", [1]),
        StreamHeader("x" * 65, [1]),
        StreamHeader("x", []),
        StreamHeader("x", [1] * 17),
    ):
        with pytest.raises(PeerError):
            check_header(bad)


def test_messages_are_immutable() -> None:
    with pytest.raises(AttributeError):
        Ping(1).number = 2  # type: ignore[misc]
    assert issubclass(Ping, msgspec.Struct)
