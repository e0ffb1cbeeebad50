"""What is due: contacts to verify, buckets to fill, records to store again. Pure.

Departure from M&M 2.3, which refreshes a bucket by a lookup of a random place in it: here each contact that gave no
sign of life for the refresh interval is asked itself, so the dead are found and not only newcomers; while a
bucket has room, the question is for a random place in it, and who is named there is asked in turn. Our own place
is looked up once an interval.
"""

from random import Random

from coterie.identity import PeerId
from coterie.overlay.kademlia.keys import ID_BYTES, Item
from coterie.overlay.kademlia.limits import KademliaLimits
from coterie.overlay.kademlia.server import Server
from coterie.overlay.kademlia.table import Bucket, Table
from coterie.overlay.kademlia.task import Kind, Own, Wanted

_CHECKS_MAX = 32  # contacts verified in one look: a long sleep must not become a burst; guess


class Upkeep:
    """Decides; the machine does it."""

    def __init__(self, table: Table, server: Server, limits: KademliaLimits, random: Random) -> None:
        self._table = table
        self._server = server
        self._limits = limits
        self._random = random
        self._self_at: float | None = None

    def next_at(self, now: float) -> float:
        """When to look again: not all nodes at once."""
        return now + self._limits.upkeep_s * (0.9 + 0.2 * self._random.random())

    def joined(self, now: float) -> None:
        """We are joining now: look again soon, for those we joined through may have been new themselves."""
        self._self_at = now + self._limits.upkeep_s

    def _looked(self, now: float) -> None:
        self._self_at = now + self._limits.refresh_s * (0.9 + 0.2 * self._random.random())

    def checks(self, now: float) -> list[tuple[PeerId, int]]:
        """(peer to be asked, bucket number for which it is asked; 0 for a mere ping)."""
        limits = self._limits
        before = now - limits.refresh_s
        found: list[tuple[PeerId, int]] = []
        for number, bucket in self._table.buckets:
            stale = [c.peer for c in bucket.contacts.values() if c.seen_at <= before]
            if bucket.checked_at <= before and bucket.contacts:
                bucket.checked_at = now
                found += self._newcomers(number, bucket)
            found += [(peer, 0) for peer in stale]
        return found[:_CHECKS_MAX]

    def _newcomers(self, number: int, bucket: Bucket) -> list[tuple[PeerId, int]]:
        """Who fills the room of a bucket: those who wait, the newest first; else whom to ask for more."""
        room = self._limits.k - len(bucket.contacts)
        if room and not bucket.waiting:
            return [(self._random.choice(list(bucket.contacts.values())).peer, number)]
        return [(peer, 0) for peer in list(bucket.waiting.values())[::-1][:room]]

    def wanted(self, now: float, own: dict[bytes, Own], count: int) -> list[Wanted]:
        """Up to `count` lookups that are due: our place, what we keep, what we announce."""
        limits = self._limits
        found: list[Wanted] = []
        if self._self_at is None:
            self._self_at = now + limits.refresh_s * self._random.random()
        elif self._self_at <= now:
            self._looked(now)
            found.append(Wanted(Kind.NODE, self._table.own_id.to_bytes(ID_BYTES, "big")))
        for key, mine in own.items():
            if mine.again_at <= now and len(found) < count:
                found.append(self.announce(key, mine, now))
        for kept in self._server.items.due(now, count - len(found)):
            if kept.item.key not in own:
                found.append(Wanted(Kind.PUT, kept.item.key, kept.item, kept.until - now))
        return found

    def announce(self, key: bytes, mine: Own, now: float) -> Wanted:
        """The lookup that announces or stores what is ours under `key`."""
        limits = self._limits
        interval_s = limits.own_provider_s if mine.item is None else limits.own_item_s
        mine.again_at = now + interval_s * (0.9 + 0.1 * self._random.random())
        if mine.item is None:
            return Wanted(Kind.PROVIDE, key, None, limits.provider_lifetime_s)
        return Wanted(Kind.PUT, key, mine.item, limits.item_lifetime_s)


def ended(item: Item | None, now: float) -> bool:
    """Whether an item's own word says that it is over."""
    return item is not None and item.expires is not None and item.expires <= now
