"""The expose service of a node: what it offers to whom, and which ports here lead to services of others."""

import logging
import socket
import time
from collections.abc import Coroutine, Sequence
from functools import partial

from coterie.access.names import TICKET
from coterie.access.resource import Verb
from coterie.apps.context import Context
from coterie.apps.expose.connecting import Connecting
from coterie.apps.expose.leads import FindLead, FindPage, Lead
from coterie.apps.expose.messages import HOST_HEADER_CHARS_MAX, PROTOCOL
from coterie.apps.expose.naming import ZONE, answer_names, how_to_set_up
from coterie.apps.expose.records import ConnectedRecord, ExposedRecord
from coterie.apps.expose.results import ConnectedLine, ExposedLine, ExposeSaid, NamesLine
from coterie.apps.expose.serving import KIND, Serving
from coterie.apps.expose.targets import (
    Target,
    as_label,
    checked_name,
    is_this_machine,
    read_kind,
    read_service,
    read_target,
)
from coterie.apps.expose.web import Web
from coterie.apps.expose.web_hosts import LOCALHOST
from coterie.errors import CoterieError, LimitExceeded, NotFound, UsageError
from coterie.identity import PeerId
from coterie.services.carry.packets import Packets
from coterie.services.data.records import Records
from coterie.services.directory.core import Offered
from coterie.services.local import Flow, Port
from coterie.services.local.dns_port import DnsPort
from coterie.tasks import Tasks
from coterie.texts import tr

EXPOSED_MAX = 256  # guess: more than anybody looks through

log = logging.getLogger(__name__)


