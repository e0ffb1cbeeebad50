"""The routing table: k-buckets with liveness, proximity, a replacement cache and a limit for each network. Pure.

Only who has answered a request of ours stands in a bucket. Old contacts stay (M&M 2.2: who has been up for long is
likely to stay up, and a flood of new names cannot push anybody out); a newcomer to a full bucket waits in the
replacement cache until a contact fails. Buckets are the fully split tree of the paper, flattened: number b holds the
peers whose distance has b bits.
"""

from collections.abc import Callable, Hashable, Iterator
from heapq import nsmallest
from random import Random

from coterie.identity import PeerId
from coterie.overlay.kademlia.keys import ID_BITS, ID_BYTES, node_id
from coterie.overlay.kademlia.limits import KademliaLimits

AGE_MAX_S = 2**32 - 1
NetworkOf = Callable[[PeerId], Hashable | None]
_SMOOTHING = 0.25  # weight of the newest round trip; guess


class Contact:
    """A peer in the table."""

    __slots__ = ("failures", "id", "is_near", "network", "peer", "raw", "rtt_s", "seen_at", "since")

    def __init__(self, peer: PeerId, place: int, now: float) -> None:
        self.peer = peer
        self.id = place
        self.rtt_s = 0.0  # smoothed; 0 while unknown
        self.seen_at = now  # last sign of life
        self.since = now
        self.failures = 0  # requests in a row without an answer
        self.is_near = False  # stands here for its short round trip
        self.network: Hashable | None = None
        self.raw = bytes(peer)  # the codec takes plain bytes only

    def age_s(self, now: float) -> int:
        """Whole seconds since the last sign of life, within what a message can hold."""
        return min(AGE_MAX_S, max(0, int(now - self.seen_at)))


class Bucket:
    """Up to k contacts, and who would take their places (the most recently seen last)."""

    __slots__ = ("checked_at", "contacts", "near_at", "waiting")

    def __init__(self, now: float) -> None:
        self.contacts: dict[int, Contact] = {}
        self.waiting: dict[int, PeerId] = {}
        self.checked_at = now  # when it was last refreshed
        self.near_at = now  # when a contact last took a place for its proximity


