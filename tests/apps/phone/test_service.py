"""The ports for phones of a real node: what strangers see there, who is let in, bounds on connections."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from http.client import HTTPConnection, HTTPResponse, HTTPSConnection
from pathlib import Path
from typing import Any

import pytest

from coterie.apps.phone import core, listeners
from coterie.errors import NotFound, TransportError, UsageError
from coterie.net import MemoryNetwork
from coterie.node import Node
from coterie.services.local.ports import PortLine
from coterie.testing.checks import raised
from tests.apps.files.nodes import memory_node
from tests.support import run


@contextlib.asynccontextmanager
async def phones(folder: Path) -> AsyncIterator[tuple[Any, Node]]:
    async with memory_node(MemoryNetwork(), folder / "node") as node:
        yield node.service("phone"), node


async def ask(
    phone: Any, port: str, path: str, headers: Mapping[str, str] | None = None, method: str = "GET"
) -> HTTPResponse:
    def now() -> HTTPResponse:
        number = phone.number(port)
        if port == "http":
            connection = HTTPConnection("127.0.0.1", number, timeout=10)
        else:
            trusting = ssl.create_default_context(cadata=phone._made_authority().pem.decode())
            connection = HTTPSConnection("127.0.0.1", number, timeout=10, context=trusting)
        connection.request(method, path, headers=dict(headers or {}))
        answer = connection.getresponse()
        answer.said = answer.read()  # type: ignore[attr-defined]
        connection.close()
        return answer

    return await asyncio.to_thread(now)


async def page(scope: Any, receive: Any, send: Any) -> None:
    """Stands for the page: says that it was reached."""
    await send({"type": "http.response.start", "status": 299, "headers": []})
    await send({"type": "http.response.body", "body": b"page"})


def ports(node: Node) -> list[PortLine]:
    """Those for phones."""
    return [line for line in node.ports.lines() if line.name.startswith("phone/")]


def test_no_port_is_open_before_the_owner_says_so(tmp_path: Path) -> None:
    async def work() -> None:
        async with phones(tmp_path) as (phone, node):
            assert [line.address for line in ports(node)] == ["", "", ""]
            await phone.switch(is_on=True)
            assert all(line.address.startswith("0.0.0.0:") for line in ports(node))
        async with phones(tmp_path) as (phone, node):  # and it stays so
            assert all(line.address for line in ports(node))
            await phone.switch(is_on=False)
        async with phones(tmp_path) as (phone, node):
            assert [line.address for line in ports(node)] == ["", "", ""]

    run(work())


def test_strangers_see_the_start_page_and_nothing_else(tmp_path: Path) -> None:
    async def work() -> None:
        async with phones(tmp_path) as (phone, _):
            await phone.switch(is_on=True)
            for port in ("http", "https"):
                start = await ask(phone, port, "/start", {"Accept-Language": "de"})
                assert start.status == 200
                assert "script-src 'self'" in start.headers["Content-Security-Policy"]
                assert (await ask(phone, port, "/coterie.crt")).said == phone._made_authority().der  # type: ignore[attr-defined]
                assert (await ask(phone, port, "/")).status == 503  # nobody has attached a page
                for path in ("/start/../x", "/start.py", "/certificates/authority.key"):
                    assert (await ask(phone, port, path)).status == 503
            assert (await ask(phone, "files", "/start")).status == 503

    run(work())


def test_a_name_in_host_is_refused(tmp_path: Path) -> None:
    async def work() -> None:
        async with phones(tmp_path) as (phone, _):
            await phone.switch(is_on=True)
            phone.attach("http", page, lambda scope: False)
            number = phone.number("http")
            for host in (f"evil.example:{number}", f"127.0.0.1:{number + 1}", "localhost", ""):
                assert (await ask(phone, "http", "/", {"Host": host})).status == 403
            assert (await ask(phone, "http", "/", {"Host": f"192.168.1.2:{number}"})).status == 299

    run(work())


def test_guesses_are_answered_ten_times(tmp_path: Path) -> None:
    async def work() -> None:
        async with phones(tmp_path) as (phone, _):
            await phone.switch(is_on=True)
            phone.attach("http", page, lambda scope: False)
            said = [(await ask(phone, "http", "/open/guess")).status for _ in range(core.GUESS_BURST + 1)]
            assert said == [299] * core.GUESS_BURST + [429]
            assert (await ask(phone, "http", "/")).status == 299

    run(work())


def test_a_phone_comes_in_by_its_key_once_and_is_known_after_a_restart(tmp_path: Path) -> None:
    async def work() -> None:
        async with phones(tmp_path) as (phone, node):
            async with phone.expecting("Pixel", ["look"], plain=False, lasts_s=60.0) as expected:
                key = expected.key.url.rpartition("#")[2]
                assert phone.redeem("wrong", "", "https") is None
                assert phone.redeem(key, "", "http") is None
                record, secret = phone.redeem(key, "Mozilla", "https")
                assert phone.redeem(key, "", "https") is None
                added = await expected.came()
                assert (added.name, added.may) == ("Pixel", ["look"])
            assert [notice.said for notice in node.notices.all()] == [
                "a phone may use this computer now: Pixel"
            ]
            with raised(UsageError):
                async with phone.expecting("Pixel", ["fly"], plain=False, lasts_s=60.0):
                    pass
        async with phones(tmp_path) as (phone, _):
            assert phone.find(secret, "https").id == record.id
            assert phone.find(secret, "http") is None
            assert phone.find("", "https") is None
            assert phone.change("Pixel", ["get,play"]).may == ["get", "play"]
            assert "may put its pictures into Photos" in phone.set_camera("Pixel", "Photos").said
            assert phone.camera_of(record.id) == "Photos"
            assert "no live folder" in phone.set_camera("Pixel", "").said
            assert phone.camera_of(record.id) == phone.camera_of("nobody") == ""
            phone.remove(record.id)
            assert phone.find(secret, "https") is None
            with raised(NotFound, "coterie phones"):
                phone.remove("Pixel")

    run(work())


def test_a_phone_that_does_not_come_is_said_and_its_key_is_void(tmp_path: Path) -> None:
    async def work() -> None:
        async with phones(tmp_path) as (phone, _):
            async with phone.expecting("", [], plain=True, lasts_s=0.01) as expected:
                key = expected.key.url.rpartition("/")[2]
                with raised(TransportError, "no phone came in time"):
                    await expected.came()
            assert phone.redeem(key, "", "http") is None

    run(work())


def test_one_address_has_so_many_connections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listeners, "CONNECTIONS_OF_ONE_MAX", 3)

    async def work() -> None:
        async with phones(tmp_path) as (phone, node):
            await phone.switch(is_on=True)
            there = [await asyncio.open_connection("127.0.0.1", phone.number("http")) for _ in range(4)]
            async with asyncio.timeout(5):
                assert await there[3][0].read() == b""
            line = next(one for one in node.ports.lines() if one.name == "phone/http")
            assert (line.connections, line.refused) == (3, 1)
            for _, writer in there:
                writer.close()

    run(work())


def test_who_speaks_no_tls_or_does_not_trust_us_leaves_others_alone(tmp_path: Path) -> None:
    async def work() -> None:
        async with phones(tmp_path) as (phone, _):
            await phone.switch(is_on=True)
            with socket.create_connection(("127.0.0.1", phone.number("https"))) as plain:
                plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
                with contextlib.suppress(ConnectionError):
                    await asyncio.to_thread(plain.recv, 100)

            def distrusting() -> None:
                with (
                    pytest.raises(ssl.SSLError),
                    socket.create_connection(("127.0.0.1", phone.number("https"))) as raw,
                ):
                    ssl.create_default_context().wrap_socket(raw, server_hostname="127.0.0.1")

            await asyncio.to_thread(distrusting)
            assert (await ask(phone, "https", "/start")).status == 200

    run(work())
