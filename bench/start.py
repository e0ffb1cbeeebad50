"""What it costs to ask coterie something, and to have it running; with its modules compiled, as they are installed."""

import json
import os
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
        (home / "config.toml").write_text('bind = "127.0.0.1"\nname = "first"\n')
        program = [str(Path(sys.executable).with_name("coterie")), "--home", str(home)]
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # else each call compiles all it imports anew
        bare = median([_timed([sys.executable, "-c", "pass"]) for _ in range(ROUNDS)])
        version = median([_timed([program[0], "--version"]) for _ in range(ROUNDS)])
        node = subprocess.Popen([*program, "up"], stdout=subprocess.DEVNULL)
        try:
            wait_for(home / "run" / "api.json", START_S)
            status = median([_timed([*program, "status"]) for _ in range(ROUNDS)])
            memory, cores = idle(node.pid, SETTLE_S, IDLE_S)
            alone = _get_alone(program, place)
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
        Figure(
            "get_without_node", alone * 1e3, "ms", bare * 1e3, alone / bare, "<= 600 ms (a file of a contact)"
        ),
    ]


def _get_alone(program: list[str], place: Path) -> float:
    """Getting a small file of a contact, whose node runs here, by a command line that has no node."""
    shared, home = place / "small.txt", place / "other"
    shared.write_text("a small file")
    home.mkdir(mode=0o700)
    (home / "config.toml").write_text('bind = "127.0.0.1"\n')
    other = [program[0], "--home", str(home), "--quiet"]
    subprocess.run(
        [*program, "share", shared, "--to", "contacts", "--name", "small"],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    inviting = subprocess.Popen([*program, "--json", "invite"], stdout=subprocess.PIPE, text=True)
    invitation = json.loads(inviting.stdout.readline() if inviting.stdout else "")
    subprocess.run([*other, "join", invitation["ticket"]], check=True, stdout=subprocess.DEVNULL)
    inviting.wait()
    times = []
    for number in range(ROUNDS + 1):
        target = place / f"got-{number}"
        times.append(_timed([*other, "get", "first/small", str(target)]))
        if target.read_text() != shared.read_text():
            raise SystemExit("what came is not what was shared")
    return median(times[1:])  # the first one compiles what was not run before


def _timed(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began
