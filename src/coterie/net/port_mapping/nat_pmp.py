"""NAT-PMP (RFC 6886): small datagrams to and from UDP port 5351 of the router. IPv4 only.

ask for the address   version 0 | op 0
answer                version 0 | op 128 | result u16 | epoch u32 | outside address 4
ask for a mapping     version 0 | op 1 (UDP), 2 (TCP) | reserved 2 | internal u16 | outside u16 | lifetime u32
answer                version 0 | op + 128 | result u16 | epoch u32 | internal u16 | outside u16 | lifetime u32
"""

import ipaddress
import struct
from dataclasses import dataclass

from coterie.decoding import decoder
from coterie.errors import PeerError

PORT = 5351
_OPS = {"udp": 1, "tcp": 2}
_MAP = struct.Struct("!BBHHHI")
_HEAD = struct.Struct("!BBHI")
_MAPPED = struct.Struct("!HHI")
_RESULTS = {  # RFC 6886, section 3.5
    1: "does not speak this version",
    2: "does not allow it",
    3: "is itself not connected",
    4: "has no more room",
    5: "does not know the request",
}


@dataclass(frozen=True, slots=True)
class NatPmpMapping:
    """What the router mapped. `lifetime_s` is 0 after a deletion."""

    protocol: str
    internal_port: int
    outside_port: int
    lifetime_s: int


def encode_address_request() -> bytes:
    """Which address has the router outside?"""
    return b"\0\0"


def encode_map(protocol: str, internal_port: int, *, outside_port: int, lifetime_s: int) -> bytes:
    """A request to map; a `lifetime_s` of 0 deletes, and then `outside_port` is 0."""
    return _MAP.pack(0, _OPS[protocol], 0, internal_port, outside_port, lifetime_s)


@decoder(PeerError, "an answer of the router")
def decode_address(datagram: bytes) -> str:
    """The router's outside address. Raises `PeerError` when the datagram is no such answer, or a refusal."""
    body = _body(datagram, 128)
    if len(body) < 4:
        raise PeerError("the router sent a truncated answer of NAT-PMP")
    return str(ipaddress.IPv4Address(body[:4]))


@decoder(PeerError, "an answer of the router")
def decode_map(datagram: bytes, protocol: str) -> NatPmpMapping:
    """The mapping of `protocol`. Raises `PeerError` when the datagram is no such answer, or a refusal."""
    body = _body(datagram, 128 + _OPS[protocol])
    if len(body) < _MAPPED.size:
        raise PeerError("the router sent a truncated answer of NAT-PMP")
    return NatPmpMapping(protocol, *_MAPPED.unpack_from(body))


@decoder(PeerError, "an answer of the router")
def _body(datagram: bytes, op: int) -> bytes:
    if len(datagram) < _HEAD.size or datagram[0] != 0 or datagram[1] < 128:
        raise PeerError("the router does not speak NAT-PMP")
    _, told, result, _ = _HEAD.unpack_from(datagram)
    if result:
        raise PeerError(f"the router {_RESULTS.get(result, f'refuses (NAT-PMP result {result})')}")
    if told != op:
        raise PeerError("the router answers another question of NAT-PMP")
    return datagram[_HEAD.size :]
