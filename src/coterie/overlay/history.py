"""What a node remembers of the messages of one topic: ids, so that none counts twice, and the latest ones whole.

Memory is bounded by number and bytes, and still no message is ever taken twice: of the author who has most here the
oldest is forgotten first, and what that author dates as old as a forgotten one is refused as stale. So who floods a
topic, dated today or in the future, pushes out itself and makes stale what is its own.
"""

from collections.abc import Iterable
from heapq import heappop, heappush

from coterie.crowd import Crowd
from coterie.identity import PeerId
from coterie.wire.broadcast import ID_BYTES, Gossip

FLOOD_SHARE = 0.75  # of what is held whole: who has more of it than this, beside others, floods; guess
HELD_COST_BYTES = 256  # what a message takes beside its payload, for who has most
GRACE_MS = 60_000  # guess: no message of honest clocks is so long under way

_MODULUS = 1 << (8 * ID_BYTES)


class History:
    """All times are unix milliseconds.

    Args:
        age_max_ms: older messages are stale.
        skew_max_ms: messages from further in the future are refused.
        seen_max: ids remembered, and authors of whom some are forgotten.
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
        self._seen: Crowd[bytes, bytes] = Crowd()
        self._by_age: list[tuple[int, bytes]] = []  # a heap of what is in `_seen`, and of what was
        self._of_author: dict[bytes, list[tuple[int, bytes]]] = {}  # the same for each author
        self._held: dict[bytes, Gossip] = {}  # in the order of arrival
        self._holders: Crowd[bytes, bytes] = Crowd()  # whose they are
        self._held_bytes = 0
        self._floors: dict[bytes, int] = {}  # what an author dates not newer is stale
        self._floor = -1  # and of all authors
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

    @property
    def floors(self) -> int:
        """Of how many authors something was forgotten before its time."""
        return len(self._floors)

    def is_timely(self, author: PeerId, at: int, now: int) -> bool:
        """Whether a message of that author and time may be new at all."""
        floor = max(now - self._age_max_ms, self._floor, self._floors.get(bytes(author), -1))
        return floor < at <= now + self._skew_max_ms

    def add(self, id_: bytes, message: Gossip, now: int) -> None:
        """Remember a message that is timely and not known."""
        self._expire(now)
        author = bytes(message.author)
        self._seen.add(id_, author)
        entry = message.at, id_
        heappush(self._by_age, entry)
        heappush(self._of_author.setdefault(author, []), entry)
        while len(self._seen) > self._seen_max:
            self._make_room(self._seen.heaviest(), now)
        if id_ in self._seen:
            self._hold(id_, message, now)

    def get(self, id_: bytes) -> Gossip | None:
        """The message, if it is still held."""
        return self._held.get(id_)

    def held_since(self, now: int) -> int:
        """From this time on everything that was seen is held, but for what a flooder said."""
        return max(now - self._age_max_ms, self._floor, self._held_floor, 0) + 1

    def ids(self, since: int, until: int) -> list[bytes]:
        """The ids of what is held of that time, both ends included, in the order of arrival."""
        return [id_ for id_, message in self._held.items() if since <= message.at <= until]

    def _make_room(self, author: bytes, now: int) -> None:
        """Forget the oldest of `author`: from now on it is that author's own past that is stale, nobody else's."""
        at, oldest = self._of_author[author][0]
        self._floors[author] = max(self._floors.pop(author, -1), at)
        self._forget(oldest, author)
        if len(self._floors) <= self._seen_max:
            return
        # More authors than ids: what one of them said long ago is stale for all, and of younger things some may be
        # taken twice. Honest messages of today are refused in no case.
        floor = self._floors.pop(next(iter(self._floors)))
        self._floor = max(self._floor, min(floor, now - GRACE_MS))

    def _hold(self, id_: bytes, message: Gossip, now: int) -> None:
        self._held[id_] = message
        self._holders.add(id_, bytes(message.author), len(message.payload) + HELD_COST_BYTES)
        self._held_bytes += len(message.payload)
        while len(self._held) > self._held_max or self._held_bytes > self._held_bytes_max:
            most, holders = self._holders.heaviest(), self._holders
            is_flooder = holders.owners > 1 and holders.weight_of(most) > FLOOD_SHARE * holders.weight
            oldest = holders.oldest_of(most)
            at = self._held[oldest].at
            if not is_flooder and at <= now:  # comparing with others is about the past
                self._held_floor = max(self._held_floor, at)
            self._drop(oldest)

    def _expire(self, now: int) -> None:
        by_age, limit = self._by_age, now - self._age_max_ms
        while by_age and (by_age[0][0] <= limit or by_age[0][1] not in self._seen):
            _, id_ = heappop(by_age)
            if id_ in self._seen:
                self._forget(id_, self._seen.owner_of(id_))
        if len(by_age) > 2 * self._seen_max:
            by_age[:] = sorted(entry for entry in by_age if entry[1] in self._seen)
        while self._floors and self._floors[next(iter(self._floors))] <= limit:
            del self._floors[next(iter(self._floors))]

    def _forget(self, id_: bytes, author: bytes) -> None:
        self._seen.remove(id_)
        by_age = self._of_author[author]
        while by_age and by_age[0][1] not in self._seen:
            heappop(by_age)
        if not by_age:
            del self._of_author[author]
        if id_ in self._held:
            self._drop(id_)

    def _drop(self, id_: bytes) -> None:
        self._holders.remove(id_)
        self._held_bytes -= len(self._held.pop(id_).payload)


def total_of(ids: Iterable[bytes]) -> bytes:
    """The sum of ids, modulo 2^128: the same for the same ids in any order."""
    return (sum(int.from_bytes(id_, "big") for id_ in ids) % _MODULUS).to_bytes(ID_BYTES, "big")
