"""Live folders in the drive: beside the computers, read whole, written on the disk, and followed by the others."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from coterie.node import Node
from tests.apps.drive.web import Drive, drive, program
from tests.apps.files.test_places import photos
from tests.support import run

MIB = 1 << 20


async def until(what: Callable[[], bool], why: str, seconds: float = 15) -> None:
    """Wait for it; fails with `why`."""
    for _ in range(int(seconds / 0.05)):
        if what():
            return
        await asyncio.sleep(0.05)
    raise AssertionError(why)


async def together(anna: Node, at: Drive, folder: Path, *, role: str = "write") -> tuple[Path, Path]:
    """A live folder of both, where it lies at anna's and at the drive's."""
    there, here = folder / "there", folder / "here"
    there.mkdir()
    (there / "sub").mkdir()
    (there / "sub/a.txt").write_bytes(b"from anna")
    (there / "big").write_bytes(bytes(range(256)) * 8192)
    await anna.folders.new(there, [f"{at.node.peer_id}:{role}"], "Projects")
    name = anna.people.name_of(at.node.peer_id)
    assert name
    await until(lambda: any(line.state == "offered" for line in at.node.folders.lines()), "not offered")
    await at.node.folders.join("Projects", here, yes=True)
    await until(lambda: (here / "sub/a.txt").exists() and (here / "big").exists(), "did not come")
    return there, here


def test_they_lie_beside_the_computers_and_are_changed_for_all(tmp_path: Path) -> None:
    async def scene() -> None:
        async with drive(tmp_path) as (anna, at):
            there, here = await together(anna, at, tmp_path)
            names = (await at.ask("PROPFIND", "", Depth="1")).body
            assert b"<D:href>/Projects/</D:href>" in names
            assert f"<D:href>/{at.name}/</D:href>".encode() in names
            got = await at.ask("GET", "Projects/sub/a.txt", Range="bytes=5-")
            assert (got.status, got.body) == (206, b"anna")
            large = os.urandom(3 * MIB)
            for name, data, status in (
                ("sub/a.txt", b"changed", 204),
                ("new", b"new", 201),
                ("large", large, 201),
            ):
                answer = await at.ask("PUT", f"Projects/{name}", data, X_OC_Mtime="1700000000")
                assert answer.status == status, answer
                assert (here / name).read_bytes() == data
                assert (here / name).stat().st_mtime == 1_700_000_000
                assert (await at.ask("GET", f"Projects/{name}")).body == data
            assert (await at.ask("MKCOL", "Projects/made")).status == 201
            to = f"http://drive.localhost:{at.port}/Projects"
            assert (await at.ask("MOVE", "Projects/sub", Destination=f"{to}/made/moved")).status == 201
            assert (await at.ask("COPY", "Projects/made", Destination=f"{to}/twice")).status == 201
            assert (await at.ask("DELETE", "Projects/big")).status == 204
            wanted = ["twice/moved/a.txt", "large", "made/moved/a.txt"]
            await until(lambda: all((there / name).exists() for name in wanted), "not followed")
            await until(lambda: not (there / "big").exists(), "not followed")
            assert (there / "made/moved/a.txt").read_bytes() == b"changed"
            assert (there / "large").read_bytes() == large
            for path, method in (("Projects", "DELETE"), ("Projects", "MOVE"), ("Projects/made", "PUT")):
                answer = await at.ask(method, path, Destination=f"{to}2")
                assert answer.status in (403, 405, 409), (method, answer)
            assert not any(name.startswith(".coterie-partial") for name in os.listdir(here))
            kept = {Path(line.path).name for line in await at.node.folders.versions("Projects", "")}
            assert {"big", "a.txt"} <= kept

    run(scene(), 60)


def test_between_a_share_and_a_live_folder_it_is_copied(tmp_path: Path) -> None:
    async def scene() -> None:
        async with drive(tmp_path) as (anna, at):
            _, here = await together(anna, at, tmp_path)
            top = photos(tmp_path)
            await anna.files.share(top, to=[str(at.node.peer_id)], write=True)
            root = f"http://drive.localhost:{at.port}"
            away = f"{at.name}/photos"
            to = f"{root}/Projects/year"
            assert (await at.ask("MOVE", f"{away}/2024", Destination=to)).status == 201
            assert (here / "year/summer/b.jpg").read_bytes() == b"nested"
            assert not (top / "2024").exists()
            assert (await at.ask("COPY", "Projects/big", Destination=f"{root}/{away}/big")).status == 201
            assert (top / "big").read_bytes() == (here / "big").read_bytes()

    run(scene(), 60)


def test_who_may_only_read_changes_nothing(tmp_path: Path) -> None:
    async def scene() -> None:
        async with drive(tmp_path) as (anna, at):
            there, here = await together(anna, at, tmp_path, role="read")
            before = sorted(path.relative_to(here) for path in here.rglob("*"))
            to = f"http://drive.localhost:{at.port}/Projects/x"
            for method in ("PUT", "DELETE", "MKCOL", "MOVE", "COPY", "PROPPATCH", "LOCK"):
                for path in ("Projects/sub/a.txt", "Projects/new", "Projects/sub/%2e%2e/new", "Projects/sub"):
                    answer = await at.ask(method, path, b"x" if method == "PUT" else None, Destination=to)
                    assert answer.status in (403, 404, 405), (method, path, answer)
            assert sorted(path.relative_to(here) for path in here.rglob("*")) == before
            assert (there / "sub/a.txt").read_bytes() == b"from anna"

    run(scene(), 60)


def test_a_folder_that_is_called_as_somebody_is_has_another_name(tmp_path: Path) -> None:
    async def scene() -> None:
        async with drive(tmp_path) as (anna, at):
            folder = tmp_path / "live"
            folder.mkdir()
            (folder / "x").write_bytes(b"x")
            await at.node.folders.new(folder, [str(anna.peer_id)], at.name.upper())
            assert (await at.ask("GET", f"{at.name.upper()} (folder)/x")).body == b"x"
            assert (await at.ask("GET", f"{at.name}/x")).status == 404
            await at.node.folders.pause(at.name.upper())
            paused = await at.ask("GET", f"{at.name.upper()} (folder)/x")
            assert (paused.status, b"folder resume" in paused.body) == (409, True)
            assert (await at.ask("PUT", f"{at.name.upper()} (folder)/y", b"y")).status in (403, 409)

    run(scene())


def test_pipes_links_and_what_cannot_be_read_hang_nothing(tmp_path: Path) -> None:
    async def scene() -> None:
        async with drive(tmp_path) as (anna, at):
            _, here = await together(anna, at, tmp_path)
            os.mkfifo(here / "pipe")
            (here / "broken").symlink_to("nowhere")
            (here / "out").symlink_to("/etc")
            (here / "closed").write_bytes(b"x")
            (here / "closed").chmod(0)
            listed = (await at.ask("PROPFIND", "Projects", Depth="1")).body
            assert b"pipe" not in listed
            assert b"closed" in listed
            for name in ("pipe", "broken", "out", "out/passwd", ".coterie-folder/id"):
                assert (await at.ask("GET", f"Projects/{name}")).status in (403, 404), name
                assert (await at.ask("PUT", f"Projects/{name}", b"x")).status in (403, 404, 409, 507), name
            assert not (here / "nowhere").exists()

    run(scene(), 60)


def test_they_are_folders_by_fuse(tmp_path: Path) -> None:
    if os.geteuid() or not Path("/dev/fuse").exists():
        pytest.skip("mounting needs root and /dev/fuse")

    async def scene() -> None:
        async with drive(tmp_path) as (anna, at):
            there, here = await together(anna, at, tmp_path)
            await at.node.drive.mount(tmp_path / "mounted")
            try:
                script = (
                    f"set -e; cd {tmp_path}/mounted/Projects; cmp big {here}/big; cat sub/a.txt; echo;"
                    " echo more >> sub/a.txt; mkdir made; mv sub made/moved; rm big; test ! -e big;"
                    " df --output=avail . | tail -1"
                )
                said = await program("/bin/sh", "-c", script)
                assert said.startswith("from anna")
                assert int(said.splitlines()[-1].split()[-1]) > 0
            finally:
                await at.node.drive.unmount(tmp_path / "mounted")
            assert (here / "made/moved/a.txt").read_bytes() == b"from annamore\n"
            await until(
                lambda: (there / "made/moved/a.txt").exists() and not (there / "big").exists(), "not followed"
            )

    run(scene(), 60)


def test_what_is_not_on_this_disk_is_listed_read_written_over_and_removed(tmp_path: Path) -> None:
    async def scene() -> None:
        async with drive(tmp_path) as (anna, at):
            there, here = await together(anna, at, tmp_path)
            await until(lambda: anna.folders.lines()[0].unsent == 0, "it is not known that it came")
            await at.node.folders.choosing("Projects").select(
                ["*"], on_demand=True, remove=False, larger_than=None, kinds=[]
            )
            await until(lambda: not (here / "big").exists() and not (here / "sub/a.txt").exists(), "it stays")
            data = (there / "big").read_bytes()
            listed = (await at.ask("PROPFIND", "Projects", Depth="1")).body
            assert f"<D:getcontentlength>{len(data)}<".encode() in listed
            assert (await at.ask("GET", "Projects/big")).body == data
            part = await at.ask("GET", "Projects/big", Range="bytes=1000000-1000099")
            assert (part.status, part.body) == (206, data[1_000_000:1_000_100])
            to = f"http://drive.localhost:{at.port}/Projects"
            assert (await at.ask("MOVE", "Projects/big", Destination=f"{to}/sub/moved")).status == 201
            assert (await at.ask("PUT", "Projects/sub/a.txt", b"from ben")).status in (201, 204)
            await until(lambda: (there / "sub/a.txt").read_bytes() == b"from ben", "not followed")
            await until(lambda: (there / "sub/moved").exists() and not (there / "big").exists(), "not moved")
            assert (there / "sub/moved").read_bytes() == data
            assert sorted(path.name for path in (there / "sub").iterdir()) == [
                "a.txt",
                "moved",
            ]  # no conflict
            assert (await at.ask("DELETE", "Projects/sub/moved")).status == 204
            await until(lambda: not (there / "sub/moved").exists(), "not removed")
            assert not (here / "big").exists()

    run(scene(), 60)


def test_nothing_is_written_where_the_disk_of_a_live_folder_is_away(tmp_path: Path) -> None:
    """Into the empty folder on which it was mounted: it would be hidden once the disk is back."""

    async def scene() -> None:
        async with drive(tmp_path) as (anna, at):
            _, here = await together(anna, at, tmp_path)
            here.rename(tmp_path / "away")
            here.mkdir()
            await until(lambda: at.node.folders.lines()[0].state == "gone", "not noticed")
            for method, place, body in (("PUT", "new", b"x"), ("MKCOL", "new", b""), ("GET", "big", b"")):
                answer = await at.ask(method, f"Projects/{place}", body)
                assert answer.status == 507, answer
                assert b"has lost its marker" in answer.body
            assert (await at.ask("PROPFIND", "Projects", Depth="1")).status == 507, "not an empty folder"
            assert b"/Projects/" in (await at.ask("PROPFIND", "", Depth="1")).body
            assert list(here.iterdir()) == []
            here.rmdir()
            (tmp_path / "away").rename(here)
            await until(lambda: at.node.folders.lines()[0].state == "in sync", "not back")
            assert (await at.ask("PUT", "Projects/new", b"x")).status == 201

    run(scene(), 60)


def test_a_file_that_a_program_makes_before_it_writes_leaves_no_version_of_nothing(tmp_path: Path) -> None:
    """FUSE and WebDAV clients do: nobody is to find an empty file among what was changed and replaced."""

    async def scene() -> None:
        async with drive(tmp_path) as (anna, at):
            there, here = await together(anna, at, tmp_path)
            (tmp_path / "open").mkdir()
            (tmp_path / "open/old").write_bytes(b"old")
            await anna.files.share(tmp_path / "open", to=[str(at.node.peer_id)], write=True)
            for place in ("Projects/new", f"{at.name}/open/new"):
                assert (await at.ask("PUT", place, b"")).status == 201
                if place.startswith("Projects"):
                    await until((there / "new").exists, "the empty file did not come")
                assert (await at.ask("PUT", place, b"something")).status == 204
            await until(lambda: (there / "new").read_bytes() == b"something", "did not come")
            assert (tmp_path / "open/new").read_bytes() == b"something"
            assert await anna.folders.versions("Projects", "") == []
            assert await anna.folders.undo("Projects", "") == []
            assert [one for one in anna.versions.kept() if one.original.name == "new"] == []
            assert (await at.ask("PUT", f"{at.name}/open/old", b"x")).status == 204
            assert [one.original.name for one in anna.versions.kept()] == ["old"]
            assert here.is_dir()

    run(scene(), 60)
