"""Stream: frames in and out of a byte stream, whatever the pieces."""

import asyncio
import random
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coterie.errors import AccessDenied, CloseCode, LimitExceeded, PeerError
from coterie.net import NetLimits, Stream
from coterie.net.interfaces import RawStream
from coterie.wire import Bulk, FrameDecoder, Protocol
from tests.net.conftest import NOTES, Lab, Note
from tests.support import run_virtual

UNKNOWN = b"\x00\x00\x00\x03\xc8hi"


class Scripted:
    """A raw stream that hands out the given pieces."""

    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = list(pieces)
        self.calls: list[tuple[str, object]] = []

    async def read(self, size_max: int) -> bytes:
        if not self.pieces:
            return b""
        piece = self.pieces.pop(0)
        if len(piece) > size_max:
            self.pieces.insert(0, piece[size_max:])
        return piece[:size_max]

    async def write(self, data: bytes) -> None:
        self.calls.append(("write", data))

    async def finish(self) -> None:
        self.calls.append(("finish", None))

    async def stop(self, code: int) -> None:
        self.calls.append(("stop", code))

    async def reset(self, code: int) -> None:
        self.calls.append(("reset", code))


def stream_of(raw: RawStream, limits: NetLimits | None = None, received: bytes = b"") -> Stream:
    return Stream(raw, peer=Lab.key(1).peer_id, protocol=NOTES, version=1, limits=limits, received=received)


def scripted(*pieces: bytes, limits: NetLimits | None = None) -> Stream:
    return stream_of(Scripted([p for p in pieces if p]), limits)


async def drain(stream: Stream) -> list[object]:
    got: list[object] = []
    while (frame := await stream.receive()) is not None:
        got.append(Bulk(frame.kind, bytes(frame.data)) if isinstance(frame, Bulk) else frame)
    return got


@asynccontextmanager
async def pair(lab: Lab, limits: NetLimits | None = None) -> AsyncIterator[tuple[Stream, Stream]]:
    async with lab.pair() as (a, b):
        one = await a.open_stream()
        await one.write(NOTES.encode(Note("first")))
        other = stream_of(await b.accept_stream(), limits)
        assert await other.receive() == Note("first")
        yield stream_of(one), other


FRAMES = st.lists(
    st.one_of(st.text(max_size=40).map(Note), st.binary(max_size=3_000).map(lambda d: Bulk(2, d)))
)


@given(frames=FRAMES, cuts=st.randoms(use_true_random=False), use_batches=st.booleans())
@settings(deadline=None, max_examples=150)
def test_frames_arrive_whatever_the_pieces(
    frames: list[Note | Bulk], cuts: random.Random, use_batches: bool
) -> None:
    wire = b"".join(
        NOTES.encode(f) if isinstance(f, Note) else NOTES.bulk_header(2, len(f.data)) + bytes(f.data)
        for f in frames
    )
    pieces, at = [], 0
    while at < len(wire):
        size = cuts.choice((1, 2, 5, 60, 4_000))
        pieces.append(wire[at : at + size])
        at += size

    async def scene() -> list[object]:
        stream = scripted(*pieces)
        if not use_batches:
            return await drain(stream)
        got: list[object] = []
        while batch := await stream.receive_batch():
            got += [Bulk(f.kind, bytes(f.data)) if isinstance(f, Bulk) else f for f in batch]
        assert await stream.receive_batch() == []
        return got

    assert asyncio.run(scene()) == frames


@given(garbage=st.lists(st.binary(min_size=1, max_size=400), max_size=20))
@settings(deadline=None, max_examples=300)
def test_garbage_ends_in_a_peer_error_or_not_at_all(garbage: list[bytes]) -> None:
    async def scene() -> None:
        with suppress(PeerError):
            await drain(scripted(*garbage))

    asyncio.run(scene())


def test_a_frame_that_comes_byte_by_byte_takes_no_more_memory_than_its_size() -> None:
    frame = NOTES.bulk_header(2, 100_000) + bytes(100_000)
    decoder = FrameDecoder(NOTES.frame_bytes_max)
    tracemalloc.start()
    frames = [found for at in range(len(frame)) for found in decoder.feed(frame[at : at + 1])]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [(kind, len(body)) for kind, body in frames] == [(2, 100_000)]
    assert peak < 500_000


