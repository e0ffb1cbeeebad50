"""Invite and join between two whole nodes: by ticket, by code, and everything that can be said when it fails."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any

import pytest

from coterie.access.policy import ANYONE, of_peer
from coterie.apps.contacts.core import INVITATIONS_MAX, Card
from coterie.apps.contacts.joining import Joining
from coterie.apps.contacts.messages import PROTOCOL
from coterie.apps.contacts.results import Met, WrongCode
from coterie.errors import AccessDenied, CoterieError, LimitExceeded, NotFound, PeerError, UsageError
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


def test_a_wrong_code_is_told_to_the_inviter_alone_and_three_burn_it(tmp_path: Path) -> None:
    async def main() -> None:
        street = Street()
        async with pair(tmp_path) as (anna, ben):
            street.move_in(anna)
            street.move_in(ben)
            async with anna.contacts.invite() as invitation:
                number = invitation.invited.code.split("-")[0]
                words = "zoo-zoo" if not invitation.invited.code.endswith("zoo-zoo") else "zoo-zone"
                for left in (2, 1, 0):
                    with pytest.raises(AccessDenied) as caught:
                        await ben.contacts.join(f"{number}-{words}")
                    assert str(left) not in str(caught.value).replace(anna.peer_id.short, "")
                    assert await invitation.next() == WrongCode(ben.peer_id.short, left)
                with pytest.raises(AccessDenied) as burnt:
                    await ben.contacts.join(invitation.invited.code)
                assert str(burnt.value) == str(caught.value)
                assert not anna.contacts.is_contact(ben.peer_id)
                await ben.contacts.join(invitation.invited.ticket)
                assert isinstance(await invitation.next(), Met)

    run(main())


def test_used_withdrawn_and_expired_are_told_to_those_who_know_the_code(tmp_path: Path) -> None:
    async def main() -> None:
        network = MemoryNetwork()
        async with (
            memory_node(network, tmp_path / "anna") as anna,
            memory_node(network, tmp_path / "ben") as ben,
            memory_node(network, tmp_path / "eve") as eve,
        ):
            async with anna.contacts.invite() as invitation:
                await ben.contacts.join(invitation.invited.ticket)
                with pytest.raises(NotFound, match="used already"):
                    await eve.contacts.join(invitation.invited.ticket)
                await ben.contacts.join(invitation.invited.ticket)  # again: it may have missed the last word
            with pytest.raises(NotFound, match="used already"):
                await eve.contacts.join(invitation.invited.ticket)
            async with anna.contacts.invite() as invitation:
                assert anna.contacts.status()["invitations open"] == 1
            with pytest.raises(NotFound, match="was withdrawn"):
                await eve.contacts.join(invitation.invited.ticket)
            async with anna.contacts.invite(minutes=0.001) as invitation:
                with pytest.raises(NotFound, match="expired; make a new one"):
                    await invitation.met()
                with pytest.raises(NotFound, match="has expired"):
                    await eve.contacts.join(invitation.invited.ticket)
            assert not anna.contacts.is_contact(eve.peer_id)
            assert anna.contacts.status() == {"contacts": 1, "invitations open": 0}

    run(main())


def test_a_removed_contact_stays_out_with_the_ticket_that_it_used(tmp_path: Path) -> None:
    async def main() -> None:
        async with pair(tmp_path) as (anna, ben):
            async with anna.contacts.invite() as invitation:
                await ben.contacts.join(invitation.invited.ticket)
                anna.contacts.remove(str(ben.peer_id))
                with pytest.raises(NotFound, match="used already"):
                    await ben.contacts.join(invitation.invited.ticket)
            with pytest.raises(NotFound, match="used already"):
                await ben.contacts.join(invitation.invited.ticket)
            assert not anna.contacts.is_contact(ben.peer_id)

    run(main())


def test_nobody_there_is_said(tmp_path: Path) -> None:
    async def main() -> None:
        network = MemoryNetwork()
        street = Street()
        async with memory_node(network, tmp_path / "ben") as ben:
            for _ in range(2):
                with pytest.raises(
                    NotFound, match=r"nobody on this network has a code with the number 7.*--at"
                ):
                    await ben.contacts.join("7-planet-velvet")
                street.move_in(ben)
            async with memory_node(network, tmp_path / "anna") as anna, anna.contacts.invite() as invitation:
                ticket = invitation.invited.ticket
            with pytest.raises(CoterieError, match="nobody answers"):
                await ben.contacts.join(ticket)

    run(main())


def test_what_cannot_be_joined_is_said_before_anything_is_sent(tmp_path: Path) -> None:
    async def main() -> None:
        (tmp_path / "file").write_text("x")
        async with pair(tmp_path) as (anna, ben):
            shared = await anna.files.share(tmp_path / "file")
            async with anna.contacts.invite() as invitation:
                for text, at, says in (
                    (invitation.invited.ticket[:50], "", "truncated"),
                    (shared.ticket, "", "coterie get"),
                    ("7-planit-velvet", "", "did you mean"),
                    ("7-planet-velvet", "somewhere", "an address"),
                ):
                    with pytest.raises(UsageError, match=says):
                        await ben.contacts.join(text, at=at)
                with pytest.raises(UsageError, match="this very computer"):
                    await anna.contacts.join(invitation.invited.ticket)
                with pytest.raises(UsageError, match="coterie join"):
                    await ben.files.get(invitation.invited.ticket, tmp_path / "x")
            for minutes in (0, -1, 1e9, float("nan")):
                with pytest.raises(UsageError, match="minutes"):
                    async with anna.contacts.invite(minutes=minutes):
                        pass
            with pytest.raises(UsageError, match="printable"):
                async with anna.contacts.invite(name="a\nb"):
                    pass

    run(main())


def test_the_same_number_twice_on_one_network_still_finds_the_right_one(tmp_path: Path) -> None:
    async def main() -> None:
        street, network = Street(), MemoryNetwork()
        async with (
            memory_node(network, tmp_path / "anna") as anna,
            memory_node(network, tmp_path / "ben") as ben,
            memory_node(network, tmp_path / "eve") as eve,
        ):
            false = street.move_in(eve)
            street.move_in(anna)
            street.move_in(ben)
            async with anna.contacts.invite(name="anna") as invitation:
                false.numbers = [int(invitation.invited.code.split("-")[0])]
                assert (await ben.contacts.join(invitation.invited.code)).name == "anna"
            assert not ben.contacts.is_contact(eve.peer_id)

    run(main())


def test_a_crowd_of_false_inviters_gets_three_tries_and_no_more(tmp_path: Path) -> None:
    async def main() -> None:
        street, network = Street(), MemoryNetwork()
        asked: list[PeerId] = []
        async with memory_node(network, tmp_path / "ben") as ben:
            street.move_in(ben)
            for number in range(10):
                house = House(street, PeerId(bytes([number]) * 32), ["[100::1]:1"])
                house.numbers = [7]
                street.houses.append(house)
            connect = ben.endpoint.connect

            async def counted(peer: PeerId, addresses: Sequence[str] = (), **source: Any) -> object:
                asked.append(peer)
                return await connect(peer, addresses, **source)

            ben.endpoint.connect = counted
            with pytest.raises(CoterieError):
                await ben.contacts.join("7-planet-velvet")
        assert len(asked) == 3

    run(main())


def test_of_many_at_once_one_comes_in(tmp_path: Path) -> None:
    async def main() -> None:
        network = MemoryNetwork()
        async with contextlib.AsyncExitStack() as stack:
            anna = await stack.enter_async_context(memory_node(network, tmp_path / "anna"))
            crowd = [
                await stack.enter_async_context(memory_node(network, tmp_path / f"n{i}")) for i in range(6)
            ]
            async with anna.contacts.invite() as invitation:
                ticket = invitation.invited.ticket
                results = await asyncio.gather(
                    *(n.contacts.join(ticket) for n in crowd), return_exceptions=True
                )
                await invitation.met()
            met = [result for result in results if isinstance(result, Met)]
            assert len(met) == len(anna.contacts.contacts()) == 1
            failed = [result for result in results if not isinstance(result, Met)]
            assert all(isinstance(f, CoterieError) for f in failed), failed
            assert sum(node.contacts.is_contact(anna.peer_id) for node in crowd) == 1

    run(main())


def test_garbage_and_silence_leave_the_node_and_the_invitation_as_they_were(tmp_path: Path) -> None:
    async def main() -> None:
        async with pair(tmp_path) as (anna, ben), anna.contacts.invite() as invitation:
            connection = await ben.endpoint.connect(anna.peer_id, anna.addresses)
            silent = [await connection.open_stream(PROTOCOL) for _ in range(3)]
            for garbage in (b"\xff" * 5000, b"\0\0\0\x02\x01\xc0", b"\0\0\0\x05\x01"):
                stream = await connection.open_stream(PROTOCOL)
                await stream.write(garbage)
                await stream.finish()
                with contextlib.suppress(PeerError):
                    assert await stream.receive(5.0) is None
                await stream.reset()
            await ben.contacts.join(invitation.invited.ticket)
            await invitation.met()
            for stream in silent:
                await stream.reset()

    run(main())


def test_a_contact_that_cannot_be_stored_is_not_one(tmp_path: Path) -> None:
    async def main() -> None:
        async with pair(tmp_path) as (anna, ben):
            folder = anna.home / "apps" / "contacts" / "contacts"
            async with anna.contacts.invite() as invitation:
                folder.rmdir()
                with pytest.raises(PeerError, match="could not store"):
                    await ben.contacts.join(invitation.invited.ticket)
                assert not anna.contacts.is_contact(ben.peer_id)
                assert not ben.contacts.is_contact(anna.peer_id)
                folder.mkdir()
                await ben.contacts.join(invitation.invited.ticket)
                assert anna.contacts.is_contact(ben.peer_id)

    run(main())


def test_only_so_many_invitations_are_open(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            memory_node(MemoryNetwork(), tmp_path / "anna") as anna,
            contextlib.AsyncExitStack() as stack,
        ):
            opened = [await stack.enter_async_context(anna.contacts.invite()) for _ in range(INVITATIONS_MAX)]
            assert len({o.invited.code.split("-")[0] for o in opened}) == INVITATIONS_MAX
            with pytest.raises(LimitExceeded):
                async with anna.contacts.invite():
                    pass

    run(main())


def test_names_default_to_those_of_the_computers_and_can_be_changed(tmp_path: Path) -> None:
    async def main() -> None:
        for home, name in (("home-anna", "kitchen"), ("home-ben", "kitchen")):
            (tmp_path / home).mkdir(mode=0o700)
            (tmp_path / home / "config.toml").write_text(f'name = "{name}"\n')
        async with pair(tmp_path) as (anna, ben):
            async with anna.contacts.invite() as invitation:
                assert (await ben.contacts.join(invitation.invited.ticket)).name == "kitchen"
            assert ben.contacts.rename("kitchen", "anna").name == "anna"
            async with anna.contacts.invite(name="other") as invitation:
                assert (await ben.contacts.join(invitation.invited.ticket)).name == "anna"
            ben.contacts.remove("anna")
            assert ben.contacts.lines() == []
            assert [line.name for line in anna.contacts.lines()] == ["kitchen"]

    run(main())


def test_a_joiner_that_claims_the_name_of_another_gets_another(tmp_path: Path) -> None:
    async def main() -> None:
        network = MemoryNetwork()
        async with contextlib.AsyncExitStack() as stack:
            anna, ben, eve, zoe = [
                await stack.enter_async_context(memory_node(network, tmp_path / name))
                for name in ("anna", "ben", "eve", "zoe")
            ]
            imitation = f"ben~{str(ben.peer_id)[:3]}"
            for node, claimed in ((ben, "ben"), (eve, imitation), (zoe, "anyone")):
                async with anna.contacts.invite() as invitation:  # by its own program, which checks no name
                    await Joining(node.contacts._context, invitation.invited.ticket, Card(claimed)).run()
            assert anna.people.find(imitation) == ben.peer_id
            assert anna.people.subject(imitation) == of_peer(ben.peer_id)
            assert anna.people.subject("anyone") == ANYONE
            assert anna.people.subject("anyone_") == of_peer(zoe.peer_id)
            for name in ("ben~k3f", "a/b", "anyone"):
                with pytest.raises(UsageError, match="cannot be a name"):
                    anna.contacts.rename("ben", name)
                with pytest.raises(UsageError, match="cannot be a name"):
                    await zoe.contacts.join("7-planet-velvet", name=name)

    run(main())


def test_an_old_home_with_a_name_that_means_something_says_another(tmp_path: Path) -> None:
    async def main() -> None:
        (tmp_path / "anna").mkdir(mode=0o700)
        (tmp_path / "anna" / "config.toml").write_text('name = "anyone"\n')
        network = MemoryNetwork()
        async with (
            memory_node(network, tmp_path / "anna") as anna,
            memory_node(network, tmp_path / "ben") as ben,
        ):
            async with anna.contacts.invite() as invitation:
                assert (await ben.contacts.join(invitation.invited.ticket)).name == "anyone_"
            assert anna.status().name == "anyone_"

    run(main())
