"""What looks as it did is known without reading it; whatever could be other is read."""

import os
import random
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from coterie.content import Imported, Kind, Store, import_path, importer, seen
from coterie.content import manifest as m
from coterie.content import scan as scanning
from coterie.content.whole import is_whole
from tests.content.test_importer import expected, read_back
from tests.fakes.disks import real_disk

SEED = 20


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "home" / "content.db") as opened:
        yield opened


@pytest.fixture
def top(tmp_path: Path) -> Path:
    """Folders and files, one of them so large that it has manifests of its own."""
    top = tmp_path / "top"
    for folder in ("", "a", "a/b", "c"):
        (top / folder).mkdir()
        for name in ("one", "two", "three"):
            (top / folder / name).write_bytes(f"{folder}/{name}".encode())
    (top / "a" / "big").write_bytes(random.Random(SEED).randbytes(12 << 20))
    (top / "c" / "link").symlink_to("one")
    return top


def later() -> int:
    return time.time_ns() + 10_000_000_000


def take(store: Store, top: Path) -> Imported:
    """An import that finds everything as it was for a while, and brings what is there."""
    done = import_path(store, top, clock=later)
    if done.kind is Kind.TREE:
        assert read_back(store, done.root, done.kind) == expected(top)
    return done


def tick(folder: Path) -> None:
    """Go on when the clock by which files are dated has moved."""
    probe = folder / "probe"
    probe.touch()
    before = probe.stat().st_ctime_ns
    while probe.stat().st_ctime_ns == before:
        probe.chmod(0o600)


