"""Programs that people have, at the drive: each lists, reads, and writes where it may."""

import os
from pathlib import Path

import pytest

from coterie.errors import StorageError, UsageError
from coterie.node import Node
from tests.apps.drive.web import Drive, drive, program, wanted
from tests.apps.files.test_places import BIG, photos
from tests.support import run


async def opened(anna: Node, at: Drive, folder: Path) -> tuple[Path, str]:
    """A folder of anna's that the drive may change, and its address."""
    top = photos(folder)
    await anna.files.share(top, to=[str(at.node.peer_id)], write=True)
    return top, f"http://127.0.0.1:{at.port}/{at.name}/photos/"


def test_curl(tmp_path: Path) -> None:
    wanted("curl")

    async def scene() -> None:
        async with drive(tmp_path) as (anna, at):
            top, url = await opened(anna, at, tmp_path)
            by_name = url.replace("127.0.0.1", "drive.localhost")
            await program("curl", "-fsS", "-o", tmp_path / "got", f"{by_name}2024/big.mov")
            assert (tmp_path / "got").read_bytes() == BIG
            (tmp_path / "got").write_bytes(BIG[:1_000_000])
            await program("curl", "-fsS", "-C", "-", "-o", tmp_path / "got", f"{url}2024/big.mov")  # goes on
            assert (tmp_path / "got").read_bytes() == BIG
            await program("curl", "-fsS", "-T", tmp_path / "got", f"{url}up.mov")
            assert (top / "up.mov").read_bytes() == BIG

    run(scene(), 60)


def test_cadaver(tmp_path: Path) -> None:
    wanted("cadaver")

    async def scene() -> None:
        async with drive(tmp_path) as (anna, at):
            top, url = await opened(anna, at, tmp_path)
            (tmp_path / "mine").write_bytes(b"mine")
            orders = [
                "ls", f"put {tmp_path}/mine mine", "mkcol folder", "move mine folder/mine",
                f"get 2024/a.jpg {tmp_path}/a.jpg", "delete readme", "quit",
            ]  # fmt: skip
            said = await program("cadaver", url, feed="\n".join(orders) + "\n", HOME=str(tmp_path))
            assert "2024" in said
            assert "failed" not in said, said
            assert (top / "folder/mine").read_bytes() == b"mine"
            assert (tmp_path / "a.jpg").read_bytes() == b"small"
            assert not (top / "readme").exists()

    run(scene(), 60)


def test_rclone(tmp_path: Path) -> None:
    wanted("rclone")

    async def scene() -> None:
        async with drive(tmp_path) as (anna, at):
            top, url = await opened(anna, at, tmp_path)
            at_drive = ("--webdav-url", url, "--webdav-vendor", "owncloud", "--config", "/dev/null")
            listed = await program("rclone", "lsf", "-R", ":webdav:", *at_drive)
            assert "2024/summer/b.jpg" in listed
            await program("rclone", "copy", ":webdav:2024", tmp_path / "copy", *at_drive)
            assert (tmp_path / "copy/big.mov").read_bytes() == BIG
            (tmp_path / "copy/new").write_bytes(b"new")
            os.utime(tmp_path / "copy/new", (1_700_000_000, 1_700_000_000))
            await program("rclone", "sync", tmp_path / "copy", ":webdav:2025", *at_drive)
            assert (top / "2025/big.mov").read_bytes() == BIG
            assert (top / "2025/new").stat().st_mtime == 1_700_000_000
            await program("rclone", "check", tmp_path / "copy", ":webdav:2025", "--size-only", *at_drive)

    run(scene(), 80)


def test_davfs2(tmp_path: Path) -> None:
    wanted("mount.davfs", "umount")
    if os.geteuid() or not Path("/dev/fuse").exists():
        pytest.skip("mounting needs root and /dev/fuse")

    async def scene() -> None:
        async with drive(tmp_path) as (anna, at):
            top, url = await opened(anna, at, tmp_path)
            folder = tmp_path / "mounted"
            folder.mkdir()
            conf = tmp_path / "davfs2.conf"
            conf.write_text("buf_size 128\nask_auth 0\nuse_locks 1\ndelay_upload 0\n")
            await program("mount.davfs", "-o", f"conf={conf},uid=0,gid=0", url, folder, feed="\n\n")
            try:
                script = (
                    f"set -e; cd {folder}; ls 2024; cmp 2024/big.mov {top}/2024/big.mov; echo written > new.txt;"
                    " mkdir folder; mv new.txt folder/moved.txt; rm readme; cd /"
                )
                said = await program("/bin/sh", "-c", script)
                assert "big.mov" in said
            finally:
                await program("umount", folder)
            assert (top / "folder/moved.txt").read_text() == "written\n"
            assert not (top / "readme").exists()

    run(scene(), 100)


