"""Circles between whole nodes: coming in, changing, leaving, being removed; devices; and back from paper."""

import asyncio
from pathlib import Path

import pytest

from coterie.access.circle_ops import Kind, Role
from coterie.access.policy import ANYONE
from coterie.apps.circles.admission import To
from coterie.apps.circles.messages import Belong
from coterie.errors import AccessDenied, CoterieError, NotFound, TransportError, UsageError
from coterie.identity import PeerId
from coterie.node import Node
from tests.apps.circles.nodes import circles, let_in, let_in_device, people, roles, until
from tests.apps.files.nodes import prepare_home
from tests.support import run


def test_three_people_see_the_same_circle(tmp_path: Path) -> None:
    async def main() -> None:
        async with people(tmp_path, "anna", "ben", "carl") as (anna, ben, carl):
            circles(anna).create("home")
            await let_in(anna, ben, "home", "owner")
            await let_in(ben, carl, "home", "guest")
            everybody = {"anna": "owner", "ben": "owner", "carl": "guest"}
            for node in (anna, ben, carl):
                await until(lambda node=node: roles(node, "home") == everybody)  # type: ignore[misc]
            assert [line.role for line in circles(carl).lines()] == ["guest"]
            assert circles(carl).roles_of(anna.peer_id)[0][1] == "owner"

    run(main())


def test_changes_reach_all_who_are_connected(tmp_path: Path) -> None:
    async def main() -> None:
        async with people(tmp_path, "anna", "ben", "carl") as (anna, ben, carl):
            circles(anna).create("home")
            await let_in(anna, ben, "home")
            await let_in(anna, carl, "home")
            circles(anna).set_role("home", "ben", "owner")
            await until(lambda: roles(carl, "home").get("ben") == "owner")
            await until(lambda: roles(ben, "home").get("ben") == "owner")
            circles(ben).rename("home", "castle")
            await until(lambda: circles(carl).lines()[0].name == "castle")
            circles(carl).rename("castle", "karl", "carl")
            await until(lambda: "karl" in roles(anna, "castle"))

    run(main())


def test_the_circle_is_there_after_a_restart_and_catches_up(tmp_path: Path) -> None:
    async def main() -> None:
        async with people(tmp_path, "anna", "ben") as (anna, ben):
            circles(anna).create("home")
            await let_in(anna, ben, "home")
        async with people(tmp_path, "anna", "dora") as (anna, dora):
            await let_in(anna, dora, "home")  # while ben is away
            circles(anna).rename("home", "castle")
        async with people(tmp_path, "anna", "ben", "dora") as (anna, ben, dora):
            await ben.connect(anna.peer_id, anna.addresses)
            await until(lambda: circles(ben).lines()[0].name == "castle")
            assert roles(ben, "castle") == {"anna": "owner", "ben": "member", "dora": "member"}

    run(main())


def test_a_member_unknown_to_the_other_proves_itself(tmp_path: Path) -> None:
    """Dora joined while ben was away, and is the first whom ben meets."""

    async def main() -> None:
        async with people(tmp_path, "anna", "ben") as (anna, ben):
            circles(anna).create("home")
            await let_in(anna, ben, "home")
        async with people(tmp_path, "anna", "dora") as (anna, dora):
            await let_in(anna, dora, "home")
        async with people(tmp_path, "ben", "dora") as (ben, dora):
            await dora.connect(ben.peer_id, ben.addresses)
            await until(lambda: "dora" in roles(ben, "home"))

    run(main())


def test_a_removed_member_is_told_and_hears_no_more(tmp_path: Path) -> None:
    async def main() -> None:
        async with people(tmp_path, "anna", "ben", "carl") as (anna, ben, carl):
            circles(anna).create("home")
            await let_in(anna, ben, "home")
            await let_in(anna, carl, "home")
            await until(lambda: len(roles(ben, "home")) == 3)
            circles(anna).remove("home", "ben")
            assert circles(anna).roles_of(ben.peer_id) == ()
            await until(lambda: circles(ben).lines() == [])
            await until(lambda: "ben" not in roles(carl, "home"))
            circles(anna).rename("home", "secret")
            await asyncio.sleep(0.3)
            (known,) = circles(ben)._book.circles.values()
            assert known.state.name == "home"
            with pytest.raises(NotFound):
                circles(ben).rename("home", "mine")

    run(main())


