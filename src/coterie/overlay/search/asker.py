"""A node's own searches: which questions go out when, which answers count, when it is enough."""

from collections.abc import Callable, Hashable, Sequence
from random import Random
from typing import Any, Literal

import msgspec

from coterie.errors import UsageError
from coterie.identity import PeerId
from coterie.machine import CancelTimer, Emit, Send, SetTimer
from coterie.overlay.search.limits import ExpandingRing, Flood, SearchLimits, Strategy, Walks
from coterie.overlay.search.messages import (
    BODY_BYTES_MAX,
    FLOOD_HOPS_MAX,
    QUERY_ID_BYTES,
    RINGS_MAX,
    TOPIC_CHARS_MAX,
    WALK_HOPS_MAX,
    WALKERS_MAX,
    WANTED_MAX,
    Answer,
    Flooded,
    Question,
    Walking,
)
from coterie.texts import tr

DEADLINE_S = 30.0  # guess: longer than people wait

EndReason = Literal["enough", "exhausted", "deadline", "cancelled", "busy", "alone"]


class Ask(msgspec.Struct, frozen=True):
    """A command: search. `key` names it in `Cancel`, `Found` and `Ended`.

    Attributes:
        topic: which app is to answer.
        body: what is asked, for that app.
        wanted: how many answering peers are enough.
        deadline_s: when to give up.
        accept: whether an answer counts, given (responder, items); it must be quick. What it refuses is not emitted,
            and nothing more is taken from that responder. None: everything counts.
    """

    key: Hashable
    topic: str
    body: bytes
    wanted: int = 1
    strategy: Strategy = msgspec.field(default_factory=Walks)
    deadline_s: float = DEADLINE_S
    accept: Callable[[PeerId, tuple[bytes, ...]], bool] | None = None

    def __post_init__(self) -> None:
        if len(self.topic) > TOPIC_CHARS_MAX or len(self.body) > BODY_BYTES_MAX:
            raise UsageError(
                tr(
                    "a question has a topic of {topic_chars_max} characters and {body_bytes_max} bytes at "
                    "most",
                    topic_chars_max=TOPIC_CHARS_MAX,
                    body_bytes_max=BODY_BYTES_MAX,
                )
            )
        if not 1 <= self.wanted <= WANTED_MAX:
            raise UsageError(
                tr(
                    "a search wants 1 to {wanted_max} answers, not {wanted}",
                    wanted_max=WANTED_MAX,
                    wanted=self.wanted,
                )
            )
        _check_strategy(self.strategy)


class Cancel(msgspec.Struct, frozen=True):
    """A command: the answers are not wanted any more."""

    key: Hashable


class Found(msgspec.Struct, frozen=True):
    """Emitted: `responder` has `items`.

    `is_direct`: it said so itself over its own connection; else peers on the way claim that it did.
    """

    key: Hashable
    responder: PeerId
    items: tuple[bytes, ...]
    is_direct: bool


class Ended(msgspec.Struct, frozen=True):
    """Emitted once: nothing more comes of this search. `busy` and `alone`: it never began."""

    key: Hashable
    reason: EndReason
    answers: int


class _Own:
    """One search under way."""

    __slots__ = ("answered", "ask", "ended", "heard", "hops", "lost", "question", "ring")

    def __init__(self, ask: Ask, question: Question) -> None:
        self.ask = ask
        self.question = question
        self.answered: dict[bytes, bool] = {}  # responders, and whether their answer counts
        self.ring = -1
        self.hops = 0  # of the last ring
        self.heard: dict[int, float] = {}  # walkers, and when each was last heard of
        self.ended: dict[int, None] = {}  # walkers that are said to have no hops left
        self.lost = 0  # walkers that were replaced

    @property
    def good(self) -> int:
        """Answers that count."""
        return sum(self.answered.values())


