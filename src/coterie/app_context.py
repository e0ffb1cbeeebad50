"""The `Context` of one app: what it may touch of its node, bound to its name, taken back when it ends."""

import functools
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from coterie.access.enforcer import Enforcer
from coterie.access.people import People
from coterie.apps.app import App
from coterie.apps.context import ANSWER_S, Handler, Neighbours, Network, PeerNetwork
from coterie.content.versions import Versions
from coterie.errors import AccessDenied, PeerError, TransportError, UsageError
from coterie.identity import PeerId
from coterie.net import Connection, Endpoint, Stream
from coterie.net.ahead import Ahead
from coterie.net.find.outside import Outside
from coterie.reach_note import ReachNote
from coterie.services.blobs import BlobExchange, BlobFolder, Blobs
from coterie.services.data.service import Data
from coterie.services.directory.core import Provider
from coterie.services.directory.service import Directory, Inside
from coterie.services.jobs.service import AppJobs, Jobs
from coterie.services.local import Local, Ports
from coterie.services.tell.service import Notices, Tell
from coterie.settings import Config
from coterie.tasks import Tasks
from coterie.texts import tr
from coterie.wire import Protocol as WireProtocol
from coterie.wire.frames import Message
from coterie.wire.knock import Right

if TYPE_CHECKING:
    from coterie.services.mail.box import MailBox
    from coterie.services.mail.room import MailRoom


class Grounds(Protocol):
    """What a context takes from its node."""

    peer_id: PeerId
    name: str
    config: Config
    blobs: BlobFolder
    blob_exchange: BlobExchange
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
    kept: dict[str, Data | Blobs]
    reach_note: ReachNote
    knock_rights: list[Callable[[bytes], Iterable[bytes]]]

    @property
    def addresses(self) -> list[str]: ...

    def ticket_addresses(self) -> tuple[str, ...]: ...

    def outside(self) -> Outside: ...

    async def settled(self) -> None: ...

    async def connect(
        self,
        peer: PeerId,
        hints: Sequence[str] = (),
        *,
        own: Sequence[str] = (),
        right: Right | None = None,
        ahead: Ahead | None = None,
    ) -> Connection: ...

    def peer_network(
        self, register: Callable[..., None], sign: Callable[[bytes], bytes]
    ) -> PeerNetwork | None: ...

    def mail_room(self) -> "MailRoom": ...


class AppMe:
    """See `coterie.apps.context.Me`."""

    def __init__(self, node: Grounds, app: App, sign: Callable[[bytes], bytes]) -> None:
        """`sign`: by the node's key."""
        self._node = node
        self._app = app
        self._sign = sign
        self.peer_id: PeerId = node.peer_id
        self.name: str = node.name

    @property
    def person(self) -> PeerId:
        return next(iter(self._node.people.standing(self.peer_id).persons), self.peer_id)

    def addresses(self) -> list[str]:
        return self._node.addresses

    def ticket_addresses(self) -> tuple[str, ...]:
        return self._node.ticket_addresses()

    async def settled(self) -> None:
        await self._node.settled()

    def outside(self) -> Outside:
        return self._node.outside()

    def outside_note(self) -> str:
        return self._node.reach_note.say(self._node.outside())

    def sign(self, message: bytes) -> bytes:
        if not message.startswith(self._app.signs):
            raise AccessDenied(tr("the app '{name}' signs what it has not declared", name=self._app.name))
        return self._sign(message)


