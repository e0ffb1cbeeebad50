"""A bounded table of things that belong to many: who has most makes room first. Pure."""

from collections.abc import Hashable, Iterator
from heapq import heapify, heappop, heappush
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
O = TypeVar("O", bound=Hashable)  # noqa: E741  (owner)

SPARE_MARKS = 64  # out-of-date marks that may lie in the heap beyond two for each owner; guess


class Crowd(Generic[K, O]):
    """Things in the order in which they came, each of an owner and of a weight.

    When the table is full, `next_to_go` is the oldest thing of the owner who has most by weight (of those who have the
    same, of the one who has had it longest). So who floods the table pushes out what is its own, and nobody else's.
    """

    def __init__(self) -> None:
        self._things: dict[K, tuple[O, float]] = {}
        self._of: dict[O, dict[K, None]] = {}
        self._names: dict[O, O] = {}  # each owner once, however many equal ones come
        self._weights: dict[O, float] = {}
        self._marks: list[
            tuple[float, int, O]
        ] = []  # a heap; one for each change of a weight, most are out of date
        self._valid: dict[O, int] = {}  # the number of each owner's mark that is not
        self._number = 0
        self.weight = 0.0

    def __len__(self) -> int:
        return len(self._things)

    def __contains__(self, thing: K) -> bool:
        return thing in self._things

    def __iter__(self) -> Iterator[K]:
        """All things in the order in which they came."""
        return iter(list(self._things))

    @property
    def owners(self) -> int:
        """How many have anything here."""
        return len(self._of)

    def count_of(self, owner: O) -> int:
        """How many things `owner` has."""
        return len(self._of.get(owner, ()))

    def weight_of(self, owner: O) -> float:
        """What the things of `owner` weigh together."""
        return self._weights.get(owner, 0.0)

    def owner_of(self, thing: K) -> O:
        """Whose `thing` is. Raises `KeyError` for one that is not there."""
        return self._things[thing][0]

    def oldest_of(self, owner: O) -> K:
        """The thing of `owner` that came first. Raises `KeyError` for who has nothing."""
        return next(iter(self._of[owner]))

    def add(self, thing: K, owner: O, weight: float = 1.0) -> None:
        """Put in a thing that is not there."""
        owner = self._names.setdefault(owner, owner)
        self._things[thing] = owner, weight
        self._of.setdefault(owner, {})[thing] = None
        self._weigh(owner, weight)

    def remove(self, thing: K) -> None:
        """Take out a thing. Raises `KeyError` for one that is not there."""
        owner, weight = self._things.pop(thing)
        del self._of[owner][thing]
        self._weigh(owner, -weight)

    def heaviest(self) -> O:
        """Who has most. Raises `IndexError` when there is nothing."""
        while self._valid.get(self._marks[0][2]) != self._marks[0][1]:
            heappop(self._marks)
        return self._marks[0][2]

    def next_to_go(self) -> K:
        """What makes room. Raises `IndexError` when there is nothing."""
        return self.oldest_of(self.heaviest())

    def _weigh(self, owner: O, weight: float) -> None:
        self.weight += weight
        if not self._of[owner]:
            del self._of[owner], self._names[owner], self._weights[owner], self._valid[owner]
            return
        self._weights[owner] = self._weights.get(owner, 0.0) + weight
        self._number += 1
        self._valid[owner] = self._number
        heappush(self._marks, (-self._weights[owner], self._number, owner))
        if len(self._marks) > 2 * len(self._of) + SPARE_MARKS:
            self._marks = [mark for mark in self._marks if self._valid.get(mark[2]) == mark[1]]
            heapify(self._marks)
