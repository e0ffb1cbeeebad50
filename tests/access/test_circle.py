"""Circles by example: each conflict and its rule, each bound, each lie."""

import random
import time

import msgspec
import pytest

from coterie.access import circle_log
from coterie.access.circle import Circle
from coterie.access.circle_log import GENERATIONS_MAX, MissingParents
from coterie.access.circle_ops import (
    CONTEXT,
    NAME_CHARS_MAX,
    OP_BYTES_MAX,
    PARENTS_MAX,
    REVOKED_PER_OP_MAX,
    Kind,
    OpRefused,
    Role,
    consent,
    read_op,
    sign_op,
)
from coterie.errors import AccessDenied, LimitExceeded, NotFound, UsageError
from tests.access.circles import (
    add,
    add_device,
    author,
    copy,
    forge,
    found,
    in_any_order,
    key,
    merge,
    picture,
    remove,
    remove_device,
    roles,
    set_role,
    who,
)


def family() -> Circle:
    """Owners anna and bob, carl a member, dora a guest."""
    circle = found()
    add(circle, "anna", "bob", Role.OWNER)
    add(circle, "anna", "carl")
    add(circle, "anna", "dora", Role.GUEST)
    return circle


def apart(circle: Circle) -> tuple[Circle, Circle]:
    return copy(circle), copy(circle)


# ---- the plain course of things


def test_a_circle_has_its_members_in_their_roles() -> None:
    circle = family()
    state = circle.state
    assert state.name == "home"
    assert roles(circle) == {"anna": "owner", "bob": "owner", "carl": "member", "dora": "guest"}
    assert state.role(who("carl")) == Role.MEMBER
    assert state.role(who("eve")) is None
    assert not state.is_removed(who("eve"))
    assert [member.name for member in state.members()] == ["anna", "bob", "carl", "dora"]


def test_a_removed_member_is_gone_until_an_owner_adds_it_again() -> None:
    circle = family()
    remove(circle, "bob", "carl")
    assert circle.state.role(who("carl")) is None
    assert circle.state.is_removed(who("carl"))
    with pytest.raises(AccessDenied, match="no member"):
        circle.write(author("carl"), Kind.RENAME, 1, subject=who("carl"), name="karl")
    add(circle, "anna", "carl", Role.GUEST)
    assert roles(circle)["carl"] == "guest"
    assert not circle.state.is_removed(who("carl"))


@pytest.mark.parametrize("who_tries", ["carl", "dora", "eve"])
def test_only_owners_add_remove_and_change_roles(who_tries: str) -> None:
    circle = family()
    before = picture(circle.state)
    with pytest.raises(AccessDenied):
        add(circle, who_tries, "frank")
    with pytest.raises(AccessDenied):
        remove(circle, who_tries, "bob")
    with pytest.raises(AccessDenied):
        set_role(circle, who_tries, "dora", Role.OWNER)
    with pytest.raises(AccessDenied):
        circle.write(author(who_tries), Kind.TITLE, 1, title="mine")
    with pytest.raises(AccessDenied):
        remove_device(circle, who_tries, who_tries, "bob", of="bob")
    assert picture(circle.state) == before


def test_everybody_may_leave_and_rename_themselves() -> None:
    circle = family()
    circle.write(author("dora"), Kind.RENAME, 1, subject=who("dora"), name="theodora")
    circle.write(author("carl"), Kind.LEAVE, 1)
    assert roles(circle) == {"anna": "owner", "bob": "owner", "theodora": "guest"}


def test_owners_rename_members_and_the_circle() -> None:
    circle = family()
    circle.write(author("bob"), Kind.RENAME, 1, subject=who("carl"), name="karl")
    circle.write(author("bob"), Kind.TITLE, 1, title="castle")
    assert "karl" in roles(circle)
    assert circle.state.name == "castle"


def test_members_are_found_by_name_and_by_id() -> None:
    state = family().state
    assert state.find("CARL").person == who("carl")
    assert state.find(str(who("carl"))[:8]).person == who("carl")
    with pytest.raises(NotFound, match="is no member"):
        state.find("zoe")


