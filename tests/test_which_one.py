"""The one thing that a name means, and what is said of none and of several."""

import pytest

from coterie.errors import NotFound, UsageError
from coterie.which_one import SHOWN_MAX, the_one


def test_one_none_and_several() -> None:
    assert the_one("a", [("id1", 7)], "nothing") == 7
    with pytest.raises(NotFound, match=r"^nothing$"):
        the_one("a", [], "nothing")
    with pytest.raises(UsageError, match=r"^'a' may be any of id1, id2; say which$"):
        the_one("a", [("id2", 1), ("id1", 2)], "nothing")


def test_not_more_are_named_than_anybody_reads() -> None:
    many = [(f"id{number}", number) for number in range(SHOWN_MAX + 1)]
    with pytest.raises(UsageError) as told:
        the_one("a", many, "")
    assert str(told.value).count("id") == SHOWN_MAX