def test_who_was_removed_while_away_learns_it_from_another_member(tmp_path: Path) -> None:
    async def main() -> None:
        async with people(tmp_path, "anna", "ben", "carl") as (anna, ben, carl):
            circles(anna).create("home")
            await let_in(anna, ben, "home")
            await let_in(anna, carl, "home")
            await until(lambda: len(roles(ben, "home")) == len(roles(carl, "home")) == 3)
        async with people(tmp_path, "anna", "ben") as (anna, ben):
            circles(anna).remove("home", "carl")
            await anna.connect(ben.peer_id, ben.addresses)
            await until(lambda: len(roles(ben, "home")) == 2)
        async with people(tmp_path, "ben", "carl") as (ben, carl):
            assert len(circles(carl).lines()) == 1
            await carl.connect(ben.peer_id, ben.addresses)
            await until(lambda: circles(carl).lines() == [])

    run(main())


def test_a_renamed_member_goes_by_both_names_where_it_is_a_contact(tmp_path: Path) -> None:
    """Names are local: what ben calls carl does not change when carl takes another name in the circle."""

    async def main() -> None:
        async with people(tmp_path, "anna", "ben", "carl") as (anna, ben, carl):
            circles(anna).create("home")
            await let_in(anna, ben, "home", "owner")
            await let_in(ben, carl, "home")
            await until(lambda: len(roles(carl, "home")) == 3)
            circles(carl).rename("home", "karl", "carl")
            await until(lambda: "karl" in roles(ben, "home") and "karl" in roles(anna, "home"))
            assert ben.contacts.names()[carl.peer_id] == "carl"
            assert ben.people.find("karl") == ben.people.find("carl") == carl.peer_id
            circles(ben).set_role("home", "carl", "guest")
            circles(ben).set_role("home", "karl", "member")
            with pytest.raises(NotFound, match="`coterie circle members home` shows"):
                circles(anna).remove("home", "carl")  # no contact of hers: she never called him so
            circles(ben).remove("home", "carl")
            assert sorted(roles(ben, "home")) == ["anna", "ben"]

    run(main())


def test_circles_and_members_get_no_name_that_means_something_else(tmp_path: Path) -> None:
    async def main() -> None:
        async with people(tmp_path, "anna") as (anna,):
            for name in ("anyone", "contacts", "a/b", "home:owner", "home~k3f"):
                with pytest.raises(UsageError, match="cannot be a name"):
                    circles(anna).create(name)
            circles(anna).create("home")
            for member in ("", "anna"):
                with pytest.raises(UsageError, match="cannot be a name"):
                    circles(anna).rename("home", "a/b", member)
            circles(anna)._writer.create("Anyone", "a/b")  # as version 0.1 did
            assert [line.name for line in circles(anna).lines()] == ["Anyone_", "home"]
            assert list(roles(anna, "anyone_")) == ["a-b"]
            assert anna.people.subject("anyone") == ANYONE
            assert anna.people.subject("anyone_").startswith("circle:")

    run(main())


def test_two_circles_of_one_name_are_told_apart_in_the_list_and_by_commands(tmp_path: Path) -> None:
    async def main() -> None:
        async with people(tmp_path, "anna", "ben") as (anna, ben):
            for owner in (anna, ben):
                circles(owner).create("home")
            await let_in(ben, anna, "home")
            shown = [line.name for line in circles(anna).lines()]
            assert all(name.startswith("home~") for name in shown)
            with pytest.raises(UsageError, match="may be any of home~"):
                circles(anna).members("home")
            assert sorted(len(circles(anna).members(name)) for name in shown) == [1, 2]
            assert len({anna.people.subject(name) for name in shown}) == 2

    run(main())


def test_the_only_computer_is_not_removed_from_itself(tmp_path: Path) -> None:
    async def main() -> None:
        async with people(tmp_path, "anna") as (anna,):
            with pytest.raises(UsageError, match="this is that computer"):
                circles(anna).devices.remove(str(anna.peer_id))
            with pytest.raises(NotFound, match="no computer 'zzzz'"):
                circles(anna).devices.remove("zzzz")
            assert circles(anna).devices.own() == []

    run(main())


def test_who_may_not_is_told_so(tmp_path: Path) -> None:
    async def main() -> None:
        async with people(tmp_path, "anna", "ben") as (anna, ben):
            circles(anna).create("home")
            await let_in(anna, ben, "home")
            with pytest.raises(AccessDenied, match="only owners"):
                async with circles(ben).invite("home"):
                    pass
            with pytest.raises(AccessDenied, match="only owners of home"):
                circles(ben).remove("home", "anna")
            with pytest.raises(UsageError, match="only owner"):
                circles(anna).leave("home")
            circles(ben).leave("home")
            assert circles(ben).lines() == []
            await until(lambda: roles(anna, "home") == {"anna": "owner"})
            circles(anna).leave("home")

    run(main())


