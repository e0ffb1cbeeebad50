"""Where what is got goes: a separator at the end says that it goes into a folder, made where there is none."""

import codecs
import gzip
import os
from pathlib import Path

import pytest

from coterie.apps.command import commands_of
from coterie.apps.files import commands
from coterie.apps.invoke import Result, invoke
from coterie.errors import UsageError
from coterie.node import Node
from coterie.transfer.target import place_at, whole_target
from tests.apps.files.nodes import pair
from tests.support import run

GET = next(c for c in commands_of("files", commands) if c.path == ("get",))


async def got(node: Node, ticket: str, target: str) -> str:
    """Where `coterie get` puts it."""
    given = {"ticket": ticket, "target": target, "here": "/"}
    ended = [item async for item in invoke(GET, node.files, given)]
    assert isinstance(ended[-1], Result)
    return str(ended[-1].value["path"])


def test_a_separator_at_the_end_makes_a_folder(tmp_path: Path) -> None:
    async def main() -> None:
        (tmp_path / "photos").mkdir()
        (tmp_path / "photos" / "a").write_text("a")
        (tmp_path / "one").write_text("1")
        async with pair(tmp_path) as (anna, ben):
            folder = (await anna.files.share(tmp_path / "photos")).ticket
            one = (await anna.files.share(tmp_path / "one")).ticket
            new = tmp_path / "new"
            assert await got(ben, folder, f"{new}/") == str(new / "photos")
            assert (new / "photos" / "a").read_text() == "a"
            assert await got(ben, one, f"{tmp_path}/single/") == str(tmp_path / "single" / "one")
            assert await got(ben, one, f"{new}/") == str(new / "one")  # it is there by now
            assert await got(ben, one, f"{tmp_path}/plain") == str(tmp_path / "plain")
            assert await got(ben, folder, f"{new}/") == str(new / "photos")  # the same again is an update
            with pytest.raises(UsageError, match="no folder"):
                await got(ben, one, f"{tmp_path}/no/such/")
            with pytest.raises(UsageError, match="is no folder"):
                await got(ben, folder, f"{tmp_path}/plain/")
            assert not (tmp_path / "no").exists()

    run(main())


def test_a_torrent_in_gzip_goes_into_a_folder_that_is_made(tmp_path: Path) -> None:
    async def main() -> None:
        (tmp_path / "one.bin").write_bytes(os.urandom(50_000))
        async with pair(tmp_path) as (anna, ben):
            shared = await anna.files.share(tmp_path / "one.bin", bittorrent=True)
            packed = tmp_path / "packed"
            packed.write_bytes(gzip.compress(codecs.BOM_UTF8 + Path(shared.torrent).read_bytes()))
            begun = await ben.files.get_detached(str(packed), f"{tmp_path}/in/")
            done = await ben.files.get(shared.magnet, f"{tmp_path}/in/")  # a torrent file names no peers
            assert (done.id, done.path) == (begun.id, str(tmp_path / "in" / "one.bin"))
            assert Path(done.path).read_bytes() == (tmp_path / "one.bin").read_bytes()

    run(main(), 60)


def test_a_place_is_told_before_anything_is_made(tmp_path: Path) -> None:
    assert whole_target(Path("a")) == f"{Path.cwd()}/a"
    assert whole_target("/x/../a/") == "/a/"
    assert whole_target("/") == "/"
    assert place_at(f"{tmp_path}/new/", "film") == tmp_path / "new" / "film"
    assert place_at(f"{tmp_path}/new", "film") == tmp_path / "new"
    assert not (tmp_path / "new").exists()
