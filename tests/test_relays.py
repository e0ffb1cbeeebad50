"""Relays among contacts: who serves whom, which are used, and with whom a node stays connected."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from coterie.errors import TransportError
from coterie.identity import PeerId, SecretKey
from coterie.net import Endpoint, Guard, MemoryNetwork
from coterie.net.beat import BEAT_S, DOUBLINGS_MAX, OPEN_S
from coterie.net.interfaces import PathInfo
from coterie.net.port_mapping import Port
from coterie.net.relay.check import RelayChecks
from coterie.net.relay.probe import clock_at_relay, probe_relay
from coterie.reach import Reach, ReachLevel
from coterie.relays import PeerRelays, Serving
from coterie.wire.record import PeerRecord
from tests.support import run, run_virtual

LONGEST_S = BEAT_S << DOUBLINGS_MAX
OUTSIDE = "203.0.113.9"
ANNA, RITA, OTTO = (SecretKey(bytes([n]) * 32) for n in (1, 2, 3))


class Street(MemoryNetwork):
    """Where everybody really is."""

    def __init__(self) -> None:
        super().__init__()
        self.places: dict[PeerId, list[str]] = {}


class Machine:
    """A transport of the memory network with addresses like a real one's, which knows of relays."""

    def __init__(self, network: Street, peer: PeerId, addresses: Sequence[str]) -> None:
        self._inner = network.bind(peer)
        self._places = network.places
        self._places[peer] = self._inner.addresses
        self.peer_id = peer
        self.addresses = list(addresses)
        self.used: list[str] = []
        self.lost: Callable[[str], None] = lambda url: None

    async def connect(self, peer: PeerId, addresses: Sequence[str]) -> Any:
        return await self._inner.connect(peer, self._places.get(peer, []))

    async def accept(self) -> Any:
        return await self._inner.accept()

    async def close(self) -> None:
        await self._inner.close()

    async def set_relays(self, urls: Sequence[str]) -> None:
        self.used = list(urls)

    def watch(self, **listeners: Any) -> None:
        self.lost = listeners.get("relay_lost") or self.lost


class Computer:
    """A machine with reach and relays over it."""

    def __init__(self, network: Street, key: SecretKey, folder: Path, **settings: Any) -> None:
        self.key = key
        self.machine = settings.get("transport", Machine)(
            network, key.peer_id, settings.get("addresses", ["192.168.1.7:4433"])
        )
        self.contacts: dict[PeerId, str] = settings.get("contacts", {})
        self.endpoint = Endpoint(self.machine, guard=Guard(lambda peer, _: peer in self.contacts))
        self.reach = Reach(
            self.endpoint,
            self.machine,
            key,
            level=ReachLevel(settings.get("level", "circle")),
            name="",
            clock=settings.get("clock", time.time),
            book_path=folder / key.peer_id.short,
        )
        self.router = settings.get("router")
        serving: Serving = settings.get("serving", "contacts")
        self.relays = PeerRelays(
            self.reach,
            self.endpoint,
            self.machine,
            serving=serving,
            port=0,
            bind_ip=settings.get("bind_ip", "127.0.0.1"),
            contacts=lambda: self.contacts,
            mapper=self.router,
        )
        self.relays.checks = RelayChecks(self.endpoint, probe=settings.get("probe", probe_relay))
        self.reach.set_contacts(lambda: self.contacts)

    def knows(self, key: SecretKey, serves: str = "", addresses: tuple[str, ...] = ()) -> None:
        """Have a record of the owner of `key`."""
        now = int(self.reach.now)
        record = PeerRecord(
            peer=key.peer_id, sequence=now, issued=now, expires=now + 3600, serves=serves, addresses=addresses
        )
        self.reach.learn(record.sign(key), "contacts")


