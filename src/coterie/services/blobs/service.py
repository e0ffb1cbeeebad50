"""What one app gets as `Context.blobs`: content that it keeps, under names of its own, within its quota."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from coterie.access.resource import checked_resource, kind_of
from coterie.content import Store
from coterie.content.manifest import ID_BYTES
from coterie.content.versions import Versions
from coterie.errors import LimitExceeded, NotFound, UsageError
from coterie.identity import PeerId
from coterie.progress import Progress
from coterie.services.blobs.exchange import BlobExchange, owner_of, secret_of
from coterie.services.blobs.fetching import BlobFetch
from coterie.services.blobs.folder import BlobFolder, Incoming
from coterie.services.data.quota import BLOB_QUOTA, BLOBS_BYTES_MAX, Quota, read_quota
from coterie.texts import tr
from coterie.transfer.surroundings import Surroundings

PINS_MAX = 100_000  # of one app; guess: each is a row, and the quota is counted over them
NAME_CHARS_MAX = 200
GIVERS_MAX = 64  # of one content; guess: as `sources.LINKS_MAX`, and some that are away
WRITE_BYTES = 4 << 20  # read of a file at once, and written in one step
WHOLE_BYTES_MAX = 64 << 20  # of what `get` holds in memory at once

Source = bytes | Path | AsyncIterable[bytes]


class Blobs:
    """The content of one app. Nothing is on disk before something is put."""

    def __init__(
        self,
        folder: BlobFolder,
        versions: Versions,
        app: str,
        settings: Mapping[str, Any],
        *,
        exchange: BlobExchange | None = None,
        around: Surroundings | None = None,
        kinds: Sequence[str] = (),
    ) -> None:
        """`settings`: the section `[app.NAME]`. `exchange` gives content to others, `around` leads to them.

        `kinds`: of resources, that the app declared.

        Raises:
            UsageError: its quota is none.
        """
        self._exchange = exchange
        self._around = around
        self._kinds = kinds
        self.store: Store = folder.store
        """All content that is known on this node, and where it lies."""
        self.rates = folder.rates
        """How fast content may go to others and come from them: one for all apps."""
        self.versions = versions
        """What was replaced or taken away, recoverable for a while: one for all apps."""
        self._folder = folder
        self._app = app
        self._owner = owner_of(app)
        self._quota = Quota(app, read_quota(settings, BLOB_QUOTA, BLOBS_BYTES_MAX, app), BLOB_QUOTA)
        self._coming: dict[Incoming | BlobFetch, None] = {}

    async def put(self, source: Source, name: str) -> bytes:
        """Keep content under `name`, instead of what was kept so before. Its content id, once it is on disk.

        `source`: bytes, a file that is copied, or parts as they come.

        Raises:
            UsageError: no such name can be.
            LimitExceeded: the quota of the app is full, or PINS_MAX names are in use.
            NotFound, StorageError: the file cannot be read, the disk refuses.
        """
        await asyncio.to_thread(self._check_name, name)
        incoming = await asyncio.to_thread(self._folder.open)
        self._coming[incoming] = None
        try:
            async for part in _parts(source):
                self._quota.check(sum(other.size for other in self._coming) + len(part))
                await asyncio.to_thread(incoming.write, part)
        except BaseException:
            del self._coming[incoming]
            await asyncio.to_thread(self._folder.drop, incoming)
            raise
        try:
            return await asyncio.to_thread(self._keep, incoming, name)  # goes on to its end, cancelled or not
        finally:
            del self._coming[incoming]

    async def pin(self, root: bytes, name: str) -> None:
        """Keep content under one more name, which some app keeps already. Raises as `put`, NotFound: none does."""
        await asyncio.to_thread(self._pin, root, name)

    def give(self, name: str, resource: str) -> None:
        """Whoever may `read` this resource may fetch what is kept under `name`, now or later, until the app ends.

        Raises:
            UsageError: the resource is of no kind that the app declared.
            LimitExceeded: too much is given.
        """
        if kind_of(checked_resource(resource)) not in self._kinds:
            raise UsageError(
                tr(
                    "the app '{app}' gives '{resource}', of a kind that it has not declared",
                    app=self._app,
                    resource=resource,
                )
            )
        if self._exchange is not None:
            self._exchange.give(self._app, name, resource)

    def give_no_more(self, name: str | None = None) -> None:
        """End what `give` began; None: all of it. What is being fetched of it ends at once."""
        if self._exchange is not None:
            self._exchange.withdraw(self._app, name)

    async def fetch(
        self,
        root: bytes,
        peers: Sequence[PeerId],
        name: str,
        *,
        progress: Callable[[Progress], None] = lambda step: None,
    ) -> None:
        """Keep the content with this id under `name`: from this computer where it is kept, else from `peers`.

        Each gives it where its app of the same name does (`give`). It goes on through broken links and waits for
        computers that went away, until it is cancelled; then nothing of it is left. `progress` hears five times a
        second how far it is.

        Raises:
            UsageError, LimitExceeded: as `put`; the node is offline.
            NotFound, AccessDenied: nobody of them gives it to us.
            TransportError, PeerError: nobody of them was reached, or gives what it should.
            StorageError: the disk refuses.
        """
        with contextlib.suppress(NotFound):
            await self.pin(root, name)
            return
        await asyncio.to_thread(self._check_name, name)
        async with self.fetched(root, peers, progress=progress) as path:
            await asyncio.to_thread(self._adopt, path, root, name)

    @contextlib.asynccontextmanager
    async def fetched(
        self,
        root: bytes,
        peers: Sequence[PeerId],
        *,
        progress: Callable[[Progress], None] = lambda step: None,
    ) -> AsyncIterator[Path]:
        """The content with this id as a file, which may be taken away from there; it is gone after the block.

        As `fetch`, without keeping it, and from `peers` alone.
        """
        if len(root) != ID_BYTES or not 0 < len(peers) <= GIVERS_MAX:
            raise UsageError(
                tr(
                    "a content id of {id_bytes} bytes and 1 to {givers_max} computers",
                    id_bytes=ID_BYTES,
                    givers_max=GIVERS_MAX,
                )
            )
        if self._around is None or not self._around.me.addresses():
            raise UsageError(tr("this node is offline"))
        room = await asyncio.to_thread(self._folder.room, root)
        fetch = BlobFetch(self._around, root, secret_of(self._app), list(dict.fromkeys(peers)), room)
        try:
            await fetch.open()
            self._quota.check(sum(other.size for other in self._coming) + fetch.size)
            self._coming[fetch] = None
            yield await fetch.run(progress)
        finally:
            self._coming.pop(fetch, None)
            await fetch.close()
            await asyncio.to_thread(self._folder.leave_room, room, root)

    async def unpin(self, name: str) -> bool:
        """Keep what is under `name` no longer: it is removed, unless it is kept otherwise. False: there was nothing."""
        return await asyncio.to_thread(self._unpin, name)

    async def names(self, beginning: str = "") -> dict[str, bytes]:
        """The content ids of what is kept, by name, of the names with this beginning."""
        found = await asyncio.to_thread(self.store.pins.of, self._owner, beginning)
        return {name: roots[0] for name, roots in found.items()}

    async def size(self, name: str) -> int:
        """Bytes of what is kept under `name`. Raises `NotFound`."""
        known = await asyncio.to_thread(self.store.root, await self._root_of(name))
        if known is None:
            raise NotFound(tr("the app '{app}' keeps nothing as '{name}'", app=self._app, name=name))
        return known.bytes

    async def read(self, name: str, offset: int = 0, size: int | None = None) -> AsyncGenerator[bytes, None]:
        """Bytes of what is kept under `name`, in parts of 1 MiB and a chunk at most; each was checked.

        Raises:
            NotFound: nothing is.
            StorageError: it is damaged on disk.
        """
        if offset < 0 or (size is not None and size < 0):
            raise UsageError(tr("content is read from an offset and size of 0 or more"))
        parts = self._folder.read(await self._root_of(name), offset, size)
        while (part := await asyncio.to_thread(next, parts, None)) is not None:
            yield part

    async def get(self, name: str) -> bytes:
        """All of what is kept under `name`. Raises as `read`; LimitExceeded: it is over WHOLE_BYTES_MAX."""
        if (size := await self.size(name)) > WHOLE_BYTES_MAX:
            raise LimitExceeded(
                tr("'{name}' has {size} bytes: too many at once, read it in parts", name=name, size=size)
            )
        return b"".join([part async for part in self.read(name)])

    def status(self) -> dict[str, Any]:
        """For `coterie status`; nothing while there is nothing."""
        names, size = self.store.pins.totals(self._owner)
        return (
            {"contents": names, "bytes kept": size, "bytes at most": self._quota.bytes_max} if names else {}
        )

    # ---- in threads

    def _keep(self, incoming: Incoming, name: str) -> bytes:
        try:
            return self._folder.keep(incoming, self._owner, name)
        finally:
            self._folder.drop(incoming)
            self._count()

    def _adopt(self, path: Path, root: bytes, name: str) -> None:
        self._folder.adopt(path, root, self._owner, name)
        self._count()

    def _pin(self, root: bytes, name: str) -> None:
        self._check_name(name)
        known = self.store.root(root)
        if known is not None and [root] not in self.store.pins.of(self._owner).values():
            self._quota.check(sum(other.size for other in list(self._coming)) + known.bytes)
        self._folder.pin(root, self._owner, name)
        self._count()

    def _unpin(self, name: str) -> bool:
        was_kept = self._folder.unpin(self._owner, name)
        self._count()
        return was_kept

    def _check_name(self, name: str) -> None:
        if not 0 < len(name) <= NAME_CHARS_MAX or not name.isprintable():
            raise UsageError(
                tr(
                    "{name!r} cannot be the name of content: 1 to {name_chars_max} characters",
                    name=name[:50],
                    name_chars_max=NAME_CHARS_MAX,
                )
            )
        if self._count() >= PINS_MAX and not self.store.pins.at(self._owner, name):
            raise LimitExceeded(
                tr(
                    "the app '{app}' keeps content under {pins_max} names: unpin some first",
                    app=self._app,
                    pins_max=PINS_MAX,
                )
            )

    def _count(self) -> int:
        """How many names there are; the bytes go to the quota."""
        names, self._quota.used = self.store.pins.totals(self._owner)
        return names

    async def _root_of(self, name: str) -> bytes:
        found = await asyncio.to_thread(self.store.pins.at, self._owner, name)
        if not found:
            raise NotFound(tr("the app '{app}' keeps nothing as '{name}'", app=self._app, name=name))
        return found[0]


async def _parts(source: Source) -> AsyncIterator[bytes]:
    """In parts of WRITE_BYTES at most, where it is bytes or a file."""
    if isinstance(source, bytes):
        for at in range(0, len(source), WRITE_BYTES):
            yield source[at : at + WRITE_BYTES]
    elif isinstance(source, Path):
        try:
            file = await asyncio.to_thread(source.open, "rb")
        except OSError as error:
            raise NotFound(
                tr("{source} cannot be read: {strerror}", source=source, strerror=error.strerror)
            ) from None
        with file:
            while part := await asyncio.to_thread(file.read, WRITE_BYTES):
                yield part
    else:
        async for part in source:
            yield part
