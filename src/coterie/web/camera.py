"""Pictures of a phone in a live folder: by year and month in which they were taken, none of them twice. Blocking."""

import contextlib
import filecmp
import os
import re
import stat
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path

from coterie.content import no_links
from coterie.content.file_steps import flush_folder, move_beside
from coterie.content.names import PARTIAL_PREFIX
from coterie.errors import StorageError
from coterie.texts import tr

HEAD_BYTES = (
    256 << 10
)  # of a picture, in which its Exif part begins (Exif 2.3, 4.5.4: within the first segments)
EXIF_BYTES = 64 << 10  # the longest Exif part of a JPEG
_EXIF = b"Exif\0\0"
_EXIF_DATE = re.compile(rb"((?:19|20)\d\d):(\d\d):(\d\d) \d\d:\d\d:\d\d\0")
_NAME_DATE = re.compile(r"(?<!\d)((?:19|20)\d\d)[-_.]?(\d\d)[-_.]?(\d\d)(?!\d)")


def landing_place(folder: Path) -> Path:
    """Where pictures for a live folder come first: on its disk, and seen by nobody."""
    return folder / f"{PARTIAL_PREFIX}camera"


def put_away(landed: Sequence[str], folder: Path, today: date) -> tuple[int, int]:
    """Give each file that has `landed` its place in the folder; how many are new, and how many were there already.

    Whoever asks again, after a crash, gets the rest done. Raises StorageError: the disk refuses, or there is a link.
    """
    new = known = 0
    try:
        by_size = _by_size(folder)
        for path in (file for one in landed for file in _files(Path(one))):
            size = path.stat().st_size
            if any(_same(path, other) for other in by_size.get(size, ())):
                path.unlink()
                known += 1
                continue
            taken = taken_on(path.name, _head(path)) or today
            with _month(folder, taken) as (safe, place):
                name = move_beside(path, safe / path.name).name
                by_size.setdefault(size, []).append(place / name)
                flush_folder(safe)
            new += 1
        for one in landed:
            _remove_empty(Path(one))
        with contextlib.suppress(OSError):
            landing_place(folder).rmdir()
    except OSError as error:
        raise StorageError(
            tr("{path} cannot be written: {strerror}", path=folder, strerror=error.strerror)
        ) from error
    return new, known


@contextlib.contextmanager
def _month(folder: Path, taken: date) -> Iterator[tuple[Path, Path]]:
    """The folder for pictures of that month, made where it is not: a path that leads there through no link, its own."""
    place = folder
    for name in (f"{taken.year:04}", f"{taken.month:02}"):
        with no_links.held(place) as safe, contextlib.suppress(FileExistsError):
            os.mkdir(safe / name)
        place = place / name
        if place.is_symlink():
            raise StorageError(
                tr("{path} is a link, and pictures are put through none: give it another name", path=place)
            )
    with no_links.held(place) as safe:
        yield safe, place


def taken_on(name: str, head: bytes) -> date | None:
    """When a picture was taken: the earliest date of its Exif part, else the one in its name; None: neither says.

    An editor writes a later date beside the first one (DateTime beside DateTimeOriginal).
    """
    start = head.find(_EXIF)
    said = _EXIF_DATE.findall(head[start : start + EXIF_BYTES]) if start >= 0 else []
    dates = [found for parts in said if (found := _date(*map(int, parts))) is not None]
    if dates:
        return min(dates)
    return next(
        (found for parts in _NAME_DATE.findall(name) if (found := _date(*map(int, parts))) is not None), None
    )


def _date(year: int, month: int, day: int) -> date | None:
    try:
        return date(year, month, day)
    except ValueError:
        return None


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(HEAD_BYTES)


def _same(path: Path, other: Path) -> bool:
    try:
        return filecmp.cmp(path, other, shallow=False)
    except OSError:
        return False  # it has gone


def _by_size(folder: Path) -> dict[int, list[Path]]:
    """The regular files of a folder, but for coterie's own."""
    found: dict[int, list[Path]] = {}
    for path in _files(folder):
        found.setdefault(path.lstat().st_size, []).append(path)
    return found


def _files(top: Path) -> Iterator[Path]:
    """A file itself; of a folder all regular files in it, but for those that are under way."""
    if top.is_file() and not top.is_symlink():
        yield top
        return
    for at, folders, names in os.walk(top):
        folders[:] = sorted(one for one in folders if not one.startswith((PARTIAL_PREFIX, ".coterie")))
        for name in sorted(names):
            path = Path(at) / name
            with contextlib.suppress(OSError):
                if stat.S_ISREG(path.lstat().st_mode):
                    yield path


def _remove_empty(top: Path) -> None:
    for at, _, _ in os.walk(top, topdown=False):
        with contextlib.suppress(OSError):
            os.rmdir(at)
