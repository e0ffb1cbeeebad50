"""The folders at which the drive is mounted: by FUSE, or by davfs2 as root."""

import asyncio
import contextlib
import os
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

from coterie.errors import StorageError, UsageError
from coterie.services.local import Local
from coterie.services.local.processes import Process
from coterie.texts import tr

MOUNTED_S = 15.0  # from starting the program until the folder is there; guess: a busy machine
LOOK_S = 0.05
UNMOUNT_S = 10.0
PLACES = "/usr/sbin:/sbin:/usr/bin:/bin"
# its own 16 KiB cut headers short; what is taken back is asked for anew
DAVFS = "buf_size 128\nask_auth 0\nuse_locks 1\ndelay_upload 0\ndir_refresh 2\nfile_refresh 1\n"


class Mounts:
    """Belongs to the event loop."""

    def __init__(self, local: Local, folder: Path) -> None:
        """`folder`: the app's own."""
        self._local = local
        self._folder = folder
        self._mounted: dict[Path, Process | None] = {}
        self._made: set[Path] = set()

    def folders(self) -> list[str]:
        """Where it is mounted now."""
        self._mounted = {at: p for at, p in self._mounted.items() if p is None or p.is_running}
        return sorted(map(str, self._mounted))

    async def mount(self, at: Path, port: int, instead: str) -> None:
        """Make `at` the drive at this port. `instead`: what to do where nothing here can.

        Raises:
            UsageError: it is no empty folder, or nothing here mounts.
            StorageError: the program that mounts says why not, or no folder can be made there.
        """
        is_new = await asyncio.to_thread(self._ready, at)
        try:
            await self._mount(at, port, instead)
        except BaseException:
            if is_new:
                await asyncio.to_thread(_remove, at)
            raise
        if is_new:
            self._made.add(at)

    async def _mount(self, at: Path, port: int, instead: str) -> None:
        if find_spec("mfusepy") is not None and os.access("/dev/fuse", os.R_OK | os.W_OK):
            is_fuse, words = True, [sys.executable, "-m", "coterie.apps.drive.fuse", str(port), str(at)]
        elif (davfs := shutil.which("mount.davfs", path=PLACES)) is not None and os.geteuid() == 0:
            conf = self._folder / "davfs2.conf"
            await asyncio.to_thread(conf.write_text, DAVFS)
            url = f"http://127.0.0.1:{port}/"
            is_fuse, words = False, [davfs, "-o", f"conf={conf}", url, str(at)]
        else:
            raise UsageError(
                tr(
                    "nothing here makes a folder of the drive: install coterie[drive] (FUSE), or use {instead}",
                    instead=instead,
                )
            )
        process = await self._local.run(f"mount {at.name}", words)
        for _ in range(int(MOUNTED_S / LOOK_S)):
            if await asyncio.to_thread(os.path.ismount, at):
                self._mounted[at] = process if is_fuse else None
                return
            if not process.is_running and not (ended := await process.ended()).is_good:
                raise StorageError(tr("it cannot be mounted: {said}", said=ended.output.strip()[-300:]))
            await asyncio.sleep(LOOK_S)
        await process.stop()
        raise StorageError(tr("it cannot be mounted: the folder did not come in time"))

    async def unmount(self, at: Path) -> None:
        """Raises `UsageError`: it is not mounted there; StorageError: something in it is open."""
        if at not in self._mounted:
            raise UsageError(tr("the drive is not mounted at {folder}", folder=at))
        process = self._mounted[at]
        fuse = shutil.which("fusermount3", path=PLACES) or shutil.which("fusermount", path=PLACES)
        words = [fuse, "-u", str(at)] if process is not None and fuse else ["umount", str(at)]
        ending = await self._local.run(f"unmount {at.name}", words)
        ended = await asyncio.wait_for(ending.ended(), UNMOUNT_S)
        if not ended.is_good:
            raise StorageError(tr("it stays mounted: {said}", said=ended.output.strip()[-300:]))
        del self._mounted[at]
        if process is not None:
            await process.stop()
        if at in self._made:
            self._made.discard(at)
            await asyncio.to_thread(_remove, at)

    @staticmethod
    def _ready(at: Path) -> bool:
        """Make it where nothing is; whether it was made."""
        try:
            os.mkdir(at, 0o700)
        except FileExistsError:
            pass
        except OSError as error:
            raise StorageError(
                tr("{folder} cannot be made: {strerror}", folder=at, strerror=error.strerror)
            ) from None
        else:
            return True
        try:
            names = os.listdir(at)
        except OSError as error:
            raise UsageError(
                tr("{folder} is no folder: {strerror}", folder=at, strerror=error.strerror)
            ) from None
        if names or os.path.ismount(at):
            raise UsageError(tr("{folder} is not empty: what is in it would be hidden", folder=at))
        return False


def _remove(at: Path) -> None:
    """The empty folder that was made."""
    with contextlib.suppress(OSError):
        os.rmdir(at)
