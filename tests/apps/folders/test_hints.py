"""Hints of where to look again: gathered, joined, bounded."""

from coterie.apps.folders.hints import (
    ALL,
    GATHERED_S,
    HINTS_MAX,
    PATHS_MAX,
    QUIET_S,
    Clocks,
    Gathering,
    Hints,
    hints_of,
    jumped,
)


def test_a_burst_is_told_once_soon_after_its_end() -> None:
    gathering = Gathering()
    assert gathering.due is None
    gathering.add(10.0, path="a/x")
    gathering.add(10.01, path="a/y")
    gathering.add(10.02, path="a/x")
    assert gathering.due == 10.02 + QUIET_S
    assert gathering.take() == Hints(frozenset(["a/x", "a/y"]))
    assert gathering.due is None


def test_a_burst_that_does_not_end_is_told_all_the_same() -> None:
    gathering = Gathering()
    for step in range(20):
        gathering.add(10.0 + step * QUIET_S / 2, path=str(step))
    assert gathering.due == 10.0 + GATHERED_S


def test_larger_hints_cover_smaller_ones() -> None:
    hints = hints_of(["a/x", "b/c/y", "d"], ["a", "b/c/e", "b"], ["b/c", "b/c/deep"])
    assert hints == Hints(frozenset(["d"]), frozenset(["a", "b"]), frozenset(["b/c"]))
    assert hints.joined(ALL) == ALL
    assert ALL.is_all
    assert Hints(frozenset(["a/x"])).joined(Hints(folders=frozenset(["a"]))) == Hints(
        folders=frozenset(["a"])
    )


def test_one_path_too_many_in_a_folder_and_it_is_listed() -> None:
    names = [f"a/{number}" for number in range(PATHS_MAX)]
    assert hints_of(names) == Hints(frozenset(names))
    assert hints_of([*names, "a/one more"]) == Hints(folders=frozenset(["a"]))


def test_one_hint_too_many_and_everything_is_looked_at() -> None:
    folders = [f"{number}" for number in range(HINTS_MAX)]
    assert hints_of([], folders) == Hints(folders=frozenset(folders))
    assert hints_of(["x/y"], folders) == ALL


def test_a_gathering_is_bounded() -> None:
    gathering = Gathering()
    for number in range(2 * HINTS_MAX + 1):
        gathering.add(1.0, path=f"{number}/x")
    assert gathering.take() == ALL
    for number in range(10 * HINTS_MAX):
        gathering.add(1.0, path=f"same/{number}")
    assert gathering.take() in (Hints(folders=frozenset(["same"])), Hints(trees=frozenset(["same"])))


def test_clocks_that_part_show_sleep_and_a_date_that_was_set() -> None:
    before = Clocks(100.0, 100.0, 5_000.0)
    assert not jumped(before, Clocks(110.0, 110.5, 5_010.0))
    assert jumped(before, Clocks(110.0, 3_710.0, 8_610.0))  # an hour of sleep
    assert jumped(before, Clocks(110.0, 110.0, 5_010.0 - 86_400))  # the clock was set back
