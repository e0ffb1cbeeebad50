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
from coterie.web.previews.kinds import HEAD_BYTES, kind_of, policy
from coterie.web.previews.server import LASTS_S, SHOWN_MAX, Previews
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
            path, kind = previews.show("anna", tmp_path / "böse.png")
            assert kind.sort == "text"
            answer = await asked(port, path)
            assert (answer.status, answer.said) == (200, SVG)  # type: ignore[attr-defined]
            assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert "sandbox" in answer.headers["Content-Security-Policy"]
            assert "no-store" in answer.headers["Cache-Control"]
            assert answer.headers["Content-Disposition"].startswith("inline")
            loaded = await asked(port, path + "?download")
            assert loaded.headers["Content-Disposition"] == "attachment; filename*=UTF-8''b%C3%B6se.png"
            path, _ = previews.show("anna", tmp_path / "film.png")
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
            path, _ = previews.show("anna", tmp_path / "a.txt")
            other, _ = previews.show("bob", tmp_path / "b.txt")
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
            path, _ = previews.show("anna", tmp_path / "a.txt")
            (tmp_path / "a.txt").unlink()
            (tmp_path / "a.txt").symlink_to(tmp_path / "b.txt")
            assert (await asked(port, path)).status == 404

    run(work())


def test_links_folders_and_pipes_are_not_shown(tmp_path: Path) -> None:
    import os

    (tmp_path / "link").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "pipe", ".", "nothing"):
        with raised(NotFound):
            Previews().show("anna", tmp_path / name)


def test_one_file_too_many_pushes_out_the_oldest(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    previews = Previews()
    first, _ = previews.show("anna", tmp_path / "a")
    for _ in range(SHOWN_MAX):
        previews.show("anna", tmp_path / "a")

    async def work() -> None:
        async with served(previews) as port:
            assert (await asked(port, first)).status == 404

    run(work())
