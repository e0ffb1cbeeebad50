"""Sending to somebody who is no contact: over a one-time code, or to a computer of the local network."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from coterie.apps.contacts.api import (
    ContactsService,
    Invited,
    Met,
    WrongCode,
    meeting_purpose,
    wait_for_joiner,
)
from coterie.apps.context import Context
from coterie.apps.send import core as c
from coterie.apps.send.direct import Direct
from coterie.apps.send.messages import OFFER_ID_BYTES
from coterie.apps.send.records import InboxRecord, Part, SentRecord
from coterie.apps.send.results import (
    Got,
    InboxLine,
    NearLine,
    NearOffer,
    NearOpen,
    Sent,
    SentLine,
    Taken,
    got_now,
    said_names,
    sent_now,
)
from coterie.errors import CoterieError, NotFound, UsageError
from coterie.identity import PeerId
from coterie.progress import Progress
from coterie.quantity import count, say_bytes
from coterie.texts import tr

WORD = "receive"  # of the command that takes a code
LASTS_S = 86_400.0  # an offer to a stranger, once it is met: to accept, then to fetch; guess
NEAR_S = 3.0  # mDNS finds what is there within so long (measured: 0.1 to 1.2 s)
NEAR_ASKED_MAX = 16  # computers that are asked for their names; guess
_MARK = " (stranger)"  # behind the name that somebody unknown gives itself
CODES_MAX = 64  # that may be typed again; guess
Events = AsyncIterator[Invited | Progress | WrongCode | Taken | Sent]


class Offered(UsageError):
    """Something is offered, and nobody has said yet whether to take it."""

    code = "offered"


class NotTaken(CoterieError):
    """What was sent did not arrive."""

    code = "not taken"


class Offers(Protocol):
    """What this needs of the service: every offer, made and got."""

    @property
    def direct(self) -> Direct: ...

    def make(self, record: SentRecord) -> None: ...

    def forget(self, record: SentRecord) -> None: ...

    def sent_lines(self, record: SentRecord) -> list[SentLine]: ...

    def got(self, offer: str) -> InboxRecord | None: ...

    def find(self, peer: PeerId, offer: bytes) -> InboxRecord | None: ...

    def accept(self, offer: str, folder: Path | None = None) -> Got: ...

    def inbox(self) -> list[InboxLine]: ...

    def inbox_line(self, got: InboxRecord) -> InboxLine: ...

    def watching(self) -> contextlib.AbstractContextManager[asyncio.Event]: ...

    def follow(self, half: Callable[[], Part | InboxRecord], size: int) -> AsyncIterator[Progress]: ...


class Strangers:
    """Belongs to the event loop of its service."""

    def __init__(self, context: Context, service: Offers, contacts: ContactsService) -> None:
        self._context = context
        self._service = service
        self._contacts = contacts
        self._by_code: dict[str, str] = {}  # offers that were got by a code

    async def by_code(self, record: SentRecord, minutes: float) -> Events:
        """Offer `record` to whoever types the code that is told first, then follow it to its end.

        Raises:
            NotFound: nobody came in time.
            NotTaken: it was declined, or did not arrive.
        """

        def met(who: Met) -> None:
            if not record.parts:
                until = self._context.access.now + LASTS_S
                record.parts = [Part(who.peer, until, is_stranger=True, name=_as_stranger(who.name))]
                record.lasts_s = until - record.created
                self._service.make(record)

        try:
            purpose = meeting_purpose(WORD, record.offer)
            async with self._contacts.invite(minutes=minutes, purpose=purpose, met=met) as invitation:
                async for news in wait_for_joiner(invitation):
                    yield Taken(_as_stranger(news.name)) if isinstance(news, Met) else news
        finally:
            if not record.parts:
                self._service.forget(record)
        async for step in self._service.follow(lambda: record.parts[0], c.size_of(record.items)):
            yield step
        yield sent_now(_arrived(self._service.sent_lines(record)[0]))

    async def receive(
        self, code: str, *, at: str = "", folder: Path | None = None, yes: bool = False
    ) -> AsyncIterator[Progress | Got]:
        """Take what is offered under a code.

        Raises:
            Offered: nobody has said yet whether to take it; the same call with `yes` does.
            NotFound, AccessDenied, TransportError, UsageError: as `ContactsService.join`.
            NotTaken: it did not arrive.
        """
        words = " ".join(code.lower().split())
        got = self._service.got(self._by_code.get(words, ""))
        if got is None:
            met, offer = await self._contacts.meet(code, WORD, at=at)
            if len(offer) != OFFER_ID_BYTES:
                raise UsageError(tr("this code names no offer: ask for a new one, and upgrade this computer"))
            peer = PeerId.parse(met.peer)
            await self._service.direct.ask(peer, offer, met.addresses)
            got = self._service.find(peer, offer)
            if got is None:
                raise UsageError(tr("too many offers wait in the inbox: answer some (`coterie inbox`)"))
            self._by_code[words] = got.id
            while len(self._by_code) > CODES_MAX:
                del self._by_code[next(iter(self._by_code))]
        line = self._service.inbox_line(got)
        if not yes:
            what = f"{said_names(line.names)} ({count(line.files, 'file')}, {say_bytes(line.size)})"
            raise Offered(
                tr(
                    "{sender} offers {what}; take it: coterie inbox accept {line_id}, or --yes here",
                    sender=line.sender,
                    what=what,
                    line_id=line.id,
                )
            )
        self._service.accept(got.id, folder)
        async for step in self._service.follow(lambda: got, c.size_of(got.items)):
            yield step
        yield got_now(_arrived(self._service.inbox_line(got)))

    async def near(self) -> AsyncIterator[NearOpen | NearOffer]:
        """Take offers from the local network for as long as somebody listens."""
        told = {line.id: line.state for line in self._service.inbox() if not line.expires}  # over long ago
        with self._contacts.near(), self._service.direct.open_to_near(), self._service.watching() as fresh:
            yield NearOpen(name=self._context.me.name, id=self._context.me.peer_id.short)
            while True:
                for line in self._service.inbox():
                    got = self._service.got(line.id)
                    if got is None or not got.is_stranger or told.get(line.id) == line.state:
                        continue
                    told[line.id] = line.state
                    yield NearOffer(
                        id=line.id, state=line.state, sender=line.sender, names=line.names, size=line.size
                    )
                fresh.clear()
                await fresh.wait()

    async def find_near(self) -> dict[PeerId, tuple[str, Sequence[str]]]:
        """The computers here that take offers from strangers now: how they are called here, and where they are.

        Who is known has the name that it has here; everybody else the one that it gives itself, with "(stranger)".
        """
        found = await self._contacts.find_near(NEAR_S)
        asked = list(found.items())[:NEAR_ASKED_MAX]
        names = await asyncio.gather(*(self._name_of(peer, addresses) for peer, addresses in asked))
        return {
            peer: (self._called(peer, name), addresses)
            for (peer, addresses), name in zip(asked, names, strict=True)
            if name is not None
        }

    async def near_lines(self) -> list[NearLine]:
        """The same for faces."""
        return [NearLine(name, peer.short) for peer, (name, _) in (await self.find_near()).items()]

    async def to_near(self, record: SentRecord, name: str) -> Sent:
        """Offer `record` to the computer here that calls itself `name`, or whose id begins so.

        Raises:
            NotFound: no such computer takes offers from strangers now.
            UsageError: there are several.
        """
        try:
            peer, called, addresses = await self._choose_near(name)
        except CoterieError:
            self._service.forget(record)
            raise
        until = self._context.access.now + LASTS_S
        record.parts = [
            Part(
                str(peer),
                until,
                is_stranger=True,
                dials=True,
                addresses=list(addresses),
                name=called,
            )
        ]
        self._service.make(record)
        return sent_now(self._service.sent_lines(record)[0])

    async def _choose_near(self, name: str) -> tuple[PeerId, str, Sequence[str]]:
        found = await self.find_near()
        meant = [
            peer
            for peer, (called, _) in found.items()
            if name.lower() in {called.lower(), _without_mark(called).lower()} or peer.matches(name)
        ]
        if not meant:
            others = ", ".join(called for called, _ in found.values())
            there = f"; there are {others}" if others else ": is `coterie receive --near` running there?"
            raise NotFound(
                tr(
                    "nobody called '{name}' takes files from strangers here now{there}",
                    name=name,
                    there=there,
                )
            )
        if len(meant) > 1:
            ids = " or ".join(peer.short for peer in meant)
            raise UsageError(
                tr(
                    "{meant} computers here call themselves '{name}': say {ids}",
                    meant=len(meant),
                    name=name,
                    ids=ids,
                )
            )
        return meant[0], *found[meant[0]]

    def _called(self, peer: PeerId, name: str) -> str:
        people = self._context.people
        return people.name_of(peer) if people.is_known(peer) else _as_stranger(name)

    async def _name_of(self, peer: PeerId, addresses: Sequence[str]) -> str | None:
        with contextlib.suppress(CoterieError, TimeoutError):
            return await self._service.direct.name_of(peer, addresses)
        return None


def _as_stranger(name: str) -> str:
    return name + _MARK


def _without_mark(called: str) -> str:
    return called.removesuffix(_MARK)


def _arrived(line: Any) -> Any:
    """`line`, when it says that everything arrived. Raises `NotTaken`."""
    if line.state != c.Answer.RECEIVED:
        why = f": {line.note}" if line.note else ""
        raise NotTaken(f"{said_names(line.names)}: {line.state}{why}")
    return line
