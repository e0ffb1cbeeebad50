"""Background work: the one owner of tasks that nobody awaits.

Lasting work (`keep`) begins anew after a failure, with growing pauses; work for once (`start`) does not. Neither
failure is lost: it is logged, and listed in `troubles` for `status` and `doctor`. `close` ends all work of one owner.

A node has one tree: `tasks.part("reach")` is an owner of its own, whose troubles are listed with the node's.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from coterie.texts import tr

T = TypeVar("T")

RESTART_MIN_S = 1.0  # guess; doubles after each failure
RESTART_MAX_S = (
    300.0  # guess: what fails for hours costs nothing, and comes back soon after its cause is gone
)
HEALTHY_S = 600.0  # guess: lasting work that ran for so long has recovered
KEPT_S = 3_600.0  # guess: a failure of work for once is listed for so long
TROUBLES_MAX = 32  # listed at once; the oldest leaves
REASON_CHARS_MAX = 300

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """Work that failed. `again_in_s`: seconds until it starts anew; 0: it runs again; None: it was work for once."""

    name: str
    reason: str
    failures: int
    again_in_s: float | None

    def text(self) -> str:
        """For people: one line."""
        times = tr(" {failures} times", failures=self.failures) if self.failures > 1 else ""
        if self.again_in_s is None:
            after = ""
        else:
            after = (
                tr("; starts again in {again_in_s:.0f} s", again_in_s=self.again_in_s)
                if self.again_in_s
                else tr("; runs again")
            )
        return tr(
            "'{name}' failed{times}: {reason}{after}",
            name=self.name,
            times=times,
            reason=self.reason,
            after=after,
        )


@dataclass(slots=True)
class _Failed:
    """The failures of one piece of work. Times are of the loop; `again_at` is None for work for once."""

    reason: str
    failures: int
    at: float
    again_at: float | None


class Tasks:
    """Tasks of one owner."""

    def __init__(self, name: str = "", failed: dict[str, _Failed] | None = None) -> None:
        """`name` stands before the names of its work; `failed` is for `part`."""
        self._name = name
        self._failed = {} if failed is None else failed
        self._running: dict[asyncio.Task[Any], None] = {}
        self._is_closed = False

    def __len__(self) -> int:
        """How many run."""
        return len(self._running)

    def part(self, name: str) -> "Tasks":
        """An owner whose troubles are listed here too. Closing the one does not close the other."""
        return Tasks(name, self._failed)

    def start(
        self, work: Coroutine[Any, Any, T], name: str, *, is_awaited: bool = False
    ) -> "asyncio.Task[T]":
        """Run `work` once. After `close` it is cancelled before its first step.

        Args:
            name: for people: what is done.
            is_awaited: somebody awaits the task and gets its error, which is then no trouble.
        """
        task = asyncio.get_running_loop().create_task(_contained(work), name=self._full(name))
        task.add_done_callback(lambda _: work.close())  # where it was cancelled before its first step
        self._running[task] = None
        task.add_done_callback(self._awaited if is_awaited else self._ended)
        if self._is_closed:
            task.cancel()
        return task

    def keep(self, make: Callable[[], Coroutine[Any, Any, None]], name: str) -> "asyncio.Task[None]":
        """Run `make()` until it returns; when it raises, run `make()` again after a pause that grows."""
        return self.start(self._repeat(make, self._full(name)), name)

    async def close(self, grace_s: float = 0.0) -> None:
        """Let what runs end by itself for `grace_s`, then cancel it and wait. The calling task is left alone."""
        if grace_s and (others := self._others()):
            await asyncio.wait(others, timeout=grace_s)
        self._is_closed = True
        while others := self._others():
            for task in others:
                task.cancel()
            await asyncio.wait(others)

    def troubles(self) -> list[Trouble]:
        """What has failed lately, the latest last; of all parts."""
        now = asyncio.get_running_loop().time()
        for name, failed in list(self._failed.items()):
            if now - max(failed.at, failed.again_at or 0.0) >= (
                KEPT_S if failed.again_at is None else HEALTHY_S
            ):
                del self._failed[name]
        return [
            Trouble(
                name=name,
                reason=failed.reason,
                failures=failed.failures,
                again_in_s=None if failed.again_at is None else max(0.0, failed.again_at - now),
            )
            for name, failed in self._failed.items()
        ]

    def _full(self, name: str) -> str:
        return f"{self._name}: {name}" if self._name else name

    def _others(self) -> "list[asyncio.Task[Any]]":
        return [task for task in self._running if task is not asyncio.current_task()]

    async def _repeat(self, make: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        in_a_row = 0
        while True:
            began = loop.time()
            try:
                await make()
            except asyncio.CancelledError as error:
                if task is None or task.cancelling():
                    raise
                failure: BaseException = (
                    error  # something that it awaited was cancelled: nobody ends this work
                )
            except (Exception, SystemExit) as error:  # noqa: BLE001  (whatever it is: it is told, and begins anew)
                failure = error
            else:
                return
            in_a_row = 1 if loop.time() - began >= HEALTHY_S else in_a_row + 1
            pause_s = min(RESTART_MAX_S, RESTART_MIN_S * 2.0 ** min(in_a_row - 1, 20))
            log.error("background work '%s' failed; it starts again in %g s", name, pause_s, exc_info=failure)
            self._note(name, failure, loop.time() + pause_s, in_a_row)
            await asyncio.sleep(pause_s)

    def _awaited(self, task: "asyncio.Task[Any]") -> None:
        del self._running[task]
        if not task.cancelled():
            task.exception()  # whoever awaits the task gets it; nobody may be left who does

    def _ended(self, task: "asyncio.Task[Any]") -> None:
        del self._running[task]
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("background work '%s' failed", task.get_name(), exc_info=error)
            known = self._failed.get(task.get_name())
            self._note(task.get_name(), error, None, 1 + (known.failures if known is not None else 0))

    def _note(self, name: str, error: BaseException, again_at: float | None, failures: int) -> None:
        said = " ".join(str(error).split())
        reason = f"{type(error).__name__}: {said}" if said else type(error).__name__
        self._failed.pop(name, None)
        now = asyncio.get_running_loop().time()
        self._failed[name] = _Failed(reason[:REASON_CHARS_MAX], failures, now, again_at)
        while len(self._failed) > TROUBLES_MAX:
            del self._failed[next(iter(self._failed))]


async def _contained(work: Coroutine[Any, Any, T]) -> T:
    """`work`, whose `sys.exit` is a failure of its own and not the end of the loop that all share."""
    try:
        return await work
    except SystemExit as error:
        raise RuntimeError(f"it wanted to end the program: sys.exit({error.code!r})") from error
