"""Mass deletions and encryptions between nodes: they wait and ask, on every computer, and can be undone."""

from pathlib import Path

import pytest

from coterie.apps.folders import agenda
from coterie.apps.folders.app import APP
from coterie.apps.folders.brake import FILES_MIN
from coterie.errors import UsageError
from coterie.node import Node
from coterie.testing import Cast, play, raised
from tests.apps.folders.test_folders import files_in, pair, until

FILES = 60


async def filled(
    cast: Cast, tmp_path: Path, count: int = FILES
) -> tuple[Node, Node, Path, Path, dict[str, bytes]]:
    """As `pair`, with enough files to ask about on both sides."""
    anna, ben, here, there = await pair(cast, tmp_path)
    (here / "sub").mkdir()
    for number in range(count):
        (here / "sub" / f"{number}.txt").write_text(f"file {number}")
    (here / "stays.txt").write_text("stays")
    files = files_in(here)
    await until(lambda: files_in(there) == files, "all files")
    await until(lambda: anna.folders.lines()[0].unsent == 0, "they are known")
    return anna, ben, here, there, files


def empty(folder: Path) -> None:
    """All at once."""
    (folder / "sub").rename(folder.parent / f"removed from {folder.name}")


def state(node: Node) -> str:
    return node.folders.lines()[0].state


def test_a_mass_deletion_asks_here_before_others_hear_of_it_and_is_undone(tmp_path: Path) -> None:
    async def story(cast: Cast) -> None:
        anna, _, here, there, files = await filled(cast, tmp_path)
        with raised(UsageError, "nothing waits"):
            anna.folders.keep("Projects")
        empty(here)
        await until(lambda: state(anna) == "asks", "it asks")
        (there / "news.txt").write_text("comes")
        await until(lambda: "news.txt" in files_in(here), "what others say goes on")
        assert files_in(there) == files | {"news.txt": b"comes"}
        assert "folder keep Projects" in anna.folders.lines()[0].note
        assert any("folder go-on Projects" in notice.said for notice in anna.notices.all())
        anna.folders.keep("Projects")
        await until(lambda: files_in(here) == files_in(there) == files | {"news.txt": b"comes"}, "all back")
        await until(lambda: state(anna) == "in sync", "nothing waits")
        assert not any("folder go-on" in notice.said for notice in anna.notices.all())

    play(story, tmp_path / "homes", apps=[APP], in_real_time=True)


def test_a_mass_deletion_that_the_owner_lets_happen_asks_the_others_too(tmp_path: Path) -> None:
    async def story(cast: Cast) -> None:
        anna, ben, here, there, files = await filled(cast, tmp_path)
        empty(here)
        await until(lambda: state(anna) == "asks", "it asks")
        await cast.stop("anna")
        anna = await cast.node("anna")
        await until(lambda: state(anna) == "asks", "it asks again after a restart")
        anna.folders.go_on("Projects")
        await until(lambda: state(ben) == "asks", "ben is asked")
        assert files_in(there) == files
        (there / "sub" / "0.txt").write_text("an edit beside what waits")
        await until(lambda: "sub/0.txt" in files_in(here), "edits go on")
        ben.folders.go_on("Projects")
        left = {"stays.txt": b"stays", "sub/0.txt": b"an edit beside what waits"}
        await until(lambda: files_in(there) == left == files_in(here), "they are gone")

    play(story, tmp_path / "homes", apps=[APP], in_real_time=True)


def test_what_others_removed_is_kept_for_all(tmp_path: Path) -> None:
    async def story(cast: Cast) -> None:
        anna, ben, here, there, files = await filled(cast, tmp_path)
        empty(here)
        await until(lambda: state(anna) == "asks", "it asks")
        anna.folders.go_on("Projects")
        await until(lambda: state(ben) == "asks", "ben is asked")
        ben.folders.keep("Projects")
        await until(lambda: files_in(here) == files == files_in(there), "they are back with anna")
        await until(lambda: state(ben) == "in sync", "nothing waits")

    play(story, tmp_path / "homes", apps=[APP], in_real_time=True)


