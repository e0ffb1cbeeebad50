"""The side that uses exits of peers: opens connections and flows through the first that is there.

async with exits.stream("example.org", 443) as call: ...    a TCP connection through the exit
async with exits.flow() as flow: ...                        datagrams to any host
"""

import asyncio
import contextlib
import itertools
import logging
import socket
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence

from coterie.apps.context import Context
from coterie.apps.internet.messages import DATA, PROTOCOL, QUESTION_BYTES_MAX, Open, Opened, Refused, Trying
from coterie.errors import CoterieError, NotFound, PeerError, TransportError, UsageError
from coterie.identity import PeerId
from coterie.services.carry.bulk_splice import splice_bulk
from coterie.services.carry.calls import Call, Calls
from coterie.services.carry.datagrams import Program, carry_datagrams
from coterie.services.carry.framed import Framed
from coterie.services.carry.messages import FLOW_MAX, Datagrams
from coterie.services.carry.packets import Packets
from coterie.services.carry.splice import READ_BYTES, break_off
from coterie.texts import tr
from coterie.wire.frames import Message

SILENT_S = (
    0.6  # without a word of an exit, the next is asked, too; guess: three round trips of the longest path
)
AGAIN_S = 5.0  # before an exit that was gone, or refused, is asked again, unless there is no other

log = logging.getLogger(__name__)


class ExitRefused(CoterieError):
    """The exit does not do it; `why` as in `Refused`. Another exit is not asked, unless `why` is "access" or "busy"."""

    def __init__(self, why: str, text: str) -> None:
        super().__init__(text)
        self.why = why


class _Attempt:
    """To begin through one exit."""

    def __init__(self, peer: PeerId) -> None:
        self.peer = peer
        self.is_there = asyncio.Event()


