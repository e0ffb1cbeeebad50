"""Waits for programs of this machine on a TCP port or a Unix socket, and lets in those of this user only."""

import asyncio
import contextlib
import logging
import os
import socket
import stat
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Protocol

from coterie.errors import UsageError
from coterie.services.local.callers import caller_of, is_trusted
from coterie.tasks import Tasks
from coterie.texts import tr

CONNECTIONS_MAX = 2_500  # of one port; 2,000 and some room. Who comes later waits in the kernel's queue
BACKLOG = 1_024  # connections that the kernel holds before they are accepted
FULL_S = 0.1  # before accepting again when the process has no file descriptor left; guess
LOOPBACK, EVERYWHERE = "127.0.0.1", "0.0.0.0"  # noqa: S104  (with --lan only)
UNIX_PATH_BYTES_MAX = 107  # sun_path of Linux, with its end

Serve = Callable[[socket.socket], Awaitable[None]]
"""Gets one connection, not blocking, until it returns; the port closes the socket."""

log = logging.getLogger(__name__)


class Listener(Protocol):
    """What stands behind one port: it listens between `start` and `stop`, again and again."""

    @property
    def kind(self) -> str:
        """ "tcp", "udp", "http" or "unix"."""
        ...

    @property
    def users(self) -> str:
        """Who may use it, for people."""
        ...

    @property
    def connections(self) -> int:
        """Programs that are served now."""
        ...

    @property
    def refused(self) -> int:
        """Connections (of UDP: datagrams; of HTTP: requests, too) of others that were not served."""
        ...

    @property
    def secret(self) -> str:
        """What programs must show; "" where the kernel alone tells whose they are."""
        ...

    @property
    def address(self) -> str:
        """Where it listens; "" while it does not."""
        ...

    @property
    def number(self) -> int:
        """Of the port; 0 while it does not listen, or has none."""
        ...

    def start(self, number: int) -> None:
        """Listen at that port, 0: any. Raises `UsageError` when it is not to be had."""
        ...

    async def stop(self) -> None:
        """Listen no more, end every connection."""
        ...


class StreamListener:
    """Connections of a TCP port, or of the Unix socket at `path`."""

    secret = ""

    def __init__(
        self,
        name: str,
        serve: Serve,
        tasks: Tasks,
        *,
        is_lan: bool = False,
        path: Path | None = None,
        also: "Callable[[int], bool] | None" = None,
    ) -> None:
        """`also`: which other users, by their ids, are let in for now."""
        self.kind = "tcp" if path is None else "unix"
        self.users = "everybody on the local network" if is_lan else "you"
        self.connections = self.refused = 0
        self._name = name
        self._serve = serve
        self._tasks = tasks
        self._is_lan = is_lan
        self._also = also
        self._path = path
        self._server: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._room = asyncio.Semaphore(CONNECTIONS_MAX)
        self._open: dict[asyncio.Task[None], None] = {}

    @property
    def number(self) -> int:
        return self._server.getsockname()[1] if self._server is not None and self._path is None else 0

    @property
    def address(self) -> str:
        if self._server is None:
            return ""
        return str(self._path) if self._path is not None else address_of(self._server)

    def start(self, number: int) -> None:
        """Raises `UsageError` when the port or path is not to be had."""
        server = bound_path(self._path) if self._path is not None else bound(number, is_lan=self._is_lan)
        server.listen(BACKLOG)
        self._server = server
        self._accepting = self._tasks.keep(partial(self._accept, server), f"the port {self._name}")

    async def stop(self) -> None:
        """Listen no more, end every connection."""
        if self._server is None:
            return
        server, self._server = self._server, None
        ending = [task for task in (self._accepting, *self._open) if task is not None]
        for task in ending:
            task.cancel()
        await asyncio.wait(ending)
        if self._path is not None:
            self._path.unlink(missing_ok=True)
        server.close()

    async def _accept(self, server: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._room.acquire()
            try:
                accepted, _ = await loop.sock_accept(server)
            except OSError as error:  # no descriptor is left, or who came has gone
                self._room.release()
                log.info("port %s: %s", self._name, error)
                await asyncio.sleep(FULL_S)
                continue
            except asyncio.CancelledError:
                self._room.release()
                raise
            if not (self._is_lan or self._is_let_in(caller_of(accepted))):
                self.refused += 1
                self._room.release()
                accepted.close()
                continue
            task = self._tasks.start(self._answer(accepted), f"a connection to {self._name}")
            self._open[task] = None
            task.add_done_callback(partial(self._ended, accepted))
            self.connections += 1

    def _is_let_in(self, user: int | None) -> bool:
        return is_trusted(user) or (user is not None and self._also is not None and self._also(user))

    async def _answer(self, accepted: socket.socket) -> None:
        accepted.setblocking(False)
        if self._path is None:
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await self._serve(accepted)

    def _ended(self, accepted: socket.socket, task: "asyncio.Task[None]") -> None:
        """Also where it never had its first step."""
        accepted.close()
        self._open.pop(task, None)
        self.connections -= 1
        self._room.release()


def address_of(server: socket.socket) -> str:
    """ "127.0.0.1:4000"."""
    host, number = server.getsockname()[:2]
    return f"{host}:{number}"


def bound(number: int, *, is_lan: bool, sort: int = socket.SOCK_STREAM) -> socket.socket:
    """A socket, not blocking, bound to a port of loopback or of every interface. Raises `UsageError`."""
    made = socket.socket(socket.AF_INET, sort)
    try:
        made.setblocking(False)
        if sort == socket.SOCK_STREAM:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((EVERYWHERE if is_lan else LOOPBACK, number))
    except OSError as error:
        made.close()
        raise UsageError(
            tr(
                "port {number} cannot be opened: {strerror}; choose another with --port",
                number=number,
                strerror=error.strerror,
            )
        ) from None
    return made


def bound_path(path: Path) -> socket.socket:
    """A Unix socket at `path`, which only this user and root may open. A socket where nobody listens is replaced.

    Raises:
        UsageError: `path` is too long, is something else, or another program listens there.
    """
    if len(os.fsencode(path)) > UNIX_PATH_BYTES_MAX:
        raise UsageError(
            tr(
                "{path} is too long for a Unix socket: {unix_path_bytes_max} bytes at most",
                path=path,
                unix_path_bytes_max=UNIX_PATH_BYTES_MAX,
            )
        )
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        made.setblocking(False)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        _clear(path)
        made.bind(str(path))
        path.chmod(0o600)  # nobody gets in before `listen`
    except OSError as error:
        made.close()
        raise UsageError(
            tr("the socket {path} cannot be made: {strerror}", path=path, strerror=error.strerror)
        ) from None
    except UsageError:
        made.close()
        raise
    return made


def _clear(path: Path) -> None:
    """Remove a socket that a program left behind."""
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise UsageError(tr("{path} is there already and is no socket; move it away", path=path))
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as trying:
            try:
                trying.connect(str(path))
            except ConnectionRefusedError:
                path.unlink()
            else:
                raise UsageError(tr("another program listens at {path}", path=path))
