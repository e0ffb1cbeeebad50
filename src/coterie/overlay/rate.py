"""A token bucket over injected time."""


class Bucket:
    """Lets `burst` things pass at once and `per_s` each second after that."""

    __slots__ = ("_at", "_burst", "_left", "_per_s")

    def __init__(self, per_s: float, burst: float) -> None:
        self._per_s = per_s
        self._burst = self._left = burst
        self._at = 0.0

    def take(self, now: float, count: float = 1.0) -> bool:
        """Whether `count` more may pass at time `now` (s); if so they are counted."""
        self._left = min(self._burst, self._left + max(0.0, now - self._at) * self._per_s)
        self._at = now
        if self._left < count:
            return False
        self._left -= count
        return True
