"""The one shape of every protocol core: `handle(event, now) -> list[Output]`.

A core is plain synchronous Python: no asyncio, clock, socket or file; randomness is injected. `now` is
in seconds on any clock that does not go back. `driver.py` runs a core in production, `sim` in virtual time.
"""

from collections.abc import Hashable
from typing import Any, Protocol

import msgspec


class _Value(msgspec.Struct, frozen=True):
    """Made by the million in simulations: a struct costs a sixth of a frozen dataclass."""


class Received(_Value, frozen=True, gc=False):
    """A decoded message from `peer`."""

    peer: Hashable
    message: Any


class PeerUp(_Value, frozen=True, gc=False):
    """A link to `peer` is usable."""

    peer: Hashable


class PeerDown(_Value, frozen=True, gc=False):
    """The link to `peer` is gone; `reason` is for people."""

    peer: Hashable
    reason: str = ""


class TimerFired(_Value, frozen=True, gc=False):
    """The timer set under `key` is due. A timer that was set again or cancelled does not fire."""

    key: Hashable


class Send(_Value, frozen=True, gc=False):
    """Send `message` to `peer`."""

    peer: Hashable
    message: Any


class SetTimer(_Value, frozen=True, gc=False):
    """Fire `key` at time `at` (seconds, the clock of `now`); replaces an earlier one of that key."""

    key: Hashable
    at: float


class CancelTimer(_Value, frozen=True, gc=False):
    """Forget the timer under `key`."""

    key: Hashable


class Emit(_Value, frozen=True, gc=False):
    """Tell the embedding program that `event` happened."""

    event: Any


class Machine(Protocol):
    """What a driver or a simulator needs of a core."""

    def handle(self, event: Any, now: float) -> list[Any]:
        """Take one event at time `now` (s) and return what is to be done, in order."""
        ...
