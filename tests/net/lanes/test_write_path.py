"""An ordinary stream whose writes move to a lane, unseen by who writes; the other side is a `BulkStream`."""

import asyncio
import threading
from typing import Any

import pytest

from coterie.errors import CloseCode, PeerError, TransportError
from coterie.net import BulkStream, Stream
from coterie.wire.frames import Bulk
from tests.net.bulk_lab import BulkLab, block, lanes_of
from tests.net.conftest import NOTES, Note

BLOCK_BYTES = 200_000


@pytest.fixture
def lab() -> BulkLab:
    return BulkLab("lane")


async def until_on_lane(stream: Stream) -> None:
    """Write notes until a lane is in use."""
    for _ in range(100):
        await stream.send(Note("x"))
        if stream._outlet is not None and stream._outlet.lane is not None:
            return
        await asyncio.sleep(0.02)
    raise AssertionError("no lane came up")


def bulk_of(bulk: BulkStream) -> tuple[list[int], set[str]]:
    """The first byte of every block, and the ways that they came."""
    bulk.send(Note("begin"))
    got, ways = [], set()
    while (frame := bulk.receive(20.0)) is not None:
        if isinstance(frame, Bulk):
            assert len(frame.data) == BLOCK_BYTES
            assert bytes(frame.data) == frame.data[:1].tobytes() * BLOCK_BYTES  # type: ignore[union-attr]
            got.append(frame.data[0])
            ways.add(bulk.path.kind if bulk.path else "")
    return got, ways


async def transfer(lab: BulkLab, give: Any, take: Any) -> tuple[Any, Any]:
    """(what became of the giving handler, of the taker)."""
    ended: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    async def handle(stream: Stream) -> None:
        assert await stream.receive(10.0) == Note("begin")
        try:
            await give(stream)
        except BaseException as error:
            ended.set_result(error)
            raise
        ended.set_result(None)

    async with lab.pair() as (connection, _, giver):
        giver.register(NOTES, handle, strangers=True)
        bulk = BulkStream(await connection.open_stream(NOTES), takes_bulk=True)
        try:
            took = await bulk.drive(take)
        except (PeerError, TransportError) as error:
            took = error
        return await ended, took


def test_writes_go_over_a_lane_and_arrive_in_order(lab: BulkLab) -> None:
    async def give(stream: Stream) -> None:
        await until_on_lane(stream)
        for number in range(100):
            await stream.write(block(bytes([number]) * BLOCK_BYTES))

    gave, took = lab.run(transfer(lab, give, bulk_of))
    assert gave is None
    assert took == (list(range(100)), {"lane"})


def test_what_is_poured_is_made_in_the_thread_of_the_lane_and_keeps_its_place(lab: BulkLab) -> None:
    threads: set[int] = set()

    async def give(stream: Stream) -> None:
        await until_on_lane(stream)
        for first in range(0, 60, 3):
            await stream.write(block(bytes([first]) * BLOCK_BYTES))

            def produce(write: Any, first: int = first) -> None:
                threads.add(threading.get_ident())
                for number in (first + 1, first + 2):
                    write(memoryview(block(bytes([number]) * BLOCK_BYTES)))

            assert await stream.pour(produce)

    gave, took = lab.run(transfer(lab, give, bulk_of))
    assert gave is None
    assert took == (list(range(60)), {"lane"})
    assert len(threads) == 1
    assert threading.get_ident() not in threads


def test_nothing_is_poured_where_there_is_no_lane(lab: BulkLab) -> None:
    async def give(stream: Stream) -> None:
        called = []
        assert not stream.is_on_lane
        assert not await stream.pour(called.append)
        assert called == []
        await stream.write(block(bytes(BLOCK_BYTES)))

    gave, (got, _) = lab.run(transfer(lab, give, bulk_of))
    assert gave is None
    assert got == [0]


def test_an_error_of_who_pours_is_raised_to_it_and_ends_the_stream(lab: BulkLab) -> None:
    async def give(stream: Stream) -> None:
        await until_on_lane(stream)

        def produce(write: Any) -> None:
            write(block(bytes(BLOCK_BYTES)))
            raise PeerError("no more of this", CloseCode.REFUSED)

        await stream.pour(produce)

    gave, took = lab.run(transfer(lab, give, bulk_of))
    assert isinstance(gave, PeerError)
    assert str(gave) == "no more of this"
    assert isinstance(took, PeerError)
    assert took.close_code == CloseCode.REFUSED


