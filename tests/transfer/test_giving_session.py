"""A giver's session whose answers are made where the lane is written to."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from coterie.content import ChunkUnavailable as Missing
from coterie.content.limit import BURST_S, SLICE_BYTES_MAX, SLICE_S
from coterie.content.reader import GONE, READ_BYTES_MAX
from coterie.content.swarm import upload as u
from coterie.net.lanes.write_path import Pace, write_paced
from coterie.transfer import messages
from coterie.transfer.giving_session import (
    APART_BYTES,
    BUFFERS_KEPT_MAX,
    FRAME_BYTES,
    NEWS_S,
    PACE_MIN,
    Buffers,
    Session,
)
from coterie.transfer.messages import (
    MANIFEST,
    PROTOCOL,
    Cancel,
    ChunkUnavailable,
    GetChunks,
    GetManifest,
    GetMany,
    Given,
    Has,
    HasAll,
    Skip,
    Skipped,
    Unavailable,
)
from coterie.wire.frames import HEADER, Bulk, FrameDecoder, Message
from tests.support import run, run_virtual

NODE = b"n" * 32
CHUNKS = [bytes([n]) * (100_000 + n) for n in range(20)]


class LaneStream:
    """A stream that is on a lane: hears what it was told, and notes what is poured and what is written."""

    def __init__(self, heard: list[Message], *, is_on_lane: bool = True, version: int = 2) -> None:
        self.is_on_lane = is_on_lane
        self.version = version
        self.pours: list[list[int]] = []  # the sizes of each one's writes
        self.written = bytearray()
        self.expected: list[int] = []
        self.gone: list[tuple[float, int]] = []  # when how many bytes were written
        self._heard = heard

    def expect(self, size: int) -> None:
        self.expected.append(size)

    async def receive(self, timeout_s: float | None = None) -> Message | None:
        return self._heard.pop(0) if self._heard else None

    async def write(self, data: bytes, pace: Pace | None = None) -> None:
        await write_paced(self._write, data, pace)

    async def _write(self, data: bytes) -> None:
        self.written += data
        self.gone.append((asyncio.get_running_loop().time(), len(data)))

    async def pour(self, produce: Callable[[Callable[..., None]], None]) -> bool:
        if not self.is_on_lane:
            return False
        sizes: list[int] = []

        def write(*parts: bytes | memoryview) -> None:
            sizes.append(sum(map(len, parts)))
            self.written += b"".join(parts)

        await asyncio.to_thread(produce, write)
        self.pours.append(sizes)
        return True

    def frames(self) -> list[Message | Bulk | None]:
        decoded = FrameDecoder().feed(bytes(self.written))
        return [PROTOCOL.decode(kind, bytes(body)) for kind, body in decoded]


class Chunks:
    """Gives `chunks`, but for those that it lacks; calls `before(index)` for each. Reads so many `at_once`."""

    def __init__(
        self,
        lacks: dict[int, Missing | None],
        before: Callable[[int], None],
        chunks: list[bytes] = CHUNKS,
        at_once: int = 1,
    ) -> None:
        self._lacks = lacks
        self._before = before
        self._chunks = chunks
        self._at_once = at_once

    def node(self, manifest: bytes) -> bytes:
        return b"the node"

    def sizes(self, manifest: bytes) -> list[int]:
        return [len(chunk) for chunk in self._chunks]

    def read(self, manifest: bytes, first: int, count: int, room: Any = None) -> Iterator[Any]:
        for begin in range(first, first + count, self._at_once):
            run = self._chunks[begin : min(begin + self._at_once, first + count)]
            place, at = None, 0
            for index, chunk in enumerate(run, begin):
                self._before(index)
                if index in self._lacks:
                    yield self._lacks[index]
                    continue
                if room is None:
                    yield chunk
                    continue
                if place is None:
                    place = room(sum(map(len, run)))
                    place[:] = b"".join(run)
                yield place[at : at + len(chunk)]
                at += len(chunk)


def serve(
    heard: list[Message],
    *,
    lacks: dict[int, Missing | None] | None = None,
    before: Callable[[int], None] = lambda index: None,
    charge: Callable[[int], Any] | None = None,
    stream: LaneStream | None = None,
    chunks: list[bytes] = CHUNKS,
    at_once: int = 1,
    limit: Callable[[], float] = lambda: 0.0,
    runs: Callable[[Any], Any] = run,
) -> tuple[LaneStream, Session, list[Any]]:
    """One session in which the asker says this and finishes; every request is served at once."""
    events: list[Any] = []
    used = stream or LaneStream(heard)

    async def scene() -> Session:
        def feed(event: Any) -> None:
            events.append(event)
            if isinstance(event, u.Asked):
                session.serve(event.tag)

        giver: Any = Chunks(lacks or {}, before, chunks, at_once)
        any_stream: Any = used
        with InPlace() if runs is run_virtual else ThreadPoolExecutor(1) as executor:
            size = sum(map(len, chunks))
            session = Session(
                any_stream, giver, 7, size=size, feed=feed, executor=executor, buffers=Buffers(), limit=limit
            )
            await session.run(charge)
        return session

    return used, runs(scene()), events


def bodies(frames: list[Any]) -> list[bytes]:
    return [
        bytes(frame.data) for frame in frames if isinstance(frame, Bulk) and frame.kind == messages.CHUNKS
    ]


def test_an_answer_is_poured_in_pieces_and_every_request_is_reported() -> None:
    stream, session, events = serve([GetChunks(NODE, 0, 15), GetChunks(NODE, 15, 5)])
    assert bodies(stream.frames()) == CHUNKS
    assert len(stream.pours) in (1, 2)  # what waits by then goes with it
    assert [size - HEADER.size for pour in stream.pours for size in pour] == [len(chunk) for chunk in CHUNKS]
    assert session.sent_bytes == sum(map(len, CHUNKS))
    assert [event for event in events if isinstance(event, u.Served)] == [u.Served(7)] * 2


def test_the_stream_is_told_how_much_to_expect_when_chunks_are_asked_for() -> None:
    assert serve([GetManifest(NODE)])[0].expected == []
    chunks: list[Message] = [GetManifest(NODE), GetChunks(NODE, 0, 1), GetChunks(NODE, 1, 1)]
    assert serve(chunks)[0].expected == [sum(map(len, CHUNKS))]


@pytest.mark.parametrize(("size", "at_once", "together"), [
    (100_000, 10, 10),  # read at once
    (1_000, 1, FRAME_BYTES // 1_000 + 1),  # one by one, and small
    (1_000, 10, -(-FRAME_BYTES // 10_000) * 10),
    (500_000, 2, 2),
])  # fmt: skip
def test_chunks_come_together_in_frames(size: int, at_once: int, together: int) -> None:
    chunks = [bytes([n % 256]) * size for n in range(200)]
    stream, session, _ = serve([GetChunks(NODE, 0, 200)], chunks=chunks, at_once=at_once)
    frames = bodies(stream.frames())
    assert frames == [b"".join(chunks[at : at + together]) for at in range(0, 200, together)]
    assert max(map(len, frames)) <= READ_BYTES_MAX
    assert session.sent_bytes == 200 * size


def test_who_speaks_version_1_has_a_frame_for_each_chunk() -> None:
    chunks = [bytes([n]) * 1_000 for n in range(200)]
    heard: list[Message] = [GetChunks(NODE, 0, 200)]
    stream, _, _ = serve(heard, stream=LaneStream(heard, version=1), chunks=chunks)
    assert bodies(stream.frames()) == chunks


def test_answers_stay_in_the_order_of_the_requests_whichever_way_they_go() -> None:
    """What is poured waits for what is written before it, and takes along only what follows at once."""
    requests = [GetChunks(NODE, 0, 2), GetChunks(NODE, 2, 2), GetManifest(NODE), GetChunks(NODE, 4, 2)]
    stream, _, events = serve([*requests])
    frames = stream.frames()
    assert bodies(frames) == CHUNKS[:6]
    assert [frame.kind == MANIFEST for frame in frames if isinstance(frame, Bulk)] == [
        False, False, False, False, True, False, False
    ]  # fmt: skip
    assert len(stream.pours) in (2, 3)
    assert [event for event in events if isinstance(event, u.Served)] == [u.Served(7)] * 4


MANY = GetMany([(NODE, 0, 0, False), (NODE, 0, 2, False), (NODE, 2, 2, True), (NODE, 0, 0, False)])


@pytest.mark.parametrize("is_on_lane", [True, False])
def test_what_is_asked_for_together_is_answered_as_if_it_were_one_by_one(is_on_lane: bool) -> None:
    ones: list[Message] = [GetManifest(NODE), GetChunks(NODE, 0, 2), GetChunks(NODE, 2, 2), GetManifest(NODE)]
    stream, session, events = serve([MANY], stream=LaneStream([MANY], is_on_lane=is_on_lane, version=4))
    alone, _, _ = serve(ones, stream=LaneStream(ones, is_on_lane=is_on_lane, version=4))
    assert stream.frames() == alone.frames()
    assert bodies(stream.frames()) == CHUNKS[:4]
    assert session.sent_bytes == sum(map(len, CHUNKS[:4]))
    assert [event for event in events if isinstance(event, u.Served)] == [u.Served(7)]
    (asked,) = (event for event in events if isinstance(event, u.Asked))
    assert [part.insist for part in asked.parts] == [False, False, True, False]


def test_small_answers_to_one_message_are_written_at_once() -> None:
    small = [bytes([n]) * 100 for n in range(20)]
    stream, _, _ = serve([MANY], stream=LaneStream([MANY], version=4), chunks=small)
    assert [len(sizes) for sizes in stream.pours] == [1]
    assert len(stream.frames()) == 4  # of chunks one for each request


@pytest.mark.parametrize("is_on_lane", [True, False])
def test_of_what_is_asked_for_together_only_a_part_may_be_elsewhere(is_on_lane: bool) -> None:
    stream = LaneStream([MANY], is_on_lane=is_on_lane, version=4)

    async def scene() -> None:
        def feed(event: Any) -> None:
            if isinstance(event, u.Asked):
                session.serve(event.tag, frozenset({1}))

        giver: Any = Chunks({}, lambda index: None)
        any_stream: Any = stream
        with ThreadPoolExecutor(1) as executor:
            session = Session(any_stream, giver, 7, feed=feed, executor=executor, buffers=Buffers())
            await session.run(None)

    run(scene())
    frames = stream.frames()
    assert bodies(frames) == CHUNKS[2:4]
    assert frames[1] == Skipped(Skip.ELSEWHERE)


def test_a_chunk_that_cannot_be_had_is_said_in_its_place() -> None:
    gone = Missing(Path("x"), GONE)
    stream, _, _ = serve([GetChunks(NODE, 0, 3)], lacks={1: gone})
    first, second, third = stream.frames()
    assert second == ChunkUnavailable(Unavailable.GONE)
    assert bodies([first, third]) == [CHUNKS[0], CHUNKS[2]]


def test_what_is_not_here_yet_ends_an_answer() -> None:
    stream, _, events = serve([GetChunks(NODE, 0, 5)], lacks={2: None})
    frames = stream.frames()
    assert bodies(frames) == CHUNKS[:2]
    assert frames[2:] == [Skipped(Skip.NOT_HERE)]
    assert events[-1] == u.Served(7)


def test_a_request_taken_back_while_it_is_answered_is_cut_short() -> None:
    heard: list[Message] = [GetChunks(NODE, 0, 20)]
    stream = LaneStream(heard)
    session_of: list[Session] = []

    async def scene() -> None:
        def feed(event: Any) -> None:
            if isinstance(event, u.Asked):
                session.serve(event.tag)

        taken_back = asyncio.Event()
        loop = asyncio.get_running_loop()

        def before(index: int) -> None:
            if index == 10:
                asyncio.run_coroutine_threadsafe(take_back(), loop).result()

        async def take_back() -> None:
            taken_back.set()
            await asyncio.sleep(0)
            await asyncio.sleep(0)

        receive = stream.receive

        async def receive_later(timeout_s: float | None = None) -> Message | None:
            if not heard and not taken_back.is_set():
                await taken_back.wait()
                return Cancel(NODE, 0)
            return await receive(timeout_s)

        any_stream: Any = stream
        any_stream.receive = receive_later
        giver: Any = Chunks({}, before)
        with ThreadPoolExecutor(1) as executor:
            session = Session(any_stream, giver, 7, feed=feed, executor=executor, buffers=Buffers())
            session_of.append(session)
            await session.run(None)

    run(scene())
    frames = stream.frames()
    assert bodies(frames) == CHUNKS[:10]
    assert frames[10:] == [Skipped(Skip.CANCELLED)]
    assert session_of[0].sent_bytes == sum(map(len, CHUNKS[:10]))


def test_what_is_paid_for_goes_out_piece_by_piece_as_it_is_charged() -> None:
    charged: list[int] = []

    async def charge(size: int) -> None:
        charged.append(size)

    stream, session, _ = serve([GetChunks(NODE, 0, 20)], charge=charge)
    assert stream.pours == []
    assert bodies(stream.frames()) == CHUNKS
    assert sum(charged) == session.sent_bytes == sum(map(len, CHUNKS))


def test_a_lane_that_is_gone_meanwhile_costs_nothing() -> None:
    class Fickle(LaneStream):
        async def pour(self, produce: Any) -> bool:
            return False

    heard: list[Message] = [GetChunks(NODE, 0, 20)]
    stream, session, _ = serve(heard, stream=Fickle(heard))
    assert bodies(stream.frames()) == CHUNKS
    assert session.sent_bytes == sum(map(len, CHUNKS))


def test_buffers_are_used_again_and_few_are_kept() -> None:
    buffers = Buffers()
    made = [buffers.take() for _ in range(BUFFERS_KEPT_MAX + 1)]
    for buffer in made:
        buffers.give_back(buffer)
    again = [buffers.take() for _ in range(BUFFERS_KEPT_MAX + 1)]
    assert sum(any(one is other for other in made) for one in again) == BUFFERS_KEPT_MAX


class InPlace(Executor):
    """Runs work where it is handed in: virtual time knows no threads."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> "Future[Any]":
        done: Future[Any] = Future()
        done.set_result(fn(*args, **kwargs))
        return done


