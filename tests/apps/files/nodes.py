"""Whole nodes for the tests of `files`: in this process over the memory network, and as processes over QUIC."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from coterie.identity import PeerId, load_or_create_key
from coterie.net import MemoryNetwork
from coterie.node import Node
from coterie.transfer.messages import Open
from coterie.transfer.proof import prove
from coterie.wire import Ticket

START_S = 60.0  # an import of everything, on a machine that is busy with much else


def opening(ticket: Ticket, asker: PeerId, root: bytes = b"") -> Open:
    """What `asker` says first to the ticket's peer; `root` instead of the ticket's content."""
    root = root or ticket.content_id
    return Open(root, prove(ticket.secret, bytes(asker), bytes(ticket.peer), root))


@contextlib.asynccontextmanager
async def memory_node(network: MemoryNetwork, home: Path) -> AsyncIterator[Node]:
    """A node in this process, reached through `network`."""
    home.mkdir(mode=0o700, exist_ok=True)
    key = load_or_create_key(home / "key")
    async with Node.open(home, transport=network.bind(key.peer_id)) as node:
        yield node


@contextlib.asynccontextmanager
async def pair(folder: Path) -> AsyncIterator[tuple[Node, Node]]:
    """Two nodes, anna and ben, that can reach each other."""
    network = MemoryNetwork()
    async with (
        memory_node(network, folder / "home-anna") as anna,
        memory_node(network, folder / "home-ben") as ben,
    ):
        yield anna, ben


async def befriend(one: Node, other: Node) -> None:
    """Make two running nodes contacts of each other."""
    async with one.contacts.invite() as invitation:
        await other.contacts.join(invitation.invited.ticket)


@contextlib.asynccontextmanager
async def friends(folder: Path) -> AsyncIterator[tuple[Node, Node]]:
    """As `pair`, and they are contacts."""
    async with pair(folder) as (anna, ben):
        await befriend(anna, ben)
        yield anna, ben


def prepare_home(home: Path) -> Path:
    """A home whose node stays on loopback."""
    home.mkdir(mode=0o700, exist_ok=True)
    (home / "config.toml").write_text('bind = "127.0.0.1"\n')
    return home


def coterie(home: Path, *words: str, **options: Any) -> "subprocess.CompletedProcess[str]":
    """One command line, to its end."""
    command = [sys.executable, "-m", "coterie", "--home", str(home), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=110, check=False, **options)


def start(home: Path, *words: str, **options: Any) -> "subprocess.Popen[str]":
    """One command line, running."""
    command = [sys.executable, "-m", "coterie", "--home", str(home), *words]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True, **options)


def result(done: "subprocess.CompletedProcess[str]") -> Any:
    """The result that a command with --json printed last."""
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


class RunningNode:
    """A node in a process of its own; `kill` is -9."""

    def __init__(self, home: Path) -> None:
        self.home = prepare_home(home)
        self.up()

    def up(self) -> None:
        """Start it, and wait until it answers."""
        (self.home / "run" / "api.json").unlink(missing_ok=True)
        self.process = start(self.home, "up")
        deadline = time.monotonic() + START_S
        while not (self.home / "run" / "api.json").exists():
            assert self.process.poll() is None, self.process.communicate()
            if time.monotonic() > deadline:
                self.kill()  # nobody else would end it
                raise AssertionError("the node did not start")
            time.sleep(0.02)

    def call(self, *words: str) -> Any:
        """A command to it, its result."""
        return result(coterie(self.home, "--json", *words))

    def kill(self) -> None:
        """Kill it without a chance to tidy up."""
        self.process.send_signal(signal.SIGKILL)
        self._reap()

    def stop(self) -> None:
        """End it as Ctrl-C does."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        self._reap()

    def _reap(self) -> None:
        self.process.communicate(timeout=START_S)


@contextlib.contextmanager
def running_node(home: Path) -> Iterator[RunningNode]:
    """A node in a process of its own while the block runs."""
    node = RunningNode(home)
    try:
        yield node
    finally:
        node.stop()


def tree_of(folder: Path) -> dict[str, Any]:
    """Everything in a folder that a transfer keeps: kind, bytes, times, executable bit, link texts."""
    found: dict[str, Any] = {}
    for base, folders, files in os.walk(folder):
        for name in folders + files:
            path = Path(base, name)
            status = path.lstat()
            key = str(path.relative_to(folder))
            if path.is_symlink():
                found[key] = ("link", os.readlink(path))
            elif path.is_dir():
                found[key] = ("folder", status.st_mtime_ns)
            else:
                found[key] = ("file", path.read_bytes(), status.st_mtime_ns, bool(status.st_mode & 0o100))
    return found