def same_but_for_bytes(path: Path) -> None:
    """Other bytes, with size and date as they were."""
    tick(path.parent.parent)
    before = path.stat()
    path.write_bytes(bytes(reversed(path.read_bytes())))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_nothing_is_read_nor_made_anew_where_all_is_as_it_was(
    store: Store, top: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = take(store, top)
    monkeypatch.setattr(store, "known_files", None)  # no row for a file is asked for
    monkeypatch.setattr(store, "manifest", None)
    again = import_path(store, top)
    assert (again.root, again.bytes_read, again.files, again.bytes) == (
        first.root,
        0,
        first.files,
        first.bytes,
    )


def test_a_copy_that_kept_size_and_date_is_read(store: Store, top: Path) -> None:
    first = take(store, top)
    same_but_for_bytes(top / "a" / "b" / "two")
    again = take(store, top)
    assert again.root != first.root
    assert again.bytes_read == len("a/b/two")


def test_a_single_file_is_known_and_a_copy_that_kept_its_date_is_read(store: Store, top: Path) -> None:
    path = top / "a" / "big"
    first = import_path(store, path, clock=later)
    assert import_path(store, path).bytes_read == 0
    same_but_for_bytes(path)
    again = import_path(store, path, clock=later)
    assert (again.root != first.root, again.bytes_read) == (True, 12 << 20)
    assert read_back(store, again.root, again.kind) == {"": path.read_bytes()}


@pytest.mark.parametrize("ahead_ns", [seen.FINE_NS + 1, seen.FINE_NS])
def test_what_was_written_when_we_looked_is_read_again(store: Store, tmp_path: Path, ahead_ns: int) -> None:
    """The clock of files may stand still between a look and the next write: the stamp is the same then."""
    top = tmp_path / "top"
    top.mkdir()
    path = top / "file"
    path.touch()
    while not (written_ns := path.stat().st_ctime_ns) % 1_000_000_000:
        path.touch()
    path.write_bytes(b"text")
    written_ns = path.stat().st_ctime_ns
    import_path(store, top, clock=lambda: written_ns + ahead_ns)
    again = import_path(store, top, clock=later)
    assert again.bytes_read == (0 if ahead_ns > seen.FINE_NS else 4)
    assert import_path(store, top).bytes_read == 0


@pytest.mark.parametrize(
    ("mtime_ns", "ctime_ns", "looked_ns", "settled"),
    [
        (5, 5, 5 + seen.FINE_NS, False),
        (5, 5, 6 + seen.FINE_NS, True),
        (7_000_000_000, 7_000_000_000, 7_000_000_000 + seen.COARSE_NS, False),
        (7_000_000_000, 7_000_000_000, 7_000_000_001 + seen.COARSE_NS, True),
        (50, 5, 50 + seen.FINE_NS, False),  # a disk whose change time is none
        (9 * seen.COARSE_NS, 5, 6 + seen.FINE_NS, True),  # somebody set that date
        (5, 9 * seen.COARSE_NS, 6 + seen.FINE_NS, False),  # the clock went back
    ],
)
def test_a_stamp_counts_when_the_next_write_would_give_another(
    mtime_ns: int, ctime_ns: int, looked_ns: int, settled: bool
) -> None:
    assert seen.is_settled(mtime_ns, ctime_ns, looked_ns) is settled


def test_a_file_changed_while_it_was_read_is_read_again(
    store: Store, top: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importer.scan

    def then_touch(*args: object) -> list[scanning.FoundFolder]:
        found = real(*args)  # type: ignore[arg-type]
        tick(top)
        (top / "one").chmod(0o640)
        return found

    monkeypatch.setattr(importer, "scan", then_touch)
    import_path(store, top, clock=later)
    monkeypatch.setattr(importer, "scan", real)
    assert take(store, top).bytes_read == len("/one") + 0


@pytest.mark.parametrize("seed", range(SEED, SEED + 4))
def test_after_any_changes_it_is_what_a_first_look_finds(tmp_path: Path, top: Path, seed: int) -> None:
    print("seed", seed)
    chance = random.Random(seed)
    with Store.open(tmp_path / "home" / "db") as store:
        take(store, top)
        for number in range(6):
            tick(top)
            for _ in range(chance.randint(0, 4)):
                change(top, chance)
            done = take(store, top)
            with Store.open(tmp_path / f"new-{number}" / "db") as fresh:
                assert import_path(fresh, top).root == done.root
            if chance.random() < 0.5:
                for root in store.roots():
                    if root.id != done.root or chance.random() < 0.2:
                        store.forget_root(root.id)
                store.collect_garbage()


def change(top: Path, chance: random.Random) -> None:
    """One thing that people do to a folder."""
    folders = [top, *(path for path in sorted(top.rglob("*")) if path.is_dir() and not path.is_symlink())]
    folder = chance.choice(folders)
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.is_symlink())
    path = chance.choice(files) if files else folder / "first"
    match chance.randrange(8):
        case 0:
            (folder / f"new-{chance.randrange(9)}").write_bytes(chance.randbytes(9))
        case 1:
            path.unlink(missing_ok=True)
        case 2 if files:
            same_but_for_bytes(path)
        case 3 if files:
            path.rename(chance.choice(folders) / f"moved-{chance.randrange(9)}")
        case 4:
            (folder / f"folder-{chance.randrange(9)}").mkdir(exist_ok=True)
        case 5 if folder != top and not any(one.is_dir() for one in folder.iterdir()):
            folder.rename(top / f"gone-{chance.randrange(99)}")
        case 6 if files:
            path.chmod(chance.choice([0o600, 0o700]))
        case _:
            os.utime(path if files else folder, ns=(0, chance.randrange(10**18)))


def test_what_one_folder_needs_is_kept_when_another_changed(store: Store, top: Path) -> None:
    first = take(store, top)
    (top / "a" / "two").write_bytes(b"other")  # beside the large file
    second = take(store, top)
    (top / "c" / "two").write_bytes(b"other")
    third = take(store, top)
    assert second.bytes_read == third.bytes_read == len(b"other")
    for old in (first, second):
        store.forget_root(old.root)
    store.collect_garbage()
    assert read_back(store, third.root, third.kind) == expected(top)


def test_a_share_that_was_ended_is_read_anew(store: Store, top: Path) -> None:
    first = take(store, top)
    store.forget_root(first.root)
    store.collect_garbage()
    again = take(store, top)
    assert again.bytes_read == again.bytes


def test_a_share_ended_while_it_is_looked_at_is_made_anew(
    store: Store, top: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = take(store, top)
    (top / "one").write_bytes(b"other")
    real = importer.scan
    once = iter([True])

    def then_forget(*args: object) -> list[scanning.FoundFolder]:
        found = real(*args)  # type: ignore[arg-type]
        if next(once, False):
            store.forget_root(first.root)
            store.collect_garbage()
        return found

    monkeypatch.setattr(importer, "scan", then_forget)
    take(store, top)


def test_two_looks_at_once_do_not_mix(store: Store, top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    take(store, top)
    real = importer.scan
    once = iter([True])

    def then_share(*args: object) -> list[scanning.FoundFolder]:
        found = real(*args)  # type: ignore[arg-type]
        if next(once, False):
            (top / "c" / "two").write_bytes(b"other")
            take(store, top)
        return found

    (top / "one").write_bytes(b"other")
    monkeypatch.setattr(importer, "scan", then_share)
    import_path(store, top, clock=later)
    take(store, top)


def test_what_is_left_out_is_said_each_time(store: Store, top: Path) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(top / "sock"))
    listener.close()
    (top / "out").symlink_to("/etc/passwd")
    with open(os.fsencode(top) + b"/c/\xff", "wb"):
        pass
    first = import_path(store, top, clock=later)
    again = import_path(store, top, clock=later)
    assert len(again.skipped) == 3
    assert sorted(map(str, again.skipped)) == sorted(map(str, first.skipped))
    assert again.bytes_read == 0


def test_a_file_found_changed_by_reading_is_read_again(store: Store, top: Path) -> None:
    """As where the change time is none: the stamp says that it is the same."""
    take(store, top)
    path = top / "a" / "two"
    with sqlite3.connect(store.path) as db:
        db.execute("UPDATE locations SET hash = ? WHERE hash = ?", (b"x" * 32, m.node_id(b"a/two")))
    (missing,) = store.read_chunks([(b"x" * 32, 5)])
    assert not isinstance(missing, bytes)
    assert store.changed_files(take(store, top).root) == []
    assert take(store, top).bytes_read == 0
    assert path.read_bytes() == b"a/two"


def test_version_0_1_ends_a_share_with_its_rows_and_a_store_of_it_opens(store: Store, top: Path) -> None:
    first = take(store, top)
    with sqlite3.connect(store.path) as db:
        db.execute("PRAGMA foreign_keys = ON")  # as it has
        db.execute("DELETE FROM roots WHERE id = ?", (first.root,))
        assert db.execute("SELECT count(*) FROM looked").fetchone() == (0,)
        db.execute("DROP TABLE looked")
        db.execute("DROP TABLE looks")
    store.close()
    with Store.open(store.path) as again:
        take(again, top)


@pytest.mark.parametrize("kind", ["exfat", "ntfs"])
def test_disks_without_lasting_inodes_give_what_is_on_them(store: Store, tmp_path: Path, kind: str) -> None:
    with real_disk(tmp_path, kind) as disk:
        top = disk / "top"
        top.mkdir()
        for number in range(5):
            (top / str(number)).write_bytes(b"%d" % number)
        first = import_path(store, top, clock=later)
        assert import_path(store, top, clock=later).root == first.root
        (top / "3").write_bytes(b"other")
        second = import_path(store, top, clock=later)
        with Store.open(tmp_path / "new" / "db") as fresh:
            assert import_path(fresh, top).root == second.root


def test_an_earlier_version_is_looked_through_where_it_differs_only(
    store: Store, top: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = take(store, top)
    (top / "c" / "four").write_bytes(b"more")
    second = take(store, top)
    asked: list[bytes] = []
    real = store.places
    monkeypatch.setattr(store, "places", lambda digests: asked.extend(digests) or real(digests))
    assert is_whole(store, first.root, threading.Event(), beside=second.root)
    assert len(asked) == 3 + 3  # of the top and of c
    (top / "c" / "two").unlink()
    third = take(store, top)
    assert not is_whole(store, first.root, threading.Event(), beside=third.root)
