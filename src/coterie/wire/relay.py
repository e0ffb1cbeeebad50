"""Frames of the iroh relay protocol: each one binary WebSocket message, a type and its body.

Source: n0-computer/iroh, `iroh-relay/src/protos/` (versions 1 and 2), confirmed against the 1.2.0 wheel. The type
is a QUIC variable-length integer, which for all of these is one byte. `docs/protocol/relay.md` has the table.
"""

import struct
from enum import IntEnum

import msgspec
from blake3 import blake3

from coterie.decoding import decoder
from coterie.errors import CloseCode, LimitExceeded, PeerError, UsageError
from coterie.identity import PeerId, SecretKey
from coterie.identity.keys import SIGNATURE_BYTES, verify
from coterie.identity.peer_id import KEY_BYTES
from coterie.texts import tr

SUBPROTOCOLS = ("iroh-relay-v2", "iroh-relay-v1")  # best first
CHALLENGE_BYTES = 16
ECHO_BYTES = 8
CONTENTS_BYTES_MAX = 64 * 1024  # upstream: MAX_PACKET_SIZE
FRAME_BYTES_MAX = 1 << 20  # upstream: MAX_FRAME_SIZE, of which datagrams use no more than the next line says
DATAGRAM_FRAME_BYTES_MAX = 1 + KEY_BYTES + 1 + 2 + CONTENTS_BYTES_MAX
REASON_BYTES_MAX = 1024  # guess: a sentence for a person

_KEY_CONTEXT = "iroh-relay handshake v1 challenge signature"
_SEGMENT = struct.Struct(">H")
_RESTARTING = struct.Struct(">II")


class FrameType(IntEnum):
    """The first byte of a frame."""

    CHALLENGE = 0
    AUTHENTICATION = 1
    CONFIRMED = 2
    DENIED = 3
    TO_RELAY = 4
    BATCH_TO_RELAY = 5
    TO_CLIENT = 6
    BATCH_TO_CLIENT = 7
    PEER_GONE = 8
    PING = 9
    PONG = 10
    RESTARTING = 12
    STATUS = 13  # version 2 only


class StatusCode(IntEnum):
    """What a relay tells its client about itself."""

    HEALTHY = 0
    REPLACED = 1  # another connection has the same key
    RATE_LIMITED = 2


class Challenge(msgspec.Struct, frozen=True):
    """What the client is to sign."""

    challenge: bytes


class Authentication(msgspec.Struct, frozen=True):
    """Who the client is, and its signature over the challenge."""

    peer: PeerId
    signature: bytes


class Confirmed(msgspec.Struct, frozen=True):
    """The client may send now."""


class Denied(msgspec.Struct, frozen=True):
    """The client may not, and why."""

    reason: str


class Outbound(msgspec.Struct, frozen=True):
    """A datagram, or a batch of `segment_bytes` each, from a client for `peer`."""

    peer: PeerId
    ecn: int
    contents: bytes | memoryview
    segment_bytes: int | None = None


class Inbound(msgspec.Struct, frozen=True):
    """The same on its way to a client; `peer` sent it."""

    peer: PeerId
    ecn: int
    contents: bytes | memoryview
    segment_bytes: int | None = None


class PeerGone(msgspec.Struct, frozen=True):
    """`peer`, which had sent to this client, has left the relay."""

    peer: PeerId


class Ping(msgspec.Struct, frozen=True):
    """To be answered by a `Pong` with the same 8 bytes."""

    echo: bytes


class Pong(msgspec.Struct, frozen=True):
    """The answer to a `Ping`."""

    echo: bytes


class Restarting(msgspec.Struct, frozen=True):
    """The relay is about to go: connect again after `reconnect_ms`, and try for `try_ms`."""

    reconnect_ms: int
    try_ms: int


class Status(msgspec.Struct, frozen=True):
    """How the relay is; `code` may be one that this version does not know."""

    code: int


ToRelay = Authentication | Outbound | Ping | Pong
ToClient = Challenge | Confirmed | Denied | Inbound | PeerGone | Ping | Pong | Restarting | Status


