"""Records of live folders: only the owner's word counts, and only the newest of it."""

import msgspec
import pytest

from coterie.access.policy import of_circle, of_peer
from coterie.access.resource import Verb
from coterie.apps.folders.membership import (
    MEMBERS_MAX,
    RECORD_BYTES_MAX,
    FolderRecord,
    Role,
    ended,
    is_newer,
    member_of,
    open_record,
    rules_of,
    to_sign,
    with_member,
    without_member,
)
from coterie.apps.folders.signed_body import packed
from coterie.errors import LimitExceeded, PeerError, UsageError
from coterie.identity import SecretKey

ANNA = SecretKey(b"a" * 32)
BEN = SecretKey(b"b" * 32)
OF_BEN = of_peer(BEN.peer_id)


def a_record(**changes: object) -> FolderRecord:
    made = FolderRecord(b"f" * 16, "Projects", bytes(ANNA.peer_id), 1, 1_700_000_000_000)
    return msgspec.structs.replace(made, **changes)


def signed(record: FolderRecord, key: SecretKey = ANNA) -> bytes:
    return packed(record, key.sign(to_sign(record)))


def test_a_record_comes_as_it_went() -> None:
    record = with_member(a_record(), OF_BEN, Role.READ, 5)
    assert open_record(signed(record)) == record
    assert record.seq == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"name": ""},
        {"name": "a/b"},
        {"name": "n" * 65},
        {"seq": 0},
        {"id": b"short"},
        {"owner": b"\2" * 32},
        {"at_ms": -1},
        {"members": (("anyone", 1),)},
        {"members": (("contact", 1),)},
        {"members": (("peer:nobody", 1),)},
        {"members": ((OF_BEN, 9),)},
        {"members": ((OF_BEN, 1),) * (MEMBERS_MAX + 1)},
    ],
)
def test_a_record_out_of_bounds_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(PeerError):
        open_record(signed(a_record(**changes)))


def test_a_record_that_somebody_else_signed_is_refused() -> None:
    with pytest.raises(PeerError, match="forged"):
        open_record(signed(a_record(), BEN))
    raw = signed(a_record())
    with pytest.raises(PeerError):
        open_record(raw[:-1])
    with pytest.raises(PeerError, match="too long"):
        open_record(raw + bytes(RECORD_BYTES_MAX))


def test_the_highest_number_of_the_same_owner_counts() -> None:
    first = a_record()
    second = with_member(first, OF_BEN, Role.WRITE, 5)
    assert is_newer(second, first)
    assert is_newer(first, None)
    assert not is_newer(first, second)
    assert not is_newer(first, first)
    assert not is_newer(a_record(owner=bytes(BEN.peer_id), seq=9), first)


def test_rules_follow_from_the_record() -> None:
    circle = of_circle("c" * 52)
    record = with_member(with_member(a_record(), OF_BEN, Role.READ, 5), circle, Role.KEEP, 6)
    rules = dict(rules_of(record))
    assert rules[of_peer(ANNA.peer_id)] & Verb.WRITE
    assert rules[OF_BEN] == Verb.LIST | Verb.READ
    assert rules[circle] == Verb.USE  # nothing of the folder itself
    assert dict(rules_of(without_member(record, OF_BEN, 7))).get(OF_BEN) is None
    assert not rules_of(ended(record, 8))


def test_a_member_has_one_role() -> None:
    record = with_member(a_record(), OF_BEN, Role.READ, 5)
    assert with_member(record, OF_BEN, Role.WRITE, 6).members == ((OF_BEN, Role.WRITE),)


def test_members_are_persons_and_circles_up_to_a_bound() -> None:
    with pytest.raises(UsageError, match="persons, computers or circles"):
        with_member(a_record(), "contact", Role.READ, 5)
    with pytest.raises(UsageError, match="no member"):
        without_member(a_record(), OF_BEN, 5)
    circles = [of_circle(f"{number:052}") for number in range(MEMBERS_MAX)]
    full = a_record(members=tuple((circle, 1) for circle in circles))
    with pytest.raises(LimitExceeded):
        with_member(full, OF_BEN, Role.READ, 5)
    assert open_record(signed(full)) == full


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("ben", ("ben", Role.WRITE)),
        ("ben:read", ("ben", Role.READ)),
        ("family:guest", ("family:guest", Role.WRITE)),
        ("family:guest:read", ("family:guest", Role.READ)),
    ],
)
def test_a_role_stands_behind_whom(text: str, meant: tuple[str, Role]) -> None:
    assert member_of(text) == meant


def test_a_role_alone_is_nobody() -> None:
    with pytest.raises(UsageError):
        member_of(":read")
