"""Sets of places in a circle's log: integers with one bit for each, and tables of such sets in little memory. Pure."""

from array import array
from collections import OrderedDict
from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

MASKS_MAX = 256  # sets of a table at hand as integers: 12 kB each at the bound of a log; guess: 50 people
SPARSE_MAX = (
    32  # ones in a set, up to which finding one after the other is quicker than reading all; measured
)

K = TypeVar("K", bound=Hashable)


def places_in(mask: int) -> Iterator[int]:
    """The places of the ones in `mask`, lowest first."""
    if mask.bit_count() <= SPARSE_MAX:
        while mask:
            low = mask & -mask
            yield low.bit_length() - 1
            mask ^= low
        return
    for at, byte in enumerate(mask.to_bytes(mask.bit_length() // 8 + 1, "little")):
        if byte:
            base = 8 * at
            for bit in _ONES[byte]:
                yield base + bit


def lowest(mask: int, most: int) -> int:
    """The `most` lowest ones of `mask`."""
    return _half(mask, most, 0, mask.bit_length())


def highest(mask: int, most: int) -> int:
    """The `most` highest ones of `mask`."""
    return mask & ~lowest(mask, max(0, mask.bit_count() - most))


def _half(mask: int, most: int, low: int, high: int) -> int:
    """Between `low` and `high` lies the first place at which more than `most` ones are below."""
    if mask.bit_count() <= most:
        return mask
    while low < high:
        middle = (low + high + 1) // 2
        if (mask & ((1 << middle) - 1)).bit_count() <= most:
            low = middle
        else:
            high = middle - 1
    return mask & ((1 << low) - 1)


class PlaceSets(Generic[K]):
    """A set of places for each key: 4 bytes for each place, and the integers of those used last."""

    def __init__(self) -> None:
        self._places: dict[K, array[int]] = {}
        self._masks: OrderedDict[K, int] = OrderedDict()

    def __iter__(self) -> Iterator[K]:
        return iter(self._places)

    def __contains__(self, key: K) -> bool:
        return key in self._places

    def __getitem__(self, key: K) -> int:
        """The set of `key`; empty for an unknown key."""
        known = self._masks.get(key)
        if known is None:
            known = self._masks[key] = _mask(self._places.get(key))
            if len(self._masks) > MASKS_MAX:
                self._masks.popitem(last=False)
        else:
            self._masks.move_to_end(key)
        return known

    def places(self, key: K) -> "array[int]":
        """The same, as places in order."""
        return self._places.get(key) or array("I")

    def add(self, key: K, place: int) -> None:
        """`place` is higher than all before it."""
        self._places.setdefault(key, array("I")).append(place)
        if key in self._masks:
            self._masks[key] |= 1 << place


def _mask(places: "array[int] | None") -> int:
    if not places:
        return 0
    whole = bytearray(places[-1] // 8 + 1)
    for place in places:
        whole[place >> 3] |= 1 << (place & 7)
    return int.from_bytes(whole, "little")


_ONES = tuple(tuple(bit for bit in range(8) if byte >> bit & 1) for byte in range(256))
