"""Random histories of a live folder on several computers, and what must hold at their end.

Nothing is lost: a content that somebody finished writing stands in a register at the end, unless a later write or
deletion on some computer replaced it where it was shown, or it is a version because it was written in the moment in
which its place was given to another.
"""

import contextlib
from collections.abc import Callable, Collection
from random import Random

from coterie.apps.folders import names
from coterie.apps.folders.planner import Rules
from coterie.apps.folders.register import Kind, Value, copies, dots_shown, winner
from coterie.apps.folders.steps import Hash, Record, Step
from coterie.content.names import ANY_NAME, REFUSED_SOMEWHERE, NameRules
from tests.apps.folders.fake_disk import FORGOTTEN, Broken, FakeDisk
from tests.apps.folders.replica import Crash, Replica, shuffled

NAMES = ["a", "A", "b.txt", "B.txt", "\u00e9", "e\u0301", "c", "aux", "x:y", "dot.", "d"]
DISKS = [
    NameRules(),
    NameRules(),
    NameRules(folds_case=True),
    NameRules(folds_case=True, folds_unicode=True),
    NameRules(folds_case=True, refused=REFUSED_SOMEWHERE, trims=True, devices=True, aliases=True),
]
DAY_MS = 86_400_000
ROUNDS_MAX = 40


