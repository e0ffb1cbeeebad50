"""Where what is got goes, by what the user wrote: a folder to put it into, or the name that it is to have."""

import os
from pathlib import Path

from coterie.content.disk_rules import name_at
from coterie.errors import UsageError
from coterie.texts import tr


def whole_target(target: Path | str) -> str:
    """`target` as a whole path; a separator at its end stays: it says that a folder is meant."""
    text = os.fspath(target)
    is_folder = text.endswith((os.sep, os.altsep or os.sep))
    return os.path.join(os.path.abspath(text), "") if is_folder else os.path.abspath(text)


def possible_places(target: str, name: str) -> tuple[Path, Path]:
    """Where what is called `name` may have been put when the user wrote `target`: there, or in it."""
    path = Path(target)
    return path, path / (name_at(path, name) if path.is_dir() else name)


def place_at(target: str, name: str) -> Path:
    """The final path of what is called `name`: within `target` where that is a folder or is to be one, else `target`.

    Nothing is made: who writes there makes the folder. `target` is from `whole_target`.

    Raises:
        UsageError: there is no folder above `target`, or something else has the name of the folder.
    """
    path = Path(target)
    if path.is_dir():
        return path / name_at(path, name)
    if not path.parent.is_dir():
        raise UsageError(
            tr("there is no folder {parent} to put '{path}' into", parent=path.parent, path=path.name)
        )
    if not target.endswith(os.sep):
        return path
    if os.path.lexists(path):
        raise UsageError(
            tr("{path} is there already and is no folder: choose another name for the folder", path=path)
        )
    return path / name_at(path.parent, name)
