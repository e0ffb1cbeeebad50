"""Relays among people who know each other: those this node listens at, and the one it runs for them.

A node runs a relay only where others can reach it, and only for its contacts. Every node chooses two or three home
relays among those that its contacts run, and stays connected to their owners: they tell it which address they see,
without which no direct path can be found from behind a router.
"""

import asyncio
import ipaddress
import logging
import random
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal

from coterie.errors import CoterieError, UsageError
from coterie.identity import PeerId
from coterie.net import Connection, Endpoint
from coterie.net.beat import until_beat_s
from coterie.net.dialable import Source, ip_of_relay, ip_text
from coterie.net.home_networks import Zone, is_home, zone_of
from coterie.net.quic.addresses import ANY_IP, has_ipv6
from coterie.net.relay.check import RelayChecks, is_elsewhere, seen_at
from coterie.net.relay.home import HomeRelays
from coterie.reach import Reach, ReachLevel
from coterie.relay_status import HomeRelay, RelayStatus
from coterie.texts import tr
from coterie.wire.record import is_address, split_address

if TYPE_CHECKING:  # imported where they are used: they are large
    from coterie.net.port_mapping import PortMapper
    from coterie.net.relay.server import RelayServer

Ip = ipaddress.IPv4Address | ipaddress.IPv6Address
Serving = Literal["contacts", "always", "off"]

LOOK_S = 5.0  # guess: contacts and addresses are looked at this often; a connection that comes wakes us
KEEP_EVERY_S = 40.0  # below `NetLimits.idle_s`
LINKS_KEPT = 1  # measured: a kept link and a home relay take 0.8 MB an hour; two would pass 1 MB
REVISIT_S = 480.0  # another contact is asked what it sees before that is stale (`net.observed`: 600 s)
MISSED_MAX_S = 120.0  # with contacts or the network gone: one attempt in two minutes, about 10 kB each
LINKS_MIN = 2  # contacts to hear from: two must agree on the address they see (`net.observed`)
DIALS_MAX = 2  # guess: at once
RETRY_MIN_S = 5.0  # guess; doubles after each failure
RETRY_MAX_S = 900.0  # guess: contacts who have been away for long
GUESTS_MAX = 16  # guess: who hold a ticket or an invitation of a contact, and have no other way to it
CHECK_EVERY_S = 1_200.0  # guess: a firewall changes seldom
CHECK_AGAIN_S = (4.0, 900.0)  # guess: after a check in which nobody got in; a new contact soon knows us
CHECKED_S = 3_600.0  # guess: three checks; then the relay is not claimed any more
RETRY_OWNER_MAX_S = 60.0  # the owner of a home relay: it answered a minute ago

log = logging.getLogger(__name__)


