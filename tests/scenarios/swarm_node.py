"""A node of a swarm for the simulator: the real cores of both sides, and an uplink that sends chunk after chunk.

What the shells of `apps/files` do with streams, disks and threads is here a few lines: what arrives is on the disk at
once, and the disk (a dict that the scenario keeps) survives a crash.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

from coterie.content.swarm import events as e
from coterie.content.swarm import pieces as p
from coterie.content.swarm import upload as u
from coterie.content.swarm.core import SwarmCore
from coterie.machine import CancelTimer, Emit, PeerDown, PeerUp, Received, Send, SetTimer, TimerFired

CONTROL_BYTES = 60  # a request, an answer without a chunk: with its headers
ROOT = b"root"


@dataclass(frozen=True)
class Content:
    """Manifest nodes: id -> (sizes of the chunks, children); `size` in bytes."""

    nodes: Mapping[bytes, tuple[tuple[int, ...], tuple[bytes, ...]]]
    size: int

    @classmethod
    def of(cls, size: int, random: Random) -> "Content":
        """One file of `size` bytes in chunks as FastCDC cuts them: 32 to 512 KiB, 160 on average."""
        sizes = []
        left = size
        while left:
            chunk = min(left, 32768 + min(int(random.expovariate(1 / 131072)), 491520))
            sizes.append(chunk)
            left -= chunk
        return cls({ROOT: (tuple(sizes), ())}, size)


@dataclass(frozen=True, slots=True)
class Open:
    """A session, please."""


@dataclass(frozen=True, slots=True)
class Bye:
    """The end of a session."""


@dataclass(frozen=True, slots=True)
class Opened:
    whole: bool
    others: int


@dataclass(frozen=True, slots=True)
class Get:
    manifest: bytes
    place: Any
    first: int
    count: int
    insist: bool


@dataclass(frozen=True, slots=True)
class Cancel:
    manifest: bytes
    first: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """One chunk of the oldest request."""

    manifest: bytes
    index: int
    size: int


@dataclass(frozen=True, slots=True)
class NoMore:
    """In place of the rest of the oldest request."""

    elsewhere: bool
    size: int


@dataclass(frozen=True, slots=True)
class NodeIs:
    """The answer to a `Get` of a node."""

    manifest: bytes
    place: Any
    has: bool


@dataclass(frozen=True, slots=True)
class Has:
    manifest: bytes
    pieces: int


@dataclass(frozen=True, slots=True)
class HasAll:
    """Everything is here by now."""


@dataclass(frozen=True, slots=True)
class Given:
    manifest: bytes
    pieces: int


def size_of(message: Any) -> int:
    """Bytes of a message on the wire."""
    match message:
        case Chunk(_, _, size):
            return size + 5
        case NodeIs(manifest=_):
            return 25_000
        case Has(_, pieces) | Given(_, pieces):
            return 80 + pieces.bit_length() // 8
    return CONTROL_BYTES


@dataclass
class Disk:
    """What a node has: chunks by node."""

    chunks: dict[bytes, set[int]] = field(default_factory=dict)
    sent: int = 0  # bytes of chunks, over all its lives
    received: int = 0
    twice: int = 0


class SwarmNode:
    """A receiver, or a seeder when `whole`. `up` is its uplink in bytes a second."""

    def __init__(
        self,
        random: Random,
        content: Content,
        disk: Disk,
        *,
        whole: bool,
        up: float,
        slots: int = u.SLOTS,
        stops_after: int | None = None,
    ) -> None:
        """`stops_after`: bytes after which it gives nothing more."""
        self.content = content
        self.disk = disk
        self.whole = whole
        self.core = None if whole else SwarmCore(random)
        self.upload = u.UploadCore(random, slots)
        self._up = up
        self._free_at = 0.0
        self._answers: dict[Any, deque[deque[Chunk | NoMore]]] = {}  # in the order of the requests
        self._turns: deque[Any] = deque()
        self._askers: dict[Any, dict[bytes, int]] = {}  # and what each has not heard of yet
        self._stops_after = stops_after
        self._starts = {name: p.cut(sizes) for name, (sizes, _) in content.nodes.items()}
        self._begun = False
        self._is_sending = False

    @property
    def queued_bytes(self) -> int:
        """What it has promised and not sent."""
        answers = (answer for waiting in self._answers.values() for answer in waiting)
        return sum(chunk.size for answer in answers for chunk in answer if isinstance(chunk, Chunk))

    def handle(self, event: Any, now: float) -> list[Any]:
        out: list[Any] = []
        self._now = now
        if self.core is not None and not self._begun:
            self._begun = True
            self._feed(e.Begin(ROOT, ROOT), out)
        match event:
            case PeerUp(peer):
                if self.core is not None:
                    out.append(Send(peer, Open()))
            case PeerDown(peer):
                self._lose(peer, out)
            case TimerFired(("swarm", key)):
                self._feed(TimerFired(key), out)
            case TimerFired(("upload", key)):
                self._serve(TimerFired(key), out)
            case TimerFired("uplink"):
                self._is_sending = False
                self._send(out)
            case Received(peer, message):
                self._receive(peer, message, out)
        return out

    # ---- the giving side

    def _receive(self, peer: Any, message: Any, out: list[Any]) -> None:
        match message:
            case Open():
                out.append(Send(peer, Opened(self.whole, len(self._askers))))
                self._askers[peer] = {}
                self._serve(u.AskerUp(peer, ROOT, whole=self.whole, size=self.content.size), out)
                if self.core is not None:
                    out += [Send(peer, Has(m, h)) for m, h in self.core.holdings().items()]
            case Get(manifest, place, first, count, insist):
                if count == 0:
                    has = self.whole or (self.core is not None and manifest in self.core.holdings())
                    out.append(Send(peer, NodeIs(manifest, place, has)))
                    return
                sizes = self.content.nodes[manifest][0][first : first + count]
                pieces = p.spanned(self._starts[manifest], first, first + count)
                self._serve(
                    u.Asked(peer, (manifest, first, count), (u.Part(manifest, pieces, sum(sizes), insist),)),
                    out,
                )
            case Cancel(manifest, first):
                for chunks in self._answers.get(peer, ()):
                    at = chunks[0] if chunks else None
                    if isinstance(at, Chunk) and (at.manifest, at.index) == (manifest, first):
                        size = sum(e.cost(c.size) for c in chunks if isinstance(c, Chunk))
                        chunks.clear()
                        chunks.append(NoMore(False, size))
            case Bye():
                self._forget(peer, out)
            case _:
                self._hear(peer, message, out)

    def _serve(self, event: Any, out: list[Any]) -> None:
        for output in self.upload.handle(event, self._now):
            match output:
                case u.Serve(peer, (manifest, first, count)):
                    self._queue(peer, self._answer(manifest, first, count), out)
                case u.SendElsewhere(peer, (manifest, first, count)):
                    size = sum(map(e.cost, self.content.nodes[manifest][0][first : first + count]))
                    self._queue(peer, deque([NoMore(True, size)]), out)
                case u.TellGiven(peer, manifest, pieces):
                    out.append(Send(peer, Given(manifest, pieces)))
                case SetTimer(key, at):
                    out.append(SetTimer(("upload", key), at))

    def _answer(self, manifest: bytes, first: int, count: int) -> deque[Chunk | NoMore]:
        sizes = self.content.nodes[manifest][0]
        have = None if self.whole else self.disk.chunks.get(manifest, set())
        answer: deque[Chunk | NoMore] = deque()
        for index in range(first, first + count):
            if have is not None and index not in have:
                answer.append(NoMore(False, sum(map(e.cost, sizes[index : first + count]))))
                break
            answer.append(Chunk(manifest, index, sizes[index]))
        return answer

    def _queue(self, peer: Any, answer: deque[Chunk | NoMore], out: list[Any]) -> None:
        answers = self._answers.setdefault(peer, deque())
        answers.append(answer)
        if peer not in self._turns:
            self._turns.append(peer)
        self._send(out)

    def _send(self, out: list[Any]) -> None:
        """One chunk at a time, of the askers that are served by turns."""
        while self._turns and not self._is_sending:
            if self._stops_after is not None and self.disk.sent >= self._stops_after:
                return
            peer = self._turns.popleft()
            answers = self._answers[peer]
            chunk = answers[0].popleft()
            out.append(Send(peer, chunk))
            is_last = not answers[0]
            if is_last:
                answers.popleft()
            if answers:
                self._turns.append(peer)
            self._tell(peer, out)
            if isinstance(chunk, Chunk):
                self.disk.sent += chunk.size
                self._is_sending = True
                out.append(SetTimer("uplink", self._now + chunk.size / self._up))
            if is_last and not (isinstance(chunk, NoMore) and chunk.elsewhere):
                self._serve(u.Served(peer), out)

    def _gain(self, manifest: bytes, pieces: int, out: list[Any]) -> None:
        """News go behind the next chunk; at once to whoever waits for none."""
        for asker, untold in self._askers.items():
            untold[manifest] = untold.get(manifest, 0) | pieces
            if asker not in self._turns:
                self._tell(asker, out)

    def _tell(self, asker: Any, out: list[Any]) -> None:
        untold = self._askers.get(asker, {})
        out += [Send(asker, Has(manifest, pieces)) for manifest, pieces in untold.items()]
        untold.clear()

    def _lose(self, peer: Any, out: list[Any]) -> None:
        self._forget(peer, out)
        if self.core is not None:
            self._feed(PeerDown(peer), out)

    def _forget(self, peer: Any, out: list[Any]) -> None:
        self._askers.pop(peer, None)
        self._answers.pop(peer, None)
        if peer in self._turns:
            self._turns.remove(peer)
        self._serve(u.AskerDown(peer), out)

    # ---- the asking side

    def _hear(self, peer: Any, message: Any, out: list[Any]) -> None:
        if self.core is None:
            return
        match message:
            case Opened(whole, others):
                self._feed(e.SourceUp(peer, whole, others), out)
            case Chunk(manifest, index, size):
                self.disk.received += size
                have = self.disk.chunks.setdefault(manifest, set())
                self.disk.twice += size * (index in have)
                have.add(index)
                self._feed(e.Arrived(peer, e.cost(size), 0.04), out)
                self._feed(e.Stored(peer, 1), out)
                self._serve(u.Gave(peer, size), out)
            case NoMore(elsewhere, size):
                self._feed(e.Arrived(peer, size), out)
                self._feed(e.Skipped(peer, elsewhere), out)
            case NodeIs(manifest, place, has):
                prepared = self._prepared(manifest, place) if has else None
                self._feed(e.NodeArrived(peer, manifest, place, prepared), out)
            case Has(manifest, pieces):
                self._feed(e.Holds(peer, manifest, pieces), out)
            case HasAll():
                self._feed(e.HoldsAll(peer), out)
            case Given(manifest, pieces):
                self._feed(e.Given(peer, manifest, pieces), out)

    def _prepared(self, manifest: bytes, place: Any) -> e.Prepared:
        sizes, children = self.content.nodes[manifest]
        have = self.disk.chunks.get(manifest, ())
        missing = tuple(i for i in range(len(sizes)) if i not in have)
        below = tuple((child, child) for child in children)
        return e.Prepared(manifest, place, sizes, missing, below)

    def _feed(self, event: Any, out: list[Any]) -> None:
        assert self.core is not None
        for output in self.core.handle(event, self._now):
            match output:
                case e.AskNode(peer, manifest, place):
                    out.append(Send(peer, Get(manifest, place, 0, 0, False)))
                case e.AskChunks(peer, manifest, place, first, count, insist):
                    out.append(Send(peer, Get(manifest, place, first, count, insist)))
                case e.CancelChunks(peer, manifest, first, _):
                    out.append(Send(peer, Cancel(manifest, first)))
                case e.Gained(manifest, pieces):
                    self._gain(manifest, pieces, out)
                case e.Drop(peer):
                    out += [Send(peer, Bye()), Send(peer, Open())]
                    self._feed(PeerDown(peer), out)
                case SetTimer(key, at):
                    out.append(SetTimer(("swarm", key), at))
                case CancelTimer(key):
                    out.append(CancelTimer(("swarm", key)))
                case Emit(e.Complete()):
                    self.whole = True
                    out.append(output)
                    out += [Send(asker, HasAll()) for asker in self._askers]
