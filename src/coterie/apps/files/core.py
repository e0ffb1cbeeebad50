"""The asker's core: which manifests and chunks to ask for next, how much at once, when to give up waiting.

Work is discovered depth first, so that what waits stays small however large the tree: a node is fetched
(`GetManifest`), prepared by the shell (folders made, chunks that are already on disk found), and then asks for its
missing chunks (`GetChunks`) and its children. Bytes never pass through here; the shell reports what it stored.
"""

from collections import deque
from dataclasses import dataclass
from typing import Any, TypeAlias

from coterie.apps.files.messages import CHUNKS_PER_REQUEST_MAX, GetChunks, GetManifest
from coterie.errors import CloseCode
from coterie.machine import CancelTimer, Emit, PeerDown, PeerUp, Send, SetTimer, TimerFired

WINDOW_BYTES_MIN = 512 << 10  # measured: twenty kills (-9) in 2 GB then cost less than 1 % again
WINDOW_GROWTH = 1 / 256  # of what the session brought: it bounds what a kill costs, and soon fills any path
WINDOW_BYTES_MAX = 64 << 20  # 1 Gbit/s at 500 ms
REQUEST_BYTES = 512 << 10  # measured: with less, the messages cost; with more, too few are under way
MANIFESTS_AHEAD_MAX = 8  # nodes asked for or being prepared at once
MANIFEST_COST_BYTES = 64 << 10  # guess: what an answer weighs in the window before it is known
PREPARED_BYTES_MIN = 4 << 20  # while less than this waits to be asked for, look for more nodes
STALL_S = 10.0  # without a byte for so long the peer counts as gone
NODES_WAITING_MAX = 150_000  # honest: depth x page; measured: 0.6 KB each, 1.8 KB in the deepest lie: 270 MB
CHUNK_COST_BYTES = 256  # what a chunk weighs at least: with its hash and place it takes about so much memory
RATE_WINDOW_S = 0.5

Place: TypeAlias = Any  # the shell's own mark of where a node belongs; opaque here


def cost(chunk_bytes: int) -> int:
    """What a chunk of this size weighs in the window and in what is prepared."""
    return max(chunk_bytes, CHUNK_COST_BYTES)


@dataclass(frozen=True, slots=True)
class Begin:
    """Command: fetch the root node, which belongs at `place`."""

    manifest: bytes
    place: Place


@dataclass(frozen=True, slots=True)
class NodeArrived:
    """The answer to the oldest `GetManifest`; `node` is decoded and verified, None when the peer has it not."""

    manifest: bytes
    place: Place
    node: Any


@dataclass(frozen=True, slots=True)
class Run:
    """`count` chunks of a node from `first` on, `sizes[i]` bytes each."""

    first: int
    sizes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Prepared:
    """The shell readied a node: what is missing of it, and its children as (manifest, place)."""

    manifest: bytes
    place: Place
    missing: tuple[Run, ...]
    children: tuple[tuple[bytes, Place], ...]


@dataclass(frozen=True, slots=True)
class Arrived:
    """The link brought whole answers: chunks that `cost` this much together. There is room for more under way."""

    size: int


@dataclass(frozen=True, slots=True)
class Stored:
    """The shell has on disk, or given up, the next `count` chunks (`size` bytes) of the requests, in their order."""

    count: int
    size: int


@dataclass(frozen=True, slots=True)
class Prepare:
    """Output: ready this node and report `Prepared`."""

    manifest: bytes
    place: Place
    node: Any


@dataclass(frozen=True, slots=True)
class Asked:
    """Output beside each `Send` of a request: answers for `place` will come, in this order."""

    place: Place
    request: GetManifest | GetChunks


@dataclass(frozen=True, slots=True)
class Drop:
    """Output: no more of this peer: it stalled (TIMEOUT), or broke the protocol. Close the link, report `PeerDown`."""

    reason: str
    close_code: int = CloseCode.TIMEOUT


@dataclass(frozen=True, slots=True)
class Complete:
    """Emitted once: everything was stored or reported unavailable."""


@dataclass(slots=True)
class _Request:
    """A request for chunks under way: what is still to come of it."""

    place: Place
    manifest: bytes
    first: int
    sizes: tuple[int, ...]

    @property
    def cost(self) -> int:
        """Its weight in the window."""
        return sum(map(cost, self.sizes))


