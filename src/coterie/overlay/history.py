"""What a node remembers of the messages of one topic: ids, so that none counts twice, and the latest ones whole.

Memory is bounded by number and bytes, and still no message is ever taken twice: ids are forgotten oldest first, and
what is as old as a forgotten one is refused as stale.
"""

from collections.abc import Iterable
from heapq import heappop, heappush

from coterie.wire.broadcast import ID_BYTES, Gossip

_MODULUS = 1 << (8 * ID_BYTES)


class History:
    """All times are unix milliseconds.

    Args:
        age_max_ms: older messages are stale.
        skew_max_ms: messages from further in the future are refused.
        seen_max: ids remembered.
        held_max, held_bytes_max: messages kept whole, and the bytes of their payloads.
    """

    def __init__(
        self, *, age_max_ms: int, skew_max_ms: int, seen_max: int, held_max: int, held_bytes_max: int
    ) -> None:
        self._age_max_ms = age_max_ms
        self._skew_max_ms = skew_max_ms
        self._seen_max = seen_max
        self._held_max = held_max
        self._held_bytes_max = held_bytes_max
        self._seen: dict[bytes, None] = {}
        self._by_age: list[tuple[int, bytes]] = []  # a heap of what is in `_seen`
        self._held: dict[bytes, Gossip] = {}  # in the order of arrival
        self._held_bytes = 0
        self._floor = -1  # what is not newer is stale
        self._held_floor = -1  # what is not newer may have been dropped from `_held`

    def __contains__(self, id_: bytes) -> bool:
        return id_ in self._seen

    def __len__(self) -> int:
        return len(self._seen)

    @property
    def held(self) -> int:
        """How many messages are kept whole."""
        return len(self._held)

    @property
    def held_bytes(self) -> int:
        """The bytes of their payloads."""
        return self._held_bytes

    def is_timely(self, at: int, now: int) -> bool:
        """Whether a message of that time may be new at all."""
        return max(now - self._age_max_ms, self._floor) < at <= now + self._skew_max_ms

    def add(self, id_: bytes, message: Gossip, now: int) -> None:
        """Remember a message that is timely and not known."""
        self._expire(now)
        self._seen[id_] = None
        heappush(self._by_age, (message.at, id_))
        while len(self._seen) > self._seen_max:
            at, oldest = heappop(self._by_age)
            # Not beyond now: messages from the future, at most `skew_max_ms`, must not shut out those of today.
            self._floor = max(self._floor, min(at, now))
            self._forget(oldest)
        if id_ in self._seen:
            self._hold(id_, message)

    def get(self, id_: bytes) -> Gossip | None:
        """The message, if it is still held."""
        return self._held.get(id_)

    def held_since(self, now: int) -> int:
        """From this time on everything that was seen is held."""
        return max(now - self._age_max_ms, self._floor, self._held_floor, 0) + 1

    def ids(self, since: int, until: int) -> list[bytes]:
        """The ids of what is held of that time, both ends included, in the order of arrival."""
        return [id_ for id_, message in self._held.items() if since <= message.at <= until]

    def _hold(self, id_: bytes, message: Gossip) -> None:
        self._held[id_] = message
        self._held_bytes += len(message.payload)
        while len(self._held) > self._held_max or self._held_bytes > self._held_bytes_max:
            oldest = next(iter(self._held))
            self._held_floor = max(self._held_floor, self._held[oldest].at)
            self._drop(oldest)

    def _expire(self, now: int) -> None:
        by_age, limit = self._by_age, now - self._age_max_ms
        while by_age and by_age[0][0] <= limit:
            self._forget(heappop(by_age)[1])

    def _forget(self, id_: bytes) -> None:
        del self._seen[id_]
        if id_ in self._held:
            self._drop(id_)

    def _drop(self, id_: bytes) -> None:
        self._held_bytes -= len(self._held.pop(id_).payload)


def total_of(ids: Iterable[bytes]) -> bytes:
    """The sum of ids, modulo 2^128: the same for the same ids in any order."""
    return (sum(int.from_bytes(id_, "big") for id_ in ids) % _MODULUS).to_bytes(ID_BYTES, "big")
