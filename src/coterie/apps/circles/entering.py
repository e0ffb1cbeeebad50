"""Coming in over an invitation: it is answered, and waited for until the log is here."""

import asyncio
from collections.abc import Callable

from coterie.access.circle import Circle
from coterie.access.circle_ops import OpId
from coterie.apps.circles.admission import Purpose, To, read_purpose
from coterie.apps.circles.book import CircleBook
from coterie.apps.circles.core import Expect
from coterie.apps.circles.messages import Belong
from coterie.apps.circles.peers import Peers
from coterie.apps.contacts.api import ContactsService
from coterie.apps.context import Context
from coterie.errors import NotFound, TransportError
from coterie.identity import PeerId
from coterie.texts import tr

JOINED_S = 20.0  # for the log of a circle to arrive after the answer; guess


class Entering:
    """For the parts of the circles service."""

    def __init__(self, context: Context, book: CircleBook, contacts: ContactsService, peers: Peers) -> None:
        self._context = context
        self._book = book
        self._contacts = contacts
        self._peers = peers
        self._news = asyncio.Condition()

    async def meet(
        self,
        to: To,
        invitation: str,
        *,
        name: str = "",
        at: str = "",
        before: Callable[[PeerId, Purpose], None] = lambda peer, purpose: None,
    ) -> Purpose:
        """Join over an invitation that is to a circle, or to be a device; answer it, after `before`."""
        found: list[Purpose] = []

        def note(peer: PeerId, raw: bytes, invited: bool) -> None:
            purpose = None if invited else read_purpose(raw)
            if purpose is not None and purpose.to == to:
                found.append(purpose)

        with self._contacts.listening(note):
            met = await self._contacts.join(invitation, name=name, at=at)
        if not found:
            what = "into a circle" if to == To.CIRCLE else "to be one of somebody's computers"
            raise NotFound(
                tr(
                    "you and {met} know each other now, but the invitation was not {what}",
                    met=met.name,
                    what=what,
                )
            )
        peer = PeerId.parse(met.peer)
        person = found[0].person if to == To.DEVICE else self._book.person
        before(peer, found[0])
        self._peers.feed(Expect(found[0].circle, peer))
        await self._peers.send(peer, Belong(bytes(person), self._book.consent(person)))
        return found[0]

    async def arrived(self, circle: OpId, timeout_s: float = JOINED_S) -> Circle:
        """Wait until this node is in `circle`. Raises `TransportError` when it is not in time."""

        def is_in() -> bool:
            known = self._book.circles.get(circle)
            return known is not None and known.state.role(self._context.me.peer_id) is not None

        try:
            async with asyncio.timeout(timeout_s), self._news:
                await self._news.wait_for(is_in)
        except TimeoutError:
            raise TransportError(
                tr("the invitation was right, but the circle has not arrived: is the inviter still there?")
            ) from None
        return self._book.circles[circle]

    def changed(self, circle: OpId) -> None:
        """A circle is not as it was: perhaps it is here now."""
        self._context.jobs.start(self._wake(), "telling of a change")

    async def _wake(self) -> None:
        async with self._news:
            self._news.notify_all()
