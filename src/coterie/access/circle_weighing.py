"""Which operations have support in a view: asked one after the other, ancestors first, in slices. Pure.

Operations of one line (circle_facts.py) by the same device that need the same have the same answer, but for whether
those that would take support from them have seen them: so the costly questions are asked once for all of them.
"""

from collections import OrderedDict
from collections.abc import Iterator

from coterie.access.circle_facts import Facts
from coterie.access.circle_ops import Kind
from coterie.access.circle_pasts import Pasts
from coterie.access.circle_sets import places_in
from coterie.access.circle_statements import Statements

SLICE_STEPS = 10_000  # one is about 1 us: a slice takes 10 to 20 ms of a core; measured
NEW_STEPS = 40  # for a question asked for the first time; measured: 30 to 60 us
VIEWS_MAX = 16  # with other statements than are here, answers at hand for each; guess
PASTS_BYTES_MAX = 2_000_000  # of those who take, as bytes, while asking
ANSWERS_MAX = 1_024  # kept of a view after asking, for what comes later; guess

_NO_RIGHT = (-1,)


class Weighing:
    """The operations of one view. `unsupported` holds the answers so far; `done` those that were asked."""

    def __init__(self, facts: Facts, pasts: Pasts, statements: Statements, view: int) -> None:
        self._facts = facts
        self._pasts = pasts
        self._statements = statements
        self._view = view & statements.all  # nothing else takes or gives
        self._answers: dict[tuple[int, ...], tuple[int, ...]] = {}
        self._seen: dict[int, bytes] = {}
        self._seen_bytes = 0
        self._asked = 0
        self._left: Iterator[int] = iter(())
        self.unsupported = 0
        self.done = 0

    def begin(self, suspects: int) -> None:
        """Ask for `suspects` next: what is lower and not among them has support."""
        self._asked = suspects
        self._left = places_in(suspects)

    def go_on(self, steps: int | None) -> bool:
        """Ask on, for so many steps (all when None); whether all have been asked."""
        for i in self._left:
            cost = self._ask(i)
            if steps is not None:
                steps -= cost
                if steps <= 0:
                    self.done |= self._asked & ((2 << i) - 1)
                    return False
        self.done |= self._asked
        self._seen.clear()
        self._seen_bytes = 0
        if len(self._answers) > ANSWERS_MAX:
            self._answers.clear()
        return True

    def _ask(self, i: int) -> int:
        facts = self._facts
        kind = facts.kinds[i]
        if kind == Kind.CREATE:
            return 1
        subject = facts.subjects[i] if kind == Kind.ROLE else 0
        key = (facts.lines[i], facts.authors[i], facts.persons[i], facts.needed[i], subject)
        takers, cost = self._answers.get(key), 1
        if takers is None:
            takers = self._answers[key] = self._takers(i, subject)
            cost = NEW_STEPS * (1 + len(takers))
        for t in takers:
            if t != i and (t < i or not self._past_bytes(t)[i >> 3] >> (i & 7) & 1):
                self.unsupported |= 1 << i
                break
        return cost

    def _takers(self, i: int, subject: int) -> tuple[int, ...]:
        """Who takes support from the operations of this sort; or that they never had a right."""
        facts, past = self._facts, self._pasts[i]
        if self.unsupported & past:
            role, _ = self._statements.role(facts.persons[i], past, self.unsupported)
            active, _ = self._statements.device(facts.persons[i], facts.authors[i], past, self.unsupported)
            if role < facts.needed[i] or not active:
                return _NO_RIGHT
            if subject and not self._statements.role(subject, past, self.unsupported)[0]:
                return _NO_RIGHT
        return tuple(self._statements.unanswered(i, self._view & ~past, self.unsupported))

    def _past_bytes(self, t: int) -> bytes:
        seen = self._seen.get(t)
        if seen is None:
            seen = self._pasts[t].to_bytes(t // 8 + 1, "little")
            self._seen_bytes += len(seen)
            if self._seen_bytes > PASTS_BYTES_MAX:
                self._seen.clear()
                self._seen_bytes = len(seen)
            self._seen[t] = seen
        return seen


class Weighed:
    """What has no support in views that lack statements which are here. Answers stay good: what is new is asked."""

    def __init__(self, facts: Facts, pasts: Pasts, statements: Statements) -> None:
        self._facts = facts
        self._pasts = pasts
        self._statements = statements
        self._of: OrderedDict[int, Weighing] = OrderedDict()

    def begin(self, view: int, suspects: int) -> Weighing:
        """The weighing of `view`, begun for those of `suspects` that it was not asked yet."""
        known = view & self._statements.all
        weighing = self._of.get(known)
        if weighing is None:
            weighing = self._of[known] = Weighing(self._facts, self._pasts, self._statements, known)
            if len(self._of) > VIEWS_MAX:
                self._of.popitem(last=False)
        self._of.move_to_end(known)
        weighing.begin(suspects & ~weighing.done)
        return weighing
