"""The one shape of every protocol core: `handle(event, now) -> list[Output]`.

A core is plain synchronous Python: no asyncio, clock, socket or file; randomness is injected. `now` is
in seconds on any clock that does not go back. `driver.py` runs a core in production, `sim` in virtual time.
"""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Received:
    """A decoded message from `peer`."""

    peer: Hashable
    message: Any


@dataclass(frozen=True, slots=True)
class PeerUp:
    """A link to `peer` is usable."""

    peer: Hashable


@dataclass(frozen=True, slots=True)
class PeerDown:
    """The link to `peer` is gone; `reason` is for people."""

    peer: Hashable
    reason: str = ""


@dataclass(frozen=True, slots=True)
class TimerFired:
    """The timer set under `key` is due. A timer that was set again or cancelled does not fire."""

    key: Hashable


@dataclass(frozen=True, slots=True)
class Send:
    """Send `message` to `peer`."""

    peer: Hashable
    message: Any


@dataclass(frozen=True, slots=True)
class SetTimer:
    """Fire `key` at time `at` (seconds, the clock of `now`); replaces an earlier one of that key."""

    key: Hashable
    at: float


@dataclass(frozen=True, slots=True)
class CancelTimer:
    """Forget the timer under `key`."""

    key: Hashable


@dataclass(frozen=True, slots=True)
class Emit:
    """Tell the embedding program that `event` happened."""

    event: Any


class Machine(Protocol):
    """What a driver or a simulator needs of a core."""

    def handle(self, event: Any, now: float) -> list[Any]:
        """Take one event at time `now` (s) and return what is to be done, in order."""
        ...
