"""The table of ports: what apps serve to other programs on this machine, where, for whom, and whether it is on."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Literal

import msgspec

from coterie.decoding import decoder
from coterie.errors import LimitExceeded, NotFound, StorageError, UsageError
from coterie.private_file import write_private
from coterie.services.local.callers import caller_of, can_ask, is_trusted
from coterie.services.local.descriptors import raise_limit
from coterie.tasks import Tasks

PORTS_MAX = 256  # of one node; guess: more than anybody looks through
CONNECTIONS_MAX = 2_500  # of one port; 2,000 and some room. Who comes later waits in the kernel's queue
BACKLOG = 1_024  # connections that the kernel holds before they are accepted
FULL_S = 0.1  # before accepting again when the process has no file descriptor left; guess
LOOPBACK, EVERYWHERE = "127.0.0.1", "0.0.0.0"  # noqa: S104  (with --lan only)

Serve = Callable[[socket.socket], Awaitable[None]]
"""Gets one connection, not blocking, until it returns; the port closes the socket."""

log = logging.getLogger(__name__)


class PortLine(msgspec.Struct, frozen=True, kw_only=True):
    """One line of `coterie services`.

    Fields:
        name: app/name.
        address: "127.0.0.1:4000", or the path of a socket; "" while it is off.
        users: who may use it.
        connections: open now.
        refused: connections of others that were closed unserved, since the start.
        note: what it is for.
    """

    name: str
    kind: str
    address: str
    users: str
    state: Literal["on", "off"]
    connections: int
    refused: int
    note: str = ""


class _Saved(msgspec.Struct, omit_defaults=True):
    """What is kept of a port over restarts: its number, and whether it was switched off."""

    port: int = 0
    is_off: bool = False


class Port:
    """One port of one app, on or off. Made by `Local`."""

    def __init__(self, table: "Ports", name: str, *, is_lan: bool, note: str, serve: Serve) -> None:
        self.name = name
        self.note = note
        self.is_lan = is_lan
        self.connections = self.refused = 0
        self._table = table
        self._serve = serve
        self._server: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._room = asyncio.Semaphore(CONNECTIONS_MAX)
        self._open: dict[asyncio.Task[None], None] = {}

    @property
    def number(self) -> int:
        """The TCP port; 0 while it is off."""
        return int(self._server.getsockname()[1]) if self._server is not None else 0

    async def close(self) -> None:
        """Serve nobody any more and leave the table; connections end."""
        await self.stop()
        self._table.forget(self)

    def start(self, number: int) -> None:
        """Listen. Raises `UsageError` when the port is not to be had."""
        server = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            server.setblocking(False)
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.bind((EVERYWHERE if self.is_lan else LOOPBACK, number))
            server.listen(BACKLOG)
        except OSError as error:
            server.close()
            raise UsageError(
                f"port {number} cannot be opened: {error.strerror}; choose another with --port"
            ) from None
        self._server = server
        self._accepting = self._table.tasks.keep(partial(self._accept, server), f"the port {self.name}")

    async def stop(self) -> None:
        """Listen no more, end every connection."""
        if self._server is None:
            return
        server, self._server = self._server, None
        ending = [task for task in (self._accepting, *self._open) if task is not None]
        for task in ending:
            task.cancel()
        await asyncio.wait(ending)
        server.close()

    def line(self) -> PortLine:
        """For the list."""
        is_on = self._server is not None
        host = EVERYWHERE if self.is_lan else LOOPBACK
        return PortLine(
            name=self.name,
            kind="tcp",
            address=f"{host}:{self.number}" if is_on else "",
            users="everybody on the local network" if self.is_lan else "you",
            state="on" if is_on else "off",
            connections=self.connections,
            refused=self.refused,
            note=self.note,
        )

    async def _accept(self, server: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._room.acquire()
            try:
                accepted, _ = await loop.sock_accept(server)
            except OSError as error:  # no descriptor is left, or who came has gone
                self._room.release()
                log.info("port %s: %s", self.name, error)
                await asyncio.sleep(FULL_S)
                continue
            except asyncio.CancelledError:
                self._room.release()
                raise
            if not (self.is_lan or is_trusted(caller_of(accepted))):
                self.refused += 1
                self._room.release()
                accepted.close()
                continue
            task = self._table.tasks.start(self._answer(accepted), f"a connection to {self.name}")
            self._open[task] = None
            task.add_done_callback(partial(self._ended, accepted))
            self.connections += 1

    async def _answer(self, accepted: socket.socket) -> None:
        accepted.setblocking(False)
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await self._serve(accepted)

    def _ended(self, accepted: socket.socket, task: "asyncio.Task[None]") -> None:
        """Also where it never had its first step."""
        accepted.close()
        self._open.pop(task, None)
        self.connections -= 1
        self._room.release()


class Ports:
    """The table of one node. All methods belong to its event loop."""

    def __init__(self, path: Path, tasks: Tasks) -> None:
        """`path`: the file that keeps numbers and switches."""
        self.tasks = tasks
        self._path = path
        self._ports: dict[str, Port] = {}
        self._saved = self._load()

    def lines(self) -> list[PortLine]:
        """Every port, by name."""
        return [port.line() for _, port in sorted(self._ports.items())]

    async def switch(self, name: str, *, is_on: bool) -> PortLine:
        """Turn a port on or off; that is kept over restarts. Raises `NotFound`, and `UsageError` as `open`."""
        port = self._ports.get(name)
        if port is None:
            raise NotFound(f"no app serves '{name}' here; `coterie services` lists what is served")
        saved = self._saved.setdefault(name, _Saved())
        if is_on and not port.number:
            port.start(saved.port)
            saved.port = port.number
        elif not is_on:
            await port.stop()
        saved.is_off = not is_on
        self._save()
        return port.line()

    def open(self, port: Port, number: int) -> None:
        """Take a port into the table and listen, unless its owner has switched it off.

        `number` 0: the one it had before, else any that is free.

        Raises:
            UsageError: it is not to be had, or the system does not tell whose programs come.
            LimitExceeded: PORTS_MAX are open.
        """
        if port.name in self._ports:
            raise UsageError(f"'{port.name}' is served already; `coterie services` shows where")
        if len(self._ports) >= PORTS_MAX:
            raise LimitExceeded(f"{PORTS_MAX} ports are open already; close some first")
        if not (port.is_lan or can_ask()):
            raise UsageError(
                "this system does not tell whose programs connect, so the port would be open to all its users; "
                "--lan opens it to them and to the local network"
            )
        raise_limit()
        saved = self._saved.get(port.name) or _Saved()
        if not saved.is_off:
            try:
                port.start(number or saved.port)
            except UsageError:
                if number or not saved.port:
                    raise
                port.start(0)  # another program has the number that it had before
        self._ports[port.name] = port
        if port.number and port.number != saved.port:
            saved.port = port.number
            self._saved[port.name] = saved
            self._save()

    def forget(self, port: Port) -> None:
        """It is closed for good."""
        if self._ports.get(port.name) is port:
            del self._ports[port.name]
        if self._saved.pop(port.name, None) is not None:
            self._save()

    async def leave(self, app: str) -> None:
        """The app ends: its ports close, and are as they were when it starts again."""
        for name in [name for name in self._ports if name.startswith(f"{app}/")]:
            await self._ports.pop(name).stop()

    def _load(self) -> dict[str, _Saved]:
        try:
            return _read_saved(self._path.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, StorageError) as error:
            log.warning("%s cannot be read, ports get other numbers: %s", self._path, error)
            return {}

    def _save(self) -> None:
        with contextlib.suppress(
            StorageError
        ):  # the ports work all the same; `doctor` shows a disk that is full
            write_private(self._path, msgspec.json.encode(self._saved))


@decoder(StorageError, "the table of ports")
def _read_saved(raw: bytes) -> dict[str, _Saved]:
    return msgspec.json.decode(raw, type=dict[str, _Saved])


class Local:
    """The ports of one app: what it gets as `Context.local`."""

    def __init__(self, table: Ports, app: str) -> None:
        self._table = table
        self._app = app

    def tcp(self, name: str, serve: Serve, *, number: int = 0, lan: bool = False, note: str = "") -> Port:
        """Serve TCP to programs of this user, or with `lan` to everybody on the local network. Errors as `Ports.open`.

        Connections of other users of this machine are closed before `serve` hears of them.
        """
        port = Port(self._table, f"{self._app}/{name}", is_lan=lan, note=note, serve=serve)
        self._table.open(port, number)
        return port

    async def close(self) -> None:
        """The app ends."""
        await self._table.leave(self._app)
