"""The giving side: sessions about shares and downloads, and the core that says whose request is answered next."""

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from itertools import count
from random import SystemRandom
from typing import Any

from coterie.access import secret_matches
from coterie.apps.files.asker import Cuts, Session
from coterie.apps.files.giver import Giver
from coterie.apps.files.messages import ADDRESSES_MAX, PEERS_MAX, PROTOCOL, Open, Peers, Refused
from coterie.content import upload as u
from coterie.driver import Driver
from coterie.errors import PeerError, UsageError
from coterie.identity import PeerId
from coterie.net import Stream
from coterie.wire.record import is_address

OPEN_S = 10.0  # to say which share

FindGivers = Callable[[bytes], Sequence[Giver]]


class Server:
    """Serves what `find` gives for a content id. `is_contact` tells strangers from others."""

    def __init__(
        self, find: FindGivers, executor: Executor, is_contact: Callable[[PeerId], bool] = lambda _: False
    ) -> None:
        self._find = find
        self._executor = executor
        self._is_contact = is_contact
        self._askers: dict[bytes, dict[PeerId, list[str]]] = {}  # who gives what it asks us for, by content
        self._sessions: dict[int, tuple[Session, PeerId, bytes]] = {}
        self._numbers = count(1)
        self._cuts = Cuts()
        self._driver: Driver | None = None
        self._limits: dict[bytes | None, float] = {}
        self.sent_bytes = 0  # chunk bytes handed to the transport since the start

    async def handle(self, stream: Stream) -> None:
        """One session: `Open`, then requests until the asker finishes."""
        opening = await stream.receive(OPEN_S)
        if not isinstance(opening, Open):
            raise PeerError("a session begins with Open")
        givers: Sequence[Giver | None] = self._find(opening.root) or [None]
        giver = next((g for g in givers if secret_matches(opening.secret, g.secret if g else None)), None)
        if giver is None:
            await stream.send(Refused())
            await stream.finish()
            return
        root = opening.root
        others = self._askers.setdefault(root, {})
        opened = giver.opened(sum(about == root for _, _, about in self._sessions.values()))
        told = [
            (bytes(peer), where) for peer, where in list(others.items())[-PEERS_MAX:] if peer != stream.peer
        ]
        number = next(self._numbers)
        session = Session(stream, giver, number, feed=self._feed, executor=self._executor, cuts=self._cuts)
        self._sessions[number] = (session, stream.peer, root)
        try:
            await stream.write(PROTOCOL.encode(opened) + (PROTOCOL.encode(Peers(told)) if told else b""))
            addresses = [a for a in opening.addresses[:ADDRESSES_MAX] if is_address(a)]
            if opening.serves:
                others[stream.peer] = addresses
                giver.met(stream.peer, addresses)
            is_contact = self._is_contact(stream.peer)
            self._feed(u.AskerUp(number, root, is_contact, whole=opened.whole, size=opened.size))
            await self._serve(session, giver)
        finally:
            self._forget(number, stream.peer, root)
        await stream.finish()

    def limit(self, root: bytes | None, bytes_per_s: float) -> None:
        """No more than so many bytes a second of one content, or (None) of all together; 0: no limit."""
        self._limits[root] = bytes_per_s
        if self._driver is not None:
            self._feed(u.Limit(root, bytes_per_s))

    def gave(self, root: bytes, peer: PeerId, size: int) -> None:
        """`peer` gave us so many bytes of this content: it is served before strangers who gave less."""
        for number, (_, asker, about) in self._sessions.items():
            if asker == peer and about == root:
                self._feed(u.Gave(number, size))

    def askers(self, root: bytes) -> list[tuple[PeerId, int]]:
        """Who has a session about this content, and how many bytes went there."""
        return [(peer, s.sent_bytes) for s, peer, about in self._sessions.values() if about == root]

    def close(self) -> None:
        """Serve nobody any more."""
        if self._driver is not None:
            self._driver.close()

    async def _serve(self, session: Session, giver: Giver) -> None:
        stop_watching = giver.watch(session.tell)
        try:
            await session.run(self._note_sent)
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
        finally:
            stop_watching()

    def _note_sent(self, size: int) -> None:
        self.sent_bytes += size

    def _forget(self, number: int, peer: PeerId, root: bytes) -> None:
        del self._sessions[number]
        left = [asker for _, asker, about in self._sessions.values() if about == root]
        if peer not in left:
            self._askers[root].pop(peer, None)
        if not left:
            del self._askers[root]
        self._feed(u.AskerDown(number))

    # ---- the upload core

    def _feed(self, event: Any) -> None:
        if self._driver is None:
            core = u.UploadCore(SystemRandom())
            self._driver = Driver(core, send=self._send, on_output=self._on_output)
            for root, rate in self._limits.items():
                self._driver.feed(u.Limit(root, rate))
        self._driver.feed(event)

    @staticmethod
    def _send(peer: Any, message: Any) -> None:
        raise UsageError("the upload core sends nothing itself")

    def _on_output(self, output: Any) -> None:
        found = self._sessions.get(output.asker)
        if found is None:
            return
        match output:
            case u.Serve(_, request):
                found[0].serve(request, elsewhere=False)
            case u.SendElsewhere(_, request):
                found[0].serve(request, elsewhere=True)
            case u.TellGiven(_, manifest, pieces):
                found[0].tell_given(manifest, pieces)