@asynccontextmanager
async def running(*computers: Computer) -> AsyncIterator[None]:
    for one in computers:
        await one.reach.start()
        one.endpoint.start()
        await one.relays.start()
    try:
        yield
    finally:
        for one in computers:
            await one.relays.close()
            await one.reach.close()
            await one.endpoint.close()


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(8):
        while not holds():
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("addresses", "serving", "level", "serves"),
    [
        (["127.0.0.1:4433"], "contacts", "circle", False),
        (["192.168.1.7:4433", "100.64.3.2:4433"], "contacts", "circle", False),
        (["192.168.1.7:4433"], "always", "circle", True),
        (["203.0.113.9:4433"], "contacts", "circle", True),
        (["203.0.113.9:4433"], "off", "circle", False),
        (["203.0.113.9:4433"], "contacts", "local", False),
        (["[2001:db8::9]:4433"], "contacts", "circle", False),  # until somebody has come through the firewall
    ],
)
def test_who_runs_a_relay(
    addresses: list[str], serving: str, level: str, serves: bool, tmp_path: Path
) -> None:
    async def work() -> str:
        one = Computer(Street(), ANNA, tmp_path, addresses=addresses, serving=serving, level=level)
        async with running(one):
            if serves:
                await until(lambda: bool(one.relays.status().serves))
            else:
                await asyncio.sleep(0.05)
            return one.relays.status().serves

    url = run(work())
    assert bool(url) is serves
    if serves:
        assert url.startswith(f"http://{addresses[0].rpartition(':')[0]}:")


class HomeRouter:
    """Maps what is wanted, of the protocols that it is told to."""

    def __init__(self, *protocols: str) -> None:
        self.protocols = protocols
        self.mapped = {Port("udp", 4, 4433): f"{OUTSIDE}:4433"} if "udp" in protocols else {}

    def want(self, protocol: str, numbers: dict[int, int]) -> None:
        if protocol in self.protocols:
            self.mapped[Port(protocol, 4, numbers[4])] = f"{OUTSIDE}:7000"


@pytest.mark.parametrize(
    ("maps", "serving", "serves"),
    [
        (["udp", "tcp"], "contacts", f"http://{OUTSIDE}:7000"),
        (["udp"], "contacts", ""),  # it listens, and nobody could come: nothing is claimed
        ([], "contacts", ""),
        (["udp", "tcp"], "off", ""),
    ],
)
def test_a_relay_behind_a_router_is_claimed_where_its_tcp_port_is_mapped(
    maps: list[str], serving: str, serves: str, tmp_path: Path
) -> None:
    async def work() -> str:
        one = Computer(Street(), ANNA, tmp_path, router=HomeRouter(*maps), serving=serving)
        async with running(one):
            if "udp" in maps:  # the transport tells it from then on, and it is no address of this machine
                one.machine.addresses.append(f"{OUTSIDE}:4433")
                one.reach.set_mapped([f"{OUTSIDE}:4433"])
            one.relays.look()
            await asyncio.sleep(0.1)
            return one.relays.status().serves

    assert run(work()) == serves


class Seen:
    """A raw connection whose other side is seen at `at`."""

    def __init__(self, raw: Any, at: str) -> None:
        self._raw = raw
        self.path = PathInfo("direct", at)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._raw, name)


class Sighted(Machine):
    """A machine that sees others where the street says they are."""

    def _seen(self, raw: Any) -> Seen:
        return Seen(raw, self._street.at[raw.peer])

    def __init__(self, network: "Sites", peer: PeerId, addresses: Sequence[str]) -> None:
        super().__init__(network, peer, addresses)
        self._street = network
        network.at[peer] = addresses[0]

    async def connect(self, peer: PeerId, addresses: Sequence[str]) -> Any:
        return self._seen(await super().connect(peer, addresses))

    async def accept(self) -> Any:
        return self._seen(await super().accept())


class Sites(Street):
    """Computers with IPv6; `asked` of `probe` are relays that somebody tried, `is_open` says whether they answer."""

    def __init__(self, *, is_open: bool) -> None:
        super().__init__()
        self.at: dict[PeerId, str] = {}
        self.asked: list[str] = []
        self.is_open = is_open

    async def probe(self, url: str) -> float:
        self.asked.append(url)
        if not self.is_open:
            raise TransportError("a firewall drops it")
        return 0.01


