"""Which grants the revocations in a circle's log end, and which they do not."""

from random import Random

from coterie.access.circle import Circle
from coterie.access.circle_ops import Kind, Role, consent
from coterie.access.circle_revoked import revoked_keys
from coterie.access.circle_vouched import vouched_computers
from coterie.access.grant import NONCE_BYTES, issue
from coterie.access.resource import Verb
from coterie.access.revocation import Revocations
from coterie.access.terms import Terms
from tests.access.circles import add, add_device, author, copy, found, key, merge, remove_device, who

LINK = bytes(range(16))


def revoke(circle: Circle, by: str, person: str = "", link: bytes = LINK) -> None:
    circle.write(author(by, person), Kind.REVOKE, 1, revoked=(link,))


def keys(circle: Circle, link: bytes = LINK) -> set[object]:
    return set(revoked_keys(circle.log).get(link, ()))


def test_one_revokes_what_its_own_key_gave() -> None:
    circle = found()
    add(circle, "anna", "ben", Role.GUEST)
    revoke(circle, "ben")
    assert keys(circle) == {who("ben")}
    assert keys(circle, b"another") == set()


def test_every_computer_of_a_person_revokes_for_the_others() -> None:
    circle = found()
    add_device(circle, "anna", "anna", "laptop")
    add_device(circle, "laptop", "anna", "phone")
    for i, by in enumerate(("anna", "laptop", "phone")):
        revoke(circle, by, "anna", bytes([i]))
        assert keys(circle, bytes([i])) == {who("anna"), who("laptop"), who("phone")}


def test_what_a_lost_computer_gave_can_still_be_taken_back() -> None:
    circle = found()
    add_device(circle, "anna", "anna", "laptop")
    remove_device(circle, "anna", "anna", "laptop")
    revoke(circle, "anna")
    assert who("laptop") in keys(circle)


def test_an_owner_revokes_nothing_by_adding_a_computer_to_another_person() -> None:
    """Eve, an owner, adds a computer of hers as one of anna's, and then anna's real one through it."""
    circle = found("eve")
    agreed = consent(who("anna"), who("spy"), key("spy").sign)
    circle.write(
        author("eve"),
        Kind.ADD,
        1,
        subject=who("anna"),
        device=who("spy"),
        role=Role.MEMBER,
        name="anna",
        consent=agreed,
    )
    add_device(circle, "spy", "anna", "laptop")  # its agreement to belong to anna stands in anna's own log
    revoke(circle, "spy", "anna")
    assert circle.state.revoked_by(LINK) == (who("anna"),)
    assert keys(circle) == {who("spy")}


def test_the_order_of_arrival_does_not_matter() -> None:
    base = found()
    add_device(base, "anna", "anna", "laptop")
    one, other = copy(base), copy(base)
    add_device(one, "laptop", "anna", "phone")
    add_device(other, "anna", "anna", "phone")
    revoke(one, "phone", "anna")
    revoke(other, "laptop", "anna", b"2")
    answers = []
    for seed in range(6):
        sources = [one, other]
        Random(seed).shuffle(sources)
        merged = merge(copy(base), *sources)
        answers.append({i: set(k) for i, k in revoked_keys(merged.log).items()})
    assert all(answer == answers[0] for answer in answers)
    assert vouched_computers(one.log) == {who("anna"): dict.fromkeys(map(who, ("anna", "laptop", "phone")))}


def test_a_carried_revocation_ends_a_grant_of_its_signer_only() -> None:
    now = 1_000_000
    grant = issue(
        key("anna"),
        who("ben"),
        "files/photos",
        Verb.READ,
        terms=Terms(expires=now + 60),
        nonce=bytes(NONCE_BYTES),
    )
    known = Revocations(who("anna"))
    assert known.carry({grant.id: {who("ben"): None}})
    assert not known.of(grant)
    assert known.carry({grant.id: {who("laptop"): None, who("anna"): None}})
    assert known.of(grant)
    assert not known.carry({grant.id: {who("laptop"): None, who("anna"): None}})
    assert known.carry({})
    assert not known.of(grant)
