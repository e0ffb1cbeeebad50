"""A thread that interrupts code of an app which keeps the event loop to itself.

All apps of a node share one event loop: a handler that computes without `await` stops everybody. The thread looks at
the processor time of the loop's thread; only while that is busy it asks the loop for a sign of life, so that an idle
node pays next to nothing. Processor time, not time on the wall: a machine that sleeps or is overloaded interrupts
nobody.

What cannot be stopped: a call into compiled code that does not return. The interruption comes when it does.
"""

import asyncio
import ctypes
import logging
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType

log = logging.getLogger(__name__)

LOOK_EVERY_S = 0.5
BUSY_SHARE = 0.5  # of the time between two looks: from here on the loop is asked for a sign of life
STUCK_S = 2.0  # of processor time in one step of the loop; our own longest measured step takes 0.1 s


class Stuck(BaseException):
    """Raised inside code that kept the event loop busy; no `except Exception` of that code catches it."""


class Watchdog:
    """Watches the loop of the thread that calls `start`."""

    def __init__(
        self,
        owner_of: Callable[[str], str | None],
        on_stuck: Callable[[str, str], None],
        *,
        stuck_s: float = STUCK_S,
    ) -> None:
        """
        Args:
            owner_of: the app that a module, by its name, belongs to; None: nobody who may be interrupted.
            on_stuck: called in the loop after an interruption, with the app and where its code was.
            stuck_s: seconds of processor time that one step of the loop may take.
        """
        self._owner_of = owner_of
        self._on_stuck = on_stuck
        self.stuck_s = stuck_s
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin. Raises RuntimeError outside a running loop."""
        loop, watched = asyncio.get_running_loop(), threading.get_ident()
        self._thread = threading.Thread(
            target=self._watch, args=(loop, watched, _clock_of(watched)), name="watchdog", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """End; waits for the thread."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    def _watch(self, loop: asyncio.AbstractEventLoop, watched: int, used: Callable[[], float]) -> None:
        before, asked_at, answered = used(), 0.0, threading.Event()
        answered.set()
        while not self._ended.wait(LOOK_EVERY_S):
            now = used()
            is_busy, before = now - before >= BUSY_SHARE * LOOK_EVERY_S, now
            if answered.is_set():
                if is_busy:
                    answered, asked_at = threading.Event(), now
                    if not _post(loop, answered.set):
                        return
            elif now - asked_at >= self.stuck_s:
                asked_at = now
                self._interrupt(loop, watched)

    def _interrupt(self, loop: asyncio.AbstractEventLoop, watched: int) -> None:
        found = self._find(watched)
        if found is None:
            return
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(watched), ctypes.py_object(Stuck))
        if self._find(watched) is None:  # it came to an end in this moment: nobody else is to be hit
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(watched), None)
            return
        app, place = found
        log.error("the app '%s' kept the node busy for %g s in %s: interrupted", app, self.stuck_s, place)
        _post(loop, lambda: self._on_stuck(app, place))

    def _find(self, watched: int) -> tuple[str, str] | None:
        """The innermost code of an app that the watched thread is in: the app, and "module.function, line 7"."""
        frame: FrameType | None = sys._current_frames().get(watched)
        while frame is not None:
            module = str(frame.f_globals.get("__name__", ""))
            if (app := self._owner_of(module)) is not None:
                return app, f"{module}.{frame.f_code.co_name}, line {frame.f_lineno}"
            frame = frame.f_back
        return None


def _clock_of(thread: int) -> Callable[[], float]:
    """Seconds of processor time of a thread; of time on the wall where the system has no such clock."""
    if not hasattr(time, "pthread_getcpuclockid"):
        return time.monotonic
    clock = time.pthread_getcpuclockid(thread)
    return lambda: time.clock_gettime(clock)


def _post(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> bool:
    """Have `call` made in the loop; False when the loop is closed."""
    try:
        loop.call_soon_threadsafe(call)
    except RuntimeError:
        return False
    return True
