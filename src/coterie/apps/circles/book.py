"""Every circle of a node, and who the node's person is: kept on disk, indexed for quick questions."""

import dataclasses
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec

from coterie.access.circle import Author, Circle, CircleState, Member, found_circle
from coterie.access.circle_ops import NONCE_BYTES, Kind, OpId, Role, SignedOp, consent
from coterie.access.circle_vouched import (
    LostComputer,
    is_witnessed,
    own_computers,
    vouched_computers,
)
from coterie.access.names import distinct, is_meant
from coterie.apps.circles.disk import CircleDisk
from coterie.apps.context import Context
from coterie.decoding import FAULTS, decoder
from coterie.errors import StorageError, UsageError
from coterie.identity import PeerId
from coterie.private_file import write_private
from coterie.texts import tr
from coterie.which_one import the_one

NO_ROLE: tuple[tuple[str, str], ...] = ()
NO_PERSON: tuple[PeerId, ...] = ()
FELLOWS_MAX = 64  # computers of one person, lost ones too, that stand for one another; guess: 16 at once
UNBLOCKED_MAX = 1_024  # computers whose blocks the owner of this node undid; the oldest is forgotten; guess


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Who this node's person is; a file of the node. Bytes are empty where there is nothing.

    `own_circle`: the log of the person's devices. `paper`, `sealing_key`: see recovery.py; `version` of the deposit.
    `written`: the heads of that log of which contacts who were away got a letter.
    `unblocked`: computers that are not blocked here by these operations, whatever a circle says.
    """

    person: bytes
    own_circle: bytes = b""
    paper: bytes = b""
    sealing_key: bytes = b""
    version: int = 0
    cards_seen: list[bytes] = msgspec.field(default_factory=list)
    written: list[bytes] = msgspec.field(default_factory=list)
    unblocked: dict[bytes, list[bytes]] = msgspec.field(default_factory=dict)


class Block(msgspec.Struct, frozen=True):
    """Why a computer gets nothing here: its person, who has the name `by` in the log `where`, lists it as lost."""

    peer: PeerId
    by: str
    where: str
    lost: LostComputer

    def text(self) -> str:
        """For people."""
        end = tr("`coterie unblock {short}` ends that here", short=self.peer.short)
        return tr(
            "{by} took it off the list of computers as lost, in {where}; {end}",
            by=self.by,
            where=self.where,
            end=end,
        )


class CircleBook:
    """See the module's text. `writer.py` makes operations, and lets others know."""

    def __init__(self, context: Context) -> None:
        """Raises `StorageError` when something on disk is damaged."""
        self._context = context
        self._disk = CircleDisk(context.data.folder / "circles")
        self._path = context.data.folder / "identity"
        self.circles: dict[OpId, Circle] = self._disk.load()
        self.identity = _load_identity(self._path) or Identity(person=bytes(context.me.peer_id))
        self._roles: dict[PeerId, tuple[tuple[str, str], ...]] = {}
        self._persons: dict[PeerId, tuple[PeerId, ...]] = {}
        self._names: dict[PeerId, str] = {}
        self._blocks: dict[PeerId, Block] = {}
        self._fellows: dict[PeerId, tuple[PeerId, ...]] = {}
        self.refresh()

    # ---- who we are

    @property
    def person(self) -> PeerId:
        """The person this node belongs to: by default one of which it is the only device."""
        return PeerId(self.identity.person)

    def save(self, identity: Identity) -> None:
        """Another identity from now on."""
        write_private(self._path, msgspec.msgpack.encode(identity), noun="the identity")
        self.identity = identity

    def consent(self, person: bytes) -> bytes:
        """This node's signature that it belongs to `person`."""
        return consent(person, self._context.me.peer_id, self._context.me.sign)

    def author(self) -> Author:
        """This node, in the name of its person."""
        return Author(self._context.me.peer_id, self.person, self._context.me.sign)

    def own_circle(self) -> Circle | None:
        """The circle whose members are the computers of this person, if there is one."""
        return self.circles.get(self.identity.own_circle)

    # ---- the circles

    def create(self, title: str, name: str, *, is_own: bool = False) -> Circle:
        """A new circle with this person as its owner; `is_own`: the one of its computers."""
        author = dataclasses.replace(self.author(), consent=self.consent(self.person))
        circle = found_circle(author, title, name, at=_now_ms(), nonce=os.urandom(NONCE_BYTES))
        self._disk.keep(circle)
        self.circles[circle.id] = circle
        if is_own:
            self.save(msgspec.structs.replace(self.identity, own_circle=circle.id))
        self.refresh()
        return circle

    def write(self, circle: Circle, kind: Kind, author: Author | None = None, **fields: Any) -> SignedOp:
        """Make an operation; it is on disk when this returns. Errors as `Circle.write`."""
        signed = circle.write(author or self.author(), kind, _now_ms(), **fields)
        self._disk.keep(circle)
        self.refresh()
        return signed

    def keep(self, circle: Circle) -> None:
        """What came from others, and what `circle` has taken."""
        self.circles[circle.id] = circle
        self._disk.keep(circle)

    def joined(self) -> list[Circle]:
        """The circles that this node is in, but for that of its own devices; by name."""
        own = self._context.me.peer_id
        found = [c for c in self.circles.values() if c.id != self.identity.own_circle]
        return sorted((c for c in found if c.state.role(own) is not None), key=lambda c: (c.state.name, c.id))

    def find(self, text: str) -> Circle:
        """The circle of this name, or whose id begins so. Raises `NotFound`, `UsageError`."""
        named = [c for c in self.joined() if is_meant(text.strip(), c.state.name, circle_text(c.id))]
        found = named or [c for c in self.joined() if PeerId(c.id).matches(text)]
        labels = distinct([(circle_text(c.id), c.state.name, False) for c in found])
        nothing = tr("you are in no circle '{text}'; `coterie circle` lists them", text=text)
        return the_one(text, list(zip(labels, found, strict=True)), nothing)

    def me(self, circle: Circle) -> Member | None:
        """This node's person in `circle`."""
        return circle.state.member_of(self._context.me.peer_id)

    # ---- quick questions

    def refresh(self) -> None:
        """The circles have changed: work out the answers below anew."""
        roles: dict[PeerId, list[tuple[str, str]]] = {}
        names: dict[PeerId, str] = {}
        blocks: dict[PeerId, Block] = {}
        persons: dict[PeerId, dict[PeerId, None]] = {}
        self._fellows = self._read_own_logs(blocks)
        for circle in self.circles.values():
            state = circle.state
            if state.role(self._context.me.peer_id) is None:
                continue
            for peer, lost in state.lost.items():
                blocks[peer] = Block(peer, _name_in(state, lost.person), state.name, lost)
            for member in state.members():
                for device in member.devices:
                    roles.setdefault(device, []).append((circle_text(circle.id), member.role.name.lower()))
                    names.setdefault(device, member.called)
            for device, person in _computers(circle):
                persons.setdefault(device, {})[person] = None
        names.pop(self._context.me.peer_id, None)
        self._roles = {peer: tuple(those) for peer, those in roles.items()}
        self._persons = {peer: tuple(those) for peer, those in persons.items()}
        self._names.clear()
        self._names.update(names)  # in place: others hold a view
        self._blocks = {
            peer: block
            for peer, block in blocks.items()
            if peer not in roles and not self._is_unblocked(block) and peer != self._context.me.peer_id
        }

    def _read_own_logs(self, blocks: dict[PeerId, Block]) -> dict[PeerId, tuple[PeerId, ...]]:
        """By the own logs of other persons: the lost into `blocks`; for each computer all of its person, itself too.

        A computer that a thief's computer added is vouched for, but not in the log: it has no fellows.
        """
        fellows: dict[PeerId, tuple[PeerId, ...]] = {}
        for circle in self.circles.values():
            if not self._is_witnessed(circle):
                continue
            person, computers = own_computers(circle.log)
            those = tuple(PeerId(key) for key in list(computers)[:FELLOWS_MAX])
            in_use = (peer for peer in those if circle.state.role(peer) or peer in circle.state.lost)
            fellows.update(dict.fromkeys(in_use, those))
            for peer, lost in circle.state.lost.items():
                blocks[peer] = Block(
                    peer, _name_in(circle.state, person), "the list of its own computers", lost
                )
        return fellows

    def _is_witnessed(self, circle: Circle) -> bool:
        is_ours = circle.id == self.identity.own_circle
        return not is_ours and is_witnessed(circle.log, self._context.me.peer_id)

    def roles_of(self, peer: PeerId) -> tuple[tuple[str, str], ...]:
        """The circles that this node and `peer` are both in: id as text, and the role of `peer` there."""
        return self._roles.get(peer, NO_ROLE)

    def persons_of(self, peer: PeerId) -> tuple[PeerId, ...]:
        """The persons (their first computers) who say themselves that `peer` is theirs too.

        Where the person's own log is here, every computer that the person ever had stands for it.
        """
        return tuple(dict.fromkeys((*self._persons.get(peer, NO_PERSON), *self.fellows(peer))))

    def fellows(self, peer: PeerId) -> tuple[PeerId, ...]:
        """All computers that the person of `peer` ever vouched for, by its own log; empty where that is not here."""
        return self._fellows.get(peer, NO_PERSON)

    def forget_strangers(self, is_known: Callable[[PeerId], bool]) -> None:
        """Drop the own logs of persons of whom no computer is known any more."""
        before = len(self.circles)
        for circle in list(self.circles.values()):
            if not self._is_witnessed(circle):
                continue
            if not any(is_known(PeerId(key)) for key in own_computers(circle.log)[1]):
                del self.circles[circle.id]
                self._disk.forget(circle.id)
        if len(self.circles) != before:
            self.refresh()

    def names(self) -> Mapping[PeerId, str]:
        """The computers of everybody in a circle with this node, by the name of their person: a live view."""
        return MappingProxyType(self._names)

    # ---- who is blocked

    def blocked(self, peer: PeerId) -> str:
        """Why `peer` gets nothing at all: its person took it off the list of devices. Empty for everybody else."""
        block = self._blocks.get(peer)
        return block.text() if block is not None else ""

    def blocks(self) -> list[Block]:
        """Every computer that is blocked here, the latest last."""
        return sorted(self._blocks.values(), key=lambda block: (block.lost.at, block.peer))

    def unblock(self, block: Block) -> None:
        """From now on this computer is not blocked by what is known now; a later removal blocks it again."""
        unblocked = {k: v for k, v in self.identity.unblocked.items() if k != block.peer}
        unblocked[bytes(block.peer)] = [*self.identity.unblocked.get(block.peer, ()), *block.lost.removals]
        kept = dict(list(unblocked.items())[-UNBLOCKED_MAX:])
        self.save(msgspec.structs.replace(self.identity, unblocked=kept))
        self.refresh()

    def _is_unblocked(self, block: Block) -> bool:
        return {*block.lost.removals} <= {*self.identity.unblocked.get(block.peer, ())}


