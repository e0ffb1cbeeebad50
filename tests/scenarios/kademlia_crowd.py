"""A million Kademlia nodes of which only those that are asked cost anything: tables are drawn when they are needed.

`Crowd` is a sorted list of places; a bucket of a node is a range of it. `Fills` says how many of those who belong into
a bucket stand there: counted in a network that was joined. `Lazy` is the machine around a real Kademlia node that
draws those buckets which the next answer needs, and puts into the world whom the node writes to.
"""

from bisect import bisect_left
from collections.abc import Sequence
from random import Random
from typing import Any

from coterie.identity import PeerId
from coterie.machine import Received, Send
from coterie.overlay.kademlia.events import LookUp
from coterie.overlay.kademlia.keys import ID_BITS, ID_BYTES, node_id
from coterie.overlay.kademlia.machine import Kademlia
from coterie.sim.world import World
from tests.scenarios.kademlia_net import LIMITS, RTT_S

SAMPLES_MAX = 4_000  # counted for each size of a bucket; as many say how it is spread


class Crowd(Sequence[PeerId]):
    """All nodes, in the order of their places."""

    def __init__(self, names: Sequence[PeerId]) -> None:
        self._entries = sorted(node_id(name).to_bytes(ID_BYTES, "big") + name for name in names)

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, at: Any) -> Any:
        return PeerId(self._entries[at][ID_BYTES:])

    def within(self, low: int, bits: int) -> tuple[int, int]:
        """The range of those whose places are `low` to `low` + 2 to the power of `bits`."""
        end = low + (1 << bits)
        first = bisect_left(self._entries, low.to_bytes(ID_BYTES, "big"))
        if end >> ID_BITS:
            return first, len(self._entries)
        return first, bisect_left(self._entries, end.to_bytes(ID_BYTES, "big"))

    def bucket(self, own: int, number: int) -> tuple[int, int]:
        """The range of those who belong into bucket `number` of a node at `own`."""
        return self.within((own >> (number - 1) ^ 1) << (number - 1), number - 1)

    def nearer(self, own: int, number: int) -> int:
        """How many are nearer to `own` than those of bucket `number`."""
        first, end = self.within(own >> (number - 1) << (number - 1), number - 1)
        return end - first - 1

    def depth(self, own: int) -> int:
        """The number of the nearest bucket into which anybody belongs."""
        for number in range(ID_BITS, 0, -1):
            if self.nearer(own, number) <= 0:
                return number
        return 1


class Fills:
    """How many contacts buckets hold, by how many belong there (to the next power of two), and how old these are."""

    def __init__(self, world: World, crowd: Crowd, random: Random) -> None:
        self._fills: dict[tuple[int, int], list[int]] = {}
        self._ages: list[int] = []
        sampled = random.sample(range(len(crowd)), min(len(crowd), SAMPLES_MAX))
        for at in sampled:
            table = world.core(crowd[at]).table
            held = dict(table.buckets)
            for number in range(ID_BITS, crowd.depth(table.own_id) - 1, -1):
                first, end = crowd.bucket(table.own_id, number)
                if end > first:
                    count = len(held[number].contacts) if number in held else 0
                    key = _size(end - first, crowd.nearer(table.own_id, number))
                    self._fills.setdefault(key, []).append(count)
            self._ages += [contact.age_s(world.now) for contact in table.contacts][:20]
        often = [
            size for (size, near), fills in self._fills.items() if not near and len(fills) > len(sampled) // 8
        ]
        self._largest = max(often)

    def draw(self, belong: int, nearer: int, random: Random) -> int:
        """How many of `belong` stand in a bucket. Larger ones than were ever counted are as the largest counted."""
        size, near = _size(belong, nearer)
        fills = self._fills.get((min(size, self._largest), near))
        return belong if fills is None else min(belong, random.choice(fills))

    def age_s(self, random: Random) -> int:
        """How long ago a contact gave a sign of life."""
        return random.choice(self._ages)

    def rows(self) -> list[tuple[str, int, int, float]]:
        """(how near, the most that belong there, buckets counted, their mean contacts)."""
        return [
            (
                "holds of the k nearest" if near else "farther",
                (1 << size) - 1,
                len(fills),
                sum(fills) / len(fills),
            )
            for (size, near), fills in sorted(self._fills.items())
        ]


def _size(belong: int, nearer: int) -> tuple[int, int]:
    """What makes buckets alike: how many belong there, and for those that hold of the k nearest how many are nearer."""
    return belong.bit_length(), (nearer + 1).bit_length() if nearer < LIMITS.k else 0


class Drawn:
    """A world into which nodes come when somebody writes to them."""

    def __init__(self, world: World, crowd: Crowd, fills: Fills) -> None:
        self.world = world
        self.crowd = crowd
        self.fills = fills
        self.here: dict[PeerId, None] = {}

    def settle(self, name: PeerId, *, serves: bool = True) -> None:
        """Put `name` into the world unless it is there. Who does not serve only asks: no table changes by it."""
        if name not in self.here:
            self.here[name] = None
            self.world.add(name, lambda random: Lazy(Kademlia(name, random, serves=serves), self))


class Lazy:
    """A Kademlia node whose buckets are drawn when an answer needs them."""

    def __init__(self, core: Kademlia, among: Drawn) -> None:
        self.core = core
        self._among = among
        self._random = among.world.random
        self._drawn: dict[int, None] = {}
        self._depth = among.crowd.depth(core.table.own_id)

    def handle(self, event: Any, now: float) -> list[Any]:
        """See `coterie.machine`."""
        if type(event) is Received:
            target = getattr(event.message, "target", None)
            if target is not None:
                self._draw_for(event.peer, int.from_bytes(target, "big"), now)
        elif isinstance(event, LookUp):
            for number in range(ID_BITS, self._depth - 1, -1):
                self._draw(number, now)
        outputs = self.core.handle(event, now)
        for output in outputs:
            if type(output) is Send:
                self._among.settle(output.peer)
        return outputs

    def _draw_for(self, asker: PeerId, target: int, now: float) -> None:
        """What `Table.closest` looks at: the target's bucket, if it is not enough all nearer, then farther ones."""
        table = self.core.table
        number = max(self._depth, table.number(target))
        self._draw(number, now)
        if not table.room(number) and asker not in table:
            return
        for nearer in range(self._depth, number):
            self._draw(nearer, now)
        while len(table) <= LIMITS.k and number < ID_BITS:
            number += 1
            self._draw(number, now)

    def _draw(self, number: int, now: float) -> None:
        if number in self._drawn:
            return
        self._drawn[number] = None
        table, crowd = self.core.table, self._among.crowd
        first, end = crowd.bucket(table.own_id, number)
        if end > first:
            nearer = crowd.nearer(table.own_id, number)
            count = self._among.fills.draw(end - first, nearer, self._random)
            for at in self._chosen(range(first, end), count, LIMITS.k - nearer):
                table.answered(crowd[at], now - self._among.fills.age_s(self._random), RTT_S)

    def _chosen(self, those: range, count: int, near: int) -> list[int]:
        """`count` of `those`: the `near` nearest first, whom joining finds, and others at random."""
        if near <= 0:
            return self._random.sample(those, count)
        crowd, own = self._among.crowd, self.core.table.own_id
        ranked = sorted(those, key=lambda at: node_id(crowd[at]) ^ own)
        first = ranked[: min(near, count)]
        return first + self._random.sample(ranked[len(first) :], count - len(first))
