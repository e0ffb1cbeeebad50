"""A `Context` for one app without a network, nothing of it faked but what leaves the computer."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from coterie.access.people import People, Source
from coterie.access.policy import Standing, of_peer
from coterie.access.resource import Verb
from coterie.app_context import AppContext
from coterie.apps.app import App
from coterie.identity import PeerId, SecretKey, load_or_create_key
from coterie.node import Node
from coterie.private_file import write_private
from coterie.services.data.service import Data
from coterie.services.directory.core import Offered
from coterie.testing.fakes import FakeBlobs, FakeLocal, FakeMail, FakeNet


class FakeContext:
    """The ten members. `net`, `mail`, `local` and what `blobs` fetches are fakes; the rest is real, in the folder."""

    def __init__(self, node: Node, real: AppContext, mail: Path) -> None:
        self._node = node
        self._real = real
        self._known: dict[PeerId, str] = {}
        self.me = real.me
        self.people: People = real.people
        self.access = real.access
        self.blobs = FakeBlobs(real.blobs)
        self.jobs = real.jobs
        self.tell = real.tell
        self.net = FakeNet(real.net)
        self.mail: Any = FakeMail(mail)
        self.local: Any = FakeLocal()
        node.people.register(
            Source(
                of="contact",
                names=lambda: self._known,
                is_chosen=True,
                standing=lambda peer: Standing(contact=peer in self._known),
            )
        )

    @property
    def data(self) -> Data:
        """The real one; its settings are those of the test."""
        return self._real.data

    # ---- for the test

    def know(self, name: str) -> PeerId:
        """A contact called `name`, the same for the same name."""
        peer = SecretKey(name.encode().ljust(32, b"\0")[:32]).peer_id
        self._known[peer] = name
        self.access.changed()
        return peer

    def permit(self, peer: PeerId, verb: Verb, resource: str) -> None:
        """Let `peer` do it, as the owner would with `coterie grant`."""
        self.access.policy.permit(of_peer(peer), verb, resource)
        self.access.changed()

    def offered(self, peer: PeerId, kind: str) -> list[Offered]:
        """What `coterie ls` shows to `peer` of `kind`."""
        return self._node.directory.offered(peer, kind)

    def notices(self) -> list[str]:
        """What the app told the owner, the last at the end."""
        return [notice.said for notice in self.tell.all()]


@contextlib.asynccontextmanager
async def fake_context(app: App, folder: Path, *, settings: str = "") -> AsyncIterator[FakeContext]:
    """A context for the service of `app`, with its files in `folder`.

    Args:
        folder: empty, or that of an earlier context: what was kept is there again.
        settings: lines of TOML, the section `[app.NAME]` of `config.toml`.

    Raises:
        UsageError: `settings` cannot be.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_private(folder / "config.toml", f"desktop_notices = false\n[app.{app.name}]\n{settings}\n".encode())
    async with Node.open(folder, offline=True, apps=()) as node:
        home = folder / "apps" / app.name
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        real = AppContext(node, app, home=home, sign=load_or_create_key(folder / "key").sign)
        try:
            yield FakeContext(node, real, home / "mail.db")
        finally:
            await real.withdraw()
