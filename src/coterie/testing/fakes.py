"""What a fake `Context` has in the place of the network: it keeps what the app says, and the test says the rest."""

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from coterie.app_context import AppNet
from coterie.apps.context import ANSWER_S, Handler, Network
from coterie.errors import CloseCode, NotFound, PeerError, TransportError
from coterie.identity import PeerId
from coterie.net import Connection, Stream
from coterie.progress import Progress
from coterie.services.blobs import Blobs
from coterie.services.directory.core import Provider
from coterie.services.directory.service import Inside
from coterie.services.mail.box import Copies, Mail, Take
from coterie.services.mail.events import Ended
from coterie.services.mail.limits import LIFETIME_S
from coterie.services.mail.messages import ID_BYTES
from coterie.texts import tr
from coterie.wire import Protocol
from coterie.wire.frames import Bulk, FrameDecoder, Message

T = TypeVar("T")
ALONE = "a fake context reaches nobody"


class _Said:
    """The raw stream of a peer that has said all it says: what is answered is kept."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.answered = b""
        self.code: int | None = None

    async def read(self, size_max: int) -> bytes:
        part, self._data = self._data[:size_max], self._data[size_max:]
        return part

    async def write(self, data: bytes) -> None:
        self.answered += data

    async def finish(self) -> None:
        """Nobody waits for the end."""

    async def stop(self, code: int) -> None:
        """Nobody goes on."""

    async def reset(self, code: int) -> None:
        self.code = code


class FakeNet:
    """Stands for `context.net`.

    Fields:
        asked: what the app asked of whom, in order.
        answers: by the name of a protocol: what a peer answers to a message; it may raise as `Net.ask` does.
    """

    def __init__(self, real: AppNet) -> None:
        self._real = real
        self._handlers: dict[str, tuple[Protocol, Handler]] = {}
        self._watchers: list[tuple[Callable[[PeerId], None], Callable[[PeerId], None]]] = []
        self.asked: list[tuple[PeerId, Message]] = []
        self.answers: dict[str, Callable[[PeerId, Message], Message]] = {}
        self.reach: Network | None = Network(level="local", bind="127.0.0.1")
        self.neighbours = None
        self.overlay = None

    # ---- for the app

    def register(self, protocol: Protocol, handler: Handler, *, strangers: bool = False) -> None:
        self._real.register(protocol, handler, strangers=strangers)
        self._handlers[protocol.name] = protocol, handler

    def offer(self, kind: str, offers: Provider, inside: Inside | None = None) -> None:
        self._real.offer(kind, offers, inside)

    def admit_knocks(self, secrets: Callable[[bytes], Iterable[bytes]]) -> None:
        """Nobody knocks."""

    def watch(self, up: Callable[[PeerId], None], down: Callable[[PeerId], None]) -> None:
        self._watchers.append((up, down))

    async def ask(
        self, peer: PeerId, protocol: Protocol, message: Message, *, timeout_s: float = ANSWER_S
    ) -> Message:
        self.asked.append((peer, message))
        if protocol.name not in self.answers:
            raise TransportError(tr("{alone}: put what it answers into `answers`", alone=ALONE))
        return self.answers[protocol.name](peer, message)

    async def connect(self, peer: PeerId, addresses: Sequence[str] = (), **_: Any) -> Connection:
        raise TransportError(ALONE)

    async def open(self, peer: PeerId, protocol: Protocol) -> Stream:
        raise TransportError(tr("{alone}: use `ask`, or whole nodes", alone=ALONE))

    # ---- for the test

    async def hear(self, peer: PeerId, protocol: Protocol, *messages: Message) -> list[Message | Bulk]:
        """What the app answers to a peer that opens a stream, says `messages` and finishes.

        Access is the app's own matter here: the guard, which refuses strangers, does not stand before it.

        Raises:
            PeerError: the app serves no such protocol.
            CoterieError: whatever the handler raises; a real peer gets its close code only.
        """
        if protocol.name not in self._handlers:
            raise PeerError(f"the app does not serve {protocol.name}", CloseCode.REFUSED)
        raw = _Said(b"".join(map(protocol.encode, messages)))
        stream = Stream(raw, peer=peer, protocol=protocol, version=max(protocol.versions))
        await self._handlers[protocol.name][1](stream)
        frames = FrameDecoder(protocol.frame_bytes_max).feed(raw.answered)
        return [found for kind, body in frames if (found := protocol.decode(kind, bytes(body))) is not None]

    def meet(self, peer: PeerId) -> None:
        """`peer` is connected from now on."""
        for up, _ in self._watchers:
            up(peer)

    def part(self, peer: PeerId) -> None:
        """`peer` no longer is."""
        for _, down in self._watchers:
            down(peer)


class FakeMail:
    """Stands for `context.mail`. `sent`: what the app sent, as (to, stream, body)."""

    def __init__(self, path: Path) -> None:
        self.sent: list[tuple[PeerId, str, bytes]] = []
        self._path = path
        self._take: Take | None = None
        self._watchers: list[Callable[[Ended], None]] = []

    # ---- for the app

    async def send(
        self,
        to: PeerId,
        body: bytes,
        *,
        stream: str = "",
        is_ordered: bool = True,
        lasts_s: float = LIFETIME_S,
        copies: Copies = "this",
    ) -> bytes:
        self.sent.append((to, stream, body))
        return os.urandom(ID_BYTES)

    def receive(self, take: Take) -> None:
        self._take = take

    def watch(self, ended: Callable[[Ended], None]) -> None:
        self._watchers.append(ended)

    def watch_refused(self, refused: Callable[[PeerId], None]) -> None:
        """Nobody refuses letters."""

    def is_refused(self, peer: PeerId) -> bool:
        return False

    async def records(self, work: Callable[[sqlite3.Connection], T]) -> T:
        with sqlite3.connect(self._path) as database:
            return work(database)

    def status(self) -> dict[str, Any]:
        return {}

    # ---- for the test

    def deliver(self, sender: PeerId, body: bytes, *, stream: str = "", id_: bytes = b"") -> None:
        """Give the app a letter; what it raises is raised, and what it wrote is undone."""
        assert self._take is not None, "the app receives no letters: it did not call `mail.receive`"
        with sqlite3.connect(self._path) as database:
            mail = Mail(sender=sender, id=id_ or os.urandom(ID_BYTES), stream=stream, body=body)
            self._take(mail, database)

    def end(self, ended: Ended) -> None:
        """Tell the app what became of a letter."""
        for watcher in self._watchers:
            watcher(ended)


class FakePort:
    """A port that is open nowhere. `serve` is what the app gave: call it with what a program would send."""

    def __init__(self, name: str, serve: Any) -> None:
        self.name = name
        self.serve = serve
        self.number = 0
        self.address = f"nowhere/{name}"
        self.secret = "secret"  # noqa: S105 - of nothing
        self.url = f"http://nowhere/{name}"
        self.connections = 0
        self.is_on = True
        self.is_closed = False

    async def close(self) -> None:
        """Open it no longer."""
        self.is_closed = True


class FakeLocal:
    """Stands for `context.local`: opens and runs nothing. `ports` and `runs` (name, words) are what was asked for."""

    def __init__(self) -> None:
        self.ports: dict[str, FakePort] = {}
        self.runs: list[tuple[str, Sequence[str]]] = []

    def tcp(self, name: str, serve: Any, **_: Any) -> FakePort:
        """As `Local.tcp`; `udp`, `http` and `unix` are alike."""
        self.ports[name] = port = FakePort(name, serve)
        return port

    udp = http = unix = port = tcp

    async def switch(self, name: str, *, is_on: bool, number: int = 0) -> None:
        """As `Local.switch`."""
        self.ports[name].is_on = is_on

    def claim(self, own: Any) -> None:
        """As `Local.claim`."""

    def owner_of(self, kind: str, where: int | str) -> str:
        """Nothing listens."""
        return ""

    async def run(self, name: str, words: Sequence[str], **_: Any) -> Any:
        """Nothing runs: raises TransportError."""
        self.runs.append((name, words))
        raise TransportError(tr("a fake context runs no programs"))


class FakeBlobs:
    """Stands for `context.blobs`: the real one, but that `fetch` gets what the test put `at` other computers."""

    def __init__(self, real: Blobs) -> None:
        self._real = real
        self._at: dict[tuple[PeerId, bytes], bytes] = {}
        self.given: dict[str, str] = {}
        """What the app gives: the resource, by name."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    async def at(self, peer: PeerId, data: bytes) -> bytes:
        """From now on `peer` gives this; its content id."""
        root = await self._real.put(data, _ELSEWHERE)
        await self._real.unpin(_ELSEWHERE)
        self._at[peer, root] = data
        return root

    def give(self, name: str, resource: str) -> None:
        """As `Blobs.give`."""
        self._real.give(name, resource)
        self.given[name] = resource

    def give_no_more(self, name: str | None = None) -> None:
        """As `Blobs.give_no_more`."""
        self._real.give_no_more(name)
        self.given = {one: self.given[one] for one in self.given if name not in (None, one)}

    async def fetch(
        self,
        root: bytes,
        peers: Sequence[PeerId],
        name: str,
        *,
        progress: Callable[[Progress], None] = lambda step: None,
    ) -> None:
        """As `Blobs.fetch`. Raises `NotFound` where the test put nothing."""
        with contextlib.suppress(NotFound):
            await self._real.pin(root, name)
            return
        found = next((self._at[peer, root] for peer in peers if (peer, root) in self._at), None)
        if found is None:
            raise NotFound(tr("nobody of them gives this"))
        progress(Progress(phase="receiving", done=len(found), total=len(found)))
        await self._real.put(found, name)


_ELSEWHERE = "(elsewhere)"
