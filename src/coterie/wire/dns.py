"""Messages of the DNS (RFC 1035), as far as a resolver between programs and another resolver has to know them. Pure.

Questions are read strictly: one question, of class IN, without an answer. Answers are read for their addresses only,
and passed on as they came.
"""

import ipaddress
import re
import struct

import msgspec

from coterie.decoding import decoder
from coterie.errors import PeerError

MESSAGE_BYTES_MAX = 65_535  # over TCP (RFC 1035, 4.2.2)
UDP_BYTES = 512  # without EDNS (RFC 1035, 4.2.1)
UDP_BYTES_MAX = 1_232  # that fits every path (dnsflagday.net/2020)
NAME_BYTES_MAX = 255  # RFC 1035, 2.3.4
LABEL_BYTES_MAX = 63
RECORDS_MAX = 1_000  # of one message; guess: far more than any name has
JUMPS_MAX = 64  # pointers in one name; a name of 255 bytes has at most 127 labels

A, NS, CNAME, SOA, PTR, TXT, AAAA, SRV, OPT, ANY = 1, 2, 5, 6, 12, 16, 28, 33, 41, 255
IN = 1
NO_ERROR, SERVER_FAILURE, NAME_ERROR, REFUSED = 0, 2, 3, 5
_RESPONSE, _TRUNCATED, _RECURSION, _AVAILABLE, _AUTHORITATIVE = 0x8000, 0x0200, 0x0100, 0x0080, 0x0400
_OPCODE = 0x7800
_HEAD = struct.Struct(">HHHHHH")
_KIND = struct.Struct(">HH")
_RECORD = struct.Struct(">HHIH")
_OPT_RECORD = b"\0" + _RECORD.pack(OPT, UDP_BYTES_MAX, 0, 0)
_LABEL = re.compile(rb"[A-Za-z0-9_*-]{1,63}\Z")


class Question(msgspec.Struct, frozen=True):
    """What a program asks.

    Fields:
        id: of the message.
        name: small letters, without the dot at the end; "" is the root.
        kind: A, AAAA, ...
        room: bytes that an answer over UDP may have.
        has_edns: it has an OPT record, and wants one back.
        flags: as they came.
        raw: the question section as it came.
    """

    id: int
    name: str
    kind: int
    room: int
    has_edns: bool
    flags: int
    raw: bytes


class Record(msgspec.Struct, frozen=True):
    """An answer of ours: `data` as it stands in the message."""

    kind: int
    data: bytes
    ttl_s: int


@decoder(PeerError, "a question to the DNS")
def read_question(message: bytes) -> Question:
    """Raises `PeerError`: it is none, or one that nobody asks."""
    number, flags, questions, answers, authorities, additional = _HEAD.unpack_from(message)
    if flags & (_RESPONSE | _OPCODE) or questions != 1 or answers or authorities or additional > 2:
        raise PeerError("a message to the DNS asks no single question")
    labels, at = _read_name(message, _HEAD.size)
    kind, of_class = _KIND.unpack_from(message, at)
    if of_class != IN:
        raise PeerError("a question to the DNS is of another class")
    end, room, has_edns = at + _KIND.size, UDP_BYTES, False
    at = end
    for _ in range(additional):
        _, at = _read_name(message, at)
        found, size, _, length = _RECORD.unpack_from(message, at)
        at += _RECORD.size + length
        if found == OPT:
            has_edns, room = True, min(max(size, UDP_BYTES), UDP_BYTES_MAX)
    if at > len(message):
        raise PeerError("a question to the DNS ends too early")
    return Question(number, say_name(labels), kind, room, has_edns, flags, message[_HEAD.size : end])


@decoder(PeerError, "an answer of the DNS")
def read_addresses(message: bytes) -> list[tuple[str, int]]:
    """The addresses that an answer names, of IPv4 and IPv6, each with the seconds for which it holds."""
    _, _, questions, answers, _, _ = _HEAD.unpack_from(message)
    if questions > 1 or answers > RECORDS_MAX:
        raise PeerError("an answer of the DNS has too many records")
    at, found = _HEAD.size, []
    for _ in range(questions):
        _, at = _read_name(message, at)
        at += _KIND.size
    for _ in range(answers):
        _, at = _read_name(message, at)
        kind, _, ttl_s, length = _RECORD.unpack_from(message, at)
        at += _RECORD.size
        data = message[at : at + length]
        at += length
        if (kind, length) in ((A, 4), (AAAA, 16)):
            found.append((str(ipaddress.ip_address(data)), ttl_s))
    if at > len(message):
        raise PeerError("an answer of the DNS ends too early")
    return found


