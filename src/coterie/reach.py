"""How far a node reaches: owns the address book, the resolvers of its level, and its own published record.

`local`     peers on the local network; nothing is asked or told beyond it, except to whom a person connects
`circle`    also addresses that peers see us at, relays of peers, and what contacts know of each other
`internet`  also a public directory
"""

import asyncio
import ipaddress
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import cast

from coterie.access.names import fit
from coterie.driver import Driver
from coterie.errors import CoterieError, StorageError, UsageError
from coterie.identity import PeerId, SecretKey
from coterie.incarnation import Incarnation
from coterie.knocking import LISTENS_S, BellTable, Knocker
from coterie.machine import Emit, PeerDown
from coterie.net import Connection, Endpoint
from coterie.net.ahead import Ahead
from coterie.net.find.address_book import AddressBook
from coterie.net.find.address_book_file import BookFile
from coterie.net.find.contacts import CircleResolver
from coterie.net.find.exchange import RecordExchange
from coterie.net.find.knocks import Surroundings
from coterie.net.find.observed import (
    AddExternal,
    ObservedAddresses,
    OwnAddresses,
    RemoveExternal,
    Reported,
)
from coterie.net.find.reaching import Seek
from coterie.net.find.resolver import Found, Resolver
from coterie.net.home_networks import Zone, is_home, zone_of
from coterie.net.interfaces import Transport
from coterie.peer_line import PeerLine
from coterie.resolving import Resolving
from coterie.tasks import Tasks
from coterie.texts import tr
from coterie.wire.knock import ADDRESSES_MAX as KNOCK_ADDRESSES_MAX
from coterie.wire.knock import Right
from coterie.wire.record import (
    NAME_CHARS_MAX,
    PeerRecord,
    RecordRefused,
    RefusedFor,
    is_address,
    is_relay,
    split_address,
)

LIFETIME_S = 24 * 3600  # guess: a computer that is off for a day has another address often enough
RENEW_S = LIFETIME_S // 2  # guess: half-way, so that one failed publication does no harm
WATCH_EVERY_S = 5.0  # guess: a changed address is told before people wonder; a look costs 0.2 ms
NEAR_FIRST = 4  # own addresses: IPv4 and IPv6, of a home and of the internet
SKEWS_MAX = 64  # peers whose clock is compared with ours
SAVE_EVERY_S = 60.0  # guess: what a crash forgets of the book

log = logging.getLogger(__name__)

Contacts = Callable[[], Mapping[PeerId, str]]


class ReachLevel(StrEnum):
    """The one setting."""

    LOCAL = "local"
    CIRCLE = "circle"
    INTERNET = "internet"


