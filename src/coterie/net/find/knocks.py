"""Knocks: two nodes behind routers dial at once, though nobody carries word between them but a public table. Pure.

A router lets in only who was called before, so the one who is dialled has to dial back at the same time. Who wants to
reach a peer that listens leaves a knock (`wire.knock`) at the peer's door, and one at the bell of the pair; who listens
looks at its own door now and again.

    seeker     reads the door, writes its knock before those that hang there; writes it at the pair's bell, too; again
               every `AGAIN_S`, while it dials
    listener   reads its door every `BUSY_S` or `QUIET_S`; a knock that is sound, fresh, new and permitted is answered
               at the pair's bell, and dialled
    jammed     anybody who knows an id can write at its door, and rubbish with the highest sequence number cannot be
               written over. So a door where something hangs that is no fresh knock makes the listener look at the
               pairs' bells of its contacts too, `PAIRS_PER_LOOK` at each look, in turn: nobody else can write those.
               One of them also beside a fresh knock, for a contact may be the one who jams

`now` is unix time (s): slots and the freshness of a knock go by it.
"""

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from random import Random

import msgspec

from coterie.errors import PeerError
from coterie.identity import PeerId
from coterie.identity.peer_id import KEY_BYTES
from coterie.machine import CancelTimer, Emit, SetTimer, TimerFired
from coterie.rate import Rate, RateTable
from coterie.wire.knock import (
    PROOF_BYTES,
    REFERENCE_BYTES,
    Bell,
    Knock,
    KnockKeys,
    KnockKind,
    Right,
    door_bell,
    proof_of,
    read_item,
    slot_of,
    write_item,
)

BUSY_S = (
    20.0  # guess: between looks while people are about; measured: a look takes 27 packets each way, 13 kB
)
QUIET_S = 60.0  # 0.8 MB an hour, as a link that is kept takes; the longest that who knocks waits
BUSY_FOR_S = 300.0  # guess: after a start, an answered knock, a ticket that was made
JITTER = 0.2  # of a pause, either way: nodes that start together do not look together
FRESH_S = 120.0  # guess: a seeker knocks anew every `AGAIN_S`; clocks of households
SKEW_S = 60.0  # guess: how far ahead a sender's clock may be
AGAIN_S = 20.0  # guess: a knock may be lost or written over
ROUNDS_MAX = 6  # of one seeker: two minutes
SEEKERS_MAX = 16  # peers knocked for at once; as `mainline.LOOKUPS_MAX`
KNOCKS_PER_S, KNOCKS_BURST = 1 / 120, 8  # guess: seekers begun; background dials among them
PAIRS_PER_LOOK = 4  # guess: contacts whose bell is looked at while the door is jammed
PAIRS_PER_BUSY_LOOK = 1  # the same, while a contact knocks there
HEARD_EVERY_S = 15.0  # for each peer: a dial takes 7 s
HEARD_PER_S, HEARD_BURST = 1 / 10, 16  # guess: contacts who come home to one computer
STRANGERS_PER_S, STRANGERS_BURST = 1 / 60, 4  # guess: who hold a ticket of ours
SEEN_MAX = 256  # knocks remembered until they are stale; guess: 16 in a minute
READS_MAX = 64  # bells read at once: seekers' and a jammed look's

_LOOK = "look"


class Listen(msgspec.Struct, frozen=True):
    """Look at our door from now on, or no more."""

    on: bool


class Stirred(msgspec.Struct, frozen=True):
    """People are about: look more often for a while."""


class Knocking(msgspec.Struct, frozen=True):
    """Knock for `peer` until `KnockingOver`; each of the two as often as the other."""

    peer: PeerId
    right: Right | None = None


class KnockingOver(msgspec.Struct, frozen=True):
    """`peer` is reached, or given up."""

    peer: PeerId


class BellRead(msgspec.Struct, frozen=True):
    """What hangs at `bell` by one of the table's nodes; the last one read is the newest, with `is_last`: or nothing."""

    bell: Bell
    item: bytes
    is_last: bool


