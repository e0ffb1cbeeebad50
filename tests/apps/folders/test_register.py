"""Registers merge to the same whatever the order, and lose no value that somebody could not see."""

from itertools import permutations
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coterie.apps.folders.register import (
    NOTHING,
    SIBLINGS_MAX,
    Kind,
    Register,
    Value,
    copies,
    dots_shown,
    merge,
    pack,
    resolved,
    unpack,
    winner,
    written,
)
from coterie.errors import PeerError

REPLICAS = [bytes([number]) * 16 for number in range(4)]
BY = b"p" * 32


def file(text: int, *, at_ms: int = 0, depth: int = 1) -> Value:
    return Value(Kind.FILE, bytes([text % 256]) * 32, 1, by=BY, at_ms=at_ms, depth=depth)


def gone(at_ms: int = 0) -> Value:
    return Value(Kind.GONE, by=BY, at_ms=at_ms)


class Copies:
    """Some replicas of one path, written and merged at random; `seen` is what each write replaced knowingly."""

    def __init__(self, random: Random, replicas: int = 4) -> None:
        self.random = random
        self.registers = [NOTHING] * replicas
        self.counters = [0] * replicas
        self.written: dict[tuple[bytes, int], Value] = {}
        self.replaced: dict[tuple[bytes, int], set[tuple[bytes, int]]] = {}

    def write(self) -> None:
        at = self.random.randrange(len(self.registers))
        register = self.registers[at]
        self.counters[at] += 1
        dot = (REPLICAS[at], self.counters[at])
        dots = [dot for dot, _ in register.siblings]
        shown = tuple(self.random.sample(dots, self.random.randint(0, len(dots))))
        text = self.random.randrange(6)
        value = gone() if text == 5 else file(text, at_ms=self.random.randrange(9))
        if self.random.random() < 0.1:
            self.registers[at], shown = resolved(register, dot, value), tuple(dots)
        else:
            is_copy = self.random.random() < 0.3
            self.registers[at] = written(register, shown, dot, value, is_copy=is_copy)
        self.written[dot] = value
        self.replaced[dot] = set(shown)

    def meet(self) -> None:
        a, b = self.random.sample(range(len(self.registers)), 2)
        self.registers[a] = merge(self.registers[a], self.registers[b])


@given(st.integers(0, 10**9))
def test_all_converge_and_a_value_goes_only_where_it_was_seen(seed: int) -> None:
    world = Copies(Random(seed))
    for _ in range(40):
        world.random.choice([world.write, world.meet])()
    merged = set()
    for order in permutations(world.registers):
        whole = NOTHING
        for register in order:
            whole = merge(whole, register)
        merged.add(whole)
    assert len(merged) == 1, f"seed {seed}"
    (whole,) = merged
    for register in world.registers:
        assert merge(whole, register) == whole, f"seed {seed}"
    knowingly = set().union(*world.replaced.values()) if world.replaced else set()
    standing = {dot for dot, _ in whole.siblings}
    for dot, value in world.written.items():
        assert value.kind == Kind.GONE or dot in standing or dot in knowingly, f"seed {seed}: lost {dot}"
    assert unpack(pack(whole)) == whole


@given(st.integers(0, 10**9))
def test_merge_is_a_join(seed: int) -> None:
    world = Copies(Random(seed), replicas=3)
    for _ in range(30):
        world.random.choice([world.write, world.write, world.meet])()
    a, b, c = world.registers
    assert merge(a, a) == a
    assert merge(a, b) == merge(b, a)
    assert merge(merge(a, b), c) == merge(a, merge(b, c))


def test_a_write_replaces_only_what_was_shown() -> None:
    one = written(NOTHING, (), (REPLICAS[0], 1), file(1))
    two = written(NOTHING, (), (REPLICAS[1], 1), file(2))
    both = merge(one, two)
    edited = written(both, [(REPLICAS[0], 1)], (REPLICAS[0], 2), file(3))
    assert [value.content[0] for _, value in edited.siblings] == [3, 2]
    assert merge(edited, one) == edited, "the old value does not come back"


