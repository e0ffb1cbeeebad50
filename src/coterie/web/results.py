"""A result as a page shows it: a table for a list, pairs for an object, by what the names of fields say. Pure."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from coterie.moments import is_iso
from coterie.texts import translated

_ID = re.compile(r"\b([a-z2-7]{10})[a-z2-7]{42}\b")
_WORDS = {"peer": "computer", "device": "computer", "devices": "computers", "peer_id": "id"}  # docs/words.md


class Cell(msgspec.Struct, frozen=True):
    """One value. `kind`: "text", "size", "rate", "duration", "time", "yes", "no", "id", "list", "table"."""

    kind: str
    value: Any
    name: str = ""


class Table(msgspec.Struct, frozen=True):
    """Rows of cells under `heads`."""

    heads: list[str]
    rows: list[list[Cell]]


def shape(value: Any) -> tuple[str, Any]:
    """`value` as ("nothing", None), ("table", Table), ("pairs", [(word, Cell)]) or ("cell", Cell)."""
    if value in (None, [], {}, ""):
        return "nothing", None
    if isinstance(value, Mapping):
        return "pairs", [
            (word(key), cell(key, member)) for key, member in value.items() if not _is_none(member)
        ]
    if isinstance(value, Sequence) and not isinstance(value, str):
        if all(isinstance(row, Mapping) for row in value):
            return "table", table(value)
        return "cell", cell("", value)
    return "cell", cell("", value)


def table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """A column for each field that any row has something in."""
    keys = [*dict.fromkeys(key for row in rows for key in row)]
    keys = [key for key in keys if any(not _is_none(row.get(key)) for row in rows)] or keys
    return Table([word(key) for key in keys], [[cell(key, row.get(key)) for key in keys] for row in rows])


def word(key: str) -> str:
    """What people read for a field."""
    bare = key.removesuffix("_s").removesuffix("_bytes")
    said = translated(_WORDS.get(bare, bare).replace("_", " "))
    return said[:1].upper() + said[1:]


def cell(key: str, value: Any) -> Cell:
    """`value` of the field `key`, and how it reads."""
    name = word(key) if key else ""
    match value:
        case None:
            return Cell("text", "", name)
        case bool():
            return Cell("yes" if value else "no", value, name)
        case int() | float():
            return Cell(_kind_of_number(key), value, name)
        case str():
            return Cell("time" if is_iso(value) else "id" if _ID.fullmatch(value) else "text", value, name)
        case list() if value and all(isinstance(member, dict) for member in value):
            return Cell("table", table(value), name)
        case list():
            return Cell("list", [str(member) for member in value], name)
        case dict():
            return Cell("pairs", [(word(k), cell(k, v)) for k, v in value.items()], name)
    return Cell("text", str(value), name)


def _kind_of_number(key: str) -> str:
    """What the name of a field says of its number."""
    if key.endswith("_bytes") or key in ("bytes", "size"):
        return "size"
    if key == "rate":
        return "rate"
    return "duration" if key.endswith("_s") else "number"


def _is_none(value: Any) -> bool:
    return value in (None, "", [], {})