HERE, NEXT_DOOR, ELSEWHERE = "[2a0f:10::9]:4433", "[2a0f:10:0:7::9]:4433", "[2a0f:11::9]:4433"


@pytest.mark.parametrize(
    ("comes_from", "is_contact", "is_open", "is_tried", "claims"),
    [
        (ELSEWHERE, True, True, True, True),
        (ELSEWHERE, True, False, True, False),  # UDP came through the firewall; TCP does not
        (ELSEWHERE, False, True, False, False),
        (NEXT_DOOR, True, True, False, False),  # behind the same firewall, perhaps
    ],
)
def test_a_relay_with_ipv6_is_claimed_when_a_contact_elsewhere_has_reached_its_tcp_port(
    comes_from: str, is_contact: bool, is_open: bool, is_tried: bool, claims: bool, tmp_path: Path
) -> None:
    async def work() -> None:
        street = Sites(is_open=is_open)
        settings: dict[str, Any] = {"transport": Sighted, "bind_ip": "::1", "probe": street.probe}
        anna = Computer(street, ANNA, tmp_path, addresses=[HERE], **settings)
        rita = Computer(street, RITA, tmp_path, addresses=[comes_from], serving="off", **settings)
        rita.contacts[ANNA.peer_id] = "anna"
        if is_contact:
            anna.contacts[RITA.peer_id] = "rita"
        async with running(anna, rita):
            await rita.endpoint.connect(ANNA.peer_id, ["anna"])
            await (until(lambda: bool(street.asked)) if is_tried else asyncio.sleep(0.2))
            await asyncio.sleep(0.1)
            url = anna.relays.status().serves
            assert [url] == street.asked[:1] if claims else url == ""
            assert all(asked.startswith("http://[2a0f:10::9]:") for asked in street.asked)

    run(work())


def test_who_asks_for_a_check_sends_nobody_to_another_place_or_service_and_not_often(tmp_path: Path) -> None:
    async def work() -> None:
        street = Sites(is_open=True)
        settings: dict[str, Any] = {"transport": Sighted, "probe": street.probe, "serving": "off"}
        anna = Computer(street, ANNA, tmp_path, addresses=[HERE], **settings)
        rita = Computer(street, RITA, tmp_path, addresses=[ELSEWHERE], **settings)
        rita.contacts[ANNA.peer_id], anna.contacts[RITA.peer_id] = "anna", "rita"
        checks = RelayChecks(anna.endpoint)
        async with running(anna, rita):
            link = await anna.endpoint.connect(RITA.peer_id, ["rita"])
            assert await checks.ask(link, 25) is None
            assert await checks.ask(link, 70_000) is None
            assert street.asked == []
            assert str(await checks.ask(link, 8080)) == "2a0f:10::9"
            assert await checks.ask(link, 8080) is None, "one more than CHECKS_BURST"
            assert street.asked == ["http://[2a0f:10::9]:8080"]

    run(work())


class Firewalls(Street):
    """Every computer has one: it lets in only who was called in the last `OPEN_S`."""

    def __init__(self) -> None:
        super().__init__()
        self.called: dict[tuple[PeerId, PeerId], float] = {}
        self.is_cut = False


class Behind(Machine):
    """A machine behind such a firewall: a call takes `DIAL_S` at most, and the wheel repeats its packets meanwhile."""

    def __init__(self, network: Firewalls, peer: PeerId, addresses: Sequence[str]) -> None:
        super().__init__(network, peer, addresses)
        self._street = network

    async def connect(self, peer: PeerId, addresses: Sequence[str]) -> Any:
        loop = asyncio.get_running_loop()
        until = loop.time() + 5.0
        while loop.time() < until:
            self._street.called[self.peer_id, peer] = loop.time()
            is_open = self._street.called.get((peer, self.peer_id), -1e9) + OPEN_S > loop.time()
            if is_open and not self._street.is_cut:
                return await super().connect(peer, addresses)
            await asyncio.sleep(0.5)
        raise TransportError("nobody answers")


