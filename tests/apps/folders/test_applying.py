"""Changes a live folder step by step: nothing but what is expected is replaced, and what is replaced is a version."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from coterie.apps.folders.applying import Done, Failed, NotSo
from coterie.apps.folders.hints import ALL, hints_of
from coterie.apps.folders.register import Kind, Value
from coterie.apps.folders.root import FolderGone
from coterie.apps.folders.steps import (
    MakeFolder,
    MakeLink,
    Move,
    MoveFolder,
    Put,
    Remove,
    RemoveFolder,
    SetMeta,
)
from coterie.content import file_steps
from coterie.content.versions import VersionsFull
from coterie.errors import NotFound
from tests.apps.folders.live import MTIME_NS, Live, content_of, value_of


@pytest.fixture(params=["exchange", "take away"])
def live(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Live:
    """A folder with a file; once as on a system that cannot exchange two files."""
    if request.param == "take away":
        monkeypatch.setattr(file_steps, "exchange", lambda *_: False)
    (tmp_path / "folder").mkdir()
    live = Live(tmp_path / "folder", tmp_path)
    (live.path / "x").write_bytes(b"old")
    live.scan()
    return live


def test_a_new_file_gets_its_place_date_and_bit(live: Live) -> None:
    result = live.do(Put("new", "new", value_of(b"data", executable=True)), live.arrived(b"data"))
    assert isinstance(result, Done)
    status = os.stat(live.path / "new")
    assert (status.st_mtime_ns, bool(status.st_mode & 0o100)) == (MTIME_NS, True)
    assert result.print is not None
    assert result.print.mtime_ns == MTIME_NS
    assert not live.disk.scan(ALL).found  # our own change is no news
    assert not os.listdir(live.disk.arrived)


def test_what_is_replaced_becomes_a_version(live: Live) -> None:
    (live.path / "x").chmod(0o600)
    live.scan()
    assert isinstance(live.put("x", b"new", expects=live.print("x")), Done)
    assert live.files() == {"x": b"new"}
    assert live.kept() == {"x": b"old"}
    (version,) = live.versions.kept()
    assert (version.why, version.source) == ("folder", "ben")
    assert os.stat(live.path / "x").st_mode & 0o777 == 0o600  # for the same readers
    assert not live.left()
    assert not live.disk.scan(ALL).found


def test_nothing_is_replaced_but_what_is_expected(live: Live) -> None:
    before = live.print("x")
    (live.path / "x").write_bytes(b"edit")
    assert live.put("x", b"new", expects=before) == NotSo(("x",))
    assert live.put("x", b"new") == NotSo(("x",))
    assert live.do(Remove("x", before)) == NotSo(("x",))
    assert live.do(Move("x", "y", before)) == NotSo(("x",))
    assert live.do(SetMeta("x", value_of(b"new"), before)) == NotSo(("x",))
    assert live.put("gone", b"new", expects=before) == NotSo(("gone",))
    (live.path / "x").unlink()
    (live.path / "x").mkdir()
    assert live.put("x", b"new", expects=before) == NotSo(("x",))
    assert not live.kept()
    assert (live.disk.arrived / "1").exists()


def test_a_change_that_keeps_every_date_is_seen_by_its_bytes(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is hashed just before: dates and inodes can lie."""
    assert live.do(
        Put("x", "x", value_of(b"new"), live.print("x"), content_of(b"other")), live.arrived(b"new")
    ) == (NotSo(("x",)))
    assert live.do(Remove("x", live.print("x"), content_of(b"other"))) == NotSo(("x",))
    assert live.files() == {"x": b"old"}
    assert set(live.scan().found) == {"x"}  # it is read again


def test_a_file_that_somebody_writes_to_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    live = Live(tmp_path / "folder", tmp_path, later_ns=1_000_000_000)
    (live.path / "x").write_bytes(b"old")
    live.scan()
    with (live.path / "x").open("r+b"):
        assert live.put("x", b"new", expects=live.print("x")) == NotSo(("x",))
        assert live.remove("x") == NotSo(("x",))
    assert isinstance(live.put("x", b"new", expects=live.print("x")), Done)


