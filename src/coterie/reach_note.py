"""The note that not everybody elsewhere reaches this computer: said once, and again when that has changed."""

import contextlib
from pathlib import Path

from coterie.errors import StorageError
from coterie.net.find.outside import Outside
from coterie.private_file import write_private

REACHED_BYTES_MAX = 16  # "perhaps" has 7


class ReachNote:
    """Keeps in `path` who was reached when somebody was told last, over restarts."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def say(self, outside: Outside) -> str:
        """One line for people; empty where everybody gets in, and where this was said before."""
        told = self._told()
        if outside.reached == (told or "yes"):
            return ""
        with contextlib.suppress(StorageError):  # a full disk: it is said again
            write_private(self._path, outside.reached.encode())
        return outside.note()

    def _told(self) -> str:
        try:
            with self._path.open("rb") as file:
                return file.read(REACHED_BYTES_MAX).decode(errors="replace")
        except OSError:
            return ""
