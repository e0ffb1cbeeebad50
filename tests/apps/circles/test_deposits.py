"""Deposits: rubbish, whoever made it and whatever version it says, takes nothing from who comes back from paper."""

from pathlib import Path

import msgspec
import pytest

from coterie.access.circle_ops import Kind, consent
from coterie.apps.circles.deposits import (
    DEPOSITS_MAX,
    PER_DEPOSITOR_MAX,
    PER_PAPER_MAX,
    Deposited,
    Deposits,
)
from coterie.apps.circles.keepsakes import add_up
from coterie.apps.circles.messages import Deposit
from coterie.apps.circles.recovery import NONCE_BYTES, Keepsake, Membership, PhraseKeys, keys_of, seal
from tests.access.circles import add_device, author, found, who
from tests.apps.circles.nodes import circles, let_in, let_in_device, people, roles, until
from tests.support import run

HIGHEST = (1 << 63) - 1
WORDS = "abandon " * 11 + "about"
OTHER_WORDS = "legal winner thank year wave sausage worth useful legal winner thank yellow"


def of_key(number: int) -> bytes:
    return number.to_bytes(32, "big")


def put(deposits: Deposits, paper: int, by: int, version: int = 1, sealed: bytes = b"s") -> bool:
    return deposits.keep(of_key(paper), Deposited(of_key(by), version, sealed))


# ---- what is kept for others


def test_a_deposit_replaces_that_of_its_depositor_only(tmp_path: Path) -> None:
    deposits = Deposits(tmp_path / "d", lambda paper, by: by == of_key(1))
    assert put(deposits, 7, 2, HIGHEST, b"rubbish")
    assert put(deposits, 7, 1, 5, b"real")
    assert put(deposits, 7, 1, 4, b"newer")  # its own count may begin anew, after a backup was restored
    assert [d.sealed for d in deposits.of(of_key(7))] == [b"newer", b"rubbish"]
    again = Deposits(tmp_path / "d", lambda paper, by: by == of_key(1))
    assert [d.sealed for d in again.of(of_key(7))] == [b"newer", b"rubbish"]


def test_what_is_kept_is_bounded_and_strangers_crowd_out_nobody(tmp_path: Path) -> None:
    deposits = Deposits(tmp_path / "d", lambda paper, by: int.from_bytes(by, "big") >= 1_000_000)
    for paper in range(PER_DEPOSITOR_MAX + 1):
        assert put(deposits, paper, 1)
    assert len(deposits) == PER_DEPOSITOR_MAX
    assert deposits.of(of_key(0)) == []  # its own oldest gave way
    for by in range(2, PER_PAPER_MAX + 2):
        assert put(deposits, 99, by)
    assert not put(deposits, 99, PER_PAPER_MAX + 2)
    assert put(deposits, 99, 1_000_000, sealed=b"real")
    assert len(deposits.of(of_key(99))) == PER_PAPER_MAX
    assert deposits.of(of_key(99))[0].sealed == b"real"


def test_a_full_house_has_room_for_a_persons_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert DEPOSITS_MAX * 262_144 <= 300_000_000  # bytes on disk
    monkeypatch.setattr("coterie.apps.circles.deposits.DEPOSITS_MAX", 8)
    deposits = Deposits(tmp_path / "d", lambda paper, by: int.from_bytes(by, "big") >= 1_000_000)
    assert all(put(deposits, by, by) for by in range(8))
    assert not put(deposits, 8, 8)
    assert put(deposits, 9, 1_000_000)
    assert len(deposits) == 8


def test_deposits_of_the_first_version_are_kept_on(tmp_path: Path) -> None:
    folder = tmp_path / "d"
    folder.mkdir()
    raw = msgspec.msgpack.encode([of_key(2), 5, b"real"])
    (folder / of_key(7).hex()).write_bytes(raw)
    deposits = Deposits(folder, lambda paper, by: False)
    assert put(deposits, 7, 2, 6, b"newer")
    assert [d.sealed for d in Deposits(folder, lambda paper, by: False).of(of_key(7))] == [b"newer"]


# ---- what several say together


def keepsake(keys: PhraseKeys, circle: str = "home", thief: str = "") -> Keepsake:
    """What a computer of anna deposits; `thief` takes her out of her own log first."""
    own = found()
    agreed = consent(who("anna"), keys.paper.peer_id, keys.paper.sign)
    own.write(author("anna"), Kind.ADD_DEVICE, 1, device=keys.paper.peer_id, consent=agreed, is_paper=True)
    add_device(own, "anna", "anna", "laptop")
    if thief:
        own.write(author(thief, "anna"), Kind.LEAVE, 1)
    member = Membership(circle.encode().ljust(32, b"."), circle, [bytes(who("bob"))])
    return Keepsake(bytes(who("anna")), own.id, [one.raw for one in own.log.ops], [member], [])


def sealed(what: Keepsake, keys: PhraseKeys) -> bytes:
    return seal(what, keys.sealing, bytes(NONCE_BYTES))


