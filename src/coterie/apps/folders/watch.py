"""Tells where in a folder to look again: by the kernel's events where there are such, after sleep, and by a timer.

On Linux the kernel's inotify, elsewhere the package `watchfiles` if it is installed; without either, and for folders
that the system allows no watch for, the timer alone. What comes from here is a hint (`hints`), never the truth.
"""

import asyncio
import contextlib
import importlib
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from coterie.apps.folders import inotify
from coterie.apps.folders.hints import ALL, NONE, Clocks, Hints, hints_of, jumped
from coterie.content.names import is_reserved
from coterie.tasks import Tasks
from coterie.texts import tr

if TYPE_CHECKING:
    from types import ModuleType

RESCAN_S = 600.0  # everything is looked at so often, events or not; guess
RESCAN_UNWATCHED_S = 60.0  # where some changes give no event
RESCAN_SHARE = 300.0  # and never more often than so many times as long as it takes: 0.3 % of a core
TICK_S = 10.0  # the clocks are looked at so often
QUIET_MS = 30  # of watchfiles


class Watch:
    """Watches one folder: ask for what is `next` in one task, and `close` it."""

    def __init__(self, root: str, tasks: Tasks, *, clocks: Callable[[], Clocks] | None = None) -> None:
        """`root`: absolute and real; it may be away for a while. `clocks`: what shows sleep."""
        self._tasks = tasks.part("")
        self._root = root
        self._clocks = clocks or clocks_now
        self._before = self._clocks()
        self._looked = self._before.running  # at everything
        self._waiting = NONE
        self._news = asyncio.Event()
        self._inotify: inotify.Inotify | None = None
        self._is_foreign = False
        self._foreign_stop = asyncio.Event()
        self._note = ""
        self._scan_s = 0.0
        self._loop = asyncio.get_running_loop()
        self._begin()

    @property
    def note(self) -> str:
        """What the owner should know: that changes are found late, and why. Empty: they are found at once."""
        return self._note or (self._inotify.note if self._inotify is not None else "")

    def scan_took(self, seconds: float) -> None:
        """So long it took to look at everything; it is done the more seldom."""
        self._scan_s = seconds

    async def next(self) -> Hints:
        """Wait, and say where to look; the first says everywhere, once all is watched. What came meanwhile is joined.

        For one task at a time, which may be cancelled.
        """
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK_S):
                    await self._news.wait()
            now = self._clocks()
            if jumped(self._before, now) or now.running - self._looked >= self._rescan_s:
                self._add(ALL)
            self._before = now
            if self._news.is_set():
                self._news.clear()
                found, self._waiting = self._waiting, NONE
                if found.is_all:
                    self._looked = now.running
                return found

    async def close(self) -> None:
        """Stop watching."""
        if self._inotify is not None:
            await asyncio.to_thread(self._inotify.close)
            self._inotify = None
        self._foreign_stop.set()
        await self._tasks.close()

    @property
    def _rescan_s(self) -> float:
        is_sure = not self._is_foreign and not self.note
        return max(RESCAN_S if is_sure else RESCAN_UNWATCHED_S, RESCAN_SHARE * self._scan_s)

    def _begin(self) -> None:
        if inotify.is_here():
            try:
                self._inotify = inotify.Inotify(self._root, self._told, is_reserved)
                return
            except OSError as error:
                self._note = tr(
                    "{root} is not watched ({strerror}; fs.inotify.max_user_instances): changes are found a minute or "
                    "more later",
                    root=self._root,
                    strerror=error.strerror,
                )
        elif (module := _watchfiles()) is not None:
            self._is_foreign = True
            self._tasks.keep(lambda: self._follow(module), f"watch {self._root}")
        else:
            self._note = tr(
                "{root} is not watched: changes are found a minute or more later; `pip install watchfiles` finds them "
                "at once",
                root=self._root,
            )
        self._add(ALL)

    def _told(self, hints: Hints) -> None:
        """In the thread of the kernel's events."""
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._add, hints)

    def _add(self, hints: Hints) -> None:
        self._waiting = self._waiting.joined(hints)
        self._news.set()

    async def _follow(self, module: "ModuleType") -> None:
        """Take hints from watchfiles; it loses some in silence, so what is there is looked at by the timer, too."""
        while True:
            try:
                changes: Any = module.awatch(
                    self._root,
                    watch_filter=None,
                    debounce=QUIET_MS,
                    step=QUIET_MS,
                    stop_event=self._foreign_stop,
                )
                async for found in changes:
                    self._add(hints_from(self._root, [path for _, path in found]))
            except OSError:  # the folder is away; `_rescan_s` goes on
                pass
            await asyncio.sleep(TICK_S)
            self._add(ALL)


def hints_from(root: str, paths: list[str]) -> Hints:
    """The hints of absolute `paths` at or below `root`; what has a name of coterie's own is left out."""
    local = [path[len(root) :].strip("/\\").replace("\\", "/") for path in paths]
    own = [path for path in local if not any(is_reserved(part) for part in path.split("/"))]
    return hints_of(own, (), own)


def clocks_now() -> Clocks:
    """What the clocks show."""
    awake = time.monotonic()
    boot = getattr(time, "CLOCK_BOOTTIME", None)
    return Clocks(awake, time.clock_gettime(boot) if boot is not None else awake, time.time())


def _watchfiles() -> "ModuleType | None":
    try:
        return importlib.import_module("watchfiles")
    except ImportError:
        return None
