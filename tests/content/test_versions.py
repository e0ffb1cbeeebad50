"""The store of versions: what is put aside can be had back, whatever happens between."""

import contextlib
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coterie.content import file_steps as place
from coterie.content import versions
from coterie.content.retention import KEPT_S, YOUNG_S
from coterie.content.versions import Versions, VersionsFull
from coterie.errors import NotFound, StorageError

DAY_S = 86_400.0
ELSEWHERE = Path("/dev/shm")  # a file system of its own on Linux


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Versions:
    return Versions(tmp_path / "home" / "versions", clock=clock)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "data"
    made.mkdir()
    return made


@pytest.fixture(params=["linked", "renamed"])
def system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system with links, and one without."""
    if request.param == "renamed":

        def refuse(*_: Any, **__: Any) -> None:
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr(os, "link", refuse)


def put(path: Path, text: str = "old") -> Path:
    path.write_text(text)
    return path


@pytest.mark.usefixtures("system")
def test_a_file_is_replaced_and_had_back(store: Versions, folder: Path, clock: Clock) -> None:
    path, new = put(folder / "a.txt"), put(folder / "new", "new")
    version = store.keep(path, "replaced", source="photos from anna", replacement=new)
    assert (path.read_text(), new.exists()) == ("new", False)
    assert (version.original, version.at, version.kind) == (path, clock.now, "file")
    assert store.kept() == [version]
    assert store.restore(version.id) == folder / "a (2).txt"
    assert (folder / "a (2).txt").read_text() == "old"
    assert path.read_text() == "new"
    assert store.kept() == []


def test_folders_links_and_odd_names_are_kept_as_they_are(store: Versions, folder: Path) -> None:
    odd = os.fsdecode(b"\xff\n" + b"x" * 250)
    (folder / "deep" / odd).mkdir(parents=True)
    put(folder / "deep" / odd / "f")
    (folder / "link").symlink_to("nowhere")
    ids = [store.keep(folder / name, "gone").id for name in ("deep", "link")]
    assert os.listdir(folder) == []
    assert sorted(version.kind for version in store.kept()) == ["folder", "link"]
    for version_id in ids:
        store.restore(version_id)
    assert (folder / "deep" / odd / "f").read_text() == "old"
    assert os.readlink(folder / "link") == "nowhere"
    shutil.rmtree(folder)
    put(tmp := folder.parent / "again")
    again = store.keep(tmp, "gone")
    assert store.restore(again.id, folder / "made" / "anew").read_text() == "old"


def test_everything_is_there_after_a_restart(store: Versions, folder: Path, clock: Clock) -> None:
    kept = [store.keep(put(folder / f"{n}"), "gone", source="x") for n in range(5)]
    store.restore(kept[1].id)
    store.empty([kept[2].id])
    again = Versions(folder.parent / "home" / "versions", clock=clock)
    assert again.kept() == sorted((kept[0], kept[3], kept[4]), key=lambda v: (v.at, v.id))
    with pytest.raises(NotFound, match="coterie trash"):
        again.restore(kept[2].id)


class Crash(BaseException):
    """The process ends here."""


@pytest.mark.usefixtures("system")
@pytest.mark.parametrize("step", range(8))
def test_a_crash_at_any_step_loses_nothing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """Old and new are both somewhere where people find them: at their names, or in the list."""
    path, new = put(folder / "a.txt"), put(folder / "new", "new")
    left = [step]

    def dying(call: Callable[..., Any]) -> Callable[..., Any]:
        def once(*args: Any, **options: Any) -> Any:
            if left[0] == 0:
                raise Crash
            left[0] -= 1
            return call(*args, **options)

        return once

    with monkeypatch.context() as patched:
        for name in ("rename", "replace", "link", "write", "mkdir"):
            patched.setattr(os, name, dying(getattr(os, name)))
        with contextlib.suppress(Crash):
            Versions(tmp_path / "home" / "versions").keep(path, "replaced", replacement=new)
    again = Versions(tmp_path / "home" / "versions")
    for version in again.kept():
        again.restore(version.id, folder / "restored")
    texts = {file.read_text() for file in folder.iterdir()}
    assert texts == {"old", "new"}, step


def test_a_version_without_its_line_is_found(store: Versions, folder: Path, clock: Clock) -> None:
    version = store.keep(put(folder / "a.txt"), "replaced")
    journal = folder.parent / "home" / "versions" / "journal"
    journal.write_bytes(journal.read_bytes()[:-5])
    again = Versions(journal.parent, clock=clock)
    (found,) = again.kept()
    assert (found.id, found.path, found.why) == (version.id, b"", "found: a.txt")
    again.keep(put(folder / "b.txt"), "replaced")  # the line that was cut off does not spoil the next
    assert len(Versions(journal.parent, clock=clock).kept()) == 2
    with pytest.raises(StorageError, match="say where"):
        again.restore(found.id)
    assert again.restore(found.id, folder / "back").read_text() == "old"


def test_thirty_days(store: Versions, folder: Path, clock: Clock) -> None:
    store.keep(put(folder / "a"), "gone")
    clock.now += KEPT_S - 1
    assert store.expire() == 0
    clock.now += 1
    assert store.expire() == 1
    assert store.kept() == []
    assert not [name for name in os.listdir(folder.parent / "home" / "versions") if "-" in name]


def test_a_full_store_drops_the_old_and_refuses_rather_than_drop_the_young(
    store: Versions, folder: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        shutil, "disk_usage", lambda _: type("usage", (), {"total": 10 * 4 * 4096, "free": 1 << 40})
    )
    block = "x" * 4096
    first = store.keep(put(folder / "0", block), "gone")
    clock.now += 1
    for number in range(1, 4):
        store.keep(put(folder / f"{number}", block), "gone")
    clock.now += YOUNG_S - 2
    path, new = put(folder / "4", block), put(folder / "new", "new")
    with pytest.raises(VersionsFull, match="coterie trash empty"):
        store.keep(path, "replaced", replacement=new)
    with pytest.raises(VersionsFull):
        store.check_room(folder, 1, 1)
    assert path.read_text() == block
    assert len(store.kept()) == 4
    clock.now += 1
    store.keep(path, "replaced", replacement=new)
    assert path.read_text() == "new"
    assert len(store.kept()) == 4
    with pytest.raises(NotFound):
        store.path_of(first.id)


def test_the_number_of_versions_is_bounded(
    store: Versions, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(versions, "VERSIONS_MAX", 2)
    monkeypatch.setattr("coterie.content.retention.VERSIONS_MAX", 2)
    for name in ("a", "b"):
        store.keep(put(folder / name), "gone")
    with pytest.raises(VersionsFull, match="2 of 2 versions"):
        store.keep(put(folder / "c"), "gone")


def test_a_journal_does_not_grow_for_ever(
    store: Versions, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(versions, "COMPACT_LINES_MIN", 20)
    stays = store.keep(put(folder / "stays"), "gone")
    for _ in range(50):
        store.empty([store.keep(put(folder / "a"), "gone").id])
    journal = folder.parent / "home" / "versions" / "journal"
    assert len(journal.read_bytes().splitlines()) <= 22
    assert Versions(journal.parent).kept() == [stays]


@pytest.mark.skipif(not ELSEWHERE.is_dir(), reason="no second file system here")
def test_each_file_system_has_its_own_folder(store: Versions, tmp_path: Path) -> None:
    if os.stat(ELSEWHERE).st_dev == os.stat(tmp_path).st_dev:
        pytest.skip("no second file system here")
    far = ELSEWHERE / f"coterie-test-{os.getpid()}"
    far.mkdir()
    made: list[Path] = []
    try:
        version = store.keep(put(far / "a"), "gone")
        made.append(store.path_of(version.id).parent)
        assert os.stat(made[0]).st_dev == os.stat(far).st_dev
        assert made[0].name.startswith(".coterie-versions-")
        assert os.stat(made[0]).st_mode & 0o077 == 0
        again = Versions(tmp_path / "home" / "versions")
        assert again.kept() == [version]
        assert again.restore(version.id) == far / "a"
    finally:
        for path in (far, *made):
            place.remove(path)


@pytest.mark.skipif(not ELSEWHERE.is_dir(), reason="no second file system here")
@pytest.mark.parametrize("by", ["a link", "another user"])
def test_a_trash_folder_that_somebody_put_in_place_of_ours_is_not_used(
    store: Versions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    """Who may write into a folder above could have lines written to any file, or get what is put aside."""
    if os.stat(ELSEWHERE).st_dev == os.stat(tmp_path).st_dev:
        pytest.skip("no second file system here")
    far, theirs = ELSEWHERE / f"coterie-test-{os.getpid()}", tmp_path / "theirs"
    far.mkdir()
    theirs.mkdir()
    put(theirs / "journal", "mine")
    put(theirs / "aaaaaaaaaa-planted")
    trash = store.path_of(store.keep(put(far / "a"), "gone").id).parent
    try:
        shutil.rmtree(trash)
        if by == "a link":
            trash.symlink_to(theirs)
        else:
            shutil.copytree(theirs, trash)
            uid, real = os.geteuid(), os.lstat

            def lstat(path: Any, **given: Any) -> os.stat_result:
                found = real(path, **given)
                if Path(path) != trash:
                    return found
                fields = [*found]
                fields[stat.ST_UID] = uid + 1
                return os.stat_result(fields)

            monkeypatch.setattr(os, "lstat", lstat)
        kept = store.keep(put(far / "a"), "gone")
        assert store.path_of(kept.id).parent not in (trash, theirs)
        for folder in (trash, theirs):
            assert (folder / "journal").read_text() == "mine"
        for one in (store, Versions(tmp_path / "home" / "versions")):
            assert [version.id for version in one.kept()] == [kept.id]
    finally:
        for path in (far, trash):
            place.remove(path)


def test_a_rename_that_cannot_reach_the_store_uses_a_nearer_one(
    store: Versions, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two mounts of one device: the same number, and yet no rename between them."""
    real = os.rename

    def rename(source: Any, target: Any, **options: Any) -> None:
        if Path(target).parent == folder.parent / "home" / "versions" and "journal" not in str(target):
            raise OSError(18, "Invalid cross-device link")
        real(source, target, **options)

    monkeypatch.setattr(os, "rename", rename)
    monkeypatch.setattr(os, "geteuid", lambda: os.stat(folder).st_uid)
    version = store.keep(put(folder / "a"), "gone")
    assert store.path_of(version.id).parent.name.startswith(".coterie-versions-")
    assert Versions(folder.parent / "home" / "versions").kept() == [version]
    made = store.path_of(version.id).parent
    assert store.restore(version.id).read_text() == "old"
    place.remove(made)


def test_a_folder_of_somebody_else_is_not_used(
    store: Versions, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(folder / "a")
    monkeypatch.setattr(os, "geteuid", lambda: os.stat(folder).st_uid + 1)
    with pytest.raises(StorageError, match="nothing was touched"):
        store.keep(path, "gone")
    assert path.read_text() == "old"