class Asker:
    """All searches of one node. Methods return outputs as `handle` does."""

    def __init__(
        self,
        peer: PeerId,
        *,
        sign: Callable[[bytes], bytes],
        random: Random,
        is_direct: bool,
        limits: SearchLimits,
    ) -> None:
        self._peer = peer
        self._sign = sign
        self._random = random
        self._is_direct = is_direct
        self._limits = limits
        self._by_id: dict[bytes, _Own] = {}
        self._by_key: dict[Hashable, _Own] = {}

    @property
    def searches(self) -> int:
        """How many are under way."""
        return len(self._by_id)

    def is_ours(self, query_id: bytes) -> bool:
        """Whether a search of ours with that id is under way."""
        return query_id in self._by_id

    def ask(self, ask: Ask, now: float, neighbours: Sequence[Hashable]) -> list[Any]:
        """Begin a search."""
        if ask.key in self._by_key or len(self._by_id) >= self._limits.searches_max:
            return [Emit(Ended(ask.key, "busy", 0))]
        if not neighbours:
            return [Emit(Ended(ask.key, "alone", 0))]
        deadline_s = min(ask.deadline_s, self._limits.lifetime_max_s)
        question = Question(
            id=self._random.randbytes(QUERY_ID_BYTES),
            asker=bytes(self._peer),
            is_direct=self._is_direct,
            wanted=ask.wanted,
            expires=int(now + deadline_s) + 1,
            topic=ask.topic,
            body=ask.body,
        )
        question = msgspec.structs.replace(question, signature=self._sign(question.signed_bytes))
        own = _Own(ask, question)
        self._by_id[question.id] = self._by_key[ask.key] = own
        start = self._start_walks(own, now, neighbours) if isinstance(ask.strategy, Walks) else None
        return [
            SetTimer(("deadline", question.id), now + deadline_s),
            *(start if start is not None else self._next_ring(own, now, neighbours)),
        ]

    def cancel(self, key: Hashable) -> list[Any]:
        """End a search on purpose; its walkers are told at their next check."""
        own = self._by_key.get(key)
        return [] if own is None else self._end(own, "cancelled")

    def fire(self, key: Any, now: float, neighbours: Sequence[Hashable]) -> list[Any]:
        """A timer of ours."""
        match key:
            case ("deadline", query_id) if query_id in self._by_id:
                return self._end(self._by_id[query_id], "deadline")
            case ("step", query_id) if query_id in self._by_id:
                own = self._by_id[query_id]
                if isinstance(own.ask.strategy, Walks):
                    return self._count_walkers(own, now, neighbours)
                return self._next_ring(own, now, neighbours)
        return []

    def answered(self, peer: Hashable, message: Answer) -> list[Any]:
        """An answer to one of our searches: each peer's first counts."""
        own = self._by_id[message.id]
        is_direct = peer == message.responder
        if own.question.is_direct and not is_direct:
            return []  # nobody answers for somebody else where all answer straight
        if message.responder in own.answered or len(own.answered) >= self._limits.answers_max:
            return []
        responder = PeerId(message.responder)
        accept = own.ask.accept
        good = accept is None or accept(responder, message.items)
        own.answered[message.responder] = good
        if not good:
            return []
        found = Emit(Found(own.ask.key, responder, message.items, is_direct))
        if own.good < own.ask.wanted:
            return [found]
        return [found, *self._end(own, "enough")]

    def checked(self, query_id: bytes, walker: int, *, is_end: bool, now: float) -> bool:
        """Whether that walker is to go on."""
        own = self._by_id.get(query_id)
        if own is None or (walker not in own.heard and walker not in own.ended):
            return False
        if is_end:
            own.heard.pop(walker, None)
            own.ended[walker] = None
            return False
        own.heard[walker] = now  # one that was said to have ended lives after all: somebody lied
        own.ended.pop(walker, None)
        return True

    # ---- strategies

    def _next_ring(self, own: _Own, now: float, neighbours: Sequence[Hashable]) -> list[Any]:
        hops = _hops_after(own.ask.strategy, own.hops)
        if hops is None:
            return self._end(own, "exhausted")
        own.ring += 1
        own.hops = hops
        message = Flooded(own.question, own.ring, hops - 1)
        wait_s = self._limits.hop_wait_s * (hops + 1)
        return [SetTimer(("step", own.question.id), now + wait_s), *(Send(n, message) for n in neighbours)]

    def _start_walks(self, own: _Own, now: float, neighbours: Sequence[Hashable]) -> list[Any]:
        walks = own.ask.strategy
        assert isinstance(walks, Walks)  # noqa: S101 - our only caller has looked
        sends = [self._launch(own, number, now, neighbours) for number in range(walks.walkers)]
        return [SetTimer(("step", own.question.id), now + self._limits.walker_silent_s), *sends]

    def _launch(self, own: _Own, walker: int, now: float, neighbours: Sequence[Hashable]) -> Send:
        """Neighbours take turns, so that walkers part from the start."""
        walks = own.ask.strategy
        assert isinstance(walks, Walks)  # noqa: S101 - our only callers have looked
        hops = walks.hops if self._is_direct else min(walks.hops, self._limits.unchecked_hops)
        own.heard[walker] = now
        return Send(neighbours[walker % len(neighbours)], Walking(own.question, walker, hops - 1))

    def _count_walkers(self, own: _Own, now: float, neighbours: Sequence[Hashable]) -> list[Any]:
        """Replace walkers that have fallen silent, each slot once; with none left the search has ended."""
        silent = [w for w, at in own.heard.items() if now - at >= self._limits.walker_silent_s]
        outputs: list[Any] = []
        walks = own.ask.strategy
        assert isinstance(walks, Walks)  # noqa: S101 - our only caller has looked
        for walker in silent:
            del own.heard[walker]
            if self._is_direct and neighbours and own.lost < walks.walkers:
                outputs.append(self._launch(own, walks.walkers + own.lost, now, neighbours))
                own.lost += 1
        if not own.heard:
            return self._end(own, "exhausted")
        return [SetTimer(("step", own.question.id), now + self._limits.walker_silent_s / 2), *outputs]

    def _end(self, own: _Own, reason: EndReason) -> list[Any]:
        del self._by_id[own.question.id]
        del self._by_key[own.ask.key]
        return [
            CancelTimer(("deadline", own.question.id)),
            CancelTimer(("step", own.question.id)),
            Emit(Ended(own.ask.key, reason, own.good)),
        ]


