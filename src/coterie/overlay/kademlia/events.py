"""What a program tells a Kademlia node (commands), and what it is told (emitted events, typed requests)."""

from collections.abc import Hashable
from enum import StrEnum
from typing import Any

import msgspec

from coterie.identity import PeerId
from coterie.overlay.kademlia.keys import Item

# ---- commands


class Bootstrap(msgspec.Struct, frozen=True):
    """Join, or join again, through these peers and those of the imported table. Starts all upkeep."""

    peers: tuple[PeerId, ...] = ()


class KeepUp(msgspec.Struct, frozen=True):
    """Start the upkeep alone: of a node whose table is filled already."""


class SetServing(msgspec.Struct, frozen=True):
    """Whether others can reach us from outside: only then we answer and let ourselves be put into tables."""

    serves: bool


class LookUp(msgspec.Struct, frozen=True, kw_only=True):
    """Base of the commands that look something up. `lookup` is the caller's name for it, `Finished` bears it.

    `key` has 32 bytes. `paths` and `deadline_s` are those of the limits when None. With `progress`, each answer
    that brings a peer nearer is emitted too.
    """

    lookup: Hashable
    key: bytes
    paths: int | None = None
    deadline_s: float | None = None
    progress: bool = False


class SeekNode(LookUp, frozen=True, kw_only=True):
    """Find the k peers nearest to `key`."""


class SeekProviders(LookUp, frozen=True, kw_only=True):
    """Find who provides `key`. Runs to its end for their votes; `Cancel` it when enough have been found."""


class SeekValue(LookUp, frozen=True, kw_only=True):
    """Find the item under `key`: of an immutable one the first, of signed ones the newest of all holders."""


class Provide(LookUp, frozen=True, kw_only=True):
    """Announce that we provide `key`, again and again until `Withdraw`."""


class Put(LookUp, frozen=True, kw_only=True):
    """Store `item` at the k peers nearest to its key, and again until it expires or `Withdraw`."""

    key: bytes = b""
    item: Item


class Withdraw(msgspec.Struct, frozen=True):
    """Announce and store what stands under `key` no longer; what others keep of it expires."""

    key: bytes


class Cancel(msgspec.Struct, frozen=True):
    """End this lookup now; it finishes as `CANCELLED` with what it has."""

    lookup: Hashable


# ---- emitted


class Outcome(StrEnum):
    """How a lookup ended."""

    DONE = "done"
    NOT_FOUND = "not found"
    CANCELLED = "cancelled"
    DEADLINE = "deadline"
    ALONE = "nobody to ask"
    BUSY = "too many lookups"
    REFUSED = "no key, or a name that is taken"


class Found(msgspec.Struct, frozen=True):
    """A provider or a (newer) item, as soon as it is known; also at the end in `Finished`."""

    lookup: Hashable
    provider: PeerId | None = None
    item: Item | None = None


class Progress(msgspec.Struct, frozen=True):
    """How far a lookup is: peers asked, peers that answered, bits in which the nearest differs from the key."""

    lookup: Hashable
    asked: int
    answers: int
    nearest_bits: int


class Finished(msgspec.Struct, frozen=True, kw_only=True):
    """The end of a lookup.

    Fields:
        closest: up to k peers that answered, nearest to the key first.
        providers: (peer, how many of the k nearest to the key named it), most first: a few liars do not come first.
        item: the newest found, for `Put` the one stored.
        stored: holders that took the announcement or item.
        asked, hops, took_s: requests, steps to the nearest that answered (or to the item), seconds.
    """

    lookup: Hashable
    outcome: Outcome
    key: bytes
    closest: tuple[PeerId, ...] = ()
    providers: tuple[tuple[PeerId, int], ...] = ()
    item: Item | None = None
    stored: int = 0
    asked: int = 0
    hops: int = 0
    took_s: float = 0.0


# ---- requests to others


class Learned(msgspec.Struct, frozen=True):
    """Where `peer` may be reached, as somebody passed it on: for the address book, which verifies it.

    Comes just before the first `Send` to that peer, and for providers before they are named.
    """

    peer: PeerId
    record: bytes


# ---- looked at


class BucketView(msgspec.Struct, frozen=True):
    """A bucket. `bits` is how many leading bits its contacts share with us."""

    bits: int
    contacts: tuple[PeerId, ...]
    waiting: int
    failing: int
    median_rtt_s: float


class LookupView(msgspec.Struct, frozen=True):
    """A lookup in progress; `lookup` is None for our own upkeep."""

    lookup: Hashable
    kind: str
    key: bytes
    asked: int
    answers: int
    failures: int
    since: float


class Snapshot(msgspec.Struct, frozen=True):
    """A node's state, for people. `counters` are totals since the start, by name."""

    serves: bool
    contacts: int
    buckets: tuple[BucketView, ...]
    items: int
    provider_records: int
    provided_keys: int
    own: int
    lookups: tuple[LookupView, ...]
    requests: int
    counters: dict[str, Any]
