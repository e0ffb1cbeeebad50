"""docs/swarm-lab.md: the last result of every client in every case, written by the command that measures."""

import json
import os
import platform
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

from tests.lab.remote import ROOT
from tests.lab.slow_links import HEADERS
from tests.lab.swarm import CASES, CLIENTS, FULL, Outcome

PAGE = ROOT / "docs" / "swarm-lab.md"
MARK = "<!-- figures: "
GOALS = {"plain": "<= 1.15", "killed": "< libtorrent", "lossy": "<= 2", "leaving": "completes"}
HEAD = (
    "| case | client | last done | against the bound | seeder sent | uplinks used | CPU of its programs "
    "| machine busy | threads waiting | plain TCP before |"
)

Figures = dict[str, dict[str, Any]]


def merge(page: str, outcomes: list[Outcome]) -> str:
    """The page with these outcomes beside those that stand in it: the median of several."""
    figures = _read(page)
    groups: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault(f"{outcome.case} {outcome.client}", []).append(outcome)
    for name, group in groups.items():
        middle = sorted(group, key=lambda o: o.ratio)[len(group) // 2]
        figures[name] = {
            **asdict(middle),
            "runs": len(group),
            "day": date.today().isoformat(),
            "machine": _machine(),
        }
    rows = [_row(figures[name]) for c in CASES for client in CLIENTS if (name := f"{c} {client}") in figures]
    kept = "\n".join(f"{MARK}{name} {json.dumps(figure)} -->" for name, figure in sorted(figures.items()))
    return _TEXT.format(
        rows="\n".join((HEAD, "|---" * 10 + "|", *rows)), kept=kept, bound=FULL.bound_s, headers=HEADERS
    )


def write(outcomes: list[Outcome]) -> Path:
    """Put them into the page."""
    before = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    PAGE.write_text(merge(before, outcomes), encoding="utf-8")
    return PAGE


def _read(page: str) -> Figures:
    found: Figures = {}
    for line in page.splitlines():
        if line.startswith(MARK):
            case, client, rest = line.removeprefix(MARK).removesuffix(" -->").split(" ", 2)
            found[f"{case} {client}"] = json.loads(rest)
    return found


def _machine() -> str:
    return f"{os.cpu_count()} cores, Python {platform.python_version()}"


def _row(figure: dict[str, Any]) -> str:
    facts = {key: value for key, value in figure.items() if key not in ("runs", "day", "machine")}
    size = type(FULL)(**facts.pop("size"))
    outcome = Outcome(size=size, **facts)
    if outcome.is_complete:
        last, ratio = f"{outcome.done_s[-1]:.1f} s", f"{outcome.ratio:.2f} x"
    else:
        last = f"{len(outcome.done_s)} of {size.receivers}"
        ratio = f"never: others hold {min(outcome.held):.0%} to {max(outcome.held):.0%}"
    cells = (
        outcome.case,
        outcome.client,
        last,
        ratio,
        f"{outcome.copies:.2f} copies",
        f"{outcome.uplink:.0%}",
        f"{outcome.cpu_cores:.2f} cores",
        f"{outcome.machine_busy:.0%}",
        f"{outcome.waiting:.1f}" if outcome.waiting else "-",
        f"{outcome.plain_tcp:.1f} Mbit/s",
    )
    return f"| {' | '.join(cells)} |"


_TEXT = """# The swarm over slow links

One computer has a file of 100 MB and sends at most 40 Mbit/s; eight want it, each with 80 Mbit/s down and 40 up. How
long until the last one has it? `make swarm-lab` measures it anew and writes this page: real programs, a process for
each computer, in network namespaces with shaped links (`tests/lab/slow_links.py`), ours, libtorrent with its own
settings, and a chain of plain TCP connections, in which each passes on what comes, unchecked and unencrypted. TCP is
cubic; ours leaves it for bbr where it sees packets vanish although no queue grows (docs/protocol/lanes.md), which is
what the lossy line does. The bound, max(F/u_s, F/d_min, N F/(u_s + sum of u_i)), is {bound:.1f} s here. It counts the
links' own rates: packet headers alone make {headers:.3f} of it.

{rows}

- **plain**: 20 ms round trip. **killed**: two of the eight are killed (-9) when all together have 40 %, and come back
  5 s later.
- **lossy**: 100 ms round trip, 2 % of packets lost in each direction.
- **leaving**: the seeder is killed once it has sent 1.05 copies.
- *Seeder sent* and *uplinks used* are read where the links end, headers taken off the copies; repeated packets count.
- *Machine busy* counts all cores and everybody's work: where it is near 100 %, processor time limits, not the network.
  *Threads waiting*: how many threads of the programs measured had work and no core, on average.
- A plain TCP transfer goes before each run; where it misses what the link carries, the run is not taken.

{kept}
"""