# ---- conflicts


def test_add_against_concurrent_remove_of_the_same_person_stays_removed() -> None:
    circle = family()
    remove(circle, "anna", "carl")
    one, other = apart(circle)
    add(one, "anna", "carl")
    add(other, "bob", "carl")
    remove(other, "bob", "carl")
    merge(one, other)
    assert "carl" not in roles(one)
    add(one, "anna", "carl")  # follows the removal: now he is back
    assert roles(one)["carl"] == "member"


def test_two_owners_who_remove_each_other_are_both_out() -> None:
    one, other = apart(family())
    remove(one, "anna", "bob")
    remove(other, "bob", "anna")
    merge(one, other)
    merge(other, one)
    assert roles(one) == roles(other) == {"carl": "member", "dora": "guest"}
    assert one.state.is_ownerless
    for name in (
        "anna",
        "bob",
        "carl",
    ):  # the documented answer: nobody can add any more, a new circle succeeds it
        with pytest.raises(AccessDenied):
            add(one, name, "frank")


def test_what_a_removed_owner_gave_meanwhile_does_not_count_and_what_it_took_does() -> None:
    one, other = apart(family())
    remove(one, "anna", "bob")
    add(other, "bob", "eve", Role.OWNER)
    remove(other, "bob", "carl")
    set_role(other, "bob", "dora", Role.MEMBER)
    add(other, "eve", "mallory")  # eve's right rests on bob's
    merge(one, other)
    assert roles(one) == {"anna": "owner", "dora": "guest"}


def test_what_the_remover_had_seen_counts() -> None:
    circle = family()
    add(circle, "bob", "frank")
    remove(circle, "anna", "bob")
    assert roles(circle)["frank"] == "member"


def test_a_demoted_owner_gives_nothing_meanwhile() -> None:
    one, other = apart(family())
    set_role(one, "anna", "bob", Role.MEMBER)
    add(other, "bob", "eve")
    other.write(author("bob"), Kind.RENAME, 1, subject=who("bob"), name="robert")  # as a member he may
    merge(one, other)
    assert roles(one) == {"anna": "owner", "robert": "member", "carl": "member", "dora": "guest"}


def test_of_two_concurrent_roles_the_lesser_holds() -> None:
    one, other = apart(family())
    set_role(one, "anna", "carl", Role.OWNER)
    set_role(other, "bob", "carl", Role.GUEST)
    merge(one, other)
    assert roles(one)["carl"] == "guest"


def test_of_two_concurrent_additions_the_lesser_role_holds() -> None:
    one, other = apart(family())
    add(one, "anna", "eve", Role.OWNER)
    add(other, "bob", "eve", Role.GUEST)
    assert roles(merge(one, other))["eve"] == "guest"


def test_a_promotion_does_not_bring_back_who_was_removed_meanwhile() -> None:
    one, other = apart(family())
    remove(one, "anna", "carl")
    set_role(other, "bob", "carl", Role.OWNER)
    assert "carl" not in roles(merge(one, other))


def test_two_members_of_one_name_are_told_apart_the_same_everywhere() -> None:
    one, other = apart(family())
    one.write(author("carl"), Kind.RENAME, 1, subject=who("carl"), name="Max")
    other.write(author("dora"), Kind.RENAME, 1, subject=who("dora"), name="max")
    merge(one, other)
    merge(other, one)
    assert picture(one.state) == picture(other.state)
    for name in ("carl", "dora"):
        shown = f"max~{str(who(name))[:3]}"
        assert one.state.find(shown).person == who(name)
        assert {k.casefold() for k in roles(one)} >= {shown}


