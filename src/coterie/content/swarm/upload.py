"""The giving side's core: whose request is answered next, who waits, and who is sent elsewhere.

**One copy.** Of content that is whole here, each piece is given to one asker before any is given twice: a request for a
piece that another asker was given is answered "elsewhere" while there are others it could ask for, and all askers are
told what was given (`TellGiven`), so that they ask for the rest. So our uplink brings new pieces into the swarm, which
spreads them at its own uplinks meanwhile. An asker that insists is served: nobody offered it the piece for a while.

**Slots.** At most `SLOTS` askers of what is whole here are served at once: each is given other pieces, and the more of
them have some first-hand, the more evenly these spread. Of what is still being fetched here, at most `SLOTS_FETCHING`:
the fewer share our uplink, the sooner each can pass on what it is given. Contacts come first; strangers by what they
gave us lately (tit for tat, Cohen 2003), one of them by turns however little it gave (optimistic). Those that are
served take turns by bytes.

**Rates.** A bucket for all, one for each content; what exceeds them waits.
"""

from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import msgspec

from coterie.content.limit import ByteLimit
from coterie.machine import SetTimer, TimerFired

SLOTS = 24  # simulated, with 4 for the others: 30 receivers that all know each other need 1.13 times the bound, with
SLOTS_FETCHING = 4  # 24 for all 1.16, with 8 for all 1.27 to 1.30; 1,000 with 20 neighbours 1.84, 2.10, 2.00
SERVED_AT_ONCE_MAX = 2  # requests of one asker: one is read from disk while the other is sent
QUANTUM_BYTES = 256 << 10  # an asker's turn; guess: about a piece
CHOOSE_S = 10.0  # how often slots are given anew (Cohen 2003: 10 s)
OPTIMISTIC_ROUNDS = 3  # the slot by turns moves on after so many (Cohen 2003: 30 s)
TELL_S = 0.2  # what was given in so long is told at once
ASKERS_TOLD_MIN = 2  # with one asker there is nobody else to ask
RECENT_WEIGHT = 0.5  # of what somebody gave in the rounds before

Asker = Hashable  # one session of one peer
Root = Hashable


# ---- events


class AskerUp(msgspec.Struct, frozen=True):
    """A session about `root`. `is_contact`: no stranger; `whole`: all of it is here; `size` of it, bytes."""

    asker: Asker
    root: Root
    is_contact: bool = False
    whole: bool = True
    size: int = 0


class AskerDown(msgspec.Struct, frozen=True):
    """The session ended."""

    asker: Asker


class Part(msgspec.Struct, frozen=True):
    """What a request asks for: `pieces` of `manifest` (a set), of about `size` bytes; 0 pieces: the node."""

    manifest: bytes
    pieces: int
    size: int
    insist: bool = False


class Asked(msgspec.Struct, frozen=True):
    """A request for one or several `parts`. `tag` is the shell's."""

    asker: Asker
    tag: Any
    parts: tuple[Part, ...]

    @property
    def size(self) -> int:
        """Bytes of all its parts together."""
        return sum(part.size for part in self.parts)


class Served(msgspec.Struct, frozen=True):
    """The oldest request that was to be served to `asker` went out, or was cancelled on the way."""

    asker: Asker


class Gave(msgspec.Struct, frozen=True):
    """The peer of this session gave us so many bytes since it was said last."""

    asker: Asker
    size: int


class Limit(msgspec.Struct, frozen=True):
    """Command: no more than so many bytes a second of `root`; 0: no limit."""

    root: Root
    bytes_per_s: float


# ---- outputs


class Serve(msgspec.Struct, frozen=True):
    """Answer this request, then report `Served`; its parts with the numbers in `elsewhere` others were given."""

    asker: Asker
    tag: Any
    elsewhere: frozenset[int] = frozenset()


class SendElsewhere(msgspec.Struct, frozen=True):
    """Answer this request, all of it, with "others were given it"; that is not to be reported."""

    asker: Asker
    tag: Any


class TellGiven(msgspec.Struct, frozen=True):
    """Tell this asker that others were given these pieces."""

    asker: Asker
    manifest: bytes
    pieces: int


@dataclass(slots=True)
class _Asker:
    """One session."""

    name: Asker
    root: Root
    is_contact: bool
    requests: deque[Asked] = field(default_factory=deque)
    serving: int = 0
    has_slot: bool = False
    credit: float = 0.0  # bytes of its turn that are left
    gave: float = 0.0  # bytes it gave us, the last rounds most
    last_slot: int = -1  # the round in which it had one; never yet


@dataclass(slots=True)
class _Spread:
    """What of one content went to whom."""

    size: int
    whole: bool
    askers: dict[Asker, _Asker] = field(default_factory=dict)
    given: dict[bytes, int] = field(default_factory=dict)
    by: dict[Asker, dict[bytes, int]] = field(default_factory=dict)
    given_bytes: int = 0
    news: dict[bytes, int] = field(default_factory=dict)
    bucket: ByteLimit = field(default_factory=ByteLimit)


