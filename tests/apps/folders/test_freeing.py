"""What is on demand: not put on the disk, taken off it without counting as a deletion, and never the last to go."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from coterie.apps.folders.book import FolderBook
from coterie.apps.folders.chosen_rows import Leaving
from coterie.apps.folders.disk import Disk
from coterie.apps.folders.freeing import Freeing, proof_of
from coterie.apps.folders.hints import ALL
from coterie.apps.folders.planner import Rules
from coterie.apps.folders.register import Kind, Value, dots_shown, winner
from coterie.apps.folders.steps import Record
from coterie.apps.folders.store import FolderRow, FoldersStore
from coterie.identity import PeerId
from tests.apps.folders.fake_disk import FakeDisk
from tests.apps.folders.histories import History
from tests.apps.folders.live import Live, value_of
from tests.apps.folders.replica import Crash, Replica
from tests.apps.folders.whole import MemoryDatabase

SEEDS = range(60)
ONE, TWO = b"\x01" * 32, b"\x02" * 32


class Two:
    """Two computers, the second with nothing but what is asked for."""

    def __init__(self, *, first_too: bool = False) -> None:
        self.now = 0
        self.fails = ""
        self.first, self.second = (
            self._replica(1, everything=not first_too),
            self._replica(2, everything=False),
        )

    def _replica(self, number: int, *, everything: bool) -> Replica:
        disk = FakeDisk(Rules().names, lambda: self.now)
        rules = Rules(
            selected=lambda path, value: everything or value.kind != Kind.FILE or path in wanted,
        )
        wanted: set[str] = set()
        replica = Replica(number, disk, rules, lambda: self.now, self._fails, lambda one, content: True)
        replica.on_demand = wanted  # what is wanted all the same
        return replica

    def _fails(self, replica: Replica, step: object, when: str) -> None:
        if self.fails == when:
            self.fails = ""
            raise Crash

    def settle(self) -> None:
        """Everybody looks, and tells everything."""
        self.now += 1
        for _ in range(5):
            for one, other in ((self.first, self.second), (self.second, self.first)):
                one.look()
                one.work()
                for path in one.log:
                    other.take(path, one.registers[path])
                other.work()

    def get(self, path: str) -> None:
        """The second wants something after all."""
        self.second.on_demand.add(path)
        self.second.paths[path] = None
        self.settle()
        self.second.on_demand.clear()

    def free(self, local: str) -> None:
        """The second takes it off its disk again, as the first has it."""
        row = self.second.agreed_rows[local]
        assert self.first.has_at(row.path, row.value.content)
        self.second.promised[local] = row.value.content
        self.second.free(local)


def test_what_is_on_demand_comes_when_wanted_stays_up_to_date_and_leaves_without_a_deletion() -> None:
    two = Two()
    two.first.disk.write("a", ONE)
    two.settle()
    assert two.second.disk.listing() == {}
    assert "a" in two.second.registers
    two.get("a")
    two.first.disk.write("a", TWO)
    two.settle()
    assert two.second.disk.get("a").content == TWO
    two.free("a")
    two.settle()
    assert two.second.disk.listing() == {}
    assert two.second.disk.versions == {ONE}, "what leaves is no version: it shall make room"
    assert two.first.disk.get("a").content == TWO


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_crash_while_it_leaves_is_no_deletion(when: str) -> None:
    two = Two()
    two.first.disk.write("a", ONE)
    two.settle()
    two.get("a")
    two.fails = when
    with pytest.raises(Crash):
        two.free("a")
    two.second.forget()
    two.settle()
    assert two.first.disk.get("a").content == ONE
    assert (two.second.disk.get("a") is None) == (when == "after")


def test_a_power_cut_while_it_leaves_is_no_deletion(tmp_path: Path) -> None:
    """What was kept of it just before is on the disk, as the end of the file is."""
    (tmp_path / "top").mkdir()
    live = Live(tmp_path / "top", tmp_path / "home")
    (live.path / "a").write_bytes(b"one")
    live.scan()
    db = MemoryDatabase()
    store = FoldersStore(db)  # type: ignore[arg-type]
    row = FolderRow(
        number=0, id=b"f" * 16, path="", replica=b"r" * 16, counter=0, record=b"", state="on", settings=b"", created=0.0
    )  # fmt: skip
    store.add(row)
    book = FolderBook(store, row)
    value = value_of(b"one")
    book.note([Record("a", "a", (), value, live.print("a"))], b"b" * 32, 5)
    book.chosen.leave([Leaving("a", value.content)])
    db.sync()

    async def ask(_: PeerId, files: Sequence[tuple[str, bytes]], nonce: bytes) -> Sequence[bytes]:
        return [proof_of(live.path / path, nonce) for path, _ in files]

    async def between(work: Callable[[], None]) -> None:
        work()

    def freeing(book: FolderBook, disk: Disk) -> Freeing:
        rules = Rules(selected=lambda path, value: False)
        peers = [PeerId(b"p" * 32)]
        return Freeing(
            book.chosen, book, disk, rules=lambda: rules, peers=lambda: peers, ask=ask, between=between
        )

    class Cut(Disk):
        def apply(self, *args: Any) -> Any:
            super().apply(*args)
            raise Crash

    with pytest.raises(Crash):
        asyncio.run(freeing(book, Cut(live.path, b"f" * 16, b"r" * 16, live.versions))._round())
    assert live.files() == {}
    db.put_back(db.durable)
    book = FolderBook(store, store.folders()[0])
    freeing(book, live.disk).recover()
    live.disk.remember(book.known())
    assert live.disk.scan(ALL).found == {}, "or it would be told to everybody as deleted"
    assert book.last_by("a") == b"b" * 32


def test_a_file_that_was_changed_meanwhile_is_not_taken_away() -> None:
    two = Two()
    two.first.disk.write("a", ONE)
    two.settle()
    two.get("a")
    two.second.disk.write("a", TWO)
    two.free("a")
    two.settle()
    assert two.first.disk.get("a").content == TWO == two.second.disk.get("a").content


def test_what_is_to_be_here_is_not_taken_away() -> None:
    two = Two()
    two.second.disk.write("a", ONE)
    two.settle()
    two.second.on_demand.add("a")
    two.free("a")
    assert two.second.disk.get("a").content == ONE


def test_a_conflict_is_not_taken_away() -> None:
    two = Two()
    two.second.disk.write("a", ONE)
    two.second.look()
    two.second.work()
    two.first.disk.write("a", TWO)
    two.settle()
    for local in list(two.second.agreed_rows):
        two.second.promised[local] = two.second.agreed_rows[local].value.content
        two.second.free(local)
    assert {entry.content for entry in two.second.disk.entries.values()} == {ONE, TWO}


def test_a_name_changed_by_who_does_not_have_it_moves_it_where_it_lies() -> None:
    two = Two(first_too=True)
    two.first.disk.write("a", ONE)
    two.settle()
    assert two.second.disk.listing() == {}
    value = winner(two.second.registers["a"])[1]
    two.second.rewrite("b", value, ())
    two.second.rewrite("a", Value(Kind.GONE), dots_shown(two.second.registers["a"], value))
    two.first.take("b", two.second.registers["b"])
    two.first.work()
    two.first.take("a", two.second.registers["a"])  # what happened first may come alone
    two.first.work()
    two.settle()
    assert {local: entry.content for local, entry in two.first.disk.listing().items()} == {"b": ONE}
    assert two.first.disk.versions == set()


def test_random_histories_with_contents_on_demand_converge_and_lose_nothing() -> None:
    for seed in SEEDS:
        History(seed, selecting=True).run(100)


def test_without_saying_no_to_others_while_something_leaves_contents_are_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def has_at(self: Replica, path: str, content: bytes) -> bool:
        rows = [self.agreed_rows[local] for local in self.by_path.get(path, ())]
        return any(row.value.content == content for row in rows)

    monkeypatch.setattr(Replica, "has_at", has_at)
    with pytest.raises(AssertionError, match="nobody has"):
        for seed in range(290, 640):
            History(seed, selecting=True).run(120)
