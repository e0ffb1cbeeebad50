"""Names in .coterie: what is answered, asked by dig and by the system's own resolver; pages by such a name."""

import asyncio
import contextlib
import re
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from coterie.access.policy import of_peer
from coterie.access.resource import Verb
from coterie.apps.expose.api import Lead, Target
from coterie.apps.expose.naming import LASTS_S, answer_names
from coterie.apps.expose.targets import as_label
from coterie.errors import UsageError
from coterie.identity import PeerId
from coterie.net import MemoryNetwork
from coterie.node import Node
from coterie.services.local.dns_port import QUESTIONS_MAX, DnsPort
from coterie.tasks import Tasks
from coterie.wire import dns
from tests.apps.expose.programs import call, echo_server
from tests.apps.files.nodes import friends, memory_node
from tests.support import run

needs_root = pytest.mark.skipif(
    subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode != 0,
    reason="needs a mount namespace",
)


def asked(name: str, kind: int = dns.A) -> tuple[int, list[tuple[str, int]]]:
    """The code and the addresses of the answer, where anna alone is known."""
    message = answer_names(dns.question(1, name, kind), lambda label: label == "anna")
    return message[3] & 15, dns.read_addresses(message)


@pytest.mark.parametrize("name", ["anna.coterie", "wiki.anna.coterie", "WIKI.Anna.Coterie"])
def test_a_computer_and_its_services_are_here(name: str) -> None:
    assert asked(name) == (dns.NO_ERROR, [("127.0.0.1", LASTS_S)])
    assert asked(name, dns.AAAA) == (dns.NO_ERROR, [])


@pytest.mark.parametrize("name", ["ben.coterie", "wiki.ben.coterie", "a.b.anna.coterie"])
def test_what_nobody_is_called_does_not_exist(name: str) -> None:
    assert asked(name) == (dns.NAME_ERROR, [])


@pytest.mark.parametrize("name", ["", "org", "anna.coterie.org", "anna", "anna.localhost"])
def test_other_names_are_refused_so_that_a_resolver_asks_elsewhere(name: str) -> None:
    assert asked(name) == (dns.REFUSED, [])


async def program(*words: str) -> str:
    """What a program says."""
    running = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE)
    said, _ = await running.communicate()
    return said.decode()


@contextlib.asynccontextmanager
async def named(folder: Path, port: int = 0) -> AsyncIterator[tuple[Node, Node, str, str]]:
    """Anna, ben whose names are on, their port, and the label of anna's computer."""
    async with friends(folder) as (anna, ben):
        line = await ben.expose.switch_names(is_on=True, port=port)
        assert line.is_on
        (name,) = ben.people.names()
        yield anna, ben, line.address.rpartition(":")[2], as_label(name)


def test_dig_is_answered_over_udp_and_tcp(tmp_path: Path) -> None:
    async def play() -> None:
        async with named(tmp_path) as (_, ben, port, anna):
            for way, server in (("+notcp", "127.0.0.1"), ("+tcp", "127.0.0.1"), ("+notcp", "::1")):
                dig = ("dig", f"@{server}", "-p", port, way, "+noall", "+comments", "+answer")
                said = await program(*dig, "nobody.coterie", "example.org", f"wiki.{anna}.coterie")
                codes = re.findall(r"status: (\w+)", said)
                assert codes == ["NXDOMAIN", "REFUSED", "NOERROR"]
                assert said.rstrip().endswith("127.0.0.1")
            assert not (await ben.expose.switch_names(is_on=False)).is_on
            assert "status" not in await program(
                "dig", "@127.0.0.1", "-p", port, "+tries=1", "+time=1", "x.coterie"
            )

    run(play())


