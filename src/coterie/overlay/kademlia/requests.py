"""Our requests under way: which are late, slow or failed, and how long an answer takes as a rule. Pure."""

from typing import NamedTuple

from coterie.identity import PeerId
from coterie.overlay.kademlia.limits import KademliaLimits
from coterie.overlay.kademlia.task import Rpc

_GAIN, _DEVIATION_GAIN, _DEVIATIONS = 1 / 8, 1 / 4, 4  # RFC 6298 section 2
_LATE_DEVIATIONS = 2  # measured with the delays of the King data set: 9 of 10 answers come before


class Overdue(NamedTuple):
    """Requests that have just become late or slow, those that have failed and are forgotten, when to look again."""

    late: list[Rpc]
    slow: list[Rpc]
    failed: list[Rpc]
    again_at: float | None


class Requests:
    """Requests by number, in the order in which they were sent; at most `requests_max`."""

    def __init__(self, limits: KademliaLimits, first: int) -> None:
        self._limits = limits
        self._number = first
        self._pending: dict[int, Rpc] = {}
        self._rtt_s = limits.slow_min_s
        self._deviation_s = limits.slow_min_s / 2

    def __len__(self) -> int:
        return len(self._pending)

    @property
    def is_full(self) -> bool:
        """Whether no further request may be sent."""
        return len(self._pending) >= self._limits.requests_max

    @property
    def slow_s(self) -> float:
        """From this age on a request is slow: as TCP finds its retransmission time, within the limits."""
        limits = self._limits
        return min(limits.slow_max_s, max(limits.slow_min_s, self._rtt_s + _DEVIATIONS * self._deviation_s))

    @property
    def late_s(self) -> float:
        """From this age on a request is late: most answers come before."""
        late_s = self._rtt_s + _LATE_DEVIATIONS * self._deviation_s
        return min(self.slow_s, max(self._limits.late_min_s, late_s))

    def add(self, rpc: Rpc) -> int:
        """Note `rpc` as sent; its number."""
        self._number = number = (self._number + 1) & 0xFFFFFFFF
        self._pending[number] = rpc
        return number

    def take(self, number: int, peer: PeerId, now: float) -> Rpc | None:
        """The request that `peer` answers under `number`; None if it was not asked that."""
        rpc = self._pending.get(number)
        if rpc is None or rpc.peer != peer:
            return None
        del self._pending[number]
        if not rpc.is_slow:  # a slow one may have been lost and dialled again: no measure of the line
            error = now - rpc.at - self._rtt_s
            self._rtt_s += _GAIN * error
            self._deviation_s += _DEVIATION_GAIN * (abs(error) - self._deviation_s)
        return rpc

    def drop(self, peer: PeerId) -> list[Rpc]:
        """Forget and return all requests to `peer`."""
        numbers = [number for number, rpc in self._pending.items() if rpc.peer == peer]
        return [self._pending.pop(number) for number in numbers]

    def overdue(self, now: float) -> Overdue:
        """Look at all requests."""
        late: list[Rpc] = []
        slow: list[Rpc] = []
        failed: list[int] = []
        late_s, slow_s, timeout_s = self.late_s, self.slow_s, self._limits.timeout_s
        again_at: float | None = None
        for number, rpc in self._pending.items():
            if rpc.at + timeout_s <= now:
                failed.append(number)
                continue
            if not rpc.is_slow and rpc.at + slow_s <= now:
                rpc.is_late = rpc.is_slow = True
                slow.append(rpc)
            elif not rpc.is_late and rpc.at + late_s <= now:
                rpc.is_late = True
                late.append(rpc)
            due_s = timeout_s if rpc.is_slow else slow_s if rpc.is_late else late_s
            again_at = rpc.at + due_s if again_at is None else min(again_at, rpc.at + due_s)
            if not rpc.is_late:  # nor is any that was sent after it
                break
        return Overdue(late, slow, [self._pending.pop(number) for number in failed], again_at)
