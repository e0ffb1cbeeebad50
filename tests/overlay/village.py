"""Many `Broadcast` cores in one world, members of one topic."""

from collections import defaultdict
from collections.abc import Sequence
from hashlib import blake2b
from math import log2
from random import Random
from typing import Any

from coterie.identity import PeerId
from coterie.overlay.broadcast import (
    Broadcast,
    Delivered,
    NeighbourDown,
    NeighbourUp,
    OpenTopic,
    Publish,
)
from coterie.sim.links import Link, uniform
from coterie.sim.world import World
from coterie.wire.broadcast import Entry

TOPIC = bytes(32)
DOUBLING_S = 3.0  # a network that grows twice as fast as its newcomers are let in falls into parts
MEMBERS = 0.63  # of those who have come: those of 2 s ago, 2^(-2/3)
INTERNET = Link(latency=uniform(0.01, 0.1))


def signature(peer: bytes, message: bytes) -> bytes:
    """Stands for Ed25519, which would take most of the time of a simulation of thousands."""
    return blake2b(message, digest_size=64, key=bytes(peer)).digest()


def is_signed(peer: bytes, message: bytes, signed: bytes) -> bool:
    return signature(peer, message) == signed


class Village:
    """`count` members that came one after the other, twice as many every 3 s, each through one that was there.

    Links are kept as `NetDriver`
    does: while either side has the other as a neighbour."""

    def __init__(self, count: int, seed: int = 1, *, link: Link = INTERNET, **options: Any) -> None:
        self.world = World(
            seed,
            link=link,
            requests={NeighbourUp: self._up, NeighbourDown: self._down, Delivered: self._deliver},
        )
        self.names = [PeerId(i.to_bytes(32, "big")) for i in range(1, count + 1)]
        self.reached: dict[bytes, dict[PeerId, tuple[float, int]]] = defaultdict(
            dict
        )  # when, after how many hops
        self.twice = 0
        self._held: dict[tuple[PeerId, PeerId], int] = defaultdict(int)
        self.rng = Random(seed)
        for number, name in enumerate(self.names):
            self.world.add(name, self.maker(name, **options))
            contacts = [self.names[self.rng.randrange(max(1, int(MEMBERS * number)))]] if number else []
            at = DOUBLING_S * log2(number + 1)
            self.world.schedule(at, lambda name=name, contacts=contacts: self.enter(name, contacts))

    @staticmethod
    def maker(name: PeerId, **options: Any) -> Any:
        def sign(message: bytes) -> bytes:
            return signature(name, message)

        return lambda rng: Broadcast(name, rng=rng, sign=sign, verify=is_signed, **options)

    def enter(self, name: PeerId, contacts: Sequence[PeerId]) -> None:
        self.world.feed(name, OpenTopic(TOPIC, tuple(Entry(peer) for peer in contacts)))

    @property
    def joined_s(self) -> float:
        """When the last one has come."""
        return DOUBLING_S * log2(len(self.names))

    def publish(self, name: PeerId, payload: bytes) -> float:
        self.world.feed(name, Publish(TOPIC, payload))
        return self.world.now

    def run(self, seconds: float) -> None:
        self.world.run(until=self.world.now + seconds)

    def membership(self, name: PeerId) -> Any:
        return self.world.core(name).membership(TOPIC)

    def messages(self, name: PeerId) -> Any:
        return self.world.core(name).messages(TOPIC)

    @property
    def living(self) -> list[PeerId]:
        return [name for name in self.names if self.world.is_up(name)]

    def total(self, figure: str) -> int:
        """The sum of a counter of messages over all that live."""
        return sum(getattr(self.messages(name), figure) for name in self.living)

    def share_reached(self, payload: bytes, source: PeerId) -> float:
        """Of the living, the source aside."""
        others = [name for name in self.living if name != source]
        return sum(name in self.reached[payload] for name in others) / len(others)

    def parts(self) -> list[int]:
        """The sizes of the parts of the network that links connect, largest first."""
        living, found, sizes = dict.fromkeys(self.living), dict[PeerId, None](), []
        for start in living:
            if start in found:
                continue
            found[start] = None
            stack, size = [start], 0
            while stack:
                size += 1
                for peer in self.membership(stack.pop()).active:
                    if peer in living and peer not in found:
                        found[peer] = None
                        stack.append(peer)
            sizes.append(size)
        return sorted(sizes, reverse=True)

    def _up(self, name: Any, output: NeighbourUp) -> None:
        self._held[min(name, output.peer), max(name, output.peer)] += 1
        self.world.connect(name, output.peer)

    def _down(self, name: Any, output: NeighbourDown) -> None:
        pair = (min(name, output.peer), max(name, output.peer))
        self._held[pair] -= 1
        if self._held[pair] <= 0:
            del self._held[pair]
            self.world.disconnect(name, output.peer, "neither side keeps it")

    def _deliver(self, name: Any, output: Delivered) -> None:
        self.twice += name in self.reached[output.payload]
        self.reached[output.payload][name] = (self.world.now, output.hops)
