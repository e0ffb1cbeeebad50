"""What `--only` and `--file` mean: a name first, then a pattern."""

import pytest

from coterie.content import chosen
from coterie.content.chosen import Chosen

TREE = ["a[1].txt", "a1.txt", "disc [2]/x.ogg", "disc 2/x.ogg", "*.txt", "b.txt"]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (["a[1].txt"], ["a[1].txt"]),
        (["a[12].txt"], ["a1.txt"]),
        (["disc [2]"], ["disc [2]/x.ogg"]),
        (["disc [2]/"], ["disc [2]/x.ogg"]),
        (["disc [2]/*"], ["disc 2/x.ogg"]),
        (["x.ogg"], ["disc [2]/x.ogg", "disc 2/x.ogg"]),
        (["*.txt"], ["*.txt"]),
        (["?.txt", "a*.txt"], ["a[1].txt", "a1.txt", "*.txt", "b.txt"]),
    ],
)
def test_a_name_comes_before_a_pattern(wanted: list[str], expected: list[str]) -> None:
    one = Chosen(wanted)
    one.look(TREE)
    assert [path for path in TREE if one.wants(path)] == expected


def test_a_name_that_comes_late_undoes_the_pattern() -> None:
    one = Chosen(["a[1].txt"])
    one.look(["first", "first/a1.txt"])
    assert one.wants("first/a1.txt", 7)
    assert one.mistaken() == {}
    one.look(["second/a[1].txt"])
    assert one.wants("second/a[1].txt")
    assert not one.wants("second/a1.txt")
    assert one.mistaken() == {"first/a1.txt": 7}


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chosen, "BY_PATTERN_MAX", 2)
    one = Chosen(["a[123].txt"])
    assert all(one.wants(f"a{n}.txt") for n in (1, 2, 3))
    one.look(["a[123].txt"])
    assert one.mistaken() == {"a1.txt": 0, "a2.txt": 0}
