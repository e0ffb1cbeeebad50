"""A lookup with its purpose: what it collects on its way and what becomes of its result. Pure data."""

from collections.abc import Hashable, Sequence
from enum import StrEnum

import msgspec

from coterie.identity import PeerId
from coterie.overlay.kademlia.keys import Item
from coterie.overlay.kademlia.lookup import Lookup


class Kind(StrEnum):
    """What a lookup is for."""

    NODE = "node"
    PROVIDERS = "providers"
    VALUE = "value"
    PROVIDE = "provide"
    PUT = "put"


class Task(msgspec.Struct):
    """One lookup under way. `name` is None for upkeep, which tells nobody."""

    kind: Kind
    key: bytes
    lookup: Lookup
    since: float
    name: Hashable = None
    tells_progress: bool = False
    item: Item | None = None  # found, or to be stored
    lifetime_s: float = 0.0  # of what is to be stored
    hops: int = 0
    named: dict[PeerId, tuple[PeerId, ...]] = msgspec.field(
        default_factory=dict
    )  # providers, by who named them
    providers: dict[PeerId, None] = msgspec.field(default_factory=dict)
    without: list[PeerId] = msgspec.field(default_factory=list)  # asked for the item, answered, have none
    is_storing: bool = False
    storing: int = 0  # requests to store that are under way
    stored: int = 0
    is_join: bool = False
    fills: int = 0
    is_over: bool = False
    nearest_bits: int = 257

    def votes(self, holders: Sequence[PeerId]) -> tuple[tuple[PeerId, int], ...]:
        """(provider, how many of `holders` named it), most votes first.

        Only the peers nearest to the key vote: liars elsewhere can be asked in any number.
        """
        counted = dict.fromkeys(self.providers, 0)
        for holder in holders:
            for provider in self.named.get(holder, ()):
                if provider in counted:
                    counted[provider] += 1
        return tuple(sorted(counted.items(), key=lambda vote: -vote[1]))


class Rpc:
    """A request of ours under way."""

    __slots__ = ("at", "expects", "is_late", "is_slow", "number", "peer", "task")

    def __init__(self, peer: PeerId, at: float, expects: type, task: Task | None, number: int) -> None:
        self.peer = peer
        self.at = at
        self.expects = expects
        self.task = task
        self.number = number  # of the bucket that it refreshes; 0 if none
        self.is_late = False
        self.is_slow = False


class Own(msgspec.Struct):
    """A key that we provide (no item), or an item that we publish, and when it is due again."""

    item: Item | None
    again_at: float


class Wanted(msgspec.Struct, frozen=True):
    """A lookup of upkeep that waits for its turn; `fills` is the number of the bucket for which it is, 0 if none."""

    kind: Kind
    key: bytes
    item: Item | None = None
    lifetime_s: float = 0.0
    is_join: bool = False
    fills: int = 0
