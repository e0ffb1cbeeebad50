"""The simplest gossip there is, flooding: an example of a core, and the load of the simulator's benchmark."""

from collections.abc import Hashable
from random import Random
from time import process_time
from typing import Any

import msgspec

from coterie.errors import LimitExceeded
from coterie.machine import Emit, PeerDown, PeerUp, Received, Send
from coterie.sim.links import Link
from coterie.sim.world import World

SEEN_MAX = 100_000  # news remembered by a node


class Publish(msgspec.Struct, frozen=True):
    """A command: tell everybody `text`."""

    text: str


class Flood:
    """Passes each text on to all neighbours, once, and emits it."""

    def __init__(self, *, seen_max: int = SEEN_MAX) -> None:
        self._neighbours: dict[Hashable, None] = {}  # a dict keeps its order; a set would not
        self._seen: dict[str, None] = {}
        self._seen_max = seen_max

    def handle(self, event: Any, now: float) -> list[Any]:
        """See `coterie.machine`."""
        match event:
            case Received(peer, message):
                return self._pass_on(message, peer)
            case Publish(text):
                return self._pass_on(text, None)
            case PeerUp(peer):
                self._neighbours[peer] = None
            case PeerDown(peer):
                self._neighbours.pop(peer, None)
        return []

    def _pass_on(self, text: str, source: Hashable) -> list[Any]:
        if text in self._seen:
            return []
        if len(self._seen) >= self._seen_max:
            raise LimitExceeded(f"{self._seen_max} texts are remembered (seen_max)")
        self._seen[text] = None
        return [Emit(text), *[Send(peer, text) for peer in self._neighbours if peer != source]]


class Speed(msgspec.Struct, frozen=True):
    """What `measure` found."""

    events: int
    seconds: float
    digest: str

    @property
    def events_per_s(self) -> float:
        """Events that cores handled, per second of one processor core."""
        return self.events / self.seconds


def measure(
    seed: int = 0, *, nodes: int = 1_000, links_each: int = 4, texts: int = 50, link: Link | None = None
) -> Speed:
    """Flood `texts` texts through a random network of `nodes` nodes; the processor time of the run itself."""
    world = World(seed, link=link)
    for name in range(nodes):
        world.add(name, lambda _: Flood())
    chooser = Random(seed)  # noqa: S311 - reproducible on purpose
    for name in range(nodes):
        for other in [(name + 1) % nodes, *(chooser.randrange(nodes) for _ in range(links_each - 1))]:
            if other != name:
                world.connect(name, other)
    for number in range(texts):
        world.feed(chooser.randrange(nodes), Publish(f"text {number}"))
    started = process_time()
    handled = world.run()
    return Speed(handled, process_time() - started, world.digest)
