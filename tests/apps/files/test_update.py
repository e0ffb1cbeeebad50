"""Getting again what was got before brings it up to date, and nothing of the receiver's goes away."""

import contextlib
import os
import random
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from coterie.content.writer import TargetExists
from coterie.errors import NotFound, StorageError
from coterie.node import Node
from coterie.transfer import got as got_module
from tests.apps.files.nodes import pair, tree_of
from tests.fakes.opened import never_opened
from tests.support import run

LARGE = random.Random(1).randbytes(6_000_000)  # a manifest of its own


@contextlib.asynccontextmanager
async def friends(folder: Path) -> AsyncIterator[tuple[Node, Node]]:
    """anna, and ben, who calls her so."""
    async with pair(folder) as (anna, ben):
        if not ben.people.names():
            async with anna.contacts.invite() as invitation:
                await ben.contacts.join(invitation.invited.ticket)
            ben.contacts.rename(str(anna.peer_id), "anna")
        yield anna, ben


def photos(folder: Path) -> Path:
    top = folder / "photos"
    (top / "2024").mkdir(parents=True)
    for name in ("a.jpg", "b.jpg", "2024/c.jpg", "2024/d.jpg"):
        (top / name).write_text(f"first {name}")
    (top / "film.mov").write_bytes(LARGE)
    return top


def texts(top: Path) -> dict[str, str]:
    found = {str(p.relative_to(top)): p for p in top.rglob("*") if p.is_file() and p.suffix != ".mov"}
    return {name: path.read_text() for name, path in found.items()}


def test_new_and_changed_files_come_and_the_rest_is_not_fetched(tmp_path: Path) -> None:
    async def main() -> None:
        source, target = photos(tmp_path), tmp_path / "inbox"
        target.mkdir()
        async with friends(tmp_path) as (anna, ben):
            await anna.files.share(source, to=["contacts"])
            first = await ben.files.get("anna/photos", target)
            assert (first.is_update, first.fetched > len(LARGE)) == (False, True)
            (source / "a.jpg").write_text("second a.jpg")
            (source / "2024" / "new.jpg").write_text("new")
            (source / "b.jpg").chmod(0o755)
            os.utime(source / "b.jpg", ns=(1, 1_600_000_000_000_000_000))
            await anna.files.share(source)
            again = await ben.files.get("anna/photos", target)
            assert (again.is_update, again.new, again.replaced) == (True, 1, 1)
            assert again.fetched == len("second a.jpg") + len("new")
            assert "1 new, 1 changed" in again.text()
            assert tree_of(target / "photos") == tree_of(source)
            (old,) = await ben.files.trash.lines()
            assert (old.path, old.why) == (str(target / "photos" / "a.jpg"), "replaced by a newer version")
            back = await ben.files.trash.restore(old.id)
            assert Path(back.path).read_text() == "first a.jpg"

    run(main())


def test_a_node_killed_right_after_a_get_knows_what_it_wrote(tmp_path: Path) -> None:
    async def main() -> None:
        source, target = photos(tmp_path), tmp_path / "inbox"
        target.mkdir()
        async with friends(tmp_path) as (anna, ben):
            await anna.files.share(source, to=["contacts"])
            await ben.files.get("anna/photos", target)
            shutil.copytree(tmp_path / "home-ben", tmp_path / "killed")  # what is on the disk at this moment
        shutil.rmtree(tmp_path / "home-ben")
        (tmp_path / "killed").rename(tmp_path / "home-ben")
        (source / "a.jpg").write_text("second a.jpg")
        async with friends(tmp_path) as (anna, ben):
            await anna.files.share(source)
            again = await ben.files.get("anna/photos", target)
            assert (again.is_update, again.replaced, again.beside, again.changed_here) == (True, 1, [], [])
            assert again.fetched == len("second a.jpg")
            assert tree_of(target / "photos") == tree_of(source)

    run(main())


