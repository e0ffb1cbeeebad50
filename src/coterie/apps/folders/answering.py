"""What who may read a live folder asks of this computer: contents, and whether files are here."""

import asyncio
from collections.abc import Mapping

from coterie.access.resource import Verb
from coterie.apps.context import Context
from coterie.apps.folders import messages as wire
from coterie.apps.folders import pacing
from coterie.apps.folders.content import FolderContents, read_small
from coterie.apps.folders.engine import Engine
from coterie.apps.folders.membership import resource_of
from coterie.apps.folders.messages import SMALL_BYTES_MAX
from coterie.identity import PeerId
from coterie.wire.frames import Message


class Answering:
    """Of all live folders of a node. Belongs to the event loop. All raise AccessDenied."""

    def __init__(self, engines: Mapping[bytes, Engine], context: Context, contents: FolderContents) -> None:
        """`engines`: of the folders that are not paused, by id."""
        self._engines = engines
        self._access = context.access
        self._store = context.blobs.store
        self._contents = contents
        self._up = context.blobs.rates.up

    async def have(self, peer: PeerId, asked: wire.Have) -> Message:
        """Which files are here."""
        engine = self._engine(peer, asked.folder)
        if engine is None:
            return wire.Has([b""] * len(asked.files))
        return wire.Has(await engine.has(asked.files, asked.nonce))

    async def want(self, peer: PeerId, asked: wire.Want) -> Message:
        """Contents, ready to be given."""
        engine = self._engine(peer, asked.folder)
        known = await asyncio.to_thread(engine.known, asked.contents) if engine is not None else {}
        small_max = pacing.bytes_in_one(self._up, SMALL_BYTES_MAX)
        small = await asyncio.to_thread(read_small, self._store, known, small_max)
        given = {content for content, _ in small}
        rest = [content for content in asked.contents if content not in given]
        if engine is not None:
            engine.gave()
        gathered = await self._contents.gather(asked.folder, known, rest)
        if small:
            await pacing.wait(self._up)
            pacing.went(self._up, sum(len(data) for _, data in small))
        return wire.Wanted(gathered.root, gathered.files, gathered.size, list(gathered.missing), tuple(small))

    def _engine(self, peer: PeerId, folder: bytes) -> Engine | None:
        self._access.decide(peer, Verb.READ, resource_of(folder)).require()
        return self._engines.get(folder)
