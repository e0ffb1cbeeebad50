"""A circle as its members see it: who is in it, in which role, under which name; and how its operations are made."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from coterie.access.circle_log import CircleLog
from coterie.access.circle_ops import (
    PARENTS_MAX,
    Kind,
    Op,
    OpId,
    OpRefused,
    Role,
    Sign,
    SignedOp,
    sign_op,
)
from coterie.access.circle_vouched import LostComputer, lost_computers
from coterie.access.names import distinct, fit, is_meant, key_of
from coterie.errors import AccessDenied
from coterie.identity import PeerId
from coterie.identity.peer_id import is_key
from coterie.texts import tr
from coterie.which_one import the_one


class Member(msgspec.Struct, frozen=True):
    """One person in a circle. `person` is the id of its first device, and stays when that device is gone.

    `name` is unique in the circle, `called` is the name without what tells it apart; `devices` are computers, `papers`
    keys of recovery phrases.
    """

    person: PeerId
    name: str
    role: Role
    devices: tuple[PeerId, ...]
    papers: tuple[PeerId, ...] = ()
    called: str = ""


@dataclass(frozen=True)
class CircleState:
    """What a circle is now; never changes, a changed circle has another state. All questions take constant time."""

    id: OpId
    name: str
    _members: Mapping[PeerId, Member] = field(repr=False)
    _by_device: Mapping[PeerId, Member] = field(repr=False)
    _gone: frozenset[bytes] = field(repr=False)
    _revoked: Mapping[bytes, tuple[PeerId, ...]] = field(repr=False)
    lost: Mapping[PeerId, LostComputer] = field(default_factory=dict)  # by the word of their own person

    def members(self) -> tuple[Member, ...]:
        """Everybody in the circle, owners first, then by name."""
        return tuple(sorted(self._members.values(), key=lambda m: (-m.role, m.name, m.person)))

    def member_of(self, peer: PeerId) -> Member | None:
        """The member to whom the computer `peer` belongs."""
        return self._by_device.get(peer)

    def member(self, person: PeerId) -> Member | None:
        """The member of this id."""
        return self._members.get(person)

    def role(self, peer: PeerId) -> Role | None:
        """The role of the computer `peer`; None when it belongs to no member. A paper key has none."""
        member = self._by_device.get(peer)
        return member.role if member is not None else None

    def is_removed(self, peer: PeerId) -> bool:
        """Whether `peer` was a person or a computer of this circle, and is no longer."""
        return peer in self._gone

    def devices(self) -> tuple[PeerId, ...]:
        """Every computer that belongs to a member."""
        return tuple(self._by_device)

    def revoked_by(self, revocation: bytes) -> tuple[PeerId, ...]:
        """The persons who revoked this opaque id; whether they might, its issuer's rules say."""
        return self._revoked.get(revocation, ())

    @property
    def revocations(self) -> Mapping[bytes, tuple[PeerId, ...]]:
        """Every revoked id, and by whom."""
        return self._revoked

    @property
    def is_ownerless(self) -> bool:
        """Whether nobody is left who could add or remove: the circle can only be succeeded by a new one."""
        return not any(member.role == Role.OWNER for member in self._members.values())

    def find(self, text: str) -> Member:
        """The member of this name, or of this person or device id (a beginning will do). Raises `NotFound`."""
        wanted = text.strip()
        for member in self._members.values():
            if key_of(member.name) == key_of(wanted):
                return member
        found = [
            m
            for m in self._members.values()
            if any(is_meant(wanted, m.called, str(one)) for one in (m.person, *m.devices))
        ]
        found = found or [
            m for m in self._members.values() if any(d.matches(wanted) for d in (m.person, *m.devices))
        ]
        nothing = tr("'{text}' is no member of the circle '{name}'", text=text, name=self.name)
        return the_one(text, [(f"{m.name} ({m.person.short})", m) for m in found], nothing)


