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
from coterie.identity import SecretKey

SHARES, TRANSFERS, PEOPLE = 10_000, 200, 500
GIVERS = 4  # one serves as many streams of one peer as it lets in
FILE_BYTES = 4_000_000
DOWN_BYTES_PER_S = (
    8_000_000  # of all transfers together: 40 kB/s each, and they last longer than the measuring
)
WATCH_S, SETTLE_S = 20.0, 5.0
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
            _command(place / "mine", "limits", "--down", str(DOWN_BYTES_PER_S))
            (place / "got").mkdir()
            for number, ticket in enumerate(tickets):
                _command(place / "mine", "get", ticket, str(place / "got" / f"{number}.bin"), "--detach")
            time.sleep(SETTLE_S)
            before, alone = _rss(node.pid), _core(node.pid)
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(
                    executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
                )
                figures = _watch(browser, place / "mine", node.pid, alone)
                browser.close()
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
    began = time.perf_counter()
    first.goto(address)
    cold_s = time.perf_counter() - began
    root = first.url.rstrip("/")
    loads: list[float] = []
    tabs = []
    for path in TABS:
        tab = context.new_page()
        for _ in range(3):
            tab.goto(root + path, wait_until="domcontentloaded")
            timing = tab.evaluate("performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd")
            loads.append(float(timing))
        tabs.append((tab, context.new_cdp_session(tab)))
    first.close()
    for _, session in tabs:
        session.send("Performance.enable")
    time.sleep(2.0)
    busy = [_task_s(session) for _, session in tabs]
    cpu = cpu_s(pid)
    began = time.perf_counter()
    tabs[0][0].wait_for_timeout(WATCH_S * 1000)
    seconds = time.perf_counter() - began
    shares = [(_task_s(session) - was) / seconds for (_, session), was in zip(tabs, busy, strict=True)]
    core = (cpu_s(pid) - cpu) / seconds
    return [
        Figure("page_first", 1000 * cold_s, "ms"),
        Figure("page_load", statistics.median(loads), "ms", goal="<= 300 ms"),
        Figure("page_load_worst", max(loads), "ms", goal="<= 300 ms"),
        *(
            Figure(f"page_thread_{path[1:]}", 100 * share, "% of a thread", goal="<= 5 %")
            for path, share in zip(TABS, shares, strict=True)
        ),
        Figure("page_node_cpu", 100 * (core - alone), "% of a core, by the three tabs", goal="<= 5 %"),
        Figure("page_node_alone", 100 * alone, "% of a core, by 200 transfers"),
    ]


def _task_s(session: Any) -> float:
    metrics = session.send("Performance.getMetrics")["metrics"]
    return float(next(metric["value"] for metric in metrics if metric["name"] == "TaskDuration"))


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
