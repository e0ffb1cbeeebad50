"""Searching among equals that nobody has sorted: floods, expanding rings, random walks (Lv et al. 2002).

core = Search(key.peer_id, sign=key.sign, random=Random(seed), answer=lambda topic, body: [...])
core.handle(Ask("my search", topic="files", body=b"..."), now)  ->  Emit(Found(...)), Emit(Ended(...))

`now` is in unix seconds: questions say until when they are asked. Neighbours are the peers of `PeerUp`, or with
`follows_connections=False` those of the last `Neighbours` command (an active view). This module is what a node does
for others; what it does for itself is in `search/asker.py`.
"""

from collections.abc import Callable, Hashable, Sequence
from random import Random
from typing import Any

import msgspec

from coterie.identity import PeerId
from coterie.identity.keys import verify
from coterie.machine import CancelTimer, PeerDown, PeerUp, Received, Send, SetTimer, TimerFired
from coterie.overlay.search.asker import Ask, Asker, Cancel
from coterie.overlay.search.limits import CHECK_EVERY_HOPS, SearchLimits, flood_cost, walk_cost
from coterie.overlay.search.messages import (
    ITEM_BYTES_MAX,
    ITEMS_MAX,
    Answer,
    Check,
    Flooded,
    Question,
    Verdict,
    Walking,
)
from coterie.rate import Rate, RateTable

AnswerFunction = Callable[[str, bytes], Sequence[bytes]]  # (topic, body) -> items; none when there is nothing
Verify = Callable[[PeerId, bytes, bytes], bool]


class Neighbours(msgspec.Struct, frozen=True):
    """A command: from now on these are the neighbours."""

    peers: tuple[PeerId, ...]


_NOBODY: list[Hashable] = []  # shared, and never added to


class _Seen:
    """What is remembered of a question."""

    __slots__ = ("question", "relayed", "ring", "source", "used")

    def __init__(self, question: Question, source: Hashable) -> None:
        self.question = question
        self.source = source
        self.ring = -1  # the largest that was passed on
        self.used: list[Hashable] = _NOBODY  # neighbours that got a walker from us; not more than there are
        self.relayed = 0  # answers passed back


class SearchCounts(msgspec.Struct):
    """What a node has refused, for metrics."""

    over_budget: int = 0
    invalid: int = 0  # expired, forged, or for a walker nobody can stop
    unasked: int = 0  # answers and verdicts that nobody here waits for
    repeated: int = 0


