"""`coterie doctor`: each fault is named by the layer it is in, in time, with what to do about it."""

import asyncio
import contextlib
import os
import re
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from coterie.apps.context import Context
from coterie.cli.catalog import Catalog
from coterie.control import doctor_node, doctor_peer
from coterie.control.doctor import CHECK_S, Check, Healthy, Unhealthy, diagnose
from coterie.control.doctor_node import FREE_BYTES_MIN, clock, database, disk, node_checks
from coterie.control.doctor_peer import find_peer, peer_checks
from coterie.errors import NotFound, TransportError, UsageError
from coterie.identity import PeerId, SecretKey
from coterie.net import Endpoint, MemoryNetwork
from coterie.net.find.observed import Reported
from coterie.net.find.resolver import Found
from coterie.net.home_networks import is_home
from coterie.net.quic.transport import QuicTransport
from coterie.node import Node
from coterie.settings import Config
from coterie.wire.record import PeerRecord, split_address
from tests.apps.files.nodes import coterie, memory_node, pair, running_node
from tests.support import run, run_virtual

STRANGER = SecretKey(bytes(32))


class Directory:
    """A public resolver that nobody answers."""

    name = "directory"
    is_public = True
    problem = "no node answers"

    async def start(self, found: Found) -> None:
        raise TransportError(self.problem)

    async def publish(self, record: bytes) -> None:
        raise TransportError(self.problem)

    async def resolve(self, peer: PeerId) -> AsyncIterator[bytes]:
        raise TransportError(self.problem)
        yield b""

    async def close(self) -> None:
        pass


def fine(name: str) -> Check:
    return Check(name=name, ok=True, result="fine")


async def told(node: Node, peer: str = "") -> dict[str, Check]:
    """All checks by name; of several with one name, the first that is not well."""
    checks = peer_checks(node, find_peer(node, peer)) if peer else node_checks(node)
    found: dict[str, Check] = {}
    try:
        async for item in diagnose(checks):
            if isinstance(item, Check) and (item.name not in found or found[item.name].ok):
                found[item.name] = item
    except Unhealthy:
        assert not all(check.ok for check in found.values())
    else:
        assert all(check.ok for check in found.values())
    return found


@asynccontextmanager
async def quic_node(home: Path, **settings: object) -> AsyncIterator[Node]:
    """A node on loopback with a real network."""
    home.mkdir(mode=0o700)
    Config(bind="127.0.0.1", discovery=False, **settings).save(home / "config.toml")  # type: ignore[arg-type]
    async with Node.open(home) as node:
        yield node


def record_of(key: SecretKey, *addresses: str, issued: float, lasts_s: int = 3600) -> bytes:
    begun = int(issued)
    signed = PeerRecord(
        peer=key.peer_id, sequence=begun, issued=begun, expires=begun + lasts_s, addresses=addresses
    )
    return signed.sign(key)


# ---- how checks are run


def test_all_checks_run_at_once_and_are_told_in_order() -> None:
    async def slow() -> Check:
        await asyncio.sleep(3)
        return fine("slow")

    async def quick() -> Check:
        return fine("quick")

    async def work() -> tuple[list[str], float]:
        begun = asyncio.get_running_loop().time()
        items = [i async for i in diagnose([("slow", slow), ("quick", quick), ("slow", slow)])]
        assert items[-1] == Healthy(3)
        names = [item.name for item in items if isinstance(item, Check)]
        return names, asyncio.get_running_loop().time() - begun

    assert run_virtual(work()) == (["slow", "quick", "slow"], 3)


def test_two_checks_of_one_name_that_fail_are_named_once() -> None:
    async def breaks() -> Check:
        raise TransportError("no answer")

    async def work() -> None:
        with pytest.raises(Unhealthy, match=r"in the way: address, path$"):
            assert [
                i async for i in diagnose([("address", breaks), ("address", breaks), ("path", breaks)])
            ] == []

    run_virtual(work())


