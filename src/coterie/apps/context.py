"""What an app may touch of its node: ten members, each bound to the name of the app.

Part of them are services (`coterie.services`), the others are described here.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from coterie.access.enforcer import Enforcer
from coterie.access.people import People
from coterie.identity import PeerId
from coterie.net import Connection, Stream
from coterie.net.ahead import Ahead
from coterie.net.find.outside import Outside
from coterie.services.blobs import Blobs
from coterie.services.data.service import Data
from coterie.services.directory.core import Provider
from coterie.services.directory.service import Inside
from coterie.services.jobs.service import AppJobs
from coterie.services.local import Local
from coterie.services.tell.service import Tell
from coterie.wire import Protocol as WireProtocol
from coterie.wire.frames import Message
from coterie.wire.knock import Right

if TYPE_CHECKING:
    from coterie.services.mail.box import MailBox  # with SQLite: only where an app uses it

ANSWER_S = 10.0  # guess: a busy computer, and a slow disk
Handler = Callable[[Stream], Awaitable[None]]


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
        """As `Net.register`."""
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


class Me(Protocol):
    """Who this computer is."""

    @property
    def peer_id(self) -> PeerId: ...

    @property
    def name(self) -> str:
        """What people call this computer (its setting `name`)."""
        ...

    @property
    def person(self) -> PeerId:
        """The first computer of the person whose computer this is; itself where it is the only one."""
        ...

    def addresses(self) -> list[str]:
        """Where peers may dial this node, "ip:port", best first; empty while offline."""
        ...

    def ticket_addresses(self) -> tuple[str, ...]:
        """What a ticket names: the first of `addresses`, and URLs of relays where this node is reached."""
        ...

    async def settled(self) -> None:
        """Wait a few seconds at most until `addresses` is whole: before they are written into a ticket."""
        ...

    def outside(self) -> Outside:
        """Whether somebody elsewhere reaches this computer, and what would change that."""
        ...

    def outside_note(self) -> str:
        """One line of `outside` for people; empty where there is none to say, or it was said already."""
        ...

    def sign(self, message: bytes) -> bytes:
        """The signature of this node's key, 64 bytes.

        Raises AccessDenied unless `message` begins with one of what the app declared in `signs`.
        """
        ...


class Net(Protocol):
    """Other computers: serving them, asking them."""

    @property
    def reach(self) -> Network | None:
        """How far this node reaches; None while offline."""
        ...

    @property
    def neighbours(self) -> Neighbours | None:
        """The local network; None where nothing is found by itself."""
        ...

    @property
    def overlay(self) -> PeerNetwork | None:
        """For apps that form a network of their own among nodes; None while offline."""
        ...

    def register(self, protocol: WireProtocol, handler: Handler, *, strangers: bool = False) -> None:
        """Serve `protocol`: one call of `handler` per incoming stream, of contacts and members of our circles.

        `strangers` opens it to everybody.
        """
        ...

    def offer(self, kind: str, offers: Provider, inside: Inside | None = None) -> None:
        """List what `offers(peer)` gives in `coterie ls` of that peer, as far as the policy lets it be listed.

        `kind` is one of those that the app declared. `inside` looks into places of peers, where they have anything in
        them.
        """
        ...

    async def connect(
        self,
        peer: PeerId,
        addresses: Sequence[str] = (),
        *,
        own: Sequence[str] = (),
        right: Right | None = None,
        ahead: Ahead | None = None,
    ) -> Connection:
        """The connection to `peer`, dialled if there is none yet.

        `addresses` are the words of others, `own` those of this node's owner: what others name is never this computer.
        `right` shows a peer that does not know us why it should dial back (`admit_knocks` there). `ahead`: the stream
        that will be opened next, with the same first frames: it goes out with the greeting.

        Raises:
            TransportError: it was not reached; says what was tried.
            PeerError: it refuses.
        """
        ...

    def admit_knocks(self, secrets: Callable[[bytes], Iterable[bytes]]) -> None:
        """Who has one of `secrets(reference)` may ask this node to dial it, contact or not. It answers fast."""
        ...

    async def open(self, peer: PeerId, protocol: WireProtocol) -> Stream:
        """A stream of `protocol` to `peer`, dialled if need be. Errors as `connect`; PeerError where it is refused."""
        ...

    async def ask(
        self, peer: PeerId, protocol: WireProtocol, message: Message, *, timeout_s: float = ANSWER_S
    ) -> Message:
        """What `peer` answers to `message`, on a stream of its own. Errors as `open`; TransportError for no answer."""
        ...

    def watch(self, up: Callable[[PeerId], None], down: Callable[[PeerId], None]) -> None:
        """Call `up` with each peer that is connected from now on, `down` with each that no longer is."""
        ...


class Context(Protocol):
    """All that an app may touch of its node."""

    @property
    def me(self) -> Me:
        """Who this computer is: its id, name and addresses; signatures for what the app declared."""
        ...

    @property
    def people(self) -> People:
        """The directory: everybody known here under a name of their own, circles, who is here.

        An app that knows people registers what it knows.
        """
        ...

    @property
    def net(self) -> Net:
        """Other computers: serving them, asking them."""
        ...

    @property
    def mail(self) -> "MailBox":
        """Letters to this app on other computers: kept on disk until they are acknowledged or expire, given once.

        Ask for it in `start`, each time: letters of earlier starts wait until then.
        """
        ...

    @property
    def access(self) -> Enforcer:
        """What peers may do here: asked before anything is done for one, told when who they are has changed."""
        ...

    @property
    def data(self) -> Data:
        """What the app keeps on disk: records, a database, settings, files in a folder of its own."""
        ...

    @property
    def blobs(self) -> Blobs:
        """Content: what is shared and fetched."""
        ...

    @property
    def jobs(self) -> AppJobs:
        """Work in the background, and work that lasts: it survives restarts, and runs when it is wanted."""
        ...

    @property
    def local(self) -> Local:
        """Servers for other programs on this machine: closed to its other users, listed by `coterie services`."""
        ...

    @property
    def tell(self) -> Tell:
        """Notices to the owner: `tell.say("anna wrote in your guestbook")`."""
        ...
