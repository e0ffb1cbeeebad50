"""The drive of a node: its port, and what is shown there."""

import asyncio
import ipaddress
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

from coterie.apps.context import Context
from coterie.apps.drive.lan import Lan
from coterie.apps.drive.listener import HOST, DavListener
from coterie.apps.drive.live_folders import Everything, LiveFolders
from coterie.apps.drive.messages import PROTOCOL
from coterie.apps.drive.mounting import ways
from coterie.apps.drive.mounts import Mounts
from coterie.apps.drive.ordering import Ordering
from coterie.apps.drive.receiving import Receiving
from coterie.apps.drive.results import DriveLine
from coterie.apps.drive.tree import Bridge
from coterie.apps.drive.unfinished import Unfinished
from coterie.apps.drive.whole_tree import WholeTree
from coterie.apps.expose.api import Names, as_label
from coterie.apps.files.api import FilesApi
from coterie.apps.folders.api import FoldersApi
from coterie.errors import CoterieError
from coterie.identity import PeerId
from coterie.services.local import Port
from coterie.services.local.callers import can_ask
from coterie.tasks import Tasks
from coterie.texts import tr

PORT = "webdav"


def own_addresses() -> list[str]:
    """Private IPv4 addresses of this computer, without loopback."""
    import ifaddr  # 30 ms

    found = [str(ip.ip) for adapter in ifaddr.get_adapters() for ip in adapter.ips if ip.is_IPv4]
    private = [one for one in dict.fromkeys(found) if ipaddress.ip_address(one).is_private]
    return [one for one in private if not ipaddress.ip_address(one).is_loopback] or private


class DriveService:
    """Made by the node. All methods belong to its event loop."""

    def __init__(self, context: Context, files: FilesApi, folders: FoldersApi, names: Names) -> None:
        self._context = context
        self._web_names = names
        self._files = files
        self._folders = folders
        self._unfinished = Unfinished(context.data.folder / "unfinished")
        self._orders = Ordering(context)
        self._port: Port | None = None
        self._lan = Lan(context, files)
        self._mounts = Mounts(context.local, context.data.folder)

    async def start(self) -> None:
        """Take the port into the table: closed, until the owner switches it on."""
        await asyncio.to_thread(self._unfinished.sweep)
        await self._orders.forget_unfinished()
        receiving = Receiving(self._context, self._files, self._unfinished)
        self._context.net.register(PROTOCOL, receiving.handle)
        note = tr("what others share, as a drive")
        self._port = self._context.local.port(PORT, self._listener, note=note, is_on=False)
        self._lan.start()
        self._web_names.show(self._page)

    async def close(self) -> None:
        """The port is closed with the others."""

    def status(self) -> dict[str, str]:
        """For `coterie status`."""
        return {"drive": self.line().url} if self.line().url else {}

    def line(self, told: str = "") -> DriveLine:
        """Whether it is on; with the password of the share `told`."""
        lan = self._lan.lines(own_addresses, told=told)
        if self._port is None or not self._port.number:
            return DriveLine(state="off", lan=lan)
        url = f"http://{HOST}:{self._port.number}/"
        return DriveLine(
            mounts=self._mounts.folders(),
            state="on",
            url=url,
            connections=self._port.connections,
            mount=ways(sys.platform, self._port.number, self._secret()),
            lan=lan,
        )

    async def switch(self, *, is_on: bool) -> DriveLine:
        """Open or close the port; that is kept over restarts. Raises `UsageError`: it is not to be had."""
        await self._context.local.switch(PORT, is_on=is_on)
        return self.line()

    async def open_lan(self, share: str) -> DriveLine:
        """Let other devices of the local network read a share. Errors as `Lan.open`."""
        return self.line(told=await self._lan.open(share))

    async def close_lan(self) -> DriveLine:
        """Let them read nothing any more."""
        await self._lan.close()
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

    async def _page(self, peer: PeerId, name: str) -> str:
        """The page of what `peer` shares under `name`, as it stands in a web address; "" while the drive is off."""
        if self._port is None or not self._port.number:
            return ""
        who = self._context.people.name_of(peer)
        try:
            found = await self._files.reading.listing(who)
        except CoterieError:
            return ""
        shared = next((seen.name for seen in found if as_label(seen.name) == name), "")
        return f"http://{HOST}:{self._port.number}/{quote(who)}/{quote(shared)}/" if shared else ""

    def _listener(self, name: str, tasks: Tasks) -> DavListener:
        people, me = self._context.people, self._context.me
        computers = WholeTree(self._context, self._files, self._orders, self._unfinished)
        versions = self._context.blobs.versions
        live = LiveFolders(self._folders, versions, self._unfinished, lambda: [me.name, *people.names()])
        tree = Everything(computers, live)
        bridge = Bridge(asyncio.get_running_loop())

        def make() -> Any:
            from coterie.apps.drive.dav_server import application  # only while the port is open
            from coterie.apps.drive.properties import STEPS

            return application(tree, bridge, self._context.data.database(STEPS))

        return DavListener(make, secret=self._secret())

    def _secret(self) -> str:
        """What programs show; "" where the system tells whose they are."""
        return "" if can_ask() else self._context.local.secret_of(PORT)