class ReadBell(msgspec.Struct, frozen=True):
    """Read what hangs at `bell`. `BellRead` follows, at the end one with `is_last`, whatever happens.

    `is_brief`: what is there is wanted soon rather than surely.
    """

    bell: Bell
    is_brief: bool = False


class WriteBell(msgspec.Struct, frozen=True):
    """Hang `item` there."""

    bell: Bell
    item: bytes


class Heard(msgspec.Struct, frozen=True):
    """`peer` dials us now, from `addresses`: dial it too."""

    peer: PeerId
    addresses: tuple[str, ...]


class Answered(msgspec.Struct, frozen=True):
    """`peer` has heard our knock, and dials us from `addresses`."""

    peer: PeerId
    addresses: tuple[str, ...]


class NotKnocked(msgspec.Struct, frozen=True):
    """We do not knock for `peer`; `why` for people."""

    peer: PeerId
    why: str


@dataclass(slots=True)
class Counts:
    """What happened since the start, for `status`."""

    looks: int = 0
    heard: int = 0
    refused: int = 0
    jammed: int = 0


@dataclass(slots=True)
class _Seeker:
    right: Right | None
    wanted: int = 1
    rounds: int = 0
    sent: bytes = b""


@dataclass(slots=True)
class _Reading:
    """Why a bell is read. `of`: whose door, or the other of a pair."""

    why: str  # "door", "merge" or "pair"
    of: PeerId
    newest: bytes = b""
    has_fresh: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What the machine asks of its node, each time anew.

    Fields:
        addresses: where we dial from, as others see it: "ip:port", best first.
        is_known: whether this peer may knock without a right: a contact, a member of a circle.
        is_blocked: whether it may not knock whatever it shows.
        secrets: of the tickets with this reference.
        contacts: whose own bells are looked at, in a lasting order, but for who is `present`.
    """

    addresses: Callable[[], Sequence[str]]
    is_known: Callable[[PeerId], bool]
    is_blocked: Callable[[PeerId], bool] = lambda peer: False
    secrets: Callable[[bytes], Iterable[bytes]] = lambda reference: ()
    contacts: Callable[[], Iterable[PeerId]] = tuple
    present: Callable[[], Collection[PeerId]] = tuple


@dataclass(slots=True)
class _Rates:
    known: Rate = field(default_factory=lambda: Rate(HEARD_PER_S, HEARD_BURST))
    strangers: Rate = field(default_factory=lambda: Rate(STRANGERS_PER_S, STRANGERS_BURST))
    own: Rate = field(default_factory=lambda: Rate(KNOCKS_PER_S, KNOCKS_BURST))


class Knocks:
    """The machine. Outputs: `ReadBell`, `WriteBell`, `Emit` of `Heard`, `Answered`, `NotKnocked`, and timers."""

    def __init__(self, keys: KnockKeys, around: Surroundings, random: Random) -> None:
        self._keys = keys
        self._around = around
        self._random = random
        self._is_listening = False
        self._busy_until = float("-inf")
        self._next_look = float("inf")
        self._seekers: dict[PeerId, _Seeker] = {}
        self._reading: dict[Bell, _Reading] = {}
        self._seen: OrderedDict[bytes, float] = OrderedDict()  # boxes of knocks, until when each is fresh
        self._turn = 0
        self._rates = _Rates()
        self._heard: RateTable[PeerId, Rate] = RateTable(SEEN_MAX, lambda peer: Rate(1 / HEARD_EVERY_S, 1))
        self.counts = Counts()

    @property
    def is_listening(self) -> bool:
        """Whether our door is looked at."""
        return self._is_listening

    def handle(self, event: object, now: float) -> list[object]:
        """See `machine`."""
        match event:
            case Listen(on):
                return self._listen(on, now)
            case Stirred():
                return self._stir(now)
            case Knocking(peer, right):
                return self._begin(peer, right, now)
            case KnockingOver(peer):
                return self._end(peer)
            case BellRead(bell, item, is_last):
                return self._read(bell, item, is_last, now)
            case TimerFired(key) if key == _LOOK:
                return self._look(now)
            case TimerFired(key) if key in self._seekers:
                return self._round(key, now)
        return []

    # ---- listening

    def _listen(self, on: bool, now: float) -> list[object]:
        if on is self._is_listening:
            return []
        self._is_listening = on
        if not on:
            self._next_look = float("inf")
            return [CancelTimer(_LOOK)]
        self._busy_until = max(self._busy_until, now + BUSY_FOR_S)
        return [self._look_at(now + self._random.uniform(0, BUSY_S))]

    def _stir(self, now: float) -> list[object]:
        self._busy_until = now + BUSY_FOR_S
        if self._is_listening and self._next_look > now + BUSY_S:
            return [self._look_at(now + self._random.uniform(0, BUSY_S))]
        return []

    def _look_at(self, at: float) -> SetTimer:
        self._next_look = at
        return SetTimer(_LOOK, at)

    def _look(self, now: float) -> list[object]:
        self.counts.looks += 1
        us = self._keys.peer_id
        reads = [self._reads(door_bell(us, slot), _Reading("door", us)) for slot in _slots(now)]
        pause_s = BUSY_S if now < self._busy_until else QUIET_S
        wait_s = pause_s * self._random.uniform(1 - JITTER, 1 + JITTER)
        return [*_flat(reads), self._look_at(now + wait_s)]

    def _look_at_pairs(self, most: int, now: float) -> list[object]:
        """What hangs at the door may have taken the place of a knock: contacts ring at bells of their own, too."""
        present = self._around.present()
        absent = [p for p in self._around.contacts() if p not in present and p not in self._seekers]
        count = min(most, len(absent))
        chosen = [absent[(self._turn + at) % len(absent)] for at in range(count)]
        self._turn += count
        return _flat(self._reads_pair(peer, slot) for peer in chosen for slot in _slots(now))

    def _reads_pair(self, peer: PeerId, slot: int) -> list[object]:
        try:
            bell = self._keys.pair_bell(peer, self._keys.peer_id, slot)
        except PeerError:
            return []  # an id that nobody has the key of
        return self._reads(bell, _Reading("pair", peer))

    def _reads(self, bell: Bell, reading: _Reading) -> list[object]:
        if bell in self._reading or len(self._reading) >= READS_MAX:
            return []
        self._reading[bell] = reading
        return [ReadBell(bell, reading.why == "merge")]

    # ---- what hangs there

    def _read(self, bell: Bell, item: bytes, is_last: bool, now: float) -> list[object]:
        reading = self._reading.get(bell)
        if reading is None:
            return []
        done: list[object] = []
        if item:
            reading.newest = item
            if reading.why != "merge":
                done = self._hear(item, reading, now)
        if not is_last:
            return done
        del self._reading[bell]
        if reading.why == "merge" and reading.of in self._seekers:
            return self._hang(bell, reading, now)
        if reading.why == "door" and reading.newest:
            self.counts.jammed += not reading.has_fresh
            most = PAIRS_PER_BUSY_LOOK if reading.has_fresh else PAIRS_PER_LOOK
            return [*done, *self._look_at_pairs(most, now)]
        return done

    def _hear(self, item: bytes, reading: _Reading, now: float) -> list[object]:
        done: list[object] = []
        try:
            pieces = read_item(item)
        except PeerError:
            self.counts.refused += 1
            return []
        for sealed in pieces:
            name = sealed[KEY_BYTES:]  # shown again it is the same; its key can be written in another way
            if name in self._seen:
                reading.has_fresh |= self._seen[name] > now
                continue
            try:
                knock = self._keys.open(sealed)
            except PeerError:
                self.counts.refused += 1
                continue
            if knock.sender != self._keys.peer_id and -SKEW_S <= now - knock.at <= FRESH_S:
                is_permitted, outputs = self._take(knock, reading.of, now)
                reading.has_fresh |= is_permitted
                self._seen[name] = knock.at + FRESH_S if is_permitted else 0.0
                if len(self._seen) > SEEN_MAX:
                    self._seen.popitem(last=False)
                done += outputs
        return done

    def _take(self, knock: Knock, of: PeerId, now: float) -> tuple[bool, list[object]]:
        """A sound, fresh knock that we have not had yet: whether it is permitted, and what to do."""
        peer = knock.sender
        if knock.kind is KnockKind.ANSWER:
            is_asked = peer in self._seekers and of == peer
            return is_asked, [Emit(Answered(peer, knock.addresses))] if is_asked else []
        is_known = self._around.is_known(peer)
        if self._around.is_blocked(peer) or not (is_known or self._has_right(knock)):
            self.counts.refused += 1
            return False, []
        if not self._heard.of(peer).take(now):
            return True, []
        if not (self._rates.known if is_known else self._rates.strangers).take(now):
            self.counts.refused += 1
            return True, []
        self.counts.heard += 1
        return True, [Emit(Heard(peer, knock.addresses)), *self._answer(peer, now), *self._stir(now)]

    def _has_right(self, knock: Knock) -> bool:
        us = self._keys.peer_id
        return any([knock.proves(secret, us) for secret in self._around.secrets(knock.reference)])

    def _answer(self, peer: PeerId, now: float) -> list[object]:
        return self._ring_pair(peer, self._sealed(peer, None, KnockKind.ANSWER, now), now)

    # ---- knocking

    def _begin(self, peer: PeerId, right: Right | None, now: float) -> list[object]:
        if seeker := self._seekers.get(peer):
            seeker.wanted += 1
            seeker.right = seeker.right or right
            return []
        if len(self._seekers) >= SEEKERS_MAX or not self._rates.own.take(now):
            return [Emit(NotKnocked(peer, "this computer knocks for many already"))]
        self._seekers[peer] = _Seeker(right)
        return self._round(peer, now)

    def _end(self, peer: PeerId) -> list[object]:
        seeker = self._seekers.get(peer)
        if seeker is None:
            return []
        seeker.wanted -= 1
        if seeker.wanted:
            return []
        del self._seekers[peer]
        return [CancelTimer(peer)]

    def _round(self, peer: PeerId, now: float) -> list[object]:
        """Knock, and look for the answer to the last one."""
        seeker = self._seekers[peer]
        if seeker.rounds >= ROUNDS_MAX:
            return []
        reads = self._reads(door_bell(peer, slot_of(now)), _Reading("merge", peer))
        if seeker.rounds:
            reads += _flat(self._reads_pair(peer, slot) for slot in _slots(now))
        seeker.rounds += 1
        return [*reads, SetTimer(peer, now + AGAIN_S)]

    def _hang(self, bell: Bell, reading: _Reading, now: float) -> list[object]:
        """Our knock before what others have hung there: theirs we cannot read, only keep."""
        peer = reading.of
        seeker = self._seekers[peer]
        try:
            others = read_item(reading.newest)
        except PeerError:
            others = []
        sealed = self._sealed(peer, seeker.right, KnockKind.CALL, now)
        if not sealed:
            return []
        item = write_item([sealed, *(one for one in others if one != seeker.sent)])
        seeker.sent = sealed
        return [WriteBell(bell, item), *self._ring_pair(peer, sealed, now)]

    def _ring_pair(self, peer: PeerId, sealed: bytes, now: float) -> list[object]:
        try:
            bell = self._keys.pair_bell(self._keys.peer_id, peer, slot_of(now))
        except PeerError:
            return []
        return [WriteBell(bell, write_item([sealed]))] if sealed else []

    def _sealed(self, peer: PeerId, right: Right | None, kind: KnockKind, now: float) -> bytes:
        """A knock for `peer`; empty when nothing can be sealed to that id."""
        us = self._keys.peer_id
        knock = Knock(
            sender=us,
            kind=kind,
            at=int(now),
            addresses=tuple(self._around.addresses()),
            reference=right.reference if right else bytes(REFERENCE_BYTES),
            proof=proof_of(right.secret, us, peer) if right else bytes(PROOF_BYTES),
        )
        try:
            return self._keys.seal(knock, peer, self._random.randbytes(32))
        except PeerError:
            return b""


def _slots(now: float) -> list[int]:
    """The slots in which a knock that is fresh at `now` may hang: two near the edge, else one."""
    return list(dict.fromkeys([slot_of(now), slot_of(now - FRESH_S), slot_of(now + SKEW_S)]))


def _flat(parts: Iterable[list[object]]) -> list[object]:
    return [output for part in parts for output in part]