def test_an_invitation_adds_one_member_once(tmp_path: Path) -> None:
    async def main() -> None:
        async with people(tmp_path, "anna", "ben", "eve") as (anna, ben, eve):
            circles(anna).create("home")
            async with circles(anna).invite("home") as invitation:
                await circles(ben).join(invitation.invited.ticket)
                with pytest.raises(NotFound, match="used already"):
                    await circles(eve).join(invitation.invited.ticket)
            # A replayed answer, from one who was invited and from one who was not:
            for node in (ben, eve):
                await circles(node)._peers.say(
                    anna.peer_id, Belong(bytes(node.peer_id), circles(node)._book.consent(node.peer_id))
                )
            await asyncio.sleep(0.2)
            assert roles(anna, "home") == {"anna": "owner", "ben": "member"}

    run(main())


def test_a_removed_member_does_not_come_in_again_with_what_it_used(tmp_path: Path) -> None:
    async def main() -> None:
        async with people(tmp_path, "anna", "ben") as (anna, ben):
            circles(anna).create("home")
            async with circles(anna).invite("home") as invitation:
                await circles(ben).join(invitation.invited.ticket)
                circles(anna).remove("home", "ben")
                await circles(ben)._entering.meet(To.CIRCLE, invitation.invited.ticket)
                assert not circles(anna)._admitting
            assert list(roles(anna, "home")) == ["anna"]

    run(main())


def test_a_removed_contact_does_not_come_back_from_another_computer_of_ours(tmp_path: Path) -> None:
    async def main() -> None:
        async with people(tmp_path, "anna", "laptop", "olga", "dora") as (anna, laptop, olga, dora):
            await let_in_device(anna, laptop)
            async with anna.contacts.invite() as invitation:
                await olga.contacts.join(invitation.invited.ticket)
            await until(lambda: laptop.contacts.is_contact(olga.peer_id))
            anna.contacts.remove(str(olga.peer_id))
            async with laptop.contacts.invite() as invitation:  # the laptop tells all its contacts
                await dora.contacts.join(invitation.invited.ticket)
            await until(lambda: anna.contacts.is_contact(dora.peer_id))
            assert not anna.contacts.is_contact(olga.peer_id)

    run(main())


def test_an_owner_demoted_while_inviting_adds_nobody(tmp_path: Path) -> None:
    async def main() -> None:
        async with people(tmp_path, "anna", "ben", "carl") as (anna, ben, carl):
            circles(anna).create("home")
            await let_in(anna, ben, "home", "owner")
            async with circles(ben).invite("home") as invitation:
                circles(anna).set_role("home", "ben", "member")
                await until(lambda: roles(ben, "home")["ben"] == "member")
                with pytest.raises(CoterieError):
                    async with asyncio.timeout(2):
                        await circles(carl).join(invitation.invited.ticket)
                        raise AssertionError
            assert "carl" not in roles(anna, "home")

    with pytest.raises(TimeoutError):
        run(main())


# ---- devices


def test_a_second_computer_has_all_rights_and_loses_them(tmp_path: Path) -> None:
    async def main() -> None:
        async with people(tmp_path, "anna", "ben", "laptop") as (anna, ben, laptop):
            circles(anna).create("home")
            await let_in(anna, ben, "home")
            await let_in_device(anna, laptop)
            await until(lambda: bool(circles(laptop).lines()))
            assert [line.role for line in circles(laptop).lines()] == ["owner"]
            assert roles(laptop, "home") == {"anna": "owner", "ben": "member"}
            await until(lambda: laptop.contacts.is_contact(ben.peer_id))
            circles(laptop).rename("home", "castle")
            await until(lambda: circles(ben).lines()[0].name == "castle")
            await until(lambda: bool(circles(ben).roles_of(laptop.peer_id)))

            with pytest.raises(UsageError, match="this is that computer"):
                circles(anna).devices.remove(str(anna.peer_id)[:12])
            circles(anna).devices.remove(str(laptop.peer_id)[:8])  # it was stolen
            for node in (anna, ben):
                await until(lambda node=node: not circles(node).roles_of(laptop.peer_id), 5)  # type: ignore[misc]
                assert "lost" in circles(node).blocked(laptop.peer_id)
            assert not anna.contacts.is_contact(laptop.peer_id)
            assert len(circles(anna).devices.lines()) == 1

    run(main())


