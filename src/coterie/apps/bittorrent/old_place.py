"""Until version 0.1 torrents belonged to `files`: what lies in its folder is taken from there."""

import contextlib
import os
from pathlib import Path

from coterie.errors import StorageError
from coterie.texts import tr

FOLDERS = ("torrents", "downloads", "seeds")


def take_over(home: Path, files_home: Path) -> None:
    """Move what `files` kept of torrents, file by file: a crash in between leaves the rest for the next start.

    Raises:
        StorageError: the disk refuses.
    """
    for name in FOLDERS:
        try:
            _move(files_home / name, home / name)
        except OSError as error:
            raise StorageError(
                tr(
                    "{files_home} cannot be moved to {home}: {strerror}",
                    files_home=files_home / name,
                    home=home / name,
                    strerror=error.strerror,
                )
            ) from error


def _move(old: Path, new: Path) -> None:
    if not old.is_dir():
        return
    new.mkdir(mode=0o700, exist_ok=True)
    for name in sorted(os.listdir(old)):
        if not os.path.lexists(new / name):
            os.replace(old / name, new / name)
    with contextlib.suppress(OSError):  # what is there twice stays
        old.rmdir()
