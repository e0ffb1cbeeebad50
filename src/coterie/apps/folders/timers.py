"""Calls that are due later, all of which can be stopped. Belongs to the event loop."""

import asyncio
from collections.abc import Callable


class Timers:
    """Of one owner."""

    def __init__(self) -> None:
        self._handles: dict[asyncio.TimerHandle, None] = {}

    def start(self, seconds: float, call: Callable[[], None]) -> None:
        """`call` in so many seconds."""

        def fire() -> None:
            self._handles.pop(handle, None)
            call()

        handle = asyncio.get_running_loop().call_later(seconds, fire)
        self._handles[handle] = None

    def close(self) -> None:
        """Nothing is called any more."""
        for handle in self._handles:
            handle.cancel()
        self._handles.clear()
