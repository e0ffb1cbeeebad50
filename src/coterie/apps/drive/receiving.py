"""The owner's side of changes over a drive: does within its shares what others order who may write there."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TypeVar

from coterie.access.policy import Decision, QuotaUsedUp
from coterie.access.resource import Verb
from coterie.apps.context import Context
from coterie.apps.drive.messages import (
    DATA_BYTES_MAX,
    PATH_BYTES_MAX,
    TEXT_CHARS_MAX,
    Ask,
    Copy,
    Delete,
    Done,
    Failed,
    MakeFolder,
    Move,
    Put,
    Room,
    Working,
)
from coterie.apps.drive.share_disk import ShareDisk, written
from coterie.apps.drive.unfinished import Unfinished
from coterie.apps.files.api import FilesApi, Spot
from coterie.content.manifest import ID_BYTES, TOTAL_MAX
from coterie.errors import (
    AccessDenied,
    CoterieError,
    LimitExceeded,
    NotFound,
    PeerError,
    StorageError,
    TransportError,
    UsageError,
)
from coterie.identity import PeerId
from coterie.net import Stream
from coterie.texts import tr
from coterie.wire.frames import Bulk, Message

SILENCE_S = 60.0  # between orders
WORKING_S = 3.0  # how often an asker hears that its order is worked at
FAULTS: tuple[tuple[type[CoterieError], str], ...] = (
    (NotFound, "not-found"),
    (AccessDenied, "denied"),
    (LimitExceeded, "full"),
    (StorageError, "disk"),
    (TransportError, "unreached"),
    (UsageError, "cannot-be"),
)

log = logging.getLogger(__name__)
T = TypeVar("T")


class Receiving:
    """Belongs to the event loop; the disk is touched in threads."""

    def __init__(self, context: Context, files: FilesApi, unfinished: Unfinished) -> None:
        self._context = context
        self._unfinished = unfinished
        self._files = files

    async def handle(self, stream: Stream) -> None:
        """One asker with its orders."""
        while (order := await stream.receive(SILENCE_S)) is not None:
            try:
                answer = await self._answer(stream, order)
            except QuotaUsedUp:
                answer = Failed("full", tr("the amount of the grant is used up"))
            except PeerError:
                raise  # its fault, or its right was taken back
            except CoterieError as error:
                code = next((code for kind, code in FAULTS if isinstance(error, kind)), "cannot-be")
                answer = Failed(code, str(error)[:TEXT_CHARS_MAX])
            await stream.send(answer)

    async def _answer(self, stream: Stream, order: Message | Bulk) -> Message:
        peer = stream.peer
        match order:
            case Ask(path):
                return await self._room(peer, path)
            case Put():
                return await self._put(stream, order)
            case MakeFolder(path):
                return await self._do(peer, [(path, Verb.WRITE)], lambda d, s: d[0].make_folder(s[0].parts))
            case Delete(path):
                return await self._do(peer, [(path, Verb.WRITE)], lambda d, s: d[0].remove(s[0].parts))
            case Move(path, to):
                places = [(path, Verb.WRITE), (to, Verb.WRITE)]
                return await self._do(peer, places, lambda d, s: d[0].move(s[0].parts, d[1], s[1].parts))
            case Copy(path, to):
                places = [(path, Verb.READ), (to, Verb.WRITE)]
                return await self._do(peer, places, lambda d, s: d[0].copy(s[0].parts, d[1], s[1].parts))
        raise PeerError("a drive is asked and given orders, nothing else")

    async def _room(self, peer: PeerId, path: str) -> Room:
        try:
            spot = self._spot(peer, Verb.WRITE, path)
        except NotFound:
            return Room(False, 0)
        return Room(True, await asyncio.to_thread(self._disk(spot, peer).free_bytes))

    async def _do(
        self,
        peer: PeerId,
        places: list[tuple[str, Verb]],
        work: Callable[[list[ShareDisk], list[Spot]], None],
    ) -> Message:
        """`work` on these places of ours, which `peer` may use so; it is stopped where that ends."""
        spots = [self._spot(peer, verb, path) for path, verb in places]
        disks = [self._disk(spot, peer) for spot in spots]
        async with AsyncExitStack() as held:
            for spot, (_, verb) in zip(spots, places, strict=True):
                await held.enter_async_context(self._context.access.hold(peer, verb, spot.resource))
            await asyncio.to_thread(work, disks, spots)
        for spot in spots:
            self._files.touched(spot.share.id)
        return Done()

    async def _put(self, stream: Stream, order: Put) -> Message:
        if (
            not 0 <= order.size <= TOTAL_MAX
            or not 0 <= order.mtime_ns <= TOTAL_MAX
            or len(order.data) > DATA_BYTES_MAX
            or (len(order.content) != ID_BYTES if order.content else len(order.data) != order.size)
        ):
            raise PeerError("a file that cannot be")
        spot = self._spot(stream.peer, Verb.WRITE, order.path)
        disk = self._disk(spot, stream.peer)
        async with self._context.access.hold(stream.peer, Verb.WRITE, spot.resource) as decision:
            if await asyncio.to_thread(disk.free_bytes) < order.size:
                raise StorageError(tr("there is no room for it"))
            await self._charge(decision, order.size)
            if not order.content:
                await asyncio.to_thread(disk.put, spot.parts, written(order.data), order.mtime_ns)
            else:
                await self._fetch(stream, order, lambda path: disk.take(spot.parts, path, order.mtime_ns))
        self._files.touched(spot.share.id)
        return Done()

    async def _charge(self, decision: Decision, size: int) -> None:
        if decision.meters:
            await self._context.access.charge(decision, size)

    async def _fetch(self, stream: Stream, order: Put, install: Callable[[Path], None]) -> None:
        """Have the content from the asker, verified and gone on with after broken lines, then `install` its file."""
        done = 0

        def count(step: object) -> None:
            nonlocal done
            done = int(getattr(step, "done", 0))

        async def work() -> None:
            async with self._context.blobs.fetched(order.content, [stream.peer], progress=count) as path:
                if (await asyncio.to_thread(path.stat)).st_size != order.size:
                    raise PeerError("content of another size than was said")
                await asyncio.to_thread(install, path)

        await _telling(work(), lambda: stream.send(Working(done)))

    def _spot(self, peer: PeerId, verb: Verb, path: str) -> Spot:
        """The place of ours that `peer` calls so, if it may. Raises as `Places.choose`."""
        if len(path.encode(errors="replace")) > PATH_BYTES_MAX:
            raise NotFound(tr("a path so long is none"))
        return self._files.spot(peer, verb, path)

    def _disk(self, spot: Spot, peer: PeerId) -> ShareDisk:
        name = self._context.people.name_of(peer)
        return ShareDisk(
            Path(spot.share.path), self._context.blobs.versions, source=name, unfinished=self._unfinished
        )


async def _telling(work: Awaitable[T], tell: Callable[[], Awaitable[None]]) -> T:
    """What `work` gives; `tell` is called now and again until then."""
    task = asyncio.ensure_future(work)
    try:
        while not (await asyncio.wait({task}, timeout=WORKING_S))[0]:
            await tell()
        return task.result()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
