"""One iterative lookup: whom to ask next for the peers nearest to a target, on one path or several disjoint ones. Pure.

With d paths, what one path hears stays in that path, and no peer is asked by two (B&M 4.4): a hostile peer
spoils its own path only. Peers are told apart by their distance to the target, which is as unique as their id.

Departures from M&M 2.3, measured by our scenario kademlia-lookup:
- alpha counts answers that are to be expected, not requests: peers last seen long ago count for less (`odds.py`).
- Who is as near to the target as our own k-th neighbour is to us is one of its k nearest, as far as we can know: it
  will be asked anyway, so it is asked at once, beyond alpha. The paper does so when a round brought nobody nearer.
- Who has most likely left is passed over as long as others suffice.
- The end waits longer for who would be the nearest, or is more likely late than gone, than for others.
"""

from bisect import insort
from collections.abc import Mapping, Sequence

from coterie.identity import PeerId
from coterie.overlay.kademlia.keys import node_id
from coterie.overlay.kademlia.limits import KademliaLimits
from coterie.overlay.kademlia.messages import Contact
from coterie.overlay.kademlia.odds import LATE_SHARE, Odds, odds

WAITS, LATE, SLOW, ANSWERED, FAILED = 1, 2, 3, 4, 5


class _Path:
    """What one path knows: distances in order, nearest first, and how long ago each gave a sign of life."""

    __slots__ = ("expected", "known", "order", "waits")

    def __init__(self) -> None:
        self.order: list[int] = []
        self.known: dict[int, int | None] = {}  # the freshest age (s) that was told
        self.waits = 0  # requests under way that are not late
        self.expected = 0.0  # answers to them


class _Asked:
    """A peer that was asked."""

    __slots__ = ("age_s", "odds", "path", "state")

    def __init__(self, path: _Path, age_s: int | None, likely: float) -> None:
        self.path = path
        self.age_s = age_s
        self.odds = likely
        self.state = WAITS


