"""Blocks of a disk of a peer, kept in memory: what is read in order is fetched ahead, what is read twice comes once.

Of an image with a Merkle tree each block is checked, kept on the disk of this computer, and taken from other readers.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

from blake3 import blake3

from coterie.apps.disks import tree
from coterie.apps.disks.asking import Asking, Fault
from coterie.apps.disks.messages import (
    PAGES,
    PIECE_BYTES_MAX,
    PROTOCOL,
    Elsewhere,
    GetPage,
    Read,
    Want,
)
from coterie.apps.disks.nbd import Errno
from coterie.errors import PeerError, StorageError
from coterie.transfer.ahead import Ahead
from coterie.transfer.read_cache import Leaf, ReadCache

MEMORY_BYTES = (
    64 << 20
)  # of one disk; guess: what is read ahead for four programs, and as much that is read again
AHEAD_BYTES_MAX = 8 << 20  # for one program; guess: 40 ms of a fast local network
COMING_MAX = 192  # blocks asked for at once: 48 MiB
IN_ORDER_MIN = 2  # reads, before others are expected; by chance one in 250 of 512 MiB is near the one before
FRESH_S = 5.0  # what a disk without a tree gave may have changed there since; guess
PAGES_KEPT_MAX = 256  # 8 MiB: of 64 GiB of an image

_ZERO = blake3(bytes(tree.BLOCK_BYTES)).digest()

Got = Callable[["bytes | memoryview | Fault"], None]
"""Gets what was read, good until it returns, or why it could not be."""


class Habit:
    """How one program reads: in order, or here and there."""

    def __init__(self) -> None:
        self._ahead = Ahead()
        self._in_order = 0

    def read(self, offset: int, size: int) -> tuple[int, bool]:
        """Bytes to be asked for behind this read, and whether it is one of those that are here and there."""
        further, is_jump = self._ahead.read(offset, size)
        self._in_order = 0 if is_jump else self._in_order + 1
        is_apart = self._in_order < IN_ORDER_MIN
        return (0 if is_apart else further), is_apart


class FromReaders(Protocol):
    """Other readers of the same image."""

    def get(self, peer: bytes, block: int, got: Callable[[bytes | None], None]) -> None:
        """Ask a reader for a block; None: it does not give it."""
        ...


class _Gather:
    """One read that waits for blocks."""

    def __init__(self, offset: int, size: int, got: Got) -> None:
        self.offset, self.size, self.got = offset, size, got
        first, last = offset // tree.BLOCK_BYTES, (offset + size - 1) // tree.BLOCK_BYTES
        self._parts: list[bytes | Fault | None] = [None] * (last - first + 1)
        self._first = first
        self.missing = len(self._parts)

    @property
    def blocks(self) -> range:
        return range(self._first, self._first + len(self._parts))

    def put(self, block: int, data: bytes | Fault) -> bool:
        """One block; whether it was the last that was missing. Call it under the lock of `Blocks`."""
        if self._parts[block - self._first] is None:
            self._parts[block - self._first] = data
            self.missing -= 1
            return self.missing == 0
        return False

    def give(self) -> None:
        """All is here."""
        cut: list[memoryview] = []
        begin = self.offset - self._first * tree.BLOCK_BYTES
        left = self.size
        for part in self._parts:
            if part is None or isinstance(part, Fault):
                self.got(part or Fault(Errno.EIO, "a part is missing"))
                return
            view = memoryview(part)[begin : begin + left]
            left -= len(view)
            begin = 0
            cut.append(view)
        self.got(cut[0] if len(cut) == 1 else b"".join(cut))


class _Fetch:
    """A block that comes."""

    __slots__ = ("is_stale", "waiting")

    def __init__(self) -> None:
        self.waiting: list[_Gather] = []
        self.is_stale = False  # it was changed after it was asked for


class Blocks:
    """For any thread. `push` of the asking is the caller's."""

    def __init__(
        self,
        asking: Asking,
        size: int,
        *,
        clock: Callable[[], float] = time.monotonic,
        is_fresh_s: float = FRESH_S,
    ) -> None:
        """`size` of the disk in bytes. `is_fresh_s`: how long what came without a tree is believed."""
        self._asking = asking
        self._size = size
        self._clock = clock
        self._is_fresh_s = is_fresh_s
        self._lock = threading.Lock()
        self._have: OrderedDict[int, tuple[bytes, float]] = OrderedDict()
        self._used = 0
        self._coming: dict[int, _Fetch] = {}
        self._tree: _Checked | None = None

    def use_tree(self, root: bytes, cache: ReadCache, others: FromReaders) -> None:
        """From now on check blocks against this root; without a tree before, or with another one, all is forgotten."""
        with self._lock:
            if self._tree is not None and self._tree.root == root:
                return
            self._have.clear()
            self._used = 0
            self._tree = _Checked(root, self._size, cache, others, self._asking, self._came)

    def use_no_tree(self) -> None:
        """The disk is not known by a root (any more)."""
        with self._lock:
            self._tree = None

    def forget(self) -> None:
        """Keep nothing of what came before."""
        with self._lock:
            self._have.clear()
            self._used = 0

    def read(self, habit: Habit, offset: int, size: int, got: Got) -> None:
        """Read; `habit` is that of one program."""
        further, is_apart = habit.read(offset, size)
        gather = _Gather(offset, size, got)
        blocks = gather.blocks
        fetch: list[int] = []
        with self._lock:
            here = [block for block in blocks if self._here(block) is not None or block in self._coming]
            if is_apart and not here and size <= tree.BLOCK_BYTES // 2:
                blocks = range(0)
            for block in blocks:
                fetch += self._wanted(block, gather)
            is_whole = gather.missing == 0
            if blocks and further:
                end = min(self._size, offset + size + min(further, AHEAD_BYTES_MAX))
                for block in range(blocks.stop, -(-end // tree.BLOCK_BYTES)):
                    if len(self._coming) >= COMING_MAX:
                        break
                    fetch += self._wanted(block, None)
        if not blocks:
            self.read_directly(offset, size, got)
            return
        if is_whole:
            gather.give()
        for block in fetch:
            self._fetch(block)

    def read_directly(self, offset: int, size: int, got: Got) -> None:
        """Read exactly this, from the owner."""
        if size <= PIECE_BYTES_MAX:
            self._asking.ask(
                lambda number: [PROTOCOL.encode(Read(number, offset, size))],
                lambda answer: got(answer if isinstance(answer, bytes | memoryview | Fault) else _odd()),
            )
            return
        whole = bytearray(size)
        left = [-(-size // PIECE_BYTES_MAX)]
        fault: list[Fault] = []
        lock = threading.Lock()
        for at in range(0, size, PIECE_BYTES_MAX):

            def put(data: "bytes | memoryview | Fault", at: int = at) -> None:
                with lock:
                    if isinstance(data, Fault):
                        fault.append(data)
                    else:
                        whole[at : at + len(data)] = data
                    left[0] -= 1
                    is_last = not left[0]
                if is_last:
                    got(fault[0] if fault else memoryview(whole))

            self.read_directly(offset + at, min(PIECE_BYTES_MAX, size - at), put)

    def changed(self, offset: int, size: int) -> None:
        """These bytes are being changed, or were."""
        if not size:
            return
        with self._lock:
            for block in range(offset // tree.BLOCK_BYTES, (offset + size - 1) // tree.BLOCK_BYTES + 1):
                self._drop(block)
                if (fetch := self._coming.pop(block, None)) is not None:
                    fetch.is_stale = True  # who waits for it gets it; who comes later does not

    def local(self, block: int) -> bytes | None:
        """For other readers: a block that is here, checked. Blocking."""
        with self._lock:
            found, checked = self._here(block), self._tree
        if found is not None or checked is None:
            return found
        return checked.kept(block)

    def local_soon(self, block: int, got: Callable[[bytes | None], None]) -> None:
        """As `local`, and where it is coming, as soon as it is here."""
        wait: _Gather | None = None

        def give(data: "bytes | memoryview | Fault") -> None:
            got(None if isinstance(data, Fault) else bytes(data))

        with self._lock:
            if (fetch := self._coming.get(block)) is not None:
                begin = block * tree.BLOCK_BYTES
                wait = _Gather(begin, tree.block_bytes(self._size, block), give)
                fetch.waiting.append(wait)
        if wait is None:
            got(self.local(block))

    @property
    def root(self) -> bytes:
        """Of the tree; empty: there is none."""
        return self._tree.root if self._tree is not None else b""

    # ---- within

    def _here(self, block: int) -> bytes | None:
        found = self._have.get(block)
        if found is None:
            return None
        if self._tree is None and self._clock() - found[1] > self._is_fresh_s:
            self._drop(block)
            return None
        self._have.move_to_end(block)
        return found[0]

    def _drop(self, block: int) -> None:
        if (old := self._have.pop(block, None)) is not None:
            self._used -= len(old[0])

    def _wanted(self, block: int, gather: _Gather | None) -> list[int]:
        """Under the lock: have `gather` get this block; the block where it is to be fetched."""
        data = self._here(block)
        if data is not None:
            if gather is not None:
                gather.put(block, data)
            return []
        fetch = self._coming.get(block)
        is_new = fetch is None
        if fetch is None:
            fetch = self._coming[block] = _Fetch()
        if gather is not None:
            fetch.waiting.append(gather)
        return [block] if is_new else []

    def _fetch(self, block: int) -> None:
        checked = self._tree
        if checked is not None:
            checked.fetch(block)
            return
        with self._lock:
            fetch = self._coming.get(block)
        size = tree.block_bytes(self._size, block)
        self.read_directly(
            block * tree.BLOCK_BYTES,
            size,
            lambda data: self._came(block, data if isinstance(data, Fault) else bytes(data), fetch),
        )

    def _came(self, block: int, data: bytes | Fault, fetch: _Fetch | None = None) -> None:
        """A block is here, or cannot be had."""
        ready: list[_Gather] = []
        with self._lock:
            known = self._coming.get(block)
            if fetch is None or known is fetch:
                fetch = self._coming.pop(block, None)
            if fetch is None:
                return
            if not (fetch.is_stale or isinstance(data, Fault)):
                self._drop(block)
                self._have[block] = data, self._clock()
                self._used += len(data)
                while self._used > MEMORY_BYTES:
                    self._used -= len(self._have.popitem(last=False)[1][0])
            ready = [gather for gather in fetch.waiting if gather.put(block, data)]
        for gather in ready:
            gather.give()


class _Checked:
    """Blocks of an image that is known by the root of its tree."""

    def __init__(
        self,
        root: bytes,
        size: int,
        cache: ReadCache,
        others: FromReaders,
        asking: Asking,
        came: Callable[[int, bytes | Fault], None],
    ) -> None:
        self.root = root
        self._size = size
        self._cache = cache
        self._others = others
        self._asking = asking
        self._came = came
        self._lock = threading.Lock()
        self._list: list[bytes] = []
        self._leaves: OrderedDict[int, Leaf] = OrderedDict()
        self._waiting: dict[int, list[int]] = {}  # blocks that wait for a page, or for PAGES

    def fetch(self, block: int) -> None:
        """Get a block from wherever it is."""
        page = block // tree.PAGE_BLOCKS
        with self._lock:
            leaf = self._leaves.get(page)
            if leaf is None:
                wanted = page if self._list else PAGES
                waiting = self._waiting.get(wanted)
                if waiting is not None:
                    waiting.append(block)
                    return
                self._waiting[wanted] = [block]
            else:
                self._leaves.move_to_end(page)
        if leaf is None:
            self._ask_page(wanted)
            return
        index = block % tree.PAGE_BLOCKS
        if leaf.chunks[index][0] == _ZERO:
            self._came(block, bytes(tree.BLOCK_BYTES))
        elif (kept := self._kept(leaf, index)) is not None:
            self._came(block, kept)
        else:
            self._want(block, leaf)

    def kept(self, block: int) -> bytes | None:
        """A block that is on this computer's disk."""
        with self._lock:
            leaf = self._leaves.get(block // tree.PAGE_BLOCKS)
        return self._kept(leaf, block % tree.PAGE_BLOCKS) if leaf is not None else None

    def _kept(self, leaf: Leaf, index: int) -> bytes | None:
        has = self._cache.has(leaf, index)
        if has is None:
            self._cache.learn(leaf, index)
            has = self._cache.has(leaf, index)
        return self._cache.get(leaf, index, index + 1) if has else None

    def _want(self, block: int, leaf: Leaf, *, insist: bool = False, failed: bytes = b"") -> None:
        def take(answer: object) -> None:
            if isinstance(answer, Elsewhere):
                peer = answer.peer
                self._others.get(peer, block, lambda data: self._from_other(block, leaf, peer, data))
                return
            if isinstance(answer, Fault):
                self._came(block, answer)
            elif isinstance(answer, bytes | memoryview) and self._keep(block, leaf, data := bytes(answer)):
                self._came(block, data)
            else:
                self._came(block, Fault(Errno.EIO, "what came is not what the image is known by"))

        self._asking.ask(lambda number: [PROTOCOL.encode(Want(number, block, insist, failed))], take)

    def _from_other(self, block: int, leaf: Leaf, peer: bytes, data: bytes | None) -> None:
        if data is not None and self._keep(block, leaf, data):
            self._came(block, data)
            return
        self._want(block, leaf, insist=True, failed=peer)
        self._asking.push()

    def _keep(self, block: int, leaf: Leaf, data: bytes) -> bool:
        """Whether it is what it should be; then it is kept."""
        index = block % tree.PAGE_BLOCKS
        if blake3(data).digest() != leaf.chunks[index][0]:
            return False
        try:
            self._cache.put(leaf, index, data)
        except StorageError:
            return True  # it is used all the same; others ask the owner
        return True

    def _ask_page(self, page: int) -> None:
        self._asking.ask(
            lambda number: [PROTOCOL.encode(GetPage(number, page))],
            lambda answer: self._page_came(page, answer),
        )

    def _page_came(self, page: int, answer: object) -> None:
        fault: Fault | None = None
        try:
            if isinstance(answer, Fault):
                fault = answer
            elif not isinstance(answer, bytes | memoryview):
                fault = _odd()
            elif page == PAGES:
                found = tree.read_list(bytes(answer), self._size, self.root)
                with self._lock:
                    self._list = found
            else:
                self._learn(page, bytes(answer))
        except PeerError as error:
            fault = Fault(Errno.EIO, str(error))
        with self._lock:
            blocks = self._waiting.pop(page, [])
        for block in blocks:
            if fault is not None:
                self._came(block, fault)
            else:
                self.fetch(block)

    def _learn(self, page: int, raw: bytes) -> None:
        digests = tree.read_page(raw, self._size, page, self._list[page])
        first = page * tree.PAGE_BLOCKS
        chunks = [(digest, tree.block_bytes(self._size, first + at)) for at, digest in enumerate(digests)]
        leaf = Leaf(self.root, self.root, chunks, 0, len(chunks), first * tree.BLOCK_BYTES)
        with self._lock:
            self._leaves[page] = leaf
            while len(self._leaves) > PAGES_KEPT_MAX:
                self._leaves.popitem(last=False)


def _odd() -> Fault:
    return Fault(Errno.EIO, "the other computer gave an answer to something else")
