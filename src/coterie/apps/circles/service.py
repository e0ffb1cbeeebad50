"""The circles service of a node: its circles, who may come in, and the streams on which their logs spread."""

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from typing import Any

import msgspec

from coterie.access.circle import Circle, CircleState, Member
from coterie.access.circle_ops import Kind, OpId, Role, is_consent
from coterie.access.circle_revoked import revoked_keys
from coterie.access.circle_vouched import OWN_TITLE
from coterie.access.names import checked, distinct, is_meant, key_of, marked
from coterie.access.people import KnownCircle, Source
from coterie.access.policy import Standing
from coterie.apps.circles.admission import Purpose, To, read_purpose
from coterie.apps.circles.book import Block, CircleBook, circle_text, role_of
from coterie.apps.circles.core import Changed, Keep, SyncCore
from coterie.apps.circles.devices import Devices
from coterie.apps.circles.entering import Entering
from coterie.apps.circles.messages import PROTOCOL, Belong, Have, Ops, Want, check
from coterie.apps.circles.peers import Peers
from coterie.apps.circles.restore import RecoveryDesk
from coterie.apps.circles.results import (
    BlockedLine,
    CircleLine,
    CircleSaid,
    DeviceSaid,
    Joined,
    MemberLine,
)
from coterie.apps.circles.writer import ChangeListener, Changes, Writer
from coterie.apps.contacts.api import ContactsService, OpenInvitation
from coterie.apps.context import Context
from coterie.errors import (
    AccessDenied,
    CoterieError,
    LimitExceeded,
    NotFound,
    UsageError,
)
from coterie.identity import PeerId
from coterie.machine import Emit, Received
from coterie.moments import iso
from coterie.net import Stream
from coterie.services.mail.limits import LIFETIME_MAX_S as LETTER_MAX_S
from coterie.services.mail.protocol_letters import ProtocolLetters
from coterie.texts import tr
from coterie.which_one import the_one
from coterie.wire.frames import Message

MEET_EVERY_S = 20.0  # members that are not connected are tried; guess
MEET_AT_ONCE_MAX = 4
OPS_PER_LETTER_MAX = 16  # 32 kB, the latest; what is before them is asked for at the meeting
ADMIT_S = 60.0  # from meeting over an invitation to the answer of who was invited; guess

log = logging.getLogger(__name__)


