"""Which files are being written beside others' now: what a killed node leaves of them is removed by its next start."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from coterie.content import no_links
from coterie.content.names import PARTIAL_PREFIX

NOTES_MAX = 1_000  # of disks that are not there now; guess: a node writes some dozens at once
PATH_BYTES_MAX = 4_096  # of a note, as of a path


class Unfinished:
    """A note for each, in a folder. Blocking; for any thread."""

    def __init__(self, folder: Path) -> None:
        """`folder` is made when something is noted."""
        self._folder = folder

    @contextlib.contextmanager
    def noted(self, path: Path) -> Iterator[None]:
        """For the block there may be a file at `path`, a real one. Raises `OSError`."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        note = self._folder / secrets.token_hex(8)
        note.write_bytes(os.fsencode(path))
        try:
            yield
        finally:
            note.unlink(missing_ok=True)

    def sweep(self) -> int:
        """Remove what an earlier run left; how many that were. What lies on a disk that is away stays noted."""
        removed = 0
        notes = sorted(self._folder.glob("*"), key=lambda note: note.stat().st_mtime_ns)
        for number, note in enumerate(reversed(notes)):
            path = Path(os.fsdecode(note.read_bytes()[:PATH_BYTES_MAX]))
            if path.name.startswith(PARTIAL_PREFIX) and path.is_absolute():
                try:
                    with no_links.held(path.parent) as folder:
                        removed += os.path.lexists(folder / path.name)
                        (folder / path.name).unlink(missing_ok=True)
                except OSError:
                    if number < NOTES_MAX:
                        continue
            note.unlink(missing_ok=True)
        return removed