class Talk(LaneStream):
    """An asker that says what the test puts into `says`, and notes each write with its time and its frames."""

    def __init__(self, *, is_on_lane: bool = True) -> None:
        super().__init__([], is_on_lane=is_on_lane)
        self.says: asyncio.Queue[Message | None] = asyncio.Queue()
        self.writes: list[tuple[float, list[Any]]] = []

    async def receive(self, timeout_s: float | None = None) -> Message | None:
        return await self.says.get()

    async def write(self, data: bytes, pace: Pace | None = None) -> None:
        self._note(data)

    async def pour(self, produce: Callable[[Callable[..., None]], None]) -> bool:
        produce(lambda *parts: self._note(b"".join(parts)))
        return True

    def _note(self, data: bytes) -> None:
        frames = [PROTOCOL.decode(kind, bytes(body)) for kind, body in FrameDecoder().feed(data)]
        self.writes.append((asyncio.get_running_loop().time(), frames))


def talk(story: Callable[[Session, Talk], Any], *, is_on_lane: bool = True, chunk_bytes: int = 1_000) -> Talk:
    """Let `story(session, stream)` happen in virtual time, then let the asker finish."""
    chunks = [bytes([n]) * chunk_bytes for n in range(20)]

    async def scene() -> Talk:
        stream = Talk(is_on_lane=is_on_lane)

        def feed(event: Any) -> None:
            if isinstance(event, u.Asked):
                session.serve(event.tag)

        giver: Any = Chunks({}, lambda index: None, chunks)
        any_stream: Any = stream
        session = Session(any_stream, giver, 7, feed=feed, executor=InPlace(), buffers=Buffers())
        running = asyncio.ensure_future(session.run(None))
        await story(session, stream)
        stream.says.put_nowait(None)
        await running
        return stream

    return run_virtual(scene())


