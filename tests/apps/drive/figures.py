"""The drive at full size between two real nodes: `make proof ONLY=drive`.

Listing 10,000 entries, reading a large file through it, the first byte, and writing: each several times, the median.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.apps.files.nodes import RunningNode, start

ENTRIES = 10_000
FILE_BYTES = 256 << 20
TIMES = 5


def curl(*words: str) -> str:
    """What curl says. Ends the program with what the drive says where that refuses."""
    done = subprocess.run(
        ["curl", "-sS", "--fail-with-body", *words], capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"curl {words}: {done.stdout} {done.stderr}")
    return done.stdout


def figures(url: str, *words: str) -> tuple[float, float]:
    """Seconds to the first byte, and bytes a second."""
    said = curl(
        *words, "-o", "/dev/null", "-w", "%{time_starttransfer} %{speed_download} %{speed_upload}", url
    )
    first, down, up = map(float, said.split())
    return first, max(down, up)


def line(what: str, values: list[float], unit: str, bound: str = "") -> None:
    """One line of the page."""
    low, high = min(values), max(values)
    print(
        f"{what:<44}{statistics.median(values):>9.3g} {unit:<5} ({low:.3g} to {high:.3g}) {bound}", flush=True
    )


def meet(anna: RunningNode, ben: RunningNode) -> None:
    """Make contacts of them."""
    inviting = start(anna.home, "--json", "invite", "--lasting", "60s")
    assert inviting.stdout is not None
    ben.call("join", json.loads(inviting.stdout.readline())["ticket"])
    inviting.communicate(timeout=30)
    ben.call("contact", "rename", anna.call("id")["id"], "anna")
    anna.call("contact", "rename", ben.call("id")["id"], "ben")


def prepare(folder: Path) -> None:
    """What anna shares."""
    many = folder / "share" / "many"
    many.mkdir(parents=True)
    for number in range(ENTRIES):
        (many / f"{number:05}.txt").write_bytes(b"x")
    for number in range(TIMES):
        with (folder / "share" / f"film{number}").open("wb") as film:
            for _ in range(FILE_BYTES >> 20):
                film.write(os.urandom(1 << 20))


def measure(folder: Path, ben: RunningNode) -> None:
    """Print each figure with its bound."""
    port = int(ben.call("drive", "on")["url"].rstrip("/").rpartition(":")[2])
    base = f"http://127.0.0.1:{port}/anna/share"
    listed, firsts, seeks, rates, again, puts, small = ([] for _ in range(7))
    for _ in range(TIMES):
        began = time.perf_counter()
        said = curl("-X", "PROPFIND", "-H", "Depth: 1", f"{base}/many")
        listed.append(time.perf_counter() - began)
        assert said.count("<D:response>") == ENTRIES + 1
        time.sleep(2.1)  # what was listed is known for so long
    for number in range(TIMES):
        first, rate = figures(f"{base}/film{number}")
        firsts.append(1000 * first)
        rates.append(rate / 1e6)
        seeks.append(1000 * figures(f"{base}/many/{number:05}.txt")[0])
        again.append(figures(f"{base}/film{number}")[1] / 1e6)
    big = folder / "share" / "film0"
    for number in range(3):
        began = time.perf_counter()
        curl("-T", str(big), f"{base}/put{number}")
        puts.append(FILE_BYTES / (time.perf_counter() - began) / 1e6)
        began = time.perf_counter()
        curl("-T", str(folder / "share/many/00001.txt"), f"{base}/small{number}")
        small.append(1000 * (time.perf_counter() - began))
    line("10,000 entries listed", listed, "s", "<= 1.5")
    line("256 MiB read through, from the other node", rates, "MB/s", ">= 150")
    line("256 MiB read through, from the cache", again, "MB/s")
    line("first byte of a large file", firsts, "ms", "<= 50")
    line("first byte of a small file", seeks, "ms", "<= 50")
    line("256 MiB written through, checked, in place", puts, "MB/s")
    line("a small file written, in a share of 10,000", small, "ms")


def main() -> None:
    """Two nodes, one of which shares."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        anna, ben = RunningNode(folder / "anna"), RunningNode(folder / "ben")
        try:
            meet(anna, ben)
            anna.call("share", str(folder / "share"), "--to", "ben", "--write")
            measure(folder, ben)
        finally:
            anna.stop()
            ben.stop()


if __name__ == "__main__":
    main()
