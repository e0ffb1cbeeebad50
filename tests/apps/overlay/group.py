"""Overlay services over the memory network, in virtual time."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

from coterie.apps.overlay.service import OverlayService
from coterie.identity import PeerId, SecretKey
from coterie.net import Connection, Endpoint
from coterie.sim.network import SimNetwork
from coterie.wire import Protocol

UNIX_S = 1_800_000_000.0  # when virtual time begins


def unix_now() -> float:
    return UNIX_S + asyncio.get_running_loop().time()


class Peer:
    """One node: the `Context` of its service, and the `PeerNetwork` too."""

    def __init__(self, group: "Group", endpoint: Endpoint, key: SecretKey, home: Path) -> None:
        self.peer_id = endpoint.peer_id
        self.me, self.jobs = self, self
        self.net, self.data = SimpleNamespace(overlay=self), SimpleNamespace(folder=home)
        self.level = group.level
        self.friends: list[PeerId] = []
        self.endpoint = endpoint
        self.is_reached = True
        self.dialled: list[PeerId] = []
        self._group = group
        self._key = key
        self._tasks: list[asyncio.Task[None]] = []
        self.service = OverlayService(self, clock=unix_now, seed=bytes(endpoint.peer_id))  # type: ignore[arg-type]

    def keep(self, make: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
        self.start(make(), name)

    def start(self, work: Coroutine[Any, Any, None], name: str) -> None:
        self._tasks.append(asyncio.get_running_loop().create_task(work, name=name))

    @property
    def connections(self) -> Sequence[Connection]:
        return self.endpoint.connections

    def register(self, protocol: Protocol, handler: Any, *, strangers: bool = False) -> None:
        self.endpoint.register(protocol, handler, strangers=strangers)

    def watch(
        self, *, up: Callable[..., None] | None = None, down: Callable[..., None] | None = None
    ) -> None:
        self.endpoint.watch(up=up, down=down)

    async def connect(self, peer: PeerId, addresses: Sequence[str] = ()) -> Connection:
        self.dialled.append(peer)
        return await self.endpoint.connect(peer, addresses)

    def addresses_of(self, peer: PeerId) -> list[str]:
        return self._group.addresses.get(peer, [])

    def record(self) -> bytes:
        return b""

    def record_of(self, peer: PeerId) -> bytes:
        return b""

    def learn(self, record: bytes) -> PeerId | None:
        return None

    def known(self) -> list[PeerId]:
        return list(self.friends)

    def is_known(self, peer: PeerId) -> bool:
        return peer in self.friends

    def is_reachable(self) -> bool:
        return self.is_reached

    def sign(self, message: bytes) -> bytes:
        return self._key.sign(message)

    async def close(self) -> None:
        await self.service.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class Group:
    """`async with Group(...)`: that many services; at the level `internet` each knows the one before it."""

    def __init__(self, random: Random, home: Path, *, count: int, level: str = "internet") -> None:
        self.level = level
        self.addresses: dict[PeerId, list[str]] = {}
        self.peers: list[Peer] = []
        self._network = SimNetwork(random)
        self._home = home
        self._count = count
        self._stack = AsyncExitStack()

    async def add(self, friends: Sequence[PeerId] = ()) -> Peer:
        """One more, started."""
        number = len(self.peers)
        endpoint = self._network.endpoint(f"peer {number}", guard=self._guard(number))
        await self._stack.enter_async_context(endpoint)
        key = self._network.key(f"peer {number}")
        home = self._home / str(number)
        home.mkdir(parents=True, exist_ok=True)
        peer = Peer(self, endpoint, key, home)
        peer.friends += friends
        self.peers.append(peer)
        self.addresses[endpoint.peer_id] = endpoint.addresses
        await peer.service.start()
        return peer

    def _guard(self, number: int) -> Any:
        from coterie.net import Guard

        return Guard(lambda peer, protocol: self.peers[number].is_known(peer))

    async def __aenter__(self) -> "Group":
        for number in range(self._count):
            before = [self.peers[number - 1].peer_id] if number else []
            await self.add(before if self.level == "internet" else [])
        return self

    async def __aexit__(self, *_: object) -> None:
        for peer in self.peers:
            await peer.close()
        await self._stack.aclose()
