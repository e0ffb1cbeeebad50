"""What leaves: letters of one app in their queues, each kept until its addressee's receipt or its end. Pure.

One of several addressees (`is_for_first`): a letter is bound to the first to whom it is sent, before it is sent. Only
the answer LATE, or AWAY to an only attempt, lets another have it: else two computers might.

Numbers begin anew at each start, in an epoch of its own: a home that was restored from a backup, or copied, uses none
twice. Letters of earlier starts keep theirs; in an ordered stream those of later starts wait until they are finished.
"""

from dataclasses import dataclass, field
from heapq import heappop, heappush
from random import Random
from typing import Any

import msgspec

from coterie.identity import PeerId
from coterie.machine import CancelTimer, Emit, SetTimer
from coterie.services.mail.events import (
    Bind,
    Dial,
    Ended,
    Forget,
    Keep,
    Outgoing,
    Post,
    Posted,
    StreamKey,
    Transmit,
)
from coterie.services.mail.limits import (
    APP_BYTES_MAX,
    APP_LETTERS_MAX,
    AWAY_S,
    DIAL_MAX_S,
    DIAL_MIN_S,
    IN_FLIGHT_MAX,
    PENDING_BYTES_MAX,
    PENDING_MAX,
    RANGE_MAX,
    RETRY_MAX_S,
    RETRY_MIN_S,
    STREAMS_MAX,
)
from coterie.services.mail.messages import EPOCH_BYTES, Letter, Outcome, Receipt

Outputs = list[Any]
CLOCK_STEP_S = 0.001  # of timers; less is no difference


@dataclass(slots=True)
class _Count:
    """One outgoing stream since the start: its epoch, and the last number."""

    epoch: bytes
    last: int


@dataclass(slots=True)
class _Flight:
    letter: Outgoing
    attempt: int
    attempts: int
    sent_at: float


@dataclass(slots=True)
class _Addressee:
    is_up: bool = False
    waiting: dict[bytes, Outgoing] = field(default_factory=dict)
    flying: dict[bytes, _Flight] = field(default_factory=dict)
    elsewhere: dict[bytes, Outgoing] = field(default_factory=dict)
    behind: dict[bytes, Outgoing] = field(default_factory=dict)  # letters of an earlier start
    size: int = 0
    retry_s: float = RETRY_MIN_S
    dial_s: float = DIAL_MIN_S
    is_dialling: bool = False
    paused_until: float = 0.0

    def __len__(self) -> int:
        return len(self.waiting) + len(self.flying) + len(self.elsewhere) + len(self.behind)

    def find(self, id_: bytes) -> Outgoing | None:
        flight = self.flying.get(id_)
        if flight is not None:
            return flight.letter
        return self.waiting.get(id_) or self.elsewhere.get(id_) or self.behind.get(id_)


