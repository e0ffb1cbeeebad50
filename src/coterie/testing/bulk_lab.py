"""Two nodes with a bulk conversation between them, over one kind of transport."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from coterie.net import BulkStream, Connection, Endpoint
from coterie.testing.checks import run
from coterie.testing.transport_lab import NOTES, Note, TransportLab

BLOCK = 2  # the bulk kind of NOTES
UNKNOWN = 9
Work = Callable[[BulkStream], Any]


@dataclass
class Talk:
    """What became of both sides: a result or an exception."""

    gave: Any
    took: Any


class BulkLab:
    """Makes conversations between nodes on transports of `lab`."""

    def __init__(self, lab: TransportLab) -> None:
        self.lab = lab
        self.path_kind = lab.path_kind

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run one scene in real time: its bulk is moved by threads."""
        return run(self.lab.tidy(work), 60.0)

    async def endpoint(self, number: int, **bounds: Any) -> Endpoint:
        """See `TransportLab.endpoint`."""
        return await self.lab.endpoint(number, **bounds)

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
        """As `talk`, over a connection that is there."""
        ended: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        async def handle(stream: Any) -> None:
            try:
                result = await BulkStream(stream).drive(lambda bulk: give(self.begun(bulk)))
            except BaseException as error:
                ended.set_result(error)
                raise
            ended.set_result(result)

        def begin(bulk: BulkStream) -> Any:
            bulk.send(Note("begin"))
            return take(bulk)

        giver.register(NOTES, handle, strangers=True)
        bulk = BulkStream(await connection.open_stream(NOTES), takes_bulk=True)
        try:
            took = await bulk.drive(begin)
        except Exception as error:  # noqa: BLE001  (the scene looks at it)
            took = error
        return Talk(await ended, took)

    def begun(self, bulk: BulkStream) -> BulkStream:
        """`bulk`, behind the first word of the taker."""
        assert bulk.receive(10.0) == Note("begin")
        return bulk


def block(data: bytes) -> bytes:
    """A bulk frame."""
    return NOTES.bulk_header(BLOCK, len(data)) + data
