"""Several exits: the next takes over when one is gone or refuses; time-outs, quotas, hours, many at once."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from coterie.apps.grants.service import GrantsService, Wanted
from coterie.apps.internet import exits, sharing
from coterie.net.memory import MemoryNetwork
from coterie.node import Node
from tests.apps.expose.programs import call, echo_server
from tests.apps.files.nodes import befriend, friends, memory_node
from tests.apps.internet.outside import Outside, outside
from tests.apps.internet.test_service import internet, shared, socks
from tests.support import run


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Outside:
    """What is there outside."""
    return outside(monkeypatch)


@contextlib.asynccontextmanager
async def two_exits(folder: Path) -> AsyncIterator[tuple[Node, Node, Node, str, MemoryNetwork]]:
    """Anna and carl share theirs, ben uses both, anna's first: his proxy."""
    network = MemoryNetwork()
    async with (
        memory_node(network, folder / "a") as anna,
        memory_node(network, folder / "b") as ben,
        memory_node(network, folder / "c") as carl,
    ):
        for node in (anna, carl):
            await befriend(node, ben)
            internet(node).share("exit", ["contacts"])
        line = await internet(ben).use([str(anna.peer_id), str(carl.peer_id)])
        yield anna, ben, carl, line.proxy, network


def states(ben: Node) -> list[str]:
    return [line.state for line in internet(ben).line().exits]


def test_a_silent_exit_is_passed_over_within_a_second(tmp_path: Path, web: Outside) -> None:
    async def scene() -> None:
        async with two_exits(tmp_path) as (anna, ben, _, proxy, network), echo_server() as port:
            async with socks(proxy, "web.example", port) as (code, _):
                assert (code, states(ben)) == (0, ["in use", "ready"])

            async with socks(proxy, "web.example", port) as (_, (reader, _)):
                network.block(anna.peer_id, ben.peer_id)
                begun = time.monotonic()
                async with socks(proxy, "web.example", port) as (code, _):
                    assert code == 0
                assert time.monotonic() - begun < 0.4 + exits.SILENT_S
                assert states(ben) == ["it does not answer", "in use"]
                async with asyncio.timeout(6):
                    with pytest.raises(ConnectionResetError):  # what went through anna
                        await reader.read()

    run(scene())


def test_an_exit_that_refuses_is_passed_over_and_hosts_that_refuse_are_not(
    tmp_path: Path, web: Outside
) -> None:
    async def scene() -> None:
        async with two_exits(tmp_path) as (anna, ben, carl, proxy, _), echo_server() as port:
            internet(anna).unshare("exit")
            async with socks(proxy, "web.example", port) as (code, _):
                assert code == 0
            first, second = states(ben)
            assert "no internet access here" in first
            assert second == "in use"
            dialled = len(web.dialled)
            async with socks(proxy, "web.example", 1) as (code, _):
                assert code == 5
            assert len(web.dialled) == dialled + 1, "closed is closed, through whatever exit"
            internet(carl).unshare("exit")
            async with socks(proxy, "web.example", port) as (code, _):
                assert code == 2

    run(scene())


