"""What is known of one folder: what the disk reported, and what is agreed on."""

from pathlib import Path

from coterie.apps.folders import store as s
from coterie.apps.folders.book import FolderBook, Noted
from coterie.apps.folders.planner import Rules
from coterie.apps.folders.register import NOTHING, Kind, Value, pack, unpack, written
from coterie.apps.folders.steps import Agree, Hash, Here, MoveFolder, Print, Put, Record, Remove
from coterie.services.data.service import Data


def store_in(folder: Path) -> s.FoldersStore:
    folder.mkdir(exist_ok=True)
    return s.FoldersStore(Data(folder, "folders", {}, lambda text, key: None).database(s.STEPS))


def opened(folder: Path) -> FolderBook:
    return book_in(store_in(folder))


def book_in(store: s.FoldersStore) -> FolderBook:
    row = s.FolderRow(
        number=0, id=b"f" * 16, path="/tmp/x", replica=b"r" * 16, counter=0, record=b"", state="on", settings=b"",
        created=1.0,
    )  # fmt: skip
    store.add(row)
    return FolderBook(store, row)


def recorded(book: FolderBook, local: str, seen: Print, content: bytes) -> None:
    book.found({local: Here(seen)}, {})
    book.hashed(local, seen, content)
    steps = [step for step in book.plan(Rules(), [local], []) if isinstance(step, Record)]
    book.note(steps, b"b" * 32, 1)


def test_a_file_that_moved_has_its_content_and_one_that_changed_before_is_read(tmp_path: Path) -> None:
    """It was changed, found so, and moved before it was read: what was agreed on is not what is in it."""
    book = opened(tmp_path)
    old = Print(Kind.FILE, 7, 3, 100, 100)
    recorded(book, "x", old, b"c" * 32)
    moved = Print(Kind.FILE, 7, 3, 100, 200)
    assert book.found({"x": None, "y": Here(moved)}, {"y": "x"}) == ["x", "y"]
    (one,) = [step for step in book.plan(Rules(), ["x", "y"], []) if isinstance(step, Record) and step.print]
    assert one.value.content == b"c" * 32
    edited = Print(Kind.FILE, 8, 3, 150, 150)
    for is_reported in (True, False):
        book = opened(tmp_path / f"{is_reported}")
        recorded(book, "x", old, b"c" * 32)
        if is_reported:
            book.found({"x": Here(edited)}, {})
        book.found({"x": None, "y": Here(edited)}, {"y": "x"})
        assert Hash("y", "y") in book.plan(Rules(), ["x", "y"], [])


