"""How fast a transfer was lately, second by second."""

from collections import deque

RATES_MAX = 300  # seconds that are remembered: five minutes, as much as a picture shows


class RateHistory:
    """The rates of the last RATES_MAX seconds. The clock (s) is the caller's."""

    def __init__(self) -> None:
        self._rates: deque[int] = deque(maxlen=RATES_MAX)
        self._second = 0

    def note(self, now: float, rate: float) -> None:
        """The rate (bytes a second) at time `now`; of several in one second the last counts, a gap is 0."""
        second = int(now)
        if not self._rates or second > self._second:
            gap = second - self._second - 1 if self._rates else 0
            self._rates.extend([0] * min(gap, RATES_MAX))
            self._rates.append(round(rate))
            self._second = second
        else:
            self._rates[-1] = round(rate)

    def per_second(self) -> list[int]:
        """Bytes a second, the newest last."""
        return list(self._rates)
