"""What the swarm core remembers of a node under way, of a request and of a source."""

from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate, islice

from coterie.content.swarm import pieces as p
from coterie.content.swarm.events import Peer, Place, Prepared, cost

WINDOW_BYTES_START = 256 << 10  # under way before a source's rate is known: two pieces
WINDOW_BYTES_SHALLOW = 4 << 20  # the same, where the path holds little; guess: 10 ms at 400 MB/s
START_BYTES_PER_S = 50_000_000  # of a source that is alone, while its rate is not known or still grows
WINDOW_BYTES_START_MAX = 16 << 20  # of it; guess: what comes at 100 Mbit/s while a packet is repeated twice
START_ROUND_TRIPS = 16  # since its rate grew last; measured: over 600 ms it takes so many to fill the path
GROWS = 1.25  # times the highest rate so far; guess: above the noise
WINDOW_BYTES_MAX = 64 << 20  # 1 Gbit/s at 500 ms
QUEUE_S = (
    0.25  # what may wait at a source beyond its round trip; guess: more makes each hop later, less starves
)
QUEUE_SWARM_S = (
    0.1  # the same where several give: who starves one feeds others; simulated: 0.1 to 0.25 differ by 1 %
)
PEAK_MEMORY = (
    0.9  # of the highest rate, for each sample since; guess: a lost packet of a far path holds back the rest
)
QUEUE_ALONE_S = 0.5  # the same where nobody else is asked, or asks; guess: the path itself speeds up so fast
RATE_WINDOW_S = 0.5
REFUSALS_MAX = 8  # answers without what was claimed, and over an eighth of all; guess
MANIFEST_COST_BYTES = 64 << 10  # guess: what an answer weighs in the window before it is known
MANIFESTS_AHEAD_MIN = 8  # nodes asked for at once
MANIFESTS_AHEAD_MAX = 64  # and of such that are likely to be small; guess: each may have 1 MB all the same
MANIFESTS_AHEAD_BYTES_MAX = 512 << 10  # likely to come for these; guess: as much as a request for chunks
STALL_SOON_MIN_S = 1.0  # guess: no scheduling hiccup lasts so long
STALL_SOON_MAX_S = 15.0  # half of `core.STALL_S`
STALL_SOON_FACTOR = 4  # guess: of the time in which what is under way should come: then others are asked
NODE_LATE_S = 15.0  # as `STALL_SOON_MAX_S`: for a node, however much else comes of its source
LATE_S = 90.0  # the same for chunks: two pieces, as a new source is asked for, at 3 kB/s
HOLDS_BYTES_MAX = 4 << 20  # remembered of what one peer says it has: 32,000 nodes
HOLDS_COST_BYTES = 100  # of each node in it, beside the set


Child = tuple[bytes, Place, int]
"""A node to be asked for, its place, and how many bytes it is likely to have."""


def weighed(prepared: Prepared) -> list[Child]:
    """The children of a node that was readied, in order."""
    weights = prepared.weights or (MANIFEST_COST_BYTES,) * len(prepared.children)
    return [(*child, weight) for child, weight in zip(prepared.children, weights, strict=True)]


def nodes_ahead_max(likely_bytes: int) -> int:
    """How many nodes may be asked for at once, when so much is likely to come of those asked for."""
    return MANIFESTS_AHEAD_MAX if likely_bytes <= MANIFESTS_AHEAD_BYTES_MAX else MANIFESTS_AHEAD_MIN


