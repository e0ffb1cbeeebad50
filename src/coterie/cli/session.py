"""Nodes inside this process: for one command, or until told to stop."""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from coterie.apps.command import Command
from coterie.apps.invoke import Event, Result, invoke
from coterie.cli.exit_status import EXIT_INTERRUPTED
from coterie.cli.offer import is_offered, offer_internet
from coterie.cli.options import Options
from coterie.cli.show import Show
from coterie.cli.terminal import LogFormatter, say, say_error
from coterie.errors import CoterieError, TransportError
from coterie.home import Home
from coterie.memory import give_back
from coterie.texts import tr

if TYPE_CHECKING:
    from coterie.node import Node

log = logging.getLogger(__name__)

LOG_BYTES_MAX = 4 * 1024 * 1024  # then the log starts anew; the one before is kept
REST_AFTER_S = 0.5  # guess: getting a small file is over by then
CLOSE_LIMIT_S = 1.7  # people wait 2 s at most after Ctrl-C; whatever is not closed by then is cut off


def run_alone(
    command: Command,
    parameters: Mapping[str, Any],
    home: Home,
    show: Show,
    how_to_go_on: tuple[str, ...],
    *,
    options: Options,
) -> None:
    """Open the node of `home` for one call. While it lasts, other command lines reach this node too."""
    _run(home, _alone(command, parameters, home, show, options), lambda: _say_interrupted(show, how_to_go_on))


def run_node(home: Home, ready: Callable[["Node", str], None]) -> None:
    """Run the node of `home` until Ctrl-C, SIGTERM or `coterie down`; `ready` gets it and the API's URL."""
    _run(home, _until_stopped(home, ready), lambda: None)


async def _alone(
    command: Command, parameters: Mapping[str, Any], home: Home, show: Show, options: Options
) -> None:
    from coterie.apps.invoke import read_parameters

    read_parameters(command, parameters)  # before the network is touched
    stop = asyncio.Event()
    first = command.app if command.needs == "others" else ""
    async with _opened(home, stop, offline=command.needs == "store", first=first) as node:
        service = node if command.app == "node" else node.service(command.app)
        calls = invoke(command, service, parameters, in_names=node.people.in_names)
        call = asyncio.ensure_future(_print_call(calls, show, options))
        stopped = asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait((call, stopped), return_when=asyncio.FIRST_COMPLETED)
            if not call.done():
                raise TransportError(tr("the node was stopped before the command was done"))
            call.result()
            if command.stays and not show.is_over:
                say(
                    "This computer serves it while this runs; Ctrl-C stops. "
                    "To keep a node running in the background: coterie up --background"
                )
                await stopped
        finally:
            for task in (call, stopped):
                task.cancel()
            await asyncio.gather(call, stopped, return_exceptions=True)


async def _print_call(calls: AsyncGenerator[Event | Result, None], show: Show, options: Options) -> None:
    async with contextlib.aclosing(calls) as items:
        async for item in items:
            line = item.line()
            show.line(line)
            if is_offered(line, options):
                await asyncio.to_thread(offer_internet, options)


async def _until_stopped(home: Home, ready: Callable[["Node", str], None]) -> None:
    stop = asyncio.Event()
    async with _opened(home, stop) as node:
        from coterie.control.client import Client

        gc.collect()
        gc.freeze()  # what is here now stays until the end: it is not looked through again and again
        give_back()  # what only the start needed
        ready(node, Client.find(home.api_file).url)
        await stop.wait()
        timer = cut_off_later(0)
    timer.cancel()


def _page(surroundings: Any) -> Any:
    """What browsers see; imported when the first one asks."""
    from coterie.web.page import make_page

    return make_page(surroundings)


def _show_phones(node: "Node", page: Any) -> None:
    """Show the page to phones, too, where that app runs."""
    from coterie.web.phones import show_phones

    show_phones(node, page)


