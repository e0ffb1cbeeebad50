"""What it costs to share again what hardly changed: whole command lines, asked of a running node."""

import os
import subprocess
import sys
import time
from pathlib import Path

from bench.figures import Figure, median, room
from bench.idle import wait_for

FOLDERS = 1_000
FILES = 100  # in each folder
FILE_BYTES = 1_024
CHANGED = 10
ROUNDS = 3
START_S = 20.0
SETTLE_S = 3.0  # as `content.seen` wants it of disks with coarse dates


def again() -> list[Figure]:
    """`coterie share` of a tree of small files for the second time, and with a few changed; raw: a look at each."""
    with room() as place:
        tree, home = place / "tree", place / "home"
        for number in range(FOLDERS):
            folder = tree / f"{number:04}"
            folder.mkdir(parents=True)
            for file in range(FILES):
                (folder / f"{file:03}").write_bytes(os.urandom(FILE_BYTES))
        home.mkdir(mode=0o700)
        (home / "config.toml").write_text('bind = "127.0.0.1"\n')
        program = [str(Path(sys.executable).with_name("coterie")), "--home", str(home)]
        node = subprocess.Popen([*program, "up"], stdout=subprocess.DEVNULL)
        try:
            wait_for(home / "run" / "api.json", START_S)
            time.sleep(SETTLE_S)
            command = [*program, "--quiet", "share", str(tree)]
            first = _timed(command)
            scans = [_scanned(tree) for _ in range(ROUNDS)]
            unchanged = [_timed(command) for _ in range(ROUNDS)]
            changed = []
            for number in range(ROUNDS):
                for at in range(CHANGED):
                    path = tree / f"{(number + at * 97) % FOLDERS:04}" / "007"
                    path.write_bytes(os.urandom(FILE_BYTES))
                changed.append(_timed(command))
            memory = _peak_bytes(node.pid)
        finally:
            node.terminate()
            node.wait()
    raw = median(scans)
    return [
        Figure("share_first", first, "s"),
        _beside("share_again", median(unchanged), raw),
        _beside("share_again_10_changed", median(changed), raw),
        Figure("share_again_peak", memory / 1e6, "MB", goal="<= 300 MB"),
    ]


def _beside(name: str, value: float, raw: float) -> Figure:
    return Figure(name, value, "s", raw, value / raw, "<= 1.5 s (raw: stat of every file)")


def _timed(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


def _scanned(tree: Path) -> float:
    began = time.perf_counter()
    for folder in os.scandir(tree):
        for entry in os.scandir(folder):
            entry.stat(follow_symlinks=False)
    return time.perf_counter() - began


def _peak_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024
