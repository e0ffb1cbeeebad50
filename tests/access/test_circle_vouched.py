"""Which computers are lost by the word of their own person, and which others only say so of."""

from random import Random

from coterie.access.circle import Circle
from coterie.access.circle_ops import Kind, Role, consent
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
    remove,
    remove_device,
    who,
)


def lost(circle: Circle) -> set[object]:
    return set(circle.state.lost)


def test_a_person_loses_its_own_computer() -> None:
    circle = found()
    add_device(circle, "anna", "anna", "laptop")
    add_device(circle, "laptop", "anna", "phone")
    assert lost(circle) == set()
    removal = remove_device(circle, "phone", "anna", "laptop")
    assert lost(circle) == {who("laptop")}
    assert circle.state.lost[who("laptop")].person == who("anna")
    assert circle.state.lost[who("laptop")].removals == (removal.id,)
    remove_device(circle, "phone", "anna", "anna")
    assert lost(circle) == {who("laptop"), who("anna")}


def test_an_owner_loses_nobody_a_computer() -> None:
    circle = found()
    add(circle, "anna", "ben")
    add_device(circle, "ben", "ben", "phone")
    remove_device(circle, "anna", "anna", "phone", of="ben")
    remove(circle, "anna", "ben")
    assert lost(circle) == set()


def false_removal(circle: Circle) -> Circle:
    """Anna, an owner, adds dora twice at once: as herself and with eve as her computer; eve removes dora's own."""
    other = copy(circle)
    agreed = consent(who("dora"), who("eve"), key("eve").sign)
    add(circle, "anna", "dora")
    fields = {"subject": who("dora"), "role": Role.MEMBER, "name": "dora"}
    other.write(author("anna"), Kind.ADD, 1, device=who("eve"), consent=agreed, **fields)
    merge(circle, other)
    heads = circle.log.heads()
    circle.add(
        forge(
            circle,
            "eve",
            Kind.REMOVE_DEVICE,
            parents=heads,
            person=who("dora"),
            subject=who("dora"),
            device=who("dora"),
        )
    )
    return circle


def test_a_false_computer_of_a_person_loses_it_nothing() -> None:
    circle = false_removal(found())
    assert circle.state.role(who("dora")) is None  # out of the circle: an owner may do that
    assert lost(circle) == set()


def test_what_a_false_computer_added_loses_nothing_either() -> None:
    circle = found()
    add(circle, "anna", "dora")
    other = Circle(circle.log.ops[0])
    agreed = consent(who("dora"), who("eve"), key("eve").sign)
    fields = {"subject": who("dora"), "role": Role.MEMBER, "name": "dora"}
    other.write(author("anna"), Kind.ADD, 1, device=who("eve"), consent=agreed, **fields)
    add_device(other, "eve", "dora", "spy")
    merge(circle, other)
    remove_device(circle, "spy", "dora", "dora")
    assert lost(circle) == set()


def test_the_order_of_arrival_does_not_matter() -> None:
    circle = found()
    add_device(circle, "anna", "anna", "laptop")
    remove_device(circle, "anna", "anna", "laptop")
    circle = false_removal(circle)
    for seed in range(8):
        assert lost(in_any_order(circle, Random(seed))) == {who("laptop")}, f"seed {seed}"
