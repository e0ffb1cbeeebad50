"""An internet of the tests in this process: hosts at public addresses, which are servers of this machine."""

import asyncio
import socket
from collections.abc import Mapping

import pytest

from coterie.apps.internet import dialling
from coterie.apps.internet.addresses import IP

SERVER = "11.20.0.7"  # of the tests: never routed here


class Outside:
    """Names and what is at which address; `dialled` are the addresses that exits connected to."""

    def __init__(self, names: Mapping[str, list[str]]) -> None:
        self.names = dict(names)
        self.looked_up: list[str] = []
        self.dialled: list[str] = []
        self.dead: set[str] = set()

    def resolve(self, name: str) -> list[str]:
        self.looked_up.append(name)
        if name not in self.names:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        return self.names[name]

    async def connect(self, ip: IP, port: int) -> socket.socket:
        self.dialled.append(str(ip))
        if str(ip) in self.dead:
            await asyncio.Event().wait()
        made = socket.socket()
        made.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(made, ("127.0.0.1", port))
        except BaseException:
            made.close()
            raise
        return made


def outside(monkeypatch: pytest.MonkeyPatch, names: Mapping[str, list[str]] | None = None) -> Outside:
    """Make exits of this process lead there."""
    there = Outside(names or {"web.example": [SERVER]})
    monkeypatch.setattr(dialling, "system_resolve", there.resolve)
    monkeypatch.setattr(dialling, "connected", there.connect)
    return there