def test_nobody_takes_the_look_of_another_by_choosing_its_marked_name() -> None:
    circle = family()
    for name in ("carl", "dora"):
        circle.write(author(name), Kind.RENAME, 1, subject=who(name), name="max")
    lookalike = f"max~{str(who('carl'))[:3]}"
    circle.write(author("bob"), Kind.RENAME, 1, subject=who("bob"), name=lookalike)
    assert circle.state.find(lookalike).person == who("carl")
    assert circle.state.member(who("bob")).name == lookalike.replace("~", "-")  # type: ignore[union-attr]
    assert len({member.name for member in circle.state.members()}) == 4


@pytest.mark.parametrize(
    ("claimed", "shown"), [("anyone", "anyone_"), ("a/b", "a-b"), ("home:owner", "home-owner")]
)
def test_a_name_that_means_something_else_is_shown_as_one_that_does_not(claimed: str, shown: str) -> None:
    circle = family()
    circle.write(author("anna"), Kind.TITLE, 1, title=claimed)
    circle.write(author("carl"), Kind.RENAME, 1, subject=who("carl"), name=claimed)
    assert circle.state.name == shown
    assert circle.state.member(who("carl")).name == shown  # type: ignore[union-attr]


def test_concurrent_names_end_the_same_everywhere() -> None:
    one, other = apart(family())
    one.write(author("carl"), Kind.RENAME, 1, subject=who("carl"), name="karl")
    other.write(author("anna"), Kind.RENAME, 1, subject=who("carl"), name="charles")
    merge(one, other)
    merge(other, one)
    assert picture(one.state) == picture(other.state)


# ---- those who lie about the past


def test_a_removed_owner_cannot_backdate_an_addition() -> None:
    circle = family()
    before = circle.log.heads()
    remove(circle, "anna", "bob")
    circle.add(forge(circle, "bob", Kind.ADD, parents=before, subject=who("eve"), device=who("eve"), role=3,
                     name="eve"))  # fmt: skip
    assert "eve" not in roles(circle)
    assert circle.state.role(who("eve")) is None


def test_a_removed_owner_cannot_bring_itself_back_through_an_accomplice() -> None:
    circle = family()
    before = circle.log.heads()
    remove(circle, "anna", "bob")
    promote = forge(circle, "bob", Kind.ROLE, parents=before, subject=who("carl"), role=3)
    circle.add(promote)
    with pytest.raises(OpRefused, match="not suffice"):
        circle.add(forge(circle, "carl", Kind.ADD, parents=circle.log.heads(), subject=who("bob"),
                         device=who("bob"), role=3, name="bob"))  # fmt: skip
    assert roles(circle) == {"anna": "owner", "carl": "member", "dora": "guest"}


def test_a_removed_owner_can_backdate_a_removal_once_and_not_against_what_follows() -> None:
    """It may have happened: carl is out. Whom anna adds again, knowing that bob is out, stays."""
    circle = family()
    before = circle.log.heads()
    remove(circle, "anna", "bob")
    circle.add(forge(circle, "bob", Kind.REMOVE, parents=before, subject=who("carl")))
    assert "carl" not in roles(circle)
    add(circle, "anna", "carl")
    circle.add(forge(circle, "bob", Kind.REMOVE, parents=before, subject=who("carl"), at=99))
    assert roles(circle)["carl"] == "member"


def test_an_accomplice_made_an_owner_in_the_past_cannot_either() -> None:
    circle = family()
    before = circle.log.heads()
    remove(circle, "anna", "bob")
    promote = forge(circle, "bob", Kind.ROLE, parents=before, subject=who("dora"), role=3)
    circle.add(promote)
    circle.add(forge(circle, "dora", Kind.REMOVE, parents=(promote.id,), subject=who("carl")))
    add(circle, "anna", "carl")
    circle.add(forge(circle, "dora", Kind.REMOVE, parents=(promote.id,), subject=who("carl"), at=99))
    assert roles(circle)["carl"] == "member"


