"""Both transports behind one fixture: what is promised of a transport is tested on each."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import pytest

from coterie.identity import PeerId, SecretKey
from coterie.net import Endpoint, Guard, MemoryNetwork, NetLimits, Transport
from coterie.net.interfaces import RawConnection
from coterie.wire import Protocol
from coterie.wire.frames import Message
from tests.support import run, run_virtual

T = TypeVar("T")


class Note(Message, frozen=True):
    """A message for tests."""

    text: str


NOTES = Protocol("notes", (1, 2), {1: Note}, frozenset({2}))


class Lab:
    """Makes transports and endpoints of one kind. Keys are numbered; their ids do not sort alike."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.network = MemoryNetwork()
        self._made: list[Transport] = []

    def run(self, work: Coroutine[Any, Any, T], timeout_s: float = 60.0) -> T:
        if self.kind == "memory":
            return run_virtual(self._tidy(work))
        return run(self._tidy(work), timeout_s)

    async def _tidy(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            return await work
        finally:
            for transport in self._made:
                await transport.close()

    @staticmethod
    def key(number: int) -> SecretKey:
        return SecretKey(number.to_bytes(32, "big"))

    def peer(self, number: int) -> PeerId:
        return self.key(number).peer_id

    async def transport(self, number: int) -> Transport:
        """A new transport; closed when the scene is over."""
        made: Transport
        if self.kind == "memory":
            made = self.network.bind(self.peer(number))
        else:
            from coterie.net.quic.transport import QuicTransport

            made = await QuicTransport.bind(self.key(number), bind_ip="127.0.0.1")
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
        made = [await self.endpoint(n + 1, **bounds) for n in range(count)]
        try:
            yield made
        finally:
            for endpoint in made:
                await endpoint.close()


@pytest.fixture(params=["memory", "quic"])
def lab(request: pytest.FixtureRequest) -> Lab:
    return Lab(request.param)


@pytest.fixture
def memory() -> Lab:
    return Lab("memory")


@pytest.fixture
def quic() -> Lab:
    return Lab("quic")
