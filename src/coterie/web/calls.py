"""Calls of commands from the page: each goes on in the node until it is done, whatever page is open."""

import asyncio
import itertools
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from coterie.apps.command import Command
from coterie.apps.invoke import Event, Result, invoke, read_parameters
from coterie.control.answers import error_body
from coterie.control.browsers import Browser
from coterie.errors import LimitExceeded, NotFound
from coterie.tasks import Tasks
from coterie.texts import tr
from coterie.web.panels import service_of

RUNNING_MAX = 32  # at once, of all browsers; guess
RUNNING_FEW_MAX = 16  # of them, of browsers with few rights: the owner's are always begun
REMOVED_EVERY_S = 2.0  # so often it is asked whether browsers whose commands run were removed
KEPT_MAX = 64  # calls whose end can still be seen
EVENTS_MAX = 100  # that are shown of one call, the newest
QUICK_S = 1.0  # a call that ends within is shown with its end at once


@dataclass(slots=True)
class Call:
    """One call. `state`: "running", "done", "failed" or "cancelled"; `changed` grows with all that it tells."""

    id: str
    command: Command
    browser: str
    is_few: bool
    parameters: Mapping[str, Any]
    state: str = "running"
    progress: Mapping[str, Any] | None = None
    events: deque[Event] = field(default_factory=lambda: deque(maxlen=EVENTS_MAX))
    result: Result | None = None
    error: Mapping[str, str] | None = None
    changed: int = 0
    task: "asyncio.Task[None] | None" = None


@dataclass(frozen=True, slots=True)
class Seen:
    """A call as rows show it: equal while nothing has changed."""

    id: str
    changed: int
    call: Call = field(compare=False)


class Calls:
    """The calls of all browsers."""

    def __init__(self, node: Any, still: Callable[[Browser], Browser | None]) -> None:
        """`still` says whether a browser may still use the page: commands of one that was removed are stopped."""
        self._node = node
        self._still = still
        self._owners: dict[str, Browser] = {}  # whose commands run, by id
        self._watch: asyncio.Task[None] | None = None
        self._tasks: Tasks = node.tasks.part("page")
        self._calls: dict[str, Call] = {}
        self._numbers = itertools.count(1)

    def start(self, command: Command, parameters: Mapping[str, Any], browser: Browser) -> Call:
        """Begin a call.

        Raises:
            UsageError: the parameters are none of the command.
            LimitExceeded: RUNNING_MAX run already.
            NotFound: the app does not run.
        """
        is_few = not browser.may("")
        self._check_room(is_few)
        read_parameters(command, parameters)
        service = service_of(self._node, command.app)
        call = Call(str(next(self._numbers)), command, browser.id, is_few, parameters)
        self._calls[call.id] = call
        for old in [c.id for c in self._calls.values() if c.state != "running"][:-KEPT_MAX]:
            del self._calls[old]
        call.task = self._tasks.start(self._run(call, service), "a command", is_awaited=True)
        if self._still(browser) is not None:
            self._owners[browser.id] = browser
            if self._watch is None or self._watch.done():
                self._watch = self._tasks.start(self._stop_removed(), "commands of removed browsers")
        return call

    def _check_room(self, is_few: bool) -> None:
        """Raises `LimitExceeded`: too many commands run, of all or of those with few rights."""
        running = [call for call in self._calls.values() if call.state == "running"]
        most = RUNNING_FEW_MAX if is_few else RUNNING_MAX
        if len(running) >= RUNNING_MAX or (is_few and sum(call.is_few for call in running) >= most):
            raise LimitExceeded(tr("{running_max} commands run already: wait for one", running_max=most))

    async def _stop_removed(self) -> None:
        """While commands run: stop those of browsers that were removed."""
        while running := [call for call in self._calls.values() if call.state == "running"]:
            for call in running:
                owner = self._owners.get(call.browser)
                if owner is not None and self._still(owner) is None and call.task is not None:
                    call.task.cancel()
            await asyncio.sleep(REMOVED_EVERY_S)
        self._owners.clear()

    async def _run(self, call: Call, service: Any) -> None:
        try:
            items = invoke(call.command, service, call.parameters, in_names=self._node.people.in_names)
            async with aclosing(items):
                async for item in items:
                    self._note(call, item)
            call.state = "done"
        except asyncio.CancelledError:
            call.state = "cancelled"
            raise
        except Exception as error:  # noqa: BLE001 - the boundary: it is said to the browser, and logged if unexpected
            call.state, call.error = "failed", error_body(error)["error"]
        finally:
            call.changed += 1

    @staticmethod
    def _note(call: Call, item: Event | Result) -> None:
        if isinstance(item, Result):
            call.result = item
        elif item.kind == "Progress":
            call.progress = item.line()
        else:
            call.events.append(item)
        call.changed += 1

    def find(self, number: str, browser: Browser) -> Call:
        """The call with this number; of others only who may do everything sees one. Raises `NotFound`."""
        call = self._calls.get(number)
        if call is None or (call.browser != browser.id and not browser.may("")):
            raise NotFound(tr("this command is over, and no longer kept"))
        return call

    def all(self, browser: Browser) -> list[Call]:
        """Those that `browser` may see, the newest first."""
        return [c for c in reversed(self._calls.values()) if c.browser == browser.id or browser.may("")]

    def cancel(self, number: str, browser: Browser) -> Call:
        """End a call. Raises `NotFound`."""
        call = self.find(number, browser)
        if call.task is not None:
            call.task.cancel()
        return call

    @staticmethod
    async def quick(call: Call, seconds: float = QUICK_S) -> None:
        """Wait a moment for its end."""
        if call.task is not None:
            await asyncio.wait({call.task}, timeout=seconds)


def said(error: BaseException) -> dict[str, str]:
    """`error` as code and message, in the words of the command line."""
    return error_body(error)["error"]