def test_an_encryption_waits_and_is_undone_and_kept_as_versions(tmp_path: Path) -> None:
    async def story(cast: Cast) -> None:
        anna, _, here, there, files = await filled(cast, tmp_path, 3 * FILES)
        for name in files:
            (here / name).write_text(f"garbage of {name}")
        await until(lambda: state(anna) == "asks", "it asks")
        await until(lambda: all(text.startswith(b"garbage") for text in files_in(here).values()), "all")
        went = {name for name, text in files_in(there).items() if text != files[name]}
        assert len(went) < FILES_MIN, "others have what came before it was seen"

        def are_back() -> bool:
            if state(anna) == "asks":  # again, where a file was still too young to be looked at
                anna.folders.keep("Projects")
            found = files_in(here)
            return all(found[name] == text for name, text in files.items() if name not in went)

        await until(are_back, "as it was")
        await until(lambda: files_in(here) == files_in(there), "the same on both")
        assert len(await anna.folders.versions("Projects", "")) >= len(files) - len(went)

    play(story, tmp_path / "homes", apps=[APP], in_real_time=True)


def test_renames_do_not_ask(tmp_path: Path) -> None:
    async def story(cast: Cast) -> None:
        anna, ben, here, there, _ = await filled(cast, tmp_path)
        (here / "sub").rename(here / "other")
        renamed = files_in(here)
        await until(lambda: files_in(there) == renamed, "the new names")
        for path in list((there / "other").iterdir()):
            path.rename(there / f"{path.name}.old")
        renamed = files_in(there)
        await until(lambda: files_in(here) == renamed, "other names again")
        assert "asks" not in (state(anna), state(ben))

    play(story, tmp_path / "homes", apps=[APP], in_real_time=True)


def test_what_passed_before_a_restart_counts_after_it(tmp_path: Path) -> None:
    async def story(cast: Cast) -> None:
        anna, _, here, there, files = await filled(cast, tmp_path)
        for number in range(40):
            (here / "sub" / f"{number}.txt").unlink()
        await until(lambda: len(files_in(there)) == len(files) - 40, "below the bound they go")
        await cast.stop("anna")
        anna = await cast.node("anna")
        await until(lambda: state(anna) == "in sync", "it is back")
        for number in range(40, 55):
            (here / "sub" / f"{number}.txt").unlink()
        await until(lambda: state(anna) == "asks", "it asks", 5.0)
        assert len(files_in(there)) == len(files) - 40

    play(story, tmp_path / "homes", apps=[APP], in_real_time=True)


def test_what_went_at_once_is_weighed_at_once_and_news_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of it goes out, however many plans it takes; also when something else is found, and after a restart."""
    monkeypatch.setattr(agenda, "PLANNED_MAX", 10)

    async def story(cast: Cast) -> None:
        anna, _, here, there, files = await filled(cast, tmp_path)
        await anna.folders.pause("Projects")
        empty(here)
        await anna.folders.resume("Projects")
        await until(lambda: state(anna) == "asks", "it asks")
        (here / "news.txt").write_text("by anna")
        await until(lambda: files_in(there) == files | {"news.txt": b"by anna"}, "what is new goes on")
        await cast.stop("anna")
        anna = await cast.node("anna")
        await until(lambda: state(anna) == "asks", "it asks again")
        (here / "more.txt").write_text("by anna")
        now = files | {"news.txt": b"by anna", "more.txt": b"by anna"}
        await until(lambda: files_in(there) == now, "what is new goes on again")
        anna.folders.keep("Projects")
        await until(lambda: files_in(here) == now == files_in(there), "all back")
        await until(lambda: state(anna) == "in sync", "nothing waits")

    play(story, tmp_path / "homes", apps=[APP], in_real_time=True)


def test_what_came_before_the_bound_can_be_undone_and_is_a_version(tmp_path: Path) -> None:
    """Fewer than are asked for: each stands in the list of changes of the other, with what was there before."""

    async def story(cast: Cast) -> None:
        _, ben, here, there, files = await filled(cast, tmp_path)
        gone = [f"sub/{number}.txt" for number in range(10)]
        changed = [f"sub/{number}.txt" for number in range(10, 20)]
        for name in gone:
            (here / name).unlink()
        for name in changed:
            (here / name).write_text("garbage")
        await until(lambda: files_in(there) == files_in(here), "it goes through")
        kept = {line.path for line in await ben.folders.versions("Projects", "")}
        assert kept == {*gone, *changed}
        for event in await ben.folders.undo("Projects", ""):
            await ben.folders.undo("Projects", event.id)
        await until(lambda: files_in(here) == files == files_in(there), "as it was, for all")

    play(story, tmp_path / "homes", apps=[APP], in_real_time=True)