def test_a_removed_owner_cannot_use_that_rule_against_its_remover() -> None:
    """Bob removes anna in the past and builds on it: his removal of her is not supported, so it shields nothing."""
    circle = family()
    before = circle.log.heads()
    remove(circle, "anna", "bob")
    hit = forge(circle, "bob", Kind.REMOVE, parents=before, subject=who("anna"))
    circle.add(hit)
    circle.add(forge(circle, "bob", Kind.ADD, parents=(hit.id,), subject=who("eve"), device=who("eve"), role=3,
                     name="eve"))  # fmt: skip
    assert roles(circle) == {"carl": "member", "dora": "guest"}


def test_who_was_removed_by_one_who_was_removed_does_not_come_back_by_their_own_word() -> None:
    """Anna removes carl while bob removes anna; carl, an owner, knows of the latter only. Found by the simulator."""
    circle = family()
    set_role(circle, "anna", "carl", Role.OWNER)
    one, other = apart(circle)
    remove(one, "anna", "carl")
    remove(other, "bob", "anna")
    set_role(other, "carl", "carl", Role.MEMBER)
    set_role(other, "bob", "carl", Role.OWNER)
    merge(one, other)
    assert roles(one) == {"bob": "owner", "dora": "guest"}
    add(one, "bob", "carl")
    assert roles(one)["carl"] == "member"


def test_an_owner_added_again_keeps_its_rights_against_backdated_removals() -> None:
    circle = family()
    set_role(circle, "anna", "carl", Role.OWNER)
    before = circle.log.heads()
    remove(circle, "anna", "bob")
    circle.add(forge(circle, "bob", Kind.REMOVE, parents=before, subject=who("anna")))
    assert set(circle.log.unconfirmed()) == {who("anna"), who("bob")}
    remove(circle, "carl", "bob")  # anna's removal of him was void: carl confirms it
    assert circle.log.unconfirmed() == (who("anna"),)
    add(circle, "carl", "anna", Role.OWNER)
    add(circle, "anna", "frank")
    circle.add(forge(circle, "bob", Kind.REMOVE, parents=before, subject=who("anna"), at=99))
    assert roles(circle) == {"anna": "owner", "carl": "owner", "dora": "guest", "frank": "member"}


def test_an_owner_removed_in_retrospect_has_given_nothing_meanwhile() -> None:
    """Bob's removal of anna may have happened: both are out, and what she gave after it is void."""
    circle = family()
    before = circle.log.heads()
    remove(circle, "anna", "bob")
    add(circle, "anna", "frank", Role.OWNER)
    circle.add(forge(circle, "bob", Kind.REMOVE, parents=before, subject=who("anna")))
    assert roles(circle) == {"carl": "member", "dora": "guest"}
    assert circle.state.is_ownerless


@pytest.mark.parametrize("clock", [0, 1, (1 << 63) - 1])
def test_the_clock_decides_nothing(clock: int) -> None:
    """A clock set back, or far ahead: the same members as with an honest one."""
    circle = family()
    before = circle.log.heads()
    circle.add(forge(circle, "anna", Kind.REMOVE, parents=before, subject=who("carl"), at=1_000))
    circle.add(forge(circle, "bob", Kind.ROLE, parents=before, subject=who("carl"), role=3, at=clock))
    assert "carl" not in roles(circle)


def test_a_forged_signature_is_refused() -> None:
    circle = family()
    real = forge(circle, "anna", Kind.REMOVE, parents=circle.log.heads(), subject=who("bob"))
    body = real.raw[65:]
    forged = b"\x01" + key("eve").sign(CONTEXT + body) + body
    with pytest.raises(OpRefused, match="forged"):
        read_op(forged)
    tampered = real.raw[:-1] + bytes([real.raw[-1] ^ 1])
    with pytest.raises(OpRefused):
        read_op(tampered)
    assert read_op(real.raw) == real


def test_an_operation_of_another_circle_is_refused() -> None:
    circle = family()
    other = found("eve", "trap")
    with pytest.raises(OpRefused, match="another circle"):
        circle.add(forge(other, "anna", Kind.TITLE, parents=other.log.heads(), title="x"))
    with pytest.raises(OpRefused, match="another circle"):
        circle.add(other.log.ops[0])