def test_real_deposits_add_up_and_rubbish_is_passed_over() -> None:
    keys = keys_of(WORDS)
    real = keepsake(keys)
    lies = [
        b"rubbish",
        sealed(msgspec.structs.replace(real, own_ops=[b"x"]), keys),
        sealed(msgspec.structs.replace(real, own_ops=[]), keys),
        sealed(msgspec.structs.replace(real, person=bytes(who("eve"))), keys),
        sealed(msgspec.structs.replace(real, own_circle=bytes(32)), keys),
        sealed(keepsake(keys_of(OTHER_WORDS)), keys),  # a log that this paper key never agreed to
    ]
    assert add_up([(HIGHEST, lie) for lie in lies], keys) is None
    both = [(1, sealed(real, keys)), (2, sealed(keepsake(keys, "club"), keys))]
    recovered = add_up([*((HIGHEST, lie) for lie in lies), *both], keys)
    assert recovered is not None
    assert recovered.person == who("anna")
    assert recovered.is_in(keys.paper.peer_id)
    assert [one.title for one in recovered.memberships] == ["club", "home"]


def test_words_that_were_replaced_are_told_from_a_person_whom_a_thief_took_out() -> None:
    keys = keys_of(WORDS)
    out = add_up([(1, sealed(keepsake(keys, thief="laptop"), keys))], keys)
    assert out is not None
    assert not out.is_in(keys.paper.peer_id)
    assert not out.is_replaced(keys.paper.peer_id)


# ---- between nodes


def test_rubbish_of_a_contact_and_of_a_thief_does_not_end_recovery(tmp_path: Path) -> None:
    async def main() -> None:
        async with people(tmp_path, "anna", "ben", "eve", "laptop") as (anna, ben, eve, laptop):
            circles(anna).create("home")
            await let_in(anna, ben, "home", "owner")
            for other in (eve, laptop):
                async with ben.contacts.invite() as invitation:
                    await other.contacts.join(invitation.invited.ticket)
            await let_in_device(anna, laptop)
            await until(lambda: bool(circles(ben).roles_of(laptop.peer_id)))
            words = " ".join(circles(anna).recovery.make().words)
            keys = keys_of(words)
            paper = bytes(keys.paper.peer_id)
            await circles(eve)._peers.say(ben.peer_id, Deposit(paper, HIGHEST, b"rubbish"))
            await until(lambda: bool(circles(laptop)._book.identity.sealing_key))
            mine = circles(eve)._writer.own_circle("eve")  # the thief sends her to somebody else's person
            lie = Keepsake(bytes(eve.peer_id), mine.id, [one.raw for one in mine.log.ops], [], [])
            false = seal(lie, circles(laptop)._book.identity.sealing_key, bytes(NONCE_BYTES))
            await circles(laptop)._peers.say(ben.peer_id, Deposit(paper, HIGHEST, false))
            kept = circles(ben).recovery._deposits
            await until(lambda: {eve.peer_id, laptop.peer_id} <= {d.by for d in kept.of(paper)})
            await until(lambda: anna.peer_id in {d.by for d in kept.of(paper)})
            await circles(laptop)._peers.say(ben.peer_id, Deposit(paper, HIGHEST, false))
            stolen = anna.peer_id
        async with people(tmp_path, "ben", "fresh") as (ben, fresh):
            async with ben.contacts.invite() as invitation:
                restored = await circles(fresh).recovery.restore(
                    words, invitation=invitation.invited.ticket, lost=True
                )
            assert restored.circles == ["home"]
            assert circles(fresh)._book.person == stolen
            assert roles(fresh, "home") == {"anna": "owner", "ben": "owner"}

    run(main())


def test_a_thief_who_takes_the_person_out_of_its_own_log_does_not_end_recovery(tmp_path: Path) -> None:
    async def main() -> None:
        async with people(tmp_path, "anna", "ben", "laptop") as (anna, ben, laptop):
            circles(anna).create("home")
            await let_in(anna, ben, "home", "owner")
            await let_in_device(anna, laptop)
            words = " ".join(circles(anna).recovery.make().words)
            paper = bytes(keys_of(words).paper.peer_id)
            own = circles(laptop)._book.own_circle()
            assert own is not None
            await until(lambda: any(m.papers for m in own.state.members()))
            circles(laptop)._writer.write(own, Kind.LEAVE)
            kept = circles(ben).recovery._deposits
            await until(lambda: bool(kept.of(paper)))
            stolen = anna.peer_id
        async with people(tmp_path, "ben", "fresh") as (ben, fresh):
            async with ben.contacts.invite() as invitation:
                restored = await circles(fresh).recovery.restore(
                    words, invitation=invitation.invited.ticket, lost=True
                )
            assert restored.circles == ["home"]
            assert circles(fresh)._book.person == stolen
            assert len(circles(fresh).devices.own()) == 2  # this computer and the paper

    run(main())


def test_old_words_say_that_they_were_replaced(tmp_path: Path) -> None:
    async def main() -> None:
        async with people(tmp_path, "anna", "ben") as (anna, ben):
            circles(anna).create("home")
            await let_in(anna, ben, "home", "owner")
            old = " ".join(circles(anna).recovery.make().words)
            paper = bytes(keys_of(old).paper.peer_id)
            kept = circles(ben).recovery._deposits
            await until(lambda: bool(kept.of(paper)))
            before = kept.of(paper)[0].sealed
            new = " ".join(circles(anna).recovery.make(old).words)
            await until(lambda: bool(kept.of(bytes(keys_of(new).paper.peer_id))))
            assert kept.of(paper)[0].sealed == before
            recovered = add_up([(1, before)], keys_of(old))
            assert recovered is not None
            own = circles(anna)._book.own_circle()
            assert own is not None
            for signed in list(own.log.ops)[1:]:
                recovered.own.add(signed)
            assert recovered.is_replaced(keys_of(old).paper.peer_id)

    run(main())
