"""Names of files that came from another computer: what is refused, and what they are called here.

Pure functions. A name is one component of a path. On the wire it is UTF-8 in whatever form its owner has it;
it is refused when it could mean a path, and changed on arrival where this computer cannot hold it.
"""

import re
import unicodedata
from collections.abc import Sequence

import msgspec

from coterie.errors import PeerError

NAME_BYTES_MAX = 255  # NAME_MAX of Linux, macOS and the BSDs; Windows counts 255 UTF-16 units
TARGET_BYTES_MAX = 4095  # PATH_MAX of Linux less its NUL
NUMBER_MAX = 100_000  # copies of one name; above what a folder of colliding names can sensibly need
PARTIAL_PREFIX = ".coterie-partial-"
RESERVED = "a name that coterie keeps for its own data"
VERSIONS_PREFIX = ".coterie-versions-"
FOLDER_PREFIX = ".coterie-folder"  # in a live folder: what is coterie's own

REFUSED_SOMEWHERE = frozenset('<>:"|?*\\') | {chr(code) for code in range(1, 32)}
"""What FAT, exFAT and NTFS as Windows has it refuse in a name (fs/exfat/nls.c of Linux)."""

_WINDOWS_DEVICES = frozenset(
    ["con", "prn", "aux", "nul", "conin$", "conout$"]
    + [f"{port}{digit}" for port in ("com", "lpt") for digit in "0123456789¹²³"]
)
_ALIAS = re.compile(
    r"[^.]{0,7}~[0-9~]+(\.[^.]{0,3})?"
)  # a short name that FAT or NTFS may give a file itself


class NameRules(msgspec.Struct, frozen=True):
    """What the disk does with names; found out by trying (`disk_rules`).

    Fields:
        folds_case, folds_unicode: which different names it takes for one.
        refused: characters that no name has there.
        trims: dots and blanks at the end vanish, or are refused.
        devices: "con", "aux" and such are no files.
        aliases: a file with a long name is there under a short one too ("progre~1.txt").
        bytes_max: of a name.
    """

    folds_case: bool = False
    folds_unicode: bool = False
    refused: frozenset[str] = frozenset()
    trims: bool = False
    devices: bool = False
    aliases: bool = False
    bytes_max: int = NAME_BYTES_MAX


ANY_NAME = NameRules()
WINDOWS = NameRules(refused=REFUSED_SOMEWHERE, trims=True, devices=True)


def name_fault(name: str) -> str | None:
    """What makes `name` impossible anywhere, as the end of a sentence ("is empty"); None when it is fine."""
    if not name:
        return "is empty"
    if name in {".", ".."}:
        return f"is '{name}'"
    if "/" in name:
        return "contains '/'"
    if "\0" in name:
        return "contains a NUL character"
    if len(name) * 4 > NAME_BYTES_MAX or not name.isascii():
        size = _utf8_bytes(name)
        if size is None:
            return "is not valid UTF-8"
        if size > NAME_BYTES_MAX:
            return f"is longer than {NAME_BYTES_MAX} bytes"
    return None


def check_name(name: str) -> None:
    """Raise `PeerError` when a name from a peer is impossible."""
    fault = name_fault(name)
    if fault:
        raise PeerError(f"a name that {fault}")


def target_fault(target: str) -> str | None:
    """What makes the text of a symbolic link impossible anywhere; None when it is fine."""
    if not target:
        return "is empty"
    if "\0" in target:
        return "contains a NUL character"
    size = _utf8_bytes(target)
    if size is None:
        return "is not valid UTF-8"
    return f"is longer than {TARGET_BYTES_MAX} bytes" if size > TARGET_BYTES_MAX else None


def symlink_allowed(target: str, depth: int, *, windows: bool = False) -> bool:
    """Whether a link may stand in a folder `depth` levels below the root of its tree (0: in the root itself).

    Allowed is a relative target with ".." only at its beginning, at most `depth` times.

    Why no chain of allowed links leaves the tree: the system resolves a link from the real folder that holds
    it. That folder is in the tree, at depth d >= the number of leading "..", so climbing ends at a real
    folder in the tree. Every further component goes down: into a real folder of the tree, or through another
    link, which stands in a real folder of the tree and so, by the same argument, ends within the tree. Since
    no ".." may follow a name, the end of a link that points to another folder is never climbed from. "." and
    empty components do not move.
    """
    if target_fault(target) or target.startswith("/"):
        return False
    if windows and ("\\" in target or ":" in target):
        return False
    parts = [part for part in target.split("/") if part not in ("", ".")]
    climbs = next((at for at, part in enumerate(parts) if part != ".."), len(parts))
    return climbs <= depth and ".." not in parts[climbs:]


