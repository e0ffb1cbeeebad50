"""The mainline DHT as a resolver: records worldwide, with no server (BEP 5, BEP 44).

A node's own Ed25519 key signs one mutable item under the salt "coterie", whose value is its signed public record: who
knows a PeerId knows where to look, and nobody else can write there. The value is verified like any other record.
Nothing here trusts the DHT: it may hold back, repeat old items and lie; it cannot make up a record.
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Protocol, TypeVar

from coterie.errors import TransportError, UsageError
from coterie.identity import PeerId, SecretKey
from coterie.net.find.mainline_session import (
    STATE_BYTES_MAX,
    Event,
    Hung,
    Item,
    Listening,
    MainlineSession,
    Seen,
    SessionOptions,
    Stored,
    Table,
    Trouble,
    is_ip,
)
from coterie.net.find.resolver import Found
from coterie.tasks import Tasks
from coterie.texts import tr
from coterie.wire.record import PeerRecord, RecordRefused

# The public DHT's well-known first nodes, for the first time only: later the nodes of the last session are asked.
PUBLIC_ROUTERS = (
    ("dht.libtorrent.org", 25401),
    ("router.bittorrent.com", 6881),
    ("dht.transmissionbt.com", 6881),
    ("router.utorrent.com", 6881),
)

RESOLVE_S = (
    12.0  # guess: public lookups take 1 to 5 s; with dead nodes about the last word takes 15 s (FACTS)
)
SETTLE_S = 2.0  # guess: after a first item, how long a newer one may take
ASK_AGAIN_S = 2.0  # guess: after a search that found nothing, while time is left
LOOKUPS_MAX = 16  # guess: searches at once; each asks some 30 nodes
BELLS_MAX = 8  # guess: searches for knocks at once, beside those
BELL_S = 8.0  # guess: most have ended by then; with dead nodes about the last word takes 15 s (FACTS)
ITEMS_MAX = 16  # answers of one search waiting to be read; one is normal
PUT_S = 40.0  # measured: milliseconds; a put searches first, 15 s with dead nodes about
REPUBLISH_S = 45 * 60.0  # BEP 44: nodes forget an item after 2 h; so two failed attempts do no harm
STORED_WELL = 8  # BEP 44 and Kademlia's k: the nodes closest to the key
PUT_THIN_S = (
    60.0  # guess: a node that just came knows few others, and its record is soon stored better; doubles
)
PUT_EVERY_S = 10.0  # guess: addresses that settle are published once
PUT_AGAIN_FIRST_S = 5.0  # guess: after a put that reached nobody, and
RETRY_FIRST_S = 5.0  # guess: after a session that reached nobody; both double up to
RETRY_MAX_S = 60.0  # one attempt a minute
BOOTSTRAP_S = 20.0  # guess: name look-ups that time out, and three rounds of asking
COUNT_FIRST_S = 0.25  # asking our own routing table costs microseconds
COUNT_EVERY_S = 60.0  # guess: often enough for a person who looks
SAVE_EVERY_S = 15 * 60.0  # guess: what a crash forgets of known nodes

_log = logging.getLogger(__name__)

T = TypeVar("T")


class Session(Protocol):
    """What of `MainlineSession` is used."""

    def get(self, peer: PeerId) -> None:
        """Look for an item."""
        ...

    def put(self, record: bytes) -> None:
        """Store our record."""
        ...

    def read(self, key: bytes) -> None:
        """Look for what hangs without salt under a public key."""
        ...

    def write(self, key: SecretKey, value: bytes) -> None:
        """Hang `value` there."""
        ...

    def count(self) -> None:
        """Ask how many nodes are known."""
        ...

    def save(self) -> bytes:
        """What the next session begins with."""
        ...

    def close(self) -> None:
        """End."""
        ...


Open = Callable[[SecretKey, SessionOptions, Callable[[Event], None]], Session]


class MainlineResolver:
    """Publishes this node's public record worldwide and finds others'. See `net.resolver.Resolver`.

    Fields:
        problem: what stands in the way, in words; empty when nothing does.
        nodes: how many nodes of the DHT are known.
        stored_on: how many of them took our record last.
        listens: UDP addresses, "ip:port".
        tasks: who owns its background work; another may be put there before `start`.
        seen_at: the IP address that nodes of the DHT see us at; empty when they do not agree on one yet.
    """

    name = "mainline DHT"

    def __init__(
        self,
        key: SecretKey,
        *,
        bootstrap: Sequence[tuple[str, int]] = PUBLIC_ROUTERS,
        listen: tuple[str, int] = ("0.0.0.0", 0),  # noqa: S104 - as peers are to reach us
        state: bytes = b"",
        keep: Callable[[bytes], None] = lambda state: None,
        test_network: bool = False,
        open_session: Open = MainlineSession,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Prepare; nothing is loaded or opened yet.

        Args:
            bootstrap: nodes to begin with, (host or IP, port).
            listen: IP and UDP port; port 0 takes any.
            state: what `keep` got last time; then names in `bootstrap` are asked only if nobody known answers.
            keep: gets the state worth keeping, in a thread, now and then and at the end.
            test_network: the DHT is a private one; see `SessionOptions`. It then gets the full record.
            clock: unix seconds.
        """
        if len(state) > STATE_BYTES_MAX:
            state = b""
        self.is_public = not test_network
        self.problem = ""
        self.nodes = 0
        self.stored_on = 0
        self.listens: list[str] = []
        self.seen_at = ""
        self._key = key
        self._bootstrap = tuple(bootstrap)
        self._options = SessionOptions(
            bind_ip=listen[0],
            port=listen[1],
            bootstrap=self._bootstrap,
            state=state,
            test_network=test_network,
        )
        self._keep = keep
        self._open = open_session
        self._record: bytes | None = None
        self._newest_stored = b""
        self._fresh = asyncio.Event()
        self._stored: asyncio.Future[int] | None = None
        self._ready = asyncio.Event()
        self._session: Session | None = None
        self._task: asyncio.Task[None] | None = None
        self.tasks = Tasks(self.name)
        self._waiting: dict[PeerId, list[asyncio.Queue[Item]]] = {}
        self._reading: dict[bytes, list[asyncio.Queue[Hung]]] = {}
        self._bells = asyncio.Semaphore(BELLS_MAX)
        self._lookups = asyncio.Semaphore(LOOKUPS_MAX)
        self._trouble = ""
        self._state = state
        self._counted = 0
        self._clock = clock

    # ---- Resolver

    async def start(self, found: Found) -> None:
        """Begin in the background; `problem` says what stands in the way. The DHT tells nothing unasked."""
        if self._task is not None:
            raise UsageError(tr("the mainline DHT is in use already"))
        self._task = self.tasks.keep(self._run, "mainline DHT")

    async def publish(self, record: bytes) -> None:
        """Store `record` from now on, in the background."""
        if record != self._record:
            self._record = record
            self._fresh.set()

    async def resolve(self, peer: PeerId) -> AsyncIterator[bytes]:
        """Records of `peer`, each newer than the one before, for at most `RESOLVE_S`.

        Raises:
            TransportError: the DHT cannot be reached.
        """
        if self._task is None:
            return
        if self.problem and not self._ready.is_set():
            raise TransportError(self.problem)
        end = asyncio.get_running_loop().time() + RESOLVE_S
        if not await _within(self._lookups.acquire(), end):
            return
        queue: asyncio.Queue[Item] = asyncio.Queue(ITEMS_MAX)
        self._waiting.setdefault(peer, []).append(queue)
        try:
            async for record in self._search(peer, queue, end):
                yield record
        finally:
            self._lookups.release()
            self._waiting[peer].remove(queue)
            if not self._waiting[peer]:
                del self._waiting[peer]

    @property
    def is_current(self) -> bool:
        """Whether the record that is stored is the one we would store now."""
        return self._record is not None and self._record == self._newest_stored

    # ---- bells: items under other keys than a node's own

    @property
    def is_ready(self) -> bool:
        """Whether nodes of the DHT answer."""
        return self._ready.is_set()

    async def read(self, key: bytes) -> AsyncGenerator[bytes, None]:
        """What hangs without salt under a public key, each different one, the newest last; `BELL_S` at most.

        Nothing while the DHT cannot be reached.
        """
        end = asyncio.get_running_loop().time() + BELL_S
        if not await _within(self._bells.acquire(), end):
            return
        queue: asyncio.Queue[Hung] = asyncio.Queue(ITEMS_MAX)
        self._reading.setdefault(key, []).append(queue)
        try:
            if self._session is None or not self.is_ready:
                return
            self._session.read(key)
            last, is_last = b"", False
            while not is_last and (hung := await _within(queue.get(), end)) is not None:
                is_last = hung.is_last
                if hung.value and hung.value != last:
                    last = hung.value
                    yield last
        finally:
            self._bells.release()
            self._reading[key].remove(queue)
            if not self._reading[key]:
                del self._reading[key]

    def write(self, key: SecretKey, value: bytes) -> None:
        """Hang `value` under `key`, where the DHT can be reached."""
        if self._session is not None and self.is_ready:
            self._session.write(key, value)

    async def close(self) -> None:
        """Stop. What was stored expires by itself: the DHT knows no withdrawal."""
        if self._task is not None:
            await self.tasks.close()
            self._task = None

    def describe(self) -> str:
        """For people: how it stands."""
        if self.problem:
            return self.problem
        if not self._ready.is_set():
            return "looking for nodes of the mainline DHT"
        if self._record is None:
            stored = "nothing of ours to store: no public address or relay of ours is known"
        else:
            stored = f"our record on {self.stored_on}" if self.stored_on else "our record not stored yet"
        seen = f"; it sees us at {self.seen_at}" if self.seen_at else ""
        return f"{self.nodes} nodes known, {stored}; listening at {', '.join(self.listens)}{seen}"

    # ---- looking

    async def _search(self, peer: PeerId, queue: "asyncio.Queue[Item]", end: float) -> AsyncIterator[bytes]:
        loop, newest = asyncio.get_running_loop(), 0
        while await _within(self._ready.wait(), end) and self._session is not None:
            self._session.get(peer)
            is_last = False
            while not is_last:
                item = await _within(queue.get(), end)
                if item is None:
                    return
                is_last, sequence = item.is_last, self._sequence(item)
                if sequence > newest:
                    newest, end = sequence, min(end, loop.time() + SETTLE_S)
                    yield item.value
            if newest:
                return
            await asyncio.sleep(max(0.0, min(ASK_AGAIN_S, end - loop.time())))

    def _sequence(self, item: Item) -> int:
        """The sequence number of the record in `item`; 0 when it is no valid one of that peer's own."""
        if not item.value:
            return 0
        try:
            record = PeerRecord.open(item.value, self._clock())
        except RecordRefused as error:
            _log.debug("what the mainline DHT holds for %s was refused: %s", item.peer.short, error)
            return 0
        return record.sequence if record.peer == item.peer else 0

    # ---- running

    async def _run(self) -> None:
        """Keep a session open. One that reaches nobody is replaced; after the first, everybody known is asked."""
        wait_s, options = RETRY_FIRST_S, self._options
        if options.state:  # the well-known nodes are for the first time
            options = replace(options, bootstrap=[node for node in options.bootstrap if is_ip(node[0])])
        while True:
            try:
                async with self._opened(options) as session:
                    if await self._reached(session):
                        self.problem, wait_s = "", RETRY_FIRST_S
                        await self._serve(session)
                why = f": {self._trouble}" if self._trouble else ""
                self.problem = f"no node of the mainline DHT answers (no internet, or UDP is blocked){why}"
            except TransportError as error:
                self.problem = str(error)
            _log.info("%s; trying again in %g s", self.problem, wait_s)
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, RETRY_MAX_S)
            options = replace(self._options, state=self._state)

    @asynccontextmanager
    async def _opened(self, options: SessionOptions) -> AsyncIterator[Session]:
        """A session. Opened and closed in a thread, and closed whatever happens meanwhile."""
        loop = asyncio.get_running_loop()
        self.listens, self._trouble = [], ""

        def tell(event: Event) -> None:
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self._heard, event)

        opening = asyncio.ensure_future(asyncio.to_thread(self._open, self._key, options, tell))
        try:
            self._session = await asyncio.shield(opening)
            yield self._session
        finally:
            self._session = None
            self._ready.clear()
            await asyncio.wait([opening])
            if opening.exception() is None:
                await asyncio.to_thread(self._end, opening.result())
            self.nodes = self.stored_on = 0

    async def _reached(self, session: Session) -> bool:
        """Whether a node answers in time."""
        loop = asyncio.get_running_loop()
        end = loop.time() + BOOTSTRAP_S
        while loop.time() < end:
            self._count(session)
            if await _within(self._ready.wait(), loop.time() + COUNT_FIRST_S):
                return True
        return False

    async def _serve(self, session: Session) -> None:
        """Until no node is known any more."""
        publishing = self.tasks.start(self._publishing(session), "storing our record", is_awaited=True)
        saved_at = float("-inf")
        try:
            while self.nodes:
                now = asyncio.get_running_loop().time()
                if now - saved_at >= SAVE_EVERY_S:
                    saved_at = now
                    await asyncio.to_thread(self._save, session)
                self._count(session)
                await asyncio.wait([publishing], timeout=COUNT_EVERY_S)
                if publishing.done():
                    publishing.result()
        finally:
            publishing.cancel()
            await asyncio.wait([publishing])

    async def _publishing(self, session: Session) -> None:
        """Store our record when it is new, and before the DHT forgets it."""
        loop = asyncio.get_running_loop()
        again_s, thin_s = PUT_AGAIN_FIRST_S, PUT_THIN_S
        while True:
            self._fresh.clear()
            record = self._record
            if record is None or PeerRecord.read(record).expires <= self._clock():
                await self._fresh.wait()
                continue
            self._stored = loop.create_future()
            session.put(record)
            self.stored_on = await _within(self._stored, loop.time() + PUT_S) or 0
            self._newest_stored = record if self.stored_on else b""
            if self.stored_on:
                self.problem, again_s = "", PUT_AGAIN_FIRST_S
                next_s = REPUBLISH_S
                if self.stored_on < STORED_WELL:
                    next_s, thin_s = min(REPUBLISH_S, thin_s), 2 * thin_s
                await asyncio.sleep(PUT_EVERY_S)
                await _within(self._fresh.wait(), loop.time() + next_s)
            else:
                self.problem = "no node of the mainline DHT took our record: others may not find us there"
                await asyncio.sleep(again_s)
                again_s = min(2 * again_s, RETRY_MAX_S)

    # ---- the session's thread

    def _end(self, session: Session) -> None:
        if self.nodes:
            self._save(session)
        session.close()

    def _save(self, session: Session) -> None:
        state = session.save()
        if state:
            self._state = state
            self._keep(state)

    # ---- events

    def _count(self, session: Session) -> None:
        self._counted = 0
        session.count()

    def _heard(self, event: Event) -> None:
        match event:
            case Item(peer, _, _):
                for queue in self._waiting.get(peer, ()):
                    if not queue.full():
                        queue.put_nowait(event)
            case Hung(key, _, _):
                for reader in self._reading.get(key, ()):
                    if not reader.full():
                        reader.put_nowait(event)
            case Stored(nodes):
                if self._stored is not None and not self._stored.done():
                    self._stored.set_result(nodes)
            case Table(nodes):
                self._counted += nodes
                self.nodes = self._counted
                if nodes and self._session is not None:
                    self._ready.set()
            case Listening(address):
                self.listens.append(address)
            case Seen(address):
                self.seen_at = address
            case Trouble(what):
                self._trouble = what


async def _within(work: Awaitable[T], end: float) -> T | None:
    """What `work` gives before the loop's time is `end`; else None."""
    try:
        async with asyncio.timeout_at(end):
            return await work
    except TimeoutError:
        return None
