"""A process with many real nodes of the overlay, told what to do by lines of JSON; see `real_nodes.py`.

Each node has a key, a QUIC endpoint of its own, a `Reach` with its address book, and the overlay's service: all but the
files, contacts and faces of a whole node.
"""

import asyncio
import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

from coterie.apps.overlay.service import OverlayService
from coterie.apps.overlay.topic import Topic
from coterie.errors import CoterieError
from coterie.identity import PeerId, SecretKey
from coterie.net import Connection, Endpoint, NetLimits
from coterie.net.quic.transport import QuicTransport
from coterie.network import NodeNetwork
from coterie.reach import Reach, ReachLevel

TOPIC = "everybody"
AT_ONCE = 4  # lookups of one process
START_WAIT_S = 20.0  # for the first neighbour; then the next node starts all the same
DIALS_MAX = 8  # of all nodes of this process: a hundred that dial at once on two cores all time out
LIMITS = NetLimits(
    idle_s=15.0,  # 60 on real nodes: a hundred on one machine would keep 10,000 connections
    dial_s=20.0,  # 6 on real nodes: here a handshake waits for its turn on a busy processor
    handshake_s=15.0,
    header_s=15.0,
    connections_burst=60,
)


class _Network(NodeNetwork):
    """That of a node, which lets `DIALS_MAX` of this process dial at once."""

    gate = asyncio.Semaphore(DIALS_MAX)

    async def connect(self, peer: PeerId, addresses: Sequence[str] = ()) -> Connection:
        if any(connection.peer == peer for connection in self.connections):
            return await super().connect(peer, addresses)
        async with self.gate:
            return await super().connect(peer, addresses)


class Node:
    """One node; also the `Context` of its service."""

    def __init__(self, number: int, home: Path) -> None:
        self.key = SecretKey(number.to_bytes(32, "big"))
        self.peer_id: PeerId = self.key.peer_id
        self.number = number
        self.home = home
        self.overlay: NodeNetwork | None = None
        self.me, self.net, self.jobs = self, self, self
        self.data = SimpleNamespace(folder=home)
        self.topic: Topic | None = None
        self.arrivals: dict[str, float] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self, known: Sequence[bytes]) -> None:
        self.home.mkdir(parents=True)
        transport = await QuicTransport.bind(self.key, port=0, bind_ip="127.0.0.1")
        self.endpoint = Endpoint(transport, limits=LIMITS)
        self.reach = Reach(
            self.endpoint,
            transport,
            self.key,
            level=ReachLevel.INTERNET,
            name=f"node {self.number}",
            book_path=self.home / "addresses",
        )
        await self.reach.start()
        self.endpoint.start()
        first = [peer for raw in known if (peer := self.reach.learn(raw, "given")) is not None]
        self.overlay = _Network(
            self.endpoint,
            self.reach,
            self.key.sign,
            register=self.endpoint.register,
            contacts=lambda: first,
            is_known=lambda peer: peer in first,
        )
        self.service = OverlayService(self)  # type: ignore[arg-type]
        await self.service.start()
        self.topic = self.service.topic(TOPIC)
        self.start(self._listen(self.topic), "listening")

    def keep(self, make: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
        self.start(make(), name)

    def start(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)

    async def _listen(self, topic: Topic) -> None:
        async for _, payload in topic:
            self.arrivals[payload.decode()] = time.time()

    async def has_neighbours(self, wait_s: float) -> None:
        """Wait for the first one, for a while: a hundred handshakes at once would time out on a busy machine."""
        assert self.topic is not None
        until = time.monotonic() + wait_s
        while not self.topic.neighbours and time.monotonic() < until:
            await asyncio.sleep(0.02)

    @property
    def is_ready(self) -> bool:
        assert self.topic is not None
        return len(self.topic.neighbours) > 0 and self.service.status()["computers in the table"] >= 8


class Worker:
    """The nodes of this process, and what can be asked of them."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._nodes: list[Node] = []

    async def start(self, first: int, count: int, known: list[str], seed: int) -> list[str]:
        """Start nodes that know two of `known` (records, hexadecimal) or of each other; their records."""
        random, records = Random(seed + first), [bytes.fromhex(raw) for raw in known]
        for number in range(first, first + count):
            node = Node(number, self._home / str(number))
            others = random.sample(records, min(2, len(records)))
            await node.open(others)
            assert node.overlay is not None
            records.append(node.overlay.record())
            self._nodes.append(node)
            if others:
                await node.has_neighbours(START_WAIT_S)
        return [raw.hex() for raw in records[len(known) :]]

    async def ready(self) -> bool:
        """Whether every node has neighbours and a table."""
        return all(node.is_ready for node in self._nodes)

    async def provide(self) -> int:
        """Every node announces itself; the fewest holders that one found."""
        stored = [await node.service.provide(b"node %d" % node.number) for node in self._nodes]
        return min(s.holders for s in stored)

    async def lookups(self, wanted: list[int], count: int, seed: int) -> list[tuple[float, bool]]:
        """Look for the providers of nodes in `wanted`, from nodes at random: (s until found, or given up; found)."""
        random = Random(seed)
        jobs = [(random.choice(self._nodes), random.choice(wanted)) for _ in range(count)]
        gate = asyncio.Semaphore(AT_ONCE)

        async def one(node: Node, number: int) -> tuple[float, bool]:
            async with gate:
                return await _look_up(node, number)

        return await asyncio.gather(*(one(*job) for job in jobs))

    async def publish(self, payload: str) -> float:
        """One node tells everybody; when (unix s)."""
        node = self._nodes[0]
        assert node.topic is not None
        node.arrivals[payload] = began = time.time()
        node.topic.publish(payload.encode())
        return began

    async def arrivals(self, payload: str) -> list[float | None]:
        """When each node got it."""
        return [node.arrivals.get(payload) for node in self._nodes]

    async def state(self) -> dict[str, Any]:
        """Memory, connections and what the overlay says of itself."""
        views = [node.service.describe() for node in self._nodes]
        return {
            "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            "cpu_s": time.process_time(),
            "connections": sum(len(node.endpoint.connections) for node in self._nodes),
            "contacts": [view.contacts for view in views],
            "neighbours": [len(node.topic.neighbours) for node in self._nodes if node.topic],
            "sent": sum(line.sent for view in views for line in view.traffic),
        }


async def _look_up(node: Node, number: int) -> tuple[float, bool]:
    target, began = str(SecretKey(number.to_bytes(32, "big")).peer_id), time.perf_counter()
    if target == str(node.peer_id):
        return 0.0, True
    is_found = False
    found = node.service.find_providers(b"node %d" % number)
    try:
        async with asyncio.timeout(20):
            async for provider in found:
                if provider.peer == target and provider.addresses:
                    is_found = True
                    break
    except (CoterieError, TimeoutError):
        is_found = False
    finally:
        await found.aclose()  # type: ignore[attr-defined]
    return time.perf_counter() - began, is_found


async def main() -> None:
    loop, reader = asyncio.get_running_loop(), asyncio.StreamReader(limit=1 << 24)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    with tempfile.TemporaryDirectory() as home:
        worker = Worker(Path(home))
        while line := await reader.readline():
            name, arguments = json.loads(line)
            answer = await getattr(worker, name)(**arguments)
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
