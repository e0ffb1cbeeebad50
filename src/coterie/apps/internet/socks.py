"""SOCKS5 (RFC 1928) and SOCKS4a as a server reads and answers them. Pure."""

import ipaddress
from typing import Literal

import msgspec

from coterie.apps.internet.messages import read_addressed
from coterie.decoding import decoder
from coterie.errors import UsageError
from coterie.texts import tr

SOCKS5, SOCKS4 = 5, 4
CONNECT, ASSOCIATE = 1, 3
NO_AUTHENTICATION = b"\x05\x00"
NO_METHOD = b"\x05\xff"
NOT_SERVED = 7  # RFC 1928, 6: a command that is not supported
UDP_HEAD = bytes(3)  # RFC 1928, 7: reserved, and the number of a fragment, which is none
REQUEST_BYTES_MAX = 4_096  # read at once; more than any request has

# RFC 1928, 6, by the words of `Refused.why`
REPLIES = {
    "access": 2,
    "host": 2,
    "name": 4,
    "unreachable": 4,
    "closed": 5,
    "silent": 6,
    "busy": 1,
}


class Request(msgspec.Struct, frozen=True):
    """What a program wants."""

    command: Literal["connect", "associate"]
    host: str
    port: int


@decoder(UsageError, "this SOCKS greeting")
def read_greeting(raw: bytes) -> tuple[bool, int] | None:
    """Whether the program takes an answer without authentication, and how many bytes it was; None: more is to come."""
    if len(raw) < 2 or len(raw) < 2 + raw[1]:
        return None
    return 0 in raw[2 : 2 + raw[1]], 2 + raw[1]


@decoder(UsageError, "this SOCKS request")
def read_request(raw: bytes) -> tuple[Request | None, int] | None:
    """The request and its bytes; no request: a command that is not served. None: more is to come."""
    if len(raw) < 5:
        return None
    size = {1: 10, 3: 7 + raw[4], 4: 22}.get(raw[3])
    if raw[0] != SOCKS5 or size is None:
        raise UsageError(tr("this is no SOCKS request"))
    if len(raw) < size:
        return None
    host, port, _ = read_addressed(raw[3:size])
    command: dict[int, Literal["connect", "associate"]] = {CONNECT: "connect", ASSOCIATE: "associate"}
    return (Request(command[raw[1]], host, port) if raw[1] in command else None), size


@decoder(UsageError, "this SOCKS4 request")
def read_request4(raw: bytes) -> tuple[Request | None, int] | None:
    """As `read_request`, of SOCKS4 and 4a."""
    if len(raw) > REQUEST_BYTES_MAX + 255:
        raise UsageError(tr("this SOCKS request is too long"))
    user_end = raw.find(b"\0", 8)
    if user_end < 0:
        return None
    port, end = int.from_bytes(raw[2:4], "big"), user_end + 1
    host = str(ipaddress.IPv4Address(raw[4:8]))
    if raw[4:7] == bytes(3) and raw[7]:  # 4a: a name follows
        end = raw.find(b"\0", user_end + 1) + 1
        if not end:
            return None
        host = raw[user_end + 1 : end - 1].decode("ascii")
    return (Request("connect", host, port) if raw[1] == CONNECT else None), end


def reply(code: int, host: str = "0.0.0.0", port: int = 0) -> bytes:  # noqa: S104  (said, not bound)
    """An answer of SOCKS5."""
    return bytes((SOCKS5, code, 0, 1)) + ipaddress.IPv4Address(host).packed + port.to_bytes(2, "big")


def reply4(*, is_granted: bool) -> bytes:
    """An answer of SOCKS4."""
    return bytes((0, 90 if is_granted else 91)) + bytes(6)
