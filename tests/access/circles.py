"""Play material for circles: people with keys, a slow second opinion on what counts, random histories."""

import contextlib
import random
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from coterie.access.circle import Author, Circle, CircleState, found_circle
from coterie.access.circle_facts import role_needed, subject_of
from coterie.access.circle_log import CircleLog, MissingParents
from coterie.access.circle_ops import Kind, Op, OpRefused, Role, SignedOp, consent, sign_op
from coterie.identity import PeerId, SecretKey


@cache
def key(name: str) -> SecretKey:
    return SecretKey(name.encode().ljust(32, b"."))


def who(name: str) -> PeerId:
    return key(name).peer_id


def author(device: str, person: str = "") -> Author:
    return Author(who(device), who(person or device), key(device).sign)


def found(owner: str = "anna", title: str = "home") -> Circle:
    return found_circle(author(owner), title, owner, at=1, nonce=bytes(16))


def copy(circle: Circle) -> Circle:
    """Another node's circle with the same operations."""
    other = Circle(circle.log.ops[0])
    for signed in circle.log.ops[1:]:
        other.add(signed)
    return other


def merge(target: Circle, *sources: Circle) -> Circle:
    """Give `target` all that the `sources` have."""
    for source in sources:
        for signed in source.log.ops:
            if signed.op.kind != Kind.CREATE:
                target.add(signed)
    return target


def add(circle: Circle, by: str, name: str, role: Role = Role.MEMBER) -> SignedOp:
    fields: dict[str, Any] = {"subject": who(name), "device": who(name), "role": role, "name": name}
    return circle.write(author(by), Kind.ADD, 1, **fields)


def remove(circle: Circle, by: str, name: str) -> SignedOp:
    return circle.write(author(by), Kind.REMOVE, 1, subject=who(name))


def set_role(circle: Circle, by: str, name: str, role: Role) -> SignedOp:
    return circle.write(author(by), Kind.ROLE, 1, subject=who(name), role=role)


def add_device(circle: Circle, by: str, person: str, device: str, *, is_paper: bool = False) -> SignedOp:
    agreed = consent(who(person), who(device), key(device).sign)
    return circle.write(
        author(by, person), Kind.ADD_DEVICE, 1, device=who(device), consent=agreed, is_paper=is_paper
    )


def remove_device(circle: Circle, by: str, person: str, device: str, *, of: str = "") -> SignedOp:
    subject = who(of or person)
    return circle.write(author(by, person), Kind.REMOVE_DEVICE, 1, subject=subject, device=who(device))


def forge(circle: Circle, by: str, kind: Kind, *, parents: tuple[bytes, ...], **fields: Any) -> SignedOp:
    """An operation as a liar writes it: on any parents, with any clock."""
    person = fields.pop("person", who(by))
    op = Op(
        circle=circle.id, kind=kind, author=who(by), person=person, parents=tuple(sorted(parents)), **fields
    )
    return sign_op(op, key(by).sign)


def unsigned(circle: Circle, by: str, kind: Kind, parents: tuple[bytes, ...], **fields: Any) -> SignedOp:
    """An operation without a signature, which logs take as checked before."""
    op = Op(circle=circle.id, kind=kind, author=who(by), person=who(by), parents=parents, **fields)
    return sign_op(op, lambda text: bytes(64))


def roles(circle: Circle) -> dict[str, str]:
    return {member.name: member.role.name.lower() for member in circle.state.members()}


def picture(state: CircleState) -> tuple[Any, ...]:
    """All that a state says, to compare two of them."""
    return (state.name, state.members(), dict(state.revocations), sorted(state.devices()))


# ---- a second opinion, by sets and the words of docs/protocol/circle.md, without any of the shortcuts


