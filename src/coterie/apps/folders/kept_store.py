"""What this computer keeps of a folder that it cannot read: sealed registers as rows, chunks as files. Blocking.

    <place>/.coterie-folder/id     which folder this is (`root`)
            chunks/ab/<hex>        sealed chunks, each named by its BLAKE3 hash

Nothing that a register refers to is ever dropped. What none refers to any more goes after 30 days, or sooner where room
is needed, the oldest first.
"""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

from blake3 import blake3

from coterie.apps.folders import kept
from coterie.apps.folders.batches import batch
from coterie.apps.folders.kept_messages import ID_BYTES, IDS_MAX, LISTED_MAX, TEXTS_BYTES_MAX
from coterie.apps.folders.register import Kind
from coterie.apps.folders.root import Root, entered
from coterie.apps.folders.store import DAY_S, FolderData, FolderRow, FoldersStore, RegisterRow
from coterie.content.sealed import SEALED_BYTES_MAX
from coterie.errors import LimitExceeded, PeerError, StorageError
from coterie.texts import tr

CHUNKS = "chunks"
KEPT_S = 30 * DAY_S  # so long what no register needs stays, as versions do
UNLISTED_S = DAY_S  # so long chunks wait for the list that names them
REGISTERS_BYTES = 64 << 20  # of registers beyond the quota: changes are heard while contents wait for room
UNKNOWN = -1  # chunks in a content of which no list came

List = tuple[bytes, int, int, bytes]


