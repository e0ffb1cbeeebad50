"""Calls that outlive whoever waits for them: cancelling a call of the QUIC wheel loses what it had got."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from coterie.tasks import Tasks

T = TypeVar("T")


class Outliving(Generic[T]):
    """A call that goes on when its caller is cancelled; the next caller gets its result."""

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks
        self._task: asyncio.Task[T] | None = None

    async def __call__(self, call: Callable[[], Awaitable[T]]) -> T:
        """The result of the call under way, or of `call`."""
        task = self._task
        if task is None:
            task = self._task = self._tasks.start(_await(call), "a call of the transport", is_awaited=True)
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