def test_equal_contents_are_no_conflict() -> None:
    both = merge(
        written(NOTHING, (), (REPLICAS[0], 1), file(1, at_ms=1)),
        written(NOTHING, (), (REPLICAS[1], 1), file(1, at_ms=2)),
    )
    assert copies(both) == []
    assert dots_shown(both, winner(both)[1]) == ((REPLICAS[0], 1), (REPLICAS[1], 1))


def test_an_edit_survives_a_deletion_beside_it() -> None:
    first = written(NOTHING, (), (REPLICAS[0], 1), file(1))
    deleted = written(first, [(REPLICAS[0], 1)], (REPLICAS[0], 2), gone(9_999))
    edited = written(first, [(REPLICAS[0], 1)], (REPLICAS[1], 1), file(2))
    both = merge(deleted, edited)
    assert winner(both)[1].content[0] == 2
    assert copies(both) == []
    assert len(dots_shown(both, winner(both)[1])) == 2


def test_more_writes_have_the_name_before_a_clock_that_is_ahead() -> None:
    base = written(NOTHING, (), (REPLICAS[0], 1), file(1, at_ms=100))
    often = base
    for number in (2, 3):
        often = written(
            often, [often.siblings[0][0]], (REPLICAS[0], number), file(number, at_ms=100 + number)
        )
    ahead = written(base, [(REPLICAS[0], 1)], (REPLICAS[1], 1), file(9, at_ms=10**12))
    both = merge(often, ahead)
    assert winner(both)[1].content[0] == 3
    assert [value.content[0] for _, value in copies(both)] == [9]


def test_a_copy_that_is_edited_stays_one_and_goes_when_it_is_deleted() -> None:
    both = merge(
        written(NOTHING, (), (REPLICAS[0], 1), file(1, at_ms=1)),
        written(NOTHING, (), (REPLICAS[1], 1), file(2, at_ms=2)),
    )
    (dot, _), *_ = copies(both)
    edited = written(both, [dot], (REPLICAS[0], 2), file(3, at_ms=99), is_copy=True)
    assert winner(edited)[1].content[0] == 2
    (copy_dot, value), *_ = copies(edited)
    assert value.content[0] == 3
    without = written(edited, [copy_dot], (REPLICAS[0], 3), gone(), is_copy=True)
    assert [value.content[0] for _, value in without.siblings] == [2]
    assert merge(without, both) == without


def test_a_folder_has_the_name_before_a_file() -> None:
    both = merge(
        written(NOTHING, (), (REPLICAS[0], 1), Value(Kind.FOLDER, by=BY)),
        written(NOTHING, (), (REPLICAS[1], 1), file(2, at_ms=10**9, depth=5)),
    )
    assert winner(both)[1].kind == Kind.FOLDER
    assert [value.content[0] for _, value in copies(both)] == [2]


def test_one_value_takes_few_bytes() -> None:
    assert len(pack(written(NOTHING, (), (REPLICAS[0], 70_000), file(1, at_ms=1_800_000_000_000)))) <= 140


def _many(count: int) -> Register:
    dots = [(bytes([number]) * 16, 1) for number in range(count)]
    siblings = tuple((dot, file(number)) for number, dot in enumerate(dots))
    return Register(siblings, tuple(dots))


def test_one_value_past_the_bound_is_refused() -> None:
    assert unpack(pack(_many(SIBLINGS_MAX)))
    with pytest.raises(PeerError):
        unpack(pack(_many(SIBLINGS_MAX + 1)))


@pytest.mark.parametrize(
    "value",
    [
        Value(Kind.FILE, b"short", by=BY),
        Value(Kind.FILE, b"c" * 32, -1, by=BY),
        Value(Kind.FILE, b"c" * 32, by=b""),
        Value(Kind.LINK, target="", by=BY),
        Value(Kind.FOLDER, b"c" * 32, by=BY),
        Value(Kind.OTHER, by=BY),
        Value(Kind.FILE, b"c" * 32, by=BY, at_ms=-1),
        Value(Kind.FILE, b"c" * 32, by=BY, depth=1 << 60),
    ],
)
def test_values_that_cannot_be_are_refused(value: Value) -> None:
    dot = (REPLICAS[0], 1)
    with pytest.raises(PeerError):
        unpack(pack(Register(((dot, value),), (dot,))))
