"""Transports and endpoints of one kind, for the suites that every transport has to pass."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from coterie.identity import PeerId, SecretKey
from coterie.net import Endpoint, Guard, NetLimits, Transport
from coterie.net.interfaces import RawConnection
from coterie.testing.checks import run
from coterie.wire import Protocol
from coterie.wire.frames import Message

T = TypeVar("T")


class Note(Message, frozen=True):
    """A message for tests."""

    text: str


NOTES = Protocol("notes", (1, 2), {1: Note}, frozenset({2}))
"""A protocol for tests: messages are `Note`s, frames of kind 2 are bulk."""


class TransportLab:
    """Makes transports and endpoints of one kind: override `bind`. Keys are numbered; their ids do not sort alike.

    `path_kind` is what `RawConnection.path.kind` is to be.
    """

    path_kind = "direct"

    def __init__(self) -> None:
        self._made: list[Transport] = []

    async def bind(self, key: SecretKey) -> Transport:
        """A transport that is `key`'s, bound where others in this process reach it."""
        raise NotImplementedError

    def run(self, work: Coroutine[Any, Any, T], timeout_s: float = 60.0) -> T:
        """Run one scene, and close all transports that it made."""
        return run(self.tidy(work), timeout_s)

    async def tidy(self, work: Coroutine[Any, Any, T]) -> T:
        """`work`, and behind it the end of all transports."""
        try:
            return await work
        finally:
            for transport in self._made:
                await transport.close()

    @staticmethod
    def key(number: int) -> SecretKey:
        """The key of the node with this number."""
        return SecretKey(number.to_bytes(32, "big"))

    def peer(self, number: int) -> PeerId:
        """The id of the node with this number."""
        return self.key(number).peer_id

    async def transport(self, number: int) -> Transport:
        """A new transport; closed when the scene is over."""
        made = await self.bind(self.key(number))
        self._made.append(made)
        return made

    @asynccontextmanager
    async def pair(self) -> AsyncIterator[tuple[RawConnection, RawConnection]]:
        """Two connected ends: the dialler's and the acceptor's."""
        one, other = await self.transport(1), await self.transport(2)
        try:
            yield tuple(  # type: ignore[misc]
                await asyncio.gather(one.connect(other.peer_id, other.addresses), other.accept())
            )
        finally:
            await one.close()
            await other.close()

    async def endpoint(self, number: int, *, boot: bytes | None = None, **bounds: Any) -> Endpoint:
        """A started endpoint that lets everybody open everything, with `bounds` for limits."""
        limits = NetLimits(**bounds)
        guard = Guard(lambda peer, name: True, limits=limits)
        endpoint = Endpoint(await self.transport(number), guard=guard, limits=limits, boot=boot)
        endpoint.start()
        return endpoint

    @asynccontextmanager
    async def endpoints(self, count: int, **bounds: Any) -> AsyncIterator[list[Endpoint]]:
        """So many of them, closed behind the block."""
        made = [await self.endpoint(n + 1, **bounds) for n in range(count)]
        try:
            yield made
        finally:
            for endpoint in made:
                await endpoint.close()
