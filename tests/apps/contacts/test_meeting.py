"""Invite and join between two whole nodes: by ticket, by code, and everything that can be said when it fails."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

import pytest

from coterie.apps.contacts.results import Met, WrongCode
from coterie.errors import AccessDenied, CoterieError, NotFound, UsageError
from coterie.identity import PeerId
from coterie.net import MemoryNetwork
from coterie.node import Node
from tests.apps.files.nodes import memory_node, pair
from tests.support import run


class Street:
    """A local network: what one node announces, the others find."""

    def __init__(self) -> None:
        self.houses: list[House] = []

    def move_in(self, node: Node) -> "House":
        house = House(self, node.peer_id, node.addresses)
        self.houses.append(house)
        node.neighbours = house
        return house


class House:
    """One node's view of the `Street`."""

    def __init__(self, street: Street, peer: PeerId, addresses: Sequence[str]) -> None:
        self.street, self.peer, self.addresses = street, peer, addresses
        self.numbers: list[int] = []
        self.announced: list[list[int]] = []

    def announce_invitations(self, numbers: Sequence[int]) -> None:
        self.numbers = list(numbers)
        self.announced.append(list(numbers))

    async def find_inviters(self, number: int) -> AsyncGenerator[tuple[PeerId, Sequence[str]], None]:
        for house in self.street.houses:
            if number in house.numbers:
                yield house.peer, house.addresses


def test_by_ticket_both_know_each_other(tmp_path: Path) -> None:
    async def main() -> None:
        async with pair(tmp_path) as (anna, ben):
            async with anna.contacts.invite(name="anna") as invitation:
                met = await ben.contacts.join(invitation.invited.ticket, name="ben")
                seen = await invitation.met()
            assert (met.name, met.peer) == ("anna", str(anna.peer_id))
            assert (seen.name, seen.peer) == ("ben", str(ben.peer_id))
            assert anna.contacts.is_contact(ben.peer_id)
            assert ben.contacts.is_contact(anna.peer_id)
            assert list(ben.contacts.by_name("ANNA").addresses) == anna.addresses

    run(main())


def test_by_code_on_a_network_that_finds(tmp_path: Path) -> None:
    async def main() -> None:
        street = Street()
        async with pair(tmp_path) as (anna, ben):
            house = street.move_in(anna)
            street.move_in(ben)
            async with anna.contacts.invite(name="anna") as invitation:
                await ben.contacts.join(invitation.invited.code.upper().replace("-", " "), name="ben")
                assert (await invitation.met()).name == "ben"
            assert anna.contacts.is_contact(ben.peer_id)
            assert house.announced[-1] == []

    run(main())