class Node:
    """A manifest node at one place, whose chunks are being fetched."""

    __slots__ = (
        "absent",
        "asked",
        "askers",
        "costs",
        "denied",
        "left",
        "manifest",
        "missing",
        "place",
        "rarity",
        "sizes",
        "starts",
    )

    def __init__(
        self,
        manifest: bytes,
        place: Place,
        sizes: Sequence[int],
        missing: Sequence[int],
        absent: Sequence[int] = (),
    ) -> None:
        self.manifest = manifest
        self.place = place
        self.sizes = sizes
        self.starts = p.cut(sizes)
        self.costs = [0, *accumulate([cost(size) for size in sizes])]  # of the first so many chunks
        self.asked = 0
        self.askers: dict[int, list[Peer]] = {}  # of pieces asked for: whom
        self.left: dict[int, list[int]] = {}  # of pieces that are partly there: the chunks still missing
        self.denied: dict[int, object] = {}  # pieces that somebody could not give, and why
        self.missing = 0
        whole = (1 << len(self)) - 1
        if len(missing) == len(sizes):
            self.missing = whole
        else:
            self._note_missing(missing)
        self.rarity = p.Rarity(whole)
        self.absent = 0  # pieces that will not be whole here
        for index in absent:
            self.absent |= 1 << self.piece_of(index)

    def __len__(self) -> int:
        """How many pieces it has."""
        return len(self.starts) - 1

    @property
    def open(self) -> int:
        """The pieces that nobody has been asked for."""
        return self.missing & ~self.asked

    def piece_of(self, chunk: int) -> int:
        """The piece with this chunk in it."""
        return bisect_right(self.starts, chunk) - 1

    def runs(self, piece: int) -> list[tuple[int, int]]:
        """The missing chunks of a piece as (first, behind the last)."""
        left = self.left.get(piece)
        if left is None:
            return [(self.starts[piece], self.starts[piece + 1])]
        runs: list[tuple[int, int]] = []
        for index in left:
            if runs and runs[-1][1] == index:
                runs[-1] = (runs[-1][0], index + 1)
            else:
                runs.append((index, index + 1))
        return runs

    def settle(self, piece: int, first: int, last: int) -> bool:
        """The chunks first..last (exclusive) of a piece are done; True when nothing of the piece is missing now."""
        if not self.missing >> piece & 1:
            return False
        start, end = self.starts[piece], self.starts[piece + 1]
        left = self.left.get(piece)
        if left is not None or first > start or last < end:
            still = [i for i in (left if left is not None else range(start, end)) if not first <= i < last]
            if still:
                self.left[piece] = still
                return False
            self.left.pop(piece, None)
        self.missing ^= 1 << piece
        return True

    def _note_missing(self, missing: Sequence[int]) -> None:
        for index in missing:
            self.left.setdefault(self.piece_of(index), []).append(index)
        for piece in list(self.left):
            self.missing |= 1 << piece
            if len(self.left[piece]) == self.starts[piece + 1] - self.starts[piece]:
                del self.left[piece]  # all of it: the usual case needs no list


@dataclass(slots=True)
class Request:
    """Chunks `first` to `last` (exclusive) of a node, asked of one source; those before `at` are stored."""

    node: Node
    first: int
    last: int
    at: int
    asked_at: float
    insist: bool = False
    is_released: bool = False  # given to others, or not needed: what comes of it all the same is taken

    @property
    def cost(self) -> int:
        """Its weight in the window."""
        return self.node.costs[self.last] - self.node.costs[self.first]

    def pieces(self) -> range:
        """The pieces it still waits for."""
        return range(self.node.piece_of(self.at), self.node.piece_of(self.last - 1) + 1)


