"""A person is the same for its contacts when its computers change: the new one is trusted, the lost one is not."""

from pathlib import Path
from random import Random

import pytest

from coterie.access.circle import Circle, found_circle
from coterie.access.circle_ops import Role
from coterie.access.circle_vouched import OWN_TITLE
from coterie.apps.circles.core import WITNESSED_MAX, WITNESSED_OPS_MAX, SyncCore
from coterie.apps.circles.messages import OPS_PER_MESSAGE_MAX, Ops
from coterie.errors import CoterieError, UsageError
from coterie.identity import PeerId
from coterie.machine import PeerUp, Received
from coterie.node import Node
from tests.access.circles import add, add_device, author, remove_device, who
from tests.apps.circles.nodes import circles, let_in, let_in_device, people, until
from tests.support import run


def own_log(name: str = "anna") -> Circle:
    return found_circle(author(name), OWN_TITLE, name, at=1, nonce=bytes(16))


class Witness:
    """The node of ben, who knows `known`."""

    def __init__(self, *known: PeerId) -> None:
        self.circles: dict[bytes, Circle] = {}
        self.core = SyncCore(who("ben"), self.circles, Random(1), is_known=lambda peer: peer in known)

    def hear(self, circle: Circle, peer: PeerId, now: float = 0.0) -> None:
        self.core.handle(PeerUp(peer), now)
        ops = [signed.raw for signed in circle.log.ops]
        for start in range(0, len(ops), OPS_PER_MESSAGE_MAX):
            message = Ops(circle.id, ops[start : start + OPS_PER_MESSAGE_MAX])
            self.core.handle(Received(peer, message), now)


# ---- what is kept of another person's own log


def test_the_own_log_of_a_known_person_is_kept_from_whomever_it_comes() -> None:
    log = own_log()
    add_device(log, "anna", "anna", "laptop")
    for knows, hears in ((who("anna"), who("anna")), (who("laptop"), who("fresh"))):
        ben = Witness(knows)
        ben.hear(log, hears)
        assert list(ben.circles) == [log.id]
        assert len(ben.circles[log.id].log) == 2


def test_the_log_of_nobody_known_is_not_kept() -> None:
    ben = Witness(who("carl"))
    ben.hear(own_log(), who("carl"))
    log = own_log("eve")
    add_device(log, "eve", "eve", "spy")
    ben.hear(log, who("carl"))
    assert not ben.circles


def test_an_owner_makes_nobodys_own_log_of_a_circle() -> None:
    """A circle that anna began, in which eve, an owner, says what she likes of anna's computers."""
    circle = found_circle(author("anna"), OWN_TITLE, "anna", at=1, nonce=bytes(16))
    add(circle, "anna", "eve", Role.OWNER)
    ben = Witness(who("anna"))
    ben.hear(circle, who("eve"))
    assert not ben.circles
    home = found_circle(author("anna"), "home", "anna", at=1, nonce=bytes(16))
    ben.hear(home, who("anna"))
    assert not ben.circles


def test_what_others_write_into_an_own_log_is_not_taken() -> None:
    log = own_log()
    ben = Witness(who("anna"))
    ben.hear(log, who("anna"))
    add(log, "anna", "eve", Role.OWNER)
    ben.hear(log, who("anna"))
    assert len(ben.circles[log.id].log) == 1


def test_a_thief_of_the_key_makes_no_second_log() -> None:
    log = own_log()
    ben = Witness(who("anna"))
    ben.hear(log, who("anna"))
    false = found_circle(author("anna"), OWN_TITLE, "anna", at=2, nonce=bytes([1]) * 16)
    add_device(false, "anna", "anna", "spy")
    ben.hear(false, who("anna"))
    assert list(ben.circles) == [log.id]


