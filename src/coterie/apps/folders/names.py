"""Paths of a live folder, and what they are called on one disk. Pure.

A path is the key of a register, the same on all computers: names in Unicode's composed form (NFC), "/" between them. On
a disk a path has the same name where it can. Where it cannot (the disk refuses a character, takes two names for one, or
has a shorter bound), it has another name there, which stands in what is agreed and never travels: no system renames
anything for another.
"""

import re
import unicodedata
from collections.abc import Iterable
from datetime import UTC, datetime

from coterie.content.manifest import DEPTH_MAX
from coterie.content.names import (
    NAME_BYTES_MAX,
    NUMBER_MAX,
    REFUSED_SOMEWHERE,
    NameRules,
    folded,
    is_reserved,
    limit_bytes,
    local_names,
    name_fault,
    numbered,
)

MARKER = ".coterie-folder"
PATH_BYTES_MAX = 4_096  # of one path; as Linux has it
WHO_BYTES_MAX = 64  # of a name of a computer in the name of a copy
_COPY = re.compile(r" \(conflict, [^()]*, \d{4}-\d\d-\d\d\)(?: \(\d+\))*(?=(?:\.[^. ]{1,16})?$)")


def parent(path: str) -> str:
    """The folder that holds `path`; "" is the top."""
    return path.rpartition("/")[0]


def above(path: str) -> list[str]:
    """The folders that hold `path`, the deepest first."""
    found = []
    while path := parent(path):
        found.append(path)
    return found


def leaf(path: str) -> str:
    """The name of `path` in its folder."""
    return path.rpartition("/")[2]


def join(folder: str, name: str) -> str:
    """`name` in `folder`."""
    return f"{folder}/{name}" if folder else name


def key(name: str) -> str:
    """A name on a disk as part of a path."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def path_fault(path: str) -> str | None:
    """What makes a path impossible, as the end of a sentence; None when it is fine."""
    parts = path.split("/")
    if len(parts) > DEPTH_MAX:
        return f"is more than {DEPTH_MAX} folders deep"
    for part in parts:
        if fault := name_fault(part):
            return fault
        if is_own(part):
            return "is a name that coterie keeps for its own data"
    if not path.isascii():
        if len(path.encode()) > PATH_BYTES_MAX:
            return f"is longer than {PATH_BYTES_MAX} bytes"
        if not unicodedata.is_normalized("NFC", path):
            return "is not in composed form"
    elif len(path) > PATH_BYTES_MAX:
        return f"is longer than {PATH_BYTES_MAX} bytes"
    return None


def is_own(name: str) -> bool:
    """Whether `name` is one of coterie's own, or some disk could take it for one."""
    if "coterie" not in name and name.isascii() and "coterie" not in name.casefold():
        return False
    visible = name if name.isascii() else "".join(c for c in name if unicodedata.category(c) != "Cf")
    return visible.casefold().startswith(MARKER) or is_reserved(name)


def free_path(path: str, is_taken: Iterable[bool]) -> str:
    """`path`, or its first number for which `is_taken` has no true: asked for `path`, then for each of `numbers`."""
    for candidate, taken in zip(numbers(path), is_taken, strict=False):
        if not taken:
            return candidate
    return path


def numbers(path: str) -> Iterable[str]:
    """`path`, then "name (2).txt" and on in its folder."""
    yield path
    folder, name = parent(path), leaf(path)
    for number in range(2, NUMBER_MAX):
        yield join(folder, key(numbered(name, number)))


def copy_name(name: str, who: str, at_ms: int) -> str:
    """The name of a copy: "report.ods" is "report (conflict, anna, 2026-11-28).ods"."""
    try:
        day = datetime.fromtimestamp(at_ms / 1000, UTC).date().isoformat()
    except (ValueError, OverflowError, OSError):
        day = "0000-00-00"
    plain = "".join(c for c in who if c not in REFUSED_SOMEWHERE and c not in "/()\0" and c.isprintable())
    tail = f" (conflict, {limit_bytes(plain.strip() or '?', WHO_BYTES_MAX)}, {day})"
    stem, dot, suffix = name.rpartition(".")
    if not stem or len(suffix) > 16 or " " in suffix:
        stem, dot, suffix = name, "", ""
    room = NAME_BYTES_MAX - len((tail + dot + suffix).encode())
    return limit_bytes(stem, room) + tail + dot + suffix


def original_of_copy(name: str) -> str:
    """The name of what a copy stands beside; empty when `name` is not that of a copy."""
    without = _COPY.sub("", name)
    return without if without != name else ""


class Taken:
    """The names in one folder of this disk, for finding free ones. `names`: those that are there."""

    def __init__(self, rules: NameRules, names: Iterable[str] = ()) -> None:
        self._rules = rules
        self._folded = {folded(name, rules) for name in names}

    def let_go(self, name: str) -> None:
        """`name` is free again."""
        self._folded.discard(folded(name, self._rules))

    def name_for(self, name: str) -> str:
        """What something called `name` is called in this folder; that name is taken then."""
        return local_names([name], self._rules, taken=self._folded)[0]