def test_a_plan_reads_its_rows_together(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    book = book_in(store)
    names = [f"{number:03}" for number in range(300)]
    book.found(
        {name: Here(Print(Kind.FILE, number + 1, 3, 100, 100)) for number, name in enumerate(names)}, {}
    )
    asked: list[str] = []
    with store.db.transaction() as db:
        db.set_trace_callback(asked.append)
    assert book.plan(Rules(), names, []) == [Hash(name, name) for name in names]
    assert len(asked) < 20


def test_what_was_read_again_and_is_as_it_was_takes_nothing_back_later(tmp_path: Path) -> None:
    """After a step that the disk dropped, a file is reported and read again; then others replace it."""
    book = opened(tmp_path)
    old = Print(Kind.FILE, 7, 3, 100, 100)
    recorded(book, "x", old, b"c" * 32)
    book.found({"x": Here(old)}, {})
    assert Hash("x", "x") in book.plan(Rules(), ["x"], [])
    book.hashed("x", old, b"c" * 32)
    assert book.plan(Rules(), ["x"], ["x"]) == []
    theirs = Value(Kind.FILE, b"t" * 32, 3, by=b"t" * 32)
    mine = unpack(book.data.register("x") or b"")
    news = written(mine, [dot for dot, _ in mine.siblings], (b"t" * 16, 1), theirs)
    assert book.merge(b"t" * 16, [("x", pack(news))]) == ["x"]
    (put,) = book.plan(Rules(), [], ["x"])
    assert isinstance(put, Put)
    assert book.did([(put, Print(Kind.FILE, 8, 3, 200, 200))]) == []
    assert book.plan(Rules(), ["x"], ["x"]) == []


def turn(book: FolderBook, local: tuple[str, ...] = ()) -> list[str]:
    """Plan "x" and what the disk reported, and do it: names of the steps, and then the paths to be planned again."""
    steps = book.plan(Rules(), list(local), ["x"])
    again: list[str] = []
    for number, step in enumerate(steps):
        if isinstance(step, Record | Agree):
            again += book.note([step], b"b" * 32, 1).paths
        else:
            seen = Print(Kind.FILE, len(step.local) + 10 * number, 3, 100, 100)
            book.did([(step, None if isinstance(step, Remove) else seen)])  # type: ignore[list-item]
    return [*(type(step).__name__ for step in steps), *again]


def with_a_copy_about_to_go(store: s.FoldersStore) -> FolderBook:
    """What was a copy has the name now and stands there, too; its old place has given its dots away, and is to go."""
    book = book_in(store)
    recorded(book, "x", Print(Kind.FILE, 1, 3, 100, 100), b"m" * 32)
    theirs = Value(Kind.FILE, b"t" * 32, 3, by=b"t" * 32, at_ms=9)
    book.merge(b"t" * 16, [("x", pack(written(NOTHING, (), (b"t" * 16, 1), theirs)))])
    assert [turn(book) for _ in range(3)] == [["Put"], ["Agree", "x"], ["Put"]]
    both = unpack(book.data.register("x") or b"")
    gone = written(both, [(b"t" * 16, 1)], (b"t" * 16, 2), Value(Kind.GONE, by=b"t" * 32))
    book.merge(b"t" * 16, [("x", pack(gone))])
    assert [turn(book) for _ in range(2)] == [["Put"], ["Agree", "x"]]
    assert len(book.agreed_at("x")) == 2
    return book


def test_a_copy_that_is_about_to_go_when_the_program_ends_goes_at_the_next_start(tmp_path: Path) -> None:
    """It stayed beside the file with its name, on one of two computers, until the next change."""
    store = store_in(tmp_path)
    with_a_copy_about_to_go(store)
    (row,) = store.folders()
    book = FolderBook(store, row)
    assert book.undone() == ["x"]
    assert turn(book) == ["Remove"]
    assert len(book.agreed_at("x")) == 1
    assert book.undone() == []


def test_a_copy_that_is_about_to_go_goes_also_where_the_owner_removes_the_file_just_then(
    tmp_path: Path,
) -> None:
    book = with_a_copy_about_to_go(store_in(tmp_path))
    book.found({"x": None}, {})
    steps = book.plan(Rules(), ["x"], [])
    assert book.note([step for step in steps if isinstance(step, Record)], b"b" * 32, 2).paths == ["x"]
    assert turn(book) == ["Remove"]
    assert book.agreed_at("x") == []


def test_what_is_new_in_a_folder_that_moves_is_new_at_its_new_place(tmp_path: Path) -> None:
    book = opened(tmp_path)
    folder, file = Print(Kind.FOLDER, 1), Print(Kind.FILE, 2, 3, 100, 100)
    book.found({"a": Here(folder)}, {})
    recorded(book, "a", folder, b"")
    recorded(book, "a/x", file, b"c" * 32)
    new = Here(Print(Kind.FILE, 3, 3, 100, 100))
    book.found({"a/new": new}, {})
    assert book.did([(MoveFolder("a", "b", folder, "b"), folder)]) == ["b/new"]
    assert book.changed == {"b/new": new}
    assert book.agreed("b/x") is not None


def test_what_was_recorded_as_all_there_is_need_not_be_planned(tmp_path: Path) -> None:
    book = opened(tmp_path)
    book.found(
        {"a": Here(Print(Kind.FOLDER, 1)), "a/b": Here(Print(Kind.FILE, 2, 3, 100, 100), b"c" * 32)}, {}
    )

    def noted(*locals_: str) -> Noted:
        steps = book.plan(Rules(), list(locals_), [])
        return book.note([step for step in steps if isinstance(step, Record)], b"b" * 32, 1)

    assert noted("a", "a/b") == Noted([], [])
    theirs = Value(Kind.FILE, b"d" * 32, 3, 100, by=b"o" * 32, at_ms=2)
    book.merge(b"o" * 16, [("a/b", pack(written(NOTHING, (), (b"o" * 16, 1), theirs)))])
    book.found({"a/b": Here(Print(Kind.FILE, 2, 4, 200, 200), b"e" * 32)}, {})
    assert noted("a/b") == Noted([], ["a/b"]), "another value stands beside it"
    book.found({"a/b": None}, {})
    assert noted("a/b").paths == ["a/b"]
    book.found({"a/c": Here(Print(Kind.FILE, 3, 3, 100, 100), b"c" * 32)}, {})
    noted("a/c")
    book.found({"a/c": None}, {})
    assert noted("a/c") == Noted([], ["a"]), "the folder may go with it"
