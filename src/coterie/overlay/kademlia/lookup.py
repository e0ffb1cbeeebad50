"""One iterative lookup: whom to ask next for the peers nearest to a target, on one path or several disjoint ones. Pure.

With d paths, what one path hears stays in that path, and no peer is asked by two (B&M 4.4): a hostile peer
spoils its own path only. Peers are told apart by their distance to the target, which is as unique as their id.
"""

from bisect import insort
from collections.abc import Iterable, Sequence

from coterie.identity import PeerId
from coterie.overlay.kademlia.keys import node_id
from coterie.overlay.kademlia.limits import KademliaLimits
from coterie.overlay.kademlia.messages import Contact

ASKED, SLOW, ANSWERED, FAILED = 1, 2, 3, 4


class _Path:
    """What one path knows: distances in order, nearest first."""

    __slots__ = ("known", "order", "waits")

    def __init__(self) -> None:
        self.order: list[int] = []
        self.known: dict[int, None] = {}
        self.waits = 0  # requests under way that are not slow


class Lookup:
    """The state of one lookup. Feed it `answered`, `slow` and `failed`; `take` says whom to ask.

    Args:
        target: the place looked for.
        own: our own place; nobody is asked who claims it.
        limits: see there.
        paths: how many disjoint paths; 1 is the lookup of the paper.
    """

    __slots__ = (
        "_alpha", "_asked_max", "_candidates_max", "_hops", "_k", "_on", "_own", "_paths", "_state",
        "asked", "failures", "peers", "records", "target",
    )  # fmt: skip

    def __init__(self, target: int, own: int, limits: KademliaLimits, *, paths: int = 1) -> None:
        self.target = target
        self.peers: dict[int, PeerId] = {}
        self.records: dict[int, bytes] = {}  # of peers heard of, where one came with it
        self.asked = 0
        self.failures = 0
        self._own = own ^ target
        self._k = limits.k
        self._alpha = max(2, -(-limits.alpha // paths))  # of each path: one dead peer does not stop it
        self._asked_max = limits.asked_max
        self._candidates_max = limits.candidates_max
        self._paths = [_Path() for _ in range(paths)]
        self._state: dict[int, int] = {}
        self._on: dict[int, _Path] = {}
        self._hops: dict[int, int] = {}

    def start(self, peers: Iterable[PeerId]) -> None:
        """Begin with `peers`, dealt out to the paths in turn, best first."""
        for number, peer in enumerate(peers):
            distance = node_id(peer) ^ self.target
            if distance != self._own:
                self._learn(self._paths[number % len(self._paths)], distance, peer, 1)

    def take(self) -> list[PeerId]:
        """Whom to ask now; each of them counts as asked."""
        chosen = []
        for path in self._paths:
            while path.waits < self._alpha and self.asked < self._asked_max:
                distance = self._next(path)
                if distance is None:
                    break
                self._state[distance] = ASKED
                self._on[distance] = path
                path.waits += 1
                self.asked += 1
                chosen.append(self.peers[distance])
        return chosen

    def answered(self, peer: PeerId, contacts: Sequence[Contact]) -> None:
        """`peer` answered with `contacts`; those beyond the k-th are not looked at."""
        distance = node_id(peer) ^ self.target
        path = self._close(distance, ANSWERED)
        if path is None:
            return
        hops = self._hops[distance] + 1
        known = path.known
        target = self.target
        order = path.order
        is_full = len(order) >= self._candidates_max
        for contact in contacts[: self._k]:
            heard = node_id(contact.peer) ^ target
            if heard in known or heard == self._own or (is_full and heard > order[-1]):
                continue
            found = contact.peer
            self._learn(path, heard, found if type(found) is PeerId else PeerId(found), hops)
            if contact.record:
                self.records[heard] = contact.record
            is_full = len(order) >= self._candidates_max

    def slow(self, peer: PeerId) -> None:
        """`peer` takes long: somebody else is asked meanwhile; its answer still counts."""
        distance = node_id(peer) ^ self.target
        if self._state.get(distance) == ASKED:
            self._state[distance] = SLOW
            self._on[distance].waits -= 1

    def failed(self, peer: PeerId) -> None:
        """`peer` does not answer, or not what it was asked."""
        if self._close(node_id(peer) ^ self.target, FAILED) is not None:
            self.failures += 1

    @property
    def is_over(self) -> bool:
        """Whether nobody is left to ask or to wait for."""
        if any(path.waits for path in self._paths):
            return False
        return self.asked >= self._asked_max or all(self._next(path) is None for path in self._paths)

    def closest(self, count: int) -> list[PeerId]:
        """The nearest peers that have answered, nearest first."""
        answered = sorted(d for d, state in self._state.items() if state == ANSWERED)
        return [self.peers[d] for d in answered[:count]]

    def hops(self, peer: PeerId) -> int:
        """How many steps away `peer` was first heard of: 1 for those we began with, 0 if never."""
        return self._hops.get(node_id(peer) ^ self.target, 0)

    @property
    def answers(self) -> int:
        """How many peers have answered."""
        return sum(1 for state in self._state.values() if state == ANSWERED)

    def _learn(self, path: _Path, distance: int, peer: PeerId, hops: int) -> None:
        if distance in path.known:
            return
        order = path.order
        if len(order) >= self._candidates_max:
            if distance > order[-1]:
                return
            del path.known[order.pop()]
        insort(order, distance)
        path.known[distance] = None
        if distance not in self.peers:
            self.peers[distance] = peer
            self._hops[distance] = hops

    def _next(self, path: _Path) -> int | None:
        """The nearest of the path's k best that nobody has asked; slow ones do not count among the k."""
        state = self._state
        counted = 0
        for distance in path.order:
            now = state.get(distance)
            if now is None:
                return distance
            if now in (ASKED, ANSWERED):
                counted += 1
                if counted >= self._k:
                    return None
        return None

    def _close(self, distance: int, state: int) -> _Path | None:
        """The path that asked the peer at `distance`, whose request is over now; None if nobody asked it."""
        before = self._state.get(distance)
        if before not in (ASKED, SLOW):
            return None
        path = self._on.pop(distance)
        if before == ASKED:
            path.waits -= 1
        self._state[distance] = state
        return path
