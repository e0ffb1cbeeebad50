"""Lanes: bulk bytes of a stream over a TLS connection of their own. See docs/protocol/lanes.md.

Two kinds of words. `PROTOCOL` is how the side that writes (it opens the stream) and the side that reads make a lane:
`Offer`, then `Listening` or `Declined`; the writer dials, or says `DialMe`; then `Ready` or `Failed`. Over a long path
the side that reads begins instead (it opens the stream): `Invite`, `Coming`, `Shaken`, and `Ready` or `Failed`.
`Signal` is a frame of kind 0 on any stream: a receiver that knows nothing of lanes skips it.
"""

from enum import IntEnum

import msgspec

from coterie.decoding import decoder
from coterie.errors import PeerError
from coterie.wire.frames import HEADER, Message, Protocol

TOKEN_BYTES = 32
LANE_ID_BYTES = 16
WAYS_MAX = 8  # connections of one lane
CERTIFICATE_BYTES_MAX = 1024  # an Ed25519 certificate without extensions is about 220 bytes
PORT_MIN = 1024  # a listener takes a free port, and those lie above: no other service's port is ever dialled
FRAME_BYTES_MAX = 2048
SHAKE_BYTES_MAX = (
    1800  # of TLS in one message; measured: 225, 654 and 432, and up to 1,100 more with newer key exchanges
)

PADDING_KIND = 255  # of no protocol: skipped as every kind that is not known
PADDING_FRAMES = 30  # below the 64 that may be skipped in a row
PADDING_FRAME_BYTES = 1_400  # about a packet
SIGNAL_KIND = 0  # protocols number their own kinds from 1
SIGNAL_BYTES_MAX = 64


class Offer(Message, frozen=True):
    """From the writer: may I write to you over a lane? Its one-time certificate (DER)."""

    certificate: bytes


class Listening(Message, frozen=True):
    """From the reader: its certificate, and where the writer may dial; `port` 0: nowhere, listen yourself.

    `lane`: its name, if the writer dials: who may use it as soon as TLS is content. Empty: wait for `Ready`.
    """

    certificate: bytes
    token: bytes
    port: int
    lane: bytes = b""


class Declined(Message, frozen=True):
    """From the reader: not now."""


class DialMe(Message, frozen=True):
    """From the writer: I could not reach you; I listen here."""

    token: bytes
    port: int


class Ready(Message, frozen=True):
    """From the reader: the lane stands, and is called `lane` (16 bytes)."""

    lane: bytes


class Failed(Message, frozen=True):
    """From either: no lane."""


class Invite(Message, frozen=True):
    """From the reader: come over this lane, if you have much to write. Its certificate, and where to dial.

    `lane`: how it is called; `shake`: the first bytes of TLS, whose client the reader is. Older nodes skip it.
    `more`: tokens of further connections, if the writer likes to come over several.
    """

    certificate: bytes
    token: bytes
    port: int
    lane: bytes
    shake: bytes
    more: tuple[bytes, ...] = ()


class Coming(Message, frozen=True):
    """From the writer: it dials, `ways` connections. Its certificate, and its answer in TLS."""

    certificate: bytes
    shake: bytes
    ways: int = 1


class Shaken(Message, frozen=True):
    """From the reader: the last bytes of the handshake. What follows of TLS goes over the TCP connection."""

    shake: bytes


PROTOCOL = Protocol(
    name="lanes",
    versions=(1,),
    kinds={
        1: Offer,
        2: Listening,
        3: Declined,
        4: DialMe,
        5: Ready,
        6: Failed,
        7: Invite,
        8: Coming,
        9: Shaken,
    },
    frame_bytes_max=FRAME_BYTES_MAX,
)


class Op(IntEnum):
    """What a signal says."""

    WELCOME = 1  # on the stream, from the reader: I can follow you to a lane
    SWITCH = 2  # on the stream, from the writer: what follows comes over `lane`
    BACK = 3  # on the lane, from the writer: what follows comes over the stream again


class Signal(msgspec.Struct, frozen=True, array_like=True):
    """A frame of kind 0. Operations that are not known are ignored."""

    op: int
    lane: bytes = b""


def encode_signal(signal: Signal) -> bytes:
    """The whole frame."""
    body = _ENCODER.encode(signal)
    return HEADER.pack(len(body) + 1, SIGNAL_KIND) + body


def padding() -> bytes:
    """Frames that say nothing: what a new lane begins with over a long path, so that TCP opens its window meanwhile."""
    body = PADDING_FRAME_BYTES - HEADER.size
    return (HEADER.pack(body + 1, PADDING_KIND) + bytes(body)) * PADDING_FRAMES


@decoder(PeerError, "a lane signal")
def decode_signal(body: bytes | memoryview) -> Signal:
    """What a frame of kind 0 says.

    Raises:
        PeerError: it is malformed.
    """
    if len(body) > SIGNAL_BYTES_MAX:
        raise PeerError(f"a lane signal of {len(body)} bytes")
    return _DECODER.decode(body)


def check_certificate(certificate: bytes) -> None:
    """Raise `PeerError` unless it has a possible size. What is in it is for TLS to judge."""
    if not 0 < len(certificate) <= CERTIFICATE_BYTES_MAX:
        raise PeerError(f"a lane certificate of {len(certificate)} bytes")


def check_shake(shake: bytes) -> None:
    """Raise `PeerError` unless it has a possible size. What is in it is for TLS to judge."""
    if not 0 < len(shake) <= SHAKE_BYTES_MAX:
        raise PeerError(f"{len(shake)} bytes of a lane's handshake at once")


def check_listening(token: bytes, port: int, *, may_be_none: bool) -> None:
    """Raise `PeerError` unless a token and a port are what a listener has."""
    if port == 0 and may_be_none:
        return
    if len(token) != TOKEN_BYTES or not PORT_MIN <= port < 65536:
        raise PeerError("a lane that cannot be dialled")


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Signal)
