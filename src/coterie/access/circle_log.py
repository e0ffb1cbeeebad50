"""The log of a circle: which operations there are, and which of them count. Pure, and the same in any order of arrival.

Operations form a graph: each names its parents. A *view* is a set of operations that holds all ancestors of each of
them: all that a node knows, or the past of one operation. In a view:

- A *statement* says a value about a subject: a role about a person (0: nobody), 1 or 0 about a device.
- An operation is accepted once, for good, by its own past: there its author's device is one, and its person's role
  suffices. What is not accepted is not stored, and nothing that is stored builds on it.
- An accepted operation is *supported* in a view unless (a) the view holds a statement that takes from its author what
  it needed, and neither of the two has seen the other; or (b) what its author's right rested on is not supported.
- A supported statement replaces those in its past. What holds is the least value among those not replaced. A
  statement that is not supported replaces nothing and gives nothing, but still lowers: it is one of those whose
  least value counts. Without a supported one the value is 0.
- One exception keeps a removed owner from removing again, in retrospect, whom others add later: a statement is
  overridden by a supported addition of the same subject whose past holds a (supported) removal of the statement's
  author that it has not seen. A demotion is overridden by another's statement of a role in the same way.

So a larger view never gives anybody more, except by a supported statement that is new in it (docs/protocol/circle.md).
Sets of operations are integers, one bit for each in the order of arrival: an ancestor's bit is always lower. What the
rules read of an operation stays in memory (circle_facts.py); the operations themselves lie in `ops`, on disk mostly.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Protocol

import msgspec

from coterie.access.circle_facts import ENDS, NAMING, TITLING, Facts, Grounds, role_needed
from coterie.access.circle_ops import Kind, Op, OpId, OpRefused, Role, SignedOp, read_op
from coterie.access.circle_pasts import Pasts
from coterie.access.circle_sets import PlaceSets, highest, lowest, places_in
from coterie.access.circle_statements import Statements
from coterie.access.circle_weighing import Weighed, Weighing
from coterie.decoding import FAULTS, decoder, reason
from coterie.errors import LimitExceeded, NotFound, StorageError
from coterie.texts import tr

# Guess: 50 people, 5 changes a day, a year, and as much again. Measured: see docs/protocol/circle.md.
OPS_MAX = 100_000
OPS_FOR_OWNERS = 1_000  # the last of these: a full log can still lose a member who filled it
OPS_PER_PERSON_MAX = 20_000  # in one line of history; guess: two busy owners never reach it
DEVICES_MAX = 16  # of one person at once; guess
GENERATIONS_MAX = 64  # owner made by owner made by owner ..., device by device; bounds recursion

Right = tuple[int, int, tuple[int, ...], tuple[int, ...]]
Rank = tuple[int, OpId]
_OF_DEVICES = (Kind.ADD_DEVICE, Kind.REMOVE_DEVICE)


class MissingParents(NotFound):
    """The operation builds on others that are not here yet."""

    def __init__(self, parents: tuple[OpId, ...]) -> None:
        super().__init__(f"{len(parents)} operations before this one are missing")
        self.parents = parents


class Unsettled(LimitExceeded):
    """What counts is being worked out for longer than the asker has time: `settle`, then come again."""


class Ops(Protocol):
    """Where the operations themselves are: a list, or a file."""

    def append(self, signed: SignedOp, /) -> None: ...
    def __len__(self) -> int: ...
    def __getitem__(self, place: int, /) -> SignedOp: ...
    def __iter__(self) -> Iterator[SignedOp]: ...


class CircleLog:
    """All accepted operations of one circle. `first` is the one that creates it; its id is the circle's.

    `ops`: where the operations are to be put.
    """

    def __init__(self, first: SignedOp, ops: "Ops | None" = None) -> None:
        if first.op.kind != Kind.CREATE:
            raise OpRefused("a circle begins with its creation")
        self.ops: Ops = [] if ops is None else ops
        self._begin(first, Facts(), Pasts())
        self._append(first, 0, 0, ((), ()))

    def _begin(self, first: SignedOp, facts: Facts, pasts: Pasts) -> None:
        self.id: OpId = first.id
        self.first = first
        self.unsupported = 0  # in the view of all
        self.everything = (1 << len(facts)) - 1
        self._facts = facts
        self._past = pasts
        self._statements = Statements(facts, pasts)
        self._heads: dict[OpId, None] = {facts.id_at(place): None for place in pasts.childless()}
        self._rights: dict[tuple[int, int], Right] = {}  # of now
        self._by: PlaceSets[int] = PlaceSets()  # person: operations that it made
        for place, person in enumerate(facts.persons):
            self._by.add(person, place)
        self._weighed = Weighed(facts, pasts, self._statements)
        self._open: Weighing | None = None  # under way
        self._open_is_all = False  # and about the view of all
        self._names: dict[int, tuple[int, str]] = {}  # person: where it got its name, and that
        self._title: tuple[int, str] = (0, "")
        self._revoked: dict[int, tuple[bytes, ...]] = {}  # place: what is revoked there
        self._removed_at: dict[int, int] = {}  # place: when a device was removed there, unix ms

    def __contains__(self, op_id: object) -> bool:
        return isinstance(op_id, bytes) and self._facts.place(op_id) is not None

    def __len__(self) -> int:
        return len(self._facts)

    # ---- taking operations

    def add(self, signed: SignedOp, steps: int | None = None) -> bool:
        """Accept an operation whose signature was checked; False when it is here already.

        `steps`: how long this may take, see circle_weighing.py; None: as long as it takes.

        Raises:
            MissingParents: come again when they are here.
            OpRefused: it is never to be accepted.
            LimitExceeded: the log is full.
            Unsettled: `steps` do not suffice for what came before it.
        """
        if signed.id in self:
            return False
        past, unsupported, grounds = self.check(signed.op, steps)
        self._append(signed, past, unsupported, grounds)
        self.settle(steps)
        return True

    @property
    def is_settled(self) -> bool:
        """Whether it is worked out what counts; else too much does, for a moment."""
        return self._open is None

    def settle(self, steps: int | None = None) -> bool:
        """Go on working out what counts, for so many steps; whether that is done."""
        if self._open is None:
            return True
        weighing, before = self._open, self.unsupported
        is_done = weighing.go_on(steps)
        if self._open_is_all:
            self.unsupported = weighing.unsupported
            if self.unsupported != before:
                self._rights.clear()
                self._rename(self.unsupported & ~before)
        if is_done:
            self._open = None
        return is_done

    def check(self, op: Op, steps: int | None = None) -> tuple[int, int, Grounds]:
        """What `add` finds out before it changes anything: the past of `op`, what has no support there, and on what
        the right of its author rests. Errors as `add`."""
        if op.kind == Kind.CREATE or op.circle != self.id:
            raise OpRefused("an operation of another circle")
        missing = tuple(parent for parent in op.parents if parent not in self)
        if missing:
            raise MissingParents(missing)
        self._check_room(op)
        past = self._past_of(op)
        person = self._facts.key(op.person)
        is_busy = len(self._by.places(person)) >= OPS_PER_PERSON_MAX
        if is_busy and (past & self._by[person]).bit_count() >= OPS_PER_PERSON_MAX:
            raise OpRefused(f"more than {OPS_PER_PERSON_MAX} operations of one person")
        if not self.settle(steps):
            raise Unsettled(tr("the log of a circle is still being judged"))
        unsupported = self._unsupported_in(past, steps)
        return past, unsupported, self._check_right(op, past, unsupported)

    def _check_room(self, op: Op) -> None:
        room = OPS_MAX if role_needed(op) == Role.OWNER else OPS_MAX - OPS_FOR_OWNERS
        if len(self) >= room:
            raise LimitExceeded(tr("the circle's log is full: {room} operations (ops_max)", room=room))

    def _places(self, ids: Sequence[OpId]) -> list[int]:
        return [place for one in ids if (place := self._facts.place(one)) is not None]

    def _past_of(self, op: Op) -> int:
        at = self._places(op.parents)
        past = 0
        for i in at:
            past |= self._past[i]
        for i in at:
            if past >> i & 1:
                raise OpRefused("one of its parents is an ancestor of another")
        for i in at:
            past |= 1 << i
        return past

    def _check_right(self, op: Op, past: int, unsupported: int) -> Grounds:
        """What the author's right rests on in its own past. Raises `OpRefused` when it has none."""
        person, author = self._facts.key(op.person), self._facts.key(op.author)
        level, active, role_grounds, device_grounds = self._right(person, author, past, unsupported)
        if not active or not level:
            raise OpRefused("its author was no member when it was made")
        if level < role_needed(op):
            raise OpRefused("the role of who wants it does not suffice")
        is_paper = self._statements.is_paper(person, author, past)
        if is_paper and op.kind not in (Kind.ADD_DEVICE, Kind.REMOVE_DEVICE):
            raise OpRefused("a paper key only adds and removes devices of its person")
        names_itself = op.kind == Kind.RENAME and op.subject == op.person
        if not names_itself and (wrong := self._wrong_with_subject(op, past, unsupported, is_paper)):
            raise OpRefused(wrong)
        generation = 1 + max(self._facts.generations[i] for i in (*role_grounds, *device_grounds))
        if generation > GENERATIONS_MAX:
            raise OpRefused(f"a right handed on more than {GENERATIONS_MAX} times")
        return role_grounds, device_grounds

    def _right(self, person: int, author: int, past: int, unsupported: int) -> Right:
        """The role of `person` and whether `author` is its device, each with its grounds.

        Where no statement lies beside that past, it is the right of now: worked out once until the next statement.
        """
        is_now = unsupported == self.unsupported and not self._statements.all & ~past
        known = self._rights.get((person, author)) if is_now else None
        if known is None:
            level, role_grounds = self._statements.role(person, past, unsupported)
            active, device_grounds = self._statements.device(person, author, past, unsupported)
            known = level, active, role_grounds, device_grounds
            if is_now:
                self._rights[person, author] = known
        return known

    def _wrong_with_subject(self, op: Op, past: int, unsupported: int, is_paper: bool) -> str:
        """Why what `op` says cannot be said in its past; empty when it can."""
        subject, device = self._facts.key(op.subject), self._facts.key(op.device)
        held = self._statements.role(subject, past, unsupported)[0]
        match op.kind:
            case Kind.ADD if held:
                return "it adds a member"
            case Kind.ROLE | Kind.RENAME if not held:
                return "it is about somebody who is no member"
            case Kind.REMOVE if not self._statements.about[subject] & past:
                return "it is about somebody who never was a member"
            case Kind.ROLE if held == op.role:
                return "it changes nothing"
            case Kind.ADD_DEVICE:
                return self._wrong_with_new_device(op, past, unsupported, is_paper)
            case Kind.REMOVE_DEVICE:
                if not self._statements.device(subject, device, past, unsupported)[0]:
                    return "it removes what is no device"
                if self._statements.is_paper(subject, device, past) and not is_paper:
                    return "only a paper key replaces a paper key"
        return ""

    def _wrong_with_new_device(self, op: Op, past: int, unsupported: int, is_paper: bool) -> str:
        person, said = self._facts.key(op.person), self._statements
        active = [
            device for device in said.devices[person] if said.device(person, device, past, unsupported)[0]
        ]
        if self._facts.key(op.device) in active:
            return "it adds what is a device already"
        if len(active) >= DEVICES_MAX:
            return f"more than {DEVICES_MAX} devices of one person"
        if op.is_paper and not is_paper and any(said.is_paper(person, one, past) for one in active):
            return "only a paper key replaces a paper key"
        return ""

    def _append(self, signed: SignedOp, past: int, unsupported: int, grounds: Grounds) -> None:
        op, i = signed.op, len(self)
        concurrent = 0 if past == self.everything else self.everything & ~past
        parents = self._places(op.parents)
        self.ops.append(signed)
        self._facts.append(signed.id, op, parents, grounds)
        self._past.append(parents, past, concurrent)
        for parent in op.parents:
            self._heads.pop(parent, None)
        self._heads[signed.id] = None
        self.everything |= 1 << i
        self._by.add(self._facts.persons[i], i)
        if self._statements.note(i):
            self._rights.clear()
        if op.kind == Kind.REVOKE:
            self._revoked[i] = op.revoked
        elif op.kind == Kind.REMOVE_DEVICE:
            self._removed_at[i] = op.at
        self._note_name(i, op)
        if concurrent:
            self._reconsider(i, concurrent)

    # ---- what counts

    def _reconsider(self, new: int, concurrent: int) -> None:
        """`new` arrived beside `concurrent`: find what it takes support from, and whether it has any itself."""
        person = self._statements.may_take(new)
        takes = bool(person and self._by[person] & concurrent)
        suspects = self.everything & ~self._past[new] if takes else 1 << new
        weighing = Weighing(self._facts, self._past, self._statements, self.everything)
        weighing.unsupported = self.unsupported
        weighing.begin(suspects & ~self.unsupported)
        self._open, self._open_is_all = weighing, True

    def _unsupported_in(self, view: int, steps: int | None) -> int:
        """Those without support in `view`. A larger view never has fewer: only those of all are looked at."""
        suspects = self.unsupported & view
        if not suspects or not self._statements.all & ~view:  # statements alone take support
            return suspects
        weighing = self._weighed.begin(view, suspects)
        if not weighing.go_on(steps):
            self._open, self._open_is_all = weighing, False
            raise Unsettled(tr("an operation beside many others is still being judged"))
        return weighing.unsupported & view

    # ---- names

    def _note_name(self, place: int, op: Op) -> None:
        rank = self._rank(place)
        if op.kind in NAMING and op.name:
            person = self._facts.subjects[place]
            if person not in self._names or self._rank(self._names[person][0]) < rank:
                self._names[person] = place, op.name
        if op.kind in TITLING and op.title and (not self._title[1] or self._rank(self._title[0]) < rank):
            self._title = place, op.title

    def _rank(self, place: int) -> Rank:
        """Of concurrent names the deeper wins, then the greater id."""
        return self._facts.depths[place], self._facts.id_at(place)

    def _rename(self, lost: int) -> None:
        """Names whose operations have lost support give way to those before them."""
        people = {person for person, (place, _) in self._names.items() if lost >> place & 1}
        for person in people:
            del self._names[person]
        is_title = bool(lost >> self._title[0] & 1)
        if is_title:
            self._title = 0, ""
        best: dict[int, int] = {}  # 0: the title, for no person has that number
        kinds, subjects = self._facts.kinds, self._facts.subjects
        for place, kind in enumerate(kinds) if people or is_title else ():
            of = [subjects[place]] if kind in NAMING and subjects[place] in people else []
            of += [0] if kind in TITLING and is_title else []
            for one in of if not self.unsupported >> place & 1 else ():
                if one not in best or self._rank(best[one]) < self._rank(place):
                    best[one] = place
        for place in best.values():
            with suppress(StorageError):  # without it the person has no name here
                self._note_name(place, self.ops[place].op)

    # ---- asking

    def role(self, person: bytes) -> int:
        """The role of `person` now; 0 when it is no member."""
        return self._role(self._facts.key(person))

    def _role(self, person: int) -> int:
        return self._statements.role(person, self.everything, self.unsupported)[0]

    def persons(self) -> tuple[bytes, ...]:
        """Everybody who ever was named as a member, removed ones too."""
        return tuple(self._facts.keys[person] for person in self._statements.about)

    def devices(self, person: bytes) -> tuple[bytes, ...]:
        """The devices of `person` now, whatever its role: paper keys too."""
        number = self._facts.key(person)
        ever = self._statements.devices.get(number, {})
        active = (d for d in ever if self._statements.device(number, d, self.everything, self.unsupported)[0])
        return tuple(self._facts.keys[device] for device in active)

    def devices_ever(self, person: bytes) -> tuple[bytes, ...]:
        """Every device ever named as one of `person`."""
        ever = self._statements.devices.get(self._facts.key(person), {})
        return tuple(self._facts.keys[device] for device in ever)

    def is_paper(self, person: bytes, device: bytes) -> bool:
        """Whether this key of `person` is a paper one: for recovery, never a computer."""
        return self._statements.is_paper(self._facts.key(person), self._facts.key(device), self.everything)

    def names(self) -> dict[bytes, str]:
        """What each person is called, by the last supported operation that says it."""
        return {self._facts.keys[person]: name for person, (_, name) in self._names.items()}

    def title(self) -> str:
        """The circle's name, by the last supported operation that says it."""
        return self._title[1]

    def revocations(self) -> Iterator[tuple[bytes, bytes, tuple[bytes, ...]]]:
        """Who revoked what: author, person, opaque ids. It takes: it counts with or without support."""
        for place, revoked in self._revoked.items():
            yield *self._by_whom(place), revoked

    def added_devices(self) -> Iterator[tuple[bytes, bytes, bytes]]:
        """Which devices people added of their own: author, person, device."""
        for place in places_in(self._statements.all):
            if self._facts.kinds[place] == Kind.ADD_DEVICE:
                yield *self._by_whom(place), self._facts.keys[self._facts.devices[place]]

    def removed_devices(self) -> Iterator[tuple[OpId, bytes, bytes, bytes, int]]:
        """Which devices people took off their own list: operation, author, person, device, unix ms."""
        facts = self._facts
        for place, at in self._removed_at.items():
            if facts.subjects[place] == facts.persons[place]:
                device = facts.keys[facts.devices[place]]
                yield facts.id_at(place), *self._by_whom(place), device, at

    def _by_whom(self, place: int) -> tuple[bytes, bytes]:
        facts = self._facts
        return facts.keys[facts.authors[place]], facts.keys[facts.persons[place]]

    def unconfirmed(self) -> tuple[bytes, ...]:
        """Who was removed only by those who were removed meanwhile: until an owner removes them again, what they
        write in retrospect can still lower others."""
        self.settle()
        found = []
        for person in self._statements.about:
            by_others = (
                i for i in self._statements.about.places(person) if self._facts.kinds[i] == Kind.REMOVE
            )
            ends = list(by_others) if not self._role(person) else []
            if ends and all(self.unsupported >> i & 1 for i in ends):
                found.append(self._facts.keys[person])
        return tuple(found)

    def about(self, person: bytes, device: bytes) -> list[OpId]:
        """The statements about the role of `person`, and those that name `device`."""
        own, key = self._facts.key(person), self._facts.key(device)
        return [
            self._facts.id_at(i)
            for i in places_in(self._statements.all)
            if self._facts.devices[i] == key
            or (self._facts.subjects[i] == own and self._facts.kinds[i] not in _OF_DEVICES)
        ]

    def ended_by(self, device: bytes) -> tuple[OpId, ...]:
        """The operations by which the person of this computer is a member no more: mostly one, its removal.

        Where it was no statement about the person itself that ended its part, but one that took the right to add it
        from who did, then that one. Empty for who was never in or is in, and for a computer that was taken off
        its person's list: whoever has it is nobody's business.
        """
        found: dict[int, None] = {}
        key = self._facts.key(device)
        for person, devices in self._statements.devices.items():
            if key in devices and not self._role(person) and not self._is_taken_off(person, key):
                found.update(dict.fromkeys(self._ended(person)))
        return tuple(self._facts.id_at(i) for i in found)

    def _is_taken_off(self, person: int, device: int) -> bool:
        standing = self._statements.standing(self._statements.about_device[person, device])
        return any(self._facts.kinds[i] == Kind.REMOVE_DEVICE for i in standing)

    def _ended(self, person: int) -> Iterator[int]:
        facts, about = self._facts, self._statements.about[person]
        supporting = self._statements.standing(about & ~self.unsupported)
        replaced = 0
        for i in supporting:
            replaced |= self._past[i]
        without = list(places_in(about & self.unsupported & ~replaced))
        ends = [i for i in (*supporting, *without) if facts.kinds[i] in ENDS]
        if ends:  # any will do: the least that tells it
            yield min(ends, key=lambda i: (self.unsupported >> i & 1, *self._rank(i)))
        for i in without:
            cause = self._lost_by(i) if facts.kinds[i] not in ENDS else None
            if cause is not None:
                yield cause

    def _lost_by(self, i: int) -> int | None:
        """What took its support from `i`, or from what the right to `i` rested on."""
        waiting, seen = [i], {i: None}
        while waiting:
            at = waiting.pop()
            beside = self._statements.all & ~self._past[at] & ~(1 << at)
            takers = self._statements.unanswered(at, beside, self.unsupported)
            cause = next((t for t in takers if not self._past[t] >> at & 1), None)
            if cause is not None:
                return cause
            grounds = [g for part in self._facts.grounds_at(at) for g in part if self.unsupported >> g & 1]
            waiting += [g for g in grounds if g not in seen]
            seen.update(dict.fromkeys(grounds))
        return None

    def heads(self) -> tuple[OpId, ...]:
        """The operations that no other builds on, in the order of their ids."""
        return tuple(sorted(self._heads))

    def missing_at(
        self, known: list[OpId], wanted: list[OpId], most: int = OPS_MAX, *, latest: bool = False
    ) -> list[SignedOp]:
        """`wanted` and their pasts, less `known` and theirs, parents first. Ids that are not here are passed over.

        Of more than `most` the first ones, or the `latest`.
        """
        view = self._pasts_of(wanted) & ~self._pasts_of(known)
        chosen = highest(view, most) if latest else lowest(view, most)
        return [self.ops[i] for i in places_in(chosen)]

    def is_before(self, op_id: OpId, known: list[OpId]) -> bool:
        """Whether the operation of this id is one of `known` or in a past of theirs."""
        place = self._facts.place(op_id)
        return place is not None and bool(self._pasts_of(known) >> place & 1)

    def _pasts_of(self, ids: list[OpId]) -> int:
        view = 0
        for i in self._places(ids):
            view |= self._past[i] | 1 << i
        return view

    def sample(self, most: int) -> list[OpId]:
        """Up to `most` ids that tell how much is here: the heads, then ever farther back in the order of arrival."""
        chosen = dict.fromkeys(self.heads()[: most // 2])
        step = 1
        at = len(self) - 1
        while at >= 0 and len(chosen) < most:
            chosen[self._facts.id_at(at)] = None
            at -= step
            step *= 2
        return list(chosen)

    # ---- to keep and to bring back

    def summary(self) -> bytes:
        """All that is known beside the operations themselves; for `restored`. Settles first."""
        self.settle()
        rows, keys, grounds = self._facts.pack()
        parents, wide, step, wide_count = self._past.pack()
        at_hand = (self._names, self._title, self._revoked, self._removed_at)
        unsupported = self.unsupported.to_bytes(self.unsupported.bit_length() // 8 + 1, "little")
        past = (parents, wide, step, wide_count)
        return _ENCODER.encode(
            (sys.byteorder, self.first.raw, rows, keys, grounds, past, unsupported, at_hand)
        )

    @classmethod
    def restored(cls, summary: memoryview, ops: Ops) -> "CircleLog":
        """The log of which this is the summary, and whose operations are `ops`. Raises `StorageError`."""
        byteorder, first, rows, keys, grounds, past, unsupported, at_hand = _read_summary(summary)
        if byteorder != sys.byteorder:
            raise StorageError(tr("the summary of a circle is of another kind of computer"))
        log = cls.__new__(cls)
        log.ops = ops
        try:
            facts, pasts = Facts.restored(rows, keys, grounds), Pasts.restored(*past)
            log._begin(read_op(first, is_verified=True), facts, pasts)
        except FAULTS as error:
            raise StorageError(
                tr("the summary of a circle does not fit together: {reason}", reason=reason(error))
            ) from None
        log.unsupported = int.from_bytes(unsupported, "little")
        log._names, log._title, log._revoked, log._removed_at = at_hand
        return log


@decoder(StorageError, "the summary of a circle")
def _read_summary(summary: memoryview) -> "_Summary":
    found: _Summary = _DECODER.decode(summary)
    return found


_Rows = list[memoryview]
_AtHand = tuple[dict[int, tuple[int, str]], tuple[int, str], dict[int, tuple[bytes, ...]], dict[int, int]]
_Summary = tuple[
    str, bytes, _Rows, list[bytes], list[Grounds], tuple[_Rows, dict[int, bytes], int, int], bytes, _AtHand
]
_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(_Summary)
