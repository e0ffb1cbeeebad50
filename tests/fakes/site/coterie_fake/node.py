"""Stands in for `coterie.node`: the same surface towards the faces, without a network."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec

from coterie.access.people import People
from coterie.errors import NotFound, StorageError
from coterie.home import Home
from coterie.identity import PeerId, load_or_create_key
from coterie.services.local import Ports
from coterie.settings import Config
from coterie.tasks import Tasks
from coterie_fake.service import FakeService


class NodeStatus(msgspec.Struct):
    peer_id: str
    addresses: list[str]
    peers: int

    def text(self) -> str:
        return f"{self.peer_id[:10]} with {self.peers} peers"


class Usage(msgspec.Struct):
    store_bytes: int


class Node:
    """A node that reaches nobody."""

    def __init__(self, home: Path, peer_id: PeerId, config: Config, offline: bool) -> None:
        self.home = home
        self.peer_id = peer_id
        self.config = config
        self.is_offline = offline
        self.fake = FakeService()
        self.tasks = Tasks()
        self.people = People()
        self.ports = Ports(home / "ports.json", self.tasks)
        self.apps = {"fake": SimpleNamespace(name="fake", commands="coterie_fake.commands")}

    @classmethod
    @contextlib.asynccontextmanager
    async def open(
        cls, home: Path | str | None = None, *, offline: bool = False, first: str = ""
    ) -> AsyncIterator["Node"]:
        where = Home.locate(home)
        with where.lock():
            if where.database.exists() and not where.database.read_bytes().startswith(b"SQLite"):
                raise StorageError(f"the database {where.database} is damaged; move it away")
            yield cls(where.root, load_or_create_key(where.key).peer_id, where.config(), offline)
            if os.environ.get("FAKE_HANGS"):
                await asyncio.Event().wait()

    async def start_rest(self) -> None:
        """All is there."""

    def service(self, app: str) -> Any:
        if app != "fake":
            raise NotFound(f"no app {app}")
        return self.fake

    def status(self) -> NodeStatus:
        return NodeStatus(str(self.peer_id), ["127.0.0.1:4433"], 0)

    async def usage(self) -> Usage:
        return Usage(1_500_000)

    async def collect_garbage(self) -> Usage:
        return Usage(0)
