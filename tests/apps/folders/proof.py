"""Many random histories of live folders, then hardships of real nodes: `make proof ONLY=folders`.

Goes on where something fails, lists the seeds, and fails at the end. Without hardships where numbers are given:

proof.py [HISTORIES WHOLE_HISTORIES [FIRST_SEED [PROCESSES]]]
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from tests.apps.folders.histories import History
from tests.apps.folders.whole import COPIES_MAX, MovingHistory, WholeHistory

HISTORIES = 100_000  # of the planner, on 2 to 4 computers that tell each other everything of a path at once
WHOLE = 100_000  # of planner, book, database and exchange by messages, on 2 to 6; half with threads and power cuts
ACTIONS = 50
PART = 250
HARDSHIPS = ["kills", "full", "unmounted", "clock", "loss"]


class Figures:
    """What some histories came to; those that failed, with why."""

    def __init__(self) -> None:
        self.histories = self.steps = self.contents = 0
        self.failed: list[str] = []

    def add(self, other: "Figures") -> None:
        """Count these, too."""
        self.histories += other.histories
        self.steps += other.steps
        self.contents += other.contents
        self.failed += other.failed


def part(is_whole: bool, count: int, first: int) -> Figures:
    """Some histories."""
    figures = Figures()
    for seed in range(first, first + count):
        whole = MovingHistory if seed % 8 > 5 else WholeHistory
        history = whole(seed, overlaps=seed % 2 == 1) if is_whole else History(seed, seldom=seed % 8 == 7)
        figures.histories += 1
        try:
            history.run(ACTIONS)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is listed, and the rest is run
            figures.failed.append(f"{type(history).__name__}({seed}): {str(error)[:160]}")
        figures.steps += sum(replica.steps for replica in history.replicas)
        figures.contents += len(history.finished)
    return figures


def run(is_whole: bool, count: int, first: int, processes: int) -> Figures:
    """Run them, and say what came of it."""
    began, figures = time.monotonic(), Figures()
    firsts = range(first, first + count, PART)
    counts = [min(PART, first + count - one) for one in firsts]
    for done in _mapped(partial(part, is_whole), counts, firsts, processes):
        figures.add(done)
    what = f"whole copies (2 to {COPIES_MAX} computers)" if is_whole else "the planner (2 to 4 computers)"
    print(
        f"{figures.histories:,} histories of {what}, {ACTIONS} actions each, from seed {first}: "
        f"{figures.steps:,} steps planned, {figures.contents:,} contents written, "
        f"{len(figures.failed)} failed ({time.monotonic() - began:.0f} s)",
        flush=True,
    )
    for line in figures.failed:
        print(f"  {line}", flush=True)
    return figures


def _mapped(
    work: Callable[[int, int], Figures], counts: list[int], firsts: range, processes: int
) -> Iterator[Figures]:
    if processes == 1:
        yield from map(work, counts, firsts)
        return
    with ProcessPoolExecutor(processes) as pool:
        yield from pool.map(work, counts, firsts)


def hardship(name: str) -> bool:
    """Play one with real nodes; whether all went well."""
    words = [sys.executable, "tools/isolate.py", sys.executable, "-m", "tests.apps.folders.hardships", name]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=False)
    said = [line for line in done.stdout.splitlines() if line != "Ctrl-C stops"]
    print("\n".join(said) if not done.returncode else f"{name} failed: {' '.join(said)[:500]}", flush=True)
    return done.returncode == 0


def main() -> int:
    """All of it; the status is 1 where something failed."""
    numbers = list(map(int, sys.argv[1:]))
    count, whole, first, processes = [*numbers, *(HISTORIES, WHOLE, 0, os.cpu_count() or 1)[len(numbers) :]]
    failed = len(run(False, count, first, processes).failed) + len(run(True, whole, first, processes).failed)
    if not numbers:
        failed += [hardship(name) for name in HARDSHIPS].count(False)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
