"""The composition root: the only place where keys, network, store and apps are put together.

async with Node.open("home-of-anna") as node:
    shared = await node.files.share("photos")
"""

import asyncio
import contextlib
import functools
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from coterie.access.enforcer import Enforcer
from coterie.access.names import fit
from coterie.access.people import People
from coterie.app_context import AppContext
from coterie.app_host import AppHost
from coterie.apps.app import App
from coterie.apps.context import Neighbours
from coterie.content import Collected, Store, Usage
from coterie.content.versions import Versions
from coterie.errors import NotFound, StorageError, TransportError, UsageError
from coterie.home import Home
from coterie.identity import PeerId, SecretKey, load_or_create_key
from coterie.incarnation import Incarnation
from coterie.net import Connection, Endpoint, Guard
from coterie.net.ahead import Ahead
from coterie.net.find.knocks import Surroundings
from coterie.net.find.outside import Facts, Outside, judge
from coterie.net.find.resolver import Resolver
from coterie.net.interfaces import Transport
from coterie.net.lanes.dialling import is_local_path
from coterie.net.lanes.lanes import Lanes
from coterie.net.relay.check import RELAY_CHECK
from coterie.node_status import ConnectionLine, NodeStatus
from coterie.own_ports import ports_of
from coterie.peer_line import PeerLine
from coterie.private_file import write_private
from coterie.reach import Reach, ReachLevel
from coterie.reach_note import ReachNote
from coterie.relay_status import RelayStatus
from coterie.services.blobs import BlobExchange, BlobFolder, Blobs
from coterie.services.blobs.exchange import BLOBS
from coterie.services.data.service import Data
from coterie.services.directory.messages import DIRECTORY
from coterie.services.directory.service import Directory
from coterie.services.jobs.service import Jobs
from coterie.services.local import Ports
from coterie.services.tell.desktop import Desktop
from coterie.services.tell.service import Notices
from coterie.settings import Config, platform_name
from coterie.tasks import Tasks
from coterie.texts import tr
from coterie.wire.knock import Right
from coterie.wire.record import split_address
from coterie.wire.ticket import fit_addresses

if TYPE_CHECKING:
    from coterie.net.port_mapping import PortMapper
    from coterie.network import NodeNetwork
    from coterie.relays import PeerRelays
    from coterie.services.mail.room import MailRoom

log = logging.getLogger(__name__)

ALONE_S = 0.5  # guess: getting a small file is over by then
SETTLE_S = 4.0  # guess: a router that speaks UPnP only has answered by then