@contextlib.asynccontextmanager
async def _opened(
    home: Home, stop: asyncio.Event, *, offline: bool = False, first: str = ""
) -> AsyncIterator["Node"]:
    """The node of `home`; unless offline, with its local API, and SIGTERM sets `stop`.

    `first`: the app of a command that is mostly over at once; what it does not need begins when it is not.
    """
    from coterie.node import Node

    _log_to(home)
    async with contextlib.AsyncExitStack() as stack:
        if not offline:
            stack.enter_context(_on_signal(signal.SIGTERM, stop.set))
        node = await stack.enter_async_context(Node.open(home.root, offline=offline, first=first))
        if not offline:
            await stack.enter_async_context(_served_later(node, stop) if first else _served(node, stop))
        gc.enable()
        yield node


@contextlib.asynccontextmanager
async def _served(node: "Node", stop: asyncio.Event) -> AsyncIterator[None]:
    """With the local API, so that other command lines reach `node`."""
    from coterie.control.server import serve

    async with serve(node, stop, _page, _show_phones):
        yield


@contextlib.asynccontextmanager
async def _served_later(node: "Node", stop: asyncio.Event) -> AsyncIterator[None]:
    """As `_served`, with the rest of the apps, from `REST_AFTER_S` on: a short command does not wait for them."""
    over = asyncio.Event()

    async def serve_until_over() -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(REST_AFTER_S):
                await over.wait()
        if not over.is_set():
            await node.start_rest()
            async with _served(node, stop):
                await over.wait()

    serving = node.tasks.start(serve_until_over(), "local API", is_awaited=True)
    try:
        yield
    finally:
        over.set()
        with contextlib.suppress(TransportError):  # its port is taken: the command did without
            await serving


def _run(home: Home, work: Coroutine[Any, Any, None], say: Callable[[], None]) -> None:
    """Run `work`; Ctrl-C cancels it, says so, and ends the process if closing takes too long."""
    interrupted = False

    async def interruptible() -> None:
        main = asyncio.current_task()

        def interrupt() -> None:
            nonlocal interrupted
            if interrupted:  # asked twice: at once
                os._exit(EXIT_INTERRUPTED)
            interrupted = True
            cut_off_later(EXIT_INTERRUPTED)
            say()
            if main is not None:
                main.cancel()

        with _on_signal(signal.SIGINT, interrupt):
            await work

    try:
        asyncio.run(interruptible())
    except asyncio.CancelledError:
        raise SystemExit(EXIT_INTERRUPTED) from None
    except (CoterieError, OSError):
        raise
    except Exception as error:
        log.exception("the node failed unexpectedly")
        error.add_note(f"the details are in {home.log_file}")
        raise


def _log_to(home: Home) -> None:
    """Warnings of the node and tracebacks of its background work belong in its log, not on the terminal."""
    from coterie.cli.private_log import PrivateLogHandler

    home.prepare()
    handler = PrivateLogHandler(home.log_file, maxBytes=LOG_BYTES_MAX, backupCount=1, delay=True)
    handler.setFormatter(LogFormatter())
    logging.getLogger().addHandler(handler)


@contextlib.contextmanager
def _on_signal(number: signal.Signals, act: Callable[[], None]) -> Iterator[None]:
    """Call `act` on the event loop when signal `number` comes, where loops can do that (not on Windows)."""
    loop = asyncio.get_running_loop()
    try:
        loop.add_signal_handler(number, act)
    except NotImplementedError:
        yield
        return
    try:
        yield
    finally:
        loop.remove_signal_handler(number)


def cut_off_later(status: int) -> threading.Timer:
    """End this process with `status` in `CLOSE_LIMIT_S`, whatever hangs; cancel it when nothing does."""

    def cut_off() -> None:
        sys.stderr.flush()
        os._exit(status)

    timer = threading.Timer(CLOSE_LIMIT_S, cut_off)
    timer.daemon = True
    timer.start()
    return timer


def _say_interrupted(show: Show, how_to_go_on: tuple[str, ...]) -> None:
    show.close()
    say_error(" ".join(how_to_go_on or ("interrupted",)))
