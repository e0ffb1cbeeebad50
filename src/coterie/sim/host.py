"""The machine under a simulated node: how fast its lines are, who reaches it, how wrong its clock is."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, NoReturn

from coterie.errors import UsageError
from coterie.machine import CancelTimer, SetTimer, TimerFired

NAT_MAPPING_S = 120.0  # RFC 4787, REQ-5: a mapping lives for two minutes without traffic, or longer
QUEUE_BYTES_MAX = 256 * 1024  # of a home router: 0.2 s at 10 Mbit/s; guess


@dataclass(frozen=True, slots=True)
class Host:
    """One machine; many nodes may share one description.

    Attributes:
        is_reachable: False behind a NAT: what comes from a node that it has neither a link to nor written to
            within `nat_mapping_s` is lost.
        nat_mapping_s: how long the NAT remembers a correspondent after the last message either way.
        up_bytes_per_s: its uplink; None: without limit. The same for `down_bytes_per_s`.
        queue_bytes_max: what may wait before each of the two; beyond it messages are lost.
        clock_offset_s: how far the clock its core sees was ahead of the world's at time 0.
        clock_drift: by how many seconds a second that clock gains; below 0 it loses.
    """

    is_reachable: bool = True
    nat_mapping_s: float = NAT_MAPPING_S
    up_bytes_per_s: float | None = None
    down_bytes_per_s: float | None = None
    queue_bytes_max: int = QUEUE_BYTES_MAX
    clock_offset_s: float = 0.0
    clock_drift: float = 0.0

    def __post_init__(self) -> None:
        for name in ("up_bytes_per_s", "down_bytes_per_s"):
            rate = getattr(self, name)
            if rate is not None and rate <= 0:
                raise UsageError(f"{name} is above 0, or None for no limit, not {rate}")
        if self.clock_drift <= -1:
            raise UsageError("a clock that drifts by -1 or less stands still or goes back")

    @property
    def is_skewed(self) -> bool:
        """Whether its clock is not the world's."""
        return bool(self.clock_offset_s or self.clock_drift)


class Pipe:
    """A line that sends one byte after the other, with a queue before it."""

    __slots__ = ("_free_at", "_queue_bytes_max", "bytes_per_s")

    def __init__(self, bytes_per_s: float, queue_bytes_max: int) -> None:
        self.bytes_per_s = bytes_per_s
        self._queue_bytes_max = queue_bytes_max
        self._free_at = 0.0

    @classmethod
    def of(cls, bytes_per_s: float | None, queue_bytes_max: int) -> "Pipe | None":
        """None for a line without limit."""
        return None if bytes_per_s is None else cls(bytes_per_s, queue_bytes_max)

    def is_free(self, now: float) -> bool:
        """Whether nothing waits before it."""
        return self._free_at <= now

    def has_room(self, size_bytes: int, now: float) -> bool:
        """Whether `size_bytes` more may wait before it. An idle line takes anything."""
        waiting_bytes = (self._free_at - now) * self.bytes_per_s
        return waiting_bytes <= 0 or waiting_bytes + size_bytes <= self._queue_bytes_max

    def take(self, size_bytes: int, now: float) -> float | None:
        """When the last of `size_bytes` has passed; None when the queue is full."""
        return self.carry(size_bytes, now) if self.has_room(size_bytes, now) else None

    def carry(self, size_bytes: int, now: float) -> float:
        """The same for bytes that wait at their sender while the queue is full."""
        self._free_at = max(now, self._free_at) + size_bytes / self.bytes_per_s
        return self._free_at


def unweighed(_message: Any) -> NoReturn:
    """Stands where a world has no `size_of`."""
    raise UsageError("a bandwidth needs to know what messages weigh: give the World a `size_of`")


def skewed(handle: Callable[[Any, float], list[Any]], host: Host) -> Callable[[Any, float], list[Any]]:
    """`handle` of a core that sees its host's clock: `now` and the times of timers are translated."""
    offset, rate = host.clock_offset_s, 1.0 + host.clock_drift
    due: dict[Hashable, float] = {}  # what the core asked for: translated twice it may be a tick early

    def translated(event: Any, now: float) -> list[Any]:
        local = now * rate + offset
        if type(event) is TimerFired:
            local = max(local, due.pop(event.key, local))
        outputs = []
        for output in handle(event, local):
            match output:
                case SetTimer(key, at):
                    due[key] = at
                    outputs.append(SetTimer(key, (at - offset) / rate))
                    continue
                case CancelTimer(key):
                    due.pop(key, None)
            outputs.append(output)
        return outputs

    return translated