class Outbox:
    """The outgoing half of one app's mail."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._to: dict[PeerId, _Addressee] = {}
        self._counts: dict[StreamKey, _Count] = {}
        self._unfinished: dict[StreamKey, dict[bytes, dict[int, Outgoing]]] = {}  # by epoch, number: in order
        self._freed: dict[PeerId, None] = {}  # their letters wait for nothing of their stream any more
        self._copies: dict[bytes, dict[PeerId, None]] = {}  # of letters for the first of several
        self._ends: list[tuple[int, bytes, PeerId]] = []  # a heap
        self._up: dict[PeerId, None] = {}
        self.letters = 0
        self.size = 0

    def load(self, letters: list[Outgoing]) -> None:
        """Go on from what is on disk; `letters` in the order of posting."""
        for letter in letters:
            self._put(letter)
        for epochs in self._unfinished.values():
            for epoch, those in epochs.items():
                epochs[epoch] = dict(sorted(those.items()))
        for letter in letters:
            if letter.is_bound:
                self._bind(letter)

    def begin(self, now: float) -> Outputs:
        """The first outputs after `load`."""
        outputs: Outputs = self._watch_ends()
        for peer, to in self._to.items():
            if len(to):
                outputs += self._dial(peer, to, now)
        return outputs

    def waits_for(self, peer: PeerId) -> bool:
        """Whether a letter waits for `peer`."""
        return bool(len(self._to.get(peer, ())))

    # ---- posting

    def post(self, event: Post, now: float) -> Outputs:
        """Take a letter on for each addressee, or for none."""
        if refused := self._why_not(event):
            return [Emit(Posted(event.id, refused))]
        outputs: Outputs = []
        for peer in event.addressees:
            count = self._count(StreamKey(peer, event.stream, event.is_ordered))
            letter = Outgoing(
                event.id, peer, event.stream, event.is_ordered, count.last, event.expires, len(event.body),
                event.digest, event.is_for_first and len(event.addressees) > 1, epoch=count.epoch,
            )  # fmt: skip
            self._put(letter)
            outputs.append(Keep(letter, event.body))
        outputs.append(Emit(Posted(event.id)))
        outputs += self._watch_ends()
        for peer in event.addressees:
            outputs += self._pump(peer, now)
        return outputs

    def _why_not(self, event: Post) -> str:
        copies, size = len(event.addressees), len(event.body)
        if self.letters + copies > APP_LETTERS_MAX or self.size + copies * size > APP_BYTES_MAX:
            return f"{self.letters} letters of this app wait already (APP_LETTERS_MAX, APP_BYTES_MAX)"
        for peer in event.addressees:
            to = self._to.get(peer, _Addressee())
            if len(to) >= PENDING_MAX or to.size + size > PENDING_BYTES_MAX:
                return (
                    f"{len(to)} letters of this app wait for {peer.short} already (PENDING_MAX, PENDING_BYTES_MAX): "
                    "send again when some have arrived"
                )
            key = StreamKey(peer, event.stream, event.is_ordered)
            known = {k for k in (*self._counts, *self._unfinished) if k.peer == peer}
            if key not in known and len(known) >= STREAMS_MAX:
                return f"this app has {STREAMS_MAX} streams to {peer.short} already (STREAMS_MAX)"
        return ""

    def _count(self, key: StreamKey) -> _Count:
        """The next number of a stream."""
        count = self._counts.get(key)
        if count is None:
            count = self._counts[key] = _Count(self._random.randbytes(EPOCH_BYTES), 0)
        count.last += 1
        return count

    def _put(self, letter: Outgoing) -> None:
        to = self._to.setdefault(letter.addressee, _Addressee())
        to.is_up = letter.addressee in self._up
        self._queue(letter)
        to.size += letter.size
        self.letters += 1
        self.size += letter.size
        heappush(self._ends, (letter.expires, letter.id, letter.addressee))
        if letter.is_for_first:
            self._copies.setdefault(letter.id, {})[letter.addressee] = None

    def _queue(self, letter: Outgoing) -> None:
        """Behind the others, and behind those of earlier starts of an ordered stream."""
        self._note(letter)
        to = self._to[letter.addressee]
        is_behind = letter.is_ordered and next(iter(self._unfinished[letter.key])) != letter.epoch
        (to.behind if is_behind else to.waiting)[letter.id] = letter

    def _note(self, letter: Outgoing) -> None:
        self._line(letter)[letter.number] = letter

    def _line(self, letter: Outgoing) -> dict[int, Outgoing]:
        return self._unfinished.setdefault(letter.key, {}).setdefault(letter.epoch, {})

    def _leave(self, letter: Outgoing) -> None:
        """A letter is no longer one of its stream: those of the next start may go when it was the last before them."""
        line = self._line(letter)
        line.pop(letter.number, None)
        if line:
            return
        epochs = self._unfinished[letter.key]
        del epochs[letter.epoch]
        if not epochs:
            del self._unfinished[letter.key]
            return
        to, first = self._to[letter.addressee], next(iter(epochs))
        for later in [one for one in to.behind.values() if one.key == letter.key and one.epoch == first]:
            to.waiting[later.id] = to.behind.pop(later.id)
            self._freed[letter.addressee] = None

    # ---- meeting

    def peer_up(self, peer: PeerId, now: float) -> Outputs:
        """`peer` can be sent to."""
        self._up[peer] = None
        to = self._to.get(peer)
        if to is None:
            return []
        to.is_up, to.is_dialling = True, False
        to.retry_s, to.dial_s, to.paused_until = RETRY_MIN_S, DIAL_MIN_S, 0.0
        return [CancelTimer(("dial", peer)), *self._pump(peer, now)]

    def peer_down(self, peer: PeerId, now: float) -> Outputs:
        """`peer` can no longer be sent to: what was under way waits again, before the rest."""
        self._up.pop(peer, None)
        to = self._to.get(peer)
        if to is None:
            return []
        to.is_up = to.is_dialling = False
        flown = {id_: flight.letter for id_, flight in to.flying.items()}
        to.waiting = flown | to.waiting
        to.flying.clear()
        outputs: Outputs = [CancelTimer(("retry", peer))]
        if len(to):
            to.dial_s = min(DIAL_MAX_S, to.dial_s * 2)
            to.is_dialling = True
            outputs.append(SetTimer(("dial", peer), now + to.dial_s))
        return outputs

    def dial(self, peer: PeerId, now: float) -> Outputs:
        """The time to try to reach `peer` again."""
        to = self._to[peer]
        to.is_dialling = False
        to.dial_s = min(DIAL_MAX_S, to.dial_s * 2)
        return self._dial(peer, to, now)

    def _dial(self, peer: PeerId, to: _Addressee, now: float) -> Outputs:
        if to.is_up or to.is_dialling or not len(to):
            return []
        to.is_dialling = True
        return [Dial(peer), SetTimer(("dial", peer), now + to.dial_s)]

    def _pump(self, peer: PeerId, now: float) -> Outputs:
        """Send what waits, as far as the bounds let, and what that lets others have."""
        outputs = self._pump_one(peer, now)
        while self._freed:
            outputs += self._pump_one(self._freed.popitem()[0], now)
        return outputs

    def _pump_one(self, peer: PeerId, now: float) -> Outputs:
        to = self._to[peer]
        if not to.is_up:
            return self._dial(peer, to, now)
        outputs: Outputs = []
        was_idle = not to.flying
        while to.waiting and len(to.flying) < IN_FLIGHT_MAX and now >= to.paused_until:
            letter = next(iter(to.waiting.values()))
            if letter.number >= self._floor(letter) + RANGE_MAX:
                break
            del to.waiting[letter.id]
            attempts = 1 + letter.is_bound  # bound before: it was sent before, nobody knows how often
            if letter.is_for_first and not letter.is_bound:
                letter = self._bind(letter)
                outputs.append(Bind(letter))
            flight = to.flying[letter.id] = _Flight(letter, 0, attempts, now)
            outputs.append(self._transmit(flight, now))
        if was_idle and to.flying:
            outputs.append(SetTimer(("retry", peer), now + to.retry_s))
        return outputs

    def _transmit(self, flight: _Flight, now: float) -> Transmit:
        letter = flight.letter
        flight.attempt, flight.sent_at = self._random.getrandbits(32), now
        gap_until = 0
        for number, earlier in self._line(letter).items():
            if number >= letter.number:
                break
            gap_until = max(gap_until, earlier.expires)
        floor = self._floor(letter)
        head = Letter(
            "", letter.stream, letter.is_ordered, letter.epoch, letter.number, floor, gap_until, flight.attempt, b""
        )  # fmt: skip
        return Transmit(letter, head)

    def _floor(self, letter: Outgoing) -> int:
        return next(iter(self._line(letter)))

    def retry(self, peer: PeerId, now: float) -> Outputs:
        """Send again what has no answer."""
        to = self._to[peer]
        outputs: Outputs = []
        for flight in to.flying.values():
            if now - flight.sent_at >= to.retry_s - CLOCK_STEP_S and now >= to.paused_until:
                flight.attempts += 1
                outputs.append(self._transmit(flight, now))
        if outputs:
            to.retry_s = min(RETRY_MAX_S, to.retry_s * 2)
        outputs += self._pump(peer, now)
        if to.flying:
            outputs.append(SetTimer(("retry", peer), now + to.retry_s))
        return outputs

    # ---- the end of letters

    def answered(self, bringer: PeerId, receipt: Receipt, now: float) -> Outputs:
        """A receipt: it counts when it is of the addressee and knows the body."""
        peer = PeerId(receipt.addressee)
        to = self._to.get(peer)
        letter = to.find(receipt.id) if to is not None else None
        if to is None or letter is None or receipt.digest != letter.digest:
            return []
        if receipt.outcome is Outcome.AWAY:
            return self._away(to, letter, receipt, now) if bringer == peer else []
        to.retry_s = RETRY_MIN_S
        is_taken = receipt.outcome is Outcome.TAKEN
        outputs = self._finish(letter)
        if is_taken:
            others = [self._to[other].find(letter.id) for other in self._copies.pop(letter.id, {})]
            for other in others:
                if other is not None:
                    outputs += self._finish(other)
        else:
            outputs += self._free(letter, now)
        outputs.append(Emit(Ended(letter.id, peer, is_taken, "" if is_taken else "it came too late")))
        return [*outputs, *self._pump(peer, now)]

    def _away(self, to: _Addressee, letter: Outgoing, receipt: Receipt, now: float) -> Outputs:
        """The app does not run there: pause, and let others have what is for the first, after an only attempt."""
        flight = to.flying.get(letter.id)
        if flight is None or flight.attempt != receipt.attempt:
            return []
        peer = letter.addressee
        to.paused_until = now + AWAY_S
        outputs: Outputs = [SetTimer(("retry", peer), to.paused_until)]
        if not letter.is_for_first or flight.attempts > 1:
            return outputs
        del to.flying[letter.id]
        free = msgspec.structs.replace(letter, is_bound=False)
        to.waiting = {letter.id: free, **to.waiting}
        self._note(free)
        return [*outputs, Bind(free), *self._free(letter, now)]

    def _free(self, letter: Outgoing, now: float) -> Outputs:
        """The copies that stood aside wait again, each under a new number: later ones may have gone before."""
        outputs: Outputs = []
        for other in self._copies.get(letter.id, {}):
            theirs = self._to[other]
            copy = theirs.elsewhere.pop(letter.id, None)
            if copy is None:
                continue
            count = self._count(copy.key)
            copy = msgspec.structs.replace(copy, number=count.last, epoch=count.epoch)
            self._queue(copy)
            outputs += [Bind(copy), *self._pump(other, now)]
        return outputs

    def _bind(self, letter: Outgoing) -> Outgoing:
        """From now on a letter is this addressee's only; the copies of others stand aside, without a number."""
        bound = msgspec.structs.replace(letter, is_bound=True)
        self._note(bound)
        to = self._to[letter.addressee]
        if letter.id in to.waiting:
            to.waiting[letter.id] = bound
        for other in self._copies.get(letter.id, {}):
            theirs = self._to[other]
            copy = theirs.waiting.get(letter.id) or theirs.behind.get(letter.id)
            if other != letter.addressee and copy is not None:
                theirs.waiting.pop(letter.id, None)
                theirs.behind.pop(letter.id, None)
                theirs.elsewhere[letter.id] = copy
                self._leave(copy)
        return bound

    def expire(self, now: float) -> Outputs:
        """Give up what is over."""
        outputs: Outputs = []
        while self._ends and self._ends[0][0] <= now:
            _, id_, peer = heappop(self._ends)
            if letter := self._to[peer].find(id_):
                outputs += self._finish(letter)
                outputs.append(Emit(Ended(id_, peer, False, "it expired; nobody knows that it arrived")))
                outputs += self._pump(peer, now)
        return [*outputs, *self._watch_ends()]

    def _finish(self, letter: Outgoing) -> Outputs:
        to = self._to[letter.addressee]
        for where in (to.waiting, to.flying, to.elsewhere, to.behind):
            where.pop(letter.id, None)
        to.size -= letter.size
        self.letters -= 1
        self.size -= letter.size
        self._leave(letter)
        if copies := self._copies.get(letter.id):
            copies.pop(letter.addressee, None)
            if not copies:
                del self._copies[letter.id]
        return [Forget(letter.id, letter.addressee)]

    def _watch_ends(self) -> Outputs:
        while self._ends and self._to[self._ends[0][2]].find(self._ends[0][1]) is None:
            heappop(self._ends)
        return [SetTimer(("end",), float(self._ends[0][0]))] if self._ends else []
