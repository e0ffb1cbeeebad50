"""Sets of places: the same as plain sets, and bounded."""

import random
from itertools import islice

import pytest

from coterie.access.circle import Circle
from coterie.access.circle_sets import MASKS_MAX, SPARSE_MAX, PlaceSets, highest, lowest, places_in
from tests.access.circles import History, in_any_order, picture


@pytest.mark.parametrize("count", [0, 1, SPARSE_MAX, SPARSE_MAX + 1, 500])
def test_places_come_in_order_and_from_either_end(count: int) -> None:
    places = sorted(random.Random(count).sample(range(3_000), count))
    mask = sum(1 << place for place in places)
    assert list(places_in(mask)) == places
    for most in (0, 1, count - 1, count, count + 1):
        if most >= 0:
            assert list(places_in(lowest(mask, most))) == places[:most]
            assert list(places_in(highest(mask, most))) == (places[-most:] if most else [])


def test_more_sets_than_are_at_hand_are_worked_out_anew() -> None:
    sets: PlaceSets[int] = PlaceSets()
    for place in range(4 * (MASKS_MAX + 1)):
        sets.add(place % (MASKS_MAX + 1), place)
    for _ in range(2):
        for key in range(MASKS_MAX + 1):
            assert list(places_in(sets[key])) == [key + turn * (MASKS_MAX + 1) for turn in range(4)]
    assert len(sets._masks) == MASKS_MAX
    assert sets[-1] == 0
    assert -1 not in sets


@pytest.mark.parametrize("bound", ["PASTS_BYTES_MAX", "ANSWERS_MAX", "VIEWS_MAX"])
def test_the_bounds_of_weighing_change_no_answer(monkeypatch: pytest.MonkeyPatch, bound: str) -> None:
    for seed in range(10):
        made = History(random.Random(seed))
        for _ in range(100):
            made.step()
        whole = in_any_order(made.everything(), random.Random(seed))
        with monkeypatch.context() as patched:
            patched.setattr(f"coterie.access.circle_weighing.{bound}", 1)
            bounded = Circle(whole.log.first)
            for signed in islice(whole.log.ops, 1, None):
                bounded.add(signed)
                assert len(bounded.log._weighed._of) <= (1 if bound == "VIEWS_MAX" else 16)
        assert picture(bounded.state) == picture(whole.state), f"seed {seed}"
        assert bounded.log.unsupported == whole.log.unsupported, f"seed {seed}"