HAS_1, HAS_2, HAS_BOTH = Has(NODE, b"\x01"), Has(NODE, b"\x02"), Has(NODE, b"\x03")


@pytest.mark.parametrize("chunk_bytes", [1_000, APART_BYTES])
def test_news_go_in_one_write_with_the_chunks_that_go_out_next(chunk_bytes: int) -> None:
    async def story(session: Session, stream: Talk) -> None:
        stream.says.put_nowait(GetChunks(NODE, 0, 1))
        await asyncio.sleep(0.1)
        session.tell(HAS_1)
        session.tell(HAS_2)
        session.tell_given(NODE, 4)
        await asyncio.sleep(0.1)
        stream.says.put_nowait(GetChunks(NODE, 1, 1))
        await asyncio.sleep(10)

    stream = talk(story, chunk_bytes=chunk_bytes)
    assert [len(frames) for _, frames in stream.writes] == [1, 3]
    assert bodies(stream.writes[1][1]) == [b"\x01" * chunk_bytes]
    assert stream.writes[1][1][1:] == [Given(NODE, b"\x04"), HAS_BOTH]


def test_news_wait_for_chunks_no_longer_than_their_time() -> None:
    async def story(session: Session, stream: Talk) -> None:
        stream.says.put_nowait(GetChunks(NODE, 0, 1))
        await asyncio.sleep(NEWS_S / 2)
        session.tell(HAS_1)
        await asyncio.sleep(NEWS_S / 4)
        session.tell(HAS_2)
        await asyncio.sleep(10)

    (_, _), (at, frames) = talk(story).writes
    assert at == pytest.approx(1.5 * NEWS_S)
    assert frames == [HAS_BOTH]


