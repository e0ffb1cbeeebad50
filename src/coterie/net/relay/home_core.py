"""Which peers' relays are ours: two or three that answer, the nearest in use. Pure.

A candidate is the URL of a relay that a peer we know says it runs. The first of the homes is *active*: the transport
is reachable there. The others stand by: they answered when last asked, and the next one takes over at once when
the active one fails. All of them stand in our own record, so that others know where to try.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from random import Random
from typing import Any

import msgspec

from coterie.machine import CancelTimer, SetTimer, TimerFired


@dataclass(frozen=True, slots=True, kw_only=True)
class HomeRelayLimits:
    """Bounds and times (s) of the choice."""

    homes_max: int = 3  # one in use, two in reserve
    candidates_max: int = 64  # guess: more contacts than that with a relay are not needed
    probes_max: int = 4  # guess: at once
    active_s: float = 8.0  # 600 bytes each: 270 KB an hour
    standby_s: float = 120.0
    idle_s: float = 900.0  # candidates that are not homes, while there are enough homes
    retry_min_s: float = 1.0  # after a failure; doubles
    retry_max_s: float = (
        60.0  # with the network gone: one attempt a minute; `idle_s` where nobody ever answered
    )
    failures_max: int = 2  # of the active relay in a row; a refused connection is said twice within 2 s
    nearer: float = 0.7  # guess: another relay takes over when its round trip is below this part of ours


class Candidates(msgspec.Struct, frozen=True):
    """The relays that may be used, best known first; replaces all earlier ones."""

    urls: tuple[str, ...]


class Probed(msgspec.Struct, frozen=True):
    """What a probe of `url` gave: its round trip (s), or None when it did not answer."""

    url: str
    rtt_s: float | None


class Lost(msgspec.Struct, frozen=True):
    """The relay in use was seen to be dead."""

    url: str


class Probe(msgspec.Struct, frozen=True):
    """Ask the relay at `url`; answer with `Probed`."""

    url: str


class UseHomes(msgspec.Struct, frozen=True):
    """From now on these are ours; the first is to be in use. May be empty."""

    urls: tuple[str, ...]


@dataclass(slots=True)
class _Relay:
    url: str
    rtt_s: float | None = None  # of the last answer
    failures: int = 0  # in a row
    is_probing: bool = False
    is_waiting: bool = False  # for its turn to be probed

    @property
    def is_good(self) -> bool:
        return self.rtt_s is not None and not self.failures


class HomeRelayCore:
    """The machine: `handle(event, now)`."""

    def __init__(self, limits: HomeRelayLimits, rng: Random) -> None:
        self._limits = limits
        self._rng = rng
        self._relays: dict[str, _Relay] = {}
        self._homes: tuple[str, ...] = ()
        self._probes = 0

    @property
    def homes(self) -> tuple[str, ...]:
        """Our home relays, the one in use first."""
        return self._homes

    def round_trip_s(self, url: str) -> float | None:
        """Of the last answered probe of a candidate."""
        relay = self._relays.get(url)
        return None if relay is None else relay.rtt_s

    def handle(self, event: Any, now: float) -> list[Any]:
        """Take one event at time `now` (s) and return what is to be done, in order."""
        match event:
            case Candidates(urls):
                return self._replace(urls)
            case Probed(url, rtt_s):
                return self._probed(url, rtt_s, now)
            case Lost(url):
                return self._lost(url)
            case TimerFired(url):
                return self._ask(str(url))
        return []

    def _replace(self, urls: Iterable[str]) -> list[Any]:
        wanted = list(dict.fromkeys(urls))[: self._limits.candidates_max]
        outputs: list[Any] = []
        for url in [u for u in self._relays if u not in wanted]:
            if self._relays.pop(url).is_probing:
                self._probes -= 1
            outputs.append(CancelTimer(url))
        for url in wanted:
            if url not in self._relays:
                self._relays[url] = _Relay(url)
                outputs += self._ask(url)
        return [*outputs, *self._choose(), *self._next()]

    def _ask(self, url: str) -> list[Any]:
        relay = self._relays.get(url)
        if relay is None or relay.is_probing:
            return []
        if self._probes >= self._limits.probes_max:
            relay.is_waiting = True
            return []
        relay.is_waiting = False
        relay.is_probing = True
        self._probes += 1
        return [CancelTimer(url), Probe(url)]

    def _next(self) -> list[Any]:
        """Probe those whose turn has come: homes first."""
        waiting = [r.url for r in self._relays.values() if r.is_waiting]
        waiting.sort(key=lambda url: url not in self._homes)
        outputs: list[Any] = []
        for url in waiting[: max(0, self._limits.probes_max - self._probes)]:
            outputs += self._ask(url)
        return outputs

    def _probed(self, url: str, rtt_s: float | None, now: float) -> list[Any]:
        relay = self._relays.get(url)
        if relay is None or not relay.is_probing:
            return []
        relay.is_probing = False
        self._probes -= 1
        if rtt_s is None:
            relay.failures += 1
        else:
            relay.failures, relay.rtt_s = 0, rtt_s
        outputs = self._choose()
        outputs.append(SetTimer(url, now + self._wait_s(relay)))
        return [*outputs, *self._next()]

    def _lost(self, url: str) -> list[Any]:
        relay = self._relays.get(url)
        if relay is None:
            return []
        relay.failures = max(relay.failures, self._limits.failures_max)
        outputs = self._choose()
        for home in (url, *self._homes[:1]):
            outputs += self._ask(home)
        return outputs

    def _wait_s(self, relay: _Relay) -> float:
        limits = self._limits
        if relay.failures:
            most_s = limits.idle_s if relay.rtt_s is None else limits.retry_max_s
            wait_s = min(most_s, limits.retry_min_s * 2.0 ** min(relay.failures - 1, 20))
        elif relay.url in self._homes[:1]:
            wait_s = limits.active_s
        elif relay.url in self._homes or len(self._homes) < limits.homes_max:
            wait_s = limits.standby_s
        else:
            wait_s = limits.idle_s
        return wait_s * self._rng.uniform(0.9, 1.1)  # nodes that started together do not ask together

    def _choose(self) -> list[Any]:
        """Homes: the good ones by round trip; the active one stays unless another is much nearer."""
        good = sorted((r for r in self._relays.values() if r.is_good), key=lambda r: r.rtt_s or 0.0)
        active = self._relays.get(self._homes[0]) if self._homes else None
        if active is not None and active.failures < self._limits.failures_max:
            is_near = not good or (good[0].rtt_s or 0.0) >= (active.rtt_s or 0.0) * self._limits.nearer
            if is_near:
                good = [active, *(r for r in good if r is not active)]
        homes = tuple(r.url for r in good[: self._limits.homes_max])
        if homes == self._homes:
            return []
        is_same = homes[:1] == self._homes[:1] and sorted(homes) == sorted(self._homes)
        self._homes = homes
        return [] if is_same else [UseHomes(homes)]
