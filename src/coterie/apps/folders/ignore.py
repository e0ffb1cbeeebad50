"""Which paths of a live folder are left out: patterns as in .gitignore, and what programs write for themselves. Pure.

Patterns stand in `.coterieignore` at the top of the folder, which travels like every file, and in the settings of one
computer. What is left out is neither recorded nor shown here; it stays on the disks where it is.
"""

import re
from collections.abc import Iterable

from pathspec import GitIgnoreSpec

SHARED_NAME = ".coterieignore"
PATTERNS_MAX = 1_000  # of one folder, from one place; guess
PATTERN_CHARS_MAX = 1_000
_ANYWHERE = "^(?:.+/)?"  # so begins a pattern that holds in every folder
_NAMED = re.compile(r"\(\?P<\w+>")  # each pattern names a group; together they may not

OF_PROGRAMS = (
    "~$*",  # Office: who has a document open
    ".~lock.*#",  # LibreOffice: the same
    "*.part",  # half a download
    "*.crdownload",
    "*.partial",
    ".goutputstream-*",  # GNOME: written beside, then renamed
    "4913",  # vim tries whether it may write
    ".*.sw[a-p]",
    "*.tmp.[0-9]*",
    "~*.tmp",  # Office writes beside, then renames
    ".#*",  # Emacs: who has a file open
    ".DS_Store",
    "._*",
    "Thumbs.db",
    "desktop.ini",
    ".Trash-*/",
    ".nfs[0-9a-f]*",  # a file that somebody deleted and another has open still
    ".git",  # a repository is one thing: taken file by file, what one computer tidies up is missing to another
    "*.*-wal",  # SQLite: what is not in the database yet; the database waits for it (`in_use.has_journal`)
    "*.*-shm",
    "*.*-journal",
)
"""Always left out: what has no meaning on another computer, or is not whole yet."""


class Ignored:
    """The patterns that hold on one computer: of programs, of all, its own; a later one may take back (`!`)."""

    def __init__(self, shared: str = "", own: Iterable[str] = ()) -> None:
        """`shared`: the text of `.coterieignore`. `own`: of this computer. What is no pattern is left out."""
        lines = [*OF_PROGRAMS, *shared.splitlines()[:PATTERNS_MAX], *list(own)[:PATTERNS_MAX]]
        sound = [line for line in lines if len(line) <= PATTERN_CHARS_MAX and is_pattern(line)]
        self._spec = GitIgnoreSpec.from_lines(sound)
        takers = [
            _NAMED.sub("(?:", one.regex.pattern)
            for one in self._spec.patterns
            if one.include and one.regex is not None
        ]
        anywhere = [one.removeprefix(_ANYWHERE) for one in takers if one.startswith(_ANYWHERE)]
        others = [one for one in takers if not one.startswith(_ANYWHERE)]
        self._any = re.compile("|".join([f"{_ANYWHERE}(?:{'|'.join(anywhere)})", *others]))

    def __call__(self, path: str, is_folder: bool) -> bool:
        """Whether `path` is left out. Of something in a folder that is left out nobody asks."""
        full = f"{path}/" if is_folder else path
        return self._any.search(full) is not None and self._spec.match_file(full)  # most match nothing


def is_pattern(line: str) -> bool:
    """Whether `line` can be read as a pattern."""
    try:
        GitIgnoreSpec.from_lines([line])
    except ValueError:
        return False
    return True
