"""Virtual time for asyncio: an event loop that never waits.

When nothing is ready it jumps to the next timer, so hours of timeouts pass in milliseconds. It has no
sockets, and threads only when asked to run their work in place: with one seed a program runs the same way in
every process.
"""

import asyncio
import math
from asyncio import events, futures, tasks
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from random import Random
from typing import Any, NoReturn, TypeVar

from coterie.errors import CoterieError, UsageError
from coterie.sim.replay import replay_command

T = TypeVar("T")

STEPS_AT_ONE_INSTANT_MAX = 1_000_000  # turns of the loop without time moving: a program that spins; guess
PENDING_NAMED_MAX = 20  # tasks named in the message about a deadlock


class Deadlock(CoterieError):
    """Virtual time cannot go on: every task waits for something that nothing will bring."""

    code = "deadlock"


class _Task(tasks.Task[Any]):
    """A task whose place in a set does not depend on its address: `asyncio.wait` and others keep sets."""

    def __init__(self, coro: Any, *, loop: "VirtualTimeLoop", **options: Any) -> None:
        self._serial = loop.next_serial()
        super().__init__(coro, loop=loop, **options)

    def __hash__(self) -> int:
        return self._serial


class _Future(futures.Future[Any]):
    """A future with the same property."""

    def __init__(self, *, loop: "VirtualTimeLoop") -> None:
        self._serial = loop.next_serial()
        super().__init__(loop=loop)

    def __hash__(self) -> int:
        return self._serial


class _Waiter:
    """Stands where a real loop has its selector: waiting is moving the clock."""

    def __init__(self, loop: "VirtualTimeLoop") -> None:
        self._loop = loop
        self._steps = 0

    def select(self, timeout: float | None) -> list[Any]:
        if timeout is None:
            raise Deadlock(_describe_pending(self._loop))
        if timeout > 0:
            self._steps = 0
            self._loop.advance(timeout)
        else:
            self._steps += 1
            if self._steps > STEPS_AT_ONE_INSTANT_MAX:
                self._steps = 0
                raise Deadlock(
                    f"time stands still at {self._loop.time():.6f} s: {STEPS_AT_ONE_INSTANT_MAX} turns "
                    "without a wait. Does something loop over `sleep(0)`?"
                )
        return []


class VirtualTimeLoop(asyncio.BaseEventLoop):
    """An asyncio loop whose `time()` starts at 0.0 s and moves only when everything waits.

    Args:
        threads_inline: run what goes to `to_thread` or an executor in place, at once, instead of refusing it.
    """

    def __init__(self, *, threads_inline: bool = False) -> None:
        self._virtual_now = 0.0
        self._serial = 0
        super().__init__()
        self._threads_inline = threads_inline
        self._selector = _Waiter(self)
        self._clock_resolution = 1e-9

    def thread_time(self) -> float:
        """Processor time in virtual seconds: no work takes any, so that budgets of it do not depend on the machine."""
        return 0.0

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._virtual_now

    def advance(self, timeout_s: float) -> None:
        """Move the clock on to the next timer; asyncio would have waited `timeout_s`, a day at most."""
        scheduled = getattr(self, "_scheduled", [])  # asyncio's own heap: its first entry is not cancelled
        self._virtual_now = scheduled[0].when() if scheduled else self._virtual_now + timeout_s
        self._clock_resolution = max(1e-9, 2 * math.ulp(self._virtual_now))

    def next_serial(self) -> int:
        """A number for each task and future, in the order of their making."""
        self._serial += 1
        return self._serial

    def create_future(self) -> "asyncio.Future[Any]":
        """A future of this loop."""
        return _Future(loop=self)

    def create_task(self, coro: Any, **options: Any) -> "asyncio.Task[Any]":
        """A task of this loop."""
        return _Task(coro, loop=self, **options)

    def call_soon_threadsafe(  # type: ignore[override]
        self, callback: Any, *args: Any, context: Any = None
    ) -> events.Handle:
        """As `call_soon`: there is one thread."""
        return self.call_soon(callback, *args, context=context)

    def run_in_executor(  # type: ignore[override]
        self, executor: Executor | None, func: Callable[..., T], *args: Any
    ) -> "asyncio.Future[T]":
        """Run `func` in place when `threads_inline`, else refuse: threads have no virtual time."""
        if not self._threads_inline:
            _refuse("threads")
        future: asyncio.Future[T] = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - it belongs to whoever awaits the call, as with a real thread
            future.set_exception(error)
        return future

    def _process_events(self, event_list: list[Any]) -> None:
        """Nothing comes from outside."""

    def _write_to_self(self) -> None:
        """Nobody else can wake this loop."""


def _refuse(what: str) -> NoReturn:
    raise UsageError(
        f"virtual time has no {what}: use coterie.sim's networks, or a real event loop with real sockets"
    )


def _refusing(what: str) -> Callable[..., NoReturn]:
    def refuse(*_args: Any, **_options: Any) -> NoReturn:
        _refuse(what)

    return refuse


_OUTSIDE = {
    "sockets": """create_connection create_server create_datagram_endpoint create_unix_connection
        create_unix_server connect_accepted_socket sendfile start_tls getaddrinfo getnameinfo sock_recv
        sock_recv_into sock_recvfrom sock_sendall sock_sendto sock_connect sock_accept sock_sendfile
        add_reader add_writer""",
    "pipes and child processes": "connect_read_pipe connect_write_pipe subprocess_exec subprocess_shell",
}
for _what, _names in _OUTSIDE.items():
    for _method in _names.split():
        setattr(VirtualTimeLoop, _method, _refusing(_what))


def _describe_pending(loop: VirtualTimeLoop) -> str:
    """Each pending task with the place where it waits."""
    pending = sorted(asyncio.all_tasks(loop), key=hash)
    lines = [f"  {task.get_name()} {_place(task)}" for task in pending[:PENDING_NAMED_MAX]]
    if len(pending) > PENDING_NAMED_MAX:
        lines.append(f"  and {len(pending) - PENDING_NAMED_MAX} more")
    what = "\n".join(lines) or "  (no task at all)"
    return f"deadlock at {loop.time():.6f} s: nothing is ready and no timer is set. Pending:\n{what}"


def _place(task: "asyncio.Task[Any]") -> str:
    stack = task.get_stack(limit=1)
    if not stack:
        return "not started"
    code = stack[-1].f_code
    return f"in {code.co_qualname} ({code.co_filename}:{stack[-1].f_lineno})"


def run(
    main: Callable[[Random], Coroutine[Any, Any, T]], seed: int = 0, *, threads_inline: bool = False
) -> T:
    """Run `main(random)` to its end in virtual time, with a generator seeded by `seed`.

    What is still pending at the end is cancelled. An exception that leaves `main` carries the seed, and the command
    that replays it, as a note.
    Raises Deadlock when nothing can go on.
    """
    with asyncio.Runner(loop_factory=lambda: VirtualTimeLoop(threads_inline=threads_inline)) as runner:
        try:
            return runner.run(main(Random(seed)))  # noqa: S311 - a reproducible test, not a secret
        except BaseException as error:
            error.add_note(f"in virtual time with seed {seed}; to replay: {replay_command(seed)}")
            raise
