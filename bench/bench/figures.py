"""What a benchmark returns, and the rooms and processes it works in."""

import json
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PEER = Path(__file__).with_name("peer.py")


@dataclass(frozen=True)
class Figure:
    """One measured value beside the raw limit of the same run; `ratio` is theirs, `goal` what we want of it."""

    name: str
    value: float
    unit: str
    raw: float | None = None
    ratio: float | None = None
    goal: str = ""


@contextmanager
def room() -> Iterator[Path]:
    """A folder of one's own, removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="coterie-bench-") as made:
        yield Path(made)


class Giver:
    """A process that shares `paths`; `tickets[i]` is the reply for paths[i]."""

    def __init__(self, home: Path, paths: list[Path]) -> None:
        job = {"job": "give", "home": str(home), "paths": [str(p) for p in paths]}
        self._process = subprocess.Popen(
            [sys.executable, str(PEER), json.dumps(job)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.raw = self._line()
        self.shares = [self._line() for _ in paths]

    def _line(self) -> dict[str, Any]:
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line:
            raise SystemExit("the giving process ended early")
        return dict(json.loads(line))

    def end(self) -> dict[str, Any]:
        """Stop it; its peak memory and what it sent."""
        out, _ = self._process.communicate(timeout=60)
        return dict(json.loads(out.splitlines()[-1]))


def take(
    home: Path, giver: Giver, share: dict[str, Any], target: Path, *, raw_bytes: int = 0, rounds: int = 1
) -> list[dict[str, Any]]:
    """Fetch a share in a process of its own; one dict a round, and the peak memory last."""
    job = {
        "job": "take",
        "home": str(home),
        "raw": {"peer": giver.raw["raw_peer"], "addresses": giver.raw["raw_addresses"], "size": raw_bytes},
        "ticket": share["ticket"],
        "target": str(target),
        "rounds": rounds,
    }
    done = subprocess.run(
        [sys.executable, str(PEER), json.dumps(job)], stdout=subprocess.PIPE, text=True, check=True
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def installed(tool: str) -> str | None:
    """The path of an outside tool to compare with, or None."""
    return shutil.which(tool)


def free_port() -> int:
    """A TCP port of loopback that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def median(values: list[float]) -> float:
    """The middle value."""
    ordered = sorted(values)
    return ordered[len(ordered) // 2]
