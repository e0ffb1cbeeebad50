"""Internet access of one node used by another, over the memory network and real sockets of this machine."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from coterie.apps.internet.exits import ExitRefused
from coterie.apps.internet.results import InternetLine
from coterie.apps.internet.service import InternetService
from coterie.errors import CoterieError, NotFound, UsageError
from coterie.node import Node
from tests.apps.expose.programs import Pair, call, echo_server
from tests.apps.files.nodes import friends
from tests.apps.internet.outside import SERVER, Outside, outside
from tests.support import run


def internet(node: Node) -> InternetService:
    """The service of a node."""
    service: Any = node.service("internet")
    assert isinstance(service, InternetService)
    return service


@contextlib.asynccontextmanager
async def shared(folder: Path, **options: Any) -> AsyncIterator[tuple[Node, Node, InternetLine]]:
    """Anna shares hers with her contacts, ben uses it."""
    async with friends(folder) as (anna, ben):
        internet(anna).share("exit", ["contacts"], **options)
        yield anna, ben, await internet(ben).use([str(anna.peer_id)])


@contextlib.asynccontextmanager
async def socks(proxy: str, host: str, port: int) -> AsyncIterator[tuple[int, Pair]]:
    """A connection through a SOCKS5 proxy: what it answered, and the connection."""
    async with call(proxy) as (reader, writer):
        writer.write(b"\x05\x01\x00")
        assert await reader.readexactly(2) == b"\x05\x00"
        name = host.encode()
        writer.write(b"\x05\x01\x00\x03" + bytes((len(name),)) + name + port.to_bytes(2, "big"))
        answer = await reader.readexactly(10)
        yield answer[1], (reader, writer)


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Outside:
    """What is there outside."""
    return outside(monkeypatch)


def test_bytes_go_through_the_exit_and_back(tmp_path: Path, web: Outside) -> None:
    async def play() -> None:
        async with shared(tmp_path) as (anna, ben, line), echo_server() as port:
            data = os.urandom(3_000_000)
            async with socks(line.proxy, "web.example", port) as (code, (reader, writer)):
                assert code == 0
                writer.write(data)
                writer.write_eof()
                assert await reader.read() == data
            assert web.looked_up == ["web.example"]
            assert web.dialled == [SERVER]
            (user,) = internet(anna).line().users
            assert user.days[0].up_bytes == user.days[0].down_bytes == len(data)
            assert user.days[0].connections == 1
            assert internet(ben).line().exits[0].state == "in use"

    run(play())


def test_who_is_not_named_is_refused(tmp_path: Path) -> None:
    async def play() -> None:
        async with friends(tmp_path) as (anna, ben):
            with pytest.raises(ExitRefused, match="no internet access here"):
                await internet(ben).use([str(anna.peer_id)])
            anna.service("circles").create("home")
            internet(anna).share("exit", ["home"])
            with pytest.raises(ExitRefused, match="no internet access here"):
                await internet(ben).use([str(anna.peer_id)])
            with pytest.raises(UsageError, match="people you know"):
                internet(anna).share("exit", ["anyone"])
            with pytest.raises(NotFound):
                await internet(ben).stop()

    run(play())


def test_a_name_that_changes_its_address_is_looked_up_once(tmp_path: Path, web: Outside) -> None:
    """DNS rebinding: the first answer is public, each later one the exit itself."""

    async def play() -> None:
        async with shared(tmp_path) as (_, _, line), echo_server() as port:
            web.names["evil.example"] = [SERVER]
            original = web.resolve

            def resolve(name: str) -> list[str]:
                found = original(name)
                web.names["evil.example"] = ["127.0.0.1"]
                return found

            web.resolve = resolve  # type: ignore[method-assign]
            async with socks(line.proxy, "evil.example", port) as (code, _):
                assert code == 0
            assert web.dialled == [SERVER]

    run(play())


@pytest.mark.parametrize("answers", [["127.0.0.1"], ["169.254.169.254", "::1"], ["::ffff:10.0.0.1"]])
def test_names_of_closed_addresses_are_refused(tmp_path: Path, web: Outside, answers: list[str]) -> None:
    async def play() -> None:
        web.names["inner.example"] = answers
        async with shared(tmp_path) as (_, _, line), echo_server() as port:
            async with socks(line.proxy, "inner.example", port) as (code, _):
                assert code == 2
            assert web.dialled == []

    run(play())


def test_a_right_taken_back_resets_the_connection(tmp_path: Path, web: Outside) -> None:
    async def play() -> None:
        async with shared(tmp_path) as (anna, _, line), echo_server() as port:
            async with socks(line.proxy, "web.example", port) as (_, (reader, _)):
                internet(anna).unshare("exit")
                async with asyncio.timeout(5):
                    with pytest.raises(ConnectionResetError):
                        await reader.read()
            async with socks(line.proxy, "web.example", port) as (code, _):
                assert code != 0

    run(play())


def test_a_quota_ends_the_connection_before_more_has_passed(tmp_path: Path, web: Outside) -> None:
    async def play() -> None:
        async with shared(tmp_path, limits=["2MB"]) as (anna, _, line), echo_server() as port:
            async with socks(line.proxy, "web.example", port) as (_, (reader, writer)):
                got = 0
                with contextlib.suppress(ConnectionError):
                    for _ in range(100):
                        writer.write(bytes(100_000))
                        got += len(await reader.read(100_000))
            assert 500_000 < got < 2_000_000
            day = internet(anna).line().users[0].days[0]
            assert 1_000_000 < day.up_bytes + day.down_bytes <= 2_000_000

    run(play())


def test_what_cannot_be_shared(tmp_path: Path) -> None:
    async def play() -> None:
        async with friends(tmp_path) as (anna, _):
            for options in (
                {"limits": ["2MB/week"]},
                {"limits": ["much"]},
                {"hours": "8-20"},
                {"allow": ["http://nas"]},
                {"only": [""]},
            ):
                with pytest.raises(UsageError):
                    internet(anna).share("exit", ["contacts"], **options)  # type: ignore[arg-type]
            with pytest.raises(CoterieError):
                internet(anna).share("exit", ["nobody"])

    run(play())
