"""The table in which who has most makes room first."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coterie.crowd import SPARE_MARKS, Crowd


def test_the_oldest_of_who_has_most_goes_first() -> None:
    crowd: Crowd[int, str] = Crowd()
    for number, owner in enumerate("abbcbc"):
        crowd.add(number, owner)
    assert (crowd.heaviest(), crowd.next_to_go()) == ("b", 1)
    crowd.remove(1)
    assert crowd.next_to_go() == 3  # c has had as much as b has now for longer: but b's weight changed later
    assert list(crowd) == [0, 2, 3, 4, 5]


def test_weights_count_and_not_numbers() -> None:
    crowd: Crowd[int, str] = Crowd()
    crowd.add(1, "a", 10)
    for number in (2, 3, 4):
        crowd.add(number, "b", 3)
    assert crowd.heaviest() == "a"
    crowd.add(5, "b", 3)
    assert (crowd.heaviest(), crowd.weight, crowd.weight_of("b"), crowd.count_of("b")) == ("b", 22, 12, 4)


def test_nothing_is_next_of_nothing() -> None:
    crowd: Crowd[int, str] = Crowd()
    crowd.add(1, "a")
    crowd.remove(1)
    assert (len(crowd), crowd.owners, crowd.weight_of("a")) == (0, 0, 0)
    with pytest.raises(IndexError):
        crowd.next_to_go()


@settings(deadline=None, max_examples=20)  # a busy machine takes its time
@given(st.integers(0, 2**32))
def test_it_agrees_with_a_plain_count_and_its_heap_does_not_grow(seed: int) -> None:
    rng, crowd, plain = random.Random(seed), Crowd[int, int](), dict[int, int]()
    for number in range(300):
        crowd.add(number, owner := rng.randrange(8))
        plain[number] = owner
        if rng.random() < 0.6:
            gone = crowd.next_to_go() if rng.random() < 0.5 else rng.choice(list(plain))
            crowd.remove(gone)
            del plain[gone]
        if plain:
            counts = {owner: list(plain.values()).count(owner) for owner in plain.values()}
            assert counts[crowd.heaviest()] == max(counts.values())
            assert crowd.next_to_go() == next(n for n, o in plain.items() if o == crowd.heaviest())
    assert len(crowd._marks) <= 2 * crowd.owners + SPARE_MARKS
