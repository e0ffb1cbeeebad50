"""The kernel's events as hints: found at once, a burst once, nothing missed where events were lost."""

import asyncio
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from coterie.apps.folders import watch as watching
from coterie.apps.folders.hints import NONE, Clocks, Hints
from coterie.apps.folders.inotify import Inotify
from coterie.apps.folders.watch import Watch, hints_from
from coterie.content.names import is_reserved
from coterie.tasks import Tasks
from tests.support import run

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux's")


QUEUE_FILE = Path("/proc/sys/fs/inotify/max_queued_events")


async def soon(watch: Watch, timeout_s: float = 10.0) -> Hints:
    async with asyncio.timeout(timeout_s):
        return await watch.next()


async def until(watch: Watch, is_enough: Callable[[Hints], bool]) -> Hints:
    """Join hints until they are enough."""
    found = NONE
    while not is_enough(found):
        found = found.joined(await soon(watch))
    return found


@asynccontextmanager
async def watched(root: Path) -> AsyncIterator[Watch]:
    """A watch of `root` that stands."""
    watch = Watch(str(root), Tasks())
    try:
        assert (await soon(watch)).is_all
        yield watch
    finally:
        await watch.close()


def test_an_edit_is_told_at_once_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)

    async def main() -> None:
        async with watched(tmp_path) as watch:
            began = time.monotonic()
            (tmp_path / "a/b/x.txt").write_bytes(b"1")
            assert (await soon(watch)).paths == {"a/b/x.txt"}
            assert time.monotonic() - began < 0.15
            os.rename(tmp_path / "a/b/x.txt", tmp_path / "y.txt")
            assert (await until(watch, lambda hints: len(hints.paths) > 1)).paths == {"a/b/x.txt", "y.txt"}
            (tmp_path / "y.txt").unlink()
            assert (await soon(watch)).paths == {"y.txt"}

    run(main())


def test_a_burst_is_told_once(tmp_path: Path) -> None:
    async def main() -> None:
        async with watched(tmp_path) as watch:
            for number in range(50):
                (tmp_path / f"{number}").write_bytes(b"1")
            assert len((await soon(watch)).paths) == 50

    run(main())


def test_a_file_that_is_written_on_and_on_is_told_seldom_and_once_it_is_closed_at_once(
    tmp_path: Path,
) -> None:
    (tmp_path / "log").write_bytes(b"")

    async def main() -> None:
        async with watched(tmp_path) as watch:
            with (tmp_path / "log").open("ab", buffering=0) as log:
                log.write(b"1")
                with pytest.raises(TimeoutError):
                    await soon(watch, 0.3)
            began = time.monotonic()
            assert (await soon(watch)).paths == {"log"}
            assert time.monotonic() - began < 0.5

    run(main())


def test_what_is_made_in_new_folders_is_told(tmp_path: Path) -> None:
    async def main() -> None:
        async with watched(tmp_path) as watch:
            (tmp_path / "new/deep/er").mkdir(parents=True)
            (tmp_path / "new/deep/er/x").write_bytes(b"1")
            await until(watch, lambda hints: "new" in hints.trees)
            (tmp_path / "new/deep/er/y").write_bytes(b"1")
            await until(watch, lambda hints: "new/deep/er/y" in hints.paths)

    run(main())


def test_a_folder_that_is_moved_keeps_its_watches(tmp_path: Path) -> None:
    for number in range(20):
        (tmp_path / f"old/{number}").mkdir(parents=True)

    async def main() -> None:
        async with watched(tmp_path) as watch:
            os.rename(tmp_path / "old", tmp_path / "new")
            moved = await until(watch, lambda hints: "new" in hints.trees)
            assert "old" in moved.paths
            (tmp_path / "new/7/x").write_bytes(b"1")
            assert (await until(watch, lambda hints: "new/7/x" in hints.paths)).trees == moved.trees - {"new"}
            os.rename(tmp_path / "new", tmp_path.parent / "elsewhere")
            await until(watch, lambda hints: "new" in hints.paths)
            (tmp_path.parent / "elsewhere/7/y").write_bytes(b"1")
            (tmp_path / "mark").write_bytes(b"1")
            assert await soon(watch) == Hints(frozenset(["mark"]))

    run(main())


def test_what_is_our_own_is_never_told(tmp_path: Path) -> None:
    (tmp_path / ".coterie-folder/arrived").mkdir(parents=True)
    (tmp_path / "sub").mkdir()

    async def main() -> None:
        async with watched(tmp_path) as watch:
            (tmp_path / ".coterie-folder/arrived/x").write_bytes(b"1")
            (tmp_path / "sub/.coterie-partial-abc").mkdir()
            os.rename(tmp_path / ".coterie-folder/arrived/x", tmp_path / "x")
            assert await soon(watch) == Hints(frozenset(["x"]))

    run(main())


