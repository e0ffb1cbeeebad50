"""Web services by name: requests judged one by one, bodies of every kind, WebSockets, over real sockets."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from coterie.apps.expose import serving
from coterie.apps.expose.messages import HOST_HEADER_CHARS_MAX, Opened
from coterie.apps.expose.web_hosts import service_of, with_host
from coterie.errors import UsageError
from coterie.node import Node
from coterie.services.carry.http_head import HEAD_BYTES_MAX, read_chunk_length, read_head
from coterie.services.local.web_pages import is_own_page
from tests.apps.expose.programs import Pair, call, echo_server
from tests.apps.files.nodes import friends
from tests.support import run

Told = list[tuple[bytes, bytes]]


@contextlib.asynccontextmanager
async def pages(folder: Path, told: Told, host_header: str = "") -> AsyncIterator[tuple[Node, str, str]]:
    """Ben, the address of his web port, and the host of anna's page; `told` gets the heads and bodies of requests."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                body = b""
                if b"Transfer-Encoding" in head:
                    while not body.endswith(b"0\r\n\r\n"):
                        body += await reader.read(1_000)
                elif b"Content-Length: " in head:
                    length = head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0]
                    body = await reader.readexactly(int(length))
                told.append((head, body))
                if b"Upgrade: " in head:
                    writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n")
                    while data := await reader.read(1_000):
                        writer.write(data.upper())
                    return
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\npage")

    async with friends(folder) as (anna, ben), echo_server(answer) as port:
        anna.expose.expose(str(port), "wiki", ["contacts"], host_header=host_header)
        line = await ben.expose.connect(f"{anna.peer_id}/wiki")
        host = line.web.removeprefix("http://").rstrip("/")
        yield ben, "127.0.0.1:" + host.rpartition(":")[2], host


async def ask(pair: Pair, head: str, body: bytes = b"") -> bytes:
    """The first bytes of the answer, and all of them where there are no more than a page."""
    reader, writer = pair
    writer.write(head.replace("\n", "\r\n").encode() + b"\r\n\r\n" + body)
    return await reader.read(1_000)


@pytest.mark.parametrize("said", ["wiki\r\nX: y", "w\xefki", "w" * (HOST_HEADER_CHARS_MAX + 1)])
def test_a_host_that_no_header_can_have_is_the_other_sides_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    async def play() -> None:
        told: Told = []
        async with pages(tmp_path, told) as (_, address, host):
            monkeypatch.setattr(serving, "Opened", lambda header="", *rest: Opened(said, *rest))
            async with call(address) as pair:
                assert b"502" in await ask(pair, f"GET / HTTP/1.1\nHost: {host}")
        assert not told

    run(play())


def test_bodies_pass_and_many_requests_share_a_connection(tmp_path: Path) -> None:
    async def play() -> None:
        told: Told = []
        async with pages(tmp_path, told) as (_, address, host), call(address) as pair:
            assert b"page" in await ask(pair, f"GET / HTTP/1.1\nHost: {host}")
            posted = await ask(pair, f"POST /a HTTP/1.1\nHost: {host}\nContent-Length: 5", b"hello")
            chunks = b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n"
            chunked = await ask(pair, f"POST /b HTTP/1.1\nHost: {host}\nTransfer-Encoding: chunked", chunks)
            assert posted.endswith(b"page")
            assert chunked.endswith(b"page")
        assert [body for _, body in told] == [b"", b"hello", chunks]
        assert f"Host: {host}".encode() in told[0][0]

    run(play())


def test_a_page_that_says_what_is_wrong_calls_computers_by_name(tmp_path: Path) -> None:
    async def play() -> None:
        async with pages(tmp_path, []) as (ben, address, host), call(address) as pair:
            (name,) = ben.people.names()
            said = await ask(pair, f"GET / HTTP/1.1\nHost: other{host.removeprefix('wiki')}")
            assert f"{name} says: there is no such service".encode() in said

    run(play())


