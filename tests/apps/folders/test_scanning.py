"""Looks at a live folder: what differs, and nothing that only seems to."""

import os
import shutil
import socket
import time
from pathlib import Path

import pytest

from coterie.apps.folders.hints import ALL, Hints
from coterie.apps.folders.register import Kind
from coterie.apps.folders.root import FolderGone, make_marker
from coterie.apps.folders.steps import Here
from tests.apps.folders.live import Live, content_of, paths


@pytest.fixture
def live(tmp_path: Path) -> Live:
    (tmp_path / "folder").mkdir()
    return Live(tmp_path / "folder", tmp_path)


def found(live: Live, hints: Hints = ALL) -> dict[str, Here | None]:
    return live.scan(hints).found


def test_everything_is_found_once_with_its_content(live: Live) -> None:
    (live.path / "a/b").mkdir(parents=True)
    (live.path / "a/b/x").write_bytes(b"1")
    (live.path / "empty").touch()
    (live.path / "run").write_bytes(b"#!")
    (live.path / "run").chmod(0o755)
    (live.path / "link").symlink_to("a/b/x")
    (live.path / ".coterie-versions-abc").mkdir()
    assert set(found(live)) == {"a", "a/b", "a/b/x", "empty", "run", "link"}
    assert live.here["a/b/x"].content == content_of(b"1")
    assert live.here["empty"].content == content_of(b"")
    assert live.print("run").executable
    assert not live.print("empty").executable
    assert (live.print("link").kind, live.print("link").target) == (Kind.LINK, "a/b/x")
    assert live.print("a").kind is Kind.FOLDER
    assert not found(live)


@pytest.mark.parametrize(
    "hints", [ALL, paths("a/x"), Hints(folders=frozenset(["a"])), Hints(trees=frozenset(["a"]))]
)
def test_an_edit_is_found_by_every_kind_of_hint(live: Live, hints: Hints) -> None:
    (live.path / "a").mkdir()
    (live.path / "a/x").write_bytes(b"1")
    (live.path / "a/y").write_bytes(b"1")
    found(live)
    (live.path / "a/x").write_bytes(b"22")
    assert set(found(live, hints)) == {"a/x"}
    assert live.here["a/x"].content == content_of(b"22")
    (live.path / "a/x").unlink()
    assert found(live, hints) == {"a/x": None}
    assert not found(live)


def test_a_change_that_keeps_size_and_date_is_found(live: Live) -> None:
    (live.path / "x").write_bytes(b"1")
    os.utime(live.path / "x", ns=(1, 1))
    found(live)
    (live.path / "x").write_bytes(b"2")
    os.utime(live.path / "x", ns=(1, 1))
    found(live)
    assert live.here["x"].content == content_of(b"2")


def test_a_folder_that_goes_takes_all_below_with_it(live: Live) -> None:
    (live.path / "a/b").mkdir(parents=True)
    (live.path / "a/b/x").write_bytes(b"1")
    found(live)
    os.rename(live.path / "a", live.path.parent / "elsewhere")
    assert found(live, paths("a")) == {"a": None, "a/b": None, "a/b/x": None}
    os.rename(live.path.parent / "elsewhere", live.path / "a")
    assert set(found(live, paths("a/b/x"))) == {"a", "a/b", "a/b/x"}  # the hint's folder is not known yet
    assert not found(live)


def test_a_folder_that_is_moved_is_known_without_reading_its_files(live: Live) -> None:
    (live.path / "old/deep").mkdir(parents=True)
    for number in range(20):
        (live.path / f"old/deep/{number}").write_bytes(f"{number}".encode())
    found(live)
    before = {local: here.content for local, here in live.here.items()}
    os.rename(live.path / "old", live.path / "new")
    scan = live.disk.scan(Hints(paths=frozenset(["old"]), trees=frozenset(["new"])))
    assert (scan.folders, scan.found) == ({"new": "old"}, {})
    _, moved = live.disk.renamed("old", "new")
    assert moved == {f"new/deep/{number}": f"old/deep/{number}" for number in range(20)}
    assert before["old/deep/7"] == content_of(b"7")


