"""The local network by multicast DNS, on real sockets: found, moved, gone, forged, too many."""

import asyncio
import secrets
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from zeroconf import IPVersion
from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

from coterie.errors import LimitExceeded, UsageError
from coterie.identity import PeerId, SecretKey
from coterie.net.find import mdns
from coterie.net.find.address_book import AddressBook
from coterie.net.find.mdns import INVITATIONS_MAX, RESOLVE_S, SERVICE_TYPE, MdnsResolver
from coterie.wire.record import PeerRecord, RecordRefused
from tests.net.mdns_interfaces import CANNOT
from tests.support import run

FOUND_S = 3.0  # what a person waits before looking for another way
QUIET_S = 1.0  # real time: that nothing arrives can only be waited for


class Party:
    """A resolver with a key and a book of its own. Other tests announce on the same loopback: they do not count."""

    def __init__(self) -> None:
        self.key = SecretKey(secrets.token_bytes(32))
        self.peer = self.key.peer_id
        self.book = AddressBook(self.peer)
        self.offered: list[bytes] = []
        self.resolver = MdnsResolver(self.peer, bind_ip="127.0.0.1")

    def found(self, raw: bytes) -> PeerId | None:
        self.offered.append(raw)
        try:
            self.book.learn(raw, time.time(), "local network")
        except RecordRefused:
            return None
        return PeerId(raw[1:33])

    def record(self, sequence: int = 1, port: int = 4433) -> bytes:
        now = int(time.time())
        addresses = tuple(f"127.0.0.1:{port + n}" for n in range(8))
        return PeerRecord(
            peer=self.peer,
            sequence=sequence,
            issued=now,
            expires=now + 600,
            addresses=addresses,
            name="x" * 60,
        ).sign(self.key)

    async def start(self) -> "Party":
        await self.resolver.start(self.found)
        return self


@asynccontextmanager
async def parties(count: int) -> AsyncIterator[list[Party]]:
    made = [Party() for _ in range(count)]
    try:
        for party in made:
            await party.start()
        yield made
    finally:
        await asyncio.gather(*(party.resolver.close() for party in made))


