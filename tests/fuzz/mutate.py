"""Mutations of valid samples, from a seed."""

import random
from collections.abc import Callable, Sequence

DEEP = 20_000  # nesting beyond any recursion limit
CONTAINERS = (b"\x91", b"\x81\xa0", b"[", b'{"":', b"l", b"d0:")  # msgpack, JSON, bencode
EXTREMES = (
    b"", b"\0", b"\xff", b"\x7f", b"\xc0", b"\xc1", b"\xcf" + b"\xff" * 8, b"\xd3\x80" + bytes(7), b"\xca\x7f\xc0\0\0",
    b"\xcb\x7f\xf8" + bytes(6), b"\xdb\xff\xff\xff\xff", b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xa1\xff",
    b"\xc7\xff\xff", b"\xd9\x02\xed\xa0", b"9" * 5000, b"-1", b"1e999", b"NaN", b"\xef\xbb\xbf", b"\xff\xfe",
    b"\\ud800", b"%ff", b"\xc3\xa9", b"\xd9\xa3", b"\xe2\x80\xa8", b"\n", b"\r", b"'", b'"',
)  # fmt: skip
CHARS = (
    "é",
    "\ud800",
    "\udcff",
    "\0",
    "9" * 5000,
    "-",
    ":",
    "[",
    "]",
    "٣",
    "ſ",
    "İ",
    "\u2028",
    " ",
    "%",
    "1e999",
    "=",
)


def mutated_bytes(source: random.Random, sample: bytes, others: Sequence[bytes]) -> bytes:
    """`sample` with one to four changes."""
    data = bytearray(sample)
    for _ in range(source.randint(1, 4)):
        at = source.randint(0, len(data))
        end = min(len(data), at + source.choice((1, 1, 2, 4, 32)))
        match source.randrange(8):
            case 0 if data:
                data[source.randrange(len(data))] ^= 1 << source.randrange(8)
            case 1:
                data[at:end] = source.randbytes(end - at)
            case 2:
                del data[at:end]
            case 3:
                data[at:at] = data[at:end] * source.randint(1, 4)
            case 4:
                data[at:at] = source.choice(EXTREMES)
            case 5:
                data[at:end] = source.choice(EXTREMES)
            case 6:
                other = source.choice(others)
                data[at:end] = other[: source.randint(0, len(other))]
            case 7 if not source.randrange(20):
                data[at:at] = source.choice(CONTAINERS) * DEEP
    return bytes(data)


def mutated_text(source: random.Random, sample: str, others: Sequence[str]) -> str:
    """The same for text, with characters that are awkward."""
    text = sample
    for _ in range(source.randint(1, 4)):
        at = source.randint(0, len(text))
        end = min(len(text), at + source.choice((0, 1, 1, 2, 8)))
        other = source.choice(others)
        piece: Callable[[], str] = source.choice(
            (
                lambda: source.choice(CHARS),
                lambda: chr(source.randrange(0x110000)),
                lambda: "",
                lambda other=other: other[: source.randint(0, len(other))],  # type: ignore[misc]
                lambda: (
                    source.choice(("[", "{", "(", "'", '"""', "\\"))
                    * (DEEP if not source.randrange(20) else 2)
                ),
            )
        )
        text = text[:at] + piece() + text[end:]
    return text