@dataclass
class Reference:
    """What counts among `ops` (id to operation), all ancestors included."""

    ops: dict[bytes, Op]
    pasts: dict[bytes, frozenset[bytes]] = field(default_factory=dict)

    @classmethod
    def of(cls, signed: list[SignedOp]) -> "Reference":
        reference = cls({})
        for one in signed:
            reference.ops[one.id] = one.op
            reference.pasts[one.id] = frozenset(one.op.parents).union(
                *(reference.pasts[parent] for parent in one.op.parents)
            )
        return reference

    def supported(self, view: frozenset[bytes]) -> frozenset[bytes]:
        good: set[bytes] = set()
        for one in (o for o in self.ops if o in view):  # ancestors first
            if self._has_support(one, view, good):
                good.add(one)
        return frozenset(good)

    def _has_support(self, one: bytes, view: frozenset[bytes], good: set[bytes]) -> bool:
        op, past = self.ops[one], self.pasts[one]
        if op.kind == Kind.CREATE:
            return True
        if self.role(op.person, past, good) < role_needed(op) or not self.device(
            op.person, op.author, past, good
        ):
            return False
        if op.kind == Kind.ROLE and not self.role(op.subject, past, good):
            return False
        for t in self._taking(one, view):
            if self.ops[t].kind == Kind.REMOVE_DEVICE:
                about = self._about_device(op.person, op.author, past)
            else:
                about = self._about(op.person, past)
            if not self._overridden(t, about, good):
                return False
        return True

    def _overridden(self, t: bytes, about: set[bytes], good: Any) -> bool:
        for s in about:
            op = self.ops[s]
            answers = op.kind in (Kind.ADD, Kind.ADD_DEVICE) or (
                op.kind == Kind.ROLE and op.person != op.subject and self._said(t) > 0
            )
            if s in good and answers and s not in self.pasts[t] and self._void(t, self.pasts[s] & good):
                return True
        return False

    def _taking(self, one: bytes, view: frozenset[bytes]) -> list[bytes]:
        op = self.ops[one]
        return [
            t
            for t in view - self.pasts[one] - {one}
            if one not in self.pasts[t]
            and (
                (subject_of(self.ops[t]) == op.person and self._said(t) < role_needed(op))
                or (
                    self.ops[t].kind == Kind.REMOVE_DEVICE
                    and (self.ops[t].subject, self.ops[t].device) == (op.person, op.author)
                )
            )
        ]

    def _void(self, t: bytes, known: frozenset[bytes]) -> bool:
        if self.ops[t].kind == Kind.CREATE:
            return False
        if self._taking(t, known):
            return True
        op, past = self.ops[t], self.pasts[t]
        good = self.supported(past)
        of_role = self._standing(self._about(op.person, past), good)
        of_device = self._standing(self._about_device(op.person, op.author, past), good)
        return any(all(self._void(g, known) for g in part) for part in (of_role, of_device))

    def _said(self, one: bytes) -> int:
        op = self.ops[one]
        if op.kind == Kind.CREATE:
            return 3
        return op.role if op.kind in (Kind.ADD, Kind.ROLE) else 0

    def _about(self, person: bytes, view: frozenset[bytes]) -> set[bytes]:
        return {one for one in view if subject_of(self.ops[one]) == person}

    def _about_device(self, person: bytes, device: bytes, view: frozenset[bytes]) -> set[bytes]:
        found = set()
        for one in view:
            op = self.ops[one]
            of = op.person if op.kind == Kind.ADD_DEVICE else op.subject or op.person
            if (op.device and (of, op.device) == (person, device)) or (
                op.kind in (Kind.REMOVE, Kind.LEAVE) and subject_of(op) == person
            ):
                found.add(one)
        return found

    def _standing(self, about: set[bytes], good: Any) -> list[bytes]:
        kept = [one for one in about if one in good]
        return [one for one in kept if not any(one in self.pasts[other] for other in kept)]

    def _least(self, about: set[bytes], good: Any, said: Any) -> int:
        standing = self._standing(about, good)
        if not standing:
            return 0
        lowering = [
            one
            for one in about
            if one not in good
            and not any(one in self.pasts[s] for s in standing)
            and not self._overridden(one, about, good)
        ]
        return min(said(one) for one in [*standing, *lowering])

    def role(self, person: bytes, view: frozenset[bytes], good: Any) -> int:
        return self._least(self._about(person, view), good, self._said)

    def device(self, person: bytes, device: bytes, view: frozenset[bytes], good: Any) -> int:
        def said(one: bytes) -> int:
            return int(self.ops[one].kind in (Kind.CREATE, Kind.ADD, Kind.ADD_DEVICE))

        return self._least(self._about_device(person, device, view), good, said)


