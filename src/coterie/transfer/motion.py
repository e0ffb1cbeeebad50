"""Whether bytes of a transfer still move: a line that is cut says nothing for a while. Pure."""

STILL_S = 2.0  # without a byte: people are told by then; guess
GAPS = 3.0  # as many usual gaps between two steps: a slow line moves in chunks; guess
FORGET = 0.8  # of the usual gap that is left after each step that came sooner


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
