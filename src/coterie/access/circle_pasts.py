"""The past of each operation of a log, as a set of places (an integer, one bit for each), in little memory. Pure.

Kept is what lies beside an operation: what arrived before it and is not in its past. Mostly that is nothing, or a few
places close together, and takes 12 bytes. Where it spreads over more than 64 places it is kept whole within a bound of
bytes, and worked out anew from the parents beyond that: of such ones every second is dropped, then every second again.
"""

from array import array
from collections import OrderedDict
from collections.abc import Sequence
from heapq import heappop, heappush

SPAN_BITS = 64  # between the first and the last place beside an operation, for the short form
WIDE_BYTES_MAX = (
    8_000_000  # of those with a wider span; guess: 600 at the bound of a log, more while it is short
)
RECENT_MAX = (
    256  # pasts at hand: 12 kB each at the bound of a log; guess: roles and computers of 50 people, and heads
)

_WIDE = (1 << 32) - 1


class Pasts:
    """The place of an operation is its number in the order of arrival: its parents have lower ones."""

    def __init__(self) -> None:
        self._first = array("I", [0])  # of each: where its parents begin below, and behind the last
        self._parents = array("I")
        self._low = array("I")  # the first place beside it, or _WIDE
        self._beside = array("Q")  # places beside it, from there
        self._wide: dict[int, int] = {}  # what lies beside those with a wider span, as far as it is kept
        self._wide_bytes = 0
        self._step = 1  # of the wide ones every so many-th is kept
        self._wide_count = 0
        self._recent: OrderedDict[int, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._low)

    def append(self, parents: Sequence[int], past: int, beside: int) -> None:
        """The next operation: the places of its parents, its whole past, and all that arrived and is not in that."""
        place = len(self._low)
        self._parents.extend(parents)
        self._first.append(len(self._parents))
        low = (beside & -beside).bit_length() - 1 if beside else 0
        if beside.bit_length() - low <= SPAN_BITS:
            self._low.append(low)
            self._beside.append(beside >> low)
        else:
            self._low.append(_WIDE)
            self._beside.append(0)
            self._keep_wide(place, beside)
        self._note(place, past)

    def __getitem__(self, place: int) -> int:
        """The past of the operation at `place`."""
        past = self._recent.get(place)
        if past is None:
            past = self._kept(place)
            self._note(place, self._worked_out(place) if past is None else past)
            return self._recent[place]
        self._recent.move_to_end(place)
        return past

    def _note(self, place: int, past: int) -> None:
        self._recent[place] = past
        if len(self._recent) > RECENT_MAX:
            self._recent.popitem(last=False)

    def _kept(self, place: int) -> int | None:
        low = self._low[place]
        beside = self._wide.get(place) if low == _WIDE else self._beside[place] << low
        return None if beside is None else ((1 << place) - 1) ^ beside

    def _worked_out(self, place: int) -> int:
        """From the parents, and theirs, down to those whose pasts are kept."""
        whole, single = 0, bytearray(place // 8 + 1)
        waiting = [-parent for parent in self.parents_of(place)]
        while waiting:
            at = -heappop(waiting)
            if single[at >> 3] >> (at & 7) & 1 or whole >> at & 1:
                continue
            single[at >> 3] |= 1 << (at & 7)
            past = self._recent.get(at)
            past = self._kept(at) if past is None else past
            if past is None:
                for parent in self.parents_of(at):
                    heappush(waiting, -parent)
            else:
                whole |= past
        return whole | int.from_bytes(single, "little")

    def parents_of(self, place: int) -> "array[int]":
        """The places of the parents of the operation at `place`."""
        return self._parents[self._first[place] : self._first[place + 1]]

    # ---- to keep and to bring back

    def pack(self) -> tuple[list[memoryview], dict[int, bytes], int, int]:
        """All that `restored` wants; views of what is here."""
        rows = [memoryview(row).cast("B") for row in (self._first, self._parents, self._low, self._beside)]
        wide = {
            at: beside.to_bytes(beside.bit_length() // 8 + 1, "little") for at, beside in self._wide.items()
        }
        return rows, wide, self._step, self._wide_count

    @classmethod
    def restored(cls, rows: list[memoryview], wide: dict[int, bytes], step: int, wide_count: int) -> "Pasts":
        """The same again. Raises `ValueError` when the parts do not fit together."""
        pasts = cls()
        pasts._first = array("I")
        for row, kept in zip(rows, (pasts._first, pasts._parents, pasts._low, pasts._beside), strict=True):
            kept.frombytes(row)
        count = len(pasts._low)
        if len(pasts._beside) != count or len(pasts._first) != count + 1:
            raise ValueError("pasts of several lengths")
        if pasts._first[-1] != len(pasts._parents):
            raise ValueError("parents of other operations")
        pasts._wide = {at: int.from_bytes(beside, "little") for at, beside in wide.items()}
        pasts._wide_bytes = sum(map(_bytes, pasts._wide.values()))
        pasts._step, pasts._wide_count = step, wide_count
        return pasts

    def childless(self) -> list[int]:
        """The places that are nobody's parents."""
        has_child = bytearray(len(self))
        for parent in self._parents:
            has_child[parent] = 1
        return [place for place, is_parent in enumerate(has_child) if not is_parent]

    def _keep_wide(self, place: int, beside: int) -> None:
        self._wide_count += 1
        if self._wide_count % self._step:
            return
        self._wide[place] = beside
        self._wide_bytes += _bytes(beside)
        while self._wide_bytes > WIDE_BYTES_MAX:
            self._step *= 2
            self._wide = {at: self._wide[at] for at in list(self._wide)[1::2]}
            self._wide_bytes = sum(map(_bytes, self._wide.values()))


def _bytes(number: int) -> int:
    return number.bit_length() // 8 + 32