class History:
    """One history, told by `seed`."""

    def __init__(
        self,
        seed: int,
        *,
        replicas: int = 0,
        faults: float = 1.0,
        plain: bool = False,
        seldom: bool = False,
        selecting: bool = False,
    ) -> None:
        self.seed = seed
        self.random = Random(seed)
        self.faults = faults
        self.is_seldom = seldom
        self.is_selecting = selecting
        self.now = 1_000
        self.number = 0
        self.finished: dict[bytes, str] = {}
        self.knowingly: set[bytes] = set()
        self.raced: set[bytes] = set()
        self.carried: set[bytes] = set()  # renamed by somebody who did not have it
        self.calm = False
        self.sides: list[int] = []
        self.replicas = [
            self._replica(number, plain=plain)
            for number in range(1, (replicas or self.random.randint(2, 4)) + 1)
        ]
        self.sides = [0] * len(self.replicas)
        self.told: dict[tuple[bytes, bytes], int] = {}
        self.trace: list[str] = []

    def _replica(self, number: int, *, plain: bool) -> Replica:
        rules = ANY_NAME if plain else self.random.choice(DISKS)
        is_windows = bool(rules.refused)
        offset = self.random.choice([0, 0, 0, -3 * DAY_MS, 400 * DAY_MS])
        disk = FakeDisk(
            rules, lambda: (self.now + offset) * 1_000_000, bits=not is_windows, links=not is_windows
        )
        disk.before_replacing = lambda local: self._race(disk, local)
        planned = Rules(
            names=rules,
            bits=disk.bits,
            links=disk.links,
            selected=lambda path, value: value.kind != Kind.FILE or names.leaf(path) not in replica.on_demand,
            name_of=lambda by: f"computer {by[0]}",
        )
        replica = self._made(number, disk, planned, lambda: max(self.now + offset, 0))
        return replica

    def _made(self, number: int, disk: FakeDisk, rules: Rules, at: Callable[[], int]) -> Replica:
        return Replica(number, disk, rules, at, self._fails, self._has)

    # ---- faults

    def _race(self, disk: FakeDisk, local: str) -> None:
        """Somebody writes between the last look and the replacement: the swap keeps what it finds as a version."""
        if not self.calm and self.random.random() < 0.02 * self.faults:
            entry = disk.get(local)
            if entry is not None and entry.kind == Kind.FILE:
                content = self.content()
                self.write(disk, local, content, in_place=True)
                self.raced.add(content)

    def _fails(self, replica: Replica, step: Step, when: str) -> None:
        if self.calm or self.random.random() > 0.12 * self.faults:
            return
        what = self.random.random()
        if what < 0.35 and when == "before":
            self.edit_something(replica)
        elif what < 0.6 and when == "before" and not isinstance(step, Hash | Record):
            raise Broken("full")
        elif what < 0.75:
            raise Crash

    def _has(self, replica: Replica, content: bytes) -> bool:
        side = self.sides[self.replicas.index(replica)]
        for at, other in enumerate(self.replicas):
            if self.sides[at] != side and not self.calm:
                continue
            if content in other.disk.versions:
                return True
            if any(entry.content == content and not entry.is_open for entry in other.disk.entries.values()):
                return True
        return False

    # ---- people

    def content(self) -> bytes:
        """A new content: its first byte is its size."""
        self.number += 1
        return bytes([self.random.randrange(256)]) + self.number.to_bytes(31)

    def write(
        self, disk: FakeDisk, local: str, content: bytes, *, in_place: bool = False, is_open: bool = False
    ) -> None:
        was = disk.write(local, content, in_place=in_place, is_open=is_open)
        if was:
            self.knowingly.add(was)
        if not is_open:
            self.finished[content] = f"{local} at {self.now}"

    def edit_something(self, replica: Replica) -> None:
        """One thing that a program or a person does."""
        self.now += self.random.randrange(3)
        disk = replica.disk
        listing = disk.listing()
        try:
            act = self.random.choices(ACTS, WEIGHTS)[0]
            act(self, disk, sorted(listing))
        except Broken:
            pass

    def some(self, disk: FakeDisk, listing: list[str], *kinds: Kind) -> str | None:
        found = [local for local in listing if (entry := disk.get(local)) is not None and entry.kind in kinds]
        return self.random.choice(found) if found else None

    def fresh(self, disk: FakeDisk, listing: list[str]) -> str:
        folders = [local for local in listing if disk.get(local).kind == Kind.FOLDER and local.count("/") < 2]
        folder = self.random.choice(["", "", *folders])
        name = self.random.choice([one for one in NAMES if disk.may_be(one)])
        return f"{folder}/{name}" if folder else name

    # ---- the run

    def meet(self, one: Replica, other: Replica, *, whole: bool = False) -> bool:
        """`other` is told what changed at `one`, in the order of changes, maybe not all of it."""
        paths = list(one.log)
        if not whole:
            paths = paths[: self.random.randint(0, len(paths))]
        changed = False
        for path in paths:
            before = other.registers.get(path)
            other.take(path, one.registers[path])
            changed |= other.registers.get(path) != before
        return changed

    def run(self, actions: int) -> "History":
        try:
            for _ in range(actions):
                self.act()
            self.settle()
            self.check()
        except Exception as error:
            error.add_note(f"History(seed={self.seed}).run({actions})")
            raise
        return self

    def act(self) -> None:
        self.now += self.random.randrange(1, 50)
        replica = self.random.choice(self.replicas)
        what = self.random.random()
        try:
            if self.is_selecting and self.random.random() < 0.4:
                self._select(replica)
            elif self.is_seldom:
                self._act_seldom(replica, what)
            else:
                self._act(replica, what)
        except Crash:
            replica.forget()
            replica.look()

    def _act(self, replica: Replica, what: float) -> None:
        if what < 0.25:
            for _ in range(self.random.randint(1, 2)):
                self.edit_something(replica)
        elif what < 0.35:
            replica.look()
        elif what < 0.65:
            if self.random.random() < 0.5:
                replica.look()
            replica.work(self.random.choice([1, 2, 60, 60]))
        elif what < 0.94:
            other = self.random.choice(self.replicas)
            if other is not replica and self.side(other) == self.side(replica):
                self.meet(replica, other, whole=self.random.random() < 0.6)
        elif what < 0.97:
            self.sides = [self.random.randrange(4) // 3 for _ in self.replicas]
        else:
            raise Crash

    def _select(self, replica: Replica) -> None:
        """Somebody chooses what is to be here; or what is not to be here leaves, one step after the other."""
        what = self.random.random()
        if what < 0.05:
            replica.leaving.clear()
            replica.promised.clear()
        elif what < 0.15:
            self._rename_unshown(replica)
        elif what < 0.25:
            with contextlib.suppress(Broken):
                for _ in range(4):
                    _create(self, replica.disk, sorted(replica.disk.listing()))
            other = self.random.choice(self.replicas)
            if self.side(other) == self.side(replica):
                for one, two in ((replica, other), (other, replica)):
                    one.look()
                    one.work()
                    self.meet(one, two, whole=True)
        elif what < 0.35:
            wanted = self.random.choice([[], [], NAMES[:6], NAMES])
            replica.on_demand.clear()
            replica.on_demand.update(map(names.key, wanted))
            replica.paths.update(dict.fromkeys(replica.registers))
        elif replica.promised:
            for local in list(replica.promised):
                replica.free(local)
        else:
            for local, row in replica.agreed_rows.items():
                if names.leaf(row.path) in replica.on_demand and row.value.content:
                    replica.leaving[local] = row.value.content
            if self.random.random() < 0.7:
                self._ask(replica)

    def _ask(self, replica: Replica) -> None:
        """Others say which of what leaves they have."""
        for other in self.replicas:
            if other is replica or self.side(other) != self.side(replica):
                continue
            for local, content in replica.leaving.items():
                row = replica.agreed_rows.get(local)
                if row is not None and other.has_at(row.path, content):
                    replica.promised[local] = content

    def _rename_unshown(self, replica: Replica) -> None:
        """Over a drive, somebody renames what is not on his disk."""
        contents = {
            value.content for one in replica.registers.values() for _, value in one.siblings if value.content
        }
        paths = [path for path in replica.unshown_with(contents) if path not in replica.paths]
        if paths:
            path = self.random.choice(paths)
            to = names.join(names.parent(path), names.key(self.random.choice(NAMES)))
            first = winner(replica.registers[path])
            if to not in replica.registers and to not in replica.by_path and first is not None:
                self.carried.add(first[1].content)
                replica.rewrite(to, first[1], ())
                replica.rewrite(path, Value(Kind.GONE), dots_shown(replica.registers[path], first[1]))

    def _act_seldom(self, replica: Replica, what: float) -> None:
        """They meet seldom: long histories apart."""
        if what < 0.4:
            for _ in range(self.random.randint(1, 3)):
                self.edit_something(replica)
        elif what < 0.55:
            replica.look()
        elif what < 0.75:
            replica.work(self.random.choice([1, 1, 2, 60]))
        elif what < 0.92:
            other = self.random.choice(self.replicas)
            if other is not replica and self.side(other) == self.side(replica):
                self.meet(replica, other)
        elif what < 0.96:
            self.sides = [self.random.randrange(2) for _ in self.replicas]
        else:
            raise Crash

    def side(self, replica: Replica) -> int:
        return self.sides[self.replicas.index(replica)]

    def begin_calm(self) -> None:
        """No faults any more, and everything is closed."""
        self.calm = True
        for replica in self.replicas:
            for local, entry in replica.disk.listing().items():
                if entry.is_open:
                    entry.is_open = False
                    self.finished[entry.content] = f"{local}, closed at the end"

    def begin_settling(self) -> None:
        """No faults any more: everything is closed, and everybody begins anew."""
        self.begin_calm()
        for replica in self.replicas:
            replica.forget()
            replica.disk.seen = dict.fromkeys(replica.disk.seen, FORGOTTEN)

    def settle(self) -> None:
        """Everybody looks at everything, and tells everybody, until nothing changes."""
        self.begin_settling()
        for _ in range(ROUNDS_MAX):
            did = False
            for replica in shuffled(self.random, self.replicas):
                replica.look()
                did |= replica.work()
                for other in self.replicas:
                    if other is not replica:
                        did |= self.meet(replica, other, whole=True)
            if not did:
                return
        raise AssertionError("they never settle")

    def check(self) -> None:
        first = self.replicas[0]
        for replica in self.replicas[1:]:
            assert replica.registers == first.registers, "registers differ"
        standing = {
            value.content
            for register in first.registers.values()
            for _, value in register.siblings
            if value.content
        }
        kept = set().union(*(replica.disk.versions for replica in self.replicas))
        for content, where in self.finished.items():
            if (
                content in standing
                or content in self.knowingly
                or (content in self.raced and content in kept)
            ):
                continue
            raise AssertionError(f"lost: {content[-4:].hex()}, written as {where}")
        assert not any(content not in self.finished for content in standing), "a half written file was taken"
        lie = {entry.content for replica in self.replicas for entry in replica.disk.entries.values()}
        missing = standing - kept - lie
        for content in missing - (self.carried & self.knowingly):
            raise AssertionError(f"nobody has {content[-4:].hex()}, written as {self.finished[content]}")
        for replica in self.replicas:
            self.check_disk(replica, missing)

    def check_disk(self, replica: Replica, missing: Collection[bytes]) -> None:
        """The disk shows each value that the registers say, once, and nothing else."""
        shown: dict[tuple[str, bytes, str], int] = {}
        listing = replica.disk.listing()
        for local, entry in listing.items():
            row = replica.agreed_rows.get(local)
            assert row is not None, f"{local} stands on the disk of {replica.id[0]} and is nowhere"
            assert entry.print() == row.print, local
            assert entry.kind != Kind.FILE or entry.content == row.value.content, local
            key = (row.path, entry.content, entry.target)
            shown[key] = shown.get(key, 0) + 1
        assert set(replica.agreed_rows) == set(listing)
        wanted: dict[tuple[str, bytes, str], int] = {}
        lives = {
            path
            for path, register in replica.registers.items()
            if (one := winner(register)) and one[1].kind != Kind.GONE
        }
        folders = {path[:at] for path in lives for at, char in enumerate(path) if char == "/"}
        for path, register in replica.registers.items():
            one = winner(register)
            values = [one[1]] if one is not None and one[1].kind != Kind.GONE else []
            is_folder = path in folders
            if is_folder and (not values or values[0].kind != Kind.FOLDER):
                values = []
            values += [value for _, value in copies(register, beside_folder=is_folder and not values)]
            is_written = one is not None and one[1].kind == Kind.FOLDER
            is_empty = self.is_selecting and (path, b"", "") not in shown  # nothing of it is here
            if is_folder and not is_written and not is_empty:
                wanted[path, b"", ""] = 1
            for value in values:
                if value.kind == Kind.LINK and not replica.disk.links:
                    continue
                wanted[path, value.content, value.target] = 1
            if values and names.leaf(path) in replica.on_demand:  # all of it is here, or nothing
                on_demand = {(path, value.content, "") for value in values if value.kind == Kind.FILE}
                if not on_demand & set(shown):
                    wanted = {key: 1 for key in wanted if key not in on_demand}
        unsure = {key[0] for key in wanted if key[1] in missing}  # what nobody has is waited for
        wanted = {key: 1 for key in wanted if key[0] not in unsure}
        shown = {key: count for key, count in shown.items() if key[0] not in unsure}
        assert shown == wanted, f"the disk of {replica.id[0]} shows {set(shown) ^ set(wanted)}"


# ---- what people and programs do


def _create(history: History, disk: FakeDisk, listing: list[str]) -> None:
    history.write(disk, history.fresh(disk, listing), history.content())


def _edit(history: History, disk: FakeDisk, listing: list[str]) -> None:
    local = history.some(disk, listing, Kind.FILE)
    if local:
        history.write(disk, local, history.content(), in_place=history.random.random() < 0.5)


def _edit_unseen(history: History, disk: FakeDisk, listing: list[str]) -> None:
    """A change that leaves size and dates as they were: coarse clocks do that."""
    local = history.some(disk, listing, Kind.FILE)
    entry = disk.get(local) if local else None
    if entry is not None and not entry.is_open:
        content = bytes([entry.size]) + history.content()[1:]
        history.knowingly.add(entry.content)
        history.finished[content] = f"{local}, unseen"
        entry.content = content


def _begin(history: History, disk: FakeDisk, listing: list[str]) -> None:
    local = history.some(disk, listing, Kind.FILE) or history.fresh(disk, listing)
    entry = disk.get(local)
    if entry is None or not entry.is_open:
        history.write(disk, local, history.content(), in_place=True, is_open=True)


def _finish(history: History, disk: FakeDisk, listing: list[str]) -> None:
    for local in listing:
        entry = disk.get(local)
        if entry is not None and entry.is_open:
            history.write(disk, local, history.content(), in_place=True)


def _delete(history: History, disk: FakeDisk, listing: list[str]) -> None:
    local = history.some(disk, listing, Kind.FILE, Kind.LINK)
    if local:
        history.knowingly.update(disk.delete(local))


def _delete_folder(history: History, disk: FakeDisk, listing: list[str]) -> None:
    local = history.some(disk, listing, Kind.FOLDER)
    if local:
        history.knowingly.update(disk.delete(local))


def _folder(history: History, disk: FakeDisk, listing: list[str]) -> None:
    disk.make_folder(history.fresh(disk, listing))


def _rename(history: History, disk: FakeDisk, listing: list[str]) -> None:
    local = history.some(disk, listing, Kind.FILE, Kind.FOLDER, Kind.FOLDER, Kind.LINK)
    if local:
        disk.rename(local, history.fresh(disk, listing))


def _recase(history: History, disk: FakeDisk, listing: list[str]) -> None:
    local = history.some(disk, listing, Kind.FILE, Kind.FOLDER)
    if local:
        folder, _, name = local.rpartition("/")
        disk.rename(local, f"{folder}/{name.swapcase()}" if folder else name.swapcase())


def _copy(history: History, disk: FakeDisk, listing: list[str]) -> None:
    local = history.some(disk, listing, Kind.FILE)
    entry = disk.get(local) if local else None
    to = history.fresh(disk, listing)
    if entry is not None and disk.get(to) is None and not entry.is_open:
        disk.write(to, entry.content)


def _bit(history: History, disk: FakeDisk, listing: list[str]) -> None:
    local = history.some(disk, listing, Kind.FILE)
    entry = disk.get(local) if local else None
    if entry is not None and disk.bits:
        entry.executable, entry.ctime_ns = not entry.executable, disk.clock()


def _touch(history: History, disk: FakeDisk, listing: list[str]) -> None:
    local = history.some(disk, listing, Kind.FILE)
    entry = disk.get(local) if local else None
    if entry is not None:
        entry.mtime_ns = entry.ctime_ns = disk.clock()


def _link(history: History, disk: FakeDisk, listing: list[str]) -> None:
    disk.make_link(history.fresh(disk, listing), history.random.choice(["a", "b.txt"]))


def _file_for_folder(history: History, disk: FakeDisk, listing: list[str]) -> None:
    local = history.some(disk, listing, Kind.FOLDER)
    if local:
        history.knowingly.update(disk.delete(local))
        history.write(disk, local, history.content())


def _folder_for_file(history: History, disk: FakeDisk, listing: list[str]) -> None:
    local = history.some(disk, listing, Kind.FILE)
    if local:
        history.knowingly.update(disk.delete(local))
        disk.make_folder(local)
        history.write(disk, f"{local}/c", history.content())


Act = Callable[[History, FakeDisk, list[str]], None]
_ACTS: list[tuple[Act, int]] = [
    (_create, 12), (_edit, 14), (_edit_unseen, 1), (_begin, 2), (_finish, 4), (_delete, 5), (_delete_folder, 3),
    (_folder, 6), (_rename, 8), (_recase, 3), (_copy, 2), (_bit, 2), (_touch, 2), (_link, 2), (_file_for_folder, 2),
    (_folder_for_file, 2),
]  # fmt: skip
ACTS = [act for act, _ in _ACTS]
WEIGHTS = [weight for _, weight in _ACTS]
