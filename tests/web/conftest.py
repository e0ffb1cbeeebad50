"""Two real nodes and one browser for all tests of the page; every test gets a browser context of its own.

Whatever a page writes to the console, and every request that leaves the node, fails the test.

Playwright leaves its event loop running in this thread between its calls. While no test of a browser runs that is
hidden, for other tests begin loops of their own.
"""

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Playwright, sync_playwright

CHROMIUM = "/usr/bin/chromium"
WAIT_S = 30.0
WAIT_MS = 15_000.0


@dataclass
class Computer:
    """A running node and its home."""

    name: str
    home: Path
    url: str = ""

    @property
    def user(self) -> Path:
        """The home folder of the person: what arrives goes to its Downloads."""
        return self.home.with_name(f"user-{self.name}")

    def run(self, *words: str, check: bool = True) -> str:
        """What a command line prints."""
        done = subprocess.run(
            [sys.executable, "-m", "coterie", "--home", str(self.home), *words],
            capture_output=True,
            text=True,
            timeout=WAIT_S,
            check=False,
            cwd="/",  # where no file is called like a person
            env={**os.environ, "LC_ALL": "C.UTF-8", "HOME": str(self.user)},
        )
        assert not check or done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout

    def json(self, *words: str) -> Any:
        """Its result as JSON: the last line."""
        return json.loads(self.run(*words, "--json").splitlines()[-1])

    def up(self) -> None:
        self.url = self.json("up", "--background")["page"]

    def down(self) -> None:
        self.run("down", check=False)

    def address(self) -> str:
        """An address that opens the page once."""
        return str(self.json("open", "--print")["url"])


@dataclass
class Visit:
    """One browser at one computer: `page` is open at its first page. `complaints`: what the console said."""

    computer: Computer
    context: BrowserContext
    page: Page
    complaints: list[str]
    requests: list[str]

    def goto(self, path: str) -> Page:
        """Another page of the same computer."""
        self.page.goto(self.computer.url.rstrip("/") + path)
        return self.page


Visits = Callable[..., Visit]


def started(folder: Path, name: str) -> Computer:
    """A computer called `name` that runs."""
    computer = Computer(name, folder / name)
    computer.user.mkdir()
    computer.run("config", "set", "name", name)
    computer.up()
    return computer


def meet(inviter: Computer, joiner: Computer) -> None:
    """Make contacts of two computers."""
    invitation = subprocess.Popen(
        [sys.executable, "-m", "coterie", "--home", str(inviter.home), "invite", "--json"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert invitation.stdout is not None
    with invitation:
        invited = json.loads(invitation.stdout.readline())
        joiner.run("join", invited["code"], "--at", invited["at"][0])


_LOOPS: list[asyncio.AbstractEventLoop] = []  # the one of Playwright, once it runs


@contextlib.contextmanager
def _with_loop_of_playwright() -> Iterator[None]:
    asyncio._set_running_loop(_LOOPS[0] if _LOOPS else None)
    try:
        yield
    finally:
        if (loop := asyncio._get_running_loop()) is not None:
            _LOOPS[:] = [loop]
        asyncio._set_running_loop(None)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Show Playwright its loop where a test drives a browser."""
    if "playwright" not in getattr(item, "fixturenames", ()):
        return (yield)
    with _with_loop_of_playwright():
        return (yield)


@pytest.fixture(scope="session")
def playwright() -> Iterator[Playwright]:
    if not Path(CHROMIUM).exists():
        if os.environ.get("CI"):
            pytest.fail(f"{CHROMIUM} is missing")
        pytest.skip(f"{CHROMIUM} is missing")
    playwright = sync_playwright().start()
    yield playwright
    with _with_loop_of_playwright():  # the last test may have been another one
        playwright.stop()


@pytest.fixture(scope="session")
def chromium(playwright: Playwright) -> Iterator[Browser]:
    browser = playwright.chromium.launch(
        executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
    )
    yield browser
    with _with_loop_of_playwright():
        browser.close()


@pytest.fixture(scope="session")
def computers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Computer, Computer]]:
    """anna and berta, who know each other."""
    folder = tmp_path_factory.mktemp("page")
    both = started(folder, "anna"), started(folder, "berta")
    try:
        meet(*both)
        yield both
    finally:
        for computer in both:
            computer.down()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def anna(computers: tuple[Computer, Computer]) -> Computer:
    return computers[0]


@pytest.fixture
def berta(computers: tuple[Computer, Computer]) -> Computer:
    return computers[1]


@pytest.fixture
def visit(chromium: Browser) -> Iterator[Visits]:
    """`visit(computer)` opens its page in a browser of its own; `expected` are words of complaints that may come."""
    visits: list[tuple[Visit, tuple[str, ...]]] = []

    def open_page(computer: Computer, *, expected: tuple[str, ...] = (), **settings: Any) -> Visit:
        context = chromium.new_context(
            **{"locale": "en-GB", "viewport": {"width": 1280, "height": 900}} | settings
        )
        context.set_default_timeout(WAIT_MS)
        page = context.new_page()
        made = Visit(computer, context, page, [], [])
        page.on(
            "console", lambda m: made.complaints.append(m.text) if m.type in ("error", "warning") else None
        )
        page.on("pageerror", lambda error: made.complaints.append(str(error)))
        page.on("request", lambda request: made.requests.append(request.url))
        visits.append((made, expected))
        page.goto(computer.address())
        page.wait_for_url(computer.url)
        page.wait_for_function("window.coterie !== undefined")
        return made

    yield open_page
    for made, expected in visits:
        made.context.close()
        complaints = [c for c in made.complaints if not any(word in c for word in expected)]
        assert not complaints, complaints
        at = urlsplit(made.computer.url)
        own = (at.netloc, f"files.localhost:{at.port}")
        inside = (
            "data:",
            "chrome:",
            "chrome-extension:",
            f"blob:{made.computer.url}",
        )  # of the browser itself
        foreign = [
            url for url in made.requests if not url.startswith(inside) and urlsplit(url).netloc not in own
        ]
        assert not foreign, foreign


def axe(page: Page) -> list[str]:
    """What axe finds wrong with the page as it is, a line each."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return [f"{v['id']}: {node['html'][:200]}" for v in found for node in v["nodes"]]
