"""IP packets of a TUN device, as far as a whole-system exit carries them: UDP, and echo requests of ICMP. Pure.

RFC 791, 8200 (headers), 768 (UDP), 792, 4443 (ICMP). Fragments, and IPv6 packets with extension headers, are not
carried: the device takes datagrams of every size whole, and the kernel puts no such headers before UDP.
"""

import ipaddress
import struct

import msgspec

from coterie.decoding import decoder
from coterie.errors import UsageError
from coterie.texts import tr

PACKET_BYTES_MAX = 65_535  # of IPv4; the largest that the device gives
UDP, ICMP, ICMP6 = 17, 1, 58  # IANA protocol numbers
HOPS = 64  # RFC 1700: the recommended time to live
QUOTED_BYTES_MAX = 512  # of a refused packet inside the refusal: RFC 1812 (4.3.2.3) allows 576 in all

_V4 = struct.Struct(">BBHHHBBH4s4s")
_V6 = struct.Struct(">IHBB16s16s")
_UDP = struct.Struct(">HHHH")
_ECHO = struct.Struct(">BBHHH")
_PSEUDO_V6 = struct.Struct(">16s16sIxxxB")
_PSEUDO_V4 = struct.Struct(">4s4sxBH")
_FRAGMENT = 0x3FFF  # more fragments, or an offset
_ECHO_REQUEST = {4: 8, 6: 128}
_ECHO_REPLY = {4: 0, 6: 129}
_PROHIBITED = {4: (3, 13), 6: (1, 1)}  # destination unreachable: communication administratively prohibited
_UNREACHED = {4: (3, 1), 6: (1, 3)}  # destination unreachable: host, address


class Packet(msgspec.Struct, frozen=True):
    """A UDP datagram or an echo request.

    Fields:
        source, destination: 4 or 16 bytes.
        source_port, port: of UDP; of an echo its identifier and 0.
        sequence: of an echo.
        is_echo: it is an echo request.
        data: what it carries.
    """

    source: bytes
    destination: bytes
    source_port: int
    port: int
    data: bytes
    is_echo: bool = False
    sequence: int = 0

    @property
    def address(self) -> str:
        """The destination as text."""
        return str(ipaddress.ip_address(self.destination))


@decoder(UsageError, "a packet of this computer")
def read_packet(raw: bytes) -> Packet | None:
    """What a packet is; None: of a kind that is not carried. Raises `UsageError`: it is malformed."""
    version = raw[0] >> 4
    if version == 4:
        first, _, length, _, fragment, _, protocol, _, source, destination = _V4.unpack_from(raw)
        head = (first & 0x0F) * 4
        if fragment & _FRAGMENT:
            return None
        if not _V4.size <= head <= length <= len(raw) or checksum(raw[:head]) not in (0, 0xFFFF):
            raise UsageError(tr("a packet of this computer has a malformed header"))
        body = raw[head:length]
    elif version == 6:
        _, length, protocol, _, source, destination = _V6.unpack_from(raw)
        if _V6.size + length > len(raw):
            raise UsageError(tr("a packet of this computer ends too early"))
        body = raw[_V6.size : _V6.size + length]
    else:
        raise UsageError(tr("a packet of this computer is of IP version {version}", version=version))
    if protocol == UDP:
        return _read_udp(source, destination, body)
    if protocol == (ICMP if version == 4 else ICMP6):
        return _read_echo(version, source, destination, body)
    return None


def _read_udp(source: bytes, destination: bytes, body: bytes) -> Packet:
    source_port, port, length, summed = (int.from_bytes(body[at : at + 2], "big") for at in (0, 2, 4, 6))
    if not _UDP.size <= length <= len(body):
        raise UsageError(tr("a datagram of this computer has a wrong length"))
    body = body[:length]
    if summed and checksum(_pseudo(source, destination, UDP, length) + body) not in (0, 0xFFFF):
        raise UsageError(tr("a datagram of this computer has a wrong checksum"))
    return Packet(source, destination, source_port, port, body[_UDP.size :])


