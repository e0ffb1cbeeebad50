"""Disks between nodes as processes over QUIC: foreign programs, file systems, a kill in the middle, block devices."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.apps.disks.figures import fio
from tests.apps.disks.programs import PLACES, need
from tests.apps.expose.test_processes import befriend
from tests.apps.files.nodes import RunningNode, running_node

MIB = 1 << 20


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningNode, RunningNode]]:
    """Two nodes that are contacts of each other."""
    folder = tmp_path_factory.mktemp("disks")
    with running_node(folder / "anna") as anna, running_node(folder / "ben") as ben:
        befriend(anna, ben)
        yield anna, ben


def did(*words: str | Path) -> str:
    """What a program said that is to succeed."""
    program = shutil.which(str(words[0]), path=PLACES) or str(words[0])
    found = subprocess.run(
        [program, *map(str, words[1:])], capture_output=True, text=True, timeout=60, check=False
    )
    assert found.returncode == 0, f"{words[0]} ended with {found.returncode}: {found.stdout}{found.stderr}"
    return found.stdout


def attach(nodes: tuple[RunningNode, RunningNode], path: Path, name: str, *options: str) -> dict[str, str]:
    """Share an image at anna to be written, attach it at ben."""
    anna, ben = nodes
    anna.call("disk", "share", str(path), "--to", "contacts", "--write", "--as", name)
    place = f"{anna.call('status')['peer_id']}/{name}"
    found: dict[str, str] = ben.call("disk", "attach", place, "--write", *options)
    return found


def root_with_fuse() -> None:
    """Skip where nobody can mount; in CI that is a failure."""
    can = (
        os.geteuid() == 0 and os.access("/dev/fuse", os.R_OK | os.W_OK) and Path("/dev/loop-control").exists()
    )
    if not can and not os.environ.get("CI"):
        pytest.skip("mounting needs root, /dev/fuse and loop devices")
    assert can, "mounting needs root, /dev/fuse and loop devices, and CI must have them"


def test_fio_verifies_what_it_wrote(nodes: tuple[RunningNode, RunningNode], tmp_path: Path) -> None:
    need("fio")
    path = tmp_path / "fio.img"
    path.write_bytes(bytes(16 * MIB))
    uri = attach(nodes, path, "fio")["uri"]
    did(
        "fio", "--name=v", "--ioengine=nbd", f"--uri={uri}", "--rw=randwrite", "--bs=4k", "--iodepth=16", "--size=16m",
        "--verify=crc32c", "--verify_state_save=0", "--do_verify=1", "--verify_fatal=1", "--io_size=8m",
    )  # fmt: skip
    assert fio(uri, "randread", 16, seconds=1)["iops"] > 100
    nodes[1].call("disk", "detach", f"{nodes[0].call('status')['peer_id']}/fio")


def test_a_copy_by_nbdkit_and_nbdcopy_keeps_holes(
    nodes: tuple[RunningNode, RunningNode], tmp_path: Path
) -> None:
    need("nbdcopy", "nbdkit", "nbdinfo")
    path = tmp_path / "sparse.img"
    with path.open("wb") as file:
        file.truncate(32 * MIB)
        file.seek(20 * MIB)
        file.write(os.urandom(MIB))
    uri = attach(nodes, path, "sparse")["uri"]
    assert "hole,zero" in did("nbdinfo", "--map", uri)
    did("nbdcopy", uri, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == path.read_bytes()
    assert (tmp_path / "copy").stat().st_blocks * 512 < 4 * MIB
    place = f"{nodes[0].call('status')['peer_id']}/sparse"
    nodes[1].call("disk", "detach", place)


def test_a_file_system_is_whole_up_to_its_last_flush_when_its_owner_is_killed(
    nodes: tuple[RunningNode, RunningNode], tmp_path: Path
) -> None:
    need("nbdfuse", "losetup", "mkfs.ext4", "fsck.ext4", "debugfs")
    root_with_fuse()
    anna, _ = nodes
    path = tmp_path / "ext4.img"
    with path.open("wb") as file:
        file.truncate(48 * MIB)
    did("mkfs.ext4", "-q", "-F", path)
    device = attach(nodes, path, "ext4", "--device")["device"]
    assert device.startswith("/dev/")
    at = tmp_path / "mounted"
    at.mkdir()
    data = os.urandom(3 * MIB)
    did("mount", device, at)
    try:
        (at / "flushed").write_bytes(data)
        did("sync", "-f", at / "flushed")
        (at / "unflushed").write_bytes(data)
        anna.kill()
        shutil.copy(path, tmp_path / "as it was")
    finally:
        anna.up()
        did("umount", at)
    journal = subprocess.run(
        [shutil.which("fsck.ext4", path=PLACES) or "fsck.ext4", "-fy", str(tmp_path / "as it was")],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert journal.returncode in (0, 1), journal.stdout  # 1: the journal was played back
    did("fsck.ext4", "-fn", tmp_path / "as it was")
    did("debugfs", "-R", f"dump /flushed {tmp_path / 'flushed'}", tmp_path / "as it was")
    assert (tmp_path / "flushed").read_bytes() == data
    nodes[1].call("disk", "detach", f"{anna.call('status')['peer_id']}/ext4")
    did("fsck.ext4", "-fn", path)
    assert not Path(f"/sys/block/{device.removeprefix('/dev/')}/loop/backing_file").exists()


def test_usbip_sees_a_device_through_expose(nodes: tuple[RunningNode, RunningNode]) -> None:
    need("usbip")
    from tests.apps.disks.usb import usb_server

    with usb_server() as port:
        anna, ben = nodes
        anna.call("expose", str(port), "--as", "usb", "--to", "contacts")
        address = ben.call("connect", f"{anna.call('status')['peer_id']}/usb")["address"]
        told = did("usbip", "--tcp-port", address.rpartition(":")[2], "list", "-r", "127.0.0.1")
        assert "1d6b:0104" in told
        listed = ben.call("disk", "usb", address)
        assert listed["devices"] == [{"bus": "1-1", "code": "1d6b:0104", "kind": "input"}]
        assert "kernel" in listed["kernel"] or "usbip" in listed["kernel"]
