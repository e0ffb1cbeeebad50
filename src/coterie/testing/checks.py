"""What suites and tests of apps are written with: a run on a fresh event loop, and an error that has to come."""

import asyncio
import gc
import re
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

T = TypeVar("T")
E = TypeVar("E", bound=BaseException)


def run(
    work: Coroutine[Any, Any, T],
    timeout_s: float = 30.0,
    *,
    make_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop,
) -> T:
    """Run `work` on a fresh event loop. Fails on time-out, on tasks left behind, on errors that nobody took."""
    unexpected: list[str] = []

    async def bounded() -> T:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: unexpected.append(repr(context)))
        before = asyncio.all_tasks()
        async with asyncio.timeout(timeout_s):
            result = await work
        await asyncio.sleep(0)
        left = [t for t in asyncio.all_tasks() - before if not t.done()]
        assert not left, f"tasks left behind: {left}"
        return result

    with asyncio.Runner(loop_factory=make_loop) as runner:
        result = runner.run(bounded())
    gc.collect()
    assert not unexpected, unexpected
    return result


class Raised(Generic[E]):
    """The error that came: in `value`, behind the block."""

    value: E


@contextmanager
def raised(kind: type[E], match: str = "") -> Iterator[Raised[E]]:
    """The block has to raise `kind`, with a text in which the pattern `match` is found; else AssertionError."""
    found: Raised[E] = Raised()
    try:
        yield found
    except kind as error:
        found.value = error
        if not re.search(match, str(error)):
            raise AssertionError(f"{error!r} does not match {match!r}") from error
    else:
        raise AssertionError(f"{kind.__name__} was not raised")