def test_a_folder_that_is_moved_with_something_new_in_it_is_known_file_by_file(live: Live) -> None:
    (live.path / "old/deep").mkdir(parents=True)
    for number in range(20):
        (live.path / f"old/deep/{number}").write_bytes(f"{number}".encode())
    found(live)
    (live.path / "old/deep/more").write_bytes(b"new")
    os.rename(live.path / "old", live.path / "new")
    scan = live.disk.scan(Hints(paths=frozenset(["old"]), trees=frozenset(["new"])))
    assert scan.folders == {}
    assert scan.moved == {f"new/deep/{number}": f"old/deep/{number}" for number in range(20)}


def test_a_file_that_is_renamed_is_known_and_one_that_changed_too_is_not(live: Live) -> None:
    (live.path / "x").write_bytes(b"1")
    (live.path / "y").write_bytes(b"1")
    found(live)
    os.rename(live.path / "x", live.path / "z")
    os.rename(live.path / "y", live.path / "w")
    (live.path / "w").write_bytes(b"22")
    assert live.scan().moved == {"z": "x"}
    assert live.here["w"].content == content_of(b"22")


def test_what_cannot_be_shared_is_left_alone_and_nothing_hangs(live: Live) -> None:
    os.mkfifo(live.path / "pipe")
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(live.path / "socket"))
        (live.path / "out").symlink_to("/etc/passwd")
        (live.path / "broken").symlink_to("nowhere")
        (live.path / "up").symlink_to("../x")
        (live.path / "none").write_bytes(b"1")
        os.mkdir(os.fsencode(live.path) + b"/bad-\xff")
        scan = live.scan()
    kinds = {local: here.print.kind for local, here in live.here.items()}
    other = dict.fromkeys(["pipe", "socket", "out", "up"], Kind.OTHER)
    assert kinds == {**other, "broken": Kind.LINK, "none": Kind.FILE}
    assert {skipped.path for skipped in scan.skipped} == {"out", "up", "bad-\udcff"}
    assert not found(live)


def test_a_folder_inside_that_is_live_itself_is_left_alone(live: Live) -> None:
    (live.path / "inner").mkdir()
    (live.path / "inner/x").write_bytes(b"1")
    (live.path / "inner/.coterie-folder").mkdir()
    scan = live.scan()
    assert {local: here and here.print.kind for local, here in scan.found.items()} == {"inner": Kind.OTHER}
    assert [skipped.path for skipped in scan.skipped] == ["inner"]


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_a_disk_that_is_mounted_inside_hides_nothing_away(live: Live) -> None:
    (live.path / "a/b").mkdir(parents=True)
    (live.path / "a/b/x").write_bytes(b"1")
    found(live)
    mounted = live.path / "a"
    assert os.system(f"mount -t tmpfs none {mounted}") == 0
    try:
        (mounted / "foreign").write_bytes(b"2")
        scan = live.scan()
        assert not scan.found
        assert [skipped.path for skipped in scan.skipped] == ["a"]
        assert not found(live, paths("a/foreign", "a/b/x"))
    finally:
        assert os.system(f"umount {mounted}") == 0
    assert not found(live)


