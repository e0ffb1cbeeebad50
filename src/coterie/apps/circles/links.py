"""One stream to each peer, opened by the first message and kept: what `circles` says goes out in order."""

import asyncio

from coterie.apps.circles.messages import PROTOCOL
from coterie.apps.context import Context
from coterie.errors import CoterieError
from coterie.identity import PeerId
from coterie.net import Stream
from coterie.wire.frames import Message

LINKS_MAX = 1_024  # peers with a lock kept for them; guess: far above the connections of a node


class Links:
    """Sends to peers, one message after the other."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._streams: dict[PeerId, Stream] = {}
        self._locks: dict[PeerId, asyncio.Lock] = {}

    async def send(self, peer: PeerId, message: Message) -> None:
        """Send, over a new stream when there is none. Raises what connecting and sending raise."""
        if len(self._locks) > LINKS_MAX:
            self._locks = {p: lock for p, lock in self._locks.items() if lock.locked()}
        async with self._locks.setdefault(peer, asyncio.Lock()):
            stream = self._streams.get(peer)
            if stream is None:
                connection = await self._context.net.connect(peer)
                stream = self._streams[peer] = await connection.open_stream(PROTOCOL)
            try:
                await stream.send(message)
            except BaseException:  # a cancelled send too: half a message may be on its way
                self._streams.pop(peer, None)
                await stream.reset()
                raise

    async def try_send(self, peer: PeerId, message: Message) -> bool:
        """As `send`; False when it did not work."""
        try:
            await self.send(peer, message)
        except CoterieError:
            return False
        return True

    def down(self, peer: PeerId) -> None:
        """The connection is gone."""
        self._streams.pop(peer, None)

    async def close(self) -> None:
        """End every stream."""
        streams, self._streams = list(self._streams.values()), {}
        for stream in streams:
            await stream.reset()