class Search:
    """One node's part in all searches, and its own.

    Args:
        peer: who we are.
        sign: signs our questions.
        random: for ids and walks.
        answer: what this node has for (topic, body). It is called once for a question, and must be quick.
        is_direct: whether others can dial us; if not, answers come back along the way of the question.
        limits: see `SearchLimits`.
        follows_connections: take every `PeerUp` for a neighbour.
        verify: (peer, message, signature); a simulation of millions of messages may trust instead.
    """

    def __init__(
        self,
        peer: PeerId,
        *,
        sign: Callable[[bytes], bytes],
        random: Random,
        answer: AnswerFunction = lambda topic, body: (),
        is_direct: bool = True,
        limits: SearchLimits | None = None,
        follows_connections: bool = True,
        verify: Verify = verify,
    ) -> None:
        self._peer = peer
        self._random = random
        self._answer = answer
        self._limits = limits or SearchLimits()
        self._follows_connections = follows_connections
        self._verify = verify
        self._neighbours: dict[Hashable, None] = {}
        self._seen: dict[bytes, _Seen] = {}
        self._parked: dict[tuple[bytes, int], tuple[Walking, Hashable]] = {}  # and whom it came from
        self._parked_from: dict[Hashable, int] = {}
        bounds = self._limits
        self._budgets: RateTable[Hashable, Rate] = RateTable(
            bounds.peers_max, lambda _: Rate(bounds.budget_per_s, bounds.budget_burst)
        )
        self.counts = SearchCounts()
        self._asker = Asker(peer, sign=sign, random=random, is_direct=is_direct, limits=self._limits)

    @property
    def neighbours(self) -> list[Hashable]:
        """Whom questions are passed on to."""
        return list(self._neighbours)

    @property
    def sizes(self) -> dict[str, int]:
        """Entries of each table, for metrics and tests; see `SearchLimits` for their bounds."""
        return {
            "seen": len(self._seen),
            "parked": len(self._parked),
            "budgets": len(self._budgets),
            "searches": self._asker.searches,
            "neighbours": len(self._neighbours),
        }

    def handle(self, event: Any, now: float) -> list[Any]:
        """See `coterie.machine`."""
        match event:
            case Received(peer, message):
                return self._receive(peer, message, now)
            case TimerFired(("parked", bytes(query_id), int(walker))):
                self._unpark((query_id, walker))
            case TimerFired(key):
                return self._remember_own(self._asker.fire(key, now, self.neighbours), now)
            case PeerUp(peer) if self._follows_connections:
                if len(self._neighbours) < self._limits.neighbours_max:
                    self._neighbours[peer] = None
            case PeerDown(peer):
                self._neighbours.pop(peer, None)
            case Neighbours(peers):
                self._neighbours = dict.fromkeys(peers[: self._limits.neighbours_max])
            case Ask():
                return self._remember_own(self._asker.ask(event, now, self.neighbours), now)
            case Cancel(key):
                return self._asker.cancel(key)
        return []

    def _receive(self, peer: Hashable, message: Any, now: float) -> list[Any]:
        match message:
            case Flooded():
                return (
                    self._flooded(peer, message, now)
                    if self._pays(peer, flood_cost(message.hops_left), now)
                    else []
                )
            case Walking():
                return (
                    self._walking(peer, message, now)
                    if self._pays(peer, walk_cost(message.hops_left), now)
                    else []
                )
        if not self._pays(peer, 1.0, now):
            return []
        match message:
            case Answer():
                return self._answered(peer, message)
            case Check(query_id, walker, is_end):
                goes_on = self._asker.checked(query_id, walker, is_end=is_end, now=now)
                return [] if is_end else [Send(peer, Verdict(query_id, walker, goes_on))]
            case Verdict(query_id, walker, goes_on):
                return self._judged(peer, query_id, walker, goes_on=goes_on)
        return []

    # ---- what others may make us do

    def _pays(self, peer: Hashable, cost: float, now: float) -> bool:
        """Whether `peer` has budget left for what its message may cause."""
        if self._budgets.of(peer).take(now, cost):
            return True
        self.counts.over_budget += 1
        return False

    def _is_valid(self, question: Question, now: float) -> bool:
        """Whether a question not seen before may be passed on."""
        limits = self._limits
        left_s = question.expires - now
        if -limits.skew_s <= left_s <= limits.lifetime_max_s + limits.skew_s and self._verify(
            PeerId(question.asker), question.signed_bytes, question.signature
        ):
            return True
        self.counts.invalid += 1
        return False

    def _meet(self, peer: Hashable, question: Question, now: float) -> tuple[_Seen | None, list[Any]]:
        """What we remember of the question; the first time, after answering it. None: drop it."""
        seen = self._seen.get(question.id)
        if seen is not None:
            if seen.question.signature == question.signature:
                return seen, []
            self.counts.invalid += 1  # another question under a known id
            return None, []
        if question.asker == self._peer or not self._is_valid(question, now):
            return None, []
        seen = self._remember(question, peer)
        return seen, self._answer_to(question, peer)

    def _remember(self, question: Question, source: Hashable) -> _Seen:
        if len(self._seen) >= self._limits.seen_max:
            del self._seen[next(iter(self._seen))]
        seen = self._seen[question.id] = _Seen(question, source)
        return seen

    def _remember_own(self, outputs: list[Any], now: float) -> list[Any]:
        """Our own questions are known to us: what comes round to us is a repetition."""
        for output in outputs:
            if type(output) is Send and output.message.question.id not in self._seen:
                self._remember(output.message.question, self._peer).ring = FIRST_OF_OWN
        return outputs

    def _answer_to(self, question: Question, source: Hashable) -> list[Any]:
        items = tuple(bytes(item)[:ITEM_BYTES_MAX] for item in self._answer(question.topic, question.body))
        if not items:
            return []
        to = PeerId(question.asker) if question.is_direct else source
        return [Send(to, Answer(question.id, bytes(self._peer), items[:ITEMS_MAX]))]

    # ---- floods

    def _flooded(self, peer: Hashable, message: Flooded, now: float) -> list[Any]:
        seen, outputs = self._meet(peer, message.question, now)
        if seen is None:
            return []
        if message.ring <= seen.ring:
            self.counts.repeated += 1
            return []
        seen.ring = message.ring
        if message.hops_left == 0:
            return outputs
        onward = Flooded(seen.question, message.ring, message.hops_left - 1)
        return outputs + [Send(n, onward) for n in self._neighbours if n != peer]

    # ---- walks

    def _walking(self, peer: Hashable, message: Walking, now: float) -> list[Any]:
        question = message.question
        if not question.is_direct and message.hops_left > self._limits.unchecked_hops:
            self.counts.invalid += 1
            return []
        seen, outputs = self._meet(peer, question, now)
        if seen is None:
            return []
        if outputs and question.wanted == 1:
            return outputs  # the walker has done its work
        if not question.is_direct:
            return outputs + self._walk_on(seen, message, peer)
        asker = PeerId(question.asker)
        is_end = message.hops_left == 0
        if asker == self._peer:  # it has come home: no need to ask anybody
            goes_on = self._asker.checked(question.id, message.walker, is_end=is_end, now=now)
            return self._walk_on(seen, message, peer) if goes_on else []
        if is_end:
            return [*outputs, Send(asker, Check(question.id, message.walker, True))]
        if message.hops_left % CHECK_EVERY_HOPS:
            return outputs + self._walk_on(seen, message, peer)
        return outputs + self._park(peer, Walking(seen.question, message.walker, message.hops_left), now)

    def _park(self, peer: Hashable, message: Walking, now: float) -> list[Any]:
        """Ask the asker; the walker waits here for its word."""
        key = (message.question.id, message.walker)
        held = self._parked_from.get(peer, 0)
        if key in self._parked:
            self._unpark(key)
        elif len(self._parked) >= self._limits.parked_max or held >= self._limits.parked_per_peer_max:
            self.counts.over_budget += 1
            return []
        self._parked[key] = (message, peer)
        self._parked_from[peer] = self._parked_from.get(peer, 0) + 1
        return [
            Send(PeerId(message.question.asker), Check(*key, False)),
            SetTimer(("parked", *key), now + self._limits.verdict_wait_s),
        ]

    def _unpark(self, key: tuple[bytes, int]) -> None:
        _, peer = self._parked.pop(key, (None, None))
        left = self._parked_from.pop(peer, 0) - 1
        if left > 0:
            self._parked_from[peer] = left

    def _judged(self, peer: Hashable, query_id: bytes, walker: int, *, goes_on: bool) -> list[Any]:
        message, _ = self._parked.get((query_id, walker), (None, None))
        if message is None or message.question.asker != peer:
            self.counts.unasked += 1
            return []
        self._unpark((query_id, walker))
        outputs: list[Any] = [CancelTimer(("parked", query_id, walker))]
        seen = self._seen.get(query_id)
        if goes_on and seen is not None:
            outputs += self._walk_on(seen, message, seen.source)
        return outputs

    def _walk_on(self, seen: _Seen, message: Walking, source: Hashable) -> list[Any]:
        """One step, to a neighbour that has not had a walker of this question from us if there is one."""
        if message.hops_left == 0:
            return []
        others = [n for n in self._neighbours if n != source]
        fresh = [n for n in others if n not in seen.used]
        choice = fresh or others or list(self._neighbours)
        if not choice:
            return []
        to = self._random.choice(choice)
        if fresh:
            seen.used = [*seen.used, to]
        return [Send(to, Walking(seen.question, message.walker, message.hops_left - 1))]

    # ---- answers

    def _answered(self, peer: Hashable, message: Answer) -> list[Any]:
        """To our own search, or on the way back to somebody else's."""
        if self._asker.is_ours(message.id):
            return self._asker.answered(peer, message)
        seen = self._seen.get(message.id)
        if seen is None or seen.question.is_direct or seen.source == self._peer:
            self.counts.unasked += 1
            return []
        if seen.relayed >= self._limits.relayed_max:
            self.counts.over_budget += 1
            return []
        seen.relayed += 1
        return [Send(seen.source, message)]


FIRST_OF_OWN = 1 << 16  # above every ring: our own floods never pass through us
