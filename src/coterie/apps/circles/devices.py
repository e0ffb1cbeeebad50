"""The computers of one person: added by an invitation, kept the same in every circle, removed when they are lost."""

import contextlib
import logging
import shlex
from collections.abc import AsyncIterator, Collection, Iterable

import msgspec

from coterie.access.circle import Circle, Member
from coterie.access.circle_facts import ABOUT_DEVICES
from coterie.access.circle_ops import Kind, OpId, Role, is_consent
from coterie.access.circle_vouched import OWN_TITLE
from coterie.access.names import checked, is_meant
from coterie.apps.circles.admission import Purpose, To
from coterie.apps.circles.book import CircleBook
from coterie.apps.circles.entering import Entering
from coterie.apps.circles.messages import CARDS_MAX, Belong, Cards
from coterie.apps.circles.peers import Peers
from coterie.apps.circles.recovery import Card, read_card
from coterie.apps.circles.results import DeviceLine, DeviceSaid
from coterie.apps.circles.writer import Writer
from coterie.apps.contacts.api import ContactsService, OpenInvitation
from coterie.apps.context import Context
from coterie.errors import AccessDenied, CoterieError, NotFound, PeerError, UsageError
from coterie.identity import PeerId
from coterie.identity.peer_id import is_key
from coterie.texts import tr
from coterie.which_one import the_one
from coterie.wire.frames import Message

SEEN_MAX = 4_096  # contacts of other devices that were taken over once; a removed one does not come back

log = logging.getLogger(__name__)


