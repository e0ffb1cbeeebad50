"""What apps that form overlays get of a node: `apps.context.PeerNetwork` over its endpoint and its reach."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from coterie.apps.context import Handler
from coterie.identity import PeerId
from coterie.net import Connection, Endpoint
from coterie.net.find.reaching import places
from coterie.wire import Protocol as WireProtocol
from coterie.wire.record import is_address, is_relay, split_address

if TYPE_CHECKING:
    from coterie.reach import Reach

KNOWN_MAX = 256  # of the address book; guess: far more than a first step into a network needs


class NodeNetwork:
    """See `coterie.apps.context.PeerNetwork`."""

    def __init__(
        self,
        endpoint: Endpoint,
        reach: "Reach",
        sign: Callable[[bytes], bytes],
        *,
        register: Callable[..., None],
        contacts: Callable[[], Sequence[PeerId]],
        is_known: Callable[[PeerId], bool],
    ) -> None:
        self._endpoint = endpoint
        self._reach = reach
        self._sign = sign
        self._register = register
        self._contacts = contacts
        self._is_known = is_known
        self._was_reached = False
        endpoint.watch(up=self._up)

    @property
    def level(self) -> str:
        """See `PeerNetwork`, also below."""
        return str(self._reach.level)

    @property
    def connections(self) -> Sequence[Connection]:
        return self._endpoint.connections

    def register(self, protocol: WireProtocol, handler: Handler, *, strangers: bool = False) -> None:
        self._register(protocol, handler, strangers=strangers)

    def watch(
        self,
        *,
        up: Callable[[Connection], None] | None = None,
        down: Callable[[Connection], None] | None = None,
    ) -> None:
        self._endpoint.watch(up=up, down=down)

    async def connect(self, peer: PeerId, addresses: Sequence[str] = ()) -> Connection:
        return await self._endpoint.connect(peer, addresses)

    def addresses_of(self, peer: PeerId) -> list[str]:
        return places(self._endpoint, self._reach.book, peer, now=self._reach.now)[0]

    def record(self) -> bytes:
        return self._reach.record_for_overlays()

    def record_of(self, peer: PeerId) -> bytes:
        record = self._reach.book.record(peer, self._reach.now)
        entry = self._reach.book.entry(peer)
        return entry.raw if record is not None and entry is not None and entry.raw else b""

    def learn(self, record: bytes) -> PeerId | None:
        return self._reach.learn(record, "overlay")

    def known(self) -> list[PeerId]:
        """Contacts, those connected, then at the level `internet` the book's, who worked last first."""
        found = dict.fromkeys([*self._contacts(), *(c.peer for c in self._endpoint.connections)])
        if self._reach.level == "internet":
            worked = sorted(
                (e for e in self._reach.book.entries if e.worked_at), key=lambda e: e.worked_at, reverse=True
            )
            found |= dict.fromkeys(entry.peer for entry in worked[:KNOWN_MAX])
        return list(found)

    def is_known(self, peer: PeerId) -> bool:
        return self._is_known(peer)

    def is_reachable(self) -> bool:
        """At the level `internet`: an address of this machine itself, of a router that maps our port, or at which a
        stranger reached it."""
        if self._reach.level != "internet" or self._reach.is_on_loopback:
            return True
        own = [a for a in self._reach.own_addresses if not is_relay(a)]
        return (
            self._was_reached
            or bool(self._reach.mapped)
            or any((ip := split_address(a)[0]).is_global and ip.version == 4 for a in own)
        )

    def sign(self, message: bytes) -> bytes:
        return self._sign(message)

    def _up(self, connection: Connection) -> None:
        path = connection.path
        if connection.is_dialled or path.kind != "direct" or not is_address(path.remote):
            return
        self._was_reached = self._was_reached or split_address(path.remote)[0].is_global