@pytest.mark.parametrize("named", [False, True])
def test_what_is_complete_says_so(tmp_path: Path, named: bool) -> None:
    async def main() -> None:
        source = photos(tmp_path)
        target = tmp_path / "copy" if named else tmp_path / "inbox"
        if not named:
            target.mkdir()
        async with pair(tmp_path) as (anna, ben):
            ticket = (await anna.files.share(source)).ticket
            first = await ben.files.get(ticket, target)
        async with pair(tmp_path) as (anna, ben):
            again = await ben.files.get(ticket, target)
            assert (again.path, again.fetched, again.new, again.replaced) == (first.path, 0, 0, 0)
            assert f"{first.path} is up to date: 5 files" in again.text()
            assert not again.is_incomplete()
            assert await ben.files.trash.lines() == []
            one = await ben.files.get((await anna.files.share(source / "film.mov")).ticket, tmp_path / "f")
            again = await ben.files.get((await anna.files.share(source / "film.mov")).ticket, tmp_path / "f")
            assert (one.is_update, again.is_update, again.fetched) == (False, True, 0)
        assert tree_of(Path(first.path)) == tree_of(source)
        assert (tmp_path / "f").read_bytes() == LARGE

    run(main())


def test_what_was_changed_here_is_kept_beside_and_what_is_gone_there_stays(tmp_path: Path) -> None:
    async def main() -> None:
        source, copy = photos(tmp_path), tmp_path / "copy"
        async with friends(tmp_path) as (anna, ben):
            await anna.files.share(source, to=["contacts"])
            await ben.files.get("anna/photos", copy)
            (copy / "a.jpg").write_text("mine")  # changed on both sides
            (copy / "b.jpg").write_text("mine too")  # here only
            (copy / "2024" / "own.jpg").write_text("only here")
            (copy / "2024" / "c.jpg").unlink()  # deleted here
            with (copy / "film.mov").open("r+b") as film:
                film.write(b"mine")
            (source / "a.jpg").write_text("theirs")
            (source / "2024" / "own.jpg").write_text("theirs of that name")
            (source / "2024" / "d.jpg").unlink()
            await anna.files.share(source)
            for turn in range(2):
                again = await ben.files.get("anna/photos", copy)
                found = texts(copy)
                moved = {name: text for name, text in found.items() if "(changed here, " in name}
                assert sorted(moved.values()) == ["mine", "only here"]
                assert {name: text for name, text in found.items() if name not in moved} == {
                    "a.jpg": "theirs",
                    "b.jpg": "mine too",
                    "2024/c.jpg": "first 2024/c.jpg",
                    "2024/d.jpg": "first 2024/d.jpg",
                    "2024/own.jpg": "theirs of that name",
                }
                assert (copy / "film.mov").read_bytes() == b"mine" + LARGE[4:]
                assert sorted(again.changed_here) == ["b.jpg", "film.mov"]
                assert (again.gone, again.gone_count) == (["2024/d.jpg"], 1)
                assert len(again.beside) == (2 if turn == 0 else 0)
                assert (again.new, again.back) == ((0, ["2024/c.jpg"]) if turn == 0 else (0, []))
                assert turn > 0 or "2 changed, 1 fetched again of " in again.text()
                assert "gone at the giver, kept here: 2024/d.jpg" in again.text()
            assert await ben.files.trash.lines() == []
            overwritten = await ben.files.get("anna/photos", copy, on_existing="overwrite")
            assert overwritten.replaced == 2
            assert texts(copy)["b.jpg"] == "first b.jpg"
            kept = {(Path(line.path).name, line.why) for line in await ben.files.trash.lines()}
            assert kept == {(name, "replaced by --overwrite") for name in ("b.jpg", "film.mov")}
            (line,) = await ben.files.transfers()  # the last one: what came before is there no more
            assert (line.path, line.state) == (str(copy), "done")

    run(main())


def test_mirror_moves_what_is_gone_to_the_trash_but_nothing_that_was_changed(tmp_path: Path) -> None:
    async def main() -> None:
        source, copy = photos(tmp_path), tmp_path / "copy"
        async with friends(tmp_path) as (anna, ben):
            await anna.files.share(source, to=["contacts"])
            await ben.files.get("anna/photos", copy)
            (copy / "2024" / "d.jpg").write_text("mine")
            (copy / "own").write_text("own")
            shutil.rmtree(source / "2024")
            (source / "b.jpg").unlink()
            await anna.files.share(source)
            again = await ben.files.get("anna/photos", copy, mirror=True)
            assert (again.removed, again.gone) == (2, ["2024/d.jpg"])
            assert texts(copy) == {"a.jpg": "first a.jpg", "2024/d.jpg": "mine", "own": "own"}
            assert len(await ben.files.trash.lines()) == 2

    run(main())


