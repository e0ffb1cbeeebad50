"""What this computer shares itself, by the places under its own name: read as it lies on the disk now."""

import os
import stat
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from pathlib import Path

from coterie.access.names import distinct
from coterie.apps.files.records import ShareRecord
from coterie.content import no_links
from coterie.content.names import is_reserved, name_fault
from coterie.errors import NotFound, StorageError
from coterie.texts import tr
from coterie.transfer.open_file import OwnFile, Seen


class OwnPlaces:
    """The shares of this computer. Blocking, but for `labelled`; from any thread."""

    def __init__(self, shares: Callable[[], Iterable[ShareRecord]], executor: Executor) -> None:
        self._shares = shares
        self._executor = executor

    def labelled(self) -> dict[str, ShareRecord]:
        """Every share, by a name that no other has."""
        shares = list(self._shares())
        labels = distinct([(share.id, share.name, False) for share in shares])
        return dict(zip(labels, shares, strict=True))

    def listing(self, path: str) -> tuple[Seen, ...]:
        """What is in a folder; "": the shares. Links, pipes and what cannot be read are left out. Raises `NotFound`."""
        if not path:
            seen = [_seen(label, Path(share.path)) for label, share in self.labelled().items()]
            return tuple(sorted((one for one in seen if one is not None), key=lambda one: one.name))
        found: list[Seen] = []
        place = self.path_of(path)
        try:
            with no_links.entries(str(place)) as (entries, _):
                for entry in entries:
                    if is_reserved(entry.name):
                        continue
                    status = _status(entry)
                    if status is not None:
                        found.append(_of(entry.name, status))
        except (FileNotFoundError, NotADirectoryError):
            raise NotFound(tr("there is no folder {path}", path=path)) from None
        except OSError as error:
            raise _unreadable(place, error) from None
        return tuple(sorted(found, key=lambda one: one.name))

    def look(self, path: str) -> Seen:
        """What is at `path`. Raises `NotFound`."""
        seen = _seen(path.rpartition("/")[2], self.path_of(path))
        if seen is None:
            raise NotFound(tr("there is no {path}", path=path))
        return seen

    def open(self, path: str) -> OwnFile:
        """A file. Raises `NotFound`, `StorageError`."""
        return OwnFile(self.path_of(path), self._executor)

    def path_of(self, path: str) -> Path:
        """Where a place lies: a real path but for its end. Raises `NotFound`."""
        label, *parts = path.split("/")
        share = self.labelled().get(label)
        if share is None or any(map(name_fault, parts)) or any(map(is_reserved, parts)):
            raise NotFound(tr("there is no {path}", path=path))
        top = Path(share.path)
        return Path(os.path.realpath(top.parent), top.name, *parts)


def _seen(name: str, path: Path) -> Seen | None:
    try:
        status = no_links.status(path)
    except OSError:
        return None
    return _of(name, status) if _is_shown(status) else None


def _status(entry: "os.DirEntry[str]") -> os.stat_result | None:
    try:
        status = entry.stat(follow_symlinks=False)
    except OSError:
        return None
    return status if _is_shown(status) else None


def _is_shown(status: os.stat_result) -> bool:
    return stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)


def _of(name: str, status: os.stat_result) -> Seen:
    if stat.S_ISDIR(status.st_mode):
        return Seen(name, "folder", 0, status.st_mtime_ns)
    return Seen(name, "file", status.st_size, status.st_mtime_ns, 1)


def _unreadable(place: Path, error: OSError) -> StorageError:
    return StorageError(tr("cannot read {place}: {strerror}", place=place, strerror=error.strerror))
