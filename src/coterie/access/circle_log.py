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
Sets of operations are integers, one bit for each in the order of arrival: an ancestor's bit is always lower.
"""

from array import array
from collections.abc import Iterator

import msgspec

from coterie.access.circle_ops import Kind, Op, OpId, OpRefused, Role, SignedOp
from coterie.access.circle_pasts import Pasts
from coterie.errors import LimitExceeded, NotFound

# Guess: 50 people, 5 changes a day, a year, and as much again. Measured: 97,507 take 96 MB of memory, 28 MB on disk.
OPS_MAX = 100_000
OPS_FOR_OWNERS = 1_000  # the last of these: a full log can still lose a member who filled it
OPS_PER_PERSON_MAX = 20_000  # in one line of history; guess: two busy owners never reach it
DEVICES_MAX = 16  # of one person at once; guess
GENERATIONS_MAX = 64  # owner made by owner made by owner ..., device by device; bounds recursion

Grounds = tuple[tuple[int, ...], tuple[int, ...]]
Right = tuple[int, int, tuple[int, ...], tuple[int, ...]]

_OWNER_KINDS = frozenset({Kind.ADD, Kind.REMOVE, Kind.ROLE, Kind.TITLE})
_ENDS = frozenset({Kind.REMOVE, Kind.LEAVE})


class MissingParents(NotFound):
    """The operation builds on others that are not here yet."""

    def __init__(self, parents: tuple[OpId, ...]) -> None:
        super().__init__(f"{len(parents)} operations before this one are missing")
        self.parents = parents


def role_needed(op: Op) -> Role:
    """The least role by which the author of `op` may make it."""
    about_another = op.kind in (Kind.RENAME, Kind.REMOVE_DEVICE) and op.subject != op.person
    return Role.OWNER if op.kind in _OWNER_KINDS or about_another else Role.GUEST


def subject_of(op: Op) -> bytes:
    """The person about whose role or name `op` is; empty when it is about nobody's."""
    if op.kind in (Kind.CREATE, Kind.LEAVE):
        return op.person
    return op.subject if op.kind in (Kind.ADD, Kind.REMOVE, Kind.ROLE) else b""


