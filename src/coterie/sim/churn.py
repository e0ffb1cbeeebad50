"""Nodes that come and go: how long sessions last, and who crashes and restarts when."""

from collections.abc import Callable, Hashable, Iterable
from math import log
from random import Random
from typing import Any, Protocol

from coterie.errors import UsageError

Durations = Callable[[Random], float]  # draws seconds

WEIBULL_SHAPE = (
    0.5  # Stutzbach and Rejaie 2006, section 5: shapes of 0.34 to 0.59 fit Gnutella, Kad and BitTorrent
)
PARETO_ALPHA = 1.0  # guess: a heavy tail without a mean, the worst case beside the Weibull fits
SESSION_MAX_S = 30 * 86_400.0  # longest drawn; a Pareto tail has no end and a virtual month is one
CANDIDATES = 64  # drawn for a session that is under way; guess: the tail of the Weibull above shows


def exponential(median_s: float) -> Durations:
    """Sessions that end at a constant rate, whatever their age."""
    return lambda random: min(SESSION_MAX_S, random.expovariate(log(2) / median_s))


def weibull(median_s: float, *, shape: float = WEIBULL_SHAPE) -> Durations:
    """Below a shape of 1, the longer a node has stayed the longer it will: what measurements of networks show."""
    scale = median_s / log(2) ** (1 / shape)
    return lambda random: min(SESSION_MAX_S, random.weibullvariate(scale, shape))


def pareto(median_s: float, *, alpha: float = PARETO_ALPHA) -> Durations:
    """A few nodes stay for ever, most leave soon."""
    shortest_s = median_s / 2 ** (1 / alpha)
    return lambda random: min(SESSION_MAX_S, shortest_s * random.paretovariate(alpha))


def under_way(durations: Durations, random: Random) -> float:
    """What remains of a session that an observer meets at random: long ones are met more often."""
    drawn = [durations(random) for _ in range(CANDIDATES)]
    return random.choices(drawn, drawn)[0] * random.random()


class Stage(Protocol):
    """Where nodes come and go: a `World` of cores, or the `Residents` of a simulated network."""

    @property
    def seed(self) -> int: ...

    @property
    def now(self) -> float: ...

    def is_up(self, name: Hashable) -> bool: ...

    def crash(self, name: Hashable) -> None: ...

    def restart(self, name: Hashable, *, forget: bool = False) -> None: ...

    def schedule(self, at: float, action: Callable[[], None]) -> None: ...


class Churn:
    """Lets nodes of a world crash and come back, each at its own times, until it is stopped.

    Args:
        world: a `World` or `Residents`; all of `names` are up in it now, in the middle of sessions.
        names: who comes and goes; the others stay.
        online: draws how long a session lasts, in seconds.
        offline: draws how long a node is away.
        leaving: called with the name before a node goes: feed its core a farewell. What it says then still
            arrives; the node goes `farewell_s` later. None: it just goes.
        back: called with the name after a node has come back: feed its core whom to join.
        forget: whether what nodes saved is lost.
        away: nodes that are down now, in the middle of an absence: as many as are away on average keep the
            number of those that are up level from the beginning.
    """

    def __init__(  # noqa: PLR0913 - all but the first two are named options
        self,
        world: Stage,
        names: Iterable[Hashable],
        *,
        online: Durations,
        offline: Durations,
        leaving: Callable[[Any], None] | None = None,
        back: Callable[[Any], None] | None = None,
        forget: bool = False,
        farewell_s: float = 0.001,
        away: Iterable[Hashable] = (),
    ) -> None:
        self._world = world
        self._online, self._offline = online, offline
        self._leaving, self._back = leaving, back
        self._forget = forget
        self._farewell_s = farewell_s
        self._random = Random(f"{world.seed}/churn")  # noqa: S311 - reproducible on purpose
        self._is_stopped = False
        self.left = 0
        self.returned = 0
        for name in names:
            if not world.is_up(name):
                raise UsageError(f"{name!r} is down: churn begins with nodes that are up")
            self._later(under_way(online, self._random), self._leave, name)
        for name in away:
            if world.is_up(name):
                raise UsageError(f"{name!r} is up: it cannot be away")
            self._later(under_way(offline, self._random), self._return, name)

    def stop(self) -> None:
        """Nobody goes any more; who is away stays away."""
        self._is_stopped = True

    def _later(self, delay_s: float, action: Callable[[Hashable], None], name: Hashable) -> None:
        def act() -> None:
            if not self._is_stopped:
                action(name)

        self._world.schedule(self._world.now + delay_s, act)

    def _leave(self, name: Hashable) -> None:
        if self._leaving is None:
            self._go(name)
        elif self._world.is_up(name):
            self._leaving(name)
            self._later(self._farewell_s, self._go, name)

    def _go(self, name: Hashable) -> None:
        if self._world.is_up(name):  # a scenario may have crashed it before
            self._world.crash(name)
            self.left += 1
        self._later(self._offline(self._random), self._return, name)

    def _return(self, name: Hashable) -> None:
        if not self._world.is_up(name):
            self._world.restart(name, forget=self._forget)
            self.returned += 1
        if self._back is not None:
            self._back(name)
        self._later(self._online(self._random), self._leave, name)
