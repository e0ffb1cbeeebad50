"""Ticket: one printable string with everything needed to fetch.

    text    = "coterie" + base32(payload + checksum), lower case, no padding
    payload = version u8 | length u16 (of the whole binary form) | body
    body v1 = kind u8 | peer 32 | content id 32 | secret 16 | count u8 | addresses
    address = 4 | 6 (u8), IP, port u16
    relay   = one or two addresses in `RELAY_NETWORK`, where nobody can be: see `_as_plain`
    checksum = first 4 bytes of BLAKE3(payload)

Base32 keeps a ticket inside the alphanumeric mode of QR codes once upper-cased; reading ignores case, white
space, hyphens, and what was pasted around it. Everything is big-endian.
"""

import base64
import binascii
import ipaddress
import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum

from blake3 import blake3

from coterie.decoding import decoder
from coterie.errors import UsageError
from coterie.identity import PeerId
from coterie.texts import tr
from coterie.wire.pasted import words

PREFIX = "coterie"
VERSION = 1
CHECKSUM_BYTES = 4
CONTENT_ID_BYTES = 32
SECRET_BYTES = 16  # 128 bits: beyond guessing
ADDRESSES_MAX = 8
RELAYS_MAX = 2  # each takes 31 characters (IPv6: 62); guess: one that is in use, one that stands by
RELAY_NETWORK = ipaddress.IPv6Network("100:0:0:1::/64")  # RFC 9780: a dummy prefix, no packet goes there
TEXT_CHARS_MAX = 1024  # a QR code of version 20 in alphanumeric mode holds 1,249 at level L

INVITATION_KIND = 16  # see wire/invitation.py

Ip = ipaddress.IPv4Address | ipaddress.IPv6Address

_RELAY = re.compile(r"http://([0-9.]+:[0-9]{1,5}|\[[0-9a-f:]+\]:[0-9]{1,5})")
_HALF = 2**64 - 1
_IPV4_MAX = 2**32 - 1
_HEAD = struct.Struct(">BH")
_HEAD_DIGITS = -(-_HEAD.size * 8 // 5)
_ALPHABET = frozenset("abcdefghijklmnopqrstuvwxyz234567")
_FIXED = struct.Struct(f">B32s{CONTENT_ID_BYTES}s{SECRET_BYTES}sB")


class TicketKind(IntEnum):
    """What the content id names."""

    BLOB = 1
    TREE = 2


@dataclass(frozen=True)
class Ticket:
    """What (`kind`, `content_id`), from whom (`peer`), where (`addresses`), by what right (`secret`).

    `addresses`: "ip:port", or the URL of a relay at an IP address ("http://ip:port"); see `fit_addresses`.
    """

    kind: TicketKind
    peer: PeerId
    content_id: bytes
    secret: bytes
    addresses: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.content_id) != CONTENT_ID_BYTES or len(self.secret) != SECRET_BYTES:
            raise UsageError(tr("a ticket needs a 32-byte content id and a 16-byte secret"))
        if count_addresses(self.addresses) > ADDRESSES_MAX:
            raise UsageError(
                tr("a ticket holds at most {addresses_max} addresses", addresses_max=ADDRESSES_MAX)
            )

    def __str__(self) -> str:
        count = count_addresses(self.addresses)
        body = _FIXED.pack(self.kind, self.peer, self.content_id, self.secret, count)
        return write_text(body + pack_addresses(self.addresses))

    def __repr__(self) -> str:
        return f"Ticket({self.kind.name.lower()} {self.content_id.hex()[:8]} from {self.peer.short}, secret hidden)"

    @classmethod
    @decoder(UsageError, "this ticket")
    def parse(cls, text: str) -> "Ticket":
        """Read a ticket.

        Raises:
            UsageError: says whether it is not a coterie ticket, truncated, mistyped, or of a newer version.
        """
        return _parse_body(read_text(text))


def write_text(body: bytes) -> str:
    """The printable form of a ticket's body."""
    payload = _HEAD.pack(VERSION, _HEAD.size + len(body) + CHECKSUM_BYTES) + body
    return PREFIX + _encode(payload + _checksum(payload))


def holds_ticket(text: str) -> bool:
    """Whether a word of `text` begins as tickets do, and goes on."""
    return any(word.lower().startswith(PREFIX) and len(word) > len(PREFIX) for word in words(text))


