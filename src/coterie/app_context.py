"""The `Context` of one app: what it may touch of its node, bound to its name, taken back when it ends."""

import functools
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from coterie.access.enforcer import Enforcer
from coterie.access.people import People
from coterie.apps.app import App, Handler, Neighbours, Network, PeerNetwork
from coterie.content import Store
from coterie.content.versions import Versions
from coterie.errors import AccessDenied, UsageError
from coterie.home import Config
from coterie.identity import PeerId
from coterie.net import Connection, Endpoint
from coterie.net.find.outside import Outside
from coterie.services.data.service import Data
from coterie.services.directory.core import Provider
from coterie.services.directory.service import Directory, Inside
from coterie.services.jobs.service import AppJobs, Jobs
from coterie.services.local import Local, Ports
from coterie.services.tell.service import Notices, Tell
from coterie.tasks import Tasks
from coterie.wire import Protocol as WireProtocol

if TYPE_CHECKING:
    from coterie.services.mail.box import MailBox
    from coterie.services.mail.room import MailRoom


class Grounds(Protocol):
    """What a context takes from its node."""

    peer_id: PeerId
    name: str
    config: Config
    store: Store
    versions: Versions
    endpoint: Endpoint | None
    neighbours: Neighbours | None
    people: People
    tasks: Tasks
    access: Enforcer
    directory: Directory
    notices: Notices
    jobs: Jobs
    ports: Ports
    app_data: dict[str, Data]

    @property
    def addresses(self) -> list[str]: ...

    def ticket_addresses(self) -> tuple[str, ...]: ...

    def outside(self) -> Outside: ...

    async def settled(self) -> None: ...

    async def connect(
        self, peer: PeerId, hints: Sequence[str] = (), *, own: Sequence[str] = ()
    ) -> Connection: ...

    def peer_network(
        self, register: Callable[..., None], sign: Callable[[bytes], bytes]
    ) -> PeerNetwork | None: ...

    def service(self, app: str) -> Any: ...

    def mail_room(self) -> "MailRoom": ...


class AppContext:
    """See `coterie.apps.app.Context`."""

    def __init__(self, node: Grounds, app: App, *, home: Path, sign: Callable[[bytes], bytes]) -> None:
        """`home`: the app's own folder. `sign`: by the node's key."""
        self._node = node
        self._app = app
        self.peer_id: PeerId = node.peer_id
        self.home: Path = home
        self.store: Store = node.store
        self.versions = node.versions
        self.name: str = node.name
        self.local = Local(node.ports, app.name, home)
        self._tasks = node.tasks.part(app.name)
        self._sign = sign
        for kind in app.kinds:
            node.access.declare(kind)
        self._protocols: list[str] = []
        self._is_withdrawn = False
        self._mail: MailBox | None = None
        self._data: Data | None = None

    @property
    def neighbours(self) -> Neighbours | None:
        return self._node.neighbours

    @property
    def network(self) -> Network | None:
        if self._node.endpoint is None:
            return None
        config = self._node.config
        return Network(
            level=config.reach, bind=config.bind, dht_nodes=config.dht_nodes(), dht_private=config.dht_private
        )

    @property
    def peer_network(self) -> PeerNetwork | None:
        return self._node.peer_network(self.register, self.sign)

    @property
    def access(self) -> Enforcer:
        return self._node.access

    @property
    def people(self) -> People:
        return self._node.people

    @property
    def data(self) -> Data:
        if self._data is None:
            name = self._app.name
            settings = self._node.config.app.get(name, {})
            self._data = Data(self.home, name, settings, functools.partial(self._node.notices.tell, name))
            self._node.app_data[name] = self._data
        return self._data

    @property
    def jobs(self) -> AppJobs:
        return AppJobs(self._node.jobs, self._app.name)

    @property
    def tell(self) -> Tell:
        return Tell(self._node.notices, self._app.name)

    @property
    def mail(self) -> "MailBox":
        if self._mail is None:
            if self._is_withdrawn:
                raise UsageError(f"the app '{self._app.name}' has ended")
            tasks = self._node.tasks.part(self._app.name)
            self._mail = self._node.mail_room().box(
                self._app.name, self.home, tasks, functools.partial(self.tell.say, key="mail")
            )
        return self._mail

    def addresses(self) -> list[str]:
        return self._node.addresses

    def ticket_addresses(self) -> tuple[str, ...]:
        return self._node.ticket_addresses()

    def outside(self) -> Outside:
        return self._node.outside()

    async def settled(self) -> None:
        await self._node.settled()

    def register(self, protocol: WireProtocol, handler: Handler, *, strangers: bool = False) -> None:
        if not strangers:
            self._node.access.open_protocol(protocol.name, strangers=False)
        if self._node.endpoint is not None and not self._is_withdrawn:
            self._node.endpoint.register(protocol, handler, strangers=strangers)
            self._protocols.append(protocol.name)

    async def connect(
        self, peer: PeerId, addresses: Sequence[str] = (), *, own: Sequence[str] = ()
    ) -> Connection:
        return await self._node.connect(peer, addresses, own=own)

    def offer(self, kind: str, offers: Provider, inside: Inside | None = None) -> None:
        if all(kind != declared.name for declared in self._app.kinds):
            raise UsageError(f"the app '{self._app.name}' offers '{kind}', a kind that it has not declared")
        self._node.directory.add(kind, offers, inside)

    def watch(self, up: Callable[[PeerId], None], down: Callable[[PeerId], None]) -> None:
        if self._node.endpoint is not None:
            self._node.endpoint.watch(up=self._told(up), down=self._told(down))

    def sign(self, message: bytes) -> bytes:
        if not message.startswith(self._app.signs):
            raise AccessDenied(f"the app '{self._app.name}' signs what it has not declared")
        return self._sign(message)

    def start(self, work: Coroutine[Any, Any, None], name: str) -> None:
        self._tasks.start(work, name)

    def keep(self, make: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
        self._tasks.keep(make, name)

    def api(self, app: str) -> Any:
        if app not in self._app.requires:
            raise UsageError(f"the app '{self._app.name}' does not name '{app}' in its requires")
        return self._node.service(app)

    async def withdraw(self) -> None:
        """Take everything back: no stream reaches the app any more, no work of it goes on."""
        self._is_withdrawn = True
        for kind in self._app.kinds:
            self._node.directory.remove(kind.name)
        await self._node.jobs.withdraw(self._app.name)
        if self._node.endpoint is not None:
            for name in self._protocols:
                self._node.endpoint.unregister(name)
        if self._mail is not None:
            await self._node.mail_room().close_box(self._app.name)
        await self.local.close()
        await self._tasks.close()
        if self._data is not None:
            self._node.app_data.pop(self._app.name, None)
            self._data.close()

    def _told(self, listener: Callable[[PeerId], None]) -> Callable[[Connection], None]:
        def tell(connection: Connection) -> None:
            if not self._is_withdrawn:
                listener(connection.peer)

        return tell
