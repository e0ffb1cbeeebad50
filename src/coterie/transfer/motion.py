"""Whether bytes of a transfer still move, and how fast: a line that is cut says nothing for a while. Pure."""

import math

STILL_S = 2.0  # without a byte: people are told by then; guess
GAPS = 3.0  # as many usual gaps between two steps: a slow line moves in chunks; guess
FORGET = 0.8  # of the usual gap that is left after each step that came sooner
MEMORY_S = 2.0  # what was so long ago has 1/e of its weight in the rate that is shown; guess


class Motion:
    """Fed with the bytes so far; says when they stand still, measured by how they moved before."""

    def __init__(self, now: float) -> None:
        """`now`: seconds, of a clock that never goes back."""
        self._total = 0
        self._at = now
        self._gap_s = 0.0

    def at(self, total: int, now: float) -> None:
        """`total` bytes have moved by `now`."""
        if total != self._total:
            self._gap_s = max(now - self._at, self._gap_s * FORGET)
            self._total, self._at = total, now

    def is_still(self, now: float) -> bool:
        """Whether nothing has moved for longer than it usually takes."""
        return now - self._at > max(STILL_S, GAPS * self._gap_s)


class Pace:
    """Fed with the bytes so far; the rate is measured from step to step: a slow line moves in chunks."""

    def __init__(self, total: int, now: float) -> None:
        """`total` bytes have come before; `now`: as for `Motion`."""
        self._total = total
        self._at = now
        self._rate = 0.0

    def at(self, total: int, now: float) -> float:
        """`total` bytes have come by `now`; bytes a second. Fewer than before: they count anew."""
        moved, elapsed = total - self._total, now - self._at
        if moved and elapsed > 0:
            seen, left = max(moved, 0) / elapsed, math.exp(-elapsed / MEMORY_S) if self._rate else 0.0
            self._rate = left * self._rate + (1 - left) * seen
            self._total, self._at = total, now
        return self._rate

    def rest(self, now: float) -> None:
        """Nothing comes: what comes next is measured from now on."""
        self._rate, self._at = 0.0, now
