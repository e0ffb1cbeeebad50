"""`make bench`: every figure beside its raw limit of the same run.

ONLY=name runs one; BENCH_JSON=path also writes the figures as JSON (name, value, unit, raw limit, ratio).
"""

import compileall
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import (
    access,
    again,
    content,
    expose,
    idle,
    lanes,
    page,
    play,
    send,
    start,
    swarm,
    transfer,
    trees,
    versions,
)
from bench.figures import Figure


def measure_import() -> list[Figure]:
    """Taking files in, beside FastCDC and BLAKE3 in memory on the same cores."""
    return [
        Figure(
            f["name"],
            f["value"],
            f["unit"],
            f["raw"],
            f["ratio"],
            ">= 0.7 of FastCDC + BLAKE3" if f["ratio"] else "",
        )
        for f in content.measure_import()
    ]


def measure_simulator() -> list[Figure]:
    """The simulator's speed with a flooding core, the best of three; then of whole scenarios, set-up included."""
    from tests.scenarios.frame import scenarios

    from coterie.sim.flood import measure
    from coterie.sim.links import Coordinates, Link

    links = {"simulator": Link(), "simulator_internet": Link(latency=Coordinates(1))}
    figures = [
        Figure(name, max(measure(link=link).events_per_s for _ in range(3)), "events/s", goal=">= 80,000")
        for name, link in links.items()
    ]
    for name, scenario in scenarios().items():
        report = scenario.execute("small")
        if report.events:
            figures.append(Figure(f"scenario_{name}", report.events / report.cpu_s, "events/s"))
    return figures


BENCHMARKS: dict[str, Callable[[], list[Figure]]] = {
    "access": access.decisions,
    "start": start.commands,
    "idle": idle.thousand_shares,
    "again": again.again,
    "page": page.page,
    "import": measure_import,
    "file": transfer.one_file,
    "lanes": lanes.two_gigabytes,
    "expose": lambda: list(expose.measure()),
    "send": send.measure,
    "tree": trees.tree,
    "library": trees.library,
    "swarm": swarm.schedule,
    "memory": transfer.memory,
    "versions": versions.versions,
    "play": play.seeks,
    "simulator": measure_simulator,
}


def main() -> int:
    only = os.environ.get("ONLY", "")
    if only and only not in BENCHMARKS:
        print(f"there is no benchmark '{only}'; there are {', '.join(BENCHMARKS)}", file=sys.stderr)
        return 2
    _compile()
    figures: list[Figure] = []
    print(f"{'name':<36}{'value':>12} {'unit':<12}{'raw limit':>12}{'ratio':>8}  goal", flush=True)
    for name, measure in BENCHMARKS.items():
        if only in ("", name):
            for figure in measure():
                figures.append(figure)
                print(_line(figure), flush=True)
    if path := os.environ.get("BENCH_JSON"):
        keys = ("name", "value", "unit", "raw", "ratio")
        Path(path).write_text(
            json.dumps([{k: getattr(f, k) for k in keys} for f in figures], indent=1) + "\n"
        )
    return 0


def _compile() -> None:
    """As whoever installs a package has it: nothing is compiled while something is measured."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    compileall.compile_dir(Path(__file__).resolve().parent.parent / "src", quiet=2)


def _line(figure: Figure) -> str:
    raw = f"{figure.raw:12,.1f}" if figure.raw is not None else f"{'':12}"
    ratio = f"{figure.ratio:8.2f}" if figure.ratio is not None else f"{'':8}"
    return f"{figure.name:<36}{figure.value:>12,.2f} {figure.unit:<12}{raw}{ratio}  {figure.goal}"


if __name__ == "__main__":
    sys.exit(main())
