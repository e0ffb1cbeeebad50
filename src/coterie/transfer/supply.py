"""Reads parts of what a peer shares: one session for all who read of one content, and what comes goes into the cache.

Where a download decides what comes next, here the readers do: nothing is asked for that nobody wants.
"""

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from blake3 import blake3

from coterie.content import manifest as m
from coterie.content.swarm import events as e
from coterie.errors import AccessDenied, CloseCode, CoterieError, NotFound, PeerError, TransportError
from coterie.identity import PeerId
from coterie.texts import tr
from coterie.transfer.ahead import Rate
from coterie.transfer.arriving import REASONS, Answer, NodePlace, bytes_of
from coterie.transfer.fetch import open_share, opening
from coterie.transfer.messages import (
    PROTOCOL,
    ChunkUnavailable,
    GetChunks,
    GetManifest,
    NoManifest,
    Unavailable,
)
from coterie.transfer.read_cache import Leaf, ReadCache
from coterie.transfer.source_session import Link
from coterie.transfer.sources import FATAL_CODES
from coterie.transfer.surroundings import Surroundings
from coterie.wire import Protocol, Ticket

SILENT_S = (
    10.0  # nothing comes of what was asked for: the peer is given up; guess, below what programs wait for
)
LOOK_S = 0.5  # how often those who wait look at the clock
IDLE_S = 20.0  # a session without readers; guess: the next picture is looked at within
RETRY_S = (0.1, 0.5, 1.0, 2.0, 5.0)
REQUEST_BYTES = 1 << 20  # of one request, which is what can be taken back
NODES_BYTES_MAX = 32 << 20  # of nodes in memory, as they are on the wire; decoded about three times that