def test_a_file_that_is_written_this_moment_is_to_be_looked_at_again(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    live = Live(tmp_path / "folder", tmp_path, later_ns=0)
    with (live.path / "x").open("wb", buffering=0) as file:
        file.write(b"half")
        os.utime(live.path / "x", ns=(1, 1))  # no date that others set hides it
        time_ns = os.stat(live.path / "x").st_ctime_ns + 100_000_000
        busy = Live(live.path, tmp_path, later_ns=0)
        busy.disk._clock = lambda: time_ns
        scan = busy.scan()
        assert (set(scan.again), scan.found) == ({"x"}, {})
        file.write(b" and half")
    time_ns = os.stat(live.path / "x").st_ctime_ns + 10_000_000
    assert 0 < busy.scan().again["x"] < 0.025  # whatever came after it could have the same date
    time_ns += 100_000_000
    assert set(found(busy)) == {"x"}


def test_a_clock_that_was_set_back_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    live = Live(tmp_path / "folder", tmp_path, later_ns=-86_400 * 10**9)
    (live.path / "x").write_bytes(b"1")
    os.utime(live.path / "x", ns=(2**62, 2**62))
    assert set(found(live)) == {"x"}
    assert live.here["x"].content == content_of(b"1")


def test_a_folder_that_is_away_is_never_a_deletion(live: Live) -> None:
    (live.path / "x").write_bytes(b"1")
    found(live)
    away = live.path.parent / "away"
    os.rename(live.path, away)
    with pytest.raises(FolderGone, match="until it is there again"):
        live.disk.scan(ALL)
    live.path.symlink_to(away)
    with pytest.raises(FolderGone):
        live.disk.scan(ALL)
    live.path.unlink()
    live.path.mkdir()  # as where a disk was mounted
    with pytest.raises(FolderGone, match="is its disk not mounted"):
        live.disk.scan(ALL)
    make_marker(live.path, b"x" * 16, b"y" * 16)
    with pytest.raises(FolderGone, match="another live folder"):
        live.disk.scan(ALL)
    for path in (live.path / ".coterie-folder").rglob("*"):
        path.unlink() if path.is_file() else None
    with pytest.raises(FolderGone, match="cannot be read"):
        live.disk.scan(ALL)
    shutil.rmtree(live.path)
    os.rename(away, live.path)
    assert not found(live)


def test_what_was_known_is_not_reported_after_a_restart(live: Live) -> None:
    (live.path / "a").mkdir()
    (live.path / "a/x").write_bytes(b"1")
    (live.path / "gone").write_bytes(b"1")
    found(live)
    again = Live(live.path, live.path.parent)
    again.disk.remember((local, here.print) for local, here in live.here.items())
    (live.path / "gone").unlink()
    (live.path / "a/new").write_bytes(b"2")
    assert set(found(again)) == {"gone", "a/new"}


def test_what_is_forgotten_is_reported_again(live: Live) -> None:
    (live.path / "a").mkdir()
    (live.path / "a/x").write_bytes(b"1")
    found(live)
    live.disk.forget(["a", "a/x", "never"])
    assert set(found(live)) == {"a", "a/x"}
    live.disk.forget(["a"])
    (live.path / "a/x").unlink()
    (live.path / "a").rmdir()
    assert set(found(live)) == {"a", "a/x"}


def test_a_failed_look_reports_the_next_time(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    (live.path / "x").write_bytes(b"1")
    found(live)
    (live.path / "x").unlink()
    with monkeypatch.context() as patch:
        patch.setattr("coterie.apps.folders.disk.is_entered_still", lambda *_: False)
        with pytest.raises(FolderGone, match="went away while"):
            live.disk.scan(paths("x"))
    assert found(live, paths("x")) == {"x": None}


def test_a_large_folder_is_looked_at_in_little_time(live: Live) -> None:
    for folder in range(20):
        (live.path / f"{folder}").mkdir()
        for file in range(100):
            (live.path / f"{folder}/{file}").touch()
    found(live)
    before = time.process_time()
    assert not live.disk.scan(ALL).found
    assert time.process_time() - before < 0.6 / 50 * 3  # 0.6 s for a hundred thousand; others run beside


def test_what_was_in_a_folder_of_which_nothing_is_known_is_reported_as_gone(live: Live) -> None:
    """Its end was noted, and the program ended before the end of what was in it was."""
    (live.path / "sub/deep").mkdir(parents=True)
    (live.path / "sub/deep/x").write_bytes(b"1")
    live.scan()
    known = [(local, here.print) for local, here in sorted(live.here.items()) if local == "sub/deep/x"]
    shutil.rmtree(live.path / "sub")
    live.disk.remember(known)
    assert "sub/deep/x" in live.disk.scan(ALL).found
