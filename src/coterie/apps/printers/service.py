"""The printers service of a node: what it shares with whom, what is printed here and elsewhere, and its ports."""

import getpass
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from coterie.access.names import ANYONE_WORD, TICKET
from coterie.apps.context import Context
from coterie.apps.expose.api import Names
from coterie.apps.printers.documents import ANY
from coterie.apps.printers.known import KnownPrinters
from coterie.apps.printers.messages import (
    PRINTERS_MAX,
    PROTOCOL,
    Change,
    Describe,
    Heard,
    Identify,
    Job,
    Look,
    News,
    Offers,
    State,
)
from coterie.apps.printers.records import KnownPrinter, Settings, SharedPrinter
from coterie.apps.printers.results import (
    JobLine,
    Printed,
    PrinterAdded,
    PrinterLine,
    PrinterSaid,
    PrinterShared,
    PrintStep,
)
from coterie.apps.printers.sharing import KIND, Sharing
from coterie.errors import CoterieError, NotFound, PeerError, UsageError
from coterie.identity import PeerId
from coterie.net import Stream
from coterie.services.local import Port
from coterie.texts import tr
from coterie.wire.frames import Message

if TYPE_CHECKING:
    from coterie.apps.printers.announcing import Announcing
    from coterie.apps.printers.works import Works

DATABASE = "data.db"  # of the app: there are jobs, or were

log = logging.getLogger(__name__)


