"""The summary of a circle's log: with it and what came later everything is as with the whole log, in little memory."""

import random
import tracemalloc
from itertools import islice

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coterie.access.circle import Circle
from coterie.access.circle_log import OPS_MAX, CircleLog, Unsettled
from coterie.access.circle_ops import Kind, OpRefused, SignedOp, read_op
from coterie.access.circle_revoked import revoked_keys
from coterie.errors import StorageError
from tests.access.circles import History, add, copy, found, in_any_order, picture, unsigned, who

SLOW_MACHINE = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
MEMORY_BYTES_MAX = 20_000_000  # of a full log


def by_summary(circle: Circle) -> Circle:
    """The same circle, brought back from its summary."""
    summary = memoryview(circle.log.summary())
    return Circle(CircleLog.restored(summary, list(circle.log.ops)))


def all_of(circle: Circle) -> tuple[object, ...]:
    """All that a log answers."""
    log = circle.log
    return (
        picture(circle.state),
        circle.state.lost,
        log.heads(),
        log.everything,
        log.unsupported,
        log.names(),
        log.title(),
        revoked_keys(log),
        log.unconfirmed(),
        {person: (log.role(person), log.devices(person)) for person in log.persons()},
        [log.ended_by(device) for person in log.persons() for device in log.devices_ever(person)],
        log.sample(20),
    )


@SLOW_MACHINE
@given(seed=st.integers(0, 1 << 32), steps=st.integers(0, 120), kept=st.floats(0, 1))
def test_a_summary_and_what_came_later_are_the_whole_log(seed: int, steps: int, kept: float) -> None:
    made = History(random.Random(seed))
    for _ in range(steps):
        made.step()
    whole = in_any_order(made.everything(), random.Random(seed))
    early = Circle(whole.log.first)
    count = int(kept * len(whole.log))
    for signed in islice(whole.log.ops, 1, count):
        early.add(signed)
    again = by_summary(early)
    assert all_of(again) == all_of(early)
    for signed in islice(whole.log.ops, max(1, count), None):
        again.add(signed)
    assert all_of(again) == all_of(whole)
    twice = by_summary(again)
    assert all_of(twice) == all_of(whole)
    for _ in range(20):  # what comes next is taken or refused alike
        op = made._random_op(whole, whole.log)
        assert _takes(twice, op) == _takes(whole, op)
    assert all_of(twice) == all_of(whole)


def _takes(circle: Circle, signed: SignedOp) -> str:
    try:
        return str(circle.add(signed))
    except OpRefused as refused:
        return str(refused)


@SLOW_MACHINE
@given(seed=st.integers(0, 1 << 32), steps=st.integers(0, 120))
def test_what_counts_is_the_same_when_it_is_worked_out_in_slices(seed: int, steps: int) -> None:
    made = History(random.Random(seed))
    for _ in range(steps):
        made.step()
    whole = in_any_order(made.everything(), random.Random(seed))
    sliced = Circle(whole.log.first)
    for signed in islice(whole.log.ops, 1, None):
        while signed.id not in sliced.log:
            try:
                sliced.add(signed, 1)
            except Unsettled:
                sliced.settle(1)
    while not sliced.settle(1):
        pass
    assert all_of(sliced) == all_of(whole)


def test_a_damaged_summary_is_refused() -> None:
    circle = found()
    add(circle, "anna", "bob")
    summary = circle.log.summary()
    for cut in range(len(summary)):
        with pytest.raises(StorageError):
            CircleLog.restored(memoryview(summary[:cut]), list(circle.log.ops))


def long_log(count: int, people: int) -> Circle:
    """`people` who rename themselves, one to three at once."""
    circle, chance = found("p0"), random.Random(count)
    for i in range(1, people):
        add(circle, "p0", f"p{i}")
    while len(circle.log) < count:
        heads = circle.log.heads()
        for i in chance.sample(range(people), chance.randint(1, 3)):
            fields = {"subject": who(f"p{i}"), "name": f"name {len(circle.log)}", "at": len(circle.log)}
            circle.add(unsigned(circle, f"p{i}", Kind.RENAME, heads, **fields))
    return circle