@decoder(UsageError, "this ticket")
def read_text(text: str, chars_max: int = TEXT_CHARS_MAX) -> bytes:
    """The checked body of the ticket in `text`, whatever was pasted around it or broken its lines.

    Everything that can be wrong with a ticket is told apart here.

    Raises:
        UsageError: not a ticket, truncated, mistyped, or of a newer version.
    """
    parts = [part.lower() for part in words(text)]
    wrong = UsageError(tr("this is not a coterie ticket: one begins with '{prefix}'", prefix=PREFIX))
    for begin, part in enumerate(parts):
        if not part.startswith(PREFIX):
            continue
        try:
            return _read_digits(_gather(parts[begin:], chars_max), chars_max)
        except UsageError as error:
            wrong = error  # the last word that begins so is the likeliest: "coterie get TICKET"
    raise wrong


def _gather(parts: Sequence[str], chars_max: int) -> str:
    """The digits of a ticket that begins with the first of `parts`: as many parts as the ticket's own length wants."""
    digits = parts[0].removeprefix(PREFIX)
    for part in parts[1:]:
        if len(digits) > chars_max or _is_whole(digits):
            break
        digits += part
    return digits


@decoder(UsageError, "this ticket")
def _is_whole(digits: str) -> bool:
    head = digits[:_HEAD_DIGITS]
    if len(head) < _HEAD_DIGITS or not set(head) <= _ALPHABET:
        return False
    _, length = _HEAD.unpack(_decode(head)[: _HEAD.size])
    return len(digits) >= _digits_of(length)


