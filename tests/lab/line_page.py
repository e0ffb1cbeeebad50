"""The table of lines in docs/performance.md, written by the command that measures."""

import json
from datetime import date
from pathlib import Path
from statistics import median
from typing import Any

from tests.lab.lines import CASES, MODULES, OURS, Outcome
from tests.lab.remote import ROOT

PAGE = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- lines -->", "<!-- end of lines -->"
MARK = "<!-- line: "
HEAD = "| case | line | goal | median | runs |\n|---|---|---|---|---|"

Figures = dict[str, dict[str, Any]]


def middle(outcomes: list[Outcome]) -> float:
    """The median of what they took, in times of the line's own."""
    return median(outcome.ratio for outcome in outcomes)


def merge(page: str, outcomes: list[Outcome]) -> str:
    """The page with these runs of one case by one client in place of what stood there."""
    before, _, rest = page.partition(BEGIN)
    table, _, after = rest.partition(END)
    figures = _read(table)
    first = outcomes[0]
    figures[f"{first.name} {first.client}"] = {
        "runs": [round(outcome.took_s, 2) for outcome in outcomes],
        "day": date.today().isoformat(),
    }
    rows = [row for name in CASES for client in MODULES if (row := _row(name, client, figures))]
    kept = [f"{MARK}{name} {json.dumps(figure)} -->" for name, figure in sorted(figures.items())]
    return f"{before}{BEGIN}\n\n{HEAD}\n" + "\n".join([*rows, "", *kept, "", END]) + after


def write(outcomes: list[Outcome]) -> Path:
    """Put them into the page."""
    PAGE.write_text(merge(PAGE.read_text(encoding="utf-8"), outcomes), encoding="utf-8")
    return PAGE


def _read(table: str) -> Figures:
    found: Figures = {}
    for line in table.splitlines():
        if line.startswith(MARK):
            name, client, rest = line.removeprefix(MARK).removesuffix(" -->").split(" ", 2)
            found[f"{name} {client}"] = json.loads(rest)
    return found


def _row(name: str, client: str, figures: Figures) -> str:
    if (figure := figures.get(f"{name} {client}")) is None:
        return ""
    case = CASES[name]
    outcomes = [Outcome(name, took_s, client) for took_s in figure["runs"]]
    runs = ", ".join(f"{outcome.ratio:.2f}" for outcome in outcomes)
    goal = f"{case.goal:.2f}" if client == OURS else ""
    return (
        f"| {name} | {case.about if client == OURS else client} | {goal} | {middle(outcomes):.2f} | {runs} |"
    )
