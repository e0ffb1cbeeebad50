"""Folders that move as a whole, in the rows of one live folder: written, merged and told as one. Blocking.

A rename of a folder with 50,000 files is 100,000 writes. Where everything in it is as it was agreed on, they follow
from a few numbers (`folder_move`): they are made in one pass over the rows here, and in one at whoever is told.
Anything else (a change that is not recorded yet, a conflict, patterns that go by places, a disk that renames) goes the
way of all changes, path by path.
"""

import threading
import time
from collections import deque
from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from coterie.apps.folders import folder_move, names
from coterie.apps.folders.crowding import Crowding
from coterie.apps.folders.folder_move import FolderMove
from coterie.apps.folders.moving_rows import MovingRows
from coterie.apps.folders.planner import Rules
from coterie.apps.folders.records import pack_agreed, unpack_agreed
from coterie.apps.folders.register import Kind, Register, Value, unpack
from coterie.apps.folders.steps import Agreed, DiskStep, Here, MoveFolder, Print
from coterie.apps.folders.store import EVENTS_MAX, AgreedRow, FolderData
from coterie.content.names import ANY_NAME
from coterie.errors import PeerError

PATHS_MIN = 64  # fewer go path by path: that is as quick. Guess
TOLD_MAX = 64  # moves that are known to be such, the last ones; others are told path by path


class Told(NamedTuple):
    """A move that changed what has the numbers behind `first` up to `last` here. `source`: the replica it came from."""

    first: int
    last: int
    source: bytes
    move: FolderMove


class Ready(NamedTuple):
    """What is agreed on once a folder was renamed on this disk, and the paths that are to be planned then."""

    step: MoveFolder
    rows: list[AgreedRow]
    top: Agreed
    paths: list[str]


