"""Chunks of a large file as one peer brings them: written at once, or block by block when they come in one long run;
zeros stay holes.

A kill loses the blocks that wait, so runs begin late, where few kills fall.
"""

from collections import deque
from contextlib import suppress

from coterie.content.direct import DirectRun
from coterie.content.large_file import LargeFile
from coterie.identity import PeerId

RUN_AFTER_BYTES = 192 << 20  # as `lane.LITTLE_UNTIL_BYTES`: few of twenty kills in 2 GB come later


class Streak:
    """What one peer brings. Not for several threads at once. Any call raises OSError when the disk fails."""

    def __init__(self, run_after_bytes: int = RUN_AFTER_BYTES) -> None:
        self._run_after_bytes = run_after_bytes
        self.file: object = None
        self._end = 0  # of the last chunk
        self._row_bytes = 0
        self._run: DirectRun | None = None
        self._waiting: deque[tuple[int, int]] = deque()  # chunks on their way: (where they end, how many)
        self._room: memoryview | None = None
        self._landed = 0

    @property
    def is_idle(self) -> bool:
        """Whether no row goes on, and all that landed was told."""
        return self.file is None and not self._landed

    def room(self, size: int) -> memoryview | None:
        """Where what this peer brings next can be put, to save a copy; None: anywhere."""
        self._room = self._run.room(size) if self._run is not None else None
        return self._room

    def write(
        self, file: object, large: LargeFile, offset: int, data: bytes | memoryview, chunks: int = 1
    ) -> None:
        """Write verified chunks that follow each other, now or a little later."""
        if large.leave_hole(offset, data):
            self.end()
            self._landed += chunks
            return
        if file is not self.file or offset != self._end:
            self.end()
            self.file = file
        self._row_bytes += len(data)
        self._end = offset + len(data)
        if self._run is None and self._row_bytes >= self._run_after_bytes:
            self._run = large.run(offset)
            self._row_bytes = 0
        if self._run is None:
            large.write_at(offset, data)
            self._landed += chunks
            return
        self._waiting.append((self._end, chunks))
        if data is self._room:
            self._run.add_in_room(len(data))
        else:
            self._run.add(data)
        self._room = None

    def landed(self) -> int:
        """How many chunks are in the file that were not when this was asked last."""
        if self._run is not None:
            written = self._run.written
            while self._waiting and self._waiting[0][0] <= written:
                self._landed += self._waiting.popleft()[1]
        landed, self._landed = self._landed, 0
        return landed

    def end(self) -> None:
        """Everything is in the file afterwards; what comes next begins a new row."""
        run, self._run = self._run, None
        waiting, self._waiting = self._waiting, deque()
        self.file, self._room, self._row_bytes = None, None, 0
        if run is None:
            return
        try:
            run.flush()
        finally:
            run.close()
        self._landed += sum(count for _, count in waiting)


class Streaks:
    """What each peer brings. Any call but `close` raises OSError when the disk fails."""

    def __init__(self) -> None:
        self._of: dict[PeerId, Streak] = {}

    def of(self, peer: PeerId) -> Streak:
        """That of one peer."""
        return self._of.setdefault(peer, Streak())

    def room(self, peer: PeerId, size: int) -> memoryview | None:
        """As `Streak.room`."""
        streak = self._of.get(peer)
        return streak.room(size) if streak is not None else None

    def is_idle(self, peer: PeerId) -> bool:
        """Whether `settle` has nothing to do."""
        streak = self._of.get(peer)
        return streak is None or streak.is_idle

    def settle(self, peer: PeerId) -> int:
        """See to it that all that `peer` brought is in its file; how many chunks that were not told."""
        streak = self._of.get(peer)
        if streak is None:
            return 0
        streak.end()
        return streak.landed()

    def settle_file(self, file: object) -> None:
        """The same for all that came of one file; who brought it is told later."""
        for streak in self._of.values():
            if streak.file is file:
                streak.end()

    def close(self) -> None:
        """End them all; what a disk does not take is fetched again."""
        for streak in self._of.values():
            with suppress(OSError):
                streak.end()
