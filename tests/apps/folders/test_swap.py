"""A process that dies anywhere while it changes a folder: the user's file is at its place, or a version."""

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from coterie.apps.folders.applying import Done
from coterie.apps.folders.register import Kind, Value
from coterie.apps.folders.steps import MakeLink, Move, Put, Remove
from coterie.content import file_steps
from tests.apps.folders.live import Live, content_of, value_of

OURS = ("/folders/swap.py", "/content/versions.py", "/content/file_steps.py")
LINES_MAX = 2_000  # of one change; a test that goes beyond has begun to do something else
STEP = int(os.environ.get("CRASH_STEP", "7"))  # lines from one crash to the next; `make proof` tries each


def dies_at(line: int, act: Callable[[], object]) -> bool:
    """Do it in a child, which is killed before the given line of ours that it would run; whether it was."""
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, "the child failed"
        return os.WIFSIGNALED(status)
    passed = 0

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal passed
        if not any(part in frame.f_code.co_filename for part in OURS):
            return None
        if event == "line":
            passed += 1
            if passed >= line:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    code = 1
    with contextlib.suppress(BaseException):
        sys.settrace(trace)
        act()
        sys.settrace(None)
        code = 0
    os._exit(code)


def crashes(tmp_path: Path, first: int) -> Iterator[tuple[Path, int]]:
    """A new folder for each line to die at."""
    for line in range(first, LINES_MAX, STEP):
        folder = tmp_path / f"{line}" / "folder"
        folder.mkdir(parents=True)
        yield folder, line
    raise AssertionError("it never ended")


@pytest.mark.parametrize("way", ["exchange", "take away"])
@pytest.mark.parametrize("what", ["put", "link", "remove", "case"])
def test_a_crash_at_any_moment_loses_neither(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str, what: str
) -> None:
    if way == "take away":
        monkeypatch.setattr(file_steps, "exchange", lambda *_: False)
    died = 0
    for folder, line in crashes(tmp_path, 1 + len(what) % STEP):
        live = Live(folder, folder.parent)
        (folder / "x").write_bytes(b"old")
        live.scan()
        seen, staged = live.print("x"), live.arrived(b"new")
        step, data = {
            "put": (Put("x", "x", value_of(b"new"), seen, content_of(b"old")), staged),
            "link": (MakeLink("x", "x", Value(Kind.LINK, target="new"), seen, content_of(b"old")), None),
            "remove": (Remove("x", seen, content_of(b"old")), None),
            "case": (Move("x", "X", seen), None),
        }[what]
        if not dies_at(line, lambda live=live, step=step, data=data: live.do(step, data)):
            break
        died += 1
        after = Live(folder, folder.parent)  # the next start
        after.scan()
        shown = {
            name: os.readlink(folder / name) if (folder / name).is_symlink() else data.decode()
            for name, data in [
                *after.files().items(),
                *((n, b"") for n in os.listdir(folder) if (folder / n).is_symlink()),
            ]
        }
        context = f"killed before line {line} of {what} by {way}: {shown}, kept {after.kept()}"
        assert b"old" in (*after.files().values(), *after.kept().values()), context
        assert set(shown.values()) <= {"old", "new"}, context
        assert len(after.versions.kept()) <= 1, context
        assert not after.left(), context
        if what == "case":
            assert list(shown.values()) == ["old"], context
        elif what == "remove":
            assert (shown == {}) is (after.kept() == {"x": b"old"}), context
        else:
            assert shown in ({"x": "old"}, {"x": "new"}), context
    assert died >= 2
    assert what != "put" or live.kept() == {"x": b"old"}
    assert not live.left()


def test_what_a_crash_left_is_brought_to_its_place(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    live = Live(tmp_path / "folder", tmp_path)
    swap = tmp_path / "folder/.coterie-folder/swap"
    (swap / "journal").write_bytes(
        b'\n{"id":"0","path":"YQ=="}\n{"id":"1","path":"Yg=="}\n{"id":"2","path":"bm8vYw=="}\n{"id":"3","pa'
    )
    (live.path / "b").write_bytes(b"newer")
    for name in ("old-0", "old-1", "old-2", "old-3", "new-4-1.2.3"):
        (swap / name).write_bytes(name.encode())
    (swap / "new-5-").write_bytes(b"ours")
    status = os.stat(swap / "new-5-")
    os.rename(swap / "new-5-", swap / f"new-5-{status.st_ino}.{status.st_size}.{status.st_mtime_ns}")
    live.scan()
    assert live.files() == {"a": b"old-0", "b": b"newer"}
    assert sorted(live.kept().values()) == [b"new-4-1.2.3", b"old-1", b"old-2", b"old-3"]
    assert live.kept()["b"] == b"old-1"
    assert live.kept()["no/c"] == b"old-2"
    assert not live.left()


def test_what_finds_no_room_after_a_crash_stays_and_is_brought_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "folder").mkdir()
    live = Live(tmp_path / "folder", tmp_path)
    (tmp_path / "folder/.coterie-folder/swap/old-0").write_bytes(b"mine")
    with monkeypatch.context() as patch:
        patch.setattr("coterie.content.retention.VERSIONS_MAX", 0)
        patch.setattr("coterie.content.versions.VERSIONS_MAX", 0)
        live.scan()
        assert live.left() == ["old-0"]
        assert isinstance(live.put("x", b"1"), Done)
        assert live.left() == ["old-0"]
    again = Live(tmp_path / "folder", tmp_path)
    again.scan()
    assert not again.left()
    assert list(again.kept().values()) == [b"mine"]
