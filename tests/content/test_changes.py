"""What changed on disk since something was shared shows without a file being read."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from coterie.content import Store, import_path
from coterie.content import manifest as m
from coterie.content.changes import NAMES_MAX, Changes, changes_since


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "home" / "content.db") as opened:
        yield opened


@pytest.fixture
def top(tmp_path: Path) -> Path:
    top = tmp_path / "top"
    (top / "sub" / "deep").mkdir(parents=True)
    for name in ("a", "b", "sub/c", "sub/deep/d", "sub/deep/e"):
        (top / name).write_text(name)
    (top / "link").symlink_to("a")
    return top


def quiet() -> None:
    pass


def look(store: Store, path: Path) -> Callable[[], Changes]:
    root = import_path(store, path).root
    return lambda: changes_since(store, root, None, str(path), quiet)


def test_what_is_as_it_was_shows_nothing(store: Store, top: Path) -> None:
    changes = look(store, top)
    assert not changes()
    shutil.copy2(top / "a", top / "copy")
    os.replace(top / "copy", top / "a")  # another file, the same in all that counts
    (top / "unreadable").symlink_to("/etc/passwd")  # it would be left out
    assert not changes()


def test_each_kind_of_change_is_counted_and_named(store: Store, top: Path) -> None:
    changes = look(store, top)
    (top / "new").write_text("new")
    (top / "new-folder" / "in").mkdir(parents=True)
    (top / "new-folder" / "in" / "it").write_text("it")
    (top / "a").write_text("longer than before")
    os.utime(top / "b", (1, 1))
    (top / "sub" / "c").chmod(0o755)
    (top / "link").unlink()
    (top / "link").symlink_to("b")
    shutil.rmtree(top / "sub" / "deep")
    found = changes()
    assert (found.added, sorted(found.added_names)) == (2, ["new", "new-folder/"])
    assert (found.changed, sorted(found.changed_names)) == (4, ["a", "b", "link", "sub/c"])
    assert (found.gone, found.gone_names) == (2, ["sub/deep/"])
    assert found.text() == "2 added, 4 changed, 2 gone"


def test_a_file_in_place_of_a_folder_is_both_new_and_gone(store: Store, top: Path) -> None:
    changes = look(store, top)
    shutil.rmtree(top / "sub" / "deep")
    (top / "sub" / "deep").write_text("a file")
    (top / "a").unlink()
    (top / "a").mkdir()
    found = changes()
    assert (found.added, found.gone, found.changed) == (2, 3, 0)
    shutil.rmtree(top)
    assert (changes().gone, changes().gone_names) == (5, ["top"])


def test_a_single_file_is_looked_at_too(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "one"
    path.write_text("one")
    made = import_path(store, path)
    shared = m.FileEntry("", made.executable, made.mtime_ns, made.bytes, b"")
    assert not changes_since(store, made.root, shared, str(path), quiet)
    path.write_text("two!")
    assert changes_since(store, made.root, shared, str(path), quiet).changed_names == ["one"]
    path.unlink()
    assert changes_since(store, made.root, shared, str(path), quiet).gone == 1


def test_what_was_found_out_by_reading_counts_too(store: Store, top: Path) -> None:
    made = import_path(store, top)
    status = (top / "a").stat()
    (top / "a").write_text("b")  # as long, and the date is set back
    os.utime(top / "a", ns=(status.st_atime_ns, status.st_mtime_ns))
    changes = lambda: changes_since(store, made.root, None, str(top), quiet)  # noqa: E731
    assert not changes()
    leaf = m.leaf_chunks(m.decode(store.manifest(made.root) or b""))
    list(store.read_chunks(leaf))
    assert changes().changed_names == ["a"]


@pytest.mark.parametrize("count", [NAMES_MAX, NAMES_MAX + 1])
def test_only_so_many_names_are_kept(store: Store, top: Path, count: int) -> None:
    changes = look(store, top)
    for number in range(count):
        (top / f"new{number}").touch()
    assert (changes().added, len(changes().added_names)) == (count, NAMES_MAX)


def test_a_walk_can_be_ended(store: Store, top: Path) -> None:
    root = import_path(store, top).root

    def stop() -> None:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        changes_since(store, root, None, str(top), stop)
