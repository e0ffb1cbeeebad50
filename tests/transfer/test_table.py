"""The table of transfers with kinds that only remember what they are told."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import pytest

from coterie.access.people import People
from coterie.content.writer import Partial
from coterie.errors import LimitExceeded, NotFound, UsageError
from coterie.identity import SecretKey
from coterie.transfer import table as table_module
from coterie.transfer.describe import plain_detail
from coterie.transfer.results import Problem, Received, TransferDetail, TransferLine
from coterie.transfer.states import TransferState
from coterie.transfer.table import Entry, Table


class Record(msgspec.Struct):
    id: str
    created: float
    state: str = TransferState.RUNNING
    note: str = ""
    down: float = 0.0
    up: float = 0.0
    priority: str = "normal"


class Kind:
    """Transfers that do nothing."""

    running = 1

    def __init__(self, *records: Record, begins_as: TransferState = TransferState.RUNNING) -> None:
        self.begins_as = begins_as
        self.records = {record.id: record for record in records}
        self.told: list[Any] = []

    def entries(self) -> Iterable[Entry]:
        return list(self.records.values())

    def save(self, transfer: str) -> None:
        self.told.append(("save", transfer, self.records[transfer].state))

    def under_way(self, transfer: str) -> None:
        return None

    def line(self, transfer: str) -> TransferLine:
        return TransferLine(transfer, self.records[transfer].state, 1, 2, f"/{transfer}")

    async def detail(self, transfer: str) -> TransferDetail:
        return plain_detail(self.records[transfer], self.line(transfer))

    async def halt(self, transfer: str, note: str) -> None:
        self.told.append(("halt", transfer, note))

    def go_on(self, transfer: str) -> None:
        self.told.append(("go on", transfer))

    async def drop(self, transfer: str) -> str:
        del self.records[transfer]
        return "ended"

    def adjust(self, transfer: str) -> None:
        self.told.append(("adjust", transfer))

    def partials(self) -> Sequence[Partial]:
        return ()


def table_of(*kinds: Kind) -> Table:
    table = Table(People())
    for kind in kinds:
        table.register(kind)
    return table


def test_orders_reach_the_kind_of_the_transfer_and_are_kept() -> None:
    async def main() -> None:
        other = Kind(Record("a", 2.0))
        kind = Kind(Record("b", 1.0), begins_as=TransferState.SEEDING)
        table = table_of(other, kind)
        assert [line.id for line in table.lines()] == ["b", "a"]  # by when they began
        assert table.running == 2
        assert (await table.pause("b")).did == "paused"
        assert (await table.resume("b")).did == "resumed"
        assert kind.records["b"].state == TransferState.SEEDING
        assert kind.told == [
            ("halt", "b", "paused"),
            ("save", "b", "paused"),
            ("save", "b", "seeding"),
            ("go on", "b"),
        ]
        assert (await table.limit("b", down=-5, up=7)).id == "b"
        assert (kind.records["b"].down, kind.records["b"].up) == (0, 7)
        assert (await table.set_priority("b", "high")).priority == "high"
        assert kind.told.count(("adjust", "b")) == 2
        assert (await table.cancel("b")).did == "ended"
        assert [line.id for line in table.lines()] == ["a"]
        assert other.told == []

    asyncio.run(main())


def test_what_is_done_takes_no_order_and_says_where_it_is() -> None:
    async def main() -> None:
        table = table_of(Kind(Record("a", 1.0, state=TransferState.DONE)))
        for order in (table.pause, table.resume):
            with pytest.raises(UsageError, match="is done: /a"):
                await order("a")

    asyncio.run(main())


def test_unknown_transfers_and_priorities_are_refused() -> None:
    async def main() -> None:
        table = table_of(Kind(Record("a", 1.0)))
        for ask in (table.pause, table.resume, table.cancel, table.detail):
            with pytest.raises(NotFound, match="no transfer 'zz'"):
                await ask("zz")
        with pytest.raises(UsageError, match="high, normal, low"):
            await table.set_priority("a", "urgent")

    asyncio.run(main())


def test_an_id_is_one_of_a_kind_in_all_kinds() -> None:
    table = table_of(Kind(Record("a", 1.0)), Kind(Record("b", 1.0)))
    made = iter(["a", "b", "c"])
    assert table.new_id(lambda: next(made)) == "c"


def test_a_kind_whose_app_ended_is_gone() -> None:
    kind = Kind(Record("a", 1.0))
    table = table_of(kind)
    table.withdraw(kind)
    table.withdraw(kind)
    assert table.lines() == []


def test_kinds_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_module, "KINDS_MAX", 2)
    table = table_of(Kind(), Kind())
    with pytest.raises(LimitExceeded, match="2 kinds"):
        table.register(Kind())


def test_a_giver_is_called_as_in_the_list_of_peers() -> None:
    stranger, people = SecretKey(bytes(32)).peer_id, People()
    people.hear_names(lambda: {stranger: "dora"})
    kind = Kind(Record("a", 1.0))
    kind.line = lambda transfer: TransferLine(transfer, "running", 1, 2, "/a", stranger.short)  # type: ignore[method-assign]
    table = Table(people)
    table.register(kind)
    assert [line.peer for line in table.lines()] == [f"dora~{str(stranger)[:3]}"]


def test_the_ways_of_a_transfer_are_said_in_words() -> None:
    line = TransferLine("a", "running", 1, 2, "/a", "BitTorrent", ways={"BitTorrent": 1})
    assert ", from BitTorrent (1 computer)" in line.text()
    line = TransferLine("a", "running", 1, 2, "/a", "anna", ways={"direct": 2, "relay": 1}, health=3)
    assert "(2 computers direct, 1 computer relay; health 3)" in line.text()


def test_an_update_of_which_something_did_not_come_says_so() -> None:
    failed = [Problem("a.txt", "it is gone")]
    told = Received("id", "/x", 6, 3_500, 0, 0.1, is_update=True, failed=failed, missing=1).text()
    assert told.splitlines()[0] == "/x is up to date but for what did not come: 6 files, 3.5 kB"


def test_what_no_node_runs_says_how_it_goes_on() -> None:
    (line,) = table_of(Kind(Record("a", 1.0))).lines()
    assert (line.state, "coterie up" in line.note) == ("running", True)
    (paused,) = table_of(Kind(Record("a", 1.0, state=TransferState.PAUSED))).lines()
    assert paused.note == ""
