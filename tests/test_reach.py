"""Reach: what is told to whom at each level, and whole nodes that find each other again."""

import asyncio
import gc
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from coterie.errors import TransportError, UsageError
from coterie.home import Home
from coterie.identity import PeerId, SecretKey
from coterie.knocking import LISTENS_S
from coterie.net import Endpoint, MemoryNetwork
from coterie.net.find.knocks import Surroundings
from coterie.net.find.observed import Reported
from coterie.net.find.resolver import Found
from coterie.node import Node
from coterie.reach import RENEW_S, Reach, ReachLevel
from coterie.tasks import Tasks
from coterie.wire.record import ADDRESSES_MAX, PeerRecord
from tests.apps.files.nodes import coterie, result, running_node
from tests.support import run, run_virtual

SEEN = "203.0.113.5:4433"
OWN = "8.8.4.4:4433"
FOUND_S = 3.0
SETTLED_S = 15.0  # a few of the node's own looks at the world (WATCH_EVERY_S)


class Noticeboard:
    """A resolver that keeps what is published."""

    def __init__(self, *, is_public: bool) -> None:
        self.name = "noticeboard"
        self.is_public = is_public
        self.published: list[PeerRecord] = []
        self.asked: list[PeerId] = []
        self.found: Found | None = None
        self.is_closed = False

    async def start(self, found: Found) -> None:
        self.found = found

    async def publish(self, record: bytes) -> None:
        self.published.append(PeerRecord.read(record))

    async def resolve(self, peer: PeerId) -> AsyncIterator[bytes]:
        self.asked.append(peer)
        return
        yield b""

    async def close(self) -> None:
        self.is_closed = True


class Machine:
    """A transport of the memory network with addresses like a real one's, that change."""

    def __init__(self, network: MemoryNetwork, peer: PeerId) -> None:
        self._inner = network.bind(peer)
        self.addresses = ["192.168.1.7:4433", "8.8.4.4:4433", "[fe80::1]:4433", "127.0.0.1:4433"]
        self.external: list[str] = []
        self.peer_id = peer
        self.connect, self.accept, self.close = self._inner.connect, self._inner.accept, self._inner.close

    async def add_external_address(self, address: str) -> None:
        self.external.append(address)

    async def remove_external_address(self, address: str) -> None:
        self.external.remove(address)


class Scene:
    """One `Reach` in virtual time, with two noticeboards."""

    def __init__(self, folder: Path, level: ReachLevel = ReachLevel.CIRCLE, **options: Any) -> None:
        self.now = 1_700_000_000.0
        self.key = SecretKey(b"k" * 32)
        self.network = MemoryNetwork()
        self.machine = Machine(self.network, self.key.peer_id)
        self.private, self.public = Noticeboard(is_public=False), Noticeboard(is_public=True)
        self.endpoint = Endpoint(self.machine)  # type: ignore[arg-type]
        self.reach = Reach(
            self.endpoint,
            self.machine,  # type: ignore[arg-type]
            self.key,
            level=level,
            name="attic",
            book_path=folder / "addresses",
            resolvers=[self.private, self.public],
            clock=lambda: self.now,
            **options,
        )

    async def __aenter__(self) -> "Scene":
        await self.reach.start()
        self.endpoint.start()
        await asyncio.sleep(0)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.reach.close()
        await self.endpoint.close()

    async def pass_s(self, seconds: float) -> None:
        self.now += seconds
        await asyncio.sleep(max(6.0, min(seconds, 6.0)))

    def sees(self, number: int, *, chosen: bool = True, at: str = SEEN) -> None:
        peer = SecretKey(bytes([number]) * 32).peer_id
        self.reach.reported(Reported(peer, at, f"198.51.{number}.1:9", chosen))


