"""What stands in a folder of this computer, for the picker of paths."""

import os
from pathlib import Path

import msgspec

LINES_MAX = 1_000


class FolderLine(msgspec.Struct, frozen=True):
    """One entry; `path` is absolute."""

    name: str
    path: str
    is_folder: bool


def folder_lines(at: Path) -> list[FolderLine]:
    """Folders first, by name; hidden ones last. Empty where the folder cannot be read."""
    found: list[FolderLine] = []
    try:
        with os.scandir(at) as entries:
            for entry in entries:
                if len(found) >= LINES_MAX:
                    break
                found.append(FolderLine(entry.name, entry.path, entry.is_dir()))
    except (OSError, ValueError):  # no path has a zero byte in it
        return []
    readable = [line for line in found if line.name.isprintable()]
    return sorted(
        readable, key=lambda line: (line.name.startswith("."), not line.is_folder, line.name.lower())
    )