def test_computers_of_a_person_have_names_and_say_whether_they_are_here(tmp_path: Path) -> None:
    async def main() -> None:
        async with people(tmp_path, "anna", "laptop") as (anna, laptop):
            await let_in_device(anna, laptop)
            devices = circles(anna).devices
            await until(lambda: len(devices.lines()) == 2)
            assert [(line.name, line.here) for line in devices.lines()] == [("anna", True), ("laptop", True)]
            devices.rename("laptop", "old laptop")
            assert anna.people.find("old laptop") == laptop.peer_id
            for name in ("a/b", "anyone"):
                with pytest.raises(UsageError, match="cannot be a name"):
                    devices.rename("old laptop", name)
            with pytest.raises(UsageError, match="config set name"):
                devices.rename("anna", "kitchen")
            with pytest.raises(NotFound, match="coterie devices"):
                devices.rename("phone", "kitchen")
            anna.contacts.remove("old laptop")  # it is no contact, and a computer of ours all the same
            devices.rename(f"{laptop.peer_id.short}", "attic")
        async with people(tmp_path, "anna") as (anna,):
            devices = circles(anna).devices
            assert [(line.name, line.here) for line in devices.lines()] == [("anna", True), ("attic", False)]
            assert devices.remove("attic").said.startswith("attic is no longer one of your computers")
            assert len(devices.lines()) == 1

    run(main())


def test_a_member_goes_by_the_name_that_lists_show(tmp_path: Path) -> None:
    async def main() -> None:
        async with people(tmp_path, "anna", "ben", "phone") as (anna, ben, phone):
            circles(anna).create("home")
            await let_in(anna, ben, "home")
            await let_in_device(ben, phone)
            await until(lambda: len(anna.people.names()) == 2)
            (shown,) = [name for name, known in anna.people.names().items() if known.peer == phone.peer_id]
            assert shown == f"ben~{str(phone.peer_id)[:3]}"
            circles(anna).set_role("home", shown, "guest")
            assert roles(anna, "home")["ben"] == "guest"

    run(main())


def test_what_is_shared_with_a_person_is_there_on_all_its_computers(tmp_path: Path) -> None:
    async def main() -> None:
        async with people(tmp_path, "anna", "ben", "phone") as (anna, ben, phone):
            circles(anna).create("home")
            await let_in(anna, ben, "home", "owner")
            await let_in_device(ben, phone)
            await until(lambda: len(circles(anna).members("home")[-1].devices) == 2)
            (tmp_path / "letter").write_bytes(b"for ben")
            await anna.files.share(tmp_path / "letter", to=["ben"])
            for node in (ben, phone):
                lines = await node.directory.look(str(anna.peer_id))
                assert [line.name for line in lines] == ["letter"]
            circles(ben).devices.remove(str(phone.peer_id))
            await until(lambda: not circles(anna).roles_of(phone.peer_id))
            with pytest.raises(CoterieError):
                await phone.files.get_place(f"{anna.peer_id}/letter", tmp_path / "stolen")

    run(main())


def test_an_owner_makes_nobody_a_computer_of_another(tmp_path: Path) -> None:
    """What ben shares with dora is not there for eve, whom anna, an owner, adds as if she were dora's computer."""

    async def main() -> None:
        async with people(tmp_path, "anna", "ben", "dora", "eve") as (anna, ben, dora, eve):
            circles(anna).create("home")
            await let_in(anna, ben, "home")
            async with ben.contacts.invite() as invitation:
                await dora.contacts.join(invitation.invited.ticket)
            (tmp_path / "letter").write_bytes(b"for dora")
            await ben.files.share(tmp_path / "letter", to=["dora"])
            assert [line.name for line in await dora.directory.look("ben")] == ["letter"]
            book = circles(anna)._book
            circles(anna)._writer.write(
                book.find("home"),
                Kind.ADD,
                subject=dora.peer_id,
                device=eve.peer_id,
                role=Role.MEMBER,
                name="dora",
                consent=circles(eve)._book.consent(dora.peer_id),
            )
            await until(lambda: bool(circles(ben).roles_of(eve.peer_id)))
            await eve.connect(ben.peer_id, ben.addresses)
            assert await eve.directory.look(str(ben.peer_id)) == []

    run(main())


