"""Tasks and calls that outlive whoever waits for them: cancelling a call of the QUIC wheel loses what it had got."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Tasks:
    """The tasks of one transport: none is lost, none outlives it, no error of theirs is reported twice."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()

    def start(self, work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        task = asyncio.get_running_loop().create_task(work)
        self._running.add(task)
        task.add_done_callback(self._done)
        return task

    async def end(self) -> None:
        """Give what is running one more turn to end by itself, then cancel it and wait."""
        if self._running:
            await asyncio.wait(self._running, timeout=0.05)
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(self._running)

    def _done(self, task: "asyncio.Task[Any]") -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # whoever awaits the task gets it


class Outliving(Generic[T]):
    """A call that goes on when its caller is cancelled; the next caller gets its result."""

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks
        self._task: asyncio.Task[T] | None = None

    async def __call__(self, call: Callable[[], Awaitable[T]]) -> T:
        """The result of the call under way, or of `call`."""
        task = self._task
        if task is None:
            task = self._task = self._tasks.start(_await(call))
        try:
            result = await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                self._task = None
            raise
        except BaseException:
            self._task = None
            raise
        self._task = None
        return result

    async def cancel(self) -> None:
        """Drop the call that is under way, with what it may have got."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task])


async def _await(call: Callable[[], Awaitable[T]]) -> T:
    return await call()


def is_cancelling() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
