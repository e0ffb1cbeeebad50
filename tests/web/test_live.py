"""Rows that stay true: only what changed is sent, only while somebody looks, once for all who look. In virtual time."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from coterie.apps.panel import ROWS_WINDOW_MAX, Live, Panel, Row
from coterie.control.browsers import EVERYTHING, Browser, Browsers
from coterie.errors import LimitExceeded, UsageError
from coterie.web.live import ARG_CHARS_MAX, ARGS_MAX, PAGES_MAX, WATCHED_MAX, Link, Lives, read_message
from coterie.web.panels import Panels
from tests.support import run_virtual


class Socket:
    """A page's end of the socket: what it asks is put into `asks`, what it is told is in `told`."""

    def __init__(self) -> None:
        self.asks: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.told: list[dict[str, Any]] = []
        self.headers: Mapping[str, str] = {}
        self.is_closed = False

    async def accept(self) -> None:
        pass

    async def close(self, code: int = 1000) -> None:
        self.is_closed = True

    async def receive(self) -> dict[str, Any]:
        return await self.asks.get()

    async def send_text(self, text: str) -> None:
        self.told.append(json.loads(text))

    def ask(self, **message: Any) -> None:
        self.asks.put_nowait({"type": "websocket.receive", "text": json.dumps(message)})

    def since(self, number: int) -> list[dict[str, Any]]:
        """What was told after the first `number` messages."""
        return self.told[number:]


class House:
    """A list of rows that a test changes, and pages that watch it."""

    def __init__(self, folder: Path) -> None:
        self.values = {"a": 1, "b": 2, "c": 3}
        self.taken = 0
        self.completed: list[int] = []
        self.browsers = Browsers(folder / "browsers.json")
        opened = self.browsers.redeem(self.browsers.new_key(), "")
        assert opened is not None
        self.browser: Browser = opened[0]
        live = Live(name="rows", template="", rows=self._rows, every_s=0.5)
        broken = Live(name="broken", template="", rows=self._broken, every_s=0.5)
        long = Live(name="long", template="", rows=self._long, seen=self._seen, every_s=0.5)
        secret = Live(name="secret", template="", rows=self._rows, right="other")
        panels = Panels(SimpleNamespace(apps={}), [("app", Panel(lives=(live, broken, long, secret)))])
        self.lives = Lives(panels, lambda app, browser, args: SimpleNamespace(args=args))
        self.closing = asyncio.Event()

    def _rows(self, reader: Any) -> Sequence[Row]:
        self.taken += 1
        return [Row(key, value) for key, value in self.values.items()]

    def _long(self, reader: Any) -> Sequence[Row]:
        return [Row(f"{number:04}", None) for number in range(5_000)]

    def _seen(self, reader: Any, rows: Sequence[Row]) -> Sequence[Row]:
        self.completed.append(len(rows))
        return [Row(row.key, f"row {row.key}") for row in rows]

    def _broken(self, reader: Any) -> Sequence[Row]:
        raise ValueError("a fault of the app")

    def visit(self, browser: Browser | None = None) -> tuple[Socket, "asyncio.Future[None]"]:
        socket = Socket()

        async def render(app: str, live: Live, row: Row) -> str:
            return f"<li>{row.value}</li>"

        link = Link(
            socket,
            browser or self.browser,
            lives=self.lives,
            browsers=self.browsers,
            render=render,
            hello={"hello": 1},
        )
        return socket, asyncio.ensure_future(link.serve(self.closing))

    async def end(self, *pages: "asyncio.Future[None]") -> None:
        self.closing.set()
        await asyncio.gather(*pages)


def test_only_what_changed_is_sent(tmp_path: Path) -> None:
    async def scene() -> None:
        house = House(tmp_path)
        socket, page = house.visit()
        socket.ask(do="watch", id=1, live="app.rows")
        await asyncio.sleep(2)
        assert socket.since(1) == [
            {"id": 1, "total": 3, "start": 0, "order": ["a", "b", "c"],
             "rows": {"a": "<li>1</li>", "b": "<li>2</li>", "c": "<li>3</li>"}},
        ]  # fmt: skip
        house.values["b"] = 5
        await asyncio.sleep(2)
        assert socket.since(2) == [{"id": 1, "total": 3, "start": 0, "rows": {"b": "<li>5</li>"}}]
        del house.values["a"]
        await asyncio.sleep(2)
        assert socket.since(3) == [{"id": 1, "total": 2, "start": 0, "order": ["b", "c"]}]
        await house.end(page)

    run_virtual(scene())


def test_a_list_that_became_empty_while_its_page_was_loaded_is_emptied(tmp_path: Path) -> None:
    async def scene() -> None:
        house = House(tmp_path)
        house.values.clear()
        socket, page = house.visit()
        socket.ask(do="watch", id=1, live="app.rows")
        await asyncio.sleep(2)
        assert socket.since(1) == [{"id": 1, "total": 0, "start": 0, "order": []}]
        await house.end(page)

    run_virtual(scene())