def test_a_restored_log_takes_little_memory() -> None:
    """What it takes for each operation, and beside that, makes less than the bound for a full log."""
    sizes = []
    for count in (3_000, 6_000):
        circle = long_log(count, 50)
        summary, ops = circle.log.summary(), list(circle.log.ops)
        tracemalloc.start()
        again = Circle(CircleLog.restored(memoryview(summary), ops))
        size, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert picture(again.state) == picture(circle.state)
        sizes.append((len(ops), size, len(summary)))
    (few, less, _), (many, more, summary_bytes) = sizes
    each = (more - less) / (many - few)
    assert less + each * (OPS_MAX - few) < MEMORY_BYTES_MAX * 0.6, f"{each} bytes for each operation"
    assert summary_bytes / many < 120  # read whole at a start, beside the rest of that


def test_a_removal_beside_very_many_operations_is_judged_in_slices() -> None:
    """Each slice asks for at most so many operations; meanwhile the removal counts already."""
    for by in ("bob", "carl"):
        circle = found()
        for name in ("bob", "carl"):
            add(circle, "anna", name)
        add(circle, "anna", "dora")
        fork = last = circle.log.heads()
        for i in range(10_000):
            made = unsigned(circle, by, Kind.RENAME, last, subject=who(by), name=f"name {i}")
            circle.add(made)
            last = (made.id,)
        removal = unsigned(circle, "anna", Kind.REMOVE, fork, subject=who("bob"))
        assert circle.add(removal, 1_000)
        assert circle.state.role(who("bob")) is None
        slices = 1
        while not circle.settle(1_000):
            assert circle.state.role(who("bob")) is None
            slices += 1
        assert slices >= 10 if by == "bob" else slices == 1  # who took nothing from is not asked
        assert circle.log.unsupported.bit_count() == (10_000 if by == "bob" else 0)
        assert circle.state.find("name 9999" if by == "carl" else "carl").person == who("carl")
        whole = copy(circle)
        assert all_of(whole) == all_of(circle)


def test_what_is_beside_a_removal_is_asked_once_for_all_that_comes_later() -> None:
    """After a removal took support from very many, operations of those who do not know of it cost little."""
    circle = found()
    for name in ("bob", "carl"):
        add(circle, "anna", name)
    fork = last = circle.log.heads()
    for i in range(3_000):
        made = unsigned(circle, "bob", Kind.RENAME, last, subject=who("bob"), name=f"name {i}")
        circle.add(made)
        last = (made.id,)
    circle.add(unsigned(circle, "anna", Kind.REMOVE, fork, subject=who("bob")))
    refused = 0
    for i in range(20):
        made = unsigned(circle, "carl", Kind.RENAME, last, subject=who("carl"), name=f"late {i}")
        try:
            circle.add(made, 1_000)
        except Unsettled:
            refused += 1
            circle.settle()
            circle.add(made, 1_000)
        last = (made.id,)
    assert refused == 1
    assert all_of(copy(circle)) == all_of(circle)


@pytest.mark.parametrize("kind", [Kind.REVOKE, Kind.LEAVE])
def test_a_guest_takes_nobodys_device_by_a_field_that_is_not_read(kind: Kind) -> None:
    circle = found()
    add(circle, "anna", "eve")
    fields = {"revoked": (b"x",)} if kind == Kind.REVOKE else {}
    made = unsigned(
        circle, "eve", kind, circle.log.heads(), subject=who("anna"), device=who("anna"), **fields
    )
    circle.add(made)
    assert circle.state.role(who("anna")) is not None
    assert circle.log.devices(who("anna")) == (who("anna"),)


def test_a_guest_renames_no_circle_by_a_field_that_is_not_read() -> None:
    circle = found()
    add(circle, "anna", "eve")
    circle.add(
        unsigned(circle, "eve", Kind.RENAME, circle.log.heads(), subject=who("eve"), name="eve", title="hers")
    )
    assert circle.state.name == "home"


def test_an_operation_that_was_read_from_a_restored_log_is_the_same() -> None:
    circle = long_log(200, 5)
    again = by_summary(circle)
    assert [read_op(one.raw, is_verified=True) for one in again.log.ops] == list(circle.log.ops)
    assert again.log.missing_at([], list(again.log.heads()), 10) == list(circle.log.ops)[:10]
    assert again.log.missing_at([], list(again.log.heads()), 10, latest=True) == list(circle.log.ops)[-10:]