def encode(frame: ToRelay | ToClient) -> bytes:  # noqa: PLR0911  (a table)
    """The bytes of `frame`. Raises `LimitExceeded` when its contents are over `CONTENTS_BYTES_MAX`."""
    match frame:
        case Outbound():
            return _encode_datagram(FrameType.TO_RELAY, frame)
        case Inbound():
            return _encode_datagram(FrameType.TO_CLIENT, frame)
        case Challenge(challenge):
            return _body(FrameType.CHALLENGE, _sized(challenge, CHALLENGE_BYTES))
        case Authentication(peer, signature):
            signed = bytes([SIGNATURE_BYTES]) + _sized(signature, SIGNATURE_BYTES)
            return _body(FrameType.AUTHENTICATION, peer + signed)
        case Confirmed():
            return _body(FrameType.CONFIRMED, b"")
        case Denied(reason):
            text = reason.encode()[:REASON_BYTES_MAX].decode(errors="ignore").encode()
            return _body(FrameType.DENIED, _postcard_length(len(text)) + text)
        case PeerGone(peer):
            return _body(FrameType.PEER_GONE, peer)
        case Ping(echo):
            return _body(FrameType.PING, _sized(echo, ECHO_BYTES))
        case Pong(echo):
            return _body(FrameType.PONG, _sized(echo, ECHO_BYTES))
        case Restarting(reconnect_ms, try_ms):
            return _body(FrameType.RESTARTING, _RESTARTING.pack(reconnect_ms, try_ms))
        case Status(code):
            return _body(FrameType.STATUS, bytes([code]))


@decoder(PeerError, "a frame for a relay")
def decode_at_relay(data: bytes | bytearray) -> ToRelay | None:
    """A frame that a client sent; None for a type that is unknown.

    Contents are a view of `data`. Raises `PeerError` when it is malformed, or only a relay may send it.
    """
    kind, body = _split(data)
    match kind:
        case FrameType.TO_RELAY | FrameType.BATCH_TO_RELAY:
            return Outbound(*_decode_datagram(body, kind == FrameType.BATCH_TO_RELAY))
        case FrameType.PING:
            return Ping(_exactly(body, ECHO_BYTES, "ping"))
        case FrameType.PONG:
            return Pong(_exactly(body, ECHO_BYTES, "pong"))
        case FrameType.AUTHENTICATION:
            rest = _exactly(body, KEY_BYTES + 1 + SIGNATURE_BYTES, "authentication")
            if rest[KEY_BYTES] != SIGNATURE_BYTES:
                raise PeerError(f"a signature of {rest[KEY_BYTES]} bytes")
            return Authentication(PeerId(rest[:KEY_BYTES]), rest[KEY_BYTES + 1 :])
        case _ if kind in _TYPES:
            raise PeerError(f"a client sent a {FrameType(kind).name} frame, which only a relay sends")
    return None


@decoder(PeerError, "a relay's frame")
def decode_at_client(data: bytes | bytearray) -> ToClient | None:  # noqa: PLR0911  (a table)
    """A frame that a relay sent; None for a type that is unknown.

    Contents are a view of `data`. Raises `PeerError` when it is malformed, or only a client may send it.
    """
    kind, body = _split(data)
    match kind:
        case FrameType.TO_CLIENT | FrameType.BATCH_TO_CLIENT:
            return Inbound(*_decode_datagram(body, kind == FrameType.BATCH_TO_CLIENT))
        case FrameType.CHALLENGE:
            return Challenge(_exactly(body, CHALLENGE_BYTES, "challenge"))
        case FrameType.CONFIRMED:
            _exactly(body, 0, "confirmation")
            return Confirmed()
        case FrameType.DENIED:
            return Denied(_decode_text(bytes(body)))
        case FrameType.PEER_GONE:
            return PeerGone(PeerId(_exactly(body, KEY_BYTES, "peer-gone")))
        case FrameType.PING:
            return Ping(_exactly(body, ECHO_BYTES, "ping"))
        case FrameType.PONG:
            return Pong(_exactly(body, ECHO_BYTES, "pong"))
        case FrameType.RESTARTING:
            return Restarting(*_RESTARTING.unpack(_exactly(body, _RESTARTING.size, "restarting")))
        case FrameType.STATUS:
            if not body:
                raise PeerError("a status frame without a status")
            return Status(body[0])
        case _ if kind in _TYPES:
            raise PeerError(f"a relay sent a {FrameType(kind).name} frame, which only a client sends")
    return None