class Circle:
    """A circle's log with its state. One per circle and node; not thread safe."""

    def __init__(self, first: SignedOp | CircleLog) -> None:
        """From its first operation, or over a log."""
        self.log = first if isinstance(first, CircleLog) else CircleLog(first)
        self._state: CircleState | None = None

    @property
    def id(self) -> OpId:
        """The id of the operation that created it."""
        return self.log.id

    @property
    def state(self) -> CircleState:
        """What the circle is now, by all operations that are here."""
        if self._state is None:
            self._state = _state_of(self.log)
        return self._state

    def add(self, signed: SignedOp, steps: int | None = None) -> bool:
        """Take an operation; False when it was here. `steps` and errors as in `CircleLog.add`."""
        is_new = self.log.add(signed, steps)
        if is_new:
            self._state = None
        return is_new

    def settle(self, steps: int | None = None) -> bool:
        """See `CircleLog.settle`."""
        if self.log.is_settled:
            return True
        self._state = None
        return self.log.settle(steps)

    def write(self, author: "Author", kind: Kind, at: int, **fields: object) -> SignedOp:
        """Make an operation on top of all that is here, and take it. `at` is unix milliseconds, for people.

        Raises:
            AccessDenied: `author` may not do this now; says why.
            UsageError: a field is out of bounds.
            LimitExceeded: the log is full.
        """
        op = Op(
            circle=self.id,
            kind=kind,
            author=author.device,
            person=author.person,
            parents=self.log.heads()[:PARENTS_MAX],
            at=at,
            **fields,  # type: ignore[arg-type]
        )
        signed = sign_op(op, author.sign)
        self.check(signed)
        self.add(signed)
        return signed

    def check(self, signed: SignedOp) -> None:
        """Raise `AccessDenied` when the author of an operation made here has no right to it."""
        try:
            self.log.check(signed.op)
        except OpRefused as refused:
            raise AccessDenied(
                tr(
                    "the circle '{name}' does not permit this: {refused}",
                    name=self.state.name,
                    refused=refused,
                )
            ) from None


@dataclass(frozen=True, slots=True)
class Author:
    """Who writes: `device` signs, in the name of `person`. `consent`: it said that it belongs to that person."""

    device: PeerId
    person: PeerId
    sign: Sign = field(repr=False)
    consent: bytes = b""


def found_circle(author: Author, title: str, name: str, *, at: int, nonce: bytes) -> Circle:
    """A new circle called `title`, whose one owner, the author, is called `name`. `nonce`: 16 random bytes."""
    op = Op(
        circle=b"",
        kind=Kind.CREATE,
        author=author.device,
        person=author.person,
        device=author.device,
        consent=author.consent,
        at=at,
        name=name,
        title=title,
        nonce=nonce,
    )
    return Circle(sign_op(op, author.sign))


def _state_of(log: CircleLog) -> CircleState:
    names = log.names()
    members: dict[PeerId, Member] = {}
    by_device: dict[PeerId, Member] = {}
    ever: dict[bytes, None] = {}
    for person in log.persons():
        ever.update(dict.fromkeys((person, *log.devices_ever(person))))
    roles = {person: Role(role) for person in log.persons() if (role := log.role(person))}
    called = {person: fit(names.get(person, "")) or PeerId(person).short for person in roles}
    labels = distinct([(str(PeerId(person)), called[person], False) for person in roles])
    unique = dict(zip(roles, labels, strict=True))
    for person, role in roles.items():
        keys = log.devices(person)
        papers = tuple(PeerId(key) for key in keys if log.is_paper(person, key))
        devices = tuple(PeerId(key) for key in keys if not log.is_paper(person, key) and is_key(key))
        member = Member(PeerId(person), unique[person], role, devices, papers, called[person])
        members[member.person] = member
        for device in devices:
            known = by_device.get(device)
            if known is None or (member.role, member.person) < (known.role, known.person):
                by_device[device] = member  # claimed by two: the lesser role
    gone = frozenset(key for key in ever if key not in by_device and key not in members)
    lost = lost_computers(log, by_device)
    name = fit(log.title()) or PeerId(log.id).short
    return CircleState(log.id, name, members, by_device, gone, _revoked(log), lost)


def _revoked(log: CircleLog) -> dict[bytes, tuple[PeerId, ...]]:
    revoked: dict[bytes, dict[PeerId, None]] = {}
    for _, person, ids in log.revocations():
        for one in ids:
            revoked.setdefault(one, {})[PeerId(person)] = None
    return {one: tuple(sorted(by)) for one, by in sorted(revoked.items())}