def test_an_operation_without_its_past_waits() -> None:
    circle = family()
    first = forge(circle, "anna", Kind.TITLE, parents=circle.log.heads(), title="x")
    second = forge(circle, "anna", Kind.TITLE, parents=(first.id,), title="y")
    with pytest.raises(MissingParents) as missing:
        circle.add(second)
    assert missing.value.parents == (first.id,)
    circle.add(first)
    assert circle.add(second)
    assert not circle.add(second)
    assert circle.state.name == "y"


# ---- devices


def test_a_person_acts_from_each_of_its_devices() -> None:
    circle = family()
    add_device(circle, "anna", "anna", "anna-phone")
    assert circle.state.role(who("anna-phone")) == Role.OWNER
    circle.write(author("anna-phone", "anna"), Kind.TITLE, 1, title="from the phone")
    assert circle.state.name == "from the phone"
    assert len(circle.state.members()) == 4


def test_a_stolen_device_is_out_whatever_it_says_of_the_past() -> None:
    circle = family()
    add_device(circle, "anna", "anna", "laptop")
    before = circle.log.heads()
    remove_device(circle, "anna", "anna", "laptop")
    assert circle.state.role(who("laptop")) is None
    assert circle.state.is_removed(who("laptop"))
    circle.add(forge(circle, "laptop", Kind.ADD, person=who("anna"), parents=before, subject=who("eve"),
                     device=who("eve"), role=3, name="eve"))  # fmt: skip
    agreed = consent(who("anna"), who("tablet"), key("tablet").sign)
    circle.add(forge(circle, "laptop", Kind.ADD_DEVICE, person=who("anna"), parents=before,
                     device=who("tablet"), consent=agreed))  # fmt: skip
    assert circle.state.role(who("eve")) is None
    assert circle.state.role(who("tablet")) is None
    assert circle.state.role(who("anna")) == Role.OWNER


def test_a_device_that_did_not_agree_is_not_added() -> None:
    circle = family()
    stolen = forge(
        circle, "eve", Kind.ADD_DEVICE, parents=circle.log.heads(), device=who("bob"), consent=bytes(64)
    )
    with pytest.raises(OpRefused, match="did not agree"):
        read_op(stolen.raw)
    for_another = consent(who("anna"), who("bob"), key("bob").sign)
    stolen = forge(
        circle, "eve", Kind.ADD_DEVICE, parents=circle.log.heads(), device=who("bob"), consent=for_another
    )
    with pytest.raises(OpRefused, match="did not agree"):
        read_op(stolen.raw)


def test_removing_a_person_removes_all_its_devices_and_adding_it_again_brings_only_those_named() -> None:
    circle = family()
    add_device(circle, "carl", "carl", "carl-phone")
    remove(circle, "anna", "carl")
    assert circle.state.role(who("carl-phone")) is None
    add(circle, "anna", "carl")
    assert circle.state.role(who("carl")) == Role.MEMBER
    assert circle.state.role(who("carl-phone")) is None


def test_a_paper_key_adds_and_removes_devices_and_nothing_else() -> None:
    circle = family()
    add_device(circle, "anna", "anna", "paper", is_paper=True)
    assert circle.state.role(who("paper")) is None
    assert circle.state.find("anna").papers == (who("paper"),)
    with pytest.raises(AccessDenied, match="paper"):
        circle.write(author("paper", "anna"), Kind.TITLE, 1, title="x")
    remove_device(circle, "paper", "anna", "anna")
    add_device(circle, "paper", "anna", "new-laptop")
    assert circle.state.role(who("anna")) is None
    assert circle.state.role(who("new-laptop")) == Role.OWNER


def test_a_stolen_device_does_not_get_rid_of_the_paper_key() -> None:
    circle = family()
    add_device(circle, "anna", "anna", "paper", is_paper=True)
    with pytest.raises(AccessDenied, match="paper key"):
        remove_device(circle, "anna", "anna", "paper")
    with pytest.raises(AccessDenied, match="paper key"):
        add_device(circle, "anna", "anna", "other-paper", is_paper=True)
    add_device(circle, "paper", "anna", "other-paper", is_paper=True)
    remove_device(circle, "paper", "anna", "paper")
    assert circle.state.find("anna").papers == (who("other-paper"),)