def answer(challenge: Challenge, key: SecretKey) -> Authentication:
    """What the holder of `key` says to `challenge`."""
    return Authentication(key.peer_id, key.sign(_message(challenge.challenge)))


def is_answer(said: Authentication, challenge: Challenge) -> bool:
    """Whether `said` was signed by its peer, and for this challenge."""
    return verify(said.peer, _message(challenge.challenge), said.signature)


_TYPES = frozenset(int(kind) for kind in FrameType)


def _message(challenge: bytes) -> bytes:
    """What is signed: the derived key, so that a signature for the relay is good for nothing else."""
    return blake3(challenge, derive_key_context=_KEY_CONTEXT).digest()


def _body(kind: FrameType, body: bytes) -> bytes:
    return bytes([kind]) + body


def _sized(data: bytes, size: int) -> bytes:
    if len(data) != size:
        raise UsageError(tr("{size} bytes belong here, not {data}", size=size, data=len(data)))
    return data


def _encode_datagram(single: FrameType, frame: Outbound | Inbound) -> bytes:
    if len(frame.contents) > CONTENTS_BYTES_MAX:
        raise LimitExceeded(
            tr(
                "a datagram of {contents} bytes is over {contents_bytes_max}",
                contents=len(frame.contents),
                contents_bytes_max=CONTENTS_BYTES_MAX,
            )
        )
    if frame.segment_bytes is None:
        return b"".join((bytes([single]), frame.peer, bytes([frame.ecn]), frame.contents))
    head = bytes([frame.ecn]) + _SEGMENT.pack(frame.segment_bytes)
    return b"".join((bytes([single + 1]), frame.peer, head, frame.contents))


def _split(data: bytes | bytearray) -> tuple[int, memoryview]:
    if not data:
        raise PeerError("an empty frame")
    if len(data) > FRAME_BYTES_MAX:
        raise PeerError(f"a frame of {len(data)} bytes is over {FRAME_BYTES_MAX}", CloseCode.LIMIT)
    return data[0], memoryview(data)[1:]


def _exactly(body: memoryview, size: int, name: str) -> bytes:
    if len(body) != size:
        raise PeerError(f"a {name} frame of {len(body)} bytes instead of {size}")
    return bytes(body)


@decoder(PeerError, "a datagram frame")
def _decode_datagram(body: memoryview, is_batch: bool) -> tuple[PeerId, int, memoryview, int | None]:
    start = KEY_BYTES + 1 + (_SEGMENT.size if is_batch else 0)
    if len(body) <= start:
        raise PeerError("a datagram frame without a datagram")
    if len(body) - start > CONTENTS_BYTES_MAX:
        raise PeerError(
            f"a datagram of {len(body) - start} bytes is over {CONTENTS_BYTES_MAX}", CloseCode.LIMIT
        )
    segment_bytes = None
    if is_batch:
        segment_bytes = _SEGMENT.unpack_from(body, KEY_BYTES + 1)[0]
        if not segment_bytes:
            raise PeerError("a batch of datagrams of no size")
    return PeerId(bytes(body[:KEY_BYTES])), body[KEY_BYTES], body[start:], segment_bytes


def _postcard_length(length: int) -> bytes:
    """Postcard's variable-length integer: seven bits a byte, the lowest first."""
    out = bytearray()
    while length > 0x7F:
        out.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes(out) + bytes([length])


@decoder(PeerError, "a denial's reason")
def _decode_text(body: bytes) -> str:
    length = shift = 0
    for at, byte in enumerate(body[:3]):
        length |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            text = body[at + 1 :]
            if len(text) != length or length > REASON_BYTES_MAX:
                break
            return text.decode()
    raise PeerError("a denial whose reason is malformed")
