"""Heads of HTTP/1.1 requests, as far as a proxy has to know them: for whom, how long the body is, who sends them.

Strict where two readers could understand a head differently (RFC 9112, 6.3 and 11.2): such a request is refused.
"""

import re
from typing import Literal

import msgspec

from coterie.decoding import decoder
from coterie.errors import UsageError
from coterie.texts import tr

HEAD_BYTES_MAX = 64 << 10  # as common servers allow; cookies are long
CHUNK_LINE_BYTES_MAX = 1_024

_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_REQUEST = re.compile(rb"([A-Z]+) (/[^\s]*|\*) HTTP/1\.[01]\Z")
_TO_A_PROXY = re.compile(rb"([A-Z]+) ([!-~]+) HTTP/1\.[01]\Z")

Framing = Literal["none", "length", "chunked"]


class Head(msgspec.Struct, frozen=True):
    """One request head.

    Fields:
        raw: as it came, with its blank line.
        target: what is asked for, as it stands in the first line.
        host: of the `Host` header, in small letters.
        length: of the body, where `framing` is "length".
        is_upgrade: it asks for another protocol, like WebSocket.
    """

    raw: bytes
    method: str
    target: str
    host: str
    framing: Framing
    length: int
    is_upgrade: bool
    headers: dict[str, str]


@decoder(UsageError, "this request")
def read_head(raw: bytes, *, is_proxy: bool = False) -> Head:
    """`raw`: up to and with the blank line. `is_proxy`: the target may name another host. Raises `UsageError`."""
    first, *lines = raw.removesuffix(b"\r\n\r\n").split(b"\r\n")
    asked = (_TO_A_PROXY if is_proxy else _REQUEST).match(first)
    if asked is None:
        raise UsageError(tr("this is no request for a page of a service"))
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not _TOKEN.match(name) or b"\n" in value or b"\r" in value or b"\0" in value:
            raise UsageError(tr("a header of this request is malformed"))
        key = name.decode("ascii").lower()
        if key in headers and key in ("host", "content-length", "transfer-encoding", "origin"):
            raise UsageError(tr("this request has {key} twice", key=key))
        headers[key] = value.decode("latin-1").strip(" \t")
    framing, length = _framing(headers)
    return Head(
        raw=raw,
        method=asked[1].decode("ascii"),
        target=asked[2].decode("latin-1"),
        host=headers.get("host", "").lower(),
        framing=framing,
        length=length,
        is_upgrade="upgrade" in headers,
        headers=headers,
    )


def _framing(headers: dict[str, str]) -> tuple[Framing, int]:
    coding, length = headers.get("transfer-encoding"), headers.get("content-length")
    if coding is not None:
        if length is not None or coding.lower() != "chunked":
            raise UsageError(tr("the length of this request can be understood in two ways"))
        return "chunked", 0
    if length is None:
        return "none", 0
    if not (length.isascii() and length.isdigit() and len(length) < 19):
        raise UsageError(tr("the length of this request is no number"))
    return "length", int(length)


@decoder(UsageError, "the length of a chunk")
def read_chunk_length(line: bytes) -> int:
    """Of "1a2b;extension". Raises `UsageError`."""
    digits = line.partition(b";")[0].strip(b" \t")
    if not re.fullmatch(rb"[0-9A-Fa-f]{1,15}", digits):
        raise UsageError(tr("the length of a chunk of this request is no number"))
    return int(digits, 16)


def refusal(status: str, text: str, *, location: str = "") -> bytes:
    """A whole answer that ends the connection. `location`: where the browser is to go instead."""
    body = (text + "\n").encode()
    go = f"Location: {location}\r\n" if location else ""
    return (
        f"HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {len(body)}\r\n{go}"
        "X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n"
    ).encode() + body