class Lookup:
    """The state of one lookup. Feed it `answered`, `late`, `slow` and `failed`; `take` says whom to ask.

    Args:
        target: the place looked for.
        own: our own place; nobody is asked who claims it.
        limits: see there.
        paths: how many disjoint paths; 1 is the lookup of the paper.
        reach: the distance within which k peers are to be expected; 0 when we cannot tell.
        is_patient: nobody waits for it (upkeep): as in the paper, without what costs messages and saves time.
        learned: how likely peers answer; it learns from this lookup, which itself goes by what was known before.
    """

    __slots__ = (
        "_alpha", "_answers", "_candidates_max", "_hops", "_is_patient", "_late", "_learned", "_limits", "_of", "_own",
        "_pace", "_paths", "_reach", "asked", "failures", "peers", "records", "target",
    )  # fmt: skip

    def __init__(
        self,
        target: int,
        own: int,
        limits: KademliaLimits,
        *,
        paths: int = 1,
        reach: int = 0,
        is_patient: bool = False,
        learned: Odds | None = None,
    ) -> None:
        self.target = target
        self.peers: dict[int, PeerId] = {}
        self.records: dict[int, bytes] = {}  # of peers heard of, where one came with it
        self.asked = 0
        self.failures = 0
        self._own = own ^ target
        self._limits = limits
        self._alpha = max(2, -(-limits.alpha // paths))  # of each path: one dead peer does not stop it
        self._candidates_max = limits.candidates_max
        self._is_patient = is_patient
        self._reach = 0 if is_patient else reach
        self._learned = learned or Odds()
        self._pace = 0.0 if is_patient else self._learned.pace
        self._paths = [_Path() for _ in range(paths)]
        self._of: dict[int, _Asked] = {}
        self._late: dict[int, None] = {}  # those that are late and not slow yet
        self._answers: list[int] = []  # distances of those that answered, in order
        self._hops: dict[int, int] = {}

    def start(self, peers: Mapping[PeerId, int | None]) -> None:
        """Begin with `peers` (and the seconds since each was seen), dealt out to the paths in turn, best first."""
        for number, (peer, age_s) in enumerate(peers.items()):
            distance = node_id(peer) ^ self.target
            if distance != self._own:
                self._learn(self._paths[number % len(self._paths)], distance, peer, 1, age_s)

    def take(self) -> list[PeerId]:
        """Whom to ask now; each of them counts as asked."""
        chosen = self._take(self._limits.doubtful)
        if not chosen and self._may_doubt():
            chosen = self._take(0.0)
        return chosen

    def _take(self, doubtful: float) -> list[PeerId]:
        chosen = []
        for path in self._paths:
            while self.asked < self._limits.asked_max:
                distance = self._next(path, doubtful)
                if distance is None or (path.expected > self._alpha - 0.5 and distance > self._reach):
                    break
                age_s = path.known[distance]
                self._of[distance] = asked = _Asked(path, age_s, odds(age_s, self._pace))
                path.waits += 1
                path.expected += asked.odds
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
        for contact in contacts[: self._limits.k]:
            heard = node_id(contact.peer) ^ target
            if heard in known:
                known[heard] = _fresher(known[heard], contact.age_s)
                continue
            if heard == self._own or (is_full and heard > order[-1]):
                continue
            found = contact.peer
            found = found if type(found) is PeerId else PeerId(found)
            self._learn(path, heard, found, hops, contact.age_s)
            if contact.record:
                self.records[heard] = contact.record
            is_full = len(order) >= self._candidates_max

    def late(self, peer: PeerId) -> None:
        """`peer` takes long: somebody else is asked meanwhile. See `is_over` for whom the end waits nevertheless."""
        distance = node_id(peer) ^ self.target
        asked = self._of.get(distance)
        if asked is not None and asked.state == WAITS and not self._is_patient:
            self._leave(asked, LATE)
            self._late[distance] = None

    def slow(self, peer: PeerId) -> None:
        """`peer` takes so long that nothing waits for it; its answer still counts."""
        distance = node_id(peer) ^ self.target
        asked = self._of.get(distance)
        if asked is not None and asked.state in (WAITS, LATE):
            self._leave(asked, SLOW)
            self._late.pop(distance, None)
            self._learned.note(asked.age_s, answered=False)

    def failed(self, peer: PeerId) -> None:
        """`peer` does not answer, or not what it was asked."""
        if self._close(node_id(peer) ^ self.target, FAILED) is not None:
            self.failures += 1

    @property
    def is_over(self) -> bool:
        """Whether nobody is left to ask or to wait for."""
        if any(path.waits for path in self._paths):
            return False
        if any(map(self._is_worth_waiting, self._late)):
            return False
        if self.asked >= self._limits.asked_max:
            return True
        doubtful = 0.0 if self._may_doubt() else self._limits.doubtful
        return all(self._next(path, doubtful) is None for path in self._paths)

    def closest(self, count: int) -> list[PeerId]:
        """The nearest peers that have answered, nearest first."""
        return [self.peers[d] for d in self._answers[:count]]

    def hops(self, peer: PeerId) -> int:
        """How many steps away `peer` was first heard of: 1 for those we began with, 0 if never."""
        return self._hops.get(node_id(peer) ^ self.target, 0)

    @property
    def answers(self) -> int:
        """How many peers have answered."""
        return len(self._answers)

    def _learn(self, path: _Path, distance: int, peer: PeerId, hops: int, age_s: int | None) -> None:
        if distance in path.known:
            return
        order = path.order
        if len(order) >= self._candidates_max:
            if distance > order[-1]:
                return
            del path.known[order.pop()]
        insort(order, distance)
        path.known[distance] = age_s
        if distance not in self.peers:
            self.peers[distance] = peer
            self._hops[distance] = hops

    def _is_worth_waiting(self, late: int) -> bool:
        """Whether a late peer would be the nearest, or is one of the k nearest and more likely late than gone."""
        answers = self._answers
        if not answers or late < answers[0]:
            return True
        if len(answers) >= self._limits.k and late > answers[self._limits.k - 1]:
            return False
        here = self._of[late].odds * LATE_SHARE
        return here >= self._limits.doubtful * (here + 1 - self._of[late].odds)

    def _may_doubt(self) -> bool:
        """Whether it is time to ask those who have most likely left: nothing else is left to do."""
        return len(self._answers) < self._limits.k and not any(path.waits for path in self._paths)

    def _next(self, path: _Path, doubtful: float) -> int | None:
        """The nearest that nobody has asked and that likely answers; None once k answers are there or expected.

        Late, slow and dead peers do not count among the k. A path that knows fewer than k passes nobody over.
        """
        k = self._limits.k
        if len(path.order) < k:
            doubtful = 0.0
        counted = 0.0
        for distance in path.order:
            asked = self._of.get(distance)
            if asked is None:
                if odds(path.known[distance], self._pace) >= doubtful:
                    return distance
            elif asked.state in (ANSWERED, WAITS):
                counted += 1.0 if asked.state == ANSWERED else asked.odds
                if counted > k - 1:  # expected to be k when rounded up
                    return None
        return None

    def _leave(self, asked: _Asked, state: int) -> None:
        """From now on `asked` is in `state`, and its path does not wait for it."""
        if asked.state == WAITS:
            path = asked.path
            path.waits -= 1
            path.expected = path.expected - asked.odds if path.waits else 0.0
        asked.state = state

    def _close(self, distance: int, state: int) -> _Path | None:
        """The path that asked the peer at `distance`, whose request is over now; None if nobody asked it."""
        asked = self._of.get(distance)
        if asked is None or asked.state in (ANSWERED, FAILED):
            return None
        if asked.state != SLOW:
            self._learned.note(asked.age_s, answered=state == ANSWERED)
        self._leave(asked, state)
        self._late.pop(distance, None)
        if state == ANSWERED:
            insort(self._answers, distance)
        return asked.path


def _fresher(a: int | None, b: int | None) -> int | None:
    return b if a is None else a if b is None else min(a, b)
