"""Guard: nothing runs for a peer before this has allowed (peer, protocol); and how often it may ask."""

from collections.abc import Callable
from enum import Enum

from coterie.errors import AccessDenied
from coterie.identity import PeerId
from coterie.net.limits import NetLimits
from coterie.rate import Rate, RateTable
from coterie.texts import tr

MayOpen = Callable[[PeerId, str], bool]
IsBlocked = Callable[[PeerId], bool]
IsKnown = Callable[[PeerId], bool]


class Verdict(Enum):
    """What becomes of a stream that a peer asks for."""

    ADMIT = "admit"
    EXCESS = "excess"  # over the rate: this stream is reset
    EXPEL = "expel"  # over the rate for too long: the connection is closed


class _Rates:
    __slots__ = ("connections", "excess", "streams")

    def __init__(self, limits: NetLimits) -> None:
        self.connections = Rate(limits.connections_per_s, limits.connections_burst)
        self.streams = Rate(limits.streams_per_s, limits.streams_burst)
        self.excess = Rate(limits.streams_per_s, limits.streams_excess_max)


class Guard:
    """Default deny: a protocol is open to a peer if it is open to strangers or `may_open` says so.

    To a peer that `is_blocked`, nothing is open. With a `declare`, what is open to strangers is told to it instead, and
    `may_open` alone decides.

    `is_known` says who is no stranger: a contact, a member of a circle.

    Rates are kept for the `peers_tracked_max` peers seen last; a forgotten peer starts with a full bucket.
    """

    def __init__(
        self,
        may_open: MayOpen | None = None,
        *,
        limits: NetLimits | None = None,
        is_blocked: IsBlocked | None = None,
        declare: Callable[[str], None] | None = None,
        is_known: IsKnown | None = None,
    ) -> None:
        self._may_open = may_open
        self._is_blocked = is_blocked
        self._declare = declare
        self._is_known = is_known
        limits = limits or NetLimits()
        self._for_strangers: set[str] = set()
        self._rates: RateTable[PeerId, _Rates] = RateTable(limits.peers_tracked_max, lambda _: _Rates(limits))

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

    def refusal(self, peer: PeerId) -> AccessDenied:
        """The error for whoever here wants to reach a blocked peer."""
        return AccessDenied(
            tr(
                "{short} is blocked on this computer: `coterie blocked` says why, `coterie unblock` ends it",
                short=peer.short,
            )
        )

    def require_unblocked(self, peer: PeerId) -> None:
        """Raise `AccessDenied` for a blocked peer: it is neither dialled nor looked for."""
        if self.blocks(peer):
            raise self.refusal(peer)

    def knows(self, peer: PeerId) -> bool:
        """Whether `peer` is no stranger: room is kept for it, no budget holds it back. No `is_known`: everybody."""
        return self._is_known is None or self._is_known(peer)

    def admit_connection(self, peer: PeerId, now: float) -> bool:
        """Whether `peer` may connect once more at time `now` (s)."""
        return self._rates.of(peer).connections.take(now)

    def admit_stream(self, peer: PeerId, now: float) -> Verdict:
        """What becomes of one more stream from `peer` at time `now` (s)."""
        rates = self._rates.of(peer)
        if rates.streams.take(now):
            return Verdict.ADMIT
        return Verdict.EXCESS if rates.excess.take(now) else Verdict.EXPEL
