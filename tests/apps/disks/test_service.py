"""Disks of one node used by another, over the memory network, by the programs that people have."""

import asyncio
import os
from pathlib import Path

import pytest

from coterie.apps.disks import service
from coterie.errors import LimitExceeded, NotFound, UsageError
from tests.apps.disks.programs import done, ended, need
from tests.apps.files.nodes import friends
from tests.support import run

SIZE = 20 << 20


def image(folder: Path, size: int = SIZE) -> Path:
    """A file of random bytes."""
    path = folder / "stick.img"
    path.write_bytes(os.urandom(size))
    return path


def test_an_image_is_read_by_programs_of_the_other_computer(tmp_path: Path) -> None:
    need("nbdinfo", "nbdcopy", "qemu-img")

    async def play() -> None:
        path = image(tmp_path)
        async with friends(tmp_path) as (anna, ben):
            shared = await anna.disks.share(path, ["contacts"])
            assert (shared.name, shared.form, shared.size) == ("stick.img", "image", SIZE)
            line = await ben.disks.attach(f"{anna.peer_id}/stick.img")
            listed = await done("nbdinfo", "--list", line.uri.replace(line.uri.split("?")[0], "nbd+unix:///"))
            assert f'export="{line.place}"' in listed
            assert "is_read_only: true" in listed
            await done("nbdcopy", line.uri, tmp_path / "copy")
            assert (tmp_path / "copy").read_bytes() == path.read_bytes()
            await done("qemu-img", "convert", "-O", "raw", line.uri, tmp_path / "again")
            assert (tmp_path / "again").read_bytes() == path.read_bytes()
            assert anna.disks.given_bytes("stick.img") <= 1.05 * SIZE

    run(play())


def test_a_disk_that_is_not_written_cannot_be(tmp_path: Path) -> None:
    need("qemu-io", "nbdcopy")

    async def play() -> None:
        path = image(tmp_path, 1 << 20)
        before = path.read_bytes()
        async with friends(tmp_path) as (anna, ben):
            await anna.disks.share(path, ["contacts"])
            line = await ben.disks.attach(f"{anna.peer_id}/stick.img")
            status, _ = await ended("qemu-io", "-f", "raw", "-c", "write 0 4k", line.uri)
            assert status
            (tmp_path / "zero").write_bytes(bytes(1 << 20))
            status, _ = await ended("nbdcopy", tmp_path / "zero", line.uri)
            assert status
            with pytest.raises(Exception, match="read this disk"):
                await ben.disks.attach(f"{anna.peer_id}/stick.img", write=True)
        assert path.read_bytes() == before

    run(play())


def test_a_writer_changes_the_far_disk(tmp_path: Path) -> None:
    need("qemu-io", "nbdcopy")

    async def play() -> None:
        path = image(tmp_path, 3 << 20)
        async with friends(tmp_path) as (anna, ben):
            await anna.disks.share(path, ["contacts"], write=True)
            line = await ben.disks.attach(f"{anna.peer_id}/stick.img", write=True)
            said = await done(
                "qemu-io", "-f", "raw", "-c", "write -P 7 1000k 300k", "-c", "flush", "-c", "read -P 7 1000k 300k",
                "-c", "write -z 0 64k", "-c", "read -P 0 0 64k", "-c", "discard 128k 64k", line.uri,
            )  # fmt: skip
            assert "verification failed" not in said
            assert path.read_bytes()[1_024_000 : 1_024_000 + 307_200] == b"\x07" * 307_200
            assert path.read_bytes()[:65_536] == bytes(65_536)
            fresh = os.urandom(3 << 20)
            (tmp_path / "fresh").write_bytes(fresh)
            await done("nbdcopy", tmp_path / "fresh", line.uri)
            assert path.read_bytes() == fresh

    run(play())


def test_who_is_not_named_learns_nothing(tmp_path: Path) -> None:
    async def play() -> None:
        path = image(tmp_path, 1_000)
        async with friends(tmp_path) as (anna, ben):
            anna.service("circles").create("home")
            await anna.disks.share(path, ["home"])
            with pytest.raises(NotFound) as refused:
                await ben.disks.attach(f"{anna.peer_id}/stick.img")
            with pytest.raises(NotFound) as missing:
                await ben.disks.attach(f"{anna.peer_id}/other")
            assert str(refused.value) == str(missing.value)
            assert await ben.disks.all() == []

    run(play())


def test_a_disk_that_is_new_is_a_notice_of_those_whom_it_is_for(tmp_path: Path) -> None:
    async def play() -> None:
        path = image(tmp_path, 1 << 20)
        async with friends(tmp_path) as (anna, ben):
            await anna.disks.share(path, ["contacts"], write=True)
            async with asyncio.timeout(10):
                while not (told := [notice.said for notice in ben.notices.all() if "disk" in notice.said]):
                    await asyncio.sleep(0.01)
            assert told[0].endswith("/stick.img, 1.0 MB")
            (line,) = await ben.disks.all()
            assert (line.use, line.form, line.size, line.write) == ("offered", "image", 1 << 20, True)
            await anna.disks.share(path, ["contacts"])  # again: nothing new

    run(play())


def test_what_cannot_be_shared_or_attached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "SHARED_MAX", 1)
    monkeypatch.setattr(service, "ATTACHED_MAX", 1)

    async def play() -> None:
        path = image(tmp_path, 4_096)
        async with friends(tmp_path) as (anna, ben):
            for wrong in ("a/b", "-x", "x" * 64):
                with pytest.raises(UsageError, match="name of a disk"):
                    await anna.disks.share(path, ["contacts"], name=wrong)
            with pytest.raises(UsageError):
                await anna.disks.share(path, [])
            with pytest.raises(NotFound):
                await anna.disks.share(tmp_path / "missing", ["contacts"])
            await anna.disks.share(path, ["contacts"], name="one")
            with pytest.raises(LimitExceeded):
                await anna.disks.share(path, ["contacts"], name="two")
            with pytest.raises(UsageError, match="no disc"):
                await anna.disks.eject("one")
            await ben.disks.attach(f"{anna.peer_id}/one")
            monkeypatch.setattr(service, "SHARED_MAX", 2)
            await anna.disks.share(path, ["contacts"], name="two")
            with pytest.raises(LimitExceeded):
                await ben.disks.attach(f"{anna.peer_id}/two")
            with pytest.raises(UsageError, match="this computer itself"):
                await anna.disks.attach(f"{anna.peer_id}/one")
            await ben.disks.detach(f"{anna.peer_id}/one")
            with pytest.raises(NotFound):
                await ben.disks.detach(f"{anna.peer_id}/one")

    run(play())