@dataclass(slots=True)
class Source:
    """A peer that we ask."""

    peer: Peer
    whole: bool
    last_heard: float
    holds: dict[bytes, int] = field(default_factory=dict)
    lacks: dict[bytes, int] = field(default_factory=dict)  # pieces that it could not give after all
    given: dict[bytes, int] = field(default_factory=dict)
    no_nodes: dict[bytes, None] = field(default_factory=dict)  # nodes that it did not have after all
    holds_bytes: int = 0
    requests: deque[Request] = field(default_factory=deque)
    asked_nodes: deque[Child] = field(default_factory=deque)
    nodes_bytes: int = 0  # that are likely to come for these
    nodes_asked_at: deque[float] = field(default_factory=deque)  # of each of `asked_nodes`
    released_nodes: int = 0  # the first so many of `asked_nodes` were asked of others meanwhile
    coming_bytes: int = 0  # asked for and not arrived: what the window bounds
    arrived_bytes: int = 0
    stored_chunks: int = 0
    refusals: int = 0
    rtt_s: float = 0.0
    rate: float = 0.0  # bytes a second
    peak: float = 0.0  # the highest of late
    rate_bytes: int = 0
    rate_since: float = 0.0
    grew_at: float = 0.0  # its rate
    insist_at: float = 0.0  # from when on it is asked for what it gave to others; 0: not needed now
    queue_s: float = QUEUE_S  # what may wait at it beyond its round trip
    is_shallow: bool = False  # what is asked for waits at the source: little is lost with us
    is_stalled: bool = False
    has_timer: bool = False

    def __post_init__(self) -> None:
        self.rate_since = self.grew_at = self.last_heard

    def window_bytes(self, *, is_alone: bool = False) -> int:
        """How much may be under way from it: what the path holds, as much again for the path to grow, and a queue.

        What the path does not take yet waits at the source, and is not lost with us. `is_alone`: nobody else is asked,
        nor asks it, so that nobody else waits for it either.
        """
        path = int(2 * START_BYTES_PER_S * self.rtt_s) if is_alone else 0
        at_first = min(max(path, WINDOW_BYTES_START), WINDOW_BYTES_START_MAX)
        if self.rate:
            rate = max(self.rate, self.peak) if is_alone else self.rate
            queue_s = QUEUE_ALONE_S if is_alone else self.queue_s
            window = min(int(rate * (2 * self.rtt_s + queue_s)), WINDOW_BYTES_MAX)
            is_starting = is_alone and self.last_heard < self.grew_at + START_ROUND_TRIPS * self.rtt_s
            return max(window, at_first) if is_starting else window
        return max(WINDOW_BYTES_SHALLOW, at_first) if self.is_shallow else at_first

    @property
    def is_demoted(self) -> bool:
        """It claimed too often what it could not give: it is asked only for what nobody else has."""
        return self.refusals > REFUSALS_MAX and self.refusals * 8 > self.stored_chunks

    @property
    def waits(self) -> bool:
        """Whether it owes us anything."""
        return bool(self.requests or self.asked_nodes)

    @property
    def stall_soon_s(self) -> float:
        """After so long a silence others are asked for what it owes."""
        expected = self.coming_bytes / self.rate if self.rate else 0.0
        soon = STALL_SOON_FACTOR * (self.rtt_s + min(expected, 1.0))
        return min(max(STALL_SOON_MIN_S, soon), STALL_SOON_MAX_S)

    def late_s(self, now: float) -> float:
        """How long it has owed the oldest answer: bytes that are heard do not make it younger."""
        asked_at = [*(r.asked_at for r in islice(self.requests, 1)), *islice(self.nodes_asked_at, 1)]
        return now - min(asked_at, default=now)

    def is_late(self, now: float) -> bool:
        """Whether it owes something for so long that it is asked for nothing more before it answers."""
        return self.late_s(now) >= LATE_S

    def owes_late_node(self, now: float) -> bool:
        """Whether it owes a node that others should be asked for."""
        kept = islice(self.nodes_asked_at, self.released_nodes, self.released_nodes + 1)
        return any(now - asked_at >= NODE_LATE_S for asked_at in kept)

    @property
    def may_be_asked_nodes(self) -> bool:
        """Not who owes one that others are asked for now."""
        return not (self.is_stalled or self.released_nodes)

    def has(self, node: Node) -> int:
        """The pieces of `node` that it has, as far as we know."""
        if self.whole:
            return -1 ^ self.lacks.get(node.manifest, 0)
        return self.holds.get(node.manifest, 0)

    def has_node(self, manifest: bytes) -> bool:
        """Whether it has the node itself."""
        return (self.whole or manifest in self.holds) and manifest not in self.no_nodes

    def ask_node(self, child: Child, now: float) -> None:
        """It is asked for a node."""
        self.asked_nodes.append(child)
        self.nodes_bytes += child[2]
        self.nodes_asked_at.append(now)
        if len(self.asked_nodes) + len(self.requests) == 1:
            self.last_heard = now

    def take_node(self, manifest: bytes, place: Place, now: float) -> Child | None:
        """It answered for the node that it owes longest; None: it was not asked for that one."""
        if not self.asked_nodes or self.asked_nodes[0][:2] != (manifest, place):
            return None
        self.nodes_asked_at.popleft()
        self.last_heard = now
        self.is_stalled = False
        child = self.asked_nodes.popleft()
        self.nodes_bytes -= child[2]
        return child

    def note_arrived(self, size: int, now: float) -> None:
        """Measure."""
        self.coming_bytes = max(0, self.coming_bytes - size)
        self.arrived_bytes += size
        self.rate_bytes += size
        self.last_heard = now
        self.is_stalled = False
        elapsed = now - self.rate_since
        if elapsed >= RATE_WINDOW_S:
            self.rate = self.rate_bytes / elapsed
            if self.rate > GROWS * self.peak:
                self.grew_at = now
            self.peak = max(self.rate, PEAK_MEMORY * self.peak)
            self.rate_bytes, self.rate_since = 0, now

    def note_holds(self, manifest: bytes, pieces: int) -> int:
        """It has these too; returns those that are news. Beyond the bound nothing is remembered."""
        known = self.holds.get(manifest)
        grows = len(p.to_bytes(pieces)) + (HOLDS_COST_BYTES if known is None else 0)
        if self.holds_bytes + grows > HOLDS_BYTES_MAX and known is None:
            return 0
        self.holds_bytes += grows if known is None else 0
        self.holds[manifest] = (known or 0) | pieces
        lacked = self.lacks.get(manifest, 0) & pieces
        if lacked:
            self.lacks[manifest] ^= lacked
        return pieces & ~(known or 0)
