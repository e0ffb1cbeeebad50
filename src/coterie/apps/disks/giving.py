"""The owner's side of one stream: answers questions about a disk in a thread, what waits for the disk in others."""

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, Future
from typing import Protocol

from coterie.apps.disks import messages as w
from coterie.apps.disks.image import Stamp, errno_of
from coterie.apps.disks.nbd import Errno
from coterie.apps.disks.tree import BLOCK_BYTES, block_bytes, blocks_of
from coterie.errors import CoterieError, PeerError, TransportError
from coterie.net import BulkStream
from coterie.texts import tr
from coterie.wire.frames import Bulk, Message

OUT_BYTES_MAX = 1 << 20  # of answers that are sent together
APART_BYTES = 32 << 10  # an answer that is sent by itself: joining it to others would cost a copy

Frame = bytes | memoryview


class Disk(Protocol):
    """What is given: an `Image`, or one of a test. Every method but `size` may raise `OSError`."""

    size: int

    def stamp(self) -> Stamp: ...
    def read_at_once(self, offset: int, to: memoryview) -> bool: ...
    def read(self, offset: int, to: memoryview) -> None: ...
    def write(self, offset: int, data: bytes | memoryview) -> None: ...
    def flush(self) -> None: ...
    def trim(self, offset: int, size: int) -> None: ...
    def zero(self, offset: int, size: int, *, no_hole: bool = False) -> None: ...
    def extents(self, offset: int, size: int) -> Iterable[tuple[int, bool]]: ...


class Swarm(Protocol):
    """What the owner knows of the readers of one image; for any thread."""

    def give(self, block: int, *, insist: bool, failed: bytes) -> bytes | None:
        """Whom to ask for a block; None: it is given here."""
        ...

    def page(self, page: int) -> bytes | None:
        """A page of the tree; None: there is no such page."""
        ...


