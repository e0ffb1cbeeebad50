"""How those who fetch the same find each other: by what this node knows already, and by the table of the overlay.

Nobody found here is trusted: to whom we say what we want, we prove the ticket's secret without showing it (`proof`).
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Any, Protocol

from coterie.errors import CoterieError, UsageError
from coterie.identity import PeerId
from coterie.transfer.proof import meeting_key
from coterie.transfer.surroundings import Acquaintances
from coterie.wire import Ticket

FIND_AGAIN_S = (
    30.0,
    60.0,
    120.0,
    300.0,
    900.0,
)  # guess: announcements spread within minutes, then rarely change
FIND_S = 30.0  # for one search of the table; guess: lookups take seconds
CONTACTS_ASKED_MAX = 16  # of those connected anyway; guess
PROVIDERS_MAX = 50  # of one search, as many as one `Peers` names

log = logging.getLogger(__name__)

Met = Callable[[PeerId, Sequence[str]], None]
Sleep = Callable[[float], Awaitable[None]]


class Table(Protocol):
    """The side of the overlay app that is needed here."""

    @property
    def is_public(self) -> bool: ...

    async def provide(self, key: bytes) -> Any: ...

    def withdraw(self, key: bytes) -> None: ...

    def find_providers(self, key: bytes) -> AsyncGenerator[Any, None]: ...


class Meeting:
    """Those who have one ticket. `announce` and `withdraw` are about us, `find` about others.

    The table is used at the level `internet` only: among acquaintances it introduces nobody.
    """

    def __init__(
        self, ticket: Ticket, *, us: PeerId, network: Acquaintances | None, table: Table | None
    ) -> None:
        self._key = meeting_key(ticket.secret, ticket.content_id)
        self._ticket = ticket
        self._us = us
        self._network = network
        self._table = table
        self._is_announced = False

    async def announce(self) -> None:
        """Say in the table that this node gives it, once; the table repeats it until `withdraw`."""
        table = self._public_table()
        if table is None or self._is_announced:
            return
        self._is_announced = True
        try:
            await table.provide(self._key)
        except CoterieError as error:
            self._is_announced = False
            log.info("could not announce a download in the table: %s", error)
        except BaseException:  # cancelled: another time
            self._is_announced = False
            raise

    def withdraw(self) -> None:
        """Announce it no longer."""
        if self._is_announced and self._table is not None:
            self._is_announced = False
            self._table.withdraw(self._key)

    async def find(self, met: Met) -> None:
        """Tell `met` who may have it: contacts that are connected, then those that the table names."""
        for peer in self._contacts():
            met(peer, ())
        table = self._public_table()
        if table is None:
            return
        found = 0
        try:
            providers = table.find_providers(self._key)
            async with asyncio.timeout(FIND_S), contextlib.aclosing(providers):
                async for provider in providers:
                    with contextlib.suppress(UsageError):  # the id of no computer
                        met(PeerId.parse(provider.peer), provider.addresses)
                    found += 1
                    if found == PROVIDERS_MAX:
                        return
        except (CoterieError, TimeoutError) as error:
            log.info("looking for others that have a download: %s", error or "the table is slow")

    async def keep_finding(
        self, wanted: asyncio.Event, enough: Callable[[], bool], met: Met, sleep: Sleep = asyncio.sleep
    ) -> None:
        """Look when it is `wanted`, and again later as long as there are not `enough`; until cancelled."""
        await wanted.wait()
        for turn in range(1 << 62):
            wanted.clear()
            await self.announce()
            await self.find(met)
            await sleep(FIND_AGAIN_S[min(turn, len(FIND_AGAIN_S) - 1)])
            if enough():
                await wanted.wait()

    def _public_table(self) -> Table | None:
        return self._table if self._table is not None and self._table.is_public else None

    def _contacts(self) -> list[PeerId]:
        if self._network is None:
            return []
        known = [c.peer for c in self._network.connections if self._network.is_known(c.peer)]
        return [peer for peer in known if peer not in (self._us, self._ticket.peer)][:CONTACTS_ASKED_MAX]
