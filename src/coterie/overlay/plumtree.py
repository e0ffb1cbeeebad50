"""Plumtree: messages to all members of one topic. Leitao, Pereira, Rodrigues, SRDS 2007 ("the paper" below).

Whole messages go along *eager* links, which form a tree; over the other, *lazy* links only their ids are announced.
Whoever misses an announced message asks for it and makes that link eager (graft); whoever gets one twice makes the
second link lazy (prune).

Beyond the paper: messages are signed by their author and have a time; what was lost without a trace, or was
published while a node was away, comes from comparing with a random neighbour now and then (`reconcile_s`).
"""

from collections.abc import Callable
from random import Random
from typing import Any

import msgspec

from coterie.errors import UsageError
from coterie.identity import PeerId
from coterie.identity.keys import verify as verify_ed25519
from coterie.machine import CancelTimer, Received, Send, SetTimer, TimerFired
from coterie.overlay.history import History, total_of
from coterie.overlay.hyparview import NeighbourDown, NeighbourUp
from coterie.rate import Rate
from coterie.texts import tr
from coterie.wire.broadcast import (
    HOPS_MAX,
    IDS_MAX,
    PAYLOAD_BYTES_MAX,
    Disconnect,
    Gossip,
    Graft,
    Holds,
    Ihave,
    Prune,
    Summary,
    Want,
    id_of,
    signed_part,
)


class PlumtreeLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds, times (s) and rates (per s) of one topic's messages."""

    dispatch_s: float = 0.1  # guess: announcements wait so long for others to the same peer
    graft_s: float = 0.5  # guess: the tree may be so much slower than the fastest lazy path
    graft_again_s: float = 0.25  # the paper, 3.6: about a round trip
    graft_tries_max: int = 6  # for one message, over all who announced it; guess
    hops_better: int = 7  # the paper's threshold of the tree optimisation, section 3.8
    missing_max: int = 1_024  # announced messages that are waited for
    missing_per_link_max: int = 256  # of these from one neighbour: four liars leave room for the fifth
    announcers_max: int = 5  # remembered for each: all neighbours
    lazy_queue_max: int = 1_024  # announcements waiting for one peer
    age_max_s: float = (
        900.0  # guess: what is older is not caught up; above `skew_max_s`, or slow clocks are mute
    )
    skew_max_s: float = 600.0  # as peer records (`wire/record.py`)
    seen_max: int = 16_384  # 18 messages a second for `age_max_s`; 3 MB
    held_max: int = 1_024  # messages kept whole for others
    held_bytes_max: int = 2 << 20  # guess
    reconcile_s: float = 20.0  # guess: 80 bytes in this time, when nothing is missing
    reconcile_again_s: float = 1.0  # when something was
    settle_s: float = 5.0  # guess: younger messages may still be under way
    news_per_link_s: float = 20.0  # new messages, each a signature to verify (0.1 ms); guess
    news_per_link_burst: int = 512  # guess: half of what a neighbour holds for who was away
    served_per_link_s: float = 50.0  # messages sent again on demand; guess
    served_per_link_burst: int = 512
    questions_per_link_s: float = 2.0  # comparisons answered; guess
    questions_per_link_burst: int = 16
    prunes_per_link_s: float = 2.0  # answers to what came twice, beyond the one that makes a link lazy; guess
    prunes_per_link_burst: int = 32
    farewells_per_s: float = 2.0  # answers to messages of peers that are no neighbours; guess
    farewells_burst: int = 64


class Publish(msgspec.Struct, frozen=True):
    """A command: tell all members."""

    payload: bytes


class Delivered(msgspec.Struct, frozen=True):
    """An output: a message, its author proven; each once. `at` is the author's clock, unix milliseconds."""

    topic: bytes
    author: PeerId
    at: int
    payload: bytes
    hops: int


class Misbehaved(msgspec.Struct, frozen=True):
    """An output: `peer` did what no honest node does."""

    peer: PeerId
    why: str


class _Link:
    """A neighbour: eager or lazy, and what it may still bring about."""

    __slots__ = ("is_eager", "missing", "news", "prunes", "questions", "queue", "served")

    def __init__(self, limits: PlumtreeLimits) -> None:
        self.is_eager = True
        self.missing = 0  # announced first by it, and waited for
        self.queue: list[bytes] = []  # to be announced to it
        self.news = Rate(limits.news_per_link_s, limits.news_per_link_burst)
        self.served = Rate(limits.served_per_link_s, limits.served_per_link_burst)
        self.questions = Rate(limits.questions_per_link_s, limits.questions_per_link_burst)
        self.prunes = Rate(limits.prunes_per_link_s, limits.prunes_per_link_burst)


