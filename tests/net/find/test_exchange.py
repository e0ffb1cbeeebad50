"""`peer-record/1`: both sides tell, nobody tells of others, too much is refused, contacts answer contacts."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from coterie.errors import CloseCode, PeerError
from coterie.identity import PeerId
from coterie.net import Connection, Endpoint
from coterie.net.find.contacts import ASKED_MAX, CircleResolver
from coterie.net.find.exchange import ASKS_BURST, PEER_RECORD, TELLS_BURST, Answer, Ask, RecordExchange, Tell
from coterie.net.find.observed import Reported
from coterie.wire.record import ADDRESS_CHARS_MAX, RECORD_BYTES_MAX, PeerRecord, RecordRefused
from tests.net.conftest import Lab


class Keeper:
    """Keeps what it hears; its own record can be replaced."""

    def __init__(self, lab: Lab, number: int) -> None:
        self.key = lab.key(number)
        self.own = self.record(1)
        self.heard: list[PeerRecord] = []
        self.reports: list[Reported] = []
        self.answers: dict[tuple[PeerId, PeerId], bytes] = {}

    def record(self, sequence: int) -> bytes:
        return PeerRecord(peer=self.key.peer_id, sequence=sequence, issued=1, expires=2).sign(self.key)

    def own_record(self, connection: Connection) -> bytes:
        return self.own

    def learn(self, raw: bytes, source: str) -> PeerId | None:
        try:
            self.heard.append(PeerRecord.read(raw))
        except RecordRefused:
            return None
        return self.heard[-1].peer

    def reported(self, report: Reported) -> None:
        self.reports.append(report)

    def is_chosen(self, connection: Connection) -> bool:
        return connection.is_dialled

    def record_for(self, asker: PeerId, about: PeerId) -> bytes | None:
        return self.answers.get((asker, about))


class Side:
    """An endpoint that exchanges records."""

    def __init__(self, lab: Lab, number: int, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.keeper = Keeper(lab, number)
        self.exchange = RecordExchange(endpoint, self.keeper)
        self.exchange.start()

    async def connect(self, other: "Side") -> Connection:
        return await self.endpoint.connect(other.endpoint.peer_id, other.endpoint.addresses)


@asynccontextmanager
async def sides(lab: Lab, count: int = 2) -> AsyncIterator[list[Side]]:
    async with lab.endpoints(count) as endpoints:
        made = [Side(lab, n + 1, endpoint) for n, endpoint in enumerate(endpoints)]
        try:
            yield made
        finally:
            for side in made:
                await side.exchange.close()


async def settle(lab: Lab) -> None:
    await asyncio.sleep(1 if lab.kind == "memory" else 0.3)


def test_both_sides_tell_their_record_on_a_new_connection(lab: Lab) -> None:
    async def scene() -> None:
        async with sides(lab) as (a, b):
            await a.connect(b)
            await settle(lab)
            assert [r.peer for r in a.keeper.heard] == [b.endpoint.peer_id]
            assert [r.peer for r in b.keeper.heard] == [a.endpoint.peer_id]

    lab.run(scene())


def test_both_sides_tell_what_they_see(quic: Lab) -> None:
    async def scene() -> None:
        async with sides(quic) as (a, b):
            await a.connect(b)
            await settle(quic)
            (of_a,), (of_b,) = a.keeper.reports, b.keeper.reports
            assert of_a.address in a.endpoint.addresses
            assert of_b.address in b.endpoint.addresses
            assert (of_a.chosen, of_b.chosen) == (True, False)
            assert of_a.via in b.endpoint.addresses

    quic.run(scene())


def test_news_are_told_to_all_and_only_news(memory: Lab) -> None:
    async def scene() -> None:
        async with sides(memory, 3) as (a, b, c):
            await a.connect(b)
            await c.connect(a)
            await settle(memory)
            for sequence in (2, 2):
                a.keeper.own = a.keeper.record(sequence)
                a.exchange.refresh()
                await settle(memory)
            for other in (b, c):
                assert [r.sequence for r in other.keeper.heard] == [1, 2]

    memory.run(scene())


def test_an_empty_record_tells_nothing(memory: Lab) -> None:
    async def scene() -> None:
        async with sides(memory) as (a, b):
            a.keeper.own = b""
            await a.connect(b)
            await settle(memory)
            assert b.keeper.heard == []
            assert len(a.keeper.heard) == 1

    memory.run(scene())


async def say(liar: Endpoint, to: Side, message: Tell | Ask) -> object:
    connection = await liar.connect(to.endpoint.peer_id, to.endpoint.addresses)
    async with await connection.open_stream(PEER_RECORD) as stream:
        await stream.send(message)
        return await stream.receive()


@pytest.mark.parametrize(
    ("tell", "code"),
    [
        (Tell(b"x" * (RECORD_BYTES_MAX + 1)), CloseCode.LIMIT),
        (Tell(b"", "x" * (ADDRESS_CHARS_MAX + 1)), CloseCode.LIMIT),
        (Tell(b"garbage"), CloseCode.PROTOCOL_VIOLATION),
    ],
)
def test_what_cannot_be_is_refused(memory: Lab, tell: Tell, code: int) -> None:
    async def scene() -> None:
        async with sides(memory, 1) as (a,):
            liar = await memory.endpoint(9)
            with pytest.raises(PeerError) as raised:
                await say(liar, a, tell)
            assert raised.value.close_code == code
            assert a.keeper.heard == []
            await liar.close()

    memory.run(scene())


def test_nobody_tells_of_others_or_forges(memory: Lab) -> None:
    async def scene() -> None:
        async with sides(memory, 1) as (a,):
            liar = await memory.endpoint(9)
            others = Keeper(memory, 5).record(7)
            own = Keeper(memory, 9).record(7)
            for raw in (others, own[:-1] + b"\x07"):
                with pytest.raises(PeerError):
                    await say(liar, a, Tell(raw))
            assert a.keeper.heard == []
            assert isinstance(await say(liar, a, Tell(own)), Tell)
            assert [r.sequence for r in a.keeper.heard] == [7]
            await liar.close()

    memory.run(scene())


def test_a_flood_of_records_is_refused(memory: Lab) -> None:
    async def scene() -> None:
        async with sides(memory, 1) as (a,):
            flooder, own = await memory.endpoint(9), Keeper(memory, 9)
            for sequence in range(TELLS_BURST):
                await say(flooder, a, Tell(own.record(sequence + 1)))
            with pytest.raises(PeerError) as raised:
                await say(flooder, a, Tell(own.record(99)))
            assert raised.value.close_code == CloseCode.LIMIT
            assert len(a.keeper.heard) == TELLS_BURST
            await asyncio.sleep(15)
            await say(flooder, a, Tell(own.record(100)))
            await flooder.close()

    memory.run(scene())


def test_a_record_is_given_to_whom_the_keeper_says(memory: Lab) -> None:
    async def scene() -> None:
        async with sides(memory, 3) as (a, b, c):
            about = memory.peer(7)
            wanted = Keeper(memory, 7).record(1)
            b.keeper.answers[a.endpoint.peer_id, about] = wanted
            assert await a.exchange.ask(await a.connect(b), about) == wanted
            assert await c.exchange.ask(await c.connect(b), about) == b""

    memory.run(scene())


def test_asking_too_much_or_for_nobody_is_refused(memory: Lab) -> None:
    async def scene() -> None:
        async with sides(memory, 1) as (a,):
            asker = await memory.endpoint(9)
            with pytest.raises(PeerError):
                await say(asker, a, Ask(b"short"))
            for _ in range(ASKS_BURST - 1):
                assert await say(asker, a, Ask(bytes(32))) == Answer(b"")
            with pytest.raises(PeerError) as raised:
                await say(asker, a, Ask(bytes(32)))
            assert raised.value.close_code == CloseCode.LIMIT
            await asker.close()

    memory.run(scene())


def test_contacts_are_asked_and_strangers_are_not(memory: Lab) -> None:
    async def scene() -> None:
        async with sides(memory, 4) as (a, b, c, stranger):
            about, wanted = memory.peer(7), Keeper(memory, 7).record(1)
            for side in (c, stranger):
                side.keeper.answers[a.endpoint.peer_id, about] = wanted
            contacts = [b.endpoint.peer_id, stranger.endpoint.peer_id]
            circle = CircleResolver(a.endpoint, ask=a.exchange.ask, contacts=lambda: contacts)
            assert [raw async for raw in circle.resolve(about)] == []
            await a.connect(b)
            await a.connect(c)
            assert [raw async for raw in circle.resolve(about)] == [], "c knows, but is no contact"
            contacts[:] = [b.endpoint.peer_id, c.endpoint.peer_id]
            assert [raw async for raw in circle.resolve(about)] == [wanted]

    memory.run(scene())


def test_only_so_many_contacts_are_asked(memory: Lab) -> None:
    async def scene() -> None:
        asked: list[PeerId] = []

        async def ask(connection: Connection, about: PeerId) -> bytes:
            asked.append(connection.peer)
            return b""

        async with memory.endpoints(ASKED_MAX + 3) as (a, *others):
            for other in others:
                await a.connect(other.peer_id, other.addresses)
            everybody = [o.peer_id for o in others]
            circle = CircleResolver(a, ask=ask, contacts=lambda: everybody)
            assert [raw async for raw in circle.resolve(memory.peer(77))] == []
            assert len(asked) == ASKED_MAX

    memory.run(scene())


def test_a_peer_that_does_not_speak_it_does_no_harm(memory: Lab) -> None:
    async def scene() -> None:
        async with sides(memory, 1) as (a,):
            old = await memory.endpoint(9)
            connection = await a.endpoint.connect(old.peer_id, old.addresses)
            await settle(memory)
            assert not connection.is_closed
            with pytest.raises(PeerError, match="does not offer peer-record"):
                await a.exchange.ask(connection, memory.peer(1))
            await old.close()

    memory.run(scene())
