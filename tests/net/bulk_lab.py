"""Two nodes with a bulk conversation between them, over memory, over QUIC streams, and over lanes."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from coterie.net import BulkStream, Connection, Endpoint, Guard, Lanes, NetLimits
from coterie.net.lanes.lanes import PeerLanes
from coterie.wire.frames import HEADER
from tests.net.conftest import NOTES, Lab, Note
from tests.support import run

BLOCK = 2  # the bulk kind of NOTES
UNKNOWN = 9
Work = Callable[[BulkStream], Any]


@dataclass
class Talk:
    """What became of both sides: a result or an exception."""

    gave: Any
    took: Any


class BulkLab:
    """Makes conversations of one kind: "memory", "quic" or "lane"."""

    def __init__(self, kind: str, **lanes: Any) -> None:
        self.kind = kind
        self.lab = Lab("memory" if kind == "memory" else "quic")
        self._lanes = {"after_bytes": 0, **lanes}

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return run(self.lab._tidy(work), 60.0)

    async def endpoint(self, number: int, **bounds: Any) -> Endpoint:
        limits = NetLimits(**bounds)
        lanes = Lanes("127.0.0.1", **self._lanes) if self.kind == "lane" else None
        guard = Guard(lambda peer, name: True, limits=limits)
        endpoint = Endpoint(await self.lab.transport(number), guard=guard, limits=limits, lanes=lanes)
        endpoint.start()
        return endpoint

    @asynccontextmanager
    async def pair(self, **bounds: Any) -> AsyncIterator[tuple[Connection, Endpoint, Endpoint]]:
        """The taker's connection to the giver; the taker; the giver."""
        taker, giver = await self.endpoint(1, **bounds), await self.endpoint(2, **bounds)
        try:
            yield await taker.connect(giver.peer_id, giver.addresses), taker, giver
        finally:
            await taker.close()
            await giver.close()

    async def talk(self, give: Work, take: Work, **bounds: Any) -> Talk:
        """One conversation; `give` begins when its bulk goes the way that this lab is for."""
        async with self.pair(**bounds) as (connection, _, giver):
            return await self.converse(connection, giver, give, take)

    async def converse(self, connection: Connection, giver: Endpoint, give: Work, take: Work) -> Talk:
        ended: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        async def handle(stream: Any) -> None:
            try:
                result = await BulkStream(stream).drive(lambda bulk: give(self._begun(bulk)))
            except BaseException as error:
                ended.set_result(error)
                raise
            ended.set_result(result)

        giver.register(NOTES, handle, strangers=True)
        bulk = BulkStream(await connection.open_stream(NOTES), takes_bulk=True)
        try:
            took = await bulk.drive(lambda b: (b.send(Note("begin")), take(b))[1])
        except Exception as error:  # noqa: BLE001  (the scene looks at it)
            took = error
        return Talk(await ended, took)

    def _begun(self, bulk: BulkStream) -> BulkStream:
        assert bulk.receive(10.0) == Note("begin")
        if self.kind == "lane":
            move_to_lane(bulk)
        return bulk


def move_to_lane(bulk: BulkStream) -> None:
    """Write what the other side skips until a lane is there."""
    for _ in range(60):
        bulk.write(HEADER.pack(1, UNKNOWN))
        if bulk.path is not None and bulk.path.kind == "lane":
            return
        time.sleep(0.05)
    raise AssertionError(f"no lane came up: {bulk._lanes.problem if bulk._lanes else None}")


def block(data: bytes) -> bytes:
    """A bulk frame."""
    return NOTES.bulk_header(BLOCK, len(data)) + data


def lanes_of(connection: Connection) -> PeerLanes:
    assert isinstance(connection.lanes, PeerLanes)
    return connection.lanes
