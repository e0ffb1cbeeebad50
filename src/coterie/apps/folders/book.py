"""What one computer knows of one live folder: registers, what was agreed, what its disk has. Blocking.

`changed` has only those local names where the disk is not as agreed; all else is read from the database where it is
needed. Two threads come here: the one that works on the disk, and those that merge what others sent. `merge` and what
writes registers take turns; the rest belongs to the first.
"""

import threading
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from coterie.apps.folders import names, planner
from coterie.apps.folders.batches import batch
from coterie.apps.folders.chosen_rows import ChosenRows
from coterie.apps.folders.crowding import Crowding
from coterie.apps.folders.file_content import content_of
from coterie.apps.folders.folder_move import FolderMove
from coterie.apps.folders.moving_rows import MovingRows
from coterie.apps.folders.names import path_fault
from coterie.apps.folders.records import pack_agreed, unpack_agreed
from coterie.apps.folders.register import (
    NOTHING,
    Kind,
    Register,
    Value,
    bounded,
    copies,
    dots_shown,
    merge,
    pack,
    renumbered,
    resolved,
    unpack,
    winner,
    written,
)
from coterie.apps.folders.steps import (
    Agree,
    Agreed,
    DiskStep,
    Hash,
    Here,
    Move,
    MoveFolder,
    Print,
    Record,
    RemoveFolder,
    Step,
)
from coterie.apps.folders.store import AgreedRow, FolderData, FolderRow, FoldersStore, RegisterRow
from coterie.apps.folders.whole_moves import Ready, WholeMoves, touches
from coterie.errors import PeerError

EventLine = tuple[float, str, str, bytes, bytes]
NO_CONTENT = b""
EMPTY = content_of(b"")
EMPTY_MS = 60_000  # so long an empty file is one that is being made; guess


class RowsTree:
    """See `steps.Tree`: the rows of a batch are read together, others one by one."""

    def __init__(
        self, data: FolderData, changed: Mapping[str, Here | None], *, is_partial: bool = False
    ) -> None:
        """`is_partial`: not all contents are to be here."""
        self._data = data
        self._is_partial = is_partial
        self._changed = changed
        self._registers: dict[str, Register | None] = {}
        self._agreed: dict[str, Agreed | None] = {}
        self._shown: dict[str, list[str]] = {}

    def load(self, paths: Sequence[str], locals_: Sequence[str]) -> None:
        """Read these together."""
        missing = [local for local in locals_ if local not in self._agreed]
        wanted = list(paths)
        found = self._data.agreed(missing)
        for local in missing:
            raw = found.get(local)
            agreed = self._agreed[local] = unpack_agreed(raw) if raw is not None else None
            wanted.append(agreed.path if agreed is not None else names.key(local))
        paths = [path for path in dict.fromkeys(wanted) if path not in self._shown]
        self.load_registers(paths)
        for path in paths:
            self._shown[path] = []
        for local, raw in self._data.agreed_at(paths):
            agreed = unpack_agreed(raw)
            self._agreed[local] = agreed
            self._shown[agreed.path].append(local)

    def load_registers(self, paths: Sequence[str]) -> None:
        """Read those of these together."""
        missing = [path for path in paths if path not in self._registers]
        found = self._data.registers(missing)
        for path in missing:
            raw = found.get(path)
            self._registers[path] = unpack(raw) if raw is not None else None

    def register(self, path: str) -> Register | None:
        if path not in self._registers:
            raw = self._data.register(path)
            self._registers[path] = unpack(raw) if raw is not None else None
        return self._registers[path]

    def agreed(self, local: str) -> Agreed | None:
        if local not in self._agreed:
            raw = self._data.agreed([local]).get(local)
            self._agreed[local] = unpack_agreed(raw) if raw is not None else None
        return self._agreed[local]

    def here(self, local: str) -> Here | None:
        if local in self._changed:
            return self._changed[local]
        agreed = self.agreed(local)
        return agreed.here if agreed is not None else None

    def shown(self, path: str) -> Sequence[str]:
        if path not in self._shown:
            self._shown[path] = [local for local, _ in self._data.agreed_at([path])]
        return sorted(self._shown[path])

    def unshown_with(self, contents: Collection[bytes]) -> list[str]:
        return self._data.unshown_with(list(contents)) if self._is_partial else []

    def lives_below(self, path: str) -> bool:
        return self._data.lives_below(path)

    def agreed_below(self, local: str) -> Iterator[tuple[str, Agreed]]:
        return ((one, unpack_agreed(raw)) for one, raw in self._data.agreed_below(local))

    def names_in(self, local: str) -> Iterator[str]:
        start = f"{local}/" if local else ""
        found = {one for one in self._data.agreed_in(local)}
        found |= {one for one in self._changed if one.startswith(start) and "/" not in one[len(start) :]}
        return iter(sorted(found))


