"""Stops what looks like a disaster: many files that go, or become something else, within minutes. Pure.

A deletion by mistake and a program that encrypts everything look the same from here: more than a share of all files
lose what they had. It is weighed on both sides: before the computer where it happens tells anybody, and before another
does it. Renames do not count: the content is still there. What is held waits until the owner says so.
"""

from collections import Counter, deque
from collections.abc import Callable, Container, Iterable, Sequence

import msgspec

from coterie.apps.folders.register import Kind
from coterie.apps.folders.steps import Agree, Put, Record, Remove, RemoveFolder, Step

SHARE = 0.20  # of the files; guess
FILES_MIN = 50  # below it nothing is held; guess
WITHIN_S = 600.0  # seconds; guess: a program that encrypts is quick
LOSSES_MAX = 10_000  # remembered one by one; more are a disaster in any folder that has not 50,000 files


class Hold(msgspec.Struct, frozen=True):
    """What is held: how many files would go and change, of how many; of how many minutes these are."""

    gone: int
    changed: int
    files: int
    within_s: float

    @property
    def count(self) -> int:
        """All together."""
        return self.gone + self.changed


class KeptBrake(msgspec.Struct, frozen=True, array_like=True):
    """A brake over a restart: (seconds ago, gone, changed) of what passed; for how many seconds all is allowed."""

    passed: list[tuple[float, int, int]] = []
    allowed_s: float = 0.0


class Brake:
    """One for each folder and direction. `share`, `files_min`, `within_s`: settings."""

    def __init__(
        self, *, share: float = SHARE, files_min: int = FILES_MIN, within_s: float = WITHIN_S
    ) -> None:
        self._share = share
        self._files_min = files_min
        self._within_s = within_s
        self._passed: deque[tuple[float, int, int]] = deque(maxlen=LOSSES_MAX)  # (when, gone, changed)
        self._allowed_until = -1.0

    def weigh(self, steps: Sequence[Step], files: int, now: float) -> Hold | None:
        """`held`, and `passed` where nothing is."""
        hold = self.held(steps, lambda: files, now)
        if hold is None:
            self.passed(steps, now)
        return hold

    def held(
        self, steps: Iterable[Step], files: Callable[[], int], now: float, elsewhere: Container[bytes] = ()
    ) -> Hold | None:
        """Whether these steps are to wait, together with what passed within the last minutes.

        Args:
            files: how many are in the folder before all that; asked where it matters.
            now: seconds on a clock that does not go back.
            elsewhere: contents that are, or will be, at other places: what has them is only moved.
        """
        while self._passed and self._passed[0][0] < now - self._within_s:
            self._passed.popleft()
        gone, changed = losses(steps, elsewhere)
        if not gone and not changed:
            return None
        gone_before = sum(one[1] for one in self._passed)
        changed_before = sum(one[2] for one in self._passed)
        count = gone + changed + gone_before + changed_before
        if count < self._files_min or now <= self._allowed_until or self._share >= 1:
            return None
        all_files = files() + gone_before
        if count <= self._share * all_files:
            return None
        return Hold(gone + gone_before, changed + changed_before, all_files, self._within_s)

    def passed(self, steps: Iterable[Step], now: float, elsewhere: Container[bytes] = ()) -> None:
        """These were done."""
        gone, changed = losses(steps, elsewhere)
        if gone or changed:
            self._passed.append((now, gone, changed))

    def kept(self, now: float) -> KeptBrake:
        """What is to be known after a restart."""
        passed = [(now - when, gone, changed) for when, gone, changed in self._passed]
        return KeptBrake(passed, max(self._allowed_until - now, 0.0))

    def restore(self, kept: KeptBrake, now: float) -> None:
        """Go on with what was `kept`."""
        self._passed.extend((now - ago, gone, changed) for ago, gone, changed in kept.passed)
        self._allowed_until = now + kept.allowed_s if kept.allowed_s else -1.0

    def let_go(self, now: float) -> None:
        """The owner has seen it: what is held may happen, with what follows within the next minutes."""
        self._passed.clear()
        self._allowed_until = now + self._within_s


def losses(steps: Iterable[Step], elsewhere: Container[bytes] = ()) -> tuple[int, int]:
    """How many files go, and how many become others, by these steps; a content that is only moved does neither."""
    gone: Counter[bytes] = Counter()
    changed = 0
    stays: Counter[bytes] = Counter()
    for step in steps:
        match step:
            case Record(value=value, was=was):
                if value.kind == Kind.FILE:
                    stays[value.content] += 1
                if was and value.kind != Kind.FILE:
                    gone[was] += 1
                elif was and was != value.content:
                    changed += 1
            case Remove(expects_content=content) if content:
                gone[content] += 1
            case Put(value=value, expects_content=was):
                stays[value.content] += 1
                changed += bool(was) and was != value.content
            case Agree(agreed=agreed) if agreed is not None:
                stays[agreed.value.content] += 1
    lost = gone - stays
    return sum(number for content, number in lost.items() if content not in elsewhere), changed


def waits_too(step: Step) -> bool:
    """Whether the step waits while something is held: a loss, or the end of a folder in which there was one."""
    if isinstance(step, Record) and step.value.kind == Kind.GONE:
        return True
    return isinstance(step, RemoveFolder) or is_loss(step)


def is_loss(step: Step) -> bool:
    """Whether the step is one of those that wait while something is held: of the others nobody loses anything."""
    match step:
        case Record(was=was, value=value):
            return bool(was) and was != value.content
        case Remove():
            return True
        case Put(expects=expects):
            return expects is not None
    return False