class Table:
    """The contacts of one node. `network_of` names the network a peer is in; None is never limited."""

    def __init__(
        self, own: PeerId, limits: KademliaLimits, network_of: NetworkOf = lambda peer: None
    ) -> None:
        self.own_id = node_id(own)
        self._own = own
        self._limits = limits
        self._network_of = network_of
        self._lowest = ID_BITS - limits.prefix_bits_max
        self._buckets: dict[int, Bucket] = {}
        self._networks: dict[Hashable, int] = {}
        self._contacts: dict[int, Contact] = {}
        self._failing: dict[int, None] = {}  # those whose last request had no answer

    def __len__(self) -> int:
        return len(self._contacts)

    def __contains__(self, peer: PeerId) -> bool:
        return self.get(peer) is not None

    @property
    def buckets(self) -> list[tuple[int, Bucket]]:
        """(number, bucket), the farthest first."""
        return sorted(self._buckets.items(), reverse=True)

    @property
    def contacts(self) -> Iterator[Contact]:
        """All of them, bucket by bucket."""
        for _, bucket in self.buckets:
            yield from bucket.contacts.values()

    def number(self, place: int) -> int:
        """The number of the bucket for a place in the key space."""
        return max((place ^ self.own_id).bit_length(), self._lowest)

    def get(self, peer: PeerId) -> Contact | None:
        """The contact of `peer`."""
        return self._contacts.get(node_id(peer))

    def room(self, number: int) -> int:
        """How many contacts bucket `number` still takes."""
        bucket = self._buckets.get(number)
        return self._limits.k - (len(bucket.contacts) if bucket else 0)

    def is_filled(self, number: int) -> bool:
        """Whether bucket `number` has so many contacts that nobody need be asked on purpose for more."""
        return self._limits.k - self.room(number) >= min(self._limits.filled, self._limits.k)

    # ---- what happens to contacts

    def answered(self, peer: PeerId, now: float, rtt_s: float) -> Contact | None:
        """`peer` answered a request of ours. The contact to ping when the bucket is full: its least recently seen."""
        place = node_id(peer)
        number = self.number(place)
        bucket = self._buckets.get(number)
        if bucket is None:
            bucket = self._buckets[number] = Bucket(now)
        contact = bucket.contacts.pop(place, None)
        if contact is not None:
            bucket.contacts[place] = contact  # most recently seen last
            contact.seen_at = now
            self._revive(contact)
            contact.rtt_s += (rtt_s - contact.rtt_s) * (_SMOOTHING if contact.rtt_s else 1.0)
            return None
        if peer == self._own:
            return None
        if len(bucket.contacts) < self._limits.k:
            self._admit(bucket, peer, now, rtt_s)
            return None
        if (dead := self._dead(bucket)) is not None:
            self.remove(dead.peer)
            self._admit(bucket, peer, now, rtt_s)
            return None
        if self._takes_for_proximity(bucket, peer, now, rtt_s):
            return None
        self._wait(bucket, place, peer)
        oldest = next(iter(bucket.contacts.values()))
        return oldest if oldest.failures or now - oldest.seen_at > self._limits.near_every_s else None

    def asked(self, peer: PeerId, now: float) -> bool:
        """`peer`, which serves, asked us something. Whether it should be pinged, to become a contact.

        In a bucket that has enough it waits, unless it is a neighbour: most who ask have just come, and who has
        just come is the likeliest to leave (M&M 2.2).
        """
        place = node_id(peer)
        number = self.number(place)
        bucket = self._buckets.get(number)
        if bucket is None:
            return True
        contact = bucket.contacts.get(place)
        if contact is not None:
            contact.seen_at = now
            self._revive(contact)
            return False
        has_room = len(bucket.contacts) < self._limits.k
        is_wanted = has_room and (not self.is_filled(number) or (place ^ self.own_id) < self.reach())
        if is_wanted or self._dead(bucket) is not None:
            return self._is_admissible(bucket, self._network_of(peer))
        self._wait(bucket, place, peer)
        return False

    def failed(self, peer: PeerId) -> PeerId | None:
        """A request to `peer` had no answer. Who should be pinged, to take the place that became free."""
        place = node_id(peer)
        bucket = self._buckets.get(self.number(place))
        contact = bucket.contacts.get(place) if bucket else None
        if bucket is None or contact is None:
            if bucket is not None:
                bucket.waiting.pop(place, None)
            return None
        contact.failures += 1
        self._failing[place] = None
        limits = self._limits
        most = limits.failures_replaced_max if bucket.waiting else limits.failures_max
        return self.remove(peer) if contact.failures >= most else None

    def remove(self, peer: PeerId) -> PeerId | None:
        """`peer` is no contact any more. Who should be pinged, to take its place."""
        place = node_id(peer)
        bucket = self._buckets.get(self.number(place))
        if bucket is None:
            return None
        bucket.waiting.pop(place, None)
        contact = bucket.contacts.pop(place, None)
        if contact is None:
            return None
        del self._contacts[place]
        self._failing.pop(place, None)
        if contact.network is not None:
            self._networks[contact.network] -= 1
            if not self._networks[contact.network]:
                del self._networks[contact.network]
        return bucket.waiting.popitem()[1] if bucket.waiting else None

    # ---- what is asked of it

    def closest(self, target: int, count: int, *, without: PeerId | None = None) -> list[Contact]:
        """Up to `count` contacts that have not failed lately, nearest to `target` first."""
        number = self.number(target)
        ids = self._sorted([number], target)
        if len(ids) <= count:
            ids += self._sorted([n for n in self._buckets if n < number], target)
        if len(ids) <= count:
            for farther in sorted(n for n in self._buckets if n > number):
                ids += self._sorted([farther], target)
                if len(ids) > count:
                    break
        contacts = self._contacts
        if without is None:
            return [contacts[place] for place in ids[:count]]
        return [contact for place in ids[: count + 1] if (contact := contacts[place]).peer != without][:count]

    def reach(self) -> int:
        """The distance to our k-th nearest contact: within it, keys are ours to keep. All there is with fewer."""
        near = self.closest(self.own_id, self._limits.k)
        return near[-1].id ^ self.own_id if len(near) >= self._limits.k else (1 << ID_BITS) - 1

    def random_place(self, number: int, random: Random) -> int:
        """A place that falls into bucket `number`."""
        low = 1 << (number - 1) if number > self._lowest else 0
        return self.own_id ^ (
            low + int.from_bytes(random.randbytes(ID_BYTES), "big") % max(1, low or 1 << number)
        )

    def _sorted(self, numbers: list[int], target: int) -> list[int]:
        """The places in these buckets whose contacts have not failed lately, nearest to `target` first."""
        places: list[int] = []
        for number in numbers:
            if number in self._buckets:
                places += self._buckets[number].contacts
        if self._failing:
            places = [place for place in places if place not in self._failing]
        places.sort(key=target.__xor__)
        return places

    # ---- who gets in

    def _revive(self, contact: Contact) -> None:
        if contact.failures:
            contact.failures = 0
            del self._failing[contact.id]

    def _dead(self, bucket: Bucket) -> Contact | None:
        """A contact that stands there for want of a better one."""
        if not self._failing:
            return None
        most = self._limits.failures_replaced_max
        return next((c for c in bucket.contacts.values() if c.failures >= most), None)

    def _admit(self, bucket: Bucket, peer: PeerId, now: float, rtt_s: float) -> Contact | None:
        network = self._network_of(peer)
        if not self._is_admissible(bucket, network):
            return None
        contact = Contact(peer, node_id(peer), now)
        contact.rtt_s = rtt_s
        if network is not None:
            contact.network = network
            self._networks[network] = self._networks.get(network, 0) + 1
        bucket.contacts[contact.id] = contact
        self._contacts[contact.id] = contact
        bucket.waiting.pop(contact.id, None)
        return contact

    def _is_admissible(self, bucket: Bucket, network: Hashable | None) -> bool:
        if network is None:
            return True
        limits = self._limits
        if self._networks.get(network, 0) >= limits.per_network_table_max:
            return False
        here = sum(1 for c in bucket.contacts.values() if c.network == network)
        return here < limits.per_network_bucket_max

    def _takes_for_proximity(self, bucket: Bucket, peer: PeerId, now: float, rtt_s: float) -> bool:
        """Whether a full bucket gives the place of its slowest contact to `peer`, which is much nearer.

        Seldom, never more than `near_max` of a bucket, and never among our neighbours: else whoever has
        short lines could collect our table.
        """
        limits = self._limits
        if now - bucket.near_at < limits.near_every_s:
            return False
        if sum(1 for c in bucket.contacts.values() if c.is_near) >= limits.near_max:
            return False
        slowest = max(bucket.contacts.values(), key=lambda c: c.rtt_s)
        if rtt_s >= slowest.rtt_s * limits.near_ratio or (slowest.id ^ self.own_id) <= self.reach():
            return False
        bucket.near_at = now
        self.remove(slowest.peer)
        self._wait(bucket, slowest.id, slowest.peer)
        contact = self._admit(bucket, peer, now, rtt_s)
        if contact is not None:
            contact.is_near = True
        return True

    def _wait(self, bucket: Bucket, place: int, peer: PeerId) -> None:
        bucket.waiting.pop(place, None)
        if len(bucket.waiting) >= self._limits.replacements_max:
            del bucket.waiting[next(iter(bucket.waiting))]
        bucket.waiting[place] = peer


def nearest(peers: list[PeerId], target: int, count: int) -> list[PeerId]:
    """The `count` of `peers` nearest to `target`, nearest first."""
    return nsmallest(count, peers, key=lambda peer: node_id(peer) ^ target)