class FetchCore:
    """One download from one peer at a time. See the module's text; `rtt_s` is told by the shell and may change."""

    def __init__(self, peer: Any) -> None:
        self.rtt_s = 0.0
        self._peer = peer
        self._up = False
        self._done = False
        self._nodes: list[tuple[bytes, Place]] = []  # to be asked for, last first
        self._asked_nodes: deque[tuple[bytes, Place]] = deque()
        self._preparing = 0
        self._runs: deque[_Request] = deque()  # prepared, to be asked for
        self._runs_bytes = 0
        self._under_way: deque[_Request] = deque()  # asked for and not stored yet
        self._coming_bytes = 0  # asked for and not arrived yet: what the window bounds
        self._arrived_bytes = 0  # in this session
        self._rate = 0.0
        self._rate_bytes = 0
        self._rate_since = 0.0

    @property
    def window_bytes(self) -> int:
        """How much may be under way: twice what the path holds at the rate measured, and more as a session lasts."""
        path = int(2 * self._rate * self.rtt_s)
        return min(max(path, WINDOW_BYTES_MIN + int(self._arrived_bytes * WINDOW_GROWTH)), WINDOW_BYTES_MAX)

    def handle(self, event: Any, now: float) -> list[Any]:
        """See `coterie.machine`."""
        match event:
            case Begin():
                self._nodes.append((event.manifest, event.place))
            case PeerUp():
                self._up = True
                self._arrived_bytes, self._rate_bytes, self._rate_since = 0, 0, now
            case PeerDown():
                self._lose_peer()
                return [CancelTimer("stall")]
            case NodeArrived():
                return self._take_node(event, now)
            case Prepared():
                if not self._take_prepared(event):
                    return [Drop(f"the tree has over {NODES_WAITING_MAX} nodes in waiting", CloseCode.LIMIT)]
            case Arrived():
                self._take_arrived(event, now)
            case Stored():
                self._take_stored(event)
            case TimerFired():
                return [Drop(f"no answer for {STALL_S:.0f} s")] if self._up and self._waits else []
        return self._pump(now, progressed=isinstance(event, Arrived | Stored | PeerUp))

    @property
    def _waits(self) -> bool:
        return bool(self._under_way or self._asked_nodes)

    def _lose_peer(self) -> None:
        """What was under way goes back to the front, in its order."""
        self._up = False
        self._runs.extendleft(reversed(self._under_way))
        self._runs_bytes += sum(request.cost for request in self._under_way)
        self._under_way.clear()
        self._coming_bytes = 0
        self._nodes.extend(reversed(self._asked_nodes))
        self._asked_nodes.clear()

    def _take_node(self, event: NodeArrived, now: float) -> list[Any]:
        if not self._asked_nodes or self._asked_nodes[0] != (event.manifest, event.place):
            return []  # an answer from before the link was lost
        self._asked_nodes.popleft()
        if event.node is None:
            return [Drop("the sharing computer no longer has this share's contents", CloseCode.REFUSED)]
        self._preparing += 1
        return [Prepare(event.manifest, event.place, event.node), *self._pump(now, progressed=True)]

    def _take_prepared(self, event: Prepared) -> bool:
        self._preparing -= 1
        for run in event.missing:
            self._queue(event.place, event.manifest, run)
        self._nodes.extend(reversed(event.children))
        return len(self._nodes) <= NODES_WAITING_MAX

    def _queue(self, place: Place, manifest: bytes, run: Run) -> None:
        """Cut a run into requests of about REQUEST_BYTES."""
        start, size = 0, 0
        for index, chunk_bytes in enumerate(run.sizes):
            if size and (size + chunk_bytes > REQUEST_BYTES or index - start >= CHUNKS_PER_REQUEST_MAX):
                self._runs.append(_Request(place, manifest, run.first + start, run.sizes[start:index]))
                start, size = index, 0
            size += chunk_bytes
        if start < len(run.sizes):
            self._runs.append(_Request(place, manifest, run.first + start, run.sizes[start:]))
        self._runs_bytes += sum(map(cost, run.sizes))

    def _take_arrived(self, event: Arrived, now: float) -> None:
        self._coming_bytes = max(0, self._coming_bytes - event.size)
        self._arrived_bytes += event.size
        self._rate_bytes += event.size
        if now - self._rate_since >= RATE_WINDOW_S:
            self._rate = self._rate_bytes / (now - self._rate_since)
            self._rate_bytes, self._rate_since = 0, now

    def _take_stored(self, event: Stored) -> None:
        left = event.count
        while left and self._under_way:
            request = self._under_way[0]
            take = min(left, len(request.sizes))
            left -= take
            if take == len(request.sizes):
                self._under_way.popleft()
            else:
                request.first += take
                request.sizes = request.sizes[take:]

    def _pump(self, now: float, *, progressed: bool) -> list[Any]:
        """Ask for as much as the window and the look-ahead allow."""
        if self._done:
            return []
        if not (self._nodes or self._waits or self._preparing or self._runs):
            self._done = True
            return [CancelTimer("stall"), Emit(Complete())]
        if not self._up:
            return []
        idle = not self._waits
        outputs: list[Any] = []
        while self._nodes and self._may_look_ahead():
            manifest, place = self._nodes.pop()
            self._asked_nodes.append((manifest, place))
            outputs += self._ask(place, GetManifest(manifest))
        while self._runs and self._has_room():
            request = self._runs.popleft()
            self._runs_bytes -= request.cost
            self._coming_bytes += request.cost
            self._under_way.append(request)
            outputs += self._ask(
                request.place, GetChunks(request.manifest, request.first, len(request.sizes))
            )
        if not self._waits:
            outputs.append(CancelTimer("stall"))
        elif progressed or idle:
            outputs.append(SetTimer("stall", now + STALL_S))
        return outputs

    def _may_look_ahead(self) -> bool:
        ahead = len(self._asked_nodes) + self._preparing
        return ahead < MANIFESTS_AHEAD_MAX and self._runs_bytes < PREPARED_BYTES_MIN

    def _has_room(self) -> bool:
        waiting = self._coming_bytes + MANIFEST_COST_BYTES * len(self._asked_nodes)
        return waiting == 0 or waiting + self._runs[0].cost <= self.window_bytes

    def _ask(self, place: Place, request: GetManifest | GetChunks) -> list[Any]:
        return [Asked(place, request), Send(self._peer, request)]
