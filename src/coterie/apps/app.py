"""What an application is, and the narrow context it gets. Ours and third parties' alike.

Command lines read declarations of apps: so what only annotations need is not imported here.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from coterie.access.resource import ResourceKind

if TYPE_CHECKING:
    from pathlib import Path

    from coterie.access.enforcer import Enforcer
    from coterie.access.people import People
    from coterie.content import Store
    from coterie.content.versions import Versions
    from coterie.identity import PeerId
    from coterie.net import Connection, Stream
    from coterie.net.find.outside import Outside
    from coterie.services.data.service import Data
    from coterie.services.directory.core import Provider
    from coterie.services.directory.service import Inside
    from coterie.services.jobs.service import AppJobs
    from coterie.services.local import Local
    from coterie.services.mail.box import MailBox
    from coterie.services.tell.service import Tell
    from coterie.wire import Protocol as WireProtocol

SIGNED_BYTES_MIN = (
    8  # of what each kind of signed message begins with: too long to be the beginning of everything
)
Handler = Callable[["Stream"], Awaitable[None]]


class Neighbours(Protocol):
    """The local network, as far as inviting and joining need it: found without a word to anybody else."""

    def announce_invitations(self, numbers: Sequence[int]) -> None:
        """From now on tell the network that this node invites under these public `numbers`; none: it does not.

        Returns at once. Numbers are all that is announced: never a code, nor anything derived from one.
        """
        ...

    def find_inviters(self, number: int) -> AsyncGenerator[tuple[PeerId, Sequence[str]], None]:
        """Peers that announce an invitation under `number`, with their addresses, as they are found.

        Goes on until the caller closes it. What it yields is a hint that anybody on the network can fake.
        """
        ...


class PeerNetwork(Protocol):
    """What an app needs that forms a network of its own among nodes: the rest of what `driver.Links` asks for, too."""

    @property
    def level(self) -> str:
        """How far the node reaches: "local", "circle" or "internet"."""
        ...

    @property
    def connections(self) -> Sequence[Connection]: ...

    def register(self, protocol: WireProtocol, handler: Handler, *, strangers: bool = False) -> None:
        """As `Context.register`."""
        ...

    def watch(
        self,
        *,
        up: Callable[[Connection], None] | None = None,
        down: Callable[[Connection], None] | None = None,
    ) -> None:
        """Call `up` with each new connection and `down` with each that ended."""
        ...

    async def connect(self, peer: PeerId, addresses: Sequence[str] = ()) -> Connection:
        """The connection to `peer`; dials `addresses` only: no resolver is asked. Errors as `Endpoint.connect`."""
        ...

    def addresses_of(self, peer: PeerId) -> list[str]:
        """Where `peer` may be dialled, by what the node knows already."""
        ...

    def record(self) -> bytes:
        """Our signed record for those who find us through others; empty while we cannot be found so."""
        ...

    def record_of(self, peer: PeerId) -> bytes:
        """The newest record of `peer`; empty when there is none."""
        ...

    def learn(self, record: bytes) -> PeerId | None:
        """Keep a record that somebody passed on; whose it is, or None when it is refused."""
        ...

    def known(self) -> list[PeerId]:
        """Whom to begin with: people's own contacts, who is connected, and, at the level `internet`, who was."""
        ...

    def is_known(self, peer: PeerId) -> bool:
        """Whether `peer` is a contact or in a circle of ours."""
        ...

    def is_reachable(self) -> bool:
        """Whether others can dial us where they would: from the internet at that level, else from near."""
        ...

    def sign(self, message: bytes) -> bytes:
        """Our signature. Raises AccessDenied unless `message` begins as those of a protocol that apps may sign."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """How far the node reaches, for an app that speaks to other programs by itself.

    Fields:
        level: "local", "circle" or "internet".
        bind: IP address to listen on; unspecified means every interface.
        dht_nodes: first nodes of the mainline DHT; empty means the public ones.
        dht_private: whether that is a DHT of one's own on private addresses.
    """

    level: str
    bind: str
    dht_nodes: Sequence[tuple[str, int]] = ()
    dht_private: bool = False


class Context(Protocol):
    """All that an app may touch of its node."""

    @property
    def peer_id(self) -> PeerId: ...

    @property
    def name(self) -> str:
        """What people call this computer (its setting `name`)."""
        ...

    @property
    def neighbours(self) -> Neighbours | None:
        """The local network; None where nothing is found by itself."""
        ...

    @property
    def network(self) -> Network | None:
        """How far this node reaches; None while offline."""
        ...

    @property
    def peer_network(self) -> PeerNetwork | None:
        """For apps that form a network of their own among nodes; None while offline."""
        ...

    @property
    def access(self) -> Enforcer:
        """What peers may do here: asked before anything is done for one, told when who they are has changed."""
        ...

    @property
    def people(self) -> People:
        """The directory: everybody known here under a name of their own, circles, who is here.

        An app that knows people registers what it knows.
        """
        ...

    @property
    def data(self) -> Data:
        """What the app keeps on disk: records, a database, settings."""
        ...

    @property
    def jobs(self) -> AppJobs:
        """Work that lasts: it survives restarts, and runs when it is wanted."""
        ...

    @property
    def tell(self) -> Tell:
        """Notices to the owner: `tell.say("anna wrote in your guestbook")`."""
        ...

    @property
    def home(self) -> Path:
        """This app's own folder; it exists."""
        ...

    @property
    def store(self) -> Store:
        """The content store that all apps of the node share."""
        ...

    @property
    def versions(self) -> Versions:
        """What was replaced or taken away, recoverable for a while: one store for all apps."""
        ...

    @property
    def mail(self) -> MailBox:
        """Letters to this app on other computers: kept on disk until they are acknowledged or expire, given once.

        Ask for it in `start`, each time: letters of earlier starts wait until then.
        """
        ...

    @property
    def local(self) -> Local:
        """Servers for other programs on this machine: closed to its other users, listed by `coterie services`."""
        ...

    def addresses(self) -> list[str]:
        """Where peers may dial this node, "ip:port", best first; empty while offline."""
        ...

    def ticket_addresses(self) -> tuple[str, ...]:
        """What a ticket names: the first of `addresses`, and URLs of relays where this node is reached."""
        ...

    def outside(self) -> Outside:
        """Whether somebody elsewhere reaches this computer, and what would change that."""
        ...

    async def settled(self) -> None:
        """Wait a few seconds at most until `addresses` is whole: before they are written into a ticket."""
        ...

    def register(self, protocol: WireProtocol, handler: Handler, *, strangers: bool = False) -> None:
        """Serve `protocol`: one call of `handler` per incoming stream, of contacts and members of our circles.

        `strangers` opens it to everybody.
        """
        ...

    async def connect(
        self, peer: PeerId, addresses: Sequence[str] = (), *, own: Sequence[str] = ()
    ) -> Connection:
        """The connection to `peer`, dialled if there is none yet.

        `addresses` are the words of others, `own` those of this node's owner: what others name is never this computer.
        """
        ...

    def offer(self, kind: str, offers: Provider, inside: Inside | None = None) -> None:
        """List what `offers(peer)` gives in `coterie ls` of that peer, as far as the policy lets it be listed.

        `kind` is one of those that the app declared. `inside` looks into places of peers, where they have anything in
        them.
        """
        ...

    def watch(self, up: Callable[[PeerId], None], down: Callable[[PeerId], None]) -> None:
        """Call `up` with each peer that is connected from now on, `down` with each that no longer is."""
        ...

    def sign(self, message: bytes) -> bytes:
        """The signature of this node's key, 64 bytes.

        Raises AccessDenied unless `message` begins with one of what the app declared in `signs`.
        """
        ...

    def start(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Run `work` once in the background, until it ends or the node closes; `status` and `doctor` tell a failure."""
        ...

    def keep(self, make: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
        """Run `make()` in the background until it returns or the node closes; when it fails, anew after a pause.

        The pauses grow; `status` and `doctor` tell the failures.
        """
        ...

    def api(self, app: str) -> Any:
        """The `api` of another app, named in `requires`."""
        ...


class Service(Protocol):
    """A running app."""

    async def start(self) -> None:
        """Called once, after every app of the node exists."""
        ...

    async def close(self) -> None:
        """Leave everything so that the next start goes on from here."""
        ...


@dataclass(frozen=True)
class App:
    """What the entry point names.

    Fields:
        name: as the entry point's.
        create: makes its service; called once. As "module:name" it is imported only where the app is to run: command
            lines read the rest of the declaration.
        commands: a module path, imported only where commands are rendered.
        requires: apps that it uses by their `api`; they start before it, and it is left out where one does not run.
        signs: how what it signs begins, for each purpose, SIGNED_BYTES_MIN bytes at least: no other app and nothing
            of the node itself may begin so.
        kinds: the kinds of resources it has, with their verbs; no other app may declare the same.
    """

    name: str
    summary: str
    create: Callable[[Context], Service] | str
    commands: str
    requires: tuple[str, ...] = ()
    signs: tuple[bytes, ...] = ()
    kinds: tuple[ResourceKind, ...] = ()

    @property
    def module(self) -> str:
        """Where its service comes from."""
        if isinstance(self.create, str):
            return self.create.partition(":")[0]
        return str(getattr(self.create, "__module__", ""))
