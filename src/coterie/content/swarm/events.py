"""What goes into the swarm core and comes out of it; see `coterie.content.swarm.core`."""

from typing import Any, TypeAlias

import msgspec

from coterie.errors import CloseCode

Place: TypeAlias = Any  # the shell's own mark of where a node belongs; opaque to the core
Peer: TypeAlias = Any

CHUNK_COST_BYTES = 256  # what a chunk weighs at least: with its hash and place it takes about so much memory


def cost(chunk_bytes: int) -> int:
    """What a chunk of this size weighs in a window and in what is prepared."""
    return max(chunk_bytes, CHUNK_COST_BYTES)


# ---- events


class Begin(msgspec.Struct, frozen=True):
    """Command: fetch the root node, which belongs at `place`."""

    manifest: bytes
    place: Place


class SourceUp(msgspec.Struct, frozen=True):
    """A session with `peer` is open. `whole`: it says it has everything; `others`: how many besides us ask it.

    `rtt_s` of its path, 0: unknown.
    """

    peer: Peer
    whole: bool = True
    others: int = 0
    rtt_s: float = 0.0


class Holds(msgspec.Struct, frozen=True):
    """`peer` says that it has the node `manifest` and these pieces of it, besides those it named before."""

    peer: Peer
    manifest: bytes
    pieces: int


class HoldsAll(msgspec.Struct, frozen=True):
    """`peer` says that by now it has everything."""

    peer: Peer


class Given(msgspec.Struct, frozen=True):
    """`peer` gave these pieces to others already, who will pass them on: ask it for others first."""

    peer: Peer
    manifest: bytes
    pieces: int


class Heard(msgspec.Struct, frozen=True):
    """Bytes of `peer` came, as many as a slow line brings, though nothing whole yet: it is not silent."""

    peer: Peer


class Prepared(msgspec.Struct, frozen=True):
    """A node that was verified, and for which the shell readied the disk.

    `sizes` are those of all its chunks (bytes), `missing` the indexes of those to fetch, `children` its nodes as
    (manifest, place), `absent` the indexes of those that are not here and not wanted. `weights`: bytes that each of the
    children is likely to have; none: nobody knows.
    """

    manifest: bytes
    place: Place
    sizes: tuple[int, ...]
    missing: tuple[int, ...] | range
    children: tuple[tuple[bytes, Place], ...]
    absent: tuple[int, ...] = ()
    weights: tuple[int, ...] = ()


class NodeArrived(msgspec.Struct, frozen=True):
    """The answer to the oldest `AskNode` to `peer`: the node as it was `prepared`, None when the peer has it not.

    Several peers may bring a node to one place; all of them brought what was prepared for the first.
    """

    peer: Peer
    manifest: bytes
    place: Place
    prepared: Prepared | None


class Arrived(msgspec.Struct, frozen=True):
    """The link to `peer` brought answers that `size` bytes had been reckoned for. `rtt_s` of its path, 0: unknown.

    `is_shallow`: the path holds little of what was asked for; the rest waits at the peer and is not lost with us.
    """

    peer: Peer
    size: int
    rtt_s: float = 0.0
    is_shallow: bool = False


class Stored(msgspec.Struct, frozen=True):
    """The next `count` chunks of the requests to `peer`, in their order, are on the disk."""

    peer: Peer
    count: int


class Together(msgspec.Struct, frozen=True):
    """Several events, in their order; what they let us ask for is looked for once, behind the last."""

    events: tuple[Any, ...]


class Denied(msgspec.Struct, frozen=True):
    """In place of the next chunk: `peer` cannot give it, for this reason (opaque)."""

    peer: Peer
    reason: Any


class Skipped(msgspec.Struct, frozen=True):
    """In place of all that was still to come of the oldest request to `peer`. `elsewhere`: others have it by now."""

    peer: Peer
    elsewhere: bool


class Wrong(msgspec.Struct, frozen=True):
    """`peer` sent what it was not asked for: it is dropped, named and asked no more."""

    peer: Peer
    reason: str
    close_code: int = CloseCode.PROTOCOL_VIOLATION


class Hold(msgspec.Struct, frozen=True):
    """Ask for nodes only, while `is_on`: it is being found out which chunks are to come first."""

    is_on: bool


class Prefer(msgspec.Struct, frozen=True):
    """Command: the chunks `first` to `last` (exclusive) of this node before all others, and in order; 0, 0 ends it.

    Of a node that is not here yet: the node itself before others. `reader` tells apart who prefers; each has one
    range of a node.
    """

    manifest: bytes
    first: int
    last: int
    reader: int = 0


# ---- outputs


class AskNode(msgspec.Struct, frozen=True):
    """Ask `peer` for a node."""

    peer: Peer
    manifest: bytes
    place: Place


class AskChunks(msgspec.Struct, frozen=True):
    """Ask `peer` for `count` chunks of a node from `first` on. `insist`: even if others were given them."""

    peer: Peer
    manifest: bytes
    place: Place
    first: int
    count: int
    insist: bool = False


class CancelChunks(msgspec.Struct, frozen=True):
    """The request to `peer` that begins at this chunk is no longer needed; what comes all the same is taken."""

    peer: Peer
    manifest: bytes
    first: int
    count: int


class GiveUp(msgspec.Struct, frozen=True):
    """Nobody can give this chunk, for the reason that the last one gave: it counts as done without being there."""

    manifest: bytes
    place: Place
    index: int
    reason: Any


class Gained(msgspec.Struct, frozen=True):
    """Tell who asks us: these pieces of this node are here now (with none: the node itself is)."""

    manifest: bytes
    pieces: int


class FindProviders(msgspec.Struct, frozen=True):
    """There are few sources, or none is of use: look for more."""


class Drop(msgspec.Struct, frozen=True):
    """No more of this peer; close the link and report `PeerDown`. `ban`: not again during this download."""

    peer: Peer
    reason: str
    close_code: int = CloseCode.TIMEOUT
    ban: bool = False


class Complete(msgspec.Struct, frozen=True):
    """Emitted once: everything was stored or given up."""
