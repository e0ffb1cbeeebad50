"""What every bulk stream promises, as tests: subclass `BulkStreamSuite`, and let pytest find it."""

import asyncio
import os
import threading
import time

from coterie.errors import AccessDenied, CloseCode, PeerError, TransportError
from coterie.net import BulkStream
from coterie.testing.bulk_lab import BLOCK, UNKNOWN, BulkLab, block
from coterie.testing.checks import raised
from coterie.testing.transport_lab import NOTES, Note
from coterie.wire.frames import HEADER, Bulk


def all_of(bulk: BulkStream) -> bytes:
    """The bodies of all bulk frames until the end."""
    parts = []
    while batch := bulk.receive_batch(10.0):
        parts += [bytes(f.data) for f in batch if isinstance(f, Bulk)]
    return b"".join(parts)


class BulkStreamSuite:
    """Every test that bulk over a transport has to pass; frames come in order, whole, bounded, and end for both sides.

    class TestMineInBulk(BulkStreamSuite):
        def lab(self) -> BulkLab:
            return BulkLab(MyLab())
    """

    def lab(self) -> BulkLab:
        """What makes the nodes of one scene; called for each."""
        raise NotImplementedError

    def test_blocks_of_any_size_arrive_whole(self) -> None:
        for size in [0, 1, 16_383, 16_384, 16_385, 700_000]:
            self._blocks_of_any_size_arrive_whole(size)

    def _blocks_of_any_size_arrive_whole(self, size: int) -> None:
        lab = self.lab()
        data = os.urandom(size)

        def give(bulk: BulkStream) -> None:
            bulk.write(block(data))

        def take(bulk: BulkStream) -> bytes:
            frame = bulk.receive(10.0)
            assert isinstance(frame, Bulk)
            return bytes(frame.data)

        assert lab.run(lab.talk(give, take)).took == data

    def test_much_arrives_in_order(self) -> None:
        lab = self.lab()
        blocks = [os.urandom(size) for size in (1, 65_536, 512_000, 3, 100_000)] * 20

        def give(bulk: BulkStream) -> None:
            for data in blocks:
                bulk.write(block(data))

        assert lab.run(lab.talk(give, all_of)).took == b"".join(blocks)

    def test_the_writer_may_use_its_buffer_again_at_once(self) -> None:
        lab = self.lab()

        def give(bulk: BulkStream) -> None:
            buffer = bytearray(block(bytes(100_000)))
            for number in range(50):
                buffer[HEADER.size :] = bytes([number]) * 100_000
                bulk.write(memoryview(buffer))

        expected = b"".join(bytes([n]) * 100_000 for n in range(50))
        assert lab.run(lab.talk(give, all_of)).took == expected

    def test_messages_go_both_ways_beside_the_bulk(self) -> None:
        lab = self.lab()

        def give(bulk: BulkStream) -> int:
            asked = 0
            while (frame := bulk.receive(10.0)) is not None:
                assert isinstance(frame, Note)
                asked += 1
                bulk.send(Note(f"re: {frame.text}"))
                bulk.write(block(frame.text.encode() * 1000))
            return asked

        def take(bulk: BulkStream) -> None:
            for number in range(30):
                bulk.send(Note(str(number)))
                assert bulk.receive(10.0) == Note(f"re: {number}")
                frame = bulk.receive(10.0)
                assert isinstance(frame, Bulk)
                assert frame.data == str(number).encode() * 1000

        talk = lab.run(lab.talk(give, take))
        assert talk.took is None
        assert talk.gave == 30

    def test_a_slow_reader_holds_the_writer_back(self) -> None:
        lab = self.lab()
        written = 0
        held = threading.Event()

        def give(bulk: BulkStream) -> None:
            nonlocal written
            for _ in range(200):
                bulk.write(block(bytes(500_000)))
                written += 500_000

        def take(bulk: BulkStream) -> int:
            before = -1
            while written != before or not written:  # until it stands still
                before = written
                time.sleep(0.4)
            held.set()
            assert written < 40 << 20, "the writer's side or ours buffers what nobody reads"
            return len(all_of(bulk))

        assert lab.run(lab.talk(give, take)).took == 100_000_000
        assert held.is_set()

    def test_frames_that_are_not_known_are_skipped(self) -> None:
        lab = self.lab()

        def give(bulk: BulkStream) -> None:
            for _ in range(10):
                bulk.write(HEADER.pack(4, UNKNOWN) + b"new")
            bulk.send(Note("known"))

        assert lab.run(lab.talk(give, lambda bulk: bulk.receive(10.0))).took == Note("known")

    def test_too_many_unknown_frames_end_it(self) -> None:
        lab = self.lab()

        def give(bulk: BulkStream) -> None:
            for _ in range(200):
                bulk.write(HEADER.pack(4, UNKNOWN) + b"new")
            bulk.receive(10.0)

        took = lab.run(lab.talk(give, lambda bulk: bulk.receive(10.0))).took
        assert isinstance(took, PeerError)
        assert took.close_code == CloseCode.LIMIT

    def test_a_malformed_frame_ends_it_for_both(self) -> None:
        for frame in [HEADER.pack(0, 2), HEADER.pack((1 << 20) + 1, 2), HEADER.pack(3, 1) + b"\xff\xff"]:
            self._a_malformed_frame_ends_it_for_both(frame)

    def _a_malformed_frame_ends_it_for_both(self, frame: bytes) -> None:
        lab = self.lab()

        def give(bulk: BulkStream) -> None:
            bulk.write(frame)
            bulk.receive(10.0)

        talk = lab.run(lab.talk(give, lambda bulk: bulk.receive(10.0)))
        assert isinstance(talk.took, PeerError)
        assert isinstance(talk.gave, PeerError)
        assert talk.gave.close_code == talk.took.close_code

    def test_an_end_inside_a_frame_is_the_peers_fault(self) -> None:
        lab = self.lab()

        def give(bulk: BulkStream) -> None:
            bulk.write(block(bytes(1000))[:-1])

        assert isinstance(lab.run(lab.talk(give, all_of, frame_s=0.5)).took, PeerError)

    def test_silence_inside_a_frame_has_a_bound(self) -> None:
        lab = self.lab()

        def give(bulk: BulkStream) -> None:
            bulk.write(block(bytes(1000))[:-1])
            bulk.receive(20.0)

        talk = lab.run(lab.talk(give, lambda bulk: bulk.receive(), frame_s=0.3))
        assert isinstance(talk.took, PeerError)
        assert talk.took.close_code == CloseCode.TIMEOUT

    def test_nothing_within_the_time_leaves_the_stream_usable(self) -> None:
        lab = self.lab()
        go = threading.Event()

        def give(bulk: BulkStream) -> None:
            assert go.wait(10.0)
            bulk.send(Note("late"))

        def take(bulk: BulkStream) -> object:
            with raised(TimeoutError):
                bulk.receive(0.2)
            go.set()
            return bulk.receive(10.0)

        assert lab.run(lab.talk(give, take)).took == Note("late")

    def test_an_error_in_the_work_reaches_the_other_side(self) -> None:
        lab = self.lab()

        def give(bulk: BulkStream) -> None:
            bulk.write(block(bytes(10)))
            raise AccessDenied("no")

        def take(bulk: BulkStream) -> None:
            while bulk.receive(10.0) is not None:
                pass

        talk = lab.run(lab.talk(give, take))
        assert isinstance(talk.gave, AccessDenied)
        assert isinstance(talk.took, PeerError)
        assert talk.took.close_code == CloseCode.REFUSED

    def test_a_writer_that_is_held_back_learns_of_the_reset(self) -> None:
        lab = self.lab()

        def give(bulk: BulkStream) -> None:
            while True:
                bulk.write(block(bytes(500_000)))

        def take(bulk: BulkStream) -> None:
            bulk.receive(10.0)
            raise PeerError("enough", CloseCode.LIMIT)

        talk = lab.run(lab.talk(give, take))
        assert isinstance(talk.gave, PeerError)
        assert talk.gave.close_code == CloseCode.LIMIT

    def test_a_cancelled_call_ends_the_thread_and_the_stream(self) -> None:
        lab = self.lab()

        async def scene() -> None:
            ended = asyncio.get_running_loop().create_future()
            in_thread = threading.Event()

            def take(bulk: BulkStream) -> None:
                bulk.send(Note("begin"))
                in_thread.set()
                bulk.receive()

            async def handle(stream: object) -> None:
                def give(bulk: BulkStream) -> None:
                    lab.begun(bulk)
                    while bulk.receive() is not None:
                        pass

                try:
                    await BulkStream(stream).drive(give)  # type: ignore[arg-type]
                except PeerError as error:
                    ended.set_result(error)

            async with lab.pair() as (connection, _, giver):
                giver.register(NOTES, handle, strangers=True)
                bulk = BulkStream(await connection.open_stream(NOTES), takes_bulk=True)
                task = asyncio.create_task(bulk.drive(take))
                await asyncio.to_thread(in_thread.wait, 10.0)
                await asyncio.sleep(0.2)
                task.cancel()
                with raised(asyncio.CancelledError):
                    await task
                assert (await ended).close_code == CloseCode.CANCELLED
                assert not [t for t in threading.enumerate() if t.name.startswith("bulk")]

        lab.run(scene())

    def test_the_end_of_the_connection_wakes_everybody(self) -> None:
        lab = self.lab()

        async def scene() -> None:
            async with lab.pair() as (connection, _, giver):

                def give(bulk: BulkStream) -> None:
                    while True:
                        bulk.write(block(bytes(500_000)))

                def take(bulk: BulkStream) -> None:
                    bulk.receive(10.0)
                    bulk._loop.call_soon_threadsafe(connection.close, CloseCode.SHUTDOWN)
                    while True:
                        bulk.receive(20.0)

                talk = await lab.converse(connection, giver, give, take)
                assert isinstance(talk.took, TransportError)
                assert isinstance(talk.gave, PeerError)
                assert talk.gave.close_code == CloseCode.SHUTDOWN

        lab.run(scene())

    def test_frames_and_bytes_that_came_before_are_not_lost(self) -> None:
        """A conversation becomes bulk in the middle: what was read ahead by then counts."""

        lab = self.lab()

        async def scene() -> None:
            async with lab.pair() as (connection, _, giver):

                async def handle(stream: object) -> None:
                    notes = b"".join(NOTES.encode(Note(str(n))) for n in range(5))
                    await stream.write(notes + block(b"tail")[:-2])  # type: ignore[attr-defined]
                    await asyncio.sleep(0.1)
                    await stream.write(b"il")  # type: ignore[attr-defined]

                giver.register(NOTES, handle, strangers=True)
                stream = await connection.open_stream(NOTES)
                assert await stream.receive(10.0) == Note("0")

                def take(bulk: BulkStream) -> list[object]:
                    got: list[object] = []
                    while (frame := bulk.receive(10.0)) is not None:
                        got.append(bytes(frame.data) if isinstance(frame, Bulk) else frame)
                    return got

                got = await BulkStream(stream).drive(take)
                assert got == [*(Note(str(n)) for n in range(1, 5)), b"tail"]

        lab.run(scene())

    def test_the_way_is_told(self) -> None:
        lab = self.lab()

        def give(bulk: BulkStream) -> str:
            bulk.write(block(b"x"))
            assert bulk.receive(10.0) == Note("seen")
            return bulk.path.kind if bulk.path else ""

        def take(bulk: BulkStream) -> str:
            frame = bulk.receive(10.0)
            assert isinstance(frame, Bulk)
            assert frame.kind == BLOCK
            seen = bulk.path.kind if bulk.path else ""
            bulk.send(Note("seen"))
            return seen

        talk = lab.run(lab.talk(give, take))
        assert (talk.gave, talk.took) == (lab.path_kind, lab.path_kind)
