"""Which changes of one folder go to whom, and which of theirs are here: a pure core.

Every copy of a folder (a replica) numbers what changes in it, by whomever, from 1: a register that changes again gets
a new number, the old one is free. So "all behind number N" is a delta, and whoever was away asks by the last number
that it has. What a replica got from another exactly as it is there is not sent back to it.

The registers themselves are opaque here: the shell reads them (`Read`), merges them (`Merge`) and says so.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from coterie.apps.folders.folder_move import FolderMove
from coterie.apps.folders.messages import Changes, Hello, Moved, Seen
from coterie.identity import PeerId
from coterie.machine import PeerDown, PeerUp, Received, Send

AHEAD_MAX = 4  # messages with changes under way to one replica before it says that it has them; guess


class News(msgspec.Struct, frozen=True):
    """Event: something has changed here; `seq` is the last number now."""

    seq: int


class Batch(msgspec.Struct, frozen=True):
    """Event, the answer to `Read`: all behind `first` up to `last`, but for what came from that replica.

    `move`: instead of entries; only where `Read.is_move_taken`.
    """

    peer: PeerId
    first: int
    last: int
    entries: Sequence[tuple[str, bytes]]
    move: FolderMove | None = None


class Merged(msgspec.Struct, frozen=True):
    """Event, the answer to `Merge`: what `replica` has up to `last` is here, on disk."""

    peer: PeerId
    replica: bytes
    last: int


class Unmerged(msgspec.Struct, frozen=True):
    """Event, the other answer to `Merge`: what `peer` sent cannot be merged."""

    peer: PeerId


class Unmoved(msgspec.Struct, frozen=True):
    """Event, the third answer to `Merge`: the move cannot be made here of what stands; it is asked for path by path."""

    peer: PeerId
    last: int


class Read(msgspec.Struct, frozen=True):
    """Output: read what changed behind `first`, but for what came from `replica`; feed `Batch`.

    `is_move_taken`: what begins there may be told as a `FolderMove`.
    """

    peer: PeerId
    replica: bytes
    first: int
    is_move_taken: bool = False


class Merge(msgspec.Struct, frozen=True):
    """Output: merge what came from `replica`; feed `Merged` once it is on disk. `has_more`: more comes right behind.

    `move`: to be made instead of entries.
    """

    peer: PeerId
    replica: bytes
    last: int
    entries: Sequence[tuple[str, bytes]]
    has_more: bool = False
    move: FolderMove | None = None


class Has(msgspec.Struct, frozen=True):
    """Output: `replica` (on the computer `peer`) has everything of here up to `seq`: keep that."""

    peer: PeerId
    replica: bytes
    seq: int


class Outdated(msgspec.Struct, frozen=True):
    """Output: `peer` has more of this replica than there is: the home was put back from a copy.

    The shell goes on as a new replica: numbers that were given twice would lose changes.
    """

    peer: PeerId


@dataclass(slots=True)
class _Other:
    """A computer that is connected, with its replica of the folder once it said hello."""

    replica: bytes = b""
    theirs: int = 0  # the last number there, when it said hello
    sent: int = 0  # read and sent up to this number of ours
    seen: int = 0  # it has said that it has up to this
    flights: list[int] = field(default_factory=list)
    is_reading: bool = False
    is_merging: bool = False
    waiting: list[Changes | Moved] = field(default_factory=list)
    moves_behind: int = -1  # it takes moves as such of what changed behind this number of ours; -1: none
    plain_to: int = 0  # up to this number of theirs a move was not to be made here
    moving: int = 0  # a move up to this number is under way: nothing is sent behind it

    def begin(self, seq: int) -> None:
        """It has everything up to `seq`, and what was under way is lost."""
        self.sent = self.seen = seq
        self.flights.clear()
        self.is_reading = False
        self.moving = 0


class Exchange:
    """The exchange of one replica. `known` is what the shell kept: by replica, up to which number we have it."""

    def __init__(
        self,
        folder: bytes,
        replica: bytes,
        seq: int,
        known: dict[bytes, tuple[PeerId, int]],
        *,
        takes_moves: bool = False,
    ) -> None:
        """`seq`: the last number here. `known`: (computer, number) of each other replica.

        `takes_moves`: folders that moved as a whole may be told so; else path by path.
        """
        self._takes_moves = takes_moves
        self._folder = folder
        self._replica = replica
        self._seq = seq
        self._known = dict(known)
        self._others: dict[PeerId, _Other] = {}

    @property
    def peers(self) -> list[PeerId]:
        """Who is connected and has the folder."""
        return [peer for peer, other in self._others.items() if other.replica]

    def is_level(self) -> bool:
        """Whether everybody who is connected has all of here, as far as they said."""
        return all(other.seen >= self._seq for other in self._others.values() if other.replica)

    def has_heard(self) -> bool:
        """Whether all that somebody had when it said hello is here."""
        greeted = [other for other in self._others.values() if other.replica]
        return any(self._known[other.replica][1] >= other.theirs for other in greeted)

    def is_behind(self, peer: PeerId) -> bool:
        """Whether changes of `peer` wait to be merged."""
        other = self._others.get(peer)
        return other is not None and (other.is_merging or bool(other.waiting))

    def handle(self, event: Any, now: float) -> list[Any]:
        """See `coterie.machine`."""
        match event:
            case PeerUp(peer=PeerId() as peer):
                return self._up(peer)
            case PeerDown(peer=PeerId() as peer):
                self._others.pop(peer, None)
            case News(seq):
                self._seq = max(self._seq, seq)
                return [output for peer in self._others for output in self._go_on(peer)]
            case Batch():
                return self._batch(event)
            case Merged():
                return self._merged(event)
            case Unmerged(peer):
                if other := self._others.get(peer):
                    other.is_merging = False
                    other.waiting.clear()
            case Unmoved(peer, last):
                return self._unmoved(peer, last)
            case Received(peer=PeerId() as peer, message=Hello() as hello):
                return self._greeted(peer, hello)
            case Received(peer=PeerId() as peer, message=Changes() | Moved() as changes):
                return self._came(peer, changes)
            case Received(peer=PeerId() as peer, message=Seen() as seen):
                return self._seen(peer, seen)
        return []

    def _up(self, peer: PeerId) -> list[Any]:
        """`peer` can be told something; it may have said hello before."""
        other = self._others.setdefault(peer, _Other())
        other.begin(other.seen)
        return [Send(peer, self._hello(peer)), *self._go_on(peer)]

    def _hello(self, peer: PeerId, *, is_answer: bool = False) -> Hello:
        other = self._others.get(peer)
        if other is not None and other.replica:
            replica = other.replica
        else:
            of_peer = [(known, one) for one, (who, known) in self._known.items() if who == peer]
            replica = max(of_peer, default=(0, b""))[1]
        known = self._known.get(replica, (peer, 0))[1]
        behind = -1 if not self._takes_moves else 0 if other is None else other.plain_to
        return Hello(self._folder, self._replica, self._seq, replica, known, is_answer, behind)

    def _greeted(self, peer: PeerId, hello: Hello) -> list[Any]:
        """`peer` has the folder, and says what it has of ours."""
        is_ours = hello.yours == self._replica
        if is_ours and hello.known > self._seq:
            return [Outdated(peer)]
        whose = self._known.get(hello.replica, (peer, 0))[0]
        if (
            whose != peer or hello.replica == self._replica
        ):  # two say that they are this copy: the later goes on anew
            more = Hello(self._folder, self._replica, self._seq, hello.replica, hello.seq + 1, is_answer=True)
            return [] if hello.is_answer else [Send(peer, more)]
        other = self._others.setdefault(peer, _Other())
        other.theirs = hello.seq
        other.moves_behind = hello.moves_behind
        is_new = other.replica != hello.replica
        if is_new:
            other.replica = hello.replica
            self._forget_others_of(peer, hello.replica)
            self._known.setdefault(hello.replica, (peer, 0))
        outputs: list[Any] = []
        if is_new or not hello.is_answer:
            start = hello.known if is_ours else 0
            other.begin(start)
            outputs += [Has(peer, other.replica, start)] if start else []
        if not hello.is_answer:  # also to one that is known: it may have begun anew, and know nobody
            outputs.append(Send(peer, self._hello(peer, is_answer=True)))
        return [*outputs, *self._go_on(peer)]

    def _forget_others_of(self, peer: PeerId, replica: bytes) -> None:
        """It goes on as `replica`: those before from which nothing came are of no use, whoever names how many."""
        for one in [one for one, known in self._known.items() if known == (peer, 0) and one != replica]:
            del self._known[one]

    def _go_on(self, peer: PeerId) -> list[Any]:
        """Read the next changes for `peer`, if it can take some."""
        other = self._others[peer]
        if (
            not other.replica
            or other.is_reading
            or other.moving > other.seen
            or len(other.flights) >= AHEAD_MAX
            or other.sent >= self._seq
        ):
            return []
        other.is_reading = True
        is_move_taken = self._takes_moves and 0 <= other.moves_behind <= other.sent
        return [Read(peer, other.replica, other.sent, is_move_taken)]

    def _batch(self, batch: Batch) -> list[Any]:
        other = self._others.get(batch.peer)
        if other is None or not other.is_reading or batch.first != other.sent:
            return []  # it went, or began anew, meanwhile
        other.is_reading = False
        other.sent = max(other.sent, batch.last)
        other.flights.append(batch.last)
        changes: Changes | Moved
        if batch.move is not None:
            other.moving = batch.last
            changes = Moved(self._folder, self._replica, batch.first, batch.last, batch.move, self._seq)
        else:
            entries = list(batch.entries)
            changes = Changes(self._folder, self._replica, batch.first, batch.last, entries, self._seq)
        return [Send(batch.peer, changes), *self._go_on(batch.peer)]

    def _came(self, peer: PeerId, changes: Changes | Moved) -> list[Any]:
        other = self._others.get(peer)
        if other is None or changes.replica != other.replica:
            return []  # of a replica that did not say hello
        other.waiting.append(changes)
        return self._merge_next(peer)

    def _merge_next(self, peer: PeerId) -> list[Any]:
        other = self._others[peer]
        while other.waiting and not other.is_merging:
            changes = other.waiting.pop(0)
            known = self._known.get(changes.replica, (peer, 0))[1]
            if changes.first > known:  # something between was lost: it is asked for again
                other.waiting.clear()
                return [Send(peer, self._hello(peer))]
            other.is_merging = True
            has_more = changes.seq > changes.last
            if isinstance(changes, Moved):
                return [Merge(peer, changes.replica, changes.last, (), has_more, changes.move)]
            return [Merge(peer, changes.replica, changes.last, changes.entries, has_more)]
        return []

    def _merged(self, merged: Merged) -> list[Any]:
        _, known = self._known.get(merged.replica, (merged.peer, 0))
        self._known[merged.replica] = merged.peer, max(known, merged.last)
        outputs: list[Any] = [
            Send(merged.peer, Seen(self._folder, merged.replica, self._known[merged.replica][1]))
        ]
        other = self._others.get(merged.peer)
        if other is not None:
            other.is_merging = False
            outputs += self._merge_next(merged.peer)
        return outputs

    def _unmoved(self, peer: PeerId, last: int) -> list[Any]:
        other = self._others.get(peer)
        if other is None:
            return []
        other.is_merging = False
        other.waiting.clear()
        other.plain_to = max(other.plain_to, last)
        return [Send(peer, self._hello(peer))]

    def _seen(self, peer: PeerId, seen: Seen) -> list[Any]:
        other = self._others.get(peer)
        if other is None or not other.replica or seen.replica != self._replica:
            return []
        if seen.seq > self._seq:
            return [Outdated(peer)]
        other.seen = max(other.seen, min(seen.seq, other.sent))
        other.flights = [last for last in other.flights if last > other.seen]
        return [Has(peer, other.replica, other.seen), *self._go_on(peer)]
