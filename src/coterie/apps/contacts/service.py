"""The contacts service of a node: who is known, who is being invited, joining others."""

import asyncio
import contextlib
import functools
import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import msgspec

from coterie.access.names import checked
from coterie.access.people import Source
from coterie.access.policy import Standing
from coterie.apps.contacts.book import Contact, ContactBook, ContactRecord
from coterie.apps.contacts.code import NUMBER_MAX, Code
from coterie.apps.contacts.core import (
    INVITATIONS_MAX,
    TRIES_MAX,
    Card,
    End,
    Ended,
    Forget,
    Invite,
    InviteCore,
    Keep,
    Kept,
    Opened,
    Withdraw,
    WrongTry,
)
from coterie.apps.contacts.greeter import Greeter
from coterie.apps.contacts.joining import Joining
from coterie.apps.contacts.meetings import TRIES, check_word, meeting_data, meeting_word
from coterie.apps.contacts.messages import ADDRESSES_MAX, PROTOCOL, Reason
from coterie.apps.contacts.results import ContactLine, ContactRemoved, ContactShown, Invited, Met, WrongCode
from coterie.apps.context import Context
from coterie.driver import Driver
from coterie.errors import (
    CloseCode,
    CoterieError,
    LimitExceeded,
    NotFound,
    PeerError,
    TransportError,
    UsageError,
)
from coterie.identity import PeerId
from coterie.machine import Emit, PeerDown, Received
from coterie.moments import iso
from coterie.net import Stream
from coterie.texts import tr
from coterie.wire import Invitation
from coterie.wire.frames import Message
from coterie.wire.knock import REFERENCE_BYTES
from coterie.wire.ticket import SECRET_BYTES

NEAR_NUMBER = 0  # announced like the numbers of codes, and never one of those
NEAR_MAX = 64  # strangers that one look finds; guess
MINUTES_MAX = 24 * 60.0  # guess: a code that waits for days is a code that is forgotten

log = logging.getLogger(__name__)


MetListener = Callable[[PeerId, bytes, bool], None]
"""(peer, purpose, whether we invited): called when two have met over an invitation, once the contact is stored."""


class OpenInvitation:
    """An invitation while its `async with` lasts. `invited` has all that the other side may need."""

    def __init__(
        self,
        invited: Invited,
        until: float,
        *,
        purpose: bytes = b"",
        met: Callable[[Met], None] = lambda met: None,
        secret: bytes = b"",
    ) -> None:
        self.invited = invited
        self.secret = secret
        self.purpose = purpose
        self.on_met = met
        self.until = until  # of the event loop's clock
        self._news: asyncio.Queue[WrongCode | Met | CoterieError] = asyncio.Queue()  # TRIES_MAX + 1 at most

    async def next(self) -> WrongCode | Met:
        """What happens next: a wrong try, or the end: the other one, met.

        Raises:
            NotFound: it expired.
        """
        news = await self._news.get()
        if isinstance(news, CoterieError):
            raise news
        return news

    async def met(self) -> Met:
        """Wait for the other side. Errors as `next`."""
        while not isinstance(news := await self.next(), Met):
            pass
        return news

    def tell(self, news: WrongCode | Met | CoterieError) -> None:
        """For the service: something happened."""
        self._news.put_nowait(news)


