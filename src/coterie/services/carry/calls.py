"""The side that asks: streams to peers, each answered before it is used; it notices when a peer is gone."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

from coterie.errors import CloseCode, CoterieError, LimitExceeded, PeerError, TransportError
from coterie.identity import PeerId
from coterie.net import Connection, Stream
from coterie.net.stream import close_code_for
from coterie.rate import Rate
from coterie.services.carry.answers import STREAMS_MAX, read_opening
from coterie.services.carry.beats import Pulse
from coterie.services.carry.messages import Watch
from coterie.texts import tr
from coterie.wire.frames import Message, Protocol

ANSWER_S = 15.0  # to the first message: the other side looks for its program for some seconds
BEGIN_S = 3.0  # for the first beat; as `beats` waits for each
OPENED_PER_S = 400.0  # streams to one peer; its bound for all apps is `NetLimits.streams_per_s`
OPENED_BURST = 500
CONNECTIONS_MAX = STREAMS_MAX - 200  # to one peer at once

A = TypeVar("A", bound=Message)

Start = Callable[[Coroutine[Any, Any, None], str], None]
"""Runs work in the background, under a name."""


@dataclass(frozen=True, slots=True)
class Call(Generic[A]):
    """A stream that the peer answered: `rest` are bytes behind the answer; `heard` is to be told of bytes that come."""

    stream: Stream
    answer: A
    rest: bytes
    heard: Callable[[], None]
    _ended: Callable[[], None]

    async def end(self, error: BaseException | None = None) -> None:
        """Finish it, or reset it because of `error`. Call this once."""
        try:
            if error is None:
                await self.stream.end()
            else:
                await self.stream.reset(close_code_for(error))
        finally:
            self._ended()


class _Link:
    """What is under way with one peer."""

    def __init__(self) -> None:
        self.used = 0
        self.rate = Rate(OPENED_PER_S, OPENED_BURST)
        self.turn = asyncio.Lock()  # for the first stream of a connection: it shows the right to many
        self.pulse: Pulse | None = None


class Calls(Generic[A]):
    """Streams of one protocol to peers. All methods belong to the event loop."""

    def __init__(
        self,
        protocol: Protocol,
        connect: Callable[[PeerId], Awaitable[Connection]],
        start: Start,
        judge: Callable[[PeerId, Message], A | None],
        *,
        what: str,
    ) -> None:
        """`judge` gives a peer's answer if it is a yes, None where one is still to come, and raises otherwise.

        `what` peers offer, for people.
        """
        self._protocol = protocol
        self._connect = connect
        self._start = start
        self._judge = judge
        self._what = what
        self._links: dict[PeerId, _Link] = {}

    @contextlib.asynccontextmanager
    async def open(self, peer: PeerId, first: Message, *, is_lasting: bool = True) -> AsyncIterator[Call[A]]:
        """As `begin`, while the block runs. A fault in the block resets the stream."""
        call = await self.begin(peer, first, is_lasting=is_lasting)
        try:
            yield call
        except BaseException as error:
            await call.end(error)
            raise
        await call.end()

    async def begin(
        self,
        peer: PeerId,
        first: Message,
        *,
        is_lasting: bool = True,
        is_there: Callable[[], None] | None = None,
    ) -> Call[A]:
        """A stream that begins with `first`, answered; the caller ends it.

        `is_lasting` False: it only asks, and the peer is not watched for it. `is_there`: told with each answer.

        Raises:
            TransportError: the peer was not reached.
            PeerError: it broke the protocol, or took the right back.
            LimitExceeded: CONNECTIONS_MAX are open, or more than OPENED_PER_S were begun for long.
            What `judge` raises.
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
            stream, answer, rest = await self._open(peer, link, first, is_lasting, is_there or _nobody)
        except BaseException:
            self._left(peer, link)
            raise
        heard = link.pulse.heard if link.pulse else _nobody
        return Call(stream, answer, rest, heard, partial(self._left, peer, link))

    def _left(self, peer: PeerId, link: _Link) -> None:
        link.used -= 1
        if not link.used and self._links.get(peer) is link:
            del self._links[peer]

    async def _open(
        self, peer: PeerId, link: _Link, first: Message, is_lasting: bool, is_there: Callable[[], None]
    ) -> tuple[Stream, A, bytes]:
        loop = asyncio.get_running_loop()
        if link.rate.ready_at(loop.time()) - loop.time() > ANSWER_S:  # who has gone meanwhile has paid, too
            raise LimitExceeded(
                tr("too many connections to {short} are begun: try again in a minute", short=peer.short)
            )
        await asyncio.sleep(link.rate.spend(loop.time()))
        connection = await self._connect(peer)
        if link.pulse is not None and link.pulse.connection is connection:
            return await self._ask(connection, first, is_there)
        async with link.turn:
            found = await self._ask(connection, first, is_there)
            if is_lasting and (link.pulse is None or link.pulse.connection is not connection):
                link.pulse = Pulse(connection)
                self._start(self._watch(link, link.pulse), "hearing whether a computer is there")
            return found

    async def _ask(
        self, connection: Connection, first: Message, is_there: Callable[[], None]
    ) -> tuple[Stream, A, bytes]:
        stream = await self._opened(connection, first)
        try:
            async with asyncio.timeout(ANSWER_S):
                while True:
                    message, rest = await read_opening(stream)
                    is_there()
                    answer = self._judge(connection.peer, message)
                    if answer is not None:
                        return stream, answer, rest
                    stream.unread(rest)
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
                    stream = await self._opened(pulse.connection, Watch())
                    answer = await stream.receive()
            except (TimeoutError, TransportError):
                pulse.lost(BEGIN_S)
                return
            async with stream:
                if isinstance(answer, Message):
                    self._judge(pulse.connection.peer, answer)
                    await pulse.ask(stream, lambda: link.used > 0 and link.pulse is pulse)
        if link.pulse is pulse:
            link.pulse = None

    async def _opened(self, connection: Connection, first: Message) -> Stream:
        try:
            async with asyncio.timeout(ANSWER_S):
                return await connection.open_stream(self._protocol, self._protocol.encode(first))
        except TimeoutError:
            raise TransportError(
                tr("{short} lets no more streams be opened now", short=connection.peer.short)
            ) from None
        except PeerError as error:
            if error.close_code != CloseCode.REFUSED:
                raise
            who = connection.peer.short
            text = f"{who} offers no {self._what} to this computer, or needs a newer version of coterie"
            raise PeerError(text, error.close_code) from None


def _nobody() -> None:
    """Nobody watches."""
