"""The side that has the disks: opens one for each stream that the policy allows, and keeps two writers apart."""

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from coterie.access.policy import Decision
from coterie.access.resource import Verb
from coterie.apps.context import Context
from coterie.apps.disks import tree
from coterie.apps.disks.asking import driven
from coterie.apps.disks.core import Copies, Uses
from coterie.apps.disks.giving import Giving
from coterie.apps.disks.image import Image, boot_of, eject, form_of, look_at
from coterie.apps.disks.messages import (
    ADDRESSES_MAX,
    LISTED_MAX,
    PAGES,
    Done,
    Eject,
    Join,
    List,
    Listed,
    Open,
    Opened,
    Readers,
    Refused,
    Shared,
)
from coterie.apps.disks.records import SharedRecord
from coterie.apps.disks.trees import Tree, Trees
from coterie.errors import AccessDenied, CloseCode, CoterieError, LimitExceeded, NotFound, PeerError
from coterie.identity import PeerId
from coterie.net import BulkStream, Stream
from coterie.texts import tr

KIND = "disk"  # of resources
OPENING_S = 10.0  # for the first message; guess: as sessions of files have it
RESUME_S = 30.0  # a writer that broke off may come back, and nobody else writes meanwhile
ENDING_S = 0.5  # for others who are just ending; guess
TREE_WAIT_S = 2.0  # guess: a small image is hashed by then, and all who come at once read it together
DRAIN_S = 30.0  # for what the last use of the same computer still writes; guess: a slow disk
THREADS = 8  # that wait for disks; guess
NOT_HERE = "there is no such disk, or it is not for this computer"  # one answer for both


def resource_of(record: SharedRecord) -> str:
    """What the policy calls a disk."""
    return f"{KIND}/{record.id}"


@dataclass(eq=False)
class Using:
    """One computer that uses a disk now."""

    peer: PeerId
    kind: str
    addresses: list[str]
    task: "asyncio.Task[object] | None"
    giving: Giving | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    def stop(self) -> None:
        """Its stream ends: the same computer begins anew."""
        if self.giving is not None and self.giving.stop():
            return
        if self.task is not None:
            self.task.cancel()


class Pool:
    """The readers of one image, as the owner knows them. For any thread."""

    def __init__(self, found: Tree) -> None:
        self.tree = found
        self.readers: dict[PeerId, Using] = {}
        self._copies = Copies(tree.blocks_of(found.stamp[0]))
        self._lock = threading.Lock()

    def come(self, using: Using) -> None:
        """One more reader: all hear of it before anybody is sent to it."""
        self.readers[using.peer] = using
        self._tell()
        with self._lock:
            self._copies.come(using.peer)

    def go(self, using: Using) -> None:
        """One less."""
        if self.readers.get(using.peer) is using:
            with self._lock:
                self._copies.go(using.peer)
            del self.readers[using.peer]
            self._tell()

    def _tell(self) -> None:
        news = Readers([(bytes(using.peer), using.addresses) for using in self.readers.values()])
        for using in self.readers.values():
            if using.giving is not None:
                using.giving.tell(news)

    def give(self, who: PeerId, block: int, *, insist: bool, failed: bytes) -> bytes | None:
        """Whom `who` is to ask for the block; None: it is given here."""
        with self._lock:
            if failed:
                giver = next((peer for peer in list(self.readers) if bytes(peer) == failed), None)
                if giver is not None:
                    self._copies.failed(who, giver, block)
            found = self._copies.give(who, block, insist=insist)
        return bytes(found) if isinstance(found, PeerId) else None