class AppNet:
    """See `coterie.apps.context.Net`."""

    def __init__(self, node: Grounds, app: App, me: AppMe) -> None:
        self._node = node
        self._app = app
        self._me = me
        self._protocols: list[str] = []
        self._knock_rights: list[Callable[[bytes], Iterable[bytes]]] = []
        self._is_withdrawn = False

    @property
    def reach(self) -> Network | None:
        if self._node.endpoint is None:
            return None
        config = self._node.config
        return Network(
            level=config.reach, bind=config.bind, dht_nodes=config.dht_nodes(), dht_private=config.dht_private
        )

    @property
    def neighbours(self) -> Neighbours | None:
        return self._node.neighbours

    @property
    def overlay(self) -> PeerNetwork | None:
        return self._node.peer_network(self.register, self._me.sign)

    def register(self, protocol: WireProtocol, handler: Handler, *, strangers: bool = False) -> None:
        if not strangers:
            self._node.access.open_protocol(protocol.name, strangers=False)
        if self._node.endpoint is not None and not self._is_withdrawn:
            self._node.endpoint.register(protocol, handler, strangers=strangers)
            self._protocols.append(protocol.name)

    def offer(self, kind: str, offers: Provider, inside: Inside | None = None) -> None:
        if all(kind != declared.name for declared in self._app.kinds):
            raise UsageError(
                tr(
                    "the app '{name}' offers '{kind}', a kind that it has not declared",
                    name=self._app.name,
                    kind=kind,
                )
            )
        self._node.directory.add(kind, offers, inside)

    async def connect(
        self,
        peer: PeerId,
        addresses: Sequence[str] = (),
        *,
        own: Sequence[str] = (),
        right: Right | None = None,
        ahead: Ahead | None = None,
    ) -> Connection:
        return await self._node.connect(peer, addresses, own=own, right=right, ahead=ahead)

    def admit_knocks(self, secrets: Callable[[bytes], Iterable[bytes]]) -> None:
        self._node.knock_rights.append(secrets)
        self._knock_rights.append(secrets)

    async def open(self, peer: PeerId, protocol: WireProtocol) -> Stream:
        return await (await self.connect(peer)).open_stream(protocol)

    async def ask(
        self, peer: PeerId, protocol: WireProtocol, message: Message, *, timeout_s: float = ANSWER_S
    ) -> Message:
        try:
            async with await self.open(peer, protocol) as stream:
                await stream.send(message)
                answer = await stream.receive(timeout_s)
        except TimeoutError:
            raise TransportError(tr("{short} is connected but does not answer", short=peer.short)) from None
        if not isinstance(answer, Message):
            raise PeerError(f"{peer.short} did not answer as coterie does")
        return answer

    def watch(self, up: Callable[[PeerId], None], down: Callable[[PeerId], None]) -> None:
        if self._node.endpoint is not None:
            self._node.endpoint.watch(up=self._told(up), down=self._told(down))

    def withdraw(self) -> None:
        """No stream reaches the app any more, and nothing of it is offered."""
        self._is_withdrawn = True
        for kind in self._app.kinds:
            self._node.directory.remove(kind.name)
        for secrets in self._knock_rights:
            self._node.knock_rights.remove(secrets)
        if self._node.endpoint is not None:
            for name in self._protocols:
                self._node.endpoint.unregister(name)

    def _told(self, listener: Callable[[PeerId], None]) -> Callable[[Connection], None]:
        def tell(connection: Connection) -> None:
            if not self._is_withdrawn:
                listener(connection.peer)

        return tell


class AppContext:
    """See `coterie.apps.context.Context`."""

    def __init__(self, node: Grounds, app: App, *, home: Path, sign: Callable[[bytes], bytes]) -> None:
        """`home`: the app's own folder. `sign`: by the node's key."""
        for kind in app.kinds:
            node.access.declare(kind)
        self._node = node
        self._name = app.name
        self._home = home
        self._tasks = node.tasks.part(app.name)
        self._is_withdrawn = False
        self._mail: MailBox | None = None
        self._data: Data | None = None
        self.me = AppMe(node, app, sign)
        self.people = node.people
        self.net = AppNet(node, app, self.me)
        self.access = node.access
        settings = node.config.app.get(app.name, {})
        self.blobs = Blobs(
            node.blobs,
            node.versions,
            app.name,
            settings,
            exchange=node.blob_exchange,
            around=self,
            kinds=[kind.name for kind in app.kinds],
        )
        node.kept[f"blobs {app.name}"] = self.blobs
        self.jobs = AppJobs(node.jobs, app.name, self._tasks)
        self.local = Local(node.ports, app.name, home)
        self.tell = Tell(node.notices, app.name)

    @property
    def data(self) -> Data:
        if self._data is None:
            settings = self._node.config.app.get(self._name, {})
            tell = functools.partial(self._node.notices.tell, self._name)
            self._data = Data(self._home, self._name, settings, tell)
            self._node.kept[f"data {self._name}"] = self._data
        return self._data

    @property
    def mail(self) -> "MailBox":
        if self._mail is None:
            if self._is_withdrawn:
                raise UsageError(tr("the app '{name}' has ended", name=self._name))
            tell = functools.partial(self.tell.say, key="mail")
            self._mail = self._node.mail_room().box(self._name, self._home, self._tasks, tell)
        return self._mail

    async def withdraw(self) -> None:
        """Take everything back: no stream reaches the app any more, no work of it goes on."""
        self._is_withdrawn = True
        self.net.withdraw()
        self.blobs.give_no_more()
        await self._node.jobs.withdraw(self._name)
        if self._mail is not None:
            await self._node.mail_room().close_box(self._name)
        await self.local.close()
        await self._tasks.close()
        self._node.kept.pop(f"blobs {self._name}", None)
        if self._data is not None:
            self._node.kept.pop(f"data {self._name}", None)
            self._data.close()