class Nodes:
    """Nodes of manifests that were read of late, by id, with their chunks."""

    def __init__(self, bytes_max: int = NODES_BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._kept: OrderedDict[bytes, tuple[m.Node, list[m.Chunk], int]] = OrderedDict()
        self._used = 0

    def get(self, identity: bytes) -> tuple[m.Node, list[m.Chunk]] | None:
        """The node, and the chunks that stand in it."""
        found = self._kept.get(identity)
        if found is None:
            return None
        self._kept.move_to_end(identity)
        return found[:2]

    def put(self, identity: bytes, node: m.Node, chunks: list[m.Chunk], size: int) -> None:
        """Keep a verified node of `size` bytes."""
        self._used += size - self._kept.pop(identity, (None, None, 0))[2]
        self._kept[identity] = node, chunks, size
        while self._used > self._bytes_max and len(self._kept) > 1:
            self._used -= self._kept.popitem(last=False)[1][2]


@dataclass(eq=False, slots=True)
class Wanted(NodePlace):
    """Where the answers of one request belong, and which readers want them."""

    leaf: Leaf | None = None
    readers: set[int] = field(default_factory=set)
    begin: int = 0
    end: int = 0
    has_begun: bool = False


@dataclass(slots=True)
class _Came:
    """Chunks `first` to `last` (exclusive) of a leaf are in the cache; or are not to be had, for a `reason`."""

    leaf: Leaf
    first: int
    last: int
    size: int = 0
    reason: str | None = None


@dataclass(slots=True)
class _NodeCame:
    identity: bytes
    node: m.Node | None
    chunks: list[m.Chunk]
    size: int


class Supply:
    """What one peer gives under one ticket. Belongs to the event loop; disk and hashes are worked at in threads."""

    def __init__(
        self,
        around: Surroundings,
        ticket: Ticket,
        cache: ReadCache,
        nodes: Nodes,
        protocol: Protocol = PROTOCOL,
    ) -> None:
        """`protocol`: `files`, or one with the same messages."""
        self.ticket = ticket
        self._protocol = protocol
        self.readers = 0
        self.refused: CoterieError | None = None  # for good: who opens again gets another supply
        self._around = around
        self._cache = cache
        self._nodes = nodes
        self._link: Link | None = None
        self._is_running = False
        self._used = asyncio.Event()
        self._error: CoterieError | None = None  # why there is no session now
        self._news = asyncio.Event()
        self._heard_at = 0.0
        self._asked_nodes: dict[bytes, None] = {}
        self._asked: dict[tuple[str, int], Wanted] = {}  # by leaf and chunk
        self._asked_bytes = 0
        self._lost: dict[tuple[str, int], str] = {}
        self._missing: dict[bytes, None] = {}  # nodes that the peer does not have
        self._rate = Rate()

    # ---- for readers

    async def node(self, identity: bytes, child: m.Child | None = None) -> tuple[m.Node, list[m.Chunk]]:
        """A node and its chunks. `child`: what the node above says of it. Errors as `chunks`."""
        began = self._now()
        while (found := self._nodes.get(identity)) is None:
            self._check(began)
            if identity in self._missing:
                del self._missing[identity]
                raise NotFound(tr("this is not shared there any more"))
            if self._link is not None and identity not in self._asked_nodes:
                self._asked_nodes[identity] = None
                self._link.ask(Wanted((), None), GetManifest(identity))
            await self._wait()
        if child is not None:
            m.check_child(child, found[0])
        return found

    async def chunks(self, leaf: Leaf, first: int, last: int, reader: int, *, ahead: int = 0) -> bytes:
        """The bytes of these chunks, as soon as they are here; those behind, up to `ahead`, are asked for after them.

        Raises:
            TransportError: the peer is away, or silent for SILENT_S.
            NotFound, AccessDenied: it is not given to us any more, or cannot be had there.
            PeerError: the peer gives what it is not.
            StorageError: the disk of the cache.
        """
        began = self._now()
        while True:
            if self.refused is not None:
                raise self.refused
            missing = await self._missing_of(leaf, first, last)
            for index in missing:
                if (reason := self._lost.pop((leaf.name, index), None)) is not None:
                    raise NotFound(tr("this part cannot be had: {reason}", reason=reason))
            if missing:
                self._check(began)
                self._ask(leaf, missing, reader)
            if self._link is not None and last < ahead:
                await self._expect(leaf, last, ahead, reader)
                ahead = 0
            if not missing:
                data = await asyncio.to_thread(self._cache.get, leaf, first, last)
                if data is not None:
                    return data
            else:
                await self._wait()

    async def _expect(self, leaf: Leaf, first: int, last: int, reader: int) -> None:
        """Ask for these chunks, as far as there is room in what may be under way."""
        room = self._rate.window() - self._asked_bytes
        wanted: list[int] = []
        for index in await self._missing_of(leaf, first, last) if room > 0 else ():
            room -= leaf.chunks[index][1]
            if room < 0:
                break
            wanted.append(index)
        self._ask(leaf, wanted, reader)

    def drop(self, reader: int) -> None:
        """This reader wants nothing any more of what it asked for."""
        for wanted in dict.fromkeys(self._asked.values()):
            if reader not in wanted.readers:
                continue
            wanted.readers.discard(reader)
            if (
                not (wanted.readers or wanted.has_begun)
                and self._link is not None
                and wanted.leaf is not None
            ):
                self._link.cancel(wanted.leaf.node, wanted.leaf.first + wanted.begin)

    def use(self) -> None:
        """There is somebody who reads: have a session, if there is none."""
        self._used.set()
        if not self._is_running and self.refused is None:
            self._is_running = True
            self._heard_at = self._now()
            self._around.jobs.start(self._run(), f"reading from {self.ticket.peer.short}")

    def _check(self, began: float) -> None:
        """Raise what stands in the way of more."""
        if self.refused is not None:
            raise self.refused
        self.use()
        since = self._now() - max(began, self._heard_at)
        if since < SILENT_S:
            return
        name = self._around.people.name_of(self.ticket.peer)
        if self._link is not None:
            self._link.drop(PeerError("nothing came of what was asked for", CloseCode.TIMEOUT))
        why = f" ({self._error})" if self._error is not None else ""
        raise TransportError(
            tr("{name} does not answer{why}; it may be off or cut off: try again later", name=name, why=why)
        )

    async def _missing_of(self, leaf: Leaf, first: int, last: int) -> list[int]:
        missing = []
        for index in range(first, last):
            has = self._cache.has(leaf, index)
            if has is None:
                await asyncio.to_thread(self._cache.learn, leaf, index)
                has = self._cache.has(leaf, index)
            if not has:
                missing.append(index)
        return missing

    def _ask(self, leaf: Leaf, indexes: Sequence[int], reader: int) -> None:
        """Ask for these chunks, what lies side by side together; of those asked for already note the reader."""
        run: list[int] = []
        size = 0
        for index in [*indexes, -1]:
            known = self._asked.get((leaf.name, index))
            if known is not None:
                known.readers.add(reader)
            chunk_bytes = leaf.chunks[index][1]
            if run and (known is not None or index != run[-1] + 1 or size + chunk_bytes > REQUEST_BYTES):
                self._request(leaf, run[0], run[-1] + 1, size, reader)
                run, size = [], 0
            if known is None and index >= 0:
                run.append(index)
                size += chunk_bytes

    def _request(self, leaf: Leaf, begin: int, end: int, size: int, reader: int) -> None:
        if self._link is None:
            return
        if not self._asked_bytes:
            self._heard_at = self._now()
            self._rate.begin(self._heard_at)
        wanted = Wanted((), None, leaf=leaf, readers={reader}, begin=begin, end=end)
        wanted.chunks, wanted.ends = leaf.listed, leaf.ends
        for index in range(begin, end):
            self._asked[leaf.name, index] = wanted
        self._asked_bytes += size
        self._link.ask(wanted, GetChunks(leaf.node, leaf.first + begin, end - begin, insist=True))

    async def _wait(self) -> None:
        """For anything new, or a look at the clock."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._news.wait(), LOOK_S)

    # ---- the session

    async def _run(self) -> None:
        """Sessions, one after the other, while somebody reads."""
        tries = 0
        try:
            while self.refused is None and (self.readers or self._used.is_set()):
                self._used.clear()
                heard_before = self._heard_at
                try:
                    await self._session()
                except (NotFound, AccessDenied) as error:
                    self.refused = error
                except PeerError as error:
                    self._error = error
                    if error.close_code == CloseCode.REVOKED:
                        name = self._around.people.name_of(self.ticket.peer)
                        self.refused = AccessDenied(tr("{name} gives this no longer", name=name))
                    elif error.close_code in FATAL_CODES:
                        self.refused = error
                except TransportError as error:
                    self._error = error
                except CoterieError as error:  # the disk
                    self.refused = error
                finally:
                    self._forget_asked()
                if self.refused is None and self._error is not None:
                    tries = 0 if self._heard_at > heard_before else tries + 1
                    await asyncio.sleep(RETRY_S[min(tries, len(RETRY_S) - 1)])
        finally:
            self._is_running = False
            self._tell()

    async def _session(self) -> None:
        """One session; returns when nobody has read for IDLE_S. Raises why it ended."""
        me, peer = self._around.me.peer_id, self.ticket.peer
        ahead = opening(self.ticket, me, peer, protocol=self._protocol)
        connection = await self._around.net.connect(self.ticket.peer, ahead=ahead)
        stream, _ = await open_share(connection, self.ticket, ahead)
        link = Link(
            connection,
            stream,
            feed=self._feed,
            store=self._store,
            room=lambda peer, size: None,
            hint=lambda peer, addresses: None,
            gave=lambda peer, size: None,
        )
        running = asyncio.ensure_future(link.run())
        idle = asyncio.ensure_future(self._idle())
        self._link, self._error = link, None
        self._tell()
        try:
            await asyncio.wait({running, idle}, return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                running.result()
        finally:
            self._link = None
            for task in (running, idle):
                task.cancel()
            await asyncio.gather(running, idle, return_exceptions=True)

    async def _idle(self) -> None:
        """Until nobody has read for IDLE_S."""
        while self.readers or self._used.is_set():
            self._used.clear()
            await asyncio.sleep(IDLE_S)

    def _forget_asked(self) -> None:
        self._asked.clear()
        self._asked_nodes.clear()
        self._asked_bytes = 0
        self._tell()

    def _tell(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _feed(self, event: Any) -> None:
        """What the link says, on the loop."""
        self._heard_at = self._now()
        for one in event.events if isinstance(event, e.Together) else (event,):
            match one:
                case _NodeCame(identity, node, chunks, size):
                    self._asked_nodes.pop(identity, None)
                    if node is None:
                        self._missing[identity] = None
                    else:
                        self._nodes.put(identity, node, chunks, size)
                case _Came(leaf, first, last, size, reason):
                    for index in range(first, last):
                        wanted = self._asked.pop((leaf.name, index), None)
                        if wanted is not None:
                            wanted.has_begun = True
                            self._asked_bytes -= leaf.chunks[index][1]
                        if reason:
                            self._lost[leaf.name, index] = reason
                    self._rate.came(size, self._heard_at)
        self._tell()

    # ---- in the link's thread

    def _store(self, peer: PeerId, answers: list[Answer]) -> list[Any]:
        """Check what came and put it into the cache. Raises `PeerError`, `StorageError`: the end of the session."""
        events: list[Any] = []
        for answer in answers:
            place = answer.place
            if answer.index < 0:
                events.append(_node_of(answer))
            elif isinstance(place, Wanted) and place.leaf is not None:
                leaf, first = place.leaf, answer.index - place.leaf.first
                if answer.chunks:
                    size = self._keep(leaf, first, answer.chunks, bytes_of(answer.frame))
                    events.append(_Came(leaf, first, first + answer.chunks, size))
                elif isinstance(answer.frame, ChunkUnavailable):
                    known = answer.frame.reason in REASONS
                    reason = REASONS[Unavailable(answer.frame.reason) if known else Unavailable.GONE]
                    events.append(_Came(leaf, first, first + 1, reason=reason))
                else:
                    events.append(_Came(leaf, first, place.end))
        chunks = sum(answer.chunks for answer in answers)
        return [e.Stored(peer, chunks), *events] if chunks else events

    def _keep(self, leaf: Leaf, first: int, count: int, data: bytes | memoryview) -> int:
        at = 0
        for index in range(first, first + count):
            digest, size = leaf.chunks[index]
            part = data[at : at + size]
            at += size
            if blake3(part).digest() != digest:
                raise PeerError("the other computer sent wrong bytes")
            self._cache.put(leaf, index, part)
        if at != len(data):
            raise PeerError("the other computer sent wrong bytes")
        return at


def _node_of(answer: Answer) -> _NodeCame:
    if isinstance(answer.frame, NoManifest):
        return _NodeCame(answer.manifest, None, [], 0)
    data = bytes(bytes_of(answer.frame))
    node = m.decode(data, answer.manifest)
    return _NodeCame(answer.manifest, node, m.leaf_chunks(node), len(data))