def question(number: int, name: str, kind: int) -> bytes:
    """A message that asks for `name`, with EDNS. Raises `ValueError`: no name is so."""
    asked = pack_name(name) + _KIND.pack(kind, IN)
    return _HEAD.pack(number, _RECURSION, 1, 0, 0, 1) + asked + _OPT_RECORD


def answer(asked: Question, records: list[Record], code: int = NO_ERROR) -> bytes:
    """Our answer to a question: `records` are of the name that was asked."""
    flags = _RESPONSE | _AUTHORITATIVE | _AVAILABLE | asked.flags & _RECURSION | code
    body = b"".join(
        b"\xc0\x0c" + _RECORD.pack(record.kind, IN, record.ttl_s, len(record.data)) + record.data
        for record in records
    )
    head = _HEAD.pack(asked.id, flags, 1, len(records), 0, 1 if asked.has_edns else 0)
    return head + asked.raw + body + (_OPT_RECORD if asked.has_edns else b"")


def fitted(asked: Question, message: bytes) -> bytes:
    """An answer as it goes over UDP: one too large for who asked says only that; they ask again over TCP."""
    if len(message) <= asked.room:
        return message
    cut = answer(asked, [])
    return cut[:2] + (int.from_bytes(cut[2:4], "big") | _TRUNCATED).to_bytes(2, "big") + cut[4:]


def is_answer_to(asked: bytes, message: bytes) -> bool:
    """Whether `message` may be the answer to the message `asked`: its number and question are the same."""
    if len(message) < _HEAD.size or message[:2] != asked[:2] or not message[2] & 0x80:
        return False
    try:
        mine = read_question(asked).raw
    except PeerError:
        return False
    theirs = message[_HEAD.size : _HEAD.size + len(mine)]
    return theirs.lower() == mine.lower()


def is_truncated(message: bytes) -> bool:
    """Whether an answer over UDP says that there is more over TCP."""
    return len(message) > 3 and bool(message[2] & (_TRUNCATED >> 8))


def pack_name(name: str) -> bytes:
    """As it stands in a message. Raises `ValueError`: no name is so."""
    labels = [label.encode("ascii") for label in name.split(".")] if name else []
    if not all(_LABEL.match(label) for label in labels):
        raise ValueError(f"no name in the DNS is '{name[:NAME_BYTES_MAX]}'")
    packed = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    if len(packed) > NAME_BYTES_MAX:
        raise ValueError("a name in the DNS has 255 bytes at most")
    return packed


def say_name(labels: list[bytes]) -> str:
    """As text, in small letters; bytes that no host name has are written as `\\DDD` (RFC 1035, 5.1)."""
    return ".".join(
        "".join(chr(b) if 0x21 <= b <= 0x7E and b not in b".\\" else f"\\{b:03d}" for b in label).lower()
        for label in labels
    )


def _read_name(message: bytes, at: int) -> tuple[list[bytes], int]:
    """The labels of the name at `at`, and where what follows it begins."""
    labels: list[bytes] = []
    size, jumps, end = 1, 0, 0
    while length := message[at]:
        if length >= 0xC0:
            end = end or at + 2
            target = int.from_bytes(message[at : at + 2], "big") & 0x3FFF
            jumps += 1
            if jumps > JUMPS_MAX or target >= at:  # a pointer leads backwards (RFC 1035, 4.1.4)
                raise PeerError("a name in the DNS leads in a circle")
            at = target
            continue
        if length > LABEL_BYTES_MAX:
            raise PeerError("a name in the DNS has a malformed label")
        label = message[at + 1 : at + 1 + length]
        size += 1 + length
        if len(label) < length or size > NAME_BYTES_MAX:
            raise PeerError("a name in the DNS is too long")
        labels.append(label)
        at += 1 + length
    return labels, end or at + 1
