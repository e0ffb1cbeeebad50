"""The core of `circles`: spreads the logs of our circles among their members, and says nothing to anybody else.

    on meeting a member, after each change, now and then    Have: our heads
    a Have with heads that are not here                     Want: them, with a sample of what is here
    a Want of a member                                      Ops: what is wanted and not known, piece by piece
    Ops that are new and permitted                          kept, then passed on: Ops to some, Have to the others

To who was removed, the log of a node ends with the operation that did it: who learns of a removal sends it, with some
before it, to the removed one if that is here, or when they meet, and a removed one that says Have or Want gets what it
lacks up to there. A computer that was taken off its person's list is told nothing: a thief may have it.

A member that stays silent may not know yet that we are one (it was away when we were added): after PROOF_AFTER_S it
gets the operations that made us a member, and asks by itself if they convince it. Operations are taken from anybody,
for they are signed; answers go to members, and a last word to those who were.

What counts in a long log is worked out in slices: meanwhile what else comes for that circle is put off.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, NamedTuple

from coterie.access.circle import Circle
from coterie.access.circle_log import MissingParents, Unsettled
from coterie.access.circle_ops import OpId, OpRefused, Role, SignedOp, id_of_raw, read_op
from coterie.access.circle_vouched import is_own_log, is_own_op, is_witnessed, own_computers
from coterie.access.circle_weighing import SLICE_STEPS
from coterie.apps.circles.messages import (
    HEADS_MAX,
    KNOWN_MAX,
    OPS_PER_MESSAGE_MAX,
    Have,
    Ops,
    Want,
)
from coterie.errors import CoterieError, LimitExceeded, StorageError
from coterie.identity import PeerId
from coterie.machine import Emit, PeerDown, PeerUp, Received, Send, SetTimer, TimerFired
from coterie.rate import Rate, RateTable

CIRCLES_MAX = 256  # of one node; guess
WITNESSED_MAX = 1_024  # persons whose own log is kept here; guess: far more than anybody meets
WITNESSED_OPS_MAX = 1_024  # of each such log: 300 kB; guess: years of computers and revocations
EAGER_MAX = (
    6  # members that get a new operation at once, the others learn of it; guess: 6 reach 50 in two steps
)
PROOF_AFTER_S = 2.0  # guess: a slow round trip, and time to look up who we are
PROOF_WHOLE_MAX = 512  # operations; of a longer log only what made us a member
PROOF_MAX = 4_096  # operations, the latest: who is a member has the earlier ones; guess
PROOF_EVERY_S = 3600.0  # the same one for one member: a removed one that does not know it would go on
TELL_EVERY_S = 60.0  # one member at random gets our heads: heals what a lost message left; guess
TAKEN_BURST = (
    2_000  # operations of one person who is no owner, before TAKEN_PER_S holds; guess: years of an honest one
)
TAKEN_PER_S = 5.0  # 6 hours to fill a log, in which an owner removes the flooder; guess
TAKEN_REMOVED_BURST = 64  # of a removed one, beside what its remover had seen; guess
TAKEN_REMOVED_PER_S = 1 / 60
STRANGE_BURST = 512  # operations from peers that are no members, all together; guess: a proof of membership
STRANGE_PER_S = 50.0  # 0.5 % of a core
STARTS_PER_S = 1.0  # logs asked for from their start, of one peer that lets us in; guess
STARTS_BURST = CIRCLES_MAX
WORDS_BURST = (
    3  # Haves of a removed one that are answered, then WORDS_PER_S: it says one on meeting and each minute
)
WORDS_PER_S = 1 / 20
LAST_BURST = (
    64  # messages of operations to a removed one, then LAST_PER_S: 16,000, of a long log the rest follows
)
LAST_PER_S = 1 / 10
LAST_AGAIN_S = (
    86_400.0  # one that never says anything, because we are removed for it too, is told on meeting; guess
)
RATES_MAX = 4096
PUT_OFF_MAX = 16  # messages kept while what counts is worked out, 600 kB each; guess
RETRY_S = 10.0  # after a flood, ask again for the rest


@dataclass(frozen=True, slots=True)
class Wrote:
    """Command: this node made these operations, which its copy of the circle has taken and its disk keeps."""

    circle: OpId
    ops: tuple[SignedOp, ...]


@dataclass(frozen=True, slots=True)
class Expect:
    """Command: `peer` lets us into the circle of this id: take its log from there although nothing of it is here."""

    circle: OpId
    peer: PeerId


@dataclass(frozen=True, slots=True)
class Trust:
    """Command: `peer` has proven itself for `circle` in another way; it is answered until it disconnects."""

    circle: OpId
    peer: PeerId


@dataclass(frozen=True, slots=True)
class Keep:
    """Output: keep these operations on disk, now. `is_new`: the circle was not here before."""

    circle: Circle
    ops: tuple[SignedOp, ...]
    is_new: bool = False


@dataclass(frozen=True, slots=True)
class Changed:
    """Emitted: a circle has new operations, from others."""

    circle: OpId
    ops: tuple[SignedOp, ...]


class _Admitted(NamedTuple):
    """What was taken, what is missing before the rest, whether somebody floods, and what is put off."""

    new: list[SignedOp]
    missing: dict[bytes, None]
    is_flood: bool = False
    rest: Sequence[bytes] = ()


class SyncCore:
    """See the module's text. `circles` is shared with the shell; this core adds those that it joins.

    `is_kin(peer)`: whether `peer` is another computer of our own person, from which any circle is welcome.
    `may_hear(circle, peer)`: whether `peer` hears of `circle` without being in it: our own log, for those we know.
    `is_known(peer)`: whether `peer` is a contact or in a circle with us: its person's own log is kept.
    """

    def __init__(
        self,
        own: PeerId,
        circles: dict[OpId, Circle],
        random: Random,
        is_kin: Callable[[PeerId], bool] = lambda peer: False,
        may_hear: Callable[[OpId, PeerId], bool] = lambda circle, peer: False,
        is_known: Callable[[PeerId], bool] = lambda peer: False,
    ) -> None:
        self._is_kin = is_kin
        self._may_hear = may_hear
        self._is_known = is_known
        self._own = own
        self._circles = circles
        self._random = random
        self._up: dict[PeerId, None] = {}
        self._told: dict[tuple[OpId, PeerId], None] = {}  # got our Have on this connection
        self._heard: dict[tuple[OpId, PeerId], None] = {}  # said something of it on this connection
        self._trusted: dict[tuple[OpId, PeerId], None] = {}
        self._expected: dict[OpId, PeerId] = {}
        self._proven: OrderedDict[tuple[OpId, PeerId], tuple[float, tuple[OpId, ...]]] = OrderedDict()
        self._parted: OrderedDict[tuple[OpId, PeerId], tuple[float, list[OpId]]] = OrderedDict()
        self._rates: RateTable[tuple[Hashable, ...], Rate] = RateTable(RATES_MAX, _rate)
        self._put_off: dict[tuple[OpId, PeerId], tuple[Sequence[bytes], bool]] = {}
        self._is_ticking = False

    def handle(self, event: Any, now: float) -> list[Any]:
        """See `coterie.machine`."""
        outputs: list[Any] = []
        if not self._is_ticking:
            self._is_ticking = True
            outputs.append(SetTimer("tell", now + TELL_EVERY_S))
        match event:
            case PeerUp(PeerId() as peer):
                outputs += self._meet(peer, now)
            case PeerDown(PeerId() as peer):
                self._forget(peer)
            case Received(PeerId() as peer, message):
                outputs += self._take(peer, message, now)
            case Wrote(circle, ops):
                outputs += self._spread(circle, ops, None) + self._greet(circle, now)
            case Expect(circle, peer):
                self._expected[circle] = peer
                outputs += [Send(peer, Want(circle, [], []))] if circle not in self._circles else []
            case Trust(circle, peer):
                self._trusted[circle, peer] = None
                outputs += self._tell(circle, peer, now)
            case TimerFired("tell"):
                outputs += [*self._remind(), SetTimer("tell", now + TELL_EVERY_S)]
            case TimerFired(("settle", bytes() as circle)):
                outputs += self._settle(circle, now)
            case TimerFired(("proof", bytes() as circle, PeerId() as peer)):
                outputs += self._prove(circle, peer, now)
            case TimerFired(("again", bytes() as circle, PeerId() as peer)) if peer in self._up:
                outputs += self._tell(circle, peer, now, again=True)
        return outputs

    # ---- meeting

    def _meet(self, peer: PeerId, now: float) -> list[Any]:
        self._up[peer] = None
        outputs: list[Any] = []
        for circle in list(self._circles):
            outputs += self._tell(circle, peer, now) + self._part(circle, peer, now)
        return outputs

    def _forget(self, peer: PeerId) -> None:
        self._up.pop(peer, None)
        for table in (self._told, self._heard, self._trusted):
            for key in [key for key in table if key[1] == peer]:
                del table[key]

    def _greet(self, circle: OpId, now: float) -> list[Any]:
        """Tell everybody here who has become a member."""
        return [output for peer in list(self._up) for output in self._tell(circle, peer, now)]

    def _tell(self, circle: OpId, peer: PeerId, now: float, *, again: bool = False) -> list[Any]:
        if not self._answers(circle, peer) or ((circle, peer) in self._told and not again):
            return []
        self._told[circle, peer] = None
        outputs: list[Any] = [Send(peer, self._have(circle))]
        if (circle, peer) not in self._heard:
            outputs.append(SetTimer(("proof", circle, peer), now + PROOF_AFTER_S))
        return outputs

    def _have(self, circle: OpId) -> Have:
        return Have(circle, list(self._circles[circle].log.heads()[:HEADS_MAX]))

    def _remind(self) -> list[Any]:
        outputs: list[Any] = []
        for circle in self._circles:
            here = [peer for peer in self._up if self._answers(circle, peer)]
            if here:
                outputs.append(Send(self._random.choice(here), self._have(circle)))
        return outputs

    def _answers(self, circle: OpId, peer: PeerId) -> bool:
        """Whether `peer` may hear of `circle`."""
        known = self._circles.get(circle)
        if known is None:
            return False
        is_in = known.state.role(peer) is not None or (circle, peer) in self._trusted
        return is_in or self._may_hear(circle, peer)

    def _prove(self, circle: OpId, peer: PeerId, now: float) -> list[Any]:
        """The operations that made us a member, for one that has not said a word."""
        known = self._circles.get(circle)
        if known is None or peer not in self._up or (circle, peer) in self._heard:
            return []
        heads = tuple(known.log.heads())
        at, said = self._proven.get((circle, peer), (0.0, ()))
        if not self._answers(circle, peer) or (said == heads and now - at < PROOF_EVERY_S):
            return []
        self._proven[circle, peer] = now, heads
        self._proven.move_to_end((circle, peer))
        while len(self._proven) > RATES_MAX:
            self._proven.popitem(last=False)
        own = known.state.member_of(self._own)
        about = known.log.about(own.person, self._own) if own is not None else []
        whole = len(known.log) <= PROOF_WHOLE_MAX  # where removals were removed, more than our own part tells
        ops = _read(known, [], list(heads) if whole else about, PROOF_MAX, latest=True)
        return [Send(peer, Ops(circle, [one.raw for one in part])) for part in _parts(ops)]

    # ---- messages

    def _take(self, peer: PeerId, message: Any, now: float) -> list[Any]:
        if peer not in self._up:
            self._up[peer] = None  # a stream may be faster than the news of its connection
        match message:
            case Ops(circle, ops, more):
                return self._take_ops(circle, peer, ops, more, now)
            case Have(circle, heads):
                if self._answers(circle, peer):
                    return self._compare(circle, peer, heads, now)
                if circle not in self._circles and self._is_expected(circle, peer):
                    return [Send(peer, Want(circle, heads, []))]
                return self._end(circle, peer, heads, now)
            case Want(circle, wanted, known):
                if self._answers(circle, peer):
                    self._heard[circle, peer] = None
                    return self._give(circle, peer, wanted, known)
                return self._give_last(circle, peer, known, now)
        return []

    def _compare(self, circle: OpId, peer: PeerId, heads: list[bytes], now: float) -> list[Any]:
        log = self._circles[circle].log
        missing = [head for head in heads if head not in log]
        if (
            missing or heads == self._have(circle).heads
        ):  # else it may mean that we are out, and know no better
            self._heard[circle, peer] = None
        outputs: list[Any] = []
        if missing:
            outputs.append(Send(peer, Want(circle, missing, log.sample(KNOWN_MAX))))
        if not set(log.heads()) <= set(heads):
            outputs += self._tell(circle, peer, now, again=(not missing))
        return outputs + self._tell(circle, peer, now)

    def _give(self, circle: OpId, peer: PeerId, wanted: list[bytes], known: list[bytes]) -> list[Any]:
        here = self._circles[circle]
        ops = _read(here, known, wanted or list(here.log.heads()), OPS_PER_MESSAGE_MAX + 1)
        if not ops:
            return []
        part = ops[:OPS_PER_MESSAGE_MAX]
        return [Send(peer, Ops(circle, [one.raw for one in part], len(part) < len(ops)))]

    # ---- those who were members

    def _last_words(self, circle: OpId, peer: PeerId) -> list[OpId]:
        """Where the log ends for `peer`, if it was in the circle; empty for everybody else."""
        known = self._circles.get(circle)
        if known is None or not known.state.is_removed(peer):
            return []
        return list(known.log.ended_by(peer)[:HEADS_MAX])

    def _end(self, circle: OpId, peer: PeerId, heads: list[bytes], now: float) -> list[Any]:
        """`peer`, which was removed, says what it has: what we have for it, unless it has that."""
        words = self._last_words(circle, peer)
        if not words or not self._rates.of(("words", circle, peer)).take(now):
            return []
        log = self._circles[circle].log
        if not all(log.is_before(word, heads) for word in words):
            return [Send(peer, Have(circle, words))]
        self._note_parted(circle, peer, words, now)
        return []

    def _part(self, circle: OpId, peer: PeerId, now: float) -> list[Any]:
        """The last word on meeting: who never asks may hold us for removed, or have missed the first."""
        words = self._last_words(circle, peer)
        at, said = self._parted.get((circle, peer), (0.0, []))
        if not words or (said == words and now - at < LAST_AGAIN_S):
            return []
        self._note_parted(circle, peer, words, now)
        return [self._last(circle, peer, words)]

    def _note_parted(self, circle: OpId, peer: PeerId, words: list[OpId], now: float) -> None:
        self._parted[circle, peer] = now, words
        self._parted.move_to_end((circle, peer))
        while len(self._parted) > RATES_MAX:
            self._parted.popitem(last=False)

    def _last(self, circle: OpId, peer: PeerId, words: list[OpId]) -> Send:
        """The last word, with some of what is before it: mostly that is all that the other may have missed."""
        ops = _read(self._circles[circle], [], words, OPS_PER_MESSAGE_MAX, latest=True)
        return Send(peer, Ops(circle, [one.raw for one in ops]))

    def _give_last(self, circle: OpId, peer: PeerId, known: list[bytes], now: float) -> list[Any]:
        """Whatever a removed one wants, it gets nothing that is later than its removal, or beside it."""
        words = self._last_words(circle, peer)
        if not words or not self._rates.of(("last", circle, peer)).take(now):
            return []
        return self._give(circle, peer, words, known)

    def _take_ops(
        self, circle: OpId, peer: PeerId, raws: Sequence[bytes], more: bool, now: float
    ) -> list[Any]:
        known = self._circles.get(circle)
        is_new = known is None
        if known is None:
            known = self._begin(circle, peer, raws) or self._witness(circle, peer, raws, now)
            if known is None:
                return self._from_the_start(circle, peer, now)
        new, missing, is_flood, rest = self._admit(known, peer, raws, now)
        if (
            new or missing
        ):  # else it may be a last word that we know, of one that does not know what came after
            self._heard[circle, peer] = None
        if is_new:
            new.insert(0, known.log.first)
        outputs: list[Any] = []
        if new:
            outputs += [Keep(known, tuple(new), is_new), Emit(Changed(circle, tuple(new)))]
            outputs += self._spread(circle, tuple(new), peer)
        answers = self._answers(circle, peer)
        if is_flood:
            outputs.append(SetTimer(("again", circle, peer), now + RETRY_S))
        elif answers and (missing or (more and new and not rest)):
            wanted = list(missing)[:HEADS_MAX] if missing else []
            outputs.append(Send(peer, Want(circle, wanted, known.log.sample(KNOWN_MAX))))
        if rest:
            outputs += self._keep_for_later(circle, peer, rest, more, now)
        if not known.log.is_settled:
            outputs.append(SetTimer(("settle", circle), now))
        return outputs + (self._greet(circle, now) if new else [])

    def _keep_for_later(
        self, circle: OpId, peer: PeerId, raws: Sequence[bytes], more: bool, now: float
    ) -> list[Any]:
        if (circle, peer) in self._put_off or len(self._put_off) >= PUT_OFF_MAX:
            return [SetTimer(("again", circle, peer), now + RETRY_S)]
        self._put_off[circle, peer] = raws, more
        return []

    def _settle(self, circle: OpId, now: float) -> list[Any]:
        """One slice more of working out what counts; after the last one, what was put off."""
        known = self._circles.get(circle)
        if known is not None and not known.settle(SLICE_STEPS):
            return [SetTimer(("settle", circle), now)]
        outputs: list[Any] = [Emit(Changed(circle, ()))] if known is not None else []
        for key in [key for key in self._put_off if key[0] == circle]:
            outputs += self._take_ops(*key, *self._put_off.pop(key), now)
        return outputs

    def _is_expected(self, circle: OpId, peer: PeerId) -> bool:
        return self._expected.get(circle) == peer or self._is_kin(peer)

    def _begin(self, circle: OpId, peer: PeerId, raws: Sequence[bytes]) -> Circle | None:
        """A circle that we were let into, from its first operation."""
        if not self._is_expected(circle, peer) or not raws:
            return None
        if (
            sum(1 for known in self._circles.values() if not is_witnessed(known.log, self._own))
            >= CIRCLES_MAX
        ):
            return None
        try:
            begun = Circle(read_op(raws[0]))
        except OpRefused:
            return None
        if begun.id != circle:
            return None
        self._expected.pop(circle, None)
        self._circles[circle] = begun
        self._trusted[circle, peer] = None  # until its log says that it is a member
        return begun

    def _witness(self, circle: OpId, peer: PeerId, raws: Sequence[bytes], now: float) -> Circle | None:
        """The log of the own computers of somebody of whom one is known here, from its first operation.

        From whomever it comes: it is signed by the person. The first log of a person is kept, no second one beside it:
        a thief of the person's key makes no other.
        """
        if not self._strange(peer).take(now, len(raws)):
            return None
        try:
            begun, *others = (read_op(raw) for raw in raws)
            if begun.id != circle or not is_own_log(begun.op):
                return None
            whole = Circle(begun)
            for signed in others:
                if not is_own_op(signed.op, begun.op.person):
                    return None
                whole.add(signed)
        except (CoterieError, ValueError):
            return None
        witnessed = [known for known in self._circles.values() if is_witnessed(known.log, self._own)]
        is_second = any(known.log.first.op.person == begun.op.person for known in witnessed)
        _, computers = own_computers(whole.log)
        if is_second or len(witnessed) >= WITNESSED_MAX or self._own in computers:
            return None
        if not any(self._is_known(PeerId(key)) for key in computers):
            return None
        self._circles[circle] = Circle(begun)
        return self._circles[circle]

    def _from_the_start(self, circle: OpId, peer: PeerId, now: float) -> list[Any]:
        """News of a circle that we are let into, or of one that may be somebody's own log: ask for all."""
        is_welcome = self._is_expected(circle, peer) or self._is_known(peer)
        if not is_welcome or not self._rates.of(("start", peer)).take(now):
            return []
        return [Send(peer, Want(circle, [], []))]

    def _admit(self, known: Circle, peer: PeerId, raws: Sequence[bytes], now: float) -> _Admitted:
        """Take what is new."""
        answers = self._answers(known.id, peer)
        witnessed = known.log.first.op.person if is_witnessed(known.log, self._own) else None
        new: list[SignedOp] = []
        missing: dict[bytes, None] = {}
        rest: Sequence[bytes] = ()
        for at, raw in enumerate(raws):
            if id_of_raw(raw) in known.log:
                continue
            if not known.log.is_settled:
                rest = raws[at:]
                break
            if not answers and not self._strange(peer).take(now):
                return _Admitted(new, {}, True)
            try:
                signed = read_op(raw)
                if witnessed is not None and not self._fits(known, signed, witnessed):
                    break
                if signed.id not in missing and self._excess(known, signed, now):
                    return _Admitted(new, {}, True)
                if known.add(signed, SLICE_STEPS):
                    new.append(signed)
            except MissingParents as error:
                missing.update(dict.fromkeys(error.parents))
            except Unsettled:
                rest = raws[at:]
                break
            except (OpRefused, LimitExceeded):
                break  # what follows may build on it
        return _Admitted(new, {one: None for one in missing if one not in known.log}, rest=rest)

    def _strange(self, peer: PeerId) -> Rate:
        """For operations of logs that `peer` is not in: strangers share one, those whom we know have one each."""
        return self._rates.of(("strangers", peer) if self._is_known(peer) else ("strangers",))

    def _fits(self, known: Circle, signed: SignedOp, person: bytes) -> bool:
        return len(known.log) < WITNESSED_OPS_MAX and is_own_op(signed.op, person)

    def _excess(self, known: Circle, signed: SignedOp, now: float) -> bool:
        """Whether the author of an operation makes too many at once. Owners do not: they could do worse."""
        role = known.log.role(signed.op.person)
        if role == Role.OWNER:
            return False
        if role == 0 and signed.op.person in known.log.persons():
            return not self._rates.of(("taken of one removed", known.id, signed.op.person)).take(now)
        kind = "taken" if role else "taken of others"
        return not self._rates.of((kind, known.id, signed.op.person)).take(now)

    # ---- spreading

    def _spread(self, circle: OpId, ops: tuple[SignedOp, ...], source: PeerId | None) -> list[Any]:
        """Pass on what is new: at once to some members here, by name to the others."""
        here = [peer for peer in self._up if peer != source and self._answers(circle, peer)]
        self._random.shuffle(here)
        few = ops if len(ops) <= OPS_PER_MESSAGE_MAX else ()
        outputs: list[Any] = []
        for i, peer in enumerate(here):
            self._told[circle, peer] = None
            if few and i < EAGER_MAX:
                outputs.append(Send(peer, Ops(circle, [one.raw for one in few])))
            else:
                outputs.append(Send(peer, self._have(circle)))
        return outputs + self._tell_removed(circle, ops, source)

    def _tell_removed(self, circle: OpId, ops: tuple[SignedOp, ...], source: PeerId | None) -> list[Any]:
        """Those here whom one of `ops` removes learn that: our last word of the circle, unless they ask."""
        new = {signed.id for signed in ops}
        outputs: list[Any] = []
        for peer in self._up:
            words = self._last_words(circle, peer) if peer != source else []
            if new.intersection(words):
                outputs.append(self._last(circle, peer, words))
        return outputs


def _rate(key: tuple[Hashable, ...]) -> Rate:
    """What is asked or taken of one kind, by whom the rest of `key` says."""
    match key[0]:
        case "words":
            return Rate(WORDS_PER_S, WORDS_BURST)
        case "last":
            return Rate(LAST_PER_S, LAST_BURST)
        case "start":
            return Rate(STARTS_PER_S, STARTS_BURST)
        case "strangers":
            return Rate(STRANGE_PER_S, STRANGE_BURST)
        case "taken of one removed":
            return Rate(TAKEN_REMOVED_PER_S, TAKEN_REMOVED_BURST)
        case _:
            return Rate(TAKEN_PER_S, TAKEN_BURST)


def _read(
    circle: Circle, known: list[bytes], wanted: list[bytes], most: int, *, latest: bool = False
) -> list[SignedOp]:
    """See `CircleLog.missing_at`; nothing where the disk does not give them: others have them too."""
    try:
        return circle.log.missing_at(known, wanted, most, latest=latest)
    except StorageError:
        return []


def _parts(ops: list[SignedOp]) -> list[list[SignedOp]]:
    return [ops[i : i + OPS_PER_MESSAGE_MAX] for i in range(0, len(ops), OPS_PER_MESSAGE_MAX)]
