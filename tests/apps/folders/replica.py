"""One copy of a folder in memory: the planner and a fake disk, with what a shell keeps between them."""

from collections.abc import Callable, Collection, Iterator, Sequence
from random import Random

import msgspec

from coterie.apps.folders import names
from coterie.apps.folders.planner import Rules, after, freeing, paths_of, plan, recorded
from coterie.apps.folders.register import NOTHING, Dot, Kind, Register, Value, merge, winner, written
from coterie.apps.folders.steps import (
    Agree,
    Agreed,
    Hash,
    Here,
    MakeFolder,
    Move,
    MoveFolder,
    Put,
    Record,
    Step,
    Wait,
)
from tests.apps.folders.fake_disk import Broken, FakeDisk, NotSo

ROUNDS_MAX = 60  # plans in a row before it counts as never ending


class Crash(Exception):
    """The program ended here; what was not kept is gone."""


class Replica:
    """`registers`, `agreed` and `counter` are on disk; the rest is forgotten in a crash.

    Args:
        at: gives the time of its clock, ms.
        fails: asked before each step on the disk; may change the disk, raise Crash or Broken.
        has: whether a content can be had now.
    """

    def __init__(
        self,
        number: int,
        disk: FakeDisk,
        rules: Rules,
        at: Callable[[], int],
        fails: Callable[["Replica", Step, str], None],
        has: Callable[["Replica", bytes], bool],
    ) -> None:
        self.id = bytes([number]) * 16
        self.me = bytes([number]) * 32
        self.disk = disk
        self.rules = rules
        self.at = at
        self.fails = fails
        self.has = has
        self.registers: dict[str, Register] = {}
        self.log: dict[str, None] = {}  # paths in the order in which they changed
        self.agreed_rows: dict[str, Agreed] = {}
        self.by_path: dict[str, list[str]] = {}
        self.counter = 0
        self.steps = 0
        self.on_demand: set[str] = set()  # names whose contents need not be here
        self.marked: set[str] = set()  # kept: what is being taken off the disk
        self.forget()

    def forget(self) -> None:
        """What a crash leaves: the next start looks at everything."""
        self.pending: dict[str, Here | None] = {}
        self.local: dict[str, None] = {}
        self.paths: dict[str, None] = dict.fromkeys(self.registers)
        self.leaving: dict[
            str, bytes
        ] = {}  # what is to be taken off the disk: nobody is told that it is here
        self.promised: dict[str, bytes] = {}  # of that, what somebody else has
        for local in list(self.marked):
            row, entry = self.agreed_rows.get(local), self.disk.get(local)
            if row is not None and (entry is None or entry.print() != row.print):
                self.agree(local, None)
        self.marked.clear()
        self.disk.seen = {local: row.print for local, row in self.agreed_rows.items()}

    # ---- the Tree of the planner

    def register(self, path: str) -> Register | None:
        return self.registers.get(path)

    def agreed(self, local: str) -> Agreed | None:
        return self.agreed_rows.get(local)

    def here(self, local: str) -> Here | None:
        if local in self.pending:
            return self.pending[local]
        agreed = self.agreed_rows.get(local)
        return agreed.here if agreed is not None else None

    def shown(self, path: str) -> list[str]:
        return sorted(self.by_path.get(path, ()))

    def lives_below(self, path: str) -> bool:
        return any(
            below.startswith(f"{path}/")
            and (first := winner(register)) is not None
            and first[1].kind != Kind.GONE
            for below, register in self.registers.items()
        )

    def unshown_with(self, contents: Collection[bytes]) -> list[str]:
        return [
            path
            for path, register in self.registers.items()
            if (first := winner(register)) is not None
            and first[1].content in contents
            and not self.by_path.get(path)
        ]

    def agreed_below(self, local: str) -> list[tuple[str, Agreed]]:
        return sorted((one, row) for one, row in self.agreed_rows.items() if one.startswith(f"{local}/"))

    def names_in(self, local: str) -> Iterator[str]:
        there = {**self.agreed_rows, **{one: None for one, here in self.pending.items() if here is not None}}
        return (one for one in there if names.parent(one) == local)

    # ---- what a shell does

    def look(self) -> None:
        """Ask the disk what changed."""
        found, moved = self.disk.scan()
        for local, one in found.items():
            here = one
            old = self.agreed_rows.get(moved.get(local, ""))
            if here is not None and old is not None and self.is_known(moved[local], here, old):
                here = Here(here.print, old.value.content)
            self._found(local, here)

    def is_known(self, local: str, here: Here, old: Agreed) -> bool:
        """Whether what has a new name is what was agreed on under the old one, and not changed between."""
        one, other = here.print, old.print
        is_same = (one.inode, one.size, one.mtime_ns) == (other.inode, other.size, other.mtime_ns)
        return is_same and old.value.kind == Kind.FILE and self.pending.get(local) is None

    def _found(self, local: str, here: Here | None) -> None:
        self.pending[local] = here
        if here is None and local not in self.agreed_rows:
            del self.pending[local]
        self.local[local] = None

    def work(self, rounds: int = ROUNDS_MAX) -> bool:
        """Plan and do until nothing is left. Returns whether something was done."""
        did = False
        for _ in range(rounds):
            local, paths = list(self.local), list(self.paths)
            self.local, self.paths = {}, {}
            steps = plan(self, self.rules, local, paths)
            self.steps += len(steps)
            waits = [step.path for step in steps if isinstance(step, Wait)]
            progress = self._do(steps)
            self.paths.update(dict.fromkeys(waits))
            did |= progress
            if not progress:
                return did
        if rounds == ROUNDS_MAX:
            raise AssertionError(f"it never ends: {steps}")
        return did

    def _do(self, steps: list[Step]) -> bool:
        progress = False
        for step in steps:  # one transaction
            if isinstance(step, Record):
                self._record(step)
                progress = True
        self.fails_after_records(steps)
        missing: tuple[str, ...] = ()
        for step in steps:
            match step:
                case Record() | Wait():
                    continue
                case Hash(local, path):
                    self.paths[path] = None
                    here = self.disk.hash(local)
                    if here is not None:
                        self._found(local, here)
                        progress = True
                case _ if step.local.startswith(missing):
                    self.paths[step.path] = None
                case _:
                    is_done = self._apply(step)
                    progress |= is_done
                    if isinstance(step, MakeFolder | MoveFolder) and not is_done:
                        missing = (*missing, f"{step.to if isinstance(step, MoveFolder) else step.local}/")
        return progress

    def fails_after_records(self, steps: list[Step]) -> None:
        if any(isinstance(step, Record) for step in steps):
            self.fails(self, steps[0], "recorded")

    def _record(self, step: Record) -> None:
        self.counter += 1
        register, agreed = recorded(
            step, self.registers.get(step.path), (self.id, self.counter), self.me, self.at()
        )
        self.put_register(step.path, register)
        here = self.pending.get(step.local)
        self.agree(step.local, agreed)
        self.paths[step.path] = None
        if agreed is None and here is not None:  # something else is there, of another path
            self._found(step.local, here)

    def _apply(self, step: Step) -> bool:
        print_ = None
        if not isinstance(step, Agree):
            if isinstance(step, Put) and not self.has(self, step.value.content):
                self.paths[step.path] = None
                return False
            try:
                self.fails(self, step, "before")
                print_ = self.disk.apply(step)
                self.fails(self, step, "after")
            except Broken:
                self.paths[step.path] = None
                return False
            except NotSo:
                self.paths[step.path] = None
                for local in (step.local, getattr(step, "to", step.local)):
                    if self.disk.seen.pop(local, None) is None and local in self.agreed_rows:
                        self.disk.seen[local] = self.agreed_rows[local].print
                before = len(self.local)
                self.look()
                for local in (step.local, getattr(step, "to", step.local)):
                    if self.disk.get(local) is None and local in self.agreed_rows:
                        self._found(local, None)
                return len(self.local) > before
        for local, agreed in list(after(step, print_, self)):
            self.agree(local, agreed)
        if isinstance(step, MoveFolder):
            for local in [one for one in self.pending if one.startswith(f"{step.local}/")]:
                here = self.pending.pop(local)
                self._found(step.to + local[len(step.local) :], here)
        self.paths.update(dict.fromkeys(paths_of(step)))
        if isinstance(step, Move | MoveFolder):
            self.pending.pop(step.local, None)
        return True

    def rewrite(self, path: str, value: Value, replaced: Sequence[Dot]) -> None:
        """Write what is not on the disk."""
        self.counter += 1
        value = msgspec.structs.replace(value, by=self.me, at_ms=self.at())
        register = self.registers.get(path, NOTHING)
        self.put_register(path, written(register, replaced, (self.id, self.counter), value))
        self.paths[path] = None

    def has_at(self, path: str, content: bytes) -> bool:
        """Whether the disk has this content at a path, and keeps it."""
        for local in self.by_path.get(path, ()):
            row, entry = self.agreed_rows[local], self.disk.get(local)
            is_same = (
                entry is not None and not entry.is_open and entry.content == content == row.value.content
            )
            if is_same and local not in self.pending and local not in self.leaving:
                return True
        return False

    def free(self, local: str) -> None:
        """Take what somebody promised to have off the disk."""
        step = freeing(self, self.rules, local, self.promised.pop(local))
        if step is not None:
            self.marked.add(local)
            try:
                self.fails(self, step, "before")
                self.disk.apply(step)
                self.fails(self, step, "after")
                self.agree(local, None)
            except (Broken, NotSo):
                self.look()
            self.marked.discard(local)
        self.leaving.pop(local, None)

    def agree(self, local: str, agreed: Agreed | None) -> None:
        old = self.agreed_rows.pop(local, None)
        if old is not None:
            self.by_path[old.path].remove(local)
        if agreed is not None:
            self.agreed_rows[local] = agreed
            self.by_path.setdefault(agreed.path, []).append(local)
        self.pending.pop(local, None)

    def put_register(self, path: str, register: Register) -> None:
        self.registers[path] = register
        self.log.pop(path, None)
        self.log[path] = None

    # ---- others

    def take(self, path: str, register: Register) -> None:
        """Merge what came from another replica."""
        old = self.registers.get(path, NOTHING)
        new = merge(old, register)
        if new != old:
            self.put_register(path, new)
            self.paths[path] = None


def shuffled(random: Random, items: list[str]) -> list[str]:
    """A copy in another order."""
    return random.sample(items, len(items))