def test_a_check_that_hangs_is_told_as_such_and_the_others_all_the_same() -> None:
    async def hangs() -> Check:
        await asyncio.Event().wait()
        return fine("never")

    async def breaks() -> Check:
        raise TransportError("the cable is out")

    async def work() -> list[Check]:
        begun = asyncio.get_running_loop().time()
        seen: list[Check] = []
        with pytest.raises(Unhealthy, match="in the way: stuck, cable"):
            async for item in diagnose([("stuck", hangs), ("cable", breaks)]):
                assert isinstance(item, Check)
                seen.append(item)
        assert asyncio.get_running_loop().time() - begun == CHECK_S
        return seen

    stuck, cable = run_virtual(work())
    assert "no result within" in stuck.result
    assert stuck.advice
    assert (cable.ok, cable.result) == (False, "the cable is out")


def test_a_check_in_words_says_what_to_do() -> None:
    check = Check(name="disk", ok=False, result="full", advice="make room")
    assert check.text().split() == ["NO", "disk", "full", "->", "make", "room"]


# ---- the node itself


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    async def work() -> tuple[Check, Check]:
        async with memory_node(MemoryNetwork(), tmp_path / "home") as node:
            return await disk(node, lambda _: FREE_BYTES_MIN - 1), await disk(node, lambda _: 10**12)

    full, roomy = run(work())
    assert not full.ok
    assert "coterie gc" in full.advice
    assert str(tmp_path) in full.result
    assert roomy.ok
    assert not roomy.advice


def test_a_damaged_database_is_named(tmp_path: Path) -> None:
    async def work() -> tuple[Check, Check]:
        async with memory_node(MemoryNetwork(), tmp_path / "home") as node:
            sound = await database(node)
            path = node.home / "store.db"
            with contextlib.closing(sqlite3.connect(path)) as db:
                db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            size = path.stat().st_size
            with path.open("r+b") as file:
                file.seek(4096)
                file.write(os.urandom(size - 4096))
            return sound, await database(node)

    sound, damaged = run(work())
    assert sound.ok, sound
    assert not damaged.ok, damaged
    assert "store.db" in damaged.advice


@pytest.mark.parametrize(
    ("ahead_s", "ok", "way"), [(3600, False, "behind"), (-7200, False, "ahead of"), (120, True, "behind")]
)
def test_a_clock_that_differs_from_what_peers_sign_is_named(
    tmp_path: Path, ahead_s: int, ok: bool, way: str
) -> None:
    async def work() -> Check:
        async with memory_node(MemoryNetwork(), tmp_path / "home") as node:
            assert node.reach is not None
            issued = time.time() + ahead_s
            node.reach.learn(record_of(STRANGER, issued=issued, lasts_s=1), "connected")
            return await clock(node)

    check = run(work())
    assert check.ok is ok, check
    assert way in check.result
    assert "clock" in check.advice


def test_what_others_carry_says_nothing_about_clocks(tmp_path: Path) -> None:
    async def work() -> Check:
        async with memory_node(MemoryNetwork(), tmp_path / "home") as node:
            assert node.reach is not None
            node.reach.learn(record_of(STRANGER, issued=time.time() - 90_000), "local network")
            return await clock(node)

    assert "no computer to compare" in run(work()).result


def test_the_kind_of_nat_comes_from_what_several_peers_see(tmp_path: Path) -> None:
    async def work() -> list[Check]:
        async with memory_node(MemoryNetwork(), tmp_path / "home") as node:
            assert node.reach is not None
            checks = [(await told(node))["nat"]]
            for number, seen in enumerate(("203.0.113.5:4000", "203.0.113.5:4000", "203.0.113.5:4999")):
                node.reach.reported(Reported(number, seen, f"198.51.{number}.1:4433", True))
                checks.append((await told(node))["nat"])
            return checks

    nobody, one, same, differs = run(work())
    assert "unknown" in nobody.result
    assert "takes two" in one.result
    assert "endpoint-independent" in same.result
    assert same.ok
    assert "symmetric: 3 computers see 2 addresses" in differs.result
    assert not differs.ok
    assert "relay" in differs.advice


def test_a_level_without_its_directory_is_named(tmp_path: Path) -> None:
    async def work() -> tuple[Check, Check, Check]:
        async with quic_node(tmp_path / "home") as node:
            assert node.reach is not None
            circle = (await told(node))["dht"]
            node.reach.level = type(node.reach.level)("internet")
            node.reach.resolvers = [r for r in node.reach.resolvers if not r.is_public]
            missing = (await told(node))["dht"]
            node.reach.resolvers.append(Directory())
            return circle, missing, (await told(node))["dht"]

    circle, missing, silent = run(work())
    assert circle.ok
    assert not missing.ok
    assert "circle" in missing.advice
    assert not silent.ok
    assert "directory: no node answers" in silent.result