def is_reserved(name: str) -> bool:
    """Whether `name` is, or some file system could take it for, one of coterie's own: it is neither given nor taken."""
    visible = name if name.isascii() else "".join(c for c in name if unicodedata.category(c) != "Cf")
    return visible.casefold().startswith((PARTIAL_PREFIX, VERSIONS_PREFIX, FOLDER_PREFIX))


def local_names(
    names: Sequence[str], rules: NameRules = ANY_NAME, *, taken: set[str] | None = None
) -> list[str]:
    """Names on this disk for the entries of one folder: as distinct as `names`, in the same order.

    A name stays as it is unless it cannot. Where the disk takes two names for one (case, Unicode form), the first
    keeps its name and the others are numbered: "name (2).txt". A character that is not possible there is written as
    "%" and the two upper-case hexadecimal digits of its code (":" is "%3A"); so are a dot or blank at the end, the
    first character of a device name ("con.txt" is "%63on.txt"), and the "~" of what could be the short name of another
    file ("progre%7E1.txt"). What was changed shows in the comparison with `names`. The same names always give the
    same answer, so an interrupted transfer goes on. A folder that comes in pages passes the same set as `taken` with
    each: it holds what earlier pages have, folded.
    """
    earlier = set() if taken is None else taken
    wanted = [_possible(name, rules) for name in names]
    keys = [_fold(name, rules.folds_case, rules.folds_unicode) for name in wanted]
    used = earlier.union(keys)
    if len(used) == len(earlier) + len(keys):
        earlier.update(keys)
        return wanted
    last_number = dict.fromkeys(earlier.intersection(keys), 1)
    for at, key in enumerate(keys):
        if key not in last_number:
            last_number[key] = 1
            continue
        while True:
            last_number[key] += 1
            if last_number[key] > NUMBER_MAX:
                raise PeerError(f"over {NUMBER_MAX} names in one folder that are the same on this computer")
            candidate = numbered(wanted[at], last_number[key], rules.bytes_max)
            folded = _fold(candidate, rules.folds_case, rules.folds_unicode)
            if folded not in used:
                break
        wanted[at] = candidate
        used.add(folded)
    earlier.update(used)
    return wanted


def numbered(name: str, number: int, bytes_max: int = NAME_BYTES_MAX) -> str:
    """`name` as its own copy: "a.txt" with 2 is "a (2).txt"; its stem is shortened when too long."""
    stem, dot, suffix = name.rpartition(".")
    if not stem or len(suffix) > 16 or " " in suffix:
        stem, dot, suffix = name, "", ""
    tail = f" ({number}){dot}{suffix}"
    return limit_bytes(stem, bytes_max - len(tail.encode("utf-8", "surrogateescape"))) + tail


def limit_bytes(text: str, bytes_max: int) -> str:
    """The beginning of `text` that fits `bytes_max` bytes of UTF-8, never cutting a character."""
    raw = text.encode("utf-8", "surrogateescape")
    return text if len(raw) <= bytes_max else raw[: max(bytes_max, 0)].decode("utf-8", "ignore")


def folded(name: str, rules: NameRules) -> str:
    """The same string for names that a disk with these rules takes for one."""
    return _fold(name, rules.folds_case, rules.folds_unicode)


def _utf8_bytes(text: str) -> int | None:
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        return None


def _fold(name: str, case: bool, form: bool) -> str:
    """The same string for names that a folding file system takes for one.

    With both it is the canonical caseless match of the Unicode Standard (3.13, D145). That takes a few more
    names for one than some file systems do, which costs a number in a name and is never unsafe.
    """
    if form:
        name = unicodedata.normalize("NFD", name)
    if case:
        name = name.upper().casefold()
    return unicodedata.normalize("NFD", name) if form else name


def _possible(name: str, rules: NameRules) -> str:
    """`name`, or what it is called on a disk where it cannot be."""
    if rules is ANY_NAME:
        return name
    if not rules.refused.isdisjoint(name):
        name = "".join(_escape(char) if char in rules.refused else char for char in name)
    if rules.devices and name.partition(".")[0].rstrip(" ").lower() in _WINDOWS_DEVICES:
        name = _escape(name[0]) + name[1:]
    if rules.aliases and _ALIAS.fullmatch(name):
        name = name.replace("~", _escape("~"))
    if rules.trims and name[-1] in ". ":
        name = name[:-1] + _escape(name[-1])
    if len(name.encode("utf-8", "surrogateescape")) > rules.bytes_max:
        stem, dot, suffix = name.rpartition(".")
        if not stem or len(suffix) > 16:
            stem, dot, suffix = name, "", ""
        name = limit_bytes(stem, rules.bytes_max - len((dot + suffix).encode())) + dot + suffix
    return name


def _escape(char: str) -> str:
    return f"%{ord(char):02X}"
