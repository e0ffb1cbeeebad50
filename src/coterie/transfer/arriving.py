"""What is arriving in one download: files, places of manifest nodes, answers, and the result."""

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path

import msgspec

from coterie.content import manifest as m
from coterie.content.large_file import LargeFile
from coterie.content.swarm.events import Prepared, cost
from coterie.content.swarm.state import MANIFEST_COST_BYTES
from coterie.errors import PeerError
from coterie.identity import PeerId
from coterie.transfer.arrival import News
from coterie.transfer.messages import Unavailable
from coterie.wire.frames import Bulk, Message

REASONS = {
    Unavailable.CHANGED: "it changed on the other computer after it was shared; it has to be shared again",
    Unavailable.GONE: "it is gone from the other computer",
    Unavailable.UNREADABLE: "the other computer cannot read it",
}

NODE_BYTES = 256  # of a page beside its files: folders, links, a header; guess
ENTRY_BYTES = 100  # of a small file in a page: 40 for its chunk, its name, its time

Parts = tuple[str, ...]


@dataclass(eq=False, slots=True)
class File:
    """A file that is arriving; `left` bytes are still to come.

    `failed`: nothing more of it is to be fetched; because it `is_here` already, is not wanted, or cannot be had.
    `is_made`: this run has it in the staging area.
    """

    parts: Parts
    size: int
    mtime_ns: int
    executable: bool
    left: int
    failed: bool = False
    is_here: bool = False
    is_made: bool = False
    handle: LargeFile | None = None


@dataclass(eq=False, slots=True)
class NodePlace:
    """Where a manifest node belongs: in a folder (`file` None), or in a file from `offset` on.

    Once prepared: `chunks` are its own chunks, of which the first i have `ends[i]` bytes; those from `firsts[n]` on
    go to `files[n]`, in their order.
    """

    parts: Parts
    child: m.Child | None
    file: File | None = None
    offset: int = 0
    chunks: list[m.Chunk] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    files: list[File] = field(default_factory=list)
    firsts: list[int] = field(default_factory=list)
    done: int = 0  # bit i: chunk i is settled; several peers may bring it
    prepared: Prepared | None = None

    def lay_out(self, chunks: list[m.Chunk]) -> None:
        """These are its chunks."""
        self.chunks = chunks
        self.ends = [0, *accumulate([size for _, size in chunks])]

    def add(self, file: File, first: int) -> None:
        """The chunks from `first` on go to `file`."""
        self.files.append(file)
        self.firsts.append(first)

    def target(self, index: int) -> tuple[File, int]:
        """Where a chunk goes, as (file, offset)."""
        number = bisect_right(self.firsts, index) - 1
        return self.files[number], self.offset + self.ends[index] - self.ends[self.firsts[number]]

    def chunks_in(self, size: int, first: int, end: int) -> int:
        """How many chunks from `first` on, before `end`, have `size` bytes; 0: they do not come out even."""
        behind = bisect_left(self.ends, self.ends[first] + size, first + 1, end + 1)
        is_even = behind <= end and self.ends[behind] - self.ends[first] == size
        return behind - first if is_even else 0

    def weight(self, first: int, end: int) -> int:
        """What the chunks from `first` to `end` (exclusive) weigh (`events.cost`)."""
        return sum([cost(size) for _, size in self.chunks[first:end]])


class Answer(msgspec.Struct, frozen=True):
    """One frame from `peer` with what it answers; `index` -1 for a manifest, else of the first of `chunks` in it."""

    peer: PeerId
    place: NodePlace
    manifest: bytes
    index: int
    frame: Message | Bulk
    chunks: int = 0


class Finished(msgspec.Struct, frozen=True):
    """The result under its final name, what did not arrive (how many), what is called differently here, the news."""

    path: Path
    failed: list[tuple[str, str]]
    failed_count: int
    renamed: list[tuple[str, str]]
    news: News


def bytes_of(frame: Message | Bulk) -> bytes | memoryview:
    """The bytes of an answer that is to have some. Raises `PeerError`."""
    if not isinstance(frame, Bulk):
        raise PeerError("an answer that does not fit the request")
    return frame.data


def prepared(
    manifest: bytes,
    place: NodePlace,
    wanted: list[bool],
    children: list[tuple[bytes, NodePlace]],
    absent: tuple[int, ...] = (),
) -> Prepared:
    """What the swarm is told of a node: `wanted`: each chunk that is missing; `absent`: those that we do not give."""
    sizes = tuple([size for _, size in place.chunks])
    weights = tuple(_likely_bytes(place.child) for _, place in children)
    if all(wanted):
        return Prepared(manifest, place, sizes, range(len(sizes)), tuple(children), (), weights)
    missing = tuple(index for index, is_wanted in enumerate(wanted) if is_wanted)
    return Prepared(manifest, place, sizes, missing, tuple(children), absent, weights)


def _likely_bytes(child: m.Child | None) -> int:
    """How many bytes a node is likely to have; of a file's own much, of a folder's as its files."""
    if child is None or child.kind is m.Kind.BLOB:
        return MANIFEST_COST_BYTES
    return min(NODE_BYTES + ENTRY_BYTES * child.files, MANIFEST_COST_BYTES)
