"""`coterie up` and `coterie down`: start and stop the node of a home."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from coterie.cli.options import Options, global_options, remember
from coterie.cli.terminal import say
from coterie.control.client import Client, NoRunningNode, is_alive
from coterie.errors import CoterieError, StorageError, TransportError
from coterie.home import Home
from coterie.texts import tr

if TYPE_CHECKING:
    from coterie.node import Node

START_TIMEOUT_S = 30.0  # guess: a first start that compiles everything on a small, busy computer took 11 s
STOP_TIMEOUT_S = 10.0
POLL_S = 0.05
LAST_WORDS_BYTES_MAX = 64 * 1024


def _up(home: Home, options: Options, background: bool) -> None:
    running = answering(home)
    if background:
        if running is None:
            start_in_background(home)
        elif not options.quiet:
            say("already running")
        client = running or Client.find(home.api_file)
        said = client.get("/api/v1/status")
        _announce(
            options,
            said
            | {"pid": client.pid, "page": f"{client.url}/", "api": client.url, "log": str(home.log_file)},
        )
        return
    if running is not None:
        raise StorageError(
            tr(
                "another coterie (pid {pid}) already runs in {root}; use `coterie down` or another --home",
                pid=running.pid,
                root=home.root,
            )
        )
    from coterie.apps.invoke import to_plain
    from coterie.cli.session import run_node

    def ready(node: "Node", url: str) -> None:
        status: dict[str, Any] = to_plain(node.status())
        _announce(
            options,
            {"peer_id": str(node.peer_id)} | status | {"pid": os.getpid(), "page": f"{url}/", "api": url},
        )
        if not options.quiet:
            say("Ctrl-C stops")

    run_node(home, ready)


def _announce(options: Options, said: dict[str, Any]) -> None:
    from coterie.cli.show import Show

    keys = ("peer_id", "addresses", "page", "api", "pid", "log")
    Show(options).line({"result": {key: said[key] for key in keys if key in said}})


def answering(home: Home) -> Client | None:
    """The node of `home` that answers, or None; the lock says whether anything else holds the home."""
    try:
        client = Client.find(home.api_file)
        client.get("/api/v1/status", timeout_s=2.0)
    except CoterieError:
        return None
    return client


def start_in_background(home: Home) -> None:
    """Start the node of `home` in a process of its own.

    Raises:
        TransportError, StorageError: it does not start; says why.
    """
    home.prepare()
    descriptor = os.open(home.log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(descriptor, "ab") as log:
        start = log.seek(0, os.SEEK_END)
        child = subprocess.Popen(  # noqa: S603 - ourselves
            [sys.executable, "-m", "coterie", "--home", str(home.root), "up"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=home.root,
            **_detached(),
        )
    if not wait_for(START_TIMEOUT_S, lambda: child.poll() is not None or _answers(home, child.pid)):
        raise TransportError(
            tr(
                "the node (pid {pid}) did not answer within {start_timeout_s:g} s; its log is {log_file}",
                pid=child.pid,
                start_timeout_s=START_TIMEOUT_S,
                log_file=home.log_file,
            )
        )
    if child.poll() is not None:
        raise StorageError(_last_words(home, start) or f"the node ended at once; its log is {home.log_file}")


def _detached() -> dict[str, Any]:
    if os.name == "nt":
        flags = ("DETACHED_PROCESS", "CREATE_NEW_PROCESS_GROUP")
        return {"creationflags": sum(getattr(subprocess, flag, 0) for flag in flags)}
    return {"start_new_session": True}


def _answers(home: Home, pid: int) -> bool:
    try:
        client = Client.find(home.api_file)
        client.get("/api/v1/status", timeout_s=1.0)
    except CoterieError:
        return False
    return client.pid == pid


def _last_words(home: Home, start: int) -> str:
    """What the node said last in its log since byte `start`, without our own name in front."""
    with home.log_file.open("rb") as log:
        log.seek(start)
        lines = log.read(LAST_WORDS_BYTES_MAX).decode(errors="replace").split("\n")
    said = [line.removeprefix("coterie: ").strip() for line in lines if line.startswith("coterie: ")]
    return said[-1] if said else next((line.strip() for line in reversed(lines) if line.strip()), "")


def _down(home: Home, options: Options) -> None:
    from coterie.cli.show import Show

    try:
        client = Client.find(home.api_file)
    except NoRunningNode:
        if home.lock_holder() is not None:
            raise
        Show(options).line({"result": {"pid": None}, "text": "no coterie runs here: nothing to stop"})
        return
    stuck = TransportError(tr("the node (pid {pid}) does not stop; end it with: kill {pid}", pid=client.pid))
    try:
        client.shutdown()
    except NoRunningNode:
        raise
    except TransportError:
        raise stuck from None
    if not wait_for(STOP_TIMEOUT_S, lambda: not is_alive(client.pid) or home.lock_holder() != client.pid):
        raise stuck
    Show(options).line({"result": {"pid": client.pid}, "text": f"stopped (pid {client.pid})"})


def wait_for(timeout_s: float, done: Callable[[], bool]) -> bool:
    """Whether `done()` became true within `timeout_s`."""
    end = time.monotonic() + timeout_s
    while not done():
        if time.monotonic() > end:
            return False
        time.sleep(POLL_S)
    return True


@click.pass_context
def _call_up(context: click.Context, /, background: bool, **given: Any) -> None:
    options = remember(context, given)
    _up(Home.locate(options.home), options, background)


@click.pass_context
def _call_down(context: click.Context, /, **given: Any) -> None:
    options = remember(context, given)
    _down(Home.locate(options.home), options)


UP = click.Command(
    name="up",
    help="Start the node: serve what is shared, until Ctrl-C.",
    params=[
        click.Option(["--background"], is_flag=True, help="Return at once and keep it running."),
        *global_options(),
    ],
    callback=_call_up,
)
DOWN = click.Command(
    name="down", help="Stop the running node.", params=[*global_options()], callback=_call_down
)