def test_overwrite_replaces_files_of_the_same_name_and_touches_nothing_else(tmp_path: Path) -> None:
    async def main() -> None:
        source, mine = photos(tmp_path), tmp_path / "mine"
        shutil.copytree(source, mine)
        (mine / "a.jpg").write_text("mine")
        (mine / "2024" / "only").write_text("only here")
        async with pair(tmp_path) as (anna, ben):
            ticket = (await anna.files.share(source, name="mine")).ticket
            with pytest.raises(TargetExists, match="trash"):
                await ben.files.get(ticket, tmp_path)
            received = await ben.files.get(ticket, tmp_path, on_existing="overwrite")
            assert (received.path, received.replaced, received.new) == (str(mine), 1, 0)
            assert texts(mine) == texts(source) | {"2024/only": "only here"}
            (line,) = await ben.files.trash.lines()
            assert (line.path, line.why) == (str(mine / "a.jpg"), "replaced by --overwrite")

    run(main())


def test_a_full_trash_stops_an_arrival_which_goes_on_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        source, mine = photos(tmp_path), tmp_path / "mine"
        mine.mkdir()
        (mine / "a.jpg").write_text("mine")
        async with pair(tmp_path) as (anna, ben):
            ticket = (await anna.files.share(source, name="mine")).ticket
            with monkeypatch.context() as small:
                small.setattr(
                    shutil, "disk_usage", lambda _: type("usage", (), {"total": 1000, "free": 1 << 40})
                )
                with pytest.raises(StorageError, match="coterie trash empty"):
                    await ben.files.get(ticket, tmp_path, on_existing="overwrite")
            assert texts(mine) == {"a.jpg": "mine"}
            assert (await ben.files.transfers())[0].state == "paused"
            again = await ben.files.get(ticket, tmp_path, on_existing="overwrite")
            assert (again.fetched, again.replaced) == (0, 1)

    run(main())


def test_refresh_brings_up_to_date_all_that_was_got(tmp_path: Path) -> None:
    async def main() -> None:
        source, other = photos(tmp_path), tmp_path / "other"
        other.mkdir()
        (other / "x").write_text("x")
        (tmp_path / "inbox").mkdir()
        async with friends(tmp_path) as (anna, ben):
            assert await ben.files.refresh() == []
            await anna.files.share(source, to=["contacts"])
            await anna.files.share(other, to=["contacts"])
            for place in ("anna/photos", "anna/other", "anna/photos/2024"):
                await ben.files.get(place, tmp_path / "inbox")
            (source / "2024" / "c.jpg").write_text("second")
            await anna.files.share(source)
            await anna.files.unshare("other")
            shutil.rmtree(tmp_path / "inbox" / "2024")
            done = {Path(one.path).name: one for one in await ben.files.refresh()}
            assert done["photos"].received is not None
            assert done["photos"].received.replaced == 1
            assert "not shared with this computer" in done["other"].problem
            assert "refreshed no more" in done["2024"].problem
            assert done["other"].is_incomplete()
            assert tree_of(tmp_path / "inbox" / "photos") == tree_of(source)
            for name in ("photos", "inbox/photos", "anna/photos", str(tmp_path / "inbox" / "photos")):
                (one,) = await ben.files.refresh(name)
                assert "up to date" in one.text()
            with pytest.raises(NotFound, match="nothing was got as 'hotos'"):
                await ben.files.refresh("hotos")

    run(main())