def test_many_interfaces_do_not_push_the_outside_address_out_of_the_record(tmp_path: Path) -> None:
    mapped = "8.8.4.9:4433"

    async def work() -> None:
        async with Scene(tmp_path) as s:
            s.machine.addresses[:0] = [f"172.17.{n}.1:44330" for n in range(ADDRESSES_MAX)]
            s.reach.set_mapped([mapped])
            s.sees(1, at=SEEN)
            await s.pass_s(6)
            told = s.private.published[-1].addresses
            assert len(told) == ADDRESSES_MAX
            assert {mapped, SEEN} <= {*told}

    run_virtual(work())


def test_who_knows_nothing_better_tells_what_the_directory_sees_with_its_own_port(tmp_path: Path) -> None:
    """A router that keeps ports makes that true; another one makes it an address where nobody answers."""

    async def work() -> None:
        async with Scene(tmp_path, ReachLevel.INTERNET) as s:
            s.machine.addresses = ["192.168.1.7:4433"]
            s.public.seen_at = "8.8.4.9"  # type: ignore[attr-defined]
            await s.pass_s(6)
            assert "8.8.4.9:4433" in s.public.published[-1].addresses
            assert s.machine.external == ["8.8.4.9:4433"]
            s.sees(1, at="8.8.4.9:1234")
            await s.pass_s(6)
            assert s.reach.guessed == ""
            assert s.machine.external == ["8.8.4.9:1234"]
            s.public.seen_at = "192.168.7.7"  # type: ignore[attr-defined]
            assert s.reach.guessed == ""

    run_virtual(work())


def test_a_node_hears_who_knocks_while_not_everybody_gets_in_and_its_record_says_so(tmp_path: Path) -> None:
    async def nothing(key: bytes) -> AsyncGenerator[bytes, None]:
        for item in ():
            yield item

    async def work() -> None:
        async with Scene(tmp_path, ReachLevel.INTERNET) as s:
            s.machine.addresses = ["192.168.1.7:4433"]
            table: Any = s.public
            table.is_ready, table.read = False, nothing
            around = Surroundings(addresses=s.reach.where_we_dial_from, is_known=lambda peer: True)
            s.reach.start_knocking(around, Tasks("knocking"))
            await s.pass_s(6)
            assert not s.reach.listens, "the table cannot be reached"
            table.is_ready = True
            await s.pass_s(6)
            assert s.reach.listens
            assert s.public.published[-1].listens_s == LISTENS_S
            assert s.public.published[-1].addresses == ()
            assert "hears who knocks" in s.reach.describe()
            for opens, closes in (
                (lambda: s.reach.set_mapped(["8.8.4.9:4433"]), lambda: s.reach.set_mapped([])),
                (lambda: s.reach.set_relays(["http://198.51.100.2:4433"]), lambda: s.reach.set_relays([])),
                (lambda: s.machine.addresses.append(OWN), lambda: s.machine.addresses.remove(OWN)),
            ):
                opens()
                await s.pass_s(6)
                assert not s.reach.listens, "everybody gets in"
                assert s.public.published[-1].listens_s == 0
                closes()
                await s.pass_s(6)
                assert s.reach.listens

    run_virtual(work())


def test_what_the_router_maps_is_in_the_records_and_told_to_the_transport_once(tmp_path: Path) -> None:
    mapped = "8.8.4.9:4433"

    async def work() -> None:
        async with Scene(tmp_path) as s:
            s.reach.set_mapped([mapped])
            s.sees(1, at=mapped)
            await s.pass_s(6)
            assert s.machine.external == [mapped]
            assert mapped in s.private.published[-1].addresses
            assert mapped in s.public.published[-1].addresses
            s.machine.addresses.append(mapped)  # as a transport does
            assert mapped not in s.reach.own_addresses
            s.reach.set_mapped([])
            await s.pass_s(6)
            assert s.machine.external == [mapped]  # a peer still sees us there

    run_virtual(work())


