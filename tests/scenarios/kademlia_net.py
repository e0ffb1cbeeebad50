"""Kademlia networks of any size: joined one by one, or with tables drawn as joins would have filled them.

Drawing: in each bucket up to k peers, chosen at random among those that belong there. Under churn a table also holds
the dead: a contact was verified at some time in the last hour, evenly, and has left since with the probability that
the median session says. That the two ways of making a network agree is a claim of the scenario `kademlia-lookup`.
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from random import Random
from statistics import mean, median
from typing import Any

from coterie.identity import PeerId
from coterie.machine import Machine
from coterie.overlay.kademlia.events import Bootstrap, Finished, KeepUp, SeekNode
from coterie.overlay.kademlia.keys import ID_BITS, ID_BYTES, node_id
from coterie.overlay.kademlia.limits import KademliaLimits
from coterie.overlay.kademlia.machine import Kademlia
from coterie.sim.links import Coordinates, Link
from coterie.sim.world import World

LIMITS = KademliaLimits()
BOOTSTRAP_PEERS = 3  # of an address book that a returning node tries
SLICE_S = 5.0
WAIT_S = 30.0  # after the last lookup began
RTT_S = 0.16  # of a drawn contact: the median


def peers(count: int, seed: int, purpose: str = "peers") -> list[PeerId]:
    """Made-up peers: the core knows them by their bytes only."""
    random = Random(f"{seed}/{purpose}")
    return [PeerId(random.randbytes(ID_BYTES)) for _ in range(count)]


def key_of(peer: PeerId) -> bytes:
    """The place of a peer, as a key."""
    return node_id(peer).to_bytes(ID_BYTES, "big")


def new_world(seed: int) -> World:
    """A world with the delays of the internet."""
    return World(seed, link=Link(latency=Coordinates(seed)))


def node(name: PeerId, limits: KademliaLimits = LIMITS) -> Callable[[Random], Machine]:
    """A factory for `World.add`."""
    return lambda random: Kademlia(name, random, limits=limits)


def joined(world: World, names: Sequence[PeerId], *, every_s: float = 0.1) -> None:
    """Put `names` into the world; each joins through one that came before."""
    random = Random(f"{world.seed}/joins")
    for number, name in enumerate(names):
        world.add(name, node(name))
        via = (names[random.randrange(number)],) if number else ()
        world.schedule(
            world.now + number * every_s, lambda name=name, via=via: world.feed(name, Bootstrap(via))
        )
    world.run(until=len(names) * every_s + 300)
    world.emitted.clear()


class Drawn:
    """Tables of nodes among `alive` and, of those who died in the last hour, `dead`."""

    def __init__(self, alive: Sequence[PeerId], seed: int, *, session_s: float | None = None) -> None:
        self._random = Random(f"{seed}/tables")
        self._session_s = session_s
        self._alive = sorted((node_id(peer), peer) for peer in alive)
        gone = [] if session_s is None else peers(len(alive), seed, "gone")
        self._dead = sorted((node_id(peer), peer) for peer in gone)

    def fill(self, core: Kademlia, now: float) -> None:
        """Give `core` the table that it would have."""
        table = core.table
        for number in range(ID_BITS, 0, -1):
            alive = self._range(self._alive, table.own_id, number)
            dead = self._range(self._dead, table.own_id, number)
            chosen = self._random.sample(alive, min(core.limits.k, len(alive)))
            for living in chosen:
                age_s, is_alive = self._age()
                _, peer = living if is_alive or not dead else self._random.choice(dead)
                table.answered(peer, now - age_s, RTT_S)
            mask = (1 << (number - 1)) - 1
            low = table.own_id & ~mask
            if bisect_left(self._alive, (low + mask + 1,)) - bisect_left(self._alive, (low,)) <= 1:
                return  # nobody else is so near

    def _age(self) -> tuple[float, bool]:
        if self._session_s is None:
            return 0.0, True
        age_s = self._random.random() * LIMITS.refresh_s
        return age_s, self._random.random() < 0.5 ** (age_s / self._session_s)

    @staticmethod
    def _range(places: list[tuple[int, PeerId]], own: int, number: int) -> list[tuple[int, PeerId]]:
        """Those whose distance to `own` has `number` bits."""
        low = (own >> (number - 1) ^ 1) << (number - 1)
        return places[bisect_left(places, (low,)) : bisect_left(places, (low + (1 << (number - 1)),))]


def drawn(world: World, names: Sequence[PeerId], *, session_s: float | None = None) -> None:
    """Put `names` into the world with drawn tables."""
    tables = Drawn(names, world.seed, session_s=session_s)
    for name in names:
        world.add(name, node(name))
        tables.fill(world.core(name), world.now)


def keep_up(world: World, names: Sequence[PeerId]) -> None:
    """Let the upkeep of nodes with drawn tables begin, each at its own time."""
    random = Random(f"{world.seed}/upkeep")
    for name in names:
        world.schedule(
            world.now + random.random() * LIMITS.upkeep_s,
            lambda name=name: world.feed(name, KeepUp()) if world.is_up(name) else None,
        )


class Lookups:
    """Lookups of living nodes by living nodes, spread over some time, and what came of them."""

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self.random = Random(f"{seed}/lookups")
        self.ends: list[Finished] = []
        self.found = 0
        self.void = 0  # whose asker left, or whose target left before it was found: they say nothing
        self.askers: Sequence[PeerId] | None = None  # who asks; None: everybody
        self._asked: dict[int, tuple[PeerId, PeerId]] = {}
        self._number = 0

    def run(
        self, names: Sequence[PeerId], count: int, *, over_s: float, paths: int, asker: PeerId | None = None
    ) -> None:
        """Start `count` lookups within `over_s`, all by `asker` if there is one, and wait for their ends."""
        world = self.world
        world.emitted.clear()
        for number in range(count):
            world.schedule(world.now + over_s * number / count, lambda: self._start(names, paths, asker))
        end = world.now + over_s + WAIT_S
        while world.now < end:  # often: to see whether a target is still there when its lookup ends
            world.run(until=min(end, world.now + SLICE_S))
            self._collect()
        self.void += len(self._asked)
        self._asked.clear()

    def _collect(self) -> None:
        for _, _, event in self.world.emitted:
            if not isinstance(event, Finished) or event.lookup not in self._asked:
                continue
            _, target = self._asked.pop(event.lookup)
            is_found = bool(event.closest) and event.closest[0] == target
            if not is_found and not self.world.is_up(target):
                self.void += 1
                continue
            self.found += is_found
            self.ends.append(event)
        self.world.emitted.clear()

    @property
    def success(self) -> float:
        """Share of the lookups whose nearest answer was the node looked for."""
        return self.found / len(self.ends)

    @property
    def median_hops(self) -> float:
        return median(end.hops for end in self.ends)

    @property
    def median_requests(self) -> float:
        return median(end.asked for end in self.ends)

    @property
    def median_s(self) -> float:
        return median(end.took_s for end in self.ends)

    def row(self, title: str) -> tuple[Any, ...]:
        """A line of a table: see COLUMNS."""
        took = sorted(end.took_s for end in self.ends)
        return (
            title,
            len(self.ends),
            f"{self.success:.2%}",
            self.median_hops,
            mean(end.hops for end in self.ends),
            self.median_requests,
            2 * self.median_requests,
            took[len(took) // 2],
            took[int(len(took) * 0.95)],
        )

    def _start(self, names: Sequence[PeerId], paths: int, asker: PeerId | None) -> None:
        up = self.world.is_up
        while asker is None or not up(asker):
            asker = self.random.choice(names if self.askers is None else self.askers)
        apart = self.askers or (asker,)  # they need not serve
        while not up(target := self.random.choice(names)) or target in apart:
            pass
        self._number += 1
        self._asked[self._number] = (asker, target)
        self.world.feed(asker, SeekNode(lookup=self._number, key=key_of(target), paths=paths))


COLUMNS = (
    "network", "lookups", "success", "median hops", "mean hops", "median requests", "median messages",
    "median s", "p95 s",
)  # fmt: skip
