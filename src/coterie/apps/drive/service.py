"""The drive of a node: its port, and what is shown there."""

import asyncio
import shutil
import sys
from pathlib import Path

from coterie.apps.context import Context
from coterie.apps.drive.listener import HOST, DavListener
from coterie.apps.drive.messages import PROTOCOL
from coterie.apps.drive.mounting import ways
from coterie.apps.drive.mounts import Mounts
from coterie.apps.drive.receiving import Receiving
from coterie.apps.drive.results import DriveLine
from coterie.apps.drive.tree import Bridge
from coterie.apps.drive.whole_tree import WholeTree
from coterie.apps.files.api import FilesApi
from coterie.services.local import Port
from coterie.services.local.callers import can_ask
from coterie.tasks import Tasks
from coterie.texts import tr

PORT = "webdav"


class DriveService:
    """Made by the node. All methods belong to its event loop."""

    def __init__(self, context: Context, files: FilesApi) -> None:
        self._context = context
        self._files = files
        self._port: Port | None = None
        self._mounts = Mounts(context.local, context.data.folder)

    async def start(self) -> None:
        """Take the port into the table: closed, until the owner switches it on."""
        self._context.net.register(PROTOCOL, Receiving(self._context, self._files).handle)
        await asyncio.to_thread(shutil.rmtree, self._context.data.folder / "incoming", True)
        note = tr("what others share, as a drive")
        self._port = self._context.local.port(PORT, self._listener, note=note, is_on=False)

    async def close(self) -> None:
        """The port is closed with the others."""

    def status(self) -> dict[str, str]:
        """For `coterie status`."""
        return {"drive": self.line().url} if self.line().url else {}

    def line(self) -> DriveLine:
        """Whether it is on."""
        if self._port is None or not self._port.number:
            return DriveLine(state="off")
        url = f"http://{HOST}:{self._port.number}/"
        return DriveLine(
            mounts=self._mounts.folders(),
            state="on",
            url=url,
            connections=self._port.connections,
            mount=ways(sys.platform, self._port.number),
        )

    async def switch(self, *, is_on: bool) -> DriveLine:
        """Open or close the port; that is kept over restarts. Raises `UsageError`: it is not to be had."""
        await self._context.local.switch(PORT, is_on=is_on)
        return self.line()

    async def mount(self, folder: Path) -> DriveLine:
        """Make the drive a folder; it is switched on where it was off. Errors as `Mounts.mount`, `switch`."""
        if self._port is None or not self._port.number:
            await self.switch(is_on=True)
        port = self._port.number if self._port is not None else 0
        await self._mounts.mount(folder, port, ways(sys.platform, port)[0])
        return self.line()

    async def unmount(self, folder: Path) -> DriveLine:
        """Make it an ordinary folder again. Errors as `Mounts.unmount`."""
        await self._mounts.unmount(folder)
        return self.line()

    def _listener(self, name: str, tasks: Tasks) -> DavListener:
        folder = self._context.data.folder / "incoming"
        tree = WholeTree(self._context, self._files, folder)
        secret = "" if can_ask() else self._context.local.secret_of(PORT)
        return DavListener(name, tree, Bridge(asyncio.get_running_loop()), folder, secret)
