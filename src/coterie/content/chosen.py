"""Which files of a tree are meant: by name first, and by pattern where nothing is called so."""

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

BY_PATTERN_MAX = 100_000  # files remembered that a pattern chose: 10 MB of paths; more stay chosen


class Chosen:
    """The files that `wanted` means: each a path ("disc 1/a.ogg"), a file's name, a folder, or a pattern for a file.

    What is the name of something is no pattern, so that "a[1].txt" means that file; but a tree comes in pages, and the
    name may come late: `mistaken` says what was chosen by then.
    """

    def __init__(self, wanted: Sequence[str]) -> None:
        self._wanted = [one.rstrip("/") for one in wanted]
        self._names: set[str] = set()  # those of `_wanted` that something is called
        self._by_pattern: dict[str, int] = {}

    def look(self, paths: Iterable[str]) -> None:
        """These files and folders are there."""
        left = [one for one in self._wanted if one not in self._names]
        if left:
            self._names.update(one for path in paths for one in left if _is_called(path, one))

    def wants(self, path: str, size: int = 0) -> bool:
        """Whether a file of `size` bytes is meant, as far as is known."""
        if any(_is_called(path, one) for one in self._wanted):
            return True
        if not self._is_like(path):
            return False
        if len(self._by_pattern) < BY_PATTERN_MAX:
            self._by_pattern[path] = size
        return True

    def mistaken(self) -> Mapping[str, int]:
        """Files that were chosen by what turned out to be a name, with their sizes."""
        return {path: size for path, size in self._by_pattern.items() if not self._is_like(path)}

    def _is_like(self, path: str) -> bool:
        name = path.rpartition("/")[2]
        patterns = [one for one in self._wanted if one not in self._names]
        return any(fnmatchcase(path, one) or fnmatchcase(name, one) for one in patterns)


def _is_called(path: str, name: str) -> bool:
    """Whether `name` is the path or the last part of it, or a folder above it."""
    return path == name or path.rpartition("/")[2] == name or path.startswith(f"{name}/")
