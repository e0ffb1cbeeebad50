"""Revocations in the logs of circles: from another computer of the same person, and carried by members."""

import asyncio
from pathlib import Path

import pytest

from coterie.apps.grants.messages import PROTOCOL, Gave, Present, Taken
from coterie.apps.grants.service import GrantsService, Wanted
from coterie.errors import AccessDenied, CloseCode, NotFound
from coterie.node import Node
from coterie.services.mail.events import Ended
from tests.apps.circles.nodes import circles, let_in, let_in_device, people, until
from tests.support import run

WEEK = Wanted(lasting_s=604_800)


def grants(node: Node) -> GrantsService:
    service: GrantsService = node.service("grants")
    return service


def states(node: Node, role: str) -> list[str]:
    return [line.state for line in grants(node).lines() if line.role == role]


async def share(node: Node, folder: Path) -> None:
    (folder / "photos").mkdir()
    (folder / "photos" / "b.jpg").write_bytes(b"b")
    await node.files.share(folder / "photos")


async def sees(node: Node, whose: Node) -> list[str]:
    return [line.name for line in await node.directory.look(f"{whose.peer_id}/photos")]


async def part(one: Node, other: Node) -> None:
    link = await one.connect(other.peer_id)
    link.close(CloseCode.NORMAL)
    await link.closed()


def test_another_computer_of_the_same_person_takes_back_what_this_one_gave(tmp_path: Path) -> None:
    async def main() -> None:
        async with people(tmp_path, "anna", "ben", "phone") as (anna, ben, phone):
            circles(anna).create("home")
            await let_in(anna, ben, "home")
            await share(anna, tmp_path)
            before = grants(anna).give(str(ben.peer_id), "list,read", "files/photos", WEEK)
            await let_in_device(anna, phone)
            after = grants(anna).give(str(ben.peer_id), "list", "files/photos", WEEK)
            await until(lambda: len(states(phone, "given elsewhere")) == 2)
            assert await sees(ben, anna) == ["b.jpg"]
            said = grants(phone).revoke(before.id)
            assert "learns of it" in said.text()
            await until(lambda: sorted(states(anna, "given")) == ["revoked", "valid"], 5)
            grants(phone).revoke(after.id)
            await until(lambda: states(anna, "given") == ["revoked", "revoked"], 5)
            with pytest.raises(NotFound):
                await sees(ben, anna)
            assert states(phone, "given elsewhere") == ["revoked", "revoked"]
        async with people(tmp_path, "anna", "ben") as (anna, ben):  # not in `revocations`, but in the log
            await ben.connect(anna.peer_id, anna.addresses)
            with pytest.raises(NotFound):
                await sees(ben, anna)

    run(main())


def test_members_carry_a_revocation_to_one_who_was_away(tmp_path: Path) -> None:
    """Ben takes back what he passed on to carl; dora, who is in no chain, brings it to anna."""

    async def main() -> None:
        async with people(tmp_path, "anna", "ben", "carl", "dora") as (anna, ben, carl, dora):
            circles(anna).create("home")
            for node in (ben, carl, dora):
                await let_in(anna, node, "home")
            await until(lambda: all(len(circles(n).members("home")) == 4 for n in (ben, carl, dora)))
            await share(anna, tmp_path)
            whole = grants(anna).give(
                str(ben.peer_id), "list,read", "files/photos", Wanted(lasting_s=604_800, pass_on=1)
            )
            await grants(ben).accept(whole.grant)
            (held,) = grants(ben).lines()
            given = grants(ben).pass_on(held.id, str(carl.peer_id), Wanted(lasting_s=86_400))
            await grants(carl).accept(given.grant)
        async with people(tmp_path, "ben", "dora") as (ben, dora):
            await dora.connect(ben.peer_id, ben.addresses)
            (passed,) = [line.id for line in grants(ben).lines() if line.role == "given"]
            grants(ben).revoke(passed)
            await until(lambda: bool(circles(dora).states()[0].revocations))
        async with people(tmp_path, "anna", "carl") as (anna, carl):
            await carl.connect(anna.peer_id, anna.addresses)
            assert await sees(carl, anna) == ["b.jpg"]  # she has not heard
        async with people(tmp_path, "anna", "carl", "dora") as (anna, carl, dora):
            await dora.connect(anna.peer_id, anna.addresses)
            await until(lambda: bool(circles(anna).states()[0].revocations), 5)
            await carl.connect(anna.peer_id, anna.addresses)
            with pytest.raises(NotFound):
                await sees(carl, anna)
            await until(lambda: states(carl, "held") == ["revoked"], 5)

    run(main())


def test_a_member_cannot_revoke_what_another_gave(tmp_path: Path) -> None:
    async def main() -> None:
        async with people(tmp_path, "anna", "ben", "eve") as (anna, ben, eve):
            circles(anna).create("home")
            await let_in(anna, ben, "home")
            await let_in(anna, eve, "home", "owner")
            await share(anna, tmp_path)
            given = grants(anna).give(str(ben.peer_id), "list", "files/photos", WEEK)
            link_id = anna.access.policy.held_by(ben.peer_id)[0].id
            with pytest.raises(NotFound, match="gave no grant"):
                grants(eve).revoke(given.id)
            assert circles(eve).revoke(link_id, [anna.peer_id]) == ["home"]
            await until(lambda: link_id in circles(anna).states()[0].revocations)
            assert await sees(ben, anna) == ["b.jpg"]
            assert states(anna, "given") == ["valid"]

    run(main())


