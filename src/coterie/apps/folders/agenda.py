"""What is to be looked at and planned in one live folder, now or later. Belongs to the event loop."""

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import partial

from coterie.apps.folders.hints import ALL, NONE, Hints, hints_of
from coterie.apps.folders.timers import Timers
from coterie.texts import tr

FOR_OTHERS = frozenset({"later", "other"})  # codes of what ends with something else on the disk
PLANNED_MAX = (
    200_000  # paths or names planned together: a folder of half as many that moves is seen whole, in some s
)
GATHER_S = 5.0  # so long the next of a sender's further changes is waited for, before what came is planned
GATHERED_S = 30.0  # and so long at most for all of them; guess: 100,000 changes take some 5 s


class Agenda:
    """Of one folder: hints where to look, local names that look otherwise, paths whose registers changed."""

    def __init__(self) -> None:
        self.wake = asyncio.Event()
        """Something is to be done."""
        self.idle = asyncio.Event()
        """Nothing is left to be planned."""
        self.failed: dict[str, str] = {}
        """What could not be done, and why: by local name."""
        self.waits: dict[str, str] = {}
        """What waits for something, and for what, as the owner reads it: by path."""
        self._put_off: dict[str, None] = {}
        self._hints = NONE
        self._local: dict[str, None] = {}
        self._paths: dict[str, None] = {}
        self._moves: dict[tuple[str, str], None] = {}
        self._timers = Timers()
        self._gathering: asyncio.TimerHandle | None = None
        self._gathering_since = 0.0

    def close(self) -> None:
        """Nothing becomes due any more."""
        self._timers.close()
        if self._gathering is not None:
            self._gathering.cancel()

    # ---- what is to be done

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to be planned."""
        return not (self._local or self._paths or self._moves)

    @property
    def is_long(self) -> bool:
        """Whether it takes several plans."""
        return max(len(self._local), len(self._paths)) > PLANNED_MAX

    @property
    def all_local(self) -> list[str]:
        """Every local name that is to be planned; they stay."""
        return list(self._local)

    @property
    def all_paths(self) -> list[str]:
        """Every path that is to be planned; they stay."""
        return list(self._paths)

    @property
    def is_gathering(self) -> bool:
        """Whether more changes of others come right behind those that are here."""
        return self._gathering is not None

    @property
    def has_hints(self) -> bool:
        """Whether the disk is to be looked at."""
        return self._hints != NONE

    @property
    def is_due(self) -> bool:
        """Whether something is to be planned now: what others said waits while more of it comes."""
        return bool(self._local) or (bool(self._paths or self._moves) and not self.is_gathering)

    def take_hints(self) -> Hints:
        """Where to look; they are taken out."""
        hints, self._hints = self._hints, NONE
        return hints

    def next_local(self) -> list[str]:
        """Local names to plan together; they are taken out."""
        return _some(self._local)

    def next_paths(self) -> list[str]:
        """Paths to plan together; they are taken out."""
        return _some(self._paths)

    def next_move(self) -> tuple[str, str] | None:
        """A folder (path before, path now) that others moved as a whole and is to be moved here; it is taken out."""
        if self.is_gathering or not self._moves:
            return None
        first = next(iter(self._moves))
        del self._moves[first]
        return first

    # ---- now

    def add_move(self, source: str, target: str) -> None:
        """Others moved a folder with all that is in it."""
        self._moves[source, target] = None
        self.idle.clear()

    def add_local(self, locals_: Iterable[str]) -> None:
        """These look otherwise than before, or their content is known now."""
        self._local.update(dict.fromkeys(locals_))

    def add_paths(self, paths: Iterable[str]) -> None:
        """Plan these, in a turn that is under way or begins."""
        self._paths.update(dict.fromkeys(paths))

    def touch(self, paths: Collection[str]) -> None:
        """Plan these again, at once."""
        self.add_paths(paths)
        self.begin()

    def look(self, hints: Hints) -> None:
        """Look there, at once."""
        self._hints = self._hints.joined(hints)
        self.wake.set()

    def look_at_all(self) -> None:
        """Look at everything, at once."""
        self._hints = ALL
        self.begin()

    def begin(self) -> None:
        """Something is to be done."""
        self.idle.clear()
        self.wake.set()

    def merged(self, paths: Sequence[str], has_more: bool) -> None:
        """Others said something about these: it is planned when no more comes right behind it."""
        if paths:
            self.add_paths(paths)
            self.idle.clear()
        loop = asyncio.get_running_loop()
        if self._gathering is None:
            self._gathering_since = loop.time()
        else:
            self._gathering.cancel()
        until = min(loop.time() + GATHER_S, self._gathering_since + GATHERED_S)
        self._gathering = loop.call_at(until, self._gathered)
        if not has_more:
            self._gathered()

    def _gathered(self) -> None:
        if self._gathering is not None:
            self._gathering.cancel()
            self._gathering = None
        self.wake.set()

    # ---- later

    def now_waits(self, asked: Iterable[str], codes: Mapping[str, str]) -> None:
        """Of the `asked` paths, and others, these wait (`steps.Wait.code` by path)."""
        for path in asked:
            self.waits.pop(path, None)
        for path, code in codes.items():
            self.waits[path] = tr("{path} waits: {why}", path=path, why=code)
            if code in FOR_OTHERS:
                self._put_off[path] = None

    def ask_again(self) -> None:
        """Something was done or found: what waited for another place may go on."""
        self.add_paths(self._put_off)
        self._put_off = {}

    def look_later(self, local: str, seconds: float) -> None:
        """Look at this again."""
        self._timers.start(seconds, partial(self.look, hints_of([local])))

    def plan_later(self, paths: Sequence[str], seconds: float) -> None:
        """Plan these again."""
        self._timers.start(seconds, partial(self.touch, paths))


def _some(waiting: dict[str, None]) -> list[str]:
    """Take up to PLANNED_MAX of them."""
    taken = list(waiting) if len(waiting) <= PLANNED_MAX else list(waiting)[:PLANNED_MAX]
    for one in taken:
        del waiting[one]
    return taken
