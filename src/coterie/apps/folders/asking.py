"""Mass deletions and encryptions of one folder wait here, in both directions, until the owner has said what is right.

Blocking where the rows are read. What waits is not kept: after a restart the same is found again, and weighed again.
"""

import time
from collections import Counter
from collections.abc import Sequence

import msgspec

from coterie.apps.folders.book import FolderBook
from coterie.apps.folders.brake import is_loss
from coterie.apps.folders.holding import Holding, text
from coterie.apps.folders.planner import Rules
from coterie.apps.folders.register import Kind, Value
from coterie.apps.folders.settings import Settings
from coterie.apps.folders.steps import Agree, Agreed, Record, RemoveFolder, Step

GO_ON, KEEP = "go on", "keep"


class Asking:
    """Of one folder. `here`: what this disk says, by local name; `there`: what others say, by path."""

    def __init__(self, settings: Settings) -> None:
        self.here = Holding(settings)
        self.there = Holding(settings)
        self.answer = ""
        """GO_ON or KEEP, once the owner has said so; whoever works on the disk does it."""

    @property
    def is_waiting(self) -> bool:
        """Whether something waits."""
        return self.here.hold is not None or self.there.hold is not None

    def text(self, name: str) -> str:
        """What the owner of the folder `name` is asked; "" when nothing waits."""
        return text(name, self.here.hold, self.there.hold)

    # ---- in threads

    def stops_here(self, book: FolderBook, notes: Sequence[Step]) -> bool:
        """Whether these are not to be recorded now."""

        return self.here.holds(
            notes,
            time.monotonic(),
            files=lambda: book.data.totals()[0],
            elsewhere=lambda: _coming_or_staying(book, notes),
        )

    def stops_there(self, book: FolderBook, steps: Sequence[Step]) -> bool:
        """Whether these are not to be done now."""
        return self.there.holds(
            steps,
            time.monotonic(),
            files=book.data.files_here,
            elsewhere=lambda: set(book.data.living_contents()),
        )

    def passed_here(self, book: FolderBook, notes: Sequence[Step]) -> None:
        """These were recorded."""
        self.here.passed(
            notes, time.monotonic(), elsewhere=lambda: {*book.data.living_contents(), *book.coming_contents()}
        )

    def passed_there(self, book: FolderBook, steps: Sequence[Step]) -> None:
        """These were done."""
        self.there.passed(steps, time.monotonic(), elsewhere=lambda: set(book.data.living_contents()))

    def keep(self, book: FolderBook, rules: Rules, by: bytes) -> tuple[dict[str, None], dict[str, None]]:
        """Undo what waits; the local names and paths that are to be planned then.

        What went here comes back from the registers, and what became another there is a version then; what others
        removed or changed is written anew as it is here.
        """
        local, paths = self.here.taken(), self.there.taken()
        now = time.monotonic()
        self.there.let_go(now)  # what comes back here replaces what was changed
        at_ms = int(time.time() * 1000)
        lost = [
            step
            for step in book.plan(rules, list(local), [])
            if isinstance(step, Record) and (step.value.kind == Kind.GONE or is_loss(step))
        ]
        book.note([_as_found(step) for step in lost], by, at_ms)
        values: dict[str, Value] = {}
        for step in book.plan(rules, [], list(paths)):
            agreed = book.agreed(step.local) if is_loss(step) or isinstance(step, RemoveFolder) else None
            if agreed is not None and not agreed.is_copy:
                values[agreed.path] = msgspec.structs.replace(agreed.value, by=by, at_ms=at_ms)
        book.settle(values)
        paths.update(dict.fromkeys(step.path for step in lost))
        return local, paths

    def go_on(self) -> tuple[dict[str, None], dict[str, None]]:
        """What waits may happen; the local names and paths that are to be planned then."""
        now = time.monotonic()
        self.here.let_go(now)
        self.there.let_go(now)
        return self.here.taken(), self.there.taken()


def _coming_or_staying(book: FolderBook, notes: Sequence[Step]) -> set[bytes]:
    """Contents that are at other places, too, once these are recorded."""
    gone = Counter(step.was for step in notes if isinstance(step, Record) and step.value.kind != Kind.FILE)
    living = Counter(book.data.living_contents())
    return {content for content in gone if living[content] > gone[content]} | book.coming_contents()


def _as_found(step: Record) -> Agree:
    """What is here counts as shown by others, who have replaced it since."""
    if step.print is None:
        return Agree(step.local, None)
    return Agree(step.local, Agreed(step.path, (), step.value, step.print, step.is_copy))
