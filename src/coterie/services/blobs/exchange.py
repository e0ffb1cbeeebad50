"""Content that apps keep, given to other computers by content id: what of it, and by which right.

It goes over the engine of `transfer` under a protocol of its own. Who asks shows for which app; that is no secret. What
it may have, the policy says: to `read` the resource, of the app's own kind, under which the app gives it.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from blake3 import blake3

from coterie.access.enforcer import Enforcer
from coterie.access.resource import Verb
from coterie.content import ChunkUnavailable, Kind, Store
from coterie.content.limit import ByteLimit
from coterie.content.reader import Room
from coterie.errors import CloseCode, LimitExceeded, PeerError
from coterie.identity import PeerId
from coterie.net import Stream
from coterie.texts import tr
from coterie.transfer.giver import Giver, Tell
from coterie.transfer.messages import MANY_SINCE, MOVED_SINCE, PROTOCOL, Moved, Opened
from coterie.transfer.proof import Shown
from coterie.transfer.serve import Server
from coterie.wire.ticket import SECRET_BYTES

BLOBS = replace(PROTOCOL, name="blobs", versions=(MOVED_SINCE, MANY_SINCE))
GIVEN_MAX = 100_000  # of all apps; as many names as one app may have (`service.PINS_MAX`)
THREADS = 2  # disk reads of all who fetch; each holds a few pieces of 256 KiB
KIND = "blobs"  # in the log, where what was asked for is not given
_OF_APP = "coterie blobs 1: the app whose content is asked for"


def secret_of(app: str) -> bytes:
    """What who asks proves to have: it says which app is meant, and everybody knows it."""
    return blake3(app.encode(), derive_key_context=_OF_APP).digest(SECRET_BYTES)


def owner_of(app: str) -> str:
    """Under which name the store keeps what is the app's."""
    return f"blobs/{app}"


class BlobExchange:
    """The one of a node. Belongs to the event loop."""

    def __init__(self, own: PeerId, store: Store, access: Enforcer, up: ByteLimit) -> None:
        """`up`: the limit of all that goes to others."""
        self._own = own
        self._store = store
        self._access = access
        self._given: dict[str, dict[str, str]] = {}  # app -> name -> resource
        self._executor = ThreadPoolExecutor(THREADS, "coterie-blobs")
        self._server = Server(access, self._find, self._executor, up, kind=KIND)

    async def handle(self, stream: Stream) -> None:
        """One computer that asks."""
        await self._server.handle(stream)

    def give(self, app: str, name: str, resource: str) -> None:
        """Whoever may read `resource` may fetch what `app` keeps under `name`. Raises `LimitExceeded`."""
        is_new = name not in self._given.get(app, {})
        if is_new and sum(map(len, self._given.values())) >= GIVEN_MAX:
            raise LimitExceeded(tr("{given_max} contents are given already: end some", given_max=GIVEN_MAX))
        self._given.setdefault(app, {})[name] = resource

    def withdraw(self, app: str, name: str | None = None) -> None:
        """Give it no more; `name` None: nothing of the app. What is being fetched of it ends."""
        names = self._given.get(app, {})
        gone = {(app, one) for one in names if name in (None, one)}
        for _, one in gone:
            del names[one]
        if gone:
            self._server.end(lambda giver: isinstance(giver, BlobGiver) and giver.given_as in gone)

    def close(self) -> None:
        """Serve nobody any more."""
        self._server.close()
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _find(self, peer: PeerId, root: bytes, proof: bytes) -> Giver | None:
        """What a peer asks for: under a name by which it may have it, else any, which the policy will refuse."""
        shown = Shown(peer, self._own, root, proof)
        apps = [app for app in self._given if shown.proves(secret_of(app))]
        found: list[BlobGiver] = []
        for app in apps:
            given = self._given[app]
            kept = self._store.pins.names(owner_of(app), root)
            found += [
                BlobGiver(self._store, root, size, given[name], (app, name))
                for name, size in kept.items()
                if name in given
            ]
        allowed = (one for one in found if self._access.explain(peer, Verb.READ, one.resource).allowed)
        return next(allowed, next(iter(found), None))


class BlobGiver:
    """See `transfer.giver.Giver`: content that an app keeps, as one who may read `resource` has it."""

    also: tuple[str, ...] = ()
    is_for_many = False
    is_gone = False
    moved: Moved | None = None

    def __init__(
        self, store: Store, root: bytes, size: int, resource: str, given_as: tuple[str, str]
    ) -> None:
        """`given_as`: the app, and its name for it."""
        self.resource = resource
        self.given_as = given_as
        self._store = store
        self._root = root
        self._size = size

    def opened(self, askers: int) -> Opened:
        return Opened(int(Kind.BLOB), "", 1, self._size, whole=True, askers=askers)

    def node(self, manifest: bytes) -> bytes | None:
        return self._store.manifest(manifest) if self._has(manifest) else None

    def sizes(self, manifest: bytes) -> list[int] | None:
        return [size for _, size in self._store.chunks_of(manifest)] if self._has(manifest) else None

    def read(
        self, manifest: bytes, first: int, count: int, room: Room | None = None
    ) -> Iterator[bytes | memoryview | ChunkUnavailable]:
        if not self._has(manifest):
            raise PeerError("chunks of a manifest that is not of this content", CloseCode.REFUSED)
        return self._store.read_chunks(self._store.chunks_of(manifest)[first : first + count], room)

    def watch(self, tell: Tell) -> Callable[[], None]:
        return lambda: None  # all of it is here

    def met(self, peer: PeerId, addresses: Sequence[str]) -> None:
        """It needs nobody."""

    def _has(self, manifest: bytes) -> bool:
        return self._store.in_root(self._root, manifest)