class ContactsService:
    """Made by the node. All methods belong to its event loop."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._book = ContactBook(context.data.records("contacts", ContactRecord, "contact"))
        self._core = InviteCore(context.me.peer_id, os.urandom)
        self._driver: Driver | None = None
        self._sessions: dict[int, tuple[Stream, asyncio.Future[int]]] = {}
        self._session_numbers = count(1)
        self._open: dict[int, OpenInvitation] = {}
        self._greeter = Greeter(context.me.peer_id)
        self._greeting = asyncio.Lock()
        self._near = 0  # how many want to be found by strangers here
        self._on_met: list[MetListener] = []
        self._on_removed: list[Callable[[PeerId], None]] = []
        context.people.register(
            Source(
                of="contact",
                is_chosen=True,
                names=self.names,
                standing=lambda peer: Standing(contact=self.is_contact(peer)),
                addresses=lambda peer: contact.addresses if (contact := self.get(peer)) is not None else (),
                records=lambda: (contact.record for contact in self.contacts() if contact.record),
            )
        )

    async def start(self) -> None:
        """Let strangers try to join: the code is their right, and without an invitation nothing fits."""
        handlers: dict[type, Callable[[Any], None]] = {End: self._end, Keep: self._keep, Emit: self._emit}
        self._driver = Driver(self._core, send=self._send, on_output=handlers)
        self._context.net.register(PROTOCOL, self._serve, strangers=True)
        self._context.net.admit_knocks(self._secrets_of)

    async def close(self) -> None:
        """Withdraw every invitation."""
        if self._driver is not None:
            self._driver.close()
            await self._driver.wait_closed()
        await self._greeter.close()

    def status(self) -> dict[str, int]:
        """Counts for `coterie status`."""
        return {"contacts": len(self._book), "invitations open": len(self._core.open_numbers)}

    # ---- who is known

    def is_contact(self, peer: PeerId) -> bool:
        """Whether `peer` and this node know each other. Fast: one look into a table."""
        return self._book.is_contact(peer)

    def contacts(self) -> list[Contact]:
        """Every contact, oldest first."""
        return self._book.all()

    def names(self) -> Mapping[PeerId, str]:
        """The name that each contact has here: a live view, as fast as `is_contact`."""
        return self._book.names

    def get(self, peer: PeerId) -> Contact | None:
        """The contact `peer`, if it is one."""
        return self._book.get(peer)

    def by_name(self, name: str) -> Contact | None:
        """The contact of this name; case does not matter."""
        return self._book.by_name(name)

    def find(self, text: str) -> Contact:
        """The contact with this name or peer id (a beginning will do). Raises `NotFound`, `UsageError`."""
        return self._book.find(text)

    def lines(self) -> list[ContactLine]:
        """The list for faces."""
        here = self._context.people.here()
        return [_line(contact, here) for contact in self._book.all()]

    def show(self, contact: str) -> ContactShown:
        """One contact with its id in words. Errors as `find`."""
        line, peer = _line(found := self._book.find(contact), None), found.peer
        return ContactShown(line.name, line.peer, peer.words, line.addresses, line.added)

    def rename(self, contact: str, name: str) -> ContactLine:
        """Call a contact by another name, here."""
        return _line(self._book.rename(contact, name), self._context.people.here())

    def remove(self, contact: str) -> ContactRemoved:
        """Forget a contact, and that it may come back by what it used. The other side is not told.

        Other apps may take further contacts away with it: other computers of the same person.
        """
        before = self._book.all()
        removed = self._book.remove(contact)
        self._feed(Forget(removed.peer))
        for listener in self._on_removed:
            listener(removed.peer)
        self._context.access.changed()
        also = [one.name for one in before if one.peer != removed.peer and not self.is_contact(one.peer)]
        return ContactRemoved(removed.name, str(removed.peer), also)

    # ---- inviting

    @contextlib.asynccontextmanager
    async def invite(
        self,
        *,
        name: str = "",
        minutes: float = 15.0,
        purpose: bytes = b"",
        join_with: str = "join",
        met: Callable[[Met], None] = lambda met: None,
    ) -> AsyncIterator[OpenInvitation]:
        """An invitation that is open while the block runs, for at most `minutes`.

        Args:
            name: what the other side calls this computer; its own name when empty.
            minutes: up to MINUTES_MAX.
            purpose: what an app invites to; told to the joiner when it has proven its right.
            join_with: the words of the command that takes the code, for people.
            met: with a `meetings.meeting_purpose`, called with who joined, before that one hears that it has; nobody
                becomes a contact.

        Raises:
            UsageError: not such a time or name.
            TransportError: offline.
            LimitExceeded: INVITATIONS_MAX are open.
        """
        if not 0 < minutes <= MINUTES_MAX:
            raise UsageError(
                tr(
                    "an invitation lasts up to {minutes_max:g} minutes, not {minutes:g}",
                    minutes_max=MINUTES_MAX,
                    minutes=minutes,
                )
            )
        await self._context.me.settled()
        own = msgspec.structs.replace(self._card(name), purpose=purpose)
        if self._driver is None or not own.addresses:
            raise TransportError(tr("this computer is on no network: nobody could join it"))
        if len(self._core.open_numbers) >= INVITATIONS_MAX:
            raise LimitExceeded(
                tr(
                    "{invitations_max} invitations are open already; let one of them end first",
                    invitations_max=INVITATIONS_MAX,
                )
            )
        code, secret = Code.make(self._free_number(), os.urandom), os.urandom(SECRET_BYTES)
        until = asyncio.get_running_loop().time() + 60 * minutes
        await self._greet(opening=True)
        word = meeting_word(purpose)
        invited = self._describe(code, secret, own, minutes, word or join_with)
        opened = OpenInvitation(invited, until, purpose=purpose, met=met, secret=secret)
        self._open[code.number] = opened
        try:
            tries = TRIES if word else TRIES_MAX
            self._driver.feed(Invite(code.number, code.secret, secret, own, until, tries, not word))
            self._announce()
            yield opened
        finally:
            del self._open[code.number]
            self._driver.feed(Withdraw(code.number))
            self._announce()
            await self._greet(opening=False)

    def _secrets_of(self, reference: bytes) -> list[bytes]:
        """What the ticket of the open invitation with this number shows."""
        return [o.secret for number, o in self._open.items() if number.to_bytes(REFERENCE_BYTES) == reference]

    def _card(self, name: str) -> Card:
        own_name = checked(name) if name else self._context.me.name
        return Card(own_name, tuple(self._context.me.addresses()[:ADDRESSES_MAX]))

    def _free_number(self) -> int:
        """Drawn at random, so that two inviters on one network seldom have the same."""
        taken = self._core.numbers
        free = [number for number in range(1, NUMBER_MAX + 1) if number not in taken]
        return free[int.from_bytes(os.urandom(4), "big") % len(free)]

    def _describe(self, code: Code, secret: bytes, own: Card, minutes: float, join_with: str) -> Invited:
        expires = datetime.now(UTC) + timedelta(minutes=minutes)
        outside = self._context.me.outside()
        return Invited(
            code=str(code),
            ticket=str(
                Invitation(code.number, self._context.me.peer_id, secret, self._context.me.ticket_addresses())
            ),
            at=list(self._greeter.addresses),
            minutes=minutes,
            expires=expires.isoformat(timespec="seconds"),
            join_with=join_with,
            outside="" if outside.reached == "yes" else outside.text(),
            offers_internet=outside.offers,
            note=self._context.me.outside_note(),
        )

    async def _greet(self, *, opening: bool) -> None:
        """Say who we are while anything is open."""
        async with self._greeting:
            if opening and not self._greeter.addresses:
                await self._greeter.open(self._context.me.addresses())
            elif not opening and not self._open:
                await self._greeter.close()

    def _announce(self) -> None:
        if self._context.net.neighbours is not None:
            near = [NEAR_NUMBER] if self._near else []
            self._context.net.neighbours.announce_invitations([*near, *self._core.open_numbers])

    # ---- what the core asks for

    async def _send(self, session: object, message: Message) -> None:
        held = self._sessions.get(session) if isinstance(session, int) else None
        if held is not None:
            await held[0].send(message)

    def _end(self, output: End) -> None:
        held = self._sessions.get(output.session)
        if held is not None and not held[1].done():
            held[1].set_result(output.close_code)

    def _keep(self, output: Keep) -> None:
        opened = self._open.get(output.number)
        try:
            if not output.is_contact:
                met = Met(output.card.name, str(output.peer), list(output.card.addresses))
                if opened is None:
                    raise NotFound(tr("the meeting is over"))
                opened.on_met(met)
                opened.tell(met)
            else:
                self._add(output.peer, output.card)
            if output.is_contact and not output.is_again:
                self._tell_met(output.peer, opened.purpose if opened else b"", invited=True)
        except CoterieError as error:
            log.warning("%s joined and cannot be stored: %s", output.peer.short, error)
            self._feed(Kept(output.session, is_stored=False))
        else:
            self._feed(Kept(output.session, is_stored=True))

    def _emit(self, output: Emit) -> None:
        event: WrongTry | Ended = output.event
        opened = self._open.get(event.number)
        if isinstance(event, Ended):
            self._announce()
        if opened is None:
            return
        match event:
            case WrongTry(_, peer, tries_left):
                opened.tell(WrongCode(self._context.people.name_of(peer), tries_left))
            case Ended(_, Reason.USED, PeerId() as peer) if (contact := self._book.get(peer)) is not None:
                opened.tell(_met(contact))
            case Ended():
                opened.tell(NotFound(tr("nobody joined in time: the invitation has expired; make a new one")))

    def _feed(self, event: object) -> None:
        if self._driver is not None:
            self._driver.feed(event)

    def _add(self, peer: PeerId, card: Card) -> Contact:
        contact = self._book.add(peer, card.name, card.addresses, card.record, time.time())
        self._context.access.changed()
        return contact

    async def _serve(self, stream: Stream) -> None:
        """One attempt to join, from its first message to the end that the core gives it."""
        session = next(self._session_numbers)
        ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._sessions[session] = (stream, ended)
        reader = asyncio.ensure_future(self._read(session, stream))
        try:
            self._feed(Opened(session, stream.peer))
            code = await ended
            if self._driver is not None:
                await self._driver.flush()
        finally:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
            del self._sessions[session]
            self._feed(PeerDown(session))
        if code != CloseCode.NORMAL:
            raise PeerError(f"the attempt of {stream.peer.short} to join ended", code)

    async def _read(self, session: int, stream: Stream) -> None:
        try:
            while (message := await stream.receive()) is not None:
                self._feed(Received(session, message))
        except CoterieError as error:
            log.debug("joining by %s: %s", stream.peer.short, error)
        self._feed(PeerDown(session))
        held = self._sessions[session][1]
        if not held.done():
            held.set_result(CloseCode.NORMAL)

    # ---- joining

    async def join(self, invitation: str, *, name: str = "", at: str = "") -> Met:
        """Join by a code or by the long form; then both sides know each other.

        Args:
            invitation: what `coterie invite` printed on the other computer.
            name: what the other side calls this computer; its own name when empty.
            at: where the inviter is, "ip:port", on networks where nothing is found by itself.

        Raises:
            UsageError: mistyped (it says what), or this node's own.
            NotFound: nobody invites, or the invitation is over.
            AccessDenied: a wrong code.
            PeerError: somebody else than the inviter answers.
            TransportError: the inviter is not reached.
        """
        check = functools.partial(check_word, word="")
        joining = Joining(self._context, invitation, self._card(name), at, check=check)
        peer, card = await joining.run()
        contact = self._add(peer, card)
        self._tell_met(peer, card.purpose, invited=False)
        return _met(contact)

    async def meet(self, invitation: str, word: str, *, at: str = "") -> tuple[Met, bytes]:
        """Meet over a code that is for the command `coterie WORD`, without becoming contacts; what it is to know.

        Errors as `join`; `UsageError` also for a code that is for another command.
        """
        check = functools.partial(check_word, word=word)
        joining = Joining(self._context, invitation, self._card(""), at, check=check)
        peer, card = await joining.run()
        addresses = list(dict.fromkeys((*card.addresses, *joining.addresses)))
        return Met(card.name, str(peer), addresses), meeting_data(card.purpose)

    @contextlib.contextmanager
    def near(self) -> Iterator[None]:
        """While the block runs, strangers on the local network find this computer by `find_near`."""
        self._near += 1
        self._announce()
        try:
            yield
        finally:
            self._near -= 1
            self._announce()

    async def find_near(self, seconds: float) -> dict[PeerId, Sequence[str]]:
        """Who can be found so, as is found within `seconds`, with addresses: a hint that anybody can fake."""
        found: dict[PeerId, Sequence[str]] = {}
        if self._context.net.neighbours is None:
            return found
        with contextlib.suppress(TimeoutError):
            async with (
                asyncio.timeout(seconds),
                contextlib.aclosing(self._context.net.neighbours.find_inviters(NEAR_NUMBER)) as coming,
            ):
                async for peer, addresses in coming:
                    if len(found) < NEAR_MAX and peer != self._context.me.peer_id:
                        found[peer] = addresses
        return found

    def on_met(self, listener: MetListener) -> None:
        """Call `listener` whenever this node has met another over an invitation of either."""
        self._on_met.append(listener)

    def on_removed(self, listener: Callable[[PeerId], None]) -> None:
        """Call `listener` with each contact that is removed from now on."""
        self._on_removed.append(listener)

    @contextlib.contextmanager
    def listening(self, listener: MetListener) -> Iterator[None]:
        """As `on_met`, while the block runs."""
        self._on_met.append(listener)
        try:
            yield
        finally:
            self._on_met.remove(listener)

    def learn(self, peer: PeerId, name: str, addresses: Sequence[str], record: bytes = b"") -> Contact:
        """Take over a contact that another computer of the same person made."""
        return self._add(peer, Card(name, tuple(addresses[:ADDRESSES_MAX]), record))

    def succeed(self, lost: PeerId, heir: PeerId) -> None:
        """A contact lost its computer, by its own word: another one of its computers takes the place and the name."""
        self._book.succeed(lost, heir)
        self._context.access.changed()

    def _tell_met(self, peer: PeerId, purpose: bytes, *, invited: bool) -> None:
        for listener in self._on_met:
            listener(peer, purpose, invited)


def _line(contact: Contact, here: Collection[PeerId] | None) -> ContactLine:
    added = iso(contact.added)
    is_here = None if here is None else contact.peer in here
    return ContactLine(contact.name, is_here, str(contact.peer), list(contact.addresses), added)


def _met(contact: Contact) -> Met:
    return Met(contact.name, str(contact.peer), list(contact.addresses))