def test_gio(tmp_path: Path) -> None:
    wanted("gio", "dbus-run-session")

    async def scene() -> None:
        async with drive(tmp_path) as (anna, at):
            top, url = await opened(anna, at, tmp_path)
            dav = url.replace("http", "dav", 1)
            (tmp_path / "mine").write_bytes(b"mine")
            script = (
                f"set -e; gio mount {dav}; gio list {dav}; gio cat {dav}2024/a.jpg; gio copy {tmp_path}/mine {dav}mine;"
                f" gio rename {dav}mine theirs; gio mkdir {dav}folder; gio mount -u {dav}"
            )
            (tmp_path / "run").mkdir(mode=0o700)
            said = await program(
                "dbus-run-session",
                "--",
                "/bin/sh",
                "-c",
                script,
                HOME=str(tmp_path),
                XDG_RUNTIME_DIR=str(tmp_path / "run"),
            )
            assert "2024" in said
            assert "small" in said
            assert (top / "theirs").read_bytes() == b"mine"
            assert (top / "folder").is_dir()

    run(scene(), 80)


def test_it_is_a_folder_by_fuse(tmp_path: Path) -> None:
    if os.geteuid() or not Path("/dev/fuse").exists():
        pytest.skip("mounting needs root and /dev/fuse")

    async def scene() -> None:
        async with drive(tmp_path) as (anna, at):
            top, _ = await opened(anna, at, tmp_path)
            os.utime(top / "2024/big.mov", (1_600_000_000, 1_600_000_000))
            folder = tmp_path / "mounted"
            with pytest.raises(StorageError, match="cannot be made"):
                await at.node.drive.mount(folder / "none" / "below")
            (tmp_path / "file").touch()
            with pytest.raises(UsageError, match="no folder"):
                await at.node.drive.mount(tmp_path / "file")
            assert (await at.node.drive.mount(folder)).mounts == [str(folder)]
            await at.node.drive.unmount(folder)
            assert not folder.exists()  # it was made for it
            folder.mkdir()
            (folder / "x").touch()
            with pytest.raises(UsageError, match="not empty"):
                await at.node.drive.mount(folder)
            (folder / "x").unlink()
            assert (await at.node.drive.mount(folder)).mounts == [str(folder)]
            here = f"{folder}/{at.name}/photos"
            script = (
                f"set -e; cd {here}; ls -l 2024; cmp 2024/big.mov {top}/2024/big.mov;"
                " echo written > new.txt; echo more >> new.txt;"
                " mkdir folder; mv new.txt folder/moved.txt; cat folder/moved.txt; rm readme;"
                f" cp -p {top}/2024/big.mov twice;"
                " tail -c 5 2024/big.mov | wc -c; rm -r 2023; ! cat none"
            )
            said = await program("/bin/sh", "-c", script)
            assert "big.mov" in said
            assert (top / "folder/moved.txt").read_text() == "written\nmore\n"
            assert (top / "twice").read_bytes() == BIG
            assert int((top / "twice").stat().st_mtime) == int((top / "2024/big.mov").stat().st_mtime)
            assert not (top / "readme").exists()
            assert not (top / "2023").exists()
            await anna.files.share(top, to=[str(at.node.peer_id)])  # to be read only
            refused = f"cd {here}; for _ in $(seq 60); do echo x > denied || exit 0; rm denied; sleep 0.1; done; exit 1"
            await program("/bin/sh", "-c", refused)
            assert (await at.node.drive.unmount(folder)).mounts == []
            assert list(folder.iterdir()) == []
            with pytest.raises(UsageError, match="not mounted"):
                await at.node.drive.unmount(folder)

    run(scene(), 60)
