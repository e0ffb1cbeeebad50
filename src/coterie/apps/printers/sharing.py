"""Printers of this computer that others may use: the list of them, what each says of itself, who may see it."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

from coterie.access.resource import Verb
from coterie.apps.context import Context
from coterie.apps.expose.api import Lead, read_target
from coterie.apps.printers.known import as_label
from coterie.apps.printers.messages import (
    NOTE_CHARS_MAX,
    PRINTER_BYTES_MAX,
    PRINTERS_MAX,
    Described,
    Heard,
    Offer,
    Refused,
)
from coterie.apps.printers.records import SharedPrinter
from coterie.apps.printers.results import PrinterLine
from coterie.decoding import decoder
from coterie.errors import CoterieError, LimitExceeded, NotFound, PeerError, TransportError, UsageError
from coterie.identity import PeerId
from coterie.services.data.records import Records
from coterie.services.directory.core import Offered
from coterie.texts import tr

KIND = "printer"  # of resources
HTTP_PORT = 80
ASK_AGAIN_S = 30.0  # what the real printer says of itself
_PASSING = ("printer-up-time", "printer-current-time", "queued-job-count", "printer-state-change-time")
NOT_HERE = "there is no such printer, or it is not for this computer"  # one answer for both

log = logging.getLogger(__name__)


class Sharing:
    """All methods belong to the node's event loop."""

    def __init__(self, context: Context, used: Callable[[str, PeerId], int]) -> None:
        """`used`: pages that the person of a computer printed this month."""
        self._context = context
        self._used = used
        self.away: dict[str, str] = {}
        """Printers that were not reached lately, by their id, and why."""
        self.shared: Records[SharedPrinter] = context.data.records("shared", SharedPrinter, "printer")
        self._asked: dict[str, float] = {}
        self._asking: dict[str, asyncio.Task[None]] = {}

    async def share(
        self, name: str, subjects: list[str], *, as_: str, pages: str, is_asking: bool, lan: bool, page: str
    ) -> SharedPrinter:
        """See `PrintersService.share`."""
        from coterie.apps.printers.quotas import read_quota

        pages_max = read_quota(pages)
        its_page = read_page(page) if page else ""
        known = self.find_name(as_ or name)
        uri, found = (known.uri, known.name) if known and not as_ else await self._address_of(name)
        attributes = await self._described(uri)
        called = as_label(as_ or found)
        if (as_ and called != as_) or not called:
            raise UsageError(
                tr(
                    "'{name}' cannot be the name of a printer: small letters, digits and hyphens",
                    name=as_ or found,
                )
            )
        known = self.find_name(called)
        if known is None and len(self.shared) >= PRINTERS_MAX:
            raise LimitExceeded(tr("{printers_max} printers are shared already", printers_max=PRINTERS_MAX))
        record = SharedPrinter(
            id=known.id if known else self.shared.new_id(),
            created=known.created if known else time.time(),
            name=called,
            uri=uri,
            to=subjects,
            pages_max=pages_max,
            is_asking=is_asking,
            lan=lan,
            attributes=attributes,
            page=its_page,
        )
        self.shared.save(record)
        self._permit(record)
        self._context.access.review()
        return record

    def unshare(self, record: SharedPrinter) -> None:
        """Forget it, and who might use it."""
        self.shared.remove(record.id)
        self._context.access.policy.withdraw(f"{KIND}/{record.id}")
        self._context.access.review()

    def lead(self, name: str) -> Lead | None:
        """Where the page of a printer is, for browsers of those who may print on it."""
        record = self.find_name(name)
        if record is None or not record.page:
            return None
        place = read_target(record.page)
        return Lead(resource=f"{KIND}/{record.id}", target=place, host_header=record.page)

    def permit_all(self) -> None:
        """At the start."""
        for record in self.shared:
            self._permit(record)

    def find(self, printer: str) -> SharedPrinter | None:
        """By its id."""
        return next((record for record in self.shared if record.id == printer), None)

    def find_name(self, name: str) -> SharedPrinter | None:
        """By its name."""
        return next((record for record in self.shared if record.name == name), None)

    def choose(self, text: str) -> SharedPrinter:
        """By its name or id. Raises `NotFound`."""
        found = self.find_name(text) or self.find(text)
        if found is None:
            raise NotFound(tr("no printer '{text}' is shared; `coterie printers` lists them", text=text))
        return found

    def resolve(self, path: str) -> str:
        """For `grant` and `may`: the path of a name."""
        name, slash, rest = path.partition("/")
        return self.choose(name).id + slash + rest

    def say(self, path: str) -> str:
        """The name of a path."""
        one, slash, rest = path.partition("/")
        found = self.find(one)
        return (found.name if found else one) + slash + rest

    def offered(self, peer: PeerId) -> list[Offered]:
        """For `coterie ls`."""
        return [
            Offered(resource=f"{KIND}/{r.id}", name=r.name, note=self._offer(r, peer).model)
            for r in self.shared
        ]

    def offers_for(self, peer: PeerId) -> list[Offer]:
        """What `peer` may print on."""
        explain = self._context.access.explain
        return [
            self._offer(r, peer) for r in self.shared if explain(peer, Verb.USE, f"{KIND}/{r.id}").allowed
        ]

    def own_offers(self) -> Iterator[tuple[Offer, bytes]]:
        """All, for this computer itself."""
        for record in self.shared:
            self._refresh(record)
            yield self._offer(record, self._context.me.peer_id), record.attributes

    async def describe(self, peer: PeerId, printer: str) -> Described | Refused:
        """What a printer says of itself, for `peer`."""
        record = self.find(printer)
        if record is None:
            self._context.access.decide(peer, Verb.USE, KIND)
            return Refused(NOT_HERE)
        if not self._context.access.decide(peer, Verb.USE, f"{KIND}/{record.id}").allowed:
            return Refused(NOT_HERE)
        self._refresh(record)
        return Described(self._offer(record, peer), record.attributes)

    async def identify(self, printer: str) -> None:
        """Let it blink or beep. Raises `CoterieError` where it is not reached, or cannot."""
        from coterie.apps.printers.real import RealPrinter

        record = self.find(printer)
        if record is None:
            raise NotFound(NOT_HERE)
        await RealPrinter(record.uri).identify()

    async def identify_for(self, peer: PeerId, printer: str) -> Heard | Refused:
        """The same for `peer`."""
        if not self._context.access.decide(
            peer, Verb.USE, f"{KIND}/{printer}" if self.find(printer) else KIND
        ).allowed:
            return Refused(NOT_HERE)
        try:
            await self.identify(printer)
        except CoterieError as error:
            return Refused(str(error)[:NOTE_CHARS_MAX])
        return Heard()

    async def of_this_computer(self, cups: str) -> list[PrinterLine]:
        """Printers of the print system that are not shared; none where there is no print system."""
        from coterie.apps.printers.real import RealPrinter

        try:
            found = await RealPrinter(cups).list()
        except CoterieError as error:
            log.info("no print system answers: %s", error)
            return []
        uris = {record.uri for record in self.shared}
        return [
            PrinterLine(
                printer=name,
                model=next((str(a.first) for a in attributes if a.name == "printer-make-and-model"), ""),
                state=tr("not shared"),
                address=uri,
            )
            for name, uri, attributes in found
            if uri not in uris
        ]

    async def _address_of(self, name: str) -> tuple[str, str]:
        """Address and name of a printer that the owner calls so. Raises `NotFound`."""
        from coterie.apps.printers.printing import attributes_of
        from coterie.apps.printers.real import RealPrinter
        from coterie.apps.printers.records import Settings

        if "://" in name:
            said = attributes_of(await self._described(name))
            label = next(
                (said[key].first for key in ("printer-dns-sd-name", "printer-name") if key in said), ""
            )
            return name, str(label) or "printer"
        cups = self._context.data.settings(Settings).cups
        try:
            listed = await RealPrinter(cups).list()
        except TransportError as error:
            raise NotFound(
                tr(
                    "'{name}' is not found, for no print system answers here ({error}); a printer may be named by its "
                    "address: ipp://HOST/ipp/print",
                    name=name,
                    error=str(error),
                )
            ) from None
        for found, uri, _ in listed:
            if found == name:
                return uri, found
        raise NotFound(
            tr(
                "this computer has no printer '{name}'; `coterie printers` lists them, ipp://HOST/... is one, too",
                name=name,
            )
        )

    async def _described(self, uri: str) -> bytes:
        """What the real printer says of itself."""
        from coterie.apps.printers import ipp
        from coterie.apps.printers.ipp import Group
        from coterie.apps.printers.real import RealPrinter

        attributes = tuple(a for a in await RealPrinter(uri).describe() if a.name not in _PASSING)
        raw = _encoded(Group(ipp.PRINTER, attributes))
        if len(raw) > PRINTER_BYTES_MAX:  # the list of all combinations of paper is most of it
            raw = _encoded(Group(ipp.PRINTER, tuple(a for a in attributes if a.name != "media-col-database")))
        if len(raw) > PRINTER_BYTES_MAX:
            raise PeerError(f"the printer at {uri} says more of itself than {PRINTER_BYTES_MAX} bytes")
        return raw

    def _refresh(self, record: SharedPrinter) -> None:
        """Ask the printer again, soon."""
        now = asyncio.get_running_loop().time()
        if now - self._asked.get(record.id, -ASK_AGAIN_S) < ASK_AGAIN_S:
            return
        self._asked[record.id] = now
        self._context.jobs.start(self._renew(record), "asking a printer what it can do")

    async def _renew(self, record: SharedPrinter) -> None:
        try:
            attributes = await self._described(record.uri)
        except CoterieError as error:
            self.away[record.id] = str(error)
            return
        self.away.pop(record.id, None)
        if attributes != record.attributes and self.find(record.id) is record:
            record.attributes = attributes
            self.shared.save(record)

    def _offer(self, record: SharedPrinter, peer: PeerId) -> Offer:
        from coterie.apps.printers.printing import attributes_of

        model = attributes_of(record.attributes).get("printer-make-and-model")
        return Offer(
            id=record.id,
            name=record.name,
            model=str(model.first)[:255] if model is not None else "",
            state=tr("not reached") if record.id in self.away else "",
            is_asking=record.is_asking,
            pages_max=record.pages_max,
            pages_used=self._used(record.id, peer),
            has_page=bool(record.page),
        )

    def _permit(self, record: SharedPrinter) -> None:
        self._context.access.policy.permit_only(record.to, Verb.USE, f"{KIND}/{record.id}")


@decoder(UsageError, "the web page of a printer")
def read_page(text: str) -> str:
    """HOST:PORT of a printer's own web page, written http://HOST[:PORT]. Raises `UsageError`."""
    found = urlsplit(text)
    host, port = found.hostname or "", found.port or HTTP_PORT
    if found.scheme != "http" or not host or found.username is not None:
        raise UsageError(
            tr("'{page}' is no web page of a printer: write http://HOST or http://HOST:PORT", page=text)
        )
    return str(read_target(f"[{host}]:{port}" if ":" in host else f"{host}:{port}"))


def _encoded(group: object) -> bytes:
    from coterie.apps.printers import ipp

    return ipp.encode_group(group) + bytes([ipp.END])  # type: ignore[arg-type]
