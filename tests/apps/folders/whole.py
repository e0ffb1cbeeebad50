"""Histories of whole copies of a live folder: the planner, the book with its database, and the exchange by messages.

Computers write, crash between any two steps, lose connections with all that is under way, hear things twice, in other
orders and late, are apart for long, and have their home put back from a copy. The disk is the fake one.

With `overlaps` threads work beside each other as they really do: what others send is merged, and what they are told is
read, between any two steps of the work on the disk, and while that waits for its turn in the database. A crash may be
a power cut then, which takes what the database has not brought to the disk.
"""

import contextlib
import sqlite3
from collections import Counter, deque
from collections.abc import Callable, Iterator
from functools import partial
from random import Random
from typing import Any

from coterie.apps.folders import batches, names, whole_moves
from coterie.apps.folders import exchange as x
from coterie.apps.folders.book import FolderBook, OutdatedHome
from coterie.apps.folders.planner import Rules, paths_left, paths_of
from coterie.apps.folders.records import unpack_agreed
from coterie.apps.folders.register import Kind, Register, unpack
from coterie.apps.folders.steps import (
    Agree,
    Agreed,
    Hash,
    MakeFolder,
    MoveFolder,
    Put,
    Record,
    RemoveFolder,
    Step,
    Wait,
)
from coterie.apps.folders.store import STEPS, FolderRow, FoldersStore
from coterie.identity import PeerId
from coterie.machine import PeerDown, PeerUp, Received, Send
from tests.apps.folders.fake_disk import FORGOTTEN, Broken, FakeDisk, NotSo
from tests.apps.folders.histories import ROUNDS_MAX as SETTLE_MAX
from tests.apps.folders.histories import History
from tests.apps.folders.replica import ROUNDS_MAX, Crash

FOLDER = b"f" * 16
ENTRIES = 3  # in one message here
COPIES_MAX = 6
UNDER_WAY_MAX = 5_000  # messages in a history before it counts as never ending
Job = Callable[[], Callable[[], list[Any]]]
"""What a thread does; then, on the event loop, what it brings: events."""


class MemoryDatabase:
    """What `Database` does, in memory; it can be put back to an earlier moment."""

    def __init__(self) -> None:
        self.waits: Callable[[], None] = lambda: None
        """Called while a transaction waits for its turn."""
        self.durable = b""
        """What a power cut leaves."""
        self._db = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        for step in STEPS:
            self._db.executescript(step)

    def execute(self, query: str, values: Any = ()) -> list[Any]:
        return self._db.execute(query, values).fetchall()

    def sync(self) -> None:
        self.durable = self.saved()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        if self._db.in_transaction:  # one within another joins it
            yield self._db
            return
        self.waits()
        self._db.execute("BEGIN")
        try:
            yield self._db
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def saved(self) -> bytes:
        return self._db.serialize()

    def put_back(self, saved: bytes) -> None:
        self._db.deserialize(saved)


