"""How those find each other who fetch the same: whom they ask, when, and what they say of it."""

import asyncio
from collections.abc import AsyncGenerator
from types import SimpleNamespace
from typing import Any

import pytest

from coterie.errors import TransportError
from coterie.identity import PeerId, SecretKey
from coterie.transfer import meeting as meet
from coterie.transfer.meeting import FIND_AGAIN_S, Meeting
from coterie.transfer.proof import meeting_key
from coterie.wire import Ticket
from coterie.wire.ticket import TicketKind
from tests.support import run

US, ANNA, BEN, EVE = (SecretKey(n.ljust(32, b"!")).peer_id for n in (b"us", b"anna", b"ben", b"eve"))
TICKET = Ticket(TicketKind.BLOB, ANNA, bytes(range(32)), bytes(range(16)))
KEY = meeting_key(TICKET.secret, TICKET.content_id)


class Overlay:
    """Everybody's table: who provides what. `fails`: there is nobody to ask."""

    def __init__(self, *, is_public: bool = True, fails: bool = False) -> None:
        self.is_public = is_public
        self.fails = fails
        self.providers: dict[bytes, list[PeerId]] = {}
        self.asked: list[bytes] = []

    async def provide(self, key: bytes) -> None:
        if self.fails:
            raise TransportError("nobody to tell")
        self.providers.setdefault(key, []).append(US)

    def withdraw(self, key: bytes) -> None:
        self.providers[key].remove(US)

    async def find_providers(self, key: bytes) -> AsyncGenerator[Any, None]:
        self.asked.append(key)
        if self.fails:
            raise TransportError("nobody to ask")
        for peer in self.providers.get(key, []):
            yield SimpleNamespace(peer=str(peer), addresses=["1.2.3.4:5"])


def network(*connected: PeerId, known: tuple[PeerId, ...]) -> Any:
    """A network with these connections."""
    return SimpleNamespace(
        connections=[SimpleNamespace(peer=peer) for peer in connected], is_known=lambda peer: peer in known
    )


def found(meeting: Meeting) -> list[tuple[PeerId, list[str]]]:
    """Whom it finds."""
    met: list[tuple[PeerId, list[str]]] = []
    run(meeting.find(lambda peer, addresses: met.append((peer, list(addresses)))))
    return met


def test_contacts_that_are_connected_and_whom_the_table_names() -> None:
    table = Overlay()
    table.providers[KEY] = [BEN]
    known = network(ANNA, EVE, BEN, US, known=(ANNA, EVE, US))
    meeting = Meeting(TICKET, us=US, network=known, table=table)
    assert found(meeting) == [(EVE, []), (BEN, ["1.2.3.4:5"])], "the ticket's own peer is asked anyway"
    assert table.asked == [KEY]
    assert TICKET.content_id not in table.asked


def test_who_is_connected_and_no_contact_is_not_asked() -> None:
    assert found(Meeting(TICKET, us=US, network=network(EVE, known=()), table=None)) == []


def test_among_acquaintances_the_table_is_left_alone() -> None:
    table = Overlay(is_public=False)
    meeting = Meeting(TICKET, us=US, network=None, table=table)
    assert found(meeting) == []
    run(meeting.announce())
    assert (table.asked, table.providers) == ([], {})


def test_announced_once_and_withdrawn() -> None:
    table = Overlay()
    meeting = Meeting(TICKET, us=US, network=None, table=table)

    async def main() -> None:
        meeting.withdraw()
        await meeting.announce()
        await meeting.announce()
        assert table.providers == {KEY: [US]}
        meeting.withdraw()
        meeting.withdraw()
        assert table.providers == {KEY: []}

    run(main())


def test_a_table_without_neighbours_is_no_failure_and_is_asked_again() -> None:
    table = Overlay(fails=True)
    meeting = Meeting(TICKET, us=US, network=None, table=table)
    run(meeting.announce())
    assert found(meeting) == []
    table.fails = False
    run(meeting.announce())
    assert table.providers == {KEY: [US]}


def test_a_flood_of_providers_is_cut_off() -> None:
    table = Overlay()
    table.providers[KEY] = [BEN] * (meet.PROVIDERS_MAX + 1)
    assert len(found(Meeting(TICKET, us=US, network=None, table=table))) == meet.PROVIDERS_MAX


def test_it_looks_again_later_and_later_as_long_as_there_are_few() -> None:
    table = Overlay()
    meeting = Meeting(TICKET, us=US, network=None, table=table)
    waits: list[float] = []

    async def main() -> None:
        wanted = asyncio.Event()
        enough = False

        async def sleep(seconds: float) -> None:
            nonlocal enough
            waits.append(seconds)
            enough = len(waits) == 7
            await asyncio.sleep(0)

        finding = asyncio.ensure_future(
            meeting.keep_finding(wanted, lambda: enough, lambda peer, addresses: None, sleep)
        )
        await asyncio.sleep(0.01)
        assert table.asked == [], "nobody wanted it yet"
        wanted.set()
        async with asyncio.timeout(10):
            while len(waits) < 7:
                await asyncio.sleep(0)
        for _ in range(10):
            await asyncio.sleep(0)
        assert len(table.asked) == 7, "there are enough"
        wanted.set()  # one of them left
        async with asyncio.timeout(10):
            while len(table.asked) < 8:
                await asyncio.sleep(0)
        finding.cancel()
        with pytest.raises(asyncio.CancelledError):
            await finding

    run(main())
    assert waits[:7] == [*FIND_AGAIN_S, FIND_AGAIN_S[-1], FIND_AGAIN_S[-1]]