@needs_root
def test_the_systems_resolver_finds_them(tmp_path: Path) -> None:
    async def play() -> None:
        async with named(tmp_path, port=53) as (_, _, port, anna):
            assert port == "53"
            (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.1\n")
            bind = f"mount --bind {tmp_path}/resolv.conf /etc/resolv.conf && "
            said = await program("unshare", "-m", "sh", "-c", f"{bind} getent ahosts wiki.{anna}.coterie")
            assert said.startswith("127.0.0.1 ")
            assert await program("unshare", "-m", "sh", "-c", f"{bind} getent ahosts nobody.coterie") == ""

    run(play())


def test_pages_have_such_names_while_they_are_on(tmp_path: Path) -> None:
    async def play() -> None:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\npage")

        async with named(tmp_path) as (peer, ben, _, anna), echo_server(answer) as served:
            peer.expose.expose(str(served), "wiki", ["contacts"])
            web = ben.expose.names().web.removeprefix("http://NAME.COMPUTER.coterie:").rstrip("/")
            for host, is_served in (("coterie", True), ("localhost", True), ("example", False)):
                async with call(f"127.0.0.1:{web}") as (reader, writer):
                    writer.write(f"GET / HTTP/1.1\r\nHost: wiki.{anna}.{host}:{web}\r\n\r\n".encode())
                    assert (b"page" in await reader.read(1_000)) == is_served
            await ben.expose.connect(f"{peer.peer_id}/wiki")  # so that the port stays
            await ben.expose.switch_names(is_on=False)
            async with call(f"127.0.0.1:{web}") as (reader, writer):
                writer.write(f"GET / HTTP/1.1\r\nHost: wiki.{anna}.coterie:{web}\r\n\r\n".encode())
                assert b"400 Bad Request" in await reader.read(1_000)

    run(play())


def test_places_of_other_apps_have_names_too(tmp_path: Path) -> None:
    """One that the computer with the place leads to a program, asked of the policy; one that is a page here."""

    async def play() -> None:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\npage")

        async def page(peer: PeerId, name: str) -> str:
            return "http://127.0.0.1:1/films/" if name == "films" else ""

        async with friends(tmp_path) as (anna, ben), echo_server(answer) as served:
            lead = Lead(resource="share/laser", target=Target("127.0.0.1", served))
            anna.expose.lead(lambda name: lead if name == "laser" else None)
            ben.expose.show(page)

            async def get(name: str) -> bytes:
                host = ben.expose.web_address(anna.peer_id, name).removeprefix("http://").rstrip("/")
                async with call("127.0.0.1:" + host.rpartition(":")[2]) as (reader, writer):
                    writer.write(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
                    return await reader.read(1_000)

            assert b"404" in await get("laser")  # nobody said that ben may
            anna.access.policy.permit(of_peer(ben.peer_id), Verb.USE, "share/laser")
            anna.access.review()
            assert b"page" in await get("laser")
            assert b"Location: http://127.0.0.1:1/films/\r\n" in await get("films")
            assert b"404" in await get("other")

    run(play())


def test_names_stay_on_over_a_restart_at_the_same_port(tmp_path: Path) -> None:
    async def play() -> None:
        async with friends(tmp_path) as (_, ben):
            before = await ben.expose.switch_names(is_on=True)
        async with friends_again(tmp_path) as ben:
            assert ben.expose.names().address == before.address

    run(play())


@contextlib.asynccontextmanager
async def friends_again(folder: Path) -> AsyncIterator[Node]:
    async with memory_node(MemoryNetwork(), folder / "home-ben") as ben:
        yield ben


def test_a_port_that_another_program_has_is_said(tmp_path: Path) -> None:
    async def play() -> None:
        async with friends(tmp_path) as (_, ben), echo_server() as taken:
            with pytest.raises(UsageError, match=f"port {taken} cannot be opened"):
                await ben.expose.switch_names(is_on=True, port=taken)
            before = await ben.expose.switch_names(is_on=True)
            with pytest.raises(UsageError, match=f"port {taken} cannot be opened"):
                await ben.expose.switch_names(is_on=True, port=taken)
            assert ben.expose.names() == before

    run(play())


def test_questions_beyond_the_bound_are_lost_and_rubbish_is_left(tmp_path: Path) -> None:
    async def play() -> None:
        free = asyncio.Event()
        answered = 0

        async def ask(message: bytes) -> bytes:
            nonlocal answered
            await free.wait()
            answered += 1
            return dns.answer(dns.read_question(message), [])

        tasks = Tasks("test")
        port = DnsPort(ask, "names", tasks)
        port.start(0)
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(
            asyncio.DatagramProtocol, remote_addr=("127.0.0.1", port.number)
        )
        transport.sendto(b"rubbish")
        while not port.refused:
            await asyncio.sleep(0.01)
        for sent in range(QUESTIONS_MAX + 1):
            transport.sendto(dns.question(sent, "a.coterie", dns.A))
            if sent % 50 == 0:
                await asyncio.sleep(0.01)
        while port.refused < 2:
            await asyncio.sleep(0.01)
        free.set()
        while answered < QUESTIONS_MAX:
            await asyncio.sleep(0.01)
        assert port.refused == 2
        transport.close()
        await port.stop()
        await tasks.close()

    run(play())
