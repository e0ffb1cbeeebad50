"""The words of lanes: golden bytes, bounds, and whatever a peer may send instead."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coterie.errors import PeerError
from coterie.net import NetLimits
from coterie.transfer.messages import PROTOCOL as FILES
from coterie.wire.frames import FrameDecoder, Message
from coterie.wire.lanes import (
    CERTIFICATE_BYTES_MAX,
    FRAME_BYTES_MAX,
    LANE_ID_BYTES,
    PADDING_FRAME_BYTES,
    PADDING_FRAMES,
    PORT_MIN,
    PROTOCOL,
    SHAKE_BYTES_MAX,
    SIGNAL_BYTES_MAX,
    SIGNAL_KIND,
    TOKEN_BYTES,
    Coming,
    Declined,
    DialMe,
    Failed,
    Invite,
    Listening,
    Offer,
    Op,
    Ready,
    Shaken,
    Signal,
    check_certificate,
    check_listening,
    check_shake,
    decode_signal,
    encode_signal,
    padding,
)

TOKEN = bytes(range(TOKEN_BYTES))
LANE = bytes(range(LANE_ID_BYTES))

GOLDEN: list[tuple[Message, str]] = [
    (Offer(b"cert"), "000000080191c40463657274"),
    (
        Listening(b"cert", TOKEN, 40000),
        "0000002f0294c40463657274c420" + TOKEN.hex() + "cd9c40c400",
    ),
    (Listening(b"c", b"", 0), "0000000a0294c40163c40000c400"),
    (Listening(b"c", TOKEN, 1024, LANE), "0000003c0294c40163c420" + TOKEN.hex() + "cd0400c410" + LANE.hex()),
    (Declined(), "000000020390"),
    (DialMe(TOKEN, 1024), "000000270492c420" + TOKEN.hex() + "cd0400"),
    (Ready(LANE), "000000140591c410" + LANE.hex()),
    (Failed(), "000000020690"),
    (
        Invite(b"cert", TOKEN, 40000, LANE, b"tls"),
        "000000450796c40463657274c420" + TOKEN.hex() + "cd9c40c410" + LANE.hex() + "c403746c7390",
    ),
    (
        Invite(b"cert", TOKEN, 40000, LANE, b"tls", (TOKEN,)),
        "000000670796c40463657274c420"
        + TOKEN.hex()
        + "cd9c40c410"
        + LANE.hex()
        + "c403746c7391c420"
        + TOKEN.hex(),
    ),
    (Coming(b"cert", b"tls"), "0000000e0893c40463657274c403746c7301"),
    (Shaken(b"tls"), "000000070991c403746c73"),
]


@pytest.mark.parametrize(("message", "golden"), GOLDEN, ids=lambda v: type(v).__name__)
def test_golden_bytes(message: Message, golden: str) -> None:
    assert PROTOCOL.encode(message).hex() == golden
    ((kind, body),) = FrameDecoder(FRAME_BYTES_MAX).feed(bytes.fromhex(golden))
    assert PROTOCOL.decode(kind, body) == message


def test_a_lane_that_says_nothing_of_several_connections_has_one() -> None:
    for golden, message in (
        ("0000000d0892c40463657274c403746c73", Coming(b"cert", b"tls")),
        (
            "000000440795c40463657274c420" + TOKEN.hex() + "cd9c40c410" + LANE.hex() + "c403746c73",
            Invite(b"cert", TOKEN, 40000, LANE, b"tls"),
        ),
    ):
        ((kind, body),) = FrameDecoder(FRAME_BYTES_MAX).feed(bytes.fromhex(golden))
        assert PROTOCOL.decode(kind, body) == message


def test_a_reader_of_version_0_1_names_no_lane_beforehand() -> None:
    ((kind, body),) = FrameDecoder(FRAME_BYTES_MAX).feed(bytes.fromhex("000000080293c40163c40000"))
    assert PROTOCOL.decode(kind, body) == Listening(b"c", b"", 0)


@pytest.mark.parametrize(
    ("signal", "golden"),
    [
        (Signal(Op.WELCOME), "00000005009201c400"),
        (Signal(Op.SWITCH, LANE), "00000015009202c410" + LANE.hex()),
        (Signal(Op.BACK), "00000005009203c400"),
    ],
)
def test_golden_signals(signal: Signal, golden: str) -> None:
    assert encode_signal(signal).hex() == golden
    ((kind, body),) = FrameDecoder().feed(bytes.fromhex(golden))
    assert kind == SIGNAL_KIND
    assert decode_signal(body) == signal


def test_a_signal_is_skipped_by_who_knows_nothing_of_lanes() -> None:
    ((kind, body),) = FrameDecoder().feed(encode_signal(Signal(Op.WELCOME)))
    assert PROTOCOL.decode(kind, body) is None


def test_padding_is_skipped_by_every_protocol() -> None:
    frames = list(FrameDecoder(PADDING_FRAME_BYTES).feed(padding()))
    assert len(frames) == PADDING_FRAMES < NetLimits().unknown_frames_max
    assert {FILES.decode(kind, body) for kind, body in frames} == {None}
    assert {kind for kind, _ in frames}.isdisjoint({SIGNAL_KIND, *FILES.kinds, *FILES.bulk_kinds})


def test_signals_of_later_versions_may_say_more() -> None:
    assert decode_signal(bytes.fromhex("93") + b"\x09\xc4\x00\x05") == Signal(9)


def test_one_byte_more_than_a_signal_may_have() -> None:
    fits = b"\x92\x01\xc4" + bytes([SIGNAL_BYTES_MAX - 4]) + bytes(SIGNAL_BYTES_MAX - 4)
    assert decode_signal(fits).op == Op.WELCOME
    with pytest.raises(PeerError, match="65 bytes"):
        decode_signal(b"\x92\x01\xc4" + bytes([SIGNAL_BYTES_MAX - 3]) + bytes(SIGNAL_BYTES_MAX - 3))


def test_bounds_of_certificates() -> None:
    check_certificate(bytes(CERTIFICATE_BYTES_MAX))
    for size in (0, CERTIFICATE_BYTES_MAX + 1):
        with pytest.raises(PeerError, match="certificate"):
            check_certificate(bytes(size))


def test_bounds_of_a_handshake() -> None:
    check_shake(bytes(SHAKE_BYTES_MAX))
    for size in (0, SHAKE_BYTES_MAX + 1):
        with pytest.raises(PeerError, match="handshake"):
            check_shake(bytes(size))


@pytest.mark.parametrize("port", [-1, 0, 22, 80, PORT_MIN - 1, 65536])
def test_ports_of_other_services_are_not_dialled(port: int) -> None:
    with pytest.raises(PeerError, match="cannot be dialled"):
        check_listening(TOKEN, port, may_be_none=False)
    check_listening(TOKEN, PORT_MIN, may_be_none=False)
    check_listening(b"", 0, may_be_none=True)


@pytest.mark.parametrize("size", [0, TOKEN_BYTES - 1, TOKEN_BYTES + 1])
def test_a_token_has_one_length(size: int) -> None:
    with pytest.raises(PeerError, match="cannot be dialled"):
        check_listening(bytes(size), 40000, may_be_none=True)


@given(st.binary(max_size=SIGNAL_BYTES_MAX + 8))
def test_any_bytes_are_a_signal_or_the_peers_fault(body: bytes) -> None:
    try:
        signal = decode_signal(body)
    except PeerError:
        return
    assert isinstance(signal.op, int)
    assert isinstance(signal.lane, bytes)


@given(st.integers(0, 255), st.binary(max_size=200))
def test_any_bytes_are_a_message_or_the_peers_fault(kind: int, body: bytes) -> None:
    try:
        message = PROTOCOL.decode(kind, body)
    except PeerError:
        return
    assert message is None or isinstance(message, Message)