class Serving:
    """All methods belong to the event loop."""

    def __init__(
        self,
        context: Context,
        records: Callable[[], Iterable[SharedRecord]],
        trees: Trees,
        join: Callable[[Stream, Join], Awaitable[None]],
        heard: Callable[[PeerId, Shared], None],
        save: Callable[[SharedRecord], None],
    ) -> None:
        """`join` answers other readers of what is attached here, `heard` gets what peers say that they share.

        `save` keeps a record that has changed.
        """
        self._context = context
        self._records = records
        self._trees = trees
        self._join = join
        self._heard = heard
        self._save = save
        self._threads = ThreadPoolExecutor(THREADS, "disks")
        self._uses: dict[str, Uses] = {}  # by the id of the disk
        self._using: dict[tuple[str, PeerId], Using] = {}
        self._pools: dict[str, Pool] = {}  # by the id of the disk
        self._making: dict[str, asyncio.Event] = {}
        self._is_open = threading.Event()
        self._is_open.set()
        self._given: dict[str, int] = {}

    def users(self, record: SharedRecord) -> list[Using]:
        """Who uses a disk now."""
        return [using for (disk, _), using in self._using.items() if disk == record.id]

    def given_bytes(self, record: SharedRecord) -> int:
        """What this computer itself gave of a disk, or took, since it was started."""
        now = sum(using.giving.given_bytes for using in self.users(record) if using.giving is not None)
        return self._given.get(record.id, 0) + now

    def close(self) -> None:
        """The app ends."""
        self._is_open.clear()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def end(self, record: SharedRecord) -> None:
        """Nobody uses this disk any more, and nobody may."""
        await self._stop(record)
        self._uses.pop(record.id, None)
        self._pools.pop(record.id, None)
        self._trees.forget(record.id)

    async def _stop(self, record: SharedRecord) -> None:
        using_now = self.users(record)
        for using in using_now:
            using.stop()
        for using in using_now:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(using.ended.wait(), DRAIN_S)

    def prepare(self, record: SharedRecord) -> asyncio.Event:
        """Make the tree of an image in the background; the event is set when it is made, or cannot be."""
        made = self._making.get(record.id)
        if made is None:
            made = self._making[record.id] = asyncio.Event()
            self._context.jobs.start(self._make(record, made), f"hashing the image {record.name}")
        return made

    async def _make(self, record: SharedRecord, made: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        try:
            with contextlib.suppress(OSError, CoterieError):  # who opens it is told why it cannot be read
                path = Path(record.path)
                await loop.run_in_executor(self._threads, self._trees.make, record.id, path, self._is_open)
        finally:
            self._making.pop(record.id, None)
            made.set()

    async def handle(self, stream: Stream) -> None:
        """One stream of a peer."""
        message = await stream.receive(OPENING_S)
        match message:
            case Open():
                await self._open(stream, message)
            case Join():
                await self._join(stream, message)
            case List():
                stream.welcome()
                await stream.send(Listed(await self._listed(stream.peer)))
            case Shared():
                self._heard(stream.peer, message)
                await stream.send(Done(0))
            case Eject():
                await self._eject(stream, message)
            case _:
                raise PeerError("a stream of disks begins with the name of one")

    def _find(self, name: str) -> SharedRecord | None:
        return next((record for record in self._records() if record.name == name), None)

    async def _listed(self, peer: PeerId) -> list[tuple[str, str, int, bool]]:
        """What this peer may read."""
        access = self._context.access
        found: list[tuple[str, str, int, bool]] = []
        for record in list(self._records()):
            resource = resource_of(record)
            if not access.explain(peer, Verb.READ, resource).allowed or len(found) >= LISTED_MAX:
                continue
            with contextlib.suppress(CoterieError, OSError):  # what is not there now is not listed
                form, size = await asyncio.to_thread(look_at, Path(record.path))
                found.append((record.name, form, size, access.explain(peer, Verb.WRITE, resource).allowed))
        return found

    async def _eject(self, stream: Stream, ask: Eject) -> None:
        record, access = self._find(ask.name), self._context.access
        try:
            access.decide(stream.peer, Verb.READ, resource_of(record) if record else KIND).require()
            if record is None:
                raise AccessDenied(NOT_HERE)
            stream.welcome()
            if not access.decide(stream.peer, Verb.WRITE, resource_of(record)).allowed:
                raise NotFound(tr("this disc is there for you to read; who may write it may eject it"))
            await self.eject(record)
            await stream.send(Done(0))
        except AccessDenied:
            await stream.send(Refused(NOT_HERE))
        except CoterieError as error:
            await stream.send(Refused(str(error), True))

    async def eject(self, record: SharedRecord) -> None:
        """End all use of a disc, and open its drive. Raises `UsageError`, `StorageError`."""
        path = Path(record.path)
        if await asyncio.to_thread(form_of, path) == "disc":
            await self._stop(record)
        await asyncio.to_thread(eject, path)

    async def _open(self, stream: Stream, ask: Open) -> None:
        record = self._find(ask.name)
        access, peer = self._context.access, stream.peer
        try:
            if record is None:
                access.decide(peer, Verb.READ, KIND).require()
                raise AccessDenied(NOT_HERE)
            resource = resource_of(record)
            async with access.hold(peer, Verb.READ, resource) as decision:
                stream.welcome()
                may_write = access.explain(peer, Verb.WRITE, resource).allowed
                if ask.kind == "ask":
                    await stream.send(await self._described(record, may_write=may_write))
                elif ask.kind == "read":
                    await self._use(stream, record, ask, decision)
                elif ask.kind != "write":
                    raise PeerError("a disk is opened to be read or written")
                elif not may_write:
                    raise NotFound(tr("this disk is there for you to read, not to write"))
                else:
                    async with access.hold(peer, Verb.WRITE, resource) as to_write:
                        await self._use(stream, record, ask, to_write)
        except AccessDenied:
            await stream.send(Refused(NOT_HERE))
        except PeerError:
            raise
        except CoterieError as error:
            await stream.send(Refused(str(error), True))

    @staticmethod
    async def _described(record: SharedRecord, *, may_write: bool) -> Opened:
        form, size = await asyncio.to_thread(look_at, Path(record.path))
        return Opened(size, form=form, may_write=may_write)

    async def _use(self, stream: Stream, record: SharedRecord, ask: Open, decision: Decision) -> None:
        using = await self._begin(stream.peer, record, ask)
        is_clean = False
        image: Image | None = None
        pool: Pool | None = None
        try:
            is_writer = ask.kind == "write"
            image = await asyncio.to_thread(Image, Path(record.path), is_writable=is_writer)
            pool = None if is_writer else await self._pool(record, image)
            is_same = is_writer and self._note_writer(record, stream.peer)
            opened = Opened(
                image.size,
                can_write=is_writer,
                root=pool.tree.root if pool else b"",
                boot=boot_of(),
                form=image.form,
                may_write=is_writer,
                is_same=is_same,
            )
            using.giving = Giving(
                image,
                self._threads,
                can_write=is_writer,
                swarm=_View(pool, stream.peer) if pool is not None else None,
                charge=self._charge(decision) if decision.meters else None,
            )
            await stream.send(opened)
            stream.expect(
                image.size
            )  # as far as anybody knows all of it goes over: a lane is worth while at once
            bulk = BulkStream(stream, takes_bulk=True)
            if pool is not None:
                pool.come(using)
            await driven(bulk, using.giving.work)
            is_clean = True
        except PeerError as error:
            is_clean = error.close_code == CloseCode.REVOKED
            raise
        except CoterieError:
            is_clean = using.giving is None
            raise
        finally:
            if pool is not None:
                pool.go(using)
            if image is not None:
                image.close()
            self._end(record, using, is_clean=is_clean or ask.kind == "read")

    async def _begin(self, peer: PeerId, record: SharedRecord, ask: Open) -> Using:
        """Nobody stands in the way, and this computer's own use before has ended. Raises `LimitExceeded`."""
        before = self._using.get((record.id, peer))
        if before is not None:
            before.stop()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(before.ended.wait(), DRAIN_S)
        uses = self._uses.setdefault(record.id, Uses())
        ending = [self._using.get((record.id, who)) for who in self._in_the_way(uses, peer, ask.kind)]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ENDING_S):
                for one in ending:
                    if one is not None:
                        await one.ended.wait()
        if in_the_way := self._in_the_way(uses, peer, ask.kind):
            raise LimitExceeded(
                tr("another computer writes to this disk now: a writer is alone, try again when it has ended")
                if uses.writer is not None
                else tr(
                    "{count} other computers read this disk now, and a writer is alone: they have to end first",
                    count=len(in_the_way),
                )
            )
        uses.begin(peer, ask.kind)
        addresses = [address[:100] for address in ask.addresses[:ADDRESSES_MAX]]
        using = self._using[record.id, peer] = Using(peer, ask.kind, addresses, asyncio.current_task())
        return using

    def _note_writer(self, record: SharedRecord, peer: PeerId) -> bool:
        """`peer` writes now; whether it was the last one to."""
        now = self._find(record.name)  # what is kept: it may have been shared anew meanwhile
        if now is None or now.id != record.id:
            raise NotFound(NOT_HERE)
        is_same = now.last_writer == str(peer)
        if not is_same:
            now.last_writer = str(peer)
            self._save(now)
        return is_same

    @staticmethod
    def _in_the_way(uses: Uses, peer: PeerId, kind: str) -> list[PeerId]:
        return [who for who in uses.in_the_way(peer, kind) if isinstance(who, PeerId)]

    def _end(self, record: SharedRecord, using: Using, *, is_clean: bool) -> None:
        if using.giving is not None:
            self._given[record.id] = self._given.get(record.id, 0) + using.giving.given_bytes
        if self._using.get((record.id, using.peer)) is using:
            del self._using[record.id, using.peer]
            if is_clean:
                self._let_go(record, using.peer)
            else:
                self._context.jobs.start(self._expect(record, using.peer), "expecting a writer to come back")
        using.ended.set()

    def _let_go(self, record: SharedRecord, peer: PeerId) -> None:
        if (record.id, peer) not in self._using and record.id in self._uses:
            self._uses[record.id].end(peer)

    async def _expect(self, record: SharedRecord, peer: PeerId) -> None:
        await asyncio.sleep(RESUME_S)
        self._let_go(record, peer)

    async def _pool(self, record: SharedRecord, image: Image) -> Pool | None:
        """The readers of this image, as it is now; None: it has no tree, or none yet."""
        if image.form != "image":
            return None
        found = self._trees.get(record.id, image.stamp())
        if found is None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.prepare(record).wait(), TREE_WAIT_S)
            found = self._trees.get(record.id, image.stamp())
        if found is None:
            return None
        pool = self._pools.get(record.id)
        if pool is None or pool.tree.root != found.root:
            pool = self._pools[record.id] = Pool(found)
        return pool

    def _charge(self, decision: Decision) -> Callable[[int], None]:
        loop = asyncio.get_running_loop()

        def charge(size: int) -> None:
            asyncio.run_coroutine_threadsafe(self._context.access.charge(decision, size), loop).result()

        return charge


class _View:
    """A pool as one reader sees it."""

    def __init__(self, pool: Pool, peer: PeerId) -> None:
        self._pool = pool
        self._peer = peer

    def give(self, block: int, *, insist: bool, failed: bytes) -> bytes | None:
        return self._pool.give(self._peer, block, insist=insist, failed=failed)

    def page(self, page: int) -> bytes | None:
        return self._pool.tree.listed if page == PAGES else self._pool.tree.page(page)
