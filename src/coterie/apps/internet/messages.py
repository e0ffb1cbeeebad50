"""The wire types of `internet`. One stream is one connection through an exit, or one flow of datagrams.

The asker sends `Open`, the exit answers `Trying` at once, then `Opened` or `Refused`. Behind that a TCP connection is
frames of `DATA`, each way until that side finishes; a flow is datagrams behind their lengths (`services/carry`), each
of which begins with where it goes or comes from, as in SOCKS5. See docs/protocol/internet.md.
"""

import ipaddress
import struct
from typing import Annotated

import msgspec

from coterie.decoding import decoder
from coterie.errors import PeerError
from coterie.services.carry.messages import Beat, Watch
from coterie.services.carry.splice import READ_BYTES
from coterie.wire.frames import Message, Protocol

HOST_CHARS_MAX = 255  # RFC 1928, 5: one byte counts it
QUESTION_BYTES_MAX = 512  # of a message that asks for one name: RFC 1035, 4.2.1
_PORT = struct.Struct(">H")
_IPV4, _NAME, _IPV6 = 1, 3, 4  # RFC 1928, 5: ATYP


class Open(Message, frozen=True):
    """From the asker. `kind`: "tcp" connects to `host` and `port`; "udp": a flow; "ask": only whether it may.

    "ping": a flow of echo requests, whose ports are their sequence numbers; "dns": the answer of the exit's resolver to
    the message `question`, as one datagram. `flow`: of flows, the asker's number for its packets; 0: none.
    """

    kind: str = "tcp"
    host: Annotated[str, msgspec.Meta(max_length=HOST_CHARS_MAX)] = ""
    port: Annotated[int, msgspec.Meta(ge=0, le=65_535)] = 0
    flow: int = 0
    question: Annotated[bytes, msgspec.Meta(max_length=QUESTION_BYTES_MAX)] = b""


class Opened(Message, frozen=True):
    """It is. `flow`: the number in `Open` where the exit takes packets, else 0."""

    flow: int = 0


class Refused(Message, frozen=True):
    """It is not: `reason` for people.

    `why`: "access": this exit is not for the asker now; "host": it does not lead there; "name", "unreachable",
    "closed", "silent": what became of it; "busy": the exit has no room.
    """

    why: str
    reason: str


class Trying(Message, frozen=True):
    """The exit is there, and does what was asked."""


class Offer(Message, frozen=True):
    """From an exit to a computer that may use it, once it is connected: there is one here for you."""


DATA = 16
FIRST_BYTES_MAX = 1_024

PROTOCOL = Protocol(
    name="internet",
    versions=(1,),
    kinds={1: Open, 2: Opened, 3: Refused, 4: Watch, 5: Beat, 6: Trying, 7: Offer},
    bulk_kinds=frozenset({DATA}),
    frame_bytes_max=READ_BYTES + 1,
)


def pack_addressed(host: str, port: int, data: bytes) -> bytes:
    """A datagram to or from `host`, an address or a name, as it stands in a flow and in SOCKS5."""
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        name = host.encode("ascii", "replace")[:HOST_CHARS_MAX]
        return bytes((_NAME, len(name))) + name + _PORT.pack(port) + data
    return bytes((_IPV4 if ip.version == 4 else _IPV6,)) + ip.packed + _PORT.pack(port) + data


@decoder(PeerError, "a datagram of a flow")
def read_addressed(packet: bytes) -> tuple[str, int, bytes]:
    """Host, port and the datagram. Raises `PeerError`."""
    match packet[0]:
        case 1:
            end, host = 5, str(ipaddress.IPv4Address(packet[1:5]))
        case 4:
            end, host = 17, str(ipaddress.IPv6Address(packet[1:17]))
        case 3:
            end = 2 + packet[1]
            host = packet[2:end].decode("ascii")
        case _:
            raise PeerError("an address of an unknown kind")
    if len(packet) < end + _PORT.size:
        raise PeerError("an address that is cut off")
    (port,) = _PORT.unpack_from(packet, end)
    return host, port, packet[end + _PORT.size :]
