"""Which paths somebody writes who saw more than this disk shows: over the drive, all of a folder is seen."""

import time
from collections.abc import Callable

WRITTEN_S = 60.0  # after which the change was found, or never came
WRITING_MAX = 10_000  # paths; those of a program that copies a folder. Guess


class Overwriting:
    """Of one folder. For any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until: dict[str, float] = {}

    def begin(self, path: str) -> None:
        """`path` is about to be written."""
        now = self._clock()
        while self._until and (len(self._until) >= WRITING_MAX or next(iter(self._until.values())) <= now):
            del self._until[next(iter(self._until))]
        self._until.pop(path, None)
        self._until[path] = now + WRITTEN_S

    def overwrites(self, path: str) -> bool:
        """Whether what is found at `path` replaces what the folder has there."""
        return self._until.get(path, 0.0) > self._clock()
