"""`share --update`, `--reread`, what changed since, and what asks before it is shared."""

import asyncio
import os
from pathlib import Path

import pytest

from coterie.apps.files import shares as shares_module
from coterie.apps.files.sweeping import Sweeping
from coterie.errors import LimitExceeded, NotFound, UsageError
from tests.apps.files.nodes import coterie, pair, prepare_home
from tests.fakes.disks import real_disk
from tests.support import run


def test_the_list_says_what_changed_and_update_takes_it_in(tmp_path: Path) -> None:
    async def main() -> None:
        one, two, gone = (tmp_path / name for name in ("one", "two", "gone"))
        for top in (one, two, gone):
            top.mkdir()
            (top / "a").write_text("a")
        async with pair(tmp_path) as (anna, ben):
            tickets = {top: (await anna.files.share(top)).ticket for top in (one, two, gone)}
            assert [line.state for line in await anna.files.shares()] == ["ready"] * 3
            assert await anna.files.update() == []
            (one / "a").write_text("longer")
            (one / "b").write_text("b")
            (gone / "a").unlink()
            gone.rmdir()
            states = {line.path: line.state for line in await anna.files.shares()}
            assert "1 added, 1 changed since" in states[str(one)]
            assert "1 gone since" in states[str(gone)]
            changes = await anna.files.changes("one")
            assert (changes.changes.added_names, changes.changes.changed_names) == (["b"], ["a"])
            assert "new: b" in changes.text()
            first, second = await anna.files.update()
            assert (first.path, first.changes, first.is_incomplete()) == (
                str(one),
                "1 added, 1 changed",
                False,
            )
            assert (second.path, second.is_incomplete()) == (str(gone), True)
            assert "there is no" in second.text()
            assert [line.state for line in await anna.files.shares()][:2] == ["ready"] * 2
            await ben.files.get(tickets[one], tmp_path / "copy")
            assert (tmp_path / "copy" / "b").read_text() == "b"
            with pytest.raises(NotFound):
                await anna.files.update(tmp_path / "never")

    run(main())


def test_a_share_too_large_to_look_through_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        (tmp_path / "one").mkdir()
        async with pair(tmp_path) as (anna, _):
            await anna.files.share(tmp_path / "one")
            monkeypatch.setattr(shares_module, "LOOK_S", -1.0)
            monkeypatch.setattr(shares_module, "LOOK_ONE_S", -1.0)
            (line,) = await anna.files.shares()
            assert line.state == "ready (too large to look for changes)"
            with pytest.raises(LimitExceeded):
                await anna.files.changes("one")

    run(main())


@pytest.mark.parametrize("disk", ["with change times", "exfat"])
def test_a_change_that_kept_size_and_date_is_taken_in_where_its_time_shows_and_by_reread(
    tmp_path: Path, disk: str
) -> None:
    async def main(path: Path) -> None:
        path.write_text("first")
        os.utime(path, ns=(0, 1_000_000_000_000_000_000))
        async with pair(tmp_path) as (anna, ben):
            ticket = (await anna.files.share(path)).ticket
            path.write_text("other")
            os.utime(path, ns=(0, 1_000_000_000_000_000_000))
            await anna.files.share(path)
            if disk == "exfat":
                with pytest.raises(NotFound, match="it changed on the other computer"):
                    await ben.files.get(ticket, tmp_path / "copy")
                await anna.files.update(path, reread=True)
            await ben.files.get(ticket, tmp_path / "copy")
            assert (tmp_path / "copy").read_text() == "other"

    if disk == "exfat":
        with real_disk(tmp_path, disk) as mounted:
            run(main(mounted / "one"))
    else:
        run(main(tmp_path / "one"))


def test_a_home_folder_is_shared_only_if_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        person = tmp_path / "people" / "anna"
        person.mkdir(parents=True)
        (person / "letter").write_text("dear ben")
        monkeypatch.setenv("HOME", str(person))
        (tmp_path / "link").symlink_to(person)
        async with pair(tmp_path) as (anna, _):
            for path, why in (
                (person, "is a home folder"),
                (tmp_path / "link", "is a home folder"),
                (person.parent, "with home folders in it"),
                (Path("/"), "everything on this disk"),
            ):
                with pytest.raises(Sweeping, match=why):
                    await anna.files.share(path)
            assert await anna.files.shares() == []
            await anna.files.share(person / "letter")
            await anna.files.share(person, everything=True)
            await anna.files.share(person)  # it was said once
            with pytest.raises(UsageError, match="own data"):
                await anna.files.share(anna.home, everything=True)

    run(main())


def test_without_a_terminal_the_command_names_the_option(tmp_path: Path) -> None:
    home, person = prepare_home(tmp_path / "home"), tmp_path / "person"
    person.mkdir()
    done = coterie(home, "share", str(person), env=os.environ | {"HOME": str(person)})
    assert done.returncode == 1
    assert "--everything" in done.stderr


def test_a_share_changed_while_it_is_looked_at_is_one_share(tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "one"
        path.write_text("first")
        async with pair(tmp_path) as (anna, _):
            first, second = await asyncio.gather(anna.files.share(path), anna.files.share(path))
            assert first.id == second.id
            assert len(await anna.files.shares()) == 1

    run(main())
