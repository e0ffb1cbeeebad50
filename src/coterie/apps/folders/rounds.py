"""Does something in rounds until nothing is left of it: soon again at first, then with growing waits, or when woken."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence


class Rounds:
    """Belongs to the event loop."""

    def __init__(self, again_s: Sequence[float]) -> None:
        """`again_s`: how long is waited after each round in a row that brought nothing; the last one from then on."""
        self._again_s = again_s
        self._wake = asyncio.Event()

    def look_again(self) -> None:
        """There may be more to do, or more may come of it."""
        self._wake.set()

    async def run(self, work: Callable[[], Awaitable[tuple[int, int]]]) -> None:
        """Work until cancelled. `work()` is one round: (how much is left that may still be done, how much is done)."""
        tries = 0
        while True:
            self._wake.clear()
            left, done = await work()
            tries = 0 if done else tries
            wait_s = self._again_s[min(tries, len(self._again_s) - 1)] if left else None
            tries += not done
            try:
                async with asyncio.timeout(wait_s):
                    await self._wake.wait()
                    tries = 0
            except TimeoutError:
                continue
