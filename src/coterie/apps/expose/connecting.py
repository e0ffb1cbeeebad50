"""The side that uses services of peers: opens streams to them, and ports here that lead there."""

import asyncio
import contextlib
import itertools
import socket
from collections.abc import AsyncIterator, Callable

from coterie.apps.context import Context
from coterie.apps.expose.beats import Pulse
from coterie.apps.expose.datagrams import carry_datagrams
from coterie.apps.expose.messages import FLOW_MAX, PROTOCOL, Opened, Refused, Use, Watch
from coterie.apps.expose.packets import Packets
from coterie.apps.expose.serving import STREAMS_MAX, read_opening
from coterie.apps.expose.splice import break_off, splice
from coterie.errors import CloseCode, CoterieError, LimitExceeded, NotFound, PeerError, TransportError
from coterie.identity import PeerId
from coterie.net import Connection, Stream
from coterie.net.stream import close_code_for
from coterie.rate import Rate
from coterie.services.local import Flow
from coterie.texts import tr

ANSWER_S = 15.0  # to `Use`: the other side looks for its program for some seconds
BEGIN_S = 3.0  # for the first beat; as `beats` waits for each
OPENED_PER_S = 400.0  # streams to one peer; its bound for all apps is `NetLimits.streams_per_s`
OPENED_BURST = 500
CONNECTIONS_MAX = STREAMS_MAX - 200  # to one peer at once


class _Link:
    """What is under way with one peer."""

    def __init__(self) -> None:
        self.used = 0
        self.rate = Rate(OPENED_PER_S, OPENED_BURST)
        self.turn = asyncio.Lock()  # for the first stream of a connection: it shows the right to many
        self.pulse: Pulse | None = None


class Connecting:
    """Streams to services of peers. All methods belong to the event loop."""

    def __init__(self, context: Context, packets: Packets) -> None:
        self._context = context
        self._packets = packets
        self._flows = itertools.count()
        self._links: dict[PeerId, _Link] = {}

    @contextlib.asynccontextmanager
    async def open(
        self, peer: PeerId, use: Use
    ) -> AsyncIterator[tuple[Stream, Opened, bytes, Callable[[], None]]]:
        """A stream to a service while the block runs: with the answer, bytes behind it, and whom to tell of bytes.

        A fault in the block resets it.

        Raises:
            NotFound: no such service, or not for this node.
            TransportError: the peer, or the program there, was not reached.
            PeerError: it broke the protocol, or took the right back.
            LimitExceeded: CONNECTIONS_MAX are open, or more than OPENED_PER_S were begun for long.
        """
        link = self._links.setdefault(peer, _Link())
        if link.used >= CONNECTIONS_MAX:
            raise LimitExceeded(
                tr(
                    "{connections_max} connections to {short} are open already",
                    connections_max=CONNECTIONS_MAX,
                    short=peer.short,
                )
            )
        link.used += 1
        try:
            stream, opened, rest = await self._open(peer, link, use)
            try:
                yield stream, opened, rest, link.pulse.heard if link.pulse else _nobody
            except BaseException as error:
                await stream.reset(close_code_for(error))
                raise
            await stream.end()
        finally:
            link.used -= 1
            if not link.used:
                self._links.pop(peer, None)

    async def ask(self, peer: PeerId, name: str) -> Opened:
        """What the service is, without connecting to its program. Errors as `open`."""
        async with self.open(peer, Use(name, "ask")) as (_, opened, _, _):
            return opened

    async def carry(self, peer: PeerId, name: str, program: socket.socket) -> None:
        """Connect `program`, a TCP connection, to a service until both sides have finished. Errors as `open`."""
        try:
            async with self.open(peer, Use(name)) as (stream, _, rest, heard):
                await splice(stream, program, rest, heard=heard)
        except CoterieError:
            break_off(program)
            raise

    async def carry_flow(self, peer: PeerId, name: str, flow: Flow) -> None:
        """Connect `flow`, of a UDP port here, to a service until one side is silent. Errors as `open`."""
        number = 1 + next(self._flows) % FLOW_MAX
        async with self.open(peer, Use(name, "udp", number)) as (stream, opened, rest, heard):
            with self._packets.flow(
                stream.link, number if opened.flow == number else 0, is_asker=True
            ) as packets:
                await carry_datagrams(stream, flow, rest, packets=packets, heard=heard)

    async def _open(self, peer: PeerId, link: _Link, use: Use) -> tuple[Stream, Opened, bytes]:
        loop = asyncio.get_running_loop()
        if link.rate.ready_at(loop.time()) - loop.time() > ANSWER_S:  # who has gone meanwhile has paid, too
            raise LimitExceeded(
                tr("too many connections to {short} are begun: try again in a minute", short=peer.short)
            )
        await asyncio.sleep(link.rate.spend(loop.time()))
        connection = await self._context.net.connect(peer)
        if link.pulse is not None and link.pulse.connection is connection:
            return await self._ask(connection, use)
        async with link.turn:
            found = await self._ask(connection, use)
            if use.kind != "ask" and (link.pulse is None or link.pulse.connection is not connection):
                link.pulse = Pulse(connection)
                self._context.jobs.start(self._watch(link, link.pulse), "hearing whether a computer is there")
            return found

    async def _ask(self, connection: Connection, use: Use) -> tuple[Stream, Opened, bytes]:
        stream = await _opened(connection, PROTOCOL.encode(use))
        try:
            async with asyncio.timeout(ANSWER_S):
                answer, rest = await read_opening(stream)
            match answer:
                case Opened():
                    return stream, answer, rest
                case Refused(reason, is_failed):
                    said = f"{connection.peer.short} says: {reason}"
                    raise TransportError(said) if is_failed else NotFound(said)
            raise PeerError(f"{connection.peer.short} did not answer as coterie does")
        except TimeoutError:
            await stream.reset(CloseCode.TIMEOUT)
            raise TransportError(
                tr("{short} is connected but does not answer", short=connection.peer.short)
            ) from None
        except BaseException as error:
            await stream.reset(close_code_for(error))
            raise

    async def _watch(self, link: _Link, pulse: Pulse) -> None:
        """Until the peer is gone or nothing of it is used."""
        with contextlib.suppress(CoterieError):  # the connections that it was for say so themselves
            try:
                async with asyncio.timeout(BEGIN_S):
                    stream = await _opened(pulse.connection, PROTOCOL.encode(Watch()))
                    answer = await stream.receive()
            except (TimeoutError, TransportError):
                pulse.lost(BEGIN_S)
                return
            async with stream:
                if isinstance(answer, Opened):
                    await pulse.ask(stream, lambda: link.used > 0 and link.pulse is pulse)
        if link.pulse is pulse:
            link.pulse = None


async def _opened(connection: Connection, first: bytes) -> Stream:
    try:
        async with asyncio.timeout(ANSWER_S):
            return await connection.open_stream(PROTOCOL, first)
    except TimeoutError:
        raise TransportError(
            tr("{short} lets no more streams be opened now", short=connection.peer.short)
        ) from None
    except PeerError as error:
        if error.close_code != CloseCode.REFUSED:
            raise
        text = f"{connection.peer.short} offers no services to this computer, or needs a newer version of coterie"
        raise PeerError(text, error.close_code) from None


def _nobody() -> None:
    """Nobody watches."""
