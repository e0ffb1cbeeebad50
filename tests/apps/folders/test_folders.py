"""Live folders between nodes: what one changes, all have; nothing is lost; who may not, cannot."""

import asyncio
import contextlib
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from coterie.apps.folders.app import APP
from coterie.apps.folders.applying import Applying
from coterie.apps.folders.engine import Engine
from coterie.apps.folders.messages import PROTOCOL, Changes
from coterie.apps.folders.register import NOTHING, Kind, Value, pack, written
from coterie.apps.folders.service import WouldMix
from coterie.errors import CoterieError
from coterie.node import Node
from coterie.testing import Cast, play, raised


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
    found = {}
    for top, below, names in os.walk(folder):
        below[:] = sorted(set(below) - {".coterie-folder"})
        for name in sorted(names):
            with contextlib.suppress(FileNotFoundError):  # it gives way just now
                found[str(Path(top, name).relative_to(folder))] = Path(top, name).read_bytes()
    return found


def offers(node: Node) -> list[str]:
    """What its owner is told to join."""
    return [notice.said for notice in node.notices.all() if "coterie folder join" in notice.said]


async def pair(cast: Cast, tmp_path: Path) -> tuple[Node, Node, Path, Path]:
    """Anna has a live folder, and ben joined it."""
    anna, ben = await cast.node("anna"), await cast.node("ben")
    await cast.befriend(anna, ben)
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    await anna.folders.new(here, ["ben"], "Projects")
    await until(lambda: any(line.state == "offered" for line in ben.folders.lines()), "the offer")
    assert offers(ben)
    await ben.folders.join("anna/Projects", there, yes=False)
    assert not offers(ben), "nobody is told to join what was joined"
    return anna, ben, here, there


def test_an_edit_is_on_the_other_computer(tmp_path: Path) -> None:
    async def story(cast: Cast) -> None:
        anna, _ben, here, there = await pair(cast, tmp_path)
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


