"""The one limiter of rates, a token bucket over injected time. Pure."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from coterie.errors import UsageError
from coterie.texts import tr

K = TypeVar("K", bound=Hashable)
R = TypeVar("R")


class Rate:
    """`per_s` in the long run, `burst` at once after a time of quiet. The unit and the clock (s) are the caller's.

    A clock that goes back gives nothing. `spend` may overdraw: the debt is paid before anything is taken again.
    """

    __slots__ = ("_at", "_burst", "_left", "_per_s")

    def __init__(self, per_s: float, burst: float) -> None:
        self._per_s = per_s
        self._burst = self._left = burst
        self._at = 0.0

    def change(self, per_s: float, burst: float) -> None:
        """Other figures from now on; what was saved up or owed stays, up to the new `burst`."""
        self._per_s, self._burst = per_s, burst
        self._left = min(self._left, burst)

    def take(self, now: float, amount: float = 1.0) -> bool:
        """Whether `amount` more fits at time `now`; it is counted if so."""
        self._refill(now)
        if self._left < amount:
            return False
        self._left -= amount
        return True

    def spend(self, now: float, amount: float = 1.0) -> float:
        """Count `amount`, whether it fits or not; how long (s) to wait until nothing is owed, 0 when nothing is."""
        self._refill(now)
        self._left -= amount
        return self._debt_s()

    def ready_at(self, now: float) -> float:
        """When nothing is owed any more: `now`, or later."""
        self._refill(now)
        return now + self._debt_s()

    def _refill(self, now: float) -> None:
        self._left = min(self._burst, self._left + max(0.0, now - self._at) * self._per_s)
        self._at = now

    def _debt_s(self) -> float:
        if self._left >= 0:
            return 0.0
        return -self._left / self._per_s if self._per_s else float("inf")


class RateTable(Generic[K, R]):
    """What `make` gives for each key (a `Rate`, or several), for the `keys_max` keys seen last.

    A key that was forgotten begins anew. Raises `UsageError` for a table without room.
    """

    def __init__(self, keys_max: int, make: Callable[[K], R]) -> None:
        if keys_max < 1:
            raise UsageError(tr("a table of rates needs room for one key at least"))
        self._keys_max = keys_max
        self._make = make
        self._rates: OrderedDict[K, R] = OrderedDict()

    def __len__(self) -> int:
        return len(self._rates)

    def of(self, key: K) -> R:
        """The rates of `key`."""
        found = self._rates.get(key)
        if found is not None:
            self._rates.move_to_end(key)
            return found
        found = self._rates[key] = self._make(key)
        if len(self._rates) > self._keys_max:
            self._rates.popitem(last=False)
        return found