@pytest.mark.parametrize("is_on_lane", [True, False])
def test_news_go_at_once_to_whoever_was_given_nothing_lately(is_on_lane: bool) -> None:
    async def story(session: Session, stream: Talk) -> None:
        stream.says.put_nowait(GetChunks(NODE, 0, 1))
        await asyncio.sleep(NEWS_S)
        session.tell(HAS_1)
        await asyncio.sleep(1)
        session.tell(HasAll())
        session.tell(HAS_2)  # more than all is none
        session.tell(HasAll())
        await asyncio.sleep(10)

    first, *rest = talk(story, is_on_lane=is_on_lane).writes
    assert bodies(first[1]) == [bytes(1_000)]
    assert rest == [(NEWS_S, [HAS_1]), (NEWS_S + 1, [HasAll()])]


def test_of_what_is_poured_the_last_answer_is_reported_by_its_end() -> None:
    """It wakes the loop anyhow: no call from the thread is spent on it."""
    stream, _, events = serve([GetChunks(NODE, 0, 1)])
    assert len(stream.pours) == 1
    assert events[-1] == u.Served(7)


# ---- limits

LIMIT = 100_000.0  # bytes a second


def holds(gone: list[tuple[float, int]], rate: float) -> bool:
    """Whether no span of time has more than the limit lets through in it, and what goes at once."""
    at_once = BURST_S * rate + min(max(SLICE_S * rate, 1200), SLICE_BYTES_MAX)
    for first, (begin, _) in enumerate(gone):
        sent = 0
        for when, size in gone[first:]:
            sent += size
            if sent > rate * (when - begin) + at_once + 1:
                return False
    return True


