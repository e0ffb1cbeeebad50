"""Who is connected, and what is said to them: over one stream to each, opened by the first message and kept."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from coterie.apps.circles.core import SyncCore
from coterie.apps.circles.messages import PROTOCOL
from coterie.apps.context import Context
from coterie.driver import Driver
from coterie.errors import CoterieError
from coterie.identity import PeerId
from coterie.machine import PeerDown, PeerUp
from coterie.net import Stream
from coterie.wire.frames import Message

LOCKS_MAX = 1_024  # peers with a lock kept for them; guess: far above the connections of a node


class Peers:
    """Also runs the core, which says the most."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._up: dict[PeerId, None] = {}
        self._streams: dict[PeerId, Stream] = {}
        self._locks: dict[PeerId, asyncio.Lock] = {}
        self._driver: Driver | None = None

    @property
    def up(self) -> list[PeerId]:
        """Who is connected."""
        return list(self._up)

    # ---- the core

    def run(self, core: SyncCore, on_output: Mapping[type, Callable[[Any], None]]) -> None:
        """Run the core from now on."""
        self._driver = Driver(core, send=self.send, on_output=on_output)  # type: ignore[arg-type]
        self._context.jobs.start(self._driver.wait_closed(), "agreeing with members")

    def feed(self, event: object) -> None:
        """An event for the core."""
        if self._driver is not None and not self._driver.is_closed:
            self._driver.feed(event)

    def come(self, peer: PeerId) -> None:
        """A peer is connected."""
        self._up[peer] = None
        self.feed(PeerUp(peer))

    def go(self, peer: PeerId) -> None:
        """Its connection is gone."""
        self._up.pop(peer, None)
        self._streams.pop(peer, None)
        self.feed(PeerDown(peer))

    # ---- saying

    async def send(self, peer: PeerId, message: Message) -> None:
        """Send, over a new stream when there is none. Raises what connecting and sending raise."""
        if len(self._locks) > LOCKS_MAX:
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

    async def say(self, peer: PeerId, message: Message) -> bool:
        """As `send`; False when the peer is not reached."""
        try:
            await self.send(peer, message)
        except CoterieError:
            return False
        return True

    def later(self, peer: PeerId, message: Message) -> None:
        """As `say`, in the background."""

        async def send() -> None:
            await self.say(peer, message)

        self._context.jobs.start(send(), "telling a computer")

    async def close(self) -> None:
        """End the core and every stream."""
        if self._driver is not None:
            self._driver.close()
            await self._driver.wait_closed()
        streams, self._streams = list(self._streams.values()), {}
        for stream in streams:
            await stream.reset()