def test_own_logs_of_others_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (
        WITNESSED_MAX * WITNESSED_OPS_MAX <= 1 << 20
    )  # operations in memory at worst, all by people known here
    monkeypatch.setattr("coterie.apps.circles.core.WITNESSED_MAX", 16)
    monkeypatch.setattr("coterie.apps.circles.core.WITNESSED_OPS_MAX", 64)
    ben = Witness(who("anna"), *(who(str(n)) for n in range(17)))
    log = own_log()
    for n in range(64):
        (add_device if n % 2 == 0 else remove_device)(log, "anna", "anna", "laptop")
    for again in range(2):
        ben.hear(log, who("anna"), now=1000.0 * again)
    assert len(ben.circles[log.id].log) == 64
    for n in range(17):
        ben.hear(own_log(str(n)), who(str(n)), now=1e6)
    assert len(ben.circles) == 16


# ---- between nodes


def test_contacts_trust_the_new_computer_and_no_longer_the_lost_one(tmp_path: Path) -> None:
    """Olga is in no circle with anna: only a contact. Anna's one computer is stolen, and she comes back from paper."""

    async def main() -> None:
        async with people(tmp_path, "anna", "ben", "olga") as (anna, ben, olga):
            circles(anna).create("home")
            await let_in(anna, ben, "home", "owner")
            async with anna.contacts.invite() as invitation:
                await olga.contacts.join(invitation.invited.ticket)
            olga.contacts.rename(str(anna.peer_id), "anna the tailor")
            (tmp_path / "letter").write_bytes(b"for anna")
            await olga.files.share(tmp_path / "letter", to=["anna the tailor"])
            words = " ".join(circles(anna).recovery.make().words)
            await until(lambda: bool(circles(ben).recovery._deposits))
            await until(lambda: bool(circles(olga)._book.circles))  # she has heard whose computers these are
            stolen = anna.peer_id
        async with people(tmp_path, "ben", "olga", "fresh") as (ben, olga, fresh):
            async with ben.contacts.invite() as invitation:
                await circles(fresh).recovery.restore(words, invitation=invitation.invited.ticket, lost=True)
            assert olga.contacts.is_contact(stolen)
            await fresh.connect(olga.peer_id, olga.addresses)
            await until(lambda: bool(circles(olga).blocked(stolen)))
            assert not olga.contacts.is_contact(stolen)
            assert olga.contacts.is_contact(fresh.peer_id)
            assert olga.people.find("anna the tailor") == fresh.peer_id
            assert [line.name for line in await fresh.directory.look(str(olga.peer_id))] == ["letter"]
            (line,) = circles(olga).blocked_lines()
            assert (line.computer, line.where) == (str(stolen), "the list of its own computers")
        async with people(tmp_path, "olga", "anna") as (olga, anna):  # the thief
            assert anna.peer_id == stolen
            with pytest.raises(CoterieError):
                await anna.connect(olga.peer_id, olga.addresses)

    run(main())


def test_a_further_computer_of_a_contact_is_a_contact_until_it_is_lost(tmp_path: Path) -> None:
    async def main() -> None:
        async with people(tmp_path, "anna", "olga", "laptop") as (anna, olga, laptop):
            async with anna.contacts.invite() as invitation:
                await olga.contacts.join(invitation.invited.ticket)
            (tmp_path / "letter").write_bytes(b"for contacts")
            await olga.files.share(tmp_path / "letter", to=["contacts"])
            await laptop.connect(olga.peer_id, olga.addresses)
            assert await laptop.directory.look(str(olga.peer_id)) == []
            await let_in_device(anna, laptop)
            await until(lambda: olga.people.standing(laptop.peer_id).contact)
            assert [line.name for line in await laptop.directory.look(str(olga.peer_id))] == ["letter"]
            circles(anna).devices.remove(str(laptop.peer_id))
            await until(lambda: bool(circles(olga).blocked(laptop.peer_id)))
            assert olga.contacts.is_contact(anna.peer_id)
            with pytest.raises(UsageError, match="list of your own computers"):
                circles(anna).create(OWN_TITLE)
            log = next(iter(circles(olga)._book.circles))
            olga.contacts.remove(str(anna.peer_id))
        async with people(tmp_path, "olga") as (olga,):
            assert log not in circles(olga)._book.circles  # nobody known: nothing kept

    run(main())


