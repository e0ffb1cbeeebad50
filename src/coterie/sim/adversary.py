"""Malicious nodes: machines around an honest core that keep silent, lie, repeat, flood.

world.corrupt(name, lambda core, random: Replaying(core, random))

They know no protocol. Attacks on a protocol's meaning are `Twisting` with that protocol's own rewriting.
"""

from collections.abc import Callable, Hashable, Iterable
from dataclasses import fields, is_dataclass
from random import Random
from typing import Any

import msgspec

from coterie.machine import Machine, PeerDown, PeerUp, Received, Send, SetTimer, TimerFired

REMEMBERED_MAX = 1_000  # messages that `Replaying` keeps
TEXT_MAX = 64  # characters or bytes of made-up text
ITEMS_MAX = 64  # of a list that garbage makes longer


class Silent:
    """Takes everything, says nothing, and never breaks the connection."""

    def __init__(self, _core: Machine | None = None, _random: Random | None = None) -> None:
        pass

    def handle(self, event: Any, now: float) -> list[Any]:
        """See `coterie.machine`."""
        return []


class Twisting:
    """Behaves as its core does, but each message goes through `rewrite`, which returns what is sent instead.

    Args:
        core: the honest one.
        rewrite: from (Send, the event that caused it) to any number of outputs: none drops it.
    """

    def __init__(self, core: Machine, rewrite: Callable[[Send, Any], Iterable[Any]]) -> None:
        self.core = core
        self._rewrite = rewrite

    def handle(self, event: Any, now: float) -> list[Any]:
        """See `coterie.machine`."""
        outputs: list[Any] = []
        for output in self.core.handle(event, now):
            outputs += self._rewrite(output, event) if type(output) is Send else [output]
        return outputs


class Garbage(Twisting):
    """Sends what its core would, with some fields replaced by others of the same type: it decodes, and is wrong."""

    def __init__(self, core: Machine, random: Random) -> None:
        super().__init__(core, lambda send, _: [Send(send.peer, scramble(send.message, random))])


class Replaying:
    """Honest, and after each message it gets it repeats an old one to somebody, `copies` times."""

    def __init__(
        self, core: Machine, random: Random, *, copies: int = 3, remembered_max: int = REMEMBERED_MAX
    ) -> None:
        self.core = core
        self._random = random
        self._copies = copies
        self._remembered_max = remembered_max
        self._heard: list[Any] = []
        self._peers: list[Hashable] = []

    def handle(self, event: Any, now: float) -> list[Any]:
        """See `coterie.machine`."""
        outputs = self.core.handle(event, now)
        if type(event) is not Received:
            return outputs
        self._remember(self._heard, event.message)
        self._remember(self._peers, event.peer)
        choose = self._random.choice
        return [*outputs, *(Send(choose(self._peers), choose(self._heard)) for _ in range(self._copies))]

    def _remember(self, kept: list[Any], value: Any) -> None:
        if len(kept) < self._remembered_max:
            kept.append(value)
        else:
            kept[self._random.randrange(len(kept))] = value


class Flooding:
    """Honest, and besides it sends made-up messages at a steady rate to all the peers it has met.

    Args:
        core: the honest one.
        random: goes to `make`.
        make: one message.
        per_s: messages a second to each peer, in bursts of `burst`.
        targets: peers to start with; others are added as they come up or write. Feed it `TimerFired(START)`, or
            anything else, to set it off.
    """

    def __init__(
        self,
        core: Machine,
        random: Random,
        *,
        make: Callable[[Random], Any],
        per_s: float,
        burst: int = 10,
        targets: Iterable[Hashable] = (),
    ) -> None:
        self.core = core
        self._random = random
        self._make = make
        self._every_s = burst / per_s
        self._burst = burst
        self._targets: dict[Hashable, None] = dict.fromkeys(targets)
        self._is_started = False

    def handle(self, event: Any, now: float) -> list[Any]:
        """See `coterie.machine`."""
        if type(event) is TimerFired and event.key == _FLOOD:
            sends = [Send(p, self._make(self._random)) for p in self._targets for _ in range(self._burst)]
            return [*sends, SetTimer(_FLOOD, now + self._every_s)]
        match event:
            case Received(peer) | PeerUp(peer):
                self._targets[peer] = None
            case PeerDown(peer):
                self._targets.pop(peer, None)
        start = [] if self._is_started else [SetTimer(_FLOOD, now)]
        self._is_started = True
        return [*self.core.handle(event, now), *start]


_FLOOD = "adversary.Flooding"


def scramble(value: Any, random: Random) -> Any:
    """Another value of the same type and about the same size, wrong in some fields at least."""
    match value:
        case msgspec.Struct():
            names = value.__struct_fields__
            return msgspec.structs.replace(value, **_some({n: getattr(value, n) for n in names}, random))
        case bool():
            return not value
        case int():
            return random.choice((0, value + 1, random.getrandbits(max(1, value.bit_length()))))
        case float():
            return random.choice((0.0, -value, value * 1e6))
        case bytes():
            return random.randbytes(random.choice((len(value), len(value), random.randrange(TEXT_MAX))))
        case str():
            return "".join(chr(random.randrange(32, 0x3000)) for _ in range(random.randrange(TEXT_MAX)))
        case list() | tuple():
            items = [scramble(item, random) for item in value]
            return type(value)(items * random.choice((0, 1, 2)))[:ITEMS_MAX]
        case _ if is_dataclass(value) and not isinstance(value, type):
            known = {f.name: getattr(value, f.name) for f in fields(value)}
            return type(value)(**(known | _some(known, random)))
        case _:
            return value


def _some(known: dict[str, Any], random: Random) -> dict[str, Any]:
    """About half of the fields scrambled, one at least."""
    chosen = [name for name in known if random.random() < 0.5] or list(known)[:1]
    return {name: scramble(known[name], random) for name in chosen}
