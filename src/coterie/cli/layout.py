"""Plain values for people: tables and lines that fit a terminal. JSON has everything; this shows what is read.

Names of fields say how a number reads: `size` and `..._bytes` in bytes, `rate` in bytes a second, `..._s` in seconds. A
text that is a time in ISO 8601 reads as "3 min ago", an id of 52 characters as its first ten.

Nothing is cut, for it may be typed into the next command: of a table that is too wide, the widest columns stand below
the line of their row, each with its name.
"""

import json
import re
import sys
import textwrap
from collections.abc import Collection, Mapping, Sequence
from os import get_terminal_size
from typing import Any, TextIO

from coterie.moments import said
from coterie.plain_text import one_line
from coterie.quantity import duration, say_bytes

COLUMNS = 80  # where nothing says how wide the terminal is
COLUMNS_MIN = 40  # on a narrower one the terminal breaks the lines
_WHOLE_ID = re.compile(r"\b([a-z2-7]{10})[a-z2-7]{42}\b")  # a peer's: people read the short form
_COPIED = re.compile(r" *coterie [^:]|[ \u2580-\u259f]+$")  # a command; half blocks of a QR code
_COLUMN = re.compile(r"(?<=\S) {2,}(?=\S)")  # the gap between two
_HANGING_CHARS_MAX = 26  # what begins further right is no column of ours
_WORDS = {
    "peer": "computer",
    "device": "computer",
    "devices": "computers",
    "computer": "computer",
    "peer_id": "id",
}
_FIRST_OF = ("addresses",)  # lists that nobody types: a table has their first, and how many more
_GAP = "  "
_BELOW = "    "  # before what stands below the line of its row


def columns(stream: TextIO | None = None) -> int:
    """How wide the terminal of `stream` is, standard output's when none is given."""
    stream = stream or sys.__stdout__
    try:
        return max(COLUMNS_MIN, get_terminal_size(stream.fileno()).columns or COLUMNS) if stream else COLUMNS
    except (OSError, ValueError):
        return COLUMNS


def wrapped(text: str, width: int) -> str:
    """`text` with its lines broken at blanks to fit `width`.

    What follows is indented as the last of the columns that its line begins with; as its line and two more without any.
    No line ends with a blank. A word that is longer than a line stays whole, and so does a line with a command or a
    picture: they are copied.
    """
    return "\n".join(_wrapped(line, width) for line in text.split("\n"))


def _wrapped(line: str, width: int) -> str:
    line = line.rstrip(" ")
    if len(line) <= width or _COPIED.match(line) or " " not in line.lstrip(" "):
        return line
    return textwrap.fill(
        line,
        width,
        subsequent_indent=" " * _hanging(line),
        break_long_words=False,
        break_on_hyphens=False,
        replace_whitespace=False,
        drop_whitespace=True,
    )


def _hanging(line: str) -> int:
    """Where the text begins that goes on in further lines."""
    indent = len(line) - len(line.lstrip(" "))
    at = max((gap.end() for gap in _COLUMN.finditer(line[:_HANGING_CHARS_MAX])), default=indent)
    return at + 3 if line.startswith("-> ", at) else at if at > indent else indent + 2


def in_words(value: Any, width: int = COLUMNS) -> str:
    """Plain `value` for people: a table for a list of objects, one line per key for an object."""
    if isinstance(value, Mapping):
        return wrapped(pairs(value), width)
    if isinstance(value, Sequence) and not isinstance(value, str):
        if value and all(isinstance(row, Mapping) for row in value):
            return _table(value, width)
        return wrapped("\n".join(_cell("", member) for member in value), width)
    return _cell("", value)


def pairs(fields: Mapping[str, Any]) -> str:
    """A line for each field."""
    rows = [(_word(key), _cell(key, value)) for key, value in fields.items()]
    width = max((len(key) for key, _ in rows), default=0)
    return "\n".join(f"{key:<{width}}  {value}".rstrip() for key, value in rows)


def _table(rows: Sequence[Mapping[str, Any]], width: int) -> str:
    keys = [*dict.fromkeys(key for row in rows for key in row)]
    keys = [key for key in keys if any(row.get(key) not in (None, "", []) for row in rows)] or keys
    cells = [{key: _short(key, row.get(key)) for key in keys} for row in rows]
    numeric = {key for key in keys if all(isinstance(row.get(key), int | float | None) for row in rows)}
    heads = {key: _head(key, [row.get(key) for row in rows]) for key in keys}
    widths = {key: max(len(heads[key]), *(len(row[key]) for row in cells)) for key in keys}
    below = _too_wide(widths, numeric, width)
    beside = [key for key in keys if key not in below]
    lines = [_line({key: heads[key] for key in beside}, widths, numeric)]
    for row in cells:
        lines.append(wrapped(_line({key: row[key] for key in beside}, widths, numeric), width))
        lines += _entry_below([(heads[key].lower(), row[key]) for key in keys if key in below], width)
    return "\n".join(lines)


def _too_wide(widths: Mapping[str, int], numeric: Collection[str], most: int) -> set[str]:
    """The columns that a line of `most` characters has no room for: the widest, numbers last and the first never."""
    first, *free = [*widths]
    free.sort(key=lambda key: (key in numeric, -widths[key]))
    beside = [first, *free]
    while free and sum(widths[key] + len(_GAP) for key in beside) - len(_GAP) > most:
        beside.remove(free.pop(0))
    return {*widths} - {*beside}


def _line(cells: Mapping[str, str], widths: Mapping[str, int], numeric: Collection[str]) -> str:
    fitted = (
        f"{cell:>{widths[key]}}" if key in numeric else f"{cell:<{widths[key]}}"
        for key, cell in cells.items()
    )
    return _GAP.join(fitted).rstrip()


def _entry_below(named: Sequence[tuple[str, str]], width: int) -> list[str]:
    """Lines with "name: cell" of each that has something, as many on a line as it holds."""
    found: list[str] = []
    for name, cell in named:
        if cell in ("", "-"):
            continue
        part = f"{name}: {cell}"
        if found and len(found[-1]) + len(_GAP) + len(part) <= width:
            found[-1] += _GAP + part
        else:
            found.append(_BELOW + part)
    return [wrapped(line, width) for line in found]


def _word(key: str) -> str:
    """What people read for field `key`: to them a computer is no peer (docs/words.md)."""
    return one_line(_WORDS.get(key, key).replace("_", " "))


def _head(key: str, values: Sequence[Any]) -> str:
    """What stands above `values`: ids are called so."""
    ids = [value for value in values if value and isinstance(value, str)] if key in _WORDS else []
    if ids and all(map(_WHOLE_ID.fullmatch, ids)):
        return "ID"
    return _word(key.removesuffix("_s").removesuffix("_bytes")).upper()


def _short(key: str, value: Any) -> str:
    """A cell of a table, with short ids."""
    if key in _FIRST_OF and isinstance(value, list) and len(value) > 1:
        return f"{_short(key, value[0])} +{len(value) - 1}"
    return _WHOLE_ID.sub(r"\1", _cell(key, value))


def _cell(key: str, value: Any) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case int() | float() if key.endswith("_bytes") or key in ("bytes", "size"):
            return say_bytes(value)
        case int() | float() if key == "rate":
            return f"{say_bytes(value)}/s"
        case int() | float() if key.endswith("_s"):
            return duration(value)
        case str():
            return one_line(said(value))
        case list() if not any(isinstance(member, dict | list) for member in value):
            return one_line(", ".join(map(str, value))) or "-"
        case list() | dict():
            return one_line(json.dumps(value, ensure_ascii=False))
    return one_line(str(value))