# ---- random histories

PEOPLE = ("anna", "bob", "carl", "dora", "eve", "frank", "greta")
# Removals win, and of too many nothing is left to try.
WEIGHTS = {
    Kind.ADD: 12,
    Kind.REMOVE: 2,
    Kind.ROLE: 2,
    Kind.LEAVE: 0.2,
    Kind.ADD_DEVICE: 2,
    Kind.REMOVE_DEVICE: 0.5,
    Kind.RENAME: 2,
}


@dataclass
class History:
    """Nodes with a copy of one circle each, which act, lie and meet at random."""

    random: random.Random
    nodes: list[Circle] = field(default_factory=list)

    def __post_init__(self) -> None:
        first = found()
        add(first, "anna", "bob", Role.OWNER)
        add(first, "anna", "carl", Role.OWNER)
        add(first, "anna", "dora", Role.MEMBER)
        self.nodes = [copy(first) for _ in range(4)]

    def step(self) -> None:
        node = self.random.choice(self.nodes)
        if self.random.random() < 0.6:
            self.meet(node, self.random.choice(self.nodes))
            return
        past = node.log
        if self.random.random() < 0.1:  # a liar, or one long offline: on an old view
            past = CircleLog(node.log.ops[0])
            chosen = self.random.choice(node.log.ops)
            for signed in node.log.missing_at([], [chosen.id]):
                if signed.id != node.id:
                    past.add(signed)
        for _ in range(4):  # most of what is tried at random is not permitted
            with contextlib.suppress(OpRefused):
                node.add(self._random_op(node, past))
                return

    def _random_op(self, node: Circle, past: CircleLog, by: str = "") -> SignedOp:
        by, other = by or self.random.choice(PEOPLE), self.random.choice(PEOPLE)
        device = f"{other}{self.random.randint(2, 3)}"
        (kind,) = self.random.choices(list(WEIGHTS), list(WEIGHTS.values()))
        writer = self.random.choice([by, by, f"{by}2"])
        fields: dict[str, Any] = {
            Kind.ADD: {"subject": who(other), "device": who(other), "role": self._role(), "name": other},
            Kind.REMOVE: {"subject": who(other)},
            Kind.ROLE: {"subject": who(other), "role": self._role()},
            Kind.LEAVE: {},
            Kind.ADD_DEVICE: {
                "device": who(f"{by}2"),
                "consent": consent(who(by), who(f"{by}2"), key(f"{by}2").sign),
            },
            Kind.REMOVE_DEVICE: {
                "subject": who(other),
                "device": who(self.random.choice([other, device])),
            },
            Kind.RENAME: {"subject": who(other), "name": self.random.choice(PEOPLE)},
        }[kind]
        parents = past.heads()[:8]
        return forge(node, writer, kind, parents=parents, person=who(by), at=self._clock(), **fields)

    def _role(self) -> Role:
        return self.random.choice([*Role, Role.OWNER])

    def _clock(self) -> int:
        return self.random.choice([0, 1, 1 << 40, self.random.randrange(1 << 42)])

    def meet(self, one: Circle, other: Circle) -> None:
        for a, b in ((one, other), (other, one)):
            for signed in a.log.ops[1:]:
                b.add(signed)

    def everything(self) -> Circle:
        """A node that has met all."""
        whole = copy(self.nodes[0])
        return merge(whole, *self.nodes[1:])


def in_any_order(circle: Circle, chance: random.Random) -> Circle:
    """The same operations on a node where they arrived in another order."""
    other = Circle(circle.log.ops[0])
    waiting = circle.log.ops[1:]
    while waiting:
        chance.shuffle(waiting)
        later = []
        for signed in waiting:
            try:
                other.add(signed)
            except MissingParents:
                later.append(signed)
        waiting = later
    return other