def _digits_of(length: int) -> int:
    """How many digits `length` bytes take."""
    return -(-length * 8 // 5)


@decoder(UsageError, "this ticket")
def _read_digits(digits: str, chars_max: int) -> bytes:
    if len(PREFIX) + len(digits) > chars_max:
        raise UsageError(
            tr("this is not a coterie ticket: it has over {chars_max} characters", chars_max=chars_max)
        )
    for at, char in enumerate(digits):
        if char not in _ALPHABET:
            raise UsageError(
                tr(
                    "the ticket is mistyped: '{char}' at character {prefix} cannot be in one",
                    char=char,
                    prefix=len(PREFIX) + at + 1,
                )
            )
    raw = _decode(digits)
    if len(raw) < _HEAD.size:
        raise UsageError(tr("the ticket is truncated: only its beginning is here"))
    version, length = _HEAD.unpack_from(raw)
    whole = _digits_of(length)
    if len(digits) < whole:
        have, want = len(PREFIX) + len(digits), len(PREFIX) + whole
        raise UsageError(
            tr("the ticket is truncated: {have} of {want} characters are here", have=have, want=want)
        )
    if len(digits) > whole:
        raise UsageError(tr("the ticket is mistyped: it is longer than it says"))
    payload, checksum = raw[:-CHECKSUM_BYTES], raw[-CHECKSUM_BYTES:]
    if checksum != _checksum(payload) or _encode(raw) != digits:
        raise UsageError(tr("the ticket is mistyped: its checksum does not fit; copy it again"))
    if version != VERSION:
        raise UsageError(
            tr(
                "the ticket is of version {version}, this coterie reads version {version2}; update coterie",
                version=version,
                version2=VERSION,
            )
        )
    return payload[_HEAD.size :]


def _encode(raw: bytes) -> str:
    return base64.b32encode(raw).decode("ascii").rstrip("=").lower()


@decoder(UsageError, "this ticket")
def _decode(digits: str) -> bytes:
    """Base32 without padding, forgiving an impossible length so that truncation can be told from a typo."""
    usable = len(digits) - (1 if len(digits) % 8 in (1, 3, 6) else 0)
    try:
        return base64.b32decode(digits[:usable].upper() + "=" * (-usable % 8))
    except binascii.Error:
        raise UsageError(tr("the ticket is mistyped: it is not base32")) from None


@decoder(UsageError, "this ticket")
def _parse_body(body: bytes) -> Ticket:
    if body[:1] == bytes([INVITATION_KIND]):
        raise UsageError(tr("this is an invitation, not a ticket for files: use it with `coterie join`"))
    if len(body) < _FIXED.size:
        raise UsageError(tr("the ticket is damaged: its parts do not add up"))
    try:
        named = TicketKind(body[0])
    except ValueError:
        raise UsageError(
            tr(
                "the ticket is for something this coterie does not know (kind {body}); update it",
                body=body[0],
            )
        ) from None
    _, peer, content_id, secret, count = _FIXED.unpack_from(body)
    return Ticket(named, PeerId.read(peer), content_id, secret, unpack_addresses(body[_FIXED.size :], count))


def pack_addresses(addresses: Sequence[str]) -> bytes:
    """The binary form of "ip:port" texts and of relays' URLs. Raises `UsageError` on one that is neither."""
    return b"".join(_pack_address(plain) for address in addresses for plain in _as_plain(address))


def count_addresses(addresses: Sequence[str]) -> int:
    """How many addresses `addresses` count as in a ticket: a relay of IPv6 is two. Errors as `pack_addresses`."""
    return sum(len(_as_plain(address)) for address in addresses)


def fit_addresses(direct: Sequence[str], relays: Sequence[str] = ()) -> tuple[str, ...]:
    """What a ticket names: the first of `direct` ("ip:port"), and up to `RELAYS_MAX` of `relays` (URLs).

    Relays that a ticket cannot name (by a host's name, or over TLS) are left out: nobody would dial them from a ticket.
    """
    named = [url for url in relays if _RELAY.fullmatch(url)][:RELAYS_MAX]
    return (*direct[: ADDRESSES_MAX - count_addresses(named)], *named)


@decoder(UsageError, "this ticket")
def unpack_addresses(body: bytes, count: int) -> tuple[str, ...]:
    """The `count` addresses that `body` is made of. Raises `UsageError` when it is not."""
    addresses, at = [], 0
    for _ in range(min(count, ADDRESSES_MAX)):
        size = {4: 4, 6: 16}.get(body[at]) if at < len(body) else None
        if size is None or at + 1 + size + 2 > len(body):
            raise UsageError(tr("the ticket is damaged: its parts do not add up"))
        ip = ipaddress.ip_address(body[at + 1 : at + 1 + size])
        addresses.append((ip, int.from_bytes(body[at + 1 + size : at + 3 + size], "big")))
        at += 3 + size
    if at != len(body) or count > ADDRESSES_MAX:
        raise UsageError(tr("the ticket is damaged: its parts do not add up"))
    return tuple(_as_told(addresses))


def _as_plain(address: str) -> list[tuple[Ip, int]]:
    """IP and port of an address; of a relay, the one or two that stand for it.

    Version 0.1 reads those as any address, and finds nobody there. The low half of each holds the relay's IPv4 address,
    or half of its IPv6 one, whose first half is never below 2**32.
    """
    relay = _RELAY.fullmatch(address)
    host, _, port = (relay[1] if relay else address).rpartition(":")
    try:
        ip, number = ipaddress.ip_address(host.strip("[]")), int(port)
        number.to_bytes(2, "big")
    except (ValueError, OverflowError):
        raise UsageError(tr("'{address}' is not an IP address with a port", address=address)) from None
    if not relay:
        return [(ip, number)]
    halves = [int(ip)] if ip.version == 4 else [int(ip) >> 64, int(ip) & _HALF]
    if ip.version == 6 and halves[0] <= _IPV4_MAX:
        raise UsageError(tr("'{address}' is no relay that others can reach", address=address))
    return [(RELAY_NETWORK[half], number) for half in halves]


def _as_told(addresses: Sequence[tuple[Ip, int]]) -> Iterator[str]:
    """The reverse of `_as_plain`, for a whole list."""
    rest = iter(addresses)
    for ip, port in rest:
        if ip not in RELAY_NETWORK:
            yield f"[{ip}]:{port}" if ip.version == 6 else f"{ip}:{port}"
            continue
        half = int(ip) & _HALF
        if half <= _IPV4_MAX:
            yield f"http://{ipaddress.IPv4Address(half)}:{port}"
            continue
        low, low_port = next(rest, (ip, -1))
        if low not in RELAY_NETWORK or low_port != port:
            raise UsageError(tr("the ticket is damaged: half of a relay's address is missing"))
        yield f"http://[{ipaddress.IPv6Address(half << 64 | int(low) & _HALF)}]:{port}"


def _pack_address(address: tuple[Ip, int]) -> bytes:
    ip, port = address
    return bytes([ip.version]) + ip.packed + port.to_bytes(2, "big")


def _checksum(payload: bytes) -> bytes:
    return blake3(payload).digest(CHECKSUM_BYTES)
