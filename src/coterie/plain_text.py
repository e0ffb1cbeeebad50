"""What may stand in text that people read: names come from others, and a terminal takes some characters for commands.

Refused are control characters (C0, C1 and DEL: escape sequences), what turns a line around (bidirectional embeddings,
overrides and isolates), other line ends than ours, and halves of surrogate pairs, which no output can carry.
"""

import re
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import msgspec

_NOT_IN_A_LINE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff\U000e0000-\U000e007f]"
)
_NOT_IN_LINES = re.compile(_NOT_IN_A_LINE.pattern.replace("\x00-\x1f", "\x00-\x08\x0b-\x1f"))
_SURROGATE = re.compile("[\ud800-\udfff]")
INSTEAD = "\ufffd"


def one_line(text: str) -> str:
    """`text` as part of one line: each character that does not belong there becomes U+FFFD, line ends too."""
    return _NOT_IN_A_LINE.sub(INSTEAD, text)


def lines(text: str) -> str:
    """The same for text of ours that may have several lines, and tabs."""
    return _NOT_IN_LINES.sub(INSTEAD, text)


def in_utf8(text: str) -> str:
    """`text` as UTF-8 can carry it: a byte of a name that is no UTF-8 is shown as "\\xff", other halves as U+FFFD."""
    return text if text.isascii() else _SURROGATE.sub(_shown, text)


def _shown(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else INSTEAD  # as PEP 383 escapes bytes


def escaped_json(text: str) -> str:
    """JSON `text` with the same characters as escapes: it means the same, and a terminal shows it."""
    return _NOT_IN_LINES.sub(lambda found: _escape(found[0]), text)


def with_one_line_fields(value: Any) -> Any:
    """`value` (Structs, lists and mappings of them) with `one_line` of each text and path in it.

    What is made of it may have line ends of ours: none of another's pass for one.
    """
    match value:
        case str():
            return one_line(value) if type(value) is str else value
        case PurePath():
            return type(value)(one_line(str(value)))
        case msgspec.Struct():
            old = {name: getattr(value, name) for name in value.__struct_fields__}
            new = {name: with_one_line_fields(field) for name, field in old.items()}
            changed = {name: field for name, field in new.items() if field != old[name]}
            return msgspec.structs.replace(value, **changed) if changed else value
        case Mapping():
            return {with_one_line_fields(k): with_one_line_fields(v) for k, v in value.items()}
        case list() | tuple() if not hasattr(value, "_fields"):
            return type(value)(with_one_line_fields(member) for member in value)
    return value


def _escape(char: str) -> str:
    code = ord(char)
    if code < 0x10000:
        return f"\\u{code:04x}"
    high, low = divmod(code - 0x10000, 0x400)
    return f"\\u{0xD800 + high:04x}\\u{0xDC00 + low:04x}"
