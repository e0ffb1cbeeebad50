"""Progress that work tells by a callback, as the events of a command."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from coterie.progress import Progress


async def with_progress(
    work: Callable[[Callable[[Progress], None]], Coroutine[Any, Any, Any]],
) -> AsyncIterator[Any]:
    """Run `work(tell)`; yield the newest progress as it is told (older ones give way), then the result."""
    loop = asyncio.get_running_loop()
    newest: list[Progress] = []
    fresh = asyncio.Event()

    def put(step: Progress) -> None:
        newest[:] = [step]
        fresh.set()

    def tell(step: Progress) -> None:
        loop.call_soon_threadsafe(put, step)

    task = asyncio.ensure_future(work(tell))
    try:
        while not task.done():
            waiter = asyncio.ensure_future(fresh.wait())
            await asyncio.wait({task, waiter}, return_when=asyncio.FIRST_COMPLETED)
            waiter.cancel()
            if fresh.is_set():
                fresh.clear()
                yield newest[0]
        yield await task
    finally:
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
