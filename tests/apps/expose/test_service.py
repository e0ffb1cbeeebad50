"""Services of one node used by another, over the memory network and real sockets of this machine."""

import asyncio
import contextlib
import os
from pathlib import Path

import pytest

from coterie.errors import NotFound, UsageError
from coterie.services.carry import calls
from tests.apps.expose.programs import call, echo_server, echoed
from tests.apps.files.nodes import friends
from tests.support import run


def test_a_service_is_used_through_a_port_of_the_other_computer(tmp_path: Path) -> None:
    async def play() -> None:
        async with friends(tmp_path) as (anna, ben), echo_server() as port:
            anna.expose.expose(str(port), "echo", ["contacts"])
            line = await ben.expose.connect(f"{anna.peer_id}/echo")
            data = os.urandom(3_000_000)
            assert await echoed(line.address, data) == data
            async with call(line.address) as (reader, writer):
                writer.write(b"still here")
                assert await reader.readexactly(10) == b"still here"
                assert anna.expose.exposed()[0].connections == 1
                assert ben.expose.connected()[0].connections == 1
            assert ben.expose.connected()[0].state == "ready"

    run(play())


def test_who_is_not_named_learns_nothing(tmp_path: Path) -> None:
    async def play() -> None:
        async with friends(tmp_path) as (anna, ben), echo_server() as port:
            anna.service("circles").create("home")
            anna.expose.expose(str(port), "echo", ["home"])
            with pytest.raises(NotFound) as refused:
                await ben.expose.connect(f"{anna.peer_id}/echo")
            with pytest.raises(NotFound) as missing:
                await ben.expose.connect(f"{anna.peer_id}/other")
            assert str(refused.value) == str(missing.value)

    run(play())


def test_a_right_taken_back_resets_both_ends(tmp_path: Path) -> None:
    async def play() -> None:
        gone = asyncio.Event()

        async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"?")
            try:
                await reader.read()
            except ConnectionResetError:
                gone.set()

        async with friends(tmp_path) as (anna, ben), echo_server(wait) as port:
            anna.expose.expose(str(port), "echo", ["contacts"])
            line = await ben.expose.connect(f"{anna.peer_id}/echo")
            async with call(line.address) as (reader, _):
                await reader.readexactly(1)
                anna.expose.unexpose("echo")
                async with asyncio.timeout(5):
                    with pytest.raises(ConnectionResetError):
                        await reader.read()
                    await gone.wait()

    run(play())


def test_connections_begun_and_given_up_by_thousands_leave_a_bounded_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "OPENED_PER_S", 10.0)
    monkeypatch.setattr(calls, "OPENED_BURST", 5)
    monkeypatch.setattr(calls, "ANSWER_S", 1.0)

    async def play() -> None:
        async with friends(tmp_path) as (anna, ben), echo_server() as port:
            anna.expose.expose(str(port), "echo", ["contacts"])
            line = await ben.expose.connect(f"{anna.peer_id}/echo")
            async with call(line.address) as (reader, writer):
                writer.write(b"here")
                await reader.readexactly(4)
                for _ in range(200):
                    async with call(line.address):
                        await asyncio.sleep(0)
                async with asyncio.timeout(3):
                    refused = await asyncio.gather(*(reached(line.address) for _ in range(5)))
                assert not all(refused), "who comes while too much was begun is refused"

    run(play())


async def reached(address: str) -> bool:
    """Whether a connection to a port is served."""
    try:
        async with call(address) as (reader, writer):
            writer.write(b"here")
            return await reader.readexactly(4) == b"here"
    except (ConnectionError, asyncio.IncompleteReadError):
        return False


def test_a_program_that_is_not_there_is_told_from_a_refusal(tmp_path: Path) -> None:
    async def play() -> None:
        async with friends(tmp_path) as (anna, ben):
            anna.expose.expose("9", "nothing", ["contacts"])
            line = await ben.expose.connect(f"{anna.peer_id}/nothing")
            async with call(line.address) as (reader, _):
                with pytest.raises(ConnectionResetError):
                    await reader.read()
            assert "not there (Connection refused)" in ben.expose.connected()[0].state

    run(play())


@pytest.mark.parametrize("target", ["", "0", "65536", "host", "unix:relative", "a b:1"])
def test_what_is_no_target(tmp_path: Path, target: str) -> None:
    async def play() -> None:
        async with friends(tmp_path) as (anna, _):
            with pytest.raises(UsageError):
                anna.expose.expose(target, "echo", ["contacts"])

    run(play())


def test_many_connections_at_once_and_a_slow_reader_slows_its_sender_only(tmp_path: Path) -> None:
    many = 150  # over what a peer may open that has shown no right to a service

    async def play() -> None:
        sent = 0

        async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal sent
            with contextlib.suppress(ConnectionError):
                while True:
                    writer.write(bytes(65_536))
                    await writer.drain()
                    sent += 65_536

        async with friends(tmp_path) as (anna, ben), echo_server() as port, echo_server(pour) as source:
            anna.expose.expose(str(port), "echo", ["contacts"])
            anna.expose.expose(str(source), "source", ["contacts"])
            line = await ben.expose.connect(f"{anna.peer_id}/echo")
            slow = await ben.expose.connect(f"{anna.peer_id}/source")
            async with contextlib.AsyncExitStack() as stack, call(slow.address):
                pairs = [await stack.enter_async_context(call(line.address)) for _ in range(many)]
                for reader, writer in pairs:
                    writer.write(b"x")
                    assert await reader.readexactly(1) == b"x"
                assert anna.expose.exposed()[0].connections == many
                before = sent
                await asyncio.sleep(0.2)
                assert sent == before < 32_000_000

    run(play())


@pytest.mark.parametrize("write", ["{}", "localhost:{}", "0.0.0.0:{}", "[::1]:{}"])
def test_a_port_of_the_node_itself_is_not_exposed(tmp_path: Path, write: str) -> None:
    async def play() -> None:
        async with friends(tmp_path) as (anna, ben), echo_server() as port:
            anna.expose.expose(str(port), "echo", ["contacts"])
            line = await ben.expose.connect(f"{anna.peer_id}/echo")
            own = line.address.rpartition(":")[2]
            with pytest.raises(
                UsageError, match=r"belongs to this node itself: the service expose/.*another program"
            ):
                ben.expose.expose(write.format(own), "again", ["contacts"])
            ben.ports.claim(lambda: {("udp", 5353): "mDNS"})
            with pytest.raises(UsageError, match=r"udp:.*5353 belongs to this node itself: mDNS"):
                ben.expose.expose("udp:" + write.format(5353), "names", ["contacts"])
            assert ben.expose.exposed() == []
            ben.expose.expose(write.format(5353), "tcp", ["contacts"])  # another port, of TCP
            ben.expose.expose(f"192.0.2.7:{own}", "elsewhere", ["contacts"])
            await ben.expose.disconnect(f"{anna.peer_id}/echo")
            ben.expose.expose(write.format(own), "free", ["contacts"])

    run(play())
