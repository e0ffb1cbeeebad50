"""Plain values for people: tables and lines that fit a terminal. JSON has everything; this shows what is read.

Names of fields say how a number reads: `size` and `..._bytes` in bytes, `rate` in bytes a second, `..._s` in seconds. A
text that is a time in ISO 8601 reads as "3 min ago", an id of 52 characters as its first ten.
"""

import json
import re
import sys
import textwrap
from collections.abc import Mapping, Sequence
from os import get_terminal_size
from typing import Any

from coterie.moments import said
from coterie.plain_text import one_line
from coterie.quantity import duration

COLUMNS = 80  # where nothing says how wide the terminal is, and at least
_WHOLE_ID = re.compile(r"\b([a-z2-7]{10})[a-z2-7]{42}\b")  # a peer's: people read the short form
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")
_CELL_CHARS_MIN = 6  # a cell is not cut below this
_WHOLE = ("id", "code")  # columns whose cells are typed again: never cut
_GAP = "  "


def columns() -> int:
    """How wide the terminal of standard output is."""
    try:
        return max(COLUMNS, get_terminal_size(sys.__stdout__.fileno()).columns if sys.__stdout__ else 0)
    except (OSError, ValueError):
        return COLUMNS


def wrapped(text: str, width: int) -> str:
    """`text` with its lines broken at blanks to fit `width`; what follows is indented as its line, and two more.

    A line with a word that is longer than a line stays whole: a ticket or a link, to be copied with its command.
    """
    return "\n".join(_wrapped(line, width) for line in text.split("\n"))


def _wrapped(line: str, width: int) -> str:
    indent = len(line) - len(line.lstrip(" "))
    if len(line) <= width or any(len(word) > width - indent - 2 for word in line.split(" ")):
        return line
    further = " " * (indent + 2)
    return textwrap.fill(
        line,
        width,
        subsequent_indent=further,
        break_long_words=False,
        break_on_hyphens=False,
        replace_whitespace=False,
        drop_whitespace=True,
    )


def in_words(value: Any, width: int = COLUMNS) -> str:
    """Plain `value` for people: a table for a list of objects, one line per key for an object."""
    if isinstance(value, Mapping):
        return wrapped(pairs(value), width)
    if isinstance(value, Sequence) and not isinstance(value, str):
        if value and all(isinstance(row, Mapping) for row in value):
            return _table(value, width)
        return wrapped("\n".join(_cell("", member) for member in value), width)
    return _cell("", value)


def amount(count: float) -> str:
    """Bytes in decimal units: 1234567 as "1.2 MB"."""
    size, unit = float(count), 0
    while abs(size) >= 999.95 and unit < len(_UNITS) - 1:
        size, unit = size / 1000, unit + 1
    return f"{size:.0f} {_UNITS[unit]}" if unit == 0 else f"{size:.1f} {_UNITS[unit]}"


def pairs(fields: Mapping[str, Any]) -> str:
    """A line for each field."""
    width = max((len(key) for key in fields), default=0)
    rows = [(one_line(key.replace("_", " ")), _cell(key, value)) for key, value in fields.items()]
    return "\n".join(f"{key:<{width}}  {value}".rstrip() for key, value in rows)


def _table(rows: Sequence[Mapping[str, Any]], width: int) -> str:
    keys = [*dict.fromkeys(key for row in rows for key in row)]
    keys = [key for key in keys if any(row.get(key) not in (None, "", []) for row in rows)] or keys
    body = [[_short(key, row.get(key)) for key in keys] for row in rows]
    heads = [_head(key) for key in keys]
    widths = [max(map(len, column)) for column in zip(heads, *body, strict=True)]
    numeric = [all(isinstance(row.get(key), int | float | None) for row in rows) for key in keys]
    _narrow(widths, [key in _WHOLE or right for key, right in zip(keys, numeric, strict=True)], width)
    lines = []
    for cells in (heads, *body):
        fitted = (
            f"{cut(cell, wide):>{wide}}" if right else f"{cut(cell, wide):<{wide}}"
            for cell, wide, right in zip(cells, widths, numeric, strict=True)
        )
        lines.append(_GAP.join(fitted).rstrip())
    return "\n".join(lines)


def _narrow(widths: list[int], whole: list[bool], most: int) -> None:
    """Take from the widest columns until the table is `most` characters wide, or no column can give any."""
    while sum(widths) + len(_GAP) * (len(widths) - 1) > most:
        free = [at for at in range(len(widths)) if not whole[at] and widths[at] > _CELL_CHARS_MIN]
        if not free:
            return
        widths[max(free, key=lambda at: widths[at])] -= 1


def cut(text: str, width: int) -> str:
    """At most `width` characters of `text`; of a path, its end."""
    if len(text) <= width:
        return text
    return f"…{text[len(text) - width + 1 :]}" if text.startswith(("/", "~")) else f"{text[: width - 1]}…"


def _head(key: str) -> str:
    return key.removesuffix("_s").removesuffix("_bytes").replace("_", " ").upper()


def _short(key: str, value: Any) -> str:
    """A cell of a table: of a list, the first and how many more."""
    if isinstance(value, list) and len(value) > 1 and not any(isinstance(m, dict | list) for m in value):
        return f"{_short(key, value[0])} +{len(value) - 1}"
    return _WHOLE_ID.sub(r"\1", _cell(key, value))


def _cell(key: str, value: Any) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case int() | float() if key.endswith("_bytes") or key in ("bytes", "size"):
            return amount(value)
        case int() | float() if key == "rate":
            return f"{amount(value)}/s"
        case int() | float() if key.endswith("_s"):
            return duration(value)
        case str():
            return one_line(said(value))
        case list() if not any(isinstance(member, dict | list) for member in value):
            return one_line(", ".join(map(str, value))) or "-"
        case list() | dict():
            return one_line(json.dumps(value, ensure_ascii=False))
    return one_line(str(value))