def test_a_limit_holds_within_one_answer() -> None:
    """All is asked for at once, and all of it was let through at once: the first was on its way in no time."""
    stream, session, events = serve([GetChunks(NODE, 0, 20)], limit=lambda: LIMIT, runs=run_virtual)
    size = sum(map(len, CHUNKS))
    assert bodies(stream.frames()) == CHUNKS
    assert not stream.pours
    assert holds(stream.gone, LIMIT)
    assert stream.gone[-1][0] - stream.gone[0][0] == pytest.approx(size / LIMIT, rel=0.05)
    assert session.sent_bytes == size
    assert u.Served(7) in events


@pytest.mark.parametrize(
    ("owner", "asker", "least"), [(0.0, 200_000, 200_000), (LIMIT, 200_000, LIMIT), (LIMIT, 50_000, 50_000)]
)
def test_an_asker_says_how_fast_answers_may_come_and_the_smaller_limit_holds(
    owner: float, asker: int, least: float
) -> None:
    stream, _, _ = serve(
        [messages.Pace(asker), GetChunks(NODE, 0, 20)], limit=lambda: owner, runs=run_virtual
    )
    assert bodies(stream.frames()) == CHUNKS
    assert holds(stream.gone, least)
    assert stream.gone[-1][0] - stream.gone[0][0] == pytest.approx(sum(map(len, CHUNKS)) / least, rel=0.05)


def test_an_asker_takes_its_limit_back_and_one_that_wants_nearly_nothing_gets_a_little() -> None:
    heard: list[Message] = [messages.Pace(1000), messages.Pace(0), GetChunks(NODE, 0, 20)]
    assert serve(heard)[0].pours
    stream, _, _ = serve([messages.Pace(-1), GetChunks(NODE, 0, 1)], runs=run_virtual)
    assert stream.gone[-1][0] - stream.gone[0][0] == pytest.approx(len(CHUNKS[0]) / PACE_MIN, rel=0.05)


def test_a_limit_that_changes_holds_for_what_is_left_of_an_answer() -> None:
    begun: list[float] = []

    def limit() -> float:
        now = asyncio.get_running_loop().time()
        begun.append(now)
        return LIMIT if now < begun[0] + 5 else 10 * LIMIT

    stream, _, _ = serve([GetChunks(NODE, 0, 20)], limit=limit, runs=run_virtual)
    took = stream.gone[-1][0] - stream.gone[0][0]
    assert took == pytest.approx(5 + (sum(map(len, CHUNKS)) - 5 * LIMIT) / (10 * LIMIT), rel=0.1)
