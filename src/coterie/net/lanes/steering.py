"""How a lane sends: by losses, as the system has it, or by the rate that arrives, and no faster than what. Pure."""

from coterie.net.lanes.ceilings import Ceiling, LossCeiling
from coterie.net.lanes.choice import FAR_US, VERY_FAR_US, LossWatch, PathSeen

LONG_US = 50_000  # round trip; guess: from here on what is under way may be more than the system has room for


class Steering:
    """For one lane. `by_rate`: how it sends now; `is_lossy`: it goes by the rate for good."""

    def __init__(self, least_rtt_us: int = 0) -> None:
        """The least round trip seen so far: 0: not known."""
        self.is_lossy = least_rtt_us >= VERY_FAR_US
        self.by_rate = least_rtt_us >= FAR_US
        self._watch = LossWatch()
        self._ceiling = Ceiling()
        self._loss_ceiling = LossCeiling() if least_rtt_us > LONG_US else None

    def pace(self, seen: PathSeen, rate: int, now: float, *, beside_rate_based: bool = False) -> int | None:
        """Bytes a second at most, 0: any number, None: as before. `rate`: at which data arrived there last.

        `beside_rate_based`: as for `LossWatch`.
        """
        if not self.is_lossy and self._watch.is_lossy(seen, beside_rate_based=beside_rate_based):
            self.is_lossy = self.by_rate = True
            return None
        if self.is_lossy:
            return self._ceiling.limit(seen, rate, now)
        if self._loss_ceiling is None:
            return None
        limit = self._loss_ceiling.limit(seen, rate, now)
        self.by_rate &= not self._loss_ceiling.is_full
        return limit
