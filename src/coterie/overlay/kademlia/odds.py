"""How likely a peer answers whose last sign of life is so long ago. Pure.

A curve with one unknown, the pace at which peers leave, which is learned from those that were asked.
"""

from math import exp

LEFT_S = (
    1_620.0  # at pace 1, of peers last seen so long ago one in e answers; measured with sessions of an hour
)
UNKNOWN_S = 600  # as old as this is who was named without an age; guess
ODDS_MIN = 0.2  # whatever we are told of ages, at most 5 are asked in the hope of one answer
LATE_SHARE = 0.1  # of answers that are late: see `requests.py`
PACE_MAX = 3.0  # guess: sessions of 20 min
_PRIOR = 8.0  # outcomes as expected at pace 1, with which a node begins; guess
_KEPT = 1 - 1 / 256  # weight of what was learned before, at each further outcome: some 10 lookups; guess


class Odds:
    """Learns by `note`; remembers two numbers, no peer."""

    __slots__ = ("_expected", "_gone")

    def __init__(self) -> None:
        self._gone = self._expected = _PRIOR

    @property
    def pace(self) -> float:
        """How fast peers leave: 1 when half of the sessions end within an hour, near 0 when nobody leaves."""
        return min(PACE_MAX, self._gone / self._expected)

    def note(self, age_s: int | None, *, answered: bool) -> None:
        """A peer last seen `age_s` ago answered, or did not."""
        self._gone = self._gone * _KEPT + (not answered)
        self._expected = self._expected * _KEPT + 1 - exp(-_age(age_s) / LEFT_S)


def odds(age_s: int | None, pace: float) -> float:
    """Probability that a peer last seen `age_s` ago answers: ODDS_MIN to 1."""
    return max(ODDS_MIN, exp(-_age(age_s) / LEFT_S * pace))


def _age(age_s: int | None) -> int:
    return UNKNOWN_S if age_s is None else age_s
