"""What a simulated link does to messages: how long it takes, what it loses, doubles and reorders."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from math import hypot
from random import Random
from statistics import median

from coterie.errors import UsageError
from coterie.sim.host import QUEUE_BYTES_MAX

Latency = Callable[[Hashable, Hashable, Random], float]

HOME_S = 0.0005  # one-way delay between two machines of a household; guess
WORLD_S = 0.15  # one-way delay between opposite ends of the world; guess

# The map of `Coordinates`. Units are arbitrary: the median round trip scales it.
KING_MEDIAN_RTT_S = 0.159  # Dabek et al. 2004, Vivaldi, section 2.3: 1,740 name servers of the King data set
REGIONS = ((0.0, 0.0), (1.0, 0.25), (2.1, -0.1))  # Americas, Europe, Asia, in about their distances; guess
REGION_WEIGHTS = (0.4, 0.35, 0.25)  # guess
REGION_SPREAD = 0.22  # standard deviation within a region; guess
HEIGHT = 0.15  # mean, exponential: access lines of about 20 ms with some of 100 ms; guess after section 5.4
SAMPLE_PAIRS = 2_000  # whose median scales the map


def uniform(low_s: float, high_s: float) -> Latency:
    """Each message takes its own time between `low_s` and `high_s`."""

    def latency(_sender: Hashable, _receiver: Hashable, random: Random) -> float:
        return low_s + (high_s - low_s) * random.random()

    return latency


class Planar:
    """Nodes stand on a unit square; a link's delay grows with its length and stays the same."""

    is_steady = True

    def __init__(self, seed: int, *, near_s: float = HOME_S, far_s: float = WORLD_S) -> None:
        self._places: dict[Hashable, tuple[float, float]] = {}
        self._random = Random(seed)  # noqa: S311 - a reproducible map, not a secret
        self._near_s = near_s
        self._per_unit_s = (far_s - near_s) / hypot(1, 1)

    def __call__(self, sender: Hashable, receiver: Hashable, _random: Random) -> float:
        (ax, ay), (bx, by) = self._place(sender), self._place(receiver)
        return self._near_s + self._per_unit_s * hypot(ax - bx, ay - by)

    def _place(self, node: Hashable) -> tuple[float, float]:
        place = self._places.get(node)
        if place is None:
            place = self._places[node] = (self._random.random(), self._random.random())
        return place


class Coordinates:
    """Delays of the internet: every node has a place on a plane and a height above it, its access line.

    The model is Vivaldi's (Dabek et al. 2004, section 5.4): round trip = distance on the plane + both heights.
    Places gather round three regions in which most of the net's users live; the whole is scaled so that the median
    round trip is `median_rtt_s`. A link's delay stays the same; `Link` adds the variation.
    """

    is_steady = True

    def __init__(self, seed: int, *, median_rtt_s: float = KING_MEDIAN_RTT_S) -> None:
        self._random = Random(f"{seed}/coordinates")  # noqa: S311 - a reproducible map, not a secret
        self._places: dict[Hashable, tuple[float, float, float]] = {}
        sample = [(self._draw(), self._draw()) for _ in range(SAMPLE_PAIRS)]
        self._one_way = median_rtt_s / 2 / median(_reach(a, b) for a, b in sample)

    def __call__(self, sender: Hashable, receiver: Hashable, _random: Random) -> float:
        """One-way delay (s): half the round trip."""
        places = self._places
        a = places.get(sender) or self._settle(sender)
        b = places.get(receiver) or self._settle(receiver)
        return self._one_way * (hypot(a[0] - b[0], a[1] - b[1]) + a[2] + b[2])

    def _settle(self, node: Hashable) -> tuple[float, float, float]:
        place = self._places[node] = self._draw()
        return place

    def _draw(self) -> tuple[float, float, float]:
        random = self._random
        x, y = random.choices(REGIONS, REGION_WEIGHTS)[0]
        return (
            random.gauss(x, REGION_SPREAD),
            random.gauss(y, REGION_SPREAD),
            random.expovariate(1 / HEIGHT),
        )


class Matrix:
    """Measured delays: `one_way_s[i][j]` from place i to place j; nodes take places at random, many may share one.

    `within_s` is the delay between two nodes of one place when the matrix has 0 there.
    """

    is_steady = True

    def __init__(self, one_way_s: Sequence[Sequence[float]], seed: int, *, within_s: float = HOME_S) -> None:
        if not one_way_s or any(len(row) != len(one_way_s) for row in one_way_s):
            raise UsageError("a matrix of delays is square and not empty")
        if any(delay < 0 for row in one_way_s for delay in row):
            raise UsageError("a link cannot deliver before it was sent to: delays are 0 s or more")
        self._rows = [tuple(row) for row in one_way_s]
        self._within_s = within_s
        self._random = Random(f"{seed}/matrix")  # noqa: S311 - a reproducible map, not a secret
        self._places: dict[Hashable, int] = {}

    def __call__(self, sender: Hashable, receiver: Hashable, _random: Random) -> float:
        delay = self._rows[self._place(sender)][self._place(receiver)]
        return delay or self._within_s

    def _place(self, node: Hashable) -> int:
        place = self._places.get(node)
        if place is None:
            place = self._places[node] = self._random.randrange(len(self._rows))
        return place


def varied(latency: Latency, share: float) -> Latency:
    """Each message takes up to `share` (0.1: a tenth) longer than `latency` says: queues on the way."""

    def slower(sender: Hashable, receiver: Hashable, random: Random) -> float:
        return latency(sender, receiver, random) * (1 + share * random.random())

    return slower


def _reach(a: tuple[float, float, float], b: tuple[float, float, float]) -> float:
    return hypot(a[0] - b[0], a[1] - b[1]) + a[2] + b[2]


@dataclass(frozen=True, slots=True)
class Link:
    """The conditions on a link. Probabilities are per message, 0 to 1.

    Attributes:
        latency: one-way delay in seconds, or a function of (sender, receiver, random).
        loss: probability that a message does not arrive.
        duplication: probability that it arrives twice.
        reordering: probability that later ones overtake it. At 0 a link keeps the order.
        held_back_s: how long at most a reordered message or a duplicate comes later.
        bytes_per_s: what each direction of each pair carries; None: without limit. Needs a world's `size_of`.
        queue_bytes_max: what may wait for that; beyond it messages are lost.
    """

    latency: float | Latency = 0.02
    loss: float = 0.0
    duplication: float = 0.0
    reordering: float = 0.0
    held_back_s: float = 1.0
    bytes_per_s: float | None = None
    queue_bytes_max: int = QUEUE_BYTES_MAX

    def __post_init__(self) -> None:
        for name in ("loss", "duplication", "reordering"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise UsageError(f"{name} is a probability, 0 to 1, not {getattr(self, name)}")
        if self.held_back_s < 0 or (not callable(self.latency) and self.latency < 0):
            raise UsageError("a link cannot deliver before it was sent to: delays are 0 s or more")
        if self.bytes_per_s is not None and self.bytes_per_s <= 0:
            raise UsageError(f"bytes_per_s is above 0, or None for no limit, not {self.bytes_per_s}")

    @property
    def is_uneven(self) -> bool:
        """Whether messages may be lost, doubled, overtaken or held up, or take different times."""
        faults = self.loss or self.duplication or self.reordering
        return bool(faults or self.bytes_per_s is not None or not self.keeps_order)

    @property
    def keeps_order(self) -> bool:
        """Whether messages between two nodes take equal times, so that none can overtake another."""
        return not callable(self.latency) or getattr(self.latency, "is_steady", False)
