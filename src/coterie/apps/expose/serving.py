"""The side that has the services: opens a connection to the program for each stream that the policy allows."""

import asyncio
import contextlib
import os
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable
from functools import partial

from coterie.access.resource import Verb
from coterie.apps.context import Context
from coterie.apps.expose.beats import Pulse
from coterie.apps.expose.datagrams import UdpProgram, carry_datagrams
from coterie.apps.expose.messages import FLOW_MAX, PROTOCOL, Opened, Opening, Refused, Use, Watch
from coterie.apps.expose.packets import Packets
from coterie.apps.expose.records import ExposedRecord
from coterie.apps.expose.splice import Charge, splice
from coterie.apps.expose.targets import Target
from coterie.errors import AccessDenied, LimitExceeded, NotFound, PeerError, TransportError
from coterie.identity import PeerId
from coterie.net import Connection, Stream
from coterie.texts import tr
from coterie.wire.frames import Message

KIND = "service"  # of resources
OPENING_S = 10.0  # for the first message; guess: as sessions of files have it
DIAL_S = 5.0  # to the program: it is near
STREAMS_MAX = 2_200  # of one peer at once: 2,000 connections, and what browsers leave open
CONNECTIONS_MAX = 5_000  # to programs here, of all peers; each takes a file descriptor and, at worst, 1.5 MB
NOT_HERE = "there is no such service, or it is not for this computer"  # one answer for both


def resource_of(record: ExposedRecord) -> str:
    """What the policy calls a service."""
    return f"{KIND}/{record.id}"


class Serving:
    """Serves what `find` gives and the policy allows, for as long as it does."""

    def __init__(
        self, context: Context, find: Callable[[str], ExposedRecord | None], packets: Packets
    ) -> None:
        self._context = context
        self._packets = packets
        self._find = find
        self._pulses: dict[PeerId, Pulse] = {}
        self._used: Counter[PeerId] = Counter()
        self.open: Counter[str] = Counter()  # connections by the id of the service

    async def handle(self, stream: Stream) -> None:
        """One stream of a peer."""
        async with asyncio.timeout(OPENING_S):
            message, rest = await read_opening(stream)
        match message:
            case Use():
                await self._use(stream, message, rest)
            case Watch() if stream.peer in self._pulses and not rest:
                await stream.send(Opened())
                await self._pulses[stream.peer].answer(stream)
            case _:
                raise PeerError("a connection begins with the name of a service")

    async def _use(self, stream: Stream, use: Use, rest: bytes) -> None:
        record = self._find(use.name)
        access, peer = self._context.access, stream.peer
        try:
            if record is None:
                access.decide(peer, Verb.USE, KIND).require()
                raise AccessDenied(NOT_HERE)
            async with access.hold(peer, Verb.USE, resource_of(record)) as decision:
                stream.welcome()
                if use.kind == "ask":
                    await stream.send(Opened(record.host_header, record.kind))
                    return
                if use.kind != record.kind:
                    raise NotFound(tr("{use} is a {kind} service", use=use.name, kind=record.kind))
                charge = partial(access.charge, decision) if decision.meters else None
                with contextlib.closing(await self._dial(record.target, record.kind)) as program:
                    async with self._counted(stream, record):
                        await self._carry(stream, record, use, program, rest, charge)
        except AccessDenied:
            await stream.send(Refused(NOT_HERE))
        except (NotFound, LimitExceeded, _NotThere) as error:
            await stream.send(Refused(str(error), True))

    async def _carry(
        self,
        stream: Stream,
        record: ExposedRecord,
        use: Use,
        program: socket.socket,
        rest: bytes,
        charge: Charge | None,
    ) -> None:
        heard = self._pulses[stream.peer].heard
        if record.kind == "tcp":
            await stream.send(Opened(record.host_header, record.kind))
            await splice(stream, program, rest, charge=charge, heard=heard)
            return
        number = use.flow if 0 < use.flow <= FLOW_MAX else 0
        with self._packets.flow(stream.link, number, is_asker=False) as packets:
            await stream.send(Opened("", record.kind, number if packets is not None else 0))
            end = UdpProgram(program)
            await carry_datagrams(stream, end, rest, packets=packets, charge=charge, heard=heard)

    @contextlib.asynccontextmanager
    async def _counted(self, stream: Stream, record: ExposedRecord) -> AsyncIterator[None]:
        if self.open.total() >= CONNECTIONS_MAX:
            raise LimitExceeded(
                tr("{connections_max} connections are open there already", connections_max=CONNECTIONS_MAX)
            )
        peer, link = stream.peer, stream.link
        assert isinstance(link, Connection)  # noqa: S101  (the router gives every stream its connection)
        link.widen(STREAMS_MAX)
        pulse = self._pulses.get(peer)
        if pulse is None or pulse.connection is not link:
            pulse = self._pulses[peer] = Pulse(link)
            is_used = lambda: self._pulses.get(peer) is pulse  # noqa: E731
            self._context.jobs.start(pulse.expect(is_used), "expecting the beats of a computer")
        self._used[peer] += 1
        self.open[record.id] += 1
        try:
            yield
        finally:
            self.open[record.id] -= 1
            self._used[peer] -= 1
            if not self._used[peer]:
                del self._used[peer], self._pulses[peer]

    @staticmethod
    async def _dial(target: Target, kind: str) -> socket.socket:
        """A connection to the program. Raises `_NotThere`."""
        loop = asyncio.get_running_loop()
        sort = socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM
        try:
            async with asyncio.timeout(DIAL_S):
                if target.path:
                    return await _connect(socket.AF_UNIX, sort, target.path)
                found = await loop.getaddrinfo(target.host, target.port, type=sort)
                for family, _, _, _, address in found[:-1]:
                    with contextlib.suppress(OSError):
                        return await _connect(family, sort, address)
                return await _connect(found[-1][0], sort, found[-1][4])
        except TimeoutError:
            raise _NotThere(tr("the program of this service does not answer there")) from None
        except OSError as error:
            is_named = error.errno is None or isinstance(error, socket.gaierror)
            # else the text is asyncio's own, and no sentence
            reason = error.strerror if is_named else os.strerror(error.errno or 0)
            raise _NotThere(
                tr("the program of this service is not there ({reason})", reason=reason)
            ) from None


class _NotThere(TransportError):
    """The service is there, and its program is not."""


async def _connect(family: int, sort: int, address: object) -> socket.socket:
    made = socket.socket(family, sort)
    try:
        made.setblocking(False)
        if family != socket.AF_UNIX and sort == socket.SOCK_STREAM:
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(made, address)  # type: ignore[arg-type]
    except BaseException:
        made.close()
        raise
    return made


async def read_opening(stream: Stream) -> tuple[Message, bytes]:
    """The first message, and the bytes that came behind it.

    Raises:
        PeerError: none came, or no whole one.
    """
    opening = Opening()
    while data := await stream.read_bytes(PROTOCOL.frame_bytes_max):
        found = opening.feed(data)
        if found is not None:
            return found
    raise PeerError(f"{stream.peer.short} ended the connection before its first message")