def test_two_devices_that_remove_each_other_are_both_out_and_the_paper_key_settles_it() -> None:
    circle = family()
    add_device(circle, "anna", "anna", "laptop")
    add_device(circle, "anna", "anna", "paper", is_paper=True)
    one, other = apart(circle)
    remove_device(one, "anna", "anna", "laptop")
    remove_device(other, "laptop", "anna", "anna")
    merge(one, other)
    assert one.state.find("anna").devices == ()
    add_device(one, "paper", "anna", "new")
    assert one.state.role(who("new")) == Role.OWNER


# ---- revocations


def test_a_revocation_counts_even_from_one_who_was_removed_meanwhile() -> None:
    one, other = apart(family())
    remove(one, "anna", "carl")
    other.write(author("carl"), Kind.REVOKE, 1, revoked=(b"grant-1",))
    merge(one, other)
    assert one.state.revoked_by(b"grant-1") == (who("carl"),)
    assert one.state.revoked_by(b"grant-2") == ()


# ---- bounds


def test_names_and_lists_have_bounds() -> None:
    circle = family()
    with pytest.raises(UsageError):
        circle.write(author("anna"), Kind.TITLE, 1, title="x" * (NAME_CHARS_MAX + 1))
    with pytest.raises(UsageError):
        circle.write(author("anna"), Kind.TITLE, 1, title="two\nlines")
    with pytest.raises(UsageError):
        circle.write(author("anna"), Kind.REVOKE, 1, revoked=(b"x",) * (REVOKED_PER_OP_MAX + 1))
    circle.write(author("anna"), Kind.TITLE, 1, title="x" * NAME_CHARS_MAX)


def test_an_operation_has_at_most_so_many_parents() -> None:
    circle = family()
    base = circle.log.heads()
    branches = [forge(circle, "carl", Kind.RENAME, parents=base, subject=who("carl"), name=f"c{i}")
                for i in range(PARENTS_MAX + 1)]  # fmt: skip
    for branch in branches:
        circle.add(branch)
    with pytest.raises(UsageError, match="parents"):
        forge(circle, "anna", Kind.TITLE, parents=circle.log.heads(), title="x")
    circle.write(author("anna"), Kind.TITLE, 1, title="merged")
    assert len(circle.log.heads()) == 2
    with pytest.raises(OpRefused, match="ancestor"):
        circle.add(forge(circle, "anna", Kind.TITLE, parents=(branches[0].id, *base), title="x"))


def test_an_operation_has_a_size_that_its_fields_cannot_exceed() -> None:
    with pytest.raises(OpRefused, match="size"):
        read_op(bytes(OP_BYTES_MAX + 1))
    biggest = forge(
        family(), "anna", Kind.ADD, parents=tuple(bytes([i]) * 32 for i in range(PARENTS_MAX)), subject=who("x"),
        device=who("y"), role=3, name="ü" * NAME_CHARS_MAX, title="ü" * NAME_CHARS_MAX, consent=bytes(64),
        revoked=(bytes(32),) * REVOKED_PER_OP_MAX, at=(1 << 63) - 1,
    )  # fmt: skip
    assert len(biggest.raw) < OP_BYTES_MAX


def test_a_full_log_still_loses_the_member_who_filled_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(circle_log, "OPS_MAX", 20)
    monkeypatch.setattr(circle_log, "OPS_FOR_OWNERS", 5)
    circle = family()
    with pytest.raises(LimitExceeded, match="full"):
        for i in range(30):
            circle.write(author("carl"), Kind.RENAME, 1, subject=who("carl"), name=f"c{i}")
    assert len(circle.log) == 15
    remove(circle, "anna", "carl")
    assert circle.state.is_removed(who("carl"))


