"""Trees of many files between two processes, beside an rsync daemon and `cp -r` of the same tree, each to the disk.

Whoever is measured has a new folder, and nothing is removed in between: some file systems (ext4 without a journal) make
files slowly for minutes after others were removed.
"""

import os
import subprocess
import sysconfig
import time
from pathlib import Path

from bench.figures import Figure, Giver, median, room, take
from bench.transfer import flush, rsync_daemon

FILES = 100_000
FILE_BYTES = 1024
FOLDERS = 100
ROUNDS = 3


def small_files(path: Path, count: int = FILES) -> Path:
    """A tree of `count` files of 1 KB in folders of 1,000."""
    for folder in range(FOLDERS):
        (path / f"folder-{folder:03}").mkdir(parents=True)
    noise = os.urandom(FILE_BYTES * 64)
    for index in range(count):
        body = index.to_bytes(8, "big") + noise[index % 60_000 :][: FILE_BYTES - 8].ljust(FILE_BYTES - 8)
        (path / f"folder-{index % FOLDERS:03}" / f"file-{index:06}.dat").write_bytes(body)
    return path


def tree() -> list[Figure]:
    """100,000 files of 1 KB in 100 folders."""
    with room() as place:
        return _measure("tree", small_files(place / "tree"), place, (0.8, 1.2))


def library() -> list[Figure]:
    """What Python itself has on this machine: folders and files of all sizes."""
    with room() as place:
        return _measure("library", Path(sysconfig.get_path("stdlib")), place, (1.0, 1.3))


def _measure(name: str, source: Path, place: Path, goals: tuple[float, float]) -> list[Figure]:
    """The medians of three rounds; `goals`: get, and share and get, beside rsync."""
    gets: list[float] = []
    shares: list[float] = []
    copies: list[float] = []
    by_rsync: list[float] = []
    takers: list[float] = []
    givers: list[float] = []
    subprocess.run(["tar", "-cf", "/dev/null", "-C", str(source), "."], check=True)  # all is in memory
    for number in range(ROUNDS):
        began = time.perf_counter()
        subprocess.run(["cp", "-r", str(source), str(place / f"by-cp-{number}")], check=True)
        flush(place / f"by-cp-{number}")
        copies.append(time.perf_counter() - began)
        rsync_s = rsync_daemon(source, place)
        if rsync_s is not None:
            by_rsync.append(rsync_s)
        giver = Giver(place / f"a{number}", [source])
        one, memory = take(place / f"b{number}", giver, giver.shares[0], place / f"got-{number}")
        gave = giver.end()
        if one["files"] != giver.shares[0]["files"] or one["failed"]:
            raise SystemExit(f"the tree did not arrive whole: {one}")
        gets.append(one["get_s"])
        shares.append(giver.shares[0]["seconds"])
        takers.append(memory["rss_peak"] / 1e6)
        givers.append(gave["rss_peak"] / 1e6)
    rsync = median(by_rsync) if by_rsync else None
    both = [share + get for share, get in zip(shares, gets, strict=True)]

    def beside(what: str, values: list[float], goal: float) -> Figure:
        ratios = [value / raw for value, raw in zip(values, by_rsync, strict=False)]
        ratio = median(ratios) if ratios else None
        return Figure(f"{name}_{what}", median(values), "s", rsync, ratio, f"<= {goal} x rsync")

    return [
        beside("get", gets, goals[0]),
        beside("share_and_get", both, goals[1]),
        Figure(f"{name}_share", median(shares), "s"),
        Figure(f"{name}_cp", median(copies), "s"),
        Figure(f"{name}_rss_taker", max(takers), "MB", 300, None, "<= 300 MB"),
        Figure(f"{name}_rss_giver", max(givers), "MB", 300, None, "<= 300 MB"),
    ]