@pytest.mark.parametrize("what", ["replaced", "written", "removed"])
def test_what_comes_in_the_last_instant_wins_and_stays(
    live: Live, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Between the last look and the change of places somebody saves his file."""

    def save(path: Path) -> None:
        match what:
            case "replaced":
                (path.parent / "temporary").write_bytes(b"edit")
                os.rename(path.parent / "temporary", path)
            case "written":
                path.write_bytes(b"edit")
            case "removed":
                path.unlink()

    before = [(name, getattr(file_steps, name)) for name in ("exchange", "move_new")]
    saved = []

    def first(act: Callable[[Path, Path], bool]) -> Callable[[Path, Path], bool]:
        def do(one: Path, other: Path) -> bool:
            if not saved:
                saved.append(True)
                save(live.path / "x")
            return act(one, other)

        return do

    renamed = os.rename

    def rename(one: str | Path, other: str | Path) -> None:
        if not saved and os.fspath(one).endswith("/x"):
            saved.append(True)
            save(live.path / "x")
        renamed(one, other)

    for name, act in before:
        if name == "exchange":
            monkeypatch.setattr(file_steps, name, first(act))
    monkeypatch.setattr(os, "rename", rename)
    assert live.put("x", b"new", expects=live.print("x")) == NotSo(("x",))
    assert live.files() == ({} if what == "removed" else {"x": b"edit"})
    assert (live.disk.arrived / "1").read_bytes() == b"new"
    assert not live.left()
    assert not live.kept()


def test_a_removal_makes_a_version(live: Live) -> None:
    (live.path / "link").symlink_to("x")
    live.scan()
    assert live.remove("x") == Done(None)
    assert live.remove("link") == Done(None)
    assert live.files() == {}
    assert live.kept() == {"x": b"old", "link": b"x"}
    assert not live.disk.scan(ALL).found


def test_moves_rename_and_nothing_is_in_their_way(live: Live) -> None:
    (live.path / "y").write_bytes(b"other")
    (live.path / "folder/deep").mkdir(parents=True)
    (live.path / "folder/deep/z").write_bytes(b"1")
    live.scan()
    assert live.do(Move("x", "y", live.print("x"))) == NotSo(("y",)), (
        "it is there that something is in the way"
    )
    assert isinstance(live.do(Move("x", "folder/x", live.print("x"))), Done)
    assert isinstance(live.do(MoveFolder("folder", "named", live.print("folder"))), Done)
    assert live.files() == {"y": b"other", "named/x": b"old", "named/deep/z": b"1"}
    assert set(live.disk.scan(ALL).found) == {"y"}
    assert live.do(Move("named/x", "nowhere/x", live.disk.scan(ALL) and live.print("x"))) == NotSo(
        ("named/x",)
    )
    inode = os.stat(live.path / "named").st_ino
    assert isinstance(live.do(MoveFolder("named", "NAMED", live.print("folder"))), Done)
    assert os.stat(live.path / "NAMED").st_ino == inode


def test_folders_are_made_and_removed_when_empty(live: Live) -> None:
    assert isinstance(live.do(MakeFolder("new")), Done)
    assert isinstance(live.do(MakeFolder("new")), Done)
    assert live.do(MakeFolder("x")) == NotSo(("x",))
    assert live.do(MakeFolder("missing/new")) == NotSo(("missing/new", "missing"))
    (live.path / "new/mine").touch()
    assert live.do(RemoveFolder("new")) == NotSo((), ("new",))
    assert set(live.scan(hints_of((), ["new"])).found) == {"new/mine"}, (
        "what is in it, and not the folder again"
    )
    assert live.do(RemoveFolder("new")) == NotSo((), ("new",))
    assert not live.scan(hints_of((), ["new"])).found, (
        "or it would be tried again and again while it is in use"
    )
    (live.path / "new/mine").unlink()
    assert live.do(RemoveFolder("new")) == Done(None)
    assert live.do(RemoveFolder("new")) == Done(None)
    assert set(live.scan().found) == {"x"}  # it was not what was expected, so it is read again


def test_nothing_is_made_below_a_folder_that_did_not_move(live: Live) -> None:
    """On a disk that takes both names for one it would be made in the folder that is there still."""
    (live.path / "Plans").mkdir()
    (live.path / "plans").mkdir()
    live.scan()
    moved = MoveFolder("Plans", "plans", live.print("Plans"))
    results = live.disk.apply([(moved, None), (MakeFolder("plans/new"), None), (MakeFolder("other"), None)])
    assert [type(one) for one in results] == [NotSo, NotSo, Done]
    assert not (live.path / "plans" / "new").exists()


def test_links_and_dates(live: Live) -> None:
    value = Value(Kind.LINK, target="x")
    assert isinstance(live.do(MakeLink("link", "link", value)), Done)
    assert os.readlink(live.path / "link") == "x"
    assert live.do(MakeLink("x", "x", value)) == NotSo(("x",))
    made = live.do(MakeLink("x", "x", value, live.print("x"), content_of(b"old")))
    assert isinstance(made, Done)
    assert made.print is not None
    assert (made.print.kind, made.print.target) == (Kind.LINK, "x")
    assert live.kept() == {"x": b"old"}
    live.put("y", b"1")
    set_ = live.do(SetMeta("y", Value(Kind.FILE, mtime_ns=5, executable=True), live.print("y")))
    assert isinstance(set_, Done)
    assert set_.print is not None
    assert (set_.print.mtime_ns, set_.print.executable) == (5, True)
    assert not live.disk.scan(ALL).found
    assert not live.left()


def test_a_link_in_the_place_of_a_folder_leads_nowhere(live: Live, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/x").write_bytes(b"mine")
    (live.path / "a").symlink_to(tmp_path / "outside")
    assert live.put("a/new", b"data") == NotSo(("a/new", "a"))
    assert live.do(Remove("a/x", live.print("x"))) == NotSo(("a/x", "a"))
    assert sorted(os.listdir(tmp_path / "outside")) == ["x"]


def test_nothing_is_done_in_a_folder_that_is_away(live: Live) -> None:
    staged = live.arrived(b"data")
    os.rename(live.path, live.path.parent / "away")
    live.path.mkdir()
    with pytest.raises(FolderGone):
        live.do(Put("x", "x", value_of(b"data")), staged)
    assert os.listdir(live.path) == []


def test_no_room_for_versions_stops_what_would_replace(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise VersionsFull("the trash has no room")

    monkeypatch.setattr(live.versions, "check_room", full)
    result = live.put("x", b"new", expects=live.print("x"))
    assert isinstance(result, Failed)
    assert (result.code, result.reason) == ("versions", "the trash has no room")
    assert isinstance(live.remove("x"), Failed)
    assert isinstance(live.put("y", b"new"), Done)  # what replaces nothing goes on
    assert live.files() == {"x": b"old", "y": b"new"}
    assert not live.left()


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.ENOSPC, "full"),
        (errno.EDQUOT, "full"),
        (errno.EIO, "disk"),
        (errno.EROFS, "disk"),
        (errno.EACCES, "disk"),
        (errno.ETXTBSY, "busy"),
        (errno.EILSEQ, "name"),
    ],
)
def test_what_the_disk_refuses_is_said_and_nothing_changes(
    live: Live, monkeypatch: pytest.MonkeyPatch, number: int, code: str
) -> None:
    def refuse(*args: object, **_: object) -> None:
        raise OSError(number, os.strerror(number), "somewhere")

    steps = [
        (Put("x", "x", value_of(b"new"), live.print("x")), live.arrived(b"new", "1")),
        (Put("y", "y", value_of(b"new")), live.arrived(b"new", "2")),
        (Remove("x", live.print("x")), None),
        (Move("x", "z", live.print("x")), None),
        (MakeFolder("f"), None),
    ]
    for name in ("rename", "mkdir", "link"):
        monkeypatch.setattr(os, name, refuse)
    for name in ("exchange", "move_new"):
        monkeypatch.setattr(file_steps, name, refuse)
    results = live.disk.apply(steps)
    assert [isinstance(result, Failed) and result.code for result in results] == [code] * 5
    monkeypatch.undo()
    assert live.files() == {"x": b"old"}
    assert not live.left()
    assert not live.kept()


def test_a_flush_that_fails_counts_as_nothing_done(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(file_steps, "flush_folder", refuse)
    result = live.put("y", b"new")
    assert isinstance(result, Failed)
    monkeypatch.undo()
    assert set(live.scan().found) == {"y"}


def test_a_version_comes_back_as_a_change_and_stays_a_version(live: Live) -> None:
    (live.path / "a").mkdir()
    (live.path / "a/y").write_bytes(b"first")
    live.scan()
    live.put("x", b"new", expects=live.print("x"))
    live.remove("a/y")
    live.do(RemoveFolder("a"))
    ids = {version.original.name: version.id for version in live.versions.kept()}
    assert isinstance(live.disk.restore(ids["x"], "x"), Done)
    assert isinstance(live.disk.restore(ids["y"], "a/y"), Done)
    assert live.files() == {"x": b"old", "a/y": b"first"}
    assert {version.original.name for version in live.versions.kept()} == {"x", "y"}
    assert len(live.versions.kept()) == 3
    assert set(live.scan().found) >= {"x", "a/y"}
    with pytest.raises(NotFound):
        live.disk.restore("none", "x")