class Reach:
    """Everything between "this peer" and a connection to it. Made and closed by the node."""

    def __init__(
        self,
        endpoint: Endpoint,
        transport: Transport,
        key: SecretKey,
        *,
        level: ReachLevel,
        name: str,
        book_path: Path,
        resolvers: Sequence[Resolver] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`transport` is the endpoint's; `clock` gives unix seconds."""
        self.level = level
        self.book = AddressBook(endpoint.peer_id, is_kept=lambda peer: peer in self._contacts())
        self.resolvers = list(resolvers)
        self.observed = ObservedAddresses()
        self._endpoint = endpoint
        endpoint.dialling.machine = lambda: self.own_addresses
        self._transport = transport
        self._key = key
        self._name = "".join(c if c.isprintable() else "?" for c in name)[:NAME_CHARS_MAX]
        self._file = BookFile(book_path)
        self._clock = clock
        self._contacts: Contacts = dict
        self._relays: tuple[str, ...] = ()
        self._serves = ""
        self._full = self._public = b""
        self._mapped: tuple[str, ...] = ()
        self._told: dict[str, None] = {}  # outside addresses that the transport knows of
        self._described: tuple[tuple[str, ...], str, bool] = ((), "", False)
        self._signed_at = float("-inf")
        self.skews: dict[PeerId, float] = {}
        """Of peers that told their record: seconds that their clock is ahead of ours at least (below 0: behind)."""
        self.knocker: Knocker | None = None
        """At the level `internet`: asks others to dial back, and hears who asks us."""
        self.incarnation = Incarnation()
        self.copy_seen = ""
        """For people: that another computer runs with this node's identity; empty while none was noticed."""
        self._began = int(clock())
        self._tasks = endpoint.tasks.part("reach")
        self._exchange = RecordExchange(endpoint, self, tasks=self._tasks.part("records"))
        if level is not ReachLevel.LOCAL:
            self.resolvers.append(
                CircleResolver(endpoint, ask=self._exchange.ask, contacts=self._current_contacts)
            )
        self._driver: Driver | None = None
        self._changed = asyncio.Event()
        self._resolving = Resolving(
            self.resolvers, self._found_by, lambda r: self._public if r.is_public else self._full
        )

    # ---- life

    async def start(self, *, alone_s: float = 0.0) -> None:
        """Load the book and begin; waits for nothing on the network.

        `alone_s`: until then no resolver begins, so that nobody is told of a node that is gone by then.

        Raises:
            StorageError: the book cannot be read.
        """
        self._file.load(self.book, self._clock())
        self.book.expire(self._clock())
        self._driver = Driver(self.observed, send=lambda peer, message: None, on_output={Emit: self._emitted})
        self._tasks.start(self._driver.wait_closed(), "learning where others see us")
        self._sign()
        self._exchange.start()
        self._endpoint.watch(up=self._up, down=self._down)
        watch = getattr(self._transport, "watch", None)
        if watch is not None:  # a transport that tells changes saves us the wait for the next look
            watch(path=lambda *_: self._changed.set(), addresses=lambda *_: self._changed.set())
        if alone_s:
            self._tasks.start(self._resolving.start(alone_s), "looking for others")
        else:
            await self._resolving.start()
        self._tasks.keep(self._tend, "tending addresses")

    async def close(self) -> None:
        """Withdraw what can be withdrawn quickly, and save the book."""
        await asyncio.gather(
            self._tasks.close(),
            *(r.close() for r in self.resolvers),
            self._exchange.close(),
            *([self.knocker.close()] if self.knocker is not None else []),
            return_exceptions=True,
        )
        if self._driver is not None:
            self._driver.close()
        self._save()

    async def add_resolver(self, resolver: Resolver) -> None:
        """Use one more resolver from now on; a running node starts and publishes through it at once."""
        self.resolvers.append(resolver)
        if self._driver is not None:
            await self._resolving.start_one(resolver)

    def set_contacts(self, contacts: Contacts) -> None:
        """`contacts()` gives everybody a person here knows, with the name they have here."""
        self._contacts = contacts

    def set_relays(self, relays: Sequence[str], serves: str = "") -> None:
        """The relays (URLs) where this node listens, best first; and the one it runs for others, if any."""
        self._relays, self._serves = tuple(relays), serves
        self._changed.set()

    def set_mapped(self, addresses: Sequence[str]) -> None:
        """Where a router lets others in to us: "ip:port", outside addresses of our UDP port."""
        self._mapped = tuple(addresses)
        self._tell_outside()

    # ---- asking

    @property
    def mapped(self) -> tuple[str, ...]:
        """The addresses of `set_mapped`."""
        return self._mapped

    @property
    def relays(self) -> tuple[str, ...]:
        """The relays (URLs) where this node listens, best first."""
        return self._relays

    @property
    def guessed(self) -> str:
        """Where we are reached if our router keeps ports: the address that nodes of the public directory see, with our
        own port; empty when a better one is known, or none."""
        own = [split_address(a) for a in self.own_addresses]
        ports = [port for ip, port in own if ip.version == 4]
        has_better = (
            any(ip.version == 4 and not is_home(ip) for ip, _ in own) or self.observed.mapping() != "unknown"
        )
        has_better |= any(split_address(a)[0].version == 4 for a in self._mapped)
        for seen in (str(getattr(resolver, "seen_at", "")) for resolver in self.resolvers):
            address = f"{seen}:{ports[0]}" if ports else ""
            if not has_better and is_address(address) and not is_home(split_address(address)[0]):
                return address
        return ""

    def start_knocking(self, around: Surroundings, tasks: Tasks) -> None:
        """Knock, and hear who knocks, by the resolver that can hold knocks, where there is one."""

        async def dial(peer: PeerId, addresses: Sequence[str]) -> Connection:
            return await self.connect(peer, addresses, knocks=False)

        for table in [r for r in self.resolvers if hasattr(r, "is_ready")]:
            bells = cast(BellTable, table)
            self.knocker = Knocker(self._key, bells, around, dial=dial, tasks=tasks, clock=self._clock)

    def stir(self) -> None:
        """Somebody may knock soon."""
        if self.knocker is not None:
            self.knocker.stir()

    @property
    def listens(self) -> bool:
        """Whether who knocks by the public directory is heard."""
        return self.knocker is not None and self.knocker.is_listening

    def where_we_dial_from(self) -> tuple[str, ...]:
        """As others see it, for a knock: outside addresses, then this machine's own that are no home's."""
        own = [a for a in self.own_addresses if not is_home(split_address(a)[0])]
        outside = [a for a in dict.fromkeys([*self._outside(), *own]) if not is_relay(a)]
        return tuple(outside[:KNOCK_ADDRESSES_MAX])

    def _listen(self) -> None:
        """Hear who knocks, unless everybody gets in without knocking."""
        if self.knocker is not None:
            own = [split_address(a)[0] for a in self.own_addresses]
            is_open = bool(self._mapped) or any(ip.version == 4 and not is_home(ip) for ip in own)
            self.knocker.listen(not (is_open or self._relays or self.is_on_loopback))

    @property
    def own_addresses(self) -> list[str]:
        """The "ip:port" of this machine itself: none that peers or a router tell us of."""
        return [a for a in self._transport.addresses if is_address(a) and a not in self._told]

    @property
    def ports(self) -> dict[int, int]:
        """Our UDP port by IP version, of addresses that lead further than a cable."""
        own = [split_address(a) for a in self.own_addresses]
        return {ip.version: port for ip, port in own if zone_of(ip) > Zone.LINK}

    @property
    def now(self) -> float:
        """Unix seconds: the time that records and the book go by."""
        return self._clock()

    async def connect(
        self,
        peer: PeerId,
        hints: Sequence[str] = (),
        *,
        own: Sequence[str] = (),
        right: Right | None = None,
        knocks: bool = True,
        ahead: Ahead | None = None,
    ) -> Connection:
        """The connection to `peer`: where it was reached before, its record's addresses and `hints` at once,
        while the resolvers look for more. `hints` are the words of others, `own` those of this node's owner.

        At the level `internet` a peer that listens is asked to dial back, which takes a minute or two; `right` lets one
        who is no contact of it ask. Without `knocks` it is not asked. `ahead` as for `Endpoint.connect`.

        Raises:
            TransportError: not reached within 7 s, or while it was asked; the text says what was tried.
            AccessDenied, PeerError, LimitExceeded, UsageError: as `Endpoint.connect`.
        """
        self._endpoint.require_unblocked(peer)  # before anybody is asked where it is
        if peer == self._endpoint.peer_id or any(c.peer == peer for c in self._endpoint.connections):
            return await self._endpoint.connect(peer)
        seek = Seek(
            self._endpoint,
            self.book,
            resolvers=self.resolvers,
            ready=self._resolving.ready,
            found=self._found_by,
            clock=self._clock,
            knocks=self.knocker if knocks else None,
            right=right,
        )
        return await seek.run(peer, hints, own, ahead=ahead)

    async def keep(self, connection: Connection) -> None:
        """Use `connection`, so that it does not count as idle: ask what others are told of us. Costs about 300 bytes.

        Raises:
            PeerError, TransportError: the other side does not answer as it should.
        """
        if raw := await self._exchange.ask(connection, self._endpoint.peer_id):
            self.learn(raw, "contact")

    def peers(self) -> list[PeerLine]:
        """Everybody known: connected first, then who was heard of last."""
        contacts = self._contacts()
        live = {c.peer: c for c in self._endpoint.connections}
        everybody = dict.fromkeys([*live, *(e.peer for e in self.book.entries), *contacts])
        seen = {r.name: frozenset(getattr(r, "seen", ())) for r in self.resolvers}
        lines = []
        for peer in everybody:
            known = ["contact"] if peer in contacts else []
            known += ["connected"] if peer in live else []
            known += [name for name, peers in seen.items() if peer in peers]
            lines.append(self._line(peer, live.get(peer), contacts.get(peer, ""), known))
        return sorted(
            lines, key=lambda p: (not p.path, p.seen if p.seen is not None else float("inf"), p.peer)
        )

    def forget(self, peer: PeerId) -> bool:
        """Remove all that is kept of where `peer` was; whether there was anything.

        Raises:
            UsageError: it is connected.
        """
        if any(c.peer == peer for c in self._endpoint.connections):
            raise UsageError(
                tr("{short} is connected now, and would be in the list again at once", short=peer.short)
            )
        if peer not in self.book:
            return False
        self.book.forget(peer)
        self.skews.pop(peer, None)
        self._save()
        return True

    def present(self) -> frozenset[PeerId]:
        """Who is connected, or seen on the local network, now."""
        seen = (peer for resolver in self.resolvers for peer in getattr(resolver, "seen", ()))
        return frozenset([*(c.peer for c in self._endpoint.connections), *seen])

    def describe(self) -> str:
        """The level in words, with what stands in the way, for `status`."""
        names = ", ".join(resolver.name for resolver in self.resolvers) or "no discovery"
        problems = [str(p) for r in self.resolvers if (p := getattr(r, "problem", ""))]
        problems += [said] if self.knocker is not None and (said := self.knocker.describe()) else []
        return f"{self.level} ({names})" + "".join(f"; {problem}" for problem in problems)

    @property
    def is_on_loopback(self) -> bool:
        """Whether this node is bound where only this machine's programs reach it."""
        own = self.own_addresses
        return bool(own) and all(split_address(a)[0].is_loopback for a in own)

    def record_for_overlays(self) -> bytes:
        """What others may pass on of us: at the level `internet` the public record, else the full one."""
        is_public = self.level is ReachLevel.INTERNET and not self.is_on_loopback
        return self._public if is_public else self._full

    # ---- RecordKeeper, for the exchange

    def own_record(self, connection: Connection) -> bytes:
        """The full record for whom we chose and for the local network; the public one for strangers."""
        return self._full if self.is_chosen(connection) or _is_near(connection) else self._public

    def learn(self, raw: bytes, source: str) -> PeerId | None:
        """Keep a record; whose it is, or None when it is refused."""
        try:
            self.book.learn(raw, self._clock(), source)
        except RecordRefused as error:
            log.debug("a record from %s was refused: %s", source, error)
            if source == "connected" and error.why in (RefusedFor.EXPIRED, RefusedFor.FUTURE):
                self._note_skew(raw)
            return None
        peer = PeerId(raw[1:33])
        if peer == self._endpoint.peer_id:
            self._meet_own(PeerRecord.read(raw))
        elif source == "connected":
            self._note_skew(raw)
        return peer

    def _meet_own(self, record: PeerRecord) -> None:
        """Others hold a record of ours. When this home did not sign it, and it is newer than our start, a copy did.

        Ours is signed anew with a higher number, once: whoever passes it on tells the copy in its turn.
        """
        is_ours = self.incarnation.is_ours(record.incarnation)
        if not self.incarnation.current or is_ours or record.issued < self._began or self.copy_seen:
            return
        where = f" (at {record.addresses[0]})" if record.addresses else ""
        self.copy_seen = (
            f"another computer{where} runs with the same identity as this one, a copy of its home: others reach now "
            "the one, now the other. Stop one of them, and give it an identity of its own: a new home, and there "
            "`coterie devices join`"
        )
        log.error("%s", self.copy_seen)
        self.book.own_sequence = max(self.book.own_sequence, record.sequence)
        self._described = ((), "", False)
        self._changed.set()

    def _note_skew(self, raw: bytes) -> None:
        """A peer just told its own record: it was signed at most half a lifetime ago, and not in the future."""
        record = PeerRecord.read(raw)
        ahead_s, behind_s = record.issued - self._clock(), self._clock() - record.expires
        skew = max(0.0, ahead_s) - max(0.0, behind_s)
        self.skews.pop(record.peer, None)
        self.skews[record.peer] = skew
        if len(self.skews) > SKEWS_MAX:
            del self.skews[next(iter(self.skews))]

    def reported(self, report: Reported) -> None:
        """A peer told what it sees."""
        if self._driver is not None and self.level is not ReachLevel.LOCAL:
            self._driver.feed(OwnAddresses(tuple(self.own_addresses)))
            self._driver.feed(report)

    def is_chosen(self, connection: Connection) -> bool:
        """We dialled it, or it is a contact."""
        return connection.is_dialled or connection.peer in self._contacts()

    def record_for(self, asker: PeerId, about: PeerId) -> bytes | None:
        """Contacts of one person may know of each other, unless the level is `local`."""
        contacts = self._contacts()
        entry = self.book.entry(about)
        if self.level is ReachLevel.LOCAL or asker not in contacts or about not in contacts or entry is None:
            return None
        return entry.raw if entry.record is not None and entry.record.expires > self._clock() else None

    # ---- own record

    def _sign(self) -> bool:
        """Sign records anew when something changed or the last one is half-way through; whether it was so."""
        described = self._addresses(), self._serves, self.listens
        now = self._clock()
        if described == self._described and 0 <= now - self._signed_at < RENEW_S:
            return False
        self._described, self._signed_at = described, now
        addresses, serves, listens = described
        outside = tuple(a for a in addresses if is_relay(a) or split_address(a)[0].is_global)
        # The public record comes first, so that who gets both keeps the full one.
        self._public = self._signed(outside, "", serves) if outside or listens else b""
        self._full = self._signed(addresses, self._name, serves)
        return True

    def _signed(self, addresses: tuple[str, ...], name: str, serves: str) -> bytes:
        now = int(self._clock())
        record = PeerRecord(
            peer=self._key.peer_id,
            sequence=self.book.next_sequence(self._clock()),
            issued=now,
            expires=now + LIFETIME_S,
            addresses=addresses,
            name=name,
            serves=serves,
            incarnation=self.incarnation.current,
            listens_s=LISTENS_S if self.listens else 0,
        )
        return record.sign_fitting(self._key)

    def _addresses(self) -> tuple[str, ...]:
        """Where others may try: this machine's addresses, those peers see, relays. Loopback only for itself."""
        own = self.own_addresses
        near = [a for a in own if not split_address(a)[0].is_loopback] or own
        if self.level is ReachLevel.LOCAL:
            return tuple(dict.fromkeys(near))
        # A record that is too long loses its last addresses: of many interfaces' only the first few come before those
        # that work from everywhere. The transport lists one of each kind first.
        first, rest = near[:NEAR_FIRST], near[NEAR_FIRST:]
        return tuple(dict.fromkeys([*first, *self._outside(), *rest, *self._relays]))

    def _outside(self) -> list[str]:
        """Where others reach us besides this machine's own addresses, best first."""
        guessed = self.guessed
        return [*self._mapped, *self.observed.believed, *([guessed] if guessed else [])]

    # ---- the world changes

    async def _tend(self) -> None:
        """Follow addresses and paths, renew the record, save the book."""
        saved_at = self._clock()
        await self._resolving.publish()
        while True:
            try:
                async with asyncio.timeout(WATCH_EVERY_S):
                    await self._changed.wait()
            except TimeoutError:
                pass
            self._changed.clear()
            if self.observed.believed and self._driver is not None:
                self._driver.feed(OwnAddresses(tuple(self.own_addresses)))
            if [*self._told] != [*dict.fromkeys(self._outside())]:
                self._tell_outside()
            self._listen()
            if self._sign():
                await self._resolving.publish()
            self._exchange.refresh()
            if not 0 <= self._clock() - saved_at < SAVE_EVERY_S:
                saved_at = self._clock()
                self._save()

    def _emitted(self, output: Emit) -> None:
        """The belief about our own address changed: tell the transport, then everybody."""
        if isinstance(output.event, AddExternal | RemoveExternal):
            self._tell_outside()

    def _tell_outside(self) -> None:
        """Tell the transport where we are reached from outside; everybody else hears it with our record."""
        wanted = dict.fromkeys(self._outside())
        for address in [a for a in self._told if a not in wanted]:
            self._tell_transport("remove_external_address", address)
        for address in [a for a in wanted if a not in self._told]:
            self._tell_transport("add_external_address", address)
        self._told = wanted
        self._changed.set()

    def _tell_transport(self, method: str, address: str) -> None:
        call = getattr(self._transport, method, None)
        if call is not None:
            self._tasks.start(call(address), "telling the transport where others see us")

    def _up(self, connection: Connection) -> None:
        path = connection.path
        known = self.is_chosen(connection) or connection.peer in self.book
        if known and path.kind == "direct" and is_address(path.remote):
            self.book.note_success(connection.peer, path.remote, self._clock())
        if connection.peer in self._contacts() and self.level is not ReachLevel.LOCAL:
            self._tasks.start(self._hear_of_ourselves(connection), "asking what others are told of us")

    async def _hear_of_ourselves(self, connection: Connection) -> None:
        try:
            await self.keep(connection)
        except (CoterieError, TimeoutError) as error:
            log.debug("%s did not say what it has of us: %s", connection.peer.short, error)

    def _down(self, connection: Connection) -> None:
        if connection.peer in self._contacts():
            self.stir()  # it may want to come back
        if self._driver is not None:
            self._driver.feed(PeerDown(connection.peer))

    def _current_contacts(self) -> Mapping[PeerId, str]:
        return self._contacts()

    def _found_by(self, resolver: Resolver) -> Found:
        return lambda raw: self.learn(raw, resolver.name)

    def _line(self, peer: PeerId, live: Connection | None, called: str, known: list[str]) -> PeerLine:
        now = self._clock()
        entry, record = self.book.entry(peer), self.book.record(peer, now)
        if entry is not None and not known:
            known = [f"{entry.source} before" if entry.source == "connected" else entry.source]
        path = live.path if live is not None else None
        return PeerLine(
            name=called or (fit(record.name) if record is not None else ""),
            short=peer.short,
            known=known,
            path=f"{path.kind} {path.remote}" if path is not None else "",
            rtt_ms=round(path.rtt_s * 1000, 1) if path is not None and path.rtt_s is not None else None,
            seen=0.0 if live is not None else round(max(0.0, now - entry.heard_at), 1) if entry else None,
            addresses=self.book.candidates(peer, now),
            peer=str(peer),
        )

    def _save(self) -> None:
        self.book.expire(self._clock())
        try:
            self._file.save(self.book)
        except StorageError as error:
            log.warning("%s", error)


def _is_near(connection: Connection) -> bool:
    """Whether the other side is reached at an address that only a local network has."""
    path = connection.path
    if path.kind == "memory":
        return True
    if path.kind != "direct" or not is_address(path.remote) or is_relay(path.remote):
        return False
    ip: ipaddress.IPv4Address | ipaddress.IPv6Address = split_address(path.remote)[0]
    return ip.is_private or ip.is_link_local or ip.is_loopback
