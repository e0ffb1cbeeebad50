"""Files of others in a browser: what they are is told by their content, and none of them can run."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path

import pytest

from coterie.errors import NotFound
from coterie.local_http import LocalServer, listen
from coterie.testing.checks import raised
from coterie.web.previews.kinds import HEAD_BYTES, TEXT_BYTES_MAX, kind_of, policy
from coterie.web.previews.server import LASTS_S, SHOWN_MAX, STREAMS_MAX, Previews
from coterie.web.previews.sources import file_here
from tests.support import run

PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)
HTML = b"<!doctype html><script>alert(1)</script>"
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'


@pytest.mark.parametrize(
    ("head", "sort", "media"),
    [
        (PNG, "picture", "image/png"),
        (b"\xff\xd8\xff\xe0", "picture", "image/jpeg"),
        (b"RIFF1234WEBPVP8 ", "picture", "image/webp"),
        (b"RIFF1234WAVEfmt ", "audio", "audio/wav"),
        (b"\0\0\0\x20ftypisom", "film", "video/mp4"),
        (b"\0\0\0\x20ftypM4A ", "audio", "audio/mp4"),
        (b"%PDF-1.7", "pdf", "application/pdf"),
        (HTML, "text", "text/plain; charset=utf-8"),
        (SVG, "text", "text/plain; charset=utf-8"),
        (b'<?xml version="1.0"?>' + SVG, "text", "text/plain; charset=utf-8"),
        (b"\xef\xbb\xbf" + HTML, "text", "text/plain; charset=utf-8"),
        ("ü".encode() * HEAD_BYTES, "text", "text/plain; charset=utf-8"),
        (("x" + "ü" * HEAD_BYTES).encode()[:HEAD_BYTES], "text", "text/plain; charset=utf-8"),
        (b"MZ\x90\0\3", "other", "application/octet-stream"),
        (HTML + b"\0", "other", "application/octet-stream"),
        (HTML.decode().encode("utf-16"), "other", "application/octet-stream"),
    ],
)
def test_what_a_file_is(head: bytes, sort: str, media: str) -> None:
    kind = kind_of(head[:HEAD_BYTES])
    assert (kind.sort, kind.media) == (sort, media)
    assert "script" not in policy(kind)
    assert ("sandbox" in policy(kind)) is (sort != "pdf")


@contextlib.asynccontextmanager
async def served(previews: Previews) -> AsyncIterator[int]:
    listener = listen(0, "")
    server = LocalServer(previews)
    task = asyncio.ensure_future(server.serve([listener]))
    try:
        yield listener.getsockname()[1]
    finally:
        server.stop()
        await task


HERE = ("127.0.0.1", 1)


async def show(previews: Previews, owner: str, path: Path) -> tuple[str, str]:
    """The address of a file for a browser of this computer, and what the file is."""
    address, kind, _ = await previews.show(owner, HERE, path.name, file_here(path))
    return address, kind.sort


async def asked(port: int, path: str, method: str = "GET", **headers: str) -> HTTPResponse:
    def ask() -> HTTPResponse:
        connection = HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        answer.said = answer.read()  # type: ignore[attr-defined]
        connection.close()
        return answer

    return await asyncio.to_thread(ask)


def test_a_file_is_served_in_parts_with_what_keeps_it_from_running(tmp_path: Path) -> None:
    (tmp_path / "böse.png").write_bytes(SVG)  # whatever it is called
    (tmp_path / "film.png").write_bytes(b"\0\0\0\x20ftypisom" + bytes(1_000))

    async def work() -> None:
        previews = Previews()
        async with served(previews) as port:
            path, sort = await show(previews, "anna", tmp_path / "böse.png")
            assert sort == "text"
            answer = await asked(port, path)
            assert (answer.status, answer.said) == (200, SVG)  # type: ignore[attr-defined]
            assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert "sandbox" in answer.headers["Content-Security-Policy"]
            assert "no-store" in answer.headers["Cache-Control"]
            assert answer.headers["Content-Disposition"].startswith("inline")
            loaded = await asked(port, path + "?download")
            assert loaded.headers["Content-Disposition"] == "attachment; filename*=UTF-8''b%C3%B6se.png"
            path, _ = await show(previews, "anna", tmp_path / "film.png")
            part = await asked(port, path, Range="bytes=4-11")
            assert (part.status, part.said) == (206, b"ftypisom")  # type: ignore[attr-defined]
            assert (await asked(port, path, "POST")).status == 404

    run(work())


def test_nothing_else_is_there(tmp_path: Path) -> None:
    async def work() -> None:
        now = 0.0
        previews = Previews(clock=lambda: now)
        (tmp_path / "a.txt").write_text("hello")
        (tmp_path / "b.txt").write_text("hello")
        async with served(previews) as port:
            path, _ = await show(previews, "anna", tmp_path / "a.txt")
            other, _ = await show(previews, "bob", tmp_path / "b.txt")
            for wrong in (
                "/",
                "/x/a.txt",
                "/../a.txt",
                path.replace("a.txt", "b.txt").replace(path[1:9], "x" * 8),
            ):
                assert (await asked(port, wrong)).status == 404
            previews.end("bob")
            assert (await asked(port, other)).status == 404
            assert (await asked(port, path)).status == 200
            now = LASTS_S
            assert (await asked(port, path)).status == 200
            now = 2 * LASTS_S + 1
            assert (await asked(port, path)).status == 404
            path, _ = await show(previews, "anna", tmp_path / "a.txt")
            (tmp_path / "a.txt").unlink()
            (tmp_path / "a.txt").symlink_to(tmp_path / "b.txt")
            assert (await asked(port, path)).status == 404

    run(work())


def test_links_folders_and_pipes_are_not_shown(tmp_path: Path) -> None:
    import os

    (tmp_path / "link").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "pipe")

    async def work() -> None:
        for name in ("link", "pipe", ".", "nothing"):
            with raised(NotFound):
                await show(Previews(), "anna", tmp_path / name)

    run(work())


def test_one_file_too_many_pushes_out_the_oldest(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")

    async def work() -> None:
        previews = Previews()
        first, _ = await show(previews, "anna", tmp_path / "a")
        for _ in range(SHOWN_MAX):
            await show(previews, "anna", tmp_path / "a")
        async with served(previews) as port:
            assert (await asked(port, first)).status == 404

    run(work())


class Slow:
    """A file of somebody else whose bytes come when `come` says so."""

    name, tag, size = "film.webm", "1", 1 << 20

    def __init__(self) -> None:
        self.reads: list[int] = []
        self.open = 0
        self.come = asyncio.Event()

    async def read(self, offset: int, size: int) -> bytes:
        self.reads.append(offset)
        if offset or size > HEAD_BYTES:
            await self.come.wait()
        return (b"\x1aE\xdf\xa3" + bytes(self.size - 4))[offset : offset + size]

    async def close(self) -> None:
        self.open -= 1

    async def opened(self) -> "Slow":
        self.open += 1
        return self


def test_a_player_that_seeks_leaves_nothing_behind() -> None:
    """It asks anew from elsewhere, and closes what it had asked for."""

    async def work() -> None:
        previews, slow = Previews(), Slow()
        address, _, _ = await previews.show("anna", HERE, slow.name, slow.opened)
        assert slow.open == 0
        async with served(previews) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(f"GET {address} HTTP/1.1\r\nHost: x\r\nRange: bytes=9-\r\n\r\n".encode())
            assert (await reader.readline()).split()[1] == b"206"
            while 9 not in slow.reads:
                await asyncio.sleep(0)
            assert slow.open == 1
            writer.close()
            while slow.open:
                await asyncio.sleep(0)
            slow.come.set()
            part = await asked(port, address, Range="bytes=500-503")
            assert (part.status, part.said) == (206, bytes(4))  # type: ignore[attr-defined]
            assert part.headers["Content-Range"] == f"bytes 500-503/{slow.size}"
            assert (await asked(port, address, Range=f"bytes={slow.size}-")).status == 416
            changed = await asked(port, address, **{"Range": "bytes=5-9", "If-Range": '"0"'})
            assert (changed.status, len(changed.said)) == (200, slow.size)  # type: ignore[attr-defined]

    run(work())


def test_one_answer_too_many_at_once_is_refused() -> None:
    async def work() -> None:
        previews, slow = Previews(), Slow()
        address, _, _ = await previews.show("anna", HERE, slow.name, slow.opened)
        async with served(previews) as port:
            request = f"GET {address} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
            pipes = []
            for _ in range(STREAMS_MAX):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(request)
                pipes.append((reader, writer))
            while slow.open < STREAMS_MAX:
                await asyncio.sleep(0)
            assert (await asked(port, address)).status == 503
            slow.come.set()
            for reader, writer in pipes:
                assert len(await reader.read()) > slow.size
                writer.close()
            assert (await asked(port, address)).status == 200

    run(work())


def test_an_address_is_of_no_use_to_others(tmp_path: Path) -> None:
    """Neither on another computer, nor pasted into another browser, nor when its browser may see files no more."""
    (tmp_path / "a.txt").write_text("hello")

    async def work() -> None:
        allowed = {"anna"}
        previews = Previews(still_may=allowed.__contains__)
        elsewhere, _, _ = await previews.show(
            "anna", ("192.168.1.9", 1), "a.txt", file_here(tmp_path / "a.txt")
        )
        address, _ = await show(previews, "anna", tmp_path / "a.txt")
        async with served(previews) as port:
            assert (await asked(port, elsewhere)).status == 404
            first = await asked(port, address, **{"Sec-Fetch-Site": "none"})  # the way there began in the bar
            assert first.status == 200
            assert (await asked(port, address, **{"Sec-Fetch-Site": "none"})).status == 404
            assert (await asked(port, address, **{"Sec-Fetch-Site": "cross-site"})).status == 200
            allowed.clear()
            assert (await asked(port, address)).status == 404

    run(work())


def test_a_long_text_is_cut_in_the_page_and_whole_as_a_download(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"x" * (TEXT_BYTES_MAX + 1))

    async def work() -> None:
        previews = Previews()
        address, _ = await show(previews, "anna", tmp_path / "a.txt")
        async with served(previews) as port:
            assert (await asked(port, address)).headers["Content-Length"] == str(TEXT_BYTES_MAX)
            whole = await asked(port, address + "?download=1")
            assert whole.headers["Content-Length"] == str(TEXT_BYTES_MAX + 1)

    run(work())
