"""A disk of a peer that programs here use: one stream to its owner while it is used, made anew where it breaks.

What was not answered when the stream broke is asked again. That is safe: nobody else writes meanwhile, and the owner
has done with the old stream before it answers over the new one. Where the owner's system was started anew, what was
answered and not flushed may be lost: then everything fails until programs begin anew.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable

from coterie.apps.context import Context
from coterie.apps.disks import messages as w
from coterie.apps.disks.asking import Answer, Asking, Fault
from coterie.apps.disks.blocks import Blocks, Got, Habit
from coterie.apps.disks.nbd import Errno, Export, Feature
from coterie.apps.disks.readers import Others
from coterie.apps.disks.records import AttachedRecord
from coterie.errors import AccessDenied, CloseCode, CoterieError, NotFound, PeerError, TransportError
from coterie.identity import PeerId
from coterie.net import Stream
from coterie.net.lanes.bridge import call_soon
from coterie.texts import tr
from coterie.transfer.read_cache import ReadCache
from coterie.wire.frames import Message

ANSWER_S = 15.0  # to `Open`: the owner ends our use before, and a drive has to spin up
RESUME_S = (
    30.0  # without its owner, before what waits fails; guess: programs wait so long, and a router restarts
)
ENDED_S = 3.0  # for the owner to hear that a disk is detached
RETRY_S = (0.1, 0.5, 1.0, 2.0, 5.0)
IDLE_S = 20.0  # without programs, before the stream ends; guess: the next one comes within
BYTES_UNDER_WAY_MAX = 64 << 20  # of reads and writes of programs at once; guess: two of the largest

Finished = Callable[["Fault | None"], None]


async def open_stream(context: Context, peer: PeerId, ask: w.Open) -> tuple[Stream, w.Opened]:
    """A stream to a disk of a peer.

    Raises:
        NotFound: there is no such disk, or it is not for us; or it cannot be had now, and why.
        TransportError, PeerError: the peer was not reached, or not understood.
    """
    stream = await context.net.open(peer, w.PROTOCOL)
    try:
        await stream.send(ask)
        async with asyncio.timeout(ANSWER_S):
            answer = await stream.receive()
        name = context.people.name_of(peer)
        match answer:
            case w.Opened():
                return stream, answer
            case w.Refused(reason, is_failed):
                said = tr("{name} says: {reason}", name=name, reason=reason[: w.REASON_CHARS_MAX])
                raise AccessDenied(said) if is_failed else NotFound(said)
        raise PeerError(f"{peer.short} did not answer as coterie does")
    except TimeoutError:
        await stream.reset(CloseCode.TIMEOUT)
        raise TransportError(tr("{short} is connected but does not answer", short=peer.short)) from None
    except BaseException:
        await stream.reset(CloseCode.CANCELLED)
        raise


class Attached:
    """Made on the loop; what programs ask (`read` to `extents`) comes from any thread, and waits for room only."""

    def __init__(self, context: Context, record: AttachedRecord, cache: ReadCache, name: str) -> None:
        """`name`: the export, COMPUTER/NAME."""
        self.record = record
        self.name = name
        self.peer = PeerId.parse(record.peer)
        self.state = "ready"
        self.opened: w.Opened | None = None
        self.blocks: Blocks | None = None
        self.others: Others | None = None
        self.clients = 0
        self._context = context
        self._cache = cache
        self._loop = asyncio.get_running_loop()
        self._asking = Asking(self._heard, writes=record.write)
        self._running: asyncio.Event | None = None  # is set when there is a stream, or none can be had
        self._error: CoterieError | None = None
        self._broken: Fault | None = None
        self._used = asyncio.Event()
        self._ended = asyncio.Event()  # there is no stream, and none is being made
        self._ended.set()
        self._is_closed = False
        self._lock = threading.Lock()
        self._unflushed = 0  # changes that were answered, and not flushed by a flush that was answered
        self._room = threading.Condition()
        self._bytes = 0

    # ---- for the loop

    async def open(self) -> Export:
        """What it is; there is a stream afterwards. Raises what stands in the way, as `open_stream`."""
        self._used.set()
        if self._broken is not None and not self.clients:
            self._broken, self._unflushed = None, 0
        if self._running is None:
            self._running = asyncio.Event()
            self._context.jobs.start(self._run(self._running), f"using the disk {self.name}")
        running = self._running
        await running.wait()
        if not self._asking.is_open and self._error is not None:
            raise self._error
        if self.opened is None:
            raise TransportError(tr("{name} cannot be had now", name=self.name))
        return self._export(self.opened)

    async def close(self) -> None:
        """Programs get no more of it."""
        self._asking.fail(Fault(Errno.ESHUTDOWN, "the disk was detached"))
        self._broken = Fault(Errno.ESHUTDOWN, "the disk was detached")
        self._is_closed = True
        self._asking.end()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._ended.wait(), ENDED_S)

    def _export(self, opened: w.Opened) -> Export:
        features = Feature.HAS_FLAGS | Feature.CAN_MULTI_CONN | Feature.SEND_DF | Feature.SEND_CACHE
        features |= Feature.SEND_FLUSH
        if opened.can_write:
            features |= Feature.SEND_FUA | Feature.SEND_TRIM | Feature.SEND_WRITE_ZEROES
        else:
            features |= Feature.READ_ONLY
        return Export(self.name, opened.size, features)

    async def _run(self, running: asyncio.Event) -> None:
        """Streams to the owner, one after the other, while programs use it."""
        self._ended.clear()
        lost_at: float | None = None
        tries = 0
        try:
            while self._is_used:
                self._used.clear()
                try:
                    stream = await self._begin()
                    lost_at, tries, self.state, self._error = None, 0, "ready", None
                    running.set()
                    ending = asyncio.ensure_future(self._end_when_idle())
                    try:
                        await self._asking.run(stream)
                    finally:
                        ending.cancel()
                    if not self._asking.under_way:
                        continue
                    raise TransportError(tr("{name} ended the connection", name=self.name))
                except (NotFound, AccessDenied) as error:
                    self._fail(error, Errno.ESHUTDOWN)
                    return
                except PeerError as error:
                    if error.close_code == CloseCode.LIMIT:  # as of a grant that is used up
                        self._fail(error, Errno.ESHUTDOWN)
                        return
                    if error.close_code in (CloseCode.REVOKED, CloseCode.REFUSED):
                        said = tr("{name} is given to this computer no longer", name=self.name)
                        self._fail(AccessDenied(said), Errno.ESHUTDOWN)
                        return
                    self._error = error
                except TransportError as error:
                    self._error = error
                self._named([])
                now = self._loop.time()
                lost_at = now if lost_at is None else lost_at
                self.state = str(self._error)
                if now - lost_at > RESUME_S or not (running.is_set() and self._is_used):
                    self._fail(self._error or TransportError(self.state), Errno.EIO)
                    return
                await asyncio.sleep(RETRY_S[min(tries, len(RETRY_S) - 1)])
                tries += 1
        finally:
            self._running = None
            running.set()
            self._named([])
            self._ended.set()

    @property
    def _is_used(self) -> bool:
        return not self._is_closed and bool(self._used.is_set() or self.clients or self._asking.under_way)

    async def _begin(self) -> Stream:
        """A stream, after which everything can go on. Raises as `open_stream`."""
        kind = "write" if self.record.write else "read"
        ask = w.Open(self.record.name, kind, tuple(self._context.me.addresses())[: w.ADDRESSES_MAX])
        stream, opened = await open_stream(self._context, self.peer, ask)
        before, self.opened = self.opened, opened
        if before is not None and self.clients:
            if opened.size != before.size or (before.root and opened.root != before.root):
                self._break(
                    tr("{name} is not what it was when it was opened", name=self.name), Errno.ESHUTDOWN
                )
            elif opened.can_write and not opened.is_same:
                self._break(tr("another computer wrote {name} meanwhile", name=self.name), Errno.ESHUTDOWN)
            elif opened.boot != before.boot and self._unflushed:
                said = tr(
                    "the computer of {name} was started anew, and what was not flushed may be lost",
                    name=self.name,
                )
                self._break(said, Errno.EIO)
        if not self.clients:
            self._unflushed = 0
        self._use(opened, before)
        if opened.can_write:
            stream.expect(opened.size)
        return stream

    def _use(self, opened: w.Opened, before: w.Opened | None) -> None:
        if self.blocks is None or before is None or before.size != opened.size:
            self.blocks = Blocks(
                self._asking, opened.size, is_fresh_s=float("inf") if opened.can_write else 5.0
            )
            self.others = Others(self._context, self.blocks)
        if opened.root and self.others is not None:
            self.blocks.use_tree(opened.root, self._cache, self.others)
        else:
            self.blocks.use_no_tree()
            self.blocks.forget()  # others may have changed it since the last stream

    def _break(self, said: str, errno: Errno) -> None:
        self.state = said
        self._broken = Fault(errno, said)
        self._asking.fail(self._broken)

    def _fail(self, error: CoterieError, errno: Errno) -> None:
        self._error, self.state = error, str(error)
        if self.clients and errno == Errno.ESHUTDOWN:
            self._broken = Fault(errno, str(error))
        self._asking.fail(Fault(errno, str(error)))

    async def _end_when_idle(self) -> None:
        """End the stream when no program has used it for IDLE_S."""
        while True:
            self._used.clear()
            await asyncio.sleep(IDLE_S)
            if not (self._used.is_set() or self.clients or self._asking.under_way):
                break
        self._asking.end()

    def _heard(self, message: Message) -> None:
        if isinstance(message, w.Readers):
            self._named(message.readers)

    def _named(self, readers: list[tuple[bytes, list[str]]]) -> None:
        if self.others is not None:
            own = bytes(self._context.me.peer_id)
            self.others.named([one for one in readers if one[0] != own])

    # ---- for programs, from any thread

    def push(self) -> None:
        """Send what was asked for."""
        self._asking.push()

    def read(self, habit: Habit, offset: int, size: int, got: Got) -> None:
        """Read; `got` may be called before this returns."""
        if self._is_out(got) or self.blocks is None:
            return
        self._take_room(size)

        def give(data: "bytes | memoryview | Fault") -> None:
            try:
                got(data)
            finally:
                self._give_room(size)

        self.blocks.read(habit, offset, size, give)
        self._kick()

    def write(self, offset: int, data: bytes | memoryview, *, fua: bool, finished: Finished) -> None:
        """Change; `data` is not to change until `finished` is called."""
        if self._is_out(finished):
            return
        size = len(data)
        self._take_room(size)
        view = memoryview(data)
        flags = w.FUA if fua else 0
        asks: list[Callable[[int], list[bytes]]] = []
        for at in range(0, size, w.PIECE_BYTES_MAX):
            part = view[at : at + w.PIECE_BYTES_MAX]
            asks.append(lambda number, at=at, part=part: [w.pack_write(number, offset + at, flags, part)])  # type: ignore[misc]

        def end(fault: Fault | None) -> None:
            self._give_room(size)
            finished(fault)

        self._change(asks, offset, size, end, is_flushed=fua)

    def trim(self, offset: int, size: int, *, fua: bool, finished: Finished) -> None:
        """Say that these bytes are of no use any more."""
        flags = w.FUA if fua else 0
        ask = lambda number: [w.PROTOCOL.encode(w.Trim(number, offset, size, flags))]  # noqa: E731
        if not self._is_out(finished):
            self._change([ask], offset, size, finished, is_flushed=fua)

    def zero(self, offset: int, size: int, *, fua: bool, no_hole: bool, finished: Finished) -> None:
        """Make these bytes zero."""
        flags = (w.FUA if fua else 0) | (w.NO_HOLE if no_hole else 0)
        ask = lambda number: [w.PROTOCOL.encode(w.Zero(number, offset, size, flags))]  # noqa: E731
        if not self._is_out(finished):
            self._change([ask], offset, size, finished, is_flushed=fua)

    def flush(self, finished: Finished) -> None:
        """`finished` is called when all that was answered before is on the far disk."""
        if self._is_out(finished):
            return
        with self._lock:
            covered = self._unflushed

        def take(answer: Answer) -> None:
            fault = answer if isinstance(answer, Fault) else None
            if fault is None:
                with self._lock:
                    self._unflushed = max(0, self._unflushed - covered)
            finished(fault)

        self._asking.ask(lambda number: [w.PROTOCOL.encode(w.Flush(number))], take)
        self._kick()

    def extents(
        self, offset: int, size: int, got: Callable[["list[tuple[int, bool]] | Fault"], None]
    ) -> None:
        """Which of these bytes are holes."""
        if self._is_out(got):
            return

        def take(answer: Answer) -> None:
            match answer:
                case w.ExtentsAre(extents=found) if found:
                    got([(length, is_hole) for length, is_hole in found if length > 0])
                case Fault():
                    got(answer)
                case _:
                    got(Fault(Errno.EIO, "the other computer gave an answer to something else"))

        self._asking.ask(lambda number: [w.PROTOCOL.encode(w.Extents(number, offset, size))], take)
        self._kick()

    def _change(
        self,
        asks: "list[Callable[[int], list[bytes]]]",
        offset: int,
        size: int,
        finished: Finished,
        *,
        is_flushed: bool,
    ) -> None:
        blocks = self.blocks
        if blocks is not None:
            blocks.changed(offset, size)
        left = [len(asks)]
        faults: list[Fault] = []

        def take(answer: Answer) -> None:
            with self._lock:
                if isinstance(answer, Fault):
                    faults.append(answer)
                left[0] -= 1
                is_last = not left[0]
                if is_last and not faults and not is_flushed:
                    self._unflushed += 1
            if is_last:
                if blocks is not None:
                    blocks.changed(offset, size)
                finished(faults[0] if faults else None)

        if not asks:
            finished(None)
        for ask in asks:
            self._asking.ask(ask, take)
        self._kick()

    def _is_out(self, told: "Callable[[Fault], object]") -> bool:
        """Whether nothing can be done any more; then `told` has heard why."""
        if self._broken is not None:
            told(self._broken)
            return True
        return False

    def _kick(self) -> None:
        if not self._asking.is_open and self._running is None:
            call_soon(self._loop, self._again)

    def _again(self) -> None:
        """A stream ended while programs were still there: make another."""
        self._used.set()
        if self._running is None:
            self._running = asyncio.Event()
            self._running.set()
            self._context.jobs.start(self._run(self._running), f"using the disk {self.name}")

    def _take_room(self, size: int) -> None:
        """Wait while too much is under way: then programs wait, not memory."""
        with self._room:
            if not self._has_room(size):
                self.push()
            self._room.wait_for(lambda: self._has_room(size))
            self._bytes += size

    def _has_room(self, size: int) -> bool:
        return not self._bytes or self._bytes + size <= BYTES_UNDER_WAY_MAX

    def _give_room(self, size: int) -> None:
        with self._room:
            self._bytes -= size
            self._room.notify_all()