class KeptStore:
    """Of one folder. Safe from several threads."""

    def __init__(
        self,
        store: FoldersStore,
        row: FolderRow,
        may_write: Callable[[bytes], bool],
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`may_write(PeerId)`: whether registers count that it has signed."""
        self._may_write = may_write
        self._db = store.db
        self._row = row
        self._number = row.number
        self._clock = clock
        self._lock = threading.Lock()
        self.data = FolderData(store, row)
        self.quota = store.quota(row.number)
        self._used = self._sum("kept_chunks", "size")
        self._registers = self._sum("registers", "length(body)")

    @property
    def seq(self) -> int:
        """Of what changed last."""
        return self.data.seq

    @property
    def used(self) -> int:
        """Bytes of all chunks."""
        return self._used

    @property
    def room(self) -> int:
        """Bytes that may still come."""
        return max(0, self.quota - self._used)

    def set_quota(self, quota: int) -> None:
        """Keep at most so many bytes; what is there stays."""
        self._db.execute("UPDATE keeping SET quota = ? WHERE folder = ?", (quota, self._number))
        self.quota = quota

    def mark(self) -> None:
        """Make the places of chunks, once the folder has its marker."""
        with self._entered() as root:
            for number in range(256):
                os.makedirs(os.path.join(root.folder(""), CHUNKS, f"{number:02x}"), mode=0o700, exist_ok=True)

    # ---- registers

    def merge(self, replica: bytes, entries: Sequence[tuple[str, bytes]]) -> list[str]:
        """Take in what `replica` sent, as far as it is signed by who may write; the names that are not as before.

        Raises:
            PeerError: it sent what cannot be, or what nobody signed.
            LimitExceeded: there is no room for more registers.
        """
        rows: list[RegisterRow] = []
        tags: dict[bytes, None] = {}
        with self._lock:
            known = self.data.registers([name for name, _ in entries])
            grown = 0
            for name, raw in entries:
                if not kept.is_name(name):
                    raise PeerError("a sealed path without a name")
                theirs = [entry for entry in kept.read_entries(raw) if self._may_write(entry.by)]
                if not all(kept.is_signed(self._row.id, name, entry) for entry in theirs):
                    raise PeerError("a sealed path that nobody has signed")
                before = kept.read_entries(known[name]) if name in known else ()
                after = kept.bounded(kept.merge(before, theirs))
                if after == before:
                    continue
                body = kept.pack_entries(after)
                grown += len(body) - len(known.get(name, b""))
                source = replica if after == kept.merge((), theirs) else b""
                rows.append(RegisterRow(name, int(Kind.FILE), len(body), b"", 0, False, source, body))
                tags.update(kept.contents_of(after))
            if self._used + self._registers + grown > self.quota + REGISTERS_BYTES:
                raise LimitExceeded(tr("there is no room for more changes"))
            self.data.save(rows)
            with self._db.transaction() as db:
                db.executemany(
                    "INSERT INTO kept_contents VALUES (?, ?, ?, x'', 0) ON CONFLICT DO UPDATE SET free_since = 0",
                    [(self._number, tag, UNKNOWN) for tag in tags],
                )
            self._registers += grown
        return [row.path for row in rows]

    def batch(self, replica: bytes, first: int) -> tuple[int, list[tuple[str, bytes]]]:
        """As `FolderBook.batch`."""
        return batch(self.data, replica, first)

    # ---- contents

    def lacking(self) -> list[bytes]:
        """Contents that registers need and that are not whole here; the first of them."""
        rows = self._db.execute(
            "SELECT tag FROM kept_contents WHERE folder = ? AND free_since = 0 AND length(chunks) != total * 32 "
            "LIMIT ?",
            (self._number, IDS_MAX),
        )
        return [tag for (tag,) in rows]

    def lacking_chunks(self, ids: Sequence[bytes]) -> list[bytes]:
        """Those of these chunks that are not here."""
        return [one for one in ids if self._size_of(one) is None]

    def keep(self, texts: Sequence[bytes]) -> list[bytes]:
        """Keep sealed chunks; ids of those for which there is no room, whatever is dropped for it.

        Raises:
            StorageError: the disk refuses, or is away.
        """
        with self._lock, self._entered() as root:
            new = {}
            for text in texts:
                one = blake3(text).digest()
                if self._size_of(one) is None:
                    new[one] = text
            needed = sum(map(len, new.values()))
            if needed > self.room:
                self._drop_unneeded(root, needed)
            if needed > self.room:
                return list(new)
            try:
                _write(root, new)
            except OSError as error:
                raise StorageError(
                    tr("{path} cannot be written: {strerror}", path=self._row.path, strerror=error.strerror)
                ) from error
            now = self._clock()
            with self._db.transaction() as db:
                db.executemany(
                    "INSERT OR IGNORE INTO kept_chunks VALUES (?, ?, ?, ?)",
                    [(self._number, one, len(text), now) for one, text in new.items()],
                )
            self._used += needed
        return []

    def keep_lists(self, lists: Sequence[List]) -> list[bytes]:
        """Note of which chunks contents are made; tags of those that are not whole yet."""
        missing: list[bytes] = []
        with self._lock:
            for tag, first, total, ids in lists:
                (known,) = self._db.execute(
                    "SELECT total, chunks FROM kept_contents WHERE folder = ? AND tag = ?",
                    (self._number, tag),
                ) or [None]
                if known is None:
                    continue  # no register needs it
                chunks = known[1] if known[0] == total else b""
                if len(chunks) == total * ID_BYTES and total:
                    continue
                if len(chunks) < first * ID_BYTES or self.lacking_chunks(list(_split(ids))):
                    missing.append(tag)
                    continue
                chunks = chunks[: first * ID_BYTES] + ids
                self._db.execute(
                    "UPDATE kept_contents SET total = ?, chunks = ? WHERE folder = ? AND tag = ?",
                    (total, chunks, self._number, tag),
                )
                if len(chunks) != total * ID_BYTES:
                    missing.append(tag)
        return missing

    def lists(self, contents: Sequence[bytes], first: int) -> list[List]:
        """Of which chunks those contents are made that are whole here, as many as fit a message."""
        found: list[List] = []
        count = 0
        for tag in contents:
            rows = self._db.execute(
                "SELECT total, chunks FROM kept_contents WHERE folder = ? AND tag = ? AND length(chunks) = total * 32",
                (self._number, tag),
            )
            if not rows or first > rows[0][0]:
                continue
            if count >= LISTED_MAX:
                break
            total, chunks = rows[0]
            part = chunks[first * ID_BYTES : (first + LISTED_MAX - count) * ID_BYTES]
            count += len(part) // ID_BYTES
            found.append((tag, first, total, part))
        return found

    def chunks(self, ids: Sequence[bytes], bytes_max: int = TEXTS_BYTES_MAX) -> list[bytes]:
        """Sealed chunks in this order, as many as fit a message; empty where one is not here, or is damaged.

        `bytes_max`: of all but the first.

        Raises:
            StorageError: the disk is away.
        """
        found: list[bytes] = []
        damaged: list[bytes] = []
        room = bytes_max
        with self._entered() as root:
            for one in ids:
                size = self._size_of(one)
                if size is not None and size > room and found:
                    break
                text = _read(root, one) if size is not None else b""
                if size is not None and blake3(text).digest() != one:
                    damaged.append(one)
                    text = b""
                found.append(text)
                room -= len(text)
        if damaged:
            self._forget(damaged)
        return found

    # ---- what is needed no more

    def sweep(self) -> None:
        """Drop what no register has needed for KEPT_S. Some seconds with 100,000 files.

        Registers that only a key opens which was replaced KEPT_S ago need nothing any more: everything has been sealed
        anew since. They go when their contents have gone, or as long after.
        """
        now = self._clock()
        needed: set[bytes] = set()
        with self._lock:
            every = [(name, kept.read_entries(raw)) for name, raw in list(self.data.registers_below(""))]
            newest = max((entry.epoch for _, entries in every for entry in entries), default=0)
            past: dict[str, Collection[bytes]] = {}
            for name, entries in every:
                tags = kept.contents_of(entries)
                if newest < now - KEPT_S and all(entry.epoch < newest for entry in entries):
                    past[name] = tags
                else:
                    needed.update(tags)
            rows = self._db.execute(
                "SELECT tag, free_since FROM kept_contents WHERE folder = ?", (self._number,)
            )
            freed = [tag for tag, since in rows if tag not in needed and not since]
            with self._db.transaction() as db:
                db.executemany(
                    "UPDATE kept_contents SET free_since = ? WHERE folder = ? AND tag = ?",
                    [(now, self._number, tag) for tag in freed],
                )
            over = [tag for tag, since in rows if tag not in needed and since and since < now - KEPT_S]
            with self._entered() as root:
                self._drop(root, over)
            if newest < now - 2 * KEPT_S:
                left = {tag for tag, _ in rows} - set(over)
                self._remove([name for name, tags in past.items() if left.isdisjoint(tags)])

    def _remove(self, names: Sequence[str]) -> None:
        """Registers that nobody opens any more."""
        self.data.remove(names)
        self._registers = self._sum("registers", "length(body)")

    def _drop_unneeded(self, root: Root, needed: int) -> None:
        """Make room: what registers need no more goes, the oldest first."""
        rows = self._db.execute(
            "SELECT tag FROM kept_contents WHERE folder = ? AND free_since > 0 ORDER BY free_since",
            (self._number,),
        )
        for (tag,) in rows:
            self._drop(root, [tag])
            if needed <= self.room:
                return

    def _drop(self, root: Root, tags: Collection[bytes]) -> None:
        """Forget these contents, and remove chunks that no other has."""
        let_go: set[bytes] = set()
        for tag in tags:
            for (ids,) in self._db.execute(
                "SELECT chunks FROM kept_contents WHERE folder = ? AND tag = ?", (self._number, tag)
            ):
                let_go.update(_split(ids))
        with self._db.transaction() as db:
            db.executemany(
                "DELETE FROM kept_contents WHERE folder = ? AND tag = ?",
                [(self._number, tag) for tag in tags],
            )
        used = {one for ids in self._lists() for one in _split(ids)}
        rows = self._db.execute("SELECT id, at FROM kept_chunks WHERE folder = ?", (self._number,))
        young = self._clock() - UNLISTED_S
        gone = [one for one, at in rows if one not in used and (one in let_go or at < young)]
        for one in gone:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(_place(root, one))
        self._forget(gone)

    def _forget(self, ids: Sequence[bytes]) -> None:
        """These chunks are not here any more: contents that need them are lacking."""
        with self._db.transaction() as db:
            for one in ids:
                db.execute("DELETE FROM kept_chunks WHERE folder = ? AND id = ?", (self._number, one))
                db.execute(
                    "UPDATE kept_contents SET chunks = x'', total = ? WHERE folder = ? AND instr(chunks, ?) % 32 = 1",
                    (UNKNOWN, self._number, one),
                )
        self._used = self._sum("kept_chunks", "size")

    # ---- small

    def _entered(self) -> contextlib.AbstractContextManager[Root]:
        return entered(Path(self._row.path), self._row.id, self._row.replica)

    def _size_of(self, one: bytes) -> int | None:
        rows = self._db.execute(
            "SELECT size FROM kept_chunks WHERE folder = ? AND id = ?", (self._number, one)
        )
        return rows[0][0] if rows else None

    def _lists(self) -> Iterator[bytes]:
        rows = self._db.execute("SELECT chunks FROM kept_contents WHERE folder = ?", (self._number,))
        return (chunks for (chunks,) in rows)

    def _sum(self, table: str, column: str) -> int:
        rows = self._db.execute(
            f"SELECT coalesce(sum({column}), 0) FROM {table} WHERE folder = ?",  # noqa: S608
            (self._number,),
        )
        return int(rows[0][0])


def _split(ids: bytes) -> Iterator[bytes]:
    return (ids[at : at + ID_BYTES] for at in range(0, len(ids), ID_BYTES))


def _place(root: Root, one: bytes) -> str:
    name = one.hex()
    return os.path.join(root.folder(""), CHUNKS, name[:2], name)


def _write(root: Root, texts: dict[bytes, bytes]) -> None:
    """All of these, on the disk when this returns: written together, since the first flush takes most of them along."""
    for one, text in texts.items():
        path = _place(root, one)
        descriptor = os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(text)
    for one in texts:
        path = _place(root, one)
        descriptor = os.open(f"{path}.new", os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(f"{path}.new", path)


def _read(root: Root, one: bytes) -> bytes:
    try:
        with open(_place(root, one), "rb") as file:
            return file.read(SEALED_BYTES_MAX)
    except OSError:
        return b""  # counts as damaged