def _name_in(state: CircleState, person: PeerId) -> str:
    member = state.member(person)
    return member.name if member is not None else f"its owner {person.short}"


def _computers(circle: Circle) -> Iterator[tuple[PeerId, PeerId]]:
    """Each further computer of a member that the member itself added, and the member's first.

    Not those that somebody else added: an owner may add any computer in the name of anybody.
    """
    members = [member for member in circle.state.members() if member.devices != (member.person,)]
    vouched = vouched_computers(circle.log) if members else {}
    for member in members:
        own = vouched.get(bytes(member.person), {})
        yield from ((d, member.person) for d in member.devices if d != member.person and bytes(d) in own)


def circle_text(circle: OpId) -> str:
    """The id of a circle as people and policies write it."""
    return str(PeerId(circle))


def role_of(text: str) -> Role:
    """The role of this name. Raises `UsageError`."""
    try:
        return Role[text.strip().upper()]
    except KeyError:
        raise UsageError(tr("'{text}' is no role: guest, member or owner", text=text)) from None


@decoder(StorageError, "the identity")
def _load_identity(path: Path) -> Identity | None:
    try:
        return msgspec.msgpack.decode(path.read_bytes(), type=Identity)
    except FileNotFoundError:
        return None
    except (OSError, *FAULTS) as error:
        raise StorageError(
            tr("{path} is damaged ({error}); restore it from a backup", path=path, error=error)
        ) from error


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