class PeerRelays:
    """Made by the node, when its contacts are known. `await start()`, and `await close()` before the endpoint.

    Args:
        transport: the endpoint's; one without `set_relays` (memory) has no use for relays.
        serving: "contacts": run a relay when this node has an address of the internet, or a router that maps
            ports; "always": also when it is not known to have one (a port forwarded by hand); "off".
        port: TCP port of the relay; 0 takes the number of the UDP port, else any that is free.
        contacts: everybody whom people here know, by name.
        mapper: asks the router for the relay's TCP port.
    """

    def __init__(
        self,
        reach: Reach,
        endpoint: Endpoint,
        transport: Any,
        *,
        serving: Serving,
        port: int,
        bind_ip: str,
        contacts: Callable[[], Mapping[PeerId, str]],
        mapper: "PortMapper | None" = None,
    ) -> None:
        self.checks = RelayChecks(endpoint)
        self._checked: dict[Ip, float] = {}  # where somebody elsewhere reached our relay by IPv6, and when
        self._next_check = self._check_again_s = 0.0
        self._is_checking = False
        self._mapper = mapper
        self._reach = reach
        self._endpoint = endpoint
        self._transport = transport
        self._serving = serving
        self._wanted_port = port
        self._bind_ip = bind_ip
        self._contacts = contacts
        self._server: RelayServer | None = None
        self._serves = self._problem = ""
        self._homes: HomeRelays | None = None
        self._owners: dict[str, PeerId] = {}
        self._was_dialled = False
        self._failures: dict[PeerId, int] = {}
        self._next_dial: dict[PeerId, float] = {}
        self._next_visit = 0.0
        self._misses = 0  # dials that failed, in a row
        self._next_keep: dict[PeerId, float] = {}
        self._tasks = endpoint.tasks.part("relays")
        self._dials = 0
        self._wake = asyncio.Event()
        self._news = asyncio.Event()  # the home relays may have changed

    async def start(self) -> None:
        """Begin; waits for nothing on the network."""
        if self._reach.level is ReachLevel.LOCAL:
            return
        self.checks.start()
        if not hasattr(self._transport, "set_relays"):
            return
        self._homes = HomeRelays(
            self._transport, on_change=lambda urls: self._tell(), tasks=self._tasks.part("home relays")
        )
        self._transport.watch(relay_lost=self._homes.lost)
        self._endpoint.watch(up=self._up, down=lambda connection: self._wake.set())
        self._tasks.keep(self._tend, "keeping relays")

    async def close(self) -> None:
        """Stop the relay and leave all others."""
        await self._tasks.close()
        if self._homes is not None:
            await self._homes.close()
        if self._server is not None:
            await self._server.close()

    @property
    def port(self) -> int:
        """Where our relay listens, TCP; 0 where there is none."""
        return self._server.port if self._server is not None else 0

    def status(self) -> RelayStatus:
        """A picture of now."""
        homes = self._homes.homes if self._homes is not None else ()
        described = [
            HomeRelay(url=url, owner=self._name(url), rtt_ms=self._rtt_ms(url), in_use=at == 0)
            for at, url in enumerate(homes)
        ]
        if self._server is None or not self._serves:
            return RelayStatus(homes=described, problem=self._problem)
        seen = self._server.metrics()
        return RelayStatus(
            homes=described,
            serves=self._serves,
            clients=seen.clients,
            forwarded_bytes=seen.forwarded_bytes,
            dropped=seen.dropped_queue_full + seen.dropped_over_rate + seen.dropped_no_such_client,
            denied=seen.denied,
            problem=self._problem,
        )

    async def settled(self) -> None:
        """Wait until a home relay is chosen, where there is one to choose from."""
        while self._owners and self._homes is not None and not self._homes.homes:
            self._news.clear()
            await self._news.wait()

    def look(self) -> None:
        """What our relay's address depends on has changed."""
        self._wake.set()

    @property
    def candidates(self) -> dict[str, PeerId]:
        """The relays that may be used, by URL, and who runs each."""
        return dict(self._owners)

    # ---- inside

    async def _tend(self) -> None:
        """Look now and again, and whenever a connection comes or goes."""
        while True:
            await self._serve()
            self._offer_candidates()
            self._stay_connected()
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self._wake.wait()
            self._wake.clear()

    def _up(self, connection: Connection) -> None:
        path = connection.path
        if not connection.is_dialled and path.kind == "direct" and is_address(path.remote):
            ip = split_address(path.remote)[0]
            self._was_dialled |= ip.version == 6 and not is_home(ip)
        self._wake.set()

    # our own relay

    async def _serve(self) -> None:
        """Run a relay while we seem reachable, and keep its URL true."""
        if self._serving == "off" or (self._server is None and not self._may_be_reached()):
            return
        if self._server is None:
            try:
                self._server = await self._listen()
            except UsageError as error:
                self._problem, self._serving = str(error), "off"
                log.warning("no relay for contacts: %s", error)
                return
            if self._mapper is not None:
                self._mapper.want("tcp", dict.fromkeys((4, 6), self._server.port))
        self._check(self._server)
        url = self._url(self._server.port)
        if url != self._serves:
            self._serves = url
            self._tell()

    async def _listen(self) -> "RelayServer":
        from coterie.net.relay.server import RelayServer
        from coterie.net.relay.server_core import RelayLimits

        ports = [self._wanted_port] if self._wanted_port else [_port_of(self._reach.own_addresses), 0]
        for port in ports:
            limits = RelayLimits(guests_max=GUESTS_MAX)
            server = RelayServer(may_use=self.may_use, limits=limits, host=self._bind_ip, port=port)
            try:
                await server.start()
            except UsageError:
                if port == ports[-1]:
                    raise
            else:
                is_whole = server.has_ipv6 or self._bind_ip != ANY_IP or not has_ipv6()
                if is_whole or port == ports[-1]:
                    return server
                await server.close()  # an open invitation may have the port of one IPv6 address
        raise UsageError(tr("no port for the relay"))

    def may_use(self, peer: PeerId) -> bool:
        """Whether our relay serves `peer` as more than a guest: contacts, and this node itself."""
        return peer == self._endpoint.peer_id or peer in self._contacts()

    def _may_be_reached(self) -> bool:
        """Whether it is worth listening: before that no router can be asked for the port."""
        is_called = self._was_dialled and any(ip.version == 6 for ip in self._public_ips())
        is_mapped = self._mapper is not None and bool(self._mapper.mapped)
        return bool(self._own_hosts()) or is_called or is_mapped or self._serving == "always"

    def _url(self, port: int) -> str:
        """Where others reach our relay at TCP `port`: on an address of this machine, or as the router maps it.

        Empty when that is nowhere. That peers reach our UDP port at an address says nothing of TCP.
        """
        hosts = self._own_hosts()
        by_router = self._mapped_at(port)
        if by_router and not any(ip.version == 4 for ip in hosts):
            return f"http://{by_router[0]}"
        if not hosts and self._serving == "always":
            seen = [split_address(a)[0] for a in self._reach.observed.believed if is_address(a)]
            own = [split_address(a)[0] for a in self._reach.own_addresses]
            hosts = seen or [ip for ip in own if not is_home(ip)] or own
        return f"http://{_host_text(min(hosts, key=lambda ip: ip.version))}:{port}" if hosts else ""

    def _mapped_at(self, port: int) -> list[str]:
        """Where a router lets others in to our TCP `port`."""
        mapped = self._mapper.mapped if self._mapper is not None else {}
        return [at for p, at in sorted(mapped.items()) if (p.protocol, p.number) == ("tcp", port)]

    def _own_hosts(self) -> list[Ip]:
        """Addresses of the internet that this machine has itself and is reached at.

        Most computers have a public IPv6 address behind a firewall: somebody must have come through it, by TCP.
        """
        now = asyncio.get_running_loop().time()
        self._checked = {ip: at for ip, at in self._checked.items() if now < at + CHECKED_S}
        return [ip for ip in self._public_ips() if ip.version == 4 or ip in self._checked]

    def _public_ips(self) -> list[Ip]:
        return [ip for a in self._reach.own_addresses if not is_home(ip := split_address(a)[0])]

    def _check(self, server: "RelayServer") -> None:
        """Have a contact elsewhere try our relay by IPv6, where nothing else says that it is reached."""
        own = self._public_ips()
        now = asyncio.get_running_loop().time()
        is_due = now >= self._next_check and not self._is_checking and server.has_ipv6
        if not is_due or any(ip.version == 4 for ip in own) or self._mapped_at(server.port):
            return
        contacts = self._contacts()
        asked = [c for c in self._endpoint.connections if c.peer in contacts]
        asked = [c for c in asked if (ip := seen_at(c)) is not None and is_elsewhere(ip, own)]
        if asked:
            self._is_checking = True
            # Not always the same one: whoever is cut off, or lies, decides no more than one check.
            self._tasks.start(self._ask(random.choice(asked), server.port), "checking our relay")  # noqa: S311

    async def _ask(self, connection: Connection, port: int) -> None:
        first_s, longest_s = CHECK_AGAIN_S
        try:
            at = await self.checks.ask(connection, port)
        finally:
            self._is_checking = False
            self._check_again_s = min(longest_s, 2 * self._check_again_s or first_s)
            self._next_check = asyncio.get_running_loop().time() + self._check_again_s
        if at is not None and at in self._public_ips():
            now = asyncio.get_running_loop().time()
            self._checked[at], self._next_check, self._check_again_s = now, now + CHECK_EVERY_S, 0.0
            self._wake.set()

    # relays of others

    def _offer_candidates(self) -> None:
        """Our own relay, which is the nearest, and those of contacts."""
        if self._homes is None:
            return
        now = self._reach.now
        owners = {self._serves: self._endpoint.peer_id} if self._serves else {}
        for peer in self._contacts():
            record = self._reach.book.record(peer, now)
            if record is not None and record.serves and self._is_there(peer, record.serves):
                owners.setdefault(record.serves, peer)
        if owners != self._owners:
            self._owners = owners
            self._endpoint.dialling.relays_known = frozenset(owners)
            self._homes.set_candidates(list(owners))
            self._news.set()

    def _is_there(self, peer: PeerId, url: str) -> bool:
        """Whether a relay that `peer` says it runs may be asked: its own computer, never one of its choosing."""
        if not self._endpoint.dialling.refusal(url):
            return True
        entry = self._reach.book.entry(peer)
        met_at = [ip_text(a) for a in entry.tried] if entry is not None else []
        met_at += [ip_text(c.path.remote) for c in self._endpoint.connections if c.peer == peer]
        zone = zone_of(ipaddress.ip_address(ip_of_relay(url))) if ip_of_relay(url) else Zone.NOWHERE
        is_met = ip_of_relay(url) in met_at and zone in (Zone.HOME, Zone.INTERNET)
        return is_met and not self._endpoint.dialling.refusal(url, Source.PROVEN)

    def _tell(self) -> None:
        """Our record says where we listen and what we serve."""
        homes = self._homes.homes if self._homes is not None else ()
        self._reach.set_relays(homes, self._serves)
        self._wake.set()
        self._news.set()

    def _stay_connected(self) -> None:
        """Dial the owners of our home relays, and other contacts while fewer than `LINKS_MIN` are there."""
        now = asyncio.get_running_loop().time()
        live = {connection.peer for connection in self._endpoint.connections}
        homes = self._homes.homes if self._homes is not None else ()
        owners = [self._owners[url] for url in homes if url in self._owners]
        wanted = [peer for peer in owners[:LINKS_KEPT] if peer not in live]
        contacts = self._contacts()
        self._keep(owners, now)
        present = len(wanted) + sum(peer in contacts for peer in live)
        missing = LINKS_MIN - present
        is_time = now >= self._next_visit or (not present and not self._misses)
        if missing > 0 and is_time:
            others = sorted((p for p in contacts if p not in live and p not in wanted), key=self._last_heard)
            due = [peer for peer in others if self._next_dial.get(peer, 0.0) <= now]
            wanted += due[:missing]
        for peer in wanted:
            is_due = peer != self._endpoint.peer_id and self._next_dial.get(peer, 0.0) <= now
            if is_due and self._dials < DIALS_MAX:
                self._next_dial[peer] = float("inf")
                retry_max_s = RETRY_OWNER_MAX_S if peer in owners else RETRY_MAX_S
                self._tasks.start(self._dial(peer, retry_max_s), "dialling a contact")

    def _keep(self, owners: list[PeerId], now: float) -> None:
        """Do not let the connections end that we would dial again at once."""
        contacts = self._contacts()
        live = {c.peer: c for c in self._endpoint.connections if c.peer in contacts}
        kept = [live[p] for p in dict.fromkeys([*owners, *live]) if p in live][:LINKS_KEPT]
        self._next_keep = {c.peer: self._next_keep.get(c.peer, now + KEEP_EVERY_S) for c in kept}
        for connection in kept:
            if self._next_keep[connection.peer] <= now:
                self._next_keep[connection.peer] = now + KEEP_EVERY_S
                self._tasks.start(self._use(connection), "keeping a connection")

    async def _use(self, connection: Connection) -> None:
        try:
            await self._reach.keep(connection)
        except CoterieError as error:
            log.debug("%s", error)

    async def _dial(self, peer: PeerId, retry_max_s: float) -> None:
        failures = 0
        try:
            await self._reach.connect(peer, knocks=False)  # on the beat: it dials too, if it is there
        except CoterieError as error:
            log.debug("not connected to %s: %s", peer.short, error)
            failures = self._failures.get(peer, 0) + 1
            self._misses += 1
            pause_s = until_beat_s(self._reach.now, min(MISSED_MAX_S, 2.0 ** min(self._misses, 20)))
        else:
            self._misses = 0
            pause_s = REVISIT_S if self._has_enough() else 0.0
        self._next_visit = asyncio.get_running_loop().time() + pause_s
        self._failures[peer] = failures
        wait_s = min(retry_max_s, RETRY_MIN_S * 2.0 ** min(failures, 20)) * random.uniform(0.9, 1.1)  # noqa: S311
        # A contact behind a firewall that dials us too gets through when both dial at once.
        pause_s = until_beat_s(self._reach.now, wait_s)
        self._next_dial[peer] = asyncio.get_running_loop().time() + pause_s
        self._wake.set()

    def _has_enough(self) -> bool:
        contacts = self._contacts()
        return sum(c.peer in contacts for c in self._endpoint.connections) >= LINKS_MIN

    def _last_heard(self, peer: PeerId) -> tuple[bool, float]:
        """Who runs a relay first, then who was heard of last."""
        entry = self._reach.book.entry(peer)
        if entry is None:
            return True, 0.0
        return not (entry.record is not None and entry.record.serves), -entry.heard_at

    # in words

    def _name(self, url: str) -> str:
        owner = self._owners.get(url)
        if owner is None:
            return "nobody known"
        return "this node" if owner == self._endpoint.peer_id else self._contacts().get(owner) or owner.short

    def _rtt_ms(self, url: str) -> float | None:
        rtt_s = self._homes.round_trip_s(url) if self._homes is not None else None
        return None if rtt_s is None else round(rtt_s * 1000, 1)


def _host_text(ip: Ip) -> str:
    return f"[{ip}]" if ip.version == 6 else str(ip)


def _port_of(addresses: list[str]) -> int:
    return next((split_address(a)[1] for a in addresses), 0)