async def until(condition: Callable[[], bool], within_s: float = FOUND_S) -> float:
    """Seconds until `condition` holds."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < within_s, "did not happen in time"
        await asyncio.sleep(0.005)
    return time.monotonic() - began


@asynccontextmanager
async def announced(name: str, properties: dict[str, bytes]) -> AsyncIterator[None]:
    """A foreign program that announces whatever it likes."""
    zeroconf = AsyncZeroconf(interfaces=["127.0.0.1"], ip_version=IPVersion.V4Only)
    info = AsyncServiceInfo(
        SERVICE_TYPE, f"{name}.{SERVICE_TYPE}", port=1, properties=properties, server="x.local."
    )
    repeats = asyncio.ensure_future(await zeroconf.async_register_service(info, cooperating_responders=True))
    try:
        yield
    finally:
        repeats.cancel()
        await asyncio.gather(repeats, return_exceptions=True)
        await zeroconf.async_close()


def strings(raw: bytes, size: int = 250) -> dict[str, Any]:
    return {f"r{n}": raw[at : at + size] for n, at in enumerate(range(0, len(raw), size))}


def test_everybody_finds_everybody_and_nobody_waits_to_start() -> None:
    async def scene() -> None:
        began = time.monotonic()
        async with parties(4) as all_four:
            for party in all_four:
                await party.resolver.publish(party.record())
            assert time.monotonic() - began < 0.2, "start-up waits for nothing"
            for party in all_four:
                others = [p for p in all_four if p is not party]
                await until(lambda p=party, o=others: all(x.peer in p.book for x in o))  # type: ignore[misc]
                assert all(x.peer in party.resolver.seen for x in others)
                assert party.peer not in party.resolver.seen

    run(scene())


def test_a_peer_that_moves_is_followed() -> None:
    async def scene() -> None:
        async with parties(2) as (a, b):
            await b.resolver.publish(b.record(1, 1000))
            await until(lambda: b.peer in a.book)
            await b.resolver.publish(b.record(2, 2000))
            await until(lambda: a.book.candidates(b.peer, time.time())[0] == "127.0.0.1:2000")

    run(scene())


def test_who_leaves_in_order_is_gone_at_once() -> None:
    async def scene() -> None:
        async with parties(2) as (a, b):
            await b.resolver.publish(b.record())
            await until(lambda: b.peer in a.resolver.seen)
            await b.resolver.close()
            await until(lambda: b.peer not in a.resolver.seen)
            assert b.peer in a.book, "where it was is still worth a try"

    run(scene())


def test_resolve_gives_what_is_announced_and_what_comes() -> None:
    async def scene() -> None:
        async with parties(2) as (a, b):
            await b.resolver.publish(b.record(1))
            await until(lambda: b.peer in a.resolver.seen)
            records = aiter(a.resolver.resolve(b.peer))
            assert PeerRecord.read(await anext(records)).sequence == 1
            await b.resolver.publish(moved := b.record(2, 2000))
            assert await anext(records) == moved
            await records.aclose()  # type: ignore[attr-defined]

    run(scene())


def test_resolve_asks_for_whom_it_has_not_heard() -> None:
    async def scene() -> None:
        async with parties(2) as (a, b):
            searching = asyncio.ensure_future(anext(aiter(a.resolver.resolve(b.peer))))
            await asyncio.sleep(0.1)
            await b.resolver.publish(raw := b.record())
            assert await searching == raw

    run(scene())


def test_resolve_ends_when_nobody_answers() -> None:
    async def scene() -> None:
        async with parties(1) as (a,):
            began = time.monotonic()
            nobody = SecretKey(b"nobody" + bytes(26)).peer_id
            assert [raw async for raw in a.resolver.resolve(nobody)] == []
            assert RESOLVE_S - 0.1 < time.monotonic() - began < RESOLVE_S + 1

    run(scene())


def test_forged_announcements_are_ignored() -> None:
    async def scene() -> None:
        async with parties(3) as (a, victim, liar):
            now = int(time.time())
            expired = PeerRecord(peer=victim.peer, sequence=9, issued=1, expires=2).sign(victim.key)
            genuine = liar.record()
            damaged = victim.record()[:-1] + b"\x00"
            future = PeerRecord(peer=victim.peer, sequence=9, issued=now + 7000, expires=now + 8000)
            wrong = [genuine, damaged, expired, future.sign(victim.key), b"\x00" * 100, victim.record() * 3]
            for raw in wrong:
                offered = len(a.offered)
                async with announced(str(victim.peer), strings(raw)):
                    await until(lambda n=offered, r=raw: r in a.offered[n:])  # type: ignore[misc]
                    assert victim.peer not in a.resolver.seen
                    assert victim.peer not in a.book
            await victim.resolver.publish(victim.record())
            await until(lambda: victim.peer in a.book)

    run(scene(), 60)


@pytest.mark.parametrize("name", ["printer", "1" * 52, "x" * 63])
def test_names_that_are_no_peer_are_ignored(name: str) -> None:
    async def scene() -> None:
        async with parties(2) as (a, b), announced(name, strings(b.record())):
            await b.resolver.publish(b.record(2))
            await until(lambda: b.peer in a.book)
            assert [PeerRecord.read(raw).sequence for raw in a.offered if b.peer in raw] == [2]

    run(scene())


def test_an_announcement_without_a_record_is_nobody() -> None:
    async def scene() -> None:
        async with parties(2) as (a, b), announced(str(b.peer), {"hello": b"world"}):
            await asyncio.sleep(QUIET_S)
            assert b.peer not in a.resolver.seen
            assert not [raw for raw in a.offered if b.peer in raw]

    run(scene())


def test_peers_seen_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mdns, "PEERS_SEEN_MAX", 2)

    async def scene() -> None:
        async with parties(5) as (a, *others):
            for party in others:
                await party.resolver.publish(party.record())
                await until(lambda p=party: p.peer in a.book)  # type: ignore[misc]
                assert len(a.resolver.seen) <= 2

    run(scene())


def test_a_flood_is_verified_only_so_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mdns, "RECORDS_BURST", 3)
    monkeypatch.setattr(mdns, "RECORDS_PER_S", 0.0)

    async def scene() -> None:
        async with parties(2) as (a, b):
            for sequence in range(1, 10):
                await b.resolver.publish(b.record(sequence))
                await asyncio.sleep(0.02)
            await asyncio.sleep(QUIET_S)
            assert len(a.offered) <= 3

    run(scene())


def test_open_invitations_are_found_by_their_number_and_withdrawn() -> None:
    async def scene() -> None:
        async with parties(3) as (a, b, c):
            for party in (b, c):
                await party.resolver.publish(party.record())
            b.resolver.announce_invitations([7, 12])
            c.resolver.announce_invitations([13])
            inviters = a.resolver.find_inviters(12)
            async with asyncio.timeout(FOUND_S):
                assert await anext(inviters) == (b.peer, PeerRecord.read(b.record()).direct)
            await inviters.aclose()
            b.resolver.announce_invitations([])
            c.resolver.announce_invitations([12])
            inviters = a.resolver.find_inviters(12)
            async with asyncio.timeout(FOUND_S):
                while (await anext(inviters))[0] != c.peer:
                    pass
            await inviters.aclose()
            await until(lambda: not a.resolver._inviting.get(b.peer))
            b.resolver.announce_invitations([7, 12])  # the same text as before comes through caches, too
            inviters = a.resolver.find_inviters(7)
            async with asyncio.timeout(FOUND_S):
                assert (await anext(inviters))[0] == b.peer
            await inviters.aclose()

    run(scene())


def test_invitations_are_bounded_and_nonsense_is_none() -> None:
    async def scene() -> None:
        async with parties(2) as (a, b):
            with pytest.raises(LimitExceeded, match="INVITATIONS_MAX"):
                a.resolver.announce_invitations(range(INVITATIONS_MAX + 1))
            inviting = asyncio.ensure_future(anext(a.resolver.find_inviters(7)))
            many = ",".join(["7"] * (INVITATIONS_MAX + 1)).encode()
            for nonsense in (many, b"7,x", b"-7", b",7"):
                async with announced(str(b.peer), strings(b.record()) | {"i": nonsense}):
                    await until(lambda: b.peer in a.resolver.seen)
                    assert not inviting.done()
                await until(lambda: b.peer not in a.resolver.seen)
            inviting.cancel()
            await asyncio.gather(inviting, return_exceptions=True)

    run(scene())


def test_closing_takes_no_longer_than_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mdns, "CLOSE_S", 0.02)

    async def scene() -> None:
        async with parties(2) as (a, b):
            await b.resolver.publish(b.record())
            await until(lambda: b.peer in a.resolver.seen)
            began = time.monotonic()
            await b.resolver.close()
            assert time.monotonic() - began < 0.2, "the goodbye alone takes 0.25 s"

    run(scene())


def test_it_is_started_once() -> None:
    async def scene() -> None:
        async with parties(1) as (a,):
            with pytest.raises(UsageError, match="already"):
                await a.start()

    run(scene())


@pytest.mark.skipif(sys.platform != "linux", reason="uses Linux network namespaces")
def test_interfaces_come_and_go() -> None:
    script = Path(__file__).parent.with_name("mdns_interfaces.py")
    command = [sys.executable, "-m", "tests.net.mdns_interfaces"]
    done = subprocess.run(
        command, cwd=script.parents[2], capture_output=True, text=True, timeout=60, check=False
    )
    if done.returncode == CANNOT:
        pytest.skip("no network namespace of one's own is allowed here")
    assert done.returncode == 0, done.stderr