def test_the_public_record_has_no_name_and_no_private_address(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Scene(tmp_path) as s:
            full, public = s.private.published[-1], s.public.published[-1]
            assert full.addresses == ("192.168.1.7:4433", "8.8.4.4:4433", "[fe80::1]:4433")
            assert (full.name, public.name) == ("attic", "")
            assert public.addresses == ("8.8.4.4:4433",)
            assert public.sequence < full.sequence, "who gets both keeps the full one"

    run_virtual(scene())


def test_without_public_addresses_nothing_is_public(tmp_path: Path) -> None:
    async def scene() -> None:
        s = Scene(tmp_path)
        s.machine.addresses = ["192.168.1.7:4433"]
        async with s:
            assert s.public.published == []
            assert len(s.private.published) >= 1

    run_virtual(scene())


def test_loopback_is_told_only_when_there_is_nothing_else(tmp_path: Path) -> None:
    async def scene() -> None:
        s = Scene(tmp_path)
        s.machine.addresses = ["127.0.0.1:4433"]
        async with s:
            assert s.private.published[-1].addresses == ("127.0.0.1:4433",)

    run_virtual(scene())


def test_a_changed_address_is_published_and_nothing_else_is(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Scene(tmp_path) as s:
            await s.pass_s(6)
            count = len({r.sequence for r in s.private.published})
            assert count == 1, "nothing changed"
            s.machine.addresses = ["10.0.0.9:4433"]
            await s.pass_s(6)
            assert s.private.published[-1].addresses == ("10.0.0.9:4433",)
            assert s.private.published[-1].sequence > s.private.published[0].sequence

    run_virtual(scene())


def test_the_record_is_renewed_long_before_it_expires(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Scene(tmp_path) as s:
            first = s.private.published[-1]
            await s.pass_s(RENEW_S)
            assert s.private.published[-1].expires == first.expires + RENEW_S
            s.now -= 10 * RENEW_S
            await s.pass_s(0)
            assert s.private.published[-1].expires < first.expires, "a clock that went back is followed"
            assert s.private.published[-1].sequence > first.sequence

    run_virtual(scene())


def test_what_peers_see_reaches_the_transport_and_the_record_and_leaves_again(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Scene(tmp_path) as s:
            s.sees(1)
            await s.pass_s(6)
            assert s.machine.external == [SEEN]
            assert SEEN in s.private.published[-1].addresses
            s.sees(1, at="203.0.113.6:1")
            await s.pass_s(6)
            assert s.machine.external == ["203.0.113.6:1"]
            assert SEEN not in s.private.published[-1].addresses

    run_virtual(scene())


def test_a_stranger_alone_or_at_level_local_anybody_changes_nothing(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Scene(tmp_path) as s:
            s.sees(1, chosen=False)
            await s.pass_s(6)
            assert s.machine.external == []
        async with Scene(tmp_path, ReachLevel.LOCAL) as s:
            s.sees(1)
            s.sees(2)
            s.reach.set_relays(["http://192.0.2.1:8080"])
            await s.pass_s(6)
            assert s.machine.external == []
            assert s.private.published[-1].addresses == ("192.168.1.7:4433", "8.8.4.4:4433", "[fe80::1]:4433")

    run_virtual(scene())


def test_relays_stand_in_the_record(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Scene(tmp_path) as s:
            s.reach.set_relays(["http://192.0.2.1:8080"], serves="http://8.8.4.4:8080")
            await s.pass_s(6)
            for board in (s.private, s.public):
                assert board.published[-1].relays == ("http://192.0.2.1:8080",)
                assert board.published[-1].serves == "http://8.8.4.4:8080"

    run_virtual(scene())


def test_contacts_learn_of_contacts_only_and_of_nobody_at_level_local(tmp_path: Path) -> None:
    keys = [SecretKey(bytes([n]) * 32) for n in range(1, 4)]
    anna, ben, stranger = (key.peer_id for key in keys)

    async def scene(level: ReachLevel) -> list[bytes | None]:
        async with Scene(tmp_path, level) as s:
            now = int(s.now)
            records = [
                PeerRecord(peer=k.peer_id, sequence=1, issued=now, expires=now + 99).sign(k) for k in keys
            ]
            for raw in records:
                s.reach.learn(raw, "test")
            s.reach.set_contacts(lambda: {anna: "Anna", ben: "Ben"})
            assert s.reach.record_for(anna, s.key.peer_id) is None
            pairs = [(anna, ben), (anna, stranger), (stranger, anna)]
            answers = [s.reach.record_for(asker, about) for asker, about in pairs]
            s.now += 100
            assert s.reach.record_for(anna, ben) is None, "expired"
            return [records.index(raw) if raw else None for raw in answers]  # type: ignore[misc]

    assert run_virtual(scene(ReachLevel.CIRCLE)) == [1, None, None]
    assert run_virtual(scene(ReachLevel.LOCAL)) == [None, None, None]


def test_peers_and_the_book_are_there_after_a_restart(tmp_path: Path) -> None:
    async def scene() -> None:
        key, ben = SecretKey(b"a" * 32), SecretKey(b"b" * 32).peer_id
        async with Scene(tmp_path) as s:
            now = int(s.now)
            raw = PeerRecord(
                peer=key.peer_id,
                sequence=1,
                issued=now,
                expires=now + 99,
                addresses=("192.0.2.1:1",),
                name="anna",
            ).sign(key)
            assert s.private.found is not None
            assert s.private.found(raw) == key.peer_id
            assert s.private.found(raw[:-1] + b"x") is None
        assert s.private.is_closed
        async with Scene(tmp_path) as s:
            s.now += 50
            s.reach.set_contacts(lambda: {ben: "Ben"})
            anna, contact = s.reach.peers()
            assert (anna.name, anna.known, anna.seen, anna.path) == ("anna", ["noticeboard"], 50.0, "")
            assert anna.addresses == ["192.0.2.1:1"]
            assert "seen 50 s ago, at 192.0.2.1:1" in anna.text()
            assert (contact.name, contact.known, contact.seen) == ("Ben", ["contact"], None)
            assert "never seen" in contact.text()

    run_virtual(scene())


def test_a_resolver_may_come_later(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Scene(tmp_path) as s:
            later = Noticeboard(is_public=False)
            await s.reach.add_resolver(later)
            assert [r.name for r in later.published] == ["attic"]

    run_virtual(scene())


def test_who_is_there_for_a_moment_tells_nobody_and_asks_nobody_but_whom_it_dials(tmp_path: Path) -> None:
    async def scene() -> None:
        s = Scene(tmp_path)
        there = SecretKey(b"t" * 32).peer_id
        other = Endpoint(s.network.bind(there))
        other.start()
        s.endpoint.start()
        await s.reach.start(alone_s=2.0)
        await asyncio.wait_for(s.reach.connect(there, [other.addresses[0]]), 1.0)
        assert (s.private.found, s.private.asked, s.private.published) == (None, [], [])
        nowhere = SecretKey(b"n" * 32).peer_id
        with pytest.raises(TransportError):
            await s.reach.connect(nowhere)  # it lasts: now they are asked, too
        assert s.private.asked == [nowhere]
        assert [r.name for r in s.private.published] == ["attic"]
        await s.reach.close()
        await s.endpoint.close()
        await other.close()

    run_virtual(scene())


# ---- whole nodes, over QUIC on loopback


def prepare(folder: Path, name: str, **settings: Any) -> Path:
    folder.mkdir(mode=0o700, exist_ok=True)
    lines = {"bind": "127.0.0.1", "name": name} | settings
    text = "".join(f"{k} = {str(v).lower() if isinstance(v, bool) else repr(v)}\n" for k, v in lines.items())
    (folder / "config.toml").write_text(text)
    return folder


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SETTLED_S
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        await asyncio.sleep(0.01)


@asynccontextmanager
async def pair(folder: Path, **settings: Any) -> AsyncIterator[tuple[Node, Node]]:
    anna, ben = (prepare(folder / name, name, **settings) for name in ("anna", "ben"))
    async with Node.open(anna) as a, Node.open(ben) as b:
        yield a, b


def test_two_nodes_see_each_other_and_connect_without_a_word(tmp_path: Path) -> None:
    async def scene() -> None:
        async with pair(tmp_path) as (anna, ben):
            await until(lambda: anna.peer_id in [PeerId.parse(p.peer) for p in ben.peers()])
            line = next(p for p in ben.peers() if p.peer == str(anna.peer_id))
            assert (line.name, line.known) == ("anna", ["local network"])
            connection = await ben.connect(anna.peer_id)
            assert connection.path.kind == "direct"
            line = next(p for p in ben.peers() if p.peer == str(anna.peer_id))
            assert line.known == ["connected", "local network"]
            assert line.path.startswith("direct ")
            assert "circle (local network, contacts)" in ben.status().text()

    run(scene())


def test_a_peer_that_moved_since_the_ticket_was_made_is_found(tmp_path: Path) -> None:
    (tmp_path / "note").write_text("hello")

    async def scene() -> None:
        homes = [prepare(tmp_path / name, name) for name in ("anna", "ben")]
        async with Node.open(homes[1]) as ben:
            async with Node.open(homes[0]) as anna:
                ticket = (await anna.files.share(tmp_path / "note")).ticket
                old = anna.addresses
                await ben.files.get(ticket, tmp_path / "one")
            (homes[0] / "run" / "port").write_text("0")
            async with Node.open(homes[0]) as anna:
                assert not set(anna.addresses) & set(old)
                began = time.monotonic()
                await ben.files.get(ticket, tmp_path / "two")
                assert time.monotonic() - began < FOUND_S
        assert (tmp_path / "two").read_text() == "hello"

    run(scene())


def test_without_discovery_nobody_is_found_but_what_worked_is_remembered(tmp_path: Path) -> None:
    async def scene() -> None:
        async with pair(tmp_path, discovery=False) as (anna, ben):
            with pytest.raises(TransportError, match=r"no address is known.*contacts \(not found\)"):
                await ben.connect(anna.peer_id)
            await ben.connect(anna.peer_id, anna.addresses)
        gc.collect()  # the QUIC wheel frees a port with its last object, and the second run wants the same
        await asyncio.sleep(0.2)
        async with pair(tmp_path, discovery=False) as (anna, ben):
            assert (await ben.connect(anna.peer_id)).peer == anna.peer_id

    run(scene())


def test_each_side_remembers_where_it_was_seen(tmp_path: Path) -> None:
    async def scene() -> None:
        async with pair(tmp_path, discovery=False) as (anna, ben):
            await ben.connect(anna.peer_id, anna.addresses)
            await until(lambda: ben.reach is not None and ben.reach.observed.mapping() == "none")
            await until(lambda: any(p.name == "ben" for p in anna.peers()))

    run(scene())


def test_a_killed_peer_is_an_error_that_says_what_was_tried(tmp_path: Path) -> None:
    with running_node(tmp_path / "anna") as anna, running_node(tmp_path / "ben") as ben:
        (tmp_path / "note").write_text("hello")
        ticket = anna.call("share", str(tmp_path / "note"))["ticket"]
        deadline = time.monotonic() + FOUND_S
        anna_id = anna.call("id")["id"]
        while anna_id not in [p["peer"] for p in ben.call("peers")]:
            assert time.monotonic() < deadline
        anna.kill()
        began = time.monotonic()
        failed = coterie(tmp_path / "ben", "get", ticket, str(tmp_path / "copy"))
        assert time.monotonic() - began < 10
        assert failed.returncode
        assert "tried 127.0.0.1:" in failed.stderr
        assert "local network (nothing new), contacts (not found)" in failed.stderr
        anna.up()
        assert (
            result(coterie(tmp_path / "ben", "--json", "get", ticket, str(tmp_path / "copy")))["files"] == 1
        )


def test_levels_are_a_setting(tmp_path: Path) -> None:
    home = Home.locate(prepare(tmp_path, "x", reach="local"))
    assert home.config().reach == "local"
    assert home.config().changed("discovery", "false").discovery is False
    with pytest.raises(UsageError, match="reach"):
        home.config().changed("reach", "everywhere")
