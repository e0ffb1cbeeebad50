"""What the search scenarios share: a network of searchers, and how one search is counted."""

from dataclasses import dataclass
from random import Random
from typing import Any

from coterie.identity import PeerId
from coterie.machine import PeerUp
from coterie.overlay.search.asker import Ended, Found
from coterie.overlay.search.limits import SearchLimits, Strategy
from coterie.overlay.search.machine import Ask, Search
from coterie.sim.links import Coordinates, Link
from coterie.sim.world import World

DEGREE = 5  # HyParView's active view for 10,000 nodes (Leitao et al. 2007, section 5.1)
SETTLE_S = 20.0  # between searches: late walkers come home, budgets recover


def peer(number: int) -> PeerId:
    """The id of the node with that number."""
    return PeerId(number.to_bytes(32, "big"))


def trusting(_peer: PeerId, _message: bytes, _signature: bytes) -> bool:
    """Signatures are tested elsewhere: ten thousand nodes would spend their time on them."""
    return True


@dataclass
class Outcome:
    """One search: whether it found something, how long the first answer took, what it made others send."""

    found: bool
    seconds: float
    messages: int


class Network:
    """A world of searchers: a ring and random matchings, so that each has `DEGREE` neighbours."""

    def __init__(self, seed: int, nodes: int, **options: Any) -> None:
        self.nodes = nodes
        self.random = Random(f"{seed}/searches")
        self.items: dict[bytes, frozenset[int]] = {}
        self.world = World(seed, link=options.pop("link", None) or Link(latency=Coordinates(seed)))
        self.limits = options.pop("limits", SearchLimits())
        for number in range(nodes):
            self.world.add(peer(number), lambda random, n=number: self._core(n, random), lazy=True)  # type: ignore[misc]
        for number in range(nodes):
            self._join(number, (number + 1) % nodes)
        for _ in range(DEGREE - 2):
            shuffled = self.random.sample(range(nodes), nodes)
            for a, b in zip(shuffled[::2], shuffled[1::2], strict=False):
                self._join(a, b)
        self.world.run()

    def _core(self, number: int, random: Random) -> Search:
        def answer(_topic: str, body: bytes) -> list[bytes]:
            return [body] if number in self.items.get(body, ()) else []

        return Search(
            peer(number),
            sign=lambda _: bytes(64),
            random=random,
            answer=answer,
            limits=self.limits,
            verify=trusting,
        )

    def _join(self, a: int, b: int) -> None:
        self.world.feed(peer(a), PeerUp(peer(b)))
        self.world.feed(peer(b), PeerUp(peer(a)))

    def place(self, body: bytes, share: float) -> None:
        """Put an item on that share of the nodes."""
        self.items[body] = frozenset(self.random.sample(range(self.nodes), max(1, round(share * self.nodes))))

    def search(self, body: bytes, strategy: Strategy, asker: int | None = None) -> Outcome:
        """Let a random node that lacks the item look for it, until nothing of the search is under way."""
        world = self.world
        while asker is None or asker in self.items[body]:
            asker = self.random.randrange(self.nodes)
        began, sent = world.now, world.sent
        world.emitted.clear()
        world.feed(peer(asker), Ask("it", "test", body, strategy=strategy))
        world.run(began + SETTLE_S)
        while not any(isinstance(event, Ended) for _, _, event in world.emitted):
            world.run(world.now + SETTLE_S)
        first = next((at for at, _, event in world.emitted if isinstance(event, Found)), None)
        return Outcome(first is not None, (first or world.now) - began, world.sent - sent)


def quantile(values: list[float], share: float) -> float:
    """The value that `share` of them do not exceed; nan of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")
