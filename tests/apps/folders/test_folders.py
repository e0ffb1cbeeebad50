"""Live folders between nodes: what one changes, all have; nothing is lost; who may not, cannot."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from coterie.apps.folders.app import APP
from coterie.node import Node
from coterie.testing import Cast, play


async def until(true: Callable[[], bool], what: str = "", seconds: float = 20.0) -> None:
    """Wait for something to become true; fails after so many seconds."""
    try:
        async with asyncio.timeout(seconds):
            while not true():
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"it never came to be: {what}") from None


def files_in(folder: Path) -> dict[str, bytes]:
    """Every file below, but for coterie's own."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".coterie-folder" not in path.parts
    }


async def pair(cast: Cast, tmp_path: Path) -> tuple[Node, Node, Path, Path]:
    """Anna has a live folder, and ben joined it."""
    anna, ben = await cast.node("anna"), await cast.node("ben")
    await cast.befriend(anna, ben)
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    await anna.folders.new(here, ["ben"], "Projects")
    await until(lambda: any(line.state == "offered" for line in ben.folders.lines()), "the offer")
    await ben.folders.join("anna/Projects", there, yes=False)
    return anna, ben, here, there


def test_an_edit_is_on_the_other_computer(tmp_path: Path) -> None:
    async def story(cast: Cast) -> None:
        anna, ben, here, there = await pair(cast, tmp_path)
        (here / "a.txt").write_text("one")
        (here / "sub").mkdir()
        (here / "sub" / "b.txt").write_text("two")
        await until(lambda: files_in(there) == {"a.txt": b"one", "sub/b.txt": b"two"}, "new files")
        (there / "a.txt").write_text("changed there")
        await until(lambda: files_in(here).get("a.txt") == b"changed there", "an edit comes back")
        (here / "sub" / "b.txt").unlink()
        await until(lambda: "sub/b.txt" not in files_in(there), "a deletion")
        await until(lambda: anna.folders.lines()[0].unsent == 0, "nothing is left to tell")

    play(story, tmp_path / "homes", apps=[APP], in_real_time=True)
