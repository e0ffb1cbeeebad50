"""What a simulated link does to messages: how long it takes, what it loses, doubles and reorders."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from math import hypot
from random import Random

from coterie.errors import UsageError

Latency = Callable[[Hashable, Hashable, Random], float]

HOME_S = 0.0005  # one-way delay between two machines of a household; guess
WORLD_S = 0.15  # one-way delay between opposite ends of the world; guess


def uniform(low_s: float, high_s: float) -> Latency:
    """Each message takes its own time between `low_s` and `high_s`."""

    def latency(_sender: Hashable, _receiver: Hashable, random: Random) -> float:
        return low_s + (high_s - low_s) * random.random()

    return latency


def planar(seed: int, *, near_s: float = HOME_S, far_s: float = WORLD_S) -> Latency:
    """Nodes stand on a unit square; a link's delay grows with its length and stays the same."""
    places: dict[Hashable, tuple[float, float]] = {}
    random = Random(seed)  # noqa: S311 - a reproducible map, not a secret

    def place(node: Hashable) -> tuple[float, float]:
        if node not in places:
            places[node] = (random.random(), random.random())
        return places[node]

    def latency(sender: Hashable, receiver: Hashable, _random: Random) -> float:
        (ax, ay), (bx, by) = place(sender), place(receiver)
        return near_s + (far_s - near_s) * hypot(ax - bx, ay - by) / hypot(1, 1)

    return latency


@dataclass(frozen=True, slots=True)
class Link:
    """The conditions on a link. Probabilities are per message, 0 to 1.

    Attributes:
        latency: one-way delay in seconds, or a function of (sender, receiver, random).
        loss: probability that a message does not arrive.
        duplication: probability that it arrives twice.
        reordering: probability that later ones overtake it. At 0 a link keeps the order.
        held_back_s: how long at most a reordered message or a duplicate comes later.
    """

    latency: float | Latency = 0.02
    loss: float = 0.0
    duplication: float = 0.0
    reordering: float = 0.0
    held_back_s: float = 1.0

    def __post_init__(self) -> None:
        for name in ("loss", "duplication", "reordering"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise UsageError(f"{name} is a probability, 0 to 1, not {getattr(self, name)}")
        if self.held_back_s < 0 or (not callable(self.latency) and self.latency < 0):
            raise UsageError("a link cannot deliver before it was sent to: delays are 0 s or more")

    @property
    def is_uneven(self) -> bool:
        """Whether messages may be lost, doubled or overtaken, or take different times."""
        return bool(self.loss or self.duplication or self.reordering or callable(self.latency))