class PrintersService:
    """Made by the node. All methods belong to its event loop."""

    def __init__(self, context: Context, names: Names) -> None:
        """`names`: the service of `expose`, for the pages that printers have of their own."""
        self._context = context
        self._web_names = names
        self._settings = context.data.settings(Settings)
        self._sharing = Sharing(context, self._pages_used)
        self._known = KnownPrinters(context, self._sharing.own_offers, self._sharing.identify, self._changed)
        self._works_: Works | None = None
        self._announcing: Announcing | None = None
        self._ports: dict[str, Port] = {}  # by the label of the printer; "" for programs of this computer

    async def start(self) -> None:
        """Offer what is shared, go on with jobs, open the ports that were open before."""
        context = self._context
        context.access.name_resources(KIND, self._sharing.resolve, self._sharing.say)
        context.net.offer(KIND, self._sharing.offered)
        self._sharing.permit_all()
        self._web_names.lead(self._sharing.lead)
        context.net.register(PROTOCOL, self._serve)
        context.net.watch(self._came, lambda peer: None)
        if len(self._sharing.shared) or len(self._known) or (context.data.folder / DATABASE).exists():
            await self._works().start()
        self._open_ports()

    async def close(self) -> None:
        """Everything is on disk already."""
        if self._announcing is not None:
            await self._announcing.close()

    def status(self) -> dict[str, int]:
        """Counts for `coterie status`."""
        works = self._works_
        return {
            "shared": len(self._sharing.shared),
            "for us": len(self._known.printers()),
            "jobs here": sum(job.step != "over" for job in works.taking.jobs) if works else 0,
        }

    # ---- the owner's

    async def share(
        self,
        name: str,
        to: Sequence[str],
        *,
        as_: str = "",
        pages: str = "",
        is_asking: bool = False,
        lan: bool = False,
        page: str = "",
    ) -> PrinterShared:
        """Let those named in `to` print on it; the same name again changes it.

        Raises:
            UsageError: no such name, address, quota or addressee can be.
            NotFound: there is no such printer, or nobody is called so.
            TransportError, PeerError: the printer was not reached, or is none.
            LimitExceeded: PRINTERS_MAX are shared.
        """
        subjects = list(dict.fromkeys(self._context.people.subject(who) for who in to))
        if not subjects or TICKET in subjects or ANYONE_WORD in subjects:
            raise UsageError(tr("say for whom: --to with a person, a circle or contacts"))
        await self._works().start()
        shared = await self._sharing.share(
            name, subjects, as_=as_, pages=pages, is_asking=is_asking, lan=lan, page=page
        )
        self._known.take_own()
        own = self._own_printer(shared.id)
        own.lan = lan
        self._known.keep(own)
        self._changed()
        self._tell_news()
        return PrinterShared(**msgspec.structs.asdict(self._line(own)))

    async def unshare(self, name: str) -> PrinterSaid:
        """Nobody else prints on it; what waits is cancelled. Raises `NotFound`."""
        shared = self._sharing.choose(name.rpartition("/")[2])
        self._sharing.unshare(shared)
        self._known.take_own()
        if self._works_ is not None:
            self._works_.taking.end_printer(shared)
        self._changed()
        self._tell_news()
        return PrinterSaid(shared.name, tr("{name} is no longer shared", name=shared.name))

    async def lines(self) -> list[PrinterLine]:
        """All that are known: those of this computer first."""
        found = await self._sharing.of_this_computer(self._settings.cups)
        await self._known.look_around()
        await self._follow()
        return [*(self._line(p) for p in self._known.printers()), *found]

    def jobs(self) -> list[JobLine]:
        """Jobs for printers here, and ours elsewhere."""
        return self._works_.lines(self._sharing.find, self._known) if self._works_ is not None else []

    async def cancel(self, text: str) -> PrinterSaid:
        """Cancel one of ours, or one here. Raises `NotFound`, `UsageError`."""
        works = self._works()
        try:
            job = works.sending.choose(text)
        except NotFound:
            taken = works.taking.cancel(text)
            return PrinterSaid(taken.id, tr("{title} is cancelled", title=taken.title))
        await works.sending.change(job, "cancel")
        return PrinterSaid(text, tr("{title} is cancelled", title=job.title))

    def approve(self, text: str) -> PrinterSaid:
        """Raises `NotFound`, `UsageError`."""
        job = self._works().taking.approve(text)
        return PrinterSaid(job.id, tr("{title} will be printed", title=job.title))

    def refuse(self, text: str) -> PrinterSaid:
        """Raises `NotFound`, `UsageError`."""
        job = self._works().taking.refuse(text)
        return PrinterSaid(job.id, tr("{title} is refused", title=job.title))

    # ---- whoever prints

    async def print(
        self,
        file: Path,
        text: str,
        *,
        copies: int,
        sides: str,
        media: str,
        color: str,
        pages: str,
        waits: bool,
    ) -> AsyncIterator[PrintStep | Printed]:
        """Print a document; says how it goes on, and last what became of it.

        Raises:
            NotFound: there is no such file or printer.
            UsageError: the document, or what is asked for, cannot be printed there.
            LimitExceeded: it is too large, or too many wait.
        """
        from coterie.apps.printers.orders import template
        from coterie.apps.printers.printing import supported_formats

        asked = template(copies=copies, sides=sides, media=media, color=color, pages=pages)
        if not file.is_file():
            raise NotFound(tr("there is no file {file}", file=str(file)))
        printer = await self._find(text)
        works = self._works()
        await works.start()
        try:
            formats = supported_formats(await self._known.attributes(printer))
        except CoterieError:  # nobody knows yet what it takes: its own side will say
            formats = ()
        job = works.sending.begin(printer, file.name, getpass.getuser(), asked)
        await works.sending.finish(job, file, ANY, formats)
        said = ""
        async for now in works.sending.changes(job):
            line = works.line_of_sent(now, self._known)
            if line.is_over() or not waits:
                yield line
                return
            if said != (said := f"{line.state} {line.note}"):
                yield PrintStep(state=line.state, note=line.note)

    async def add(self, text: str, *, queue: str = "", lan: bool = False) -> PrinterAdded:
        """Make it a printer of this computer's print system. Raises `NotFound`, `UsageError`."""
        from coterie.apps.printers.queues import as_typed, make_queue, making, queue_name

        printer = await self._find(text)
        called = queue_name(queue or printer.label)
        await self._known.attributes(printer)
        printer.lan, printer.queue = printer.lan or lan, called
        self._known.keep(printer)
        self._changed()
        address = self._address(printer, is_here=True)
        note = await make_queue(called, address)
        return PrinterAdded(
            printer=self._known.said_name(printer),
            address=address,
            queue=called,
            command=as_typed(making(called, address)),
            is_made=not note,
            note=note,
        )

    async def remove(self, text: str) -> PrinterSaid:
        """Close it to the local network, remove its queue. Raises `NotFound`."""
        from coterie.apps.printers.queues import remove_queue

        printer = await self._find(text)
        queue = printer.queue or printer.label
        printer.lan, printer.queue = False, ""
        self._known.keep(printer)
        self._changed()
        note = await remove_queue(queue)
        name = self._known.said_name(printer)
        said = tr("{name} is no queue of this computer, and closed to the local network", name=name)
        return PrinterSaid(name, f"{said} ({note})" if note else said)

    async def _find(self, text: str) -> KnownPrinter:
        try:
            return self._known.find(text)
        except NotFound:
            who = text.rpartition("/")[0]
            if who:
                await self._known.look(self._context.people.find(who))
            else:
                await self._known.look_around()
            return self._known.find(text)

    # ---- between computers

    async def _serve(self, stream: Stream) -> None:
        """Questions of somebody who is known here."""
        while (message := await stream.receive()) is not None:
            match message:
                case Look():
                    await stream.send(Offers(self._sharing.offers_for(stream.peer)[:PRINTERS_MAX]))
                case Describe(printer):
                    await stream.send(await self._sharing.describe(stream.peer, printer))
                case Identify(printer):
                    await stream.send(await self._sharing.identify_for(stream.peer, printer))
                case News():
                    self._known.heard(stream.peer)
                    await stream.send(Heard())
                case _:
                    raise PeerError("printers are looked at and described, nothing else")

    def _hear(self, sender: PeerId, message: Message) -> None:
        """A letter."""
        works = self._works()
        match message:
            case Job():
                works.taking.take(sender, message)
            case Change():
                works.taking.change(sender, message)
            case State():
                works.sending.hear(sender, message)
            case _:
                raise PeerError("a letter about something else than printing")

    def _came(self, peer: PeerId) -> None:
        if self._sharing.offers_for(peer):
            self._context.jobs.start(self._say_news(peer), "telling of printers")

    def _tell_news(self) -> None:
        for peer in self._context.people.known():
            if self._context.people.is_here(peer):
                self._context.jobs.start(self._say_news(peer), "telling of printers")

    async def _say_news(self, peer: PeerId) -> None:
        try:
            await self._context.net.ask(peer, PROTOCOL, News())
        except CoterieError as error:
            log.info("%s does not hear of printers: %s", peer.short, error)

    # ---- small things

    def _pages_used(self, printer: str, peer: PeerId) -> int:
        quotas = self._works_.quotas if self._works_ is not None else None
        return quotas.used(printer, quotas.person_of(peer)) if quotas is not None else 0

    def _works(self) -> "Works":
        if self._works_ is None:
            from coterie.apps.printers.works import Works

            self._works_ = Works(self._context, self._settings, self._sharing, self._hear)
        return self._works_

    def _changed(self) -> None:
        """Printers came or went."""
        self._context.jobs.start(self._follow(), "ports of printers")

    async def _follow(self) -> None:
        if len(self._known):
            await self._works().start()
        self._open_ports()
        for label in [label for label in self._ports if label and label not in self._lan_labels()]:
            port = self._ports.pop(label)
            await port.close()

    def _lan_labels(self) -> list[str]:
        return [printer.label for printer in self._known.printers() if printer.lan]

    def _open_ports(self) -> None:
        if self._works_ is None or self._context.net.reach is None or not self._known.printers():
            return
        endpoint = self._works_.endpoint(self._known)
        for label in ("", *self._lan_labels()):
            if label in self._ports:
                continue
            name = f"lan/{label}" if label else "ipp"
            serve = partial(endpoint.serve, partial(self._number, label), label)
            note = (
                tr("printers for the programs of this computer")
                if not label
                else tr("{label} for the local network", label=label)
            )
            try:
                self._ports[label] = self._context.local.tcp(
                    name, serve, lan=bool(label), note=note, also=self._is_print_system
                )
            except CoterieError as error:
                log.warning("the port %s stays closed: %s", name, error)
        self._announce()

    def _announce(self) -> None:
        if self._announcing is None and self._lan_labels():
            from coterie.apps.printers.announcing import Announcing

            self._announcing = Announcing(self._context)
        if self._announcing is not None:
            printers = [p for p in self._known.printers() if p.lan and p.attributes]
            self._announcing.follow(
                {p.label: (self._known.said_name(p), self._number(p.label), p.attributes) for p in printers}
            )

    def _is_print_system(self, user: int) -> bool:
        """Whether CUPS is let in, whose programs that send jobs run as a user of their own: where it has our queue."""
        from coterie.apps.printers.queues import user_of_cups

        return user == user_of_cups() and any(printer.queue for printer in self._known.printers())

    def _number(self, label: str) -> int:
        port = self._ports.get(label)
        return port.number if port is not None else 0

    def _address(self, printer: KnownPrinter, *, is_here: bool = False) -> str:
        if printer.lan and not is_here and (number := self._number(printer.label)):
            return f"ipp://{self._context.me.name}.local:{number}/ipp/print"
        number = self._number("")
        return f"ipp://localhost:{number}/ipp/print/{printer.label}" if number else ""

    def _own_printer(self, shared_id: str) -> KnownPrinter:
        me = str(self._context.me.peer_id)
        return next(p for p in self._known.printers() if (p.peer, p.printer) == (me, shared_id))

    def _line(self, printer: KnownPrinter) -> PrinterLine:
        shared = (
            self._sharing.find(printer.printer) if printer.peer == str(self._context.me.peer_id) else None
        )
        state = printer.state or ("away" if self._known.is_away(printer) else "ready")
        return PrinterLine(
            printer=self._known.said_name(printer),
            model=printer.model,
            state=state,
            to=[self._context.people.say(subject) for subject in shared.to] if shared else [],
            pages_max=printer.pages_max,
            pages_used=printer.pages_used,
            is_asking=printer.is_asking,
            lan=printer.lan,
            address=self._address(printer),
            page=self._page(printer, shared),
        )

    def _page(self, printer: KnownPrinter, shared: SharedPrinter | None) -> str:
        """Where browsers here find a printer's own page; "" where it is not to be had."""
        if shared is not None:
            return f"http://{shared.page}/" if shared.page else ""
        if not printer.has_page or printer.is_gone:
            return ""
        with suppress(UsageError):  # another place has its name
            return self._web_names.web_address(PeerId.parse(printer.peer), printer.name)
        return ""