def test_a_new_circle_of_one_computer_is_there_on_the_other(tmp_path: Path) -> None:
    async def main() -> None:
        async with people(tmp_path, "anna", "phone") as (anna, phone):
            await let_in_device(anna, phone)
            circles(phone).create("club")
            await until(lambda: bool(circles(anna).lines()))
            assert circles(anna).lines()[0].name == "club"
            circles(anna).rename("club", "society")

    run(main())


def test_an_invitation_to_a_circle_makes_nobody_a_device(tmp_path: Path) -> None:
    async def main() -> None:
        async with people(tmp_path, "anna", "ben", "eve") as (anna, ben, eve):
            circles(anna).create("home")
            async with circles(anna).invite("home") as invitation:
                with pytest.raises(NotFound, match="not to be one of somebody's computers"):
                    await circles(ben).devices.join(invitation.invited.ticket)
            async with circles(eve).devices.invite() as invitation:  # eve wants ben's computer
                with pytest.raises(NotFound, match="not into a circle"):
                    await circles(ben).join(invitation.invited.ticket)
            assert circles(ben)._book.person == ben.peer_id
            assert len(circles(eve).devices.lines()) == 1

    run(main())


# ---- back from paper


def test_twelve_words_bring_a_person_back_when_every_device_is_lost(tmp_path: Path) -> None:
    async def main() -> None:
        async with people(tmp_path, "anna", "ben", "carl", "olga") as (anna, ben, carl, olga):
            circles(anna).create("home")
            await let_in(anna, ben, "home", "owner")
            await let_in(ben, carl, "home")
            async with anna.contacts.invite() as invitation:
                await olga.contacts.join(invitation.invited.ticket)
            anna.contacts.rename(str(olga.peer_id), "olga the plumber")
            friend = olga.peer_id
            words = " ".join(circles(anna).recovery.make().words)
            await until(lambda: bool(circles(ben).recovery._deposits))
            stolen = anna.peer_id
        async with people(tmp_path, "ben", "carl", "fresh") as (ben, carl, fresh):
            circles(ben).rename("home", "castle")  # no deposit knows this
            async with ben.contacts.invite() as invitation:
                restored = await circles(fresh).recovery.restore(
                    words, invitation=invitation.invited.ticket, lost=True
                )
            assert restored.circles == ["castle"]
            assert restored.missing == []
            assert roles(fresh, "castle") == {"anna": "owner", "ben": "owner", "carl": "member"}
            assert circles(fresh)._book.person == stolen
            known = fresh.contacts.get(friend)
            assert known is not None
            assert known.name == "olga the plumber"
            await until(lambda: bool(circles(ben).roles_of(fresh.peer_id)))
            assert circles(ben).roles_of(stolen) == ()
            assert "lost" in circles(ben).blocked(stolen)
            circles(fresh).rename("castle", "house")
            await until(lambda: circles(ben).lines()[0].name == "house")
            for home in tmp_path.iterdir():
                for path in home.rglob("*"):
                    assert not path.is_file() or words.encode() not in path.read_bytes()

    run(main())


def test_wrong_words_bring_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with people(tmp_path, "anna", "ben", "eve") as (anna, ben, eve):
            circles(anna).create("home")
            await let_in(anna, ben, "home")
            circles(anna).recovery.make()
            await until(lambda: bool(circles(ben).recovery._deposits))
            other = "abandon " * 11 + "about"
            async with ben.contacts.invite() as invitation:
                with pytest.raises(NotFound, match="nobody reachable"):
                    await circles(eve).recovery.restore(other, invitation=invitation.invited.ticket)
            with pytest.raises(UsageError, match="checksum"):
                await circles(eve).recovery.restore("abandon " * 12)
            with pytest.raises(UsageError, match="word 1"):
                await circles(eve).recovery.restore("abandn " + "abandon " * 11)

    run(main())


def test_a_member_whose_id_is_no_key_keeps_nobody_from_meeting(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An owner may write any 32 bytes as a member; half of all are no key, and no transport can dial those."""
    nobody = PeerId(b"\x02" * 32)

    async def main() -> None:
        home = prepare_home(tmp_path / "anna")
        async with Node.open(home, offline=True) as anna:
            circles(anna).create("home")
            book = circles(anna)._book
            circles(anna)._writer.write(
                book.find("home"), Kind.ADD, subject=nobody, device=nobody, role=Role.MEMBER, name="nobody"
            )
        async with Node.open(home) as anna:
            assert nobody not in circles(anna).names()
            with pytest.raises(TransportError):
                await anna.connect(nobody, ["127.0.0.1:9"])
            assert anna.tasks.troubles() == []

    run(main())
    assert "meeting members" not in caplog.text