def test_one_person_has_a_bound_in_one_line_of_history(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(circle_log, "OPS_PER_PERSON_MAX", 10)
    circle = family()
    with pytest.raises(AccessDenied, match="10 operations of one person"):
        for i in range(11):
            circle.write(author("carl"), Kind.RENAME, 1, subject=who("carl"), name=f"c{i}")


def test_a_person_has_at_most_so_many_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(circle_log, "DEVICES_MAX", 3)
    circle = family()
    for i in range(2):
        add_device(circle, "carl", "carl", f"device{i}")
    with pytest.raises(AccessDenied, match="more than 3 devices"):
        add_device(circle, "carl", "carl", "device3")


def test_a_right_is_handed_on_only_so_often() -> None:
    circle = found("p0")
    with pytest.raises(AccessDenied, match="handed on"):
        for i in range(GENERATIONS_MAX + 2):
            add(circle, f"p{i}", f"p{i + 1}", Role.OWNER)
    assert len(circle.state.members()) > GENERATIONS_MAX // 2


def test_decoders_refuse_noise() -> None:
    chance = random.Random(6)
    raw = forge(family(), "anna", Kind.TITLE, parents=(bytes(32),), title="x").raw
    for _ in range(500):
        damaged = bytearray(raw)
        for _ in range(chance.randint(1, 4)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        if bytes(damaged) != raw:
            with pytest.raises(OpRefused):
                read_op(bytes(damaged))
        with pytest.raises(OpRefused):
            read_op(chance.randbytes(chance.randrange(200)))


def test_the_bytes_of_an_operation_are_fixed() -> None:
    """Golden bytes: a change of the format is a change of version."""
    circle = found()
    signed = circle.log.ops[0]
    assert signed.raw[:1] == b"\x01"
    assert msgspec.msgpack.decode(signed.raw[65:])[1] == 1
    assert signed.id.hex() == "6cb815ff3e5ae73bec5fdf5e14dd9b3dead4de3447b9ff2efab4c6ee9094477f"
    title = forge(circle, "anna", Kind.TITLE, parents=circle.log.heads(), title="x", at=7)
    assert title.raw[65:].hex() == (
        "9fc4206cb815ff3e5ae73bec5fdf5e14dd9b3dead4de3447b9ff2efab4c6ee9094477f06c4206e3b2586c8df35"
        "773f2e80ec48dec2353c71cd6771ef8a9ab6a0632adbadc00dc4206e3b2586c8df35773f2e80ec48dec2353c71"
        "cd6771ef8a9ab6a0632adbadc00d91c4206cb815ff3e5ae73bec5fdf5e14dd9b3dead4de3447b9ff2efab4c6ee"
        "9094477f07c400c40000a0a17890c400c2c400"
    )
    assert sign_op(title.op, key("anna").sign) == title


# ---- cost


@pytest.mark.slow
def test_ten_thousand_operations_load_in_a_second() -> None:
    """Measured in CPU time of this process, best of three: the machine is shared. 0.35 s here when written."""
    circle = family()
    chance = random.Random(6)
    for i in range(10_000 - len(circle.log)):
        name = chance.choice(["anna", "bob", "carl"])
        circle.write(author(name), Kind.RENAME, i, subject=who(name), name=f"{name}{i}")
    raws = [signed.raw for signed in circle.log.ops]
    best = min(_load_s(raws) for _ in range(3))
    assert best < 1.0


def _load_s(raws: list[bytes]) -> float:
    began = time.process_time()
    loaded = Circle(read_op(raws[0], is_verified=True))
    for raw in raws[1:]:
        loaded.add(read_op(raw, is_verified=True))
    assert len(loaded.state.members()) == 4
    return time.process_time() - began


def test_a_log_is_the_same_in_any_order() -> None:
    one, other = apart(family())
    remove(one, "anna", "bob")
    add(other, "bob", "eve")
    add_device(other, "carl", "carl", "carl2")
    merge(one, other)
    for seed in range(20):
        assert picture(in_any_order(one, random.Random(seed)).state) == picture(one.state)
