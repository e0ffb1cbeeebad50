"""Disks with other rules than this computer's own, as long as a test takes: real file systems on images, and a fake.

They need root, /dev/fuse and Debian's exfat-fuse, exfatprogs and ntfs-3g. In CI their absence fails the test.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

IMAGE_BYTES = 32 << 20
MOUNT_S = 20.0  # for a loaded machine
UNMOUNT_S = 3.0
ROOT = Path(__file__).parent.parent.parent

FORMATS = {
    "exfat": (["mkfs.exfat"], ["mount.exfat-fuse"]),
    "ntfs": (["mkntfs", "--force", "--quick"], ["ntfs-3g", "-o", "windows_names"]),
    "ntfs-case": (["mkntfs", "--force", "--quick"], ["lowntfs-3g", "-o", "windows_names,ignore_case"]),
}


@contextmanager
def real_disk(folder: Path, kind: str) -> Iterator[Path]:
    """Where a new, empty disk of one of FORMATS is mounted."""
    image, mounted = folder / f"{kind}.image", folder / kind
    mounted.mkdir()
    with image.open("wb") as file:
        file.truncate(IMAGE_BYTES)
    make, mount = FORMATS[kind]
    device = str(image)
    try:
        subprocess.run([*make, image], check=True, capture_output=True)
        if kind == "exfat":  # its program takes no image
            found = subprocess.run(["losetup", "--find", "--show", image], check=True, capture_output=True)
            device = found.stdout.decode().strip()
        subprocess.run([*mount, device, mounted], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        _cannot(error)
    try:
        yield mounted
    finally:
        subprocess.run(["umount", mounted], check=True)
        if device != str(image):
            subprocess.run(["losetup", "--detach", device], check=True)
        image.unlink()


@contextmanager
def odd_disk(folder: Path, **rules: object) -> Iterator[Path]:
    """Where a disk with such rules is mounted (`odd_disk`); `set_rules` changes them."""
    mounted, backing = folder / "odd", folder / "odd-backing"
    mounted.mkdir()
    backing.mkdir()
    set_rules(folder, **rules)
    if not os.access("/dev/fuse", os.W_OK) or sys.platform != "linux":
        _cannot("no /dev/fuse that may be opened")
    command = [sys.executable, "-m", "tests.fakes.odd_disk", mounted, backing, folder / "odd-rules"]
    log = folder / "odd-log"
    with log.open("wb") as out:
        process = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=out)
    try:
        until = time.monotonic() + MOUNT_S
        while not os.path.ismount(mounted):
            if process.poll() is not None or time.monotonic() > until:
                process.kill()
                process.wait()
                _cannot(log.read_text())
            time.sleep(0.01)  # a process of the system begins
        yield mounted
    finally:
        subprocess.run(["umount", "--lazy", mounted], check=False, capture_output=True)
        try:
            process.wait(UNMOUNT_S)
        except subprocess.TimeoutExpired:  # a test that failed left something open there
            process.kill()
            process.wait()


def set_rules(folder: Path, **rules: object) -> None:
    """The rules of the odd disk in `folder` from now on."""
    new = folder / "odd-rules.new"
    new.write_text(json.dumps(rules))
    new.replace(folder / "odd-rules")


def _cannot(why: object) -> None:
    text = f"needs root, /dev/fuse, exfat-fuse, exfatprogs, ntfs-3g and mfusepy: {why}"
    assert not os.environ.get("CI"), text
    pytest.skip(text)
