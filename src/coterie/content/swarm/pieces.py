"""Pieces: what peers tell each other they have, and what is asked for at once.

A piece is a run of neighbouring chunks of one manifest node. Where pieces begin follows from the sizes of the node's
chunks alone, so all who have the node cut it alike. Sets of pieces are integers: bit n is piece n. Python's integers do
the work of a bitmap in one instruction for each 30 pieces; measured, a set of 8,192 costs about 0.2 us an operation.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from random import Random

PIECE_BYTES_MIN = 64 << 10  # guess: larger pieces wait longer at each hop, smaller ones cost messages
PIECE_CHUNKS_MAX = 1024  # guess: an answer of so many tiny files is still one of milliseconds
LEVELS_MAX = 32  # above so many holders nobody cares which of two pieces is rarer; guess


def cut(sizes: Sequence[int]) -> list[int]:
    """Where the pieces of a node begin (chunk indexes, ascending from 0), and behind the last its number of chunks."""
    starts = [0]
    size = count = 0
    for index, chunk_bytes in enumerate(sizes, 1):
        size += chunk_bytes
        count += 1
        if size >= PIECE_BYTES_MIN or count == PIECE_CHUNKS_MAX:
            starts.append(index)
            size = count = 0
    if count:
        starts.append(len(sizes))
    return starts


def spanned(starts: Sequence[int], first: int, last: int) -> int:
    """The pieces that the chunks first..last (exclusive) belong to."""
    low = bisect_right(starts, first) - 1
    high = bisect_right(starts, last - 1)
    return (1 << high) - (1 << low)


def members(pieces: int) -> Iterator[int]:
    """The numbers in a set, ascending."""
    while pieces:
        lowest = pieces & -pieces
        yield lowest.bit_length() - 1
        pieces ^= lowest


def lowest(pieces: int) -> int:
    """The least number of a set that is not empty."""
    return (pieces & -pieces).bit_length() - 1


def choose(pieces: int, random: Random) -> int:
    """One of a set that is not empty: the first at or behind a random place."""
    place = random.randrange(pieces.bit_length())
    behind = pieces >> place
    return place + lowest(behind) if behind else lowest(pieces)


def to_bytes(pieces: int) -> bytes:
    """A set as it travels: little-endian, without zeros behind; nothing for the empty set."""
    return pieces.to_bytes((pieces.bit_length() + 7) // 8, "little")


def from_bytes(data: bytes | memoryview) -> int:
    """The set that `to_bytes` wrote."""
    return int.from_bytes(data, "little")


class Rarity:
    """How many peers have each piece of a node: `levels[n]` are those that n peers have."""

    __slots__ = ("levels",)

    def __init__(self, pieces: int) -> None:
        self.levels = [pieces]

    def more(self, pieces: int) -> None:
        """One more peer has these."""
        levels = self.levels
        carried = 0
        for at in range(len(levels)):
            if not pieces and not carried:
                return
            moved = levels[at] & pieces
            levels[at] = (levels[at] ^ moved) | carried
            carried, pieces = moved, pieces ^ moved
        if carried:
            if len(levels) < LEVELS_MAX:
                levels.append(carried)
            else:
                levels[-1] |= carried

    def fewer(self, pieces: int) -> None:
        """One peer fewer has these."""
        levels = self.levels
        for at in range(1, len(levels)):
            moved = levels[at] & pieces
            levels[at] ^= moved
            levels[at - 1] |= moved
            pieces ^= moved

    def least(self, among: int) -> int:
        """How many peers have the rarest of these; 0 when none of them is known here."""
        return next((n for n, level in enumerate(self.levels) if level & among), 0)

    def rarest(self, among: int) -> int:
        """Those of a set that fewest peers have; empty when none of it is known here."""
        for level in self.levels:
            found = level & among
            if found:
                return found
        return 0
