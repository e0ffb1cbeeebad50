"""Choices for one live folder on this computer, kept: what comes, what comes only when somebody asks, what leaves."""

from collections.abc import Iterable, Sequence

from coterie.apps.folders import choices as c
from coterie.apps.folders.chosen_rows import ChosenRows, Leaving
from coterie.apps.folders.records import unpack_agreed
from coterie.apps.folders.register import Kind, Value
from coterie.apps.folders.results import ChoiceLine
from coterie.apps.folders.store import FolderData
from coterie.errors import NotFound, UsageError
from coterie.texts import tr

TOGETHER = 1_000  # rows that are read at once


class Selecting:
    """Of one folder. Blocking; `selected` and `state` from any thread."""

    def __init__(self, rows: ChosenRows, data: FolderData) -> None:
        self.rows = rows
        self._data = data
        self._chosen = c.Chosen(c.read(rows.choices()))
        self._asked = rows.asked()

    @property
    def is_partial(self) -> bool:
        """Whether something may be on demand."""
        return self._chosen.choices.is_partial

    def selected(self, path: str, value: Value) -> bool:
        """See `planner.Rules`."""
        if value.kind != Kind.FILE or path in self._asked:
            return True
        return self._chosen.of(path, value.size) != c.ON_DEMAND

    def state(self, path: str, size: int, *, is_here: bool) -> str:
        """What people are told of a file: "here", "pinned", "coming" or "on demand"."""
        chosen = self._chosen.of(path, size)
        if is_here:
            return c.PINNED if chosen == c.PINNED else c.HERE
        return c.ON_DEMAND if chosen == c.ON_DEMAND and path not in self._asked else "coming"

    def lines(self) -> list[ChoiceLine]:
        """Every choice, in the order in which they count: a later one goes before."""
        choices = self._chosen.choices
        lines = [ChoiceLine(what=c.ON_DEMAND, kind=kind) for kind in choices.kinds]
        if choices.larger_than:
            lines.append(ChoiceLine(what=c.ON_DEMAND, larger_than_bytes=choices.larger_than))
        return [*lines, *(ChoiceLine(what=what, pattern=pattern) for pattern, what in choices.patterns)]

    # ---- changes

    def choose(self, texts: Sequence[str], what: c.What) -> None:
        """What these name is pinned, or on demand: then what is here of it leaves, as far as others have it.

        Raises:
            UsageError: one is no pattern, or they are too many.
        """
        patterns = [self._pattern(text) for text in texts]
        choices = self._chosen.choices.with_patterns(patterns, what)
        if len(choices.patterns) > c.PATTERNS_MAX:
            raise UsageError(tr("{most} patterns are the most: remove some", most=c.PATTERNS_MAX))
        self._keep(choices)
        if what == c.ON_DEMAND:
            matches = c.matcher(patterns).match_file
            asked = [path for path in self._asked if matches(path)]
            self._asked.difference_update(asked)
            self.rows.forget_asked(asked)
            self._leave(patterns)

    def forget(self, texts: Sequence[str]) -> None:
        """These say nothing any more. Raises NotFound: one was not chosen."""
        known = [pattern for pattern, _ in self._chosen.choices.patterns]
        patterns = []
        for text in texts:
            found = [one for one in (text, c.pattern_of(text.strip("/"))) if one in known]
            if not found:
                raise NotFound(
                    tr("no choice '{pattern}' here: `coterie folder select` lists them", pattern=text)
                )
            patterns.append(found[0])
        self._keep(self._chosen.choices.without(patterns))

    def limit(self, larger_than: int | None, kinds: Sequence[str] | None) -> None:
        """What is larger (bytes; 0: nothing), or of these kinds, is on demand. None: as it was. Raises UsageError."""
        choices = self._chosen.choices
        for kind in kinds or ():
            if kind not in c.KINDS:
                raise UsageError(
                    tr("there is no kind '{kind}': choose from {kinds}", kind=kind, kinds=", ".join(c.KINDS))
                )
        self._keep(
            c.Choices(
                choices.patterns,
                choices.larger_than if larger_than is None else larger_than,
                choices.kinds if kinds is None else tuple(dict.fromkeys(kinds)),
            )
        )
        self._leave(None)

    def ask(self, text: str) -> tuple[int, int]:
        """Have come what is at and below a path and on demand, and stay what is about to leave: (files, bytes) to come.

        Raises:
            NotFound: nothing is there.
        """
        path = text.strip("/")
        rows = self._data.away_below(path)
        if not rows and not self._is_known(path):
            raise NotFound(tr("there is no {path}", path=text))
        waiting = self._leaving_below(path)
        asked = [*(one for one, _ in rows), *waiting.values()]
        self._asked.update(asked)
        self.rows.ask(asked)
        self.rows.left(waiting)
        return len(rows), sum(size for _, size in rows)

    def _leaving_below(self, path: str) -> dict[str, str]:
        """What is at and below a path, and here until somebody else has it: paths by local name."""
        found: dict[str, str] = {}
        behind = ""
        while part := self.rows.leaving(behind, TOGETHER):
            behind = part[-1].local
            for local, raw in self._data.agreed([one.local for one in part]).items():
                one = unpack_agreed(raw).path
                if not path or one == path or one.startswith(f"{path}/"):
                    found[local] = one
        return found

    def came(self, paths: Iterable[str]) -> None:
        """These are on the disk."""
        came = [path for path in paths if path in self._asked]
        if came:
            self._asked.difference_update(came)
            self.rows.forget_asked(came)

    def _leave(self, patterns: Sequence[str] | None) -> None:
        """What is here and on demand is to leave: what the patterns name; None: all of it."""
        matches = c.matcher(patterns).match_file if patterns is not None else None
        found = []
        for local, raw in self._data.agreed_below(""):
            agreed = unpack_agreed(raw)
            value = agreed.value
            if value.kind != Kind.FILE or (matches is not None and not matches(agreed.path)):
                continue
            if self._chosen.of(agreed.path, value.size) == c.ON_DEMAND:
                found.append(Leaving(local, value.content))
        self.rows.leave(found)

    def _pattern(self, text: str) -> str:
        """What is at a path there, exactly; else a pattern."""
        path = text.strip("/")
        pattern = c.pattern_of(path) if path and self._is_known(path) else text
        if not c.is_pattern(pattern):
            raise UsageError(tr("'{pattern}' is no pattern: write it as in .gitignore", pattern=text))
        return pattern

    def _is_known(self, path: str) -> bool:
        return self._data.register(path) is not None or self._data.lives_below(path)

    def _keep(self, choices: c.Choices) -> None:
        self.rows.keep_choices(choices.text())
        self._chosen = c.Chosen(choices)