class _Missing:
    """An announced message that has not come: who has it, by how many hops."""

    __slots__ = ("announcers", "first", "tries")

    def __init__(self, first: PeerId, hops: int) -> None:
        self.first = first
        self.announcers: dict[PeerId, int] = {first: hops}
        self.tries = 0


class Plumtree:
    """The machine of one topic: `handle(event, now)`, `now` in unix seconds.

    Args:
        me: this node, the author of what it publishes.
        topic: 32 bytes, in every message.
        rng: for the choice of whom to compare with, and the times of that.
        sign: 64 bytes, our signature.
        verify: whether a peer signed a message so.
        may_publish: whose messages are taken.
        limits: see there.
    """

    def __init__(
        self,
        me: PeerId,
        topic: bytes,
        *,
        rng: Random,
        sign: Callable[[bytes], bytes],
        verify: Callable[[PeerId, bytes, bytes], bool] = verify_ed25519,
        may_publish: Callable[[PeerId], bool] = lambda peer: True,
        limits: PlumtreeLimits | None = None,
    ) -> None:
        self._me = me
        self._topic = topic
        self._rng = rng
        self._sign = sign
        self._verify = verify
        self._may_publish = may_publish
        self._limits = limits = limits or PlumtreeLimits()
        self._links: dict[PeerId, _Link] = {}
        self._missing: dict[bytes, _Missing] = {}
        self._wanted: dict[bytes, PeerId] = {}  # asked for by `Want`, from whom
        self._farewells = Rate(limits.farewells_per_s, limits.farewells_burst)
        self._is_dispatching = False
        self._published_at = 0
        self._history = History(
            age_max_ms=int(1000 * limits.age_max_s),
            skew_max_ms=int(1000 * limits.skew_max_s),
            seen_max=limits.seen_max,
            held_max=limits.held_max,
            held_bytes_max=limits.held_bytes_max,
        )
        self.delivered = self.duplicates = self.ignored = self.recovered = 0
        self._handlers: dict[type, Callable[[PeerId, _Link, Any, float], list[Any]]] = {
            Gossip: self._on_gossip,
            Ihave: self._on_ihave,
            Graft: self._on_graft,
            Prune: self._on_prune,
            Summary: self._on_summary,
            Holds: self._on_holds,
            Want: self._on_want,
        }

    # ---- to look at

    @property
    def eager(self) -> list[PeerId]:
        """Neighbours to which whole messages go."""
        return [peer for peer, link in self._links.items() if link.is_eager]

    @property
    def lazy(self) -> list[PeerId]:
        """Neighbours that get announcements."""
        return [peer for peer, link in self._links.items() if not link.is_eager]

    @property
    def history(self) -> History:
        """What is remembered; to be looked at only."""
        return self._history

    @property
    def missing(self) -> int:
        """Announced messages that have not come."""
        return len(self._missing)

    # ---- events

    def handle(self, event: Any, now: float) -> list[Any]:
        """Take one event at time `now` (s) and return what is to be done, in order."""
        match event:
            case Received(PeerId() as peer, message):
                return self._received(peer, message, now)
            case TimerFired((_, "missing", bytes() as id_)):
                return self._overdue(id_, now)
            case TimerFired((_, "dispatch")):
                return self._dispatch()
            case TimerFired((_, "reconcile")):
                return self._reconcile(now)
            case NeighbourUp(_, peer, is_spare):
                return self._up(peer, is_spare, now)
            case NeighbourDown(_, peer):
                return self._down(peer)
            case Publish(payload):
                return self._publish(payload, now)
        return []

    def _received(self, peer: PeerId, message: Any, now: float) -> list[Any]:
        link = self._links.get(peer)
        if link is None:
            # It takes us for a neighbour: an answer or a farewell was lost. The paper has links that lose nothing.
            self.ignored += 1
            return [Send(peer, Disconnect(self._topic))] if self._farewells.take(now) else []
        return self._handlers[type(message)](peer, link, message, now)

    def close(self) -> list[Any]:
        """Forget all; the timers to cancel."""
        timers = [CancelTimer((self._topic, "missing", id_)) for id_ in self._missing]
        self._links.clear()
        self._missing.clear()
        return [*timers, CancelTimer((self._topic, "dispatch")), CancelTimer((self._topic, "reconcile"))]

    def _up(self, peer: PeerId, is_spare: bool, now: float) -> list[Any]:
        is_first = not self._links
        self._links[peer] = link = _Link(self._limits)
        # The paper begins with every link eager; a spare one that is not needed would only be pruned.
        link.is_eager = not is_spare or not any(
            other.is_eager for other in self._links.values() if other is not link
        )
        if not is_first:
            return []
        return [self._reconcile_in(self._limits.reconcile_again_s, now)]

    def _down(self, peer: PeerId) -> list[Any]:
        self._links.pop(peer, None)
        for missing in self._missing.values():
            missing.announcers.pop(peer, None)
        return []

    # ---- whole messages

    def _publish(self, payload: bytes, now: float) -> list[Any]:
        if len(payload) > PAYLOAD_BYTES_MAX:
            raise UsageError(
                tr(
                    "a message has at most {payload_bytes_max} bytes, not {payload}",
                    payload_bytes_max=PAYLOAD_BYTES_MAX,
                    payload=len(payload),
                )
            )
        self._published_at = at = max(int(1000 * now), self._published_at + 1)
        signed = signed_part(self._topic, self._me, at, payload)
        message = Gossip(self._topic, self._me, at, payload, self._sign(signed))
        id_ = id_of(signed)
        self._history.add(id_, message, int(1000 * now))
        return self._push(id_, message, None, now)

    def _on_gossip(self, peer: PeerId, link: _Link, message: Gossip, now: float) -> list[Any]:
        author = PeerId(message.author)
        signed = signed_part(self._topic, author, message.at, message.payload)
        id_ = id_of(signed)
        was_wanted = self._wanted.get(id_) == peer
        if was_wanted:
            del self._wanted[id_]
        if id_ in self._history:
            self.duplicates += 1
            if was_wanted or not (link.is_eager or link.prunes.take(now)):
                return []
            return self._prune(peer, link)
        millis = int(1000 * now)
        if not self._history.is_timely(author, message.at, millis) or not self._may_publish(author):
            self.ignored += 1
            return []
        if not link.news.take(now):  # it comes again by comparing, when the rate allows
            self.ignored += 1
            return []
        if not self._verify(author, signed, message.signature):
            return [Misbehaved(peer, "it passed on a message with a forged author")]
        hops = min(message.hops + 1, HOPS_MAX)
        onward = Gossip(self._topic, author, message.at, message.payload, message.signature, hops)
        self._history.add(id_, onward, millis)
        self.delivered += 1
        outputs: list[Any] = [Delivered(self._topic, author, message.at, message.payload, hops)]
        missing = self._missing.pop(id_, None)
        if missing is not None:
            outputs.append(CancelTimer((self._topic, "missing", id_)))
            self._release(missing)
        if was_wanted:  # the tree was not at fault: it stays, and others hear of it without being pushed
            self.recovered += 1
            return outputs + self._announce(id_, peer, now, to_all=True)
        link.is_eager = True
        return outputs + self._push(id_, onward, peer, now) + self._optimise(peer, link, message, missing)

    def _push(self, id_: bytes, message: Gossip, source: PeerId | None, now: float) -> list[Any]:
        """Whole along eager links, an announcement along lazy ones."""
        sends = [Send(p, message) for p, link in self._links.items() if link.is_eager and p != source]
        return sends + self._announce(id_, source, now)

    def _prune(self, peer: PeerId, link: _Link) -> list[Any]:
        link.is_eager = False
        return [Send(peer, Prune(self._topic))]

    def _optimise(self, peer: PeerId, link: _Link, message: Gossip, missing: _Missing | None) -> list[Any]:
        """The paper, 3.8: a lazy link that was much shorter takes the place of this eager one."""
        if missing is None or not missing.announcers:
            return []
        other, hops = min(missing.announcers.items(), key=lambda known: known[1])
        if other == peer or other not in self._links or message.hops - hops < self._limits.hops_better:
            return []
        self._links[other].is_eager = True
        return [Send(other, Graft(self._topic, [])), *self._prune(peer, link)]

    def _on_prune(self, peer: PeerId, link: _Link, message: Prune, now: float) -> list[Any]:
        link.is_eager = False
        return []

    # ---- announcements

    def _announce(self, id_: bytes, source: PeerId | None, now: float, *, to_all: bool = False) -> list[Any]:
        is_any = False
        for peer, link in self._links.items():
            if (
                (to_all or not link.is_eager)
                and peer != source
                and len(link.queue) < self._limits.lazy_queue_max
            ):
                link.queue.append(id_)
                is_any = True
        if not is_any or self._is_dispatching:
            return []
        self._is_dispatching = True
        return [SetTimer((self._topic, "dispatch"), now + self._limits.dispatch_s)]

    def _dispatch(self) -> list[Any]:
        self._is_dispatching = False
        outputs: list[Any] = []
        for peer, link in self._links.items():
            queue, link.queue = link.queue, []
            for start in range(0, len(queue), IDS_MAX):
                ids = queue[start : start + IDS_MAX]
                held = [self._history.get(id_) for id_ in ids]
                hops = max((message.hops for message in held if message is not None), default=0)
                outputs.append(Send(peer, Ihave(self._topic, ids, hops)))
        return outputs

    def _on_ihave(self, peer: PeerId, link: _Link, message: Ihave, now: float) -> list[Any]:
        limits, outputs = self._limits, []
        for id_ in message.ids:
            if id_ in self._history:
                continue
            missing = self._missing.get(id_)
            if missing is not None:
                if len(missing.announcers) < limits.announcers_max:
                    missing.announcers.setdefault(peer, message.hops)
            elif len(self._missing) < limits.missing_max and link.missing < limits.missing_per_link_max:
                self._missing[id_] = _Missing(peer, message.hops)
                link.missing += 1
                outputs.append(SetTimer((self._topic, "missing", id_), now + limits.graft_s))
            else:
                self.ignored += 1
        return outputs

    def _overdue(self, id_: bytes, now: float) -> list[Any]:
        """An announced message has not come: ask who announced it, one after the other."""
        missing = self._missing.get(id_)
        if missing is None:
            return []
        if not missing.announcers or missing.tries >= self._limits.graft_tries_max:
            del self._missing[id_]
            self._release(missing)
            return []
        peer = next(iter(missing.announcers))
        missing.announcers[peer] = missing.announcers.pop(peer)  # to the end: the next try is for another
        missing.tries += 1
        self._links[peer].is_eager = True
        timer = SetTimer((self._topic, "missing", id_), now + self._limits.graft_again_s)
        return [Send(peer, Graft(self._topic, [id_])), timer]

    def _release(self, missing: _Missing) -> None:
        link = self._links.get(missing.first)
        if link is not None and link.missing:
            link.missing -= 1

    def _on_graft(self, peer: PeerId, link: _Link, message: Graft, now: float) -> list[Any]:
        link.is_eager = True
        return self._serve(peer, link, message.ids, now)

    def _serve(self, peer: PeerId, link: _Link, ids: list[bytes], now: float) -> list[Any]:
        outputs: list[Any] = []
        for id_ in ids:
            held = self._history.get(id_)
            if held is None:
                continue
            if not link.served.take(now):
                self.ignored += 1
                break
            outputs.append(Send(peer, held))
        return outputs

    # ---- comparing with a neighbour

    def _reconcile_in(self, wait_s: float, now: float) -> SetTimer:
        return SetTimer((self._topic, "reconcile"), now + wait_s * self._rng.uniform(0.8, 1.2))

    def _reconcile(self, now: float) -> list[Any]:
        if not self._links:
            return []
        peer = self._rng.choice(list(self._links))
        millis = int(1000 * now)
        until = millis - int(1000 * self._limits.settle_s)
        outputs: list[Any] = [self._reconcile_in(self._limits.reconcile_s, now)]
        if until > 0:
            outputs.insert(0, Send(peer, self._summary(self._history.held_since(millis), until)))
        return outputs

    def _summary(self, since: int, until: int, *, is_answer: bool = False) -> Summary:
        ids = self._history.ids(since, until)
        return Summary(self._topic, since, until, len(ids), total_of(ids), is_answer)

    def _on_summary(self, peer: PeerId, link: _Link, message: Summary, now: float) -> list[Any]:
        if not link.questions.take(now):
            self.ignored += 1
            return []
        since = self._history.held_since(int(1000 * now))
        if since > message.since and not message.is_answer:
            return [Send(peer, self._summary(since, message.until, is_answer=True))]
        ids = self._history.ids(message.since, message.until)
        if len(ids) == message.count and total_of(ids) == message.total:
            return []
        return [Send(peer, self._holds(message.since, message.until, ids))]

    def _holds(self, since: int, until: int, ids: list[bytes], *, is_answer: bool = False) -> Holds:
        is_whole = len(ids) <= IDS_MAX
        sample = ids if is_whole else self._rng.sample(ids, IDS_MAX)
        return Holds(self._topic, since, until, sample, is_whole, is_answer)

    def _on_holds(self, peer: PeerId, link: _Link, message: Holds, now: float) -> list[Any]:
        if not link.questions.take(now):
            self.ignored += 1
            return []
        outputs: list[Any] = []
        wanted = [id_ for id_ in message.ids if id_ not in self._history]
        if wanted:
            for id_ in wanted:
                self._wanted.pop(id_, None)
                if len(self._wanted) >= self._limits.missing_max:
                    self._wanted.pop(next(iter(self._wanted)))
                self._wanted[id_] = peer
            outputs = [
                Send(peer, Want(self._topic, wanted)),
                self._reconcile_in(self._limits.reconcile_again_s, now),
            ]
        if message.is_whole and not message.is_answer:
            theirs = dict.fromkeys(message.ids)
            extra = [i for i in self._history.ids(message.since, message.until) if i not in theirs]
            if extra:
                answer = self._holds(message.since, message.until, extra, is_answer=True)
                outputs.append(Send(peer, answer))
        return outputs

    def _on_want(self, peer: PeerId, link: _Link, message: Want, now: float) -> list[Any]:
        return self._serve(peer, link, message.ids, now)
