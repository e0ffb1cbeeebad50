"""The answering side of a Kademlia node: what others may ask, how much of it, and what we keep for them. Pure."""

from collections.abc import Callable
from random import Random
from typing import Any

from coterie.errors import PeerError
from coterie.identity import PeerId
from coterie.overlay.kademlia import messages as wire
from coterie.overlay.kademlia.keys import ID_BITS, open_item
from coterie.overlay.kademlia.limits import KademliaLimits
from coterie.overlay.kademlia.records import Items, Providers
from coterie.overlay.kademlia.table import Table

RecordOf = Callable[[PeerId], bytes]


class Server:
    """Answers requests from the table and from the records that others have placed here."""

    def __init__(
        self,
        table: Table,
        limits: KademliaLimits,
        random: Random,
        *,
        record_of: RecordOf | None,
        counters: dict[str, int],
    ) -> None:
        self._table = table
        self._limits = limits
        self._record_of = record_of
        self._counters = counters
        self.providers = Providers(limits, random)
        self.items = Items(table.own_id, limits, random)
        self._asked: dict[PeerId, int] = {}
        self._window_end = 0.0

    def allows(self, peer: PeerId, now: float) -> bool:
        """Whether `peer` may ask once more; each peer has `answers_per_peer_max` in a window."""
        limits = self._limits
        if now >= self._window_end:
            self._window_end = now + limits.window_s
            self._asked.clear()
        asked = self._asked.get(peer, 0)
        if asked >= limits.answers_per_peer_max or (not asked and len(self._asked) >= limits.askers_max):
            self._counters["over_budget"] += 1
            return False
        self._asked[peer] = asked + 1
        return True

    def answer(self, peer: PeerId, message: Any, now: float) -> Any:
        """The answer to a request of `peer`."""
        kind = type(message)
        request = message.request
        if kind is wire.FindNode:
            return wire.Nodes(request, self._near(message.target, peer, now))
        if kind is wire.Ping:
            return wire.Pong(request, True)
        if kind is wire.FindValue:
            item = self.items.get(int.from_bytes(message.key, "big"), now)
            return wire.Value(request, item.raw if item else b"", self._near(message.key, peer, now))
        if kind is wire.FindProviders:
            found = self.providers.get(
                int.from_bytes(message.key, "big"), now, self._limits.providers_per_answer_max
            )
            named = [wire.Contact(bytes(provider), self._record(provider)) for provider in found]
            return wire.Providers(request, named, self._near(message.key, peer, now))
        if kind is wire.AddProvider:
            return wire.Stored(request, self._provide(peer, message, now))
        return wire.Stored(request, self._store(peer, message, now))

    def lifetime_s(self, key: int, most_s: float) -> float:
        """How long we keep what stands under `key`: `most_s` within twice the distance to our k-th neighbour.

        Beyond it is halved with every further such distance (M&M 2.5 asks for a lifetime exponentially
        inversely proportional to the number of nodes between): caches far from a key, and floods, are short-lived.
        """
        reach = max(1, self._table.reach())
        ratio = (key ^ self._table.own_id) / reach
        far = self._limits.far_ratio
        return most_s if ratio <= far else most_s * 2.0 ** (far - min(ratio, ID_BITS))

    def _provide(self, peer: PeerId, message: wire.AddProvider, now: float) -> bool:
        limits = self._limits
        key = int.from_bytes(message.key, "big")
        most_s = self.lifetime_s(key, limits.provider_lifetime_s)
        lifetime_s = min(float(message.lifetime_s), most_s)
        if lifetime_s < limits.lifetime_min_s:
            self._counters["refused_far"] += 1
            return False
        return self.providers.add(key, peer, now + lifetime_s)

    def _store(self, peer: PeerId, message: wire.Store, now: float) -> bool:
        limits = self._limits
        try:
            item = open_item(message.item, now)
        except PeerError:
            self._counters["refused_items"] += 1
            return False
        most_s = self.lifetime_s(int.from_bytes(item.key, "big"), limits.item_lifetime_s)
        lifetime_s = min(float(message.lifetime_s), most_s)
        if lifetime_s < limits.lifetime_min_s:
            self._counters["refused_far"] += 1
            return False
        return self.items.put(item, peer, now, lifetime_s)

    def _near(self, key: bytes, asker: PeerId, now: float) -> list[wire.Contact]:
        count = min(self._limits.k, wire.CONTACTS_MAX)
        near = self._table.closest(int.from_bytes(key, "big"), count, without=asker)
        return [wire.Contact(c.raw, self._record(c.peer), c.age_s(now)) for c in near]

    def _record(self, peer: PeerId) -> bytes:
        return self._record_of(peer) if self._record_of is not None else b""
