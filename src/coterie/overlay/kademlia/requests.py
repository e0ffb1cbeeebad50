"""Our requests under way: which are slow, which have failed, and how long an answer takes as a rule. Pure."""

from coterie.identity import PeerId
from coterie.overlay.kademlia.limits import KademliaLimits
from coterie.overlay.kademlia.task import Rpc

_GAIN, _DEVIATION_GAIN, _DEVIATIONS = 1 / 8, 1 / 4, 4  # RFC 6298 section 2


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

    def overdue(self, now: float) -> tuple[list[Rpc], list[Rpc], float | None]:
        """(those that have just become slow, those that have failed and are forgotten, when to look again)."""
        slow: list[Rpc] = []
        failed: list[int] = []
        slow_s, timeout_s = self.slow_s, self._limits.timeout_s
        again_at: float | None = None
        for number, rpc in self._pending.items():
            if rpc.at + timeout_s <= now:
                failed.append(number)
                continue
            if again_at is None:
                again_at = rpc.at + timeout_s
            if rpc.is_slow:
                continue
            if rpc.at + slow_s > now:  # so are all that were sent after it
                again_at = min(again_at, rpc.at + slow_s)
                break
            rpc.is_slow = True
            slow.append(rpc)
        return slow, [self._pending.pop(number) for number in failed], again_at