def test_a_computer_without_a_network_is_named_and_the_rest_is_well(tmp_path: Path) -> None:
    async def work() -> dict[str, Check]:
        async with quic_node(tmp_path / "home") as node:
            return await told(node)

    found = run(work())
    assert [name for name, check in found.items() if not check.ok] == ["addresses"]
    assert "connect it to a network" in found["addresses"].advice
    assert "off" in found["multicast"].result
    assert "listening" in found["udp"].result


def test_doctor_status_share_and_invite_say_alike_that_nobody_outside_gets_in(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("x")

    async def work() -> None:
        async with quic_node(tmp_path / "home") as node:
            said = "from outside nobody reaches this computer, because it is on no network"
            check = (await told(node))["outside"]
            assert check.ok
            assert check.result == said
            assert "`bind`" in check.advice
            assert node.status().outside.startswith(f"{said}; what would change that: ")
            shared = await node.files.share(tmp_path / "notes")
            note = (
                "Note: from outside nobody reaches this computer: `coterie doctor` says why, and what helps."
            )
            assert note in shared.text().splitlines()
            assert shared.outside.startswith(said)
            assert not shared.offers_internet
            async with node.contacts.invite() as invitation:
                assert invitation.invited.outside.startswith(said)
                assert "Note:" not in invitation.invited.text()  # it was said

    run(work())


def test_addresses_of_homes_are_told_from_those_of_the_internet() -> None:
    inside = ["10.1.2.3:1", "192.168.1.2:1", "100.64.0.9:1", "[fd00::1]:1", "[fe80::1]:1", "127.0.0.1:1"]
    assert all(is_home(split_address(a)[0]) for a in inside)
    assert not any(
        is_home(split_address(a)[0]) for a in ("198.51.100.2:1", "[2001:db8::1]:1", "172.32.0.1:1")
    )


# ---- one peer


def test_a_peer_that_is_there_is_reached_and_every_step_told(tmp_path: Path) -> None:
    async def work() -> dict[str, Check]:
        async with quic_node(tmp_path / "anna") as anna, quic_node(tmp_path / "ben") as ben:
            await anna.connect(ben.peer_id, ben.addresses)
            assert anna.reach is not None
            async with asyncio.timeout(5):
                while anna.reach.book.record(ben.peer_id, time.time()) is None:
                    await asyncio.sleep(0.01)
            return await told(anna, ben.peer_id.short)

    found = run(work())
    assert all(check.ok for check in found.values()), found
    assert "answers in" in found["address"].result
    assert "direct" in found["path"].result
    assert "signed" in found["record"].result
    assert "there already" in found["connection"].result


def test_an_offline_peer_is_named_within_ten_seconds(tmp_path: Path) -> None:
    async def work() -> tuple[dict[str, Check], float]:
        async with quic_node(tmp_path / "anna") as anna:
            assert anna.reach is not None
            raw = record_of(STRANGER, "127.0.0.1:9", issued=time.time() - 100)
            anna.reach.learn(raw, "contacts")
            begun = time.monotonic()
            return await told(anna, str(STRANGER.peer_id)), time.monotonic() - begun

    found, took_s = run(work())
    assert took_s < 10
    failed = [name for name, check in found.items() if not check.ok]
    assert failed == ["address", "connection", "path"]
    assert "127.0.0.1:9: no answer" in found["address"].result
    assert found["address"].advice


def test_another_node_at_the_peers_address_is_named(tmp_path: Path) -> None:
    async def work() -> dict[str, Check]:
        async with quic_node(tmp_path / "anna") as anna:
            other = Endpoint(await QuicTransport.bind(SecretKey(b"o" * 32), bind_ip="127.0.0.1"))
            async with other:
                assert anna.reach is not None
                anna.reach.learn(record_of(STRANGER, other.addresses[0], issued=time.time()), "contacts")
                return await told(anna, STRANGER.peer_id.short)

    found = run(work())
    assert "somebody else" in found["address"].result
    assert "moved" in found["address"].advice


def test_a_record_that_expired_is_named(tmp_path: Path) -> None:
    async def work() -> dict[str, Check]:
        async with quic_node(tmp_path / "anna") as anna:
            assert anna.reach is not None
            long_ago = time.time() - 3500
            anna.reach.learn(record_of(STRANGER, "127.0.0.1:9", issued=long_ago), "contacts")
            anna.reach.book.expire(time.time() + 200)
            return await told(anna, str(STRANGER.peer_id))

    found = run(work())
    assert found["record"].result == "expired"
    assert not found["record"].ok
    assert "day" in found["record"].advice


def test_a_peer_of_which_nothing_is_known_needs_a_ticket(tmp_path: Path) -> None:
    async def work() -> dict[str, Check]:
        async with quic_node(tmp_path / "anna") as anna:
            return await told(anna, str(STRANGER.peer_id))

    found = run(work())
    assert not found["record"].ok
    assert "ticket" in found["record"].advice
    assert "never heard of" in found["known"].result


def test_names_and_beginnings_find_a_peer_and_nobody_is_said(tmp_path: Path) -> None:
    async def work() -> None:
        async with pair(tmp_path) as (anna, ben):
            await anna.connect(ben.peer_id, ben.addresses)
            assert find_peer(anna, ben.peer_id.short).peer == ben.peer_id
            with pytest.raises(NotFound, match="nobody known here"):
                find_peer(anna, "carla")
            itself = (await told(anna, str(anna.peer_id)))["known"]
            assert not itself.ok
            assert "this node itself" in itself.result

    run(work())


# ---- as people run it


def test_the_command_fails_when_something_is_in_the_way_with_a_node_and_without(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with running_node(home):
        with_node = coterie(home, "doctor")
        nobody = coterie(home, "doctor", "carla")
    alone = coterie(home, "--json", "doctor")
    for done in (with_node, alone):
        assert done.returncode == 1, done
        assert "in the way: addresses" in done.stderr
    assert "NO  addresses" in with_node.stderr
    assert "ok  database" in with_node.stderr
    assert '"event": "Check", "name": "addresses", "ok": false' in alone.stdout
    assert nobody.returncode == 1
    assert "nobody known here" in nobody.stderr


def test_settings_of_the_relay_are_checked() -> None:
    assert Config().relay == "contacts"
    with pytest.raises(UsageError, match="relay"):
        Config.parse('relay = "everybody"')
    with pytest.raises(UsageError, match="relay_port"):
        Config.parse("relay_port = 70000")


def test_status_counts_one_and_many_in_words(tmp_path: Path) -> None:
    async def main() -> None:
        async with memory_node(MemoryNetwork(), tmp_path / "home") as node:
            assert "0 shares, 0 transfers running, 0 B sent" in node.status().text()
            assert "0 circles, 1 computer of yours" in node.status().text()
            assert all(re.search(r"\S  +\S", line) for line in node.status().text().splitlines())
            (tmp_path / "song").write_bytes(b"la")
            await node.files.share(tmp_path / "song")
            assert "1 share, 0 transfers running" in node.status().text()

    run(main())


def test_work_that_dies_is_begun_again_and_told_by_status_and_doctor(tmp_path: Path) -> None:
    async def main() -> None:
        async with memory_node(MemoryNetwork(), tmp_path / "home") as node:
            assert (await told(node))["background"].ok
            context: Context = node.files._context
            context.jobs.keep(broken, "counting sheep")
            context.jobs.start(broken(), "waking a sheep")
            while len(node.status().troubles) < 2:
                await asyncio.sleep(0)
            assert "files: counting sheep" in node.status().text()
            check = (await told(node))["background"]
            assert not check.ok
            assert "'files: counting sheep' failed: ValueError: no sheep; starts again in 1 s" in check.result
            assert "'files: waking a sheep' failed: ValueError: no sheep" in check.result

    async def broken() -> None:
        raise ValueError("no sheep")

    run(main())


def test_each_command_that_mends_is_one() -> None:
    """What `mend` names in the checks is declared, so that a page can offer it."""
    sources = [Path(module.__file__ or "").read_text() for module in (doctor_node, doctor_peer)]
    mends = [found for source in sources for found in re.findall(r'mend=f?"([a-z ]+)', source)]
    assert len(mends) >= 4
    catalog = Catalog()
    for mend in mends:
        first, *rest = mend.split()
        branch = catalog.find(first)
        for word in rest:
            branch = branch and branch.children.get(word, branch)
        assert branch is not None, mend
        assert branch.command is not None, mend