class Devices:
    """Part of the circles service."""

    def __init__(
        self,
        context: Context,
        book: CircleBook,
        contacts: ContactsService,
        peers: Peers,
        *,
        writer: Writer,
        entering: Entering,
    ) -> None:
        self._context = context
        self._book = book
        self._contacts = contacts
        self._peers = peers
        self._writer = writer
        self._entering = entering
        self._adopting: PeerId | None = None  # who lets us in as a device, until its log says so
        self._is_settling = False
        self._told: dict[PeerId, bytes] = {}

    # ---- who belongs to us

    def _me(self) -> Member | None:
        own = self._book.own_circle()
        return own.state.member(self._book.person) if own is not None else None

    def own(self) -> list[DeviceLine]:
        """Every computer and recovery phrase of this person; empty while there is only this computer."""
        me = self._me()
        if me is None:
            return []
        people, here = self._context.people, self._context.people.here()
        papers = [DeviceLine("", "recovery phrase", None, str(paper)) for paper in me.papers]
        return [self._line(device, people.name_of(device), here) for device in me.devices] + papers

    def count(self) -> int:
        """How many computers this person has."""
        me = self._me()
        return len(me.devices) if me is not None else 1

    def lines(self) -> list[DeviceLine]:
        """The list for faces."""
        return self.own() or [self._line(self._context.me.peer_id, "", None)]

    def _line(self, device: PeerId, name: str, here: Collection[PeerId] | None) -> DeviceLine:
        if device == self._context.me.peer_id:
            return DeviceLine(self._context.me.name, "computer", True, str(device), True)
        return DeviceLine(name, "computer", None if here is None else device in here, str(device))

    def _find(self, text: str) -> PeerId:
        """The computer of this person with this name here, or whose id begins so. Raises `NotFound`, `UsageError`."""
        me, people = self._me(), self._context.people
        mine = [*(me.devices if me is not None else ()), self._context.me.peer_id]
        called = {
            one: self._context.me.name if one == self._context.me.peer_id else people.name_of(one)
            for one in mine
        }
        found = [one for one, name in called.items() if is_meant(text, name, str(one))]
        found = found or [one for one in called if one.matches(text)]
        nothing = tr("you have no computer '{text}'; `coterie devices` lists them", text=text)
        return the_one(text, [(one.short, one) for one in found], nothing)

    def rename(self, device: str, name: str) -> DeviceSaid:
        """Call another computer of this person by another name, here. Raises `NotFound`, `UsageError`."""
        found = self._find(device)
        if found == self._context.me.peer_id:
            raise UsageError(
                tr(
                    "this is that computer: name it with `coterie config set name {checked}`",
                    checked=shlex.quote(checked(name)),
                )
            )
        if not self._contacts.is_contact(found):
            self._contacts.learn(found, checked(name), ())
        line = self._contacts.rename(str(found), name)
        return DeviceSaid(str(found), f"That computer of yours is called {line.name} here now")

    def is_kin(self, peer: PeerId) -> bool:
        """Whether `peer` is another computer of this person."""
        me = self._me()
        return peer == self._adopting if me is None else peer in me.devices

    def kin(self) -> list[PeerId]:
        """The other computers of this person, here or not."""
        me = self._me()
        return [peer for peer in me.devices if peer != self._context.me.peer_id] if me is not None else []

    # ---- adding one

    @contextlib.asynccontextmanager
    async def invite(self, *, minutes: float = 15.0) -> AsyncIterator[OpenInvitation]:
        """An invitation to be a computer of this person."""
        own = self._writer.own_circle(self._context.me.name)
        purpose = Purpose(To.DEVICE, own.id, Role.OWNER, OWN_TITLE, bytes(self._book.person))
        packed = purpose.pack()
        async with self._contacts.invite(minutes=minutes, purpose=packed, join_with="devices join") as opened:
            yield opened

    def admit(self, peer: PeerId, message: Belong) -> None:
        """`peer` came over that invitation and agrees. Raises `AccessDenied` when it agrees to something else."""
        own = self._writer.own_circle(self._context.me.name)
        if message.person != self._book.person or not is_consent(message.person, peer, message.consent):
            raise AccessDenied(tr("{short} did not agree to be a computer of this person", short=peer.short))
        self._writer.write(own, Kind.ADD_DEVICE, device=peer, consent=message.consent)
        self.share_contacts()

    async def join(self, invitation: str, *, at: str = "") -> DeviceSaid:
        """Make this computer one of the person who invites. Errors as `CirclesService.join`.

        Raises:
            UsageError: it belongs to somebody with circles already.
        """
        if self._book.joined() or len(self.own()) > 1:
            raise UsageError(tr("this computer is in circles already: leave them first, or use a fresh home"))
        purpose = await self._entering.meet(To.DEVICE, invitation, at=at, before=self._adopt)
        try:
            await self._entering.arrived(purpose.circle)
        finally:
            self._adopting = None
        return DeviceSaid(
            str(self._context.me.peer_id), "This computer belongs to you now, with all your circles"
        )

    def _adopt(self, peer: PeerId, purpose: Purpose) -> None:
        self._adopting = peer
        changed = msgspec.structs.replace(
            self._book.identity, person=purpose.person, own_circle=purpose.circle
        )
        self._book.save(changed)

    # ---- losing one

    def remove(self, device: str) -> DeviceSaid:
        """Take a computer off the list, here and in every circle. Raises `NotFound`, `UsageError`."""
        lost = self._find(device)
        name = self._context.people.name_of(lost)
        if lost == self._context.me.peer_id:
            raise UsageError(tr("this is that computer: remove it from another one of yours"))
        own = self._writer.own_circle(self._context.me.name)
        self._writer.write(own, Kind.REMOVE_DEVICE, subject=self._book.person, device=lost)
        self.settle()
        if self._contacts.is_contact(lost):
            self._contacts.remove(str(lost))
        self._context.access.changed()
        return DeviceSaid(str(lost), f"{name} is no longer one of your computers, in any circle")

    # ---- the same everywhere

    def changed(self, circle: OpId) -> None:
        """A circle is not as it was."""
        self.settle()

    def settle(self) -> None:
        """Every circle lists the same computers of this person as its own log does."""
        own, me = self._book.own_circle(), self._me()
        if own is None or me is None or self._is_settling:
            return
        self._is_settling = True
        try:
            for circle in self._book.joined():
                self._settle_in(circle, own, me)
        finally:
            self._is_settling = False

    def _settle_in(self, circle: Circle, own: Circle, me: Member) -> None:
        there = self._book.me(circle)
        if there is None or there.person != me.person:
            return
        try:
            for key in (*me.devices, *me.papers):
                if key not in there.devices and key not in there.papers:
                    agreed = _consent_in(own, key)
                    self._writer.write(
                        circle, Kind.ADD_DEVICE, device=key, consent=agreed, is_paper=key in me.papers
                    )
            for key in there.devices:
                if own.state.is_removed(key):
                    self._writer.write(circle, Kind.REMOVE_DEVICE, subject=me.person, device=key)
        except CoterieError as error:
            log.warning("the computers in %s are not as they should be: %s", circle.state.name, error)

    # ---- contacts, on every one of them

    def peer_up(self, peer: PeerId) -> None:
        """A peer is connected."""
        if self.is_kin(peer):
            self.share_contacts()

    def peer_down(self, peer: PeerId) -> None:
        """It no longer is."""
        self._told.pop(peer, None)

    def cards(self) -> list[Card]:
        """The contacts of this node, as they travel."""
        return [Card(bytes(c.peer), c.name, list(c.addresses), c.record) for c in self._contacts.contacts()]

    def share_contacts(self) -> None:
        """Tell the other computers of this person who is connected what they may not know."""
        kin = [peer for peer in self._peers.up if self.is_kin(peer) and peer != self._context.me.peer_id]
        if not kin:
            return
        packed = [msgspec.msgpack.encode(card) for card in self.cards()]
        identity = self._book.identity
        for start in range(0, max(1, len(packed)), CARDS_MAX):
            message = Cards(packed[start : start + CARDS_MAX], identity.paper, identity.sealing_key)
            digest = msgspec.msgpack.encode(message)
            for peer in kin:
                if self._told.get(peer) != digest:
                    self._told[peer] = digest
                    self._peers.later(peer, message)

    def take(self, peer: PeerId, message: Message) -> bool:
        """Contacts from another computer of this person; False for a message of another sort."""
        if not isinstance(message, Cards):
            return False
        if self.is_kin(peer):
            with contextlib.suppress(PeerError):
                self.adopt_cards([read_card(raw) for raw in message.cards])
            if message.paper and not self._book.identity.paper:
                changed = msgspec.structs.replace(
                    self._book.identity, paper=message.paper, sealing_key=message.sealing_key
                )
                self._book.save(changed)
        return True

    def forget(self, peer: PeerId) -> None:
        """A contact was removed here: the card of it that another computer still has does not bring it back."""
        self._note_seen([*self._book.identity.cards_seen, bytes(peer)])

    def _note_seen(self, peers: Iterable[bytes]) -> None:
        kept = list(dict.fromkeys(reversed(list(peers))))[:SEEN_MAX][
            ::-1
        ]  # the latest, where there are too many
        if kept != self._book.identity.cards_seen:
            self._book.save(msgspec.structs.replace(self._book.identity, cards_seen=kept))

    def adopt_cards(self, cards: list[Card]) -> int:
        """Take contacts over that were never here; how many."""
        seen = dict.fromkeys(self._book.identity.cards_seen)
        taken = 0
        for card in cards:
            if len(card.peer) != len(self._context.me.peer_id) or card.peer in seen or not is_key(card.peer):
                continue
            seen[card.peer] = None
            peer = PeerId(card.peer)
            if peer != self._context.me.peer_id and not self._contacts.is_contact(peer):
                self._contacts.learn(peer, card.name, card.addresses, card.record)
                taken += 1
        self._note_seen(seen)
        return taken


def _consent_in(own: Circle, key: PeerId) -> bytes:
    """The signature by which `key` agreed to belong to this person."""
    for signed in own.log.ops:
        if signed.op.kind in ABOUT_DEVICES and signed.op.device == key and signed.op.consent:
            return signed.op.consent
    raise NotFound(tr("{short} has not said that it is one of your computers", short=key.short))
