"""Names of copies: what a copy stands beside is read back from its name, however often it was numbered."""

import pytest

from coterie.apps.folders.names import copy_name, leaf, numbers, original_of_copy

AT_MS = 1_795_912_278_258


@pytest.mark.parametrize("name", ["plan.ods", "plan", "a.b.tar", ".hidden", "no suffix at all. really"])
def test_a_copy_says_what_it_stands_beside_also_numbered_once_and_again(name: str) -> None:
    copy = copy_name(name, "ben's (old) computer", AT_MS)
    assert original_of_copy(copy) == name
    for once in list(numbers(f"folder/{copy}"))[:3]:
        assert original_of_copy(leaf(once)) == name
        for again in list(numbers(once))[:3]:  # another disk had that name for another file already
            assert original_of_copy(leaf(again)) == name


@pytest.mark.parametrize("name", ["plan.ods", "plan (2).ods", "plan (conflict, ben).ods", "(2) (3)"])
def test_what_is_no_copy_stands_beside_nothing(name: str) -> None:
    assert original_of_copy(name) == ""