class Giving:
    """One stream of one computer."""

    def __init__(
        self,
        disk: Disk,
        pool: Executor,
        *,
        can_write: bool,
        swarm: Swarm | None = None,
        charge: Callable[[int], None] | None = None,
    ) -> None:
        """`charge` counts bytes on quotas and rates; it blocks, and raises when one is used up."""
        self._disk = disk
        self._pool = pool
        self._can_write = can_write
        self._swarm = swarm
        self._stamp = disk.stamp() if swarm is not None else None
        self._charge = charge
        self._sending = threading.Lock()
        self._slow = threading.Semaphore(w.ASKED_MAX)
        self._waiting: dict[Future[None], None] = {}
        self._bulk: BulkStream | None = None
        self._charged = 0
        self._news = b""
        self.given_bytes = 0

    def work(self, bulk: BulkStream) -> None:
        """Answer until the other side has nothing more to ask. Raises what breaks the stream."""
        self._bulk = bulk
        try:
            while batch := bulk.receive_batch():
                out: list[Frame] = []
                size = 0
                for frame in batch:
                    answer = self._answer(frame)
                    if answer:
                        out.append(answer)
                        size += len(answer)
                    if size >= OUT_BYTES_MAX:
                        self._send(out)
                        out, size = [], 0
                if out:
                    self._send(out)
                if self._charge is not None and self._charged:
                    charged, self._charged = self._charged, 0
                    self._charge(charged)
        finally:
            for future in list(self._waiting):
                future.exception()  # wait: whoever comes next must not meet changes that are still going on

    def tell(self, news: Message) -> None:
        """Send this before the next answer, instead of news that were not sent yet; from any thread."""
        self._news = w.PROTOCOL.encode(news)

    def stop(self) -> bool:
        """End the stream, from any thread; False: it has not begun."""
        if self._bulk is None:
            return False
        self._bulk.abort(TransportError(tr("the same computer uses this disk over another connection now")))
        return True

    def _send(self, out: list[Frame]) -> None:
        assert self._bulk is not None  # noqa: S101 - set by `work` before anything is sent
        with self._sending:
            if self._news:
                news, self._news = self._news, b""
                out = [news, *out]
            small: list[Frame] = []
            for frame in out:
                if len(frame) < APART_BYTES:
                    small.append(frame)
                    continue
                if small:
                    self._bulk.write(b"".join(small))
                    small = []
                self._bulk.write(frame)
            if small:
                self._bulk.write(small[0] if len(small) == 1 else b"".join(small))

    def _answer(self, frame: Message | Bulk) -> Frame:
        """The answer, where it can be given at once; else nothing."""
        number = getattr(frame, "id", 0)
        try:
            if isinstance(frame, Bulk) and frame.kind == w.WRITE:
                written = w.read_write(frame.data)
                number = written.id
                return self._write(written)
            return self._done_to(frame)
        except _Refused as refused:
            return w.PROTOCOL.encode(w.Failed(number, refused.errno, refused.reason))
        except OSError as error:
            return w.PROTOCOL.encode(w.Failed(number, errno_of(error), (error.strerror or "")[:200]))

    def _done_to(self, frame: Message | Bulk) -> Frame:
        """The answer to all but writes. Raises `OSError`, `_Refused`: there is none; `PeerError`: no question."""
        match frame:
            case w.Read(id=number, offset=offset, size=size):
                self._check(offset, size, w.PIECE_BYTES_MAX)
                return self._read(number, offset, size)
            case w.Flush(id=number):
                return self._later(number, self._disk.flush)
            case w.Trim(id=number, offset=offset, size=size, flags=flags):
                self._check_change(offset, size)
                return self._later(number, lambda: self._disk.trim(offset, size), flags)
            case w.Zero(id=number, offset=offset, size=size, flags=flags):
                self._check_change(offset, size)
                no_hole = bool(flags & w.NO_HOLE)
                return self._later(number, lambda: self._disk.zero(offset, size, no_hole=no_hole), flags)
            case w.Extents(id=number, offset=offset, size=size):
                self._check(offset, size)
                return self._extents(number, offset, size)
            case w.Beat(id=number):
                return w.PROTOCOL.encode(w.Done(number))
            case w.GetPage(id=number, page=page):
                data = self._swarm.page(page) if self._swarm is not None else None
                if data is None:
                    raise _Refused(Errno.EINVAL, tr("there is no such page"))
                return w.pack_data(number, data)
            case w.Want():
                return self._block(frame)
        raise PeerError("that is no question about a disk")

    def _check(self, offset: int, size: int, size_max: int | None = None) -> None:
        if offset < 0 or size <= 0 or (size_max is not None and size > size_max):
            raise PeerError("a question about a part of a disk that cannot be")
        if offset + size > self._disk.size:
            raise _Refused(Errno.EINVAL, tr("that is beyond the end of the disk"))

    def _check_change(self, offset: int, size: int) -> None:
        if not self._can_write:
            raise _Refused(Errno.EPERM, tr("this disk is open to be read only"))
        if offset + size > self._disk.size:
            raise _Refused(Errno.ENOSPC, tr("that is beyond the end of the disk"))
        self._check(offset, size)

    def _read(self, number: int, offset: int, size: int) -> Frame:
        self._check_same()
        frame, room = w.data_frame(number, size)
        self._count(size)
        if self._disk.read_at_once(offset, room):
            return frame

        def read() -> memoryview:
            self._disk.read(offset, room)
            return frame

        return self._slowly(number, read)

    def _block(self, want: w.Want) -> Frame:
        if self._swarm is None or not 0 <= want.block < blocks_of(self._disk.size):
            raise _Refused(Errno.EINVAL, tr("there is no such block"))
        self._check_same()
        size = block_bytes(self._disk.size, want.block)
        giver = self._swarm.give(want.block, insist=want.insist, failed=want.failed)
        if giver is not None:
            self._charged += size
            return w.PROTOCOL.encode(w.Elsewhere(want.id, giver))
        return self._read(want.id, want.block * BLOCK_BYTES, size)

    def _write(self, written: w.Written) -> bytes:
        self._check_change(written.offset, len(written.data))
        self._disk.write(written.offset, written.data)
        self._count(len(written.data))
        if written.flags & w.FUA:
            return self._later(written.id, self._disk.flush)
        return w.PROTOCOL.encode(w.Done(written.id))

    def _extents(self, number: int, offset: int, size: int) -> bytes:
        found: list[tuple[int, bool]] = []
        for one in self._disk.extents(offset, size):
            found.append(one)
            if len(found) >= w.EXTENTS_MAX:
                break
        return w.PROTOCOL.encode(w.ExtentsAre(number, found))

    def _later(self, number: int, change: Callable[[], None], flags: int = 0) -> bytes:
        """Do it in another thread, then say that it is done."""

        def do() -> bytes:
            change()
            if flags & w.FUA:
                self._disk.flush()
            return w.PROTOCOL.encode(w.Done(number))

        return self._slowly(number, do)

    def _slowly(self, number: int, do: Callable[[], Frame]) -> bytes:
        """Answer with what `do` gives, from another thread; what comes meanwhile is answered before."""
        self._slow.acquire()
        future = self._pool.submit(self._done, number, do)
        self._waiting[future] = None
        future.add_done_callback(self._forget)
        return b""

    def _done(self, number: int, do: Callable[[], Frame]) -> None:
        answer: Frame
        try:
            answer = do()
        except OSError as error:
            answer = w.PROTOCOL.encode(w.Failed(number, errno_of(error), (error.strerror or "")[:200]))
        try:
            self._send([answer])
        except CoterieError as error:
            if self._bulk is not None:
                self._bulk.abort(error)

    def _forget(self, future: "Future[None]") -> None:
        self._waiting.pop(future, None)
        self._slow.release()

    def _check_same(self) -> None:
        """Raise `TransportError` where an image is not what its tree says any more; the next stream says what it is."""
        if self._stamp is not None and self._disk.stamp() != self._stamp:
            raise TransportError(tr("the image changed on its computer"))

    def _count(self, size: int) -> None:
        self.given_bytes += size
        self._charged += size


class _Refused(Exception):
    """A question that has no for an answer."""

    def __init__(self, errno: Errno, reason: str) -> None:
        super().__init__(reason)
        self.errno = errno
        self.reason = reason