def _hops_after(strategy: Strategy, hops: int) -> int | None:
    """How far the next ring goes after one of `hops`; None when there is none."""
    match strategy:
        case Flood(wanted):
            return wanted if hops == 0 else None
        case ExpandingRing(first, step, last):
            if hops >= last:
                return None
            return min(last, hops + step) if hops else first
    return None


def _check_strategy(strategy: Strategy) -> None:
    match strategy:
        case Flood(hops) if not 1 <= hops <= FLOOD_HOPS_MAX:
            raise UsageError(
                tr(
                    "a flood goes 1 to {flood_hops_max} hops, not {hops}",
                    flood_hops_max=FLOOD_HOPS_MAX,
                    hops=hops,
                )
            )
        case ExpandingRing(first, step, last):
            if not 1 <= first <= last <= FLOOD_HOPS_MAX or step < 1 or (last - first) // step >= RINGS_MAX:
                raise UsageError(
                    tr(
                        "rings grow by 1 or more up to {flood_hops_max} hops, not {strategy}",
                        flood_hops_max=FLOOD_HOPS_MAX,
                        strategy=strategy,
                    )
                )
        case Walks(walkers, hops) if not (1 <= walkers <= WALKERS_MAX and 1 <= hops <= WALK_HOPS_MAX):
            raise UsageError(
                tr(
                    "1 to {walkers_max} walkers take 1 to {walk_hops_max} hops, not {strategy}",
                    walkers_max=WALKERS_MAX,
                    walk_hops_max=WALK_HOPS_MAX,
                    strategy=strategy,
                )
            )
