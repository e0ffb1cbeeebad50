"""What a disk does with names, found out by trying: the operating system's name says little about it.

A network drive, a stick or a container may have the rules of another system; each mount can set its own.
"""

import errno
import os
import shutil
import unicodedata
from contextlib import suppress
from pathlib import Path

import msgspec

from coterie.content.names import (
    ANY_NAME,
    NAME_BYTES_MAX,
    PARTIAL_PREFIX,
    REFUSED_SOMEWHERE,
    WINDOWS,
    NameRules,
    local_names,
)

PROBE_ID_BYTES = 8
NAME_BYTES_MIN = 8  # a disk with shorter names has no file system

_ACUTE = "\N{LATIN SMALL LETTER E WITH ACUTE}"
_LONG = "coterie long probe.text"
_SHORT = "COTERI~1.TEX"
_REFUSALS = frozenset(
    {errno.EINVAL, errno.EILSEQ, errno.ENAMETOOLONG, errno.EPERM, errno.EACCES, errno.ENOENT}
    | {errno.EISDIR, errno.EEXIST}
)


def rules_of(parent: Path) -> NameRules:
    """The rules for names in the folder `parent`: in a folder of its own there files are made and removed again.

    Raises:
        OSError: nothing can be made there at all.
    """
    folder = parent / f"{PARTIAL_PREFIX}probe-{os.urandom(PROBE_ID_BYTES).hex()}"
    folder.mkdir(mode=0o700)
    try:
        return _rules_in(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _rules_in(folder: Path) -> NameRules:
    if os.name == "nt":  # the names of devices are not for trying
        case, form = _folds(folder)
        return msgspec.structs.replace(
            WINDOWS, folds_case=case, folds_unicode=form, aliases=_has_aliases(folder)
        )
    refused: frozenset[str] = frozenset()
    every = "".join(sorted(REFUSED_SOMEWHERE))
    if not _can_be(folder, f"probe{every}-"):
        refused = frozenset(char for char in every if not _can_be(folder, f"probe{char}-"))
    case, form = _folds(folder)
    rules = NameRules(
        folds_case=case,
        folds_unicode=form,
        refused=refused,
        trims=not (_can_be(folder, "probe.") and _can_be(folder, "probe ")),
        devices=not _can_be(folder, "aux.probe"),
        aliases=_has_aliases(folder),
        bytes_max=_name_bytes_max(folder),
    )
    return ANY_NAME if rules == ANY_NAME else rules


def name_at(parent: Path, name: str) -> str:
    """What something called `name` is to be called in `parent`; a name that is possible everywhere needs no asking."""
    if local_names([name], WINDOWS) == [name]:
        return name
    try:
        return local_names([name], rules_of(parent))[0]
    except OSError:  # who writes there will say so
        return name


def _can_be(folder: Path, name: str) -> bool:
    """Whether a file of this name can be made, and is then there under that name."""
    try:
        (folder / name).touch(exist_ok=False)
    except OSError as error:
        if error.errno in _REFUSALS:
            return False
        raise
    is_called_so = any(unicodedata.normalize("NFC", one) == name for one in os.listdir(folder))
    with suppress(OSError):
        (folder / name).unlink()
    return is_called_so


def _folds(folder: Path) -> tuple[bool, bool]:
    """Whether the disk takes upper and lower case for one, and composed and decomposed letters."""
    probe = folder / f"probe-{_ACUTE}"
    try:
        probe.touch(exist_ok=False)
    except OSError as error:
        if error.errno not in _REFUSALS:
            raise
        probe = folder / "probe-e"  # a disk that knows no such letters
        probe.touch(exist_ok=False)
    case = os.path.lexists(folder / probe.name.upper())
    decomposed = unicodedata.normalize("NFD", probe.name)
    form = decomposed != probe.name and os.path.lexists(folder / decomposed)
    probe.unlink()
    return case, form


def _has_aliases(folder: Path) -> bool:
    (folder / _LONG).touch(exist_ok=False)
    has = os.path.lexists(folder / _SHORT)
    (folder / _LONG).unlink()
    return has


def _name_bytes_max(folder: Path) -> int:
    if _can_be(folder, "x" * NAME_BYTES_MAX):
        return NAME_BYTES_MAX
    low, high = NAME_BYTES_MIN, NAME_BYTES_MAX  # it can be; it cannot
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _can_be(folder, "x" * middle) else (low, middle)
    return low