def test_what_becomes_of_hosts_is_told_by_the_code(
    tmp_path: Path, web: Outside, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coterie.apps.internet.dialling.DIAL_S", 0.3)
    web.names["dead.example"] = ["11.20.0.8"]
    web.dead.add("11.20.0.8")

    async def scene() -> None:
        async with shared(tmp_path, only=["*.example"]) as (_, _, line):
            for host, port, wanted in (
                ("nobody.example", 80, 4),
                ("web.example", 1, 5),
                ("dead.example", 80, 6),
                ("other.org", 80, 2),
            ):
                async with socks(line.proxy, host, port) as (code, _):
                    assert (host, code) == (host, wanted)

    run(scene())


def test_the_first_address_that_answers_is_taken(tmp_path: Path, web: Outside) -> None:
    web.names["both.example"] = ["2a00:7::7", "11.20.0.7"]
    web.dead.add("2a00:7::7")

    async def scene() -> None:
        async with shared(tmp_path) as (_, _, line), echo_server() as port:
            begun = time.monotonic()
            async with socks(line.proxy, "both.example", port) as (code, _):
                assert code == 0
            assert web.dialled == ["2a00:7::7", "11.20.0.7"]
            assert time.monotonic() - begun < 2

    run(scene())


def test_hours_refuse_and_end_connections(
    tmp_path: Path, web: Outside, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene() -> None:
        hour = time.localtime().tm_hour
        closed = f"{(hour + 2) % 24:02}:00-{(hour + 3) % 24:02}:00"
        async with shared(tmp_path) as (anna, ben, line), echo_server() as port:
            internet(anna).share("exit", ["contacts"], hours=closed)
            async with socks(line.proxy, "web.example", port) as (code, _):
                assert code == 2
            assert "it holds from" in states(ben)[0]
            internet(anna).share("exit", ["contacts"], hours=f"{hour:02}:00-{(hour + 2) % 24:02}:00")
            monkeypatch.setattr(sharing, "seconds_left", lambda terms: 0.2)
            async with socks(line.proxy, "web.example", port) as (code, (reader, _)):
                assert code == 0
                async with asyncio.timeout(5):
                    with pytest.raises(ConnectionResetError):
                        await reader.read()

    run(scene())


def test_a_grant_opens_an_exit_with_a_quota_and_taken_back_it_ends_within_five_seconds(
    tmp_path: Path, web: Outside
) -> None:
    async def scene() -> None:
        async with shared(tmp_path) as (anna, ben, line), echo_server() as port:
            internet(anna).share("exit", [])
            async with socks(line.proxy, "web.example", port) as (code, _):
                assert code == 2
            grants: GrantsService = anna.service("grants")
            given = grants.give(str(ben.peer_id), "use", "internet/exit", Wanted(3_600, limits=["400kB"]))
            async with socks(line.proxy, "web.example", port) as (code, (reader, writer)):
                assert code == 0
                writer.write(bytes(100_000))
                await reader.readexactly(100_000)
                assert [place.name for place in await ben.directory.look(str(anna.peer_id))] == ["exit"]
                grants.revoke(given.id)
                async with asyncio.timeout(5):
                    with pytest.raises(ConnectionResetError):
                        await reader.read()
            grants.give(str(ben.peer_id), "use", "internet/exit", Wanted(3_600, limits=["400kB"]))
            async with socks(line.proxy, "web.example", port) as (code, (reader, writer)):
                assert code == 0
                writer.write(bytes(1_000_000))
                got = 0
                async with asyncio.timeout(5):
                    with pytest.raises(ConnectionResetError):
                        while data := await reader.read(65_536):
                            got += len(data)
                assert got <= 400_000

    run(scene())


def test_a_rate_holds(tmp_path: Path, web: Outside) -> None:
    async def scene() -> None:
        async with (
            shared(tmp_path, limits=["200kB/s"]) as (_, _, line),
            echo_server() as port,
            socks(line.proxy, "web.example", port) as (_, (reader, writer)),
        ):
            begun = time.monotonic()
            writer.write(bytes(250_000))
            writer.write_eof()
            assert len(await reader.read()) == 250_000
            assert time.monotonic() - begun > 1.0  # 500 kB both ways, 200 at once

    run(scene())


@pytest.mark.slow
def test_a_thousand_connections_at_once(tmp_path: Path, web: Outside) -> None:
    async def scene() -> None:
        async with (
            shared(tmp_path) as (anna, _, line),
            echo_server() as port,
            contextlib.AsyncExitStack() as all_,
        ):
            room = asyncio.Semaphore(50)

            async def one(number: int) -> None:
                async with room:
                    code, (reader, writer) = await all_.enter_async_context(
                        socks(line.proxy, "web.example", port)
                    )
                    assert code == 0
                    said = str(number).encode()
                    writer.write(said)
                    assert await reader.readexactly(len(said)) == said

            await asyncio.gather(*map(one, range(1_000)))
            assert internet(anna).line().users[0].open == 1_000

    run(scene(), 100)


def test_what_is_asked_for_is_nowhere_in_the_log(
    tmp_path: Path, web: Outside, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")

    async def scene() -> None:
        async with shared(tmp_path) as (_, _, line), echo_server() as port:
            for host in ("web.example", "nobody.example", "127.0.0.9"):
                async with socks(line.proxy, host, port):
                    pass

    run(scene())
    kept = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    for host in ("web.example", "nobody.example", "127.0.0.9", "11.20.0.7"):
        assert host not in caplog.text
        assert not any(host.encode() in raw for raw in kept)


def test_an_exit_that_is_offered_is_a_notice_once(tmp_path: Path) -> None:
    async def scene() -> None:
        async with friends(tmp_path) as (anna, ben):
            for _ in range(2):
                internet(anna).share("exit", ["contacts"])
                async with asyncio.timeout(5):
                    while not (told := [n.said for n in ben.notices.all() if "internet access" in n.said]):
                        await asyncio.sleep(0.01)
            assert len(told) == 1
            assert "coterie internet use" in told[0]
            assert not [n for n in anna.notices.all() if "internet access" in n.said]

    run(scene())


def test_the_proxy_has_one_page_of_its_own(tmp_path: Path, web: Outside) -> None:
    async def scene() -> None:
        async with shared(tmp_path) as (_, _, line):
            for first, host, wanted in (
                ("GET /proxy.pac", line.proxy, "200 OK"),
                ("GET /proxy.pac", "evil.example", "400 Bad Request"),
                ("GET /", line.proxy, "400 Bad Request"),
                ("POST /proxy.pac", line.proxy, "400 Bad Request"),
            ):
                async with call(line.proxy) as (reader, writer):
                    writer.write(f"{first} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
                    assert (await reader.read()).startswith(f"HTTP/1.1 {wanted}".encode())
            assert web.dialled == []

    run(scene())