@pytest.mark.parametrize("cut", [1, 4, 5, 9])
def test_a_stream_cut_inside_a_frame_is_the_peers_fault(cut: int) -> None:
    frame = NOTES.encode(Note("whole"))

    async def scene() -> None:
        stream = scripted(frame + frame[:cut])
        assert await stream.receive() == Note("whole")
        with pytest.raises(PeerError, match="inside a frame"):
            await stream.receive()

    run_virtual(scene())


def test_unknown_kinds_are_skipped_up_to_a_bound_in_a_row() -> None:
    limits = NetLimits(unknown_frames_max=3)
    note = NOTES.encode(Note("known"))

    async def scene() -> None:
        assert (
            await drain(scripted(UNKNOWN * 3, note, UNKNOWN * 3, note, limits=limits)) == [Note("known")] * 2
        )
        with pytest.raises(PeerError) as caught:
            await drain(scripted(note, UNKNOWN * 2, UNKNOWN * 2, limits=limits))
        assert caught.value.close_code == CloseCode.LIMIT

    run_virtual(scene())


def test_a_frame_one_byte_too_long_is_refused_before_its_body() -> None:
    small = Protocol("small", (1,), {1: Note}, frozenset({2}), frame_bytes_max=100)

    async def scene() -> None:
        fits = Stream(
            Scripted([small.bulk_header(2, 99) + bytes(99)]),
            peer=Lab.key(1).peer_id,
            protocol=small,
            version=1,
        )
        frame = await fits.receive()
        assert isinstance(frame, Bulk)
        assert len(frame.data) == 99
        raw = Scripted([(101).to_bytes(4, "big"), b"never read"])
        over = Stream(raw, peer=Lab.key(1).peer_id, protocol=small, version=1)
        with pytest.raises(PeerError) as caught:
            await over.receive()
        assert caught.value.close_code == CloseCode.LIMIT
        assert raw.pieces == [b"never read"]
        with pytest.raises(LimitExceeded):
            small.bulk_header(2, 100)

    run_virtual(scene())


def test_silence_inside_a_frame_ends_it_and_silence_between_frames_does_not(memory: Lab) -> None:
    async def scene() -> None:
        async with pair(memory, NetLimits(frame_s=30)) as (one, other):
            with pytest.raises(TimeoutError):
                await other.receive(timeout_s=3_600)
            await one.write(NOTES.encode(Note("half"))[:6])
            began = asyncio.get_running_loop().time()
            with pytest.raises(PeerError) as caught:
                await other.receive()
            assert caught.value.close_code == CloseCode.TIMEOUT
            assert asyncio.get_running_loop().time() - began == pytest.approx(30, abs=1)

    memory.run(scene())


def test_a_receive_that_timed_out_loses_nothing(lab: Lab) -> None:
    async def scene() -> None:
        frame = NOTES.encode(Note("in two halves"))
        async with pair(lab) as (one, other):
            await one.write(frame[:7])
            with pytest.raises(TimeoutError):
                await other.receive(timeout_s=0.05)
            await one.write(frame[7:])
            assert await other.receive(timeout_s=5) == Note("in two halves")

    lab.run(scene())


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (PeerError("bad", 42), 42),
        (LimitExceeded("full"), CloseCode.LIMIT),
        (AccessDenied("no"), CloseCode.REFUSED),
        (ValueError("bug"), CloseCode.INTERNAL),
        (TimeoutError(), CloseCode.TIMEOUT),
        (asyncio.CancelledError(), CloseCode.CANCELLED),
    ],
)
def test_leaving_with_an_exception_resets_with_its_code(error: BaseException, code: int) -> None:
    async def scene() -> None:
        raw = Scripted([])
        with pytest.raises(type(error)):
            async with stream_of(raw):
                raise error
        assert raw.calls == [("reset", code)]

    run_virtual(scene())


def test_leaving_normally_finishes_and_refuses_the_rest(lab: Lab) -> None:
    async def scene() -> None:
        async with pair(lab) as (one, other):
            async with one:
                await one.send(Note("last words"))
            assert await other.receive() == Note("last words")
            assert await other.receive() is None
            with pytest.raises(PeerError) as caught:
                for _ in range(100):
                    await other.write(bytes(100_000))
            assert caught.value.close_code == CloseCode.NORMAL

    lab.run(scene())


def test_bytes_that_came_with_the_header_come_first() -> None:
    async def scene() -> None:
        first, second = NOTES.encode(Note("one")), NOTES.encode(Note("two"))
        stream = stream_of(Scripted([first[3:] + second]), received=first[:3])
        assert await drain(stream) == [Note("one"), Note("two")]

    run_virtual(scene())
