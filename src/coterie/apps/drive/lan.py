"""Shares that other devices of the local network read with a password: televisions, phones without coterie."""

import asyncio
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from coterie.apps.context import Context
from coterie.apps.drive.listener import DavListener, nothing_here
from coterie.apps.drive.login import USER
from coterie.apps.drive.results import LanLine
from coterie.apps.drive.tree import Bridge, ReadOnly
from coterie.apps.files.api import FilesApi
from coterie.errors import UsageError
from coterie.services.local import Port
from coterie.tasks import Tasks
from coterie.texts import tr

PORT = "lan"
LETTERS = (
    "abcdefghijkmnpqrstuvwxyz23456789"  # none that looks like another: it is typed with a remote control
)
PASSWORD_CHARS = 14  # 70 bits: who has heard a login cannot find it out by trying


class LanRecord(msgspec.Struct):
    """A share, by its id, and its password."""

    id: str
    created: float
    share: str
    password: str


class Lan:
    """Belongs to the event loop."""

    def __init__(self, context: Context, files: FilesApi) -> None:
        self._context = context
        self._files = files
        self._records = context.data.records("lan", LanRecord, "share")
        self._port: Port | None = None

    def start(self) -> None:
        """Take the port into the table: closed, until there is a share."""
        note = tr("shares for other devices of the local network")
        self._port = self._context.local.port(PORT, self._listener, note=note, is_on=False)

    def lines(self, addresses: Callable[[], list[str]], *, told: str = "") -> list[LanLine]:
        """What is open, where; with the password of the share `told`."""
        if self._port is None or not self._port.number:
            return []
        number = self._port.number
        return [
            LanLine(
                share=name,
                user=USER,
                password=password if name == told else "",
                urls=[f"http://{address}:{number}/{quote(name)}/" for address in addresses()],
            )
            for name, password in self._open().items()
        ]

    async def open(self, share: str) -> str:
        """Let others read this share; its name.

        Raises:
            NotFound: nothing is shared so.
            UsageError: it is no folder, or no port is to be had.
        """
        found = self._files.find_share(share)
        if not await asyncio.to_thread(Path(found.path).is_dir):
            raise UsageError(tr("{share} is a file: a folder can be opened to other devices", share=share))
        if all(one.share != found.id for one in self._records):
            password = "".join(secrets.choice(LETTERS) for _ in range(PASSWORD_CHARS))
            self._records.save(LanRecord(self._records.new_id(), time.time(), found.id, password))
        await self._context.local.switch(PORT, is_on=False)
        await self._context.local.switch(PORT, is_on=True)
        labels = self._files.reading.own.labelled()
        return next(label for label, one in labels.items() if one.id == found.id)

    async def close(self) -> None:
        """Let nobody read anything, and forget the passwords."""
        await self._context.local.switch(PORT, is_on=False)
        for one in list(self._records):
            self._records.remove(one.id)

    def _open(self) -> dict[str, str]:
        """The passwords, by the names of the shares that there still are."""
        names = {share.id: label for label, share in self._files.reading.own.labelled().items()}
        return {names[one.share]: one.password for one in self._records if one.share in names}

    def _listener(self, name: str, tasks: Tasks) -> DavListener:
        bridge = Bridge(asyncio.get_running_loop())

        def make() -> Any:
            from coterie.apps.drive.dav_server import guarded

            own, reading = str(self._context.me.peer_id), self._files.reading
            shares = {
                label: (ReadOnly(reading, f"{own}/{label}"), password)
                for label, password in self._open().items()
            }
            if not shares:  # all were ended meanwhile
                return nothing_here
            return guarded(shares, bridge)

        return DavListener(make, is_lan=True)
