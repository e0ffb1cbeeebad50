"""What a node keeps for others: who provides what, and small items. Bounded in all, per key and per peer. Pure."""

from random import Random

from coterie.identity import PeerId
from coterie.overlay.kademlia.keys import Item
from coterie.overlay.kademlia.limits import KademliaLimits


class Providers:
    """Who provides which keys, by their own word; each announcement expires.

    Where announcers fill a key's places, half of them belong to those who have renewed the longest, the other half
    changes at random: a flood of false ones neither pushes the old out nor keeps the new away. Where all places are
    taken, whoever holds the most gives one up.
    """

    def __init__(self, limits: KademliaLimits, random: Random) -> None:
        self._limits = limits
        self._random = random
        self._keys: dict[int, dict[PeerId, float]] = {}  # the longest announced first, with the end of each
        self._held: dict[PeerId, dict[int, None]] = {}  # the keys of each announcer
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def keys(self) -> int:
        """How many keys have providers."""
        return len(self._keys)

    def add(self, key: int, peer: PeerId, until: float) -> bool:
        """Whether `peer` stands as a provider of `key` now, until that time."""
        announced = self._keys.get(key)
        if announced is not None and peer in announced:
            announced[peer] = until
            return True
        limits = self._limits
        held = len(self._held.get(peer, ()))
        if held >= limits.providers_per_peer_max:
            return False
        if self._count >= limits.providers_max and not self._give_up_one(held):
            return False
        if announced is not None and len(announced) >= limits.providers_per_key_max:
            half = limits.providers_per_key_max // 2
            self._remove(key, list(announced)[half + self._random.randrange(len(announced) - half)])
        self._keys.setdefault(key, {})[peer] = until
        self._held.setdefault(peer, {})[key] = None
        self._count += 1
        return True

    def get(self, key: int, now: float, count: int) -> list[PeerId]:
        """Up to `count` providers: the longest known, and a sample of the others."""
        alive = [peer for peer, until in self._keys.get(key, {}).items() if until > now]
        if len(alive) <= count:
            return alive
        old = alive[: count // 2]
        return old + self._random.sample(alive[count // 2 :], count - len(old))

    def expire(self, now: float) -> None:
        """Drop what has expired."""
        gone = [
            (k, p) for k, announced in self._keys.items() for p, until in announced.items() if until <= now
        ]
        for key, peer in gone:
            self._remove(key, peer)

    def _give_up_one(self, held: int) -> bool:
        most = max(self._held, key=lambda peer: len(self._held[peer]))
        if len(self._held[most]) <= held + 1:
            return False
        self._remove(next(iter(self._held[most])), most)
        return True

    def _remove(self, key: int, peer: PeerId) -> None:
        del self._keys[key][peer]
        if not self._keys[key]:
            del self._keys[key]
        del self._held[peer][key]
        if not self._held[peer]:
            del self._held[peer]
        self._count -= 1


class Kept:
    """An item that we keep."""

    __slots__ = ("again_at", "item", "place", "sender", "until")

    def __init__(self, item: Item, place: int, sender: PeerId) -> None:
        self.item = item
        self.place = place
        self.sender = sender
        self.until = 0.0
        self.again_at = 0.0  # when we store it at the others, unless somebody did before


class Items:
    """The items that we keep. When full, the farthest from us makes room for a nearer one."""

    def __init__(self, own: int, limits: KademliaLimits, random: Random) -> None:
        self._own = own
        self._limits = limits
        self._random = random
        self._items: dict[int, Kept] = {}
        self._held: dict[PeerId, int] = {}

    def __len__(self) -> int:
        return len(self._items)

    @property
    def keys(self) -> list[bytes]:
        """The keys of all items."""
        return [kept.item.key for kept in self._items.values()]

    def get(self, key: int, now: float) -> Item | None:
        """The item under `key`."""
        kept = self._items.get(key)
        return kept.item if kept is not None and kept.until > now else None

    def put(self, item: Item, sender: PeerId, now: float, lifetime_s: float) -> bool:
        """Whether `item` is what we keep under its key now. Of signed items the largest sequence stays."""
        place = int.from_bytes(item.key, "big")
        until = now + lifetime_s if item.expires is None else min(now + lifetime_s, item.expires)
        kept = self._items.get(place)
        if kept is None:
            if self._held.get(sender, 0) >= self._limits.items_per_peer_max:
                return False
            if len(self._items) >= self._limits.items_max and not self._make_room(place):
                return False
            kept = self._items[place] = Kept(item, place, sender)
            self._held[sender] = self._held.get(sender, 0) + 1
        elif item.sequence < kept.item.sequence:
            return False
        elif item.sequence > kept.item.sequence:
            kept.item = item
            kept.until = 0.0
        elif item.value != kept.item.value:
            return False
        kept.until = max(kept.until, until)
        kept.again_at = self._next_time(now)
        return True

    def due(self, now: float, count: int) -> list[Kept]:
        """Up to `count` items that nobody has stored here for `republish_s`: it is for us to store them at others."""
        found: list[Kept] = []
        for kept in self._items.values():
            if kept.again_at <= now and len(found) < count:
                kept.again_at = self._next_time(now)
                found.append(kept)
        return found

    def leave(self, key: bytes) -> None:
        """Keep the item, but leave it to k others, who are nearer and have it, to store it again."""
        kept = self._items.get(int.from_bytes(key, "big"))
        if kept is not None:
            kept.again_at = float("inf")

    def expire(self, now: float) -> None:
        """Drop what has expired."""
        for place in [place for place, kept in self._items.items() if kept.until <= now]:
            self._remove(place)

    def _next_time(self, now: float) -> float:
        """Spread over a quarter of the interval: so that one of k holders comes first (M&M 2.5)."""
        return now + self._limits.republish_s * (0.75 + 0.25 * self._random.random())

    def _make_room(self, place: int) -> bool:
        farthest = max(self._items, key=lambda other: other ^ self._own)
        if farthest ^ self._own <= place ^ self._own:
            return False
        self._remove(farthest)
        return True

    def _remove(self, place: int) -> None:
        sender = self._items.pop(place).sender
        self._held[sender] -= 1
        if not self._held[sender]:
            del self._held[sender]