class CirclesService:
    """Made by the node. All methods belong to its event loop."""

    def __init__(self, context: Context, contacts: ContactsService) -> None:
        self._context = context
        self.contacts = contacts
        self._book = CircleBook(context)
        self._peers = Peers(context)
        self._changes = Changes()
        self._writer = Writer(self._book, self._peers, self._changes)
        self._entering = Entering(context, self._book, contacts, self._peers)
        self._admitting: dict[PeerId, tuple[Purpose, float]] = {}
        self._is_writing = False
        self.devices = Devices(
            context, self._book, contacts, self._peers, writer=self._writer, entering=self._entering
        )
        self.recovery = RecoveryDesk(
            context, self._book, contacts, self._peers, writer=self._writer, devices=self.devices
        )
        for part in (
            self._rights_changed,
            self.devices.changed,
            self.recovery.changed,
            self._entering.changed,
        ):
            self._changes.follow(part)
        context.people.register(
            Source(
                of="circle",
                names=self.names,
                standing=lambda peer: Standing(
                    contact=self._is_of_contact(peer),
                    circles=self.roles_of(peer),
                    blocked=self.blocked(peer),
                    persons=self.persons_of(peer),
                ),
                circles=lambda: (KnownCircle(circle_text(state.id), state.name) for state in self.states()),
            )
        )

    async def start(self) -> None:
        """Speak with members, and listen to everybody: who is no member hears nothing back."""
        self._book.forget_strangers(self._is_known)
        core = SyncCore(
            self._context.me.peer_id,
            self._book.circles,
            random.SystemRandom(),
            is_kin=self.devices.is_kin,
            may_hear=lambda circle, peer: (
                circle == self._book.identity.own_circle and self._context.people.is_known(peer)
            ),
            is_known=self._is_known,
        )
        handlers: dict[type, Callable[[Any], None]] = {Keep: self._keep, Emit: self._emit}
        self._peers.run(core, handlers)
        self.contacts.on_met(self._met)
        self.contacts.on_removed(self._removed)
        self._letters = ProtocolLetters(self._context.mail, PROTOCOL, self._heard)
        self._context.net.register(PROTOCOL, self._serve, strangers=True)
        self._context.net.watch(self._peer_up, self._peer_down)
        self._context.jobs.keep(self._keep_meeting, "meeting members")
        self._start_writing()

    async def close(self) -> None:
        """Stop speaking; everything is on disk already."""
        await self._peers.close()

    def status(self) -> dict[str, int]:
        """Counts for `coterie status`."""
        return {"circles": len(self._book.joined()), "computers of yours": self.devices.count()}

    # ---- quick questions, for policy

    def roles_of(self, peer: PeerId) -> tuple[tuple[str, str], ...]:
        """See `CircleBook.roles_of`."""
        return self._book.roles_of(peer)

    def blocked(self, peer: PeerId) -> str:
        """See `CircleBook.blocked`."""
        return self._book.blocked(peer)

    def _is_known(self, peer: PeerId) -> bool:
        return self.contacts.is_contact(peer) or bool(self.roles_of(peer))

    def _is_of_contact(self, peer: PeerId) -> bool:
        """Whether `peer` is a computer of a contact, by the contact's own log: what one of them is, all are."""
        return any(self.contacts.is_contact(fellow) for fellow in self._book.fellows(peer))

    def _follow_contacts(self) -> None:
        """A contact whose computer is lost is another one of its computers from now on."""
        for block in self._book.blocks():
            if not self.contacts.is_contact(block.peer):
                continue
            heirs = [f for f in self._book.fellows(block.peer) if self._is_heir(f)]
            heir = heirs[-1] if heirs else None  # the latest
            if heir is not None:
                self.contacts.succeed(block.peer, heir)

    def _is_heir(self, peer: PeerId) -> bool:
        is_in_use = bool(self._book.fellows(peer)) and not self._book.blocked(peer)
        return is_in_use and not self.contacts.is_contact(peer)

    def names(self) -> Mapping[PeerId, str]:
        """See `CircleBook.names`."""
        return self._book.names()

    def persons_of(self, peer: PeerId) -> tuple[PeerId, ...]:
        """See `CircleBook.persons_of`."""
        return self._book.persons_of(peer)

    def states(self) -> list[CircleState]:
        """The circles that this node is in."""
        return [circle.state for circle in self._book.joined()]

    def on_change(self, listener: ChangeListener) -> None:
        """Call `listener(circle id)` after every change of a circle, by whomever."""
        self._changes.follow(listener)

    def revoke(self, revoked: bytes, concerned: Collection[PeerId] = ()) -> list[str]:
        """Let circles carry the revocation of a grant, an opaque id; the names of those that do.

        They are that of our own computers, and each that has somebody else of `concerned` in it.
        """
        own, told = self._book.own_circle(), []
        for circle in (*([own] if own is not None else []), *self._book.joined()):
            found = (circle.state.member_of(peer) for peer in concerned)
            others = [member for member in found if member not in (None, self._book.me(circle))]
            if not others and circle is not own:
                continue
            try:
                self._writer.write(circle, Kind.REVOKE, revoked=(revoked,))
                told.append(circle.state.name)
            except (AccessDenied, LimitExceeded) as error:
                log.warning("%s does not carry a revocation: %s", circle.state.name, error)
        return told

    def revoked(self) -> dict[bytes, dict[PeerId, None]]:
        """Every id that a circle of ours revokes, with the keys in whose name: see `circle_revoked.py`."""
        found: dict[bytes, dict[PeerId, None]] = {}
        for circle in self._book.circles.values():
            for one, keys in revoked_keys(circle.log).items() if circle.state.revocations else ():
                found.setdefault(one, {}).update(keys)
        return found

    # ---- circles

    def lines(self) -> list[CircleLine]:
        """The list for faces."""
        joined = self._book.joined()
        labels = distinct([(circle_text(c.id), c.state.name, False) for c in joined])
        return [self._line(circle, label) for circle, label in zip(joined, labels, strict=True)]

    def create(self, name: str) -> CircleLine:
        """A new circle called `name`, owned by this node's person."""
        wanted = checked(name)
        if key_of(wanted) == key_of(OWN_TITLE):
            raise UsageError(
                tr(
                    "'{own_title}' is the list of your own computers: choose another name",
                    own_title=OWN_TITLE,
                )
            )
        if any(key_of(circle.state.name) == key_of(wanted) for circle in self._book.joined()):
            raise UsageError(tr("you are in a circle '{name}' already: choose another name", name=name))
        circle = self._writer.create(wanted, self._context.me.name)
        return self._line(circle, circle.state.name)

    def title(self, circle: str) -> str:
        """What the circle is called. Raises `NotFound`."""
        return self._book.find(circle).state.name

    def members(self, circle: str) -> list[MemberLine]:
        """Everybody in a circle."""
        found = self._book.find(circle)
        return [self._member_line(member) for member in found.state.members()]

    def set_role(self, circle: str, member: str, role: str) -> CircleSaid:
        """Give a member another role; owners only."""
        found, wanted = self._owned(circle, "change roles in it"), role_of(role)
        who = self._member(found, member)
        if who.role == wanted:
            raise UsageError(tr("{who} has the role {role} already", who=who.name, role=role))
        self._refuse_ownerless(found, who, wanted)
        self._writer.write(found, Kind.ROLE, subject=who.person, role=wanted)
        return CircleSaid(found.state.name, f"{who.name} is {role} of {found.state.name} now")

    def remove(self, circle: str, member: str) -> CircleSaid:
        """Remove a member with all its computers; owners only."""
        found = self._owned(circle, "remove anybody from it")
        who = self._member(found, member)
        if who == self._book.me(found):
            raise UsageError(tr("to leave a circle yourself use `coterie circle leave`"))
        self._writer.write(found, Kind.REMOVE, subject=who.person)
        return CircleSaid(found.state.name, f"{who.name} is no longer in {found.state.name}")

    def leave(self, circle: str) -> CircleSaid:
        """Leave a circle with all computers of this person."""
        found = self._book.find(circle)
        me = self._book.me(found)
        if me is not None:
            self._refuse_ownerless(found, me, None)
        name = found.state.name
        self._writer.write(found, Kind.LEAVE)
        return CircleSaid(name, f"You are no longer in {name}")

    def rename(self, circle: str, name: str, member: str = "") -> CircleSaid:
        """Rename the circle, or a member of it: oneself, or as an owner anybody."""
        found, name = self._book.find(circle), checked(name)
        if not member:
            self._owned(circle, "rename it")
            self._writer.write(found, Kind.TITLE, title=name)
            return CircleSaid(name, f"The circle {circle} is called {name} now")
        who = self._member(found, member)
        if who != self._book.me(found):
            self._owned(circle, "rename others in it")
        self._writer.write(found, Kind.RENAME, subject=who.person, name=name)
        return CircleSaid(found.state.name, f"{who.name} is called {name} now")

    def _member(self, circle: Circle, text: str) -> Member:
        """The member of this name or id in the circle, or else of this name among our contacts. Raises `NotFound`."""
        try:
            return circle.state.find(text)
        except NotFound as error:
            member = None
            with contextlib.suppress(NotFound, UsageError):
                member = circle.state.member_of(self._context.people.find(text.strip()))
            if member is None:
                raise NotFound(
                    tr(
                        "{error}; `coterie circle members {name}` shows who is",
                        error=error,
                        name=circle.state.name,
                    )
                ) from None
            return member

    def _owned(self, circle: str, deed: str) -> Circle:
        """The circle, if this node's person owns it. Raises `AccessDenied` with the `deed` that owners only may."""
        found = self._book.find(circle)
        me = self._book.me(found)
        if me is None or me.role != Role.OWNER:
            raise AccessDenied(
                tr(
                    "only owners of {name} {deed}; `coterie circle members` shows who they are",
                    name=found.state.name,
                    deed=deed,
                )
            )
        return found

    def _refuse_ownerless(self, circle: Circle, who: Member, role: Role | None) -> None:
        """An owner who is the last one stays one while anybody else is there."""
        others = [m for m in circle.state.members() if m.person != who.person]
        if Role.OWNER in (role, *(m.role for m in others)) or who.role != Role.OWNER or not others:
            return
        raise UsageError(
            tr(
                "{who} is the only owner of {name}: make another member owner first (`coterie circle "
                "role`), for nobody could add anybody after that",
                who=who.name,
                name=circle.state.name,
            )
        )

    # ---- who is blocked

    def blocked_lines(self) -> list[BlockedLine]:
        """The computers that get nothing here, for faces."""
        return [
            BlockedLine(
                str(block.peer),
                self._called(block),
                block.by,
                block.where,
                iso(block.lost.at / 1000),
            )
            for block in self._book.blocks()
        ]

    def _called(self, block: Block) -> str:
        """What a blocked computer is called here; else the name of its person, with its mark."""
        return self._context.people.called(block.peer) or marked(block.by, block.peer)

    def unblock(self, text: str) -> DeviceSaid:
        """End the block of the computer with this name or id (a beginning will do). Raises `NotFound`, `UsageError`."""
        found = [
            block
            for block in self._book.blocks()
            if block.peer.matches(text) or is_meant(text.strip(), self._called(block), str(block.peer))
        ]
        nothing = tr(
            "no computer '{text}' is blocked here; `coterie blocked` lists those that are", text=text
        )
        block = the_one(text, [(block.peer.short, block) for block in found], nothing)
        self._book.unblock(block)
        self._context.access.changed()
        return DeviceSaid(
            str(block.peer), f"{block.peer.short} is no longer blocked on this computer; elsewhere it may be"
        )

    # ---- coming in

    @contextlib.asynccontextmanager
    async def invite(
        self, circle: str, *, role: str = "member", name: str = "", minutes: float = 15.0
    ) -> AsyncIterator[OpenInvitation]:
        """An invitation into a circle; see `ContactsService.invite`. Raises `AccessDenied` for who is no owner."""
        found = self._owned(circle, "invite into it")
        purpose = Purpose(To.CIRCLE, found.id, role_of(role), found.state.name, bytes(self._book.person))
        packed = purpose.pack()
        async with self.contacts.invite(
            name=name, minutes=minutes, purpose=packed, join_with="circle join"
        ) as opened:
            yield opened

    async def join(self, invitation: str, *, name: str = "", at: str = "") -> Joined:
        """Join a circle by an invitation. Errors as `ContactsService.join`; `NotFound` when it is to no circle."""
        purpose = await self._entering.meet(To.CIRCLE, invitation, name=name, at=at)
        circle = await self._entering.arrived(purpose.circle)
        member = self._book.me(circle)
        others = [m.name for m in circle.state.members() if m != member]
        role = member.role.name.lower() if member is not None else ""
        return Joined(circle.state.name, circle_text(circle.id), role, others)

    def _met(self, peer: PeerId, raw: bytes, invited: bool) -> None:
        """Somebody met over our invitation: remember to what, until the answer comes."""
        purpose = read_purpose(raw) if invited else None
        now = asyncio.get_running_loop().time()
        self._admitting = {p: entry for p, entry in self._admitting.items() if entry[1] > now}
        if purpose is not None:
            self._admitting[peer] = (purpose, now + ADMIT_S)
        self.recovery.contacts_changed()
        self.devices.share_contacts()

    def _removed(self, peer: PeerId) -> None:
        """A contact was removed, with all computers of its person: none is let in by what it was invited to before."""
        self._admitting.pop(peer, None)
        self.devices.forget(peer)
        fellows = self._book.fellows(peer)
        if self._context.me.peer_id in fellows:
            return
        for fellow in fellows:  # what one of them is, all are: left here, one would bring the others back
            if self.contacts.is_contact(fellow):
                self.contacts.remove(str(fellow))

    def _belongs(self, peer: PeerId, message: Belong) -> None:
        """The answer of who came over our invitation: it becomes a member, or a device. Once."""
        purpose, until = self._admitting.pop(peer, (None, 0.0))
        if purpose is None or until < asyncio.get_running_loop().time():
            return
        circle = self._book.circles.get(purpose.circle)
        if circle is None:
            return
        if purpose.to == To.DEVICE:
            self.devices.admit(peer, message)
            return
        if not is_consent(message.person, peer, message.consent):
            raise AccessDenied(
                tr("{short} did not agree to be a computer of the person it names", short=peer.short)
            )
        for removed in circle.log.unconfirmed():
            if removed != message.person:
                self._writer.write(circle, Kind.REMOVE, subject=removed)
        contact = self.contacts.get(peer)
        self._writer.write(
            circle,
            Kind.ADD,
            subject=message.person,
            device=peer,
            role=purpose.role,
            name=contact.name if contact is not None else peer.short,
            consent=message.consent if peer != message.person else b"",
        )

    # ---- streams

    async def _serve(self, stream: Stream) -> None:
        """All that one peer says, until it ends."""
        while (message := await stream.receive()) is not None:
            assert isinstance(message, Message)  # noqa: S101 - the protocol has no bulk kinds
            check(message)
            match message:
                case Have() | Want() | Ops():
                    self._peers.feed(Received(stream.peer, message))
                case Belong():
                    self._belong_safely(stream.peer, message)
                case _ if not self.devices.take(stream.peer, message):
                    await self.recovery.take(stream.peer, message)

    def _belong_safely(self, peer: PeerId, message: Belong) -> None:
        try:
            self._belongs(peer, message)
        except CoterieError as error:
            log.warning("%s was invited and cannot be added: %s", peer.short, error)

    def _peer_up(self, peer: PeerId) -> None:
        self._peers.come(peer)
        self.recovery.peer_up(peer)
        self.devices.peer_up(peer)

    def _peer_down(self, peer: PeerId) -> None:
        self._peers.go(peer)
        self.recovery.peer_down(peer)
        self.devices.peer_down(peer)

    async def _keep_meeting(self) -> None:
        """Be connected to some members of each circle."""
        chance = random.SystemRandom()
        while True:
            up = dict.fromkeys(self._peers.up)
            absent = [peer for peer in self._book.names() if peer not in up]
            chosen = chance.sample(absent, min(MEET_AT_ONCE_MAX, len(absent)))
            await asyncio.gather(*(self._try_connect(peer) for peer in chosen))
            await asyncio.sleep(MEET_EVERY_S * chance.uniform(0.5, 1.5))

    def _start_writing(self) -> None:
        own = self._book.own_circle()
        if own is not None and not self._is_writing and self._heads_of(own) != self._book.identity.written:
            self._is_writing = True
            self._context.jobs.start(self._write_to_contacts(own), "writing to contacts")

    async def _write_to_contacts(self, own: Circle) -> None:
        """Those who are away trust a computer that was lost until they hear of it: they get a letter."""
        try:
            while (heads := self._heads_of(own)) != self._book.identity.written:
                known = self._book.identity.written
                ops = own.log.missing_at(known, heads, OPS_PER_LETTER_MAX, latest=True)
                if len(own.log) > 1 and ops and ops[-1].op.at / 1000 > time.time() - LETTER_MAX_S:
                    up = self._peers.up
                    absent = [contact.peer for contact in self.contacts.contacts() if contact.peer not in up]
                    news = Ops(own.id, [signed.raw for signed in ops])
                    await self._letters.send(absent, news, stream="own computers")
                self._book.save(msgspec.structs.replace(self._book.identity, written=heads))
        finally:
            self._is_writing = False

    def _heads_of(self, own: Circle) -> list[OpId]:
        return list(own.log.heads())

    def _heard(self, peer: PeerId, message: Message) -> None:
        """A letter: operations of the own log of a contact. What is missing before them is asked for."""
        check(message)
        if isinstance(message, Ops):
            self._peers.feed(Received(peer, message))

    async def _try_connect(self, peer: PeerId) -> None:
        with contextlib.suppress(CoterieError):
            await self._context.net.connect(peer)

    # ---- what the core asks for

    def _keep(self, output: Keep) -> None:
        self._book.keep(output.circle)
        self._book.refresh()

    def _emit(self, output: Emit) -> None:
        event: Changed = output.event
        if not event.ops:  # nothing was kept, but what is here counts otherwise
            self._book.refresh()
        self._changes.tell(event.circle)

    def _rights_changed(self, circle: OpId) -> None:
        """A circle is not as it was: rights end at once, before anybody else hears of it."""
        self._book.forget_strangers(self._is_known)
        self._context.access.changed()
        self._follow_contacts()
        self._start_writing()

    # ---- lines

    def _line(self, circle: Circle, label: str) -> CircleLine:
        me = self._book.me(circle)
        role = me.role.name.lower() if me is not None else "none"
        return CircleLine(label, circle_text(circle.id), role, len(circle.state.members()))

    def _member_line(self, member: Member) -> MemberLine:
        own = self._context.me.peer_id in member.devices
        devices = [str(device) for device in member.devices]
        blocked = [str(block.peer) for block in self._book.blocks() if block.lost.person == member.person]
        return MemberLine(member.name, member.role.name.lower(), str(member.person), devices, own, blocked)
