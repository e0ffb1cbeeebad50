"""The command that runs the present run once more: what a failing run prints."""

import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_commands: list[str] = []


@contextmanager
def replayed_by(command: str) -> Iterator[None]:
    """Within this, errors of simulated runs name `command`; `{seed}` in it is the seed of the world."""
    _commands.append(command)
    try:
        yield
    finally:
        _commands.pop()


def replay_command(seed: int) -> str:
    """How to run this again: what was declared, or the test that runs now, or the program with its arguments."""
    if _commands:
        return _commands[-1].replace("{seed}", str(seed))
    if test := os.environ.get("PYTEST_CURRENT_TEST"):
        return f"python -m pytest {shlex.quote(test.rpartition(' (')[0])}"
    program = sys.orig_argv[1:] if sys.orig_argv else sys.argv
    return shlex.join(["python", *program])