class Whole:
    """One computer. Its database and disk last; the rest is forgotten when it crashes."""

    def __init__(
        self,
        number: int,
        disk: FakeDisk,
        rules: Rules,
        at: Callable[[], int],
        fails: Callable[["Whole", Step, str], None],
        has: Callable[["Whole", bytes], bool],
    ) -> None:
        self.number = number
        self.me = bytes([number]) * 32
        self.peer = PeerId(self.me)
        self.disk, self.rules, self.at, self.fails, self.has = disk, rules, at, fails, has
        self.on_demand: set[str] = set()  # all of it is to be here
        self.steps = 0
        self.renewed = 0
        self.moves: Counter[str] = Counter()
        self.sends: Callable[[Whole, PeerId, Any], None] = lambda *_: None
        self.meanwhile: Callable[[Whole], None] | None = None  # what other threads do; None: there are none
        self.jobs: list[Callable[[], None]] = []
        self.db = MemoryDatabase()
        self.store = FoldersStore(self.db)  # type: ignore[arg-type]
        row = FolderRow(
            number=0, id=FOLDER, path="", replica=bytes([number]) * 16, counter=0, record=b"", state="on", settings=b"",
            created=0.0,
        )  # fmt: skip
        self.store.add(row)
        self.db.sync()
        self.up: set[PeerId] = set()
        self.forget()

    @property
    def id(self) -> bytes:
        return self.me[:16]

    def forget(self) -> None:
        """It begins anew with what is in its database."""
        (self.row,) = self.store.folders()
        self.book = FolderBook(self.store, self.row)
        self.local: dict[str, None] = {}
        self.put_off: dict[str, None] = {}
        self.to_move: list[tuple[str, str]] = []
        self.paths: dict[str, None] = dict.fromkeys(self.book.undone())
        self.disk.seen = dict(self.book.known())
        self.jobs.clear()
        self._meet_anew()

    def _meet_anew(self) -> None:
        replicas = self.book.data.replicas()
        known = {replica: (PeerId(peer), last) for replica, peer, last, _ in replicas}
        takes_moves = self.number % 3 != 0  # the third computer knows no moves of folders as such
        self.core = x.Exchange(FOLDER, self.row.replica, self.book.seq, known, takes_moves=takes_moves)

    def renew(self) -> None:
        """Others know more of this copy than it does."""
        self.renewed += 1
        new = bytes([self.number]) * 8 + self.renewed.to_bytes(8)
        self.book.renew(new)
        self.forget()
        self.look()

    # ---- for the checks

    @property
    def registers(self) -> dict[str, Register]:
        return {path: unpack(raw) for path, raw in self.book.data.registers_below("")}

    @property
    def agreed_rows(self) -> dict[str, Agreed]:
        return {local: unpack_agreed(raw) for local, raw in self.book.data.agreed_below("")}

    # ---- the disk, as `turns` and `bringing` do it

    def look(self) -> None:
        found, moved = self.disk.scan()
        for local, to in self._folders_renamed(found, moved):
            if self.book.moved_here(self.rules, local, to, self.me, self.at()):
                self.moves["here"] += 1
                found = {one: here for one, here in found.items() if not _is_in(one, local, to)}
                self._ask_again()
                self.paths.update(dict.fromkeys([one for one in [names.parent(local)] if one]))
                self.feed(x.News(self.book.seq))
        self.paths.update(dict.fromkeys(self.book.freed(found)))
        self.local.update(dict.fromkeys(self.book.found(found, moved)))
        if found:
            self._ask_again()

    def _folders_renamed(self, found: Any, moved: dict[str, str]) -> list[tuple[str, str]]:
        """Folders that are elsewhere, with all that was and is in them, as `scanning` finds them."""
        pairs = []
        agreed = self.agreed_rows
        for to, here in found.items():
            if here is None or here.print.kind != Kind.FOLDER or to in agreed:
                continue
            for local, old in agreed.items():
                is_it = old.print.kind == Kind.FOLDER and old.print.inode == here.print.inode
                if not is_it or local not in found or found[local] is not None or to.startswith(f"{local}/"):
                    continue
                before = {
                    one[len(local) :]: row.print for one, row in agreed.items() if one.startswith(f"{local}/")
                }
                now = {
                    one[len(to) :]: seen.print
                    for one, seen in found.items()
                    if seen and one.startswith(f"{to}/")
                }
                if before == now and all(one.kind in (Kind.FILE, Kind.FOLDER) for one in now.values()):
                    pairs.append((local, to))
        return pairs[:1]

    def _move_as_told(self) -> bool:
        """What `turns._move` does with one."""
        if not self.to_move:
            return False
        source, target = self.to_move.pop(0)
        ready = self.book.to_move(self.rules, source, target)
        if ready is not None and self._apply(ready.step) and self.book.moves.is_done(ready):
            self.moves["there"] += 1
            self.paths.update(dict.fromkeys([*ready.paths, *(one for one in [names.parent(source)] if one)]))
        else:
            for path in (source, target):
                self.paths.update(dict.fromkeys(self.book.data.paths_at(path)))
        return True

    def _ask_again(self) -> None:
        self.paths.update(self.put_off)
        self.put_off = {}

    def work(self, rounds: int = ROUNDS_MAX) -> bool:
        """Plan and do until nothing is left. Returns whether something was done."""
        did = False
        steps: list[Step] = []
        for _ in range(rounds):
            did |= self._move_as_told()
            if not self.local and not self.paths:
                return did
            local, paths = list(self.local), list(self.paths)
            self.local, self.paths = {}, {}
            steps = self.book.plan(self.rules, local, paths)
            self.steps += len(steps)
            self.put_off.update(dict.fromkeys(step.path for step in steps if isinstance(step, Wait)))
            did |= self._do(steps)
        if rounds == ROUNDS_MAX:
            raise AssertionError(f"it never ends: {steps}")
        return did

    def _do(self, steps: list[Step]) -> bool:
        notes = [step for step in steps if isinstance(step, Record | Agree)]
        self._others_work()
        if notes:
            noted = self.book.note(notes, self.me, self.at())
            self.local.update(dict.fromkeys(noted.local))
            self.paths.update(dict.fromkeys(noted.paths))
            self._ask_again()
            self.fails(self, notes[0], "recorded")
            self.feed(x.News(self.book.seq))
        progress = bool(notes)
        missing: tuple[str, ...] = ()
        for step in steps:
            match step:
                case Record() | Agree() | Wait():
                    continue
                case Hash(local):
                    here = self.disk.hash(local)
                    self.paths.update(dict.fromkeys(paths_of(step)))
                    if here is not None and here.content is not None:
                        self.book.hashed(local, here.print, here.content)
                        self.local[local] = None
                        progress = True
                case _ if step.local.startswith(missing):
                    self._plan_later(step)
                case _:
                    is_done = self._apply(step)
                    progress |= is_done
                    if isinstance(step, MakeFolder | MoveFolder) and not is_done:
                        missing = (*missing, f"{step.to if isinstance(step, MoveFolder) else step.local}/")
        return progress

    def _apply(self, step: Any) -> bool:
        if isinstance(step, Put) and not self.has(self, step.value.content):
            self.put_off[step.path] = None
            return False
        try:
            self.fails(self, step, "before")
            print_ = self.disk.apply(step)
            self.fails(self, step, "after")
        except Broken:
            self._plan_later(step)
            return False
        except NotSo as error:
            self._plan_later(step)
            if not isinstance(step, RemoveFolder):  # the folder is as it was, but for what is in it
                self.disk.seen[str(error)] = FORGOTTEN
            self.look()
            return False
        self.db.waits = self._others_work
        try:
            again = self.book.did([(step, print_)])
        finally:
            self.db.waits = lambda: None
        self.local.update(dict.fromkeys(again))
        self.paths.update(dict.fromkeys(paths_of(step)))
        self._ask_again()
        return True

    def _plan_later(self, step: Step) -> None:
        self.put_off.update(dict.fromkeys(paths_left(step, self.book.tree())))

    def _others_work(self) -> None:
        if self.meanwhile is not None:
            waits, self.db.waits = self.db.waits, lambda: None
            self.meanwhile(self)
            self.db.waits = waits

    # ---- the others, as `telling` does it

    def feed(self, event: Any) -> None:
        waiting = deque(self.core.handle(event, 0.0))
        while waiting:
            output = waiting.popleft()
            match output:
                case Send(peer=PeerId() as peer, message=message):
                    self.sends(self, peer, message)
                case x.Read():
                    waiting.extend(self._started(partial(self._read, output)))
                case x.Merge():
                    waiting.extend(self._started(partial(self._merge, output)))
                case x.Has(peer, replica, seq):
                    self.book.data.save_seen(replica, bytes(peer), seq)
                case x.Outdated():
                    raise OutdatedHome("more is known there")

    def _read(self, wanted: x.Read) -> Callable[[], list[Any]]:
        found = self.book.next_move(wanted.replica, wanted.first) if wanted.is_move_taken else None
        if found is not None:
            return lambda: [x.Batch(wanted.peer, wanted.first, found[0], (), found[1])]
        last, entries = self.book.batch(wanted.replica, wanted.first)
        return lambda: [x.Batch(wanted.peer, wanted.first, last, entries)]

    def _merge(self, wanted: x.Merge) -> Callable[[], list[Any]]:
        paths: list[str] = []
        if wanted.move is not None:
            if self.book.merge_move(wanted.replica, wanted.move) is None:
                self.moves["refused"] += 1
                return lambda: [x.Unmoved(wanted.peer, wanted.last)]
            self.moves["merged"] += 1
        else:
            paths = self.book.merge(wanted.replica, wanted.entries)

        def merged() -> list[Any]:
            self.to_move += self.book.taken_moves()
            self.paths.update(dict.fromkeys(paths))
            self.book.data.save_known(wanted.replica, bytes(wanted.peer), wanted.last)
            self.book.data.sync()
            return [x.Merged(wanted.peer, wanted.replica, wanted.last), x.News(self.book.seq)]

        return merged

    def _started(self, job: Job) -> list[Any]:
        """Outputs of what a thread brings; those of one that works beside others come later."""
        if self.meanwhile is None:
            return [output for event in job()() for output in self.core.handle(event, 0.0)]

        def brings(events: Callable[[], list[Any]]) -> None:
            for event in events():
                self.feed(event)

        self.jobs.append(lambda: self.jobs.append(partial(brings, job())))
        return []

    def hear(self, peer: PeerId, message: Any) -> bool:
        """What a message brings; False: the stream broke, for this one goes on as another copy."""
        return self.goes_on(lambda: self.feed(Received(peer, message)))

    def goes_on(self, work: Callable[[], None]) -> bool:
        """Do this; False: this one goes on as another copy."""
        try:
            work()
        except OutdatedHome:
            self.renew()
            return False
        return True


