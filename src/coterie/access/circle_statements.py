"""What the operations of a circle say about people and devices, and what holds by a set of them. Pure.

The rules are in circle_log.py and docs/protocol/circle.md. `unsupported` in all questions: the operations that have no
support in the view that is asked about.
"""

from collections.abc import Iterator

from coterie.access.circle_facts import ENDS, STATEMENTS, Facts
from coterie.access.circle_ops import Kind, Role
from coterie.access.circle_pasts import Pasts
from coterie.access.circle_sets import PlaceSets, places_in

_GIVING = frozenset({Kind.CREATE, Kind.ADD, Kind.ADD_DEVICE})
_DEVICE_KINDS = _GIVING | {Kind.REMOVE_DEVICE}


class Statements:
    """All statements of a log. People and devices are numbers: see `Facts`."""

    def __init__(self, facts: Facts, pasts: Pasts) -> None:
        self._facts = facts
        self._pasts = pasts
        self.all = 0
        self.about: PlaceSets[int] = PlaceSets()  # person: statements about its role
        self.about_device: PlaceSets[tuple[int, int]] = PlaceSets()  # person and device: those about it alone
        self.devices: dict[int, dict[int, None]] = {}  # person: every device ever named
        self._ends: PlaceSets[int] = PlaceSets()  # person: those that remove it
        self._papers: PlaceSets[tuple[int, int]] = (
            PlaceSets()
        )  # person and device: those that add it as paper
        for place, kind in enumerate(facts.kinds):
            if kind in STATEMENTS:
                self.note(place)

    def note(self, place: int) -> bool:
        """The operation at `place` is here; whether it is a statement."""
        facts = self._facts
        kind, subject, device = facts.kinds[place], facts.subjects[place], facts.devices[place]
        if kind not in STATEMENTS:
            return False
        self.all |= 1 << place
        if kind not in (Kind.ADD_DEVICE, Kind.REMOVE_DEVICE):
            self.about.add(subject, place)
        if kind in ENDS:
            self._ends.add(subject, place)
        if device:
            self.about_device.add((subject, device), place)
            self.devices.setdefault(subject, {})[device] = None
            if facts.is_paper[place]:
                self._papers.add((subject, device), place)
        return True

    # ---- what holds

    def role(self, person: int, view: int, unsupported: int) -> tuple[int, tuple[int, ...]]:
        """The role of `person` in `view`, 0 for nobody, and the statements on which it rests."""
        return self._value(self.about[person] & view, unsupported, is_device=False)

    def device(self, person: int, device: int, view: int, unsupported: int) -> tuple[int, tuple[int, ...]]:
        """Whether `device` is one of `person` in `view` (1 or 0), and the statements on which that rests."""
        statements = self.about_device[person, device]
        if not statements:
            return 0, ()
        return self._value((statements | self._ends[person]) & view, unsupported, is_device=True)

    def is_paper(self, person: int, device: int, view: int) -> bool:
        """Whether this key of `person` is a paper one in `view`."""
        return bool(self._papers[person, device] & view)

    def _value(self, statements: int, unsupported: int, *, is_device: bool) -> tuple[int, tuple[int, ...]]:
        """What holds by these statements about one subject, and the supported ones not replaced."""
        answers = statements & ~unsupported
        supporting: list[int] = []
        lowering: list[int] = []
        while statements:
            i = statements.bit_length() - 1
            statements ^= 1 << i
            if unsupported >> i & 1:
                lowering.append(i)
            else:
                supporting.append(i)
                statements &= ~self._pasts[i]
        if not supporting:
            return 0, ()
        value = min(self._said(i, is_device) for i in supporting)
        for t in lowering:
            if self._said(t, is_device) < value and not self.is_overridden(t, answers, unsupported):
                value = self._said(t, is_device)
        return value, tuple(supporting)

    def _said(self, i: int, is_device: bool) -> int:
        return int(self._facts.kinds[i] in _GIVING) if is_device else self._facts.said[i]

    # ---- what takes support

    def may_take(self, place: int) -> int:
        """The person from whose operations the one at `place` can take support; 0 when it lowers nobody."""
        kind, said = self._facts.kinds[place], self._facts.said[place]
        lowers = kind in ENDS or (kind in (Kind.ADD, Kind.ROLE) and said < Role.OWNER)
        return self._facts.subjects[place] if lowers or kind == Kind.REMOVE_DEVICE else 0

    def taking(self, i: int, candidates: int) -> Iterator[int]:
        """Those of `candidates` that take from the author of `i` what it needed, neither having seen the other."""
        for t in self._against(i, candidates):
            if not self._pasts[t] >> i & 1:
                yield t

    def _against(self, i: int, candidates: int) -> Iterator[int]:
        facts = self._facts
        person, needed = facts.persons[i], facts.needed[i]
        for t in places_in(self.about[person] & candidates):
            if facts.said[t] < needed:
                yield t
        for t in places_in(self.about_device[person, facts.authors[i]] & candidates):
            if facts.kinds[t] == Kind.REMOVE_DEVICE:
                yield t

    def unanswered(self, i: int, candidates: int, unsupported: int) -> Iterator[int]:
        """Those of `candidates` that take from the author of `i` what it needed, unless they have seen `i`, and that
        nobody in the past of `i` has answered."""
        facts, past = self._facts, self._pasts[i]
        person, author = facts.persons[i], facts.authors[i]
        of_person = self.about[person] & past & ~unsupported
        of_device = self.about_device[person, author] & past & ~unsupported
        for t in self._against(i, candidates):
            is_device = facts.kinds[t] == Kind.REMOVE_DEVICE
            if not self.is_overridden(t, of_device if is_device else of_person, unsupported):
                yield t

    def is_overridden(self, t: int, answers: int, unsupported: int) -> bool:
        """Whether one of `answers`, supported statements about the same subject, was made knowing that `t`'s author
        is out, and says what answers `t`: only an addition answers a removal, and nobody answers for themselves."""
        facts = self._facts
        for s in places_in(answers & ~self._pasts[t]):
            is_answer = facts.kinds[s] in (Kind.ADD, Kind.ADD_DEVICE) or (
                facts.kinds[s] == Kind.ROLE and facts.persons[s] != facts.subjects[s] and facts.said[t] > 0
            )
            if is_answer and self._is_void(t, self._pasts[s] & ~unsupported, {}):
                return True
        return False

    def _is_void(self, t: int, known: int, judged: dict[int, bool]) -> bool:
        """Whether `known` (supported, the past of what `t` would touch) took from `t`'s author what it needed.

        `judged` keeps answers for the same `known`: rights may come by many ways, each is walked once.
        """
        if t not in judged:
            judged[t] = any(True for _ in self.taking(t, known & ~self._pasts[t] & ~(1 << t))) or any(
                bool(grounds) and all(self._is_void(g, known, judged) for g in grounds)
                for grounds in self._facts.grounds_at(t)
            )
        return judged[t]

    # ---- what is no longer replaced

    def standing(self, statements: int) -> list[int]:
        """Those that no other of them has in its past."""
        standing = []
        while statements:
            i = statements.bit_length() - 1
            standing.append(i)
            statements &= ~(self._pasts[i] | 1 << i)
        return standing
