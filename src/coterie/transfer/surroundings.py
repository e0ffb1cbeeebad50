"""What the engine needs of the node that it runs in: part of the context that apps get."""

from collections.abc import Coroutine, Sequence
from typing import Any, Protocol

from coterie.access.enforcer import Enforcer
from coterie.access.people import People
from coterie.content import Store
from coterie.content.limit import Rates
from coterie.content.versions import Versions
from coterie.identity import PeerId
from coterie.net import Connection
from coterie.net.ahead import Ahead
from coterie.wire.knock import Right


class Acquaintances(Protocol):
    """Whom the node is connected with, and whom of them it knows."""

    @property
    def connections(self) -> Sequence[Connection]: ...

    def is_known(self, peer: PeerId) -> bool: ...


class Itself(Protocol):
    """This computer."""

    @property
    def peer_id(self) -> PeerId: ...

    def addresses(self) -> list[str]: ...


class Others(Protocol):
    """Other computers."""

    @property
    def overlay(self) -> Acquaintances | None: ...

    async def connect(
        self,
        peer: PeerId,
        addresses: Sequence[str] = (),
        *,
        right: Right | None = None,
        ahead: Ahead | None = None,
    ) -> Connection: ...


class Background(Protocol):
    """Work that nobody waits for."""

    def start(self, work: Coroutine[Any, Any, None], name: str) -> None: ...


class Contents(Protocol):
    """Content on this computer."""

    @property
    def store(self) -> Store: ...

    @property
    def versions(self) -> Versions: ...

    @property
    def rates(self) -> Rates: ...


class Surroundings(Protocol):
    """See `coterie.apps.context.Context`."""

    @property
    def me(self) -> Itself: ...

    @property
    def people(self) -> People: ...

    @property
    def net(self) -> Others: ...

    @property
    def access(self) -> Enforcer: ...

    @property
    def blobs(self) -> Contents: ...

    @property
    def jobs(self) -> Background: ...