def _is_in(local: str, *folders: str) -> bool:
    return local in folders or local.startswith(tuple(f"{one}/" for one in folders))


class WholeHistory(History):
    """See `History`: 2 to 6 computers, told by `seed`."""

    def __init__(self, seed: int, *, replicas: int = 0, homes: bool = True, overlaps: bool = False) -> None:
        self.overlaps = Random(f"{seed} threads") if overlaps else None
        self.is_between = False
        self.streams: dict[tuple[int, int], deque[Any]] = {}
        self.under_way = 0
        self.under_way_max = UNDER_WAY_MAX
        self.saved: dict[int, bytes] = {}
        self.homes = homes
        self.was_put_back = False
        super().__init__(seed, replicas=replicas or Random(f"{seed} computers").randint(2, COPIES_MAX))

    def _made(self, number: int, disk: FakeDisk, rules: Rules, at: Callable[[], int]) -> Any:
        whole = Whole(number, disk, rules, at, self._fails, self._has)
        whole.sends = self._send
        if self.overlaps is not None:
            whole.meanwhile = self._meanwhile
        return whole

    def run(self, actions: int) -> "WholeHistory":
        bounds = batches.ENTRIES_MAX, whole_moves.PATHS_MIN
        batches.ENTRIES_MAX, whole_moves.PATHS_MIN = ENTRIES, 2
        try:
            super().run(actions)
        finally:
            batches.ENTRIES_MAX, whole_moves.PATHS_MIN = bounds
        return self

    def check(self) -> None:
        if self.was_put_back:  # it knows no more what was deleted there, and others were never told
            self.carried |= self.knowingly
        super().check()

    # ---- streams: one each way, in order; what is under way is lost when they break

    def _send(self, one: Whole, peer: PeerId, message: Any) -> None:
        stream = self.streams.get((one.number, bytes(peer)[0]))
        if stream is not None:
            stream.append(message)

    def connect(self, one: Whole, other: Whole) -> None:
        if (one.number, other.number) in self.streams or self.side(one) != self.side(other):
            return
        for a, b in ((one, other), (other, one)):
            self.streams[a.number, b.number] = deque()
        for a, b in ((one, other), (other, one)):
            a.feed(PeerUp(b.peer))

    def cut(self, one: Whole, other: Whole) -> None:
        for a, b in ((one, other), (other, one)):
            if self.streams.pop((a.number, b.number), None) is not None:
                a.feed(PeerDown(b.peer))

    def deliver(self, count: int) -> bool:
        """So many of the messages that are under way."""
        for _ in range(count):
            busy = sorted(pair for pair, stream in self.streams.items() if stream and self._listens(*pair))
            busy += [(0, one.number) for one in self.replicas if one.jobs]
            if not busy:
                return False
            self.under_way += 1
            if self.under_way > self.under_way_max:
                raise AssertionError("they never come to an end")
            a, b = self.random.choice(busy)
            if not a:
                self._do_job(self.replicas[b - 1])
                continue
            stream = self.streams[a, b]
            message = (
                stream[0] if not self.calm and self.random.random() < 0.05 else stream.popleft()
            )  # or twice
            one, other = self.replicas[a - 1], self.replicas[b - 1]
            if not other.hear(one.peer, message):
                self._restarted(other)
        return True

    def _listens(self, a: int, b: int) -> bool:
        """Whether `b` takes the next message of `a`: not while it merges what came before."""
        return not self.replicas[b - 1].core.is_behind(self.replicas[a - 1].peer)

    def _do_job(self, one: Whole) -> bool:
        if one.goes_on(one.jobs.pop(self.random.randrange(len(one.jobs)))):
            return True
        self._restarted(one)
        return False

    def _meanwhile(self, one: Whole) -> None:
        """Other threads of this computer work, while the one that works on its disk waits."""
        assert self.overlaps is not None
        if self.is_between or self.overlaps.random() < 0.3:
            return
        if not self.calm and self.overlaps.random() < 0.4:
            self.is_between = True
            self._elsewhere(one)
            self.is_between = False
        for _ in range(self.overlaps.randrange(12)):
            ways = [
                (a, b)
                for (a, b), stream in sorted(self.streams.items())
                if b == one.number and stream and self._listens(a, b)
            ]
            if one.jobs:
                is_same = self._do_job(one)
            elif ways:
                a, b = self.overlaps.choice(ways)
                is_same = one.hear(self.replicas[a - 1].peer, self.streams[a, b].popleft())
                if not is_same:
                    self._restarted(one)
            else:
                return
            if not is_same:
                raise Crash  # what was under way on the disk is begun anew

    def _elsewhere(self, one: Whole) -> None:
        """Somebody works at another computer that is connected with this one, which tells it."""
        others = [other for other in self.replicas if (other.number, one.number) in self.streams]
        if others:
            other = self.random.choice(others)
            try:
                self.edit_something(other)
                other.look()
                other.work(2)
            except Crash:
                self._crash(other)
            while other.jobs and self._do_job(other):
                continue

    def _restarted(self, one: Whole) -> None:
        for other in self.replicas:
            if other is not one and (one.number, other.number) in self.streams:
                self.streams.pop((one.number, other.number))
                self.streams.pop((other.number, one.number))
                other.feed(PeerDown(one.peer))

    # ---- what happens

    def act(self) -> None:
        self.now += self.random.randrange(1, 50)
        one = self.random.choice(self.replicas)
        try:
            self._act(one, self.random.random())
        except Crash:
            self._crash(one)

    def _crash(self, one: Whole, saved: bytes | None = None) -> None:
        if saved is not None:
            one.db.put_back(saved)
            self.was_put_back = True
        elif self.overlaps is not None and self.overlaps.random() < 0.5:
            one.db.put_back(one.db.durable)
        one.db.sync()
        one.forget()
        if saved is not None:
            one.renew()  # the tag on its disk is another
        one.look()
        self._restarted(one)

    def _act(self, replica: Any, what: float) -> None:
        if what < 0.22:
            for _ in range(self.random.randint(1, 2)):
                self.edit_something(replica)
        elif what < 0.32:
            replica.look()
        elif what < 0.58:
            if self.random.random() < 0.5:
                replica.look()
            replica.work(self.random.choice([1, 2, 60, 60]))
        elif what < 0.86:
            self.deliver(self.random.choice([1, 3, 10, 30]))
        elif what < 0.94:
            other = self.random.choice(self.replicas)
            if other is not replica:
                (self.connect if self.random.random() < 0.7 else self.cut)(replica, other)
        elif what < 0.96:
            self._part()
        elif what < 0.97 and self.homes:
            self.saved[replica.number] = replica.db.saved()
        elif what < 0.975 and replica.number in self.saved:
            self._crash(replica, self.saved.pop(replica.number))
        else:
            raise Crash

    def _part(self) -> None:
        self.sides = [self.random.randrange(4) // 3 for _ in self.replicas]
        for one in self.replicas:
            for other in self.replicas:
                if self.side(one) != self.side(other):
                    self.cut(one, other)

    def settle(self) -> None:
        self.sides = [0] * len(self.replicas)
        if self.overlaps is not None:  # nobody begins anew: what nobody was told of shows
            self.begin_calm()
            self._settle()
            for one in self.replicas[1:]:
                assert one.registers == self.replicas[0].registers, "a change is told to nobody"
            for one in self.replicas:
                self.check_shown(one)
        self.begin_settling()
        self.streams.clear()
        self._settle()

    def check_shown(self, one: Whole) -> None:
        """Nothing stays on the disk that no register has: of each path no more is shown than stands."""
        registers = one.registers
        shown: dict[str, list[str]] = {}
        for local, row in one.agreed_rows.items():
            shown.setdefault(row.path, []).append(local)
        for path, locals_ in shown.items():
            living = (
                [value for _, value in registers[path].siblings if value.kind != Kind.GONE]
                if path in registers
                else []
            )
            values = {(value.kind, value.content, value.target) for value in living}
            is_folder = one.book.data.lives_below(path) and not any(
                value.kind == Kind.FOLDER for value in living
            )
            assert len(locals_) <= len(values) + is_folder, f"{locals_} are shown of {path}"

    def _settle(self) -> None:
        for _ in range(SETTLE_MAX):
            did = False
            for replica in self.random.sample(self.replicas, len(self.replicas)):
                replica.look()
                replica._ask_again()
                try:
                    did |= replica.work()
                except Crash:  # it goes on as another copy
                    self._crash(replica)
                for other in self.replicas:
                    if other is not replica:
                        self.connect(replica, other)
                did |= self.deliver(UNDER_WAY_MAX) or any(
                    one.paths or one.local or one.to_move for one in self.replicas
                )
            if not did:
                return
        raise AssertionError("they never settle")


class MovingHistory(WholeHistory):
    """Folders with files in them are renamed often, there and back, on plain disks for the most part."""

    def _replica(self, number: int, *, plain: bool) -> Any:
        return super()._replica(number, plain=plain or self.random.random() < 0.8)

    def _act(self, replica: Any, what: float) -> None:
        if self.random.random() > 0.25:
            super()._act(replica, what)
            return
        disk = replica.disk
        full = [one for one, entry in disk.listing().items() if entry.kind == Kind.FOLDER and disk.below(one)]
        with contextlib.suppress(Broken):
            if not full or self.random.random() < 0.2:
                folder = self.random.choice(["", "", *(f"{one}/" for one in full)]) + self.random.choice(
                    "pqrs"
                )
                disk.make_folder(folder)
                for name in "xyz":
                    self.write(disk, f"{folder}/{name}", self.content())
                return
            if self.random.random() < 0.7:
                self._talk()
            folder = self.random.choice(sorted(full))
            to = names.join(
                self.random.choice(["", names.parent(folder), *full]), self.random.choice("pqrstu")
            )
            replica.look()
            if self.random.random() < 0.8:
                replica.work()
            if self.random.random() < 0.2:
                self.edit_something(replica)
            disk.rename(folder, to)
            if self.random.random() < 0.2:
                self.edit_something(replica)
            replica.look()
            if self.random.random() < 0.6:
                self._talk()

    def _talk(self) -> None:
        """Those who can meet tell each other much, and do it."""
        self.under_way_max = 10 * UNDER_WAY_MAX
        for _ in range(3):
            for one in self.replicas:
                for other in self.replicas:
                    if other is not one:
                        self.connect(one, other)
            self.deliver(60)
            for one in self.replicas:
                try:
                    one.work()
                except Crash:
                    self._crash(one)
