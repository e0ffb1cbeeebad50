"""What goes into the swarm core and comes out of it; see `coterie.content.swarm`."""

from dataclasses import dataclass
from typing import Any, TypeAlias

from coterie.errors import CloseCode

Place: TypeAlias = Any  # the shell's own mark of where a node belongs; opaque to the core
Peer: TypeAlias = Any

CHUNK_COST_BYTES = 256  # what a chunk weighs at least: with its hash and place it takes about so much memory


def cost(chunk_bytes: int) -> int:
    """What a chunk of this size weighs in a window and in what is prepared."""
    return max(chunk_bytes, CHUNK_COST_BYTES)


# ---- events


@dataclass(frozen=True, slots=True)
class Begin:
    """Command: fetch the root node, which belongs at `place`."""

    manifest: bytes
    place: Place


@dataclass(frozen=True, slots=True)
class SourceUp:
    """A session with `peer` is open. `whole`: it says it has everything; `others`: how many besides us ask it."""

    peer: Peer
    whole: bool = True
    others: int = 0


@dataclass(frozen=True, slots=True)
class Holds:
    """`peer` says that it has the node `manifest` and these pieces of it, besides those it named before."""

    peer: Peer
    manifest: bytes
    pieces: int


@dataclass(frozen=True, slots=True)
class HoldsAll:
    """`peer` says that by now it has everything."""

    peer: Peer


@dataclass(frozen=True, slots=True)
class Given:
    """`peer` gave these pieces to others already, who will pass them on: ask it for others first."""

    peer: Peer
    manifest: bytes
    pieces: int


@dataclass(frozen=True, slots=True)
class NodeArrived:
    """The answer to the oldest `AskNode` to `peer`; `node` is decoded and verified, None when the peer has it not."""

    peer: Peer
    manifest: bytes
    place: Place
    node: Any


@dataclass(frozen=True, slots=True)
class Prepared:
    """The shell readied a node.

    `sizes` are those of all its chunks (bytes), `missing` the indexes of those to fetch, `children` its nodes as
    (manifest, place), `absent` the indexes of those that are not here and not wanted.
    """

    manifest: bytes
    place: Place
    sizes: tuple[int, ...]
    missing: tuple[int, ...] | range
    children: tuple[tuple[bytes, Place], ...]
    absent: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Arrived:
    """The link to `peer` brought answers that `size` bytes had been reckoned for. `rtt_s` of its path, 0: unknown."""

    peer: Peer
    size: int
    rtt_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Stored:
    """The next `count` chunks of the requests to `peer`, in their order, are on the disk."""

    peer: Peer
    count: int


@dataclass(frozen=True, slots=True)
class Denied:
    """In place of the next chunk: `peer` cannot give it, for this reason (opaque)."""

    peer: Peer
    reason: Any


@dataclass(frozen=True, slots=True)
class Skipped:
    """In place of all that was still to come of the oldest request to `peer`. `elsewhere`: others have it by now."""

    peer: Peer
    elsewhere: bool


@dataclass(frozen=True, slots=True)
class Wrong:
    """`peer` sent what it was not asked for: it is dropped, named and asked no more."""

    peer: Peer
    reason: str
    close_code: int = CloseCode.PROTOCOL_VIOLATION


@dataclass(frozen=True, slots=True)
class Prefer:
    """Command: the chunks `first` to `last` (exclusive) of this node before all others, and in order; 0, 0 ends it.

    Of a node that is not here yet: the node itself before others. `reader` tells apart who prefers; each has one
    range of a node.
    """

    manifest: bytes
    first: int
    last: int
    reader: int = 0


# ---- outputs


@dataclass(frozen=True, slots=True)
class AskNode:
    """Ask `peer` for a node."""

    peer: Peer
    manifest: bytes
    place: Place


@dataclass(frozen=True, slots=True)
class AskChunks:
    """Ask `peer` for `count` chunks of a node from `first` on. `insist`: even if others were given them."""

    peer: Peer
    manifest: bytes
    place: Place
    first: int
    count: int
    insist: bool = False


@dataclass(frozen=True, slots=True)
class CancelChunks:
    """The request to `peer` that begins at this chunk is no longer needed; what comes all the same is taken."""

    peer: Peer
    manifest: bytes
    first: int
    count: int


@dataclass(frozen=True, slots=True)
class Prepare:
    """Ready this node and report `Prepared`."""

    manifest: bytes
    place: Place
    node: Any


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Nobody can give this chunk, for the reason that the last one gave: it counts as done without being there."""

    manifest: bytes
    place: Place
    index: int
    reason: Any


@dataclass(frozen=True, slots=True)
class Gained:
    """Tell who asks us: these pieces of this node are here now (with none: the node itself is)."""

    manifest: bytes
    pieces: int


@dataclass(frozen=True, slots=True)
class FindProviders:
    """There are few sources, or none is of use: look for more."""


@dataclass(frozen=True, slots=True)
class Drop:
    """No more of this peer; close the link and report `PeerDown`. `ban`: not again during this download."""

    peer: Peer
    reason: str
    close_code: int = CloseCode.TIMEOUT
    ban: bool = False


@dataclass(frozen=True, slots=True)
class Complete:
    """Emitted once: everything was stored or given up."""
