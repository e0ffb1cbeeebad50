"""Guard: nothing runs for a peer before this has allowed (peer, protocol); and how often it may ask."""

from collections import OrderedDict
from collections.abc import Callable
from enum import Enum

from coterie.errors import UsageError
from coterie.identity import PeerId
from coterie.net.limits import NetLimits

MayOpen = Callable[[PeerId, str], bool]
IsBlocked = Callable[[PeerId], bool]


class Verdict(Enum):
    """What becomes of a stream that a peer asks for."""

    ADMIT = "admit"
    EXCESS = "excess"  # over the rate: this stream is reset
    EXPEL = "expel"  # over the rate for too long: the connection is closed


class TokenBucket:
    """`burst` at once, `per_s` in the long run. The clock is the caller's."""

    __slots__ = ("_at", "_burst", "_per_s", "_tokens")

    def __init__(self, per_s: float, burst: float, now: float) -> None:
        self._per_s = per_s
        self._burst = burst
        self._tokens = burst
        self._at = now

    def take(self, now: float, amount: float = 1) -> bool:
        """Whether `amount` more fits at time `now` (s); takes it if so."""
        self._tokens = min(self._burst, self._tokens + max(0.0, now - self._at) * self._per_s)
        self._at = now
        if self._tokens < amount:
            return False
        self._tokens -= amount
        return True


class _Rates:
    __slots__ = ("connections", "excess", "streams")

    def __init__(self, limits: NetLimits, now: float) -> None:
        self.connections = TokenBucket(limits.connections_per_s, limits.connections_burst, now)
        self.streams = TokenBucket(limits.streams_per_s, limits.streams_burst, now)
        self.excess = TokenBucket(limits.streams_per_s, limits.streams_excess_max, now)


class Guard:
    """Default deny: a protocol is open to a peer if it is open to strangers or `may_open` says so.

    To a peer that `is_blocked`, nothing is open. With a `declare`, what is open to strangers is told to it instead, and
    `may_open` alone decides.

    Rates are kept for the `peers_tracked_max` peers seen last; a forgotten peer starts with a full bucket.
    """

    def __init__(
        self,
        may_open: MayOpen | None = None,
        *,
        limits: NetLimits | None = None,
        is_blocked: IsBlocked | None = None,
        declare: Callable[[str], None] | None = None,
    ) -> None:
        self._may_open = may_open
        self._is_blocked = is_blocked
        self._declare = declare
        self._limits = limits or NetLimits()
        self._for_strangers: set[str] = set()
        self._rates: OrderedDict[PeerId, _Rates] = OrderedDict()
        if self._limits.peers_tracked_max < 1:
            raise UsageError("peers_tracked_max must be at least 1")

    @property
    def peers_tracked(self) -> int:
        """How many peers the table of rates holds now."""
        return len(self._rates)

    def open_to_strangers(self, protocol: str) -> None:
        """Let everybody open `protocol`."""
        if self._declare is not None:
            self._declare(protocol)
        else:
            self._for_strangers.add(protocol)

    def allows(self, peer: PeerId, protocol: str) -> bool:
        """Whether `peer` may open `protocol`. Asked before any handler runs."""
        if self.blocks(peer):
            return False
        if protocol in self._for_strangers:
            return True
        return self._may_open is not None and bool(self._may_open(peer, protocol))

    def blocks(self, peer: PeerId) -> bool:
        """Whether `peer` gets nothing at all, not even a connection."""
        return self._is_blocked is not None and self._is_blocked(peer)

    def admit_connection(self, peer: PeerId, now: float) -> bool:
        """Whether `peer` may connect once more at time `now` (s)."""
        return self._of(peer, now).connections.take(now)

    def admit_stream(self, peer: PeerId, now: float) -> Verdict:
        """What becomes of one more stream from `peer` at time `now` (s)."""
        rates = self._of(peer, now)
        if rates.streams.take(now):
            return Verdict.ADMIT
        return Verdict.EXCESS if rates.excess.take(now) else Verdict.EXPEL

    def _of(self, peer: PeerId, now: float) -> _Rates:
        rates = self._rates.get(peer)
        if rates is None:
            rates = self._rates[peer] = _Rates(self._limits, now)
            if len(self._rates) > self._limits.peers_tracked_max:
                self._rates.popitem(last=False)
        else:
            self._rates.move_to_end(peer)
        return rates
