"""Questions under way to another computer: sent as they come, many at once, answered in any order. For any thread.

A question is a frame with a number. What is not answered when a stream breaks is asked again over the next, or fails.
"""

import asyncio
import threading
from collections.abc import Callable, Sequence

import msgspec

from coterie.apps.disks.messages import DATA, PROTOCOL, Beat, Done, Elsewhere, ExtentsAre, Failed, read_data
from coterie.apps.disks.nbd import Errno
from coterie.errors import CoterieError, TransportError
from coterie.net import BulkStream, Stream
from coterie.texts import tr
from coterie.wire.frames import Bulk, Message

BEAT_S = 2.0  # guess: an idle disk costs nothing that anybody sees
SILENT_BEATS_MAX = 5  # then the other side is taken for gone: 10 s, as `supply.SILENT_S`


class Fault(msgspec.Struct, frozen=True):
    """Why something could not be done: `errno` as NBD knows it, `reason` for people."""

    errno: int
    reason: str


Answer = bytes | memoryview | Message | Fault
"""Data (a view is good until the call returns), `ExtentsAre`, `Elsewhere`, `Done`, or why not."""
Take = Callable[[Answer], None]
Make = Callable[[int], Sequence[bytes]]
"""The frame of a question with this number, in parts."""


class Asking:
    """All questions to one computer about one disk."""

    def __init__(
        self, heard: Callable[[Message], None] = lambda message: None, *, writes: bool = False
    ) -> None:
        """`heard` gets what is no answer. `writes`: much goes out, too."""
        self._heard = heard
        self._writes = writes
        self._lock = threading.Lock()
        self._sending = threading.Lock()
        self._under_way: dict[int, tuple[Make, Take]] = {}
        self._out: list[bytes] = []
        self._number = 0
        self._bulk: BulkStream | None = None

    @property
    def under_way(self) -> int:
        """Questions without an answer."""
        return len(self._under_way)

    @property
    def is_open(self) -> bool:
        """Whether there is a stream now."""
        return self._bulk is not None

    def ask(self, make: Make, take: Take) -> None:
        """Ask as soon as `push` is called; `take` gets the answer, in a thread of the stream's."""
        with self._lock:
            self._number += 1
            self._under_way[self._number] = make, take
            if self._bulk is not None:
                self._out += make(self._number)

    def push(self) -> None:
        """Send what was asked. Waits while the other side does not read; a broken stream is told by `run`."""
        if not self._out:
            return
        with self._sending:
            with self._lock:
                out, self._out = self._out, []
                bulk = self._bulk
            if bulk is None or not out:
                return
            data = out[0] if len(out) == 1 else b"".join(out)
            if not self._writes:
                bulk.post(data)
                return
            try:
                bulk.write(data)
            except CoterieError as error:
                bulk.abort(error)

    async def run(self, stream: Stream) -> None:
        """Carry questions and answers over `stream` until it ends; those under way already are asked again.

        Raises:
            PeerError, TransportError: it broke, or the other side is silent.
        """
        bulk = BulkStream(stream, takes_bulk=True)
        with self._lock:
            self._bulk = bulk
            self._out = [part for number, (make, _) in self._under_way.items() for part in make(number)]
        watching = asyncio.ensure_future(self._watch(bulk))
        try:
            await driven(bulk, self._work)
        finally:
            watching.cancel()
            with self._lock:
                self._bulk, self._out = None, []

    def end(self) -> None:
        """Say that nothing more will be asked; `run` returns when the other side has heard it."""
        bulk = self._bulk
        if bulk is not None:
            bulk.finish()

    def fail(self, fault: Fault) -> None:
        """Everything under way has this answer."""
        with self._lock:
            taken = list(self._under_way.values())
            self._under_way.clear()
            self._out = []
        for _, take in taken:
            take(fault)

    def _work(self, bulk: BulkStream) -> None:
        self.push()
        while batch := bulk.receive_batch():
            for frame in batch:
                self._answered(frame)
            self.push()

    def _answered(self, frame: Message | Bulk) -> None:
        answer: Answer
        match frame:
            case Bulk(kind=kind, data=body) if kind == DATA:
                number, answer = read_data(body)
            case Done(id=number):
                answer = frame
            case Failed(id=number, errno=code, reason=reason):
                known = code if code in set(Errno) else Errno.EIO
                answer = Fault(known, reason)
            case ExtentsAre(id=number) | Elsewhere(id=number):
                answer = frame
            case Message():
                self._heard(frame)
                return
            case _:
                return
        with self._lock:
            asked = self._under_way.pop(number, None)
        if asked is not None:
            asked[1](answer)

    async def _watch(self, bulk: BulkStream) -> None:
        """Take the other side for gone when nothing comes of it."""
        silent, before = 0, -1
        while silent < SILENT_BEATS_MAX:
            with self._lock:
                self._out.append(PROTOCOL.encode(Beat(0)))  # a number that no question has
            await asyncio.to_thread(self.push) if self._writes else self.push()
            await asyncio.sleep(BEAT_S)
            heard = bulk.heard_bytes
            silent, before = (silent + 1 if heard == before else 0), heard
        bulk.abort(
            TransportError(
                tr(
                    "{short} has been silent for {seconds:g} s",
                    short=bulk.peer.short,
                    seconds=silent * BEAT_S,
                )
            )
        )


async def driven(bulk: BulkStream, work: Callable[[BulkStream], None]) -> None:
    """As `bulk.drive(work)`; cancelled twice, as when a node ends, it comes to its end all the same."""
    driving = asyncio.ensure_future(bulk.drive(work))
    cancelled: asyncio.CancelledError | None = None
    while not driving.done():
        try:
            await asyncio.wait([driving])
        except asyncio.CancelledError as error:
            if cancelled is None:
                driving.cancel()
            cancelled = error
    if cancelled is None:
        driving.result()
        return
    if not driving.cancelled():
        driving.exception()  # it is known why
    raise cancelled
