"""The asking side's shell: runs a `SwarmCore` over any number of links, and its `Receiver` in a worker thread.

Each link's thread checks and writes what came, one link at a time, and reads on after that: so a slow disk slows the
links and never fills memory.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from random import Random
from typing import Any

from coterie.content.limit import ByteLimit, Portion, least
from coterie.content.manifest import ID_BYTES, TOTAL_MAX
from coterie.content.swarm import events as e
from coterie.content.swarm import pieces as p
from coterie.content.swarm.core import SOURCES_FEW, SwarmCore
from coterie.driver import Driver
from coterie.errors import CloseCode, CoterieError, NotFound, PeerError, TransportError, UsageError
from coterie.identity import PeerId
from coterie.machine import Emit, PeerDown
from coterie.net import Connection, Stream
from coterie.net.ahead import Ahead
from coterie.texts import tr
from coterie.transfer.arriving import Answer
from coterie.transfer.giver import Tell
from coterie.transfer.messages import (
    PROTOCOL,
    GetChunks,
    GetManifest,
    Has,
    HasAll,
    Moved,
    Open,
    Opened,
    Refused,
    UsedUp,
)
from coterie.transfer.motion import STILL_S
from coterie.transfer.proof import prove
from coterie.transfer.receive import Receiver
from coterie.transfer.results import SourceLine
from coterie.transfer.source_session import Link
from coterie.transfer.used_up import denial
from coterie.wire import Protocol, Ticket
from coterie.wire.ticket import TicketKind

OPENED_S = 10.0  # for the other side to say yes or no


class ShareMoved(CoterieError):
    """The share that was asked for has other content now: that of `ticket`."""

    code = "moved"

    def __init__(self, ticket: Ticket) -> None:
        super().__init__("the share has other content now")
        self.ticket = ticket


Hint = Callable[[PeerId, list[str]], None]
Gave = Callable[[PeerId, int], None]


def opening(
    ticket: Ticket,
    asker: PeerId,
    peer: PeerId,
    addresses: list[str] | None = None,
    *,
    protocol: Protocol = PROTOCOL,
    asks_root: bool = False,
) -> Ahead:
    """What opens a session about the ticket's share with `peer`; `asker` are we. With `addresses`, we give there, too.

    `protocol`: `files`, or one with the same messages. `asks_root`: the root node is asked for at once, which spares a
    round trip; tell the session so.
    """
    proof = prove(ticket.secret, bytes(asker), bytes(peer), ticket.content_id)
    first = protocol.encode(Open(ticket.content_id, proof, addresses is not None, tuple(addresses or ())))
    if asks_root:
        first += protocol.encode(GetManifest(ticket.content_id))
    return Ahead(protocol, first, reads_bulk=True)


async def open_share(connection: Connection, ticket: Ticket, ahead: Ahead) -> tuple[Stream, Opened]:
    """The session about the ticket's share that `ahead` opens; the peer may have heard it already.

    Raises:
        NotFound: the other side has no such share, or not for this secret; it does not say which.
        ShareMoved: it has other content by now.
        AccessDenied: the amount of our grant is used up.
    """
    stream = await connection.open_ahead(ahead)
    try:
        reply = await stream.receive(OPENED_S)
    except TimeoutError:
        await _give_up(stream)
        raise TransportError(
            tr("{short} is connected but does not answer", short=connection.peer.short)
        ) from None
    except BaseException:
        await _give_up(stream)
        raise
    if isinstance(reply, Opened):
        fault = opened_fault(reply, ticket)
        if fault is None:
            return stream, reply
        await _give_up(stream)
        raise PeerError(f"{connection.peer.short} describes its share wrongly: {fault}")
    await _give_up(stream)
    if isinstance(reply, Moved):
        if (
            reply.kind not in set(TicketKind)
            or len(reply.root) != ID_BYTES
            or reply.root == ticket.content_id
        ):
            raise PeerError(f"{connection.peer.short} names content that cannot be")
        raise ShareMoved(replace(ticket, kind=TicketKind(reply.kind), content_id=reply.root))
    if isinstance(reply, UsedUp):
        raise denial(connection.peer, reply)
    if isinstance(reply, Refused):
        raise NotFound(
            tr(
                "the other computer does not share this (any more), or the ticket is not right; ask for "
                "a new ticket"
            )
        )
    raise PeerError("the other computer did not answer as coterie does")


def opened_fault(opened: Opened, ticket: Ticket) -> str | None:
    """What in `opened` cannot be, or None. Its name is a suggestion and judged where it is used."""
    if opened.kind != ticket.kind:
        return "it is of another kind than the ticket says"
    if not (0 <= opened.files <= TOTAL_MAX and 0 <= opened.size <= TOTAL_MAX):
        return "a number of files or bytes below zero or beyond 63 bits"
    if opened.kind == TicketKind.BLOB and opened.files != 1:
        return f"one file that is {opened.files} files"
    return None if abs(opened.mtime_ns) <= TOTAL_MAX else "a modification time beyond 64 bits"


async def _give_up(stream: Stream) -> None:
    with contextlib.suppress(PeerError, TransportError):
        await stream.reset(CloseCode.CANCELLED)


class Fetch:
    """One download into `receiver`, from as many sources as have a `session`. Close it in the end."""

    def __init__(
        self,
        ticket: Ticket,
        receiver: Receiver,
        random: Random,
        *,
        hint: Hint,
        gave: Gave,
        buckets: Sequence[ByteLimit | Portion],
    ) -> None:
        """`hint` hears of others that may have it, `gave` who gave how many bytes; `buckets` limit the rate."""
        self._root = ticket.content_id
        self._receiver = receiver
        self._hint = hint
        self._gave = gave
        self.wants_sources = asyncio.Event()  # set when there are few
        self._buckets = buckets
        self.core = SwarmCore(random, buckets)
        self._driver = Driver(self.core, send=self._send, on_output=self._on_output)
        self.links: dict[PeerId, Link] = {}
        self._received: dict[PeerId, int] = {}
        self._loop = asyncio.get_running_loop()
        self._threads = ThreadPoolExecutor(1, "coterie-receive")
        self._disk = threading.Lock()  # the receiver belongs to one thread at a time
        self._is_storing = False
        self._losing: list[asyncio.Future[None]] = []
        self._watchers: list[Tell] = []
        self.news = asyncio.Event()  # set, and replaced, when more is here
        self.complete: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._ending = asyncio.ensure_future(self._driver.wait_closed())
        self._ending.add_done_callback(self._driver_ended)
        self._driver.feed(e.Begin(ticket.content_id, receiver.root_place()))

    async def session(
        self, connection: Connection, stream: Stream, opened: Opened, *, asked_root: bool = False
    ) -> None:
        """Use this session with a source until the download is complete. `asked_root`: as `opening`.

        Raises:
            PeerError, TransportError: the link broke, or its peer was dropped.
        """
        if stream.peer in self.links:
            raise UsageError(tr("there is a session with {short} already", short=stream.peer.short))
        link = Link(
            connection,
            stream,
            feed=self._driver.feed,
            store=self._store,
            room=self._room,
            hint=self._hint,
            gave=self._gave,
            early=GetManifest(self._root) if asked_root else None,
        )
        link.limit = lambda: least(*(bucket.bytes_per_s for bucket in self._buckets))
        self.links[link.peer] = link
        running = asyncio.ensure_future(link.run())
        try:
            rtt_s = connection.path.rtt_s or 0.0
            self._driver.feed(e.SourceUp(link.peer, opened.whole, opened.askers, rtt_s))
            await asyncio.wait({running, self.complete}, return_when=asyncio.FIRST_COMPLETED)
            if running.done() and not self.complete.done():
                running.result()
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            self._received[link.peer] = self.received_from(link.peer)
            del self.links[link.peer]
            self._driver.feed(PeerDown(link.peer))

    async def wait(self) -> None:
        """Until everything is there, or given up. Raises what stands in the way here: the disk, an error of ours."""
        await asyncio.shield(self.complete)
        await asyncio.gather(*self._losing)

    def received_from(self, peer: PeerId) -> int:
        """Bytes of answers that came from `peer`, over all its sessions."""
        link = self.links.get(peer)
        return self._received.get(peer, 0) + (link.received_bytes if link else 0)

    def sources_used(self) -> int:
        """From how many computers something came."""
        return sum(size > 0 for size in self._received.values())

    def source_lines(self) -> list[SourceLine]:
        """Every source that is asked now."""
        lines: list[SourceLine] = []
        now = self._loop.time()
        for source in self.core.sources:
            link = self.links.get(source.peer)
            if link is None:
                continue
            path = link.connection.path
            parts = sum(h.bit_count() for h in source.holds.values())
            state = "silent" if source.is_stalled else "asked little" if source.is_demoted else ""
            received = self.received_from(source.peer)
            rtt_ms = round(1000 * (path.rtt_s or source.rtt_s), 1)
            lines.append(
                SourceLine(
                    peer=source.peer.short,
                    way=path.kind,
                    has_all=source.whole,
                    parts=parts,
                    received=received,
                    rate=0 if now - source.last_heard > STILL_S else round(source.rate),
                    rtt_ms=rtt_ms,
                    state=state,
                )
            )
        return lines

    def owing(self) -> list[str]:
        """Who has not answered yet, by short ids; empty where somebody who is asked owes nothing."""
        asked = [source for source in self.core.sources if source.peer in self.links]
        return [source.peer.short for source in asked] if all(source.waits for source in asked) else []

    def has_enough_sources(self) -> bool:
        """Whether it is not worth looking for more."""
        return len(self.links) >= SOURCES_FEW

    def holdings(self) -> Mapping[bytes, int]:
        """What is here: pieces by node."""
        return self.core.holdings()

    def prefer(self, wish: e.Prefer | e.Hold) -> None:
        """What is to come first."""
        self._driver.feed(wish)

    def watch(self, tell: Tell) -> Callable[[], None]:
        """Tell what is here and what comes, until the returned function is called."""
        self._watchers.append(tell)
        for manifest, pieces in self.core.holdings().items():
            tell(Has(manifest, p.to_bytes(pieces)))
        return lambda: self._watchers.remove(tell)

    def announce_all(self) -> None:
        """Tell those who watch that everything is here."""
        for tell in self._watchers:
            tell(HasAll())

    async def close(self) -> None:
        """Stop the threads once what they are doing is done."""
        self._ending.cancel()
        await asyncio.gather(self._ending, return_exceptions=True)
        self._driver.close()
        if not self.complete.done():
            self.complete.cancel()
        await asyncio.to_thread(self._threads.shutdown, True, cancel_futures=True)

    # -- the disk: one thread at a time

    def _store(self, peer: PeerId, batch: list[Answer]) -> list[Any]:
        """In a link's thread: check and write answers; what the core is to know of it (see `Receiver.store`)."""
        with self._disk:
            self._is_storing = True
            try:
                return list(self._receiver.store(peer, batch))
            except Exception as error:
                self._loop.call_soon_threadsafe(self._fail, error)
                raise TransportError(tr("this download cannot go on")) from error
            finally:
                self._is_storing = False

    def _room(self, peer: PeerId, size: int) -> memoryview | None:
        """In a link's thread: see `Receiver.room`."""
        with self._disk:
            return self._receiver.room(peer, size)

    def _in_thread(self, work: Callable[..., Any], *arguments: Any) -> "asyncio.Future[Any]":
        def alone() -> Any:
            with self._disk:
                return work(*arguments)

        return self._loop.run_in_executor(self._threads, alone)

    def _driver_ended(self, task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        if not self.complete.done():
            self.complete.set_exception(error)
            self.complete.exception()  # seen: `wait` raises it

    # -- what the core wants

    def _send(self, peer: Hashable, message: Any) -> None:
        raise UsageError(tr("the swarm core asks by requests of its own"))

    def _on_output(self, output: Any) -> None:
        match output:
            case e.AskNode() | e.AskChunks() | e.CancelChunks() | e.Drop():
                if link := self.links.get(output.peer):
                    self._on_link_output(link, output)
            case e.GiveUp(_, place, index, reason):
                self._losing.append(self._in_thread(self._receiver.lose, place, index, reason))
            case e.Gained(manifest, pieces):
                news, self.news = self.news, asyncio.Event()
                news.set()
                for tell in self._watchers:
                    tell(Has(manifest, p.to_bytes(pieces)))
            case e.FindProviders():
                self.wants_sources.set()
            case Emit(e.Complete()):
                if not self.complete.done():
                    self.complete.set_result(None)

    def _on_link_output(self, link: Link, output: Any) -> None:
        match output:
            case e.AskNode(_, manifest, place):
                link.ask(place, GetManifest(manifest))
            case e.AskChunks(_, manifest, place, first, count, insist):
                link.ask(place, GetChunks(manifest, first, count, insist))
            case e.CancelChunks(_, manifest, first, _):
                link.cancel(manifest, first)
            case e.Drop(_, reason, code):
                if code != CloseCode.TIMEOUT or not self._is_storing:  # a slow disk is not a silent peer
                    link.drop(PeerError(reason, code))