def _read_echo(version: int, source: bytes, destination: bytes, body: bytes) -> Packet | None:
    if len(body) < _ECHO.size:
        raise UsageError(tr("a message of ICMP of this computer ends too early"))
    kind, code = body[0], body[1]
    identifier, sequence = int.from_bytes(body[4:6], "big"), int.from_bytes(body[6:8], "big")
    if kind != _ECHO_REQUEST[version] or code:
        return None
    summed = body if version == 4 else _pseudo(source, destination, ICMP6, len(body)) + body
    if checksum(summed) not in (0, 0xFFFF):
        raise UsageError(tr("an echo request of this computer has a wrong checksum"))
    return Packet(source, destination, identifier, 0, body[_ECHO.size :], is_echo=True, sequence=sequence)


def answer(asked: Packet, data: bytes, *, address: bytes = b"", port: int = 0) -> bytes:
    """The packet that brings `data` back to who sent `asked`: a datagram from `address` and `port`, or an echo reply.

    Raises:
        UsageError: it is over PACKET_BYTES_MAX.
    """
    source = address or asked.destination
    if asked.is_echo:
        return _echo_reply(asked, source, data)
    length = _UDP.size + len(data)
    if length + 40 > PACKET_BYTES_MAX:
        raise UsageError(tr("a datagram of {size} bytes fits no packet", size=len(data)))
    head = _UDP.pack(port or asked.port, asked.source_port, length, 0)
    summed = checksum(_pseudo(source, asked.source, UDP, length) + head + data) or 0xFFFF
    body = _UDP.pack(port or asked.port, asked.source_port, length, summed) + data
    return _ip(source, asked.source, UDP, body)


def _echo_reply(asked: Packet, source: bytes, data: bytes) -> bytes:
    version = 4 if len(source) == 4 else 6
    if _ECHO.size + len(data) + 40 > PACKET_BYTES_MAX:
        raise UsageError(tr("an echo of {size} bytes fits no packet", size=len(data)))
    body = _ECHO.pack(_ECHO_REPLY[version], 0, 0, asked.source_port, asked.sequence) + data
    return _icmp(source, asked.source, body)


def refusal(raw: bytes, *, is_closed: bool) -> bytes:
    """What a router says to the sender of `raw`: prohibited (`is_closed`), or not reached. Raises `UsageError`."""
    version = raw[0] >> 4 if raw else 0
    if version not in _PROHIBITED or len(raw) < (_V4.size if version == 4 else _V6.size):
        raise UsageError(tr("there is no sender of a packet without a header"))
    at, size = (12, 4) if version == 4 else (8, 16)
    source, destination = raw[at : at + size], raw[at + size : at + 2 * size]
    kind, code = (_PROHIBITED if is_closed else _UNREACHED)[version]
    return _icmp(destination, source, _ECHO.pack(kind, code, 0, 0, 0) + raw[:QUOTED_BYTES_MAX])


def _icmp(source: bytes, destination: bytes, body: bytes) -> bytes:
    """`body` with its checksum, which stands as 0 in it, in a packet."""
    protocol = ICMP if len(source) == 4 else ICMP6
    before = b"" if protocol == ICMP else _pseudo(source, destination, ICMP6, len(body))
    summed = checksum(before + body)
    return _ip(source, destination, protocol, body[:2] + summed.to_bytes(2, "big") + body[4:])


def _ip(source: bytes, destination: bytes, protocol: int, body: bytes) -> bytes:
    if len(source) == 16:
        return _V6.pack(6 << 28, len(body), protocol, HOPS, source, destination) + body
    head = _V4.pack(0x45, 0, _V4.size + len(body), 0, 0, HOPS, protocol, 0, source, destination)
    return head[:10] + checksum(head).to_bytes(2, "big") + head[12:] + body


def _pseudo(source: bytes, destination: bytes, protocol: int, length: int) -> bytes:
    if len(source) == 16:
        return _PSEUDO_V6.pack(source, destination, length, protocol)
    return _PSEUDO_V4.pack(source, destination, protocol, length)


def checksum(data: bytes) -> int:
    """Of the internet (RFC 1071), 1 to 0xFFFF: 16-bit words added in one's complement are a number modulo 0xFFFF."""
    if len(data) & 1:
        data += b"\0"
    return 0xFFFF - int.from_bytes(data, "big") % 0xFFFF
