"""One node as the simulated world keeps it."""

from collections.abc import Callable, Hashable
from random import Random
from typing import Any

from coterie.machine import Machine, Received
from coterie.sim.host import Host, Pipe

Factory = Callable[[Random], Machine]
Restore = Callable[[Random, Any], Machine]  # from what was saved
Wrap = Callable[[Machine, Random], Machine]  # an adversary around an honest core

TALKED_MIN = 256  # correspondents remembered before those whom the NAT has forgotten are dropped


class Node:
    """One place in the world: its core comes and goes with crashes, its name stays."""

    __slots__ = (
        "core", "down", "epoch", "factory", "handle", "host", "index", "lazy", "name", "peers", "restore",
        "saved", "talked", "talked_max", "timers", "up", "wrap",
    )  # fmt: skip

    def __init__(self, name: Hashable, index: int, factory: Factory, host: Host) -> None:
        self.name = name
        self.index = index
        self.factory = factory
        self.restore: Restore | None = None
        self.saved: Any = None  # what the machine's disk holds; outlives the core
        self.wrap: Wrap | None = None
        self.lazy = False
        self.host = host
        self.up = Pipe.of(host.up_bytes_per_s, host.queue_bytes_max)
        self.down = Pipe.of(host.down_bytes_per_s, host.queue_bytes_max)
        self.talked_max = TALKED_MIN
        self.talked: dict[Hashable, float] = {}  # behind a NAT: whom it wrote to or heard from, and when
        self.epoch = 0  # raised by a crash: what was meant for the core before it does not arrive
        self.core: Machine | None = None  # None: down
        self.handle: Callable[[Any, float], list[Any]] = dead
        self.timers: dict[Hashable, int] = {}
        self.peers: dict[Hashable, bool] = {}  # links, and whether this side takes them for up

    def talk(self, peer: Hashable, now: float) -> None:
        """Its NAT lets `peer` answer for a while."""
        self.talked[peer] = now
        if len(self.talked) >= self.talked_max:
            oldest = now - self.host.nat_mapping_s
            self.talked = {p: at for p, at in self.talked.items() if at >= oldest}
            self.talked_max = max(TALKED_MIN, 2 * len(self.talked))


def dead(_event: Any, _now: float) -> list[Any]:
    return []


class Asleep:
    """Stands where a lazy node's core will be after the first event."""

    def __init__(self, wake: Callable[[], Callable[[Any, float], list[Any]]]) -> None:
        self._wake = wake

    def handle(self, event: Any, now: float) -> list[Any]:
        return self._wake()(event, now)


class Arriving:
    """A message at the far end of a network, before the receiver's own downlink."""

    __slots__ = ("event",)

    def __init__(self, event: Received) -> None:
        self.event = event