class ExposeService:
    """Made by the node. All methods belong to its event loop."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._exposed: Records[ExposedRecord] = context.data.records("exposed", ExposedRecord, "service")
        self._connected: Records[ConnectedRecord] = context.data.records("connected", ConnectedRecord, "port")
        packets = Packets(PROTOCOL, context.jobs.start)
        self._serving = Serving(context, self._lead_of, packets)
        self._connecting = Connecting(context, packets)
        self._ports: dict[str, Port] = {}  # by the id of the record
        self._web: Port | None = None
        self._states: dict[str, str] = {}
        self._leads: list[FindLead] = []
        self._pages: list[FindPage] = []
        self._names: Port | None = None
        self._is_web_shown = False

    async def start(self) -> None:
        """Serve what was exposed before, open the ports that were open before."""
        self._context.access.name_resources(KIND, self._resolve, self._say)
        self._context.net.offer(KIND, self._offered)
        for record in self._exposed:
            self._permit(record)
        self._context.net.register(PROTOCOL, self._serving.handle, strangers=True)
        if self._context.net.reach is None:
            return
        for connected in self._connected:
            try:
                self._listen(connected)
            except CoterieError as error:
                self._states[connected.id] = str(error)
                log.warning("the port for %s stays closed: %s", connected.name, error)
        self._names = self._context.local.port("names", self._names_port, note="*.coterie", is_on=False)
        if self._names.number:
            self._open_web()

    async def close(self) -> None:
        """Everything is on disk already."""

    def status(self) -> dict[str, int]:
        """Counts for `coterie status`."""
        return {
            "exposed": len(list(self._exposed)),
            "connected": len(list(self._connected)),
            "connections of others": self._serving.open.total(),
        }

    # ---- what others may use here

    def expose(self, target: str, name: str, to: Sequence[str], *, host_header: str = "") -> ExposedLine:
        """Let those named in `to` use what is at `target`; the same name again changes it.

        Raises:
            UsageError: no such target, name or addressee can be, or the node itself listens there.
            NotFound: nobody is called so.
            LimitExceeded: EXPOSED_MAX are exposed.
        """
        kind, target = read_kind(target)
        place = read_target(target)
        if kind == "udp" and place.path:
            raise UsageError(tr("a UDP service is at a port or HOST:PORT, not at a Unix socket"))
        if kind == "udp" and host_header:
            raise UsageError(tr("--host-header is for web servers, and those are at TCP ports"))
        if (
            len(host_header) > HOST_HEADER_CHARS_MAX
            or not host_header.isascii()
            or not host_header.isprintable()
        ):
            raise UsageError(
                tr("'{host_header}' cannot stand in a Host header", host_header=host_header[:50])
            )
        self._check_foreign(place, kind)
        subjects = list(dict.fromkeys(self._context.people.subject(who) for who in to))
        if not subjects or TICKET in subjects:
            raise UsageError(tr("say for whom: --to with a person, a circle, contacts or anyone"))
        known = self._find(checked_name(name))
        if known is None and len(list(self._exposed)) >= EXPOSED_MAX:
            raise LimitExceeded(
                tr(
                    "{exposed_max} services are exposed already; end some with `coterie unexpose`",
                    exposed_max=EXPOSED_MAX,
                )
            )
        record = ExposedRecord(
            id=known.id if known else self._exposed.new_id(),
            created=known.created if known else time.time(),
            name=name,
            target=place,
            kind=kind,
            to=subjects,
            host_header=host_header,
        )
        self._exposed.save(record)
        self._permit(record)
        return self._exposed_line(record)

    def _check_foreign(self, place: Target, kind: str) -> None:
        """Raise `UsageError` where this node itself listens: others would act as this node, or stand in its way."""
        if place.path:
            owner = self._context.local.owner_of("unix", place.path)
        else:
            owner = self._context.local.owner_of(kind, place.port) if is_this_machine(place.host) else ""
        if owner:
            raise UsageError(
                tr(
                    "{target} belongs to this node itself: {owner}. What coterie offers is given by `--to` where it is "
                    "made; expose the port of another program, or of another HOST:PORT",
                    target=("udp:" if kind == "udp" else "") + str(place),
                    owner=owner,
                )
            )

    def unexpose(self, name: str) -> ExposeSaid:
        """End it: connections of others end at once. Raises `NotFound`."""
        record = self._choose(name)
        self._exposed.remove(record.id)
        self._context.access.policy.withdraw(_resource_of(record))
        self._context.access.review()
        return ExposeSaid(
            record.name, f"{record.name} is no longer exposed; {_as_said(record)} itself is untouched"
        )

    def exposed(self) -> list[ExposedLine]:
        """All of them."""
        return [self._exposed_line(record) for record in self._exposed]

    # ---- what this node uses of others

    async def connect(self, service: str, *, port: int = 0, lan: bool = False) -> ConnectedLine:
        """Open a port here that leads to a service of a peer; one that is open already is shown.

        Raises:
            NotFound: nobody is called so, or no such service is for this node.
            TransportError, PeerError: the peer was not reached, or not understood.
            UsageError: the port is not to be had.
        """
        who, name = read_service(service)
        peer = self._context.people.find(who)
        opened = await self._connecting.ask(peer, name)
        known = [r for r in self._connected if (r.peer, r.name) == (str(peer), name)]
        if known and self._ports.get(known[0].id) and not port:
            return self._connected_line(known[0])
        for record in known:
            await self._forget(record)
        record = ConnectedRecord(
            id=self._connected.new_id(),
            created=time.time(),
            peer=str(peer),
            name=name,
            kind=opened.kind,
            lan=lan,
        )
        self._listen(record, port)
        self._connected.save(record)
        return self._connected_line(record)

    async def disconnect(self, service: str) -> ExposeSaid:
        """Close the port that leads to a service. Raises `NotFound`."""
        who, name = read_service(service)
        peer = str(self._context.people.find(who))
        for record in self._connected:
            if (record.peer, record.name) == (peer, name):
                await self._forget(record)
                return ExposeSaid(service, f"The port for {service} is closed")
        raise NotFound(
            tr(
                "no port here leads to {service}; `coterie connected` lists those that are open",
                service=service,
            )
        )

    def connected(self) -> list[ConnectedLine]:
        """All ports that lead to services of others."""
        return [self._connected_line(record) for record in self._connected]

    def _listen(self, record: ConnectedRecord, number: int = 0) -> None:
        peer = PeerId.parse(record.peer)
        label = f"{self._context.people.name_of(peer)}/{record.name}"
        local, note = self._context.local, f"{record.name} of {label.partition('/')[0]}"
        if record.kind == "udp":
            flow = partial(self._serve_flow, record, peer)
            self._ports[record.id] = local.udp(label, flow, number=number, lan=record.lan, note=note)
            return
        self._open_web()
        serve = partial(self._serve, record, peer)
        self._ports[record.id] = local.tcp(label, serve, number=number, lan=record.lan, note=note)

    async def _serve(self, record: ConnectedRecord, peer: PeerId, program: socket.socket) -> None:
        """One program that connected to a port here."""
        await self._noted(record, self._connecting.carry(peer, record.name, program))

    async def _serve_flow(self, record: ConnectedRecord, peer: PeerId, flow: Flow) -> None:
        """One program that sends datagrams to a port here."""
        await self._noted(record, self._connecting.carry_flow(peer, record.name, flow))

    async def _noted(self, record: ConnectedRecord, carrying: Coroutine[None, None, None]) -> None:
        try:
            await carrying
        except (CoterieError, TimeoutError) as error:
            self._states[record.id] = str(error)
            log.info("a connection to %s ended: %s", record.name, error)
        else:
            self._states.pop(record.id, None)

    async def _forget(self, record: ConnectedRecord) -> None:
        self._connected.remove(record.id)
        self._states.pop(record.id, None)
        port = self._ports.pop(record.id, None)
        if port is not None:
            await port.close()
        await self._close_web()

    def _peer_of(self, label: str) -> PeerId:
        """Whom the name of a host means. Raises `NotFound`."""
        people = self._context.people
        known = {k.peer for name, k in people.names().items() if label in (as_label(name), k.peer.short)}
        known |= {peer for r in self._connected if (peer := PeerId.parse(r.peer)).short == label}
        if len(known) != 1:
            many = "several people" if known else "nobody"
            raise NotFound(
                tr(
                    "'{label}' means {many} here; `coterie connected` shows the addresses of services",
                    label=label,
                    many=many,
                )
            )
        return known.pop()

    # ---- names

    def lead(self, find: FindLead) -> None:
        """As `api.Names.lead`."""
        self._leads.append(find)

    def show(self, find: FindPage) -> None:
        """As `api.Names.show`."""
        self._pages.append(find)

    def web_address(self, peer: PeerId, name: str) -> str:
        """As `api.Names.web_address`."""
        port = self._open_web()
        self._is_web_shown = True
        return f"http://{name}.{as_label(self._context.people.name_of(peer))}.localhost:{port.number}/"

    def names(self) -> NamesLine:
        """Whether names in .coterie are answered, and where."""
        number = self._names.number if self._names is not None else 0
        web = self._web.number if self._web is not None else 0
        return NamesLine(
            is_on=bool(number),
            address=f"127.0.0.1:{number}" if number else "",
            web=f"http://NAME.COMPUTER.{ZONE}:{web}/" if number and web else "",
            how=how_to_set_up(number) if number else [],
        )

    async def switch_names(self, *, is_on: bool, port: int = 0) -> NamesLine:
        """Answer names in .coterie from now on, also after restarts, or no longer.

        Raises:
            UsageError: the port is not to be had, or this node is offline.
        """
        if self._names is None:
            raise UsageError(tr("this node is offline; names are answered while it runs: coterie up"))
        await self._context.local.switch("names", is_on=is_on, number=port)
        if is_on:
            self._open_web()
        else:
            await self._close_web()
        return self.names()

    def _names_port(self, name: str, tasks: Tasks) -> DnsPort:
        async def ask(message: bytes) -> bytes:
            return answer_names(message, self._is_label)

        return DnsPort(ask, name, tasks)

    def _is_label(self, label: str) -> bool:
        try:
            self._peer_of(label)
        except NotFound:
            return False
        return True

    def _open_web(self) -> Port:
        if self._web is None:
            web = Web(
                self._connecting, self._peer_of, self._context.people.in_names, self._page_of, self._zones
            )
            self._web = self._context.local.tcp("web", web.serve, note="http://NAME.COMPUTER.localhost")
        return self._web

    async def _close_web(self) -> None:
        """The web port goes when nothing needs it any more."""
        is_used = self._is_web_shown or (self._names is not None and self._names.number)
        if self._web is not None and not is_used and not any(r.kind == "tcp" for r in self._connected):
            web, self._web = self._web, None
            await web.close()

    def _zones(self) -> Sequence[str]:
        is_on = self._names is not None and self._names.number
        return (LOCALHOST, ZONE) if is_on else (LOCALHOST,)

    def _lead_of(self, name: str) -> Lead | None:
        record = self._find(name)
        if record is not None:
            return Lead(
                resource=_resource_of(record),
                target=record.target,
                kind=record.kind,
                host_header=record.host_header,
            )
        return next((lead for find in self._leads if (lead := find(name)) is not None), None)

    async def _page_of(self, peer: PeerId, name: str) -> str:
        for find in self._pages:
            if page := await find(peer, name):
                return page
        return ""

    # ---- small things

    def _offered(self, peer: PeerId) -> list[Offered]:
        return [Offered(resource=_resource_of(r), name=r.name, note=r.kind) for r in self._exposed]

    def _permit(self, record: ExposedRecord) -> None:
        self._context.access.policy.permit_only(record.to, Verb.USE, _resource_of(record))
        self._context.access.review()

    def _find(self, name: str) -> ExposedRecord | None:
        return next((record for record in self._exposed if record.name == name), None)

    def _choose(self, text: str) -> ExposedRecord:
        found = next((record for record in self._exposed if text in (record.name, record.id)), None)
        if found is None:
            raise NotFound(tr("nothing is exposed as '{text}'; `coterie exposed` lists what is", text=text))
        return found

    def _resolve(self, path: str) -> str:
        name, slash, rest = path.partition("/")
        return self._choose(name).id + slash + rest

    def _say(self, path: str) -> str:
        one, slash, rest = path.partition("/")
        return next((record.name for record in self._exposed if record.id == one), one) + slash + rest

    def _exposed_line(self, record: ExposedRecord) -> ExposedLine:
        return ExposedLine(
            id=record.id,
            name=record.name,
            target=_as_said(record),
            kind=record.kind,
            to=[self._context.people.say(subject) for subject in record.to],
            connections=self._serving.open[_resource_of(record)],
            note=f"{self._context.me.name}/{record.name}",
        )

    def _web_address(self, record: ConnectedRecord, peer: str) -> str:
        number = self._web.number if self._web is not None and record.kind == "tcp" else 0
        return f"http://{record.name}.{as_label(peer)}.localhost:{number}/" if number else ""

    def _connected_line(self, record: ConnectedRecord) -> ConnectedLine:
        port = self._ports.get(record.id)
        name = self._context.people.name_of(PeerId.parse(record.peer))
        return ConnectedLine(
            id=record.id,
            service=f"{name}/{record.name}",
            kind=record.kind,
            address=port.address if port is not None else "",
            web=self._web_address(record, name),
            connections=port.connections if port is not None else 0,
            state=self._states.get(record.id, "ready"),
        )


def _resource_of(record: ExposedRecord) -> str:
    """What the policy calls a service."""
    return f"{KIND}/{record.id}"


def _as_said(record: ExposedRecord) -> str:
    """The target as people write it."""
    return ("udp:" if record.kind == "udp" else "") + str(record.target)
