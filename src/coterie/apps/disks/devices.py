"""Block devices of attached disks, as root: by NBD of the kernel where it is there, else by FUSE and a loop device."""

import asyncio
import contextlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from coterie.errors import StorageError, UsageError
from coterie.services.local import Local
from coterie.services.local.processes import Process
from coterie.texts import tr

PLACES = "/usr/sbin:/sbin:/usr/bin:/bin"
MADE_S = 15.0  # until nbdfuse has its file; guess: a busy machine
RUN_S = 20.0  # for losetup and nbd-client
LOOK_S = 0.05
KERNEL = Path("/sys/block")
MOUNTS = Path("/proc/self/mountinfo")


class _Way(NamedTuple):
    """How a device is made here: "kernel" or "loop"."""

    kind: str


@dataclass(slots=True)
class _Made:
    device: str
    process: Process | None = None
    folder: Path | None = None


class Devices:
    """Belongs to the event loop."""

    def __init__(self, local: Local, folder: Path) -> None:
        """`folder`: the app's own."""
        self._local = local
        self._folder = folder
        self._made: dict[str, _Made] = {}

    def device(self, disk: str) -> str:
        """The device that was made of a disk; empty: none."""
        made = self._made.get(disk)
        return made.device if made is not None else ""

    def check(self) -> _Way:
        """How devices are made here. Raises `UsageError`: not at all, and what is missing."""
        if not hasattr(os, "geteuid") or os.geteuid() != 0:
            raise UsageError(tr("only root makes block devices; without --device programs use the socket"))
        if _free_nbd() and shutil.which("nbd-client", path=PLACES):
            return _Way("kernel")
        missing = [name for name in ("nbdfuse", "losetup") if not shutil.which(name, path=PLACES)]
        if not os.access("/dev/fuse", os.R_OK | os.W_OK):
            missing.append("/dev/fuse")
        if missing:
            raise UsageError(
                tr(
                    "this kernel has no NBD (module nbd and nbd-client), and for a loop device is missing: {missing}",
                    missing=", ".join(missing),
                )
            )
        return _Way("loop")

    async def make(self, disk: str, name: str, uri: str, *, write: bool) -> str:
        """Make the device of a disk, if there is none; its path. Raises `UsageError`, `StorageError`."""
        if (made := self._made.get(disk)) is not None:
            return made.device
        if self.check().kind == "kernel":
            found = await self._by_kernel(disk, name, uri, write=write)
        else:
            found = await self._by_loop(disk, name, uri, write=write)
        self._made[disk] = found
        return found.device

    async def remove(self, disk: str) -> None:
        """Take the device of a disk away. Raises `StorageError`: it is mounted."""
        made = self._made.get(disk)
        if made is None:
            return
        if folder := mounted_at(made.device):
            raise StorageError(
                tr("{device} is mounted at {folder}; unmount it first", device=made.device, folder=folder)
            )
        await self._take_away(made)
        del self._made[disk]

    async def close(self) -> None:
        """The node ends: all devices go, mounted or not."""
        for made in self._made.values():
            try:
                await self._take_away(made)
            except StorageError:
                continue  # mounted: the kernel keeps it, and its programs hear of errors
        self._made.clear()

    async def _by_kernel(self, disk: str, name: str, uri: str, *, write: bool) -> _Made:
        device = _free_nbd()
        where = uri.partition("?socket=")[2]
        words = [
            "nbd-client",
            *(["-unix", where] if where else uri.removeprefix("nbd://").split("/")[0].split(":")),
        ]
        words += [device, "-N", name, "-b", "512", "-C", "2", *([] if write else ["-R"])]
        await self._run(f"nbd-client {disk}", words)
        return _Made(device)

    async def _by_loop(self, disk: str, name: str, uri: str, *, write: bool) -> _Made:
        folder = self._folder / "devices" / disk
        await self._clear(folder)
        await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True, mode=0o700)
        words = ["nbdfuse", *([] if write else ["-r"]), str(folder), uri]
        process = await self._local.run(f"nbdfuse {disk}", words)
        made = _Made("", process, folder)
        try:
            for _ in range(int(MADE_S / LOOK_S)):
                if await asyncio.to_thread((folder / "nbd").exists):
                    break
                if not process.is_running:
                    ended = await process.ended()
                    raise StorageError(
                        tr("no device of {disk}: {said}", disk=name, said=ended.output.strip()[-300:])
                    )
                await asyncio.sleep(LOOK_S)
            else:
                raise StorageError(tr("no device of {disk}: its file did not come in time", disk=name))
            words = ["losetup", "--find", "--show", *([] if write else ["--read-only"]), str(folder / "nbd")]
            made.device = (await self._run(f"losetup {disk}", words)).strip()
        except BaseException:
            await self._take_away(made)
            raise
        return made

    async def _clear(self, folder: Path) -> None:
        """Take away what a killed node left."""
        for device in await asyncio.to_thread(_loops_of, folder / "nbd"):
            await self._run(f"end {device}", ["losetup", "--detach", device])
        if await asyncio.to_thread(_is_left, folder):
            fuse = shutil.which("fusermount3", path=PLACES) or "fusermount"
            await self._run(f"end {folder.name}", [fuse, "-u", "-z", str(folder)])

    async def _take_away(self, made: _Made) -> None:
        if made.folder is None:
            await self._run(f"end {made.device}", ["nbd-client", "-d", made.device])
            return
        if made.device:
            await self._run(f"end {made.device}", ["losetup", "--detach", made.device])
        if made.process is not None and made.process.is_running:
            fuse = shutil.which("fusermount3", path=PLACES) or "fusermount"
            try:
                await self._run(f"end {made.folder.name}", [fuse, "-u", str(made.folder)])
            finally:
                await made.process.stop()
        await asyncio.to_thread(_remove, made.folder)

    async def _run(self, name: str, words: list[str]) -> str:
        process = await self._local.run(name, [shutil.which(words[0], path=PLACES) or words[0], *words[1:]])
        try:
            ended = await asyncio.wait_for(process.ended(), RUN_S)
        except TimeoutError:
            await process.stop()
            raise StorageError(tr("{program} does not come to an end", program=words[0])) from None
        if not ended.is_good:
            raise StorageError(
                tr("{program} failed: {said}", program=words[0], said=ended.output.strip()[-300:])
            )
        return ended.output


def mounted_at(device: str) -> str:
    """Where a device is mounted; empty: nowhere."""
    try:
        number = os.stat(device).st_rdev
        lines = MOUNTS.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    wanted = f"{os.major(number)}:{os.minor(number)}"
    return next((words[4] for line in lines if len(words := line.split()) > 4 and words[2] == wanted), "")


def _free_nbd() -> str:
    """A device of the kernel's NBD that nobody uses; empty: there is none."""
    for path in sorted(KERNEL.glob("nbd*")):
        if not (path / "pid").exists() and Path("/dev", path.name).exists():
            return f"/dev/{path.name}"
    return ""


def _is_left(folder: Path) -> bool:
    """Whether something is mounted there, with its program or without."""
    try:
        return os.path.ismount(folder) if folder.exists() else False
    except OSError:  # its program has gone
        return True


def _loops_of(file: Path) -> list[str]:
    """The loop devices of a file, whether it is there or not."""
    found = []
    for backing in KERNEL.glob("loop*/loop/backing_file"):
        with contextlib.suppress(OSError):
            if backing.read_text().rstrip("\n").removesuffix(" (deleted)") == str(file):
                found.append(f"/dev/{backing.parts[-3]}")
    return found


def _remove(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError:
        return
