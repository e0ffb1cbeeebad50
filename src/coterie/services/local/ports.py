"""The table of ports: what apps serve to other programs on this machine, where, for whom, and whether it is on."""

import contextlib
import logging
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import msgspec

from coterie.decoding import decoder
from coterie.errors import LimitExceeded, NotFound, StorageError, UsageError
from coterie.private_file import write_private
from coterie.services.local.descriptors import raise_limit
from coterie.services.local.listeners import LOOPBACK, Listener
from coterie.tasks import Tasks
from coterie.texts import tr

PORTS_MAX = 256  # of one node; guess: more than anybody looks through
SECRET_BYTES = 32

log = logging.getLogger(__name__)


class PortLine(msgspec.Struct, frozen=True, kw_only=True):
    """One line of `coterie services`.

    Fields:
        name: app/name.
        kind: "tcp", "udp", "http" or "unix".
        address: "127.0.0.1:4000", or the path of a socket; "" while it is off.
        users: who may use it.
        connections: open now.
        refused: connections, requests or datagrams of others that were not served, since the start.
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
    """What is kept of a port over restarts: its number, whether it was switched off, what programs must show."""

    port: int = 0
    is_off: bool = False
    secret: str = ""


class Port:
    """One port of one app, on or off. Made by `Local`."""

    def __init__(self, table: "Ports", name: str, listener: Listener, *, note: str = "") -> None:
        self.name = name
        self.note = note
        self._table = table
        self._listener = listener

    @property
    def address(self) -> str:
        """ "127.0.0.1:4000", or the path of a socket; "" while it is off."""
        return self._listener.address

    @property
    def number(self) -> int:
        """Of the port; 0 while it is off, and of a Unix socket."""
        return self._listener.number

    @property
    def connections(self) -> int:
        """Programs that are served now."""
        return self._listener.connections

    @property
    def secret(self) -> str:
        """What a program has to show, as a bearer token or as the password of Basic; "" where nothing is asked."""
        return self._listener.secret

    @property
    def url(self) -> str:
        """Where to open a browser, with the secret: for the owner's eyes only. "" while it is off, or not HTTP."""
        if not (self._listener.secret and self.number):
            return ""
        return f"http://{LOOPBACK}:{self.number}/?secret={self._listener.secret}"

    async def close(self) -> None:
        """Serve nobody any more and leave the table; connections end."""
        await self.stop()
        self._table.forget(self)

    def start(self, number: int) -> None:
        """Listen. Raises `UsageError` when the port is not to be had."""
        self._listener.start(number)

    async def stop(self) -> None:
        """Listen no more, end every connection."""
        await self._listener.stop()

    def line(self) -> PortLine:
        """For the list."""
        return PortLine(
            name=self.name,
            kind=self._listener.kind,
            address=self.address,
            users=self._listener.users,
            state="on" if self.address else "off",
            connections=self.connections,
            refused=self._listener.refused,
            note=self.note,
        )


class Ports:
    """The table of one node. All methods belong to its event loop."""

    def __init__(self, path: Path, tasks: Tasks) -> None:
        """`path`: the file that keeps numbers, switches and secrets."""
        self.tasks = tasks
        self._path = path
        self._ports: dict[str, Port] = {}
        self._claims: list[Callable[[], Mapping[tuple[str, int], str]]] = []
        self._saved = self._load()

    def claim(self, own: Callable[[], Mapping[tuple[str, int], str]]) -> None:
        """`own()` says what of the node itself listens at each port ("tcp" or "udp", number), besides this table's."""
        self._claims.append(own)

    def owner_of(self, kind: str, where: int | str) -> str:
        """What of this node listens at a port of this machine, or at the path of a Unix socket; empty: nothing."""
        for port in self._ports.values():
            if where in (port.number, port.address) and port.line().kind.replace("http", "tcp") == kind:
                return tr("the service {name} (`coterie services`)", name=port.name)
        if isinstance(where, str):
            return ""
        return next((said for own in self._claims if (said := own().get((kind, where), ""))), "")

    def lines(self) -> list[PortLine]:
        """Every port, by name."""
        return [port.line() for _, port in sorted(self._ports.items())]

    def secret_of(self, name: str) -> str:
        """What programs show at the port of this name: the same after a restart, until the port is closed for good."""
        saved = self._saved.setdefault(name, _Saved())
        if not saved.secret:
            saved.secret = secrets.token_urlsafe(SECRET_BYTES)
            self._save()
        return saved.secret

    async def switch(self, name: str, *, is_on: bool, number: int = 0) -> PortLine:
        """Turn a port on or off; that is kept over restarts. `number`: where it is from now on; 0: where it was.

        Raises `NotFound`, and `UsageError` as `open`: then it is as before.
        """
        port = self._ports.get(name)
        if port is None:
            raise NotFound(
                tr("no app serves '{name}' here; `coterie services` lists what is served", name=name)
            )
        saved = self._saved.setdefault(name, _Saved())
        was_on = bool(port.address)
        if not is_on or (number and number != port.number):
            await port.stop()
        if is_on and not port.address:
            try:
                port.start(number or saved.port)
            except UsageError:
                if was_on:
                    port.start(saved.port)
                raise
            saved.port = port.number
        saved.is_off = not is_on
        self._save()
        return port.line()

    def open(self, port: Port, number: int = 0, *, is_on: bool = True) -> None:
        """Take a port into the table and listen, unless its owner has switched it off.

        `number` 0: the one it had before, else any that is free. `is_on` False: it stays closed until its owner
        switches it on for the first time.

        Raises:
            UsageError: it is not to be had.
            LimitExceeded: PORTS_MAX are open.
        """
        if port.name in self._ports:
            raise UsageError(tr("'{port}' is served already; `coterie services` shows where", port=port.name))
        if len(self._ports) >= PORTS_MAX:
            raise LimitExceeded(
                tr("{ports_max} ports are open already; close some first", ports_max=PORTS_MAX)
            )
        raise_limit()
        saved = self._saved.get(port.name) or _Saved(is_off=not is_on)
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
