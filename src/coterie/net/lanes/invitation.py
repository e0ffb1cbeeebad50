"""Invitations to a lane, for long paths: the side that reads says where it listens before it knows what it will hear.

`Invite` goes out with what the reader asks for, the TLS handshake over the connection of the pair while TCP dials: so a
lane stands as soon as TCP does, two round trips after the invitation left. docs/protocol/lanes.md has the words.
"""

import asyncio
import os
import socket
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from coterie.errors import LimitExceeded, PeerError, TransportError
from coterie.net.interfaces import PathInfo
from coterie.net.lanes.bundle import join, spread
from coterie.net.lanes.dialling import close_late, dialled, dispose
from coterie.net.lanes.lane import Lane, NarrowPaths
from coterie.net.lanes.listener import INVITED_S, LaneListener
from coterie.net.lanes.tcp_seen import goes_by_rate
from coterie.net.lanes.tls import LaneIdentity, Shaking
from coterie.texts import tr
from coterie.wire.frames import Bulk, Message
from coterie.wire.lanes import (
    LANE_ID_BYTES,
    PROTOCOL,
    TOKEN_BYTES,
    WAYS_MAX,
    Coming,
    Invite,
    Shaken,
    check_certificate,
    check_listening,
    check_shake,
)


class Talk(Protocol):
    """What this needs of the stream of an invitation."""

    async def send(self, message: Message) -> None: ...

    async def receive(self, timeout_s: float | None = None) -> Message | Bulk | None: ...


@dataclass(eq=False)
class Invitation:
    """The reader's side: what it sent, and who comes."""

    lane: bytes
    first: bytes  # the frame that says it
    remote: str
    shaking: Shaking
    came: "asyncio.Future[socket.socket]"
    more: "list[asyncio.Future[socket.socket]]"

    @classmethod
    async def make(cls, listener: LaneListener, ips: tuple[str, str], ways: int = 1) -> "Invitation":
        """Listen for the peer, at the local one of (remote, local) `ips`, for `INVITED_S`; it may come over `ways`
        connections.

        Raises as `LaneListener.invite`.
        """
        identity = await asyncio.to_thread(LaneIdentity)
        shaking = await asyncio.to_thread(Shaking, identity, is_server=False)
        said = await asyncio.to_thread(shaking.step)
        try:
            token, port, came = listener.invite(ips[1])
        except BaseException:
            shaking.close()
            raise
        came.add_done_callback(lambda _: shaking.close() if came.cancelled() else None)
        more: list[asyncio.Future[socket.socket]] = []
        tokens: list[bytes] = []
        with suppress(LimitExceeded):
            while len(more) < ways - 1:
                another, _, comes = listener.invite(ips[1])
                tokens.append(another)
                more.append(comes)
        for awaited in (came, *more):
            asyncio.get_running_loop().call_later(INVITED_S, awaited.cancel)
        name = os.urandom(LANE_ID_BYTES)
        first = PROTOCOL.encode(Invite(identity.certificate, token, port, name, said, tuple(tokens)))
        return cls(name, first, ips[0], shaking, came, more)

    async def received(self, stream: Talk, rate_based: set[object]) -> Lane:
        """The lane, once the writer has come.

        Raises:
            TransportError: it does not come. PeerError: it breaks the rules.
        """
        coming = await stream.receive(INVITED_S)
        if not isinstance(coming, Coming):
            raise TransportError(tr("the writer did not come"))
        check_certificate(coming.certificate)
        check_shake(coming.shake)
        self.shaking.trust(coming.certificate)
        said = await asyncio.to_thread(self.shaking.step, coming.shake)
        if not self.shaking.is_done:
            raise PeerError("the handshake of a lane that is not whole")
        await stream.send(Shaken(said))
        try:
            sock = await self.came
        except asyncio.CancelledError:
            if not self.came.cancelled():
                raise
            raise TransportError(tr("nobody came over TCP")) from None
        ways, self.more = self.more[: max(coming.ways - 1, 0)], self.more[max(coming.ways - 1, 0) :]
        if not ways:
            return Lane(self.shaking.secure(sock), self.lane, self.remote, rate_based)
        secured, there = self.shaking.lend()
        connections = join(there, sock.dup())  # `withdraw` closes the other
        for comes in ways:
            comes.add_done_callback(lambda done: None if done.cancelled() else connections.add(done.result()))
        return Lane(secured, self.lane, self.remote, rate_based)

    def withdraw(self) -> None:
        """Nobody is awaited any more; nothing, if the lane stands."""
        for came in (self.came, *self.more):
            dispose(came)


@dataclass(eq=False)
class Invited:
    """The writer's side: it may come. `is_over` is set when it came, or will not."""

    stream: Talk
    invite: Invite
    is_over: asyncio.Event = field(default_factory=asyncio.Event)

    @classmethod
    def checked(cls, stream: Talk, invite: Invite) -> "Invited":
        """Raises `PeerError` when the invitation cannot be."""
        check_certificate(invite.certificate)
        check_listening(invite.token, invite.port, may_be_none=False)
        check_shake(invite.shake)
        if len(invite.lane) != LANE_ID_BYTES:
            raise PeerError("a lane without a name")
        if len(invite.more) >= WAYS_MAX or any(len(token) != TOKEN_BYTES for token in invite.more):
            raise PeerError("an invitation with tokens that cannot be")
        return cls(stream, invite)

    async def come(
        self,
        path: PathInfo,
        ips: tuple[str, str],
        answer_s: float,
        rate_based: set[object],
        narrow: NarrowPaths,
    ) -> Lane:
        """The lane: TCP is dialled while TLS shakes hands. Raises TransportError, PeerError."""
        path = msgspec.structs.replace(path, payload_bytes=0)  # so early QUIC has tried no larger packets yet
        identity = await asyncio.to_thread(LaneIdentity)
        shaking = await asyncio.to_thread(Shaking, identity, self.invite.certificate, is_server=True)
        tokens = [self.invite.token, *(self.invite.more if goes_by_rate() else ())]
        dialling, *more = [
            asyncio.ensure_future(dialled(path, ips, token, self.invite.port, narrow)) for token in tokens
        ]
        try:
            said = await asyncio.to_thread(shaking.step, self.invite.shake)
            await self.stream.send(Coming(identity.certificate, said, 1 + len(more)))
            shaken = await self.stream.receive(answer_s)
            if not isinstance(shaken, Shaken):
                raise TransportError(tr("the peer did not get the lane up"))
            check_shake(shaken.shake)
            await asyncio.to_thread(shaking.step, shaken.shake)
            if not shaking.is_done:
                raise PeerError("the handshake of a lane that is not whole")
            sock = await asyncio.shield(dialling)
        except BaseException:
            shaking.close()
            for one in (dialling, *more):
                one.add_done_callback(close_late)
            raise
        if not more:
            return Lane(shaking.secure(sock), self.invite.lane, ips[0], rate_based, narrow)
        secured, there = shaking.lend()
        connections = spread(there, sock, ips[0], rate_based, narrow)
        for one in more:
            one.add_done_callback(
                lambda done: None if done.cancelled() or done.exception() else connections.add(done.result())
            )
        return Lane(secured, self.invite.lane, ips[0], rate_based, narrow)
