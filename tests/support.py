"""What every test may use: run a coroutine, in real or in virtual time."""

import asyncio
import selectors
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from coterie.testing.checks import run

__all__ = ["Steps", "run", "run_virtual", "watch_steps"]

T = TypeVar("T")


def run_virtual(work: Coroutine[Any, Any, T], timeout_s: float = 100_000.0) -> T:
    """As `run`, but time passes only when nothing else is left to do: an hour takes no time. No sockets."""
    return run(work, timeout_s, make_loop=_VirtualLoop)


@dataclass
class Steps:
    """Of all event loops while `watch_steps` ran: the longest step, in processor seconds of its thread."""

    longest_s: float = 0.0
    what: str = ""


@contextmanager
def watch_steps() -> Iterator[Steps]:
    """How long the loop's callbacks take, each by the processor's time: what other programs take does not count."""
    steps, run_one = Steps(), asyncio.Handle._run

    def timed(handle: asyncio.Handle) -> None:
        before = time.thread_time()
        run_one(handle)
        took_s = time.thread_time() - before
        if took_s > steps.longest_s:
            steps.longest_s, steps.what = took_s, repr(handle)

    asyncio.Handle._run = timed  # type: ignore[method-assign]
    try:
        yield steps
    finally:
        asyncio.Handle._run = run_one  # type: ignore[method-assign]


class _VirtualSelector(selectors.SelectSelector):
    now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise RuntimeError("deadlock: nothing is left to happen")
        self.now += max(0.0, timeout)
        return []


class _VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._clock = _VirtualSelector()
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.now
