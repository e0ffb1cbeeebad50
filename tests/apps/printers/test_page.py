"""A printer's own web page, for those who may print: under its name in web addresses, where its owner opened it."""

import asyncio
from pathlib import Path

import pytest

from coterie.apps.printers.sharing import read_page
from coterie.errors import UsageError
from tests.apps.expose.programs import call
from tests.apps.files.nodes import friends
from tests.apps.printers.fake_printer import fake_printer
from tests.support import run


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    host = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"host:"))
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(host), host))
    await writer.drain()
    writer.close()


def test_the_page_is_under_the_name_of_the_printer_until_it_is_closed(tmp_path: Path) -> None:
    async def play() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server, friends(tmp_path) as (anna, ben), fake_printer() as printer:
            printers = anna.service("printers")

            async def opened() -> str:
                host = ben.expose.web_address(anna.peer_id, "laser").removeprefix("http://").rstrip("/")
                async with call("127.0.0.1:" + host.rpartition(":")[2]) as (reader, writer):
                    writer.write(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
                    return (await reader.read(1_000)).decode()

            await printers.share(printer.uri, ["contacts"], as_="laser")
            assert [line.page for line in await ben.service("printers").lines()] == [""]
            assert " 404 " in await opened()

            await printers.share("laser", ["contacts"], page=f"http://127.0.0.1:{port}/start")
            (line,) = await ben.service("printers").lines()
            assert line.page == ben.expose.web_address(anna.peer_id, "laser")
            assert (await opened()).endswith(f"127.0.0.1:{port}")

            await printers.unshare("laser")
            assert " 404 " in await opened()

    run(play())


@pytest.mark.parametrize(
    "text", ["192.168.1.9", "https://printer/", "http://", "http://a:x/", "http://me@printer/"]
)
def test_what_is_no_page_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="web page of a printer"):
        read_page(text)
    assert read_page("http://[fe80::9]/a") == "[fe80::9]:80"
