"""The giving side: sessions about shares and downloads, and the core that says whose request is answered next."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from itertools import count
from random import SystemRandom
from typing import Any

from coterie.access.enforcer import Enforcer
from coterie.access.grant import Link
from coterie.access.policy import Decision, QuotaUsedUp
from coterie.access.resource import Verb
from coterie.content.limit import ByteLimit, least
from coterie.content.swarm import upload as u
from coterie.driver import Driver
from coterie.errors import AccessDenied, CloseCode, PeerError, UsageError
from coterie.identity import PeerId
from coterie.net import Stream
from coterie.texts import tr
from coterie.transfer.giver import Giver
from coterie.transfer.giving_session import Buffers, Session
from coterie.transfer.messages import (
    ADDRESSES_MAX,
    MOVED_SINCE,
    PEERS_MAX,
    PROTOCOL,
    USED_UP_SINCE,
    Open,
    Peers,
    Refused,
)
from coterie.transfer.used_up import used_up
from coterie.wire.record import is_address

OPEN_S = 10.0  # to say which share
FAR_S = 0.05  # round trip; guess: from here on a lane is made while the asker still hears what there is

FindGiver = Callable[[PeerId, bytes, bytes], Giver | None]
"""What a peer opens with a content id and a proof."""


class Server:
    """Serves what `find` gives and `access` allows, for as long as it does."""

    def __init__(
        self, access: Enforcer, find: FindGiver, executor: Executor, bucket: ByteLimit, *, kind: str = "files"
    ) -> None:
        """`bucket`: the limit of all uploads together. `kind`: what the log says of what there is not."""
        self._kind = kind
        self._bucket = bucket
        self._access = access
        self._find = find
        self._executor = executor
        self._askers: dict[bytes, dict[PeerId, list[str]]] = {}  # who gives what it asks us for, by content
        self._sessions: dict[int, tuple[Session, PeerId, bytes]] = {}
        self._running: dict[int, tuple[Giver, asyncio.Task[Any]]] = {}
        self._outdated: set[int] = set()
        self._numbers = count(1)
        self._driver: Driver | None = None
        self._limits: dict[bytes, float] = {}
        self._sent_before = 0  # by sessions that have ended
        self._buffers = Buffers()

    @property
    def sent_bytes(self) -> int:
        """Chunk bytes handed to the transport since the start."""
        return self._sent_before + sum(session.sent_bytes for session, _, _ in self._sessions.values())

    @property
    def is_busy(self) -> bool:
        """Whether there are sessions."""
        return bool(self._sessions)

    async def handle(self, stream: Stream) -> None:
        """One session: `Open`, then requests until the asker finishes."""
        opening = await stream.receive(OPEN_S)
        if not isinstance(opening, Open):
            raise PeerError("a session begins with Open")
        giver = self._find(stream.peer, opening.root, opening.proof)
        try:
            if giver is None:
                self._access.decide(stream.peer, Verb.READ, self._kind).require()
                raise AccessDenied(tr("nothing is given under this content id and proof"))
            async with self._access.hold(stream.peer, Verb.READ, giver.resource, giver.also) as decision:
                stream.welcome()
                if giver.moved is not None and stream.version >= MOVED_SINCE:
                    await stream.send(giver.moved)
                    await stream.finish()
                    return
                if giver.is_gone:
                    raise AccessDenied(
                        tr("this version of the share is gone, and the asker knows of no other")
                    )
                await self._give(stream, opening, giver, decision)
        except AccessDenied:
            await self._refuse(stream, self._used_up(stream.peer, giver))
        except QuotaUsedUp as error:
            if stream.version < USED_UP_SINCE:
                raise
            await self._refuse(stream, error.link)

    def _used_up(self, peer: PeerId, giver: Giver | None) -> Link | None:
        """The link of a grant that would open this to `peer`, were its quota not used up."""
        if giver is None:
            return None
        return self._access.explain(peer, Verb.READ, giver.resource, giver.also).used_up

    @staticmethod
    async def _refuse(stream: Stream, link: Link | None) -> None:
        """End the session: nothing is given, or no more by the grant with this `link`."""
        if link is None or stream.version < USED_UP_SINCE:
            await stream.send(Refused())
        else:
            await stream.send(used_up(link))
        await stream.finish()

    def limit(self, root: bytes, bytes_per_s: float) -> None:
        """No more than so many bytes a second of one content; 0: no limit."""
        self._limits.pop(root, None)
        if bytes_per_s:
            self._limits[root] = bytes_per_s
        if self._driver is not None:
            self._feed(u.Limit(root, bytes_per_s))

    def limit_of(self, root: bytes) -> float:
        """The limit of one content, bytes a second; 0: none."""
        return self._limits.get(root, 0.0)

    def _rate_of(self, root: bytes) -> float:
        """Bytes a second of this content that may go now, by all limits; 0: any number."""
        return least(self._bucket.bytes_per_s, self.limit_of(root))

    def gave(self, root: bytes, peer: PeerId, size: int) -> None:
        """`peer` gave us so many bytes of this content: it is served before strangers who gave less."""
        for number, (_, asker, about) in self._sessions.items():
            if asker == peer and about == root:
                self._feed(u.Gave(number, size))

    def askers(self, root: bytes) -> list[tuple[PeerId, int]]:
        """Who has a session about this content, and how many bytes went there."""
        return [(peer, s.sent_bytes) for s, peer, about in self._sessions.values() if about == root]

    def is_moving(self, root: bytes, peer: PeerId) -> bool:
        """Whether bytes of this content go to `peer` now."""
        own = [s for s, asker, about in self._sessions.values() if (asker, about) == (peer, root)]
        return any(not session.is_still() for session in own)

    def end(self, is_outdated: Callable[[Giver], bool]) -> None:
        """End the sessions about what is to be given no more as it is; their askers may come again."""
        for number, (giver, task) in self._running.items():
            if is_outdated(giver) and number not in self._outdated:
                self._outdated.add(number)
                task.cancel()

    def close(self) -> None:
        """Serve nobody any more."""
        if self._driver is not None:
            self._driver.close()

    async def _give(self, stream: Stream, opening: Open, giver: Giver, decision: Decision) -> None:
        root, number = opening.root, next(self._numbers)
        opened = giver.opened(len(self.askers(root)) if giver.is_for_many else 0)
        session = Session(
            stream,
            giver,
            number,
            size=opened.size,
            feed=self._feed,
            executor=self._executor,
            buffers=self._buffers,
            limit=partial(self._rate_of, root),
        )
        self._sessions[number] = (session, stream.peer, root)
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  (in a coroutine there is one)
        self._running[number] = giver, task
        try:
            told = b""
            if giver.is_for_many:
                told = self._introduce(stream.peer, opening, giver)
            if stream.link is not None and (stream.link.path.rtt_s or 0.0) >= FAR_S:
                stream.expect(opened.size)
            await stream.write(PROTOCOL.encode(opened) + told)
            swarm = root if giver.is_for_many else (root, number)
            is_contact = self._access.policy.is_contact(stream.peer)
            self._feed(u.AskerUp(number, swarm, is_contact, whole=opened.whole, size=opened.size))
            await self._serve(session, giver, decision)
        except asyncio.CancelledError:
            if number in self._outdated and not task.uncancel():
                raise PeerError("the share has other content now", CloseCode.CANCELLED) from None
            raise
        finally:
            self._forget(number, stream.peer, root)
        await stream.finish()

    def _introduce(self, peer: PeerId, opening: Open, giver: Giver) -> bytes:
        """Note who comes and gives too; what to tell it of those who came before, as a frame."""
        others = self._askers.setdefault(opening.root, {})
        told = [(bytes(other), at) for other, at in list(others.items())[-PEERS_MAX:] if other != peer]
        if opening.serves:
            addresses = [a for a in opening.addresses[:ADDRESSES_MAX] if is_address(a)]
            others[peer] = addresses
            giver.met(peer, addresses)
        return PROTOCOL.encode(Peers(told)) if told else b""

    async def _serve(self, session: Session, giver: Giver, decision: Decision) -> None:
        stop_watching = giver.watch(session.tell)
        try:
            await session.run(partial(self._access.charge, decision) if decision.meters else None)
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
        finally:
            stop_watching()

    def _forget(self, number: int, peer: PeerId, root: bytes) -> None:
        self._sent_before += self._sessions.pop(number)[0].sent_bytes
        self._running.pop(number, None)
        self._outdated.discard(number)
        left = [asker for _, asker, about in self._sessions.values() if about == root]
        if peer not in left and root in self._askers:
            self._askers[root].pop(peer, None)
        if not left:
            self._askers.pop(root, None)
        self._feed(u.AskerDown(number))

    # ---- the upload core

    def _feed(self, event: Any) -> None:
        if self._driver is None:
            core = u.UploadCore(SystemRandom(), bucket=self._bucket)
            self._driver = Driver(core, send=self._send, on_output=self._on_output)
            for root, rate in self._limits.items():
                self._driver.feed(u.Limit(root, rate))
        self._driver.feed(event)

    @staticmethod
    def _send(peer: Any, message: Any) -> None:
        raise UsageError(tr("the upload core sends nothing itself"))

    def _on_output(self, output: Any) -> None:
        found = self._sessions.get(output.asker)
        if found is None:
            return
        match output:
            case u.Serve(_, request, elsewhere):
                found[0].serve(request, elsewhere)
            case u.SendElsewhere(_, request):
                found[0].serve(request, None)
            case u.TellGiven(_, manifest, pieces):
                found[0].tell_given(manifest, pieces)
