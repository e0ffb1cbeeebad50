"""The asking side of changes over a drive: orders to the owners of shares, and content that they fetch from here."""

import asyncio
import secrets
from collections.abc import AsyncIterator

from coterie.access.policy import of_peer
from coterie.access.resource import Verb
from coterie.apps.context import Context
from coterie.apps.drive.messages import (
    DATA_BYTES_MAX,
    PROTOCOL,
    TEXT_CHARS_MAX,
    Ask,
    Done,
    Failed,
    Put,
    Room,
    Working,
)
from coterie.errors import (
    AccessDenied,
    CloseCode,
    CoterieError,
    LimitExceeded,
    NotFound,
    PeerError,
    StorageError,
    TransportError,
    UsageError,
)
from coterie.identity import PeerId
from coterie.plain_text import one_line
from coterie.texts import tr
from coterie.wire.frames import Message

FOR = "for/"  # what names of content for others begin with
PARTS_MAX = 4  # of a file on its way to the disk: as large as the server reads at once
KIND = "drive"  # of the resources that content for others is given under
ANSWER_S = 20.0  # between two words of the owner: it says every 3 s that it works
ERRORS: dict[str, type[CoterieError]] = {
    "not-found": NotFound,
    "denied": AccessDenied,
    "cannot-be": UsageError,
    "full": LimitExceeded,
    "disk": StorageError,
    "unreached": TransportError,
}


class Ordering:
    """Belongs to the event loop."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def room(self, peer: PeerId, path: str) -> Room:
        """Whether one may write there, and how much. Raises `TransportError`, `PeerError`."""
        try:
            answer = await self.order(peer, Ask(path))
        except PeerError as error:
            if error.close_code in (CloseCode.REFUSED, CloseCode.VERSION):  # a node that has no drive
                return Room(False, 0)
            raise
        return answer if isinstance(answer, Room) else Room(False, 0)

    def incoming(self, peer: PeerId, path: str) -> "Sent":
        """A file that the owner is to make at `path`."""
        return Sent(self._context, self, peer, path)

    async def forget_unfinished(self) -> None:
        """What an earlier run was about to give is given no more."""
        for name in await self._context.blobs.names(FOR):
            await self._context.blobs.unpin(name)

    async def order(self, peer: PeerId, order: Message) -> Message:
        """What the owner answers. Raises what it says stands in the way; TransportError, PeerError."""
        async with await self._context.net.open(peer, PROTOCOL) as stream:
            try:
                await stream.send(order)
                while isinstance(answer := await stream.receive(ANSWER_S), Working):
                    pass
            except TimeoutError:
                raise TransportError(
                    tr("{short} is connected but does not answer", short=peer.short)
                ) from None
            except PeerError as error:
                if error.close_code == CloseCode.REVOKED:
                    raise AccessDenied(tr("the right to write there was taken back")) from None
                raise
        if isinstance(answer, Failed):
            kind = ERRORS.get(answer.code, UsageError)
            raise kind(one_line(answer.text[:TEXT_CHARS_MAX]))
        if not isinstance(answer, Done | Room):
            raise PeerError(f"{peer.short} did not answer as coterie does")
        return answer


class Sent:
    """See `tree.Incoming`: a small file is kept in memory and goes with the order, another one lies as content here."""

    def __init__(self, context: Context, orders: Ordering, peer: PeerId, path: str) -> None:
        self._context = context
        self._orders = orders
        self._peer = peer
        self._path = path
        self._loop = asyncio.get_running_loop()
        self._token = secrets.token_hex(8)
        self._small = bytearray()
        self._size = 0
        self._parts: asyncio.Queue[bytes | None] = asyncio.Queue(PARTS_MAX)
        self._keeping: asyncio.Task[bytes] | None = None

    def write(self, data: bytes) -> None:
        self._size += len(data)
        if self._size <= DATA_BYTES_MAX:
            self._small += data
            return
        data, self._small = bytes(self._small) + data, bytearray()
        asyncio.run_coroutine_threadsafe(self._add(data), self._loop).result()

    async def finish(self, mtime_ns: int) -> None:
        if self._keeping is None:
            order = Put(self._path, self._size, mtime_ns, data=bytes(self._small))
            await self._orders.order(self._peer, order)
            return
        await self._add(b"")
        content = await self._keeping
        name, resource = FOR + self._token, f"{KIND}/{self._token}"
        blobs, policy = self._context.blobs, self._context.access.policy
        try:
            policy.permit(of_peer(self._peer), Verb.READ, resource)
            blobs.give(name, resource)
            await self._orders.order(self._peer, Put(self._path, self._size, mtime_ns, content=content))
        finally:
            blobs.give_no_more(name)
            policy.withdraw(resource)

    async def drop(self) -> None:
        keeping, self._keeping = self._keeping, None
        if keeping is not None:
            if not keeping.done():  # not cancelled: it has a file open
                await self._add_to(keeping, None)
            await asyncio.gather(keeping, return_exceptions=True)
            await self._context.blobs.unpin(FOR + self._token)

    async def _add(self, data: bytes) -> None:
        """One more part, b"" the end. Raises what `Blobs.put` does."""
        if self._keeping is None:
            self._keeping = asyncio.ensure_future(self._context.blobs.put(self._all(), FOR + self._token))
        if not await self._add_to(self._keeping, data):
            self._keeping.result()

    async def _add_to(self, keeping: "asyncio.Task[bytes]", data: bytes | None) -> bool:
        """Whether it is taken; False: what is kept has ended."""
        adding = asyncio.ensure_future(self._parts.put(data))
        await asyncio.wait({adding, keeping}, return_when=asyncio.FIRST_COMPLETED)
        return adding.done() or not adding.cancel()

    async def _all(self) -> AsyncIterator[bytes]:
        while (data := await self._parts.get()) != b"":
            if data is None:
                raise UsageError(tr("it did not come whole"))
            yield data
