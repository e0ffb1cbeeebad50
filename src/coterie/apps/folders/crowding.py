"""How many paths a live folder may have: what would be one too many is not taken, and the list of folders says so."""

from collections.abc import Callable, Sequence

from coterie.apps.folders.register import Kind
from coterie.apps.folders.steps import Record, Step
from coterie.errors import LimitExceeded
from coterie.texts import tr

PATHS_MAX = (
    1_000_000  # of one folder, with those of what is gone; guess: 400 MB of rows, and a look takes 5 s
)


class Crowding:
    """Of one folder. Who writes registers calls it, one after the other."""

    def __init__(self, count: int) -> None:
        """`count`: paths that there are."""
        self.why = ""
        """Why further paths are not taken; "": they are."""
        self._count = count

    def came(self, count: int) -> None:
        """So many more paths are kept now."""
        self._count += count

    def has_room(self, more: int) -> bool:
        """Whether so many more paths may come."""
        return not more or self._count + more <= PATHS_MAX

    def check(self, more: int) -> None:
        """Raise LimitExceeded unless so many more paths may come."""
        if not self.has_room(more):
            raise LimitExceeded(self._crowded())

    def within(self, steps: Sequence[Step], is_new: Callable[[str], bool]) -> list[Step]:
        """Without the paths of here that are too many; then without deletions too, which may be half of a rename."""
        if self._count + len(steps) <= PATHS_MAX:
            return list(steps)
        new = dict.fromkeys(step.path for step in steps if isinstance(step, Record) and is_new(step.path))
        late = set(list(new)[max(0, PATHS_MAX - self._count) :])
        if not late:
            return list(steps)
        self._crowded()
        return [
            step
            for step in steps
            if not (isinstance(step, Record) and (step.path in late or step.value.kind == Kind.GONE))
        ]

    def _crowded(self) -> str:
        self.why = tr(
            "this live folder has {paths_max} paths, as many as one may have, and takes no more: make a second "
            "one of a part of it",
            paths_max=PATHS_MAX,
        )
        return self.why
