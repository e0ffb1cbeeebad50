"""Live folders as trees for other apps: what is here and what is not, read, written over, removed and moved."""

import os
from collections.abc import Awaitable
from pathlib import Path

from coterie.apps.folders.app import APP
from coterie.errors import AccessDenied, CoterieError, NotFound, UsageError
from coterie.node import Node
from coterie.testing import Cast, play
from tests.apps.folders.test_folders import engine_of, files_in, pair, until


async def failure(work: Awaitable[object]) -> CoterieError | None:
    """What it raises."""
    try:
        await work
    except CoterieError as error:
        return error
    return None


def folder_of(node: Node) -> str:
    """The id of the one live folder of a node."""
    (one,) = node.folders.live()
    return one.id


async def listed(node: Node, path: str = "") -> dict[str, tuple[str, int, bool]]:
    """What a listing says: (kind, size, whether it is here) by name."""
    return {
        one.name: (one.kind, one.size, one.is_here)
        for one in await node.folders.listing(folder_of(node), path)
    }


async def read(node: Node, path: str, offset: int = 0, size: int = 1 << 20) -> bytes:
    """A part of a file."""
    async with await node.folders.open(folder_of(node), path) as file:
        return await file.read(offset, size)


def test_what_lies_on_the_disk_is_listed_and_read_as_it_is_now(tmp_path: Path) -> None:
    async def story(cast: Cast) -> None:
        anna, _ben, here, _ = await pair(cast, tmp_path)
        (one,) = anna.folders.live()
        assert (one.name, one.path, one.can_write, one.state) == ("Projects", here, True, "on")
        (here / "sub").mkdir()
        (here / "sub" / "a.txt").write_bytes(b"0123456789")
        (here / "link").symlink_to("sub")
        os.mkfifo(here / "pipe")
        assert await listed(anna) == {"sub": ("folder", 0, True)}
        assert await listed(anna, "sub") == {"a.txt": ("file", 10, True)}
        assert await read(anna, "sub/a.txt", 3, 4) == b"3456"
        for place in ("link", "pipe", "nothing", "sub/nothing", "../here/sub/a.txt", ".coterie-folder/id"):
            assert isinstance(await failure(anna.folders.look(one.id, place)), NotFound), place
            assert isinstance(await failure(anna.folders.open(one.id, place)), NotFound), place
        assert isinstance(await failure(anna.folders.listing(one.id, "sub/a.txt")), NotFound)
        assert isinstance(await failure(anna.folders.listing("00" * 16, "")), NotFound)
        await anna.folders.pause("Projects")
        assert anna.folders.live()[0].state == "paused"
        assert isinstance(await failure(anna.folders.listing(one.id, "")), UsageError)

    play(story, tmp_path / "homes", apps=[APP], in_real_time=True)


def test_what_is_moved_or_removed_over_the_api_is_so_for_everybody(tmp_path: Path) -> None:
    async def story(cast: Cast) -> None:
        _anna, ben, here, there = await pair(cast, tmp_path)
        (here / "sub").mkdir()
        (here / "sub" / "a.txt").write_text("one")
        (here / "b.txt").write_text("two")
        await until(lambda: len(files_in(there)) == 2, "both files")
        await ben.folders.move(folder_of(ben), "sub", "moved")
        assert await listed(ben) == {"moved": ("folder", 0, True), "b.txt": ("file", 3, True)}
        await ben.folders.remove(folder_of(ben), "b.txt")
        await until(lambda: files_in(here) == {"moved/a.txt": b"one"}, "both changes")
        assert [line.path for line in await ben.folders.versions("Projects", "")] == ["b.txt"]
        for place, to in (
            ("moved", "moved/in"),
            ("moved", "nowhere/x"),
            ("none", "x"),
            ("moved", ".coterie-folder"),
        ):
            assert isinstance(
                await failure(ben.folders.move(folder_of(ben), place, to)), NotFound | UsageError
            ), (place, to)

    play(story, tmp_path / "homes", apps=[APP], in_real_time=True)


def test_a_reader_removes_and_moves_nothing(tmp_path: Path) -> None:
    async def story(cast: Cast) -> None:
        anna, ben = await cast.node("anna"), await cast.node("ben")
        await cast.befriend(anna, ben)
        here, there = tmp_path / "here", tmp_path / "there"
        here.mkdir()
        (here / "a.txt").write_text("one")
        await anna.folders.new(here, ["ben:read"], "Projects")
        await until(lambda: any(line.state == "offered" for line in ben.folders.lines()), "the offer")
        await ben.folders.join("anna/Projects", there, yes=False)
        await until(lambda: files_in(there) == {"a.txt": b"one"}, "the file")
        assert not ben.folders.live()[0].can_write
        assert isinstance(await failure(ben.folders.remove(folder_of(ben), "a.txt")), AccessDenied)
        assert isinstance(await failure(ben.folders.move(folder_of(ben), "a.txt", "b.txt")), AccessDenied)
        assert files_in(there) == {"a.txt": b"one"}
        assert engine_of(ben).name == "Projects"

    play(story, tmp_path / "homes", apps=[APP], in_real_time=True)
