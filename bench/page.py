"""The page with 10,000 shares, 200 transfers under way and 500 people, in three tabs of a real browser.

Needs Playwright and Debian's Chromium: `make bench ONLY=page` says so where they are missing.
"""

import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from bench.figures import Figure, room
from bench.idle import cpu_s, wait_for
from bench.peer import open_node
from coterie.control.client import Client
from coterie.identity import SecretKey

SHARES, TRANSFERS, PEOPLE = int(os.environ.get("PAGE_SHARES", "10000")), 200, 500
GIVERS = 4  # one serves as many streams of one peer as it lets in
FILE_BYTES = 4_000_000
DOWN_BYTES_PER_S = (
    8_000_000  # of all transfers together: 40 kB/s each, and they last longer than the measuring
)
BEGIN_BYTES_PER_S = 100_000  # until all have begun
WATCH_S, SETTLE_S = 10.0, 3.0
LOADED = "performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd"  # ms since it was asked for
TABS = ("/files", "/transfers", "/people")
CHROMIUM = "/usr/bin/chromium"


def page() -> list[Figure]:
    """Load times, and what three open tabs cost the browser and the node."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise SystemExit("this benchmark needs Playwright: make .venv/.dev-ready") from None
    with room() as place:
        givers = [place / f"giver{number}" for number in range(GIVERS)]
        tickets = [ticket for giver in givers for ticket in asyncio.run(_give(giver, place))]
        asyncio.run(_fill(place / "mine", place))
        giving = [_up(giver) for giver in givers]
        node = _up(place / "mine")
        try:
            _meet(place, givers[0])
            node.wait()
            node = _up(place / "mine")
            _command(place / "mine", "limits", "--down", str(BEGIN_BYTES_PER_S))
            (place / "got").mkdir()
            api = Client.find(place / "mine" / "run" / "api.json")
            for number, ticket in enumerate(tickets):
                target = str(place / "got" / f"{number}.bin")
                list(api.call("files", ("get",), {"ticket": ticket, "target": target, "detach": True}))
            _command(place / "mine", "limits", "--down", str(DOWN_BYTES_PER_S))
            time.sleep(SETTLE_S)
            alone, before = _core(node.pid), _rss(node.pid)
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(
                    executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
                )
                figures = _watch(browser, place / "mine", node.pid, alone)
                browser.close()
            lines = json.loads(_command(place / "mine", "transfers", "--json").splitlines()[-1])
            if (running := sum(line["state"] in ("running", "waiting") for line in lines)) < TRANSFERS // 2:
                raise SystemExit(f"only {running} transfers were still under way: the figures say nothing")
            figures.append(Figure("page_memory", (_rss(node.pid) - before) / 1e6, "MB", goal="<= 30 MB"))
        finally:
            for process in (node, *giving):
                process.terminate()
                process.wait()
    return figures


def _core(pid: int) -> float:
    """The share of a core that the node uses by itself."""
    used, began = cpu_s(pid), time.perf_counter()
    time.sleep(WATCH_S)
    return (cpu_s(pid) - used) / (time.perf_counter() - began)


def _watch(browser: Any, home: Path, pid: int, alone: float) -> list[Figure]:
    address = json.loads(_command(home, "open", "--print", "--json").splitlines()[-1])["url"]
    context = browser.new_context()
    first = context.new_page()
    root = address.partition("/open/")[0]
    first.goto(address)
    first.wait_for_url(root + "/")
    first_ms = first.evaluate(LOADED)
    loads: list[float] = []
    tabs = []
    for path in TABS:
        tab = context.new_page()
        for _ in range(3):
            tab.goto(root + path, wait_until="domcontentloaded")
            loads.append(float(tab.evaluate(LOADED)))
        tabs.append(_Tab(tab, context.new_cdp_session(tab)))
    first.close()
    time.sleep(2.0)
    before, cpu = [tab.now() for tab in tabs], cpu_s(pid)
    began = time.perf_counter()
    tabs[0].page.wait_for_timeout(WATCH_S * 1000)
    seconds = time.perf_counter() - began
    core = (cpu_s(pid) - cpu) / seconds
    spent = [(tab.now(), was) for tab, was in zip(tabs, before, strict=True)]
    return [
        Figure("page_first", float(first_ms), "ms", goal="<= 300 ms"),
        Figure("page_load", statistics.median(loads), "ms", goal="<= 300 ms"),
        Figure("page_load_worst", max(loads), "ms", goal="<= 300 ms"),
        *(
            Figure(
                f"page_thread_{path[1:]}", 100 * (now[0] - was[0]) / seconds, "% of a thread", goal="<= 5 %"
            )
            for path, (now, was) in zip(TABS, spent, strict=True)
        ),
        *(
            Figure(f"page_told_{path[1:]}", (now[1] - was[1]) / seconds, "messages a second")
            for path, (now, was) in zip(TABS, spent, strict=True)
        ),
        Figure("page_node_cpu", 100 * (core - alone), "% of a core, by the three tabs", goal="<= 5 %"),
        Figure("page_node_alone", 100 * alone, "% of a core, by 200 transfers"),
    ]


class _Tab:
    """A tab that somebody looks at: it is drawn, and what it is told is counted."""

    def __init__(self, page: Any, session: Any) -> None:
        self.page = page
        self._session = session
        self._told = 0
        session.send("Emulation.setFocusEmulationEnabled", {"enabled": True})
        session.send("Performance.enable")
        session.send("Network.enable")
        session.on("Network.webSocketFrameReceived", self._count)
        if page.evaluate("document.visibilityState") != "visible":
            raise SystemExit("a tab that is measured is not seen: its figures would say nothing")

    def _count(self, _event: Any) -> None:
        self._told += 1

    def now(self) -> tuple[float, int]:
        """Seconds that its main thread worked so far, and messages."""
        metrics = self._session.send("Performance.getMetrics")["metrics"]
        return float(next(one["value"] for one in metrics if one["name"] == "TaskDuration")), self._told


async def _give(home: Path, place: Path) -> list[str]:
    """Share a part of what is to be fetched; the tickets."""
    async with open_node(home) as node:
        tickets = []
        for number in range(TRANSFERS // GIVERS):
            path = place / f"{home.name}-{number}.bin"
            path.write_bytes(os.urandom(FILE_BYTES))
            tickets.append((await node.files.share(path)).ticket)
        return tickets


async def _fill(home: Path, place: Path) -> None:
    files = place / "small"
    files.mkdir()
    async with open_node(home) as node:
        for number in range(SHARES):
            path = files / f"file-{number:05}.txt"
            path.write_bytes(b"%d" % number)
            await node.files.share(path)


def _meet(place: Path, giver: Path) -> None:
    """Know the giver, and 499 more who are never there."""
    program = [sys.executable, "-m", "coterie", "--home"]
    with subprocess.Popen(
        [*program, str(giver), "invite", "--json"], stdout=subprocess.PIPE, text=True
    ) as inviting:
        assert inviting.stdout is not None
        invited = json.loads(inviting.stdout.readline())
        _command(place / "mine", "join", invited["code"], "--at", invited["at"][0])
    folder = place / "mine" / "apps" / "contacts" / "contacts"
    known = json.loads(next(folder.glob("*.json")).read_text())
    for number in range(PEOPLE - 1):
        peer = SecretKey(number.to_bytes(32, "big")).peer_id
        record = known | {"id": str(peer), "name": f"person {number:03}", "addresses": [], "record": ""}
        (folder / f"{peer}.json").write_text(json.dumps(record))
    _command(place / "mine", "down")


def _up(home: Path) -> subprocess.Popen[bytes]:
    program = str(Path(sys.executable).with_name("coterie"))
    node = subprocess.Popen([program, "--home", str(home), "up"], stdout=subprocess.DEVNULL)
    wait_for(home / "run" / "api.json", 120.0)
    return node


def _command(home: Path, *words: str) -> str:
    program = str(Path(sys.executable).with_name("coterie"))
    done = subprocess.run([program, "--home", str(home), *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{words[0]}: {done.stderr}")
    return done.stdout


def _rss(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