class Noted(NamedTuple):
    """What follows from what was noted. `local`: to be looked at as new, for something else stands there now.

    `paths`: to be planned.
    """

    local: list[str]
    paths: list[str]


def _unsettled(step: Record, register: Register) -> list[str]:
    """What is to be planned once this is recorded: nothing where all that there is of the path is what was recorded.

    A folder that was kept for what is in it may go with that.
    """
    if len(register.siblings) > 1 or step.is_copy:
        return [step.path]
    above = names.parent(step.path) if step.value.kind == Kind.GONE else ""
    return [above] if above else []


def _is_moved(was: Print, now: Print) -> bool:
    """Whether it is the file that was known elsewhere: it may have been changed there since, and moved then."""
    return (was.inode, was.size, was.mtime_ns) == (now.inode, now.size, now.mtime_ns)


class FolderBook:
    """Of one folder."""

    def __init__(self, store: FoldersStore, row: FolderRow) -> None:
        self.data = FolderData(store, row)
        self.changed: dict[str, Here | None] = {}
        self._store = store
        self._replica = row.replica
        self._counter = row.counter
        self._writing = threading.Lock()
        self.crowding = Crowding(self.data.count())
        self._to_move: list[tuple[str, str]] = []
        self.moves = WholeMoves(self.data, MovingRows(store, row.number, self.data), self.crowding)
        self.chosen = ChosenRows(store.db, row.number)
        self.is_partial = False
        """Whether not all contents are to be here."""
        self._kept: dict[str, str] = {}  # folders that are to go, but for what is in them: their paths

    @property
    def seq(self) -> int:
        """Of what changed last."""
        return self.data.seq

    def tree(self) -> RowsTree:
        """What the planner reads; for one plan."""
        return RowsTree(self.data, self.changed, is_partial=self.is_partial)

    # ---- the disk

    def known(self) -> Iterable[tuple[str, Print]]:
        """What the disk had last, for `Disk.remember`."""
        for local, raw in self.data.agreed_below(""):
            yield local, unpack_agreed(raw).print

    def agreed(self, local: str) -> Agreed | None:
        """What is agreed of one local name."""
        raw = self.data.agreed([local]).get(local)
        return unpack_agreed(raw) if raw is not None else None

    def last_by(self, path: str) -> bytes:
        """Who wrote what a path is now; empty: nobody."""
        raw = self.data.register(path)
        first = winner(unpack(raw)) if raw is not None else None
        return first[1].by if first is not None else b""

    def agreed_at(self, path: str) -> list[tuple[str, Agreed]]:
        """What is agreed of one path, by local name."""
        return [(local, unpack_agreed(raw)) for local, raw in self.data.agreed_at([path])]

    def agreed_of(self, paths: Sequence[str]) -> list[tuple[str, Agreed]]:
        """What is agreed of several paths, by local name."""
        return [(local, unpack_agreed(raw)) for local, raw in self.data.agreed_at(paths)]

    def stands(self, files: Sequence[tuple[str, bytes]]) -> set[tuple[str, bytes]]:
        """Those of the (path, content) that the folder has still."""
        known = self.data.registers([path for path, _ in files])
        found = set()
        for path, content in files:
            siblings = unpack(known[path]).siblings if path in known else ()
            if any(value.content == content for _, value in siblings):
                found.add((path, content))
        return found

    def undone(self) -> list[str]:
        """Paths where the disk may not have yet what the register says."""
        return self.data.undone()

    def found(self, found: Mapping[str, Here | None], moved: Mapping[str, str]) -> list[str]:
        """What a look at the disk found; the local names to be looked at by the planner."""
        known = self._known_at(list(moved.values()))
        for local, here in found.items():
            was = known.get(moved.get(local, ""))
            is_known = here is not None and was is not None and _is_moved(was.print, here.print)
            self.changed[local] = Here(here.print, was.content) if is_known and here and was else here
        return list(found)

    def hashed(self, local: str, seen: Print, content: bytes) -> None:
        """The content of a file is known."""
        self.changed[local] = Here(seen, content)

    def plan(self, rules: planner.Rules, local: Sequence[str], paths: Sequence[str]) -> list[Step]:
        """What is to be done for what the disk reported, and for registers that changed."""
        tree = self.tree()
        tree.load(paths, [*local, *paths])
        steps = planner.plan(tree, rules, local=local, paths=paths)
        for one in local:
            known = tree.agreed(one)
            if one in self.changed and self.changed[one] == (known.here if known is not None else None):
                del self.changed[one]  # it came and went, or is as it was
        ends = {step.local: step.path for step in steps if isinstance(step, RemoveFolder)}
        self._kept = {one: path for one, path in self._kept.items() if path not in paths}
        full = self._with_more(ends, tree, rules) if ends else set()
        self._kept.update((local, ends[local]) for local in full)
        steps = self.crowding.within(steps, lambda path: tree.register(path) is None)
        return [step for step in steps if isinstance(step, Hash | Record | Agree) or step.local not in full]

    def coming_contents(self) -> set[bytes]:
        """Contents of files that were seen on the disk, and may not be recorded yet."""
        return {here.content for here in self.changed.values() if here is not None and here.content}

    def freed(self, found: Mapping[str, Here | None]) -> list[str]:
        """The paths of folders that had to stay for what was in them, and from which something is gone now."""
        folders = {names.parent(local) for local, here in found.items() if here is None} if self._kept else ()
        return [self._kept[folder] for folder in folders if folder in self._kept]

    def _with_more(self, ends: Collection[str], tree: RowsTree, rules: planner.Rules) -> set[str]:
        """Those of the folders that are to go in which there is something that stays: it is left out, or no file."""
        inside = [local for local, here in self.changed.items() if here is not None and _within(local, ends)]
        known = self.data.agreed(inside)
        stays = [local for local in inside if local not in known]
        for top in ends:
            if names.parent(top) not in ends:
                stays += [
                    local
                    for local, agreed in tree.agreed_below(top)
                    if rules.ignored(agreed.path, agreed.value.kind == Kind.FOLDER)
                    and tree.here(local) is not None
                ]
        return {folder for local in stays for folder in _within(local, ends)}

    def note(self, steps: Sequence[Record | Agree], by: bytes, at_ms: int) -> Noted:
        """Write down what the owner changed here, and what needs no work on the disk."""
        if not steps:
            return Noted([], [])
        with self._writing:
            paths = [step.path for step in steps if isinstance(step, Record)]
            known = {path: unpack(raw) for path, raw in self.data.registers(paths).items()}
            had = frozenset(known)
            agreed: dict[str, Agreed | None] = {}
            changed: dict[str, Register] = {}
            counter = self._counter
            again: dict[str, None] = {}
            kept = set(self._kept.values())
            for step in steps:
                if isinstance(step, Agree):
                    agreed[step.local] = step.agreed
                    again.update(dict.fromkeys(planner.paths_of(step)))
                    continue
                counter += 1
                dot = (self._replica, counter)
                register, agreed[step.local] = planner.recorded(step, known.get(step.path), dot, by, at_ms)
                known[step.path] = changed[step.path] = register
                again.update(dict.fromkeys(_unsettled(step, register)))
                if kept and step.value.kind != Kind.GONE:  # a folder that stays for what is in it is one, now
                    again.update((one, None) for one in names.above(step.path) if one in kept)
            rows = [self._row(path, register, NO_CONTENT) for path, register in changed.items()]
            stands = {
                local: here
                for local, one in agreed.items()
                if one is None and (here := self.changed.get(local)) is not None
            }
            alone = [
                (one.path, one.value.content)
                for one in steps
                if isinstance(one, Record) and one.value.content
            ]
            self._save(agreed, rows=rows, counter=counter if paths else 0, alone=alone)
            edited = [path for path in changed if path in had]
            shown = self.data.agreed_at(
                edited
            )  # a copy that is about to go: nothing else would look at it again
            again.update((unpack_agreed(raw).path, None) for local, raw in shown if local not in agreed)
            self._counter = counter
            self.crowding.came(len(changed.keys() - had))
        if any(one is not None and not one.dots for one in agreed.values()):
            self.data.sync()  # what gave its dots away goes next: no deletion by the owner, after a power cut too
        self.changed.update(stands)
        return Noted(list(stands), list(again))

    def moved_here(self, rules: planner.Rules, local: str, to: str, by: bytes, at_ms: int) -> bool:
        """The owner renamed a folder with all that is in it; False: that is to be planned path by path."""
        with self._writing:
            if self.is_partial or self._kept or touches(self.changed, local, to):
                return False
            writes = self.moves.record(
                rules, local, to, replica=self._replica, counter=self._counter, by=by, at_ms=at_ms
            )
            self._counter += writes
        return writes > 0

    def to_move(self, rules: planner.Rules, source: str, target: str) -> Ready | None:
        """How the disk does a move that was merged; None: it is to be planned path by path."""
        if self.is_partial or self._kept or touches(self.changed, source, target):
            return None
        return self.moves.to_do(rules, source, target)

    def did(
        self, done: Sequence[tuple[DiskStep, Print | None]], contents: Iterable[tuple[bytes, bytes]] = ()
    ) -> list[str]:
        """These steps were done; what each made looks like that. Returns the local names to look at again."""
        again: list[str] = []
        if len(done) == 1 and self.moves.did(*done[0]):
            return again
        tree = self.tree()
        tree.load((), [step.local for step, _ in done if isinstance(step, Move | MoveFolder)])
        agreed: dict[str, Agreed | None] = {}
        for step, seen in done:
            if isinstance(step, MoveFolder):
                before = tree.agreed(step.local)
                start = len(before.path) if before is not None else 0
                below = tree.agreed_below(step.local)
                tree.load_registers([step.path + one.path[start:] for _, one in below])
            of_step = list(planner.after(step, seen, tree))
            agreed.update(of_step)
            if not of_step and seen is not None:  # a folder that nobody wrote, for what is in it
                self.changed[step.local] = Here(seen)
                again.append(step.local)
            if isinstance(step, MoveFolder):
                again += self._moved_along(step, agreed)
        self._save(agreed, contents=contents)
        return again

    def _moved_along(self, step: MoveFolder, agreed: Mapping[str, Agreed | None]) -> list[str]:
        """What is new in a folder that moved is so at its new place; the new local names."""
        start = f"{step.local}/"
        below = [one for one in self.changed if one.startswith(start) and one not in agreed]
        moved = {step.to + one[len(step.local) :]: self.changed.pop(one) for one in below}
        self.changed.update(moved)
        return list(moved)

    def _save(
        self,
        agreed: Mapping[str, Agreed | None],
        *,
        rows: Sequence[RegisterRow] = (),
        counter: int = 0,
        contents: Iterable[tuple[bytes, bytes]] = (),
        alone: Iterable[tuple[str, bytes]] = (),
    ) -> None:
        self.data.save(
            rows,
            agreed=[_agreed_row(local, one) for local, one in agreed.items() if one is not None],
            gone=[local for local, one in agreed.items() if one is None],
            counter=counter,
            contents=contents,
            alone=alone,
        )
        for local in agreed:
            self.changed.pop(local, None)

    def _known_at(self, locals_: Sequence[str]) -> dict[str, Here]:
        """What was there last, as far as it is known."""
        known = {local: unpack_agreed(raw).here for local, raw in self.data.agreed(locals_).items()}
        for local in locals_:
            here = self.changed.get(local)
            if here is not None:
                known[local] = here
        return known

    # ---- the others

    def merge(self, replica: bytes, entries: Sequence[tuple[str, bytes]]) -> list[str]:
        """Take in what `replica` sent; the paths that are not as before.

        Raises:
            PeerError: it sent what cannot be, or writes of this replica that were never made: see `is_outdated`.
            LimitExceeded: there would be too many paths.
        """
        news: list[RegisterRow] = []
        events: list[EventLine] = []
        with self._writing:
            known = self.data.registers([path for path, _ in entries])
            now = time.time()
            for path, raw in entries:
                if fault := path_fault(path):
                    raise PeerError(f"a path of a live folder that {fault}")
                theirs = unpack(raw)
                if dict(theirs.context).get(self._replica, 0) > self._counter:
                    raise OutdatedHome("others know writes of this computer that it does not know itself")
                before = unpack(known[path]) if path in known else NOTHING
                after = bounded(merge(before, theirs))
                if after == before:
                    continue
                news.append(self._row(path, after, replica if after == theirs else b""))
                event = _event(now, path, before, after)
                if event is not None:
                    events.append(event)
            more = sum(row.path not in known for row in news)
            self.crowding.check(more)
            if news:
                self.data.save(news, events=events)
                self.crowding.came(more)
        return [row.path for row in news]

    def merge_move(self, replica: bytes, move: FolderMove) -> bool | None:
        """As `WholeMoves.merge`. Raises as `merge`."""
        with self._writing:
            if move.replica == self._replica and move.counter + 2 * move.count - 1 > self._counter:
                raise OutdatedHome("others know writes of this computer that it does not know itself")
            is_new = self.moves.merge(move, replica)
            if is_new:
                self._to_move.append((move.source, move.target))
        return is_new

    def taken_moves(self) -> list[tuple[str, str]]:
        """(path before, path now) of folders that were merged to have moved, and are to move on the disk."""
        with self._writing:
            moves, self._to_move = self._to_move, []
        return moves

    def next_move(self, replica: bytes, first: int) -> tuple[int, FolderMove] | None:
        """As `WholeMoves.next`; it outlives a power cut here."""
        found = self.moves.next(replica, first)
        if found is not None:
            self.data.sync()
        return found

    def batch(self, replica: bytes, first: int) -> tuple[int, list[tuple[str, bytes]]]:
        """What changed behind `first`, but for what came from `replica` as it is: (up to which number, entries)."""
        return batch(self.data, replica, first, last=self.moves.begins_behind(first))

    # ---- by people

    def settle(self, values: Mapping[str, Value]) -> None:
        """Write a value for each path, instead of all that it has. Raises nothing: who calls has looked."""
        with self._writing:
            known = self.data.registers(list(values))
            counter = self._counter
            rows = []
            for path, value in values.items():
                counter += 1
                register = unpack(known[path]) if path in known else NOTHING
                rows.append(self._row(path, resolved(register, (self._replica, counter), value), b""))
            alone = [(path, value.content) for path, value in values.items() if value.content]
            self.data.save(rows, counter=counter, alone=alone)
            self._counter = counter

    def rewrite(self, writes: Sequence[tuple[str, Value, Value | None]]) -> None:
        """For each (path, old, new): write `new` instead of `old`, which somebody saw there; None: of nothing there.

        A copy is replaced as one: what has the name stays.
        """
        with self._writing:
            known = {
                path: unpack(raw) for path, raw in self.data.registers([one[0] for one in writes]).items()
            }
            counter = self._counter
            changed: dict[str, Register] = {}
            for path, new, old in writes:
                counter += 1
                register = known.get(path, NOTHING)
                first = winner(register)
                is_copy = old is not None and first is not None and not first[1].equals(old)
                replaced = dots_shown(register, old or Value(Kind.GONE), is_copy=is_copy)
                dot = (self._replica, counter)
                known[path] = changed[path] = written(register, replaced, dot, new, is_copy=is_copy)
            alone = [(path, new.content) for path, new, _ in writes if new.content]
            self.data.save([self._row(*one, b"") for one in changed.items()], counter=counter, alone=alone)
            self._counter = counter

    def renew(self, replica: bytes) -> None:
        """Go on as `replica`: the numbers of this one may have been given twice.

        What nobody else is known to have counts as written by the new one: else it would count for others as what was
        written under the same number before.
        """
        with self._writing:
            seen = self.data.seen_max()
            known = (unpack(raw) for raw in self.data.own_up_to(seen))
            sent = max((n for one in known for (by, n), _ in one.siblings if by == self._replica), default=0)
            unsent = {path: unpack(raw) for _, path, raw, _ in self.data.since(seen, -1)}
            mine = sorted(
                dot
                for register in unsent.values()
                for dot, _ in register.siblings
                if dot[0] == self._replica and dot[1] > sent
            )
            dots = {dot: (replica, number) for number, dot in enumerate(mine, 1)}
            new = {path: renumbered(one, self._replica, sent, dots) for path, one in unsent.items()}
            shown = [(local, unpack_agreed(raw)) for local, raw in self.data.agreed_at(list(unsent))]
            self._replica, self._counter = replica, len(dots)
            self.moves.forget()
            self.data.save(
                [self._row(path, register, b"") for path, register in new.items()],
                agreed=[
                    _agreed_row(
                        local,
                        msgspec.structs.replace(one, dots=tuple(dots.get(dot, dot) for dot in one.dots)),
                    )
                    for local, one in shown
                ],
                counter=self._counter,
                replica=replica,
            )
            self.data.sync()  # the old id is given up for good

    def _row(self, path: str, register: Register, source: bytes) -> RegisterRow:
        first = winner(register)
        value = first[1] if first is not None else Value(Kind.GONE)
        is_own = any(dot[0] == self._replica for dot, _ in register.siblings)
        return RegisterRow(
            path,
            int(value.kind),
            value.size,
            value.content,
            len(copies(register)),
            is_own,
            source,
            pack(register),
        )


class OutdatedHome(PeerError):
    """The home was put back from a copy: this replica gave numbers already that it would give again."""


def _within(local: str, folders: Collection[str]) -> list[str]:
    """Those of the folders that a local name lies in."""
    found = []
    while local := names.parent(local):
        if local in folders:
            found.append(local)
    return found


def _agreed_row(local: str, agreed: Agreed) -> AgreedRow:
    return AgreedRow(local, agreed.path, int(agreed.value.kind), agreed.value.content, pack_agreed(agreed))


def _event(now: float, path: str, before: Register, after: Register) -> EventLine | None:
    """What somebody did to something that was here; None: it is new, or looks as before."""
    old, new = winner(before), winner(after)
    if old is None or old[1].kind == Kind.GONE or new is None or old[1].equals(new[1]):
        return None
    if (
        new[1].kind == old[1].kind == Kind.FILE
        and old[1].content == EMPTY
        and old[1].by == new[1].by
        and new[1].at_ms - old[1].at_ms < EMPTY_MS
    ):
        return None  # a program that makes a file before it writes it
    what = "removed" if new[1].kind == Kind.GONE else "changed"
    return now, path, what, new[1].by, pack(before)
