"""Which bytes of a file an HTTP request asks for: RFC 9110, section 14. Pure."""

import re
from collections.abc import Mapping

import msgspec

_RANGE = re.compile(r"bytes=(\d*)-(\d*)$")


class Span(msgspec.Struct, frozen=True):
    """Bytes `first` to `last`, both inclusive."""

    first: int
    last: int


def wanted_span(headers: Mapping[str, str], size: int, tag: str) -> Span | None:
    """The part that a request with these headers asks for; None: the whole.

    It is the whole, too, where the asker has part of something else: `If-Range` is not `tag`.

    Raises:
        ValueError: nothing of it lies in the file (416).
    """
    if "range" not in headers or headers.get("if-range", tag) != tag:
        return None
    return parse_range(headers["range"], size)


def parse_range(header: str, size: int) -> Span | None:
    """The one range that a Range header asks of `size` bytes; None where the whole is sent instead (RFC 9110, 14.2).

    Raises:
        ValueError: nothing of it lies in the file (416).
    """
    match = _RANGE.match(header.replace(" ", ""))
    if match is None or match[1] == match[2] == "":
        return None
    if match[1] == "":
        length = min(int(match[2]), size)
        if length == 0:
            raise ValueError("an empty range")
        return Span(size - length, size - 1)
    first = int(match[1])
    last = min(int(match[2]), size - 1) if match[2] else size - 1
    if match[2] and int(match[2]) < first:
        return None
    if first >= size:
        raise ValueError("a range behind the end")
    return Span(first, last)
