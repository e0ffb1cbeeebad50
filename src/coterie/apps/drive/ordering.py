"""The asking side of changes over a drive: orders to the owners of shares, and content that they fetch from here."""

import asyncio
import secrets
from pathlib import Path

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

    async def put(self, peer: PeerId, path: str, source: Path, mtime_ns: int) -> None:
        """Have the owner make a file at `path` of what is in `source`. Raises what the owner says."""
        size = (await asyncio.to_thread(source.stat)).st_size
        if size <= DATA_BYTES_MAX:
            data = await asyncio.to_thread(source.read_bytes)
            await self.order(peer, Put(path, len(data), mtime_ns, data=data))
            return
        token = secrets.token_hex(8)
        name, resource = f"for/{token}", f"{KIND}/{token}"
        blobs, policy = self._context.blobs, self._context.access.policy
        content = await blobs.put(source, name)
        try:
            policy.permit(of_peer(peer), Verb.READ, resource)
            blobs.give(name, resource)
            await self.order(peer, Put(path, size, mtime_ns, content=content))
        finally:
            blobs.give_no_more(name)
            policy.withdraw(resource)
            await blobs.unpin(name)

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
