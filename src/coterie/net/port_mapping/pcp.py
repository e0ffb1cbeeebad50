"""PCP (RFC 6887), the MAP request: datagrams of 60 bytes to and from UDP port 5351 of the router.

    header   version 2 | R + opcode | reserved 2 | lifetime u32 | client address 16       (a request)
             version 2 | R + opcode | reserved 1 | result u8 | lifetime u32 | epoch u32 | reserved 12
    MAP      nonce 12 | protocol u8 | reserved 3 | internal port u16 | outside port u16 | outside address 16

IPv4 addresses are written as ::ffff:a.b.c.d. Everything is big-endian.
"""

import ipaddress
import struct
from dataclasses import dataclass

from coterie.decoding import decoder
from coterie.errors import PeerError

PORT = 5351
NONCE_BYTES = 12
DATAGRAM_BYTES_MAX = 1100  # RFC 6887, section 7
_VERSION = 2
_MAP = 1
_ANSWER = 0x80
_REQUEST = struct.Struct("!BBHI16s12sB3xHH16s")
_ANSWER_MAP = struct.Struct("!BBBBII12x12sB3xHH16s")
_RESULTS = {  # RFC 6887, section 7.4
    1: "does not speak this version",
    2: "does not allow it",
    3: "calls the request malformed",
    4: "does not know the request",
    8: "has no more room",
    10: "has given too many to this computer",
    11: "cannot give that address",
    12: "says that another device stands between",
}
PROTOCOLS = {"udp": 17, "tcp": 6}


@dataclass(frozen=True, slots=True)
class PcpAnswer:
    """A mapping that the router made. `lifetime_s` is 0 after a deletion."""

    nonce: bytes
    protocol: str
    internal_port: int
    outside_ip: str
    outside_port: int
    lifetime_s: int


def encode_map(
    nonce: bytes, client_ip: str, protocol: str, internal_port: int, *, outside_port: int, lifetime_s: int
) -> bytes:
    """A request to map; a `lifetime_s` of 0 deletes. `outside_port` is what we would like."""
    client = _packed(ipaddress.ip_address(client_ip))
    anywhere = _packed(
        ipaddress.ip_address("::" if ":" in client_ip else "0.0.0.0")  # noqa: S104  (any address will do)
    )
    number = PROTOCOLS[protocol]
    return _REQUEST.pack(
        _VERSION, _MAP, 0, lifetime_s, client, nonce, number, internal_port, outside_port, anywhere
    )


@decoder(PeerError, "an answer of the router")
def decode_map(datagram: bytes) -> PcpAnswer:
    """Read the router's answer to `encode_map`.

    Raises:
        PeerError: it is no such answer, or a refusal; the text says which.
    """
    if len(datagram) < 4 or datagram[0] != _VERSION:
        raise PeerError("the router does not speak PCP")
    if not datagram[1] & _ANSWER or datagram[1] & ~_ANSWER != _MAP or len(datagram) > DATAGRAM_BYTES_MAX:
        raise PeerError("the router sent something that is no answer of PCP")
    if datagram[3]:
        raise PeerError(f"the router {_RESULTS.get(datagram[3], f'refuses (PCP result {datagram[3]})')}")
    if len(datagram) < _ANSWER_MAP.size:
        raise PeerError("the router sent a truncated answer of PCP")
    _, _, _, _, lifetime_s, _, nonce, number, internal, outside, packed = _ANSWER_MAP.unpack_from(datagram)
    named = {value: key for key, value in PROTOCOLS.items()}.get(number)
    if named is None:
        raise PeerError("the router answers for a protocol that was not asked for")
    ip = ipaddress.IPv6Address(packed)
    return PcpAnswer(nonce, named, internal, str(ip.ipv4_mapped or ip), outside, lifetime_s)


def _packed(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bytes:
    return ip.packed if ip.version == 6 else bytes(10) + b"\xff\xff" + ip.packed