def test_contacts_behind_firewalls_meet_though_nobody_carries_word_between_them(tmp_path: Path) -> None:
    """They have failed for hours while the network was gone, and their clocks differ by ten seconds."""

    async def work() -> bool:
        street, loop = Firewalls(), asyncio.get_running_loop()
        street.is_cut = True
        computers = []
        for key, other, start_s, ahead_s in ((ANNA, RITA, 0.0, 10.0), (RITA, ANNA, 331.0, 0.0)):
            await asyncio.sleep(start_s)
            one = Computer(
                street,
                key,
                tmp_path,
                transport=Behind,
                contacts={other.peer_id: "other"},
                clock=lambda ahead_s=ahead_s: 1_700_000_000 + loop.time() + ahead_s,
            )
            one.knows(other, addresses=("[2a0f:10::7]:4433",))
            await one.reach.start()
            one.endpoint.start()
            await one.relays.start()
            computers.append(one)
        await asyncio.sleep(3 * 3600)
        street.is_cut = False
        until = loop.time() + LONGEST_S + 60
        while not computers[0].endpoint.connections and loop.time() < until:
            await asyncio.sleep(1)
        has_met = bool(computers[0].endpoint.connections)
        for one in computers:
            await one.relays.close()
            await one.reach.close()
            await one.endpoint.close()
        return has_met

    assert run_virtual(work())


def test_a_relay_lets_in_contacts_and_its_own_node_only(tmp_path: Path) -> None:
    async def work() -> None:
        one = Computer(Street(), RITA, tmp_path, serving="always", contacts={ANNA.peer_id: "anna"})
        async with running(one):
            await until(lambda: bool(one.relays.status().serves))
            assert one.relays.may_use(ANNA.peer_id)
            assert one.relays.may_use(RITA.peer_id)
            assert not one.relays.may_use(OTTO.peer_id)
            one.contacts.clear()
            assert not one.relays.may_use(ANNA.peer_id)

    run(work())


def test_a_contacts_relay_is_used_told_and_left_when_it_dies(tmp_path: Path) -> None:
    async def work() -> None:
        network = Street()
        servers = [
            Computer(network, key, tmp_path, addresses=["127.0.0.1:4433"], serving="always")
            for key in (RITA, OTTO)
        ]
        contacts = {RITA.peer_id: "rita", OTTO.peer_id: "otto"}
        anna = Computer(network, ANNA, tmp_path, contacts=contacts, addresses=["127.0.0.1:4434"])
        async with running(*servers):
            await until(lambda: all(s.relays.status().serves for s in servers))
            urls = [s.relays.status().serves for s in servers]
            for server, url in zip(servers, urls, strict=True):
                anna.knows(server.key, url)
            async with running(anna):
                await until(lambda: len(anna.relays.status().homes) == 2 and len(anna.machine.used) == 1)
                first = anna.machine.used[0]
                assert {h.owner for h in anna.relays.status().homes} == {"rita", "otto"}
                live = await anna.reach.connect(RITA.peer_id)
                await until(lambda: first in PeerRecord.read(anna.reach.own_record(live)).relays)

                await servers[urls.index(first)].relays.close()
                anna.machine.lost(first)
                await until(lambda: bool(anna.machine.used) and anna.machine.used[0] != first)

    run(work())


def test_no_contact_has_requests_sent_to_this_computer_or_another_one(tmp_path: Path) -> None:
    """Each URL is a request to a place of the contact's choosing; a listener on loopback counts those that come."""
    asked: list[int] = []

    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(1)
        writer.close()

    async def work() -> None:
        listener = await asyncio.start_server(count, "127.0.0.1", 0)
        port = listener.sockets[0].getsockname()[1]
        places = [
            "127.0.0.1",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "localhost",
            "127.1",
            "2130706433",
            "0x7f000001",
        ]
        places += ["169.254.169.254", "192.168.1.1", "[fd00:ec2::254]", "router.lan", "203.0.113.2:25"]
        keys = [SecretKey(bytes([n]) * 32) for n in range(10, 11 + len(places))]
        anna = Computer(Street(), ANNA, tmp_path, contacts={key.peer_id: "somebody" for key in keys})
        for key, place in zip(keys, places, strict=False):
            anna.knows(key, f"http://{place}" if place.endswith(":25") else f"http://{place}:{port}")
        anna.knows(keys[-1], "http://203.0.113.2:80")
        async with listener, running(anna):
            await until(lambda: bool(anna.relays.candidates))
            assert list(anna.relays.candidates) == ["http://203.0.113.2:80"]
            hints = [f"http://{place}:{port}" for place in places] + [
                f"127.0.0.1:{port}",
                "169.254.169.254:80",
            ]
            with pytest.raises(TransportError, match=r"Not dialled: .*an address of this computer itself"):
                await anna.reach.connect(RITA.peer_id, hints)
        assert not asked

    run(work())