def test_lost_events_are_told_as_everything_and_all_is_watched_again(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/x").touch()
    told: queue.Queue[Hints] = queue.Queue()
    may_read = threading.Event()

    def tell(hints: Hints) -> None:
        told.put(hints)
        may_read.wait(10)

    watch = Inotify(str(tmp_path), tell, is_reserved)
    try:
        assert told.get(timeout=10).is_all
        for _ in range(int(QUEUE_FILE.read_text()) // 4 + 1):  # four events each turn, all of them different
            os.rename(tmp_path / "a/x", tmp_path / "a/y")
            os.rename(tmp_path / "a/y", tmp_path / "a/x")
        (tmp_path / "late").mkdir()
        may_read.set()
        while not told.get(timeout=10).is_all:
            pass
        (tmp_path / "late/x").touch()
        while "late/x" not in told.get(timeout=10).paths:
            pass
    finally:
        watch.close()


def test_a_folder_too_many_for_the_bound_is_said_and_its_parent_still_told(tmp_path: Path) -> None:
    for name in "abcd":
        (tmp_path / name).mkdir()
    told: queue.Queue[Hints] = queue.Queue()
    watch = Inotify(str(tmp_path), told.put, is_reserved, watches_max=4)
    try:
        assert told.get(timeout=10).is_all
        assert watch.watched == 4
        assert watch.unwatched == 1
        assert "fs.inotify.max_user_watches" in watch.note
    finally:
        watch.close()


def test_a_root_that_goes_and_comes_is_told_and_watched_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coterie.apps.folders.inotify.TICK_S", 0.05)
    root = tmp_path / "root"
    root.mkdir()

    async def main() -> None:
        async with watched(root) as watch:
            os.rename(root, tmp_path / "away")
            assert (await soon(watch)).is_all
            root.mkdir()
            await until(watch, lambda hints: hints.is_all)
            (root / "x").write_bytes(b"1")
            await until(watch, lambda hints: "x" in hints.paths)

    run(main())


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_a_disk_that_is_mounted_over_the_root_and_taken_out_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coterie.apps.folders.inotify.TICK_S", 0.05)
    monkeypatch.setattr("coterie.apps.folders.inotify.REWATCH_S", 0.0)

    async def main() -> None:
        async with watched(tmp_path) as watch:
            subprocess.run(["mount", "-t", "tmpfs", "none", tmp_path], check=True)
            try:
                await until(watch, lambda hints: hints.is_all)
                (tmp_path / "there").write_bytes(b"1")
                await until(watch, lambda hints: "there" in hints.paths)
            finally:
                subprocess.run(["umount", tmp_path], check=True)  # a watch does not hold the disk
            await until(watch, lambda hints: hints.is_all)
            (tmp_path / "here").write_bytes(b"1")
            await until(watch, lambda hints: "here" in hints.paths)

    run(main())


def test_a_marker_that_comes_or_goes_is_told_as_everything(tmp_path: Path) -> None:
    async def main() -> None:
        async with watched(tmp_path) as watch:
            (tmp_path / ".coterie-folder").mkdir()
            assert (await soon(watch)).is_all
            (tmp_path / ".coterie-folder/id").write_bytes(b"1")
            os.rename(tmp_path / ".coterie-folder", tmp_path.parent / "away")
            assert (await soon(watch)).is_all

    run(main())


def test_after_sleep_and_by_the_timer_everything_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "TICK_S", 0.01)
    shown = Clocks(100.0, 100.0, 1_000.0)

    async def main() -> None:
        nonlocal shown
        watch = Watch(str(tmp_path), Tasks(), clocks=lambda: shown)
        try:
            assert (await soon(watch)).is_all
            shown = Clocks(110.0, 9_000.0, 9_900.0)
            assert (await soon(watch)).is_all
            shown = Clocks(110.0, 9_000.0, 9_900.0 - 86_400)
            assert (await soon(watch)).is_all
            watch.scan_took(10.0)
            shown = Clocks(2_000.0, 10_890.0, 11_790.0 - 86_400)
            with pytest.raises(TimeoutError):
                await soon(watch, 0.1)
            shown = Clocks(3_300.0, 12_190.0, 13_090.0 - 86_400)
            assert (await soon(watch)).is_all
        finally:
            await watch.close()

    run(main())


def test_paths_of_another_watcher_become_hints() -> None:
    root = "/home/anna/photos"
    paths = [f"{root}/a/x", f"{root}/.coterie-folder/arrived/1", f"{root}/b"]
    assert hints_from(root, paths).trees == {"a/x", "b"}
    assert hints_from(root, [root]).is_all
