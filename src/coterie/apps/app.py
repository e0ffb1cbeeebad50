"""What an application is, and the narrow context it gets. Ours and third parties' alike."""

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from coterie.content import Store
from coterie.identity import PeerId
from coterie.net import Connection, Stream
from coterie.wire import Protocol as WireProtocol

Handler = Callable[[Stream], Awaitable[None]]


class Context(Protocol):
    """All that an app may touch of its node."""

    @property
    def peer_id(self) -> PeerId: ...

    @property
    def home(self) -> Path:
        """This app's own folder; it exists."""
        ...

    @property
    def store(self) -> Store:
        """The content store that all apps of the node share."""
        ...

    def addresses(self) -> list[str]:
        """Where peers may dial this node, "ip:port", best first; empty while offline."""
        ...

    def register(self, protocol: WireProtocol, handler: Handler, *, strangers: bool = False) -> None:
        """Serve `protocol`: one call of `handler` per incoming stream. `strangers` opens it to unknown peers."""
        ...

    async def connect(self, peer: PeerId, addresses: Sequence[str] = ()) -> Connection:
        """The connection to `peer`, dialled if there is none yet."""
        ...

    def start(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Run `work` in the background until it ends or the node closes; a failure is logged."""
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
    """What the entry point names. `commands` is a module path, imported only where commands are rendered."""

    name: str
    summary: str
    create: Callable[[Context], Service]
    commands: str
    requires: tuple[str, ...] = ()
