"""Folders that somebody keeps and cannot read: changes go through a keeper, and nothing of them can be read there."""

import os
from pathlib import Path

from coterie.apps.folders.app import APP
from coterie.apps.folders.folder_keys import open_keys
from coterie.apps.folders.kept_folders import AsksQuota
from coterie.errors import UsageError
from coterie.node import Node
from coterie.testing import Cast, play, raised
from tests.apps.folders.test_folders import files_in, until

QUOTA = 100_000_000


async def kept_by_carl(
    cast: Cast, tmp_path: Path, *, whom: str = "ben"
) -> tuple[Node, Node, Node, Path, Path]:
    """Anna has a live folder with ben, and carl keeps it. Ben has not joined yet."""
    anna, ben, carl = [await cast.node(name) for name in ("anna", "ben", "carl")]
    for one, other in ((anna, ben), (anna, carl), (ben, carl)):
        await cast.befriend(one, other)
    here, kept = tmp_path / "here", tmp_path / "kept"
    here.mkdir()
    await anna.folders.new(here, [whom, "carl:keep"], "Projects")
    await until(lambda: bool(carl.folders.lines()), "the offer to carl")
    (offer,) = carl.folders.lines()
    assert "Projects" not in offer.name
    with raised(AsksQuota, "how much"):
        await carl.folders.join(offer.name, kept, yes=False)
    await carl.folders.join(offer.name, kept, yes=False, quota=QUOTA)
    return anna, ben, carl, here, kept


def has_told(node: Node, files: int) -> bool:
    """Whether somebody else has all of its live folder with so many files."""
    (line,) = node.folders.lines()
    return line.files == files and line.unsent == 0


def test_a_keeper_carries_changes_between_two_that_are_never_on_together(tmp_path: Path) -> None:
    async def story(cast: Cast) -> None:
        anna, ben, carl, here, _ = await kept_by_carl(cast, tmp_path)
        there = tmp_path / "there"
        await until(lambda: bool(ben.folders.lines()), "the offer to ben")
        await ben.folders.join("anna/Projects", there, yes=False)
        (here / "a.txt").write_text("one")
        await until(lambda: files_in(there) == {"a.txt": b"one"}, "the file, from anna herself")
        await cast.stop("ben")
        (here / "a.txt").write_text("two, while ben is off")
        (here / "sub").mkdir()
        (here / "sub" / "b.bin").write_bytes(bytes(range(256)) * 5_000)
        expected = files_in(here)
        await until(lambda: has_told(anna, 2), "carl has it with its contents")
        assert carl.folders.lines()[0].missing == 0
        await cast.stop("anna")
        ben = await cast.node("ben")
        await until(lambda: files_in(there) == expected, "ben has it from carl")
        (there / "c.txt").write_text("by ben")
        await until(lambda: has_told(ben, 3), "carl has ben's")
        await cast.stop("ben")
        await cast.node("anna")
        await until(lambda: files_in(here).get("c.txt") == b"by ben", "anna has it from carl")

    play(story, tmp_path / "homes", apps=[APP], in_real_time=True)


def test_a_computer_gets_the_whole_folder_from_a_keeper_who_can_read_nothing_of_it(tmp_path: Path) -> None:
    async def story(cast: Cast) -> None:
        anna, ben, carl, here, kept = await kept_by_carl(cast, tmp_path)
        (here / "private names").mkdir()
        for number in range(20):
            (here / "private names" / f"treasure-{number}.txt").write_text(f"gold under tree {number}")
        (here / "big.bin").write_bytes(b"the same words again and again. " * 60_000)
        (here / "empty").touch()
        expected = files_in(here)
        await until(lambda: has_told(anna, 22), "carl has all")
        await until(lambda: any(line.state == "offered" for line in ben.folders.lines()), "the offer to ben")
        (keys_file,) = (tmp_path / "homes/anna/apps/folders/keys").glob("*")
        assert keys_file.stat().st_mode & 0o077 == 0
        ((_, secret),) = open_keys(keys_file.read_bytes()).keys
        await cast.stop("anna")
        await ben.folders.join("anna/Projects", tmp_path / "there", yes=False)
        await until(lambda: files_in(tmp_path / "there") == expected, "all of it, from carl", 30)
        assert carl.folders.lines()[0].size > 1_000
        await cast.stop("carl")
        await cast.stop("ben")
        for top in (kept, tmp_path / "homes" / "carl"):
            for path in [one for one in top.rglob("*") if one.is_file()]:
                seen = str(path.relative_to(top)).encode() + path.read_bytes()
                for word in (
                    b"Projects",
                    b"private names",
                    b"treasure",
                    b"gold under",
                    b"same words",
                    secret,
                ):
                    assert word not in seen, (path, word)

    play(story, tmp_path / "homes", apps=[APP], in_real_time=True)


def test_a_copy_that_was_full_goes_on_at_once_when_it_may_be_larger(tmp_path: Path) -> None:
    async def story(cast: Cast) -> None:
        anna, _ben, carl, here, _ = await kept_by_carl(cast, tmp_path)
        carl.folders.set_quota(carl.folders.lines()[0].name, 50_000)
        (here / "b.bin").write_bytes(os.urandom(200_000))
        await until(lambda: carl.folders.lines()[0].state == "full", "it is full")
        carl.folders.set_quota(carl.folders.lines()[0].name, QUOTA)
        assert carl.folders.lines()[0].state == "receiving", "it has room again"
        await until(lambda: has_told(anna, 1), "all of it comes", seconds=5.0)
        assert carl.folders.lines()[0].state == "keeps"
        with raised(UsageError, "cannot be read here"):
            carl.folders.entries(carl.folders.lines()[0].name, "")

    play(story, tmp_path / "homes", apps=[APP], in_real_time=True)
