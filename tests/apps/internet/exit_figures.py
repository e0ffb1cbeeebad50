"""Figures of a whole-system exit, on three computers of the laboratory: make proof ONLY=exit

TCP through it beside a raw TLS 1.3 connection between the two computers, by blocking threads; datagrams a second.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from tests.lab.lab import Host, Lab
from tests.lab.nodes import LabNode

ROOT = Path(__file__).resolve().parents[3]
PROGRAMS = "tests.apps.internet.exit_programs"
STREAM_BYTES = 256 << 20
ROUNDS = 3
DATAGRAMS_S = 3  # seconds of datagrams
RATES = ((5_000, 1_100), (8_000, 1_100), (8_000, 160))  # offered a second, bytes each


def _program(host: Host, *words: str) -> "subprocess.Popen[Any]":
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": ROOT}
    return host.popen(sys.executable, "-m", PROGRAMS, *words, **pipes)


def _line(process: "subprocess.Popen[Any]") -> str:
    assert process.stdout is not None
    return str(process.stdout.readline()).strip()


def _tell(process: "subprocess.Popen[Any]", text: str) -> None:
    assert process.stdin is not None
    process.stdin.write(text + "\n")
    process.stdin.flush()


def raw(source: Host, sink: Host) -> float:
    """Bytes a second of raw TLS."""
    server = _program(source, "raw_source", "5000", str(STREAM_BYTES))
    client = _program(sink, "raw_sink", source.ip, "5000", _line(server), str(STREAM_BYTES))
    _tell(server, _line(client))
    _tell(client, "")
    rate = float(_line(client))
    server.wait()
    return rate


def stream(sink: Host, source: Host) -> float:
    """Bytes a second of a program's connection."""
    return float(_line(_program(sink, "sink", source.ip, "81")))


def main() -> None:
    """Print the figures."""
    with Lab() as lab, tempfile.TemporaryDirectory() as folder:
        anna, ben, world = (lab.public(name) for name in ("anna", "ben", "world"))
        exit_, node = LabNode(anna, Path(folder)), LabNode(ben, Path(folder))
        exit_.up()
        node.up()
        exit_.meet(node)
        exit_("internet", "share", "--to", "contacts", "--allow", "198.51.100.0/24")
        _line(_program(world, "source", "81", str(STREAM_BYTES)))
        node("internet", "use", "anna", "--whole", "--direct", anna.ip)  # raw TLS goes there by itself
        stream(ben, world)  # the first makes the lane
        pairs = []
        for _ in range(ROUNDS):
            pairs.append((raw(anna, ben), stream(ben, world)))
            print(
                f"raw {pairs[-1][0] / 1e6:.0f} MB/s, through the exit {pairs[-1][1] / 1e6:.0f} MB/s",
                flush=True,
            )
        print(f"TCP: {median([one / all_ for all_, one in pairs]):.2f} of raw TLS (goal 0.6)", flush=True)
        _line(_program(world, "counter", "82"))
        for offered, size in RATES:
            asked = ("sprayer", world.ip, "82", str(offered * DATAGRAMS_S), str(offered), str(size))
            said = json.loads(_line(_program(ben, *asked)))
            share = said["count"] / (offered * DATAGRAMS_S)
            print(
                f"datagrams of {size} bytes, {offered} a second offered: {said['per_s']:.0f} a second came, "
                f"{share:.0%} of them (goal 5000)",
                flush=True,
            )
        node("internet", "stop")


if __name__ == "__main__":
    main()
