"""HyParView: who is a neighbour of whom in one topic. Leitao, Pereira, Rodrigues, DSN 2007 ("the paper" below).

A node keeps a small *active view*, whose members keep it too and with whom it exchanges everything, and a larger
*passive view* of peers that take the place of those that fail. Random walks of newcomers and periodic shuffles keep
the views random.

Departures from the paper, each marked where it happens: places in the active view are asked for and given, never
assumed; several are asked for at once; peers that were lost are remembered apart for the time when nobody else is
left; and whatever a peer may bring about has a rate.
"""

from collections.abc import Callable, Iterable
from random import Random
from typing import Any

import msgspec

from coterie.identity import PeerId
from coterie.machine import CancelTimer, PeerDown, Received, Send, SetTimer, TimerFired
from coterie.rate import Rate
from coterie.wire.broadcast import (
    Answer,
    Disconnect,
    Entry,
    ForwardJoin,
    Join,
    Need,
    Neighbour,
    Shuffle,
    ShuffleReply,
)


class HyParViewLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds, times (s) and rates (per s) of one topic's membership."""

    active_max: int = 5  # the paper, section 5.1: fanout 4, and one for where a message came from
    passive_max: int = 30  # the paper, 5.1
    active_walk: int = 6  # the paper, 5.1: ARWL
    passive_walk: int = 3  # the paper, 5.1: PRWL
    shuffle_active: int = 3  # the paper, 5.1: k_a
    shuffle_passive: int = 4  # the paper, 5.1: k_p
    shuffle_walk: int = 6  # the paper leaves it open; as ARWL
    shuffle_s: float = 30.0  # guess: 14 small messages a minute; the paper counts cycles only
    lonely_s: float = 5.0  # guess: with no neighbour at all, one attempt in this time
    ask_s: float = 3.0  # guess: a dial and a round trip on a slow network
    join_doublings_max: int = (
        3  # guess: a contact that does not answer in `ask_s` may be busy with other newcomers
    )
    refusals_max: int = 3  # guess: in one shuffle period; who has places free is soon found by others
    lost_max: int = (
        16  # guess: first contacts and lost neighbours, remembered for the time when nobody else is left
    )
    heal_share: float = 0.015  # guess: of shuffle periods, a neighbour is exchanged: parts find together
    shuffles_pending_max: int = 4  # guess: a reply later than so many periods is of no use
    evictions_per_s: float = 1.0  # guess: 10,000 nodes that join within 10 minutes cause 0.01 a second
    evictions_burst: int = 32  # guess: a small group that starts at once, at one contact
    asks_per_s: float = 10.0  # guess: joins and requests that are answered at all
    asks_burst: int = 128  # guess: many neighbours lost at the same time
    walks_per_link_s: float = 2.0  # measured: 0.05 a second and link of honest walks at `shuffle_s`
    walks_per_link_burst: int = 64  # guess: many newcomers at once
    learned_per_link_s: float = 0.3  # entries; measured: all links together bring 0.25 when all are honest
    learned_per_link_burst: int = 16  # two shuffles
    banned_max: int = 64  # guess
    ban_s: float = 600.0  # guess: long enough that breaking rules costs more than it brings


class Enter(msgspec.Struct, frozen=True):
    """A command: become a member through these; none: wait for others. `record` is our own."""

    contacts: tuple[Entry, ...]
    record: bytes = b""


class Leave(msgspec.Struct, frozen=True):
    """A command: tell the neighbours, and be no member any more."""


class NeighbourUp(msgspec.Struct, frozen=True):
    """An output: `peer` is in the active view; the link to it is to be kept."""

    topic: bytes
    peer: PeerId
    is_spare: bool = False  # there are enough others: nothing need go over it at first


class NeighbourDown(msgspec.Struct, frozen=True):
    """An output: `peer` is no longer in the active view."""

    topic: bytes
    peer: PeerId


