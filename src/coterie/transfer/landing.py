"""Where the files of one download land: writes what was verified into the staging area.

Blocking; one thread at a time.
"""

import os
from bisect import bisect_right
from pathlib import Path

from blake3 import blake3

from coterie.content import Kind, Store
from coterie.content.large_file import LargeFile
from coterie.content.names import ANY_NAME
from coterie.content.refusals import EntryRefused
from coterie.content.reuse import has_mark, mark_reused
from coterie.content.writer import STAGED, Staging, check_space, discard_partial, staging_path
from coterie.errors import PeerError
from coterie.identity import PeerId
from coterie.transfer.arrival import Arrival
from coterie.transfer.arriving import REASONS, Answer, File, NodePlace, Parts, bytes_of
from coterie.transfer.discretion import Discretion
from coterie.transfer.left_out import LeftOut
from coterie.transfer.long_run import Streaks
from coterie.transfer.messages import Unavailable
from coterie.transfer.naming import Naming
from coterie.transfer.partial_content import Staged
from coterie.transfer.records import TransferRecord
from coterie.wire import Ticket


class Landing:
    """The staging area of one download, its files, and how much of them is there.

    `is_fresh`: nothing is there from an earlier run. `found_came`: all that an earlier run left came for this content.
    """

    def __init__(
        self,
        ticket: Ticket,
        record: TransferRecord,
        *,
        store: Store,
        discretion: Discretion,
        arrival: Arrival,
    ) -> None:
        self.root = ticket.content_id
        self.kind = Kind(ticket.kind)
        self.target = Path(record.target)
        self.totals = (record.files, record.size)
        self.staged = Staged(store, self.root)
        self.left_out = LeftOut()
        self.naming = Naming(ANY_NAME)
        self.is_fresh = False
        self.found_came = True
        self.files = 0
        self.done_bytes = 0
        self.fetched_bytes = 0
        self._staging_id = record.staging or self.root
        self._store = store
        self._discretion = discretion
        self._arrival = arrival
        self._streaks = Streaks()
        self._opened: Staging | None = None
        self._is_unmarked = True  # nothing of this computer's files is in the staging area

    @property
    def staging(self) -> Staging:
        """The staging area, opened on first use."""
        if self._opened is None:
            parent, name = self.target.parent, self.target.name
            path = staging_path(parent, name, self._staging_id)
            is_marked = has_mark(path)
            self.found_came = not is_marked and self._staging_id != self.root  # v0.1 did not mark
            if is_marked and not self._discretion.has_reused:
                discard_partial(path)  # a stranger gives now, and could count what is not asked for
            self.is_fresh = not path.exists()
            self._is_unmarked = not is_marked
            if self.is_fresh:
                files, size = self.totals
                known_files, known_bytes = self._arrival.size() if self._arrival.may_merge else (0, 0)
                check_space(parent, max(size - known_bytes, 0), max(files - known_files, 0))
            self._opened = Staging.open(parent, name, self._staging_id, self.kind, self.totals[1])
            self._store.add_root(self.root, self.kind, name, files=self.totals[0], size=self.totals[1])
            self.staged.lies_at(self._opened.path / STAGED)
            self.naming = Naming(self._opened.rules)
        return self._opened

    def mark_reused(self) -> None:
        """Files of this computer are about to be used: the staging area bears a mark from now on."""
        if self._is_unmarked:
            with self.staging.translated():
                mark_reused(self.staging.path)
            self._is_unmarked = False

    def discard(self) -> None:
        """Remove what arrived."""
        self.close()
        discard_partial(staging_path(self.target.parent, self.target.name, self._staging_id))

    def close(self) -> None:
        """Close files; what arrived stays for the next time."""
        self._streaks.close()
        if self._opened is not None:
            self._opened.close()

    def label(self, parts: Parts) -> str:
        """What people call an entry."""
        return "/".join(parts) if self.kind is Kind.TREE else self.target.name

    # -- what peers bring --

    def room(self, peer: PeerId, size: int) -> memoryview | None:
        """Where the next chunks of `peer` may be put before `take` gets them, to save a copy; None: anywhere."""
        return self._streaks.room(peer, size)

    def settle(self, peer: PeerId) -> int:
        """See to it that all that `peer` brought is in its file; how many chunks that were not told."""
        if self._opened is None or self._streaks.is_idle(peer):
            return 0
        with self._opened.translated():
            return self._streaks.settle(peer)

    def take(self, answer: Answer) -> int:
        """Check and write chunks that came together, but for those that others brought.

        Returns:
            how many chunks of this peer are in their files now that were not told; others may wait for their block.

        Raises:
            PeerError: these are not the chunks that were asked for.
            StorageError: the disk.
        """
        place, index, end = answer.place, answer.index, answer.index + answer.chunks
        data = memoryview(bytes_of(answer.frame))
        at, is_right = 0, True
        for digest, size in place.chunks[index:end]:
            is_right = is_right and blake3(data[at : at + size]).digest() == digest
            at += size
        if at != len(data) or not is_right:
            name = self.label(place.target(index)[0].parts)
            raise PeerError(f"the other computer sent wrong bytes for {name}")
        self.fetched_bytes += at
        landed, number = 0, bisect_right(place.firsts, index)
        ends, begin = place.ends, place.ends[index]
        while index < end:
            stop = min(place.firsts[number], end) if number < len(place.firsts) else end
            part = data[ends[index] - begin : ends[stop] - begin]
            landed += self._take_row(answer.peer, place, index, stop - index, part)
            index, number = stop, number + 1
        return landed

    def _take_row(self, peer: PeerId, place: NodePlace, index: int, count: int, data: memoryview) -> int:
        """Chunks of one file that follow each other and were checked."""
        file, offset = place.target(index)
        mask = ((1 << count) - 1) << index
        settled = place.done & mask
        if file.failed or settled == mask:
            place.done |= mask
            return self.settle(peer) + count
        if settled:  # others brought some of them
            landed = at = 0
            for one in range(index, index + count):
                size = place.chunks[one][1]
                landed += self._take_row(peer, place, one, 1, data[at : at + size])
                at += size
            return landed
        place.done |= mask
        if len(data) == file.size and not file.is_made:
            self.write_whole(file, (data,))
            return self.settle(peer) + count
        streak = self._streaks.of(peer)
        try:
            with self.staging.translated():
                streak.write(file, self.large(file), offset, data, count)
        except EntryRefused as refused:
            self.lose(file, refused.reason)
            return self.settle(peer) + count
        self.count(file, len(data))
        return streak.landed()

    def lose_chunk(self, place: NodePlace, index: int, reason: int) -> None:
        """A chunk cannot be had: nothing of its file is delivered."""
        place.done |= 1 << index
        known = reason in REASONS
        self.lose(place.target(index)[0], REASONS[Unavailable(reason) if known else Unavailable.GONE])

    # -- files --

    def large(self, file: File) -> LargeFile:
        """A file that is written in pieces, opened if it is not."""
        if file.handle is None:
            folder, name = file.parts[:-1], file.parts[-1]
            file.handle = self.staging.large_file(
                folder, name, file.size, executable=file.executable, again=file.is_made
            )
            file.is_made = True
        return file.handle

    def write_whole(self, file: File, pieces: tuple[bytes | memoryview, ...]) -> None:
        """Make a file of which nothing is there yet."""
        parts = file.parts
        try:
            self.staging.write_small(
                parts[:-1], parts[-1], pieces, executable=file.executable, mtime_ns=file.mtime_ns
            )
        except EntryRefused as refused:
            self.lose(file, refused.reason)
            return
        file.is_made, file.left = True, 0
        self.done_bytes += file.size
        self.files += 1

    def write(self, file: File, offset: int, data: bytes | memoryview) -> None:
        """Put the verified bytes of one chunk where they belong."""
        if len(data) == file.size:
            self.write_whole(file, (data,))
        else:
            self.large(file).write_at(offset, data)
            self.count(file, len(data))

    def count(self, file: File, size: int) -> None:
        """Some bytes of a large file are there; with the last of them it is whole."""
        file.left -= size
        self.done_bytes += size
        if file.left == 0 and not file.failed:
            self.files += 1
            with self.staging.translated():
                self._streaks.settle_file(file)
            self.large(file).finish(file.mtime_ns)
            file.handle = None

    def lose(self, file: File, reason: str) -> None:
        """A file cannot be had whole, so nothing of it is delivered."""
        if file.failed:
            return
        file.failed = True
        with self.staging.translated():
            self._streaks.settle_file(file)
        self.done_bytes -= file.size - file.left
        if file.handle is not None:
            file.handle.close()
            file.handle = None
        if file.is_made:
            self.staging.remove_file(file.parts[:-1], file.parts[-1])
        self.left_out.add(self.label(file.parts), reason, files=1)

    def remove(self, path: str, size: int) -> None:
        """A file of `size` bytes, which came, is not wanted after all."""
        *folder, name = path.split("/")
        self.staging.remove_file(tuple(folder), name)
        self.files, self.done_bytes = self.files - 1, self.done_bytes - size

    def is_staged(self) -> bool:
        """Whether there is anything in the staging area to be given its final name."""
        return os.path.lexists(self.staging.path / STAGED)
