"""Random histories of a circle: the same operations give the same members, and nothing gives rights but new supported
statements of those who may."""

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coterie.access.circle import Circle
from coterie.access.circle_facts import subject_of
from coterie.access.circle_ops import Kind, Role
from tests.access.circles import History, Reference, copy, in_any_order, merge, picture

SLOW_MACHINE = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)


def history(seed: int, steps: int) -> History:
    made = History(random.Random(seed))
    for _ in range(steps):
        made.step()
    return made


@SLOW_MACHINE
@given(seed=st.integers(0, 1 << 32), steps=st.integers(0, 150))
def test_all_who_know_the_same_operations_see_the_same_circle(seed: int, steps: int) -> None:
    made = history(seed, steps)
    whole = made.everything()
    for node in made.nodes:
        merge(node, whole)
        assert picture(node.state) == picture(whole.state)
        assert node.log.heads() == whole.log.heads()
    shuffled = in_any_order(whole, random.Random(seed))
    assert picture(shuffled.state) == picture(whole.state)


@SLOW_MACHINE
@given(seed=st.integers(0, 1 << 32), steps=st.integers(0, 150))
def test_merging_twice_and_in_the_other_direction_changes_nothing(seed: int, steps: int) -> None:
    made = history(seed, steps)
    a, b = copy(made.nodes[0]), copy(made.nodes[1])
    merge(a, made.nodes[1])
    merge(b, made.nodes[0])
    merge(b, made.nodes[1], made.nodes[0])
    assert picture(a.state) == picture(b.state)


@SLOW_MACHINE
@given(seed=st.integers(0, 1 << 32), steps=st.integers(0, 150))
def test_only_a_new_statement_of_an_owner_ever_raises_a_role(seed: int, steps: int) -> None:
    """Whatever the order of arrival: a removed member never comes back by anything else than an owner's addition."""
    whole = in_any_order(history(seed, steps).everything(), random.Random(seed))
    growing = Circle(whole.log.ops[0])
    for signed in whole.log.ops[1:]:
        before = {person: growing.log.role(person) for person in growing.log.persons()}
        devices = {person: set(growing.log.devices(person)) for person in before}
        growing.add(signed)
        op = signed.op
        for person in growing.log.persons():
            if growing.log.role(person) > before.get(person, 0):
                assert op.kind in (Kind.ADD, Kind.ROLE)
                assert subject_of(op) == person
                assert _role_at(whole, signed.id, op.person) == Role.OWNER
                if not before.get(person, 0):
                    assert op.kind == Kind.ADD
            gained = set(growing.log.devices(person)) - devices.get(person, set())
            assert not gained or (
                op.kind in (Kind.ADD, Kind.ADD_DEVICE)
                and gained == {op.device}
                and person == (op.subject or op.person)
            )


def _role_at(circle: Circle, op_id: bytes, person: bytes) -> int:
    """The role of `person` in the past of an operation."""
    (made,) = (signed for signed in circle.log.ops if signed.id == op_id)
    past = Circle(circle.log.ops[0])
    for signed in circle.log.missing_at([], list(made.op.parents)):
        if signed.op.kind != Kind.CREATE:
            past.add(signed)
    return past.log.role(person)


@SLOW_MACHINE
@given(seed=st.integers(0, 1 << 32), steps=st.integers(0, 100))
def test_the_rules_by_the_book_agree(seed: int, steps: int) -> None:
    """The log's shortcuts against the plain rules, written down a second time with sets."""
    whole = in_any_order(history(seed, steps).everything(), random.Random(seed))
    reference = Reference.of(whole.log.ops)
    everything = frozenset(reference.ops)
    good = reference.supported(everything)
    supported = {signed.id for i, signed in enumerate(whole.log.ops) if not whole.log.unsupported >> i & 1}
    assert supported == good
    for person in whole.log.persons():
        assert whole.log.role(person) == reference.role(person, everything, good)
        for device in whole.log.devices_ever(person):
            known = reference.device(person, device, everything, good)
            assert (device in whole.log.devices(person)) == bool(known)


@pytest.mark.slow
def test_a_thousand_histories_are_not_all_dull() -> None:
    """The histories above hold what they are meant to try: conflicts that take support, removals, returns."""
    unsupported = removed = returned = 0
    for seed in range(100):
        whole = history(seed, 40).everything()
        unsupported += bool(whole.log.unsupported)
        for person in whole.log.persons():
            said = [signed.op.kind for signed in whole.log.ops if subject_of(signed.op) == person]
            removed += not whole.log.role(person)
            returned += Kind.REMOVE in said and said[-1] == Kind.ADD and bool(whole.log.role(person))
    assert min(unsupported, removed, returned) > 20
