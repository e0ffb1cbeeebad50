"""What it costs to ask coterie something, and to have it running."""

import subprocess
import sys
import time
from pathlib import Path

from bench.figures import Figure, median, room
from bench.idle import idle, wait_for

ROUNDS = 9
SETTLE_S = 3.0
IDLE_S = 10.0
START_S = 20.0


def commands() -> list[Figure]:
    """Whole command lines, interpreter included: `--version`, and `status` of a running node; then its idling."""
    with room() as place:
        home = place / "home"
        home.mkdir(mode=0o700)
        (home / "config.toml").write_text('bind = "127.0.0.1"\n')
        program = [str(Path(sys.executable).with_name("coterie")), "--home", str(home)]
        bare = median([_timed([sys.executable, "-c", "pass"]) for _ in range(ROUNDS)])
        version = median([_timed([program[0], "--version"]) for _ in range(ROUNDS)])
        node = subprocess.Popen([*program, "up"], stdout=subprocess.DEVNULL)
        try:
            wait_for(home / "run" / "api.json", START_S)
            status = median([_timed([*program, "status"]) for _ in range(ROUNDS)])
            memory, cores = idle(node.pid, SETTLE_S, IDLE_S)
        finally:
            node.terminate()
            node.wait()
    return [
        Figure(
            "cli_version", version * 1e3, "ms", bare * 1e3, version / bare, "<= 150 ms (raw: python -c pass)"
        ),
        Figure("cli_status", status * 1e3, "ms", bare * 1e3, status / bare, "<= 300 ms"),
        Figure("idle_rss", memory / 1e6, "MB", 100, memory / 1e8, "<= 100 MB"),
        Figure("idle_cpu", 100 * cores, "% of a core", 0.5, cores / 0.005, "<= 0.5 %"),
    ]


def _timed(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began