def test_a_websocket_passes_both_ways(tmp_path: Path) -> None:
    async def play() -> None:
        async with pages(tmp_path, []) as (_, address, host), call(address) as pair:
            upgrade = f"GET /s HTTP/1.1\nHost: {host}\nConnection: Upgrade\nUpgrade: websocket\nOrigin: http://{host}"
            assert b"101" in await ask(pair, upgrade)
            pair[1].write(b"GET / bytes of any kind \r\n\r\n")
            assert b"BYTES OF ANY KIND" in await pair[0].read(1_000)

    run(play())


def test_a_server_that_refuses_foreign_names_hears_its_own(tmp_path: Path) -> None:
    async def play() -> None:
        told: Told = []
        async with pages(tmp_path, told, "localhost:8080") as (_, address, host), call(address) as pair:
            await ask(pair, f"GET / HTTP/1.1\nHost: {host}\nOrigin: http://{host}")
        assert b"Host: localhost:8080\r\nOrigin: http://localhost:8080\r\n" in told[0][0]

    run(play())


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ("Host: {host}\nOrigin: http://evil.example", b"403"),
        ("Host: {host}\nOrigin: null", b"403"),
        ("Host: {host}\nSec-Fetch-Site: cross-site\nSec-Fetch-Mode: no-cors\nSec-Fetch-Dest: image", b"403"),
        ("Host: {host}\nSec-Fetch-Site: same-site\nSec-Fetch-Mode: cors\nSec-Fetch-Dest: empty", b"403"),
        ("Host: evil.example", b"400"),
        ("Host: evil.example\nHost: {host}", b"400"),
        ("Host: other.nobody.localhost", b"404"),
        ("Host: {host}\nContent-Length: 4\nTransfer-Encoding: chunked", b"400"),
        ("Host: {host}\nContent-Length: +4", b"400"),
        (
            "Host: {host}\nSec-Fetch-Site: cross-site\nSec-Fetch-Mode: navigate\nSec-Fetch-Dest: document",
            b"200",
        ),
    ],
)
def test_pages_of_other_sites_are_refused(tmp_path: Path, headers: str, status: bytes) -> None:
    async def play() -> None:
        told: Told = []
        async with pages(tmp_path, told) as (_, address, host), call(address) as pair:
            answer = await ask(pair, "GET / HTTP/1.1\n" + headers.format(host=host))
            assert answer.startswith(b"HTTP/1.1 " + status)
            assert len(told) == (status == b"200")

    run(play())


@pytest.mark.parametrize("second", ["Host: {host}\nOrigin: http://evil.example", "Host: evil.example"])
def test_each_request_of_a_connection_is_judged(tmp_path: Path, second: str) -> None:
    async def play() -> None:
        told: Told = []
        async with pages(tmp_path, told) as (_, address, host), call(address) as pair:
            await ask(pair, f"GET / HTTP/1.1\nHost: {host}")
            with contextlib.suppress(ConnectionResetError):
                assert b"page" not in await ask(pair, "GET /2 HTTP/1.1\n" + second.format(host=host))
            assert len(told) == 1

    run(play())


def test_heads_in_words() -> None:
    head = read_head(b"GET /a HTTP/1.1\r\nHost: Wiki.Anna.localhost:80\r\nX: 1\r\n\r\n")
    assert is_own_page(head.method, head.host, head.headers)
    assert (head.host, head.framing) == (
        "wiki.anna.localhost:80",
        "none",
    )
    assert service_of(head.host) == ("wiki", "anna")
    assert with_host(head, "") == head.raw
    assert read_chunk_length(b"1aF ;x") == 0x1AF
    for bad in (b"", b"-1", b"0x1", b"1" * 16):
        with pytest.raises(UsageError):
            read_chunk_length(bad)
    for text in (
        "localhost",
        "wiki.localhost",
        "a.b.c.localhost",
        ".anna.localhost",
        "wiki.anna.localhost.evil",
    ):
        with pytest.raises(UsageError):
            service_of(text)


def test_a_head_one_byte_over_the_bound(tmp_path: Path) -> None:
    async def play() -> None:
        async with pages(tmp_path, []) as (_, address, host), call(address) as pair:
            answer = await ask(pair, f"GET / HTTP/1.1\nHost: {host}\nX: " + "x" * HEAD_BYTES_MAX)
            assert answer.startswith(b"HTTP/1.1 400")

    run(play())