class WholeMoves:
    """Of one folder. Whoever calls `record` or `merge` holds the lock of `FolderBook` for writing."""

    def __init__(self, data: FolderData, rows: MovingRows, crowding: Crowding) -> None:
        self._crowding = crowding
        self._data = data
        self._rows = rows
        self._told: deque[Told] = deque(maxlen=TOLD_MAX)
        self._lock = threading.Lock()
        self._ready: Ready | None = None

    def forget(self) -> None:
        """Numbers and writes are called otherwise from now on."""
        with self._lock:
            self._told.clear()

    # ---- what is told

    def next(self, replica: bytes, first: int) -> tuple[int, FolderMove] | None:
        """The move that changed what comes right behind `first`, if nothing else has since, and up to where.

        None for what came from `replica` itself.
        """
        with self._lock:
            found = next((one for one in self._told if one.first == first and one.source != replica), None)
        if found is None or self._rows.count_numbers(first, found.last) != found.last - first:
            return None
        return found.last, found.move

    def begins_behind(self, first: int) -> int:
        """Up to which number, at most, is told path by path what changed behind `first`; 0: all."""
        with self._lock:
            return min((one.first for one in self._told if one.first > first), default=0)

    # ---- here

    def record(
        self,
        rules: Rules,
        local: str,
        to: str,
        *,
        replica: bytes,
        counter: int,
        by: bytes,
        at_ms: int,
    ) -> int:
        """The owner renamed the folder `local` to `to`, in which all is as it was seen last: write that down.

        Returns how many writes that was; 0: it is to be recorded path by path.
        """
        move = FolderMove(local, to, replica, counter + 1, 1, by, at_ms, bytes(folder_move.DIGEST_BYTES))
        if folder_move.fault(move) or not self._may_move(rules, to) or not rules.can_write:
            return 0
        rows = self._rows.moving(local, to)
        shown = [(one, unpack_agreed(raw)) for one, raw in self._rows.agreed_tree(local)]
        if not PATHS_MIN <= len(rows) <= folder_move.PATHS_MAX or len(shown) != len(rows):
            return 0
        move = msgspec.structs.replace(move, count=len(rows), digest=folder_move.digest_of(rows))
        places = folder_move.places(move, rows)
        if places is None or folder_move.too_long(move, rows) or self._rows.lives_at(to):
            return 0
        agreed: list[AgreedRow] = []
        for place, (one, was) in zip(places, shown, strict=True):
            if not (place.path == one == was.path) or was.is_copy or was.dots != (place.dot,):
                return 0
            if not was.value.equals(place.old):
                return 0
            agreed.append(_agreed_row(place.target, place.new, was))
        more = sum(not row.there for row in rows)
        if not self._crowding.has_room(more):
            return 0
        self._rows.save(move, places, source=b"", agreed=agreed, counter=counter + 2 * move.count)
        self._crowding.came(more)
        self._told_as(move, b"")
        return 2 * move.count

    def merge(self, move: FolderMove, source: bytes) -> bool | None:
        """What `source` told: make the same writes here. False: they were made here before; None: they cannot be made.

        Raises:
            PeerError: no folder can move so.
            LimitExceeded: the folder has as many paths as one may have.
        """
        with self._lock:
            if any(one.move == move for one in self._told):
                return False
        if fault := folder_move.fault(move):
            raise PeerError(f"a folder of a live folder that {fault}")
        rows = self._rows.moving(move.source, move.target)
        if len(rows) != move.count or folder_move.digest_of(rows) != move.digest:
            return None
        places = folder_move.places(move, rows)
        if places is None or self._rows.lives_at(move.target):
            return None
        if folder_move.too_long(move, rows):
            raise PeerError("a folder of a live folder that moves to where its files cannot be")
        now = time.time()
        events = [
            (now, place.path, "removed", move.by, row.body)
            for place, row in zip(places[-EVENTS_MAX:], rows[-EVENTS_MAX:], strict=True)
        ]
        more = sum(not row.there for row in rows)
        self._crowding.check(more)
        self._rows.save(move, places, source=source, events=events)
        self._crowding.came(more)
        self._told_as(move, source)
        return True

    def _told_as(self, move: FolderMove, source: bytes) -> None:
        last = self._data.seq
        with self._lock:
            self._told.append(Told(last - 2 * move.count, last, source, move))

    # ---- on the disk

    def to_do(self, rules: Rules, source: str, target: str) -> Ready | None:
        """How the folder `source` becomes `target` on this disk, as it was written; None: path by path."""
        self._ready = None
        if (
            not self._may_move(rules, target)
            or self._data.agreed([target])
            or self._rows.agreed_count(target)
        ):
            return None
        shown = self._rows.agreed_tree(source)
        now = dict(self._rows.living(target))
        if not shown or shown[0][0] != source or target not in now:
            return None
        rows: list[AgreedRow] = []
        top: Agreed | None = None
        for local, raw in shown:
            was = unpack_agreed(raw)
            to = target + local[len(source) :]
            body = now.pop(to, None)
            register = unpack(body) if body is not None else None
            if register is None or was.path != local or was.is_copy or len(register.siblings) != 1:
                return None
            value = register.siblings[0][1]
            if not value.equals(was.value) or value.executable != was.value.executable:
                return None
            top = top or was
            rows.append(_agreed_row(to, register, was))
        if top is None or top.value.kind != Kind.FOLDER:
            return None
        first = unpack(dict(self._rows.living(target, below=False))[target])
        dots, value = (first.siblings[0][0],), first.siblings[0][1]
        self._ready = Ready(MoveFolder(source, target, top.print, target, value, dots), rows, top, list(now))
        return self._ready

    def did(self, step: DiskStep, seen: Print | None) -> bool:
        """The disk did this; whether it was what `to_do` said, so that it is written down now."""
        ready = self._ready
        if not isinstance(step, MoveFolder) or ready is None or ready.step != step or seen is None:
            return False
        top = Agreed(step.path, step.dots, step.value, seen)
        rows = [AgreedRow(step.to, step.path, int(Kind.FOLDER), b"", pack_agreed(top)), *ready.rows[1:]]
        self._rows.agree(step.local, rows)
        self._ready = None
        return True

    def is_done(self, ready: Ready) -> bool:
        """Whether that was done on the disk."""
        return self._ready is not ready

    def _may_move(self, rules: Rules, to: str) -> bool:
        """Whether a folder can have this name here, with all that is in it."""
        if rules.names != ANY_NAME or rules.ignores_places or rules.ignored(to, True):
            return False
        above = names.parent(to)
        if not above:
            return True
        raw = self._data.agreed([above]).get(above)
        agreed = unpack_agreed(raw) if raw is not None else None
        return agreed is not None and agreed.path == above and agreed.value.kind == Kind.FOLDER


def touches(changed: Mapping[str, Here | None], *folders: str) -> bool:
    """Whether something at or below one of these local names is not as it was agreed on."""
    starts = tuple(f"{one}/" for one in folders)
    return any(local in folders or local.startswith(starts) for local in changed)


def _agreed_row(to: str, register: Register, was: Agreed) -> AgreedRow:
    """What is agreed on at its new place of what moved: the date and the bit stay as they are on the disk."""
    dot, new = register.siblings[0]
    old = was.value
    value = Value(
        new.kind,
        new.content,
        new.size,
        old.mtime_ns,
        old.executable,
        new.target,
        new.by,
        new.at_ms,
        new.depth,
    )
    return AgreedRow(to, to, int(new.kind), new.content, pack_agreed(Agreed(to, (dot,), value, was.print)))
