"""Contacts as a resolver: those connected now are asked for the record of whom we look for.

A contact answers only about its own contacts, and only its own contacts (`RecordKeeper.record_for`).
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Container

from coterie.errors import CoterieError
from coterie.identity import PeerId
from coterie.net.connection import Connection
from coterie.net.endpoint import Endpoint
from coterie.net.find.resolver import Found

ASKED_MAX = 8  # guess: people who know each other; the first good answer is enough
RESOLVE_S = 3.0  # guess: three round trips of a bad satellite link

AskRecord = Callable[[Connection, PeerId], Awaitable[bytes]]


class CircleResolver:
    """See `net.resolver.Resolver`. Publishing needs nothing: each connection tells the newest record anyway."""

    name = "contacts"
    is_public = False

    def __init__(
        self, endpoint: Endpoint, *, ask: AskRecord, contacts: Callable[[], Container[PeerId]]
    ) -> None:
        """`ask(connection, about)` gives a record or b""; `contacts()` are those to ask."""
        self._endpoint = endpoint
        self._ask = ask
        self._contacts = contacts

    async def start(self, found: Found) -> None:
        """Nothing turns up without being asked for."""

    async def publish(self, record: bytes) -> None:
        """Told on each connection already."""

    async def resolve(self, peer: PeerId) -> AsyncIterator[bytes]:
        """What connected contacts know of `peer`, in the order of their answers."""
        known = self._contacts()
        asked = [c for c in self._endpoint.connections if c.peer in known and c.peer != peer][:ASKED_MAX]
        asks = [asyncio.ensure_future(self._one(connection, peer)) for connection in asked]
        try:
            for answer in asyncio.as_completed(asks):
                raw = await answer
                if raw:
                    yield raw
        finally:
            for ask in asks:
                ask.cancel()
            await asyncio.gather(*asks, return_exceptions=True)

    async def close(self) -> None:
        """Nothing runs."""

    async def _one(self, connection: Connection, about: PeerId) -> bytes:
        try:
            async with asyncio.timeout(RESOLVE_S):
                return await self._ask(connection, about)
        except (CoterieError, TimeoutError):
            return b""  # one contact that cannot help: others may
