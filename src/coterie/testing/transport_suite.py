"""What every transport promises, as tests: subclass `TransportSuite`, and let pytest find it."""

import asyncio
import contextlib
import os

from coterie.errors import CloseCode, PeerError, TransportError, UsageError
from coterie.net.interfaces import RawConnection, RawStream
from coterie.testing.checks import raised
from coterie.testing.transport_lab import TransportLab


async def opened(ours: RawConnection, theirs: RawConnection) -> tuple[RawStream, RawStream]:
    """A stream's two ends; one byte has gone over it, because QUIC announces a stream with its first byte."""
    one = await ours.open_stream()
    await one.write(b"!")
    other = await theirs.accept_stream()
    assert await other.read(10) == b"!"
    return one, other


async def read_all(stream: RawStream, size: int = 1 << 16) -> bytes:
    """All until the end, in reads of `size`."""
    parts = []
    while data := await stream.read(size):
        assert len(data) <= size
        parts.append(data)
    return b"".join(parts)


class TransportSuite:
    """Every test that a `net.interfaces.Transport` has to pass.

    class TestMine(TransportSuite):
        def lab(self) -> TransportLab:
            return MyLab()
    """

    def lab(self) -> TransportLab:
        """What makes the nodes of one scene; called for each."""
        raise NotImplementedError

    def test_bytes_arrive_in_order_both_ways_and_each_direction_ends_alone(self) -> None:
        lab = self.lab()

        async def scene() -> None:
            async with lab.pair() as (a, b):
                one, other = await opened(a, b)
                await one.write(b"hello ")
                await one.write(b"there")
                await one.finish()
                assert await read_all(other) == b"hello there"
                assert await other.read(5) == b""
                await other.write(b"half open still")
                await other.finish()
                assert await read_all(one, 4) == b"half open still"

        lab.run(scene())

    def test_writes_of_any_size_arrive_whole(self) -> None:
        for size in [0, 1, 1199, 65_537, 5_000_001]:
            self._writes_of_any_size_arrive_whole(size)

    def _writes_of_any_size_arrive_whole(self, size: int) -> None:
        lab = self.lab()

        async def scene() -> None:
            data = os.urandom(size)
            async with lab.pair() as (a, b):
                one, other = await opened(a, b)

                async def send() -> None:
                    await one.write(data)
                    await one.finish()

                sending = asyncio.create_task(send())
                assert await read_all(other) == data
                await sending

        lab.run(scene())

    def test_ten_thousand_tiny_writes(self) -> None:
        lab = self.lab()

        async def scene() -> None:
            async with lab.pair() as (a, b):
                one, other = await opened(a, b)

                async def send() -> None:
                    for number in range(10_000):
                        await one.write(number.to_bytes(2, "big"))
                    await one.finish()

                sending = asyncio.create_task(send())
                assert await read_all(other) == b"".join(n.to_bytes(2, "big") for n in range(10_000))
                await sending

        lab.run(scene())

    def test_concurrent_writes_do_not_mix(self) -> None:
        lab = self.lab()

        async def scene() -> None:
            size = 700_000
            async with lab.pair() as (a, b):
                one, other = await opened(a, b)

                async def send() -> None:
                    await asyncio.gather(*(one.write(bytes([n]) * size) for n in range(4)))
                    await one.finish()

                sending = asyncio.create_task(send())
                got = await read_all(other)
                await sending
            assert got == b"".join(bytes([n]) * size for n in range(4))

        lab.run(scene())

    def test_a_slow_reader_holds_the_writer_back(self) -> None:
        lab = self.lab()

        async def scene() -> None:
            async with lab.pair() as (a, b):
                one, other = await opened(a, b)
                taken = 0

                async def send() -> None:
                    nonlocal taken
                    for _ in range(1_000):
                        await one.write(bytes(64 * 1024))
                        taken += 64 * 1024

                sending = asyncio.create_task(send())
                await asyncio.sleep(0.5)
                assert 0 < taken <= 3 << 20, "the sender buffers what nobody reads"
                held_at = taken
                await asyncio.sleep(0.3)
                assert taken == held_at
                read = 0
                while read < 4 << 20:
                    read += len(await other.read(1 << 16))
                await asyncio.sleep(0.1)
                assert held_at < taken <= read + (3 << 20)
                sending.cancel()
                with raised(asyncio.CancelledError):
                    await sending
                await one.reset(CloseCode.CANCELLED)

        lab.run(scene())

    def test_reset_reaches_the_readers_and_the_writers_of_the_other_side(self) -> None:
        lab = self.lab()

        async def scene() -> None:
            async with lab.pair() as (a, b):
                for ours, theirs in ((a, b), (b, a)):
                    one, other = await opened(ours, theirs)
                    reading = asyncio.create_task(other.read(10))
                    writing = asyncio.create_task(other.write(bytes(10_000_000)))
                    await asyncio.sleep(0.01)
                    await one.reset(77)
                    for pending in (reading, writing):
                        with raised(PeerError) as caught:
                            await pending
                        assert caught.value.close_code == 77
                    with raised(PeerError) as caught:
                        await other.read(10)
                    assert caught.value.close_code == 77
                    await one.reset(78)
                    await other.reset(79)

        lab.run(scene())

    def test_after_a_reset_of_ours_a_read_is_an_error_not_the_end(self) -> None:
        lab = self.lab()

        async def scene() -> None:
            async with lab.pair() as (a, b):
                one, _ = await opened(a, b)
                reading = asyncio.create_task(one.read(10))
                writing = asyncio.create_task(one.write(bytes(10_000_000)))
                await asyncio.sleep(0.01)
                await one.reset(CloseCode.CANCELLED)
                for pending in (reading, writing):
                    with raised(TransportError):
                        await pending
                with raised(TransportError):
                    await one.read(10)

        lab.run(scene())

    def test_stop_refuses_what_the_other_side_writes_and_lets_us_write(self) -> None:
        lab = self.lab()

        async def scene() -> None:
            async with lab.pair() as (a, b):
                one, other = await opened(a, b)
                await other.stop(5)
                await other.write(b"answer")
                await other.finish()
                assert await read_all(one) == b"answer"
                with raised(PeerError) as caught:
                    for _ in range(100):
                        await one.write(bytes(100_000))
                assert caught.value.close_code == 5

        lab.run(scene())

    def test_a_write_after_finish_is_the_callers_fault(self) -> None:
        lab = self.lab()

        async def scene() -> None:
            async with lab.pair() as (a, b):
                one, _ = await opened(a, b)
                await one.finish()
                await one.finish()
                with raised(UsageError):
                    await one.write(b"late")

        lab.run(scene())

    def test_cancelled_reads_lose_no_bytes(self) -> None:
        lab = self.lab()

        async def scene() -> None:
            async with lab.pair() as (a, b):
                one, other = await opened(a, b)
                got = b""
                for number in range(300):
                    reading = asyncio.create_task(other.read(100))
                    await asyncio.sleep(0)
                    await one.write(bytes([number % 256]))
                    await asyncio.sleep(0.001 * (number % 3))
                    reading.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        got += await reading
                await one.finish()
                got += await read_all(other, 7)
                assert got == bytes(n % 256 for n in range(300))

        lab.run(scene())

    def test_a_cancelled_write_is_sent_whole_or_not_at_all(self) -> None:
        lab = self.lab()

        async def scene() -> None:
            size = 900_000
            async with lab.pair() as (a, b):
                one, other = await opened(a, b)
                writes = [asyncio.create_task(one.write(bytes([n]) * size)) for n in range(4)]
                await asyncio.sleep(0.05)
                for write in writes:
                    write.cancel()
                await asyncio.wait(writes)
                reading = asyncio.create_task(read_all(other))
                await one.write(b"the end")
                await one.finish()
                got = await reading
            assert got.endswith(b"the end")
            body = got[: -len(b"the end")]
            assert len(body) % size == 0
            assert len(body) < 4 * size, "a write that waited for its turn was sent although it was cancelled"
            assert all(len(set(body[at : at + size])) == 1 for at in range(0, len(body), size))

        lab.run(scene())

    def test_close_tells_the_other_side_code_and_reason(self) -> None:
        lab = self.lab()

        async def scene() -> None:
            async with lab.pair() as (a, b):
                one, other = await opened(a, b)
                pending = [
                    asyncio.create_task(work)
                    for work in (other.read(10), b.accept_stream(), b.receive_datagram(), b.closed())
                ]
                here = [asyncio.create_task(work) for work in (one.read(10), a.accept_stream())]
                await asyncio.sleep(0.01)
                a.close(33, "so long (code 99)")
                for work in pending[:3]:
                    with raised(PeerError) as caught:
                        await work
                    assert caught.value.close_code == 33
                assert await pending[3] == (33, "so long (code 99)")
                assert await b.closed() == (33, "so long (code 99)")
                assert await a.closed() == (33, "so long (code 99)")
                for work in here:
                    with raised(TransportError):
                        await work
                assert a.is_closed
                assert b.is_closed
                with raised(PeerError):
                    await b.open_stream()
                with raised(TransportError):
                    await a.open_stream()
                b.close(1, "after the end")

        lab.run(scene())

    def test_close_without_a_reason(self) -> None:
        lab = self.lab()

        async def scene() -> None:
            async with lab.pair() as (a, b):
                b.close(CloseCode.IDLE, "")
                assert await a.closed() == (CloseCode.IDLE, "")

        lab.run(scene())

    def test_datagrams_arrive_and_too_large_ones_are_refused(self) -> None:
        lab = self.lab()

        async def scene() -> None:
            async with lab.pair() as (a, b):
                await a.send_datagram(b"ping")
                assert await b.receive_datagram() == b"ping"
                await b.send_datagram(bytes(1_000))
                assert await a.receive_datagram() == bytes(1_000)
                assert a.datagram_bytes_max >= 1_100
                with raised(UsageError):
                    await a.send_datagram(bytes(a.datagram_bytes_max + 1))

        lab.run(scene())

    def test_nobody_but_the_wanted_peer_is_accepted_as_such(self) -> None:
        lab = self.lab()

        async def scene() -> None:
            one, other = await lab.transport(1), await lab.transport(2)
            with raised(TransportError, match=r"another|somebody else"):
                await one.connect(lab.peer(3), other.addresses)
            with raised(TransportError):
                await one.connect(lab.peer(3), [])
            with raised(UsageError):
                await one.connect(one.peer_id, one.addresses)
            await one.close()
            await other.close()

        lab.run(scene())

    def test_both_sides_know_who_the_other_is_and_how_it_is_reached(self) -> None:
        lab = self.lab()

        async def scene() -> None:
            async with lab.pair() as (a, b):
                assert (a.peer, b.peer) == (lab.peer(2), lab.peer(1))
                assert a.path.kind == lab.path_kind
                assert a.path.remote
                assert a.path.rtt_s is not None

        lab.run(scene())

    def test_streams_are_independent_and_their_number_is_bounded(self) -> None:
        lab = self.lab()

        async def scene() -> None:
            async with lab.pair() as (a, b):
                streams = []
                for _ in range(100):
                    stream = await a.open_stream()
                    await stream.write(b"x")
                    streams.append(stream)
                with raised(TimeoutError):
                    await asyncio.wait_for(a.open_stream(), 0.2)
                for stream in streams[:30]:
                    other = await b.accept_stream()
                    await other.reset(3)
                    await stream.reset(3)
                another = await asyncio.wait_for(a.open_stream(), 5)
                await another.write(b"y")
                rest = [await b.accept_stream() for _ in range(71)]
                assert await rest[0].read(1) == b"x"
                assert await rest[-1].read(1) == b"y"

        lab.run(scene())

    def test_a_closed_transport_says_so_and_pending_accepts_end(self) -> None:
        lab = self.lab()

        async def scene() -> None:
            one, other = await lab.transport(1), await lab.transport(2)
            accepting = [asyncio.create_task(one.accept()) for _ in range(2)]
            await asyncio.sleep(0)
            await one.close()
            await one.close()
            for task in accepting:
                with raised(TransportError):
                    await task
            with raised(TransportError):
                await one.accept()
            with raised(TransportError):
                await one.connect(other.peer_id, other.addresses)
            await other.close()

        lab.run(scene())
