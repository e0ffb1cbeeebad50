"""What one app gets as `Context.local`: servers for other programs on this machine, and programs that it runs."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from coterie.errors import UsageError
from coterie.services.local.callers import can_ask
from coterie.services.local.flows import ServeFlow, UdpListener
from coterie.services.local.listeners import Listener, Serve, StreamListener
from coterie.services.local.ports import Port, Ports
from coterie.tasks import Tasks
from coterie.texts import tr

if TYPE_CHECKING:
    from coterie.services.local.http_port import Asgi, Handler
    from coterie.services.local.processes import Limits, Process, Processes


class Local:
    """The ports and processes of one app. Other users of the machine and web pages are kept out of all of them."""

    def __init__(self, table: Ports, app: str, folder: Path) -> None:
        """`folder`: the app's own, where its Unix sockets are."""
        self._table = table
        self._app = app
        self._folder = folder
        self._processes: Processes | None = None

    def tcp(
        self,
        name: str,
        serve: Serve,
        *,
        number: int = 0,
        lan: bool = False,
        note: str = "",
        also: Callable[[int], bool] | None = None,
    ) -> Port:
        """Serve TCP to programs of this user, or with `lan` to everybody on the local network. Errors as `Ports.open`.

        Connections of other users of this machine are closed before `serve` hears of them, but for those that `also`
        says are of use, by their user ids: daemons that the owner asked for.

        Raises:
            UsageError: the system does not tell whose programs come, too.
        """
        full = self._name(name, is_open=lan)
        return self._open(
            full, StreamListener(full, serve, self._table.tasks, is_lan=lan, also=also), number, note
        )

    def udp(self, name: str, serve: ServeFlow, *, number: int = 0, lan: bool = False, note: str = "") -> Port:
        """Serve UDP: `serve` gets a `Flow` for each address that sends. For whom, and errors, as `tcp`."""
        full = self._name(name, is_open=lan)
        return self._open(full, UdpListener(full, serve, self._table.tasks, is_lan=lan), number, note)

    def http(
        self, name: str, app: "Asgi | Handler", *, number: int = 0, lan: bool = False, note: str = ""
    ) -> Port:
        """Serve an ASGI application, or a handler of one `starlette` request, to who shows `Port.secret`.

        For whom as `tcp`; where the system does not tell whose programs come, the secret alone decides. Requests that
        a web page of another site makes are refused. Errors as `Ports.open`.
        """
        from coterie.services.local.http_port import HttpListener

        full, tasks = self._name(name, is_open=True), self._table.tasks
        listener = HttpListener(full, app, tasks, secret=self._table.secret_of(full), is_lan=lan)
        return self._open(full, listener, number, note)

    def unix(self, name: str, serve: Serve, *, path: Path | None = None, note: str = "") -> Port:
        """Serve a Unix socket, HOME/apps/APP/NAME.sock or `path`, to programs of this user and root.

        Errors as `Ports.open`.
        """
        full = self._name(name, is_open=True)
        where = path or self._folder / f"{name.replace('/', '-')}.sock"
        return self._open(full, StreamListener(full, serve, self._table.tasks, path=where), 0, note)

    def claim(self, own: Callable[[], Mapping[tuple[str, int], str]]) -> None:
        """`own()` says what of the app listens by itself at which port ("tcp" or "udp", number); see `owner_of`."""
        self._table.claim(own)

    def owner_of(self, kind: str, where: int | str) -> str:
        """What of this node, of whatever app, listens there: see `Ports.owner_of`."""
        return self._table.owner_of(kind, where)

    def port(
        self, name: str, make: Callable[[str, Tasks], Listener], *, note: str = "", is_on: bool = True
    ) -> Port:
        """Take a listener of the app's own, which keeps out itself whom it does not serve, into the table of ports.

        `make` gets its full name, and the owner of its work. `is_on` False: closed until the owner switches it on.
        Errors as `Ports.open`.
        """
        full = self._name(name, is_open=True)
        return self._open(full, make(full, self._table.tasks), 0, note, is_on=is_on)

    def secret_of(self, name: str) -> str:
        """What programs may have to show at the port of this name, kept over restarts: for listeners of one's own."""
        return self._table.secret_of(f"{self._app}/{name}")

    async def switch(self, name: str, *, is_on: bool, number: int = 0) -> None:
        """Turn a port of this app on or off, as `coterie services` does, at that port. As `Ports.switch`."""
        await self._table.switch(f"{self._app}/{name}", is_on=is_on, number=number)

    async def run(
        self,
        name: str,
        words: Sequence[str],
        *,
        limits: "Limits | None" = None,
        environment: dict[str, str] | None = None,
        folder: Path | None = None,
    ) -> "Process":
        """Run a program until it ends, the app stops it, or the app or the node ends. See `processes.Processes.run`."""
        if self._processes is None:
            from coterie.services.local.processes import Processes

            self._processes = Processes(self._app, self._folder, self._table.tasks)
        return await self._processes.run(name, words, limits=limits, environment=environment, folder=folder)

    async def close(self) -> None:
        """The app ends."""
        await self._table.leave(self._app)
        if self._processes is not None:
            await self._processes.close()

    def _name(self, name: str, *, is_open: bool) -> str:
        if not (is_open or can_ask()):
            raise UsageError(
                tr(
                    "this system does not tell whose programs connect, so the port would be open to all its "
                    "users; --lan opens it to them and to the local network"
                )
            )
        return f"{self._app}/{name}"

    def _open(self, name: str, listener: Listener, number: int, note: str, *, is_on: bool = True) -> Port:
        port = Port(self._table, name, listener, note=note)
        self._table.open(port, number, is_on=is_on)
        return port
