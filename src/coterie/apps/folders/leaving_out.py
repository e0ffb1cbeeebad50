"""What one folder leaves out on this computer: its patterns, and where they are kept. Reads the disk: in a thread."""

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from coterie.apps.folders.ignore import (
    OF_PROGRAMS,
    PATTERN_CHARS_MAX,
    PATTERNS_MAX,
    SHARED_NAME,
    Ignored,
    is_pattern,
)
from coterie.apps.folders.results import IgnoredLine
from coterie.apps.folders.store import FolderRow, FoldersStore
from coterie.errors import NotFound, UsageError
from coterie.texts import tr

SHARED_BYTES_MAX = PATTERNS_MAX * PATTERN_CHARS_MAX  # that are read of `.coterieignore`


class LeavingOut:
    """The patterns of programs, those of `.coterieignore`, and those of this computer alone, which `row` keeps."""

    def __init__(self, store: FoldersStore, row: FolderRow) -> None:
        self._store = store
        self._row = row
        self._shared = ""
        self.ignored = Ignored("", self.own)

    @property
    def own(self) -> list[str]:
        """The patterns of this computer, in their order."""
        return self._row.settings.decode(errors="replace").splitlines()

    @property
    def has_patterns(self) -> bool:
        """Whether more is left out than what programs write for themselves, whose names alone count."""
        return bool(self._shared.strip() or self.own)

    def read(self) -> bool:
        """Read `.coterieignore`; whether it says something else than before."""
        shared = _text(Path(self._row.path) / SHARED_NAME)
        if shared == self._shared:
            return False
        self._shared = shared
        self.ignored = Ignored(shared, self.own)
        return True

    def add(self, patterns: Sequence[str]) -> None:
        """Leave these out here, too. Raises UsageError: one is no pattern, or they are too many."""
        own = self.own
        for one in patterns:
            if len(one) > PATTERN_CHARS_MAX or len(one.splitlines()) != 1 or not is_pattern(one):
                raise UsageError(tr("'{pattern}' is no pattern: write it as in .gitignore", pattern=one))
        own = list(dict.fromkeys([*own, *patterns]))
        if len(own) > PATTERNS_MAX:
            raise UsageError(
                tr(
                    "{most} patterns are the most: remove some, or write them into {name}",
                    most=PATTERNS_MAX,
                    name=SHARED_NAME,
                )
            )
        self._keep(own)

    def remove(self, patterns: Sequence[str]) -> None:
        """Leave these out no longer. Raises NotFound: one is not among the patterns of this computer."""
        own = self.own
        for one in patterns:
            if one not in own:
                raise NotFound(
                    tr(
                        "no pattern '{pattern}' of this computer: `coterie folder ignore` lists them",
                        pattern=one,
                    )
                )
        self._keep([one for one in own if one not in patterns])

    def lines(self) -> list[IgnoredLine]:
        """Every pattern, in the order in which they count: a later one may take back."""
        found = (("programs", OF_PROGRAMS), ("everybody", self._shared.splitlines()), ("here", self.own))
        return [
            IgnoredLine(pattern=pattern, of=of)
            for of, patterns in found
            for pattern in patterns[:PATTERNS_MAX]
            if pattern.strip() and not pattern.startswith("#")
        ]

    def _keep(self, own: Sequence[str]) -> None:
        self._row.settings = "\n".join(own).encode()
        self._store.change(self._row)
        self.ignored = Ignored(self._shared, own)


def _text(path: Path) -> str:
    """What stands in a file of ours; "" where there is none. What is no plain file is not opened: it might block."""
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode):
            return ""
        with path.open("rb") as file:
            return file.read(SHARED_BYTES_MAX).decode(errors="replace")
    except OSError:
        return ""
