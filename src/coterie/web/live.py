"""Rows that stay true: one WebSocket for each open page, which sends the rows that changed.

A page says which rows it shows (`watch`), which part of a long list is on the screen (`window`), and when nobody looks
at it (`pause`). Rows are computed once for all pages that ask the same, at most once in `Live.every_s`, and only while
a page watches. See docs/page.md for the messages.
"""

import asyncio
import contextlib
import inspect
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from starlette.websockets import WebSocketDisconnect

from coterie.apps.panel import ROWS_WINDOW_MAX, Live, Row
from coterie.control.browsers import Browser
from coterie.decoding import decoder
from coterie.errors import CoterieError, LimitExceeded, UsageError
from coterie.texts import speaking, tr
from coterie.web.panels import Panels

TICK_S = 0.25  # a row is sent four times a second at most
PAGES_MAX = 32  # open at once; guess: the tabs of a person on all devices
PAGES_FEW_MAX = 16  # of them, of browsers with few rights: the owner always finds a place
WATCHED_MAX = 32  # lists of one page
ARGS_MAX = 8  # of one list
ARG_CHARS_MAX = 512
ROWS_MAX = 20_000  # of one list: more are not listed
KEPT_S = 10.0  # rows that nobody asked for again
STILL_S = 2.0  # so often it is asked whether the browser may still look

log = logging.getLogger(__name__)

Render = Callable[[str, Live, Row], Awaitable[str]]


class Watch(msgspec.Struct, tag_field="do", tag="watch"):
    """Show these rows from now on, those from `start` for `count`."""

    id: int
    live: str
    args: dict[str, str] = {}
    start: int = 0
    count: int = 50


class Window(msgspec.Struct, tag_field="do", tag="window"):
    """Another part of a list that is watched is on the screen."""

    id: int
    start: int
    count: int


class Unwatch(msgspec.Struct, tag_field="do", tag="unwatch"):
    """These rows are shown no longer."""

    id: int


class Pause(msgspec.Struct, tag_field="do", tag="pause"):
    """Whether nobody sees the page now."""

    is_paused: bool


Message = Watch | Window | Unwatch | Pause


@decoder(UsageError, "a message of the page")
def read_message(text: str) -> Message:
    """What a page sends. Raises `UsageError`."""
    message: Message = msgspec.json.decode(text, type=Message)
    if isinstance(message, Watch) and (
        len(message.args) > ARGS_MAX
        or any(len(word) > ARG_CHARS_MAX for pair in message.args.items() for word in pair)
    ):
        raise UsageError(tr("a page asks for rows with more words than there can be"))
    return message


@dataclass(slots=True)
class _Watched:
    """One list of one page: what it was sent. `order`: None until it is told one, for the page has rows already."""

    app: str
    live: Live
    args: dict[str, str]
    start: int
    count: int
    order: list[str] | None = None
    total: int = -1
    sent: dict[str, Any] = field(default_factory=dict)
    due: float = 0.0


@dataclass(slots=True)
class _Taken:
    """The rows of one list, as they were at `at`."""

    at: float
    rows: Sequence[Row]


class Lives:
    """The rows of all panels, taken once for all pages that watch them."""

    def __init__(self, panels: Panels, reader: Callable[[str, Browser, Mapping[str, str]], Any]) -> None:
        """`reader(app, browser, args)` makes the `Reader` that rows are asked with."""
        self._panels = panels
        self._reader = reader
        self._taken: dict[Any, _Taken] = {}
        self.pages = 0
        self.pages_few = 0

    def find(self, name: str, browser: Browser) -> tuple[str, Live] | None:
        """The app and the declaration of the list "APP.NAME"; None: there is none that `browser` may see."""
        shown = self._panels.live(name)
        return (shown.app, shown.of) if shown is not None and browser.may(shown.of.right) else None

    async def take(self, app: str, live: Live, browser: Browser, args: Mapping[str, str]) -> Sequence[Row]:
        """The rows as they are now, or were less than `every_s` ago. Errors are those of the app."""
        return (await self._take(app, live, browser, args, live.rows))[:ROWS_MAX]

    async def seen(
        self, app: str, live: Live, browser: Browser, args: Mapping[str, str], start: int, count: int
    ) -> tuple[Sequence[Row], int]:
        """The `count` rows from `start`, complete, and how many there are in all."""
        rows = await self.take(app, live, browser, args)
        window, complete = rows[start : start + count], live.seen
        if complete is not None and window:
            marks = (str(start), str(count), window[0].key, window[-1].key)
            window = await self._take(
                app, live, browser, args, lambda reader: complete(reader, window), marks
            )
        return window, len(rows)

    async def _take(
        self,
        app: str,
        live: Live,
        browser: Browser,
        args: Mapping[str, str],
        make: Callable[[Any], Any],
        marks: tuple[str, ...] = (),
    ) -> Sequence[Row]:
        """What `make` gives for this reader, once in `every_s` for all who ask the same."""
        now = asyncio.get_running_loop().time()
        who = "" if browser.may("") else browser.id  # who has few rights sees only its own commands
        key = (app, live.name, tuple(sorted(args.items())), browser.rights, who, marks)
        taken = self._taken.get(key)
        if taken is None or now - taken.at >= live.every_s:
            rows = make(self._reader(app, browser, args))
            taken = self._taken[key] = _Taken(now, await rows if inspect.isawaitable(rows) else rows)
            for old in [k for k, t in self._taken.items() if now - t.at > KEPT_S]:
                del self._taken[old]
        return taken.rows