def test_a_folder_that_goes_elsewhere_waits_in_peace_for_a_file_that_is_written_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its end is tried once a second, and no more often."""
    tried: list[float] = []
    remove = Applying.remove_folder

    def remove_folder(self: Applying, local: str) -> None:
        tried.append(time.monotonic())
        remove(self, local)

    monkeypatch.setattr(Applying, "remove_folder", remove_folder)

    async def story(cast: Cast) -> None:
        _anna, _ben, here, there = await pair(cast, tmp_path)
        (here / "in").mkdir()
        for name in "xy":
            (here / "in" / name).write_bytes(name.encode())
        await until(lambda: len(files_in(there)) == 2, "files")
        with (there / "in" / "new").open("wb") as new, (there / "in" / "x").open("r+b"):
            new.write(b"half")
            new.flush()
            shutil.rmtree(here / "in")
            await until(lambda: files_in(there).keys() == {"in/new", "in/x"}, "what is not in use goes")
            await until(lambda: len(tried) > 5, "its end is tried")
            assert tried[5] - tried[0] > 1.0
        await until(lambda: files_in(here) == {"in/new": b"half"} == files_in(there), "what is new stays")

    play(story, tmp_path / "homes", apps=[APP], in_real_time=True)


def engine_of(node: Node) -> Engine:
    """The one live folder of a node."""
    (engine,) = node.folders.engines
    return engine


def test_both_change_one_file_without_each_other_and_both_versions_stay(tmp_path: Path) -> None:
    async def story(cast: Cast) -> None:
        anna, ben, here, there = await pair(cast, tmp_path)
        (here / "plan.txt").write_text("first")
        await until(lambda: files_in(there) == {"plan.txt": b"first"}, "the file")
        cast.network.partition(["anna"], ["ben"])
        (here / "plan.txt").write_text("by anna")
        (there / "plan.txt").write_text("by ben, longer")
        await until(lambda: anna.folders.lines()[0].unsent == 1, "anna's change")
        await until(lambda: ben.folders.lines()[0].unsent == 1, "ben's change")
        cast.network.heal()
        both = {b"by anna", b"by ben, longer"}
        await until(
            lambda: set(files_in(here).values()) == both == set(files_in(there).values()), "both versions"
        )
        assert "plan.txt" in files_in(here)
        lines = anna.folders.conflicts("Projects")
        assert {line.by for line in lines} == {"anna", "ben"}
        assert {line.path for line in lines} == {"plan.txt"}
        bens = next(line for line in lines if line.by == "ben")
        await anna.folders.resolve("Projects", "plan.txt", bens.version)
        settled = {"plan.txt": b"by ben, longer"}
        await until(lambda: files_in(here) == settled == files_in(there), "one version")
        kept = await anna.folders.versions("Projects", "")
        assert kept, "what gave way is a version"

    play(story, tmp_path / "homes", apps=[APP], in_real_time=True)


def test_what_happened_while_a_computer_was_off_comes_when_it_is_back(tmp_path: Path) -> None:
    async def story(cast: Cast) -> None:
        _, ben, here, there = await pair(cast, tmp_path)
        for number in range(20):
            (here / f"{number}.txt").write_text(f"file {number}")
        await until(lambda: len(files_in(there)) == 20, "all files")
        await cast.stop("ben")
        (here / "0.txt").unlink()
        (here / "1.txt").rename(here / "moved.txt")
        (here / "2.txt").write_text("newer")
        (there / "3.txt").write_text("changed while off")
        ben = await cast.node("ben")
        expected = files_in(here) | {"3.txt": b"changed while off"}
        await until(lambda: files_in(here) == expected == files_in(there), "the same on both")
        kept = await ben.folders.versions("Projects", "0.txt")
        assert [line.path for line in kept] == ["0.txt"]
        await ben.folders.restore("Projects", kept[0].id)
        await until(lambda: files_in(here).get("0.txt") == b"file 0", "it is back for all")
        assert ben.folders.lines()[0].state == "in sync"

    play(story, tmp_path / "homes", apps=[APP], in_real_time=True)


def test_a_change_of_another_is_undone_for_all(tmp_path: Path) -> None:
    async def story(cast: Cast) -> None:
        _, ben, here, there = await pair(cast, tmp_path)
        (here / "a.txt").write_text("before")
        await until(lambda: files_in(there) == {"a.txt": b"before"}, "the file")
        (here / "a.txt").write_text("a mistake")
        await until(lambda: files_in(there) == {"a.txt": b"a mistake"}, "the change")
        (event,) = await ben.folders.undo("Projects", "")
        assert (event.path, event.what, event.by) == ("a.txt", "changed", "anna")
        await ben.folders.undo("Projects", event.id)
        await until(lambda: files_in(here) == {"a.txt": b"before"} == files_in(there), "as it was")

    play(story, tmp_path / "homes", apps=[APP], in_real_time=True)


def test_joining_a_full_folder_says_what_will_happen_and_loses_nothing(tmp_path: Path) -> None:
    async def story(cast: Cast) -> None:
        anna, ben = await cast.node("anna"), await cast.node("ben")
        await cast.befriend(anna, ben)
        here, there = tmp_path / "here", tmp_path / "there"
        for folder, files in ((here, {"same": "s", "differs": "h", "only here": "x"}),
                              (there, {"same": "s", "differs": "t", "only there": "y"})):  # fmt: skip
            folder.mkdir()
            for name, text in files.items():
                (folder / name).write_text(text)
        await anna.folders.new(here, ["ben"], "")
        await until(lambda: bool(ben.folders.lines()), "the offer")
        await until(lambda: anna.folders.lines()[0].files == 3, "anna has looked")
        with raised(WouldMix, "1 file differing"):
            await ben.folders.join("anna/here", there, yes=False)
        assert not (there / ".coterie-folder").exists()
        assert [line.state for line in ben.folders.lines()] == ["offered"]
        await ben.folders.join("anna/here", there, yes=True)
        texts = {b"s", b"h", b"t", b"x", b"y"}
        await until(
            lambda: set(files_in(here).values()) == texts == set(files_in(there).values()), "all of both"
        )
        assert len(files_in(here)) == len(files_in(there)) == 5

    play(story, tmp_path / "homes", apps=[APP], in_real_time=True)


def test_a_reader_changes_nothing_elsewhere_and_who_is_taken_out_gets_nothing_more(tmp_path: Path) -> None:
    async def story(cast: Cast) -> None:
        anna, ben = await cast.node("anna"), await cast.node("ben")
        await cast.befriend(anna, ben)
        here, there = tmp_path / "here", tmp_path / "there"
        here.mkdir()
        (here / "a.txt").write_text("one")
        await anna.folders.new(here, ["ben:read"], "Projects")
        await until(lambda: bool(ben.folders.lines()), "the offer")
        await ben.folders.join("Projects", there, yes=False)
        await until(lambda: files_in(there) == {"a.txt": b"one"}, "the file")
        assert ben.folders.lines()[0].role == "read"
        (there / "own.txt").write_text("mine")
        forged = written(NOTHING, (), (b"x" * 16, 1), Value(Kind.GONE, by=bytes(ben.peer_id), at_ms=1))
        changes = Changes(
            bytes.fromhex(ben.folders.lines()[0].id), engine_of(ben).replica, 0, 1, [("a.txt", pack(forged))]
        )
        connection = await ben.connect(anna.peer_id)
        await (await connection.open_stream(PROTOCOL)).send(changes)
        (here / "b.txt").write_text("two")
        await until(lambda: files_in(there).get("b.txt") == b"two", "a later change")
        assert files_in(here) == {"a.txt": b"one", "b.txt": b"two"}
        anna.folders.remove_member("Projects", "ben")
        await until(lambda: not anna.folders.lines()[0].members, "ben is out")
        (here / "secret.txt").write_text("not for ben")
        await until(lambda: anna.folders.lines()[0].files == 3, "it is recorded")
        await asyncio.sleep(0.5)
        assert "secret.txt" not in files_in(there)
        assert files_in(there)["own.txt"] == b"mine"

    play(story, tmp_path / "homes", apps=[APP], in_real_time=True)


def test_three_computers_without_one_that_must_be_on(tmp_path: Path) -> None:
    async def story(cast: Cast) -> None:
        nodes = {name: await cast.node(name) for name in ("anna", "ben", "carl")}
        for one, other in (("anna", "ben"), ("anna", "carl"), ("ben", "carl")):
            await cast.befriend(nodes[one], nodes[other])
        places = {name: tmp_path / name for name in nodes}
        places["anna"].mkdir()
        await nodes["anna"].folders.new(places["anna"], ["ben", "carl"], "Projects")
        for name in ("ben", "carl"):
            await until(lambda name=name: bool(nodes[name].folders.lines()), "the offer")
            await nodes[name].folders.join("Projects", places[name], yes=False)
        (places["anna"] / "a.txt").write_text("by anna")
        await until(lambda: all(files_in(place) == {"a.txt": b"by anna"} for place in places.values()), "all")
        await cast.stop("anna")
        (places["ben"] / "b.txt").write_text("by ben")
        await until(lambda: files_in(places["carl"]).get("b.txt") == b"by ben", "without the owner")
        await cast.node("anna")
        await until(lambda: files_in(places["anna"]).get("b.txt") == b"by ben", "and then the owner")

    play(story, tmp_path / "homes", apps=[APP], in_real_time=True)


def test_a_folder_that_vanished_deletes_nothing_elsewhere(tmp_path: Path) -> None:
    async def story(cast: Cast) -> None:
        anna, _, here, there = await pair(cast, tmp_path)
        (here / "a.txt").write_text("one")
        await until(lambda: files_in(there) == {"a.txt": b"one"}, "the file")
        here.rename(tmp_path / "away")
        await until(lambda: anna.folders.lines()[0].state == "gone", "it is noticed")
        assert files_in(there) == {"a.txt": b"one"}
        (tmp_path / "away").rename(here)
        await anna.folders.resume("Projects")
        (here / "b.txt").write_text("two")
        await until(lambda: files_in(there) == {"a.txt": b"one", "b.txt": b"two"}, "it goes on")

    play(story, tmp_path / "homes", apps=[APP], in_real_time=True)


def test_a_paused_folder_waits_and_a_left_one_is_an_ordinary_folder(tmp_path: Path) -> None:
    async def story(cast: Cast) -> None:
        _, ben, here, there = await pair(cast, tmp_path)
        await ben.folders.pause("Projects")
        assert ben.folders.lines()[0].state == "paused"
        (here / "a.txt").write_text("one")
        await ben.folders.resume("Projects")
        await until(lambda: files_in(there) == {"a.txt": b"one"}, "the file")
        await ben.folders.leave("Projects")
        assert not (there / ".coterie-folder").exists()
        assert files_in(there) == {"a.txt": b"one"}
        assert [line.state for line in ben.folders.lines()] == ["offered"]

    play(story, tmp_path / "homes", apps=[APP], in_real_time=True)


def test_a_file_that_both_renamed_is_there_under_both_names(tmp_path: Path) -> None:
    """Its content lies under a new name on each: the content store is told so before it is given, or made of it."""

    async def story(cast: Cast) -> None:
        anna, ben, here, there = await pair(cast, tmp_path)
        (here / "a.txt").write_text("the same")
        (here / "b.txt").write_text("edited or deleted")
        await until(lambda: len(files_in(there)) == 2, "the files")
        cast.network.partition(["anna"], ["ben"])
        (here / "a.txt").rename(here / "by anna.txt")
        (there / "a.txt").rename(there / "by ben.txt")
        (here / "b.txt").unlink()
        (there / "b.txt").write_text("edited")
        await until(lambda: anna.folders.lines()[0].unsent == 3, "anna's changes")
        await until(lambda: ben.folders.lines()[0].unsent == 3, "ben's changes")
        cast.network.heal()
        both = {"by anna.txt": b"the same", "by ben.txt": b"the same", "b.txt": b"edited"}
        await until(lambda: files_in(here) == both == files_in(there), "both names")

    play(story, tmp_path / "homes", apps=[APP], in_real_time=True)


def test_who_does_not_follow_a_folder_now_counts_as_nobody_who_has_it(tmp_path: Path) -> None:
    """It is connected, and paused the folder, left it, or only looked what joining would do."""

    def stands(node: Node) -> tuple[str, list[str]]:
        (line,) = node.folders.lines()
        return line.state, line.members

    async def story(cast: Cast) -> None:
        anna, ben, here, there = await pair(cast, tmp_path)
        (here / "b.txt").write_text("one")
        await until(lambda: "b.txt" in files_in(there), "a file")
        await until(lambda: stands(anna) == ("in sync", ["ben"]), "both have it")
        await ben.folders.pause("Projects")
        await until(lambda: stands(anna) == ("alone", []), "ben paused it")
        (line,) = ben.folders.lines()
        assert (line.state, line.files, line.here, line.size) == ("paused", 1, 1, 3), "its files are there"
        (here / "a.txt").write_text("while ben is paused")
        await until(lambda: anna.folders.lines()[0].unsent == 1, "nobody else has it")
        await ben.folders.resume("Projects")
        await until(lambda: stands(anna) == ("in sync", ["ben"]), "ben goes on")
        await until(lambda: "a.txt" in files_in(there), "and gets it")
        await ben.folders.leave("Projects")
        await until(lambda: stands(anna) == ("alone", []), "ben left it")
        with raised(WouldMix, "2 files the same"):
            await ben.folders.join("anna/Projects", there, yes=False)
        await until(lambda: stands(anna) == ("alone", []), "ben only looked")
        await ben.folders.join("anna/Projects", there, yes=True)
        await until(lambda: stands(anna) == ("in sync", ["ben"]), "ben has it again")

    play(story, tmp_path / "homes", apps=[APP], in_real_time=True)


def test_a_role_that_is_none_is_named_with_those_that_are(tmp_path: Path) -> None:
    async def story(cast: Cast) -> None:
        anna, _, _, _ = await pair(cast, tmp_path)
        for wrong, said in (
            ("ben:keeps", "'keeps' is no role: say ben:read, ben:write, ben:keep"),
            ("dora:read", "'dora' is no circle and nobody known here"),
            ("dora:keeps", "'dora' is no circle and nobody known here"),
            ("contacts", "name persons, computers or circles"),
        ):
            with raised(CoterieError, said):
                anna.folders.add_member("Projects", wrong)

    play(story, tmp_path / "homes", apps=[APP], in_real_time=True)