class Exits:
    """The exits in use, in the order in which they are preferred. All methods belong to the event loop."""

    def __init__(self, context: Context, peers: Callable[[], Sequence[PeerId]]) -> None:
        self._calls = Calls(PROTOCOL, context.net.connect, context.jobs.start, _judge, what="internet access")
        self._packets = Packets(PROTOCOL, context.jobs.start)
        self._numbers = itertools.count()
        self._peers = peers
        self._context = context
        self._bad: dict[PeerId, float] = {}  # until when others come first
        self.states: dict[PeerId, str] = {}  # what is wrong with an exit, for people; missing: nothing
        self.current: PeerId | None = None  # whom the last connection went through

    async def ask(self, peer: PeerId) -> None:
        """Whether `peer` lets this computer use its access. Raises `ExitRefused`, `TransportError`, `PeerError`."""
        async with self._calls.open(peer, Open("ask"), is_lasting=False):
            pass

    async def check(self, peers: Sequence[PeerId]) -> None:
        """Whether one of `peers` lets this computer use its access. Raises what the last said."""
        error: CoterieError | None = None
        for peer in peers:
            try:
                await self.ask(peer)
            except (CoterieError, TimeoutError) as failed:
                error = failed if isinstance(failed, CoterieError) else TransportError(str(failed))
            else:
                return
        if error is not None:
            raise error

    def forget(self) -> None:
        """Other exits are in use from now on."""
        self._bad.clear()
        self.states.clear()
        self.current = None

    def state_of(self, peer: PeerId) -> str:
        """For people: "in use", "ready", or what is wrong."""
        return self.states.get(peer) or ("in use" if peer == self.current else "ready")

    @contextlib.asynccontextmanager
    async def stream(self, host: str, port: int) -> AsyncIterator[Call[Opened]]:
        """A TCP connection to `host` (a name, which the exit looks up, or an address) while the block runs.

        Its bytes go in `Framed(call.stream, DATA)`. A fault in the block resets it.

        Raises:
            ExitRefused: the exit says why it did not connect.
            NotFound: no exit is in use.
            TransportError, PeerError: no exit was reached, or understood.
        """
        call = await self._begin(Open("tcp", host, port))
        try:
            yield call
        except BaseException as error:
            await call.end(error)
            raise
        await call.end()

    async def carry(self, host: str, port: int, program: socket.socket) -> None:
        """Carry a program's TCP connection to `host` until both sides have finished; at a fault it sees a reset."""
        try:
            async with self.stream(host, port) as call:
                call.stream.unread(call.rest)
                await splice_bulk(Framed(call.stream, DATA), program, heard=call.heard)
        except CoterieError as error:
            break_off(program)
            log.info("a connection through an exit: %s", error)

    async def ask_name(self, message: bytes) -> bytes:
        """What the resolver of the exit answers to a message of the DNS. Errors as `stream`."""
        if len(message) > QUESTION_BYTES_MAX:
            raise UsageError(tr("a question to the DNS of {size} bytes", size=len(message)))
        call = await self._begin(Open("dns", question=message))
        try:
            cut, data = Datagrams(), call.rest or await call.stream.read_bytes(READ_BYTES)
            while data and not (whole := cut.feed(data)):
                data = await call.stream.read_bytes(READ_BYTES)
            if not data:
                raise PeerError(f"{call.stream.peer.short} ended before its answer")
        except BaseException as error:
            await call.end(error)
            raise
        await call.end()
        return whole[0]

    async def carry_flow(self, program: Program, kind: str = "udp") -> None:
        """Carry datagrams, each behind where it goes or comes from (`pack_addressed`), until one side is silent.

        Of the `kind` "ping" they are echo requests and replies. Errors as `stream`.
        """
        number = 1 + next(self._numbers) % FLOW_MAX
        call = await self._begin(Open(kind, flow=number))
        try:
            taken = number if call.answer.flow == number else 0
            with self._packets.flow(call.stream.link, taken, is_asker=True) as packets:
                await carry_datagrams(call.stream, program, call.rest, packets=packets, heard=call.heard)
        except BaseException as error:
            await call.end(error)
            raise
        await call.end()

    async def _begin(self, wanted: Open) -> Call[Opened]:
        now = asyncio.get_running_loop().time()
        peers = sorted(self._peers(), key=lambda peer: self._bad.get(peer, 0.0) > now)
        if not peers:
            raise NotFound(tr("this computer uses nobody's internet access: coterie internet use COMPUTER"))
        attempts: dict[asyncio.Task[Call[Opened]], _Attempt] = {}
        try:
            return await self._first(peers, wanted, attempts)
        finally:
            for task in attempts:
                task.cancel()
            for call in await asyncio.gather(*attempts, return_exceptions=True):
                if isinstance(call, Call):
                    await call.end(asyncio.CancelledError())

    async def _first(
        self, peers: Sequence[PeerId], wanted: Open, attempts: "dict[asyncio.Task[Call[Opened]], _Attempt]"
    ) -> Call[Opened]:
        """What the first exit gives that does it. The next is asked when one fails, and when none has said a word."""
        rest, error = deque(peers), CoterieError("")
        while True:
            is_silent = not any(attempt.is_there.is_set() for attempt in attempts.values())
            if rest and is_silent:
                attempt = _Attempt(rest.popleft())
                begun = self._calls.begin(attempt.peer, wanted, is_there=attempt.is_there.set)
                attempts[asyncio.ensure_future(begun)] = attempt
            elif not attempts:
                raise error
            wait_s = SILENT_S if rest and is_silent else None
            done, _ = await asyncio.wait(attempts, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                for attempt in attempts.values():
                    if not attempt.is_there.is_set():
                        self._failed(attempt.peer, tr("it does not answer"))
            for task in done:
                peer = attempts.pop(task).peer
                try:
                    call = task.result()
                except ExitRefused as refused:
                    if refused.why not in ("access", "busy"):
                        raise
                    error = refused
                except CoterieError as failed:
                    error = failed
                else:
                    self._good(peer)
                    return call
                self._failed(peer, str(error))

    def _failed(self, peer: PeerId, said: str) -> None:
        self._bad[peer] = asyncio.get_running_loop().time() + AGAIN_S
        self.states[peer] = self._context.people.in_names(said)

    def _good(self, peer: PeerId) -> None:
        self._bad.pop(peer, None)
        self.states.pop(peer, None)
        self.current = peer


def _judge(peer: PeerId, answer: Message) -> Opened | None:
    match answer:
        case Opened():
            return answer
        case Trying():
            return None
        case Refused(why, reason):
            raise ExitRefused(why, f"{peer.short} says: {reason}")
    raise PeerError(f"{peer.short} did not answer as coterie does")
