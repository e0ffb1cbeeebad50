"""Who sees files by /shown and /thumbs: the owner, and phones with the right to get or to play."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from coterie.control.browsers import Browser
from coterie.control.page_gate import BROWSER, ORIGIN
from coterie.node import Node
from tests.apps.files.nodes import friends
from tests.support import run
from tests.web.previews.films import film
from tests.web.previews.test_decoding import picture
from tests.web.test_phone_table import made


async def answer(
    node: Node, path: str, rights: tuple[str, ...], *, origin: str = "https://h:2"
) -> tuple[int, bytes]:
    """What a browser with these rights gets."""
    page, sent = made(node), []
    raw, _, query = path.partition("?")
    browser = Browser(id="phone-x", name="x", rights=rights, created=0, seen=0, digest="")
    scope: dict[str, Any] = {
        "type": "http", "method": "GET", "path": raw, "raw_path": raw.encode(), "query_string": query.encode(),
        "headers": [(b"host", b"127.0.0.1:1")], "scheme": "https", "server": ("127.0.0.1", 1), "root_path": "",
        "client": ("127.0.0.1", 2), "http_version": "1.1", BROWSER: browser, ORIGIN: origin,
    }  # fmt: skip

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    await page.app(scope, receive, send)
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent)


@asynccontextmanager
async def two(folder: Path) -> AsyncIterator[tuple[Node, Node]]:
    """Contacts whose names are their own."""
    for name in ("anna", "ben"):
        home = folder / f"home-{name}"
        home.mkdir(mode=0o700)
        (home / "config.toml").write_text(f'name = "{name}"\n')
    async with friends(folder) as both:
        yield both


def test_each_right_opens_what_it_says(tmp_path: Path) -> None:
    folder = tmp_path / "album"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(picture())
    (folder / "film.webm").write_bytes(film(tmp_path, "webm"))

    async def work() -> None:
        async with two(tmp_path) as (anna, ben):
            await ben.files.share(folder, to=["contacts"])
            theirs = next(iter(anna.people.names()))
            for node, peer in ((anna, theirs), (ben, ben.name)):
                jpg, webm = (f"place={quote(peer)}/album/{name}" for name in ("a.jpg", "film.webm"))
                for rights, statuses in (
                    (("everything",), (200, 200, 200)),
                    (("get",), (200, 200, 200)),
                    (("play",), (403, 200, 403)),
                    (
                        ("look", "upload", "send", "answer", "share", "people", "settings", "devices"),
                        (403, 403, 403),
                    ),
                    ((), (403, 403, 403)),
                ):
                    asked = (f"/shown?what=1&{jpg}", f"/shown?what=1&{webm}", f"/thumbs?{jpg}")
                    got = [await answer(node, path, rights) for path in asked]
                    assert tuple(status for status, _ in got) == statuses, rights
            _, said = await answer(ben, f"/shown?what=1&{jpg}", ("get",))
            assert json.loads(said)["sort"] == "picture"
            assert json.loads(said)["url"].startswith("https://h:2/")

    run(work(), 60.0)


def test_what_cannot_be_shown_is_said(tmp_path: Path) -> None:
    async def work() -> None:
        async with two(tmp_path) as (anna, ben):
            missing = f"place={quote(ben.name)}/nothing/a.jpg"
            for node in (anna, ben):
                status, said = await answer(node, f"/shown?what=1&{missing}", ("get",))
                assert status == 200
                assert json.loads(said)["problem"]
                assert (await answer(node, f"/shown?{missing}", ("get",)))[0] == 404
                assert await answer(node, f"/thumbs?{missing}", ("get",)) == (204, b"")
            (tmp_path / "a.txt").write_text("hello")
            await ben.files.share(tmp_path / "a.txt")
            _, said = await answer(ben, f"/shown?what=1&place={ben.name}/a.txt", ("get",), origin="")
            assert "plain HTTP" in json.loads(said)["problem"]

    run(work(), 60.0)
