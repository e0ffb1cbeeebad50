"""Printers that are for us: of others, as they say when they are asked, and the shared ones of this computer."""

import asyncio
import contextlib
import logging
import re
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import msgspec

from coterie.apps.context import Context
from coterie.apps.printers.messages import (
    PRINTERS_MAX,
    PROTOCOL,
    Describe,
    Described,
    Identify,
    Look,
    Offer,
    Offers,
    Refused,
)
from coterie.apps.printers.operations import PrinterState
from coterie.apps.printers.records import KnownPrinter
from coterie.errors import CoterieError, LimitExceeded, NotFound, PeerError, UsageError
from coterie.identity import PeerId
from coterie.services.data.records import Records
from coterie.texts import tr

KNOWN_MAX = 1_000  # printers of everybody; guess
LOOK_S = 8.0  # for the answer of one computer
LOOK_AGAIN_S = 5.0  # a computer that has news all the time is asked so often
DESCRIBE_AGAIN_S = 30.0  # programs ask each few seconds while they print
AWAY = ("offline-report",)  # a reason of RFC 8011, 5.4.12

log = logging.getLogger(__name__)


class KnownPrinters:
    """The list of them, and what they say of themselves. All methods belong to the node's event loop."""

    def __init__(
        self,
        context: Context,
        own: Callable[[], Iterable[tuple[Offer, bytes]]],
        identify: Callable[[str], Awaitable[None]],
        changed: Callable[[], None],
    ) -> None:
        """`own()`: the shared printers of this computer; `identify` one of them by its id; `changed`: another list."""
        self._context = context
        self._own = own
        self._identify_own = identify
        self._changed = changed
        self._records: Records[KnownPrinter] = context.data.records("known", KnownPrinter, "printer")
        self._looked: dict[PeerId, float] = {}
        self._looking: set[PeerId] = set()
        self._described: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._records)

    def printers(self) -> list[KnownPrinter]:
        """Those that are for us."""
        return [printer for printer in self._records if not printer.is_gone]

    def said_name(self, printer: KnownPrinter) -> str:
        """COMPUTER/NAME."""
        peer = PeerId.parse(printer.peer)
        me = self._context.me
        return f"{me.name if peer == me.peer_id else self._context.people.name_of(peer)}/{printer.name}"

    def find(self, text: str) -> KnownPrinter:
        """The printer that people call so. Raises `NotFound`, `UsageError`."""
        found = [p for p in self.printers() if text in (self.said_name(p), p.label)]
        found = found or [p for p in self.printers() if p.name == text]
        who, slash, name = text.rpartition("/")
        if not found and slash:
            peer = self._context.people.find(who)
            found = [p for p in self.printers() if (p.peer, p.name) == (str(peer), name)]
        if not found:
            raise NotFound(
                tr("there is no printer '{text}' for you; `coterie printers` lists them", text=text)
            )
        if len(found) > 1:
            names = ", ".join(self.said_name(p) for p in found)
            raise UsageError(tr("'{text}' is several printers: {names}", text=text, names=names))
        return found[0]

    def is_away(self, printer: KnownPrinter) -> bool:
        """Whether its computer is not here now."""
        peer = PeerId.parse(printer.peer)
        return peer != self._context.me.peer_id and not self._context.people.is_here(peer)

    def state_of(self, printer: KnownPrinter) -> tuple[PrinterState, tuple[str, ...]]:
        """What it does, as far as we know: jobs are taken also while it is away."""
        if self.is_away(printer) or printer.state:
            return PrinterState.IDLE, AWAY
        return PrinterState.IDLE, ()

    def take_own(self) -> None:
        """The shared printers of this computer are printers of its own programs, too."""
        me = self._context.me.peer_id
        offers = []
        for offer, attributes in self._own():
            offers.append(offer)
            self._learn(me, [offer], is_all=False, attributes=attributes)
        self._learn(me, offers, is_all=True)

    def heard(self, peer: PeerId) -> None:
        """`peer` says that its printers have changed: ask, but not all the time."""
        if peer not in self._looking:
            self._looking.add(peer)
            self._context.jobs.start(self._look_soon(peer), "looking for printers")

    async def look_around(self) -> None:
        """Ask everybody who is here."""
        here = [p for p in self._context.people.known() if self._context.people.is_here(p)]
        await asyncio.gather(*(self.look(peer) for peer in here))

    async def look(self, peer: PeerId) -> None:
        """Ask one computer; what it does not say stays as it was."""
        with contextlib.suppress(CoterieError):
            answer = await self._context.net.ask(peer, PROTOCOL, Look(), timeout_s=LOOK_S)
            if isinstance(answer, Offers):
                self._learn(peer, answer.printers, is_all=True)
                for printer in self.printers():  # programs ask for it also while that computer is away
                    if printer.peer == str(peer) and not printer.attributes:
                        await self._describe(peer, printer)

    async def attributes(self, printer: KnownPrinter) -> bytes:
        """What it says of itself: as new as can be had quickly. Raises `CoterieError` where nothing is known."""
        loop = asyncio.get_running_loop()
        is_fresh = loop.time() - self._described.get(printer.id, -DESCRIBE_AGAIN_S) < DESCRIBE_AGAIN_S
        peer = PeerId.parse(printer.peer)
        if peer == self._context.me.peer_id:
            self.take_own()
        elif not (printer.attributes and (is_fresh or self.is_away(printer))):
            self._described[printer.id] = loop.time()
            try:
                await self._describe(peer, printer)
            except CoterieError:
                if not printer.attributes:
                    raise
        if not printer.attributes:
            raise NotFound(tr("the printer {printer} was never reached", printer=self.said_name(printer)))
        return printer.attributes

    async def identify(self, printer: KnownPrinter) -> None:
        """Let it blink or beep. Raises `CoterieError` where it is not reached, or cannot."""
        peer = PeerId.parse(printer.peer)
        if peer == self._context.me.peer_id:
            await self._identify_own(printer.printer)
            return
        answer = await self._context.net.ask(peer, PROTOCOL, Identify(printer.printer), timeout_s=LOOK_S)
        if isinstance(answer, Refused):
            raise NotFound(f"{self._context.people.name_of(peer)}: {answer.reason}")

    async def _describe(self, peer: PeerId, printer: KnownPrinter) -> None:
        answer = await self._context.net.ask(peer, PROTOCOL, Describe(printer.printer), timeout_s=LOOK_S)
        match answer:
            case Described(offer, attributes):
                self._learn(peer, [offer], is_all=False, attributes=attributes)
            case Refused(reason):
                raise NotFound(f"{self._context.people.name_of(peer)}: {reason}")
            case _:
                raise PeerError(f"{peer.short} did not answer as coterie does")

    async def _look_soon(self, peer: PeerId) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(max(0.0, self._looked.get(peer, -LOOK_AGAIN_S) + LOOK_AGAIN_S - loop.time()))
        self._looked[peer] = loop.time()
        self._looking.discard(peer)
        await self.look(peer)

    def _learn(self, peer: PeerId, offers: Iterable[Offer], *, is_all: bool, attributes: bytes = b"") -> None:
        """`is_all`: others of `peer` are not for us any more."""
        before = {p.printer: p for p in self._records if p.peer == str(peer)}
        is_other = False
        for offer in list(offers)[:PRINTERS_MAX]:
            old = before.pop(offer.id, None)
            printer = self._as_record(peer, offer, old, attributes)
            if printer is None or printer == old:
                continue
            is_other = is_other or old is None or old.is_gone or old.name != offer.name
            if (old is None or old.is_gone) and peer != self._context.me.peer_id:
                self._say_new(printer)
            if old is not None:  # the object that others hold is the one that is known
                for field in old.__struct_fields__:
                    setattr(old, field, getattr(printer, field))
            self._records.save(old or printer)
        for gone in before.values() if is_all else ():
            if not gone.is_gone:
                is_other = True
                gone.is_gone = True
                self._records.save(gone)
        if is_other:
            self._changed()

    def _as_record(
        self, peer: PeerId, offer: Offer, old: KnownPrinter | None, attributes: bytes
    ) -> KnownPrinter | None:
        if old is None and len(self._records) >= KNOWN_MAX:
            raise LimitExceeded(tr("{known_max} printers are known here already", known_max=KNOWN_MAX))
        said: dict[str, Any] = {
            "name": offer.name,
            "model": offer.model,
            "state": offer.state,
            "is_asking": offer.is_asking,
            "pages_max": offer.pages_max,
            "pages_used": offer.pages_used,
            "is_gone": False,
            "has_page": offer.has_page,
        }
        if attributes:
            said["attributes"] = attributes
        if old is not None:
            return msgspec.structs.replace(old, **said)
        if as_label(offer.name) != offer.name or not offer.id.isalnum():
            log.info("%s offers a printer whose name cannot be", peer.short)
            return None
        return KnownPrinter(
            id=self._records.new_id(),
            created=time.time(),
            peer=str(peer),
            printer=offer.id,
            label=self._label(peer, offer.name),
            **said,
        )

    def _label(self, peer: PeerId, name: str) -> str:
        is_own = peer == self._context.me.peer_id
        stem = name if is_own else as_label(f"{name}-{self._context.people.name_of(peer)}")
        taken, number, label = {p.label for p in self._records}, 1, stem
        while label in taken:
            number += 1
            label = f"{stem}-{number}"
        return label

    def _say_new(self, printer: KnownPrinter) -> None:
        name = self.said_name(printer)
        self._context.tell.say(
            tr("{name} is a printer for you now: coterie print FILE {name}", name=name),
            key=f"printer {name}",
        )

    def keep(self, printer: KnownPrinter) -> None:
        """To disk."""
        self._records.save(printer)


def as_label(name: str) -> str:
    """How a name stands in an address: "Anna's HP" is anna-s-hp."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:63].strip("-")