class Link:
    """One open page."""

    def __init__(
        self, socket: Any, browser: Browser, *, lives: Lives, browsers: Any, render: Render, hello: Any
    ) -> None:
        """`socket`: a Starlette WebSocket. `render(app, live, row)` makes the HTML of a row. `hello`: said first."""
        self._socket = socket
        self._browser = browser
        self._lives = lives
        self._browsers = browsers
        self._render = render
        self._hello = hello
        self._watched: dict[int, _Watched] = {}
        self._is_paused = False
        self._changed = asyncio.Event()

    async def serve(self, closing: asyncio.Event) -> None:
        """Until the page goes, the node stops, or the browser is removed. Raises `LimitExceeded` over PAGES_MAX."""
        few = 0 if self._browser.may("") else 1
        if self._lives.pages >= PAGES_MAX or (few and self._lives.pages_few >= PAGES_FEW_MAX):
            await self._socket.close(1013)
            raise LimitExceeded(tr("{pages_max} pages are open already", pages_max=PAGES_MAX))
        self._lives.pages += 1
        self._lives.pages_few += few
        try:
            await self._socket.accept()
            await self._send(self._hello)
            with speaking(self._socket.headers.get("accept-language")):
                ends = [
                    asyncio.ensure_future(work)
                    for work in (self._listen(), self._tell(), self._until_removed(), closing.wait())
                ]
                try:
                    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for end in ends:
                        end.cancel()
                    await asyncio.gather(*ends, return_exceptions=True)
        finally:
            self._lives.pages -= 1
            self._lives.pages_few -= few
            with contextlib.suppress(Exception):
                await self._socket.close()

    async def _listen(self) -> None:
        while True:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            self._handle(read_message(message.get("text") or ""))

    def _handle(self, message: Message) -> None:
        match message:
            case Watch(id=number) if len(self._watched) < WATCHED_MAX:
                if (found := self._lives.find(message.live, self._browser)) is not None:
                    start, count = _window(message.start, message.count)
                    self._watched[number] = _Watched(*found, message.args, start, count)
            case Window(id=number) if number in self._watched:
                watched = self._watched[number]
                watched.start, watched.count = _window(message.start, message.count)
                watched.due = 0.0
            case Unwatch(id=number):
                self._watched.pop(number, None)
            case Pause():
                self._is_paused = message.is_paused
        self._changed.set()

    async def _until_removed(self) -> None:
        while (still := self._browsers.still(self._browser)) is not None:
            self._browser = still
            await asyncio.sleep(STILL_S)

    async def _tell(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._changed.clear()
            if self._is_paused or not self._watched:
                await self._changed.wait()
                continue
            if self._browsers.still(self._browser) is None:
                return
            for number, watched in list(self._watched.items()):
                if loop.time() >= watched.due and self._browser.may(watched.live.right):
                    watched.due = loop.time() + watched.live.every_s
                    await self._try(number, watched)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK_S):
                    await self._changed.wait()

    async def _try(self, number: int, watched: _Watched) -> None:
        """Update a list; one that fails is watched no longer, and the others go on."""
        try:
            await self._update(number, watched)
        except CoterieError:  # an app that does not run any more has no rows
            pass
        except (WebSocketDisconnect, OSError, RuntimeError):  # what the page cannot be told any more
            raise
        except Exception:
            log.exception("the rows '%s' of the app '%s' cannot be shown", watched.live.name, watched.app)
            self._watched.pop(number, None)

    async def _update(self, number: int, watched: _Watched) -> None:
        """Send what differs from what the page has."""
        seen, total = await self._lives.seen(
            watched.app, watched.live, self._browser, watched.args, watched.start, watched.count
        )
        order = [row.key for row in seen]
        changed = [row for row in seen if watched.sent.get(row.key, _NOTHING) != row.value]
        if not changed and order == watched.order and total == watched.total:
            return
        told: dict[str, Any] = {"id": number, "total": total, "start": watched.start}
        if order != watched.order:
            told["order"] = order
        if changed:
            told["rows"] = {row.key: await self._render(watched.app, watched.live, row) for row in changed}
        watched.sent = {row.key: row.value for row in seen}
        watched.order, watched.total = order, total
        await self._send(told)

    async def _send(self, message: Any) -> None:
        await self._socket.send_text(msgspec.json.encode(message).decode())


_NOTHING = object()


def _window(start: int, count: int) -> tuple[int, int]:
    return max(0, start), min(max(1, count), ROWS_WINDOW_MAX)