def test_nothing_moves_for_who_cannot_follow(lab: BulkLab) -> None:
    async def scene() -> None:
        async with lab.pair() as (connection, _, giver):

            async def handle(stream: Stream) -> None:
                for number in range(20):
                    await stream.write(block(bytes([number]) * BLOCK_BYTES))
                    await asyncio.sleep(0.01)
                assert stream._outlet is None

            giver.register(NOTES, handle, strangers=True)
            async with await connection.open_stream(NOTES) as stream:
                got = []
                while (frame := await stream.receive(10.0)) is not None:
                    assert isinstance(frame, Bulk)
                    got.append(frame.data[0])
            assert got == list(range(20))
            assert lanes_of(connection)._to_read == {}

    lab.run(scene())


def test_writes_of_several_tasks_stay_whole(lab: BulkLab) -> None:
    async def give(stream: Stream) -> None:
        await until_on_lane(stream)
        await asyncio.gather(*(stream.write(block(bytes([n]) * BLOCK_BYTES)) for n in range(30)))

    _, (got, ways) = lab.run(transfer(lab, give, bulk_of))
    assert sorted(got) == list(range(30))
    assert ways == {"lane"}


def test_a_write_that_is_cancelled_tears_no_frame(lab: BulkLab) -> None:
    async def give(stream: Stream) -> None:
        await until_on_lane(stream)
        for number in range(60):
            task = asyncio.create_task(stream.write(block(bytes([number]) * BLOCK_BYTES)))
            await asyncio.sleep(0)
            if number % 3 == 0:
                await asyncio.sleep(0)
                task.cancel()
            await asyncio.wait([task])

    gave, (got, _) = lab.run(transfer(lab, give, bulk_of))
    assert gave is None
    assert got == sorted(got)
    assert [n for n in range(60) if n % 3] == [n for n in got if n % 3]


def test_a_taker_that_gives_up_frees_the_giver(lab: BulkLab) -> None:
    async def give(stream: Stream) -> None:
        async def hear() -> None:
            await stream.receive()

        async with asyncio.TaskGroup() as group:
            group.create_task(hear())
            await until_on_lane(stream)
            while True:
                await stream.write(block(bytes(BLOCK_BYTES)))

    def take(bulk: BulkStream) -> None:
        bulk.send(Note("begin"))
        while not isinstance(bulk.receive(10.0), Bulk):
            pass
        raise PeerError("enough")

    gave, took = lab.run(transfer(lab, give, take))
    assert isinstance(took, PeerError)
    assert isinstance(gave, BaseExceptionGroup)


def test_a_lane_that_is_cut_fails_the_write(lab: BulkLab) -> None:
    async def give(stream: Stream) -> None:
        await until_on_lane(stream)
        assert stream._outlet is not None
        assert stream._outlet.lane is not None
        lane = stream._outlet.lane
        for number in range(200):
            if number == 20:
                lane.close()
            await stream.write(block(bytes([number]) * BLOCK_BYTES))

    gave, took = lab.run(transfer(lab, give, bulk_of))
    assert isinstance(gave, TransportError)
    assert isinstance(took, PeerError | TransportError)


@pytest.mark.parametrize("way", ["lane", "quic"])
def test_what_is_paced_goes_in_slices_and_stays_whole_whoever_else_writes(way: str) -> None:
    """The lane comes up in the middle of a frame, and notes are written all the time."""
    lab, slices = BulkLab(way), list[int]()

    async def pace(size: int) -> int:
        await asyncio.sleep(0.001)
        slices.append(min(size, 9_999))
        return slices[-1]

    async def give(stream: Stream) -> None:
        async def chat() -> None:
            while True:
                await stream.send(Note("x"))
                await asyncio.sleep(0.001)

        stream.expect(1 << 30)
        chatting = asyncio.ensure_future(chat())
        for number in range(10):
            await stream.write(block(bytes([number]) * BLOCK_BYTES), pace)
        chatting.cancel()

    gave, took = lab.run(transfer(lab, give, bulk_of))
    assert gave is None
    assert took[0] == list(range(10))
    assert way != "lane" or "lane" in took[1]
    assert len(slices) > 10 * BLOCK_BYTES // 10_000
