"""Many random histories of live folders: `make proof ONLY=folders`. Ends at the first that fails, with its seed.

proof.py [HISTORIES [FIRST_SEED]]
"""

import sys
from concurrent.futures import ProcessPoolExecutor

from tests.apps.folders.histories import History

HISTORIES = 100_000
ACTIONS = 50
PART = 500


def part(first: int) -> tuple[int, int]:
    """(steps of the planner, contents written) of some histories."""
    steps = contents = 0
    for seed in range(first, first + PART):
        history = History(seed).run(ACTIONS)
        steps += sum(replica.steps for replica in history.replicas)
        contents += len(history.finished)
    return steps, contents


def main() -> None:
    """Run them in as many processes as there are cores."""
    count, first = (*map(int, sys.argv[1:]), *(HISTORIES, 0)[len(sys.argv) - 1 :])
    with ProcessPoolExecutor() as pool:
        done = list(pool.map(part, range(first, first + count, PART)))
    steps, contents = (sum(column) for column in zip(*done, strict=True))
    print(f"{count} histories of 2 to 4 computers, {ACTIONS} actions each, from seed {first}: all converged")
    print(f"{steps} steps planned; {contents} contents written, none lost")


if __name__ == "__main__":
    main()