def test_of_a_long_list_only_the_rows_on_the_screen_are_completed(tmp_path: Path) -> None:
    async def scene() -> None:
        house = House(tmp_path)
        pages = [house.visit() for _ in range(3)]
        for socket, _ in pages:
            socket.ask(do="watch", id=1, live="app.long", count=40)
        await asyncio.sleep(5)
        assert {*house.completed} == {40}
        assert len(house.completed) <= 5 / 0.5 + 2, "once for all pages"
        told = pages[0][0].told[1]
        assert (told["total"], told["rows"]["0000"]) == (5_000, "<li>row 0000</li>")
        pages[0][0].ask(do="window", id=1, start=4_980, count=40)
        await asyncio.sleep(1)
        assert pages[0][0].told[-1]["order"][-1] == "4999"
        assert max(house.completed) == 40
        await house.end(*(page for _, page in pages))

    run_virtual(scene())


def test_rows_are_taken_once_for_all_pages_and_not_while_nobody_looks(tmp_path: Path) -> None:
    async def scene() -> None:
        house = House(tmp_path)
        pages = [house.visit() for _ in range(8)]
        for socket, _ in pages:
            socket.ask(do="watch", id=1, live="app.rows")
        await asyncio.sleep(10)
        assert house.taken <= 10 / 0.5 + 2
        for socket, _ in pages:
            socket.ask(do="pause", is_paused=True)
        await asyncio.sleep(1)
        before = house.taken
        await asyncio.sleep(60)
        assert house.taken == before
        pages[0][0].ask(do="pause", is_paused=False)
        await asyncio.sleep(1)
        assert house.taken > before
        await house.end(*(page for _, page in pages))
        before = house.taken
        await asyncio.sleep(60)
        assert house.taken == before

    run_virtual(scene())


def test_a_long_list_is_sent_by_what_is_on_the_screen(tmp_path: Path) -> None:
    async def scene() -> None:
        house = House(tmp_path)
        house.values = {f"k{number}": number for number in range(10_000)}
        socket, page = house.visit()
        socket.ask(do="watch", id=1, live="app.rows", start=0, count=10**9)
        await asyncio.sleep(1)
        assert len(socket.told[1]["rows"]) == ROWS_WINDOW_MAX
        assert socket.told[1]["total"] == 10_000
        socket.ask(do="window", id=1, start=5_000, count=20)
        await asyncio.sleep(1)
        assert socket.told[2]["order"] == [f"k{number}" for number in range(5_000, 5_020)]
        assert len(socket.told[2]["rows"]) == 20
        await house.end(page)

    run_virtual(scene())


def test_a_list_that_fails_takes_no_other_with_it(tmp_path: Path) -> None:
    async def scene() -> None:
        house = House(tmp_path)
        socket, page = house.visit()
        socket.ask(do="watch", id=1, live="app.broken")
        socket.ask(do="watch", id=2, live="app.rows")
        await asyncio.sleep(3)
        assert [message["id"] for message in socket.since(1)] == [2]
        await house.end(page)

    run_virtual(scene())


def test_who_has_no_right_gets_no_rows_and_who_is_removed_no_more(tmp_path: Path) -> None:
    async def scene() -> None:
        house = House(tmp_path)
        few = Browser(id="x", name="few", rights=("look",), created=0, seen=0, digest="d")
        socket, page = house.visit(few)
        socket.ask(do="watch", id=1, live="app.secret")
        await asyncio.sleep(1)
        assert socket.since(1) == []
        await asyncio.sleep(5)  # it stands in no list
        assert socket.is_closed
        socket, page = house.visit()
        assert EVERYTHING in house.browser.rights
        await asyncio.sleep(5)
        assert not socket.is_closed
        house.browsers.remove(house.browser.id)
        await asyncio.sleep(5)
        assert socket.is_closed
        await page

    run_virtual(scene())


def test_bounds(tmp_path: Path) -> None:
    async def scene() -> None:
        house = House(tmp_path)
        socket, page = house.visit()
        for number in range(WATCHED_MAX + 1):
            socket.ask(do="watch", id=number, live="app.rows")
        await asyncio.sleep(2)
        assert {message["id"] for message in socket.since(1)} == {*range(WATCHED_MAX)}
        pages = [page, *(house.visit()[1] for _ in range(PAGES_MAX - 1))]
        await asyncio.sleep(1)
        with pytest.raises(LimitExceeded):
            await house.visit()[1]
        await house.end(*pages)

    run_virtual(scene())


def test_a_page_asks_with_few_words() -> None:
    watch = {"do": "watch", "id": 1, "live": "a.b"}
    fits = {str(number): "x" * ARG_CHARS_MAX for number in range(ARGS_MAX)}
    read_message(json.dumps(watch | {"args": fits}))
    for args in (fits | {"more": ""}, {"a": "x" * (ARG_CHARS_MAX + 1)}):
        with pytest.raises(UsageError):
            read_message(json.dumps(watch | {"args": args}))