class CircleLog:
    """All accepted operations of one circle. `first` is the one that creates it; its id is the circle's."""

    def __init__(self, first: SignedOp) -> None:
        if first.op.kind != Kind.CREATE:
            raise OpRefused("a circle begins with its creation")
        self.id: OpId = first.id
        self.ops: list[SignedOp] = []
        self.unsupported = 0  # in the view of all
        self.everything = 0
        self._index: dict[OpId, int] = {}
        self._past = Pasts()
        self._grounds: list[Grounds] = []  # of the person's role, of the device
        self._generation = array("I")
        self._depth = array("I")
        self._shared: dict[bytes, bytes] = {}  # ids that many operations name, kept once
        self._same_grounds: dict[Grounds, Grounds] = {}
        self._heads: dict[OpId, None] = {}
        self._about: dict[bytes, int] = {}  # person: statements about its role
        self._ends: dict[bytes, int] = {}  # person: those that remove it
        self._about_device: dict[bytes, int] = {}  # person and device: statements about it alone
        self._papers: dict[bytes, int] = {}  # person and device: those that add it as a paper key
        self._devices: dict[bytes, dict[bytes, None]] = {}  # person: every device ever named
        self._statements = 0  # all of them
        self._rights: dict[tuple[bytes, bytes], Right] = {}  # of now
        self._made: dict[bytes, int] = {}  # person: how many operations
        self._by: dict[bytes, int] = {}  # person: operations that it made
        self._append(first, 0, 0, ((), ()))

    def __contains__(self, op_id: object) -> bool:
        return op_id in self._index

    def __len__(self) -> int:
        return len(self.ops)

    # ---- taking operations

    def add(self, signed: SignedOp) -> bool:
        """Accept an operation whose signature was checked; False when it is here already.

        Raises:
            MissingParents: come again when they are here.
            OpRefused: it is never to be accepted.
            LimitExceeded: the log is full.
        """
        op = signed.op
        if signed.id in self._index:
            return False
        self._append(signed, *self.check(op))
        return True

    def check(self, op: Op) -> tuple[int, int, Grounds]:
        """What `add` finds out before it changes anything: the past of `op`, what has no support there, and on what
        the right of its author rests. Errors as `add`."""
        if op.kind == Kind.CREATE or op.circle != self.id:
            raise OpRefused("an operation of another circle")
        missing = tuple(parent for parent in op.parents if parent not in self._index)
        if missing:
            raise MissingParents(missing)
        self._check_room(op)
        past = self._past_of(op)
        is_busy = self._made.get(op.person, 0) >= OPS_PER_PERSON_MAX
        if is_busy and (past & self._by[op.person]).bit_count() >= OPS_PER_PERSON_MAX:
            raise OpRefused(f"more than {OPS_PER_PERSON_MAX} operations of one person")
        unsupported = self._unsupported_in(past)
        return past, unsupported, self._check_right(op, past, unsupported)

    def _check_room(self, op: Op) -> None:
        room = OPS_MAX if role_needed(op) == Role.OWNER else OPS_MAX - OPS_FOR_OWNERS
        if len(self.ops) >= room:
            raise LimitExceeded(f"the circle's log is full: {room} operations (ops_max)")

    def _past_of(self, op: Op) -> int:
        at = [self._index[parent] for parent in op.parents]
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
        level, active, role_grounds, device_grounds = self._right(op.person, op.author, past, unsupported)
        if not active or not level:
            raise OpRefused("its author was no member when it was made")
        if level < role_needed(op):
            raise OpRefused("the role of who wants it does not suffice")
        is_paper = self.is_paper(op.person, op.author, past)
        if is_paper and op.kind not in (Kind.ADD_DEVICE, Kind.REMOVE_DEVICE):
            raise OpRefused("a paper key only adds and removes devices of its person")
        names_itself = op.kind == Kind.RENAME and op.subject == op.person
        if not names_itself and (wrong := self._wrong_with_subject(op, past, unsupported, is_paper)):
            raise OpRefused(wrong)
        generation = 1 + max(self._generation[i] for i in (*role_grounds, *device_grounds))
        if generation > GENERATIONS_MAX:
            raise OpRefused(f"a right handed on more than {GENERATIONS_MAX} times")
        return role_grounds, device_grounds

    def _right(self, person: bytes, author: bytes, past: int, unsupported: int) -> Right:
        """The role of `person` and whether `author` is its device, each with its grounds.

        Where no statement lies beside that past, it is the right of now: worked out once until the next statement.
        """
        is_now = unsupported == self.unsupported and not self._statements & ~past
        known = self._rights.get((person, author)) if is_now else None
        if known is None:
            level, role_grounds = self._value(self._about.get(person, 0) & past, unsupported)
            active, device_grounds = self._device_value(person, author, past, unsupported)
            known = level, active, role_grounds, device_grounds
            if is_now:
                self._rights[person, author] = known
        return known

    def _wrong_with_subject(self, op: Op, past: int, unsupported: int, is_paper: bool) -> str:
        """Why what `op` says cannot be said in its past; empty when it can."""
        held = self._value(self._about.get(op.subject, 0) & past, unsupported)[0]
        match op.kind:
            case Kind.ADD if held:
                return "it adds a member"
            case Kind.ROLE | Kind.RENAME if not held:
                return "it is about somebody who is no member"
            case Kind.REMOVE if not self._about.get(op.subject, 0) & past:
                return "it is about somebody who never was a member"
            case Kind.ROLE if held == op.role:
                return "it changes nothing"
            case Kind.ADD_DEVICE:
                return self._wrong_with_new_device(op, past, unsupported, is_paper)
            case Kind.REMOVE_DEVICE:
                if not self._device_value(op.subject, op.device, past, unsupported)[0]:
                    return "it removes what is no device"
                if self.is_paper(op.subject, op.device, past) and not is_paper:
                    return "only a paper key replaces a paper key"
        return ""

    def _wrong_with_new_device(self, op: Op, past: int, unsupported: int, is_paper: bool) -> str:
        active = [
            device
            for device in self._devices[op.person]
            if self._device_value(op.person, device, past, unsupported)[0]
        ]
        if op.device in active:
            return "it adds what is a device already"
        if len(active) >= DEVICES_MAX:
            return f"more than {DEVICES_MAX} devices of one person"
        if op.is_paper and not is_paper and any(self.is_paper(op.person, one, past) for one in active):
            return "only a paper key replaces a paper key"
        return ""

    def _append(self, signed: SignedOp, past: int, unsupported: int, grounds: Grounds) -> None:
        op, i = signed.op, len(self.ops)
        concurrent = 0 if past == self.everything else self.everything & ~past
        signed = self._slim(signed)
        op = signed.op
        self.ops.append(signed)
        self._index[signed.id] = i
        self._past.append([self._index[parent] for parent in op.parents], past, concurrent)
        self._grounds.append(self._same_grounds.setdefault(grounds, grounds))
        self._generation.append(1 + max((self._generation[g] for part in grounds for g in part), default=0))
        self._depth.append(1 + max((self._depth[self._index[p]] for p in op.parents), default=0))
        for parent in op.parents:
            self._heads.pop(parent, None)
        self._heads[signed.id] = None
        self.everything |= 1 << i
        self._by[op.person] = self._by.get(op.person, 0) | 1 << i
        self._made[op.person] = self._made.get(op.person, 0) + 1
        self._note_statement(op, 1 << i)
        if concurrent:
            self._reconsider(i, concurrent)

    def _slim(self, signed: SignedOp) -> SignedOp:
        """The same with one copy of each id in memory: logs name the same few people, and each operation twice."""
        op, share = signed.op, self._shared.setdefault
        for name in ("circle", "author", "person", "subject", "device"):
            value = getattr(op, name)
            msgspec.structs.force_setattr(op, name, share(value, value))
        ids = tuple(self.ops[self._index[parent]].id for parent in op.parents)
        msgspec.structs.force_setattr(op, "parents", ids)
        return signed

    def _note_statement(self, op: Op, bit: int) -> None:
        subject = subject_of(op)
        if subject or op.device:
            self._statements |= bit
            self._rights.clear()
        if subject:
            self._about[subject] = self._about.get(subject, 0) | bit
        if op.kind in _ENDS:
            self._ends[subject] = self._ends.get(subject, 0) | bit
        if op.device:
            person = op.person if op.kind == Kind.ADD_DEVICE else op.subject or op.person
            key = person + op.device
            self._about_device[key] = self._about_device.get(key, 0) | bit
            self._devices.setdefault(person, {})[op.device] = None
            if op.is_paper and op.kind == Kind.ADD_DEVICE:
                self._papers[key] = self._papers.get(key, 0) | bit

    # ---- what counts

    def _reconsider(self, new: int, concurrent: int) -> None:
        """`new` arrived beside `concurrent`: find what it takes support from, and whether it has any itself."""
        takes = self._may_take(self.ops[new].op, concurrent)
        suspects = self.everything & ~self._past[new] if takes else 1 << new
        before = self.unsupported
        self.unsupported = self._weigh(suspects, self.everything, before)
        if self.unsupported != before:
            self._rights.clear()

    def _may_take(self, op: Op, concurrent: int) -> bool:
        """Whether `op` can take support from one of `concurrent`: it lowers the author of one of them."""
        if op.kind == Kind.REMOVE_DEVICE:
            return bool(self._by.get(op.subject, 0) & concurrent)
        subject = subject_of(op)
        lowers = op.kind in _ENDS or (op.kind in (Kind.ADD, Kind.ROLE) and op.role < Role.OWNER)
        return lowers and bool(self._by.get(subject, 0) & concurrent)

    def _unsupported_in(self, view: int) -> int:
        """Those without support in `view`. A larger view never has fewer: only those of all are looked at."""
        suspects = self.unsupported & view
        if not suspects or view == self.everything:
            return suspects
        return self._weigh(suspects, view, 0)

    def _weigh(self, suspects: int, view: int, unsupported: int) -> int:
        """`unsupported` and those of `suspects` that have no support in `view`, ancestors first."""
        for i in _bits(suspects & ~unsupported):
            if not self._is_supported(i, view, unsupported):
                unsupported |= 1 << i
        return unsupported

    def _is_supported(self, i: int, view: int, unsupported: int) -> bool:
        op, past = self.ops[i].op, self._past[i]
        if op.kind == Kind.CREATE:
            return True
        if unsupported & past:
            level = self._value(self._about[op.person] & past, unsupported)[0]
            if level < role_needed(op) or not self._device_value(op.person, op.author, past, unsupported)[0]:
                return False
            if op.kind == Kind.ROLE and not self._value(self._about[op.subject] & past, unsupported)[0]:
                return False
        return self._taken_by(i, view, unsupported) is None

    def _taken_by(self, i: int, view: int, unsupported: int) -> int | None:
        """The first in `view` that takes from the author of `i` what it needed, and that nobody has answered."""
        op, past = self.ops[i].op, self._past[i]
        of_person = self._about[op.person] & past & ~unsupported
        of_device = self._about_device[op.person + op.author] & past & ~unsupported
        for t in self._taking(i, view & ~past & ~(1 << i)):
            is_device = self.ops[t].op.kind == Kind.REMOVE_DEVICE
            if not self._is_overridden(t, of_device if is_device else of_person, unsupported):
                return t
        return None

    def _taking(self, i: int, candidates: int) -> Iterator[int]:
        """Those of `candidates` that take from the author of `i` what it needed, neither having seen the other."""
        op = self.ops[i].op
        needed = role_needed(op)
        for t in _bits(self._about.get(op.person, 0) & candidates):
            if not self._past[t] >> i & 1 and self._role_said(t) < needed:
                yield t
        for t in _bits(self._about_device.get(op.person + op.author, 0) & candidates):
            if not self._past[t] >> i & 1 and self.ops[t].op.kind == Kind.REMOVE_DEVICE:
                yield t

    def _is_overridden(self, t: int, answers: int, unsupported: int) -> bool:
        """Whether one of `answers`, supported statements about the same subject, was made knowing that `t`'s author
        is out, and says what answers `t`: only an addition answers a removal, and nobody answers for themselves."""
        for s in _bits(answers & ~self._past[t]):
            said = self.ops[s].op
            is_answer = said.kind in (Kind.ADD, Kind.ADD_DEVICE) or (
                said.kind == Kind.ROLE and said.person != said.subject and self._role_said(t) > 0
            )
            if is_answer and self._is_void(t, self._past[s] & ~unsupported, {}):
                return True
        return False

    def _is_void(self, t: int, known: int, judged: dict[int, bool]) -> bool:
        """Whether `known` (supported, the past of what `t` would touch) took from `t`'s author what it needed.

        `judged` keeps answers for the same `known`: rights may come by many ways, each is walked once.
        """
        if t not in judged:
            judged[t] = any(True for _ in self._taking(t, known & ~self._past[t] & ~(1 << t))) or any(
                bool(grounds) and all(self._is_void(g, known, judged) for g in grounds)
                for grounds in self._grounds[t]
            )
        return judged[t]

    def _role_said(self, i: int) -> int:
        op = self.ops[i].op
        if op.kind == Kind.CREATE:
            return Role.OWNER
        return 0 if op.kind in _ENDS else op.role

    def _value(
        self, statements: int, unsupported: int, *, of_device: bool = False
    ) -> tuple[int, tuple[int, ...]]:
        """What holds by these statements about one subject, and the supported ones not replaced."""
        answers = statements & ~unsupported
        supporting: list[int] = []
        lowering: list[int] = []
        while statements:
            i = statements.bit_length() - 1
            statements ^= 1 << i
            if unsupported >> i & 1:
                lowering.append(i)
            else:
                supporting.append(i)
                statements &= ~self._past[i]
        if not supporting:
            return 0, ()
        said = self._device_said if of_device else self._role_said
        value = min(said(i) for i in supporting)
        for t in lowering:
            if said(t) < value and not self._is_overridden(t, answers, unsupported):
                value = said(t)
        return value, tuple(supporting)

    def _device_said(self, i: int) -> int:
        return int(self.ops[i].op.kind in (Kind.CREATE, Kind.ADD, Kind.ADD_DEVICE))

    def _device_value(
        self, person: bytes, device: bytes, view: int, unsupported: int
    ) -> tuple[int, tuple[int, ...]]:
        statements = self._about_device.get(person + device, 0)
        if not statements:
            return 0, ()
        return self._value((statements | self._ends.get(person, 0)) & view, unsupported, of_device=True)

    # ---- asking

    def role(self, person: bytes) -> int:
        """The role of `person` now; 0 when it is no member."""
        return self._value(self._about.get(person, 0), self.unsupported)[0]

    def persons(self) -> tuple[bytes, ...]:
        """Everybody who ever was named as a member, removed ones too."""
        return tuple(self._about)

    def devices(self, person: bytes) -> tuple[bytes, ...]:
        """The devices of `person` now, whatever its role: paper keys too."""
        ever = self._devices.get(person, {})
        return tuple(d for d in ever if self._device_value(person, d, self.everything, self.unsupported)[0])

    def devices_ever(self, person: bytes) -> tuple[bytes, ...]:
        """Every device ever named as one of `person`."""
        return tuple(self._devices.get(person, {}))

    def is_paper(self, person: bytes, device: bytes, view: int | None = None) -> bool:
        """Whether this key of `person` is a paper one: for recovery, never a computer."""
        papers = self._papers.get(person + device, 0)
        return bool(papers if view is None else papers & view)

    def unconfirmed(self) -> tuple[bytes, ...]:
        """Who was removed only by those who were removed meanwhile: until an owner removes them again, what they
        write in retrospect can still lower others."""
        found = []
        for person, about in self._about.items():
            by_others = (i for i in _bits(about) if self.ops[i].op.kind == Kind.REMOVE)
            ends = list(by_others) if not self.role(person) else []
            if ends and all(self.unsupported >> i & 1 for i in ends):
                found.append(person)
        return tuple(found)

    def ended_by(self, device: bytes) -> tuple[OpId, ...]:
        """The operations by which the person of this computer is a member no more: mostly one, its removal.

        Where it was no statement about the person itself that ended its part, but one that took the right to add it
        from who did, then that one. Empty for who was never in or is in, and for a computer that was taken off
        its person's list: whoever has it is nobody's business.
        """
        found: dict[int, None] = {}
        for person, devices in self._devices.items():
            if device in devices and not self.role(person) and not self._is_taken_off(person, device):
                found.update(dict.fromkeys(self._ended(person)))
        return tuple(self.ops[i].id for i in found)

    def _is_taken_off(self, person: bytes, device: bytes) -> bool:
        standing = self._standing(self._about_device[person + device])
        return any(self.ops[i].op.kind == Kind.REMOVE_DEVICE for i in standing)

    def _ended(self, person: bytes) -> Iterator[int]:
        about = self._about[person]
        supporting = self._standing(about & ~self.unsupported)
        replaced = 0
        for i in supporting:
            replaced |= self._past[i]
        without = list(_bits(about & self.unsupported & ~replaced))
        ends = [i for i in (*supporting, *without) if self.ops[i].op.kind in _ENDS]
        if ends:  # any will do: the least that tells it
            yield min(ends, key=lambda i: (self.unsupported >> i & 1, self._depth[i], self.ops[i].id))
        for i in without:
            cause = self._lost_by(i) if self.ops[i].op.kind not in _ENDS else None
            if cause is not None:
                yield cause

    def _lost_by(self, i: int) -> int | None:
        """What took its support from `i`, or from what the right to `i` rested on."""
        waiting, seen = [i], {i: None}
        while waiting:
            at = waiting.pop()
            cause = self._taken_by(at, self.everything, self.unsupported)
            if cause is not None:
                return cause
            grounds = [g for part in self._grounds[at] for g in part if self.unsupported >> g & 1]
            waiting += [g for g in grounds if g not in seen]
            seen.update(dict.fromkeys(grounds))
        return None

    def _standing(self, statements: int) -> list[int]:
        """Those that no other of them has in its past."""
        standing = []
        while statements:
            i = statements.bit_length() - 1
            standing.append(i)
            statements &= ~(self._past[i] | 1 << i)
        return standing

    def heads(self) -> tuple[OpId, ...]:
        """The operations that no other builds on, in the order of their ids."""
        return tuple(sorted(self._heads))

    def supported(self) -> Iterator[tuple[tuple[int, OpId], Op]]:
        """Every supported operation with its place: of two, the later has the greater one; concurrent ones are tied
        by depth, then id, the same everywhere."""
        for i, signed in enumerate(self.ops):
            if not self.unsupported >> i & 1:
                yield (self._depth[i], signed.id), signed.op

    def missing_at(self, known: list[OpId], wanted: list[OpId]) -> list[SignedOp]:
        """`wanted` and their pasts, less `known` and theirs, parents first. Ids that are not here are passed over."""
        view = 0
        for op_id in wanted:
            i = self._index.get(op_id)
            view |= 0 if i is None else self._past[i] | 1 << i
        for op_id in known:
            i = self._index.get(op_id)
            view &= ~(0 if i is None else self._past[i] | 1 << i)
        return [self.ops[i] for i in _bits(view)]

    def sample(self, most: int) -> list[OpId]:
        """Up to `most` ids that tell how much is here: the heads, then ever farther back in the order of arrival."""
        chosen = dict.fromkeys(self.heads()[: most // 2])
        step = 1
        at = len(self.ops) - 1
        while at >= 0 and len(chosen) < most:
            chosen[self.ops[at].id] = None
            at -= step
            step *= 2
        return list(chosen)


def _bits(mask: int) -> Iterator[int]:
    """The places of the ones in `mask`, lowest first."""
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low