def test_a_contact_that_names_a_relay_and_was_met_by_one_stops_nothing(tmp_path: Path) -> None:
    """Neither has an IP address that could be compared."""

    async def work() -> None:
        anna = Computer(Street(), ANNA, tmp_path, contacts={RITA.peer_id: "rita", OTTO.peer_id: "otto"})
        anna.knows(RITA, "http://router.lan:4433")
        anna.knows(OTTO, "http://203.0.113.2:80")
        anna.reach.book.note_success(RITA.peer_id, "http://203.0.113.2:80", anna.reach.now)
        async with running(anna):
            await until(lambda: bool(anna.relays.candidates))
            assert list(anna.relays.candidates) == ["http://203.0.113.2:80"]

    run(work())


def test_a_relay_in_a_private_network_counts_where_its_owner_was_met(tmp_path: Path) -> None:
    async def work() -> None:
        anna = Computer(Street(), ANNA, tmp_path, contacts={RITA.peer_id: "rita", OTTO.peer_id: "otto"})
        anna.knows(RITA, "http://192.168.1.9:4433")
        anna.knows(OTTO, "http://192.168.1.9:631")
        anna.reach.book.note_success(RITA.peer_id, "192.168.1.9:50000", anna.reach.now)
        anna.reach.book.note_success(OTTO.peer_id, "192.168.1.8:50000", anna.reach.now)
        async with running(anna):
            await until(lambda: bool(anna.relays.candidates))
            assert anna.relays.candidates == {"http://192.168.1.9:4433": RITA.peer_id}
            assert not anna.endpoint.dialling.refusal("http://192.168.1.9:4433")

    run(work())


def test_strangers_relays_are_never_used(tmp_path: Path) -> None:
    async def work() -> None:
        anna = Computer(Street(), ANNA, tmp_path, contacts={RITA.peer_id: "rita"})
        anna.knows(OTTO, "http://203.0.113.1:80")
        anna.knows(RITA, "http://203.0.113.2:80")
        async with running(anna):
            await until(lambda: bool(anna.relays.candidates))
            assert anna.relays.candidates == {"http://203.0.113.2:80": RITA.peer_id}

    run(work())


def test_a_node_connects_with_its_contacts_by_itself_and_not_with_strangers(tmp_path: Path) -> None:
    async def work() -> None:
        network = Street()
        rita, otto = Computer(network, RITA, tmp_path), Computer(network, OTTO, tmp_path)
        anna = Computer(network, ANNA, tmp_path, contacts={RITA.peer_id: "rita"})
        anna.knows(OTTO)
        async with running(rita, otto, anna):
            await until(lambda: bool(anna.endpoint.connections))
            assert [c.peer for c in anna.endpoint.connections] == [RITA.peer_id]

    run(work())


def test_a_relay_says_how_far_it_is_and_what_its_clock_shows(tmp_path: Path) -> None:
    async def work() -> None:
        one = Computer(Street(), RITA, tmp_path, addresses=["127.0.0.1:4433"], serving="always")
        async with running(one):
            await until(lambda: bool(one.relays.status().serves))
            url = one.relays.status().serves
            assert 0 < await probe_relay(url) < 2
            shown = await clock_at_relay(url)
            assert abs((shown or 0) - one.reach.now) < 3
        with pytest.raises(TransportError, match="cannot be reached"):
            await clock_at_relay(url)

    run(work())