class _Link:
    """What one neighbour may still bring about."""

    __slots__ = ("learned", "record", "walks")

    def __init__(self, record: bytes, limits: HyParViewLimits) -> None:
        self.record = record
        self.walks = Rate(limits.walks_per_link_s, limits.walks_per_link_burst)
        self.learned = Rate(limits.learned_per_link_s, limits.learned_per_link_burst)


class HyParView:
    """The machine of one topic: `handle(event, now)`.

    Args:
        me: this node.
        topic: 32 bytes, in every message.
        rng: for every random choice.
        limits: see there.
        may_join: whether a peer may be a member; nobody else is ever taken into a view or answered.
        is_record: whether a record is sound and of that peer; entries with others are ignored.
    """

    def __init__(
        self,
        me: PeerId,
        topic: bytes,
        *,
        rng: Random,
        limits: HyParViewLimits | None = None,
        may_join: Callable[[PeerId], bool] = lambda peer: True,
        is_record: Callable[[PeerId, bytes], bool] = lambda peer, record: True,
    ) -> None:
        self._me = me
        self._topic = topic
        self._rng = rng
        self._limits = limits or HyParViewLimits()
        self._may_join = may_join
        self._is_record = is_record
        self._record = b""
        self._is_member = False
        self._is_introduced = True  # somebody whom we were given to begin with has taken us in
        self._active: dict[PeerId, _Link] = {}
        self._passive: dict[PeerId, bytes] = {}
        self._lost: dict[PeerId, bytes] = {}
        self._asked: dict[PeerId, bytes] = {}  # asked to be neighbours, not answered yet
        self._late: dict[PeerId, bytes] = {}  # asked, and not answered in time
        self._joining: PeerId | None = None  # whom we asked last to take us in
        self._doublings = 0  # of the wait for it: so often it was asked in vain
        self._mixing: PeerId | None = None  # of those, the one that is to replace another
        self._refused: dict[PeerId, None] = {}  # since the last shuffle
        self._shuffles: dict[int, tuple[PeerId, ...]] = {}  # by number: what we sent
        self._banned: dict[PeerId, float] = {}  # until when
        self._number = 0
        self._evictions = Rate(self._limits.evictions_per_s, self._limits.evictions_burst)
        self._asks = Rate(self._limits.asks_per_s, self._limits.asks_burst)
        self.ignored = 0
        self._handlers: dict[type, Callable[[PeerId, Any, float], list[Any]]] = {
            Join: self._on_join,
            ForwardJoin: self._on_forward_join,
            Neighbour: self._on_neighbour,
            Answer: self._on_answer,
            Disconnect: self._on_disconnect,
            Shuffle: self._on_shuffle,
            ShuffleReply: self._on_shuffle_reply,
        }

    # ---- to look at

    @property
    def active(self) -> list[PeerId]:
        """The active view, oldest first."""
        return list(self._active)

    @property
    def passive(self) -> list[PeerId]:
        """The passive view."""
        return list(self._passive)

    def is_neighbour(self, peer: Any) -> bool:
        """Whether `peer` is in the active view."""
        return peer in self._active

    def record_of(self, peer: PeerId) -> bytes:
        """The record of a peer as it came here; empty when there is none."""
        link = self._active.get(peer)
        if link is not None:
            return link.record
        for known in (self._asked, self._passive, self._lost):
            if peer in known:
                return known[peer]
        return b""

    def known(self) -> list[Entry]:
        """Everybody worth remembering for the next start: neighbours first."""
        peers = dict.fromkeys([*self._active, *self._passive, *self._lost])
        return [Entry(peer, self.record_of(peer)) for peer in peers]

    # ---- events

    def handle(self, event: Any, now: float) -> list[Any]:
        """Take one event at time `now` (s) and return what is to be done, in order."""
        match event:
            case Received(PeerId() as peer, message):
                return self._received(peer, message, now)
            case PeerDown(PeerId() as peer):
                return self._peer_down(peer, now)
            case TimerFired((_, "shuffle")):
                return self._tick(now)
            case TimerFired((_, "ask", PeerId() as peer)):
                return self._unanswered(peer, now)
            case Enter(contacts, record):
                return self._enter(contacts, record, now)
            case Leave():
                return self._leave()
        return []

    def ban(self, peer: PeerId, now: float) -> list[Any]:
        """`peer` broke the rules: out of every view, and not heard for `ban_s`."""
        if len(self._banned) >= self._limits.banned_max and peer not in self._banned:
            self._banned.pop(next(iter(self._banned)))
        self._banned[peer] = now + self._limits.ban_s
        self._passive.pop(peer, None)
        self._lost.pop(peer, None)
        self._asked.pop(peer, None)
        self._late.pop(peer, None)
        outputs = self._drop(peer)
        if outputs:
            outputs.insert(0, Send(peer, Disconnect(self._topic)))
        return [*outputs, *self._fill(now)]

    def _received(self, peer: PeerId, message: Any, now: float) -> list[Any]:
        handler = self._handlers.get(type(message))
        if handler is None or not self._is_member or not self._is_welcome(peer, now):
            self.ignored += 1
            return []
        return handler(peer, message, now)

    def _is_welcome(self, peer: PeerId, now: float) -> bool:
        until = self._banned.get(peer)
        if until is not None:
            if now < until:
                return False
            del self._banned[peer]
        return peer in self._active or self._may_join(peer)

    # ---- coming and going

    def _enter(self, contacts: Iterable[Entry], record: bytes, now: float) -> list[Any]:
        self._record = record
        was_member, self._is_member = self._is_member, True
        for entry in contacts:
            peer = PeerId(entry.peer)
            if peer != self._me and peer not in self._active and self._may_join(peer):
                self._remember_lost(peer, entry.record)
                self._is_introduced = False
        first = self._join(now) if not self._active else []
        return first if was_member else [*first, self._next_tick(now)]

    def _join(self, now: float) -> list[Any]:
        """Ask one of those we met before to take us in as a newcomer: random walks bring more neighbours."""
        candidates = [peer for peer in self._lost if peer not in self._asked]
        if not candidates:
            return []
        peer = self._rng.choice(candidates)
        # The paper's contact answers at once. One that does not may be busy with many newcomers: each repeated join
        # would be one more, and starts walks of its own.
        is_again = peer == self._joining
        self._doublings = min(self._doublings + 1, self._limits.join_doublings_max) if is_again else 0
        self._joining = peer
        wait_s = self._limits.ask_s * 2**self._doublings
        return self._ask(peer, self._lost[peer], Join(self._topic, self._record), now, wait_s)

    def _leave(self) -> list[Any]:
        outputs: list[Any] = [Send(peer, Disconnect(self._topic, True)) for peer in self._active]
        outputs += [NeighbourDown(self._topic, peer) for peer in self._active]
        outputs += [CancelTimer((self._topic, "ask", peer)) for peer in self._asked]
        tables: tuple[dict[Any, Any], ...] = (
            self._active,
            self._passive,
            self._lost,
            self._asked,
            self._late,
        )
        for table in (*tables, self._refused, self._shuffles):
            table.clear()
        self._is_member, self._is_introduced = False, True
        return [*outputs, CancelTimer((self._topic, "shuffle"))]

    def _on_join(self, peer: PeerId, message: Join, now: float) -> list[Any]:
        if not self._asks.take(now) or not self._is_good(peer, message.record):
            self.ignored += 1
            return []
        others = [other for other in self._active if other != peer]
        newcomer = Entry(peer, message.record)
        walk = ForwardJoin(self._topic, newcomer, self._limits.active_walk)
        walks = [Send(other, walk) for other in others]
        return [*self._accept(peer, message.record, Need.URGENT, now), *walks]

    def _on_forward_join(self, peer: PeerId, message: ForwardJoin, now: float) -> list[Any]:
        link, newcomer = self._active.get(peer), PeerId(message.newcomer.peer)
        if link is None or not link.walks.take(now) or newcomer == self._me:
            self.ignored += 1
            return []
        onward = [other for other in self._active if other not in (peer, newcomer)]
        ttl = min(message.ttl, self._limits.active_walk)
        if ttl == 0 or not onward:
            if newcomer in self._active or newcomer in self._asked or not self._is_entry(message.newcomer):
                return []
            # The paper adds the newcomer at once; here it is asked, and added when it accepts.
            request = Neighbour(self._topic, Need.SPARE, self._record)
            return self._ask(newcomer, message.newcomer.record, request, now)
        if ttl == self._limits.passive_walk:
            self._learn([message.newcomer], link, now)
        return [Send(self._rng.choice(onward), ForwardJoin(self._topic, message.newcomer, ttl - 1))]

    # ---- the active view

    def _ask(
        self, peer: PeerId, record: bytes, request: Join | Neighbour, now: float, wait_s: float | None = None
    ) -> list[Any]:
        if len(self._asked) >= 2 * self._limits.active_max:
            return []
        self._asked[peer] = record
        at = now + (self._limits.ask_s if wait_s is None else wait_s)
        return [Send(peer, request), SetTimer((self._topic, "ask", peer), at)]

    def _on_neighbour(self, peer: PeerId, message: Neighbour, now: float) -> list[Any]:
        if not self._asks.take(now) or not self._is_good(peer, message.record):
            self.ignored += 1
            return []
        return self._accept(peer, message.record, message.need, now)

    def _accept(self, peer: PeerId, record: bytes, need: int, now: float) -> list[Any]:
        """Take `peer` in and say so; without an urgent need only into a free place."""
        has_place = peer in self._active or len(self._active) < self._limits.active_max
        is_urgent = need in (Need.URGENT, Need.MIXING)
        if not has_place and not (is_urgent and self._evictions.take(now)):
            return [Send(peer, Answer(self._topic, False, self._record))]
        added = self._add(peer, record, is_spare=need == Need.MIXING)
        return [Send(peer, Answer(self._topic, True, self._record)), *added]

    def _on_answer(self, peer: PeerId, message: Answer, now: float) -> list[Any]:
        record = self._asked.pop(peer, None)
        if record is None:
            return self._on_late_answer(peer, message, now)
        self._joining = None
        outputs: list[Any] = [CancelTimer((self._topic, "ask", peer))]
        if message.is_accepted:
            is_good = message.record and self._is_good(peer, message.record)
            is_spare = peer == self._mixing
            return [*outputs, *self._add(peer, message.record if is_good else record, is_spare=is_spare)]
        if self._active:
            self._refused[peer] = None
        return [*outputs, *self._fill(now)]

    def _on_late_answer(self, peer: PeerId, message: Answer, now: float) -> list[Any]:
        """Taken while there is a place free; else the other side must not believe in us."""
        record = self._late.pop(peer, None)
        if not message.is_accepted or peer in self._active:
            return []
        if record is not None and len(self._active) < self._limits.active_max:
            is_good = message.record and self._is_good(peer, message.record)
            return self._add(peer, message.record if is_good else record)
        return [Send(peer, Disconnect(self._topic))] if self._asks.take(now) else []

    def _unanswered(self, peer: PeerId, now: float) -> list[Any]:
        record = self._asked.pop(peer, None)
        if record is None:
            return []
        self._late.pop(peer, None)
        if len(self._late) >= self._limits.active_max:
            self._late.pop(next(iter(self._late)))
        self._late[peer] = record
        self._passive.pop(peer, None)
        return self._fill(now)

    def _add(self, peer: PeerId, record: bytes, *, is_spare: bool = False) -> list[Any]:
        """Into the active view; a random other one leaves when it is full."""
        if peer in self._active:
            return []
        outputs: list[Any] = []
        if len(self._active) >= self._limits.active_max:
            leaving = self._rng.choice(list(self._active))
            left = self._active[leaving].record
            outputs = [Send(leaving, Disconnect(self._topic)), *self._drop(leaving)]
            self._put_passive(leaving, left)
        if self._asked.pop(peer, None) is not None:
            outputs.append(CancelTimer((self._topic, "ask", peer)))
        self._passive.pop(peer, None)
        if self._lost.pop(peer, None) is not None:  # whoever of the two asked the other
            self._is_introduced = True
        self._active[peer] = _Link(record, self._limits)
        return [*outputs, NeighbourUp(self._topic, peer, is_spare)]

    def _drop(self, peer: PeerId) -> list[Any]:
        if self._active.pop(peer, None) is None:
            return []
        return [NeighbourDown(self._topic, peer)]

    def _on_disconnect(self, peer: PeerId, message: Disconnect, now: float) -> list[Any]:
        link = self._active.get(peer)
        if message.is_leaving:
            self._passive.pop(peer, None)
        if link is None:
            return []
        outputs = self._drop(peer)
        if not message.is_leaving:
            self._put_passive(peer, link.record)
            self._refused[peer] = None
        return [*outputs, *self._fill(now)]

    def _peer_down(self, peer: PeerId, now: float) -> list[Any]:
        link = self._active.get(peer)
        if link is None:
            if self._asked.pop(peer, None) is None:
                return []
            self._passive.pop(peer, None)
            return [CancelTimer((self._topic, "ask", peer)), *self._fill(now)]
        # The paper forgets it. In a household of three that would be half the network.
        self._remember_lost(peer, link.record)
        return [*self._drop(peer), *self._fill(now)]

    def _fill(self, now: float) -> list[Any]:
        """Ask random passive peers for the places that are free: as many at once (the paper: one)."""
        limits = self._limits
        free = limits.active_max - len(self._active) - len(self._asked)
        if free <= 0 or not self._is_member or len(self._refused) >= limits.refusals_max:
            return []
        candidates = [p for p in self._passive if p not in self._asked and p not in self._refused]
        chosen = self._rng.sample(candidates, min(free, len(candidates)))
        need = Need.SPARE if self._active else Need.URGENT
        request = Neighbour(self._topic, need, self._record)
        outputs: list[Any] = []
        for peer in chosen:
            outputs += self._ask(peer, self._passive[peer], request, now)
        if not outputs and not self._active and not self._asked:
            return self._join(now)
        return outputs

    # ---- shuffles and the passive view

    def _tick(self, now: float) -> list[Any]:
        """Once in `shuffle_s`: exchange samples with somebody at random, look for missing neighbours."""
        self._refused.clear()
        if not self._is_introduced:
            # The paper's joins arrive. When ours is lost and we are a newcomer's contact, two networks begin.
            outputs = self._join(now) or self._fill(now)
        else:
            outputs = self._fill(now)
            if not outputs:
                outputs = self._mix(now)
        if self._active:
            outputs += self._shuffle()
        return [*outputs, self._next_tick(now)]

    def _mix(self, now: float) -> list[Any]:
        """Now and then a neighbour makes room for somebody at random, at best for somebody lost.

        Not in the paper: there, two parts of a network whose active views are full stay apart for ever.
        """
        has_place = len(self._active) < self._limits.active_max
        is_mixing = self._rng.random() < self._limits.heal_share
        if not is_mixing and not has_place:
            return []
        known = self._passive if is_mixing and self._rng.random() < 0.5 else self._lost
        candidates = [peer for peer in known or self._passive if peer not in self._asked]
        if not candidates:
            return []
        peer = self._rng.choice(candidates)
        self._mixing = peer if is_mixing else None
        request = Neighbour(self._topic, Need.MIXING if is_mixing else Need.SPARE, self._record)
        return self._ask(peer, (known or self._passive)[peer], request, now)

    def _next_tick(self, now: float) -> SetTimer:
        is_settled = self._active and self._is_introduced
        wait_s = self._limits.shuffle_s if is_settled else self._limits.lonely_s
        return SetTimer((self._topic, "shuffle"), now + wait_s * self._rng.uniform(0.9, 1.1))

    def _shuffle(self) -> list[Any]:
        limits = self._limits
        peer = self._rng.choice(list(self._active))
        active = self._sample([p for p in self._active if p != peer], limits.shuffle_active)
        entries = [*active, *self._sample(self._passive, limits.shuffle_passive)]
        self._number = (self._number + 1) % 2**32
        if len(self._shuffles) >= limits.shuffles_pending_max:
            self._shuffles.pop(next(iter(self._shuffles)))
        self._shuffles[self._number] = tuple(PeerId(entry.peer) for entry in entries)
        origin = Entry(self._me, self._record)
        return [Send(peer, Shuffle(self._topic, origin, self._number, entries, limits.shuffle_walk))]

    def _sample(self, peers: Iterable[PeerId], count: int) -> list[Entry]:
        known = list(peers)
        chosen = self._rng.sample(known, min(count, len(known)))
        return [Entry(peer, self.record_of(peer)) for peer in chosen]

    def _on_shuffle(self, peer: PeerId, message: Shuffle, now: float) -> list[Any]:
        link, origin = self._active.get(peer), PeerId(message.origin.peer)
        if link is None or not link.walks.take(now) or origin == self._me:
            self.ignored += 1
            is_stranger = link is None and self._asks.take(now)
            return [Send(peer, Disconnect(self._topic))] if is_stranger else []
        onward = [other for other in self._active if other not in (peer, origin)]
        ttl = min(message.ttl, self._limits.shuffle_walk) - 1
        if ttl > 0 and onward:
            walk = Shuffle(self._topic, message.origin, message.number, message.entries, max(ttl, 0))
            return [Send(self._rng.choice(onward), walk)]
        if not self._is_entry(message.origin) or not self._may_hear(origin, now):
            return []
        sample = self._sample([p for p in self._passive if p != origin], len(message.entries) or 1)
        sent = tuple(PeerId(entry.peer) for entry in sample)
        self._learn([message.origin, *message.entries], link, now, sent)
        return [Send(origin, ShuffleReply(self._topic, message.number, sample))]

    def _on_shuffle_reply(self, peer: PeerId, message: ShuffleReply, now: float) -> list[Any]:
        sent = self._shuffles.pop(message.number, None)
        if sent is None:
            self.ignored += 1
            return []
        self._learn(message.entries, None, now, sent)
        return self._fill(now)

    def _learn(
        self, entries: Iterable[Entry], link: _Link | None, now: float, sent: tuple[PeerId, ...] = ()
    ) -> None:
        """Into the passive view; in a full one those leave first that went out in exchange."""
        leaving = [peer for peer in sent if peer in self._passive]
        for entry in entries:
            peer = PeerId(entry.peer)
            if peer == self._me or peer in self._active or peer in self._passive or peer in self._banned:
                continue
            if not self._is_entry(entry):
                self.ignored += 1
                continue
            if link is not None and not link.learned.take(now):
                self.ignored += 1
                return
            if leaving and len(self._passive) >= self._limits.passive_max:
                self._passive.pop(leaving.pop(), None)
            self._put_passive(peer, entry.record)

    def _put_passive(self, peer: PeerId, record: bytes) -> None:
        if peer not in self._passive and len(self._passive) >= self._limits.passive_max:
            del self._passive[self._rng.choice(list(self._passive))]
        self._passive[peer] = record

    def _remember_lost(self, peer: PeerId, record: bytes) -> None:
        self._lost.pop(peer, None)
        if len(self._lost) >= self._limits.lost_max:
            self._lost.pop(next(iter(self._lost)))
        self._lost[peer] = record

    def _may_hear(self, peer: PeerId, now: float) -> bool:
        return self._is_welcome(peer, now)

    def _is_entry(self, entry: Entry) -> bool:
        peer = PeerId(entry.peer)
        return self._may_join(peer) and self._is_good(peer, entry.record)

    def _is_good(self, peer: PeerId, record: bytes) -> bool:
        return not record or self._is_record(peer, record)
