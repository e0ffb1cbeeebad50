"""What others changed is listed as people did it: a folder that was renamed is one change, and goes back as one."""

from pathlib import Path

import msgspec
import pytest

from coterie.apps.folders import store
from coterie.apps.folders.app import APP
from coterie.apps.folders.book import FolderBook
from coterie.apps.folders.planner import Rules
from coterie.apps.folders.register import Kind, Value, unpack, winner
from coterie.apps.folders.steps import DiskStep, Print, Put, Remove, RemoveFolder
from coterie.apps.folders.undoing import Undoing
from coterie.node import Node
from coterie.testing import Cast, play
from tests.apps.folders.test_book import book_in, store_in
from tests.apps.folders.test_folders import files_in, pair, until

THEIRS, BY = b"t" * 16, b"b" * 32
Values = dict[str, Value]


class Others:
    """Another copy of a folder, whose writes come here, and are done on the disk here."""

    def __init__(self, folder: Path, here: FolderBook) -> None:
        self.here = here
        (folder / "others").mkdir()
        self.there = book_in(store_in(folder / "others"))
        self.there.renew(THEIRS)
        self.seq = self.inode = 0

    def write(self, at_ms: int, values: Values) -> None:
        stamped = {path: msgspec.structs.replace(value, by=BY, at_ms=at_ms) for path, value in values.items()}
        self.there.settle(stamped)
        self.seq, entries = self.there.batch(b"r" * 16, self.seq)
        paths = self.here.merge(THEIRS, entries)
        for step in self.here.plan(Rules(), [], paths):
            self.inode += 1
            assert isinstance(step, DiskStep)
            is_file = isinstance(step, Put)
            kind = Kind.FILE if is_file else Kind.FOLDER
            is_gone = isinstance(step, Remove | RemoveFolder)
            self.here.did([(step, None if is_gone else Print(kind, self.inode, 3, 100, 100))])


def a_file(name: str) -> Value:
    return Value(Kind.FILE, name.encode().ljust(32, b"."), 3)


GONE, FOLDER = Value(Kind.GONE), Value(Kind.FOLDER)


def lines(here: FolderBook) -> list[tuple[str, str, str]]:
    return [(change.what, change.path, change.to) for change in Undoing(here.data).changes()]


def renamed(names: list[str], top: str, to: str) -> Values:
    """The writes of whoever renames a folder with these files."""
    gone: Values = {f"{top}/{name}": GONE for name in names} | {top: GONE}
    return gone | {to: FOLDER} | {f"{to}/{name}": a_file(name) for name in names}


def test_a_renamed_folder_is_one_line_and_goes_back_as_one(tmp_path: Path) -> None:
    here = book_in(store_in(tmp_path / "here"))
    others = Others(tmp_path, here)
    names = [f"{number}.txt" for number in range(30)]
    others.write(1, {"a": FOLDER} | {f"a/{name}": a_file(name) for name in names} | {"x": a_file("x")})
    assert lines(here) == []
    others.write(2, renamed(names, "a", "deep/b"))
    assert lines(here) == [("moved", "a", "deep/b")]
    others.write(3, {"x": GONE, "y": a_file("x")})
    assert lines(here) == [("moved", "x", "y"), ("moved", "a", "deep/b")]
    others.write(4, {"deep/b/0.txt": a_file("edited since")})
    assert set(lines(here)) == {
        ("changed", "deep/b/0.txt", ""),
        ("moved", "x", "y"),
        ("moved", "a", "deep/b"),
        ("removed", "a/0.txt", ""),
    }
    undoing = Undoing(here.data)
    (change,) = (one for one in undoing.changes() if one.path == "a")
    here.rewrite(undoing.back(change, b"m" * 32, 5))
    there = {path for path in here.data.paths() if kind_of(here, path) is Kind.FILE}
    assert there == {"y", "deep/b/0.txt"} | {f"a/{name}" for name in names[1:]}


def kind_of(here: FolderBook, path: str) -> Kind:
    first = winner(unpack(here.data.register(path) or b""))
    return first[1].kind if first is not None else Kind.GONE


@pytest.mark.parametrize(
    ("later", "expected"),
    [
        ({"a/1": GONE}, [("removed", "a/1", "")]),
        ({"a/1": GONE, "b/1": a_file("other")}, [("removed", "a/1", "")]),
        ({"a/1": GONE, "b/1": a_file("1")}, [("moved", "a/1", "b/1")]),
        ({"a/1": a_file("new")}, [("changed", "a/1", "")]),
    ],
    ids=["removed", "another content", "one file of a folder", "edited"],
)
def test_what_is_no_move_of_a_folder_is_none(
    tmp_path: Path, later: Values, expected: list[tuple[str, str, str]]
) -> None:
    here = book_in(store_in(tmp_path / "here"))
    others = Others(tmp_path, here)
    others.write(1, {"a": FOLDER, "a/1": a_file("1"), "a/2": a_file("2"), "copy": a_file("1")})
    others.write(2, later)
    assert lines(here) == expected


def test_equal_files_find_their_places_and_the_older_half_of_a_move_may_be_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = book_in(store_in(tmp_path / "here"))
    others = Others(tmp_path, here)
    same = {f"{folder}/{name}": a_file("same") for folder in ("a/1", "a/2") for name in "xy"}
    others.write(1, same)
    gone: Values = dict.fromkeys(same, GONE)
    others.write(2, gone | {f"b{path[1:]}": value for path, value in same.items()})
    undoing = Undoing(here.data)
    (change,) = undoing.changes()
    assert {(event.path, to) for event, to in change.moved} == {(path, f"b{path[1:]}") for path in same}
    monkeypatch.setattr(store, "EVENTS_MAX", 2)
    here.data.sweep_events(0.0)
    (change,) = Undoing(here.data).changes()
    assert len(change.moved) == 2


async def undone(node: Node, change: str = "") -> list[tuple[str, str, str]]:
    return [(line.what, line.path, line.to) for line in await node.folders.undo("Projects", change)]


def test_the_rename_of_a_folder_by_another_is_taken_back_for_all(tmp_path: Path) -> None:
    async def story(cast: Cast) -> None:
        _, ben, here, there = await pair(cast, tmp_path)
        (here / "old" / "sub").mkdir(parents=True)
        for number in range(20):
            (here / "old" / ("sub" if number % 2 else ".") / f"{number}.txt").write_text(f"{number}")
        before = files_in(here)
        await until(lambda: files_in(there) == before, "the files")
        (here / "old").rename(here / "new")
        await until(lambda: not (there / "old").exists() and len(files_in(there)) == 20, "the rename")
        assert await undone(ben) == [("moved", "old", "new")]
        (line,) = await ben.folders.undo("Projects", "")
        assert await undone(ben, line.id) == [("moved", "old", "new")]
        await until(lambda: files_in(there) == before == files_in(here), "it is as before on both")
        await until(lambda: not any((one / "new").exists() for one in (here, there)), "the other name went")

    play(story, tmp_path / "homes", apps=[APP], in_real_time=True)
