"""Readers of one image among each other: each gives the blocks that it has to those whom the owner named."""

import asyncio
import contextlib
import threading
from collections.abc import Callable

from coterie.apps.context import Context
from coterie.apps.disks import messages as w
from coterie.apps.disks.asking import Asking, Fault, driven
from coterie.apps.disks.blocks import Blocks
from coterie.apps.disks.nbd import Errno
from coterie.errors import AccessDenied, CloseCode, CoterieError, PeerError, TransportError
from coterie.identity import PeerId
from coterie.net import BulkStream, Stream
from coterie.net.lanes.bridge import call_soon
from coterie.texts import tr
from coterie.wire.frames import Bulk, Message

ANSWER_S = 10.0  # to `Join`
NAMED_S = 4.0  # until the owner has named who comes: it tells with its next answer, at the latest to a beat
APART_S = 60.0  # a reader that was not reached is not tried again for so long; guess


class Others:
    """The other readers of one image, as they are asked here, and as they ask here. For any thread but where said."""

    def __init__(self, context: Context, blocks: Blocks) -> None:
        self._context = context
        self._blocks = blocks
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._named: dict[bytes, list[str]] = {}
        self._news = asyncio.Event()
        self._asked: dict[bytes, Asking] = {}
        self._apart: dict[bytes, float] = {}  # until when
        self._serving: dict[bytes, BulkStream] = {}
        self.given_bytes = 0

    def named(self, readers: list[tuple[bytes, list[str]]]) -> None:
        """Whom the owner names now; who is no longer among them is served no longer."""
        with self._lock:
            self._named = {peer: addresses[: w.ADDRESSES_MAX] for peer, addresses in readers[: w.READERS_MAX]}
            gone = [bulk for peer, bulk in self._serving.items() if peer not in self._named]
        for bulk in gone:
            bulk.abort(PeerError("its owner gives this image to that computer no longer", CloseCode.REVOKED))
        call_soon(self._loop, self._news.set)

    def get(self, peer: bytes, block: int, got: Callable[[bytes | None], None]) -> None:
        """As `blocks.FromReaders` says."""
        now = self._loop.time()
        with self._lock:
            addresses = self._named.get(peer)
            asking = self._asked.get(peer)
            is_apart = addresses is None or self._apart.get(peer, 0.0) > now
            if asking is None and not is_apart:
                asking = self._asked[peer] = Asking()
                call_soon(self._loop, lambda: self._begin(peer, addresses or []))
        if asking is None or is_apart:
            got(None)
            return
        asking.ask(
            lambda number: [w.PROTOCOL.encode(w.Want(number, block))],
            lambda answer: got(bytes(answer) if isinstance(answer, bytes | memoryview) else None),
        )
        asking.push()

    def _begin(self, peer: bytes, addresses: list[str]) -> None:
        name = "reading from another reader of an image"
        self._context.jobs.start(self._ask(peer, addresses), name)

    async def _ask(self, peer: bytes, addresses: list[str]) -> None:
        """One stream to another reader, for as long as it lasts."""
        asking = self._asked[peer]
        try:
            connection = await self._context.net.connect(PeerId.read(peer), addresses)
            stream = await connection.open_stream(w.PROTOCOL)
            try:
                await stream.send(w.Join(self._blocks.root))
                async with asyncio.timeout(ANSWER_S):
                    answer = await stream.receive()
                if not isinstance(answer, w.Opened):
                    raise TransportError(tr("the other reader of this image does not give it"))
            except BaseException:
                await stream.reset(CloseCode.CANCELLED)
                raise
            await asking.run(stream)
        except (CoterieError, TimeoutError):
            with self._lock:
                self._apart[peer] = self._loop.time() + APART_S
        finally:
            with self._lock:
                self._asked.pop(peer, None)
            asking.fail(Fault(Errno.EIO, "the other reader is gone"))

    def end(self) -> None:
        """The disk is used no more: ask nobody, answer nobody."""
        self.named([])
        with self._lock:
            asked = list(self._asked.values())
        for asking in asked:
            asking.end()

    async def serve(self, stream: Stream) -> None:
        """Answer a reader that the owner named. On the loop. Raises AccessDenied: it did not, within NAMED_S."""
        peer = bytes(stream.peer)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(NAMED_S):
                while peer not in self._named:
                    self._news.clear()
                    await self._news.wait()
        if peer not in self._named or len(self._serving) >= w.READERS_MAX:
            raise AccessDenied(tr("the owner of this image did not name that computer"))
        stream.welcome()
        await stream.send(w.Opened(0))
        bulk = BulkStream(stream, takes_bulk=True)
        before = self._serving.get(peer)
        if before is not None:
            before.abort(TransportError(tr("the same computer reads over another connection now")))
        self._serving[peer] = bulk
        try:
            await driven(bulk, self._work)
        finally:
            if self._serving.get(peer) is bulk:
                del self._serving[peer]

    def _work(self, bulk: BulkStream) -> None:
        sending = threading.Lock()
        room = threading.Semaphore(w.ASKED_MAX)

        def answer(number: int, data: bytes | None) -> None:
            room.release()
            if data is None:
                frame = w.PROTOCOL.encode(w.Failed(number, Errno.EIO, "it is not here"))
            else:
                frame = w.pack_data(number, data)
                self.given_bytes += len(data)
            try:
                with sending:
                    bulk.write(frame)
            except CoterieError as error:
                bulk.abort(error)

        while batch := bulk.receive_batch():
            for frame in batch:
                self._answer(frame, room, answer, bulk)

    def _answer(
        self,
        frame: Message | Bulk,
        room: threading.Semaphore,
        answer: Callable[[int, bytes | None], None],
        bulk: BulkStream,
    ) -> None:
        match frame:
            case w.Want(id=number, block=block):
                room.acquire()
                self._blocks.local_soon(block, lambda data: answer(number, data))
            case w.Beat(id=number):
                room.acquire()
                answer(number, None)
            case _:
                raise PeerError("that is no question of a reader of an image")
