"""Live folders between nodes where names change hands: what waits for another place comes once that is free."""

import os
from pathlib import Path

import pytest

from coterie.apps.folders.app import APP
from coterie.apps.folders.messages import PROTOCOL, Want, Wanted
from coterie.apps.folders.register import Kind, Value, unpack, winner
from coterie.node import Node
from coterie.testing import Cast, play
from tests.apps.folders.test_folders import engine_of, files_in, pair, until


def value_at(node: Node, path: str) -> Value:
    """What the one live folder of a node has at a path."""
    raw = engine_of(node).book.data.register(path)
    first = winner(unpack(raw)) if raw is not None else None
    return first[1] if first is not None else Value(Kind.GONE)


LARGE = bytes(200_000)  # more than travels in an answer


@pytest.mark.parametrize("data", [b"small", LARGE], ids=["small", "large"])
def test_a_file_renamed_onto_another_can_be_fetched(tmp_path: Path, data: bytes) -> None:
    """The content store knew another content at that name."""

    async def story(cast: Cast) -> None:
        anna, _, here, there = await pair(cast, tmp_path)
        (here / "a.txt").write_bytes(b"before")
        await until(lambda: files_in(there) == {"a.txt": b"before"}, "the file")
        cast.network.partition(["anna"], ["ben"])
        (here / "b.txt").write_bytes(data)
        await until(lambda: anna.folders.lines()[0].unsent == 1, "it is recorded")
        (here / "b.txt").rename(here / "a.txt")
        await until(lambda: anna.folders.lines()[0].files == 1, "one is gone")
        await until(lambda: anna.folders.lines()[0].size == len(data), "the other is it")
        cast.network.heal()
        await until(lambda: files_in(there) == {"a.txt": data}, "what was renamed")

    play(story, tmp_path / "homes", apps=[APP], in_real_time=True)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes are of Unix")
def test_what_waits_for_a_name_that_is_taken_comes_when_it_is_free(tmp_path: Path) -> None:
    async def story(cast: Cast) -> None:
        _, ben, here, there = await pair(cast, tmp_path)
        os.mkfifo(there / "a")
        await until(lambda: ben.folders.lines()[0].state == "in sync", "it was looked at")
        (here / "a").write_text("by anna")
        (here / "b").write_text("the next")
        await until((there / "b").exists, "the other")
        await until(lambda: "a waits" in ben.folders.lines()[0].note, "it is said")
        (there / "a").unlink()
        await until(lambda: files_in(there).get("a") == b"by anna", "it comes")
        assert not ben.folders.lines()[0].note

    play(story, tmp_path / "homes", apps=[APP], in_real_time=True)


def test_a_folder_in_place_of_a_copy_goes_to_all_with_what_is_in_it(tmp_path: Path) -> None:
    async def story(cast: Cast) -> None:
        anna, ben, here, there = await pair(cast, tmp_path)
        cast.network.partition(["anna"], ["ben"])
        (here / "a.txt").write_text("by anna")
        (there / "a.txt").write_text("by ben")
        await until(lambda: anna.folders.lines()[0].unsent == 1 == ben.folders.lines()[0].unsent, "both")
        cast.network.heal()
        await until(lambda: len(files_in(here)) == 2 and files_in(here) == files_in(there), "both versions")
        name = next(name for name in files_in(here) if name != "a.txt")
        (here / name).unlink()
        (here / name).mkdir()
        (here / name / "in it").write_text("new")
        await until(lambda: f"{name}/in it" in files_in(there), "the folder with what is in it")
        assert files_in(there) == files_in(here)

    play(story, tmp_path / "homes", apps=[APP], in_real_time=True)


def test_what_only_a_version_has_is_given_to_who_asks_and_says_whose_change_it_was(tmp_path: Path) -> None:
    """Somebody heard of a content, and asks for it after a merge has put it away."""

    async def story(cast: Cast) -> None:
        anna, ben, here, there = await pair(cast, tmp_path)
        for name in ("a.txt", "b.txt"):
            (here / name).write_text(f"before {name}")
        await until(lambda: len(files_in(there)) == 2, "the files")
        contents = [value_at(ben, name).content for name in ("a.txt", "b.txt")]
        (there / "a.txt").write_text("other: a.txt")
        (there / "b.txt").unlink()
        await until(lambda: files_in(here) == {"a.txt": b"other: a.txt"}, "the changes")
        (line,) = anna.folders.lines()
        stream = await (await ben.connect(anna.peer_id)).open_stream(PROTOCOL)
        await stream.send(Want(bytes.fromhex(line.id), contents))
        answer = await stream.receive()
        assert isinstance(answer, Wanted)
        assert dict(answer.small) == dict(zip(contents, (b"before a.txt", b"before b.txt"), strict=True))
        why = {line.path: line.why for line in await anna.folders.versions("Projects", "")}
        assert why == {"a.txt": "changed by ben", "b.txt": "removed by ben"}

    play(story, tmp_path / "homes", apps=[APP], in_real_time=True)


def test_what_others_did_while_the_folder_was_away_is_done_once_it_is_back(tmp_path: Path) -> None:
    async def story(cast: Cast) -> None:
        anna, _, here, there = await pair(cast, tmp_path)
        for name in ("a.txt", "b.txt"):
            (here / name).write_text(name)
        await until(lambda: len(files_in(there)) == 2, "the files")
        here.rename(tmp_path / "away")
        await until(lambda: anna.folders.lines()[0].state == "gone", "it is noticed")
        (there / "a.txt").unlink()
        await until(lambda: anna.folders.lines()[0].files == 1, "it is heard")
        for number in range(3):
            (there / f"{number}").mkdir()
            await until(lambda: value_at(anna, f"{number}").kind == Kind.FOLDER, "and more")  # noqa: B023
        (tmp_path / "away").rename(here)
        (there / "c.txt").write_text("c.txt")
        await until(lambda: files_in(here) == {"b.txt": b"b.txt", "c.txt": b"c.txt"}, "all of it")
        await until(lambda: all((here / f"{number}").is_dir() for number in range(3)), "all of it")

    play(story, tmp_path / "homes", apps=[APP], in_real_time=True)
