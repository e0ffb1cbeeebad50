"""Makes lanes: negotiates them over the authenticated connection, dials or listens, keeps those that stand.

Only the address that the connection itself is on is ever dialled, so no peer can send us to a third host; a lane is
taken only from a peer whose bulk we are reading. docs/protocol/lanes.md has the words, `lanes/choice` says when.
"""

import asyncio
import logging
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, Protocol, Self

from coterie.errors import CoterieError, LimitExceeded, PeerError, TransportError, UsageError
from coterie.net.interfaces import PathInfo
from coterie.net.lanes.bundle import WAYS, WAYS_FROM_US
from coterie.net.lanes.choice import AFTER_BYTES, LaneChoice
from coterie.net.lanes.dialling import DIAL_S, answered, dialled, dispose, in_thread
from coterie.net.lanes.invitation import Invitation, Invited
from coterie.net.lanes.lane import Lane, NarrowPaths
from coterie.net.lanes.listener import INVITED_S, LaneListener, local_ip_towards
from coterie.net.lanes.tls import CAN_SHAKE, HANDSHAKE_S, LaneIdentity
from coterie.tasks import Tasks
from coterie.texts import tr
from coterie.wire.frames import Bulk, Message
from coterie.wire.frames import Protocol as WireProtocol
from coterie.wire.lanes import (
    LANE_ID_BYTES,
    PROTOCOL,
    Declined,
    DialMe,
    Failed,
    Invite,
    Listening,
    Offer,
    Ready,
    check_certificate,
    check_listening,
    padding,
)
from coterie.wire.record import split_address

ANSWER_S = DIAL_S + INVITED_S + 2 * HANDSHAKE_S  # for the other side's next word, whatever it tries meanwhile
LANES_PER_PEER_MAX = 4  # guess: one for each session with a peer, in each direction
IDLE_S = 60.0  # guess: as `NetLimits.idle_s`
FAR_S = 0.05  # round trip; guess: on shorter paths nobody waits for a lane, the stream fills them
MAKING_ROUND_TRIPS = (
    6  # that making a lane takes at most where nothing is in its way: four, and two for lost packets
)
READER_S = 0.5  # guess: an offer may come with what makes the peer read bulk, and be heard before it

_log = logging.getLogger(__name__)

MayUse = Callable[[PathInfo], bool]


class Carrier(Protocol):
    """The connection of a stream."""

    @property
    def lanes(self) -> object | None: ...


class Talk(Protocol):
    """What lanes need of a stream."""

    @property
    def link(self) -> Carrier | None: ...

    async def send(self, message: Message) -> None: ...

    async def receive(self, timeout_s: float | None = None) -> Message | Bulk | None: ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Located(Protocol):
    """What lanes need of a connection before it is accepted."""

    @property
    def path(self) -> PathInfo: ...


class Link(Located, Protocol):
    """What lanes need of a connection."""

    async def open_stream(self, protocol: WireProtocol, first: bytes = b"") -> Talk: ...


class _TooEarly(TransportError):
    """The peer does not read bulk yet; older ones do not wait for it."""