def test_what_was_given_is_told_to_own_computers_only(tmp_path: Path) -> None:
    async def main() -> None:
        async with people(tmp_path, "anna", "ben", "phone") as (anna, ben, phone):
            circles(anna).create("home")
            await let_in(anna, ben, "home")
            await let_in_device(anna, phone)
            await share(anna, tmp_path)
            grants(anna).give(str(ben.peer_id), "list", "files/photos", WEEK)
            await until(lambda: states(phone, "given elsewhere") == ["valid"])
            assert states(ben, "given elsewhere") == []
            raw = anna.access.policy.held_by(ben.peer_id)[0].raw
            link = await ben.connect(phone.peer_id, phone.addresses)
            async with await link.open_stream(
                PROTOCOL
            ) as stream:  # ben claims to have given, and sends noise
                await stream.send(Gave([raw, b"noise"]))
                await stream.send(Present(b""))
                assert await stream.receive(5.0) == Taken(False)
            assert states(phone, "given elsewhere") == ["valid"]

    run(main())


def test_a_computer_that_was_taken_off_the_list_revokes_nothing_for_the_others(tmp_path: Path) -> None:
    async def main() -> None:
        async with people(tmp_path, "anna", "ben", "phone") as (anna, ben, phone):
            circles(anna).create("home")
            await let_in(anna, ben, "home")
            await let_in_device(anna, phone)
            await share(anna, tmp_path)
            given = grants(anna).give(str(ben.peer_id), "list", "files/photos", WEEK)
            await until(lambda: states(phone, "given elsewhere") == ["valid"])
            circles(anna).devices.remove(str(phone.peer_id))
            await asyncio.sleep(0.2)
            try:
                grants(phone).revoke(given.id)  # its own copy of the log does not know better
            except AccessDenied:
                return
            await asyncio.sleep(0.3)
            assert states(anna, "given") == ["valid"]

    run(main())


# ---- what the other computers of a person are told


def waiting(node: Node) -> str:
    """How many letters of grants wait on a node."""
    said = grants(node)._context.mail.status().get("mail", "0 letters (")
    return str(said).split(" (")[0]


async def with_a_phone(anna: Node, ben: Node, phone: Node, folder: Path) -> None:
    circles(anna).create("home")
    await let_in(anna, ben, "home")
    await let_in_device(anna, phone)
    await share(anna, folder)


def test_an_own_computer_that_is_away_hears_of_each_grant_by_one_letter(tmp_path: Path) -> None:
    async def main() -> None:
        async with people(tmp_path, "anna", "ben", "phone") as (anna, ben, phone):
            await with_a_phone(anna, ben, phone, tmp_path)
        async with people(tmp_path, "anna", "ben") as (anna, ben):
            for _ in range(2):
                grants(anna).give(str(ben.peer_id), "list", "files/photos", WEEK)
            await until(lambda: waiting(anna) == "2 letters")
        for _ in range(2):  # the second time there is nothing to tell
            async with people(tmp_path, "phone", "anna") as (phone, anna):
                await until(lambda: len(states(phone, "given elsewhere")) == 2)
                await until(lambda: waiting(anna) == "0 letters")
                await anna.connect(phone.peer_id, phone.addresses)

    run(main())


def test_an_own_computer_without_mail_hears_of_everything_at_each_meeting(tmp_path: Path) -> None:
    """As one of version 0.1: it has no such protocol."""

    async def main() -> None:
        async with people(tmp_path, "anna", "ben", "phone") as (anna, ben, phone):
            await with_a_phone(anna, ben, phone, tmp_path)
            await until(lambda: waiting(anna) == "0 letters")
            assert phone.endpoint is not None
            phone.endpoint.unregister("mail")
            await part(anna, phone)
            grants(anna).give(str(ben.peer_id), "list", "files/photos", WEEK)
            await anna.connect(phone.peer_id, phone.addresses)
            await until(lambda: len(states(phone, "given elsewhere")) == 1)
            assert waiting(anna) == "1 letters"  # it may be upgraded

    run(main())


def test_after_a_letter_that_did_not_arrive_everything_is_told_anew(tmp_path: Path) -> None:
    async def main() -> None:
        async with people(tmp_path, "anna", "ben", "phone") as (anna, ben, phone):
            await with_a_phone(anna, ben, phone, tmp_path)
            grants(anna).give(str(ben.peer_id), "list", "files/photos", WEEK)
            await until(lambda: len(states(phone, "given elsewhere")) == 1)
            await until(lambda: waiting(anna) == "0 letters")
            for record in list(grants(phone)._carried.theirs):
                grants(phone)._carried.theirs.remove(record.id)
            grants(anna)._ended(Ended(bytes(16), ben.peer_id, False, "it expired"))
            grants(anna)._ended(Ended(bytes(16), phone.peer_id, True))
            await asyncio.sleep(0.1)
            assert states(phone, "given elsewhere") == []
            grants(anna)._ended(Ended(bytes(16), phone.peer_id, False, "it expired"))
            await until(lambda: len(states(phone, "given elsewhere")) == 1)

    run(main())


def test_a_grant_that_was_given_without_the_network_is_told_at_the_next_start(tmp_path: Path) -> None:
    async def main() -> None:
        async with people(tmp_path, "anna", "ben", "phone") as (anna, ben, phone):
            await with_a_phone(anna, ben, phone, tmp_path)
            friend = str(ben.peer_id)
        async with Node.open(tmp_path / "anna", offline=True) as anna:
            grants(anna).give(friend, "list", "files/photos", WEEK)
        async with people(tmp_path, "phone", "anna") as (phone, anna):
            await until(lambda: len(states(phone, "given elsewhere")) == 1)

    run(main())
