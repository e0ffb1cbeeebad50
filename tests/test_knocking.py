"""Knocking and hearing knocks over a table of items, in virtual time: what is dialled, said, bounded and tidied up."""

import asyncio
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

from coterie.errors import TransportError
from coterie.identity import PeerId, SecretKey
from coterie.knocking import ANSWERED_S, LISTENS_S, SEARCHES_S, WAIT_MAX_S, Knocker
from coterie.net.find.knocks import KNOCKS_BURST, Surroundings
from coterie.tasks import Tasks
from coterie.wire.knock import Right, door_bell, slot_of
from tests.support import run_virtual

NOW = 1_700_000_000.0
HANGS_S, FOUND_S, NOTHING_S = 15.0, 1.0, 8.0  # as the public DHT with dead nodes about


class Table:
    """Keeps one item under each key; as slow as the public one."""

    def __init__(self) -> None:
        self.items: dict[bytes, bytes] = {}
        self.is_ready = True
        self.reads = 0

    async def read(self, key: bytes) -> AsyncGenerator[bytes, None]:
        self.reads += 1
        await asyncio.sleep(FOUND_S)
        if item := self.items.get(key):
            yield item
        await asyncio.sleep(NOTHING_S)

    def write(self, key: SecretKey, value: bytes) -> None:
        asyncio.get_running_loop().call_later(HANGS_S, self.items.__setitem__, bytes(key.peer_id), value)


class Side:
    """A node that knocks and listens over `table`."""

    def __init__(
        self, table: Table, *known: "Side", secrets_: Sequence[bytes] = (), fails: bool = False
    ) -> None:
        self.key = SecretKey(secrets.token_bytes(32))
        self.id = self.key.peer_id
        self.known = [side.id for side in known]
        self.dialled: list[tuple[float, PeerId, list[str]]] = []
        self._fails = fails
        self.tasks = Tasks("test")
        around = Surroundings(
            addresses=lambda: ["192.0.2.1:4433"],
            is_known=lambda peer: peer in self.known,
            secrets=lambda reference: secrets_,
            contacts=lambda: self.known,
        )
        self.knocker = Knocker(
            self.key, table, around, dial=self._dial, tasks=self.tasks, clock=lambda: NOW + _time()
        )

    async def _dial(self, peer: PeerId, addresses: Sequence[str]) -> None:
        self.dialled.append((_time(), peer, list(addresses)))
        if self._fails:
            raise TransportError("not reached")

    async def knock(self, other: "Side", right: Right | None = None) -> tuple[float, str, list[str]]:
        """How long it took, what was said of it, and addresses that the other answered from."""
        told: list[str] = []
        began = _time()
        wait_s = self.knocker.wait_s(LISTENS_S)
        said = await self.knocker.knock(other.id, wait_s, right, told.extend)
        return _time() - began, said, told


def _time() -> float:
    return asyncio.get_running_loop().time()


def play(scene: Callable[[Table], Awaitable[list[Side]]]) -> None:
    async def whole() -> None:
        sides = await scene(Table())
        for side in sides:
            await side.knocker.close()
            assert not side.tasks.troubles()

    run_virtual(whole())


def test_who_is_knocked_for_dials_from_where_it_is_and_the_other_hears_of_it() -> None:
    async def scene(table: Table) -> list[Side]:
        anna = Side(table)
        ben = Side(table, anna, fails=True)
        ben.knocker.listen(True)
        took_s, said, told = await anna.knock(ben)
        assert ben.dialled[0][1:] == (anna.id, ["192.0.2.1:4433"])
        assert "dialled back, and neither got through" in said
        assert told == ["192.0.2.1:4433"]
        assert took_s < LISTENS_S + SEARCHES_S + ANSWERED_S
        assert "0 heard" not in ben.knocker.describe()
        assert not anna.knocker.describe()
        return [anna, ben]

    play(scene)


def test_after_a_time_of_quiet_it_is_heard_within_what_the_record_promises() -> None:
    async def scene(table: Table) -> list[Side]:
        anna = Side(table)
        ben = Side(table, anna)
        ben.knocker.listen(True)
        await asyncio.sleep(3_600)
        began = _time()
        await anna.knock(ben)
        assert ben.dialled
        assert ben.dialled[0][0] - began < LISTENS_S + SEARCHES_S
        return [anna, ben]

    play(scene)


def test_who_is_off_is_said_to_be_off_and_the_wait_is_bounded() -> None:
    async def scene(table: Table) -> list[Side]:
        anna, ben = Side(table), Side(table)
        took_s, said, _ = await anna.knock(ben)
        assert took_s == LISTENS_S + SEARCHES_S
        assert "did not answer a knock" in said
        assert "most likely it is off" in said
        assert anna.knocker.wait_s(10_000) == WAIT_MAX_S
        return [anna, ben]

    play(scene)


def test_a_ticket_is_enough_and_nothing_is_not() -> None:
    async def scene(table: Table) -> list[Side]:
        anna, zoe = Side(table), Side(table)
        ben = Side(table, secrets_=[b"s" * 16])
        ben.knocker.listen(True)
        await zoe.knock(ben)
        assert not ben.dialled
        assert "refused" in ben.knocker.describe()
        await anna.knock(ben, Right(bytes(32), b"s" * 16))
        assert ben.dialled[0][1] == anna.id
        return [anna, zoe, ben]

    play(scene)


def test_one_knock_too_many_is_refused_at_once_and_says_so() -> None:
    async def scene(table: Table) -> list[Side]:
        anna, others = Side(table), [Side(table) for _ in range(KNOCKS_BURST + 1)]
        done = await asyncio.gather(*(anna.knock(other) for other in others))
        assert sum("knocks for many already" in said for _, said, _ in done) == 1
        return [anna, *others]

    play(scene)


def test_without_the_table_nobody_listens_and_nobody_knocks() -> None:
    async def scene(table: Table) -> list[Side]:
        table.is_ready = False
        ben = Side(table)
        ben.knocker.listen(True)
        assert not ben.knocker.is_listening
        assert ben.knocker.wait_s(LISTENS_S) == 0
        table.is_ready = True
        ben.knocker.listen(True)
        assert ben.knocker.is_listening
        return [ben]

    play(scene)


def test_what_hangs_at_a_door_names_nobody() -> None:
    """The nodes that keep it see a key and bytes that change with each knock: neither id stands in them."""

    async def scene(table: Table) -> list[Side]:
        anna, ben = Side(table), Side(table)
        await anna.knock(ben)
        hung = table.items
        assert door_bell(ben.id, slot_of(NOW)).key in hung
        for key, item in hung.items():
            for one in (anna.id, ben.id, b"192.0.2.1", bytes([192, 0, 2, 1])):
                assert bytes(one) not in key + item
        return [anna, ben]

    play(scene)


def idle_reads(hours: float) -> int:
    reads: list[int] = []

    async def scene(table: Table) -> list[Side]:
        ben = Side(table)
        ben.knocker.listen(True)
        await asyncio.sleep(3_600 * hours)
        reads.append(table.reads)
        return [ben]

    play(scene)
    return reads[0]


def test_an_idle_node_looks_about_seventy_times_an_hour() -> None:
    assert idle_reads(2) - idle_reads(1) <= 3_600 / 60 * 1.25 * 1.1