class Node:
    """One running node. Made by `Node.open`; usable inside its `async with` only."""

    def __init__(self, home: Home, config: Config, key: SecretKey, store: Store) -> None:
        """Raises `StorageError` when the audit log cannot be opened."""
        self.home = home.root
        self.config = config
        self.peer_id = key.peer_id
        self.name = fit(config.name) or platform_name()  # the file may say what is no name
        self.store = store
        self.versions = Versions(home.versions)
        self.endpoint: Endpoint | None = None
        self.reach: Reach | None = None
        self.relays: PeerRelays | None = None
        self.mapper: PortMapper | None = None
        self.neighbours: Neighbours | None = None
        self.people = People(self.peer_id, self.name)
        self.tasks = Tasks()
        self.access = Enforcer(key.peer_id, self.people.standing, log_path=home.audit_log, tasks=self.tasks)
        self.directory = Directory(self.access, self.people, connect=self.connect)
        self.notices = Notices(
            home.notices,
            self.tasks.part("notices"),
            desktop=Desktop() if config.desktop_notices else None,
        )
        self.ports = Ports(home.ports_file, self.tasks.part("services"))
        self.ports.claim(self._own_ports)
        self.reach_note = ReachNote(home.reach_note)
        self.jobs = Jobs(home.jobs, self.tasks.part("jobs"), tell=self.notices.tell)
        self.kept: dict[str, Data | Blobs] = {}  # by "data APP" and "blobs APP"
        self.knock_rights: list[Callable[[bytes], Iterable[bytes]]] = []
        self.blobs = BlobFolder(home.blobs, store)
        self.blob_exchange = BlobExchange(key.peer_id, store, self.access, self.blobs.rates.up)
        self.host = AppHost(
            lambda app: AppContext(self, app, home=home.app(app.name), sign=key.sign),
            self.tasks.part("apps"),
            on_failure=lambda app, reason: self.notices.tell(app, f"this app failed: {reason}", "failed"),
        )
        self._layout = home
        self._key = key
        self._transport: Transport | None = None
        self._mail: MailRoom | None = None
        self._since = time.monotonic()

    @classmethod
    @contextlib.asynccontextmanager
    async def open(
        cls,
        home: Path | str | None = None,
        *,
        offline: bool = False,
        first: str = "",
        transport: Transport | None = None,
        apps: Sequence[str | App] | None = None,
    ) -> AsyncIterator["Node"]:
        """Run the node that lives in `home` (None: the user's own) while the block runs.

        Args:
            home: a folder; made, with a new identity, when there is none.
            offline: no network: for looking at and changing what is stored.
            first: for something of this app that is mostly over at once: the others wait for `start_rest`, and for
                `ALONE_S` nobody is told of this node, no resolver looks for others, and no router is asked.
            transport: bound already, for tests and simulations; else QUIC on the configured port.
            apps: only these, by their names or as they are, and what they require; None: all that are installed.

        Raises:
            StorageError: another node runs in this home, or it cannot be used.
            UsageError: a setting or the wanted port cannot be.
            NotFound: one of `apps` is not installed.
        """
        place = Home.locate(home)
        async with contextlib.AsyncExitStack() as stack:
            stack.enter_context(place.lock())
            config = place.config()
            key = load_or_create_key(place.key)
            store = Store.open(place.database)
            stack.callback(store.close)
            node = cls(place, config, key, store)
            stack.push_async_callback(node.access.close)
            if not offline:
                await node._connect_network(key, transport, alone_s=ALONE_S if first else 0.0)
            stack.push_async_callback(node._close)
            await node.host.start(apps, first=first)
            await node._start_relays()
            yield node

    async def start_rest(self) -> None:
        """Start the apps that were not needed first."""
        await self.host.start_rest()

    def __getattr__(self, app: str) -> Any:
        """The running service of an app by its name: `node.files`. AttributeError says why there is none."""
        if app.startswith("_") or app == "host":  # copying and half-made nodes ask for those
            raise AttributeError(app)
        try:
            return self.host.service(app)
        except NotFound as error:
            raise AttributeError(str(error)) from None

    @property
    def apps(self) -> Mapping[str, App]:
        """The apps that could be loaded, by name."""
        return self.host.apps

    @property
    def is_offline(self) -> bool:
        """Whether it was opened without the network, for what is stored only."""
        return self.endpoint is None

    @property
    def addresses(self) -> list[str]:
        """Where peers may dial this node, "ip:port"; empty while offline."""
        return self.endpoint.addresses if self.endpoint else []

    async def connect(
        self,
        peer: PeerId,
        hints: Sequence[str] = (),
        *,
        own: Sequence[str] = (),
        right: Right | None = None,
        ahead: Ahead | None = None,
    ) -> Connection:
        """The connection to `peer`, wherever it is: known addresses, `hints` and what resolvers find, at once.

        `hints`, `own`, `right` and `ahead` as for `Reach.connect`; `net.dialable` says how `own` differs from `hints`.

        Raises:
            TransportError: it was not reached; the text says what was tried.
            PeerError: it refuses.
        """
        if self.reach is None:
            raise TransportError(tr("this node is offline"))
        hints = [*hints, *self.people.addresses(peer)]
        return await self.reach.connect(peer, hints, own=own, right=right, ahead=ahead)

    def peers(self) -> list[PeerLine]:
        """Everybody known of: connected first, then who was heard of last."""
        return self.reach.peers() if self.reach else []

    def service(self, app: str) -> Any:
        """The running service of `app`. Raises NotFound, which says why it does not run."""
        return self.host.service(app)

    def status(self) -> NodeStatus:
        """A picture of the node now."""
        connections = self.endpoint.connections if self.endpoint else []
        relays = self.relay_status()
        names = {known.peer: name for name, known in self.people.names().items()}
        present = self.people.here() or ()
        return NodeStatus(
            peer_id=str(self.peer_id),
            short=self.peer_id.short,
            name=self.name,
            home=str(self.home),
            reach=self.reach.describe() if self.reach else f"{self.config.reach} (offline)",
            addresses=self.addresses,
            here=[name for peer, name in names.items() if peer in present],
            connections=[
                ConnectionLine(names.get(c.peer, c.peer.short), c.path.kind, c.path.remote)
                for c in connections
            ],
            port_mapping=self.describe_mapping(),
            outside=self.outside().text() if self.reach else "offline",
            home_relays=relays.homes if relays else [],
            relay=relays,
            apps={name: self._facts(name, service) for name, service in self.host.services().items()},
            ports=[f"{p.name} {p.address or 'off'} for {p.users}" for p in self.ports.lines()],
            app_troubles=[state.text() for state in self.host.states() if state.reason],
            services=self._services_status(),
            uptime_s=round(time.monotonic() - self._since, 1),
            troubles=self.troubles(),
        )

    def _facts(self, app: str, service: Any) -> dict[str, Any]:
        """What an app says of itself, and what the node keeps for it."""
        said = dict(getattr(service, "status", dict)())
        return said | (self._mail.status(app) if self._mail is not None else {})

    def _services_status(self) -> dict[str, dict[str, Any]]:
        """A line for each service that is in use, of each app where it has its own."""
        lines = {name: kept.status() for name, kept in self.kept.items()}
        lines |= {"jobs": self.jobs.status(), "notices": self.notices.status()}
        return {name: facts for name, facts in lines.items() if facts}

    def _own_ports(self) -> Mapping[tuple[str, int], str]:
        if self.reach is None:
            return {}
        return ports_of(
            finds_neighbours=self.neighbours is not None,
            directory=[at for r in self.reach.resolvers for at in getattr(r, "listens", ())],
            own=self.reach.own_addresses,
            relay=self.relays.port if self.relays is not None else 0,
        )

    def describe_mapping(self) -> str:
        """What the home router lets in to this node, or why nothing, in words."""
        if not self.config.port_mapping:
            return "off (the setting `port_mapping`)"
        if self.config.reach == "local":
            return "not used at the level local"
        return self.mapper.describe() if self.mapper is not None else "not used"

    def ticket_addresses(self) -> tuple[str, ...]:
        """What a ticket names: the first of `addresses`, and relays (URLs) where this node listens."""
        if self.reach is not None:
            self.reach.stir()  # whom it is given to may knock soon
        return fit_addresses(self.addresses, self.reach.relays if self.reach else ())

    def outside(self) -> Outside:
        """Whether somebody elsewhere reaches this node, and what would change that."""
        reach = self.reach
        if reach is None:
            return judge(Facts(level=self.config.reach))
        public = [r for r in reach.resolvers if r.is_public]
        return judge(
            Facts(
                level=reach.level,
                own=reach.own_addresses,
                mapped=reach.mapped,
                mapping=self.describe_mapping(),
                nat=reach.observed.mapping(),
                relays=reach.relays,
                directory="; ".join(filter(None, (str(getattr(r, "problem", "")) for r in public))),
                listens=reach.listens,
            )
        )

    async def settled(self) -> None:
        """Wait, for a short time, until it is known where others reach this node: before a ticket names it."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_S):
                if self.mapper is not None:
                    await self.mapper.settled(SETTLE_S)
                if self.relays is not None:
                    await self.relays.settled()

    def troubles(self) -> list[str]:
        """What is not as it should be, one line each."""
        known = [trouble.text() for trouble in self.tasks.troubles()]
        copy = self.reach.copy_seen if self.reach is not None else ""
        return [*known, *filter(None, [self.access.audit.problem, copy])]

    def relay_status(self) -> "RelayStatus | None":
        """Home relays and our own; None while offline."""
        return self.relays.status() if self.relays else None

    async def usage(self) -> Usage:
        """What the content index, its database and unfinished downloads take on disk."""
        usage = await asyncio.to_thread(self.store.usage)
        unfinished: dict[str, int] = {}
        for service in self.host.services().values():
            for partial in await asyncio.to_thread(getattr(service, "partials", list)):
                unfinished[str(partial.path)] = partial.bytes
        return msgspec.structs.replace(usage, unfinished=unfinished)

    async def collect_garbage(self) -> Collected:
        """Remove whatever nobody keeps: see `BlobFolder.collect_garbage`."""
        return await asyncio.to_thread(self.blobs.collect_garbage)

    async def _connect_network(self, key: SecretKey, transport: Transport | None, *, alone_s: float) -> None:
        resolvers: list[Resolver] = []
        has_own_socket = transport is None
        if transport is None:
            transport = await self._bind_quic(key)
            resolvers = self._resolvers(key)
        elif transport.peer_id != key.peer_id:
            raise UsageError(tr("the transport was bound with another key than the home's"))
        guard = Guard(
            self.access.may_open,
            is_blocked=self.access.is_blocked,
            declare=lambda protocol: self.access.open_protocol(protocol, strangers=True),
            is_known=self.people.is_known,
        )
        lanes = None
        if self.config.lanes:
            may_use = is_local_path if self.config.reach == "local" else None
            lanes = Lanes(self.config.bind, may_use=may_use, tasks=self.tasks.part("lanes"))
        self.endpoint = Endpoint(
            transport,
            guard=guard,
            lanes=lanes,
            tasks=self.tasks.part("network"),
            uses_relays=self.config.reach != "local",
            opened=self.host.started,
        )
        self._transport = transport
        self.access.open_protocol(DIRECTORY.name, strangers=False)
        self.endpoint.register(DIRECTORY, self.directory.handle)
        self.endpoint.register(
            BLOBS, self.blob_exchange.handle, strangers=True
        )  # the right is judged by content
        self.access.watch(self.endpoint.review)
        self.reach = Reach(
            self.endpoint,
            transport,
            key,
            level=ReachLevel(self.config.reach),
            name=self.name,
            book_path=self._layout.address_book,
            resolvers=resolvers,
        )
        self.reach.set_contacts(self.people.known)
        self.reach.incarnation = Incarnation.begin(self._layout.incarnations)
        self.people.watch_presence(self.reach.present)
        reach = self.reach
        self.people.hear_names(lambda: reach.book.names(reach.now))
        self._start_knocking(self.reach)
        await self.reach.start(alone_s=alone_s)
        if has_own_socket:
            self._start_mapping(key, transport, alone_s)
        self.endpoint.start()

    def _start_knocking(self, reach: Reach) -> None:
        """At the level that has the DHT: others are asked to dial back by it, and are heard."""
        around = Surroundings(
            addresses=reach.where_we_dial_from,
            is_known=self.people.is_known,
            is_blocked=self.access.is_blocked,
            secrets=lambda reference: [s for told in self.knock_rights for s in told(reference)],
            contacts=self.people.contacts,
            present=reach.present,
        )
        reach.start_knocking(around, self.tasks.part("knocking"))

    def _start_mapping(self, key: SecretKey, transport: Transport, later_s: float) -> None:
        """Ask the router for our UDP ports `later_s` from now, and tell in our record what it maps.

        Where that is not wanted, what the transport had mapped is taken away.
        """
        reach = self.reach
        if reach is None or reach.is_on_loopback:
            return
        from coterie.net.port_mapping import PortMapper

        def changed() -> None:
            mapped = mapper.mapped
            reach.set_mapped([at for port, at in mapped.items() if port.protocol == "udp"])
            if self.relays is not None:
                self.relays.look()

        def leftovers() -> list[int]:
            found: list[str] = getattr(transport, "mapped_by_wheel", [])
            return [split_address(a)[1] for a in found]

        ports = reach.ports
        mapper = PortMapper(
            key.seed,
            self.config.bind,
            on_change=changed,
            udp_port=ports.get(4, 0),
            leftovers=leftovers,
            tasks=self.tasks.part("port mapping"),
        )
        if self.config.port_mapping and reach.level is not ReachLevel.LOCAL:
            mapper.want("udp", ports)
        self.mapper = mapper
        if not later_s:
            mapper.start()
            return

        async def start_later() -> None:
            await asyncio.sleep(later_s)
            mapper.start()

        self.tasks.start(start_later(), "port mapping")

    def _resolvers(self, key: SecretKey) -> list[Resolver]:
        """What the level and the settings allow."""
        resolvers: list[Resolver] = []
        if self.config.discovery:
            from coterie.net.find.mdns import MdnsResolver

            local = MdnsResolver(
                self.peer_id, bind_ip=self.config.bind, tasks=self.tasks.part(MdnsResolver.name)
            )
            self.neighbours = local
            resolvers.append(local)
        if ReachLevel(self.config.reach) is ReachLevel.INTERNET:
            resolvers.append(self._mainline(key))
        return resolvers

    def _mainline(self, key: SecretKey) -> Resolver:
        from coterie.net.find.mainline import PUBLIC_ROUTERS, MainlineResolver

        first = self.config.dht_nodes()
        if self.config.dht_private and not first:
            raise UsageError(tr("dht_private needs dht_bootstrap as well: the first nodes of that DHT"))
        state = b""
        with contextlib.suppress(OSError):  # the first time, there is none
            state = self._layout.mainline.read_bytes()
        resolver = MainlineResolver(
            key,
            bootstrap=first or PUBLIC_ROUTERS,
            listen=(self.config.bind, 0),
            state=state,
            keep=self._keep_mainline,
            test_network=self.config.dht_private,
        )
        resolver.tasks = self.tasks.part(resolver.name)
        return resolver

    def _keep_mainline(self, state: bytes) -> None:
        try:
            write_private(self._layout.mainline, state)
        except StorageError as error:
            log.warning("%s", error)

    async def _bind_quic(self, key: SecretKey) -> Transport:
        """Bind the configured port, else the one used last (tickets name it), else any."""
        from coterie.net.quic.transport import QuicTransport  # 19 MB of wheel: not for offline commands

        remembered = self._layout.run / "port"
        bind = functools.partial(
            QuicTransport.bind, key, bind_ip=self.config.bind, tasks=self.tasks.part("quic")
        )
        if self.config.port:
            return await bind(port=self.config.port)
        with contextlib.suppress(OSError, ValueError, StorageError, UsageError, TransportError):
            port = int(remembered.read_text(encoding="ascii"))
            return await bind(port=port)
        transport = await bind(port=0)
        if transport.addresses:
            write_private(remembered, transport.addresses[0].rpartition(":")[2].encode())
        return transport

    async def _start_relays(self) -> None:
        """What contacts are good for in reaching others: kept in the book, asked, trusted with relays."""
        if self.reach is None or self.endpoint is None or self._transport is None:
            return
        from coterie.relays import PeerRelays

        for record in self.people.records():
            self.reach.learn(record, "contact")
        self.relays = PeerRelays(
            self.reach,
            self.endpoint,
            self._transport,
            serving=self.config.relay,
            port=self.config.relay_port,
            bind_ip=self.config.bind,
            contacts=self.people.contacts,
            mapper=self.mapper if self.config.port_mapping else None,
        )
        self.access.open_protocol(RELAY_CHECK.name, strangers=False)
        await self.relays.start()

    def peer_network(
        self, register: Callable[..., None], sign: Callable[[bytes], bytes]
    ) -> "NodeNetwork | None":
        """For an app that registers its protocols and signs by these; None while offline."""
        if self.endpoint is None or self.reach is None:
            return None
        from coterie.network import NodeNetwork

        return NodeNetwork(
            self.endpoint,
            self.reach,
            sign,
            register=register,
            contacts=lambda: list(self.people.contacts()),
            is_known=self.people.is_known,
        )

    def mail_room(self) -> "MailRoom":
        """The mail of all apps; made when the first asks for it."""
        if self._mail is None:
            from coterie.services.mail.room import MailRoom

            self.access.open_protocol(MailRoom.protocol.name, strangers=False)
            self._mail = MailRoom(
                self._key,
                self.people,
                self.endpoint,
                connect=self.connect,
                clock=lambda: self.access.now,
                tasks=self.tasks.part("mail"),
                opened=self.host.started,
            )
        return self._mail

    async def _close(self) -> None:
        if self.relays is not None:
            await self.relays.close()
        withdrawal = asyncio.ensure_future(self.reach.close()) if self.reach else None
        # The router's answer takes as long as what else ends here: the two beside each other.
        unmapping = asyncio.ensure_future(self.mapper.close()) if self.mapper else None
        await self.host.close()
        await self.jobs.close()
        self.blob_exchange.close()
        if self._mail is not None:
            await self._mail.close()
        if withdrawal is not None:
            await withdrawal
        await self.tasks.close()
        if self.endpoint is not None:
            await self.endpoint.close()
        if unmapping is not None:
            await unmapping
