"""The side that has the services: opens a connection to the program for each stream that the policy allows."""

import asyncio
import contextlib
import os
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial

from coterie.access.resource import Verb
from coterie.apps.context import Context
from coterie.apps.expose.leads import FindLead, Lead
from coterie.apps.expose.messages import Opened, Refused, Use
from coterie.apps.expose.targets import Target
from coterie.errors import AccessDenied, LimitExceeded, NotFound, PeerError, TransportError
from coterie.net import Stream
from coterie.services.carry.answers import Answers, read_opening
from coterie.services.carry.datagrams import UdpProgram, carry_datagrams
from coterie.services.carry.messages import FLOW_MAX, Watch
from coterie.services.carry.packets import Packets
from coterie.services.carry.splice import Charge, splice
from coterie.texts import tr

KIND = "service"  # of resources
OPENING_S = 10.0  # for the first message; guess: as sessions of files have it
DIAL_S = 5.0  # to the program: it is near
CONNECTIONS_MAX = 5_000  # to programs here, of all peers; each takes a file descriptor and, at worst, 1.5 MB
NOT_HERE = "there is no such service, or it is not for this computer"  # one answer for both


class Serving:
    """Serves what `find` gives and the policy allows, for as long as it does."""

    def __init__(self, context: Context, find: FindLead, packets: Packets) -> None:
        self._context = context
        self._packets = packets
        self._find = find
        self._answers = Answers(context.jobs.start)
        self.open: Counter[str] = Counter()  # connections by resource

    async def handle(self, stream: Stream) -> None:
        """One stream of a peer."""
        async with asyncio.timeout(OPENING_S):
            message, rest = await read_opening(stream)
        match message:
            case Use():
                await self._use(stream, message, rest)
            case Watch() if not rest:
                await self._answers.beat(stream, Opened())
            case _:
                raise PeerError("a connection begins with the name of a service")

    async def _use(self, stream: Stream, use: Use, rest: bytes) -> None:
        lead = self._find(use.name)
        access, peer = self._context.access, stream.peer
        try:
            if lead is None:
                access.decide(peer, Verb.USE, KIND).require()
                raise AccessDenied(NOT_HERE)
            async with access.hold(peer, Verb.USE, lead.resource) as decision:
                stream.welcome()
                if use.kind == "ask":
                    await stream.send(Opened(lead.host_header, lead.kind))
                    return
                if use.kind != lead.kind:
                    raise NotFound(tr("{use} is a {kind} service", use=use.name, kind=lead.kind))
                charge = partial(access.charge, decision) if decision.meters else None
                program = await self._dial(lead.target, lead.kind)
                with contextlib.closing(program), self._counted(lead):
                    async with self._answers.serve(stream) as heard:
                        await self._carry(stream, lead, use, program, rest, charge=charge, heard=heard)
        except AccessDenied:
            await stream.send(Refused(NOT_HERE))
        except (NotFound, LimitExceeded, _NotThere) as error:
            await stream.send(Refused(str(error), True))

    async def _carry(
        self,
        stream: Stream,
        lead: Lead,
        use: Use,
        program: socket.socket,
        rest: bytes,
        *,
        charge: Charge | None,
        heard: Callable[[], None],
    ) -> None:
        if lead.kind == "tcp":
            await stream.send(Opened(lead.host_header, lead.kind))
            await splice(stream, program, rest, charge=charge, heard=heard)
            return
        number = use.flow if 0 < use.flow <= FLOW_MAX else 0
        with self._packets.flow(stream.link, number, is_asker=False) as packets:
            await stream.send(Opened("", lead.kind, number if packets is not None else 0))
            end = UdpProgram(program)
            await carry_datagrams(stream, end, rest, packets=packets, charge=charge, heard=heard)

    @contextlib.contextmanager
    def _counted(self, lead: Lead) -> Iterator[None]:
        if self.open.total() >= CONNECTIONS_MAX:
            raise LimitExceeded(
                tr("{connections_max} connections are open there already", connections_max=CONNECTIONS_MAX)
            )
        self.open[lead.resource] += 1
        try:
            yield
        finally:
            self.open[lead.resource] -= 1

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