class UploadCore:
    """All askers of a node. `slots`: how many are served at once."""

    def __init__(self, random: Random, slots: int = SLOTS, bucket: ByteLimit | None = None) -> None:
        """`bucket`: the limit of all uploads together, which its owner may change."""
        self.slots = slots
        self._random = random
        self._askers: dict[Asker, _Asker] = {}
        self._spreads: dict[Root, _Spread] = {}
        self._limits: dict[Root, float] = {}
        self._turns: deque[_Asker] = deque()  # those with a slot and something waiting
        self._bucket = bucket or ByteLimit()
        self._round = 0
        self._optimistic: dict[bool, Asker] = {}  # of what is whole here, and of what is not
        self._timers: dict[str, None] = {}
        self._out: list[Any] = []
        self._now = 0.0

    def handle(self, event: Any, now: float) -> list[Any]:
        """See `coterie.machine`."""
        self._now = now
        self._out = []
        match event:
            case AskerUp():
                self._add(event)
            case AskerDown(name):
                self._remove(name)
            case Limit(root, rate):
                self._set_limit(root, rate)
            case TimerFired(key):
                self._fire(str(key))
            case Asked(name) | Served(name) | Gave(name):
                if asker := self._askers.get(name):
                    self._take(asker, event)
        self._serve()
        return self._out

    def given(self, root: Root) -> int:
        """Bytes of different pieces that went out of this content."""
        spread = self._spreads.get(root)
        return spread.given_bytes if spread else 0

    # ---- who is there

    def _add(self, event: AskerUp) -> None:
        spread = self._spreads.setdefault(event.root, _Spread(event.size, event.whole))
        spread.bucket.bytes_per_s = self._limits.get(event.root, 0.0)
        spread.whole = event.whole
        asker = _Asker(event.asker, event.root, event.is_contact)
        self._askers[event.asker] = spread.askers[event.asker] = asker
        self._out += [TellGiven(event.asker, manifest, given) for manifest, given in spread.given.items()]
        self._give_free_slots()

    def _remove(self, name: Asker) -> None:
        asker = self._askers.pop(name, None)
        if asker is None:
            return
        asker.requests.clear()
        if asker in self._turns:
            self._turns.remove(asker)
        spread = self._spreads[asker.root]
        del spread.askers[name]
        gone = spread.by.pop(name, {})
        if not spread.askers:
            del self._spreads[asker.root]
        else:
            self._forget_given(spread, gone)
        self._give_free_slots()

    @staticmethod
    def _forget_given(spread: _Spread, gone: dict[bytes, int]) -> None:
        """What only the one that left was given may be nowhere now."""
        for manifest, pieces in gone.items():
            still = 0
            for masks in spread.by.values():
                still |= masks.get(manifest, 0)
            spread.given[manifest] &= ~(pieces & ~still)

    def _set_limit(self, root: Root, rate: float) -> None:
        self._limits.pop(root, None)
        if rate:
            self._limits[root] = rate
        if spread := self._spreads.get(root):
            spread.bucket.bytes_per_s = rate

    # ---- requests

    def _take(self, asker: _Asker, event: Any) -> None:
        match event:
            case Asked():
                asker.requests.append(event)
                if asker.has_slot and asker.serving < SERVED_AT_ONCE_MAX and asker not in self._turns:
                    self._turns.append(asker)
                if not asker.has_slot:
                    self._give_free_slots()
                    self._set_timer("slots", CHOOSE_S)
            case Served():
                asker.serving = max(0, asker.serving - 1)
                if asker.has_slot and asker.requests and asker not in self._turns:
                    self._turns.append(asker)
                if not (asker.requests or asker.serving):
                    self._give_free_slots()
            case Gave(_, size):
                asker.gave += size

    def _serve(self) -> None:
        """Answer whoever's turn it is, as far as the rates allow."""
        held_up = 0  # in a row, by the limit of their content
        while self._turns:
            asker = self._turns[0]
            if not asker.requests or asker.serving >= SERVED_AT_ONCE_MAX:
                self._turns.popleft()
                continue
            spread = self._spreads[asker.root]
            request = asker.requests[0]
            elsewhere = frozenset(
                number for number, part in enumerate(request.parts) if self._is_elsewhere(asker, spread, part)
            )
            if len(elsewhere) == len(request.parts):
                asker.requests.popleft()
                self._out.append(SendElsewhere(asker.name, request.tag))
                continue
            ready = max(self._bucket.ready_at(self._now), spread.bucket.ready_at(self._now))
            if ready > self._now:
                self._set_timer("rate", ready - self._now)
                held_up += 1
                if held_up >= len(self._turns):
                    return
                self._turns.rotate(-1)
                continue
            held_up = 0
            if asker.credit <= 0:
                asker.credit += QUANTUM_BYTES
                self._turns.rotate(-1)
                if len(self._turns) > 1:
                    continue
            self._serve_one(asker, spread, request, elsewhere)

    def _serve_one(self, asker: _Asker, spread: _Spread, request: Asked, elsewhere: frozenset[int]) -> None:
        asker.requests.popleft()
        asker.serving += 1
        served = [part for number, part in enumerate(request.parts) if number not in elsewhere]
        size = sum(part.size for part in served)
        asker.credit -= size
        self._bucket.take(size, self._now)
        spread.bucket.take(size, self._now)
        self._out.append(Serve(asker.name, request.tag, elsewhere))
        for part in served:
            if spread.whole and part.pieces:
                self._note_given(asker, spread, part)

    def _is_elsewhere(self, asker: _Asker, spread: _Spread, request: Part) -> bool:
        if request.insist or not request.pieces or not spread.whole or len(spread.askers) < ASKERS_TOLD_MIN:
            return False
        if spread.given_bytes >= spread.size:
            return False
        own = spread.by.get(asker.name, {}).get(request.manifest, 0)
        return bool(spread.given.get(request.manifest, 0) & request.pieces & ~own)

    def _note_given(self, asker: _Asker, spread: _Spread, request: Part) -> None:
        known = spread.given.get(request.manifest, 0)
        fresh = request.pieces & ~known
        if fresh:
            share = fresh.bit_count() / request.pieces.bit_count()
            spread.given_bytes += int(request.size * share)
            spread.given[request.manifest] = known | fresh
            spread.news[request.manifest] = spread.news.get(request.manifest, 0) | fresh
            self._set_timer("tell", TELL_S)
        own = spread.by.setdefault(asker.name, {})
        own[request.manifest] = own.get(request.manifest, 0) | request.pieces

    def _tell(self) -> None:
        for spread in self._spreads.values():
            news, spread.news = spread.news, {}
            if len(spread.askers) < ASKERS_TOLD_MIN:
                continue
            for name in spread.askers:
                own = spread.by.get(name, {})
                for manifest, pieces in news.items():
                    others = pieces & ~own.get(manifest, 0)
                    if others:
                        self._out.append(TellGiven(name, manifest, others))

    # ---- slots

    def _fire(self, key: str) -> None:
        self._timers.pop(key, None)
        match key:
            case "tell":
                self._tell()
            case "slots":
                self._choose_slots()

    def _set_timer(self, key: str, after: float) -> None:
        if key not in self._timers:
            self._timers[key] = None
            self._out.append(SetTimer(key, self._now + after))

    def _give_slot(self, asker: _Asker) -> None:
        asker.has_slot = True
        asker.last_slot = self._round
        if asker.requests and asker not in self._turns:
            self._turns.append(asker)

    def _give_free_slots(self) -> None:
        """As long as there are slots, whoever wants one has it; who asks for nothing now holds none up."""
        for slots, askers in self._kinds():
            waiting = [a for a in askers if a.requests and not a.has_slot]
            if not waiting:
                continue
            busy = 0
            for asker in askers:
                if asker.has_slot and not (asker.requests or asker.serving):
                    asker.has_slot = False
                busy += asker.has_slot
            for asker in sorted(waiting, key=self._rank)[: max(0, slots - busy)]:
                self._give_slot(asker)

    def _kinds(self) -> list[tuple[int, list[_Asker]]]:
        """How many slots there are for askers of what is whole here, and these; then of the others."""
        kinds: tuple[list[_Asker], list[_Asker]] = ([], [])
        for asker in self._askers.values():
            kinds[not self._spreads[asker.root].whole].append(asker)
        return [(self.slots, kinds[0]), (min(self.slots, SLOTS_FETCHING), kinds[1])]

    @staticmethod
    def _rank(asker: _Asker) -> tuple[bool, float, int]:
        """Less is better: contacts, then who gave most, then who waited longest."""
        return (not asker.is_contact, -asker.gave, asker.last_slot)

    def _choose_slots(self) -> None:
        """Every `CHOOSE_S`, while more want to be served than there are slots."""
        self._round += 1
        for is_whole, (slots, askers) in zip((True, False), self._kinds(), strict=True):
            self._choose_among(askers, slots, is_whole=is_whole)
        for asker in self._askers.values():
            asker.gave *= RECENT_WEIGHT

    def _choose_among(self, askers: list[_Asker], slots: int, *, is_whole: bool) -> None:
        wanting = [a for a in askers if a.requests or a.serving or a.has_slot]
        active = [a for a in wanting if a.requests or a.serving]
        if len(active) <= slots:
            return
        best = sorted(active, key=self._rank)[: slots - 1]
        rest = [a for a in active if not any(a is b for b in best)]
        lucky = self._optimistic.get(is_whole)
        if self._round % OPTIMISTIC_ROUNDS == 1 or not any(a.name == lucky for a in rest):
            oldest = min(a.last_slot for a in rest)
            lucky = self._random.choice([a.name for a in rest if a.last_slot == oldest])
            self._optimistic[is_whole] = lucky
        chosen = {id(a) for a in best} | {id(a) for a in rest if a.name == lucky}
        for asker in wanting:
            if id(asker) in chosen:
                self._give_slot(asker)
            else:
                asker.has_slot = False
        self._turns = deque(a for a in self._turns if a.has_slot)
        self._set_timer("slots", CHOOSE_S)