class Lanes:
    """All lanes of one node."""

    def __init__(
        self,
        bind_ip: str = "0.0.0.0",  # noqa: S104
        *,
        may_use: MayUse | None = None,
        after_bytes: int = AFTER_BYTES,
        tasks: Tasks | None = None,
    ) -> None:
        """`bind_ip` as for the transport: lanes listen and dial nowhere else. `may_use` judges a path, `after_bytes`
        as in `lanes/choice`."""
        self.bind_ip = bind_ip
        self.after_bytes = after_bytes
        self.rate_based: set[object] = set()  # of all peers' lanes: they share our uplink
        self.narrow = NarrowPaths()
        self.tasks = tasks or Tasks("lanes")
        self.listener = LaneListener(self.tasks)
        self._may_use = may_use
        self._peers: dict[int, PeerLanes] = {}

    def of(self, link: Link) -> "PeerLanes":
        """The lanes beside one connection."""
        made = PeerLanes(self, link)
        self._peers[id(made)] = made
        return made

    def direct_ips(self, link: Located) -> tuple[str, str] | None:
        """(remote, local) address over which the peer is reached directly now, if lanes may use it."""
        path = link.path
        if path.kind != "direct" or (self._may_use is not None and not self._may_use(path)):
            return None
        try:
            remote = split_address(path.remote)[0]
        except UsageError:
            return None
        remote = getattr(remote, "ipv4_mapped", None) or remote
        there = f"{remote}%{path.scope}" if path.scope else str(remote)
        local = local_ip_towards(there, self.bind_ip)
        return (there, local) if local else None

    async def invitation(self, link: Located) -> Invitation | None:
        """Where the peer may come with much that we will ask it for: on long paths, where each round trip counts."""
        if not CAN_SHAKE or (link.path.rtt_s or 0.0) < FAR_S or (ips := self.direct_ips(link)) is None:
            return None
        try:
            is_far = 1e6 * (link.path.rtt_s or 0.0) >= WAYS_FROM_US
            return await Invitation.make(self.listener, ips, WAYS if is_far else 1)
        except (TransportError, LimitExceeded) as error:
            _log.debug("nobody is invited: %s", error)
            return None

    async def handle(self, stream: Talk) -> None:
        """The side that did not begin, of a negotiation."""
        lanes = stream.link.lanes if stream.link is not None else None
        if isinstance(lanes, PeerLanes):
            match await stream.receive(ANSWER_S):
                case Offer() as offer:
                    await lanes.answer(stream, offer)
                case Invite() as invite:
                    await lanes.be_invited(stream, invite)
                case _:
                    raise PeerError("a lane begins with an offer or an invitation")

    async def close(self) -> None:
        """Cut every lane and stop listening."""
        for peer in list(self._peers.values()):
            await peer.close()
        await self.listener.close()

    def forget(self, peer: "PeerLanes") -> None:
        """Its connection has ended."""
        self._peers.pop(id(peer), None)


