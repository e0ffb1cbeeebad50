"""A live folder has so many paths at most: what is too many is not taken, nothing is lost, and it is said."""

from pathlib import Path

import pytest

from coterie.apps.folders import crowding
from coterie.apps.folders.app import APP
from coterie.apps.folders.planner import Rules
from coterie.apps.folders.register import NOTHING, Kind, Value, pack, written
from coterie.apps.folders.steps import Here, Print, Record
from coterie.errors import LimitExceeded
from coterie.testing import Cast, play
from tests.apps.folders.test_book import opened, recorded
from tests.apps.folders.test_folders import files_in, pair, until

THEIRS = b"t" * 16


def by_others(number: int) -> bytes:
    return pack(written(NOTHING, (), (THEIRS, number), Value(Kind.FILE, b"c" * 32, 3, by=b"b" * 32)))


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crowding, "PATHS_MAX", 3)


def test_one_path_of_others_too_many_is_refused_with_what_came_along(tmp_path: Path) -> None:
    book = opened(tmp_path)
    assert book.merge(THEIRS, [(name, by_others(1)) for name in "ab"]) == ["a", "b"]
    with pytest.raises(LimitExceeded, match=r"has 3 paths.*make a second one"):
        book.merge(THEIRS, [(name, by_others(1)) for name in "cd"])
    assert book.data.paths() == ["a", "b"]
    assert book.merge(THEIRS, [("c", by_others(1))]) == ["c"]
    with pytest.raises(LimitExceeded):
        book.merge(THEIRS, [("d", by_others(1))])
    assert book.merge(THEIRS, [("c", by_others(2))]) == ["c"], "what is known may change"
    assert "has 3 paths" in book.crowding.why


def test_one_path_of_here_too_many_is_not_recorded_and_no_rename_becomes_a_deletion(tmp_path: Path) -> None:
    book = opened(tmp_path)
    for number, name in enumerate("abc"):
        assert not book.crowding.why
        recorded(book, name, Print(Kind.FILE, number + 1, 3, 100, 100), b"c" * 32)
    seen = Print(Kind.FILE, 1, 3, 100, 200)
    book.found({"a": None, "d": Here(seen)}, {"d": "a"})
    assert [step for step in book.plan(Rules(), ["a", "d"], []) if isinstance(step, Record)] == []
    assert "has 3 paths" in book.crowding.why
    book.found({"b": None}, {})
    (gone,) = book.plan(Rules(), ["b"], [])
    assert isinstance(gone, Record)
    assert gone.value.kind is Kind.GONE, "what has a path already is recorded"


def test_a_folder_with_too_many_files_says_so_on_both_sides_and_takes_none_away(tmp_path: Path) -> None:
    async def story(cast: Cast) -> None:
        anna, ben, here, there = await pair(cast, tmp_path)
        for name in "abc":
            (here / name).write_text(name)
        await until(lambda: len(files_in(there)) == 3, "three files")
        (here / "d").write_text("one too many")
        (here / "a").write_text("an edit")
        await until(lambda: "has 3 paths" in anna.folders.lines()[0].note, "it is said")
        await until(lambda: files_in(there).get("a") == b"an edit", "edits go on")
        assert len(files_in(here)) == 4
        assert len(files_in(there)) == 3
        assert not ben.folders.lines()[0].note

    play(story, tmp_path / "homes", apps=[APP], in_real_time=True)
