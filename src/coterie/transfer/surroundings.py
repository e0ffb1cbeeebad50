"""What the engine needs of the node that it runs in: part of the context that apps get."""

from collections.abc import Coroutine, Sequence
from typing import Any, Protocol

from coterie.access.enforcer import Enforcer
from coterie.access.people import People
from coterie.content import Store
from coterie.content.versions import Versions
from coterie.identity import PeerId
from coterie.net import Connection


class Acquaintances(Protocol):
    """Whom the node is connected with, and whom of them it knows."""

    @property
    def connections(self) -> Sequence[Connection]: ...

    def is_known(self, peer: PeerId) -> bool: ...


class Surroundings(Protocol):
    """See `coterie.apps.app.Context`."""

    @property
    def peer_id(self) -> PeerId: ...

    @property
    def peer_network(self) -> Acquaintances | None: ...

    @property
    def access(self) -> Enforcer: ...

    @property
    def people(self) -> People: ...

    @property
    def store(self) -> Store: ...

    @property
    def versions(self) -> Versions: ...

    def addresses(self) -> list[str]: ...

    async def connect(self, peer: PeerId, addresses: Sequence[str] = ()) -> Connection: ...

    def start(self, work: Coroutine[Any, Any, None], name: str) -> None: ...
