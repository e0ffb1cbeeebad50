"""What a node with a thousand shares costs while nobody asks for any of them."""

import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from bench.figures import Figure, room
from bench.peer import open_node

SHARES = 1_000
SETTLE_S = 5.0
IDLE_S = 30.0
START_S = 60.0


def thousand_shares() -> list[Figure]:
    """A whole node in a process of its own, with all that it runs by default but looking for others by multicast."""
    with room() as place:
        files = place / "files"
        files.mkdir()
        home = place / "home"
        began = time.perf_counter()
        asyncio.run(_share(home, files))
        shared_s = time.perf_counter() - began
        program = str(Path(sys.executable).with_name("coterie"))
        node = subprocess.Popen([program, "--home", str(home), "up"], stdout=subprocess.DEVNULL)
        try:
            began = time.perf_counter()
            wait_for(home / "run" / "api.json", START_S)
            start_s = time.perf_counter() - began
            told = subprocess.run(
                [program, "--home", str(home), "--json", "shares"], stdout=subprocess.PIPE, check=True
            )
            count = len(json.loads(told.stdout))
            if count != SHARES:
                raise SystemExit(f"the node has {count} shares, not {SHARES}")
            memory, cores = idle(node.pid, SETTLE_S, IDLE_S)
        finally:
            node.terminate()
            node.wait()
    return [
        Figure("idle_1000_cpu", 100 * cores, "% of a core", 0.5, cores / 0.005, "<= 0.5 %"),
        Figure("idle_1000_rss", memory / 1e6, "MB"),
        Figure("idle_1000_start", start_s, "s"),
        Figure("idle_1000_share", shared_s, "s"),
    ]


def idle(pid: int, settle_s: float, idle_s: float) -> tuple[int, float]:
    """Resident bytes, and the share of a core used, of a process that has nothing to do (Linux)."""
    time.sleep(settle_s)
    before = cpu_s(pid)
    time.sleep(idle_s)
    used = (cpu_s(pid) - before) / idle_s
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE"), used


async def _share(home: Path, files: Path) -> None:
    async with open_node(home) as node:
        for number in range(SHARES):
            path = files / f"file-{number:04}.txt"
            path.write_bytes(os.urandom(2_000))
            await node.files.share(path)


def cpu_s(pid: int) -> float:
    """Seconds of processor that a process has used (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wait_for(path: Path, timeout_s: float) -> None:
    """Until `path` exists: a node that starts writes it."""
    deadline = time.monotonic() + timeout_s
    while not path.exists():
        if time.monotonic() > deadline:
            raise SystemExit("the node did not start")
        time.sleep(0.05)