def test_what_was_deleted_here_is_not_called_new_and_the_trash_tells_sizes_of_contents(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        source = photos(tmp_path)
        async with friends(tmp_path) as (anna, ben):
            await anna.files.share(source, to=["contacts"])
            await ben.files.get("anna/photos", tmp_path / "in")
            (tmp_path / "in" / "2024" / "c.jpg").unlink()
            (source / "a.jpg").write_text("other")
            (source / "new.jpg").write_text("new")
            await anna.files.share(source)
            [refreshed] = await ben.files.refresh()
            received = refreshed.received
            assert received is not None
            assert (received.new, received.back, received.replaced) == (1, ["2024/c.jpg"], 1)
            assert "1 new, 1 changed, 1 fetched again of 6 files" in refreshed.text()
            assert "\n  was deleted here, fetched again: 2024/c.jpg" in refreshed.text()
            [kept] = await ben.files.trash.lines()
            assert kept.size == len("first a.jpg")
            assert (await ben.files.trash.empty()).size == len("first a.jpg")

    run(main(), 60)


def test_a_link_in_place_of_a_folder_is_not_followed(tmp_path: Path) -> None:
    async def main() -> None:
        source, copy = photos(tmp_path), tmp_path / "copy"
        async with friends(tmp_path) as (anna, ben):
            await anna.files.share(source, to=["contacts"])
            await ben.files.get("anna/photos", copy)
            (copy / "2024").rename(tmp_path / "moved")
            (copy / "2024").symlink_to(tmp_path / "moved")
            (source / "2024" / "c.jpg").write_text("second")
            (source / "2024" / "d.jpg").unlink()
            await anna.files.share(source)
            await ben.files.get("anna/photos", copy, mirror=True)
            assert texts(tmp_path / "moved") == {"c.jpg": "first 2024/c.jpg", "d.jpg": "first 2024/d.jpg"}
            assert texts(copy / "2024") == {"c.jpg": "second"}

    run(main())


def test_only_chosen_files_are_refreshed_and_a_file_that_fails_keeps_its_old_version(tmp_path: Path) -> None:
    async def main() -> None:
        source, copy = photos(tmp_path), tmp_path / "copy"
        async with friends(tmp_path) as (anna, ben):
            await anna.files.share(source, to=["contacts"])
            await ben.files.get("anna/photos", copy, only=["*.jpg"])
            for name in ("a.jpg", "b.jpg"):
                (source / name).write_text(f"second {name}")
            await anna.files.share(source)
            (source / "b.jpg").write_text("third, which nobody shared")
            again = await ben.files.get("anna/photos", copy)
            assert [problem.path for problem in again.failed] == ["b.jpg"]
            assert (again.is_incomplete(), again.replaced, again.gone) == (True, 1, [])
            assert not (copy / "film.mov").exists()
            assert (copy / "b.jpg").read_text() == "first b.jpg"
            await anna.files.share(source)
            again = await ben.files.get("anna/photos", copy)
            assert (again.replaced, again.beside) == (1, [])
            assert (copy / "b.jpg").read_text() == "third, which nobody shared"

    run(main())


def test_the_list_of_what_was_got_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(got_module, "GOT_MAX", 2)

    async def main() -> None:
        (tmp_path / "note").write_text("hello")
        async with pair(tmp_path) as (anna, ben):
            ticket = (await anna.files.share(tmp_path / "note")).ticket
            for number in range(3):
                await ben.files.get(ticket, tmp_path / f"{number}")
            assert [Path(one.path).name for one in await ben.files.refresh()] == ["1", "2"]
            with pytest.raises(TargetExists):
                await ben.files.get(ticket, tmp_path / "0")

    run(main())


@pytest.mark.skipif(not hasattr(os, "O_PATH"), reason="Linux")
def test_what_is_no_file_is_never_opened_nor_replaced_nor_met_by_copies(tmp_path: Path) -> None:
    async def main() -> None:
        source, copy = photos(tmp_path), tmp_path / "copy"
        pipe, top = copy / "a.jpg", tmp_path / "one"
        async with friends(tmp_path) as (anna, ben):
            await anna.files.share(source, to=["contacts"])
            one = (await anna.files.share(source / "film.mov")).ticket
            await ben.files.get("anna/photos", copy)
            await ben.files.get(one, top)
            for path in (pipe, copy / "b.jpg", top):
                path.unlink()
            os.mkfifo(pipe)
            os.mkfifo(top)
            (copy / "b.jpg").mkdir()
            with never_opened(pipe), never_opened(top):
                again = await ben.files.get(
                    "anna/photos", copy
                )  # nothing new at the giver: what is here is left
                assert (again.fetched, sorted(again.changed_here)) == (0, ["a.jpg", "b.jpg"])
                assert (await ben.files.get(one, top)).fetched == 0
                (source / "a.jpg").write_text("second")
                await anna.files.share(source)
                for _ in range(3):
                    await ben.files.refresh()
                assert (copy / "a (2).jpg").read_text() == "second"
                await ben.files.get("anna/photos", copy, on_existing="overwrite")
                (source / "a.jpg").unlink()
                await anna.files.share(source)
                await ben.files.get("anna/photos", copy, mirror=True)
            assert pipe.is_fifo()
            assert top.is_fifo()
            assert sorted(path.name for path in copy.glob("a*")) == ["a (2).jpg", "a (3).jpg", "a.jpg"]

    run(main())
