"""What others changed here as people see it, and what takes it back: a folder that was renamed is one change. Blocking.

Who renames a folder removes each path in it and makes another with the same content, in one moment: what was removed
and what stands elsewhere belong together where writer, moment and content are the same.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import msgspec

from coterie.apps.folders.register import Kind, Value, unpack, winner
from coterie.apps.folders.store import EVENTS_MAX, EventRow, FolderData

Write = tuple[str, Value, Value | None]
"""(path, new value, the value that is replaced; None: of nothing there)."""
Stamp = tuple[bytes, int]
"""Who wrote, and when by his clock (ms): the same for all that was recorded together."""


class Change(NamedTuple):
    """One line. `to`: where that is now; "" where it was no move. `moved`: each event, and the path of it now."""

    event: EventRow
    path: str
    what: str
    to: str = ""
    moved: tuple[tuple[EventRow, str], ...] = ()


class Undoing:
    """Of one folder."""

    def __init__(self, data: FolderData) -> None:
        self._data = data
        self._lives: dict[str, bool] = {}

    def changes(self) -> list[Change]:
        """All that can be undone, newest first."""
        events = self._data.events(EVENTS_MAX)
        groups: dict[tuple[Stamp, str, str], list[tuple[EventRow, str]]] = {}
        single = {event.number: event for event in events}
        stamps = self._stamps(events)
        for event, to in self._moved(events, stamps):
            groups.setdefault((stamps[event.path], *self._top(event.path, to)), []).append((event, to))
            del single[event.number]
        for event in [
            one for one in single.values() if one.what == "removed" and _was(one).kind is Kind.FOLDER
        ]:
            for (stamp, top, to), moved in groups.items():
                if stamps.get(event.path) == stamp and f"{event.path}/".startswith(f"{top}/"):
                    moved.append((event, to + event.path[len(top) :]))
                    del single[event.number]
                    break
        found = [Change(event, event.path, event.what) for event in single.values()]
        for (_, top, to), moved in groups.items():
            found.append(Change(max(event for event, _ in moved), top, "moved", to, tuple(moved)))
        return sorted(found, key=lambda change: -change.event.number)

    def back(self, change: Change, by: bytes, at_ms: int) -> list[Write]:
        """What undoes a move: everything has its old path again, as far as it is where it was moved to."""
        writes: list[Write] = []
        now = self._winners(to for _, to in change.moved)
        for event, to in change.moved:
            old, new = _was(event), now.get(to)
            writes.append((event.path, _stamped(old, by, at_ms), None))
            if new is not None and new.equals(old):
                writes.append((to, _stamped(Value(Kind.GONE), by, at_ms), new))
        return writes

    def _stamps(self, events: Sequence[EventRow]) -> dict[str, Stamp]:
        """By whom and when the paths that are gone were removed."""
        gone = self._winners(event.path for event in events if event.what == "removed")
        return {path: (value.by, value.at_ms) for path, value in gone.items() if value.kind is Kind.GONE}

    def _moved(self, events: Sequence[EventRow], stamps: dict[str, Stamp]) -> Iterator[tuple[EventRow, str]]:
        """The events of files that were moved, and where each is now."""
        last = {event.path: event for event in reversed(events)}
        files = [
            event
            for event in last.values()
            if event.what == "removed" and event.path in stamps and _was(event).kind is Kind.FILE
        ]
        contents = list({_was(event).content for event in files})
        there: dict[tuple[Stamp, bytes], set[str]] = {}
        for path, value in self._winners(self._data.paths_with(contents)).items():
            if value.kind is Kind.FILE:
                there.setdefault(((value.by, value.at_ms), value.content), set()).add(path)
        for event in files:
            paths = there.get((stamps[event.path], _was(event).content), set())
            if paths:
                to = max(sorted(paths), key=lambda path: _same_end(event.path, path))
                paths.discard(to)
                yield event, to

    def _top(self, path: str, to: str) -> tuple[str, str]:
        """The highest folders that were one renamed into the other; the paths themselves where only they were."""
        for count in range(_same_end(path, to), 0, -1):
            top, into = _without(path, count), _without(to, count)
            if top and into and not self._lives_still(top):
                return top, into
        return path, to

    def _lives_still(self, path: str) -> bool:
        if path not in self._lives:
            value = self._winners([path]).get(path)
            is_there = value is not None and value.kind is not Kind.GONE
            self._lives[path] = is_there or self._data.lives_below(path)
        return self._lives[path]

    def _winners(self, paths: Iterable[str]) -> dict[str, Value]:
        found = {}
        for path, raw in self._data.registers(list(dict.fromkeys(paths))).items():
            first = winner(unpack(raw))
            if first is not None:
                found[path] = first[1]
        return found


def _was(event: EventRow) -> Value:
    """What the path was before."""
    first = winner(unpack(event.body))
    return first[1] if first is not None else Value(Kind.GONE)


def _stamped(value: Value, by: bytes, at_ms: int) -> Value:
    return msgspec.structs.replace(value, by=by, at_ms=at_ms)


def _without(path: str, count: int) -> str:
    """The folder in which the last `count` names are."""
    return "/".join(path.split("/")[:-count])


def _same_end(path: str, other: str) -> int:
    """How many names at the end are the same."""
    count = 0
    for one, two in zip(reversed(path.split("/")), reversed(other.split("/")), strict=False):
        if one != two:
            break
        count += 1
    return count
