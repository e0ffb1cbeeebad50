"""Sees that a seeded file was edited: a library that seeds it checks each piece once, and then serves what is there."""

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from coterie.content import Store, no_links
from coterie.content.manifest import TOTAL_MAX
from coterie.content.scan import date_of

WATCH_S = 0.5  # between two looks; guess: an edit is seldom complete, and a piece seldom asked for, so soon
WATCH_PART = 0.1  # of the time, at most, that looking takes: 100,000 files take a second
Seen = tuple[int, int, int]
"""(size, modification time in ns, inode)"""


def as_shared(store: Store, paths: Sequence[Path]) -> dict[Path, Seen | None]:
    """What the files, by real paths, were when they were shared; None: not known, or known to have changed."""
    known = store.known_files([str(path) for path in paths])
    return {
        path: (file.size, file.mtime_ns, file.inode & TOTAL_MAX) if (file := known.get(str(path))) else None
        for path in paths
    }


def first_changed(files: Mapping[Path, Seen | None]) -> Path | None:
    """The first of these files that is not what it was."""
    return next(_changed(files), None)


def _changed(files: Mapping[Path, Seen | None]) -> Iterator[Path]:
    for path, seen in files.items():
        try:
            now = no_links.status(path)
        except OSError:
            yield path
            continue
        if not stat.S_ISREG(now.st_mode) or _seen(now) != seen:
            yield path


def _seen(status: os.stat_result) -> Seen:
    return status.st_size, date_of(status), status.st_ino & TOTAL_MAX
