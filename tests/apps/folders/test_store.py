"""What is kept of live folders: rows come back as they went, batches are whole, bounds hold."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest

from coterie.apps.folders import store as s
from coterie.errors import StorageError
from coterie.services.data.service import Data


def opened(folder: Path) -> s.FoldersStore:
    folder.mkdir(exist_ok=True)
    return s.FoldersStore(Data(folder, "folders", {}, lambda text, key: None).database(s.STEPS))


def a_folder(store: s.FoldersStore, name: bytes = b"f") -> s.FolderRow:
    row = s.FolderRow(
        number=0, id=name * 16, path="/tmp/x", replica=b"r" * 16, counter=0, record=b"", state="on", settings=b"",
        created=1.0,
    )  # fmt: skip
    store.add(row)
    return row


def a_register(path: str, body: bytes = b"body", **changes: object) -> s.RegisterRow:
    return s.RegisterRow(path, 1, 5, b"c", 0, True, b"", body)._replace(**changes)


def test_rows_come_back(tmp_path: Path) -> None:
    store = opened(tmp_path)
    row = a_folder(store)
    data = s.FolderData(store, row)
    data.save(
        [a_register("a/b"), a_register("a.c")], agreed=[s.AgreedRow("a/b", "a/b", 1, b"c", b"x")], counter=7
    )
    again = opened(tmp_path)
    (known,) = again.folders()
    assert (known.id, known.counter) == (row.id, 7)
    data = s.FolderData(again, known)
    assert data.seq == 2
    assert data.registers(["a/b", "none"]) == {"a/b": b"body"}
    assert list(data.registers_below("a")) == [("a/b", b"body")]
    assert data.agreed(["a/b"]) == {"a/b": b"x"}
    assert data.agreed_with([b"c"]) == [("a/b", b"c")]
    assert data.totals() == (2, 10)
    assert [name for name, row in data.children("") if row is not None] == ["a.c"]
    assert [name for name, _ in data.children("a")] == ["b"]


def test_changes_come_in_their_order_and_a_path_once(tmp_path: Path) -> None:
    store = opened(tmp_path)
    data = s.FolderData(store, a_folder(store))
    data.save([a_register("x"), a_register("y")])
    data.save([a_register("x", b"newer")])
    assert data.since(0, 10) == [(2, "y", b"body", b""), (3, "x", b"newer", b"")]
    assert data.since(2, 10) == [(3, "x", b"newer", b"")]
    assert len(data.since(0, 1)) == 1


def test_a_batch_is_whole_or_not_there(tmp_path: Path) -> None:
    store = opened(tmp_path)
    data = s.FolderData(store, a_folder(store))
    with pytest.raises(StorageError), store.db.transaction():
        data.save([a_register("x")])
        raise StorageError("no")
    assert data.paths() == []


class Busy:
    """A database in which another thread has its turn first: it keeps something meanwhile."""

    def __init__(self, database: Any) -> None:
        self._database = database
        self.execute, self.sync = database.execute, database.sync
        self.meanwhile: Callable[[], None] = lambda: None

    @contextmanager
    def transaction(self) -> Iterator[Any]:
        meanwhile, self.meanwhile = self.meanwhile, lambda: None
        meanwhile()
        with self._database.transaction() as db:
            yield db


def test_what_two_threads_keep_at_once_has_its_own_numbers_and_the_last_is_known(tmp_path: Path) -> None:
    """Contents are noted while changes of others are merged: numbers given twice were told to nobody."""
    store = opened(tmp_path)
    busy = Busy(store.db)
    data = s.FolderData(s.FoldersStore(busy), a_folder(store))  # type: ignore[arg-type]
    data.save([a_register("a")])
    busy.meanwhile = lambda: data.save([a_register("of another")])
    data.save(contents=[(b"c", b"chunks")])
    assert data.seq == 2
    busy.meanwhile = lambda: data.save([a_register("of one more")])
    data.save([a_register("mine")])
    assert data.seq == 4
    assert [(seq, path) for seq, path, _, _ in data.since(0, 10)] == [
        (1, "a"),
        (2, "of another"),
        (3, "of one more"),
        (4, "mine"),
    ]


def test_two_folders_do_not_mix(tmp_path: Path) -> None:
    store = opened(tmp_path)
    one, other = a_folder(store), a_folder(store, b"g")
    first, second = s.FolderData(store, one), s.FolderData(store, other)
    first.save([a_register("x")])
    second.save([a_register("y")])
    assert (first.paths(), second.paths()) == (["x"], ["y"])
    store.remove(one.number)
    assert (first.paths(), second.paths()) == ([], ["y"])


def test_what_nobody_else_has_is_counted(tmp_path: Path) -> None:
    store = opened(tmp_path)
    data = s.FolderData(store, a_folder(store))
    data.save([a_register("x"), a_register("y"), a_register("theirs", own=False)])
    assert data.unsent() == 2
    data.save_seen(b"o" * 16, b"p" * 32, 1)
    assert data.unsent() == 1
    data.save_seen(b"o" * 16, b"p" * 32, 3)
    assert data.unsent() == 0


def test_chunks_of_contents_that_nobody_names_are_forgotten(tmp_path: Path) -> None:
    store = opened(tmp_path)
    data = s.FolderData(store, a_folder(store))
    data.save([a_register("x")], contents=[(b"c", b"chunks"), (b"d", b"others")])
    store.sweep_contents()
    assert store.chunks([b"c", b"d"]) == {b"c": b"chunks"}


def test_events_end_with_their_time_and_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s, "EVENTS_MAX", 2)
    store = opened(tmp_path)
    data = s.FolderData(store, a_folder(store))
    now = time.time()
    data.save(events=[(now - s.EVENTS_S - 1, "old", "changed", b"p", b"")])
    data.save(events=[(now, path, "changed", b"p", b"") for path in ("a", "b", "c")])
    data.sweep_events(now)
    assert [event.path for event in data.events(10)] == ["c", "b"]


def test_children_are_found_without_what_lies_below_them(tmp_path: Path) -> None:
    store = opened(tmp_path)
    data = s.FolderData(store, a_folder(store))
    random = Random(7)
    parts = ["a", "a b", "a0", "a.c", "b", "\u00e9", "z\U0001f600"]
    paths = {"/".join(random.choices(parts, k=random.randint(1, 4))) for _ in range(300)}
    paths |= {f"many/{number}" for number in range(s.QUERY_ITEMS_MAX + 20)}
    data.save([a_register(path) for path in paths])
    for place in ("", "a", "a/a b", "b/a0", "many", "none"):
        start = f"{place}/" if place else ""
        below = [path[len(start) :] for path in paths if path.startswith(start)]
        found = list(data.children(place))
        assert {name for name, row in found if row is not None} == {one for one in below if "/" not in one}, (
            place
        )
        implied = [name for name, row in found if row is None]
        assert sorted(implied) == sorted({one.partition("/")[0] for one in below if "/" in one}), place


def test_a_question_about_one_row_reads_no_others(tmp_path: Path) -> None:
    store = opened(tmp_path)
    data = s.FolderData(store, a_folder(store))
    names = [f"folder/{number:05}" for number in range(3_000)]
    data.save(
        [a_register(name, content=name.encode()) for name in names],
        agreed=[s.AgreedRow(name, name, 1, name.encode(), b"x") for name in names],
    )
    steps = 0

    def count() -> None:
        nonlocal steps
        steps += 1

    with store.db.transaction() as db:
        db.set_progress_handler(count, 1)
    assert data.agreed_at(["folder/01500"]) == [("folder/01500", b"x")]
    assert data.agreed_with([b"folder/01500"]) == [("folder/01500", b"folder/01500")]
    assert data.agreed(["folder/01500"])
    assert data.register("folder/01500")
    assert data.lives_below("folder")
    assert 10 < steps < 1_000
    steps = 0
    assert data.undone() == []
    assert steps < 100 * len(names)


def test_what_is_agreed_below_comes_page_by_page(tmp_path: Path) -> None:
    store = opened(tmp_path)
    data = s.FolderData(store, a_folder(store))
    names = [f"a/{number:05}" for number in range(s.PAGE_ROWS + 1)]
    data.save(agreed=[s.AgreedRow(name, name, 1, b"c", b"x") for name in ["A", "a.b", *names, "a0"]])
    assert [local for local, _ in data.agreed_below("a")] == names
    assert [local for local, _ in data.agreed_below("")] == ["A", "a.b", *names, "a0"]


def test_a_computer_that_names_copies_without_end_is_remembered_once(tmp_path: Path) -> None:
    """Who may only read says hello as one copy after the other; what came from a copy is kept."""
    store = opened(tmp_path)
    data = s.FolderData(store, a_folder(store))
    liar, other = b"l" * 32, b"o" * 32
    data.save_known(b"w" * 16, liar, 7)
    for number in range(100):
        data.save_seen(number.to_bytes(16), liar, number)
    data.save_seen(b"o" * 16, other, 3)
    kept = [((99).to_bytes(16), liar, 0, 99), (b"o" * 16, other, 0, 3), (b"w" * 16, liar, 7, 0)]
    assert sorted(data.replicas()) == kept