class PeerLanes:
    """The lanes beside one connection, in both directions. What names a thread may be called from any."""

    def __init__(self, lanes: Lanes, link: Link) -> None:
        self.choice = LaneChoice(lanes.after_bytes)
        self.problem = ""  # why the last attempt gave no lane
        self._lanes = lanes
        self._link = link
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._to_write: list[Lane] = []  # idle
        self._to_read: dict[bytes, Lane] = {}  # not taken up by a stream, oldest first
        self._in_use: set[Lane] = set()
        self._readers = 0
        self._has_readers = asyncio.Event()
        self._was_declined = False
        self._making: asyncio.Task[None] | None = None
        self._making_since = 0.0
        self._stands = asyncio.Event()  # the lane that is being made, or nobody makes one any more
        self._coming: set[bytes] = set()  # names of lanes to read from that are being made
        self._invited: Invited | None = None  # to write
        self._is_inviting = False
        self._arrived = threading.Condition(self._lock)
        self._tasks = lanes.tasks.part("lanes")
        self._is_closed = False

    # ---- from the threads of streams

    def take_to_write(self) -> Lane | None:
        """A lane for this thread to write to, if the rule says so and there is one; else one is being made."""
        with self._lock:
            if self._is_closed or not self.choice.wants_lane(time.monotonic()):
                return None
            while self._to_write:
                lane = self._to_write.pop()
                if not lane.has_ended:
                    self._in_use.add(lane)
                    return lane
                lane.close()
            if self._making is None and len(self._in_use) < LANES_PER_PEER_MAX:
                with suppress(RuntimeError):  # the loop is closed
                    self._loop.call_soon_threadsafe(self._begin)
        return None

    def expect(self, size: int) -> None:
        """About so many bytes will be written: have a lane ready, if the rule says so. On the loop."""
        with self._lock:
            self.choice.expect(size)
            is_wanted = not (self._to_write or self._in_use) and self.choice.wants_lane(time.monotonic())
        if is_wanted:
            self._begin()

    def give_back(self, lane: Lane) -> None:
        """This thread has written `BACK` and will write to it no more."""
        with self._lock:
            self._in_use.discard(lane)
            if not (self._is_closed or lane.is_closed or lane.is_worn):
                self._to_write.append(lane)
                with suppress(RuntimeError):
                    self._loop.call_soon_threadsafe(
                        self._loop.call_later, IDLE_S, self._end_idle, lane, lane.sent_bytes
                    )
                return
        lane.close()

    def drop(self, lane: Lane, *, has_failed: bool) -> None:
        """It is of no use any more; `has_failed`: by itself, so another would hardly fare better now."""
        with self._lock:
            self._in_use.discard(lane)
            if has_failed:
                self.choice.failed(time.monotonic())
        lane.close()

    def take_to_read(self, id_: bytes) -> Lane:
        """The lane that the peer says it writes to; waits while it is being made.

        Raises:
            TransportError: there is none of that name (any more).
        """
        with self._arrived:
            self._arrived.wait_for(lambda: id_ not in self._coming or self._is_closed, ANSWER_S)
            lane = self._to_read.pop(id_, None)
            if lane is None or self._is_closed:
                raise TransportError(tr("bulk was sent over a lane that is not here"))
            self._in_use.add(lane)
            return lane

    def keep_to_read(self, lane: Lane) -> None:
        """The peer went back to the stream; the lane waits for the next."""
        with self._lock:
            self._in_use.discard(lane)
            if not self._is_closed and not lane.is_closed:
                self._to_read[lane.id] = lane
                return
        lane.close()

    def add_reader(self, change: int) -> None:
        """One stream more (1) or less (-1) of this connection reads bulk and can follow to a lane."""
        with self._lock:
            self._readers += change
        if change > 0:
            self._has_readers.set()

    @property
    def may_be_answered_over(self) -> bool:
        """Whether a peer that hears at once that we follow may answer an opening over a lane, as version 0.1 does.

        A lane that we invited to is none of those: version 0.1 knows no invitations.
        """
        with self._lock:
            return bool(self._to_read or self._in_use or (self._coming and not self._is_inviting))

    # ---- on the loop

    async def close(self) -> None:
        """The connection has ended: cut everything."""
        with self._lock:
            self._is_closed = True
            self._arrived.notify_all()
            lanes = [*self._to_write, *self._to_read.values(), *self._in_use]
            self._to_write.clear()
            self._to_read.clear()
        for lane in lanes:
            lane.close()
        self._lanes.forget(self)
        await self._tasks.close()

    def _begin(self) -> None:
        if self._making is not None or self._is_closed:
            return
        self._stands.clear()
        self._making_since = self._loop.time()
        self._making = self._tasks.start(self._make(), "making a lane")

    async def settled(self) -> None:
        """On a far path: wait while the first lane is being made, as long as that takes where nothing is in its way.

        What was given to the stream has to go over it, however slowly: where packets are lost, that takes longer than
        all the rest over a lane.
        """
        rtt_s = self._link.path.rtt_s or 0.0
        left_s = self._making_since + MAKING_ROUND_TRIPS * rtt_s - self._loop.time()
        if self._making is not None and not self.problem and rtt_s >= FAR_S and left_s > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await self._stands.wait()

    async def _make(self) -> None:
        """The writer's side of a negotiation; in the end there is an idle lane, or `problem` says why not."""
        try:
            await self._offer()
            self.problem = ""
        except (CoterieError, TimeoutError) as error:
            self.problem = str(error) or "the other side did not answer"
            _log.debug("no lane: %s", self.problem)
            if not isinstance(error, _TooEarly):
                with self._lock:
                    self.choice.failed(time.monotonic())
        finally:
            self._making = None
            self._stands.set()

    def _stand(self, lane: Lane) -> None:
        """It may be written to."""
        with self._lock:
            is_wanted = not self._is_closed
            if is_wanted:
                self._to_write.append(lane)
        if not is_wanted:
            lane.close()
        self._stands.set()

    async def _offer(self) -> Lane:
        ips = self._lanes.direct_ips(self._link)
        if ips is None:
            raise TransportError(tr("the peer is not reached directly"))
        can_dial = True
        invited, self._invited = self._invited, None
        if invited is not None:
            try:
                return await self._come(invited, ips)
            except TransportError as error:
                _log.debug("an invitation to a lane came to nothing: %s", error)
                can_dial = False
            finally:
                invited.is_over.set()
        identity = await asyncio.to_thread(LaneIdentity)
        async with await self._link.open_stream(
            PROTOCOL, PROTOCOL.encode(Offer(identity.certificate))
        ) as stream:
            listening = await stream.receive(ANSWER_S)
            if isinstance(listening, Declined) and not self._was_declined:
                self._was_declined = True
                raise _TooEarly(tr("the peer wants no lane"))
            if not isinstance(listening, Listening):
                raise TransportError(tr("the peer wants no lane"))
            check_certificate(listening.certificate)
            check_listening(listening.token, listening.port, may_be_none=True)
            if not can_dial:
                listening = Listening(listening.certificate, b"", 0, listening.lane)
            secured, is_dialled = await self._dial_or_listen(stream, identity, listening, ips)
            lane = Lane(secured, listening.lane, ips[0], self._lanes.rate_based, self._lanes.narrow)
            try:
                lane.queue_little()
                is_named = is_dialled and len(listening.lane) == LANE_ID_BYTES
                if is_named:  # it knows us by our certificate as soon as it hears us
                    self._stand(lane)
                ready = await stream.receive(ANSWER_S)
                if not isinstance(ready, Ready) or len(ready.lane) != LANE_ID_BYTES:
                    raise TransportError(tr("the peer did not get the lane up"))
            except BaseException:
                lane.close()
                raise
            if not is_named:
                lane.id = ready.lane
                self._stand(lane)
            return lane

    async def _come(self, invited: Invited, ips: tuple[str, str]) -> Lane:
        """Where the reader listens already."""
        lanes = self._lanes
        lane = await invited.come(self._link.path, ips, ANSWER_S, lanes.rate_based, lanes.narrow)
        try:
            lane.queue_little()
            await asyncio.to_thread(
                lane.write, padding()
            )  # until something is asked for, or little before it
            self._stand(lane)
            if not isinstance(await invited.stream.receive(ANSWER_S), Ready):
                raise TransportError(tr("the peer did not get the lane up"))
        except BaseException:
            lane.close()
            raise
        return lane

    async def be_invited(self, stream: Talk, invite: Invite) -> None:
        """The writer's side: the peer will ask for much. It is come to as soon as that is known; until then, wait."""
        invited = self._invited = Invited.checked(stream, invite)
        try:
            async with asyncio.timeout(INVITED_S):
                await invited.is_over.wait()
        except TimeoutError:
            if self._invited is not invited:  # it came late, and is at it
                await invited.is_over.wait()
        finally:
            if self._invited is invited:
                self._invited = None

    async def invitation(self) -> Invitation | None:
        """The reader's side, on long paths: where we listen, to be said with what we are about to ask for."""
        with self._lock:
            has_lane = bool(self._to_read) or self._is_inviting
        return None if has_lane else await self._lanes.invitation(self._link)

    def await_invited(self, invitation: Invitation) -> None:
        """Let who was invited come, in the background. Its stream was begun ahead."""
        self._is_inviting = True
        with self._lock:
            self._coming.add(invitation.lane)
        self._tasks.start(self._receive_invited(invitation), "awaiting who was invited to a lane")

    async def _receive_invited(self, invitation: Invitation) -> None:
        try:
            async with await self._link.open_stream(PROTOCOL, invitation.first) as stream:
                lane = await invitation.received(stream, self._lanes.rate_based)
                lane.hold_little()
                self._admit(lane)
                await stream.send(Ready(invitation.lane))
        except (CoterieError, TimeoutError) as error:
            _log.debug("who was invited to a lane did not come: %s", error)
        finally:
            invitation.withdraw()
            self._is_inviting = False
            with self._arrived:
                self._coming.discard(invitation.lane)
                self._arrived.notify_all()

    async def _dial_or_listen(
        self, stream: Talk, identity: LaneIdentity, listening: Listening, ips: tuple[str, str]
    ) -> tuple[ssl.SSLSocket, bool]:
        """The lane, and whether it was dialled here."""
        if listening.port:
            with suppress(TransportError):
                secured = await self._dialled(
                    identity, listening.certificate, ips, listening.token, listening.port
                )
                return secured, True
        try:
            token, port, came = self._lanes.listener.invite(ips[1])
        except CoterieError:
            await stream.send(Failed())
            raise
        try:
            await stream.send(DialMe(token, port))
            return await answered(identity, listening.certificate, came), False
        finally:
            dispose(came)

    async def answer(self, stream: Talk, offer: Offer) -> None:
        """The reader's side: listen, else dial; then name the lane."""
        check_certificate(offer.certificate)
        ips = self._lanes.direct_ips(self._link)
        await self._await_reader()
        with self._lock:
            is_wanted = self._readers > 0 and len(self._in_use) < LANES_PER_PEER_MAX and not self._is_closed
        if ips is None or not is_wanted:
            await stream.send(Declined())
            return
        identity = await asyncio.to_thread(LaneIdentity)
        try:
            token, port, came = self._lanes.listener.invite(ips[1])
        except (TransportError, LimitExceeded) as error:
            self.problem = str(error)
            token, port, came = b"", 0, self._loop.create_future()
        name = os.urandom(LANE_ID_BYTES)
        with self._lock:
            self._coming.add(name)
        try:
            await stream.send(Listening(identity.certificate, token, port, name))
            secured = await self._reached(stream, identity, offer, came, ips)
            lane = Lane(secured, name, ips[0], self._lanes.rate_based)
            lane.hold_little()
            self._admit(lane)
        except TransportError as error:
            self.problem = str(error)
            await stream.send(Failed())
            return
        finally:
            dispose(came)
            with self._arrived:
                self._coming.discard(name)
                self._arrived.notify_all()
        await stream.send(Ready(name))

    async def _await_reader(self) -> None:
        """Until a stream of this connection reads bulk, for a moment."""
        with self._lock:
            if not self._readers:
                self._has_readers.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(READER_S):
                await self._has_readers.wait()

    async def _reached(
        self,
        stream: Talk,
        identity: LaneIdentity,
        offer: Offer,
        came: "asyncio.Future[socket.socket]",
        ips: tuple[str, str],
    ) -> ssl.SSLSocket:
        """Whichever comes: the writer itself, or its word that we should dial."""
        word = asyncio.ensure_future(stream.receive(ANSWER_S))
        try:
            waited: list[asyncio.Future[Any]] = [word, came]
            done, _ = await asyncio.wait(waited, timeout=ANSWER_S, return_when=asyncio.FIRST_COMPLETED)
            if came in done:
                return await answered(identity, offer.certificate, came)
            if not word.done():
                raise TransportError(tr("the writer did not come"))
            said = word.result()
        except TimeoutError:
            raise TransportError(tr("the writer did not come")) from None
        finally:
            word.cancel()
            await asyncio.gather(word, return_exceptions=True)
        if not isinstance(said, DialMe):
            raise TransportError(tr("the writer gave up"))
        check_listening(said.token, said.port, may_be_none=False)
        return await self._dialled(identity, offer.certificate, ips, said.token, said.port)

    async def _dialled(
        self, identity: LaneIdentity, certificate: bytes, ips: tuple[str, str], token: bytes, port: int
    ) -> ssl.SSLSocket:
        """The lane as its TCP client. In a thread: all of it blocks."""
        sock = await dialled(self._link.path, ips, token, port, self._lanes.narrow)
        return await in_thread(lambda: identity.wrap(sock, certificate, is_server=False))

    def _admit(self, lane: Lane) -> None:
        with self._lock:
            dropped = []
            while len(self._to_read) >= LANES_PER_PEER_MAX:
                dropped.append(self._to_read.pop(next(iter(self._to_read))))
            if self._is_closed:
                dropped.append(lane)
            else:
                self._to_read[lane.id] = lane
        for old in dropped:
            old.close()

    def _end_idle(self, lane: Lane, sent_bytes: int) -> None:
        """Close a lane that nobody used since."""
        with self._lock:
            if lane not in self._to_write or lane.sent_bytes != sent_bytes:
                return
            self._to_write.remove(lane)
        lane.close()
