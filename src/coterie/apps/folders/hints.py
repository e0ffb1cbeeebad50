"""Where in a folder to look again: hints, gathered until a burst of them is over. Pure.

A hint is never the truth: what is there says the disk alone, when it is looked at. So hints may be too many or name
what is gone, and where some were lost everything is looked at. Local names: below the folder, "/" between parts, "" is
the top.
"""

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

QUIET_S = 0.03  # without news: a burst is over; guess: programs write and rename within it
GATHERED_S = 0.1  # after its first hint a burst is told in any case
PATHS_MAX = 1_000  # in one folder: from there on listing it is cheaper; guess
HINTS_MAX = 20_000  # told one by one; beyond it everything is looked at
JUMP_S = 2.0  # clocks that part by more: the computer slept, or its clock was set


class Hints(msgspec.Struct, frozen=True):
    """Where to look again.

    Fields:
        paths: at these names alone; whatever they are now.
        folders: these are listed, nothing below them is.
        trees: these are listed with everything below.
    """

    paths: frozenset[str] = frozenset()
    folders: frozenset[str] = frozenset()
    trees: frozenset[str] = frozenset()

    @property
    def is_all(self) -> bool:
        """Whether the whole folder is to be looked at."""
        return "" in self.trees

    def joined(self, other: "Hints") -> "Hints":
        """Both, without what the larger hints cover."""
        return hints_of(self.paths | other.paths, self.folders | other.folders, self.trees | other.trees)


ALL = Hints(trees=frozenset([""]))
NONE = Hints()


class Clocks(NamedTuple):
    """What three clocks show, in seconds: one that stands still in sleep, one that does not, and the date."""

    awake: float
    running: float
    date: float


def jumped(before: Clocks, now: Clocks) -> bool:
    """Whether the computer slept between the two, or its date was set: then the kernel's events are no guide."""
    awake, running, date = (late - early for early, late in zip(before, now, strict=True))
    return abs(running - awake) > JUMP_S or abs(date - running) > JUMP_S


def hints_of(paths: Iterable[str], folders: Iterable[str] = (), trees: Iterable[str] = ()) -> Hints:
    """Hints without what larger ones cover: many paths become their folder, many folders everything."""
    whole = frozenset(trees)
    if "" in whole:
        return ALL
    if whole:
        whole = frozenset(one for one in whole if not _is_below(one, whole))
    listed = {one for one in folders if one not in whole and not _is_below(one, whole)}
    single: dict[str, list[str]] = {}
    for path in paths:
        folder = parent(path)
        if folder not in listed and path not in whole and not _is_below(path, whole):
            single.setdefault(folder, []).append(path)
    for folder in [one for one, names in single.items() if len(names) > PATHS_MAX]:
        listed.add(folder)
        del single[folder]
    if len(whole) + len(listed) + sum(map(len, single.values())) > HINTS_MAX:
        return ALL
    return Hints(frozenset(path for names in single.values() for path in names), frozenset(listed), whole)


def parent(path: str) -> str:
    """The folder of a local name."""
    return path.rpartition("/")[0]


class Gathering:
    """Hints of one burst."""

    def __init__(self, quiet_s: float = QUIET_S, gathered_s: float = GATHERED_S) -> None:
        """It is due `quiet_s` after the last hint, at the latest `gathered_s` after the first."""
        self._quiet_s = quiet_s
        self._gathered_s = gathered_s
        self._first = self._last = 0.0
        self._paths: set[str] = set()
        self._trees: set[str] = set()
        self._is_all = False

    @property
    def due(self) -> float | None:
        """When to take the hints; None while there are none."""
        if not (self._paths or self._trees or self._is_all):
            return None
        return min(self._last + self._quiet_s, self._first + self._gathered_s)

    def add(self, now: float, *, path: str | None = None, tree: str | None = None) -> None:
        """One hint more; neither: everything."""
        if self.due is None:
            self._first = now
        self._last = now
        if path is not None:
            self._paths.add(path)
        if tree is not None:
            self._trees.add(tree)
        if path is None and tree is None:
            self._is_all = True
        if len(self._paths) + len(self._trees) > 2 * HINTS_MAX:
            whole = hints_of(self._paths, (), self._trees)
            self._is_all = self._is_all or whole.is_all
            self._paths, self._trees = set(whole.paths), set(whole.trees | whole.folders)

    def drop(self, path: str) -> None:
        """This path is told otherwise."""
        self._paths.discard(path)

    def take(self) -> Hints:
        """What was gathered; begins anew."""
        gathered = ALL if self._is_all else hints_of(self._paths, (), self._trees)
        self._paths, self._trees, self._is_all = set(), set(), False
        return gathered


def _is_below(path: str, trees: frozenset[str]) -> bool:
    above = parent(path) if trees else ""
    while above:
        if above in trees:
            return True
        above = parent(above)
    return False