def test_a_computer_that_a_thief_added_is_nobodys(tmp_path: Path) -> None:
    """The laptop is removed and adds another computer before it hears of that: olga trusts neither."""

    async def main() -> None:
        async with people(tmp_path, "olga") as (olga,):
            olga.contacts.learn(who("anna"), "anna", [])
            log = own_log()
            add_device(log, "anna", "anna", "laptop")
            thief = Circle(log.log.ops[0])
            thief.add(log.log.ops[1])
            add_device(thief, "laptop", "anna", "spy")
            remove_device(log, "anna", "anna", "laptop")
            log.add(thief.log.ops[-1])
            circles(olga)._peers.feed(PeerUp(who("anna")))
            circles(olga)._peers.feed(Received(who("anna"), Ops(log.id, [one.raw for one in log.log.ops])))
            await until(lambda: bool(circles(olga).blocked(who("laptop"))))
            assert olga.people.standing(who("anna")).contact
            for other in ("spy", "laptop"):
                assert not olga.people.is_known(who(other))

    run(main())


def test_contacts_who_were_away_at_a_change_get_a_letter(tmp_path: Path) -> None:
    """Nobody connects them by hand, and the computer that wrote was started anew since."""

    async def main() -> None:
        async with people(tmp_path, "anna", "olga") as (anna, olga), anna.contacts.invite() as invitation:
            await olga.contacts.join(invitation.invited.ticket)
        async with people(tmp_path, "anna", "laptop") as (anna, laptop):
            circles(anna).create("home")
            assert waiting(anna) == "0 letters"  # of no concern to contacts
            await let_in_device(anna, laptop)
            await until(lambda: waiting(anna) != "0 letters")
            new = laptop.peer_id
        async with people(tmp_path, "olga", "anna") as (olga, anna):
            await until(lambda: olga.people.standing(new).contact)
            await until(lambda: waiting(anna) == "0 letters")  # taken, and not sent again

    run(main())


def test_a_loss_that_was_noted_without_the_network_is_written_of_at_the_next_start(tmp_path: Path) -> None:
    """As by a command without a running node: it ends before any letter is written."""

    async def main() -> None:
        async with people(tmp_path, "anna", "olga", "laptop") as (anna, olga, laptop):
            async with anna.contacts.invite() as invitation:
                await olga.contacts.join(invitation.invited.ticket)
            await let_in_device(anna, laptop)
            await until(lambda: olga.people.standing(laptop.peer_id).contact)
            lost = laptop.peer_id
        async with Node.open(tmp_path / "anna", offline=True) as anna:
            circles(anna).devices.remove(str(lost))
        async with people(tmp_path, "olga", "anna") as (olga, anna):
            await until(lambda: bool(circles(olga).blocked(lost)))
            await until(lambda: waiting(anna) == "0 letters")
            own = circles(anna)._book.own_circle()
            assert own is not None
            assert circles(anna)._book.identity.written == list(own.log.heads())

    run(main())


def waiting(node: Node) -> str:
    """How many letters of the circles wait on a node."""
    said = node.service("circles")._context.mail.status().get("mail", "0 letters (")
    return str(said).split(" (")[0]


def test_a_removed_person_does_not_come_back_by_another_of_its_computers(tmp_path: Path) -> None:
    """Olga knows two computers of anna by themselves, and removes one: else the other would vouch for it."""

    async def main() -> None:
        async with people(tmp_path, "anna", "olga", "laptop") as (anna, olga, laptop):
            for one in (anna, laptop):
                async with one.contacts.invite() as invitation:
                    await olga.contacts.join(invitation.invited.ticket)
            await let_in_device(anna, laptop)
            await until(lambda: bool(circles(olga)._book.fellows(laptop.peer_id)))
            left = olga.people.name_of(laptop.peer_id)
            removed = olga.contacts.remove(str(anna.peer_id))
            assert removed.also == [left]
            assert left in removed.text()
            circles(laptop).devices.remove(str(anna.peer_id))  # and says that it is the heir
            for one in (anna, laptop):
                await one.connect(olga.peer_id, olga.addresses)
                assert await one.directory.look(str(olga.peer_id)) == []
                assert not olga.people.standing(one.peer_id).contact
            assert circles(anna).contacts.remove(str(olga.peer_id)).also == []

    run(main())
